//! `microcloud join`: this machine joins a cloud that another one sets up or adds machines to.

use super::Exit;
use super::client::Client;
use super::error::CommandError;
use super::output::{Paint, print};
use super::ready::{self, Wanted};
use super::session::ask::Asker;
use super::session::{SessionArgs, machines, passphrase, short, until_interrupted};
use crate::agent::session::LONGEST;
use crate::agent::session::words::JoinPhase;
use crate::resources::{Kind, ObjectRef};
use crate::services::peer::session::Passphrase;
use serde_json::json;
use std::net::IpAddr;

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
    let joined = until_interrupted(join(&args, client, &own, &mut ask)).await;
    if let Err(error) = joined {
        let _ = client.end_join().await; // the agent ends what nobody asks about
        return Err(error);
    }
    let member = ObjectRef::new(Kind::Member, own.name.clone());
    ready::wait(client, &Wanted::Objects(vec![member]), args.session.timeout).await
}

async fn join(
    args: &Args,
    client: &Client,
    own: &crate::services::host::HostReport,
    ask: &mut Asker,
) -> Result<(), CommandError> {
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
    let seconds = |given: std::time::Duration| given.as_secs().clamp(1, LONGEST);
    let body = json!({
        "passphrase": secret.expose(),
        "address": address.addr(),
        "initiator": args.initiator_address,
        "lookupSeconds": seconds(args.session.lookup_timeout),
        "sessionSeconds": seconds(args.session.session_timeout),
        "replace": args.replace,
    });
    client.join(&body).await?;
    let paint = Paint::of_stdout();
    print(&format!(
        "{} joins with the address {} and the fingerprint {}\n",
        own.name,
        address.addr(),
        paint.bold(short(&own.fingerprint))
    ));
    let (mut after, mut said) = (0, String::new());
    let mut shown = false;
    loop {
        let status = client.join_status(after).await?;
        after = status.version;
        if let (false, Some(initiator)) = (shown, &status.initiator) {
            shown = true;
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
