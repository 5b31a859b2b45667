//! What is on the devices of an OSD that is to be made, looked at once more just before.
//!
//! # Guarantees
//! - The disk has the serial number and the size that it had when it was chosen, and is not in use.
//! - What a making of this program that was cut in two left is told from everything else: by the
//!   cluster's id on the disk, by the OSD's own id on what is beside it, or by what was remembered
//!   when it was begun.

use super::ceph::{CephHost, failed, guard};
use super::ceph_label::Label;
use super::disk_use::InUse;
use super::{DeviceNumber, ceph_label, disks, signatures};
use crate::services::host::types::{HostError, WipeDisk};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// The mark of an encrypted device.
const LUKS: &str = "luks volume";

/// What a disk was found to be.
pub(super) enum Checked {
    /// Nothing is on it.
    Blank(PathBuf),
    /// An OSD of the cluster is on it already.
    Made(Label),
    /// An OSD of the cluster was begun on it.
    Half(Label),
    /// It is encrypted, and an encrypted OSD was begun on it.
    Sealed,
}

/// Looks at the disk once more.
pub(super) fn check(
    host: &CephHost,
    disk: &WipeDisk,
    fsid: &str,
    sealed: bool,
) -> Result<Checked, HostError> {
    let cannot = |e: std::io::Error| failed(format!("cannot look at {}: {e}", disk.path));
    let path = Path::new(&disk.path);
    let device =
        DeviceNumber::of_node(path).ok_or_else(|| guard(format!("{} is not there", disk.path)))?;
    let found = disks::scan(&host.roots)
        .map_err(cannot)?
        .into_iter()
        .find(|f| f.device == device)
        .ok_or_else(|| guard(format!("{} is not a whole disk", disk.path)))?;
    let node = host.roots.dev.join(&found.report.name);
    let mut file = File::open(&node).map_err(cannot)?;
    let size = file.seek(SeekFrom::End(0)).map_err(cannot)?;
    if found.report.serial != disk.serial || size != disk.size {
        return Err(guard(format!(
            "{} has the serial number `{}` and {size} bytes, not `{}` and {}",
            disk.path, found.report.serial, disk.serial, disk.size
        )));
    }
    if found.report.read_only {
        return Err(guard(format!("{} cannot be written", disk.path)));
    }
    let in_use = InUse::read(&host.roots).map_err(cannot)?;
    if in_use.root.disks.contains(&device) {
        return Err(guard(format!("{} is the root disk", disk.path)));
    }
    let label = ceph_label::read(&node).map_err(cannot)?;
    if let Some(label) = &label
        && label.fsid == fsid
        && label.ready
        && label.id.is_some()
    {
        return Ok(Checked::Made(label.clone()));
    }
    let uses = disks::uses(&found, &in_use);
    let marks = signatures::read(&file, size).map_err(cannot)?;
    let opened = |reason: &String| reason.starts_with("held by dm-");
    if sealed && label.is_none() && marks == [LUKS] && uses.iter().all(opened) {
        return Ok(Checked::Sealed);
    }
    if !uses.is_empty() {
        return Err(guard(format!("{}: {}", disk.path, uses.join(", "))));
    }
    match label {
        Some(label)
            if label.fsid == fsid
                || (label.fsid.is_empty() && ["", "main"].contains(&&*label.description)) =>
        {
            Ok(Checked::Half(label))
        }
        _ if marks.is_empty() => Ok(Checked::Blank(node)),
        _ => Err(guard(format!("{} has: {}", disk.path, marks.join(", ")))),
    }
}

/// What tells that something beside a disk was left by a making of ours that was cut in two.
#[derive(Debug, Default)]
pub(super) struct Ours {
    /// The OSD that was begun.
    pub uuid: Option<String>,
    /// Whether this device was blank when it was begun.
    pub begun: bool,
    /// The OSDs of the cluster that ran: what is of them is never ours to give up.
    pub others: BTreeSet<String>,
    /// The key of its encryption.
    pub secret: Option<String>,
}

impl Ours {
    /// Whether a part of an OSD is the one that was begun.
    fn is(&self, label: &Label) -> bool {
        let named = self.uuid.as_ref() == Some(&label.uuid);
        named || (self.begun && !self.others.contains(&label.uuid))
    }
}

/// What a device beside a disk was found to be.
#[derive(Debug)]
pub(super) enum BesideIs {
    /// Nothing is on it.
    Blank,
    /// What a making that was cut in two left is on it.
    Begun(WipeDisk),
    /// It is encrypted; why it cannot be used if it is not the making's own key that opens it.
    Sealed(WipeDisk, HostError),
}

