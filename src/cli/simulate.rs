//! `microcloud simulate`: the same controller on a simulated cloud, without root, in seconds.

use super::Exit;
use crate::reconcile::clock::Clock;
use crate::reconcile::controller::{CONCURRENCY, Config, Controller, Counters};
use crate::reconcile::history::{Event, Severity};
use crate::reconcile::status::ObjectStatus;
use crate::resources::kinds::{DiskSpec, MemberSpec};
use crate::resources::{Kind, Reading, Resource, Spec, directory};
use crate::services::host::DiskReport;
use crate::services::lxd::Lxd;
use crate::services::lxd::requests::ProfilePut;
use crate::simulate::{MachineConfig, SimCloud, SimConfig, blank_disk};
use serde::Serialize;
use std::fmt::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

/// Arguments of `microcloud simulate`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The directory of resources
    path: PathBuf,
    /// How much simulated time it may take to converge
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration, default_value = "1h")]
    timeout: Duration,
    /// Change this many profiles by hand afterwards, one after another, and watch the repair
    #[arg(long, value_name = "N", default_value_t = 0)]
    drift: usize,
    /// Member hosts that lose power while the cluster forms, and come back a minute later
    #[arg(long, value_name = "MEMBER")]
    kill: Vec<String>,
    /// Print everything that happened
    #[arg(long)]
    events: bool,
    /// The format
    #[arg(short, long, default_value = "table")]
    output: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Table,
    Json,
}

/// What a simulation found.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Outcome {
    /// Whether everything is as written.
    converged: bool,
    /// How many resources and members there are.
    resources: usize,
    members: usize,
    /// Simulated seconds until everything was as written.
    simulated_seconds: f64,
    /// Seconds reading the directory, and seconds for the rest, of real time.
    reading_seconds: f64,
    real_seconds: f64,
    /// Requests and writes sent to the simulated services.
    requests: u64,
    writes: u64,
    counters: Counters,
    /// Simulated milliseconds until each change by hand was repaired.
    repairs: Vec<u64>,
    objects: Vec<ObjectStatus>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    events: Vec<Event>,
}

/// Runs the command.
pub fn run(args: Args) -> Exit {
    let started = Instant::now();
    let reading = directory::read(&args.path);
    let read = started.elapsed();
    if let Some(reason) = &reading.unreadable {
        eprintln!("{}: {reason}", args.path.display());
        return Exit::Invalid;
    }
    if !reading.broken.is_empty() {
        for diagnostic in reading.broken.iter().flat_map(|b| &b.diagnostics) {
            eprintln!("{diagnostic}");
        }
        return Exit::Invalid;
    }
    // Time stands still unless everything waits: minutes pass in milliseconds.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("cannot start: {error}");
            return Exit::Unreachable;
        }
    };
    match runtime.block_on(simulate(&args, &reading, read)) {
        Ok(outcome) => {
            match args.output {
                Format::Json => match serde_json::to_string_pretty(&outcome) {
                    Ok(text) => super::print(&(text + "\n")),
                    Err(error) => eprintln!("cannot print: {error}"),
                },
                Format::Table => super::print(&table(&outcome)),
            }
            if outcome.converged {
                Exit::Done
            } else {
                Exit::NotAsWanted
            }
        }
        Err(message) => {
            eprintln!("{message}");
            Exit::Invalid
        }
    }
}

