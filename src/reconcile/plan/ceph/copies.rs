//! How many copies there are of everything, and what two of them never share.

use super::{MGR_POOL, packaged};
use crate::reconcile::desired::Desired;
use crate::reconcile::plan::View;
use crate::resources::kinds::{DiskSpec, DiskUse, MemberState};
use crate::resources::value::Presence;
use crate::resources::{Kind, ObjectRef, Spec};
use crate::services::ceph::CephCluster;
use std::collections::BTreeSet;
use std::fmt;

/// How many copies there are at most unless `replicas` says otherwise.
const COPIES: usize = 3;

/// How many racks must have OSDs before copies are kept apart by rack.
const RACKS: usize = 3;

/// What two copies never share. In the order of what they outlive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Domain {
    Osd,
    Host,
    Rack,
}

impl Domain {
    const ALL: [Domain; 3] = [Domain::Osd, Domain::Host, Domain::Rack];

    /// The name of its CRUSH rule.
    pub(super) fn rule(self) -> &'static str {
        match self {
            Domain::Osd => "microcloud_osd",
            Domain::Host => "microcloud_host",
            Domain::Rack => "microcloud_rack",
        }
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Domain::Osd => "osd",
            Domain::Host => "host",
            Domain::Rack => "rack",
        })
    }
}

/// `Disk`s that become OSDs.
fn disks(desired: &Desired) -> impl Iterator<Item = (&ObjectRef, &DiskSpec)> {
    desired
        .of_kind(Kind::Disk)
        .filter_map(|(reference, resource)| match &resource.spec {
            Spec::Disk(disk) if disk.usage == DiskUse::Ceph && disk.state == Presence::Present => {
                Some((reference, disk))
            }
            _ => None,
        })
}

/// Members that are to have OSDs.
fn hosts_to_be(desired: &Desired) -> BTreeSet<&str> {
    disks(desired)
        .flat_map(|(_, disk)| disk.member.iter().chain(disk.members.iter().flatten()))
        .map(String::as_str)
        .filter(|name| {
            let spec = desired.member(name);
            spec.is_none_or(|m| m.state != MemberState::Absent)
        })
        .collect()
}

/// Whether the failure domain is the rack once all members have the OSDs they are to have.
pub(super) fn racks_to_be(view: &View<'_>) -> bool {
    let replicas = packaged(view.desired).and_then(|s| s.replicas);
    let copies = replicas.map_or(COPIES, |r| usize::try_from(r).unwrap_or(COPIES));
    in_racks(&hosts_to_be(view.desired), copies, view)
}

/// Whether all hosts are in racks, and in enough of them for so many copies.
fn in_racks(hosts: &BTreeSet<&str>, copies: usize, view: &View<'_>) -> bool {
    let racks: Vec<Option<&str>> = hosts.iter().map(|h| rack(h, view)).collect();
    let different: BTreeSet<&str> = racks.iter().copied().flatten().collect();
    racks.iter().all(Option::is_some) && different.len() >= copies.max(RACKS)
}

/// How many copies there are to be; `None` until the OSDs are there that the first pools are
/// made on.
pub(super) fn copies(cluster: &CephCluster, view: &View<'_>) -> Option<u32> {
    let spec = packaged(view.desired)?;
    let hosts = cluster.osd_hosts_up().len();
    let begun = cluster.pools.keys().any(|name| name != MGR_POOL);
    let before = cluster
        .config("global", "osd_pool_default_size")
        .and_then(|v| v.parse().ok())
        .unwrap_or(0);
    if let Some(replicas) = spec.replicas {
        // Pools that hold something would stand still until there is room for all the copies; and
        // a machine that is to bring room cannot join while they do.
        let room = match current(cluster) {
            Some(Domain::Osd) => cluster.osds.values().filter(|o| o.up).count(),
            _ => hosts,
        };
        let room = u32::try_from(room).unwrap_or(u32::MAX).max(before);
        let now = if begun { replicas.min(room) } else { replicas };
        return (hosts > 0 || begun).then_some(now.max(1));
    }
    let to_be = hosts_to_be(view.desired).len().min(COPIES);
    if hosts == 0 || (!begun && hosts < to_be) {
        return None;
    }
    let known = cluster.osd_hosts().len().min(COPIES);
    Some(u32::try_from(known).unwrap_or(1).max(before).max(1))
}

/// The failure domain there is to be.
pub(super) fn domain(cluster: &CephCluster, copies: u32, view: &View<'_>) -> Domain {
    let hosts = cluster.osd_hosts();
    let copies = usize::try_from(copies).unwrap_or(COPIES);
    let most = if in_racks(&hosts, copies, view) {
        Domain::Rack
    } else if hosts.len() >= copies.max(2) {
        Domain::Host
    } else {
        Domain::Osd
    };
    // A host whose disk is being replaced is no reason: only that fewer hosts are to have OSDs than
    // the copies that are asked for.
    let lowers = packaged(view.desired).is_some_and(|s| s.replicas.is_some())
        && hosts_to_be(view.desired).len() < copies;
    match current(cluster) {
        Some(now) if !lowers => most.max(now),
        _ => most,
    }
}

/// The failure domain of pools that are made now, if this program said it.
fn current(cluster: &CephCluster) -> Option<Domain> {
    let id = cluster.config("global", "osd_pool_default_crush_rule")?;
    let (name, _) = cluster.rule(id.parse().ok()?)?;
    Domain::ALL.into_iter().find(|d| d.rule() == name)
}

pub(super) fn rack<'a>(host: &str, view: &View<'a>) -> Option<&'a str> {
    view.desired.member(host)?.failure_domain.as_deref()
}
