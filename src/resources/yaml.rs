//! YAML (and JSON, which is YAML) to trees of nodes that know where they were written.
//!
//! A file is cut at its document markers first, so that one document with a syntax error does not
//! hide the others.

use super::text::{Span, Text};
use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Tag};
use std::borrow::Cow;
use std::collections::HashMap;

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
    pub(super) fn new(span: Span, message: impl Into<String>) -> Problem {
        Problem {
            span,
            message: message.into(),
            help: None,
        }
    }

    pub(super) fn with_help(mut self, help: impl Into<String>) -> Problem {
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

/// A list or mapping that is still open.
struct Open {
    span: Span,
    anchor: usize,
    content: Content,
    /// The key that waits for its value.
    key: Option<(String, Span)>,
    /// Keys already seen, with their lines.
    seen: HashMap<String, u32>,
    /// Keys that a merge brought, with their places among the entries.
    merged: HashMap<String, usize>,
}

struct Builder<'a> {
    text: &'a Text,
    /// The first and the last line of the part in the file.
    first: u32,
    last: u32,
    values: &'a mut usize,
    aliased: usize,
    anchors: HashMap<usize, Node>,
    open: Vec<Open>,
    root: Option<Node>,
    problems: Vec<Problem>,
    /// Set when reading cannot go on.
    stopped: bool,
}

impl<'a> Builder<'a> {
    fn new(text: &'a Text, (first, last): (u32, u32), values: &'a mut usize) -> Builder<'a> {
        Builder {
            text,
            first,
            last,
            values,
            aliased: 0,
            anchors: HashMap::new(),
            open: Vec::new(),
            root: None,
            problems: Vec::new(),
            stopped: false,
        }
    }

    fn read(mut self, part: &str, found: &mut Vec<Document>) {
        let mut parser = Parser::new_from_str(part);
        loop {
            match parser.next_event() {
                None => break,
                Some(Err(error)) => {
                    let span = self.place(*error.marker());
                    self.problems
                        .push(syntax_problem(self.text, span, error.info()));
                    self.stopped = true;
                }
                Some(Ok((event, span))) => {
                    if matches!(event, Event::DocumentEnd) {
                        self.finish(found);
                    } else {
                        self.take(event, span);
                    }
                }
            }
            if self.stopped {
                self.finish(found);
                break;
            }
        }
    }

    /// Closes what is open, as far as it was read, and hands the document over.
    fn finish(&mut self, found: &mut Vec<Document>) {
        while let Some(open) = self.open.pop() {
            self.close(open);
        }
        let root = self.root.take();
        let problems = std::mem::take(&mut self.problems);
        self.aliased = 0;
        self.anchors.clear();
        if root.as_ref().is_some_and(|r| !r.is_nothing()) || !problems.is_empty() {
            found.push(Document {
                root,
                problems,
                complete: !self.stopped,
            });
        }
    }

    fn take(&mut self, event: Event<'_>, span: saphyr_parser::Span) {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let span = self.scalar_span(span, style);
                let plain = self.is_plain(style, tag.as_deref(), span);
                let node = Node {
                    span,
                    content: Content::Scalar {
                        text: text.into_owned(),
                        plain,
                    },
                };
                self.add(node, anchor);
            }
            Event::SequenceStart(anchor, tag) => {
                self.collection(Content::Sequence(Vec::new()), anchor, tag, span);
            }
            Event::MappingStart(anchor, tag) => {
                self.collection(Content::Mapping(Vec::new()), anchor, tag, span);
            }
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some(open) = self.open.pop() {
                    self.close(open);
                }
            }
            Event::Alias(id) => self.alias(id, span),
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd => {}
        }
    }

    fn is_plain(&mut self, style: ScalarStyle, tag: Option<&Tag>, span: Span) -> bool {
        match tag {
            None => style == ScalarStyle::Plain,
            Some(tag) if tag.is_yaml_core_schema() => {
                tag.suffix != "str" && (style == ScalarStyle::Plain || tag.suffix != "null")
            }
            Some(tag) if tag.handle.is_empty() && tag.suffix == "!" => false,
            Some(_) => {
                self.refuse_tag(span);
                style == ScalarStyle::Plain
            }
        }
    }

    fn refuse_tag(&mut self, span: Span) {
        self.problems.push(
            Problem::new(span, "tags of one's own (`!name`) mean nothing here").with_help(
                "remove the tag; a secret is written as {file: PATH} or {credential: NAME}",
            ),
        );
    }

    fn collection(
        &mut self,
        content: Content,
        anchor: usize,
        tag: Option<Cow<'_, Tag>>,
        span: saphyr_parser::Span,
    ) {
        let span = self.line_span(span);
        if tag.is_some_and(|t| !t.is_yaml_core_schema()) {
            self.refuse_tag(span);
        }
        if self.open.len() >= DEEPEST {
            self.stop(span, format!("nested deeper than {DEEPEST} levels"));
            return;
        }
        if let Some(parent) = self.open.last()
            && matches!(parent.content, Content::Mapping(_))
            && parent.key.is_none()
        {
            self.stop(
                span,
                "a key must be plain text, not a list or a mapping".to_owned(),
            );
            return;
        }
        self.open.push(Open {
            span,
            anchor,
            content,
            key: None,
            seen: HashMap::new(),
            merged: HashMap::new(),
        });
    }

    fn close(&mut self, mut open: Open) {
        // Only after a syntax error: a key whose value was never reached.
        open.key = None;
        let node = Node {
            span: open.span,
            content: open.content,
        };
        self.add(node, open.anchor);
    }

    fn alias(&mut self, id: usize, span: saphyr_parser::Span) {
        let span = self.line_span(span);
        let Some(node) = self.anchors.get(&id).cloned() else {
            // The parser refuses unknown names itself: this one is still being written.
            self.stop(span, "an alias inside the value it stands for".to_owned());
            return;
        };
        self.aliased += node.size();
        if self.aliased > MOST_ALIASED {
            let message =
                format!("aliases of this document repeat more than {MOST_ALIASED} values");
            self.stop(span, message);
            return;
        }
        self.add(node, 0);
    }

    /// Puts a finished value where it belongs.
    fn add(&mut self, node: Node, anchor: usize) {
        if anchor != 0 {
            // Anchored values count as repeated once: they are kept twice.
            self.aliased += node.size();
            self.anchors.insert(anchor, node.clone());
        }
        if *self.values == 0 {
            self.stop(
                node.span,
                format!("more than {MOST_VALUES} values in one file"),
            );
            return;
        }
        *self.values -= 1;
        let Some(parent) = self.open.last_mut() else {
            self.root = Some(node);
            return;
        };
        match &mut parent.content {
            Content::Sequence(items) => items.push(node),
            Content::Mapping(entries) => match parent.key.take() {
                None => match node.content {
                    Content::Scalar { text, .. } => parent.key = Some((text, node.span)),
                    _ => {
                        let message = "a key must be plain text, not a list or a mapping";
                        self.stop(node.span, message.to_owned());
                    }
                },
                Some((key, key_span)) => {
                    if key == "<<" {
                        let problem = merge(entries, &parent.seen, &mut parent.merged, node);
                        self.problems.extend(problem);
                        return;
                    }
                    if let Some(first) = parent.seen.get(&key) {
                        self.problems.push(
                            Problem::new(key_span, format!("`{key}` is given twice")).with_help(
                                format!("the first one is on line {first}; remove one of them"),
                            ),
                        );
                        return;
                    }
                    parent.seen.insert(key.clone(), key_span.line);
                    // What a merge brought gives way to what is written here.
                    let merged = parent.merged.remove(&key);
                    let entry = Entry {
                        key,
                        key_span,
                        value: node,
                    };
                    match merged.and_then(|at| entries.get_mut(at)) {
                        Some(place) => *place = entry,
                        None => entries.push(entry),
                    }
                }
            },
            Content::Scalar { .. } => {}
        }
    }

    fn stop(&mut self, span: Span, message: String) {
        if !self.stopped {
            self.problems.push(Problem::new(span, message));
        }
        self.stopped = true;
    }

    fn place(&self, marker: Marker) -> Span {
        let line = (marker.line() as u32).saturating_sub(1) + self.first;
        if line <= self.last {
            return Span {
                line,
                column: marker.col() as u32 + 1,
                length: 1,
            };
        }
        // What is missing at the end is shown behind the last thing that is there.
        let line = (self.first..=self.last)
            .rev()
            .find(|line| !self.text.line(*line).trim().is_empty())
            .unwrap_or(self.last);
        let width = self.text.line(line).trim_end().chars().count() as u32;
        Span {
            line,
            column: width + 1,
            length: 1,
        }
    }

    /// From the start of a value to its end, or to the end of the first line.
    fn line_span(&self, span: saphyr_parser::Span) -> Span {
        let mut place = self.place(span.start);
        place.length = if span.start.line() == span.end.line() {
            span.end.col().saturating_sub(span.start.col()).max(1) as u32
        } else {
            let width = self.text.line(place.line).trim_end().chars().count() as u32;
            (width + 1).saturating_sub(place.column).max(1)
        };
        place
    }

    fn scalar_span(&self, span: saphyr_parser::Span, style: ScalarStyle) -> Span {
        let mut place = self.line_span(span);
        if matches!(style, ScalarStyle::Literal | ScalarStyle::Folded) {
            place.length = 1;
        }
        place
    }
}

