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

    /// The health checks that are raised, as `status` has them, or with what each says of single
    /// things.
    pub(super) fn health(&self, now: Instant, detail: bool) -> Value {
        let checks = self.checks(now);
        let worst = checks.values().map(|c| c.severity).min();
        let checks: Map<String, Value> = checks
            .into_iter()
            .map(|(code, check)| {
                let mut shown = json!({
                    "severity": check.severity,
                    "summary": {"message": check.message, "count": check.count},
                    "muted": false,
                });
                if detail {
                    let lines = check.detail.into_iter();
                    shown["detail"] = lines.map(|line| json!({"message": line})).collect();
                }
                (code.to_owned(), shown)
            })
            .collect();
        json!({
            "status": worst.unwrap_or("HEALTH_OK"),
            "checks": checks,
            "mutes": [],
        })
    }

    fn checks(&self, now: Instant) -> BTreeMap<&'static str, Check> {
        let mut checks = BTreeMap::new();
        self.monitor_checks(&mut checks);
        if self.active_mgr.is_some() {
            let message = "13 mgr modules have failed dependencies".to_owned();
            checks.insert("MGR_MODULE_DEPENDENCY", Check::warn(message, 13));
        } else {
            checks.insert("MGR_DOWN", Check::warn("no active mgr".to_owned(), 0));
        }
        let offline: Vec<String> = self
            .filesystems
            .iter()
            .filter(|f| f.active.is_none())
            .map(|f| format!("fs {} is offline because no MDS is active for it.", f.name))
            .collect();
        if !offline.is_empty() {
            let message = match offline.len() {
                1 => "1 filesystem is offline".to_owned(),
                n => format!("{n} filesystems are offline"),
            };
            let check = Check {
                severity: "HEALTH_ERR",
                ..Check::of(message, offline)
            };
            checks.insert("MDS_ALL_DOWN", check);
        }
        self.osd_checks(&mut checks);
        self.full_checks(&mut checks);
        self.pool_checks(now, &mut checks);
        checks
    }

    fn monitor_checks(&self, checks: &mut BTreeMap<&'static str, Check>) {
        let all = self.monitors.len();
        let names = |in_quorum: bool| -> Vec<&str> {
            let some = self.monitors.iter().filter(|m| m.in_quorum == in_quorum);
            some.map(|m| m.name.as_str()).collect()
        };
        let down: Vec<String> = names(false)
            .into_iter()
            .map(|name| format!("mon.{name} is down (out of quorum)"))
            .collect();
        if !down.is_empty() {
            let quorum = names(true).join(",");
            let message = format!("{}/{all} mons down, quorum {quorum}", down.len());
            checks.insert("MON_DOWN", Check::of(message, down));
        }
        let skewed: Vec<String> = self
            .monitors
            .iter()
            .filter(|m| m.in_quorum && self.skewed.contains(&m.name))
            .map(|m| {
                format!(
                    "mon.{} clock skew 0.6s > max 0.05s (latency 0.001s)",
                    m.name
                )
            })
            .collect();
        if !skewed.is_empty() {
            let names: Vec<&str> = skewed.iter().filter_map(|s| s.split(' ').next()).collect();
            let message = format!("clock skew detected on {}", names.join(", "));
            checks.insert("MON_CLOCK_SKEW", Check::of(message, skewed));
        }
        let key = "auth_allow_insecure_global_id_reclaim".to_owned();
        let told = self.config.get(&("mon".to_owned(), key));
        if told.is_none_or(|v| v != "false") {
            let who = if all == 1 { "mon is" } else { "mons are" };
            let message = format!("{who} allowing insecure global_id reclaim");
            checks.insert(
                "AUTH_INSECURE_GLOBAL_ID_RECLAIM_ALLOWED",
                Check::warn(message, all),
            );
        }
    }

    fn osd_checks(&self, checks: &mut BTreeMap<&'static str, Check>) {
        let born = || self.osds.iter().filter(|(_, o)| o.born);
        let wanted = self.default_size();
        let count = u32::try_from(born().count()).unwrap_or(u32::MAX);
        if count < wanted {
            let message = format!("OSD count {count} < osd_pool_default_size {wanted}");
            checks.insert("TOO_FEW_OSDS", Check::warn(message, 1));
        }
        let down: Vec<String> = born()
            .filter(|(_, o)| !o.up && o.in_)
            .map(|(id, o)| format!("osd.{id} (root=default,host={}) is down", o.host))
            .collect();
        if !down.is_empty() {
            let message = format!("{} osds down", down.len());
            checks.insert("OSD_DOWN", Check::of(message, down));
        }
        let hosts: BTreeSet<&str> = born().map(|(_, o)| o.host.as_str()).collect();
        let mut osds = 0;
        let dead: Vec<String> = hosts
            .into_iter()
            .filter_map(|host| {
                let inside = || born().filter(|(_, o)| o.host == host);
                let dead = inside().all(|(_, o)| !o.up) && inside().any(|(_, o)| o.in_);
                let count = inside().count();
                osds += if dead { count } else { 0 };
                dead.then(|| format!("host {host} (root=default) ({count} osds) is down"))
            })
            .collect();
        if !dead.is_empty() {
            let plural = if dead.len() == 1 { "" } else { "s" };
            let message = format!("{} host{plural} ({osds} osds) down", dead.len());
            checks.insert("OSD_HOST_DOWN", Check::of(message, dead));
        }
        let holding: Vec<&str> = self
            .flags
            .iter()
            .map(String::as_str)
            .filter(|f| f.starts_with("no") || f.starts_with("pause"))
            .collect();
        if !holding.is_empty() {
            let message = format!("{} flag(s) set", holding.join(","));
            checks.insert("OSDMAP_FLAGS", Check::warn(message, holding.len()));
        }
    }

    fn full_checks(&self, checks: &mut BTreeMap<&'static str, Check>) {
        let levels = [
            ("nearfull", "OSD_NEARFULL", "POOL_NEARFULL", "HEALTH_WARN"),
            (
                "backfillfull",
                "OSD_BACKFILLFULL",
                "POOL_BACKFILLFULL",
                "HEALTH_WARN",
            ),
            ("full", "OSD_FULL", "POOL_FULL", "HEALTH_ERR"),
        ];
        for (word, of_osds, of_pools, severity) in levels {
            let osds: Vec<String> = self
                .osds
                .iter()
                .filter(|(_, o)| o.full == Some(word))
                .map(|(id, _)| format!("osd.{id} is {word}"))
                .collect();
            if osds.is_empty() {
                continue;
            }
            let message = format!("{} {word} osd(s)", osds.len());
            let check = Check {
                severity,
                ..Check::of(message, osds)
            };
            checks.insert(of_osds, check);
            // All pools are on all OSDs here.
            let names = self.pools.keys();
            let pools: Vec<String> = names.map(|p| format!("pool '{p}' is {word}")).collect();
            let message = format!("{} pool(s) {word}", pools.len());
            let check = Check {
                severity: "HEALTH_WARN",
                ..Check::of(message, pools)
            };
            checks.insert(of_pools, check);
        }
    }

    fn pool_checks(&self, now: Instant, checks: &mut BTreeMap<&'static str, Check>) {
        let single: Vec<String> = self
            .pools
            .iter()
            .filter(|(_, p)| p.size == 1)
            .map(|(name, _)| format!("pool '{name}' has no replicas configured"))
            .collect();
        if !single.is_empty() {
            let message = format!("{} pool(s) have no replicas configured", single.len());
            checks.insert("POOL_NO_REDUNDANCY", Check::of(message, single));
        }
        let (mut undersized, mut inactive, mut missing, mut copies) = (0, 0, 0, 0);
        let mut degraded = 0;
        let (mut lacking, mut silent) = (Vec::new(), Vec::new());
        let stuck = self
            .undersized
            .is_some_and(|since| now.duration_since(since) >= STUCK);
        for pool in self.pools.values() {
            let there = self.copies_of(pool).min(pool.size);
            copies += pool.objects * u64::from(pool.size);
            let state = self.pg_state(pool, now);
            let groups = u64::from(pool.pg_num);
            let line = format!("pg {}.0 is {state}, acting []", pool.id);
            if state.contains("undersized") && stuck {
                undersized += groups;
            }
            if !state.contains("active") && stuck {
                inactive += groups;
                silent.push(line.clone());
            }
            if state.contains("degraded") {
                degraded += groups;
                missing += pool.objects * u64::from(pool.size - there);
            }
            if state.contains("degraded") || (state.contains("undersized") && stuck) {
                lacking.push(line);
            }
        }
        let plural = |n: u64| if n == 1 { "" } else { "s" };
        let mut words = Vec::new();
        if missing > 0 {
            let (tenths, whole) = (missing * 100_000 / copies % 1000, missing * 100 / copies);
            words.push(format!(
                "{missing}/{copies} objects degraded ({whole}.{tenths:03}%), {degraded} pg{} \
                 degraded",
                plural(degraded)
            ));
        }
        if undersized > 0 {
            words.push(format!("{undersized} pg{} undersized", plural(undersized)));
        }
        if !words.is_empty() {
            let message = format!("Degraded data redundancy: {}", words.join(", "));
            checks.insert("PG_DEGRADED", Check::of(message, lacking));
        }
        if inactive > 0 {
            let plural = plural(inactive);
            let message = format!("Reduced data availability: {inactive} pg{plural} inactive");
            checks.insert("PG_AVAILABILITY", Check::of(message, silent));
        }
    }
}

/// One health check.
struct Check {
    severity: &'static str,
    message: String,
    count: usize,
    /// What it says of single things.
    detail: Vec<String>,
}

impl Check {
    fn of(message: String, detail: Vec<String>) -> Check {
        Check {
            severity: "HEALTH_WARN",
            message,
            count: detail.len(),
            detail,
        }
    }

    fn warn(message: String, count: usize) -> Check {
        Check {
            count,
            ..Check::of(message, Vec::new())
        }
    }
}
