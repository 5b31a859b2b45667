//! `microcloud service`: which services run where, and adding one that was left out.

use super::Exit;
use super::add::all_of;
use super::client::Client;
use super::error::CommandError;
use super::init::{self, check, confirm};
use super::listing::{Format, FormatArgs};
use super::output::{Paint, indented, print};
use super::session::ask::Asker;
use super::session::services::{self, CephArgs, OvnArgs};
use super::session::until_interrupted;
use super::status::tell_if_old;
use crate::reconcile::placement::{Placed, ServiceName};
use crate::resources::draft::Draft;
use crate::resources::kinds::{CephProvider, ClusterSpec, OvnProvider};
use crate::resources::setup::{self, SetupMember};
use crate::resources::{Kind, ObjectRef, Resource, SourceName, Spec};
use crate::services::host::HostReport;
use clap::Subcommand;
use serde::Serialize;
use std::time::Duration;

/// Arguments of `microcloud service`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List which services run where
    #[command(alias = "ls")]
    List(FormatArgs),
    /// Add Ceph or OVN to a cloud that was set up without
    Add(Box<AddArgs>),
}

/// Arguments of `microcloud service add`.
#[derive(Debug, clap::Args)]
pub struct AddArgs {
    #[command(flatten)]
    ceph: CephArgs,

    /// Chosen disks may be destroyed though they are not empty
    #[arg(long)]
    wipe: bool,

    #[command(flatten)]
    ovn: OvnArgs,

    /// Have new instances use it: profile `default` is changed
    #[arg(long)]
    profile: bool,

    /// Ask nothing: what no flag says has its default
    #[arg(long, short = 'y')]
    yes: bool,

    /// How long to wait until all is ready, such as 30m
    #[arg(long, value_parser = humantime::parse_duration, default_value = "30m", value_name = "D")]
    timeout: Duration,
}

/// Runs the command: of `add` 0 when what was added is ready.
///
/// # Errors
/// No agent answers, there is nothing to add, or it was aborted. Nothing is left of it then.
pub async fn run(args: Args, client: &Client) -> Result<Exit, CommandError> {
    match args.command {
        Command::List(format) => list(format.format, client).await,
        Command::Add(args) => add(*args, client).await,
    }
}

/// A service on a member as it is listed.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row<'a> {
    name: &'a str,
    #[serde(flatten)]
    placed: &'a Placed,
}

async fn list(format: Format, client: &Client) -> Result<Exit, CommandError> {
    let status = client.status(0, Duration::ZERO).await?;
    let resources = client.resources().await?;
    tell_if_old(&status);
    let all: Vec<Row<'_>> = status
        .machines
        .iter()
        .flat_map(|(name, machine)| machine.services.iter().map(move |p| (name, p)))
        .map(|(name, placed)| Row { name, placed })
        .collect();
    let fields = |row: &Row<'_>| {
        [
            row.name.to_owned(),
            row.placed.address.clone(),
            row.placed.roles.join(", "),
            row.placed.status.clone(),
        ]
    };
    let header = ["NAME", "ADDRESS", "ROLE", "STATUS"];
    if !matches!(format, Format::Table | Format::Compact) {
        let rows: Vec<[String; 5]> = all
            .iter()
            .map(|row| {
                let [name, address, role, status] = fields(row);
                [
                    title(row.placed.service).to_owned(),
                    name,
                    address,
                    role,
                    status,
                ]
            })
            .collect();
        let header = ["SERVICE", "NAME", "ADDRESS", "ROLE", "STATUS"];
        print(&format.text(header, &rows, &all));
        return Ok(Exit::Done);
    }
    let cluster = resources.iter().find_map(|r| match &r.spec {
        Spec::Cluster(spec) => Some(spec),
        _ => None,
    });
    let paint = Paint::of_stdout();
    let mut text = String::new();
    for service in [ServiceName::Lxd, ServiceName::Ovn, ServiceName::Ceph] {
        let rows: Vec<[String; 4]> = all
            .iter()
            .filter(|row| row.placed.service == service)
            .map(fields)
            .collect();
        let body = match (rows.is_empty(), absence(service, cluster)) {
            (false, _) => format.text(header, &rows, &()),
            (true, Some(why)) => format!("{why}\n"),
            (true, None) => "not seen yet\n".to_owned(),
        };
        let title = paint.bold(title(service));
        text.push_str(&format!("{title}\n{}\n", indented(&body, "  ")));
    }
    print(text.trim_end_matches('\n'));
    print("\n");
    Ok(Exit::Done)
}

