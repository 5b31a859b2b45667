//! What is in force of each source, and what a new reading changes about it.
//!
//! Pure: time comes in as an argument. The rules (design §4 and §5): the last good version of a
//! broken document stays; nothing counts as absent while a document of the source is broken, the
//! source cannot be read, or it is empty; an absence counts after two equal readings at least ten
//! seconds apart; a resource belongs to the source that named it first.

use super::diagnostic::Diagnostic;
use super::object::{ObjectRef, Origin, SourceName};
use super::resource::Resource;
use super::source::{Broken, Reading};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// How long a resource must be missing before it counts as absent.
pub const ABSENCE_COUNTS_AFTER: SignedDuration = SignedDuration::from_secs(10);

/// What is in force of one source.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SourceState {
    /// The revision of the last reading that succeeded; empty before the first one.
    pub revision: String,
    /// The resources in force.
    #[serde(with = "by_reference")]
    pub resources: BTreeMap<ObjectRef, Resource>,
    /// Resources whose document is broken now; their last good version is in force.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub stale: BTreeMap<ObjectRef, Vec<Diagnostic>>,
    /// Resources in force that are missing in the last reading, and since when it has been equal.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub absent_since: BTreeMap<ObjectRef, Timestamp>,
    /// Everything that is broken in the last reading.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub broken: Vec<Broken>,
    /// Why the last reading failed as a whole, if it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unreadable: Option<String>,
}

/// Resources as a list: their references are in them.
mod by_reference {
    use super::{BTreeMap, ObjectRef, Resource};
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(
        resources: &BTreeMap<ObjectRef, Resource>,
        s: S,
    ) -> Result<S::Ok, S::Error> {
        s.collect_seq(resources.values())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(
        d: D,
    ) -> Result<BTreeMap<ObjectRef, Resource>, D::Error> {
        let resources = Vec::<Resource>::deserialize(d)?;
        Ok(resources.into_iter().map(|r| (r.reference(), r)).collect())
    }
}

impl SourceState {
    /// The state after a reading, and the resources that are no longer named from now on.
    ///
    /// Feeding the same reading again is how an absence comes to count: see
    /// [`SourceState::recheck_at`].
    #[must_use = "the state is not changed in place"]
    pub fn accept(&self, reading: &Reading, now: Timestamp) -> (SourceState, Vec<ObjectRef>) {
        if let Some(reason) = &reading.unreadable {
            let state = SourceState {
                unreadable: Some(reason.clone()),
                absent_since: BTreeMap::new(),
                ..self.clone()
            };
            return (state, Vec::new());
        }
        let named: BTreeMap<ObjectRef, &Resource> = reading
            .resources
            .iter()
            .map(|r| (r.reference(), r))
            .collect();
        let mut state = SourceState {
            revision: reading.revision.clone(),
            resources: self.resources.clone(),
            broken: reading.broken.clone(),
            ..SourceState::default()
        };
        for (reference, resource) in &named {
            if self.resources.get(reference) != Some(*resource) {
                state
                    .resources
                    .insert(reference.clone(), (*resource).clone());
            }
        }
        let missing = self
            .resources
            .iter()
            .filter(|(r, _)| !named.contains_key(*r));
        let mut removed = Vec::new();
        for (reference, last_good) in missing {
            if let Some(diagnostics) =
                broken_document(&reading.broken, reference, &last_good.origin)
            {
                state.stale.insert(reference.clone(), diagnostics);
            } else if reading.shows_absence() {
                let since = match self.absent_since.get(reference) {
                    Some(since) if self.revision == reading.revision => *since,
                    _ => now,
                };
                if now.duration_since(since) >= ABSENCE_COUNTS_AFTER {
                    state.resources.remove(reference);
                    removed.push(reference.clone());
                } else {
                    state.absent_since.insert(reference.clone(), since);
                }
            }
        }
        (state, removed)
    }

