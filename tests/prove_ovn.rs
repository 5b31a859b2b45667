//! A machine with OVN's databases is lost for good: what it carried is told, another takes its place
//! after the grace period, and the lost one comes back without them. First one that only has them,
//! then the one that controls as well.
//!
//! Run with `make prove`; the table goes to `docs/proof/ovn.md`.

mod common;

use common::ovn::{ping, resources};
use common::proof::{Page, versions};
use common::real::{Cloud, Outcome, sentence, text, unready, wait, with};
use std::time::{Duration, Instant};

/// How long a lost machine keeps its place here; a minute or more where nobody waits for it.
const GRACE: Duration = Duration::from_secs(20);

/// The addresses of a database's servers, as a machine has them.
fn servers(cloud: &Cloud, host: &str, word: &str, database: &str) -> Outcome<Vec<String>> {
    let control = format!("/run/ovn/ovn{word}_db.ctl");
    let words = ["ovn-appctl", "-t", &control, "cluster/status", database];
    let out = cloud.run(host, &words, "")?;
    let said = text(&out.stdout);
    let servers = said.lines().filter_map(|line| {
        let (_, rest) = line.strip_prefix("    ")?.split_once(" at ssl:")?;
        Some(rest.split(':').next()?.to_owned())
    });
    let mut servers: Vec<String> = servers.collect();
    servers.sort();
    Ok(servers)
}

/// Waits until both databases have exactly the servers of these members.
fn held_by(cloud: &Cloud, ask: &str, members: &[&str], limit: Duration) -> Outcome {
    let mut wanted = members
        .iter()
        .map(|m| Ok(cloud.address(m)?.to_string()))
        .collect::<Outcome<Vec<String>>>()?;
    wanted.sort();
    wait(&format!("databases on {members:?}"), limit, || {
        for (word, database) in [("nb", "OVN_Northbound"), ("sb", "OVN_Southbound")] {
            let found = servers(cloud, ask, word, database)?;
            if found != wanted {
                return Ok(Err(format!("{database} is on {found:?}, not {wanted:?}")));
            }
        }
        Ok(Ok(()))
    })
}

#[test]
#[ignore = "takes some minutes; `make prove` runs it"]
fn a_lost_database_server_is_replaced_and_comes_back_without() -> Outcome {
    with("t-ovn-four", 4, |cloud| {
        let all = resources(cloud)?.replace(
            "initiator: micro01\n",
            &format!("initiator: micro01\n  gracePeriod: {}s\n", GRACE.as_secs()),
        );
        cloud.write("all.yaml", &all)?;
        let hosts = cloud.hosts();
        let names: Vec<&str> = hosts.iter().map(String::as_str).collect();
        cloud.start_agents(&names)?;
        cloud.wait_ready(names[0], Duration::from_secs(90))?;
        let mut page = Page::new(
            "ovn.md",
            "OVN's databases when a machine is lost",
            &format!(
                "Four members, three of which have OVN's databases (raft, TLS). The grace period is \
                 {} s. Two are lost by their power, one after the other, and come back later; times are from the \
                 loss, or from the start.",
                GRACE.as_secs()
            ),
            "make prove",
        );
        page.line(&versions(cloud)?);
        page.line("| what | s |");
        page.line("|---|---|");
        let soon = Duration::from_secs(10);
        held_by(cloud, names[0], &names[..3], soon)?;
        let (first, second) = (names[0], names[1]);
        let leader = cloud.leader(first)?;
        if leader != first {
            return Err(format!("{leader} controls, and not {first}").into());
        }
        replaced(cloud, &mut page, second, &[first, names[2], names[3]])?;
        replaced(cloud, &mut page, first, &[second, names[2], names[3]])?;
        page.keep()
    })
}

/// Loses a machine for good, until another has taken its place, and brings it back.
fn replaced(cloud: &Cloud, page: &mut Page, lost: &str, after: &[&str]) -> Outcome {
    let ask = after[0].to_owned();
    let begun = Instant::now();
    let line = |page: &mut Page, what: &str, begun: Instant| {
        page.line(&format!(
            "| {what} | {:.1} |",
            begun.elapsed().as_secs_f64()
        ));
    };
    let controls = cloud.leader(&ask)? == lost;
    cloud.kill(lost)?;
    let member = format!("Member/{lost}");
    let words = [
        "it carries",
        "databases of OVN",
        "nothing more may be taken",
    ];
    // The heartbeats tell it, also of the one that controlled, before another one does.
    let told = cloud.wait_says(&ask, &member, &words, Duration::from_secs(10))?;
    let what = if controls { "controlled, " } else { "" };
    line(
        page,
        &format!("{lost} lost ({what}had the databases): `status` tells it, and what it carried"),
        begun,
    );
    eprintln!("t-ovn-four: {}", sentence(&told));
    if controls {
        let limit = Duration::from_secs(60);
        cloud.wait_status(&ask, "another one controls", limit, |status| {
            let other = status.leader.as_ref().is_some_and(|leader| leader != lost);
            let looked = other && !status.cached;
            looked.then_some(()).ok_or_else(|| unready(status))
        })?;
        line(page, &format!("{lost} lost: another one controls"), begun);
    }
    held_by(cloud, &ask, after, GRACE + Duration::from_secs(60))?;
    line(
        page,
        &format!(
            "{lost} lost: its place is taken, databases on {}",
            after.join(", ")
        ),
        begun,
    );
    let key = "network.ovn.northbound_connection";
    let gone = cloud.address(lost)?.to_string();
    wait("LXD is told", Duration::from_secs(30), || {
        let said = cloud.lxc(&ask, &["config", "get", key])?;
        Ok(if said.contains(&gone) {
            Err(said)
        } else {
            Ok(())
        })
    })?;
    line(page, &format!("{lost} lost: LXD knows the new ones"), begun);
    let begun = Instant::now();
    cloud.start(lost)?;
    cloud.wait_ready(&ask, Duration::from_secs(120))?;
    line(page, &format!("{lost} started: all ready"), begun);
    held_by(cloud, &ask, after, Duration::from_secs(10))?;
    let active = ["systemctl", "is-active", "ovn-ovsdb-server-nb"];
    let said = text(&cloud.run(lost, &active, "")?.stdout);
    if said.trim() == "active" {
        return Err(format!("{lost} still runs the databases it lost").into());
    }
    wait("the router answers", Duration::from_secs(30), || {
        ping(cloud)
    })?;
    Ok(())
}
