//! The pages `docs/kinds/*.md`, generated from the types and the examples.

use super::examples;
use super::object::Kind;
use super::shape::{self, Field, Shape};
use std::collections::BTreeMap;
use std::fmt::Write;

/// The pages: file name and content, one per kind.
pub fn files() -> Vec<(String, String)> {
    Kind::ALL
        .into_iter()
        .map(|kind| (format!("{}.md", kind.as_str().to_lowercase()), page(kind)))
        .collect()
}

fn page(kind: Kind) -> String {
    let mut text = format!(
        "<!-- Generated from the types: `microcloud explain --write docs/kinds`. -->\n\n# {kind}\n\n{}\n\n\
         ## Example\n\n```yaml\n{}```\n\n## Fields of `spec`\n\n\
         | field | type | meaning |\n|---|---|---|\n",
        kind.summary(),
        examples::of_kind(kind)
    );
    if let Some(Field {
        shape: Shape::Fields(fields),
        ..
    }) = shape::of_kind(kind).get("spec")
    {
        rows(fields, "", &mut text);
    }
    text
}

fn rows(fields: &BTreeMap<String, Field>, above: &str, text: &mut String) {
    for (name, field) in fields {
        let path = format!("{above}{name}");
        let mut meaning = field.description.clone();
        if field.required {
            meaning.push_str(" Must be given.");
        }
        if let Some(default) = &field.default {
            let default = default
                .as_str()
                .map_or_else(|| default.to_string(), str::to_owned);
            let _ = write!(meaning, " Default: `{default}`.");
        }
        if let Shape::Choice { words, fields } = &field.shape {
            for (word, what) in words {
                let _ = write!(meaning, "<br>`{word}`: {what}");
            }
            for (name, field) in fields {
                let _ = write!(meaning, "<br>`{name}`: {}", field.description);
            }
        }
        let kind = field.shape.type_name();
        let cell = |text: &str| text.replace('|', "\\|");
        let _ = writeln!(text, "| `{path}` | {} | {} |", cell(&kind), cell(&meaning));
        match &field.shape {
            Shape::Fields(inner) => rows(inner, &format!("{path}."), text),
            Shape::Map(inner) => {
                if let Shape::Fields(inner) = &**inner {
                    rows(inner, &format!("{path}.NAME."), text);
                }
            }
            Shape::List(inner) => {
                if let Shape::Fields(inner) = &**inner {
                    rows(inner, &format!("{path}[]."), text);
                }
            }
            _ => {}
        }
    }
}
