//! What can go wrong between this program and a database server.

use std::time::Duration;

/// A call to a database server that did not give what was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OvsdbError {
    /// The text is no endpoint.
    #[error(
        "`{0}` is no OVSDB address: write it like unix:/run/ovn/ovnnb_db.sock or ssl:192.0.2.1:6641"
    )]
    Address(String),
    /// Nothing listens there, or the handshake failed.
    #[error("cannot connect to {endpoint}: {reason}")]
    Connect {
        /// Where.
        endpoint: String,
        /// Why.
        reason: String,
    },
    /// The connection ended.
    #[error("the connection to {endpoint} broke: {reason}")]
    Broken {
        /// Where.
        endpoint: String,
        /// Why.
        reason: String,
    },
    /// No answer in time.
    #[error("{endpoint} did not answer {method} within {} s", deadline.as_secs_f32())]
    TooLate {
        /// Where.
        endpoint: String,
        /// What was asked.
        method: String,
        /// How long was waited.
        deadline: Duration,
    },
    /// The server refused the call or one of its operations.
    #[error("{endpoint} refused {method}: {error}{}", detail(details))]
    Refused {
        /// Where.
        endpoint: String,
        /// What was asked.
        method: String,
        /// The server's word, such as `constraint violation`.
        error: String,
        /// The server's sentence, if it gave one.
        details: String,
    },
    /// The answer is not what the protocol says.
    #[error("{endpoint} answered {method} with something unexpected: {reason}")]
    Unexpected {
        /// Where.
        endpoint: String,
        /// What was asked.
        method: String,
        /// What does not fit.
        reason: String,
    },
}

fn detail(details: &str) -> String {
    if details.is_empty() {
        String::new()
    } else {
        format!(" ({details})")
    }
}
