//! The keys of an object that are worth writing.

use crate::catalog::{self, Owner, Scope};
use crate::convert::own;
use crate::resources::value::{Config, ConfigValue};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Keys LXD fills in when they are left out, and that are written all the same: with another value
/// the cluster would be another one.
const IDENTITY: [&str; 4] = ["ipv4.address", "ipv6.address", "ipv4.nat", "ipv6.nat"];

/// What is written of a configuration.
pub(super) struct Keys<'a> {
    /// Whose keys they are.
    pub owner: Owner<'a>,
    /// Where they are kept; others are left out.
    pub scope: Scope,
    /// What the accepted resource says.
    pub accepted: Option<&'a Config>,
    /// Whether computed values are written.
    pub computed: bool,
}

impl Keys<'_> {
    /// The keys that are worth writing, and the names of secrets that are not.
    pub fn of(&self, observed: &BTreeMap<String, String>) -> (Map<String, Value>, Vec<String>) {
        let mut written = Map::new();
        let mut secrets = Vec::new();
        for (key, value) in observed {
            let facts = catalog::facts(self.owner, key);
            if own::is_memory(key) || facts.scope != self.scope {
                continue;
            }
            if let Some(accepted) = self.accepted.and_then(|config| config.get(key)) {
                written.insert(key.clone(), self.as_accepted(key, accepted, value));
            } else if facts.secret {
                secrets.push(key.clone());
            } else if !self.follows(key, value) {
                written.insert(key.clone(), Value::String(value.clone()));
            }
        }
        for (key, accepted) in self.accepted.into_iter().flatten() {
            let unset = match accepted {
                ConfigValue::Plain(text) => catalog::equal(self.owner, key, text, None),
                _ => true,
            };
            if unset && !written.contains_key(key) {
                written.insert(key.clone(), json(accepted));
            }
        }
        (written, secrets)
    }

    /// A key that a resource names: in the resource's words while they mean what is there.
    fn as_accepted(&self, key: &str, accepted: &ConfigValue, value: &str) -> Value {
        match accepted {
            ConfigValue::Plain(text) if !catalog::equal(self.owner, key, text, Some(value)) => {
                Value::String(value.to_owned())
            }
            accepted => json(accepted),
        }
    }

    /// Whether a value is what the key has when it is left out.
    fn follows(&self, key: &str, value: &str) -> bool {
        if value.is_empty() || own::is_default(self.owner, key, value) {
            return true;
        }
        let computed = catalog::facts(self.owner, key).computed;
        computed && !self.computed && !IDENTITY.contains(&key)
    }
}

pub(super) fn json(value: &ConfigValue) -> Value {
    serde_json::to_value(value).expect("text or one reference")
}

/// Sentences about secrets that were left out.
pub(super) fn notes_of(secrets: Vec<String>) -> Vec<String> {
    secrets
        .into_iter()
        .map(|key| {
            format!(
                "`{key}` was left out: it is a secret. To have it held, write where to read it: \
                 `{key}: {{credential: NAME}}` or `{{file: PATH}}`."
            )
        })
        .collect()
}
