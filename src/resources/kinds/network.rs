//! `Network`: a network of LXD.

use crate::resources::value::{Config, Deletion, Mode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The `spec` of a `Network`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NetworkSpec {
    /// The type.
    #[serde(rename = "type")]
    pub network_type: NetworkType,
    /// The `Uplink` of an `ovn` network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uplink: Option<String>,
    /// What it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Keys that are held.
    #[serde(default, skip_serializing_if = "Config::is_empty")]
    pub config: Config,
    /// Keys that differ by member, such as `bridge.external_interfaces`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub members: BTreeMap<String, Config>,
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

/// The type of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum NetworkType {
    /// A bridge on every member.
    Bridge,
    /// A fan bridge: one network over all members (LXD only).
    Fan,
    /// A virtual network of OVN.
    Ovn,
}
