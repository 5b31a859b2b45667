//! The highest epoch this agent has seen, and whether it leads.
//!
//! Every controller that takes over has a higher epoch than the one before. An agent that has
//! seen an epoch does nothing more for a lower one, nor for another holder of the same one, also
//! after a restart: a higher epoch is on disk before anything is done for it.

use crate::services::peer::Claim;
use crate::services::peer::state_file::{self, StateFileError};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// An epoch and who holds it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Epoch {
    /// Rises with every take-over; 0 before the first.
    pub number: u64,
    /// The member that holds it; empty before the first.
    pub holder: String,
}

/// A caller's epoch was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum EpochError {
    /// A higher one, or another holder of this one, is known.
    #[error("epoch {number} of `{holder}` is known here")]
    Stale {
        /// The known epoch.
        number: u64,
        /// Its holder.
        holder: String,
    },
    /// It could not be stored.
    #[error(transparent)]
    File(#[from] StateFileError),
}

/// The highest epoch seen; kept in `epoch.json` of the state directory.
#[derive(Debug)]
pub struct EpochBook {
    path: PathBuf,
    highest: Mutex<Epoch>,
    /// Held while the file is written: who only reads does not wait for the disk.
    storing: Mutex<()>,
    claim: Mutex<Option<u64>>,
}

impl EpochBook {
    /// Reads the book in `state_dir`.
    ///
    /// # Errors
    /// It is there but cannot be read, or is damaged.
    pub fn open(state_dir: &Path) -> Result<EpochBook, StateFileError> {
        let path = state_dir.join("epoch.json");
        let highest = match state_file::read(&path)? {
            None => Epoch::default(),
            Some(bytes) => serde_json::from_slice(&bytes).map_err(|e| StateFileError::Damaged {
                path: path.clone(),
                reason: e.to_string(),
                remedy: "learn the epoch again from the controller, after making sure that \
                             only one controller is running",
            })?,
        };
        Ok(EpochBook {
            path,
            highest: Mutex::new(highest),
            storing: Mutex::new(()),
            claim: Mutex::new(None),
        })
    }

    /// The highest epoch seen.
    pub fn highest(&self) -> Epoch {
        self.highest
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Checks that `holder` may act with the epoch `number`, and records it if it is new.
    ///
    /// # Errors
    /// A higher epoch, or another holder of this one, is known; or it could not be stored, and
    /// then nothing may be done for it.
    pub fn admit(&self, number: u64, holder: &str) -> Result<(), EpochError> {
        let _storing = self.storing.lock().unwrap_or_else(PoisonError::into_inner);
        let highest = self.highest();
        let same_holder = highest.holder.is_empty() || highest.holder == holder;
        if number < highest.number || (number == highest.number && !same_holder) {
            return Err(EpochError::Stale {
                number: highest.number,
                holder: highest.holder.clone(),
            });
        }
        if number == highest.number && highest.holder == holder {
            return Ok(());
        }
        let next = Epoch {
            number,
            holder: holder.to_owned(),
        };
        self.store(&next)?;
        self.set_highest(next);
        Ok(())
    }

    fn set_highest(&self, epoch: Epoch) {
        *self.highest.lock().unwrap_or_else(PoisonError::into_inner) = epoch;
    }

    /// Forgets the highest epoch, for a machine that leaves its cluster for another one, whose
    /// epochs are counted apart.
    ///
    /// # Errors
    /// It could not be stored.
    pub fn forget(&self) -> Result<(), StateFileError> {
        let _storing = self.storing.lock().unwrap_or_else(PoisonError::into_inner);
        self.store(&Epoch::default())?;
        self.set_highest(Epoch::default());
        Ok(())
    }

    fn store(&self, epoch: &Epoch) -> Result<(), StateFileError> {
        // A number and a name are always JSON.
        state_file::write(&self.path, &serde_json::to_vec(epoch).unwrap_or_default())
    }

    /// Says that this agent leads with an epoch, or no longer leads. Its calls to other agents
    /// carry the epoch from then on.
    pub fn set_claim(&self, epoch: Option<u64>) {
        *self.claim.lock().unwrap_or_else(PoisonError::into_inner) = epoch;
    }
}

impl Claim for EpochBook {
    fn epoch(&self) -> Option<u64> {
        *self.claim.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lower_epochs_and_second_holders_are_refused_also_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let book = EpochBook::open(dir.path()).unwrap();
        assert_eq!(book.highest(), Epoch::default());
        book.admit(3, "a").unwrap();
        book.admit(3, "a").unwrap();
        for book in [book, EpochBook::open(dir.path()).unwrap()] {
            assert!(matches!(
                book.admit(2, "a"),
                Err(EpochError::Stale { number: 3, .. })
            ));
            assert!(matches!(
                book.admit(3, "b"),
                Err(EpochError::Stale { number: 3, .. })
            ));
            assert_eq!(book.highest().holder, "a");
        }
        let book = EpochBook::open(dir.path()).unwrap();
        book.admit(4, "b").unwrap();
        assert!(book.admit(3, "a").is_err());
        book.forget().unwrap();
        let book = EpochBook::open(dir.path()).unwrap();
        assert_eq!(book.highest(), Epoch::default());
        book.admit(1, "c").unwrap();
    }

    #[test]
    fn what_cannot_be_stored_is_not_admitted() {
        let dir = tempfile::tempdir().unwrap();
        let book = EpochBook::open(&dir.path().join("gone")).unwrap();
        assert!(matches!(book.admit(1, "a"), Err(EpochError::File(_))));
        assert_eq!(book.highest().number, 0);
    }

    #[test]
    fn a_damaged_file_is_explained() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("epoch.json"), "7").unwrap();
        let error = EpochBook::open(dir.path()).unwrap_err().to_string();
        assert!(error.contains("epoch.json is damaged"), "{error}");
    }
}
