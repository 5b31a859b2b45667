//! Agents that open sessions of trust and join them, each at an address of its own on loopback.

// Each test program uses a part of this.
#![allow(dead_code)]

use microcloud::agent::lxd_watch::LxdStarted;
use microcloud::agent::server::PeerServer;
use microcloud::agent::session::words::{
    JoinPhase, JoinSession, JoinStatus, JoinerPhase, OpenSession, SessionStatus,
};
use microcloud::agent::session::{Door, Joining};
use microcloud::agent::{EpochBook, Machine, TrustBook};
use microcloud::services::host::local::LocalHost;
use microcloud::services::peer::session::{ALPN, EXPORTER, End, Ends, Intent, Joiner, Passphrase};
use microcloud::services::peer::tls::{self, Presented};
use microcloud::services::peer::{Fingerprint, Identity, VERSION};
use rustls::pki_types::ServerName;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What the sessions of the tests ask for.
pub const PASS: &str = "correct horse battery staple";

/// How often the sides of a session say that they are there.
pub const ALIVE: Duration = Duration::from_secs(5);

/// How long something may take that is waited for.
const LIMIT: Duration = Duration::from_secs(40);

pub type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

/// An address of its own for every agent of every test of this process.
pub fn fresh_address() -> IpAddr {
    static NEXT: AtomicU16 = AtomicU16::new(1);
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    let process = u8::try_from(std::process::id() % 200).unwrap() + 20;
    let [high, low] = n.to_be_bytes();
    IpAddr::V4(Ipv4Addr::new(127, process, high + 1, low))
}

/// An agent without LXD.
pub struct Node {
    _dir: tempfile::TempDir,
    pub identity: Arc<Identity>,
    pub machine: Arc<Machine>,
    pub door: Arc<Door>,
    pub joining: Arc<Joining>,
    pub address: IpAddr,
    pub port: u16,
    stop: CancellationToken,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// An agent called `one` with a session open.
pub async fn initiator(passphrase: &str, seconds: u64) -> Outcome<Node> {
    let probe = std::net::TcpListener::bind("127.0.0.1:0")?;
    let one = Node::new("one", probe.local_addr()?.port());
    drop(probe);
    one.serve().await;
    one.opens(passphrase, seconds).await?;
    Ok(one)
}

impl Node {
    pub fn new(name: &str, port: u16) -> Node {
        let dir = tempfile::tempdir().unwrap();
        let identity = Arc::new(Identity::open(dir.path(), name).unwrap());
        let machine = Arc::new(Machine {
            local: LocalHost::new(name, Some(dir.path().join("no-lxd"))),
            fingerprint: identity.fingerprint().clone(),
            trust: Arc::new(TrustBook::open(dir.path()).unwrap()),
            epochs: Arc::new(EpochBook::open(dir.path()).unwrap()),
            lxd_started: LxdStarted::default(),
            ovn_changes: Default::default(),
            port,
            memory_version: AtomicU64::new(0),
            shown: AtomicU64::new(0),
        });
        let (key, host) = (Arc::clone(&identity), Arc::clone(&machine));
        Node {
            door: Arc::new(Door::new(Arc::clone(&key), Arc::clone(&host)).unwrap()),
            joining: Arc::new(Joining::new(key, host, port)),
            _dir: dir,
            identity,
            machine,
            address: fresh_address(),
            port,
            stop: CancellationToken::new(),
        }
    }

    pub fn key(&self) -> Fingerprint {
        self.identity.fingerprint().clone()
    }

    /// Listens for members and joiners.
    pub async fn serve(&self) {
        let at = SocketAddr::new(self.address, self.port);
        let (identity, machine) = (Arc::clone(&self.identity), Arc::clone(&self.machine));
        let server = PeerServer::bind(at, identity, machine, axum::Router::new())
            .await
            .unwrap()
            .with_door(Arc::clone(&self.door));
        tokio::spawn(server.serve(self.stop.clone(), TaskTracker::new()));
    }

