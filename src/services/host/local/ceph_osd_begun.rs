//! What is remembered of an OSD while it is made, on its machine: a making that was cut in two is
//! known again by it, and begins over on the same disk.
//!
//! Without it, an encrypted disk that holds nothing yet could not be told from one of somebody
//! else, and neither could the device beside it.

use super::ceph::{CephHost, Readable, failed, write};
use crate::services::host::types::{HostError, WipeDisk};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::fs;
use std::path::PathBuf;

/// How the names of such files begin.
const PREFIX: &str = ".microcloud-begun-";

/// An OSD that was begun on a disk that was blank.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Begun {
    /// The disk.
    pub disk: WipeDisk,
    /// The cluster it is for.
    pub fsid: String,
    /// The key of its encryption, if it is encrypted; the cluster keeps it too. A secret.
    pub secret: Option<String>,
    /// Devices beside the disk, which were blank as well.
    pub beside: Vec<String>,
}

impl fmt::Debug for Begun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Begun")
            .field("disk", &self.disk)
            .finish_non_exhaustive()
    }
}

impl Begun {
    /// What was begun on exactly this disk for this cluster.
    pub fn of(host: &CephHost, disk: &WipeDisk, fsid: &str) -> Option<Begun> {
        let text = fs::read_to_string(file(host, disk)).ok()?;
        let begun: Begun = serde_json::from_str(&text).ok()?;
        (begun.disk == *disk && begun.fsid == fsid).then_some(begun)
    }

    /// All that was begun on this machine.
    pub fn all(host: &CephHost) -> Vec<Begun> {
        let entries = fs::read_dir(host.lib.join("osd")).into_iter().flatten();
        let begun = entries
            .flatten()
            .filter(|e| e.file_name().to_string_lossy().starts_with(PREFIX));
        begun
            .filter_map(|e| serde_json::from_str(&fs::read_to_string(e.path()).ok()?).ok())
            .collect()
    }

    /// Remembers it, readable for root alone.
    pub fn keep(&self, host: &CephHost) -> Result<(), HostError> {
        // What is said of a failure must not repeat what is written.
        let text = serde_json::to_string(self).map_err(|_| failed("cannot be remembered"))?;
        write(&file(host, &self.disk), &text, Readable::Root)
    }

    /// Forgets what was begun on a disk: it came to its end.
    pub fn forget(host: &CephHost, disk: &WipeDisk) -> Result<(), HostError> {
        let path = file(host, disk);
        match fs::remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                Err(failed(format!("cannot delete {}: {e}", path.display())))
            }
            _ => Ok(()),
        }
    }
}

fn file(host: &CephHost, disk: &WipeDisk) -> PathBuf {
    let name = disk.path.trim_start_matches('/').replace('/', "_");
    host.lib.join("osd").join(format!("{PREFIX}{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn what_was_begun_is_known_again_for_the_same_disk_and_cluster_alone() {
        let dir = tempfile::tempdir().unwrap();
        let host = CephHost {
            lib: dir.path().to_owned(),
            ..CephHost::new(std::sync::Arc::default(), super::super::Roots::default())
        };
        let disk = WipeDisk {
            path: "/dev/disk/by-id/a".into(),
            serial: "s".into(),
            size: 7,
        };
        let begun = Begun {
            disk: disk.clone(),
            fsid: "f".into(),
            secret: Some("hidden".into()),
            beside: vec!["/dev/disk/by-id/b".into()],
        };
        assert!(!format!("{begun:?}").contains("hidden"));
        begun.keep(&host).unwrap();
        let mode = fs::metadata(file(&host, &disk)).unwrap().permissions();
        assert_eq!(mode.mode() & 0o777, 0o600);
        assert_eq!(Begun::of(&host, &disk, "f"), Some(begun.clone()));
        assert_eq!(Begun::all(&host), [begun]);
        assert_eq!(Begun::of(&host, &disk, "g"), None);
        let other = WipeDisk {
            serial: "t".into(),
            ..disk.clone()
        };
        assert_eq!(Begun::of(&host, &other, "f"), None, "the disk was changed");
        Begun::forget(&host, &disk).unwrap();
        Begun::forget(&host, &disk).unwrap();
        assert!(Begun::all(&host).is_empty());
    }
}
