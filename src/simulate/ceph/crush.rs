//! What a simulated cluster is told of OSDs, and of where data is placed.

use super::answers::MISSING;
use super::changes::{BUSY, INVALID, NOT_PERMITTED, done, flag, refuse};
use super::cluster::{Answer, Bucket, Cluster, Refusal, Rule};
use crate::services::ceph::Command;
use serde_json::{Value, json};
use tokio::time::Instant;

impl Cluster {
    pub(super) fn rule_create(&mut self, command: &Command) -> Answer {
        let (name, root, kind) = (
            command.text("name"),
            command.text("root"),
            command.text("type"),
        );
        if self.rules.contains_key(name) {
            return done();
        }
        if root != "default" {
            return refuse(MISSING, format!("root item {root} does not exist"));
        }
        if !["osd", "host", "rack"].contains(&kind) {
            return refuse(INVALID, format!("unknown type {kind}"));
        }
        let id = self
            .rules
            .values()
            .map(|r| r.id)
            .max()
            .map_or(0, |id| id + 1);
        let rule = Rule {
            id,
            kind: kind.to_owned(),
        };
        self.rules.insert(name.to_owned(), rule);
        self.osdmap += 1;
        done()
    }

    pub(super) fn rule_remove(&mut self, name: &str) -> Answer {
        let Some(rule) = self.rules.get(name) else {
            return done();
        };
        if self.pools.values().any(|p| p.rule == rule.id) {
            return refuse(BUSY, format!("crush rule {name} ({}) is in use", rule.id));
        }
        self.rules.remove(name);
        self.osdmap += 1;
        done()
    }

    pub(super) fn add_bucket(&mut self, command: &Command) -> Answer {
        let name = command.text("name");
        let kind = match command.text("type") {
            "rack" => "rack",
            "host" => "host",
            other => {
                return refuse(INVALID, format!("type '{other}' does not exist"));
            }
        };
        if !self.buckets.contains_key(name) {
            let bucket = Bucket {
                id: self.next_bucket(),
                kind,
                parent: None,
            };
            self.buckets.insert(name.to_owned(), bucket);
            self.osdmap += 1;
        }
        done()
    }

    pub(super) fn crush_move(&mut self, command: &Command, now: Instant) -> Answer {
        let name = command.text("name");
        let words = command.argument("args").and_then(Value::as_array);
        let place = words
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .next_back();
        let parent = match place.and_then(|p| p.split_once('=')) {
            Some(("root", "default")) => None,
            Some(("rack", rack)) => Some(rack.to_owned()),
            _ => return refuse(INVALID, "no location was given"),
        };
        if let Some(rack) = parent.as_ref().filter(|r| !self.buckets.contains_key(*r)) {
            let bucket = Bucket {
                id: self.next_bucket(),
                kind: "rack",
                parent: None,
            };
            self.buckets.insert(rack.clone(), bucket);
        }
        let Some(bucket) = self.buckets.get_mut(name) else {
            return refuse(MISSING, format!("item {name} does not exist"));
        };
        if bucket.parent != parent {
            bucket.parent = parent;
            self.moved(now);
        }
        done()
    }

    pub(super) fn crush_remove(&mut self, command: &Command, now: Instant) -> Answer {
        let name = command.text("name");
        let used = self.osds.values().any(|o| o.host == name)
            || self
                .buckets
                .values()
                .any(|b| b.parent.as_deref() == Some(name));
        if used {
            return refuse(39, format!("bucket '{name}' is not empty"));
        }
        if self.buckets.remove(name).is_some() {
            self.moved(now);
        }
        done()
    }

    pub(super) fn osd_mark(&mut self, command: &Command, now: Instant) -> Answer {
        for id in self.named(command) {
            let Some(osd) = self.osds.get_mut(&id).filter(|o| o.born) else {
                continue;
            };
            match command.prefix() {
                "osd out" => (osd.in_, osd.auto_out) = (false, false),
                "osd in" => (osd.in_, osd.auto_out) = (true, false),
                // One that works says so again at once.
                _ => osd.up = false,
            }
            self.moved(now);
        }
        done()
    }

    pub(super) fn osd_purge(&mut self, command: &Command, now: Instant) -> Answer {
        let asked = self.named(command);
        let holds = |id: &&i64| self.osds.get(*id).is_some_and(|o| o.up && o.in_);
        let meant = flag(command, "yes_i_really_mean_it");
        // Who means it is not asked by the managers whether it is safe.
        let looks = command.prefix() == "osd purge" && !meant;
        if looks && let Some(id) = asked.iter().find(holds) {
            return refuse(
                BUSY,
                format!("OSD(s) {id} have some pgs currently mapped to them. "),
            );
        }
        if !looks && !meant {
            return refuse(
                NOT_PERMITTED,
                "Are you SURE?  Did you verify with 'ceph osd safe-to-destroy'?  This will \
                 PERMANENTLY DESTROY data and there is no going back!",
            );
        }
        for id in asked {
            let Some(osd) = self.osds.get(&id) else {
                continue;
            };
            if osd.up {
                return refuse(BUSY, format!("osd.{id} is not `down`."));
            }
            if osd.born && command.prefix() == "osd purge-new" {
                return refuse(BUSY, format!("osd.{id} is not new"));
            }
            self.osds.remove(&id);
            self.entities.remove(&format!("osd.{id}"));
            self.moved(now);
        }
        done()
    }

    pub(super) fn osd_flag(&mut self, command: &Command) -> Answer {
        let known = [
            "noout",
            "nodown",
            "noup",
            "noin",
            "norebalance",
            "nobackfill",
            "norecover",
        ];
        let key = command.text("key");
        if !known.contains(&key) {
            return refuse(INVALID, format!("unrecognized flag '{key}'"));
        }
        if command.prefix() == "osd set" {
            self.flags.insert(key.to_owned());
        } else {
            self.flags.remove(key);
        }
        self.osdmap += 1;
        done()
    }

    pub(super) fn ok_to_stop(&self, command: &Command) -> Answer {
        let stopped = self.named(command);
        let mut without = Cluster::new(&self.fsid, self.monitors[0].clone(), self.peering);
        without.osds.clone_from(&self.osds);
        without.rules.clone_from(&self.rules);
        without.buckets.clone_from(&self.buckets);
        for id in &stopped {
            if let Some(osd) = without.osds.get_mut(id) {
                osd.up = false;
            }
        }
        let inactive: u32 = self
            .pools
            .values()
            .filter(|p| without.copies_of(p) < p.min_size)
            .map(|p| p.pg_num)
            .sum();
        if inactive > 0 {
            return Err(Refusal {
                code: BUSY,
                said: format!(
                    "unsafe to stop osd(s) at this time ({inactive} PGs are or would become offline)"
                ),
            });
        }
        Ok(json!({"ok_to_stop": true, "osds": stopped}).to_string())
    }

    pub(super) fn safe_to_destroy(&self, command: &Command, now: Instant) -> Answer {
        let asked = self.named(command);
        let unclean = self.pgs(now).keys().any(|state| state != "active+clean");
        let held: Vec<i64> = asked
            .iter()
            .copied()
            .filter(|id| {
                self.osds
                    .get(id)
                    .is_some_and(|o| o.in_ || (o.up && unclean))
            })
            .collect();
        let safe: Vec<i64> = asked.into_iter().filter(|id| !held.contains(id)).collect();
        // In JSON it is no refusal.
        Ok(
            json!({"safe_to_destroy": safe, "active": held, "missing_stats": [], "stored_pgs": []})
                .to_string(),
        )
    }
}
