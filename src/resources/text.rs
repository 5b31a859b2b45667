//! The text of a file and places in it.

use super::diagnostic::Diagnostic;
use std::borrow::Cow;

/// How much of a long line is kept left of the place that is wrong, in characters.
const LEFT_CONTEXT: usize = 60;

/// How much of a line is kept in a [`Diagnostic`], in characters.
const LONGEST_EXCERPT: usize = 240;

/// A stretch of one line: lines from 1, columns and lengths in characters, columns from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    /// The line, from 1; 0 stands for the file as a whole.
    pub line: u32,
    /// The column in characters, from 1.
    pub column: u32,
    /// The length in characters, at least 1.
    pub length: u32,
}

/// The text of one file, with the starts of its lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    /// The name the file has in messages.
    pub file: String,
    text: String,
    starts: Vec<usize>,
    /// Places that are never shown.
    hidden: Vec<Span>,
}

impl Text {
    /// A file of this name and content.
    pub fn new(file: impl Into<String>, text: impl Into<String>) -> Text {
        let text = text.into();
        // As YAML has it, a line ends with a line feed, a carriage return or both.
        let bytes = text.as_bytes();
        let ends = |at: usize| match bytes[at] {
            b'\n' => true,
            b'\r' => bytes.get(at + 1) != Some(&b'\n'),
            _ => false,
        };
        let starts = std::iter::once(0)
            .chain((0..bytes.len()).filter(|at| ends(*at)).map(|at| at + 1))
            .collect();
        Text {
            file: file.into(),
            text,
            starts,
            hidden: Vec::new(),
        }
    }

    /// Keeps these places out of every message: secrets that should not have been written down.
    pub fn hide(&mut self, places: impl IntoIterator<Item = Span>) {
        self.hidden.extend(places);
    }

    /// The whole content.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The number of lines; an empty file has one.
    pub fn lines(&self) -> usize {
        self.starts.len()
    }

    /// A line without its line break, from 1; empty when there is none of that number.
    pub fn line(&self, line: u32) -> &str {
        let Some(index) = (line as usize).checked_sub(1) else {
            return "";
        };
        let Some(&start) = self.starts.get(index) else {
            return "";
        };
        let end = self
            .starts
            .get(index + 1)
            .copied()
            .unwrap_or(self.text.len());
        self.text[start..end].trim_end_matches(['\n', '\r'])
    }

    /// The byte at which a line starts, from 1; the length of the text behind the last line.
    pub fn start_of(&self, line: u32) -> usize {
        (line as usize)
            .checked_sub(1)
            .and_then(|index| self.starts.get(index).copied())
            .unwrap_or(self.text.len())
    }

    /// A line with what is hidden made unreadable.
    fn shown_line(&self, line: u32) -> Cow<'_, str> {
        let text = self.line(line);
        let hidden: Vec<&Span> = self.hidden.iter().filter(|h| h.line == line).collect();
        if hidden.is_empty() {
            return Cow::Borrowed(text);
        }
        let covered = |at: u32| {
            hidden
                .iter()
                .any(|h| (h.column..h.column.saturating_add(h.length)).contains(&at))
        };
        (1..)
            .zip(text.chars())
            .map(|(at, c)| if covered(at) { '*' } else { c })
            .collect()
    }

    /// A message about a stretch of this file, with the line it is on.
    pub fn diagnostic(
        &self,
        span: Span,
        message: impl Into<String>,
        help: Option<String>,
    ) -> Diagnostic {
        let line = self.shown_line(span.line);
        let column = (span.column as usize).max(1);
        let (excerpt, shown) = excerpt(&line, column);
        let rest = excerpt.chars().count().saturating_sub(shown - 1).max(1);
        Diagnostic {
            file: self.file.clone(),
            line: span.line as usize,
            column,
            length: (span.length as usize).clamp(1, rest),
            excerpt,
            message: message.into(),
            help,
        }
    }
}

/// The part of a line that is worth showing, and the column of the place in it. A long line is
/// cut: the part begins with `…` when something is missing on its left.
fn excerpt(line: &str, column: usize) -> (String, usize) {
    // Bytes bound characters from above, so most lines need no counting.
    if line.len() <= LONGEST_EXCERPT {
        return (line.to_owned(), column);
    }
    if column <= LONGEST_EXCERPT / 2 {
        return (line.chars().take(LONGEST_EXCERPT).collect(), column);
    }
    let skipped = column - 1 - LEFT_CONTEXT;
    let cut: String = std::iter::once('…')
        .chain(line.chars().skip(skipped).take(LONGEST_EXCERPT))
        .collect();
    (cut, LEFT_CONTEXT + 2)
}

/// The column, from 1, of the place of a diagnostic inside its excerpt, which is cut when the line
/// is long.
pub(super) fn column_in_excerpt(diagnostic: &Diagnostic) -> usize {
    if diagnostic.excerpt.starts_with('…') && diagnostic.column > LONGEST_EXCERPT / 2 {
        LEFT_CONTEXT + 2
    } else {
        diagnostic.column
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_found_without_their_breaks() {
        let text = Text::new("a.yaml", "one\r\ntwo\r\n\rfour");
        assert_eq!(text.lines(), 4);
        assert_eq!(
            [
                text.line(0),
                text.line(1),
                text.line(2),
                text.line(3),
                text.line(4),
                text.line(5)
            ],
            ["", "one", "two", "", "four", ""]
        );
    }

    #[test]
    fn a_long_line_is_cut_around_the_place() {
        let line = format!("{}X{}", "é".repeat(5000), "b".repeat(5000));
        let text = Text::new("a.yaml", line);
        let found = text.diagnostic(
            Span {
                line: 1,
                column: 5001,
                length: 1,
            },
            "wrong",
            None,
        );
        assert!(found.excerpt.chars().count() <= LONGEST_EXCERPT + 1);
        let at = column_in_excerpt(&found);
        assert_eq!(found.excerpt.chars().nth(at - 1), Some('X'));
    }

    #[test]
    fn a_length_never_leaves_the_line() {
        let text = Text::new("a.yaml", "abc: def\nnext");
        let found = text.diagnostic(
            Span {
                line: 1,
                column: 6,
                length: 400,
            },
            "wrong",
            None,
        );
        assert_eq!(found.length, 3);
    }
}
