//! `microcloud init`: sets a cloud up, by questions or by flags.

use super::Exit;
use super::client::Client;
use super::error::CommandError;
use super::output::{Paint, print, tell};
use super::ready::{self, Wanted};
use super::session::ask::Asker;
use super::session::machines::{self, Share};
use super::session::{Session, SessionArgs, until_interrupted};
use crate::agent::api;
use crate::agent::session::words::JoinerStatus;
use crate::resources::draft::Draft;
use crate::resources::setup::{
    DistributedNetwork, DistributedStorage, LocalStorage, Setup, SetupDisk, SetupMember,
};
use crate::resources::{Kind, Resource, SourceName, render};
use crate::services::host::{HostReport, LxdReport};
use ipnet::IpNet;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

/// Arguments of `microcloud init`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    session: SessionArgs,

    /// The machines that join, by name; who else comes is not let in
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "NAME",
        conflicts_with = "alone"
    )]
    members: Vec<String>,

    /// This machine is the only one
    #[arg(long)]
    alone: bool,

    /// A disk for local storage, one of every machine
    #[arg(long, value_name = "MEMBER=PATH")]
    local_disk: Vec<String>,

    /// The driver of local storage: zfs, btrfs or lvm
    #[arg(long, value_name = "DRIVER")]
    local_driver: Option<String>,

    /// No local storage
    #[arg(long, conflicts_with_all = ["local_disk", "local_driver"])]
    no_local: bool,

    /// A disk for distributed storage
    #[arg(long, value_name = "MEMBER=PATH")]
    ceph_disk: Vec<String>,

    /// No distributed storage
    #[arg(long, conflicts_with = "ceph_disk")]
    no_ceph: bool,

    /// Chosen disks may be destroyed though they are not empty
    #[arg(long)]
    wipe: bool,

    /// A file system on the distributed storage
    #[arg(long)]
    cephfs: bool,

    /// The subnet of Ceph's clients and monitors
    #[arg(long, value_name = "CIDR")]
    ceph_public_network: Option<IpNet>,

    /// The subnet of Ceph's replication
    #[arg(long, value_name = "CIDR")]
    ceph_internal_network: Option<IpNet>,

    /// The interface that leads outside: for all machines, or MEMBER=NAME
    #[arg(long, value_name = "NAME")]
    uplink: Vec<String>,

    /// No distributed networking
    #[arg(long, conflicts_with = "uplink")]
    no_ovn: bool,

    /// The gateway outside, with the prefix length
    #[arg(long, value_name = "CIDR")]
    ipv4_gateway: Option<String>,

    /// Addresses outside that may be taken
    #[arg(long, value_name = "FIRST-LAST")]
    ipv4_range: Option<String>,

    /// The gateway outside, with the prefix length
    #[arg(long, value_name = "CIDR")]
    ipv6_gateway: Option<String>,

    /// Name servers
    #[arg(long, value_delimiter = ',', value_name = "IP")]
    dns: Vec<IpAddr>,

    /// A subnet of its own for tunnels between the machines
    #[arg(long, value_name = "CIDR")]
    underlay: Option<IpNet>,
}

/// Runs the command: 0 when all is ready.
///
/// # Errors
/// It was aborted, an answer makes no sense, or no agent answers. Nothing is left of it then.
pub async fn run(args: Args, client: &Client) -> Result<Exit, CommandError> {
    let present = client.resources().await?;
    if present.iter().any(|r| r.kind() == Kind::Cluster) {
        print(
            "A cloud was set up here already; this goes on with it (add machines: microcloud add).\n",
        );
        return ready::wait(client, &Wanted::All, args.session.timeout).await;
    }
    let own = client.report().await?;
    match &own.lxd {
        LxdReport::Running(lxd) if lxd.clustered => {
            let message = format!("the {} of this machine is in a cluster already", lxd.server);
            return Err(CommandError::Usage(message));
        }
        LxdReport::Running(_) => {}
        _ => {
            let message = "no LXD answers on this machine: install it first".to_owned();
            return Err(CommandError::Usage(message));
        }
    }
    let mut ask = Asker::new(args.session.yes);
    let mut session = None;
    let decided = until_interrupted(decide(&args, client, &own, &mut ask, &mut session)).await;
    let applied = match decided {
        Ok((resources, joiners)) => take_in(client, session.as_ref(), resources, joiners).await,
        Err(error) => Err(error),
    };
    if let Some(session) = &session {
        session.end(applied.as_ref().err()).await;
    }
    let wiped = wiped(&applied?);
    let waiting = ready::wait(client, &Wanted::All, args.session.timeout);
    approving(client, &wiped, waiting).await
}

