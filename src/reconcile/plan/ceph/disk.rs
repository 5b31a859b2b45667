//! `Disk` with `use: ceph`: which disks become OSDs, and how those are.
//!
//! # Guarantees
//! - A disk is chosen once, in the order of the stable paths, and kept; as many per member as
//!   `limit` says, all that match without it.
//! - Only a disk that is blank, or was made blank after an approval, becomes an OSD. One that
//!   holds an OSD of this cluster already is adopted.
//! - An OSD that was set out is shown, and stays out.
//! - With `state: Absent` its OSDs go when nothing is lost with them, each by an approval, and the
//!   disks are given back blank. One that is gone from its machine is replaced by an approval.

use super::leave::{self, Leaving, Thin};
use super::{health, packaged, report};
use crate::reconcile::memory::DiskChoice;
use crate::reconcile::plan::cluster::target;
use crate::reconcile::plan::diff::Verb;
use crate::reconcile::plan::disk::{is_choice, select, take};
use crate::reconcile::plan::member::silence;
use crate::reconcile::plan::pool::on_member;
use crate::reconcile::plan::step::{Action, CephChange, Claim, ClaimOn, Step};
use crate::reconcile::plan::{Change, Plan, Record, Topic, View, reasons};
use crate::resources::kinds::{DiskSpec, MemberSpec};
use crate::resources::value::Presence;
use crate::resources::{Kind, ObjectRef};
use crate::services::ceph::{CephCluster, Osd};
use crate::services::host::{CephOsd, CephReport, CephRequest, DiskReport, WipeDisk};
use std::collections::{BTreeMap, BTreeSet};

/// How a choice of more than one disk of a member is kept.
pub(in crate::reconcile::plan) fn key(member: &str, disk: &DiskReport) -> String {
    format!("{member}:{}", disk.path)
}

/// The choices of a resource on one member.
pub(in crate::reconcile::plan) fn choices<'a>(
    object: &ObjectRef,
    member: &'a str,
    view: &View<'a>,
) -> impl Iterator<Item = (&'a str, &'a DiskChoice)> {
    view.memory
        .disks
        .get(object)
        .into_iter()
        .flatten()
        .filter(move |(key, _)| {
            key.as_str() == member || key.strip_prefix(member).is_some_and(|r| r.starts_with(':'))
        })
        .map(|(key, choice)| (key.as_str(), choice))
}

pub(in crate::reconcile::plan) fn plan(
    object: &ObjectRef,
    spec: &DiskSpec,
    view: &View<'_>,
) -> Plan {
    let mut plan = Plan::nothing(object);
    if packaged(view.desired).is_none() {
        plan.refuse(
            reasons::UNSUPPORTED,
            "OSDs are made only where the Cluster has ceph: {provider: packaged}",
        );
        return plan;
    }
    if spec.state == Presence::Absent {
        leave(object, spec, view, &mut plan);
        return plan;
    }
    let names: Vec<&str> = view
        .desired
        .staying()
        .map(|(name, _)| name)
        .filter(|name| on_member(spec, name))
        .collect();
    for member in names {
        on_one(object, spec, member, view, &mut plan);
    }
    plan.record = Some(Record {
        exists: true,
        ..Record::default()
    });
    plan
}

fn on_one(object: &ObjectRef, spec: &DiskSpec, member: &str, view: &View<'_>, plan: &mut Plan) {
    let host = view.world.hosts.get(member);
    let disks = host
        .filter(|h| h.error.is_none())
        .and_then(|h| h.report.known())
        .map(|r| r.disks.as_slice());
    let (Some(disks), Some(has)) = (disks, report(member, view)) else {
        plan.wait(
            Topic::Host(member.to_owned()),
            reasons::UNREACHABLE,
            silence(member, view),
        );
        return;
    };
    let member_ref = ObjectRef::new(Kind::Member, member);
    let cluster = super::cluster(view).ok();
    let Some(cluster) = cluster.filter(|c| has.admin && has.fsid == c.fsid) else {
        plan.verb = Verb::Update;
        plan.wait(
            Topic::Object(member_ref.clone()),
            reasons::DEPENDENCY,
            match super::cluster(view) {
                Ok(_) => format!("{member_ref} has no access to Ceph yet"),
                Err(why) => format!("Ceph cannot be read: {why}"),
            },
        );
        return;
    };
    let mut chosen = 0;
    for (key, choice) in choices(object, member, view) {
        chosen += 1;
        match disks.iter().find(|d| is_choice(d, choice)) {
            None => gone(object, member, key, choice, disks, has, cluster, view, plan),
            Some(disk) if !choice.handed_over => take(object, spec, member, disk, view, plan),
            Some(disk) => osd(object, spec, member, disk, has, cluster, view, plan),
        }
    }
    let limit = match (&spec.path, spec.limit) {
        (Some(_), _) => 1,
        (None, Some(limit)) => usize::try_from(limit).unwrap_or(usize::MAX),
        (None, None) => usize::MAX,
    };
    if chosen >= limit {
        return;
    }
    // One after the other: what is chosen is remembered before the next one is looked for.
    match select(object, spec, member, disks, view) {
        Ok(disk) => take(object, spec, member, disk, view, plan),
        // What there is is taken; more may be plugged in later.
        Err(_) if chosen > 0 && spec.limit.is_none() => {}
        Err(message) => plan.wait(Topic::Host(member.to_owned()), reasons::NO_DISK, message),
    }
}

