//! Waiting until objects are ready, and showing meanwhile what each still waits for.

use super::Exit;
use super::client::{Client, ClientError};
use super::error::CommandError;
use super::output::{Paint, count, lines, name, print, refusal, table, tell};
use super::progress::Progress;
use crate::agent::api::AgentStatus;
use crate::reconcile::controller::StatusReport;
use crate::reconcile::plan::{Refused, Topic, reasons};
use crate::reconcile::status::{ConditionType, ObjectStatus};
use crate::resources::ObjectRef;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long one question to the agent waits for a change.
const ROUND: Duration = Duration::from_secs(10);

/// The pause when the agent answers at once with nothing new, or not at all.
const PAUSE: Duration = Duration::from_millis(500);

/// How long nothing but somebody's help may be missing before the waiting ends: what was changed a
/// moment ago may still be judged by what was seen before.
const STUCK: Duration = Duration::from_secs(5);

/// Reasons of a refusal that may pass by themselves: members that are being updated one after
/// another, services that are away.
const PASSING: [&str; 3] = [reasons::VERSION, reasons::CEPH_GONE, reasons::OVN];

/// What is waited for.
#[derive(Debug, Clone)]
pub enum Wanted {
    /// Everything that there is, and that no document is broken.
    All,
    /// These.
    Objects(Vec<ObjectRef>),
    /// That these are there no more, or are left over because they may hold data.
    Gone(Vec<ObjectRef>),
}

impl Wanted {
    /// What all of them are in the end.
    fn word(&self) -> &'static str {
        match self {
            Wanted::All | Wanted::Objects(_) => "Ready",
            Wanted::Gone(_) => "Gone",
        }
    }
}

/// Something that is not ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unready {
    /// Its name as commands print it; empty for the controller itself.
    pub name: String,
    /// The word of its state.
    pub word: &'static str,
    /// Why.
    pub message: String,
    /// What is refused about it.
    pub refused: Vec<Refused>,
    /// Whether it cannot become ready unless somebody changes something.
    pub stuck: bool,
}

impl Unready {
    fn new(name: String, word: &'static str, message: impl Into<String>) -> Unready {
        Unready {
            name,
            word,
            message: message.into(),
            refused: Vec::new(),
            stuck: false,
        }
    }
}

/// What is not ready of what is wanted, and how many things are wanted.
pub fn unready(status: &AgentStatus, wanted: &Wanted) -> (Vec<Unready>, usize) {
    let nobody = |message: String| {
        let expected = match wanted {
            Wanted::All => 1,
            Wanted::Objects(objects) | Wanted::Gone(objects) => objects.len(),
        };
        (
            vec![Unready::new(String::new(), "Unknown", message)],
            expected,
        )
    };
    let report = match &status.report {
        Some(report) if !status.cached => report,
        _ => {
            let reason = status.reason.as_deref().unwrap_or("no controller answers");
            return nobody(format!("nobody controls: {reason}"));
        }
    };
    if !report.synced {
        return nobody("the controller has not looked at everything yet".to_owned());
    }
    match wanted {
        Wanted::Objects(objects) => {
            let left = objects.iter().filter_map(|object| {
                match report.objects.iter().find(|o| o.object == *object) {
                    Some(found) => not_ready(found, report),
                    None => Some(Unready::new(
                        name(object),
                        "Reconciling",
                        "it was not looked at yet",
                    )),
                }
            });
            (left.collect(), objects.len())
        }
        Wanted::Gone(objects) => {
            let there = report
                .objects
                .iter()
                .filter(|o| objects.contains(&o.object));
            let left = there.filter(|o| !o.orphaned()).map(|found| {
                let still = Unready::new(name(&found.object), "Deleting", "it is still there");
                not_ready(found, report).unwrap_or(still)
            });
            (left.collect(), objects.len())
        }
        Wanted::All => {
            // What nothing wants any more and stays is nothing to wait for.
            let wanted: Vec<&ObjectStatus> =
                report.objects.iter().filter(|o| !o.orphaned()).collect();
            let mut left: Vec<Unready> =
                wanted.iter().filter_map(|o| not_ready(o, report)).collect();
            for (source, state) in &report.sources {
                if let Some(reason) = &state.unreadable {
                    left.push(Unready::new(source.to_string(), "Unreadable", reason));
                }
                for broken in &state.broken {
                    let what = broken.reference.as_ref().map_or(broken.file.clone(), name);
                    // Its object says it already, or does as soon as it is planned again.
                    if left.iter().any(|one| one.name == what) {
                        continue;
                    }
                    let first = broken.diagnostics.first();
                    let message = first.map_or_else(String::new, ToString::to_string);
                    left.push(Unready::new(what, "Broken", message));
                }
            }
            if report.objects.is_empty() && left.is_empty() {
                left.push(Unready::new(
                    String::new(),
                    "Unknown",
                    "there are no resources yet",
                ));
            }
            let expected = wanted.len().max(left.len());
            (left, expected)
        }
    }
}

