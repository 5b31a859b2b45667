//! Members that come and go with OVN and Ceph on real hosts: 3, 2, 1 and 3 again, and one that is
//! lost and comes back reinstalled. Objects that were written before are read after every step.
//!
//! Run with `make prove`; the table goes to `docs/proof/members.md`.

mod common;

use common::proof::{Page, versions};
use common::real::{self, CLUSTER, Cloud, DIRECTORY, FIRST, Outcome, THINGS, unready, wait};
use common::whole;
use std::thread;
use std::time::{Duration, Instant};

const FORMING: Duration = Duration::from_secs(150);
const LONG: Duration = Duration::from_secs(240);

/// The pool of Ceph the objects are in, and how many there are.
const POOL: &str = "lxd_remote";
const OBJECTS: u32 = 20;

/// Has the example's cluster keep so many copies, and these members leave.
fn want(cloud: &Cloud, replicas: Option<u32>, absent: &[&str]) -> Outcome {
    let read = |file: &str| cloud.must(FIRST, &["cat", &format!("{DIRECTORY}/.{file}.whole")]);
    let mut cluster = read("cluster.yaml")?;
    if let Some(replicas) = replicas {
        let line = "  ceph:\n    provider: packaged\n";
        cluster = cluster.replace(line, &format!("{line}    replicas: {replicas}\n"));
    }
    let mut members = read("members.yaml")?;
    for host in absent {
        let line = format!("  name: {host}\nspec:\n");
        members = members.replace(&line, &format!("{line}  state: Absent\n"));
    }
    cloud.write("cluster.yaml", &cluster)?;
    cloud.write("members.yaml", &members)
}

/// Keeps the files as they are written for the whole cluster.
fn keep_whole(cloud: &Cloud) -> Outcome {
    for file in ["cluster.yaml", "members.yaml"] {
        let copy = format!("cp {DIRECTORY}/{file} {DIRECTORY}/.{file}.whole");
        cloud.must(FIRST, &["sh", "-c", &copy])?;
    }
    Ok(())
}

fn write_objects(cloud: &Cloud) -> Outcome {
    for n in 0..OBJECTS {
        let put = format!("seq {n} 9999 | timeout 20 rados -p {POOL} put object-{n} -");
        cloud.must(FIRST, &["sh", "-c", &put])?;
    }
    Ok(())
}

/// Reads all objects and compares them.
fn read_objects(cloud: &Cloud) -> Outcome {
    for n in 0..OBJECTS {
        let get = format!(
            "timeout 20 rados -p {POOL} get object-{n} /tmp/object && seq {n} 9999 | cmp - /tmp/object"
        );
        cloud.must(FIRST, &["sh", "-c", &get])?;
    }
    Ok(())
}

/// What holds what, in one line; the placement groups must be clean.
fn holders(cloud: &Cloud) -> Outcome<String> {
    let words = |value: &serde_json::Value| {
        let list = value.as_array().into_iter().flatten();
        let mut words: Vec<&str> = list.filter_map(|w| w.as_str()).collect();
        words.sort_unstable();
        words.join(" ")
    };
    let status = whole::ceph(cloud, &["status"])?;
    let pgs = &status["pgmap"]["pgs_by_state"];
    let clean = pgs.as_array().is_some_and(|s| s.len() == 1);
    if !clean || pgs[0]["state_name"] != "active+clean" {
        return Err(format!("placement groups: {pgs}").into());
    }
    let members: Vec<String> = cloud.members(FIRST)?.into_keys().collect();
    let said = cloud.must(
        FIRST,
        &[
            "ovn-appctl",
            "-t",
            "/var/run/ovn/ovnsb_db.ctl",
            "cluster/status",
            "OVN_Southbound",
        ],
    )?;
    let servers = said
        .lines()
        .skip_while(|l| !l.starts_with("Servers:"))
        .skip(1);
    let servers = servers.filter(|l| l.contains(" at ")).count();
    let chassis = "ovn-sbctl --no-leader-only --bare --columns=name list chassis | sort | xargs";
    Ok(format!(
        "LXD {}; monitors {}; OSDs {}; OVN's raft {servers}; chassis {}",
        members.join(" "),
        words(&status["quorum_names"]),
        status["osdmap"]["num_in_osds"],
        cloud.must(FIRST, &["sh", "-c", chassis])?.trim(),
    ))
}

