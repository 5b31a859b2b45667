//! What is proven: the key that both derive from the passphrase, and everything it is bound to.

use super::{Passphrase, SessionError};
use crate::services::peer::Fingerprint;
use crate::services::peer::pins::hex;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use spake2::{Ed25519Group, Identity, Password, Spake2};
use std::fmt;
use zeroize::Zeroizing;

/// One end of a connection, by its certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// The member's name.
    pub name: String,
    /// Its key.
    pub fingerprint: Fingerprint,
}

/// Both ends of a connection as one of them sees it, and the connection itself.
#[derive(Clone)]
pub struct Ends {
    /// Who joins.
    pub joiner: End,
    /// Who opened the session.
    pub initiator: End,
    /// Keying material of the TLS connection, by [`super::EXPORTER`].
    pub exporter: [u8; 32],
}

impl fmt::Debug for Ends {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ends")
            .field("joiner", &self.joiner)
            .field("initiator", &self.initiator)
            .finish_non_exhaustive()
    }
}

/// Which side of the key exchange.
#[derive(Debug, Clone, Copy)]
pub(super) enum Side {
    Joiner,
    Initiator,
}

/// A key exchange whose other half has not come.
pub(super) struct Begun(Spake2<Ed25519Group>);

/// Begins a key exchange; the own half, in base64. The names and keys of both ends go into it: with
/// other ends on the other side another key comes out.
pub(super) fn begin(side: Side, passphrase: &Passphrase, ends: &Ends) -> (Begun, String) {
    let password = Password::new(passphrase.expose().as_bytes());
    let identity = |role: &str, end: &End| {
        let text = format!("{role}\0{}\0{}", end.name, end.fingerprint);
        Identity::new(text.as_bytes())
    };
    let a = identity("joiner", &ends.joiner);
    let b = identity("initiator", &ends.initiator);
    let (begun, half) = match side {
        Side::Joiner => Spake2::<Ed25519Group>::start_a(&password, &a, &b),
        Side::Initiator => Spake2::<Ed25519Group>::start_b(&password, &a, &b),
    };
    (Begun(begun), STANDARD.encode(half))
}

impl Begun {
    /// The key, bound to the first two messages as they went over the wire.
    pub(super) fn finish(
        self,
        other: &str,
        ends: &Ends,
        hello: &[u8],
        challenge: &[u8],
    ) -> Result<Proof, SessionError> {
        let other = STANDARD
            .decode(other)
            .map_err(|_| SessionError::NotProven)?;
        let key = self.0.finish(&other).map_err(|_| SessionError::NotProven)?;
        let mut seen = Sha256::new();
        let parts: [&[u8]; 8] = [
            b"microcloud-join/1",
            ends.joiner.name.as_bytes(),
            ends.joiner.fingerprint.as_str().as_bytes(),
            ends.initiator.name.as_bytes(),
            ends.initiator.fingerprint.as_str().as_bytes(),
            &ends.exporter,
            hello,
            challenge,
        ];
        for part in parts {
            add(&mut seen, part);
        }
        Ok(Proof {
            key: Zeroizing::new(key),
            seen: seen.finalize().into(),
        })
    }
}

/// Lengths go in as well, so that no two lists of parts look the same.
fn add(sum: &mut Sha256, part: &[u8]) {
    sum.update((part.len() as u64).to_be_bytes());
    sum.update(part);
}

/// What a message is about, so that one can never stand for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum About {
    JoinerKnows,
    InitiatorKnows,
    Chosen,
    Commit,
}

impl About {
    fn label(self) -> &'static [u8] {
        match self {
            About::JoinerKnows => b"the joiner knows the passphrase",
            About::InitiatorKnows => b"the initiator knows the passphrase",
            About::Chosen => b"the joiner is chosen",
            About::Commit => b"the joiner is taken in",
        }
    }
}

/// The key of one connection.
pub(super) struct Proof {
    key: Zeroizing<Vec<u8>>,
    seen: [u8; 32],
}

impl fmt::Debug for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Proof(…)")
    }
}

impl Proof {
    fn mac(&self, about: About, extra: &[u8]) -> Hmac<Sha256> {
        // A key of any length will do.
        let mut mac =
            Hmac::<Sha256>::new_from_slice(&self.key).expect("an HMAC takes a key of any length");
        for part in [about.label(), &self.seen, extra] {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        mac
    }

    /// Proves `about`, in hex.
    pub(super) fn prove(&self, about: About, extra: &[u8]) -> String {
        hex(&self.mac(about, extra).finalize().into_bytes())
    }

    /// Whether the other side has proven `about`; takes as long for every wrong one.
    pub(super) fn holds(&self, about: About, extra: &[u8], mac: &str) -> bool {
        let Some(mac) = unhex(mac) else {
            return false;
        };
        self.mac(about, extra).verify_slice(&mac).is_ok()
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    (0..text.len() / 2)
        .map(|at| u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok())
        .collect()
}
