//! What PUT and PATCH have in common: replacing or merging configuration.

use crate::simulate::database::Map;
use serde::Deserialize;

/// The body of a write to an object with configuration and a description.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ConfigBody {
    /// Configuration.
    pub config: Option<Map>,
    /// The description; PATCH leaves it when it is missing.
    pub description: Option<String>,
}

/// The configuration after a write: PUT replaces, PATCH merges; empty values go.
pub(super) fn updated(old: &Map, new: Option<Map>, merge: bool) -> Map {
    let mut config = if merge { old.clone() } else { Map::new() };
    config.extend(new.unwrap_or_default());
    config.retain(|_, value| !value.is_empty());
    config
}

/// The description after a write.
pub(super) fn described(old: &str, new: Option<String>, merge: bool) -> String {
    match new {
        Some(text) => text,
        None if merge => old.to_owned(),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> Map {
        pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect()
    }

    #[test]
    fn put_replaces_and_patch_merges() {
        let old = map(&[("a", "1"), ("b", "2")]);
        let new = || Some(map(&[("b", ""), ("c", "3")]));
        assert_eq!(updated(&old, new(), false), map(&[("c", "3")]));
        assert_eq!(updated(&old, new(), true), map(&[("a", "1"), ("c", "3")]));
    }
}
