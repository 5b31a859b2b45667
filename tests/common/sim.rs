//! The controller on the simulated cloud, as tests start, kill and compare it.

#![allow(dead_code, reason = "each test file uses a part of it")]

use microcloud::reconcile::clock::Clock;
use microcloud::reconcile::controller::{CONCURRENCY, Config, Controller};
use microcloud::reconcile::memory::Lease;
use microcloud::reconcile::store::Store;
use microcloud::resources::draft::Draft;
use microcloud::resources::{ObjectRef, Reading, SourceName};
use microcloud::services::host::Hosts;
use microcloud::services::lxd::{Lxd, Transport};
use microcloud::simulate::{SimCloud, SimConfig, SimProcess, blank_disk};
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use tokio::time::Instant;

/// A directory of these files as a reading; every document must be valid.
pub fn files(files: &[(&str, String)]) -> Reading {
    let reading = any_files(files);
    assert!(reading.broken.is_empty(), "{:?}", reading.broken);
    reading
}

/// A directory of these files as a reading, broken documents and all.
pub fn any_files(files: &[(&str, String)]) -> Reading {
    let files = files.iter().map(|(name, text)| (*name, text.as_bytes()));
    Draft::of_files(SourceName::Directory, files).check(&[])
}

/// One document.
pub fn doc(kind: &str, name: &str, spec: &str) -> String {
    format!(
        "apiVersion: microcloud.dev/v1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {spec}\n---\n"
    )
}

/// A cluster of `members` with a pool on a disk each, a network, a profile and a project.
pub fn usual(members: usize) -> String {
    let mut text = doc(
        "Cluster",
        "demo",
        "{initiator: micro01, config: {images.auto_update_interval: 12}}",
    );
    let mut names = Vec::new();
    for n in 1..=members {
        let name = format!("micro{n:02}");
        text += &doc(
            "Member",
            &name,
            &format!("{{address: 10.77.0.{n}, failureDomain: rack{n}}}"),
        );
        names.push(name);
    }
    let names = names.join(", ");
    text += &doc(
        "StoragePool",
        "local",
        "{driver: btrfs, description: Local storage, volumes: [images, backups]}",
    );
    text += &doc(
        "Disk",
        "local",
        &format!("{{members: [{names}], match: size >= 1GiB, limit: 1, use: {{pool: local}}}}"),
    );
    text += &doc(
        "Network",
        "lan",
        "{type: bridge, config: {ipv4.address: 10.99.0.1/24, ipv6.address: none}}",
    );
    text += &doc("Project", "team", "{config: {features.images: false}}");
    text += &doc(
        "Profile",
        "web",
        "{config: {limits.cpu: 2}, devices: {root: {type: disk, path: /, pool: local}, eth0: {type: \
         nic, network: lan}}}",
    );
    text
}

/// Machines with two blank disks each.
pub fn machines(count: usize) -> SimConfig {
    let mut config = SimConfig::of(count);
    config.machines = config
        .machines
        .into_iter()
        .map(|machine| {
            let disks = [("disk1", 10), ("disk2", 40)];
            let disks =
                disks.map(|(n, gib)| blank_disk(&format!("{}-{n}", machine.name), gib << 30));
            machine.disks(disks.to_vec())
        })
        .collect();
    config
}

/// The upstream default of so many members.
pub fn upstream(members: usize, ceph: &str) -> String {
    let mut text = doc(
        "Cluster",
        "demo",
        &format!("{{initiator: micro01, ovn: {{provider: packaged}}, ceph: {ceph}}}"),
    );
    let names: Vec<String> = (1..=members).map(|n| format!("micro{n:02}")).collect();
    for (n, name) in names.iter().enumerate() {
        text += &doc("Member", name, &format!("{{address: 10.77.0.{}}}", n + 1));
    }
    let names = names.join(", ");
    text += &doc(
        "Uplink",
        "UPLINK",
        "{interface: up0, ipv4: {gateway: 10.88.0.1/24, ranges: [10.88.0.100-10.88.0.200]}}",
    );
    // Otherwise LXD makes up others every time.
    let addresses = "{ipv4.address: 10.90.0.1/24, ipv6.address: none}";
    let network = format!("{{type: ovn, uplink: UPLINK, config: {addresses}}}");
    text += &doc("Network", "default", &network);
    text += &doc(
        "StoragePool",
        "local",
        "{driver: btrfs, volumes: [backups, images]}",
    );
    text += &doc(
        "Disk",
        "local",
        &format!("{{members: [{names}], match: size <= 20GiB, limit: 1, use: {{pool: local}}}}"),
    );
    text += &doc(
        "Disk",
        "ceph",
        &format!("{{members: [{names}], match: size > 20GiB, limit: 1, use: ceph}}"),
    );
    text += &doc(
        "StoragePool",
        "remote",
        "{driver: ceph, config: {ceph.osd.pool_name: lxd_remote, ceph.rbd.du: false}}",
    );
    text += &doc(
        "StoragePool",
        "remote-fs",
        "{driver: cephfs, config: {cephfs.create_missing: true, cephfs.meta_pool: \
         lxd_cephfs_meta, cephfs.data_pool: lxd_cephfs_data, cephfs.path: lxd_cephfs}}",
    );
    text += &doc(
        "Profile",
        "default",
        "{devices: {root: {type: disk, path: /, pool: remote}, eth0: {type: nic, name: eth0, \
         network: default}}}",
    );
    text
}

