//! A cluster formed by hand with `lxc`, `ovn-nbctl` and `ceph` is exported, taken over without a write,
//! and held once the mode is `Enforce`, while OVN's databases and Ceph stay with whoever runs them.
//!
//! Run with `make prove`; the table goes to `docs/proof/adopt.md`.

mod common;

use common::adopted::{self, APPLY, changes, export, export_again, follow};
use common::ovn::{self, by_hand, ping, prints};
use common::proof::{Page, versions};
use common::real::{Cloud, FIRST, Outcome, text, wait};
use common::whole::{HOSTS, ceph};
use common::{raw, whole};
use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(90);

/// How long nothing may happen while a difference is left alone.
const WATCHED: Duration = Duration::from_secs(12);

/// What people have besides: a pool on a pool of Ceph under another name, a second network, and things
/// in OVN and Ceph that LXD knows nothing of. Ceph is told not to change the number of placement groups
/// by itself, so that whatever changes was changed by somebody.
const BESIDES: &str = "
    ceph osd pool create theirs-fast 8
    ceph osd pool create theirs 8
    ceph osd pool application enable theirs rgw
    for p in $(ceph osd pool ls); do ceph osd pool set $p pg_autoscale_mode off; done
    for m in micro01 micro02 micro03; do
        lxc storage create fast ceph source=theirs-fast --target $m
    done
    lxc storage create fast ceph ceph.osd.pool_name=theirs-fast rsync.bwlimit=50MiB
    lxc query -X PATCH -d '{\"description\": \"made by hand\"}' /1.0/storage-pools/fast
    lxc network create lab --type=ovn network=UPLINK ipv4.address=10.49.0.1/24 ipv4.nat=true \
        ipv6.address=none dns.domain=lab.test
    ovn-nbctl --no-leader-only ls-add theirs
    ovn-nbctl --no-leader-only lsp-add theirs theirs1";

fn sh(cloud: &Cloud, host: &str, script: &str) -> Outcome<String> {
    cloud.must(host, &["bash", "-euc", script])
}

/// What LXD has that this program may take over.
fn lxd(cloud: &Cloud) -> Outcome<String> {
    let mut paths = vec!["/1.0/cluster/members?recursion=1".to_owned()];
    for what in ["storage-pools", "networks"] {
        let listed = cloud.query(FIRST, &format!("/1.0/{what}"))?;
        let mut listed: Vec<&str> = listed
            .as_array()
            .ok_or("no list")?
            .iter()
            .filter_map(|path| path.as_str())
            .collect();
        listed.sort_unstable();
        for path in listed {
            paths.push(path.to_owned());
            paths.extend(HOSTS.map(|host| format!("{path}?target={host}")));
        }
    }
    paths.extend(["default", "web"].map(|name| format!("/1.0/profiles/{name}")));
    adopted::portrait(cloud, &paths)
}

