//! What uses a disk now, as the kernel says: mounts, swap, device mapper and RAID, btrfs.

use super::mounts::{self, Mount};
use super::root_disk::{self, RootDisks, list, number};
use super::{DeviceNumber, Roots};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// What the kernel says is in use, read once for all disks.
#[derive(Debug)]
pub(super) struct InUse {
    reasons: BTreeMap<DeviceNumber, Vec<String>>,
    /// Where the root file system is.
    pub root: RootDisks,
}

impl InUse {
    /// Reads it.
    ///
    /// # Errors
    /// The mounts cannot be read: then nothing may be called unused.
    pub fn read(roots: &Roots) -> std::io::Result<InUse> {
        let text = fs::read_to_string(roots.proc.join("self/mountinfo"))?;
        let mounts = mounts::parse(&text);
        let mut reasons: BTreeMap<DeviceNumber, Vec<String>> = BTreeMap::new();
        for mount in &mounts {
            if let Some(device) = device_of(mount) {
                let reason = format!("mounted at {}", mount.point.display());
                reasons.entry(device).or_default().push(reason);
            }
        }
        let swaps = fs::read_to_string(roots.proc.join("swaps")).unwrap_or_default();
        for path in swaps.lines().skip(1).filter_map(|l| l.split(' ').next()) {
            if let Some(device) = DeviceNumber::of_node(Path::new(path)) {
                let reason = "in use as swap".to_owned();
                reasons.entry(device).or_default().push(reason);
            }
        }
        for system in list(&roots.sys.join("fs/btrfs")) {
            for device in list(&system.join("devices"))
                .iter()
                .filter_map(|d| number(d))
            {
                let reason = "in use by btrfs".to_owned();
                reasons.entry(device).or_default().push(reason);
            }
        }
        Ok(InUse {
            reasons,
            root: root_disk::find(roots, &mounts),
        })
    }

    /// Why a device, whose directory in sysfs is `dir`, is in use.
    pub fn of(&self, device: DeviceNumber, dir: &Path) -> Vec<String> {
        let mut reasons = self.reasons.get(&device).cloned().unwrap_or_default();
        for holder in list(&dir.join("holders")) {
            if let Some(name) = holder.file_name() {
                reasons.push(format!("held by {}", name.to_string_lossy()));
            }
        }
        reasons.sort();
        reasons.dedup();
        reasons
    }
}

/// The device a mount is on. File systems of several devices have invented numbers: their source
/// says one of them.
fn device_of(mount: &Mount) -> Option<DeviceNumber> {
    mount
        .device
        .filter(|device| device.major != 0)
        .or_else(|| DeviceNumber::of_node(&mount.source))
}