    /// When the source must be read again although nothing changed, because an absence will count
    /// then if the reading is the same.
    pub fn recheck_at(&self) -> Option<Timestamp> {
        let first = self.absent_since.values().min()?;
        first.checked_add(ABSENCE_COUNTS_AFTER).ok()
    }

    /// The state after resources were applied one by one: those named are replaced or added, the
    /// others stay. Only for [`SourceName::Applied`].
    #[must_use = "the state is not changed in place"]
    pub fn apply(&self, resources: impl IntoIterator<Item = Resource>) -> SourceState {
        let mut state = self.clone();
        for resource in resources {
            let reference = resource.reference();
            state.stale.remove(&reference);
            state.resources.insert(reference, resource);
        }
        state.revision = state.content_revision();
        state
    }

    /// The state after resources were deleted one by one, and those of them it really had. Only
    /// for [`SourceName::Applied`].
    #[must_use = "the state is not changed in place"]
    pub fn delete<'a>(
        &self,
        references: impl IntoIterator<Item = &'a ObjectRef>,
    ) -> (SourceState, Vec<ObjectRef>) {
        let mut state = self.clone();
        let mut removed = Vec::new();
        for reference in references {
            state.stale.remove(reference);
            if state.resources.remove(reference).is_some() {
                removed.push(reference.clone());
            }
        }
        state.revision = state.content_revision();
        (state, removed)
    }

    fn content_revision(&self) -> String {
        let mut sum = super::draft::Revision::default();
        for (reference, resource) in &self.resources {
            sum.add(&reference.to_string(), resource.digest().as_bytes());
        }
        sum.finish()
    }
}

/// What is wrong with the document of a resource that is missing, if a broken document is (or may
/// hide) it.
fn broken_document(
    broken: &[Broken],
    reference: &ObjectRef,
    origin: &Origin,
) -> Option<Vec<Diagnostic>> {
    let own = |b: &&Broken| b.reference.as_ref() == Some(reference);
    let hides = |b: &&Broken| b.reference.is_none() && b.file == origin.file;
    let collect = |found: Vec<&Broken>| -> Option<Vec<Diagnostic>> {
        (!found.is_empty()).then(|| found.iter().flat_map(|b| b.diagnostics.clone()).collect())
    };
    collect(broken.iter().filter(own).collect())
        .or_else(|| collect(broken.iter().filter(hides).collect()))
}

/// What is in force of all sources.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Accepted {
    /// The watched directory.
    pub directory: SourceState,
    /// What `apply`, `delete` and the like wrote.
    pub applied: SourceState,
    /// Resources that both sources name: the one that named it second, which does not count.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub second: BTreeMap<ObjectRef, SourceName>,
}

/// A resource that two sources name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Conflict {
    /// The resource.
    pub reference: ObjectRef,
    /// Where the one in force is written.
    pub in_force: Origin,
    /// Where the one that does not count is written.
    pub ignored: Origin,
}

/// Why resources were not applied or deleted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The directory owns it.
    #[error("{reference} belongs to the watched directory ({origin}): change it there")]
    OwnedByDirectory {
        /// The resource.
        reference: ObjectRef,
        /// Where it is written.
        origin: Origin,
    },
    /// Nobody named it.
    #[error("{0} was not applied: `microcloud get` lists what there is")]
    Unknown(ObjectRef),
}

impl Accepted {
    /// What is in force of a source.
    pub fn source(&self, name: SourceName) -> &SourceState {
        match name {
            SourceName::Directory => &self.directory,
            SourceName::Applied => &self.applied,
        }
    }

    /// The state after a reading, and the resources that no source names any more.
    #[must_use = "the state is not changed in place"]
    pub fn accept(&self, reading: &Reading, now: Timestamp) -> (Accepted, Vec<ObjectRef>) {
        let (state, removed) = self.source(reading.source).accept(reading, now);
        let next = self.with(reading.source, state);
        let removed = removed
            .into_iter()
            .filter(|r| next.get(r).is_none())
            .collect();
        (next, removed)
    }

