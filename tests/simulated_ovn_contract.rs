//! The contract suite of OVN against the simulated one: what it says of the real one holds here
//! too.

#[allow(dead_code, reason = "LXD's assertions use the rest")]
#[path = "contract/check.rs"]
mod check;
#[path = "contract/ovn/mod.rs"]
mod ovn;
#[allow(dead_code, reason = "LXD's assertions use the rest")]
#[path = "contract/report.rs"]
mod report;

use async_trait::async_trait;
use microcloud::services::host::{Host, HostTarget};
use microcloud::simulate::{SimCloud, SimConfig};
use ovn::OvnCloud;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

struct Simulated(SimCloud);

#[async_trait]
impl OvnCloud for Simulated {
    fn hosts(&self) -> Vec<String> {
        self.0.machines()
    }

    fn address(&self, host: &str) -> IpAddr {
        let number = self.0.machines().iter().position(|m| m == host);
        let number = number.expect("a machine of the cloud") + 1;
        format!("10.77.0.{number}").parse().expect("an address")
    }

    fn host(&self, host: &str) -> Arc<dyn Host> {
        let epoch = Arc::new(AtomicU64::new(1));
        self.0.hosts("micro01", epoch).host(&HostTarget {
            name: host.to_owned(),
            address: self.address(host),
            fingerprint: None,
        })
    }

    async fn tell_controller(&self, host: &str, key: &str, value: &str) {
        self.0.tell_ovn_controller(host, key, value);
    }

    async fn delete_chassis(&self, host: &str) {
        self.0.delete_chassis(host);
    }

    async fn kill(&self, host: &str) {
        self.0.kill_host(host);
    }

    async fn power(&self, host: &str) {
        self.0.start_host(host);
    }
}

#[tokio::test(start_paused = true)]
async fn the_simulated_ovn_keeps_the_contract() {
    let simulated = Simulated(SimCloud::new(SimConfig::of(4)));
    let report = ovn::run(&simulated, |_| ()).await;
    println!("{report}");
    assert!(report.holds(), "{report}");
}
