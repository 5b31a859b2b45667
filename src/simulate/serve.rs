//! A simulated LXD on a real unix socket, for tests of the wire itself.

use super::SimCloud;
use super::process::{Origin, SimTransport};
use crate::services::lxd::{Method, Request, Response, Transport};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::http::{self, HeaderMap, StatusCode, Uri, header};
use axum::response::IntoResponse;
use futures_util::StreamExt;
use serde_json::Value;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::UnixListener;
use tokio::task::JoinHandle;

/// A socket that serves a simulated LXD; it ends, and its file goes, when this is dropped.
#[derive(Debug)]
pub struct SimServer {
    path: PathBuf,
    task: JoinHandle<()>,
}

impl SimServer {
    /// Where it listens.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SimServer {
    fn drop(&mut self) {
        self.task.abort();
        // Nothing is lost when the file is gone already.
        let _ = std::fs::remove_file(&self.path);
    }
}

impl SimCloud {
    /// Serves the LXD of a machine on a unix socket, with events over websockets. Use real time:
    /// paused time runs away while a socket waits.
    ///
    /// # Errors
    /// The socket cannot be made.
    pub fn serve_unix(&self, member: &str, path: &Path) -> io::Result<SimServer> {
        let listener = UnixListener::bind(path)?;
        let lxd = self.sim_transport(member, Origin::Client);
        let router = Router::new()
            .route("/1.0/events", axum::routing::get(events))
            .fallback(pass)
            .with_state(lxd);
        let task = tokio::spawn(async move {
            // An error here ends the server; the test's next request says so.
            let _ = axum::serve(listener, router).await;
        });
        Ok(SimServer {
            path: path.to_owned(),
            task,
        })
    }
}

fn query_of(uri: &Uri) -> Vec<(&'static str, String)> {
    super::lxd::parse_query(uri.query().unwrap_or_default())
}

async fn pass(
    State(lxd): State<SimTransport>,
    method: http::Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> http::Response<Body> {
    let method = match method {
        http::Method::GET => Method::Get,
        http::Method::POST => Method::Post,
        http::Method::PUT => Method::Put,
        http::Method::PATCH => Method::Patch,
        http::Method::DELETE => Method::Delete,
        _ => return StatusCode::METHOD_NOT_ALLOWED.into_response(),
    };
    let body = match body.is_empty() {
        true => None,
        false => match serde_json::from_slice::<Value>(&body) {
            Ok(value) => Some(value),
            Err(error) => return render(super::lxd::refused(400, &error.to_string())),
        },
    };
    let request = Request {
        method,
        path: uri.path().to_owned(),
        query: query_of(&uri),
        body,
        if_match: headers
            .get(header::IF_MATCH)
            .and_then(|v| v.to_str().ok())
            .map(str::to_owned),
        deadline: Duration::from_secs(3600),
    };
    match lxd.send(request).await {
        Ok(response) => render(response),
        // The service is gone: the connection breaks without an answer.
        Err(_) => http::Response::new(Body::from_stream(futures_util::stream::once(async {
            Err::<Bytes, _>(io::Error::from(io::ErrorKind::ConnectionReset))
        }))),
    }
}

fn render(response: Response) -> http::Response<Body> {
    let mut out = http::Response::new(Body::from(response.body.to_string()));
    *out.status_mut() =
        StatusCode::from_u16(response.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = out.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("application/json"),
    );
    if let Some(etag) = response.etag.and_then(|e| e.parse().ok()) {
        headers.insert(header::ETAG, etag);
    }
    if let Some(at) = response.body["operation"]
        .as_str()
        .filter(|o| !o.is_empty())
        .and_then(|o| o.parse().ok())
    {
        headers.insert(header::LOCATION, at);
    }
    out
}

async fn events(
    State(lxd): State<SimTransport>,
    uri: Uri,
    upgrade: WebSocketUpgrade,
) -> http::Response<Body> {
    let query = query_of(&uri);
    let types: Vec<String> = query
        .iter()
        .find(|(key, _)| *key == "type")
        .map(|(_, types)| types.split(',').map(str::to_owned).collect())
        .unwrap_or_else(|| vec!["lifecycle".into(), "operation".into()]);
    upgrade.on_upgrade(move |socket| forward(lxd, types, socket))
}

async fn forward(lxd: SimTransport, types: Vec<String>, mut socket: WebSocket) {
    let types: Vec<&str> = types.iter().map(String::as_str).collect();
    let Ok(mut stream) = lxd.events(&types).await else {
        return;
    };
    loop {
        tokio::select! {
            event = stream.next() => match event {
                Some(Ok(event)) => {
                    if socket.send(Message::Text(event.to_string().into())).await.is_err() {
                        return;
                    }
                }
                Some(Err(_)) | None => return,
            },
            from_client = socket.recv() => if from_client.is_none_or(|m| m.is_err()) {
                return;
            },
        }
    }
}
