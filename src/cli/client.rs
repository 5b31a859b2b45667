//! The agent of this machine, asked over its unix socket. The words of the conversation are in
//! [`crate::agent::api`].

use super::Exit;
use crate::agent::api;
use crate::agent::control_client::{ControlClient, ControlError};
use crate::convert::export::Exported;
use crate::resources::Resource;
use crate::services::host::HostReport;
use axum::body::Bytes;
use axum::http::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long an answer may take that is only looked up.
const LOOKED_UP: Duration = Duration::from_secs(30);

/// How long an answer may take that needs the services: plans, writes of the memory, full looks.
const WORKED_FOR: Duration = Duration::from_secs(120);

/// What the agent may take on top of the time it was told to wait.
const SLACK: Duration = Duration::from_secs(15);

/// Why the agent did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No answer came.
    #[error(transparent)]
    NoAnswer(#[from] ControlError),
    /// The answer is none this program knows.
    #[error(
        "the agent on {} answers {path} in words this program does not know; \
         do both have the same version?",
        .socket.display()
    )]
    Foreign {
        /// The socket.
        socket: PathBuf,
        /// What was asked.
        path: String,
        /// Why, when it can be told.
        #[source]
        source: Option<serde_json::Error>,
    },
    /// The agent says no.
    #[error("{message}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// Its sentence.
        message: String,
    },
}

impl ClientError {
    /// The exit code of a command that ends with it.
    pub fn exit(&self) -> Exit {
        match self {
            ClientError::Refused { status, .. } if *status < 500 => Exit::Invalid,
            _ => Exit::Unreachable,
        }
    }
}

/// The agent of this machine.
#[derive(Debug, Clone)]
pub struct Client {
    control: ControlClient,
}

impl Client {
    /// A client of the agent on `socket`; nothing is opened before the first request.
    pub fn new(socket: &Path) -> Client {
        Client {
            control: ControlClient::new(socket),
        }
    }

    /// What the agent knows; waits up to `wait` for a report whose version is above `after`.
    ///
    /// # Errors
    /// No answer came.
    pub async fn status(
        &self,
        after: u64,
        wait: Duration,
    ) -> Result<api::AgentStatus, ClientError> {
        self.look("/v1/status", Some((after, wait))).await
    }

    /// The accepted resources.
    ///
    /// # Errors
    /// No answer came.
    pub async fn resources(&self) -> Result<Vec<Resource>, ClientError> {
        self.look::<api::Resources>("/v1/resources", None).await
    }

    /// All machines of the members, as the controller saw them last.
    ///
    /// # Errors
    /// No answer came.
    pub async fn reports(&self) -> Result<Vec<HostReport>, ClientError> {
        self.look("/v1/reports", None).await
    }

    /// The running cluster as resources; `enforce` leaves `mode: Report` out.
    ///
    /// # Errors
    /// No answer came, or the cluster could not be read.
    pub async fn export(&self, enforce: bool) -> Result<Exported, ClientError> {
        let path = match enforce {
            true => "/v1/export?enforce=true",
            false => "/v1/export",
        };
        self.look(path, None).await
    }

    /// The events after a number; waits up to `wait` for the first.
    ///
    /// # Errors
    /// No answer came.
    pub async fn events(&self, after: u64, wait: Duration) -> Result<api::Events, ClientError> {
        self.look("/v1/events", Some((after, wait))).await
    }

    /// Applies resources.
    ///
    /// # Errors
    /// No answer came, or one of them may not be applied: then none was.
    pub async fn apply(&self, ask: &api::Apply) -> Result<api::AppliedAll, ClientError> {
        self.work("/v1/apply", ask).await
    }

    /// Deletes resources that were applied.
    ///
    /// # Errors
    /// No answer came, or one of them may not be deleted: then none was.
    pub async fn delete(&self, ask: &api::Delete) -> Result<api::AppliedAll, ClientError> {
        self.work("/v1/delete", ask).await
    }

