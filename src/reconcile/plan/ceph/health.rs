//! What Ceph says is wrong, in sentences that help.

use super::copies::copies;
use super::{packaged, report};
use crate::reconcile::plan::{Plan, Topic, View, reasons};
use crate::resources::{Kind, ObjectRef};
use crate::services::ceph::{CephCluster, CephPool, Fullness, HealthCheck, Osd};
use crate::services::host::CephDaemonKind;

/// What is wrong with a member's own part. Of a monitor that is being brought in nothing is wrong.
pub(super) fn of_member(name: &str, joins: bool, cluster: &CephCluster, plan: &mut Plan) {
    if !joins && cluster.monitors.get(name).is_some_and(|m| !m.in_quorum) {
        plan.wait(
            Topic::World,
            reasons::MONITOR_DOWN,
            format!(
                "the monitor of {name} is out of the quorum: do the machines reach each other on \
                 ports 3300 and 6789? journalctl -u ceph-mon@{name} there tells more"
            ),
        );
    }
    if cluster.skewed.contains(name) {
        plan.wait(
            Topic::World,
            reasons::CLOCK_SKEW,
            format!(
                "the clock of {name} differs from that of Ceph's leading monitor: set the time \
                 there (timedatectl), and have it synchronised"
            ),
        );
    }
}

/// What is wrong with pools that something is kept in.
pub(super) fn of_pools(names: &[&String], cluster: &CephCluster, plan: &mut Plan) {
    let with = |test: &dyn Fn(&CephPool) -> bool| -> Vec<&str> {
        let pools = names
            .iter()
            .filter(|n| cluster.pools.get(**n).is_some_and(test));
        pools.map(|n| n.as_str()).collect()
    };
    let full = with(&|p| p.full > Some(Fullness::Near));
    let nearly = with(&|p| p.full == Some(Fullness::Near));
    for (pools, how) in [
        (full, "full: writing fails or will soon"),
        (nearly, "nearly full"),
    ] {
        if !pools.is_empty() {
            plan.wait(
                Topic::World,
                reasons::CEPH_FULL,
                format!(
                    "{} is {how}; add disks, or delete what is not needed",
                    pools.join(", ")
                ),
            );
        }
    }
    let unclean = with(&|p| cluster.unclean_pools.contains(&p.id));
    if !unclean.is_empty() && !cluster.unclean.is_empty() {
        plan.wait(
            Topic::World,
            reasons::PGS_NOT_CLEAN,
            format!(
                "placement groups of {} {}",
                unclean.join(", "),
                state(cluster)
            ),
        );
    }
}

/// How an OSD stands, of which all else is as it should be.
pub(super) fn of_osd(id: i64, member: &str, osd: &Osd, plan: &mut Plan) {
    let Some(full) = osd.full else { return };
    let how = match full {
        Fullness::Near => "nearly full",
        Fullness::Backfill => "so full that nothing is moved to it any more",
        Fullness::Full => "full: nothing is written to Ceph while it is",
    };
    plan.wait(
        Topic::World,
        reasons::CEPH_FULL,
        format!("osd.{id} of {member} is {how}; add disks, or delete what is not needed"),
    );
}

/// Why nothing new can be made in Ceph now.
pub(super) fn holds_up(cluster: &CephCluster) -> Option<String> {
    if let Some(flag) = ["full", "pausewr", "pauserd"]
        .iter()
        .find(|flag| cluster.flags.contains(**flag))
    {
        return Some(format!("Ceph writes nothing now: its OSDs are `{flag}`"));
    }
    if cluster.health.contains_key("OSD_FULL") {
        return Some("Ceph writes nothing now: an OSD is full".to_owned());
    }
    if cluster.health.contains_key("PG_AVAILABILITY") && !cluster.unclean_pools.is_empty() {
        return Some(format!("placement groups of Ceph {}", state(cluster)));
    }
    if !cluster.managers.available {
        return Some("no manager of Ceph runs".to_owned());
    }
    None
}

/// Whether data is there, and what the placement groups are that are not clean.
fn state(cluster: &CephCluster) -> String {
    let states: Vec<&str> = cluster.unclean.iter().map(String::as_str).collect();
    let states = states.join(", ");
    if cluster.health.contains_key("PG_AVAILABILITY") {
        format!("cannot be read or written now ({states}): too many of their OSDs are down")
    } else {
        format!(
            "have fewer copies than they should, or are being moved ({states}); Ceph mends that when OSDs are up and in"
        )
    }
}

