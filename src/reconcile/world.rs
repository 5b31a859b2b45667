//! All that was observed: a cache that knows its age. A part that could not be read is unknown,
//! never absent.

use crate::resources::{Kind, ObjectRef};
use crate::services::ceph::CephCluster;
use crate::services::host::{Beat, HostError, HostReport, PathsReport};
use crate::services::lxd::types::{Group, Member, Network, Pool, Profile, Project, Versioned};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// One part of the world.
#[derive(Debug, Clone, PartialEq)]
pub enum Seen<T> {
    /// It could not be read, or was not read yet.
    Unknown {
        /// Why.
        reason: String,
    },
    /// It was read.
    Known {
        /// What was read.
        value: T,
        /// When.
        at: Timestamp,
    },
}

impl<T> Seen<T> {
    /// A part that was not read yet.
    pub fn unread() -> Seen<T> {
        Seen::Unknown {
            reason: "it was not read yet".to_owned(),
        }
    }

    /// A part that was read at `at`, or the reason why it was not.
    pub fn from_result<E: std::fmt::Display>(result: Result<T, E>, at: Timestamp) -> Seen<T> {
        match result {
            Ok(value) => Seen::Known { value, at },
            Err(e) => Seen::Unknown {
                reason: e.to_string(),
            },
        }
    }

    /// The value, if it is known.
    pub fn known(&self) -> Option<&T> {
        match self {
            Seen::Known { value, .. } => Some(value),
            Seen::Unknown { .. } => None,
        }
    }

    /// The value for changing, if it is known.
    pub fn known_mut(&mut self) -> Option<&mut T> {
        match self {
            Seen::Known { value, .. } => Some(value),
            Seen::Unknown { .. } => None,
        }
    }

    /// The value, or why it is not known.
    pub fn get(&self) -> Result<&T, &str> {
        match self {
            Seen::Known { value, .. } => Ok(value),
            Seen::Unknown { reason } => Err(reason),
        }
    }

    /// When it was read.
    pub fn at(&self) -> Option<Timestamp> {
        match self {
            Seen::Known { at, .. } => Some(*at),
            Seen::Unknown { .. } => None,
        }
    }
}

impl<T> Default for Seen<T> {
    fn default() -> Seen<T> {
        Seen::unread()
    }
}

/// The server beside the controller.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ServerView {
    /// `lxd` or `incus`.
    pub server: String,
    /// The version.
    pub version: String,
    /// API extensions.
    pub extensions: BTreeSet<String>,
    /// Whether it is in a cluster.
    pub clustered: bool,
    /// Its member name.
    pub name: String,
    /// SHA-256 of the certificate it presents (the cluster's, when clustered), hex.
    pub certificate_fingerprint: String,
    /// Global configuration.
    pub config: BTreeMap<String, String>,
    /// Storage drivers that work on the machine.
    pub drivers: BTreeSet<String>,
}

/// A pool or network with what each member has of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Spread<T> {
    /// The object as the cluster has it, with the ETag when it was read alone.
    pub whole: Versioned<T>,
    /// Each member's own part.
    pub members: BTreeMap<String, Seen<T>>,
}

/// What LXD has.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LxdWorld {
    /// The server.
    pub server: Seen<ServerView>,
    /// Members by name; empty when it is not clustered.
    pub members: Seen<BTreeMap<String, Versioned<Member>>>,
    /// The members' own server keys, by member; only for members whose keys are managed.
    pub member_config: BTreeMap<String, Seen<BTreeMap<String, String>>>,
    /// What lies on members that are to leave, in words, by member.
    pub leaving: BTreeMap<String, Seen<Vec<String>>>,
    /// Cluster groups by name.
    pub groups: Seen<BTreeMap<String, Group>>,
    /// Pools by name.
    pub pools: Seen<BTreeMap<String, Spread<Pool>>>,
    /// Networks by project and name.
    pub networks: Seen<BTreeMap<(String, String), Spread<Network>>>,
    /// Projects by name.
    pub projects: Seen<BTreeMap<String, Versioned<Project>>>,
    /// Profiles by project and name.
    pub profiles: Seen<BTreeMap<(String, String), Versioned<Profile>>>,
}