    /// The state after resources were applied.
    ///
    /// # Errors
    /// Every resource that the directory owns; then nothing is applied.
    pub fn apply(&self, resources: Vec<Resource>) -> Result<Accepted, Vec<Refused>> {
        let refused: Vec<Refused> = resources
            .iter()
            .filter_map(|r| self.refuse(&r.reference()))
            .collect();
        if !refused.is_empty() {
            return Err(refused);
        }
        Ok(self.with(SourceName::Applied, self.applied.apply(resources)))
    }

    /// The state after resources were deleted.
    ///
    /// # Errors
    /// Every resource that the directory owns or that was never applied; then nothing is deleted.
    pub fn delete(
        &self,
        references: &[ObjectRef],
    ) -> Result<(Accepted, Vec<ObjectRef>), Vec<Refused>> {
        let refused: Vec<Refused> = references
            .iter()
            .filter_map(|r| {
                self.refuse(r).or_else(|| {
                    let known = self.applied.resources.contains_key(r);
                    (!known).then(|| Refused::Unknown(r.clone()))
                })
            })
            .collect();
        if !refused.is_empty() {
            return Err(refused);
        }
        let (applied, removed) = self.applied.delete(references);
        let next = self.with(SourceName::Applied, applied);
        let removed = removed
            .into_iter()
            .filter(|r| next.get(r).is_none())
            .collect();
        Ok((next, removed))
    }

    /// The resource in force, whichever source named it first.
    pub fn get(&self, reference: &ObjectRef) -> Option<&Resource> {
        let (first, other) = match self.second.get(reference) {
            Some(SourceName::Directory) => (&self.applied, &self.directory),
            _ => (&self.directory, &self.applied),
        };
        first
            .resources
            .get(reference)
            .or_else(|| other.resources.get(reference))
    }

    /// All resources in force: the desired state.
    pub fn desired(&self) -> BTreeMap<ObjectRef, &Resource> {
        let references: BTreeSet<&ObjectRef> = self
            .directory
            .resources
            .keys()
            .chain(self.applied.resources.keys())
            .collect();
        references
            .into_iter()
            .filter_map(|r| Some((r.clone(), self.get(r)?)))
            .collect()
    }

    /// Resources that both sources name.
    pub fn conflicts(&self) -> Vec<Conflict> {
        let conflict = |(reference, second): (&ObjectRef, &SourceName)| {
            let ignored = self.source(*second).resources.get(reference)?;
            Some(Conflict {
                reference: reference.clone(),
                in_force: self.get(reference)?.origin.clone(),
                ignored: ignored.origin.clone(),
            })
        };
        self.second.iter().filter_map(conflict).collect()
    }

    /// When a source must be read again although nothing changed: see
    /// [`SourceState::recheck_at`].
    pub fn recheck_at(&self) -> Option<Timestamp> {
        self.directory
            .recheck_at()
            .into_iter()
            .chain(self.applied.recheck_at())
            .min()
    }

    fn refuse(&self, reference: &ObjectRef) -> Option<Refused> {
        let owned = self.directory.resources.get(reference)?;
        let directory_owns = self.second.get(reference) != Some(&SourceName::Directory);
        directory_owns.then(|| Refused::OwnedByDirectory {
            reference: reference.clone(),
            origin: owned.origin.clone(),
        })
    }

    /// With another state of one source. Whoever newly names what the other has is second.
    fn with(&self, name: SourceName, state: SourceState) -> Accepted {
        let mut next = self.clone();
        match name {
            SourceName::Directory => next.directory = state,
            SourceName::Applied => next.applied = state,
        }
        let both = next
            .directory
            .resources
            .keys()
            .filter(|r| next.applied.resources.contains_key(*r));
        next.second = both
            .map(|r| (r.clone(), self.second.get(r).copied().unwrap_or(name)))
            .collect();
        next
    }
}

#[cfg(test)]
mod tests;
