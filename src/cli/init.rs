//! `microcloud init`: sets a cloud up, by questions or by flags.

use super::Exit;
use super::client::Client;
use super::error::CommandError;
use super::output::{Paint, print, tell};
use super::ready::{self, Wanted};
use super::session::ask::Asker;
use super::session::machines::{self, Share};
use super::session::services::{self, CephArgs, OvnArgs};
use super::session::{Session, SessionArgs, until_interrupted};
use crate::agent::api;
use crate::agent::session::words::JoinerStatus;
use crate::resources::draft::Draft;
use crate::resources::setup::{LocalStorage, Setup, SetupMember};
use crate::resources::{Kind, Resource, SourceName, render};
use crate::services::host::{HostReport, LxdReport};
use std::collections::BTreeSet;
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

    #[command(flatten)]
    ceph: CephArgs,

    /// Chosen disks may be destroyed though they are not empty
    #[arg(long)]
    wipe: bool,

    #[command(flatten)]
    ovn: OvnArgs,
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
    fit(&own)?;
    let mut ask = Asker::new(args.session.yes);
    let mut session = None;
    let decided = until_interrupted(decide(&args, client, &own, &mut ask, &mut session)).await;
    let timeout = args.session.timeout;
    conclude(client, session.as_ref(), decided, |_| Wanted::All, timeout).await
}

/// Whether a cloud can begin on a machine.
///
/// # Errors
/// Its LXD is in a cluster, or does not answer.
pub(super) fn fit(own: &HostReport) -> Result<(), CommandError> {
    let message = match &own.lxd {
        LxdReport::Running(lxd) if lxd.clustered => {
            format!("the {} of this machine is in a cluster already", lxd.server)
        }
        LxdReport::Running(_) => return Ok(()),
        _ => "no LXD answers on this machine: install it first".to_owned(),
    };
    Err(CommandError::Usage(message))
}

/// Takes the joiners in with what was decided, or ends their session with the reason, and waits
/// until that is ready which `wanted` says of the resources.
///
/// # Errors
/// Nothing was decided, or a machine or the agent would not do it. Nothing is left of it then.
pub(super) async fn conclude(
    client: &Client,
    session: Option<&Session>,
    decided: Result<(Vec<Resource>, usize), CommandError>,
    wanted: impl FnOnce(&[Resource]) -> Wanted,
    timeout: Duration,
) -> Result<Exit, CommandError> {
    let applied = match decided {
        Ok((resources, joiners)) => take_in(client, session, resources, joiners).await,
        Err(error) => Err(error),
    };
    if let Some(session) = session {
        session.end(applied.as_ref().err()).await;
    }
    let applied = applied?;
    let wanted = wanted(&applied);
    let waiting = ready::wait(client, &wanted, timeout);
    approving(client, &wiped(&applied), waiting).await
}

/// Has the joiners trust this machine and hands the resources to the agent.
async fn take_in(
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
fn wiped(resources: &[Resource]) -> Vec<String> {
    use crate::resources::Spec;
    let wiped = resources
        .iter()
        .filter(|r| matches!(&r.spec, Spec::Disk(disk) if disk.wipe));
    wiped
        .map(|r| format!("Disk/{}/wipe@", r.metadata.name))
        .collect()
}

/// Runs `waiting` and approves meanwhile what a person has said already: that disks are wiped.
async fn approving(
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
        let opening = args.session.opening(address.addr())?;
        let open = session.insert(Session::open(client, &opening).await?);
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
    let ceph = services::ceph(&args.ceph, args.wipe, &reports, taken, ask).await?;
    let ovn = services::ovn(&args.ovn, &reports, &mut members, ask).await?;
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
    show(documents);
    match ask.yes_no(question, true).await? {
        true => Ok(()),
        false => Err(CommandError::NotDone(
            "aborted: nothing was changed".to_owned(),
        )),
    }
}

/// Shows the resources that are applied.
pub(super) fn show(documents: &str) {
    let paint = Paint::of_stdout();
    print(&format!(
        "\n{}\n{documents}\n",
        paint.bold("These resources are kept:")
    ));
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
