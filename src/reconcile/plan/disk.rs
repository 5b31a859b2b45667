//! `Disk`: which disk of each member is taken, and that nothing on it is lost unasked.
//!
//! # Guarantees
//! - A selection is resolved once, in the order of the disks' stable paths, and kept.
//! - A disk is known by its stable path, serial and size, never by the kernel's name.
//! - A disk that is not blank is only taken with `wipe: true` and an approval that names its
//!   serial; the root disk never.

use super::ceph::disk as ceph_disk;
use super::cluster::target;
use super::diff::Verb;
use super::member::silence;
use super::pool::{on_member, same_device};
use super::step::{Action, Claim, ClaimOn, Step};
use super::{Change, Plan, Record, Topic, View, reasons};
use crate::reconcile::memory::DiskChoice;
use crate::resources::disk_filter::Filter;
use crate::resources::kinds::{DiskSpec, DiskUse};
use crate::resources::value::Presence;
use crate::resources::{Kind, ObjectRef, Spec};
use crate::services::host::{DiskReport, WipeDisk};

pub(super) fn plan(object: &ObjectRef, spec: &DiskSpec, view: &View<'_>) -> Plan {
    if spec.usage == DiskUse::Ceph {
        return ceph_disk::plan(object, spec, view);
    }
    let mut plan = Plan::nothing(object);
    if spec.state == Presence::Absent {
        plan.refuse(
            reasons::UNSUPPORTED,
            "a pool's disk cannot be taken out of it: delete the pool with state: Absent first",
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
    let report = host
        .filter(|h| h.error.is_none())
        .and_then(|h| h.report.known());
    let chosen = view
        .memory
        .disks
        .get(object)
        .and_then(|choices| choices.get(member));
    let Some(report) = report else {
        if chosen.is_none_or(|c| !c.handed_over) {
            let why = silence(member, view);
            plan.wait(Topic::Host(member.to_owned()), reasons::UNREACHABLE, why);
        }
        return;
    };
    if let Some(choice) = chosen {
        let found = report.disks.iter().find(|d| is_choice(d, choice));
        match found {
            None => plan.wait(
                Topic::Host(member.to_owned()),
                reasons::NO_DISK,
                format!("{} ({}) is gone from {member}", choice.path, choice.serial),
            ),
            Some(disk) if !choice.handed_over => take(object, spec, member, disk, view, plan),
            Some(_) => {}
        }
        return;
    }
    match select(object, spec, member, &report.disks, view) {
        Ok(disk) => take(object, spec, member, disk, view, plan),
        Err(message) => plan.wait(Topic::Host(member.to_owned()), reasons::NO_DISK, message),
    }
}

pub(super) fn is_choice(disk: &DiskReport, choice: &DiskChoice) -> bool {
    disk.serial == choice.serial
        && disk.size == choice.size
        && (disk.path == choice.path || disk.links.contains(&choice.path))
}

/// The disk a resource means on one member.
pub(super) fn select<'a>(
    object: &ObjectRef,
    spec: &DiskSpec,
    member: &str,
    disks: &'a [DiskReport],
    view: &View<'_>,
) -> Result<&'a DiskReport, String> {
    let taken = |disk: &DiskReport| {
        view.memory
            .disks
            .iter()
            .filter(|(other, _)| *other != object || spec.usage == DiskUse::Ceph)
            .flat_map(|(other, _)| ceph_disk::choices(other, member, view))
            .any(|(_, choice)| is_choice(disk, choice))
    };
    if let Some(path) = &spec.path {
        let found = disks.iter().find(|d| is_named(d, path));
        return match found {
            None => Err(format!("{member} has no disk {path}")),
            Some(disk) if disk.root => Err(format!("{path} is the root disk of {member}")),
            Some(disk) if taken(disk) => {
                Err(format!("{path} of {member} is taken by another Disk"))
            }
            Some(disk) => match beside(disk, member, view) {
                Some(other) => Err(format!(
                    "{path} of {member} is given by {other} for a log or a database beside a disk"
                )),
                None => Ok(disk),
            },
        };
    }
    let text = spec.matching.as_deref().unwrap_or_default();
    let filter = Filter::parse(text).map_err(|e| format!("match: {e}"))?;
    let mut order: Vec<&DiskReport> = disks
        .iter()
        .filter(|d| !d.root && !d.read_only && d.disk_type != "cdrom" && !taken(d))
        .filter(|d| beside(d, member, view).is_none())
        .filter(|d| filter.matches(&|field| field_of(d, field)))
        .collect();
    order.sort_by(|a, b| a.path.cmp(&b.path));
    let nameless = order.iter().find(|d| !is_known_again(d)).copied();
    order.retain(|d| is_known_again(d) || in_pool(spec, member, d, view));
    let ready = order
        .iter()
        .find(|d| d.signatures.is_empty() || in_pool(spec, member, d, view));
    match (ready, order.first()) {
        (Some(disk), _) => Ok(disk),
        (None, Some(first)) if spec.wipe => Ok(first),
        (None, Some(first)) => Err(format!(
            "no empty disk of {member} matches `{text}`; {} matches and has: {}",
            first.path,
            first.signatures.join(", ")
        )),
        (None, None) => Err(nameless.map_or_else(
            || format!("no disk of {member} matches `{text}`"),
            |disk| without_name(disk, member),
        )),
    }
}

