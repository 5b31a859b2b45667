//! The check of a document against its kind: everything that is wrong at once, and the JSON value
//! that serde decodes.

use super::shape::{Field, Format, Shape};
use super::text::Span;
use super::yaml::{Content, Entry, Meaning, Node, Problem};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// How many problems of one document are looked for.
const ENOUGH: usize = 1000;

/// Checks a mapping against its fields. `name` is what messages call it, such as `spec`; `at` is
/// where a missing field is shown.
///
/// The value is complete only when there are no problems.
pub fn fields(
    node: &Node,
    fields: &BTreeMap<String, Field>,
    name: &str,
    at: Span,
    problems: &mut Vec<Problem>,
) -> Value {
    let Content::Mapping(entries) = &node.content else {
        if !node.is_nothing() {
            problems.push(wrong_type(node, name, "a mapping"));
        } else {
            missing(&[], &[], fields, name, at, problems);
        }
        return Value::Null;
    };
    let mut object = Map::new();
    // A field whose name has a slip in it is there, and not missing as well.
    let mut meant: Vec<&str> = Vec::new();
    for entry in entries {
        // Nobody reads more; finding what was meant is the expensive part.
        if problems.len() >= ENOUGH {
            return Value::Null;
        }
        let Some(field) = fields.get(&entry.key) else {
            let (problem, near) = unknown_field(entry, fields, name);
            problems.push(problem);
            meant.extend(near);
            continue;
        };
        // A field that is left empty is a field that is left out.
        if entry.value.is_nothing() {
            if field.required && !matches!(field.shape, Shape::Fields(_)) {
                let message = format!("`{}` has no value", entry.key);
                problems.push(Problem::new(entry.key_span, message).with_help(wanted(field)));
            } else if let Shape::Fields(inner) = &field.shape
                && field.required
            {
                missing(&[], &[], inner, &entry.key, entry.key_span, problems);
            }
            continue;
        }
        let value = value(
            &entry.value,
            &field.shape,
            &entry.key,
            entry.key_span,
            problems,
        );
        object.insert(entry.key.clone(), value);
    }
    missing(entries, &meant, fields, name, at, problems);
    Value::Object(object)
}

/// Checks one value; `name` is its key.
fn value(node: &Node, shape: &Shape, name: &str, key: Span, problems: &mut Vec<Problem>) -> Value {
    match shape {
        Shape::Fields(inner) => fields(node, inner, name, key, problems),
        Shape::Map(inner) => map(node, inner, name, problems),
        Shape::List(inner) => list(node, inner, name, key, problems),
        Shape::Config => config(node, name, problems),
        Shape::Choice { words, fields } => choice(node, words, fields, name, problems),
        Shape::Bool => match node.meaning() {
            Some(Meaning::Bool(value)) => Value::Bool(value),
            _ => {
                let mut problem = wrong_type(node, name, shape.expected());
                problem.help = boolean_help(node);
                problems.push(problem);
                Value::Null
            }
        },
        Shape::Integer { least, most } => integer(node, *least, *most, name, problems),
        Shape::Text(format) => text(node, *format, name, problems),
    }
}

fn map(node: &Node, inner: &Shape, name: &str, problems: &mut Vec<Problem>) -> Value {
    let Content::Mapping(entries) = &node.content else {
        problems.push(wrong_type(node, name, "a mapping"));
        return Value::Null;
    };
    let mut object = Map::new();
    for entry in entries {
        if entry.value.is_nothing() {
            // An entry of a mapping of mappings may be empty: `micro01:` alone.
            if matches!(inner, Shape::Fields(_) | Shape::Map(_)) {
                object.insert(entry.key.clone(), Value::Object(Map::new()));
            } else {
                let message = format!("`{}` has no value", entry.key);
                problems.push(
                    Problem::new(entry.key_span, message)
                        .with_help("remove the key, or write \"\" for empty text"),
                );
            }
            continue;
        }
        if matches!(inner, Shape::Config)
            && let Content::Mapping(below) = &entry.value.content
            && !below
                .iter()
                .any(|e| nearest(&e.key, &["file", "credential"]).is_some())
        {
            problems.push(nested(entry, below));
            continue;
        }
        let value = value(&entry.value, inner, &entry.key, entry.key_span, problems);
        object.insert(entry.key.clone(), value);
    }
    Value::Object(object)
}

