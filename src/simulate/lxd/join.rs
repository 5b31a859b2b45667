//! Joining a cluster, as seen from the joiner, and leaving it again.

use super::network_local;
use super::operations;
use super::pool_ceph;
use super::pool_local;
use super::reply::Refusal;
use crate::services::lxd::types::MemberConfigKey;
use crate::simulate::database::{ALONE, Certificate, DbId, Map, MemberRow, Part, Raft, State};
use crate::simulate::events::Lifecycle;
use crate::simulate::world::World;
use base64::Engine;
use serde::Deserialize;
use serde_json::{Value, json};
use std::net::{IpAddr, SocketAddr};
use tokio::time::Instant;

/// What the operation of a join calls itself.
pub(in crate::simulate) const JOINING: &str = "Joining cluster";

/// The body of `PUT /1.0/cluster`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct JoinPut {
    /// The member's name.
    pub server_name: String,
    /// Whether to be in a cluster.
    pub enabled: bool,
    /// Where the joiner listens.
    pub server_address: String,
    /// Where a member of the cluster listens; empty to found one.
    pub cluster_address: String,
    /// The cluster's certificate.
    pub cluster_certificate: String,
    /// The token.
    pub cluster_token: String,
    /// The token, in the field that older servers read it from.
    pub cluster_password: String,
    /// What the joiner gives to pools and networks.
    pub member_config: Vec<MemberConfigKey>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct JoinToken {
    server_name: String,
    secret: String,
}

/// What a join that cannot get the cluster's trust says first.
const TRUST: &str = "Failed to setup cluster trust";

/// Makes the standalone LXD of `joiner` a member.
pub(super) fn join(world: &mut World, joiner: usize, body: JoinPut) -> Result<(), Refusal> {
    if world.machines[joiner].lxd.clustered() {
        return Err(Refusal::bad("This server is already clustered"));
    }
    let through = reach(world, joiner, &body.cluster_address).map_err(|e| e.during(TRUST))?;
    let presented = Certificate::fingerprint_of(&body.cluster_certificate);
    if presented.as_deref() != Some(world.db(through).certificate.fingerprint.as_str()) {
        let message = format!(
            "Failed to connect to target cluster node {:?}: Invalid remote certificate",
            body.cluster_address
        );
        return Err(Refusal::failed(message).during(TRUST));
    }
    if !world.has_quorum(through) {
        return Err(Refusal::failed("no available dqlite leader server found").during(TRUST));
    }
    trust(world, joiner, through, &body)?;
    accept(world, joiner, through, &body)?;
    let db = world.db(through);
    if db.raft_orphans.contains(&body.server_address) {
        // It waits for ever for a raft node that was there before.
        world.machines[joiner].lxd.hung = true;
        return Ok(());
    }
    let errored = db
        .networks
        .values()
        .flatten()
        .find(|(_, row)| row.state == State::Errored);
    if let Some((network, _)) = errored {
        let message = format!(
            "Cluster database initialization failed: Joining member has no config for network {network}"
        );
        half_join(world, joiner, through, &body.server_address);
        return Err(Refusal::failed(message));
    }
    let parts = local_parts(world, joiner, through, &body.member_config).map_err(|e| {
        e.during("Failed to initialize storage pools and networks")
            .during("Failed to initialize member")
    })?;
    become_member(world, joiner, through, &body, parts);
    Ok(())
}

/// A server can only listen on its own addresses.
pub(super) fn listen(world: &World, joiner: usize, address: &str) -> Result<(), Refusal> {
    let own = world.machines[joiner].config.address;
    match ip_of(address) {
        Some(ip) if ip == own => Ok(()),
        _ => Err(Refusal::failed(format!(
            "Cannot listen on cluster HTTPS socket {address:?}: listen tcp {address}: bind: cannot \
             assign requested address"
        ))),
    }
}

fn ip_of(address: &str) -> Option<IpAddr> {
    address
        .parse::<SocketAddr>()
        .map(|a| a.ip())
        .ok()
        .or_else(|| address.parse().ok())
}

/// The machine at the address of the cluster, if its LXD answers there.
fn reach(world: &World, joiner: usize, address: &str) -> Result<usize, Refusal> {
    ip_of(address)
        .and_then(|ip| world.at_address(ip))
        .filter(|machine| {
            let listens = world.machines[*machine]
                .lxd
                .config
                .contains_key("core.https_address");
            world.lxd_reaches(joiner, *machine) && listens
        })
        .ok_or_else(|| {
            Refusal::failed(format!(
                "Failed to connect to target cluster node {address:?}: Get \
                 \"https://{address}/1.0\": Unable to connect to: {address} ([dial tcp {address}: \
                 connect: no route to host])"
            ))
        })
}

