//! Members that are to leave.

use super::*;
use crate::reconcile::memory::{Approval, Lease};
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

/// Has the resource of a member say `state: Absent`.
fn absent(scene: &mut Scene, name: &str) {
    let object = ObjectRef::new(crate::resources::Kind::Member, name);
    let mut resource = (**scene.desired.resources[&object]).clone();
    if let crate::resources::Spec::Member(spec) = &mut resource.spec {
        spec.state = crate::resources::kinds::MemberState::Absent;
    }
    let mut accepted = (*scene.memory.accepted).clone();
    accepted.directory.resources.insert(object, resource);
    scene.desired = Desired::of(&accepted, &Desired::default());
    scene.memory.accepted = accepted.into();
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
