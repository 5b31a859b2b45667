//! `/v1/agent…` on the socket for commands: the agent itself.

use super::api::Failure;
use super::epoch::EpochBook;
use super::machine::Machine;
use super::trust::{TrustBook, TrustError};
use crate::services::peer::{Claim, Fingerprint, VERSION};
use axum::body::Body;
use axum::extract::State;
use axum::http::{Response, StatusCode};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// `GET /v1/agent`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentInfo {
    /// The member's name.
    pub name: String,
    /// The fingerprint of its key.
    pub fingerprint: String,
    /// The agent's version.
    pub version: String,
    /// The highest epoch it has seen.
    pub epoch: u64,
    /// Who holds that epoch.
    pub holder: String,
    /// Whether this agent is controlling now.
    pub leading: bool,
}

/// `POST /v1/agent/trust`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TrustRequest {
    /// The key.
    pub fingerprint: String,
    /// The member it belongs to; without one, the first name it proves itself under.
    #[serde(default)]
    pub name: Option<String>,
    /// Whether a known trust store is forgotten.
    #[serde(default)]
    pub replace: bool,
}

pub(super) fn routes(machine: Arc<Machine>) -> Router {
    Router::new()
        .route("/v1/agent", get(info))
        .route("/v1/agent/trust", post(trust))
        .with_state(machine)
}

async fn info(State(machine): State<Arc<Machine>>) -> Json<AgentInfo> {
    let highest = machine.epochs.highest();
    Json(AgentInfo {
        name: machine.local.name().to_owned(),
        fingerprint: machine.fingerprint.to_string(),
        version: VERSION.to_owned(),
        epoch: highest.number,
        holder: highest.holder,
        leading: machine.epochs.epoch().is_some(),
    })
}

async fn trust(
    State(machine): State<Arc<Machine>>,
    Json(request): Json<TrustRequest>,
) -> Response<Body> {
    let fail =
        |status: StatusCode, message: String| (status, Json(Failure { message })).into_response();
    let key: Fingerprint = match request.fingerprint.parse() {
        Ok(key) => key,
        Err(error) => {
            let error: crate::services::peer::pins::BadFingerprint = error;
            return fail(StatusCode::BAD_REQUEST, error.to_string());
        }
    };
    let stored = tokio::task::spawn_blocking(move || {
        trust_first(
            &machine.trust,
            &machine.epochs,
            &key,
            request.name.as_deref(),
            request.replace,
        )
    });
    match stored.await {
        Ok(Ok(())) => Json(serde_json::json!({})).into_response(),
        Ok(Err(error)) => {
            let status = match error {
                TrustError::File(_) => StatusCode::INTERNAL_SERVER_ERROR,
                _ => StatusCode::BAD_REQUEST,
            };
            fail(status, super::with_causes(&error))
        }
        Err(error) => fail(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

/// Trusts a key on a person's word. With `replace` the cluster this machine was in is forgotten
/// as a whole: its trust store and its epochs.
///
/// # Errors
/// There is a trust store and `replace` is not set, or it cannot be stored.
pub fn trust_first(
    trust: &TrustBook,
    epochs: &EpochBook,
    key: &Fingerprint,
    name: Option<&str>,
    replace: bool,
) -> Result<(), TrustError> {
    trust.trust_first(key, name, replace)?;
    if replace {
        epochs.forget()?;
    }
    Ok(())
}