/// One step: waits until all is ready and these members are left, reads everything back.
fn step(cloud: &Cloud, page: &mut Page, what: &str, begun: Instant, left: &[&str]) -> Outcome {
    wait(what, LONG, || {
        let members = cloud.members(FIRST)?;
        let good = members.len() == left.len() && left.iter().all(|l| members.contains_key(*l));
        let told = match cloud.ask_status(FIRST)? {
            Ok(status) if status.report.as_ref().is_some_and(|r| r.all_ready()) && good => {
                return Ok(Ok(()));
            }
            Ok(status) => unready(&status),
            Err(why) => why,
        };
        Ok(Err(format!("{members:?} {told}")))
    })?;
    let took = begun.elapsed();
    let held = wait("the placement groups are clean", LONG, || {
        Ok(holders(cloud).map_err(|e| e.to_string()))
    })?;
    read_objects(cloud)?;
    let row = format!("| {what} | {:.1} s | {held} |", took.as_secs_f64());
    eprintln!("{row}");
    page.line(&row);
    Ok(())
}

fn remove(cloud: &Cloud, host: &str, action: &str) -> Outcome {
    let (member, step) = (
        format!("Member/{host}"),
        format!("Member/{host}/{action}@{host}"),
    );
    let said = cloud.wait_says(FIRST, &member, &[&step], LONG)?;
    eprintln!("{}", common::real::sentence(&said));
    cloud
        .must(FIRST, &["microcloud", "approve", &step])
        .map(drop)
}

/// Installs a host anew, as far as the cluster is concerned: nothing of it is left.
const REINSTALL: &str = "systemctl disable --now microcloud lxd.socket lxd ovn-controller ovn-host \
    ovn-central ovn-ovsdb-server-nb ovn-ovsdb-server-sb 'ceph-*' >/dev/null 2>&1; \
    systemctl stop 'ceph-osd@*' 'ceph-mon@*' 'ceph-mgr@*' 'ceph-mds@*' lxd.service lxd.socket; \
    grep ' /var/lib/lxd/' /proc/mounts | cut -d' ' -f2 | sort -r | xargs -r -n1 umount; \
    rm -rf /var/lib/lxd/* /var/lib/microcloud /etc/ceph/* /var/lib/ceph/*/ceph-* /var/lib/ovn/* \
    /etc/ovn/* /var/lib/ceph/bootstrap-osd/*; \
    ovs-vsctl --if-exists del-br br-int; \
    ovs-vsctl remove open . external-ids ovn-remote; \
    for d in /dev/disk/by-id/*; do \
        wipefs --all --force $d >/dev/null; \
        dd if=/dev/zero of=$d bs=1M count=65 conv=notrunc,fsync status=none; \
    done; \
    systemctl enable --now lxd.socket";

