//! The JSON Schemas of the kinds in the form the check of documents works with.

use super::object::Kind;
use super::schema::{self, format};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::LazyLock;

/// What a value must look like.
#[derive(Debug, Clone, PartialEq)]
pub enum Shape {
    /// Text.
    Text(Format),
    /// An integer between these, both included.
    Integer {
        /// The smallest.
        least: i128,
        /// The largest.
        most: i128,
    },
    /// A truth value.
    Bool,
    /// A list of these.
    List(Box<Shape>),
    /// A mapping from any key to these.
    Map(Box<Shape>),
    /// A mapping of known fields.
    Fields(BTreeMap<String, Field>),
    /// One of a few words, or a mapping with exactly one of a few fields.
    Choice {
        /// The words, with what they mean.
        words: Vec<(String, String)>,
        /// The fields.
        fields: BTreeMap<String, Field>,
    },
    /// A [`ConfigValue`](super::value::ConfigValue).
    Config,
}

/// What text must look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Like anything.
    Any,
    /// An IPv4 or IPv6 address.
    Address,
    /// An address with a prefix length.
    Subnet,
    /// A length of time.
    Duration,
}

/// One field of a mapping.
#[derive(Debug, Clone, PartialEq)]
pub struct Field {
    /// What its value must look like.
    pub shape: Shape,
    /// Whether it must be given.
    pub required: bool,
    /// What it means, in one sentence.
    pub description: String,
    /// The value when it is left out, if that is a fixed one.
    pub default: Option<Value>,
}

impl Shape {
    /// Words for what must stand there: `a list`, `an address`.
    pub fn expected(&self) -> &'static str {
        match self {
            Shape::Text(Format::Any) => "text",
            Shape::Text(Format::Address) => "an address",
            Shape::Text(Format::Subnet) => "an address with a prefix length",
            Shape::Text(Format::Duration) => "a duration",
            Shape::Integer { .. } => "an integer",
            Shape::Bool => "true or false",
            Shape::List(_) => "a list",
            Shape::Map(_) | Shape::Fields(_) => "a mapping",
            Shape::Choice { fields, .. } if fields.is_empty() => "one word",
            Shape::Choice { .. } => "one word or a mapping",
            Shape::Config => "text, a number, true or false",
        }
    }

    /// The name of the type as `explain` shows it: `[]string`, `map[string]value`.
    pub fn type_name(&self) -> String {
        match self {
            Shape::Text(Format::Any) => "string".to_owned(),
            Shape::Text(Format::Address) => "address".to_owned(),
            Shape::Text(Format::Subnet) => "subnet".to_owned(),
            Shape::Text(Format::Duration) => "duration".to_owned(),
            Shape::Integer { .. } => "integer".to_owned(),
            Shape::Bool => "boolean".to_owned(),
            Shape::List(item) => format!("[]{}", item.type_name()),
            Shape::Map(value) => format!("map[string]{}", value.type_name()),
            Shape::Fields(_) => "object".to_owned(),
            Shape::Choice { words, fields } => words
                .iter()
                .map(|(word, _)| word.clone())
                .chain(fields.keys().map(|key| format!("{{{key}: ...}}")))
                .collect::<Vec<_>>()
                .join(" | "),
            Shape::Config => "value".to_owned(),
        }
    }
}

/// The shape of whole documents of a kind.
pub fn of_kind(kind: Kind) -> &'static BTreeMap<String, Field> {
    static SHAPES: LazyLock<BTreeMap<Kind, BTreeMap<String, Field>>> = LazyLock::new(|| {
        Kind::ALL
            .into_iter()
            .map(|kind| {
                let schema = schema::of_kind(kind);
                (kind, fields(&schema, &schema))
            })
            .collect()
    });
    &SHAPES[&kind]
}

/// The shape of documents that are no resources: the fields of a type.
pub(crate) fn of_type<T: schemars::JsonSchema>() -> BTreeMap<String, Field> {
    let generator = schemars::generate::SchemaSettings::draft2020_12().into_generator();
    let schema = generator.into_root_schema_for::<T>().to_value();
    fields(&schema, &schema)
}

/// The fields of an object's schema.
fn fields(schema: &Value, root: &Value) -> BTreeMap<String, Field> {
    let required: Vec<&str> = schema["required"]
        .as_array()
        .map(|names| names.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default();
    let Some(properties) = schema["properties"].as_object() else {
        return BTreeMap::new();
    };
    properties
        .iter()
        .map(|(name, property)| {
            let field = Field {
                shape: shape(property, root),
                required: required.contains(&name.as_str()),
                description: description(property, root),
                default: property.get("default").cloned(),
            };
            (name.clone(), field)
        })
        .collect()
}

fn description(schema: &Value, root: &Value) -> String {
    schema["description"]
        .as_str()
        .or_else(|| definition(schema, root)?["description"].as_str())
        .unwrap_or_default()
        .replace('\n', " ")
}

/// What a `$ref` points to.
fn definition<'a>(schema: &Value, root: &'a Value) -> Option<&'a Value> {
    root["$defs"].get(schema["$ref"].as_str()?.strip_prefix("#/$defs/")?)
}

