//! The loop disks of a host: files that look like disks with a stable name.
//!
//! udev does not run in the hosts, so the links below `/dev/disk` are made here: `by-id` from
//! outside, and `by-uuid` in the host whenever something wrote to the disk (a `sandbox-disk@`
//! path unit), because LXD waits for that link after it made a file system.

use super::files::{make_dirs, write_below};
use super::layout::Layout;
use super::state::{self, Disk, Host, Stored};
use super::{Error, host, loops};
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// A size in bytes, written as `2G`, `512MiB`, `1000000000`; units count by 1024.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskSize(pub u64);

/// Why a size cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is not a size from 1M to 16T, such as 2G or 512MiB")]
pub struct ParseSizeError(String);

impl FromStr for DiskSize {
    type Err = ParseSizeError;

    fn from_str(text: &str) -> Result<DiskSize, ParseSizeError> {
        let error = || ParseSizeError(text.to_owned());
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let unit = unit
            .strip_suffix("iB")
            .or(unit.strip_suffix('B'))
            .unwrap_or(unit);
        let shift = match unit.to_ascii_uppercase().as_str() {
            "" => 0,
            "K" => 10,
            "M" => 20,
            "G" => 30,
            "T" => 40,
            _ => return Err(error()),
        };
        let bytes = number
            .parse::<u64>()
            .ok()
            .and_then(|n| n.checked_mul(1 << shift));
        bytes
            .filter(|b| (1 << 20..=16 << 40).contains(b))
            .map(DiskSize)
            .ok_or_else(error)
    }
}

/// The file behind a disk.
fn file(layout: &Layout, disk: &Disk) -> PathBuf {
    layout.disks().join(format!("{}.img", disk.name))
}

/// Adds an empty disk to a host, running or not.
pub(super) fn add(layout: &Layout, name: &str, bytes: u64) -> Result<Disk, Error> {
    let (mut stored, _) = state::require_host(layout, name)?;
    let mut host = add_to(layout, &mut stored, name, bytes)?;
    attach(layout, &mut host)?;
    stored.hosts.insert(name.to_owned(), host.clone());
    state::write(layout, &stored)?;
    show(layout, name, &host)?;
    host.disks.pop().ok_or_else(|| Error::NoHost {
        host: name.to_owned(),
        sandbox: layout.name().to_owned(),
    })
}

/// Makes the file of a new disk and stores that it is there; returns the host with it.
pub(super) fn add_to(
    layout: &Layout,
    stored: &mut Stored,
    name: &str,
    bytes: u64,
) -> Result<Host, Error> {
    let no_host = || Error::NoHost {
        host: name.to_owned(),
        sandbox: layout.name().to_owned(),
    };
    let host = stored.hosts.get_mut(name).ok_or_else(no_host)?;
    let disk = Disk {
        name: format!("sandbox-{name}-disk{}", host.disks.len() + 1),
        bytes,
        device: None,
    };
    let path = file(layout, &disk);
    fs::create_dir_all(layout.disks()).map_err(|e| Error::io("make", layout.disks(), e))?;
    let sparse = File::create(&path).map_err(|e| Error::io("make", &path, e))?;
    sparse
        .set_len(bytes)
        .map_err(|e| Error::io("make room in", &path, e))?;
    host.disks.push(disk);
    let host = host.clone();
    state::write(layout, stored)?;
    Ok(host)
}

/// Attaches the disks of a host to loop devices; each keeps its device if it still has it.
pub(super) fn attach(layout: &Layout, host: &mut Host) -> Result<(), Error> {
    for disk in &mut host.disks {
        disk.device = Some(loops::attach(layout, &file(layout, disk))?);
    }
    Ok(())
}

/// Writes what makes the disks appear in the host at every boot.
pub(super) fn prepare(root: &Path, host: &Host) -> Result<(), Error> {
    let mut links =
        String::from("d /dev/disk/by-id 0755 root root -\nd /dev/disk/by-uuid 0755 root root -\n");
    let wants = root.join("etc/systemd/system/multi-user.target.wants");
    make_dirs(&wants)?;
    remove_old_wants(&wants)?;
    for (disk, device) in attached(host) {
        links.push_str(&format!(
            "L+ /dev/disk/by-id/{} - - - - ../../{device}\n",
            disk.name
        ));
        if let Some(uuid) = uuid(Path::new("/dev").join(device).as_path()) {
            links.push_str(&format!(
                "L+ /dev/disk/by-uuid/{uuid} - - - - ../../{device}\n"
            ));
        }
        let want = wants.join(format!("sandbox-disk@{device}.path"));
        symlink("/etc/systemd/system/sandbox-disk@.path", &want)
            .map_err(|e| Error::io("link", want, e))?;
    }
    write_below(
        root,
        "etc/tmpfiles.d/sandbox-disks.conf",
        links.as_bytes(),
        0o644,
    )
}

