//! The key of this agent and the certificate that names its member.

use super::pins::Fingerprint;
use super::state_file::{self, StateFileError};
use super::tls::{BadCertificate, Presented};
use jiff::{Timestamp, ToSpan, tz::TimeZone};
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

/// How long a certificate is valid.
const VALID_DAYS: i64 = 730;

/// A certificate with less than this left is renewed.
const RENEW_DAYS: i64 = 90;

/// The agent's key could not be made or used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file.
    #[error(transparent)]
    File(#[from] StateFileError),
    /// The member's name cannot stand in a certificate.
    #[error(
        "`{0}` cannot be a member's name: 1 to 63 letters, digits, `-` and `.`, starting and \
         ending with a letter or digit; set the host name or `name` in agent.yaml"
    )]
    BadName(String),
    /// The machine was renamed.
    #[error(
        "the key in {path} was made for member `{was}`, but this machine is now called `{now}`: \
         other members know it as `{was}`. Set the host name (or `name` in agent.yaml) back, or \
         remove {path} to start as a new member with a new key"
    )]
    Renamed {
        /// The directory of the key.
        path: PathBuf,
        /// The name in the certificate.
        was: String,
        /// The name now.
        now: String,
    },
    /// Making the key or the certificate failed.
    #[error("cannot make the agent's key or certificate: {0}")]
    Make(String),
}

/// The key of this agent with its present certificate. The private key never leaves this value
/// and its file.
pub struct Identity {
    name: String,
    fingerprint: Fingerprint,
    dir: PathBuf,
    key: KeyPair,
    current: RwLock<Current>,
}

struct Current {
    certified: Arc<CertifiedKey>,
    /// Seconds since 1970.
    not_after: i64,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("name", &self.name)
            .field("fingerprint", &self.fingerprint)
            .finish_non_exhaustive()
    }
}

impl Identity {
    /// Reads the key in `state_dir`, or makes one for the member `name`; renews a certificate
    /// that is near its end.
    ///
    /// # Errors
    /// The files cannot be read or written, are damaged, others may read the key, or it was made
    /// for another name.
    pub fn open(state_dir: &Path, name: &str) -> Result<Identity, IdentityError> {
        Identity::open_at(state_dir, name, Timestamp::now())
    }

    fn open_at(state_dir: &Path, name: &str, now: Timestamp) -> Result<Identity, IdentityError> {
        if !valid_name(name) {
            return Err(IdentityError::BadName(name.chars().take(100).collect()));
        }
        let dir = state_dir.join("identity");
        state_file::make_private_dir(state_dir)?;
        state_file::make_private_dir(&dir)?;
        let key = open_key(&dir)?;
        let fingerprint = Fingerprint::of_public_key(&key.subject_public_key_info());
        let (der, not_after) = match read_certificate(&dir)? {
            Some((der, presented)) => {
                if presented.fingerprint != fingerprint {
                    return Err(damaged(&dir.join(CERTIFICATE), "it is for another key").into());
                }
                if presented.name != name {
                    return Err(IdentityError::Renamed {
                        path: dir,
                        was: presented.name,
                        now: name.to_owned(),
                    });
                }
                (der, presented.not_after)
            }
            None => issue(&dir, &key, name, now)?,
        };
        let certified = certify(&key, der)?;
        let identity = Identity {
            name: name.to_owned(),
            fingerprint,
            dir,
            key,
            current: RwLock::new(Current {
                certified,
                not_after,
            }),
        };
        identity.renew_if_due(now)?;
        Ok(identity)
    }

