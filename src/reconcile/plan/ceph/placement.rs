//! Which members run monitors, managers and metadata servers, and when a place is given away.
//!
//! # Guarantees
//! - Who has a monitor keeps it while its member stays. The place of a member that was lost for
//!   longer than `gracePeriod` is given to another one, if there is one that answers.
//! - A lost monitor goes out of the map before the next one comes in, and only while all others
//!   are in the quorum: at no moment one more failure takes the majority away than without it.

use super::report;
use crate::reconcile::plan::step::{Action, CephChange, Claim, ClaimOn, Guard, Step};
use crate::reconcile::plan::{Change, Plan, View};
use crate::reconcile::plan::{lost, removal};
use crate::resources::ObjectRef;
use crate::resources::kinds::{MemberSpec, MemberState};
use crate::services::ceph::CephCluster;
use std::collections::BTreeSet;

/// How many monitors, managers and metadata servers there are where there are members for them.
pub(super) const DAEMONS: usize = 3;

/// Members that are in the cluster and work, or have a monitor though they do not work now.
fn candidates<'a>(
    cluster: Option<&CephCluster>,
    view: &View<'a>,
) -> Vec<(&'a str, &'a MemberSpec)> {
    let members = view.world.lxd.members.known();
    let has_one = |name: &str| cluster.is_some_and(|c| c.monitors.contains_key(name));
    view.desired
        .members()
        .filter(|(name, spec)| match spec.state {
            MemberState::Active => true,
            MemberState::Evacuated => has_one(name),
            MemberState::Absent => has_one(name) && !removal::is_under_way(name, view),
        })
        .filter(|(name, _)| members.is_some_and(|m| m.contains_key(*name)))
        .collect()
}

/// Members that no resource names: they keep what they have, and count.
fn unnamed(view: &View<'_>) -> usize {
    let rows = view.world.lxd.members.known().into_iter().flatten();
    rows.filter(|(name, _)| view.desired.member(name).is_none())
        .count()
}

/// How good a place a member is, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    /// It has a monitor.
    Has,
    /// It has none, and could have one.
    Free,
    /// It has one, and was lost for good.
    Lost,
    /// It is silent, or has not got Ceph's programs.
    Poor,
}

fn place(name: &str, cluster: Option<&CephCluster>, view: &View<'_>) -> Place {
    let has_one = cluster.is_some_and(|c| c.monitors.contains_key(name));
    match (has_one, lost::for_good(name, view)) {
        (true, false) => Place::Has,
        (true, true) => Place::Lost,
        (false, _) if report(name, view).is_some_and(|r| r.missing.is_empty()) => Place::Free,
        (false, _) => Place::Poor,
    }
}

/// The members that run monitors, and those that run managers and metadata servers.
///
/// Monitors are one or three: of two, the loss of either takes the majority away.
pub(super) fn placement<'a>(view: &View<'a>) -> (Vec<&'a str>, Vec<&'a str>) {
    let initiator = view.desired.cluster().map(|(_, c)| c.initiator.as_str());
    let cluster = super::cluster(view).ok();
    let mut left = candidates(cluster, view);
    let rows = view.world.lxd.members.known();
    let is_in = |name: &str| rows.is_some_and(|rows| rows.contains_key(name));
    let wanted = view.desired.members().filter(|(name, m)| {
        m.state != MemberState::Absent || is_in(name) && !removal::is_under_way(name, view)
    });
    let wanted = wanted.count() + unnamed(view);
    let mut chosen: Vec<&str> = Vec::new();
    let mut domains: BTreeSet<&str> = BTreeSet::new();
    while chosen.len() < DAEMONS && !left.is_empty() {
        let best = left.iter().enumerate().min_by_key(|(_, (name, spec))| {
            let domain = spec.failure_domain.as_deref();
            (
                place(name, cluster, view),
                Some(*name) != initiator,
                domain.is_some_and(|d| domains.contains(d)),
                *name,
            )
        });
        let Some((at, _)) = best else { break };
        let (name, spec) = left.remove(at);
        domains.extend(spec.failure_domain.as_deref());
        chosen.push(name);
    }
    let monitors = if wanted >= DAEMONS { DAEMONS } else { 1 };
    (chosen.iter().copied().take(monitors).collect(), chosen)
}

/// Whether a monitor's place is given away: its member was lost for long, or given up.
fn given_away(name: &str, view: &View<'_>) -> bool {
    let silent = view
        .world
        .hosts
        .get(name)
        .is_none_or(|h| h.silent_since.is_some());
    lost::for_good(name, view) || (silent && removal::is_under_way(name, view))
}

/// Takes monitors out of the map whose place was given to another member, or is none any more.
pub(super) fn replace(object: &ObjectRef, cluster: &CephCluster, view: &View<'_>, plan: &mut Plan) {
    for name in cluster.monitors.keys() {
        lost::recheck(name, view, plan);
    }
    let (monitors, _) = placement(view);
    let replaced = cluster.monitors.iter().find(|(name, monitor)| {
        !monitor.in_quorum && !monitors.contains(&name.as_str()) && given_away(name, view)
    });
    let Some((name, _)) = replaced else {
        spare(object, &monitors, cluster, view, plan);
        return;
    };
    // The health says what else is out.
    let others_stand = cluster
        .monitors
        .iter()
        .all(|(other, monitor)| other == name || monitor.in_quorum);
    if !others_stand || cluster.monitors.len() < 2 {
        return;
    }
    let path = format!("ceph.monitor.{name}");
    plan.changed(Change::new(path, Some("lost"), None));
    plan.steps.push(
        Step::new(
            object,
            Action::Ceph {
                change: CephChange::RemoveMonitor { name: name.clone() },
            },
            vec![Claim::exclusive(ClaimOn::Monitors)],
            format!("take the lost monitor of {name} out of the map"),
        )
        .guarded(Guard::MonitorSpare { name: name.clone() }),
    );
}

/// Takes a monitor out of the map that works and has no place any more.
fn spare(
    object: &ObjectRef,
    monitors: &[&str],
    cluster: &CephCluster,
    view: &View<'_>,
    plan: &mut Plan,
) {
    let Some(name) = super::leave::spare_monitor(monitors, cluster, view) else {
        return;
    };
    let path = format!("ceph.monitor.{name}");
    plan.grown.insert(path.clone());
    plan.changed(Change::new(path, Some("spare"), None));
    let left = cluster.monitors.len().saturating_sub(1);
    let name = name.to_owned();
    plan.steps.push(
        Step::new(
            object,
            Action::Ceph {
                change: CephChange::RemoveMonitor { name: name.clone() },
            },
            vec![Claim::exclusive(ClaimOn::Monitors)],
            format!("take the monitor of {name} out of the map, of which {left} are left"),
        )
        .guarded(Guard::MonitorLeaves { name }),
    );
}
