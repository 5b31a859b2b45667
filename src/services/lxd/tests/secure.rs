//! The transport over TLS: the service is its fingerprint, the client is its certificate.

use crate::services::lxd::{
    ClientIdentity, HttpTransport, Method, Request, Transport, TransportError,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

fn certificate(name: &str) -> (rcgen::Certificate, rcgen::KeyPair) {
    let key = rcgen::KeyPair::generate().expect("a key");
    let params = rcgen::CertificateParams::new(vec![name.to_owned()]).expect("a name");
    let certificate = params.self_signed(&key).expect("a certificate");
    (certificate, key)
}

fn fingerprint(der: &[u8]) -> String {
    Sha256::digest(der)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// A service that trusts one client certificate and says `{"type":"sync"}` to everything. Returns
/// its address.
async fn serve(
    server: &(rcgen::Certificate, rcgen::KeyPair),
    client: CertificateDer<'static>,
) -> String {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(client).expect("a root");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(
        Arc::new(roots),
        Arc::clone(&provider),
    )
    .build()
    .expect("a verifier");
    let key = PrivateKeyDer::try_from(server.1.serialize_der()).expect("a key");
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![server.0.der().clone()], key)
        .expect("a configuration");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else {
                continue;
            };
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            let answer = "HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n{\"type\":\"sync\"}";
            let _ = stream.write_all(answer.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    });
    address
}

async fn ask(transport: &HttpTransport) -> Result<u16, TransportError> {
    let request = Request {
        method: Method::Get,
        path: "/1.0".to_owned(),
        query: Vec::new(),
        body: None,
        if_match: None,
        deadline: Duration::from_secs(5),
    };
    transport
        .send(request)
        .await
        .map(|response| response.status)
}

#[tokio::test]
async fn only_the_pinned_certificate_is_spoken_to() {
    let (server, client) = (certificate("lxd"), certificate("controller"));
    let address = serve(&server, client.0.der().clone()).await;
    let identity = ClientIdentity {
        certificate: client.0.pem(),
        key: client.1.serialize_pem(),
    };
    let right = fingerprint(server.0.der());
    let transport = HttpTransport::tls(&address, &right, &identity).expect("a transport");
    assert_eq!(ask(&transport).await.expect("an answer"), 200);

    let wrong = fingerprint(client.0.der());
    let transport = HttpTransport::tls(&address, &wrong, &identity).expect("a transport");
    let failure = ask(&transport).await.expect_err("another certificate");
    assert!(
        matches!(failure, TransportError::Connect { .. }),
        "{failure:?}"
    );
}

#[tokio::test]
async fn a_client_the_service_does_not_trust_gets_no_answer() {
    let (server, client, other) = (certificate("lxd"), certificate("a"), certificate("b"));
    let address = serve(&server, client.0.der().clone()).await;
    let identity = ClientIdentity {
        certificate: other.0.pem(),
        key: other.1.serialize_pem(),
    };
    let right = fingerprint(server.0.der());
    let transport = HttpTransport::tls(&address, &right, &identity).expect("a transport");
    ask(&transport).await.expect_err("not trusted");
    let printed = format!("{transport:?} {identity:?}");
    assert!(!printed.contains("PRIVATE KEY"), "{printed}");
}

#[test]
fn what_cannot_be_used_is_said_at_once() {
    let client = certificate("controller");
    let identity = ClientIdentity {
        certificate: client.0.pem(),
        key: client.1.serialize_pem(),
    };
    let no_key = ClientIdentity {
        key: "nonsense".to_owned(),
        ..identity.clone()
    };
    for (fingerprint, identity, text) in [
        ("abc".to_owned(), &identity, "is not a SHA-256 in hex"),
        ("ab".repeat(32), &no_key, "the client key cannot be read"),
    ] {
        let failure = HttpTransport::tls("127.0.0.1:1", &fingerprint, identity)
            .expect_err("it cannot be used");
        assert!(failure.to_string().contains(text), "{failure}");
    }
}
