//! The control routes: what people on a machine ask for, done here when this agent controls and
//! passed on otherwise.

use super::api::{AgentStatus, Apply, Approve, Delete, Diff, Failure, Reconcile, Resume, Suspend};
use super::directory::{self, Publish};
use super::last_known::{self, cached, machines_of, taken_over};
use super::machine::OwnHost;
use super::office::{Duty, Office};
use super::server::PeerIdentity;
use crate::convert::export::{ExportError, export};
use crate::reconcile::Controller;
use crate::reconcile::clock::Clock;
use crate::reconcile::controller::{Filter, RequestError};
use crate::reconcile::observe::{Everything, Observer};
use crate::resources::Reading;
use crate::resources::value::Mode;
use crate::services::host::Host as _;
use crate::services::host::HostTarget;
use crate::services::host::local::find_lxd_socket;
use crate::services::lxd::Lxd;
use crate::services::peer::VERSION;
use axum::body::Bytes;
use axum::extract::{OriginalUri, Query, State};
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;

/// How long a request that is passed on may take, beyond what it asks to wait.
const FORWARD: Duration = Duration::from_secs(90);

/// How long the controller's report may take, likewise.
const STATUS: Duration = Duration::from_secs(5);

/// How long a request that was passed on waits for a controller that is not heard any more.
const PATIENCE: Duration = Duration::from_secs(10);

/// The longest a caller may ask to wait for a change.
const LONGEST_WAIT: u64 = 60;

/// How long founding a cluster by `apply` may take until a controller is there to take it.
const FOUNDING: Duration = Duration::from_secs(15);

/// The routes for commands on this machine.
pub fn local_routes(office: Arc<Office>) -> Router {
    Router::new()
        .route("/v1/status", get(local_status))
        .route("/v1/{request}", get(local).post(local))
        .with_state(office)
}

/// The routes for other members' agents.
pub fn peer_routes(office: Arc<Office>) -> Router {
    Router::new()
        .route("/v1/control/reading", post(publish).get(own_reading))
        .route("/v1/control/{request}", get(remote).post(remote))
        .with_state(office)
}

#[derive(Debug, Clone, Default, Deserialize)]
struct Since {
    #[serde(default)]
    after: Option<u64>,
    #[serde(default)]
    timeout: Option<u64>,
    /// Of `export`: whether the `Cluster` is to say nothing of its mode.
    #[serde(default)]
    enforce: bool,
}

impl Since {
    fn wait(&self) -> Duration {
        Duration::from_secs(self.timeout.unwrap_or(0).min(LONGEST_WAIT))
    }

    /// The mode of a `Cluster` that is exported.
    fn mode(&self) -> Mode {
        match self.enforce {
            true => Mode::Enforce,
            false => Mode::Report,
        }
    }
}

async fn local_status(
    State(office): State<Arc<Office>>,
    Query(since): Query<Since>,
    uri: OriginalUri,
) -> Response {
    match office.duty() {
        Duty::Leading(controller) => {
            Json(status(&office, &controller, &since).await).into_response()
        }
        Duty::Following(leader) => {
            let passed = pass_on(
                &office,
                &leader,
                Method::GET,
                &uri,
                Bytes::new(),
                STATUS + since.wait(),
            );
            // Who controlled may be lost while it is asked: what is known is told then.
            let passed = tokio::select! {
                passed = passed => passed,
                () = no_longer(&office, &leader, Duration::ZERO) => Err(String::new()),
            };
            // The leader's word, with this agent's own directory.
            let theirs = match passed {
                Ok((200, body)) => serde_json::from_slice::<AgentStatus>(&body).ok(),
                Ok(_) | Err(_) => None,
            };
            match theirs {
                Some(theirs) => Json(AgentStatus {
                    member: office.name().to_owned(),
                    role: super::api::Role::Following,
                    leader: Some(leader.name),
                    directory: office.directory_status(),
                    ..theirs
                })
                .into_response(),
                None => Json(cached(&office)).into_response(),
            }
        }
        Duty::Waiting(_) => {
            // Taken into a cluster, but its LXD has not joined yet: who took it in knows.
            if let Some(sponsor) = office.sponsor() {
                let deadline = STATUS + since.wait();
                let passed =
                    pass_on(&office, &sponsor, Method::GET, &uri, Bytes::new(), deadline).await;
                if let Ok((200, body)) = passed
                    && let Ok(theirs) = serde_json::from_slice::<AgentStatus>(&body)
                {
                    return Json(AgentStatus {
                        member: office.name().to_owned(),
                        role: super::api::Role::Waiting,
                        leader: Some(sponsor.name),
                        directory: office.directory_status(),
                        ..theirs
                    })
                    .into_response();
                }
            }
            // Somebody who waits for a change must not come back at once.
            if since.after.is_some() {
                let mut duty = office.duty.subscribe();
                let _ = tokio::time::timeout(since.wait(), duty.changed()).await;
            }
            Json(cached(&office)).into_response()
        }
    }
}

