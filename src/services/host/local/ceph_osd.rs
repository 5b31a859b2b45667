//! OSDs of this machine: made of blank disks, started, stopped.
//!
//! A disk is looked at once more just before: the same serial number and size, not in use, and
//! nothing on it. Encryption goes through `ceph-volume` as well, which keeps the key in the
//! cluster; it needs device mapper.

use super::ceph::{
    CephHost, Readable, STARTING, ceph_failed, failed, guard, launch_unit, osd_unit, own, run,
    run_with, stays, write,
};
use super::ceph_form::Told;
use super::ceph_osd_begun::Begun;
use super::ceph_osd_check::{BesideIs, Checked, Ours, check, check_beside};
use super::ceph_osd_dirs::{DEVICE, Known, line, sealed};
use super::{DeviceNumber, ceph_label, ceph_osd_dirs, wipe, wipefs};
use crate::services::host::types::{HostError, WipeDisk};
use base64::Engine;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::time::Duration;

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

/// Makes an OSD of a disk. One whose making was cut in two is gone on with, or begun over on the
/// same disk.
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
    let begun = Begun::of(host, disk, fsid);
    let secret = begun.as_ref().and_then(|b| b.secret.clone());
    let checked = {
        let (host, disk, fsid) = (host.clone(), disk.clone(), fsid.to_owned());
        let sealed = secret.is_some();
        blocking(move || check(&host, &disk, &fsid, sealed)).await?
    };
    let known = ceph_osd_dirs::known(host).await?;
    let mut begun_as = None;
    let mut half = false;
    match checked {
        Checked::Made(label) => {
            if let Some(id) = label.id {
                begin(host, id, &label.uuid, &disk.path).await?;
                Begun::forget(host, disk)?;
                return Ok(None);
            }
        }
        Checked::Sealed => {
            let secret = secret.as_deref().unwrap_or_default();
            if let Some((id, uuid)) = of_secret(host, &known, secret).await? {
                let dir = host.osd_dir(id);
                if line(&dir, "fsid") == uuid && line(&dir, "ready") == "ready" {
                    remember_devices(host, id, &disk.path, beside)?;
                    open_encrypted(host, &dir, &disk.path, &uuid).await?;
                    begin(host, id, &uuid, &disk.path).await?;
                    Begun::forget(host, disk)?;
                    return Ok(None);
                }
                begun_as = Some(uuid);
            }
            is_sealed_with(&disk.path, secret).await?;
            begin_over(host, disk, true).await?;
        }
        Checked::Half(label) => {
            // What is beside it goes first: the label says what of it is ours.
            begun_as = Some(label.uuid);
            half = true;
        }
        Checked::Blank(node) => {
            let left = wipefs::read(&node).await.map_err(failed)?;
            if !left.is_empty() {
                return Err(guard(format!("{} has: {}", disk.path, left.join(", "))));
            }
        }
    }
    for device in [&beside.wal, &beside.db].into_iter().flatten() {
        let ours = Ours {
            uuid: begun_as.clone(),
            begun: begun.as_ref().is_some_and(|b| b.beside.contains(device)),
            others: known
                .values()
                .filter(|o| o.exists)
                .map(|o| o.uuid.clone())
                .collect(),
            secret: secret.clone(),
        };
        clear_beside(host, device, ours).await?;
    }
    if let Some(uuid) = &begun_as {
        // Only one that never ran can be struck off this way.
        if let Some((id, _)) = known.iter().find(|(_, o)| o.uuid == *uuid) {
            host.ceph.purge_new(*id).await.map_err(ceph_failed)?;
        }
    }
    if half {
        begin_over(host, disk, false).await?;
    }
    ceph_osd_dirs::clear(host, &ceph_osd_dirs::known(host).await?).await?;
    make(host, fsid, disk, encrypt, beside).await
}

