//! The machine this program runs on: its disks, its interfaces, its instance service.

mod disk_links;
mod disk_use;
mod disks;
mod interfaces;
#[cfg(test)]
mod loop_fixture;
mod lxd;
mod lxd_form;
mod mounts;
mod root_disk;
mod signatures;
mod wipe;
mod wipefs;

pub use lxd::find_lxd_socket;

use super::types::{BootstrapLxd, HostError, HostReport, JoinLxd, LxdReport, WipeDisk};
use crate::services::peer::VERSION;
use std::collections::HashSet;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// Where the kernel shows the machine; other places in tests.
#[derive(Debug, Clone)]
pub(crate) struct Roots {
    /// `/sys`.
    pub sys: PathBuf,
    /// `/proc`.
    pub proc: PathBuf,
    /// `/dev`, with the device nodes.
    pub dev: PathBuf,
    /// `/dev/disk`, with udev's links.
    pub links: PathBuf,
    /// `/run/udev/data`, udev's database.
    pub udev: PathBuf,
}

impl Default for Roots {
    fn default() -> Roots {
        Roots {
            sys: "/sys".into(),
            proc: "/proc".into(),
            dev: "/dev".into(),
            links: "/dev/disk".into(),
            udev: "/run/udev/data".into(),
        }
    }
}

/// This machine.
#[derive(Debug)]
pub struct LocalHost {
    name: String,
    roots: Roots,
    /// The socket of the instance service, when it is not at one of the known places.
    lxd_socket: Option<PathBuf>,
    /// Held by what changes the machine: one change at a time.
    changing: tokio::sync::Mutex<()>,
    /// Whether the service is joining a cluster now.
    joining: AtomicBool,
    /// Disks that are being read; one that hangs is not asked again until it answers.
    probing: Arc<Mutex<HashSet<DeviceNumber>>>,
}

/// The number of a block device: major and minor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct DeviceNumber {
    pub major: u32,
    pub minor: u32,
}

impl DeviceNumber {
    /// Reads `MAJOR:MINOR`.
    fn parse(text: &str) -> Option<DeviceNumber> {
        let (major, minor) = text.trim().split_once(':')?;
        Some(DeviceNumber {
            major: major.parse().ok()?,
            minor: minor.parse().ok()?,
        })
    }

    /// The number of the block device `path` names, if it names one.
    fn of_node(path: &std::path::Path) -> Option<DeviceNumber> {
        use std::os::unix::fs::{FileTypeExt, MetadataExt};
        let metadata = fs::metadata(path).ok()?;
        metadata
            .file_type()
            .is_block_device()
            .then(|| DeviceNumber::of_raw(metadata.rdev()))
    }

    fn of_raw(raw: u64) -> DeviceNumber {
        DeviceNumber {
            major: rustix::fs::major(raw),
            minor: rustix::fs::minor(raw),
        }
    }
}

impl std::fmt::Display for DeviceNumber {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

/// Marks that a join is running, until dropped.
struct Joining<'a>(&'a AtomicBool);

impl Joining<'_> {
    fn begin(mark: &AtomicBool) -> Joining<'_> {
        mark.store(true, Ordering::SeqCst);
        Joining(mark)
    }
}

impl Drop for Joining<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

impl LocalHost {
    /// This machine as member `name`. The instance service is at `lxd_socket`, or at the first of
    /// the known places.
    pub fn new(name: &str, lxd_socket: Option<PathBuf>) -> LocalHost {
        LocalHost {
            name: name.to_owned(),
            roots: Roots::default(),
            lxd_socket,
            changing: tokio::sync::Mutex::default(),
            joining: AtomicBool::new(false),
            probing: Arc::default(),
        }
    }

    /// The member's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Changes with every boot; empty if the kernel does not say.
    pub fn boot_id(&self) -> String {
        self.read_line("sys/kernel/random/boot_id")
    }

    /// Looks at the machine; `fingerprint` is that of the agent's key.
    ///
    /// # Errors
    /// The kernel does not show its disks or interfaces.
    pub async fn report(&self, fingerprint: &str) -> Result<HostReport, HostError> {
        let before = self.joining.load(Ordering::SeqCst);
        let (mut lxd, disks, interfaces) = tokio::join!(
            lxd::report(self.lxd_socket.as_deref()),
            disks::report(&self.roots, &self.probing),
            interfaces::report(&self.roots),
        );
        if let LxdReport::Running(state) = &mut lxd {
            state.joining |= before || self.joining.load(Ordering::SeqCst);
        }
        Ok(HostReport {
            name: self.name.clone(),
            agent_version: VERSION.to_owned(),
            fingerprint: fingerprint.to_owned(),
            machine_id: fs::read_to_string("/etc/machine-id")
                .map(|id| id.trim().to_owned())
                .unwrap_or_default(),
            boot_id: self.boot_id(),
            lxd,
            disks: disks?,
            interfaces: interfaces?,
        })
    }

    /// Makes the standalone instance service the first member of a cluster. Done already is done.
    ///
    /// # Errors
    /// It is in another cluster, or the service refused.
    pub async fn bootstrap_lxd(&self, request: BootstrapLxd) -> Result<(), HostError> {
        self.is_meant(&request.name)?;
        let _one = self.one_change()?;
        lxd_form::bootstrap(self.lxd_socket.as_deref(), request).await
    }

    /// Makes the standalone instance service join a cluster. Done already is done.
    ///
    /// # Errors
    /// It holds more than was expected, is in another cluster, or the service refused.
    pub async fn join_lxd(&self, request: JoinLxd) -> Result<(), HostError> {
        self.is_meant(&request.name)?;
        let _one = self.one_change()?;
        let _joining = Joining::begin(&self.joining);
        lxd_form::join(self.lxd_socket.as_deref(), request).await
    }

    /// Destroys the signatures on a disk.
    ///
    /// # Errors
    /// It is not the disk that was meant, it is in use, or it cannot be written.
    pub async fn wipe_disk(&self, request: WipeDisk) -> Result<(), HostError> {
        let _one = self.one_change()?;
        wipe::wipe(&self.roots, request).await
    }

    fn is_meant(&self, name: &str) -> Result<(), HostError> {
        if name == self.name {
            return Ok(());
        }
        Err(HostError::GuardFailed {
            reason: format!("this machine is `{}`, not `{name}`", self.name),
        })
    }

    fn one_change(&self) -> Result<tokio::sync::MutexGuard<'_, ()>, HostError> {
        self.changing
            .try_lock()
            .map_err(|_| HostError::GuardFailed {
                reason: format!("another change of `{}` is still running", self.name),
            })
    }

    fn read_line(&self, path: &str) -> String {
        fs::read_to_string(self.roots.proc.join(path))
            .map(|text| text.trim().to_owned())
            .unwrap_or_default()
    }
}
