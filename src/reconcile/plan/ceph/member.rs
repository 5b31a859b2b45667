//! Ceph on one member: access to the cluster, and the daemons that run there.

use super::form::ceph_address;
use super::health;
use super::placement::{DAEMONS, placement};
use super::{mark, not_installed, packaged, report};
use crate::reconcile::plan::cluster::target;
use crate::reconcile::plan::diff::Verb;
use crate::reconcile::plan::step::{Action, Claim, ClaimOn, Step};
use crate::reconcile::plan::{Change, Plan, Topic, View, cluster_stands, reasons, removal};
use crate::resources::ObjectRef;
use crate::resources::kinds::{MemberSpec, MemberState};
use crate::services::ceph::CephCluster;
use crate::services::host::{CephAccess, CephDaemonKind, CephReport, CephRequest, HostTarget};

/// Adds what a machine needs of Ceph before its LXD can join: that looks for the pools it has in Ceph
/// from the joining machine. Whether nothing stands in the way then.
pub(in crate::reconcile::plan) fn before_joining(
    object: &ObjectRef,
    spec: &MemberSpec,
    view: &View<'_>,
    plan: &mut Plan,
) -> bool {
    let name = object.name.as_str();
    let mut pools = view.world.lxd.pools.known().into_iter().flatten();
    let uses = pools.any(|(_, pool)| matches!(&*pool.whole.value.driver, "ceph" | "cephfs"));
    let (true, Some(has)) = (uses && packaged(view.desired).is_some(), report(name, view)) else {
        return true;
    };
    let cluster = super::cluster(view).ok();
    let fsid = cluster.map(|c| c.fsid.as_str()).unwrap_or_default();
    if !can_use(name, has, fsid, plan) {
        return false;
    }
    if !has.fsid.is_empty() && has.admin {
        return true;
    }
    let Some((from, source)) = source(name, fsid, view) else {
        plan.wait(
            Topic::World,
            reasons::DEPENDENCY,
            format!("{name} needs access to Ceph to join, and no member that answers has it"),
        );
        return false;
    };
    let (from, machine) = (target(from, source), target(name, spec));
    plan.steps.push(give_access(object, from, machine));
    true
}

/// Whether Ceph can be used on a machine, or what is to be done there first.
fn can_use(name: &str, has: &CephReport, fsid: &str, plan: &mut Plan) -> bool {
    if !has.missing.is_empty() {
        plan.wait(
            Topic::Host(name.to_owned()),
            reasons::SERVICE,
            not_installed(name, &has.missing),
        );
        return false;
    }
    if !has.fsid.is_empty() && !fsid.is_empty() && has.fsid != fsid {
        plan.refuse(
            reasons::OTHER_CLUSTER,
            format!(
                "{name} is set up for another Ceph cluster, {}: if nothing of it is needed, move \
                 /etc/ceph and /var/lib/ceph there away",
                has.fsid
            ),
        );
        return false;
    }
    true
}

/// Another member that has access to Ceph; while no cluster is known, one that has a monitor.
fn source<'a>(name: &str, fsid: &str, view: &View<'a>) -> Option<(&'a str, &'a MemberSpec)> {
    let reaches = |r: &CephReport| {
        let stands = match fsid {
            "" => !r.fsid.is_empty() && r.daemon(CephDaemonKind::Mon).is_some(),
            fsid => r.fsid == fsid,
        };
        r.admin && stands
    };
    let mut others = view.desired.members().filter(|(other, _)| *other != name);
    others.find(|(other, _)| report(other, view).is_some_and(reaches))
}

fn give_access(object: &ObjectRef, from: HostTarget, to: HostTarget) -> Step {
    let claims = vec![Claim::exclusive(ClaimOn::Member(to.name.clone()))];
    let sentence = format!("give {} access to Ceph", to.name);
    let action = Action::CephAccess { from, target: to };
    Step::new(object, action, claims, sentence)
}

