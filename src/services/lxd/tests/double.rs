//! A transport that answers from a script and remembers what it was asked.

use crate::services::lxd::{EventStream, Lxd, Request, Response, Transport, TransportError};
use async_trait::async_trait;
use futures_util::StreamExt;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

/// One scripted stream of events: what it says before it breaks, or why it does not open.
pub type Stream = Result<Vec<Value>, TransportError>;

/// The script.
#[derive(Debug, Default)]
pub struct Double {
    answers: Mutex<VecDeque<Result<Response, TransportError>>>,
    streams: Mutex<VecDeque<Stream>>,
    asked: Mutex<Vec<Request>>,
}

impl Double {
    pub fn new() -> (Arc<Double>, Lxd) {
        let double = Arc::new(Double::default());
        let lxd = Lxd::new(Arc::clone(&double) as Arc<dyn Transport>);
        (double, lxd)
    }

    /// The next answer: an HTTP status and a body.
    pub fn answer(&self, status: u16, body: Value) {
        self.push(Ok(Response {
            status,
            etag: Some("e1".to_owned()),
            body,
        }));
    }

    pub fn sync(&self, metadata: Value) {
        self.answer(200, sync(metadata));
    }

    pub fn push(&self, answer: Result<Response, TransportError>) {
        self.answers
            .lock()
            .expect("no panic held it")
            .push_back(answer);
    }

    pub fn stream(&self, stream: Stream) {
        self.streams
            .lock()
            .expect("no panic held it")
            .push_back(stream);
    }

    /// What was asked, one line each, with the body.
    pub fn asked(&self) -> Vec<String> {
        let asked = self.asked.lock().expect("no panic held it");
        asked
            .iter()
            .map(|request| {
                let body = request.body.as_ref().map(|b| format!(" {b}"));
                let etag = request.if_match.as_ref().map(|e| format!(" If-Match {e}"));
                format!(
                    "{request:?}{}{}",
                    etag.unwrap_or_default(),
                    body.unwrap_or_default()
                )
            })
            .collect()
    }
}

pub fn sync(metadata: Value) -> Value {
    json!({"type": "sync", "status": "Success", "status_code": 200, "metadata": metadata})
}

pub fn error(code: u16, message: &str) -> Value {
    json!({"type": "error", "error_code": code, "error": message, "metadata": null})
}

pub fn started(id: &str) -> Value {
    json!({"type": "async", "status": "Operation created", "status_code": 100,
           "operation": format!("/1.0/operations/{id}"),
           "metadata": {"id": id, "class": "task", "status": "Running", "status_code": 103,
                        "resources": {"cluster": null}, "metadata": null, "err": ""}})
}

pub fn broken() -> TransportError {
    TransportError::Broken {
        endpoint: "double".to_owned(),
        reason: "reset".to_owned(),
    }
}

#[async_trait]
impl Transport for Double {
    async fn send(&self, request: Request) -> Result<Response, TransportError> {
        let line = format!("{request:?}");
        self.asked.lock().expect("no panic held it").push(request);
        let next = self.answers.lock().expect("no panic held it").pop_front();
        next.unwrap_or_else(|| panic!("no answer is scripted for {line}"))
    }

    async fn events(&self, _types: &[&str]) -> Result<EventStream, TransportError> {
        let next = self.streams.lock().expect("no panic held it").pop_front();
        match next {
            Some(Ok(items)) => Ok(futures_util::stream::iter(items.into_iter().map(Ok)).boxed()),
            Some(Err(error)) => Err(error),
            None => Ok(futures_util::stream::pending().boxed()),
        }
    }
}
