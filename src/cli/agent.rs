//! `microcloud agent`: the daemon of this machine, its key, and whom it trusts first.

use super::Exit;
use crate::agent::api::Failure;
use crate::agent::control_client::{ControlClient, ControlError};
use crate::agent::control_routes::{AgentInfo, TrustRequest, trust_first};
use crate::agent::{self, Config, EpochBook, Overrides, StartError, TrustBook, with_causes};
use crate::services::host::{Host, HostError, HostTarget};
use crate::services::peer::{Claim, Fingerprint, Identity, PeerClient, PeerHost, Pins};
use axum::http::Method;
use clap::Subcommand;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::error::Error;
use std::io::{IsTerminal, Read};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// How long the agent of this machine may take to answer.
const ANSWER: Duration = Duration::from_secs(10);

/// Arguments of `microcloud agent`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    overrides: Overrides,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon (also without a subcommand)
    Run,
    /// Print the fingerprint of this machine's key, for `spec.fingerprint` of its member
    Fingerprint,
    /// Trust the agent with this fingerprint as the first peer of this machine
    Trust {
        /// What `microcloud agent fingerprint` prints on the other machine
        fingerprint: Fingerprint,
        /// The member it belongs to; the first name it proves itself under unless given
        #[arg(long)]
        name: Option<String>,
        /// Forget the cluster this machine was in
        #[arg(long)]
        replace: bool,
    },
    /// Call the agent of another member with this machine's key
    #[command(hide = true)]
    Call {
        /// The member
        member: String,
        /// What to ask
        what: Call,
        /// Where it listens; as the trust store says unless given
        #[arg(long)]
        address: Option<IpAddr>,
        /// Its key, when the trust store does not know it
        #[arg(long)]
        fingerprint: Option<Fingerprint>,
        /// The epoch to claim
        #[arg(long)]
        epoch: Option<u64>,
        /// The request's body, JSON; `-` is standard input
        #[arg(long, value_name = "FILE")]
        body: Option<PathBuf>,
    },
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Call {
    Report,
    Beat,
    Bootstrap,
    Join,
    Wipe,
    Trust,
}

/// What went wrong, with its exit code.
struct Failed(Exit, String);

