//! A Ceph cluster as this program sees it, made from the monitors' own answers.

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Health checks that say nothing about the cluster: missing Python packages of modules that
/// nobody asked for, and the disk of the monitor's machine.
pub const TOLERATED: [&str; 2] = ["MGR_MODULE_DEPENDENCY", "MON_DISK_LOW"];

/// A cluster at one moment. What changes with every byte that is written is left out, so that two
/// looks at a cluster that works are equal.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CephCluster {
    /// Its id.
    pub fsid: String,
    /// Health checks by code, without those that are muted.
    pub health: BTreeMap<String, HealthCheck>,
    /// Monitors by name.
    pub monitors: BTreeMap<String, Monitor>,
    /// Managers.
    pub managers: Managers,
    /// Metadata servers by name, with their state, such as `active` or `standby`.
    pub mds: BTreeMap<String, String>,
    /// File systems.
    pub filesystems: Vec<FileSystem>,
    /// OSDs by id.
    pub osds: BTreeMap<i64, Osd>,
    /// Hosts of the CRUSH map, with the rack each is in.
    pub hosts: BTreeMap<String, Option<String>>,
    /// Pools by name.
    pub pools: BTreeMap<String, CephPool>,
    /// CRUSH rules by name.
    pub rules: BTreeMap<String, CrushRule>,
    /// The configuration that is kept in the cluster, by section and name; without masks.
    pub config: BTreeMap<(String, String), String>,
    /// States of placement groups other than `active` and `clean` (and their scrubbing), such as
    /// `undersized`.
    pub unclean: BTreeSet<String>,
    /// Numbers of pools with such placement groups, the first of them.
    pub unclean_pools: BTreeSet<i64>,
    /// Monitors whose clock differs from the leading one's.
    pub skewed: BTreeSet<String>,
    /// Flags of the OSD map that hold something back, such as `noout` or `full`.
    pub flags: BTreeSet<String>,
    /// Versions of Ceph that run, such as `18.2.7`.
    pub versions: BTreeSet<String>,
}

/// A health check that is raised.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthCheck {
    /// `HEALTH_WARN` or `HEALTH_ERR`.
    pub severity: String,
    /// What it says; counts in it change with time.
    pub message: String,
}

/// A monitor of the map.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Monitor {
    /// Its addresses, as `v2:10.0.0.1:3300`.
    pub addresses: Vec<String>,
    /// Whether it is in the quorum.
    pub in_quorum: bool,
}

/// The managers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Managers {
    /// The active one; empty when there is none.
    pub active: String,
    /// Whether it answers.
    pub available: bool,
    /// The others.
    pub standbys: BTreeSet<String>,
}

impl Managers {
    /// Whether a manager of this name runs.
    pub fn has(&self, name: &str) -> bool {
        self.active == name || self.standbys.contains(name)
    }
}

/// A file system.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FileSystem {
    /// Its name.
    pub name: String,
    /// The pool of its metadata.
    pub metadata_pool: i64,
    /// The pools of its data.
    pub data_pools: Vec<i64>,
}

/// An OSD of the map.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Osd {
    /// Its own id, also on its disk.
    pub uuid: String,
    /// Whether its daemon answers the others.
    pub up: bool,
    /// Whether data is placed on it.
    pub in_: bool,
    /// The CRUSH host it is below.
    pub host: String,
    /// Whether it was never up yet.
    pub new: bool,
    /// How full it is, from the first of Ceph's ratios on.
    pub full: Option<Fullness>,
}

/// Which of Ceph's ratios something has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fullness {
    /// `nearfull`: a warning.
    Near,
    /// `backfillfull`: nothing is moved to it any more.
    Backfill,
    /// `full`: nothing is written to it any more.
    Full,
}

impl Fullness {
    /// The highest of the ratios that words such as `nearfull` name.
    pub(super) fn of<'a>(words: impl Iterator<Item = &'a str>) -> Option<Fullness> {
        words
            .filter_map(|word| match word {
                "nearfull" => Some(Fullness::Near),
                "backfillfull" => Some(Fullness::Backfill),
                "full" | "full_quota" => Some(Fullness::Full),
                _ => None,
            })
            .max()
    }
}

