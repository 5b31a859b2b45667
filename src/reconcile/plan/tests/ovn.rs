//! OVN from packages.

use super::*;
use crate::services::host::{
    AuthorityReport, CentralConfig, CentralReport, CertificateReport, ChassisConfig, ChassisReport,
    ChassisRow, DatabaseFile, DatabaseReport, Gateway, OvnDatabase, OvnReport, RaftMember,
    TunnelReport,
};
use jiff::ToSpan;
use std::net::IpAddr;

const OVN: &str = "{kind: Cluster, metadata: {name: demo}, spec: {initiator: micro01, ovn: \
                   {provider: packaged}}}";
const THREE: [&str; 3] = ["micro01", "micro02", "micro03"];
const FOUR: [&str; 4] = ["micro01", "micro02", "micro03", "micro04"];

fn address(number: usize) -> IpAddr {
    format!("10.0.0.{number}").parse().expect("an address")
}

/// The id of a machine's server in both rafts.
fn sid(number: usize) -> String {
    format!("{number}{number}{number}{number}")
}

/// Formed members with OVN's packages and nothing else of it; long looked at.
fn bare(members: &[&str]) -> Scene {
    let mut scene = Scene::formed(members, &[OVN]);
    scene.memory.lease.holder = "micro01".to_owned();
    for (n, member) in members.iter().enumerate() {
        scene.report(member).ovn = OvnReport {
            installed: true,
            kernel_datapath: true,
            ..OvnReport::default()
        };
        if n > 2 {
            scene.row(member).roles.clear();
        }
    }
    scene
}

/// As [`bare`], with the authority and a certificate on every machine.
fn certified(members: &[&str]) -> Scene {
    let mut scene = bare(members);
    for (n, member) in members.iter().enumerate() {
        let ovn = &mut scene.report(member).ovn;
        ovn.authority = (n < 3).then(|| AuthorityReport {
            fingerprint: "a".into(),
            not_after: 1 << 40,
        });
        ovn.certificate = Some(CertificateReport {
            authority: "a".into(),
            not_after: 400 * 86_400,
            addresses: vec![address(n + 1)],
            wrong: None,
        });
    }
    scene
}

/// As [`certified`], with all in place: the first three hold the databases, all carry traffic.
fn serving(members: &[&str]) -> Scene {
    let mut scene = certified(members);
    let centrals: Vec<IpAddr> = (1..=3).map(address).collect();
    let rows: Vec<ChassisRow> = members
        .iter()
        .enumerate()
        .map(|(n, name)| ChassisRow {
            name: (*name).to_owned(),
            hostname: (*name).to_owned(),
            encaps: vec![format!("geneve {}", address(n + 1))],
        })
        .collect();
    for (n, member) in members.iter().enumerate() {
        let database = |port: u16| DatabaseReport {
            clustered: true,
            connected: true,
            leader: n == 1,
            cid: "raft".into(),
            sid: sid(n + 1),
            servers: (1..=3)
                .map(|s| RaftMember {
                    id: sid(s),
                    address: address(s),
                })
                .collect(),
            listens: vec![format!("pssl:{port}")],
        };
        let chassis = ChassisConfig {
            name: (*member).to_owned(),
            encap_ip: address(n + 1),
            centrals: centrals.clone(),
            tls: true,
            userspace: false,
            mappings: BTreeMap::new(),
        };
        let ovn = &mut scene.report(member).ovn;
        if n < 3 {
            ovn.central = CentralReport {
                ours: true,
                gateways: BTreeMap::new(),
                config: Some(CentralConfig {
                    address: address(n + 1),
                    join: Some(address(if n == 0 { 2 } else { 1 })),
                    centrals: centrals.clone(),
                    tls: true,
                }),
                files: true,
                down: Vec::new(),
                northbound: Some(database(6641)),
                southbound: Some(database(6642)),
                northd: true,
                routers: None,
                chassis: rows.clone(),
            };
        }
        ovn.chassis = ChassisReport {
            controller: true,
            connected: Some(true),
            tunnels: BTreeMap::new(),
            tls: true,
            system_id_at_start: (*member).to_owned(),
            external_ids: chassis.external_ids(&BTreeMap::new()),
            bridges: BTreeMap::new(),
            ports: BTreeMap::new(),
        };
    }
    let server = scene.world.lxd.server.known_mut().expect("it is known");
    server.config = strings(&[(
        "network.ovn.northbound_connection",
        "ssl:10.0.0.1:6641,ssl:10.0.0.2:6641,ssl:10.0.0.3:6641",
    )]);
    // Everything was seen a while ago and has not changed since.
    for host in scene.world.hosts.values_mut() {
        if let Seen::Known { at, .. } = &mut host.report {
            *at = NOW - 60.seconds();
        }
    }
    scene
}

