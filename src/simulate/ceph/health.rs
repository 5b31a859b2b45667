//! Placement groups and health of a simulated cluster.

use super::cluster::{Cluster, Pool};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::time::Instant;

/// How long placement groups may lack copies without objects until health says so
/// (`mon_pg_stuck_threshold`).
const STUCK: Duration = Duration::from_secs(60);

impl Cluster {
    /// How many copies of a pool there are: OSDs that work, as far as its rule may use them.
    pub(super) fn copies_of(&self, pool: &Pool) -> u32 {
        let kind = self.rules.values().find(|r| r.id == pool.rule);
        let kind = kind.map_or("host", |r| r.kind.as_str());
        let mut places: BTreeSet<String> = BTreeSet::new();
        for (id, osd) in self.osds.iter().filter(|(_, o)| o.up && o.in_) {
            places.insert(match kind {
                "osd" => id.to_string(),
                "rack" => self.rack_of(&osd.host).unwrap_or_default().to_owned(),
                _ => osd.host.clone(),
            });
        }
        // What is in no rack is nowhere for a rule of racks.
        places.remove("");
        u32::try_from(places.len()).unwrap_or(u32::MAX)
    }

    /// The state of a pool's placement groups.
    pub(super) fn pg_state(&self, pool: &Pool, now: Instant) -> String {
        let copies = self.copies_of(pool).min(pool.size);
        let degraded = if pool.objects > 0 { "+degraded" } else { "" };
        if copies == 0 {
            return if now < pool.made {
                "unknown"
            } else {
                "stale+undersized+peered"
            }
            .to_owned();
        }
        if now < pool.made {
            "creating+peering".to_owned()
        } else if now < self.settled {
            "peering".to_owned()
        } else if copies < pool.min_size {
            format!("undersized{degraded}+peered")
        } else if copies < pool.size {
            format!("active+undersized{degraded}")
        } else {
            "active+clean".to_owned()
        }
    }

    /// Placement groups by state.
    pub(super) fn pgs(&self, now: Instant) -> BTreeMap<String, u64> {
        let mut states = BTreeMap::new();
        for pool in self.pools.values() {
            *states.entry(self.pg_state(pool, now)).or_default() += u64::from(pool.pg_num);
        }
        states
    }

    /// The health checks that are raised, as `status` has them.
    pub(super) fn health(&self, now: Instant) -> Value {
        let mut checks = Map::new();
        let mut raise = |code: &str, severity: &str, message: String, count: usize| {
            let check = json!({
                "severity": severity,
                "summary": {"message": message, "count": count},
                "muted": false,
            });
            checks.insert(code.to_owned(), check);
        };
        let warn = "HEALTH_WARN";
        let all = self.monitors.len();
        let quorum: Vec<&str> = self
            .monitors
            .iter()
            .filter(|m| m.in_quorum)
            .map(|m| m.name.as_str())
            .collect();
        if quorum.len() < all {
            let down = all - quorum.len();
            let message = format!("{down}/{all} mons down, quorum {}", quorum.join(","));
            raise("MON_DOWN", warn, message, down);
        }
        let reclaim = (
            "mon".to_owned(),
            "auth_allow_insecure_global_id_reclaim".to_owned(),
        );
        let reclaims = self.config.get(&reclaim).is_none_or(|v| v != "false");
        if reclaims {
            raise(
                "AUTH_INSECURE_GLOBAL_ID_RECLAIM_ALLOWED",
                warn,
                if all == 1 {
                    "mon is allowing insecure global_id reclaim".to_owned()
                } else {
                    "mons are allowing insecure global_id reclaim".to_owned()
                },
                all,
            );
        }
        if self.active_mgr.is_some() {
            let message = "13 mgr modules have failed dependencies".to_owned();
            raise("MGR_MODULE_DEPENDENCY", warn, message, 13);
        } else {
            raise("MGR_DOWN", warn, "no active mgr".to_owned(), 0);
        }
        let offline = self
            .filesystems
            .iter()
            .filter(|f| f.active.is_none())
            .count();
        if offline > 0 {
            let message = match offline {
                1 => "1 filesystem is offline".to_owned(),
                n => format!("{n} filesystems are offline"),
            };
            raise("MDS_ALL_DOWN", "HEALTH_ERR", message, offline);
        }
        self.osd_checks(&mut raise);
        self.pool_checks(now, &mut raise);
        let worst = checks.values().filter_map(|c| c["severity"].as_str()).min();
        json!({
            "status": worst.unwrap_or("HEALTH_OK"),
            "checks": checks,
            "mutes": [],
        })
    }

