//! What is changed by hand on a running cluster comes back, and what nobody manages stays: on real
//! hosts, with `lxc` on any member.

mod common;

use common::proxy::Proxy;
use common::real::{Cloud, DIRECTORY, FIRST, Outcome, formed, sentence, wait};
use microcloud::reconcile::history::Event;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(20);

const CLUSTER: &str = "\
apiVersion: microcloud.dev/v1
kind: Cluster
metadata: {name: demo}
spec: {initiator: micro01, config: {images.auto_update_interval: 12}}
";

const THINGS: &str = "\
apiVersion: microcloud.dev/v1
kind: StoragePool
metadata: {name: local}
spec: {driver: btrfs, description: Local storage, config: {rsync.bwlimit: 8MiB}}
---
apiVersion: microcloud.dev/v1
kind: Network
metadata: {name: lan}
spec: {type: bridge, config: {ipv4.address: 10.99.0.1/24, ipv4.nat: true, ipv6.address: none}}
---
apiVersion: microcloud.dev/v1
kind: Network
metadata: {name: spare}
spec: {type: bridge, config: {ipv4.address: 10.98.0.1/24, ipv4.nat: true, ipv6.address: none}}
---
apiVersion: microcloud.dev/v1
kind: Profile
metadata: {name: web}
spec:
  config: {limits.cpu: 2}
  devices:
    root: {type: disk, path: /, pool: local}
    eth0: {type: nic, network: lan}
";

/// A failure domain, a role and groups for every member.
fn write_more(cloud: &Cloud) -> Outcome {
    for (n, host) in cloud.hosts().iter().enumerate() {
        let more = format!(
            ", failureDomain: rack{}, roles: [ovn-chassis], groups: [default, fast]}}",
            n + 1
        );
        let member = cloud.member(host)?;
        let Some((member, disk)) = member.split_once("}\n---") else {
            return Err("the member's text has another shape".into());
        };
        cloud.write(
            &format!("{host}.yaml"),
            &format!("{member}{more}\n---{disk}"),
        )?;
    }
    cloud.write("things.yaml", THINGS)?;
    cloud.write("cluster.yaml", CLUSTER)?;
    wait("what was written more is there", SOON, || {
        let group = cloud.run(FIRST, &["lxc", "query", "/1.0/networks/spare"], "")?;
        let domain = cloud.query(FIRST, "/1.0/cluster/members/micro03")?;
        Ok(match (group.status.success(), &domain["failure_domain"]) {
            (true, domain) if domain == "rack3" => Ok(()),
            (found, domain) => Err(format!("spare {found}, failure domain {domain}")),
        })
    })?;
    cloud.wait_ready(FIRST, SOON)?;
    Ok(())
}

fn last_event(cloud: &Cloud) -> Outcome<u64> {
    Ok(cloud.events(FIRST)?.last().map_or(0, |e| e.number))
}

/// One thing done by hand, and what must come of it.
struct Hand<'a> {
    what: &'a str,
    host: &'a str,
    script: &'a str,
    object: &'a str,
    says: &'a [&'a str],
    /// What is asked of another member afterwards, and the answer there must be: a JSON pointer
    /// and its value.
    path: &'a str,
    pointer: &'a str,
    value: serde_json::Value,
}

fn comes_back(cloud: &Cloud, hand: &Hand<'_>) -> Outcome {
    let before = last_event(cloud)?;
    cloud.must(hand.host, &["sh", "-ec", hand.script])?;
    let about = |e: &Event| {
        e.number > before
            && e.object
                .as_ref()
                .is_some_and(|o| o.to_string() == hand.object)
    };
    wait(&format!("{}: repaired and told", hand.what), SOON, || {
        let events: Vec<Event> = cloud.events(FIRST)?.into_iter().filter(about).collect();
        let told = events
            .iter()
            .find(|e| e.reason == "Drifted" && hand.says.iter().all(|w| e.message.contains(w)));
        let done = told.is_some_and(|t| {
            let after = |e: &&Event| e.number > t.number && e.reason == "Reconciled";
            events.iter().any(|e| after(&e))
        });
        Ok(if done {
            Ok(())
        } else {
            Err(format!("{events:#?}"))
        })
    })?;
    let elsewhere = cloud.hosts().into_iter().find(|h| h != hand.host);
    let elsewhere = elsewhere.ok_or("there is one host only")?;
    let seen = cloud.query(&elsewhere, hand.path)?;
    let value = seen
        .pointer(hand.pointer)
        .unwrap_or(&serde_json::Value::Null);
    if *value != hand.value {
        return Err(format!("{}: {elsewhere} has {value}: {seen:#}", hand.what).into());
    }
    eprintln!("{}: repaired", hand.what);
    Ok(())
}

