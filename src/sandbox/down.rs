//! Ending hosts and sandboxes: by what can be seen of them, not by what was written down.

use super::layout::Layout;
use super::state::{self, Host, Lock};
use super::{Error, Report, base, cgroups, loops, network, process, requirements};
use std::fs;
use std::path::Path;
use std::process::Command;

/// Ends a sandbox and removes all it owns.
pub(super) fn down(layout: &Layout, report: Report<'_>) -> Result<(), Error> {
    requirements::root()?;
    let home = layout.home();
    let lock = Lock::sandbox(layout)?;
    if home.exists() || layout.netns().exists() {
        report(&format!("ending sandbox {:?}", layout.name()));
    }
    process::kill_marked(&home)?;
    network::remove(layout)?;
    loops::detach_below(layout, &home)?;
    unmount_below(&home)?;
    cgroups::remove(layout)?;
    // A command that was killed between making a process and executing it: too early to be seen
    // by the first look.
    process::kill_marked(&home)?;
    remove_tree(&home)?;
    drop(lock);
    base::remove_unfinished_if_idle(layout.dir())?;
    // These go with the last sandbox; the bases stay.
    for empty in [layout.dir().sandboxes(), layout.dir().locks()] {
        let _ = fs::remove_dir(empty);
    }
    Ok(())
}

/// Power loss of one host, by name.
pub(super) fn kill_host(layout: &Layout, name: &str) -> Result<(), Error> {
    requirements::root()?;
    let (mut stored, host) = state::require_host(layout, name)?;
    end_host(layout, name, &host)?;
    if let Some(host) = stored.hosts.get_mut(name) {
        host.supervisor = None;
    }
    state::write(layout, &stored)
}

/// Ends all that runs of a host and removes what it held on this machine, its data apart.
pub(super) fn end_host(layout: &Layout, name: &str, host: &Host) -> Result<(), Error> {
    process::kill_marked(&layout.host(name))?;
    network::unplug(layout, host)?;
    // Loop devices that services in the host made of files of their own, as LXD does for pools.
    loops::detach_below(layout, &layout.host(name))?;
    cgroups::remove_host(layout, name)
}

/// Unmounts what is mounted below a directory. The hosts mount in namespaces of their own, so
/// this finds only what somebody else put there.
fn unmount_below(dir: &Path) -> Result<(), Error> {
    let mountinfo = fs::read_to_string("/proc/self/mountinfo")
        .map_err(|e| Error::io("read", "/proc/self/mountinfo", e))?;
    // Later mounts lie on earlier ones.
    for mount in mounts_below(&mountinfo, dir).iter().rev() {
        super::command::run(
            Command::new("umount").arg(mount),
            None,
            super::command::SHORT,
        )?;
    }
    Ok(())
}

fn mounts_below<'a>(mountinfo: &'a str, dir: &Path) -> Vec<&'a str> {
    mountinfo
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .filter(|mount| Path::new(mount).starts_with(dir))
        .collect()
}

fn remove_tree(dir: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(dir) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(Error::io("remove", dir, e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_mounts_below_the_directory() {
        let mountinfo = "1 0 0:1 / / rw - ext4 a rw\n2 1 0:2 / /a/b rw - tmpfs t rw\n\
                         3 2 0:3 / /a/b/c rw - tmpfs t rw\n4 1 0:4 / /a/bc rw - tmpfs t rw\n";
        assert_eq!(
            mounts_below(mountinfo, Path::new("/a/b")),
            ["/a/b", "/a/b/c"]
        );
    }
}
