//! `microcloud delete`: takes resources back that were applied.

use super::client::Client;
use super::error::CommandError;
use super::output::{name, print, tell};
use super::ready::{self, Wanted};
use super::{Exit, inputs, objects};
use crate::agent::api;
use std::path::PathBuf;
use std::time::Duration;

/// Arguments of `microcloud delete`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// KIND/NAME…, or KIND and names
    #[arg(required_unless_present = "files", value_name = "KIND/NAME")]
    objects: Vec<String>,

    /// Files and folders whose resources are deleted; `-` is the standard input
    #[arg(
        short,
        long = "file",
        visible_alias = "filename",
        num_args = 1..,
        conflicts_with = "objects",
        value_name = "PATH"
    )]
    files: Vec<PathBuf>,

    /// Wait until what they stood for is gone too
    #[arg(long)]
    wait: bool,

    /// How long to wait, such as 90s or 5m
    #[arg(
        long,
        value_parser = humantime::parse_duration,
        default_value = "10m",
        requires = "wait",
        value_name = "D"
    )]
    timeout: Duration,
}

/// Runs the command: 0 when it is done, 1 when the time to wait is over.
///
/// # Errors
/// Nothing was deleted: the directory owns one of them, nobody applied it, or no agent answers.
pub async fn run(args: Args, client: &Client) -> Result<Exit, CommandError> {
    let objects = match args.files.as_slice() {
        [] => objects::parse(&args.objects)?,
        files => inputs::references(files)?,
    };
    let deleted = client.delete(&api::Delete { objects }).await?;
    for one in &deleted {
        print(&format!("{} {}\n", name(&one.object), one.result));
    }
    for one in deleted.iter().filter(|one| one.object.kind.never_pruned()) {
        tell(&format!(
            "note: only the resource {} is gone; what it stood for is left exactly as it is\n",
            name(&one.object)
        ));
    }
    if !args.wait {
        return Ok(Exit::Done);
    }
    let objects = deleted.into_iter().map(|one| one.object);
    let objects: Vec<_> = objects.filter(|o| !o.kind.never_pruned()).collect();
    if objects.is_empty() {
        return Ok(Exit::Done);
    }
    ready::wait(client, &Wanted::Gone(objects), args.timeout).await
}
