//! Members that are to leave.

use super::ceph::{FOUR, THREE, cluster, lose, standing};
use super::*;
use crate::reconcile::memory::{Approval, Lease};
use crate::resources::Spec;
use crate::resources::kinds::MemberState;
use crate::resources::value::Presence;
use crate::services::host::TrustedMember;

/// Three members of which the last one is to leave, and that many of its things are seen.
fn leaving(held: &[&str]) -> Scene {
    let mut scene = Scene::formed(&["micro01", "micro02", "micro03"], &[]);
    absent(&mut scene, "micro03");
    scene.memory.lease = Lease {
        epoch: 1,
        holder: "micro01".into(),
    };
    let held = held.iter().map(|h| (*h).to_owned()).collect();
    let leaving = &mut scene.world.lxd.leaving;
    leaving.insert("micro03".into(), known(held));
    scene
}

/// Has a resource say something else.
fn says(scene: &mut Scene, object: &str, change: impl FnOnce(&mut Spec)) {
    let object: ObjectRef = object.parse().expect("a reference");
    let mut resource = (**scene.desired.resources[&object]).clone();
    change(&mut resource.spec);
    let mut accepted = (*scene.memory.accepted).clone();
    accepted.directory.resources.insert(object, resource);
    scene.desired = Desired::of(&accepted, &scene.memory.trust, &Desired::default());
    scene.memory.accepted = accepted.into();
}

/// Has the resource of a member say `state: Absent`.
fn absent(scene: &mut Scene, name: &str) {
    says(scene, &format!("Member/{name}"), |spec| {
        if let Spec::Member(spec) = spec {
            spec.state = MemberState::Absent;
        }
    });
}

fn approve(scene: &mut Scene, step: &str) {
    let approval = Approval {
        given: NOW,
        expires: Timestamp::from_second(1800).expect("a time"),
    };
    scene.memory.approvals.insert(step.to_owned(), approval);
}

fn silent(scene: &mut Scene, name: &str) {
    let host = scene.world.hosts.get_mut(name).expect("it is there");
    host.error = Some(HostError::Unreachable {
        name: name.into(),
        address: "10.0.0.3".into(),
        reason: "no route to host".into(),
        silent: true,
    });
    host.silent_since = Timestamp::from_second(-60).ok();
}

const MEMBER: &str = "Member/micro03";

#[test]
fn a_member_leaves_in_order() {
    let mut scene = leaving(&["instance web"]);
    let asks = scene.plan(MEMBER);
    approve(&mut scene, "Member/micro03/remove@micro03");
    let begins = scene.plan(MEMBER);
    scene.memory.approvals.clear();
    scene.remembers(MEMBER, Ownership::Created, &["removal.begun"]);
    scene.row("micro03").status = "Evacuated".into();
    let in_use = scene.plan(MEMBER);
    scene
        .world
        .lxd
        .leaving
        .insert("micro03".into(), known(Vec::new()));
    let goes = scene.plan(MEMBER);
    let rows = scene.world.lxd.members.known_mut().expect("they are known");
    rows.remove("micro03");
    for name in ["micro01", "micro02", "micro03"] {
        let member = TrustedMember {
            fingerprint: name.into(),
            address: "10.0.0.9".parse().expect("an address"),
        };
        scene.memory.trust.members.insert(name.into(), member);
    }
    let forgotten = scene.plan(MEMBER);
    scene.memory.trust.members.remove("micro03");
    scene.memory.inventory.clear();
    let gone = scene.plan(MEMBER);
    golden(
        "a_member_leaves_in_order",
        &[asks, begins, in_use, goes, forgotten, gone],
    );
}

#[test]
fn the_member_that_controls_hands_over_before_it_leaves() {
    let mut scene = leaving(&[]);
    scene.memory.lease.holder = "micro03".into();
    approve(&mut scene, "Member/micro03/remove@micro03");
    golden(
        "the_member_that_controls_hands_over_before_it_leaves",
        &[scene.plan(MEMBER)],
    );
}

