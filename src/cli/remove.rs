//! `microcloud remove`: takes a member out of the cluster.

use super::client::Client;
use super::error::CommandError;
use super::output::{Paint, name, print, tell};
use super::ready::{self, Wanted};
use super::{Exit, diff};
use crate::agent::api;
use crate::resources::kinds::MemberState;
use crate::resources::{Kind, ObjectRef, Resource, SourceName, Spec};
use std::time::Duration;
use tokio::time::Instant;

/// How long it may take until the plan asks for its approval: a machine counts as lost after 5 s,
/// and LXD takes it for offline after 20.
const ASKED: Duration = Duration::from_secs(60);

/// The pause between two looks.
const LOOK: Duration = Duration::from_millis(500);

/// Arguments of `microcloud remove`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The member; several only with --force: those that are lost together are given up together
    #[arg(required = true, value_name = "NAME")]
    members: Vec<String>,

    /// Give a member up that does not answer and never will: what only it holds is lost
    #[arg(long)]
    force: bool,

    /// Only show what would be done
    #[arg(long, conflicts_with_all = ["wait", "force"])]
    dry_run: bool,

    /// Wait until it is gone: 0 then, 1 when the time is over or somebody must change something
    /// first
    #[arg(long)]
    wait: bool,

    /// How long to wait, such as 90s or 5m
    #[arg(long, value_parser = humantime::parse_duration, default_value = "30m", value_name = "D")]
    timeout: Duration,
}

/// Runs the command: 0 when the removal has begun (with `--wait`: is done), 1 when it is not
/// possible now.
///
/// # Errors
/// There is no such member, the watched directory owns it, or no agent answers.
pub async fn run(args: Args, client: &Client) -> Result<Exit, CommandError> {
    if args.members.len() > 1 && !args.force {
        let message = "one after the other: only members that are lost are removed together, with \
                       --force";
        return Err(CommandError::Usage(message.to_owned()));
    }
    let member = |name: &String| ObjectRef::new(Kind::Member, name.clone());
    let objects: Vec<ObjectRef> = args.members.iter().map(member).collect();
    let present = client.resources().await?;
    let absent = objects.iter().map(|object| absent(object, &present));
    let resources = absent.collect::<Result<Vec<Resource>, CommandError>>()?;
    let plans = diff::with(client, resources.clone()).await?;
    print(&diff::text(&plans, Paint::of_stdout()));
    if args.dry_run {
        return Ok(Exit::Done);
    }
    for one in client.apply(&api::Apply { resources }).await? {
        print(&format!("{} {}\n", name(&one.object), one.result));
    }
    for object in &objects {
        let begun = approve(object, args.force, client).await?;
        if begun != Exit::Done {
            return Ok(begun);
        }
    }
    if !args.wait {
        return Ok(Exit::Done);
    }
    let ended = ready::wait(client, &Wanted::Objects(objects.clone()), args.timeout).await?;
    for object in objects.iter().filter(|_| ended == Exit::Done) {
        tell(&format!(
            "{} has left the cluster; its resource says so until it is deleted: microcloud delete \
             {}\n",
            object.name,
            name(object)
        ));
    }
    Ok(ended)
}

/// The member's resource with `state: Absent`.
fn absent(object: &ObjectRef, resources: &[Resource]) -> Result<Resource, CommandError> {
    let mut members = resources.iter().filter(|r| r.kind() == Kind::Member);
    let mut others = Vec::new();
    let Some(resource) = members.find(|r| {
        let found = r.reference() == *object;
        if !found {
            others.push(r.metadata.name.clone());
        }
        found
    }) else {
        return Err(CommandError::Usage(format!(
            "there is no {}; members: {}",
            name(object),
            others.join(", ")
        )));
    };
    if resource.origin.source == SourceName::Directory {
        return Err(CommandError::Usage(format!(
            "{} belongs to the watched directory ({}): write `state: Absent` below its `spec:` \
             there, and approve what `microcloud status` then asks for",
            name(object),
            resource.origin
        )));
    }
    let mut resource = resource.clone();
    if let Spec::Member(spec) = &mut resource.spec {
        spec.state = MemberState::Absent;
    }
    Ok(resource)
}

/// Waits until the plan asks for the approval of the removal, and gives it: who runs the command
/// has said so. That of a lost member is only given with `--force`.
async fn approve(object: &ObjectRef, force: bool, client: &Client) -> Result<Exit, CommandError> {
    let orderly = format!("{object}/remove@{}", object.name);
    let lost = format!("{object}/remove-lost@{}", object.name);
    let begun = Instant::now();
    let mut told = String::new();
    loop {
        let status = client.status(0, Duration::ZERO).await?;
        let report = status.report.as_ref().filter(|_| !status.cached);
        let found = report.and_then(|r| r.objects.iter().find(|o| o.object == *object));
        let asked = |step: &str| {
            let refused = found.into_iter().flat_map(|o| &o.refused);
            let mut steps = refused.filter_map(|r| r.approve.as_deref());
            steps.any(|asked| asked == step)
        };
        if asked(&orderly) {
            let step = orderly;
            client.approve(&api::Approve { step }).await?;
            print(&format!("{} leaves the cluster\n", object.name));
            return Ok(Exit::Done);
        }
        if asked(&lost) && force {
            let step = lost;
            client.approve(&api::Approve { step }).await?;
            print(&format!("{} is given up\n", object.name));
            return Ok(Exit::Done);
        }
        if found.is_some_and(|o| o.ready() && o.refused.is_empty()) && told.is_empty() {
            // It was shown as ready before it was planned anew, or is gone already.
            if begun.elapsed() > Duration::from_secs(3) {
                return Ok(Exit::Done);
            }
        } else if let Some(found) = found {
            let waiting = found.waiting_on.iter().map(|w| w.message.as_str());
            let refused = found.refused.iter().map(|r| r.message.as_str());
            let why: Vec<&str> = refused.chain(waiting).collect();
            let why = why.join("; ");
            if found.refused.is_empty() && found.waiting_on.is_empty() {
                // Approved before, and under way.
                if begun.elapsed() > Duration::from_secs(3) {
                    return Ok(Exit::Done);
                }
            } else if why != told {
                tell(&format!("{}: {why}\n", name(object)));
                told = why;
            }
            let final_word = found.refused.iter().any(|r| r.approve.is_none());
            if (asked(&lost) || final_word) && begun.elapsed() > Duration::from_secs(3) {
                return Ok(Exit::NotAsWanted);
            }
        }
        if begun.elapsed() > ASKED {
            return Ok(Exit::NotAsWanted);
        }
        tokio::time::sleep(LOOK).await;
    }
}
