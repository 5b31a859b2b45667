//! Where the memory lives: a project of LXD's database, read and written whole.
//!
//! # Guarantees
//! - A write carries the ETag of what was read, and is read back: LXD compares ETags before its
//!   transaction, so two writers within milliseconds can both seem to pass.
//! - Keys of the project that are not ours are carried over.
//! - A memory of a newer schema is never written.
//! - What is large is packed (deflate, base64): LXD's database replicates every write whole.

use super::memory::{Lease, Memory, SCHEMA};
use crate::resources::accepted::Accepted;
use crate::services::lxd::LxdError;
use crate::services::lxd::requests::{ObjectPut, ProjectCreate};
use crate::services::lxd::{Lxd, types::Project};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;
use serde::{Serialize, de::DeserializeOwned};
use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::sync::Arc;

/// The project that holds the memory.
pub const PROJECT: &str = "microcloud";

const PREFIX: &str = "user.microcloud.";

/// The longest value that is written: LXD keeps each key in one row that raft replicates whole.
const CHUNK: usize = 512 * 1024;

/// A section of more bytes than this is packed; a smaller one can be read as it is.
const PACKED_ABOVE: usize = 32 * 1024;

/// What a packed section begins with; no JSON does.
const PACKED: &str = "deflate:";

/// A section that unpacks to more than this is damaged.
const UNPACKED_MOST: u64 = 1 << 30;

/// Why the memory could not be read or written.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// LXD did not do it.
    #[error("the project {PROJECT} could not be {what}: {cause}")]
    Lxd {
        /// `read` or `written`.
        what: &'static str,
        /// Why.
        cause: LxdError,
    },
    /// What is there does not decode.
    #[error(
        "the key {key} of project {PROJECT} is damaged: {reason}; restore it, or delete the project \
         to start with an empty memory (existing objects are then adopted)"
    )]
    Damaged {
        /// The key.
        key: String,
        /// What is wrong.
        reason: String,
    },
    /// A newer program wrote it.
    #[error("the memory has schema {found} and this program knows {SCHEMA}: update this member")]
    NewerSchema {
        /// What was found.
        found: u32,
    },
    /// Somebody else controls.
    #[error("{holder} controls since epoch {epoch}")]
    Taken {
        /// The holder.
        holder: String,
        /// Its epoch.
        epoch: u64,
    },
}

/// The memory as it was read, with what is needed to write it again.
#[derive(Debug, Clone)]
pub struct Read {
    /// The memory.
    pub memory: Memory,
    /// The project's ETag.
    pub etag: Option<String>,
    /// All keys of the project, ours and others.
    config: BTreeMap<String, String>,
    description: String,
}

/// Access to the memory.
#[derive(Debug, Clone)]
pub struct Store {
    lxd: Lxd,
}

impl Store {
    /// The store in this LXD.
    pub fn new(lxd: Lxd) -> Store {
        Store { lxd }
    }

    /// Reads the memory; `None` when there is none yet.
    ///
    /// # Errors
    /// It cannot be read, is damaged, or has a newer schema.
    pub async fn read(&self) -> Result<Option<Read>, StoreError> {
        match self.lxd.project(PROJECT).await {
            Ok(project) => decode(project.value, project.etag).map(Some),
            Err(LxdError::NotFound { .. }) => Ok(None),
            Err(cause) => Err(StoreError::Lxd {
                what: "read",
                cause,
            }),
        }
    }

    /// Reads only who controls; `None` when there is no memory yet.
    ///
    /// # Errors
    /// As [`Store::read`].
    pub async fn lease(&self) -> Result<Option<Lease>, StoreError> {
        match self.lxd.project(PROJECT).await {
            Ok(project) => {
                let text = project
                    .value
                    .config
                    .get(&format!("{PREFIX}lease.0"))
                    .cloned();
                Ok(Some(section("lease", text)?.unwrap_or_default()))
            }
            Err(LxdError::NotFound { .. }) => Ok(None),
            Err(cause) => Err(StoreError::Lxd {
                what: "read",
                cause,
            }),
        }
    }

