//! Where the fields of a resource were written.

use super::diagnostic::Diagnostic;
use super::object::Origin;
use super::text::{Span, Text};
use super::yaml::{Content, Node};
use std::fmt;
use std::sync::Arc;

/// One step of a field path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step<'a> {
    /// A key of a mapping; may hold dots.
    Key(&'a str),
    /// A place in a list, from 0.
    Index(usize),
}

impl<'a> From<&'a str> for Step<'a> {
    fn from(key: &'a str) -> Step<'a> {
        Step::Key(key)
    }
}

impl<'a> From<&'a String> for Step<'a> {
    fn from(key: &'a String) -> Step<'a> {
        Step::Key(key)
    }
}

impl From<usize> for Step<'_> {
    fn from(index: usize) -> Self {
        Step::Index(index)
    }
}

/// A field path from its steps: `at!["spec", "ipv4", "ranges", 0]`.
macro_rules! at {
    ($($step:expr),* $(,)?) => {
        &[$($crate::resources::positions::Step::from($step)),*][..]
    };
}
pub(crate) use at;

/// A field path as people read it: `spec.ipv4.ranges[0]`.
pub struct Shown<'a>(pub &'a [Step<'a>]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, step) in self.0.iter().enumerate() {
            match step {
                Step::Key(key) if place == 0 => f.write_str(key)?,
                Step::Key(key) => write!(f, ".{key}")?,
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

/// Where the fields of one document were written. Paths begin at the document: `metadata.name`,
/// `spec.config.limits.cpu`.
#[derive(Debug, Clone)]
pub struct Positions {
    text: Arc<Text>,
    root: Option<Arc<Node>>,
    line: u32,
}

impl Positions {
    /// The positions of a document of this file.
    pub fn new(text: Arc<Text>, root: Node) -> Positions {
        let line = first_line(&root);
        Positions {
            text,
            root: Some(Arc::new(root)),
            line,
        }
    }

    /// What is known of a resource whose document is not at hand: its file and first line.
    pub fn of_origin(origin: &Origin) -> Positions {
        Positions {
            text: Arc::new(Text::new(origin.file.clone(), "")),
            root: None,
            line: origin.line as u32,
        }
    }

    /// The file.
    pub fn file(&self) -> &str {
        &self.text.file
    }

    /// The line of the document's first key, from 1.
    pub fn line(&self) -> usize {
        self.line as usize
    }

    /// A message about the value at a path, or about the nearest field above it that was written.
    pub fn value(&self, path: &[Step<'_>], message: impl Into<String>) -> Diagnostic {
        self.text.diagnostic(self.spans(path).1, message, None)
    }

    /// A message about the word that begins at byte `at` of the text at a path; about the whole
    /// text when it is not written in one piece there.
    pub fn part(
        &self,
        path: &[Step<'_>],
        text: &str,
        at: usize,
        message: impl Into<String>,
    ) -> Diagnostic {
        let mut span = self.spans(path).1;
        let source: Vec<char> = self
            .text
            .line(span.line)
            .chars()
            .skip((span.column as usize).saturating_sub(1))
            .collect();
        let quote = usize::from(matches!(source.first(), Some('"' | '\'')));
        let before = text.get(..at).unwrap_or(text);
        let whole = source
            .iter()
            .skip(quote)
            .copied()
            .take(text.chars().count());
        if whole.eq(text.chars()) {
            span.column += (quote + before.chars().count()) as u32;
            let word = text[before.len()..]
                .chars()
                .take_while(|c| !c.is_whitespace())
                .count();
            span.length = word.max(1) as u32;
        }
        self.text.diagnostic(span, message, None)
    }

    /// A message about the key at the end of a path, or about the nearest one above it.
    pub fn key(&self, path: &[Step<'_>], message: impl Into<String>) -> Diagnostic {
        self.text.diagnostic(self.spans(path).0, message, None)
    }

    /// Line and column, from 1, of the value at a path as people write it, such as
    /// `spec.ipv4.ranges[0]` or `spec.config.limits.cpu`; the nearest field above it when it was
    /// not written.
    pub fn locate(&self, path: &str) -> (usize, usize) {
        let span = match &self.root {
            Some(root) => locate(root, path).map_or_else(|| self.whole(), |node| node.span),
            None => self.whole(),
        };
        (span.line as usize, span.column as usize)
    }

    /// Where the value at a path was written; the nearest field above it when it was not.
    pub(crate) fn span(&self, path: &[Step<'_>]) -> Span {
        self.spans(path).1
    }

    /// The text the positions are of.
    pub(crate) fn text(&self) -> &Arc<Text> {
        &self.text
    }

    fn whole(&self) -> Span {
        let width = self.text.line(self.line).trim_end().chars().count() as u32;
        Span {
            line: self.line,
            column: 1,
            length: width.max(1),
        }
    }

    /// The spans of key and value at the end of a path.
    fn spans(&self, path: &[Step<'_>]) -> (Span, Span) {
        let mut found = (self.whole(), self.whole());
        let Some(mut node) = self.root.as_deref() else {
            return found;
        };
        for step in path {
            match (step, &node.content) {
                (Step::Key(key), _) => match node.get(key) {
                    Some(entry) => {
                        found = (entry.key_span, entry.value.span);
                        node = &entry.value;
                    }
                    None => return (found.0, found.0),
                },
                (Step::Index(index), Content::Sequence(items)) => match items.get(*index) {
                    Some(item) => {
                        found = (item.span, item.span);
                        node = item;
                    }
                    None => return (found.0, found.0),
                },
                (Step::Index(_), _) => return (found.0, found.0),
            }
        }
        found
    }
}

/// The line of the first key; a JSON document's own line.
pub(super) fn first_line(root: &Node) -> u32 {
    match &root.content {
        Content::Mapping(entries) => entries
            .iter()
            .map(|e| e.key_span.line)
            .min()
            .map_or(root.span.line, |line| line.min(root.span.line)),
        _ => root.span.line,
    }
}

/// Follows a written path. Keys may hold dots, so the longest key that fits wins.
fn locate<'a>(node: &'a Node, path: &str) -> Option<&'a Node> {
    if path.is_empty() {
        return Some(node);
    }
    match &node.content {
        Content::Mapping(entries) => entries
            .iter()
            .filter_map(|entry| {
                let rest = path.strip_prefix(entry.key.as_str())?;
                let fits = rest.is_empty() || rest.starts_with(['.', '[']);
                fits.then(|| (entry, rest.strip_prefix('.').unwrap_or(rest)))
            })
            .max_by_key(|(entry, _)| entry.key.len())
            .map(|(entry, rest)| locate(&entry.value, rest).unwrap_or(&entry.value)),
        Content::Sequence(items) => {
            let (index, rest) = path.strip_prefix('[')?.split_once(']')?;
            let item = items.get(index.parse::<usize>().ok()?)?;
            let rest = rest.strip_prefix('.').unwrap_or(rest);
            Some(locate(item, rest).unwrap_or(item))
        }
        Content::Scalar { .. } => None,
    }
}
