//! Running again on what is there already, unchanged: this controller beside `lxd init --preseed`
//! with the same profiles on the same LXD, counted at its socket.
//!
//! `cargo bench --bench rerun` (as root).

#[path = "../tests/common/mod.rs"]
mod common;

use async_trait::async_trait;
use common::proof::{Page, versions};
use common::proxy::{Proxy, Seen};
use common::real::{Cloud, FIRST, Outcome, formed, wait};
use microcloud::reconcile::clock::Clock;
use microcloud::reconcile::controller::{CONCURRENCY, Config, Controller};
use microcloud::reconcile::store::Store;
use microcloud::resources::Kind;
use microcloud::services::host::{
    Beat, BootstrapLxd, CephAnswer, CephRequest, ClearHalfMade, Host, HostError, HostReport,
    HostTarget, Hosts, JoinLxd, OvnAnswer, OvnRequest, PathsReport, PathsRequest, TrustStore,
    UndoJoin, WipeDisk,
};
use microcloud::services::lxd::Lxd;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(120);

/// How often each is run; the fastest counts for both.
const RUNS: usize = 5;

/// The aim at 300 profiles. It stands beside what LXD leaves of it: the time of its own answers.
const FASTER: f64 = 20.0;

/// Agents are not asked: `lxd init` asks none either.
#[derive(Debug)]
struct NoAgents;

#[derive(Debug)]
struct NoAgent(String);

impl NoAgent {
    fn error<T>(&self) -> Result<T, HostError> {
        Err(HostError::Unreachable {
            name: self.0.clone(),
            address: String::new(),
            silent: false,
            reason: "no agent is asked here".to_owned(),
        })
    }
}

impl Hosts for NoAgents {
    fn host(&self, target: &HostTarget) -> Arc<dyn Host> {
        Arc::new(NoAgent(target.name.clone()))
    }
}

#[async_trait]
impl Host for NoAgent {
    async fn report(&self) -> Result<HostReport, HostError> {
        self.error()
    }

    async fn beat(&self) -> Result<Beat, HostError> {
        self.error()
    }

    async fn bootstrap_lxd(&self, _: BootstrapLxd) -> Result<(), HostError> {
        self.error()
    }

    async fn join_lxd(&self, _: JoinLxd) -> Result<(), HostError> {
        self.error()
    }

    async fn undo_join(&self, _: UndoJoin) -> Result<(), HostError> {
        self.error()
    }

    async fn ovn(&self, _: OvnRequest) -> Result<OvnAnswer, HostError> {
        self.error()
    }

    async fn paths(&self, _: PathsRequest) -> Result<PathsReport, HostError> {
        self.error()
    }

    async fn clear_half_made(&self, _: ClearHalfMade) -> Result<(), HostError> {
        self.error()
    }

    async fn wipe_disk(&self, _: WipeDisk) -> Result<(), HostError> {
        self.error()
    }

    async fn ceph(&self, _: CephRequest) -> Result<CephAnswer, HostError> {
        self.error()
    }

    async fn set_trust(&self, _: TrustStore) -> Result<(), HostError> {
        self.error()
    }
}

fn cpu(n: usize) -> usize {
    n % 8 + 1
}

fn resources(count: usize) -> String {
    let one = |n: usize| {
        format!(
            "apiVersion: microcloud.dev/v1\nkind: Profile\nmetadata: {{name: p{n:03}}}\nspec: \
             {{config: {{limits.cpu: {}, limits.memory: 1GiB}}}}\n",
            cpu(n)
        )
    };
    (0..count).map(one).collect::<Vec<_>>().join("---\n")
}

fn preseed(count: usize) -> String {
    let mut text = String::from("profiles:\n");
    for n in 0..count {
        text += &format!(
            "- name: p{n:03}\n  config:\n    limits.cpu: \"{}\"\n    limits.memory: 1GiB\n",
            cpu(n)
        );
    }
    text
}

/// How long something took and what it asked LXD.
struct Run {
    took: Duration,
    seen: Seen,
}

/// `lxd init --preseed` again, unchanged.
fn rerun_preseed(cloud: &Cloud, proxy: &Proxy, count: usize) -> Outcome<Run> {
    proxy.take();
    let words = [
        "env",
        "LXD_SOCKET=/run/counted-lxd.socket",
        "lxd",
        "init",
        "--preseed",
    ];
    let begun = Instant::now();
    cloud.must_with(FIRST, &words, &preseed(count))?;
    Ok(Run {
        took: begun.elapsed(),
        seen: proxy.take(),
    })
}