    fn osd_checks(&self, raise: &mut impl FnMut(&str, &str, String, usize)) {
        let warn = "HEALTH_WARN";
        let born = || self.osds.values().filter(|o| o.born);
        let wanted: usize = self
            .setting("osd_pool_default_size")
            .and_then(|v| v.parse().ok())
            .unwrap_or(3);
        let count = born().count();
        if count < wanted {
            let message = format!("OSD count {count} < osd_pool_default_size {wanted}");
            raise("TOO_FEW_OSDS", warn, message, wanted - count);
        }
        let down = born().filter(|o| !o.up && o.in_).count();
        if down > 0 {
            raise("OSD_DOWN", warn, format!("{down} osds down"), down);
        }
        let hosts: BTreeSet<&str> = born().map(|o| o.host.as_str()).collect();
        let dead: Vec<usize> = hosts
            .iter()
            .map(|host| born().filter(|o| o.host == *host))
            .filter(|osds| osds.clone().all(|o| !o.up) && osds.clone().any(|o| o.in_))
            .map(Iterator::count)
            .collect();
        if !dead.is_empty() {
            let osds: usize = dead.iter().sum();
            let plural = if dead.len() == 1 { "" } else { "s" };
            let message = format!("{} host{plural} ({osds} osds) down", dead.len());
            raise("OSD_HOST_DOWN", warn, message, dead.len());
        }
        let holding: Vec<&str> = self
            .flags
            .iter()
            .map(String::as_str)
            .filter(|f| f.starts_with("no") || f.starts_with("pause"))
            .collect();
        if !holding.is_empty() {
            let message = format!("{} flag(s) set", holding.join(","));
            raise("OSDMAP_FLAGS", warn, message, holding.len());
        }
    }

    fn pool_checks(&self, now: Instant, raise: &mut impl FnMut(&str, &str, String, usize)) {
        let warn = "HEALTH_WARN";
        let single = self.pools.values().filter(|p| p.size == 1).count();
        if single > 0 {
            let message = format!("{single} pool(s) have no replicas configured");
            raise("POOL_NO_REDUNDANCY", warn, message, single);
        }
        let (mut undersized, mut inactive, mut missing, mut copies) = (0, 0, 0, 0);
        let mut degraded = 0;
        for pool in self.pools.values() {
            let there = self.copies_of(pool).min(pool.size);
            copies += pool.objects * u64::from(pool.size);
            let state = self.pg_state(pool, now);
            let groups = u64::from(pool.pg_num);
            if state.contains("undersized") {
                undersized += groups;
            }
            if !state.contains("active") {
                inactive += groups;
            }
            if state.contains("degraded") {
                degraded += groups;
                missing += pool.objects * u64::from(pool.size - there);
            }
        }
        let stuck = self
            .undersized
            .is_some_and(|since| now.duration_since(since) >= STUCK);
        let mut words = Vec::new();
        if missing > 0 {
            let (tenths, whole) = (missing * 100_000 / copies % 1000, missing * 100 / copies);
            words.push(format!(
                "{missing}/{copies} objects degraded ({whole}.{tenths:03}%), {degraded} pg{} \
                 degraded",
                if degraded == 1 { "" } else { "s" }
            ));
        }
        if undersized > 0 && stuck {
            let plural = if undersized == 1 { "" } else { "s" };
            words.push(format!("{undersized} pg{plural} undersized"));
        }
        if !words.is_empty() {
            let message = format!("Degraded data redundancy: {}", words.join(", "));
            raise("PG_DEGRADED", warn, message, words.len());
        }
        if inactive > 0 && stuck {
            let plural = if inactive == 1 { "" } else { "s" };
            let message = format!("Reduced data availability: {inactive} pg{plural} inactive");
            raise("PG_AVAILABILITY", warn, message, 1);
        }
    }
}
