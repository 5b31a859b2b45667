//! Which keys this agent trusts, and why.
//!
//! Three lists answer, the first that knows decides:
//! 1. the cluster's trust store, as the controller gave it last;
//! 2. `spec.fingerprint` of the members this agent's accepted resources name, for members the
//!    store does not know, except keys the store once had and dropped;
//! 3. the first peers a person named with `microcloud agent trust`, until the store names them.

use crate::services::host::{HostError, TrustStore};
use crate::services::peer::state_file::{self, StateFileError};
use crate::services::peer::{Fingerprint, Pins, Refusal, identity};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

/// The keys this agent trusts; kept in `trust.json` of the state directory.
#[derive(Debug)]
pub struct TrustBook {
    path: PathBuf,
    /// Held while the file is written, so that two changes never mix.
    pages: RwLock<Pages>,
}

#[derive(Debug, Clone, Default)]
struct Pages {
    kept: Kept,
    /// By member name; read again from the resources at every start.
    declared: BTreeMap<String, Fingerprint>,
}

/// What is on disk.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Kept {
    /// The cluster's trust store.
    #[serde(default)]
    store: TrustStore,
    /// Keys that were in the store and are not any more.
    #[serde(default)]
    removed: BTreeSet<String>,
    /// Keys a person named.
    #[serde(default)]
    first: Vec<FirstPeer>,
}

/// A key a person named before there was a trust store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FirstPeer {
    /// The key.
    pub fingerprint: String,
    /// The member it belongs to; without one, the first name it proves itself under.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// A change of the trusted keys that was not made.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The file.
    #[error(transparent)]
    File(#[from] StateFileError),
    /// The given trust store is older than the known one.
    #[error("trust store version {given} is older than version {known}, which this agent has")]
    Older {
        /// The version that was given.
        given: u64,
        /// The version that is known.
        known: u64,
    },
    /// The given trust store names nobody.
    #[error("a trust store without any member would shut everybody out")]
    Empty,
    /// The given trust store cannot be right.
    #[error("the trust store is not valid: {0}")]
    Invalid(String),
    /// There is a trust store already.
    #[error(
        "this machine already follows the trust store of a cluster ({members}), which alone \
         decides; to forget that cluster and begin anew: `microcloud agent trust --replace \
         FINGERPRINT`"
    )]
    HasStore {
        /// The members of that cluster.
        members: String,
    },
    /// The name cannot be a member's.
    #[error("`{0}` cannot be a member's name")]
    BadName(String),
}

impl From<TrustError> for HostError {
    fn from(error: TrustError) -> HostError {
        let reason = crate::agent::with_causes(&error);
        match error {
            TrustError::File(_) => HostError::Failed { reason },
            _ => HostError::GuardFailed { reason },
        }
    }
}

impl TrustBook {
    /// Reads the book in `state_dir`.
    ///
    /// # Errors
    /// It is there but cannot be read, or is damaged: then nobody can be trusted.
    pub fn open(state_dir: &Path) -> Result<TrustBook, StateFileError> {
        let path = state_dir.join("trust.json");
        let kept = match state_file::read(&path)? {
            None => Kept::default(),
            Some(bytes) => serde_json::from_slice::<Kept>(&bytes)
                .map_err(|e| e.to_string())
                .and_then(|kept| check(&kept).map(|()| kept))
                .map_err(|reason| StateFileError::Damaged {
                    path: path.clone(),
                    reason,
                    remedy: "trust only what the resources pin until the controller or \
                             `microcloud agent trust` says more",
                })?,
        };
        Ok(TrustBook {
            path,
            pages: RwLock::new(Pages {
                kept,
                declared: BTreeMap::new(),
            }),
        })
    }

    /// The cluster's trust store as this agent knows it; empty before there is one.
    pub fn store(&self) -> TrustStore {
        self.read(|pages| pages.kept.store.clone())
    }

    /// The version of the cluster's trust store; 0 before there is one.
    pub fn version(&self) -> u64 {
        self.read(|pages| pages.kept.store.version)
    }

    /// The keys a person named that are still in force.
    pub fn first_peers(&self) -> Vec<FirstPeer> {
        self.read(|pages| pages.kept.first.clone())
    }

