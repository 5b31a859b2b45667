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
}
