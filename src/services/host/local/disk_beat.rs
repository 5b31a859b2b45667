//! Whether a disk came or went, for the heartbeat: names that the kernel and udev show, and nothing
//! is read of any disk.

use super::Roots;
use super::disks::is_no_disk;
use std::collections::hash_map::DefaultHasher;
use std::ffi::OsString;
use std::fs;
use std::hash::{Hash, Hasher};
use std::path::Path;

/// A number that changes when a disk comes or goes, or gets another stable name. It means nothing
/// else, and is 0 where the kernel shows no disks.
pub(super) fn now(roots: &Roots) -> u64 {
    let mut disks = names(&roots.sys.join("block"), |name| {
        // Of loop devices only those count that a stable name leads to, and that is seen below.
        !name.starts_with("loop") && !is_no_disk(name)
    });
    // What is made above disks has names of its own, and comes and goes with every volume.
    let above = ["dm-", "md-", "lvm-"];
    for kind in ["by-id", "by-path"] {
        disks.extend(names(&roots.links.join(kind), |name| {
            !above.iter().any(|prefix| name.starts_with(prefix))
        }));
    }
    if disks.is_empty() {
        return 0;
    }
    disks.sort();
    let mut hasher = DefaultHasher::new();
    disks.hash(&mut hasher);
    hasher.finish()
}

fn names(dir: &Path, counts: impl Fn(&str) -> bool) -> Vec<OsString> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.file_name())
        .filter(|name| name.to_str().is_none_or(&counts))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_changes_with_disks_and_not_with_what_is_made_above_them() {
        let dir = tempfile::tempdir().expect("a directory");
        let roots = Roots {
            sys: dir.path().join("sys"),
            links: dir.path().join("links"),
            ..Roots::default()
        };
        assert_eq!(now(&roots), 0);
        let sys = |name: &str| {
            fs::create_dir_all(roots.sys.join("block").join(name)).expect("a device");
        };
        let link = |name: &str| {
            fs::create_dir_all(roots.links.join("by-id")).expect("a directory");
            std::os::unix::fs::symlink("/dev/null", roots.links.join("by-id").join(name))
                .expect("a link");
        };
        sys("sda");
        let one = now(&roots);
        assert_ne!(one, 0);
        for above in ["dm-0", "loop3", "nbd0", "zram0"] {
            sys(above);
        }
        link("dm-name-vg-root");
        assert_eq!(now(&roots), one);

        sys("sdb");
        let two = now(&roots);
        assert_ne!(two, one);
        // A sandbox's disk is a loop device with a stable name.
        link("scsi-local1");
        let three = now(&roots);
        assert!(three != two && three != one);
        fs::remove_dir(roots.sys.join("block/sdb")).expect("it goes");
        assert_ne!(now(&roots), three);
    }
}
