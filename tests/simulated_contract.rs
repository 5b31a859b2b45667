//! The contract suite against the simulated LXD: what it says of the real one holds here too.

mod contract;

use async_trait::async_trait;
use contract::{Cloud, Host};
use microcloud::services::lxd::Transport;
use microcloud::simulate::{SimCloud, SimConfig};
use std::sync::Arc;

struct Simulated(SimCloud);

#[async_trait]
impl Cloud for Simulated {
    fn hosts(&self) -> Vec<Host> {
        let names = self.0.machines().into_iter();
        names
            .map(|name| Host {
                address: self.0.lxd_address(&name),
                name,
            })
            .collect()
    }

    fn transport(&self, host: &str) -> Arc<dyn Transport> {
        self.0.transport(host)
    }

    async fn kill(&self, host: &str) {
        self.0.kill_host(host);
    }

    async fn start(&self, host: &str) {
        self.0.start_host(host);
    }
}

#[tokio::test(start_paused = true)]
async fn the_simulated_lxd_keeps_the_contract() {
    let cloud = Simulated(SimCloud::new(SimConfig::of(4)));
    let only = std::env::var("LXD_CONTRACT").unwrap_or_default();
    let report = contract::run(&cloud, &only, |_| ()).await;
    println!("{report}");
    assert!(report.holds(), "{report}");
    assert!(
        !report.0.is_empty(),
        "no assertion has {only:?} in its name"
    );
}
