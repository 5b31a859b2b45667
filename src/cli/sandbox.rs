//! `microcloud sandbox`: throwaway hosts that run the real services.

use super::Exit;

/// Arguments of `microcloud sandbox`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs the command.
pub fn run(_args: Args) -> Exit {
    Exit::Done
}
