//! TLS 1.3 between agents, with pinned public keys on both sides.
//!
//! What is checked, always: the peer's certificate carries a key that is pinned, the pin is for
//! the name in the certificate, and the handshake is signed with that key. What is not checked:
//! the certificate's dates. Whoever holds the key can make a certificate with any date, so the
//! dates protect nothing here, while a machine that boots with a wrong clock would be shut out.
//! Sessions are not resumed: each connection proves the keys again.

use super::identity::Identity;
use super::pins::{Fingerprint, Pins, Refusal};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::crypto::{CryptoProvider, ring, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, OtherError,
    ServerConfig, SignatureScheme,
};
use std::sync::Arc;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// What a certificate says about its holder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Presented {
    /// The member's name.
    pub name: String,
    /// The public key.
    pub fingerprint: Fingerprint,
    /// The end of its validity, in seconds since 1970.
    pub not_after: i64,
}

/// A certificate that no agent makes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an agent's certificate: {0}")]
pub struct BadCertificate(pub String);

impl Presented {
    /// Reads a certificate. Proves nothing: only the handshake does.
    ///
    /// # Errors
    /// It cannot be parsed, or does not carry exactly one name.
    pub fn read(der: &[u8]) -> Result<Presented, BadCertificate> {
        let bad = |reason: &str| BadCertificate(reason.to_owned());
        let (rest, certificate) =
            X509Certificate::from_der(der).map_err(|e| BadCertificate(e.to_string()))?;
        if !rest.is_empty() {
            return Err(bad("bytes after its end"));
        }
        let names = certificate
            .subject_alternative_name()
            .map_err(|e| BadCertificate(e.to_string()))?
            .ok_or_else(|| bad("it carries no name"))?;
        let [GeneralName::DNSName(name)] = names.value.general_names.as_slice() else {
            return Err(bad("it must carry exactly one name"));
        };
        let mut common = certificate.subject().iter_common_name();
        match (common.next().map(|cn| cn.as_str()), common.next()) {
            (Some(Ok(common)), None) if common == *name => {}
            _ => return Err(bad("its subject is not the name it carries")),
        }
        Ok(Presented {
            name: (*name).to_owned(),
            fingerprint: Fingerprint::of_public_key(certificate.public_key().raw),
            not_after: certificate.validity().not_after.timestamp(),
        })
    }
}

/// Why the machine that answered is not the one that was called.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotThePeer {
    /// Another key.
    #[error(
        "its key is {found}, but {expected} is pinned: if the machine was reinstalled on purpose, pin the new key"
    )]
    Key {
        /// The pinned key.
        expected: Fingerprint,
        /// The key that answered.
        found: Fingerprint,
    },
    /// The pinned key, under another name.
    #[error("it calls itself `{found}`, not `{expected}`")]
    Name {
        /// The member that was called.
        expected: String,
        /// The name that answered.
        found: String,
    },
}

/// The TLS error somewhere among the causes; an I/O error hides its cause in itself.
pub fn tls_error<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<Error>() {
            return Some(found);
        }
        let io = error.downcast_ref::<std::io::Error>();
        next = match io.and_then(std::io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

/// Why a peer's certificate was refused, in the words of the check that refused it.
pub fn refusal(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    match tls_error(error)? {
        Error::InvalidCertificate(CertificateError::Other(other)) => Some(other.0.to_string()),
        Error::InvalidCertificate(other) => Some(format!("its certificate does not hold: {other}")),
        _ => None,
    }
}

/// The configuration to serve other agents with. `pins` is asked in every handshake.
///
/// # Errors
/// The TLS library lacks what is needed.
pub fn server_config(identity: Arc<Identity>, pins: Arc<dyn Pins>) -> Result<ServerConfig, Error> {
    let provider = Arc::new(ring::default_provider());
    let verifier = Arc::new(CallerVerifier {
        pins,
        provider: Arc::clone(&provider),
    });
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(Own(identity)));
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// The configuration to call the agent of `member` with, which must prove the key `expected`.
///
/// # Errors
/// The TLS library lacks what is needed.
pub fn client_config(
    identity: Arc<Identity>,
    member: &str,
    expected: Fingerprint,
) -> Result<ClientConfig, Error> {
    let verifier = Arc::new(PeerVerifier {
        member: member.to_owned(),
        expected,
        provider: Arc::new(ring::default_provider()),
    });
    client_config_with(identity, verifier)
}

fn client_config_with(
    identity: Arc<Identity>,
    verifier: Arc<dyn ServerCertVerifier>,
) -> Result<ClientConfig, Error> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous() // the verifier is our own
        .with_custom_certificate_verifier(verifier)
        .with_client_cert_resolver(Arc::new(Own(identity)));
    config.resumption = Resumption::disabled();
    // Members are told apart by key; a name in the clear would serve nobody.
    config.enable_sni = false;
    Ok(config)
}

