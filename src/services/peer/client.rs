//! Calls to the agents of other members: one kept connection per member, every call with a
//! deadline, every failure told apart: not reached, not trusted, refused.

use super::identity::Identity;
use super::pins::{Fingerprint, Pins};
use super::tls;
use super::{EPOCH_HEADER, MEMBER_HEADER, VERSION, VERSION_HEADER};
use crate::services::host::{HostError, HostTarget};
use bytes::{Bytes, BytesMut};
use futures_util::stream::{BoxStream, StreamExt};
use reqwest::Method;
use rustls::AlertDescription;
use rustls::pki_types::ServerName;
use std::collections::HashMap;
use std::error::Error as StdError;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// How long making a connection may take, handshake included.
const CONNECT: Duration = Duration::from_secs(5);

/// An unused connection is closed after this; agents keep theirs open a little longer.
const KEEP: Duration = Duration::from_secs(40);

/// The most an answer may hold, bytes.
const MOST: usize = 64 << 20;

/// The epoch this agent leads with.
pub trait Claim: Send + Sync + fmt::Debug {
    /// `None` when it does not lead: its calls may then only read.
    fn epoch(&self) -> Option<u64>;
}

/// The claim of a caller that does not lead.
#[derive(Debug, Clone, Copy)]
pub struct NoClaim;

impl Claim for NoClaim {
    fn epoch(&self) -> Option<u64> {
        None
    }
}

/// An answer of another agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body.
    pub body: Bytes,
}

/// The body of an answer that comes in pieces; ends with an error when the connection breaks.
pub type AnswerStream = BoxStream<'static, Result<Bytes, HostError>>;

/// Calls other agents with this agent's key. Cheap to clone.
#[derive(Clone)]
pub struct PeerClient {
    shared: Arc<Shared>,
}

struct Shared {
    identity: Arc<Identity>,
    pins: Arc<dyn Pins>,
    claim: Arc<dyn Claim>,
    port: u16,
    connections: Mutex<HashMap<String, Connection>>,
}

/// The kept connections to one member, made for this address and key.
#[derive(Clone)]
struct Connection {
    address: IpAddr,
    key: Fingerprint,
    http: reqwest::Client,
}

impl fmt::Debug for PeerClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerClient")
            .field("identity", &self.shared.identity)
            .finish_non_exhaustive()
    }
}

impl PeerClient {
    /// A client that proves `identity`, trusts `pins`, leads as `claim` says, and calls agents on
    /// `port`.
    pub fn new(
        identity: Arc<Identity>,
        pins: Arc<dyn Pins>,
        claim: Arc<dyn Claim>,
        port: u16,
    ) -> PeerClient {
        PeerClient {
            shared: Arc::new(Shared {
                identity,
                pins,
                claim,
                port,
                connections: Mutex::default(),
            }),
        }
    }

    /// The name of the calling member.
    pub fn own_name(&self) -> &str {
        self.shared.identity.name()
    }

    /// How the trust store says `member` is reached; `None` when it does not know it.
    pub fn target(&self, member: &str) -> Option<HostTarget> {
        Some(HostTarget {
            name: member.to_owned(),
            address: self.shared.pins.address_of(member)?,
            fingerprint: None,
        })
    }

    /// Passes a request on to the agent of a member and waits for the whole answer. `path` may
    /// carry a query. An answer that reports a failure is not an error here.
    ///
    /// # Errors
    /// No answer within `deadline`, or one of the two does not trust the other.
    pub async fn forward(
        &self,
        target: &HostTarget,
        method: Method,
        path: &str,
        body: Bytes,
        deadline: Duration,
    ) -> Result<Answer, HostError> {
        let call = async {
            let response = self.send(target, method, path, body).await?;
            let status = response.status().as_u16();
            let mut pieces = response.bytes_stream();
            let mut whole = BytesMut::new();
            while let Some(piece) = pieces.next().await {
                let piece = piece.map_err(|e| unreachable(target, self.shared.port, &e))?;
                if whole.len() + piece.len() > MOST {
                    return Err(HostError::Failed {
                        reason: format!("{} answered with more than {MOST} bytes", target.name),
                    });
                }
                whole.extend_from_slice(&piece);
            }
            Ok(Answer {
                status,
                body: whole.freeze(),
            })
        };
        match tokio::time::timeout(deadline, call).await {
            Ok(answer) => answer,
            Err(_) => Err(self.too_late(target, deadline)),
        }
    }