#[test]
#[ignore = "takes ten minutes: make prove"]
fn members_come_and_go_and_nothing_is_lost() -> Outcome {
    let mut page = Page::new(
        "members.md",
        "Members come and go",
        "Three real hosts with the cloud of `examples/three-node`: LXD, OVN and Ceph. After every \
         step all resources\nare ready, all placement groups are clean, and 20 objects that were \
         written to Ceph at first are read back\nand compared. Seconds from the change of the files, \
         or from the approval.",
        "scripts/prove prove_members",
    );
    whole::with("t-members", |cloud| {
        page.line(&versions(cloud)?);
        whole::write(cloud)?;
        keep_whole(cloud)?;
        cloud.start_agents(&whole::HOSTS)?;
        cloud.wait_formed(&whole::HOSTS, FORMING)?;
        whole::settled(cloud, FORMING)?;
        write_objects(cloud)?;
        page.line("| step | after | what holds what then |\n|---|---|---|");

        want(cloud, None, &["micro03"])?;
        let words = ["keep 3 copies", "write replicas: 2"];
        cloud.wait_says(FIRST, "Member/micro03", &words, LONG)?;
        page.line("| 3 → 2 with 3 copies is refused with the numbers | | |");

        want(cloud, Some(2), &["micro03"])?;
        remove(cloud, "micro03", "remove")?;
        step(
            cloud,
            &mut page,
            "3 → 2, `replicas: 2`",
            Instant::now(),
            &[FIRST, "micro02"],
        )?;

        want(cloud, Some(1), &["micro02", "micro03"])?;
        remove(cloud, "micro02", "remove")?;
        step(
            cloud,
            &mut page,
            "2 → 1, `replicas: 1`",
            Instant::now(),
            &[FIRST],
        )?;

        want(cloud, Some(3), &[])?;
        step(
            cloud,
            &mut page,
            "1 → 3, `replicas: 3`",
            Instant::now(),
            &whole::HOSTS,
        )?;

        cloud.kill("micro03")?;
        want(cloud, Some(2), &["micro03"])?;
        remove(cloud, "micro03", "remove-lost")?;
        let two = [FIRST, "micro02"];
        step(
            cloud,
            &mut page,
            "a lost member is given up",
            Instant::now(),
            &two,
        )?;

        // Its old LXD never answers again, so it is installed anew while it starts.
        let hosts = cloud.shared();
        let starting = thread::spawn(move || hosts.start("micro03").map_err(|e| e.to_string()));
        wait("micro03 runs commands", LONG, || {
            let is_up = cloud.run("micro03", &["systemctl", "is-active", "dbus"], "");
            let up = is_up.is_ok_and(|out| out.status.success());
            Ok(if up {
                Ok(())
            } else {
                Err("not yet".to_owned())
            })
        })?;
        cloud.must("micro03", &["sh", "-c", REINSTALL])?;
        starting.join().map_err(|_| "starting it panicked")??;
        cloud.renew("micro03")?;
        // Whoever controls by now is to be let in, as its status says.
        let leader = cloud.leader(FIRST)?;
        let key = cloud.fingerprint(&leader)?;
        let words = ["microcloud", "agent", "trust", &key, "--name", &leader];
        cloud.must("micro03", &words)?;
        // Its new key stands where the old one stood.
        whole::write(cloud)?;
        keep_whole(cloud)?;
        cloud.start_agents(&["micro03"])?;
        thread::sleep(Duration::from_secs(1));
        want(cloud, Some(3), &[])?;
        step(
            cloud,
            &mut page,
            "it comes again, reinstalled",
            Instant::now(),
            &whole::HOSTS,
        )?;
        page.keep()
    })
}

/// Applies LXD alone, as somebody without a directory does.
fn apply_lxd(cloud: &Cloud) -> Outcome {
    let mut all = format!("{CLUSTER}---\n{THINGS}");
    for host in cloud.hosts() {
        all.push_str(&format!("---\n{}", cloud.member(&host)?));
    }
    let words = [
        "microcloud",
        "apply",
        "-f",
        "-",
        "--wait",
        "--timeout",
        "90s",
    ];
    cloud.must_with(FIRST, &words, &all).map(drop)
}

