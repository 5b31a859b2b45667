//! `/1.0/storage-pools`: what there is, changing and deleting it. See `pool_create.rs` for how
//! pools are made.

use super::reply::{Answer, Refusal, Reply};
use super::updates::{ConfigBody, updated};
use super::{Call, encode, keys, pool_ceph, pool_local};
use crate::services::lxd::Method;
use crate::simulate::contents::Used;
use crate::simulate::database::{Map, PoolRow, State};
use serde_json::{Value, json};

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
        config.extend(part.into_iter().flat_map(|p| p.config.clone()));
        let status = match (target, part) {
            (None, _) => row.state.word(),
            (Some(_), None) => "Unknown",
            (Some(_), Some(part)) => part.state.word(),
        };
        json!({
            "name": name,
            "driver": row.driver,
            "description": row.description,
            "config": config,
            "status": status,
            "locations": self.shuffled(row.parts.keys()),
            "used_by": self.db().contents.used_by(&Used::Pool(name.to_owned())),
        })
    }

    /// PUT and PATCH. With a target the body is the whole of the member's keys and the global
    /// ones: of these none may change, but those that are left out of a PUT are gone for all.
    fn write_pool(&mut self, name: &str, merge: bool) -> Answer {
        let target = self.reached_target()?;
        let row = self.pool_row(name)?;
        if target.is_none() && row.state != State::Created {
            return Err(Refusal::bad(
                "Cannot update storage pool global config when not in created state",
            ));
        }
        let shown = self.pool_object(name, row, target.as_ref().map(|(t, _)| t.as_str()));
        self.check_etag(&writable(&shown))?;
        let body: ConfigBody = self.body()?;
        let alone = !self.db().clustered;
        let member = match &target {
            Some((name, _)) => name.clone(),
            None => self.member().to_owned(),
        };
        let given = body.config.unwrap_or_default();
        let part = row.parts.get(&member).cloned().unwrap_or_default();
        let whole: Map = part.config.iter().chain(&row.config).map(owned).collect();
        let new = if target.is_some() || alone {
            if let Some(key) = given
                .keys()
                .filter(|key| target.is_some() && !is_own(key))
                .find(|key| given.get(*key) != row.config.get(*key))
            {
                return Err(Refusal::bad(format!(
                    "Config key {key:?} may not be used as cluster member specific key"
                )));
            }
            updated(&whole, Some(given), merge)
        } else {
            if let Some(key) = given.keys().find(|key| is_own(key)) {
                return Err(Refusal::bad(format!(
                    "Config key {key:?} is cluster member specific"
                )));
            }
            let mut new = updated(&row.config, Some(given), merge);
            new.extend(part.config.clone());
            new
        };
        check_keys(&row.driver, &new).map_err(Refusal::bad)?;
        let (own, global) = split(new);
        let created = row.state == State::Created && part.state == State::Created;
        if created && own.get("source") != part.config.get("source") {
            return Err(Refusal::failed(
                "Pool source cannot be changed when not in pending state",
            ));
        }
        if target.is_none() {
            self.all_members_up()?;
        }
        if let Some(row) = self.db_mut().pools.get_mut(name) {
            row.config = global;
            // Not given is empty, also in a PATCH.
            row.description = body.description.unwrap_or_default();
            if let Some(part) = row.parts.get_mut(&member) {
                part.config = own;
            }
        }
        self.tell_all("storage-pool-updated", &pool_url(name), "");
        Ok(Reply::empty())
    }

    fn delete_pool(&mut self, name: &str) -> Answer {
        self.pool_row(name)?;
        if self.db().contents.in_use(&Used::Pool(name.to_owned())) {
            return Err(Refusal::bad("The storage pool is currently in use"));
        }
        self.all_members_up()?;
        let row = self.pool_row(name)?;
        if row.state == State::Created {
            let (driver, config) = (row.driver.clone(), row.config.clone());
            pool_ceph::delete(self.world, self.at, &driver, &config).map_err(Refusal::failed)?;
        }
        let row = self.db_mut().pools.remove(name);
        let made = row.into_iter().flat_map(|row| row.parts);
        for (member, part) in made {
            let machine = self.world.machine_of(self.at, &member).unwrap_or(self.at);
            if part.state == State::Created {
                pool_local::delete(self.world, machine, name);
            }
        }
        self.tell("storage-pool-deleted", pool_url(name), "");
        Ok(Reply::empty())
    }
}

pub(super) fn pool_url(name: &str) -> String {
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

fn owned((key, value): (&String, &String)) -> (String, String) {
    (key.clone(), value.clone())
}

pub(super) fn is_own(key: &str) -> bool {
    keys::POOL_MEMBER.contains(&key)
}

/// A member's keys and those of all.
pub(super) fn split(config: Map) -> (Map, Map) {
    config.into_iter().partition(|(key, _)| is_own(key))
}

/// Why a pool of this driver cannot have this configuration, if so.
pub(super) fn check_keys(driver: &str, config: &Map) -> Result<(), String> {
    match config.keys().find(|key| !keys::pool_key_known(driver, key)) {
        Some(key) => Err(format!("Invalid option {key:?}")),
        None => Ok(()),
    }
}
