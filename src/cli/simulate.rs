//! `microcloud simulate`: the same controller on a simulated cloud that fits a directory.
//!
//! Time is simulated: an hour passes as fast as what happens in it can be computed.

mod disturb;
mod drift;
mod machines;
mod report;
mod session;

use super::Exit;
use crate::reconcile::clock::Clock;
use crate::resources::value::ConfigValue;
use crate::resources::{Reading, Resource, Spec, files, render};
use crate::services::host::CephReport;
use crate::simulate::{Count, SimCloud, SimConfig};
use disturb::{Asked, Dice};
use drift::Repair;
pub use machines::fitting;
use report::{Cost, Report};
use session::{Session, Waited};
use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::{Duration, Instant as WallInstant};
use tokio::time::Instant;

/// Arguments of `microcloud simulate`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Files and folders; `-` is the standard input
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,

    /// How much simulated time it may take
    #[arg(long, value_name = "TIME", default_value = "2h", value_parser = humantime::parse_duration)]
    timeout: Duration,

    /// Then change this many things by hand, and see that each comes back
    #[arg(long, value_name = "N", default_value_t = 0)]
    drift: usize,

    /// Disturb the forming this many times: power, links, LXD, lost answers, a killed controller
    #[arg(long, value_name = "N", num_args = 0..=1, default_value_t = 0, default_missing_value = "20")]
    faults: usize,

    /// Where drift and faults come from: the same number gives the same ones
    #[arg(long, default_value_t = 1)]
    seed: u64,

    /// Show what happens even when there are many objects
    #[arg(long)]
    events: bool,

    /// Members whose machines lose their power while the cluster forms, for a minute
    #[arg(long, value_name = "MEMBER")]
    kill: Vec<String>,

    /// How to tell what it came to
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,

    /// The same as --output json
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    /// For people
    Table,
    /// For programs: what it came to, what it cost, the status of every object
    Json,
}

impl Args {
    fn json(&self) -> bool {
        self.json || self.output == Output::Json
    }
}

/// Above this many objects what happens is not shown unless asked for.
const MANY: usize = 100;

/// Runs the command: 0 when everything came to be as written, 1 when not, 2 when the files are
/// not valid.
pub fn run(args: Args) -> Exit {
    let began = WallInstant::now();
    let draft = files::draft(&args.paths, &mut std::io::stdin().lock());
    super::inputs::warn(&draft, &[]);
    let reading = draft.check(&[]);
    let read = began.elapsed();
    if let Some(exit) = invalid(&reading) {
        return exit;
    }
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: cannot start: {error}");
            return Exit::Unreachable;
        }
    };
    let resources = reading.resources;
    let simulated = runtime.block_on(simulate(&args, &resources));
    let mut report = match simulated {
        Ok(report) => report,
        Err(error) => {
            eprintln!("error: {error}");
            return Exit::Invalid;
        }
    };
    report.reading = read;
    report.wall = began.elapsed();
    let text = if args.json() {
        report.json()
    } else {
        report.text()
    };
    super::print(&text);
    if report.as_wanted() {
        Exit::Done
    } else {
        Exit::NotAsWanted
    }
}

fn invalid(reading: &Reading) -> Option<Exit> {
    let errors: Vec<_> = reading.broken.iter().flat_map(|b| &b.diagnostics).collect();
    if errors.is_empty() {
        return None;
    }
    let color = std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
        && std::io::stderr().is_terminal();
    eprint!("{}", render::render(errors.iter().copied(), color));
    eprintln!("\n{}", render::summary(errors.iter().copied()));
    Some(Exit::Invalid)
}

async fn simulate(args: &Args, resources: &[Resource]) -> Result<Report, String> {
    let began = Instant::now();
    let initiator = resources
        .iter()
        .find_map(|r| match &r.spec {
            Spec::Cluster(cluster) => Some(cluster.initiator.clone()),
            _ => None,
        })
        .ok_or("there is no Cluster: a simulated cloud needs a whole directory")?;
    let (machines, notes) = machines::fitting(resources);
    if !machines.iter().any(|m| m.name == initiator) {
        return Err(format!("the initiator {initiator} is not a Member"));
    }
    if let Some(name) = args
        .kill
        .iter()
        .find(|k| !machines.iter().any(|m| m.name == **k))
    {
        return Err(format!("--kill {name}: there is no such Member"));
    }
    let cloud = SimCloud::new(SimConfig {
        seed: args.seed,
        ..SimConfig::with(machines)
    });
    let quiet = args.json() || (resources.len() > MANY && !args.events);
    // One for all controllers: the next one must not live in an earlier time.
    let clock = Clock::system();
    let started = clock.now();
    let tell = move |event: &crate::reconcile::history::Event| {
        if !quiet {
            super::print(&report::event_line(started, event));
        }
    };
    let mut session = Session::start(cloud, &initiator, clock, Box::new(tell)).await;
    let mut dice = Dice::new(args.seed);
    let deadline = began + args.timeout;
    session.apply(resources).await?;
    lose_power(&session.cloud, &args.kill);
    let mut disturbances = Vec::new();
    disturb(
        &mut session,
        args.faults,
        &mut dice,
        &mut disturbances,
        quiet,
    )
    .await;
    let waited = session.settle(deadline).await;
    let forming = cost(&session, Cost::default(), began.elapsed());
    let mut report = Report {
        waited,
        objects: resources.len(),
        machines: session.cloud.machines().len(),
        forming,
        notes,
        disturbances,
        ..Report::default()
    };
    if waited == Waited::Converged {
        quiet_down().await;
        session.looked().await;
        report.idle = idle(&session).await;
        report.change = change_one(&mut session, resources).await?;
        if args.drift > 0 {
            report.repairs = drift::drift(&mut session, resources, args.drift, &mut dice).await;
            report.waited = session.settle(Instant::now() + args.timeout).await;
        }
    }
    session.told();
    report.simulated = began.elapsed();
    report.status = session.status().objects;
    report.ceph = ceph(&session.cloud);
    Ok(report)
}

