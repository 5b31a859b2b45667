//! `microcloud waitready`: waits until the agent answers, and the LXD beside it.

use super::Exit;
use super::client::Client;
use super::error::CommandError;
use super::output::tell;
use crate::services::host::LxdReport;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// The pause between two looks.
const LOOK: Duration = Duration::from_millis(300);

/// Arguments of `microcloud waitready`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How long to wait, such as 90s or 5m; a number alone is in seconds
    #[arg(short, long, value_parser = seconds, default_value = "60s", value_name = "D")]
    timeout: Duration,
}

/// A time as `humantime` writes it, or seconds.
fn seconds(text: &str) -> Result<Duration, humantime::DurationError> {
    match text.parse() {
        Ok(seconds) => Ok(Duration::from_secs(seconds)),
        Err(_) => humantime::parse_duration(text),
    }
}

/// Runs the command: 0 when the agent answers and the LXD beside it, where one is installed; 1 when
/// LXD did not answer in time.
///
/// # Errors
/// The agent did not answer in time.
pub async fn run(args: Args, client: &Client) -> Result<Exit, CommandError> {
    let begun = Instant::now();
    loop {
        let asked = client.report().await;
        let late = begun.elapsed() >= args.timeout;
        match asked {
            Ok(report) => match report.lxd {
                LxdReport::Running(_) | LxdReport::NotInstalled => return Ok(Exit::Done),
                LxdReport::NotRunning { reason } if late => {
                    tell(&format!("error: LXD does not answer: {reason}\n"));
                    return Ok(Exit::NotAsWanted);
                }
                LxdReport::JoinCut if late => {
                    tell("error: LXD began to join and did not come to the end of it\n");
                    return Ok(Exit::NotAsWanted);
                }
                LxdReport::NotRunning { .. } | LxdReport::JoinCut => {}
            },
            Err(error) if late || error.exit() != Exit::Unreachable => return Err(error.into()),
            Err(_) => {}
        }
        sleep(LOOK.min(args.timeout.saturating_sub(begun.elapsed()))).await;
    }
}
