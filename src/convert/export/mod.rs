//! A running cluster as resources: what applied to that cluster changes nothing, and applied to
//! empty machines forms an equal one.
//!
//! # Guarantees
//! - It is a pure function of what was observed and of what is accepted.
//! - What LXD gave itself (`volatile.…`, defaults, what it computes again) is left out, unless a
//!   resource names it; so are secrets, whose references are kept where a resource has them.
//! - A resource that is accepted keeps its name and what cannot be observed: labels, `ignore`, the
//!   selection of disks.

mod config;
mod lxd;
mod members;
mod pools;

use super::written::Document;
use crate::reconcile::observe::Everything;
use crate::resources::object::{Metadata, Origin};
use crate::resources::value::Mode;
use crate::resources::{Kind, ObjectRef, Resource, SourceName, Spec};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// The name of the `Cluster` where no resource has one.
const CLOUD: &str = "cloud";

/// What became of a running cluster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Exported {
    /// The resources.
    pub documents: Vec<Document>,
    /// Sentences about what was left out.
    pub left_out: Vec<String>,
}

/// Why a cluster cannot be written as resources.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExportError {
    /// A part of it could not be read: half of a cluster is no cluster.
    #[error("{what} could not be read: {reason}; export again when it can")]
    Unknown {
        /// The part.
        what: &'static str,
        /// Why.
        reason: String,
    },
    /// A standalone LXD that no other machine could reach.
    #[error(
        "LXD on {0} is in no cluster and listens on no address: set one with `lxc config set \
         core.https_address ADDRESS:8443` and export again"
    )]
    NoAddress(String),
    /// What was written is no resource: a mistake of this program.
    #[error("{object} cannot be written as a resource: {reason}")]
    Unwritable {
        /// The object.
        object: ObjectRef,
        /// Why.
        reason: String,
    },
}

/// Writes a running cluster as resources. `mode` is what the `Cluster` says; none is `Enforce`.
///
/// # Errors
/// A part of it is not known.
pub fn export(found: &Everything, mode: Option<Mode>) -> Result<Exported, ExportError> {
    let mut writer = Writer {
        found,
        accepted: found
            .resources
            .iter()
            .map(|resource| (resource.reference(), resource))
            .collect(),
        documents: Vec::new(),
        left_out: Vec::new(),
    };
    writer.members()?;
    writer.cluster(mode)?;
    writer.disks();
    writer.networks()?;
    writer.pools()?;
    writer.projects()?;
    writer.profiles()?;
    writer
        .documents
        .sort_by_cached_key(|d| d.resource.reference());
    Ok(Exported {
        documents: writer.documents,
        left_out: writer.left_out,
    })
}

/// Writes resources one after another.
struct Writer<'a> {
    found: &'a Everything,
    accepted: BTreeMap<ObjectRef, &'a Resource>,
    documents: Vec<Document>,
    left_out: Vec<String>,
}

impl<'a> Writer<'a> {
    /// The accepted resource of an object.
    fn accepted(&self, object: &ObjectRef) -> Option<&'a Spec> {
        self.accepted.get(object).map(|resource| &resource.spec)
    }

    /// Adds a resource with this `spec`; what cannot be observed is taken from the accepted one.
    fn add(
        &mut self,
        object: &ObjectRef,
        mut spec: Map<String, Value>,
        notes: Vec<String>,
    ) -> Result<(), ExportError> {
        let accepted = self.accepted.get(object);
        let mut metadata = Metadata {
            name: object.name.clone(),
            project: Some(object.project.clone())
                .filter(|p| object.kind.in_project() && p != "default"),
            ..Metadata::default()
        };
        if let Some(accepted) = accepted {
            metadata.clone_from(&accepted.metadata);
            let before = accepted.spec.to_json();
            for field in ["deletion", "ignore", "mode"] {
                if let Some(value) = before.get(field)
                    && !(object.kind == Kind::Cluster && field == "mode")
                {
                    spec.insert(field.to_owned(), value.clone());
                }
            }
        }
        let spec = Spec::from_json(object.kind, Value::Object(spec)).map_err(|error| {
            ExportError::Unwritable {
                object: object.clone(),
                reason: error.to_string(),
            }
        })?;
        self.documents.push(Document {
            resource: Resource {
                metadata,
                spec,
                origin: Origin {
                    source: SourceName::Applied,
                    file: "export".to_owned(),
                    line: self.documents.len() + 1,
                },
            },
            notes,
        });
        Ok(())
    }

    /// The `Cluster` that is accepted, if there is one.
    fn cluster_resource(&self) -> Option<&'a Resource> {
        self.accepted
            .iter()
            .find(|(object, _)| object.kind == Kind::Cluster)
            .map(|(_, resource)| *resource)
    }

    /// Selections of disks are not observed: they stay as they are accepted.
    fn disks(&mut self) {
        let disks = self.accepted.iter().filter(|(o, _)| o.kind == Kind::Disk);
        for (object, resource) in disks {
            let chosen = self.found.disks.get(object).into_iter().flatten();
            let chosen: Vec<String> = chosen
                .map(|(key, choice)| {
                    let member = key.split(':').next().unwrap_or(key);
                    format!("{} of {member}", choice.path)
                })
                .collect();
            let notes = match chosen.is_empty() {
                true => Vec::new(),
                false => vec![format!("It has taken {}.", chosen.join(", "))],
            };
            self.documents.push(Document {
                resource: (*resource).clone(),
                notes,
            });
        }
    }
}

/// A part of the world, or the error that it is not known.
fn known<'a, T>(
    seen: &'a crate::reconcile::world::Seen<T>,
    what: &'static str,
) -> Result<&'a T, ExportError> {
    seen.get().map_err(|reason| ExportError::Unknown {
        what,
        reason: reason.to_owned(),
    })
}

/// Gives a field its value unless there is nothing to say.
fn put(spec: &mut Map<String, Value>, field: &str, value: impl Into<Value>) {
    let value = value.into();
    let nothing = match &value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    };
    if !nothing {
        spec.insert(field.to_owned(), value);
    }
}
