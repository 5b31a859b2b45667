//! `microcloud diff`: what would be done, exactly as it will be done.

use super::client::Client;
use super::error::CommandError;
use super::output::{Paint, change, print, quoted, refusal};
use super::{Exit, inputs};
use crate::agent::api;
use crate::reconcile::controller::PlanReport;
use crate::reconcile::plan::Verb;
use crate::resources::{ObjectRef, Resource};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// Arguments of `microcloud diff`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Files and folders to think applied; `-` is the standard input. What is accepted unless
    /// given
    #[arg(short, long = "file", visible_alias = "filename", num_args = 1.., value_name = "PATH")]
    files: Vec<PathBuf>,

    /// How to print it
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    /// For people
    Text,
    /// For programs: {"differs", "summary", "plans"}
    Json,
}

/// Runs the command: 0 when nothing differs, 1 when something does.
///
/// # Errors
/// A file is broken, the directory owns a resource, or no agent answers.
pub async fn run(args: Args, client: &Client) -> Result<Exit, CommandError> {
    let plans = match args.files.as_slice() {
        [] => client.diff(&api::Diff::default()).await?,
        files => with(client, inputs::resources(client, files).await?).await?,
    };
    print(&match args.output {
        Output::Text => text(&plans, Paint::of_stdout()),
        Output::Json => json(&plans),
    });
    Ok(match plans.iter().any(differs) {
        true => Exit::NotAsWanted,
        false => Exit::Done,
    })
}

/// What would be done if these resources were applied: the plans of their own objects, and those
/// of others that would become different ones.
///
/// # Errors
/// The directory owns one of them, or no agent answers.
pub async fn with(
    client: &Client,
    resources: Vec<Resource>,
) -> Result<Vec<PlanReport>, CommandError> {
    let own: BTreeSet<ObjectRef> = resources.iter().map(Resource::reference).collect();
    let with = api::Diff {
        resources: Some(resources),
    };
    let after = client.diff(&with).await?;
    let before: BTreeMap<ObjectRef, PlanReport> = client
        .diff(&api::Diff::default())
        .await?
        .into_iter()
        .map(|plan| (plan.object.clone(), plan))
        .collect();
    Ok(after
        .into_iter()
        .filter(|plan| own.contains(&plan.object) || before.get(&plan.object) != Some(plan))
        .collect())
}

/// Whether an object is not as wanted, be it that nothing can be done about it now.
fn differs(plan: &PlanReport) -> bool {
    plan.differs()
        || !(plan.steps.is_empty() && plan.waiting_on.is_empty() && plan.refused.is_empty())
}

#[derive(Debug, Default, PartialEq, Eq, serde::Serialize)]
struct Summary {
    create: usize,
    change: usize,
    delete: usize,
    release: usize,
    /// Objects with something that is refused.
    refused: usize,
    /// Objects that wait for something.
    waiting: usize,
}

impl Summary {
    fn of(plans: &[PlanReport]) -> Summary {
        let mut summary = Summary::default();
        for plan in plans.iter().filter(|p| differs(p)) {
            match plan.verb {
                Verb::Create => summary.create += 1,
                Verb::Delete => summary.delete += 1,
                Verb::Release => summary.release += 1,
                Verb::Update => summary.change += 1,
                Verb::Unchanged if !(plan.changes.is_empty() && plan.steps.is_empty()) => {
                    summary.change += 1;
                }
                Verb::Unchanged => {}
            }
            summary.refused += usize::from(!plan.refused.is_empty());
            summary.waiting += usize::from(!plan.waiting_on.is_empty());
        }
        summary
    }
}

/// What `-o json` prints; the names are kept stable.
#[derive(serde::Serialize)]
struct Report<'a> {
    differs: bool,
    summary: Summary,
    /// The plans that are not empty.
    plans: Vec<&'a PlanReport>,
}

fn json(plans: &[PlanReport]) -> String {
    let report = Report {
        differs: plans.iter().any(differs),
        summary: Summary::of(plans),
        plans: plans.iter().filter(|p| shown(p)).collect(),
    };
    format!("{:#}\n", serde_json::json!(report))
}

fn shown(plan: &PlanReport) -> bool {
    differs(plan) || !plan.notes.is_empty()
}

/// The plans that are not empty, as people read them, and their summary.
pub fn text(plans: &[PlanReport], paint: Paint) -> String {
    let mut text = String::new();
    for plan in plans.iter().filter(|p| shown(p)) {
        one(&mut text, plan, paint);
    }
    if !plans.iter().any(differs) {
        text.push_str("No differences.\n");
        return text;
    }
    let summary = Summary::of(plans);
    let mut parts = vec![
        format!("{} to create", summary.create),
        format!("{} to change", summary.change),
        format!("{} to delete", summary.delete),
    ];
    for (number, word) in [
        (summary.release, "to release"),
        (summary.waiting, "waiting"),
        (summary.refused, "refused"),
    ] {
        if number > 0 {
            parts.push(format!("{number} {word}"));
        }
    }
    let line = format!("Plan: {}.", parts.join(", "));
    text.push_str(&format!("\n{}\n", paint.bold(&line)));
    text
}

fn one(text: &mut String, plan: &PlanReport, paint: Paint) {
    let object = plan.object.to_string();
    let head = match plan.verb {
        Verb::Create => paint.green(&format!("+ {object}")),
        Verb::Update => paint.yellow(&format!("~ {object}")),
        Verb::Delete => paint.red(&format!("- {object}")),
        Verb::Release => format!(
            "{} stays and is no longer managed",
            paint.yellow(&format!("Released: {object}"))
        ),
        Verb::Unchanged if plan.changes.is_empty() && plan.steps.is_empty() => {
            format!("  {object}")
        }
        Verb::Unchanged => paint.yellow(&format!("~ {object}")),
    };
    text.push_str(&head);
    if let Some(origin) = &plan.origin {
        text.push_str(&paint.dim(&format!("  ({origin})")));
    }
    text.push('\n');
    for field in &plan.changes {
        let line = match (&field.from, &field.to) {
            (None, Some(to)) if plan.verb == Verb::Create => {
                format!("{}: {}", field.path, paint.green(&quoted(to)))
            }
            _ => change(field, paint),
        };
        text.push_str(&format!("    {line}\n"));
    }
    // Where no field says it, the steps do, such as the forming of the cluster.
    if plan.changes.is_empty() && matches!(plan.verb, Verb::Create | Verb::Unchanged) {
        for step in &plan.steps {
            text.push_str(&format!("    {step}\n"));
        }
    }
    for waiting in &plan.waiting_on {
        let label = paint.yellow("waiting on:");
        text.push_str(&format!("    {label} {}\n", waiting.message));
    }
    for refused in &plan.refused {
        let (message, command) = refusal(refused);
        text.push_str(&format!("    {} {message}\n", paint.red("refused:")));
        if let Some(command) = command {
            text.push_str(&format!("      to allow it once: {command}\n"));
        }
    }
    for note in &plan.notes {
        text.push_str(&format!("    {} {}\n", paint.dim("note:"), note.message));
    }
}
