//! The ways between members.

use super::*;
use crate::reconcile::world::PathView;
use crate::services::host::{PathsReport, Reach};
use std::net::IpAddr;

const THREE: [&str; 3] = ["micro01", "micro02", "micro03"];

fn address(number: usize) -> IpAddr {
    format!("10.0.0.{number}").parse().expect("an address")
}

/// What was found of the way from the second to the third; all others are well.
fn found(scene: &mut Scene, reach: Reach) {
    for (n, member) in THREE.iter().enumerate() {
        let others: Vec<(String, IpAddr)> = (0..3)
            .filter(|other| *other != n)
            .map(|other| (THREE[other].to_owned(), address(other + 1)))
            .collect();
        let reached = |to: &IpAddr| match n == 1 && *to == address(3) {
            true => reach,
            false => Reach::Packets(1500),
        };
        let report = PathsReport {
            mtu: 1500,
            paths: others.iter().map(|(_, to)| (*to, reached(to))).collect(),
        };
        let view = PathView {
            network: "internal network".to_owned(),
            others,
            seen: Seen::from_result(Ok::<_, HostError>(report), NOW),
        };
        let key = ((*member).to_owned(), address(n + 1));
        scene.world.paths.insert(key, view);
    }
}

#[test]
fn nothing_is_formed_and_nobody_joins_where_packets_are_lost() {
    let mut forming = Scene::empty(&THREE, &[]);
    found(&mut forming, Reach::Nothing);
    let mut joining = Scene::formed(&THREE, &[]);
    joining
        .world
        .lxd
        .members
        .known_mut()
        .expect("they are known")
        .remove("micro02");
    if let LxdReport::Running(lxd) = &mut joining.report("micro02").lxd {
        lxd.clustered = false;
    }
    found(&mut joining, Reach::Packets(1400));
    golden(
        "paths_nothing_is_formed_and_nobody_joins_where_packets_are_lost",
        &[forming.plan("Cluster/demo"), joining.plan("Member/micro02")],
    );
}

#[test]
fn a_way_that_narrows_later_is_shown() {
    let mut scene = Scene::formed(&THREE, &[]);
    found(&mut scene, Reach::Packets(1400));
    let plan = scene.plan("Member/micro02");
    assert!(plan.waiting_on.is_empty(), "{}", render(&plan));
    assert!(plan.notes[0].message.contains("more than 1400 bytes"));
    assert!(scene.plan("Member/micro03").notes.is_empty());
    // A firewall that lets the agents' connections pass is nobody's trouble.
    found(&mut scene, Reach::ConnectionsOnly);
    assert!(scene.plan("Member/micro02").notes.is_empty());
    // What was found of a machine that is silent now says nothing.
    found(&mut scene, Reach::Nothing);
    let host = scene.world.hosts.get_mut("micro03").expect("it is there");
    host.error = Some(HostError::Failed {
        reason: "gone".into(),
    });
    assert!(scene.plan("Member/micro02").notes.is_empty());
}
