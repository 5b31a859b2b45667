//! Writing the memory: changes of a round go out as one write, and who needs a change to be safe
//! waits for it.

use super::{Ended, Inner};
use crate::reconcile::history::Severity;
use crate::reconcile::memory::Memory;
use crate::reconcile::store::{Read, StoreError};
use crate::services::lxd::LxdError;
use jiff::Timestamp;
use std::sync::Arc;
use std::time::Duration;

/// How far the memory is written.
#[derive(Debug, Clone, Default)]
pub(super) struct Flushed {
    /// The version that is safe.
    version: u64,
    /// Why the last write failed, if it did, and how many failed so far.
    error: Option<(u64, String)>,
}

/// How long changes that somebody waits for are gathered before they are written.
const GATHER: Duration = Duration::from_millis(5);

/// How long changes are gathered that nobody waits for: what is recorded of objects that are done.
const GATHER_RECORDS: Duration = Duration::from_secs(1);

/// The pause after a write that failed.
const PAUSE: Duration = Duration::from_secs(1);

/// How long the write at the end may take.
const LAST_WRITE: Duration = Duration::from_secs(3);

/// How long a lease that was read counts as held before a write.
const LEASE_TRUSTED: Duration = Duration::from_secs(2);

/// Writes the memory whenever it changed.
pub(super) async fn run(inner: Arc<Inner>) {
    let mut failures = 0;
    loop {
        // Cancel safe: a notification that is dropped here is for a controller that stops.
        tokio::select! {
            () = inner.cancel.cancelled() => return,
            () = inner.urgent.notified() => {}
            () = inner.flushes.notified() => {
                tokio::select! {
                    () = inner.cancel.cancelled() => return,
                    () = inner.urgent.notified() => {}
                    () = tokio::time::sleep(GATHER_RECORDS) => {}
                }
            }
        }
        tokio::time::sleep(GATHER).await;
        loop {
            let (version, memory, stored) = {
                let state = inner.state();
                (
                    state.memory_version,
                    state.memory.clone(),
                    state.stored.clone(),
                )
            };
            if version == inner.flushed.borrow().version {
                break;
            }
            // What changed and changed back, as right after a start, is no reason to write.
            if stored.as_ref().is_some_and(|read| read.memory == memory) {
                inner.flushed.send_replace(Flushed {
                    version,
                    error: None,
                });
                break;
            }
            let result = match &stored {
                Some(read) => inner.store.write(read, &memory).await,
                None => inner.store.create(&memory).await,
            };
            match result {
                Ok(read) => {
                    wrote(&memory, stored.as_deref());
                    let mut state = inner.state();
                    if read.memory.lease != memory.lease {
                        let holder = read.memory.lease.holder.clone();
                        drop(state);
                        inner.end(Ended::Superseded(holder));
                        return;
                    }
                    state.stored = Some(Arc::new(read));
                    state.lease_confirmed = Some(inner.clock.now());
                    state.counters.memory_writes += 1;
                    drop(state);
                    inner.flushed.send_replace(Flushed {
                        version,
                        error: None,
                    });
                    // Who changed it meanwhile has said so.
                    break;
                }
                Err(StoreError::Taken { holder, .. }) => {
                    inner.end(Ended::Superseded(holder));
                    return;
                }
                Err(error) => {
                    failures += 1;
                    let message = error.to_string();
                    let now = inner.clock.now();
                    inner.state().tell(
                        now,
                        None,
                        Severity::Warning,
                        "MemoryNotWritten",
                        message.clone(),
                    );
                    inner
                        .flushed
                        .send_modify(|f| f.error = Some((failures, message)));
                    if changed(&error) && !reread(&inner).await {
                        return;
                    }
                    tokio::select! {
                        () = inner.cancel.cancelled() => return,
                        () = tokio::time::sleep(PAUSE) => {}
                    }
                }
            }
        }
    }
}

