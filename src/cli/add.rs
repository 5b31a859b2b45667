//! `microcloud add`: takes more machines into a cloud.

use super::Exit;
use super::client::Client;
use super::error::CommandError;
use super::init::{check, conclude, confirm};
use super::ready::Wanted;
use super::session::ask::Asker;
use super::session::machines::{self, Share};
use super::session::{Session, SessionArgs, until_interrupted};
use crate::resources::setup::{self, SetupMember};
use crate::resources::{Kind, Resource, Spec};
use crate::services::host::HostReport;
use ipnet::IpNet;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// Arguments of `microcloud add`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    session: SessionArgs,

    /// The machines that join, by name; who else comes is not let in
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    members: Vec<String>,

    /// A disk for local storage, one of every new machine
    #[arg(long, value_name = "MEMBER=PATH")]
    local_disk: Vec<String>,

    /// A disk for distributed storage
    #[arg(long, value_name = "MEMBER=PATH")]
    ceph_disk: Vec<String>,

    /// Chosen disks may be destroyed though they are not empty
    #[arg(long)]
    wipe: bool,

    /// The interface that leads outside: for all new machines, or MEMBER=NAME
    #[arg(long, value_name = "NAME")]
    uplink: Vec<String>,
}

/// Runs the command: 0 when all that was added is ready.
///
/// # Errors
/// It was aborted, an answer makes no sense, or no agent answers. Nothing is left of it then.
pub async fn run(args: Args, client: &Client) -> Result<Exit, CommandError> {
    let present = client.resources().await?;
    let own = client.report().await?;
    let member = present
        .iter()
        .any(|r| r.kind() == Kind::Member && r.metadata.name == own.name);
    if !member {
        let message = "this machine is no member of a cloud: `microcloud init` sets one up";
        return Err(CommandError::Usage(message.to_owned()));
    }
    let mut ask = Asker::new(args.session.yes);
    let mut session = None;
    let decided = until_interrupted(decide(
        &args,
        client,
        &own,
        &present,
        &mut ask,
        &mut session,
    ))
    .await;
    let timeout = args.session.timeout;
    conclude(client, session.as_ref(), decided, all_of, timeout).await
}

/// Exactly these resources.
pub(super) fn all_of(resources: &[Resource]) -> Wanted {
    Wanted::Objects(resources.iter().map(Resource::reference).collect())
}

async fn decide(
    args: &Args,
    client: &Client,
    own: &HostReport,
    present: &[Resource],
    ask: &mut Asker,
    session: &mut Option<Session>,
) -> Result<(Vec<Resource>, usize), CommandError> {
    let expected: BTreeSet<String> = args.members.iter().cloned().collect();
    if ask.silent() && expected.is_empty() {
        let message = "which machines? give their names with --members".to_owned();
        return Err(CommandError::Usage(message));
    }
    let written = present.iter().find_map(|r| match &r.spec {
        Spec::Member(spec) if r.metadata.name == own.name => Some(spec.address),
        _ => None,
    });
    let flag = args.session.address.or(written);
    let address = machines::own_address(own, flag, None, ask).await?;
    let opening = args.session.opening(address.addr())?;
    let open = session.insert(Session::open(client, &opening).await?);
    let expected = Some(&expected).filter(|names| !names.is_empty());
    let joiners = open
        .gather(ask, expected, args.session.lookup_timeout)
        .await?;
    let reports: Vec<&HostReport> = joiners.iter().filter_map(|j| j.report.as_ref()).collect();
    let underlay = underlay(present);
    let mut members = Vec::new();
    for (joiner, report) in joiners.iter().zip(&reports) {
        members.push(SetupMember {
            name: joiner.name.clone(),
            address: joiner.address,
            fingerprint: joiner.fingerprint.clone(),
            underlay: tunnel(report, underlay.as_ref())?,
        });
    }
    let pool = |name: &str| {
        present
            .iter()
            .any(|r| r.kind() == Kind::StoragePool && r.metadata.name == name)
    };
    // A Disk that names no machine may cover the new ones already; one that lists them does not.
    let local = match pool(setup::LOCAL) {
        true if !args.local_disk.is_empty() || !ask.silent() => {
            let question = "Disks for local storage, one of every new machine:";
            let flags = &args.local_disk;
            machines::disks(question, flags, Share::One, args.wipe, &reports, &[], ask).await?
        }
        _ => Vec::new(),
    };
    let distributed = present
        .iter()
        .any(|r| matches!(&r.spec, Spec::Cluster(spec) if spec.ceph.is_some()));
    let wanted = match distributed {
        true if args.ceph_disk.is_empty() && !ask.silent() => {
            ask.yes_no("Do they give disks to the distributed storage?", true)
                .await?
        }
        _ => !args.ceph_disk.is_empty(),
    };
    let ceph = match wanted {
        true => {
            let question = "Disks for distributed storage:";
            let flags = &args.ceph_disk;
            machines::disks(
                question,
                flags,
                Share::Some,
                args.wipe,
                &reports,
                &local,
                ask,
            )
            .await?
        }
        false => Vec::new(),
    };
    let documents = setup::additions(&members, &local, &ceph);
    let mut resources = check(&documents, present)?;
    let mut shown = documents;
    if let Some(uplink) = uplink(&args.uplink, present, &reports, ask).await? {
        let text = serde_json::to_value(&uplink).ok();
        let text = text.and_then(|value| serde_yaml::to_string(&value).ok());
        shown.push_str(&format!("---\n{}", text.unwrap_or_default()));
        resources.push(uplink);
    }
    confirm(&shown, "Take these machines in?", ask).await?;
    Ok((resources, joiners.len()))
}

/// The subnet of the cloud's tunnels, when that is one of its own.
pub(super) fn underlay(present: &[Resource]) -> Option<IpNet> {
    present.iter().find_map(|r| match &r.spec {
        Spec::Cluster(spec) => spec.ovn.as_ref()?.underlay_subnet,
        _ => None,
    })
}

/// The address of a machine for tunnels, when those have a subnet of their own.
///
/// # Errors
/// It has none there.
pub(super) fn tunnel(
    report: &HostReport,
    underlay: Option<&IpNet>,
) -> Result<Option<IpAddr>, CommandError> {
    let Some(subnet) = underlay else {
        return Ok(None);
    };
    let found = machines::address_in(report, subnet);
    let missing = || CommandError::Usage(format!("{} has no address in {subnet}", report.name));
    found.map(Some).ok_or_else(missing)
}

/// The uplink with the interfaces of the new machines, when it names them one by one.
pub(super) async fn uplink(
    flags: &[String],
    present: &[Resource],
    reports: &[&HostReport],
    ask: &mut Asker,
) -> Result<Option<Resource>, CommandError> {
    let found = present
        .iter()
        .find(|r| matches!(&r.spec, Spec::Uplink(spec) if spec.interface.is_none()));
    let Some(mut uplink) = found.cloned() else {
        return Ok(None);
    };
    let chosen = machines::uplinks(flags, reports, ask).await?;
    if let Spec::Uplink(spec) = &mut uplink.spec {
        spec.interfaces.extend(chosen);
    }
    Ok(Some(uplink))
}