/// The path by which the inventory remembers that an OSD's going was approved and begun.
fn going(uuid: &str) -> String {
    format!("leaving.{uuid}")
}

/// The OSD a step is about.
fn osd_of(step: &Step) -> Option<i64> {
    match &step.action {
        Action::Ceph {
            change: CephChange::SetOut { id } | CephChange::Purge { id, .. },
        }
        | Action::CephHost {
            request: CephRequest::StopOsd { id, .. },
            ..
        } => Some(*id),
        _ => None,
    }
}

/// Takes the OSDs of a `Disk` that is wanted absent out of use, and gives its disks back blank.
fn leave(object: &ObjectRef, spec: &DiskSpec, view: &View<'_>, plan: &mut Plan) {
    let members: Vec<(&str, &MemberSpec)> = view
        .desired
        .staying()
        .filter(|(name, _)| on_member(spec, name))
        .collect();
    let mut all: Vec<(&str, &MemberSpec, &str, &DiskChoice)> = Vec::new();
    for (member, machine) in members {
        let own = choices(object, member, view);
        all.extend(own.map(|(key, choice)| (member, machine, key, choice)));
    }
    if all.is_empty() {
        if view.entry(object).is_some() {
            plan.verb = Verb::Delete;
            plan.steps.push(Step::new(
                object,
                Action::Release,
                vec![Claim::exclusive(ClaimOn::Object(object.clone()))],
                format!("forget {object}, which has no disk any more"),
            ));
        }
        return;
    }
    plan.verb = Verb::Delete;
    let cluster = match super::cluster(view) {
        Ok(cluster) => cluster,
        Err(why) => return plan.unknown("Ceph", &why),
    };
    let mut leaving: Vec<Leaving<'_>> = Vec::new();
    for (member, machine, key, choice) in all {
        let host = view.world.hosts.get(member);
        let machine_report = host
            .filter(|h| h.error.is_none())
            .and_then(|h| h.report.known());
        let (Some(seen), Some(has)) = (machine_report, report(member, view)) else {
            let why = silence(member, view);
            plan.wait(Topic::Host(member.to_owned()), reasons::UNREACHABLE, why);
            continue;
        };
        let Some(disk) = seen.disks.iter().find(|d| is_choice(d, choice)) else {
            gone(
                object,
                member,
                key,
                choice,
                &seen.disks,
                has,
                cluster,
                view,
                plan,
            );
            continue;
        };
        let Some(here) = osd_on(disk, has) else {
            plan.changes.push(Change::new(
                format!("disk.{member}"),
                Some(&disk.path),
                None,
            ));
            plan.steps
                .push(drop_choice(object, member, key, &disk.path));
            continue;
        };
        let known = cluster.osds.iter().find(|(_, osd)| osd.uuid == here.uuid);
        match known {
            Some((id, osd)) => leaving.push(Leaving {
                member,
                id: *id,
                osd,
                here: Some(here),
                lost: false,
            }),
            None => plan
                .steps
                .push(leave::zap(object, member, machine, disk, here, cluster)),
        }
    }
    let ids: BTreeSet<i64> = leaving.iter().map(|one| one.id).collect();
    match leave::thin(&ids, &object.to_string(), cluster, view) {
        None => {}
        Some(_) if leaving.is_empty() => {}
        Some(Thin::Waits(why)) => {
            plan.wait(Topic::World, reasons::PGS_NOT_CLEAN, why);
            return;
        }
        Some(Thin::Refused(why)) => return plan.refuse(reasons::REMOVAL, why),
    }
    let entry = view.entry(object);
    let mut approvals: BTreeMap<i64, String> = BTreeMap::new();
    leaving.retain(|one| {
        let uuid = &one.osd.uuid;
        let step = format!("{object}/remove@{uuid}");
        if view.memory.approved(&step, view.now) {
            approvals.insert(one.id, step);
        } else if !entry.is_some_and(|e| e.applied.contains(&going(uuid))) {
            plan.needs_approval(
                step,
                format!(
                    "taking osd.{} of {} out of use moves all its data to others and clears its \
                     disk",
                    one.id, one.member
                ),
            );
            return false;
        }
        true
    });
    let uuids: BTreeMap<i64, String> = leaving
        .iter()
        .map(|one| (one.id, one.osd.uuid.clone()))
        .collect();
    let mut push = |mut step: Step, plan: &mut Plan| {
        if let Some(id) = osd_of(&step) {
            step.approval = approvals.get(&id).cloned();
            step.remembers = uuids.get(&id).map(|uuid| going(uuid));
        }
        plan.steps.push(step);
    };
    leave::osds(object, &leaving, cluster, view, plan, &mut push);
}

