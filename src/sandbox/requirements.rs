//! What a machine needs for a sandbox, looked at before anything is made.

use super::{Error, StateDir};
use std::fs;
use std::path::Path;

/// What one host may write before anybody uses it, in MiB.
const HOST_MIB: u64 = 256;

/// What making a base takes while it is made, in MiB.
const BASE_MIB: u64 = 2500;

/// How many inotify instances the services of one host take, rounded up.
const WATCHES: usize = 12;

/// Programs and the Debian packages that have them.
const TOOLS: [(&str, &str); 8] = [
    ("systemd-nspawn", "systemd-container"),
    ("mmdebstrap", "mmdebstrap"),
    ("ip", "iproute2"),
    ("nsenter", "util-linux"),
    ("unshare", "util-linux"),
    ("setpriv", "util-linux"),
    ("losetup", "mount"),
    ("mount", "mount"),
];

/// Refuses to go on when this is not root.
pub(super) fn root() -> Result<(), Error> {
    if rustix::process::geteuid().is_root() {
        Ok(())
    } else {
        Err(Error::NotRoot)
    }
}

/// Refuses to go on when a program is missing; `base` tells whether one must be made.
pub(super) fn tools(base: bool) -> Result<(), Error> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    missing(base, |tool| {
        std::env::split_paths(&path)
            .chain(["/usr/sbin".into(), "/sbin".into()])
            .any(|dir| dir.join(tool).is_file())
    })
}

fn missing(base: bool, has: impl Fn(&str) -> bool) -> Result<(), Error> {
    let gone: Vec<_> = TOOLS
        .iter()
        .filter(|(tool, _)| (base || *tool != "mmdebstrap") && !has(tool))
        .collect();
    if gone.is_empty() {
        return Ok(());
    }
    let mut packages: Vec<&str> = gone.iter().map(|(_, package)| *package).collect();
    packages.dedup();
    Err(Error::Missing {
        tools: gone.iter().map(|(tool, _)| (*tool).to_owned()).collect(),
        packages: packages.join(" "),
    })
}

/// Refuses to go on when the base (if one must be made) and `hosts` new hosts would not fit.
pub(super) fn space(dir: &StateDir, base: bool, hosts: usize) -> Result<(), Error> {
    let stat = rustix::fs::statvfs(dir.path()).map_err(|e| Error::io("look at", dir.path(), e))?;
    let free_mib = stat.f_bavail.saturating_mul(stat.f_frsize) / (1024 * 1024);
    let hosts = u64::try_from(hosts).unwrap_or(u64::MAX);
    let needed_mib = hosts
        .saturating_mul(HOST_MIB)
        .saturating_add(if base { BASE_MIB } else { 0 });
    if free_mib >= needed_mib {
        return Ok(());
    }
    Err(Error::Space {
        path: dir.path().to_owned(),
        free_mib,
        needed_mib,
    })
}

/// A line of advice when so many hosts will need more file watchers than this machine gives root:
/// beyond the limit services in the hosts fail to start with "too many open files".
pub(super) fn watches(hosts: usize) -> Option<String> {
    let limit = fs::read_to_string("/proc/sys/fs/inotify/max_user_instances").ok()?;
    too_few_watches(hosts, limit.trim().parse().ok()?)
}

fn too_few_watches(hosts: usize, limit: usize) -> Option<String> {
    let needed = hosts.saturating_mul(WATCHES).saturating_add(WATCHES);
    (needed > limit).then(|| {
        format!(
            "{hosts} hosts may need more inotify instances than {limit}: \
             sysctl -w fs.inotify.max_user_instances={}",
            needed.next_power_of_two()
        )
    })
}

/// What this machine's kernel lacks and what therefore cannot be tried here: one line, or none.
pub(super) fn left_out() -> Option<String> {
    let misc = fs::read_to_string("/proc/misc").unwrap_or_default();
    let filesystems = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let left_out = kernel_lacks(&misc, &filesystems, module);
    (!left_out.is_empty()).then(|| format!("this machine's kernel lacks: {}", left_out.join(", ")))
}

