//! Decoding of files: every document of a file becomes a resource that knows where its fields
//! were written, or the list of everything that is wrong with it.

use super::Diagnostic;
use super::check::{self, listed, nearest};
use super::kinds::*;
use super::object::{API_VERSION, Kind, Metadata, ObjectRef, Origin, SourceName};
use super::positions::{Positions, first_line};
use super::resource::{Resource, Spec};
use super::shape;
use super::source::Broken;
use super::text::{Span, Text};
use super::yaml::{self, Document, Node, Problem};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::sync::Arc;

/// The largest file that is read, in bytes.
pub const LARGEST_FILE: u64 = 10 * 1024 * 1024;

/// How many messages one document gives at most.
const MOST_DIAGNOSTICS: usize = 50;

/// A resource and where its fields were written.
#[derive(Debug, Clone)]
pub struct Located {
    /// The resource.
    pub resource: Resource,
    /// Where its fields were written.
    pub positions: Positions,
}

impl Located {
    /// A resource whose document is not at hand: messages name its file and first line.
    pub fn without_text(resource: Resource) -> Located {
        let positions = Positions::of_origin(&resource.origin);
        Located {
            resource,
            positions,
        }
    }
}

/// The documents of one file.
#[derive(Debug, Clone, Default)]
pub struct Decoded {
    /// Documents that decode, in the order of the file. They are not validated yet.
    pub resources: Vec<Located>,
    /// Documents that do not.
    pub broken: Vec<Broken>,
}

/// Decodes every document of a file. Never fails as a whole: what cannot be read is in
/// [`Decoded::broken`].
pub fn decode_file(source: SourceName, file: &str, bytes: &[u8]) -> Decoded {
    let mut decoded = Decoded::default();
    let (text, documents) = match parse(file, bytes, crate::catalog::is_secret_anywhere) {
        Ok(parsed) => parsed,
        Err(broken) => {
            decoded.broken.push(broken);
            return decoded;
        }
    };
    for document in documents {
        match decode_document(source, &text, document) {
            Ok(located) => decoded.resources.push(located),
            Err(broken) => decoded.broken.push(broken),
        }
    }
    decoded
}

/// The documents of a file as trees. The values of keys that are `secret` are kept out of every
/// message.
///
/// # Errors
/// The file as a whole cannot be read.
pub(crate) fn parse(
    file: &str,
    bytes: &[u8],
    secret: fn(&str) -> bool,
) -> Result<(Arc<Text>, Vec<Document>), Broken> {
    if bytes.len() as u64 > LARGEST_FILE {
        return Err(whole_file(file, too_large(bytes.len() as u64)));
    }
    let content = match std::str::from_utf8(bytes) {
        Ok(content) => content.strip_prefix('\u{feff}').unwrap_or(content),
        Err(error) => return Err(not_utf8(file, bytes, error.valid_up_to())),
    };
    let mut text = Text::new(file, content);
    let documents = yaml::documents(&text);
    let mut secrets = Vec::new();
    for root in documents.iter().filter_map(|d| d.root.as_ref()) {
        find_secrets(root, secret, &mut secrets);
    }
    text.hide(secrets);
    Ok((Arc::new(text), documents))
}

/// Where secrets are written in plain text. That is an error, which must not show them again; nor
/// must any other error on the same line.
fn find_secrets(node: &Node, secret: fn(&str) -> bool, found: &mut Vec<Span>) {
    match &node.content {
        yaml::Content::Scalar { .. } => {}
        yaml::Content::Sequence(items) => items
            .iter()
            .for_each(|item| find_secrets(item, secret, found)),
        yaml::Content::Mapping(entries) => {
            for entry in entries {
                match &entry.value.content {
                    yaml::Content::Scalar { .. } => {
                        if secret(&entry.key) {
                            found.push(entry.value.span);
                        }
                    }
                    _ => find_secrets(&entry.value, secret, found),
                }
            }
        }
    }
}

/// Why a file of this many bytes is not read.
pub(super) fn too_large(bytes: u64) -> String {
    format!(
        "the file has {:.1} MiB; at most {} MiB are read: split it",
        bytes as f64 / (1024.0 * 1024.0),
        LARGEST_FILE / (1024 * 1024)
    )
}

/// A file that cannot be read as a whole, for this reason.
pub(crate) fn whole_file(file: &str, message: impl Into<String>) -> Broken {
    let diagnostic = Diagnostic {
        file: file.to_owned(),
        line: 0,
        column: 0,
        length: 0,
        excerpt: String::new(),
        message: message.into(),
        help: None,
    };
    Broken {
        file: file.to_owned(),
        reference: None,
        diagnostics: vec![diagnostic],
    }
}

