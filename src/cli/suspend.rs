//! `microcloud suspend` and `microcloud resume`: hands off, for a time.

use super::client::Client;
use super::error::CommandError;
use super::output::{name, print};
use super::{Exit, objects};
use crate::agent::api;
use crate::resources::ObjectRef;
use std::time::Duration;

/// Arguments of `microcloud suspend`.
#[derive(Debug, clap::Args)]
pub struct SuspendArgs {
    /// KIND/NAME, or KIND and NAME; everything unless given
    #[arg(value_name = "KIND/NAME", num_args = 0..=2)]
    object: Vec<String>,

    /// For how long, such as 30m or 2h; it ends by itself
    #[arg(
        long = "for",
        value_parser = humantime::parse_duration,
        default_value = "1h",
        value_name = "D"
    )]
    duration: Duration,

    /// Why; `microcloud status` shows it
    #[arg(long)]
    reason: Option<String>,
}

/// Arguments of `microcloud resume`.
#[derive(Debug, clap::Args)]
pub struct ResumeArgs {
    /// KIND/NAME, or KIND and NAME; the suspension of everything unless given
    #[arg(value_name = "KIND/NAME", num_args = 0..=2)]
    object: Vec<String>,
}

/// Runs `microcloud suspend`.
///
/// # Errors
/// It could not be kept, or no agent answers.
pub async fn suspend(args: SuspendArgs, client: &Client) -> Result<Exit, CommandError> {
    let seconds = args.duration.as_secs();
    if seconds == 0 {
        let message = "--for must be at least 1s: a suspension has an end".to_owned();
        return Err(CommandError::Usage(message));
    }
    let object = at_most_one(&args.object)?;
    let who = shown(object.as_ref());
    let ended_by = match &object {
        Some(_) => format!("microcloud resume {who}"),
        None => "microcloud resume".to_owned(),
    };
    let ask = api::Suspend {
        object,
        seconds,
        reason: args.reason,
    };
    client.suspend(&ask).await?;
    print(&format!(
        "{who} suspended for {}; `{ended_by}` ends it earlier\n",
        humantime::format_duration(Duration::from_secs(seconds))
    ));
    Ok(Exit::Done)
}

/// Runs `microcloud resume`.
///
/// # Errors
/// It could not be kept, or no agent answers.
pub async fn resume(args: ResumeArgs, client: &Client) -> Result<Exit, CommandError> {
    let object = at_most_one(&args.object)?;
    let who = shown(object.as_ref());
    client.resume(&api::Resume { object }).await?;
    print(&format!("{who} resumed\n"));
    Ok(Exit::Done)
}

fn at_most_one(words: &[String]) -> Result<Option<ObjectRef>, CommandError> {
    if words.is_empty() {
        return Ok(None);
    }
    match objects::parse(words)?.as_slice() {
        [one] => Ok(Some(one.clone())),
        _ => Err(CommandError::Usage(
            "name one object, or none for everything".to_owned(),
        )),
    }
}

fn shown(object: Option<&ObjectRef>) -> String {
    object.map_or_else(|| "everything".to_owned(), name)
}