    /// The member's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The fingerprint of the public key.
    pub fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }

    /// Renews the certificate, with the same key, when less than 90 days are left; connections
    /// made from then on use it. Says whether it did.
    ///
    /// # Errors
    /// The new certificate cannot be made or written; the old one stays in use.
    pub fn renew_if_due(&self, now: Timestamp) -> Result<bool, IdentityError> {
        let not_after = self
            .current
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .not_after;
        if not_after - now.as_second() > RENEW_DAYS * 86_400 {
            return Ok(false);
        }
        let (der, not_after) = issue(&self.dir, &self.key, &self.name, now)?;
        let certified = certify(&self.key, der)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Current {
            certified,
            not_after,
        };
        Ok(true)
    }

    /// The certificate and key for the next handshake.
    pub(super) fn certified(&self) -> Arc<CertifiedKey> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&current.certified)
    }
}

const KEY: &str = "agent.key";
const CERTIFICATE: &str = "agent.crt";

/// Whether the name can be a host name and stand in a certificate.
pub fn valid_name(name: &str) -> bool {
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    name.len() <= 63
        && edge(name.chars().next())
        && edge(name.chars().last())
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '.')
        && !name.contains("..")
}

fn damaged(path: &Path, reason: impl Into<String>) -> StateFileError {
    StateFileError::Damaged {
        path: path.to_owned(),
        reason: reason.into(),
        remedy: "start with a new one",
    }
}

fn open_key(dir: &Path) -> Result<KeyPair, IdentityError> {
    let path = dir.join(KEY);
    if state_file::read_secret(&path)?.is_none() {
        if state_file::read(&dir.join(CERTIFICATE))?.is_some() {
            return Err(damaged(&dir.join(CERTIFICATE), format!("{KEY} beside it is gone")).into());
        }
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)
            .map_err(|e| IdentityError::Make(e.to_string()))?;
        // Of two processes that start at once the first one's key stays; both read it below.
        state_file::write_new(&path, key.serialize_pem().as_bytes())?;
    }
    let pem = state_file::read_secret(&path)?.unwrap_or_default();
    std::str::from_utf8(&pem)
        .map_err(|e| e.to_string())
        .and_then(|pem| {
            KeyPair::from_pkcs8_pem_and_sign_algo(pem, &PKCS_ECDSA_P256_SHA256)
                .map_err(|e| e.to_string())
        })
        .map_err(|reason| damaged(&path, format!("not a P-256 key: {reason}")).into())
}

fn read_certificate(
    dir: &Path,
) -> Result<Option<(CertificateDer<'static>, Presented)>, IdentityError> {
    let path = dir.join(CERTIFICATE);
    let Some(pem) = state_file::read(&path)? else {
        return Ok(None);
    };
    let der = CertificateDer::from_pem_slice(&pem).map_err(|e| damaged(&path, format!("{e}")))?;
    let presented =
        Presented::read(&der).map_err(|e: BadCertificate| damaged(&path, e.to_string()))?;
    Ok(Some((der, presented)))
}

/// Makes and stores a certificate; returns it with the second at which it ends.
fn issue(
    dir: &Path,
    key: &KeyPair,
    name: &str,
    now: Timestamp,
) -> Result<(CertificateDer<'static>, i64), IdentityError> {
    let make = |e: rcgen::Error| IdentityError::Make(e.to_string());
    let mut params = CertificateParams::new(vec![name.to_owned()]).map_err(make)?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    let day = |days: i64| -> Result<_, IdentityError> {
        let date = now
            .to_zoned(TimeZone::UTC)
            .date()
            .checked_add(days.days())
            .map_err(|e| IdentityError::Make(e.to_string()))?;
        // A month is 1 to 12 and a day 1 to 31: both fit.
        Ok(rcgen::date_time_ymd(
            i32::from(date.year()),
            date.month() as u8,
            date.day() as u8,
        ))
    };
    // From yesterday: the peers' clocks may be behind ours.
    params.not_before = day(-1)?;
    params.not_after = day(VALID_DAYS)?;
    let certificate = params.self_signed(key).map_err(make)?;
    state_file::write(&dir.join(CERTIFICATE), certificate.pem().as_bytes())?;
    Ok((certificate.der().clone(), params.not_after.unix_timestamp()))
}

