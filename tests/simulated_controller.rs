//! The controller as a whole on the simulated cloud.

use microcloud::reconcile::clock::Clock;
use microcloud::reconcile::controller::{CONCURRENCY, Config, Controller};
use microcloud::resources::draft::Draft;
use microcloud::resources::{Reading, SourceName};
use microcloud::services::lxd::Lxd;
use microcloud::simulate::{SimCloud, SimConfig};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

/// A directory's content as a reading.
fn reading(documents: &str) -> Reading {
    let files = [("cluster.yaml", documents.as_bytes())];
    Draft::of_files(SourceName::Directory, files).check(&[])
}

/// Three members with pool, network and profile.
fn three_node() -> String {
    let mut text = String::from(
        "apiVersion: microcloud.dev/v1
kind: Cluster
metadata: {name: demo}
spec: {initiator: micro01, internalSubnet: 10.77.0.0/16}
---
apiVersion: microcloud.dev/v1
kind: StoragePool
metadata: {name: local}
spec: {driver: btrfs, description: Local storage}
---
apiVersion: microcloud.dev/v1
kind: Disk
metadata: {name: local}
spec: {members: [micro01, micro02, micro03], match: size >= 1GiB, limit: 1, use: {pool: local}}
---
apiVersion: microcloud.dev/v1
kind: Network
metadata: {name: lan}
spec: {type: bridge, config: {ipv4.address: 10.99.0.1/24, ipv6.address: none}}
---
apiVersion: microcloud.dev/v1
kind: Profile
metadata: {name: web}
spec:
  config: {limits.cpu: 2}
  devices:
    root: {type: disk, path: /, pool: local}
    eth0: {type: nic, network: lan}
",
    );
    for n in 1..=3 {
        text.push_str(&format!(
            "---\napiVersion: microcloud.dev/v1\nkind: Member\nmetadata: {{name: micro0{n}}}\nspec: \
             {{address: 10.77.0.{n}}}\n"
        ));
    }
    text
}

fn controller(cloud: &SimCloud, member: &str) -> Controller {
    let epoch = Arc::new(AtomicU64::new(1));
    Controller::start(Config {
        member: member.to_owned(),
        epoch: 1,
        lxd: Lxd::new(cloud.transport(member)),
        hosts: cloud.hosts(member, epoch),
        clock: Clock::system(),
        memory: None,
        concurrency: CONCURRENCY,
    })
}

async fn settled(controller: &Controller) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(300);
    while !controller.all_ready() {
        if tokio::time::Instant::now() > deadline {
            for status in controller.status().objects {
                println!("{} {:?}", status.object, status.conditions);
            }
            for event in controller.events(0) {
                println!(
                    "{} {:?} {} {}",
                    event.at, event.object, event.reason, event.message
                );
            }
            panic!("it did not converge");
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn three_empty_machines_become_a_cluster() {
    let cloud = SimCloud::new(SimConfig::of(3));
    let controller = controller(&cloud, "micro01");
    let reading = reading(&three_node());
    assert!(reading.broken.is_empty(), "{:?}", reading.broken);
    controller
        .submit(&reading)
        .await
        .expect("the memory can be written");
    settled(&controller).await;
    let lxd = cloud.hand("micro02");
    let members = lxd.members().await.expect("members");
    assert_eq!(members.len(), 3);
    assert_eq!(
        lxd.pool("local", None).await.expect("pool").value.status,
        "Created"
    );
    let profile = lxd.profile("default", "web").await.expect("profile").value;
    assert_eq!(profile.config["limits.cpu"], "2");
    for event in controller.events(0) {
        println!(
            "{} {:?} {} {}",
            event.at,
            event.object.map(|o| o.to_string()),
            event.reason,
            event.message
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_converged_cluster_sees_no_write() {
    let cloud = SimCloud::new(SimConfig::of(3));
    let controller = controller(&cloud, "micro01");
    controller
        .submit(&reading(&three_node()))
        .await
        .expect("the memory can be written");
    settled(&controller).await;
    // What is recorded once everything is done goes out within a moment.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let before = cloud.counts();
    tokio::time::sleep(Duration::from_secs(600)).await;
    controller
        .reconcile(&Default::default())
        .await
        .expect("a forced round");
    tokio::time::sleep(Duration::from_secs(60)).await;
    let after = cloud.counts();
    println!("{before:?}\n{after:?}");
    assert_eq!(
        before.total().writes,
        after.total().writes,
        "a converged cluster is only read"
    );
}
