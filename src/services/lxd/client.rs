//! The client: requests go out through the seam, envelopes are opened, operations are waited for.
//!
//! What can be asked is in the files named after the objects: `server.rs`, `cluster.rs`,
//! `storage.rs`, `network.rs`, `project.rs`, `profile.rs`, `leftovers.rs`, `operation.rs`,
//! `events.rs`.

use super::counters::Counters;
use super::deadlines;
use super::envelope::{self, Answer};
use super::error::LxdError;
use super::http::HttpTransport;
use super::transport::{Method, Request, Transport, TransportError};
use super::types::Versioned;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// One LXD or Incus, asked through a [`Transport`]. Cheap to clone; clones share the counters.
///
/// Every call has a deadline ([`deadlines`]). A write is over when the
/// service is done with it: an answer that names an operation is followed to the operation's end.
#[derive(Clone, Debug)]
pub struct Lxd {
    pub(super) transport: Arc<dyn Transport>,
    counters: Arc<Counters>,
}

impl Lxd {
    /// The service behind a transport.
    pub fn new(transport: Arc<dyn Transport>) -> Self {
        Lxd {
            transport,
            counters: Arc::default(),
        }
    }

    /// The service behind a unix socket. Nothing is opened before the first request.
    ///
    /// # Errors
    /// No HTTP client can be made for the socket.
    pub fn unix(path: impl AsRef<Path>) -> Result<Self, LxdError> {
        Ok(Lxd::new(Arc::new(HttpTransport::unix(path)?)))
    }

    /// All requests that went out and the writes among them, since the client was made.
    pub fn counters(&self) -> (u64, u64) {
        self.counters.read()
    }

    /// Counts a request that does not go through [`Lxd::ask`].
    pub(super) fn count(&self, method: Method) {
        self.counters.count(method);
    }

    /// Sends one request and opens the envelope.
    pub(super) async fn ask(&self, request: Request) -> Result<Answer, LxdError> {
        self.count(request.method);
        let response = self.transport.send(request.clone()).await?;
        envelope::open(&request, response)
    }

    /// Reads an object and its ETag.
    pub(super) async fn get<T: DeserializeOwned>(
        &self,
        path: String,
        query: Vec<(&'static str, String)>,
        deadline: Duration,
    ) -> Result<Versioned<T>, LxdError> {
        let request = Request {
            method: Method::Get,
            path,
            query,
            body: None,
            if_match: None,
            deadline,
        };
        match self.ask(request.clone()).await? {
            Answer::Sync { metadata, etag } => Ok(Versioned {
                value: envelope::decode(&request, metadata)?,
                etag,
            }),
            Answer::Async { .. } => Err(envelope::unexpected(
                &request,
                "an operation where an object was asked for".to_owned(),
            )),
        }
    }

    /// Reads a list of whole objects.
    pub(super) async fn list<T: DeserializeOwned>(
        &self,
        path: String,
        mut query: Vec<(&'static str, String)>,
    ) -> Result<Vec<T>, LxdError> {
        query.push(("recursion", "1".to_owned()));
        let list: Versioned<Option<Vec<T>>> = self.get(path, query, deadlines::LIST).await?;
        Ok(list.value.unwrap_or_default())
    }

    /// Writes, and waits for the operation if the answer names one. `deadline` holds for the
    /// answer and again for the operation.
    pub(super) async fn write(&self, write: Write) -> Result<(), LxdError> {
        let deadline = write.deadline;
        match self.ask(write.request()?).await? {
            Answer::Sync { .. } => Ok(()),
            Answer::Async { operation } => self.wait(&operation.id, deadline).await.map(|_| ()),
        }
    }
}

/// A write to be sent.
#[derive(Clone)]
pub(super) struct Write {
    method: Method,
    path: String,
    query: Vec<(&'static str, String)>,
    body: Option<Result<Value, String>>,
    if_match: Option<String>,
    deadline: Duration,
}

impl Write {
    pub(super) fn new(method: Method, path: String) -> Self {
        Write {
            method,
            path,
            query: Vec::new(),
            body: None,
            if_match: None,
            deadline: deadlines::WRITE,
        }
    }

    pub(super) fn query(mut self, query: Vec<(&'static str, String)>) -> Self {
        self.query.extend(query);
        self
    }

    pub(super) fn body(mut self, body: &impl Serialize) -> Self {
        self.body = Some(serde_json::to_value(body).map_err(|error| error.to_string()));
        self
    }

    pub(super) fn if_match(mut self, etag: Option<&str>) -> Self {
        self.if_match = etag.map(str::to_owned);
        self
    }

    pub(super) fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    pub(super) fn request(self) -> Result<Request, LxdError> {
        let body = self.body.transpose().map_err(|reason| {
            LxdError::Transport(TransportError::NotJson {
                endpoint: format!("the body of {} {}", self.method, self.path),
                reason,
            })
        })?;
        Ok(Request {
            method: self.method,
            path: self.path,
            query: self.query,
            body,
            if_match: self.if_match,
            deadline: self.deadline,
        })
    }
}
