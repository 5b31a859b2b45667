//! `microcloud describe`: everything that is known of one object.

use super::Exit;
use super::client::Client;
use super::error::CommandError;
use super::get::to_yaml;
use super::output::{Paint, age, change, indented, lines, print, refusal, table};
use super::status::{clock, sentence, tell_if_old};
use super::{events, objects};
use crate::reconcile::history::Event;
use crate::reconcile::status::{ConditionType, ObjectStatus};
use crate::resources::{ObjectRef, Resource};
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::time::Duration;

/// How many events are shown, the newest.
const EVENTS: usize = 10;

/// Arguments of `microcloud describe`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// KIND/NAME…, or KIND and names
    #[arg(required = true, value_name = "KIND/NAME")]
    objects: Vec<String>,
}

/// Runs the command.
///
/// # Errors
/// There is no such object, or no agent answers.
pub async fn run(args: Args, client: &Client) -> Result<Exit, CommandError> {
    let objects = objects::parse(&args.objects)?;
    let resources = client.resources().await?;
    let status = client.status(0, Duration::ZERO).await?;
    tell_if_old(&status);
    let events = client.events(0, Duration::ZERO).await?;
    let now = clock(&status, Timestamp::now());
    let known = status.report.map_or_else(Vec::new, |r| r.objects);
    let mut texts = Vec::new();
    for object in objects {
        let mut of_object: Vec<Event> = events
            .iter()
            .filter(|e| e.object.as_ref() == Some(&object))
            .cloned()
            .collect();
        of_object.drain(..of_object.len().saturating_sub(EVENTS));
        let described = Described {
            resource: resources.iter().find(|r| r.reference() == object),
            status: known.iter().find(|s| s.object == object),
            events: of_object,
            object,
        };
        if described.resource.is_none() && described.status.is_none() {
            return Err(CommandError::NotFound(described.object));
        }
        texts.push(described.text(now, Paint::of_stdout())?);
    }
    print(&texts.join("\n"));
    Ok(Exit::Done)
}

struct Described<'a> {
    object: ObjectRef,
    resource: Option<&'a Resource>,
    status: Option<&'a ObjectStatus>,
    events: Vec<Event>,
}

impl Described<'_> {
    fn text(&self, now: Timestamp, paint: Paint) -> Result<String, CommandError> {
        let mut text = self.head(now, paint);
        let mut section = |title: &str, body: String| {
            if !body.is_empty() {
                text.push_str(&format!("{}\n{body}", paint.bold(&format!("{title}:"))));
            }
        };
        if let Some(resource) = self.resource {
            let spec = resource.spec.to_json();
            let empty = spec.as_object().is_some_and(|s| s.is_empty());
            if !empty {
                section("Spec", indented(&to_yaml(&spec)?, "  "));
            }
        }
        if let Some(status) = self.status {
            section("Conditions", conditions(status, now, paint));
            let changes = status.changes.iter();
            section(
                "Changes",
                changes
                    .map(|c| format!("  {}\n", change(c, paint)))
                    .collect(),
            );
            let waiting = status.waiting_on.iter();
            section(
                "Waiting on",
                waiting.map(|w| format!("  {}\n", w.message)).collect(),
            );
            section("Refused", refused(status));
            let notes = status.notes.iter();
            section(
                "Notes",
                notes.map(|n| format!("  {}\n", n.message)).collect(),
            );
        }
        if self.events.is_empty() {
            section("Events", "  none\n".to_owned());
        } else {
            section(
                "Events",
                events::text(&self.events, now, paint, false, "  "),
            );
        }
        Ok(text)
    }

    fn head(&self, now: Timestamp, paint: Paint) -> String {
        let object = &self.object;
        let mut rows = vec![
            ("Name", object.name.clone()),
            ("Kind", object.kind.to_string()),
        ];
        if object.kind.in_project() {
            rows.push(("Project", object.project.clone()));
        }
        if let Some(resource) = self.resource {
            let metadata = &resource.metadata;
            rows.extend(pairs(&metadata.labels).map(|pair| ("Label", pair)));
            rows.extend(pairs(&metadata.annotations).map(|pair| ("Annotation", pair)));
            let origin = &resource.origin;
            rows.push(("Written in", format!("{origin} ({})", origin.source)));
            let mode = resource.mode().map(|m| format!("{m:?}"));
            rows.extend(mode.map(|mode| ("Mode", mode)));
            rows.push(("Deletion", format!("{:?}", resource.deletion())));
        } else {
            rows.push(("Written in", "nowhere any more".to_owned()));
        }
        match self.status {
            None => rows.push(("Status", "it was not looked at yet".to_owned())),
            Some(status) => {
                rows.push(("Generation", status.generation.to_string()));
                let word = match status.word() {
                    word @ "Ready" => paint.green(word),
                    word @ "Stalled" => paint.red(word),
                    word => paint.yellow(word),
                };
                let since = status.condition(ConditionType::Ready);
                let since = since.map_or_else(String::new, |c| {
                    format!(" for {}", age(now, c.last_transition_time))
                });
                rows.push(("Status", format!("{word}{since}")));
                if status.ready() && status.gone_at.is_some() {
                    rows.push(("Going", sentence(status, now)));
                }
                // A retry may be due already.
                if let Some(at) = status.retry_at.filter(|at| *at > now) {
                    rows.push(("Tried again in", age(at, now)));
                }
            }
        }
        rows.into_iter()
            .map(|(title, line)| {
                let blanks = " ".repeat(15_usize.saturating_sub(title.len()));
                format!("{}{blanks}{line}\n", paint.bold(&format!("{title}:")))
            })
            .collect()
    }
}

fn pairs(map: &BTreeMap<String, String>) -> impl Iterator<Item = String> {
    map.iter().map(|(key, value)| format!("{key}={value}"))
}

fn conditions(status: &ObjectStatus, now: Timestamp, paint: Paint) -> String {
    let mut rows = table(["TYPE", "STATUS", "REASON", "AGE", "GENERATION", "MESSAGE"]);
    for condition in &status.conditions {
        let kind = format!("{:?}", condition.kind);
        let holds = if condition.status { "True" } else { "False" };
        // Every condition but the first is a bad sign when it holds.
        let holds = match condition.kind {
            ConditionType::Ready => paint.word(holds),
            _ => holds.into(),
        };
        rows.add_row(vec![
            kind.into(),
            holds,
            condition.reason.as_str().into(),
            age(now, condition.last_transition_time).into(),
            condition.observed_generation.into(),
            condition.message.as_str().into(),
        ]);
    }
    lines(&rows, "  ")
}

fn refused(status: &ObjectStatus) -> String {
    let mut text = String::new();
    for one in &status.refused {
        let (message, command) = refusal(one);
        text.push_str(&format!("  {message}\n"));
        if let Some(command) = command {
            text.push_str(&format!("    to allow it once: {command}\n"));
        }
    }
    text
}
