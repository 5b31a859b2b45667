//! How long the forming of the whole takes, phase by phase, beside a script of the services' own
//! commands in the same order.

mod common;

use common::proof::{Page, versions};
use common::real::{Cloud, FIRST, Outcome, wait};
use common::{ovn, raw, whole};
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(180);

/// How often each is measured; the middle one counts.
const TIMES: usize = 3;

/// Until the router answers from outside: what both ways are for.
fn answers(cloud: &Cloud) -> Outcome {
    wait("the router answers", LIMIT, || ovn::ping(cloud))
}

/// The steps the controller did, and when from its start.
fn steps(cloud: &Cloud, begun: f64) -> Outcome<Vec<(f64, String)>> {
    let words = "journalctl -u microcloud -o short-unix --no-pager -q";
    let said = cloud.must(FIRST, &["sh", "-c", words])?;
    let steps = said.lines().filter_map(|line| {
        let at: f64 = line.split_whitespace().next()?.parse().ok()?;
        let (_, done) = line.split_once("controller::round: ")?;
        Some((at - begun, done.split(" object=").next()?.to_owned()))
    });
    Ok(steps.collect())
}

fn unix() -> Outcome<f64> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    Ok(now.as_secs_f64())
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort();
    times[times.len() / 2]
}

#[test]
#[ignore = "takes ten minutes: make prove"]
fn prove_the_phases_of_forming() -> Outcome {
    let mut page = Page::new(
        "phases.md",
        "Forming the whole, phase by phase, beside a script",
        "Three empty hosts become the cluster of `examples/three-node` (LXD, OVN over TLS, Ceph), \
         until everything is\nready and the router answers: once by the agents, once by a script \
         of the services' own commands\n(`tests/common/raw.rs`) that does the same in the same \
         order, in three chains beside each other. Seconds. The\nthree hosts share two cores, so \
         that all that runs beside each other also slows each other down.",
        "scripts/prove prove_phases",
    );
    let (mut by_agents, mut by_script) = (Vec::new(), Vec::new());
    let mut last_steps = Vec::new();
    let mut last_phases = Vec::new();
    for round in 0..TIMES {
        whole::with("t-phases", |cloud| {
            if round == 0 {
                page.line(&versions(cloud)?);
            }
            whole::write(cloud)?;
            let (begun, at) = (Instant::now(), unix()?);
            cloud.start_agents(&whole::HOSTS)?;
            let formed = cloud.wait_formed(&whole::HOSTS, LIMIT);
            last_steps = steps(cloud, at)?;
            formed?;
            answers(cloud)?;
            by_agents.push(begun.elapsed());
            eprintln!("by the agents: {:.1?}", begun.elapsed());
            whole::settled(cloud, LIMIT)
        })?;
        whole::with("t-phases", |cloud| {
            let begun = Instant::now();
            last_phases = raw::form(cloud)?;
            answers(cloud)?;
            by_script.push(begun.elapsed());
            eprintln!("by the script: {:.1?}", begun.elapsed());
            whole::settled(cloud, LIMIT)
        })?;
    }
    let list = |times: &[Duration]| {
        let all: Vec<String> = times
            .iter()
            .map(|t| format!("{:.1}", t.as_secs_f64()))
            .collect();
        all.join(", ")
    };
    page.line("| | runs | median |\n|---|---|---|");
    let (agents, script) = (list(&by_agents), list(&by_script));
    let ours = median(&mut by_agents).as_secs_f64();
    let theirs = median(&mut by_script).as_secs_f64();
    page.line(&format!("| agents | {agents} | {ours:.1} |"));
    page.line(&format!("| script | {script} | {theirs:.1} |"));
    page.line(&format!(
        "\n**{:.2} times the script** (aim: at most 1.3).\n",
        ours / theirs
    ));
    let before_pool = last_phases
        .iter()
        .filter(|(chain, phase, ..)| *chain != "Ceph" && !phase.contains("remote"))
        .map(|(.., at)| at.as_secs_f64())
        .fold(0.0, f64::max);
    page.line(&format!(
        "Ceph and the pool on it are the critical path: the script had all else after \
         {before_pool:.1} s.\n"
    ));
    page.line("## The script's phases, in the last run\n");
    page.line("| chain | phase | took | done at |\n|---|---|---|---|");
    for (chain, phase, took, at) in &last_phases {
        page.line(&format!(
            "| {chain} | {phase} | {:.1} | {:.1} |",
            took.as_secs_f64(),
            at.as_secs_f64()
        ));
    }
    page.line("\n## The controller's steps, in its last run\n");
    page.line("| done at | step |\n|---|---|");
    for (at, step) in &last_steps {
        page.line(&format!("| {at:.1} | {step} |"));
    }
    page.keep()
}