/// A machine has been silent for so many seconds.
fn silent(scene: &mut Scene, member: &str, seconds: i64) {
    let host = scene.world.hosts.get_mut(member).expect("it is there");
    host.silent_since = Some(NOW - seconds.seconds());
    host.error = Some(HostError::Unreachable {
        name: member.to_owned(),
        address: "10.0.0.9".into(),
        reason: "the connection timed out".into(),
        silent: true,
    });
}

/// Both databases of a machine that has them.
fn both<'a>(scene: &'a mut Scene, member: &str) -> [&'a mut DatabaseReport; 2] {
    let central = &mut scene.report(member).ovn.central;
    [&mut central.northbound, &mut central.southbound].map(|d| d.as_mut().expect("it has one"))
}

fn all(scene: &Scene, members: &[&str]) -> Vec<Plan> {
    let mut plans = vec![scene.plan("Cluster/demo")];
    plans.extend(members.iter().map(|m| scene.plan(&format!("Member/{m}"))));
    plans
}

#[test]
fn without_anything_the_authority_is_first() {
    let scene = bare(&THREE);
    golden(
        "ovn_without_anything_the_authority_is_first",
        &all(&scene, &THREE),
    );
}

#[test]
fn with_an_authority_every_machine_gets_a_certificate_and_the_voters_a_copy() {
    let mut scene = bare(&THREE);
    scene.report("micro01").ovn.authority = Some(AuthorityReport {
        fingerprint: "a".into(),
        not_after: 1 << 40,
    });
    golden(
        "ovn_with_an_authority_every_machine_gets_a_certificate",
        &all(&scene, &THREE),
    );
}

#[test]
fn with_certificates_the_first_makes_the_databases_and_the_others_wait() {
    let scene = certified(&THREE);
    golden(
        "ovn_with_certificates_the_first_makes_the_databases",
        &all(&scene, &["micro02"]),
    );
}

#[test]
fn two_members_have_the_databases_on_one() {
    let scene = certified(&["micro01", "micro02"]);
    golden(
        "ovn_two_members_have_the_databases_on_one",
        &[scene.plan("Cluster/demo")],
    );
}

#[test]
fn when_all_is_in_place_nothing_is_done() {
    let scene = serving(&FOUR);
    for plan in all(&scene, &FOUR) {
        assert!(
            plan.steps.is_empty() && plan.waiting_on.is_empty(),
            "{}",
            render(&plan)
        );
    }
    assert!(scene.plan("Cluster/demo").settled());
}

#[test]
fn what_was_changed_in_open_vswitch_is_changed_back() {
    let mut scene = serving(&THREE);
    let ovn = &mut scene.report("micro02").ovn;
    ovn.chassis
        .external_ids
        .insert("ovn-encap-ip".into(), "10.0.0.99".into());
    ovn.chassis.external_ids.remove("ovn-remote");
    ovn.chassis.controller = false;
    golden(
        "ovn_what_was_changed_in_open_vswitch_is_changed_back",
        &[scene.plan("Member/micro02")],
    );
}

