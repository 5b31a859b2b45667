//! A file that is imported: what it says, where, and what is wrong with it.

use crate::resources::Diagnostic;
use crate::resources::check;
use crate::resources::decode;
use crate::resources::positions::{Positions, Step};
use crate::resources::shape;
use crate::resources::text::{Span, Text};
use crate::resources::yaml::{Content, Node, Problem};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use std::borrow::Cow;
use std::sync::Arc;

/// Keys whose values must not be seen, besides those of the services.
const SECRETS: [&str; 4] = [
    "session_passphrase",
    "cluster_password",
    "cluster_token",
    "trust_password",
];

fn is_secret(key: &str) -> bool {
    SECRETS.contains(&key) || crate::catalog::is_secret_anywhere(key)
}

/// A file as one tree.
pub struct Tree {
    /// The text.
    pub text: Arc<Text>,
    /// The one document.
    pub root: Node,
}

/// Reads a file that holds one document.
///
/// # Errors
/// It is no YAML, holds nothing, or more than one document.
pub fn tree(file: &str, bytes: &[u8]) -> Result<Tree, Vec<Diagnostic>> {
    let bytes = indented_certificate(bytes);
    let (text, documents) =
        decode::parse(file, &bytes, is_secret).map_err(|broken| broken.diagnostics)?;
    let mut documents = documents.into_iter();
    let Some(document) = documents.next() else {
        return Err(decode::whole_file(file, "the file holds nothing").diagnostics);
    };
    if !document.problems.is_empty() {
        return Err(decode::diagnostics(&text, document.problems));
    }
    if let Some(second) = documents.next() {
        let span = second.root.map(|root| root.span).unwrap_or_default();
        let message = "a preseed is one document, and this is a second one";
        let help = "import each from a file of its own".to_owned();
        return Err(vec![text.diagnostic(span, message, Some(help))]);
    }
    let Some(root) = document.root else {
        return Err(decode::whole_file(file, "the file holds nothing").diagnostics);
    };
    match &root.content {
        Content::Mapping(_) => Ok(Tree { text, root }),
        _ => {
            let message = "a preseed is a mapping of keys";
            Err(vec![text.diagnostic(root.span, message, None)])
        }
    }
}

/// LXD's documentation writes `cluster_certificate: "…` with lines that are not indented, which its
/// own reader takes and YAML does not allow: they are indented.
fn indented_certificate(bytes: &[u8]) -> Cow<'_, [u8]> {
    const KEY: &str = "cluster_certificate: \"";
    let Ok(text) = std::str::from_utf8(bytes) else {
        return Cow::Borrowed(bytes);
    };
    let mut inside = false;
    let mut lines = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        if inside && !line.starts_with(' ') {
            lines.push_str("    ");
        }
        lines.push_str(line);
        inside = match inside {
            true => !line.contains('"'),
            false => {
                let value = line.trim_start().strip_prefix(KEY);
                value.is_some_and(|value| !value.contains('"'))
            }
        };
    }
    match lines.len() == text.len() {
        true => Cow::Borrowed(bytes),
        false => Cow::Owned(lines.into_bytes()),
    }
}

/// What is found while a file is read.
pub struct Reader {
    /// Where the fields were written.
    pub positions: Positions,
    /// What is wrong.
    pub wrong: Vec<Diagnostic>,
    /// What is left out or will be otherwise.
    pub warnings: Vec<Diagnostic>,
}

impl Reader {
    /// Decodes a file: fields that a type does not have are errors, all of them at once.
    ///
    /// # Errors
    /// Everything that is wrong with its form.
    pub fn decode<T: DeserializeOwned + JsonSchema>(
        tree: Tree,
        name: &str,
    ) -> Result<(T, Reader), Vec<Diagnostic>> {
        let mut problems: Vec<Problem> = Vec::new();
        let shape = shape::of_type::<T>();
        let at = Span {
            length: 1,
            ..tree.root.span
        };
        let value = check::fields(&tree.root, &shape, name, at, &mut problems);
        if !problems.is_empty() {
            return Err(decode::diagnostics(&tree.text, problems));
        }
        let positions = Positions::new(tree.text.clone(), tree.root);
        let decoded = serde_path_to_error::deserialize(value).map_err(|error| {
            let (line, column) = positions.locate(&error.path().to_string());
            let span = Span {
                line: line as u32,
                column: column as u32,
                length: 1,
            };
            vec![
                tree.text
                    .diagnostic(span, error.into_inner().to_string(), None),
            ]
        })?;
        let reader = Reader {
            positions,
            wrong: Vec::new(),
            warnings: Vec::new(),
        };
        Ok((decoded, reader))
    }

    /// Where the value at a path was written.
    pub fn at(&self, path: &[Step<'_>]) -> Span {
        self.positions.span(path)
    }

    /// Reports the value at a path.
    pub fn wrong(&mut self, path: &[Step<'_>], message: impl Into<String>, help: &str) {
        let mut diagnostic = self.positions.value(path, message);
        diagnostic.help = (!help.is_empty()).then(|| help.to_owned());
        self.wrong.push(diagnostic);
    }

    /// Reports the key at the end of a path.
    pub fn wrong_key(&mut self, path: &[Step<'_>], message: impl Into<String>, help: &str) {
        let mut diagnostic = self.positions.key(path, message);
        diagnostic.help = (!help.is_empty()).then(|| help.to_owned());
        self.wrong.push(diagnostic);
    }

    /// Tells of the key at the end of a path that it is left out, or will be otherwise.
    pub fn warn(&mut self, path: &[Step<'_>], message: impl Into<String>, help: &str) {
        let mut diagnostic = self.positions.key(path, message);
        diagnostic.help = (!help.is_empty()).then(|| help.to_owned());
        self.warnings.push(diagnostic);
    }
}
