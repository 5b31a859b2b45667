//! What a simulated cluster tells: the commands that change nothing.

use super::cluster::{Answer, Cluster, Refusal};
use crate::services::ceph::Command;
use serde_json::{Value, json};
use tokio::time::Instant;

/// What all of its daemons run.
const VERSION: &str =
    "ceph version 18.2.7 (6b0e988052ec84cf2d4a54ff9bbbc5e720b621ad) reef (stable)";

/// The number of ENOENT.
pub(super) const MISSING: i32 = 2;

impl Cluster {
    /// The answer to a command that only asks; `None` when it is none of these.
    pub(super) fn look_up(&self, command: &Command, now: Instant) -> Option<Answer> {
        let answer = match command.prefix() {
            "status" => self.status(now),
            "health" => self.health(now, command.text("detail") == "detail"),
            "mon dump" => self.mon_dump(),
            "mgr dump" => self.mgr_dump(),
            "fs dump" => self.fs_dump(),
            "osd dump" => self.osd_dump(),
            "osd tree" => self.osd_tree(),
            "osd crush rule dump" => self.rule_dump(),
            "config dump" => self.config_dump(),
            "versions" => self.versions(),
            "auth get" => return Some(self.auth_get(command)),
            "config-key get" => {
                let key = command.text("key");
                return Some(self.keys.get(key).cloned().ok_or_else(|| Refusal {
                    code: MISSING,
                    said: String::new(),
                }));
            }
            "osd ok-to-stop" => return Some(self.ok_to_stop(command)),
            "osd safe-to-destroy" => return Some(self.safe_to_destroy(command, now)),
            _ => return None,
        };
        Some(Ok(answer.to_string()))
    }

    fn status(&self, now: Instant) -> Value {
        let quorum = || {
            self.monitors
                .iter()
                .enumerate()
                .filter(|(_, m)| m.in_quorum)
        };
        let born = || self.osds.values().filter(|o| o.born);
        let pgs: Vec<Value> = self
            .pgs(now)
            .into_iter()
            .map(|(state, count)| json!({"state_name": state, "count": count}))
            .collect();
        let active = self
            .filesystems
            .iter()
            .filter(|f| f.active.is_some())
            .count();
        json!({
            "fsid": self.fsid,
            "health": self.health(now, false),
            "election_epoch": self.elections,
            "quorum": quorum().map(|(rank, _)| rank).collect::<Vec<_>>(),
            "quorum_names": quorum().map(|(_, m)| m.name.as_str()).collect::<Vec<_>>(),
            "monmap": {
                "epoch": self.monmap,
                "min_mon_release_name": "reef",
                "num_mons": self.monitors.len(),
            },
            "osdmap": {
                "epoch": self.osdmap,
                "num_osds": born().count(),
                "num_up_osds": born().filter(|o| o.up).count(),
                "num_in_osds": born().filter(|o| o.in_).count(),
                "num_remapped_pgs": 0,
            },
            "pgmap": {
                "pgs_by_state": pgs,
                "num_pgs": self.pools.values().map(|p| p.pg_num).sum::<u32>(),
                "num_pools": self.pools.len(),
                "num_objects": self.pools.values().map(|p| p.objects).sum::<u64>(),
            },
            "fsmap": {
                "epoch": self.fsmap,
                "by_rank": [],
                "up:standby": self.mds.len() - active,
            },
            "mgrmap": {
                "available": self.active_mgr.is_some(),
                "num_standbys": self.mgrs.len() - usize::from(self.active_mgr.is_some()),
            },
        })
    }

    fn mon_dump(&self) -> Value {
        let mons: Vec<Value> = self
            .monitors
            .iter()
            .enumerate()
            .map(|(rank, m)| {
                let all = m.addresses();
                let addrvec: Vec<Value> = all
                    .iter()
                    .map(|(kind, addr)| json!({"type": kind, "addr": addr, "nonce": 0}))
                    .collect();
                json!({
                    "rank": rank,
                    "name": m.name,
                    "public_addrs": {"addrvec": addrvec},
                    "addr": format!("{}/0", all[1].1),
                    "public_addr": format!("{}/0", all[1].1),
                })
            })
            .collect();
        let quorum = self.monitors.iter().enumerate();
        let quorum: Vec<usize> = quorum
            .filter(|(_, m)| m.in_quorum)
            .map(|(rank, _)| rank)
            .collect();
        json!({
            "epoch": self.monmap,
            "fsid": self.fsid,
            "min_mon_release_name": "reef",
            "mons": mons,
            "quorum": quorum,
        })
    }

