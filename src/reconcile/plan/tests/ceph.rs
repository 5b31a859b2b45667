//! Ceph from packages.

use super::*;
use crate::reconcile::plan::step::{Action, Step};
use crate::reconcile::world::CephWorld;
use crate::services::ceph::{
    CephCluster, CephPool, CrushRule, Fullness, HealthCheck, Managers, Monitor, Osd,
};
use crate::services::host::{CephDaemon, CephDaemonKind, CephOsd, CephReport, CephRequest};
use jiff::ToSpan;

const CEPH: &str = "{kind: Cluster, metadata: {name: demo}, spec: {initiator: micro01, ceph: \
                    {provider: packaged}}}";
const OSDS: &str = "{kind: Disk, metadata: {name: osds}, spec: {members: [micro01, micro02, \
                    micro03], match: size >= 1GiB, limit: 1, use: ceph}}";
const REMOTE: &str = "{kind: StoragePool, metadata: {name: remote}, spec: {driver: ceph, config: \
                      {ceph.osd.pool_name: lxd_remote}}}";
pub(super) const THREE: [&str; 3] = ["micro01", "micro02", "micro03"];
pub(super) const FOUR: [&str; 4] = ["micro01", "micro02", "micro03", "micro04"];

fn daemons(name: &str) -> Vec<CephDaemon> {
    [
        CephDaemonKind::Mon,
        CephDaemonKind::Mgr,
        CephDaemonKind::Mds,
    ]
    .map(|kind| CephDaemon {
        kind,
        name: name.to_owned(),
        unit: "active".into(),
    })
    .into()
}

fn monitor(number: usize) -> Monitor {
    Monitor {
        addresses: vec![
            format!("v2:10.0.0.{number}:3300"),
            format!("v1:10.0.0.{number}:6789"),
        ],
        in_quorum: true,
    }
}

/// A cluster with all in place on its first three members, and the pool `remote` on it.
pub(super) fn standing(members: &[&str]) -> Scene {
    let mut scene = Scene::formed(members, &[CEPH, OSDS, REMOTE]);
    scene.remembers("Cluster/demo", Ownership::Created, &["ceph.fsid.f"]);
    let mut cluster = CephCluster {
        fsid: "f".into(),
        managers: Managers {
            active: "micro01".into(),
            available: true,
            standbys: ["micro02".to_owned(), "micro03".to_owned()].into(),
        },
        mds: strings(&[
            ("micro01", "active"),
            ("micro02", "standby"),
            ("micro03", "standby"),
        ]),
        rules: [(
            "microcloud_host".to_owned(),
            CrushRule {
                id: 1,
                failure_domain: "host".into(),
            },
        )]
        .into(),
        ..CephCluster::default()
    };
    for (name, id) in [(".mgr", 1), ("lxd_remote", 2)] {
        let pool = CephPool {
            id,
            size: 3,
            min_size: 2,
            rule: 1,
            replicated: true,
            full: None,
            applications: [if id == 1 { "mgr" } else { "rbd" }.to_owned()].into(),
        };
        cluster.pools.insert(name.to_owned(), pool);
    }
    for (section, key, value) in [
        ("mon", "auth_allow_insecure_global_id_reclaim", "false"),
        ("global", "osd_pool_default_size", "3"),
        ("global", "osd_pool_default_crush_rule", "1"),
    ] {
        let key = (section.to_owned(), key.to_owned());
        cluster.config.insert(key, value.to_owned());
    }
    for (n, name) in THREE.iter().enumerate() {
        let ran = ["ceph.mon=active", "ceph.mgr=active", "ceph.mds=active"];
        scene.remembers(&format!("Member/{name}"), Ownership::Created, &ran);
        cluster.monitors.insert((*name).to_owned(), monitor(n + 1));
        cluster.hosts.insert((*name).to_owned(), None);
        let id = i64::try_from(n).expect("it is small");
        let osd = Osd {
            uuid: format!("uuid-{n}"),
            up: true,
            in_: true,
            host: (*name).to_owned(),
            new: false,
            full: None,
        };
        cluster.osds.insert(id, osd);
    }
    let mon_host = cluster.mon_host();
    for (n, name) in members.iter().enumerate() {
        let three = n < 3;
        let path = format!("/dev/disk/by-id/{name}-disk");
        let report = scene.report(name);
        report.ceph = CephReport {
            fsid: "f".into(),
            mon_host: mon_host.clone(),
            admin: true,
            daemons: if three { daemons(name) } else { Vec::new() },
            ..CephReport::default()
        };
        if three {
            report.disks[0].signatures = vec!["bluestore".into()];
            report.ceph.osds = vec![CephOsd {
                id: i64::try_from(n).ok(),
                uuid: format!("uuid-{n}"),
                fsid: "f".into(),
                path: path.clone(),
                ready: true,
                unit: "active".into(),
            }];
            let choice = crate::reconcile::memory::DiskChoice {
                path: path.clone(),
                serial: format!("{name}-serial"),
                size: 10 << 30,
                handed_over: true,
            };
            let disks = scene.memory.disks.entry("Disk/osds".parse().expect("one"));
            let disks = disks.or_default();
            disks.insert(format!("{name}:{path}"), choice);
        }
    }
    let locations: Vec<String> = members.iter().map(|m| (*m).to_owned()).collect();
    scene.has_pool(Pool {
        name: "remote".into(),
        driver: "ceph".into(),
        status: "Created".into(),
        locations,
        config: strings(&[("ceph.osd.pool_name", "lxd_remote")]),
        ..Pool::default()
    });
    scene.world.ceph = CephWorld {
        last: Some(cluster.clone()),
        cluster: known(cluster),
    };
    scene
}