#[test]
fn a_mapping_that_leads_elsewhere_is_put_back() {
    let uplink = "{kind: Uplink, metadata: {name: UPLINK}, spec: {interface: up0, ipv4: {gateway: \
                  192.0.2.1/24, ranges: [192.0.2.10-192.0.2.20]}}}";
    let mut scene = Scene::formed(&THREE, &[OVN, uplink]);
    scene.world = serving(&THREE).world;
    let chassis = &mut scene.report("micro02").ovn.chassis;
    let key = "ovn-bridge-mappings".to_owned();
    chassis
        .external_ids
        .insert(key.clone(), "lab:br-lab,UPLINK:br-lab".into());
    chassis.ports.insert("up0".into(), "lxdovn1".into());
    let plan = scene.plan("Member/micro02");
    assert_eq!(plan.steps.len(), 1, "{}", render(&plan));
    assert_eq!(
        plan.changes[0].to.as_deref(),
        Some("UPLINK:lxdovn1,lab:br-lab")
    );
    // Before LXD has made the bridge nothing is known of it.
    let chassis = &mut scene.report("micro02").ovn.chassis;
    chassis.external_ids.remove(&key);
    chassis.ports.clear();
    assert!(scene.plan("Member/micro02").steps.is_empty());
}

#[test]
fn a_bridge_that_waits_for_the_kernel_is_no_drift() {
    let mut scene = serving(&THREE);
    let ovn = &mut scene.report("micro02").ovn;
    ovn.kernel_datapath = false;
    for key in ["ovn-bridge-datapath-type", "microcloud-datapath"] {
        ovn.chassis.external_ids.insert(key.into(), "netdev".into());
    }
    ovn.chassis.bridges.insert("lxdovn1".into(), String::new());
    let plan = scene.plan("Member/micro02");
    assert_eq!(plan.steps.len(), 1, "{}", render(&plan));
    assert!(plan.changes.is_empty(), "{}", render(&plan));
}

#[test]
fn a_chassis_that_went_is_made_again_after_a_while() {
    let mut scene = serving(&THREE);
    for member in THREE {
        scene
            .report(member)
            .ovn
            .central
            .chassis
            .retain(|c| c.name != "micro02");
    }
    let later = scene.plan("Member/micro02");
    // The database has just told so: ovn-controller may still make it by itself.
    let host = scene.world.hosts.get_mut("micro02").expect("it is there");
    if let Seen::Known { at, .. } = &mut host.report {
        *at = NOW - 1.seconds();
    }
    let at_once = scene.plan("Member/micro02");
    assert_eq!(at_once.recheck_at, Some(NOW + 4.seconds()));
    golden(
        "ovn_a_chassis_that_went_is_made_again_after_a_while",
        &[at_once, later],
    );
}

#[test]
fn another_chassis_at_a_members_tunnel_end_goes() {
    let mut scene = serving(&THREE);
    for member in THREE {
        let rows = &mut scene.report(member).ovn.central.chassis;
        let row = |name: &str, end: &str| ChassisRow {
            name: name.to_owned(),
            hostname: format!("host of {name}"),
            encaps: vec![format!("geneve {end}")],
        };
        rows.push(row("old", "10.0.0.2"));
        rows.push(row("stranger", "192.0.2.7"));
    }
    golden(
        "ovn_another_chassis_at_a_members_tunnel_end_goes",
        &[scene.plan("Cluster/demo")],
    );
}

#[test]
fn a_certificate_that_ends_soon_is_renewed() {
    let mut scene = serving(&THREE);
    let certificate = &mut scene.report("micro03").ovn.certificate;
    certificate.as_mut().expect("it has one").not_after = 30 * 86_400;
    golden(
        "ovn_a_certificate_that_ends_soon_is_renewed",
        &[scene.plan("Member/micro03"), scene.plan("Cluster/demo")],
    );
}

#[test]
fn a_lost_machine_keeps_its_place_for_the_grace_period() {
    let mut scene = serving(&FOUR);
    silent(&mut scene, "micro02", 60);
    let plan = scene.plan("Cluster/demo");
    assert!(plan.steps.is_empty(), "{}", render(&plan));
    assert_eq!(plan.recheck_at, Some(NOW + 240.seconds()));
}

