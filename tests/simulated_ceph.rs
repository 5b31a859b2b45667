//! Ceph formed and held on the simulated cloud: the whole cloud of the upstream defaults.

#[path = "common/sim.rs"]
mod sim;

use microcloud::reconcile::Controller;
use microcloud::services::ceph::{Ceph, CephCluster, Command, Fullness, Look};
use microcloud::services::host::CephDaemonKind;
use microcloud::services::lxd::Method;
use microcloud::simulate::{CrashKind, Fault, FaultAction, PathClass, SimCloud};
use sim::{controller, doc, files, machines, mortal, settled, shown, story, upstream};
use std::fmt::Write;
use std::time::Duration;
use tokio::time::Instant;

const PACKAGED: &str = "{provider: packaged}";

/// The cluster as an administrator on a machine sees it.
async fn look(cloud: &SimCloud, member: &str) -> CephCluster {
    let seen = Look::default().look(&cloud.ceph(member)).await;
    seen.expect("Ceph answers")
}

#[tokio::test(start_paused = true)]
async fn the_upstream_default_forms_and_rests() {
    let cloud = SimCloud::new(machines(3));
    let controller = controller(&cloud, "micro01").await;
    let reading = files(&[("all.yaml", upstream(3, PACKAGED))]);
    controller.submit(&reading).await.expect("kept");
    settled(&controller).await;
    let ceph = look(&cloud, "micro03").await;
    assert_eq!(ceph.monitors.len(), 3, "{ceph:?}");
    assert!(ceph.monitors.values().all(|m| m.in_quorum), "{ceph:?}");
    assert_eq!(ceph.osd_hosts_up().len(), 3, "{ceph:?}");
    assert_eq!(ceph.health, Default::default(), "{}", story(&controller));
    let pools: Vec<&str> = ceph.pools.keys().map(String::as_str).collect();
    let wanted = [".mgr", "lxd_cephfs_data", "lxd_cephfs_meta", "lxd_remote"];
    assert_eq!(pools, wanted);
    for (name, pool) in &ceph.pools {
        assert_eq!((pool.size, pool.min_size), (3, 2), "{name}");
        let (_, rule) = ceph.rule(pool.rule).expect("its rule");
        assert_eq!(rule.failure_domain, "host", "{name}");
    }
    assert_eq!(cloud.ceph_clusters().len(), 1);
    let before = cloud.counts();
    tokio::time::sleep(Duration::from_secs(1200)).await;
    let after = cloud.counts();
    assert_eq!(
        before.total().writes,
        after.total().writes,
        "a cloud at rest is only read: {:?}",
        cloud.writes().last()
    );
    assert!(controller.all_ready(), "{}", story(&controller));
}

/// Only Ceph and what is on it.
fn only_ceph(members: usize, ceph: &str) -> String {
    let mut text = doc(
        "Cluster",
        "demo",
        &format!("{{initiator: micro01, ceph: {ceph}}}"),
    );
    let names: Vec<String> = (1..=members).map(|n| format!("micro{n:02}")).collect();
    for (n, name) in names.iter().enumerate() {
        let spec = format!("{{address: 10.77.0.{0}, failureDomain: rack{0}}}", n + 1);
        text += &doc("Member", name, &spec);
    }
    let names = names.join(", ");
    text += &doc(
        "Disk",
        "ceph",
        &format!("{{members: [{names}], match: size > 20GiB, limit: 1, use: ceph}}"),
    );
    text += &doc("StoragePool", "remote", "{driver: ceph}");
    text += &doc(
        "StoragePool",
        "remote-fs",
        "{driver: cephfs, config: {cephfs.create_missing: true, cephfs.path: lxd_cephfs}}",
    );
    text
}

/// A formed cloud with only Ceph, and its controller.
async fn formed(members: usize) -> (SimCloud, Controller) {
    let cloud = SimCloud::new(machines(members));
    let controller = controller(&cloud, "micro01").await;
    let reading = files(&[("all.yaml", only_ceph(members, PACKAGED))]);
    controller.submit(&reading).await.expect("kept");
    settled(&controller).await;
    (cloud, controller)
}