fn title(service: ServiceName) -> &'static str {
    match service {
        ServiceName::Lxd => "LXD",
        ServiceName::Ovn => "OVN",
        ServiceName::Ceph => "Ceph",
    }
}

/// What the resources say of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    /// There is none.
    No,
    /// Somebody else runs it.
    External,
    /// The agents run it.
    Yes,
}

fn wanted(service: ServiceName, cluster: &ClusterSpec) -> Wanted {
    match service {
        ServiceName::Lxd => Wanted::Yes,
        ServiceName::Ovn => match cluster.ovn.as_ref().map(|o| o.provider) {
            None | Some(OvnProvider::None) => Wanted::No,
            Some(OvnProvider::External) => Wanted::External,
            Some(OvnProvider::Packaged | OvnProvider::Microovn) => Wanted::Yes,
        },
        ServiceName::Ceph => match cluster.ceph.as_ref().map(|c| c.provider) {
            None | Some(CephProvider::None) => Wanted::No,
            Some(CephProvider::External) => Wanted::External,
            Some(CephProvider::Packaged | CephProvider::Microceph) => Wanted::Yes,
        },
    }
}

/// Why the members have no part in a service, where that is as it was written.
fn absence(service: ServiceName, cluster: Option<&ClusterSpec>) -> Option<&'static str> {
    match cluster.map(|cluster| wanted(service, cluster)) {
        None => Some("not set up: microcloud init"),
        Some(Wanted::No) => Some("not set up: microcloud service add"),
        Some(Wanted::External) => Some("run by somebody else (provider: external)"),
        Some(Wanted::Yes) => None,
    }
}

async fn add(args: AddArgs, client: &Client) -> Result<Exit, CommandError> {
    let present = client.resources().await?;
    let mut ask = Asker::new(args.yes);
    let decided = until_interrupted(decide(&args, client, &present, &mut ask)).await;
    let decided = decided.map(|resources| (resources, 0));
    init::conclude(client, None, decided, all_of, args.timeout).await
}

