//! Agents talk to each other: what is let in, and everything that is not. All on loopback; each
//! agent of a test has an address of its own below 127.0.0.0/8 and they share a port.

use bytes::Bytes;
use microcloud::agent::lxd_watch::LxdStarted;
use microcloud::agent::server::PeerServer;
use microcloud::agent::{EpochBook, Machine, OwnHost, PeerIdentity, TrustBook};
use microcloud::services::host::local::LocalHost;
use microcloud::services::host::{
    BootstrapLxd, Host, HostError, HostTarget, Hosts, TrustStore, TrustedMember,
};
use microcloud::services::peer::{
    Claim, Fingerprint, Identity, PeerClient, PeerHost, PeerHosts, Pins, tls,
};
use reqwest::Method;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Two octets of their own for every agent of every test of this process.
fn fresh_address() -> IpAddr {
    static NEXT: AtomicU16 = AtomicU16::new(1);
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    let process = u8::try_from(std::process::id() % 200).unwrap() + 20;
    let [high, low] = n.to_be_bytes();
    IpAddr::V4(Ipv4Addr::new(127, process, high + 1, low))
}

fn free_port() -> u16 {
    let probe = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    probe.local_addr().unwrap().port()
}

/// A member with its key; serving once [`Node::serve`] was called.
struct Node {
    dir: tempfile::TempDir,
    identity: Arc<Identity>,
    machine: Arc<Machine>,
    address: IpAddr,
    port: u16,
    stop: CancellationToken,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Node {
    fn new(name: &str, port: u16) -> Node {
        Node::in_dir(tempfile::tempdir().unwrap(), name, port)
    }

    fn in_dir(dir: tempfile::TempDir, name: &str, port: u16) -> Node {
        let identity = Arc::new(Identity::open(dir.path(), name).unwrap());
        let machine = Machine {
            local: LocalHost::new(name, Some(dir.path().join("no-lxd"))),
            fingerprint: identity.fingerprint().clone(),
            trust: Arc::new(TrustBook::open(dir.path()).unwrap()),
            epochs: Arc::new(EpochBook::open(dir.path()).unwrap()),
            lxd_started: LxdStarted::default(),
            ovn_changes: Default::default(),
            port: 0,
            memory_version: AtomicU64::new(0),
            shown: AtomicU64::new(0),
        };
        Node {
            dir,
            identity,
            machine: Arc::new(machine),
            address: fresh_address(),
            port,
            stop: CancellationToken::new(),
        }
    }

    fn name(&self) -> &str {
        self.identity.name()
    }

    async fn serve(&self) {
        let extra = axum::Router::new()
            .route(
                "/v1/echo",
                axum::routing::post(|body: Bytes| async { body }),
            )
            .route(
                "/v1/whoami",
                axum::routing::get(
                    |axum::Extension(peer): axum::Extension<PeerIdentity>| async { peer.name },
                ),
            );
        let at = SocketAddr::new(self.address, self.port);
        let identity = Arc::clone(&self.identity);
        let server = PeerServer::bind(at, identity, Arc::clone(&self.machine), extra)
            .await
            .unwrap();
        tokio::spawn(server.serve(self.stop.clone(), TaskTracker::new()));
    }

    fn trusts(&self, other: &Node) {
        let key = other.identity.fingerprint();
        let book = &self.machine.trust;
        book.trust_first(key, Some(other.name()), false).unwrap();
    }

    fn target(&self) -> HostTarget {
        HostTarget {
            name: self.name().to_owned(),
            address: self.address,
            fingerprint: Some(self.identity.fingerprint().to_string()),
        }
    }

    fn client(&self) -> PeerClient {
        let pins = Arc::clone(&self.machine.trust) as Arc<dyn Pins>;
        let claim = Arc::clone(&self.machine.epochs) as Arc<dyn Claim>;
        PeerClient::new(Arc::clone(&self.identity), pins, claim, self.port)
    }

    fn host(&self, other: &Node) -> PeerHost {
        PeerHost::new(self.client(), other.target())
    }

    /// Takes the lead with an epoch.
    fn leads(&self, epoch: u64) {
        self.machine.epochs.set_claim(Some(epoch));
    }
}

/// `a` serves and trusts `b`.
async fn pair() -> (Node, Node) {
    let port = free_port();
    let (a, b) = (Node::new("a", port), Node::new("b", port));
    a.trusts(&b);
    a.serve().await;
    (a, b)
}

fn store(version: u64, nodes: &[&Node]) -> TrustStore {
    let member = |node: &&Node| TrustedMember {
        fingerprint: node.identity.fingerprint().to_string(),
        address: node.address,
    };
    TrustStore {
        version,
        members: nodes
            .iter()
            .map(|node| (node.name().to_owned(), member(node)))
            .collect(),
    }
}

#[track_caller]
fn assert_not_trusted<T: std::fmt::Debug>(result: Result<T, HostError>, expected: &str) {
    match result {
        Err(HostError::NotTrusted { reason, .. }) => {
            assert!(reason.contains(expected), "{reason}");
        }
        other => panic!("not refused as untrusted: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trusted_members_talk() {
    let (a, b) = pair().await;
    a.machine.epochs.admit(7, "c").unwrap();
    let beat = b.host(&a).beat().await.unwrap();
    assert_eq!((beat.name.as_str(), beat.epoch), ("a", 7));
    assert_eq!((beat.holder.as_str(), beat.leading), ("c", false));
    let report = b.host(&a).report().await.unwrap();
    assert_eq!(report.name, "a");
    assert_eq!(report.fingerprint, a.identity.fingerprint().as_str());
    assert!(report.interfaces.iter().any(|i| i.name == "lo"));
    let answer = b
        .client()
        .forward(
            &a.target(),
            Method::GET,
            "/v1/whoami",
            Bytes::new(),
            second(),
        )
        .await
        .unwrap();
    assert_eq!((answer.status, &answer.body[..]), (200, &b"b"[..]));
}

fn second() -> Duration {
    Duration::from_secs(5)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_with_another_key_is_not_talked_to() {
    let (a, b) = pair().await;
    let mut target = a.target();
    target.fingerprint = Some("ab".repeat(32));
    let host = PeerHost::new(b.client(), target);
    assert_not_trusted(host.beat().await, "is pinned");

    let mut target = a.target();
    target.name = "z".to_owned();
    let host = PeerHost::new(b.client(), target);
    assert_not_trusted(host.beat().await, "calls itself `a`, not `z`");

    let mut target = a.target();
    target.fingerprint = None;
    let host = PeerHost::new(b.client(), target);
    assert_not_trusted(host.beat().await, "no key of it is known");

    // What the trust store says wins over the resource's pin.
    let c = Node::new("c", a.port);
    b.machine.trust.set_store(store(1, &[&b])).unwrap();
    assert!(b.host(&a).beat().await.is_ok());
    let mut wrong = store(2, &[&b]);
    let other = store(1, &[&c]).members.remove("c").unwrap();
    wrong.members.insert("a".to_owned(), other);
    b.machine.trust.set_store(wrong).unwrap();
    assert_not_trusted(b.host(&a).beat().await, "is pinned");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_are_told_that_they_are_not_let_in() {
    let (a, _b) = pair().await;
    let stranger = Node::new("c", a.port);
    for _ in 0..20 {
        // Every time: the alert must not get lost when the connection breaks.
        let refused = stranger.host(&a).beat().await;
        assert_not_trusted(refused, stranger.identity.fingerprint().as_str());
    }
    let also_b = Node::new("b", a.port);
    assert_not_trusted(also_b.host(&a).beat().await, "does not let `b` in");
    let set = stranger.host(&a).set_trust(store(1, &[&stranger])).await;
    assert_not_trusted(set, "does not let");
    assert_eq!(a.machine.trust.store(), TrustStore::default());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trusted_key_under_another_name_is_refused() {
    let (a, b) = pair().await;
    // The same key, with a certificate for another name.
    let dir = tempfile::tempdir().unwrap();
    let renamed = dir.path().join("identity");
    std::fs::create_dir(&renamed).unwrap();
    let key = b.dir.path().join("identity/agent.key");
    std::fs::copy(&key, renamed.join("agent.key")).unwrap();
    let c = Node::in_dir(dir, "c", a.port);
    assert_eq!(c.identity.fingerprint(), b.identity.fingerprint());
    assert_not_trusted(c.host(&a).beat().await, "does not let `c` in");
    assert!(b.host(&a).beat().await.is_ok());
}

/// A TLS configuration with whatever key and certificate.
fn raw_config(
    versions: &[&'static rustls::SupportedProtocolVersion],
    certified: Option<CertifiedKey>,
) -> rustls::ClientConfig {
    /// Trusts every server: only the server's checks are tested with it.
    #[derive(Debug)]
    struct Anyone;
    impl rustls::client::danger::ServerCertVerifier for Anyone {
        fn verify_server_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: rustls::pki_types::UnixTime,
        ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
            Ok(rustls::client::danger::ServerCertVerified::assertion())
        }
        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &rustls::DigitallySignedStruct,
        ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
            Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
        }
        fn verify_tls13_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &rustls::DigitallySignedStruct,
        ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
            Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
        }
        fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
            vec![rustls::SignatureScheme::ECDSA_NISTP256_SHA256]
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone));
    match certified {
        None => builder.with_no_client_auth(),
        Some(certified) => {
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(certified)))
        }
    }
}

fn certificate_of(node: &Node) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(node.dir.path().join("identity/agent.crt")).unwrap()
}

