//! Ceph as the `Cluster` wants it: the first monitor, where daemons run, what the cluster's own
//! configuration holds, and its health.
//!
//! # Guarantees
//! - A cluster is formed once: never while a machine that answers has one, nor after one was formed.
//! - Monitors stay where they are while their members stay.
//! - Copies and the failure domain are raised as machines with OSDs appear, and lowered only when
//!   `replicas` says so.

use super::cluster::target;
use super::diff::Verb;
use super::step::{Action, CephChange, Claim, ClaimOn, Guard, Step};
use super::{Change, Plan, Topic, View, ceph_pool, reasons};
use crate::reconcile::desired::Desired;
use crate::resources::kinds::{
    CephProvider, CephSpec, ClusterSpec, DiskSpec, DiskUse, MemberSpec, MemberState,
};
use crate::resources::value::Presence;
use crate::resources::{Kind, ObjectRef, Spec};
use crate::services::ceph::{CephCluster, HealthCheck};
use crate::services::host::{CephDaemonKind, CephReport, CephRequest, HostTarget};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// How many monitors, managers and metadata servers there are where there are members for them.
const DAEMONS: usize = 3;

/// How many copies there are at most unless `replicas` says otherwise.
const COPIES: usize = 3;

/// How many racks must have OSDs before copies are kept apart by rack.
const RACKS: usize = 3;

/// The inventory remembers by this path that a cluster was formed.
const FORMED: &str = "ceph.fsid.";

/// The pool the managers keep their own things in.
const MGR_POOL: &str = ".mgr";

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

/// Members that work, are in the cluster, and may run daemons of Ceph.
fn joined<'a>(view: &View<'a>) -> Vec<(&'a str, &'a MemberSpec)> {
    let members = view.world.lxd.members.known();
    view.desired
        .members()
        .filter(|(_, spec)| spec.state == MemberState::Active)
        .filter(|(name, _)| members.is_some_and(|m| m.contains_key(*name)))
        .collect()
}

/// The members that run monitors, and those that run managers and metadata servers.
///
/// Monitors are one or three: of two, the loss of either takes the majority away.
pub(super) fn placement<'a>(view: &View<'a>) -> (Vec<&'a str>, Vec<&'a str>) {
    let initiator = view.desired.cluster().map(|(_, c)| c.initiator.as_str());
    let cluster = view.world.ceph.cluster.known();
    let has_one = |name: &str| cluster.is_some_and(|c| c.monitors.contains_key(name));
    let mut left = joined(view);
    let wanted = view
        .desired
        .members()
        .filter(|(_, m)| m.state != MemberState::Absent)
        .count();
    let mut chosen: Vec<&str> = Vec::new();
    let mut domains: BTreeSet<&str> = BTreeSet::new();
    while chosen.len() < DAEMONS && !left.is_empty() {
        let best = left.iter().enumerate().min_by_key(|(_, (name, spec))| {
            let domain = spec.failure_domain.as_deref();
            (
                !has_one(name),
                Some(*name) != initiator,
                domain.is_some_and(|d| domains.contains(d)),
                *name,
            )
        });
        let Some((at, _)) = best else { break };
        let (name, spec) = left.remove(at);
        domains.extend(spec.failure_domain.as_deref());
        chosen.push(name);
    }
    let monitors = if wanted >= DAEMONS { DAEMONS } else { 1 };
    (chosen.iter().copied().take(monitors).collect(), chosen)
}

/// `Disk`s that become OSDs.
pub(super) fn disks(desired: &Desired) -> impl Iterator<Item = (&ObjectRef, &DiskSpec)> {
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
        .collect()
}

/// How many copies there are to be; `None` until the OSDs are there that the first pools are
/// made on.
pub(super) fn copies(cluster: &CephCluster, view: &View<'_>) -> Option<u32> {
    let spec = packaged(view.desired)?;
    let hosts = cluster.osd_hosts_up().len();
    let begun = cluster.pools.keys().any(|name| name != MGR_POOL);
    if let Some(replicas) = spec.replicas {
        return (hosts > 0 || begun).then_some(replicas);
    }
    let to_be = hosts_to_be(view.desired).len().min(COPIES);
    if hosts == 0 || (!begun && hosts < to_be) {
        return None;
    }
    let known = cluster.osd_hosts().len().min(COPIES);
    let before = cluster
        .config("global", "osd_pool_default_size")
        .and_then(|v| v.parse().ok())
        .unwrap_or(0);
    Some(u32::try_from(known).unwrap_or(1).max(before).max(1))
}

