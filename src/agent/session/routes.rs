//! `/v1/agent/session…`, `/v1/agent/join…` and `/v1/agent/report` on the socket for commands.

use super::door::{Door, DoorError, parse_key};
use super::join::{JoinError, Joining};
use super::words::{ChooseJoiners, EndSession, JoinSession, OpenSession};
use crate::agent::api::Failure;
use crate::agent::machine::Machine;
use crate::services::peer::Identity;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;

/// The longest a caller may ask to wait for a change, seconds.
const LONGEST_WAIT: u64 = 20;

/// Names the member that controls, when one does.
type Controller = Arc<dyn Fn() -> Option<String> + Send + Sync>;

/// Both sides of sessions on this machine.
#[derive(Clone)]
pub struct Sessions {
    /// As initiator.
    pub door: Arc<Door>,
    /// As joiner.
    pub joining: Arc<Joining>,
    machine: Arc<Machine>,
    controller: Controller,
}

impl Sessions {
    /// No session yet. `controller` names the member that controls, when one does.
    ///
    /// # Errors
    /// The TLS library lacks what is needed.
    pub fn new(
        identity: Arc<Identity>,
        machine: Arc<Machine>,
        port: u16,
        controller: impl Fn() -> Option<String> + Send + Sync + 'static,
    ) -> Result<Sessions, rustls::Error> {
        Ok(Sessions {
            door: Arc::new(Door::new(Arc::clone(&identity), Arc::clone(&machine))?),
            joining: Arc::new(Joining::new(identity, Arc::clone(&machine), port)),
            machine,
            controller: Arc::new(controller),
        })
    }
}

/// The routes.
pub fn routes(sessions: Sessions) -> Router {
    Router::new()
        .route("/v1/agent/report", get(report))
        .route("/v1/agent/session", get(session).post(open))
        .route("/v1/agent/session/choose", post(choose))
        .route("/v1/agent/session/commit", post(commit))
        .route("/v1/agent/session/end", post(end_session))
        .route("/v1/agent/join", get(join_status).post(join))
        .route("/v1/agent/join/end", post(end_join))
        .with_state(sessions)
}

#[derive(Debug, Default, Deserialize)]
struct Since {
    #[serde(default)]
    after: u64,
    #[serde(default)]
    timeout: u64,
}

impl Since {
    fn wait(&self) -> Duration {
        Duration::from_secs(self.timeout.min(LONGEST_WAIT))
    }
}

fn fail(status: StatusCode, message: String) -> Response {
    (status, Json(Failure { message })).into_response()
}

fn door_answer<T: Serialize>(result: Result<T, DoorError>) -> Response {
    match result {
        Ok(value) => Json(value).into_response(),
        Err(error) => {
            let status = match error {
                DoorError::Open | DoorError::None(_) => StatusCode::CONFLICT,
                DoorError::Invalid(_) => StatusCode::BAD_REQUEST,
                DoorError::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
            };
            fail(status, error.to_string())
        }
    }
}

fn join_answer<T: Serialize>(result: Result<T, JoinError>) -> Response {
    match result {
        Ok(value) => Json(value).into_response(),
        Err(error) => {
            let status = match error {
                JoinError::Joining | JoinError::None => StatusCode::CONFLICT,
                JoinError::Unfit(_) => StatusCode::BAD_REQUEST,
            };
            fail(status, error.to_string())
        }
    }
}

async fn report(State(sessions): State<Sessions>) -> Response {
    let machine = &sessions.machine;
    match machine.local.report(machine.fingerprint.as_str()).await {
        Ok(report) => Json(report).into_response(),
        Err(error) => fail(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

async fn open(State(sessions): State<Sessions>, Json(request): Json<OpenSession>) -> Response {
    door_answer(sessions.door.open(request).await)
}

async fn session(State(sessions): State<Sessions>, Query(since): Query<Since>) -> Response {
    door_answer(sessions.door.status(since.after, since.wait()).await)
}

async fn choose(State(sessions): State<Sessions>, Json(request): Json<ChooseJoiners>) -> Response {
    let keys: Result<Vec<String>, DoorError> = request
        .fingerprints
        .iter()
        .map(|key| parse_key(key).map(String::from))
        .collect();
    door_answer(keys.and_then(|keys| sessions.door.choose(&keys)))
}

async fn commit(State(sessions): State<Sessions>) -> Response {
    let own = || sessions.machine.local.name().to_owned();
    let controller = (sessions.controller)().unwrap_or_else(own);
    door_answer(sessions.door.commit(&controller).await)
}

async fn end_session(State(sessions): State<Sessions>, Json(end): Json<EndSession>) -> Response {
    Json(sessions.door.end(end.aborted)).into_response()
}

async fn join(State(sessions): State<Sessions>, Json(request): Json<JoinSession>) -> Response {
    join_answer(sessions.joining.start(request).await)
}

async fn join_status(State(sessions): State<Sessions>, Query(since): Query<Since>) -> Response {
    join_answer(sessions.joining.status(since.after, since.wait()).await)
}

async fn end_join(State(sessions): State<Sessions>, Json(_end): Json<EndSession>) -> Response {
    Json(sessions.joining.end()).into_response()
}