fn remove_old_wants(wants: &Path) -> Result<(), Error> {
    let entries = fs::read_dir(wants).map_err(|e| Error::io("read", wants, e))?;
    for entry in entries.flatten() {
        if entry
            .file_name()
            .to_string_lossy()
            .starts_with("sandbox-disk@")
        {
            fs::remove_file(entry.path()).map_err(|e| Error::io("remove", entry.path(), e))?;
        }
    }
    Ok(())
}

/// The disks that have a device, with its name below `/dev`.
fn attached(host: &Host) -> impl Iterator<Item = (&Disk, &str)> {
    host.disks
        .iter()
        .filter_map(|d| Some((d, d.device.as_ref()?.file_name()?.to_str()?)))
}

/// The UUID of the file system on a device, if there is one.
fn uuid(device: &Path) -> Option<String> {
    let mut command = std::process::Command::new("blkid");
    command
        .args(["-p", "-s", "UUID", "-o", "value"])
        .arg(device);
    let said = super::command::run(&mut command, None, super::command::SHORT).ok()?;
    let said = said.trim();
    let plain = !said.is_empty() && said.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    plain.then(|| said.to_owned())
}

/// Makes the disks appear in a host that runs already.
pub(super) fn show(layout: &Layout, name: &str, host: &Host) -> Result<(), Error> {
    let Some(init) = host::init(host) else {
        return Ok(());
    };
    let root = host::root_of(init);
    prepare(&root, host)?;
    let fresh = link(&root, host)?;
    for device in fresh {
        let unit = format!("sandbox-disk@{device}.path");
        host::call(layout, name, &["systemctl", "start", &unit])?;
        // A disk that comes with a file system gets its link as well.
        host::call(
            layout,
            name,
            &[
                "systemctl",
                "start",
                &format!("sandbox-disk@{device}.service"),
            ],
        )?;
    }
    Ok(())
}

/// Makes nodes and links by id; returns the devices whose link was not there.
fn link(root: &Path, host: &Host) -> Result<Vec<String>, Error> {
    let by_id = root.join("dev/disk/by-id");
    make_dirs(&by_id)?;
    make_dirs(&root.join("dev/disk/by-uuid"))?;
    let mut fresh = Vec::new();
    for (disk, device) in attached(host) {
        node(root, device)?;
        let link = by_id.join(&disk.name);
        let target = Path::new("../..").join(device);
        if fs::read_link(&link).is_ok_and(|t| t == target) {
            continue;
        }
        if link.symlink_metadata().is_ok() {
            fs::remove_file(&link).map_err(|e| Error::io("remove", &link, e))?;
        }
        symlink(&target, &link).map_err(|e| Error::io("link", &link, e))?;
        fresh.push(device.to_owned());
    }
    Ok(fresh)
}

/// Makes the node of a loop device in a host, as it is on this machine.
fn node(root: &Path, device: &str) -> Result<(), Error> {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    use std::os::unix::fs::MetadataExt;
    let here = Path::new("/dev").join(device);
    let there = root.join("dev").join(device);
    let meta = fs::metadata(&here).map_err(|e| Error::io("look at", &here, e))?;
    match mknodat(
        CWD,
        &there,
        FileType::BlockDevice,
        Mode::from_raw_mode(0o660),
        meta.rdev(),
    ) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => Ok(()),
        Err(e) => Err(Error::io("make", there, e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        let size = |s: &str| s.parse::<DiskSize>().ok().map(|d| d.0);
        assert_eq!(size("2G"), Some(2 << 30));
        assert_eq!(size("512MiB"), Some(512 << 20));
        assert_eq!(size("3gB"), Some(3 << 30));
        assert_eq!(size("1048576"), Some(1 << 20));
        for bad in [
            "",
            "G",
            "2X",
            "-1G",
            "1.5G",
            "0",
            "1K",
            "17T",
            "99999999999999999999",
            "2 G",
        ] {
            assert_eq!(size(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_changed_device_moves_the_links() -> Result<(), Box<dyn std::error::Error>> {
        let root = tempfile::tempdir()?;
        let disk = |device: &str| Disk {
            name: "sandbox-a-disk1".into(),
            bytes: 1,
            device: Some(device.into()),
        };
        let host = |device: &str| Host {
            number: 1,
            lxd: true,
            cut: false,
            supervisor: None,
            disks: vec![disk(device)],
        };
        prepare(root.path(), &host("/dev/loop9990"))?;
        prepare(root.path(), &host("/dev/loop9991"))?;
        let conf = fs::read_to_string(root.path().join("etc/tmpfiles.d/sandbox-disks.conf"))?;
        assert!(
            conf.contains("L+ /dev/disk/by-id/sandbox-a-disk1 - - - - ../../loop9991\n"),
            "{conf}"
        );
        let wants: Vec<_> = fs::read_dir(
            root.path()
                .join("etc/systemd/system/multi-user.target.wants"),
        )?
        .flatten()
        .map(|e| e.file_name())
        .collect();
        assert_eq!(wants, ["sandbox-disk@loop9991.path"]);
        Ok(())
    }
}