#[test]
fn a_lost_machine_is_replaced_by_the_fourth() {
    let mut scene = serving(&FOUR);
    silent(&mut scene, "micro02", 301);
    golden(
        "ovn_a_lost_machine_is_replaced_by_the_fourth",
        &all(&scene, &["micro04"]),
    );
}

#[test]
fn a_lost_machine_stays_in_place_when_nobody_can_take_it() {
    let mut scene = serving(&THREE);
    silent(&mut scene, "micro02", 4000);
    let plan = scene.plan("Cluster/demo");
    assert!(plan.steps.is_empty(), "{}", render(&plan));
}

#[test]
fn nobody_is_struck_without_a_majority() {
    let mut scene = serving(&FOUR);
    silent(&mut scene, "micro02", 4000);
    silent(&mut scene, "micro03", 10);
    golden(
        "ovn_nobody_is_struck_without_a_majority",
        &[scene.plan("Cluster/demo")],
    );
}

#[test]
fn a_raft_without_a_leader_is_told() {
    let mut scene = serving(&THREE);
    for member in THREE {
        let north = &mut scene.report(member).ovn.central.northbound;
        north.as_mut().expect("it has one").leader = false;
    }
    golden(
        "ovn_a_raft_without_a_leader_is_told",
        &[scene.plan("Cluster/demo")],
    );
}

#[test]
fn stopped_databases_are_started_and_listeners_made_again() {
    let mut scene = serving(&THREE);
    scene.report("micro01").ovn.central.northd = false;
    for member in THREE {
        let south = &mut scene.report(member).ovn.central.southbound;
        south.as_mut().expect("it has one").listens.clear();
    }
    golden(
        "ovn_stopped_databases_are_started_and_listeners_made_again",
        &[scene.plan("Cluster/demo")],
    );
}

#[test]
fn machines_that_may_keep_the_authority_are_waited_for() {
    let mut scene = bare(&THREE);
    silent(&mut scene, "micro02", 10);
    golden(
        "ovn_machines_that_may_keep_the_authority_are_waited_for",
        &[scene.plan("Cluster/demo")],
    );
}

#[test]
fn the_northbound_connection_is_held() {
    let mut scene = serving(&THREE);
    let server = scene.world.lxd.server.known_mut().expect("it is known");
    server.config.clear();
    let plan = scene.plan("Cluster/demo");
    assert_eq!(plan.steps.len(), 1, "{}", render(&plan));
    assert_eq!(
        plan.changes[0].path,
        "config.network.ovn.northbound_connection"
    );
    // Not knowing who is in the cluster is no reason to change it.
    let mut scene = serving(&THREE);
    scene.world.lxd.members = Seen::unread();
    assert!(scene.plan("Cluster/demo").changes.is_empty());
}

#[test]
fn tunnels_that_are_down_and_controllers_without_a_database_are_told() {
    let mut scene = serving(&THREE);
    for (n, member) in THREE.iter().enumerate() {
        let tunnels = &mut scene.report(member).ovn.chassis.tunnels;
        for end in (1..=3).filter(|end| *end != n + 1) {
            let up = Some(!(n == 1 && end == 3));
            let diagnostic = "Control Detection Time Expired".to_owned();
            tunnels.insert(address(end), TunnelReport { up, diagnostic });
        }
    }
    scene.report("micro01").ovn.chassis.connected = Some(false);
    scene.report("micro03").ovn.chassis.connected = None;
    golden(
        "ovn_tunnels_that_are_down_and_controllers_without_a_database_are_told",
        &all(&scene, &THREE),
    );
    // The silence of a machine is told by its own member.
    silent(&mut scene, "micro03", 3);
    assert!(scene.plan("Member/micro02").notes.is_empty());
}

