//! Destroying what marks a disk as used, after making sure that it is the disk that was meant and
//! that nothing uses it.

use super::disk_use::InUse;
use super::disks::{self, Found};
use super::{DeviceNumber, Roots, signatures, wipefs};
use crate::services::host::types::{HostError, WipeDisk};
use rustix::fs::{Mode, OFlags};
use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;

/// How much is overwritten at the start and at the end of the disk.
const EDGE: u64 = 10 << 20;
/// How much is overwritten at the start and at the end of each partition, and around each far
/// copy of a mark.
const SPOT: u64 = 1 << 20;
/// How long the kernel may take to read the partition table again.
const REREAD: Duration = Duration::from_secs(10);

/// Destroys the marks on a disk.
pub(super) async fn wipe(roots: &Roots, request: WipeDisk) -> Result<(), HostError> {
    let owned = roots.clone();
    let work = tokio::task::spawn_blocking(move || overwrite(&owned, &request));
    let node = work
        .await
        .map_err(|e| failed(format!("broken off: {e}")))??;
    forget_partitions(&node).await;
    check(roots, &node).await
}

fn failed(reason: impl Into<String>) -> HostError {
    HostError::Failed {
        reason: reason.into(),
    }
}

fn guard(reason: impl Into<String>) -> HostError {
    HostError::GuardFailed {
        reason: reason.into(),
    }
}

/// Checks and overwrites; returns the disk's node.
fn overwrite(roots: &Roots, request: &WipeDisk) -> Result<PathBuf, HostError> {
    let path = Path::new(&request.path);
    let cannot = |what: &str, e: io::Error| failed(format!("cannot {what} {}: {e}", request.path));
    // Exclusive: the kernel refuses while the disk or a partition is mounted, is swap, or is held
    // by device mapper, RAID, btrfs or another program that asked for the same; and none of them
    // can begin while this is open.
    let flags = OFlags::RDWR | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(fd) => File::from(fd),
        Err(rustix::io::Errno::BUSY) => {
            return Err(guard(format!("{} is in use", request.path)));
        }
        Err(rustix::io::Errno::NOENT) => {
            return Err(guard(format!("{} is not there", request.path)));
        }
        Err(errno) => return Err(cannot("open", errno.into())),
    };
    // Everything below is about the open disk, whatever the path leads to by now.
    let metadata = file.metadata().map_err(|e| cannot("look at", e))?;
    let device = DeviceNumber::of_raw(metadata.rdev());
    let found = disks::scan(roots)
        .map_err(|e| cannot("look for", e))?
        .into_iter()
        .find(|f| f.device == device)
        .ok_or_else(|| guard(format!("{} is not a whole disk", request.path)))?;
    let size = (&file)
        .seek(SeekFrom::End(0))
        .map_err(|e| cannot("measure", e))?;
    is_meant(&found, request, size)?;
    let in_use = InUse::read(roots).map_err(|e| cannot("look at the use of", e))?;
    if in_use.root.disks.contains(&device) || (in_use.root.any_zfs && has_zfs(roots, &found)) {
        return Err(guard(format!(
            "{} is, or may be, the root disk",
            request.path
        )));
    }
    let mut uses = in_use.of(device, &found.dir);
    for (_, partition, dir) in &found.partitions {
        uses.extend(in_use.of(*partition, dir));
    }
    if !uses.is_empty() {
        return Err(guard(format!("{}: {}", request.path, uses.join(", "))));
    }
    zero(&file, size, &found.partitions).map_err(|e| cannot("overwrite", e))?;
    Ok(roots.dev.join(&found.report.name))
}

/// Whether the disk is the one that was seen when this was decided.
fn is_meant(found: &Found, request: &WipeDisk, size: u64) -> Result<(), HostError> {
    let report = &found.report;
    if report.serial != request.serial {
        return Err(guard(format!(
            "{} has the serial number `{}`, not `{}`",
            request.path, report.serial, request.serial
        )));
    }
    if size != request.size || report.size != request.size {
        return Err(guard(format!(
            "{} has {size} bytes, not {}",
            request.path, request.size
        )));
    }
    if report.read_only {
        return Err(guard(format!("{} cannot be written", request.path)));
    }
    Ok(())
}