/// Reads one schema as schemars writes them. Schemas of any other form are taken as values that
/// serde decides about; a test sees to it that there are none.
fn shape(schema: &Value, root: &Value) -> Shape {
    if schema["$ref"] == "#/$defs/ConfigValue" {
        return Shape::Config;
    }
    if let Some(target) = definition(schema, root) {
        return shape(target, root);
    }
    // An `Option`: `null` is taken as left out everywhere, so only the other side matters.
    if let Some(sides) = schema["anyOf"].as_array() {
        return sides
            .iter()
            .find(|side| side["type"] != "null")
            .map_or(Shape::Config, |side| shape(side, root));
    }
    if let Some(variants) = schema["oneOf"].as_array() {
        let words = variants
            .iter()
            .filter_map(|v| Some((v["const"].as_str()?.to_owned(), description(v, root))))
            .collect();
        // The words of a variant are those of its one field.
        let fields = variants
            .iter()
            .flat_map(|variant| {
                let words = description(variant, root);
                fields(variant, root)
                    .into_iter()
                    .map(move |(name, mut field)| {
                        if field.description.is_empty() {
                            field.description.clone_from(&words);
                        }
                        (name, field)
                    })
            })
            .collect();
        return Shape::Choice { words, fields };
    }
    if let Some(word) = schema["const"].as_str() {
        return Shape::Choice {
            words: vec![(word.to_owned(), String::new())],
            fields: BTreeMap::new(),
        };
    }
    if let Some(words) = schema["enum"].as_array() {
        let words = words
            .iter()
            .filter_map(Value::as_str)
            .map(|w| (w.to_owned(), String::new()))
            .collect();
        return Shape::Choice {
            words,
            fields: BTreeMap::new(),
        };
    }
    let kind = match &schema["type"] {
        Value::Array(types) => types.iter().find(|t| *t != "null").unwrap_or(&Value::Null),
        other => other,
    };
    match kind.as_str().unwrap_or_default() {
        "string" => Shape::Text(match schema["format"].as_str().unwrap_or_default() {
            format::ADDRESS => Format::Address,
            format::SUBNET => Format::Subnet,
            format::DURATION => Format::Duration,
            _ => Format::Any,
        }),
        "integer" => {
            let (least, most) = match schema["format"].as_str() {
                Some("uint32") => (0, i128::from(u32::MAX)),
                Some("uint16") => (0, i128::from(u16::MAX)),
                Some("uint64") => (0, i128::from(u64::MAX)),
                _ => (i128::from(i64::MIN), i128::from(i64::MAX)),
            };
            Shape::Integer {
                least: schema["minimum"].as_i64().map_or(least, i128::from),
                most: schema["maximum"].as_i64().map_or(most, i128::from),
            }
        }
        "boolean" => Shape::Bool,
        "array" => Shape::List(Box::new(shape(&schema["items"], root))),
        "object" if schema["properties"].is_object() => Shape::Fields(fields(schema, root)),
        "object" => Shape::Map(Box::new(shape(&schema["additionalProperties"], root))),
        _ => Shape::Config,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Everything `shape` understands; a schema of another form would silently not be checked.
    fn understood(schema: &Value, path: &str, wrong: &mut Vec<String>) {
        if schema["$ref"].is_string() {
            return;
        }
        if let Some(sides) = schema["anyOf"].as_array() {
            let one = sides.iter().filter(|s| s["type"] != "null").count() == 1;
            if !one {
                wrong.push(format!("{path}: anyOf of several"));
            }
            sides.iter().for_each(|s| understood(s, path, wrong));
            return;
        }
        if let Some(variants) = schema["oneOf"].as_array() {
            variants.iter().for_each(|v| understood(v, path, wrong));
            return;
        }
        let known = match &schema["type"] {
            Value::String(t) => {
                ["string", "integer", "boolean", "array", "object", "null"].contains(&t.as_str())
            }
            Value::Array(types) => types.iter().filter(|t| *t != "null").count() == 1,
            _ => false,
        };
        if !known {
            wrong.push(format!("{path}: {schema}"));
        }
        if schema["type"] == "object" && !schema["properties"].is_object() {
            understood(&schema["additionalProperties"], &format!("{path}.*"), wrong);
        }
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            understood(property, &format!("{path}.{name}"), wrong);
        }
        if schema["type"] == "array" {
            understood(&schema["items"], &format!("{path}[]"), wrong);
        }
    }

    #[test]
    fn every_schema_of_every_kind_is_understood() {
        let mut wrong = Vec::new();
        for kind in Kind::ALL {
            let schema = schema::of_kind(kind);
            understood(&schema, kind.as_str(), &mut wrong);
            for (name, definition) in schema["$defs"].as_object().into_iter().flatten() {
                if name != "ConfigValue" {
                    understood(definition, name, &mut wrong);
                }
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    #[test]
    fn options_and_enums_are_seen_through() {
        let Shape::Fields(disk) = &of_kind(Kind::Disk)["spec"].shape else {
            panic!("no fields")
        };
        assert!(disk["use"].required && !disk["path"].required);
        let Shape::Choice { words, fields } = &disk["use"].shape else {
            panic!("no choice")
        };
        assert_eq!(
            (words[0].0.as_str(), fields.contains_key("pool")),
            ("ceph", true)
        );
        assert_eq!(
            disk["limit"].shape,
            Shape::Integer {
                least: 0,
                most: i128::from(u32::MAX)
            }
        );
        assert_eq!(
            disk["members"].shape,
            Shape::List(Box::new(Shape::Text(Format::Any)))
        );
    }
}
