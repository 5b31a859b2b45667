//! Which disks the root file system is on: through partitions, device mapper, RAID, loop devices
//! and overlays down to whole disks.

use super::mounts::{Mount, holding};
use super::{DeviceNumber, Roots};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// No honest stack is deeper.
const DEEPEST: usize = 16;

/// Where the root file system is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct RootDisks {
    /// The whole disks.
    pub disks: BTreeSet<DeviceNumber>,
    /// The root is on ZFS, which does not say on which disks: every disk with ZFS may be one.
    pub any_zfs: bool,
}

/// Follows the mount at `/`.
pub(super) fn find(roots: &Roots, mounts: &[Mount]) -> RootDisks {
    let mut found = RootDisks::default();
    if let Some(mount) = holding(mounts, Path::new("/")) {
        follow_mount(roots, mounts, mount, &mut found, 0);
    }
    found
}

fn follow_mount(
    roots: &Roots,
    mounts: &[Mount],
    mount: &Mount,
    found: &mut RootDisks,
    depth: usize,
) {
    if depth > DEEPEST {
        return;
    }
    match mount.kind.as_str() {
        "zfs" => found.any_zfs = true,
        "overlay" => {
            let layers = mount.options.iter().filter_map(|option| {
                let (key, value) = option.split_once('=')?;
                matches!(key, "upperdir" | "lowerdir" | "workdir").then_some(value)
            });
            for path in layers.flat_map(|value| value.split(':')) {
                let path = Path::new(path);
                if let Some(below) = holding(mounts, path).filter(|below| *below != mount) {
                    follow_mount(roots, mounts, below, found, depth + 1);
                }
            }
        }
        "btrfs" => {
            let source = DeviceNumber::of_node(&mount.source);
            for device in btrfs_devices(roots, source) {
                follow_device(roots, mounts, device, found, depth + 1);
            }
        }
        _ => {
            let device = mount
                .device
                .filter(|device| device.major != 0)
                .or_else(|| DeviceNumber::of_node(&mount.source));
            if let Some(device) = device {
                follow_device(roots, mounts, device, found, depth + 1);
            }
        }
    }
}

/// All devices of the btrfs that has this one.
fn btrfs_devices(roots: &Roots, one: Option<DeviceNumber>) -> Vec<DeviceNumber> {
    let Some(one) = one else {
        return Vec::new();
    };
    let mut all = vec![one];
    for system in list(&roots.sys.join("fs/btrfs")) {
        let devices: Vec<DeviceNumber> = list(&system.join("devices"))
            .iter()
            .filter_map(|device| number(device))
            .collect();
        if devices.contains(&one) {
            all.extend(devices);
        }
    }
    all
}

fn follow_device(
    roots: &Roots,
    mounts: &[Mount],
    device: DeviceNumber,
    found: &mut RootDisks,
    depth: usize,
) {
    if depth > DEEPEST {
        return;
    }
    let Ok(dir) = fs::canonicalize(roots.sys.join(format!("dev/block/{device}"))) else {
        return;
    };
    if dir.join("partition").exists() {
        if let Some(disk) = dir.parent().and_then(number) {
            follow_device(roots, mounts, disk, found, depth + 1);
        }
        return;
    }
    if let Ok(file) = fs::read_to_string(dir.join("loop/backing_file")) {
        found.disks.insert(device);
        if let Some(mount) = holding(mounts, Path::new(file.trim())) {
            follow_mount(roots, mounts, mount, found, depth + 1);
        }
        return;
    }
    let below = list(&dir.join("slaves"));
    if below.is_empty() {
        found.disks.insert(device);
    }
    for slave in below {
        if let Some(slave) = number(&slave) {
            follow_device(roots, mounts, slave, found, depth + 1);
        }
    }
}

/// The number of the device at this place of sysfs.
pub(super) fn number(dir: &Path) -> Option<DeviceNumber> {
    DeviceNumber::parse(&fs::read_to_string(dir.join("dev")).ok()?)
}

/// The entries of a directory in the order of their names; nothing if there is none.
pub(super) fn list(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Vec::new();
    };
    let mut paths: Vec<PathBuf> = entries.filter_map(|e| Some(e.ok()?.path())).collect();
    paths.sort();
    paths
}

