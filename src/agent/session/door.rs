//! The initiator's side: the session that is open on this machine, and the joiners' connections.
//!
//! The peer port asks [`Door::entry`] about every stranger whose handshake asks for a session, and
//! hands those to [`Door::serve`] whose key is proven. They never reach the routes of members.

use super::wire::{Frames, WireError, send};
use super::words::{JoinerPhase, JoinerStatus, OpenSession, SessionOpened, SessionStatus};
use crate::agent::machine::Machine;
use crate::services::host::{HostReport, LxdReport};
use crate::services::peer::discovery::Advert;
use crate::services::peer::session::{
    ALPN, Applicant, EXPORTER, End, Ends, Gate, GateHeard, Guesses, Intent, MOST_PROVEN,
    MOST_UNPROVEN, Passphrase, Peer, PeerList, RefusedCode, Roster, SessionError, Source,
};
use crate::services::peer::tls::{self, Presented};
use crate::services::peer::{Fingerprint, Identity, VERSION};
use rustls::ServerConfig;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, split};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

/// How long a joiner may take to prove that it knows the passphrase, the handshake not counted.
const PROVING: Duration = Duration::from_secs(10);
/// How often each side says that it is there.
pub(super) const ALIVE: Duration = Duration::from_secs(5);
/// How long the other side may say nothing.
pub(super) const SILENCE: Duration = Duration::from_secs(20);
/// How long a session may go on that nobody asks about: who opened it is gone.
const UNATTENDED: Duration = Duration::from_secs(30);
/// How long joiners may take to trust the members they are told.
const PINNING: Duration = Duration::from_secs(15);
/// How long a connection may take to say its last words.
const PARTING: Duration = Duration::from_secs(2);
/// The longest a session may be asked for, seconds.
pub const LONGEST: u64 = 3600;
/// Connections that have not proven the passphrase: in all, from one network, from one address.
const UNPROVEN: usize = 256;
const UNPROVEN_FROM_NETWORK: usize = 64;
const UNPROVEN_FROM_ONE: usize = 4;
/// How many refusals are shown.
const SHOWN: usize = 20;

/// What a stranger who wants to join meets.
pub enum Entry {
    /// A handshake in which any agent's key will do.
    Handshake(Arc<ServerConfig>),
    /// Nothing: it guessed too often a moment ago.
    Nothing,
}

/// A session is not opened, or there is none.
#[derive(Debug, thiserror::Error)]
pub enum DoorError {
    /// One is open.
    #[error("a session is open on this machine already: end it first")]
    Open,
    /// None is open.
    #[error("no session is open on this machine{0}")]
    None(String),
    /// The request makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// The machine cannot be read, or the system has no random numbers.
    #[error("{0}")]
    Failed(String),
}

/// See the module.
pub struct Door {
    identity: Arc<Identity>,
    machine: Arc<Machine>,
    open: Arc<ServerConfig>,
    closed: Arc<ServerConfig>,
    session: Mutex<Option<Arc<Session>>>,
    guesses: Mutex<Guesses>,
    places: Places,
}

impl std::fmt::Debug for Door {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Door").finish_non_exhaustive()
    }
}

struct Session {
    id: String,
    passphrase: Passphrase,
    address: IpAddr,
    until: Instant,
    state: Mutex<State>,
    version: watch::Sender<u64>,
    /// Cancelled when it is over; the reason is in the state by then.
    over: CancellationToken,
}

struct State {
    roster: Roster,
    joiners: BTreeMap<String, Joiner>,
    wrong: u64,
    refused: VecDeque<String>,
    /// Some once it is over; the inner value is why it was given up.
    ended: Option<Option<String>>,
    asked: Instant,
    /// Goes with the session.
    _advert: Option<Advert>,
}

struct Joiner {
    /// Which connection: a machine may come again before its old one is seen to be gone.
    connection: u64,
    applicant: Applicant,
    phase: JoinerPhase,
    report: Option<HostReport>,
    orders: mpsc::Sender<Order>,
}

