//! The transport against a server on a unix socket.

use crate::services::lxd::deadlines::EVENT_SILENCE;
use crate::services::lxd::{HttpTransport, Lxd, Method, Request, Transport, TransportError};
use axum::extract::ws::{Message, WebSocketUpgrade};
use axum::extract::{RawQuery, Request as HttpRequest};
use axum::http::HeaderMap;
use axum::response::IntoResponse;
use axum::{Json, Router, routing};
use futures_util::StreamExt;
use serde_json::json;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::net::UnixListener;

struct Served {
    dir: tempfile::TempDir,
    task: tokio::task::JoinHandle<()>,
}

impl Served {
    fn socket(&self) -> PathBuf {
        self.dir.path().join("s")
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn serve(router: Router) -> Served {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let listener = UnixListener::bind(dir.path().join("s")).expect("a socket");
    let task = tokio::spawn(async move {
        axum::serve(listener, router).await.expect("served");
    });
    Served { dir, task }
}

fn request(method: Method, path: &str) -> Request {
    Request {
        method,
        path: path.to_owned(),
        query: Vec::new(),
        body: None,
        if_match: None,
        deadline: Duration::from_secs(5),
    }
}

async fn echo(
    headers: HeaderMap,
    RawQuery(query): RawQuery,
    http: HttpRequest,
) -> impl IntoResponse {
    let method = http.method().to_string();
    let path = http.uri().path().to_owned();
    let body = axum::body::to_bytes(http.into_body(), 1 << 20)
        .await
        .expect("a body");
    let header = |name: &str| {
        headers
            .get(name)
            .and_then(|v| v.to_str().ok())
            .map(str::to_owned)
    };
    (
        [("ETag", "abc")],
        Json(json!({"type": "sync", "status_code": 200, "metadata": {
            "method": method, "path": path, "query": query, "if_match": header("if-match"),
            "type": header("content-type"), "body": String::from_utf8_lossy(&body)}})),
    )
}

#[tokio::test]
async fn a_request_goes_over_the_wire_as_it_is() {
    let served = serve(Router::new().fallback(echo));
    let transport = HttpTransport::unix(served.socket()).expect("a transport");
    let mut put = request(Method::Put, "/1.0/profiles/a%2Fb");
    put.query = vec![("project", "p&q r".to_owned()), ("target", "m1".to_owned())];
    put.body = Some(json!({"x": 1}));
    put.if_match = Some("e".to_owned());
    let response = transport.send(put).await.expect("an answer");
    assert_eq!(response.status, 200);
    assert_eq!(response.etag.as_deref(), Some("abc"));
    assert_eq!(
        response.body["metadata"],
        json!({"method": "PUT", "path": "/1.0/profiles/a%2Fb",
               "query": "project=p%26q+r&target=m1", "if_match": "e",
               "type": "application/json", "body": "{\"x\":1}"})
    );
    transport
        .send(request(Method::Get, "/1.0"))
        .await
        .expect("an answer");
    assert_eq!(transport.counters(), (2, 1));
}

struct Counting(UnixListener, Arc<AtomicUsize>);

impl axum::serve::Listener for Counting {
    type Io = tokio::net::UnixStream;
    type Addr = tokio::net::unix::SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.accept().await.expect("a connection")
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.0.local_addr()
    }
}

/// A pool opens connections that say nothing, and those stop LXD: see `HttpTransport`.
#[tokio::test]
async fn every_request_on_a_socket_has_its_own_connection() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let listener = UnixListener::bind(dir.path().join("s")).expect("a socket");
    let begun = Arc::new(AtomicUsize::new(0));
    let counting = Counting(listener, begun.clone());
    let router = Router::new().fallback(echo);
    let task = tokio::spawn(async move {
        axum::serve(counting, router).await.expect("served");
    });
    let transport = HttpTransport::unix(dir.path().join("s")).expect("a transport");
    for _ in 0..5 {
        let response = transport.send(request(Method::Get, "/1.0")).await;
        assert_eq!(response.expect("an answer").status, 200);
    }
    task.abort();
    // The sixth is being waited for.
    assert_eq!(begun.load(Ordering::Relaxed), 6);
}