fn changes_come_back(cloud: &Cloud) -> Outcome {
    let edit = "lxc cluster show micro02 | sed 's/^failure_domain: .*/failure_domain: attic/' \
                | lxc cluster edit micro02";
    let members = "/1.0/cluster/members";
    let hands = [
        Hand {
            what: "profile device removed",
            host: "micro02",
            script: "lxc profile device remove web eth0",
            object: "Profile/web",
            says: &[
                "devices.eth0.network was gone, wanted lan",
                "root on micro02",
            ],
            path: "/1.0/profiles/web",
            pointer: "/devices/eth0/network",
            value: "lan".into(),
        },
        Hand {
            what: "profile key changed",
            host: "micro03",
            script: "lxc profile set web limits.cpu=5",
            object: "Profile/web",
            says: &["config.limits.cpu was 5, wanted 2", "root on micro03"],
            path: "/1.0/profiles/web",
            pointer: "/config/limits.cpu",
            value: "2".into(),
        },
        Hand {
            what: "profile deleted",
            host: "micro01",
            script: "lxc profile delete web",
            object: "Profile/web",
            says: &["it was deleted", "root on micro01"],
            path: "/1.0/profiles/web",
            pointer: "/devices/root/pool",
            value: "local".into(),
        },
        Hand {
            what: "network key changed",
            host: "micro02",
            script: "lxc network set lan ipv4.nat=false",
            object: "Network/lan",
            says: &["config.ipv4.nat was false, wanted true"],
            path: "/1.0/networks/lan",
            pointer: "/config/ipv4.nat",
            value: "true".into(),
        },
        Hand {
            what: "network deleted",
            host: "micro03",
            script: "lxc network delete spare",
            object: "Network/spare",
            says: &["it was deleted"],
            path: "/1.0/networks/spare",
            pointer: "/status",
            value: "Created".into(),
        },
        Hand {
            what: "pool key changed",
            host: "micro02",
            script: "lxc storage set local rsync.bwlimit=1MiB",
            object: "StoragePool/local",
            says: &["config.rsync.bwlimit was 1MiB, wanted 8MiB"],
            path: "/1.0/storage-pools/local",
            pointer: "/config/rsync.bwlimit",
            value: "8MiB".into(),
        },
        Hand {
            what: "server key changed",
            host: "micro03",
            script: "lxc config set images.auto_update_interval=3",
            object: "Cluster/demo",
            says: &["config.images.auto_update_interval was 3, wanted 12"],
            path: "/1.0",
            pointer: "/config/images.auto_update_interval",
            value: "12".into(),
        },
        Hand {
            what: "failure domain changed",
            host: "micro03",
            script: edit,
            object: "Member/micro02",
            says: &["failureDomain was attic, wanted rack2"],
            path: &format!("{members}/micro02"),
            pointer: "/failure_domain",
            value: "rack2".into(),
        },
        Hand {
            what: "role taken",
            host: "micro01",
            script: "lxc cluster role remove micro03 ovn-chassis",
            object: "Member/micro03",
            says: &["roles was", "wanted ovn-chassis"],
            path: &format!("{members}/micro03"),
            pointer: "/roles/0",
            value: "ovn-chassis".into(),
        },
        Hand {
            what: "role given",
            host: "micro02",
            script: "lxc cluster role add micro03 event-hub",
            object: "Member/micro03",
            says: &["roles was event-hub, ovn-chassis, wanted ovn-chassis"],
            path: &format!("{members}/micro03"),
            pointer: "/roles/0",
            value: "ovn-chassis".into(),
        },
        Hand {
            what: "groups changed",
            host: "micro02",
            script: "lxc cluster group assign micro01 default",
            object: "Member/micro01",
            says: &["groups was default, wanted default, fast"],
            path: "/1.0/cluster/groups/fast",
            pointer: "/members",
            value: serde_json::json!(["micro01", "micro02", "micro03"]),
        },
    ];
    hands.iter().try_for_each(|hand| comes_back(cloud, hand))?;
    cloud.wait_ready(FIRST, SOON)?;
    Ok(())
}

