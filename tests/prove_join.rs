//! The whole cloud — LXD, OVN and Ceph — by `init` and `join` on hosts that know nothing of each other,
//! compared with the one that `examples/three-node` makes. Takes some minutes; `make prove` runs it.

mod common;

use common::proof::{Page, versions};
use common::real::{Cloud, FIRST, Outcome};
use common::terminal::{answer, ends_well, join, shown, terminal};
use common::whole::{self, HOSTS};
use serde_json::Value;
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(300);

/// What must be the same. The subnet of `default` and the failure domains are chosen otherwise.
const SAME: [&str; 9] = [
    "/lxd/storage-pools~1local",
    "/lxd/storage-pools~1remote",
    "/lxd/networks~1UPLINK",
    "/lxd/profiles~1default",
    "/lxd/cluster~1members",
    "/lxd/storage-pools",
    "/rafts",
    "/chassis",
    "/pools",
];

/// The addresses of the hosts differ from one sandbox to the next.
fn plain(cloud: &Cloud, portrait: &Value, pointer: &str) -> Outcome<String> {
    let found = portrait.pointer(pointer).ok_or(pointer)?;
    let view = cloud.view()?;
    let mut text = serde_json::to_string_pretty(found)?;
    for (subnet, word) in [(&view.internal, "INTERNAL"), (&view.uplink, "UPLINK")] {
        let address = subnet.split('/').next().unwrap_or_default();
        let (prefix, _) = address.rsplit_once('.').ok_or("no subnet")?;
        text = text.replace(&format!("{prefix}."), &format!("{word}."));
    }
    Ok(text)
}

fn plain_all(cloud: &Cloud) -> Outcome<Vec<String>> {
    whole::settled(cloud, LIMIT)?;
    let portrait = whole::portrait(cloud)?;
    SAME.iter().map(|p| plain(cloud, &portrait, p)).collect()
}

#[test]
#[ignore = "takes some minutes: make prove"]
fn init_and_join_give_the_cloud_of_the_example() -> Outcome {
    let mut expected = Vec::new();
    whole::with("p-join-a", |cloud| {
        whole::write(cloud)?;
        cloud.start_agents(&HOSTS)?;
        cloud.wait_formed(&HOSTS, LIMIT)?;
        expected = plain_all(cloud)?;
        Ok(())
    })?;
    let mut took = Vec::new();
    whole::fresh("p-join-b", |cloud| {
        cloud.start_agents(&HOSTS)?;
        let begun = Instant::now();
        let first = cloud.address(FIRST)?.to_string();
        let view = cloud.view()?;
        let outside = |end: &str| view.uplink.replace(".0/24", end);
        let words = [
            "microcloud",
            "init",
            "--address",
            &first,
            "--timeout",
            "300s",
        ];
        let mut init = terminal(cloud, FIRST, &words)?;
        answer(&mut init, "more than this machine?", "")?;
        let passphrase = shown(&mut init, "passphrase:  ")?;
        let fingerprint = shown(&mut init, "fingerprint: ")?;
        let second = join(cloud, "micro02", &passphrase, None, &fingerprint)?;
        let third = join(cloud, "micro03", &passphrase, Some(&first), &fingerprint)?;
        for host in ["micro02", "micro03"] {
            init.exp_string(&format!("{host}  {}  ", cloud.address(host)?))?;
        }
        init.send_line("")?;
        answer(&mut init, "Which?", "all")?;
        took.push(("both machines were chosen", begun.elapsed()));
        answer(&mut init, "Local storage", "yes")?;
        // One small disk of each: they are listed machine by machine, the small one first.
        answer(&mut init, "Which?", "1,3,5")?;
        answer(&mut init, "Its driver", "btrfs")?;
        answer(&mut init, "Ceph?", "yes")?;
        answer(&mut init, "Which?", "all")?;
        answer(&mut init, "(CephFS)", "no")?;
        answer(&mut init, "clients and monitors", "")?;
        answer(&mut init, "replication", "")?;
        answer(&mut init, "OVN?", "yes")?;
        for _ in HOSTS {
            answer(&mut init, "leads outside", "up0")?;
        }
        answer(&mut init, "IPv4 gateway", &outside(".1/24"))?;
        let range = format!("{}-{}", outside(".100"), outside(".200"));
        answer(&mut init, "may be taken", &range)?;
        answer(&mut init, "IPv6 gateway", "")?;
        answer(&mut init, "Name servers", "")?;
        answer(&mut init, "tunnels", &view.underlay)?;
        init.exp_string("kind: Cluster")?;
        answer(&mut init, "Form this cloud?", "yes")?;
        took.push(("all questions were answered", begun.elapsed()));
        ends_well(init, "init")?;
        took.push(("`init` ended", begun.elapsed()));
        ends_well(second, "join on micro02")?;
        ends_well(third, "join on micro03")?;
        took.push(("both `join` ended", begun.elapsed()));
        let now = plain_all(cloud)?;
        for ((pointer, expected), now) in SAME.iter().zip(&expected).zip(&now) {
            assert_eq!(expected, now, "{pointer}");
        }
        let mut page = Page::new(
            "join.md",
            "Init and join",
            "Three hosts that know nothing of each other become the cloud of `examples/three-node` \
             (LXD, OVN, Ceph) by `microcloud init` on one and `microcloud join` on two, answered \
             through terminals by a program; one joiner finds the initiator by mDNS, one by its \
             address. What LXD, OVN and Ceph show then is compared with what the directory gives.",
            "make prove",
        );
        page.line(&versions(cloud)?);
        page.line("| what | after, s |");
        page.line("|---|---|");
        for (what, after) in &took {
            page.line(&format!("| {what} | {:.1} |", after.as_secs_f64()));
        }
        page.keep()
    })
}
