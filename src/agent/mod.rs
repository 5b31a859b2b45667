//! The daemon of one member: it serves the machine to the leading agent, and commands to the
//! people on the machine.
//!
//! [`start`] reads the state and opens both listeners; [`Agent::run`] serves until it is told to
//! stop. What the controller adds (control routes, leadership) is mounted as [`Routes`] between
//! the two.

pub mod api;
pub mod config;
pub mod control;
pub mod control_client;
pub mod control_routes;
pub mod control_socket;
pub mod directory;
pub mod epoch;
pub mod host_routes;
pub mod last_known;
pub mod lead;
pub mod lxd_watch;
pub mod machine;
pub mod office;
pub mod recover;
mod serve;
pub mod server;
pub mod session;
pub mod tokens;
pub mod trust;
pub mod witness;

pub use config::{Config, ConfigError, Overrides};
pub use control_socket::LocalCaller;
pub use epoch::EpochBook;
pub use machine::{Machine, OwnHost};
pub use server::PeerIdentity;
pub use trust::TrustBook;

use crate::services::ceph::Ceph;
use crate::services::host::Host;
use crate::services::host::local::{LocalHost, OvnChanges, answer_paths, follow_ovn};
use crate::services::peer::{
    Claim, Identity, IdentityError, PeerClient, PeerHosts, Pins, StateFileError, state_file,
};
use axum::Router;
use control_socket::{ControlSocket, SocketError};
use lxd_watch::LxdStarted;
use rustix::fs::{FlockOperation, flock};
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long running requests may go on after the agent was told to stop.
const GRACE: Duration = Duration::from_secs(10);