/// A pool of Ceph.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CephPool {
    /// Its number.
    pub id: i64,
    /// Copies of every object.
    pub size: u32,
    /// With how many copies it still works.
    pub min_size: u32,
    /// The number of its CRUSH rule.
    pub rule: i64,
    /// Whether it keeps copies; an erasure coded pool's size follows its profile.
    pub replicated: bool,
    /// How full it is, from the first of Ceph's ratios on.
    pub full: Option<Fullness>,
    /// What it is for: `rbd`, `cephfs`; nothing while it is only half made.
    pub applications: BTreeSet<String>,
}

/// A CRUSH rule.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CrushRule {
    /// Its number.
    pub id: i64,
    /// What two copies never share: `osd`, `host`, `rack`…
    pub failure_domain: String,
}

impl CephCluster {
    /// CRUSH hosts that have at least one OSD.
    pub fn osd_hosts(&self) -> BTreeSet<&str> {
        self.osds
            .values()
            .map(|o| o.host.as_str())
            .filter(|h| !h.is_empty())
            .collect()
    }

    /// CRUSH hosts that have at least one OSD that is up.
    pub fn osd_hosts_up(&self) -> BTreeSet<&str> {
        self.osds
            .values()
            .filter(|o| o.up)
            .map(|o| o.host.as_str())
            .filter(|h| !h.is_empty())
            .collect()
    }

    /// The OSDs of a CRUSH host.
    pub fn osds_of(&self, host: &str) -> impl Iterator<Item = (i64, &Osd)> {
        self.osds
            .iter()
            .filter(move |(_, osd)| osd.host == host)
            .map(|(id, osd)| (*id, osd))
    }

    /// The rule of a number.
    pub fn rule(&self, id: i64) -> Option<(&str, &CrushRule)> {
        self.rules
            .iter()
            .find(|(_, rule)| rule.id == id)
            .map(|(name, rule)| (name.as_str(), rule))
    }

    /// A key of the cluster's own configuration.
    pub fn config(&self, section: &str, name: &str) -> Option<&str> {
        self.config
            .get(&(section.to_owned(), name.to_owned()))
            .map(String::as_str)
    }

    /// `mon_host` as `ceph.conf` has it, in name order.
    pub fn mon_host(&self) -> String {
        let all: Vec<String> = self
            .monitors
            .values()
            .map(|m| format!("[{}]", m.addresses.join(",")))
            .collect();
        all.join(",")
    }
}

/// The monitors' answers, as far as they are needed.
pub(super) mod answers {
    use serde::Deserialize;
    use std::collections::BTreeMap;

    #[derive(Debug, Clone, Default, PartialEq, Deserialize)]
    #[serde(default)]
    pub struct Status {
        pub fsid: String,
        pub health: Health,
        pub election_epoch: u64,
        pub quorum_names: Vec<String>,
        pub monmap: Epoch,
        pub osdmap: OsdEpoch,
        pub pgmap: Pgs,
        pub fsmap: FsEpoch,
        pub mgrmap: Mgr,
    }

    #[derive(Debug, Clone, Default, PartialEq, Deserialize)]
    #[serde(default)]
    pub struct Health {
        pub status: String,
        pub checks: BTreeMap<String, Check>,
    }

    #[derive(Debug, Clone, Default, PartialEq, Deserialize)]
    #[serde(default)]
    pub struct Check {
        pub severity: String,
        pub summary: Summary,
        pub detail: Vec<Summary>,
        pub muted: bool,
    }

    #[derive(Debug, Clone, Default, PartialEq, Deserialize)]
    #[serde(default)]
    pub struct Summary {
        pub message: String,
    }

    #[derive(Debug, Clone, Default, PartialEq, Deserialize)]
    #[serde(default)]
    pub struct Epoch {
        pub epoch: u64,
    }

    #[derive(Debug, Clone, Default, PartialEq, Deserialize)]
    #[serde(default)]
    pub struct OsdEpoch {
        pub epoch: u64,
        pub num_osds: u64,
        pub num_up_osds: u64,
        pub num_in_osds: u64,
    }

    #[derive(Debug, Clone, Default, PartialEq, Deserialize)]
    #[serde(default)]
    pub struct FsEpoch {
        pub epoch: u64,
        #[serde(rename = "up:standby")]
        pub standby: u64,
    }

    #[derive(Debug, Clone, Default, PartialEq, Deserialize)]
    #[serde(default)]
    pub struct Mgr {
        pub available: bool,
        pub num_standbys: u64,
    }

