//! The contract suite of OVN against the real one, in a sandbox of four hosts: what the agents show
//! and change, asked for as the agent that controls asks them. Needs root, `systemd-nspawn` and,
//! for the first run, the machine's Debian mirror.
//!
//! `cargo test --test real_ovn_contract -- --ignored --nocapture`

#[allow(dead_code, reason = "LXD's assertions use the rest")]
#[path = "contract/check.rs"]
mod check;
mod common;
#[path = "contract/ovn/mod.rs"]
mod ovn;
#[allow(dead_code, reason = "LXD's assertions use the rest")]
#[path = "contract/report.rs"]
mod report;

use async_trait::async_trait;
use common::real::{Cloud, FIRST, Outcome, with};
use microcloud::sandbox::Throwaway;
use microcloud::services::host::{Host, HostTarget};
use microcloud::services::peer::{
    Claim, Fingerprint, Identity, PeerClient, PeerHost, Pins, Refusal,
};
use ovn::OvnCloud;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::copy;
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;

/// The name under which the hosts trust this program.
const OWN: &str = "contract";

/// Passes a connection on to the agent of the host it runs in.
const RELAY: &str = "\
import os, socket, sys, threading
agent = socket.create_connection((sys.argv[1], 9445))
def there():
    while data := os.read(0, 65536):
        agent.sendall(data)
    agent.shutdown(socket.SHUT_WR)
threading.Thread(target=there, daemon=True).start()
while data := agent.recv(65536):
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
";

#[derive(Debug)]
struct First;

impl Claim for First {
    fn epoch(&self) -> Option<u64> {
        Some(1)
    }
}

/// The keys of the hosts' agents.
#[derive(Debug)]
struct Keys(BTreeMap<String, Fingerprint>);

impl Pins for Keys {
    fn key_of(&self, member: &str) -> Option<Fingerprint> {
        self.0.get(member).cloned()
    }

    fn address_of(&self, _member: &str) -> Option<IpAddr> {
        None
    }

    fn admit(&self, _name: &str, _fingerprint: &Fingerprint) -> Result<(), Refusal> {
        unreachable!("nobody calls this program")
    }
}

struct Real {
    sandbox: Arc<Throwaway>,
    client: PeerClient,
    /// Each host's address, and where its agent is reached from here.
    addresses: BTreeMap<String, (IpAddr, IpAddr)>,
}

impl Real {
    async fn in_sandbox(&self, act: impl FnOnce(&Throwaway) + Send + 'static) {
        let sandbox = self.sandbox.clone();
        tokio::task::spawn_blocking(move || act(&sandbox))
            .await
            .expect("it ended");
    }

    async fn must(&self, host: &str, words: Vec<String>) {
        let host = host.to_owned();
        self.in_sandbox(move |sandbox| {
            let out = sandbox.exec(&host, &words).expect("it can be run");
            assert!(out.status.success(), "{words:?} on {host}: {out:?}");
        })
        .await;
    }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

#[async_trait]
impl OvnCloud for Real {
    fn hosts(&self) -> Vec<String> {
        self.addresses.keys().cloned().collect()
    }

    fn address(&self, host: &str) -> IpAddr {
        self.addresses[host].0
    }

    fn host(&self, host: &str) -> Arc<dyn Host> {
        let target = HostTarget {
            name: host.to_owned(),
            address: self.addresses[host].1,
            fingerprint: None,
        };
        Arc::new(PeerHost::new(self.client.clone(), target))
    }

    async fn tell_controller(&self, host: &str, key: &str, value: &str) {
        let pair = format!("external_ids:{key}={value}");
        self.must(host, words(&["ovs-vsctl", "set", "open", ".", &pair]))
            .await;
    }

    async fn delete_chassis(&self, host: &str) {
        let delete = ["ovn-sbctl", "--no-leader-only", "chassis-del", host];
        self.must(FIRST, words(&delete)).await;
    }

    async fn kill(&self, host: &str) {
        let host = host.to_owned();
        self.in_sandbox(move |s| s.kill(&host).expect("killed"))
            .await;
    }

    async fn power(&self, host: &str) {
        let name = host.to_owned();
        self.in_sandbox(move |s| s.start(&name).expect("started"))
            .await;
        let agent = self.host(host);
        while let Err(error) = agent.beat().await {
            println!("{host}: {error}");
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    }
}

/// Passes each connection to `listener` on to the agent of a host, whose network this program is
/// not in.
async fn relay(listener: TcpListener, sandbox: Arc<Throwaway>, host: String, address: IpAddr) {
    while let Ok((mut here, _)) = listener.accept().await {
        let address = address.to_string();
        let words = ["python3", "-u", "-c", RELAY, &address];
        let Ok(command) = sandbox.command(&host, words) else {
            continue;
        };
        tokio::spawn(async move {
            // A host that is off answers nothing: the connection closes.
            let _ = pass(&mut here, Command::from(command)).await;
        });
    }
}

async fn pass(here: &mut TcpStream, mut command: Command) -> std::io::Result<()> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    let (Some(mut to), Some(mut from)) = (child.stdin.take(), child.stdout.take()) else {
        return Ok(());
    };
    let (mut read, mut write) = here.split();
    tokio::select! {
        there = copy(&mut read, &mut to) => there?,
        back = copy(&mut from, &mut write) => back?,
    };
    Ok(())
}

/// The hosts, whose agents trust this program and are reached through relays.
async fn real(cloud: &Cloud, identity: Identity) -> Outcome<Real> {
    let mut keys = BTreeMap::new();
    let mut addresses = BTreeMap::new();
    let mut port = 0;
    for (n, host) in (1..).zip(cloud.hosts()) {
        let near = Ipv4Addr::new(127, 77, 0, n);
        let listener = TcpListener::bind((near, port)).await?;
        port = listener.local_addr()?.port();
        let address = IpAddr::from(cloud.address(&host)?);
        tokio::spawn(relay(listener, cloud.shared(), host.clone(), address));
        keys.insert(host.clone(), cloud.fingerprint(&host)?.parse()?);
        addresses.insert(host, (address, IpAddr::from(near)));
    }
    let (pins, claim) = (Arc::new(Keys(keys)), Arc::new(First));
    Ok(Real {
        sandbox: cloud.shared(),
        client: PeerClient::new(Arc::new(identity), pins, claim, port),
        addresses,
    })
}

#[test]
#[ignore = "four real hosts and three minutes: make prove"]
fn the_real_ovn_keeps_the_contract() -> Outcome {
    with("ovn-contract", 4, |cloud| {
        let state = tempfile::tempdir()?;
        let identity = Identity::open(state.path(), OWN)?;
        let key = identity.fingerprint().to_string();
        for host in cloud.hosts() {
            cloud.must(
                &host,
                &["microcloud", "agent", "trust", &key, "--name", OWN],
            )?;
        }
        let hosts = cloud.hosts();
        let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
        cloud.start_agents(&hosts)?;
        let runtime = tokio::runtime::Runtime::new()?;
        let report = runtime.block_on(async {
            let real = real(cloud, identity).await?;
            Outcome::Ok(ovn::run(&real, |tried| println!("{tried}")).await)
        })?;
        println!("{report}");
        if report.holds() {
            Ok(())
        } else {
            Err("the assertions above do not hold".into())
        }
    })
}
