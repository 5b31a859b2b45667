//! `/1.0/cluster`: forming a cluster, and what a joiner must supply.

use super::Call;
use super::join::{JOINING, JoinPut, join, listen, reset};
use super::operations::Start;
use super::reply::{Answer, Refusal, Reply};
use crate::services::lxd::Method;
use crate::simulate::database::{ALONE, Certificate, Db, MemberRow, Raft};
use crate::simulate::events::Lifecycle;
use crate::simulate::world::World;
use serde_json::{Value, json};
use std::time::Duration;

impl Call<'_> {
    /// `/1.0/cluster`.
    pub(super) fn cluster(&mut self, method: Method) -> Answer {
        match method {
            Method::Get => {
                let body = self.cluster_object();
                Ok(Reply::object(body.clone(), &body))
            }
            Method::Put => self.put_cluster(),
            _ => Err(Refusal::not_implemented()),
        }
    }

    fn cluster_object(&self) -> Value {
        let member = self.member();
        let enabled = member != ALONE && !member.is_empty();
        json!({
            "server_name": if enabled { member } else { "" },
            "enabled": enabled,
            "member_config": if enabled { member_config(self.db(), member) } else { Vec::new() },
        })
    }

    fn put_cluster(&mut self) -> Answer {
        let body: JoinPut = self.body()?;
        if !body.enabled {
            return self.disable();
        }
        if body.server_name.is_empty() {
            return Err(Refusal::bad(
                "ServerName is required when enabling clustering",
            ));
        }
        let clustered = self.world.machines[self.at].lxd.clustered();
        match (body.cluster_address.is_empty(), clustered) {
            (true, false) => self.bootstrap(body.server_name),
            (true, true) => self.bootstrap_again(body.server_name),
            (false, true) => Err(Refusal::bad("This server is already clustered")),
            (false, false) => {
                let (at, takes) = (self.at, self.world.timings.join);
                if let Err(refused) = listen(self.world, at, &body.server_address) {
                    self.delay = Duration::from_secs(1);
                    return Err(refused);
                }
                // The addresses stay, also when the join fails.
                let config = &mut self.world.machines[at].lxd.config;
                for key in ["core.https_address", "cluster.https_address"] {
                    config.insert(key.into(), body.server_address.clone());
                }
                let start = Start {
                    description: JOINING,
                    resources: json!({"cluster": null}),
                    takes,
                    on: at,
                };
                self.start(start, move |world| join(world, at, body))
            }
        }
    }

    /// `/internal/cluster/raft-node/ADDRESS`: what an interrupted join left in the database.
    pub(super) fn raft_node(&mut self, method: Method, address: &str) -> Answer {
        match method {
            Method::Delete if self.db_mut().raft_orphans.remove(address) => Ok(Reply::empty()),
            Method::Delete => Err(Refusal::failed(format!(
                "No raft node with address {address:?}"
            ))),
            _ => Err(Refusal::not_implemented()),
        }
    }

    /// `/1.0/certificates`: those of servers that were let in.
    pub(super) fn certificates(&mut self, method: Method, rest: &[&str]) -> Answer {
        match (method, rest) {
            (Method::Get, []) => {
                let all = self.db().trusted_servers.iter();
                Ok(Reply::value(if self.recursion() {
                    all.map(|(fingerprint, name)| {
                        json!({"fingerprint": fingerprint, "name": name, "type": "server"})
                    })
                    .collect()
                } else {
                    all.map(|(f, _)| Value::from(format!("/1.0/certificates/{f}")))
                        .collect()
                }))
            }
            (Method::Delete, [fingerprint]) => {
                if self.db_mut().trusted_servers.remove(*fingerprint).is_none() {
                    return Err(Refusal::not_found("Certificate not found"));
                }
                let source = format!("/1.0/certificates/{fingerprint}");
                self.tell("certificate-deleted", source, "");
                Ok(Reply::empty())
            }
            _ => Err(Refusal::not_implemented()),
        }
    }

    /// Leaves the cluster: for a half-joined server, or the only member.
    fn disable(&mut self) -> Answer {
        if !self.world.machines[self.at].lxd.clustered() {
            return Err(Refusal::bad("This server is not clustered"));
        }
        if !self.member().is_empty() && self.db().members.len() > 1 {
            return Err(Refusal::bad(
                "Clustering can only be disabled on the last member",
            ));
        }
        let at = self.at;
        // The answer is given, then the daemon restarts itself.
        self.world.schedule(Duration::ZERO, move |world| {
            world.stop_lxd(at);
            reset(world, at);
            let after = world.timings.lxd_restart;
            world.schedule(after, move |world| world.start_lxd(at));
        });
        Ok(Reply::empty())
    }

    fn bootstrap(&mut self, name: String) -> Answer {
        let config = &self.world.machines[self.at].lxd.config;
        let concrete = |key: &str| config.get(key).filter(|address| !is_wildcard(address));
        let address = concrete("cluster.https_address").or(concrete("core.https_address"));
        let Some(address) = address.cloned() else {
            let core = config
                .get("core.https_address")
                .cloned()
                .unwrap_or_default();
            return Err(Refusal::failed(format!(
                "Cannot use wildcard core.https_address {core:?} for cluster.https_address. Please \
                 specify a new cluster.https_address or core.https_address"
            )));
        };
        let (at, takes) = (self.at, self.world.timings.bootstrap);
        self.start(
            Start {
                description: "Creating bootstrap node",
                resources: json!({"cluster": null}),
                takes,
                on: at,
            },
            move |world| bootstrap(world, at, &name, address),
        )
    }

    /// On a member: it fails after a while, and the server says from then on that it has the name.
    fn bootstrap_again(&mut self, name: String) -> Answer {
        let at = self.at;
        self.world.machines[at].lxd.shown_name = Some(name);
        self.start(
            Start {
                description: "Creating bootstrap node",
                resources: json!({"cluster": null}),
                takes: Duration::from_secs(3),
                on: at,
            },
            |_| {
                Err(Refusal::failed(
                    "Inconsistent state: found leftover cluster certificate",
                ))
            },
        )
    }
}