/// The agent cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The key.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The state.
    #[error(transparent)]
    State(#[from] StateFileError),
    /// The socket for commands.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// Another process uses the state directory.
    #[error("another agent is running already: it holds {0}")]
    Locked(PathBuf),
    /// The state directory cannot be locked.
    #[error("cannot lock {path}")]
    Lock {
        /// The lock file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// TLS.
    #[error("cannot prepare for machines that join: {0}")]
    Tls(#[from] rustls::Error),
    /// The address for other members.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
}

/// Routes besides the agent's own.
#[derive(Debug, Default)]
pub struct Routes {
    /// For commands on this machine; requests carry a [`LocalCaller`]. `/v1/agent…` is taken.
    pub control: Router,
    /// For other members' agents; requests carry a [`PeerIdentity`]. `/v1/host/…` is taken.
    pub peer: Router,
    /// Where strangers come who want to join; nowhere without one.
    pub door: Option<Arc<session::Door>>,
}

/// An agent whose state is read and whose sockets are open.
pub struct Agent {
    /// What it was told.
    pub config: Config,
    /// Its key.
    pub identity: Arc<Identity>,
    /// The machine it runs on, with the trusted keys and the highest epoch.
    pub machine: Arc<Machine>,
    /// Calls other agents.
    pub client: PeerClient,
    /// Finds the machine of a member; the own one is called directly.
    pub hosts: PeerHosts,
    /// Ends everything when it is cancelled.
    pub stop: CancellationToken,
    /// What is waited for before the agent ends; spawn long work here.
    pub tasks: TaskTracker,
    socket: ControlSocket,
    _lock: File,
}

/// Locks the state directory, so that only one process changes it; held until dropped.
///
/// # Errors
/// Another process holds it, or it cannot be made.
pub fn lock_state(config: &Config) -> Result<File, StartError> {
    state_file::make_private_dir(&config.state_dir)?;
    let path = config.state_dir.join("lock");
    let failed = |source| StartError::Lock {
        path: path.clone(),
        source,
    };
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(failed)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(StartError::Locked(path)),
        Err(errno) => Err(failed(errno.into())),
    }
}

/// Reads the state and opens the socket for commands.
///
/// # Errors
/// Another agent is running, or the state cannot be used.
pub async fn start(config: Config) -> Result<Agent, StartError> {
    let lock = lock_state(&config)?;
    let identity = Arc::new(Identity::open(&config.state_dir, &config.name)?);
    let trust = Arc::new(TrustBook::open(&config.state_dir)?);
    let epochs = Arc::new(EpochBook::open(&config.state_dir)?);
    let socket = ControlSocket::bind(&config.socket).await?;
    let machine = Arc::new(Machine {
        local: LocalHost::new(&config.name, config.lxd_socket.clone())
            .remembering_in(&config.state_dir),
        fingerprint: identity.fingerprint().clone(),
        trust: Arc::clone(&trust),
        epochs: Arc::clone(&epochs),
        lxd_started: LxdStarted::default(),
        ovn_changes: OvnChanges::default(),
        port: config.port,
        memory_version: AtomicU64::new(0),
        shown: AtomicU64::new(0),
    });
    let client = PeerClient::new(
        Arc::clone(&identity),
        trust as Arc<dyn Pins>,
        epochs as Arc<dyn Claim>,
        config.port,
    );
    let bridge = machine.local.ceph_bridge();
    let own: Arc<dyn Host> = Arc::new(OwnHost(Arc::clone(&machine)));
    Ok(Agent {
        hosts: PeerHosts::new(client.clone(), own).with_ceph(Ceph::new(bridge)),
        config,
        identity,
        machine,
        client,
        stop: CancellationToken::new(),
        tasks: TaskTracker::new(),
        socket,
        _lock: lock,
    })
}

impl Agent {
    /// Does all of an agent's work until [`Agent::stop`] is cancelled: serves, watches its
    /// directory, and controls when it is its turn.
    ///
    /// # Errors
    /// As [`Agent::run`], or the state cannot be read.
    pub async fn work(self) -> Result<(), StartError> {
        let office = Arc::new(office::Office::open(
            Arc::clone(&self.machine),
            self.client.clone(),
            Arc::new(self.hosts.clone()),
            &self.config,
        )?);
        let (stop, tasks) = (self.stop.clone(), self.tasks.clone());
        tasks.spawn(lead::run(Arc::clone(&office), stop.clone()));
        tasks.spawn(witness::run(Arc::clone(&office), stop.clone()));
        tasks.spawn(directory::run(Arc::clone(&office), stop));
        let of_controller = Arc::clone(&office);
        let sessions = session::Sessions::new(
            Arc::clone(&self.identity),
            Arc::clone(&self.machine),
            self.config.port,
            move || of_controller.leader(),
        )?;
        office.set_joining(Arc::clone(&sessions.joining));
        let routes = Routes {
            door: Some(Arc::clone(&sessions.door)),
            control: control::local_routes(Arc::clone(&office))
                .merge(recover::routes(Arc::clone(&office)))
                .merge(tokens::routes(
                    Arc::clone(&office),
                    Arc::clone(&sessions.door),
                ))
                .merge(session::routes(sessions)),
            peer: control::peer_routes(office),
        };
        self.run(routes).await
    }

    /// Serves until [`Agent::stop`] is cancelled, then waits for running requests, 10 s at most.
    /// Tells systemd when both listeners answer.
    ///
    /// # Errors
    /// The address for other members cannot be listened on.
    pub async fn run(self, routes: Routes) -> Result<(), StartError> {
        let address = SocketAddr::new(self.config.listen, self.config.port);
        let server = server::PeerServer::bind(
            address,
            Arc::clone(&self.identity),
            Arc::clone(&self.machine),
            routes.peer,
        )
        .await
        .map_err(|source| StartError::Listen { address, source })?;
        let server = match routes.door {
            Some(door) => server.with_door(door),
            None => server,
        };
        let control = control_routes::routes(Arc::clone(&self.machine)).merge(routes.control);
        let (stop, tasks) = (self.stop, self.tasks);
        tasks.spawn(server.serve(stop.clone(), tasks.clone()));
        tasks.spawn(self.socket.serve(control, stop.clone(), tasks.clone()));
        tasks.spawn(lxd_watch::watch(
            self.config.lxd_socket,
            self.machine.lxd_started.clone(),
            stop.clone(),
        ));
        let (changes, state) = (
            self.machine.ovn_changes.clone(),
            self.config.state_dir.clone(),
        );
        let watched = stop.clone();
        tasks.spawn(async move { follow_ovn(&state, changes, watched).await });
        let (port, asked) = (self.config.port, stop.clone());
        tasks.spawn(async move {
            if let Err(error) = answer_paths(port, asked).await {
                tracing::warn!(port, %error, "other members cannot try their way to here");
            }
        });
        tasks.spawn(renew(Arc::clone(&self.identity), stop.clone()));
        tracing::info!(
            member = self.identity.name(),
            fingerprint = %self.identity.fingerprint(),
            %address,
            "the agent is ready"
        );
        notify(&[sd_notify::NotifyState::Ready]);
        stop.cancelled().await;
        notify(&[sd_notify::NotifyState::Stopping]);
        tasks.close();
        if tokio::time::timeout(GRACE, tasks.wait()).await.is_err() {
            tracing::warn!("stopped while requests were running");
        }
        Ok(())
    }
}

fn notify(states: &[sd_notify::NotifyState]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "systemd was not told");
    }
}

/// Looks once a day whether the certificate is near its end.
async fn renew(identity: Arc<Identity>, stop: CancellationToken) {
    let day = Duration::from_secs(86_400);
    while tokio::time::timeout(day, stop.cancelled()).await.is_err() {
        match identity.renew_if_due(jiff::Timestamp::now()) {
            Ok(true) => tracing::info!("renewed the certificate"),
            Ok(false) => {}
            Err(error) => {
                let error = with_causes(&error);
                tracing::error!(error, "cannot renew the certificate; trying again tomorrow");
            }
        }
    }
}

/// An error with its causes, on one line.
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text.push_str(": ");
        text.push_str(&source.to_string());
        next = source.source();
    }
    text
}
