//! OSDs in the map that were never started: what is left of one whose machine lost its power
//! between the number and the disk.
//!
//! # Guarantees
//! - One is struck off only while every member answers, none knows it, and no chosen disk still
//!   waits for its OSD: what is being made right now is never taken for left behind.
//! - Ceph itself refuses to strike off one that ever ran (`osd purge-new`).

use super::disk::{choices, osd_on};
use super::report;
use crate::reconcile::plan::disk::is_choice;
use crate::reconcile::plan::step::{Action, CephChange, Claim, ClaimOn, Guard, Step};
use crate::reconcile::plan::{Change, Plan, View};
use crate::resources::ObjectRef;
use crate::services::ceph::CephCluster;

/// Strikes them off the map.
pub(super) fn strike(object: &ObjectRef, cluster: &CephCluster, view: &View<'_>, plan: &mut Plan) {
    let mut unborn = cluster.osds.iter().filter(|(_, o)| o.new && !o.up);
    let Some((id, osd)) = unborn.find(|(_, o)| nobody_knows(&o.uuid, view)) else {
        return;
    };
    if being_made(view) {
        return;
    }
    let path = format!("ceph.osd.{id}");
    plan.grown.insert(path.clone());
    plan.changed(Change::new(path, Some("never started"), None));
    let mut claims = vec![Claim::exclusive(ClaimOn::Ceph)];
    let members = view.desired.staying();
    claims.extend(members.map(|(name, _)| Claim::exclusive(ClaimOn::Osds(name.to_owned()))));
    let (id, uuid) = (*id, osd.uuid.clone());
    plan.steps.push(
        Step::new(
            object,
            Action::Ceph {
                change: CephChange::StrikeUnborn { id },
            },
            claims,
            format!("strike osd.{id} off Ceph's map, which was never started"),
        )
        .guarded(Guard::OsdUnborn { id, uuid }),
    );
}

/// Whether all members were asked, and none has a disk or a directory of this OSD.
fn nobody_knows(uuid: &str, view: &View<'_>) -> bool {
    view.desired.staying().all(|(name, _)| {
        report(name, view).is_some_and(|has| has.osds.iter().all(|o| o.uuid != uuid))
    })
}

/// Whether a disk was chosen that has no OSD yet, as far as the machines' last looks tell.
fn being_made(view: &View<'_>) -> bool {
    view.memory.disks.keys().any(|object| {
        view.desired.staying().any(|(member, _)| {
            let disks = view.world.hosts.get(member).and_then(|h| h.report.known());
            let (Some(machine), Some(has)) = (disks, report(member, view)) else {
                return true;
            };
            let of_ceph = view
                .desired
                .resources
                .get(object)
                .is_some_and(|resource| super::is_osd_disk(resource));
            choices(object, member, view)
                .filter(|_| of_ceph)
                .any(|(_, choice)| {
                    let disk = machine.disks.iter().find(|d| is_choice(d, choice));
                    disk.is_none_or(|disk| !osd_on(disk, has).is_some_and(|o| o.ready))
                })
        })
    })
}
