//! A large directory in the simulated cloud: a thousand members, ten thousand resources. What it
//! costs to converge, and what one changed file costs afterwards beside a directory of ten.
//!
//! `cargo bench --bench scale`. `MICROCLOUD_SCALE_MEMBERS` is the number of members, 1000 unless
//! given; there are ten times as many resources. The page of the full size is kept in
//! `docs/proof/scale.md`.

#[path = "../tests/common/mod.rs"]
mod common;

use common::proof::Page;
use microcloud::reconcile::clock::Clock;
use microcloud::reconcile::controller::{CONCURRENCY, Config, Controller};
use microcloud::reconcile::store;
use microcloud::resources::{Reading, directory};
use microcloud::services::lxd::Lxd;
use microcloud::simulate::{PathClass, SimCloud, SimConfig};
use std::error::Error;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

/// The aim: what one changed resource may cost more in the large directory than in the small one.
const MOST: f64 = 3.0;

/// How many members the large directory has unless told otherwise.
const FULL: usize = 1000;

fn document(kind: &str, name: &str, spec: &str) -> String {
    format!(
        "apiVersion: microcloud.dev/v1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {spec}\n"
    )
}

fn profile(n: usize, cpu: u32) -> String {
    document(
        "Profile",
        &format!("p{n:05}"),
        &format!(
            "{{config: {{limits.cpu: {cpu}}}, devices: {{root: {{type: disk, path: /, pool: local}}}}}}"
        ),
    )
}

/// Writes a directory of so many members and resources, and says how many profiles it has. Each
/// member has a file; profiles are ten to a file but for the first, which changes later.
fn write(path: &Path, members: usize, resources: usize) -> std::io::Result<usize> {
    let config = SimConfig::of(members);
    let first = &config.machines[0].name;
    fs::create_dir_all(path.join("members"))?;
    fs::create_dir_all(path.join("profiles"))?;
    let cluster = format!("{{initiator: {first}, deletionLimit: 10}}");
    fs::write(
        path.join("cluster.yaml"),
        document("Cluster", "demo", &cluster),
    )?;
    let things = document("StoragePool", "local", "{driver: dir}")
        + "---\n"
        + &document(
            "Network",
            "lan",
            "{type: bridge, config: {ipv4.address: 10.99.0.1/24, ipv6.address: none}}",
        );
    fs::write(path.join("things.yaml"), things)?;
    for machine in &config.machines {
        let spec = format!("{{address: {}}}", machine.address);
        let file = path.join("members").join(format!("{}.yaml", machine.name));
        fs::write(file, document("Member", &machine.name, &spec))?;
    }
    let profiles = resources - members - 3;
    fs::write(path.join("profiles/first.yaml"), profile(0, 1))?;
    let rest: Vec<usize> = (1..profiles).collect();
    for (n, ten) in rest.chunks(10).enumerate() {
        let text: Vec<String> = ten.iter().map(|n| profile(*n, 1)).collect();
        fs::write(
            path.join(format!("profiles/{n:04}.yaml")),
            text.join("---\n"),
        )?;
    }
    Ok(profiles)
}

/// What something cost.
#[derive(Debug, Clone, Copy, Default)]
struct Cost {
    /// Requests to LXD, with writes.
    requests: u64,
    writes: u64,
    /// Calls to agents: heartbeats and looks.
    agents: u64,
    plans: u64,
    real: Duration,
    simulated: Duration,
}

impl Cost {
    fn since(self, before: Cost) -> Cost {
        Cost {
            requests: self.requests - before.requests,
            writes: self.writes - before.writes,
            agents: self.agents - before.agents,
            plans: self.plans - before.plans,
            real: self.real - before.real,
            simulated: self.simulated - before.simulated,
        }
    }
}

struct Outcome {
    reading: Duration,
    members: usize,
    resources: usize,
    form: Cost,
    rest: Cost,
    reading_again: Duration,
    change: Cost,
    memory_kib: f64,
    peak_mib: f64,
}

fn peak_mib() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    let kib: f64 = line
        .and_then(|l| l.split_whitespace().next())
        .and_then(|w| w.parse().ok())
        .unwrap_or_default();
    kib / 1024.0
}

