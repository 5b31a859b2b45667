//! OVN formed and held on the simulated cloud.

#[path = "common/sim.rs"]
mod sim;

use microcloud::reconcile::Controller;
use microcloud::simulate::{SimCloud, SimConfig};
use sim::{controller, doc, files, settled, shown, story};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;

/// A cluster of so many members with an uplink and a network on OVN.
fn cloud_of(members: usize) -> String {
    let mut text = doc(
        "Cluster",
        "demo",
        "{initiator: micro01, gracePeriod: 2m, ovn: {provider: packaged}}",
    );
    for n in 1..=members {
        let spec = format!("{{address: 10.77.0.{n}}}");
        text += &doc("Member", &format!("micro{n:02}"), &spec);
    }
    text += &doc(
        "Uplink",
        "UPLINK",
        "{interface: up0, ipv4: {gateway: 10.88.0.1/24, ranges: [10.88.0.100-10.88.0.200]}}",
    );
    text + &doc("Network", "default", "{type: ovn, uplink: UPLINK}")
}

async fn formed(members: usize) -> (SimCloud, Controller) {
    let cloud = SimCloud::new(SimConfig::of(members));
    let controller = controller(&cloud, "micro01").await;
    let reading = files(&[("all.yaml", cloud_of(members))]);
    controller.submit(&reading).await.expect("kept");
    settled(&controller).await;
    (cloud, controller)
}

fn centrals(cloud: &SimCloud) -> Vec<String> {
    let mut names = cloud.ovn_centrals();
    names.sort();
    names
}

/// What LXD is told of OVN.
async fn northbound(cloud: &SimCloud, member: &str) -> String {
    let server = cloud.hand(member).server().await.expect("LXD answers");
    let config = server.value.config_text();
    let key = "network.ovn.northbound_connection";
    config.get(key).cloned().unwrap_or_default()
}

/// What ovn-controller of each machine is told, and its row in the southbound database.
fn chassis(cloud: &SimCloud) -> BTreeMap<String, String> {
    let seen = cloud.report("micro01").ovn.central.chassis;
    cloud
        .machines()
        .into_iter()
        .map(|name| {
            let told = cloud.report(&name).ovn.chassis.external_ids;
            let rows: Vec<_> = seen.iter().filter(|row| row.hostname == name).collect();
            (name, format!("{told:?} {rows:?}"))
        })
        .collect()
}

async fn back(cloud: &SimCloud, controller: &Controller, before: &BTreeMap<String, String>) {
    let begun = Instant::now();
    while chassis(cloud) != *before || !controller.all_ready() {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "{:?}\nwanted {before:?}\n{}",
            chassis(cloud),
            story(controller)
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    println!("after {:?}", begun.elapsed());
    // What is changed again and again is taken for a fight.
    tokio::time::sleep(Duration::from_secs(61)).await;
}

#[tokio::test(start_paused = true)]
async fn what_ovn_controller_is_told_comes_back_and_so_does_its_row() {
    let (cloud, controller) = formed(3).await;
    let before = chassis(&cloud);
    assert!(before.values().all(|c| c.contains("geneve")), "{before:?}");
    for (key, value) in [
        ("ovn-encap-ip", "10.9.9.9"),
        ("ovn-remote", "tcp:10.9.9.9:6642"),
        ("ovn-encap-type", "vxlan"),
    ] {
        cloud.tell_ovn_controller("micro02", key, value);
        back(&cloud, &controller, &before).await;
    }
    cloud.delete_chassis("micro03");
    back(&cloud, &controller, &before).await;
}

#[tokio::test(start_paused = true)]
async fn what_lxd_knows_of_ovn_comes_back() {
    let (cloud, controller) = formed(3).await;
    let before = northbound(&cloud, "micro01").await;
    assert_eq!(before.matches("6641").count(), 3, "{before}");
    let hand = cloud.hand("micro02");
    let server = hand.server().await.expect("LXD answers").value;
    let mut config = server.config_text();
    config.remove("network.ovn.northbound_connection");
    let request = microcloud::services::lxd::Request {
        method: microcloud::services::lxd::Method::Put,
        path: "/1.0".into(),
        query: Vec::new(),
        body: Some(serde_json::json!({ "config": config })),
        if_match: None,
        deadline: Duration::from_secs(10),
    };
    let answer = cloud.hand_transport("micro02").send(request).await;
    assert_eq!(answer.expect("it is changed").status, 200);
    assert_eq!(northbound(&cloud, "micro01").await, "");
    settled(&controller).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(northbound(&cloud, "micro01").await, before);
    cloud
        .hand("micro01")
        .delete_network("default", "default")
        .await
        .expect("by hand");
    tokio::time::sleep(Duration::from_secs(10)).await;
    let network = cloud
        .hand("micro03")
        .network("default", "default", None)
        .await;
    assert!(network.is_ok(), "{}", story(&controller));
}

#[tokio::test(start_paused = true)]
async fn a_fourth_member_gets_the_databases_of_a_lost_one_after_the_grace_period() {
    let (cloud, controller) = formed(4).await;
    assert_eq!(centrals(&cloud), ["micro01", "micro02", "micro03"]);
    cloud.kill_host("micro02");
    tokio::time::sleep(Duration::from_secs(12)).await;
    let (ready, _, message) = shown(&controller, "Member/micro02");
    assert!(!ready && message.contains("databases of OVN"), "{message}");
    let held = "nothing more may be taken from LXD's database and OVN's databases";
    assert!(message.contains(held), "{message}");
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(centrals(&cloud), ["micro01", "micro02", "micro03"]);
    tokio::time::sleep(Duration::from_secs(120)).await;
    let now = centrals(&cloud);
    assert_eq!(
        now,
        ["micro01", "micro03", "micro04"],
        "{}",
        story(&controller)
    );
    cloud.start_host("micro02");
    settled(&controller).await;
    assert_eq!(centrals(&cloud), now, "who has them keeps them");
    let address = "10.77.0.2";
    let told = northbound(&cloud, "micro01").await;
    assert!(!told.contains(address), "{told}");
}

#[tokio::test(start_paused = true)]
async fn without_a_majority_nothing_moves_and_it_is_said() {
    let (cloud, controller) = formed(3).await;
    let before = chassis(&cloud);
    cloud.kill_host("micro02");
    cloud.kill_host("micro03");
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(centrals(&cloud), ["micro01", "micro02", "micro03"]);
    assert!(!controller.all_ready());
    cloud.start_host("micro02");
    cloud.start_host("micro03");
    back(&cloud, &controller, &before).await;
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_is_installed_anew_takes_the_place_of_the_server_it_was() {
    let (cloud, controller) = formed(3).await;
    let before = cloud.report("micro02").ovn.central;
    cloud.lose_ovn("micro02");
    tokio::time::sleep(Duration::from_secs(30)).await;
    settled(&controller).await;
    // The dead server at its address would count for the majority for ever.
    assert_eq!(centrals(&cloud), ["micro01", "micro02", "micro03"]);
    let after = cloud.report("micro02").ovn.central;
    let north = |report: &microcloud::services::host::CentralReport| {
        let north = report.northbound.clone().expect("it has one");
        (north.cid, north.sid)
    };
    assert_eq!(north(&before).0, north(&after).0, "the same raft");
    assert_ne!(north(&before).1, north(&after).1, "another server");
    assert!(after.serves());
    // With a majority again, the loss of one more is borne.
    cloud.kill_host("micro03");
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert!(
        cloud.report("micro01").ovn.central.serves(),
        "{}",
        story(&controller)
    );
}
