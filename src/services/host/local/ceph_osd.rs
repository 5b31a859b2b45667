//! OSDs of this machine: made of blank disks, started, stopped.
//!
//! A disk is looked at once more just before: the same serial number and size, not in use, and
//! nothing on it. Encryption goes through `ceph-volume` as well, which keeps the key in the
//! cluster; it needs device mapper.

use super::ceph::{
    CephHost, Readable, STARTING, ceph_failed, failed, guard, osd_unit, own, run, run_with,
    start_unit, write,
};
use super::ceph_form::Told;
use super::disk_use::InUse;
use super::{DeviceNumber, ceph_label, disks, signatures, wipefs};
use crate::services::ceph::Command;
use crate::services::host::types::{HostError, WipeDisk};
use base64::Engine;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The file in an OSD's directory that names its disk.
pub(super) const DEVICE: &str = "microcloud-device";

/// How long making an OSD may take.
const MAKING: Duration = Duration::from_secs(90);

/// What makes the disk readable to Ceph's own user at every start of an OSD, also after a boot and
/// under another name of the kernel: the links below the OSD's directory are stable paths.
const DROP_IN: &str = "# Written by microcloud.
[Service]
ExecStartPre=+/bin/sh -c 'for f in block block.db block.wal; do f=/var/lib/ceph/osd/ceph-%i/$f; [ ! -e $f ] || chown ceph:ceph $f; done'
";

/// Devices beside the disk.
#[derive(Debug, Clone, Default)]
pub(super) struct Beside {
    /// For the write-ahead log.
    pub wal: Option<String>,
    /// For the database.
    pub db: Option<String>,
}

/// Makes an OSD of a disk.
pub(super) async fn create(
    host: &CephHost,
    fsid: &str,
    disk: &WipeDisk,
    encrypt: bool,
    beside: &Beside,
) -> Told {
    host.is_of(fsid)?;
    if encrypt && !Path::new("/dev/mapper/control").exists() {
        return Err(failed(
            "this machine's kernel has no device mapper: nothing can be encrypted on it",
        ));
    }
    for device in [&beside.wal, &beside.db].into_iter().flatten() {
        let (host, device) = (host.clone(), device.clone());
        tokio::task::spawn_blocking(move || check_beside(&host, &device))
            .await
            .map_err(|e| failed(format!("broken off: {e}")))??;
    }
    let checked = {
        let (host, disk, fsid) = (host.clone(), disk.clone(), fsid.to_owned());
        tokio::task::spawn_blocking(move || check(&host, &disk, &fsid))
            .await
            .map_err(|e| failed(format!("broken off: {e}")))??
    };
    match checked {
        Checked::Made(id) => {
            begin(host, id, &disk.path).await?;
            return Ok(None);
        }
        Checked::Half(id) => {
            // Only one that never ran can be struck off this way.
            if let Some(id) = id {
                let purge = Command::new("osd purge-new")
                    .with("id", id)
                    .with("yes_i_really_mean_it", true);
                host.ceph.run(&purge).await.map_err(ceph_failed)?;
            }
        }
        Checked::Blank(node) => {
            let left = wipefs::read(&node).await.map_err(failed)?;
            if !left.is_empty() {
                return Err(guard(format!("{} has: {}", disk.path, left.join(", "))));
            }
        }
    }
    let bootstrap = host
        .ceph
        .keyring(
            "client.bootstrap-osd",
            &[("mon", "profile bootstrap-osd"), ("mgr", "allow r")],
        )
        .await
        .map_err(ceph_failed)?;
    let keyring = host.lib.join("bootstrap-osd/ceph.keyring");
    write(&keyring, &bootstrap, Readable::Ceph)?;
    let mut words = vec![
        "raw",
        "prepare",
        "--bluestore",
        "--no-tmpfs",
        "--data",
        &disk.path,
    ];
    for (flag, device) in [("--block.wal", &beside.wal), ("--block.db", &beside.db)] {
        if let Some(device) = device {
            words.extend([flag, device]);
        }
    }
    let secret;
    let mut environment = Vec::new();
    if encrypt {
        words.push("--dmcrypt");
        secret = random()?;
        environment.push(("CEPH_VOLUME_DMCRYPT_SECRET", secret.as_str()));
    }
    run_with("ceph-volume", &words, &environment, None, MAKING).await?;
    let id = if encrypt {
        newest(host)?
    } else {
        let label = ceph_label::read(disk.path.as_ref())
            .map_err(|e| failed(format!("cannot read {} again: {e}", disk.path)))?;
        label
            .and_then(|l| l.id)
            .ok_or_else(|| failed(format!("ceph-volume left no OSD on {}", disk.path)))?
    };
    begin(host, id, &disk.path).await?;
    Ok(None)
}

