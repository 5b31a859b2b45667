//! Certificates for OVN: the authority, where this machine keeps it, and the machine's own.
//!
//! Keys never leave the machine they were made on, but for the authority's, which the members
//! that may control keep a copy of. All files are readable by root alone.

use super::ovn::{OvnPaths, failed};
use crate::services::host::ovn_types::{AuthorityMaterial, AuthorityReport, CertificateReport};
use crate::services::host::types::HostError;
use crate::services::peer::{StateFileError, state_file};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use sha2::{Digest, Sha256};
use std::net::IpAddr;
use std::path::Path;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// How long the authority's certificate is valid: it has to outlive the cluster.
const AUTHORITY_YEARS: i64 = 30;

/// How long a machine's certificate is valid.
const VALID_DAYS: i64 = 730;

/// The authority's files in the state directory.
const AUTHORITY_CERTIFICATE: &str = "ovn-authority.crt";
const AUTHORITY_KEY: &str = "ovn-authority.key";

fn file(error: StateFileError) -> HostError {
    failed(crate::services::host::local::causes(&error))
}

fn make(error: rcgen::Error) -> HostError {
    failed(format!("cannot make a certificate: {error}"))
}

/// Days from now, as a certificate has them.
fn day(now: Timestamp, days: i64) -> Result<(i32, u8, u8), HostError> {
    let date = now
        .to_zoned(TimeZone::UTC)
        .date()
        .checked_add(days.days())
        .map_err(|e| failed(format!("the clock is far off: {e}")))?;
    // A month is 1 to 12 and a day 1 to 31: both fit.
    Ok((i32::from(date.year()), date.month() as u8, date.day() as u8))
}

fn set_validity(
    params: &mut CertificateParams,
    now: Timestamp,
    days: i64,
) -> Result<(), HostError> {
    // From yesterday: other machines' clocks may be behind.
    let (year, month, from) = day(now, -1)?;
    params.not_before = rcgen::date_time_ymd(year, month, from);
    let (year, month, to) = day(now, days)?;
    params.not_after = rcgen::date_time_ymd(year, month, to);
    Ok(())
}

/// Makes the authority, unless it is there.
pub(super) fn make_authority(paths: &OvnPaths, now: Timestamp) -> Result<(), HostError> {
    if read_authority(paths)?.is_some() {
        return Ok(());
    }
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(make)?;
    let mut params = CertificateParams::new(Vec::new()).map_err(make)?;
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, "microcloud OVN authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    set_validity(&mut params, now, AUTHORITY_YEARS * 365)?;
    let certificate = params.self_signed(&key).map_err(make)?;
    keep_authority(
        paths,
        &AuthorityMaterial {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        },
    )
}

/// Keeps a copy of the authority.
pub(super) fn keep_authority(
    paths: &OvnPaths,
    material: &AuthorityMaterial,
) -> Result<(), HostError> {
    let fingerprint = fingerprint_of(&material.certificate)?;
    if let Some(own) = read_authority(paths)? {
        if fingerprint_of(&own.certificate)? == fingerprint {
            return Ok(());
        }
        return Err(HostError::GuardFailed {
            reason: "another authority is kept here already".to_owned(),
        });
    }
    check_pair(material)?;
    state_file::make_private_dir(&paths.state).map_err(file)?;
    // The certificate is written last: without it there is no authority.
    let key = paths.state.join(AUTHORITY_KEY);
    state_file::write(&key, material.key.as_bytes()).map_err(file)?;
    let certificate = paths.state.join(AUTHORITY_CERTIFICATE);
    state_file::write(&certificate, material.certificate.as_bytes()).map_err(file)
}

fn check_pair(material: &AuthorityMaterial) -> Result<(), HostError> {
    let der = der_of(&material.certificate)?;
    let certificate = parse(&der)?;
    let key = key_from(&material.key)?;
    if certificate.public_key().raw != key.subject_public_key_info() {
        return Err(failed(
            "the authority's key is not the one of its certificate",
        ));
    }
    Ok(())
}

fn key_from(pem: &str) -> Result<KeyPair, HostError> {
    // The error of a key is not repeated: it could hold a part of it.
    KeyPair::from_pem(pem).map_err(|_| failed("a key for OVN cannot be read"))
}

/// Forgets the machine's key and certificate, and its copy of the authority.
pub(super) fn forget(paths: &OvnPaths) -> Result<(), HostError> {
    let authority = [AUTHORITY_CERTIFICATE, AUTHORITY_KEY].map(|name| paths.state.join(name));
    let own = [paths.certificate(), paths.key(), paths.authority()];
    for path in authority.iter().chain(&own) {
        match std::fs::remove_file(path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(failed(format!("cannot remove {}: {e}", path.display())));
            }
            _ => {}
        }
    }
    Ok(())
}

