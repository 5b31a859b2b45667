//! Joining a cluster, as seen from the joiner, and leaving it again.

use super::network_local;
use super::operations;
use super::pool_local;
use crate::services::lxd::types::MemberConfigKey;
use crate::simulate::database::{
    ALONE, Certificate, DbId, Map, MemberRow, Part, Raft, State, Token,
};
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
    fingerprint: String,
    secret: String,
}

/// Makes the standalone LXD of `joiner` a member.
pub(super) fn join(world: &mut World, joiner: usize, body: JoinPut) -> Result<(), String> {
    if world.machines[joiner].lxd.clustered() {
        return Err("This server is already clustered".into());
    }
    let name = body.server_name.as_str();
    let through = reach(world, joiner, &body.cluster_address)?;
    let token = decode_token(&body)?;
    let db = world.db(through);
    let presented = Certificate::fingerprint_of(&body.cluster_certificate);
    if presented.as_deref() != Some(db.certificate.fingerprint.as_str())
        || token.fingerprint != db.certificate.fingerprint
    {
        return Err("Failed to setup cluster trust: The cluster certificate does not match".into());
    }
    if !db.clustered {
        return Err("Failed to join: The target server is not clustered".into());
    }
    if !world.has_quorum(through) {
        return Err("Failed to setup cluster trust: database is not available".into());
    }
    let expected: Option<Token> = db.tokens.get(&token.server_name).cloned();
    match expected {
        Some(t) if t.secret == token.secret && Instant::now() < t.expires => {
            // The secret admits once, whatever comes after.
            world.db_mut(through).tokens.remove(&token.server_name);
            operations::finish(world, &t.operation, Ok(()));
        }
        _ => return Err("Failed to setup cluster trust: not authorized".into()),
    }
    accept(world, joiner, through, &body)?;
    let parts = local_parts(world, joiner, through, &body.member_config)?;
    become_member(world, joiner, through, name, &body.server_address, parts);
    Ok(())
}

/// The machine at the address of the cluster, if its LXD answers.
fn reach(world: &World, joiner: usize, address: &str) -> Result<usize, String> {
    let found: Option<IpAddr> = address
        .parse::<SocketAddr>()
        .map(|a| a.ip())
        .ok()
        .or_else(|| address.parse().ok());
    found
        .and_then(|ip| world.at_address(ip))
        .filter(|machine| {
            world.lxd_reaches(joiner, *machine)
                && world.machines[*machine]
                    .lxd
                    .config
                    .contains_key("core.https_address")
        })
        .ok_or_else(|| format!("Failed to setup cluster trust: Unable to connect to: {address}"))
}

fn decode_token(body: &JoinPut) -> Result<JoinToken, String> {
    let text = if body.cluster_token.is_empty() {
        &body.cluster_password
    } else {
        &body.cluster_token
    };
    base64::engine::general_purpose::STANDARD
        .decode(text)
        .ok()
        .and_then(|json| serde_json::from_slice::<JoinToken>(&json).ok())
        .ok_or_else(|| "Failed to setup cluster trust: not authorized".to_owned())
}

/// What the cluster checks before it lets a server in.
fn accept(world: &World, joiner: usize, through: usize, body: &JoinPut) -> Result<(), String> {
    let db = world.db(through);
    let (theirs, ours) = (
        &world.machines[joiner].config,
        &world.machines[through].config,
    );
    if theirs.extra_extensions.len() != ours.extra_extensions.len()
        || theirs.lxd_version != ours.lxd_version
    {
        return Err(
            "Failed request to add member: The joining server version doesn't match the cluster"
                .into(),
        );
    }
    if db.members.contains_key(&body.server_name) {
        return Err(format!(
            "Failed request to add member: The cluster already has a member with name: {}",
            body.server_name
        ));
    }
    if db
        .members
        .values()
        .any(|m| m.address == body.server_address)
    {
        return Err(format!(
            "Failed request to add member: The cluster already has a member with address: {}",
            body.server_address
        ));
    }
    Ok(())
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
) -> Result<Parts, String> {
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
        let made = pool_local::create(world, joiner, &name, &driver, &config)
            .map_err(|e| format!("Failed to initialize storage pool {name:?}: {e}"))?;
        parts.pools.push((name, made));
    }
    for (project, name, network_type, config) in networks {
        network_local::create(world, joiner, &name, &network_type, &config)
            .map_err(|e| format!("Failed to initialize network {name:?}: {e}"))?;
        parts.networks.push((project, name, config));
    }
    Ok(parts)
}

fn become_member(
    world: &mut World,
    joiner: usize,
    through: usize,
    name: &str,
    address: &str,
    parts: Parts,
) {
    let id: DbId = world.machines[through].lxd.db;
    let old = world.machines[joiner].lxd.db;
    world.dbs.remove(&old);
    let lxd = &mut world.machines[joiner].lxd;
    lxd.db = id;
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
            context: Value::Null,
            ..Lifecycle::default()
        },
    );
}

/// Takes a member out of the database; what was only its own goes with it.
pub(super) fn drop_member(world: &mut World, through: usize, name: &str) {
    let id = world.machines[through].lxd.db;
    let db = world.db_mut(through);
    db.members.remove(name);
    for pool in db.pools.values_mut() {
        pool.parts.remove(name);
    }
    for network in db.networks.values_mut().flat_map(|n| n.values_mut()) {
        network.parts.remove(name);
    }
    if db.leader.as_deref() == Some(name) {
        db.leader = None;
    }
    world.assign_raft(id);
    world.refresh(id);
}

/// Makes the LXD of a machine a fresh standalone one: after leaving, or reinstalled.
pub(in crate::simulate) fn reset(world: &mut World, machine: usize) {
    let name = world.machines[machine].config.name.clone();
    let fresh = world.fresh_db(&name);
    leave_db(world, machine, fresh);
    world.machines[machine].lxd.member = ALONE.into();
    world.machines[machine].lxd.config = Map::new();
}

/// Leaves the LXD of a machine with a database that it cannot use: it was removed by force and
/// does not know.
pub(super) fn strand(world: &mut World, machine: usize) {
    let name = world.machines[machine].config.name.clone();
    let certificate = world.db(machine).certificate.clone();
    let fresh = world.fresh_db(&name);
    if let Some(db) = world.dbs.get_mut(&fresh) {
        // No voter: no quorum.
        db.clustered = true;
        db.certificate = certificate;
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
