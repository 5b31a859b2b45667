//! Trying the ways between members: when a machine answers first, when others come, again and again
//! while something does not get through, and now and then.

use super::Inner;
use crate::reconcile::clock::age;
use crate::reconcile::plan::{path_networks, target};
use crate::reconcile::world::{HostView, PathView, Seen};
use crate::resources::{Kind, ObjectRef};
use crate::services::host::{HostReport, HostTarget, PathsReport, PathsRequest, Reach};
use futures_util::StreamExt;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// How often it is seen whether something is to be tried.
const LOOK: Duration = Duration::from_secs(2);

/// How soon something is tried again that did not get through: somebody may be mending it.
const BAD: Duration = Duration::from_secs(5);

/// How often all is tried.
const ALL: Duration = Duration::from_secs(600);

/// How many machines are asked at once.
const TOGETHER: usize = 32;

/// Tries as long as the controller works.
pub(super) async fn watch(inner: Arc<Inner>) {
    let mut synced = inner.synced.subscribe();
    tokio::select! {
        () = inner.cancel.cancelled() => return,
        ready = synced.wait_for(|ready| *ready) => if ready.is_err() { return },
    }
    loop {
        tokio::select! {
            () = inner.cancel.cancelled() => return,
            () = tokio::time::sleep(LOOK) => {}
        }
        tokio::select! {
            () = inner.cancel.cancelled() => return,
            () = inner.try_paths() => {}
        }
    }
}

fn answering<'a>(hosts: &'a BTreeMap<String, HostView>, name: &str) -> Option<&'a HostReport> {
    let host = hosts.get(name)?;
    host.report.known().filter(|_| host.error.is_none())
}

/// Whether something does not get through.
fn bad(report: &PathsReport) -> bool {
    let whole = |reach: &Reach| match reach {
        Reach::Packets(size) => *size >= report.mtu,
        Reach::ConnectionsOnly => true,
        Reach::Nothing => false,
    };
    !report.paths.values().all(whole)
}

/// A member's ways to others on one network.
struct Try {
    target: HostTarget,
    from: IpAddr,
    network: &'static str,
    others: Vec<(String, IpAddr)>,
}

impl Inner {
    /// Tries what is due.
    pub(super) async fn try_paths(&self) {
        let due = self.due();
        let tries: Vec<_> = due.into_iter().map(|due| self.try_path(due)).collect();
        futures_util::stream::iter(tries)
            .buffer_unordered(TOGETHER)
            .collect::<Vec<()>>()
            .await;
    }

    fn due(&self) -> Vec<Try> {
        let mut guard = self.state();
        let state = &mut *guard;
        let (world, desired) = (&mut state.world, &state.desired);
        let now = self.clock.now();
        let networks = path_networks(desired, |name| answering(&world.hosts, name));
        let mut due = Vec::new();
        let mut kept = BTreeSet::new();
        for network in &networks {
            for (name, from) in &network.addresses {
                let others = network.others(name);
                let key = ((*name).to_owned(), *from);
                let fresh = world.paths.get(&key).is_some_and(|path| match &path.seen {
                    Seen::Known { value, at } => {
                        let limit = if bad(value) { BAD } else { ALL };
                        age(now, *at) < limit && path.others == others
                    }
                    Seen::Unknown { .. } => false,
                });
                kept.insert(key);
                if let Some(spec) = desired.member(name)
                    && !fresh
                    && !others.is_empty()
                {
                    due.push(Try {
                        target: target(name, spec),
                        from: *from,
                        network: network.network,
                        others,
                    });
                }
            }
        }
        world.paths.retain(|key, _| kept.contains(key));
        due
    }

    /// Tries the ways from a machine that answers for the first time, before anything is planned
    /// of it.
    pub(super) async fn try_first_paths(&self, target: &HostTarget, report: &HostReport) {
        let tries: Vec<Try> = {
            let state = self.state();
            let known = state.world.hosts.get(&target.name);
            if !*self.synced.borrow() || known.is_some_and(|h| h.report.known().is_some()) {
                return;
            }
            let hosts = &state.world.hosts;
            let networks = path_networks(&state.desired, |name| {
                (name == target.name)
                    .then_some(report)
                    .or_else(|| answering(hosts, name))
            });
            let of_target = networks.iter().filter_map(|network| {
                let from = *network.addresses.get(target.name.as_str())?;
                let others = network.others(&target.name);
                (!others.is_empty()).then(|| Try {
                    target: target.clone(),
                    from,
                    network: network.network,
                    others,
                })
            });
            of_target.collect()
        };
        for one in tries {
            self.try_path(one).await;
        }
    }

    async fn try_path(&self, one: Try) {
        let Try {
            target,
            from,
            network,
            others,
        } = one;
        let to = others.iter().map(|(_, to)| *to).collect();
        let request = PathsRequest { from, to };
        let result = self.hosts.host(&target).paths(request).await;
        let now = self.clock.now();
        let mut state = self.state();
        let view = PathView {
            network: network.to_owned(),
            others,
            seen: Seen::from_result(result, now),
        };
        let after = view.seen.known().cloned();
        let before = state.world.paths.insert((target.name.clone(), from), view);
        let before = before.and_then(|view| view.seen.known().cloned());
        // That all is well is nothing new to anybody when it is found out first.
        let unchanged = match (&before, &after) {
            (None, Some(after)) => !bad(after),
            (before, after) => before == after,
        };
        if !unchanged {
            let cluster = state.desired.cluster().map(|(c, _)| c.clone());
            let member = ObjectRef::new(Kind::Member, target.name);
            for object in cluster.into_iter().chain([member]) {
                self.wake(&object, Duration::ZERO);
            }
        }
    }
}