    pub async fn opens(&self, passphrase: &str, seconds: u64) -> Outcome {
        let opened = self
            .door
            .open(OpenSession {
                address: self.address,
                passphrase: Some(Passphrase::parse(passphrase)?),
                seconds,
            })
            .await?;
        assert_eq!(opened.passphrase, None, "what was given is not told back");
        Ok(())
    }

    /// Begins to join the session of `one`.
    pub async fn joins(&self, one: &Node, passphrase: &str) -> Outcome {
        self.joins_at(one.address, passphrase).await
    }

    pub async fn joins_at(&self, initiator: IpAddr, passphrase: &str) -> Outcome {
        self.joining
            .start(JoinSession {
                passphrase: Passphrase::parse(passphrase)?,
                address: self.address,
                initiator: Some(initiator),
                lookup_seconds: 2,
                session_seconds: 60,
                replace: false,
            })
            .await?;
        Ok(())
    }

    /// Waits until the joiner is this far.
    pub async fn phase(&self, phase: JoinPhase) -> Outcome<JoinStatus> {
        let begun = Instant::now();
        let mut after = 0;
        loop {
            let status = self.joining.status(after, Duration::from_secs(1)).await?;
            if status.phase == phase {
                return Ok(status);
            }
            if begun.elapsed() > LIMIT || status.phase >= JoinPhase::Done {
                return Err(format!("never {phase:?}: {status:?}").into());
            }
            after = status.version;
        }
    }

    /// Waits until exactly these machines wait in the session.
    pub async fn waits_for(&self, names: &[&str]) -> Outcome<SessionStatus> {
        let begun = Instant::now();
        let mut after = 0;
        loop {
            let status = self.door.status(after, Duration::from_secs(1)).await?;
            let waiting: Vec<&str> = status.joiners.iter().map(|j| j.name.as_str()).collect();
            // What an attack does is over within moments: it must not stay.
            if waiting == names {
                return Ok(status);
            }
            if begun.elapsed() > LIMIT {
                return Err(format!("{waiting:?} instead of {names:?}: {status:?}").into());
            }
            after = status.version;
        }
    }

    /// Chooses a joiner and waits for its report.
    pub async fn chooses(&self, joiner: &Node) -> Outcome<SessionStatus> {
        self.door.choose(&[joiner.key().to_string()])?;
        let begun = Instant::now();
        let mut after = 0;
        loop {
            let status = self.door.status(after, Duration::from_secs(1)).await?;
            let reported = |s: &SessionStatus| {
                s.joiners.iter().any(|j| {
                    j.fingerprint == joiner.key().as_str() && j.phase >= JoinerPhase::Reported
                })
            };
            if reported(&status) {
                return Ok(status);
            }
            if begun.elapsed() > LIMIT || status.ended.is_some() {
                return Err(format!("no report: {status:?}").into());
            }
            after = status.version;
        }
    }

    /// Chooses a joiner, takes it in and ends the session.
    pub async fn takes_in(&self, joiner: &Node) -> Outcome {
        self.chooses(joiner).await?;
        let status = self.door.commit("one").await?;
        let phases: Vec<JoinerPhase> = status.joiners.iter().map(|j| j.phase).collect();
        assert_eq!(phases, [JoinerPhase::Pinned]);
        assert!(self.door.end(None));
        joiner.phase(JoinPhase::Done).await?;
        let sponsor = joiner.joining.sponsor().ok_or("no sponsor")?;
        assert_eq!(
            (sponsor.name.as_str(), sponsor.address),
            ("one", self.address)
        );
        Ok(())
    }

    pub fn intent(&self) -> Intent {
        Intent {
            name: self.identity.name().to_owned(),
            address: self.address,
            agent_version: VERSION.to_owned(),
            service: String::new(),
            api_extensions: 0,
        }
    }