fn not_utf8(file: &str, bytes: &[u8], at: usize) -> Broken {
    let text = Text::new(file, String::from_utf8_lossy(bytes).into_owned());
    let before = String::from_utf8_lossy(&bytes[..at]);
    let line = before.matches('\n').count() as u32 + 1;
    let column = before
        .rsplit('\n')
        .next()
        .unwrap_or_default()
        .chars()
        .count() as u32
        + 1;
    let byte = bytes.get(at).copied().unwrap_or_default();
    let diagnostic = text.diagnostic(
        Span {
            line,
            column,
            length: 1,
        },
        format!("not UTF-8: the byte 0x{byte:02x}"),
        Some("save the file as UTF-8".to_owned()),
    );
    Broken {
        file: file.to_owned(),
        reference: None,
        diagnostics: vec![diagnostic],
    }
}

/// Decodes one document.
///
/// # Errors
/// It is no resource; everything that is wrong with it.
pub(crate) fn decode_document(
    source: SourceName,
    text: &Arc<Text>,
    document: Document,
) -> Result<Located, Broken> {
    let Document {
        root,
        mut problems,
        complete,
    } = document;
    let broken = |reference, problems: Vec<Problem>| Broken {
        file: text.file.clone(),
        reference,
        diagnostics: diagnostics(text, problems),
    };
    let Some(root) = root else {
        return Err(broken(None, problems));
    };
    let reference = reference(&root);
    // What was not reached cannot be told from what is missing.
    if !complete {
        return Err(broken(reference, problems));
    }
    let Some((kind, value)) = check_document(&root, &mut problems) else {
        return Err(broken(reference, problems));
    };
    if !problems.is_empty() {
        return Err(broken(reference, problems));
    }
    let line = first_line(&root) as usize;
    let origin = Origin {
        source,
        file: text.file.clone(),
        line,
    };
    match resource(kind, value, origin) {
        Ok(resource) => Ok(Located {
            resource,
            positions: Positions::new(text.clone(), root),
        }),
        Err((path, message)) => {
            let positions = Positions::new(text.clone(), root);
            let (line, column) = positions.locate(&path);
            let span = Span {
                line: line as u32,
                column: column as u32,
                length: 1,
            };
            let diagnostics = vec![text.diagnostic(span, message, None)];
            Err(Broken {
                file: text.file.clone(),
                reference,
                diagnostics,
            })
        }
    }
}

/// Problems with the lines they are on, in the order of the file.
pub(crate) fn diagnostics(text: &Text, mut problems: Vec<Problem>) -> Vec<Diagnostic> {
    problems.sort_by_key(|p| (p.span.line, p.span.column));
    let more = problems.len().saturating_sub(MOST_DIAGNOSTICS);
    problems.truncate(MOST_DIAGNOSTICS);
    let mut all: Vec<Diagnostic> = problems
        .into_iter()
        .map(|p| text.diagnostic(p.span, p.message, p.help))
        .collect();
    if more > 0
        && let Some(last) = all.last_mut()
    {
        last.message
            .push_str(&format!(" (and {more} more errors in this document)"));
    }
    all
}

/// What a document would be, as far as its header can be read.
fn reference(root: &Node) -> Option<ObjectRef> {
    let kind = word(root, "kind")?;
    let kind = Kind::ALL.into_iter().find(|k| k.as_str() == kind)?;
    let metadata = &root.get("metadata")?.value;
    let name = word(metadata, "name")?;
    match word(metadata, "project") {
        Some(project) if kind.in_project() => Some(ObjectRef::in_project(kind, project, name)),
        _ => Some(ObjectRef::new(kind, name)),
    }
}

fn word<'a>(node: &'a Node, key: &str) -> Option<&'a str> {
    node.get(key)?.value.text()
}