async fn simulate(args: &Args, reading: &Reading, read: Duration) -> Result<Outcome, String> {
    let started = Instant::now();
    let members: Vec<(&str, &MemberSpec)> = reading
        .resources
        .iter()
        .filter_map(|r| match &r.spec {
            Spec::Member(spec) => Some((r.metadata.name.as_str(), spec)),
            _ => None,
        })
        .collect();
    let initiator = reading
        .resources
        .iter()
        .find_map(|r| match &r.spec {
            Spec::Cluster(spec) => Some(spec.initiator.clone()),
            _ => None,
        })
        .ok_or("no Cluster says what to form")?;
    for name in &args.kill {
        if !members.iter().any(|(member, _)| member == name) {
            return Err(format!("--kill {name}: there is no such Member"));
        }
    }
    let machines = members
        .iter()
        .map(|(name, spec)| machine(name, spec, reading))
        .collect();
    let cloud = SimCloud::new(SimConfig::with(machines));
    let controller = Controller::start(Config {
        member: initiator.clone(),
        epoch: 1,
        lxd: Lxd::new(cloud.transport(&initiator)),
        hosts: cloud.hosts(&initiator, Arc::new(AtomicU64::new(1))),
        clock: Clock::system(),
        memory: None,
        concurrency: CONCURRENCY,
    });
    let begun = tokio::time::Instant::now();
    let formed = async {
        controller
            .submit(reading)
            .await
            .map_err(|e| e.to_string())?;
        lose_power(&cloud, &args.kill).await;
        settled(&controller, args.timeout).await;
        Ok::<_, String>(())
    };
    formed.await?;
    let converged = controller.all_ready();
    let simulated = begun.elapsed();
    let mut repairs = Vec::new();
    if converged {
        repairs = drift(args.drift, reading, &cloud, &initiator, args.timeout).await;
    }
    let counts = cloud.counts().total();
    let report = controller.status();
    let events = if args.events {
        controller.events(0)
    } else {
        Vec::new()
    };
    controller.stop().await;
    Ok(Outcome {
        converged: converged && repairs.len() == args.drift,
        resources: reading.resources.len(),
        members: members.len(),
        simulated_seconds: simulated.as_secs_f64(),
        reading_seconds: read.as_secs_f64(),
        real_seconds: started.elapsed().as_secs_f64(),
        requests: counts.requests,
        writes: counts.writes,
        counters: report.counters,
        repairs,
        objects: report.objects,
        events,
    })
}

