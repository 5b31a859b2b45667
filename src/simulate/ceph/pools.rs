//! What a simulated cluster is told of pools, and of the file systems on them.

use super::answers::MISSING;
use super::changes::{BUSY, INVALID, NOT_PERMITTED, done, flag, refuse};
use super::cluster::{Answer, Cluster, FileSystem, Refusal};
use crate::services::ceph::Command;
use serde_json::Value;
use tokio::time::Instant;

impl Cluster {
    pub(super) fn pool_create(&mut self, command: &Command, now: Instant) -> Answer {
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

    pub(super) fn pool_delete(&mut self, command: &Command) -> Answer {
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

    pub(super) fn pool_set(&mut self, command: &Command, now: Instant) -> Answer {
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

    pub(super) fn application_enable(&mut self, command: &Command) -> Answer {
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

    pub(super) fn application_disable(&mut self, command: &Command) -> Answer {
        let (name, app) = (command.text("pool"), command.text("app"));
        let Some(pool) = self.pools.get_mut(name) else {
            return refuse(MISSING, format!("unrecognized pool '{name}'"));
        };
        if !flag(command, "yes_i_really_mean_it") {
            return refuse(
                NOT_PERMITTED,
                "Are you SURE? Disabling an application within a pool might result in loss of \
                 application functionality; pass --yes-i-really-mean-it to proceed anyway"
                    .to_owned(),
            );
        }
        pool.applications.remove(app);
        self.osdmap += 1;
        done()
    }

    pub(super) fn fs_new(&mut self, command: &Command) -> Answer {
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
}