/// Everything about Ceph that two runs must agree on: not its numbers.
async fn portrait(cloud: &SimCloud) -> String {
    let ceph = match Look::default().look(&cloud.ceph("micro01")).await {
        Ok(ceph) => ceph,
        Err(error) => return error.to_string(),
    };
    let mut text = String::new();
    let line = |text: &mut String, line: String| writeln!(text, "{line}").expect("a String");
    for (name, monitor) in &ceph.monitors {
        line(&mut text, format!("monitor {name} {monitor:?}"));
    }
    let managers = ceph.managers.standbys.len() + usize::from(ceph.managers.available);
    line(&mut text, format!("{managers} managers"));
    let servers: Vec<&String> = ceph.mds.keys().collect();
    line(&mut text, format!("metadata servers {servers:?}"));
    line(&mut text, format!("hosts {:?}", ceph.hosts));
    line(
        &mut text,
        format!("health {:?} {:?}", ceph.health, ceph.unclean),
    );
    for fs in &ceph.filesystems {
        let pools = [fs.metadata_pool, fs.data_pools[0]];
        let pools = pools.map(|id| ceph.pools.iter().find(|(_, p)| p.id == id).map(|(n, _)| n));
        line(&mut text, format!("file system {} {pools:?}", fs.name));
    }
    for (name, pool) in &ceph.pools {
        let rule = ceph.rule(pool.rule).map(|(name, _)| name);
        let (size, least) = (pool.size, pool.min_size);
        let applications = &pool.applications;
        line(
            &mut text,
            format!("pool {name} {size} {least} {rule:?} {applications:?}"),
        );
    }
    for ((section, name), value) in &ceph.config {
        let value = match name.as_str() {
            // Its number depends on what was made before.
            "osd_pool_default_crush_rule" => {
                let rule = ceph.rule(value.parse().expect("a number"));
                rule.map(|(name, _)| name.to_owned()).unwrap_or_default()
            }
            _ => value.clone(),
        };
        line(&mut text, format!("config {section} {name} {value}"));
    }
    let mut centrals = cloud.ovn_centrals();
    centrals.sort();
    line(&mut text, format!("OVN's databases on {centrals:?}"));
    for member in cloud.machines() {
        let report = cloud.report(&member);
        let told = &report.ovn.chassis.external_ids;
        line(&mut text, format!("{member} chassis {told:?}"));
        let has = report.ceph;
        line(
            &mut text,
            format!("{member} {} {} {:?}", has.mon_host, has.admin, has.daemons),
        );
        for osd in &has.osds {
            let id = osd.id.expect("it has one");
            let known = &ceph.osds[&id];
            assert_eq!(known.uuid, osd.uuid, "{member}");
            let state = (osd.ready, &osd.unit, known.up, known.in_, &known.host);
            line(&mut text, format!("  osd on {} {state:?}", osd.path));
        }
    }
    assert_eq!(
        ceph.osds.len(),
        cloud
            .machines()
            .iter()
            .map(|m| cloud.report(m).ceph.osds.len())
            .sum::<usize>(),
        "an OSD that is on no disk"
    );
    text + &sim::portrait(cloud).await
}

async fn run(ceph: &Ceph, command: Command) {
    ceph.run(&command).await.expect("it is done by hand");
}

fn set_pool(pool: &str, name: &str, value: &str) -> Command {
    Command::new("osd pool set")
        .with("pool", pool)
        .with("var", name)
        .with("val", value)
}

fn set_config(section: &str, name: &str, value: &str) -> Command {
    Command::new("config set")
        .with("who", section)
        .with("name", name)
        .with("value", value)
}

