//! Disks for tests: loop devices over files of their own, taken down also when a test fails.

use super::{DeviceNumber, Roots, disks};
use crate::services::host::types::DiskReport;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

/// Whether this test may make loop devices; says so when not.
pub(super) fn root_or_skip() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        println!("skipped: only root can make loop devices");
    }
    root
}

/// A loop device.
pub(super) struct LoopDisk {
    node: PathBuf,
    file: tempfile::NamedTempFile,
}

impl LoopDisk {
    /// A blank one of so many MiB.
    pub fn new(mib: u64) -> LoopDisk {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(mib << 20).unwrap();
        LoopDisk::over(file, &[])
    }

    /// One that cannot be written, over a copy of this one's file. (Not by `blockdev --setro`,
    /// which the next user of the loop device would find still set.)
    pub fn read_only_copy(&self) -> LoopDisk {
        let file = tempfile::NamedTempFile::new().unwrap();
        self.run(&["blockdev", "--flushbufs"]);
        std::fs::copy(self.file.path(), file.path()).unwrap();
        LoopDisk::over(file, &["--read-only"])
    }

    fn over(file: tempfile::NamedTempFile, options: &[&str]) -> LoopDisk {
        let output = Command::new("losetup")
            .args(["--find", "--show"])
            .args(options)
            .arg(file.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let node = String::from_utf8(output.stdout).unwrap().trim().into();
        LoopDisk { node, file }
    }

    pub fn node(&self) -> &Path {
        &self.node
    }

    /// The file behind it.
    pub fn file(&self) -> &std::fs::File {
        self.file.as_file()
    }

    /// Runs a command with the device as its last argument.
    pub fn run(&self, command: &[&str]) {
        let output = Command::new(command[0])
            .args(&command[1..])
            .arg(&self.node)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
    }

    /// Mounts it somewhere.
    pub fn mount(&self) -> Mounted {
        let dir = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .arg(&self.node)
            .arg(dir.path())
            .status()
            .unwrap();
        assert!(mounted.success());
        Mounted(dir)
    }

    /// What the scan says of it.
    pub async fn report(&self, roots: &Roots) -> DiskReport {
        let device = DeviceNumber::of_node(&self.node).unwrap();
        let all = disks::report(roots, &Arc::default()).await.unwrap();
        let name = self.node.file_name().unwrap().to_str().unwrap();
        let found = all.into_iter().find(|d| d.name == name);
        found.unwrap_or_else(|| panic!("{device} is not among the disks"))
    }
}

impl Drop for LoopDisk {
    fn drop(&mut self) {
        let _ = Command::new("losetup").arg("-d").arg(&self.node).status();
    }
}

/// A mount that ends with the value.
pub(super) struct Mounted(tempfile::TempDir);

impl Mounted {
    pub fn point(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

/// This machine, with a `/dev/disk` of its own whose `by-id` has these names.
pub(super) fn with_links(links: &[(&str, &LoopDisk)]) -> (tempfile::TempDir, Roots) {
    let dir = tempfile::tempdir().unwrap();
    let by_id = dir.path().join("by-id");
    std::fs::create_dir(&by_id).unwrap();
    for (name, disk) in links {
        symlink(disk.node(), by_id.join(name)).unwrap();
    }
    let roots = Roots {
        links: dir.path().to_owned(),
        ..Roots::default()
    };
    (dir, roots)
}