/// Whether ZFS has left a mark on the disk or a partition; what cannot be read may have one.
fn has_zfs(roots: &Roots, found: &Found) -> bool {
    let nodes = std::iter::once(&found.report.name).chain(found.partitions.iter().map(|p| &p.0));
    nodes.into_iter().any(|name| {
        disks::read_marks(&roots.dev.join(name), None)
            .map_or(true, |marks| marks.iter().any(|mark| mark.contains("zfs")))
    })
}

/// Overwrites the places where marks are: those inside the partitions first, so that an
/// interrupted wipe still shows the partitions.
fn zero(file: &File, size: u64, partitions: &[(String, DeviceNumber, PathBuf)]) -> io::Result<()> {
    for (_, _, dir) in partitions {
        let sectors = |name: &str| disks::line(dir, name).parse::<u64>().ok();
        if let (Some(start), Some(length)) = (sectors("start"), sectors("size")) {
            let (start, length) = (start.saturating_mul(512), length.saturating_mul(512));
            zero_range(file, size, start, SPOT.min(length))?;
            let end = start.saturating_add(length);
            zero_range(
                file,
                size,
                end.saturating_sub(SPOT).max(start),
                SPOT.min(length),
            )?;
        }
    }
    for place in signatures::FAR {
        zero_range(file, size, place, SPOT)?;
    }
    zero_range(file, size, size.saturating_sub(EDGE), EDGE)?;
    zero_range(file, size, 0, EDGE)?;
    file.sync_all()
}

fn zero_range(file: &File, size: u64, from: u64, length: u64) -> io::Result<()> {
    let block = vec![0u8; 256 << 10];
    let end = from.saturating_add(length).min(size);
    let mut at = from;
    while at < end {
        // At most the block's length: fits.
        let next = (end - at).min(block.len() as u64) as usize;
        file.write_all_at(&block[..next], at)?;
        at += next as u64;
    }
    Ok(())
}

/// Has the kernel read the partition table again. udev does so by itself where it runs; the rest
/// is found by [`check`].
async fn forget_partitions(node: &Path) {
    let running = Command::new("blockdev")
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .arg("--rereadpt")
        .arg(node)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .status();
    match tokio::time::timeout(REREAD, running).await {
        Ok(Ok(_)) => {} // loop devices without partitions refuse: nothing to forget
        Ok(Err(error)) => tracing::debug!(%error, "cannot run blockdev"),
        Err(_) => tracing::warn!(disk = %node.display(), "blockdev does not end"),
    }
}

/// Looks whether the disk is blank now.
async fn check(roots: &Roots, node: &Path) -> Result<(), HostError> {
    let (roots, owned) = (roots.clone(), node.to_owned());
    let left = tokio::task::spawn_blocking(move || -> io::Result<Vec<String>> {
        let file = File::open(&owned)?;
        let size = (&file).seek(SeekFrom::End(0))?;
        let mut left = signatures::read(&file, size)?;
        let device = DeviceNumber::of_node(&owned);
        let found = disks::scan(&roots)?.into_iter();
        for disk in found.filter(|f| Some(f.device) == device) {
            left.extend(disk.partitions.into_iter().map(|(name, _, _)| {
                format!("partition {name}, which the kernel has not forgotten yet")
            }));
        }
        Ok(left)
    });
    let mut left = left
        .await
        .map_err(|e| failed(e.to_string()))?
        .map_err(|e| failed(format!("cannot read {} again: {e}", node.display())))?;
    left.extend(wipefs::read(node).await.map_err(failed)?);
    if left.is_empty() {
        Ok(())
    } else {
        Err(failed(format!(
            "{} was overwritten, but still shows: {}",
            node.display(),
            left.join(", ")
        )))
    }
}

#[cfg(test)]
mod tests;
