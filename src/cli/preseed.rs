//! `microcloud preseed`: sets a cloud up, or adds machines to one, by one file on all of them.

use super::Exit;
use super::client::Client;
use super::error::CommandError;
use super::init::{self, check};
use super::output::{Paint, print, tell};
use super::ready::{self, Wanted};
use super::session::ask::Asker;
use super::session::machines;
use super::session::{Opening, Session, tell_if_weak, until_interrupted};
use super::{add, import, join};
use crate::agent::session::words::JoinerStatus;
use crate::convert::import::meeting::{self, Initiator, Meeting};
use crate::convert::import::{Format, Imported, Options, Seen, import as read};
use crate::convert::written;
use crate::resources::{Diagnostic, Kind, ObjectRef, Resource, Spec, render};
use crate::services::host::HostReport;
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;
use zeroize::Zeroizing;

/// Arguments of `microcloud preseed`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The preseed, the same on all machines; `-` is the standard input
    #[arg(short, long, value_name = "FILE", default_value = "-")]
    file: PathBuf,

    /// The address of this machine, where it has several in the file's `lookup_subnet`
    #[arg(long, value_name = "IP")]
    address: Option<IpAddr>,

    /// The driver of local storage, which the file cannot say: zfs, btrfs or lvm
    #[arg(long, value_name = "DRIVER", default_value = "zfs")]
    local_driver: String,

    /// How long to wait until all is ready, such as 30m
    #[arg(long, value_parser = humantime::parse_duration, default_value = "30m", value_name = "D")]
    timeout: Duration,
}

/// A file that was read.
struct File {
    name: String,
    bytes: Zeroizing<Vec<u8>>,
    meeting: Meeting,
}

/// Runs the command: on the initiator 0 when all that the file asks for is ready, on the others
/// when this machine is a member that is ready.
///
/// # Errors
/// The file is not valid, this machine has no part in it, the machines did not meet, or no agent
/// answers. Nothing is left of it then.
pub async fn run(args: Args, client: &Client) -> Result<Exit, CommandError> {
    let name = args.file.display().to_string();
    let bytes = import::read(&args.file)
        .map_err(|e| CommandError::Usage(format!("{name} cannot be read: {e}")))?;
    let bytes = Zeroizing::new(bytes);
    let meeting = meeting::read(&name, &bytes).map_err(refuse)?;
    if let Some(passphrase) = &meeting.passphrase {
        tell_if_weak(passphrase);
    }
    let file = File {
        name,
        bytes,
        meeting,
    };
    let own = client.report().await?;
    let address = own_address(&file.meeting, &own, args.address)?;
    let present = client.resources().await?;
    let has = own.interfaces.iter().flat_map(|i| &i.addresses);
    let has: Vec<IpAddr> = has.map(IpNet::addr).collect();
    if !file.meeting.initiates(&own.name, &has) {
        return joins(&args, client, &file.meeting, &own, address, &present).await;
    }
    let there = present.iter().any(|r| r.kind() == Kind::Cluster);
    let members: BTreeSet<&str> = present
        .iter()
        .filter(|r| r.kind() == Kind::Member)
        .map(|r| r.metadata.name.as_str())
        .collect();
    let systems = file.meeting.systems.keys();
    let (known, new): (Vec<&String>, Vec<&String>) =
        systems.partition(|name| members.contains(name.as_str()));
    match (there, file.meeting.forms) {
        (false, true) => init::fit(&own)?,
        (false, false) => {
            let message = "this machine is no member of a cloud: a file that sets one up has the \
                           initiator among its `systems`";
            return Err(CommandError::Usage(message.to_owned()));
        }
        // Run again, it goes on with what there is.
        (true, _) if new.is_empty() => return again(&args, client, &file.meeting, known).await,
        (true, true) => {
            return Err(CommandError::Usage(format!(
                "a cloud was set up here already, without {}: to add machines, leave the \
                 initiator out of `systems`",
                listed(&new)
            )));
        }
        (true, false) if !known.is_empty() => {
            return Err(CommandError::Usage(format!(
                "{} in the cloud already: leave what is there out of `systems`",
                match known.as_slice() {
                    [one] => format!("{one} is"),
                    _ => format!("{} are", listed(&known)),
                }
            )));
        }
        (true, false) => {}
    }
    let mut session = None;
    let decided = until_interrupted(decide(
        &args,
        client,
        &file,
        &own,
        address,
        &present,
        &mut session,
    ))
    .await;
    let forms = file.meeting.forms;
    let wanted = |applied: &[Resource]| match forms {
        true => Wanted::All,
        false => add::all_of(applied),
    };
    init::conclude(client, session.as_ref(), decided, wanted, args.timeout).await
}

fn listed(names: &[&String]) -> String {
    let names: Vec<&str> = names.iter().map(|n| n.as_str()).collect();
    names.join(", ")
}

