//! `microcloud get`: the resources, and how it stands with each.

use super::Exit;
use super::client::Client;
use super::error::CommandError;
use super::objects::Selection;
use super::output::{Paint, lines, name, print, short_name, table};
use super::status::{clock, sentence, since, tell_if_old};
use crate::agent::api::AgentStatus;
use crate::reconcile::status::ObjectStatus;
use crate::resources::{Kind, ObjectRef, Resource};
use comfy_table::Table;
use jiff::Timestamp;
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;

/// How long one question to the agent waits for a change.
const ROUND: Duration = Duration::from_secs(30);

/// Arguments of `microcloud get`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A KIND, KIND/NAME…, or KIND and names; everything unless given
    #[arg(value_name = "KIND")]
    objects: Vec<String>,

    /// How to print them
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,

    /// With yaml and json: add what is known of each as `status`, which cannot be applied again
    #[arg(long)]
    show_status: bool,

    /// Then show every change as it happens, until interrupted (table, wide and name)
    #[arg(short, long)]
    watch: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    /// One line for each
    Table,
    /// With the place it is written at, and its generation
    Wide,
    /// The documents, which can be applied again
    Yaml,
    /// One named resource is the document itself, otherwise {"items": [documents]}
    Json,
    /// KIND/NAME
    Name,
}

/// Runs the command.
///
/// # Errors
/// There is no such object, or no agent answers.
pub async fn run(args: Args, client: &Client) -> Result<Exit, CommandError> {
    let documents = matches!(args.output, Output::Yaml | Output::Json);
    if args.watch && documents {
        let message = "--watch goes with -o table, wide and name";
        return Err(CommandError::Usage(message.to_owned()));
    }
    if args.show_status && !documents {
        let message = "--show-status goes with -o yaml and json";
        return Err(CommandError::Usage(message.to_owned()));
    }
    let selection = Selection::parse(&args.objects)?;
    let resources = client.resources().await?;
    let status = client.status(0, Duration::ZERO).await?;
    tell_if_old(&status);
    if documents {
        let documents = found(&selection, &resources, &status)?;
        print(&match args.output {
            Output::Json => json(&documents, args.show_status, &selection),
            _ => yaml(&documents, args.show_status)?,
        });
        return Ok(Exit::Done);
    }
    let rows = rows(&selection, &resources, &status);
    if let Selection::Objects(objects) = &selection
        && let Some(missing) = objects.iter().find(|o| !rows.contains_key(*o))
    {
        return Err(CommandError::NotFound(missing.clone()));
    }
    let view = View {
        output: args.output,
        kinds: !matches!(selection, Selection::Kind(_)),
        paint: Paint::of_stdout(),
    };
    if rows.is_empty() && !args.watch {
        super::output::tell("No resources.\n");
        return Ok(Exit::Done);
    }
    print(&view.text(&rows));
    if args.watch {
        return watch(client, &selection, view, rows, &status).await;
    }
    Ok(Exit::Done)
}

/// One object as a line shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Row {
    word: &'static str,
    /// For how long it is so; not part of what makes two rows different.
    age: String,
    message: String,
    origin: String,
    generation: u64,
}

impl Row {
    fn same(&self, other: &Row) -> bool {
        let still = Row {
            age: other.age.clone(),
            ..self.clone()
        };
        still == *other
    }
}

fn rows(
    selection: &Selection,
    resources: &[Resource],
    status: &AgentStatus,
) -> BTreeMap<ObjectRef, Row> {
    let now = clock(status, Timestamp::now());
    let mut rows: BTreeMap<ObjectRef, Row> = resources
        .iter()
        .filter(|r| selection.has(&r.reference()))
        .map(|r| {
            let row = Row {
                word: "Unknown",
                age: String::new(),
                message: "it was not looked at yet".to_owned(),
                origin: r.origin.to_string(),
                generation: 0,
            };
            (r.reference(), row)
        })
        .collect();
    for object in known(status).filter(|o| selection.has(&o.object)) {
        let row = Row {
            word: object.word(),
            age: since(object, now),
            message: sentence(object, now),
            origin: object
                .origin
                .as_ref()
                .map_or_else(String::new, ToString::to_string),
            generation: object.generation,
        };
        rows.insert(object.object.clone(), row);
    }
    rows
}

fn known(status: &AgentStatus) -> impl Iterator<Item = &ObjectStatus> {
    status.report.iter().flat_map(|r| &r.objects)
}

#[derive(Debug, Clone, Copy)]
struct View {
    output: Output,
    /// Whether names are shown with their kind.
    kinds: bool,
    paint: Paint,
}

impl View {
    fn name(&self, object: &ObjectRef) -> String {
        match self.kinds {
            true => name(object),
            false => short_name(object),
        }
    }

    /// All rows: a table for each kind.
    fn text(&self, rows: &BTreeMap<ObjectRef, Row>) -> String {
        if self.output == Output::Name {
            return rows.keys().map(|o| format!("{}\n", name(o))).collect();
        }
        let tables: Vec<String> = Kind::ALL
            .into_iter()
            .map(|kind| rows.iter().filter(move |(o, _)| o.kind == kind))
            .filter(|of_kind| of_kind.clone().next().is_some())
            .map(|of_kind| lines(&self.table(of_kind), ""))
            .collect();
        tables.join("\n")
    }