/// The cluster lets the joiner's certificate in, once per token, whatever comes after.
fn trust(world: &mut World, joiner: usize, through: usize, body: &JoinPut) -> Result<(), Refusal> {
    let denied = |why: &str| {
        Refusal::forbidden(why)
            .during("Failed to add server cert to cluster")
            .during(TRUST)
    };
    let text = if body.cluster_token.is_empty() {
        &body.cluster_password
    } else {
        &body.cluster_token
    };
    let token = base64::engine::general_purpose::STANDARD
        .decode(text)
        .ok()
        .and_then(|json| serde_json::from_slice::<JoinToken>(&json).ok())
        .ok_or_else(|| denied("not authorized"))?;
    let operation = world
        .db(through)
        .tokens
        .get(&token.server_name)
        .filter(|t| t.secret == token.secret && Instant::now() < t.expires)
        .map(|t| t.operation.clone())
        // A token is the operation of a running daemon.
        .filter(|id| world.operations.contains_key(id))
        .ok_or_else(|| denied("No matching cluster join operation found"))?;
    operations::cancel(world, &operation);
    let fingerprint = world.machines[joiner].certificate.fingerprint.clone();
    let trusted = &mut world.db_mut(through).trusted_servers;
    match trusted.get(&fingerprint) {
        Some(name) if *name != body.server_name => {
            let message = format!(
                "Failed to update cluster trust: Existing server certificate with different name \
                 {name:?} already in trust store"
            );
            return Err(Refusal::failed(message));
        }
        Some(_) => {}
        None => {
            trusted.insert(fingerprint.clone(), body.server_name.clone());
            let event = Lifecycle {
                action: "certificate-created",
                source: format!("/1.0/certificates/{fingerprint}"),
                ..Lifecycle::default()
            };
            world.emit(through, event);
        }
    }
    Ok(())
}

/// What the cluster checks before it lets a server in.
fn accept(world: &World, joiner: usize, through: usize, body: &JoinPut) -> Result<(), Refusal> {
    let refuse =
        |message: String| Err(Refusal::bad(message).during("Failed request to add member"));
    let db = world.db(through);
    let (theirs, ours) = (
        &world.machines[joiner].config,
        &world.machines[through].config,
    );
    if theirs.extra_extensions.len() != ours.extra_extensions.len()
        || theirs.lxd_version != ours.lxd_version
    {
        return refuse("The joining server version doesn't match".into());
    }
    if db.members.contains_key(&body.server_name) {
        return refuse(format!(
            "The cluster already has a member with name: {}",
            body.server_name
        ));
    }
    if db
        .members
        .values()
        .any(|m| m.address == body.server_address)
    {
        return refuse(format!(
            "The cluster already has a member with address: {}",
            body.server_address
        ));
    }
    Ok(())
}

/// A fault of LXD 5.0: the joiner notices too late that it cannot join. It then says that it is
/// in a cluster, under no name, and the cluster does not know it, but its database's raft does.
fn half_join(world: &mut World, joiner: usize, through: usize, address: &str) {
    let id = world.machines[through].lxd.db;
    let db = world.db_mut(through);
    db.raft_orphans.insert(address.to_owned());
    leave_db(world, joiner, id);
    world.machines[joiner].lxd.member = String::new();
}

/// The joiner's parts of what the cluster has, made on its machine.
struct Parts {
    pools: Vec<(String, Map)>,
    networks: Vec<(String, String, Map)>,
}

fn local_parts(
    world: &mut World,
    joiner: usize,
    through: usize,
    given: &[MemberConfigKey],
) -> Result<Parts, Refusal> {
    let own = |entity: &str, name: &str| -> Map {
        given
            .iter()
            .filter(|k| k.entity == entity && k.name == name && !k.value.is_empty())
            .map(|k| (k.key.clone(), k.value.clone()))
            .collect()
    };
    let db = world.db(through);
    let pools: Vec<(String, String, Map)> = db
        .pools
        .iter()
        .filter(|(_, p)| p.state == State::Created)
        .map(|(name, p)| (name.clone(), p.driver.clone(), own("storage-pool", name)))
        .collect();
    let networks: Vec<(String, String, String, Map)> = db
        .networks
        .iter()
        .flat_map(|(project, list)| list.iter().map(move |(name, n)| (project, name, n)))
        .filter(|(_, _, n)| n.state == State::Created)
        .map(|(project, name, n)| {
            let own = own("network", name);
            (project.clone(), name.clone(), n.network_type.clone(), own)
        })
        .collect();
    let mut parts = Parts {
        pools: Vec::new(),
        networks: Vec::new(),
    };
    for (name, driver, config) in pools {
        let failed = |e: String| {
            Refusal::failed(e).during(&format!("Failed to create storage pool {name:?}"))
        };
        pool_ceph::join(world, joiner, through, &name, &driver).map_err(failed)?;
        let made = pool_local::create(world, joiner, &name, &driver, &config).map_err(failed)?;
        parts.pools.push((name, made));
    }
    for (project, name, network_type, config) in networks {
        network_local::create(world, joiner, &name, &network_type, &config).map_err(|e| {
            Refusal::failed(e).during(&format!("Failed to create network {name:?}"))
        })?;
        parts.networks.push((project, name, config));
    }
    Ok(parts)
}

