//! How a cluster follows its machines: who is in the quorum, and which daemons are there.

use super::super::world::World;
use super::cluster::{Cluster, Monitor};
use crate::services::host::CephDaemonKind;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::Instant;

/// How long an OSD may be silent until it is called down (`osd_heartbeat_grace`).
const OSD_GRACE: Duration = Duration::from_secs(20);

/// How long a manager may be silent (`mon_mgr_beacon_grace`).
const MGR_GRACE: Duration = Duration::from_secs(30);

/// How long a metadata server may be silent (`mds_beacon_grace`).
const MDS_GRACE: Duration = Duration::from_secs(15);

/// How long an OSD is down until no data is placed on it any more
/// (`mon_osd_down_out_interval`).
const OUT_AFTER: Duration = Duration::from_secs(600);

/// The pool the managers keep their own things in.
const MGR_POOL: &str = ".mgr";

/// A daemon as its machine has it.
struct Running {
    name: String,
    /// It runs and reaches the monitors.
    ok: bool,
    /// It ended by itself, or was stopped: everybody knows at once.
    ended: bool,
}

impl World {
    /// Has every cluster follow its machines. To be called after every change of power, links,
    /// units or maps.
    pub(in crate::simulate) fn ceph_refresh(&mut self) {
        let ids: Vec<String> = self.ceph.keys().cloned().collect();
        for fsid in ids {
            // Taken out, so that machines and cluster can both be used.
            if let Some(mut cluster) = self.ceph.remove(&fsid) {
                self.elect(&mut cluster);
                if cluster.monitors.iter().any(|m| m.in_quorum) {
                    self.follow(&mut cluster);
                }
                self.ceph.insert(fsid, cluster);
            }
        }
    }

    /// Who is in the quorum.
    fn elect(&mut self, cluster: &mut Cluster) {
        let runs = |m: &Monitor| {
            let machine = &self.machines[m.machine];
            let unit = machine
                .ceph
                .daemons
                .get(&(CephDaemonKind::Mon, m.name.clone()));
            machine.powered && unit.is_some_and(|u| u.running)
        };
        let up: Vec<&Monitor> = cluster.monitors.iter().filter(|m| runs(m)).collect();
        let quorum = up.iter().find_map(|leader| {
            let seen = up.iter().filter(|m| self.linked(leader.machine, m.machine));
            let seen: BTreeSet<&str> = seen.map(|m| m.name.as_str()).collect();
            (seen.len() * 2 > cluster.monitors.len()).then_some(seen)
        });
        let quorum: BTreeSet<String> = quorum.into_iter().flatten().map(str::to_owned).collect();
        let mut changed = false;
        for monitor in &mut cluster.monitors {
            let now = quorum.contains(&monitor.name);
            changed |= monitor.in_quorum != now;
            monitor.in_quorum = now;
        }
        if changed {
            cluster.elections += 2;
        }
        // A monitor that was taken out of the map ends.
        for (at, machine) in self.machines.iter_mut().enumerate() {
            let ceph = &mut machine.ceph;
            if ceph.conf.as_ref().is_none_or(|c| c.fsid != cluster.fsid) {
                continue;
            }
            for ((kind, name), unit) in &mut ceph.daemons {
                let known = |m: &Monitor| m.machine == at && m.name == *name;
                if *kind == CephDaemonKind::Mon
                    && unit.running
                    && !cluster.monitors.iter().any(known)
                {
                    unit.running = false;
                    unit.failed = true;
                }
            }
        }
    }

