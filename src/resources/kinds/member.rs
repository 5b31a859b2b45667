//! `Member`: a machine of the cluster.

use crate::resources::schema::Address;
use crate::resources::value::{Config, Deletion, Mode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// The `spec` of a `Member`. Its name is the machine's host name, LXD's member name, OVN's
/// system-id and the CRUSH host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MemberSpec {
    /// The address the other members reach it by; it must not change.
    #[schemars(with = "Address")]
    pub address: IpAddr,
    /// The SHA-256 of the agent's public key, as `microcloud agent fingerprint` prints it;
    /// admits the machine once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
    /// The address its tunnels use; the internal one unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Address>")]
    pub underlay_address: Option<IpAddr>,
    /// Roles that are held besides those LXD gives by itself (`database` and its like):
    /// `ovn-chassis`, `event-hub`, and `control-plane` in newer versions of LXD.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roles: Option<Vec<String>>,
    /// LXD's failure domain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_domain: Option<String>,
    /// The cluster groups it is in; exactly these when given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups: Option<Vec<String>>,
    /// Whether it works, rests or goes.
    #[serde(default)]
    pub state: MemberState,
    /// Keys of this member that are held: member configuration (`scheduler.instance`,
    /// `user.*`) and server keys that are per member.
    #[serde(default, skip_serializing_if = "Config::is_empty")]
    pub config: Config,
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

/// Whether a member works, rests or goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum MemberState {
    /// It works.
    #[default]
    Active,
    /// Its instances are moved away.
    Evacuated,
    /// It leaves the cluster, once that is approved.
    Absent,
}
