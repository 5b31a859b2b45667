//! OSDs, daemons and keys that go: of a member that leaves, and of a `Disk` that does.
//!
//! # Guarantees
//! - Nothing is taken away of which there would be fewer copies than every pool is to have: that is
//!   refused with the numbers before anything begins.
//! - An OSD is first set out, and holds nothing any more before it is stopped: all placement groups
//!   are clean, and Ceph itself says `safe-to-destroy`, asked again just before it is stopped and
//!   before it is struck off. Only then its disk is cleared.
//! - The OSDs of a lost machine are struck off only by the approval of giving the machine up.
//! - A monitor that leaves goes when all others that are to run are in the quorum.

use super::placement::placement;
use super::{packaged, report};
use crate::reconcile::plan::cluster::target;
use crate::reconcile::plan::step::{Action, CephChange, Claim, ClaimOn, Guard, Step};
use crate::reconcile::plan::{Change, Plan, Topic, View, reasons, removal};
use crate::resources::kinds::{MemberSpec, MemberState};
use crate::resources::{Kind, ObjectRef};
use crate::services::ceph::{CephCluster, Osd};
use crate::services::host::{CephDaemonKind, CephOsd, CephRequest, DiskReport, WipeDisk};
use std::collections::BTreeSet;

/// Why OSDs cannot be done without.
pub(in crate::reconcile::plan) enum Thin {
    /// It passes by itself: what lowers the copies is under way.
    Waits(String),
    /// Somebody must change something.
    Refused(String),
}

/// Whether every pool can have its copies without these OSDs; says why not, with the numbers.
pub(in crate::reconcile::plan) fn thin(
    gone: &BTreeSet<i64>,
    what: &str,
    cluster: &CephCluster,
    view: &View<'_>,
) -> Option<Thin> {
    let leaves = |host: &str| {
        let spec = view.desired.member(host);
        spec.is_some_and(|m| m.state == MemberState::Absent)
    };
    let carries =
        |(id, osd): &(&i64, &Osd)| !gone.contains(id) && osd.up && osd.in_ && !leaves(&osd.host);
    let left: Vec<&Osd> = cluster
        .osds
        .iter()
        .filter(carries)
        .map(|(_, o)| o)
        .collect();
    let hosts: BTreeSet<&str> = left.iter().map(|o| o.host.as_str()).collect();
    let racks: BTreeSet<&str> = hosts
        .iter()
        .filter_map(|h| super::copies::rack(h, view))
        .collect();
    let room = |domain: &str| match domain {
        "osd" => left.len(),
        "rack" => racks.len(),
        _ => hosts.len(),
    };
    let mut thin: Vec<(&str, u32, &str, usize)> = Vec::new();
    for (name, pool) in cluster.pools.iter().filter(|(_, p)| p.replicated) {
        let domain = cluster
            .rule(pool.rule)
            .map_or("host", |(_, rule)| rule.failure_domain.as_str());
        let room = room(domain);
        if room < usize::try_from(pool.size).unwrap_or(usize::MAX) {
            thin.push((name, pool.size, domain, room));
        }
    }
    let (_, size, domain, room) = *thin.iter().max_by_key(|(_, size, _, _)| *size)?;
    let names: Vec<&str> = thin.iter().map(|(name, ..)| *name).collect();
    let hosts: Vec<&str> = hosts.into_iter().collect();
    let numbers = format!(
        "the pools {} keep {size} copies, no two in one {domain}, and without {what} only {room} \
         {domain}{} with OSDs {} left (on {})",
        names.join(", "),
        if room == 1 { "" } else { "s" },
        if room == 1 { "is" } else { "are" },
        if hosts.is_empty() {
            "no host".to_owned()
        } else {
            hosts.join(", ")
        },
    );
    let replicas = packaged(view.desired).and_then(|spec| spec.replicas);
    let lowered = replicas.is_some_and(|r| usize::try_from(r).is_ok_and(|r| r <= room));
    Some(match lowered {
        true => Thin::Waits(format!("{numbers}: it waits until there are fewer copies")),
        false if room == 0 => Thin::Refused(format!("{numbers}: add OSDs elsewhere first")),
        false => Thin::Refused(format!(
            "{numbers}: write replicas: {room} at the Cluster first, or add OSDs on another {domain}"
        )),
    })
}

/// Adds why a member's OSDs cannot be done without; says whether they can.
pub(in crate::reconcile::plan) fn may_leave(name: &str, view: &View<'_>, plan: &mut Plan) -> bool {
    if packaged(view.desired).is_none() {
        return true;
    }
    let cluster = match super::cluster(view) {
        Ok(cluster) => cluster,
        Err(why) => {
            plan.unknown("Ceph", &why);
            return false;
        }
    };
    let own: BTreeSet<i64> = cluster.osds_of(name).map(|(id, _)| id).collect();
    if own.is_empty() {
        return true;
    }
    match thin(&own, name, cluster, view) {
        None => true,
        Some(Thin::Waits(why)) => {
            plan.wait(Topic::World, reasons::PGS_NOT_CLEAN, why);
            false
        }
        Some(Thin::Refused(why)) => {
            plan.refuse(reasons::REMOVAL, why);
            false
        }
    }
}

