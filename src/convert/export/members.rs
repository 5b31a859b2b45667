//! `Cluster` and `Member` of a running cluster.

use super::config::{Keys, notes_of};
use super::{CLOUD, ExportError, Writer, known, put};
use crate::catalog::{self, Owner, Scope};
use crate::reconcile::world::ServerView;
use crate::resources::kinds::{ClusterSpec, MemberSpec, MemberState};
use crate::resources::value::{Config, Mode};
use crate::resources::{Kind, ObjectRef, Spec};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

/// Where LXD looks for OVN's northbound database unless it is told.
const NORTHBOUND: &str = "unix:/run/ovn/ovnnb_db.sock";

/// The server key that follows from `Cluster.spec.ovn`.
const NORTHBOUND_KEY: &str = "network.ovn.northbound_connection";

/// The part of the accepted `Cluster` that is a decision and cannot be observed.
const DECIDED: [&str; 7] = [
    "initiator",
    "internalSubnet",
    "ovn",
    "ceph",
    "deletionLimit",
    "gracePeriod",
    "interval",
];

impl Writer<'_> {
    pub(super) fn cluster(&mut self, mode: Option<Mode>) -> Result<(), ExportError> {
        let server = known(&self.found.lxd.server, "LXD")?;
        let accepted = self.cluster_resource();
        let before: Option<&ClusterSpec> = accepted.and_then(|r| match &r.spec {
            Spec::Cluster(spec) => Some(spec),
            _ => None,
        });
        let mut spec = Map::new();
        let mut notes = Vec::new();
        put(&mut spec, "initiator", server.name.clone());
        if server.server == "incus" {
            put(&mut spec, "instances", "incus");
        }
        match (accepted, before) {
            (Some(resource), Some(_)) => {
                let decided = resource.spec.to_json();
                for field in DECIDED {
                    if let Some(value) = decided.get(field) {
                        spec.insert(field.to_owned(), value.clone());
                    }
                }
            }
            _ => self.run_by_others(server, &mut spec, &mut notes),
        }
        let mut config = server.config.clone();
        config.retain(|key, _| !is_own(key));
        let keys = Keys {
            owner: Owner::Server,
            scope: Scope::Global,
            accepted: before.map(|c| &c.config),
            computed: false,
        };
        let (config, secrets) = keys.of(&config);
        put(&mut spec, "config", config);
        notes.extend(notes_of(secrets));
        if let Some(mode) = mode.filter(|m| *m != Mode::Enforce) {
            put(&mut spec, "mode", json!(mode));
            notes.insert(
                0,
                "`mode: Report`: differences are shown (`microcloud diff`, `microcloud status`) \
                 and nothing is written outside the project `microcloud`. Remove it, or write \
                 Enforce, to have the cluster held as written."
                    .to_owned(),
            );
        }
        let name = accepted.map_or(CLOUD, |r| r.metadata.name.as_str());
        let object = ObjectRef::new(Kind::Cluster, name);
        self.add(&object, spec, notes)
    }

    /// OVN and Ceph that are there and that no resource speaks of: they are somebody else's.
    fn run_by_others(
        &self,
        server: &ServerView,
        spec: &mut Map<String, Value>,
        notes: &mut Vec<String>,
    ) {
        let lxd = &self.found.lxd;
        let connection = server.config.get(NORTHBOUND_KEY).filter(|c| !c.is_empty());
        let networks = lxd.networks.known();
        let ovn = networks
            .into_iter()
            .flat_map(BTreeMap::values)
            .any(|n| n.whole.value.network_type == "ovn");
        if ovn || connection.is_some() {
            let northbound: Vec<&str> = connection
                .map_or(NORTHBOUND, String::as_str)
                .split(',')
                .map(str::trim)
                .collect();
            put(
                spec,
                "ovn",
                json!({ "provider": "external", "northbound": northbound }),
            );
            notes.push(
                "`ovn.provider: external`: OVN was not formed by this program, which only tells \
                 LXD where its northbound database is."
                    .to_owned(),
            );
        }
        let pools = lxd.pools.known();
        let ceph = pools.into_iter().flat_map(BTreeMap::values).any(|p| {
            matches!(
                p.whole.value.driver.as_str(),
                "ceph" | "cephfs" | "cephobject"
            )
        });
        if ceph {
            put(spec, "ceph", json!({ "provider": "external" }));
            notes.push(
                "`ceph.provider: external`: Ceph was not formed by this program, which leaves it \
                 alone; LXD's pools on it are held."
                    .to_owned(),
            );
        }
    }

    pub(super) fn members(&mut self) -> Result<(), ExportError> {
        let server = known(&self.found.lxd.server, "LXD")?;
        if !server.clustered {
            return self.alone(server);
        }
        let members = known(&self.found.lxd.members, "the list of members")?;
        for (name, member) in members {
            let member = &member.value;
            let object = ObjectRef::new(Kind::Member, name.clone());
            let before = self.member_before(&object);
            let mut spec = Map::new();
            let mut notes = Vec::new();
            if let Some(address) = host_of(&member.url) {
                put(&mut spec, "address", address.to_string());
            }
            self.common(name, before, &mut spec, &mut notes);
            let named = |words: &[String], usual: &[&str], given: bool| {
                let words: Vec<&str> = words.iter().map(String::as_str).collect();
                match given || words != usual {
                    true => json!(words),
                    false => Value::Null,
                }
            };
            let mut roles = member.roles.clone();
            roles.retain(|role| role != "database" && !role.starts_with("database-"));
            let field = named(&roles, &[], before.is_some_and(|m| m.roles.is_some()));
            if !field.is_null() {
                spec.insert("roles".to_owned(), field);
            }
            let given = before.is_some_and(|m| m.groups.is_some());
            put(
                &mut spec,
                "groups",
                named(&member.groups, &["default"], given),
            );
            let given = before.is_some_and(|m| m.failure_domain.is_some());
            if given || member.failure_domain != "default" {
                put(&mut spec, "failureDomain", member.failure_domain.clone());
            }
            // One that is on its way out stays so.
            if before.is_some_and(|m| m.state == MemberState::Absent) {
                put(&mut spec, "state", "Absent");
            } else if member.status == "Evacuated" {
                put(&mut spec, "state", "Evacuated");
            }
            let seen = self.found.lxd.member_config.get(name);
            let own = match seen.map(|s| s.get()) {
                Some(Ok(own)) => own.clone(),
                Some(Err(reason)) => {
                    return Err(ExportError::Unknown {
                        what: "a member's own configuration",
                        reason: format!("{name}: {reason}"),
                    });
                }
                None => BTreeMap::new(),
            };
            if member.status == "Offline" {
                notes.push(
                    "It did not answer: what it has of its own was not read and is not written."
                        .to_owned(),
                );
            }
            self.member_keys(&own, &member.config, before, &mut spec, &mut notes);
            self.add(&object, spec, notes)?;
        }
        Ok(())
    }

    /// The one member of an LXD that is in no cluster.
    fn alone(&mut self, server: &ServerView) -> Result<(), ExportError> {
        let object = ObjectRef::new(Kind::Member, server.name.clone());
        let before = self.member_before(&object);
        let given = ["cluster.https_address", "core.https_address"];
        let address = given
            .iter()
            .find_map(|key| host_of(server.config.get(*key)?))
            .or(before.map(|m| m.address))
            .ok_or_else(|| ExportError::NoAddress(server.name.clone()))?;
        let mut spec = Map::new();
        let mut notes =
            vec!["LXD is in no cluster: in mode Enforce it becomes one of one member.".to_owned()];
        put(&mut spec, "address", address.to_string());
        self.common(&server.name, before, &mut spec, &mut notes);
        self.member_keys(
            &server.config,
            &BTreeMap::new(),
            before,
            &mut spec,
            &mut notes,
        );
        self.add(&object, spec, notes)
    }

    fn member_before(&self, object: &ObjectRef) -> Option<&MemberSpec> {
        match self.accepted(object) {
            Some(Spec::Member(spec)) => Some(spec),
            _ => None,
        }
    }

    /// What the machine itself tells.
    fn common(
        &self,
        name: &str,
        before: Option<&MemberSpec>,
        spec: &mut Map<String, Value>,
        notes: &mut Vec<String>,
    ) {
        let fingerprint = self
            .found
            .hosts
            .get(name)
            .map(|host| host.fingerprint.clone())
            .filter(|f| !f.is_empty())
            .or_else(|| before.and_then(|m| m.fingerprint.clone()));
        match fingerprint {
            Some(fingerprint) => put(spec, "fingerprint", fingerprint),
            None => notes.push(format!(
                "Its agent was not asked: write `fingerprint`, which `microcloud agent \
                 fingerprint` prints on {name}, or trust it there with `microcloud agent trust`."
            )),
        }
        if let Some(underlay) = before.and_then(|m| m.underlay_address) {
            put(spec, "underlayAddress", underlay.to_string());
        }
    }

    /// Server keys that differ by member, and the member's own configuration.
    fn member_keys(
        &self,
        server: &BTreeMap<String, String>,
        member: &BTreeMap<String, String>,
        before: Option<&MemberSpec>,
        spec: &mut Map<String, Value>,
        notes: &mut Vec<String>,
    ) {
        let of_server = |key: &str| {
            catalog::is_known(Owner::Server, key)
                && catalog::facts(Owner::Server, key).scope == Scope::Member
        };
        let accepted: Config = before.map(|m| m.config.clone()).unwrap_or_default();
        let (of_servers, of_members): (Config, Config) =
            accepted.into_iter().partition(|(key, _)| of_server(key));
        let mut own = server.clone();
        // What a pool says of all members is not said again, unless the member said it itself.
        let of_pools: Vec<(&str, String)> = self
            .found
            .lxd
            .pools
            .known()
            .into_iter()
            .flat_map(BTreeMap::keys)
            .flat_map(|pool| self.kept_in(pool).map(|v| (v.key(), v.within(pool))))
            .filter(|(key, _)| !of_servers.contains_key(*key))
            .collect();
        own.retain(|key, value| {
            let of_pool = of_pools.iter().any(|(k, v)| k == key && v == value);
            of_server(key) && !is_own(key) && !of_pool
        });
        let keys = Keys {
            owner: Owner::Server,
            scope: Scope::Member,
            accepted: Some(&of_servers),
            computed: false,
        };
        let (mut config, secrets) = keys.of(&own);
        notes.extend(notes_of(secrets));
        let keys = Keys {
            owner: Owner::Member,
            scope: Scope::Global,
            accepted: Some(&of_members),
            computed: false,
        };
        let mut member = member.clone();
        member.retain(|key, _| !is_own(key));
        let (more, secrets) = keys.of(&member);
        notes.extend(notes_of(secrets));
        config.extend(more);
        put(spec, "config", config);
    }
}

/// Keys that follow from resources or are this program's own.
fn is_own(key: &str) -> bool {
    matches!(
        key,
        "cluster.https_address" | NORTHBOUND_KEY | "user.microcloud"
    ) || key.starts_with("user.microcloud.")
}

/// The address in `https://ADDRESS:PORT` or `ADDRESS:PORT`, unless it stands for every address.
fn host_of(url: &str) -> Option<IpAddr> {
    let text = url.trim_start_matches("https://").trim_end_matches('/');
    let address = match text.parse::<SocketAddr>() {
        Ok(socket) => socket.ip(),
        Err(_) => text.parse().ok()?,
    };
    (!address.is_unspecified()).then_some(address)
}
