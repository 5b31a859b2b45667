//! Planning: the difference between what is wanted and what is there, as steps.
//!
//! # Guarantees
//! Planning is pure: no I/O, no clock, no randomness. Time is an input ([`View::now`]), and the
//! same input gives the same plan. `diff`, `apply --dry-run`, `status` and the loop read the same
//! plans: what is shown is what is done.

mod absent;
mod ceph;
mod cluster;
pub mod diff;
mod disk;
mod half_made;
mod lost;
mod member;
mod network;
mod ovn;
mod paths;
mod pool;
mod profile;
mod project;
pub mod reasons;
mod removal;
pub mod step;
mod uplink;
mod volumes;

pub(crate) use cluster::target;
pub use diff::{Change, Verb};
pub use disk::field_of as disk_field;
pub(crate) use lost::Burdens;
pub(in crate::reconcile) use member::had_server_keys;
pub(crate) use member::{is_coming, is_lost};
pub(in crate::reconcile) use paths::networks as path_networks;
pub use step::{Action, Claim, Guard, Step};
pub(in crate::reconcile) use volumes::moves_server_volumes;

use super::desired::Desired;
use super::memory::{Entry, Memory};
use super::world::World;
use crate::resources::kinds::MemberState;
use crate::resources::value::Mode;
use crate::resources::{ObjectRef, Resource, Spec};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// All that a plan may depend on.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// The time.
    pub now: Timestamp,
    /// What is wanted.
    pub desired: &'a Desired,
    /// What is there.
    pub world: &'a World,
    /// What is remembered.
    pub memory: &'a Memory,
}

impl<'a> View<'a> {
    /// The inventory's entry of an object.
    pub fn entry(&self, object: &ObjectRef) -> Option<&'a Entry> {
        self.memory.inventory.get(object)
    }
}

/// Something a plan waits for. When it changes, the waiting object is planned again at once.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Topic {
    /// An object of the desired or the real world.
    Object(ObjectRef),
    /// The machine of a member.
    Host(String),
    /// Any member's going or coming.
    Members,
    /// Members that are on their way into the cluster, all of them: it changes once, when none is
    /// any more, and not with every one that has joined.
    Joiners,
    /// Which members are down.
    Down,
    /// Anything that machines tell of OVN.
    Ovn,
    /// A step that holds a claim this one needs.
    Claims,
    /// Something the operator does: an approval, a fixed file.
    Operator,
    /// A part of the world that could not be read.
    World,
}

/// What a plan waits for, with the sentence that says so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// What it waits for.
    pub on: Topic,
    /// A stable word.
    pub reason: String,
    /// The sentence.
    pub message: String,
}

/// What a plan will not do, with the reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// A stable word.
    pub reason: String,
    /// The sentence, with what to do by hand.
    pub message: String,
    /// The step to approve, when an approval is all that is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approve: Option<String>,
}

/// A difference that is shown and left alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// A stable word.
    pub reason: String,
    /// The sentence.
    pub message: String,
}

/// What is to be done about one object, and why not all of it now.
#[derive(Debug, Clone, PartialEq)]
#[must_use = "a plan that nobody reads changes nothing"]
pub struct Plan {
    /// The object.
    pub object: ObjectRef,
    /// What happens to the object as a whole.
    pub verb: Verb,
    /// The whole difference, also what cannot be done now.
    pub changes: Vec<Change>,
    /// What can be done now.
    pub steps: Vec<Step>,
    /// What it waits for.
    pub waiting_on: Vec<Waiting>,
    /// What is refused.
    pub refused: Vec<Refused>,
    /// What is shown and left alone.
    pub notes: Vec<Note>,
    /// When to plan again although nothing happened.
    pub recheck_at: Option<Timestamp>,
    /// What the inventory is to say of the object; `None` leaves it as it is.
    pub record: Option<Record>,
    /// Paths of changes that make something which was not there before: nobody changed it.
    pub grown: BTreeSet<String>,
}

/// What the inventory is to say of an object.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Record {
    /// Whether the real object is there.
    pub exists: bool,
    /// Field paths that are managed.
    pub applied: BTreeSet<String>,
    /// Keyed hashes of managed secrets.
    pub secrets: BTreeMap<String, String>,
}

impl Plan {
    /// A plan that finds nothing to do.
    pub fn nothing(object: &ObjectRef) -> Plan {
        Plan {
            object: object.clone(),
            verb: Verb::Unchanged,
            changes: Vec::new(),
            steps: Vec::new(),
            waiting_on: Vec::new(),
            refused: Vec::new(),
            notes: Vec::new(),
            recheck_at: None,
            record: None,
            grown: BTreeSet::new(),
        }
    }

    /// Whether the object is as wanted.
    pub fn settled(&self) -> bool {
        self.verb == Verb::Unchanged
            && self.changes.is_empty()
            && self.steps.is_empty()
            && self.waiting_on.is_empty()
            && self.refused.is_empty()
    }

    /// Adds a difference of something that is there.
    pub fn changed(&mut self, change: Change) {
        if self.verb == Verb::Unchanged {
            self.verb = Verb::Update;
        }
        self.changes.push(change);
    }

    /// Adds something it waits for.
    pub fn wait(&mut self, on: Topic, reason: &str, message: impl Into<String>) {
        self.waiting_on.push(Waiting {
            on,
            reason: reason.to_owned(),
            message: message.into(),
        });
    }

