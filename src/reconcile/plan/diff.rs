//! Comparing configuration in three ways: last applied, wanted, observed.
//!
//! # Guarantees
//! Only keys that the YAML names, or that were applied before and are gone from it, are ever
//! changed; everything else is carried over as it was observed.

use super::step::Values;
use super::{Plan, Record, reasons};
use crate::catalog::{self, Owner};
use crate::reconcile::memory::Entry;
use crate::reconcile::world::{Secrets, Seen};
use crate::resources::value::{Config, ConfigValue};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What happens to an object as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verb {
    /// Nothing.
    Unchanged,
    /// It is made.
    Create,
    /// It is changed in place.
    Update,
    /// It is deleted.
    Delete,
    /// It stays and is no longer managed.
    Release,
}

/// One field that differs. A value that must not be seen is shown as [`SECRET`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The field's path, such as `config.limits.cpu` or `devices.eth0.network`.
    pub path: String,
    /// The value that is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The value that is wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
}

impl Change {
    /// A change of a field that may be seen.
    pub fn new(path: impl Into<String>, from: Option<&str>, to: Option<&str>) -> Change {
        Change {
            path: path.into(),
            from: from.map(str::to_owned),
            to: to.map(str::to_owned),
        }
    }
}

/// What a secret looks like in a change.
pub const SECRET: &str = "(secret)";

/// The field paths a resource says to leave alone.
#[derive(Debug, Clone, Default)]
pub struct Ignore(Vec<String>);

impl Ignore {
    /// From the `ignore` of a resource; a leading `spec.` is allowed.
    pub fn new(paths: &[String]) -> Ignore {
        Ignore(
            paths
                .iter()
                .map(|p| p.strip_prefix("spec.").unwrap_or(p).to_owned())
                .collect(),
        )
    }

    /// Whether a path, or something it is part of, is ignored.
    pub fn covers(&self, path: &str) -> bool {
        self.0.iter().any(|ignored| {
            path.strip_prefix(ignored.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        })
    }
}

/// Collects the differences of one object over all its maps and fields.
#[derive(Debug)]
pub struct Diff<'a> {
    ignore: &'a Ignore,
    entry: Option<&'a Entry>,
    secrets: &'a Secrets,
    exists: bool,
    /// What differs.
    pub changes: Vec<Change>,
    /// Wanted changes of keys that cannot change: path, observed, wanted.
    immutable: Vec<(String, String, String)>,
    /// Secrets that could not be read: path and why.
    unreadable: Vec<(String, String)>,
    record: Record,
}

/// The outcome of comparing one map of keys.
#[derive(Debug, Default)]
pub struct Merged {
    /// The whole map as it is to be written: observed values with the managed ones replaced.
    pub whole: Values,
    /// Only what differs, with an empty value for keys to unset.
    pub patch: Values,
}

static NO_PATHS: BTreeSet<String> = BTreeSet::new();