/// `limits: {cpu: 2}` instead of `limits.cpu: 2`.
fn nested(entry: &Entry, below: &[Entry]) -> Problem {
    let problem = Problem::new(
        entry.key_span,
        format!(
            "`{}` must be text, a number, true or false, not a mapping",
            entry.key
        ),
    );
    match below.first() {
        Some(first) => problem.with_help(format!(
            "keys are written flat: `{}.{}: ...`",
            entry.key, first.key
        )),
        None => problem,
    }
}

fn list(node: &Node, inner: &Shape, name: &str, key: Span, problems: &mut Vec<Problem>) -> Value {
    let Content::Sequence(items) = &node.content else {
        let mut problem = wrong_type(node, name, "a list");
        if let Some(text) = node.text() {
            problem.help = Some(format!("write `{name}: [{text}]`"));
        }
        problems.push(problem);
        return Value::Null;
    };
    let value = |(place, item): (usize, &Node)| {
        let name = format!("{name}[{place}]");
        if item.is_nothing() {
            problems.push(Problem::new(item.span, format!("`{name}` has no value")));
            return Value::Null;
        }
        value(item, inner, &name, key, problems)
    };
    Value::Array(items.iter().enumerate().map(value).collect())
}

/// Keeps a scalar as it was written, so that `1.50` and `0x10` stay what they are.
fn config(node: &Node, name: &str, problems: &mut Vec<Problem>) -> Value {
    match &node.content {
        Content::Scalar { text, .. } => Value::String(text.clone()),
        Content::Sequence(_) => {
            problems.push(
                wrong_type(node, name, Shape::Config.expected())
                    .with_help("lists are written as one text, such as \"a,b\""),
            );
            Value::Null
        }
        Content::Mapping(entries) => {
            let mut object = Map::new();
            for entry in entries {
                match (entry.key.as_str(), entry.value.text()) {
                    ("file" | "credential", Some(text)) if !text.is_empty() => {
                        object.insert(entry.key.clone(), Value::String(text.to_owned()));
                    }
                    ("file" | "credential", _) => {
                        let message = format!("`{}` must be a name", entry.key);
                        problems.push(Problem::new(entry.value.span, message));
                    }
                    _ => {
                        let message = format!("unknown field `{}` in `{name}`", entry.key);
                        problems.push(
                            Problem::new(entry.key_span, message).with_help(
                                "a value is text, `{file: PATH}` or `{credential: NAME}`",
                            ),
                        );
                    }
                }
            }
            if entries
                .iter()
                .all(|e| matches!(e.key.as_str(), "file" | "credential"))
                && object.len() != 1
                && entries.len() != 1
            {
                let message = format!("`{name}` needs exactly one of `file` and `credential`");
                problems.push(Problem::new(node.span, message));
            }
            Value::Object(object)
        }
    }
}

