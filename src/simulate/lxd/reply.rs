//! Answers, refusals and ETags.

use super::operations;
use crate::services::lxd::Response;
use crate::simulate::world::World;
use serde::Serialize;
use serde_json::{Value, json};
use std::hash::{DefaultHasher, Hasher};
use std::io;
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
    pub fn object(metadata: Value, writable: &impl Serialize) -> Reply {
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

/// The ETag of what can be written of an object, without its quotes: a hash of its JSON. Not
/// LXD's hash: nobody may look into it, and this one costs little for an object of a megabyte.
pub(super) fn etag(writable: &impl Serialize) -> String {
    let mut hash = HashWriter(DefaultHasher::new());
    // Writing to a hash cannot fail, and these objects are always JSON.
    let _ = serde_json::to_writer(&mut hash, writable);
    let first = hash.0.finish();
    hash.0.write_u8(1);
    format!("{first:016x}{:016x}", hash.0.finish())
}

/// What is written to it enters a hash.
struct HashWriter(DefaultHasher);

impl io::Write for HashWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_etag_is_of_the_content() {
        let of = |value: Value| etag(&value);
        assert_eq!(of(json!({"a": 1})), of(json!({"a": 1})));
        assert_ne!(of(json!({"a": 1})), of(json!({"a": 2})));
        assert_ne!(of(json!(["ab", "c"])), of(json!(["a", "bc"])));
    }
}