/// Keys that no resource names belong to who set them.
fn stray_keys_stay(cloud: &Cloud) -> Outcome {
    let before = last_event(cloud)?;
    let set = "lxc profile set web user.stray=1; lxc network set lan user.stray=1; \
               lxc storage set local user.stray=1; lxc config set user.stray=1; \
               lxc cluster set micro02 user.stray=1; lxc profile device add web gpu gpu";
    cloud.must("micro02", &["sh", "-ec", set])?;
    cloud.must("micro02", &["microcloud", "reconcile"])?;
    cloud.wait_ready(FIRST, SOON)?;
    let paths = [
        ("/1.0/profiles/web", "/config/user.stray"),
        ("/1.0/networks/lan", "/config/user.stray"),
        ("/1.0/storage-pools/local", "/config/user.stray"),
        ("/1.0", "/config/user.stray"),
        ("/1.0/cluster/members/micro02", "/config/user.stray"),
    ];
    for (path, pointer) in paths {
        let seen = cloud.query(FIRST, path)?;
        if seen.pointer(pointer) != Some(&"1".into()) {
            return Err(format!("{path}: the stray key did not stay: {seen:#}").into());
        }
    }
    let web = cloud.query(FIRST, "/1.0/profiles/web")?;
    if web["devices"]["gpu"]["type"] != "gpu" {
        return Err(format!("the stray device did not stay: {web:#}").into());
    }
    let told: Vec<Event> = cloud.events(FIRST)?;
    let told: Vec<&Event> = told.iter().filter(|e| e.number > before).collect();
    if told
        .iter()
        .any(|e| e.reason == "Drifted" || e.reason == "Configured")
    {
        return Err(format!("stray keys are nobody's business: {told:#?}").into());
    }
    // A repair beside them carries them over.
    cloud.lxc("micro03", &["profile", "set", "web", "limits.cpu=7"])?;
    wait("limits.cpu is back", SOON, || {
        let web = cloud.query("micro02", "/1.0/profiles/web")?;
        let (cpu, stray) = (&web["config"]["limits.cpu"], &web["config"]["user.stray"]);
        match (
            cpu == "2",
            stray == "1" && web["devices"]["gpu"]["type"] == "gpu",
        ) {
            (_, false) => Err(format!("the repair took the stray keys away: {web:#}").into()),
            (true, true) => Ok(Ok(())),
            (false, true) => Ok(Err(format!("it is {cpu}"))),
        }
    })
}

/// What an operator did with a member by hand is shown and not undone.
fn evacuation_is_shown(cloud: &Cloud) -> Outcome {
    cloud.lxc("micro02", &["cluster", "evacuate", "micro03", "--force"])?;
    let words = [
        "micro03 was evacuated by hand and stays so",
        "lxc cluster restore micro03",
    ];
    let shown = cloud.wait_says(FIRST, "Member/micro03", &words, SOON)?;
    if shown.ready() {
        return Err(format!("it must not be ready: {}", sentence(&shown)).into());
    }
    cloud.must(FIRST, &["microcloud", "reconcile"])?;
    std::thread::sleep(Duration::from_secs(3));
    if cloud.members(FIRST)?.get("micro03").map(String::as_str) != Some("EVACUATED") {
        return Err("the member was restored".into());
    }
    let others = cloud.status(FIRST)?;
    let unready: Vec<String> = others
        .report
        .iter()
        .flat_map(|r| &r.objects)
        .filter(|o| !o.ready())
        .map(|o| o.object.to_string())
        .collect();
    if unready != ["Member/micro03"] {
        return Err(format!("only the member is not ready, but: {unready:?}").into());
    }
    cloud.lxc("micro01", &["cluster", "restore", "micro03", "--force"])?;
    cloud.wait_ready(FIRST, SOON)?;
    Ok(())
}

