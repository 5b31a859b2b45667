//! Which keys are trusted, as the TLS layer asks for it.

use sha2::{Digest, Sha256};
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// The SHA-256 of a public key (its SubjectPublicKeyInfo, DER), as 64 lower-case hex digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(String);

impl Fingerprint {
    /// The fingerprint of a SubjectPublicKeyInfo in DER.
    pub fn of_public_key(spki: &[u8]) -> Fingerprint {
        Fingerprint(hex(&Sha256::digest(spki)))
    }

    /// The hex digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl From<Fingerprint> for String {
    fn from(fingerprint: Fingerprint) -> String {
        fingerprint.0
    }
}

/// Text that is no fingerprint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a fingerprint: it must be 64 hex digits, as `microcloud agent fingerprint` prints"
)]
pub struct BadFingerprint(pub String);

impl FromStr for Fingerprint {
    type Err = BadFingerprint;

    /// Reads 64 hex digits in any case; colons and a leading `sha256:` are tolerated.
    fn from_str(text: &str) -> Result<Fingerprint, BadFingerprint> {
        let lower = text.trim().to_ascii_lowercase();
        let digits: String = lower
            .strip_prefix("sha256:")
            .unwrap_or(&lower)
            .chars()
            .filter(|c| *c != ':')
            .collect();
        if digits.len() == 64 && digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            Ok(Fingerprint(digits))
        } else {
            Err(BadFingerprint(text.chars().take(100).collect()))
        }
    }
}

/// Bytes as lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}"); // writing to a string cannot fail
        text
    })
}

/// Why a caller is not let in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Nobody has named this key.
    #[error(
        "the key {fingerprint} (which calls itself `{name}`) is not trusted here: name it in \
         `spec.fingerprint` of the member, or run `microcloud agent trust {fingerprint}`"
    )]
    UnknownKey {
        /// The name in the certificate.
        name: String,
        /// The key.
        fingerprint: Fingerprint,
    },
    /// The member is known by another key.
    #[error("`{name}` is known by another key than {fingerprint}")]
    OtherKey {
        /// The name in the certificate.
        name: String,
        /// The key it came with.
        fingerprint: Fingerprint,
    },
    /// The key belongs to another member.
    #[error("the key {fingerprint} belongs to `{owner}`, but its certificate says `{name}`")]
    OtherName {
        /// The name in the certificate.
        name: String,
        /// Whose key it is.
        owner: String,
        /// The key.
        fingerprint: Fingerprint,
    },
    /// The key was taken out of the cluster's trust store.
    #[error("the key {fingerprint} of `{name}` was removed from the cluster")]
    Removed {
        /// The name in the certificate.
        name: String,
        /// The key.
        fingerprint: Fingerprint,
    },
}

/// The keys that are trusted now. Asked anew for every handshake and every request, so that a
/// change takes effect at once.
pub trait Pins: Send + Sync + fmt::Debug {
    /// The key `member` must prove when it is called; `None` when nothing says.
    fn key_of(&self, member: &str) -> Option<Fingerprint>;

    /// Where the agent of `member` listens, when the trust store says.
    fn address_of(&self, member: &str) -> Option<IpAddr>;

    /// Whether a caller that calls itself `name` and has proven, or is about to prove, this key
    /// is let in.
    ///
    /// # Errors
    /// It is not, and why.
    fn admit(&self, name: &str, fingerprint: &Fingerprint) -> Result<(), Refusal>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_are_read_as_people_write_them() {
        let plain = "ab".repeat(32);
        let colons = vec!["AB"; 32].join(":");
        for text in [
            plain.clone(),
            plain.to_uppercase(),
            colons,
            format!("sha256:{plain}\n"),
        ] {
            assert_eq!(text.parse::<Fingerprint>().unwrap().as_str(), plain);
        }
        for text in ["", "ab", &"zz".repeat(32), &"ab".repeat(33)] {
            assert!(text.parse::<Fingerprint>().is_err(), "{text}");
        }
    }
}
