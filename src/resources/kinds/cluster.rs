//! `Cluster`: what is run and where its traffic goes.

use crate::resources::schema::Subnet;
use crate::resources::value::{Config, Deletion, Mode, Span};
use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The `spec` of a `Cluster`; there is exactly one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClusterSpec {
    /// The member that forms the cluster. Ignored once the cluster exists.
    pub initiator: String,
    /// The service that runs instances.
    #[serde(default)]
    pub instances: InstanceService,
    /// The subnet of the members' addresses; every `Member.address` lies in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Subnet>")]
    pub internal_subnet: Option<IpNet>,
    /// Software-defined networking.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ovn: Option<OvnSpec>,
    /// Distributed storage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ceph: Option<CephSpec>,
    /// Server keys of the whole cluster that are held, such as `images.auto_update_interval`.
    #[serde(default, skip_serializing_if = "Config::is_empty")]
    pub config: Config,
    /// How many deletions an hour may see before all of them are held (3 unless given).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion_limit: Option<u32>,
    /// How long a member may be lost before what it ran for all (OVN's databases, Ceph's monitors)
    /// is made on another one that is free to (5m unless given).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace_period: Option<Span>,
    /// The time between two full looks at the services when nothing happens (5m unless given).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<Span>,
    /// What happens to the real object when this resource goes away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion: Option<Deletion>,
    /// How far the controller goes, for every resource that says nothing else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// Field paths that are neither compared nor written.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ignore: Vec<String>,
}

/// The service that runs instances.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum InstanceService {
    /// LXD.
    #[default]
    Lxd,
    /// Incus; not in this version, which uses the machines' LXD.
    Incus,
}

/// Software-defined networking with OVN.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OvnSpec {
    /// Who runs OVN.
    pub provider: OvnProvider,
    /// How OVN's programs speak to each other (`tls` unless given). It cannot change once the
    /// databases are there.
    #[serde(default, skip_serializing_if = "OvnTransport::is_tls")]
    pub transport: OvnTransport,
    /// The subnet tunnels between members use; the internal one unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Subnet>")]
    pub underlay_subnet: Option<IpNet>,
    /// The northbound database of an `external` OVN, such as `ssl:192.0.2.1:6641`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub northbound: Vec<String>,
}

/// How OVN's programs speak to each other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OvnTransport {
    /// Over TLS, with certificates that the cluster makes and renews.
    #[default]
    Tls,
    /// In plain text: whoever reaches the members' addresses can change every network.
    Tcp,
}

impl OvnTransport {
    /// Whether it is what it is unless given.
    pub fn is_tls(&self) -> bool {
        *self == OvnTransport::Tls
    }
}

/// Who runs OVN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OvnProvider {
    /// The agents run the distribution's packages.
    Packaged,
    /// MicroOVN; not in this version, which does nothing about OVN then.
    Microovn,
    /// Somebody else; LXD is told where its northbound database is, and nothing else is done.
    External,
    /// There is none.
    None,
}

/// Distributed storage with Ceph.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CephSpec {
    /// Who runs Ceph.
    pub provider: CephProvider,
    /// The subnet of clients and monitors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Subnet>")]
    pub public_network: Option<IpNet>,
    /// The subnet of replication between OSDs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Subnet>")]
    pub cluster_network: Option<IpNet>,
    /// Copies of every object; follows the OSD hosts up to 3 unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<u32>,
}

/// Who runs Ceph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CephProvider {
    /// The agents run the distribution's packages.
    Packaged,
    /// MicroCeph; not in this version, which does nothing about Ceph then.
    Microceph,
    /// Somebody else; LXD's pools on it are held, and nothing is done in Ceph itself.
    External,
    /// There is none.
    None,
}
