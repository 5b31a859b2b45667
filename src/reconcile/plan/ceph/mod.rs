//! Ceph as the distribution's packages run it: the cluster, where its daemons run, its disks, and
//! the pools on it.
//!
//! # Guarantees
//! - A cluster is formed once: never while a machine that answers has one, nor after one was formed,
//!   and once it was begun on a machine, on no other one.
//! - A cluster that was not formed here is not touched, whoever has its keys.
//! - Monitors stay where they are while their members stay.
//! - Copies and the failure domain are raised as machines with OSDs appear, and lowered only when
//!   `replicas` says so.

mod config;
mod copies;
pub(super) mod disk;
mod form;
mod health;
pub(super) mod leave;
pub(super) mod member;
mod placement;
pub(super) mod pool;
mod unborn;

use super::{Plan, View, reasons};
use crate::reconcile::desired::Desired;
use crate::resources::kinds::{CephProvider, CephSpec, DiskUse};
use crate::resources::{ObjectRef, Resource, Spec};
use crate::services::ceph::CephCluster;
use crate::services::host::{CephDaemonKind, CephReport};

use form::own_fsid;

/// The inventory remembers by this path that a cluster was formed.
const FORMED: &str = "ceph.fsid.";

/// The inventory remembers by this path on which machine a cluster was begun.
const BEGUN: &str = "ceph.begun.";

/// The pool the managers keep their own things in.
const MGR_POOL: &str = ".mgr";

/// Ceph as it is run from the distribution's packages, when it is.
pub(super) fn packaged(desired: &Desired) -> Option<&CephSpec> {
    let (_, cluster) = desired.cluster()?;
    cluster
        .ceph
        .as_ref()
        .filter(|c| c.provider == CephProvider::Packaged)
}

/// Whether a resource is a `Disk` that becomes OSDs.
fn is_osd_disk(resource: &Resource) -> bool {
    matches!(&resource.spec, Spec::Disk(disk) if disk.usage == DiskUse::Ceph)
}

/// What a machine that answers has of Ceph.
pub(super) fn report<'a>(member: &str, view: &View<'a>) -> Option<&'a CephReport> {
    let host = view.world.hosts.get(member)?;
    if host.error.is_some() {
        return None;
    }
    host.report.known().map(|r| &r.ceph)
}

/// What the `Cluster` wants of Ceph.
pub(super) fn plan(object: &ObjectRef, view: &View<'_>, plan: &mut Plan) {
    let Some(ceph) = packaged(view.desired) else {
        return;
    };
    match (cluster(view), view.world.ceph.cluster.get()) {
        (Ok(cluster), _) => {
            let marker = marker(cluster);
            if let Some(record) = &mut plan.record {
                record.applied.insert(marker.clone());
            }
            config::hold(object, ceph, cluster, view, plan);
            placement::replace(object, cluster, view, plan);
            unborn::strike(object, cluster, view, plan);
            health::health(cluster, view, plan);
            if !is_remembered(cluster, view) {
                // Not only once all is well: until then another one could be formed.
                for step in &mut plan.steps {
                    step.remembers.get_or_insert_with(|| marker.clone());
                }
            }
        }
        (Err(why), Ok(_)) => {
            keep_marker(object, view, plan);
            plan.refuse(reasons::OTHER_CLUSTER, why);
        }
        (Err(_), Err(why)) => {
            keep_marker(object, view, plan);
            let ours = own_fsid(view);
            // A machine that has only the beginnings of our own is gone on with.
            let has_one = |name: &str, r: &CephReport| {
                r.daemon(CephDaemonKind::Mon).is_some()
                    || (!r.fsid.is_empty() && Some(&r.fsid) != ours.as_ref())
                    || (r.admin && form::first(object, view) != Some(name))
            };
            let exists = view
                .desired
                .members()
                .any(|(name, _)| report(name, view).is_some_and(|r| has_one(name, r)));
            if !exists {
                form::form(object, ceph, view, plan);
            } else {
                plan.unknown("Ceph", why);
            }
        }
    }
}

/// The cluster, if it can be read and was formed here.
///
/// # Errors
/// Why it is not known, or that it is somebody else's: whoever has an admin key can be read.
pub(super) fn cluster<'a>(view: &View<'a>) -> Result<&'a CephCluster, String> {
    let cluster = view.world.ceph.cluster.get()?;
    // What is remembered is cheaper to see than the id is to work out.
    if is_remembered(cluster, view) {
        return Ok(cluster);
    }
    match own_fsid(view) {
        Some(own) if own == cluster.fsid => Ok(cluster),
        Some(_) => Err(format!(
            "the Ceph cluster {} was not formed here and is left alone: on members whose /etc/ceph \
             names it, move that away if nothing needs it",
            cluster.fsid
        )),
        None => Err("LXD was not read yet".to_owned()),
    }
}

fn marker(cluster: &CephCluster) -> String {
    format!("{FORMED}{}", cluster.fsid)
}

/// Whether the inventory says that this cluster was formed here.
fn is_remembered(cluster: &CephCluster, view: &View<'_>) -> bool {
    let entry = view
        .desired
        .cluster()
        .and_then(|(object, _)| view.entry(object));
    entry.is_some_and(|e| e.applied.contains(&marker(cluster)))
}

/// That a cluster was formed stays remembered while it cannot be read.
fn keep_marker(object: &ObjectRef, view: &View<'_>, plan: &mut Plan) {
    let before = view.entry(object).into_iter().flat_map(|e| &e.applied);
    let kept: Vec<String> = before
        .filter(|p| p.starts_with(FORMED) || p.starts_with(BEGUN))
        .cloned()
        .collect();
    if let Some(record) = &mut plan.record {
        record.applied.extend(kept);
    }
}

fn not_installed(member: &str, missing: &[String]) -> String {
    let packages = missing.join(" ");
    format!("Ceph is not installed on {member}: apt install {packages}")
}

/// Remembers that something holds, or tells apart whether it held before and was changed (drift),
/// or was never so and is made now.
fn mark(path: &str, value: &str, holds: bool, view: &View<'_>, plan: &mut Plan) {
    let marker = format!("{path}={value}");
    if holds {
        if let Some(record) = &mut plan.record {
            record.applied.insert(marker);
        }
    } else if !view
        .entry(&plan.object)
        .is_some_and(|e| e.applied.contains(&marker))
    {
        plan.grown.insert(path.to_owned());
    }
}