    /// Makes the project with this memory in it, when there is none yet.
    ///
    /// # Errors
    /// It cannot be made.
    pub async fn create(&self, memory: &Memory) -> Result<Read, StoreError> {
        let mut config = encode(memory, None);
        for (key, value) in [
            ("features.images", "false"),
            ("features.profiles", "false"),
            ("features.storage.volumes", "false"),
        ] {
            config.insert(key.to_owned(), value.to_owned());
        }
        let project = ProjectCreate {
            name: PROJECT.to_owned(),
            description: "Memory of the microcloud controller; do not edit".to_owned(),
            config,
        };
        match self.lxd.create_project(&project).await {
            // Somebody else was faster: what it wrote is read and judged.
            Ok(()) | Err(LxdError::Conflict { .. }) => {}
            Err(cause) => {
                return Err(StoreError::Lxd {
                    what: "made",
                    cause,
                });
            }
        }
        self.read().await?.ok_or(StoreError::Lxd {
            what: "read",
            cause: LxdError::NotFound {
                message: "it was deleted just after it was made".into(),
            },
        })
    }

    /// Writes the memory over what was read, and reads it back.
    ///
    /// # Errors
    /// It changed since ([`LxdError::Changed`]), cannot be written, or somebody else took over.
    pub async fn write(&self, before: &Read, memory: &Memory) -> Result<Read, StoreError> {
        let mut config: BTreeMap<String, String> = before
            .config
            .iter()
            .filter(|(key, _)| parse(key).is_none())
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        config.extend(encode(memory, Some(before)));
        let put = ObjectPut {
            description: before.description.clone(),
            config,
        };
        let written = |cause| StoreError::Lxd {
            what: "written",
            cause,
        };
        self.lxd
            .put_project(PROJECT, &put, before.etag.as_deref())
            .await
            .map_err(written)?;
        let project = match self.lxd.project(PROJECT).await {
            Ok(project) => project,
            Err(LxdError::NotFound { .. }) => {
                let message = "it was deleted just after it was written".to_owned();
                return Err(written(LxdError::NotFound { message }));
            }
            Err(cause) => {
                return Err(StoreError::Lxd {
                    what: "read",
                    cause,
                });
            }
        };
        if project.value.config == put.config {
            return Ok(Read {
                memory: memory.clone(),
                etag: project.etag,
                config: put.config,
                description: project.value.description,
            });
        }
        let after = decode(project.value, project.etag)?;
        if after.memory.lease != memory.lease {
            let Lease { holder, epoch } = after.memory.lease;
            return Err(StoreError::Taken { holder, epoch });
        }
        if after.memory != *memory {
            let message = "somebody else wrote it at the same moment".to_owned();
            return Err(written(LxdError::Changed { message }));
        }
        Ok(after)
    }
}

/// The section and number of a key of ours.
fn parse(key: &str) -> Option<(&str, usize)> {
    let (section, number) = key.strip_prefix(PREFIX)?.rsplit_once('.')?;
    Some((section, number.parse().ok()?))
}

/// The memory as keys; what is large and did not change is taken from what was read.
fn encode(memory: &Memory, before: Option<&Read>) -> BTreeMap<String, String> {
    let mut config = BTreeMap::new();
    let mut put = |section: &str, text: &str| {
        let mut rest = text;
        let mut number = 0;
        while !rest.is_empty() {
            let mut end = rest.len().min(CHUNK);
            while !rest.is_char_boundary(end) {
                end -= 1;
            }
            let (chunk, tail) = rest.split_at(end);
            config.insert(format!("{PREFIX}{section}.{number}"), chunk.to_owned());
            rest = tail;
            number += 1;
        }
    };
    put("lease", &json(&memory.lease));
    put("inventory", &packed(json(&memory.inventory)));
    put("trust", &packed(json(&memory.trust)));
    // What is small and changes together.
    let rest = Memory {
        lease: Lease::default(),
        accepted: Default::default(),
        inventory: BTreeMap::new(),
        trust: Default::default(),
        hash_key: memory.hash_key.clone(),
        approvals: memory.approvals.clone(),
        suspensions: memory.suspensions.clone(),
        deletions: memory.deletions.clone(),
        disks: memory.disks.clone(),
        schema: memory.schema,
    };
    put("decisions", &json(&rest));
    match before.filter(|b| Arc::ptr_eq(&b.memory.accepted, &memory.accepted)) {
        Some(before) => {
            let same = before.config.iter();
            let same = same.filter(|(key, _)| parse(key).is_some_and(|(s, _)| s == "sources"));
            config.extend(same.map(|(key, value)| (key.clone(), value.clone())));
        }
        None => put("sources", &packed(json(&memory.accepted.as_ref()))),
    }
    config
}