    /// Adds that it waits for a part of the world that is not known.
    pub fn unknown(&mut self, what: &str, why: &str) {
        self.wait(
            Topic::World,
            reasons::UNKNOWN,
            format!("{what} could not be read: {why}"),
        );
    }

    /// Adds something it will not do.
    pub fn refuse(&mut self, reason: &str, message: impl Into<String>) {
        self.refused.push(Refused {
            reason: reason.to_owned(),
            message: message.into(),
            approve: None,
        });
    }

    /// Adds something it will only do when `step` is approved.
    pub fn needs_approval(&mut self, step: String, message: impl std::fmt::Display) {
        self.refused.push(Refused {
            reason: reasons::APPROVAL_NEEDED.to_owned(),
            message: format!("{message}; to allow it once: microcloud approve {step}"),
            approve: Some(step),
        });
    }

    /// Adds a difference that is shown and left alone.
    pub fn note(&mut self, reason: &str, message: impl Into<String>) {
        self.notes.push(Note {
            reason: reason.to_owned(),
            message: message.into(),
        });
    }
}

/// Plans one object: its resource, or what remains of it when it has none any more.
pub fn plan(object: &ObjectRef, view: &View<'_>) -> Plan {
    let Some(resource) = view.desired.resources.get(object) else {
        let mut plan = absent::plan(object, view);
        if view.desired.mode_of_absent() != Mode::Enforce {
            // To forget it writes nothing but the memory.
            plan.steps.retain(|s| matches!(s.action, Action::Release));
        }
        return plan;
    };
    let mode = view.desired.mode(resource);
    if mode == Mode::Suspended {
        return Plan::nothing(object);
    }
    if let Some(suspension) = view.memory.suspension(object, view.now) {
        let mut plan = Plan::nothing(object);
        plan.recheck_at = Some(suspension.until);
        return plan;
    }
    let mut plan = plan_resource(object, resource, view);
    if mode == Mode::Report {
        plan.steps.clear();
    }
    plan
}

fn plan_resource(object: &ObjectRef, resource: &Resource, view: &View<'_>) -> Plan {
    let ignore = diff::Ignore::new(&resource.spec.common().ignore);
    match &resource.spec {
        Spec::Cluster(spec) => cluster::plan(object, spec, &ignore, view),
        Spec::Member(spec) => member::plan(object, spec, &ignore, view),
        Spec::Disk(spec) => disk::plan(object, spec, view),
        Spec::Uplink(spec) => uplink::plan(object, spec, &ignore, view),
        Spec::StoragePool(spec) => pool::plan(object, spec, &ignore, view),
        Spec::Project(spec) => project::plan(object, spec, &ignore, view),
        Spec::Network(spec) => network::plan(object, spec, &ignore, view),
        Spec::Profile(spec) => profile::plan(object, spec, &ignore, view),
    }
}

/// Whether this program runs a Ceph cluster.
pub(in crate::reconcile) fn ceph_wanted(desired: &Desired) -> bool {
    ceph::packaged(desired).is_some()
}

/// Whether a resource is a `Member` that is to leave.
pub(in crate::reconcile) fn leaves(resource: &Resource) -> bool {
    matches!(&resource.spec, Spec::Member(spec) if spec.state == MemberState::Absent)
}

/// Whether a pool has volumes of LXD's own.
pub(in crate::reconcile) fn keeps_volumes(resource: &Resource) -> bool {
    matches!(&resource.spec, Spec::StoragePool(spec) if !spec.volumes.is_empty())
}

/// Whether a member's own server keys must be read for its plan, also for that of its leaving.
pub(in crate::reconcile) fn reads_server_keys(resource: &Resource, desired: &Desired) -> bool {
    volumes::wanted(desired) || !leaves(resource) && reads_parts(resource, desired)
}

/// Whether the members' own parts of an object must be read for its plan.
pub fn reads_parts(resource: &Resource, desired: &Desired) -> bool {
    match &resource.spec {
        Spec::Member(spec) => {
            leaves(resource)
                || spec.config.keys().any(|key| member::is_server_key(key))
                || volumes::wanted(desired)
        }
        Spec::StoragePool(spec) => {
            !spec.members.is_empty() || pool::has_disks(&resource.metadata.name, desired)
        }
        Spec::Network(spec) => !spec.members.is_empty(),
        Spec::Uplink(_) => true,
        Spec::Cluster(_) | Spec::Disk(_) | Spec::Project(_) | Spec::Profile(_) => false,
    }
}

/// Whether the cluster stands, for objects that live in it; adds what they wait for otherwise.
fn cluster_stands(plan: &mut Plan, view: &View<'_>) -> bool {
    let Some((reference, _)) = view.desired.cluster() else {
        plan.wait(
            Topic::Operator,
            reasons::DEPENDENCY,
            "no Cluster resource says what to form",
        );
        return false;
    };
    match view.world.lxd.server.get() {
        Err(why) => {
            plan.unknown("LXD", why);
            false
        }
        Ok(server) if !server.clustered => {
            plan.wait(
                Topic::Object(reference.clone()),
                reasons::DEPENDENCY,
                format!("{reference} is not formed yet"),
            );
            false
        }
        Ok(_) => true,
    }
}

#[cfg(test)]
mod tests;