#[test]
fn certificates_that_nobody_can_renew_and_an_authority_that_ends_are_told() {
    let mut scene = serving(&THREE);
    let certificate = &mut scene.report("micro03").ovn.certificate;
    certificate.as_mut().expect("it has one").not_after = NOW.as_second() + 30 * 86_400;
    for member in THREE {
        scene.report(member).ovn.authority = None;
    }
    let alone = scene.plan("Member/micro03");
    assert!(alone.steps.is_empty() && !alone.notes.is_empty());
    let mut ending = serving(&THREE);
    let authority = &mut ending.report("micro01").ovn.authority;
    authority.as_mut().expect("it has one").not_after = NOW.as_second() + 100 * 86_400;
    golden(
        "ovn_certificates_that_nobody_can_renew_and_an_authority_that_ends_are_told",
        &[alone, ending.plan("Cluster/demo")],
    );
}

#[test]
fn one_that_was_struck_while_it_was_lost_gives_its_files_up_when_it_comes_back() {
    let mut scene = serving(&FOUR);
    let now: Vec<IpAddr> = [1, 3, 4].map(address).into();
    let fourth = scene.report("micro03").ovn.central.clone();
    scene.report("micro04").ovn.central = fourth;
    for database in both(&mut scene, "micro04") {
        database.sid = sid(4);
    }
    for (member, own, join) in [("micro01", 1, 3), ("micro03", 3, 1), ("micro04", 4, 1)] {
        let central = &mut scene.report(member).ovn.central;
        central.config = Some(CentralConfig {
            address: address(own),
            join: Some(address(join)),
            centrals: now.clone(),
            tls: true,
        });
        for database in [&mut central.northbound, &mut central.southbound] {
            let database = database.as_mut().expect("it has one");
            database.leader = own == 3;
            database.servers.retain(|s| s.address != address(2));
            database.servers.push(RaftMember {
                id: "4444".into(),
                address: address(4),
            });
        }
    }
    for database in ["north", "south"] {
        let central = &mut scene.report("micro02").ovn.central;
        let database = match database {
            "north" => &mut central.northbound,
            _ => &mut central.southbound,
        };
        let database = database.as_mut().expect("it has one");
        database.connected = false;
        database.leader = false;
    }
    let server = scene.world.lxd.server.known_mut().expect("it is known");
    server.config = strings(&[(
        "network.ovn.northbound_connection",
        "ssl:10.0.0.1:6641,ssl:10.0.0.3:6641,ssl:10.0.0.4:6641",
    )]);
    let back = scene.plan("Cluster/demo");
    // Its place is free again: it joins anew, without what it had.
    silent(&mut scene, "micro04", 400);
    golden(
        "ovn_one_that_was_struck_gives_its_files_up",
        &[back, scene.plan("Cluster/demo")],
    );
}

#[test]
fn a_member_that_no_resource_names_any_more_keeps_its_place() {
    let mut scene = serving(&THREE);
    let gone = "Member/micro03".parse().expect("a reference");
    assert!(scene.desired.resources.remove(&gone).is_some());
    let plans = ["Cluster/demo", "Member/micro01", "Member/micro02"];
    for plan in plans.map(|o| scene.plan(o)) {
        let steps = sentences(&plan);
        let taken = |s: &&&str| s.contains("strike") || s.contains("leave") || s.contains("anew");
        assert_eq!(steps.iter().find(taken), None, "{}", render(&plan));
    }
}

/// The second machine was installed anew and has joined again, under the address of the server it
/// was.
fn second_is_another_server() -> Scene {
    let mut scene = serving(&THREE);
    for member in THREE {
        for database in both(&mut scene, member) {
            database.servers.push(RaftMember {
                id: "9999".into(),
                address: address(2),
            });
        }
    }
    for database in both(&mut scene, "micro02") {
        database.sid = "9999".into();
    }
    scene
}

#[test]
fn a_server_that_a_machine_was_before_it_was_installed_anew_is_struck() {
    let mut scene = second_is_another_server();
    let plan = scene.plan("Cluster/demo");
    silent(&mut scene, "micro03", 10);
    golden(
        "ovn_a_server_that_a_machine_was_before_is_struck",
        &[plan, scene.plan("Cluster/demo")],
    );
}