    /// Begins the joiner's part by hand.
    pub fn begin(&self, stream: &Raw<TlsStream<TcpStream>>, passphrase: &str) -> (Joiner, Vec<u8>) {
        self.begin_as(stream, passphrase, self.intent())
    }

    pub fn begin_as(
        &self,
        stream: &Raw<TlsStream<TcpStream>>,
        passphrase: &str,
        intent: Intent,
    ) -> (Joiner, Vec<u8>) {
        let session = &stream.0.get_ref().1;
        let mut exporter = [0u8; 32];
        session
            .export_keying_material(&mut exporter[..], EXPORTER, None)
            .unwrap();
        let presented =
            Presented::read(session.peer_certificates().unwrap().first().unwrap()).unwrap();
        let ends = Ends {
            joiner: End {
                name: self.identity.name().to_owned(),
                fingerprint: self.key(),
            },
            initiator: End {
                name: presented.name,
                fingerprint: presented.fingerprint,
            },
            exporter,
        };
        Joiner::begin(&Passphrase::parse(passphrase).unwrap(), ends, intent)
    }

    /// One guess, as fast as it can be made; nothing when it is not even let in.
    pub async fn guesses(&self, one: &Node, guess: &Passphrase) {
        let Ok(mut stream) = raw(one, self).await else {
            return;
        };
        let (mut joiner, hello) = self.begin(&stream, guess.expose());
        stream.say(&hello).await;
        let Some(frame) = stream.hear().await else {
            return;
        };
        if let Ok(microcloud::services::peer::session::JoinerHeard::Challenged { reply, .. }) =
            joiner.receive(&frame)
        {
            stream.say(&reply).await;
            let _ = stream.hear().await;
        }
    }
}

/// A connection on which messages are said by hand.
pub struct Raw<S>(pub S);

impl<S: AsyncRead + AsyncWrite + Unpin> Raw<S> {
    pub async fn say(&mut self, message: &[u8]) {
        let size = u32::try_from(message.len()).unwrap();
        let _ = self.0.write_all(&size.to_be_bytes()).await;
        let _ = self.0.write_all(message).await;
        let _ = self.0.flush().await;
    }

    /// The next message; none when the connection is closed.
    pub async fn hear(&mut self) -> Option<Vec<u8>> {
        let read = async {
            let size = self.0.read_u32().await.ok()?;
            let mut message = vec![0; usize::try_from(size).unwrap()];
            self.0.read_exact(&mut message).await.ok()?;
            Some(message)
        };
        tokio::time::timeout(LIMIT, read).await.ok().flatten()
    }
}

/// A connection for joining, with the key of `who` and from its address.
pub async fn raw(one: &Node, who: &Node) -> Result<Raw<TlsStream<TcpStream>>, String> {
    stranger(one, Arc::clone(&who.identity), who.address)
        .await
        .map(Raw)
}

/// As [`raw`], with any key from any address.
pub async fn stranger(
    one: &Node,
    identity: Arc<Identity>,
    from: IpAddr,
) -> Result<TlsStream<TcpStream>, String> {
    let socket = TcpSocket::new_v4().map_err(|e| e.to_string())?;
    socket
        .bind(SocketAddr::new(from, 0))
        .map_err(|e| e.to_string())?;
    let tcp = socket
        .connect(SocketAddr::new(one.address, one.port))
        .await
        .map_err(|e| e.to_string())?;
    let config = tls::stranger_client_config(identity, ALPN).map_err(|e| e.to_string())?;
    let name = ServerName::IpAddress(one.address.into());
    TlsConnector::from(Arc::new(config))
        .connect(name, tcp)
        .await
        .map_err(|e| format!("{e:?}"))
}

/// Waits until it is so.
pub async fn until(what: &str, mut so: impl FnMut() -> bool) -> Outcome {
    let begun = Instant::now();
    while !so() {
        if begun.elapsed() > LIMIT {
            return Err(format!("never: {what}").into());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}
