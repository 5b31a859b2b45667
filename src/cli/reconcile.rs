//! `microcloud reconcile`: looks at everything now instead of waiting for a change.

use super::client::Client;
use super::error::CommandError;
use super::output::{name, print};
use super::{Exit, objects};
use crate::agent::api;

/// Arguments of `microcloud reconcile`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// KIND/NAME…, or KIND and names; everything unless given
    #[arg(value_name = "KIND/NAME")]
    objects: Vec<String>,

    /// Take the directory of this member as what is wanted, whatever was accepted before
    #[arg(long, value_name = "MEMBER")]
    accept_from: Option<String>,
}

/// Runs the command.
///
/// # Errors
/// One of the objects or the member is not there, or no agent answers.
pub async fn run(args: Args, client: &Client) -> Result<Exit, CommandError> {
    let objects = match args.objects.as_slice() {
        [] => Vec::new(),
        words => objects::parse(words)?,
    };
    let ask = api::Reconcile {
        objects,
        accept_from: args.accept_from,
    };
    client.reconcile(&ask).await?;
    if let Some(member) = &ask.accept_from {
        print(&format!(
            "the directory of {member} is what is wanted now\n"
        ));
    }
    if ask.objects.is_empty() {
        print("everything was looked at again\n");
    }
    for object in &ask.objects {
        print(&format!("{} was looked at again\n", name(object)));
    }
    Ok(Exit::Done)
}
