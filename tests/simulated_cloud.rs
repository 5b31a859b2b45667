//! The simulated cloud, used as the tests of the controller use it.

use futures_util::StreamExt;
use microcloud::services::host::{
    BootstrapLxd, HostError, HostTarget, JoinLxd, LxdReport, TrustStore, TrustedMember, WipeDisk,
};
use microcloud::services::lxd::types::{MemberConfigKey, Profile};
use microcloud::services::lxd::{
    EventStream, HttpTransport, Lxd, LxdError, Method, NetworkCreate, ObjectPut, PoolCreate,
    ProfilePut, ProjectCreate,
};
use microcloud::simulate::*;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant as WallInstant};
use tokio::time::{Instant, sleep, timeout};

const THREE: [&str; 3] = ["micro01", "micro02", "micro03"];

async fn three() -> SimCloud {
    let cloud = SimCloud::new(SimConfig::of(3));
    cloud.form(THREE[0], &THREE[1..]).await.expect("it forms");
    cloud
}

fn lxd(cloud: &SimCloud, member: &str) -> Lxd {
    Lxd::new(cloud.transport(member))
}

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(k, v)| ((*k).into(), (*v).into()))
        .collect()
}

fn pool(driver: &str, config: &[(&str, &str)]) -> PoolCreate {
    PoolCreate {
        name: "local".into(),
        driver: driver.into(),
        config: map(config),
        ..PoolCreate::default()
    }
}

fn bridge(name: &str) -> NetworkCreate {
    NetworkCreate {
        name: name.into(),
        network_type: "bridge".into(),
        ..NetworkCreate::default()
    }
}

fn disk_of(member: &str) -> String {
    format!("/dev/disk/by-id/virtio-{member}-disk1")
}

async fn define_local(client: &Lxd) {
    for member in THREE {
        let source = disk_of(member);
        let part = pool("btrfs", &[("source", &source)]);
        client
            .create_pool(&part, Some(member))
            .await
            .expect("a part is defined");
    }
}

fn target(cloud: &SimCloud, member: &str) -> HostTarget {
    let at = cloud
        .machines()
        .iter()
        .position(|m| m == member)
        .expect("a machine");
    HostTarget {
        name: member.into(),
        address: format!("10.77.0.{}", at + 1).parse().expect("an address"),
        fingerprint: None,
    }
}

fn epoch(value: u64) -> Arc<AtomicU64> {
    Arc::new(AtomicU64::new(value))
}

/// The next event of an action, within 4 s.
async fn next(stream: &mut EventStream, action: &str) -> Option<Value> {
    timeout(Duration::from_secs(4), async {
        loop {
            let event = stream.next().await?.ok()?;
            if event["metadata"]["action"] == action {
                return Some(event);
            }
        }
    })
    .await
    .ok()
    .flatten()
}