/// So many profiles in one file.
fn profiles(count: usize) -> String {
    let profile = |n: usize| {
        format!(
            "apiVersion: microcloud.dev/v1\nkind: Profile\nmetadata: {{name: p{n:03}}}\n\
             spec: {{config: {{limits.cpu: {}, limits.memory: 1GiB}}}}\n",
            n % 8 + 1
        )
    };
    (0..count).map(profile).collect::<Vec<_>>().join("---\n")
}

/// How long the running cluster is watched for writes.
fn watched_for() -> Duration {
    let asked = std::env::var("MICROCLOUD_NOOP_SECONDS").ok();
    Duration::from_secs(asked.and_then(|s| s.parse().ok()).unwrap_or(15))
}

/// Nothing differs: nothing is written. Counted at LXD's socket, by a proxy that the agent of
/// every member is given in place of it.
fn nothing_is_written(cloud: &Cloud) -> Outcome {
    let mut proxies = Vec::new();
    for host in cloud.hosts() {
        let inside = "/run/counted-lxd.socket";
        let listen = cloud.root(&host)?.join(inside.trim_start_matches('/'));
        proxies.push((
            host.clone(),
            Proxy::start(&listen, &cloud.lxd_socket(&host))?,
        ));
        let config = format!("directory: {DIRECTORY}\nlxdSocket: {inside}\n");
        let words = [
            "sh",
            "-c",
            "mkdir -p /etc/microcloud/resources; cat > /etc/microcloud/agent.yaml",
        ];
        // Only the first host has a directory.
        let config = if host == FIRST {
            config
        } else {
            format!("lxdSocket: {inside}\n")
        };
        let words = if host == FIRST {
            words
        } else {
            ["sh", "-c", "cat > /etc/microcloud/agent.yaml"]
        };
        cloud.must_with(&host, &words, &config)?;
        cloud.must(&host, &["systemctl", "restart", "microcloud"])?;
    }
    cloud.write("many.yaml", &profiles(300))?;
    wait("300 profiles", Duration::from_secs(60), || {
        let listed = cloud.query(FIRST, "/1.0/profiles")?;
        let count = listed.as_array().map_or(0, Vec::len);
        Ok(if count >= 302 {
            Ok(())
        } else {
            Err(format!("{count}"))
        })
    })?;
    cloud.wait_ready(FIRST, SOON)?;
    let made: u64 = proxies
        .iter()
        .map(|(_, p)| p.seen().writes.len() as u64)
        .sum();
    if made < 300 {
        return Err(format!("the proxies saw {made} writes of 300 profiles").into());
    }
    // What is recorded once everything is done goes out within a moment.
    std::thread::sleep(Duration::from_secs(3));
    let quiet = |proxies: &[(String, Proxy)], what: &str| -> Outcome {
        for (host, proxy) in proxies {
            let seen = proxy.take();
            eprintln!(
                "{what}: {host}: {} requests, {} writes",
                seen.requests,
                seen.writes.len()
            );
            if !seen.writes.is_empty() {
                return Err(format!("{what}: {host} wrote: {:?}", seen.writes).into());
            }
        }
        Ok(())
    };
    proxies.iter().for_each(|(_, p)| drop(p.take()));
    std::thread::sleep(watched_for());
    quiet(&proxies, &format!("{:?} of running", watched_for()))?;
    let looks = |cloud: &Cloud| -> Outcome<u64> {
        Ok(cloud
            .status(FIRST)?
            .report
            .ok_or("no report")?
            .counters
            .looks)
    };
    let before = looks(cloud)?;
    cloud.must(FIRST, &["microcloud", "reconcile"])?;
    cloud.wait_ready(FIRST, SOON)?;
    std::thread::sleep(Duration::from_secs(2));
    if looks(cloud)? <= before {
        return Err("the forced round did not look at anything".into());
    }
    quiet(&proxies, "a forced full round")
}

#[test]
fn a_running_cluster_is_held_as_written() -> Outcome {
    formed("t-drift", 3, |cloud| {
        write_more(cloud)?;
        changes_come_back(cloud)?;
        stray_keys_stay(cloud)?;
        evacuation_is_shown(cloud)?;
        nothing_is_written(cloud)
    })
}
