//! Notices when the LXD beside the agent has started: everything read from it before is old then.

use crate::services::host::local::find_lxd_socket;
use crate::services::lxd::{Event, Lxd};
use futures_util::StreamExt;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use std::time::{SystemTime, UNIX_EPOCH};
use tokio_util::sync::CancellationToken;

/// How often a machine without LXD is looked at for one.
const ABSENT: Duration = Duration::from_secs(10);

/// A word that changes whenever the LXD beside the agent started or the connection to it broke;
/// empty while there is no connection. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct LxdStarted(Arc<RwLock<String>>);

impl LxdStarted {
    /// The word now.
    pub fn get(&self) -> String {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn set(&self, word: String) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = word;
    }
}

/// Keeps one stream of events open, only to see it break. While nothing happens this costs a
/// ping every ten seconds.
pub async fn watch(socket: Option<PathBuf>, started: LxdStarted, stop: CancellationToken) {
    tokio::select! {
        () = stop.cancelled() => {}
        () = watch_for_ever(socket, &started) => {}
    }
}

async fn watch_for_ever(socket: Option<PathBuf>, started: &LxdStarted) {
    // The count begins anew with the agent, the word must not.
    let agent = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_millis());
    let mut count = 0u64;
    loop {
        let found = find_lxd_socket(socket.as_deref());
        let Some(lxd) = found.and_then(|path| Lxd::unix(path).ok()) else {
            tokio::time::sleep(ABSENT).await;
            continue;
        };
        let mut events = pin!(lxd.events());
        while let Some(event) = events.next().await {
            match event {
                Event::Connected => {
                    count += 1;
                    started.set(format!("{agent}.{count}"));
                }
                Event::Lost(error) => {
                    if !started.get().is_empty() {
                        tracing::info!(%error, "the connection to LXD broke");
                    }
                    started.set(String::new());
                    if find_lxd_socket(socket.as_deref()).is_none() {
                        break; // uninstalled, or moved to another place
                    }
                }
                Event::Lifecycle(_) => {}
            }
        }
    }
}
