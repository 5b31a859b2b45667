//! What can go wrong when LXD is asked for something.

use super::transport::TransportError;

/// A failed call.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LxdError {
    /// No answer came.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// There is no such object.
    #[error("not found: {message}")]
    NotFound {
        /// What the service said.
        message: String,
    },
    /// The object is there already, or something is in its way.
    #[error("conflict: {message}")]
    Conflict {
        /// What the service said.
        message: String,
    },
    /// The object changed since it was read (`If-Match` did not hold).
    #[error("changed since it was read: {message}")]
    Changed {
        /// What the service said.
        message: String,
    },
    /// The service cannot work now: starting, no quorum, a member is down.
    #[error("unavailable: {message}")]
    Unavailable {
        /// What the service said.
        message: String,
    },
    /// The service refused the request.
    #[error("refused ({status}): {message}")]
    Refused {
        /// The status of the envelope or of HTTP.
        status: u16,
        /// What the service said.
        message: String,
    },
    /// The operation that the request started failed.
    #[error("the operation failed: {message}")]
    Operation {
        /// What the service said.
        message: String,
    },
    /// The operation's outcome is not known (it was forgotten): look at the object again.
    #[error("the outcome of operation {id} is not known")]
    OutcomeUnknown {
        /// The operation.
        id: String,
    },
    /// The answer does not have the shape the API documents.
    #[error("unexpected answer to {request}: {reason}")]
    Unexpected {
        /// The request, without its body.
        request: String,
        /// What does not fit.
        reason: String,
    },
}

impl LxdError {
    /// A stable word for status, events and metrics.
    pub fn category(&self) -> &'static str {
        match self {
            LxdError::Transport(_) => "Unreachable",
            LxdError::NotFound { .. } => "NotFound",
            LxdError::Conflict { .. } => "Conflict",
            LxdError::Changed { .. } => "Changed",
            LxdError::Unavailable { .. } => "Unavailable",
            LxdError::Refused { .. } => "Refused",
            LxdError::Operation { .. } => "OperationFailed",
            LxdError::OutcomeUnknown { .. } => "OutcomeUnknown",
            LxdError::Unexpected { .. } => "UnexpectedAnswer",
        }
    }

    /// The error for a reported status and message.
    ///
    /// The status alone is not enough: LXD 5.0 says 400 where an object is there already, and 500
    /// or 400 where another member or the database cannot be reached.
    ///
    /// And a 404 may speak of another object than the one asked for: a profile whose device names
    /// a network that is not there is refused with it.
    pub fn reported(status: u16, message: String) -> Self {
        if status == 404 && OF_ANOTHER_OBJECT.iter().any(|p| message.starts_with(p)) {
            return LxdError::Refused { status, message };
        }
        match status {
            404 => return LxdError::NotFound { message },
            409 => return LxdError::Conflict { message },
            412 => return LxdError::Changed { message },
            503 => return LxdError::Unavailable { message },
            _ => {}
        }
        let lower = message.to_lowercase();
        if is_unavailable(&lower) {
            LxdError::Unavailable { message }
        } else if is_there(&lower) {
            LxdError::Conflict { message }
        } else {
            LxdError::Refused { status, message }
        }
    }
}

/// How a 404 begins that speaks of something the request mentions, not of what it asks for:
/// a device's network, a member's group, the profile a project does not have.
const OF_ANOTHER_OBJECT: [&str; 3] = [
    "Device validation failed",
    "Update cluster groups",
    "Delete project default profile",
];

/// The words with which LXD and Incus say that an object is there: at all, on this member, or
/// past the state in which it could be defined.
fn is_there(lower: &str) -> bool {
    lower.contains("already exists")
        || lower.contains("already defined")
        || lower.contains("is already created")
        || lower.ends_with(" is not in pending state")
}

/// The words with which LXD and Incus say that the cluster, its database or a member it had to
/// ask did not answer.
fn is_unavailable(lower: &str) -> bool {
    lower.contains("cluster is unavailable")
        || lower.contains("no available dqlite leader")
        || lower.contains("no known leader")
        || lower.contains("daemon not ready")
        || lower.contains("daemon is starting up")
        || lower.contains("daemon is shutting down")
        || (lower.contains("peer node") && lower.contains("is down"))
        || lower.contains("missing event connection with target")
        || lower.contains("unable to connect to: ")
}