/// Whether a path leads to a disk.
fn is_named(disk: &DiskReport, path: &str) -> bool {
    disk.path == path
        || disk.links.iter().any(|l| l == path)
        || path.strip_prefix("/dev/") == Some(&disk.name)
}

/// The resource that gives a disk for a log or a database beside others.
fn beside<'a>(disk: &DiskReport, member: &str, view: &View<'a>) -> Option<&'a ObjectRef> {
    view.desired
        .of_kind(Kind::Disk)
        .find(|(_, resource)| match &resource.spec {
            Spec::Disk(spec) => {
                let mut given = spec.wal.iter().chain(&spec.db);
                on_member(spec, member) && given.any(|path| is_named(disk, path))
            }
            _ => false,
        })
        .map(|(reference, _)| reference)
}

/// Whether a disk can be told from others after a boot, which may give its name to another one.
fn is_known_again(disk: &DiskReport) -> bool {
    let by_id = |path: &String| path.starts_with("/dev/disk/by-id/");
    !disk.serial.is_empty() || by_id(&disk.path) || disk.links.iter().any(by_id)
}

fn without_name(disk: &DiskReport, member: &str) -> String {
    format!(
        "{} of {member} has neither a serial number nor a name below /dev/disk/by-id: after a boot \
         another disk may have its name, so it is neither taken nor wiped; give it one (a virtual \
         disk gets its serial number from the hypervisor)",
        disk.path
    )
}

/// A disk's field as the filter language names it.
pub fn field_of(disk: &DiskReport, field: &str) -> Option<String> {
    Some(match field {
        "id" => disk.name.clone(),
        "device_id" => disk
            .path
            .strip_prefix("/dev/disk/by-id/")
            .unwrap_or_default()
            .to_owned(),
        "device_path" => disk
            .links
            .iter()
            .find_map(|l| l.strip_prefix("/dev/disk/by-path/"))?
            .to_owned(),
        "model" => disk.model.clone(),
        "type" => disk.disk_type.clone(),
        "serial" => disk.serial.clone(),
        "wwn" => disk.wwn.clone(),
        "pci_address" => disk.pci_address.clone(),
        "block_size" => disk.block_size.to_string(),
        "rpm" => disk.rpm.to_string(),
        "size" => disk.size.to_string(),
        "rotational" => disk.rotational.to_string(),
        "read_only" => disk.read_only.to_string(),
        "removable" => disk.removable.to_string(),
        "mounted" => disk
            .signatures
            .iter()
            .any(|s| s.starts_with("mounted"))
            .to_string(),
        _ => return None,
    })
}