pub(super) fn cluster(scene: &mut Scene) -> &mut CephCluster {
    scene.world.ceph.cluster.known_mut().expect("it is known")
}

fn raise(scene: &mut Scene, code: &str, message: &str) {
    let check = HealthCheck {
        severity: "HEALTH_WARN".into(),
        message: message.into(),
    };
    cluster(scene).health.insert(code.to_owned(), check);
}

/// A machine has been gone for so many seconds, and Ceph has noticed.
pub(super) fn lose(scene: &mut Scene, member: &str, seconds: i64) {
    let host = scene.world.hosts.get_mut(member).expect("it is there");
    host.silent_since = Some(NOW - seconds.seconds());
    host.error = Some(HostError::Unreachable {
        name: member.to_owned(),
        address: "10.0.0.9".into(),
        reason: "the connection timed out".into(),
        silent: true,
    });
    let cluster = cluster(scene);
    if let Some(monitor) = cluster.monitors.get_mut(member) {
        monitor.in_quorum = false;
    }
    cluster.managers.standbys.remove(member);
    cluster.mds.remove(member);
    for osd in cluster.osds.values_mut().filter(|o| o.host == member) {
        osd.up = false;
    }
}

const OBJECTS: [&str; 3] = ["Cluster/demo", "Disk/osds", "StoragePool/remote"];

fn all(scene: &Scene, members: &[&str]) -> Vec<Plan> {
    let members = members.iter().map(|m| format!("Member/{m}"));
    let objects = OBJECTS.map(str::to_owned).into_iter().chain(members);
    objects.map(|o| scene.plan(&o)).collect()
}

#[test]
fn when_all_is_in_place_nothing_is_done() {
    for members in [&THREE[..], &FOUR[..]] {
        for plan in all(&standing(members), members) {
            assert!(plan.settled(), "{}", render(&plan));
        }
    }
}

#[test]
fn what_was_changed_in_ceph_is_changed_back() {
    let mut scene = standing(&THREE);
    let ceph = cluster(&mut scene);
    let pool = ceph.pools.get_mut("lxd_remote").expect("it is there");
    (pool.size, pool.rule) = (2, 0);
    ceph.config.insert(
        ("global".into(), "osd_pool_default_size".into()),
        "1".into(),
    );
    golden(
        "ceph_what_was_changed_is_changed_back",
        &all(&scene, &THREE),
    );
}

#[test]
fn copies_are_not_lowered_unless_replicas_says_so() {
    let mut scene = standing(&THREE);
    let pool = cluster(&mut scene).pools.get_mut("lxd_remote");
    pool.expect("it is there").size = 4;
    assert!(scene.plan("StoragePool/remote").settled());
}