/// Looks at a device that is to be beside the disk: `ceph-volume` would write over most of what it
/// may hold.
pub(super) fn check_beside(
    host: &CephHost,
    path: &str,
    ours: &Ours,
) -> Result<BesideIs, HostError> {
    let cannot = |e: std::io::Error| failed(format!("cannot look at {path}: {e}"));
    let device = DeviceNumber::of_node(Path::new(path))
        .ok_or_else(|| guard(format!("{path} is not there")))?;
    let found = disks::scan(&host.roots)
        .map_err(cannot)?
        .into_iter()
        .find(|f| f.device == device)
        .ok_or_else(|| guard(format!("{path} is not a whole disk")))?;
    if found.report.read_only {
        return Err(guard(format!("{path} cannot be written")));
    }
    let in_use = InUse::read(&host.roots).map_err(cannot)?;
    if in_use.root.disks.contains(&device) {
        return Err(guard(format!("{path} is the root disk")));
    }
    let node = host.roots.dev.join(&found.report.name);
    let mut reasons = disks::uses(&found, &in_use);
    if !found.partitions.is_empty() {
        reasons.push("a partition".to_owned());
    }
    let unused = reasons.is_empty();
    let opened = reasons.iter().all(|r| r.starts_with("held by dm-"));
    let mut file = File::open(&node).map_err(cannot)?;
    let size = file.seek(SeekFrom::End(0)).map_err(cannot)?;
    let disk = WipeDisk {
        path: path.to_owned(),
        serial: found.report.serial.clone(),
        size,
    };
    let marks = signatures::read(&file, size).map_err(cannot)?;
    let sealed = opened && marks == [LUKS];
    reasons.extend(marks);
    if let Some(label) = ceph_label::read(&node).map_err(cannot)? {
        if unused && ours.is(&label) {
            return Ok(BesideIs::Begun(disk));
        }
        reasons.push("a part of an OSD".to_owned());
    }
    if reasons.is_empty() {
        return Ok(BesideIs::Blank);
    }
    let refused = guard(format!(
        "{path}, which is to be beside the disk, has: {}; a device for the log or the database must \
         be blank: `wipefs --all` it if nothing of that is needed",
        reasons.join(", ")
    ));
    if sealed {
        return Ok(BesideIs::Sealed(disk, refused));
    }
    Err(refused)
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::loop_fixture::{LoopDisk, root_or_skip, with_links};
    use super::*;
    use std::os::unix::fs::FileExt;
    use std::sync::Arc;

    pub(in super::super) const UUID: &str = "7d108b06-01c8-423b-9b60-9b0af27761f3";

    pub(in super::super) fn write_on(disk: &LoopDisk, bytes: &[u8]) {
        let node = File::options().write(true).open(disk.node());
        let node = node.expect("it can be opened");
        node.write_all_at(bytes, 0).expect("written");
        node.sync_all().expect("written");
    }

    pub(in super::super) fn host_with(disk: &LoopDisk) -> (tempfile::TempDir, CephHost, WipeDisk) {
        let (dir, roots) = with_links(&[("d", disk)]);
        let path = dir.path().join("by-id/d");
        let size = 64 << 20;
        let host = CephHost {
            lib: dir.path().join("lib"),
            ..CephHost::new(Arc::default(), roots)
        };
        let disk = WipeDisk {
            path: path.display().to_string(),
            serial: "d".into(),
            size,
        };
        (dir, host, disk)
    }

    #[test]
    fn a_device_beside_the_disk_must_be_blank() {
        if !root_or_skip() {
            return;
        }
        let label = b"bluestore block device\n00000000-0000-0000-0000-000000000000\n";
        let wrong: [(&[&str], &[u8], &str); 2] = [
            (&["mkfs.ext4", "-qF"], b"", "ext4 filesystem"),
            (&["true"], label, "a part of an OSD"),
        ];
        for (command, first, expected) in wrong {
            let disk = LoopDisk::new(64);
            let (_dir, host, _) = host_with(&disk);
            let path = disk.node().to_str().expect("UTF-8").to_owned();
            let blank = check_beside(&host, &path, &Ours::default());
            assert!(matches!(blank, Ok(BesideIs::Blank)), "{blank:?}");
            disk.run(command);
            if !first.is_empty() {
                write_on(&disk, first);
            }
            let refused = check_beside(&host, &path, &Ours::default());
            let told = refused.expect_err("it holds something").to_string();
            assert!(
                told.contains(expected) && told.contains("must be blank"),
                "{told}"
            );
        }
    }

    #[test]
    fn a_disk_is_looked_at_once_more_and_known_by_what_is_on_it() {
        if !root_or_skip() {
            return;
        }
        let disk = LoopDisk::new(64);
        let (_dir, host, meant) = host_with(&disk);
        let look = |sealed: bool| check(&host, &meant, "ours", sealed);
        assert!(matches!(look(false), Ok(Checked::Blank(_))));
        let label = |map: &[(&str, &str)]| ceph_label::tests::label_of(UUID, "main", map);
        for (map, made) in [
            (&[][..], false),
            (&[("ceph_fsid", "ours"), ("whoami", "3")][..], false),
            (
                &[("ceph_fsid", "ours"), ("ready", "ready"), ("whoami", "3")][..],
                true,
            ),
        ] {
            write_on(&disk, &label(map));
            match look(false) {
                Ok(Checked::Made(label)) => assert!(made, "{label:?}"),
                Ok(Checked::Half(label)) => assert!(!made && label.uuid == UUID, "{label:?}"),
                other => panic!("{map:?}: {:?}", other.err()),
            }
        }
        write_on(&disk, &label(&[("ceph_fsid", "theirs"), ("whoami", "3")]));
        assert!(look(false).is_err(), "it is of another cluster");
        let mut other = meant.clone();
        other.serial = "e".into();
        assert!(check(&host, &other, "ours", false).is_err(), "another disk");
        // An encrypted disk is only known as ours where one was begun.
        disk.run(&["wipefs", "--all", "--force"]);
        write_on(&disk, &[0; 4096]);
        write_on(&disk, b"LUKS\xba\xbe\x00\x02");
        let refused = look(false).err().map(|e| e.to_string());
        assert!(refused.is_some_and(|r| r.contains(LUKS)));
        assert!(matches!(look(true), Ok(Checked::Sealed)));
    }
}