    fn follow(&mut self, cluster: &mut Cluster) {
        let now = Instant::now();
        let present = |world: &mut World, cluster: &mut Cluster, kind, grace| {
            let mut names = BTreeSet::new();
            for daemon in world.running(cluster, kind) {
                let grace = if daemon.ended { Duration::ZERO } else { grace };
                let there = cluster.there(kind.word(), &daemon.name, daemon.ok, grace);
                if there.1 {
                    world.schedule(grace, World::ceph_refresh);
                }
                if there.0 {
                    names.insert(daemon.name);
                }
            }
            names
        };
        let mgrs = present(self, cluster, CephDaemonKind::Mgr, MGR_GRACE);
        let active = cluster.active_mgr.clone().filter(|a| mgrs.contains(a));
        let active = active.or_else(|| mgrs.first().cloned());
        if (&mgrs, &active) != (&cluster.mgrs, &cluster.active_mgr) {
            cluster.mgrmap += 1;
            (cluster.mgrs, cluster.active_mgr) = (mgrs, active);
        }
        let mds = present(self, cluster, CephDaemonKind::Mds, MDS_GRACE);
        let mut moved = mds != cluster.mds;
        let mut free = mds.clone();
        for fs in &cluster.filesystems {
            if let Some(active) = &fs.active {
                free.remove(active);
            }
        }
        for fs in &mut cluster.filesystems {
            if fs.active.as_ref().is_none_or(|a| !mds.contains(a)) {
                let next = free.pop_first();
                moved |= fs.active != next;
                fs.active = next;
            }
        }
        cluster.mds = mds;
        cluster.fsmap += u64::from(moved);
        self.follow_osds(cluster, now);
        // The managers wait for as many OSDs as there are to be copies.
        let usable = cluster.osds.values().filter(|o| o.up && o.in_).count();
        let wanted = cluster.default_size() as usize;
        let ready = cluster.active_mgr.is_some() && usable >= wanted;
        if ready && !cluster.pools.contains_key(MGR_POOL) {
            cluster.add_pool(MGR_POOL, 1, None, now);
            if let Some(pool) = cluster.pools.get_mut(MGR_POOL) {
                pool.applications.insert("mgr".to_owned());
                pool.objects = 2;
            }
        }
        let lacking = cluster
            .pools
            .values()
            .any(|p| cluster.copies_of(p) < p.size);
        cluster.undersized = lacking.then(|| cluster.undersized.unwrap_or(now));
    }

    fn follow_osds(&mut self, cluster: &mut Cluster, now: Instant) {
        let ids: Vec<i64> = cluster.osds.keys().copied().collect();
        for id in ids {
            let Some(osd) = cluster.osds.get(&id).cloned() else {
                continue;
            };
            let machine = &self.machines[osd.machine];
            let unit = machine.ceph.osds.iter().find(|o| o.uuid == osd.uuid);
            let runs = machine.powered && unit.is_some_and(|o| o.ready && o.unit.running);
            let ok = runs && self.reaches_quorum(osd.machine, cluster);
            let ended = machine.booted && !runs;
            let name = machine.config.name.clone();
            let grace = if ended { Duration::ZERO } else { OSD_GRACE };
            let (there, wait) = cluster.there("osd", &id.to_string(), ok, grace);
            if wait {
                self.schedule(grace, World::ceph_refresh);
            }
            if ok && !osd.up {
                cluster.boot(id, &name, now);
            } else if !there && osd.up {
                if let Some(osd) = cluster.osds.get_mut(&id) {
                    osd.up = false;
                }
                cluster.moved(now);
                let fsid = cluster.fsid.clone();
                self.schedule(OUT_AFTER, move |world| {
                    if let Some(cluster) = world.ceph.get_mut(&fsid) {
                        let since = cluster.silent.get(&("osd", id.to_string()));
                        if since.is_some_and(|s| s.elapsed() >= OUT_AFTER) {
                            cluster.out(id, Instant::now());
                        }
                    }
                });
            }
        }
    }

    /// The daemons of a kind that are set up for a cluster.
    fn running(&self, cluster: &Cluster, kind: CephDaemonKind) -> Vec<Running> {
        let mut found = Vec::new();
        for (at, machine) in self.machines.iter().enumerate() {
            let conf = machine.ceph.conf.as_ref();
            if conf.is_none_or(|c| c.fsid != cluster.fsid) {
                continue;
            }
            for ((of, name), unit) in &machine.ceph.daemons {
                if *of == kind {
                    let runs = machine.powered && unit.running;
                    found.push(Running {
                        name: name.clone(),
                        ok: runs && self.reaches_quorum(at, cluster),
                        ended: machine.booted && !runs,
                    });
                }
            }
        }
        found
    }

    fn reaches_quorum(&self, machine: usize, cluster: &Cluster) -> bool {
        let mut quorum = cluster.monitors.iter().filter(|m| m.in_quorum);
        quorum.any(|m| self.linked(machine, m.machine))
    }
}
