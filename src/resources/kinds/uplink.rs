//! `Uplink`: the physical network OVN goes out by.

use crate::resources::schema::{Address, Subnet};
use crate::resources::value::{Config, Deletion, Mode};
use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// The `spec` of an `Uplink`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UplinkSpec {
    /// The interface on every member that `interfaces` does not name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// The interface by member.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub interfaces: BTreeMap<String, String>,
    /// IPv4 on the uplink.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv4: Option<UplinkFamily>,
    /// IPv6 on the uplink.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6: Option<UplinkFamily>,
    /// Name servers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<Address>")]
    pub dns: Vec<IpAddr>,
    /// The VLAN of the uplink.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan: Option<u16>,
    /// The MTU of the uplink.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// What it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Other keys that are held.
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

/// One address family of an uplink.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UplinkFamily {
    /// The gateway's address with the subnet's prefix length, such as `192.0.2.1/24`.
    #[schemars(with = "Subnet")]
    pub gateway: IpNet,
    /// Ranges OVN may take addresses from, such as `192.0.2.100-192.0.2.200`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ranges: Vec<String>,
}