#[test]
fn a_pool_that_power_was_lost_over_is_finished() {
    let mut scene = standing(&THREE);
    let pool = cluster(&mut scene).pools.get_mut("lxd_remote");
    pool.expect("it is there").applications.clear();
    let plan = scene.plan("StoragePool/remote");
    assert_eq!(
        sentences(&plan),
        ["say that Ceph's pool lxd_remote is for rbd"]
    );
}

#[test]
fn a_pool_that_is_gone_is_told_and_never_made_again() {
    let mut scene = standing(&THREE);
    cluster(&mut scene).pools.remove("lxd_remote");
    golden(
        "ceph_a_pool_that_is_gone_is_never_made_again",
        &[scene.plan("StoragePool/remote")],
    );
}

#[test]
fn daemons_that_stopped_are_started_and_an_osd_that_was_set_out_stays_out() {
    let mut scene = standing(&THREE);
    cluster(&mut scene).osds.get_mut(&0).expect("one").in_ = false;
    cluster(&mut scene).osds.get_mut(&1).expect("one").up = false;
    let report = &mut scene.report("micro02").ceph;
    report.osds[0].unit = "failed".into();
    report.daemons[0].unit = "inactive".into();
    let monitors = &mut cluster(&mut scene).monitors;
    monitors.get_mut("micro02").expect("one").in_quorum = false;
    golden(
        "ceph_daemons_are_started_and_what_was_set_out_stays_out",
        &all(&scene, &["micro02"]),
    );
}

#[test]
fn a_lost_member_says_what_it_carried_and_its_monitor_keeps_its_place() {
    let mut scene = standing(&FOUR);
    lose(&mut scene, "micro03", 20);
    let plans = all(&scene, &["micro03", "micro04"]);
    let cluster = &plans[0];
    assert!(cluster.steps.is_empty(), "{}", render(cluster));
    assert_eq!(cluster.recheck_at, Some(NOW + 280.seconds()));
    golden("ceph_a_lost_member_says_what_it_carried", &plans);
}

#[test]
fn a_monitor_that_is_lost_for_good_is_replaced_by_the_fourth() {
    let mut scene = standing(&FOUR);
    lose(&mut scene, "micro03", 400);
    let mut plans = all(&scene, &["micro04"]);
    // What is left when it is out of the map.
    cluster(&mut scene).monitors.remove("micro03");
    plans.push(scene.plan("Cluster/demo"));
    plans.push(scene.plan("Member/micro04"));
    golden("ceph_a_lost_monitor_is_replaced_by_the_fourth", &plans);
}

#[test]
fn a_lost_monitor_stays_when_nobody_can_take_its_place_or_another_one_is_out() {
    let mut scene = standing(&THREE);
    lose(&mut scene, "micro03", 400);
    assert!(scene.plan("Cluster/demo").steps.is_empty());
    let mut scene = standing(&FOUR);
    lose(&mut scene, "micro03", 400);
    let monitors = &mut cluster(&mut scene).monitors;
    monitors.get_mut("micro02").expect("one").in_quorum = false;
    assert!(scene.plan("Cluster/demo").steps.is_empty());
    let mut scene = standing(&FOUR);
    lose(&mut scene, "micro03", 400);
    lose(&mut scene, "micro04", 400);
    assert!(scene.plan("Cluster/demo").steps.is_empty());
}

#[test]
fn who_comes_back_after_its_place_was_given_away_puts_its_daemons_down() {
    let mut scene = standing(&FOUR);
    let ceph = cluster(&mut scene);
    ceph.monitors.remove("micro03");
    ceph.monitors.insert("micro04".into(), monitor(4));
    ceph.managers.standbys.insert("micro04".into());
    ceph.mds.insert("micro04".into(), "standby".into());
    let mon_host = ceph.mon_host();
    for name in FOUR {
        scene.report(name).ceph.mon_host.clone_from(&mon_host);
    }
    scene.report("micro04").ceph.daemons = daemons("micro04");
    scene.report("micro03").ceph.daemons[0].unit = "inactive".into();
    golden(
        "ceph_who_comes_back_puts_its_daemons_down",
        &all(&scene, &FOUR),
    );
}

