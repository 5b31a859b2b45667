//! A proxy in front of a unix socket that counts requests and writes, so that "nothing was
//! written" is seen where it counts: at the socket. Upgraded connections (events) pass through.

// Each program uses a part of this.
#![allow(dead_code)]

use hyper::body::Incoming;
use hyper::header::{CONNECTION, UPGRADE};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::Runtime;

/// What went through.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// All requests.
    pub requests: u64,
    /// Those that were not reads, with their paths.
    pub writes: Vec<String>,
}

/// A proxy that runs until it is dropped.
pub struct Proxy {
    seen: Arc<Mutex<Seen>>,
    listener: PathBuf,
    _runtime: Runtime,
}

impl Proxy {
    /// Listens at `listen` and passes everything on to the socket at `to`.
    ///
    /// # Errors
    /// The socket cannot be made.
    pub fn start(listen: &Path, to: &Path) -> Result<Proxy, Box<dyn Error>> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let _ = std::fs::remove_file(listen);
        let sockets = runtime.block_on(async { UnixListener::bind(listen) })?;
        let seen = Arc::new(Mutex::new(Seen::default()));
        runtime.spawn(serve(sockets, to.to_owned(), seen.clone()));
        Ok(Proxy {
            seen,
            listener: listen.to_owned(),
            _runtime: runtime,
        })
    }

    /// What went through so far.
    pub fn seen(&self) -> Seen {
        lock(&self.seen).clone()
    }

    /// Begins to count anew; what went through until now.
    pub fn take(&self) -> Seen {
        std::mem::take(&mut *lock(&self.seen))
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.listener);
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(sockets: UnixListener, to: PathBuf, seen: Arc<Mutex<Seen>>) {
    while let Ok((client, _)) = sockets.accept().await {
        let (to, seen) = (to.clone(), seen.clone());
        tokio::spawn(async move {
            let service = service_fn(move |request| pass(request, to.clone(), seen.clone()));
            // A client that goes is no failure of the proxy.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(client), service)
                .with_upgrades()
                .await;
        });
    }
}

/// Counts one request and passes it on, on a connection of its own.
async fn pass(
    mut request: Request<Incoming>,
    to: PathBuf,
    seen: Arc<Mutex<Seen>>,
) -> Result<Response<Incoming>, Box<dyn Error + Send + Sync>> {
    {
        let mut seen = lock(&seen);
        seen.requests += 1;
        if request.method() != Method::GET && request.method() != Method::HEAD {
            let line = format!("{} {}", request.method(), request.uri());
            seen.writes.push(line);
        }
    }
    let server = UnixStream::connect(&to).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(server)).await?;
    tokio::spawn(connection.with_upgrades());
    let upgrade = request.headers().contains_key(UPGRADE);
    if !upgrade {
        request.headers_mut().remove(CONNECTION);
        return Ok(sender.send_request(request).await?);
    }
    let from_client = hyper::upgrade::on(&mut request);
    let mut response = sender.send_request(request).await?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let from_server = hyper::upgrade::on(&mut response);
        tokio::spawn(async move {
            if let (Ok(client), Ok(server)) = (from_client.await, from_server.await) {
                let (mut client, mut server) = (TokioIo::new(client), TokioIo::new(server));
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            }
        });
    }
    Ok(response)
}
