//! What a simulated cluster is told: the commands that change it, and what it refuses.

use super::cluster::{Answer, Cluster, Refusal};
use crate::services::ceph::{Command, Target};
use serde_json::Value;
use tokio::time::Instant;

/// The number of EPERM.
pub(super) const NOT_PERMITTED: i32 = 1;

/// The number of EINVAL.
pub(super) const INVALID: i32 = 22;

/// The number of EBUSY.
pub(super) const BUSY: i32 = 16;

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
const CHANGES: &[&str] = &[
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
    "osd lost",
    "osd out",
    "osd pool application disable",
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

/// An error of a command.
pub(super) fn refuse<T>(code: i32, said: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal {
        code,
        said: said.into(),
    })
}

/// There is nothing to tell.
pub(super) fn done() -> Answer {
    Ok(String::new())
}

/// Whether an argument says yes.
pub(super) fn flag(command: &Command, name: &str) -> bool {
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
            "osd pool application disable" => self.application_disable(command),
            "osd crush rule create-replicated" => self.rule_create(command),
            "osd crush rule rm" => self.rule_remove(command.text("name")),
            "osd crush add-bucket" => self.add_bucket(command),
            "osd crush move" => self.crush_move(command, now),
            "osd crush rm" => self.crush_remove(command, now),
            "osd out" | "osd in" | "osd down" => self.osd_mark(command, now),
            "osd lost" => match self.named(command).iter().any(|id| {
                let osd = self.osds.get(id);
                osd.is_some_and(|o| o.up)
            }) {
                true => refuse(BUSY, "osd is not down or doesn't exist"),
                false => done(),
            },
            // The monitors know it by another name, which only managers use.
            "osd purge" if command.target == Target::Mon => {
                refuse(INVALID, "(22) Invalid argument")
            }
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
}
