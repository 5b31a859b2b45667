//! What the controller must remember: it lives in LXD's database (see `store`).

use crate::resources::ObjectRef;
use crate::resources::accepted::Accepted;
use crate::resources::value::Deletion;
use crate::services::host::TrustStore;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The schema this program writes; it rises only when every agent understands it.
pub const SCHEMA: u32 = 1;

/// Everything that is remembered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Memory {
    /// The schema.
    pub schema: u32,
    /// Who controls.
    pub lease: Lease,
    /// The accepted resources of each source. Shared: they are much and change seldom.
    #[serde(default, with = "shared")]
    pub accepted: Arc<Accepted>,
    /// Keys the hashes of secrets, so that they say nothing to who sees only them; hex.
    #[serde(default)]
    pub hash_key: String,
    /// Real objects that are managed.
    #[serde(default)]
    pub inventory: BTreeMap<ObjectRef, Entry>,
    /// Approvals that were given and not used, by step.
    #[serde(default)]
    pub approvals: BTreeMap<String, Approval>,
    /// Suspensions asked for on the command line: object, or `None` for all, to its end.
    #[serde(default)]
    pub suspensions: Vec<Suspension>,
    /// When objects were deleted, of the last hour.
    #[serde(default)]
    pub deletions: Vec<Timestamp>,
    /// Disks that were chosen: by `Disk` resource and member.
    #[serde(default)]
    pub disks: BTreeMap<ObjectRef, BTreeMap<String, DiskChoice>>,
    /// Who belongs to the cluster.
    #[serde(default)]
    pub trust: TrustStore,
}

/// What is shared, written and read as what it is.
mod shared {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use std::sync::Arc;

    pub fn serialize<T: Serialize, S: Serializer>(value: &Arc<T>, s: S) -> Result<S::Ok, S::Error> {
        value.as_ref().serialize(s)
    }

    pub fn deserialize<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
        d: D,
    ) -> Result<Arc<T>, D::Error> {
        T::deserialize(d).map(Arc::new)
    }
}

impl Default for Memory {
    fn default() -> Memory {
        Memory {
            schema: SCHEMA,
            lease: Lease::default(),
            accepted: Arc::default(),
            hash_key: String::new(),
            inventory: BTreeMap::new(),
            approvals: BTreeMap::new(),
            suspensions: Vec::new(),
            deletions: Vec::new(),
            disks: BTreeMap::new(),
            trust: TrustStore::default(),
        }
    }
}

impl Memory {
    /// Whether a suspension from the command line covers an object at `now`.
    pub fn suspension(&self, object: &ObjectRef, now: Timestamp) -> Option<&Suspension> {
        self.suspensions
            .iter()
            .find(|s| s.until > now && s.object.as_ref().is_none_or(|o| o == object))
    }

    /// The parts that differ, for the log.
    pub fn parts_changed(&self, before: &Memory) -> Vec<&'static str> {
        let parts = [
            ("lease", self.lease != before.lease),
            ("accepted", self.accepted != before.accepted),
            ("inventory", self.inventory != before.inventory),
            ("approvals", self.approvals != before.approvals),
            ("suspensions", self.suspensions != before.suspensions),
            ("deletions", self.deletions != before.deletions),
            ("disks", self.disks != before.disks),
            ("trust", self.trust != before.trust),
        ];
        let changed = parts.into_iter().filter(|(_, changed)| *changed);
        changed.map(|(part, _)| part).collect()
    }

    /// Whether a step was approved and the approval still holds at `now`.
    pub fn approved(&self, step: &str, now: Timestamp) -> bool {
        self.approvals.get(step).is_some_and(|a| a.expires > now)
    }
}

/// Who controls the cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Rises with every change of the holder.
    pub epoch: u64,
    /// The holder's member name; empty when there was none yet.
    pub holder: String,
}

/// A managed object.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// How it came to be managed.
    pub ownership: Ownership,
    /// The count of content changes of its resource.
    pub generation: u64,
    /// The digest of the resource that generation has.
    pub digest: String,
    /// Field paths that were written or found as wanted: what three-way comparison calls last
    /// applied.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub applied: BTreeSet<String>,
    /// Keyed hashes of the secrets that were written, by field path.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, String>,
    /// What is to happen when the resource goes; kept here because a guard that is only in the
    /// YAML goes with the YAML.
    pub deletion: Deletion,
}

/// How an object came to be managed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Ownership {
    /// It is about to be created: written before the creation, so that a crash in between does
    /// not turn our own object into somebody else's.
    Intended,
    /// This program created it.
    Created,
    /// It was there before.
    Adopted,
}

/// An approval of one step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    /// When it was given.
    pub given: Timestamp,
    /// When it is void.
    pub expires: Timestamp,
}

/// A suspension asked for on the command line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suspension {
    /// The object; all of them when there is none.
    pub object: Option<ObjectRef>,
    /// When it ends.
    pub until: Timestamp,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A disk that was chosen for a `Disk` resource on one member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskChoice {
    /// The stable path.
    pub path: String,
    /// The serial.
    pub serial: String,
    /// Bytes.
    pub size: u64,
    /// Whether the disk was found or made blank before it was handed over.
    #[serde(default)]
    pub handed_over: bool,
}