/// What a disk was found to be.
enum Checked {
    /// Nothing is on it.
    Blank(PathBuf),
    /// An OSD of the cluster is on it already.
    Made(i64),
    /// An OSD of the cluster was begun on it; its mark is gone now.
    Half(Option<i64>),
}

/// Looks at the disk once more.
fn check(host: &CephHost, disk: &WipeDisk, fsid: &str) -> Result<Checked, HostError> {
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
    let mut file = File::options()
        .read(true)
        .write(true)
        .open(&node)
        .map_err(cannot)?;
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
        && let (Some(id), true) = (label.id, label.ready)
    {
        return Ok(Checked::Made(id));
    }
    let uses = disks::uses(&found, &in_use);
    if !uses.is_empty() {
        return Err(guard(format!("{}: {}", disk.path, uses.join(", "))));
    }
    match label {
        Some(label)
            if label.fsid == fsid
                || (label.fsid.is_empty() && ["", "main"].contains(&&*label.description)) =>
        {
            file.write_all_at(&[0; 4096], 0)
                .and_then(|()| file.sync_all())
                .map_err(cannot)?;
            Ok(Checked::Half(label.id))
        }
        _ => {
            let marks = signatures::read(&file, size).map_err(cannot)?;
            if marks.is_empty() {
                Ok(Checked::Blank(node))
            } else {
                Err(guard(format!("{} has: {}", disk.path, marks.join(", "))))
            }
        }
    }
}

/// Looks at a device that is to be beside the disk: `ceph-volume` would write over most of what it
/// may hold.
fn check_beside(host: &CephHost, path: &str) -> Result<(), HostError> {
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
    let mut file = File::open(&node).map_err(cannot)?;
    let size = file.seek(SeekFrom::End(0)).map_err(cannot)?;
    reasons.extend(
        signatures::read(&file, size)
            .map_err(cannot)?
            .into_iter()
            .map(|mark| mark.to_string()),
    );
    if ceph_label::read(&node).map_err(cannot)?.is_some() {
        reasons.push("a part of an OSD".to_owned());
    }
    if reasons.is_empty() {
        return Ok(());
    }
    Err(guard(format!(
        "{path}, which is to be beside the disk, has: {}; a device for the log or the database must \
         be blank: `wipefs --all` it if nothing of that is needed",
        reasons.join(", ")
    )))
}

/// Sets an OSD that is on a disk up for good, and starts it.
async fn begin(host: &CephHost, id: i64, path: &str) -> Result<(), HostError> {
    let dir = host.osd_dir(id);
    if !dir.join("keyring").exists() || !dir.join("ready").exists() {
        let words = [
            "raw",
            "activate",
            "--no-systemd",
            "--no-tmpfs",
            "--device",
            path,
        ];
        run("ceph-volume", &words, None, MAKING).await?;
    }
    relink(&dir.join("block"), path)
        .map_err(|e| failed(format!("cannot link the disk of osd.{id}: {e}")))?;
    write(&dir.join(DEVICE), &format!("{path}\n"), Readable::Ceph)?;
    let drop_in = Path::new("/etc/systemd/system/ceph-osd@.service.d/microcloud.conf");
    if fs::read_to_string(drop_in).ok().as_deref() != Some(DROP_IN) {
        write(drop_in, DROP_IN, Readable::All)?;
        run("systemctl", &["daemon-reload"], None, STARTING).await?;
    }
    start_unit(&osd_unit(id)).await
}

/// Has a link to a disk name the stable path; one through device mapper stays as it is.
fn relink(link: &Path, path: &str) -> std::io::Result<()> {
    let now = fs::read_link(link)?;
    if now == Path::new(path) || now.starts_with("/dev/mapper") {
        return Ok(());
    }
    let new = link.with_file_name(".block.new");
    let _ = fs::remove_file(&new);
    std::os::unix::fs::symlink(path, &new)?;
    own_link(&new)?;
    fs::rename(&new, link)
}

fn own_link(link: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::{MetadataExt, lchown};
    let owner = fs::metadata("/var/lib/ceph")?;
    lchown(link, Some(owner.uid()), Some(owner.gid()))
}

