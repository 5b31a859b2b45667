//! The whole disks of this machine, from sysfs and udev's links and database.
//!
//! A disk is a block device with hardware behind it that has a node in `/dev`; of loop devices
//! only those that a link in `/dev/disk/by-id` names, which nobody makes by accident. Device
//! mapper, RAID, compressed memory and network devices are not disks: what is below them is.

use super::disk_links::Links;
use super::disk_use::InUse;
use super::root_disk::list;
use super::{DeviceNumber, Roots, signatures, wipefs};
use crate::services::host::types::{DiskReport, HostError};
use futures_util::StreamExt;
use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::io::{Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long reading the marks of one disk may take.
const READING: Duration = Duration::from_secs(5);

/// How long another look at the same disk is waited for; one that takes longer hangs.
const OTHERS: Duration = Duration::from_millis(500);

/// How many disks are read at a time.
const AT_ONCE: usize = 4;

/// A disk as sysfs shows it; nothing of it has been read yet.
#[derive(Debug, Clone)]
pub(super) struct Found {
    /// What is known so far.
    pub report: DiskReport,
    /// Its number.
    pub device: DeviceNumber,
    /// Its directory in sysfs.
    pub dir: PathBuf,
    /// Names, numbers and directories of its partitions.
    pub partitions: Vec<(String, DeviceNumber, PathBuf)>,
}

/// Looks at all disks, in by-id order.
///
/// # Errors
/// The kernel does not show its disks or mounts.
pub(super) async fn report(
    roots: &Roots,
    probing: &Arc<Mutex<HashSet<DeviceNumber>>>,
) -> Result<Vec<DiskReport>, HostError> {
    let looked = {
        let roots = roots.clone();
        tokio::task::spawn_blocking(move || look(&roots))
    };
    let (found, in_use) = looked
        .await
        .map_err(|e| failed(&e))?
        .map_err(|e| failed(&e))?;
    let in_use = &in_use;
    let mut reports: Vec<DiskReport> = futures_util::stream::iter(found)
        .map(|found| examine(roots, found, in_use, probing))
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    reports.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(reports)
}

fn failed(error: &dyn std::error::Error) -> HostError {
    HostError::Failed {
        reason: format!("cannot look at the disks: {error}"),
    }
}

fn look(roots: &Roots) -> std::io::Result<(Vec<Found>, InUse)> {
    // The uses first: a disk that is taken into use in between shows its new mark below.
    let in_use = InUse::read(roots)?;
    let mut found = scan(roots)?;
    found.retain(|f| DeviceNumber::of_node(&roots.dev.join(&f.report.name)) == Some(f.device));
    Ok((found, in_use))
}

/// The disks in sysfs, with or without a node in `/dev`.
pub(super) fn scan(roots: &Roots) -> std::io::Result<Vec<Found>> {
    let links = Links::read(roots);
    let mut found = Vec::new();
    for entry in fs::read_dir(roots.sys.join("block"))? {
        let path = entry?.path();
        let Ok(dir) = fs::canonicalize(&path) else {
            continue; // gone in between
        };
        found.extend(disk(roots, &links, &dir));
    }
    Ok(found)
}

/// One entry of `/sys/block`; `None` when it is no disk.
fn disk(roots: &Roots, links: &Links, dir: &Path) -> Option<Found> {
    let name = dir.file_name()?.to_str()?.to_owned();
    let device = DeviceNumber::parse(&line(dir, "dev"))?;
    let size = line(dir, "size").parse::<u64>().ok()?.checked_mul(512)?;
    let is_loop = name.starts_with("loop");
    if size == 0 || line(dir, "hidden") == "1" {
        return None;
    }
    if is_loop {
        let backed = dir.join("loop/backing_file").exists();
        if !backed || !links.of(device).iter().any(|l| links.is_by_id(l)) {
            return None;
        }
    } else if !dir.join("device").exists() || is_no_disk(&name) {
        return None;
    }
    let udev = udev_properties(&roots.udev, device);
    let partitions = list(dir)
        .into_iter()
        .filter(|p| p.join("partition").exists())
        .filter_map(|p| {
            let name = p.file_name()?.to_str()?.to_owned();
            Some((name, DeviceNumber::parse(&line(&p, "dev"))?, p))
        })
        .collect();
    let (path, others) = links.choose(device, &roots.dev.join(&name));
    let serial = match serial(dir, &udev) {
        serial if serial.is_empty() && is_loop => path
            .file_name()
            .map(|n| n.to_string_lossy().into_owned())
            .unwrap_or_default(),
        serial => serial,
    };
    let report = DiskReport {
        path: path.display().to_string(),
        links: others.iter().map(|p| p.display().to_string()).collect(),
        serial,
        wwn: property(&udev, &["ID_WWN"])
            .or_else(|| Some(line(dir, "wwid")).filter(|w| !w.is_empty()))
            .or_else(|| Some(line(dir, "device/wwid")))
            .unwrap_or_default(),
        pci_address: pci_address(dir),
        block_size: line(dir, "queue/logical_block_size").parse().unwrap_or(0),
        rpm: property(&udev, &["ID_ATA_ROTATION_RATE_RPM"])
            .and_then(|rpm| rpm.parse().ok())
            .unwrap_or(0),
        model: model(dir, &udev),
        disk_type: disk_type(&name, dir, &udev),
        size,
        rotational: line(dir, "queue/rotational") == "1",
        read_only: line(dir, "ro") == "1",
        removable: line(dir, "removable") == "1",
        name,
        ..DiskReport::default()
    };
    Some(Found {
        report,
        device,
        dir: dir.to_owned(),
        partitions,
    })
}

/// Devices that have hardware, or something like it, behind them but are no disks to give away.
pub(super) fn is_no_disk(name: &str) -> bool {
    ["fd", "rbd", "nbd", "zram", "ram", "dm-", "md", "zd", "mtdblock"]
        .iter()
        .any(|prefix| name.starts_with(prefix))
        // The boot and replay-protected areas of an eMMC.
        || (name.starts_with("mmcblk") && (name.contains("boot") || name.contains("rpmb")))
}

/// Reads what is on a disk.
async fn examine(
    roots: &Roots,
    found: Found,
    in_use: &InUse,
    probing: &Arc<Mutex<HashSet<DeviceNumber>>>,
) -> DiskReport {
    let mut report = found.report.clone();
    let mut reasons = uses(&found, in_use);
    let node = roots.dev.join(&report.name);
    match marks(&node, found.device, Some(report.size), probing).await {
        Ok(marks) => reasons.extend(marks),
        Err(reason) => reasons.push(unexamined(&reason)),
    }
    if reasons.is_empty() {
        match wipefs::read(&node).await {
            Ok(marks) => reasons.extend(marks),
            Err(reason) => reasons.push(unexamined(&reason)),
        }
    }
    report.root = in_use.root.disks.contains(&found.device);
    if in_use.root.any_zfs && !report.root {
        report.root = reasons.iter().any(|r| r.contains("zfs"));
        for (name, device, _) in &found.partitions {
            let node = roots.dev.join(name);
            let marks = marks(&node, *device, None, probing).await;
            // A partition that cannot be read may be the one.
            report.root |= marks.map_or(true, |m| m.iter().any(|m| m.contains("zfs")));
        }
    }
    report.signatures = reasons;
    report
}

/// What is not known is never called blank.
fn unexamined(reason: &str) -> String {
    format!("could not be examined: {reason}")
}

/// Why the disk is in use, and its partitions.
pub(super) fn uses(found: &Found, in_use: &InUse) -> Vec<String> {
    let mut reasons = in_use.of(found.device, &found.dir);
    for (name, device, dir) in &found.partitions {
        reasons.push(format!("partition {name}"));
        reasons.extend(in_use.of(*device, dir));
    }
    reasons
}

/// The marks on a device, read in a thread of their own: a disk that hangs holds up nothing else,
/// and is not asked again while it hangs.
async fn marks(
    node: &Path,
    device: DeviceNumber,
    size: Option<u64>,
    probing: &Arc<Mutex<HashSet<DeviceNumber>>>,
) -> Result<Vec<String>, String> {
    // Somebody else may be looking at it just now, which takes moments.
    let begun = Instant::now();
    while !probing
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .insert(device)
    {
        if begun.elapsed() >= OTHERS {
            return Err("it has not answered since it was last asked".to_owned());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let (node, probing) = (node.to_owned(), Arc::clone(probing));
    let reading = tokio::task::spawn_blocking(move || {
        let result = read_marks(&node, size);
        probing
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&device);
        result
    });
    match tokio::time::timeout(READING, reading).await {
        Ok(Ok(result)) => result.map_err(|e| e.to_string()),
        Ok(Err(e)) => Err(e.to_string()),
        Err(_) => Err(format!("no answer within {} s", READING.as_secs())),
    }
}

pub(super) fn read_marks(node: &Path, size: Option<u64>) -> std::io::Result<Vec<String>> {
    // Without waiting for a medium.
    let nonblock = rustix::fs::OFlags::NONBLOCK.bits();
    let file = File::options()
        .read(true)
        .custom_flags(nonblock.cast_signed())
        .open(node)?;
    let size = match size {
        Some(size) => size,
        None => (&file).seek(SeekFrom::End(0))?,
    };
    signatures::read(&file, size)
}

/// udev's properties of a device; none where udev does not run.
fn udev_properties(database: &Path, device: DeviceNumber) -> BTreeMap<String, String> {
    let text = fs::read_to_string(database.join(format!("b{device}"))).unwrap_or_default();
    text.lines()
        .filter_map(|line| line.strip_prefix("E:")?.split_once('='))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

/// The first of the properties that is there and not empty.
fn property(udev: &BTreeMap<String, String>, keys: &[&str]) -> Option<String> {
    keys.iter()
        .filter_map(|key| udev.get(*key))
        .find(|value| !value.trim().is_empty())
        .map(|value| value.trim().to_owned())
}

/// The serial number, or the device's world-wide number.
fn serial(dir: &Path, udev: &BTreeMap<String, String>) -> String {
    property(udev, &["ID_SCSI_SERIAL", "ID_SERIAL_SHORT"])
        .into_iter()
        .chain(["device/serial", "serial"].map(|file| line(dir, file)))
        .chain(std::iter::once_with(|| vpd_serial(dir)))
        .chain(["wwid", "device/wwid"].map(|file| line(dir, file)))
        .find(|text| !text.is_empty())
        .or_else(|| property(udev, &["ID_WWN", "ID_SERIAL"]))
        .unwrap_or_default()
}

/// The serial number of a SCSI disk: page 0x80, whose first four bytes are its header.
fn vpd_serial(dir: &Path) -> String {
    let page = fs::read(dir.join("device/vpd_pg80")).unwrap_or_default();
    String::from_utf8_lossy(page.get(4..).unwrap_or_default())
        .trim_matches(|c: char| c.is_whitespace() || c == '\0')
        .to_owned()
}

fn model(dir: &Path, udev: &BTreeMap<String, String>) -> String {
    let of_sysfs = line(dir, "device/model");
    if of_sysfs.is_empty() {
        property(udev, &["ID_MODEL"]).unwrap_or_default()
    } else {
        of_sysfs
    }
}

fn disk_type(name: &str, dir: &Path, udev: &BTreeMap<String, String>) -> String {
    let on_usb = dir
        .components()
        .any(|c| c.as_os_str().to_string_lossy().starts_with("usb"));
    let bus = udev.get("ID_BUS").map(String::as_str);
    let kind = if name.starts_with("loop") {
        "loop"
    } else if name.starts_with("sr") || udev.get("ID_TYPE").is_some_and(|t| t == "cd") {
        "cdrom"
    } else if name.starts_with("nvme") {
        "nvme"
    } else if name.starts_with("vd") {
        "virtio"
    } else if name.starts_with("mmcblk") {
        "mmc"
    } else if on_usb || bus == Some("usb") {
        "usb"
    } else if bus == Some("ata") || dir.components().any(|c| is_ata(c.as_os_str())) {
        "sata"
    } else if name.starts_with("sd") {
        "scsi"
    } else {
        "other"
    };
    kind.to_owned()
}

/// The last of `/sys/devices/pci0000:00/0000:00:1f.2/…` that is the address of a PCI device.
fn pci_address(dir: &Path) -> String {
    let is_address = |text: &str| {
        let parts: Vec<&str> = text.split([':', '.']).collect();
        let lengths: Vec<usize> = parts.iter().map(|p| p.len()).collect();
        let hex = |p: &&str| p.bytes().all(|b| b.is_ascii_hexdigit());
        lengths == [4, 2, 2, 1] && parts.iter().all(hex)
    };
    let mut parts = dir.components().filter_map(|c| c.as_os_str().to_str());
    parts
        .rfind(|c| is_address(c))
        .unwrap_or_default()
        .to_owned()
}

/// `ata1`, as in `/sys/devices/…/ata1/host0/…`.
fn is_ata(component: &std::ffi::OsStr) -> bool {
    component
        .to_str()
        .and_then(|text| text.strip_prefix("ata"))
        .is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}

/// The text of a file of sysfs, trimmed; empty if there is none.
pub(super) fn line(dir: &Path, file: &str) -> String {
    fs::read(dir.join(file))
        .map(|bytes| {
            String::from_utf8_lossy(&bytes)
                .trim_matches(|c: char| c.is_whitespace() || c == '\0')
                .to_owned()
        })
        .unwrap_or_default()
}

#[cfg(test)]
mod tests;