    #[derive(Debug, Clone, Default, PartialEq, Deserialize)]
    #[serde(default)]
    pub struct Pgs {
        pub pgs_by_state: Vec<PgState>,
    }

    #[derive(Debug, Clone, Default, PartialEq, Deserialize)]
    #[serde(default)]
    pub struct PgState {
        pub state_name: String,
    }

    #[derive(Debug, Clone, Default, Deserialize)]
    #[serde(default)]
    pub struct MonDump {
        pub mons: Vec<Mon>,
    }

    #[derive(Debug, Clone, Default, Deserialize)]
    #[serde(default)]
    pub struct Mon {
        pub name: String,
        pub public_addrs: Addresses,
    }

    #[derive(Debug, Clone, Default, Deserialize)]
    #[serde(default)]
    pub struct Addresses {
        pub addrvec: Vec<Address>,
    }

    #[derive(Debug, Clone, Default, Deserialize)]
    #[serde(default)]
    pub struct Address {
        #[serde(rename = "type")]
        pub kind: String,
        pub addr: String,
    }

    #[derive(Debug, Clone, Default, Deserialize)]
    #[serde(default)]
    pub struct MgrDump {
        pub active_name: String,
        pub available: bool,
        pub standbys: Vec<Named>,
    }

    #[derive(Debug, Clone, Default, Deserialize)]
    #[serde(default)]
    pub struct Named {
        pub name: String,
    }

    #[derive(Debug, Clone, Default, Deserialize)]
    #[serde(default)]
    pub struct FsDump {
        pub standbys: Vec<Mds>,
        pub filesystems: Vec<Fs>,
    }

    #[derive(Debug, Clone, Default, Deserialize)]
    #[serde(default)]
    pub struct Mds {
        pub name: String,
        pub state: String,
    }

    #[derive(Debug, Clone, Default, Deserialize)]
    #[serde(default)]
    pub struct Fs {
        pub mdsmap: MdsMap,
    }

    #[derive(Debug, Clone, Default, Deserialize)]
    #[serde(default)]
    pub struct MdsMap {
        pub fs_name: String,
        pub metadata_pool: i64,
        pub data_pools: Vec<i64>,
        pub info: BTreeMap<String, Mds>,
    }

    #[derive(Debug, Clone, Default, Deserialize)]
    #[serde(default)]
    pub struct OsdDump {
        pub flags_set: Vec<String>,
        pub pools: Vec<Pool>,
        pub osds: Vec<Osd>,
    }

    #[derive(Debug, Clone, Default, Deserialize)]
    #[serde(default)]
    pub struct Pool {
        pub pool: i64,
        pub pool_name: String,
        #[serde(rename = "type")]
        pub kind: i64,
        pub size: u32,
        pub min_size: u32,
        pub crush_rule: i64,
        pub flags_names: String,
        pub application_metadata: BTreeMap<String, serde_json::Value>,
    }

    #[derive(Debug, Clone, Default, Deserialize)]
    #[serde(default)]
    pub struct Osd {
        pub osd: i64,
        pub uuid: String,
        pub up: u8,
        #[serde(rename = "in")]
        pub in_: u8,
        pub state: Vec<String>,
    }

    #[derive(Debug, Clone, Default, Deserialize)]
    #[serde(default)]
    pub struct Tree {
        pub nodes: Vec<Node>,
    }

    #[derive(Debug, Clone, Default, Deserialize)]
    #[serde(default)]
    pub struct Node {
        pub id: i64,
        pub name: String,
        #[serde(rename = "type")]
        pub kind: String,
        pub children: Vec<i64>,
    }

    #[derive(Debug, Clone, Default, Deserialize)]
    #[serde(default)]
    pub struct Rule {
        pub rule_id: i64,
        pub rule_name: String,
        pub steps: Vec<RuleStep>,
    }

    #[derive(Debug, Clone, Default, Deserialize)]
    #[serde(default)]
    pub struct RuleStep {
        pub op: String,
        #[serde(rename = "type")]
        pub kind: String,
    }

    #[derive(Debug, Clone, Default, Deserialize)]
    #[serde(default)]
    pub struct ConfigEntry {
        pub section: String,
        pub name: String,
        pub value: String,
        pub mask: String,
    }
}
