//! Locks around what commands must not do at the same time.

use super::layout::Layout;
use super::{Error, StateDir};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// How long a command waits for another one on the same sandbox.
const LOCK_DEADLINE: Duration = Duration::from_secs(120);

/// A lock that ends with the process that holds it.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
    path: PathBuf,
}

impl Lock {
    /// Around everything that changes one sandbox.
    pub(super) fn sandbox(layout: &Layout) -> Result<Lock, Error> {
        // Not inside the sandbox's directory: `down` removes that while it holds the lock.
        Lock::take(
            layout.dir(),
            &format!("sandbox-{}", layout.name()),
            LOCK_DEADLINE,
        )
    }

    /// Around making and removing bases.
    pub(super) fn base(dir: &StateDir) -> Result<Lock, Error> {
        Lock::take(dir, "base", Duration::from_secs(900))
    }

    /// As [`Lock::base`], but `None` when it is held by somebody.
    pub(super) fn base_now(dir: &StateDir) -> Result<Option<Lock>, Error> {
        match Lock::take(dir, "base", Duration::ZERO) {
            Ok(lock) => Ok(Some(lock)),
            Err(Error::Busy { .. }) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Around choosing subnets.
    pub(super) fn subnets(dir: &StateDir) -> Result<Lock, Error> {
        Lock::take(dir, "subnets", LOCK_DEADLINE)
    }

    fn take(dir: &StateDir, name: &str, deadline: Duration) -> Result<Lock, Error> {
        let locks = dir.locks();
        let path = locks.join(name);
        let begun = Instant::now();
        loop {
            fs::create_dir_all(&locks).map_err(|e| Error::io("make", &locks, e))?;
            let file = OpenOptions::new()
                .create(true)
                .truncate(false)
                .write(true)
                .open(&path)
                .map_err(|e| Error::io("open", &path, e))?;
            match file.try_lock() {
                // A file that its last holder removed locks nobody out: take the new one.
                Ok(()) if same_file(&file, &path) => return Ok(Lock { _file: file, path }),
                Ok(()) => continue,
                Err(TryLockError::Error(e)) => return Err(Error::io("lock", path, e)),
                Err(TryLockError::WouldBlock) if begun.elapsed() > deadline => {
                    return Err(Error::Busy {
                        path,
                        waited: deadline,
                    });
                }
                Err(TryLockError::WouldBlock) => thread::sleep(Duration::from_millis(30)),
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // While it is still held. A file that stays is no lock, only a file.
        let _ = fs::remove_file(&self.path);
    }
}

/// Whether an open file is still the one its path names.
fn same_file(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let id = |m: fs::Metadata| (m.dev(), m.ino());
    match (file.metadata(), fs::metadata(path)) {
        (Ok(open), Ok(there)) => id(open) == id(there),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_held_lock_is_waited_for_and_then_named() -> Result<(), Box<dyn std::error::Error>> {
        let dir = tempfile::tempdir()?;
        let dir = StateDir::new(dir.path());
        let held = Lock::take(&dir, "x", Duration::ZERO)?;
        assert!(matches!(
            Lock::take(&dir, "x", Duration::from_millis(40)),
            Err(Error::Busy { .. })
        ));
        drop(held);
        drop(Lock::take(&dir, "x", Duration::ZERO)?);
        assert_eq!(fs::read_dir(dir.locks())?.count(), 0);
        Ok(())
    }

    #[test]
    fn a_lock_removed_by_its_holder_still_locks_the_next_two_apart()
    -> Result<(), Box<dyn std::error::Error>> {
        let dir = tempfile::tempdir()?;
        let dir = StateDir::new(dir.path());
        let first = Lock::take(&dir, "x", Duration::ZERO)?;
        let waiter = {
            let dir = dir.clone();
            thread::spawn(move || Lock::take(&dir, "x", Duration::from_secs(10)))
        };
        thread::sleep(Duration::from_millis(60));
        drop(first);
        let second = waiter.join().map_err(|_| "the waiter failed")??;
        assert!(matches!(
            Lock::take(&dir, "x", Duration::ZERO),
            Err(Error::Busy { .. })
        ));
        drop(second);
        Ok(())
    }
}
