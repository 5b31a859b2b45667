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

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    const PROFILE: &str = "apiVersion: microcloud.dev/v1\nkind: Profile\nmetadata: {name: NAME}\n";

    fn directory(names: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a temporary directory");
        for name in names {
            let text = PROFILE.replace("NAME", name);
            fs::write(root.path().join(format!("{name}.yaml")), text).expect("written");
        }
        root
    }

    #[test]
    fn an_empty_directory_is_a_reading_of_nothing() {
        let reading = read(directory(&[]).path());
        assert_eq!((reading.resources.len(), reading.broken.len()), (0, 0));
        assert_eq!(reading.unreadable, None);
        assert!(!reading.shows_absence());
    }

    #[test]
    fn a_vanished_directory_and_a_link_to_nothing_are_unreadable() {
        let root = directory(&["a"]);
        let link = root.path().join("link");
        symlink("nothing", &link).expect("linked");
        for path in [root.path().join("gone"), link, root.path().join("a.yaml")] {
            let reading = read(&path);
            assert!(
                reading.unreadable.is_some() && !reading.shows_absence(),
                "{reading:?}"
            );
        }
    }

    #[test]
    fn one_of_five_files_that_cannot_be_read_does_not_hide_the_others() {
        let root = directory(&["a", "b", "c", "d"]);
        symlink("nothing", root.path().join("e.yaml")).expect("linked");
        let large = fs::File::create(root.path().join("f.yaml")).expect("made");
        large.set_len(LARGEST_FILE + 1).expect("a sparse file");
        let reading = read(root.path());
        assert_eq!(reading.resources.len(), 4);
        let told: Vec<String> = reading
            .broken
            .iter()
            .flat_map(|b| &b.diagnostics)
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            told,
            [
                "e.yaml: the file cannot be read: a symlink to nothing",
                "f.yaml: the file has 10.0 MiB; at most 10 MiB are read: split it"
            ]
        );
        assert!(!reading.shows_absence());
    }

    #[test]
    fn a_partly_written_file_is_broken_or_itself_until_it_is_whole() {
        let root = directory(&["a", "b"]);
        let text = PROFILE.replace("NAME", "b") + "spec: {config: {limits.cpu: \"2\"}}\n";
        for end in 0..=text.len() {
            fs::write(root.path().join("b.yaml"), &text[..end]).expect("written");
            let reading = read(root.path());
            assert_eq!(reading.unreadable, None);
            assert!(
                reading.resources.iter().any(|r| r.metadata.name == "a"),
                "{end}"
            );
        }
        assert_eq!(read(root.path()).resources.len(), 2);
    }

    #[test]
    fn the_revision_follows_names_and_contents_only() {
        let root = directory(&["a", "b"]);
        let first = read(root.path()).revision;
        fs::write(root.path().join("a.yaml"), PROFILE.replace("NAME", "a")).expect("the same");
        fs::write(root.path().join("notes.txt"), "not ours").expect("written");
        assert_eq!(read(root.path()).revision, first);
        fs::rename(root.path().join("a.yaml"), root.path().join("c.yaml")).expect("moved");
        assert_ne!(read(root.path()).revision, first);
    }
}