#[test]
fn nobody_leaves_while_another_one_is_away_or_leaves_or_as_the_last() {
    let mut scene = leaving(&[]);
    scene.row("micro02").status = "Offline".into();
    let away = scene.plan(MEMBER);
    scene.row("micro02").status = "Online".into();
    absent(&mut scene, "micro02");
    scene.remembers("Member/micro02", Ownership::Created, &["removal.begun"]);
    let after_another = scene.plan(MEMBER);
    absent(&mut scene, "micro01");
    let last = scene.plan(MEMBER);
    golden(
        "nobody_leaves_while_another_one_is_away_or_leaves_or_as_the_last",
        &[away, after_another, last],
    );
}

#[test]
fn a_lost_member_goes_only_by_its_own_approval() {
    let mut scene = leaving(&["instance db of project team", "volume data of pool local"]);
    silent(&mut scene, "micro03");
    // One that was given before it was lost says nothing about what is lost with it.
    scene.remembers(MEMBER, Ownership::Created, &["removal.begun"]);
    let not_noticed = scene.plan(MEMBER);
    scene.row("micro03").status = "Offline".into();
    let asks = scene.plan(MEMBER);
    approve(&mut scene, "Member/micro03/remove-lost@micro03");
    let struck = scene.plan(MEMBER);
    golden(
        "a_lost_member_goes_only_by_its_own_approval",
        &[not_noticed, asks, struck],
    );
}

/// A cloud with Ceph of which the third member has begun to leave and holds nothing of LXD's.
fn leaving_ceph(members: &[&str]) -> Scene {
    let mut scene = standing(members);
    absent(&mut scene, "micro03");
    let markers = ["removal.begun", "ceph.mon=active", "ceph.mgr=active"];
    scene.remembers(MEMBER, Ownership::Created, &markers);
    scene.row("micro03").status = "Evacuated".into();
    let leaving = &mut scene.world.lxd.leaving;
    leaving.insert("micro03".into(), known(Vec::new()));
    scene
}

#[test]
fn three_copies_on_three_hosts_hold_every_member() {
    let mut scene = leaving_ceph(&THREE);
    let refused = scene.plan(MEMBER);
    says(&mut scene, "Cluster/demo", |spec| {
        if let Spec::Cluster(spec) = spec
            && let Some(ceph) = &mut spec.ceph
        {
            ceph.replicas = Some(2);
        }
    });
    let waits = scene.plan(MEMBER);
    for pool in cluster(&mut scene).pools.values_mut() {
        pool.size = 2;
    }
    golden(
        "three_copies_on_three_hosts_hold_every_member",
        &[refused, waits, scene.plan(MEMBER)],
    );
}

#[test]
fn an_osd_leaves_step_by_step_and_its_daemons_after_those_of_others() {
    let mut scene = leaving_ceph(&FOUR);
    // The fourth has what the third had, but for the daemons.
    let mut fourth = cluster(&mut scene).osds[&2].clone();
    (fourth.uuid, fourth.host) = ("uuid-3".into(), "micro04".into());
    cluster(&mut scene).osds.insert(3, fourth);
    let mut plans = vec![scene.plan(MEMBER)];
    cluster(&mut scene)
        .osds
        .get_mut(&2)
        .expect("it is there")
        .in_ = false;
    cluster(&mut scene).unclean.insert("remapped".into());
    plans.push(scene.plan(MEMBER));
    cluster(&mut scene).unclean.clear();
    plans.push(scene.plan(MEMBER));
    cluster(&mut scene)
        .osds
        .get_mut(&2)
        .expect("it is there")
        .up = false;
    scene.report("micro03").ceph.osds[0].unit = "inactive".into();
    plans.push(scene.plan(MEMBER));
    cluster(&mut scene).osds.remove(&2);
    plans.push(scene.plan(MEMBER));
    scene.report("micro03").ceph.osds.clear();
    scene.report("micro03").disks[0].signatures.clear();
    plans.push(scene.plan(MEMBER));
    plans.push(scene.plan("Member/micro04"));
    let new = cluster(&mut scene).monitors["micro03"].clone();
    cluster(&mut scene).monitors.insert("micro04".into(), new);
    plans.push(scene.plan("Cluster/demo"));
    cluster(&mut scene).monitors.remove("micro03");
    cluster(&mut scene)
        .mds
        .insert("micro04".into(), "standby".into());
    plans.push(scene.plan(MEMBER));
    golden(
        "an_osd_leaves_step_by_step_and_its_daemons_after_those_of_others",
        &plans,
    );
}