/// The first round of a fresh controller: the memory is read, everything is looked at, every
/// object is planned and found as written.
async fn first_round(socket: &Path, count: usize) -> Outcome<Duration> {
    let begun = Instant::now();
    let lxd = Lxd::unix(socket)?;
    let memory = Store::new(lxd.clone())
        .read()
        .await?
        .ok_or("there is no memory")?;
    let controller = Controller::start(Config {
        member: FIRST.to_owned(),
        epoch: memory.memory.lease.epoch,
        lxd,
        hosts: Arc::new(NoAgents),
        clock: Clock::system(),
        memory: Some(memory),
        concurrency: CONCURRENCY,
    });
    let ready = async {
        loop {
            let report = controller.status();
            let profiles = report
                .objects
                .iter()
                .filter(|o| o.object.kind == Kind::Profile);
            if profiles.filter(|o| o.ready()).count() > count {
                return;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(LIMIT, ready).await?;
    let took = begun.elapsed();
    // What it would write, it writes now.
    tokio::time::sleep(Duration::from_millis(500)).await;
    controller.stop().await;
    Ok(took)
}

/// The same questions without a controller: the time LXD takes to answer them.
async fn answers_alone(socket: &Path) -> Outcome<Duration> {
    let begun = Instant::now();
    let lxd = Lxd::unix(socket)?;
    lxd.server().await?;
    lxd.projects().await?;
    let (members, groups, pools, network, profiles) = tokio::join!(
        lxd.members(),
        lxd.groups(),
        lxd.pools(),
        lxd.network("default", "lan", None),
        lxd.all_profiles(),
    );
    members?;
    groups?;
    pools?;
    network?;
    profiles?;
    Ok(begun.elapsed())
}

fn time_answers(socket: &Path) -> Outcome<Duration> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(answers_alone(socket))
}

fn rerun_controller(proxy: &Proxy, socket: &Path, count: usize) -> Outcome<Run> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    proxy.take();
    let took = runtime.block_on(first_round(socket, count))?;
    Ok(Run {
        took,
        seen: proxy.take(),
    })
}

fn fastest(runs: Vec<Run>) -> Outcome<Run> {
    let fastest = runs.into_iter().min_by_key(|r| r.took);
    fastest.ok_or_else(|| "nothing was run".into())
}

fn main() -> Outcome {
    formed("b-rerun", 1, |cloud| {
        let listen = cloud.root(FIRST)?.join("run/counted-lxd.socket");
        let proxy = Proxy::start(&listen, &cloud.lxd_socket(FIRST))?;
        let mut rows = Vec::new();
        let (mut aim, mut most) = (0.0, 0.0);
        for count in [20, 100, 300] {
            cloud.write("many.yaml", &resources(count))?;
            cloud.must(FIRST, &["systemctl", "start", "microcloud"])?;
            wait(&format!("{count} profiles"), LIMIT, || {
                let listed = cloud.query(FIRST, "/1.0/profiles")?;
                let found = listed.as_array().map_or(0, Vec::len);
                Ok(if found >= count + 2 {
                    Ok(())
                } else {
                    Err(format!("{found}"))
                })
            })?;
            cloud.wait_ready(FIRST, LIMIT)?;
            std::thread::sleep(Duration::from_secs(2));
            // Two controllers at once would be told apart by their epochs; here is one only.
            cloud.must(FIRST, &["systemctl", "stop", "microcloud"])?;
            let (mut theirs, mut ours) = (Vec::new(), Vec::new());
            let mut alone = Duration::MAX;
            for _ in 0..RUNS {
                alone = alone.min(time_answers(&cloud.lxd_socket(FIRST))?);
                theirs.push(rerun_preseed(cloud, &proxy, count)?);
                ours.push(rerun_controller(&proxy, &listen, count)?);
            }
            if let Some(run) = ours.iter().find(|r| !r.seen.writes.is_empty()) {
                return Err(format!("an unchanged round wrote {:?}", run.seen.writes).into());
            }
            let (theirs, ours) = (fastest(theirs)?, fastest(ours)?);
            aim = theirs.took.as_secs_f64() / ours.took.as_secs_f64();
            most = theirs.took.as_secs_f64() / alone.as_secs_f64();
            rows.push(format!(
                "| {count} | {:.0} ms | {} | {} | {:.0} ms | {:.0} ms | {} | {} | {aim:.1} | {most:.1} | {:.1} |",
                theirs.took.as_secs_f64() * 1000.0,
                theirs.seen.requests,
                theirs.seen.writes.len(),
                ours.took.as_secs_f64() * 1000.0,
                alone.as_secs_f64() * 1000.0,
                ours.seen.requests,
                ours.seen.writes.len(),
                theirs.seen.requests as f64 / ours.seen.requests.max(1) as f64,
            ));
        }
        let mut page = Page::new(
            "rerun.md",
            "An unchanged re-run, beside `lxd init --preseed`",
            &format!(
                "The same profiles on the same LXD in the same run, the fastest of {RUNS} runs of \
                 each. Both start cold: `lxd init`\nas a process, the controller with nothing but \
                 the address of LXD; requests and writes are counted at the socket."
            ),
            "cargo bench --bench rerun",
        );
        page.line(&versions(cloud)?);
        page.line(
            "| profiles | preseed | requests | writes | microcloud | of it LXD's answers | requests \
             | writes | times faster | at most possible | requests, ratio |",
        );
        page.line("|---|---|---|---|---|---|---|---|---|---|---|");
        rows.iter().for_each(|row| page.line(row));
        page.line("");
        page.line(&format!(
            "The aim is {FASTER:.0} times faster at 300 profiles: {}. \"At most possible\" is what a \
             controller that takes no time\nitself would reach: LXD needs that long to answer the \
             questions alone, because it looks through all profiles for\nwhat uses a pool or a network.",
            if aim >= FASTER {
                "met".to_owned()
            } else {
                format!("not met, {aim:.1} of {most:.1} that are possible")
            }
        ));
        page.keep()?;
        Ok(())
    })
}
