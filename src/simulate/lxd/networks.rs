//! `/1.0/networks`: managed networks with their two-phase create, and the machine's interfaces.

use super::reply::{Answer, Refusal, Reply};
use super::updates::{ConfigBody, described, updated};
use super::{Call, encode, keys, network_local};
use crate::services::lxd::Method;
use crate::simulate::contents::{Used, with_project};
use crate::simulate::database::{Map, NetworkRow, Part, State};
use crate::simulate::events::Lifecycle;
use serde::Deserialize;
use serde_json::{Value, json};
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
    /// `/1.0/networks…`.
    pub(super) fn networks(&mut self, method: Method, rest: &[&str]) -> Answer {
        let asked = self.project()?;
        let project = self.db().project_of(&asked, "features.networks").to_owned();
        match (method, rest) {
            (Method::Get, []) => Ok(self.list_networks(&project)),
            (Method::Post, []) => self.create_network(&project),
            (Method::Get, [name]) => self.get_network(&project, name),
            (Method::Put, [name]) => self.write_network(&project, name, false),
            (Method::Patch, [name]) => self.write_network(&project, name, true),
            (Method::Delete, [name]) => self.delete_network(&project, name),
            _ => Err(Refusal::not_implemented()),
        }
    }

    fn network_row(&self, project: &str, name: &str) -> Result<&NetworkRow, Refusal> {
        self.db()
            .network(project, name)
            .ok_or_else(|| Refusal::not_found("Network not found"))
    }

    fn list_networks(&self, project: &str) -> Reply {
        let rows = self.db().networks.get(project);
        let mut list: BTreeMap<&str, Value> = BTreeMap::new();
        for (name, row) in rows.into_iter().flatten() {
            let item = if self.recursion() {
                self.network_object(project, name, row, None)
            } else {
                Value::from(network_url(project, name))
            };
            list.insert(name, item);
        }
        // The machine's interfaces are shown too, in the default project.
        if project == "default" {
            for interface in &self.world.machines[self.at].config.interfaces {
                list.entry(&interface.name).or_insert_with(|| {
                    if self.recursion() {
                        unmanaged(&interface.name, &interface.kind)
                    } else {
                        Value::from(network_url(project, &interface.name))
                    }
                });
            }
        }
        Reply::value(list.into_values().collect())
    }

    fn get_network(&mut self, project: &str, name: &str) -> Answer {
        let target = self.reached_target()?;
        let Some(row) = self.db().network(project, name) else {
            let at = target.map_or(self.at, |(_, machine)| machine);
            let interface = self.world.machines[at]
                .config
                .interfaces
                .iter()
                .find(|i| i.name == name && project == "default")
                .ok_or_else(|| Refusal::not_found("Network not found"))?;
            let object = unmanaged(&interface.name, &interface.kind);
            let writable = writable(&object);
            return Ok(Reply::object(object, &writable));
        };
        let object =
            self.network_object(project, name, row, target.as_ref().map(|(t, _)| t.as_str()));
        let writable = writable(&object);
        Ok(Reply::object(object, &writable))
    }

    fn network_object(
        &self,
        project: &str,
        name: &str,
        row: &NetworkRow,
        target: Option<&str>,
    ) -> Value {
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
        let used = Used::Network(project.to_owned(), name.to_owned());
        json!({
            "name": name,
            "type": row.network_type,
            "description": row.description,
            "managed": true,
            "config": config,
            "status": state.word(),
            "locations": row.parts.keys().collect::<Vec<_>>(),
            "used_by": self.db().contents.used_by(&used),
        })
    }

    fn create_network(&mut self, project: &str) -> Answer {
        let mut body: NetworkPost = self.body()?;
        if body.network_type.is_empty() {
            body.network_type = if project == "default" {
                "bridge"
            } else {
                "ovn"
            }
            .into();
        }
        if !TYPES.contains(&body.network_type.as_str()) {
            return Err(Refusal::bad(format!(
                "Network type {:?} is not supported",
                body.network_type
            )));
        }
        if project != "default" && body.network_type != "ovn" {
            return Err(Refusal::bad(
                "Network type does not support non-default projects",
            ));
        }
        check_name(&body.name, &body.network_type)?;
        let config = updated(&Map::new(), body.config.clone(), false);
        check_keys(&body.network_type, &config)?;
        let per_member = body.network_type != "ovn";
        if let Some((member, machine)) = self.target()? {
            if !per_member {
                return Err(Refusal::bad(format!(
                    "Network type {:?} does not support member specific configuration",
                    body.network_type
                )));
            }
            return self.define_network(project, body, config, member, machine);
        }
        self.check_uplink(&body.network_type, &config)?;
        let db = self.db();
        let existing = db.network(project, &body.name);
        if existing.is_some_and(|row| row.state == State::Created) {
            return Err(Refusal::bad("The network already exists"));
        }
        if db.clustered && per_member && (db.members.len() > 1 || existing.is_some()) {
            return self.finish_network(project, body, config);
        }
        // On one server, or of a type that every member makes by itself.
        let (own, global) = split(config);
        let members: Vec<(String, usize)> = if db.clustered {
            db.members
                .iter()
                .map(|(n, m)| (n.clone(), m.machine))
                .collect()
        } else {
            vec![(self.member().to_owned(), self.at)]
        };
        if db.clustered {
            self.all_members_up()?;
        }
        let parts = members
            .iter()
            .map(|(m, _)| {
                let part = Part {
                    state: State::Pending,
                    config: own.clone(),
                };
                (m.clone(), part)
            })
            .collect();
        let row = NetworkRow {
            network_type: body.network_type.clone(),
            description: body.description.clone(),
            config: Map::new(),
            state: State::Pending,
            parts,
        };
        self.insert_network(project, &body.name, row);
        let name = body.name.clone();
        let made = self.make_network(project, body, global, members);
        if made.is_err() && !self.db().clustered {
            // A standalone server leaves nothing behind.
            self.remove_network(project, &name);
        }
        made
    }

    fn check_uplink(&self, network_type: &str, config: &Map) -> Result<(), Refusal> {
        if network_type != "ovn" {
            return Ok(());
        }
        let Some(uplink) = config.get("network") else {
            return Err(Refusal::bad("Missing required \"network\" property"));
        };
        if uplink == "none" || self.db().network("default", uplink).is_some() {
            Ok(())
        } else {
            Err(Refusal::failed(format!(
                "Failed loading uplink network {uplink:?}: Network not found"
            )))
        }
    }

    /// The first phase: a member's part.
    fn define_network(
        &mut self,
        project: &str,
        body: NetworkPost,
        config: Map,
        member: String,
        machine: usize,
    ) -> Answer {
        if let Some(key) = config
            .keys()
            .find(|k| !keys::NETWORK_MEMBER.contains(&k.as_str()))
        {
            return Err(Refusal::bad(format!(
                "Config key {key:?} may not be used as member-specific key"
            )));
        }
        let _ = machine;
        let part = Part {
            state: State::Pending,
            config,
        };
        match self.db_mut().network_mut(project, &body.name) {
            Some(row) if row.parts.contains_key(&member) => {
                return Err(Refusal::bad(format!(
                    "The network is already defined on member {member:?}"
                )));
            }
            Some(row) if row.network_type != body.network_type => {
                return Err(Refusal::bad("Network already exists with a different type"));
            }
            Some(row) if row.state != State::Pending => {
                return Err(Refusal::bad("Network is not in pending state"));
            }
            Some(row) => {
                row.parts.insert(member, part);
            }
            None => {
                let row = NetworkRow {
                    network_type: body.network_type,
                    description: body.description,
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
        if let Some(key) = config
            .keys()
            .find(|k| keys::NETWORK_MEMBER.contains(&k.as_str()))
        {
            return Err(Refusal::bad(format!(
                "Config key {key:?} is cluster member specific"
            )));
        }
        let Some(row) = self.db().network(project, &body.name).cloned() else {
            return Err(Refusal::bad(
                "Network not pending on any member (use --target <member> first)",
            ));
        };
        if row.network_type != body.network_type {
            return Err(Refusal::bad(format!(
                "Requested network type {:?} doesn't match type in existing database record {:?}",
                body.network_type, row.network_type
            )));
        }
        if row.state == State::Errored && !config.is_empty() {
            return Err(Refusal::bad(
                "Network already partially created. Please do not specify any global config when re-running create",
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
            return Err(Refusal::bad(format!(
                "Network not defined on nodes: {}",
                missing.join(", ")
            )));
        }
        self.all_members_up()?;
        self.make_network(project, body, config, members)
    }

    /// Makes a network on these members, the asked one first.
    fn make_network(
        &mut self,
        project: &str,
        body: NetworkPost,
        mut config: Map,
        mut members: Vec<(String, usize)>,
    ) -> Answer {
        self.delay = self.world.timings.network_create;
        let name = body.name;
        let at = self.at;
        let first = self
            .db()
            .network(project, &name)
            .is_some_and(|row| row.state == State::Pending);
        if first {
            network_local::fill(&body.network_type, &mut config);
            network_local::resolve_auto(self.world, at, &mut config);
            if body.network_type == "bridge" && !config.contains_key("bridge.hwaddr") {
                let draw = self.world.draw();
                config.insert(
                    "volatile.bridge.hwaddr".into(),
                    network_local::bridge_hwaddr(&name, &draw),
                );
            }
        }
        if let Some(row) = self.db_mut().network_mut(project, &name) {
            if first {
                row.config = config;
                if !body.description.is_empty() {
                    row.description = body.description;
                }
            }
            row.state = State::Errored;
            for part in row.parts.values_mut().filter(|p| p.state == State::Pending) {
                part.state = State::Errored;
            }
        }
        members.sort_by_key(|(_, machine)| *machine != at);
        let mut failure = None;
        for (member, machine) in members {
            let part = self
                .db()
                .network(project, &name)
                .and_then(|row| row.parts.get(&member))
                .filter(|part| part.state != State::Created)
                .cloned();
            let Some(part) = part else {
                continue;
            };
            match network_local::create(
                self.world,
                machine,
                &name,
                &body.network_type,
                &part.config,
            ) {
                Ok(()) => {
                    if let Some(part) = self
                        .db_mut()
                        .network_mut(project, &name)
                        .and_then(|row| row.parts.get_mut(&member))
                    {
                        part.state = State::Created;
                    }
                }
                Err(why) if machine == at => return Err(Refusal::failed(why)),
                Err(why) => {
                    failure.get_or_insert(why);
                }
            }
        }
        if let Some(why) = failure {
            return Err(Refusal::failed(why));
        }
        if let Some(row) = self.db_mut().network_mut(project, &name) {
            row.state = State::Created;
        }
        self.tell_network("network-created", project, &name);
        Ok(Reply::created())
    }

    fn write_network(&mut self, project: &str, name: &str, merge: bool) -> Answer {
        let target = self.reached_target()?;
        let row = self.network_row(project, name)?;
        let shown =
            self.network_object(project, name, row, target.as_ref().map(|(t, _)| t.as_str()));
        self.check_etag(&writable(&shown))?;
        let body: ConfigBody = self.body()?;
        let alone = !self.db().clustered;
        let member = match &target {
            Some((name, _)) => name.clone(),
            None => self.member().to_owned(),
        };
        let given = body.config.unwrap_or_default();
        for key in given.keys() {
            let own = keys::NETWORK_MEMBER.contains(&key.as_str());
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
        let network_type = row.network_type.clone();
        let description = described(&row.description, body.description, merge);
        check_keys(&network_type, &global)?;
        check_keys(&network_type, &own)?;
        self.check_uplink(&network_type, &global)?;
        self.all_members_up()?;
        let at = self.at;
        network_local::resolve_auto(self.world, at, &mut global);
        if let Some(row) = self.db_mut().network_mut(project, name) {
            row.config = global;
            row.description = description;
            if let Some(part) = row.parts.get_mut(&member) {
                part.config = own;
            }
        }
        self.tell_network("network-updated", project, name);
        Ok(Reply::empty())
    }

    fn delete_network(&mut self, project: &str, name: &str) -> Answer {
        self.network_row(project, name)?;
        let used = Used::Network(project.to_owned(), name.to_owned());
        if self.db().contents.in_use(&used) {
            return Err(Refusal::bad("The network is currently in use"));
        }
        self.all_members_up()?;
        self.remove_network(project, name);
        self.tell_network("network-deleted", project, name);
        Ok(Reply::empty())
    }

    fn insert_network(&mut self, project: &str, name: &str, row: NetworkRow) {
        let url = network_url(project, name);
        let db = self.db_mut();
        db.contents
            .add_user(Used::Project(project.to_owned()), &url);
        db.networks
            .entry(project.to_owned())
            .or_default()
            .insert(name.to_owned(), row);
    }

    fn remove_network(&mut self, project: &str, name: &str) {
        let url = network_url(project, name);
        let db = self.db_mut();
        db.contents
            .drop_user(&Used::Project(project.to_owned()), &url);
        if let Some(networks) = db.networks.get_mut(project) {
            networks.remove(name);
        }
    }

    fn tell_network(&mut self, action: &str, project: &str, name: &str) {
        let at = self.at;
        self.world.emit(
            at,
            Lifecycle {
                action,
                source: network_url(project, name),
                project,
                ..Lifecycle::default()
            },
        );
    }
}

fn network_url(project: &str, name: &str) -> String {
    with_project(&format!("/1.0/networks/{}", encode(name)), project)
}

/// An interface of the machine that LXD only shows.
fn unmanaged(name: &str, kind: &str) -> Value {
    json!({
        "name": name, "type": kind, "description": "", "managed": false, "config": {},
        "status": "", "locations": [], "used_by": [],
    })
}

fn writable(object: &Value) -> Value {
    json!([
        object["name"],
        object["managed"],
        object["type"],
        object["description"],
        object["config"]
    ])
}

fn split(config: Map) -> (Map, Map) {
    config
        .into_iter()
        .partition(|(key, _)| keys::NETWORK_MEMBER.contains(&key.as_str()))
}

fn check_keys(network_type: &str, config: &Map) -> Result<(), Refusal> {
    for (key, value) in config {
        if !keys::network_key_known(network_type, key) {
            return Err(Refusal::bad(format!(
                "Invalid option for network {network_type:?}: {key:?}"
            )));
        }
        let wrong = match key.as_str() {
            "ipv4.nat" | "ipv6.nat" | "ipv4.dhcp" | "ipv6.dhcp" | "ipv6.dhcp.stateful"
            | "ipv4.firewall" | "ipv6.firewall" | "ipv4.routing" | "ipv6.routing" => {
                !keys::is_bool(value)
            }
            "ipv4.address" => {
                !matches!(value.as_str(), "auto" | "none")
                    && value.parse::<ipnet::Ipv4Net>().is_err()
            }
            "ipv6.address" => {
                !matches!(value.as_str(), "auto" | "none")
                    && value.parse::<ipnet::Ipv6Net>().is_err()
            }
            "bridge.mtu" | "mtu" | "vlan" => value.parse::<u32>().is_err(),
            _ => false,
        };
        if wrong {
            return Err(Refusal::bad(format!(
                "Invalid value for network {network_type:?} option {key:?}: {value:?}"
            )));
        }
    }
    Ok(())
}

fn check_name(name: &str, network_type: &str) -> Result<(), Refusal> {
    if name.is_empty() {
        return Err(Refusal::bad("No name provided"));
    }
    let fits = name
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    if !fits || (network_type == "bridge" && !(2..=15).contains(&name.len())) {
        return Err(Refusal::bad(format!("Invalid network name {name:?}")));
    }
    Ok(())
}
