//! `microcloud discover`: lists the sessions that answer on a subnet.

use super::Exit;
use super::client::Client;
use super::error::CommandError;
use super::output::{lines, print, table, tell};
use super::session::{machines, short};
use crate::services::peer::discovery::{Found, Search};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;
use tokio::time::Instant;

/// Arguments of `microcloud discover`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// An address of this machine: its subnet is looked at; all unless given
    #[arg(long, value_name = "IP")]
    address: Option<IpAddr>,

    /// How long to listen
    #[arg(long, value_parser = humantime::parse_duration, default_value = "3s", value_name = "D")]
    lookup_timeout: Duration,

    /// How to print
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    /// For people
    Table,
    /// For programs
    Json,
}

/// Runs the command: 0 when a session answers, 1 when none does. What answers is not proven.
///
/// # Errors
/// The addresses of this machine are not known, or mDNS cannot be used.
pub async fn run(args: Args, client: &Client) -> Result<Exit, CommandError> {
    let addresses = match args.address {
        Some(address) => vec![address],
        None => {
            let report = client.report().await?;
            let all = machines::addresses(&report);
            all.iter().map(|(_, net)| net.addr()).collect()
        }
    };
    let until = Instant::now() + args.lookup_timeout;
    let searches = addresses.into_iter().map(|address| look(address, until));
    let found = futures_util::future::join_all(searches).await;
    let mut all: BTreeSet<Found> = BTreeSet::new();
    for one in found {
        match one {
            Ok(found) => all.extend(found),
            Err(error) => tell(&format!("warning: {error}\n")),
        }
    }
    match args.output {
        Output::Json => {
            let text = serde_json::to_string_pretty(&all).unwrap_or_default();
            print(&format!("{text}\n"));
        }
        Output::Table => {
            let mut rows = table(["NAME", "ADDRESS", "FINGERPRINT", "VERSION", "SESSION"]);
            for one in &all {
                let address = one.address.to_string();
                let key = short(&one.fingerprint);
                rows.add_row([&one.name, &address, key, &one.version, &one.session]);
            }
            print(&lines(&rows, ""));
        }
    }
    Ok(match all.is_empty() {
        true => Exit::NotAsWanted,
        false => Exit::Done,
    })
}

async fn look(address: IpAddr, until: Instant) -> Result<BTreeSet<Found>, String> {
    let search = Search::start(address).map_err(|e| e.to_string())?;
    let mut all = BTreeSet::new();
    while let Ok(Some(found)) = tokio::time::timeout_at(until, search.next()).await {
        all.extend(found);
    }
    Ok(all)
}