/// Has the joiners trust this machine and hands the resources to the agent.
pub(super) async fn take_in(
    client: &Client,
    session: Option<&Session>,
    resources: Vec<Resource>,
    joiners: usize,
) -> Result<Vec<Resource>, CommandError> {
    if let Some(session) = session {
        session.commit(joiners).await?;
    }
    let apply = api::Apply {
        resources: resources.clone(),
    };
    client.apply(&apply).await?;
    Ok(resources)
}

/// The disks whose contents a person has just given away.
pub(super) fn wiped(resources: &[Resource]) -> Vec<String> {
    use crate::resources::Spec;
    let wiped = resources
        .iter()
        .filter(|r| matches!(&r.spec, Spec::Disk(disk) if disk.wipe));
    wiped
        .map(|r| format!("Disk/{}/wipe@", r.metadata.name))
        .collect()
}

/// Runs `waiting` and approves meanwhile what a person has said already: that disks are wiped.
pub(super) async fn approving(
    client: &Client,
    wiped: &[String],
    waiting: impl Future<Output = Result<Exit, CommandError>>,
) -> Result<Exit, CommandError> {
    let approving = async {
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let Ok(status) = client.status(0, Duration::ZERO).await else {
                continue;
            };
            let objects = status.report.into_iter().flat_map(|r| r.objects);
            for step in objects.flat_map(|o| o.refused).filter_map(|r| r.approve) {
                if wiped.iter().any(|prefix| step.starts_with(prefix)) {
                    // It is asked for again when this one came too early.
                    let _ = client.approve(&api::Approve { step }).await;
                }
            }
        }
    };
    if wiped.is_empty() {
        return waiting.await;
    }
    tokio::select! {
        ended = waiting => ended,
        () = approving => Ok(Exit::NotAsWanted),
    }
}

/// Asks everything, shows the resources and asks once more; the resources, and how many machines
/// join.
async fn decide(
    args: &Args,
    client: &Client,
    own: &HostReport,
    ask: &mut Asker,
    session: &mut Option<Session>,
) -> Result<(Vec<Resource>, usize), CommandError> {
    let expected: BTreeSet<String> = args
        .members
        .iter()
        .filter(|name| **name != own.name)
        .cloned()
        .collect();
    let several = if args.alone || ask.silent() || !expected.is_empty() {
        !expected.is_empty()
    } else {
        ask.yes_no("Shall the cloud have more than this machine?", true)
            .await?
    };
    let address = machines::own_address(own, args.session.address, None, ask).await?;
    let mut joiners: Vec<JoinerStatus> = Vec::new();
    if several {
        let open = session.insert(Session::open(client, &args.session, address.addr()).await?);
        let expected = Some(&expected).filter(|names| !names.is_empty());
        joiners = open
            .gather(ask, expected, args.session.lookup_timeout)
            .await?;
    }
    let reports: Vec<&HostReport> = [own]
        .into_iter()
        .chain(joiners.iter().filter_map(|j| j.report.as_ref()))
        .collect();
    let mut members: Vec<SetupMember> = vec![SetupMember {
        name: own.name.clone(),
        address: address.addr(),
        fingerprint: own.fingerprint.clone(),
        underlay: None,
    }];
    members.extend(joiners.iter().map(|joiner| SetupMember {
        name: joiner.name.clone(),
        address: joiner.address,
        fingerprint: joiner.fingerprint.clone(),
        underlay: None,
    }));
    let local = local(args, &reports, ask).await?;
    let taken = local.iter().flat_map(|l| l.disks.clone()).collect();
    let ceph = ceph(args, &reports, taken, ask).await?;
    let ovn = ovn(args, &reports, &mut members, ask).await?;
    let together = members.iter().all(|m| address.contains(&m.address));
    let setup = Setup {
        initiator: own.name.clone(),
        internal: together.then(|| address.trunc()),
        members,
        local,
        ceph,
        ovn,
    };
    let resources = check(&setup.documents(), &[])?;
    confirm(&setup.documents(), "Form this cloud?", ask).await?;
    Ok((resources, joiners.len()))
}

