//! A reading whose documents are decoded and not yet compared with one another.

use super::Diagnostic;
use super::decode::{Decoded, Located, decode_file};
use super::object::SourceName;
use super::resource::{Resource, hex};
use super::source::{Broken, Reading};
use super::validate;
use sha2::{Digest, Sha256};

/// The documents of all files of a source, decoded. [`Draft::check`] makes a [`Reading`] of it.
#[derive(Debug, Clone)]
pub struct Draft {
    /// The source.
    pub source: SourceName,
    /// The SHA-256 over all files' names and contents, in hex.
    pub revision: String,
    /// Documents that decode.
    pub resources: Vec<Located>,
    /// Documents that do not.
    pub broken: Vec<Broken>,
    /// Why the source could not be read as a whole, if so.
    pub unreadable: Option<String>,
}

impl Draft {
    /// Decodes files, given as name and content, in the order of their names.
    pub fn of_files<'a>(
        source: SourceName,
        files: impl IntoIterator<Item = (&'a str, &'a [u8])>,
    ) -> Draft {
        let mut sum = Revision::default();
        let mut draft = Draft::empty(source);
        for (name, content) in files {
            sum.add(name, content);
            draft.add(decode_file(source, name, content));
        }
        draft.revision = sum.finish();
        draft
    }

    pub(super) fn empty(source: SourceName) -> Draft {
        Draft {
            source,
            revision: Revision::default().finish(),
            resources: Vec::new(),
            broken: Vec::new(),
            unreadable: None,
        }
    }

    pub(super) fn add(&mut self, decoded: Decoded) {
        self.resources.extend(decoded.resources);
        self.broken.extend(decoded.broken);
    }

    /// What is valid and yet will not do what its writer expects; see [`validate::warnings`].
    pub fn warnings(&self, others: &[Resource]) -> Vec<Diagnostic> {
        validate::warnings(&self.resources, others, &self.broken)
    }

    /// Validates every document, alone and together with `others`: what the other sources hold.
    /// A document with an error becomes [`Broken`].
    pub fn check(self, others: &[Resource]) -> Reading {
        let findings = validate::findings(&self.resources, others, &self.broken);
        let mut resources = Vec::with_capacity(self.resources.len());
        let mut broken = self.broken;
        for (located, diagnostics) in self.resources.into_iter().zip(findings) {
            if diagnostics.is_empty() {
                resources.push(located.resource);
            } else {
                broken.push(Broken {
                    file: located.resource.origin.file.clone(),
                    reference: Some(located.resource.reference()),
                    diagnostics,
                });
            }
        }
        resources.sort_by_cached_key(Resource::reference);
        broken.sort_by_cached_key(|b| {
            (
                b.file.clone(),
                b.diagnostics.first().map(|d| (d.line, d.column)),
            )
        });
        Reading {
            source: self.source,
            revision: self.revision,
            resources,
            broken,
            unreadable: self.unreadable,
        }
    }
}

/// The SHA-256 over names and contents of files.
#[derive(Default)]
pub(super) struct Revision(Sha256);

impl Revision {
    /// Adds a file. Lengths go in as well, so that no two sets of files look the same.
    pub(super) fn add(&mut self, name: &str, content: &[u8]) {
        for part in [name.as_bytes(), content] {
            self.0.update((part.len() as u64).to_be_bytes());
            self.0.update(part);
        }
    }

    pub(super) fn finish(self) -> String {
        hex(&self.0.finalize())
    }
}
