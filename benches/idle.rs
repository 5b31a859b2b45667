//! What an agent costs while nothing happens: memory and processor time on a converged cluster.
//!
//! `cargo bench --bench idle` (as root). `MICROCLOUD_IDLE_SECONDS` is how long it is watched, 300
//! unless given.

#[path = "../tests/common/mod.rs"]
mod common;

use common::proof::{Page, versions};
use common::real::{Cloud, Outcome, formed};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// The aims.
const MOST_MEMORY_KIB: u64 = 30 * 1024;
const MOST_PROCESSOR_PERCENT: f64 = 0.2;

/// Clock ticks a second, as `/proc` counts: fixed on Linux.
const TICKS: f64 = 100.0;

struct Use {
    rss_kib: u64,
    peak_kib: u64,
    ticks: u64,
}

fn used(cloud: &Cloud, host: &str) -> Outcome<Use> {
    let pid = cloud.agent_pid(host)?;
    let proc = cloud.root(host)?.join(format!("proc/{pid}"));
    let status = std::fs::read_to_string(proc.join("status"))?;
    let kib = |key: &str| -> Outcome<u64> {
        let line = status.lines().find_map(|l| l.strip_prefix(key));
        let word = line.and_then(|l| l.split_whitespace().next());
        Ok(word
            .ok_or("the status of a process has another shape")?
            .parse()?)
    };
    let stat = std::fs::read_to_string(proc.join("stat"))?;
    // The name, which may hold anything, ends with the last parenthesis; utime and stime are the
    // 12th and 13th word after it.
    let words: Vec<&str> = match stat.rsplit_once(')') {
        Some((_, rest)) => rest.split_whitespace().collect(),
        None => return Err("the stat of a process has another shape".into()),
    };
    let ticks = |at: usize| -> Outcome<u64> { Ok(words.get(at).ok_or("short stat")?.parse()?) };
    Ok(Use {
        rss_kib: kib("VmRSS:")?,
        peak_kib: kib("VmHWM:")?,
        ticks: ticks(11)? + ticks(12)?,
    })
}

fn main() -> Outcome {
    let asked = std::env::var("MICROCLOUD_IDLE_SECONDS").ok();
    let watched = Duration::from_secs(asked.and_then(|s| s.parse().ok()).unwrap_or(300));
    formed("b-idle", 3, |cloud| {
        // What forming left to do is done.
        sleep(Duration::from_secs(30));
        let hosts = cloud.hosts();
        let leader = cloud.leader(&hosts[0])?;
        let requests = cloud.lxd_requests(&hosts[0])?;
        let before: Vec<Use> = hosts
            .iter()
            .map(|h| used(cloud, h))
            .collect::<Outcome<_>>()?;
        let begun = Instant::now();
        sleep(watched);
        let seconds = begun.elapsed().as_secs_f64();
        let after: Vec<Use> = hosts
            .iter()
            .map(|h| used(cloud, h))
            .collect::<Outcome<_>>()?;
        let asked = cloud.lxd_requests(&hosts[0])?;
        let mut page = Page::new(
            "idle.md",
            "What an agent costs while nothing happens",
            &format!(
                "A converged cluster of {}, watched for {seconds:.0} s; nothing differs and nobody asks.",
                hosts.len()
            ),
            "cargo bench --bench idle",
        );
        page.line(&versions(cloud)?);
        page.line("| agent | resident | peak | processor |");
        page.line("|---|---|---|---|");
        let mut worst = (0_u64, 0_f64);
        for ((host, before), after) in hosts.iter().zip(&before).zip(&after) {
            let percent = (after.ticks - before.ticks) as f64 / TICKS / seconds * 100.0;
            worst = (worst.0.max(after.rss_kib), worst.1.max(percent));
            let role = if *host == leader {
                "controls"
            } else {
                "follows"
            };
            page.line(&format!(
                "| {host}, {role} | {:.1} MiB | {:.1} MiB | {percent:.3} % of one core |",
                after.rss_kib as f64 / 1024.0,
                after.peak_kib as f64 / 1024.0,
            ));
        }
        page.line(&format!(
            "\nThe controller sent LXD {} requests, {} of them writes.",
            asked.0 - requests.0,
            asked.1 - requests.1
        ));
        page.keep()?;
        if worst.0 >= MOST_MEMORY_KIB || worst.1 >= MOST_PROCESSOR_PERCENT {
            return Err(format!(
                "the aim is under {} MiB and under {MOST_PROCESSOR_PERCENT} %",
                MOST_MEMORY_KIB / 1024
            )
            .into());
        }
        Ok(())
    })
}