    fn table<'a>(&self, rows: impl Iterator<Item = (&'a ObjectRef, &'a Row)>) -> Table {
        let wide = self.output == Output::Wide;
        let mut table = match wide {
            true => table([
                "NAME",
                "STATUS",
                "AGE",
                "GENERATION",
                "WRITTEN IN",
                "MESSAGE",
            ]),
            false => table(["NAME", "STATUS", "AGE", "MESSAGE"]),
        };
        for (object, row) in rows {
            let mut cells = vec![
                self.name(object).into(),
                self.paint.word(row.word),
                row.age.as_str().into(),
            ];
            if wide {
                cells.push(row.generation.into());
                cells.push(row.origin.as_str().into());
            }
            cells.push(row.message.as_str().into());
            table.add_row(cells);
        }
        table
    }

    /// One changed row, in columns that are wide enough for most.
    fn line(&self, object: &ObjectRef, row: &Row, width: usize) -> String {
        if self.output == Output::Name {
            return format!("{}\n", name(object));
        }
        let mut line = format!(
            "{:<width$}  {:<11}  {:<5}",
            self.name(object),
            row.word,
            row.age
        );
        if self.output == Output::Wide {
            line.push_str(&format!("  {:<10}  {}", row.generation, row.origin));
        }
        line.push_str(&format!("  {}", row.message));
        format!("{}\n", line.trim_end())
    }
}

async fn watch(
    client: &Client,
    selection: &Selection,
    view: View,
    mut rows: BTreeMap<ObjectRef, Row>,
    status: &AgentStatus,
) -> Result<Exit, CommandError> {
    let version = |status: &AgentStatus| status.report.as_ref().map_or(0, |r| r.version);
    let mut after = version(status);
    let width = rows
        .keys()
        .map(|o| view.name(o).chars().count())
        .max()
        .unwrap_or(0);
    loop {
        let asked = tokio::time::Instant::now();
        let status = client.status(after, ROUND).await?;
        let resources = client.resources().await?;
        let next = self::rows(selection, &resources, &status);
        let mut text = String::new();
        for (object, row) in &next {
            if rows.get(object).is_none_or(|before| !before.same(row)) {
                text.push_str(&view.line(object, row, width));
            }
        }
        for (object, row) in rows.iter().filter(|(o, _)| !next.contains_key(*o)) {
            let gone = Row {
                word: "Gone",
                age: String::new(),
                message: String::new(),
                ..row.clone()
            };
            text.push_str(&view.line(object, &gone, width));
        }
        if !text.is_empty() && !print(&text) {
            return Ok(Exit::Done);
        }
        rows = next;
        if version(&status) == after {
            // Nothing new: an agent without a controller answers at once.
            tokio::time::sleep(Duration::from_secs(1).saturating_sub(asked.elapsed())).await;
        }
        after = version(&status);
    }
}

type Document<'a> = (&'a Resource, Option<&'a ObjectStatus>);

fn found<'a>(
    selection: &Selection,
    resources: &'a [Resource],
    status: &'a AgentStatus,
) -> Result<Vec<Document<'a>>, CommandError> {
    if let Selection::Objects(objects) = selection {
        for object in objects {
            if !resources.iter().any(|r| r.reference() == *object) {
                return Err(CommandError::NotFound(object.clone()));
            }
        }
    }
    Ok(resources
        .iter()
        .filter(|r| selection.has(&r.reference()))
        .map(|r| (r, known(status).find(|o| o.object == r.reference())))
        .collect())
}

fn value((resource, status): &Document<'_>, show_status: bool) -> Value {
    let mut document = resource.document();
    if let (true, Some(status), Value::Object(fields)) = (show_status, status, &mut document) {
        fields.insert("status".to_owned(), serde_json::json!(status));
    }
    document
}

fn json(documents: &[Document<'_>], show_status: bool, selection: &Selection) -> String {
    let items: Vec<Value> = documents.iter().map(|d| value(d, show_status)).collect();
    match (selection, items.as_slice()) {
        (Selection::Objects(_), [one]) => format!("{one:#}\n"),
        _ => format!("{:#}\n", serde_json::json!({ "items": items })),
    }
}

fn yaml(documents: &[Document<'_>], show_status: bool) -> Result<String, CommandError> {
    let texts: Result<Vec<String>, CommandError> = documents
        .iter()
        .map(|d| as_yaml(&value(d, show_status)))
        .collect();
    Ok(texts?.join("---\n"))
}

/// A document as YAML, in the order in which people write it.
fn as_yaml(document: &Value) -> Result<String, CommandError> {
    crate::convert::written::yaml(document)
        .map_err(|e| CommandError::Usage(format!("cannot be written as YAML: {e}")))
}

/// Any value as YAML.
///
/// # Errors
/// It cannot be written as YAML.
pub fn to_yaml(value: &impl serde::Serialize) -> Result<String, CommandError> {
    serde_yaml::to_string(value)
        .map_err(|e| CommandError::Usage(format!("cannot be written as YAML: {e}")))
}