fn choice(
    node: &Node,
    words: &[(String, String)],
    inner: &BTreeMap<String, Field>,
    name: &str,
    problems: &mut Vec<Problem>,
) -> Value {
    match &node.content {
        Content::Scalar { text, .. } => {
            if words.iter().any(|(word, _)| word == text) {
                return Value::String(text.clone());
            }
            let all: Vec<&str> = words.iter().map(|(word, _)| word.as_str()).collect();
            let message = format!("`{name}` cannot be `{text}`");
            let mut help = match nearest(text, &all) {
                Some(word) => format!("did you mean `{word}`?"),
                None if all.len() == 1 && inner.is_empty() => format!("write `{name}: {}`", all[0]),
                None => format!("one of {}", listed(&all)),
            };
            if let Some(field) = inner.keys().next()
                && !help.starts_with("did")
            {
                help.push_str(&format!(", or `{{{field}: NAME}}`"));
            }
            problems.push(Problem::new(node.span, message).with_help(help));
            Value::Null
        }
        Content::Mapping(entries) if !inner.is_empty() => {
            if entries.len() != 1 {
                let names: Vec<&str> = inner.keys().map(String::as_str).collect();
                let message = format!("`{name}` needs exactly one of {}", listed(&names));
                problems.push(Problem::new(node.span, message));
            }
            let optional = inner
                .iter()
                .map(|(key, field)| {
                    (
                        key.clone(),
                        Field {
                            required: false,
                            ..field.clone()
                        },
                    )
                })
                .collect();
            fields(node, &optional, name, node.span, problems)
        }
        _ => {
            let expected = if inner.is_empty() {
                "one word"
            } else {
                "one word or a mapping"
            };
            let all: Vec<&str> = words.iter().map(|(word, _)| word.as_str()).collect();
            problems.push(
                wrong_type(node, name, expected).with_help(format!("one of {}", listed(&all))),
            );
            Value::Null
        }
    }
}

fn integer(node: &Node, least: i128, most: i128, name: &str, problems: &mut Vec<Problem>) -> Value {
    match node.meaning() {
        Some(Meaning::Integer(number)) if (least..=most).contains(&number) => {
            // Bounds are those of 64-bit types, or narrower.
            u64::try_from(number)
                .map(Value::from)
                .or_else(|_| i64::try_from(number).map(Value::from))
                .unwrap_or(Value::Null)
        }
        Some(Meaning::Integer(number)) => {
            let message = format!("`{name}` must be between {least} and {most}, not {number}");
            problems.push(Problem::new(node.span, message));
            Value::Null
        }
        Some(Meaning::Text)
            if node
                .text()
                .is_some_and(|t| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit())) =>
        {
            problems.push(wrong_type(node, name, "an integer").with_help("remove the quotes"));
            Value::Null
        }
        _ => {
            problems.push(wrong_type(node, name, "an integer"));
            Value::Null
        }
    }
}

fn text(node: &Node, format: Format, name: &str, problems: &mut Vec<Problem>) -> Value {
    let Content::Scalar { text, .. } = &node.content else {
        problems.push(wrong_type(node, name, Shape::Text(format).expected()));
        return Value::Null;
    };
    let problem = match format {
        Format::Any if node.meaning() != Some(Meaning::Text) => {
            Some(wrong_type(node, name, "text").with_help(format!("put it in quotes: \"{text}\"")))
        }
        Format::Any => None,
        Format::Address => bad_address(node, text, name),
        Format::Subnet => bad_subnet(node, text, name),
        Format::Duration => humantime::parse_duration(text).err().map(|error| {
            Problem::new(node.span, format!("`{text}` is not a duration: {error}"))
                .with_help("write it like 90s, 5m or 1h 30m")
        }),
    };
    problems.extend(problem);
    Value::String(text.clone())
}

fn bad_address(node: &Node, text: &str, name: &str) -> Option<Problem> {
    if text.parse::<IpAddr>().is_ok() {
        return None;
    }
    let problem = Problem::new(node.span, format!("`{text}` is not an address"));
    Some(match text.split_once('/') {
        Some((address, _)) if address.parse::<IpAddr>().is_ok() => {
            problem.with_help(format!("`{name}` has no prefix length: write {address}"))
        }
        _ => problem.with_help("write an IPv4 or IPv6 address such as 192.0.2.1 or 2001:db8::1"),
    })
}

