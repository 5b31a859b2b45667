//! What other members' agents may ask of this one, over TLS with proven keys.

use super::host_routes;
use super::machine::Machine;
use super::serve::serve_connection;
use super::session::{Door, Entry};
use super::trust::TrustBook;
use crate::services::host::HostError;
use crate::services::peer::session::{ALPN, Source};
use crate::services::peer::tls::{self, Presented};
use crate::services::peer::{Fingerprint, Identity, MEMBER_HEADER, Pins, VERSION, VERSION_HEADER};
use axum::Router;
use axum::body::Body;
use axum::http::{HeaderValue, Request, Response, StatusCode};
use rustls::ServerConfig;
use rustls::server::Acceptor;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long a caller may take to prove its key.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Connections whose key is not proven yet; strangers cannot use up the others.
const UNPROVEN: usize = 1024;
/// The same from one network (a whole IPv6 /64 is one) and from one address: one stranger cannot
/// keep the others from proving theirs.
const UNPROVEN_FROM_NETWORK: usize = 512;
const UNPROVEN_FROM_ONE: usize = 256;
/// Connections of members.
const PROVEN: usize = 1024;

/// Who is at the other end of a connection: proven, and trusted when the request began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerIdentity {
    /// The member's name.
    pub name: String,
    /// Its key.
    pub fingerprint: Fingerprint,
}

/// The listener for other members' agents.
pub struct PeerServer {
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    door: Option<Arc<Door>>,
    trust: Arc<TrustBook>,
    router: Router,
    refused: Refused,
}

impl PeerServer {
    /// Listens on `address`. `extra` are the routes beside those of the machine; they find the
    /// caller's [`PeerIdentity`] among the request's extensions.
    ///
    /// # Errors
    /// The address cannot be listened on.
    pub async fn bind(
        address: SocketAddr,
        identity: Arc<Identity>,
        machine: Arc<Machine>,
        extra: Router,
    ) -> io::Result<PeerServer> {
        let trust = Arc::clone(&machine.trust);
        let pins: Arc<dyn Pins> = Arc::clone(&trust) as Arc<dyn Pins>;
        let tls = tls::server_config(identity, pins).map_err(io::Error::other)?;
        let router = host_routes::routes(machine)
            .merge(extra)
            .fallback(|| async { StatusCode::NOT_FOUND });
        Ok(PeerServer {
            listener: listen(address).await?,
            tls: Arc::new(tls),
            door: None,
            trust,
            router,
            refused: Refused::default(),
        })
    }

    /// Lets strangers come to `door`, and to nothing else: who asks for a session of trust in its
    /// handshake never reaches the routes of members, whatever its key.
    #[must_use]
    pub fn with_door(mut self, door: Arc<Door>) -> PeerServer {
        self.door = Some(door);
        self
    }

    /// Where it listens.
    ///
    /// # Errors
    /// The system does not say.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `stop`; running requests are tasks of `tasks`.
    pub async fn serve(self, stop: CancellationToken, tasks: TaskTracker) {
        let server = Arc::new(self);
        let unproven = Unproven::default();
        let proven = Arc::new(Semaphore::new(PROVEN));
        loop {
            let accepted = tokio::select! {
                accepted = server.listener.accept() => accepted,
                () = stop.cancelled() => return,
            };
            let (tcp, from) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of files, or the caller is gone already: neither ends the server.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let Some(place) = unproven.take(from.ip()) else {
                server
                    .refused
                    .note(from.ip(), "too many unproven connections");
                continue;
            };
            let (server, proven, stop) = (Arc::clone(&server), Arc::clone(&proven), stop.clone());
            tasks.spawn(async move {
                let came = tokio::select! {
                    came = server.handshake(tcp, from) => came,
                    () = stop.cancelled() => return,
                };
                drop(place);
                let (stream, peer) = match came {
                    Some(Came::Member(stream, peer)) => (*stream, peer),
                    Some(Came::Joiner(stream, presented)) => {
                        if let Some(door) = &server.door {
                            door.serve(*stream, presented, from, stop).await;
                        }
                        return;
                    }
                    None => return,
                };
                let Ok(_place) = proven.try_acquire() else {
                    server.refused.note(from.ip(), "too many connections");
                    return;
                };
                let router = server.router.clone();
                let prepare = move |request: &mut Request<Body>| server.prepare(request, &peer);
                serve_connection(stream, router, prepare, stop).await;
            });
        }
    }

    /// Lets the caller prove its key. `None` when it is not let in.
    async fn handshake(&self, tcp: TcpStream, from: SocketAddr) -> Option<Came> {
        let _ = tcp.set_nodelay(true); // slower without, not wrong
        match tokio::time::timeout(HANDSHAKE, self.accept(tcp, from)).await {
            Ok(came) => came,
            Err(_) => {
                self.refused.note(from.ip(), "no handshake within 10 s");
                None
            }
        }
    }

