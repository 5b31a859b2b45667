//! `microcloud status`: everything at once.

use super::Exit;
use super::client::Client;
use super::error::CommandError;
use super::output::{Paint, age, count, indented, lines, name, print, refusal, span, table, tell};
use crate::agent::api::{AgentStatus, MachineStatus, Role};
use crate::reconcile::controller::{SourceReport, StatusReport};
use crate::reconcile::status::{ConditionType, ObjectStatus};
use crate::resources::{Kind, SourceName, render};
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::time::Duration;

/// How much of a revision is shown.
const SHORT: usize = 12;

/// Arguments of `microcloud status`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How to print it
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

/// Runs the command: 0 when everything is as wanted, 1 when not.
///
/// # Errors
/// No agent answers.
pub async fn run(args: Args, client: &Client) -> Result<Exit, CommandError> {
    let status = client.status(0, Duration::ZERO).await?;
    print(&match args.output {
        Output::Json => format!("{:#}\n", serde_json::json!(status)),
        Output::Table => text(&status, Timestamp::now(), Paint::of_stdout()),
    });
    Ok(match as_wanted(&status) {
        true => Exit::Done,
        false => Exit::NotAsWanted,
    })
}

/// Whether all of it is as wanted, and somebody controls that it stays so.
fn as_wanted(status: &AgentStatus) -> bool {
    let report = status.report.as_ref();
    !status.cached && !status.directory.behind && report.is_some_and(StatusReport::all_ready)
}

/// Says on the standard error that what follows is not news when nobody controls.
pub fn tell_if_old(status: &AgentStatus) {
    if status.cached {
        let reason = status.reason.as_deref().unwrap_or("no controller answers");
        let who = match &status.leader {
            Some(leader) if status.role == Role::Leading => format!("{leader} controls"),
            _ => "nobody controls".to_owned(),
        };
        tell(&format!("note: {who}, this was known last: {reason}\n"));
    }
}

/// The time that ages are told from: the controller's own clock, or this machine's when its
/// report is an old one.
pub fn clock(status: &AgentStatus, now: Timestamp) -> Timestamp {
    match &status.report {
        Some(report) if !status.cached => report.at,
        _ => now,
    }
}

fn text(status: &AgentStatus, now: Timestamp, paint: Paint) -> String {
    let now = clock(status, now);
    let mut text = head(status, now, paint);
    let mut section = |title: &str, body: String| {
        if !body.is_empty() {
            text.push_str(&format!("\n{}\n{body}", paint.bold(title)));
        }
    };
    if let Some(report) = &status.report {
        section("Broken documents", broken(report, paint));
        section("Named twice", named_twice(report));
        section("Objects", objects(&report.objects, now, paint));
        section("Refused", refused(&report.objects, paint));
        section("Suspended", suspended(report, now));
        section("Approved", approved(report, now));
    }
    section("Machines", machines(&status.machines, paint));
    text
}

fn head(status: &AgentStatus, now: Timestamp, paint: Paint) -> String {
    let mut rows = Vec::new();
    let report = status.report.as_ref();
    let cluster = report
        .into_iter()
        .flat_map(|r| &r.objects)
        .find(|o| o.object.kind == Kind::Cluster);
    let cluster = cluster.map_or("none is named", |o| o.object.name.as_str());
    rows.push(("Cluster", cluster.to_owned()));
    rows.push(("Controller", controller(status, now, paint)));
    for (source, state) in report.into_iter().flat_map(|r| &r.sources) {
        rows.push(("Source", self::source(*source, state, status, paint)));
    }
    if report.is_none()
        && let Some(path) = &status.directory.path
    {
        rows.push(("Source", format!("directory {path}")));
    }
    let mut text = String::new();
    for (title, line) in rows {
        let title = paint.bold(&format!("{title}:")) + &" ".repeat(12 - title.len());
        text.push_str(&format!("{title}{line}\n"));
    }
    text
}

fn controller(status: &AgentStatus, now: Timestamp, paint: Paint) -> String {
    let report = status.report.as_ref();
    let mut line = match (&status.leader, report.filter(|_| !status.cached)) {
        (Some(leader), Some(report)) => format!("{leader}, epoch {}", report.lease.epoch),
        (Some(leader), None) => leader.clone(),
        (None, _) => paint.red("nobody controls"),
    };
    match status.role {
        Role::Following => line.push_str(&format!(" (this is {})", status.member)),
        Role::Waiting => line.push_str(&format!(" (this is {}, which waits)", status.member)),
        Role::Leading => {}
    }
    if let Some(reason) = &status.reason {
        line.push_str(&format!(": {reason}"));
    }
    match report {
        None => line.push_str("; nothing is known yet"),
        Some(report) if status.cached => {
            let age = age(now, status.told_at.unwrap_or(report.at));
            let old = match &status.told_by {
                Some(by) => {
                    format!("; all below is as {by} told it last, {age} ago, but for who answers")
                }
                None => format!("; all below is what was known {age} ago"),
            };
            line.push_str(&paint.yellow(&old));
        }
        Some(report) if !report.synced => line.push_str("; it looks at everything first"),
        Some(_) => {}
    }
    line
}