/// Waits until Ceph is as it was; tells how long it took.
async fn back(cloud: &SimCloud, controller: &Controller, before: &str, what: &str) -> Duration {
    let begun = Instant::now();
    loop {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let took = begun.elapsed();
        let now = portrait(cloud).await;
        if now == before && controller.all_ready() {
            return took;
        }
        assert!(
            took < Duration::from_secs(60),
            "{what} did not come back:\n{now}\nwanted:\n{before}\n{}",
            story(controller)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_changed_by_hand_in_ceph_comes_back() {
    let cloud = SimCloud::new(machines(3));
    let controller = controller(&cloud, "micro01").await;
    let ceph = "{provider: packaged, publicNetwork: 10.77.0.0/16}";
    let reading = files(&[("all.yaml", only_ceph(3, ceph))]);
    controller.submit(&reading).await.expect("kept");
    settled(&controller).await;
    let before = portrait(&cloud).await;
    let hand = cloud.ceph("micro02");
    let reclaim = "auth_allow_insecure_global_id_reclaim";
    let remove = Command::new("config rm")
        .with("who", "global")
        .with("name", "osd_pool_default_size");
    let disable = Command::new("osd pool application disable")
        .with("pool", "remote")
        .with("app", "rbd")
        .with("yes_i_really_mean_it", true);
    for (what, command) in [
        ("the copies of a pool", set_pool("remote", "size", "2")),
        (
            "the rule of a pool",
            set_pool("remote", "crush_rule", "replicated_rule"),
        ),
        (
            "the copies of the managers' pool",
            set_pool(".mgr", "size", "2"),
        ),
        (
            "the copies of a file system",
            set_pool("lxd_cephfs_meta", "size", "2"),
        ),
        (
            "a key of the configuration",
            set_config("mon", reclaim, "true"),
        ),
        (
            "the public network",
            set_config("global", "public_network", "10.1.0.0/24"),
        ),
        (
            "the copies of new pools",
            set_config("global", "osd_pool_default_size", "2"),
        ),
        (
            "the rule of new pools",
            set_config("global", "osd_pool_default_crush_rule", "0"),
        ),
        ("a key that is removed", remove),
        ("what a pool is for", disable),
    ] {
        run(&hand, command).await;
        let took = back(&cloud, &controller, &before, what).await;
        println!("{what}: after {took:?}");
        // What is changed again and again is taken for a fight.
        tokio::time::sleep(Duration::from_secs(61)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn daemons_that_stop_are_started_again() {
    let (cloud, controller) = formed(3).await;
    let before = portrait(&cloud).await;
    for kind in [
        CephDaemonKind::Mon,
        CephDaemonKind::Mgr,
        CephDaemonKind::Mds,
    ] {
        for member in ["micro02", "micro01"] {
            cloud.stop_ceph(member, kind);
            let what = format!("the {kind} of {member}");
            let took = back(&cloud, &controller, &before, &what).await;
            assert!(took < Duration::from_secs(15), "{what}: {took:?}");
        }
    }
    let osds = cloud.report("micro02").ceph.osds;
    cloud.fail_osd("micro02", osds[0].id.expect("it has one"));
    let took = back(&cloud, &controller, &before, "an OSD").await;
    assert!(took < Duration::from_secs(15), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn without_a_majority_of_monitors_it_is_said_and_they_are_started() {
    let (cloud, controller) = formed(3).await;
    let before = portrait(&cloud).await;
    cloud.stop_ceph("micro02", CephDaemonKind::Mon);
    cloud.stop_ceph("micro03", CephDaemonKind::Mon);
    let asked = cloud.ceph("micro01").run(&Command::new("status")).await;
    let error = asked.expect_err("one of three is no majority").to_string();
    assert!(error.contains("do not answer"), "{error}");
    back(&cloud, &controller, &before, "the quorum").await;
}

#[tokio::test(start_paused = true)]
async fn a_monitor_that_lost_its_store_or_its_place_is_made_anew() {
    let (cloud, controller) = formed(3).await;
    let before = portrait(&cloud).await;
    // micro01 also controls.
    for member in ["micro03", "micro01"] {
        cloud.lose_monitor(member);
        let what = format!("the store of the monitor of {member}");
        let took = back(&cloud, &controller, &before, &what).await;
        assert!(took < Duration::from_secs(20), "{what}: {took:?}");
        let remove = Command::new("mon remove").with("name", member);
        run(&cloud.ceph("micro02"), remove).await;
        let what = format!("the place of the monitor of {member}");
        let took = back(&cloud, &controller, &before, &what).await;
        assert!(took < Duration::from_secs(20), "{what}: {took:?}");
    }
    // While another one is out there is no majority to ask, and nothing is taken from the map.
    cloud.lose_monitor("micro03");
    cloud.stop_ceph("micro02", CephDaemonKind::Mon);
    back(&cloud, &controller, &before, "both").await;
}

#[tokio::test(start_paused = true)]
async fn while_it_is_formed_nothing_is_called_a_fault() {
    let (_cloud, controller) = formed(3).await;
    let story = story(&controller);
    for alarm in [
        "CephPoolGone",
        "MonitorDown",
        "CephHealth",
        "PlacementGroups",
    ] {
        assert!(!story.contains(alarm), "{alarm} was told:\n{story}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_osd_that_somebody_set_out_is_shown_and_stays_out() {
    let (cloud, controller) = formed(3).await;
    let hand = cloud.ceph("micro02");
    run(&hand, Command::new("osd out").with("ids", vec!["0"])).await;
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert!(!look(&cloud, "micro01").await.osds[&0].in_);
    let (_, _, message) = shown(&controller, "Disk/ceph");
    let told = message.contains("ceph osd in 0") || story(&controller).contains("ceph osd in 0");
    assert!(told, "{}", story(&controller));
    run(&hand, Command::new("osd in").with("ids", vec!["0"])).await;
    settled(&controller).await;
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_was_deleted_in_ceph_is_told_and_never_made_again() {
    let (cloud, controller) = formed(3).await;
    let hand = cloud.ceph("micro01");
    let delete = Command::new("osd pool delete")
        .with("pool", "remote")
        .with("pool2", "remote")
        .with("yes_i_really_really_mean_it", true);
    assert!(
        hand.run(&delete).await.is_err(),
        "it is not allowed at first"
    );
    run(&hand, set_config("mon", "mon_allow_pool_delete", "true")).await;
    run(&hand, delete).await;
    tokio::time::sleep(Duration::from_secs(120)).await;
    let (ready, reason, message) = shown(&controller, "StoragePool/remote");
    assert!(
        !ready && message.contains("is gone from Ceph"),
        "{reason} {message}"
    );
    assert!(!look(&cloud, "micro01").await.pools.contains_key("remote"));
    assert!(
        shown(&controller, "StoragePool/remote-fs").0,
        "{}",
        story(&controller)
    );
}

#[tokio::test(start_paused = true)]
async fn health_is_told_where_it_belongs_and_passes() {
    let (cloud, controller) = formed(3).await;
    cloud.fill_osd("micro02", 0, Some(Fullness::Near));
    cloud.skew_clock("micro03", true);
    tokio::time::sleep(Duration::from_secs(15)).await;
    let (_, _, disk) = shown(&controller, "Disk/ceph");
    assert!(disk.contains("nearly full"), "{disk}");
    let (_, _, member) = shown(&controller, "Member/micro03");
    assert!(member.contains("clock"), "{member}");
    cloud.fill_osd("micro02", 0, None);
    cloud.skew_clock("micro03", false);
    settled(&controller).await;
}

#[tokio::test(start_paused = true)]
async fn a_lost_machine_is_told_and_what_comes_back_is_used_again() {
    let (cloud, controller) = formed(3).await;
    let before = portrait(&cloud).await;
    cloud.kill_host("micro03");
    tokio::time::sleep(Duration::from_secs(12)).await;
    let (ready, reason, message) = shown(&controller, "Member/micro03");
    assert!(!ready, "{reason} {message}");
    for part in ["osd.", "a monitor of Ceph"] {
        assert!(message.contains(part), "{part} is not in {message}");
    }
    let (_, _, message) = shown(&controller, "Cluster/demo");
    assert!(message.contains("the monitor of micro03"), "{message}");
    // Longer than the grace period: there is nobody to give its place to.
    tokio::time::sleep(Duration::from_secs(700)).await;
    let ceph = look(&cloud, "micro01").await;
    assert_eq!(ceph.monitors.len(), 3, "{}", story(&controller));
    cloud.start_host("micro03");
    back(&cloud, &controller, &before, "the machine").await;
}

#[tokio::test(start_paused = true)]
async fn a_fourth_member_gets_the_monitor_of_a_lost_one_after_the_grace_period() {
    let (cloud, controller) = formed(4).await;
    let ceph = look(&cloud, "micro01").await;
    let monitors: Vec<&str> = ceph.monitors.keys().map(String::as_str).collect();
    assert_eq!(monitors, ["micro01", "micro02", "micro03"]);
    cloud.kill_host("micro02");
    tokio::time::sleep(Duration::from_secs(240)).await;
    let ceph = look(&cloud, "micro01").await;
    assert!(ceph.monitors.contains_key("micro02"), "it may come back");
    tokio::time::sleep(Duration::from_secs(180)).await;
    let ceph = look(&cloud, "micro01").await;
    let monitors: Vec<&str> = ceph.monitors.keys().map(String::as_str).collect();
    assert_eq!(
        monitors,
        ["micro01", "micro03", "micro04"],
        "{}",
        story(&controller)
    );
    assert!(ceph.monitors.values().all(|m| m.in_quorum));
    for member in ["micro01", "micro03", "micro04"] {
        assert_eq!(
            cloud.report(member).ceph.mon_host,
            ceph.mon_host(),
            "{member}"
        );
    }
    cloud.start_host("micro02");
    settled(&controller).await;
    let ceph = look(&cloud, "micro01").await;
    let monitors: Vec<&str> = ceph.monitors.keys().map(String::as_str).collect();
    assert_eq!(
        monitors,
        ["micro01", "micro03", "micro04"],
        "who has one keeps it"
    );
    let has = cloud.report("micro02").ceph;
    assert_eq!(has.daemon(CephDaemonKind::Mon), None, "{has:?}");
    assert_eq!(has.mon_host, ceph.mon_host());
}

#[tokio::test(start_paused = true)]
async fn copies_and_the_failure_domain_follow_the_machines_up() {
    let cloud = SimCloud::new(machines(3));
    let controller = controller(&cloud, "micro01").await;
    for (members, copies, domain) in [(1, 1, "osd"), (2, 2, "host"), (3, 3, "rack")] {
        let reading = files(&[("all.yaml", only_ceph(members, PACKAGED))]);
        controller.submit(&reading).await.expect("kept");
        settled(&controller).await;
        let ceph = look(&cloud, "micro01").await;
        for (name, pool) in &ceph.pools {
            assert_eq!(pool.size, copies, "{name} with {members} members");
            let (_, rule) = ceph.rule(pool.rule).expect("its rule");
            assert_eq!(rule.failure_domain, domain, "{name} with {members} members");
        }
        let monitors = if members == 3 { 3 } else { 1 };
        assert_eq!(ceph.monitors.len(), monitors, "{}", story(&controller));
    }
}

/// What can go wrong around the k-th write of forming, one after another, until forming ends
/// before it.
async fn crashes(kind: CrashKind, text: String) -> usize {
    let reading = files(&[("all.yaml", text)]);
    let undisturbed = {
        let cloud = SimCloud::new(machines(3));
        let controller = controller(&cloud, "micro01").await;
        controller.submit(&reading).await.expect("kept");
        settled(&controller).await;
        portrait(&cloud).await
    };
    for k in 1.. {
        let cloud = SimCloud::new(machines(3));
        let process = cloud.process("micro01");
        let mut crash = process.crash_at(k, kind);
        println!("crash {kind:?} {k}");
        let first = mortal(&process, "micro01")
            .await
            .expect("there is no store to write yet");
        let whole = tokio::select! {
            () = crash.died() => false,
            () = async {
                if first.submit(&reading).await.is_err() {
                    std::future::pending::<()>().await;
                }
                settled(&first).await;
            } => true,
        };
        drop(first);
        if whole {
            return usize::try_from(k).unwrap_or(usize::MAX) - 1;
        }
        let second = controller(&cloud, "micro01").await;
        second.submit(&reading).await.expect("kept");
        settled(&second).await;
        let after = portrait(&cloud).await;
        assert_eq!(after, undisturbed, "crash {kind:?} {k}\n{}", story(&second));
        assert_eq!(cloud.ceph_clusters().len(), 1, "crash {kind:?} {k}");
    }
    0
}

#[tokio::test(start_paused = true)]
async fn a_crash_before_any_write_of_forming_ends_in_the_same_cluster() {
    let tried = crashes(CrashKind::BeforeWrite, only_ceph(3, PACKAGED)).await;
    assert!(tried > 30, "only {tried} crashes were tried");
}

#[tokio::test(start_paused = true)]
async fn a_crash_after_any_write_of_forming_ends_in_the_same_cluster() {
    let tried = crashes(CrashKind::AfterWrite, only_ceph(3, PACKAGED)).await;
    assert!(tried > 30, "only {tried} crashes were tried");
}

#[tokio::test(start_paused = true)]
async fn a_crash_before_any_write_of_the_upstream_default_ends_in_the_same_cluster() {
    let tried = crashes(CrashKind::BeforeWrite, upstream(3, PACKAGED)).await;
    assert!(tried > 60, "only {tried} crashes were tried");
}

#[tokio::test(start_paused = true)]
async fn a_crash_after_any_write_of_the_upstream_default_ends_in_the_same_cluster() {
    let tried = crashes(CrashKind::AfterWrite, upstream(3, PACKAGED)).await;
    assert!(tried > 60, "only {tried} crashes were tried");
}

#[tokio::test(start_paused = true)]
async fn answers_of_ceph_that_go_wrong_delay_forming_and_no_more() {
    let undisturbed = portrait(&formed(3).await.0).await;
    let refuse = FaultAction::Refuse {
        status: 22,
        message: "something is not as it should be".into(),
    };
    for action in [
        refuse,
        FaultAction::DropRequest,
        FaultAction::LoseAnswer,
        FaultAction::Hang,
        FaultAction::Delay(Duration::from_secs(4)),
    ] {
        for (method, every) in [(Method::Post, 2), (Method::Get, 7)] {
            let cloud = SimCloud::new(machines(3));
            for n in 0..12 {
                let fault = Fault::new(action.clone()).method(method).path("/ceph/");
                cloud.inject(fault.nth(1 + n * every));
            }
            let controller = controller(&cloud, "micro01").await;
            let reading = files(&[("all.yaml", only_ceph(3, PACKAGED))]);
            controller.submit(&reading).await.expect("kept");
            settled(&controller).await;
            assert_eq!(portrait(&cloud).await, undisturbed, "{action:?} {method:?}");
            controller.stop().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn machines_that_lose_power_while_ceph_is_formed_go_on_where_they_were() {
    let undisturbed = portrait(&formed(3).await.0).await;
    for member in ["micro02", "micro03"] {
        for after in [2, 4, 6, 8, 10, 12, 15, 20] {
            let cloud = SimCloud::new(machines(3));
            let controller = controller(&cloud, "micro01").await;
            let reading = files(&[("all.yaml", only_ceph(3, PACKAGED))]);
            controller.submit(&reading).await.expect("kept");
            tokio::time::sleep(Duration::from_millis(after * 1000 + 300)).await;
            cloud.kill_host(member);
            tokio::time::sleep(Duration::from_secs(30)).await;
            cloud.start_host(member);
            settled(&controller).await;
            assert_eq!(
                portrait(&cloud).await,
                undisturbed,
                "{member} after {after} s\n{}",
                story(&controller)
            );
            controller.stop().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn at_rest_ceph_is_asked_one_short_question_at_a_time() {
    let (cloud, _controller) = formed(3).await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    let before = cloud.counts().of_class(PathClass::Ceph);
    tokio::time::sleep(Duration::from_secs(100)).await;
    let after = cloud.counts().of_class(PathClass::Ceph);
    assert_eq!(before.writes, after.writes);
    // Every 0.7 s, and all maps every tenth second.
    let asked = after.requests - before.requests;
    assert!((140..=200).contains(&asked), "{asked} questions in 100 s");
}

#[tokio::test(start_paused = true)]
async fn a_machine_without_ceph_is_told_what_to_install() {
    let cloud = SimCloud::new(machines(3));
    cloud.install_ceph("micro02", false);
    let controller = controller(&cloud, "micro01").await;
    let reading = files(&[("all.yaml", only_ceph(3, PACKAGED))]);
    controller.submit(&reading).await.expect("kept");
    tokio::time::sleep(Duration::from_secs(120)).await;
    let (ready, _, message) = shown(&controller, "Member/micro02");
    assert!(
        !ready && message.contains("apt install ceph-mon"),
        "{message}"
    );
    cloud.install_ceph("micro02", true);
    settled(&controller).await;
}

#[tokio::test(start_paused = true)]
async fn ceph_that_was_there_before_is_not_formed_over() {
    let (cloud, first) = formed(3).await;
    let before = cloud.ceph_clusters();
    first.stop().await;
    // Another LXD cluster on the same machines: the Ceph of the old one is in the way.
    for member in cloud.machines() {
        cloud.reinstall_lxd(&member);
    }
    tokio::time::sleep(Duration::from_secs(10)).await;
    let controller = controller(&cloud, "micro01").await;
    let reading = files(&[("all.yaml", only_ceph(3, PACKAGED))]);
    controller.submit(&reading).await.expect("kept");
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!(cloud.ceph_clusters(), before, "{}", story(&controller));
}