/// What the operator decided about a joiner.
enum Order {
    Choose,
    Commit(PeerList),
    /// Its machine came again over another connection.
    Replaced,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Door {
    /// No session is open yet.
    ///
    /// # Errors
    /// The TLS library lacks what is needed.
    pub fn new(identity: Arc<Identity>, machine: Arc<Machine>) -> Result<Door, rustls::Error> {
        let config = |alpn: &[u8]| tls::stranger_server_config(Arc::clone(&identity), alpn);
        Ok(Door {
            open: Arc::new(config(ALPN)?),
            // Nobody asks for this: who comes learns in the handshake that no session is open.
            closed: Arc::new(config(b"microcloud-no-session")?),
            identity,
            machine,
            session: Mutex::new(None),
            guesses: Mutex::default(),
            places: Places::default(),
        })
    }

    /// What a stranger at `from` meets that asks to join; decided before anything is computed.
    pub fn entry(&self, from: IpAddr) -> Entry {
        if self.live().is_err() {
            return Entry::Handshake(Arc::clone(&self.closed));
        }
        if lock(&self.guesses).pause(from, Instant::now()) > Duration::ZERO {
            return Entry::Nothing;
        }
        Entry::Handshake(Arc::clone(&self.open))
    }

    fn live(&self) -> Result<Arc<Session>, DoorError> {
        let session = lock(&self.session);
        let Some(session) = &*session else {
            return Err(DoorError::None(String::new()));
        };
        match &lock(&session.state).ended {
            None => Ok(Arc::clone(session)),
            Some(None) => Err(DoorError::None(" any more".to_owned())),
            Some(Some(reason)) => Err(DoorError::None(format!(": {reason}"))),
        }
    }

    /// Opens a session.
    ///
    /// # Errors
    /// One is open, or the machine cannot be read.
    pub async fn open(&self, request: OpenSession) -> Result<SessionOpened, DoorError> {
        if request.seconds == 0 || request.seconds > LONGEST {
            let message = format!("a session lasts 1 to {LONGEST} seconds");
            return Err(DoorError::Invalid(message));
        }
        if self.live().is_ok() {
            return Err(DoorError::Open);
        }
        let failed = |e: String| DoorError::Failed(e);
        let report = self
            .machine
            .local
            .report(self.identity.fingerprint().as_str())
            .await
            .map_err(|e| failed(e.to_string()))?;
        let own = intent_of(&report, request.address);
        let made = request.passphrase.is_none();
        let passphrase = match request.passphrase {
            Some(given) => given,
            None => Passphrase::generate().map_err(|e| failed(e.to_string()))?,
        };
        let mut id = [0u8; 8];
        getrandom::fill(&mut id).map_err(|e| failed(e.to_string()))?;
        let id = format!("{:016x}", u64::from_be_bytes(id));
        let advert = Advert::start(
            self.identity.name(),
            request.address,
            self.machine.port,
            &id,
            self.identity.fingerprint(),
        )
        .inspect_err(|error| tracing::warn!(%error, "the session is found by its address alone"))
        .ok();
        let store = self.machine.trust.store();
        let roster = Roster::new(own, self.identity.fingerprint().clone(), store);
        let session = Arc::new(Session {
            id: id.clone(),
            passphrase,
            address: request.address,
            until: Instant::now() + Duration::from_secs(request.seconds),
            state: Mutex::new(State {
                roster,
                joiners: BTreeMap::new(),
                wrong: 0,
                refused: VecDeque::new(),
                ended: None,
                asked: Instant::now(),
                _advert: advert,
            }),
            version: watch::Sender::new(1),
            over: CancellationToken::new(),
        });
        {
            let mut place = lock(&self.session);
            // Two may have come at once.
            if let Some(other) = &*place
                && lock(&other.state).ended.is_none()
            {
                return Err(DoorError::Open);
            }
            *place = Some(Arc::clone(&session));
        }
        tokio::spawn(attend(
            Arc::clone(&session),
            self.identity.name().to_owned(),
        ));
        tracing::info!(session = id, "a session of trust is open");
        Ok(SessionOpened {
            session: id,
            name: self.identity.name().to_owned(),
            fingerprint: self.identity.fingerprint().to_string(),
            passphrase: made.then(|| session.passphrase.expose().to_owned()),
        })
    }

    /// How it stands; waits up to `wait` for a version above `after`.
    ///
    /// # Errors
    /// There never was a session.
    pub async fn status(&self, after: u64, wait: Duration) -> Result<SessionStatus, DoorError> {
        let session = lock(&self.session).clone();
        let session = session.ok_or_else(|| DoorError::None(String::new()))?;
        lock(&session.state).asked = Instant::now();
        let mut version = session.version.subscribe();
        let _ = tokio::time::timeout(wait, version.wait_for(|v| *v > after)).await;
        lock(&session.state).asked = Instant::now();
        Ok(session.status())
    }

    /// The session that is open, by name, and for how long it may be. Who opened it goes on being
    /// the one that asks about it.
    pub fn live_session(&self) -> Option<(String, Duration)> {
        let session = self.live().ok()?;
        let left = session.until.saturating_duration_since(Instant::now());
        Some((session.id.clone(), left))
    }

    /// Tells joiners that the operator has chosen them.
    ///
    /// # Errors
    /// No session is open, or one of them is not there.
    pub fn choose(&self, fingerprints: &[String]) -> Result<(), DoorError> {
        let session = self.live()?;
        let state = lock(&session.state);
        let mut chosen = Vec::new();
        for key in fingerprints {
            let found = state
                .joiners
                .values()
                .find(|j| j.applicant.fingerprint.as_str() == key);
            let Some(found) = found else {
                let message = format!("no machine with the key {key} waits");
                return Err(DoorError::Invalid(message));
            };
            chosen.push(found.orders.clone());
        }
        for orders in chosen {
            let _ = orders.try_send(Order::Choose); // gone: it shows in the status
        }
        Ok(())
    }

    /// Has the chosen joiners trust all members, and waits until they do.
    ///
    /// # Errors
    /// No session is open.
    pub async fn commit(&self, controller: &str) -> Result<SessionStatus, DoorError> {
        let session = self.live()?;
        self.await_key_of(controller).await?;
        let peers = self.peers(session.address, controller);
        let names: Vec<String> = {
            let state = lock(&session.state);
            let chosen = state
                .joiners
                .iter()
                .filter(|(_, joiner)| joiner.phase == JoinerPhase::Reported);
            chosen
                .map(|(name, joiner)| {
                    let _ = joiner.orders.try_send(Order::Commit(peers.clone()));
                    name.clone()
                })
                .collect()
        };
        let mut version = session.version.subscribe();
        let all = version.wait_for(|_| {
            let state = lock(&session.state);
            names.iter().all(|name| {
                let joiner = state.joiners.get(name);
                joiner.is_none_or(|joiner| joiner.phase == JoinerPhase::Pinned)
            })
        });
        let _ = tokio::time::timeout(PINNING, all).await;
        Ok(session.status())
    }

    /// A machine that has just joined has not been told the cluster's keys yet; a joiner needs that
    /// of the member that controls.
    async fn await_key_of(&self, controller: &str) -> Result<(), DoorError> {
        let until = Instant::now() + PINNING;
        let known = || self.machine.trust.store().members.contains_key(controller);
        while controller != self.identity.name() && !known() {
            if Instant::now() >= until {
                return Err(DoorError::Failed(format!(
                    "{controller} has not told this machine the keys of the cluster yet: try again"
                )));
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        Ok(())
    }

    fn peers(&self, address: IpAddr, controller: &str) -> PeerList {
        let store = self.machine.trust.store();
        let mut members: BTreeMap<String, Peer> = store
            .members
            .into_iter()
            .map(|(name, member)| {
                let peer = Peer {
                    name: name.clone(),
                    fingerprint: member.fingerprint,
                    address: member.address,
                };
                (name, peer)
            })
            .collect();
        let own = self.identity.name().to_owned();
        let peer = Peer {
            name: own.clone(),
            fingerprint: self.identity.fingerprint().to_string(),
            address,
        };
        members.insert(own.clone(), peer);
        let known = members.contains_key(controller);
        PeerList {
            members: members.into_values().collect(),
            controller: if known { controller.to_owned() } else { own },
        }
    }

    /// Ends the session; joiners are told why when it was given up. Says whether one was open.
    pub fn end(&self, aborted: Option<String>) -> bool {
        let Ok(session) = self.live() else {
            return false;
        };
        session.end(aborted);
        true
    }

    /// Serves a joiner that has proven its key, until the session is over or it goes.
    pub(in crate::agent) async fn serve(
        &self,
        stream: TlsStream<TcpStream>,
        presented: Presented,
        from: SocketAddr,
        stop: CancellationToken,
    ) {
        let mut exporter = [0u8; 32];
        let material = stream
            .get_ref()
            .1
            .export_keying_material(&mut exporter[..], EXPORTER, None);
        let (reader, mut writer) = split(stream);
        let mut frames = Frames::new(reader);
        let (Ok(session), Ok(_)) = (self.live(), material) else {
            return;
        };
        let Some(place) = self.places.take(from.ip()) else {
            let busy = "too many machines try at once; it is tried again";
            part(&mut writer, &Gate::refuse(RefusedCode::Busy, busy)).await;
            return;
        };
        let ends = Ends {
            joiner: End {
                name: presented.name,
                fingerprint: presented.fingerprint.clone(),
            },
            initiator: End {
                name: self.identity.name().to_owned(),
                fingerprint: self.identity.fingerprint().clone(),
            },
            exporter,
        };
        let passphrase = session.passphrase.clone();
        let mut gate = Gate::new(passphrase, ends, &session.id, session.address);
        let proving = prove(&mut gate, &mut frames, &mut writer);
        let proven = tokio::select! {
            proven = tokio::time::timeout(PROVING, proving) => proven,
            () = session.over.cancelled() => return,
            () = stop.cancelled() => return,
        };
        drop(place);
        let intent = match proven {
            Ok(Ok(intent)) => intent,
            Ok(Err(Unproven::Session(error))) => {
                let code = match &error {
                    SessionError::NotProven => {
                        lock(&self.guesses).wrong(from.ip(), Instant::now());
                        session.change(|state| state.wrong += 1);
                        RefusedCode::NotProven
                    }
                    _ => RefusedCode::Protocol,
                };
                part(&mut writer, &Gate::refuse(code, error.to_string())).await;
                return;
            }
            Ok(Err(Unproven::Wire(error))) => {
                tracing::debug!(%from, %error, "a joiner did not prove itself");
                return;
            }
            Err(_) => {
                tracing::debug!(%from, "a joiner took too long to prove itself");
                return;
            }
        };
        lock(&self.guesses).right(from.ip());
        let applicant = Applicant {
            intent,
            fingerprint: presented.fingerprint,
            from: from.ip().to_canonical(),
        };
        let served = serve_proven(&session, &mut gate, &mut frames, &mut writer, applicant);
        tokio::select! {
            () = served => {}
            () = stop.cancelled() => {
                part(&mut writer, &Gate::over(Some("the initiator's agent stops"))).await;
            }
        }
    }
}

enum Unproven {
    Session(SessionError),
    Wire(WireError),
}

impl From<SessionError> for Unproven {
    fn from(error: SessionError) -> Unproven {
        Unproven::Session(error)
    }
}

impl From<WireError> for Unproven {
    fn from(error: WireError) -> Unproven {
        Unproven::Wire(error)
    }
}

/// Lets the joiner prove that it knows the passphrase.
async fn prove<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
    gate: &mut Gate,
    frames: &mut Frames<R>,
    writer: &mut W,
) -> Result<Intent, Unproven> {
    loop {
        let frame = frames.next(MOST_UNPROVEN).await?;
        match gate.receive(&frame)? {
            GateHeard::Hello { reply } => send(writer, &reply).await.map_err(WireError::from)?,
            GateHeard::Proven(intent) => return Ok(intent),
            _ => return Err(WireError::Closed.into()),
        }
    }
}

/// Serves a joiner that knows the passphrase.
async fn serve_proven<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
    session: &Session,
    gate: &mut Gate,
    frames: &mut Frames<R>,
    writer: &mut W,
    applicant: Applicant,
) {
    let name = applicant.intent.name.clone();
    let (orders, mut given) = mpsc::channel(8);
    // Before anything is refused: the joiner takes a refusal only from who knows the passphrase.
    let Some(proven) = gate.proven() else {
        return;
    };
    if !matches!(
        tokio::time::timeout(PARTING, send(writer, &proven)).await,
        Ok(Ok(()))
    ) {
        return;
    }
    let connection = match session.admit(applicant, orders) {
        Ok(connection) => connection,
        Err(reason) => {
            tracing::warn!(joiner = name, reason, "a joiner was refused");
            part(writer, &Gate::refuse(RefusedCode::Unfit, reason)).await;
            return;
        }
    };
    let _listed = Listed {
        session,
        name: &name,
        connection,
    };
    let mut beat = tokio::time::interval(ALIVE);
    let mut heard = tokio::time::Instant::now();
    loop {
        // All of these lose nothing when another one comes first.
        let reply = tokio::select! {
            frame = frames.next(MOST_PROVEN) => {
                let said = frame
                    .map_err(|e| e.to_string())
                    .and_then(|frame| gate.receive(&frame).map_err(|e| e.to_string()));
                heard = tokio::time::Instant::now();
                match said {
                    Ok(GateHeard::Report(report)) => {
                        session.update(&name, connection, JoinerPhase::Reported, Some(*report));
                        None
                    }
                    Ok(GateHeard::Pinned) => {
                        session.update(&name, connection, JoinerPhase::Pinned, None);
                        None
                    }
                    Ok(GateHeard::Left(reason)) => {
                        session.note(format!("{name} left: {reason}"));
                        return;
                    }
                    Ok(_) => None,
                    Err(error) => {
                        session.note(format!("{name} is gone: {error}"));
                        return;
                    }
                }
            }
            order = given.recv() => match order {
                Some(Order::Choose) => {
                    let message = gate.choose();
                    if message.is_some() {
                        session.update(&name, connection, JoinerPhase::Chosen, None);
                    }
                    message
                }
                Some(Order::Commit(peers)) => gate.commit(&peers),
                Some(Order::Replaced) | None => {
                    let again = "the same machine came again";
                    part(writer, &Gate::over(Some(again))).await;
                    return;
                }
            },
            _ = beat.tick() => {
                if heard.elapsed() > SILENCE {
                    session.note(format!("{name} is gone: it says nothing any more"));
                    return;
                }
                Some(Gate::alive())
            }
            () = session.over.cancelled() => {
                let aborted = lock(&session.state).ended.clone().flatten();
                part(writer, &Gate::over(aborted.as_deref())).await;
                return;
            }
        };
        if let Some(reply) = reply {
            let sent = tokio::time::timeout(SILENCE, send(writer, &reply)).await;
            if !matches!(sent, Ok(Ok(()))) {
                session.note(format!("{name} is gone: the connection broke"));
                return;
            }
        }
    }
}

/// Says the last words.
async fn part<W: AsyncWrite + Unpin>(writer: &mut W, message: &[u8]) {
    let parting = async {
        let _ = send(writer, message).await; // gone is gone
        let _ = writer.shutdown().await;
    };
    let _ = tokio::time::timeout(PARTING, parting).await;
}

/// Takes a joiner out of the session when its connection ends.
struct Listed<'a> {
    session: &'a Session,
    name: &'a str,
    connection: u64,
}