#[test]
#[ignore = "takes some minutes: make prove"]
fn a_database_that_lost_its_majority_is_brought_back() -> Outcome {
    let mut page = Page::new(
        "recover.md",
        "LXD's database without a majority",
        "Three real hosts with LXD, no watched directory. Two are killed for good, the one that \
         controls among them; `microcloud cluster recover` on the third brings LXD's database back, \
         and the lost members are given up with `microcloud remove --force`. Seconds from the kill.",
        "scripts/prove prove_members",
    );
    real::with("t-recover", 3, |cloud| {
        page.line(&versions(cloud)?);
        let hosts = cloud.hosts();
        let all: Vec<&str> = hosts.iter().map(String::as_str).collect();
        cloud.start_agents(&all)?;
        apply_lxd(cloud)?;
        let last = "micro03";
        let recover = ["microcloud", "cluster", "recover", "--yes"];
        let refused = cloud.run(last, &recover, "")?;
        assert_eq!(refused.status.code(), Some(1));
        let said = real::text(&refused.stderr);
        assert!(said.contains("has its majority"), "{said}");

        for lost in [FIRST, "micro02"] {
            cloud.kill(lost)?;
        }
        let begun = Instant::now();
        page.line("| what | after, s |\n|---|---|");
        let mut row = |what: &str| {
            let row = format!("| {what} | {:.1} |", begun.elapsed().as_secs_f64());
            eprintln!("{row}");
            page.line(&row);
        };
        let said = cloud.must(last, &recover)?;
        eprintln!("{said}");
        assert!(
            said.contains("micro01, micro02 must never be started again"),
            "{said}"
        );
        assert!(said.contains("micro03 controls again"), "{said}");
        row("`microcloud cluster recover --yes` has ended");
        let members = cloud.members(last)?;
        assert_eq!(members.len(), 3, "{members:?}");
        let web = cloud.lxc(last, &["profile", "get", "web", "limits.cpu"])?;
        assert_eq!(web.trim(), "2", "what was written is there");
        let status = cloud.status(last)?;
        assert!(!status.cached, "somebody controls: {:?}", status.reason);
        let words = [
            "microcloud",
            "remove",
            FIRST,
            "micro02",
            "--force",
            "--wait",
            "--timeout",
            "150s",
        ];
        eprintln!("{}", cloud.must(last, &words)?);
        row("`microcloud remove micro01 micro02 --force --wait` has ended");
        let members = cloud.members(last)?;
        assert_eq!(members.keys().collect::<Vec<_>>(), [last]);
        for lost in [FIRST, "micro02"] {
            cloud.must(last, &["microcloud", "delete", &format!("member/{lost}")])?;
        }
        // It is a cloud of one, and takes changes.
        let web = "apiVersion: microcloud.dev/v1\nkind: Profile\nmetadata: {name: web}\n\
                   spec: {config: {limits.cpu: 3}}\n";
        let words = [
            "microcloud",
            "apply",
            "-f",
            "-",
            "--wait",
            "--timeout",
            "60s",
        ];
        cloud.must_with(last, &words, web)?;
        let cpu = cloud.lxc(last, &["profile", "get", "web", "limits.cpu"])?;
        assert_eq!(cpu.trim(), "3");
        let listed = cloud.must(last, &["microcloud", "cluster", "list", "-f", "csv"])?;
        assert_eq!(listed.lines().count(), 1, "{listed}");
        page.keep()
    })
}

#[test]
#[ignore = "takes some minutes: make prove"]
fn ceph_and_ovn_are_added_to_a_cloud_that_was_set_up_without() -> Outcome {
    let mut page = Page::new(
        "service_add.md",
        "Ceph and OVN are added later",
        "Three real hosts with LXD alone; `microcloud service add` adds Ceph and OVN, and new \
         instances have both. Seconds from the command.",
        "scripts/prove prove_members",
    );
    whole::with("t-service", |cloud| {
        page.line(&versions(cloud)?);
        cloud.start_agents(&whole::HOSTS)?;
        apply_lxd(cloud)?;
        let view = cloud.view()?;
        let outside = |end: &str| view.uplink.replace(".0/24", end);
        let range = format!("{}-{}", outside(".100"), outside(".200"));
        let gateway = outside(".1/24");
        let mut words = vec!["microcloud", "service", "add", "--yes", "--profile"];
        let disks = whole::HOSTS.map(|h| format!("{h}=/dev/disk/by-id/sandbox-{h}-disk2"));
        for disk in &disks {
            words.extend(["--ceph-disk", disk]);
        }
        words.extend([
            "--uplink",
            "up0",
            "--ipv4-gateway",
            &gateway,
            "--ipv4-range",
            &range,
        ]);
        words.extend(["--underlay", &view.underlay, "--timeout", "200s"]);
        let begun = Instant::now();
        let said = cloud.must("micro02", &words)?;
        eprintln!("{said}");
        let took = begun.elapsed().as_secs_f64();
        whole::settled(cloud, LONG)?;
        page.line(&format!("All of it was Ready after {took:.1} s.\n"));
        let root = cloud.lxc(
            FIRST,
            &["profile", "device", "get", "default", "root", "pool"],
        )?;
        assert_eq!(root.trim(), "remote");
        let nic = ["profile", "device", "get", "default", "eth0", "network"];
        assert_eq!(cloud.lxc(FIRST, &nic)?.trim(), "default");
        cloud.wait_formed(&whole::HOSTS, FORMING)?;
        let listed = cloud.must(FIRST, &["microcloud", "service", "list"])?;
        eprintln!("{listed}");
        assert_eq!(listed.matches("central, chassis").count(), 3, "{listed}");
        assert_eq!(listed.matches("mon, mgr").count(), 3, "{listed}");
        page.line(&format!("```\n{}\n```", listed.trim_end()));
        let more = cloud.run(FIRST, &["microcloud", "service", "add", "--yes"], "")?;
        assert!(real::text(&more.stderr).contains("nothing is left to add"));
        page.keep()
    })
}
