//! `microcloud join`: this machine joins a cloud that another one sets up or adds machines to.

use super::Exit;
use super::client::Client;
use super::error::CommandError;
use super::output::{Paint, print};
use super::ready::{self, Wanted};
use super::session::ask::Asker;
use super::session::{SessionArgs, machines, passphrase, short, until_interrupted, whole_seconds};
use crate::agent::session::words::JoinPhase;
use crate::resources::{Kind, ObjectRef};
use crate::services::host::HostReport;
use crate::services::peer::session::Passphrase;
use serde_json::json;
use std::net::IpAddr;
use std::time::Duration;

/// Arguments of `microcloud join`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    session: SessionArgs,

    /// The address of the machine where `init` or `add` runs, where mDNS does not get through
    #[arg(long, value_name = "IP")]
    initiator_address: Option<IpAddr>,

    /// Forget the cluster this machine followed before
    #[arg(long)]
    replace: bool,
}

/// Runs the command: 0 when this machine is a member that is ready, 1 when it has failed.
///
/// # Errors
/// It was not let in, or no agent answers.
pub async fn run(args: Args, client: &Client) -> Result<Exit, CommandError> {
    let own = client.report().await?;
    let mut ask = Asker::new(args.session.yes);
    let decided = decide(&args, &own, &mut ask);
    let joined = until_interrupted(async { enter(client, &own, &decided.await?).await }).await;
    conclude(client, &own, joined, args.session.timeout).await
}

/// Gives joining up when it failed, or waits until this machine is a member that is ready.
///
/// # Errors
/// As [`run`].
pub(super) async fn conclude(
    client: &Client,
    own: &HostReport,
    joined: Result<(), CommandError>,
    timeout: Duration,
) -> Result<Exit, CommandError> {
    if let Err(error) = joined {
        let _ = client.end_join().await; // the agent ends what nobody asks about
        return Err(error);
    }
    let member = ObjectRef::new(Kind::Member, own.name.clone());
    ready::wait(client, &Wanted::Objects(vec![member]), timeout).await
}

/// How a machine joins.
#[derive(Debug)]
pub(super) struct Joining {
    /// What all machines of the session were told.
    pub passphrase: Passphrase,
    /// Its address.
    pub address: IpAddr,
    /// Where the initiator is; looked for by mDNS unless given.
    pub initiator: Option<IpAddr>,
    /// The name the initiator must have, when that is known.
    pub named: Option<String>,
    /// How long to look for the initiator.
    pub lookup: Duration,
    /// How long to wait for its operator.
    pub session: Duration,
    /// Whether the cluster this machine followed before is forgotten.
    pub replace: bool,
}

async fn decide(args: &Args, own: &HostReport, ask: &mut Asker) -> Result<Joining, CommandError> {
    let flag = args.session.address;
    let address = machines::own_address(own, flag, args.initiator_address, ask).await?;
    let secret = match &args.session.passphrase_file {
        Some(path) => passphrase(path)?,
        None => {
            let parse = |answer: &str| Passphrase::parse(answer).map_err(|e| e.to_string());
            ask.text("The passphrase that the other machine shows", None, parse)
                .await?
        }
    };
    Ok(Joining {
        passphrase: secret,
        address: address.addr(),
        initiator: args.initiator_address,
        named: None,
        lookup: args.session.lookup_timeout,
        session: args.session.session_timeout,
        replace: args.replace,
    })
}

/// Goes through the session, and tells of it; returns when this machine was taken in.
///
/// # Errors
/// It was not.
pub(super) async fn enter(
    client: &Client,
    own: &HostReport,
    joining: &Joining,
) -> Result<(), CommandError> {
    let body = json!({
        "passphrase": joining.passphrase.expose(),
        "address": joining.address,
        "initiator": joining.initiator,
        "lookupSeconds": whole_seconds(joining.lookup),
        "sessionSeconds": whole_seconds(joining.session),
        "replace": joining.replace,
    });
    client.join(&body).await?;
    let paint = Paint::of_stdout();
    print(&format!(
        "{} joins with the address {} and the fingerprint {}\n",
        own.name,
        joining.address,
        paint.bold(short(&own.fingerprint))
    ));
    let (mut after, mut said) = (0, String::new());
    let mut shown = false;
    loop {
        let status = client.join_status(after).await?;
        after = status.version;
        if let (false, Some(initiator)) = (shown, &status.initiator) {
            shown = true;
            if let Some(named) = joining.named.as_ref().filter(|n| **n != initiator.name) {
                return Err(CommandError::NotDone(format!(
                    "{} at {} knows the passphrase, and {named} should be the initiator",
                    initiator.name, initiator.address
                )));
            }
            print(&format!(
                "{} at {} knows the passphrase; its fingerprint is {}: is it the one shown there?\n",
                initiator.name,
                initiator.address,
                paint.bold(short(&initiator.fingerprint))
            ));
        }
        if status.message != said && status.phase < JoinPhase::Done {
            print(&format!("{}\n", status.message));
            said.clone_from(&status.message);
        }
        match status.phase {
            JoinPhase::Done => return Ok(()),
            JoinPhase::Failed => return Err(CommandError::NotDone(status.message)),
            _ => {}
        }
    }
}