    /// Like [`PeerClient::forward`], but hands the answer on as it comes. `deadline` bounds the
    /// wait for the answer's beginning; the body may take as long as it takes.
    ///
    /// # Errors
    /// No answer began within `deadline`, or one of the two does not trust the other.
    pub async fn forward_stream(
        &self,
        target: &HostTarget,
        method: Method,
        path: &str,
        body: Bytes,
        deadline: Duration,
    ) -> Result<(u16, AnswerStream), HostError> {
        let begin = self.send(target, method, path, body);
        let response = tokio::time::timeout(deadline, begin)
            .await
            .map_err(|_| self.too_late(target, deadline))??;
        let status = response.status().as_u16();
        let (target, port) = (target.clone(), self.shared.port);
        let pieces = response
            .bytes_stream()
            .map(move |piece| piece.map_err(|e| unreachable(&target, port, &e)));
        Ok((status, pieces.boxed()))
    }

    async fn send(
        &self,
        target: &HostTarget,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<reqwest::Response, HostError> {
        let connection = self.connection(target)?;
        let at = SocketAddr::new(target.address, self.shared.port);
        let url = format!("https://{at}{path}");
        // A kept connection may have died unseen; what only reads is asked a second time.
        let mut again = method == Method::GET;
        loop {
            let mut request = connection
                .http
                .request(method.clone(), &url)
                .header(MEMBER_HEADER, self.own_name())
                .header(VERSION_HEADER, VERSION);
            if let Some(epoch) = self.shared.claim.epoch() {
                request = request.header(EPOCH_HEADER, epoch);
            }
            if !body.is_empty() {
                request = request
                    .header("content-type", "application/json")
                    .body(body.clone());
            }
            let error = match request.send().await {
                Ok(response) => return Ok(response),
                Err(error) => error,
            };
            if let Some(error) = self.distrust(target, &error) {
                return Err(error);
            }
            if again && !error.is_connect() {
                again = false;
                continue;
            }
            // A refusal is an alert that arrives after our side of the handshake is done, and can
            // be lost when the connection breaks under the request: look for it alone.
            if !error.is_connect()
                && let Some(error) = self.look_for_refusal(target, &connection.key).await
            {
                return Err(error);
            }
            return Err(unreachable(target, self.shared.port, &error));
        }
    }

    /// The kept connections to a member, or new ones when its address or pin changed.
    fn connection(&self, target: &HostTarget) -> Result<Connection, HostError> {
        let key = self.key_for(target)?;
        let mut connections = self
            .shared
            .connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(kept) = connections.get(&target.name)
            && kept.address == target.address
            && kept.key == key
        {
            return Ok(kept.clone());
        }
        let http = self
            .tls(target, &key)
            .map_err(|e| e.to_string())
            .and_then(|tls| {
                reqwest::Client::builder()
                    .tls_backend_preconfigured(tls)
                    .https_only(true)
                    .no_proxy()
                    .redirect(reqwest::redirect::Policy::none())
                    .connect_timeout(CONNECT)
                    .pool_idle_timeout(KEEP)
                    .pool_max_idle_per_host(2)
                    .tcp_nodelay(true)
                    .build()
                    .map_err(|e| chain(&e))
            })
            .map_err(|reason| HostError::Failed {
                reason: format!("cannot prepare a connection to {}: {reason}", target.name),
            })?;
        let made = Connection {
            address: target.address,
            key,
            http,
        };
        connections.insert(target.name.clone(), made.clone());
        Ok(made)
    }

    /// The key the member must prove: what the trust store says, else the pin of its resource.
    fn key_for(&self, target: &HostTarget) -> Result<Fingerprint, HostError> {
        if let Some(key) = self.shared.pins.key_of(&target.name) {
            return Ok(key);
        }
        let distrust = |reason: String| HostError::NotTrusted {
            name: target.name.clone(),
            reason,
        };
        let Some(text) = &target.fingerprint else {
            return Err(distrust(
                "no key of it is known: run `microcloud agent fingerprint` there and put the \
                 result into `spec.fingerprint` of the member"
                    .to_owned(),
            ));
        };
        text.parse()
            .map_err(|e: super::pins::BadFingerprint| distrust(e.to_string()))
    }

    fn tls(
        &self,
        target: &HostTarget,
        key: &Fingerprint,
    ) -> Result<rustls::ClientConfig, rustls::Error> {
        tls::client_config(Arc::clone(&self.shared.identity), &target.name, key.clone())
    }

    /// Connects once more without sending anything, and waits a moment for an alert.
    async fn look_for_refusal(&self, target: &HostTarget, key: &Fingerprint) -> Option<HostError> {
        let look = async {
            let tls = self.tls(target, key).ok()?;
            let tcp = TcpStream::connect((target.address, self.shared.port))
                .await
                .ok()?;
            let connector = tokio_rustls::TlsConnector::from(Arc::new(tls));
            let name = ServerName::IpAddress(target.address.into());
            let refused = match connector.connect(name, tcp).await {
                Ok(mut stream) => {
                    let wait = stream.read_u8();
                    match tokio::time::timeout(Duration::from_millis(500), wait).await {
                        Ok(Err(error)) => error,
                        _ => return None,
                    }
                }
                Err(error) => error,
            };
            self.distrust(target, &refused)
        };
        tokio::time::timeout(CONNECT, look).await.ok().flatten()
    }

    /// The failure as one of trust, if it is one.
    fn distrust(&self, target: &HostTarget, error: &(dyn StdError + 'static)) -> Option<HostError> {
        let identity = &self.shared.identity;
        if let Some(reason) = tls::refusal(error) {
            return Some(HostError::NotTrusted {
                name: target.name.clone(),
                reason,
            });
        }
        let reason = match tls::tls_error(error)? {
            rustls::Error::AlertReceived(
                AlertDescription::AccessDenied
                | AlertDescription::CertificateUnknown
                | AlertDescription::CertificateRequired
                | AlertDescription::BadCertificate
                | AlertDescription::UnknownCA
                | AlertDescription::DecryptError,
            ) => format!(
                "it does not let `{}` in: its agent must know the key {} of this machine",
                identity.name(),
                identity.fingerprint()
            ),
            _ => return None,
        };
        Some(HostError::NotTrusted {
            name: target.name.clone(),
            reason,
        })
    }

    fn too_late(&self, target: &HostTarget, deadline: Duration) -> HostError {
        HostError::Unreachable {
            name: target.name.clone(),
            address: SocketAddr::new(target.address, self.shared.port).to_string(),
            reason: format!("no answer within {} s", deadline.as_secs_f32()),
            silent: true,
        }
    }
}

fn unreachable(target: &HostTarget, port: u16, error: &reqwest::Error) -> HostError {
    HostError::Unreachable {
        name: target.name.clone(),
        address: SocketAddr::new(target.address, port).to_string(),
        reason: innermost(error),
        silent: error.is_timeout() || is_no_way(error),
    }
}

/// Whether the network told that nobody is there, which it does some seconds after silence began.
fn is_no_way(error: &reqwest::Error) -> bool {
    let io = last(error).downcast_ref::<std::io::Error>();
    let silent = [
        std::io::ErrorKind::HostUnreachable,
        std::io::ErrorKind::NetworkUnreachable,
        std::io::ErrorKind::TimedOut,
    ];
    io.is_some_and(|e| silent.contains(&e.kind()))
}

fn last<'a>(error: &'a (dyn StdError + 'static)) -> &'a (dyn StdError + 'static) {
    let next = |e: &&'a (dyn StdError + 'static)| -> Option<&'a (dyn StdError + 'static)> {
        (*e).source()
    };
    std::iter::successors(Some(error), next)
        .last()
        .unwrap_or(error)
}

/// The last cause: the others only say that a request was sent.
fn innermost(error: &(dyn StdError + 'static)) -> String {
    let error = last(error);
    let io = error.downcast_ref::<std::io::Error>();
    if io.is_some_and(|e| e.kind() == std::io::ErrorKind::UnexpectedEof) {
        // The agent ended, or was ended, in the midst of the answer.
        return "the connection broke".to_owned();
    }
    error.to_string()
}

fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text.push_str(": ");
        text.push_str(&source.to_string());
        next = source.source();
    }
    text
}