/// A section as it is written.
fn packed(text: String) -> String {
    if text.len() <= PACKED_ABOVE {
        return text;
    }
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    let bytes = encoder
        .write_all(text.as_bytes())
        .and_then(|()| encoder.finish())
        .expect("writing into memory does not fail");
    format!("{PACKED}{}", STANDARD.encode(bytes))
}

/// A section as it was before it was written.
fn unpacked(text: String) -> Result<String, String> {
    let Some(encoded) = text.strip_prefix(PACKED) else {
        return Ok(text);
    };
    let bytes = STANDARD.decode(encoded).map_err(|e| e.to_string())?;
    let mut text = String::new();
    let mut decoder = ZlibDecoder::new(bytes.as_slice()).take(UNPACKED_MOST);
    decoder
        .read_to_string(&mut text)
        .map_err(|e| e.to_string())?;
    Ok(text)
}

fn json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("the memory has string keys and plain values")
}

fn decode(project: Project, etag: Option<String>) -> Result<Read, StoreError> {
    let mut sections: BTreeMap<&str, BTreeMap<usize, &str>> = BTreeMap::new();
    for (key, value) in &project.config {
        if let Some((section, number)) = parse(key) {
            sections.entry(section).or_default().insert(number, value);
        }
    }
    let text = |section: &str| -> Option<String> {
        sections
            .get(section)
            .map(|chunks| chunks.values().copied().collect())
    };
    let mut memory: Memory = section("decisions", text("decisions"))?.unwrap_or_default();
    if memory.schema > SCHEMA {
        return Err(StoreError::NewerSchema {
            found: memory.schema,
        });
    }
    memory.lease = section("lease", text("lease"))?.unwrap_or_default();
    let accepted: Option<Accepted> = section("sources", text("sources"))?;
    memory.accepted = accepted.map(Arc::new).unwrap_or_default();
    memory.inventory = section("inventory", text("inventory"))?.unwrap_or_default();
    memory.trust = section("trust", text("trust"))?.unwrap_or_default();
    Ok(Read {
        memory,
        etag,
        config: project.config,
        description: project.description,
    })
}

fn section<T: DeserializeOwned>(name: &str, text: Option<String>) -> Result<Option<T>, StoreError> {
    let damaged = |reason: String| StoreError::Damaged {
        key: format!("{PREFIX}{name}"),
        reason,
    };
    text.map(|text| {
        let text = unpacked(text).map_err(damaged)?;
        serde_json::from_str(&text).map_err(|e| damaged(e.to_string()))
    })
    .transpose()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reconcile::memory::{Entry, Ownership};
    use crate::resources::value::Deletion;
    use crate::resources::{Kind, ObjectRef};

    fn memory(objects: usize) -> Memory {
        let mut memory = Memory {
            lease: Lease {
                epoch: 3,
                holder: "micro01".into(),
            },
            ..Memory::default()
        };
        for n in 0..objects {
            let entry = Entry {
                ownership: Ownership::Created,
                generation: 1,
                digest: "d".repeat(64),
                applied: [format!("config.limits.cpu.ü{n}")].into(),
                secrets: BTreeMap::new(),
                deletion: Deletion::Delete,
            };
            memory
                .inventory
                .insert(ObjectRef::new(Kind::Profile, format!("p{n}")), entry);
        }
        memory
    }

    fn project(memory: &Memory) -> Project {
        let mut config = encode(memory, None);
        config.insert("features.images".into(), "false".into());
        config.insert("user.microcloud.note".into(), "somebody's".into());
        Project {
            name: PROJECT.into(),
            config,
            ..Project::default()
        }
    }

    #[test]
    fn what_is_written_is_read_in_any_size() {
        for objects in [0, 1, 10_000] {
            let memory = memory(objects);
            let project = project(&memory);
            assert!(project.config.values().all(|v| v.len() <= CHUNK));
            let read = decode(project, None).expect("it decodes");
            assert_eq!(read.memory, memory);
            let others = read.config.keys().filter(|key| parse(key).is_none());
            assert_eq!(others.count(), 2, "other keys are carried over");
        }
    }

    #[test]
    fn damage_and_newer_schemas_are_told() {
        let mut damaged = project(&memory(1));
        damaged
            .config
            .insert("user.microcloud.inventory.0".into(), "{".into());
        assert!(matches!(
            decode(damaged, None),
            Err(StoreError::Damaged { .. })
        ));
        let newer = project(&Memory {
            schema: SCHEMA + 1,
            ..memory(0)
        });
        assert!(matches!(
            decode(newer, None),
            Err(StoreError::NewerSchema { found: 2 })
        ));
    }
}