impl Drop for Listed<'_> {
    fn drop(&mut self) {
        self.session.change(|state| {
            let listed = state.joiners.get(self.name);
            // What became of a joiner is shown when the session is over.
            if state.ended.is_none() && listed.is_some_and(|j| j.connection == self.connection) {
                state.joiners.remove(self.name);
                state.roster.leave(self.name);
            }
        });
    }
}

impl Session {
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let changed = change(&mut lock(&self.state));
        self.version.send_modify(|version| *version += 1);
        changed
    }

    fn admit(&self, applicant: Applicant, orders: mpsc::Sender<Order>) -> Result<u64, String> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let connection = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = applicant.intent.name.clone();
        self.change(|state| {
            if let Err(reason) = state.roster.admit(applicant.clone()) {
                note(state, format!("{name} at {}: {reason}", applicant.from));
                return Err(reason);
            }
            let joiner = Joiner {
                connection,
                applicant,
                phase: JoinerPhase::Waiting,
                report: None,
                orders,
            };
            if let Some(old) = state.joiners.insert(name, joiner) {
                let _ = old.orders.try_send(Order::Replaced);
            }
            Ok(connection)
        })
    }

    fn update(&self, name: &str, connection: u64, phase: JoinerPhase, report: Option<HostReport>) {
        self.change(|state| {
            let joiner = state.joiners.get_mut(name);
            if let Some(joiner) = joiner.filter(|j| j.connection == connection) {
                joiner.phase = joiner.phase.max(phase);
                joiner.report = report.or(joiner.report.take());
            }
        });
    }

    fn note(&self, line: String) {
        self.change(|state| note(state, line));
    }

    fn end(&self, aborted: Option<String>) {
        self.change(|state| {
            state.ended.get_or_insert(aborted);
            state._advert = None;
        });
        self.over.cancel();
    }

    fn status(&self) -> SessionStatus {
        let version = *self.version.borrow();
        let state = lock(&self.state);
        let joiners = state.joiners.iter().map(|(name, joiner)| JoinerStatus {
            name: name.clone(),
            address: joiner.applicant.intent.address,
            fingerprint: joiner.applicant.fingerprint.to_string(),
            service: joiner.applicant.intent.service.clone(),
            phase: joiner.phase,
            report: joiner.report.clone(),
        });
        SessionStatus {
            version,
            joiners: joiners.collect(),
            wrong: state.wrong,
            refused: state.refused.iter().cloned().collect(),
            ended: state
                .ended
                .clone()
                .map(|reason| reason.unwrap_or_else(|| "all is done".to_owned())),
        }
    }
}