/// Whether the kernel forwards for Open vSwitch.
pub(super) fn kernel_forwards() -> bool {
    module("openvswitch")
}

fn module(name: &str) -> bool {
    Path::new("/sys/module").join(name).exists() || loadable(name)
}

fn kernel_lacks(misc: &str, filesystems: &str, module: impl Fn(&str) -> bool) -> Vec<&'static str> {
    let filesystem = |name: &str| {
        filesystems
            .lines()
            .any(|l| l.split('\t').next_back() == Some(name))
    };
    let mut gone = Vec::new();
    if !misc.contains("device-mapper") && !module("dm_mod") {
        gone.push("device mapper (no lvm pools, no encrypted disks)");
    }
    if !filesystem("zfs") && !module("zfs") {
        gone.push("zfs (no zfs pools)");
    }
    if !filesystem("btrfs") && !module("btrfs") {
        gone.push("btrfs (no btrfs pools)");
    }
    if !module("openvswitch") {
        gone.push("openvswitch (its userspace datapath is used)");
    }
    if !module("rbd") {
        gone.push("rbd (no instances on ceph pools)");
    }
    if !filesystem("ceph") && !module("ceph") {
        gone.push("ceph (cephfs pools cannot be mounted)");
    }
    gone
}

/// Whether the running kernel has this module on disk.
fn loadable(module: &str) -> bool {
    let Ok(release) = fs::read_to_string("/proc/sys/kernel/osrelease") else {
        return false;
    };
    let list = Path::new("/lib/modules")
        .join(release.trim())
        .join("modules.dep");
    let Ok(list) = fs::read_to_string(list) else {
        return false;
    };
    let wanted = module.replace('_', "-");
    list.lines()
        .filter_map(|line| line.split(':').next())
        .any(|path| {
            let file = path.rsplit('/').next().unwrap_or_default();
            file.split_once(".ko")
                .is_some_and(|(name, _)| name.replace('_', "-") == wanted)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_programs_name_their_packages() {
        let said = missing(true, |tool| {
            tool != "systemd-nspawn" && tool != "mmdebstrap"
        })
        .err()
        .map(|e| e.to_string());
        assert_eq!(
            said.as_deref(),
            Some(
                "not installed: systemd-nspawn, mmdebstrap; on Debian: apt-get install systemd-container mmdebstrap"
            )
        );
        assert!(missing(false, |tool| tool != "mmdebstrap").is_ok());
        let said = missing(false, |tool| tool == "ip")
            .err()
            .map(|e| e.to_string())
            .unwrap_or_default();
        assert!(
            said.ends_with("apt-get install systemd-container util-linux mount"),
            "{said}"
        );
    }

    #[test]
    fn a_small_disk_is_refused() -> Result<(), Box<dyn std::error::Error>> {
        let dir = tempfile::tempdir()?;
        let dir = StateDir::new(dir.path());
        assert!(space(&dir, false, 0).is_ok());
        assert!(matches!(
            space(&dir, true, usize::MAX),
            Err(Error::Space { .. })
        ));
        Ok(())
    }

    #[test]
    fn many_hosts_are_told_of_the_limit() {
        assert_eq!(too_few_watches(9, 128), None);
        let line = too_few_watches(20, 128).unwrap_or_default();
        assert!(
            line.ends_with("sysctl -w fs.inotify.max_user_instances=256"),
            "{line}"
        );
    }

    #[test]
    fn kernels_with_and_without() {
        assert!(kernel_lacks("236 device-mapper\n", "nodev\tzfs\n\tbtrfs\n", |_| true).is_empty());
        assert_eq!(kernel_lacks("", "\tbtrfs\n", |_| false).len(), 5);
    }
}
