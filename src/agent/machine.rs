//! The machine this agent runs on, as the controller sees it: the epoch is checked before
//! anything is looked at or done, also when the controller is this agent itself.

use super::epoch::{EpochBook, EpochError};
use super::lxd_watch::LxdStarted;
use super::trust::TrustBook;
use super::with_causes;
use crate::services::host::local::{LocalHost, OvnChanges};
use crate::services::host::{
    Beat, BootstrapLxd, CephAnswer, CephRequest, ClearHalfMade, Host, HostError, HostReport,
    JoinLxd, OvnAnswer, OvnRequest, PathsReport, PathsRequest, TrustStore, UndoJoin, WipeDisk,
};
use crate::services::peer::{Claim, Fingerprint, VERSION};
use async_trait::async_trait;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How long a caller waits at most for something of OVN to change.
const AWAITED: Duration = Duration::from_secs(30);

/// How long a small file of this agent's own may take to be written.
const DISK: Duration = Duration::from_secs(10);

/// Who asks, proven by the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The member.
    pub name: String,
    /// The epoch it leads with; `None` when it does not lead.
    pub epoch: Option<u64>,
}

/// This machine with what its agent knows.
#[derive(Debug)]
pub struct Machine {
    /// The machine itself.
    pub local: LocalHost,
    /// The fingerprint of the agent's key.
    pub fingerprint: Fingerprint,
    /// The trusted keys.
    pub trust: Arc<TrustBook>,
    /// The highest epoch, and this agent's own claim.
    pub epochs: Arc<EpochBook>,
    /// When the service beside this agent started.
    pub lxd_started: LxdStarted,
    /// Changes with OVN and Open vSwitch on this machine.
    pub ovn_changes: OvnChanges,
    /// The port on which agents listen.
    pub port: u16,
    /// The newest version of the controller's memory it has seen, while this agent leads; the
    /// controller keeps it up to date.
    pub memory_version: AtomicU64,
    /// The version of what the controller shows, likewise.
    pub shown: AtomicU64,
}

impl Machine {
    /// Looks at the machine.
    ///
    /// # Errors
    /// The caller's epoch is stale, or the machine cannot be read.
    pub async fn report(self: &Arc<Self>, caller: &Caller) -> Result<HostReport, HostError> {
        self.check(caller).await?;
        self.local.report(self.fingerprint.as_str()).await
    }

    /// The cheap look.
    ///
    /// # Errors
    /// The caller's epoch is stale.
    pub async fn beat(self: &Arc<Self>, caller: &Caller) -> Result<Beat, HostError> {
        self.check(caller).await?;
        let highest = self.epochs.highest();
        Ok(Beat {
            name: self.local.name().to_owned(),
            version: VERSION.to_owned(),
            epoch: highest.number,
            holder: highest.holder,
            trust_version: self.trust.version(),
            memory_version: self.memory_version.load(Ordering::Relaxed),
            leading: self.epochs.epoch().is_some(),
            shown: self.shown.load(Ordering::Relaxed),
            lxd_started: self.lxd_started.get(),
            boot_id: self.local.boot_id(),
            ovn: self.ovn_changes.get(),
            ceph: self.local.ceph_running(),
            disks: self.local.disks_now(),
        })
    }

    /// Makes the LXD of this machine the first member.
    ///
    /// # Errors
    /// The caller does not lead, or it failed.
    pub async fn bootstrap_lxd(
        self: &Arc<Self>,
        caller: &Caller,
        request: BootstrapLxd,
    ) -> Result<(), HostError> {
        self.change(caller, move |machine| async move {
            machine.local.bootstrap_lxd(request).await
        })
        .await
    }

    /// Makes the LXD of this machine join.
    ///
    /// # Errors
    /// The caller does not lead, or it failed.
    pub async fn join_lxd(
        self: &Arc<Self>,
        caller: &Caller,
        request: JoinLxd,
    ) -> Result<(), HostError> {
        self.change(caller, move |machine| async move {
            machine.local.join_lxd(request).await
        })
        .await
    }

    /// Undoes a join of the LXD of this machine that was cut in two.
    ///
    /// # Errors
    /// The caller does not lead, there is none, or it failed.
    pub async fn undo_join(
        self: &Arc<Self>,
        caller: &Caller,
        request: UndoJoin,
    ) -> Result<(), HostError> {
        self.change(caller, move |machine| async move {
            machine.local.undo_join(request).await
        })
        .await
    }

    /// Clears away what is left of something that was not made to its end.
    ///
    /// # Errors
    /// The caller does not lead, it may still be made, or it failed.
    pub async fn clear_half_made(
        self: &Arc<Self>,
        caller: &Caller,
        request: ClearHalfMade,
    ) -> Result<(), HostError> {
        self.change(caller, move |machine| async move {
            machine.local.clear_half_made(request).await
        })
        .await
    }

