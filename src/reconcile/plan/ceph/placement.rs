//! Which members run monitors, managers and metadata servers.

use crate::reconcile::plan::View;
use crate::resources::kinds::{MemberSpec, MemberState};
use std::collections::BTreeSet;

/// How many monitors, managers and metadata servers there are where there are members for them.
const DAEMONS: usize = 3;

/// Members that work, are in the cluster, and may run daemons of Ceph.
fn joined<'a>(view: &View<'a>) -> Vec<(&'a str, &'a MemberSpec)> {
    let members = view.world.lxd.members.known();
    view.desired
        .members()
        .filter(|(_, spec)| spec.state == MemberState::Active)
        .filter(|(name, _)| members.is_some_and(|m| m.contains_key(*name)))
        .collect()
}

/// The members that run monitors, and those that run managers and metadata servers.
///
/// Monitors are one or three: of two, the loss of either takes the majority away.
pub(super) fn placement<'a>(view: &View<'a>) -> (Vec<&'a str>, Vec<&'a str>) {
    let initiator = view.desired.cluster().map(|(_, c)| c.initiator.as_str());
    let cluster = view.world.ceph.cluster.known();
    let has_one = |name: &str| cluster.is_some_and(|c| c.monitors.contains_key(name));
    let mut left = joined(view);
    let wanted = view
        .desired
        .members()
        .filter(|(_, m)| m.state != MemberState::Absent)
        .count();
    let mut chosen: Vec<&str> = Vec::new();
    let mut domains: BTreeSet<&str> = BTreeSet::new();
    while chosen.len() < DAEMONS && !left.is_empty() {
        let best = left.iter().enumerate().min_by_key(|(_, (name, spec))| {
            let domain = spec.failure_domain.as_deref();
            (
                !has_one(name),
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
