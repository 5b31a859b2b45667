//! What the agents of the whole cost while nothing happens, with OVN and Ceph under LXD.
//!
//! Run with `make prove`; the table goes to `docs/proof/idle_whole.md`.

mod common;

use common::proof::{Page, versions};
use common::real::{Cloud, FIRST, Outcome};
use common::whole;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(180);

/// How long nothing is done.
const IDLE: Duration = Duration::from_secs(300);

/// What an agent, with the process it asks Ceph through, may take of one core, percent.
const MOST: f64 = 0.5;

/// Programs whose cost is shown, by their names in `/proc`.
const PROGRAMS: &str = "microcloud|python3|ceph-mon|ceph-mgr|ceph-mds|ceph-osd|lxd|ovsdb-server|\
                        ovn-northd|ovn-controller|ovs-vswitchd";

/// The processor time of the programs of a host, seconds; and the agent's memory, MiB.
fn times(cloud: &Cloud, host: &str) -> Outcome<(BTreeMap<String, f64>, f64)> {
    let script = format!(
        "getconf CLK_TCK; for p in $(pgrep -x '{PROGRAMS}'); do \
         echo $(cat /proc/$p/comm) $(sed 's/.*) //' /proc/$p/stat | cut -d' ' -f12,13); done; \
         awk '/^VmRSS/ {{ print \"rss\", $2, 0 }}' /proc/$(pgrep -o -x microcloud)/status"
    );
    let said = cloud.must(host, &["sh", "-c", &script])?;
    let mut lines = said.lines();
    let ticks: f64 = lines.next().ok_or("no ticks")?.trim().parse()?;
    let mut times = BTreeMap::new();
    let mut memory = 0.0;
    for line in lines {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [name, user, system] = words[..] else {
            continue;
        };
        let both = user.parse::<f64>()? + system.parse::<f64>()?;
        match name {
            "rss" => memory = both / 1024.0,
            _ => *times.entry(name.to_owned()).or_default() += both / ticks,
        }
    }
    Ok((times, memory))
}

#[test]
#[ignore = "takes seven minutes: make prove"]
fn prove_what_agents_cost_while_nothing_happens() -> Outcome {
    whole::with("t-idle", |cloud| {
        let mut page = Page::new(
            "idle_whole.md",
            "While nothing happens, with OVN and Ceph",
            "The cluster of `examples/three-node`, formed and left alone. The agent that controls \
             asks Ceph for its epochs\nevery 0.7 s through a process of its own (`bridge`), \
             and hears of changes in OVN as they happen.",
            "scripts/prove prove_idle",
        );
        page.line(&versions(cloud)?);
        whole::write(cloud)?;
        cloud.start_agents(&whole::HOSTS)?;
        cloud.wait_formed(&whole::HOSTS, LIMIT)?;
        whole::settled(cloud, LIMIT)?;
        // What forming still has to do in the background is no idleness.
        std::thread::sleep(Duration::from_secs(30));
        let leader = cloud.leader(FIRST)?;
        let all = || whole::HOSTS.map(|host| times(cloud, host));
        let (before, begun) = (all(), Instant::now());
        std::thread::sleep(IDLE);
        let (after, took) = (all(), begun.elapsed());
        page.line(&format!(
            "Percent of one core over {:.0} s; the agent's memory in MiB. What the services take \
             themselves is shown apart.\n",
            took.as_secs_f64()
        ));
        page.line(
            "| host | agent | bridge | both | memory | LXD | OVN, OVS | mon | mgr | mds | osd |",
        );
        page.line("|---|---|---|---|---|---|---|---|---|---|---|");
        let mut most: f64 = 0.0;
        for ((host, before), after) in whole::HOSTS.iter().zip(before).zip(after) {
            let ((before, _), (after, memory)) = (before?, after?);
            let share = |name: &str| {
                let spent = |times: &BTreeMap<String, f64>| times.get(name).copied().unwrap_or(0.0);
                (spent(&after) - spent(&before)) * 100.0 / took.as_secs_f64()
            };
            let (agent, bridge) = (share("microcloud"), share("python3"));
            most = most.max(agent + bridge);
            let who = if *host == leader { " (controls)" } else { "" };
            let ovn = [
                "ovsdb-server",
                "ovn-northd",
                "ovn-controller",
                "ovs-vswitchd",
            ];
            page.line(&format!(
                "| {host}{who} | {agent:.2} | {bridge:.2} | {:.2} | {memory:.1} | {:.2} | {:.2} \
                 | {:.2} | {:.2} | {:.2} | {:.2} |",
                agent + bridge,
                share("lxd"),
                ovn.map(share).iter().sum::<f64>(),
                share("ceph-mon"),
                share("ceph-mgr"),
                share("ceph-mds"),
                share("ceph-osd")
            ));
        }
        page.line(&format!(
            "\nThe most is {most:.2} %; the aim is less than {MOST} %."
        ));
        page.keep()?;
        if most > MOST {
            return Err(format!("{most:.2} % of a core is more than {MOST} %").into());
        }
        Ok(())
    })
}