/// The step that forgets which disk was chosen.
fn drop_choice(object: &ObjectRef, member: &str, key: &str, path: &str) -> Step {
    Step::new(
        object,
        Action::ForgetDisk {
            key: key.to_owned(),
        },
        vec![Claim::exclusive(ClaimOn::Device(
            member.to_owned(),
            path.to_owned(),
        ))],
        format!("give {path} of {member} back"),
    )
}

/// A disk that was chosen is not there any more, on a machine that answers: it failed, or was
/// pulled. Giving it up is for a person to say; then another one may take its place.
#[expect(clippy::too_many_arguments, reason = "they are what one disk is about")]
fn gone(
    object: &ObjectRef,
    member: &str,
    key: &str,
    choice: &DiskChoice,
    disks: &[DiskReport],
    has: &CephReport,
    cluster: &CephCluster,
    view: &View<'_>,
    plan: &mut Plan,
) {
    plan.verb = Verb::Update;
    let id = if choice.serial.is_empty() {
        &choice.path
    } else {
        &choice.serial
    };
    let what = format!("{} ({}) is gone from {member}", choice.path, choice.serial);
    // Which OSD was on it nobody says any more: it is clear only where one disk is missing.
    let missing = view.desired.of_kind(Kind::Disk).flat_map(|(other, _)| {
        let own = choices(other, member, view);
        own.filter(|(_, c)| !disks.iter().any(|d| is_choice(d, c)))
    });
    let missing = missing.count();
    let homeless: Vec<(i64, &Osd)> = cluster
        .osds_of(member)
        .filter(|(_, osd)| has.osds.iter().all(|o| o.uuid != osd.uuid))
        .collect();
    let osd = match (missing, homeless.as_slice()) {
        (_, []) => None,
        (1, [one]) => Some(*one),
        (_, several) => {
            let ids: Vec<String> = several.iter().map(|(id, _)| format!("osd.{id}")).collect();
            plan.wait(
                Topic::Host(member.to_owned()),
                reasons::NO_DISK,
                format!(
                    "{what}; which of {} was on it is not known: plug it in again, or strike that \
                     OSD off by hand (ceph osd purge ID --force)",
                    ids.join(", ")
                ),
            );
            return;
        }
    };
    let marker = going(id);
    let approval = format!("{object}/replace@{id}");
    let approved = view.memory.approved(&approval, view.now);
    let begun = view
        .entry(object)
        .is_some_and(|e| e.applied.contains(&marker));
    if !approved && !begun {
        let was = osd.map_or_else(String::new, |(id, _)| format!(" with osd.{id}"));
        plan.needs_approval(
            approval,
            format!(
                "{what}{was}: plug it in again, or give it up and have another one take its place"
            ),
        );
        return;
    }
    let mut push = |mut step: Step, plan: &mut Plan| {
        step.approval = approved.then(|| approval.clone());
        step.remembers = Some(marker.clone());
        plan.steps.push(step);
    };
    if let Some((id, osd)) = osd {
        let leaving = [Leaving {
            member,
            id,
            osd,
            here: None,
            lost: true,
        }];
        leave::osds(object, &leaving, cluster, view, plan, &mut push);
        return;
    }
    plan.changes.push(Change::new(
        format!("disk.{member}"),
        Some(&choice.path),
        None,
    ));
    push(drop_choice(object, member, key, &choice.path), plan);
}

