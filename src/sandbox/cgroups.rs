//! A control group of its own for every host.
//!
//! `systemd-nspawn --keep-unit` puts what it holds into `payload` below the group it runs in, so
//! two hosts in one group would end each other's services. Where systemd runs the machine, it
//! gives every host a scope instead and nothing is made here.

use super::Error;
use super::layout::Layout;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// The group all our groups are below.
const OURS: &str = "microcloud-sandbox";

/// Whether systemd runs this machine and can be asked for scopes.
pub(super) fn systemd_runs() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

/// Where groups are made: the version 2 tree, else systemd's version 1 tree.
fn tree() -> Option<PathBuf> {
    tree_in(&fs::read_to_string("/proc/self/mountinfo").ok()?)
}

fn tree_in(mountinfo: &str) -> Option<PathBuf> {
    let find = |wanted: &dyn Fn(&str, &str) -> bool| {
        mountinfo.lines().find_map(|line| {
            let (mount, source) = line.split_once(" - ")?;
            let mut source = source.split(' ');
            let (kind, options) = (source.next()?, source.nth(1)?);
            wanted(kind, options)
                .then(|| mount.split(' ').nth(4).map(PathBuf::from))
                .flatten()
        })
    };
    find(&|kind, _| kind == "cgroup2").or_else(|| {
        find(&|kind, options| kind == "cgroup" && options.split(',').any(|o| o == "name=systemd"))
    })
}

fn of_sandbox(layout: &Layout) -> Option<PathBuf> {
    Some(tree()?.join(OURS).join(layout.unique()))
}

/// Makes the group of a host; `None` when systemd will make a scope.
pub(super) fn make(layout: &Layout, host: &str) -> Result<Option<PathBuf>, Error> {
    if systemd_runs() {
        return Ok(None);
    }
    let Some(group) = of_sandbox(layout).map(|g| g.join(host)) else {
        return Ok(None);
    };
    remove_tree(&group)?;
    fs::create_dir_all(&group).map_err(|e| Error::io("make", &group, e))?;
    Ok(Some(group))
}

/// Removes the group of a host that ended.
pub(super) fn remove_host(layout: &Layout, host: &str) -> Result<(), Error> {
    of_sandbox(layout).map_or(Ok(()), |group| remove_tree(&group.join(host)))
}

/// Removes all groups of a sandbox that ended.
pub(super) fn remove(layout: &Layout) -> Result<(), Error> {
    let Some(group) = of_sandbox(layout) else {
        return Ok(());
    };
    remove_tree(&group)?;
    // The common parent goes with the last sandbox.
    if let Some(parent) = group.parent() {
        let _ = fs::remove_dir(parent);
    }
    Ok(())
}

/// Removes groups from the leaves up; a process that is just ending keeps its group for a moment.
fn remove_tree(group: &Path) -> Result<(), Error> {
    let begun = Instant::now();
    loop {
        let tried = remove_once(group);
        match tried {
            Ok(()) => return Ok(()),
            Err(_) if !group.exists() => return Ok(()),
            Err(e) if begun.elapsed() > Duration::from_secs(10) => {
                return Err(Error::io("remove", group, e));
            }
            Err(_) => thread::sleep(Duration::from_millis(20)),
        }
    }
}

fn remove_once(group: &Path) -> std::io::Result<()> {
    if !group.exists() {
        return Ok(());
    }
    for entry in fs::read_dir(group)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_once(&entry.path())?;
        }
    }
    fs::remove_dir(group)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_of_each_kind_of_machine() {
        let v2 = "41 31 0:38 / /sys/fs/cgroup rw,relatime shared:9 - cgroup2 cgroup2 rw\n";
        let mixed = "40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n\
                     41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let v1 = "39 31 0:36 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n\
                  40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n";
        assert_eq!(tree_in(v2), Some("/sys/fs/cgroup".into()));
        assert_eq!(tree_in(mixed), Some("/sys/fs/cgroup/unified".into()));
        assert_eq!(tree_in(v1), Some("/sys/fs/cgroup/systemd".into()));
        assert_eq!(tree_in(""), None);
    }
}
