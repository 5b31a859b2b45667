//! All files of a directory as they were at one moment.

use crate::resources::decode::LARGEST_FILE;
use rustix::fs::OFlags;
use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

/// How often a directory is read again because it changed meanwhile.
const TRIES: u32 = 6;

/// The first wait before another try; it doubles.
const FIRST_WAIT: Duration = Duration::from_millis(10);

/// How deep folders may be nested: beyond it the path is surely not the one that was meant.
const DEEPEST: usize = 32;

/// How many files and folders are looked at, for the same reason.
const MOST_ENTRIES: usize = 100_000;

/// How much is read in all, in bytes.
const MOST_BYTES: u64 = 512 * 1024 * 1024;

/// All files of a directory, in the order of their names.
#[derive(Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The files.
    pub files: Vec<ReadFile>,
}

/// One file.
#[derive(Debug, PartialEq, Eq)]
pub struct ReadFile {
    /// Its path below the directory, with `/`.
    pub name: String,
    /// What it holds.
    pub content: Content,
}

/// What a file holds.
#[derive(Debug, PartialEq, Eq)]
pub enum Content {
    /// These bytes.
    Bytes(Vec<u8>),
    /// Too many bytes to be read.
    TooLarge(u64),
    /// It cannot be read, for this reason.
    Unreadable(String),
}

/// What tells whether a file or folder was changed or replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp {
    path: PathBuf,
    identity: (u64, u64),
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
    problem: Option<String>,
}

/// Reads a directory as one snapshot.
///
/// # Errors
/// A sentence for people: it is not there, is no directory, cannot be listed, is far too large, or
/// keeps changing.
pub fn take(root: &Path) -> Result<Snapshot, String> {
    take_with(root, || {})
}

/// Like [`take`]; `between` runs after the files were read, before they are compared.
fn take_with(root: &Path, mut between: impl FnMut()) -> Result<Snapshot, String> {
    let mut wait = FIRST_WAIT;
    for attempt in 1..=TRIES {
        let before = stamps(root)?;
        let snapshot = read_all(root, &before)?;
        between();
        if stamps(root)? == before {
            return Ok(snapshot);
        }
        if attempt < TRIES {
            thread::sleep(wait);
            wait *= 2;
        }
    }
    Err(format!(
        "{} keeps changing while it is read; it is read again when it is quiet",
        root.display()
    ))
}

/// The stamps of the directory, its folders and its files, in the order of their paths. Reads no
/// file.
///
/// # Errors
/// As [`take`].
pub fn stamps(root: &Path) -> Result<Vec<Stamp>, String> {
    let refuse = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound if root.is_symlink() => {
            format!("{} is a symlink to nothing", root.display())
        }
        io::ErrorKind::NotFound => format!("{} is not there", root.display()),
        io::ErrorKind::NotADirectory => format!("{} is not a directory", root.display()),
        _ => format!("{} cannot be read: {error}", root.display()),
    };
    let metadata = std::fs::metadata(root).map_err(refuse)?;
    if !metadata.is_dir() {
        return Err(format!("{} is not a directory", root.display()));
    }
    let mut walk = Walk {
        found: vec![stamp(root, &metadata)],
        seen: HashSet::new(),
        files: Vec::new(),
    };
    walk.folder(root, &metadata, 0)
        .map_err(|error| match error {
            Stop::Io(error) => refuse(error),
            Stop::TooMuch(what) => format!("{} {what}: is it the right one?", root.display()),
        })?;
    Ok(walk.finish())
}

enum Stop {
    Io(io::Error),
    TooMuch(String),
}

struct Walk {
    found: Vec<Stamp>,
    /// Folders already walked, so that symlinks cannot lead in circles and no file counts twice.
    seen: HashSet<(u64, u64)>,
    files: Vec<(PathBuf, Result<Metadata, String>)>,
}

