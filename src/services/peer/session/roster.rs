//! The joiners of a session that have proven the passphrase.

use super::message::Intent;
use crate::services::host::TrustStore;
use crate::services::peer::Fingerprint;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// The most joiners a session takes at once.
pub const MOST_JOINERS: usize = 64;

/// Somebody who knows the passphrase and wants in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applicant {
    /// What it says of itself.
    pub intent: Intent,
    /// The key its connection proved.
    pub fingerprint: Fingerprint,
    /// Where its connection comes from.
    pub from: IpAddr,
}

/// What joiners are compared with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roster {
    own: Intent,
    key: Fingerprint,
    members: TrustStore,
    waiting: BTreeMap<String, Applicant>,
}

impl Roster {
    /// Nobody waits yet. `own` and `key` are the initiator's, whose versions joiners must have;
    /// `members` are those of its cluster.
    pub fn new(own: Intent, key: Fingerprint, members: TrustStore) -> Roster {
        Roster {
            own,
            key,
            members,
            waiting: BTreeMap::new(),
        }
    }

    /// Takes an applicant in, or says why it cannot be taken. The same machine may come again: its
    /// new connection takes the place of its old one.
    ///
    /// # Errors
    /// The sentence for the joiner and the log.
    pub fn admit(&mut self, applicant: Applicant) -> Result<(), String> {
        self.fit(&applicant)?;
        self.waiting
            .insert(applicant.intent.name.clone(), applicant);
        Ok(())
    }

    fn fit(&self, applicant: &Applicant) -> Result<(), String> {
        let Intent { name, address, .. } = &applicant.intent;
        if address.to_canonical() != applicant.from.to_canonical() {
            return Err(format!(
                "it says that its address is {address}, and calls from {}",
                applicant.from.to_canonical()
            ));
        }
        let own = &self.own;
        if own.name == *name || self.key == applicant.fingerprint {
            return Err(format!("{} is the initiator itself", own.name));
        }
        if own.address.to_canonical() == address.to_canonical() {
            return Err(format!("{address} is the address of {}", own.name));
        }
        if let Some(known) = self.members.members.get(name) {
            return Err(match known.fingerprint == applicant.fingerprint.as_str() {
                true => format!("{name} is a member already"),
                false => format!(
                    "there is a member {name} with another key: remove it first if this machine \
                     was installed anew"
                ),
            });
        }
        for (other, member) in &self.members.members {
            if member.fingerprint == applicant.fingerprint.as_str() {
                return Err(format!("its key is that of the member {other}"));
            }
            if member.address.to_canonical() == address.to_canonical() {
                return Err(format!("{address} is the address of the member {other}"));
            }
        }
        for (other, waiting) in &self.waiting {
            let same_key = waiting.fingerprint == applicant.fingerprint;
            if other == name && !same_key {
                return Err(format!(
                    "another machine called {name} waits already, with the key {}",
                    waiting.fingerprint
                ));
            }
            if other != name && same_key {
                return Err(format!("its key is that of {other}, which waits already"));
            }
            if other != name && waiting.intent.address == *address {
                return Err(format!("{address} is the address of {other}"));
            }
        }
        let intent = &applicant.intent;
        if intent.agent_version != own.agent_version {
            return Err(format!(
                "its microcloud has version {}, and the initiator's {}: install the same on all",
                intent.agent_version, own.agent_version
            ));
        }
        if (&intent.service, intent.api_extensions) != (&own.service, own.api_extensions) {
            return Err(format!(
                "it runs {} with {} API extensions, and the initiator {} with {}: install the \
                 same on all",
                or_none(&intent.service),
                intent.api_extensions,
                or_none(&own.service),
                own.api_extensions
            ));
        }
        if !self.waiting.contains_key(name) && self.waiting.len() >= MOST_JOINERS {
            return Err(format!("{MOST_JOINERS} machines wait already"));
        }
        Ok(())
    }

    /// Takes out a joiner whose connection ended, unless another one of the same machine came.
    pub fn leave(&mut self, name: &str) {
        self.waiting.remove(name);
    }
}

fn or_none(service: &str) -> &str {
    if service.is_empty() {
        "no LXD"
    } else {
        service
    }
}