fn bootstrap(world: &mut World, at: usize, name: &str, address: String) -> Result<(), Refusal> {
    if world.machines[at].lxd.clustered() {
        return Err(Refusal::bad("This server is already clustered"));
    }
    let certificate = Certificate::of(&format!("cluster certificate {}", world.draw()));
    let db = world.db_mut(at);
    db.clustered = true;
    db.certificate = certificate;
    db.members.insert(
        name.to_owned(),
        MemberRow {
            machine: at,
            id: db.next_member,
            address: address.clone(),
            raft: Raft::Voter,
            roles: Vec::new(),
            failure_domain: "default".into(),
            description: String::new(),
            config: Default::default(),
            groups: vec!["default".into()],
            evacuated: false,
            lost_since: None,
        },
    );
    db.next_member += 1;
    db.leader = Some(name.to_owned());
    for pool in db.pools.values_mut() {
        if let Some(part) = pool.parts.remove(ALONE) {
            pool.parts.insert(name.to_owned(), part);
        }
    }
    for network in db.networks.values_mut().flat_map(|n| n.values_mut()) {
        if let Some(part) = network.parts.remove(ALONE) {
            network.parts.insert(name.to_owned(), part);
        }
    }
    db.contents.moved_to(name);
    let lxd = &mut world.machines[at].lxd;
    lxd.member = name.to_owned();
    lxd.config.insert("cluster.https_address".into(), address);
    world.emit(
        at,
        Lifecycle {
            action: "cluster-enabled",
            source: format!("/1.0/cluster/{}", super::encode(name)),
            ..Lifecycle::default()
        },
    );
    Ok(())
}

/// What a joiner must supply: the member keys that the objects have on this member.
fn member_config(db: &Db, member: &str) -> Vec<Value> {
    let mut keys = Vec::new();
    let mut add = |entity: &str, word: &str, name: &str, key: &str| {
        if !key.starts_with("volatile.") {
            keys.push(json!({
                "entity": entity, "name": name, "key": key, "value": "",
                "description": format!("\"{key}\" property for {word} \"{name}\""),
            }));
        }
    };
    for (name, pool) in &db.pools {
        for key in pool
            .parts
            .get(member)
            .into_iter()
            .flat_map(|p| p.config.keys())
        {
            add("storage-pool", "storage pool", name, key);
        }
    }
    for (name, network) in db.networks.get("default").into_iter().flatten() {
        for key in network
            .parts
            .get(member)
            .into_iter()
            .flat_map(|p| p.config.keys())
        {
            add("network", "network", name, key);
        }
    }
    keys
}

/// Whether an address means all of the machine's.
pub(super) fn is_wildcard(address: &str) -> bool {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    matches!(host, "" | "0.0.0.0" | "[::]" | "::")
}
