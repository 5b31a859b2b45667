//! The contract suite of Ceph against the simulated one: what it says of the real one holds here
//! too.

#[path = "contract/ceph/mod.rs"]
mod ceph;
#[allow(dead_code, reason = "LXD's assertions use the rest")]
#[path = "contract/check.rs"]
mod check;
#[allow(dead_code, reason = "LXD's assertions use the rest")]
#[path = "contract/report.rs"]
mod report;
#[path = "common/sim.rs"]
mod sim;

use async_trait::async_trait;
use ceph::{CephCloud, Daemon};
use microcloud::services::ceph::Ceph;
use microcloud::services::host::CephDaemonKind;
use microcloud::simulate::{SimCloud, SimConfig};
use sim::{doc, files, settled};

struct Simulated(SimCloud);

fn kind(daemon: Daemon) -> Result<CephDaemonKind, i64> {
    match daemon {
        Daemon::Mon => Ok(CephDaemonKind::Mon),
        Daemon::Mgr => Ok(CephDaemonKind::Mgr),
        Daemon::Mds => Ok(CephDaemonKind::Mds),
        Daemon::Osd(id) => Err(id),
    }
}

#[async_trait]
impl CephCloud for Simulated {
    fn hosts(&self) -> Vec<String> {
        self.0.machines()
    }

    fn ceph(&self, host: &str) -> Ceph {
        self.0.ceph(host)
    }

    async fn stop(&self, host: &str, daemon: Daemon) {
        match kind(daemon) {
            Ok(kind) => self.0.stop_ceph(host, kind),
            Err(id) => self.0.fail_osd(host, id),
        }
    }

    async fn start(&self, host: &str, daemon: Daemon) {
        match kind(daemon) {
            Ok(kind) => self.0.start_ceph(host, kind),
            Err(id) => self.0.start_osd(host, id),
        }
    }

    async fn kill(&self, host: &str) {
        self.0.kill_host(host);
    }

    async fn power(&self, host: &str) {
        self.0.start_host(host);
    }
}

/// Three members with a monitor, a manager, a metadata server and an OSD each.
fn cloud() -> String {
    let mut text = doc(
        "Cluster",
        "demo",
        "{initiator: micro01, ceph: {provider: packaged}}",
    );
    for n in 1..=3 {
        let name = format!("micro{n:02}");
        text += &doc("Member", &name, &format!("{{address: 10.77.0.{n}}}"));
    }
    text += &doc(
        "Disk",
        "ceph",
        "{members: [micro01, micro02, micro03], match: size >= 1GiB, limit: 1, use: ceph}",
    );
    text + &doc(
        "StoragePool",
        "remote-fs",
        "{driver: cephfs, config: {cephfs.create_missing: true, cephfs.path: lxd_cephfs}}",
    )
}

#[tokio::test(start_paused = true)]
async fn the_simulated_ceph_keeps_the_contract() {
    let simulated = Simulated(SimCloud::new(SimConfig::of(3)));
    let controller = sim::controller(&simulated.0, "micro01").await;
    let reading = files(&[("all.yaml", cloud())]);
    controller.submit(&reading).await.expect("kept");
    settled(&controller).await;
    controller.stop().await;
    let only = std::env::var("CEPH_CONTRACT").unwrap_or_default();
    let report = ceph::run(&simulated, &only, |_| ()).await;
    println!("{report}");
    assert!(report.holds(), "{report}");
    assert!(
        !report.0.is_empty(),
        "no assertion has {only:?} in its name"
    );
}