/// Ends when this agent has not followed `leader` for `patience`.
async fn no_longer(office: &Office, leader: &HostTarget, patience: Duration) {
    let mut duty = office.duty.subscribe();
    let follows = |duty: &Duty| matches!(duty, Duty::Following(target) if target == leader);
    loop {
        if duty.wait_for(|duty| !follows(duty)).await.is_err() {
            return;
        }
        let back = duty.wait_for(|duty| follows(duty));
        if tokio::time::timeout(patience, back).await.is_err() {
            return;
        }
    }
}

async fn status(office: &Office, controller: &Controller, since: &Since) -> AgentStatus {
    if let Some(after) = since.after {
        let mut changes = controller.changes();
        let _ = tokio::time::timeout(since.wait(), changes.wait_for(|v| *v > after)).await;
    }
    let report = controller.status();
    if let Some(before) = taken_over(office, &report) {
        return before;
    }
    AgentStatus {
        member: office.name().to_owned(),
        version: VERSION.to_owned(),
        role: super::api::Role::Leading,
        leader: Some(office.name().to_owned()),
        reason: None,
        directory: office.directory_status(),
        report: Some(report),
        cached: false,
        told_by: None,
        told_at: None,
        machines: machines_of(controller),
    }
}

fn failure(status: StatusCode, message: impl Into<String>) -> Response {
    (
        status,
        Json(Failure {
            message: message.into(),
        }),
    )
        .into_response()
}

fn refused(error: &RequestError) -> Response {
    let status = match error {
        RequestError::NotApplied { .. } => StatusCode::CONFLICT,
        RequestError::NotFound { .. } => StatusCode::NOT_FOUND,
        RequestError::NotKept { .. } => StatusCode::SERVICE_UNAVAILABLE,
    };
    failure(status, error.to_string())
}

fn answer<T: Serialize>(result: Result<T, RequestError>) -> Response {
    match result {
        Ok(value) => Json(value).into_response(),
        Err(error) => refused(&error),
    }
}

async fn local(
    State(office): State<Arc<Office>>,
    method: Method,
    uri: OriginalUri,
    Query(since): Query<Since>,
    body: Bytes,
) -> Response {
    let request = uri.path().trim_start_matches("/v1/").to_owned();
    match office.duty() {
        Duty::Leading(controller) => {
            handle(&office, &controller, &method, &request, &since, &body).await
        }
        Duty::Following(leader) => {
            let passed = pass_on(&office, &leader, method, &uri, body, FORWARD + since.wait());
            let passed = tokio::select! {
                passed = passed => passed,
                () = no_longer(&office, &leader, PATIENCE) => Err(format!(
                    "{} controlled and does not answer any more: whether it did what was asked is \
                     not known; ask again when another member controls",
                    leader.name
                )),
            };
            match passed {
                Ok((status, body)) => answer_of(status, body),
                Err(message) => failure(StatusCode::SERVICE_UNAVAILABLE, message),
            }
        }
        Duty::Waiting(reason) => {
            // Taken into a cluster a moment ago: who took it in knows.
            if let Some(sponsor) = office.sponsor() {
                let deadline = FORWARD + since.wait();
                let passed = pass_on(
                    &office,
                    &sponsor,
                    method.clone(),
                    &uri,
                    body.clone(),
                    deadline,
                )
                .await;
                if let Ok((status, body)) = passed
                    && status != StatusCode::SERVICE_UNAVAILABLE.as_u16()
                {
                    return answer_of(status, body);
                }
            }
            unled(&office, method, &request, &since, &body, &reason).await
        }
    }
}

/// An answer that was passed on.
fn answer_of(status: u16, body: Bytes) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// What can be answered where nobody controls.
async fn unled(
    office: &Arc<Office>,
    method: Method,
    request: &str,
    since: &Since,
    body: &Bytes,
    reason: &str,
) -> Response {
    match (method, request) {
        (Method::POST, "apply") => found(office, body, reason).await,
        (Method::GET, "resources") => Json(office.known_resources()).into_response(),
        (Method::GET, "events") => Json(super::api::Events::new()).into_response(),
        (Method::GET, "export") => export_here(office, since.mode()).await,
        _ => failure(
            StatusCode::SERVICE_UNAVAILABLE,
            format!("nobody controls: {}", last_known::reason(office, reason)),
        ),
    }
}

