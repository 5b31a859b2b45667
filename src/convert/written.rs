//! Resources as files: YAML documents with comments where something needs a person.

use crate::resources::shape::{self, Shape};
use crate::resources::{Kind, Resource};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// A resource that is written to a file, with what a person should know of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Document {
    /// The resource.
    pub resource: Resource,
    /// Lines of comment above it.
    pub notes: Vec<String>,
}

/// The file a kind is written to.
fn file_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Cluster => "cluster.yaml",
        Kind::Member => "members.yaml",
        Kind::Disk => "disks.yaml",
        Kind::Uplink | Kind::Network => "networks.yaml",
        Kind::StoragePool => "storage.yaml",
        Kind::Project => "projects.yaml",
        Kind::Profile => "profiles.yaml",
    }
}

/// The documents by file, in the order in which a cluster is formed.
///
/// # Errors
/// A value cannot be written as YAML.
pub fn files(documents: &[Document]) -> Result<Vec<(&'static str, String)>, serde_yaml::Error> {
    let mut files: Vec<(&'static str, String)> = Vec::new();
    for (kind, document) in in_order(documents) {
        let text = one(document)?;
        match files.iter_mut().find(|(name, _)| *name == file_of(kind)) {
            Some((_, content)) => {
                content.push_str("---\n");
                content.push_str(&text);
            }
            None => files.push((file_of(kind), text)),
        }
    }
    Ok(files)
}

/// All documents as one text, in the order in which a cluster is formed.
///
/// # Errors
/// A value cannot be written as YAML.
pub fn text(documents: &[Document]) -> Result<String, serde_yaml::Error> {
    let texts: Result<Vec<String>, _> = in_order(documents)
        .into_iter()
        .map(|(_, document)| one(document))
        .collect();
    Ok(texts?.join("---\n"))
}

fn in_order(documents: &[Document]) -> Vec<(Kind, &Document)> {
    let mut ordered: Vec<(Kind, &Document)> =
        documents.iter().map(|d| (d.resource.kind(), d)).collect();
    ordered.sort_by_key(|(kind, _)| *kind);
    ordered
}

/// One document, with its comments above it.
fn one(document: &Document) -> Result<String, serde_yaml::Error> {
    let mut text = String::new();
    for line in document.notes.iter().flat_map(|note| wrapped(note)) {
        text.push_str("# ");
        text.push_str(&line);
        text.push('\n');
    }
    let mut content = document.resource.document();
    without_defaults(document.resource.kind(), &mut content);
    text.push_str(&yaml(&content)?);
    Ok(text)
}

/// Leaves out what need not be written.
fn without_defaults(kind: Kind, document: &mut Value) {
    let Some(Shape::Fields(fields)) = shape::of_kind(kind).get("spec").map(|f| &f.shape) else {
        return;
    };
    if let Some(spec) = document["spec"].as_object_mut() {
        spec.retain(|key, value| {
            let default = fields.get(key).and_then(|field| field.default.as_ref());
            default != Some(value)
        });
    }
}

/// A document as YAML, in the order in which people write it.
///
/// # Errors
/// A value cannot be written as YAML.
pub fn yaml(document: &Value) -> Result<String, serde_yaml::Error> {
    const ORDER: [&str; 5] = ["apiVersion", "kind", "metadata", "spec", "status"];
    let mut text = String::new();
    for key in ORDER {
        if let Some(value) = document.get(key) {
            let field: BTreeMap<&str, &Value> = [(key, value)].into();
            text.push_str(&serde_yaml::to_string(&field)?);
        }
    }
    Ok(text)
}

/// A sentence in lines of at most 96 characters, which leaves room for the mark of a comment.
fn wrapped(note: &str) -> Vec<String> {
    const WIDTH: usize = 96;
    let mut lines = vec![String::new()];
    for word in note.split_whitespace() {
        let line = lines.last_mut().expect("there is always one line");
        if line.is_empty() {
            line.push_str(word);
        } else if line.chars().count() + 1 + word.chars().count() <= WIDTH {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_note_is_wrapped_between_words() {
        let note = "word ".repeat(60);
        let lines = wrapped(&note);
        assert!(lines.len() > 1 && lines.iter().all(|l| l.len() <= 96));
        assert_eq!(lines.join(" "), note.trim());
    }
}
