//! Forming the whole — LXD, OVN and Ceph — while hosts lose power at random moments: it always ends
//! with the same cloud. Takes half an hour; `make prove` runs it and keeps the table in
//! `docs/proof/whole.md`.

mod common;

use common::proof::{Page, versions};
use common::random::Random;
use common::real::{Cloud, FIRST, Outcome, wait};
use common::{ovn, whole};
use serde_json::Value;
use std::thread;
use std::time::{Duration, Instant};

/// How many hosts lose power, one in each run.
const RUNS: u32 = 20;

/// The moments lie within the time that forming takes when nothing happens, and this much of it.
const SPAN: f64 = 1.1;

/// How long it may take until all is ready.
const LIMIT: Duration = Duration::from_secs(300);

/// How long a host stays off.
const OFF: Duration = Duration::from_secs(3);

struct Run {
    host: Option<&'static str>,
    moment: Duration,
    formed: Option<Duration>,
    result: String,
}

impl Run {
    fn row(&self, number: u32) -> String {
        let formed = self
            .formed
            .map_or("–".to_owned(), |t| format!("{:.1}", t.as_secs_f64()));
        let moment = match self.host {
            None => "–".to_owned(),
            Some(_) => format!("{:.1}", self.moment.as_secs_f64()),
        };
        format!(
            "| {number} | {} | {moment} | {formed} | {} |",
            self.host.unwrap_or("none"),
            self.result
        )
    }

    fn failed(&self) -> bool {
        self.result.starts_with("FAILED")
    }
}

/// Waits until all is there, and compares it with what it must be.
fn compare(cloud: &Cloud, expected: &mut Option<Value>) -> Outcome {
    whole::settled(cloud, LIMIT)?;
    wait("the router answers", LIMIT, || ovn::ping(cloud))?;
    let now = whole::portrait(cloud)?;
    match expected {
        None => *expected = Some(now),
        Some(expected) if *expected == now => {}
        Some(expected) => return Err(format!("another cloud: {now:#}, not {expected:#}").into()),
    }
    Ok(())
}

/// Forms the whole on new hosts, has one lose power at that moment, and waits until all stands.
fn run(host: Option<&'static str>, moment: Duration, expected: &mut Option<Value>) -> Run {
    let mut told = Run {
        host,
        moment,
        formed: None,
        result: String::new(),
    };
    let outcome = whole::with("t-whole", |cloud| {
        whole::write(cloud)?;
        let begun = Instant::now();
        cloud.start_agents(&whole::HOSTS)?;
        if let Some(host) = host {
            thread::sleep(moment.saturating_sub(begun.elapsed()));
            cloud.kill(host)?;
            thread::sleep(OFF);
            cloud.start(host)?;
        }
        cloud.wait_formed(&whole::HOSTS, LIMIT)?;
        told.formed = Some(begun.elapsed());
        compare(cloud, expected)?;
        // Nothing is left to be done, whatever happened on the way.
        cloud.must(FIRST, &["microcloud", "reconcile"])?;
        cloud.wait_ready(FIRST, LIMIT)?;
        cloud.must(FIRST, &["microcloud", "diff"]).map(drop)
    });
    told.result = match outcome {
        Ok(()) => "the same cloud".to_owned(),
        Err(why) => {
            eprintln!("{why}");
            let why = why.to_string();
            format!("FAILED: {}", why.lines().next().unwrap_or_default())
        }
    };
    told
}

#[test]
#[ignore = "takes half an hour: make prove"]
fn prove_forming_the_whole_survives_power_losses() -> Outcome {
    let mut random = Random::of_now()?;
    let mut page = Page::new(
        "whole.md",
        "Forming LXD, OVN and Ceph, with power losses on the way",
        "Three new hosts form the cloud of `examples/three-node`. While they do, one of them loses \
         power at a random\nmoment and comes back three seconds later. Each run must end with all \
         resources ready, all daemons up, the router\nanswering from outside, and with the same \
         members, pools, networks, profiles, OVN servers, chassis, CRUSH\ntree and rules as the \
         run in which nothing went wrong. Seconds from the start of the agents.",
        "scripts/prove prove_whole",
    );
    whole::with("t-whole", |cloud| {
        page.line(&versions(cloud)?);
        Ok(())
    })?;
    page.line(&format!("Seed {}.\n", random.seed()));
    page.line("| run | power loss of | at | formed after | ended with |");
    page.line("|---|---|---|---|---|");
    let mut expected = None;
    let undisturbed = run(None, Duration::ZERO, &mut expected);
    page.line(&undisturbed.row(0));
    let span = undisturbed.formed.ok_or(undisturbed.result)?.mul_f64(SPAN);
    // `PROVE_FROM=N` begins with the Nth, to look into it; the page is only written of all.
    let from = std::env::var("PROVE_FROM").ok();
    let from: u32 = from.and_then(|n| n.parse().ok()).unwrap_or(0);
    let mut failed = Vec::new();
    for number in 1..=RUNS {
        // Spread over the whole time, each somewhere in its part of it.
        let part = (f64::from(number - 1) + random.next()) / f64::from(RUNS);
        let host = whole::HOSTS[usize::try_from(number)? % whole::HOSTS.len()];
        if number < from {
            continue;
        }
        let done = run(Some(host), span.mul_f64(part), &mut expected);
        let row = done.row(number);
        eprintln!("{row}");
        page.line(&row);
        if done.failed() {
            failed.push(row);
        }
    }
    if from == 0 {
        page.keep()?;
    }
    match failed.is_empty() {
        true => Ok(()),
        false => Err(failed.join("\n").into()),
    }
}
