//! What commands and the agent say to each other about sessions: the bodies of
//! `/v1/agent/session…` and `/v1/agent/join…` on the control socket.

use crate::services::host::HostReport;
use crate::services::peer::session::Passphrase;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// `POST /v1/agent/session`: opens a session.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OpenSession {
    /// The address by which this machine is, or will be, a member.
    pub address: IpAddr,
    /// What joiners must know; made here when none is given.
    #[serde(default)]
    pub passphrase: Option<Passphrase>,
    /// How long it lasts at most, seconds.
    pub seconds: u64,
}

/// The answer: a session is open.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionOpened {
    /// Its name.
    pub session: String,
    /// The initiator.
    pub name: String,
    /// The fingerprint of its key, to be compared on the joiners.
    pub fingerprint: String,
    /// What joiners must know, when it was made here; only ever told to who opened the session.
    pub passphrase: Option<String>,
}

/// `GET /v1/agent/session?after=N&timeout=S`: waits for a version above `after`. Who opened a
/// session asks this all the time: a session that nobody asks about for 30 s is given up.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SessionStatus {
    /// Changes with the rest.
    pub version: u64,
    /// Who has proven the passphrase, in order of their names.
    pub joiners: Vec<JoinerStatus>,
    /// How many wrong guesses there were.
    pub wrong: u64,
    /// Who was refused though it knew the passphrase, and why; the last 20.
    pub refused: Vec<String>,
    /// Why the session is over.
    pub ended: Option<String>,
}

/// One joiner of a session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JoinerStatus {
    /// Its name.
    pub name: String,
    /// Its address.
    pub address: IpAddr,
    /// The fingerprint of its key.
    pub fingerprint: String,
    /// Its instance service and the version.
    pub service: String,
    /// How far it is.
    pub phase: JoinerPhase,
    /// Its disks and interfaces, once it was chosen.
    pub report: Option<HostReport>,
}

/// How far a joiner is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum JoinerPhase {
    /// It waits for the operator.
    Waiting,
    /// It was chosen.
    Chosen,
    /// It has told its disks and interfaces.
    Reported,
    /// It trusts this machine.
    Pinned,
}

/// `POST /v1/agent/session/choose`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ChooseJoiners {
    /// The fingerprints of the joiners that are chosen.
    pub fingerprints: Vec<String>,
}

/// `POST /v1/agent/session/end` and `/v1/agent/join/end`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EndSession {
    /// Why it is given up; none when all went well.
    #[serde(default)]
    pub aborted: Option<String>,
}

/// `POST /v1/agent/join`: joins the session of another machine.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JoinSession {
    /// What all machines of the session were told.
    pub passphrase: Passphrase,
    /// The address by which this machine will be a member.
    pub address: IpAddr,
    /// Where the initiator is; looked for by mDNS unless given.
    #[serde(default)]
    pub initiator: Option<IpAddr>,
    /// How long to look for it, seconds.
    pub lookup_seconds: u64,
    /// How long to wait for its operator, seconds.
    pub session_seconds: u64,
    /// Whether the cluster this machine followed before is forgotten.
    #[serde(default)]
    pub replace: bool,
}

/// `GET /v1/agent/join?after=N&timeout=S`, likewise.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct JoinStatus {
    /// Changes with the rest.
    pub version: u64,
    /// How far it is.
    pub phase: JoinPhase,
    /// The initiator, once both have proven the passphrase.
    pub initiator: Option<Initiator>,
    /// What is going on, or why it failed.
    pub message: String,
}

/// The other side of a session, as a joiner sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Initiator {
    /// Its name.
    pub name: String,
    /// Its address.
    pub address: IpAddr,
    /// The fingerprint of its key.
    pub fingerprint: String,
}

/// How far a joiner is, as it sees it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum JoinPhase {
    /// It looks for the initiator.
    #[default]
    Looking,
    /// Both know that the other one knows; the operator decides.
    Waiting,
    /// The operator has chosen this machine and answers the remaining questions.
    Chosen,
    /// This machine trusts the initiator and waits for the session's end.
    Trusted,
    /// It was taken in; the controller does the rest.
    Done,
    /// It was not; nothing of the session is left.
    Failed,
}
