//! udev's links to disks, and which of them is the stable path.

use super::root_disk::list;
use super::{DeviceNumber, Roots};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// `/dev/disk/by-*`, by the device the links lead to.
pub(super) struct Links {
    pub(super) by_device: BTreeMap<DeviceNumber, Vec<PathBuf>>,
    pub(super) by_id: PathBuf,
    pub(super) by_path: PathBuf,
}

impl Links {
    /// Reads all links.
    pub fn read(roots: &Roots) -> Links {
        let mut by_device: BTreeMap<DeviceNumber, Vec<PathBuf>> = BTreeMap::new();
        for dir in list(&roots.links) {
            for link in list(&dir) {
                if let Some(device) = DeviceNumber::of_node(&link) {
                    by_device.entry(device).or_default().push(link);
                }
            }
        }
        Links {
            by_device,
            by_id: roots.links.join("by-id"),
            by_path: roots.links.join("by-path"),
        }
    }

    /// The links to a device.
    pub fn of(&self, device: DeviceNumber) -> &[PathBuf] {
        self.by_device.get(&device).map_or(&[], Vec::as_slice)
    }

    /// Whether a link is named after the device's identity.
    pub fn is_by_id(&self, link: &Path) -> bool {
        link.starts_with(&self.by_id)
    }

    /// The stable path and all other paths.
    pub fn choose(&self, device: DeviceNumber, node: &Path) -> (PathBuf, Vec<PathBuf>) {
        let mut all = self.of(device).to_vec();
        all.push(node.to_owned());
        let chosen = (0..all.len())
            .min_by_key(|n| (self.rank(&all[*n]), all[*n].clone()))
            .unwrap_or(0);
        let path = all.remove(chosen);
        all.sort();
        (path, all)
    }

    /// The lower the better: names made of the model and serial number first, then those made of
    /// world-wide numbers; what is named after its content (LVM, RAID) goes with the content.
    fn rank(&self, link: &Path) -> u8 {
        let name = link.file_name().map(|n| n.to_string_lossy().into_owned());
        let name = name.unwrap_or_default();
        if self.is_by_id(link) {
            match name.split('-').next().unwrap_or("") {
                "lvm" | "md" | "dm" => 5,
                "wwn" => 1,
                _ if name.starts_with("nvme-eui.") || name.starts_with("nvme-nvme.") => 1,
                _ => 0,
            }
        } else if link.starts_with(&self.by_path) {
            2
        } else if link.parent().and_then(Path::parent) != self.by_id.parent() {
            3 // the node itself
        } else {
            4
        }
    }
}