    /// What would be done.
    ///
    /// # Errors
    /// No answer came, or one of the resources may not be applied.
    pub async fn diff(&self, ask: &api::Diff) -> Result<api::Plans, ClientError> {
        self.work("/v1/diff", ask).await
    }

    /// Has everything looked at again.
    ///
    /// # Errors
    /// No answer came, or one of the objects is not there.
    pub async fn reconcile(&self, ask: &api::Reconcile) -> Result<(), ClientError> {
        self.tell("/v1/reconcile", ask).await
    }

    /// Suspends.
    ///
    /// # Errors
    /// No answer came, or it could not be kept.
    pub async fn suspend(&self, ask: &api::Suspend) -> Result<(), ClientError> {
        self.tell("/v1/suspend", ask).await
    }

    /// Ends a suspension.
    ///
    /// # Errors
    /// No answer came, or it could not be kept.
    pub async fn resume(&self, ask: &api::Resume) -> Result<(), ClientError> {
        self.tell("/v1/resume", ask).await
    }

    /// Approves a step.
    ///
    /// # Errors
    /// No answer came, or no plan asks for it.
    pub async fn approve(&self, ask: &api::Approve) -> Result<(), ClientError> {
        self.tell("/v1/approve", ask).await
    }

    pub(super) async fn look<T: DeserializeOwned>(
        &self,
        path: &str,
        wait: Option<(u64, Duration)>,
    ) -> Result<T, ClientError> {
        let mut full = path.to_owned();
        let mut deadline = LOOKED_UP;
        if let Some((after, wait)) = wait {
            // Whole seconds go over the wire; waiting a little longer does no harm.
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            full.push_str(&format!("?after={after}&timeout={seconds}"));
            deadline = Duration::from_secs(seconds) + SLACK;
        }
        let answer = self.send(Method::GET, &full, None, deadline).await?;
        self.understand(path, &answer)
    }

    pub(super) async fn work<T: DeserializeOwned>(
        &self,
        path: &str,
        ask: &impl Serialize,
    ) -> Result<T, ClientError> {
        let answer = self.post(path, ask).await?;
        self.understand(path, &answer)
    }

    /// As [`Client::work`], for what takes longer.
    pub(super) async fn work_for<T: DeserializeOwned>(
        &self,
        path: &str,
        ask: &Value,
        deadline: Duration,
    ) -> Result<T, ClientError> {
        let answer = self.send(Method::POST, path, Some(ask), deadline).await?;
        self.understand(path, &answer)
    }

    pub(super) async fn tell(&self, path: &str, ask: &impl Serialize) -> Result<(), ClientError> {
        self.post(path, ask).await.map(drop)
    }

    async fn post(&self, path: &str, ask: &impl Serialize) -> Result<Bytes, ClientError> {
        let body = serde_json::to_value(ask).map_err(|e| self.foreign(path, Some(e)))?;
        self.send(Method::POST, path, Some(&body), WORKED_FOR).await
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        deadline: Duration,
    ) -> Result<Bytes, ClientError> {
        let answer = self.control.ask(method, path, body, deadline).await?;
        let status = answer.status;
        if (200..300).contains(&status) {
            return Ok(answer.body);
        }
        match serde_json::from_slice::<api::Failure>(&answer.body) {
            Ok(failure) => Err(ClientError::Refused {
                status,
                message: failure.message,
            }),
            // A route the agent does not have, or something else behind the socket.
            Err(_) if status == 404 => Err(self.foreign(path, None)),
            Err(_) => Err(ClientError::Refused {
                status,
                message: format!("the agent answered with HTTP status {status}"),
            }),
        }
    }

    fn understand<T: DeserializeOwned>(&self, path: &str, body: &[u8]) -> Result<T, ClientError> {
        serde_json::from_slice(body).map_err(|e| self.foreign(path, Some(e)))
    }

    fn foreign(&self, path: &str, source: Option<serde_json::Error>) -> ClientError {
        ClientError::Foreign {
            socket: self.control.socket().to_owned(),
            path: path.split('?').next().unwrap_or(path).to_owned(),
            source,
        }
    }
}
