//! The joiner's side: finds the initiator, proves the passphrase, waits to be taken in.

use super::door::{ALIVE, SILENCE, intent_of};
use super::wire::{Frames, send};
use super::words::{Initiator, JoinPhase, JoinSession, JoinStatus};
use crate::agent::control_routes::trust_first;
use crate::agent::machine::Machine;
use crate::services::host::{HostTarget, LxdReport};
use crate::services::peer::discovery::Search;
use crate::services::peer::session::{
    ALPN, EXPORTER, End, Ends, Intent, Joiner, JoinerHeard, MOST_PROVEN, MOST_UNPROVEN, Passphrase,
    PeerList, RefusedCode, SessionError,
};
use crate::services::peer::tls::{self, Presented};
use crate::services::peer::{Fingerprint, Identity};
use rustls::AlertDescription;
use rustls::pki_types::ServerName;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, split};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;

/// How long one connection may take until both have proven the passphrase.
const PROVING: Duration = Duration::from_secs(10);
/// The pause before an initiator is tried again that was not there or busy.
const AGAIN: Duration = Duration::from_millis(500);
/// How many machines that were found are tried: each wrong one could make one guess.
const MOST_TRIED: usize = 16;
/// How long a join goes on that nobody asks about.
const UNATTENDED: Duration = Duration::from_secs(30);
/// The longest a join may be asked for, seconds.
const LONGEST: u64 = 3600;

/// A machine does not join.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// It is joining already.
    #[error("this machine is joining already")]
    Joining,
    /// It never was asked to.
    #[error("this machine was not asked to join")]
    None,
    /// It cannot, as it is.
    #[error("{0}")]
    Unfit(String),
}

/// What this machine does to join.
pub struct Joining {
    identity: Arc<Identity>,
    machine: Arc<Machine>,
    port: u16,
    current: Mutex<Option<Arc<Current>>>,
}

impl std::fmt::Debug for Joining {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Joining").finish_non_exhaustive()
    }
}

struct Current {
    status: watch::Sender<JoinStatus>,
    sponsor: Mutex<Option<HostTarget>>,
    asked: Mutex<Instant>,
    /// Cancelled when a person gives up.
    leave: CancellationToken,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Current {
    fn say(&self, phase: JoinPhase, message: impl Into<String>) {
        let message = message.into();
        self.status.send_modify(|status| {
            status.phase = phase;
            status.message = message;
            status.version += 1;
        });
    }

    fn over(&self) -> bool {
        self.status.borrow().phase >= JoinPhase::Done
    }
}

impl Joining {
    /// Not joining. `port` is where agents listen.
    pub fn new(identity: Arc<Identity>, machine: Arc<Machine>, port: u16) -> Joining {
        Joining {
            identity,
            machine,
            port,
            current: Mutex::new(None),
        }
    }

    /// Begins to join.
    ///
    /// # Errors
    /// It is joining already, or the machine is in a cluster.
    pub async fn start(self: &Arc<Self>, request: JoinSession) -> Result<(), JoinError> {
        for seconds in [request.lookup_seconds, request.session_seconds] {
            if seconds == 0 || seconds > LONGEST {
                let message = format!("times are 1 to {LONGEST} seconds");
                return Err(JoinError::Unfit(message));
            }
        }
        let report = self
            .machine
            .local
            .report(self.identity.fingerprint().as_str())
            .await
            .map_err(|e| JoinError::Unfit(e.to_string()))?;
        if let LxdReport::Running(lxd) = &report.lxd
            && lxd.clustered
        {
            let message = format!("the {} of this machine is in a cluster already", lxd.server);
            return Err(JoinError::Unfit(message));
        }
        let store = self.machine.trust.store();
        if !store.members.is_empty() && !request.replace {
            let members: Vec<&str> = store.members.keys().map(String::as_str).collect();
            return Err(JoinError::Unfit(format!(
                "this machine follows the cluster of {}; to forget that one: join with --replace",
                members.join(", ")
            )));
        }
        let current = Arc::new(Current {
            status: watch::Sender::new(JoinStatus::default()),
            sponsor: Mutex::new(None),
            asked: Mutex::new(Instant::now()),
            leave: CancellationToken::new(),
        });
        {
            let mut place = lock(&self.current);
            if place.as_ref().is_some_and(|other| !other.over()) {
                return Err(JoinError::Joining);
            }
            *place = Some(Arc::clone(&current));
        }
        current.say(JoinPhase::Looking, "looking for the initiator");
        let attempt = Attempt {
            joining: Arc::clone(self),
            intent: intent_of(&report, request.address),
            request,
            current,
        };
        tokio::spawn(attempt.run());
        Ok(())
    }

