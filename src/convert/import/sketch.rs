//! Resources in the making: trees whose values know where in the imported file they come from, so
//! that what is wrong with a resource is shown there.

use crate::resources::decode::{Located, decode_document};
use crate::resources::object::{API_VERSION, DEFAULT_PROJECT};
use crate::resources::source::Broken;
use crate::resources::text::{Span, Text};
use crate::resources::yaml::{Content, Document, Entry, Node};
use crate::resources::{Kind, SourceName};
use std::sync::Arc;

/// A resource in the making.
pub struct Sketch {
    /// The kind.
    pub kind: Kind,
    /// The name.
    pub name: String,
    /// What a person should know of it.
    pub notes: Vec<String>,
    project: Option<String>,
    at: Span,
    spec: Node,
}

impl Sketch {
    /// A resource that was written at this place.
    pub fn new(kind: Kind, name: impl Into<String>, at: Span) -> Sketch {
        Sketch {
            kind,
            name: name.into(),
            notes: Vec::new(),
            project: None,
            at,
            spec: mapping(at),
        }
    }

    /// Puts it in a project, unless that is the default one.
    pub fn in_project(mut self, project: Option<&str>) -> Sketch {
        self.project = project.filter(|p| *p != DEFAULT_PROJECT).map(str::to_owned);
        self
    }

    /// Adds a sentence a person should know.
    pub fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// Gives a field of `spec` its value; mappings on the way are made.
    pub fn set(&mut self, path: &[&str], value: Node) {
        put(&mut self.spec, path, value);
    }

    /// Gives a field of `spec` a text.
    pub fn text(&mut self, path: &[&str], text: impl Into<String>, at: Span) {
        self.set(path, scalar(text, at));
    }

    /// Gives a field of `spec` a word that is read as YAML reads it: a number, true or false.
    pub fn word(&mut self, path: &[&str], word: impl ToString, at: Span) {
        let content = Content::Scalar {
            text: word.to_string(),
            plain: true,
        };
        self.set(path, Node { span: at, content });
    }

    /// The resource, decoded as every document is.
    ///
    /// # Errors
    /// A value does not fit its field.
    pub fn decode(self, text: &Arc<Text>) -> Result<(Located, Vec<String>), Broken> {
        let at = self.at;
        let mut root = mapping(at);
        put(&mut root, &["apiVersion"], scalar(API_VERSION, at));
        put(&mut root, &["kind"], scalar(self.kind.as_str(), at));
        put(&mut root, &["metadata", "name"], scalar(self.name, at));
        if let Some(project) = self.project {
            put(&mut root, &["metadata", "project"], scalar(project, at));
        }
        put(&mut root, &["spec"], self.spec);
        let document = Document {
            root: Some(root),
            problems: Vec::new(),
            complete: true,
        };
        let located = decode_document(SourceName::Applied, text, document)?;
        Ok((located, self.notes))
    }
}

/// A text that was written at this place.
pub fn scalar(text: impl Into<String>, at: Span) -> Node {
    let content = Content::Scalar {
        text: text.into(),
        plain: false,
    };
    Node { span: at, content }
}

/// A list of texts.
pub fn list(items: impl IntoIterator<Item = String>, at: Span) -> Node {
    let items = items.into_iter().map(|item| scalar(item, at)).collect();
    Node {
        span: at,
        content: Content::Sequence(items),
    }
}

fn mapping(at: Span) -> Node {
    Node {
        span: at,
        content: Content::Mapping(Vec::new()),
    }
}

fn put(node: &mut Node, path: &[&str], value: Node) {
    let Content::Mapping(entries) = &mut node.content else {
        return;
    };
    let Some((key, rest)) = path.split_first() else {
        return;
    };
    let place = entries.iter().position(|e| e.key == *key);
    let place = place.unwrap_or_else(|| {
        entries.push(Entry {
            key: (*key).to_owned(),
            key_span: value.span,
            value: mapping(value.span),
        });
        entries.len() - 1
    });
    match rest {
        [] => entries[place].value = value,
        rest => put(&mut entries[place].value, rest, value),
    }
}
