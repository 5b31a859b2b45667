use super::super::join_remains::Begun;
use super::*;
use crate::services::lxd::{EventStream, Method, Request, Response, Transport, TransportError};
use async_trait::async_trait;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;

/// How the service takes a join.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
enum Joining {
    #[default]
    Works,
    /// The operation fails.
    Fails,
    /// The connection breaks, and the join works all the same.
    BreaksAndWorks,
    /// The connection breaks, and nothing comes of it.
    BreaksAndFails,
}

/// A service with just what forming a cluster needs.
#[derive(Debug, Default)]
struct Service {
    clustered_as: Option<String>,
    /// The fingerprint it shows when it is in a cluster.
    cluster_fingerprint: String,
    config: BTreeMap<String, Value>,
    pools: Vec<&'static str>,
    joining: Joining,
    /// How often the join is still shown as running after the service calls itself clustered.
    busy: usize,
    /// Requests that change something, such as `PUT /1.0/cluster`.
    writes: Vec<String>,
}

#[derive(Debug, Default)]
struct Fake(Mutex<Service>);

fn sync(metadata: Value) -> Result<Response, TransportError> {
    let body = json!({"type": "sync", "status_code": 200, "metadata": metadata});
    Ok(Response {
        status: 200,
        etag: None,
        body,
    })
}

fn operation(code: u64, err: &str) -> Value {
    json!({"id": "op", "class": "task", "status_code": code, "err": err})
}

#[async_trait]
impl Transport for Fake {
    async fn send(&self, request: Request) -> Result<Response, TransportError> {
        let mut service = self.0.lock().unwrap();
        if request.method.writes() {
            let write = format!("{} {}", request.method, request.path);
            service.writes.push(write);
        }
        let body = request.body.unwrap_or_default();
        match (request.method, request.path.as_str()) {
            (Method::Get, "/internal/ready") => sync(json!({})),
            (Method::Get, "/1.0") => sync(json!({
                "config": service.config,
                "environment": {
                    "server": "lxd",
                    "server_clustered": service.clustered_as.is_some(),
                    "server_name": service.clustered_as.clone().unwrap_or("host".to_owned()),
                    "certificate_fingerprint": service.cluster_fingerprint,
                },
            })),
            (Method::Put, "/1.0") => {
                for (key, value) in body["config"].as_object().unwrap() {
                    service.config.insert(key.clone(), value.clone());
                }
                sync(json!({}))
            }
            (Method::Put, "/1.0/cluster") => {
                let name = body["server_name"].as_str().unwrap().to_owned();
                let joins = body.get("cluster_address").is_some();
                let how = if joins {
                    service.joining
                } else {
                    Joining::Works
                };
                if matches!(how, Joining::Works | Joining::BreaksAndWorks) {
                    service.clustered_as = Some(name);
                }
                let code = if how == Joining::Fails { 400 } else { 200 };
                match how {
                    Joining::BreaksAndWorks | Joining::BreaksAndFails => {
                        Err(TransportError::Broken {
                            endpoint: "fake".to_owned(),
                            reason: "gone".to_owned(),
                        })
                    }
                    _ => Ok(Response {
                        status: 202,
                        etag: None,
                        body: json!({
                            "type": "async", "operation": "/1.0/operations/op",
                            "metadata": operation(code, "no luck"),
                        }),
                    }),
                }
            }
            (Method::Get, "/1.0/operations/op" | "/1.0/operations/op/wait") => {
                if service.busy > 0 {
                    service.busy -= 1;
                    return sync(operation(103, ""));
                }
                let failed = service.joining == Joining::Fails;
                sync(operation(
                    if failed { 400 } else { 200 },
                    if failed { "no luck" } else { "" },
                ))
            }
            (Method::Get, "/1.0/operations") => {
                if service.busy == 0 {
                    return sync(json!({}));
                }
                if service.clustered_as.is_none() {
                    return sync(json!({"success": []}));
                }
                assert!(service.config.is_empty(), "written before the join is over");
                service.busy -= 1;
                sync(json!({"running": [{
                    "id": "op", "class": "task", "status_code": 103, "resources": {"cluster": null},
                }], "cancelled": null}))
            }
            (Method::Get, "/1.0/storage-pools") => sync(
                service
                    .pools
                    .iter()
                    .map(|name| json!({"name": name}))
                    .collect(),
            ),
            (Method::Get, _) => sync(json!([])),
            other => panic!("unexpected request {other:?}"),
        }
    }

