//! Members that are lost: since when, what each carried, and when that is given to another one.

use super::{Plan, View, ovn};
use crate::reconcile::clock::{after, age};
use crate::services::host::CephDaemonKind;
use std::time::Duration;

/// How long a lost member keeps its place among those that run something for all, unless the
/// `Cluster` says otherwise.
const GRACE: Duration = Duration::from_secs(300);

fn grace(view: &View<'_>) -> Duration {
    let cluster = view.desired.cluster();
    cluster
        .and_then(|(_, c)| c.grace_period.as_ref())
        .map_or(GRACE, |span| span.0)
}

/// Whether a member has been silent for so long that its place is given away.
pub(super) fn for_good(name: &str, view: &View<'_>) -> bool {
    let silent = view.world.hosts.get(name).and_then(|h| h.silent_since);
    silent.is_some_and(|since| age(view.now, since) >= grace(view))
}

/// Has a plan made again when a member that is silent now counts as lost.
pub(super) fn recheck(name: &str, view: &View<'_>, plan: &mut Plan) {
    let silent = view.world.hosts.get(name).and_then(|h| h.silent_since);
    if let Some(since) = silent
        && !for_good(name, view)
    {
        let at = after(since, grace(view));
        plan.recheck_at = Some(plan.recheck_at.map_or(at, |before| before.min(at)));
    }
}

/// What members carry for all: made once, and asked for each of them.
pub(crate) struct Burdens<'v, 'a> {
    view: &'v View<'a>,
    ovn: ovn::Burdens<'a>,
}

impl<'v, 'a> Burdens<'v, 'a> {
    pub(crate) fn of(view: &'v View<'a>) -> Burdens<'v, 'a> {
        Burdens {
            view,
            ovn: ovn::Burdens::of(view),
        }
    }

    /// What a lost member carried, and what must not be touched until it is back, as the end of a
    /// sentence; empty when it carried nothing. Of a member that is there: what would be said of it,
    /// were it lost now.
    pub(crate) fn of_member(&self, name: &str) -> String {
        let carried = carried(name, self);
        if carried.is_empty() {
            return String::new();
        }
        let held = no_more(name, self).map_or_else(String::new, |held| {
            format!("; nothing more may be taken from {held} until it is back")
        });
        format!("; it carries {carried}{held}")
    }
}

/// What is said of one lost member.
pub(super) fn burden(name: &str, view: &View<'_>) -> String {
    Burdens::of(view).of_member(name)
}

/// What a member carries for all, as the end of a sentence; empty when it carries nothing.
pub(super) fn carries(name: &str, view: &View<'_>) -> String {
    match carried(name, &Burdens::of(view)).as_str() {
        "" => String::new(),
        carried => format!("; it carries {carried}"),
    }
}

/// What a member carries for all, as far as it was seen last: `osd.2, a monitor of Ceph`. Empty
/// when it carries nothing.
fn carried(name: &str, burdens: &Burdens<'_, '_>) -> String {
    let view = burdens.view;
    let mut parts: Vec<String> = Vec::new();
    let report = view.world.hosts.get(name).and_then(|h| h.report.known());
    if let Some(cluster) = view.world.ceph.last.as_ref() {
        let osds: Vec<String> = cluster
            .osds_of(name)
            .map(|(id, _)| format!("osd.{id}"))
            .collect();
        if !osds.is_empty() {
            parts.push(osds.join(", "));
        }
        if cluster.monitors.contains_key(name) {
            parts.push("a monitor of Ceph".to_owned());
        }
    }
    let has = |kind| report.is_some_and(|r| r.ceph.daemon(kind).is_some());
    for (kind, what) in [
        (CephDaemonKind::Mgr, "a manager of Ceph"),
        (CephDaemonKind::Mds, "a metadata server of Ceph"),
    ] {
        if has(kind) {
            parts.push(what.to_owned());
        }
    }
    parts.extend(burdens.ovn.carried(name, view));
    let members = view.world.lxd.members.known();
    let roles = members.and_then(|m| m.get(name)).map(|m| &m.value.roles);
    if roles.is_some_and(|roles| roles.iter().any(|r| r.starts_with("database"))) {
        parts.push("a part of LXD's database".to_owned());
    }
    parts.join(", ")
}

/// Why nothing more may be taken away while a member is lost; `None` when something may.
fn no_more(name: &str, burdens: &Burdens<'_, '_>) -> Option<String> {
    let view = burdens.view;
    let mut held: Vec<&str> = Vec::new();
    let members = view.world.lxd.members.known();
    let silent = |other: &str| {
        let host = view.world.hosts.get(other);
        other == name || host.is_some_and(|h| h.silent_since.is_some())
    };
    let voters: Vec<&str> = members
        .into_iter()
        .flatten()
        .filter(|(_, m)| m.value.roles.iter().any(|r| r.starts_with("database")))
        .filter(|(_, m)| !m.value.roles.iter().any(|r| r == "database-standby"))
        .map(|(name, _)| name.as_str())
        .collect();
    let one_more = |all: usize, left: usize| left.saturating_sub(1) < all / 2 + 1;
    let left = voters.iter().filter(|v| !silent(v)).count();
    if voters.contains(&name) && one_more(voters.len(), left) {
        held.push("LXD's database");
    }
    if let Some(cluster) = view.world.ceph.last.as_ref() {
        let all = cluster.monitors.len();
        let left = cluster
            .monitors
            .iter()
            .filter(|(name, m)| m.in_quorum && !silent(name))
            .count();
        if cluster.monitors.contains_key(name) && one_more(all, left) {
            held.push("Ceph's monitors");
        }
        let thin = cluster
            .pools
            .values()
            .any(|p| p.replicated && p.size.saturating_sub(1) <= p.min_size);
        if thin && cluster.osds_of(name).next().is_some() {
            held.push("Ceph's copies");
        }
    }
    if burdens.ovn.no_more(name) {
        held.push("OVN's databases");
    }
    match held.as_slice() {
        [] => None,
        [one] => Some((*one).to_owned()),
        [first @ .., last] => Some(format!("{} and {last}", first.join(", "))),
    }
}