    fn mgr_dump(&self) -> Value {
        let active = self.active_mgr.clone().unwrap_or_default();
        let standbys: Vec<Value> = self
            .mgrs
            .iter()
            .filter(|name| **name != active)
            .map(|name| json!({"gid": gid(name), "name": name}))
            .collect();
        json!({
            "epoch": self.mgrmap,
            "active_gid": gid(&active),
            "active_name": active,
            "available": self.active_mgr.is_some(),
            "standbys": standbys,
        })
    }

    fn fs_dump(&self) -> Value {
        let server = |name: &str, rank: i64, state: &str| json!({"gid": gid(name), "name": name, "rank": rank, "state": state});
        let working: Vec<&String> = self
            .filesystems
            .iter()
            .filter_map(|f| f.active.as_ref())
            .collect();
        let standbys: Vec<Value> = self
            .mds
            .iter()
            .filter(|name| !working.contains(name))
            .map(|name| server(name, -1, "up:standby"))
            .collect();
        let filesystems: Vec<Value> = self
            .filesystems
            .iter()
            .enumerate()
            .map(|(at, fs)| {
                let mut info = serde_json::Map::new();
                if let Some(name) = &fs.active {
                    let key = format!("gid_{}", gid(name));
                    info.insert(key, server(name, 0, "up:active"));
                }
                json!({"id": at + 1, "mdsmap": {
                    "fs_name": fs.name,
                    "metadata_pool": fs.metadata,
                    "data_pools": [fs.data],
                    "max_mds": 1,
                    "info": info,
                }})
            })
            .collect();
        json!({
            "epoch": self.fsmap,
            "standbys": standbys,
            "filesystems": filesystems,
        })
    }

    fn osd_dump(&self) -> Value {
        let words = ["full", "backfillfull", "nearfull"];
        let has = |word: &&str| self.osds.values().any(|o| o.full == Some(*word));
        // All pools are on all OSDs here.
        let fullest = words.into_iter().find(has);
        let mut pools: Vec<(&String, _)> = self.pools.iter().collect();
        pools.sort_by_key(|(_, pool)| pool.id);
        let pools: Vec<Value> = pools
            .into_iter()
            .map(|(name, pool)| {
                let applications = pool.applications.iter();
                let applications: serde_json::Map<String, Value> =
                    applications.map(|a| (a.clone(), json!({}))).collect();
                json!({
                    "pool": pool.id,
                    "pool_name": name,
                    "type": 1,
                    "size": pool.size,
                    "min_size": pool.min_size,
                    "crush_rule": pool.rule,
                    "pg_num": pool.pg_num,
                    "flags_names": match fullest {
                        Some(word) => format!("hashpspool,{word}"),
                        None => "hashpspool".to_owned(),
                    },
                    "application_metadata": applications,
                })
            })
            .collect();
        let osds: Vec<Value> = self
            .osds
            .iter()
            .map(|(id, osd)| {
                let mut state = Vec::new();
                if osd.auto_out || !osd.born {
                    state.push("autoout");
                }
                state.extend(osd.born.then_some("exists"));
                state.extend((!osd.born).then_some("new"));
                state.extend(osd.up.then_some("up"));
                state.extend(osd.full);
                json!({
                    "osd": id,
                    "uuid": osd.uuid,
                    "up": u8::from(osd.up),
                    "in": u8::from(osd.in_),
                    "weight": f64::from(u8::from(osd.in_)),
                    "state": state,
                })
            })
            .collect();
        json!({
            "epoch": self.osdmap,
            "fsid": self.fsid,
            "flags": self.flags.iter().cloned().collect::<Vec<_>>().join(","),
            "flags_set": self.flags,
            "require_osd_release": "reef",
            "pools": pools,
            "osds": osds,
        })
    }

