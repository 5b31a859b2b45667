//! The stream of events mends itself.

use super::double::{Double, broken};
use crate::services::lxd::Event;
use futures_util::StreamExt;
use serde_json::json;
use tokio::time::Instant;

fn updated(name: &str) -> serde_json::Value {
    json!({"type": "lifecycle", "location": "m1", "project": "default", "metadata": {
        "action": "profile-updated", "source": format!("/1.0/profiles/{name}"),
        "requestor": {"username": "root", "protocol": "unix"}}})
}

#[tokio::test(start_paused = true)]
async fn each_opening_is_told_so_that_everything_is_read_again() {
    let (double, lxd) = Double::new();
    double.stream(Ok(vec![updated("a"), json!({"type": "logging"})]));
    double.stream(Err(broken()));
    double.stream(Err(broken()));
    double.stream(Ok(vec![updated("b")]));
    let events: Vec<String> = lxd
        .events()
        .take(8)
        .map(|event| match event {
            Event::Connected => "connected".to_owned(),
            Event::Lifecycle(l) => format!("{} {} on {}", l.action, l.source, l.location),
            Event::Lost(_) => "lost".to_owned(),
        })
        .collect()
        .await;
    assert_eq!(
        events,
        [
            "connected",
            "profile-updated /1.0/profiles/a on m1",
            "lost",
            "lost",
            "lost",
            "connected",
            "profile-updated /1.0/profiles/b on m1",
            "lost",
        ]
    );
}

/// In a cluster a member's own events come twice.
#[tokio::test(start_paused = true)]
async fn copies_of_an_event_are_told_once() {
    let (double, lxd) = Double::new();
    let at = |time: &str, name: &str| {
        let mut event = updated(name);
        event["timestamp"] = json!(time);
        event
    };
    double.stream(Ok(vec![
        at("t1", "a"),
        at("t2", "b"),
        at("t1", "a"),
        at("t3", "a"),
        updated("c"),
        updated("c"),
    ]));
    let sources: Vec<String> = lxd
        .events()
        .take(6)
        .filter_map(async |event| match event {
            Event::Lifecycle(l) => Some(l.source.replace("/1.0/profiles/", "")),
            _ => None,
        })
        .collect()
        .await;
    assert_eq!(sources, ["a", "b", "a", "c", "c"]);
}

#[tokio::test(start_paused = true)]
async fn pauses_grow_and_have_an_end() {
    let (double, lxd) = Double::new();
    for _ in 0..20 {
        double.stream(Err(broken()));
    }
    let start = Instant::now();
    let mut events = Box::pin(lxd.events());
    for _ in 0..20 {
        assert!(matches!(events.next().await, Some(Event::Lost(_))));
    }
    assert!(matches!(events.next().await, Some(Event::Connected)));
    let took = start.elapsed().as_secs();
    // 0.1 + 0.2 + … + 3.2, then 5 s each, with up to as much again by chance.
    assert!((60..170).contains(&took), "{took} s");
}

#[test]
fn lifecycle_events_are_read_with_project_and_requestor() {
    let raw = json!({"type": "lifecycle", "location": "m2", "metadata": {
        "action": "network-created", "source": "/1.0/networks/br0?project=p",
        "requestor": {"username": "root"}}});
    let event = crate::services::lxd::events::lifecycle(&raw).expect("an event");
    assert_eq!(event.source, "/1.0/networks/br0");
    assert_eq!(event.project, "p");
    assert_eq!(event.location, "m2");
    assert_eq!(event.requestor.as_deref(), Some("root"));
    for other in [
        json!({"type": "operation"}),
        json!(null),
        json!({"type": "lifecycle"}),
    ] {
        assert!(crate::services::lxd::events::lifecycle(&other).is_none());
    }
}

#[test]
fn an_evacuation_is_told_by_its_operation() {
    let raw = |status: u32, description: &str| {
        json!({"type": "operation", "location": "m3", "metadata": {
            "class": "task", "description": description, "status_code": status}})
    };
    let told = |raw: &serde_json::Value| crate::services::lxd::events::lifecycle(raw);
    let event = told(&raw(200, "Evacuating cluster member")).expect("an event");
    assert_eq!(event.action, "cluster-member-evacuated");
    assert_eq!(event.source, "/1.0/cluster/members/m3");
    assert!(told(&raw(400, "Restoring cluster member")).is_some());
    assert!(told(&raw(103, "Evacuating cluster member")).is_none());
    assert!(told(&raw(200, "Creating instance")).is_none());
}
