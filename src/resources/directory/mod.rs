//! The watched directory.
//!
//! It is always read as a whole and as one snapshot: file systems tell too little to read less,
//! and half of a change must never be acted on. Hints that something may have changed come from
//! [`watch`]; they say nothing about what.

mod snapshot;
mod watch;

pub use watch::{Watch, watch};

use super::decode::{LARGEST_FILE, too_large, whole_file};
use super::draft::{Draft, Revision};
use super::object::SourceName;
use super::resource::Resource;
use super::source::Reading;
use snapshot::{Content, Snapshot};
use std::path::Path;

/// Reads the directory and validates what it holds by itself. See [`read_beside`].
///
/// Blocks while it reads.
pub fn read(path: &Path) -> Reading {
    read_beside(path, &[])
}

/// Reads the directory and validates what it holds together with `others`: what the other sources
/// hold, so that a file may refer to what was applied.
///
/// Any depth of folders; `.yaml`, `.yml` and `.json`; hidden files and folders, temporary files of
/// editors and `kustomization.yaml` are skipped; symlinks are followed and every file is read
/// once. If files change while they are read, everything is read again, a few times; then the
/// directory counts as unreadable until the next reading. Blocks while it reads.
pub fn read_beside(path: &Path, others: &[Resource]) -> Reading {
    draft(path).check(others)
}

/// Reads and decodes the directory. Blocks while it reads.
pub fn draft(path: &Path) -> Draft {
    draft_as(path, SourceName::Directory, "")
}

/// Reads a folder for `source`; file names get `prefix` in front.
pub(super) fn draft_as(path: &Path, source: SourceName, prefix: &str) -> Draft {
    match snapshot::take(path) {
        Ok(snapshot) => decode(snapshot, source, prefix),
        Err(reason) => Draft {
            unreadable: Some(reason),
            ..Draft::empty(source)
        },
    }
}

fn decode(snapshot: Snapshot, source: SourceName, prefix: &str) -> Draft {
    let mut draft = Draft::empty(source);
    let mut revision = Revision::default();
    for file in snapshot.files {
        let name = format!("{prefix}{}", file.name);
        match file.content {
            Content::Bytes(bytes) => {
                revision.add(&file.name, &bytes);
                draft.add(super::decode::decode_file(source, &name, &bytes));
            }
            Content::TooLarge(bytes) => {
                debug_assert!(bytes > LARGEST_FILE);
                revision.add(&file.name, &bytes.to_be_bytes());
                draft.broken.push(whole_file(&name, too_large(bytes)));
            }
            Content::Unreadable(reason) => {
                revision.add(&file.name, reason.as_bytes());
                draft.broken.push(whole_file(
                    &name,
                    format!("the file cannot be read: {reason}"),
                ));
            }
        }
    }
    draft.revision = revision.finish();
    draft
}
