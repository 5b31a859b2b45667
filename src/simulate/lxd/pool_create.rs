//! Making storage pools: in one step on a server alone, in two phases in a cluster.

use super::pools::{check_keys, is_own, pool_url, split};
use super::reply::{Answer, Refusal, Reply};
use super::updates::updated;
use super::{Call, pool_ceph, pool_local};
use crate::simulate::database::{Map, Part, PoolRow, State};
use serde::Deserialize;
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
    /// `POST /1.0/storage-pools`.
    pub(super) fn create_pool(&mut self) -> Answer {
        let body: PoolPost = self.body()?;
        check_name(&body.name)?;
        if body.driver.is_empty() {
            return Err(Refusal::bad("No driver provided"));
        }
        let config = updated(&Map::new(), body.config.clone(), false);
        if let Some((member, _)) = self.target()? {
            return self.define_pool(body, config, member);
        }
        if self.db().clustered {
            return self.finish_pool(body, config);
        }
        if self.db().pools.contains_key(&body.name) {
            return Err(Refusal::conflict(
                "The storage pool already exists: The record already exists",
            ));
        }
        if let Some(error) = pool_local::driver_error(self.world, self.at, &body.driver) {
            return Err(Refusal::failed(error));
        }
        check_keys(&body.driver, &config).map_err(Refusal::failed)?;
        let (own, global) = split(config);
        let part = pool_local::create(self.world, self.at, &body.name, &body.driver, &own)
            .map_err(Refusal::failed)?;
        let global = self
            .in_ceph(&body.name, &body.driver, &part, &global)
            .map_err(Refusal::failed)?;
        self.delay = self.world.timings.pool_create;
        let member = self.member().to_owned();
        let part = Part {
            state: State::Created,
            config: part,
        };
        let row = PoolRow {
            driver: body.driver,
            description: body.description,
            config: global,
            state: State::Created,
            parts: BTreeMap::from([(member, part)]),
        };
        self.db_mut().pools.insert(body.name.clone(), row);
        self.tell("storage-pool-created", pool_url(&body.name), "");
        Ok(Reply::created())
    }

    /// The first phase: a member's part. The member need not answer.
    fn define_pool(&mut self, body: PoolPost, config: Map, member: String) -> Answer {
        if let Some(key) = config.keys().find(|key| !is_own(key)) {
            return Err(Refusal::failed(format!(
                "Config key {key:?} may not be used as member-specific key"
            )));
        }
        if let Some(error) = pool_local::driver_error(self.world, self.at, &body.driver) {
            return Err(Refusal::failed(error));
        }
        if let Some(row) = self.db().pools.get(&body.name) {
            if row.state != State::Pending {
                return Err(Refusal::failed("Storage pool is not in pending state"));
            }
            if row.driver != body.driver {
                return Err(Refusal::failed(
                    "Storage pool already exists with a different driver",
                ));
            }
            if row.parts.contains_key(&member) {
                return Err(Refusal::bad(format!(
                    "The storage pool already defined on member {member:?}"
                )));
            }
        }
        // A description is lost here.
        let row = self
            .db_mut()
            .pools
            .entry(body.name)
            .or_insert_with(|| PoolRow {
                driver: body.driver,
                description: String::new(),
                config: Map::new(),
                state: State::Pending,
                parts: BTreeMap::new(),
            });
        let part = Part {
            state: State::Pending,
            config,
        };
        row.parts.insert(member, part);
        // No event tells of it.
        Ok(Reply::created())
    }

    /// The second phase: the pool is made on all members.
    fn finish_pool(&mut self, body: PoolPost, config: Map) -> Answer {
        let name = body.name.clone();
        if let Some(key) = config.keys().find(|key| is_own(key)) {
            return Err(Refusal::failed(format!(
                "Config key {key:?} is cluster member specific"
            )));
        }
        let Some(row) = self.db().pools.get(&name) else {
            return Err(Refusal::failed(
                "Pool not pending on any node (use --target <node> first)",
            ));
        };
        if row.state == State::Created {
            return Err(Refusal::failed("The storage pool is already created"));
        }
        if row.driver != body.driver {
            return Err(Refusal::failed(format!(
                "Requested storage pool driver {:?} doesn't match driver in existing database \
                 record {:?}",
                body.driver, row.driver
            )));
        }
        if row.state == State::Errored && !config.is_empty() {
            return Err(Refusal::failed(
                "Storage pool already partially created. Please do not specify any global config \
                 when re-running create",
            ));
        }
        let missing = self.shuffled(self.db().members.keys());
        let missing: Vec<&str> = missing
            .into_iter()
            .filter(|m| !row.parts.contains_key(*m))
            .map(String::as_str)
            .collect();
        if !missing.is_empty() {
            return Err(Refusal::failed(format!(
                "Pool not defined on nodes: {}",
                missing.join(", ")
            )));
        }
        check_keys(&body.driver, &config).map_err(Refusal::failed)?;
        self.delay = self.world.timings.pool_create;
        // From here on it is errored until it is made everywhere.
        if let Some(row) = self.db_mut().pools.get_mut(&name) {
            row.state = State::Errored;
            row.description = body.description;
            row.config.extend(config);
        }
        self.all_members_up()?;
        self.make_pool_parts(&name, &body.driver)?;
        if let Some(row) = self.db_mut().pools.get_mut(&name) {
            row.state = State::Created;
        }
        self.tell("storage-pool-created", pool_url(&name), "");
        Ok(Reply::created())
    }

    /// Makes the parts that are not there yet: the asked member's first, and when that fails no
    /// other; then those of all others, and the first failure is told.
    fn make_pool_parts(&mut self, name: &str, driver: &str) -> Result<(), Refusal> {
        let mut failure = None;
        for (member, machine, address) in self.members_own_first() {
            let row = self.db().pools.get(name);
            let pending = row
                .and_then(|row| row.parts.get(&member))
                .filter(|part| part.state != State::Created)
                .map(|part| part.config.clone());
            let Some(own) = pending else {
                continue;
            };
            let made = pool_local::create(self.world, machine, name, driver, &own);
            let global = self.db().pools.get(name).map(|row| row.config.clone());
            let made = match made {
                // What is in Ceph is made by the asked member for all.
                Ok(own) if machine == self.at => self
                    .in_ceph(name, driver, &own, &global.unwrap_or_default())
                    .map(|global| (own, Some(global))),
                made => made.map(|own| (own, None)),
            };
            match made {
                Ok((config, global)) => {
                    if let Some(row) = self.db_mut().pools.get_mut(name) {
                        if let Some(global) = global {
                            row.config = global;
                        }
                        let part = Part {
                            state: State::Created,
                            config,
                        };
                        row.parts.insert(member, part);
                    }
                }
                Err(why) if machine == self.at => return Err(Refusal::failed(why)),
                Err(why) => {
                    failure.get_or_insert(format!("failed to notify peer {address}: {why}"));
                }
            }
        }
        failure.map_or(Ok(()), |why| Err(Refusal::failed(why)))
    }

    /// Makes in Ceph what a pool is on; gives the keys of all as they then are.
    fn in_ceph(
        &mut self,
        name: &str,
        driver: &str,
        own: &Map,
        global: &Map,
    ) -> Result<Map, String> {
        let source = own.get("source").cloned().unwrap_or_default();
        pool_ceph::create(self.world, self.at, name, driver, &source, global)
    }

    /// Names, machines and addresses of all members, the asked one first.
    pub(super) fn members_own_first(&self) -> Vec<(String, usize, String)> {
        let rows = &self.db().members;
        let mut members: Vec<(String, usize, String)> = rows
            .iter()
            .map(|(name, row)| (name.clone(), row.machine, row.address.clone()))
            .collect();
        members.sort_by_key(|(_, machine, _)| *machine != self.at);
        members
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
