//! What LXD does in Ceph when it makes or deletes a pool there.

use crate::services::ceph::{CephError, Command};
use crate::simulate::database::Map;
use crate::simulate::world::World;
use serde_json::Value;

/// Placement groups unless the pool says otherwise.
const PG_NUM: &str = "32";

/// Makes the pool or looks at the file system, once for all members; gives the keys of all as LXD
/// then has them.
pub(super) fn create(
    world: &mut World,
    machine: usize,
    name: &str,
    driver: &str,
    source: &str,
    config: &Map,
) -> Result<Map, String> {
    match driver {
        "ceph" => create_pool(world, machine, name, config),
        "cephfs" => find_filesystem(world, machine, name, source, config),
        _ => Ok(config.clone()),
    }
}

fn create_pool(world: &mut World, machine: usize, name: &str, config: &Map) -> Result<Map, String> {
    let mut made = config.clone();
    let mut or = |key: &str, default: &str| {
        let entry = made.entry(key.to_owned());
        entry.or_insert_with(|| default.to_owned()).clone()
    };
    or("ceph.cluster_name", "ceph");
    or("ceph.user.name", "admin");
    let pg_num = or("ceph.osd.pg_num", PG_NUM);
    let pool = or("ceph.osd.pool_name", name);
    let placeholder = format!("lxd_{pool}");
    let there = pools(world, machine).is_ok_and(|p| p.contains(&pool));
    if there {
        let cluster = world.ceph_of(machine);
        let taken =
            cluster.is_some_and(|c| c.images.contains(&(pool.clone(), placeholder.clone())));
        let forced = made.get("ceph.osd.force_reuse").map(String::as_str) == Some("true");
        if taken && !forced {
            return Err(format!(
                "Pool '{pool}' in cluster 'ceph' seems to be in use by another LXD instance. Use \
                 'ceph.osd.force_reuse=true' to force"
            ));
        }
    } else {
        let groups: u32 = pg_num.parse().unwrap_or(32);
        let create = Command::new("osd pool create")
            .with("pool", pool.clone())
            .with("pg_num", groups);
        let words = format!("osd pool create {pool} {pg_num}");
        run(world, machine, &create, &words)?;
        let enable = Command::new("osd pool application enable")
            .with("pool", pool.clone())
            .with("app", "rbd");
        run(
            world,
            machine,
            &enable,
            &format!("osd pool application enable {pool} rbd"),
        )?;
    }
    if let Some(cluster) = world.ceph_of(machine) {
        cluster.images.insert((pool, placeholder));
    }
    made.insert("volatile.pool.pristine".into(), (!there).to_string());
    Ok(made)
}

/// What a machine looks for that joins a cluster with such a pool: the image LXD marks it with.
/// Whatever keeps it from finding that, it says the same.
pub(super) fn join(
    world: &mut World,
    joiner: usize,
    through: usize,
    name: &str,
    driver: &str,
) -> Result<(), String> {
    if driver != "ceph" {
        return Ok(());
    }
    let config = world.db(through).pools.get(name).map(|row| &row.config);
    let pool = config
        .and_then(|c| c.get("ceph.osd.pool_name").cloned())
        .unwrap_or_else(|| name.to_owned());
    let there = pools(world, joiner).is_ok_and(|all| all.contains(&pool));
    let image = (pool.clone(), format!("lxd_{pool}"));
    let marked = world
        .ceph_of(joiner)
        .is_some_and(|cluster| cluster.images.contains(&image));
    match there && marked {
        true => Ok(()),
        false => Err("Placeholder volume does not exist".to_owned()),
    }
}

