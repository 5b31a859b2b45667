//! Ceph over a longer time, on real hosts: what it costs while nothing happens, and what becomes
//! of a host that is lost where a fourth can take its place.
//!
//! Run with `make prove`; the tables go to `docs/proof/ceph.md`. With `PROVE_CEPH=idle` or
//! `PROVE_CEPH=lost` only that part is tried, and no table written.

mod common;

use common::proof::{Page, versions};
use common::real::{Cloud, FIRST, Outcome, sentence, wait, with};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

const FORMING: Duration = Duration::from_secs(150);
const SOON: Duration = Duration::from_secs(60);

/// How long nothing is done.
const IDLE: Duration = Duration::from_secs(300);

/// After how long a lost host's place is given away here, seconds.
const GRACE: u64 = 20;

/// What an agent, with the process it asks Ceph through, may take of one core.
const LIMIT: f64 = 0.5;

/// The host that is lost, and the one that takes its place.
const LOST: &str = "micro03";
const FOURTH: &str = "micro04";

/// Four members; the first three give a disk each to Ceph.
fn write(cloud: &Cloud) -> Outcome {
    let mut all = format!(
        "apiVersion: microcloud.dev/v1\nkind: Cluster\nmetadata: {{name: demo}}\n\
         spec: {{initiator: {FIRST}, gracePeriod: {GRACE}s, ceph: {{provider: packaged}}}}\n\
         ---\napiVersion: microcloud.dev/v1\nkind: StoragePool\nmetadata: {{name: remote}}\n\
         spec: {{driver: ceph, config: {{ceph.osd.pool_name: lxd_remote}}}}\n"
    );
    for host in cloud.hosts() {
        let conf = "[mon]\nmon_data_avail_crit = 0\n";
        cloud.must_with(&host, &["sh", "-c", "cat > /etc/ceph/ceph.conf"], conf)?;
        let member = cloud.member(&host)?;
        let (member, _) = member.split_once("---").ok_or("another shape")?;
        all += &format!("---\n{member}");
        if host != FOURTH {
            all += &format!(
                "---\napiVersion: microcloud.dev/v1\nkind: Disk\nmetadata: {{name: osd-{host}}}\n\
                 spec: {{member: {host}, match: size >= 1GiB, limit: 1, use: ceph}}\n"
            );
        }
    }
    cloud.write("all.yaml", &all)
}

fn ceph_status(cloud: &Cloud) -> Outcome<serde_json::Value> {
    let words = ["timeout", "20", "ceph", "status", "-f", "json"];
    Ok(serde_json::from_str(&cloud.must(FIRST, &words)?)?)
}

/// The monitors in the quorum.
fn quorum(cloud: &Cloud) -> Outcome<Vec<String>> {
    let status = ceph_status(cloud)?;
    let names = status["quorum_names"].as_array().cloned();
    let mut names: Vec<String> = names
        .unwrap_or_default()
        .iter()
        .filter_map(|n| Some(n.as_str()?.to_owned()))
        .collect();
    names.sort();
    Ok(names)
}

/// The processor time of the agent, of its way to Ceph and of Ceph's daemons on a host, seconds.
fn times(cloud: &Cloud, host: &str) -> Outcome<BTreeMap<String, f64>> {
    let script = "getconf CLK_TCK; for p in $(pgrep -x \
                  'microcloud|python3|ceph-mon|ceph-mgr|ceph-mds|ceph-osd'); do \
                  echo $(cat /proc/$p/comm) $(sed 's/.*) //' /proc/$p/stat | cut -d' ' -f12,13); done";
    let said = cloud.must(host, &["sh", "-c", script])?;
    let mut lines = said.lines();
    let ticks: f64 = lines.next().ok_or("no ticks")?.trim().parse()?;
    let mut times = BTreeMap::new();
    for line in lines {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [name, user, system] = words[..] else {
            continue;
        };
        let spent = (user.parse::<f64>()? + system.parse::<f64>()?) / ticks;
        *times.entry(name.to_owned()).or_default() += spent;
    }
    Ok(times)
}