/// The OSD whose directory was made last.
fn newest(host: &CephHost) -> Result<i64, HostError> {
    let dirs = fs::read_dir(host.lib.join("osd"))
        .map_err(|e| failed(format!("cannot look for the new OSD: {e}")))?;
    dirs.flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let id = name.strip_prefix("ceph-")?.parse::<i64>().ok()?;
            Some((entry.metadata().ok()?.modified().ok()?, id))
        })
        .max()
        .map(|(_, id)| id)
        .ok_or_else(|| failed("ceph-volume left no OSD"))
}

/// Starts an OSD whose disk is here.
pub(super) async fn start(host: &CephHost, id: i64, uuid: &str) -> Told {
    let dir = host.osd_dir(id);
    let device = match fs::read_to_string(dir.join(DEVICE)) {
        Ok(text) => text.trim().to_owned(),
        Err(_) => find(host, id, uuid)?,
    };
    let known = fs::read_to_string(dir.join("fsid")).unwrap_or_default();
    if !known.is_empty() && known.trim() != uuid {
        return Err(guard(format!("osd.{id} of this machine is another one")));
    }
    open_encrypted(host, &dir, &device, uuid).await?;
    begin(host, id, &device).await?;
    Ok(None)
}

/// The disk an OSD is on.
fn find(host: &CephHost, id: i64, uuid: &str) -> Result<String, HostError> {
    let found = disks::scan(&host.roots).map_err(|e| failed(e.to_string()))?;
    found
        .into_iter()
        .find(|f| {
            let node = host.roots.dev.join(&f.report.name);
            matches!(ceph_label::read(&node), Ok(Some(l)) if l.uuid == uuid && l.id == Some(id))
        })
        .map(|f| f.report.path)
        .ok_or_else(|| guard(format!("no disk of this machine holds osd.{id}")))
}

/// Opens the disk of an encrypted OSD with the key that the cluster keeps.
async fn open_encrypted(
    host: &CephHost,
    dir: &Path,
    device: &str,
    uuid: &str,
) -> Result<(), HostError> {
    let Ok(link) = fs::read_link(dir.join("block")) else {
        return Ok(());
    };
    let Some(name) = link.strip_prefix("/dev/mapper").ok().and_then(Path::to_str) else {
        return Ok(());
    };
    if link.exists() {
        return Ok(());
    }
    let key = host
        .ceph
        .config_key(&format!("dm-crypt/osd/{uuid}/luks"))
        .await
        .map_err(ceph_failed)?;
    let words = ["--key-file", "-", "open", "--type", "luks", device, name];
    run("cryptsetup", &words, Some(key.trim()), STARTING).await?;
    own(&link).map_err(|e| failed(format!("cannot give {} to Ceph: {e}", link.display())))
}

/// Stops an OSD; it stays stopped over boots.
pub(super) async fn stop(host: &CephHost, id: i64, uuid: &str) -> Told {
    let known = fs::read_to_string(host.osd_dir(id).join("fsid")).unwrap_or_default();
    if known.trim() != uuid {
        return Err(guard(format!("osd.{id} of this machine is another one")));
    }
    run(
        "systemctl",
        &["disable", "--now", &osd_unit(id)],
        None,
        STARTING,
    )
    .await?;
    Ok(None)
}

fn random() -> Result<String, HostError> {
    let mut bytes = [0; 64];
    File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes))
        .map_err(|e| failed(format!("no random numbers: {e}")))?;
    Ok(base64::engine::general_purpose::STANDARD.encode(bytes))
}

#[cfg(test)]
mod tests {
    use super::super::loop_fixture::{LoopDisk, root_or_skip, with_links};
    use super::*;
    use std::sync::Arc;

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
            let (_dir, roots) = with_links(&[("d", &disk)]);
            let host = CephHost::new(Arc::default(), roots);
            let path = disk.node().to_str().expect("UTF-8").to_owned();
            check_beside(&host, &path).expect("it is blank");
            disk.run(command);
            if !first.is_empty() {
                let node = File::options().write(true).open(disk.node());
                let node = node.expect("it can be opened");
                node.write_all_at(first, 0).expect("written");
            }
            let refused = check_beside(&host, &path).expect_err("it holds something");
            let told = refused.to_string();
            assert!(
                told.contains(expected) && told.contains("must be blank"),
                "{told}"
            );
        }
    }
}
