//! Forming, growing, obstacles and failover on real hosts: needs root, `systemd-nspawn` and the
//! sandbox's base.

mod common;

use common::real::{self, CLUSTER, Cloud, FIRST, Outcome, THINGS, unready, wait};
use serde_json::Value;
use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(40);

/// All that the example makes in LXD, as LXD shows it.
fn objects(cloud: &Cloud, host: &str) -> Outcome<BTreeMap<&'static str, Value>> {
    let paths = [
        "/1.0/cluster/members?recursion=1",
        "/1.0/storage-pools/local",
        "/1.0/networks/lan",
        "/1.0/profiles/web",
    ];
    paths
        .into_iter()
        .map(|path| {
            let mut object = cloud.query(host, path)?;
            // LXD lists them in any order.
            if let Some(on) = object.get_mut("locations").and_then(Value::as_array_mut) {
                on.sort_by_key(Value::to_string);
            }
            Ok((path, object))
        })
        .collect()
}

/// How many members an object of LXD is on, and what LXD says of it.
fn spread(object: &Value) -> (usize, String) {
    let on = object["locations"].as_array().map_or(0, Vec::len);
    (on, object["status"].as_str().unwrap_or_default().to_owned())
}

fn limits_cpu(cloud: &Cloud, host: &str) -> Outcome<String> {
    let answer = cloud.lxc(host, &["profile", "get", "web", "limits.cpu"])?;
    Ok(answer.trim().to_owned())
}

/// Waits until the profile has this limit again; how long it took.
fn repaired(cloud: &Cloud, host: &str, to: &str, limit: Duration) -> Outcome<Duration> {
    let begun = Instant::now();
    wait(&format!("limits.cpu is {to}"), limit, || {
        let now = limits_cpu(cloud, host)?;
        Ok(if now == to { Ok(()) } else { Err(now) })
    })?;
    Ok(begun.elapsed())
}

#[test]
fn three_hosts_form_and_a_second_start_changes_nothing() -> Outcome {
    real::formed("t-form", 3, |cloud| {
        println!("{}", cloud.lxc(FIRST, &["cluster", "list"])?);
        let before = objects(cloud, "micro02")?;
        let pool = &before["/1.0/storage-pools/local"];
        assert_eq!(pool["driver"], "btrfs");
        assert_eq!(spread(pool), (3, "Created".to_owned()));
        let network = &before["/1.0/networks/lan"];
        assert_eq!(spread(network), (3, "Created".to_owned()));
        assert_eq!(network["config"]["ipv4.address"], "10.99.0.1/24");
        let profile = &before["/1.0/profiles/web"];
        assert_eq!(profile["devices"]["root"]["pool"], "local");

        // A member with nothing in its own directory is as well as the others.
        for host in cloud.hosts() {
            cloud.wait_ready(&host, LIMIT)?;
            cloud.must(&host, &["microcloud", "status"])?;
            cloud.must(&host, &["microcloud", "diff"])?;
        }
        let generations = |cloud: &Cloud| -> Outcome<BTreeMap<String, u64>> {
            let report = cloud.status(FIRST)?.report.ok_or("no report")?;
            let objects = report.objects.into_iter();
            Ok(objects
                .map(|o| (o.object.to_string(), o.generation))
                .collect())
        };
        let generations_before = generations(cloud)?;

        for host in cloud.hosts() {
            cloud.must(&host, &["systemctl", "restart", "microcloud.service"])?;
        }
        cloud.wait_ready(FIRST, LIMIT)?;
        cloud.must(FIRST, &["microcloud", "reconcile"])?;
        let status = cloud.wait_ready(FIRST, LIMIT)?;
        let report = status.report.ok_or("no report")?;
        println!(
            "second start: {:?}, LXD was sent {:?}",
            report.counters, report.lxd_requests
        );
        assert_eq!(report.counters.steps, 0);
        // The lease, and nothing else.
        assert_eq!(report.lxd_requests.1, 1);
        assert_eq!(objects(cloud, "micro02")?, before);
        assert_eq!(generations(cloud)?, generations_before);
        Ok(())
    })
}

