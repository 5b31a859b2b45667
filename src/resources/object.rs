//! Names of things: kinds, references, metadata, where a resource was written.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// The only `apiVersion` this program reads.
pub const API_VERSION: &str = "microcloud.dev/v1";

/// The project of an object that names none.
pub const DEFAULT_PROJECT: &str = "default";

/// A kind of resource.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum Kind {
    /// What is run and where its traffic goes; exactly one.
    Cluster,
    /// A machine.
    Member,
    /// One disk or a selection of disks.
    Disk,
    /// The physical network OVN goes out by.
    Uplink,
    /// A storage pool.
    StoragePool,
    /// A project of LXD.
    Project,
    /// A network of LXD.
    Network,
    /// Defaults of instances.
    Profile,
}

impl Kind {
    /// All kinds, in the order in which a cluster is formed.
    pub const ALL: [Kind; 8] = [
        Kind::Cluster,
        Kind::Member,
        Kind::Disk,
        Kind::Uplink,
        Kind::StoragePool,
        Kind::Project,
        Kind::Network,
        Kind::Profile,
    ];

    /// The name as written in YAML.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Cluster => "Cluster",
            Kind::Member => "Member",
            Kind::Disk => "Disk",
            Kind::Uplink => "Uplink",
            Kind::StoragePool => "StoragePool",
            Kind::Project => "Project",
            Kind::Network => "Network",
            Kind::Profile => "Profile",
        }
    }

    /// What resources of this kind say, in one sentence.
    pub fn summary(self) -> &'static str {
        match self {
            Kind::Cluster => "What is run and where its traffic goes; there is exactly one.",
            Kind::Member => "A machine of the cluster.",
            Kind::Disk => "One disk or a selection of disks, and what they are used for.",
            Kind::Uplink => "The physical network OVN goes out by.",
            Kind::StoragePool => "A storage pool.",
            Kind::Project => "A project of LXD.",
            Kind::Network => "A network of LXD.",
            Kind::Profile => "Defaults of instances.",
        }
    }

    /// Whether LXD keeps objects of this kind inside a project.
    pub fn in_project(self) -> bool {
        matches!(self, Kind::Network | Kind::Profile)
    }

    /// Whether an absent resource of this kind is never acted on (`Orphaned` instead).
    pub fn never_pruned(self) -> bool {
        matches!(
            self,
            Kind::Cluster | Kind::Member | Kind::Disk | Kind::StoragePool
        )
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A word that names no kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "no kind `{0}`; kinds are Cluster, Member, Disk, Uplink, StoragePool, Project, Network, Profile"
)]
pub struct UnknownKind(pub String);

impl FromStr for Kind {
    type Err = UnknownKind;

    /// Reads a kind as people type it: any case, singular or plural.
    fn from_str(text: &str) -> Result<Kind, UnknownKind> {
        let lower = text.to_ascii_lowercase();
        let word = lower.strip_suffix('s').unwrap_or(&lower);
        Kind::ALL
            .into_iter()
            .find(|k| k.as_str().eq_ignore_ascii_case(word))
            .or(match word {
                "pool" => Some(Kind::StoragePool),
                _ => None,
            })
            .ok_or_else(|| UnknownKind(text.to_owned()))
    }
}

/// The identity of a resource: kind, project and name, never the file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectRef {
    /// The kind.
    pub kind: Kind,
    /// The project; [`DEFAULT_PROJECT`] for kinds that have none.
    pub project: String,
    /// The name.
    pub name: String,
}

impl ObjectRef {
    /// A reference to an object of the default project.
    pub fn new(kind: Kind, name: impl Into<String>) -> ObjectRef {
        ObjectRef {
            kind,
            project: DEFAULT_PROJECT.to_owned(),
            name: name.into(),
        }
    }

    /// A reference to an object in `project`.
    pub fn in_project(
        kind: Kind,
        project: impl Into<String>,
        name: impl Into<String>,
    ) -> ObjectRef {
        ObjectRef {
            kind,
            project: project.into(),
            name: name.into(),
        }
    }
}

impl fmt::Display for ObjectRef {
    /// `KIND/NAME`, or `KIND/PROJECT/NAME` outside the default project.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.project == DEFAULT_PROJECT {
            write!(f, "{}/{}", self.kind, self.name)
        } else {
            write!(f, "{}/{}/{}", self.kind, self.project, self.name)
        }
    }
}

/// Text that is not `KIND/[PROJECT/]NAME`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadRef {
    /// The kind is not one.
    #[error(transparent)]
    Kind(#[from] UnknownKind),
    /// The shape is wrong.
    #[error("`{0}` is not KIND/NAME or KIND/PROJECT/NAME")]
    Shape(String),
}

impl FromStr for ObjectRef {
    type Err = BadRef;

    fn from_str(text: &str) -> Result<ObjectRef, BadRef> {
        let parts: Vec<&str> = text.split('/').collect();
        if parts.iter().any(|p| p.is_empty()) {
            return Err(BadRef::Shape(text.to_owned()));
        }
        match parts.as_slice() {
            [kind, name] => Ok(ObjectRef::new(kind.parse()?, *name)),
            [kind, project, name] => Ok(ObjectRef::in_project(kind.parse()?, *project, *name)),
            _ => Err(BadRef::Shape(text.to_owned())),
        }
    }
}

impl Serialize for ObjectRef {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ObjectRef {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<ObjectRef, D::Error> {
        String::deserialize(d)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// The `metadata` of a resource.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Metadata {
    /// The name; unique in its kind and project.
    pub name: String,
    /// The LXD project, where LXD has it (networks and profiles); `default` unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// Words to select resources by.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Notes for people and other programs.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// A source of desired state. A resource belongs to the source that named it first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SourceName {
    /// The watched directory.
    Directory,
    /// What `apply`, `delete`, `init` and the like wrote, kept in the store.
    Applied,
}

impl fmt::Display for SourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            SourceName::Directory => "directory",
            SourceName::Applied => "applied",
        })
    }
}

/// Where a resource was written; shown in every message about it, never part of its identity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The source.
    pub source: SourceName,
    /// The file, relative to the watched directory or as given to `apply -f`.
    pub file: String,
    /// The line of the document's first key, from 1.
    pub line: usize,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}
