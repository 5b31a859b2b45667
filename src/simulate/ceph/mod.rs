//! Ceph of the simulated machines: their daemons and OSDs, and the cluster these make together.
//!
//! A [`Cluster`] is what the monitors of one id hold together. It answers while a majority of the
//! monitors of its map is on and linked; what machines and links do to daemons and OSDs is found
//! out by [`World::ceph_refresh`] after every change.

mod answers;
mod changes;
mod cluster;
mod crush;
mod follow;
mod health;
mod host;
mod machine;
mod pools;
mod transport;

pub(super) use cluster::Cluster;
pub(super) use host::ask as ceph_ask;
pub(super) use machine::MachineCeph;
pub(super) use transport::SimCeph;

use super::SimCloud;
use super::process::Origin;
use super::world::World;
use crate::services::ceph::{Ceph, CephError, Command, Fullness};
use crate::services::host::CephDaemonKind;
use cluster::Refusal;
use std::sync::Arc;
use tokio::time::Instant;

/// How long the real bridge waits for a cluster that does not answer.
const SILENCE: u64 = 8;

impl World {
    /// Does a command of Ceph as a program on a machine sends it.
    pub(super) fn ceph_command(
        &mut self,
        machine: usize,
        command: &Command,
    ) -> Result<String, CephError> {
        let own = &self.machines[machine].ceph;
        let missing = |name: &str| CephError::NotSetUp {
            missing: format!("/etc/ceph/{name}"),
        };
        let conf = own.conf.clone().ok_or_else(|| missing("ceph.conf"))?;
        let keyring = own.keyring.clone();
        let keyring = keyring.ok_or_else(|| missing("ceph.client.admin.keyring"))?;
        self.ceph_refresh();
        let silent = || CephError::Unreachable {
            reason: format!("no answer within {SILENCE} s"),
        };
        let reached = self.ceph.get(&conf.fsid).is_some_and(|cluster| {
            let quorum = cluster.monitors.iter().filter(|m| m.in_quorum);
            let mut named = quorum.filter(|m| conf.mon_host.contains(&m.v2()));
            named.any(|m| self.linked(machine, m.machine))
        });
        if !reached || !self.machines[machine].powered {
            return Err(silent());
        }
        let cluster = self.ceph.get_mut(&conf.fsid).ok_or_else(silent)?;
        if !cluster.admits(&keyring) {
            return Err(CephError::Unreachable {
                reason: "[errno 13] RADOS permission denied (error connecting to the cluster)"
                    .to_owned(),
            });
        }
        let answer = cluster.run(command, Instant::now());
        if changes::changes(command.prefix()) {
            self.ceph_refresh();
        }
        answer.map_err(|Refusal { code, said }| CephError::Refused {
            command: command.prefix().to_owned(),
            code,
            reason: said,
        })
    }
}

impl World {
    /// The cluster a machine is set up for.
    pub(super) fn ceph_of(&mut self, machine: usize) -> Option<&mut Cluster> {
        let conf = self.machines[machine].ceph.conf.as_ref()?;
        self.ceph.get_mut(&conf.fsid)
    }
}

impl SimCloud {
    /// An administrator's `ceph` on a machine: neither counted nor disturbed by injected faults.
    pub fn ceph(&self, member: &str) -> Ceph {
        let machine = self.on(member, |_, machine| machine);
        Ceph::new(Arc::new(SimCeph {
            shared: self.shared().clone(),
            machine,
            origin: Origin::Hand,
        }))
    }

    /// The ids of all Ceph clusters that were formed.
    pub fn ceph_clusters(&self) -> Vec<String> {
        self.shared().lock().ceph.keys().cloned().collect()
    }

    /// Somebody stops a daemon of Ceph on a machine; it stays enabled, so that a boot starts it.
    pub fn stop_ceph(&self, member: &str, kind: CephDaemonKind) {
        self.on(member, |world, machine| {
            world.machines[machine].ceph.stop(kind);
            world.ceph_refresh();
        });
    }

    /// The monitor of a machine and its store are gone, as when somebody deleted the directory.
    pub fn lose_monitor(&self, member: &str) {
        self.on(member, |world, machine| {
            let daemons = &mut world.machines[machine].ceph.daemons;
            daemons.retain(|(kind, _), _| *kind != CephDaemonKind::Mon);
            world.ceph_refresh();
        });
    }

    /// Somebody starts a daemon of Ceph on a machine.
    pub fn start_ceph(&self, member: &str, kind: CephDaemonKind) {
        self.on(member, |world, machine| {
            world.machines[machine].ceph.start(kind);
            world.ceph_refresh();
        });
    }

    /// Somebody starts an OSD of a machine.
    pub fn start_osd(&self, member: &str, id: i64) {
        self.on(member, |world, machine| {
            world.machines[machine].ceph.start_osd(id);
            world.ceph_refresh();
        });
    }

    /// An OSD's daemon ends and is not started again by itself.
    ///
    /// # Panics
    /// The machine has no such OSD: a mistake of the test.
    pub fn fail_osd(&self, member: &str, id: i64) {
        self.on(member, |world, machine| {
            let known = world.machines[machine].ceph.fail_osd(id);
            assert!(known, "there is no osd.{id} on {member}");
            world.ceph_refresh();
        });
    }

    /// An OSD has passed one of Ceph's ratios, or has room again.
    pub fn fill_osd(&self, member: &str, id: i64, passed: Option<Fullness>) {
        self.on(member, |world, machine| {
            let osd = world.ceph_of(machine).and_then(|c| c.osds.get_mut(&id));
            if let Some(osd) = osd {
                osd.full = passed.map(|ratio| match ratio {
                    Fullness::Near => "nearfull",
                    Fullness::Backfill => "backfillfull",
                    Fullness::Full => "full",
                });
            }
            if let Some(cluster) = world.ceph_of(machine) {
                cluster.osdmap += 1;
            }
        });
    }

    /// The clock of a machine with a monitor differs from that of the others, or no more.
    pub fn skew_clock(&self, member: &str, skewed: bool) {
        self.on(member, |world, machine| {
            if let Some(cluster) = world.ceph_of(machine) {
                if skewed {
                    cluster.skewed.insert(member.to_owned());
                } else {
                    cluster.skewed.remove(member);
                }
            }
        });
    }

    /// Installs Ceph on a machine, or takes its programs away.
    pub fn install_ceph(&self, member: &str, installed: bool) {
        self.on(member, |world, machine| {
            world.machines[machine].config.ceph_installed = installed;
        });
    }
}
