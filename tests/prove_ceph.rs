//! What becomes of a host with a monitor and an OSD that is lost where a fourth can take its place,
//! on real hosts.
//!
//! Run with `make prove`; the table goes to `docs/proof/ceph.md`.

mod common;

use common::proof::{Page, versions};
use common::real::{Cloud, FIRST, Outcome, sentence, wait, with};
use std::time::{Duration, Instant};

const FORMING: Duration = Duration::from_secs(150);
const SOON: Duration = Duration::from_secs(60);

/// After how long a lost host's place is given away here, seconds.
const GRACE: u64 = 20;

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
        all += "---\n";
        all += &if host == FOURTH {
            cloud.only_member(&host)?
        } else {
            cloud.member_with_osd(&host)?
        };
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

fn lost(cloud: &Cloud, page: &mut Page) -> Outcome {
    page.line(&format!(
        "`gracePeriod` is {GRACE} s here; \
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
#[ignore = "takes three minutes: make prove"]
fn another_member_takes_the_place_of_a_lost_one_in_ceph() -> Outcome {
    with("prove", 4, |cloud| {
        let mut page = Page::new(
            "ceph.md",
            "A host with Ceph is lost",
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
        lost(cloud, &mut page)?;
        page.keep()
    })
}