/// Has `ceph-volume` make an OSD of a disk on which nothing is.
async fn make(
    host: &CephHost,
    fsid: &str,
    disk: &WipeDisk,
    encrypt: bool,
    beside: &Beside,
) -> Told {
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
    let secret = if encrypt { Some(random()?) } else { None };
    let mut environment = Vec::new();
    if let Some(secret) = &secret {
        words.push("--dmcrypt");
        environment.push(("CEPH_VOLUME_DMCRYPT_SECRET", secret.as_str()));
    }
    Begun {
        disk: disk.clone(),
        fsid: fsid.to_owned(),
        secret: secret.clone(),
        beside: [&beside.wal, &beside.db]
            .into_iter()
            .flatten()
            .cloned()
            .collect(),
    }
    .keep(host)?;
    run_with("ceph-volume", &words, &environment, None, MAKING).await?;
    let nothing = || failed(format!("ceph-volume left no OSD on {}", disk.path));
    let (id, uuid) = match &secret {
        Some(secret) => {
            let known = ceph_osd_dirs::known(host).await?;
            of_secret(host, &known, secret).await?.ok_or_else(nothing)?
        }
        None => {
            let label = ceph_label::read(disk.path.as_ref())
                .map_err(|e| failed(format!("cannot read {} again: {e}", disk.path)))?
                .ok_or_else(nothing)?;
            (label.id.ok_or_else(nothing)?, label.uuid)
        }
    };
    remember_devices(host, id, &disk.path, beside)?;
    begin(host, id, &uuid, &disk.path).await?;
    Begun::forget(host, disk)?;
    Ok(None)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, HostError> + Send + 'static,
) -> Result<T, HostError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| failed(format!("broken off: {e}")))?
}

/// The encrypted OSD of this machine whose key this is: the cluster keeps the keys.
async fn of_secret(
    host: &CephHost,
    known: &BTreeMap<i64, Known>,
    secret: &str,
) -> Result<Option<(i64, String)>, HostError> {
    for (id, osd) in known {
        let here = host.osd_dir(*id).exists();
        if osd.exists && !here {
            continue; // it is somewhere else, and ran
        }
        match host.ceph.config_key(&luks_key(&osd.uuid)).await {
            Ok(key) if key.trim() == secret => return Ok(Some((*id, osd.uuid.clone()))),
            Ok(_) => {}
            Err(e) if e.is_missing() => {}
            Err(e) => return Err(ceph_failed(e)),
        }
    }
    Ok(None)
}

/// Where the cluster keeps the key of an encrypted OSD.
fn luks_key(uuid: &str) -> String {
    format!("dm-crypt/osd/{uuid}/luks")
}

/// Refuses unless the encryption on a device opens with the key that was made for it.
async fn is_sealed_with(device: &str, secret: &str) -> Result<(), HostError> {
    let words = [
        "--key-file",
        "-",
        "open",
        "--test-passphrase",
        "--type",
        "luks",
        device,
    ];
    run("cryptsetup", &words, Some(secret), STARTING)
        .await
        .map(drop)
        .map_err(|_| {
            guard(format!(
                "{device} is encrypted with another key than the one that was made for it: wipe it \
                 if nothing on it is needed"
            ))
        })
}

/// Has a disk be blank again on which an OSD of ours was begun. `check` or a key has said so.
async fn begin_over(host: &CephHost, disk: &WipeDisk, sealed: bool) -> Result<(), HostError> {
    if sealed {
        close_over(host, &disk.path).await?;
    }
    tracing::warn!("the OSD on {} was cut in two: it is begun over", disk.path);
    wipe::wipe(&host.roots, disk.clone()).await
}

/// Closes what `ceph-volume` opened over a device.
async fn close_over(host: &CephHost, device: &str) -> Result<(), HostError> {
    let Some(number) = DeviceNumber::of_node(Path::new(device)) else {
        return Ok(());
    };
    let holders = host.roots.sys.join(format!("dev/block/{number}/holders"));
    for holder in fs::read_dir(holders).into_iter().flatten().flatten() {
        let name = line(&holder.path(), "dm/name");
        if name.starts_with("ceph-") {
            run("cryptsetup", &["close", &name], None, STARTING).await?;
        }
    }
    Ok(())
}

