//! Where a database server is, and how it is reached.

use super::error::OvsdbError;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

/// Where a database server is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Endpoint {
    /// `unix:PATH`.
    Unix(PathBuf),
    /// `tcp:ADDRESS:PORT`, in plain text.
    Tcp(SocketAddr),
    /// `ssl:ADDRESS:PORT`.
    Tls(SocketAddr),
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Unix(path) => write!(f, "unix:{}", path.display()),
            Endpoint::Tcp(address) => write!(f, "tcp:{address}"),
            Endpoint::Tls(address) => write!(f, "ssl:{address}"),
        }
    }
}

impl FromStr for Endpoint {
    type Err = OvsdbError;

    fn from_str(text: &str) -> Result<Endpoint, OvsdbError> {
        let wrong = || OvsdbError::Address(text.to_owned());
        let (scheme, rest) = text.split_once(':').ok_or_else(wrong)?;
        match scheme {
            "unix" if rest.starts_with('/') => Ok(Endpoint::Unix(rest.into())),
            "tcp" => Ok(Endpoint::Tcp(rest.parse().map_err(|_| wrong())?)),
            "ssl" => Ok(Endpoint::Tls(rest.parse().map_err(|_| wrong())?)),
            _ => Err(wrong()),
        }
    }
}

/// What proves a client to a server and the server to the client, all PEM.
#[derive(Clone)]
pub struct Credentials {
    /// The certificate of the authority that signed both sides' certificates.
    pub authority: String,
    /// The client's certificate.
    pub certificate: String,
    /// Its key.
    pub key: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(secret)")
    }
}

/// An open connection.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Opens a connection; TLS needs credentials.
pub(super) async fn open(
    endpoint: &Endpoint,
    credentials: Option<&Credentials>,
) -> Result<Box<dyn Stream>, OvsdbError> {
    let failed = |reason: String| OvsdbError::Connect {
        endpoint: endpoint.to_string(),
        reason,
    };
    match endpoint {
        Endpoint::Unix(path) => {
            let stream = UnixStream::connect(path)
                .await
                .map_err(|e| failed(e.to_string()))?;
            Ok(Box::new(stream))
        }
        Endpoint::Tcp(address) => {
            let stream = TcpStream::connect(address)
                .await
                .map_err(|e| failed(e.to_string()))?;
            Ok(Box::new(stream))
        }
        Endpoint::Tls(address) => {
            let credentials = credentials.ok_or_else(|| {
                failed("no certificate was given for a TLS connection".to_owned())
            })?;
            let config = client_config(credentials).map_err(failed)?;
            let stream = TcpStream::connect(address)
                .await
                .map_err(|e| failed(e.to_string()))?;
            let name = ServerName::IpAddress(address.ip().into());
            let stream = TlsConnector::from(Arc::new(config))
                .connect(name, stream)
                .await
                .map_err(|e| failed(e.to_string()))?;
            Ok(Box::new(stream))
        }
    }
}

fn client_config(credentials: &Credentials) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(credentials.authority.as_bytes()) {
        let certificate =
            certificate.map_err(|e| format!("the authority's certificate cannot be read: {e}"))?;
        roots
            .add(certificate)
            .map_err(|e| format!("the authority's certificate cannot be used: {e}"))?;
    }
    let chain = CertificateDer::pem_slice_iter(credentials.certificate.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| format!("the certificate cannot be read: {e}"))?;
    // The error of a key is not repeated: it could hold a part of it.
    let key = PrivateKeyDer::from_pem_slice(credentials.key.as_bytes())
        .map_err(|_| "the key cannot be read".to_owned())?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(SignedBy { roots, provider }))
        .with_client_auth_cert(chain, key)
        .map_err(|e| format!("the certificate cannot be used: {e}"))
}

/// Takes a server whose certificate the authority signed, whatever names it holds: OVN's own
/// programs do the same, and certificates of other tools for OVN hold no address.
#[derive(Debug)]
struct SignedBy {
    roots: RootCertStore,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for SignedBy {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let certificate = ParsedCertificate::try_from(end_entity)?;
        rustls::client::verify_server_cert_signed_by_trust_anchor(
            &certificate,
            &self.roots,
            intermediates,
            now,
            self.provider.signature_verification_algorithms.all,
        )?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_read_and_written_alike() {
        for text in [
            "unix:/run/ovn/ovnnb_db.sock",
            "tcp:192.0.2.1:6641",
            "ssl:[2001:db8::1]:6642",
        ] {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), text);
        }
        for wrong in [
            "192.0.2.1:6641",
            "ssl:192.0.2.1",
            "unix:relative",
            "http:192.0.2.1:80",
        ] {
            assert!(wrong.parse::<Endpoint>().is_err(), "{wrong}");
        }
    }
}
