//! The watched directory of this agent: it is read again on every hint, and what is read goes to
//! whoever controls.
//!
//! # Guarantees
//! A reading is published only if this agent's previous reading is the accepted revision, or
//! nothing is accepted yet: an agent that comes back with an old copy of the directory changes
//! nothing. It is behind, and says so, until it reads the accepted revision.

use super::office::{Duty, Office};
use crate::reconcile::Controller;
use crate::resources::directory::{self, Watch};
use crate::resources::{Reading, Resource, SourceName};
use axum::http::Method;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// `POST /v1/control/reading`, from an agent that follows to the one that controls.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Publish {
    /// The revision of that agent's previous reading.
    pub previous: Option<String>,
    /// The reading.
    pub reading: Reading,
}

/// What became of a reading.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Verdict {
    /// Whether it is the accepted one now.
    pub accepted: bool,
    /// The accepted revision.
    pub revision: String,
    /// In how many milliseconds the directory is to be read again although nothing changed,
    /// because something that is missing counts as absent then.
    #[serde(default)]
    pub recheck_in: Option<u64>,
}

/// How soon a reading that could not be handed over is tried again.
const AGAIN: Duration = Duration::from_secs(2);

/// How long the controller may take to accept a reading.
const DEADLINE: Duration = Duration::from_secs(60);

/// Watches the directory until `stop`.
pub async fn run(office: Arc<Office>, stop: CancellationToken) {
    let Some(path) = office.directory.clone() else {
        return;
    };
    let mut duty = office.duty.subscribe();
    let mut watch = watch(&path, &stop).await;
    let mut pending: Option<Duration> = None;
    let mut fresh = true;
    loop {
        if fresh {
            read(&office, &path).await;
            fresh = false;
            pending = Some(Duration::ZERO);
        }
        if pending.take().is_some() {
            pending = publish(&office).await;
        }
        let pause = pending.unwrap_or(Duration::MAX);
        // Every arm is cancel safe: a hint or a change that is missed here is seen next time.
        tokio::select! {
            () = stop.cancelled() => return,
            alive = hint(&mut watch) => {
                fresh = true;
                if !alive {
                    watch = self::watch(&path, &stop).await;
                }
            }
            changed = duty.changed() => {
                if changed.is_err() {
                    return;
                }
                pending = Some(Duration::ZERO);
            }
            () = sleep(pause) => fresh = true,
        }
    }
}

async fn sleep(pause: Duration) {
    match pause {
        Duration::MAX => std::future::pending().await,
        pause => tokio::time::sleep(pause).await,
    }
}

async fn watch(path: &Path, stop: &CancellationToken) -> Option<Watch> {
    while !stop.is_cancelled() {
        match directory::watch(path) {
            Ok(watch) => return Some(watch),
            Err(error) => {
                tracing::warn!(%error, path = %path.display(), "the directory cannot be watched yet");
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
    None
}

async fn hint(watch: &mut Option<Watch>) -> bool {
    match watch {
        Some(watch) => watch.hint().await,
        None => std::future::pending().await,
    }
}

/// Reads the directory, valid beside what was applied.
async fn read(office: &Office, path: &Path) {
    let others: Vec<Resource> = office
        .known_resources()
        .into_iter()
        .filter(|r| r.origin.source == SourceName::Applied)
        .collect();
    let path = path.to_owned();
    let reading = tokio::task::spawn_blocking(move || directory::read_beside(&path, &others)).await;
    let reading = match reading {
        Ok(reading) => reading,
        Err(error) => {
            tracing::error!(%error, "reading the directory ended badly");
            return;
        }
    };
    office.show_directory(|shown| {
        shown.revision = Some(reading.revision.clone());
        shown.message.clone_from(&reading.unreadable);
    });
    if office.reading().as_ref() != Some(&reading) {
        for broken in &reading.broken {
            for diagnostic in &broken.diagnostics {
                tracing::warn!("{diagnostic}");
            }
        }
        office.set_reading(reading);
    }
}

/// Hands the last reading to whoever controls; says when to try or to read again.
async fn publish(office: &Office) -> Option<Duration> {
    let reading = office.reading()?;
    let previous = office.published();
    // A directory nobody ever put anything in has nothing to say, and is not behind.
    let empty = reading.resources.is_empty() && reading.broken.is_empty();
    if previous.is_none() && empty && reading.unreadable.is_none() {
        return None;
    }
    let verdict = match office.duty() {
        Duty::Leading(controller) => take(&controller, previous.as_deref(), &reading, false).await,
        Duty::Following(leader) => {
            let body = Publish {
                previous,
                reading: reading.clone(),
            };
            let body = serde_json::to_vec(&body).unwrap_or_default();
            let answer = office
                .client
                .forward(
                    &leader,
                    Method::POST,
                    "/v1/control/reading",
                    body.into(),
                    DEADLINE,
                )
                .await;
            match answer {
                Ok(answer) if answer.status == 200 => {
                    serde_json::from_slice::<Verdict>(&answer.body).map_err(|e| e.to_string())
                }
                Ok(answer) => Err(String::from_utf8_lossy(&answer.body).into_owned()),
                Err(error) => Err(error.to_string()),
            }
        }
        // Tried again when the duty changes.
        Duty::Waiting(_) => return None,
    };
    match verdict {
        Ok(verdict) => {
            settle(office, &reading, &verdict);
            verdict.recheck_in.map(Duration::from_millis)
        }
        Err(message) => {
            tracing::warn!(%message, "the reading of the directory was not taken");
            Some(AGAIN)
        }
    }
}

fn settle(office: &Office, reading: &Reading, verdict: &Verdict) {
    if verdict.accepted
        && reading.unreadable.is_none()
        && let Err(error) = office.set_published(&reading.revision)
    {
        tracing::warn!(%error, "what was published was not kept");
    }
    office.show_directory(|shown| {
        shown.behind = !verdict.accepted;
        if !verdict.accepted {
            shown.message = Some(format!(
                "this copy of the directory is not the accepted one ({}) and did not come from it: \
                 bring it up to date, or say microcloud reconcile --accept-from {}",
                verdict.revision.get(..12).unwrap_or(&verdict.revision),
                office.name()
            ));
        }
    });
}

/// Accepts a reading if it follows the accepted one.
///
/// # Errors
/// The memory could not be written.
pub async fn take(
    controller: &Controller,
    previous: Option<&str>,
    reading: &Reading,
    force: bool,
) -> Result<Verdict, String> {
    let accepted = controller.accepted().directory.revision.clone();
    let first = accepted.is_empty();
    let follows = previous == Some(accepted.as_str()) || reading.revision == accepted;
    if !(force || first || follows) {
        return Ok(Verdict {
            accepted: false,
            revision: accepted,
            recheck_in: None,
        });
    }
    controller
        .submit(reading)
        .await
        .map_err(|e| e.to_string())?;
    Ok(Verdict {
        accepted: true,
        revision: reading.revision.clone(),
        recheck_in: controller.recheck_in().map(|wait| {
            // A moment later rather than a moment too early.
            u64::try_from(wait.as_millis())
                .unwrap_or(u64::MAX)
                .saturating_add(200)
        }),
    })
}