/// Goes on with what was set up by this file before.
async fn again(
    args: &Args,
    client: &Client,
    meeting: &Meeting,
    members: Vec<&String>,
) -> Result<Exit, CommandError> {
    print("All of it is there already; this goes on with it.\n");
    let wanted = match meeting.forms {
        true => Wanted::All,
        false => {
            let member = |name: &&String| ObjectRef::new(Kind::Member, (*name).clone());
            Wanted::Objects(members.iter().map(member).collect())
        }
    };
    ready::wait(client, &wanted, args.timeout).await
}

/// Joins as the file says.
async fn joins(
    args: &Args,
    client: &Client,
    meeting: &Meeting,
    own: &HostReport,
    address: IpNet,
    present: &[Resource],
) -> Result<Exit, CommandError> {
    if !meeting.systems.contains_key(&own.name) {
        let systems: Vec<&String> = meeting.systems.keys().collect();
        return Err(CommandError::Usage(format!(
            "this machine is {}, and has no part in the file: its systems are {}",
            own.name,
            listed(&systems)
        )));
    }
    let member = ObjectRef::new(Kind::Member, own.name.clone());
    if present.iter().any(|r| r.reference() == member) {
        print("This machine is a member already; this goes on with it.\n");
        return ready::wait(client, &Wanted::Objects(vec![member]), args.timeout).await;
    }
    let Some(passphrase) = meeting.passphrase.clone() else {
        // The file was refused that has a joiner and no passphrase.
        return Err(CommandError::Usage("there is no passphrase".to_owned()));
    };
    let (initiator, named) = match &meeting.initiator {
        Initiator::Name(name) => (None, Some(name.clone())),
        Initiator::Address(address) => (Some(*address), None),
    };
    let joining = join::Joining {
        passphrase,
        address: address.addr(),
        initiator,
        named,
        lookup: meeting.lookup,
        session: meeting.session,
        replace: false,
    };
    let joined = until_interrupted(join::enter(client, own, &joining)).await;
    join::conclude(client, own, joined, args.timeout).await
}

/// The address of this machine, with its subnet: the one the file gives it, or its own in the
/// subnet of the file.
fn own_address(
    meeting: &Meeting,
    own: &HostReport,
    flag: Option<IpAddr>,
) -> Result<IpNet, CommandError> {
    let has = || own.interfaces.iter().flat_map(|i| &i.addresses);
    let written = match (meeting.systems.get(&own.name), &meeting.initiator) {
        (Some(Some(address)), _) => Some(*address),
        (None, Initiator::Address(address)) if has().any(|n| n.addr() == *address) => {
            Some(*address)
        }
        _ => None,
    };
    if let Some(written) = written {
        let found = has().find(|net| net.addr() == written).copied();
        if let Some(flag) = flag.filter(|flag| *flag != written) {
            let message = format!("--address says {flag}, and the file {written}");
            return Err(CommandError::Usage(message));
        }
        let missing = || {
            CommandError::Usage(format!(
                "{} has no address {written}, which the file gives it",
                own.name
            ))
        };
        return found.ok_or_else(missing);
    }
    let Some(subnet) = meeting.subnet else {
        let systems: Vec<&String> = meeting.systems.keys().collect();
        return Err(CommandError::Usage(format!(
            "this machine is {}, and has no part in the file: its systems are {}",
            own.name,
            listed(&systems)
        )));
    };
    let inside = |net: &&IpNet| subnet.contains(&net.addr());
    let found = match flag {
        Some(flag) => has().filter(inside).find(|net| net.addr() == flag),
        None => has().find(inside),
    };
    found.copied().ok_or_else(|| {
        let what = flag.map_or_else(|| "address".to_owned(), |flag| format!("address {flag}"));
        CommandError::Usage(format!("{} has no {what} in {subnet}", own.name))
    })
}