/// The authority, if this machine keeps it.
pub(super) fn read_authority(paths: &OvnPaths) -> Result<Option<AuthorityMaterial>, HostError> {
    let Some(certificate) = text(&paths.state.join(AUTHORITY_CERTIFICATE), false)? else {
        return Ok(None);
    };
    let Some(key) = text(&paths.state.join(AUTHORITY_KEY), true)? else {
        return Ok(None);
    };
    Ok(Some(AuthorityMaterial { certificate, key }))
}

fn text(path: &Path, secret: bool) -> Result<Option<String>, HostError> {
    let read = if secret {
        state_file::read_secret(path)
    } else {
        state_file::read(path)
    };
    match read.map_err(file)? {
        Some(bytes) => String::from_utf8(bytes)
            .map(Some)
            .map_err(|_| failed(format!("{} is no text", path.display()))),
        None => Ok(None),
    }
}

/// What is reported of the authority.
pub(super) fn authority_report(paths: &OvnPaths) -> Option<AuthorityReport> {
    let material = read_authority(paths).ok()??;
    let der = der_of(&material.certificate).ok()?;
    let certificate = parse(&der).ok()?;
    Some(AuthorityReport {
        fingerprint: fingerprint(&der),
        not_after: certificate.validity().not_after.timestamp(),
    })
}

/// Makes the machine's key unless there is one, and asks for a certificate of it.
pub(super) fn request(
    paths: &OvnPaths,
    name: &str,
    addresses: &[IpAddr],
) -> Result<String, HostError> {
    std::fs::create_dir_all(&paths.etc)
        .map_err(|e| failed(format!("cannot make {}: {e}", paths.etc.display())))?;
    let place = paths.key();
    if text(&place, false)?.is_none() {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(make)?;
        state_file::write_new(&place, key.serialize_pem().as_bytes()).map_err(file)?;
    }
    let key = key_from(&text(&place, true)?.unwrap_or_default())?;
    let params = subject(name, addresses)?;
    let request = params.serialize_request(&key).map_err(make)?;
    request.pem().map_err(make)
}

fn subject(name: &str, addresses: &[IpAddr]) -> Result<CertificateParams, HostError> {
    let mut params = CertificateParams::new(vec![name.to_owned()]).map_err(make)?;
    params
        .subject_alt_names
        .extend(addresses.iter().copied().map(SanType::IpAddress));
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    Ok(params)
}

/// Signs a certificate: of the request only the key is taken, which it proves to have.
pub(super) fn sign(
    paths: &OvnPaths,
    request: &str,
    name: &str,
    addresses: &[IpAddr],
    now: Timestamp,
) -> Result<(String, String), HostError> {
    let Some(authority) = read_authority(paths)? else {
        return Err(HostError::GuardFailed {
            reason: "the authority for OVN is not kept here".to_owned(),
        });
    };
    let key = key_from(&authority.key)?;
    let issuer = Issuer::from_ca_cert_pem(&authority.certificate, key).map_err(make)?;
    let asked = CertificateSigningRequestParams::from_pem(request).map_err(make)?;
    let mut params = subject(name, addresses)?;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    params.use_authority_key_identifier_extension = true;
    set_validity(&mut params, now, VALID_DAYS)?;
    let certificate = params.signed_by(&asked.public_key, &issuer).map_err(make)?;
    Ok((certificate.pem(), authority.certificate))
}

/// Puts a certificate in use.
pub(super) fn take(paths: &OvnPaths, certificate: &str, authority: &str) -> Result<(), HostError> {
    let key = key_from(&text(&paths.key(), true)?.unwrap_or_default())?;
    if let Some(reason) = wrong(certificate, authority, &key)? {
        return Err(HostError::GuardFailed { reason });
    }
    state_file::write(&paths.authority(), authority.as_bytes()).map_err(file)?;
    state_file::write(&paths.certificate(), certificate.as_bytes()).map_err(file)
}

/// What is wrong with a certificate, if anything.
fn wrong(certificate: &str, authority: &str, key: &KeyPair) -> Result<Option<String>, HostError> {
    let (der, root) = (der_of(certificate)?, der_of(authority)?);
    let (certificate, root) = (parse(&der)?, parse(&root)?);
    if certificate.public_key().raw != key.subject_public_key_info() {
        return Ok(Some(
            "the certificate is not of the key beside it".to_owned(),
        ));
    }
    if certificate
        .verify_signature(Some(root.public_key()))
        .is_err()
    {
        return Ok(Some(
            "the certificate is not signed by the authority beside it".to_owned(),
        ));
    }
    Ok(None)
}

