//! Watching Ceph: a short question every 0.7 s, and what follows when something moved.

use super::Inner;
use crate::reconcile::clock::age;
use crate::reconcile::plan::{Topic, ceph_wanted, target};
use crate::reconcile::world::Seen;
use crate::resources::Spec;
use crate::resources::kinds::{DiskUse, MemberState};
use crate::services::ceph::CephCluster;
use crate::services::host::HostTarget;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// How often the cluster is asked whether anything moved.
const EVERY: Duration = Duration::from_millis(700);

/// How often it is seen whether a cluster is wanted at all.
const IDLE: Duration = Duration::from_secs(2);

/// How often the machines are looked at while the cluster does not answer: the daemon that is
/// missing may have stopped on one of them.
const MACHINES: Duration = Duration::from_secs(4);

/// Watches as long as the controller works.
pub(super) async fn watch(inner: Arc<Inner>) {
    let mut synced = inner.synced.subscribe();
    tokio::select! {
        () = inner.cancel.cancelled() => return,
        ready = synced.wait_for(|ready| *ready) => if ready.is_err() { return },
    }
    loop {
        let wanted = ceph_wanted(&inner.state().desired);
        if wanted {
            inner.look_at_ceph(false).await;
        }
        tokio::select! {
            () = inner.cancel.cancelled() => return,
            () = tokio::time::sleep(if wanted { EVERY } else { IDLE }) => {}
        }
    }
}

impl Inner {
    /// Looks at Ceph, at all of it when something was just changed, and wakes what it concerns.
    pub(super) async fn look_at_ceph(&self, all: bool) {
        // Held until what was seen is kept: an older look never takes the place of a newer one.
        let mut look = self.ceph_look.lock().await;
        if all {
            look.forget();
        }
        let seen = look.look(&self.ceph).await;
        let now = self.clock.now();
        let machines = {
            let mut state = self.state();
            let before = &state.world.ceph.cluster;
            let same = match (before, &seen) {
                (Seen::Known { value, .. }, Ok(now)) => value == now,
                (Seen::Unknown { reason }, Err(e)) => *reason == e.to_string(),
                _ => false,
            };
            let moved = match (before.known(), &seen) {
                (Some(before), Ok(after)) => moved(before, after),
                // What stopped before it could be read is found out on the machines.
                (None, Ok(_)) => state.desired.members().map(|(n, _)| n.to_owned()).collect(),
                (_, Err(_)) => BTreeSet::new(),
            };
            let machines: Vec<HostTarget> = state
                .desired
                .members()
                .filter(|(_, m)| m.state != MemberState::Absent)
                .filter(|(name, _)| {
                    let stale = || {
                        let host = state.world.hosts.get(*name);
                        host.is_some_and(|h| {
                            let set_up =
                                |r: &crate::services::host::HostReport| !r.ceph.daemons.is_empty();
                            h.error.is_none()
                                && h.report.known().is_some_and(set_up)
                                && h.report.at().is_some_and(|at| age(now, at) >= MACHINES)
                        })
                    };
                    moved.contains(*name) || (seen.is_err() && stale())
                })
                .map(|(name, member)| target(name, member))
                .collect();
            if let Ok(cluster) = &seen
                && !same
            {
                state.world.ceph.last = Some(cluster.clone());
            }
            state.world.ceph.cluster = Seen::from_result(seen, now);
            if !same {
                self.wake_ceph(&state);
            }
            machines
        };
        drop(look);
        for machine in &machines {
            self.look_at_machine(machine).await;
        }
        if !machines.is_empty() {
            self.wake_ceph(&self.state());
        }
    }

    /// Wakes all that has to do with Ceph.
    pub(super) fn wake_ceph(&self, state: &super::State) {
        for (object, resource) in &state.desired.resources {
            let concerned = match &resource.spec {
                Spec::Cluster(_) | Spec::Member(_) => true,
                Spec::Disk(disk) => disk.usage == DiskUse::Ceph,
                Spec::StoragePool(pool) => matches!(pool.driver.as_str(), "ceph" | "cephfs"),
                _ => false,
            };
            if concerned {
                self.wake(object, Duration::ZERO);
            }
        }
        self.wake_waiting(state, &Topic::World);
    }
}

/// The machines of daemons that came or went.
fn moved(before: &CephCluster, after: &CephCluster) -> BTreeSet<String> {
    let mut machines = BTreeSet::new();
    for (id, osd) in &after.osds {
        let was = before.osds.get(id);
        if was.is_none_or(|w| w.up != osd.up) {
            machines.insert(osd.host.clone());
        }
    }
    let running = |c: &CephCluster| -> BTreeSet<(&'static str, String)> {
        let mons = c.monitors.iter().filter(|(_, m)| m.in_quorum);
        let mons = mons.map(|(name, _)| ("mon", name.clone()));
        let mgrs = c.managers.standbys.iter().chain([&c.managers.active]);
        let mgrs = mgrs.map(|name| ("mgr", name.clone()));
        let mds = c.mds.keys().map(|name| ("mds", name.clone()));
        mons.chain(mgrs).chain(mds).collect()
    };
    machines.extend(
        running(before)
            .symmetric_difference(&running(after))
            .map(|(_, name)| name.clone()),
    );
    machines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::services::ceph::{Monitor, Osd};

    #[test]
    fn the_machines_of_what_came_or_went_are_named() {
        let mut before = CephCluster::default();
        let osd = |up: bool| Osd {
            up,
            host: "m1".into(),
            ..Osd::default()
        };
        let mon = |in_quorum: bool| Monitor {
            in_quorum,
            ..Monitor::default()
        };
        before.osds.insert(0, osd(true));
        before.monitors.insert("m2".into(), mon(true));
        before.managers.active = "m3".into();
        assert!(moved(&before, &before).is_empty());
        let mut after = before.clone();
        after.osds.insert(0, osd(false));
        after.monitors.insert("m2".into(), mon(false));
        after.managers.active = "m4".into();
        let names: Vec<String> = moved(&before, &after).into_iter().collect();
        assert_eq!(names, ["m1", "m2", "m3", "m4"]);
    }
}