    /// Destroys the signatures on a disk.
    ///
    /// # Errors
    /// The caller does not lead, it is not the disk that was meant, or it failed.
    pub async fn wipe_disk(
        self: &Arc<Self>,
        caller: &Caller,
        request: WipeDisk,
    ) -> Result<(), HostError> {
        self.change(caller, move |machine| async move {
            machine.local.wipe_disk(request).await
        })
        .await
    }

    /// Looks after Ceph.
    ///
    /// # Errors
    /// The caller does not lead, or it failed.
    pub async fn ceph(
        self: &Arc<Self>,
        caller: &Caller,
        request: CephRequest,
    ) -> Result<CephAnswer, HostError> {
        self.change(caller, move |machine| async move {
            machine.local.ceph(request).await
        })
        .await
    }

    /// Looks after OVN.
    ///
    /// # Errors
    /// The caller does not lead, or it failed.
    pub async fn ovn(
        self: &Arc<Self>,
        caller: &Caller,
        request: OvnRequest,
    ) -> Result<OvnAnswer, HostError> {
        if let OvnRequest::AwaitChange { known } = request {
            self.check(caller).await?;
            let number = self.ovn_changes.after(known, AWAITED).await;
            return Ok(OvnAnswer::Changes(number));
        }
        let asking = caller.clone();
        self.change(caller, move |machine| async move {
            let turn = machine.local.ovn_turn(&request).await?;
            // While it waited another one may have taken over.
            machine.check(&asking).await?;
            machine.local.ovn(turn, request).await
        })
        .await
    }

    /// Tries which packets get to other machines, whose agents listen on the same port.
    ///
    /// # Errors
    /// The caller's epoch is stale, or the interfaces cannot be read.
    pub async fn paths(
        self: &Arc<Self>,
        caller: &Caller,
        request: PathsRequest,
    ) -> Result<PathsReport, HostError> {
        self.check(caller).await?;
        self.local.paths(self.port, request).await
    }

    /// Takes over the cluster's trust store.
    ///
    /// # Errors
    /// The caller does not lead, or the store is older or not valid.
    pub async fn set_trust(
        self: &Arc<Self>,
        caller: &Caller,
        trust: TrustStore,
    ) -> Result<(), HostError> {
        self.change(caller, move |machine| async move {
            blocking(move || machine.trust.set_store(trust).map_err(HostError::from)).await
        })
        .await
    }

    /// Runs a change in a task of its own: a caller that stops waiting does not cut it in two.
    async fn change<F, W, T>(self: &Arc<Self>, caller: &Caller, work: F) -> Result<T, HostError>
    where
        F: FnOnce(Arc<Machine>) -> W,
        W: Future<Output = Result<T, HostError>> + Send + 'static,
        T: Send + 'static,
    {
        if caller.epoch.is_none() {
            return Err(HostError::GuardFailed {
                reason: format!(
                    "`{}` does not lead: only the leading agent changes a machine",
                    caller.name
                ),
            });
        }
        self.check(caller).await?;
        tokio::spawn(work(Arc::clone(self)))
            .await
            .unwrap_or_else(|e| {
                Err(HostError::Failed {
                    reason: format!("the change was broken off: {e}"),
                })
            })
    }

    /// Refuses a stale epoch; records a new one.
    async fn check(self: &Arc<Self>, caller: &Caller) -> Result<(), HostError> {
        let Some(epoch) = caller.epoch else {
            return Ok(());
        };
        let highest = self.epochs.highest();
        if highest.number == epoch && highest.holder == caller.name {
            return Ok(());
        }
        let (machine, caller) = (Arc::clone(self), caller.clone());
        blocking(move || match machine.epochs.admit(epoch, &caller.name) {
            Ok(()) => Ok(()),
            Err(EpochError::Stale { number, .. }) => Err(HostError::StaleEpoch {
                name: machine.local.name().to_owned(),
                known: number,
                ours: epoch,
            }),
            Err(error) => Err(HostError::Failed {
                reason: with_causes(&error),
            }),
        })
        .await
    }
}

/// Runs what waits for the disk where it holds nothing up. When the disk does not answer in time
/// the caller is told so, and it may still be done.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, HostError> + Send + 'static,
) -> Result<T, HostError> {
    blocking_within(DISK, work).await
}

async fn blocking_within<T: Send + 'static>(
    limit: Duration,
    work: impl FnOnce() -> Result<T, HostError> + Send + 'static,
) -> Result<T, HostError> {
    let failed = |reason: String| Err(HostError::Failed { reason });
    let working = tokio::task::spawn_blocking(work);
    match tokio::time::timeout(limit, working).await {
        Ok(Ok(done)) => done,
        Ok(Err(e)) => failed(format!("the work was broken off: {e}")),
        Err(_) => failed(format!(
            "the disk with this agent's state did not answer within {} s",
            limit.as_secs()
        )),
    }
}