/// Meets the machines of the file, and makes resources of it: those, and how many machines join.
async fn decide(
    args: &Args,
    client: &Client,
    file: &File,
    own: &HostReport,
    address: IpNet,
    present: &[Resource],
    session: &mut Option<Session>,
) -> Result<(Vec<Resource>, usize), CommandError> {
    let meeting = &file.meeting;
    let mut ask = Asker::new(true);
    let names = meeting.systems.keys().filter(|name| **name != own.name);
    let expected: BTreeSet<String> = names.cloned().collect();
    let mut joiners = Vec::new();
    if !expected.is_empty() {
        let opening = Opening {
            passphrase: meeting.passphrase.clone(),
            lasts: meeting.session,
            address: address.addr(),
            elsewhere: "microcloud preseed, with this file",
        };
        let open = session.insert(Session::open(client, &opening).await?);
        joiners = open
            .gather(&mut ask, Some(&expected), meeting.lookup)
            .await?;
    }
    joiners.iter().try_for_each(|j| is_where(j, meeting))?;
    let own_part = meeting.forms.then_some(own);
    let reports: Vec<&HostReport> = own_part
        .into_iter()
        .chain(joiners.iter().filter_map(|j| j.report.as_ref()))
        .collect();
    meeting.check_disks(&reports).map_err(refuse)?;

    let flags: Vec<String> = meeting
        .interfaces
        .iter()
        .map(|(name, interface)| format!("{name}={interface}"))
        .collect();
    let interfaces = match meeting.forms && meeting.ovn {
        true => machines::uplinks(&flags, &reports, &mut ask).await?,
        false => BTreeMap::new(),
    };
    let mut addresses: BTreeMap<String, IpAddr> = joiners
        .iter()
        .map(|j| (j.name.clone(), j.address))
        .collect();
    addresses.insert(own.name.clone(), address.addr());
    let together = addresses.values().all(|a| address.contains(a));
    let options = Options {
        format: Some(Format::Microcloud),
        addresses,
        mode: None,
        seen: Some(Seen {
            interfaces,
            local_driver: args.local_driver.clone(),
            internal: together.then(|| address.trunc()),
        }),
    };
    let mut imported = read(&[(&file.name, &file.bytes)], &options).map_err(refuse)?;
    import::warn(&imported);
    let keys = joiners
        .iter()
        .map(|j| (j.name.as_str(), j.fingerprint.as_str()));
    let keys = keys.chain([(own.name.as_str(), own.fingerprint.as_str())]);
    pin(&mut imported, &keys.collect());
    if !meeting.forms {
        beside(&mut imported, &reports, present)?;
    }
    let text = written::text(&imported.documents)
        .map_err(|e| CommandError::Usage(format!("cannot be written: {e}")))?;
    let others = if meeting.forms { &[][..] } else { present };
    let mut resources = check(&text, others)?;
    let mut shown = text;
    if !meeting.forms
        && let Some(uplink) = add::uplink(&flags, present, &reports, &mut ask).await?
    {
        let text = written::yaml(&uplink.document()).unwrap_or_default();
        shown.push_str(&format!("---\n{text}"));
        resources.push(uplink);
    }
    init::show(&shown);
    Ok((resources, joiners.len()))
}

/// Shows what is wrong with the file.
fn refuse(wrong: Vec<Diagnostic>) -> CommandError {
    let shown = render::render(&wrong, Paint::of_stderr().on());
    tell(&format!("{shown}\n"));
    CommandError::Files(render::summary(&wrong))
}

/// Whether a machine that knows the passphrase is where the file has it.
fn is_where(joiner: &JoinerStatus, meeting: &Meeting) -> Result<(), CommandError> {
    let written = meeting.systems.get(&joiner.name).copied().flatten();
    let place = match (written, meeting.subnet) {
        (Some(written), _) if written != joiner.address => format!("the file has it at {written}"),
        (None, Some(subnet)) if !subnet.contains(&joiner.address) => {
            format!("that is not in {subnet}")
        }
        _ => return Ok(()),
    };
    Err(CommandError::NotDone(format!(
        "{} comes with the address {}, and {place}",
        joiner.name, joiner.address
    )))
}

/// Writes the keys of the machines into their resources.
fn pin(imported: &mut Imported, keys: &BTreeMap<&str, &str>) {
    for document in &mut imported.documents {
        if let Spec::Member(spec) = &mut document.resource.spec
            && let Some(key) = keys.get(document.resource.metadata.name.as_str())
        {
            spec.fingerprint = Some((*key).to_owned());
        }
        // What they tell is about an import that is not applied at once.
        document.notes.clear();
    }
}

/// Fits what is added to what is there: tunnels on the cloud's own subnet of them, and disks that
/// do not take the place of those of other machines.
fn beside(
    imported: &mut Imported,
    reports: &[&HostReport],
    present: &[Resource],
) -> Result<(), CommandError> {
    let underlay = add::underlay(present);
    for document in &mut imported.documents {
        let resource = &mut document.resource;
        match &mut resource.spec {
            Spec::Member(spec) if spec.underlay_address.is_none() => {
                let report = reports.iter().find(|r| r.name == resource.metadata.name);
                if let Some(report) = report {
                    spec.underlay_address = add::tunnel(report, underlay.as_ref())?;
                }
            }
            Spec::Disk(spec) if spec.members.is_some() => {
                let taken = |name: &str| {
                    let disk = ObjectRef::new(Kind::Disk, name);
                    present.iter().any(|r| r.reference() == disk)
                };
                let name = resource.metadata.name.clone();
                let mut names = (2..).map(|number| format!("{name}-{number}"));
                if taken(&name)
                    && let Some(free) = names.find(|name| !taken(name))
                {
                    resource.metadata.name = free;
                }
            }
            _ => {}
        }
    }
    Ok(())
}
