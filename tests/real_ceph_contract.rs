//! The contract suite of Ceph against the real one, in a sandbox of three hosts. Needs root,
//! `systemd-nspawn` and, for the first run, the machine's Debian mirror.
//!
//! `cargo test --test real_ceph_contract -- --ignored --nocapture`; with `CEPH_CONTRACT=pool` only
//! the assertions whose name contains `pool` are tried.

#[path = "contract/ceph/mod.rs"]
mod ceph;
#[allow(dead_code, reason = "LXD's assertions use the rest")]
#[path = "contract/check.rs"]
mod check;
mod common;
#[allow(dead_code, reason = "LXD's assertions use the rest")]
#[path = "contract/report.rs"]
mod report;

use async_trait::async_trait;
use ceph::{CephCloud, Daemon};
use common::real::{Cloud, FIRST, Outcome, with};
use microcloud::sandbox::Throwaway;
use microcloud::services::ceph::{Ceph, CephError, Command, Transport};
use serde_json::{Value, json};
use std::fmt;
use std::io::Write;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

/// Forming three of everything.
const FORMING: Duration = Duration::from_secs(150);

/// The program that carries commands, run in the host for one of them.
const BRIDGE: &str = include_str!("../src/services/ceph/bridge.py");

const CLUSTER: &str = "\
apiVersion: microcloud.dev/v1
kind: Cluster
metadata: {name: demo}
spec: {initiator: micro01, ceph: {provider: packaged}}
---
apiVersion: microcloud.dev/v1
kind: StoragePool
metadata: {name: remote-fs}
spec:
  driver: cephfs
  config: {cephfs.create_missing: true, cephfs.path: lxd_cephfs}
";

/// Asks from within a host.
struct InHost {
    sandbox: Arc<Throwaway>,
    host: String,
}

impl fmt::Debug for InHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("InHost").field(&self.host).finish()
    }
}

fn broken(reason: impl fmt::Display) -> CephError {
    CephError::Bridge {
        reason: reason.to_string(),
    }
}

