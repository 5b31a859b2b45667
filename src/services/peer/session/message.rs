//! What the two ends of a session's connection say: one JSON object per message.

use super::{MOST_PROVEN, MOST_UNPROVEN};
use crate::services::host::HostReport;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// A message that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// It is larger than it may be now.
    #[error("a message of {size} bytes came, and {most} are allowed now")]
    TooLarge {
        /// Its size.
        size: usize,
        /// What is allowed.
        most: usize,
    },
    /// It does not decode.
    #[error("what came is no message of a session: {0}")]
    Malformed(String),
}

/// What a joiner says of itself; all of it is part of what is proven.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Intent {
    /// The member's name.
    pub name: String,
    /// The address it will be a member by; it calls from there.
    pub address: IpAddr,
    /// Its agent's version.
    pub agent_version: String,
    /// Its instance service and the version, such as `lxd 5.0.2`; empty when none answers.
    pub service: String,
    /// How many API extensions that has.
    pub api_extensions: usize,
}

/// The key of a member, as the initiator tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Peer {
    /// The member.
    pub name: String,
    /// The fingerprint of its key.
    pub fingerprint: String,
    /// Where its agent is.
    pub address: IpAddr,
}

/// Whom a joiner trusts once it is taken in: all that may control it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PeerList {
    /// The members; the initiator is one of them.
    pub members: Vec<Peer>,
    /// The member that controls, or will.
    pub controller: String,
}

/// What a refusal is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RefusedCode {
    /// The passphrase, or something stands in between.
    NotProven,
    /// Too much goes on; trying again helps.
    Busy,
    /// The joiner cannot be taken in as it is.
    Unfit,
    /// What it said makes no sense.
    Protocol,
}

/// Why the initiator ends a connection before the joiner was taken in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Refused {
    /// What it is about.
    pub code: RefusedCode,
    /// The sentence.
    pub reason: String,
}

/// What a joiner says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "camelCase", deny_unknown_fields)]
pub(super) enum FromJoiner {
    /// Who it is, and its half of the key exchange (base64).
    Hello {
        protocol: u16,
        intent: Intent,
        pake: String,
    },
    /// It knows the passphrase (hex).
    Proof { mac: String },
    /// It is there still.
    Alive,
    /// Its disks and interfaces; only once it was chosen.
    Report { report: Box<HostReport> },
    /// It trusts the members it was told.
    Pinned,
    /// It goes.
    Leave { reason: String },
}

/// What an initiator says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "camelCase", deny_unknown_fields)]
pub(super) enum FromInitiator {
    /// Which session this is, and its half of the key exchange (base64).
    Challenge {
        session: String,
        name: String,
        address: IpAddr,
        pake: String,
    },
    /// It knows the passphrase as well (hex).
    Proven { mac: String },
    /// It is there still.
    Alive,
    /// The operator has chosen this joiner.
    Chosen { mac: String },
    /// The joiner is taken in; from now on it trusts these.
    Commit { peers: PeerList, mac: String },
    /// The connection ends here, before or instead of being taken in.
    Refused(Refused),
    /// The session is over: with a reason it was given up, without one all went well.
    Over { aborted: Option<String> },
}

/// A message as it is sent.
pub(super) fn encode(message: &impl Serialize) -> Vec<u8> {
    // Plain data with text keys always encodes.
    serde_json::to_vec(message).unwrap_or_default()
}

/// A message as it came; `proven` says how much it may hold.
pub(super) fn decode<T: DeserializeOwned>(frame: &[u8], proven: bool) -> Result<T, MessageError> {
    let most = if proven { MOST_PROVEN } else { MOST_UNPROVEN };
    if frame.len() > most {
        return Err(MessageError::TooLarge {
            size: frame.len(),
            most,
        });
    }
    serde_json::from_slice(frame).map_err(|e| MessageError::Malformed(e.to_string()))
}