fn key_of(dir: &Path) -> Arc<dyn rustls::sign::SigningKey> {
    let key = PrivateKeyDer::from_pem_file(dir.join("identity/agent.key")).unwrap();
    rustls::crypto::ring::sign::any_supported_type(&key).unwrap()
}

/// Sends a request over TLS as it is; the answer, or why there is none.
async fn raw(node: &Node, config: rustls::ClientConfig, text: &str) -> Result<String, String> {
    let tcp = TcpStream::connect((node.address, node.port)).await.unwrap();
    let name = ServerName::IpAddress(node.address.into());
    let connector = TlsConnector::from(Arc::new(config));
    let mut stream = connector
        .connect(name, tcp)
        .await
        .map_err(|e| e.to_string())?;
    stream
        .write_all(text.as_bytes())
        .await
        .map_err(|e| e.to_string())?;
    let mut answer = vec![0; 4096];
    let n = stream.read(&mut answer).await.map_err(|e| e.to_string())?;
    Ok(String::from_utf8_lossy(&answer[..n]).into_owned())
}

const BEAT_AS_B: &str = "GET /v1/host/beat HTTP/1.1\r\nhost: a\r\nx-microcloud-member: b\r\n\r\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_certificate_nobody_gets_in() {
    let (a, _b) = pair().await;
    let config = raw_config(&[&rustls::version::TLS13], None);
    let error = raw(&a, config, BEAT_AS_B).await.unwrap_err();
    assert!(error.contains("CertificateRequired"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copied_certificate_is_worth_nothing_without_its_key() {
    let (a, b) = pair().await;
    let thief = Node::new("thief", a.port);
    let stolen = CertifiedKey::new(vec![certificate_of(&b)], key_of(thief.dir.path()));
    let config = raw_config(&[&rustls::version::TLS13], Some(stolen));
    let error = raw(&a, config, BEAT_AS_B).await.unwrap_err();
    assert!(error.contains("DecryptError"), "{error}");

    // The same with the right key works: the test fails for the right reason.
    let right = CertifiedKey::new(vec![certificate_of(&b)], key_of(b.dir.path()));
    let config = raw_config(&[&rustls::version::TLS13], Some(right));
    let answer = raw(&a, config, BEAT_AS_B).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_with_a_copied_certificate_is_not_talked_to() {
    let (a, b) = pair().await;
    let thief = Node::new("thief", a.port);
    let stolen = CertifiedKey::new(vec![certificate_of(&a)], key_of(thief.dir.path()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(stolen)));
    let listener = TcpListener::bind((thief.address, thief.port))
        .await
        .unwrap();
    tokio::spawn(async move {
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        while let Ok((tcp, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let mut stream = acceptor.accept(tcp).await?;
                stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n{}").await
            });
        }
    });
    let mut target = a.target();
    target.address = thief.address;
    let refused = PeerHost::new(b.client(), target).beat().await;
    assert_not_trusted(refused, "certificate does not hold");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_1_2_and_plain_http_are_refused() {
    let (a, b) = pair().await;
    let right = CertifiedKey::new(vec![certificate_of(&b)], key_of(b.dir.path()));
    let config = raw_config(&[&rustls::version::TLS12], Some(right));
    let error = raw(&a, config, BEAT_AS_B).await.unwrap_err();
    assert!(error.contains("ProtocolVersion"), "{error}");

    let mut tcp = TcpStream::connect((a.address, a.port)).await.unwrap();
    tcp.write_all(BEAT_AS_B.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _ = tcp.read_to_end(&mut answer).await;
    let text = String::from_utf8_lossy(&answer);
    assert!(
        !text.contains("HTTP/1.1") && !text.contains("epoch"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_in_another_members_name_are_refused() {
    let (a, b) = pair().await;
    let config = || {
        let right = CertifiedKey::new(vec![certificate_of(&b)], key_of(b.dir.path()));
        raw_config(&[&rustls::version::TLS13], Some(right))
    };
    let as_c = BEAT_AS_B.replace("member: b", "member: c");
    let answer = raw(&a, config(), &as_c).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    assert!(answer.contains("in the name of `c`"), "{answer}");
    let as_nobody = BEAT_AS_B.replace("x-microcloud-member: b\r\n", "");
    let answer = raw(&a, config(), &as_nobody).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    let odd_epoch = BEAT_AS_B.replace("member: b", "member: b\r\nx-microcloud-epoch: many");
    let answer = raw(&a, config(), &odd_epoch).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lower_epoch_is_refused_and_a_higher_one_is_on_disk_first() {
    let port = free_port();
    let (a, b, c) = (
        Node::new("a", port),
        Node::new("b", port),
        Node::new("c", port),
    );
    a.trusts(&b);
    a.trusts(&c);
    a.serve().await;
    let bootstrap = || BootstrapLxd {
        name: "a".to_owned(),
        address: a.address,
    };
    // Who does not lead may look, and change nothing.
    assert!(b.host(&a).beat().await.is_ok());
    let refused = b.host(&a).bootstrap_lxd(bootstrap()).await;
    assert!(
        matches!(&refused, Err(HostError::GuardFailed { reason }) if reason.contains("does not lead")),
        "{refused:?}"
    );
    let refused = b.host(&a).set_trust(store(1, &[&b])).await;
    assert!(matches!(refused, Err(HostError::GuardFailed { .. })));

    b.leads(5);
    // It gets as far as the machine: there is no LXD here.
    let tried = b.host(&a).bootstrap_lxd(bootstrap()).await;
    assert!(matches!(tried, Err(HostError::Failed { .. })), "{tried:?}");
    assert_eq!(EpochBook::open(a.dir.path()).unwrap().highest().number, 5);

    for stale in [4, 5] {
        c.leads(stale);
        let expected = HostError::StaleEpoch {
            name: "a".to_owned(),
            known: 5,
            ours: stale,
        };
        assert_eq!(c.host(&a).beat().await, Err(expected.clone()), "{stale}");
        assert_eq!(c.host(&a).report().await, Err(expected.clone()));
        assert_eq!(c.host(&a).bootstrap_lxd(bootstrap()).await, Err(expected));
    }
    c.leads(6);
    assert_eq!(c.host(&a).beat().await.unwrap().epoch, 6);
    assert!(matches!(
        b.host(&a).beat().await,
        Err(HostError::StaleEpoch {
            known: 6,
            ours: 5,
            ..
        })
    ));
    // The agent's own controller is held to the same.
    let own = OwnHost(Arc::clone(&a.machine));
    a.leads(5);
    assert!(matches!(
        own.beat().await,
        Err(HostError::StaleEpoch { .. })
    ));
    // The status is 409 with the error as JSON.
    let answer = b
        .client()
        .forward(
            &a.target(),
            Method::GET,
            "/v1/host/beat",
            Bytes::new(),
            second(),
        )
        .await
        .unwrap();
    assert_eq!(answer.status, 409);
    assert!(serde_json::from_slice::<HostError>(&answer.body).is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_that_are_too_large_or_no_requests_are_refused() {
    let (a, b) = pair().await;
    b.leads(1);
    let send = async |body: Vec<u8>| {
        b.client()
            .forward(
                &a.target(),
                Method::POST,
                "/v1/host/trust",
                body.into(),
                Duration::from_secs(20),
            )
            .await
    };
    match send(vec![b' '; 5 << 20]).await {
        Ok(answer) => assert_eq!(answer.status, 413),
        // The agent may have closed the connection before everything was sent.
        Err(error) => assert!(matches!(error, HostError::Unreachable { .. }), "{error}"),
    }
    let answer = send(br#"{"version": "secret-text"}"#.to_vec())
        .await
        .unwrap();
    let text = String::from_utf8_lossy(&answer.body);
    assert_eq!(answer.status, 400, "{text}");
    assert!(text.contains("line 1"), "{text}");
    assert!(
        !text.contains("secret-text"),
        "values are not repeated: {text}"
    );
    assert!(b.host(&a).beat().await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_trust_store_shuts_out_at_once_on_open_connections_too() {
    let (a, b) = pair().await;
    b.leads(1);
    let c = Node::new("c", a.port);
    let host = b.host(&a);
    host.set_trust(store(1, &[&a, &b, &c])).await.unwrap();
    assert_eq!(host.beat().await.unwrap().trust_version, 1);
    assert!(c.host(&a).beat().await.is_ok());
    let kept = c.host(&a);
    assert!(kept.beat().await.is_ok());
    host.set_trust(store(2, &[&a, &b])).await.unwrap();
    assert_not_trusted(kept.beat().await, "was removed from the cluster");
    assert_not_trusted(c.host(&a).beat().await, "does not let `c` in");
    let older = host.set_trust(store(1, &[&a, &b, &c])).await;
    assert!(
        matches!(&older, Err(HostError::GuardFailed { reason }) if reason.contains("older")),
        "{older:?}"
    );
    let reopened = TrustBook::open(a.dir.path()).unwrap();
    assert_eq!(reopened.store(), store(2, &[&a, &b]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_peer_without_a_name_is_bound_only_by_a_proven_key() {
    let port = free_port();
    let (a, b) = (Node::new("a", port), Node::new("b", port));
    let book = &a.machine.trust;
    book.trust_first(b.identity.fingerprint(), None, false)
        .unwrap();
    a.serve().await;
    let thief = Node::new("thief", port);
    let stolen = CertifiedKey::new(vec![certificate_of(&b)], key_of(thief.dir.path()));
    let config = raw_config(&[&rustls::version::TLS13], Some(stolen));
    assert!(raw(&a, config, BEAT_AS_B).await.is_err());
    assert_eq!(book.first_peers()[0].name, None);
    assert!(b.host(&a).beat().await.is_ok());
    assert_eq!(book.first_peers()[0].name.as_deref(), Some("b"));
}

/// Passes bytes on to a node and counts connections.
async fn counting_proxy(node: &Node) -> (IpAddr, Arc<AtomicUsize>) {
    let address = fresh_address();
    let listener = TcpListener::bind((address, node.port)).await.unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let (to, counted) = (SocketAddr::new(node.address, node.port), Arc::clone(&count));
    tokio::spawn(async move {
        while let Ok((mut from, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(async move {
                let mut to = TcpStream::connect(to).await?;
                tokio::io::copy_bidirectional(&mut from, &mut to).await
            });
        }
    });
    (address, count)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beats_share_one_connection() {
    let (a, b) = pair().await;
    let (address, count) = counting_proxy(&a).await;
    let hosts = PeerHosts::new(b.client(), Arc::new(OwnHost(Arc::clone(&b.machine))));
    let target = HostTarget {
        address,
        ..a.target()
    };
    for _ in 0..20 {
        // As the controller does: the host is looked up every time.
        hosts.host(&target).beat().await.unwrap();
        // Beats come seconds apart; a connection is free again only a moment after the answer.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(count.load(Ordering::Relaxed), 1);
    let own = hosts.host(&b.target()).beat().await.unwrap();
    assert_eq!(own.name, "b", "the own machine is called directly");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_callers_at_once_are_served_while_the_trust_changes() {
    let port = free_port();
    let a = Node::new("a", port);
    let others: Vec<Node> = (0..8).map(|n| Node::new(&format!("n{n}"), port)).collect();
    let all: Vec<&Node> = std::iter::once(&a).chain(&others).collect();
    a.machine.trust.set_store(store(1, &all)).unwrap();
    a.serve().await;
    others[0].leads(3);
    let beats = others.iter().flat_map(|n| {
        let client = n.client();
        let target = a.target();
        (0..10).map(move |_| PeerHost::new(client.clone(), target.clone()))
    });
    let beats = futures_util::future::join_all(beats.map(|h| async move { h.beat().await }));
    let leader = others[0].host(&a);
    let changes = async {
        for version in 2..12 {
            leader.set_trust(store(version, &all)).await.unwrap();
        }
    };
    let (beats, ()) = tokio::join!(beats, changes);
    for beat in beats {
        assert_eq!(beat.unwrap().name, "a");
    }
    assert_eq!(a.machine.trust.store().version, 11);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deadlines_end_calls_to_machines_that_do_not_answer() {
    let b = Node::new("b", free_port());
    // Accepts and says nothing.
    let silent = fresh_address();
    let listener = TcpListener::bind((silent, b.port)).await.unwrap();
    let target = HostTarget {
        name: "a".to_owned(),
        address: silent,
        fingerprint: Some("ab".repeat(32)),
    };
    let began = Instant::now();
    let result = PeerHost::new(b.client(), target.clone()).beat().await;
    assert!(
        matches!(result, Err(HostError::Unreachable { .. })),
        "{result:?}"
    );
    assert!(
        began.elapsed() < Duration::from_secs(4),
        "{:?}",
        began.elapsed()
    );
    drop(listener);
    let result = PeerHost::new(b.client(), target).beat().await;
    match result {
        Err(HostError::Unreachable { reason, .. }) => {
            assert!(reason.contains("refused"), "{reason}")
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_agent_is_reached_again_at_once() {
    let (a, b) = pair().await;
    let host = b.host(&a);
    host.beat().await.unwrap();
    a.stop.cancel();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(matches!(
        host.beat().await,
        Err(HostError::Unreachable { .. })
    ));
    let mut again = Node::new("unused", a.port);
    again.identity = Arc::clone(&a.identity);
    again.machine = Arc::clone(&a.machine);
    again.address = a.address;
    again.serve().await;
    host.beat().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unproven_connections_do_not_shut_members_out() {
    let (a, b) = pair().await;
    let mut idle = Vec::new();
    for _ in 0..300 {
        idle.push(TcpStream::connect((a.address, a.port)).await.unwrap());
    }
    // They all come from one address; the member comes from another one.
    let from = SocketAddr::new(b.address, 0);
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind(from).unwrap();
    let tcp = socket.connect((a.address, a.port).into()).await.unwrap();
    let right = CertifiedKey::new(vec![certificate_of(&b)], key_of(b.dir.path()));
    let config = raw_config(&[&rustls::version::TLS13], Some(right));
    let name = ServerName::IpAddress(a.address.into());
    let connecting = TlsConnector::from(Arc::new(config)).connect(name, tcp);
    let stream = tokio::time::timeout(Duration::from_secs(5), connecting).await;
    let mut stream = stream.unwrap().unwrap();
    stream.write_all(BEAT_AS_B.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_are_handed_on_as_they_come() {
    use futures_util::StreamExt;
    let (a, b) = pair().await;
    let body = Bytes::from(vec![7u8; 300_000]);
    let (status, pieces) = b
        .client()
        .forward_stream(
            &a.target(),
            Method::POST,
            "/v1/echo",
            body.clone(),
            second(),
        )
        .await
        .unwrap();
    let got: Vec<u8> = pieces.map(|piece| piece.unwrap().to_vec()).concat().await;
    assert_eq!((status, got.len()), (200, body.len()));
}

#[test]
fn configurations_need_no_process_wide_provider() {
    let dir = tempfile::tempdir().unwrap();
    let identity = Arc::new(Identity::open(dir.path(), "a").unwrap());
    let key: Fingerprint = identity.fingerprint().clone();
    assert!(tls::client_config(Arc::clone(&identity), "a", key).is_ok());
    let book: PathBuf = dir.path().to_owned();
    let pins: Arc<dyn Pins> = Arc::new(TrustBook::open(&book).unwrap());
    assert!(tls::server_config(identity, pins).is_ok());
}