/// The failure domain there is to be.
pub(super) fn domain(cluster: &CephCluster, copies: u32, view: &View<'_>) -> Domain {
    let hosts = cluster.osd_hosts();
    let copies = usize::try_from(copies).unwrap_or(COPIES);
    let racks: Vec<Option<&str>> = hosts.iter().map(|h| rack(h, view)).collect();
    let different: BTreeSet<&str> = racks.iter().copied().flatten().collect();
    let most = if racks.iter().all(Option::is_some) && different.len() >= copies.max(RACKS) {
        Domain::Rack
    } else if hosts.len() >= copies.max(2) {
        Domain::Host
    } else {
        Domain::Osd
    };
    let lowers = packaged(view.desired).is_some_and(|s| s.replicas.is_some());
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

fn rack<'a>(host: &str, view: &View<'a>) -> Option<&'a str> {
    view.desired.member(host)?.failure_domain.as_deref()
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
            hold(object, ceph, cluster, view, plan);
            health(cluster, view, plan);
        }
        Err(why) => {
            keep_marker(object, view, plan);
            let ours = own_fsid(object, spec, view);
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
                form(object, spec, ceph, view, plan);
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

fn form(object: &ObjectRef, spec: &ClusterSpec, ceph: &CephSpec, view: &View<'_>, plan: &mut Plan) {
    let formed = view
        .entry(object)
        .into_iter()
        .flat_map(|e| &e.applied)
        .find_map(|path| path.strip_prefix(FORMED));
    if let Some(fsid) = formed {
        plan.refuse(
            reasons::CEPH_GONE,
            format!(
                "the Ceph cluster {fsid} was formed here and no machine that answers has it any \
                 more: bring back a machine with a monitor of it; a second one is not formed"
            ),
        );
        return;
    }
    let Some(first) = placement(view).0.first().copied() else {
        return;
    };
    let targets: Vec<HostTarget> = view
        .desired
        .members()
        .filter(|(_, m)| m.state != MemberState::Absent)
        .map(|(name, member)| target(name, member))
        .collect();
    let silent: Vec<&HostTarget> = targets
        .iter()
        .filter(|t| report(&t.name, view).is_none())
        .collect();
    let majority = targets.len() / 2 + 1;
    if targets.len() - silent.len() < majority {
        for machine in silent {
            plan.wait(
                Topic::Host(machine.name.clone()),
                reasons::NO_MAJORITY,
                format!(
                    "a majority of the machines must answer before Ceph is formed; {}",
                    super::member::silence(&machine.name, view)
                ),
            );
        }
        return;
    }
    let Some(machine) = targets.iter().find(|t| t.name == first) else {
        return;
    };
    let Some(has) = report(first, view) else {
        plan.wait(
            Topic::Host(first.to_owned()),
            reasons::UNREACHABLE,
            super::member::silence(first, view),
        );
        return;
    };
    if !has.missing.is_empty() {
        plan.wait(
            Topic::Host(first.to_owned()),
            reasons::SERVICE,
            not_installed(first, &has.missing),
        );
        return;
    }
    let Some(fsid) = own_fsid(object, spec, view) else {
        return;
    };
    plan.verb = Verb::Update;
    plan.changes
        .push(Change::new("ceph.fsid", None, Some(&fsid)));
    plan.steps.push(
        Step::new(
            object,
            Action::CephHost {
                target: machine.clone(),
                request: CephRequest::Form {
                    fsid: fsid.clone(),
                    name: first.to_owned(),
                    address: ceph_address(machine, ceph, view),
                    public_network: ceph.public_network,
                    cluster_network: ceph.cluster_network,
                },
            },
            vec![
                Claim::exclusive(ClaimOn::Monitors),
                Claim::exclusive(ClaimOn::Member(first.to_owned())),
            ],
            format!("form Ceph with the monitor of {first}"),
        )
        .guarded(Guard::NoCephAnywhere {
            targets,
            majority,
            fsid,
        }),
    );
}

pub(super) fn not_installed(member: &str, missing: &[String]) -> String {
    let packages = missing.join(" ");
    format!("Ceph is not installed on {member}: apt install {packages}")
}

/// Where a machine's monitor listens: its address in the public network, if one is given.
pub(super) fn ceph_address(
    machine: &HostTarget,
    ceph: &CephSpec,
    view: &View<'_>,
) -> std::net::IpAddr {
    let Some(network) = ceph.public_network else {
        return machine.address;
    };
    if network.contains(&machine.address) {
        return machine.address;
    }
    view.world
        .hosts
        .get(&machine.name)
        .and_then(|h| h.report.known())
        .into_iter()
        .flat_map(|r| &r.interfaces)
        .flat_map(|i| &i.addresses)
        .map(ipnet::IpNet::addr)
        .find(|a| network.contains(a))
        .unwrap_or(machine.address)
}

/// The id of the cluster that is formed for this one.
fn own_fsid(object: &ObjectRef, spec: &ClusterSpec, view: &View<'_>) -> Option<String> {
    let server = view.world.lxd.server.known()?;
    Some(fsid_of(&format!(
        "{} {} {}",
        object.name, spec.initiator, server.certificate_fingerprint
    )))
}

/// An id that is the same whenever the same cluster is planned: one that was cut in two while
/// it was formed goes on under the id it began with.
fn fsid_of(text: &str) -> String {
    let digest = Sha256::digest(format!("ceph of {text}"));
    let mut hex: String = digest[..16].iter().map(|b| format!("{b:02x}")).collect();
    // The bits that say that it is a random one.
    hex.replace_range(12..13, "4");
    hex.replace_range(16..17, "8");
    format!(
        "{}-{}-{}-{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..]
    )
}

/// Holds the cluster's own configuration, rules and racks.
fn hold(
    object: &ObjectRef,
    spec: &CephSpec,
    cluster: &CephCluster,
    view: &View<'_>,
    plan: &mut Plan,
) {
    let mut wanted: BTreeMap<(&str, &str), String> = BTreeMap::new();
    wanted.insert(
        ("mon", "auth_allow_insecure_global_id_reclaim"),
        "false".to_owned(),
    );
    for (key, network) in [
        ("public_network", spec.public_network),
        ("cluster_network", spec.cluster_network),
    ] {
        if let Some(network) = network {
            wanted.insert(("global", key), network.trunc().to_string());
        }
    }
    let mut steps = Vec::new();
    let change = |path: String, from: Option<&str>, to: &str, what: CephChange, plan: &mut Plan| {
        plan.changes.push(Change::new(path.clone(), from, Some(to)));
        Step::new(
            object,
            Action::Ceph { change: what },
            vec![Claim::exclusive(ClaimOn::Ceph)],
            format!("set {path} to {to}"),
        )
    };
    if let Some(copies) = copies(cluster, view) {
        wanted.insert(("global", "osd_pool_default_size"), copies.to_string());
        if copies == 1 {
            wanted.insert(("global", "mon_allow_pool_size_one"), "true".to_owned());
        }
        let domain = domain(cluster, copies, view);
        if domain == Domain::Rack {
            for host in cluster.osd_hosts() {
                let now = cluster.hosts.get(host).and_then(Option::as_deref);
                if let Some(rack) = rack(host, view)
                    && now != Some(rack)
                {
                    let what = CephChange::MoveHost {
                        host: host.to_owned(),
                        rack: rack.to_owned(),
                    };
                    steps.push(change(format!("ceph.rack.{host}"), now, rack, what, plan));
                }
            }
        }
        match cluster.rules.get(domain.rule()) {
            None => {
                let what = CephChange::CreateRule {
                    name: domain.rule().to_owned(),
                    failure_domain: domain.to_string(),
                };
                let path = format!("ceph.rule.{}", domain.rule());
                steps.push(change(path, None, &domain.to_string(), what, plan));
            }
            Some(rule) => {
                let key = ("global", "osd_pool_default_crush_rule");
                wanted.insert(key, rule.id.to_string());
                let pool = cluster.pools.get(MGR_POOL);
                steps.extend(
                    pool.and_then(|p| {
                        ceph_pool::held(object, MGR_POOL, p, copies, cluster, view, plan)
                    })
                    .into_iter()
                    .flatten(),
                );
            }
        }
    }
    // The permission for single copies comes before what needs it: by key order it does.
    for ((section, name), value) in wanted {
        let now = cluster.config(section, name);
        if now != Some(&value) {
            let what = CephChange::SetConfig {
                section: section.to_owned(),
                name: name.to_owned(),
                value: value.clone(),
            };
            steps.insert(
                0,
                change(format!("ceph.config.{name}"), now, &value, what, plan),
            );
        }
    }
    if !steps.is_empty() {
        if plan.verb == Verb::Unchanged {
            plan.verb = Verb::Update;
        }
        plan.steps.extend(steps);
    }
}

/// What is wrong with the cluster, as far as it is nobody else's.
fn health(cluster: &CephCluster, view: &View<'_>, plan: &mut Plan) {
    let out: Vec<&str> = cluster
        .monitors
        .iter()
        .filter(|(_, m)| !m.in_quorum)
        .map(|(name, _)| name.as_str())
        .collect();
    if !out.is_empty() {
        plan.wait(
            Topic::World,
            reasons::MONITOR_DOWN,
            format!(
                "the monitor of {} is out of the quorum; {} of {} are left",
                out.join(", "),
                cluster.monitors.len() - out.len(),
                cluster.monitors.len()
            ),
        );
    }
    let single = copies(cluster, view) == Some(1);
    for (code, check) in &cluster.health {
        // Told above, or what was asked for.
        if code == "MON_DOWN" || (code == "POOL_NO_REDUNDANCY" && single) {
            continue;
        }
        let (reason, message) = told(code, check, cluster);
        plan.wait(Topic::World, reason, message);
    }
}

/// A health check in words that stay the same while its numbers move.
fn told(code: &str, check: &HealthCheck, cluster: &CephCluster) -> (&'static str, String) {
    let states: Vec<&str> = cluster.unclean.iter().map(String::as_str).collect();
    let full = |what: &str| {
        format!("{what} ({code}): add disks, or delete what is not needed, before it is full")
    };
    match code {
        "PG_DEGRADED"
        | "PG_AVAILABILITY"
        | "PG_RECOVERY_FULL"
        | "OBJECT_DEGRADED"
        | "OBJECT_MISPLACED"
        | "PG_NOT_SCRUBBED"
        | "PG_NOT_DEEP_SCRUBBED" => (
            reasons::PGS_NOT_CLEAN,
            format!(
                "placement groups are not clean ({code}): {}",
                if states.is_empty() {
                    "see ceph pg stat".to_owned()
                } else {
                    states.join(", ")
                }
            ),
        ),
        "OSD_FULL" | "POOL_FULL" | "OSD_BACKFILLFULL" => {
            (reasons::CEPH_FULL, full("Ceph is too full to go on"))
        }
        "OSD_NEARFULL" | "POOL_NEAR_FULL" => (reasons::CEPH_FULL, full("Ceph is nearly full")),
        "MON_CLOCK_SKEW" => (
            reasons::CLOCK_SKEW,
            "the clocks of the monitors' machines differ: is time synchronised everywhere?"
                .to_owned(),
        ),
        "OSD_DOWN" | "OSD_HOST_DOWN" | "OSD_RACK_DOWN" | "OSD_ROOT_DOWN" => {
            let down: Vec<String> = cluster
                .osds
                .iter()
                .filter(|(_, o)| !o.up)
                .map(|(id, o)| format!("osd.{id} of {}", o.host))
                .collect();
            (
                reasons::OSD_DOWN,
                format!("{} down ({code})", down.join(", ")),
            )
        }
        _ => (
            reasons::CEPH_HEALTH,
            format!("Ceph says {code}: {}", check.message),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_of_one_cluster_is_always_the_same_and_looks_like_one() {
        let id = fsid_of("a b c");
        assert_eq!(id, fsid_of("a b c"));
        assert_ne!(id, fsid_of("a b d"));
        let lengths: Vec<usize> = id.split('-').map(str::len).collect();
        assert_eq!(lengths, [8, 4, 4, 4, 12]);
    }
}