    /// How it stands; waits up to `wait` for a version above `after`.
    ///
    /// # Errors
    /// It was never asked to join.
    pub async fn status(&self, after: u64, wait: Duration) -> Result<JoinStatus, JoinError> {
        let current = lock(&self.current).clone().ok_or(JoinError::None)?;
        *lock(&current.asked) = Instant::now();
        let mut status = current.status.subscribe();
        let _ = tokio::time::timeout(wait, status.wait_for(|s| s.version > after)).await;
        *lock(&current.asked) = Instant::now();
        Ok(status.borrow().clone())
    }

    /// Gives up. Says whether it was joining.
    pub fn end(&self) -> bool {
        let Some(current) = lock(&self.current).clone() else {
            return false;
        };
        let joining = !current.over();
        current.leave.cancel();
        joining
    }

    /// The member that controls the cluster this machine was taken into, as it was told then.
    pub fn sponsor(&self) -> Option<HostTarget> {
        let current = lock(&self.current).clone()?;
        lock(&current.sponsor).clone()
    }
}

/// Why one connection did not lead into the session.
enum Failed {
    /// Trying again may help.
    Again(String),
    /// The passphrase was not proven; with another machine it may be.
    NotProven(String),
    /// It does not help.
    Ended(String),
}

struct Attempt {
    joining: Arc<Joining>,
    intent: Intent,
    request: JoinSession,
    current: Arc<Current>,
}

impl Attempt {
    async fn run(self) {
        let given_up = async {
            loop {
                tokio::time::sleep(Duration::from_secs(1)).await;
                if lock(&self.current.asked).elapsed() >= UNATTENDED {
                    return;
                }
            }
        };
        let limit = Duration::from_secs(self.request.lookup_seconds + self.request.session_seconds);
        let ended = tokio::select! {
            ended = self.find() => ended,
            () = self.current.leave.cancelled() => Err("given up on this machine".to_owned()),
            () = given_up => Err("the command that wanted to join is gone".to_owned()),
            () = tokio::time::sleep(limit) => Err("the time to join is over".to_owned()),
        };
        match ended {
            Ok(()) => self.current.say(JoinPhase::Done, "taken in"),
            Err(reason) => {
                tracing::warn!(reason, "this machine did not join");
                self.current.say(JoinPhase::Failed, reason);
            }
        }
    }

    /// Finds the initiator and goes through the session with it.
    async fn find(&self) -> Result<(), String> {
        let until = Instant::now() + Duration::from_secs(self.request.lookup_seconds);
        match self.request.initiator {
            Some(address) => self.find_at(address, until).await,
            None => self.find_by_mdns(until).await,
        }
    }

