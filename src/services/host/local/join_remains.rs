//! What a join left behind that did not come to its end.
//!
//! LXD makes the joiner's part of the pools before it asks to be taken in. When it is not, it forgets
//! them, but the file system stays on the disk, and every later join fails on it.
//!
//! # Guarantees
//! - A disk is only wiped when it was blank just before this machine's service was told to make a
//!   pool of it, and holds nothing since but the mark of a pool.
//! - Nothing is touched while the service is in a cluster or knows a pool of that name.
//! - Directories are only removed when they are empty.

use super::half_made::{directories, remove_empty};
use super::lxd_unjoin::{mounts_below, systemctl};
use super::{DeviceNumber, Roots, disks, wipe};
use crate::services::host::types::{DiskReport, HostError, JoinLxd, POOL_MARKS, WipeDisk};
use crate::services::lxd::{Lxd, LxdError};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::timeout;

/// How long the service may take for one answer.
const ANSWER: Duration = Duration::from_secs(5);

/// What a join was begun with.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Begun {
    /// The disks that were blank and were given to pools.
    pub blank: Vec<WipeDisk>,
    /// The pools they were given to.
    pub pools: Vec<String>,
}

impl Begun {
    /// What is about to be begun.
    pub(super) fn of(request: &JoinLxd, disks: &[DiskReport]) -> Begun {
        let mut begun = Begun::default();
        for given in &request.member_config {
            if given.entity != "storage-pool" || given.key != "source" {
                continue;
            }
            begun.pools.push(given.name.clone());
            let mut same = disks
                .iter()
                .filter(|disk| disk.path == given.value || disk.links.contains(&given.value));
            let Some(disk) = same.next() else { continue };
            if disk.signatures.is_empty() {
                begun.blank.push(WipeDisk {
                    path: disk.path.clone(),
                    serial: disk.serial.clone(),
                    size: disk.size,
                });
            }
        }
        begun
    }

    /// With what an earlier join was begun with.
    pub(super) fn and(mut self, earlier: Begun) -> Begun {
        for disk in earlier.blank {
            if !self.blank.contains(&disk) {
                self.blank.push(disk);
            }
        }
        for pool in earlier.pools {
            if !self.pools.contains(&pool) {
                self.pools.push(pool);
            }
        }
        self
    }
}

/// What is needed to clear away.
pub(super) struct JoinRemains<'a> {
    pub roots: &'a Roots,
    pub probing: &'a Arc<Mutex<HashSet<DeviceNumber>>>,
    pub socket: Option<PathBuf>,
    pub lxd: &'a Lxd,
}

impl JoinRemains<'_> {
    /// Clears away what a join that has ended left; nothing if it ended well.
    pub(super) async fn clear(&self, begun: &Begun) -> Result<(), HostError> {
        if begun.blank.is_empty() && begun.pools.is_empty() {
            return Ok(());
        }
        let server = answer(timeout(ANSWER, self.lxd.server()).await)?;
        if server.value.environment.server_clustered {
            return Ok(());
        }
        for pool in &begun.pools {
            match timeout(ANSWER, self.lxd.pool(pool, None)).await {
                Ok(Err(LxdError::NotFound { .. })) => self.directory(pool).await?,
                // It is somebody's: so is its disk.
                other => return answer(other).map(drop),
            }
        }
        if begun.blank.is_empty() {
            return Ok(());
        }
        let found = disks::report(self.roots, self.probing).await?;
        for disk in &begun.blank {
            let Some(seen) = found.iter().find(|d| d.path == disk.path) else {
                continue;
            };
            let own = |mark: &String| POOL_MARKS.contains(&mark.as_str());
            if !seen.signatures.is_empty() && seen.signatures.iter().all(own) {
                tracing::warn!(
                    disk = disk.path,
                    "clearing away what a join put on a disk that was blank"
                );
                wipe::wipe(self.roots, disk.clone()).await?;
            }
        }
        Ok(())
    }

    async fn directory(&self, pool: &str) -> Result<(), HostError> {
        let Some(socket) = &self.socket else {
            return Ok(());
        };
        let there = directories(socket).iter().any(|name| name == pool);
        let Some(folder) = socket.parent().filter(|_| there) else {
            return Ok(());
        };
        let directory = folder.join("storage-pools").join(pool);
        let failed = |reason: String| HostError::Failed { reason };
        for mount in mounts_below(&directory) {
            systemctl(&["stop", &mount]).await.map_err(failed)?;
        }
        remove_empty(&directory)
            .map_err(|e| failed(format!("cannot clear {}: {e}", directory.display())))
    }
}

fn answer<T>(
    answered: Result<Result<T, LxdError>, tokio::time::error::Elapsed>,
) -> Result<T, HostError> {
    let failed = |reason: String| HostError::Failed { reason };
    match answered {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(e)) => Err(failed(format!("cannot see what a join left: {e}"))),
        Err(_) => Err(failed("cannot see what a join left: no answer".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::services::host::Leftovers;
    use crate::services::lxd::types::MemberConfigKey;

    fn request(source: &str) -> JoinLxd {
        let key = |key: &str, value: &str| MemberConfigKey {
            entity: "storage-pool".to_owned(),
            name: "local".to_owned(),
            key: key.to_owned(),
            value: value.to_owned(),
            ..MemberConfigKey::default()
        };
        JoinLxd {
            name: "m2".to_owned(),
            address: [10, 0, 0, 2].into(),
            token: String::new(),
            cluster_certificate: String::new(),
            member_config: vec![key("source", source), key("zfs.pool_name", "x")],
            expected_leftovers: Leftovers::default(),
        }
    }

    fn disk(path: &str, signatures: &[&str]) -> DiskReport {
        DiskReport {
            path: path.to_owned(),
            links: vec![format!("{path}-alias")],
            serial: "s".to_owned(),
            size: 1 << 30,
            signatures: signatures.iter().map(|s| (*s).to_owned()).collect(),
            ..DiskReport::default()
        }
    }

    #[test]
    fn only_disks_that_were_blank_are_remembered_as_such() {
        let disks = [disk("/dev/a", &[]), disk("/dev/b", &["ext4 filesystem"])];
        let begun = Begun::of(&request("/dev/a-alias"), &disks);
        assert_eq!(begun.blank.len(), 1);
        assert_eq!(begun.blank[0].path, "/dev/a");
        assert_eq!(begun.pools, ["local"]);
        let begun = Begun::of(&request("/dev/b"), &disks);
        assert!(begun.blank.is_empty(), "it held something before");
    }

    #[test]
    fn what_an_earlier_join_began_with_is_not_forgotten() {
        let blank = Begun::of(&request("/dev/a"), &[disk("/dev/a", &[])]);
        let marked = Begun::of(&request("/dev/a"), &[disk("/dev/a", &["btrfs filesystem"])]);
        assert!(marked.blank.is_empty());
        assert_eq!(marked.and(blank.clone()), blank);
    }
}
