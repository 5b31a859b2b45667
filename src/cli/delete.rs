//! `microcloud delete`: takes resources back that were applied.

use super::client::Client;
use super::error::CommandError;
use super::output::{name, print, tell};
use super::{Exit, inputs, objects};
use crate::agent::api;
use std::path::PathBuf;

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
}

/// Runs the command.
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
    Ok(Exit::Done)
}
