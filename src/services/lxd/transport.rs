//! The one seam of the client: a request goes out, a response comes back, events stream in.

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use serde_json::Value;
use std::fmt;
use std::time::Duration;

/// The method of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method {
    /// Reads.
    Get,
    /// Creates or acts.
    Post,
    /// Replaces.
    Put,
    /// Merges.
    Patch,
    /// Deletes.
    Delete,
}

impl Method {
    /// Whether a request of this method changes something.
    pub fn writes(self) -> bool {
        self != Method::Get
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Method::Get => "GET",
            Method::Post => "POST",
            Method::Put => "PUT",
            Method::Patch => "PATCH",
            Method::Delete => "DELETE",
        })
    }
}

/// One request to the service's REST API. `Debug` leaves the body out: it may hold a secret.
#[derive(Clone)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// The path with every segment percent-encoded, such as `/1.0/profiles/web`.
    pub path: String,
    /// The query, not yet encoded.
    pub query: Vec<(&'static str, String)>,
    /// The JSON body.
    pub body: Option<Value>,
    /// The ETag the object must still have (`If-Match`).
    pub if_match: Option<String>,
    /// How long the answer may take; always bounded.
    pub deadline: Duration,
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.path)?;
        for (i, (key, value)) in self.query.iter().enumerate() {
            write!(f, "{}{key}={value}", if i == 0 { '?' } else { '&' })?;
        }
        Ok(())
    }
}

/// The answer to a [`Request`].
#[derive(Debug, Clone)]
pub struct Response {
    /// The HTTP status. Never trusted alone: the envelope in the body decides.
    pub status: u16,
    /// The object's ETag.
    pub etag: Option<String>,
    /// The body.
    pub body: Value,
}

/// No answer came.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TransportError {
    /// Nothing listens there.
    #[error("cannot connect to {endpoint}: {reason}")]
    Connect {
        /// Where.
        endpoint: String,
        /// Why.
        reason: String,
    },
    /// The deadline passed; whether the request had an effect is not known.
    #[error("{endpoint} did not answer within {seconds} s")]
    Timeout {
        /// Where.
        endpoint: String,
        /// The deadline in seconds.
        seconds: u64,
    },
    /// The connection broke; whether the request had an effect is not known.
    #[error("the connection to {endpoint} broke: {reason}")]
    Broken {
        /// Where.
        endpoint: String,
        /// Why.
        reason: String,
    },
    /// The answer is not JSON.
    #[error("{endpoint} answered with something that is not JSON: {reason}")]
    NotJson {
        /// Where.
        endpoint: String,
        /// Why.
        reason: String,
    },
}

/// Raw events as the service sends them, until the connection breaks.
pub type EventStream = BoxStream<'static, Result<Value, TransportError>>;

/// How requests reach the service.
#[async_trait]
pub trait Transport: Send + Sync + fmt::Debug {
    /// Sends one request and waits for its answer, at most until the request's deadline.
    ///
    /// # Errors
    /// No answer came; an answer that reports a failure is not an error here.
    async fn send(&self, request: Request) -> Result<Response, TransportError>;

    /// Opens the stream of events of these types (`lifecycle`, `operation`) in all projects.
    ///
    /// # Errors
    /// The stream could not be opened.
    async fn events(&self, types: &[&str]) -> Result<EventStream, TransportError>;
}