fn certify(
    key: &KeyPair,
    der: CertificateDer<'static>,
) -> Result<Arc<CertifiedKey>, IdentityError> {
    let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    CertifiedKey::from_der(
        vec![der],
        private,
        &rustls::crypto::ring::default_provider(),
    )
    .map(Arc::new)
    .map_err(|e| IdentityError::Make(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn the_key_stays_and_its_certificate_is_renewed() {
        let dir = tempfile::tempdir().unwrap();
        let now = Timestamp::now();
        let first = Identity::open_at(dir.path(), "micro01", now).unwrap();
        let again = Identity::open_at(dir.path(), "micro01", now).unwrap();
        assert_eq!(first.fingerprint(), again.fingerprint());
        assert_eq!(first.certified().cert, again.certified().cert);

        assert!(!first.renew_if_due(now).unwrap());
        let later = now + (24 * (VALID_DAYS - RENEW_DAYS + 1)).hours();
        assert!(first.renew_if_due(later).unwrap());
        assert_ne!(first.certified().cert, again.certified().cert);
        let read = Presented::read(&first.certified().cert[0]).unwrap();
        assert_eq!(&read.fingerprint, first.fingerprint(), "the same key");
        assert_eq!(read.name, "micro01");
        assert!(read.not_after > later.as_second());
        let reopened = Identity::open_at(dir.path(), "micro01", later).unwrap();
        assert_eq!(reopened.certified().cert, first.certified().cert);
    }

    #[test]
    fn another_name_is_explained() {
        let dir = tempfile::tempdir().unwrap();
        Identity::open(dir.path(), "micro01").unwrap();
        let error = Identity::open(dir.path(), "micro02")
            .unwrap_err()
            .to_string();
        assert!(error.contains("made for member `micro01`"), "{error}");
        assert!(error.contains("now called `micro02`"), "{error}");
    }

    #[test]
    fn damaged_and_missing_files_are_explained() {
        let dir = tempfile::tempdir().unwrap();
        Identity::open(dir.path(), "micro01").unwrap();
        let key = dir.path().join("identity/agent.key");
        let certificate = dir.path().join("identity/agent.crt");
        let good = fs::read(&key).unwrap();

        state_file::write(&key, b"-----BEGIN").unwrap();
        let error = Identity::open(dir.path(), "micro01")
            .unwrap_err()
            .to_string();
        assert!(error.contains("agent.key is damaged"), "{error}");

        fs::remove_file(&key).unwrap();
        let error = Identity::open(dir.path(), "micro01")
            .unwrap_err()
            .to_string();
        assert!(error.contains("agent.key beside it is gone"), "{error}");

        state_file::write(&key, &good).unwrap();
        state_file::write(&certificate, b"nonsense").unwrap();
        let error = Identity::open(dir.path(), "micro01")
            .unwrap_err()
            .to_string();
        assert!(error.contains("agent.crt is damaged"), "{error}");

        let other = tempfile::tempdir().unwrap();
        Identity::open(other.path(), "micro01").unwrap();
        fs::copy(other.path().join("identity/agent.crt"), &certificate).unwrap();
        let error = Identity::open(dir.path(), "micro01")
            .unwrap_err()
            .to_string();
        assert!(error.contains("it is for another key"), "{error}");
    }

    #[test]
    fn names_that_are_no_host_names_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["", "-a", "a-", "a b", "a/b", "a..b", &"a".repeat(64), "ä"] {
            assert!(Identity::open(dir.path(), name).is_err(), "{name}");
        }
        assert!(valid_name("micro01.example.org"));
    }

    #[test]
    fn two_that_start_at_once_get_one_key() {
        let dir = tempfile::tempdir().unwrap();
        let all: Vec<Fingerprint> = std::thread::scope(|s| {
            let runs: Vec<_> = (0..8)
                .map(|_| s.spawn(|| Identity::open(dir.path(), "m").unwrap().fingerprint))
                .collect();
            runs.into_iter().map(|r| r.join().unwrap()).collect()
        });
        assert!(all.windows(2).all(|w| w[0] == w[1]));
    }
}
