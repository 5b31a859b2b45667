//! `Uplink`, `Network`, `Project` and `Profile` of a running cluster.

use super::config::{Keys, notes_of};
use super::{ExportError, Writer, known, put};
use crate::catalog::{Owner, Scope};
use crate::reconcile::world::Spread;
use crate::resources::kinds::{NetworkSpec, UplinkSpec};
use crate::resources::object::DEFAULT_PROJECT;
use crate::resources::value::Config;
use crate::resources::{Kind, ObjectRef, Spec};
use crate::services::lxd::types::Network;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// The project that holds what this program must remember.
const OWN_PROJECT: &str = "microcloud";

impl Writer<'_> {
    pub(super) fn networks(&mut self) -> Result<(), ExportError> {
        let networks = known(&self.found.lxd.networks, "the list of networks")?;
        let server = known(&self.found.lxd.server, "LXD")?;
        for ((project, name), spread) in networks {
            let network = &spread.whole.value;
            if !network.managed {
                continue;
            }
            if network.status != "Created" && server.clustered {
                self.left_out.push(format!(
                    "the network {name} is left out: it is {}",
                    network.status
                ));
                continue;
            }
            let parts = self.parts(spread)?;
            match network.network_type.as_str() {
                "physical" => self.uplink(name, network, &parts)?,
                "bridge" | "ovn" => self.network(project, name, network, &parts)?,
                other => self.left_out.push(format!(
                    "the network {name} is left out: networks of type {other} are not managed"
                )),
            }
        }
        Ok(())
    }

    /// What each member has of a network.
    fn parts(
        &self,
        spread: &Spread<Network>,
    ) -> Result<BTreeMap<String, BTreeMap<String, String>>, ExportError> {
        let server = known(&self.found.lxd.server, "LXD")?;
        if !server.clustered {
            let config = spread.whole.value.config.clone();
            return Ok([(server.name.clone(), config)].into());
        }
        let mut parts = BTreeMap::new();
        for (member, seen) in &spread.members {
            let part = known(seen, "a member's part of a network")?;
            parts.insert(member.clone(), part.config.clone());
        }
        Ok(parts)
    }

    fn uplink(
        &mut self,
        name: &str,
        network: &Network,
        parts: &BTreeMap<String, BTreeMap<String, String>>,
    ) -> Result<(), ExportError> {
        let object = ObjectRef::new(Kind::Uplink, name);
        let before: Option<&UplinkSpec> = match self.accepted(&object) {
            Some(Spec::Uplink(spec)) => Some(spec),
            _ => None,
        };
        let mut spec = Map::new();
        put(&mut spec, "description", network.description.clone());
        let mut config = network.config.clone();
        for family in ["ipv4", "ipv6"] {
            let gateway = config.remove(&format!("{family}.gateway"));
            let ranges = config.remove(&format!("{family}.ovn.ranges"));
            let Some(gateway) = gateway.filter(|g| !g.is_empty()) else {
                continue;
            };
            let mut of_family = Map::new();
            put(&mut of_family, "gateway", gateway);
            put(&mut of_family, "ranges", items(ranges.as_deref()));
            put(&mut spec, family, of_family);
        }
        let servers = config.remove("dns.nameservers");
        put(&mut spec, "dns", items(servers.as_deref()));
        for key in ["vlan", "mtu"] {
            if let Some(number) = config.remove(key).and_then(|v| v.parse::<u32>().ok()) {
                put(&mut spec, key, number);
            }
        }
        let keys = Keys {
            owner: Owner::Network("physical"),
            scope: Scope::Global,
            accepted: before.map(|u| &u.config),
            computed: false,
        };
        let (config, secrets) = keys.of(&config);
        put(&mut spec, "config", config);
        let parents: BTreeMap<&String, &String> = parts
            .iter()
            .filter_map(|(member, config)| Some((member, config.get("parent")?)))
            .collect();
        let usual = before.and_then(|u| u.interface.as_ref());
        put(&mut spec, "interface", json!(usual));
        let differing: Map<String, Value> = parents
            .into_iter()
            .filter(|(member, parent)| {
                let named = before.is_some_and(|u| u.interfaces.contains_key(*member));
                named || usual != Some(*parent)
            })
            .map(|(member, parent)| (member.clone(), json!(parent)))
            .collect();
        put(&mut spec, "interfaces", differing);
        self.add(&object, spec, notes_of(secrets))
    }

    fn network(
        &mut self,
        project: &str,
        name: &str,
        network: &Network,
        parts: &BTreeMap<String, BTreeMap<String, String>>,
    ) -> Result<(), ExportError> {
        let object = ObjectRef::in_project(Kind::Network, project, name);
        let before: Option<&NetworkSpec> = match self.accepted(&object) {
            Some(Spec::Network(spec)) => Some(spec),
            _ => None,
        };
        let mut config = network.config.clone();
        let fan = config.get("bridge.mode").is_some_and(|mode| mode == "fan");
        let kind = match network.network_type.as_str() {
            "bridge" if fan => "fan",
            other => other,
        };
        let mut spec = Map::new();
        put(&mut spec, "type", kind);
        put(&mut spec, "description", network.description.clone());
        config.remove("bridge.mode");
        if kind == "ovn" {
            put(&mut spec, "uplink", json!(config.remove("network")));
        }
        let keys = Keys {
            owner: Owner::Network(kind),
            scope: Scope::Global,
            accepted: before.map(|n| &n.config),
            computed: false,
        };
        let (config, secrets) = keys.of(&config);
        put(&mut spec, "config", config);
        let mut members = Map::new();
        for (member, config) in parts {
            let keys = Keys {
                owner: Owner::Network(kind),
                scope: Scope::Member,
                accepted: before.and_then(|n| n.members.get(member)),
                computed: false,
            };
            put(&mut members, member, keys.of(config).0);
        }
        put(&mut spec, "members", members);
        self.add(&object, spec, notes_of(secrets))
    }

    pub(super) fn projects(&mut self) -> Result<(), ExportError> {
        let projects = known(&self.found.lxd.projects, "the list of projects")?;
        for (name, project) in projects {
            let project = &project.value;
            let object = ObjectRef::new(Kind::Project, name.clone());
            let before = match self.accepted(&object) {
                Some(Spec::Project(spec)) => Some(&spec.config),
                _ => None,
            };
            if name == OWN_PROJECT {
                continue;
            }
            let keys = Keys {
                owner: Owner::Project,
                scope: Scope::Global,
                accepted: before,
                computed: true,
            };
            let (config, secrets) = keys.of(&project.config);
            // LXD makes `default` itself, with all features.
            let usual = |key: &String| key.starts_with("features.");
            if name == DEFAULT_PROJECT && before.is_none() && config.keys().all(usual) {
                continue;
            }
            let mut spec = Map::new();
            put(&mut spec, "description", project.description.clone());
            put(&mut spec, "config", config);
            self.add(&object, spec, notes_of(secrets))?;
        }
        Ok(())
    }

    pub(super) fn profiles(&mut self) -> Result<(), ExportError> {
        let profiles = known(&self.found.lxd.profiles, "the list of profiles")?;
        for ((project, name), profile) in profiles {
            let profile = &profile.value;
            let object = ObjectRef::in_project(Kind::Profile, project, name);
            let before = match self.accepted(&object) {
                Some(Spec::Profile(spec)) => Some(spec),
                _ => None,
            };
            let empty = profile.config.is_empty() && profile.devices.is_empty();
            // LXD makes an empty `default` in every project itself.
            if project == OWN_PROJECT || (name == "default" && empty && before.is_none()) {
                continue;
            }
            let keys = Keys {
                owner: Owner::Profile,
                scope: Scope::Global,
                accepted: before.map(|p| &p.config),
                computed: true,
            };
            let (config, mut secrets) = keys.of(&profile.config);
            let mut devices = Map::new();
            for (device, config) in &profile.devices {
                let kind = config.get("type").cloned().unwrap_or_default();
                let accepted: Option<&Config> = before.and_then(|p| p.devices.get(device));
                let keys = Keys {
                    owner: Owner::Device(&kind),
                    scope: Scope::Global,
                    accepted,
                    computed: true,
                };
                let (config, more) = keys.of(config);
                secrets.extend(more);
                put(&mut devices, device, config);
            }
            let mut spec = Map::new();
            put(&mut spec, "description", profile.description.clone());
            put(&mut spec, "config", config);
            put(&mut spec, "devices", devices);
            self.add(&object, spec, notes_of(secrets))?;
        }
        Ok(())
    }
}

/// A list that LXD writes with commas.
fn items(text: Option<&str>) -> Value {
    let words = text.unwrap_or_default().split(',').map(str::trim);
    json!(words.filter(|w| !w.is_empty()).collect::<Vec<_>>())
}
