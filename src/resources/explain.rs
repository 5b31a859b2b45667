//! What the fields of the kinds mean, in words, from the types themselves.

use super::check::{listed, nearest};
use super::object::{Kind, UnknownKind};
use super::shape::{self, Field, Shape};
use std::collections::BTreeMap;
use std::fmt::Write;

/// How wide descriptions are, in characters.
const WIDTH: usize = 78;

/// Why there is nothing to explain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NothingToExplain {
    /// The kind is not one.
    #[error(transparent)]
    Kind(#[from] UnknownKind),
    /// The kind has no such field.
    #[error("{place} has no field `{field}`; {help}")]
    Field {
        /// Where it was looked for.
        place: String,
        /// What was looked for.
        field: String,
        /// What there is.
        help: String,
    },
}

/// Explains a kind or a field of it: `Disk`, `Disk.use`, `uplink.spec.ipv4.ranges`. Fields of
/// `spec` may be named without it.
///
/// # Errors
/// The kind or the field is not one.
pub fn explain(path: &str) -> Result<String, NothingToExplain> {
    let mut words = path.split('.');
    let kind: Kind = words.next().unwrap_or_default().parse()?;
    let document = shape::of_kind(kind);
    let mut words: Vec<&str> = words.collect();
    let of_spec = words
        .first()
        .is_some_and(|first| !document.contains_key(*first));
    if words.is_empty() || of_spec {
        words.insert(0, "spec");
    }
    let mut text = format!("KIND:         {kind}\n");
    if words == ["spec"] && path.split('.').count() == 1 {
        let _ = write!(text, "\nDESCRIPTION:\n{}", wrapped(kind.summary(), 4));
        if let Shape::Fields(fields) = &document["spec"].shape {
            let _ = write!(text, "\nFIELDS of `spec`:\n{}", list(fields));
        }
        return Ok(text);
    }
    let (field, fields) = find(kind, document, &words)?;
    let _ = writeln!(
        text,
        "FIELD:        {} <{}>",
        words.join("."),
        field.shape.type_name()
    );
    let mut description = field.description.clone();
    if field.required {
        description.push_str(" It must be given.");
    }
    let _ = write!(text, "\nDESCRIPTION:\n{}", wrapped(&description, 4));
    if let Some(default) = &field.default {
        let _ = write!(text, "\nDEFAULT:      {}\n", shown(default));
    }
    if let Shape::Choice { words, .. } = innermost(&field.shape) {
        text.push_str("\nVALUES:\n");
        for (word, meaning) in words {
            let _ = write!(text, "    {word}\n{}", wrapped(meaning, 8));
        }
    }
    if let Some(fields) = fields {
        let _ = write!(text, "\nFIELDS:\n{}", list(fields));
    }
    Ok(text)
}

type Fields = BTreeMap<String, Field>;

fn find<'a>(
    kind: Kind,
    document: &'a Fields,
    words: &[&str],
) -> Result<(&'a Field, Option<&'a Fields>), NothingToExplain> {
    let mut place = kind.to_string();
    let mut fields = Some(document);
    let mut found = None;
    let mut words = words.iter().peekable();
    while let Some(word) = words.next() {
        let word = word.split('[').next().unwrap_or_default();
        let missing = |known: Vec<&str>| NothingToExplain::Field {
            place: place.clone(),
            field: word.to_owned(),
            help: match nearest(word, &known) {
                Some(near) => format!("did you mean `{near}`?"),
                None if known.is_empty() => "it has no fields".to_owned(),
                None => format!("its fields are {}", listed(&known)),
            },
        };
        let known = fields
            .map(|f| f.keys().map(String::as_str).collect())
            .unwrap_or_default();
        let field: &Field = fields
            .and_then(|f| f.get(word))
            .ok_or_else(|| missing(known))?;
        place = format!("{place}.{word}");
        // Below a mapping from any key the key itself may be named or left out.
        if let Shape::Map(inner) = &field.shape {
            fields = below(inner);
            let is_key = words
                .peek()
                .is_some_and(|next| fields.is_none_or(|f| !f.contains_key(**next)));
            if is_key && (fields.is_some() || words.len() == 1) {
                words.next();
            }
        } else {
            fields = below(&field.shape);
        }
        found = Some(field);
    }
    let field = found.unwrap_or(&document["spec"]);
    Ok((field, fields))
}

/// The fields below a value, through lists and mappings.
fn below(shape: &Shape) -> Option<&Fields> {
    match innermost(shape) {
        Shape::Fields(fields) => Some(fields),
        Shape::Choice { fields, .. } if !fields.is_empty() => Some(fields),
        _ => None,
    }
}

fn innermost(shape: &Shape) -> &Shape {
    match shape {
        Shape::List(inner) | Shape::Map(inner) => innermost(inner),
        other => other,
    }
}

fn list(fields: &Fields) -> String {
    let mut text = String::new();
    for (name, field) in fields {
        let required = if field.required {
            " (must be given)"
        } else {
            ""
        };
        let _ = writeln!(text, "    {name} <{}>{required}", field.shape.type_name());
        let mut description = field.description.clone();
        if let Some(default) = &field.default {
            let _ = write!(description, " Default: {}.", shown(default));
        }
        text.push_str(&wrapped(&description, 8));
    }
    text
}

fn shown(value: &serde_json::Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

/// Text in lines of at most [`WIDTH`] characters, indented.
fn wrapped(text: &str, indent: usize) -> String {
    let mut lines = String::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        if !line.is_empty() && indent + line.chars().count() + 1 + word.chars().count() > WIDTH {
            let _ = writeln!(lines, "{:indent$}{line}", "");
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    if !line.is_empty() {
        let _ = writeln!(lines, "{:indent$}{line}", "");
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_tells_its_type_default_and_values() {
        let text = explain("member.state").expect("a field");
        for part in [
            "KIND:         Member",
            "FIELD:        spec.state",
            "DEFAULT:      Active",
            "Evacuated",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn fields_are_found_below_lists_mappings_and_options() {
        for path in [
            "Uplink.ipv4.ranges",
            "Uplink.spec.ipv4.ranges[0]",
            "Pool.members.source",
            "StoragePool.members.micro01.source",
            "Disk.use.pool",
            "Profile.config.limits",
            "Cluster.metadata.name",
        ] {
            assert!(explain(path).is_ok(), "{path}: {:?}", explain(path));
        }
        assert!(
            explain("Uplink.ipv4")
                .expect("a field")
                .contains("ranges <[]string>")
        );
    }

    #[test]
    fn what_is_not_there_is_told_with_what_is_near() {
        assert_eq!(
            explain("Member.adress").expect_err("a slip").to_string(),
            "Member.spec has no field `adress`; did you mean `address`?"
        );
        assert!(explain("Instance").is_err());
        assert!(
            explain("Member.address.foo")
                .expect_err("a leaf")
                .to_string()
                .ends_with("it has no fields")
        );
    }

    #[test]
    fn every_field_has_a_description() {
        fn all(fields: &Fields, path: &str, lacking: &mut Vec<String>) {
            for (name, field) in fields {
                let path = format!("{path}.{name}");
                if field.description.is_empty() {
                    lacking.push(path.clone());
                }
                if let Some(fields) = below(&field.shape) {
                    all(fields, &path, lacking);
                }
            }
        }
        let mut lacking = Vec::new();
        for kind in Kind::ALL {
            all(shape::of_kind(kind), kind.as_str(), &mut lacking);
        }
        assert!(lacking.is_empty(), "{lacking:#?}");
    }
}
