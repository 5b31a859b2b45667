//! The machine this program runs on: its disks, its interfaces, its instance service.

mod ceph;
mod ceph_conf;
mod ceph_daemons;
mod ceph_form;
mod ceph_label;
mod ceph_osd;
mod ceph_osd_begun;
mod ceph_osd_check;
mod ceph_osd_dirs;
mod disk_beat;
mod disk_links;
mod disk_use;
mod disks;
mod half_made;
mod interfaces;
mod join_remains;
#[cfg(test)]
mod loop_fixture;
mod lxd;
mod lxd_form;
mod lxd_recover;
mod lxd_unjoin;
mod mounts;
mod ovn;
mod ovn_central;
mod ovn_chassis;
mod ovn_leave;
mod ovn_routers;
mod ovn_tls;
mod ovn_watch;
mod paths;
mod root_disk;
mod signatures;
mod wipe;
mod wipefs;

pub use lxd::find_lxd_socket;
pub use lxd_recover::{Majority, majority, recover};
pub use ovn::OvnTurn;
pub use ovn_watch::{OvnChanges, follow_ovn};
pub use paths::answer_paths;

use join_remains::{Begun, JoinRemains};
use lxd_unjoin::{Became, JoinMark};

use super::types::{
    BootstrapLxd, ClearHalfMade, HostError, HostReport, JoinLxd, LxdReport, LxdState, UndoJoin,
    WipeDisk,
};
use super::{CephAnswer, CephRequest};
use crate::services::ceph::Bridge;
use crate::services::lxd::Lxd;
use crate::services::peer::VERSION;
use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{RwLock, RwLockReadGuard};

/// How long the service may take to tell what it is: less than a caller waits for the report.
const LXD_ANSWER: Duration = Duration::from_secs(7);

/// How long a change of OVN waits for the one before it.
const OVN_TURN: Duration = Duration::from_secs(60);

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
    /// Held for writing while the service joins a cluster, and for reading by whoever asks it
    /// something: a question in the midst of a join hangs and can hold the join up.
    asking: RwLock<()>,
    /// The service as it was seen last.
    seen: Mutex<Option<LxdState>>,
    /// Whether a join was begun and has not ended, also over restarts.
    join_mark: JoinMark,
    /// Where this program keeps its state.
    state_dir: PathBuf,
    /// Held by what changes OVN: one change at a time, beside other changes of the machine.
    changing_ovn: tokio::sync::Mutex<()>,
    /// Held by what changes Ceph here, but OSDs.
    changing_ceph: tokio::sync::Mutex<()>,
    /// Held by what changes OSDs here.
    changing_osds: tokio::sync::Mutex<()>,
    /// Since when somebody wants a bridge cleared away that was not made to its end.
    asked_to_clear: Mutex<HashMap<String, Instant>>,
    /// Disks that are being read; one that hangs is not asked again until it answers.
    probing: Arc<Mutex<HashSet<DeviceNumber>>>,
    /// The way to the Ceph cluster this machine belongs to.
    bridge: Arc<Bridge>,
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

impl LocalHost {
    /// This machine as member `name`. The instance service is at `lxd_socket`, or at the first of
    /// the known places.
    pub fn new(name: &str, lxd_socket: Option<PathBuf>) -> LocalHost {
        LocalHost {
            name: name.to_owned(),
            roots: Roots::default(),
            lxd_socket,
            changing: tokio::sync::Mutex::default(),
            asking: RwLock::default(),
            seen: Mutex::default(),
            join_mark: JoinMark::default(),
            state_dir: "/var/lib/microcloud".into(),
            changing_ovn: tokio::sync::Mutex::default(),
            changing_ceph: tokio::sync::Mutex::default(),
            changing_osds: tokio::sync::Mutex::default(),
            asked_to_clear: Mutex::default(),
            probing: Arc::default(),
            bridge: Arc::default(),
        }
    }

    /// The way to the Ceph cluster this machine belongs to.
    pub fn ceph_bridge(&self) -> Arc<Bridge> {
        self.bridge.clone()
    }

    /// The units of Ceph's daemons that run now, in order: read from the kernel, which costs next
    /// to nothing.
    pub fn ceph_running(&self) -> Vec<String> {
        ceph::running(&self.roots)
    }

    /// A number that changes when a disk comes or goes; costs next to nothing.
    pub fn disks_now(&self) -> u64 {
        disk_beat::now(&self.roots)
    }

    fn ceph_host(&self) -> ceph::CephHost {
        ceph::CephHost::new(self.bridge.clone(), self.roots.clone())
    }

