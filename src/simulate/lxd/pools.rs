//! `/1.0/storage-pools`: the two-phase create and what comes after it.

use super::reply::{Answer, Refusal, Reply};
use super::updates::{ConfigBody, described, updated};
use super::{Call, encode, keys, pool_local};
use crate::services::lxd::Method;
use crate::simulate::contents::Used;
use crate::simulate::database::{Map, Part, PoolRow, State};
use crate::simulate::events::Lifecycle;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PoolPost {
    name: String,
    driver: String,
    description: String,
    config: Option<Map>,
}

impl Call<'_> {
    /// `/1.0/storage-pools…`.
    pub(super) fn pools(&mut self, method: Method, rest: &[&str]) -> Answer {
        match (method, rest) {
            (Method::Get, []) => {
                let rows = &self.db().pools;
                Ok(Reply::value(if self.recursion() {
                    rows.iter()
                        .map(|(name, row)| self.pool_object(name, row, None))
                        .collect()
                } else {
                    rows.keys()
                        .map(|name| Value::from(pool_url(name)))
                        .collect()
                }))
            }
            (Method::Post, []) => self.create_pool(),
            (Method::Get, [name]) => {
                let target = self.reached_target()?;
                let row = self.pool_row(name)?;
                let object = self.pool_object(name, row, target.as_ref().map(|(t, _)| t.as_str()));
                let writable = writable(&object);
                Ok(Reply::object(object, &writable))
            }
            (Method::Put, [name]) => self.write_pool(name, false),
            (Method::Patch, [name]) => self.write_pool(name, true),
            (Method::Delete, [name]) => self.delete_pool(name),
            _ => Err(Refusal::not_implemented()),
        }
    }

    fn pool_row(&self, name: &str) -> Result<&PoolRow, Refusal> {
        self.db()
            .pools
            .get(name)
            .ok_or_else(|| Refusal::not_found("Storage pool not found"))
    }

    /// A pool as the API gives it: with a target, or on a standalone server, with that member's
    /// keys and state.
    fn pool_object(&self, name: &str, row: &PoolRow, target: Option<&str>) -> Value {
        let alone = (!self.db().clustered).then(|| self.member());
        let part = target.or(alone).and_then(|member| row.parts.get(member));
        let mut config = row.config.clone();
        let mut state = row.state;
        if let Some(part) = part {
            config.extend(part.config.clone());
            if target.is_some() && row.state != State::Pending {
                state = part.state;
            }
        }
        json!({
            "name": name,
            "driver": row.driver,
            "description": row.description,
            "config": config,
            "status": state.word(),
            "locations": row.parts.keys().collect::<Vec<_>>(),
            "used_by": self.db().contents.used_by(&Used::Pool(name.to_owned())),
        })
    }

    fn create_pool(&mut self) -> Answer {
        let body: PoolPost = self.body()?;
        check_name(&body.name)?;
        if body.driver.is_empty() {
            return Err(Refusal::bad("No driver provided"));
        }
        let config = updated(&Map::new(), body.config.clone(), false);
        check_keys(&body.driver, &config)?;
        if let Some((member, machine)) = self.target()? {
            return self.define_pool(body, config, member, machine);
        }
        let db = self.db();
        let existing = db.pools.get(&body.name);
        if db.clustered && (db.members.len() > 1 || existing.is_some()) {
            return self.finish_pool(body, config);
        }
        if existing.is_some() {
            return Err(Refusal::bad("The storage pool already exists"));
        }
        let (own, global) = split(config);
        let part = pool_local::create(self.world, self.at, &body.name, &body.driver, &own)
            .map_err(Refusal::failed)?;
        self.delay = self.world.timings.pool_create;
        let member = self.member().to_owned();
        let row = PoolRow {
            driver: body.driver,
            description: body.description,
            config: global,
            state: State::Created,
            parts: BTreeMap::from([(
                member,
                Part {
                    state: State::Created,
                    config: part,
                },
            )]),
        };
        self.db_mut().pools.insert(body.name.clone(), row);
        self.tell_pool("storage-pool-created", &body.name);
        Ok(Reply::created())
    }

    /// The first phase: a member's part.
    fn define_pool(
        &mut self,
        body: PoolPost,
        config: Map,
        member: String,
        machine: usize,
    ) -> Answer {
        if let Some(key) = config
            .keys()
            .find(|k| !keys::POOL_MEMBER.contains(&k.as_str()))
        {
            return Err(Refusal::bad(format!(
                "Config key {key:?} may not be used as member-specific key"
            )));
        }
        let supported = &self.world.machines[machine].config.storage_drivers;
        if !supported.contains(&body.driver) {
            return Err(Refusal::bad(format!(
                "Storage driver {:?} is not supported",
                body.driver
            )));
        }
        if let Some(row) = self.db().pools.get(&body.name) {
            if row.parts.contains_key(&member) {
                return Err(Refusal::bad(format!(
                    "The storage pool already defined on member {member:?}"
                )));
            }
            if row.driver != body.driver {
                return Err(Refusal::bad(
                    "Storage pool already exists with a different driver",
                ));
            }
            if row.state != State::Pending {
                return Err(Refusal::bad("Storage pool is not in pending state"));
            }
        }
        let description = body.description;
        let row = self
            .db_mut()
            .pools
            .entry(body.name)
            .or_insert_with(|| PoolRow {
                driver: body.driver,
                description,
                config: Map::new(),
                state: State::Pending,
                parts: BTreeMap::new(),
            });
        let part = Part {
            state: State::Pending,
            config,
        };
        row.parts.insert(member, part);
        Ok(Reply::created())
    }

    /// The second phase: the pool is made on all members.
    fn finish_pool(&mut self, body: PoolPost, config: Map) -> Answer {
        let name = body.name;
        if let Some(key) = config
            .keys()
            .find(|k| keys::POOL_MEMBER.contains(&k.as_str()))
        {
            return Err(Refusal::failed(format!(
                "Config key {key:?} is cluster member specific"
            )));
        }
        let Some(row) = self.db().pools.get(&name).cloned() else {
            return Err(Refusal::bad(
                "Pool not pending on any node (use --target <node> first)",
            ));
        };
        if row.state == State::Created {
            return Err(Refusal::failed("The storage pool is already created"));
        }
        if row.driver != body.driver {
            return Err(Refusal::failed(format!(
                "Requested storage pool driver {:?} doesn't match driver in existing database record {:?}",
                body.driver, row.driver
            )));
        }
        if row.state == State::Errored && !config.is_empty() {
            return Err(Refusal::failed(
                "Storage pool already partially created. Please do not specify any global config when re-running create",
            ));
        }
        let members: Vec<(String, usize)> = self
            .db()
            .members
            .iter()
            .map(|(name, m)| (name.clone(), m.machine))
            .collect();
        let missing: Vec<&str> = members
            .iter()
            .filter(|(m, _)| !row.parts.contains_key(m))
            .map(|(m, _)| m.as_str())
            .collect();
        if !missing.is_empty() {
            return Err(Refusal::failed(format!(
                "Pool not defined on nodes: {}",
                missing.join(", ")
            )));
        }
        self.all_members_up()?;
        self.delay = self.world.timings.pool_create;
        if let Some(row) = self.db_mut().pools.get_mut(&name) {
            if row.state == State::Pending {
                row.config = config;
                if !body.description.is_empty() {
                    row.description = body.description;
                }
            }
            // Until it is made everywhere.
            row.state = State::Errored;
            for part in row.parts.values_mut().filter(|p| p.state == State::Pending) {
                part.state = State::Errored;
            }
        }
        self.make_parts(&name, &row, members)?;
        if let Some(row) = self.db_mut().pools.get_mut(&name) {
            row.state = State::Created;
        }
        self.tell_pool("storage-pool-created", &name);
        Ok(Reply::created())
    }

    /// Makes the parts that are not there yet, the asked member's first; the first failure ends
    /// the request after all were tried.
    fn make_parts(
        &mut self,
        name: &str,
        row: &PoolRow,
        mut members: Vec<(String, usize)>,
    ) -> Result<(), Refusal> {
        let at = self.at;
        members.sort_by_key(|(_, machine)| *machine != at);
        let mut failure = None;
        for (member, machine) in members {
            let Some(part) = row.parts.get(&member).filter(|p| p.state != State::Created) else {
                continue;
            };
            match pool_local::create(self.world, machine, name, &row.driver, &part.config) {
                Ok(config) => {
                    if let Some(row) = self.db_mut().pools.get_mut(name) {
                        let part = Part {
                            state: State::Created,
                            config,
                        };
                        row.parts.insert(member, part);
                    }
                }
                // Nothing is asked of the others when it failed here.
                Err(why) if machine == at => return Err(Refusal::failed(why)),
                Err(why) => {
                    failure.get_or_insert(why);
                }
            }
        }
        failure.map_or(Ok(()), |why| Err(Refusal::failed(why)))
    }

    fn write_pool(&mut self, name: &str, merge: bool) -> Answer {
        let target = self.reached_target()?;
        let row = self.pool_row(name)?;
        let shown = self.pool_object(name, row, target.as_ref().map(|(t, _)| t.as_str()));
        self.check_etag(&writable(&shown))?;
        let body: ConfigBody = self.body()?;
        let alone = !self.db().clustered;
        let member = match &target {
            Some((name, _)) => name.clone(),
            None => self.member().to_owned(),
        };
        let given = body.config.unwrap_or_default();
        for key in given.keys() {
            let own = keys::POOL_MEMBER.contains(&key.as_str());
            if !alone && target.is_none() && own {
                return Err(Refusal::bad(format!(
                    "Config key {key:?} is cluster member specific"
                )));
            }
            if target.is_some() && !own {
                return Err(Refusal::bad(format!(
                    "Config key {key:?} may not be used as member-specific key"
                )));
            }
        }
        let part = row.parts.get(&member).cloned().unwrap_or_default();
        let (mut own, mut global) = (part.config.clone(), row.config.clone());
        if alone {
            let mut old = global.clone();
            old.extend(own.clone());
            (own, global) = split(updated(&old, Some(given), merge));
        } else if target.is_some() {
            own = updated(&own, Some(given), merge);
        } else {
            global = updated(&global, Some(given), merge);
        }
        check_keys(&row.driver, &global)?;
        check_keys(&row.driver, &own)?;
        for key in keys::POOL_IMMUTABLE {
            let (old_own, old_global) = (part.config.get(*key), row.config.get(*key));
            if row.state == State::Created
                && (own.get(*key) != old_own || global.get(*key) != old_global)
            {
                return Err(Refusal::failed(format!("Pool {key} cannot be changed")));
            }
        }
        let description = described(&row.description, body.description, merge);
        self.all_members_up()?;
        if let Some(row) = self.db_mut().pools.get_mut(name) {
            row.config = global;
            row.description = description;
            if let Some(part) = row.parts.get_mut(&member) {
                part.config = own;
            }
        }
        self.tell_pool("storage-pool-updated", name);
        Ok(Reply::empty())
    }

    fn delete_pool(&mut self, name: &str) -> Answer {
        self.pool_row(name)?;
        if self.db().contents.in_use(&Used::Pool(name.to_owned())) {
            return Err(Refusal::bad("The storage pool is currently in use"));
        }
        self.all_members_up()?;
        self.db_mut().pools.remove(name);
        self.tell_pool("storage-pool-deleted", name);
        Ok(Reply::empty())
    }

    fn tell_pool(&mut self, action: &str, name: &str) {
        let at = self.at;
        self.world.emit(
            at,
            Lifecycle {
                action,
                source: pool_url(name),
                ..Lifecycle::default()
            },
        );
    }
}

fn pool_url(name: &str) -> String {
    format!("/1.0/storage-pools/{}", encode(name))
}

fn writable(object: &Value) -> Value {
    json!([
        object["name"],
        object["driver"],
        object["description"],
        object["config"]
    ])
}

/// A member's keys and those of all.
fn split(config: Map) -> (Map, Map) {
    config
        .into_iter()
        .partition(|(key, _)| keys::POOL_MEMBER.contains(&key.as_str()))
}

fn check_keys(driver: &str, config: &Map) -> Result<(), Refusal> {
    match config.keys().find(|key| !keys::pool_key_known(driver, key)) {
        Some(key) => Err(Refusal::bad(format!(
            "Invalid option for storage pool: {key:?}"
        ))),
        None => Ok(()),
    }
}

fn check_name(name: &str) -> Result<(), Refusal> {
    if name.is_empty() {
        return Err(Refusal::bad("No name provided"));
    }
    if name.contains('/') {
        return Err(Refusal::bad("Storage pool names may not contain slashes"));
    }
    Ok(())
}
