//! Bringing LXD's database back when most of its servers are lost for good.
//!
//! # Guarantees
//! - Nothing is done while the database has its majority: it says so itself, asked just before.
//! - The database is copied before the service's own command touches it.
//! - The service is started again whatever became of it.

use super::lxd_unjoin::{SERVICES, Service, run, systemctl};
use crate::services::host::types::HostError;
use crate::services::lxd::Lxd;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// How long the service may take to tell its members: without a majority it does not.
const MAJORITY: Duration = Duration::from_secs(12);

/// How long the service may take until its database answers again.
const BACK: Duration = Duration::from_secs(120);

/// The pause between two looks.
const LOOK: Duration = Duration::from_millis(500);

/// How the database of a service is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Majority {
    /// It answers.
    There,
    /// The service answers, and its database does not.
    Lost,
    /// The service is in no cluster.
    Alone,
    /// The service does not answer.
    Silent,
}

/// Whether the database of the service has its majority.
pub async fn majority(socket: &Path) -> Majority {
    let Ok(lxd) = Lxd::unix(socket) else {
        return Majority::Silent;
    };
    match timeout(MAJORITY, lxd.server()).await {
        Ok(Ok(server)) if !server.value.environment.server_clustered => return Majority::Alone,
        Ok(Ok(_)) => {}
        _ => return Majority::Silent,
    }
    match timeout(MAJORITY, lxd.members()).await {
        Ok(Ok(_)) => Majority::There,
        _ => Majority::Lost,
    }
}

/// Makes the database of this machine's service one of its own: the service is stopped, its
/// database copied, brought back by the service's own command, and the service started. Returns
/// where the copy is.
///
/// # Errors
/// The service is at no known place, a command failed, or the database does not answer afterwards.
pub async fn recover(socket: &Path) -> Result<PathBuf, HostError> {
    let directory = socket.parent().unwrap_or(socket);
    let service = SERVICES
        .iter()
        .find(|s| Path::new(s.directory) == directory)
        .ok_or_else(|| {
            failed(format!(
                "{} is at no known place: stop the service, run its `cluster \
                 recover-from-quorum-loss` and start it",
                directory.display()
            ))
        })?;
    tracing::warn!(
        directory = service.directory,
        "bringing the database back with this machine alone"
    );
    // It does not stop by itself: it waits for the database.
    let _ = systemctl(&["stop", "--no-block", service.socket, service.daemon]).await;
    let _ = systemctl(&["kill", "--signal=KILL", service.daemon]).await;
    systemctl(&["stop", service.socket, service.daemon])
        .await
        .map_err(failed)?;
    let done = alone(service).await;
    // Its own start waits until it is ready, which is looked at below.
    let started = systemctl(&["start", "--no-block", service.socket, service.daemon]).await;
    let copy = done?;
    started.map_err(failed)?;
    let end = Instant::now() + BACK;
    while majority(socket).await != Majority::There {
        if Instant::now() >= end {
            return Err(failed(format!(
                "the database does not answer {} s after it was brought back; the copy from before \
                 is {}",
                BACK.as_secs(),
                copy.display()
            )));
        }
        sleep(LOOK).await;
    }
    Ok(copy)
}

/// Copies the database and has the service's own command make it one of this machine alone.
async fn alone(service: &Service) -> Result<PathBuf, HostError> {
    let stamp = jiff::Timestamp::now().as_second();
    let directory = Path::new(service.directory);
    let copy = directory.join(format!("database.before-recovery-{stamp}"));
    let from = directory.join("database").display().to_string();
    let to = copy.display().to_string();
    run("cp", &["--archive", &from, &to])
        .await
        .map_err(failed)?;
    let words = ["cluster", "recover-from-quorum-loss", "--quiet"];
    run(service.program, &words).await.map_err(|e| {
        failed(format!(
            "{e}; nothing else was changed, and the service is started as it was"
        ))
    })?;
    Ok(copy)
}

fn failed(reason: String) -> HostError {
    HostError::Failed { reason }
}
