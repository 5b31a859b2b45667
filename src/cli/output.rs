//! How things are shown: colours, tables, ages, names and the sentences of what is refused.

use crate::reconcile::plan::{Change, Refused};
use crate::resources::ObjectRef;
use comfy_table::{Cell, Color, ContentArrangement, Table, presets};
use jiff::Timestamp;
use std::io::{IsTerminal, Write};

/// Prints to the standard output; false when nobody reads it any more (`| head`).
pub fn print(text: &str) -> bool {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .is_ok()
}

/// Prints to the standard error.
pub fn tell(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// Colours, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Paint {
    on: bool,
}

impl Paint {
    /// No colours.
    pub const PLAIN: Paint = Paint { on: false };

    /// Colours when the standard output is a terminal that wants them.
    pub fn of_stdout() -> Paint {
        Paint {
            on: std::io::stdout().is_terminal() && wanted(),
        }
    }

    /// Colours when the standard error is a terminal that wants them.
    pub fn of_stderr() -> Paint {
        Paint {
            on: std::io::stderr().is_terminal() && wanted(),
        }
    }

    /// Whether there are colours.
    pub fn on(self) -> bool {
        self.on
    }

    fn code(self, code: &str, text: &str) -> String {
        match self.on {
            true => format!("\x1b[{code}m{text}\x1b[0m"),
            false => text.to_owned(),
        }
    }

    /// Bad.
    pub fn red(self, text: &str) -> String {
        self.code("31", text)
    }

    /// Good, or new.
    pub fn green(self, text: &str) -> String {
        self.code("32", text)
    }

    /// Changing.
    pub fn yellow(self, text: &str) -> String {
        self.code("33", text)
    }

    /// Less important.
    pub fn dim(self, text: &str) -> String {
        self.code("2", text)
    }

    /// A heading.
    pub fn bold(self, text: &str) -> String {
        self.code("1", text)
    }

    /// A table's cell with a status word or the type of an event.
    pub fn word(self, word: &str) -> Cell {
        let cell = Cell::new(word);
        let color = match word {
            "Ready" | "True" | "yes" => Color::Green,
            "Stalled" | "False" | "Gone" | "no" => Color::Red,
            "Reconciling" | "Warning" => Color::Yellow,
            "Suspended" | "Orphaned" => Color::Magenta,
            _ => return cell,
        };
        match self.on {
            true => cell.fg(color),
            false => cell,
        }
    }
}

/// `NO_COLOR` (any value but the empty one) and dumb terminals want none.
fn wanted() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
        && std::env::var_os("TERM").is_none_or(|v| v != "dumb")
}

/// A table without lines; on a terminal long sentences wrap inside their column.
pub fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header);
    // The first column begins where the line begins.
    if let Some(first) = table.column_mut(0) {
        first.set_padding((0, 1));
    }
    if std::io::stdout().is_terminal() {
        table.set_content_arrangement(ContentArrangement::Dynamic);
    }
    table
}

/// The lines of a table, each after `indent`.
pub fn lines(table: &Table, indent: &str) -> String {
    table
        .trim_fmt()
        .lines()
        .map(|line| format!("{indent}{line}\n"))
        .collect()
}

/// How long ago `then` was, in one or two units: `40s`, `5m10s`, `3h`, `12d`.
pub fn age(now: Timestamp, then: Timestamp) -> String {
    span(u64::try_from(now.as_second().saturating_sub(then.as_second())).unwrap_or(0))
}

/// A number of seconds as people say it.
pub fn span(seconds: u64) -> String {
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..600 if !seconds.is_multiple_of(60) => format!("{minutes}m{}s", seconds % 60),
        120..10_800 => format!("{minutes}m"),
        10_800..172_800 => format!("{hours}h"),
        _ => format!("{}d", hours / 24),
    }
}

/// A name as commands print it: `profile/web`, `profile/project/web`.
pub fn name(object: &ObjectRef) -> String {
    let text = object.to_string();
    match text.split_once('/') {
        Some((kind, rest)) => format!("{}/{rest}", kind.to_ascii_lowercase()),
        None => text,
    }
}

/// The name without its kind: `web`, or `project/web` outside the default project.
pub fn short_name(object: &ObjectRef) -> String {
    let text = object.to_string();
    text.split_once('/')
        .map_or(text.clone(), |(_, rest)| rest.to_owned())
}