fn find_filesystem(
    world: &mut World,
    machine: usize,
    name: &str,
    source: &str,
    config: &Map,
) -> Result<Map, String> {
    if source.is_empty() {
        return Err("Missing required source name/path".into());
    }
    let mut made = config.clone();
    let path = made
        .entry("cephfs.path".into())
        .or_insert_with(|| source.to_owned())
        .clone();
    if path != source {
        return Err("cephfs.path must match the source".into());
    }
    let mut or = |key: &str, default: &str| {
        made.entry(key.to_owned())
            .or_insert_with(|| default.to_owned());
    };
    or("cephfs.cluster_name", "ceph");
    or("cephfs.user.name", "admin");
    or("volatile.pool.pristine", "true");
    let (filesystem, folder) = path.split_once('/').unwrap_or((path.as_str(), ""));
    let dump = run(world, machine, &Command::new("fs dump"), "fs dump")?;
    let dump: Value = serde_json::from_str(&dump).map_err(|e| e.to_string())?;
    let all = dump["filesystems"].as_array();
    let mut all = all.into_iter().flatten();
    let Some(found) = all.find(|f| f["mdsmap"]["fs_name"] == filesystem) else {
        return Err(format!("The requested '{filesystem}' CEPHFS doesn't exist"));
    };
    let served = found["mdsmap"]["info"].as_object();
    if served.is_none_or(serde_json::Map::is_empty) {
        return Err(format!(
            "Failed to mount \":/{folder}\" using \"ceph\": connection timed out"
        ));
    }
    let place = (filesystem.to_owned(), format!("/{folder}"));
    if let Some(cluster) = world.ceph_of(machine)
        && !cluster.images.insert(place)
    {
        return Err(format!(
            "Only empty CEPHFS paths can be used as a LXD storage pool ({name})"
        ));
    }
    Ok(made)
}

/// Takes the pool out of Ceph, if LXD made it.
pub(super) fn delete(
    world: &mut World,
    machine: usize,
    driver: &str,
    config: &Map,
) -> Result<(), String> {
    let text = |key: &str| config.get(key).cloned().unwrap_or_default();
    if driver == "cephfs" {
        let path = text("cephfs.path");
        let (filesystem, folder) = path.split_once('/').unwrap_or((path.as_str(), ""));
        let place = (filesystem.to_owned(), format!("/{folder}"));
        if let Some(cluster) = world.ceph_of(machine) {
            cluster.images.remove(&place);
        }
        return Ok(());
    }
    let pool = text("ceph.osd.pool_name");
    if driver != "ceph" || !pools(world, machine)?.contains(&pool) {
        return Ok(());
    }
    if text("volatile.pool.pristine") == "true" {
        let command = Command::new("osd pool delete")
            .with("pool", pool.clone())
            .with("pool2", pool.clone())
            .with("yes_i_really_really_mean_it", true);
        let words = format!("osd pool delete {pool} {pool} --yes-i-really-really-mean-it");
        run(world, machine, &command, &words)?;
    }
    if let Some(cluster) = world.ceph_of(machine) {
        cluster
            .images
            .remove(&(pool.clone(), format!("lxd_{pool}")));
    }
    Ok(())
}

/// The names of Ceph's pools.
fn pools(world: &mut World, machine: usize) -> Result<Vec<String>, String> {
    let dump = run(world, machine, &Command::new("osd dump"), "osd dump")?;
    let dump: Value = serde_json::from_str(&dump).map_err(|e| e.to_string())?;
    let all = dump["pools"].as_array().into_iter().flatten();
    Ok(all
        .filter_map(|p| p["pool_name"].as_str().map(str::to_owned))
        .collect())
}

/// Runs what LXD runs as `ceph`; its errors are that program's.
fn run(
    world: &mut World,
    machine: usize,
    command: &Command,
    words: &str,
) -> Result<String, String> {
    world.ceph_command(machine, command).map_err(|error| {
        let said = match error {
            CephError::NotSetUp { .. } => {
                "Error initializing cluster client: ObjectNotFound('RADOS object not found (error \
                 calling conf_read_file)')"
                    .to_owned()
            }
            CephError::Refused { code, reason, .. } => format!("Error {}: {reason}", word(code)),
            other => {
                format!("[errno 110] RADOS timed out (error connecting to the cluster): {other}")
            }
        };
        format!(
            "Failed to run: ceph --name client.admin --cluster ceph {words}: exit status 1 ({said})"
        )
    })
}

/// An error number as the `ceph` command names it.
fn word(code: i32) -> String {
    match code {
        1 => "EPERM".into(),
        2 => "ENOENT".into(),
        16 => "EBUSY".into(),
        22 => "EINVAL".into(),
        34 => "ERANGE".into(),
        other => other.to_string(),
    }
}
