//! What a simulated cluster is told: the commands that change it, and what it refuses.

use super::answers::MISSING;
use super::cluster::{Answer, Bucket, Cluster, FileSystem, Refusal, Rule};
use crate::services::ceph::Command;
use serde_json::Value;
use tokio::time::Instant;

/// The number of EPERM.
const NOT_PERMITTED: i32 = 1;

/// The number of EINVAL.
const INVALID: i32 = 22;

/// The number of EBUSY.
const BUSY: i32 = 16;

/// Options that can be set, and whether they are numbers.
const OPTIONS: [(&str, bool); 10] = [
    ("auth_allow_insecure_global_id_reclaim", false),
    ("cluster_network", false),
    ("mon_allow_pool_delete", false),
    ("mon_allow_pool_size_one", false),
    ("mon_osd_down_out_interval", true),
    ("osd_pool_default_crush_rule", true),
    ("osd_pool_default_min_size", true),
    ("osd_pool_default_pg_num", true),
    ("osd_pool_default_size", true),
    ("public_network", false),
];

/// Commands that change something.
const CHANGES: [&str; 25] = [
    "auth get-or-create",
    "auth rm",
    "config rm",
    "config set",
    "config-key set",
    "fs new",
    "mds fail",
    "mgr fail",
    "mon remove",
    "osd crush add-bucket",
    "osd crush move",
    "osd crush rm",
    "osd crush rule create-replicated",
    "osd crush rule rm",
    "osd down",
    "osd in",
    "osd out",
    "osd pool application enable",
    "osd pool create",
    "osd pool delete",
    "osd pool set",
    "osd purge",
    "osd purge-new",
    "osd set",
    "osd unset",
];

/// Whether a command may change something.
pub(super) fn changes(prefix: &str) -> bool {
    CHANGES.contains(&prefix)
}

fn refuse<T>(code: i32, said: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal {
        code,
        said: said.into(),
    })
}

fn done() -> Answer {
    Ok(String::new())
}

fn flag(command: &Command, name: &str) -> bool {
    match command.argument(name) {
        Some(Value::Bool(yes)) => *yes,
        Some(Value::String(text)) => text == "true" || text.starts_with("--yes"),
        _ => false,
    }
}

impl Cluster {
    /// Does a command that changes something.
    pub(super) fn change(&mut self, command: &Command, now: Instant) -> Answer {
        match command.prefix() {
            "config set" => self.config_set(command),
            "config rm" => {
                let key = |name| command.text(name).to_owned();
                self.config.remove(&(key("who"), key("name")));
                done()
            }
            "config-key set" => {
                let value = match command.text("val") {
                    "" => command.input(),
                    given => given,
                };
                let value = value.to_owned();
                self.keys.insert(command.text("key").to_owned(), value);
                done()
            }
            "auth get-or-create" => self.auth_get_or_create(command),
            "auth rm" => {
                self.entities.remove(command.text("entity"));
                done()
            }
            "mon remove" => self.mon_remove(command.text("name")),
            "mgr fail" | "mds fail" => done(),
            "fs new" => self.fs_new(command),
            "osd pool create" => self.pool_create(command, now),
            "osd pool delete" => self.pool_delete(command),
            "osd pool set" => self.pool_set(command, now),
            "osd pool application enable" => self.application_enable(command),
            "osd crush rule create-replicated" => self.rule_create(command),
            "osd crush rule rm" => self.rule_remove(command.text("name")),
            "osd crush add-bucket" => self.add_bucket(command),
            "osd crush move" => self.crush_move(command, now),
            "osd crush rm" => self.crush_remove(command, now),
            "osd out" | "osd in" | "osd down" => self.osd_mark(command, now),
            "osd purge" | "osd purge-new" => self.osd_purge(command, now),
            "osd set" | "osd unset" => self.osd_flag(command),
            _ => refuse(INVALID, "command not known"),
        }
    }

    fn config_set(&mut self, command: &Command) -> Answer {
        let (name, value) = (command.text("name"), command.text("value"));
        let Some((_, number)) = OPTIONS.iter().find(|(known, _)| *known == name) else {
            return refuse(INVALID, format!("unrecognized config option '{name}'"));
        };
        if *number && value.parse::<i64>().is_err() {
            return refuse(
                INVALID,
                format!("error parsing value: Expected option value to be integer, got '{value}'"),
            );
        }
        let key = (command.text("who").to_owned(), name.to_owned());
        self.config.insert(key, value.to_owned());
        done()
    }