/// The OSD of the cluster that is on a disk.
pub(in crate::reconcile::plan) fn osd_on<'a>(
    disk: &DiskReport,
    has: &'a CephReport,
) -> Option<&'a CephOsd> {
    has.osds.iter().find(|o| {
        !o.fsid.is_empty()
            && o.fsid == has.fsid
            && (o.path == disk.path || disk.links.contains(&o.path))
    })
}

#[expect(clippy::too_many_arguments, reason = "they are what one OSD is about")]
fn osd(
    object: &ObjectRef,
    spec: &DiskSpec,
    member: &str,
    disk: &DiskReport,
    has: &CephReport,
    cluster: &CephCluster,
    view: &View<'_>,
    plan: &mut Plan,
) {
    let Some(machine) = view.desired.member(member).map(|m| target(member, m)) else {
        return;
    };
    let claims = || {
        vec![
            Claim::exclusive(ClaimOn::Device(member.to_owned(), disk.path.clone())),
            Claim::exclusive(ClaimOn::Osds(member.to_owned())),
        ]
    };
    let ask = |request: CephRequest, change: Change, sentence: String, plan: &mut Plan| {
        plan.verb = Verb::Update;
        plan.changes.push(change);
        let action = Action::CephHost {
            target: machine.clone(),
            request,
        };
        plan.steps
            .push(Step::new(object, action, claims(), sentence).beside());
    };
    let path = format!("osd.{member}");
    let found = osd_on(disk, has).and_then(|o| Some((o, o.id?)));
    let Some((found, id)) = found.filter(|(o, _)| o.ready) else {
        // One that was cut in two while it was made is begun anew by the machine.
        let half = has.osds.iter().any(|o| o.path == disk.path && !o.ready);
        if disk.signatures.is_empty() || half {
            plan.grown.insert(path.clone());
            ask(
                CephRequest::CreateOsd {
                    fsid: cluster.fsid.clone(),
                    disk: WipeDisk {
                        path: disk.path.clone(),
                        serial: disk.serial.clone(),
                        size: disk.size,
                    },
                    encrypt: spec.encrypt,
                    wal: spec.wal.clone(),
                    db: spec.db.clone(),
                },
                Change::new(path, None, Some(&disk.path)),
                format!("make an OSD of {} on {member}", disk.path),
                plan,
            );
        } else {
            plan.refuse(
                reasons::DISK_NOT_EMPTY,
                format!(
                    "{} of {member} was chosen, but now holds something that is no OSD of this \
                     cluster: {}",
                    disk.path,
                    disk.signatures.join(", ")
                ),
            );
        }
        return;
    };
    let known = cluster.osds.get(&id).filter(|o| o.uuid == found.uuid);
    let Some(known) = known else {
        plan.refuse(
            reasons::OSD_UNKNOWN,
            format!(
                "{} of {member} holds osd.{id} ({}), which the cluster does not know (any more): \
                 wipe the disk if nothing on it is needed",
                disk.path, found.uuid
            ),
        );
        return;
    };
    if !known.up && found.unit != "active" {
        ask(
            CephRequest::StartOsd {
                id,
                uuid: found.uuid.clone(),
            },
            Change::new(path, Some(&found.unit), Some("active")),
            format!("start osd.{id} of {member}"),
            plan,
        );
    } else if !known.up && known.new {
        plan.wait(
            Topic::World,
            reasons::PROGRESSING,
            format!("osd.{id} of {member} was made and starts"),
        );
    } else if !known.up {
        plan.wait(
            Topic::World,
            reasons::OSD_DOWN,
            format!(
                "osd.{id} of {member} is down, though its daemon runs: journalctl -u \
                 ceph-osd@{id} on {member} tells more if it does not come up"
            ),
        );
    } else if !known.in_ {
        plan.note(
            reasons::OSD_OUT,
            format!(
                "osd.{id} of {member} was set out and holds no data; it is left out until \
                 somebody says: ceph osd in {id}"
            ),
        );
    } else {
        health::of_osd(id, member, known, plan);
    }
}