async fn remote(
    State(office): State<Arc<Office>>,
    Extension(_peer): Extension<PeerIdentity>,
    method: Method,
    uri: OriginalUri,
    Query(since): Query<Since>,
    body: Bytes,
) -> Response {
    let Some(controller) = office.controller() else {
        return failure(
            StatusCode::SERVICE_UNAVAILABLE,
            format!("{} does not control", office.name()),
        );
    };
    let request = uri.path().trim_start_matches("/v1/control/").to_owned();
    if request == "status" {
        return Json(status(&office, &controller, &since).await).into_response();
    }
    handle(&office, &controller, &method, &request, &since, &body).await
}

/// Passes a request on to the agent that controls.
async fn pass_on(
    office: &Office,
    leader: &HostTarget,
    method: Method,
    uri: &OriginalUri,
    body: Bytes,
    deadline: Duration,
) -> Result<(u16, Bytes), String> {
    let rest = uri
        .path_and_query()
        .map_or("", |p| p.as_str())
        .trim_start_matches("/v1/");
    let path = format!("/v1/control/{rest}");
    office
        .client
        .forward(leader, method, &path, body, deadline)
        .await
        .map(|answer| (answer.status, answer.body))
        .map_err(|error| error.to_string())
}

/// `apply` where nobody controls: the resources that name this member as initiator found a
/// cluster.
async fn found(office: &Arc<Office>, body: &Bytes, reason: &str) -> Response {
    let apply: Apply = match serde_json::from_slice(body) {
        Ok(apply) => apply,
        Err(error) => return failure(StatusCode::BAD_REQUEST, error.to_string()),
    };
    if !office.founds(&apply.resources) {
        let message = format!(
            "nobody controls: {reason}; apply a Cluster that names {} as its initiator to form one \
             here",
            office.name()
        );
        return failure(StatusCode::SERVICE_UNAVAILABLE, message);
    }
    let mut duty = office.duty.subscribe();
    office.found(Some(apply.resources.clone()));
    let leading = tokio::time::timeout(
        FOUNDING,
        duty.wait_for(|duty| matches!(duty, Duty::Leading(_))),
    )
    .await
    .is_ok();
    let Some(controller) = office.controller().filter(|_| leading) else {
        office.found(None);
        return failure(
            StatusCode::SERVICE_UNAVAILABLE,
            format!("nobody controls: {reason}"),
        );
    };
    let applied = controller.apply(apply.resources).await;
    office.found(None);
    office.declare_pins();
    answer(applied)
}

/// `export` where nobody controls: what this machine and its LXD tell, also before there are any
/// resources.
async fn export_here(office: &Office, mode: Mode) -> Response {
    let socket = find_lxd_socket(office.lxd_socket.as_deref());
    let lxd = socket.ok_or_else(|| "LXD is not installed here".to_owned());
    let lxd = match lxd.and_then(|path| Lxd::unix(path).map_err(|e| e.to_string())) {
        Ok(lxd) => lxd,
        Err(message) => return failure(StatusCode::SERVICE_UNAVAILABLE, message),
    };
    let mut found = Everything {
        lxd: Observer::new(lxd, Clock::system()).all().await,
        resources: office.known_resources(),
        ..Everything::default()
    };
    if let Some(memory) = office.kept().memory {
        found.disks = memory.disks.clone();
    }
    if let Ok(report) = OwnHost(office.machine.clone()).report().await {
        found.hosts.insert(report.name.clone(), report);
    }
    exported(&found, mode)
}

