//! The commands: each in a file of its own; they print and never decide.
//!
//! Exit codes: 0 done, 1 not as wanted (differs, not ready), 2 usage or invalid input,
//! 3 the agent or a service could not be reached.

pub mod add;
pub mod agent;
pub mod apply;
pub mod approve;
pub mod client;
pub mod cluster;
pub mod completion;
pub mod delete;
pub mod describe;
pub mod diff;
pub mod discover;
pub mod error;
pub mod events;
pub mod explain;
pub mod export;
pub mod get;
pub mod import;
pub mod init;
pub mod inputs;
pub mod join;
pub mod listing;
pub mod objects;
pub mod output;
pub mod preseed;
pub mod progress;
pub mod ready;
pub mod reconcile;
pub mod recover;
pub mod remove;
pub mod sandbox;
pub mod schema;
pub mod service;
pub mod session;
pub mod simulate;
pub mod status;
pub mod suspend;
pub mod tokens;
pub mod validate;
pub mod wait;
pub mod waitready;

use crate::agent::config::SOCKET;
use clap::{CommandFactory, Parser, Subcommand};
use client::Client;
use error::CommandError;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// How a command ended; the number is the exit code of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done; for `diff`: no difference.
    Done = 0,
    /// Not as wanted: differs, not ready.
    NotAsWanted = 1,
    /// Usage or invalid input.
    Invalid = 2,
    /// The agent or a service could not be reached.
    Unreachable = 3,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

/// Keeps a private cloud as a directory of YAML says.
#[derive(Debug, Parser)]
#[command(name = "microcloud", version)]
struct Args {
    /// The socket of the agent on this machine [default: /run/microcloud/control.socket]
    #[arg(
        long,
        global = true,
        value_name = "PATH",
        env = "MICROCLOUD_SOCKET",
        hide_env_values = true
    )]
    socket: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Set up a cloud, by questions or by flags
    Init(Box<init::Args>),
    /// Have this machine join a cloud that another one sets up: 0 when it is a member that is ready
    Join(join::Args),
    /// Take more machines into the cloud
    Add(add::Args),
    /// Set a cloud up, or add machines to it, by MicroCloud's preseed: the same file on all machines
    Preseed(preseed::Args),
    /// List the machines on the subnet where a cloud is set up now
    Discover(discover::Args),
    /// The members, and LXD's database when most of them are lost for good
    Cluster(cluster::Args),
    /// Which services run where, and adding one
    Service(service::Args),
    /// What lets machines in that are no members yet
    Tokens(tokens::Args),
    /// Wait until the agent of this machine answers, and the LXD beside it: 0 then, 3 or 1 if not
    Waitready(waitready::Args),
    /// Apply resources from files, folders or the standard input
    Apply(apply::Args),
    /// Take resources back that were applied
    Delete(delete::Args),
    /// Show what would be done: 0 nothing, 1 something
    Diff(diff::Args),
    /// List resources and how it stands with them
    Get(get::Args),
    /// Tell everything about an object
    Describe(describe::Args),
    /// Show everything at once: 0 as wanted, 1 not
    Status(status::Args),
    /// Wait until objects are ready: 0 then, 1 when they do not become so
    Wait(wait::Args),
    /// Show what happened
    Events(events::Args),
    /// Look at everything now instead of waiting for a change
    Reconcile(reconcile::Args),
    /// Take a member out of the cluster
    Remove(remove::Args),
    /// Hands off, for a time
    Suspend(suspend::SuspendArgs),
    /// End a suspension
    Resume(suspend::ResumeArgs),
    /// Allow one step that is refused without it
    Approve(approve::Args),
    /// The daemon of this machine, its key, and whom it trusts first
    Agent(agent::Args),
    /// Throwaway hosts on this machine that run the real services
    Sandbox(sandbox::Args),
    /// Run the controller on a simulated cloud, without root
    Simulate(simulate::Args),
    /// Check files without a cloud: every error with its line
    Validate(validate::Args),
    /// Write the running cluster as resources
    Export(export::Args),
    /// Turn a preseed of MicroCloud, LXD or Incus into resources
    Import(import::Args),
    /// Print the JSON Schema of a kind, or of all
    Schema(schema::Args),
    /// Tell what a kind or a field of it means
    Explain(explain::Args),
    /// Print what a shell needs to complete commands
    Completion(completion::Args),
}