#[test]
fn at_an_address_a_server_is_struck_only_for_one_of_the_same_raft_that_serves() {
    let strikes = |scene: &Scene| {
        let plan = scene.plan("Cluster/demo");
        plan.steps.iter().any(|s| s.sentence.contains("strike"))
    };
    assert!(strikes(&second_is_another_server()));
    let mut other = second_is_another_server();
    let mut away = second_is_another_server();
    let mut unlisted = second_is_another_server();
    let mut untold = second_is_another_server();
    for n in 0..2 {
        both(&mut other, "micro02")[n].cid = "another raft".into();
        both(&mut away, "micro02")[n].connected = false;
        both(&mut unlisted, "micro02")[n].sid = "8888".into();
        both(&mut untold, "micro02")[n].sid.clear();
    }
    for (scene, what) in [
        (other, "another raft"),
        (away, "not connected"),
        (unlisted, "not in the raft yet"),
        (untold, "its server is not known"),
    ] {
        assert!(!strikes(&scene), "{what}");
    }
}

#[test]
fn of_a_raft_the_one_that_was_looked_at_last_tells() {
    let mut scene = second_is_another_server();
    // These were looked at before it joined.
    for member in ["micro01", "micro03"] {
        for database in both(&mut scene, member) {
            database.servers.retain(|s| s.id != "9999");
        }
    }
    let host = scene.world.hosts.get_mut("micro02").expect("it is there");
    if let Seen::Known { at, .. } = &mut host.report {
        *at = NOW - 1.seconds();
    }
    let plan = scene.plan("Cluster/demo");
    assert_eq!(plan.steps.len(), 2, "{}", render(&plan));
    assert!(plan.steps.iter().all(|s| s.sentence.starts_with("strike")));
}

#[test]
fn a_machine_that_was_installed_anew_joins_again() {
    let mut scene = serving(&THREE);
    scene.report("micro02").ovn.central = CentralReport::default();
    let plan = scene.plan("Cluster/demo");
    assert_eq!(sentences(&plan), ["join micro02 to OVN's databases"]);
}

#[test]
fn databases_that_another_version_set_up_are_no_strangers() {
    let mut scene = serving(&THREE);
    for member in THREE {
        scene.report(member).ovn.central.config = None;
    }
    let plan = scene.plan("Cluster/demo");
    assert_eq!(plan.steps.len(), 3, "{}", render(&plan));
    for (step, member) in plan.steps.iter().zip(THREE) {
        let wanted = format!("set up OVN's databases on {member} anew");
        assert_eq!(step.sentence, wanted, "{}", render(&plan));
    }
    // Not even while none of them runs.
    for member in THREE {
        let central = &mut scene.report(member).ovn.central;
        (central.northbound, central.southbound) = (None, None);
    }
    let plan = scene.plan("Cluster/demo");
    let makes = |s: &&str| s.starts_with("make OVN's databases");
    assert_eq!(sentences(&plan).into_iter().find(makes), None);
}

#[test]
fn one_that_was_struck_from_one_raft_leaves_both() {
    let mut scene = serving(&THREE);
    for member in ["micro01", "micro03"] {
        both(&mut scene, member)[0]
            .servers
            .retain(|s| s.address != address(2));
    }
    let [north, _] = both(&mut scene, "micro02");
    (north.connected, north.leader) = (false, false);
    let plan = scene.plan("Cluster/demo");
    let wanted = "take from micro02 the databases that others hold without it";
    assert_eq!(sentences(&plan), [wanted], "{}", render(&plan));
    // One that is only away keeps them.
    let mut scene = serving(&THREE);
    let [north, _] = both(&mut scene, "micro02");
    (north.connected, north.leader) = (false, false);
    let plan = scene.plan("Cluster/demo");
    let wanted = "set up OVN's databases on micro02 anew";
    assert_eq!(sentences(&plan), [wanted], "{}", render(&plan));
}