    /// Keeps its state in this directory: OVN's authority, and that a join was begun, so that one
    /// that was cut in two is known
    /// after a restart as well, and can be undone.
    #[must_use]
    pub fn remembering_in(self, state_dir: &std::path::Path) -> LocalHost {
        LocalHost {
            join_mark: JoinMark::in_dir(state_dir),
            state_dir: state_dir.to_owned(),
            ..self
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
        let paths = self.ovn_paths();
        let (lxd, ovn, disks, interfaces) = tokio::join!(
            self.lxd(),
            ovn::report(&paths),
            disks::report(&self.roots, &self.probing),
            interfaces::report(&self.roots),
        );
        let disks = disks?;
        let ceph = self.ceph_host().report(&disks).await;
        Ok(HostReport {
            name: self.name.clone(),
            agent_version: VERSION.to_owned(),
            fingerprint: fingerprint.to_owned(),
            machine_id: fs::read_to_string("/etc/machine-id")
                .map(|id| id.trim().to_owned())
                .unwrap_or_default(),
            boot_id: self.boot_id(),
            lxd,
            ovn,
            disks,
            interfaces: interfaces?,
            ceph,
        })
    }

    /// Leave to ask the instance service something, until dropped; `None` while it joins a
    /// cluster, when it must be left alone.
    pub fn may_ask_lxd(&self) -> Option<RwLockReadGuard<'_, ()>> {
        self.asking.try_read().ok()
    }

    /// Looks at the instance service; while it joins, tells what it was before. What became of a
    /// join that an earlier run of this agent began shows as well.
    async fn lxd(&self) -> LxdReport {
        let seen = || self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(_leave) = self.may_ask_lxd() else {
            let before = seen().clone().unwrap_or_default();
            return LxdReport::Running(LxdState {
                joining: true,
                ..before
            });
        };
        let given = self.lxd_socket.as_deref();
        let (answered, became) = tokio::join!(
            tokio::time::timeout(LXD_ANSWER, lxd::report(given)),
            self.look_at_join(),
        );
        let mut report = answered.unwrap_or_else(|_| LxdReport::NotRunning {
            reason: format!("it did not answer within {} s", LXD_ANSWER.as_secs()),
        });
        *seen() = match &report {
            LxdReport::Running(state) => Some(state.clone()),
            _ => None,
        };
        match (became, &mut report) {
            (Became::Cut, _) => return LxdReport::JoinCut,
            (Became::Runs, LxdReport::Running(state)) => state.joining = true,
            (Became::Runs | Became::Ended, _) => {}
        }
        report
    }

    /// What became of a join that was begun and that no call here waits for.
    async fn look_at_join(&self) -> Became {
        let Some(age) = self.join_mark.age() else {
            return Became::Ended;
        };
        let socket = find_lxd_socket(self.lxd_socket.as_deref());
        let Some(lxd) = socket.and_then(|socket| Lxd::unix(socket).ok()) else {
            return Became::Ended;
        };
        let became = lxd_unjoin::became(&lxd, age).await;
        if became == Became::Ended {
            self.end_join(&lxd).await;
        }
        became
    }

    /// Clears away what a join left that did not come to its end, and forgets it.
    async fn end_join(&self, lxd: &Lxd) {
        let begun = self.join_mark.begun();
        let remains = JoinRemains {
            roots: &self.roots,
            probing: &self.probing,
            socket: find_lxd_socket(self.lxd_socket.as_deref()),
            lxd,
        };
        if let Err(error) = remains.clear(&begun).await {
            tracing::warn!(%error, "what a join left is not cleared away");
        }
        self.join_mark.clear();
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
        // What reports say until it is over.
        self.lxd().await;
        let _nobody_else = self.asking.write().await;
        let disks = disks::report(&self.roots, &self.probing).await?;
        // What an earlier join was begun with is still its to clear away.
        let begun = Begun::of(&request, &disks).and(self.join_mark.begun());
        let socket = self.lxd_socket.as_deref();
        let (joined, ended) = lxd_form::join(socket, request, &self.join_mark, &begun).await;
        // As long as it is not known how it ended, the mark stays.
        if ended {
            match find_lxd_socket(socket).and_then(|socket| Lxd::unix(socket).ok()) {
                Some(lxd) => self.end_join(&lxd).await,
                None => self.join_mark.clear(),
            }
        }
        joined
    }

    /// Undoes a join that was cut in two: the service starts anew, in no cluster.
    ///
    /// # Errors
    /// That is not what it is in, or it cannot be stopped and started.
    pub async fn undo_join(&self, request: UndoJoin) -> Result<(), HostError> {
        self.is_meant(&request.name)?;
        let _one = self.one_change()?;
        self.lxd().await;
        let _nobody_else = self.asking.write().await;
        let Some(socket) = find_lxd_socket(self.lxd_socket.as_deref()) else {
            return Err(HostError::Failed {
                reason: "the socket of the service is gone".to_owned(),
            });
        };
        let cut = match (Lxd::unix(&socket), self.join_mark.age()) {
            (Ok(lxd), Some(age)) => lxd_unjoin::became(&lxd, age).await == Became::Cut,
            (Ok(lxd), None) => lxd_unjoin::half_joined(&lxd).await,
            (Err(_), _) => false,
        };
        if !cut {
            return Err(HostError::GuardFailed {
                reason: "there is no join here to be undone: it has ended, or still may".to_owned(),
            });
        }
        lxd_unjoin::undo(&socket).await?;
        match Lxd::unix(&socket) {
            Ok(lxd) => self.end_join(&lxd).await,
            Err(_) => self.join_mark.clear(),
        }
        Ok(())
    }

