//! `microcloud events`: what happened, and what happens.

use super::Exit;
use super::client::{Client, ClientError};
use super::error::CommandError;
use super::objects::Selection;
use super::output::{Paint, age, lines, name, print, table};
use crate::reconcile::history::{Event, Severity};
use crate::reconcile::memory::Lease;
use jiff::tz::TimeZone;
use jiff::{Timestamp, fmt::strtime};
use std::time::Duration;

/// How many past events `--follow` begins with.
const BEGIN: usize = 10;

/// How long one question to the agent waits for an event.
const ROUND: Duration = Duration::from_secs(10);

/// Arguments of `microcloud events`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// KIND/NAME…, or KIND and names, or a KIND; everything unless given
    #[arg(value_name = "KIND/NAME")]
    objects: Vec<String>,

    /// Show the last ten, then each as it happens, until interrupted
    #[arg(long)]
    follow: bool,

    /// How to print them
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    /// For people
    Table,
    /// For programs: {"events"}; with --follow one event on each line
    Json,
}

/// Runs the command.
///
/// # Errors
/// No agent answers.
pub async fn run(args: Args, client: &Client) -> Result<Exit, CommandError> {
    let selection = Selection::parse(&args.objects)?;
    if args.follow {
        return follow(client, &selection, args.output).await;
    }
    let events = of(&selection, client.events(0, Duration::ZERO).await?);
    print(&match args.output {
        Output::Json => format!("{:#}\n", serde_json::json!({ "events": events })),
        Output::Table if events.is_empty() => "No events.\n".to_owned(),
        Output::Table => text(&events, Timestamp::now(), Paint::of_stdout(), true, ""),
    });
    Ok(Exit::Done)
}

fn of(selection: &Selection, events: Vec<Event>) -> Vec<Event> {
    events
        .into_iter()
        .filter(|event| match &event.object {
            Some(object) => selection.has(object),
            None => *selection == Selection::All,
        })
        .collect()
}

/// A table of events, each line after `indent`; with the object when there are several.
pub fn text(events: &[Event], now: Timestamp, paint: Paint, objects: bool, indent: &str) -> String {
    let mut rows = match objects {
        true => table(["AGE", "TYPE", "REASON", "OBJECT", "MESSAGE"]),
        false => table(["AGE", "TYPE", "REASON", "MESSAGE"]),
    };
    for event in events {
        let mut row = vec![
            age(now, event.at).into(),
            paint.word(severity(event)),
            event.reason.as_str().into(),
        ];
        if objects {
            row.push(of_whom(event).into());
        }
        row.push(message(event).into());
        rows.add_row(row);
    }
    lines(&rows, indent)
}

fn of_whom(event: &Event) -> String {
    event
        .object
        .as_ref()
        .map_or_else(|| "controller".to_owned(), name)
}

fn severity(event: &Event) -> &'static str {
    match event.severity {
        Severity::Normal => "Normal",
        Severity::Warning => "Warning",
    }
}

fn message(event: &Event) -> String {
    match event.count {
        0 | 1 => event.message.clone(),
        count => format!("{} ({count} times)", event.message),
    }
}

async fn follow(
    client: &Client,
    selection: &Selection,
    output: Output,
) -> Result<Exit, CommandError> {
    let paint = Paint::of_stdout();
    let zone = TimeZone::system();
    let mut lease = lease(client).await?;
    let first = client.events(0, Duration::ZERO).await?;
    let mut position = Position::default();
    let past = of(selection, position.new_ones(first));
    let mut events = past[past.len().saturating_sub(BEGIN)..].to_vec();
    loop {
        for event in &events {
            let text = match output {
                Output::Json => format!("{}\n", serde_json::json!(event)),
                Output::Table => line(event, &zone, paint),
            };
            if !print(&text) {
                return Ok(Exit::Done);
            }
        }
        let asked = tokio::time::Instant::now();
        let answer = client.events(position.number, ROUND).await?;
        if answer.is_empty() {
            // Another controller counts from one again.
            let now = self::lease(client).await?;
            if now != lease {
                lease = now;
                position.number = 0;
            }
            tokio::time::sleep(Duration::from_secs(1).saturating_sub(asked.elapsed())).await;
        }
        events = of(selection, position.new_ones(answer));
    }
}

async fn lease(client: &Client) -> Result<Option<Lease>, ClientError> {
    let status = client.status(0, Duration::ZERO).await?;
    Ok(status.report.map(|r| r.lease))
}

/// How far the events were read.
#[derive(Debug, Default)]
struct Position {
    /// The number of the last one.
    number: u64,
    /// Its time: the events of another controller begin after it.
    at: Option<Timestamp>,
}

impl Position {
    /// The events that were not read yet.
    fn new_ones(&mut self, events: Vec<Event>) -> Vec<Event> {
        let again = self.number == 0;
        let seen = self.at;
        if let Some(last) = events.last() {
            self.number = last.number;
            self.at = self.at.max(Some(last.at));
        }
        events
            .into_iter()
            .filter(|e| !again || seen.is_none_or(|seen| e.at > seen))
            .collect()
    }
}

fn line(event: &Event, zone: &TimeZone, paint: Paint) -> String {
    let time = event.at.to_zoned(zone.clone());
    let time = strtime::format("%H:%M:%S", &time).unwrap_or_else(|_| event.at.to_string());
    let kind = severity(event);
    let kind = match event.severity {
        Severity::Normal => format!("{kind:<7}"),
        Severity::Warning => paint.yellow(kind),
    };
    format!(
        "{}  {kind}  {}  {}: {}\n",
        paint.dim(&time),
        event.reason,
        of_whom(event),
        message(event)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::{Kind, ObjectRef};

    fn event(number: u64, second: i64) -> Event {
        Event {
            number,
            at: Timestamp::from_second(second).expect("in range"),
            object: Some(ObjectRef::new(Kind::Profile, "web")),
            severity: Severity::Warning,
            reason: "Drifted".into(),
            message: "config.limits.cpu was changed".into(),
            count: 3,
        }
    }

    #[test]
    fn a_line_has_the_time_and_how_often_it_happened() {
        assert_eq!(
            line(&event(1, 3661), &TimeZone::UTC, Paint::PLAIN),
            "01:01:01  Warning  Drifted  profile/web: config.limits.cpu was changed (3 times)\n"
        );
    }

    #[test]
    fn another_controllers_events_are_read_from_its_beginning_and_old_ones_not_again() {
        let mut position = Position::default();
        assert_eq!(position.new_ones(vec![event(7, 10), event(9, 20)]).len(), 2);
        assert_eq!(position.number, 9);
        assert!(position.new_ones(vec![]).is_empty());
        assert_eq!(position.number, 9);
        position.number = 0;
        let new = position.new_ones(vec![event(1, 20), event(2, 30)]);
        assert_eq!(new, [event(2, 30)]);
        assert_eq!(position.number, 2);
    }

    #[test]
    fn an_objects_events_leave_the_controllers_out() {
        let mut of_controller = event(2, 0);
        of_controller.object = None;
        let all = vec![event(1, 0), of_controller];
        assert_eq!(of(&Selection::All, all.clone()).len(), 2);
        assert_eq!(of(&Selection::Kind(Kind::Profile), all.clone()).len(), 1);
        assert!(of(&Selection::Kind(Kind::Network), all).is_empty());
    }
}
