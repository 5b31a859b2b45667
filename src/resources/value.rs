//! Values that several kinds share: configuration, secrets, durations, modes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// Configuration of a service's object: key to value.
pub type Config = BTreeMap<String, ConfigValue>;

/// One value of a configuration key.
///
/// Keys that the catalog marks secret must be given as a file or a credential, so that the
/// secret itself is never in YAML.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConfigValue {
    /// The value itself; numbers and booleans are taken as they are written.
    Plain(String),
    /// The content of this file on the controlling member, without the final line break.
    File(PathBuf),
    /// The systemd credential of this name, handed to the agent's unit.
    Credential(String),
}

impl From<&str> for ConfigValue {
    fn from(text: &str) -> ConfigValue {
        ConfigValue::Plain(text.to_owned())
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Reference {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    file: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    credential: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Raw {
    Bool(bool),
    Integer(i64),
    Unsigned(u64),
    Float(f64),
    Text(String),
    Reference(Reference),
}

impl<'de> Deserialize<'de> for ConfigValue {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<ConfigValue, D::Error> {
        use serde::de::Error;
        Ok(match Raw::deserialize(d)? {
            Raw::Bool(b) => ConfigValue::Plain(b.to_string()),
            Raw::Integer(n) => ConfigValue::Plain(n.to_string()),
            Raw::Unsigned(n) => ConfigValue::Plain(n.to_string()),
            Raw::Float(n) => ConfigValue::Plain(n.to_string()),
            Raw::Text(text) => ConfigValue::Plain(text),
            Raw::Reference(Reference {
                file: Some(path),
                credential: None,
            }) => ConfigValue::File(path),
            Raw::Reference(Reference {
                file: None,
                credential: Some(name),
            }) => ConfigValue::Credential(name),
            Raw::Reference(_) => {
                return Err(D::Error::custom(
                    "give exactly one of `file` and `credential`",
                ));
            }
        })
    }
}

impl Serialize for ConfigValue {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            ConfigValue::Plain(text) => s.serialize_str(text),
            ConfigValue::File(path) => Reference {
                file: Some(path.clone()),
                credential: None,
            }
            .serialize(s),
            ConfigValue::Credential(name) => Reference {
                file: None,
                credential: Some(name.clone()),
            }
            .serialize(s),
        }
    }
}

impl JsonSchema for ConfigValue {
    fn schema_name() -> Cow<'static, str> {
        "ConfigValue".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "A string (numbers and booleans are taken as written), or where to read it",
            "anyOf": [
                { "type": ["string", "number", "boolean"] },
                {
                    "type": "object",
                    "properties": { "file": { "type": "string" } },
                    "required": ["file"],
                    "additionalProperties": false
                },
                {
                    "type": "object",
                    "properties": { "credential": { "type": "string" } },
                    "required": ["credential"],
                    "additionalProperties": false
                }
            ]
        })
    }
}

/// A length of time as people write it: `90s`, `5m`, `1h 30m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

impl Serialize for Span {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(&humantime::format_duration(self.0))
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Span, D::Error> {
        let text = String::deserialize(d)?;
        humantime::parse_duration(&text).map(Span).map_err(|e| {
            serde::de::Error::custom(format!("`{text}` is not a duration such as 90s or 5m: {e}"))
        })
    }
}

impl JsonSchema for Span {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "format": super::schema::format::DURATION,
            "description": "A length of time such as 90s, 5m or 1h 30m"
        })
    }
}

/// What happens to the real object when its resource goes away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Deletion {
    /// It is deleted, if this program created it and nothing uses it.
    Delete,
    /// It stays as it is and is no longer managed.
    Retain,
}

/// How far the controller goes with a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Mode {
    /// Differences are repaired.
    Enforce,
    /// Differences are shown, nothing is written.
    Report,
    /// Nothing is looked at or written.
    Suspended,
}

/// Whether a thing that holds data is to be there. Never acted on without an approval.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Presence {
    /// It is to be there.
    #[default]
    Present,
    /// It is to be removed, which destroys what it holds.
    Absent,
}

/// The three fields every kind has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Common {
    /// `deletion`, unless the kind's default holds.
    pub deletion: Option<Deletion>,
    /// `mode`, unless the cluster's holds.
    pub mode: Option<Mode>,
    /// Field paths that are neither compared nor written, such as `config.limits.cpu`.
    pub ignore: Vec<String>,
}