#[cfg(test)]
mod tests {
    use super::super::mounts;
    use super::*;
    use std::os::unix::fs::symlink;

    /// A sysfs in which each device is a directory with a `dev` file.
    struct Sys(tempfile::TempDir);

    impl Sys {
        fn new() -> Sys {
            let dir = tempfile::tempdir().unwrap();
            fs::create_dir_all(dir.path().join("dev/block")).unwrap();
            Sys(dir)
        }

        fn device(&self, path: &str, number: &str) -> PathBuf {
            let dir = self.0.path().join("devices").join(path);
            fs::create_dir_all(&dir).unwrap();
            fs::write(dir.join("dev"), format!("{number}\n")).unwrap();
            symlink(&dir, self.0.path().join("dev/block").join(number)).unwrap();
            dir
        }

        fn roots(&self) -> Roots {
            Roots {
                sys: self.0.path().to_owned(),
                ..Roots::default()
            }
        }

        fn disks(&self, mountinfo: &str) -> Vec<String> {
            let found = find(&self.roots(), &mounts::parse(mountinfo));
            found.disks.iter().map(DeviceNumber::to_string).collect()
        }
    }

    #[test]
    fn a_partition_leads_to_its_disk() {
        let sys = Sys::new();
        sys.device("sda", "8:0");
        fs::write(sys.device("sda/sda2", "8:2").join("partition"), "2").unwrap();
        let mountinfo = "1 1 8:2 / / rw - ext4 /dev/sda2 rw\n";
        assert_eq!(sys.disks(mountinfo), ["8:0"]);
    }

    #[test]
    fn device_mapper_over_raid_leads_to_all_disks() {
        let sys = Sys::new();
        let sda = sys.device("sda", "8:0");
        let sdb = sys.device("sdb", "8:16");
        let md = sys.device("md0", "9:0");
        let dm = sys.device("dm-0", "253:0");
        for (upper, name, lower) in [(&md, "sda", &sda), (&md, "sdb", &sdb), (&dm, "md0", &md)] {
            fs::create_dir_all(upper.join("slaves")).unwrap();
            symlink(lower, upper.join("slaves").join(name)).unwrap();
        }
        let mountinfo = "1 1 253:0 / / rw - ext4 /dev/mapper/root rw\n";
        assert_eq!(sys.disks(mountinfo), ["8:0", "8:16"]);
    }

    #[test]
    fn an_overlay_leads_to_what_its_layers_are_on() {
        let sys = Sys::new();
        sys.device("sda", "8:0");
        sys.device("sdb", "8:16");
        let mountinfo = "1 1 0:30 / / rw - overlay overlay rw,lowerdir=/ro/a:/ro/b,upperdir=/rw/u\n\
                         2 1 8:0 / /ro ro - ext4 /dev/sda ro\n\
                         3 1 8:16 / /rw rw - ext4 /dev/sdb rw\n";
        assert_eq!(sys.disks(mountinfo), ["8:0", "8:16"]);
    }

    #[test]
    fn a_loop_device_leads_to_its_files_disk() {
        let sys = Sys::new();
        sys.device("sda", "8:0");
        let loop0 = sys.device("loop0", "7:0");
        fs::create_dir_all(loop0.join("loop")).unwrap();
        fs::write(loop0.join("loop/backing_file"), "/host/root.img\n").unwrap();
        let mountinfo =
            "1 1 7:0 / / rw - ext4 /dev/loop0 rw\n2 1 8:0 / /host rw - ext4 /dev/sda rw\n";
        assert_eq!(sys.disks(mountinfo), ["7:0", "8:0"]);
    }

    #[test]
    fn zfs_and_circles_end() {
        let sys = Sys::new();
        let found = find(
            &sys.roots(),
            &mounts::parse("1 1 0:30 / / rw - zfs rpool/ROOT rw\n"),
        );
        assert!(found.any_zfs);
        let a = sys.device("dm-0", "253:0");
        let b = sys.device("dm-1", "253:1");
        for (upper, lower) in [(&a, &b), (&b, &a)] {
            fs::create_dir_all(upper.join("slaves")).unwrap();
            symlink(lower, upper.join("slaves/x")).unwrap();
        }
        assert_eq!(
            sys.disks("1 1 253:0 / / rw - ext4 x rw\n"),
            Vec::<String>::new()
        );
    }
}