/// Shows the resources and asks.
pub(super) async fn confirm(
    documents: &str,
    question: &str,
    ask: &mut Asker,
) -> Result<(), CommandError> {
    let paint = Paint::of_stdout();
    print(&format!(
        "\n{}\n{documents}\n",
        paint.bold("These resources are kept:")
    ));
    match ask.yes_no(question, true).await? {
        true => Ok(()),
        false => Err(CommandError::NotDone(
            "aborted: nothing was changed".to_owned(),
        )),
    }
}

/// The documents as resources, when they are valid beside `others`.
pub(super) fn check(documents: &str, others: &[Resource]) -> Result<Vec<Resource>, CommandError> {
    let files = [("these answers", documents.as_bytes())];
    let reading = Draft::of_files(SourceName::Applied, files).check(others);
    let wrong = || reading.broken.iter().flat_map(|b| &b.diagnostics);
    if wrong().next().is_some() {
        let shown = render::render(wrong(), Paint::of_stderr().on());
        tell(&format!("{shown}\n"));
        return Err(CommandError::Files(render::summary(wrong())));
    }
    Ok(reading.resources)
}

async fn local(
    args: &Args,
    reports: &[&HostReport],
    ask: &mut Asker,
) -> Result<Option<LocalStorage>, CommandError> {
    let flagged = !args.local_disk.is_empty();
    let wanted = if args.no_local || ask.silent() || flagged {
        flagged
    } else {
        ask.yes_no("Local storage on one disk of every machine?", true)
            .await?
    };
    if !wanted {
        return Ok(None);
    }
    let question = "Disks for local storage, one of every machine:";
    let disks = machines::disks(
        question,
        &args.local_disk,
        Share::One,
        args.wipe,
        reports,
        &[],
        ask,
    )
    .await?;
    let driver = match &args.local_driver {
        Some(driver) => driver.clone(),
        None => {
            let known = |answer: &str| match ["zfs", "btrfs", "lvm"].contains(&answer) {
                true => Ok(answer.to_owned()),
                false => Err("zfs, btrfs or lvm".to_owned()),
            };
            ask.text("Its driver (zfs, btrfs, lvm)", Some("zfs"), known)
                .await?
        }
    };
    Ok(Some(LocalStorage { driver, disks }))
}

async fn ceph(
    args: &Args,
    reports: &[&HostReport],
    taken: Vec<SetupDisk>,
    ask: &mut Asker,
) -> Result<Option<DistributedStorage>, CommandError> {
    let flagged = !args.ceph_disk.is_empty();
    let wanted = if args.no_ceph || ask.silent() || flagged {
        flagged
    } else {
        ask.yes_no("Distributed storage with Ceph?", true).await?
    };
    if !wanted {
        return Ok(None);
    }
    let question = "Disks for distributed storage:";
    let disks = machines::disks(
        question,
        &args.ceph_disk,
        Share::Some,
        args.wipe,
        reports,
        &taken,
        ask,
    )
    .await?;
    let hosts: BTreeSet<&str> = disks.iter().map(|d| d.member.as_str()).collect();
    if hosts.len() < 3 {
        tell("warning: with disks on fewer than three machines, losing one may lose data\n");
    }
    let quiet = flagged || ask.silent();
    let cephfs = match args.cephfs || quiet {
        true => args.cephfs,
        false => ask.yes_no("A file system (CephFS) on it?", true).await?,
    };
    let subnet = "(CIDR; none: the one of the machines' addresses)";
    let public_network = match args.ceph_public_network {
        None if !quiet => {
            let question = format!("The subnet of its clients and monitors {subnet}");
            ask.text(&question, Some(""), optional).await?
        }
        given => given,
    };
    let cluster_network = match args.ceph_internal_network {
        None if !quiet => {
            let question = format!("The subnet of its replication {subnet}");
            ask.text(&question, Some(""), optional).await?
        }
        given => given,
    };
    Ok(Some(DistributedStorage {
        disks,
        cephfs,
        public_network,
        cluster_network,
    }))
}

