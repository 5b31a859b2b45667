//! `microcloud wait`: waits until objects are ready.

use super::Exit;
use super::client::Client;
use super::error::CommandError;
use super::objects::Selection;
use super::ready::{self, Wanted};
use std::collections::BTreeSet;
use std::time::Duration;

/// Arguments of `microcloud wait`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// KIND/NAME…, or KIND and names, or a KIND; everything unless given
    #[arg(value_name = "KIND/NAME")]
    objects: Vec<String>,

    /// What to wait for
    #[arg(long = "for", value_enum, default_value_t = For::Ready)]
    what: For,

    /// How long to wait, such as 90s or 5m
    #[arg(long, value_parser = humantime::parse_duration, default_value = "10m", value_name = "D")]
    timeout: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum For {
    /// As written, with the newest version
    Ready,
    /// No longer there
    Delete,
}

/// Runs the command: 0 when all of it is as waited for, 1 when the time is over or all that is left
/// needs somebody's help.
///
/// # Errors
/// There is no such object, or no agent answers.
pub async fn run(args: Args, client: &Client) -> Result<Exit, CommandError> {
    let selection = Selection::parse(&args.objects)?;
    if args.what == For::Delete {
        let Selection::Objects(objects) = selection else {
            let message = "name the objects that shall go: KIND/NAME".to_owned();
            return Err(CommandError::Usage(message));
        };
        return ready::wait(client, &Wanted::Gone(objects), args.timeout).await;
    }
    if selection == Selection::All {
        return ready::wait(client, &Wanted::All, args.timeout).await;
    }
    let mut known: BTreeSet<_> = client
        .resources()
        .await?
        .iter()
        .map(|r| r.reference())
        .collect();
    let status = client.status(0, Duration::ZERO).await?;
    known.extend(
        status
            .report
            .into_iter()
            .flat_map(|r| r.objects)
            .map(|o| o.object),
    );
    let objects: Vec<_> = match selection {
        Selection::Objects(objects) => {
            if let Some(missing) = objects.iter().find(|o| !known.contains(*o)) {
                return Err(CommandError::NotFound(missing.clone()));
            }
            objects
        }
        selection => known.into_iter().filter(|o| selection.has(o)).collect(),
    };
    if objects.is_empty() {
        let message = format!("there is no {}", args.objects.join(" "));
        return Err(CommandError::Usage(message));
    }
    ready::wait(client, &Wanted::Objects(objects), args.timeout).await
}
