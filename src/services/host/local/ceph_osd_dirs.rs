//! The directories of OSDs: whose each is, and what is left of those that are gone.

use super::ceph::{
    ACTIVE, CephHost, STARTING, ceph_failed, failed, guard, move_aside, names, osd_unit, run,
    state_of,
};
use super::{ceph_label, disks};
use crate::services::ceph::Command;
use crate::services::host::types::HostError;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The file in an OSD's directory that names its disk; with `.db` and `.wal`, those beside it.
pub(super) const DEVICE: &str = "microcloud-device";

/// The text of a file in a directory; empty when there is none.
pub(super) fn line(dir: &Path, file: &str) -> String {
    fs::read_to_string(dir.join(file))
        .map(|text| text.trim().to_owned())
        .unwrap_or_default()
}

/// Where an OSD's data is opened, when it is encrypted.
pub(super) fn sealed(dir: &Path) -> Option<PathBuf> {
    let link = fs::read_link(dir.join("block")).ok()?;
    link.starts_with("/dev/mapper").then_some(link)
}

/// An OSD as the map has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Known {
    /// Its own id.
    pub uuid: String,
    /// Whether it answers.
    pub up: bool,
    /// Whether it was ever started; before that it is only a number that is taken.
    pub exists: bool,
}

/// The OSDs of the map, also those that were only begun.
pub(super) async fn known(host: &CephHost) -> Result<BTreeMap<i64, Known>, HostError> {
    let dump: Value = host
        .ceph
        .read(&Command::new("osd dump"))
        .await
        .map_err(ceph_failed)?;
    let osds = dump["osds"].as_array().into_iter().flatten();
    Ok(osds
        .filter_map(|osd| {
            let states = osd["state"].as_array().into_iter().flatten();
            let known = Known {
                uuid: osd["uuid"].as_str()?.to_owned(),
                up: osd["up"] == 1,
                exists: states.into_iter().any(|s| s == "exists"),
            };
            Some((osd["osd"].as_i64()?, known))
        })
        .collect())
}

/// Sets aside what is left of OSDs that are gone: Ceph gives their numbers to new ones, which could
/// not be made where an old one's directory is.
pub(super) async fn clear(host: &CephHost, known: &BTreeMap<i64, Known>) -> Result<(), HostError> {
    for name in names(&host.lib.join("osd")) {
        let Ok(id) = name.parse::<i64>() else {
            continue;
        };
        let uuid = line(&host.osd_dir(id), "fsid");
        if is_left_over(known.get(&id), &uuid)
            && let Err(e) = give_up(host, id).await
        {
            // It is in nobody's way unless its number is given away.
            tracing::warn!("what is left of osd.{id} stays where it is: {e}");
        }
    }
    Ok(())
}

/// Whether the map has no OSD that a directory could be of.
fn is_left_over(known: Option<&Known>, uuid: &str) -> bool {
    known.is_none_or(|known| uuid.is_empty() || known.uuid != uuid)
}

/// Moves an OSD's directory away, unless the OSD runs.
///
/// # Errors
/// It runs, or cannot be moved.
pub(super) async fn give_up(host: &CephHost, id: i64) -> Result<(), HostError> {
    let unit = osd_unit(id);
    if state_of(&unit).await == ACTIVE {
        return Err(guard(format!("{unit} runs")));
    }
    // A boot would start it again.
    run("systemctl", &["disable", &unit], None, STARTING).await?;
    move_aside(&host.osd_dir(id))
}

/// The devices of an OSD that are on this machine, by the labels on them: names that the kernel
/// gives may have moved.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Devices {
    /// Its number, as its disk says.
    pub id: Option<i64>,
    /// Its disk.
    pub main: Option<String>,
    /// The device of its database.
    pub db: Option<String>,
    /// The device of its write-ahead log.
    pub wal: Option<String>,
}

/// Looks for the devices of an OSD on all disks.
///
/// # Errors
/// The disks cannot be looked at.
pub(super) async fn devices(host: &CephHost, uuid: &str) -> Result<Devices, HostError> {
    let (host, uuid) = (host.clone(), uuid.to_owned());
    tokio::task::spawn_blocking(move || by_labels(&host, &uuid))
        .await
        .map_err(|e| failed(format!("broken off: {e}")))?
}

fn by_labels(host: &CephHost, uuid: &str) -> Result<Devices, HostError> {
    let mut devices = Devices::default();
    let found =
        disks::scan(&host.roots).map_err(|e| failed(format!("cannot look at the disks: {e}")))?;
    for found in found {
        let node = host.roots.dev.join(&found.report.name);
        let Ok(Some(label)) = ceph_label::read(&node) else {
            continue;
        };
        if label.uuid != uuid {
            continue;
        }
        let place = match label.description.as_str() {
            "" | "main" => {
                devices.id = label.id;
                &mut devices.main
            }
            "bluefs db" => &mut devices.db,
            "bluefs wal" => &mut devices.wal,
            _ => continue,
        };
        place.get_or_insert(found.report.path);
    }
    Ok(devices)
}

#[cfg(test)]
mod tests {
    use super::super::loop_fixture::{LoopDisk, root_or_skip, with_links};
    use super::*;
    use std::os::unix::fs::FileExt;

    #[test]
    fn a_directory_is_left_over_when_the_map_has_no_such_osd() {
        let known = Known {
            uuid: "u".into(),
            up: false,
            exists: true,
        };
        assert!(!is_left_over(Some(&known), "u"), "it only is down");
        assert!(is_left_over(Some(&known), "v"), "its number was given away");
        assert!(
            is_left_over(Some(&known), ""),
            "it was never made to its end"
        );
        assert!(is_left_over(None, "u"), "it was purged");
    }

    #[test]
    fn the_devices_of_an_osd_are_found_by_what_they_hold() {
        if !root_or_skip() {
            return;
        }
        let uuid = "7d108b06-01c8-423b-9b60-9b0af27761f3";
        let other = uuid.replace('7', "8");
        let (a, b, c) = (LoopDisk::new(8), LoopDisk::new(8), LoopDisk::new(8));
        for (disk, id, what) in [(&a, &other, "main"), (&b, &uuid.to_owned(), "main")] {
            let file = fs::File::options().write(true).open(disk.node()).unwrap();
            let label = ceph_label::tests::label_of(id, what, &[("whoami", "4")]);
            file.write_all_at(&label, 0).unwrap();
        }
        let file = fs::File::options().write(true).open(c.node()).unwrap();
        let label = ceph_label::tests::label_of(uuid, "bluefs db", &[]);
        file.write_all_at(&label, 0).unwrap();
        let (dir, roots) = with_links(&[("a", &a), ("b", &b), ("c", &c)]);
        let host = CephHost::new(std::sync::Arc::default(), roots);
        let found = by_labels(&host, uuid).unwrap();
        let path = |name: &str| Some(dir.path().join("by-id").join(name).display().to_string());
        assert_eq!((found.id, found.main), (Some(4), path("b")));
        assert_eq!((found.db, found.wal), (path("c"), None));
        assert_eq!(by_labels(&host, "none").unwrap(), Devices::default());
    }
}
