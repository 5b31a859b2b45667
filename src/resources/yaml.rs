//! YAML (and JSON, which is YAML) to trees of nodes that know where they were written.
//!
//! A file is cut at its document markers first, so that one document with a syntax error does not
//! hide the others.

mod build;

use super::text::{Span, Text};
use build::Builder;

/// How deep lists and mappings may be nested.
pub const DEEPEST: usize = 64;

/// How many values one file may hold.
pub const MOST_VALUES: usize = 1_000_000;

/// How many values the aliases of one document may repeat.
pub const MOST_ALIASED: usize = 20_000;

/// How many documents one file may hold.
pub const MOST_DOCUMENTS: usize = 50_000;

/// How many brackets, braces and commas one document may hold. The parser keeps everything inside
/// the outermost bracket in memory until it is closed, at about 200 bytes for each.
pub const MOST_INDICATORS: usize = 200_000;

/// A value and where it was written.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Where it begins, and how far it goes on that line.
    pub span: Span,
    /// What it is.
    pub content: Content,
}

/// What a node is.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// Text as it was written; `plain` when it stands without quotes and may be a number.
    Scalar {
        /// The text, with escapes and folding resolved.
        text: String,
        /// Whether it stands without quotes (and is no block), so that `2` is a number.
        plain: bool,
    },
    /// A list.
    Sequence(Vec<Node>),
    /// A mapping, in the order in which it was written.
    Mapping(Vec<Entry>),
}

/// One entry of a mapping.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Where the key was written.
    pub key_span: Span,
    /// The value.
    pub value: Node,
}

/// What a plain scalar means in YAML 1.2 (`yes` and `on` are text).
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Meaning {
    /// `null`, `~` or nothing.
    Nothing,
    /// `true` or `false`.
    Bool(bool),
    /// An integer that fits.
    Integer(i128),
    /// Another number.
    Float(f64),
    /// Text.
    Text,
}

impl Node {
    /// The value of a key, when this is a mapping that has it.
    pub fn get(&self, key: &str) -> Option<&Entry> {
        match &self.content {
            Content::Mapping(entries) => entries.iter().find(|e| e.key == key),
            _ => None,
        }
    }

    /// The text, when this is a scalar that is not nothing.
    pub fn text(&self) -> Option<&str> {
        match &self.content {
            Content::Scalar { text, .. } if self.meaning() != Some(Meaning::Nothing) => Some(text),
            _ => None,
        }
    }

    /// What a scalar means; nothing for lists and mappings.
    pub fn meaning(&self) -> Option<Meaning> {
        match &self.content {
            Content::Scalar { text, plain: true } => Some(meaning(text)),
            Content::Scalar { plain: false, .. } => Some(Meaning::Text),
            _ => None,
        }
    }

    /// Whether it is `null`, `~` or was left empty.
    pub fn is_nothing(&self) -> bool {
        self.meaning() == Some(Meaning::Nothing)
    }

    fn size(&self) -> usize {
        match &self.content {
            Content::Scalar { .. } => 1,
            Content::Sequence(items) => 1 + items.iter().map(Node::size).sum::<usize>(),
            Content::Mapping(entries) => {
                1 + entries.iter().map(|e| 1 + e.value.size()).sum::<usize>()
            }
        }
    }
}

/// What plain text means in YAML 1.2's core schema.
fn meaning(text: &str) -> Meaning {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Meaning::Nothing,
        "true" | "True" | "TRUE" => return Meaning::Bool(true),
        "false" | "False" | "FALSE" => return Meaning::Bool(false),
        ".nan" | ".NaN" | ".NAN" => return Meaning::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => {
            return Meaning::Float(f64::INFINITY);
        }
        "-.inf" | "-.Inf" | "-.INF" => return Meaning::Float(f64::NEG_INFINITY),
        _ => {}
    }
    let radix = |digits: &str, radix| match digits.starts_with(['+', '-']) {
        true => None,
        false => i128::from_str_radix(digits, radix).ok(),
    };
    if let Some(digits) = text.strip_prefix("0x") {
        return radix(digits, 16).map_or(Meaning::Text, Meaning::Integer);
    }
    if let Some(digits) = text.strip_prefix("0o") {
        return radix(digits, 8).map_or(Meaning::Text, Meaning::Integer);
    }
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if !unsigned.is_empty() && unsigned.bytes().all(|b| b.is_ascii_digit()) {
        return text.parse().map_or(Meaning::Text, Meaning::Integer);
    }
    let numeric = unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && unsigned.bytes().any(|b| b.is_ascii_digit())
        && unsigned
            .bytes()
            .all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-'));
    match text.parse() {
        Ok(number) if numeric => Meaning::Float(number),
        _ => Meaning::Text,
    }
}

