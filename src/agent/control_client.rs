//! How commands reach the agent of this machine: HTTP over its unix socket.

use axum::body::{Body, Bytes};
use axum::http::{Method, Request};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::UnixStream;

/// The most an answer may hold, bytes.
const MOST: usize = 256 << 20;

/// The agent of this machine did not answer.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// No agent is running.
    #[error(
        "no agent answers on {socket}: start it with `systemctl start microcloud`, or name another \
         socket with --socket"
    )]
    NotRunning {
        /// The socket.
        socket: PathBuf,
    },
    /// This user may not use the socket.
    #[error("not allowed to use {socket}: be root or a member of the group `microcloud`")]
    NotAllowed {
        /// The socket.
        socket: PathBuf,
    },
    /// The connection broke.
    #[error("the connection to the agent on {socket} broke: {reason}")]
    Broken {
        /// The socket.
        socket: PathBuf,
        /// Why.
        reason: String,
    },
    /// The deadline passed.
    #[error("the agent on {socket} did not answer within {seconds} s")]
    Late {
        /// The socket.
        socket: PathBuf,
        /// The deadline.
        seconds: u64,
    },
}

/// An answer of the agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlAnswer {
    /// The HTTP status.
    pub status: u16,
    /// The body.
    pub body: Bytes,
}

/// The socket of this machine's agent.
#[derive(Debug, Clone)]
pub struct ControlClient {
    socket: PathBuf,
}

impl ControlClient {
    /// A client for the agent on `socket`; nothing is opened yet.
    pub fn new(socket: impl Into<PathBuf>) -> ControlClient {
        ControlClient {
            socket: socket.into(),
        }
    }

    /// The socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Sends a request and waits for the whole answer. An answer that reports a failure is not an
    /// error here.
    ///
    /// # Errors
    /// No answer came within `deadline`.
    pub async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        deadline: Duration,
    ) -> Result<ControlAnswer, ControlError> {
        let exchange = async {
            let (status, body) = self.begin(method, path, body).await?;
            let body = axum::body::to_bytes(body, MOST)
                .await
                .map_err(|e| self.broken(&e))?;
            Ok(ControlAnswer { status, body })
        };
        tokio::time::timeout(deadline, exchange)
            .await
            .unwrap_or_else(|_| Err(self.late(deadline)))
    }

    /// Sends a request and hands the answer's body on as it comes (`Body::into_data_stream`).
    /// `deadline` bounds the wait for the answer's beginning.
    ///
    /// # Errors
    /// No answer began within `deadline`.
    pub async fn stream(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        deadline: Duration,
    ) -> Result<(u16, Body), ControlError> {
        tokio::time::timeout(deadline, self.begin(method, path, body))
            .await
            .unwrap_or_else(|_| Err(self.late(deadline)))
    }

    async fn begin(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(u16, Body), ControlError> {
        let stream = UnixStream::connect(&self.socket)
            .await
            .map_err(|e| self.no_connection(&e))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|e| self.broken(&e))?;
        // Ends by itself when the answer has been read or dropped.
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "the connection to the agent broke");
            }
        });
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "localhost");
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        let body = body.map_or_else(Body::empty, |value| Body::from(value.to_string()));
        let request = request.body(body).map_err(|e| self.broken(&e))?;
        let response = sender
            .send_request(request)
            .await
            .map_err(|e| self.broken(&e))?;
        Ok((response.status().as_u16(), Body::new(response.into_body())))
    }

    fn no_connection(&self, error: &io::Error) -> ControlError {
        let socket = self.socket.clone();
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                ControlError::NotRunning { socket }
            }
            io::ErrorKind::PermissionDenied => ControlError::NotAllowed { socket },
            _ => self.broken(error),
        }
    }

    fn broken(&self, error: &dyn std::error::Error) -> ControlError {
        ControlError::Broken {
            socket: self.socket.clone(),
            reason: super::with_causes(error),
        }
    }

    fn late(&self, deadline: Duration) -> ControlError {
        ControlError::Late {
            socket: self.socket.clone(),
            seconds: deadline.as_secs(),
        }
    }
}
