//! The JSON Schemas of the kinds, generated from their types: for editors, for `explain` and for
//! the check of every document.

use super::kinds::*;
use super::object::{API_VERSION, Kind, Metadata};
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};
use std::borrow::Cow;

/// Formats of text that the check knows besides the schema's own rules.
pub(super) mod format {
    /// An IPv4 or IPv6 address.
    pub const ADDRESS: &str = "ip";
    /// An address with a prefix length.
    pub const SUBNET: &str = "cidr";
    /// A length of time such as `90s`.
    pub const DURATION: &str = "microcloud-duration";
}

/// Schema of a field that holds an address.
pub(crate) struct Address;

impl JsonSchema for Address {
    fn schema_name() -> Cow<'static, str> {
        "Address".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({ "type": "string", "format": format::ADDRESS })
    }
}

/// Schema of a field that holds an address with a prefix length.
pub(crate) struct Subnet;

impl JsonSchema for Subnet {
    fn schema_name() -> Cow<'static, str> {
        "Subnet".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({ "type": "string", "format": format::SUBNET })
    }
}

/// The JSON Schema (draft 2020-12) of whole documents of one kind.
pub fn of_kind(kind: Kind) -> Value {
    let mut generator = SchemaSettings::draft2020_12().into_generator();
    let mut schema = document(kind, &mut generator);
    let definitions = generator.take_definitions(true);
    schema.insert(
        "$schema".to_owned(),
        json!("https://json-schema.org/draft/2020-12/schema"),
    );
    schema.insert("$defs".to_owned(), Value::Object(definitions));
    Value::Object(schema)
}

/// The JSON Schema of documents of any kind.
pub fn of_all() -> Value {
    let mut generator = SchemaSettings::draft2020_12().into_generator();
    let documents: Vec<Value> = Kind::ALL
        .into_iter()
        .map(|kind| Value::Object(document(kind, &mut generator)))
        .collect();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "microcloud",
        "description": "A resource of any kind.",
        "oneOf": documents,
        "$defs": generator.take_definitions(true),
    })
}

/// The files of `manifests/schemas`: name and content, one per kind and `all.json`.
pub fn files() -> Vec<(String, String)> {
    let pretty = |value: &Value| format!("{value:#}\n");
    Kind::ALL
        .into_iter()
        .map(|kind| {
            (
                format!("{}.json", kind.as_str().to_lowercase()),
                pretty(&of_kind(kind)),
            )
        })
        .chain([("all.json".to_owned(), pretty(&of_all()))])
        .collect()
}

fn document(kind: Kind, generator: &mut SchemaGenerator) -> Map<String, Value> {
    let spec = spec(kind, generator);
    let resolved = generator
        .definitions()
        .get(
            spec.get("$ref")
                .and_then(Value::as_str)
                .unwrap_or_default()
                .trim_start_matches("#/$defs/"),
        )
        .cloned()
        .unwrap_or(Value::Null);
    let needs_spec = resolved
        .get("required")
        .and_then(Value::as_array)
        .is_some_and(|r| !r.is_empty());
    let mut required = vec!["apiVersion", "kind", "metadata"];
    required.extend(needs_spec.then_some("spec"));
    let document = json!({
        "title": kind.as_str(),
        "description": kind.summary(),
        "type": "object",
        "properties": {
            "apiVersion": {
                "description": format!("Always `{API_VERSION}`."),
                "type": "string",
                "const": API_VERSION,
            },
            "kind": { "description": format!("Always `{kind}`."), "type": "string", "const": kind.as_str() },
            "metadata": described(generator.subschema_for::<Metadata>(), "What it is called."),
            "spec": described(spec, "What is wanted."),
        },
        "required": required,
        "additionalProperties": false,
    });
    match document {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// A reference to a schema with words of its own.
fn described(mut schema: Schema, description: &str) -> Schema {
    schema.insert("description".to_owned(), json!(description));
    schema
}

fn spec(kind: Kind, generator: &mut SchemaGenerator) -> Schema {
    match kind {
        Kind::Cluster => generator.subschema_for::<ClusterSpec>(),
        Kind::Member => generator.subschema_for::<MemberSpec>(),
        Kind::Disk => generator.subschema_for::<DiskSpec>(),
        Kind::Uplink => generator.subschema_for::<UplinkSpec>(),
        Kind::StoragePool => generator.subschema_for::<StoragePoolSpec>(),
        Kind::Project => generator.subschema_for::<ProjectSpec>(),
        Kind::Network => generator.subschema_for::<NetworkSpec>(),
        Kind::Profile => generator.subschema_for::<ProfileSpec>(),
    }
}
