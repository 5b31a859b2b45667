//! `microcloud apply`: hands resources to the agent.

use super::client::Client;
use super::error::CommandError;
use super::output::{Paint, name, print};
use super::ready::{self, Wanted};
use super::{Exit, diff, inputs};
use crate::agent::api;
use std::path::PathBuf;
use std::time::Duration;

/// Arguments of `microcloud apply`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Files and folders; `-` is the standard input
    #[arg(
        short,
        long = "file",
        visible_alias = "filename",
        required = true,
        num_args = 1..,
        value_name = "PATH"
    )]
    files: Vec<PathBuf>,

    /// Wait until everything that was applied is ready: 0 then, 1 when the time is over or
    /// somebody must change something first
    #[arg(long, conflicts_with = "dry_run")]
    wait: bool,

    /// How long to wait, such as 90s or 5m
    #[arg(long, value_parser = humantime::parse_duration, default_value = "10m", value_name = "D")]
    timeout: Duration,

    /// Only show what would be done
    #[arg(long)]
    dry_run: bool,
}

/// Runs the command.
///
/// # Errors
/// Nothing was applied: a file is broken, the directory owns a resource, or no agent answers.
pub async fn run(args: Args, client: &Client) -> Result<Exit, CommandError> {
    let resources = inputs::resources(client, &args.files).await?;
    if args.dry_run {
        let plans = diff::with(client, resources).await?;
        print(&diff::text(&plans, Paint::of_stdout()));
        return Ok(Exit::Done);
    }
    let applied = client.apply(&api::Apply { resources }).await?;
    for one in &applied {
        print(&format!("{} {}\n", name(&one.object), one.result));
    }
    if !args.wait {
        return Ok(Exit::Done);
    }
    let objects = applied.into_iter().map(|one| one.object).collect();
    ready::wait(client, &Wanted::Objects(objects), args.timeout).await
}