/// The steps of a member's plan that are about its monitor.
fn about_monitor(plan: &Plan) -> Vec<&'static str> {
    let of_monitor = |s: &Step| match &s.action {
        Action::CephHost { request, .. } => match request {
            CephRequest::AddDaemon {
                kind: CephDaemonKind::Mon,
                ..
            } => Some("add"),
            CephRequest::RemoveDaemon {
                kind: CephDaemonKind::Mon,
                ..
            } => Some("remove"),
            CephRequest::StartDaemon {
                kind: CephDaemonKind::Mon,
                ..
            } => Some("start"),
            _ => None,
        },
        _ => None,
    };
    plan.steps.iter().filter_map(of_monitor).collect()
}

#[test]
fn a_monitor_whose_store_is_gone_or_whose_place_was_taken_is_added_again() {
    let mut lost = standing(&THREE);
    lost.report("micro03").ceph.daemons.remove(0);
    let plan = lost.plan("Member/micro03");
    assert!(
        about_monitor(&plan).is_empty(),
        "it still serves: {}",
        render(&plan)
    );
    let monitors = &mut cluster(&mut lost).monitors;
    monitors.get_mut("micro03").expect("one").in_quorum = false;
    let plan = lost.plan("Member/micro03");
    assert_eq!(about_monitor(&plan), ["add"], "{}", render(&plan));

    let mut struck = standing(&THREE);
    cluster(&mut struck).monitors.remove("micro03");
    for unit in ["inactive", "failed", "activating", "active"] {
        struck.report("micro03").ceph.daemons[0].unit = unit.into();
        let plan = struck.plan("Member/micro03");
        assert_eq!(about_monitor(&plan), ["add"], "{unit}: {}", render(&plan));
    }
    // A machine that was installed anew gets access first.
    let report = &mut struck.report("micro03").ceph;
    report.daemons.clear();
    report.fsid.clear();
    report.admin = false;
    let plan = struck.plan("Member/micro03");
    assert!(about_monitor(&plan).is_empty(), "{}", render(&plan));
    assert!(!plan.steps.is_empty(), "{}", render(&plan));
}

#[test]
fn monitors_that_come_in_are_no_fault_and_one_that_went_is() {
    let mut scene = standing(&THREE);
    cluster(&mut scene)
        .monitors
        .get_mut("micro03")
        .expect("one")
        .in_quorum = false;
    scene.remembers("Member/micro03", Ownership::Created, &[]);
    let told = |scene: &Scene| -> Vec<String> {
        let waits = scene.plan("Cluster/demo").waiting_on;
        waits
            .into_iter()
            .map(|w| format!("{} {}", w.reason, w.message))
            .collect()
    };
    let coming = told(&scene);
    assert_eq!(coming, ["Progressing the monitor of micro03 is coming in"]);
    scene.remembers("Member/micro03", Ownership::Created, &["ceph.mon=active"]);
    let gone = told(&scene);
    assert!(
        gone[0].contains("2 of 3 are left: Ceph stops if one more goes"),
        "{gone:?}"
    );
    for monitor in cluster(&mut scene).monitors.values_mut() {
        monitor.in_quorum = false;
    }
    let choosing = told(&scene);
    assert_eq!(
        choosing,
        ["Progressing Ceph's monitors are choosing a leader"]
    );
}

#[test]
fn what_is_wrong_is_told_where_it_belongs() {
    let mut scene = standing(&THREE);
    raise(&mut scene, "OSD_NEARFULL", "1 nearfull osd(s)");
    raise(&mut scene, "MON_CLOCK_SKEW", "clock skew detected");
    raise(&mut scene, "PG_DEGRADED", "Degraded data redundancy");
    let ceph = cluster(&mut scene);
    ceph.osds.get_mut(&1).expect("one").full = Some(Fullness::Near);
    ceph.skewed.insert("micro02".into());
    ceph.unclean_pools.insert(2);
    ceph.unclean
        .extend(["degraded".into(), "undersized".into()]);
    let pool = ceph.pools.get_mut("lxd_remote").expect("it is there");
    pool.full = Some(Fullness::Near);
    golden(
        "ceph_what_is_wrong_is_told_where_it_belongs",
        &all(&scene, &THREE),
    );
}

