//! `microcloud cluster recover`: LXD's database when most of its servers are lost for good.

use super::Exit;
use super::client::{Client, ClientError};
use super::error::CommandError;
use super::output::{Paint, print};
use super::session::ask::Asker;
use super::session::until_interrupted;
use crate::agent::recover::{Recovered, Recovery};
use serde_json::json;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long it may take until a controller has looked at everything again.
const CONTROLLED: Duration = Duration::from_secs(120);

/// The pause between two looks.
const LOOK: Duration = Duration::from_millis(500);

/// Arguments of `microcloud cluster recover`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Ask nothing: the other members are lost for good and will never be started again
    #[arg(long, short = 'y')]
    yes: bool,
}

impl Client {
    async fn recovery(&self) -> Result<Recovery, ClientError> {
        self.look("/v1/agent/recovery", None).await
    }

    async fn recover(&self) -> Result<Recovered, ClientError> {
        self.work_for("/v1/agent/recovery", &json!({}), Duration::from_secs(300))
            .await
    }
}

/// Runs the command: 0 when LXD's database is back and a member controls again.
///
/// # Errors
/// It is not lost, other members answer, or it does not come back.
pub async fn run(args: Args, client: &Client) -> Result<Exit, CommandError> {
    let recovery = client.recovery().await?;
    if let Some(reason) = recovery.refused {
        return Err(CommandError::NotDone(reason));
    }
    print(&what(&recovery));
    let mut ask = Asker::new(args.yes);
    let question = format!("Make {} the only server of LXD's database?", recovery.name);
    let sure = match args.yes {
        true => true,
        false => until_interrupted(ask.yes_no(&question, false)).await?,
    };
    if !sure {
        let message = "aborted: nothing was changed".to_owned();
        return Err(CommandError::NotDone(message));
    }
    let done = client.recover().await?;
    print(&format!(
        "LXD's database is back; as it was before it is in {}\n",
        done.copy.display()
    ));
    let end = Instant::now() + CONTROLLED;
    loop {
        let status = client.status(0, Duration::ZERO).await?;
        let looked = status.report.as_ref().is_some_and(|r| r.synced);
        if let Some(leader) = status.leader.filter(|_| looked && !status.cached) {
            print(&format!("{leader} controls again\n"));
            break;
        }
        if Instant::now() >= end {
            let reason = status.reason.unwrap_or_default();
            let message = format!("nobody controls yet: {reason}; see microcloud status");
            return Err(CommandError::NotDone(message));
        }
        sleep(LOOK).await;
    }
    print(&format!(
        "To give the lost members up, which says what is lost with each:\n  microcloud remove {} \
         --force\n",
        recovery.lost.join(" ")
    ));
    Ok(Exit::Done)
}

/// What will be done, and what will not.
fn what(recovery: &Recovery) -> String {
    let paint = Paint::of_stdout();
    let (name, lost) = (&recovery.name, recovery.lost.join(", "));
    let mut text = format!(
        "LXD's database has lost its majority: {} and {name} is what is left.\n\n{}\n\
         \x20 1. LXD on {name} is stopped; its instances go on.\n\
         \x20 2. Its database is copied.\n\
         \x20 3. `lxd cluster recover-from-quorum-loss` makes {name} its only server. What the lost \
         members wrote last and {name} did not get is lost.\n\
         \x20 4. LXD is started, and a member controls again.\n\n\
         {} If one of them is started afterwards all the same, there are two clusters of one \
         name: take it off the network and install it anew.\n",
        match recovery.lost.as_slice() {
            [one] => format!("{one} does not answer,"),
            _ => format!("{lost} do not answer,"),
        },
        paint.bold("What will be done:"),
        paint.red(&format!("{lost} must never be started again.")),
    );
    if !recovery.left.is_empty() {
        text.push_str(&format!("\n{}\n", paint.bold("What is not brought back:")));
        for sentence in &recovery.left {
            text.push_str(&format!("  {sentence}\n"));
        }
    }
    text.push('\n');
    text
}
