//! What a machine has of Ceph: its files, its units, its OSDs' disks.

use super::super::world::World;
use crate::services::host::{CephDaemon, CephDaemonKind, CephOsd, CephReport};
use ipnet::IpNet;
use std::collections::BTreeMap;

/// The packages that a machine without Ceph lacks.
const PACKAGES: [&str; 5] = [
    "ceph-mon",
    "ceph-mgr",
    "ceph-mds",
    "ceph-osd",
    "ceph-volume",
];

/// Ceph of one machine.
#[derive(Debug, Default)]
pub(in crate::simulate) struct MachineCeph {
    /// `/etc/ceph/ceph.conf`.
    pub conf: Option<Conf>,
    /// The admin's key.
    pub keyring: Option<String>,
    /// Daemons that were set up, with their units.
    pub daemons: BTreeMap<(CephDaemonKind, String), Unit>,
    /// OSDs that are on the machine's disks.
    pub osds: Vec<OsdDisk>,
}

/// What `ceph.conf` holds.
#[derive(Debug, Clone, Default)]
pub(in crate::simulate) struct Conf {
    /// The cluster's id.
    pub fsid: String,
    /// Its monitors.
    pub mon_host: String,
    /// The subnet of clients and monitors.
    pub public_network: Option<IpNet>,
    /// The subnet of replication.
    pub cluster_network: Option<IpNet>,
}

/// A unit of systemd.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::simulate) struct Unit {
    /// Whether a boot starts it.
    pub enabled: bool,
    /// Whether it runs.
    pub running: bool,
    /// Whether it ended by itself.
    pub failed: bool,
}

impl Unit {
    /// One that was enabled and started.
    pub fn started() -> Unit {
        Unit {
            enabled: true,
            running: true,
            failed: false,
        }
    }

    fn state(self) -> &'static str {
        match self {
            Unit { running: true, .. } => "active",
            Unit { failed: true, .. } => "failed",
            _ => "inactive",
        }
    }
}

/// An OSD on a disk.
#[derive(Debug, Clone)]
pub(in crate::simulate) struct OsdDisk {
    /// Its number.
    pub id: i64,
    /// Its own id.
    pub uuid: String,
    /// The cluster it is for.
    pub fsid: String,
    /// The stable path of its disk.
    pub path: String,
    /// Whether its making came to its end.
    pub ready: bool,
    /// Its unit.
    pub unit: Unit,
}

impl MachineCeph {
    /// The power is gone.
    pub fn power_off(&mut self) {
        for unit in self.units() {
            unit.running = false;
            unit.failed = false;
        }
    }

    /// The machine has booted.
    pub fn boot(&mut self) {
        for unit in self.units() {
            unit.running = unit.enabled;
        }
    }

    /// Somebody stops a daemon.
    pub fn stop(&mut self, kind: CephDaemonKind) {
        for ((of, _), unit) in &mut self.daemons {
            if *of == kind {
                unit.running = false;
            }
        }
    }

    /// Somebody starts a daemon.
    pub fn start(&mut self, kind: CephDaemonKind) {
        for ((of, _), unit) in &mut self.daemons {
            if *of == kind {
                *unit = Unit::started();
            }
        }
    }

    /// Somebody starts an OSD.
    pub fn start_osd(&mut self, id: i64) {
        for osd in self.osds.iter_mut().filter(|o| o.id == id) {
            osd.unit = Unit::started();
        }
    }

    /// An OSD ends by itself; whether there is one.
    pub fn fail_osd(&mut self, id: i64) -> bool {
        let osd = self.osds.iter_mut().find(|o| o.id == id);
        osd.map(|osd| {
            osd.unit.running = false;
            osd.unit.failed = true;
        })
        .is_some()
    }

    /// The disk of an OSD was pulled out.
    pub fn lose_disk(&mut self, path: &str) {
        for osd in self.osds.iter_mut().filter(|o| o.path == path) {
            osd.unit.running = false;
            osd.unit.failed = true;
        }
    }

    /// Whether an OSD runs from a disk.
    pub fn runs_from(&self, path: &str) -> bool {
        self.osds.iter().any(|o| o.path == path && o.unit.running)
    }

    fn units(&mut self) -> impl Iterator<Item = &mut Unit> {
        let osds = self.osds.iter_mut().map(|o| &mut o.unit);
        self.daemons.values_mut().chain(osds)
    }
}

impl World {
    /// What a machine's Ceph would be seen to be.
    pub(in crate::simulate) fn ceph_report(&self, machine: usize) -> CephReport {
        let m = &self.machines[machine];
        let conf = m.ceph.conf.clone().unwrap_or_default();
        let mut osds: Vec<CephOsd> = m
            .ceph
            .osds
            .iter()
            .filter(|o| m.disks.iter().any(|d| d.path == o.path))
            .map(|o| CephOsd {
                id: Some(o.id),
                uuid: o.uuid.clone(),
                fsid: o.fsid.clone(),
                path: o.path.clone(),
                ready: o.ready,
                unit: o.unit.state().to_owned(),
            })
            .collect();
        osds.sort_by(|a, b| a.path.cmp(&b.path));
        CephReport {
            missing: if m.config.ceph_installed {
                Vec::new()
            } else {
                PACKAGES.map(str::to_owned).to_vec()
            },
            fsid: conf.fsid,
            mon_host: conf.mon_host,
            admin: m.ceph.keyring.is_some(),
            daemons: m
                .ceph
                .daemons
                .iter()
                .map(|((kind, name), unit)| CephDaemon {
                    kind: *kind,
                    name: name.clone(),
                    unit: unit.state().to_owned(),
                })
                .collect(),
            osds,
        }
    }
}