/// Whether the disk is what the pool was made from already, or an OSD of the cluster: then it is
/// adopted as it is.
fn in_pool(spec: &DiskSpec, member: &str, disk: &DiskReport, view: &View<'_>) -> bool {
    let DiskUse::Pool(pool) = &spec.usage else {
        return super::ceph::report(member, view)
            .is_some_and(|has| ceph_disk::osd_on(disk, has).is_some());
    };
    let part = view
        .world
        .lxd
        .pools
        .known()
        .and_then(|pools| pools.get(pool))
        .and_then(|pool| pool.members.get(member))
        .and_then(|part| part.known());
    part.is_some_and(|part| {
        ["volatile.initial_source", "source"]
            .into_iter()
            .filter_map(|key| part.config.get(key))
            .any(|source| same_device(source, &disk.path, member, view))
    })
}

pub(super) fn take(
    object: &ObjectRef,
    spec: &DiskSpec,
    member: &str,
    disk: &DiskReport,
    view: &View<'_>,
    plan: &mut Plan,
) {
    let claims = || {
        vec![Claim::exclusive(ClaimOn::Device(
            member.to_owned(),
            disk.path.clone(),
        ))]
    };
    if !is_known_again(disk) && !in_pool(spec, member, disk, view) {
        plan.refuse(reasons::DISK_NAMELESS, without_name(disk, member));
        return;
    }
    let key = match spec.usage {
        DiskUse::Ceph => ceph_disk::key(member, disk),
        DiskUse::Pool(_) => member.to_owned(),
    };
    let choice = |handed_over: bool| DiskChoice {
        path: disk.path.clone(),
        serial: disk.serial.clone(),
        size: disk.size,
        handed_over,
    };
    plan.verb = Verb::Update;
    plan.grown.insert(format!("disk.{member}"));
    plan.changes.push(Change::new(
        format!("disk.{member}"),
        None,
        Some(&disk.path),
    ));
    if disk.signatures.is_empty() || in_pool(spec, member, disk, view) {
        plan.steps.push(Step::new(
            object,
            Action::ChooseDisk {
                member: key,
                choice: choice(true),
            },
            claims(),
            format!("take {} of {member}", disk.path),
        ));
        return;
    }
    let has = disk.signatures.join(", ");
    if !spec.wipe {
        plan.refuse(
            reasons::DISK_NOT_EMPTY,
            format!(
                "{} of {member} is not empty ({has}): say wipe: true if all of it may be destroyed",
                disk.path
            ),
        );
        return;
    }
    if disk.root
        || disk
            .signatures
            .iter()
            .any(|s| s.starts_with("mounted") || s.contains("held"))
    {
        plan.refuse(
            reasons::DISK_NOT_EMPTY,
            format!(
                "{} of {member} is in use ({has}) and is never wiped",
                disk.path
            ),
        );
        return;
    }
    // Without a serial number, the path is one below by-id.
    let id = if disk.serial.is_empty() {
        &disk.path
    } else {
        &disk.serial
    };
    let approval = format!("{object}/wipe@{member}:{id}");
    if !view.memory.approved(&approval, view.now) {
        plan.needs_approval(
            approval,
            format!(
                "wiping {} of {member} destroys what is on it ({has})",
                disk.path
            ),
        );
        return;
    }
    let Some(spec_of_member) = view.desired.member(member) else {
        let reference = ObjectRef::new(Kind::Member, member);
        plan.wait(
            Topic::Object(reference.clone()),
            reasons::DEPENDENCY,
            format!("no {reference} says where the machine is"),
        );
        return;
    };
    // The choice is kept before anything is destroyed: after a crash the same disk is meant.
    plan.steps.push(Step::new(
        object,
        Action::ChooseDisk {
            member: key,
            choice: choice(false),
        },
        claims(),
        format!("take {} of {member}", disk.path),
    ));
    let mut wipe = Step::new(
        object,
        Action::WipeDisk {
            target: target(member, spec_of_member),
            disk: WipeDisk {
                path: disk.path.clone(),
                serial: disk.serial.clone(),
                size: disk.size,
            },
        },
        claims(),
        format!("wipe {} of {member}", disk.path),
    );
    wipe.approval = Some(approval);
    plan.steps.push(wipe);
}