#[test]
fn a_cluster_grows_by_files_and_by_apply() -> Outcome {
    real::with("t-grow", 4, |cloud| {
        cloud.write_all(&[FIRST])?;
        let begun = Instant::now();
        cloud.start_agents(&[FIRST, "micro02", "micro03", "micro04"])?;
        cloud.wait_formed(&[FIRST], LIMIT)?;
        println!("one member after {:.1?}", begun.elapsed());
        assert_eq!(cloud.members(FIRST)?.len(), 1);

        let begun = Instant::now();
        for host in ["micro02", "micro03"] {
            cloud.write(&format!("{host}.yaml"), &cloud.member(host)?)?;
        }
        cloud.wait_says(FIRST, "Member/micro03", &[], LIMIT)?;
        cloud.wait_formed(&[FIRST, "micro02", "micro03"], LIMIT)?;
        println!("three members after {:.1?}", begun.elapsed());

        // On a member that only follows: what is applied is passed on.
        assert_eq!(cloud.leader("micro03")?, FIRST);
        let begun = Instant::now();
        let apply = [
            "microcloud",
            "apply",
            "-f",
            "-",
            "--wait",
            "--timeout",
            "30s",
        ];
        let member = cloud.member("micro04")?;
        println!("{}", cloud.must_with("micro03", &apply, &member)?);
        println!("four members after {:.1?}", begun.elapsed());
        let hosts = [FIRST, "micro02", "micro03", "micro04"];
        cloud.wait_formed(&hosts, LIMIT)?;
        let objects = objects(cloud, "micro04")?;
        for path in ["/1.0/storage-pools/local", "/1.0/networks/lan"] {
            assert_eq!(spread(&objects[path]), (4, "Created".to_owned()), "{path}");
        }
        // What was applied stays when the directory is read again.
        cloud.write("more.yaml", "# nothing\n")?;
        thread::sleep(Duration::from_secs(2));
        cloud.wait_formed(&hosts, LIMIT)
    })
}

#[test]
fn obstacles_are_told_hold_nothing_up_and_go_when_they_are_mended() -> Outcome {
    real::with("t-obst", 4, |cloud| {
        let two = [FIRST, "micro02"];
        cloud.write_all(&two)?;
        cloud.start_agents(&two)?;
        cloud.wait_formed(&two, LIMIT)?;

        // micro03 is named at an address where nobody is, micro04 is cut off; both have things in
        // their LXD that joining would destroy.
        for host in ["micro03", "micro04"] {
            cloud.lxc(host, &["storage", "create", "old", "dir"])?;
        }
        cloud.start_agents(&["micro03"])?;
        let right = cloud.address("micro03")?.to_string();
        let wrong = format!("{}.250", right.rsplit_once('.').ok_or("no address")?.0);
        let fingerprint = cloud.fingerprint("micro03")?;
        cloud.cut("micro04")?;
        cloud.write(
            "micro03.yaml",
            &real::member("micro03", &wrong, &fingerprint),
        )?;
        cloud.write("micro04.yaml", &cloud.member("micro04")?)?;
        cloud.write(
            "things.yaml",
            &THINGS.replace("limits.cpu: 2", "limits.cpu: 3"),
        )?;
        let begun = Instant::now();
        let ready = [
            "Profile/web",
            "StoragePool/local",
            "Network/lan",
            "Member/micro02",
        ];
        repaired(cloud, "micro02", "3", LIMIT)?;
        println!("the others after {:.1?}", begun.elapsed());
        cloud.wait_objects(FIRST, &ready, LIMIT)?;
        let said = cloud.wait_says(
            FIRST,
            "Member/micro03",
            &["cannot reach micro03", &wrong],
            LIMIT,
        )?;
        println!("wrong address: {}", real::sentence(&said));
        let said = cloud.wait_says(FIRST, "Member/micro04", &["cannot reach micro04"], LIMIT)?;
        println!("cut off: {}", real::sentence(&said));

        // The file is mended: what is left is what LXD there holds.
        cloud.write(
            "micro03.yaml",
            &real::member("micro03", &right, &fingerprint),
        )?;
        let leftovers = ["holds things that joining destroys", "old"];
        let said = cloud.wait_says(FIRST, "Member/micro03", &leftovers, LIMIT)?;
        println!("leftovers: {}", real::sentence(&said));
        cloud.wait_objects(FIRST, &ready, LIMIT)?;

        // Back on the network its agent is still down.
        cloud.heal("micro04")?;
        let said = cloud.wait_says(FIRST, "Member/micro04", &["cannot reach", "refused"], LIMIT)?;
        println!("no agent: {}", real::sentence(&said));
        cloud.start_agents(&["micro04"])?;
        let said = cloud.wait_says(FIRST, "Member/micro04", &leftovers, LIMIT)?;

        // One is mended by taking the leftovers away, the other by an approval.
        cloud.lxc("micro03", &["storage", "delete", "old"])?;
        let three = [FIRST, "micro02", "micro03"];
        cloud.wait_objects(FIRST, &["Member/micro03"], LIMIT)?;
        let members = cloud.members(FIRST)?;
        assert!(
            three.iter().all(|m| members.contains_key(*m)),
            "{members:?}"
        );
        assert_eq!(members.len(), 3);
        let step = said.refused.iter().find_map(|r| r.approve.clone());
        let step = step.ok_or("no step to approve is shown")?;
        println!(
            "{}",
            cloud.must("micro02", &["microcloud", "approve", &step])?
        );
        cloud.wait_formed(&[FIRST, "micro02", "micro03", "micro04"], LIMIT)
    })
}

