//! Ceph as the distribution's packages run it: the cluster, where its daemons run, its disks, and
//! the pools on it.
//!
//! # Guarantees
//! - A cluster is formed once: never while a machine that answers has one, nor after one was formed.
//! - Monitors stay where they are while their members stay.
//! - Copies and the failure domain are raised as machines with OSDs appear, and lowered only when
//!   `replicas` says so.

mod config;
mod copies;
pub(super) mod disk;
mod form;
mod health;
pub(super) mod member;
mod placement;
pub(super) mod pool;

use super::{Plan, View};
use crate::reconcile::desired::Desired;
use crate::resources::ObjectRef;
use crate::resources::kinds::{CephProvider, CephSpec, ClusterSpec};
use crate::services::host::{CephDaemonKind, CephReport};

/// The inventory remembers by this path that a cluster was formed.
const FORMED: &str = "ceph.fsid.";

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

/// What a machine that answers has of Ceph.
pub(super) fn report<'a>(member: &str, view: &View<'a>) -> Option<&'a CephReport> {
    let host = view.world.hosts.get(member)?;
    if host.error.is_some() {
        return None;
    }
    host.report.known().map(|r| &r.ceph)
}

/// What the `Cluster` wants of Ceph.
pub(super) fn plan(object: &ObjectRef, spec: &ClusterSpec, view: &View<'_>, plan: &mut Plan) {
    let Some(ceph) = packaged(view.desired) else {
        return;
    };
    match view.world.ceph.cluster.get() {
        Ok(cluster) => {
            if let Some(record) = &mut plan.record {
                record.applied.insert(format!("{FORMED}{}", cluster.fsid));
            }
            config::hold(object, ceph, cluster, view, plan);
            placement::replace(object, cluster, view, plan);
            health::health(cluster, view, plan);
        }
        Err(why) => {
            keep_marker(object, view, plan);
            let ours = form::own_fsid(object, spec, view);
            // A machine that has only the beginnings of our own is gone on with.
            let has_one = |r: &CephReport| {
                r.daemon(CephDaemonKind::Mon).is_some()
                    || (!r.fsid.is_empty() && Some(&r.fsid) != ours.as_ref())
            };
            let exists = view
                .desired
                .members()
                .any(|(name, _)| report(name, view).is_some_and(has_one));
            if !exists {
                form::form(object, spec, ceph, view, plan);
            } else {
                plan.unknown("Ceph", why);
            }
        }
    }
}

/// That a cluster was formed stays remembered while it cannot be read.
fn keep_marker(object: &ObjectRef, view: &View<'_>, plan: &mut Plan) {
    let before = view.entry(object).into_iter().flat_map(|e| &e.applied);
    let kept: Vec<String> = before.filter(|p| p.starts_with(FORMED)).cloned().collect();
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