/// Adds the entries of a merge key's value that are not there yet.
fn merge(
    entries: &mut Vec<Entry>,
    seen: &HashMap<String, u32>,
    merged: &mut HashMap<String, usize>,
    node: Node,
) -> Option<Problem> {
    let problem = Problem::new(
        node.span,
        "`<<` merges a mapping or a list of mappings only",
    );
    let sources = match node.content {
        Content::Mapping(_) => vec![node],
        Content::Sequence(items) => items,
        Content::Scalar { .. } => return Some(problem),
    };
    for source in sources {
        let Content::Mapping(new) = source.content else {
            return Some(problem);
        };
        for entry in new {
            if !seen.contains_key(&entry.key) && !merged.contains_key(&entry.key) {
                merged.insert(entry.key.clone(), entries.len());
                entries.push(entry);
            }
        }
    }
    None
}

/// What the parser found, in the words of this program.
fn syntax_problem(text: &Text, span: Span, info: &str) -> Problem {
    let info = info.to_ascii_lowercase();
    // The parser's own limit, which it meets when it looks far ahead.
    if info.contains("recursion limit") {
        return Problem::new(span, format!("nested deeper than {DEEPEST} levels"));
    }
    let problem = Problem::new(span, format!("not YAML: {info}"));
    if text
        .line(span.line)
        .trim_start_matches(' ')
        .starts_with('\t')
    {
        return problem.with_help("YAML is indented with spaces, never with tabs");
    }
    problem
}