/// What is wrong with the cluster as a whole.
pub(super) fn health(cluster: &CephCluster, view: &View<'_>, plan: &mut Plan) {
    let (out, coming): (Vec<&str>, Vec<&str>) = cluster
        .monitors
        .iter()
        .filter(|(_, m)| !m.in_quorum)
        .map(|(name, _)| name.as_str())
        .partition(|name| report(name, view).is_none() || ran(name, CephDaemonKind::Mon, view));
    let left = cluster.monitors.len() - out.len() - coming.len();
    let majority = cluster.monitors.len() / 2 + 1;
    if left < majority && !(out.is_empty() && coming.is_empty()) {
        // Who answers has a majority: the map is newer than what was said of the quorum.
        let message = "Ceph's monitors are choosing a leader".to_owned();
        plan.wait(Topic::World, reasons::PROGRESSING, message);
    } else if !coming.is_empty() {
        plan.wait(
            Topic::World,
            reasons::PROGRESSING,
            format!("the monitor of {} is coming in", coming.join(", ")),
        );
    }
    if left >= majority && !out.is_empty() {
        let warning = if left == majority {
            ": Ceph stops if one more goes"
        } else {
            ""
        };
        plan.wait(
            Topic::World,
            reasons::MONITOR_DOWN,
            format!(
                "the monitor of {} is out of the quorum; {left} of {} are left{warning}",
                out.join(", "),
                cluster.monitors.len()
            ),
        );
    }
    let copies = copies(cluster, view);
    let single = copies == Some(1);
    let replicas = packaged(view.desired).and_then(|spec| spec.replicas);
    if let (Some(wanted), Some(now)) = (replicas, copies)
        && now < wanted
    {
        let hosts = cluster.osd_hosts_up().len();
        plan.wait(
            Topic::World,
            reasons::PROGRESSING,
            format!(
                "{wanted} copies are kept when there are OSDs on as many hosts that are up; there \
                 are on {hosts}, and {now} kept until then"
            ),
        );
    }
    let managers = view
        .desired
        .members()
        .any(|(name, _)| ran(name, CephDaemonKind::Mgr, view));
    for (code, check) in &cluster.health {
        // Told above, or what was asked for.
        if code == "MON_DOWN" || (code == "POOL_NO_REDUNDANCY" && single) {
            continue;
        }
        let (reason, message) = match code.as_str() {
            // What is not there yet is no fault.
            "MGR_DOWN" if !managers => (
                reasons::PROGRESSING,
                "the managers of Ceph are being made".to_owned(),
            ),
            "TOO_FEW_OSDS" if copies.is_none() => (
                reasons::PROGRESSING,
                "the OSDs of Ceph are being made".to_owned(),
            ),
            "PG_AVAILABILITY" if cluster.unclean.iter().all(|s| BEGINS.contains(&s.as_str())) => (
                reasons::PROGRESSING,
                "placement groups of Ceph are being made".to_owned(),
            ),
            _ => told(code, check, cluster),
        };
        plan.wait(Topic::World, reason, message);
    }
}

/// States of placement groups that are made or find each other.
const BEGINS: [&str; 5] = ["activating", "creating", "inactive", "peering", "unknown"];

/// Whether a daemon of a member was seen to run before, and is not only being made.
fn ran(member: &str, kind: CephDaemonKind, view: &View<'_>) -> bool {
    let marker = format!("ceph.{}=active", kind.word());
    let entry = view.entry(&ObjectRef::new(Kind::Member, member));
    entry.is_some_and(|e| e.applied.contains(&marker))
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
        "OSD_NEARFULL" | "POOL_NEARFULL" | "POOL_BACKFILLFULL" => {
            (reasons::CEPH_FULL, full("Ceph is nearly full"))
        }
        "MON_CLOCK_SKEW" => (
            reasons::CLOCK_SKEW,
            if cluster.skewed.is_empty() {
                "the clocks of the monitors' machines differ: is time synchronised everywhere?"
                    .to_owned()
            } else {
                let names: Vec<&str> = cluster.skewed.iter().map(String::as_str).collect();
                format!(
                    "the clock of {} differs from that of the leading monitor: is time \
                     synchronised everywhere?",
                    names.join(", ")
                )
            },
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