/// A value, or nothing for an empty answer.
fn optional<T: FromStr>(answer: &str) -> Result<Option<T>, String>
where
    T::Err: std::fmt::Display,
{
    if answer.is_empty() {
        return Ok(None);
    }
    answer
        .parse()
        .map(Some)
        .map_err(|e: T::Err| format!("`{answer}`: {e}"))
}

/// A gateway with its prefix length, of one family.
fn gateway(answer: &str, ipv4: bool) -> Result<Option<IpNet>, String> {
    let net: Option<IpNet> = optional(answer)?;
    match net {
        Some(net) if net.addr().is_ipv4() != ipv4 => Err(format!("{net} is of the other family")),
        net => Ok(net),
    }
}

async fn ovn(
    args: &Args,
    reports: &[&HostReport],
    members: &mut [SetupMember],
    ask: &mut Asker,
) -> Result<Option<DistributedNetwork>, CommandError> {
    let flagged = !args.uplink.is_empty();
    let wanted = if args.no_ovn || ask.silent() || flagged {
        flagged
    } else {
        ask.yes_no("Distributed networking with OVN?", true).await?
    };
    if !wanted {
        return Ok(None);
    }
    let interfaces = machines::uplinks(&args.uplink, reports, ask).await?;
    let quiet = flagged || ask.silent();
    let ipv4 = match &args.ipv4_gateway {
        None if !quiet => {
            let question = "The IPv4 gateway outside with its prefix length (such as 192.0.2.1/24)";
            ask.text(question, Some(""), |a| gateway(a, true)).await?
        }
        given => gateway(given.as_deref().unwrap_or(""), true).map_err(CommandError::Usage)?,
    };
    let ipv4 = match ipv4 {
        None => None,
        Some(net) => {
            let range = match &args.ipv4_range {
                Some(range) => range.clone(),
                None => {
                    let question = "IPv4 addresses outside that may be taken (FIRST-LAST)";
                    ask.text(question, None, |answer| match answer.contains('-') {
                        true => Ok(answer.replace(' ', "")),
                        false => Err("such as 192.0.2.100-192.0.2.200".to_owned()),
                    })
                    .await?
                }
            };
            Some((net, range))
        }
    };
    let ipv6 = match &args.ipv6_gateway {
        None if !quiet => {
            let question = "The IPv6 gateway outside with its prefix length";
            ask.text(question, Some(""), |a| gateway(a, false)).await?
        }
        given => gateway(given.as_deref().unwrap_or(""), false).map_err(CommandError::Usage)?,
    };
    let gateways: Vec<String> = ipv4
        .iter()
        .map(|(net, _)| net.addr())
        .chain(ipv6.iter().map(IpNet::addr))
        .map(|ip| ip.to_string())
        .collect();
    let dns = match args.dns.is_empty() {
        true if !quiet => {
            let parse = |answer: &str| {
                let all = answer.split(',').map(str::trim).filter(|a| !a.is_empty());
                all.map(|a| a.parse::<IpAddr>().map_err(|e| format!("`{a}`: {e}")))
                    .collect()
            };
            let default = gateways.join(",");
            ask.text("Name servers", Some(&default), parse).await?
        }
        _ => args.dns.clone(),
    };
    let underlay = match args.underlay {
        None if !quiet => {
            let question = "A subnet of its own for tunnels between the machines (CIDR)";
            ask.text(question, Some(""), optional::<IpNet>).await?
        }
        given => given,
    };
    if let Some(underlay) = &underlay {
        for (member, report) in members.iter_mut().zip(reports) {
            let address = machines::address_in(report, underlay);
            let missing =
                || CommandError::Usage(format!("{} has no address in {underlay}", report.name));
            member.underlay = Some(address.ok_or_else(missing)?);
        }
    }
    Ok(Some(DistributedNetwork {
        interfaces,
        ipv4,
        ipv6,
        dns,
        underlay,
    }))
}
