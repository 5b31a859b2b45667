//! Files of the agent's state directory: private, and always either the old or the new content.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// A file of the state directory could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StateFileError {
    /// The system refused.
    #[error("cannot {action} {path}")]
    Io {
        /// `read`, `write`, `create`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The content is not what this program wrote.
    #[error("{path} is damaged ({reason}): restore it from a backup, or remove it to {remedy}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        reason: String,
        /// What removing it does.
        remedy: &'static str,
    },
    /// Others may read a secret.
    #[error(
        "{path} can be read by others (mode {mode:o}): run `chmod 600 {path}`, and if others may have read it, remove it to get a new key"
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
}

/// Makes the directory with mode 0700 if it is missing, with its parents.
///
/// # Errors
/// It cannot be made.
pub fn make_private_dir(path: &Path) -> Result<(), StateFileError> {
    if path.is_dir() {
        return Ok(());
    }
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| StateFileError::Io {
            action: "create",
            path: path.to_owned(),
            source,
        })
}

/// Reads a file; `None` when there is none.
///
/// # Errors
/// It is there but cannot be read.
pub fn read(path: &Path) -> Result<Option<Vec<u8>>, StateFileError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(StateFileError::Io {
            action: "read",
            path: path.to_owned(),
            source,
        }),
    }
}

/// Reads a file that only its owner may read; `None` when there is none.
///
/// # Errors
/// It cannot be read, or others may read it.
pub fn read_secret(path: &Path) -> Result<Option<Vec<u8>>, StateFileError> {
    let Some(bytes) = read(path)? else {
        return Ok(None);
    };
    let mode = fs::metadata(path)
        .map_err(|source| StateFileError::Io {
            action: "read",
            path: path.to_owned(),
            source,
        })?
        .permissions()
        .mode()
        & 0o777;
    if mode & 0o077 != 0 {
        return Err(StateFileError::Exposed {
            path: path.to_owned(),
            mode,
        });
    }
    Ok(Some(bytes))
}

/// Replaces a file: after a crash at any point it has the old content or the new one, and once
/// this returns the new one survives a power loss. Mode 0600.
///
/// # Errors
/// It cannot be written.
pub fn write(path: &Path, content: &[u8]) -> Result<(), StateFileError> {
    place(path, content, true).map(|_| ())
}

/// Like [`write`], but leaves a file that is already there alone. Says whether it wrote.
///
/// # Errors
/// It cannot be written.
pub fn write_new(path: &Path, content: &[u8]) -> Result<bool, StateFileError> {
    place(path, content, false)
}

fn place(path: &Path, content: &[u8], replace: bool) -> Result<bool, StateFileError> {
    let dir = path.parent().unwrap_or(Path::new("."));
    let attempt = || -> io::Result<bool> {
        // A temporary file of this crate has mode 0600 from the start.
        let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(dir)?;
        file.write_all(content)?;
        file.as_file().sync_all()?;
        if replace {
            file.persist(path).map_err(|e| e.error)?;
        } else if let Err(e) = file.persist_noclobber(path) {
            return match e.error.kind() {
                io::ErrorKind::AlreadyExists => Ok(false),
                _ => Err(e.error),
            };
        }
        File::open(dir)?.sync_all()?;
        Ok(true)
    };
    attempt().map_err(|source| StateFileError::Io {
        action: "write",
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_files_are_private_and_replaced_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sub/file");
        make_private_dir(path.parent().unwrap()).unwrap();
        let mode = |p: &Path| fs::metadata(p).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(path.parent().unwrap()), 0o700);
        assert_eq!(read(&path).unwrap(), None);
        write(&path, b"one").unwrap();
        write(&path, b"two").unwrap();
        assert!(!write_new(&path, b"three").unwrap());
        assert_eq!(read_secret(&path).unwrap().unwrap(), b"two");
        assert_eq!(mode(&path), 0o600);
        let names: Vec<_> = fs::read_dir(path.parent().unwrap()).unwrap().collect();
        assert_eq!(names.len(), 1, "no temporary file stays behind");
    }

    #[test]
    fn a_secret_others_may_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        write(&path, b"secret").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let error = read_secret(&path).unwrap_err().to_string();
        assert!(error.contains("mode 640"), "{error}");
    }
}
