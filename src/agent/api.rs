//! What the command line and the agents say to each other: the bodies of `/v1/…` on the control
//! socket, which an agent that does not control passes on to the one that does.

use crate::reconcile::controller::{Applied, PlanReport, StatusReport};
use crate::reconcile::history::Event;
use crate::reconcile::placement::Placed;
use crate::resources::{ObjectRef, Resource};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// `GET /v1/status?after=N&timeout=S`: waits up to `timeout` seconds for a version above `after`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentStatus {
    /// The member that answers.
    pub member: String,
    /// Its version.
    pub version: String,
    /// What it does.
    pub role: Role,
    /// The member that controls, as far as it knows.
    pub leader: Option<String>,
    /// Why nobody controls, or why this member does not know.
    pub reason: Option<String>,
    /// The watched directory.
    pub directory: DirectoryStatus,
    /// The controller's report; the last one known when `cached`.
    pub report: Option<StatusReport>,
    /// Whether the report is the last one known, because no controller answered or the one that
    /// took over has not looked at everything yet.
    pub cached: bool,
    /// Who told what is cached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub told_by: Option<String>,
    /// When what is cached was known to be so last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub told_at: Option<Timestamp>,
    /// The machines, as the controller sees them.
    pub machines: BTreeMap<String, MachineStatus>,
}

/// What an agent does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// It controls.
    Leading,
    /// Another member controls.
    Following,
    /// Nobody controls that it knows of.
    Waiting,
}

/// The watched directory of one agent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DirectoryStatus {
    /// Where it is; none when this agent watches none.
    pub path: Option<String>,
    /// The revision it has.
    pub revision: Option<String>,
    /// Whether it has another revision than the accepted one and did not publish it.
    pub behind: bool,
    /// Why it is behind, or could not be read.
    pub message: Option<String>,
}

/// A machine as the controller sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MachineStatus {
    /// Its address.
    pub address: String,
    /// Whether its agent answers.
    pub answers: bool,
    /// Why it does not.
    pub message: Option<String>,
    /// Its agent's version.
    pub agent_version: String,
    /// Its LXD, such as `lxd 5.0.2`.
    pub service: String,
    /// What would be said of it, were it lost: what it carries for all, and what must not be
    /// touched until it is back. The end of a sentence; empty when it carries nothing.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub burden: String,
    /// What it runs, as it was seen last.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<Placed>,
}

/// `GET /v1/resources`: the accepted resources.
pub type Resources = Vec<Resource>;

/// `GET /v1/events?after=N&timeout=S`: waits up to `timeout` seconds for the first.
pub type Events = Vec<Event>;

/// `POST /v1/apply`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Apply {
    /// The resources; they decode and are valid beside those that are accepted.
    pub resources: Vec<Resource>,
}

/// `POST /v1/delete`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Delete {
    /// The objects.
    pub objects: Vec<ObjectRef>,
}

/// The answer to [`Apply`] and [`Delete`].
pub type AppliedAll = Vec<Applied>;

/// `POST /v1/diff`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Diff {
    /// Resources to think applied; none for what is accepted.
    pub resources: Option<Vec<Resource>>,
}

/// The answer to [`Diff`].
pub type Plans = Vec<PlanReport>;

/// `POST /v1/reconcile`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Reconcile {
    /// The objects; all when there are none.
    pub objects: Vec<ObjectRef>,
    /// The member whose directory is accepted from now on, whatever was accepted before.
    pub accept_from: Option<String>,
}

/// `POST /v1/suspend`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Suspend {
    /// The object; all when there is none.
    pub object: Option<ObjectRef>,
    /// For how long, seconds.
    pub seconds: u64,
    /// Why.
    pub reason: Option<String>,
}

/// `POST /v1/resume`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Resume {
    /// The object; the suspension of all when there is none.
    pub object: Option<ObjectRef>,
}

/// `POST /v1/approve`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Approve {
    /// The step.
    pub step: String,
}

/// The body of every answer that is not 2xx: 404 no such thing, 409 refused, 400 bad request,
/// 503 nobody controls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// The sentence.
    pub message: String,
}
