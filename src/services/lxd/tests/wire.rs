//! What goes out for each kind of call.

use super::double::Double;
use crate::services::lxd::types::Profile;
use crate::services::lxd::{JoinRequest, NetworkCreate};
use serde_json::json;

fn join() -> JoinRequest {
    JoinRequest {
        name: "m2".to_owned(),
        server_address: "10.0.0.2:8443".to_owned(),
        cluster_address: "10.0.0.1:8443".to_owned(),
        cluster_certificate: "PEM".to_owned(),
        token: "TOKEN".to_owned(),
        member_config: Vec::new(),
    }
}

async fn join_body(server: serde_json::Value) -> String {
    let (double, lxd) = Double::new();
    double.sync(server);
    double.sync(json!({}));
    lxd.join(&join()).await.expect("joined");
    double.asked()[1].clone()
}

#[tokio::test]
async fn the_token_is_spelled_as_the_joiner_knows_it() {
    let old = join_body(json!({"environment": {"server": "lxd"}, "api_extensions": ["x"]})).await;
    assert!(old.starts_with("PUT /1.0/cluster {"), "{old}");
    assert!(old.contains(r#""cluster_password":"TOKEN""#), "{old}");
    assert!(!old.contains("cluster_token"), "{old}");
    let new = join_body(json!({"environment": {"server": "lxd"},
                               "api_extensions": ["explicit_trust_token"]}))
    .await;
    assert!(new.contains(r#""cluster_token":"TOKEN""#), "{new}");
    assert!(!new.contains("cluster_password"), "{new}");
    let incus = join_body(json!({"environment": {"server": "incus"}})).await;
    assert!(incus.contains(r#""cluster_token":"TOKEN""#), "{incus}");
}

#[tokio::test]
async fn project_and_target_are_queries() {
    let (double, lxd) = Double::new();
    double.sync(json!({"name": "br0", "type": "bridge"}));
    double.sync(json!({}));
    lxd.network("p 1", "br/0", Some("m1")).await.expect("read");
    let network = NetworkCreate {
        name: "br0".to_owned(),
        network_type: "bridge".to_owned(),
        ..NetworkCreate::default()
    };
    lxd.create_network("default", &network, Some("m1"))
        .await
        .expect("created");
    assert_eq!(
        double.asked(),
        [
            "GET /1.0/networks/br%2F0?project=p 1&target=m1",
            r#"POST /1.0/networks?target=m1 {"config":{},"name":"br0","type":"bridge"}"#,
        ]
    );
}

#[tokio::test]
async fn all_profiles_are_one_request_where_the_server_can() {
    let (double, lxd) = Double::new();
    double.sync(json!({"api_extensions": ["profiles_all_projects"]}));
    double.sync(json!([{"name": "a", "project": "default"}, {"name": "b", "project": "p"}]));
    let all = lxd.all_profiles().await.expect("a list");
    assert_eq!(all[1].0, "p");
    assert_eq!(all[1].1.name, "b");
    assert_eq!(
        double.asked()[1],
        "GET /1.0/profiles?all-projects=true&recursion=1"
    );
}

#[tokio::test]
async fn all_profiles_are_asked_for_project_by_project_elsewhere() {
    let (double, lxd) = Double::new();
    double.sync(json!({"api_extensions": []}));
    double.sync(json!([
        {"name": "default", "config": {"features.profiles": "true"}},
        {"name": "shares", "config": {"features.profiles": "false"}},
        {"name": "own", "config": {"features.profiles": "true"}},
    ]));
    double.sync(json!([{"name": "default"}]));
    double.sync(json!([{"name": "default"}, {"name": "web"}]));
    let all = lxd.all_profiles().await.expect("a list");
    let names: Vec<_> = all.iter().map(|(p, f)| format!("{p}/{}", f.name)).collect();
    assert_eq!(names, ["default/default", "own/default", "own/web"]);
}

#[tokio::test]
async fn what_the_service_computes_is_not_sent() {
    let (double, lxd) = Double::new();
    double.sync(json!({}));
    let profile = Profile {
        name: "a".to_owned(),
        used_by: vec!["/1.0/instances/x".to_owned()],
        ..Profile::default()
    };
    lxd.create_profile("default", &profile)
        .await
        .expect("created");
    assert_eq!(
        double.asked(),
        [r#"POST /1.0/profiles {"config":{},"description":"","devices":{},"name":"a"}"#]
    );
}

/// LXD's own `PATCH` of the server erases a member's addresses when it is refused.
#[tokio::test]
async fn keys_are_merged_into_the_server_by_writing_the_whole() {
    let (double, lxd) = Double::new();
    let server = json!({"config": {"core.https_address": "[::]:8443", "core.trust_password": true,
                                   "user.a": "1"}});
    double.sync(server.clone());
    double.answer(412, super::double::error(412, "ETag doesn't match"));
    double.sync(server);
    double.sync(json!({}));
    let config = [("user.a", ""), ("user.b", "2")];
    let config = config.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
    lxd.patch_server(&config, Some("m1")).await.expect("merged");
    let whole = r#"{"config":{"core.https_address":"[::]:8443","core.trust_password":true,"user.a":"","user.b":"2"}}"#;
    let put = format!("PUT /1.0?target=m1 If-Match e1 {whole}");
    let get = "GET /1.0?target=m1".to_owned();
    assert_eq!(double.asked(), [get.clone(), put.clone(), get, put]);
}

#[tokio::test]
async fn a_password_that_reads_as_true_is_not_made_true() {
    let (double, lxd) = Double::new();
    double.sync(json!({}));
    let config = [("core.trust_password", "true"), ("user.a", "true")];
    let config = config.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
    lxd.put_server(&config, None, None).await.expect("written");
    assert_eq!(
        double.asked(),
        [r#"PUT /1.0 {"config":{"core.trust_password":true,"user.a":"true"}}"#]
    );
}

/// The daemon answers, answers on for a moment, goes, and comes back.
#[tokio::test(start_paused = true)]
async fn leaving_ends_when_the_daemon_is_back() {
    let (double, lxd) = Double::new();
    double.push(Err(super::double::broken()));
    double.sync(json!({}));
    double.push(Err(super::double::broken()));
    double.answer(503, super::double::error(503, "LXD daemon not ready yet"));
    double.sync(json!({}));
    lxd.leave_cluster().await.expect("it left");
    let asked = double.asked();
    assert_eq!(
        asked[0],
        r#"PUT /1.0/cluster {"enabled":false,"server_name":""}"#
    );
    assert_eq!(asked[1..], ["GET /internal/ready"; 4]);
}

#[tokio::test(start_paused = true)]
async fn a_daemon_that_never_seems_to_restart_is_believed_after_a_while() {
    let (double, lxd) = Double::new();
    for _ in 0..100 {
        double.sync(json!({}));
    }
    let start = tokio::time::Instant::now();
    lxd.restarted().await.expect("ready");
    assert!((5..6).contains(&start.elapsed().as_secs()));
}

#[tokio::test(start_paused = true)]
async fn a_daemon_that_does_not_come_back_is_unavailable() {
    let (double, lxd) = Double::new();
    for _ in 0..2000 {
        double.push(Err(super::double::broken()));
    }
    let failure = lxd.restarted().await.expect_err("gone");
    assert_eq!(failure.category(), "Unavailable");
}