#[tokio::test]
async fn a_name_cannot_reach_another_object() {
    let served = serve(Router::new().fallback(echo));
    let lxd = Lxd::unix(served.socket()).expect("a client");
    for name in ["..", "."] {
        let failure = lxd
            .delete_profile("default", name)
            .await
            .expect_err("not sent");
        assert!(
            failure.to_string().contains("does not name one object"),
            "{failure}"
        );
    }
}

#[tokio::test]
async fn failures_say_where_and_why() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let nothing = HttpTransport::unix(dir.path().join("none")).expect("a transport");
    let failure = nothing
        .send(request(Method::Get, "/1.0"))
        .await
        .expect_err("nobody there");
    assert!(
        matches!(failure, TransportError::Connect { .. }),
        "{failure:?}"
    );
    assert!(
        failure.to_string().contains("/none: No such file"),
        "{failure}"
    );

    let served = serve(
        Router::new()
            .route("/1.0/text", routing::get(|| async { "hello" }))
            .route(
                "/1.0/slow",
                routing::get(|| async {
                    tokio::time::sleep(Duration::from_secs(60)).await;
                }),
            ),
    );
    let transport = HttpTransport::unix(served.socket()).expect("a transport");
    let failure = transport
        .send(request(Method::Get, "/1.0/text"))
        .await
        .expect_err("text");
    assert!(
        matches!(failure, TransportError::NotJson { .. }),
        "{failure:?}"
    );
    let mut slow = request(Method::Get, "/1.0/slow");
    slow.deadline = Duration::from_millis(50);
    let failure = transport.send(slow).await.expect_err("too slow");
    assert!(
        matches!(failure, TransportError::Timeout { .. }),
        "{failure:?}"
    );
}

#[tokio::test]
async fn events_come_over_a_websocket() {
    let upgrade = |ws: WebSocketUpgrade, RawQuery(query): RawQuery| async move {
        assert_eq!(query.as_deref(), Some("type=lifecycle&all-projects=true"));
        ws.on_upgrade(|mut socket| async move {
            let event = json!({"type": "lifecycle", "metadata": {"action": "x"}});
            let sent = socket.send(Message::Text(event.to_string().into())).await;
            assert!(sent.is_ok());
        })
    };
    let served = serve(Router::new().route("/1.0/events", routing::get(upgrade)));
    let transport = HttpTransport::unix(served.socket()).expect("a transport");
    let mut events = transport.events(&["lifecycle"]).await.expect("a stream");
    let first = events.next().await.expect("an item").expect("an event");
    assert_eq!(first["metadata"]["action"], "x");
    let end = events.next().await.expect("an item");
    assert!(matches!(end, Err(TransportError::Broken { .. })), "{end:?}");
    assert!(events.next().await.is_none());
}

#[tokio::test]
async fn a_refused_upgrade_is_a_failure_to_connect() {
    let served = serve(Router::new().fallback(echo));
    let transport = HttpTransport::unix(served.socket()).expect("a transport");
    let Err(failure) = transport.events(&["lifecycle"]).await else {
        panic!("there is no WebSocket there");
    };
    assert!(
        matches!(failure, TransportError::Connect { .. }),
        "{failure:?}"
    );
}

/// A peer that neither closes nor answers pings is noticed. Time runs by itself here: it is
/// advanced only while everything waits, and the exchange over the socket is done before.
#[tokio::test]
async fn a_half_dead_socket_is_noticed() {
    let upgrade = |ws: WebSocketUpgrade| async move {
        ws.on_upgrade(|socket| async move {
            // Held open, never read: pings stay unanswered.
            std::future::pending::<()>().await;
            drop(socket);
        })
    };
    let served = serve(Router::new().route("/1.0/events", routing::get(upgrade)));
    let transport = HttpTransport::unix(served.socket()).expect("a transport");
    let mut events = transport.events(&["lifecycle"]).await.expect("a stream");
    tokio::time::pause();
    let start = tokio::time::Instant::now();
    let end = events.next().await.expect("an item");
    assert!(
        matches!(end, Err(TransportError::Timeout { .. })),
        "{end:?}"
    );
    let took = start.elapsed();
    assert!(
        took >= EVENT_SILENCE - Duration::from_secs(1) && took < EVENT_SILENCE * 2,
        "{took:?}"
    );
}