/// Remembers by which names the devices of an OSD were given; what is not encrypted is found by
/// its label.
fn remember_devices(
    host: &CephHost,
    id: i64,
    main: &str,
    beside: &Beside,
) -> Result<(), HostError> {
    let dir = host.osd_dir(id);
    for (end, device) in [
        ("", Some(main)),
        (".db", beside.db.as_deref()),
        (".wal", beside.wal.as_deref()),
    ] {
        if let Some(device) = device {
            let path = dir.join(format!("{DEVICE}{end}"));
            write(&path, &format!("{device}\n"), Readable::Ceph)?;
        }
    }
    Ok(())
}

/// Has a device beside the disk be blank: what a making that was cut in two left on it goes.
async fn clear_beside(host: &CephHost, device: &str, ours: Ours) -> Result<(), HostError> {
    let secret = ours.secret.clone().filter(|_| ours.begun);
    let found = {
        let (host, device) = (host.clone(), device.to_owned());
        blocking(move || check_beside(&host, &device, &ours)).await?
    };
    match found {
        BesideIs::Blank => Ok(()),
        BesideIs::Begun(disk) => begin_over(host, &disk, false).await,
        BesideIs::Sealed(disk, refused) => {
            let Some(secret) = secret else {
                return Err(refused);
            };
            is_sealed_with(device, &secret).await?;
            begin_over(host, &disk, true).await
        }
    }
}

