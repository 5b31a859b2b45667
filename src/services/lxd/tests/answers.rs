//! Envelopes and errors.

use super::double::{Double, error, sync};
use crate::services::lxd::{LxdError, ObjectPut};
use serde_json::{Value, json};

async fn category_of(status: u16, body: Value) -> &'static str {
    let (double, lxd) = Double::new();
    double.answer(status, body);
    lxd.project("a").await.expect_err("a failure").category()
}

#[tokio::test]
async fn the_envelope_decides_not_the_http_status() {
    assert_eq!(category_of(200, error(404, "gone")).await, "NotFound");
    assert_eq!(category_of(500, error(409, "there")).await, "Conflict");
    assert_eq!(category_of(500, sync(json!({}))).await, "UnexpectedAnswer");
    assert_eq!(
        category_of(200, json!({"hello": 1})).await,
        "UnexpectedAnswer"
    );
    assert_eq!(category_of(200, json!(null)).await, "UnexpectedAnswer");
    assert_eq!(category_of(502, json!({})).await, "Refused");
    assert_eq!(
        category_of(
            200,
            json!({"type": "sync", "status_code": 400, "error": "no"})
        )
        .await,
        "Refused"
    );
}

#[tokio::test]
async fn failures_are_sorted_by_what_to_do_about_them() {
    for (code, message, category) in [
        (404, "Profile not found", "NotFound"),
        (409, "anything", "Conflict"),
        (400, "The storage pool already exists", "Conflict"),
        (500, "Network already defined on this member", "Conflict"),
        (412, "ETag doesn't match: a vs b", "Changed"),
        (503, "not ready", "Unavailable"),
        (500, "cluster is unavailable", "Unavailable"),
        (400, "peer node 10.77.0.2:8443 is down", "Unavailable"),
        (
            500,
            "no available dqlite leader server found",
            "Unavailable",
        ),
        (
            500,
            "Missing event connection with target cluster member",
            "Unavailable",
        ),
        (
            500,
            "failed to notify peer 10.0.0.3:8443: Put \"https://…\": Unable to connect to: \
             10.0.0.3:8443 ([dial tcp: connection refused])",
            "Unavailable",
        ),
        (500, "The storage pool is already created", "Conflict"),
        (500, "Network is not in pending state", "Conflict"),
        (
            500,
            "Pool source cannot be changed when not in pending state",
            "Refused",
        ),
        (
            404,
            "Update cluster groups: Cluster group not found",
            "Refused",
        ),
        (400, "Unknown configuration key", "Refused"),
        (403, "not authorized", "Refused"),
        (
            404,
            "Device validation failed for \"eth0\": Network not found",
            "Refused",
        ),
    ] {
        assert_eq!(
            category_of(code, error(code, message)).await,
            category,
            "{message}"
        );
    }
}

#[tokio::test]
async fn an_answer_of_the_wrong_shape_does_not_repeat_its_values() {
    let (double, lxd) = Double::new();
    double.sync(json!({"name": "a", "config": "hush-hush"}));
    let error = lxd.project("a").await.expect_err("a failure");
    let text = error.to_string();
    assert!(matches!(error, LxdError::Unexpected { .. }), "{text}");
    assert!(text.contains("GET /1.0/projects/a"), "{text}");
    assert!(!text.contains("hush"), "{text}");
}

#[tokio::test]
async fn null_lists_and_maps_are_empty() {
    let (double, lxd) = Double::new();
    double.sync(
        json!([{"name": "lo", "type": "loopback", "used_by": null, "locations": null,
                        "config": null}]),
    );
    double.sync(json!(null));
    let networks = lxd.networks("default").await.expect("a list");
    assert_eq!(networks[0].network_type, "loopback");
    assert!(networks[0].used_by.is_empty() && networks[0].config.is_empty());
    assert!(lxd.pools().await.expect("a list").is_empty());
}

#[tokio::test]
async fn the_etag_comes_with_the_object_and_goes_with_the_write() {
    let (double, lxd) = Double::new();
    double.sync(json!({"name": "a", "config": {"user.x": "1"}}));
    double.sync(json!({}));
    let read = lxd.project("a").await.expect("an object");
    let put = ObjectPut {
        description: read.value.description,
        config: read.value.config,
    };
    lxd.put_project("a", &put, read.etag.as_deref())
        .await
        .expect("a write");
    assert_eq!(
        double.asked(),
        [
            "GET /1.0/projects/a",
            r#"PUT /1.0/projects/a If-Match e1 {"config":{"user.x":"1"},"description":""}"#
        ]
    );
    assert_eq!(lxd.counters(), (2, 1));
}
