//! One simulated machine: its power, its disks, its agent and its LXD.

use super::ceph::MachineCeph;
use super::config::MachineConfig;
use super::database::{ALONE, Certificate, DbId, Map};
use super::ovn::MachineOvn;
use crate::services::host::{DiskReport, TrustStore};
use std::collections::BTreeSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// A machine.
#[derive(Debug)]
pub(super) struct Machine {
    /// What it was made of; its disks are in [`Machine::disks`].
    pub config: MachineConfig,
    /// Its disks as they are now.
    pub disks: Vec<DiskReport>,
    /// The certificate of its LXD when that is in no cluster.
    pub certificate: Certificate,
    /// Directories of pools, as `/var/lib/lxd/storage-pools/NAME`, that are on its root disk.
    pub pool_dirs: BTreeSet<String>,
    /// Whether it runs.
    pub powered: bool,
    /// Whether it has booted since.
    pub booted: bool,
    /// How often it was powered on.
    pub boots: u64,
    /// Whether it is cut off from all others.
    pub isolated: bool,
    /// Its agent.
    pub agent: Agent,
    /// Its LXD.
    pub lxd: Daemon,
    /// Its OVN.
    pub ovn: MachineOvn,
    /// Its Ceph.
    pub ceph: MachineCeph,
}

/// The agent of a machine.
#[derive(Debug, Default)]
pub(super) struct Agent {
    /// Whether it answers.
    pub running: bool,
    /// The highest epoch it knows.
    pub epoch: u64,
    /// Who holds that epoch.
    pub holder: String,
    /// Whether it controls.
    pub leading: bool,
    /// The newest version of the controller's memory it says it has seen.
    pub memory_version: u64,
    /// Whom it trusts.
    pub trust: TrustStore,
    /// When it began to let its LXD join, until it knows that this worked. On its disk.
    pub joining: Option<Instant>,
}

/// The LXD of a machine.
#[derive(Debug)]
pub(super) struct Daemon {
    /// Whether it answers.
    pub running: bool,
    /// How often it was started: its process.
    pub starts: u64,
    /// From when on it says that it is ready.
    pub ready_at: Instant,
    /// Whether its API hangs, until it is started again.
    pub hung: bool,
    /// A name that it says it has, though the cluster knows it under another.
    pub shown_name: Option<String>,
    /// Until when other members' event streams miss what is done through it.
    pub quiet_until: Option<Instant>,
    /// Ends with this process.
    pub ended: CancellationToken,
    /// Its database.
    pub db: DbId,
    /// Its member name, [`ALONE`] when it is in no cluster.
    pub member: String,
    /// The server keys of this server alone.
    pub config: Map,
}

impl Daemon {
    /// A daemon that runs on this database.
    pub fn new(db: DbId, running: bool) -> Daemon {
        Daemon {
            running,
            starts: 1,
            ready_at: Instant::now(),
            hung: false,
            shown_name: None,
            quiet_until: None,
            ended: CancellationToken::new(),
            db,
            member: ALONE.into(),
            config: Map::new(),
        }
    }

    /// Whether it listens to other members: in a cluster it needs an address of its own for that.
    pub fn listens(&self) -> bool {
        !self.clustered() || self.config.contains_key("cluster.https_address")
    }

    /// Whether it says that it is in a cluster. A half-joined one does, under an empty name.
    pub fn clustered(&self) -> bool {
        self.member != ALONE
    }
}

impl Machine {
    /// A running machine.
    pub fn new(config: MachineConfig, certificate: Certificate, db: DbId) -> Machine {
        let disks = config
            .disks
            .iter()
            .cloned()
            .enumerate()
            .map(|(i, mut disk)| {
                if disk.name.is_empty() {
                    disk.name = kernel_name(i);
                }
                disk.links.push(format!("/dev/{}", disk.name));
                disk
            })
            .collect();
        let installed = config.lxd_installed;
        Machine {
            disks,
            certificate,
            pool_dirs: BTreeSet::new(),
            powered: true,
            booted: true,
            boots: 1,
            isolated: false,
            agent: Agent {
                running: true,
                ..Agent::default()
            },
            lxd: Daemon::new(db, installed),
            ovn: MachineOvn::default(),
            ceph: MachineCeph::default(),
            config,
        }
    }

    /// The disk that a path leads to.
    pub fn disk_mut(&mut self, path: &str) -> Option<&mut DiskReport> {
        self.disks
            .iter_mut()
            .find(|d| d.path == path || d.links.iter().any(|l| l == path))
    }

    /// Whether LXD answers on the machine.
    pub fn lxd_up(&self) -> bool {
        self.powered && self.lxd.running
    }

    /// Whether the agent answers on the machine.
    pub fn agent_up(&self) -> bool {
        self.powered && self.agent.running
    }
}

/// `vda`, `vdb`, …, `vdz`, `vdaa`.
fn kernel_name(index: usize) -> String {
    let mut letters = Vec::new();
    let mut rest = index + 1;
    while rest > 0 {
        let digit = (rest - 1) % 26;
        letters.push(char::from(b'a' + u8::try_from(digit).unwrap_or(0)));
        rest = (rest - 1) / 26;
    }
    format!("vd{}", letters.iter().rev().collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::SimConfig;

    #[test]
    fn disks_are_found_by_each_of_their_paths() {
        let mut machine = Machine::new(
            SimConfig::of(1).machines.remove(0),
            Certificate::of("x"),
            DbId(1),
        );
        let path = machine.disks[1].path.clone();
        assert_eq!(
            machine.disk_mut("/dev/vdb").map(|d| d.path.clone()),
            Some(path.clone())
        );
        assert!(machine.disk_mut(&path).is_some());
        assert!(machine.disk_mut("/dev/vdz").is_none());
    }

    #[test]
    fn kernel_names_go_on_after_z() {
        assert_eq!([0, 25, 26].map(kernel_name), ["vda", "vdz", "vdaa"]);
    }
}