/// What is reported of the machine's certificate.
pub(super) fn certificate_report(paths: &OvnPaths) -> Option<CertificateReport> {
    let certificate = text(&paths.certificate(), false).ok()??;
    let authority = text(&paths.authority(), false).ok()??;
    let read = || -> Result<CertificateReport, HostError> {
        let key = key_from(&text(&paths.key(), true)?.unwrap_or_default())?;
        let wrong = wrong(&certificate, &authority, &key)?;
        let der = der_of(&certificate)?;
        let parsed = parse(&der)?;
        Ok(CertificateReport {
            authority: fingerprint_of(&authority)?,
            not_after: parsed.validity().not_after.timestamp(),
            addresses: addresses(&parsed),
            wrong,
        })
    };
    Some(read().unwrap_or_else(|e| CertificateReport {
        wrong: Some(e.to_string()),
        ..CertificateReport::default()
    }))
}

fn addresses(certificate: &X509Certificate<'_>) -> Vec<IpAddr> {
    let Ok(Some(names)) = certificate.subject_alternative_name() else {
        return Vec::new();
    };
    let address = |name: &GeneralName<'_>| match name {
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes).ok().map(IpAddr::from),
            _ => <[u8; 16]>::try_from(*bytes).ok().map(IpAddr::from),
        },
        _ => None,
    };
    names
        .value
        .general_names
        .iter()
        .filter_map(address)
        .collect()
}

fn der_of(pem: &str) -> Result<Vec<u8>, HostError> {
    CertificateDer::from_pem_slice(pem.as_bytes())
        .map(|der| der.to_vec())
        .map_err(|e| failed(format!("a certificate for OVN cannot be read: {e}")))
}

fn parse(der: &[u8]) -> Result<X509Certificate<'_>, HostError> {
    X509Certificate::from_der(der)
        .map(|(_, certificate)| certificate)
        .map_err(|e| failed(format!("a certificate for OVN cannot be read: {e}")))
}

fn fingerprint(der: &[u8]) -> String {
    Sha256::digest(der)
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect()
}

fn fingerprint_of(pem: &str) -> Result<String, HostError> {
    der_of(pem).map(|der| fingerprint(&der))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_certificate_is_asked_for_signed_and_used() {
        let (holder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (holder, other) = (
            OvnPaths::below(holder.path()),
            OvnPaths::below(other.path()),
        );
        let now = Timestamp::now();
        make_authority(&holder, now).unwrap();
        let made = authority_report(&holder).unwrap();
        make_authority(&holder, now).unwrap();
        assert_eq!(authority_report(&holder).unwrap(), made, "made once");

        let addresses: Vec<IpAddr> =
            vec!["192.0.2.7".parse().unwrap(), "2001:db8::7".parse().unwrap()];
        let asked = request(&other, "micro02", &addresses).unwrap();
        let (certificate, authority) = sign(&holder, &asked, "micro02", &addresses, now).unwrap();
        take(&other, &certificate, &authority).unwrap();
        let report = certificate_report(&other).unwrap();
        assert_eq!(report.wrong, None);
        assert_eq!(report.authority, made.fingerprint);
        assert_eq!(report.addresses, addresses);
        assert!(report.not_after > now.as_second() + 700 * 86_400);
        for path in [
            other.key(),
            other.certificate(),
            holder.state.join(AUTHORITY_KEY),
        ] {
            let mode = std::fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{}", path.display());
        }

        // The key stays when the certificate is renewed.
        let key = std::fs::read(other.key()).unwrap();
        request(&other, "micro02", &addresses).unwrap();
        assert_eq!(std::fs::read(other.key()).unwrap(), key);

        // Somebody else's certificate is not put in use.
        let asked = request(&holder, "micro01", &[]).unwrap();
        let (foreign, _) = sign(&holder, &asked, "micro01", &[], now).unwrap();
        let refused = take(&other, &foreign, &authority).unwrap_err();
        assert!(refused.to_string().contains("not of the key"), "{refused}");

        // A copy of the authority signs as well; another authority does not replace it.
        let material = read_authority(&holder).unwrap().unwrap();
        keep_authority(&other, &material).unwrap();
        assert_eq!(authority_report(&other).unwrap(), made);
        let third = tempfile::tempdir().unwrap();
        let third = OvnPaths::below(third.path());
        make_authority(&third, now).unwrap();
        let refused = keep_authority(&third, &material).unwrap_err();
        assert!(
            matches!(refused, HostError::GuardFailed { .. }),
            "{refused}"
        );
        assert!(matches!(
            sign(
                &OvnPaths::below(Path::new("/nowhere")),
                &asked,
                "m",
                &[],
                now
            ),
            Err(HostError::GuardFailed { .. })
        ));
    }
}