impl<'a> Diff<'a> {
    /// Starts on an object that does or does not exist.
    pub fn new(
        ignore: &'a Ignore,
        entry: Option<&'a Entry>,
        secrets: &'a Secrets,
        exists: bool,
    ) -> Diff<'a> {
        Diff {
            ignore,
            entry,
            secrets,
            exists,
            changes: Vec::new(),
            immutable: Vec::new(),
            unreadable: Vec::new(),
            record: Record {
                exists,
                ..Record::default()
            },
        }
    }

    fn applied(&self) -> &'a BTreeSet<String> {
        self.entry.map_or(&NO_PATHS, |e| &e.applied)
    }

    /// Like [`Diff::config`] for a part of an object that is there or not, such as a device of a
    /// profile: a part that is missing is made whole, with the keys that cannot change later.
    pub fn part(
        &mut self,
        owner: Owner<'_>,
        prefix: &str,
        wanted: &Config,
        observed: Option<&BTreeMap<String, String>>,
    ) -> Merged {
        static NONE: BTreeMap<String, String> = BTreeMap::new();
        let whole = self.exists;
        self.exists = observed.is_some();
        let merged = self.config(owner, prefix, wanted, observed.unwrap_or(&NONE));
        self.exists = whole;
        merged
    }

    /// Compares wanted keys with observed ones; every path begins with `prefix`.
    pub fn config(
        &mut self,
        owner: Owner<'_>,
        prefix: &str,
        wanted: &Config,
        observed: &BTreeMap<String, String>,
    ) -> Merged {
        let mut merged = Merged {
            whole: observed
                .iter()
                .map(|(k, v)| (k.clone(), ConfigValue::Plain(v.clone())))
                .collect(),
            patch: Values::new(),
        };
        for (key, value) in wanted {
            let path = format!("{prefix}.{key}");
            if self.exists && self.ignore.covers(&path) {
                continue;
            }
            let seen = observed.get(key).map(String::as_str);
            if self.key(owner, key, &path, value, seen) {
                merged.whole.insert(key.clone(), value.clone());
                merged.patch.insert(key.clone(), value.clone());
            }
        }
        self.gone(owner, prefix, wanted, observed, &mut merged);
        merged
    }

    /// Compares one key; says whether it is to be written.
    fn key(
        &mut self,
        owner: Owner<'_>,
        key: &str,
        path: &str,
        value: &ConfigValue,
        seen: Option<&str>,
    ) -> bool {
        self.record.applied.insert(path.to_owned());
        match value {
            ConfigValue::Plain(text) => {
                if self.exists && catalog::equal(owner, key, text, seen) {
                    return false;
                }
                if self.exists && catalog::facts(owner, key).immutable {
                    let seen = seen.unwrap_or("unset").to_owned();
                    self.immutable.push((path.to_owned(), seen, text.clone()));
                    return false;
                }
                self.changes.push(Change::new(path, seen, Some(text)));
                true
            }
            reference => {
                let hash = match self.secrets.hashes.get(reference).map(Seen::get) {
                    Some(Ok(hash)) => hash.clone(),
                    Some(Err(reason)) => {
                        self.unreadable.push((path.to_owned(), reason.to_owned()));
                        return false;
                    }
                    None => {
                        self.unreadable
                            .push((path.to_owned(), "it was not read yet".to_owned()));
                        return false;
                    }
                };
                let before = self.entry.and_then(|e| e.secrets.get(path));
                let same = seen.is_some() && before == Some(&hash);
                self.record.secrets.insert(path.to_owned(), hash);
                if same {
                    return false;
                }
                self.changes
                    .push(Change::new(path, seen.map(|_| SECRET), Some(SECRET)));
                true
            }
        }
    }

    /// Keys that were ours and are gone from the YAML go back to being unset. Values the service
    /// keeps or makes by itself stay: they are simply not ours any more.
    fn gone(
        &mut self,
        owner: Owner<'_>,
        prefix: &str,
        wanted: &Config,
        observed: &BTreeMap<String, String>,
        merged: &mut Merged,
    ) {
        let start = format!("{prefix}.");
        for path in self.applied().range(start.clone()..) {
            let Some(key) = path.strip_prefix(&start) else {
                break;
            };
            if wanted.contains_key(key) || self.ignore.covers(path) {
                continue;
            }
            let Some(seen) = observed.get(key) else {
                continue;
            };
            let facts = catalog::facts(owner, key);
            if facts.immutable || facts.computed {
                continue;
            }
            let hidden = facts.secret || self.entry.is_some_and(|e| e.secrets.contains_key(path));
            let shown = if hidden { SECRET } else { seen };
            self.changes
                .push(Change::new(path.clone(), Some(shown), None));
            merged.whole.remove(key);
            merged
                .patch
                .insert(key.to_owned(), ConfigValue::Plain(String::new()));
        }
    }

    /// Compares a plain field such as a description; gives the value to write.
    pub fn field(&mut self, path: &str, wanted: Option<&str>, observed: &str) -> String {
        let Some(wanted) = wanted else {
            return observed.to_owned();
        };
        if self.exists && self.ignore.covers(path) {
            return observed.to_owned();
        }
        self.record.applied.insert(path.to_owned());
        if wanted != observed {
            let from = Some(observed).filter(|s| !s.is_empty());
            self.changes.push(Change::new(path, from, Some(wanted)));
        }
        wanted.to_owned()
    }

    /// Compares a set of words such as groups; gives the words to write.
    pub fn words(
        &mut self,
        path: &str,
        wanted: Option<&BTreeSet<String>>,
        observed: &BTreeSet<String>,
    ) -> BTreeSet<String> {
        let Some(wanted) = wanted else {
            return observed.clone();
        };
        if self.exists && self.ignore.covers(path) {
            return observed.clone();
        }
        self.record.applied.insert(path.to_owned());
        if wanted != observed {
            let show = |words: &BTreeSet<String>| {
                words
                    .iter()
                    .map(String::as_str)
                    .collect::<Vec<_>>()
                    .join(", ")
            };
            self.changes.push(Change::new(
                path,
                Some(&show(observed)),
                Some(&show(wanted)),
            ));
        }
        wanted.clone()
    }

    /// Whether a path was applied before.
    pub fn was_applied(&self, path: &str) -> bool {
        self.applied().contains(path)
    }

    /// Marks a path as managed without comparing it.
    pub fn manage(&mut self, path: impl Into<String>) {
        self.record.applied.insert(path.into());
    }

    /// Whether the resource says to leave a path alone.
    pub fn ignores(&self, path: &str) -> bool {
        self.ignore.covers(path)
    }

    /// Adds a wanted change that cannot be made.
    pub fn cannot_change(&mut self, path: &str, observed: &str, wanted: &str) {
        self.immutable
            .push((path.to_owned(), observed.to_owned(), wanted.to_owned()));
    }

    /// Whether something is to be written and nothing stands in the way.
    pub fn writable(&self) -> bool {
        !self.changes.is_empty() && self.unreadable.is_empty()
    }

    /// Moves the outcome into the plan.
    pub fn finish(mut self, plan: &mut Plan) {
        let immutable = std::mem::take(&mut self.immutable);
        let wanted: Vec<Change> = immutable
            .iter()
            .map(|(path, seen, wanted)| Change::new(path.clone(), Some(seen), Some(wanted)))
            .collect();
        for (path, seen, wanted) in immutable {
            plan.refuse(
                reasons::IMMUTABLE,
                format!(
                    "{path} is {seen} and cannot become {wanted}: it cannot change after creation; \
                     make a new object under another name and move to it, or delete this one by hand"
                ),
            );
        }
        for (path, why) in self.unreadable {
            plan.wait(
                super::Topic::Operator,
                reasons::SECRET,
                format!("the secret of {path} cannot be read: {why}"),
            );
        }
        // Shown as a difference too: it is one, though nothing is done about it.
        self.changes.extend(wanted);
        plan.verb = match (self.exists, self.changes.is_empty()) {
            (false, _) => Verb::Create,
            (true, false) => Verb::Update,
            (true, true) => Verb::Unchanged,
        };
        plan.changes = self.changes;
        plan.record = Some(self.record);
    }
}