async fn settled(controller: &Controller, timeout: Duration) {
    let wait = async {
        while !controller.all_ready() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    // Whether it did is asked afterwards.
    let _ = tokio::time::timeout(timeout, wait).await;
}

async fn lose_power(cloud: &SimCloud, members: &[String]) {
    if members.is_empty() {
        return;
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    for member in members {
        cloud.kill_host(member);
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    for member in members {
        cloud.start_host(member);
    }
}

/// A machine that fits its `Member` and the disks that are wanted of it.
fn machine(name: &str, spec: &MemberSpec, reading: &Reading) -> MachineConfig {
    let mut machine = MachineConfig::new(name, spec.address);
    if let Some(fingerprint) = &spec.fingerprint {
        machine.fingerprint.clone_from(fingerprint);
    }
    let disks = reading.resources.iter().filter_map(|r| match &r.spec {
        Spec::Disk(disk) if speaks_of(disk, name) => Some(disk),
        _ => None,
    });
    for (n, disk) in disks.enumerate() {
        machine.disks.extend(offered(name, n, disk));
    }
    machine
}

fn speaks_of(disk: &DiskSpec, member: &str) -> bool {
    disk.member.as_deref() == Some(member)
        || disk
            .members
            .as_ref()
            .is_some_and(|m| m.iter().any(|name| name == member))
}

/// Disks of which a `Disk` finds one: at its path, or of the usual sizes and types.
fn offered(member: &str, number: usize, disk: &DiskSpec) -> Vec<DiskReport> {
    if let Some(path) = &disk.path {
        let mut report = blank_disk(&format!("{member}-path{number}"), 100 << 30);
        report.links.push(path.clone());
        return vec![report];
    }
    [
        ("nvme", 1_u64 << 40, false),
        ("scsi", 4 << 40, true),
        ("virtio", 100 << 30, false),
    ]
    .into_iter()
    .map(|(kind, size, rotational)| DiskReport {
        disk_type: kind.to_owned(),
        rotational,
        ..blank_disk(&format!("{member}-{kind}{number}"), size)
    })
    .collect()
}

/// Changes profiles by hand and measures how long each repair takes, in simulated milliseconds.
async fn drift(
    count: usize,
    reading: &Reading,
    cloud: &SimCloud,
    member: &str,
    timeout: Duration,
) -> Vec<u64> {
    let profiles: Vec<&Resource> = reading
        .resources
        .iter()
        .filter(|r| r.kind() == Kind::Profile)
        .collect();
    let hand = cloud.hand(member);
    let mut repairs = Vec::new();
    for profile in profiles
        .iter()
        .cycle()
        .take(if profiles.is_empty() { 0 } else { count })
    {
        let reference = profile.reference();
        let (project, name) = (&reference.project, &reference.name);
        let Ok(before) = hand.profile(project, name).await else {
            break;
        };
        // Everything goes: config and devices.
        if hand
            .put_profile(project, name, &ProfilePut::default(), None)
            .await
            .is_err()
        {
            break;
        }
        let changed = tokio::time::Instant::now();
        let repaired = async {
            loop {
                tokio::time::sleep(Duration::from_millis(5)).await;
                if let Ok(now) = hand.profile(project, name).await {
                    let same = now.value.config == before.value.config
                        && now.value.devices == before.value.devices;
                    if same {
                        return;
                    }
                }
            }
        };
        if tokio::time::timeout(timeout, repaired).await.is_err() {
            break;
        }
        repairs.push(u64::try_from(changed.elapsed().as_millis()).unwrap_or(u64::MAX));
        // A field that is changed too often is left alone for a while.
        tokio::time::sleep(Duration::from_secs(90)).await;
    }
    repairs
}

fn table(outcome: &Outcome) -> String {
    let mut text = String::new();
    for event in &outcome.events {
        let mark = if event.severity == Severity::Warning {
            '!'
        } else {
            ' '
        };
        let object = event
            .object
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default();
        let _ = writeln!(
            text,
            "{mark} {:.3} {object} {}: {}",
            event.at, event.reason, event.message
        );
    }
    const SHOWN: usize = 60;
    let (ready, not): (Vec<&ObjectStatus>, Vec<&ObjectStatus>) =
        outcome.objects.iter().partition(|s| s.ready());
    let rows: Vec<[String; 3]> = not
        .iter()
        .chain(&ready)
        .take(SHOWN)
        .map(|status| {
            let message = status.conditions.first().map_or("", |c| c.message.as_str());
            [
                status.object.to_string(),
                status.word().to_owned(),
                message.to_owned(),
            ]
        })
        .collect();
    let width = rows
        .iter()
        .map(|row| row[0].chars().count())
        .max()
        .unwrap_or(0);
    for [object, word, message] in &rows {
        let _ = writeln!(text, "{object:width$}  {word:11}  {message}");
    }
    if outcome.objects.len() > SHOWN {
        let _ = writeln!(text, "… and {} more", outcome.objects.len() - SHOWN);
    }
    let _ = writeln!(
        text,
        "{} resources on {} members: {} after {:.1} simulated seconds",
        outcome.resources,
        outcome.members,
        if outcome.converged {
            "converged"
        } else {
            "did not converge"
        },
        outcome.simulated_seconds,
    );
    let _ = writeln!(
        text,
        "{} requests, {} of them writes; {} plans, {} steps; read in {:.2} s, simulated in {:.2} s",
        outcome.requests,
        outcome.writes,
        outcome.counters.plans,
        outcome.counters.steps,
        outcome.reading_seconds,
        outcome.real_seconds,
    );
    if !outcome.repairs.is_empty() {
        let mut sorted = outcome.repairs.clone();
        sorted.sort_unstable();
        let _ = writeln!(
            text,
            "{} changes by hand repaired, in the middle after {} simulated ms, at most {} ms",
            sorted.len(),
            sorted[sorted.len() / 2],
            sorted[sorted.len() - 1],
        );
    }
    text
}
