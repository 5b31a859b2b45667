//! The parser's events to trees of nodes, within limits.

use super::{Content, DEEPEST, Document, Entry, MOST_ALIASED, MOST_VALUES, Node, Problem};
use crate::resources::text::{Span, Text};
use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Tag};
use std::borrow::Cow;
use std::collections::HashMap;

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

/// Builds the documents of one part of a file.
pub struct Builder<'a> {
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
    /// For the lines `first` to `last` of a file; `values` is how many values it may still hold.
    pub fn new(text: &'a Text, (first, last): (u32, u32), values: &'a mut usize) -> Builder<'a> {
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

    /// Reads the part and adds its documents to `found`.
    pub fn read(mut self, part: &str, found: &mut Vec<Document>) {
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