#[test]
fn a_process_that_forwards_although_the_kernel_can_is_told_if_it_is_our_choice() {
    let mut scene = serving(&THREE);
    let chassis = &mut scene.report("micro02").ovn.chassis;
    let netdev = || "netdev".to_owned();
    chassis
        .external_ids
        .insert("ovn-bridge-datapath-type".into(), netdev());
    chassis.bridges.insert("br-int".into(), netdev());
    chassis.bridges.insert("lxdovn1".into(), netdev());
    let by_hand = scene.plan("Member/micro02");
    assert!(by_hand.notes.is_empty() && by_hand.steps.is_empty());
    let chassis = &mut scene.report("micro02").ovn.chassis;
    chassis
        .external_ids
        .insert("microcloud-datapath".into(), netdev());
    golden(
        "ovn_a_process_that_forwards_although_the_kernel_can_is_told",
        &[scene.plan("Member/micro02")],
    );
}

#[test]
fn a_lost_machine_says_what_it_carried_of_ovn() {
    let mut scene = serving(&FOUR);
    for (name, router) in [("default", "192.0.2.10"), ("lab", "192.0.2.11")] {
        scene.has_network(Network {
            name: name.into(),
            config: strings(&[("volatile.network.ipv4.address", router)]),
            ..Network::default()
        });
    }
    let gateway = |preferred: &str, now: Option<&str>| Gateway {
        preferred: preferred.to_owned(),
        now: now.map(str::to_owned),
    };
    let of = |network: &str| format!("192.0.2.{network}").parse().expect("an address");
    for member in THREE {
        let gateways = &mut scene.report(member).ovn.central.gateways;
        gateways.insert(of("10"), gateway("micro02", Some("micro03")));
        gateways.insert(of("11"), gateway("micro04", Some("micro04")));
    }
    for member in ["micro02", "micro04"] {
        let mut scene_of_one = Scene {
            world: scene.world.clone(),
            ..serving(&FOUR)
        };
        silent(&mut scene_of_one, member, 8);
        let plan = scene_of_one.plan(&format!("Member/{member}"));
        let said: Vec<&str> = plan.waiting_on.iter().map(|w| w.message.as_str()).collect();
        let said = said.join("; ");
        let wanted = match member {
            "micro02" => {
                "it carries databases of OVN, the way out of network default (by micro03 now), a \
                 part of LXD's database; nothing more may be taken from LXD's database and OVN's \
                 databases until it is back"
            }
            _ => "it carries the way out of network lab",
        };
        assert!(said.contains(wanted), "{said}");
    }
    silent(&mut scene, "micro04", 8);
    let said = render(&scene.plan("Member/micro04"));
    assert!(!said.contains("nothing more"), "{said}");
}

#[test]
fn who_has_the_databases_keeps_them_while_another_member_has_not_joined_yet() {
    let mut scene = serving(&THREE);
    let members = scene.world.lxd.members.known_mut().expect("they are known");
    members.remove("micro03");
    silent(&mut scene, "micro03", 5);
    for member in ["micro01", "micro02"] {
        for database in both(&mut scene, member) {
            database.servers.pop();
        }
    }
    let plan = scene.plan("Cluster/demo");
    let shown = render(&plan);
    assert!(
        shown.contains("-> ssl:10.0.0.1:6641,ssl:10.0.0.2:6641\n"),
        "{shown}"
    );
}

#[test]
fn one_that_left_one_raft_and_was_stopped_before_the_other_leaves_both() {
    let stopped = |scene: &mut Scene| {
        let central = &mut scene.report("micro02").ovn.central;
        central.northbound = None;
        central.down.push(DatabaseFile {
            which: OvnDatabase::Northbound,
            cid: "raft".into(),
            sid: sid(2),
        });
    };
    let mut left = serving(&THREE);
    for member in ["micro01", "micro03"] {
        let [northbound, _] = both(&mut left, member);
        northbound.servers.retain(|s| s.id != sid(2));
    }
    let leaves = "take from micro02 the databases that others hold without it";
    // One that is only down is started.
    let starts = "set up OVN's databases on micro02 anew";
    for (mut scene, wanted) in [(left, leaves), (serving(&THREE), starts)] {
        stopped(&mut scene);
        let plan = scene.plan("Cluster/demo");
        assert_eq!(sentences(&plan), [wanted], "{}", render(&plan));
    }
}