/// Asks about what is not there yet, shows the resources and asks once more.
async fn decide(
    args: &AddArgs,
    client: &Client,
    present: &[Resource],
    ask: &mut Asker,
) -> Result<Vec<Resource>, CommandError> {
    let cluster = present.iter().find(|r| r.kind() == Kind::Cluster);
    let Some((cluster, Spec::Cluster(spec))) = cluster.map(|c| (c, &c.spec)) else {
        let message = "there is no cloud here: `microcloud init` sets one up";
        return Err(CommandError::Usage(message.to_owned()));
    };
    let no_ovn = wanted(ServiceName::Ovn, spec) == Wanted::No;
    let no_ceph = wanted(ServiceName::Ceph, spec) == Wanted::No;
    for (there, flags, what) in [
        (!no_ceph, !args.ceph.ceph_disk.is_empty(), "Ceph"),
        (!no_ovn, !args.ovn.uplink.is_empty(), "OVN"),
    ] {
        if there && flags {
            return Err(CommandError::Usage(format!("{what} is set up already")));
        }
    }
    if !(no_ovn || no_ceph) {
        let message = "nothing is left to add: LXD, OVN and Ceph are set up";
        return Err(CommandError::Usage(message.to_owned()));
    }
    in_our_hand(cluster)?;
    let names: Vec<&Resource> = present
        .iter()
        .filter(|r| r.kind() == Kind::Member)
        .collect();
    let all = client.reports().await?;
    let mut reports: Vec<&HostReport> = Vec::new();
    for member in &names {
        let name = &member.metadata.name;
        let found = all.iter().find(|report| report.name == *name);
        let silent = || CommandError::NotDone(format!("{name} does not answer: all must"));
        reports.push(found.ok_or_else(silent)?);
    }
    let ceph = match no_ceph {
        true => {
            let taken = Vec::new();
            services::ceph(&args.ceph, args.wipe, &reports, taken, ask).await?
        }
        false => None,
    };
    let mut members: Vec<SetupMember> = Vec::new();
    for (member, report) in names.iter().zip(&reports) {
        if let Spec::Member(spec) = &member.spec {
            members.push(SetupMember {
                name: member.metadata.name.clone(),
                address: spec.address,
                fingerprint: report.fingerprint.clone(),
                underlay: spec.underlay_address,
            });
        }
    }
    let ovn = match no_ovn {
        true => services::ovn(&args.ovn, &reports, &mut members, ask).await?,
        false => None,
    };
    if ceph.is_none() && ovn.is_none() {
        let message = "nothing was chosen: --ceph-disk adds Ceph, --uplink adds OVN";
        return Err(CommandError::Usage(message.to_owned()));
    }
    // Tunnels of their own subnet are written at each member.
    let mut moved = Vec::new();
    for (member, setup) in names.iter().zip(&members) {
        if let Spec::Member(spec) = &member.spec
            && spec.underlay_address != setup.underlay
        {
            in_our_hand(member)?;
            let mut document = member.document();
            document["spec"]["underlayAddress"] = serde_json::json!(setup.underlay);
            moved.push(document);
        }
    }
    let profile = profile(args, present, ask).await?;
    let documents = setup::added_services(
        cluster.document(),
        moved,
        ceph.as_ref(),
        ovn.as_ref(),
        profile,
    );
    let others = besides(&documents, present)?;
    let resources = check(&documents, &others)?;
    confirm(&documents, "Add this?", ask).await?;
    Ok(resources)
}

/// The profile that is to have what is added, when a person wants that.
async fn profile(
    args: &AddArgs,
    present: &[Resource],
    ask: &mut Asker,
) -> Result<Option<serde_json::Value>, CommandError> {
    let question = "Shall new instances use it (profile `default` is changed)?";
    let wanted = match args.profile || ask.silent() {
        true => args.profile,
        false => ask.yes_no(question, true).await?,
    };
    if !wanted {
        return Ok(None);
    }
    let object = ObjectRef::new(Kind::Profile, "default");
    match present.iter().find(|r| r.reference() == object) {
        None => Ok(Some(setup::empty_profile())),
        Some(there) => {
            in_our_hand(there)?;
            Ok(Some(there.document()))
        }
    }
}

/// Refuses what a file of the watched directory says.
fn in_our_hand(resource: &Resource) -> Result<(), CommandError> {
    let origin = &resource.origin;
    if origin.source != SourceName::Directory {
        return Ok(());
    }
    Err(CommandError::Usage(format!(
        "{} is written in {}:{} of the watched directory: write it there (microcloud explain \
         Cluster.ovn, Cluster.ceph)",
        resource.reference(),
        origin.file,
        origin.line
    )))
}

/// What there is, without what the documents say anew.
///
/// # Errors
/// They name what is something else already.
fn besides(documents: &str, present: &[Resource]) -> Result<Vec<Resource>, CommandError> {
    let files = [("these answers", documents.as_bytes())];
    let draft = Draft::of_files(SourceName::Applied, files);
    let new: Vec<ObjectRef> = draft
        .resources
        .iter()
        .map(|located| located.resource.reference())
        .collect();
    let (same, others): (Vec<&Resource>, Vec<&Resource>) =
        present.iter().partition(|r| new.contains(&r.reference()));
    let changed = [Kind::Cluster, Kind::Member, Kind::Profile];
    if let Some(taken) = same.iter().find(|r| !changed.contains(&r.kind())) {
        return Err(CommandError::Usage(format!(
            "{} is there already ({}:{}): it must have another name, or be what is added",
            taken.reference(),
            taken.origin.file,
            taken.origin.line
        )));
    }
    Ok(others.into_iter().cloned().collect())
}