fn source(name: SourceName, state: &SourceReport, status: &AgentStatus, paint: Paint) -> String {
    let own = (name == SourceName::Directory).then_some(&status.directory);
    let mut line = name.to_string();
    if let Some(path) = own.and_then(|d| d.path.as_ref()) {
        line.push_str(&format!(" {path}"));
    }
    line.push_str(&format!(", {}", count(state.resources, "resource")));
    if !state.revision.is_empty() && state.resources > 0 {
        let short: String = state.revision.chars().take(SHORT).collect();
        line.push_str(&format!(", revision {short}"));
    }
    if !state.broken.is_empty() {
        let broken = count(state.broken.len(), "broken document");
        line.push_str(&format!(", {}", paint.red(&broken)));
    }
    if let Some(reason) = &state.unreadable {
        line.push_str(&format!(
            "\n             {} {reason}; what was accepted before stays",
            paint.red("unreadable:")
        ));
    }
    for object in &state.absent {
        line.push_str(&format!(
            "\n             {} {} is missing and will count as gone",
            paint.yellow("note:"),
            self::name(object)
        ));
    }
    if let Some(directory) = own {
        let revision = directory.revision.as_deref().unwrap_or("none");
        let short: String = revision.chars().take(SHORT).collect();
        if directory.behind {
            line.push_str(&format!(
                "\n             {} it has revision {short} on {}, which is not the accepted one; \
                 to take it: microcloud reconcile --accept-from {}",
                paint.yellow("behind:"),
                status.member,
                status.member
            ));
        }
        if let Some(message) = &directory.message {
            line.push_str(&format!("\n             {message}"));
        }
    }
    line
}

fn broken(report: &StatusReport, paint: Paint) -> String {
    let mut text = String::new();
    for broken in report.sources.values().flat_map(|s| &s.broken) {
        let shown = render::render(&broken.diagnostics, paint.on());
        text.push_str(&indented(shown.trim_end(), "  "));
        if let Some(object) = &broken.reference {
            let kept = report.objects.iter().any(|o| o.object == *object);
            if kept {
                let object = name(object);
                text.push_str(&format!(
                    "    {object} stays as its last good version says\n"
                ));
            }
        }
    }
    text
}

fn objects(objects: &[ObjectStatus], now: Timestamp, paint: Paint) -> String {
    if objects.is_empty() {
        return String::new();
    }
    let mut rows = table(["NAME", "STATUS", "AGE", "MESSAGE"]);
    for object in objects {
        rows.add_row(vec![
            name(&object.object).into(),
            paint.word(object.word()),
            since(object, now).into(),
            sentence(object, now).into(),
        ]);
    }
    lines(&rows, "  ")
}

/// For how long an object is what it is.
pub fn since(object: &ObjectStatus, now: Timestamp) -> String {
    object
        .condition(ConditionType::Ready)
        .map_or_else(String::new, |c| age(now, c.last_transition_time))
}

/// Why an object is not ready, in one sentence, or that it does not stay; nothing when it is and
/// does.
pub fn sentence(object: &ObjectStatus, now: Timestamp) -> String {
    match (object.condition(ConditionType::Ready), object.gone_at) {
        (Some(ready), _) if !ready.status => ready.message.clone(),
        (_, Some(at)) => {
            let left = u64::try_from(at.as_second() - now.as_second()).unwrap_or(0);
            let then = match object.object.kind.never_pruned() {
                true => "it is left as it is then, and shown as Orphaned",
                false => "it is deleted then, if it was made here and is not to be retained",
            };
            format!(
                "its resource is gone; that counts in {}: {then}",
                span(left.max(1))
            )
        }
        _ => String::new(),
    }
}

fn refused(objects: &[ObjectStatus], paint: Paint) -> String {
    let mut text = String::new();
    for object in objects {
        for refused in &object.refused {
            let (message, command) = refusal(refused);
            let name = paint.red(&name(&object.object));
            text.push_str(&format!("  {name}: {message}\n"));
            if let Some(command) = command {
                text.push_str(&format!("    to allow it once: {command}\n"));
            }
        }
    }
    text
}

fn named_twice(report: &StatusReport) -> String {
    let rows = report.conflicts.iter().map(|c| {
        let (object, counts, other) = (name(&c.reference), &c.in_force, &c.ignored);
        format!("  {object}: {counts} counts, {other} does not: take it out of one of them\n")
    });
    rows.collect()
}

fn suspended(report: &StatusReport, now: Timestamp) -> String {
    let mut text = String::new();
    for suspension in &report.suspensions {
        let who = suspension
            .object
            .as_ref()
            .map_or_else(|| "everything".to_owned(), name);
        // Its end lies ahead: what is over is not shown.
        let left = u64::try_from(suspension.until.as_second() - now.as_second()).unwrap_or(0);
        if left == 0 {
            continue;
        }
        text.push_str(&format!("  {who} for another {}", span(left)));
        if let Some(reason) = &suspension.reason {
            text.push_str(&format!(": {reason}"));
        }
        text.push('\n');
    }
    text
}

fn approved(report: &StatusReport, now: Timestamp) -> String {
    let mut text = String::new();
    for (step, approval) in &report.approvals {
        let left = u64::try_from(approval.expires.as_second() - now.as_second()).unwrap_or(0);
        if left > 0 {
            text.push_str(&format!("  {step}, for another {}\n", span(left)));
        }
    }
    text
}

fn machines(machines: &BTreeMap<String, MachineStatus>, paint: Paint) -> String {
    if machines.is_empty() {
        return String::new();
    }
    let mut rows = table(["NAME", "ANSWERS", "ADDRESS", "AGENT", "SERVICE", "MESSAGE"]);
    for (name, machine) in machines {
        rows.add_row(vec![
            name.into(),
            paint.word(if machine.answers { "yes" } else { "no" }),
            machine.address.as_str().into(),
            machine.agent_version.as_str().into(),
            machine.service.as_str().into(),
            machine.message.as_deref().unwrap_or("").into(),
        ]);
    }
    lines(&rows, "  ")
}