/// Adds what a member that has joined needs of Ceph.
pub(in crate::reconcile::plan) fn extend(
    object: &ObjectRef,
    spec: &MemberSpec,
    view: &View<'_>,
    plan: &mut Plan,
) {
    let Some(ceph) = packaged(view.desired) else {
        return;
    };
    if spec.state == MemberState::Absent || !cluster_stands(plan, view) {
        return;
    }
    let name = object.name.as_str();
    // A machine that is silent is told of already.
    let Some(has) = report(name, view) else {
        return;
    };
    let machine = target(name, spec);
    let claims = || vec![Claim::exclusive(ClaimOn::Member(name.to_owned()))];
    let ask = |request: CephRequest, sentence: String| {
        let action = Action::CephHost {
            target: machine.clone(),
            request,
        };
        Step::new(object, action, claims(), sentence)
    };
    let (monitors, others_run) = placement(view);
    let cluster = super::cluster(view).ok();
    let fsid = cluster.map(|c| c.fsid.as_str()).unwrap_or_default();
    if !can_use(name, has, fsid, plan) {
        return;
    }
    // The machine finds out itself whether the store it has, if any, is good for anything.
    let joins = cluster.is_some_and(|c| joins(name, has, &monitors, c, view));
    let surplus = |kind: CephDaemonKind, unit: &str| {
        // One that is out of the map ends by itself, and its store is good for nothing.
        let struck = |c: &CephCluster| {
            kind == CephDaemonKind::Mon && unit != "active" && !c.monitors.contains_key(name)
        };
        cluster.is_some_and(|c| struck(c) || surplus(kind, name, &monitors, &others_run, c))
    };
    let mut steps = Vec::new();
    // What was set up here and does not run is started, also while the cluster cannot be read:
    // it may be the monitor that is missing.
    for daemon in &has.daemons {
        let kind = daemon.kind;
        let change = |to: Option<&str>| {
            let path = format!("ceph.{}", kind.word());
            Change::new(path, Some(&daemon.unit), to)
        };
        let daemon_name = daemon.name.clone();
        if kind == CephDaemonKind::Mon && joins {
            continue;
        }
        if surplus(kind, &daemon.unit) {
            plan.grown.insert(format!("ceph.{}", kind.word()));
            plan.changes.push(change(None));
            steps.push(ask(
                CephRequest::RemoveDaemon {
                    kind,
                    name: daemon_name,
                },
                format!("take away the {kind} of {name}, which has no place any more"),
            ));
        } else if !daemon.unit.is_empty() && daemon.unit != "active" {
            plan.changes.push(change(Some("active")));
            steps.push(ask(
                CephRequest::StartDaemon {
                    kind,
                    name: daemon_name,
                },
                format!("start the {kind} of {name}"),
            ));
        }
    }
    if has.fsid.is_empty() || !has.admin {
        let Some((from, source)) = source(name, fsid, view) else {
            // Nobody has one yet: the Cluster says why.
            finish(plan, steps);
            return;
        };
        mark("ceph.access", "yes", false, view, plan);
        plan.changes
            .push(Change::new("ceph.access", None, Some("yes")));
        steps.push(give_access(object, target(from, source), machine));
        finish(plan, steps);
        return;
    }
    let Some(cluster) = cluster else {
        finish(plan, steps);
        return;
    };
    mark("ceph.access", "yes", true, view, plan);
    for daemon in &has.daemons {
        let path = format!("ceph.{}", daemon.kind.word());
        if !plan.grown.contains(&path) {
            mark(&path, "active", true, view, plan);
        }
    }
    health::of_member(name, joins, cluster, plan);
    let complete = monitors.iter().all(|m| cluster.monitors.contains_key(*m));
    let mon_host = cluster.mon_host();
    if complete && has.mon_host != mon_host {
        plan.grown.insert("ceph.mon_host".to_owned());
        plan.changes.push(Change::new(
            "ceph.mon_host",
            Some(&has.mon_host),
            Some(&mon_host),
        ));
        let access = CephAccess {
            fsid: cluster.fsid.clone(),
            mon_host,
            public_network: ceph.public_network,
            cluster_network: ceph.cluster_network,
            keyring: String::new(),
        };
        steps.push(ask(
            CephRequest::Configure { access },
            format!("tell {name} where Ceph's monitors are"),
        ));
    }
    let address = ceph_address(&machine, ceph, view);
    let mut add = |kind: CephDaemonKind, claim: Option<Claim>, plan: &mut Plan| {
        mark(
            &format!("ceph.{}", kind.word()),
            "active",
            false,
            view,
            plan,
        );
        plan.changes.push(Change::new(
            format!("ceph.{}", kind.word()),
            None,
            Some("active"),
        ));
        let mut step = ask(
            CephRequest::AddDaemon {
                kind,
                name: name.to_owned(),
                address,
            },
            format!("add a {kind} on {name}"),
        );
        step.claims.extend(claim);
        steps.push(step);
    };
    if others_run.contains(&name) {
        for kind in [CephDaemonKind::Mgr, CephDaemonKind::Mds] {
            if has.daemon(kind).is_none() {
                add(kind, None, plan);
            }
        }
    }
    // One after the other: each changes what a majority is. One that is lost goes first.
    if joins {
        add(
            CephDaemonKind::Mon,
            Some(Claim::exclusive(ClaimOn::Monitors)),
            plan,
        );
    }
    finish(plan, steps);
}

/// Whether the monitor of a member comes in: it is not in the map and there is room for it, or it
/// is and its machine has nothing of it any more.
fn joins(
    name: &str,
    has: &CephReport,
    monitors: &[&str],
    cluster: &CephCluster,
    view: &View<'_>,
) -> bool {
    let usable = has.admin && has.fsid == cluster.fsid && monitors.contains(&name);
    usable
        && match cluster.monitors.get(name) {
            None => {
                // That of a member that leaves goes when this one is in.
                let leaves = |other: &str| removal::is_under_way(other, view);
                let stay = cluster.monitors.keys().filter(|other| !leaves(other));
                stay.count() < DAEMONS
            }
            Some(monitor) => !monitor.in_quorum && has.daemon(CephDaemonKind::Mon).is_none(),
        }
}

/// Whether a daemon of a member has no place any more, while all that have one run: a member that
/// comes back after its place was given away.
fn surplus(
    kind: CephDaemonKind,
    name: &str,
    monitors: &[&str],
    others: &[&str],
    cluster: &CephCluster,
) -> bool {
    match kind {
        CephDaemonKind::Mon => {
            !monitors.contains(&name)
                && !cluster.monitors.contains_key(name)
                && cluster.monitors.len() >= monitors.len()
                && cluster.monitors.values().all(|m| m.in_quorum)
        }
        CephDaemonKind::Mgr => {
            !others.contains(&name) && others.iter().all(|other| cluster.managers.has(other))
        }
        CephDaemonKind::Mds => {
            !others.contains(&name) && others.iter().all(|o| cluster.mds.contains_key(*o))
        }
    }
}

fn finish(plan: &mut Plan, steps: Vec<Step>) {
    if !steps.is_empty() && plan.verb == Verb::Unchanged {
        plan.verb = Verb::Update;
    }
    plan.steps.extend(steps);
}