/// Writes what was still being gathered when the controller was asked to stop, once. What cannot be
/// written now is found out anew by the next controller.
pub(super) async fn finish(inner: &Inner) {
    if inner.ended.borrow().is_some() {
        return;
    }
    let (version, memory, stored) = {
        let state = inner.state();
        (
            state.memory_version,
            state.memory.clone(),
            state.stored.clone(),
        )
    };
    let Some(read) = stored else { return };
    if version == inner.flushed.borrow().version || read.memory == memory {
        return;
    }
    let write = async {
        inner.confirm_lease(true).await?;
        inner
            .store
            .write(&read, &memory)
            .await
            .map_err(|e| e.to_string())
    };
    match tokio::time::timeout(LAST_WRITE, write).await {
        Ok(Ok(_)) => {
            wrote(&memory, Some(&read));
            inner.state().counters.memory_writes += 1;
        }
        Ok(Err(error)) => tracing::warn!(error, "the last changes of the memory were not written"),
        Err(_) => tracing::warn!("the last changes of the memory were not written in time"),
    }
}

fn wrote(memory: &Memory, before: Option<&Read>) {
    // To compare all of it for nobody would cost as much as the write.
    if !tracing::enabled!(tracing::Level::DEBUG) {
        return;
    }
    let parts = before.map(|b| memory.parts_changed(&b.memory));
    tracing::debug!(?parts, "the memory was written");
}

fn changed(error: &StoreError) -> bool {
    matches!(
        error,
        StoreError::Lxd {
            cause: LxdError::Changed { .. } | LxdError::NotFound { .. },
            ..
        }
    )
}

/// Somebody else wrote the project. If the lease is still ours, ours counts and is written over
/// it; whether to go on is what is returned.
async fn reread(inner: &Arc<Inner>) -> bool {
    match inner.store.read().await {
        Ok(Some(read)) => {
            let mut state = inner.state();
            if read.memory.lease == state.memory.lease {
                state.stored = Some(Arc::new(read));
                return true;
            }
            drop(state);
            inner.end(Ended::Superseded(read.memory.lease.holder));
            false
        }
        Ok(None) => {
            inner.state().stored = None;
            true
        }
        Err(_) => true,
    }
}

impl Inner {
    /// Changes the memory without waiting for it to be written, which is done at once.
    pub(super) fn remember(&self, change: impl FnOnce(&mut Memory)) {
        self.state().remember(change);
        self.urgent.notify_one();
    }

    /// Changes the memory and waits until the change is safe.
    pub(super) async fn commit(&self, change: impl FnOnce(&mut Memory)) -> Result<(), String> {
        let version = self.state().remember(change);
        self.safe(version).await
    }

    /// Waits until a version of the memory is safe.
    pub(super) async fn safe(&self, version: u64) -> Result<(), String> {
        let mut flushed = self.flushed.subscribe();
        let before = flushed.borrow().error.as_ref().map_or(0, |(n, _)| *n);
        self.urgent.notify_one();
        let settled = flushed.wait_for(|f| {
            f.version >= version || f.error.as_ref().is_some_and(|(n, _)| *n > before)
        });
        tokio::select! {
            () = self.cancel.cancelled() => Err("this controller stops".to_owned()),
            outcome = settled => match outcome {
                Ok(f) if f.version >= version => Ok(()),
                Ok(f) => Err(f.error.as_ref().map_or_else(String::new, |(_, e)| e.clone())),
                Err(_) => Err("this controller stops".to_owned()),
            },
        }
    }

    /// Makes sure that this controller still is the one, before it writes anything. Reading the
    /// lease is cheap, and an idle controller does not do it.
    pub(super) async fn confirm_lease(&self, always: bool) -> Result<(), String> {
        let now = self.clock.now();
        let (confirmed, ours, stored) = {
            let state = self.state();
            (
                state.lease_confirmed,
                state.memory.lease.clone(),
                state.stored.is_some(),
            )
        };
        let fresh = |at: Timestamp| crate::reconcile::clock::age(now, at) < LEASE_TRUSTED;
        if !stored || (!always && confirmed.is_some_and(fresh)) {
            return Ok(());
        }
        match self.store.lease().await {
            Ok(Some(lease)) if lease == ours => {
                self.state().lease_confirmed = Some(now);
                Ok(())
            }
            Ok(Some(lease)) => {
                self.end(Ended::Superseded(lease.holder.clone()));
                Err(format!(
                    "{} controls since epoch {}",
                    lease.holder, lease.epoch
                ))
            }
            Ok(None) => Err("the controller's memory is gone from LXD".to_owned()),
            Err(e) => Err(e.to_string()),
        }
    }
}
