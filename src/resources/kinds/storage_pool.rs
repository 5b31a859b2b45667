//! `StoragePool`: a storage pool of LXD.

use crate::resources::value::{Config, Deletion, Mode, Presence};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

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