    fn auth_get_or_create(&mut self, command: &Command) -> Answer {
        let entity = command.text("entity");
        let words = command.argument("caps").and_then(Value::as_array);
        let words: Vec<String> = words
            .into_iter()
            .flatten()
            .filter_map(|w| w.as_str().map(str::to_owned))
            .collect();
        let mut caps: Vec<(String, String)> = words
            .chunks_exact(2)
            .map(|pair| (pair[0].clone(), pair[1].clone()))
            .collect();
        caps.sort();
        match self.entities.get(entity) {
            Some(known) if !caps.is_empty() => {
                let mut has = known.caps.clone();
                has.sort();
                if has != caps {
                    let of = caps.iter().find(|c| !has.contains(c)).or(has.first());
                    let of = of.map(|(of, _)| of.as_str()).unwrap_or_default();
                    return refuse(
                        INVALID,
                        format!("key for {entity} exists but cap {of} does not match"),
                    );
                }
            }
            Some(_) => {}
            None => self.add_entity(entity, caps),
        }
        Ok(self.keyring(entity, false).unwrap_or_default())
    }

    fn mon_remove(&mut self, name: &str) -> Answer {
        if !self.monitors.iter().any(|m| m.name == name) {
            // That is no error.
            return done();
        }
        if self.monitors.len() == 1 {
            let said = format!("error: refusing removal of last monitor {name}");
            return refuse(INVALID, said);
        }
        self.monitors.retain(|m| m.name != name);
        self.monmap += 1;
        done()
    }

    fn fs_new(&mut self, command: &Command) -> Answer {
        let name = command.text("fs_name");
        let id = |key: &str| match self.pools.get(command.text(key)) {
            Some(pool) => Ok(pool.id),
            None => refuse(
                MISSING,
                format!("pool '{}' does not exist", command.text(key)),
            ),
        };
        let (metadata, data) = (id("metadata")?, id("data")?);
        if let Some(fs) = self.filesystems.iter().find(|f| f.name == name) {
            return if (fs.metadata, fs.data) == (metadata, data) {
                done()
            } else {
                refuse(
                    INVALID,
                    format!("filesystem already exists with name '{name}'"),
                )
            };
        }
        for pool in [metadata, data] {
            let taken = |f: &&FileSystem| f.metadata == pool || f.data == pool;
            if let Some(fs) = self.filesystems.iter().find(taken) {
                let said = format!(
                    "pool (id '{pool}') is already in use by filesystem '{}'",
                    fs.name
                );
                return refuse(INVALID, said);
            }
        }
        for pool in self.pools.values_mut() {
            if [metadata, data].contains(&pool.id) {
                pool.applications.insert("cephfs".to_owned());
            }
            if pool.id == metadata {
                pool.objects = 22;
            }
        }
        self.filesystems.push(FileSystem {
            name: name.to_owned(),
            metadata,
            data,
            active: None,
        });
        self.fsmap += 1;
        done()
    }

    fn pool_create(&mut self, command: &Command, now: Instant) -> Answer {
        let name = command.text("pool");
        if self.pools.contains_key(name) {
            return done();
        }
        let rule = match command.text("rule") {
            "" => command.text("erasure_code_profile"),
            rule => rule,
        };
        let rule = match rule {
            "" => None,
            rule => match self.rules.get(rule) {
                Some(rule) => Some(rule.id),
                None => return refuse(MISSING, format!("specified rule {rule} doesn't exist")),
            },
        };
        let groups = command.argument("pg_num").and_then(Value::as_u64);
        let groups = groups.and_then(|n| u32::try_from(n).ok()).unwrap_or(32);
        self.add_pool(name, groups, rule, now);
        done()
    }

    fn pool_delete(&mut self, command: &Command) -> Answer {
        let name = command.text("pool");
        let Some(pool) = self.pools.get(name) else {
            // That is no error.
            return done();
        };
        let id = pool.id;
        if command.text("pool2") != name || !flag(command, "yes_i_really_really_mean_it") {
            return refuse(
                NOT_PERMITTED,
                format!(
                    "WARNING: this will *PERMANENTLY DESTROY* all data stored in pool {name}.  If \
                     you are *ABSOLUTELY CERTAIN* that is what you want, pass the pool name *twice* \
                     followed by --yes-i-really-really-mean-it."
                ),
            );
        }
        let fs = |f: &FileSystem| f.metadata == id || f.data == id;
        if let Some(fs) = self.filesystems.iter().find(|f| fs(f)) {
            let said = format!("pool '{name}' is in use by CephFS '{}'", fs.name);
            return refuse(BUSY, said);
        }
        let key = |section: &str| (section.to_owned(), "mon_allow_pool_delete".to_owned());
        let allowed = ["mon", "global"].map(|section| self.config.get(&key(section)));
        if !allowed.into_iter().flatten().any(|v| v == "true") {
            return refuse(
                NOT_PERMITTED,
                "pool deletion is disabled; you must first set the mon_allow_pool_delete config \
                 option to true before you can destroy a pool",
            );
        }
        self.pools.remove(name);
        self.images.retain(|(pool, _)| pool != name);
        self.osdmap += 1;
        done()
    }

