//! The commands: each in a file of its own; they print and never decide.
//!
//! Exit codes: 0 done, 1 not as wanted (differs, not ready), 2 usage or invalid input,
//! 3 the agent or a service could not be reached.

pub mod agent;
pub mod explain;
pub mod sandbox;
pub mod schema;
pub mod simulate;
pub mod validate;

use clap::{Parser, Subcommand};
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
#[command(name = "microcloud", version, disable_help_subcommand = true)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The daemon of this machine, its key, and whom it trusts first
    Agent(agent::Args),
    /// Throwaway hosts on this machine that run the real services
    Sandbox(sandbox::Args),
    /// Run the controller on a simulated cloud, without root
    Simulate(simulate::Args),
    /// Check files without a cloud: every error with its line
    Validate(validate::Args),
    /// Print the JSON Schema of a kind, or of all
    Schema(schema::Args),
    /// Tell what a kind or a field of it means
    Explain(explain::Args),
}

/// Reads the command line and runs the command.
pub fn run() -> ExitCode {
    let args = Args::parse();
    let exit = match args.command {
        Command::Agent(args) => agent::run(args),
        Command::Sandbox(args) => sandbox::run(args),
        Command::Simulate(args) => simulate::run(args),
        Command::Validate(args) => validate::run(args),
        Command::Schema(args) => schema::run(args),
        Command::Explain(args) => explain::run(args),
    };
    exit.into()
}

/// Prints to the standard output. A reader that went away (`| head`) is no error.
fn print(text: &str) {
    use std::io::Write;
    let _ = std::io::stdout().write_all(text.as_bytes());
}