    /// Takes over the cluster's trust store; keys it does not have any more are shut out at once.
    /// What a person named ends with it, but for keys of members the store does not name yet: the
    /// store grows with each machine that is first seen, and one that is late must still get in.
    ///
    /// # Errors
    /// It is older than the known one, names nobody, is not valid, or cannot be stored; the known
    /// one stays in force.
    pub fn set_store(&self, store: TrustStore) -> Result<(), TrustError> {
        let store = checked_store(store)?;
        self.change(|kept| {
            if store.version < kept.store.version {
                return Err(TrustError::Older {
                    given: store.version,
                    known: kept.store.version,
                });
            }
            let mut first = kept.first.clone();
            first.retain(|peer| {
                let known = |name: &String| store.members.contains_key(name);
                peer.name.as_ref().is_some_and(|name| !known(name))
                    && store
                        .members
                        .values()
                        .all(|m| m.fingerprint != peer.fingerprint)
            });
            if store == kept.store && first == kept.first {
                return Ok(false);
            }
            let had = kept.store.members.values();
            let mut removed: BTreeSet<String> = had.map(|m| m.fingerprint.clone()).collect();
            removed.append(&mut kept.removed);
            for member in store.members.values() {
                removed.remove(&member.fingerprint);
            }
            *kept = Kept {
                store,
                removed,
                first,
            };
            Ok(true)
        })
    }

    /// Names the keys that the accepted resources pin, by member name, instead of those named
    /// before. Leave out members whose `state` is `Absent`.
    pub fn set_declared(&self, pins: BTreeMap<String, Fingerprint>) {
        self.pages
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .declared = pins;
    }

    /// Trusts a key on a person's word, as member `name` or whatever member first proves it.
    /// With `replace` a known trust store is forgotten first.
    ///
    /// # Errors
    /// There is a trust store and `replace` is not set, or it cannot be stored.
    pub fn trust_first(
        &self,
        fingerprint: &Fingerprint,
        name: Option<&str>,
        replace: bool,
    ) -> Result<(), TrustError> {
        if let Some(name) = name
            && !identity::valid_name(name)
        {
            return Err(TrustError::BadName(name.chars().take(100).collect()));
        }
        self.change(|kept| {
            if replace {
                *kept = Kept::default();
            } else if !kept.store.members.is_empty() {
                let members: Vec<&str> = kept.store.members.keys().map(String::as_str).collect();
                return Err(TrustError::HasStore {
                    members: members.join(", "),
                });
            }
            kept.removed.remove(fingerprint.as_str());
            kept.first.retain(|peer| {
                peer.fingerprint != fingerprint.as_str()
                    && (name.is_none() || peer.name.as_deref() != name)
            });
            kept.first.push(FirstPeer {
                fingerprint: fingerprint.to_string(),
                name: name.map(str::to_owned),
            });
            Ok(true)
        })
    }

    /// Takes back what a person named, as long as no trust store names it.
    ///
    /// # Errors
    /// It cannot be stored.
    pub fn distrust_first(&self, fingerprints: &[Fingerprint]) -> Result<(), TrustError> {
        self.change(|kept| {
            let before = kept.first.len();
            kept.first.retain(|peer| {
                fingerprints
                    .iter()
                    .all(|key| key.as_str() != peer.fingerprint)
            });
            Ok(kept.first.len() != before)
        })
    }

    /// Binds a key that a person named without a name to the name it has just proven itself
    /// under. Call it only when the handshake is complete.
    ///
    /// # Errors
    /// It cannot be stored.
    pub fn bind(&self, name: &str, fingerprint: &Fingerprint) -> Result<(), TrustError> {
        let unbound = |kept: &Kept| {
            kept.first
                .iter()
                .position(|p| p.name.is_none() && p.fingerprint == fingerprint.as_str())
        };
        if self.read(|pages| unbound(&pages.kept).is_none()) {
            return Ok(());
        }
        self.change(|kept| {
            let Some(place) = unbound(kept) else {
                return Ok(false);
            };
            kept.first[place].name = Some(name.to_owned());
            Ok(true)
        })
    }

