//! Files given on the command line: files, folders and `-` for the standard input.

use super::decode::LARGEST_FILE;
use super::decode::{decode_file, too_large, whole_file};
use super::directory;
use super::draft::{Draft, Revision};
use super::object::SourceName;
use super::resource::Resource;
use super::source::Reading;
use std::io::Read;
use std::path::{Path, PathBuf};

/// The name of the standard input in messages.
pub const STANDARD_INPUT: &str = "<stdin>";

/// Reads and validates files, folders (as the watched directory is read) and `-`, which is taken
/// from `input`. `others` are resources that exist already and may be referred to.
///
/// The reading is one of [`SourceName::Applied`]: it never makes anything absent.
pub fn read(paths: &[PathBuf], input: &mut dyn Read, others: &[Resource]) -> Reading {
    draft(paths, input).check(others)
}

/// Reads and decodes files, folders and `-`. A path that cannot be read is a broken document.
pub fn draft(paths: &[PathBuf], input: &mut dyn Read) -> Draft {
    let mut all = Draft::empty(SourceName::Applied);
    let mut revision = Revision::default();
    for path in paths {
        let part = one(path, input);
        revision.add(&path.to_string_lossy(), part.revision.as_bytes());
        all.resources.extend(part.resources);
        all.broken.extend(part.broken);
        if let Some(reason) = part.unreadable {
            all.broken.push(whole_file(&path.to_string_lossy(), reason));
        }
    }
    all.revision = revision.finish();
    all
}

fn one(path: &Path, input: &mut dyn Read) -> Draft {
    if path == Path::new("-") {
        let mut bytes = Vec::new();
        return match input.take(LARGEST_FILE + 1).read_to_end(&mut bytes) {
            Ok(_) => content(STANDARD_INPUT, &bytes),
            Err(error) => broken(STANDARD_INPUT, format!("cannot be read: {error}")),
        };
    }
    if path.is_dir() {
        let prefix = match path.to_string_lossy().trim_end_matches('/') {
            "." | "" => String::new(),
            folder => format!("{folder}/"),
        };
        return directory::draft_as(path, SourceName::Applied, &prefix);
    }
    let name = path.to_string_lossy();
    match std::fs::metadata(path).map(|m| m.is_file() && m.len() > LARGEST_FILE) {
        Ok(true) => {
            let bytes = std::fs::metadata(path)
                .map(|m| m.len())
                .unwrap_or(LARGEST_FILE + 1);
            return broken(&name, too_large(bytes));
        }
        Ok(false) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return broken(&name, "there is no such file or folder".to_owned());
        }
        Err(error) => return broken(&name, format!("the file cannot be read: {error}")),
    }
    // Pipes (`<(...)`) are read to their end, so the size is checked again.
    let mut bytes = Vec::new();
    let read = std::fs::File::open(path)
        .and_then(|file| file.take(LARGEST_FILE + 1).read_to_end(&mut bytes));
    match read {
        Ok(_) => content(&name, &bytes),
        Err(error) => broken(&name, format!("the file cannot be read: {error}")),
    }
}

fn content(name: &str, bytes: &[u8]) -> Draft {
    let mut revision = Revision::default();
    revision.add(name, bytes);
    let mut draft = Draft::empty(SourceName::Applied);
    draft.add(decode_file(SourceName::Applied, name, bytes));
    draft.revision = revision.finish();
    draft
}

fn broken(name: &str, reason: String) -> Draft {
    let mut draft = Draft::empty(SourceName::Applied);
    draft.broken.push(whole_file(name, reason));
    draft
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROFILE: &str = "apiVersion: microcloud.dev/v1\nkind: Profile\nmetadata: {name: NAME}\n";

    fn profile(name: &str) -> String {
        PROFILE.replace("NAME", name)
    }

    fn read_text(paths: &[&Path], input: &str) -> Reading {
        let paths: Vec<PathBuf> = paths.iter().map(|p| (*p).to_owned()).collect();
        read(&paths, &mut input.as_bytes(), &[])
    }

    #[test]
    fn files_folders_and_the_standard_input_are_one_reading() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let folder = root.path().join("folder");
        std::fs::create_dir(&folder).expect("made");
        std::fs::write(folder.join("a.yaml"), profile("a")).expect("written");
        let file = root.path().join("any.name");
        std::fs::write(&file, profile("b")).expect("written");
        let reading = read_text(&[&folder, &file, Path::new("-")], &profile("c"));
        assert_eq!(
            (reading.source, reading.broken.len()),
            (SourceName::Applied, 0)
        );
        let origins: Vec<(String, String)> = reading
            .resources
            .iter()
            .map(|r| (r.metadata.name.clone(), r.origin.file.clone()))
            .collect();
        let expected = [
            ("a", format!("{}/a.yaml", folder.display())),
            ("b", file.display().to_string()),
            ("c", STANDARD_INPUT.to_owned()),
        ];
        assert_eq!(
            origins,
            expected.map(|(name, file)| (name.to_owned(), file))
        );
    }

    #[test]
    fn what_is_not_there_or_too_large_is_told() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let large = root.path().join("large.yaml");
        let file = std::fs::File::create(&large).expect("made");
        file.set_len(LARGEST_FILE + 1).expect("a sparse file");
        let reading = read_text(&[&root.path().join("gone"), &large], "");
        let told: Vec<&str> = reading
            .broken
            .iter()
            .flat_map(|b| &b.diagnostics)
            .map(|d| d.message.as_str())
            .collect();
        assert_eq!(
            told,
            [
                "there is no such file or folder",
                "the file has 10.0 MiB; at most 10 MiB are read: split it"
            ]
        );
        let endless = std::io::repeat(b'#').take(LARGEST_FILE * 3);
        let paths = [PathBuf::from("-")];
        let reading = read(&paths, &mut { endless }, &[]);
        assert!(
            reading.broken[0].diagnostics[0]
                .message
                .contains("at most 10 MiB")
        );
    }
}
