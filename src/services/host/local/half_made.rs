//! What is left on a machine that stopped while LXD made a pool or a bridge there.
//!
//! LXD makes the pool's directory first and refuses to begin where it is there already; the file
//! system that it put on the disk stays as well. The same holds for the interface of a bridge.
//!
//! # Guarantees
//! - Nothing is touched that LXD calls made on this machine, or that it may still be making.
//! - Directories are only removed when they are empty: no file is ever deleted.
//! - The disk is only wiped when what is on it is of the pool's kind, and nothing uses it.
//! - An interface only goes when it is a bridge with an address of LXD's and without any port.

use super::lxd_unjoin::{mounts_below, run, systemctl};
use super::{DeviceNumber, Roots, disks, wipe};
use crate::services::host::types::{HalfMade, HostError, WipeDisk};
use crate::services::lxd::{Lxd, LxdError};
use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// How long it must be since it was begun, or since it was first seen: LXD may still be at it,
/// without anybody who waits for it.
const PATIENCE: Duration = Duration::from_secs(15);

/// How the hardware addresses begin that LXD gives.
const OWN_ADDRESSES: &str = "00:16:3e:";

fn guard(reason: String) -> HostError {
    HostError::GuardFailed { reason }
}

fn failed(reason: String) -> HostError {
    HostError::Failed { reason }
}

/// The pools that have a directory on this machine, made or half made.
pub(super) fn directories(socket: &Path) -> Vec<String> {
    let Some(folder) = socket.parent().map(|dir| dir.join("storage-pools")) else {
        return Vec::new();
    };
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}

/// What is needed to clear away.
pub(super) struct HalfMades<'a> {
    pub roots: &'a Roots,
    pub probing: &'a Arc<Mutex<HashSet<DeviceNumber>>>,
    pub asked: &'a Mutex<HashMap<String, Instant>>,
    pub socket: &'a Path,
    pub lxd: &'a Lxd,
    pub member: &'a str,
}

impl HalfMades<'_> {
    /// Clears away what is left; nothing is left is fine too.
    pub(super) async fn clear(&self, what: HalfMade) -> Result<(), HostError> {
        match what {
            HalfMade::Pool { pool, driver, disk } => self.pool(&pool, &driver, disk).await,
            HalfMade::Bridge { project, network } => self.bridge(&project, &network).await,
        }
    }

    async fn pool(
        &self,
        pool: &str,
        driver: &str,
        disk: Option<WipeDisk>,
    ) -> Result<(), HostError> {
        let part = self.lxd.pool(pool, Some(self.member)).await;
        if made(part.map(|p| p.value.status))? {
            return Ok(());
        }
        let Some(directory) = self
            .socket
            .parent()
            .filter(|_| directories(self.socket).iter().any(|d| d == pool))
            .map(|dir| dir.join("storage-pools").join(pool))
        else {
            return Ok(());
        };
        let cannot = |e: io::Error| failed(format!("cannot clear {}: {e}", directory.display()));
        let begun = fs::symlink_metadata(&directory)
            .and_then(|m| m.modified())
            .map_err(cannot)?;
        let age = SystemTime::now().duration_since(begun).unwrap_or_default();
        if age < PATIENCE {
            return Err(at_it(pool));
        }
        tracing::warn!(
            pool,
            "clearing away what is left of a pool that was not made"
        );
        for mount in mounts_below(&directory) {
            systemctl(&["stop", &mount]).await.map_err(failed)?;
        }
        remove_empty(&directory).map_err(cannot)?;
        let Some(disk) = disk else {
            return Ok(());
        };
        let own = format!("{driver} filesystem");
        let found = disks::report(self.roots, self.probing).await?;
        let Some(seen) = found.into_iter().find(|d| d.path == disk.path) else {
            return Err(guard(format!("{} is not there", disk.path)));
        };
        match seen.signatures.iter().find(|mark| **mark != own) {
            Some(other) => Err(guard(format!("{} is not the pool's: {other}", disk.path))),
            None if seen.signatures.is_empty() => Ok(()),
            None => wipe::wipe(self.roots, disk).await,
        }
    }

    async fn bridge(&self, project: &str, network: &str) -> Result<(), HostError> {
        let part = self.lxd.network(project, network, Some(self.member)).await;
        if made(part.map(|n| n.value.status))? {
            return Ok(());
        }
        let device = self.roots.sys.join("class/net").join(network);
        if !device.exists() {
            return Ok(());
        }
        let ports = fs::read_dir(device.join("brif")).map(Iterator::count);
        let address = fs::read_to_string(device.join("address")).unwrap_or_default();
        if !matches!(ports, Ok(0)) || !address.starts_with(OWN_ADDRESSES) {
            return Err(guard(format!(
                "the interface {network} is not what the service leaves, a bridge of its own \
                 without ports: remove it or name the network otherwise"
            )));
        }
        let since = {
            let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
            *asked.entry(network.to_owned()).or_insert_with(Instant::now)
        };
        if since.elapsed() < PATIENCE {
            return Err(at_it(network));
        }
        tracing::warn!(
            network,
            "clearing away what is left of a network that was not made"
        );
        let words = ["link", "delete", "dev", network, "type", "bridge"];
        run("ip", &words).await.map_err(failed)?;
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.remove(network);
        Ok(())
    }
}

/// Whether the service says that it made its part here.
fn made(status: Result<String, LxdError>) -> Result<bool, HostError> {
    match status {
        Ok(status) => Ok(status == "Created"),
        Err(LxdError::NotFound { .. }) => Ok(false),
        Err(e) => Err(failed(format!("cannot see what was made here: {e}"))),
    }
}

fn at_it(what: &str) -> HostError {
    guard(format!(
        "the service may still be making {what} here: that is known after {} s",
        PATIENCE.as_secs()
    ))
}

/// Removes a directory and the directories in it, as far as there is no file in any.
pub(super) fn remove_empty(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_empty(&entry.path())?;
        }
    }
    fs::remove_dir(directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_empty_directories_go() {
        let dir = tempfile::tempdir().expect("a directory");
        let socket = dir.path().join("unix.socket");
        assert!(directories(&socket).is_empty());
        let pool = dir.path().join("storage-pools/local");
        fs::create_dir_all(pool.join("images")).expect("made");
        fs::create_dir_all(dir.path().join("storage-pools/data/custom")).expect("made");
        fs::write(dir.path().join("storage-pools/data/custom/disk"), "data").expect("written");
        assert_eq!(directories(&socket), ["data", "local"]);
        remove_empty(&pool).expect("it is empty");
        let refused = remove_empty(&dir.path().join("storage-pools/data"));
        assert!(refused.is_err());
        assert_eq!(directories(&socket), ["data"]);
        let kept = fs::read_to_string(dir.path().join("storage-pools/data/custom/disk"));
        assert_eq!(kept.expect("there"), "data");
    }
}
