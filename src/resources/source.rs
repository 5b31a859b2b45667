//! What one reading of a source gave.

use super::diagnostic::Diagnostic;
use super::object::{ObjectRef, SourceName};
use super::resource::Resource;
use serde::{Deserialize, Serialize};

/// One complete reading of a source: every document of every file, good and bad.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    /// The source.
    pub source: SourceName,
    /// The SHA-256 over all files' names and contents, in hex: equal readings are equal here.
    pub revision: String,
    /// The documents that decode and are valid, in the order of their references.
    pub resources: Vec<Resource>,
    /// The documents that do not.
    pub broken: Vec<Broken>,
    /// Why the source could not be read as a whole (unreadable, vanished, not a directory), if so.
    pub unreadable: Option<String>,
}

impl Reading {
    /// Whether a resource that is missing here may count as absent: everything was read, every
    /// document decodes, and there is at least one.
    pub fn shows_absence(&self) -> bool {
        self.unreadable.is_none() && self.broken.is_empty() && !self.resources.is_empty()
    }
}

/// A document (or a whole file) that does not decode or is not valid.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Broken {
    /// The file.
    pub file: String,
    /// What it would be, when its header could be read.
    pub reference: Option<ObjectRef>,
    /// Everything that is wrong with it.
    pub diagnostics: Vec<Diagnostic>,
}
