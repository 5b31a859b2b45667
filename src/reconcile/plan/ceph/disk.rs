//! `Disk` with `use: ceph`: which disks become OSDs, and how those are.
//!
//! # Guarantees
//! - A disk is chosen once, in the order of the stable paths, and kept; as many per member as
//!   `limit` says, all that match without it.
//! - Only a disk that is blank, or was made blank after an approval, becomes an OSD. One that
//!   holds an OSD of this cluster already is adopted.
//! - An OSD that was set out is shown, and stays out.

use super::{health, packaged, report};
use crate::reconcile::memory::DiskChoice;
use crate::reconcile::plan::cluster::target;
use crate::reconcile::plan::diff::Verb;
use crate::reconcile::plan::disk::{is_choice, select, take};
use crate::reconcile::plan::member::silence;
use crate::reconcile::plan::pool::on_member;
use crate::reconcile::plan::step::{Action, Claim, ClaimOn, Step};
use crate::reconcile::plan::{Change, Plan, Record, Topic, View, reasons};
use crate::resources::kinds::DiskSpec;
use crate::resources::value::Presence;
use crate::resources::{Kind, ObjectRef};
use crate::services::ceph::CephCluster;
use crate::services::host::{CephOsd, CephReport, CephRequest, DiskReport, WipeDisk};

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
    if spec.state == Presence::Absent {
        plan.refuse(
            reasons::UNSUPPORTED,
            "this version takes no OSD out of use: ceph osd out N, wait until ceph osd \
             safe-to-destroy N agrees, ceph osd purge N, and remove this Disk",
        );
        return plan;
    }
    if packaged(view.desired).is_none() {
        plan.refuse(
            reasons::UNSUPPORTED,
            "OSDs are made only where the Cluster has ceph: {provider: packaged}",
        );
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
    for (_, choice) in choices(object, member, view) {
        chosen += 1;
        match disks.iter().find(|d| is_choice(d, choice)) {
            None => plan.wait(
                Topic::Host(member.to_owned()),
                reasons::NO_DISK,
                format!("{} ({}) is gone from {member}", choice.path, choice.serial),
            ),
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