#[test]
fn of_three_monitors_one_is_left_when_there_are_two_members() {
    let mut scene = leaving_ceph(&THREE);
    cluster(&mut scene).osds.remove(&2);
    let first = scene.plan("Cluster/demo");
    cluster(&mut scene).monitors.remove("micro03");
    let second = scene.plan("Cluster/demo");
    cluster(&mut scene).monitors.remove("micro02");
    golden(
        "of_three_monitors_one_is_left_when_there_are_two_members",
        &[
            first,
            second,
            scene.plan("Cluster/demo"),
            scene.plan("Member/micro02"),
        ],
    );
}

#[test]
fn what_is_left_of_a_lost_member_is_struck_off() {
    let mut scene = standing(&FOUR);
    absent(&mut scene, "micro03");
    lose(&mut scene, "micro03", 60);
    scene.remembers(MEMBER, Ownership::Created, &["removal.lost"]);
    let rows = scene.world.lxd.members.known_mut().expect("they are known");
    rows.remove("micro03");
    let out = scene.plan(MEMBER);
    cluster(&mut scene)
        .osds
        .get_mut(&2)
        .expect("it is there")
        .in_ = false;
    let purged = scene.plan(MEMBER);
    cluster(&mut scene).osds.remove(&2);
    golden(
        "what_is_left_of_a_lost_member_is_struck_off",
        &[out, purged, scene.plan(MEMBER), scene.plan("Cluster/demo")],
    );
}

const OSDS: &str = "Disk/osds";

#[test]
fn a_disk_that_is_wanted_absent_gives_its_data_away_first() {
    let mut scene = standing(&THREE);
    says(&mut scene, OSDS, |spec| {
        if let Spec::Disk(spec) = spec {
            spec.state = Presence::Absent;
        }
    });
    let refused = scene.plan(OSDS);
    // Two more on every host: then one of each can go.
    for n in 0..3_i64 {
        let mut osd = cluster(&mut scene).osds[&n].clone();
        osd.uuid = format!("other-{n}");
        cluster(&mut scene).osds.insert(10 + n, osd);
    }
    let asks = scene.plan(OSDS);
    approve(&mut scene, "Disk/osds/remove@uuid-0");
    let begins = scene.plan(OSDS);
    scene.memory.approvals.clear();
    let markers = ["leaving.uuid-0", "leaving.uuid-1", "leaving.uuid-2"];
    scene.remembers(OSDS, Ownership::Created, &markers);
    for n in 0..3 {
        cluster(&mut scene).osds.remove(&n);
    }
    let zapped = scene.plan(OSDS);
    for name in THREE {
        scene.report(name).ceph.osds.clear();
        scene.report(name).disks[0].signatures.clear();
    }
    let given_back = scene.plan(OSDS);
    scene.memory.disks.clear();
    golden(
        "a_disk_that_is_wanted_absent_gives_its_data_away_first",
        &[refused, asks, begins, zapped, given_back, scene.plan(OSDS)],
    );
}

#[test]
fn a_disk_that_is_gone_is_replaced_by_an_approval() {
    let mut scene = standing(&THREE);
    let report = scene.report("micro03");
    report.ceph.osds.clear();
    report.disks[0].path = "/dev/disk/by-id/new".into();
    report.disks[0].serial = "new".into();
    report.disks[0].signatures.clear();
    cluster(&mut scene)
        .osds
        .get_mut(&2)
        .expect("it is there")
        .up = false;
    let asks = scene.plan(OSDS);
    approve(&mut scene, "Disk/osds/replace@micro03-serial");
    let out = scene.plan(OSDS);
    cluster(&mut scene)
        .osds
        .get_mut(&2)
        .expect("it is there")
        .in_ = false;
    let purged = scene.plan(OSDS);
    cluster(&mut scene).osds.remove(&2);
    let forgotten = scene.plan(OSDS);
    scene.memory.disks.values_mut().for_each(|choices| {
        choices.retain(|key, _| !key.starts_with("micro03"));
    });
    golden(
        "a_disk_that_is_gone_is_replaced_by_an_approval",
        &[asks, out, purged, forgotten, scene.plan(OSDS)],
    );
}
