//! The client against a server in this process that says what a real one says.

use super::rows::{Bridge, OpenVSwitch};
use super::*;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};

/// Reads one message; the tests send small ones.
async fn read(stream: &mut (impl AsyncReadExt + Unpin), splitter: &mut framing::Splitter) -> Value {
    loop {
        if let Some(message) = splitter.next().unwrap() {
            return message;
        }
        let mut buffer = [0; 4096];
        let n = stream.read(&mut buffer).await.unwrap();
        assert_ne!(n, 0, "the client closed the connection");
        splitter.push(&buffer[..n]);
    }
}

/// A server that answers each call with the next of `answers`, in any pieces, and then whatever
/// `after` holds.
async fn server(answers: Vec<Value>, after: Vec<Value>) -> (tempfile::TempDir, Endpoint) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db.sock");
    let listener = UnixListener::bind(&path).unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        serve(&mut stream, answers, after).await;
    });
    (dir, Endpoint::Unix(path))
}

async fn serve(
    stream: &mut (impl AsyncReadExt + AsyncWriteExt + Unpin),
    answers: Vec<Value>,
    after: Vec<Value>,
) {
    let mut splitter = framing::Splitter::default();
    for answer in answers {
        let request = read(stream, &mut splitter).await;
        let mut text = String::new();
        // A server asks whether one is still there whenever it likes.
        text.push_str(&json!({"method": "echo", "params": [], "id": "echo"}).to_string());
        let mut answer = answer;
        answer["id"] = request["id"].clone();
        text.push_str(&answer.to_string());
        for piece in text.as_bytes().chunks(7) {
            stream.write_all(piece).await.unwrap();
            stream.flush().await.unwrap();
        }
        let echo = read(stream, &mut splitter).await;
        assert_eq!(echo, json!({"id": "echo", "result": [], "error": null}));
    }
    for message in after {
        stream
            .write_all(message.to_string().as_bytes())
            .await
            .unwrap();
    }
    stream.flush().await.unwrap();
    // Until the client goes.
    let _ = stream.read(&mut [0; 1]).await;
}

fn result(result: Value) -> Value {
    json!({"result": result, "error": null})
}

#[tokio::test]
async fn rows_come_typed() {
    let answers = vec![
        result(json!(["Open_vSwitch", "_Server"])),
        result(json!([{"rows": [{
            "_uuid": ["uuid", "11-22"],
            "external_ids": ["map", [["system-id", "micro01"]]],
            "ovs_version": "3.5.0",
        }]}])),
    ];
    let (_dir, endpoint) = server(answers, vec![]).await;
    let client = Client::connect(&endpoint, None).await.unwrap();
    assert_eq!(
        client.list_dbs().await.unwrap(),
        ["Open_vSwitch", "_Server"]
    );
    let rows: Vec<OpenVSwitch> = client.rows(LOCAL).await.unwrap();
    assert_eq!(rows[0].external_ids.get("system-id"), Some("micro01"));
    assert_eq!(rows[0].ovs_version.one().map(String::as_str), Some("3.5.0"));
}

#[tokio::test]
async fn every_place_of_a_transactions_answer_is_looked_at() {
    let answers = vec![
        result(json!([{"count": 1}, {"error": "timed out", "details": "it changed"}, null])),
        result(json!([{"count": 1}, {"error": "referential integrity violation"}])),
        json!({"result": null, "error": {"error": "unknown database", "details": "no Nope"}}),
        result(json!([{"rows": [{"name": 5}]}])),
    ];
    let (_dir, endpoint) = server(answers, vec![]).await;
    let client = Client::connect(&endpoint, None).await.unwrap();
    let delete = Operation::delete("Bridge", &[("name", "==", json!("br0"))]);
    for said in [
        "timed out (it changed)",
        "referential integrity violation",
        "unknown database (no Nope)",
    ] {
        let refused = client
            .transact(LOCAL, std::slice::from_ref(&delete))
            .await
            .unwrap_err();
        assert!(refused.to_string().contains(said), "{refused}");
    }
    let odd = client.rows::<Bridge>(LOCAL).await.unwrap_err();
    assert!(matches!(odd, OvsdbError::Unexpected { .. }), "{odd}");
}