fn exported(found: &Everything, mode: Mode) -> Response {
    match export(found, Some(mode)) {
        Ok(exported) => Json(exported).into_response(),
        Err(error @ ExportError::Unwritable { .. }) => {
            failure(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
        }
        Err(error) => failure(StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
    }
}

async fn handle(
    office: &Arc<Office>,
    controller: &Controller,
    method: &Method,
    request: &str,
    since: &Since,
    body: &Bytes,
) -> Response {
    match (method, request) {
        (&Method::GET, "resources") => Json(controller.resources()).into_response(),
        (&Method::GET, "reports") => Json(controller.reports()).into_response(),
        (&Method::GET, "events") => Json(events(controller, since).await).into_response(),
        (&Method::GET, "export") => exported(&controller.everything().await, since.mode()),
        (&Method::POST, "apply") => match decode::<Apply>(body) {
            Ok(apply) => {
                let applied = controller.apply(apply.resources).await;
                office.declare_pins();
                answer(applied)
            }
            Err(response) => *response,
        },
        (&Method::POST, "delete") => match decode::<Delete>(body) {
            Ok(delete) => answer(controller.delete(&delete.objects).await),
            Err(response) => *response,
        },
        (&Method::POST, "diff") => match decode::<Diff>(body) {
            Ok(diff) => answer(controller.diff(diff.resources)),
            Err(response) => *response,
        },
        (&Method::POST, "reconcile") => match decode::<Reconcile>(body) {
            Ok(reconcile) => self::reconcile(office, controller, reconcile).await,
            Err(response) => *response,
        },
        (&Method::POST, "suspend") => match decode::<Suspend>(body) {
            Ok(s) => {
                let duration = Duration::from_secs(s.seconds);
                answer(controller.suspend(s.object, duration, s.reason).await)
            }
            Err(response) => *response,
        },
        (&Method::POST, "resume") => match decode::<Resume>(body) {
            Ok(resume) => answer(controller.resume(resume.object).await),
            Err(response) => *response,
        },
        (&Method::POST, "approve") => match decode::<Approve>(body) {
            Ok(approve) => answer(controller.approve(&approve.step).await),
            Err(response) => *response,
        },
        _ => failure(
            StatusCode::NOT_FOUND,
            format!("there is no {method} /v1/{request}"),
        ),
    }
}

fn decode<T: DeserializeOwned>(body: &Bytes) -> Result<T, Box<Response>> {
    serde_json::from_slice(body)
        .map_err(|e| Box::new(failure(StatusCode::BAD_REQUEST, e.to_string())))
}

async fn events(controller: &Controller, since: &Since) -> super::api::Events {
    let after = since.after.unwrap_or(0);
    let mut changes = controller.changes();
    let found = tokio::time::timeout(since.wait(), async {
        loop {
            let events = controller.events(after);
            if !events.is_empty() || changes.changed().await.is_err() {
                return events;
            }
        }
    });
    match found.await {
        Ok(events) => events,
        Err(_) => controller.events(after),
    }
}

async fn reconcile(office: &Arc<Office>, controller: &Controller, request: Reconcile) -> Response {
    if let Some(member) = request.accept_from {
        let reading = if member == office.name() {
            office
                .reading()
                .ok_or_else(|| format!("{member} watches no directory"))
        } else {
            reading_of(office, &member).await
        };
        let taken = match reading {
            Ok(reading) => directory::take(controller, None, &reading, true).await,
            Err(message) => Err(message),
        };
        if let Err(message) = taken {
            return failure(StatusCode::SERVICE_UNAVAILABLE, message);
        }
    }
    answer(
        controller
            .reconcile(&Filter {
                objects: request.objects,
            })
            .await,
    )
}

async fn reading_of(office: &Office, member: &str) -> Result<Reading, String> {
    let target = office
        .target(member)
        .ok_or_else(|| format!("there is no member {member}"))?;
    let path = "/v1/control/reading";
    let answer = office
        .client
        .forward(&target, Method::GET, path, Bytes::new(), FORWARD)
        .await
        .map_err(|e| e.to_string())?;
    match serde_json::from_slice::<Option<Reading>>(&answer.body) {
        Ok(Some(reading)) => Ok(reading),
        Ok(None) => Err(format!("{member} watches no directory")),
        Err(_) => Err(String::from_utf8_lossy(&answer.body).into_owned()),
    }
}

async fn own_reading(
    State(office): State<Arc<Office>>,
    Extension(_peer): Extension<PeerIdentity>,
) -> Json<Option<Reading>> {
    Json(office.reading())
}

async fn publish(
    State(office): State<Arc<Office>>,
    Extension(peer): Extension<PeerIdentity>,
    Json(publish): Json<Publish>,
) -> Response {
    let Some(controller) = office.controller() else {
        return failure(
            StatusCode::SERVICE_UNAVAILABLE,
            format!("{} does not control", office.name()),
        );
    };
    tracing::debug!(from = %peer.name, revision = %publish.reading.revision, "a reading came in");
    let previous = publish.previous.as_deref();
    match directory::take(&controller, previous, &publish.reading, false).await {
        Ok(verdict) => {
            office.declare_pins();
            Json(verdict).into_response()
        }
        Err(message) => failure(StatusCode::SERVICE_UNAVAILABLE, message),
    }
}