/// Starts a controller as an agent does: with the lease of the next epoch if there is a store.
pub async fn lead(
    transport: Arc<dyn Transport>,
    hosts: impl Fn(Arc<AtomicU64>) -> Arc<dyn Hosts>,
    member: &str,
) -> Option<Controller> {
    let lxd = Lxd::new(transport);
    let store = Store::new(lxd.clone());
    let read = store.read().await.ok()?;
    let (memory, epoch) = match read {
        None => (None, 1),
        Some(read) => {
            let mut memory = read.memory.clone();
            let epoch = memory.lease.epoch + 1;
            memory.lease = Lease {
                epoch,
                holder: member.to_owned(),
            };
            (Some(store.write(&read, &memory).await.ok()?), epoch)
        }
    };
    Some(Controller::start(Config {
        member: member.to_owned(),
        epoch,
        lxd,
        hosts: hosts(Arc::new(AtomicU64::new(epoch))),
        clock: Clock::system(),
        memory,
        concurrency: CONCURRENCY,
    }))
}

/// A controller on a machine that never crashes.
pub async fn controller(cloud: &SimCloud, member: &str) -> Controller {
    let hosts = |epoch| cloud.hosts(member, epoch);
    lead(cloud.transport(member), hosts, member)
        .await
        .expect("nothing disturbs it")
}

/// A controller that dies with its process.
pub async fn mortal(process: &SimProcess, member: &str) -> Option<Controller> {
    lead(process.transport(), |epoch| process.hosts(epoch), member).await
}

/// Waits until everything is as wanted.
pub async fn settled(controller: &Controller) {
    let deadline = Instant::now() + Duration::from_secs(600);
    while !controller.all_ready() {
        if Instant::now() > deadline {
            panic!("it did not converge:\n{}", story(controller));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // What is recorded once everything is done goes out within a moment, and who is trusted with the
    // second heartbeat at which that did not change any more.
    tokio::time::sleep(Duration::from_secs(5)).await;
}

/// What a controller has to say, for a test that failed.
pub fn story(controller: &Controller) -> String {
    let mut text = String::new();
    for status in controller.status().objects {
        if let Some(condition) = status.conditions.first() {
            let _ = writeln!(
                text,
                "{}: {} {}",
                status.object, condition.reason, condition.message
            );
        }
    }
    for event in controller.events(0) {
        let object = event.object.map(|o| o.to_string()).unwrap_or_default();
        let _ = writeln!(
            text,
            "{} {object} {} {}",
            event.at, event.reason, event.message
        );
    }
    text
}

/// The reason and the sentence an object shows, and whether it is ready.
pub fn shown(controller: &Controller, object: &str) -> (bool, String, String) {
    let object: ObjectRef = object.parse().expect("a reference");
    let report = controller.status();
    let status = report.objects.iter().find(|s| s.object == object);
    let Some(condition) = status.and_then(|s| s.conditions.first()) else {
        return (false, "Gone".to_owned(), String::new());
    };
    (
        condition.status,
        condition.reason.clone(),
        condition.message.clone(),
    )
}

/// Everything about the cluster that two runs must agree on.
pub async fn portrait(cloud: &SimCloud) -> String {
    let lxd = cloud.hand("micro01");
    let mut text = String::new();
    for member in lxd.members().await.expect("members") {
        let _ = writeln!(
            text,
            "member {} {} {} {:?}",
            member.server_name, member.status, member.failure_domain, member.groups
        );
    }
    for pool in lxd.pools().await.expect("pools") {
        let mut config = pool.config.clone();
        // LXD names them in another order every time.
        let mut locations = pool.locations.clone();
        locations.sort();
        config.retain(|k, _| !k.starts_with("volatile."));
        let _ = writeln!(
            text,
            "pool {} {} {} {:?} on {:?}",
            pool.name, pool.driver, pool.status, config, locations
        );
    }
    for network in lxd.networks("default").await.expect("networks") {
        if network.managed {
            let mut config = network.config.clone();
            config.retain(|k, _| !k.starts_with("volatile."));
            let _ = writeln!(
                text,
                "network {} {} {config:?}",
                network.name, network.status
            );
        }
    }
    for project in lxd.projects().await.expect("projects") {
        let mut config = project.config.clone();
        config.retain(|k, _| !k.starts_with("user.microcloud."));
        let _ = writeln!(text, "project {} {config:?}", project.name);
    }
    for (project, profile) in lxd.all_profiles().await.expect("profiles") {
        let _ = writeln!(
            text,
            "profile {project}/{} {:?} {:?}",
            profile.name, profile.config, profile.devices
        );
    }
    let server = lxd.server().await.expect("server").value.config_text();
    let _ = writeln!(
        text,
        "interval {:?}",
        server.get("images.auto_update_interval")
    );
    text
}

/// Waits until a sentence of an object has these words.
pub async fn says(controller: &Controller, object: &str, words: &str, limit: Duration) {
    let deadline = Instant::now() + limit;
    loop {
        let (_, _, message) = shown(controller, object);
        if message.contains(words) {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "{object} never said {words:?} but {message:?}\n{}",
            story(controller)
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
