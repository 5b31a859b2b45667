//! The contract suite against the real LXD, in a sandbox of four hosts. Needs root,
//! `systemd-nspawn` and, for the first run, the machine's Debian mirror.
//!
//! `make prove` runs it, or `cargo test --test real_lxd -- --ignored --nocapture`.
//! `LXD_CONTRACT=pool` tries only the assertions whose name contains `pool`;
//! `LXD_CONTRACT_SOCKETS=name=10.0.0.1:8443=/path/unix.socket,…` uses four machines that are
//! there already (they cannot be killed then, so that stage is left out).

mod contract;

use async_trait::async_trait;
use contract::{Cloud, Host};
use microcloud::sandbox::{Options, Throwaway};
use microcloud::services::lxd::{HttpTransport, Transport};
use std::path::PathBuf;
use std::sync::Arc;

struct Machine {
    host: Host,
    socket: PathBuf,
}

struct Real {
    machines: Vec<Machine>,
    sandbox: Option<Arc<Throwaway>>,
}

impl Real {
    fn sandbox() -> Self {
        let sandbox = Throwaway::up("lxd", &Options::with_hosts(4)).expect("a sandbox");
        let view = sandbox.view().expect("the sandbox's hosts");
        let machines = view
            .hosts
            .into_iter()
            .map(|host| Machine {
                host: Host {
                    name: host.name,
                    address: format!("{}:8443", host.address),
                },
                socket: host.lxd_socket,
            })
            .collect();
        Real {
            machines,
            sandbox: Some(Arc::new(sandbox)),
        }
    }

    fn given(list: &str) -> Self {
        let machines = list.split(',').map(|machine| {
            let parts: Vec<&str> = machine.split('=').collect();
            let [name, address, socket] = parts[..] else {
                panic!("{machine:?} is not name=address=socket");
            };
            Machine {
                host: Host {
                    name: name.to_owned(),
                    address: address.to_owned(),
                },
                socket: PathBuf::from(socket),
            }
        });
        Real {
            machines: machines.collect(),
            sandbox: None,
        }
    }

    async fn in_sandbox(&self, act: impl FnOnce(&Throwaway) + Send + 'static) {
        let sandbox = self
            .sandbox
            .clone()
            .expect("only a sandbox's hosts can be killed");
        tokio::task::spawn_blocking(move || act(&sandbox))
            .await
            .expect("it ended");
    }
}

#[async_trait]
impl Cloud for Real {
    fn hosts(&self) -> Vec<Host> {
        self.machines.iter().map(|m| m.host.clone()).collect()
    }

    fn transport(&self, host: &str) -> Arc<dyn Transport> {
        let machine = self.machines.iter().find(|m| m.host.name == host);
        let socket = &machine.expect("a host of the list").socket;
        Arc::new(HttpTransport::unix(socket).expect("a transport"))
    }

    fn can_kill(&self) -> bool {
        self.sandbox.is_some()
    }

    async fn kill(&self, host: &str) {
        let host = host.to_owned();
        self.in_sandbox(move |s| s.kill(&host).expect("killed"))
            .await;
    }

    async fn start(&self, host: &str) {
        let host = host.to_owned();
        self.in_sandbox(move |s| s.start(&host).expect("started"))
            .await;
    }
}

#[tokio::test]
#[ignore = "four real hosts and two minutes: `make prove`"]
async fn the_real_lxd_keeps_the_contract() {
    let only = std::env::var("LXD_CONTRACT").unwrap_or_default();
    let real = match std::env::var("LXD_CONTRACT_SOCKETS") {
        Ok(list) => Real::given(&list),
        Err(_) => tokio::task::spawn_blocking(Real::sandbox)
            .await
            .expect("a sandbox"),
    };
    let report = contract::run(&real, &only, |result| println!("{result}")).await;
    println!("{report}");
    assert!(report.holds(), "the assertions above do not hold");
}
