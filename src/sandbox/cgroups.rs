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

/// Where groups are: the version 2 tree and systemd's version 1 tree, the one to use first. On
/// a machine with both, `systemd-nspawn` makes the same group in the other one as well.
fn trees() -> Vec<PathBuf> {
    trees_in(&fs::read_to_string("/proc/self/mountinfo").unwrap_or_default())
}

fn trees_in(mountinfo: &str) -> Vec<PathBuf> {
    let (mut unified, mut named) = (Vec::new(), Vec::new());
    for line in mountinfo.lines() {
        let Some((mount, source)) = line.split_once(" - ") else {
            continue;
        };
        let source: Vec<&str> = source.split(' ').collect();
        let (Some(place), &[kind, _, options]) = (mount.split(' ').nth(4), source.as_slice())
        else {
            continue;
        };
        match kind {
            "cgroup2" => unified.push(PathBuf::from(place)),
            "cgroup" if options.split(',').any(|o| o == "name=systemd") => {
                named.push(PathBuf::from(place))
            }
            _ => {}
        }
    }
    unified.append(&mut named);
    unified
}

fn of_sandbox(layout: &Layout) -> impl Iterator<Item = PathBuf> {
    let name = layout.unique();
    trees()
        .into_iter()
        .map(move |tree| tree.join(OURS).join(&name))
}

/// Makes the group of a host; `None` when systemd will make a scope.
pub(super) fn make(layout: &Layout, host: &str) -> Result<Option<PathBuf>, Error> {
    if systemd_runs() {
        return Ok(None);
    }
    remove_host(layout, host)?;
    let Some(group) = of_sandbox(layout).next().map(|g| g.join(host)) else {
        return Ok(None);
    };
    fs::create_dir_all(&group).map_err(|e| Error::io("make", &group, e))?;
    Ok(Some(group))
}

/// Removes the group of a host that ended.
pub(super) fn remove_host(layout: &Layout, host: &str) -> Result<(), Error> {
    of_sandbox(layout).try_for_each(|group| remove_tree(&group.join(host)))
}

/// Removes all groups of a sandbox that ended.
pub(super) fn remove(layout: &Layout) -> Result<(), Error> {
    for group in of_sandbox(layout) {
        remove_tree(&group)?;
        // The common parent goes with the last sandbox.
        if let Some(parent) = group.parent() {
            let _ = fs::remove_dir(parent);
        }
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
        let trees = |text| {
            trees_in(text)
                .iter()
                .map(|p| p.display().to_string())
                .collect::<Vec<_>>()
        };
        assert_eq!(trees(v2), ["/sys/fs/cgroup"]);
        assert_eq!(
            trees(mixed),
            ["/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd"]
        );
        assert_eq!(trees(v1), ["/sys/fs/cgroup/systemd"]);
        assert!(trees("").is_empty());
    }
}
