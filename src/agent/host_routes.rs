//! `/v1/host/…`: the machine, for the leading agent.

use super::machine::{Caller, Machine};
use super::server::PeerIdentity;
use crate::services::host::{
    BootstrapLxd, CephRequest, ClearHalfMade, HostError, JoinLxd, OvnRequest, PathsRequest,
    TrustStore, UndoJoin, WipeDisk,
};
use crate::services::peer::{EPOCH_HEADER, VERSION, VERSION_HEADER};
use axum::body::Body;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::sync::Arc;

/// The most a request may hold, bytes: the trust store of thousands of members fits.
const MOST: usize = 4 << 20;

/// The routes of one machine. Requests need a [`PeerIdentity`] among their extensions.
pub fn routes(machine: Arc<Machine>) -> Router {
    Router::new()
        .route("/v1/host/report", get(report))
        .route("/v1/host/beat", get(beat))
        .route("/v1/host/bootstrap-lxd", post(bootstrap_lxd))
        .route("/v1/host/join-lxd", post(join_lxd))
        .route("/v1/host/undo-join", post(undo_join))
        .route("/v1/host/clear-half-made", post(clear_half_made))
        .route("/v1/host/wipe-disk", post(wipe_disk))
        .route("/v1/host/ceph", post(ceph))
        .route("/v1/host/ovn", post(ovn))
        .route("/v1/host/paths", post(paths))
        .route("/v1/host/trust", post(trust))
        .layer(DefaultBodyLimit::max(MOST))
        .with_state(machine)
}

/// The answer that carries an error to the caller.
pub fn error_response(error: &HostError) -> Response<Body> {
    let status = match error {
        HostError::NotTrusted { .. } => StatusCode::FORBIDDEN,
        HostError::StaleEpoch { .. } => StatusCode::CONFLICT,
        HostError::GuardFailed { .. } => StatusCode::PRECONDITION_FAILED,
        HostError::Busy { .. } => StatusCode::SERVICE_UNAVAILABLE,
        HostError::Unreachable { .. } => StatusCode::BAD_GATEWAY,
        HostError::Failed { .. } => StatusCode::INTERNAL_SERVER_ERROR,
    };
    (status, Json(error)).into_response()
}

fn answer<T: Serialize>(result: Result<T, HostError>) -> Response<Body> {
    let mut response = match result {
        Ok(value) => Json(value).into_response(),
        Err(error) => error_response(&error),
    };
    response
        .headers_mut()
        .insert(VERSION_HEADER, HeaderValue::from_static(VERSION));
    response
}

/// A request that is not one: an answer with a [`HostError`], as for every other failure.
struct BadRequest(StatusCode, String);

impl IntoResponse for BadRequest {
    fn into_response(self) -> Response<Body> {
        let error = HostError::Failed { reason: self.1 };
        (self.0, Json(error)).into_response()
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Response<Body>;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Caller, Response<Body>> {
        let peer = parts.extensions.get::<PeerIdentity>();
        let Some(peer) = peer else {
            return Err(StatusCode::FORBIDDEN.into_response());
        };
        Ok(Caller {
            name: peer.name.clone(),
            epoch: epoch(&parts.headers).map_err(IntoResponse::into_response)?,
        })
    }
}

fn epoch(headers: &HeaderMap) -> Result<Option<u64>, BadRequest> {
    let Some(value) = headers.get(EPOCH_HEADER) else {
        return Ok(None);
    };
    value
        .to_str()
        .ok()
        .and_then(|text| text.parse().ok())
        .map(Some)
        .ok_or_else(|| {
            BadRequest(
                StatusCode::BAD_REQUEST,
                format!("{EPOCH_HEADER} is not a number"),
            )
        })
}

/// The body of a request, or why it could not be taken in.
type Taken = Result<Bytes, BytesRejection>;

fn body<T: DeserializeOwned>(taken: Taken) -> Result<T, BadRequest> {
    let bytes = taken.map_err(|e| BadRequest(e.status(), e.body_text()))?;
    serde_json::from_slice(&bytes).map_err(|e| {
        // Only these messages are sure not to repeat a value, and a token is a secret.
        let text = e.to_string();
        let reason = if text.starts_with("missing field") || text.starts_with("EOF") {
            text
        } else {
            format!("does not fit at line {}, column {}", e.line(), e.column())
        };
        BadRequest(StatusCode::BAD_REQUEST, format!("the request: {reason}"))
    })
}

async fn report(State(machine): State<Arc<Machine>>, caller: Caller) -> Response<Body> {
    answer(machine.report(&caller).await)
}

async fn beat(State(machine): State<Arc<Machine>>, caller: Caller) -> Response<Body> {
    answer(machine.beat(&caller).await)
}

async fn bootstrap_lxd(
    State(machine): State<Arc<Machine>>,
    caller: Caller,
    request: Taken,
) -> Result<Response<Body>, BadRequest> {
    let request: BootstrapLxd = body(request)?;
    Ok(answer(machine.bootstrap_lxd(&caller, request).await))
}

async fn join_lxd(
    State(machine): State<Arc<Machine>>,
    caller: Caller,
    request: Taken,
) -> Result<Response<Body>, BadRequest> {
    let request: JoinLxd = body(request)?;
    Ok(answer(machine.join_lxd(&caller, request).await))
}

async fn undo_join(
    State(machine): State<Arc<Machine>>,
    caller: Caller,
    request: Taken,
) -> Result<Response<Body>, BadRequest> {
    let request: UndoJoin = body(request)?;
    Ok(answer(machine.undo_join(&caller, request).await))
}

async fn clear_half_made(
    State(machine): State<Arc<Machine>>,
    caller: Caller,
    request: Taken,
) -> Result<Response<Body>, BadRequest> {
    let request: ClearHalfMade = body(request)?;
    Ok(answer(machine.clear_half_made(&caller, request).await))
}

async fn wipe_disk(
    State(machine): State<Arc<Machine>>,
    caller: Caller,
    request: Taken,
) -> Result<Response<Body>, BadRequest> {
    let request: WipeDisk = body(request)?;
    Ok(answer(machine.wipe_disk(&caller, request).await))
}

async fn ceph(
    State(machine): State<Arc<Machine>>,
    caller: Caller,
    request: Taken,
) -> Result<Response<Body>, BadRequest> {
    let request: CephRequest = body(request)?;
    Ok(answer(machine.ceph(&caller, request).await))
}

async fn ovn(
    State(machine): State<Arc<Machine>>,
    caller: Caller,
    request: Taken,
) -> Result<Response<Body>, BadRequest> {
    let request: OvnRequest = body(request)?;
    Ok(answer(machine.ovn(&caller, request).await))
}

async fn paths(
    State(machine): State<Arc<Machine>>,
    caller: Caller,
    request: Taken,
) -> Result<Response<Body>, BadRequest> {
    let request: PathsRequest = body(request)?;
    Ok(answer(machine.paths(&caller, request).await))
}

async fn trust(
    State(machine): State<Arc<Machine>>,
    caller: Caller,
    request: Taken,
) -> Result<Response<Body>, BadRequest> {
    let request: TrustStore = body(request)?;
    Ok(answer(machine.set_trust(&caller, request).await))
}