/// When counting began, on both clocks.
#[derive(Clone, Copy)]
struct Clocks(Instant, tokio::time::Instant);

fn cost(cloud: &SimCloud, controller: &Controller, since: Clocks) -> Cost {
    let counts = cloud.counts();
    let (total, agents) = (counts.total(), counts.of_class(PathClass::Agent));
    Cost {
        requests: total.requests - agents.requests,
        writes: total.writes - agents.writes,
        agents: agents.requests,
        plans: controller.counters().plans,
        real: since.0.elapsed(),
        simulated: since.1.elapsed(),
    }
}

async fn settled(controller: &Controller) -> Result<(), String> {
    let wait = async {
        while !controller.all_ready() {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    if tokio::time::timeout(Duration::from_secs(24 * 3600), wait)
        .await
        .is_err()
    {
        let status = controller.status();
        let late = status.objects.iter().filter(|o| !o.ready());
        let late: Vec<String> = late
            .map(|o| format!("{}: {:?}", o.object, o.conditions))
            .collect();
        return Err(format!(
            "{} objects are not ready: {:#?}",
            late.len(),
            &late[..late.len().min(5)]
        ));
    }
    Ok(())
}

async fn run(
    path: &Path,
    members: usize,
    reading: Reading,
    took: Duration,
) -> Result<Outcome, Box<dyn Error>> {
    let config = SimConfig::of(members);
    let first = config.machines[0].name.clone();
    let cloud = SimCloud::new(config);
    let controller = Controller::start(Config {
        member: first.clone(),
        epoch: 1,
        lxd: Lxd::new(cloud.transport(&first)),
        hosts: cloud.hosts(&first, Arc::new(AtomicU64::new(1))),
        clock: Clock::system(),
        memory: None,
        concurrency: CONCURRENCY,
    });
    let clocks = Clocks(Instant::now(), tokio::time::Instant::now());
    controller.submit(&reading).await?;
    settled(&controller).await?;
    let form = cost(&cloud, &controller, clocks);

    // What is recorded goes out, and the full look that is due every five minutes is made: there is
    // none in what is measured then.
    tokio::time::sleep(Duration::from_secs(60)).await;
    let looks = controller.counters().looks;
    while controller.counters().looks == looks {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    let before = cost(&cloud, &controller, clocks);
    tokio::time::sleep(Duration::from_secs(60)).await;
    let rest = cost(&cloud, &controller, clocks).since(before);

    // One file changes.
    fs::write(path.join("profiles/first.yaml"), profile(0, 2))?;
    let begun = Instant::now();
    let changed = directory::read(path);
    let reading_again = begun.elapsed();
    let before = cost(&cloud, &controller, clocks);
    controller.submit(&changed).await?;
    settled(&controller).await?;
    // What is recorded of it goes out within a moment.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let change = cost(&cloud, &controller, clocks).since(before);
    let lxd = cloud.hand(&first);
    let written = lxd.profile("default", "p00000").await?.value;
    if written.config.get("limits.cpu").map(String::as_str) != Some("2") {
        return Err("the change was not applied".into());
    }
    let memory = lxd.project(store::PROJECT).await?.value.config;
    let memory: usize = memory.values().map(String::len).sum();
    controller.stop().await;
    Ok(Outcome {
        reading: took,
        members,
        resources: reading.resources.len(),
        form,
        rest,
        reading_again,
        change,
        memory_kib: memory as f64 / 1024.0,
        peak_mib: peak_mib(),
    })
}

fn measure(members: usize, resources: usize) -> Result<Outcome, Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    write(dir.path(), members, resources)?;
    let begun = Instant::now();
    let reading = directory::read(dir.path());
    let took = begun.elapsed();
    if let Some(broken) = reading.broken.first() {
        return Err(format!("{}: {:?}", broken.file, broken.diagnostics).into());
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()?;
    runtime.block_on(run(dir.path(), members, reading, took))
}

/// One line: what, in both directories, and how much more in the large one where that says
/// something.
fn row(page: &mut Page, what: &str, small: String, large: String, ratio: Option<f64>) {
    let ratio = ratio.map_or_else(String::new, |r| format!("{r:.2}"));
    page.line(&format!("| {what} | {small} | {large} | {ratio} |"));
}

fn table(page: &mut Page, small: &Outcome, large: &Outcome) {
    let head = |o: &Outcome| format!("{} resources, {} members", o.resources, o.members);
    page.line(&format!("| | {} | {} | ratio |", head(small), head(large)));
    page.line("|---|---|---|---|");
    let mut time = |what: &str, of: &dyn Fn(&Outcome) -> Duration| {
        let show = |o: &Outcome| format!("{:.4} s", of(o).as_secs_f64());
        row(page, what, show(small), show(large), None);
    };
    time("time to read the directory", &|o| o.reading);
    time("time to converge, with the simulated cloud", &|o| {
        o.form.real
    });
    time("the same on the cloud's clock", &|o| o.form.simulated);
    let mut count = |what: &str, of: &dyn Fn(&Outcome) -> u64, ratio: bool| {
        let (a, b) = (of(small), of(large));
        let ratio = ratio.then(|| times(b, a));
        row(page, what, a.to_string(), b.to_string(), ratio);
    };
    count(
        "requests to LXD while it forms",
        &|o| o.form.requests,
        false,
    );
    count("of them writes", &|o| o.form.writes, false);
    count("plans", &|o| o.form.plans, false);
    count(
        "a minute of rest: requests to LXD",
        &|o| o.rest.requests,
        false,
    );
    count("a minute of rest: heartbeats", &|o| o.rest.agents, false);
    count(
        "one changed file: requests to LXD",
        &|o| o.change.requests,
        true,
    );
    count("one changed file: writes", &|o| o.change.writes, true);
    count("one changed file: plans", &|o| o.change.plans, true);
    let mut time = |what: &str, of: &dyn Fn(&Outcome) -> Duration| {
        let show = |o: &Outcome| format!("{:.4} s", of(o).as_secs_f64());
        row(page, what, show(small), show(large), None);
    };
    time("one changed file: time to read the directory again", &|o| {
        o.reading_again
    });
    time(
        "one changed file: time from there until it is recorded, heartbeats included",
        &|o| o.change.real,
    );
    let mut size = |what: &str, unit: &str, of: &dyn Fn(&Outcome) -> f64| {
        let show = |o: &Outcome| format!("{:.0} {unit}", of(o));
        row(page, what, show(small), show(large), None);
    };
    size("the controller's memory in LXD's database", "KiB", &|o| {
        o.memory_kib
    });
    size(
        "most memory resident, the simulated cloud included",
        "MiB",
        &|o| o.peak_mib,
    );
}

fn times(large: u64, small: u64) -> f64 {
    large as f64 / small.max(1) as f64
}

fn main() -> Result<(), Box<dyn Error>> {
    let asked = std::env::var("MICROCLOUD_SCALE_MEMBERS").ok();
    let members: usize = asked.and_then(|s| s.parse().ok()).unwrap_or(FULL);
    let small = measure(3, 10)?;
    let large = measure(members, members * 10)?;
    let mut page = Page::new(
        "scale.md",
        "A large directory, and what one changed file costs in it",
        &format!(
            "The same controller on a simulated cloud of as many machines as the directory lists: \
             a file for each\nmember, a pool, a network, profiles ten to a file. Time stands still \
             in the simulation while something\nis computed; both clocks are given. Heartbeats go \
             to every agent every 2 s, whatever happens, and are\ncounted apart. The aim: one \
             changed file costs at most {MOST} times the requests, writes and plans that it\ncosts \
             in the small directory."
        ),
        "cargo bench --bench scale",
    );
    page.line(&format!(
        "microcloud {}, simulated LXD {}, {} processors\n",
        env!("CARGO_PKG_VERSION"),
        SimConfig::of(1).machines[0].lxd_version,
        std::thread::available_parallelism().map_or(0, usize::from),
    ));
    table(&mut page, &small, &large);
    if members == FULL {
        page.keep()?;
    }
    let ratios = [
        times(large.change.requests, small.change.requests),
        times(large.change.writes, small.change.writes),
        times(large.change.plans, small.change.plans),
    ];
    if ratios.iter().any(|ratio| *ratio > MOST) {
        return Err(format!("the aim is at most {MOST}").into());
    }
    Ok(())
}