/// Something that is wrong with a file's YAML.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where.
    pub span: Span,
    /// What, in lower case.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
}

impl Problem {
    pub(crate) fn new(span: Span, message: impl Into<String>) -> Problem {
        Problem {
            span,
            message: message.into(),
            help: None,
        }
    }

    pub(crate) fn with_help(mut self, help: impl Into<String>) -> Problem {
        self.help = Some(help.into());
        self
    }
}

/// One document of a file.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// The value; what was read up to the first syntax error, if there is one. Absent when even
    /// its beginning could not be read.
    pub root: Option<Node>,
    /// What is wrong with it: syntax, duplicate keys, aliases, depth.
    pub problems: Vec<Problem>,
    /// Whether it was read to its end. If not, a missing field may only not have been reached.
    pub complete: bool,
}

/// Reads every document of a file. Documents that hold nothing are left out.
pub fn documents(text: &Text) -> Vec<Document> {
    if let Some(problem) = control_character(text) {
        return vec![Document {
            root: None,
            problems: vec![problem],
            complete: false,
        }];
    }
    let mut found = Vec::new();
    let mut values = MOST_VALUES;
    for (place, (first, last)) in chunks(text).into_iter().enumerate() {
        let part = &text.as_str()[text.start_of(first)..text.start_of(last + 1)];
        let refuse = |message: String| Document {
            root: None,
            problems: vec![Problem::new(
                Span {
                    line: first,
                    column: 1,
                    length: 1,
                },
                message,
            )],
            complete: false,
        };
        if place == MOST_DOCUMENTS {
            found.push(refuse(format!(
                "more than {MOST_DOCUMENTS} documents in one file"
            )));
            break;
        }
        let indicators = part
            .bytes()
            .filter(|b| matches!(b, b'[' | b']' | b'{' | b'}' | b','));
        if indicators.count() > MOST_INDICATORS {
            found.push(refuse(format!(
                "more than {MOST_INDICATORS} brackets and commas in one document"
            )));
            continue;
        }
        Builder::new(text, (first, last), &mut values).read(part, &mut found);
        // Said once, and the rest of the file would only say it again.
        if values == 0 {
            break;
        }
    }
    found
}

/// Characters YAML does not allow. A NUL would even end the file silently.
fn control_character(text: &Text) -> Option<Problem> {
    let bad =
        |c: char| (c.is_ascii_control() && !matches!(c, '\t' | '\n' | '\r')) || c == '\u{feff}';
    if !text.as_str().contains(bad) {
        return None;
    }
    (1..=text.lines() as u32).find_map(|line| {
        let (column, found) = text.line(line).chars().enumerate().find(|(_, c)| bad(*c))?;
        let span = Span {
            line,
            column: column as u32 + 1,
            length: 1,
        };
        let name = format!(
            "the control character U+{:04X} must not be in YAML",
            found as u32
        );
        Some(
            Problem::new(span, name)
                .with_help("remove it; inside double quotes write it as an escape"),
        )
    })
}

/// First and last line of the parts between document markers. `---` and `...` at the start of a
/// line end a document wherever they stand, even inside quotes and block scalars.
fn chunks(text: &Text) -> Vec<(u32, u32)> {
    let last = text.lines() as u32;
    let mut parts = Vec::new();
    let mut first = 1;
    let mut content = false;
    for line in 1..=last {
        let words = text.line(line);
        let marker = words
            .strip_prefix("---")
            .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t']));
        // Directives and comments belong to the document that follows them.
        if marker && content {
            parts.push((first, line - 1));
            first = line;
        }
        let trimmed = words.trim_start();
        content |=
            marker || !(trimmed.is_empty() || trimmed.starts_with('#') || words.starts_with('%'));
    }
    parts.push((first, last));
    parts
}