fn idle(cloud: &Cloud, page: &mut Page) -> Outcome {
    let hosts = cloud.hosts();
    let all = || -> Outcome<Vec<BTreeMap<String, f64>>> {
        hosts.iter().map(|h| times(cloud, h)).collect()
    };
    // What forming still has to do in the background is no idleness.
    std::thread::sleep(Duration::from_secs(30));
    let leader = cloud.leader(FIRST)?;
    let (before, begun) = (all()?, Instant::now());
    std::thread::sleep(IDLE);
    let (after, took) = (all()?, begun.elapsed());
    page.line(&format!(
        "## While nothing happens, over {:.0} s\n\nPercent of one core. The agent that controls \
         asks Ceph twice a second, through a process of its own (`bridge`).\n",
        took.as_secs_f64()
    ));
    page.line("| host | agent | bridge | both | mon | mgr | mds | osd |");
    page.line("|---|---|---|---|---|---|---|---|");
    let mut most: f64 = 0.0;
    for ((host, before), after) in hosts.iter().zip(&before).zip(&after) {
        let share = |name: &str| {
            let spent = |times: &BTreeMap<String, f64>| times.get(name).copied().unwrap_or(0.0);
            (spent(after) - spent(before)) * 100.0 / took.as_secs_f64()
        };
        let (agent, bridge) = (share("microcloud"), share("python3"));
        most = most.max(agent + bridge);
        let who = if *host == leader { " (controls)" } else { "" };
        page.line(&format!(
            "| {host}{who} | {agent:.2} | {bridge:.2} | {:.2} | {:.2} | {:.2} | {:.2} | {:.2} |",
            agent + bridge,
            share("ceph-mon"),
            share("ceph-mgr"),
            share("ceph-mds"),
            share("ceph-osd")
        ));
    }
    page.line("");
    if most > LIMIT {
        return Err(format!("{most:.2} % of a core is more than {LIMIT} %").into());
    }
    Ok(())
}

fn lost(cloud: &Cloud, page: &mut Page) -> Outcome {
    page.line(&format!(
        "## A host is lost where a fourth can take its place\n\n`gracePeriod` is {GRACE} s here; \
         Ceph and LXD have their defaults. Seconds since the power went, and since it came back.\n"
    ));
    page.line("| what | after |\n|---|---|");
    let mut row = |what: &str, begun: Instant| {
        page.line(&format!(
            "| {what} | {:.1} s |",
            begun.elapsed().as_secs_f64()
        ));
    };
    let begun = Instant::now();
    cloud.kill(LOST)?;
    let member = format!("Member/{LOST}");
    let carried = ["osd.", "a monitor of Ceph", "nothing more may be taken"];
    let said = cloud.wait_says(FIRST, &member, &carried, SOON)?;
    row(
        "`status` tells the lost host, what it carried, and what may not be taken away now",
        begun,
    );
    eprintln!("{}", sentence(&said));
    if begun.elapsed() > Duration::from_secs(10) {
        return Err("that is more than 10 s".into());
    }
    let moved = [FIRST, "micro02", FOURTH].map(str::to_owned);
    wait("the monitor moved", SOON, || {
        let now = quorum(cloud)?;
        Ok(if now == moved {
            Ok(())
        } else {
            Err(format!("{now:?}"))
        })
    })?;
    row("another monitor is in the quorum in its place", begun);
    if begun.elapsed() < Duration::from_secs(GRACE) {
        return Err("the place was given away before the grace period was over".into());
    }
    let disk = format!("Disk/osd-{LOST}");
    cloud.wait_says(FIRST, &disk, &[LOST], SOON)?;

    let begun = Instant::now();
    cloud.start(LOST)?;
    cloud.wait_ready(FIRST, SOON)?;
    row("it is back, everything is ready", begun);
    let left = "ls -d /var/lib/ceph/m??/ceph-* 2>/dev/null | wc -l";
    let left = cloud.must(LOST, &["sh", "-c", left])?;
    if left.trim() != "0" {
        return Err(format!("{LOST} still has {left} daemons whose place is taken").into());
    }
    if quorum(cloud)? != moved {
        return Err("the monitor moved back".into());
    }
    let status = ceph_status(cloud)?;
    if status["osdmap"]["num_up_osds"] != 3 {
        return Err(format!("not all OSDs are up: {}", status["osdmap"]).into());
    }
    Ok(())
}

#[test]
#[ignore = "takes ten minutes; make prove"]
fn ceph_while_nothing_happens_and_while_a_host_is_lost() -> Outcome {
    with("prove", 4, |cloud| {
        let mut page = Page::new(
            "ceph.md",
            "Ceph over a longer time",
            "Four real hosts with Ceph from packages; three of them have a monitor, a manager, a \
             metadata server and an OSD.",
            "scripts/prove prove_ceph",
        );
        write(cloud)?;
        let hosts = cloud.hosts();
        let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
        let begun = Instant::now();
        cloud.start_agents(&hosts)?;
        cloud.wait_formed(&hosts, FORMING)?;
        page.line(&versions(cloud)?);
        page.line(&format!(
            "Formed from empty hosts after {:.1} s.\n",
            begun.elapsed().as_secs_f64()
        ));
        let only = std::env::var("PROVE_CEPH").unwrap_or_default();
        if only.is_empty() || only == "idle" {
            idle(cloud, &mut page)?;
        }
        if only.is_empty() || only == "lost" {
            lost(cloud, &mut page)?;
        }
        if only.is_empty() { page.keep() } else { Ok(()) }
    })
}