impl InHost {
    fn exchange(&self, line: &str) -> Result<String, CephError> {
        let words = [
            "env",
            "CEPH_KEYRING=/etc/ceph/ceph.client.admin.keyring",
            "python3",
            "-u",
            "-c",
            BRIDGE,
            "/etc/ceph/ceph.conf",
            "8",
        ];
        let mut child = self
            .sandbox
            .command(&self.host, words)
            .map_err(broken)?
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(broken)?;
        if let Some(mut stdin) = child.stdin.take() {
            // A program that could not connect reads nothing.
            let _ = writeln!(stdin, "{line}");
        }
        let output = child.wait_with_output().map_err(broken)?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

#[async_trait]
impl Transport for InHost {
    async fn send(&self, command: &Command) -> Result<String, CephError> {
        let line = json!({
            "id": 1,
            "target": command.target,
            "command": command.json(),
            "input": command.input(),
        })
        .to_string();
        let own = InHost {
            sandbox: self.sandbox.clone(),
            host: self.host.clone(),
        };
        let said = tokio::task::spawn_blocking(move || own.exchange(&line))
            .await
            .map_err(broken)??;
        let mut lines = said.lines().map(serde_json::from_str::<Value>);
        let hello = lines
            .next()
            .ok_or_else(|| broken("no line"))?
            .map_err(broken)?;
        if hello["code"] != 0 {
            return Err(CephError::Unreachable {
                reason: hello["said"].as_str().unwrap_or_default().to_owned(),
            });
        }
        let answer = lines
            .next()
            .ok_or_else(|| broken("no answer"))?
            .map_err(broken)?;
        let text = |key: &str| answer[key].as_str().unwrap_or_default().to_owned();
        let code = i32::try_from(-answer["code"].as_i64().unwrap_or(-1)).unwrap_or(1);
        match code {
            code if code <= 0 => Ok(text("out")),
            110 => Err(CephError::Unreachable {
                reason: "no answer within 8 s".to_owned(),
            }),
            code => Err(CephError::Refused {
                command: command.prefix().to_owned(),
                code,
                reason: text("said"),
            }),
        }
    }
}

struct Real {
    sandbox: Arc<Throwaway>,
    hosts: Vec<String>,
}

impl Real {
    async fn in_sandbox(&self, act: impl FnOnce(&Throwaway) + Send + 'static) {
        let sandbox = self.sandbox.clone();
        tokio::task::spawn_blocking(move || act(&sandbox))
            .await
            .expect("it ended");
    }

    async fn unit(&self, host: &str, daemon: Daemon, verb: &'static str) {
        let unit = match daemon {
            Daemon::Mon => format!("ceph-mon@{host}"),
            Daemon::Mgr => format!("ceph-mgr@{host}"),
            Daemon::Mds => format!("ceph-mds@{host}"),
            Daemon::Osd(id) => format!("ceph-osd@{id}"),
        };
        let host = host.to_owned();
        self.in_sandbox(move |sandbox| {
            // Starting often by hand counts as failing often.
            for words in [
                ["systemctl", "reset-failed", &unit],
                ["systemctl", verb, &unit],
            ] {
                let out = sandbox.exec(&host, words).expect("it can be run");
                let needed = words[1] == verb;
                assert!(
                    !needed || out.status.success(),
                    "{words:?} on {host}: {out:?}"
                );
            }
        })
        .await;
    }
}

#[async_trait]
impl CephCloud for Real {
    fn hosts(&self) -> Vec<String> {
        self.hosts.clone()
    }

    fn ceph(&self, host: &str) -> Ceph {
        Ceph::new(Arc::new(InHost {
            sandbox: self.sandbox.clone(),
            host: host.to_owned(),
        }))
    }

    async fn stop(&self, host: &str, daemon: Daemon) {
        self.unit(host, daemon, "stop").await;
    }

    async fn start(&self, host: &str, daemon: Daemon) {
        self.unit(host, daemon, "start").await;
    }

    async fn kill(&self, host: &str) {
        let host = host.to_owned();
        self.in_sandbox(move |s| s.kill(&host).expect("killed"))
            .await;
    }

    async fn power(&self, host: &str) {
        let host = host.to_owned();
        self.in_sandbox(move |s| s.start(&host).expect("started"))
            .await;
    }
}

/// Writes three members with a disk each for Ceph.
fn write(cloud: &Cloud) -> Outcome {
    for host in cloud.hosts() {
        cloud.write(&format!("{host}.yaml"), &cloud.member_with_osd(&host)?)?;
    }
    cloud.write("cluster.yaml", CLUSTER)
}

/// Waits until Ceph and its file system are there; the pool of LXD on it may be impossible here.
fn formed(cloud: &Cloud) -> Outcome {
    common::real::wait("Ceph", FORMING, || {
        let script = "timeout 20 ceph -f json fs ls; echo; timeout 20 ceph -f json status";
        let out = cloud.run(FIRST, &["sh", "-c", script], "")?;
        let said = common::real::text(&out.stdout);
        let mut lines = said
            .lines()
            .filter_map(|l| serde_json::from_str::<Value>(l).ok());
        let (fs, status) = (lines.next(), lines.next());
        let three = |pointer: &str| {
            let found = status.as_ref().and_then(|s| s.pointer(pointer)?.as_u64());
            found == Some(3)
        };
        let done = fs.is_some_and(|f| f[0]["name"] == "lxd_cephfs")
            && three("/osdmap/num_up_osds")
            && three("/monmap/num_mons");
        Ok(if done { Ok(()) } else { Err(said) })
    })?;
    // What is still to be added: the third manager and metadata server.
    std::thread::sleep(Duration::from_secs(20));
    for host in cloud.hosts() {
        let words = ["systemctl", "disable", "--now", "microcloud.service"];
        cloud.must(&host, &words)?;
    }
    Ok(())
}

#[test]
#[ignore = "three real hosts and five minutes"]
fn the_real_ceph_keeps_the_contract() -> Outcome {
    let only = std::env::var("CEPH_CONTRACT").unwrap_or_default();
    with("ceph-contract", 3, |cloud| {
        write(cloud)?;
        let hosts = cloud.hosts();
        let names: Vec<&str> = hosts.iter().map(String::as_str).collect();
        cloud.start_agents(&names)?;
        formed(cloud)?;
        let real = Real {
            sandbox: cloud.shared(),
            hosts: hosts.clone(),
        };
        let runtime = tokio::runtime::Runtime::new()?;
        let report = runtime.block_on(ceph::run(&real, &only, |tried| println!("{tried}")));
        println!("{report}");
        if report.holds() {
            Ok(())
        } else {
            Err("the assertions above do not hold".into())
        }
    })
}
