//! `/1.0/networks`: managed networks and the machine's interfaces. See `network_create.rs` for how
//! networks are made.

use super::reply::{Answer, Refusal, Reply};
use super::updates::{ConfigBody, updated};
use super::{Call, encode, keys, network_local};
use crate::services::lxd::Method;
use crate::simulate::contents::{Used, with_project};
use crate::simulate::database::{Map, NetworkRow, State};
use serde_json::{Value, json};
use std::collections::BTreeMap;

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

    /// A managed network, to change or delete it.
    fn network_row(&self, project: &str, name: &str) -> Result<&NetworkRow, Refusal> {
        self.db()
            .network(project, name)
            .ok_or_else(|| Refusal::not_found("Failed loading network: Network not found"))
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
            for (name, kind) in self.interfaces(self.at) {
                list.entry(name).or_insert_with(|| {
                    if self.recursion() {
                        unmanaged(name, kind)
                    } else {
                        Value::from(network_url(project, name))
                    }
                });
            }
        }
        Reply::value(list.into_values().collect())
    }

    /// Names and kinds of a machine's interfaces.
    fn interfaces(&self, machine: usize) -> impl Iterator<Item = (&str, &str)> {
        let own = &self.world.machines[machine].config.interfaces;
        let named = |i: &'_ crate::services::host::InterfaceReport| i.name == "lo";
        let lo = (!own.iter().any(named)).then_some(("lo", "loopback"));
        own.iter()
            .map(|i| (i.name.as_str(), i.kind.as_str()))
            .chain(lo)
    }

    fn get_network(&mut self, project: &str, name: &str) -> Answer {
        let target = self.reached_target()?;
        let Some(row) = self.db().network(project, name) else {
            let at = target.map_or(self.at, |(_, machine)| machine);
            let (name, kind) = self
                .interfaces(at)
                .find(|(n, _)| *n == name && project == "default")
                .ok_or_else(|| Refusal::not_found("Network not found"))?;
            let object = unmanaged(name, kind);
            let writable = writable(&object);
            return Ok(Reply::object(object, &writable));
        };
        let target = target.as_ref().map(|(t, _)| t.as_str());
        let object = self.network_object(project, name, row, target);
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
        config.extend(part.into_iter().flat_map(|p| p.config.clone()));
        let status = match (target, part) {
            (None, _) => row.state.word(),
            (Some(_), None) => "Unknown",
            (Some(_), Some(part)) => part.state.word(),
        };
        let used = Used::Network(project.to_owned(), name.to_owned());
        json!({
            "name": name,
            "type": row.network_type,
            "description": row.description,
            "managed": true,
            "config": config,
            "status": status,
            "locations": self.shuffled(row.parts.keys()),
            "used_by": self.db().contents.used_by(&used),
        })
    }

    /// PUT and PATCH. With a target the body is the whole of the member's keys and the global
    /// ones: of these none may change, but those that are left out of a PUT are gone for all.
    fn write_network(&mut self, project: &str, name: &str, merge: bool) -> Answer {
        let target = self.reached_target()?;
        let row = self.network_row(project, name)?;
        if target.is_none() && row.state != State::Created {
            return Err(Refusal::bad(
                "Cannot update network global config when not in created state",
            ));
        }
        let shown = target.as_ref().map(|(t, _)| t.as_str());
        let shown = self.network_object(project, name, row, shown);
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
                    "Config key {key:?} may not be used as member-specific key"
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
            new.extend(part.config);
            new
        };
        check_keys(name, &row.network_type, &new).map_err(Refusal::bad)?;
        if target.is_none() {
            self.all_members_up()?;
        }
        let (own, mut global) = split(new);
        let at = self.at;
        network_local::resolve_auto(self.world, at, &mut global);
        if let Some(row) = self.db_mut().network_mut(project, name) {
            row.config = global;
            // Not given is empty, also in a PATCH.
            row.description = body.description.unwrap_or_default();
            if let Some(part) = row.parts.get_mut(&member) {
                part.config = own;
            }
        }
        self.tell_all("network-updated", &network_url(project, name), project);
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
        self.tell("network-deleted", network_url(project, name), project);
        Ok(Reply::empty())
    }

    /// Notes a network.
    pub(super) fn insert_network(&mut self, project: &str, name: &str, row: NetworkRow) {
        let url = network_url(project, name);
        let db = self.db_mut();
        db.contents
            .add_user(Used::Project(project.to_owned()), &url);
        db.networks
            .entry(project.to_owned())
            .or_default()
            .insert(name.to_owned(), row);
    }

    /// Forgets a network.
    pub(super) fn remove_network(&mut self, project: &str, name: &str) {
        let url = network_url(project, name);
        let db = self.db_mut();
        db.contents
            .drop_user(&Used::Project(project.to_owned()), &url);
        if let Some(networks) = db.networks.get_mut(project) {
            networks.remove(name);
        }
    }
}

pub(super) fn network_url(project: &str, name: &str) -> String {
    with_project(&format!("/1.0/networks/{}", encode(name)), project)
}

/// An interface of the machine that LXD only shows.
fn unmanaged(name: &str, kind: &str) -> Value {
    json!({
        "name": name, "type": kind, "description": "", "managed": false, "config": {},
        "status": "", "locations": null, "used_by": null,
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

fn owned((key, value): (&String, &String)) -> (String, String) {
    (key.clone(), value.clone())
}

pub(super) fn is_own(key: &str) -> bool {
    keys::NETWORK_MEMBER.contains(&key)
}

/// A member's keys and those of all.
pub(super) fn split(config: Map) -> (Map, Map) {
    config.into_iter().partition(|(key, _)| is_own(key))
}

/// Why a network of this type cannot have this configuration, if so.
pub(super) fn check_keys(name: &str, network_type: &str, config: &Map) -> Result<(), String> {
    for (key, value) in config {
        if !keys::network_key_known(network_type, key) {
            return Err(format!(
                "Invalid option for network {name:?} option {key:?}"
            ));
        }
        if let Some(why) = value_error(key, value) {
            return Err(format!(
                "Invalid value for network {name:?} option {key:?}: {why}"
            ));
        }
    }
    Ok(())
}

/// Why a key of a network cannot have a value, if so.
fn value_error(key: &str, value: &str) -> Option<String> {
    let special = ["auto", "none"].contains(&value);
    match key {
        "ipv4.nat" | "ipv6.nat" | "ipv4.dhcp" | "ipv6.dhcp" | "ipv6.dhcp.stateful"
        | "ipv4.firewall" | "ipv6.firewall" | "ipv4.routing" | "ipv6.routing" => {
            (!keys::is_bool(value)).then(|| format!("Invalid value for a boolean {value:?}"))
        }
        "ipv4.address" if !special && value.parse::<ipnet::Ipv4Net>().is_err() => {
            Some(format!("invalid CIDR address: {value}"))
        }
        "ipv6.address" if !special && value.parse::<ipnet::Ipv6Net>().is_err() => {
            Some(format!("invalid CIDR address: {value}"))
        }
        "bridge.mtu" | "mtu" | "vlan" if value.parse::<u32>().is_err() => {
            Some(format!("Invalid value for an integer {value:?}"))
        }
        _ => None,
    }
}
