//! OVSDB's values: sets, maps and references, as Rust's.
//!
//! On the wire a set is `["set", […]]` or, with one element, that element alone; a map is
//! `["map", [[key, value], …]]`; a reference is `["uuid", "…"]`. Use these with
//! `#[serde(default, deserialize_with = …)]`-free fields: the types here do it by themselves.

use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt;

/// A reference to a row, or the row's own `_uuid`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RowId(pub String);

impl fmt::Display for RowId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for RowId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        ("uuid", &self.0).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for RowId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<RowId, D::Error> {
        let (tag, id) = <(String, String)>::deserialize(deserializer)?;
        match tag.as_str() {
            "uuid" | "named-uuid" => Ok(RowId(id)),
            other => Err(D::Error::custom(format!("`{other}` is no reference"))),
        }
    }
}

/// A set: any number of elements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set<T>(pub Vec<T>);

impl<T> Default for Set<T> {
    fn default() -> Set<T> {
        Set(Vec::new())
    }
}

impl<T> Set<T> {
    /// The element of a set that holds at most one.
    pub fn one(&self) -> Option<&T> {
        self.0.first()
    }
}

impl<T: Serialize> Serialize for Set<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        ("set", &self.0).serialize(serializer)
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Set<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Set<T>, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let of = |value: Value| serde_json::from_value(value).map_err(D::Error::custom);
        match value {
            Value::Array(mut parts) if parts.len() == 2 && parts[0] == "set" => match parts.pop() {
                Some(Value::Array(elements)) => elements
                    .into_iter()
                    .map(of)
                    .collect::<Result<_, _>>()
                    .map(Set),
                _ => Err(D::Error::custom("a set without its elements")),
            },
            alone => Ok(Set(vec![of(alone)?])),
        }
    }
}

/// A map of texts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Map(pub BTreeMap<String, String>);

impl Map {
    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }
}

impl Serialize for Map {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let pairs: Vec<(&String, &String)> = self.0.iter().collect();
        ("map", pairs).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Map {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Map, D::Error> {
        let (tag, pairs) = <(String, Vec<(String, Value)>)>::deserialize(deserializer)?;
        if tag != "map" {
            return Err(D::Error::custom(format!("`{tag}` is no map")));
        }
        let text = |value: Value| match value {
            Value::String(text) => text,
            other => other.to_string(),
        };
        Ok(Map(pairs.into_iter().map(|(k, v)| (k, text(v))).collect()))
    }
}

/// The keys of a map, as a set on the wire: what `mutate … delete` takes.
pub fn keys<'a>(keys: impl IntoIterator<Item = &'a str>) -> Value {
    json!(["set", keys.into_iter().collect::<Vec<_>>()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_of_one_comes_alone() {
        let read = |text: &str| serde_json::from_str::<Set<String>>(text).unwrap().0;
        assert_eq!(read(r#""netdev""#), ["netdev"]);
        assert_eq!(read(r#"["set",["a","b"]]"#), ["a", "b"]);
        assert!(read(r#"["set",[]]"#).is_empty());
        let ids: Set<RowId> = serde_json::from_str(r#"["uuid","1-2"]"#).unwrap();
        assert_eq!(ids.one(), Some(&RowId("1-2".into())));
        let ids: Set<RowId> =
            serde_json::from_str(r#"["set",[["uuid","1"],["uuid","2"]]]"#).unwrap();
        assert_eq!(ids.0.len(), 2);
        assert!(serde_json::from_str::<Set<bool>>(r#"["set",["a"]]"#).is_err());
    }

    #[test]
    fn maps_go_there_and_back() {
        let map: Map =
            serde_json::from_str(r#"["map",[["system-id","micro01"],["n","1"]]]"#).unwrap();
        assert_eq!(map.get("system-id"), Some("micro01"));
        assert_eq!(map.get("other"), None);
        let text = serde_json::to_string(&map).unwrap();
        assert_eq!(serde_json::from_str::<Map>(&text).unwrap(), map);
        assert!(serde_json::from_str::<Map>(r#"["set",[]]"#).is_err());
    }
}