    fn pool_set(&mut self, command: &Command, now: Instant) -> Answer {
        let (name, key, value) = (
            command.text("pool"),
            command.text("var"),
            command.text("val"),
        );
        if !self.pools.contains_key(name) {
            return refuse(MISSING, format!("unrecognized pool '{name}'"));
        }
        let rule = self.rules.get(value).map(|r| r.id);
        let single = self.setting("mon_allow_pool_size_one") == Some("true");
        let number = || {
            value.parse::<u32>().map_err(|_| Refusal {
                code: INVALID,
                said: format!("error parsing integer value '{value}': Expected option value to be integer, got '{value}'"),
            })
        };
        let Some(pool) = self.pools.get_mut(name) else {
            return done();
        };
        match key {
            "size" => {
                let size = number()?;
                if !(1..=10).contains(&size) {
                    return refuse(INVALID, "pool size must be between 1 and 10");
                }
                if size == 1 && !single {
                    return refuse(
                        NOT_PERMITTED,
                        "configuring pool size as 1 is disabled by default.",
                    );
                }
                if size == 1 && !flag(command, "yes_i_really_mean_it") {
                    return refuse(
                        NOT_PERMITTED,
                        "WARNING: setting pool size 1 could lead to data loss without recovery. \
                         If you are *ABSOLUTELY CERTAIN* that is what you want, pass the flag \
                         --yes-i-really-mean-it.",
                    );
                }
                pool.size = size;
                pool.min_size = size - size / 2;
            }
            "min_size" => {
                let least = number()?;
                if !(1..=pool.size).contains(&least) {
                    let said = format!(
                        "pool min_size must be between 1 and size, which is set to {}",
                        pool.size
                    );
                    return refuse(INVALID, said);
                }
                pool.min_size = least;
            }
            "crush_rule" => match rule {
                Some(rule) => pool.rule = rule,
                None => return refuse(MISSING, format!("crush rule {value} does not exist")),
            },
            _ => return refuse(INVALID, format!("unrecognized variable '{key}'")),
        }
        self.moved(now);
        done()
    }

    fn application_enable(&mut self, command: &Command) -> Answer {
        let (name, app) = (command.text("pool"), command.text("app"));
        let Some(pool) = self.pools.get_mut(name) else {
            return refuse(MISSING, format!("unrecognized pool '{name}'"));
        };
        if pool.applications.contains(app) {
            return done();
        }
        if !pool.applications.is_empty() && !flag(command, "yes_i_really_mean_it") {
            return refuse(
                NOT_PERMITTED,
                format!(
                    "Are you SURE? Pool '{name}' already has an enabled application; pass \
                     --yes-i-really-mean-it to proceed anyway"
                ),
            );
        }
        pool.applications.insert(app.to_owned());
        self.osdmap += 1;
        done()
    }

    fn rule_create(&mut self, command: &Command) -> Answer {
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

    fn rule_remove(&mut self, name: &str) -> Answer {
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

    fn add_bucket(&mut self, command: &Command) -> Answer {
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

    fn crush_move(&mut self, command: &Command, now: Instant) -> Answer {
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

    fn crush_remove(&mut self, command: &Command, now: Instant) -> Answer {
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

    fn osd_mark(&mut self, command: &Command, now: Instant) -> Answer {
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

    fn osd_purge(&mut self, command: &Command, now: Instant) -> Answer {
        if !flag(command, "yes_i_really_mean_it") {
            return refuse(
                NOT_PERMITTED,
                "Are you SURE?  Did you verify with 'ceph osd safe-to-destroy'?  This will \
                 PERMANENTLY DESTROY data and there is no going back!",
            );
        }
        for id in self.named(command) {
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

    fn osd_flag(&mut self, command: &Command) -> Answer {
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
}
