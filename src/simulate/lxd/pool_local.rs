//! What creating and deleting a pool does on one machine.

use crate::simulate::database::Map;
use crate::simulate::world::World;

/// Drivers that LXD has, whether or not they work on a machine.
const DRIVERS: [&str; 7] = ["btrfs", "ceph", "cephfs", "cephobject", "dir", "lvm", "zfs"];

/// Why a machine cannot have a pool of this driver, if so.
pub(super) fn driver_error(world: &World, machine: usize, driver: &str) -> Option<String> {
    let works = &world.machines[machine].config.storage_drivers;
    if !DRIVERS.contains(&driver) {
        Some("Unknown driver".into())
    } else if !works.iter().any(|d| d == driver) {
        Some(format!("Required tool for driver {driver:?} is missing"))
    } else {
        None
    }
}

/// Creates a machine's part of a pool; gives the member's keys as LXD then has them.
pub(super) fn create(
    world: &mut World,
    machine: usize,
    name: &str,
    driver: &str,
    config: &Map,
) -> Result<Map, String> {
    let broken = world
        .faults
        .create_error(machine, &format!("/1.0/storage-pools/{name}"));
    if let Some(error) = broken.or_else(|| driver_error(world, machine, driver)) {
        return Err(error);
    }
    let mut made = config.clone();
    let wipe = made
        .remove("source.wipe")
        .is_some_and(|wipe| super::keys::is_true(&wipe));
    if driver.starts_with("ceph") {
        return Ok(made);
    }
    let source = config.get("source").cloned().unwrap_or_default();
    let own_dir = format!("/var/lib/lxd/storage-pools/{name}");
    match driver {
        "dir" if source.is_empty() => {
            make_dir(world, machine, name, &own_dir)?;
            made.insert("source".into(), own_dir);
            return Ok(made);
        }
        "dir" => {
            has_directory(world, machine, &source)?;
            make_dir(world, machine, name, &own_dir)?;
            return Ok(made);
        }
        _ => {}
    }
    if source.starts_with("/dev/") {
        let id = world.uuid();
        take_disk(world, machine, &source, driver, &id, wipe)?;
        made.insert("volatile.initial_source".into(), source);
        let kept = match driver {
            "btrfs" => format!("/dev/disk/by-uuid/{id}"),
            "zfs" => own_name(&mut made, "zfs.pool_name", name),
            _ => {
                own_name(&mut made, "lvm.thinpool_name", "LXDThinPool");
                own_name(&mut made, "lvm.vg_name", name)
            }
        };
        made.insert("source".into(), kept);
    } else if source.is_empty() {
        // A file as the disk, a fifth of what is free, at least 5 GiB.
        made.entry("size".into()).or_insert_with(|| "5GiB".into());
        made.insert("source".into(), format!("/var/lib/lxd/disks/{name}.img"));
    } else if source.starts_with('/') {
        has_directory(world, machine, &source)?;
    }
    Ok(made)
}

/// Deletes a machine's part of a pool. What was made on a disk stays there.
pub(super) fn delete(world: &mut World, machine: usize, name: &str) {
    world.machines[machine].pool_dirs.remove(name);
}

fn own_name(config: &mut Map, key: &str, name: &str) -> String {
    config
        .entry(key.to_owned())
        .or_insert_with(|| name.to_owned())
        .clone()
}

fn make_dir(world: &mut World, machine: usize, name: &str, path: &str) -> Result<(), String> {
    if world.machines[machine].pool_dirs.insert(name.to_owned()) {
        Ok(())
    } else {
        Err(format!("Storage pool directory {path:?} already exists"))
    }
}

fn has_directory(world: &World, machine: usize, path: &str) -> Result<(), String> {
    let known = &world.machines[machine].config.directories;
    if known.iter().any(|d| d == path) {
        Ok(())
    } else {
        Err(missing(path))
    }
}

fn missing(path: &str) -> String {
    format!("Source path '{path}' doesn't exist")
}

/// Takes a blank disk for a pool.
fn take_disk(
    world: &mut World,
    machine: usize,
    source: &str,
    driver: &str,
    id: &str,
    wipe: bool,
) -> Result<(), String> {
    let disk = world.machines[machine]
        .disk_mut(source)
        .ok_or_else(|| missing(source))?;
    let mounted = disk.signatures.iter().any(|s| s.starts_with("mounted"));
    if disk.root || mounted || (!wipe && !disk.signatures.is_empty()) {
        return Err(format!(
            "Failed to format block device: Failed to run: mkfs.{driver} {source}: exit status 1 \
             (ERROR: {source} appears to contain an existing filesystem ({}))",
            disk.signatures.join(", ")
        ));
    }
    disk.signatures = vec![match driver {
        "zfs" => "zfs member".into(),
        "lvm" => "lvm member".into(),
        other => format!("{other} filesystem"),
    }];
    if driver == "btrfs" {
        disk.links.push(format!("/dev/disk/by-uuid/{id}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::SimConfig;

    fn map(pairs: &[(&str, &str)]) -> Map {
        pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect()
    }

    #[test]
    fn a_disk_that_was_used_is_only_taken_when_it_may_be_wiped() {
        let shared = World::create(SimConfig::of(1));
        let mut world = shared.lock();
        let path = world.machines[0].disks[1].path.clone();
        let source = map(&[("source", &path)]);
        let made = create(&mut world, 0, "a", "btrfs", &source).expect("a blank disk");
        assert!(made["source"].starts_with("/dev/disk/by-uuid/"));
        delete(&mut world, 0, "a");
        let again = create(&mut world, 0, "a", "btrfs", &source);
        assert!(again.is_err_and(|e| e.contains("existing filesystem")));
        let wipe = map(&[("source", &path), ("source.wipe", "true")]);
        let made = create(&mut world, 0, "a", "btrfs", &wipe).expect("it may be wiped");
        assert!(!made.contains_key("source.wipe"));
    }

    #[test]
    fn a_directory_that_was_left_is_in_the_way() {
        let shared = World::create(SimConfig::of(1));
        let mut world = shared.lock();
        create(&mut world, 0, "d", "dir", &Map::new()).expect("nothing is there");
        let again = create(&mut world, 0, "d", "dir", &Map::new());
        assert!(again.is_err_and(|e| e.contains("already exists")));
        delete(&mut world, 0, "d");
        assert!(create(&mut world, 0, "d", "dir", &Map::new()).is_ok());
    }
}
