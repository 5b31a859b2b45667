//! Writes that start operations, and how those end.

use super::double::{Double, broken, error, started, sync};
use crate::services::lxd::{LxdError, PoolCreate};
use serde_json::json;
use std::time::Duration;
use tokio::time::Instant;

fn pool() -> PoolCreate {
    PoolCreate {
        name: "local".to_owned(),
        driver: "dir".to_owned(),
        ..PoolCreate::default()
    }
}

fn at(status_code: i64, err: &str) -> serde_json::Value {
    json!({"id": "o1", "status": "x", "status_code": status_code, "err": err, "metadata": null})
}

#[tokio::test(start_paused = true)]
async fn a_write_may_answer_at_once_or_with_an_operation() {
    let (double, lxd) = Double::new();
    double.sync(json!({}));
    lxd.create_pool(&pool(), None).await.expect("done at once");
    double.answer(202, started("o1"));
    double.answer(500, error(500, "context deadline exceeded"));
    double.sync(at(103, ""));
    double.sync(at(200, ""));
    lxd.create_pool(&pool(), Some("m1"))
        .await
        .expect("done later");
    assert_eq!(
        double.asked()[1..],
        [
            r#"POST /1.0/storage-pools?target=m1 {"config":{},"driver":"dir","name":"local"}"#,
            "GET /1.0/operations/o1/wait?timeout=10",
            "GET /1.0/operations/o1",
            "GET /1.0/operations/o1/wait?timeout=10",
        ]
    );
    assert_eq!(lxd.counters(), (5, 2));
}

#[tokio::test(start_paused = true)]
async fn a_failed_operation_inside_a_200_is_a_failure() {
    let (double, lxd) = Double::new();
    double.answer(202, started("o1"));
    double.sync(at(400, "no space left"));
    let failure = lxd.create_pool(&pool(), None).await.expect_err("failed");
    assert!(
        matches!(&failure, LxdError::Operation { message } if message == "no space left"),
        "{failure:?}"
    );
}

/// An operation that fails while it is waited for answers with its own error and status.
#[tokio::test(start_paused = true)]
async fn a_failure_that_looks_like_a_missing_operation_is_told_as_it_is() {
    let (double, lxd) = Double::new();
    double.answer(202, started("o1"));
    double.answer(404, error(404, "Network not found"));
    double.sync(at(400, "Network not found"));
    let failure = lxd.create_pool(&pool(), None).await.expect_err("failed");
    assert!(
        matches!(&failure, LxdError::Operation { message } if message == "Network not found"),
        "{failure:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn an_operation_may_say_what_status_its_failure_has() {
    let (double, lxd) = Double::new();
    double.answer(202, started("o1"));
    double.sync(json!({"id": "o1", "status_code": 400, "err": "there", "err_code": 409}));
    let failure = lxd.create_pool(&pool(), None).await.expect_err("failed");
    assert_eq!(failure.category(), "Conflict");
}

#[tokio::test(start_paused = true)]
async fn a_forgotten_operation_has_an_unknown_outcome() {
    let (double, lxd) = Double::new();
    double.answer(202, started("o1"));
    double.push(Err(broken()));
    double.answer(503, error(503, "LXD daemon not ready yet"));
    double.answer(503, error(503, "LXD daemon not ready yet"));
    double.answer(404, error(404, "Operation not found"));
    double.answer(404, error(404, "Operation not found"));
    let failure = lxd.create_pool(&pool(), None).await.expect_err("unknown");
    assert!(
        matches!(&failure, LxdError::OutcomeUnknown { id } if id == "o1"),
        "{failure:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn waiting_ends_at_the_deadline() {
    let (double, lxd) = Double::new();
    for _ in 0..1000 {
        double.sync(at(103, ""));
    }
    let start = Instant::now();
    let failure = lxd
        .wait("o1", Duration::from_secs(30))
        .await
        .expect_err("never ends");
    assert!(
        matches!(failure, LxdError::OutcomeUnknown { .. }),
        "{failure:?}"
    );
    let took = start.elapsed();
    assert!((30..32).contains(&took.as_secs()), "{took:?}");
    assert!(
        double.asked().len() <= 151,
        "no busy loop: {}",
        double.asked().len()
    );
}

#[tokio::test(start_paused = true)]
async fn a_refused_wait_is_not_repeated() {
    let (double, lxd) = Double::new();
    double.answer(403, error(403, "not authorized"));
    double.answer(403, error(403, "not authorized"));
    let failure = lxd
        .wait("o1", Duration::from_secs(30))
        .await
        .expect_err("refused");
    assert_eq!(failure.category(), "Refused");
}

#[tokio::test]
async fn tokens_are_read_from_their_operation_without_waiting_for_it() {
    let (double, lxd) = Double::new();
    let mut answer = started("t1");
    answer["metadata"]["class"] = json!("token");
    answer["metadata"]["metadata"] = json!({"serverName": "m2", "secret": "s",
        "fingerprint": "f", "addresses": ["1.2.3.4:8443"], "expiresAt": "2026-01-01T00:00:00Z",
        "request": {}});
    double.answer(202, answer);
    let token = lxd.join_token("m2").await.expect("a token");
    assert_eq!((token.name.as_str(), token.secret.as_str()), ("m2", "s"));
    assert_eq!(double.asked().len(), 1);
}

#[tokio::test]
async fn revoking_ends_the_tokens_of_one_name_only() {
    let (double, lxd) = Double::new();
    double.answer(
        200,
        sync(json!({
            "running": [
                {"id": "t0", "class": "token", "status_code": 401,
                 "metadata": {"serverName": "m2"}},
                {"id": "t1", "class": "token", "metadata": {"serverName": "m2"}},
                {"id": "t2", "class": "token", "metadata": {"serverName": "m3"}},
                {"id": "t3", "class": "task", "metadata": {"serverName": "m2"}},
            ],
            "success": null,
        })),
    );
    double.sync(json!({}));
    lxd.revoke_tokens("m2").await.expect("revoked");
    assert_eq!(
        double.asked(),
        [
            "GET /1.0/operations?recursion=1&all-projects=true",
            "DELETE /1.0/operations/t1",
        ]
    );
}
