//! `microcloud cluster list`: the members with their roles in every service.

use super::client::Client;
use super::error::CommandError;
use super::listing::FormatArgs;
use super::output::print;
use super::status::tell_if_old;
use super::{Exit, recover};
use crate::agent::api::MachineStatus;
use crate::reconcile::placement::{Placed, ServiceName, UNREACHABLE};
use clap::Subcommand;
use serde::Serialize;
use std::time::Duration;

/// Arguments of `microcloud cluster`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the members, what each is in LXD, OVN and Ceph, and how it is
    #[command(alias = "ls")]
    List(FormatArgs),
    /// Bring LXD's database back on this machine when most of its members are lost for good
    Recover(recover::Args),
}

/// Runs the command.
///
/// # Errors
/// No agent answers, or the database is not to be brought back.
pub async fn run(args: Args, client: &Client) -> Result<Exit, CommandError> {
    match args.command {
        Command::List(format) => list(format, client).await,
        Command::Recover(args) => recover::run(args, client).await,
    }
}

/// A member as it is listed.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row<'a> {
    name: &'a str,
    address: &'a str,
    status: String,
    services: &'a [Placed],
}

async fn list(args: FormatArgs, client: &Client) -> Result<Exit, CommandError> {
    let status = client.status(0, Duration::ZERO).await?;
    tell_if_old(&status);
    let all: Vec<Row<'_>> = status
        .machines
        .iter()
        .map(|(name, machine)| Row {
            name,
            address: &machine.address,
            status: state(machine),
            services: &machine.services,
        })
        .collect();
    let rows: Vec<[String; 6]> = all
        .iter()
        .map(|row| {
            let roles = |service| self::roles(row.services, service);
            [
                row.name.to_owned(),
                row.address.to_owned(),
                roles(ServiceName::Lxd),
                roles(ServiceName::Ovn),
                roles(ServiceName::Ceph),
                row.status.clone(),
            ]
        })
        .collect();
    let header = ["NAME", "ADDRESS", "LXD", "OVN", "CEPH", "STATUS"];
    print(&args.format.text(header, &rows, &all));
    Ok(Exit::Done)
}

/// The roles of a member in one service; `-` where it has no part in it.
fn roles(services: &[Placed], service: ServiceName) -> String {
    match services.iter().find(|placed| placed.service == service) {
        None => "-".to_owned(),
        Some(placed) if placed.roles.is_empty() => "member".to_owned(),
        Some(placed) => placed.roles.join(", "),
    }
}

/// How a member is: LXD's word for it, unless its machine does not answer.
fn state(machine: &MachineStatus) -> String {
    let lxd = machine
        .services
        .iter()
        .find(|p| p.service == ServiceName::Lxd);
    match lxd {
        _ if !machine.answers => UNREACHABLE.to_owned(),
        Some(placed) => placed.status.clone(),
        None => "No LXD".to_owned(),
    }
}