    async fn find_at(&self, address: IpAddr, until: Instant) -> Result<(), String> {
        let at = SocketAddr::new(address, self.joining.port);
        loop {
            match self.enter(at).await {
                Ok(()) => return Ok(()),
                Err(Failed::Ended(reason) | Failed::NotProven(reason)) => return Err(reason),
                Err(Failed::Again(reason)) if Instant::now() >= until => return Err(reason),
                Err(Failed::Again(reason)) => self.current.say(JoinPhase::Looking, reason),
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    async fn find_by_mdns(&self, until: Instant) -> Result<(), String> {
        let search = Search::start(self.request.address).map_err(|e| {
            format!("{e}: give the address of the initiator with --initiator-address")
        })?;
        let mut known: BTreeMap<SocketAddr, String> = BTreeMap::new();
        let mut wrong: BTreeSet<SocketAddr> = BTreeSet::new();
        let mut last = "no session is open on this subnet, or mDNS does not get through: give the \
                        address of the initiator with --initiator-address"
            .to_owned();
        let own = self.request.address;
        loop {
            let pause = (Instant::now() + AGAIN).min(until);
            match tokio::time::timeout_at(pause, search.next()).await {
                Ok(Some(found)) => {
                    for one in found {
                        let ours = one.address == own || one.address.is_ipv4() != own.is_ipv4();
                        if known.len() < MOST_TRIED && !ours {
                            known.insert(SocketAddr::new(one.address, one.port), one.name);
                        }
                    }
                }
                Ok(None) => tokio::time::sleep_until(pause).await,
                Err(_) => {}
            }
            for (at, name) in &known {
                if wrong.contains(at) {
                    continue;
                }
                match self.enter(*at).await {
                    Ok(()) => return Ok(()),
                    Err(Failed::Ended(reason)) => return Err(reason),
                    Err(Failed::Again(reason)) => {
                        self.current.say(JoinPhase::Looking, reason.as_str());
                        last = reason;
                    }
                    Err(Failed::NotProven(reason)) => {
                        // Anybody on the subnet may answer: the right one may still come.
                        last = format!("{name} at {}: {reason}", at.ip());
                        let still = format!("{last}; still looking for another session");
                        self.current.say(JoinPhase::Looking, still);
                        wrong.insert(*at);
                    }
                }
            }
            if Instant::now() >= until {
                return Err(last);
            }
        }
    }

    /// Connects to one machine, proves the passphrase there and stays until the session's end.
    async fn enter(&self, at: SocketAddr) -> Result<(), Failed> {
        let connecting = tokio::time::timeout(PROVING, self.connect(at)).await;
        let late = || Failed::Again(format!("no answer from {at}"));
        let (stream, presented) = connecting.map_err(|_| late())??;
        let mut exporter = [0u8; 32];
        stream
            .get_ref()
            .1
            .export_keying_material(&mut exporter[..], EXPORTER, None)
            .map_err(|e| Failed::Ended(format!("the connection has no keying material: {e}")))?;
        let identity = &self.joining.identity;
        let ends = Ends {
            joiner: End {
                name: identity.name().to_owned(),
                fingerprint: identity.fingerprint().clone(),
            },
            initiator: End {
                name: presented.name.clone(),
                fingerprint: presented.fingerprint.clone(),
            },
            exporter,
        };
        let (reader, mut writer) = split(stream);
        let mut frames = Frames::new(reader);
        let passphrase: &Passphrase = &self.request.passphrase;
        let (mut joiner, hello) = Joiner::begin(passphrase, ends, self.intent.clone());
        let proving = async {
            send(&mut writer, &hello)
                .await
                .map_err(|e| Failed::Again(format!("{at}: {e}")))?;
            self.prove(at, &mut joiner, &mut frames, &mut writer).await
        };
        let proven = tokio::time::timeout(PROVING, proving).await;
        let address = proven.map_err(|_| late())??;
        self.current.status.send_modify(|status| {
            status.initiator = Some(Initiator {
                name: presented.name.clone(),
                address,
                fingerprint: presented.fingerprint.to_string(),
            });
        });
        let wait = format!("{} decides who joins", presented.name);
        self.current.say(JoinPhase::Waiting, wait);
        self.stay(&mut joiner, &mut frames, &mut writer, &presented.name)
            .await
            .map_err(Failed::Ended)
    }

    async fn connect(&self, at: SocketAddr) -> Result<(TlsStream<TcpStream>, Presented), Failed> {
        let again = |reason: String| Failed::Again(format!("{at}: {reason}"));
        let own = self.request.address;
        let socket = match at.ip() {
            IpAddr::V4(_) => TcpSocket::new_v4(),
            IpAddr::V6(_) => TcpSocket::new_v6(),
        };
        let socket = socket.map_err(|e| Failed::Ended(e.to_string()))?;
        socket.bind(SocketAddr::new(own, 0)).map_err(|e| {
            Failed::Ended(format!(
                "cannot call from {own}: {e}: is it this machine's?"
            ))
        })?;
        let tcp = socket.connect(at).await.map_err(|e| again(e.to_string()))?;
        let _ = tcp.set_nodelay(true); // slower without, not wrong
        let config = tls::stranger_client_config(Arc::clone(&self.joining.identity), ALPN)
            .map_err(|e| Failed::Ended(e.to_string()))?;
        let connector = TlsConnector::from(Arc::new(config));
        let name = ServerName::IpAddress(at.ip().into());
        let stream = connector.connect(name, tcp).await.map_err(|error| {
            let refused = match tls::tls_error(&error) {
                Some(rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol)) => {
                    "no session is open there".to_owned()
                }
                Some(other) => other.to_string(),
                None if error.kind() == std::io::ErrorKind::ConnectionReset
                    || error.kind() == std::io::ErrorKind::UnexpectedEof =>
                {
                    "it takes nothing from here: after too many wrong passphrases it waits".into()
                }
                None => error.to_string(),
            };
            again(refused)
        })?;
        let session = &stream.get_ref().1;
        if session.alpn_protocol() != Some(ALPN) {
            return Err(again("it knows nothing of sessions".to_owned()));
        }
        let presented = session
            .peer_certificates()
            .and_then(|chain| chain.first())
            .and_then(|certificate| Presented::read(certificate).ok());
        let presented = presented.ok_or_else(|| again("it shows no certificate".to_owned()))?;
        if presented.fingerprint == *self.joining.identity.fingerprint() {
            return Err(again("that is this machine itself".to_owned()));
        }
        Ok((stream, presented))
    }

    /// Proves the passphrase and has it proven; the initiator's address for members.
    async fn prove<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
        &self,
        at: SocketAddr,
        joiner: &mut Joiner,
        frames: &mut Frames<R>,
        writer: &mut W,
    ) -> Result<IpAddr, Failed> {
        let again = |reason: String| Failed::Again(format!("{at}: {reason}"));
        let mut address = at.ip();
        loop {
            let frame = frames
                .next(MOST_UNPROVEN)
                .await
                .map_err(|e| again(e.to_string()))?;
            let heard = joiner.receive(&frame).map_err(|error| match error {
                SessionError::NotProven | SessionError::Forged => {
                    Failed::NotProven(error.to_string())
                }
                other => again(other.to_string()),
            })?;
            match heard {
                JoinerHeard::Challenged {
                    reply,
                    address: theirs,
                    ..
                } => {
                    address = theirs;
                    send(writer, &reply)
                        .await
                        .map_err(|e| again(e.to_string()))?;
                }
                JoinerHeard::Proven => return Ok(address),
                JoinerHeard::Refused(refused) => {
                    return Err(match refused.code {
                        RefusedCode::NotProven => Failed::NotProven(refused.reason),
                        // Who has proven nothing ends nothing.
                        RefusedCode::Busy | RefusedCode::Unfit | RefusedCode::Protocol => {
                            again(refused.reason)
                        }
                    });
                }
                JoinerHeard::Over { .. } => return Err(again("no session is open there".into())),
                _ => return Err(again("it says what has no place here".to_owned())),
            }
        }
    }

    /// Waits for the operator's decisions until the session is over.
    async fn stay<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
        &self,
        joiner: &mut Joiner,
        frames: &mut Frames<R>,
        writer: &mut W,
        initiator: &str,
    ) -> Result<(), String> {
        let mut beat = tokio::time::interval(ALIVE);
        let mut heard = Instant::now();
        let mut pinned: Option<Vec<Fingerprint>> = None;
        let gone = |pinned: &Option<Vec<Fingerprint>>, reason: String| match pinned {
            // The members are trusted, and the controller takes it from here.
            Some(_) => Ok(()),
            None => Err(format!("{initiator} is gone: {reason}")),
        };
        loop {
            let frame = tokio::select! {
                frame = frames.next(MOST_PROVEN) => match frame {
                    Ok(frame) => frame,
                    Err(error) => return gone(&pinned, error.to_string()),
                },
                _ = beat.tick() => {
                    if heard.elapsed() > SILENCE {
                        return gone(&pinned, "it says nothing any more".to_owned());
                    }
                    let sent = tokio::time::timeout(SILENCE, send(writer, &Joiner::alive())).await;
                    if !matches!(sent, Ok(Ok(()))) {
                        return gone(&pinned, "the connection broke".to_owned());
                    }
                    continue;
                }
                () = self.current.leave.cancelled() => {
                    let reason = "given up on this machine";
                    let _ = send(writer, &Joiner::leave(reason)).await;
                    let _ = writer.shutdown().await;
                    self.forget(pinned).await;
                    return Err(reason.to_owned());
                }
            };
            heard = Instant::now();
            let reply = match joiner.receive(&frame).map_err(|e| e.to_string())? {
                JoinerHeard::Chosen => {
                    let wait =
                        format!("{initiator} has chosen this machine; questions remain there");
                    self.current.say(JoinPhase::Chosen, wait);
                    let machine = &self.joining.machine;
                    let key = self.joining.identity.fingerprint().as_str();
                    let report = machine.local.report(key).await;
                    Joiner::report(report.map_err(|e| e.to_string())?)
                }
                JoinerHeard::Committed(peers) => match self.pin(&peers).await {
                    Ok(keys) => {
                        pinned = Some(keys);
                        let wait = format!("this machine trusts {initiator}");
                        self.current.say(JoinPhase::Trusted, wait);
                        Joiner::pinned()
                    }
                    Err(reason) => {
                        let _ = send(writer, &Joiner::leave(&reason)).await;
                        let _ = writer.shutdown().await;
                        return Err(reason);
                    }
                },
                JoinerHeard::Over { aborted: None } if pinned.is_some() => return Ok(()),
                JoinerHeard::Over { aborted } => {
                    self.forget(pinned).await;
                    let reason = aborted
                        .unwrap_or_else(|| format!("{initiator} did not choose this machine"));
                    return Err(reason);
                }
                JoinerHeard::Refused(refused) => return Err(refused.reason),
                JoinerHeard::Challenged { .. } | JoinerHeard::Proven | JoinerHeard::Alive => {
                    continue;
                }
            };
            let sent = tokio::time::timeout(SILENCE, send(writer, &reply)).await;
            if !matches!(sent, Ok(Ok(()))) {
                return gone(&pinned, "the connection broke".to_owned());
            }
        }
    }