#[tokio::test]
async fn a_monitor_tells_what_is_there_and_what_changes() {
    let answers = vec![
        result(json!({})),
        result(json!({"Chassis": {"1": {"initial": {"name": "micro01"}}}})),
    ];
    // The client numbers its calls; the monitor is the second.
    let after = vec![
        json!({"method": "update2", "id": null, "params": [2, {"Chassis": {"1": {"delete": null}}}]}),
        json!({"method": "update2", "id": null, "params": [99, {"Chassis": {"2": {"delete": null}}}]}),
        json!({"method": "update2", "id": null, "params": [2, {"Chassis": {"3": {"modify": {"name": "x"}}}}]}),
    ];
    let (_dir, endpoint) = server(answers, after).await;
    let client = Client::connect(&endpoint, None).await.unwrap();
    let table = MonitorTable {
        table: "Chassis",
        columns: &["name"],
        only: None,
    };
    let mut monitor = client.monitor(SOUTHBOUND, &[table]).await.unwrap();
    let next = monitor.next().await.unwrap();
    assert_eq!(next[0].change, Change::Initial(json!({"name": "micro01"})));
    let next = monitor.next().await.unwrap();
    assert_eq!(
        (next[0].row.as_str(), &next[0].change),
        ("1", &Change::Delete)
    );
    let next = monitor.next().await.unwrap();
    assert_eq!(next[0].row, "3", "another monitor's update is not told");
}

#[tokio::test]
async fn a_connection_that_breaks_ends_calls_and_monitors() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db.sock");
    let listener = UnixListener::bind(&path).unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut splitter = framing::Splitter::default();
        let _ = read(&mut stream, &mut splitter).await;
    });
    let client = Client::connect(&Endpoint::Unix(path), None).await.unwrap();
    let broken = client.list_dbs().await.unwrap_err();
    assert!(matches!(broken, OvsdbError::Broken { .. }), "{broken}");
    let broken = client.list_dbs().await.unwrap_err();
    assert!(broken.to_string().contains("closed"), "{broken}");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_says_nothing_is_not_waited_for_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let client = Client::connect(&Endpoint::Unix(path), None).await.unwrap();
    let _kept = listener.accept().await.unwrap();
    let late = client.list_dbs().await.unwrap_err();
    assert!(matches!(late, OvsdbError::TooLate { .. }), "{late}");
    let nowhere = Endpoint::Unix(dir.path().join("nowhere"));
    let none = Client::connect(&nowhere, None).await.unwrap_err();
    assert!(matches!(none, OvsdbError::Connect { .. }), "{none}");
}

/// An authority's certificate and key.
fn authority(name: &str) -> (rcgen::Certificate, Issuer<'static, KeyPair>) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, name);
    let certificate = params.self_signed(&key).unwrap();
    (certificate, Issuer::new(params, key))
}

fn signed(name: &str, issuer: &Issuer<'static, KeyPair>) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    let certificate = params.signed_by(&key, issuer).unwrap();
    (certificate.pem(), key.serialize_pem())
}

#[tokio::test]
async fn over_tls_both_sides_prove_themselves_to_the_same_authority() {
    use rustls_pki_types::pem::PemObject;
    use rustls_pki_types::{CertificateDer, PrivateKeyDer};
    let (root, issuer) = authority("ovn");
    let (other_root, _) = authority("other");
    let (certificate, key) = signed("server", &issuer);
    let mut roots = rustls::RootCertStore::empty();
    roots.add(root.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let clients =
        rustls::server::WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone())
            .build()
            .unwrap();
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(clients)
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()],
            PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
        )
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = Endpoint::Tls(listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            if let Ok(mut stream) = acceptor.accept(stream).await {
                serve(&mut stream, vec![result(json!(["OVN_Northbound"]))], vec![]).await;
            }
        }
    });
    let (certificate, key) = signed("client", &issuer);
    let good = Credentials {
        authority: root.pem(),
        certificate,
        key,
    };
    let client = Client::connect(&endpoint, Some(&good)).await.unwrap();
    assert_eq!(client.list_dbs().await.unwrap(), [NORTHBOUND]);
    drop(client);
    let wrong = Credentials {
        authority: other_root.pem(),
        ..good
    };
    let refused = Client::connect(&endpoint, Some(&wrong)).await.unwrap_err();
    assert!(matches!(refused, OvsdbError::Connect { .. }), "{refused}");
    let refused = Client::connect(&endpoint, None).await.unwrap_err();
    assert!(
        refused.to_string().contains("no certificate was given"),
        "{refused}"
    );
}
