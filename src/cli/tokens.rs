//! `microcloud tokens`: what lets machines in that are no members yet.

use super::Exit;
use super::client::{Client, ClientError};
use super::error::CommandError;
use super::listing::FormatArgs;
use super::output::print;
use crate::agent::tokens::{Invitation, InvitationKind, Revoke};
use clap::Subcommand;

/// Arguments of `microcloud tokens`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List LXD's join tokens that were not used yet, and the session of trust open on this machine
    ///
    /// No machine needs a token to join: a session of trust lets it in (microcloud init, add, join).
    /// The controller makes a token of LXD for the moment in which a member joins, and one that
    /// lasts was made by a person with `lxc cluster add`. The secrets are not shown: who has a token
    /// can join LXD. `lxc cluster list-tokens` shows them.
    #[command(alias = "ls")]
    List(FormatArgs),
    /// End the tokens for a machine, or a session, by its name
    Revoke(RevokeArgs),
}

/// Arguments of `microcloud tokens revoke`.
#[derive(Debug, clap::Args)]
struct RevokeArgs {
    /// The name that `microcloud tokens list` shows
    name: String,
}

impl Client {
    async fn tokens(&self) -> Result<Vec<Invitation>, ClientError> {
        self.look("/v1/agent/tokens", None).await
    }

    async fn revoke_tokens(&self, name: String) -> Result<Vec<Invitation>, ClientError> {
        self.work("/v1/agent/tokens/revoke", &Revoke { name }).await
    }
}

/// Runs the command.
///
/// # Errors
/// No agent or no LXD answers, or there is none of that name.
pub async fn run(args: Args, client: &Client) -> Result<Exit, CommandError> {
    match args.command {
        Command::List(args) => {
            let all = client.tokens().await?;
            let row = |one: &Invitation| {
                [
                    one.name.clone(),
                    word(one.kind).to_owned(),
                    one.member.clone(),
                    one.expires_at.clone(),
                ]
            };
            let rows: Vec<[String; 4]> = all.iter().map(row).collect();
            let header = ["NAME", "KIND", "MEMBER", "EXPIRES"];
            print(&args.format.text(header, &rows, &all));
        }
        Command::Revoke(args) => {
            for one in client.revoke_tokens(args.name).await? {
                print(&format!("{} {} revoked\n", word(one.kind), one.name));
            }
        }
    }
    Ok(Exit::Done)
}

fn word(kind: InvitationKind) -> &'static str {
    match kind {
        InvitationKind::Token => "token",
        InvitationKind::Session => "session",
    }
}