/// What the machines have of Ceph.
fn ceph(cloud: &SimCloud) -> Vec<(String, CephReport)> {
    let machines = cloud.machines().into_iter();
    machines
        .map(|name| (name.clone(), cloud.report(&name).ceph))
        .filter(|(_, has)| !has.daemons.is_empty() || !has.osds.is_empty())
        .collect()
}

/// Lets what is recorded after the last step go out, and the last events arrive.
async fn quiet_down() {
    tokio::time::sleep(Duration::from_secs(30)).await;
}

/// Takes the power from machines in the midst of the forming, for a minute.
fn lose_power(cloud: &SimCloud, members: &[String]) {
    for member in members {
        let (cloud, member) = (cloud.clone(), member.clone());
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(300)).await;
            cloud.kill_host(&member);
            tokio::time::sleep(Duration::from_secs(60)).await;
            cloud.start_host(&member);
        });
    }
}

/// Disturbs the cloud a number of times while it forms.
async fn disturb(
    session: &mut Session,
    times: usize,
    dice: &mut Dice,
    done: &mut Vec<String>,
    quiet: bool,
) {
    for _ in 0..times {
        let pause = 50 + u64::try_from(dice.roll(600)).unwrap_or(0);
        tokio::time::sleep(Duration::from_millis(pause)).await;
        session.told();
        let leader = session.member().to_owned();
        let (what, asked) = disturb::once(&session.cloud, &leader, dice).await;
        if !quiet {
            super::print(&format!("      ----  {what}\n"));
        }
        done.push(what);
        if asked == Asked::Crash {
            session.crash().await;
        }
    }
    session.cloud.clear_faults();
}

/// What was spent since `before`.
fn cost(session: &Session, before: Cost, took: Duration) -> Cost {
    let counters = session.counters();
    let counts = session.cloud.counts();
    let agents = counts.of_class(crate::simulate::PathClass::Agent);
    let ceph = counts.of_class(crate::simulate::PathClass::Ceph);
    let Count { requests, writes } = counts.total();
    let all = Cost {
        took,
        requests: requests - agents.requests - ceph.requests,
        writes: writes - agents.writes - ceph.writes,
        agent_calls: agents.requests,
        ceph_commands: ceph.requests,
        ceph_writes: ceph.writes,
        plans: counters.plans,
        steps: counters.steps,
    };
    all.since(before)
}

/// What a minute costs in which nothing differs.
async fn idle(session: &Session) -> Cost {
    let before = cost(session, Cost::default(), Duration::ZERO);
    let minute = Duration::from_secs(60);
    tokio::time::sleep(minute).await;
    cost(session, before, minute)
}

/// What it costs to change one profile, if there is one.
async fn change_one(session: &mut Session, resources: &[Resource]) -> Result<Option<Cost>, String> {
    let Some(mut changed) = resources
        .iter()
        .filter(|r| matches!(r.spec, Spec::Profile(_)))
        // One that LXD makes itself is adopted, which is a case of its own.
        .max_by_key(|r| r.metadata.name != "default")
        .cloned()
    else {
        return Ok(None);
    };
    let original = changed.clone();
    if let Spec::Profile(profile) = &mut changed.spec {
        let value = ConfigValue::Plain("1".into());
        profile.config.insert("user.simulated-change".into(), value);
    }
    let before = cost(session, Cost::default(), Duration::ZERO);
    let began = Instant::now();
    session.apply(std::slice::from_ref(&changed)).await?;
    session.settle(began + Duration::from_secs(600)).await;
    let took = began.elapsed();
    // Until what is recorded about it was written.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let spent = cost(session, before, took);
    session.apply(std::slice::from_ref(&original)).await?;
    session
        .settle(Instant::now() + Duration::from_secs(600))
        .await;
    quiet_down().await;
    Ok(Some(spent))
}

/// How many of the changes by hand did not come back.
fn not_repaired(repairs: &[Repair]) -> usize {
    repairs.iter().filter(|r| r.took.is_none()).count()
}