fn not_ready(status: &ObjectStatus, report: &StatusReport) -> Option<Unready> {
    let ready = status.condition(ConditionType::Ready);
    let current = ready.is_some_and(|c| c.observed_generation == status.generation);
    if status.ready() && current {
        return None;
    }
    let word = match status.word() {
        // What is said of it is about an older version.
        "Ready" => "Reconciling",
        word => word,
    };
    let message = match ready {
        Some(condition) if current => condition.message.clone(),
        _ => "its new version was not looked at yet".to_owned(),
    };
    Some(Unready {
        name: name(&status.object),
        word,
        message,
        refused: status.refused.clone(),
        stuck: current && stuck(status, report, &mut BTreeSet::new()),
    })
}

/// Whether an object can only become ready when somebody changes something: it is refused, or
/// waits for one that is.
fn stuck<'a>(
    status: &'a ObjectStatus,
    report: &'a StatusReport,
    asked: &mut BTreeSet<&'a ObjectRef>,
) -> bool {
    if status.condition(ConditionType::Stalled).is_some() {
        let passes = |r: &Refused| PASSING.contains(&r.reason.as_str());
        return !status.refused.iter().any(passes);
    }
    // What waits in a circle is not for this to judge.
    if !asked.insert(&status.object) {
        return false;
    }
    status.waiting_on.iter().any(|waiting| match &waiting.on {
        Topic::Object(object) => report
            .objects
            .iter()
            .any(|o| o.object == *object && !o.ready() && stuck(o, report, asked)),
        _ => false,
    })
}

/// Waits until all that is wanted is so: 0 then, 1 when the time is over, with what is not and
/// why. What is refused is told at once. When all that is left is refused, or waits for what is,
/// waiting does not help: it ends with 1 then as well, after a moment in which it may be approved
/// or mended.
///
/// # Errors
/// The agent does not answer: at the beginning, or still when the time is over.
pub async fn wait(
    client: &Client,
    wanted: &Wanted,
    timeout: Duration,
) -> Result<Exit, CommandError> {
    let start = Instant::now();
    // A time beyond the clock's end is as good as for ever.
    let end = start.checked_add(timeout);
    let left = |now: Instant| end.map_or(ROUND, |end| end.saturating_duration_since(now));
    let mut progress = Progress::start(wanted.word());
    let mut status = client.status(0, Duration::ZERO).await?;
    let mut lost: Option<ClientError> = None;
    let mut stuck: Option<Instant> = None;
    loop {
        let (not_ready, expected) = unready(&status, wanted);
        progress.show(&not_ready, expected);
        if not_ready.is_empty() {
            progress.end();
            let are = if expected == 1 { "is" } else { "are" };
            let (all, word) = (count(expected, "resource"), wanted.word().to_lowercase());
            print(&format!("{all} {are} {word}\n"));
            return Ok(Exit::Done);
        }
        let asked = Instant::now();
        if left(asked).is_zero() {
            progress.end();
            if let Some(error) = lost {
                return Err(error.into());
            }
            tell(&late(&not_ready, expected, start.elapsed(), false));
            return Ok(Exit::NotAsWanted);
        }
        let mut pause = left(asked).min(ROUND);
        if lost.is_none() && not_ready.iter().all(|one| one.stuck) {
            let since = *stuck.get_or_insert(asked);
            pause = pause.min(STUCK.saturating_sub(asked - since));
            if pause.is_zero() {
                progress.end();
                tell(&late(&not_ready, expected, start.elapsed(), true));
                return Ok(Exit::NotAsWanted);
            }
        } else {
            stuck = None;
        }
        let before = version(&status);
        match client.status(before, pause).await {
            Ok(next) => {
                if lost.take().is_some() {
                    progress.note("the agent answers again");
                }
                status = next;
            }
            // It may be restarting.
            Err(error) if error.exit() == Exit::Unreachable => {
                if lost.is_none() {
                    let line = crate::agent::with_causes(&error);
                    progress.note(&format!("{line}; trying again"));
                }
                lost = Some(error);
            }
            Err(error) => return Err(error.into()),
        }
        if (lost.is_some() || version(&status) == before) && asked.elapsed() < PAUSE {
            sleep(PAUSE.min(left(Instant::now()))).await;
        }
    }
}

fn version(status: &AgentStatus) -> u64 {
    status.report.as_ref().map_or(0, |r| r.version)
}

/// What is said when the time is over, or when waiting does not help.
fn late(not_ready: &[Unready], expected: usize, elapsed: Duration, stuck: bool) -> String {
    let elapsed = super::output::span(elapsed.as_secs());
    // Not about any object, but about the controller itself.
    if let [Unready { name, message, .. }] = not_ready
        && name.is_empty()
    {
        return format!("error: after {elapsed}: {message}\n");
    }
    let mut rows = table(["NAME", "STATUS", "MESSAGE"]);
    let paint = Paint::of_stderr();
    let mut commands = String::new();
    for one in not_ready {
        let shown = match one.name.as_str() {
            "" => "-",
            name => name,
        };
        rows.add_row(vec![
            shown.into(),
            paint.word(one.word),
            one.message.as_str().into(),
        ]);
        for command in one.refused.iter().filter_map(|r| refusal(r).1) {
            commands.push_str(&format!("to allow it once: {command}\n"));
        }
    }
    let number = not_ready.len();
    let are = if number == 1 { "is" } else { "are" };
    let of = count(expected, "resource");
    let rows = lines(&rows, "  ");
    let why = match stuck {
        true => ", and waiting does not help: somebody must change something",
        false => "",
    };
    format!("error: after {elapsed}, {number} of {of} {are} not ready{why}:\n{rows}{commands}")
}