/// Reads the command line and runs the command.
pub fn run() -> ExitCode {
    let args = Args::parse();
    let given = args.socket.filter(|path| !path.as_os_str().is_empty());
    let socket = given.as_deref().unwrap_or(Path::new(SOCKET));
    let exit = match args.command {
        Command::Init(args) => ask(socket, async |agent| init::run(*args, agent).await),
        Command::Join(args) => ask(socket, async |agent| join::run(args, agent).await),
        Command::Add(args) => ask(socket, async |agent| add::run(args, agent).await),
        Command::Preseed(args) => ask(socket, async |agent| preseed::run(args, agent).await),
        Command::Discover(args) => ask(socket, async |agent| discover::run(args, agent).await),
        Command::Cluster(args) => ask(socket, async |agent| cluster::run(args, agent).await),
        Command::Service(args) => ask(socket, async |agent| service::run(args, agent).await),
        Command::Tokens(args) => ask(socket, async |agent| tokens::run(args, agent).await),
        Command::Waitready(args) => ask(socket, async |agent| waitready::run(args, agent).await),
        Command::Apply(args) => ask(socket, async |agent| apply::run(args, agent).await),
        Command::Delete(args) => ask(socket, async |agent| delete::run(args, agent).await),
        Command::Diff(args) => ask(socket, async |agent| diff::run(args, agent).await),
        Command::Get(args) => ask(socket, async |agent| get::run(args, agent).await),
        Command::Describe(args) => ask(socket, async |agent| describe::run(args, agent).await),
        Command::Status(args) => ask(socket, async |agent| status::run(args, agent).await),
        Command::Wait(args) => ask(socket, async |agent| wait::run(args, agent).await),
        Command::Events(args) => ask(socket, async |agent| events::run(args, agent).await),
        Command::Reconcile(args) => ask(socket, async |agent| reconcile::run(args, agent).await),
        Command::Remove(args) => ask(socket, async |agent| remove::run(args, agent).await),
        Command::Suspend(args) => ask(socket, async |agent| suspend::suspend(args, agent).await),
        Command::Resume(args) => ask(socket, async |agent| suspend::resume(args, agent).await),
        Command::Approve(args) => ask(socket, async |agent| approve::run(args, agent).await),
        Command::Agent(args) => agent::run(args),
        Command::Sandbox(args) => sandbox::run(args),
        Command::Simulate(args) => simulate::run(args),
        Command::Validate(args) => validate::run(args),
        Command::Export(args) => ask(socket, async |agent| export::run(args, agent).await),
        Command::Import(args) => import::run(args),
        Command::Schema(args) => schema::run(args),
        Command::Explain(args) => explain::run(args),
        Command::Completion(args) => completion::run(args, Args::command()),
    };
    exit.into()
}

/// Runs a command that asks the agent, and tells why it ended if it could not do it.
fn ask(socket: &Path, work: impl AsyncFnOnce(&Client) -> Result<Exit, CommandError>) -> Exit {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(CommandError::Start);
    let ended = runtime.and_then(|runtime| runtime.block_on(work(&Client::new(socket))));
    ended.unwrap_or_else(|error| {
        let line = crate::agent::with_causes(&error);
        let label = output::Paint::of_stderr().red("error:");
        output::tell(&format!("{label} {line}\n"));
        error.exit()
    })
}

/// Prints to the standard output. A reader that went away (`| head`) is no error.
fn print(text: &str) {
    output::print(text);
}
