//! `/v1/agent/tokens…` on the socket for commands: what lets machines in that are no members yet.
//!
//! Those are join tokens of LXD, which the controller makes when a member joins and a person may
//! have made with `lxc cluster add`, and the session of trust that is open on this machine. The
//! secrets themselves are never told.

use super::api::Failure;
use super::office::Office;
use super::session::Door;
use crate::services::host::local::find_lxd_socket;
use crate::services::lxd::{Lxd, LxdError};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// `GET /v1/agent/tokens`: one of the list.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Invitation {
    /// The machine a token is for; the name of a session.
    pub name: String,
    /// What it is.
    pub kind: InvitationKind,
    /// The member it was made on.
    pub member: String,
    /// When it ends, RFC 3339; empty when that is not known.
    pub expires_at: String,
}

/// What lets a machine in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InvitationKind {
    /// A join token of LXD.
    Token,
    /// A session of trust.
    Session,
}

/// `POST /v1/agent/tokens/revoke`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Revoke {
    /// The name.
    pub name: String,
}

#[derive(Clone)]
struct Both {
    office: Arc<Office>,
    door: Arc<Door>,
}

/// The routes.
pub fn routes(office: Arc<Office>, door: Arc<Door>) -> Router {
    Router::new()
        .route("/v1/agent/tokens", get(list))
        .route("/v1/agent/tokens/revoke", post(revoke))
        .with_state(Both { office, door })
}

async fn list(State(both): State<Both>) -> Response {
    match invitations(&both).await {
        Ok(all) => Json(all).into_response(),
        Err(error) => unavailable(&error),
    }
}

async fn revoke(State(both): State<Both>, Json(request): Json<Revoke>) -> Response {
    let all = match invitations(&both).await {
        Ok(all) => all,
        Err(error) => return unavailable(&error),
    };
    let named: Vec<Invitation> = all
        .into_iter()
        .filter(|one| one.name == request.name)
        .collect();
    if named.is_empty() {
        let message = format!("there is no token or session {}", request.name);
        return (StatusCode::NOT_FOUND, Json(Failure { message })).into_response();
    }
    for one in &named {
        let done = match (one.kind, lxd(&both.office)) {
            (InvitationKind::Session, _) => {
                let reason = format!("the session was revoked on {}", both.office.name());
                both.door.end(Some(reason));
                Ok(())
            }
            (InvitationKind::Token, Some(lxd)) => lxd.revoke_tokens(&one.name).await,
            (InvitationKind::Token, None) => Ok(()), // LXD went, and its tokens with it
        };
        if let Err(error) = done {
            return unavailable(&error);
        }
    }
    Json(named).into_response()
}

fn unavailable(error: &LxdError) -> Response {
    let message = format!("LXD's tokens cannot be read: {error}");
    (StatusCode::SERVICE_UNAVAILABLE, Json(Failure { message })).into_response()
}

fn lxd(office: &Office) -> Option<Lxd> {
    let socket = find_lxd_socket(office.lxd_socket.as_deref())?;
    Lxd::unix(socket).ok()
}

async fn invitations(both: &Both) -> Result<Vec<Invitation>, LxdError> {
    let mut all = Vec::new();
    // While it joins a cluster LXD must be left alone.
    let free = both.office.machine.local.may_ask_lxd();
    if let (Some(_leave), Some(lxd)) = (free, lxd(&both.office)) {
        for token in lxd.live_tokens().await? {
            all.push(Invitation {
                name: token.name,
                kind: InvitationKind::Token,
                member: token.member,
                expires_at: token.expires_at,
            });
        }
    }
    if let Some((name, left)) = both.door.live_session() {
        let ends = Timestamp::now().checked_add(left);
        all.push(Invitation {
            name,
            kind: InvitationKind::Session,
            member: both.office.name().to_owned(),
            expires_at: ends.map(|at| at.to_string()).unwrap_or_default(),
        });
    }
    all.sort();
    Ok(all)
}