    /// Trusts the members.
    async fn pin(&self, peers: &PeerList) -> Result<Vec<Fingerprint>, String> {
        let machine = Arc::clone(&self.joining.machine);
        let (members, mut replace) = (peers.members.clone(), self.request.replace);
        let pinned = tokio::task::spawn_blocking(move || {
            let mut keys = Vec::new();
            for peer in members {
                let key: Fingerprint = peer.fingerprint.parse().map_err(|e| format!("{e}"))?;
                trust_first(
                    &machine.trust,
                    &machine.epochs,
                    &key,
                    Some(&peer.name),
                    replace,
                )
                .map_err(|e| crate::agent::with_causes(&e))?;
                // What was before is forgotten once, not for every member.
                replace = false;
                keys.push(key);
            }
            Ok::<_, String>(keys)
        });
        let keys = pinned.await.map_err(|e| e.to_string())??;
        let controller = peers
            .members
            .iter()
            .find(|peer| peer.name == peers.controller);
        *lock(&self.current.sponsor) = controller.map(|peer| HostTarget {
            name: peer.name.clone(),
            address: peer.address,
            fingerprint: Some(peer.fingerprint.clone()),
        });
        Ok(keys)
    }

    /// Takes back what [`Attempt::pin`] did.
    async fn forget(&self, pinned: Option<Vec<Fingerprint>>) {
        *lock(&self.current.sponsor) = None;
        let Some(keys) = pinned else {
            return;
        };
        let machine = Arc::clone(&self.joining.machine);
        let forgotten = tokio::task::spawn_blocking(move || machine.trust.distrust_first(&keys));
        match forgotten.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                let error = crate::agent::with_causes(&error);
                tracing::error!(
                    error,
                    "the keys of a session that was given up stay trusted"
                );
            }
            Err(error) => tracing::error!(%error, "the keys of a session stay trusted"),
        }
    }
}