fn note(state: &mut State, line: String) {
    tracing::info!(line, "in the session of trust");
    if state.refused.len() >= SHOWN {
        state.refused.pop_front();
    }
    state.refused.push_back(line);
}

/// Ends a session when its time is over or nobody asks about it any more.
async fn attend(session: Arc<Session>, name: String) {
    loop {
        tokio::select! {
            () = session.over.cancelled() => return,
            () = tokio::time::sleep(Duration::from_millis(250)) => {}
        }
        let now = Instant::now();
        let asked = lock(&session.state).asked;
        if now >= session.until {
            session.end(Some("the time of the session is over".to_owned()));
        } else if now.saturating_duration_since(asked) >= UNATTENDED {
            session.end(Some(format!(
                "the command on {name} that opened it is gone"
            )));
        }
    }
}

/// What a machine says of itself when it joins at `address`.
pub(super) fn intent_of(report: &HostReport, address: IpAddr) -> Intent {
    let (service, api_extensions) = match &report.lxd {
        LxdReport::Running(lxd) => (
            format!("{} {}", lxd.server, lxd.version),
            lxd.api_extensions,
        ),
        _ => (String::new(), 0),
    };
    Intent {
        name: report.name.clone(),
        address,
        agent_version: VERSION.to_owned(),
        service,
        api_extensions,
    }
}