    fn read<T>(&self, look: impl FnOnce(&Pages) -> T) -> T {
        look(&self.pages.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes what is kept: first on disk, then in force.
    fn change(
        &self,
        edit: impl FnOnce(&mut Kept) -> Result<bool, TrustError>,
    ) -> Result<(), TrustError> {
        let mut pages = self.pages.write().unwrap_or_else(PoisonError::into_inner);
        let mut kept = pages.kept.clone();
        if edit(&mut kept)? {
            let text =
                serde_json::to_vec_pretty(&kept).map_err(|e| TrustError::Invalid(e.to_string()))?;
            state_file::write(&self.path, &text)?;
            pages.kept = kept;
        }
        Ok(())
    }
}

/// The store with its fingerprints in one spelling.
fn checked_store(mut store: TrustStore) -> Result<TrustStore, TrustError> {
    if store.members.is_empty() {
        return Err(TrustError::Empty);
    }
    let mut owners: BTreeMap<String, String> = BTreeMap::new();
    for (name, member) in &mut store.members {
        let key: Fingerprint = member
            .fingerprint
            .parse()
            .map_err(|e| TrustError::Invalid(format!("member `{name}`: {e}")))?;
        member.fingerprint = key.into();
        if let Some(other) = owners.insert(member.fingerprint.clone(), name.clone()) {
            return Err(TrustError::Invalid(format!(
                "`{other}` and `{name}` have the same key"
            )));
        }
    }
    Ok(store)
}

fn check(kept: &Kept) -> Result<(), String> {
    let first = kept.first.iter().map(|p| &p.fingerprint);
    let members = kept.store.members.values().map(|m| &m.fingerprint);
    for text in first.chain(members).chain(&kept.removed) {
        let key: Fingerprint = text.parse().map_err(|e| format!("{e}"))?;
        if key.as_str() != text {
            return Err(format!("`{text}` is not spelled as this program does"));
        }
    }
    Ok(())
}

impl Pins for TrustBook {
    fn key_of(&self, member: &str) -> Option<Fingerprint> {
        self.read(|pages| {
            let store = pages.kept.store.members.get(member);
            if let Some(known) = store {
                return known.fingerprint.parse().ok();
            }
            let first = || {
                let mut peers = pages.kept.first.iter();
                let peer = peers.find(|p| p.name.as_deref() == Some(member))?;
                peer.fingerprint.parse().ok()
            };
            pages.declared.get(member).cloned().or_else(first)
        })
    }

    fn address_of(&self, member: &str) -> Option<IpAddr> {
        self.read(|pages| Some(pages.kept.store.members.get(member)?.address))
    }

    fn admit(&self, name: &str, fingerprint: &Fingerprint) -> Result<(), Refusal> {
        let (name_owned, key) = (name.to_owned(), fingerprint.clone());
        let other_key = Refusal::OtherKey {
            name: name_owned.clone(),
            fingerprint: key.clone(),
        };
        let other_name = |owner: &str| Refusal::OtherName {
            name: name_owned.clone(),
            owner: owner.to_owned(),
            fingerprint: key.clone(),
        };
        self.read(|pages| {
            let members = &pages.kept.store.members;
            if let Some(member) = members.get(name) {
                return if member.fingerprint == fingerprint.as_str() {
                    Ok(())
                } else {
                    Err(other_key)
                };
            }
            if let Some((owner, _)) = members
                .iter()
                .find(|(_, m)| m.fingerprint == fingerprint.as_str())
            {
                return Err(other_name(owner));
            }
            if pages.kept.removed.contains(fingerprint.as_str()) {
                return Err(Refusal::Removed {
                    name: name_owned.clone(),
                    fingerprint: key.clone(),
                });
            }
            if let Some(pinned) = pages.declared.get(name) {
                return if pinned == fingerprint {
                    Ok(())
                } else {
                    Err(other_key)
                };
            }
            if let Some((owner, _)) = pages.declared.iter().find(|(_, k)| *k == fingerprint) {
                return Err(other_name(owner));
            }
            let mut first = pages.kept.first.iter();
            match first.find(|p| p.fingerprint == fingerprint.as_str()) {
                Some(FirstPeer {
                    name: Some(owner), ..
                }) if owner != name => Err(other_name(owner)),
                Some(_) => {
                    let taken = |p: &&FirstPeer| {
                        p.name.as_deref() == Some(name) && p.fingerprint != fingerprint.as_str()
                    };
                    if pages.kept.first.iter().any(|p| taken(&p)) {
                        return Err(other_key);
                    }
                    Ok(())
                }
                None => Err(Refusal::UnknownKey {
                    name: name_owned.clone(),
                    fingerprint: key.clone(),
                }),
            }
        })
    }
}

#[cfg(test)]
mod tests;