impl Walk {
    fn folder(&mut self, path: &Path, metadata: &Metadata, depth: usize) -> Result<(), Stop> {
        if depth > DEEPEST {
            return Err(Stop::TooMuch(format!(
                "is nested deeper than {DEEPEST} folders"
            )));
        }
        self.seen.insert(identity(metadata));
        let mut names = std::fs::read_dir(path)
            .and_then(|entries| {
                entries
                    .map(|e| e.map(|e| e.file_name()))
                    .collect::<Result<Vec<_>, _>>()
            })
            .map_err(Stop::Io)?;
        names.retain(|name| !skipped(name));
        names.sort();
        let mut folders = Vec::new();
        for name in names {
            if self.found.len() + self.files.len() > MOST_ENTRIES {
                return Err(Stop::TooMuch(format!(
                    "holds more than {MOST_ENTRIES} files"
                )));
            }
            let entry = path.join(&name);
            match std::fs::metadata(&entry) {
                Ok(below) if below.is_dir() => {
                    // A real folder goes before a link to it, whatever their names.
                    folders.push((entry.is_symlink(), entry, below));
                }
                Ok(below) if wanted(&name) => self.files.push((entry, Ok(below))),
                Ok(_) => {}
                Err(_) if !wanted(&name) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound && !entry.is_symlink() => {
                    // It went between the listing and the look; the next look tells.
                }
                Err(error) => {
                    let reason = match error.kind() {
                        io::ErrorKind::NotFound => "a symlink to nothing".to_owned(),
                        _ => error.to_string(),
                    };
                    self.files.push((entry, Err(reason)));
                }
            }
        }
        folders.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
        for (_, entry, below) in folders {
            if self.seen.contains(&identity(&below)) {
                continue;
            }
            self.found.push(stamp(&entry, &below));
            match self.folder(&entry, &below, depth + 1) {
                Err(Stop::Io(error)) if error.kind() != io::ErrorKind::NotFound => {
                    // A folder that cannot be listed may hold anything: it counts as a broken
                    // document, so that nothing counts as absent.
                    self.files
                        .push((entry, Err(format!("the folder cannot be listed: {error}"))));
                }
                Err(Stop::Io(_)) => {}
                other => other?,
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Vec<Stamp> {
        // Of several names of one file the first real one is read.
        let mut files: Vec<(bool, PathBuf, Result<Metadata, String>)> = self
            .files
            .into_iter()
            .map(|(path, found)| (path.is_symlink(), path, found))
            .collect();
        files.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
        let mut seen = HashSet::new();
        for (_, path, found) in files {
            match found {
                Ok(metadata) if !seen.insert(identity(&metadata)) => {}
                Ok(metadata) => self.found.push(stamp(&path, &metadata)),
                Err(problem) => self.found.push(Stamp {
                    path,
                    identity: (0, 0),
                    size: 0,
                    modified: (0, 0),
                    changed: (0, 0),
                    problem: Some(problem),
                }),
            }
        }
        self.found.sort_by(|a, b| a.path.cmp(&b.path));
        self.found
    }
}

fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

fn stamp(path: &Path, metadata: &Metadata) -> Stamp {
    // What happens in a folder shows in its files: its own times also change with files that do
    // not count, such as those of editors.
    let file = metadata.is_file();
    let known = |value: (i64, i64)| if file { value } else { (0, 0) };
    Stamp {
        path: path.to_owned(),
        identity: identity(metadata),
        size: if file { metadata.len() } else { u64::MAX },
        modified: known((metadata.mtime(), metadata.mtime_nsec())),
        changed: known((metadata.ctime(), metadata.ctime_nsec())),
        problem: (!metadata.is_file() && !metadata.is_dir())
            .then(|| "neither a file nor a folder".to_owned()),
    }
}

/// Names that hold no resources: hidden files and folders (`..data` of a mounted ConfigMap among
/// them), what editors leave, and the file of another tool that lies beside resources.
fn skipped(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    name.starts_with('.')
        || temporary(&name)
        || matches!(&*name, "kustomization.yaml" | "kustomization.yml")
}

/// Names of temporary files of editors.
pub fn temporary(name: &str) -> bool {
    name.ends_with('~')
        || name.ends_with(".swp")
        || name.ends_with(".swx")
        || name.ends_with(".swo")
        || name.ends_with(".tmp")
        || (name.starts_with('#') && name.ends_with('#'))
        || name.starts_with(".#")
        || name == "4913"
}

fn wanted(name: &OsStr) -> bool {
    let extension = Path::new(name).extension().unwrap_or_default();
    ["yaml", "yml", "json"]
        .iter()
        .any(|known| extension == *known)
}

fn read_all(root: &Path, stamps: &[Stamp]) -> Result<Snapshot, String> {
    let mut left = MOST_BYTES;
    let mut files = Vec::new();
    for stamp in stamps {
        // Folders have no size of their own.
        if stamp.size == u64::MAX && stamp.problem.is_none() {
            continue;
        }
        let name = stamp.path.strip_prefix(root).unwrap_or(&stamp.path);
        let content = match &stamp.problem {
            Some(problem) => Content::Unreadable(problem.clone()),
            None => read_file(&stamp.path),
        };
        if let Content::Bytes(bytes) = &content {
            left = left.checked_sub(bytes.len() as u64).ok_or_else(|| {
                format!(
                    "{} holds more than {} MiB: is it the right one?",
                    root.display(),
                    MOST_BYTES >> 20
                )
            })?;
        }
        files.push(ReadFile {
            name: name.to_string_lossy().into_owned(),
            content,
        });
    }
    Ok(Snapshot { files })
}

/// Reads one file; never waits for a pipe that replaced it.
pub fn read_file(path: &Path) -> Content {
    match try_read(path) {
        Ok(content) => content,
        Err(error) => Content::Unreadable(error.to_string()),
    }
}

fn try_read(path: &Path) -> io::Result<Content> {
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file: File = OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Ok(Content::Unreadable(
            "neither a file nor a folder".to_owned(),
        ));
    }
    if metadata.len() > LARGEST_FILE {
        return Ok(Content::TooLarge(metadata.len()));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or_default());
    file.take(LARGEST_FILE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LARGEST_FILE {
        return Ok(Content::TooLarge(bytes.len() as u64));
    }
    Ok(Content::Bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn names(snapshot: &Snapshot) -> Vec<&str> {
        snapshot.files.iter().map(|f| f.name.as_str()).collect()
    }

    fn directory() -> tempfile::TempDir {
        tempfile::tempdir().expect("a temporary directory can be made")
    }

    fn write(root: &Path, name: &str, content: &str) {
        let path = root.join(name);
        fs::create_dir_all(path.parent().expect("names are below the root")).expect("folder");
        fs::write(path, content).expect("file");
    }

    #[test]
    fn hidden_temporary_and_foreign_files_are_skipped() {
        let root = directory();
        for name in [
            "b.yaml",
            "a.yml",
            "deep/er/c.json",
            ".hidden.yaml",
            ".git/x.yaml",
            "a.yaml~",
            "#a.yaml#",
            ".a.yaml.swp",
            "4913",
            "notes.txt",
            "kustomization.yaml",
            "deep/kustomization.yml",
            "x.tmp",
        ] {
            write(root.path(), name, "");
        }
        let snapshot = take(root.path()).expect("readable");
        assert_eq!(names(&snapshot), ["a.yml", "b.yaml", "deep/er/c.json"]);
    }

    #[test]
    fn a_mounted_config_map_is_read_once_through_its_links() {
        let root = directory();
        write(root.path(), "..2024_01/a.yaml", "one");
        symlink("..2024_01", root.path().join("..data")).expect("link");
        symlink("..data/a.yaml", root.path().join("a.yaml")).expect("link");
        let snapshot = take(root.path()).expect("readable");
        assert_eq!(names(&snapshot), ["a.yaml"]);
        assert_eq!(snapshot.files[0].content, Content::Bytes(b"one".to_vec()));
    }

    #[test]
    fn two_names_of_one_file_are_one_file_and_circles_end() {
        let root = directory();
        write(root.path(), "real/a.yaml", "one");
        symlink("real/a.yaml", root.path().join("0.yaml")).expect("link");
        symlink("real", root.path().join("again")).expect("link");
        symlink("..", root.path().join("real/up")).expect("link");
        assert_eq!(
            names(&take(root.path()).expect("readable")),
            ["real/a.yaml"]
        );
    }

    #[test]
    fn what_cannot_be_read_is_told() {
        let root = directory();
        let nothing = root.path().join("nothing");
        assert!(
            take(&nothing)
                .expect_err("absent")
                .ends_with("is not there")
        );
        symlink("nothing", root.path().join("link")).expect("link");
        assert!(
            take(&root.path().join("link"))
                .expect_err("dangling")
                .ends_with("is a symlink to nothing")
        );
        write(root.path(), "file", "");
        assert!(
            take(&root.path().join("file"))
                .expect_err("a file")
                .ends_with("is not a directory")
        );
        write(root.path(), "dir/x.yaml", "");
        symlink("nowhere", root.path().join("dir/y.yaml")).expect("link");
        let snapshot = take(&root.path().join("dir")).expect("readable");
        assert_eq!(
            snapshot.files[1].content,
            Content::Unreadable("a symlink to nothing".to_owned())
        );
    }

    #[test]
    fn a_pipe_is_not_waited_for() {
        let root = directory();
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mknodat(
            rustix::fs::CWD,
            root.path().join("p.yaml"),
            rustix::fs::FileType::Fifo,
            mode,
            0,
        )
        .expect("a pipe");
        let snapshot = take(root.path()).expect("readable");
        assert_eq!(
            snapshot.files[0].content,
            Content::Unreadable("neither a file nor a folder".to_owned())
        );
    }

    #[test]
    fn a_change_during_the_reading_is_read_again() {
        let root = directory();
        write(root.path(), "a.yaml", "one");
        let mut once = true;
        let snapshot = take_with(root.path(), || {
            if std::mem::take(&mut once) {
                write(root.path(), "b.yaml", "two");
                fs::remove_file(root.path().join("a.yaml")).expect("there");
            }
        });
        assert_eq!(names(&snapshot.expect("quiet again")), ["b.yaml"]);
    }

    #[test]
    fn a_directory_that_never_rests_is_unreadable() {
        let root = directory();
        let mut count = 0;
        let result = take_with(root.path(), || {
            count += 1;
            write(root.path(), &format!("{count}.yaml"), "x");
        });
        assert!(result.expect_err("it changes").contains("keeps changing"));
        assert_eq!(count, TRIES);
    }

    #[test]
    fn a_swapped_symlink_counts_as_a_change() {
        let root = directory();
        write(root.path(), "v1/a.yaml", "same");
        write(root.path(), "v2/a.yaml", "same");
        let link = root.path().join("current");
        symlink("v1", &link).expect("link");
        let before = stamps(&link).expect("readable");
        fs::remove_file(&link).expect("there");
        symlink("v2", &link).expect("link");
        assert_ne!(stamps(&link).expect("readable"), before);
    }
}
