//! Ceph formed and held on the simulated cloud: the whole cloud of the upstream defaults.

#[path = "common/sim.rs"]
mod sim;

use microcloud::services::ceph::{CephCluster, Look};
use microcloud::simulate::{SimCloud, SimConfig, blank_disk};
use sim::{controller, doc, files, settled, story};
use std::time::Duration;

/// Machines with two blank disks each.
fn machines(count: usize) -> SimConfig {
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
fn upstream(members: usize, ceph: &str) -> String {
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
    text += &doc("Network", "default", "{type: ovn, uplink: UPLINK}");
    text += &doc("StoragePool", "local", "{driver: btrfs}");
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

const PACKAGED: &str = "{provider: packaged}";

/// The cluster as an administrator on a machine sees it.
async fn look(cloud: &SimCloud, member: &str) -> CephCluster {
    let seen = Look::default().look(&cloud.ceph(member)).await;
    seen.expect("Ceph answers")
}

#[tokio::test(start_paused = true)]
async fn the_upstream_default_forms_and_rests() {
    let cloud = SimCloud::new(machines(3));
    let controller = controller(&cloud, "micro01").await;
    let reading = files(&[("all.yaml", upstream(3, PACKAGED))]);
    controller.submit(&reading).await.expect("kept");
    settled(&controller).await;
    let ceph = look(&cloud, "micro03").await;
    assert_eq!(ceph.monitors.len(), 3, "{ceph:?}");
    assert!(ceph.monitors.values().all(|m| m.in_quorum), "{ceph:?}");
    assert_eq!(ceph.osd_hosts_up().len(), 3, "{ceph:?}");
    assert_eq!(ceph.health, Default::default(), "{}", story(&controller));
    let pools: Vec<&str> = ceph.pools.keys().map(String::as_str).collect();
    let wanted = [".mgr", "lxd_cephfs_data", "lxd_cephfs_meta", "lxd_remote"];
    assert_eq!(pools, wanted);
    for (name, pool) in &ceph.pools {
        assert_eq!((pool.size, pool.min_size), (3, 2), "{name}");
        let (_, rule) = ceph.rule(pool.rule).expect("its rule");
        assert_eq!(rule.failure_domain, "host", "{name}");
    }
    assert_eq!(cloud.ceph_clusters().len(), 1);
    let before = cloud.counts();
    tokio::time::sleep(Duration::from_secs(1200)).await;
    let after = cloud.counts();
    assert_eq!(
        before.total().writes,
        after.total().writes,
        "a cloud at rest is only read: {:?}",
        cloud.writes().last()
    );
    assert!(controller.all_ready(), "{}", story(&controller));
}