#[tokio::test(start_paused = true)]
async fn three_machines_form_a_cluster() {
    let cloud = three().await;
    let members = lxd(&cloud, "micro02").members().await.unwrap();
    assert_eq!(members.len(), 3);
    for member in &members {
        assert_eq!(
            (member.status.as_str(), member.database),
            ("Online", true),
            "{member:?}"
        );
    }
    assert_eq!(members[0].roles, ["database-leader", "database"]);
    let server = lxd(&cloud, "micro03").server().await.unwrap().value;
    assert!(server.environment.server_clustered);
    assert_eq!(server.config_text()["core.https_address"], "10.77.0.3:8443");
    let again = cloud.join_by_hand("micro01", "micro02", Vec::new()).await;
    assert!(
        matches!(again, Err(LxdError::Refused { status: 400, .. })),
        "{again:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn the_projects_of_the_founder_stay_and_those_of_a_joiner_go() {
    let cloud = SimCloud::new(SimConfig::of(2));
    for (member, note) in [("micro01", "founder"), ("micro02", "joiner")] {
        let project = ProjectCreate {
            name: "microcloud".into(),
            config: map(&[
                ("features.images", "false"),
                ("features.profiles", "false"),
                ("user.microcloud.note", note),
            ]),
            ..ProjectCreate::default()
        };
        cloud.hand(member).create_project(&project).await.unwrap();
    }
    cloud.form("micro01", &["micro02"]).await.unwrap();
    let project = lxd(&cloud, "micro02")
        .project("microcloud")
        .await
        .unwrap()
        .value;
    assert_eq!(project.config["user.microcloud.note"], "founder");
}

#[tokio::test(start_paused = true)]
async fn a_token_admits_once_and_expires() {
    let cloud = SimCloud::new(SimConfig::of(3));
    cloud.bootstrap_by_hand("micro01").await.unwrap();
    let client = cloud.hand("micro01");
    let certificate = client.server().await.unwrap().value.environment.certificate;
    let join = |token: String, name: &str, at: &str| microcloud::services::lxd::JoinRequest {
        name: name.into(),
        server_address: format!("{at}:8443"),
        cluster_address: "10.77.0.1:8443".into(),
        cluster_certificate: certificate.clone(),
        token,
        member_config: Vec::new(),
    };
    let token = client.join_token("micro02").await.unwrap();
    sleep(Duration::from_secs(3 * 3600 + 1)).await;
    let late = cloud
        .hand("micro02")
        .join(&join(token.encode(), "micro02", "10.77.0.2"))
        .await;
    assert!(late.is_err());
    let token = client.join_token("micro02").await.unwrap().encode();
    cloud
        .hand("micro02")
        .join(&join(token.clone(), "micro02", "10.77.0.2"))
        .await
        .unwrap();
    let twice = cloud
        .hand("micro03")
        .join(&join(token, "micro02", "10.77.0.3"))
        .await;
    assert!(twice.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_pool_is_made_in_two_phases_and_takes_the_disks() {
    let cloud = three().await;
    let client = lxd(&cloud, "micro01");
    let early = client.create_pool(&pool("btrfs", &[]), None).await;
    assert!(early.is_err(), "no member has defined it");
    define_local(&client).await;
    let pending = client.pool("local", None).await.unwrap().value;
    assert_eq!(
        (pending.status.as_str(), pending.locations.len()),
        ("Pending", 3)
    );
    client
        .create_pool(&pool("btrfs", &[("rsync.bwlimit", "10")]), None)
        .await
        .unwrap();
    let made = client.pool("local", None).await.unwrap().value;
    assert_eq!((made.status.as_str(), made.config.len()), ("Created", 1));
    let part = client.pool("local", Some("micro02")).await.unwrap().value;
    assert_eq!(part.config["volatile.initial_source"], disk_of("micro02"));
    let report = cloud.report("micro02");
    let disk = report
        .disks
        .iter()
        .find(|d| d.path == disk_of("micro02"))
        .unwrap();
    assert_eq!(disk.signatures, ["btrfs filesystem"]);
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_fails_somewhere_is_errored_and_can_be_finished() {
    let cloud = three().await;
    let client = lxd(&cloud, "micro01");
    define_local(&client).await;
    cloud.break_create("micro03", "/1.0/storage-pools/local", Some("mkfs failed"));
    assert!(client.create_pool(&pool("btrfs", &[]), None).await.is_err());
    assert_eq!(
        client.pool("local", None).await.unwrap().value.status,
        "Errored"
    );
    cloud.clear_faults();
    let with_keys = client
        .create_pool(&pool("btrfs", &[("rsync.bwlimit", "1")]), None)
        .await;
    assert!(
        with_keys.is_err(),
        "global keys are refused the second time"
    );
    client.create_pool(&pool("btrfs", &[]), None).await.unwrap();
    assert_eq!(
        client.pool("local", None).await.unwrap().value.status,
        "Created"
    );
}

#[tokio::test(start_paused = true)]
async fn a_joiner_brings_its_part_of_every_pool() {
    let cloud = SimCloud::new(SimConfig::of(2));
    cloud.bootstrap_by_hand("micro01").await.unwrap();
    let first = cloud.hand("micro01");
    first
        .create_pool(
            &pool("btrfs", &[("source", &disk_of("micro01"))]),
            Some("micro01"),
        )
        .await
        .unwrap();
    first.create_pool(&pool("btrfs", &[]), None).await.unwrap();
    let asked = first
        .cluster()
        .await
        .unwrap()
        .member_config
        .unwrap_or_default();
    assert!(
        asked.iter().any(|k| k.name == "local" && k.key == "source"),
        "{asked:?}"
    );
    let key = |value: &str| MemberConfigKey {
        entity: "storage-pool".into(),
        name: "local".into(),
        key: "source".into(),
        value: value.into(),
        ..MemberConfigKey::default()
    };
    let wrong = cloud
        .join_by_hand("micro01", "micro02", vec![key("/dev/nowhere")])
        .await;
    assert!(
        matches!(wrong, Err(LxdError::Operation { .. })),
        "{wrong:?}"
    );
    assert_eq!(first.members().await.unwrap().len(), 1);
    cloud
        .join_by_hand("micro01", "micro02", vec![key(&disk_of("micro02"))])
        .await
        .unwrap();
    assert_eq!(
        first.pool("local", None).await.unwrap().value.locations,
        THREE[..2]
    );
}

#[tokio::test(start_paused = true)]
async fn a_bridge_gets_addresses_and_the_machines_own_interfaces_are_shown() {
    let cloud = three().await;
    let client = lxd(&cloud, "micro01");
    for member in THREE {
        client
            .create_network("default", &bridge("lxdbr0"), Some(member))
            .await
            .unwrap();
    }
    client
        .create_network("default", &bridge("lxdbr0"), None)
        .await
        .unwrap();
    let network = client
        .network("default", "lxdbr0", None)
        .await
        .unwrap()
        .value;
    assert_eq!(network.status, "Created");
    assert_eq!(network.config["ipv4.nat"], "true");
    assert!(network.config["ipv4.address"].ends_with(".1/24"));
    let all = client.networks("default").await.unwrap();
    let managed: Vec<_> = all
        .iter()
        .filter(|n| n.managed)
        .map(|n| n.name.as_str())
        .collect();
    assert_eq!(managed, ["lxdbr0"]);
    assert!(all.iter().any(|n| n.name == "eth0"));
}

#[tokio::test(start_paused = true)]
async fn profiles_are_written_with_etags_and_keep_what_they_use_in_use() {
    let cloud = three().await;
    let client = lxd(&cloud, "micro02");
    define_local(&client).await;
    client.create_pool(&pool("btrfs", &[]), None).await.unwrap();
    let root = map(&[("type", "disk"), ("path", "/"), ("pool", "local")]);
    let profile = Profile {
        name: "web".into(),
        config: map(&[("limits.cpu", "2")]),
        devices: BTreeMap::from([("root".into(), root)]),
        ..Profile::default()
    };
    client.create_profile("default", &profile).await.unwrap();
    let read = client.profile("default", "web").await.unwrap();
    let put = ProfilePut {
        description: "changed".into(),
        config: read.value.config.clone(),
        devices: read.value.devices.clone(),
    };
    let etag = read.etag.as_deref();
    assert!(etag.is_some());
    client
        .put_profile("default", "web", &put, etag)
        .await
        .unwrap();
    let stale = client.put_profile("default", "web", &put, etag).await;
    assert!(matches!(stale, Err(LxdError::Changed { .. })), "{stale:?}");
    let used = client.pool("local", None).await.unwrap().value.used_by;
    assert_eq!(used, ["/1.0/profiles/web"]);
    let mut wrong = profile.clone();
    wrong.name = "other".into();
    wrong.config = map(&[("limits.nonsense.key.that", "1"), ("nonsense", "1")]);
    assert!(client.create_profile("default", &wrong).await.is_err());
    assert!(client.delete_profile("default", "default").await.is_err());
    cloud.add_instance(
        "micro01",
        SimInstance {
            name: "c1".into(),
            profiles: vec!["web".into()],
            ..SimInstance::default()
        },
    );
    assert!(client.delete_profile("default", "web").await.is_err());
    cloud.remove_instance("micro01", "default", "c1");
    client.delete_profile("default", "web").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_event_reaches_every_member_except_from_a_restarted_one() {
    let cloud = three().await;
    let mut stream = cloud
        .transport("micro01")
        .events(&["lifecycle"])
        .await
        .unwrap();
    let create = |name: &str| {
        let profile = Profile {
            name: name.into(),
            ..Profile::default()
        };
        let client = cloud.hand("micro03");
        async move { client.create_profile("default", &profile).await.unwrap() }
    };
    create("one").await;
    let event = next(&mut stream, "profile-created")
        .await
        .expect("it is told");
    assert_eq!(event["metadata"]["source"], "/1.0/profiles/one");
    assert_eq!(event["location"], "micro03");
    cloud.restart_lxd("micro03");
    sleep(Duration::from_secs(2)).await;
    create("two").await;
    assert!(
        next(&mut stream, "profile-created").await.is_none(),
        "the gap"
    );
    sleep(Duration::from_secs(5)).await;
    create("three").await;
    let event = next(&mut stream, "profile-created")
        .await
        .expect("the gap is over");
    assert_eq!(event["metadata"]["source"], "/1.0/profiles/three");
}

#[tokio::test(start_paused = true)]
async fn the_streams_of_a_restarted_lxd_break() {
    let cloud = three().await;
    let mut stream = cloud
        .transport("micro02")
        .events(&["lifecycle"])
        .await
        .unwrap();
    cloud.restart_lxd("micro02");
    assert!(stream.next().await.expect("an error").is_err());
    assert!(stream.next().await.is_none());
    assert!(
        cloud
            .transport("micro02")
            .events(&["lifecycle"])
            .await
            .is_err()
    );
    sleep(Duration::from_secs(2)).await;
    assert!(
        cloud
            .transport("micro02")
            .events(&["lifecycle"])
            .await
            .is_ok()
    );
}

#[tokio::test(start_paused = true)]
async fn a_dead_member_is_offline_after_the_threshold_and_holds_up_some_writes() {
    let cloud = three().await;
    let client = lxd(&cloud, "micro01");
    define_local(&client).await;
    client.create_pool(&pool("btrfs", &[]), None).await.unwrap();
    cloud.kill_host("micro03");
    let status = |client: Lxd| async move { client.member("micro03").await.unwrap().value.status };
    assert_eq!(status(client.clone()).await, "Online");
    sleep(Duration::from_secs(21)).await;
    assert_eq!(status(client.clone()).await, "Offline");
    let put = ObjectPut {
        config: map(&[("rsync.bwlimit", "9")]),
        ..ObjectPut::default()
    };
    let refused = client.put_pool("local", &put, None, None).await;
    assert!(
        matches!(refused, Err(LxdError::Unavailable { .. })),
        "{refused:?}"
    );
    client
        .create_profile(
            "default",
            &Profile {
                name: "p".into(),
                ..Profile::default()
            },
        )
        .await
        .expect("profiles can be written");
    cloud.start_host("micro03");
    sleep(Duration::from_secs(5)).await;
    assert_eq!(status(client.clone()).await, "Online");
    client.put_pool("local", &put, None, None).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn without_quorum_only_the_server_itself_answers() {
    let cloud = three().await;
    cloud.kill_host("micro02");
    cloud.kill_host("micro03");
    let client = lxd(&cloud, "micro01");
    client.ready().await.unwrap();
    client.server().await.unwrap();
    let began = Instant::now();
    assert!(client.members().await.is_err());
    assert!(began.elapsed() >= Duration::from_secs(8));
    cloud.start_host("micro02");
    sleep(Duration::from_secs(5)).await;
    assert_eq!(client.members().await.unwrap().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn the_leader_moves_when_its_machine_is_cut_off() {
    let cloud = three().await;
    assert_eq!(cloud.database_leader("micro02").as_deref(), Some("micro01"));
    cloud.isolate("micro01");
    assert_eq!(cloud.database_leader("micro02").as_deref(), Some("micro02"));
    assert!(lxd(&cloud, "micro02").members().await.is_ok());
    assert!(
        lxd(&cloud, "micro01").members().await.is_err(),
        "it is in the minority"
    );
    cloud.rejoin("micro01");
    assert!(lxd(&cloud, "micro01").members().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_member_leaves_and_is_standalone_again() {
    let cloud = three().await;
    let client = lxd(&cloud, "micro01");
    client.delete_member("micro03", false).await.unwrap();
    assert_eq!(client.members().await.unwrap().len(), 2);
    assert!(!lxd(&cloud, "micro03").cluster().await.unwrap().enabled);
    cloud
        .join_by_hand("micro01", "micro03", Vec::new())
        .await
        .unwrap();
    client.delete_member("micro03", true).await.unwrap();
    assert!(
        lxd(&cloud, "micro03").members().await.is_err(),
        "it was dropped and does not know"
    );
    cloud.reinstall_lxd("micro03");
    cloud
        .join_by_hand("micro01", "micro03", Vec::new())
        .await
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_member_is_evacuated_and_restored() {
    let cloud = three().await;
    let client = lxd(&cloud, "micro01");
    client.evacuate("micro02").await.unwrap();
    assert_eq!(
        client.member("micro02").await.unwrap().value.status,
        "Evacuated"
    );
    assert!(client.evacuate("micro02").await.is_err());
    client.restore("micro02").await.unwrap();
    assert_eq!(
        client.member("micro02").await.unwrap().value.status,
        "Online"
    );
}

#[tokio::test(start_paused = true)]
async fn server_keys_are_global_or_of_one_member() {
    let cloud = three().await;
    let client = lxd(&cloud, "micro01");
    let keys = map(&[("user.microcloud", "1"), ("core.metrics_address", ":8444")]);
    client.patch_server(&keys, None).await.unwrap();
    let other = client
        .server_of("micro02")
        .await
        .unwrap()
        .value
        .config_text();
    assert_eq!(other.get("user.microcloud").map(String::as_str), Some("1"));
    assert_eq!(other.get("core.metrics_address"), None);
    let unknown = client
        .patch_server(&map(&[("core.nonsense", "1")]), None)
        .await;
    assert!(
        matches!(unknown, Err(LxdError::Refused { status: 400, .. })),
        "{unknown:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn requests_are_counted_and_the_hand_is_not() {
    let cloud = three().await;
    cloud.reset_counts();
    let client = lxd(&cloud, "micro01");
    client.profiles("default").await.unwrap();
    client
        .create_profile(
            "default",
            &Profile {
                name: "p".into(),
                ..Profile::default()
            },
        )
        .await
        .unwrap();
    cloud
        .hand("micro01")
        .delete_profile("default", "p")
        .await
        .unwrap();
    let counts = cloud.counts();
    assert_eq!(
        counts.total(),
        Count {
            requests: 2,
            writes: 1
        }
    );
    assert_eq!(
        counts.of_class(PathClass::Profiles),
        counts.of_member("micro01")
    );
    assert_eq!(cloud.writes()[0].what, "POST /1.0/profiles");
}

#[tokio::test(start_paused = true)]
async fn injected_faults_happen_to_chosen_requests() {
    let cloud = three().await;
    let client = lxd(&cloud, "micro01");
    let profile = |name: &str| Profile {
        name: name.into(),
        ..Profile::default()
    };
    cloud.inject(
        Fault::new(FaultAction::LoseAnswer)
            .path("/1.0/profiles")
            .writes()
            .nth(2),
    );
    client
        .create_profile("default", &profile("a"))
        .await
        .unwrap();
    let lost = client.create_profile("default", &profile("b")).await;
    assert!(matches!(lost, Err(LxdError::Transport(_))), "{lost:?}");
    client
        .profile("default", "b")
        .await
        .expect("it had its effect");
    let id = cloud.inject(
        Fault::new(FaultAction::Refuse {
            status: 500,
            message: "disk full".into(),
        })
        .on("micro01"),
    );
    assert!(client.server().await.is_err());
    assert!(cloud.hand("micro01").server().await.is_ok());
    cloud.withdraw(id);
    cloud.inject(Fault::new(FaultAction::Hang).method(Method::Get).times(1));
    let began = Instant::now();
    assert!(client.profile("default", "a").await.is_err());
    assert!(began.elapsed() >= Duration::from_secs(5));
    cloud.inject(Fault::new(FaultAction::FailOperation("no".into())).times(1));
    let failed = client.evacuate("micro02").await;
    assert!(
        matches!(failed, Err(LxdError::Operation { .. })),
        "{failed:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_program_crashes_at_its_kth_write() {
    for (kind, made) in [(CrashKind::BeforeWrite, 1), (CrashKind::AfterWrite, 2)] {
        let cloud = three().await;
        let process = cloud.process("micro01");
        let mut signal = process.crash_at(2, kind);
        let client = Lxd::new(process.transport());
        let work = async {
            for name in ["a", "b", "c"] {
                let profile = Profile {
                    name: name.into(),
                    ..Profile::default()
                };
                client.create_profile("default", &profile).await.unwrap();
            }
        };
        tokio::select! {
            () = work => panic!("it did not crash"),
            () = signal.died() => {}
        }
        let left = cloud.hand("micro01").profiles("default").await.unwrap();
        assert_eq!(left.len(), 1 + made, "{kind:?}");
        let again = cloud.process("micro01");
        Lxd::new(again.transport())
            .server()
            .await
            .expect("another program lives");
    }
}

#[tokio::test(start_paused = true)]
async fn agents_found_and_join() {
    let cloud = SimCloud::new(SimConfig::of(2));
    let hosts = cloud.hosts("micro01", epoch(1));
    let (first, second) = (
        hosts.host(&target(&cloud, "micro01")),
        hosts.host(&target(&cloud, "micro02")),
    );
    let founding = BootstrapLxd {
        name: "micro01".into(),
        address: target(&cloud, "micro01").address,
    };
    first.bootstrap_lxd(founding.clone()).await.unwrap();
    assert!(first.bootstrap_lxd(founding).await.is_err(), "only once");
    let client = lxd(&cloud, "micro01");
    let join = JoinLxd {
        name: "micro02".into(),
        address: target(&cloud, "micro02").address,
        token: client.join_token("micro02").await.unwrap().encode(),
        cluster_certificate: client.server().await.unwrap().value.environment.certificate,
        member_config: Vec::new(),
        expected_leftovers: Default::default(),
    };
    cloud
        .hand("micro02")
        .create_pool(&pool("dir", &[]), None)
        .await
        .unwrap();
    let guarded = second.join_lxd(join.clone()).await;
    assert!(
        matches!(guarded, Err(HostError::GuardFailed { .. })),
        "{guarded:?}"
    );
    cloud.hand("micro02").delete_pool("local").await.unwrap();
    second.join_lxd(join).await.unwrap();
    let LxdReport::Running(state) = second.report().await.unwrap().lxd else {
        panic!("it runs");
    };
    assert!(state.clustered);
    assert_eq!(state.member_name, "micro02");
}

#[tokio::test(start_paused = true)]
async fn a_join_outlives_the_caller() {
    let cloud = SimCloud::new(SimConfig::of(2));
    cloud.bootstrap_by_hand("micro01").await.unwrap();
    let client = cloud.hand("micro01");
    let join = JoinLxd {
        name: "micro02".into(),
        address: target(&cloud, "micro02").address,
        token: client.join_token("micro02").await.unwrap().encode(),
        cluster_certificate: client.server().await.unwrap().value.environment.certificate,
        member_config: Vec::new(),
        expected_leftovers: Default::default(),
    };
    let host = cloud
        .hosts("micro01", epoch(1))
        .host(&target(&cloud, "micro02"));
    let impatient = timeout(Duration::from_millis(10), host.join_lxd(join)).await;
    assert!(impatient.is_err());
    sleep(Duration::from_secs(1)).await;
    assert_eq!(client.members().await.unwrap().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_agent_refuses_a_lower_epoch() {
    let cloud = SimCloud::new(SimConfig::of(3));
    let epoch = epoch(5);
    cloud
        .hosts("micro01", epoch.clone())
        .host(&target(&cloud, "micro03"))
        .report()
        .await
        .unwrap();
    assert_eq!(cloud.agent_epoch("micro03"), (5, "micro01".into()));
    epoch.store(4, Ordering::SeqCst);
    let old = cloud
        .hosts("micro02", epoch.clone())
        .host(&target(&cloud, "micro03"));
    let refused = old.set_trust(TrustStore::default()).await;
    assert!(
        matches!(
            refused,
            Err(HostError::StaleEpoch {
                known: 5,
                ours: 4,
                ..
            })
        ),
        "{refused:?}"
    );
    epoch.store(5, Ordering::SeqCst);
    assert!(old.beat().await.is_err(), "another one holds this epoch");
    epoch.store(0, Ordering::SeqCst);
    assert_eq!(old.beat().await.unwrap().epoch, 5, "looking needs no epoch");
    let refused = old.set_trust(TrustStore::default()).await;
    assert!(matches!(refused, Err(HostError::GuardFailed { .. })));
}

#[tokio::test(start_paused = true)]
async fn agents_that_are_not_there_or_not_trusted_say_so() {
    let cloud = SimCloud::new(SimConfig::of(3));
    let hosts = cloud.hosts("micro01", epoch(1));
    let mut wrong = target(&cloud, "micro02");
    wrong.address = "10.99.0.1".parse().unwrap();
    let nobody = hosts.host(&wrong).beat().await;
    assert!(
        matches!(nobody, Err(HostError::Unreachable { .. })),
        "{nobody:?}"
    );
    let mut pinned = target(&cloud, "micro02");
    pinned.fingerprint = Some("00".into());
    let pinned = hosts.host(&pinned).beat().await;
    assert!(
        matches!(pinned, Err(HostError::NotTrusted { .. })),
        "{pinned:?}"
    );
    cloud.kill_agent("micro02");
    assert!(hosts.host(&target(&cloud, "micro02")).beat().await.is_err());
    cloud.start_agent("micro02");
    assert!(hosts.host(&target(&cloud, "micro02")).beat().await.is_ok());
    cloud.cut("micro01", "micro02");
    assert!(hosts.host(&target(&cloud, "micro02")).beat().await.is_err());
    cloud.heal("micro01", "micro02");
    let only_third = TrustStore {
        version: 1,
        members: BTreeMap::from([(
            "micro03".into(),
            TrustedMember {
                fingerprint: cloud.report("micro03").fingerprint,
                address: target(&cloud, "micro03").address,
            },
        )]),
    };
    hosts
        .host(&target(&cloud, "micro02"))
        .set_trust(only_third)
        .await
        .unwrap();
    let revoked = hosts.host(&target(&cloud, "micro02")).beat().await;
    assert!(
        matches!(revoked, Err(HostError::NotTrusted { .. })),
        "{revoked:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_disk_is_wiped_only_if_it_is_the_one_that_was_meant() {
    let machine = SimConfig::of(1)
        .machines
        .remove(0)
        .disks(vec![used_disk("s1", "ext4 filesystem")]);
    let cloud = SimCloud::new(SimConfig::with(vec![machine]));
    let host = cloud
        .hosts("micro01", epoch(1))
        .host(&target(&cloud, "micro01"));
    let wipe = WipeDisk {
        path: "/dev/disk/by-id/virtio-s1".into(),
        serial: "s1".into(),
        size: 10 << 30,
    };
    let mut other = wipe.clone();
    other.serial = "s2".into();
    assert!(matches!(
        host.wipe_disk(other).await,
        Err(HostError::GuardFailed { .. })
    ));
    let root = cloud
        .report("micro01")
        .disks
        .into_iter()
        .find(|d| d.root)
        .unwrap();
    let root = WipeDisk {
        path: root.path,
        serial: root.serial,
        size: root.size,
    };
    assert!(matches!(
        host.wipe_disk(root).await,
        Err(HostError::GuardFailed { .. })
    ));
    host.wipe_disk(wipe).await.unwrap();
    let report = host.report().await.unwrap();
    assert!(
        report
            .disks
            .iter()
            .any(|d| d.serial == "s1" && d.signatures.is_empty())
    );
}

#[tokio::test(start_paused = true)]
async fn a_program_dies_with_its_machine() {
    let cloud = three().await;
    let process = cloud.process("micro02");
    let mut signal = process.signal();
    let client = Lxd::new(process.transport());
    client.server().await.unwrap();
    cloud.kill_host("micro02");
    signal.died().await;
    let never = timeout(Duration::from_secs(3600), client.server()).await;
    assert!(never.is_err(), "the dead get no answers");
    assert!(lxd(&cloud, "micro02").server().await.is_err());
}

#[tokio::test(start_paused = true)]
async fn operations_are_forgotten_after_a_while() {
    let cloud = three().await;
    let body = json!({"action": "evacuate"});
    let ended = cloud
        .by_hand(
            "micro01",
            Method::Post,
            "/1.0/cluster/members/micro02/state",
            Some(body),
        )
        .await
        .unwrap();
    let id = ended["id"].as_str().unwrap().to_owned();
    let client = lxd(&cloud, "micro03");
    assert!(client.wait(&id, Duration::from_secs(1)).await.is_ok());
    sleep(Duration::from_secs(6)).await;
    let gone = client.wait(&id, Duration::from_secs(1)).await;
    assert!(
        matches!(gone, Err(LxdError::OutcomeUnknown { .. })),
        "{gone:?}"
    );
}

#[tokio::test]
async fn the_simulated_lxd_serves_a_real_socket() {
    let cloud = SimCloud::new(SimConfig {
        timings: Timings::instant(),
        ..SimConfig::of(1)
    });
    let folder = tempfile::tempdir().unwrap();
    let server = cloud
        .serve_unix("micro01", &folder.path().join("unix.socket"))
        .unwrap();
    let transport = Arc::new(HttpTransport::unix(server.path()).unwrap());
    let client = Lxd::new(transport.clone());
    assert_eq!(
        client.server().await.unwrap().value.environment.server,
        "lxd"
    );
    let mut events = microcloud::services::lxd::Transport::events(&*transport, &["lifecycle"])
        .await
        .unwrap();
    let project = ProjectCreate {
        name: "größe-1".into(),
        ..ProjectCreate::default()
    };
    client.create_project(&project).await.unwrap();
    assert!(next(&mut events, "project-created").await.is_some());
    let read = client.project("größe-1").await.unwrap();
    assert!(read.etag.is_some());
    let missing = client.project("none").await;
    assert!(
        matches!(missing, Err(LxdError::NotFound { .. })),
        "{missing:?}"
    );
    cloud.stop_lxd("micro01");
    assert!(client.server().await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_thousand_members_and_ten_thousand_profiles_are_cheap() {
    let cloud = SimCloud::new(SimConfig {
        timings: Timings::instant(),
        ..SimConfig::of(1000)
    });
    let names = cloud.machines();
    let began = WallInstant::now();
    let others: Vec<&str> = names[1..].iter().map(String::as_str).collect();
    cloud.form(&names[0], &others).await.unwrap();
    let client = lxd(&cloud, &names[0]);
    for i in 0..10_000 {
        let profile = Profile {
            name: format!("p{i}"),
            config: map(&[("limits.cpu", "2")]),
            ..Profile::default()
        };
        client.create_profile("default", &profile).await.unwrap();
    }
    let made = began.elapsed();
    let began = WallInstant::now();
    for i in 0..10_000 {
        client.profile("default", &format!("p{i}")).await.unwrap();
    }
    let read = began.elapsed();
    println!("made in {made:?}, 10,000 single reads in {read:?}");
    assert_eq!(client.members().await.unwrap().len(), 1000);
    assert_eq!(client.profiles("default").await.unwrap().len(), 10_001);
    // Generous: a debug build on a busy machine. A scan per read would take minutes.
    assert!(read < Duration::from_secs(20), "{read:?}");
}
