//! `microcloud approve`: allows one step that a plan asks for, once.

use super::Exit;
use super::client::Client;
use super::error::CommandError;
use super::output::print;
use crate::agent::api;

/// Arguments of `microcloud approve`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The step, as `microcloud status` prints it: KIND/NAME/ACTION@OBJECT
    step: String,
}

/// Runs the command.
///
/// # Errors
/// No plan asks for the step, it could not be kept, or no agent answers.
pub async fn run(args: Args, client: &Client) -> Result<Exit, CommandError> {
    let ask = api::Approve { step: args.step };
    client.approve(&ask).await?;
    print(&format!("{} is approved, once\n", ask.step));
    Ok(Exit::Done)
}