impl Failed {
    fn invalid(error: &(dyn Error + 'static)) -> Failed {
        Failed(Exit::Invalid, with_causes(error))
    }
}

impl From<ControlError> for Failed {
    fn from(error: ControlError) -> Failed {
        Failed(Exit::Unreachable, with_causes(&error))
    }
}

impl From<HostError> for Failed {
    fn from(error: HostError) -> Failed {
        let exit = match error {
            HostError::Unreachable { .. } | HostError::NotTrusted { .. } => Exit::Unreachable,
            _ => Exit::NotAsWanted,
        };
        Failed(exit, error.to_string())
    }
}

/// Runs the command.
pub fn run(args: Args) -> Exit {
    let worked = Config::load(&args.overrides)
        .map_err(|e| Failed::invalid(&e))
        .and_then(|config| {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .map_err(|e| Failed(Exit::Unreachable, format!("cannot start: {e}")))?;
            runtime.block_on(dispatch(config, args.command.unwrap_or(Command::Run)))
        });
    match worked {
        Ok(()) => Exit::Done,
        Err(Failed(exit, reason)) => {
            eprintln!("error: {reason}");
            exit
        }
    }
}

async fn dispatch(config: Config, command: Command) -> Result<(), Failed> {
    match command {
        Command::Run => daemon(config).await,
        Command::Fingerprint => fingerprint(config).await,
        Command::Trust {
            fingerprint,
            name,
            replace,
        } => trust(config, fingerprint, name, replace).await,
        Command::Call {
            member,
            what,
            address,
            fingerprint,
            epoch,
            body,
        } => {
            let target = Target {
                member,
                address,
                fingerprint,
                epoch,
            };
            call(config, target, what, body).await
        }
    }
}

/// Runs the daemon until it is told to stop.
async fn daemon(config: Config) -> Result<(), Failed> {
    log();
    let unusable = |error: StartError| {
        let exit = match error {
            StartError::Identity(_) | StartError::State(_) => Exit::Invalid,
            _ => Exit::Unreachable,
        };
        Failed(exit, with_causes(&error))
    };
    let agent = agent::start(config).await.map_err(unusable)?;
    let stop = agent.stop.clone();
    let signals = [SignalKind::terminate(), SignalKind::interrupt()];
    for kind in signals {
        let mut arrived = signal(kind)
            .map_err(|e| Failed(Exit::Unreachable, format!("cannot wait for signals: {e}")))?;
        let stop = stop.clone();
        tokio::spawn(async move {
            arrived.recv().await;
            stop.cancel();
        });
    }
    agent.work().await.map_err(unusable)
}

/// Logs to standard error: `MICROCLOUD_LOG` filters, `info` unless set.
fn log() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("MICROCLOUD_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none());
    // The journal has its own clock.
    if std::env::var_os("JOURNAL_STREAM").is_some() {
        builder.without_time().init();
    } else {
        builder.init();
    }
}

async fn fingerprint(config: Config) -> Result<(), Failed> {
    // The running agent knows, also when only it may read the key.
    let asked = ControlClient::new(&config.socket)
        .ask(Method::GET, "/v1/agent", None, ANSWER)
        .await;
    let fingerprint = match asked {
        Ok(answer) if answer.status == 200 => {
            let info: AgentInfo = decode(&answer.body)?;
            info.fingerprint
        }
        _ => Identity::open(&config.state_dir, &config.name)
            .map_err(|e| Failed::invalid(&e))?
            .fingerprint()
            .to_string(),
    };
    println!("{fingerprint}");
    Ok(())
}

async fn trust(
    config: Config,
    fingerprint: Fingerprint,
    name: Option<String>,
    replace: bool,
) -> Result<(), Failed> {
    let request = TrustRequest {
        fingerprint: fingerprint.to_string(),
        name: name.clone(),
        replace,
    };
    let body = serde_json::to_value(&request).map_err(|e| Failed::invalid(&e))?;
    let asked = ControlClient::new(&config.socket)
        .ask(Method::POST, "/v1/agent/trust", Some(&body), ANSWER)
        .await;
    match asked {
        Ok(answer) if answer.status == 200 => return Ok(()),
        Ok(answer) => {
            let exit = match answer.status {
                400..500 => Exit::Invalid,
                _ => Exit::NotAsWanted,
            };
            let failure: Failure = decode(&answer.body)?;
            return Err(Failed(exit, failure.message));
        }
        Err(ControlError::NotRunning { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    // No agent is running: this process changes the state itself.
    let _lock =
        agent::lock_state(&config).map_err(|e| Failed(Exit::Unreachable, with_causes(&e)))?;
    let book = TrustBook::open(&config.state_dir).map_err(|e| Failed::invalid(&e))?;
    let epochs = EpochBook::open(&config.state_dir).map_err(|e| Failed::invalid(&e))?;
    trust_first(&book, &epochs, &fingerprint, name.as_deref(), replace)
        .map_err(|e| Failed::invalid(&e))
}

fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, Failed> {
    serde_json::from_slice(body).map_err(|e| {
        Failed(
            Exit::Unreachable,
            format!("the agent's answer is not understood: {e}"),
        )
    })
}

struct Target {
    member: String,
    address: Option<IpAddr>,
    fingerprint: Option<Fingerprint>,
    epoch: Option<u64>,
}

/// The claim given on the command line.
#[derive(Debug)]
struct Claimed(Option<u64>);

impl Claim for Claimed {
    fn epoch(&self) -> Option<u64> {
        self.0
    }
}

/// Calls another agent with the key and the trusted keys on disk.
async fn call(
    config: Config,
    target: Target,
    what: Call,
    body: Option<PathBuf>,
) -> Result<(), Failed> {
    let identity =
        Identity::open(&config.state_dir, &config.name).map_err(|e| Failed::invalid(&e))?;
    let book = TrustBook::open(&config.state_dir).map_err(|e| Failed::invalid(&e))?;
    let address = target
        .address
        .or_else(|| book.address_of(&target.member))
        .ok_or_else(|| {
            let reason = format!("where is `{}`? give --address", target.member);
            Failed(Exit::Invalid, reason)
        })?;
    let client = PeerClient::new(
        Arc::new(identity),
        Arc::new(book),
        Arc::new(Claimed(target.epoch)),
        config.port,
    );
    let host = PeerHost::new(
        client,
        HostTarget {
            name: target.member,
            address,
            fingerprint: target.fingerprint.map(String::from),
        },
    );
    match what {
        Call::Report => print(&host.report().await?),
        Call::Beat => print(&host.beat().await?),
        Call::Bootstrap => Ok(host.bootstrap_lxd(read_body(body)?).await?),
        Call::Join => Ok(host.join_lxd(read_body(body)?).await?),
        Call::Wipe => Ok(host.wipe_disk(read_body(body)?).await?),
        Call::Trust => Ok(host.set_trust(read_body(body)?).await?),
    }
}

fn print(value: &impl Serialize) -> Result<(), Failed> {
    let text = serde_json::to_string_pretty(value).map_err(|e| Failed::invalid(&e))?;
    println!("{text}");
    Ok(())
}

fn read_body<T: DeserializeOwned>(path: Option<PathBuf>) -> Result<T, Failed> {
    let path = path.ok_or_else(|| Failed(Exit::Invalid, "this call needs --body".to_owned()))?;
    let mut text = String::new();
    if path.as_os_str() == "-" {
        std::io::stdin().read_to_string(&mut text)
    } else {
        std::fs::File::open(&path).and_then(|mut file| file.read_to_string(&mut text))
    }
    .map_err(|e| Failed(Exit::Invalid, format!("cannot read the body: {e}")))?;
    serde_json::from_str(&text).map_err(|e| Failed::invalid(&e))
}