    /// Clears away what is left of something that the service began to make and did not.
    ///
    /// # Errors
    /// It may still be making it, or what is left is not what it leaves.
    pub async fn clear_half_made(&self, request: ClearHalfMade) -> Result<(), HostError> {
        self.is_meant(&request.name)?;
        let _one = self.one_change()?;
        let socket =
            find_lxd_socket(self.lxd_socket.as_deref()).ok_or_else(|| HostError::Failed {
                reason: "the socket of the service is gone".to_owned(),
            })?;
        let lxd = Lxd::unix(&socket).map_err(|e| HostError::Failed {
            reason: e.to_string(),
        })?;
        let half = half_made::HalfMades {
            roots: &self.roots,
            probing: &self.probing,
            asked: &self.asked_to_clear,
            socket: &socket,
            lxd: &lxd,
            member: &self.name,
        };
        half.clear(request.what).await
    }

    /// Destroys the signatures on a disk.
    ///
    /// # Errors
    /// It is not the disk that was meant, it is in use, or it cannot be written.
    pub async fn wipe_disk(&self, request: WipeDisk) -> Result<(), HostError> {
        let _one = self.one_change()?;
        wipe::wipe(&self.roots, request).await
    }

    /// Looks after Ceph on this machine.
    ///
    /// # Errors
    /// What was expected does not hold any more, or it failed.
    pub async fn ceph(&self, request: CephRequest) -> Result<CephAnswer, HostError> {
        let turn = match &request {
            CephRequest::Access => return self.ceph_host().ask(request).await,
            CephRequest::CreateOsd { .. }
            | CephRequest::StartOsd { .. }
            | CephRequest::StopOsd { .. } => &self.changing_osds,
            _ => &self.changing_ceph,
        };
        let _one = turn.try_lock().map_err(|_| HostError::Busy {
            reason: format!("another change of Ceph on `{}` is still running", self.name),
        })?;
        self.ceph_host().ask(request).await
    }

    fn ovn_paths(&self) -> ovn::OvnPaths {
        ovn::OvnPaths::real(&self.state_dir)
    }

    /// Waits a moment for another change of OVN to end.
    async fn one_ovn_change(&self) -> Result<tokio::sync::MutexGuard<'_, ()>, HostError> {
        tokio::time::timeout(OVN_TURN, self.changing_ovn.lock())
            .await
            .map_err(|_| HostError::Busy {
                reason: format!("another change of OVN on `{}` is still running", self.name),
            })
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
        self.changing.try_lock().map_err(|_| HostError::Busy {
            reason: format!("another change of `{}` is still running", self.name),
        })
    }

    fn read_line(&self, path: &str) -> String {
        fs::read_to_string(self.roots.proc.join(path))
            .map(|text| text.trim().to_owned())
            .unwrap_or_default()
    }
}

/// An error with its causes, on one line.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text = format!("{text}: {source}");
        next = source.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn while_it_joins_the_service_is_not_asked_and_told_as_before() {
        let nowhere = Some(PathBuf::from("/nowhere/unix.socket"));
        let host = LocalHost::new("m", nowhere);
        assert!(matches!(host.lxd().await, LxdReport::NotRunning { .. }));
        let before = LxdState {
            version: "5.0.2".to_owned(),
            ..LxdState::default()
        };
        *host.seen.lock().unwrap() = Some(before.clone());
        let joining = host.asking.write().await;
        assert!(host.may_ask_lxd().is_none());
        let expected = LxdState {
            joining: true,
            ..before
        };
        assert_eq!(host.lxd().await, LxdReport::Running(expected));
        drop(joining);
        assert!(host.may_ask_lxd().is_some());
        assert!(matches!(host.lxd().await, LxdReport::NotRunning { .. }));
    }

    #[tokio::test]
    async fn one_change_at_a_time_and_only_of_this_machine() {
        let host = LocalHost::new("m", Some(PathBuf::from("/nowhere/unix.socket")));
        let request = |name: &str| BootstrapLxd {
            name: name.to_owned(),
            address: "10.0.0.1".parse().unwrap(),
        };
        let refused = host.bootstrap_lxd(request("n")).await;
        assert!(
            matches!(&refused, Err(HostError::GuardFailed { reason }) if reason.contains("is `m`, not `n`")),
            "{refused:?}"
        );
        let running = host.changing.lock().await;
        let refused = host.bootstrap_lxd(request("m")).await;
        assert!(
            matches!(&refused, Err(HostError::Busy { reason }) if reason.contains("still running")),
            "{refused:?}"
        );
        drop(running);
        let tried = host.bootstrap_lxd(request("m")).await;
        assert!(matches!(tried, Err(HostError::Failed { .. })), "{tried:?}");
    }
}