#[test]
fn no_pool_is_made_while_ceph_is_full() {
    let mut scene = standing(&THREE);
    let pools = scene.world.lxd.pools.known_mut().expect("they are known");
    pools.clear();
    cluster(&mut scene).pools.remove("lxd_remote");
    cluster(&mut scene).flags.insert("full".into());
    golden(
        "ceph_no_pool_is_made_while_it_is_full",
        &[scene.plan("StoragePool/remote")],
    );
}

#[test]
fn a_cluster_that_was_not_formed_here_is_left_alone() {
    let mut scene = standing(&THREE);
    scene.memory.inventory.clear();
    cluster(&mut scene)
        .config
        .retain(|(section, _), _| section != "mon");
    for plan in all(&scene, &THREE) {
        assert!(plan.steps.is_empty(), "{}", render(&plan));
    }
    let refused = scene.plan("Cluster/demo").refused;
    let told = |r: &crate::reconcile::plan::Refused| r.message.contains("was not formed here");
    assert!(refused.iter().any(told), "{refused:?}");
}

/// The cluster before there is any Ceph.
fn before() -> Scene {
    let mut scene = Scene::formed(&THREE, &[CEPH, OSDS, REMOTE]);
    scene.world.ceph.cluster = Seen::Unknown {
        reason: "there is none".into(),
    };
    scene
}

fn forms_on(plan: &Plan) -> Option<&str> {
    plan.steps.iter().find_map(|s| match &s.action {
        Action::CephHost {
            target,
            request: CephRequest::Form { .. },
        } => Some(target.name.as_str()),
        _ => None,
    })
}

#[test]
fn a_cluster_that_was_begun_on_one_machine_is_begun_on_no_other() {
    let mut scene = before();
    let plan = scene.plan("Cluster/demo");
    assert_eq!(forms_on(&plan), Some("micro01"), "{}", render(&plan));
    let remembered = plan.steps.iter().find_map(|s| s.remembers.clone());
    let marker = remembered.expect("it is remembered before");
    scene.remembers("Cluster/demo", Ownership::Created, &[&marker]);
    assert_eq!(forms_on(&scene.plan("Cluster/demo")), Some("micro01"));

    let host = scene.world.hosts.get_mut("micro01").expect("it is there");
    host.error = Some(HostError::Unreachable {
        name: "micro01".into(),
        address: "10.0.0.1".into(),
        reason: "the connection timed out".into(),
        silent: true,
    });
    let plan = scene.plan("Cluster/demo");
    assert_eq!(forms_on(&plan), None, "{}", render(&plan));
    assert!(!plan.waiting_on.is_empty(), "{}", render(&plan));
}

/// The map has an OSD that was never started.
fn unborn() -> Scene {
    let mut scene = standing(&THREE);
    let left = Osd {
        uuid: "left".into(),
        up: false,
        in_: true,
        host: String::new(),
        new: true,
        full: None,
    };
    let cluster = scene.world.ceph.cluster.known_mut().expect("it is known");
    cluster.osds.insert(3, left);
    scene
}

#[test]
fn an_osd_that_was_never_started_is_struck_off_when_nobody_knows_it() {
    let strikes = |scene: &Scene| {
        let plan = scene.plan("Cluster/demo");
        plan.steps.iter().any(|s| s.sentence.contains("strike"))
    };
    assert!(strikes(&unborn()));
    // One that is being made.
    let mut scene = unborn();
    scene.report("micro02").ceph.osds.push(CephOsd {
        uuid: "left".into(),
        fsid: "f".into(),
        ..CephOsd::default()
    });
    assert!(!strikes(&scene), "a machine has it");
    // One that is about to be seen.
    let mut scene = unborn();
    scene.report("micro03").ceph.osds.clear();
    assert!(!strikes(&scene), "a chosen disk has no OSD yet");
    // Who does not answer may have it.
    let mut scene = unborn();
    let host = scene.world.hosts.get_mut("micro03").expect("it is there");
    host.error = Some(HostError::Unreachable {
        name: "micro03".into(),
        address: "10.0.0.3".into(),
        reason: "no answer".into(),
        silent: true,
    });
    assert!(!strikes(&scene), "a member does not answer");
    // One that ran is left alone.
    let mut scene = unborn();
    let cluster = scene.world.ceph.cluster.known_mut().expect("it is known");
    cluster.osds.get_mut(&3).expect("it is there").new = false;
    assert!(!strikes(&scene), "it ran once");
}