    async fn accept(&self, tcp: TcpStream, from: SocketAddr) -> Option<Came> {
        let mut greeting = LazyConfigAcceptor::new(Acceptor::default(), tcp);
        let greeted = match (&mut greeting).await {
            Ok(greeted) => greeted,
            Err(error) => {
                self.refused.note(from.ip(), &error.to_string());
                linger(greeting.take_io()?).await;
                return None;
            }
        };
        let hello = greeted.client_hello();
        let joins = hello
            .alpn()
            .is_some_and(|mut wanted| wanted.any(|protocol| protocol == ALPN));
        let config = match &self.door {
            Some(door) if joins => match door.entry(from.ip()) {
                Entry::Handshake(config) => config,
                Entry::Nothing => {
                    self.refused.note(from.ip(), "it guessed too often");
                    return None;
                }
            },
            _ => Arc::clone(&self.tls),
        };
        let stream = match greeted.into_stream(config).into_fallible().await {
            Ok(stream) => stream,
            Err((error, tcp)) => {
                let reason = tls::refusal(&error).unwrap_or_else(|| error.to_string());
                self.refused.note(from.ip(), &reason);
                linger(tcp).await;
                return None;
            }
        };
        let session = &stream.get_ref().1;
        let presented = Presented::read(session.peer_certificates()?.first()?).ok()?;
        // Only the door's configuration knows this protocol.
        if session.alpn_protocol() == Some(ALPN) {
            return Some(Came::Joiner(Box::new(stream), presented));
        }
        let peer = PeerIdentity {
            name: presented.name,
            fingerprint: presented.fingerprint,
        };
        // Only now the key is proven, and may be bound to its name.
        if let Err(error) = self.trust.bind(&peer.name, &peer.fingerprint) {
            tracing::error!(
                error = super::with_causes(&error),
                "cannot store who a key belongs to"
            );
            return None;
        }
        Some(Came::Member(Box::new(stream), peer))
    }

    /// Checks a request against the connection's key: it must still be trusted, and be of the
    /// member the request names.
    fn prepare(
        &self,
        request: &mut Request<Body>,
        peer: &PeerIdentity,
    ) -> Result<(), Box<Response<Body>>> {
        let refuse = |reason: String| {
            let error = HostError::NotTrusted {
                name: peer.name.clone(),
                reason,
            };
            let mut response = host_routes::error_response(&error);
            close(&mut response);
            Err(Box::new(response))
        };
        if let Err(refusal) = self.trust.admit(&peer.name, &peer.fingerprint) {
            return refuse(refusal.to_string());
        }
        match request.headers().get(MEMBER_HEADER) {
            Some(named) if named.as_bytes() == peer.name.as_bytes() => {}
            Some(named) => {
                let named = String::from_utf8_lossy(named.as_bytes());
                return refuse(format!(
                    "the request is in the name of `{named}`, the key belongs to `{}`",
                    peer.name
                ));
            }
            None => return refuse(format!("the request has no {MEMBER_HEADER} header")),
        }
        request.extensions_mut().insert(peer.clone());
        Ok(())
    }
}

/// Who is at the other end once the handshake is complete.
enum Came {
    /// A member whose key is trusted.
    Member(Box<TlsStream<TcpStream>>, PeerIdentity),
    /// A stranger who asks for a session of trust.
    Joiner(Box<TlsStream<TcpStream>>, Presented),
}

/// The connections whose key is not proven yet, by address.
#[derive(Debug, Clone, Default)]
struct Unproven(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// A place among the unproven; free again when dropped.
struct Place {
    of: Unproven,
    from: IpAddr,
}

impl Unproven {
    fn take(&self, from: IpAddr) -> Option<Place> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.values().sum::<usize>() >= UNPROVEN {
            return None;
        }
        let network = Source::of(from);
        let near = counts.iter().filter(|(ip, _)| Source::of(**ip) == network);
        if near.map(|(_, count)| count).sum::<usize>() >= UNPROVEN_FROM_NETWORK {
            return None;
        }
        let count = counts.entry(from).or_default();
        if *count >= UNPROVEN_FROM_ONE {
            return None;
        }
        *count += 1;
        let of = self.clone();
        Some(Place { of, from })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.of.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.from) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.from);
            }
        }
    }
}

/// Marks an answer as the last of its connection.
fn close(response: &mut Response<Body>) {
    let headers = response.headers_mut();
    headers.insert("connection", HeaderValue::from_static("close"));
    headers.insert(VERSION_HEADER, HeaderValue::from_static(VERSION));
}

/// Listens; where the machine has no IPv6, every address means every IPv4 address.
async fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    match TcpListener::bind(address).await {
        Err(e)
            if address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED)
                && e.raw_os_error() == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error()) =>
        {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port())).await
        }
        bound => bound,
    }
}

/// Takes in what a refused caller has sent already, for a moment: closing at once would throw
/// away the alert that tells it why.
async fn linger(mut tcp: TcpStream) {
    let drain = async {
        let _ = tcp.shutdown().await;
        let mut rest = [0u8; 4096];
        let mut most = 64;
        while most > 0 && matches!(tcp.read(&mut rest).await, Ok(n) if n > 0) {
            most -= 1;
        }
    };
    let _ = tokio::time::timeout(Duration::from_secs(1), drain).await;
}

/// Says that callers were refused, at most ten times a minute: a stranger must not fill the log.
#[derive(Debug)]
struct Refused {
    began: Instant,
    /// The minute in the upper half, the count in the lower.
    window: AtomicU64,
}

impl Default for Refused {
    fn default() -> Refused {
        Refused {
            began: Instant::now(),
            window: AtomicU64::new(0),
        }
    }
}

impl Refused {
    const MOST: u64 = 10;

    fn note(&self, from: IpAddr, reason: &str) {
        let from = from.to_canonical();
        let minute = self.began.elapsed().as_secs() / 60;
        let counted = self
            .window
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |window| {
                if window >> 32 == minute {
                    Some(window.saturating_add(1))
                } else {
                    Some(minute << 32 | 1)
                }
            })
            .map_or(1, |before| {
                if before >> 32 == minute {
                    (before & 0xffff_ffff) + 1
                } else {
                    1
                }
            });
        if counted <= Refused::MOST {
            tracing::warn!(%from, reason, "refused a connection");
        } else if counted == Refused::MOST + 1 {
            tracing::warn!("refused more connections; the rest of this minute is not shown");
        }
    }
}