/// The key as commands give it.
pub(super) fn parse_key(text: &str) -> Result<Fingerprint, DoorError> {
    text.parse()
        .map_err(|e: crate::services::peer::pins::BadFingerprint| DoorError::Invalid(e.to_string()))
}

/// The connections that have not proven the passphrase.
#[derive(Debug, Clone, Default)]
struct Places(Arc<Mutex<Taken>>);

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    networks: HashMap<Source, usize>,
    addresses: HashMap<IpAddr, usize>,
}

struct Place {
    of: Places,
    from: IpAddr,
}

impl Places {
    fn take(&self, from: IpAddr) -> Option<Place> {
        let from = from.to_canonical();
        let mut taken = lock(&self.0);
        let network = taken.networks.get(&Source::of(from)).copied().unwrap_or(0);
        let address = taken.addresses.get(&from).copied().unwrap_or(0);
        if taken.all >= UNPROVEN || network >= UNPROVEN_FROM_NETWORK || address >= UNPROVEN_FROM_ONE
        {
            return None;
        }
        taken.all += 1;
        *taken.networks.entry(Source::of(from)).or_default() += 1;
        *taken.addresses.entry(from).or_default() += 1;
        let of = self.clone();
        Some(Place { of, from })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = lock(&self.of.0);
        taken.all -= 1;
        let network = Source::of(self.from);
        give_back(&mut taken.networks, &network);
        give_back(&mut taken.addresses, &self.from);
    }
}

fn give_back<K: std::hash::Hash + Eq>(counts: &mut HashMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}
