//! The keys of a MicroCloud preseed. A key that is not here is an error.

use crate::resources::schema::{Address, Subnet};
use ipnet::IpNet;
use schemars::JsonSchema;
use serde::Deserialize;
use std::net::IpAddr;

/// A MicroCloud preseed: one file for all machines.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Preseed {
    /// The host name of the initiator, which the others find by multicast.
    pub initiator: Option<String>,
    /// The address of the initiator.
    #[schemars(with = "Option<Address>")]
    pub initiator_address: Option<IpAddr>,
    /// The subnet in which the machines find each other.
    #[schemars(with = "Option<Subnet>")]
    pub lookup_subnet: Option<IpNet>,
    /// Seconds to look for the others.
    pub lookup_timeout: Option<u64>,
    /// What the machines prove each other to know.
    pub session_passphrase: Option<String>,
    /// Seconds until the machines no longer wait for each other.
    pub session_timeout: Option<u64>,
    /// The machines.
    pub systems: Vec<System>,
    /// Distributed storage.
    pub ceph: Option<Ceph>,
    /// Distributed networking.
    pub ovn: Option<Ovn>,
    /// Which disks are taken.
    pub storage: Option<Storage>,
}

/// A machine.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct System {
    /// Its host name.
    pub name: String,
    /// Its address.
    #[serde(default)]
    #[schemars(with = "Option<Address>")]
    pub address: Option<IpAddr>,
    /// The interface that leads outside.
    #[serde(default)]
    pub ovn_uplink_interface: Option<String>,
    /// The address of its tunnels.
    #[serde(default)]
    #[schemars(with = "Option<Address>")]
    pub ovn_underlay_ip: Option<IpAddr>,
    /// Its disks.
    #[serde(default)]
    pub storage: Option<SystemStorage>,
}

/// The disks of a machine.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SystemStorage {
    /// The disk of local storage.
    pub local: Option<SystemDisk>,
    /// The disks of Ceph.
    pub ceph: Vec<SystemDisk>,
}

/// A disk of a machine.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SystemDisk {
    /// The device.
    pub path: String,
    /// Whether what is on it may be destroyed.
    #[serde(default)]
    pub wipe: bool,
    /// Whether it is encrypted.
    #[serde(default)]
    pub encrypt: bool,
}

/// Distributed storage.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Ceph {
    /// Whether there is a file system besides.
    pub cephfs: bool,
    /// The subnet of clients and monitors.
    #[schemars(with = "Option<Subnet>")]
    pub public_network: Option<IpNet>,
    /// The subnet of replication.
    #[schemars(with = "Option<Subnet>")]
    pub internal_network: Option<IpNet>,
}

/// Distributed networking.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Ovn {
    /// The IPv4 gateway of the uplink, with the prefix length.
    #[schemars(with = "Option<Subnet>")]
    pub ipv4_gateway: Option<IpNet>,
    /// The IPv4 addresses OVN may take, as FIRST-LAST.
    pub ipv4_range: Option<String>,
    /// The IPv6 gateway of the uplink, with the prefix length.
    #[schemars(with = "Option<Subnet>")]
    pub ipv6_gateway: Option<IpNet>,
    /// Name servers, with commas between them.
    pub dns_servers: Option<String>,
}

/// Which disks are taken on machines that name none.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Storage {
    /// The disk of local storage on each.
    pub local: Vec<DiskFilter>,
    /// The disks of Ceph.
    pub ceph: Vec<DiskFilter>,
}

/// A filter over disks.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DiskFilter {
    /// The filter, such as `size > 10GiB`.
    pub find: String,
    /// How many disks there must be at least, over all machines.
    #[serde(default)]
    pub find_min: Option<u32>,
    /// How many disks there may be at most, over all machines.
    #[serde(default)]
    pub find_max: Option<u32>,
    /// Whether what is on them may be destroyed.
    #[serde(default)]
    pub wipe: bool,
    /// Whether they are encrypted.
    #[serde(default)]
    pub encrypt: bool,
}