#[test]
fn a_reinstalled_initiator_forms_no_second_cluster() -> Outcome {
    real::formed("t-again", 3, |cloud| {
        // First only LXD is new, then the agent as well.
        for wiped in ["/var/lib/lxd", "/var/lib/lxd /var/lib/microcloud"] {
            let wipe = format!(
                "systemctl stop microcloud.service lxd.service lxd.socket
                 umount -q /var/lib/lxd/storage-pools/* /var/lib/lxd/shmounts /var/lib/lxd/devlxd
                 for place in {wiped}; do find $place -mindepth 1 -delete; done
                 ip link delete lan
                 wipefs -qa /dev/disk/by-id/sandbox-micro01-disk1
                 systemctl start lxd.socket lxd.service && lxd waitready --timeout=30
                 systemctl start microcloud.service"
            );
            cloud.must(FIRST, &["sh", "-c", &wipe])?;
            // Longer than another one needs to take over.
            let begun = Instant::now();
            let leader = wait("another one controls", LIMIT, || {
                Ok(match cloud.leader("micro02")? {
                    leader if leader == FIRST => Err(leader),
                    leader => Ok(leader),
                })
            })?;
            println!("{leader} controls after {:.1?}", begun.elapsed());
            let said = cloud.wait_status(FIRST, "it says why", LIMIT, |status| {
                let why = unready(status);
                let good = ["forms no second", "form a second", "not trust", "majority"];
                good.iter()
                    .any(|words| why.contains(words))
                    .then_some(())
                    .ok_or(why)
            })?;
            println!("without {wiped}, micro01 says: {}", unready(&said));
            let said = cloud.wait_status("micro02", "the others say why", LIMIT, |status| {
                let objects = status.report.iter().flat_map(|r| &r.objects);
                let member = objects
                    .into_iter()
                    .find(|o| o.object.to_string() == "Member/micro01");
                match member.map(real::sentence) {
                    Some(why) if why.contains("micro01") => Ok(()),
                    _ => Err(unready(status)),
                }
            })?;
            println!("the others say: {}", unready(&said));
            thread::sleep(Duration::from_secs(3));
            let environment = cloud.query(FIRST, "/1.0")?["environment"].clone();
            assert_eq!(environment["server_clustered"], false);
            assert_eq!(cloud.leader("micro02")?, leader, "the lead was taken away");
            assert_eq!(cloud.members("micro02")?.len(), 3);
            if wiped == "/var/lib/lxd" {
                // As it says: without its old row it is a joiner like any other.
                let remove = ["cluster", "remove", "--force", "--yes", FIRST];
                cloud.lxc("micro02", &remove)?;
                let begun = Instant::now();
                cloud.wait_formed(&["micro02", "micro03", FIRST], LIMIT)?;
                println!("it is a member again after {:.1?}", begun.elapsed());
            }
        }
        Ok(())
    })
}

#[test]
fn another_member_takes_over_and_an_old_directory_changes_nothing() -> Outcome {
    real::with("t-lead", 3, |cloud| {
        let hosts = [FIRST, "micro02", "micro03"];
        // Two members watch copies of one directory.
        for host in &hosts[..2] {
            cloud.write_on(host, "cluster.yaml", CLUSTER)?;
            cloud.write_on(host, "things.yaml", THINGS)?;
            for member in hosts {
                cloud.write_on(host, &format!("{member}.yaml"), &cloud.member(member)?)?;
            }
        }
        cloud.start_agents(&hosts)?;
        cloud.wait_formed(&hosts, LIMIT)?;
        assert_eq!(cloud.leader("micro03")?, FIRST);

        // A change on a member whose LXD has just started: no event tells of it.
        cloud.must("micro03", &["systemctl", "restart", "lxd.service"])?;
        cloud.lxc("micro03", &["profile", "set", "web", "limits.cpu=7"])?;
        let took = repaired(cloud, "micro03", "2", Duration::from_secs(25))?;
        println!("changed right after LXD restarted there: repaired after {took:.1?}");
        cloud.wait_formed(&hosts, LIMIT)?;

        // The leading agent dies and stays dead.
        let unit = "microcloud.service";
        cloud.must(FIRST, &["systemctl", "mask", "--runtime", "--quiet", unit])?;
        cloud.must(FIRST, &["systemctl", "kill", "--signal=KILL", unit])?;
        cloud.lxc("micro03", &["profile", "set", "web", "limits.cpu=5"])?;
        let took = repaired(cloud, "micro03", "2", Duration::from_secs(30))?;
        println!("changed after the leading agent died: repaired after {took:.1?}");
        let leader = cloud.leader("micro03")?;
        assert_ne!(leader, FIRST);
        assert!(took < Duration::from_secs(15), "{took:?}");

        // The copy on micro02 goes on, the one on micro01 is old when its agent comes back.
        let newer = THINGS.replace("limits.cpu: 2", "limits.cpu: 4");
        cloud.write_on("micro02", "things.yaml", &newer)?;
        repaired(cloud, "micro03", "4", LIMIT)?;
        cloud.must(
            FIRST,
            &["systemctl", "unmask", "--runtime", "--quiet", unit],
        )?;
        cloud.must(FIRST, &["systemctl", "start", unit])?;
        let said = cloud.wait_status(FIRST, "micro01 is behind", LIMIT, |status| {
            if status.directory.behind && !status.cached {
                Ok(())
            } else {
                Err(format!("{:?} {}", status.directory, unready(status)))
            }
        })?;
        println!("{:?}", said.directory.message);
        thread::sleep(Duration::from_secs(3));
        assert_eq!(limits_cpu(cloud, FIRST)?, "4");
        assert_eq!(cloud.leader(FIRST)?, leader);

        // Brought up to date, it is one of the copies again.
        cloud.write_on(FIRST, "things.yaml", &newer)?;
        cloud.wait_status(FIRST, "micro01 is not behind", LIMIT, |status| {
            if status.directory.behind {
                Err(format!("{:?}", status.directory))
            } else {
                Ok(())
            }
        })?;
        cloud.wait_formed(&hosts, LIMIT)
    })
}

/// What a host says of the member that was lost: who controls, as it knows, and the sentence of
/// the machine when it is told as lost.
fn told(cloud: &Cloud, host: &str, lost: &str) -> Outcome<(Option<String>, bool, Option<String>)> {
    let Ok(status) = cloud.ask_status(host)? else {
        return Ok((None, true, None));
    };
    let machine = status.machines.get(lost).filter(|m| !m.answers);
    let leader = status.leader.filter(|leader| leader != lost);
    Ok((
        leader,
        status.cached,
        machine.and_then(|m| m.message.clone()),
    ))
}

#[test]
fn the_controllers_host_is_lost_and_the_others_tell_at_once_what_it_carried() -> Outcome {
    real::formed("t-lost", 3, |cloud| {
        assert_eq!(cloud.leader("micro03")?, FIRST);
        // What the controller shows is told to the others within a moment.
        thread::sleep(Duration::from_secs(5));
        cloud.kill(FIRST)?;
        let begun = Instant::now();
        for host in ["micro02", "micro03"] {
            let message = wait("the host is told as lost", Duration::from_secs(60), || {
                let (_, _, message) = told(cloud, host, FIRST)?;
                Ok(message.ok_or_else(|| "it is not".to_owned()))
            })?;
            let took = begun.elapsed();
            println!("{host} tells after {took:.1?}: {message}");
            assert!(took < Duration::from_secs(10), "{took:?}");
            assert!(message.contains("a part of LXD's database"), "{message}");
            assert!(
                message.contains("nothing more may be taken from"),
                "{message}"
            );
        }
        // Nobody is told as lost who is not.
        let status = cloud.status("micro02")?;
        assert!(status.machines["micro03"].answers, "{:?}", status.machines);

        let leader = wait("another one controls", Duration::from_secs(90), || {
            let (leader, _, _) = told(cloud, "micro03", FIRST)?;
            Ok(leader.ok_or_else(|| "nobody does".to_owned()))
        })?;
        println!("{leader} controls after {:.1?}", begun.elapsed());
        let epoch = cloud.status(&leader)?.report.map(|r| r.lease.epoch);
        wait("it looked at everything", Duration::from_secs(60), || {
            let (_, cached, _) = told(cloud, "micro03", FIRST)?;
            Ok(if cached {
                Err("not yet".to_owned())
            } else {
                Ok(())
            })
        })?;
        println!("everything is looked at after {:.1?}", begun.elapsed());
        // What the time went by with.
        let journal = [
            "journalctl",
            "--unit=microcloud.service",
            "--no-pager",
            "--output=short-precise",
            "--lines=25",
        ];
        for host in ["micro02", "micro03"] {
            println!("---- {host}\n{}", cloud.must(host, &journal)?);
        }
        let member = cloud.wait_says("micro03", "Member/micro01", &["it carries"], LIMIT)?;
        println!("{}", member.conditions[0].message);
        // Who is there is not told as lost for longer than LXD takes to hear from everybody.
        let others = ["Member/micro02", "Member/micro03", "Profile/web"];
        cloud.wait_objects("micro03", &others, LIMIT)?;
        println!("the others are Ready after {:.1?}", begun.elapsed());
        // Both others saw it at the same moment; one of them took over, once.
        let after = cloud.status(&leader)?.report.map(|r| r.lease.epoch);
        println!("epoch {epoch:?}, then {after:?}");
        assert_eq!(after, Some(2));
        // What can be repaired without the lost one is.
        cloud.lxc("micro03", &["profile", "set", "web", "limits.cpu=5"])?;
        let took = repaired(cloud, "micro03", "2", Duration::from_secs(30))?;
        println!("a change is repaired after {took:.1?}");

        cloud.start(FIRST)?;
        cloud.wait_formed(&["micro02", FIRST, "micro03"], Duration::from_secs(120))
    })
}

#[test]
fn a_disk_that_is_plugged_in_is_used_within_seconds() -> Outcome {
    real::with("t-plug", 1, |cloud| {
        let member = cloud.only_member(FIRST)?;
        let disk = "---\napiVersion: microcloud.dev/v1\nkind: Disk\nmetadata: {name: large}\n\
                    spec: {member: micro01, match: size >= 6GiB, limit: 1, use: {pool: local}}\n";
        cloud.write("cluster.yaml", CLUSTER)?;
        cloud.write("micro01.yaml", &format!("{member}{disk}"))?;
        cloud.write("things.yaml", THINGS)?;
        cloud.start_agents(&[FIRST])?;
        cloud.wait_objects(
            FIRST,
            &["Cluster/demo", "Member/micro01", "Network/lan"],
            LIMIT,
        )?;
        // Nobody looks any more than at any other time.
        thread::sleep(Duration::from_secs(20));
        let shown = cloud.wait_says(FIRST, "Disk/large", &[], LIMIT)?;
        assert!(!shown.ready(), "{}", real::sentence(&shown));
        println!("{}", real::sentence(&shown));
        cloud.disk_add(FIRST, 7 << 30)?;
        let begun = Instant::now();
        let all = ["Disk/large", "StoragePool/local", "Profile/web"];
        cloud.wait_objects(FIRST, &all, LIMIT)?;
        let took = begun.elapsed();
        println!("its pool was made {took:.1?} after it was plugged in");
        assert!(took < Duration::from_secs(15), "{took:?}");
        Ok(())
    })
}
