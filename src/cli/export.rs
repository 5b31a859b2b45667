//! `microcloud export`: the running cluster as resources.

use super::Exit;
use super::client::Client;
use super::error::CommandError;
use super::output::tell;
use std::path::PathBuf;

/// Arguments of `microcloud export`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A folder for the resources, one file for each kind; `-` is the standard output
    #[arg(short, long, value_name = "DIR", default_value = "-")]
    output: PathBuf,

    /// Leave `mode: Report` out: what differs is repaired as soon as the resources are applied
    #[arg(long)]
    enforce: bool,

    /// Replace files that are there
    #[arg(long)]
    force: bool,
}

/// Runs the command: 0 when the resources were written.
///
/// # Errors
/// The agent did not answer, or the cluster could not be read.
pub async fn run(args: Args, agent: &Client) -> Result<Exit, CommandError> {
    let exported = agent.export(args.enforce).await?;
    for sentence in &exported.left_out {
        tell(&format!("note: {sentence}\n"));
    }
    Ok(super::import::save(
        &exported.documents,
        &args.output,
        args.force,
    ))
}