/// This machine, for the controller in this agent.
#[derive(Debug, Clone)]
pub struct OwnHost(pub Arc<Machine>);

impl OwnHost {
    fn caller(&self) -> Caller {
        Caller {
            name: self.0.local.name().to_owned(),
            epoch: self.0.epochs.epoch(),
        }
    }
}

#[async_trait]
impl Host for OwnHost {
    async fn report(&self) -> Result<HostReport, HostError> {
        self.0.report(&self.caller()).await
    }

    async fn beat(&self) -> Result<Beat, HostError> {
        self.0.beat(&self.caller()).await
    }

    async fn bootstrap_lxd(&self, request: BootstrapLxd) -> Result<(), HostError> {
        self.0.bootstrap_lxd(&self.caller(), request).await
    }

    async fn join_lxd(&self, request: JoinLxd) -> Result<(), HostError> {
        self.0.join_lxd(&self.caller(), request).await
    }

    async fn undo_join(&self, request: UndoJoin) -> Result<(), HostError> {
        self.0.undo_join(&self.caller(), request).await
    }

    async fn clear_half_made(&self, request: ClearHalfMade) -> Result<(), HostError> {
        self.0.clear_half_made(&self.caller(), request).await
    }

    async fn wipe_disk(&self, request: WipeDisk) -> Result<(), HostError> {
        self.0.wipe_disk(&self.caller(), request).await
    }

    async fn ceph(&self, request: CephRequest) -> Result<CephAnswer, HostError> {
        self.0.ceph(&self.caller(), request).await
    }

    async fn ovn(&self, request: OvnRequest) -> Result<OvnAnswer, HostError> {
        self.0.ovn(&self.caller(), request).await
    }

    async fn paths(&self, request: PathsRequest) -> Result<PathsReport, HostError> {
        self.0.paths(&self.caller(), request).await
    }

    async fn set_trust(&self, trust: TrustStore) -> Result<(), HostError> {
        self.0.set_trust(&self.caller(), trust).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(state: &std::path::Path) -> Arc<Machine> {
        Arc::new(Machine {
            local: LocalHost::new("m", None).remembering_in(state),
            fingerprint: Fingerprint::of_public_key(b"a key"),
            trust: Arc::new(TrustBook::open(state).unwrap()),
            epochs: Arc::new(EpochBook::open(state).unwrap()),
            lxd_started: LxdStarted::default(),
            ovn_changes: OvnChanges::default(),
            port: 1,
            memory_version: AtomicU64::new(0),
            shown: AtomicU64::new(0),
        })
    }

    fn caller(name: &str, epoch: u64) -> Caller {
        Caller {
            name: name.to_owned(),
            epoch: Some(epoch),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_waited_for_its_turn_is_not_done_for_one_who_controls_no_more() {
        let dir = tempfile::tempdir().unwrap();
        let machine = machine(dir.path());
        // Refused for the name when it is done, so that nothing of it touches this machine.
        let request = || OvnRequest::RequestCertificate {
            name: "another".to_owned(),
            addresses: Vec::new(),
        };
        let turn = machine.local.ovn_turn(&request()).await.unwrap();
        let (waiting, old) = (Arc::clone(&machine), caller("a", 1));
        let waiting = tokio::spawn(async move { waiting.ovn(&old, request()).await });
        while machine.epochs.highest().number == 0 {
            tokio::task::yield_now().await;
        }
        machine.epochs.admit(2, "b").unwrap();
        drop(turn);
        let refused = waiting.await.unwrap();
        assert!(
            matches!(
                refused,
                Err(HostError::StaleEpoch {
                    known: 2,
                    ours: 1,
                    ..
                })
            ),
            "{refused:?}"
        );
        let done = machine.ovn(&caller("b", 2), request()).await;
        assert!(
            matches!(done, Err(HostError::GuardFailed { .. })),
            "{done:?}"
        );
    }

    #[tokio::test]
    async fn a_disk_that_does_not_answer_is_waited_for_with_an_end() {
        let (answer, answered) = std::sync::mpsc::channel::<()>();
        let hangs = blocking_within(Duration::from_millis(50), move || {
            let _ = answered.recv_timeout(Duration::from_secs(30));
            Ok(())
        });
        let given_up = hangs.await;
        drop(answer);
        assert!(
            matches!(&given_up, Err(HostError::Failed { reason }) if reason.contains("disk")),
            "{given_up:?}"
        );
    }
}
