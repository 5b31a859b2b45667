//! Answers, refusals and ETags.

use super::operations;
use crate::services::lxd::Response;
use crate::simulate::world::World;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::fmt::Write;
use std::time::Duration;
use tokio::sync::watch;

/// A request that was done.
#[derive(Debug)]
pub(in crate::simulate) enum Reply {
    /// An answer at once.
    Sync {
        /// What it holds.
        metadata: Value,
        /// The object's ETag.
        etag: Option<String>,
        /// Whether an object was made (201).
        created: bool,
    },
    /// An operation was started.
    Operation(String),
    /// The answer comes when an operation has ended.
    Wait {
        /// The operation.
        operation: String,
        /// Becomes true when it has ended.
        done: watch::Receiver<bool>,
        /// How long to wait at most.
        timeout: Option<Duration>,
    },
    /// It is done, but the connection breaks without an answer.
    Broken,
}

impl Reply {
    /// Done, nothing to say.
    pub fn empty() -> Reply {
        Reply::value(json!({}))
    }

    /// A value without an ETag.
    pub fn value(metadata: Value) -> Reply {
        Reply::Sync {
            metadata,
            etag: None,
            created: false,
        }
    }

    /// An object and what its ETag is made of.
    pub fn object(metadata: Value, writable: &Value) -> Reply {
        Reply::Sync {
            metadata,
            etag: Some(format!("\"{}\"", etag(writable))),
            created: false,
        }
    }

    /// An object was made.
    pub fn created() -> Reply {
        Reply::Sync {
            metadata: Value::Null,
            etag: None,
            created: true,
        }
    }
}

/// A request that was refused, or an operation that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::simulate) struct Refusal {
    /// The status. LXD's are arbitrary; the texts are what counts.
    pub code: u16,
    /// Why.
    pub message: String,
}

impl Refusal {
    /// A refusal.
    pub fn new(code: u16, message: impl Into<String>) -> Refusal {
        Refusal {
            code,
            message: message.into(),
        }
    }

    /// 400.
    pub fn bad(message: impl Into<String>) -> Refusal {
        Refusal::new(400, message)
    }

    /// 403.
    pub fn forbidden(message: impl Into<String>) -> Refusal {
        Refusal::new(403, message)
    }

    /// 404.
    pub fn not_found(message: impl Into<String>) -> Refusal {
        Refusal::new(404, message)
    }

    /// 409.
    pub fn conflict(message: impl Into<String>) -> Refusal {
        Refusal::new(409, message)
    }

    /// 500: what LXD answers when an error has no status of its own.
    pub fn failed(message: impl Into<String>) -> Refusal {
        Refusal::new(500, message)
    }

    /// 501.
    pub fn not_implemented() -> Refusal {
        Refusal::new(501, "not implemented")
    }

    /// The same status, with what was being done in front.
    pub fn during(mut self, what: &str) -> Refusal {
        self.message = format!("{what}: {}", self.message);
        self
    }
}

/// What comes of a request inside the router.
pub(in crate::simulate) type Answer = Result<Reply, Refusal>;

/// The ETag of what can be written of an object, without its quotes.
pub(super) fn etag(writable: &Value) -> String {
    Sha256::digest(writable.to_string().as_bytes()).iter().fold(
        String::with_capacity(64),
        |mut out, byte| {
            // Writing to a String cannot fail.
            let _ = write!(out, "{byte:02x}");
            out
        },
    )
}

/// The answer in LXD's envelope.
pub(super) fn answer(world: &World, reply: Reply) -> Response {
    match reply {
        Reply::Sync {
            metadata,
            etag,
            created,
        } => Response {
            status: if created { 201 } else { 200 },
            etag,
            body: json!({
                "type": "sync", "status": "Success", "status_code": 200,
                "operation": "", "error_code": 0, "error": "", "metadata": metadata,
            }),
        },
        Reply::Operation(id) => Response {
            status: 202,
            etag: None,
            body: json!({
                "type": "async", "status": "Operation created", "status_code": 100,
                "operation": format!("/1.0/operations/{id}"), "error_code": 0, "error": "",
                "metadata": operations::render(world, &id),
            }),
        },
        // These two are answered before they come here.
        Reply::Wait { .. } | Reply::Broken => refusal(&Refusal::failed("no answer")),
    }
}

/// The refusal in LXD's envelope.
pub(super) fn refusal(refused: &Refusal) -> Response {
    Response {
        status: refused.code,
        etag: None,
        body: json!({
            "type": "error", "error_code": refused.code, "error": refused.message,
            "metadata": null,
        }),
    }
}