    async fn events(&self, _: &[&str]) -> Result<EventStream, TransportError> {
        unreachable!("nothing here listens to events")
    }
}

struct Case {
    fake: Arc<Fake>,
    lxd: Lxd,
}

impl Case {
    fn new(service: Service) -> Case {
        let fake = Arc::new(Fake(Mutex::new(service)));
        let lxd = Lxd::new(Arc::clone(&fake) as Arc<dyn Transport>);
        Case { fake, lxd }
    }

    fn writes(&self) -> Vec<String> {
        self.fake.0.lock().unwrap().writes.clone()
    }

    fn config(&self, key: &str) -> String {
        let service = self.fake.0.lock().unwrap();
        let value = service.config.get(key).and_then(Value::as_str);
        value.unwrap_or_default().to_owned()
    }
}

/// A certificate and its fingerprint.
fn certificate() -> (String, String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["cluster".to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap();
    (certificate.pem(), hex(&Sha256::digest(certificate.der())))
}

/// A join of `m` to a cluster whose one member listens at the returned listener.
async fn join_request() -> (JoinLxd, String, TcpListener) {
    let (pem, fingerprint) = certificate();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let token = json!({
        "server_name": "m", "fingerprint": fingerprint, "secret": "s3cret",
        "addresses": ["127.0.0.1:1", listener.local_addr().unwrap().to_string()],
    });
    let request = JoinLxd {
        name: "m".to_owned(),
        address: "10.0.0.2".parse().unwrap(),
        token: base64::engine::general_purpose::STANDARD.encode(token.to_string()),
        cluster_certificate: pem,
        member_config: Vec::new(),
        expected_leftovers: Leftovers::default(),
    };
    (request, fingerprint, listener)
}

fn bootstrap_request() -> BootstrapLxd {
    BootstrapLxd {
        name: "m".to_owned(),
        address: "fd00::1".parse().unwrap(),
    }
}

#[track_caller]
fn assert_guarded(result: Result<(), HostError>, expected: &str) {
    match result {
        Err(HostError::GuardFailed { reason }) => {
            assert!(reason.contains(expected), "{reason}");
            assert!(!reason.contains("s3cret"), "{reason}");
        }
        other => panic!("not guarded: {other:?}"),
    }
}

#[tokio::test]
async fn bootstrap_sets_the_addresses_once() {
    let case = Case::new(Service::default());
    bootstrap_at(&case.lxd, &bootstrap_request()).await.unwrap();
    assert_eq!(case.config("cluster.https_address"), "[fd00::1]:8443");
    assert!(case.config("core.https_address").ends_with(":8443"));
    let first = ["PUT /1.0", "PUT /1.0/cluster"];
    assert_eq!(case.writes(), first);
    bootstrap_at(&case.lxd, &bootstrap_request()).await.unwrap();
    assert_eq!(case.writes(), first, "done already is done");
}

#[tokio::test]
async fn bootstrap_leaves_another_cluster_alone() {
    let case = Case::new(Service {
        clustered_as: Some("other".to_owned()),
        ..Service::default()
    });
    let result = bootstrap_at(&case.lxd, &bootstrap_request()).await;
    assert_guarded(result, "in a cluster already, as `other`");
    assert_eq!(case.writes(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_join_works_and_is_done_once() {
    for joining in [Joining::Works, Joining::BreaksAndWorks] {
        let (request, fingerprint, _member) = join_request().await;
        let case = Case::new(Service {
            cluster_fingerprint: fingerprint,
            joining,
            busy: 5,
            ..Service::default()
        });
        join_at(&case.lxd, &request, &JoinMark::default(), &Begun::default())
            .await
            .unwrap();
        let writes = ["PUT /1.0/cluster", "PUT /1.0"];
        assert_eq!(case.writes(), writes, "{joining:?}");
        assert_eq!(
            case.fake.0.lock().unwrap().busy,
            0,
            "the join is waited for"
        );
        assert!(case.config("core.https_address").ends_with(":8443"));
        join_at(&case.lxd, &request, &JoinMark::default(), &Begun::default())
            .await
            .unwrap();
        assert_eq!(case.writes(), writes, "done already is done");
    }
}

#[tokio::test(start_paused = true)]
async fn a_join_that_runs_already_is_waited_for() {
    let (request, fingerprint, _member) = join_request().await;
    let case = Case::new(Service {
        clustered_as: Some("m".to_owned()),
        cluster_fingerprint: fingerprint,
        busy: 3,
        ..Service::default()
    });
    join_at(&case.lxd, &request, &JoinMark::default(), &Begun::default())
        .await
        .unwrap();
    assert_eq!(case.writes(), ["PUT /1.0"], "it is not begun a second time");
}

#[tokio::test]
async fn more_than_was_expected_stops_a_join() {
    let (mut request, fingerprint, _member) = join_request().await;
    let service = || Service {
        cluster_fingerprint: fingerprint.clone(),
        pools: vec!["local", "new"],
        ..Service::default()
    };
    let case = Case::new(service());
    request.expected_leftovers.pools = vec!["local".to_owned(), "gone".to_owned()];
    assert_guarded(
        join_at(&case.lxd, &request, &JoinMark::default(), &Begun::default()).await,
        "would destroy: pools new",
    );
    assert_eq!(case.writes(), Vec::<String>::new());
    let case = Case::new(service());
    request.expected_leftovers.pools.push("new".to_owned());
    join_at(&case.lxd, &request, &JoinMark::default(), &Begun::default())
        .await
        .unwrap();
}

#[tokio::test]
async fn a_join_to_the_wrong_cluster_is_refused() {
    let (mut request, fingerprint, _member) = join_request().await;
    let case = Case::new(Service::default());
    let (other, _) = certificate();
    let right = std::mem::replace(&mut request.cluster_certificate, other);
    assert_guarded(
        join_at(&case.lxd, &request, &JoinMark::default(), &Begun::default()).await,
        "not the one the join token names",
    );
    request.cluster_certificate = "nonsense".to_owned();
    assert_guarded(
        join_at(&case.lxd, &request, &JoinMark::default(), &Begun::default()).await,
        "not PEM",
    );
    request.cluster_certificate = right;
    let token = std::mem::replace(&mut request.token, "s3cret!".to_owned());
    assert_guarded(
        join_at(&case.lxd, &request, &JoinMark::default(), &Begun::default()).await,
        "not base64",
    );
    request.token = token;
    request.name = "n".to_owned();
    assert_guarded(
        join_at(&case.lxd, &request, &JoinMark::default(), &Begun::default()).await,
        "made for `m`, not `n`",
    );
    request.name = "m".to_owned();
    let case = Case::new(Service {
        clustered_as: Some("m".to_owned()),
        cluster_fingerprint: "another".to_owned(),
        ..Service::default()
    });
    assert_guarded(
        join_at(&case.lxd, &request, &JoinMark::default(), &Begun::default()).await,
        "in another cluster already",
    );
    let case = Case::new(Service {
        clustered_as: Some("x".to_owned()),
        cluster_fingerprint: fingerprint,
        ..Service::default()
    });
    assert_guarded(
        join_at(&case.lxd, &request, &JoinMark::default(), &Begun::default()).await,
        "in this cluster already, as `x`",
    );
    assert_eq!(case.writes(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_join_that_fails_says_why() {
    let (request, fingerprint, _member) = join_request().await;
    let run = async |joining| {
        let case = Case::new(Service {
            cluster_fingerprint: fingerprint.clone(),
            joining,
            ..Service::default()
        });
        match join_at(&case.lxd, &request, &JoinMark::default(), &Begun::default()).await {
            Err(HostError::Failed { reason }) => reason,
            other => panic!("{other:?}"),
        }
    };
    let began = Instant::now();
    let reason = run(Joining::Fails).await;
    assert!(reason.contains("no luck"), "{reason}");
    assert!(
        began.elapsed() < Duration::from_secs(1),
        "a failure is told at once"
    );
    let reason = run(Joining::BreaksAndFails).await;
    assert!(reason.contains("is not known"), "{reason}");
}

#[tokio::test(start_paused = true)]
async fn a_cluster_out_of_reach_is_told_before_anything_is_done() {
    let (mut request, _, member) = join_request().await;
    drop(member);
    let case = Case::new(Service::default());
    match join_at(&case.lxd, &request, &JoinMark::default(), &Begun::default()).await {
        Err(HostError::Failed { reason }) => assert!(reason.contains("127.0.0.1:1"), "{reason}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(case.writes(), Vec::<String>::new());
    request.token.clear();
    assert!(
        join_at(&case.lxd, &request, &JoinMark::default(), &Begun::default())
            .await
            .is_err()
    );
}
