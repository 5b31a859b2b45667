//! `StoragePool`: a storage pool of LXD.

use crate::resources::value::{Config, Deletion, Mode, Presence};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The `spec` of a `StoragePool`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StoragePoolSpec {
    /// LXD's driver: `dir`, `btrfs`, `zfs`, `lvm`, `ceph`, `cephfs` and others.
    pub driver: String,
    /// What it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Keys of the whole pool that are held.
    #[serde(default, skip_serializing_if = "Config::is_empty")]
    pub config: Config,
    /// What differs by member; every member of the cluster gets the pool, named here or not.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub members: BTreeMap<String, PoolMember>,
    /// What each member's LXD keeps in the pool rather than on its system disk: `images`,
    /// `backups`. Each is a volume of that name on every member, which the member's key
    /// (`storage.images_volume`, `storage.backups_volume`) names unless the `Member` says something
    /// else. Only for pools that every member has of its own: `dir`, `btrfs`, `zfs`, `lvm`.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub volumes: BTreeSet<ServerVolume>,
    /// Whether it is to be there.
    #[serde(default)]
    pub state: Presence,
    /// What happens to the real object when this resource goes away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion: Option<Deletion>,
    /// How far the controller goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// Field paths that are neither compared nor written.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ignore: Vec<String>,
}

/// What one member gives to a pool.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PoolMember {
    /// The block device, path or dataset; a `Disk` with `use: pool` supplies it otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The size of a loop file, such as `20GiB`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<String>,
    /// Other keys of the pool that are per member.
    #[serde(default, skip_serializing_if = "Config::is_empty")]
    pub config: Config,
}

/// What LXD keeps of its own that may lie in a volume.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum ServerVolume {
    /// Images, also those it has downloaded for a time.
    Images,
    /// Backups, while they are made and until they are fetched.
    Backups,
}

impl ServerVolume {
    /// Each of them.
    pub const ALL: [ServerVolume; 2] = [ServerVolume::Images, ServerVolume::Backups];

    /// The name of the volume.
    pub fn name(self) -> &'static str {
        match self {
            ServerVolume::Images => "images",
            ServerVolume::Backups => "backups",
        }
    }

    /// The key of a member that says where it lies.
    pub fn key(self) -> &'static str {
        match self {
            ServerVolume::Images => "storage.images_volume",
            ServerVolume::Backups => "storage.backups_volume",
        }
    }

    /// What the key says when it lies in a pool.
    pub fn within(self, pool: &str) -> String {
        format!("{pool}/{}", self.name())
    }
}