/// Header first, then the kind: what cannot be known without the kind is not guessed.
fn check_document(root: &Node, problems: &mut Vec<Problem>) -> Option<(Kind, Value)> {
    let at = Span {
        length: header_length(root),
        ..root.span
    };
    if !matches!(root.content, yaml::Content::Mapping(_)) {
        let found = match root.content {
            yaml::Content::Sequence(_) => "a list",
            _ => "text",
        };
        let mut problem = Problem::new(root.span, format!("{found} is no resource"));
        problem.help = Some(match root.content {
            yaml::Content::Sequence(_) => "documents are separated by a line of `---`".to_owned(),
            _ => "a resource is a mapping with `apiVersion`, `kind`, `metadata` and `spec`"
                .to_owned(),
        });
        problems.push(problem);
        return None;
    }
    let kinds: Vec<&str> = Kind::ALL.iter().map(|k| k.as_str()).collect();
    let Some(entry) = root.get("kind").filter(|e| !e.value.is_nothing()) else {
        check_version(root, problems);
        let similar = check_words(root, "kind");
        problems.push(
            Problem::new(at, "`kind` is missing").with_help(match similar {
                Some(key) => format!("`{key}` is written, did you mean `kind`?"),
                None => format!("kinds are {}", listed(&kinds)),
            }),
        );
        return None;
    };
    let Some(kind) = entry
        .value
        .text()
        .and_then(|t| Kind::ALL.into_iter().find(|k| k.as_str() == t))
    else {
        check_version(root, problems);
        let written = entry.value.text().unwrap_or("...");
        let message = match check_foreign(root) {
            true => format!("`{written}` is a kind of another program"),
            false => format!("no kind `{written}`"),
        };
        problems.push(
            Problem::new(entry.value.span, message).with_help(
                match nearest(written, &kinds)
                    .or_else(|| written.parse::<Kind>().ok().map(Kind::as_str))
                {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("kinds are {}", listed(&kinds)),
                },
            ),
        );
        return None;
    };
    let value = check::fields(root, shape::of_kind(kind), kind.as_str(), at, problems);
    Some((kind, value))
}

/// How long the first key is, to underline it.
fn header_length(root: &Node) -> u32 {
    match &root.content {
        yaml::Content::Mapping(entries) => entries.first().map_or(1, |e| e.key_span.length),
        _ => root.span.length,
    }
}

/// Checks `apiVersion` of a document whose kind is not known.
fn check_version(root: &Node, problems: &mut Vec<Problem>) {
    let Some(entry) = root.get("apiVersion") else {
        return;
    };
    if entry.value.text() != Some(API_VERSION) {
        let written = entry.value.text().unwrap_or_default();
        problems.push(
            Problem::new(
                entry.value.span,
                format!("`apiVersion` cannot be `{written}`"),
            )
            .with_help(format!("write `apiVersion: {API_VERSION}`")),
        );
    }
}

fn check_foreign(root: &Node) -> bool {
    word(root, "apiVersion").is_some_and(|v| !v.starts_with("microcloud"))
}

/// A key of the document that is nearly `wanted`.
fn check_words<'a>(root: &'a Node, wanted: &str) -> Option<&'a str> {
    match &root.content {
        yaml::Content::Mapping(entries) => {
            let keys: Vec<&str> = entries.iter().map(|e| e.key.as_str()).collect();
            nearest(wanted, &keys)
        }
        _ => None,
    }
}

/// Decodes a checked document. The error is the path of the field and what serde says: rules
/// that the check does not know.
fn resource(kind: Kind, value: Value, origin: Origin) -> Result<Resource, (String, String)> {
    let Value::Object(mut document) = value else {
        return Err((String::new(), "a resource is a mapping".to_owned()));
    };
    let metadata: Metadata = typed(document.remove("metadata"), "metadata")?;
    let spec = document.remove("spec");
    let spec = match kind {
        Kind::Cluster => Spec::Cluster(typed::<ClusterSpec>(spec, "spec")?),
        Kind::Member => Spec::Member(typed::<MemberSpec>(spec, "spec")?),
        Kind::Disk => Spec::Disk(typed::<DiskSpec>(spec, "spec")?),
        Kind::Uplink => Spec::Uplink(typed::<UplinkSpec>(spec, "spec")?),
        Kind::StoragePool => Spec::StoragePool(typed::<StoragePoolSpec>(spec, "spec")?),
        Kind::Project => Spec::Project(typed::<ProjectSpec>(spec, "spec")?),
        Kind::Network => Spec::Network(typed::<NetworkSpec>(spec, "spec")?),
        Kind::Profile => Spec::Profile(typed::<ProfileSpec>(spec, "spec")?),
    };
    Ok(Resource {
        metadata,
        spec,
        origin,
    })
}

fn typed<T: DeserializeOwned>(value: Option<Value>, name: &str) -> Result<T, (String, String)> {
    let value = value.unwrap_or_else(|| Value::Object(serde_json::Map::new()));
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error.path().to_string();
        let path = if path == "." {
            name.to_owned()
        } else {
            format!("{name}.{path}")
        };
        (path, error.into_inner().to_string())
    })
}

#[cfg(test)]
mod tests;