/// One OSD that goes.
pub(in crate::reconcile::plan) struct Leaving<'a> {
    pub(in crate::reconcile::plan) member: &'a str,
    pub(in crate::reconcile::plan) id: i64,
    pub(in crate::reconcile::plan) osd: &'a Osd,
    /// What its machine has of it; none when the machine or the disk is gone.
    pub(in crate::reconcile::plan) here: Option<&'a CephOsd>,
    /// Whether its machine was given up: then it need not be safe.
    pub(in crate::reconcile::plan) lost: bool,
}

/// Plans the next thing of OSDs that go; says whether none of them is left in the map.
pub(in crate::reconcile::plan) fn osds(
    object: &ObjectRef,
    leaving: &[Leaving<'_>],
    cluster: &CephCluster,
    view: &View<'_>,
    plan: &mut Plan,
    push: &mut dyn FnMut(Step, &mut Plan),
) -> bool {
    if leaving.is_empty() {
        return true;
    }
    for one in leaving {
        let state = match (one.osd.in_, one.osd.up) {
            (true, _) => "in",
            (false, true) => "out",
            (false, false) => "stopped",
        };
        plan.changes
            .push(Change::new(format!("osd.{}", one.id), Some(state), None));
    }
    let claims = |member: &str| {
        vec![
            Claim::exclusive(ClaimOn::Ceph),
            Claim::exclusive(ClaimOn::Osds(member.to_owned())),
        ]
    };
    // All at once: their data moves once.
    let inside: Vec<&Leaving<'_>> = leaving.iter().filter(|one| one.osd.in_).collect();
    if !inside.is_empty() {
        for one in inside {
            let step = Step::new(
                object,
                Action::Ceph {
                    change: CephChange::SetOut { id: one.id },
                },
                claims(one.member),
                format!(
                    "set osd.{} of {} out: its data moves away",
                    one.id, one.member
                ),
            );
            push(step, plan);
        }
        return false;
    }
    for one in leaving {
        let (id, uuid) = (one.id, one.osd.uuid.clone());
        let guard = Guard::OsdGoes {
            id,
            uuid: uuid.clone(),
            lost: one.lost,
        };
        if !one.lost && !cluster.unclean.is_empty() {
            let states: Vec<&str> = cluster.unclean.iter().map(String::as_str).collect();
            plan.wait(
                Topic::World,
                reasons::PGS_NOT_CLEAN,
                format!(
                    "osd.{id} of {} goes when all placement groups are clean: {}",
                    one.member,
                    states.join(", ")
                ),
            );
            continue;
        }
        if one.osd.up && one.lost {
            plan.wait(
                Topic::World,
                reasons::OSD_DOWN,
                format!(
                    "Ceph has not noticed yet that osd.{id} of {} is lost",
                    one.member
                ),
            );
            continue;
        }
        let runs = one.here.is_some_and(|here| here.unit == "active");
        if runs || one.osd.up {
            let Some(spec) = view.desired.member(one.member) else {
                continue;
            };
            let step = Step::new(
                object,
                Action::CephHost {
                    target: target(one.member, spec),
                    request: CephRequest::StopOsd { id, uuid },
                },
                claims(one.member),
                format!(
                    "stop osd.{id} of {}, which holds nothing any more",
                    one.member
                ),
            );
            push(step.guarded(guard), plan);
        } else {
            let step = Step::new(
                object,
                Action::Ceph {
                    change: CephChange::Purge { id, lost: one.lost },
                },
                claims(one.member),
                format!("strike osd.{id} of {} off Ceph's map", one.member),
            );
            push(step.guarded(guard), plan);
        }
        // One after the other: each is looked at again.
        return false;
    }
    false
}

/// The step that clears a disk whose OSD was struck off.
pub(in crate::reconcile::plan) fn zap(
    object: &ObjectRef,
    member: &str,
    spec: &MemberSpec,
    disk: &DiskReport,
    here: &CephOsd,
    cluster: &CephCluster,
) -> Step {
    let what = here
        .id
        .map_or_else(String::new, |id| format!(", which was osd.{id}"));
    Step::new(
        object,
        Action::CephHost {
            target: target(member, spec),
            request: CephRequest::ZapOsd {
                fsid: cluster.fsid.clone(),
                uuid: here.uuid.clone(),
                disk: WipeDisk {
                    path: disk.path.clone(),
                    serial: disk.serial.clone(),
                    size: disk.size,
                },
            },
        },
        vec![
            Claim::exclusive(ClaimOn::Device(member.to_owned(), disk.path.clone())),
            Claim::exclusive(ClaimOn::Osds(member.to_owned())),
        ],
        format!("clear {} of {member}{what}", disk.path),
    )
}

/// Plans the next thing of Ceph on a member that leaves and is in LXD's cluster still, or was lost;
/// says whether nothing of it is left that others need.
pub(in crate::reconcile::plan) fn member(
    object: &ObjectRef,
    spec: &MemberSpec,
    lost: bool,
    view: &View<'_>,
    plan: &mut Plan,
    push: &mut dyn FnMut(Step, &mut Plan),
) -> bool {
    if packaged(view.desired).is_none() {
        return true;
    }
    let name = object.name.as_str();
    let cluster = match super::cluster(view) {
        Ok(cluster) => cluster,
        Err(why) => {
            plan.unknown("Ceph", &why);
            return false;
        }
    };
    let has = report(name, view);
    let leaving: Vec<Leaving<'_>> = cluster
        .osds_of(name)
        .map(|(id, osd)| Leaving {
            member: name,
            id,
            osd,
            here: has.and_then(|h| h.osds.iter().find(|o| o.uuid == osd.uuid)),
            lost: lost && has.is_none(),
        })
        .collect();
    if !osds(object, &leaving, cluster, view, plan, push) {
        return false;
    }
    let disks = view.world.hosts.get(name).filter(|_| has.is_some());
    let disks = disks.and_then(|h| h.report.known()).map(|r| &r.disks);
    for here in has.into_iter().flat_map(|h| &h.osds) {
        let ours = here.fsid == cluster.fsid && !cluster.osds.values().any(|o| o.uuid == here.uuid);
        let disk = disks
            .into_iter()
            .flatten()
            .find(|d| d.path == here.path || d.links.contains(&here.path));
        if let Some(disk) = disk.filter(|_| ours) {
            push(zap(object, name, spec, disk, here, cluster), plan);
        }
    }
    if !plan.steps.is_empty() {
        return false;
    }
    daemons(object, spec, cluster, view, plan, push)
}

/// Plans the next thing of a leaving member's daemons; says whether none is left.
fn daemons(
    object: &ObjectRef,
    spec: &MemberSpec,
    cluster: &CephCluster,
    view: &View<'_>,
    plan: &mut Plan,
    push: &mut dyn FnMut(Step, &mut Plan),
) -> bool {
    let name = object.name.as_str();
    let (_, others) = placement(view);
    if cluster.monitors.contains_key(name) {
        let cluster_ref = view
            .desired
            .cluster()
            .map(|(reference, _)| reference.clone());
        plan.wait(
            cluster_ref.map_or(Topic::World, Topic::Object),
            reasons::DEPENDENCY,
            format!("the monitor of {name} goes when all others that are to run are in the quorum"),
        );
        return false;
    }
    let Some(has) = report(name, view) else {
        return true;
    };
    let mut clear = true;
    for daemon in &has.daemons {
        clear = false;
        let kind = daemon.kind;
        let missing: Vec<&str> = match kind {
            CephDaemonKind::Mon => Vec::new(),
            CephDaemonKind::Mgr => others
                .iter()
                .copied()
                .filter(|o| !cluster.managers.has(o))
                .collect(),
            CephDaemonKind::Mds => others
                .iter()
                .copied()
                .filter(|o| !cluster.mds.contains_key(*o))
                .collect(),
        };
        if !missing.is_empty() {
            plan.wait(
                Topic::Object(ObjectRef::new(Kind::Member, missing[0])),
                reasons::DEPENDENCY,
                format!(
                    "the {kind} of {name} goes when that of {} runs",
                    missing.join(", ")
                ),
            );
            continue;
        }
        let step = Step::new(
            object,
            Action::CephHost {
                target: target(name, spec),
                request: CephRequest::RemoveDaemon {
                    kind,
                    name: daemon.name.clone(),
                },
            },
            vec![Claim::exclusive(ClaimOn::Member(name.to_owned()))],
            format!("take away the {kind} of {name}"),
        );
        push(step, plan);
    }
    clear
}

/// A monitor of the map that is none of those that are to be though it works, and may go now: that
/// of a member that leaves, or one of two where one is to be left.
pub(super) fn spare_monitor<'a>(
    monitors: &[&str],
    cluster: &'a CephCluster,
    view: &View<'_>,
) -> Option<&'a str> {
    let stands = |name: &str| cluster.monitors.get(name).is_some_and(|m| m.in_quorum);
    if monitors.is_empty()
        || !monitors.iter().all(|name| stands(name))
        || !cluster.monitors.values().all(|m| m.in_quorum)
    {
        return None;
    }
    let mut spare: Vec<(bool, &str)> = cluster
        .monitors
        .keys()
        .filter(|name| !monitors.contains(&name.as_str()))
        .filter(|name| view.desired.member(name).is_some())
        .map(|name| (!removal::is_under_way(name, view), name.as_str()))
        .collect();
    // That of a member that leaves goes first.
    spare.sort_unstable();
    spare.first().map(|(_, name)| *name)
}

/// The cluster that forgets a member, if one is run here.
pub(in crate::reconcile::plan) fn fsid(view: &View<'_>) -> Option<String> {
    packaged(view.desired)?;
    super::cluster(view)
        .ok()
        .map(|cluster| cluster.fsid.clone())
}
