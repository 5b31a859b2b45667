//! A decoded resource.

use super::kinds::*;
use super::object::{API_VERSION, DEFAULT_PROJECT, Kind, Metadata, ObjectRef, Origin};
use super::value::{Common, Deletion, Mode};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The `spec` of a resource, by kind.
#[derive(Debug, Clone, PartialEq)]
pub enum Spec {
    /// See [`ClusterSpec`].
    Cluster(ClusterSpec),
    /// See [`MemberSpec`].
    Member(MemberSpec),
    /// See [`DiskSpec`].
    Disk(DiskSpec),
    /// See [`UplinkSpec`].
    Uplink(UplinkSpec),
    /// See [`StoragePoolSpec`].
    StoragePool(StoragePoolSpec),
    /// See [`ProjectSpec`].
    Project(ProjectSpec),
    /// See [`NetworkSpec`].
    Network(NetworkSpec),
    /// See [`ProfileSpec`].
    Profile(ProfileSpec),
}

/// Runs one expression over the spec of whatever kind.
macro_rules! each_spec {
    ($spec:expr, $inner:ident => $body:expr) => {
        match $spec {
            Spec::Cluster($inner) => $body,
            Spec::Member($inner) => $body,
            Spec::Disk($inner) => $body,
            Spec::Uplink($inner) => $body,
            Spec::StoragePool($inner) => $body,
            Spec::Project($inner) => $body,
            Spec::Network($inner) => $body,
            Spec::Profile($inner) => $body,
        }
    };
}

impl Spec {
    /// The kind.
    pub fn kind(&self) -> Kind {
        match self {
            Spec::Cluster(_) => Kind::Cluster,
            Spec::Member(_) => Kind::Member,
            Spec::Disk(_) => Kind::Disk,
            Spec::Uplink(_) => Kind::Uplink,
            Spec::StoragePool(_) => Kind::StoragePool,
            Spec::Project(_) => Kind::Project,
            Spec::Network(_) => Kind::Network,
            Spec::Profile(_) => Kind::Profile,
        }
    }

    /// The fields every kind has.
    pub fn common(&self) -> Common {
        each_spec!(self, s => Common {
            deletion: s.deletion,
            mode: s.mode,
            ignore: s.ignore.clone(),
        })
    }

    /// Decodes the `spec` of a `kind` from JSON.
    ///
    /// # Errors
    /// The value does not fit the kind.
    pub fn from_json(kind: Kind, value: serde_json::Value) -> Result<Spec, serde_json::Error> {
        use serde_json::from_value;
        Ok(match kind {
            Kind::Cluster => Spec::Cluster(from_value(value)?),
            Kind::Member => Spec::Member(from_value(value)?),
            Kind::Disk => Spec::Disk(from_value(value)?),
            Kind::Uplink => Spec::Uplink(from_value(value)?),
            Kind::StoragePool => Spec::StoragePool(from_value(value)?),
            Kind::Project => Spec::Project(from_value(value)?),
            Kind::Network => Spec::Network(from_value(value)?),
            Kind::Profile => Spec::Profile(from_value(value)?),
        })
    }

    /// The `spec` as JSON, without fields that were left out.
    pub fn to_json(&self) -> serde_json::Value {
        each_spec!(self, s => serde_json::to_value(s))
            .expect("a spec has string keys and no values JSON lacks")
    }
}

/// A decoded and valid resource.
#[derive(Debug, Clone, PartialEq)]
pub struct Resource {
    /// Its metadata.
    pub metadata: Metadata,
    /// What it says.
    pub spec: Spec,
    /// Where it was written.
    pub origin: Origin,
}

/// The JSON form of a [`Resource`]: the document itself and where it was written.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    api_version: String,
    kind: Kind,
    metadata: Metadata,
    spec: serde_json::Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    origin: Option<Origin>,
}

impl Resource {
    /// The kind.
    pub fn kind(&self) -> Kind {
        self.spec.kind()
    }

    /// The identity.
    pub fn reference(&self) -> ObjectRef {
        ObjectRef {
            kind: self.kind(),
            project: self
                .metadata
                .project
                .clone()
                .unwrap_or_else(|| DEFAULT_PROJECT.to_owned()),
            name: self.metadata.name.clone(),
        }
    }

    /// The SHA-256 of what it says, in hex: changes when and only when the content does, wherever
    /// it is written.
    pub fn digest(&self) -> String {
        let document =
            serde_json::json!({ "metadata": self.metadata, "spec": self.spec.to_json() });
        hex(&Sha256::digest(document.to_string().as_bytes()))
    }

    /// The document as YAML and JSON have it, without its origin.
    pub fn document(&self) -> serde_json::Value {
        serde_json::to_value(self.as_document(false)).expect("a document is plain JSON")
    }

    /// What happens to the real object when the resource goes away.
    pub fn deletion(&self) -> Deletion {
        let default = if self.kind().never_pruned() {
            Deletion::Retain
        } else {
            Deletion::Delete
        };
        self.spec.common().deletion.unwrap_or(default)
    }

    /// Its own mode, if it has one.
    pub fn mode(&self) -> Option<Mode> {
        self.spec.common().mode
    }

    fn as_document(&self, origin: bool) -> Document {
        Document {
            api_version: API_VERSION.to_owned(),
            kind: self.kind(),
            metadata: self.metadata.clone(),
            spec: self.spec.to_json(),
            origin: origin.then(|| self.origin.clone()),
        }
    }
}

impl Serialize for Resource {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        self.as_document(true).serialize(s)
    }
}

impl<'de> Deserialize<'de> for Resource {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Resource, D::Error> {
        use serde::de::Error;
        let document = Document::deserialize(d)?;
        let spec = Spec::from_json(document.kind, document.spec).map_err(D::Error::custom)?;
        let origin = document
            .origin
            .ok_or_else(|| D::Error::missing_field("origin"))?;
        Ok(Resource {
            metadata: document.metadata,
            spec,
            origin,
        })
    }
}

/// Bytes as lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}