fn become_member(world: &mut World, joiner: usize, through: usize, body: &JoinPut, parts: Parts) {
    let (name, address) = (&body.server_name, &body.server_address);
    let id: DbId = world.machines[through].lxd.db;
    leave_db(world, joiner, id);
    let lxd = &mut world.machines[joiner].lxd;
    lxd.member = name.to_owned();
    lxd.config = Map::from([
        ("core.https_address".into(), address.to_owned()),
        ("cluster.https_address".into(), address.to_owned()),
    ]);
    let db = world.db_mut(through);
    let row = MemberRow {
        machine: joiner,
        id: db.next_member,
        address: address.to_owned(),
        raft: Raft::Spare,
        roles: Vec::new(),
        failure_domain: "default".into(),
        description: String::new(),
        config: Map::new(),
        groups: vec!["default".into()],
        evacuated: false,
        lost_since: None,
    };
    db.next_member += 1;
    db.members.insert(name.to_owned(), row);
    let part = |config| Part {
        state: State::Created,
        config,
    };
    for (pool, config) in parts.pools {
        if let Some(row) = db.pools.get_mut(&pool) {
            row.parts.insert(name.to_owned(), part(config));
        }
    }
    for (project, network, config) in parts.networks {
        if let Some(row) = db.network_mut(&project, &network) {
            row.parts.insert(name.to_owned(), part(config));
        }
    }
    world.assign_raft(id);
    world.refresh(id);
    world.emit(
        joiner,
        Lifecycle {
            action: "cluster-member-added",
            source: format!("/1.0/cluster/members/{}", super::encode(name)),
            ..Lifecycle::default()
        },
    );
}

/// Takes a member out of the database; what was only its own goes with it.
pub(super) fn drop_member(world: &mut World, through: usize, name: &str) {
    let id = world.machines[through].lxd.db;
    let db = world.db_mut(through);
    let row = db.members.remove(name);
    if let Some(machine) = row.map(|row| row.machine) {
        let own = world.machines[machine].certificate.fingerprint.clone();
        world.db_mut(through).trusted_servers.remove(&own);
    }
    let db = world.db_mut(through);
    for pool in db.pools.values_mut() {
        pool.parts.remove(name);
    }
    for network in db.networks.values_mut().flat_map(|n| n.values_mut()) {
        network.parts.remove(name);
    }
    db.contents.lost(name);
    if db.leader.as_deref() == Some(name) {
        db.leader = None;
    }
    world.assign_raft(id);
    world.refresh(id);
}

/// Makes the LXD of a machine a fresh standalone one: after leaving, or reinstalled.
pub(in crate::simulate) fn reset(world: &mut World, machine: usize) {
    let certificate = world.machines[machine].certificate.clone();
    let fresh = world.fresh_db(certificate);
    leave_db(world, machine, fresh);
    world.machines[machine].lxd.member = ALONE.into();
    let lxd = &mut world.machines[machine].lxd;
    lxd.config = Map::new();
    lxd.shown_name = None;
}

/// Leaves the LXD of a machine with a database that it cannot use: it was removed by force and
/// does not know.
pub(super) fn strand(world: &mut World, machine: usize) {
    let certificate = world.db(machine).certificate.clone();
    let fresh = world.fresh_db(certificate);
    if let Some(db) = world.dbs.get_mut(&fresh) {
        // No voter: no quorum.
        db.clustered = true;
    }
    leave_db(world, machine, fresh);
}

fn leave_db(world: &mut World, machine: usize, to: DbId) {
    let old = world.machines[machine].lxd.db;
    world.machines[machine].lxd.db = to;
    if !world.machines.iter().any(|m| m.lxd.db == old) {
        world.dbs.remove(&old);
    }
}

/// A token as the operation that gives it out shows it.
pub(super) fn token_metadata(
    name: &str,
    secret: &str,
    fingerprint: &str,
    addresses: &[String],
    expires: &str,
) -> Value {
    json!({
        "serverName": name, "secret": secret, "fingerprint": fingerprint,
        "addresses": addresses, "expiresAt": expires,
    })
}