/// The configuration to meet strangers with, in a session of trust and nowhere else: any agent's
/// certificate is taken, and all that is known afterwards is that the caller holds its key.
///
/// # Errors
/// The TLS library lacks what is needed.
pub fn stranger_server_config(identity: Arc<Identity>, alpn: &[u8]) -> Result<ServerConfig, Error> {
    server_config(identity, Arc::new(Anybody)).map(|mut config| {
        config.alpn_protocols = vec![alpn.to_vec()];
        config
    })
}

/// The configuration to call an initiator with, whose key is not known yet; see
/// [`stranger_server_config`].
///
/// # Errors
/// The TLS library lacks what is needed.
pub fn stranger_client_config(identity: Arc<Identity>, alpn: &[u8]) -> Result<ClientConfig, Error> {
    let provider = Arc::new(ring::default_provider());
    client_config_with(identity, Arc::new(AnyAgent { provider })).map(|mut config| {
        config.alpn_protocols = vec![alpn.to_vec()];
        config
    })
}

/// Lets everybody in who has a key: what it may do is not decided by TLS.
#[derive(Debug)]
struct Anybody;

impl Pins for Anybody {
    fn key_of(&self, _member: &str) -> Option<Fingerprint> {
        None
    }

    fn address_of(&self, _member: &str) -> Option<std::net::IpAddr> {
        None
    }

    fn admit(&self, _name: &str, _fingerprint: &Fingerprint) -> Result<(), Refusal> {
        Ok(())
    }
}

/// Takes any agent's certificate whose key is proven.
#[derive(Debug)]
struct AnyAgent {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for AnyAgent {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Presented::read(end_entity).map_err(refuse)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(only_tls13())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// Presents this agent's present certificate, on both sides.
#[derive(Debug)]
struct Own(Arc<Identity>);

impl ResolvesServerCert for Own {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.certified())
    }
}

impl ResolvesClientCert for Own {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.certified())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

fn refuse(reason: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(reason))))
}

fn only_tls13() -> Error {
    // Never reached: the configurations allow TLS 1.3 alone.
    Error::General("only TLS 1.3 is spoken".to_owned())
}

/// Checks who calls.
#[derive(Debug)]
struct CallerVerifier {
    pins: Arc<dyn Pins>,
    provider: Arc<CryptoProvider>,
}

impl ClientCertVerifier for CallerVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let presented = Presented::read(end_entity).map_err(refuse)?;
        self.pins
            .admit(&presented.name, &presented.fingerprint)
            .map_err(|e: Refusal| refuse(e))?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(only_tls13())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// Checks who answers.
#[derive(Debug)]
struct PeerVerifier {
    member: String,
    expected: Fingerprint,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for PeerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let found = Presented::read(end_entity).map_err(refuse)?;
        if found.fingerprint != self.expected {
            return Err(refuse(NotThePeer::Key {
                expected: self.expected.clone(),
                found: found.fingerprint,
            }));
        }
        if found.name != self.member {
            return Err(refuse(NotThePeer::Name {
                expected: self.member.clone(),
                found: found.name,
            }));
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(only_tls13())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