/// The last entry of both databases' logs: every write adds one.
fn entries(cloud: &Cloud) -> Outcome<String> {
    sh(
        cloud,
        FIRST,
        "for db in nb:Northbound sb:Southbound; do
            ovn-appctl -t /run/ovn/ovn${db%:*}_db.ctl cluster/status OVN_${db#*:} | grep ^Log:
        done",
    )
}

/// What whoever runs OVN and Ceph has on a machine: files, units, and what Open vSwitch is told.
fn of_others(cloud: &Cloud, host: &str) -> Outcome<String> {
    sh(
        cloud,
        host,
        "sha256sum /etc/ceph/* /etc/ovn/* /etc/default/ovn-* /etc/default/ceph* 2>/dev/null | sort -k2
        find /var/lib/ceph -maxdepth 2 | sort
        systemctl show -p Id,ActiveEnterTimestamp,MainPID,UnitFileState 'ceph-*' 'ovn-*' | sort
        ovs-vsctl get open_vswitch . external_ids",
    )
}

/// Ceph as it is configured, with the epochs of its maps.
fn ceph_portrait(cloud: &Cloud) -> Outcome<String> {
    let mut all = String::new();
    for words in [
        &["osd", "dump"][..],
        &["osd", "crush", "dump"],
        &["mon", "dump"],
        &["fs", "dump"],
        &["config", "dump"],
        &["auth", "ls"],
    ] {
        all += &format!("{words:?} {}\n", ceph(cloud, words)?);
    }
    Ok(all)
}

/// The writes that clients asked Ceph for, of those it remembers. It takes looking at keys, as this
/// test does, for one.
fn asked_of_ceph(cloud: &Cloud) -> Outcome<BTreeSet<String>> {
    let words = ["ceph", "log", "last", "1000", "info", "audit"];
    let said = cloud.must(FIRST, &words)?;
    let asked = |l: &&str| l.contains("entity='client.") && !l.contains("\"auth ls\"");
    Ok(said.lines().filter(asked).map(str::to_owned).collect())
}

/// Waits until Ceph has come to rest: its maps stay as they are.
fn rest(cloud: &Cloud) -> Outcome {
    let mut last = String::new();
    wait("Ceph rests", LIMIT, || {
        let status = ceph(cloud, &["status"])?;
        let groups = status["pgmap"]["pgs_by_state"].as_array();
        let clean = groups.is_some_and(|g| g.len() == 1 && g[0]["state_name"] == "active+clean");
        let now = ceph_portrait(cloud)?;
        let same = std::mem::replace(&mut last, now) == last;
        thread::sleep(Duration::from_secs(3));
        Ok(match clean && same {
            true => Ok(()),
            false => Err(status["pgmap"].to_string()),
        })
    })
}

/// The page, and the time since the last line of it.
struct Table {
    page: Page,
    begun: Instant,
}

impl Table {
    fn row(&mut self, what: &str, seen: &str) {
        let took = self.begun.elapsed().as_secs_f64();
        self.page.line(&format!("| {what} | {seen} | {took:.1} |"));
        self.begun = Instant::now();
    }
}

#[test]
#[ignore = "takes some minutes; `make prove` runs it"]
fn a_cluster_formed_by_hand_with_ovn_and_ceph_is_taken_over_and_held() -> Outcome {
    whole::with("t-adopt-all", |cloud| {
        let mut table = Table {
            page: Page::new(
                "adopt.md",
                "Taking over a cluster that was formed by hand",
                "Three machines with LXD, OVN (a raft of three over TLS) and Ceph (three monitors, \
                 three OSDs), formed with\n`lxc`, `ovn-nbctl`, `ovs-vsctl` and `ceph` as in \
                 `tests/common/raw.rs`, with a pool on a pool of Ceph under another\nname, a second \
                 network of OVN, and things in OVN and Ceph that LXD knows nothing of. Seconds of \
                 each line.",
                "scripts/prove prove_adopt",
            ),
            begun: Instant::now(),
        };
        table.page.line(&versions(cloud)?);
        table.page.line("| what | seen | s |\n|---|---|---|");
        raw::form(cloud)?;
        sh(cloud, FIRST, BESIDES)?;
        wait("the router answers", LIMIT, || ping(cloud))?;
        rest(cloud)?;
        table.row("formed by hand", "the router answers from outside");
        take_over(cloud, &mut table)?;
        hold(cloud, &mut table)?;
        leave_alone(cloud, &mut table)?;
        refuse(cloud, &mut table)?;
        table.page.keep()
    })
}

/// Exports, applies in mode `Report`, and counts what was written.
fn take_over(cloud: &Cloud, table: &mut Table) -> Outcome {
    let others = |cloud: &Cloud| {
        HOSTS
            .iter()
            .map(|h| of_others(cloud, h))
            .collect::<Outcome<Vec<_>>>()
    };
    follow(cloud)?;
    let before = (lxd(cloud)?, others(cloud)?, ceph_portrait(cloud)?);
    let (log, asked) = (entries(cloud)?, asked_of_ceph(cloud)?);
    table.begun = Instant::now();
    cloud.start_agents(&HOSTS)?;
    let all = export(cloud)?;
    println!("{all}");
    for words in [
        "mode: Report",
        "provider: external",
        "theirs-fast",
        "dns.domain: lab.test",
        "- images",
    ] {
        assert!(all.contains(words), "{words} is not exported");
    }
    table.row("`microcloud export`", "resources in mode `Report`");
    println!("{}", cloud.must(FIRST, &APPLY)?);
    cloud.wait_ready(FIRST, LIMIT)?;
    table.row("`microcloud apply`", "all Ready");
    // A whole look at everything, and what comes of it.
    cloud.must(FIRST, &["microcloud", "reconcile"])?;
    thread::sleep(WATCHED);
    cloud.wait_ready(FIRST, LIMIT)?;
    assert_eq!(
        changes(cloud)?,
        Vec::<String>::new(),
        "LXD tells of changes"
    );
    assert_eq!(entries(cloud)?, log, "OVN's databases were written to");
    let more: Vec<String> = asked_of_ceph(cloud)?.difference(&asked).cloned().collect();
    assert_eq!(more, Vec::<String>::new(), "Ceph was asked to change");
    let after = (lxd(cloud)?, others(cloud)?, ceph_portrait(cloud)?);
    assert_eq!(after.0, before.0);
    assert_eq!(after.1, before.1);
    assert_eq!(after.2, before.2);
    table.row(
        "and watched",
        "LXD's events outside the project `microcloud`: 0. New entries of OVN's databases: 0. Writes \
         in Ceph's audit log: 0; epochs of its maps: the same. Files, units and processes of OVN and \
         Ceph: the same",
    );
    Ok(())
}

/// Enforces it: what LXD has of the networks and pools is held.
fn hold(cloud: &Cloud, table: &mut Table) -> Outcome {
    follow(cloud)?;
    table.begun = Instant::now();
    adopted::enforce(cloud)?;
    println!("{}", cloud.must(FIRST, &APPLY)?);
    cloud.wait_ready(FIRST, LIMIT)?;
    assert_eq!(changes(cloud)?, Vec::<String>::new(), "enforcing writes");
    table.row("`mode: Enforce` applied", "all Ready, 0 writes");
    let images = [
        "config",
        "get",
        "storage.images_volume",
        "--target",
        "micro02",
    ];
    let unset = [
        "config",
        "unset",
        "storage.images_volume",
        "--target",
        "micro02",
    ];
    cloud.lxc(FIRST, &unset)?;
    let words = [&["lxc"][..], &images].concat();
    prints(cloud, FIRST, &words, "local/images")?;
    table.row("`storage.images_volume` of a member unset", "set again");
    by_hand::northbound_cleared(cloud)?;
    table.row("`network.ovn.northbound_connection` unset", "set again");
    by_hand::range_halved(cloud)?;
    table.row("the uplink's range halved", "whole again");
    let domain = ["lxc", "network", "get", "lab", "dns.domain"];
    cloud.lxc(FIRST, &["network", "set", "lab", "dns.domain=other.test"])?;
    prints(cloud, FIRST, &domain, "lab.test")?;
    table.row("`dns.domain` of a network of OVN changed", "as it was");
    cloud.lxc(FIRST, &["network", "delete", "lab"])?;
    prints(cloud, FIRST, &domain, "lab.test")?;
    cloud.wait_ready(FIRST, LIMIT)?;
    table.row("a network of OVN deleted", "made again");
    let describe = [
        "query",
        "-X",
        "PATCH",
        "-d",
        r#"{"description": "x"}"#,
        "/1.0/storage-pools/fast",
    ];
    cloud.lxc(FIRST, &describe)?;
    let description = "lxc storage show fast | sed -n 's/^description: //p'";
    prints(cloud, FIRST, &["sh", "-c", description], "made by hand")?;
    table.row("the description of a pool on Ceph changed", "as it was");
    cloud.lxc(FIRST, &["storage", "set", "fast", "rsync.bwlimit=1MiB"])?;
    prints(
        cloud,
        FIRST,
        &["lxc", "storage", "get", "fast", "rsync.bwlimit"],
        "50MiB",
    )?;
    table.row("a key of a pool on Ceph changed", "as it was");
    cloud.wait_ready(FIRST, LIMIT)?;
    wait("the router answers", ovn::SOON, || ping(cloud))?;
    follow(cloud)?;
    println!("{}", export_again(cloud)?);
    thread::sleep(Duration::from_secs(3));
    assert_eq!(changes(cloud)?, Vec::<String>::new(), "its own export");
    table.row("exported and applied again", "nothing differs, 0 writes");
    Ok(())
}

/// What whoever runs OVN and Ceph changes stays.
fn leave_alone(cloud: &Cloud, table: &mut Table) -> Outcome {
    let asked = asked_of_ceph(cloud)?;
    sh(
        cloud,
        FIRST,
        "ovn-nbctl --no-leader-only lsp-add theirs theirs2
        ceph osd pool set theirs-fast size 2 
        ceph config set osd osd_max_backfills 2",
    )?;
    let stopped = [("micro02", "ovn-northd"), ("micro03", "ceph-mgr@micro03")];
    for (host, unit) in stopped {
        cloud.must(host, &["systemctl", "stop", unit])?;
    }
    cloud.must(FIRST, &["microcloud", "reconcile"])?;
    thread::sleep(WATCHED);
    cloud.wait_ready(FIRST, LIMIT)?;
    for (host, unit) in stopped {
        let said = text(
            &cloud
                .run(host, &["systemctl", "is-active", unit], "")?
                .stdout,
        );
        assert_eq!(said.trim(), "inactive", "{unit} on {host}");
        cloud.must(host, &["systemctl", "start", unit])?;
    }
    let ports = sh(
        cloud,
        FIRST,
        "ovn-nbctl --no-leader-only lsp-list theirs | grep -c theirs",
    )?;
    assert_eq!(ports.trim(), "2");
    let pool = ceph(cloud, &["osd", "pool", "get", "theirs-fast", "size"])?;
    assert_eq!(pool["size"], 2);
    // What was asked is told with its words; that it was done, now and then without them.
    let own = |line: &str| {
        ["osd pool set", "config set"]
            .iter()
            .any(|words| line.contains(words))
            || !line.contains("cmd=")
    };
    let others = asked_of_ceph(cloud)?;
    let others: Vec<&String> = others
        .difference(&asked)
        .filter(|line| !own(line))
        .collect();
    assert_eq!(others, Vec::<&String>::new(), "Ceph was asked to change");
    table.row(
        "a port added in OVN, a pool's copies and a key changed in Ceph, `ovn-northd` and a manager \
         stopped, each by hand",
        "all Ready; left as they are",
    );
    Ok(())
}

/// Writing `packaged` takes nothing over that was not formed here.
fn refuse(cloud: &Cloud, table: &mut Table) -> Outcome {
    rest(cloud)?;
    let before = ceph_portrait(cloud)?;
    let file = format!("{}/cluster.yaml", adopted::FOLDER);
    let cluster = cloud.must(FIRST, &["cat", &file])?;
    let packaged = cluster.replace(
        "ceph:\n    provider: external",
        "ceph:\n    provider: packaged",
    );
    assert_ne!(packaged, cluster);
    table.begun = Instant::now();
    cloud.must_with(FIRST, &["sh", "-c", &format!("cat > {file}")], &packaged)?;
    cloud.must(FIRST, &["microcloud", "apply", "-f", adopted::FOLDER])?;
    cloud.wait_says(FIRST, "Cluster/cloud", &["not formed here"], LIMIT)?;
    thread::sleep(WATCHED);
    assert_eq!(ceph_portrait(cloud)?, before);
    table.row(
        "`packaged` written for that Ceph",
        "refused, nothing written",
    );
    Ok(())
}
