//! What Ceph says is wrong, in sentences that help.

use super::copies::copies;
use crate::reconcile::plan::{Plan, Topic, View, reasons};
use crate::services::ceph::{CephCluster, HealthCheck};

/// What is wrong with the cluster, as far as it is nobody else's.
pub(super) fn health(cluster: &CephCluster, view: &View<'_>, plan: &mut Plan) {
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