fn bad_subnet(node: &Node, text: &str, name: &str) -> Option<Problem> {
    if text.parse::<ipnet::IpNet>().is_ok() {
        return None;
    }
    let problem = Problem::new(
        node.span,
        format!("`{text}` is not an address with a prefix length"),
    );
    Some(match text.parse::<IpAddr>() {
        Ok(IpAddr::V4(_)) => problem.with_help(format!("`{name}` needs one, such as {text}/24")),
        Ok(IpAddr::V6(_)) => problem.with_help(format!("`{name}` needs one, such as {text}/64")),
        Err(_) => problem.with_help("write it like 192.0.2.0/24 or 2001:db8::/64"),
    })
}

/// Fields that must be given and are not.
fn missing(
    entries: &[Entry],
    meant: &[&str],
    fields: &BTreeMap<String, Field>,
    name: &str,
    at: Span,
    problems: &mut Vec<Problem>,
) {
    for (key, field) in fields {
        let given = entries.iter().any(|e| &e.key == key) || meant.contains(&key.as_str());
        if field.required && !given {
            let message = format!("`{key}` is missing in `{name}`");
            problems.push(Problem::new(at, message).with_help(wanted(field)));
        }
    }
}

fn wanted(field: &Field) -> String {
    let mut chars = field.description.trim_end_matches('.').chars();
    let first = chars
        .next()
        .map(|c| c.to_lowercase().to_string())
        .unwrap_or_default();
    format!("{first}{}", chars.as_str())
}

/// The problem, and the field that was probably meant.
fn unknown_field<'a>(
    entry: &Entry,
    fields: &'a BTreeMap<String, Field>,
    name: &str,
) -> (Problem, Option<&'a str>) {
    let names: Vec<&str> = fields.keys().map(String::as_str).collect();
    let problem = Problem::new(
        entry.key_span,
        format!("unknown field `{}` in `{name}`", entry.key),
    );
    let near = nearest(&entry.key, &names);
    let help = match near {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("its fields are {}", listed(&names)),
    };
    (problem.with_help(help), near)
}

fn wrong_type(node: &Node, name: &str, expected: &str) -> Problem {
    Problem::new(
        node.span,
        format!("`{name}` must be {expected}, not {}", found(node)),
    )
}

fn boolean_help(node: &Node) -> Option<String> {
    match node.text()?.to_ascii_lowercase().as_str() {
        "yes" | "on" | "y" | "1" | "true" => Some("write true".to_owned()),
        "no" | "off" | "n" | "0" | "false" => Some("write false".to_owned()),
        _ => None,
    }
}

/// What stands there, in words.
fn found(node: &Node) -> String {
    match &node.content {
        Content::Sequence(_) => "a list".to_owned(),
        Content::Mapping(_) => "a mapping".to_owned(),
        Content::Scalar { text, .. } => match node.meaning() {
            Some(Meaning::Nothing) => "nothing".to_owned(),
            Some(Meaning::Integer(_) | Meaning::Float(_)) => format!("the number {text}"),
            Some(Meaning::Bool(_)) => text.clone(),
            _ if text.chars().count() <= 40 && !text.contains('\n') => format!("the text `{text}`"),
            _ => "text".to_owned(),
        },
    }
}

/// The word that was probably meant.
pub fn nearest<'a>(word: &str, words: &[&'a str]) -> Option<&'a str> {
    let lower = word.to_lowercase();
    if lower.chars().count() > 64 {
        return None;
    }
    words
        .iter()
        .map(|&candidate| {
            (
                strsim::damerau_levenshtein(&lower, &candidate.to_lowercase()),
                candidate,
            )
        })
        .filter(|(distance, candidate)| {
            *distance <= (candidate.chars().count().max(lower.chars().count()) / 3).max(1)
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Words in a row: `a`, `b` and `c`.
pub fn listed(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|w| format!("`{w}`")).collect();
    match quoted.split_last() {
        None => "none".to_owned(),
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} and {last}", rest.join(", ")),
    }
}
