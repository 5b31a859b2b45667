//! `/1.0/cluster`: forming a cluster, and what a joiner must supply.

use super::Call;
use super::join::{JOINING, JoinPut, join};
use super::operations::Start;
use super::reply::{Answer, Refusal, Reply};
use crate::services::lxd::Method;
use crate::simulate::database::{ALONE, Db, MemberRow, Raft};
use crate::simulate::events::Lifecycle;
use crate::simulate::world::World;
use serde_json::{Value, json};

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
        let lxd = &self.world.machines[self.at].lxd;
        json!({
            "server_name": if lxd.clustered() { lxd.member.as_str() } else { "" },
            "enabled": lxd.clustered(),
            "member_config": member_config(self.db(), &lxd.member),
        })
    }

    fn put_cluster(&mut self) -> Answer {
        let body: JoinPut = self.body()?;
        let clustered = self.world.machines[self.at].lxd.clustered();
        if !body.enabled {
            return Err(Refusal::bad(if clustered {
                "Disabling clustering is not simulated"
            } else {
                "This server is not clustered"
            }));
        }
        if body.server_name.is_empty() {
            return Err(Refusal::bad(
                "ServerName is required when enabling clustering",
            ));
        }
        if clustered {
            return Err(Refusal::bad("This server is already clustered"));
        }
        if body.cluster_address.is_empty() {
            self.bootstrap(body.server_name)
        } else {
            if body.server_address.is_empty() {
                return Err(Refusal::bad("No core.https_address given and none is set"));
            }
            let at = self.at;
            let takes = self.world.timings.join;
            self.start(
                Start {
                    description: JOINING,
                    resources: json!({"cluster": ["/1.0/cluster"]}),
                    takes,
                },
                move |world| join(world, at, body),
            )
        }
    }

    fn bootstrap(&mut self, name: String) -> Answer {
        let config = &self.world.machines[self.at].lxd.config;
        let address = config
            .get("cluster.https_address")
            .or_else(|| config.get("core.https_address"))
            .cloned()
            .unwrap_or_default();
        if address.is_empty() {
            return Err(Refusal::bad(
                "Fetch \"cluster.https_address\": no address is set",
            ));
        }
        if is_wildcard(&address) {
            return Err(Refusal::bad(format!(
                "Can't use {address:?} as cluster address: it is a wildcard"
            )));
        }
        let at = self.at;
        let takes = self.world.timings.bootstrap;
        self.start(
            Start {
                description: "Creating bootstrap node",
                resources: json!({"cluster": ["/1.0/cluster"]}),
                takes,
            },
            move |world| bootstrap(world, at, &name, address),
        )
    }
}

fn bootstrap(world: &mut World, at: usize, name: &str, address: String) -> Result<(), String> {
    if world.machines[at].lxd.clustered() {
        return Err("This server is already clustered".into());
    }
    let db = world.db_mut(at);
    db.clustered = true;
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
            source: "/1.0/cluster".into(),
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