/// Sets an OSD that is on a disk up for good, and starts it. `path` is the disk's.
async fn begin(host: &CephHost, id: i64, uuid: &str, path: &str) -> Result<(), HostError> {
    let dir = host.osd_dir(id);
    let before = line(&dir, "fsid");
    if !before.is_empty() && before != uuid {
        // The number was given to another one since.
        ceph_osd_dirs::give_up(host, id).await?;
    }
    let devices = ceph_osd_dirs::devices(host, uuid).await?;
    if !dir.join("keyring").exists() || !dir.join("ready").exists() {
        let mut words = vec![
            "raw",
            "activate",
            "--no-systemd",
            "--no-tmpfs",
            "--device",
            path,
        ];
        for (flag, device) in [("--block.wal", &devices.wal), ("--block.db", &devices.db)] {
            if let Some(device) = device {
                words.extend([flag, device]);
            }
        }
        run("ceph-volume", &words, None, MAKING).await?;
    }
    for (name, device) in [
        ("block", Some(path)),
        ("block.db", devices.db.as_deref()),
        ("block.wal", devices.wal.as_deref()),
    ] {
        if let Some(device) = device {
            relink(&dir.join(name), device)
                .map_err(|e| failed(format!("cannot link {name} of osd.{id}: {e}")))?;
        }
    }
    write(&dir.join(DEVICE), &format!("{path}\n"), Readable::Ceph)?;
    let drop_in = Path::new("/etc/systemd/system/ceph-osd@.service.d/microcloud.conf");
    if fs::read_to_string(drop_in).ok().as_deref() != Some(DROP_IN) {
        write(drop_in, DROP_IN, Readable::All)?;
        run("systemctl", &["daemon-reload"], None, STARTING).await?;
    }
    let unit = osd_unit(id);
    launch_unit(&unit).await?;
    let is_up = || {
        let (host, uuid) = (host.clone(), uuid.to_owned());
        async move {
            let known = ceph_osd_dirs::known(&host).await.unwrap_or_default();
            known.get(&id).is_some_and(|o| o.up && o.uuid == uuid)
        }
    };
    stays(&unit, is_up).await
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

/// Starts an OSD whose disk is here. The disk is known by what is on it; what is encrypted, by the
/// name it was given under, and by the key that opens it.
pub(super) async fn start(host: &CephHost, id: i64, uuid: &str) -> Told {
    let dir = host.osd_dir(id);
    let device = if sealed(&dir).is_some() && line(&dir, "fsid") == uuid {
        let device = line(&dir, DEVICE);
        open_encrypted(host, &dir, &device, uuid).await?;
        device
    } else {
        let found = ceph_osd_dirs::devices(host, uuid).await?;
        found
            .main
            .filter(|_| found.id == Some(id))
            .ok_or_else(|| guard(format!("no disk of this machine holds osd.{id} ({uuid})")))?
    };
    begin(host, id, uuid, &device).await?;
    Ok(None)
}

/// Opens the devices of an encrypted OSD with the key that the cluster keeps.
async fn open_encrypted(
    host: &CephHost,
    dir: &Path,
    device: &str,
    uuid: &str,
) -> Result<(), HostError> {
    let (db, wal) = (
        line(dir, &format!("{DEVICE}.db")),
        line(dir, &format!("{DEVICE}.wal")),
    );
    for (link, device) in [("block", device), ("block.db", &db), ("block.wal", &wal)] {
        let Ok(link) = fs::read_link(dir.join(link)) else {
            continue;
        };
        let Some(name) = link.strip_prefix("/dev/mapper").ok().and_then(Path::to_str) else {
            continue;
        };
        if link.exists() || device.is_empty() {
            continue;
        }
        let key = host
            .ceph
            .config_key(&luks_key(uuid))
            .await
            .map_err(ceph_failed)?;
        let words = ["--key-file", "-", "open", "--type", "luks", device, name];
        run("cryptsetup", &words, Some(key.trim()), STARTING).await?;
        own(&link).map_err(|e| failed(format!("cannot give {} to Ceph: {e}", link.display())))?;
    }
    Ok(())
}

/// Stops an OSD; it stays stopped over boots.
pub(super) async fn stop(host: &CephHost, id: i64, uuid: &str) -> Told {
    if line(&host.osd_dir(id), "fsid") != uuid {
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

/// Clears a disk whose OSD was struck off: the label on it must be of that OSD, and the cluster
/// must not know it any more.
pub(super) async fn zap(host: &CephHost, fsid: &str, uuid: &str, disk: WipeDisk) -> Told {
    host.is_of(fsid)?;
    let known = ceph_osd_dirs::known(host).await?;
    if let Some((id, _)) = known.iter().find(|(_, osd)| osd.uuid == uuid) {
        return Err(guard(format!("the cluster knows osd.{id} still")));
    }
    let encrypted = super::ceph::names(&host.lib.join("osd"))
        .into_iter()
        .any(|name| {
            let dir = host.lib.join("osd").join(format!("ceph-{name}"));
            sealed(&dir).is_some() && line(&dir, "fsid") == uuid && line(&dir, DEVICE) == disk.path
        });
    if !encrypted {
        let path = disk.path.clone();
        let label = blocking(move || {
            ceph_label::read(path.as_ref()).map_err(|e| failed(format!("cannot read {path}: {e}")))
        })
        .await?;
        if label.is_none_or(|label| label.uuid != uuid || label.fsid != fsid) {
            return Err(guard(format!("{} holds something else now", disk.path)));
        }
    }
    // Its directory goes first: what is on the disk tells whose it was until then.
    ceph_osd_dirs::clear(host, &known).await?;
    begin_over(host, &disk, encrypted).await?;
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
    use super::super::ceph_osd_check::tests::{UUID, host_with, write_on};
    use super::super::loop_fixture::{LoopDisk, root_or_skip};
    use super::*;

    #[tokio::test]
    async fn what_a_making_cut_in_two_left_beside_the_disk_goes_and_nothing_else() {
        if !root_or_skip() {
            return;
        }
        let disk = LoopDisk::new(64);
        let (_dir, host, meant) = host_with(&disk);
        let part = ceph_label::tests::label_of(UUID, "bluefs db", &[]);
        write_on(&disk, &part);
        let ran = Ours {
            begun: true,
            others: [UUID.to_owned()].into(),
            ..Ours::default()
        };
        for theirs in [Ours::default(), ran] {
            let refused = clear_beside(&host, &meant.path, theirs).await;
            let told = refused
                .expect_err("it is a part of another one")
                .to_string();
            assert!(told.contains("a part of an OSD"), "{told}");
            assert!(ceph_label::read(disk.node()).unwrap().is_some());
        }
        let begun = Ours {
            begun: true,
            ..Ours::default()
        };
        let named = Ours {
            uuid: Some(UUID.to_owned()),
            ..Ours::default()
        };
        for ours in [begun, named] {
            write_on(&disk, &part);
            clear_beside(&host, &meant.path, ours).await.expect("ours");
            assert_eq!(ceph_label::read(disk.node()).unwrap(), None);
        }
    }
}