/// One field that differs: `config.limits.cpu: "2" -> "4"`.
pub fn change(change: &Change, paint: Paint) -> String {
    let shown = |value: &Option<String>| {
        value
            .as_ref()
            .map_or_else(|| "(unset)".to_owned(), |v| quoted(v))
    };
    format!(
        "{}: {} -> {}",
        change.path,
        paint.red(&shown(&change.from)),
        paint.green(&shown(&change.to))
    )
}

/// A value in quotes; the mark of a secret stays as it is.
pub fn quoted(value: &str) -> String {
    if value == crate::reconcile::plan::diff::SECRET {
        return value.to_owned();
    }
    // Quotes, backslashes and line breaks are escaped as in JSON, other characters stay.
    serde_json::Value::from(value).to_string()
}

/// What is refused, and the whole command that allows it when an approval is all it needs.
pub fn refusal(refused: &Refused) -> (String, Option<String>) {
    let Some(step) = &refused.approve else {
        return (refused.message.clone(), None);
    };
    let command = format!("microcloud approve {}", shell_word(step));
    let message = refused
        .message
        .strip_suffix(&format!("; to allow it once: microcloud approve {step}"))
        .unwrap_or(&refused.message);
    (message.to_owned(), Some(command))
}

/// A word as a shell reads it back.
fn shell_word(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/@._:+=,-".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// `1 resource`, `2 resources`.
pub fn count(number: usize, what: &str) -> String {
    match number {
        1 => format!("1 {what}"),
        _ => format!("{number} {what}s"),
    }
}

/// Text with every line after `indent`.
pub fn indented(text: &str, indent: &str) -> String {
    text.lines()
        .map(|line| match line {
            "" => "\n".to_owned(),
            _ => format!("{indent}{line}\n"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::Kind;

    #[test]
    fn ages_have_at_most_two_units() {
        let shown: Vec<String> = [0, 119, 120, 130, 599, 600, 10_799, 10_800, 172_799, 172_800]
            .into_iter()
            .map(span)
            .collect();
        let expected = [
            "0s", "119s", "2m", "2m10s", "9m59s", "10m", "179m", "3h", "47h", "2d",
        ];
        assert_eq!(shown, expected);
        let now = Timestamp::from_second(100).expect("in range");
        let later = Timestamp::from_second(200).expect("in range");
        assert_eq!(
            age(now, later),
            "0s",
            "a clock that is ahead shows no nonsense"
        );
    }

    #[test]
    fn names_are_lower_case_and_can_be_typed_back() {
        let web = ObjectRef::in_project(Kind::Profile, "shop", "Web");
        assert_eq!(name(&web), "profile/shop/Web");
        assert_eq!(short_name(&web), "shop/Web");
        assert_eq!(name(&web).parse(), Ok(web));
        let pool = ObjectRef::new(Kind::StoragePool, "local");
        assert_eq!(name(&pool), "storagepool/local");
        assert_eq!(short_name(&pool), "local");
    }

    #[test]
    fn the_command_that_approves_is_told_once_and_can_be_pasted() {
        let mut refused = Refused {
            reason: "ApprovalNeeded".into(),
            message: "it holds data; to allow it once: microcloud approve StoragePool/a/delete@a"
                .into(),
            approve: Some("StoragePool/a/delete@a".into()),
        };
        let (message, command) = refusal(&refused);
        assert_eq!(message, "it holds data");
        assert_eq!(
            command.as_deref(),
            Some("microcloud approve StoragePool/a/delete@a")
        );
        refused.approve = Some("Disk/a b/wipe@it's".into());
        assert_eq!(
            refusal(&refused).1.as_deref(),
            Some(r"microcloud approve 'Disk/a b/wipe@it'\''s'")
        );
        refused.approve = None;
        assert_eq!(refusal(&refused), (refused.message.clone(), None));
    }

    #[test]
    fn values_show_where_they_end_and_secrets_do_not_look_like_values() {
        assert_eq!(quoted("a \"b\"\n"), r#""a \"b\"\n""#);
        assert_eq!(quoted("(secret)"), "(secret)");
        let unset = Change::new("config.a", Some("1"), None);
        assert_eq!(change(&unset, Paint::PLAIN), r#"config.a: "1" -> (unset)"#);
        let colored = change(&unset, Paint { on: true });
        assert!(colored.contains("\x1b[31m\"1\"\x1b[0m"), "{colored:?}");
    }

    #[test]
    fn tables_begin_at_the_left_and_end_without_blanks() {
        let mut shown = table(["NAME", "MESSAGE"]);
        shown.add_row(["a", ""]);
        shown.add_row(["bbbbbb", "x"]);
        assert_eq!(lines(&shown, "  "), "  NAME    MESSAGE\n  a\n  bbbbbb  x\n");
    }
}
