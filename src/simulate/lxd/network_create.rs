//! Making networks: in one step on a server alone, in two phases in a cluster.

use super::networks::{check_keys, is_own, network_url, split};
use super::reply::{Answer, Refusal, Reply};
use super::updates::updated;
use super::{Call, network_local};
use crate::simulate::database::{Map, NetworkRow, Part, State};
use serde::Deserialize;
use std::collections::BTreeMap;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct NetworkPost {
    name: String,
    #[serde(rename = "type")]
    network_type: String,
    description: String,
    config: Option<Map>,
}

/// Types that LXD can make.
const TYPES: [&str; 5] = ["bridge", "macvlan", "ovn", "physical", "sriov"];

impl Call<'_> {
    /// `POST /1.0/networks`.
    pub(super) fn create_network(&mut self, project: &str) -> Answer {
        let mut body: NetworkPost = self.body()?;
        if body.network_type.is_empty() {
            body.network_type = if project == "default" {
                "bridge"
            } else {
                "ovn"
            }
            .into();
        }
        if body.name.is_empty() {
            return Err(Refusal::bad("No name provided"));
        }
        if !TYPES.contains(&body.network_type.as_str()) {
            return Err(Refusal::bad("Unknown driver"));
        }
        if project != "default" && body.network_type != "ovn" {
            return Err(Refusal::bad(
                "Network type does not support non-default projects",
            ));
        }
        check_name(&body.name)?;
        let config = updated(&Map::new(), body.config.clone(), false);
        let per_member = body.network_type != "ovn";
        if let Some((member, _)) = self.target()? {
            if !per_member {
                return Err(Refusal::bad(format!(
                    "Network type {:?} does not support member specific config",
                    body.network_type
                )));
            }
            return self.define_network(project, body, config, member);
        }
        match (self.db().clustered, per_member) {
            (true, true) => self.finish_network(project, body, config),
            (true, false) => self.create_everywhere(project, body, config),
            (false, _) => self.create_alone(project, body, config),
        }
    }

    /// On a standalone server: a failure leaves nothing behind.
    fn create_alone(&mut self, project: &str, body: NetworkPost, mut config: Map) -> Answer {
        if self.db().network(project, &body.name).is_some() {
            return Err(Refusal::bad("The network already exists"));
        }
        check_keys(&body.name, &body.network_type, &config).map_err(Refusal::failed)?;
        self.check_uplink(&body.network_type, &config)?;
        let at = self.at;
        let (own, _) = split(config.clone());
        network_local::create(self.world, at, &body.name, &body.network_type, &own)
            .map_err(Refusal::failed)?;
        self.delay = self.world.timings.network_create;
        network_local::fill(&body.network_type, &mut config);
        network_local::resolve_auto(self.world, at, &mut config);
        let (own, global) = split(config);
        let part = Part {
            state: State::Created,
            config: own,
        };
        let row = NetworkRow {
            network_type: body.network_type,
            description: body.description,
            config: global,
            state: State::Created,
            parts: BTreeMap::from([(self.member().to_owned(), part)]),
        };
        self.insert_network(project, &body.name, row);
        self.tell("network-created", network_url(project, &body.name), project);
        Ok(Reply::created())
    }

    /// A type without a first phase: all members have their parts at once.
    fn create_everywhere(&mut self, project: &str, body: NetworkPost, config: Map) -> Answer {
        match self.db().network(project, &body.name) {
            Some(row) if row.state == State::Created => {
                return Err(Refusal::bad("The network is already created"));
            }
            Some(_) => {}
            None => {
                let parts = self.db().members.keys();
                let parts = parts.map(|m| (m.clone(), Part::default())).collect();
                let row = NetworkRow {
                    network_type: body.network_type.clone(),
                    description: String::new(),
                    config: Map::new(),
                    state: State::Pending,
                    parts,
                };
                self.insert_network(project, &body.name, row);
            }
        }
        self.finish_network(project, body, config)
    }

    fn check_uplink(&self, network_type: &str, config: &Map) -> Result<(), Refusal> {
        if network_type != "ovn" {
            return Ok(());
        }
        let db = self.db();
        let there = config
            .get("network")
            .is_some_and(|uplink| db.network("default", uplink).is_some());
        if there {
            Ok(())
        } else {
            Err(Refusal::failed("No allowed uplink networks in project"))
        }
    }

    /// The first phase: a member's part. The member need not answer.
    fn define_network(
        &mut self,
        project: &str,
        body: NetworkPost,
        config: Map,
        member: String,
    ) -> Answer {
        if let Some(key) = config.keys().find(|key| !is_own(key)) {
            return Err(Refusal::bad(format!(
                "Config key {key:?} may not be used as member-specific key"
            )));
        }
        let part = Part {
            state: State::Pending,
            config,
        };
        match self.db_mut().network_mut(project, &body.name) {
            Some(row) if row.state != State::Pending => {
                return Err(Refusal::bad("Network is not in pending state"));
            }
            Some(row) if row.network_type != body.network_type => {
                return Err(Refusal::bad(
                    "Requested network type doesn't match type in existing database record",
                ));
            }
            Some(row) if row.parts.contains_key(&member) => {
                return Err(Refusal::bad(format!(
                    "The network is already defined on member {member:?}"
                )));
            }
            Some(row) => {
                row.parts.insert(member, part);
            }
            None => {
                let row = NetworkRow {
                    network_type: body.network_type,
                    description: String::new(),
                    config: Map::new(),
                    state: State::Pending,
                    parts: BTreeMap::from([(member, part)]),
                };
                self.insert_network(project, &body.name, row);
            }
        }
        Ok(Reply::created())
    }

    /// The second phase: the network is made on all members.
    fn finish_network(&mut self, project: &str, body: NetworkPost, config: Map) -> Answer {
        let name = body.name;
        if let Some(key) = config.keys().find(|key| is_own(key)) {
            return Err(Refusal::bad(format!(
                "Config key {key:?} is cluster member specific"
            )));
        }
        let Some(row) = self.db().network(project, &name) else {
            return Err(Refusal::bad(
                "Network not pending on any node (use --target <node> first)",
            ));
        };
        if row.state == State::Created {
            return Err(Refusal::bad("The network is already created"));
        }
        if row.network_type != body.network_type {
            return Err(Refusal::bad(format!(
                "Requested network type {:?} doesn't match type in existing database record {:?}",
                body.network_type, row.network_type
            )));
        }
        if row.state == State::Errored && !config.is_empty() {
            return Err(Refusal::bad(
                "Network already partially created. Please do not specify any global config when \
                 re-running create",
            ));
        }
        let missing = self.shuffled(self.db().members.keys());
        let missing: Vec<&str> = missing
            .into_iter()
            .filter(|m| !row.parts.contains_key(*m))
            .map(String::as_str)
            .collect();
        if !missing.is_empty() {
            return Err(Refusal::bad(format!(
                "Network not defined on nodes: {}",
                missing.join(", ")
            )));
        }
        let first = row.state == State::Pending;
        self.delay = self.world.timings.network_create;
        let config = if first {
            self.first_config(&body.network_type, config)
        } else {
            let row = self.db().network(project, &name);
            row.map(|row| row.config.clone()).unwrap_or_default()
        };
        // Stored before it is looked at, and errored until it is made everywhere. The description
        // is lost.
        if let Some(row) = self.db_mut().network_mut(project, &name) {
            row.config = config.clone();
            row.state = State::Errored;
        }
        self.all_members_up()?;
        check_keys(&name, &body.network_type, &config).map_err(Refusal::failed)?;
        self.check_uplink(&body.network_type, &config)?;
        self.make_network_parts(project, &name, &body.network_type)?;
        if let Some(row) = self.db_mut().network_mut(project, &name) {
            row.state = State::Created;
            if body.network_type == "physical" {
                let key = "volatile.last_state.created".to_owned();
                row.config.insert(key, "false".into());
            }
        }
        // In a cluster no event tells of it.
        Ok(Reply::created())
    }

    /// The global keys of a new network: those that were given and those that LXD adds.
    fn first_config(&mut self, network_type: &str, mut config: Map) -> Map {
        let at = self.at;
        network_local::fill(network_type, &mut config);
        network_local::resolve_auto(self.world, at, &mut config);
        config
    }

    /// Makes the parts that are not there yet: the asked member's first, and when that fails no
    /// other; then those of all others, and the first failure is told.
    fn make_network_parts(
        &mut self,
        project: &str,
        name: &str,
        network_type: &str,
    ) -> Result<(), Refusal> {
        let mut failure = None;
        for (member, machine, address) in self.members_own_first() {
            let row = self.db().network(project, name);
            let pending = row
                .and_then(|row| row.parts.get(&member))
                .filter(|part| part.state != State::Created)
                .map(|part| part.config.clone());
            let Some(own) = pending else {
                continue;
            };
            match network_local::create(self.world, machine, name, network_type, &own) {
                Ok(()) => {
                    let row = self.db_mut().network_mut(project, name);
                    if let Some(part) = row.and_then(|row| row.parts.get_mut(&member)) {
                        part.state = State::Created;
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
}

fn check_name(name: &str) -> Result<(), Refusal> {
    if name.len() < 2 {
        return Err(Refusal::bad(
            "Network interface is too short (minimum 2 characters)",
        ));
    }
    if name.len() > 15 {
        return Err(Refusal::bad(
            "Network interface is too long (maximum 15 characters)",
        ));
    }
    let fits = name
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    if !fits {
        return Err(Refusal::bad(
            "Network interface name contains invalid characters",
        ));
    }
    Ok(())
}
