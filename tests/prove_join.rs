//! The whole cloud — LXD, OVN and Ceph — on hosts that know nothing of each other, by `init` and `join`
//! and by one preseed on all of them, compared with the one that `examples/three-node` makes. Takes some
//! minutes; `make prove` runs it.

mod common;

use common::proof::{Page, versions};
use common::real::{Cloud, FIRST, Outcome};
use common::terminal::{answer, ends_well, join, shown, terminal};
use common::whole::{self, HOSTS};
use serde_json::Value;
use std::thread;
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
    let mut found = portrait.pointer(pointer).ok_or(pointer)?.clone();
    let view = cloud.view()?;
    // What MicroCloud's preseed says in other words, or says where the example leaves it to LXD.
    if let Some(object) = found.as_object_mut() {
        object.remove("description");
    }
    for (field, key) in [("/config", "ceph.rbd.du"), ("/devices/eth0", "name")] {
        let field = found.pointer_mut(field).and_then(Value::as_object_mut);
        field.map(|field| field.remove(key));
    }
    let mut text = serde_json::to_string_pretty(&found)?;
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

/// What took how long.
type Took = Vec<(&'static str, Duration)>;

#[test]
#[ignore = "takes some minutes: make prove"]
fn init_and_join_and_one_preseed_give_the_cloud_of_the_example() -> Outcome {
    let mut expected = Vec::new();
    whole::with("p-join-a", |cloud| {
        whole::write(cloud)?;
        cloud.start_agents(&HOSTS)?;
        cloud.wait_formed(&HOSTS, LIMIT)?;
        expected = plain_all(cloud)?;
        Ok(())
    })?;
    let mut took = Took::new();
    whole::fresh("p-join-b", |cloud| {
        by_questions(cloud, &mut took)?;
        compare(cloud, &expected)
    })?;
    for (sandbox, what, by_address) in [
        ("p-join-c", "`preseed`, by mDNS: ended on all three", false),
        (
            "p-join-d",
            "`preseed`, by address: ended on all three",
            true,
        ),
    ] {
        whole::fresh(sandbox, |cloud| {
            let begun = by_preseed(cloud, by_address)?;
            took.push((what, begun.elapsed()));
            compare(cloud, &expected)?;
            if !by_address {
                return Ok(());
            }
            let mut page = Page::new(
                "join.md",
                "Init, join and preseed",
                "Three hosts that know nothing of each other become the cloud of `examples/three-node` \
                 (LXD, OVN, Ceph): by `microcloud init` on one and `microcloud join` on two, answered \
                 through terminals by a program, one joiner finding the initiator by mDNS, one by its \
                 address; by `microcloud preseed` with one file of MicroCloud's own on all three, the \
                 disks by filters, once by mDNS (the interfaces that lead outside left to the hosts), \
                 once by address. What LXD, OVN and Ceph show then is compared with what the directory \
                 gives, but for descriptions and for two keys that only MicroCloud's preseed writes \
                 (`ceph.rbd.du`, the name of `eth0`). The times count from the first command.",
                "make prove",
            );
            page.line(&versions(cloud)?);
            page.line("| what | after, s |");
            page.line("|---|---|");
            for (what, after) in &took {
                page.line(&format!("| {what} | {:.1} |", after.as_secs_f64()));
            }
            page.keep()
        })?;
    }
    Ok(())
}

fn compare(cloud: &Cloud, expected: &[String]) -> Outcome {
    let now = plain_all(cloud)?;
    for ((pointer, expected), now) in SAME.iter().zip(expected).zip(&now) {
        assert_eq!(expected, now, "{pointer}");
    }
    Ok(())
}

/// The preseed: local disks and those of Ceph by filters.
fn preseed(cloud: &Cloud, by_address: bool) -> Outcome<String> {
    let view = cloud.view()?;
    let outside = |end: &str| view.uplink.replace(".0/24", end);
    let mut text = match by_address {
        true => format!("initiator_address: {}\n", cloud.address(FIRST)?),
        false => format!("initiator: {FIRST}\nlookup_subnet: {}\n", view.internal),
    };
    text.push_str(&format!("session_passphrase: {SECRET}\nsystems:\n"));
    for host in HOSTS {
        text.push_str(&format!("- name: {host}\n"));
        let address = cloud.address(host)?.to_string();
        let (_, last) = address.rsplit_once('.').ok_or("no address")?;
        let underlay = view.underlay.replace(".0/24", &format!(".{last}"));
        text.push_str(&format!("  ovn_underlay_ip: {underlay}\n"));
        if by_address {
            let way_out = "ovn_uplink_interface: up0";
            text.push_str(&format!("  address: {address}\n  {way_out}\n"));
        }
    }
    text.push_str(&format!(
        "ovn:\n  ipv4_gateway: {}\n  ipv4_range: {}-{}\n  dns_servers: {}\n",
        outside(".1/24"),
        outside(".100"),
        outside(".200"),
        outside(".1"),
    ));
    text.push_str(
        "storage:\n  local:\n  - {find: size >= 1GiB && size < 3GiB, find_min: 3, find_max: 3}\n  \
         ceph:\n  - {find: size >= 3GiB, find_min: 3, find_max: 3}\n",
    );
    Ok(text)
}

/// What the machines of the preseed know.
const SECRET: &str = "zebra quince lantern omen";

/// Runs one preseed on all hosts at once; when that began.
fn by_preseed(cloud: &Cloud, by_address: bool) -> Outcome<Instant> {
    cloud.start_agents(&HOSTS)?;
    let text = preseed(cloud, by_address)?;
    let words = [
        "microcloud",
        "preseed",
        "-f",
        "-",
        "--local-driver",
        "btrfs",
        "--timeout",
        "300s",
    ];
    let begun = Instant::now();
    let said = thread::scope(|scope| {
        let run = |host| {
            let ended = cloud.must_with(host, &words, &text);
            ended.map_err(|e| e.to_string())
        };
        let all: Vec<_> = HOSTS
            .iter()
            .map(|host| scope.spawn(move || run(host)))
            .collect();
        let ended = all.into_iter().map(|one| one.join().expect("it ends"));
        ended.collect::<Result<Vec<String>, String>>()
    })?;
    for said in &said {
        assert!(!said.contains(SECRET), "{said}");
    }
    for host in HOSTS {
        let journal = cloud.must(host, &["journalctl", "--no-pager", "--unit=microcloud"])?;
        assert!(!journal.contains(SECRET), "no passphrase in the log");
    }
    let resources = cloud.must(FIRST, &["microcloud", "get", "-o", "yaml"])?;
    assert!(!resources.contains(SECRET), "no passphrase in resources");
    Ok(begun)
}

/// Runs `init` and `join`, answered as a person would.
fn by_questions(cloud: &Cloud, took: &mut Took) -> Outcome {
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
    took.push(("`init`: both machines were chosen", begun.elapsed()));
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
    took.push(("`init`: all questions were answered", begun.elapsed()));
    ends_well(init, "init")?;
    took.push(("`init` ended", begun.elapsed()));
    ends_well(second, "join on micro02")?;
    ends_well(third, "join on micro03")?;
    took.push(("both `join` ended", begun.elapsed()));
    Ok(())
}