    fn osd_tree(&self) -> Value {
        let below = |parent: Option<&str>| -> Vec<i64> {
            let inside = self.buckets.values();
            inside
                .filter(|b| b.parent.as_deref() == parent)
                .map(|b| b.id)
                .collect()
        };
        let placed = || self.osds.iter().filter(|(_, o)| o.born);
        let mut nodes = vec![json!({
            "id": -1, "name": "default", "type": "root", "type_id": 11,
            // A bucket that is in none is shown beside the root; hosts are always below it.
            "children": below(None),
        })];
        for (name, bucket) in &self.buckets {
            let mut children = below(Some(name));
            children.extend(placed().filter(|(_, o)| o.host == *name).map(|(id, _)| *id));
            nodes.push(json!({
                "id": bucket.id,
                "name": name,
                "type": bucket.kind,
                "type_id": if bucket.kind == "host" { 1 } else { 3 },
                "children": children,
            }));
        }
        for (id, osd) in placed() {
            nodes.push(json!({
                "id": id,
                "name": format!("osd.{id}"),
                "type": "osd",
                "type_id": 0,
                "exists": 1,
                "status": if osd.up { "up" } else { "down" },
                "reweight": f64::from(u8::from(osd.in_)),
            }));
        }
        json!({"nodes": nodes, "stray": []})
    }

    fn rule_dump(&self) -> Value {
        let mut rules: Vec<(&String, _)> = self.rules.iter().collect();
        rules.sort_by_key(|(_, rule)| rule.id);
        rules
            .into_iter()
            .map(|(name, rule)| {
                let choose = match rule.kind.as_str() {
                    "osd" => "choose_firstn",
                    _ => "chooseleaf_firstn",
                };
                json!({
                    "rule_id": rule.id,
                    "rule_name": name,
                    "type": 1,
                    "steps": [
                        {"op": "take", "item": -1, "item_name": "default"},
                        {"op": choose, "num": 0, "type": rule.kind},
                        {"op": "emit"},
                    ],
                })
            })
            .collect()
    }

    fn config_dump(&self) -> Value {
        self.config
            .iter()
            .map(|((section, name), value)| {
                json!({
                    "section": section,
                    "name": name,
                    "value": value,
                    "level": "advanced",
                    "can_update_at_runtime": true,
                    "mask": "",
                })
            })
            .collect()
    }

    fn versions(&self) -> Value {
        let counts = [
            ("mon", self.monitors.iter().filter(|m| m.in_quorum).count()),
            ("mgr", self.mgrs.len()),
            ("osd", self.osds.values().filter(|o| o.up).count()),
            ("mds", self.mds.len()),
        ];
        let overall: usize = counts.iter().map(|(_, n)| n).sum();
        let mut all = serde_json::Map::new();
        for (kind, count) in counts.into_iter().chain([("overall", overall)]) {
            if count > 0 {
                all.insert(kind.to_owned(), json!({VERSION: count}));
            }
        }
        Value::Object(all)
    }

    fn auth_get(&self, command: &Command) -> Answer {
        let entity = command.text("entity");
        self.keyring(entity, true).ok_or_else(|| Refusal {
            code: MISSING,
            said: format!("failed to find {entity} in keyring"),
        })
    }

    /// The OSDs that a command names.
    pub(super) fn named(&self, command: &Command) -> Vec<i64> {
        let ids = command.argument("ids").and_then(Value::as_array);
        let all = ids.into_iter().flatten().filter_map(|id| match id {
            Value::String(text) => text.trim_start_matches("osd.").parse().ok(),
            other => other.as_i64(),
        });
        all.chain(command.argument("id").and_then(Value::as_i64))
            .collect()
    }
}

/// A number for a daemon, always the same.
fn gid(name: &str) -> u64 {
    name.bytes()
        .fold(4096, |sum, b| (sum * 31 + u64::from(b)) % 1_000_000)
}
