//! What creating a pool does on one machine.

use crate::simulate::database::Map;
use crate::simulate::world::World;

/// Creates a machine's part of a pool; gives the member's keys as LXD then has them.
pub(super) fn create(
    world: &mut World,
    machine: usize,
    name: &str,
    driver: &str,
    config: &Map,
) -> Result<Map, String> {
    if let Some(error) = world
        .faults
        .create_error(machine, &format!("/1.0/storage-pools/{name}"))
    {
        return Err(error);
    }
    if !world.machines[machine]
        .config
        .storage_drivers
        .iter()
        .any(|d| d == driver)
    {
        return Err(format!("Required tool for {driver:?} is missing"));
    }
    let mut made = config.clone();
    let source = config.get("source").cloned().unwrap_or_default();
    if driver.starts_with("ceph") {
        return Ok(made);
    }
    if !source.is_empty() {
        made.insert("volatile.initial_source".into(), source.clone());
    }
    if source.starts_with("/dev/") && driver != "dir" {
        let id = world.uuid();
        take_disk(world, machine, &source, driver, &id)?;
        let kept = match driver {
            "btrfs" => id,
            "zfs" => {
                made.entry("zfs.pool_name".into())
                    .or_insert_with(|| name.to_owned());
                name.to_owned()
            }
            _ => {
                made.entry("lvm.vg_name".into())
                    .or_insert_with(|| name.to_owned());
                made.entry("lvm.thinpool_name".into())
                    .or_insert_with(|| "LXDThinPool".into());
                name.to_owned()
            }
        };
        made.insert("source".into(), kept);
    } else if source.is_empty() {
        let kept = if driver == "dir" {
            format!("/var/lib/lxd/storage-pools/{name}")
        } else {
            // A file as the disk, a fifth of what is free, at least 5 GiB.
            made.entry("size".into()).or_insert_with(|| "5GiB".into());
            format!("/var/lib/lxd/disks/{name}.img")
        };
        made.insert("source".into(), kept);
    }
    Ok(made)
}

/// Takes a blank disk for a pool.
fn take_disk(
    world: &mut World,
    machine: usize,
    source: &str,
    driver: &str,
    id: &str,
) -> Result<(), String> {
    let disk = world.machines[machine]
        .disk_mut(source)
        .ok_or_else(|| format!("Source path {source:?} doesn't exist"))?;
    if disk.root || !disk.signatures.is_empty() {
        return Err(format!(
            "Failed to format {source:?}: it appears to contain {}",
            disk.signatures.join(", ")
        ));
    }
    disk.signatures.push(match driver {
        "zfs" => "zfs member".into(),
        "lvm" => "lvm member".into(),
        other => format!("{other} filesystem"),
    });
    if driver == "btrfs" {
        disk.links.push(format!("/dev/disk/by-uuid/{id}"));
    }
    Ok(())
}
