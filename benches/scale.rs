//! A large directory in the simulated cloud: a thousand members, ten thousand resources. What it
//! costs to converge, and what one changed file costs afterwards beside a directory of ten.
//!
//! `cargo bench --bench scale`. `MICROCLOUD_SCALE_MEMBERS` is the number of members, 1000 unless
//! given; there are ten times as many resources.

use microcloud::reconcile::clock::Clock;
use microcloud::reconcile::controller::{CONCURRENCY, Config, Controller};
use microcloud::resources::{Reading, directory};
use microcloud::services::lxd::Lxd;
use microcloud::simulate::{SimCloud, SimConfig};
use std::error::Error;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

/// The aim: what one changed resource may cost more in the large directory than in the small one.
const MOST: f64 = 3.0;

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
    requests: u64,
    writes: u64,
    plans: u64,
    real: Duration,
}

struct Outcome {
    reading: Duration,
    resources: usize,
    form: Cost,
    simulated: Duration,
    change: Cost,
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

fn cost(cloud: &SimCloud, controller: &Controller, since: Instant) -> Cost {
    let total = cloud.counts().total();
    Cost {
        requests: total.requests,
        writes: total.writes,
        plans: controller.status().counters.plans,
        real: since.elapsed(),
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
    // What is recorded once everything is done goes out within a moment.
    tokio::time::sleep(Duration::from_secs(3)).await;
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
    let begun = Instant::now();
    let simulated = tokio::time::Instant::now();
    controller.submit(&reading).await?;
    settled(&controller).await?;
    let simulated = simulated.elapsed();
    let form = cost(&cloud, &controller, begun);
    // One file changes.
    fs::write(path.join("profiles/first.yaml"), profile(0, 2))?;
    let changed = directory::read(path);
    // A round that the clock had due anyway is not counted: there is none before the interval.
    let before = cost(&cloud, &controller, Instant::now());
    let begun = Instant::now();
    controller.submit(&changed).await?;
    settled(&controller).await?;
    let after = cost(&cloud, &controller, begun);
    let lxd = cloud.hand(&first);
    let written = lxd.profile("default", "p00000").await?.value;
    if written.config.get("limits.cpu").map(String::as_str) != Some("2") {
        return Err("the change was not applied".into());
    }
    controller.stop().await;
    Ok(Outcome {
        reading: took,
        resources: reading.resources.len(),
        form,
        simulated,
        change: Cost {
            requests: after.requests - before.requests,
            writes: after.writes - before.writes,
            plans: after.plans - before.plans,
            real: after.real,
        },
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

fn show(outcome: &Outcome, members: usize) {
    let Outcome { form, change, .. } = outcome;
    println!("{} resources, {members} members", outcome.resources);
    println!("  read in {:.2?}", outcome.reading);
    println!(
        "  converged in {:.1?} of real time ({:.0?} simulated): {} requests, {} writes, {} plans",
        form.real, outcome.simulated, form.requests, form.writes, form.plans
    );
    println!(
        "  memory at most {:.0} MiB, the simulated cloud included",
        outcome.peak_mib
    );
    println!(
        "  one changed file: {} requests, {} writes, {} plans, {:.2?} of real time",
        change.requests, change.writes, change.plans, change.real
    );
}

fn main() -> Result<(), Box<dyn Error>> {
    let asked = std::env::var("MICROCLOUD_SCALE_MEMBERS").ok();
    let members: usize = asked.and_then(|s| s.parse().ok()).unwrap_or(1000);
    let small = measure(3, 10)?;
    show(&small, 3);
    let large = measure(members, members * 10)?;
    show(&large, members);
    let ratio = |large: u64, small: u64| large as f64 / small.max(1) as f64;
    let ratios = [
        (
            "requests",
            ratio(large.change.requests, small.change.requests),
        ),
        ("writes", ratio(large.change.writes, small.change.writes)),
        ("plans", ratio(large.change.plans, small.change.plans)),
    ];
    println!("one changed file, large beside small:");
    for (what, ratio) in ratios {
        println!("  {what}: {ratio:.2}");
    }
    if ratios.iter().any(|(_, ratio)| *ratio > MOST) {
        return Err(format!("the aim is at most {MOST}").into());
    }
    Ok(())
}