impl LxdWorld {
    /// Whether LXD is in a cluster; `None` when that is not known.
    pub fn clustered(&self) -> Option<bool> {
        self.server.known().map(|s| s.clustered)
    }

    /// Whether the server has an API extension; `false` while it is not known.
    pub fn has(&self, extension: &str) -> bool {
        self.server
            .known()
            .is_some_and(|s| s.extensions.contains(extension))
    }
}

/// What Ceph has; read only where a `Cluster` wants it run from packages.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CephWorld {
    /// The cluster.
    pub cluster: Seen<CephCluster>,
    /// The cluster as it was read last, also while it cannot be read.
    pub last: Option<CephCluster>,
}

/// What is known of one machine.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct HostView {
    /// The last full look.
    pub report: Seen<HostReport>,
    /// Why the last look failed, if it did.
    pub error: Option<HostError>,
    /// The last cheap look.
    pub beat: Seen<Beat>,
    /// Since when it has not answered.
    pub silent_since: Option<Timestamp>,
}

/// Which packets get from a member to others on one network.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PathView {
    /// What the network is called.
    pub network: String,
    /// The others, with their addresses on it.
    pub others: Vec<(String, IpAddr)>,
    /// What was found.
    pub seen: Seen<PathsReport>,
}

/// What a `{file:}` or `{credential:}` holds: only a keyed hash is kept.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Secrets {
    /// By the reference as it is written.
    pub hashes: BTreeMap<crate::resources::value::ConfigValue, Seen<String>>,
}

/// All that was observed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct World {
    /// LXD.
    pub lxd: LxdWorld,
    /// Ceph.
    pub ceph: CephWorld,
    /// Machines by member name.
    pub hosts: BTreeMap<String, HostView>,
    /// Which packets get from members to others, by member and its own address.
    pub paths: BTreeMap<(String, IpAddr), PathView>,
    /// Files and credentials that resources refer to.
    pub secrets: Secrets,
    /// Objects that were reported to have changed since they were read.
    pub dirty: BTreeSet<ObjectRef>,
}

impl World {
    /// When the real object behind a resource was last read; `None` while it is unknown.
    pub fn read_at(&self, object: &ObjectRef) -> Option<Timestamp> {
        match object.kind {
            Kind::Cluster => self.lxd.server.at(),
            Kind::Member => self.lxd.members.at(),
            Kind::Disk => None,
            Kind::Uplink | Kind::Network => self.lxd.networks.at(),
            Kind::StoragePool => self.lxd.pools.at(),
            Kind::Project => self.lxd.projects.at(),
            Kind::Profile => self.lxd.profiles.at(),
        }
    }

    /// Drops what was seen of a member that has left.
    pub fn forget_member(&mut self, name: &str) {
        self.hosts.remove(name);
        self.lxd.member_config.remove(name);
        self.lxd.leaving.remove(name);
        for pool in self.lxd.pools.known_mut().into_iter().flatten() {
            pool.1.members.remove(name);
        }
        for network in self.lxd.networks.known_mut().into_iter().flatten() {
            network.1.members.remove(name);
        }
    }

    /// Whether a machine's agent answers, and has a connection to the LXD beside it.
    pub fn has_lxd(&self, machine: &str) -> bool {
        let host = self.hosts.get(machine).filter(|h| h.error.is_none());
        host.and_then(|h| h.beat.known())
            .is_some_and(|beat| !beat.lxd_started.is_empty())
    }

    /// Members that LXD shows as neither online nor evacuated.
    pub fn members_down(&self) -> Vec<&str> {
        self.lxd.members.known().map_or_else(Vec::new, |members| {
            members
                .values()
                .filter(|m| m.value.status != "Online" && m.value.status != "Evacuated")
                .map(|m| m.value.server_name.as_str())
                .collect()
        })
    }
}
