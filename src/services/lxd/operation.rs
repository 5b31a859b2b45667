//! Operations: what a request started, followed to its end.

use super::client::{Lxd, Write};
use super::deadlines;
use super::envelope::{self, Answer};
use super::error::LxdError;
use super::path::path;
use super::transport::{Method, Request};
use super::types::Operation;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// The service's words for how an operation stands.
mod code {
    /// It succeeded. Below it are the states of an operation that lives.
    pub const SUCCESS: i64 = 200;
}

impl Lxd {
    /// All operations of all projects, as far as the answering members remember them: a finished
    /// one is forgotten after 5 s.
    ///
    /// # Errors
    /// The list could not be read.
    pub async fn operations(&self) -> Result<Vec<Operation>, LxdError> {
        let query = vec![
            ("recursion", "1".to_owned()),
            ("all-projects", "true".to_owned()),
        ];
        let by_status = self
            .get::<Option<BTreeMap<String, Option<Vec<Operation>>>>>(
                path(&["operations"]),
                query,
                deadlines::LIST,
            )
            .await?;
        Ok(by_status
            .value
            .unwrap_or_default()
            .into_values()
            .flatten()
            .flatten()
            .collect())
    }

    /// Waits for the end of an operation, in slices, at most until the deadline.
    ///
    /// # Errors
    /// [`LxdError::Operation`] when it failed or was cancelled; the error its `err_code` means
    /// where the server says one. [`LxdError::OutcomeUnknown`] when the service does not know
    /// the operation (any more) or the deadline passed: the object must be looked at again.
    pub async fn wait(&self, id: &str, deadline: Duration) -> Result<Operation, LxdError> {
        let end = Instant::now() + deadline;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(LxdError::OutcomeUnknown { id: id.to_owned() });
            }
            let slice = left.min(deadlines::WAIT_SLICE);
            let asked = Instant::now();
            match self.wait_slice(id, slice).await {
                Ok(operation) if operation.status_code >= code::SUCCESS => return ended(operation),
                // The slice ended, as newer servers tell it; or the connection broke, as it does
                // when a joining daemon replaces its database.
                Ok(_) | Err(LxdError::Transport(_)) => {}
                // LXD 5.0 answers with an error when the slice ends (500 "context deadline
                // exceeded"), and with the operation's own error, whatever its status, when the
                // operation fails meanwhile: 404 need not mean that the operation is unknown.
                // The operation itself says how it stands.
                Err(_) => match self.operation(id).await {
                    Ok(operation) if operation.status_code >= code::SUCCESS => {
                        return ended(operation);
                    }
                    Ok(_) | Err(LxdError::Transport(_) | LxdError::Unavailable { .. }) => {}
                    Err(LxdError::NotFound { .. }) => {
                        return Err(LxdError::OutcomeUnknown { id: id.to_owned() });
                    }
                    Err(other) => return Err(other),
                },
            }
            // An answer that came at once, though the operation lives, must not become a busy loop.
            if asked.elapsed() < deadlines::WAIT_PAUSE {
                sleep(deadlines::WAIT_PAUSE).await;
            }
        }
    }

    /// One operation as it stands.
    ///
    /// # Errors
    /// [`LxdError::NotFound`] when it was never there, or ended more than 5 s ago.
    pub async fn operation(&self, id: &str) -> Result<Operation, LxdError> {
        let path = path(&["operations", id]);
        Ok(self.get(path, Vec::new(), deadlines::READ).await?.value)
    }

    async fn wait_slice(&self, id: &str, slice: Duration) -> Result<Operation, LxdError> {
        // The API counts whole seconds; 0 would be "answer at once".
        let seconds = slice.as_secs().max(1);
        let request = Request {
            method: Method::Get,
            path: path(&["operations", id, "wait"]),
            query: vec![("timeout", seconds.to_string())],
            body: None,
            if_match: None,
            deadline: Duration::from_secs(seconds) + deadlines::WAIT_GRACE,
        };
        match self.ask(request.clone()).await? {
            Answer::Sync { metadata, .. } => envelope::decode(&request, metadata),
            Answer::Async { operation } => Ok(*operation),
        }
    }

    /// Cancels an operation; for a token this revokes it.
    ///
    /// # Errors
    /// The operation cannot be cancelled, or is gone.
    pub async fn cancel(&self, id: &str) -> Result<(), LxdError> {
        self.write(Write::new(Method::Delete, path(&["operations", id])))
            .await
    }
}

fn ended(operation: Operation) -> Result<Operation, LxdError> {
    if operation.status_code == code::SUCCESS {
        return Ok(operation);
    }
    let message = if operation.err.is_empty() {
        operation.status
    } else {
        operation.err
    };
    Err(match operation.err_code {
        404 | 409 | 412 | 503 => LxdError::reported(operation.err_code, message),
        _ => LxdError::Operation { message },
    })
}
