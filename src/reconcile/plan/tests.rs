//! Plans as golden files, whose names say what they show. `UPDATE_GOLDENS=1` writes them anew.

use super::{Plan, View, plan};
use crate::reconcile::desired::Desired;
use crate::reconcile::memory::{Entry, Memory, Ownership};
use crate::reconcile::world::{HostView, LxdWorld, Seen, ServerView, Spread, World};
use crate::resources::accepted::Accepted;
use crate::resources::draft::Draft;
use crate::resources::value::Deletion;
use crate::resources::{ObjectRef, SourceName};
use crate::services::host::{
    DiskReport, HostError, HostReport, InterfaceReport, LxdReport, LxdState,
};
use crate::services::lxd::types::{Member, Network, Pool, Profile, Project, Versioned};
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::fmt::Write;

mod ceph;
mod disks;
mod ovn;
mod paths;
mod removal;
mod volumes;

/// A scene: what is wanted, what is there, what is remembered.
struct Scene {
    desired: Desired,
    world: World,
    memory: Memory,
}

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

fn known<T>(value: T) -> Seen<T> {
    Seen::Known { value, at: NOW }
}

fn alone<T>(value: T) -> Spread<T> {
    Spread {
        whole: Versioned { value, etag: None },
        members: BTreeMap::new(),
    }
}

fn strings(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect()
}

const CLUSTER: &str = "{kind: Cluster, metadata: {name: demo}, spec: {initiator: micro01}}";

impl Scene {
    /// A formed cluster of these members, all of them online, with these documents wanted.
    fn formed(members: &[&str], documents: &[&str]) -> Scene {
        let mut scene = Scene::empty(members, documents);
        let lxd = &mut scene.world.lxd;
        if let Some(server) = lxd.server.known_mut() {
            server.clustered = true;
        }
        let rows = members.iter().enumerate().map(|(n, name)| {
            let member = Member {
                server_name: (*name).to_owned(),
                url: format!("https://10.0.0.{}:8443", n + 1),
                status: "Online".into(),
                roles: vec!["database".into()],
                failure_domain: "default".into(),
                groups: vec!["default".into()],
                ..Member::default()
            };
            (
                (*name).to_owned(),
                Versioned {
                    value: member,
                    etag: None,
                },
            )
        });
        lxd.members = known(rows.collect());
        for host in scene.world.hosts.values_mut() {
            if let Some(HostReport {
                lxd: LxdReport::Running(state),
                ..
            }) = host.report.known_mut()
            {
                state.clustered = true;
            }
        }
        scene
    }

    /// Empty machines that all answer.
    fn empty(members: &[&str], documents: &[&str]) -> Scene {
        let own = documents.iter().any(|d| d.starts_with("{kind: Cluster,"));
        let mut text: Vec<String> = (!own).then(|| CLUSTER.to_owned()).into_iter().collect();
        for (n, name) in members.iter().enumerate() {
            text.push(format!(
                "{{kind: Member, metadata: {{name: {name}}}, spec: {{address: 10.0.0.{}}}}}",
                n + 1
            ));
        }
        text.extend(documents.iter().map(|d| (*d).to_owned()));
        let text: Vec<String> = text
            .iter()
            .map(|d| d.replacen('{', "{apiVersion: microcloud.dev/v1, ", 1))
            .collect();
        let text = text.join("\n---\n");
        let reading =
            Draft::of_files(SourceName::Directory, [("all.yaml", text.as_bytes())]).check(&[]);
        assert!(reading.broken.is_empty(), "{:?}", reading.broken);
        let (accepted, _) = Accepted::default().accept(&reading, NOW);
        let hosts = members.iter().map(|name| {
            let report = HostReport {
                name: (*name).to_owned(),
                agent_version: "1".into(),
                fingerprint: "f".into(),
                machine_id: format!("{name}-machine-id"),
                boot_id: "b".into(),
                lxd: LxdReport::Running(LxdState {
                    server: "lxd".into(),
                    version: "5.0.2".into(),
                    ..LxdState::default()
                }),
                disks: vec![DiskReport {
                    name: "sdb".into(),
                    path: format!("/dev/disk/by-id/{name}-disk"),
                    serial: format!("{name}-serial"),
                    size: 10 << 30,
                    ..DiskReport::default()
                }],
                interfaces: Vec::new(),
                ceph: Default::default(),
                ovn: Default::default(),
            };
            (
                (*name).to_owned(),
                HostView {
                    report: known(report),
                    ..HostView::default()
                },
            )
        });
        let world = World {
            hosts: hosts.collect(),
            lxd: LxdWorld {
                server: known(ServerView {
                    server: "lxd".into(),
                    version: "5.0.2".into(),
                    name: "micro01".into(),
                    drivers: ["dir".to_owned(), "btrfs".to_owned()].into(),
                    ..ServerView::default()
                }),
                members: known(BTreeMap::new()),
                member_config: BTreeMap::new(),
                leaving: BTreeMap::new(),
                groups: known(BTreeMap::new()),
                pools: known(BTreeMap::new()),
                networks: known(BTreeMap::new()),
                projects: known(
                    [(
                        "default".to_owned(),
                        Versioned {
                            value: Project::default(),
                            etag: None,
                        },
                    )]
                    .into(),
                ),
                profiles: known(BTreeMap::new()),
            },
            ..World::default()
        };
        Scene {
            desired: Desired::of(&accepted, &Default::default(), &Desired::default()),
            memory: Memory {
                accepted: accepted.into(),
                ..Memory::default()
            },
            world,
        }
    }

    fn plan(&self, object: &str) -> Plan {
        let object: ObjectRef = object.parse().expect("a reference");
        let view = View {
            now: NOW,
            desired: &self.desired,
            world: &self.world,
            memory: &self.memory,
        };
        let first = plan(&object, &view);
        assert_eq!(
            first,
            plan(&object, &view),
            "the same input gives the same plan"
        );
        first
    }

    fn has_pool(&mut self, pool: Pool) {
        let pools = self.world.lxd.pools.known_mut().expect("they are known");
        pools.insert(pool.name.clone(), alone(pool));
    }

    fn has_network(&mut self, network: Network) {
        let networks = self.world.lxd.networks.known_mut().expect("they are known");
        networks.insert(("default".into(), network.name.clone()), alone(network));
    }

    fn has_profile(&mut self, profile: Profile) {
        let profiles = self.world.lxd.profiles.known_mut().expect("they are known");
        let key = ("default".to_owned(), profile.name.clone());
        profiles.insert(
            key,
            Versioned {
                value: profile,
                etag: None,
            },
        );
    }

    fn remembers(&mut self, object: &str, ownership: Ownership, applied: &[&str]) {
        let entry = Entry {
            ownership,
            generation: 1,
            digest: String::new(),
            applied: applied.iter().map(|a| (*a).to_owned()).collect(),
            secrets: BTreeMap::new(),
            deletion: Deletion::Delete,
        };
        self.memory
            .inventory
            .insert(object.parse().expect("a reference"), entry);
    }

    fn report(&mut self, member: &str) -> &mut HostReport {
        let host = self.world.hosts.get_mut(member).expect("it is there");
        host.report.known_mut().expect("it is known")
    }

    fn row(&mut self, member: &str) -> &mut Member {
        let members = self.world.lxd.members.known_mut().expect("they are known");
        &mut members.get_mut(member).expect("it is there").value
    }
}

fn render(plan: &Plan) -> String {
    let mut text = format!("{:?} {}\n", plan.verb, plan.object);
    for change in &plan.changes {
        let show = |v: &Option<String>| v.clone().unwrap_or_else(|| "unset".to_owned());
        let _ = writeln!(
            text,
            "  {}: {} -> {}",
            change.path,
            show(&change.from),
            show(&change.to)
        );
    }
    for step in &plan.steps {
        let _ = writeln!(text, "step: {}", step.sentence);
        for claim in &step.claims {
            let how = if claim.exclusive { "alone" } else { "shared" };
            let _ = writeln!(text, "  touches {:?} {how}", claim.on);
        }
    }
    for waiting in &plan.waiting_on {
        let _ = writeln!(
            text,
            "waits: {} ({:?}): {}",
            waiting.reason, waiting.on, waiting.message
        );
    }
    for refused in &plan.refused {
        let _ = writeln!(text, "refused: {}: {}", refused.reason, refused.message);
    }
    for note in &plan.notes {
        let _ = writeln!(text, "note: {}: {}", note.reason, note.message);
    }
    text
}

/// What a plan's steps say they do.
fn sentences(plan: &Plan) -> Vec<&str> {
    plan.steps.iter().map(|s| s.sentence.as_str()).collect()
}

#[track_caller]
fn golden(name: &str, plans: &[Plan]) {
    let text: String = plans.iter().map(render).collect::<Vec<_>>().join("\n");
    let path = format!(
        "{}/src/reconcile/plan/goldens/{name}.txt",
        env!("CARGO_MANIFEST_DIR")
    );
    if std::env::var_os("UPDATE_GOLDENS").is_some() {
        std::fs::write(&path, &text).expect("the golden can be written");
        return;
    }
    let wanted = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        text, wanted,
        "{path} differs; UPDATE_GOLDENS=1 writes it anew"
    );
}

const POOL: &str = "{kind: StoragePool, metadata: {name: local}, spec: {driver: btrfs, config: \
                    {rsync.bwlimit: 1MB}}}";
const DISK: &str = "{kind: Disk, metadata: {name: d}, spec: {members: [micro01, micro02], match: \
                    size >= 1GiB, limit: 1, use: {pool: local}}}";
const PROFILE: &str = "{kind: Profile, metadata: {name: web}, spec: {config: {limits.cpu: 2}, \
                       devices: {root: {type: disk, path: /, pool: local}}}}";
const NETWORK: &str =
    "{kind: Network, metadata: {name: lan}, spec: {type: bridge, config: {ipv4.nat: true}}}";

fn pool(status: &str, locations: &[&str]) -> Pool {
    Pool {
        name: "local".into(),
        driver: "btrfs".into(),
        status: status.into(),
        locations: locations.iter().map(|l| (*l).to_owned()).collect(),
        config: strings(&[("rsync.bwlimit", "1MB")]),
        ..Pool::default()
    }
}

#[test]
fn empty_machines_form_a_cluster_and_the_rest_waits() {
    let scene = Scene::empty(
        &["micro01", "micro02", "micro03"],
        &[POOL, NETWORK, PROFILE],
    );
    let objects = [
        "Cluster/demo",
        "Member/micro02",
        "StoragePool/local",
        "Network/lan",
        "Profile/web",
    ];
    let plans: Vec<Plan> = objects.map(|o| scene.plan(o)).into();
    golden("empty_machines_form_a_cluster_and_the_rest_waits", &plans);
}

#[test]
fn no_cluster_is_formed_without_a_majority() {
    let mut scene = Scene::empty(&["micro01", "micro02", "micro03"], &[]);
    for name in ["micro02", "micro03"] {
        let host = scene.world.hosts.get_mut(name).expect("it is there");
        host.error = Some(HostError::Unreachable {
            name: name.into(),
            address: "10.0.0.2:9445".into(),
            reason: "connection refused".into(),
            silent: true,
        });
    }
    golden(
        "no_cluster_is_formed_without_a_majority",
        &[scene.plan("Cluster/demo")],
    );
}

#[test]
fn no_second_cluster_is_formed() {
    let mut scene = Scene::empty(&["micro01", "micro02", "micro03"], &[]);
    if let LxdReport::Running(lxd) = &mut scene.report("micro02").lxd {
        lxd.clustered = true;
    }
    golden("no_second_cluster_is_formed", &[scene.plan("Cluster/demo")]);
}

#[test]
fn a_pool_waits_for_members_on_their_way_and_not_for_lost_ones() {
    let mut scene = Scene::formed(&["micro01", "micro02"], &[POOL]);
    let members = scene.world.lxd.members.known_mut().expect("they are known");
    members.remove("micro02");
    if let LxdReport::Running(lxd) = &mut scene.report("micro02").lxd {
        lxd.clustered = false;
    }
    let coming = scene.plan("StoragePool/local");
    scene
        .world
        .hosts
        .get_mut("micro02")
        .expect("it is there")
        .error = Some(HostError::Unreachable {
        name: "micro02".into(),
        address: "10.0.0.2:9445".into(),
        reason: "connection refused".into(),
        silent: true,
    });
    let lost = scene.plan("StoragePool/local");
    let member = scene.plan("Member/micro02");
    golden(
        "a_pool_waits_for_members_on_their_way_and_not_for_lost_ones",
        &[coming, lost, member],
    );
}

#[test]
fn a_missing_member_blocks_pool_and_network_writes_but_no_profile() {
    let mut scene = Scene::formed(&["micro01", "micro02"], &[POOL, NETWORK, PROFILE]);
    scene.row("micro02").status = "Offline".into();
    scene.row("micro02").message = "no heartbeat for 25s".into();
    scene.has_pool(Pool {
        config: BTreeMap::new(),
        ..pool("Created", &["micro01", "micro02"])
    });
    let plans = [
        "StoragePool/local",
        "Network/lan",
        "Profile/web",
        "Member/micro02",
    ]
    .map(|o| scene.plan(o));
    golden(
        "a_missing_member_blocks_pool_and_network_writes_but_no_profile",
        &plans,
    );
}

#[test]
fn a_half_made_pool_is_finished() {
    let mut scene = Scene::formed(&["micro01", "micro02"], &[POOL]);
    scene.has_pool(Pool {
        config: BTreeMap::new(),
        ..pool("Pending", &["micro01"])
    });
    let pending = scene.plan("StoragePool/local");
    scene.has_pool(pool("Errored", &["micro01", "micro02"]));
    golden(
        "a_half_made_pool_is_finished",
        &[pending, scene.plan("StoragePool/local")],
    );
}

#[test]
fn what_is_left_of_something_half_made_is_cleared_away_if_it_is_ours() {
    let mut scene = Scene::formed(&["micro01", "micro02"], &[POOL, NETWORK]);
    scene.has_pool(pool("Errored", &["micro01", "micro02"]));
    scene.has_network(errored_network("lan", &["micro01", "micro02"]));
    let report = scene.report("micro02");
    report.interfaces.push(InterfaceReport {
        name: "lan".into(),
        kind: "bridge".into(),
        ..InterfaceReport::default()
    });
    if let LxdReport::Running(lxd) = &mut report.lxd {
        lxd.pool_directories = vec!["local".into()];
    }
    let not_ours = ["StoragePool/local", "Network/lan"].map(|o| scene.plan(o));
    for object in ["StoragePool/local", "Network/lan"] {
        scene.remembers(object, Ownership::Intended, &[]);
    }
    let ours = ["StoragePool/local", "Network/lan"].map(|o| scene.plan(o));
    golden(
        "what_is_left_of_something_half_made_is_cleared_away_if_it_is_ours",
        &[not_ours, ours].concat(),
    );
}

/// Two members and a machine that answers and may join.
fn with_a_joiner(documents: &[&str]) -> Scene {
    let mut scene = Scene::formed(&["micro01", "micro02", "micro03"], documents);
    let members = scene.world.lxd.members.known_mut().expect("they are known");
    members.remove("micro03");
    if let LxdReport::Running(lxd) = &mut scene.report("micro03").lxd {
        lxd.clustered = false;
    }
    scene
}

fn errored_network(name: &str, locations: &[&str]) -> Network {
    Network {
        name: name.into(),
        network_type: "bridge".into(),
        managed: true,
        status: "Errored".into(),
        locations: locations.iter().map(|l| (*l).to_owned()).collect(),
        ..Network::default()
    }
}

#[test]
fn nobody_joins_while_something_is_half_made_and_that_is_finished_first() {
    let mut scene = with_a_joiner(&[POOL, NETWORK]);
    let free = scene.plan("Member/micro03");
    scene.has_pool(pool("Errored", &["micro01", "micro02"]));
    let mut plans = vec![free];
    plans.extend(["Member/micro03", "StoragePool/local"].map(|o| scene.plan(o)));
    scene.has_pool(pool("Created", &["micro01", "micro02"]));
    scene.has_network(errored_network("lan", &["micro01", "micro02"]));
    plans.extend(["Member/micro03", "Network/lan"].map(|o| scene.plan(o)));
    golden(
        "nobody_joins_while_something_is_half_made_and_that_is_finished_first",
        &plans,
    );
}

#[test]
fn nobody_joins_while_something_of_somebody_else_is_half_made() {
    let mut scene = with_a_joiner(&[]);
    scene.has_network(errored_network("theirs", &["micro01", "micro02"]));
    golden(
        "nobody_joins_while_something_of_somebody_else_is_half_made",
        &[scene.plan("Member/micro03")],
    );
}

#[test]
fn what_is_half_made_without_a_part_on_a_member_is_for_the_operator() {
    let mut scene = Scene::formed(&["micro01", "micro02"], &[POOL, NETWORK]);
    scene.has_pool(pool("Errored", &["micro01"]));
    scene.has_network(errored_network("lan", &["micro01"]));
    golden(
        "what_is_half_made_without_a_part_on_a_member_is_for_the_operator",
        &["StoragePool/local", "Network/lan"].map(|o| scene.plan(o)),
    );
}

#[test]
fn a_machine_in_the_cluster_under_no_name_joins_anew() {
    let mut scene = with_a_joiner(&[]);
    if let LxdReport::Running(lxd) = &mut scene.report("micro03").lxd {
        lxd.clustered = true;
        lxd.member_name = String::new();
    }
    let ours = scene.plan("Member/micro03");
    if let LxdReport::Running(lxd) = &mut scene.report("micro03").lxd {
        lxd.certificate_fingerprint = "theirs".into();
        lxd.cluster_address = "10.9.9.9:8443".into();
    }
    let theirs = scene.plan("Member/micro03");
    scene.report("micro03").lxd = LxdReport::JoinCut;
    golden(
        "a_machine_in_the_cluster_under_no_name_joins_anew",
        &[ours, theirs, scene.plan("Member/micro03")],
    );
}

#[test]
fn a_disk_is_taken_blank_and_refused_full() {
    let mut scene = Scene::formed(&["micro01", "micro02"], &[POOL, DISK]);
    scene.report("micro02").disks[0].signatures = vec!["ext4 filesystem".into()];
    let plans = ["Disk/d", "StoragePool/local"].map(|o| scene.plan(o));
    golden("a_disk_is_taken_blank_and_refused_full", &plans);
}

#[test]
fn a_full_disk_is_wiped_only_when_approved() {
    let wipe = DISK.replace("limit: 1", "limit: 1, wipe: true");
    let mut scene = Scene::formed(&["micro01", "micro02"], &[POOL, &wipe]);
    scene.report("micro02").disks[0].signatures = vec!["ext4 filesystem".into()];
    let asked = scene.plan("Disk/d");
    let step = asked.refused[0]
        .approve
        .clone()
        .expect("an approval is all that is missing");
    let approval = crate::reconcile::memory::Approval {
        given: NOW,
        expires: Timestamp::MAX,
    };
    scene.memory.approvals.insert(step, approval);
    let approved = scene.plan("Disk/d");
    scene.report("micro02").disks[0].signatures = vec!["mounted at /srv".into()];
    golden(
        "a_full_disk_is_wiped_only_when_approved",
        &[asked, approved, scene.plan("Disk/d")],
    );
}

#[test]
fn only_what_the_yaml_names_or_named_is_changed() {
    let mut scene = Scene::formed(&["micro01"], &[PROFILE]);
    scene.has_pool(pool("Created", &["micro01"]));
    scene.has_profile(Profile {
        name: "web".into(),
        config: strings(&[
            ("limits.cpu", "4"),
            ("user.stray", "x"),
            ("user.was", "ours"),
        ]),
        devices: [
            ("stray".to_owned(), strings(&[("type", "none")])),
            ("ours".to_owned(), strings(&[("type", "none")])),
        ]
        .into(),
        ..Profile::default()
    });
    let applied = ["config.limits.cpu", "config.user.was", "devices.ours.type"];
    scene.remembers("Profile/web", Ownership::Created, &applied);
    golden(
        "only_what_the_yaml_names_or_named_is_changed",
        &[scene.plan("Profile/web")],
    );
}

#[test]
fn what_is_gone_from_the_yaml_is_pruned_released_or_orphaned() {
    let mut scene = Scene::formed(&["micro01"], &[]);
    for name in ["ours", "used", "theirs"] {
        scene.has_profile(Profile {
            name: name.into(),
            ..Profile::default()
        });
    }
    scene.has_profile(Profile {
        name: "used".into(),
        used_by: (0..7).map(|n| format!("/1.0/instances/c{n}")).collect(),
        ..Profile::default()
    });
    scene.remembers("Profile/ours", Ownership::Created, &[]);
    scene.remembers("Profile/used", Ownership::Created, &[]);
    scene.remembers("Profile/theirs", Ownership::Adopted, &[]);
    scene.remembers("StoragePool/local", Ownership::Created, &[]);
    let objects = [
        "Profile/ours",
        "Profile/used",
        "Profile/theirs",
        "StoragePool/local",
    ];
    let plans = objects.map(|o| scene.plan(o));
    golden(
        "what_is_gone_from_the_yaml_is_pruned_released_or_orphaned",
        &plans,
    );
}

#[test]
fn too_many_deletions_are_held_as_a_whole() {
    let mut scene = Scene::formed(&["micro01"], &[]);
    for n in 0..4 {
        scene.has_profile(Profile {
            name: format!("p{n}"),
            ..Profile::default()
        });
        scene.remembers(&format!("Profile/p{n}"), Ownership::Created, &[]);
    }
    golden(
        "too_many_deletions_are_held_as_a_whole",
        &[scene.plan("Profile/p0")],
    );
}

#[test]
fn a_member_that_was_evacuated_by_hand_is_shown_and_left() {
    let mut scene = Scene::formed(&["micro01", "micro02"], &[]);
    scene.row("micro02").status = "Evacuated".into();
    let by_hand = scene.plan("Member/micro02");
    scene.remembers("Member/micro02", Ownership::Created, &["state.Evacuated"]);
    golden(
        "a_member_that_was_evacuated_by_hand_is_shown_and_left",
        &[by_hand, scene.plan("Member/micro02")],
    );
}

#[test]
fn a_reinstalled_member_and_a_half_joined_one() {
    let mut scene = Scene::formed(&["micro01", "micro02"], &[]);
    if let LxdReport::Running(lxd) = &mut scene.report("micro02").lxd {
        lxd.clustered = false;
    }
    scene.remembers("Member/micro02", Ownership::Created, &[]);
    let reinstalled = scene.plan("Member/micro02");
    scene.remembers("Member/micro02", Ownership::Intended, &[]);
    golden(
        "a_reinstalled_member_and_a_half_joined_one",
        &[reinstalled, scene.plan("Member/micro02")],
    );
}

#[test]
fn joiners_are_refused_with_the_reason() {
    let mut scene = Scene::formed(
        &["micro01", "micro02", "micro03", "micro04", "micro05"],
        &[],
    );
    let members = scene.world.lxd.members.known_mut().expect("they are known");
    members.retain(|name, _| name == "micro01");
    let running = |report: &mut HostReport, change: &dyn Fn(&mut LxdState)| {
        if let LxdReport::Running(lxd) = &mut report.lxd {
            lxd.clustered = false;
            change(lxd);
        }
    };
    running(scene.report("micro02"), &|lxd| {
        lxd.leftovers.pools = vec!["old".into()]
    });
    running(scene.report("micro03"), &|lxd| lxd.version = "5.21".into());
    scene.report("micro04").name = "other".into();
    if let LxdReport::Running(lxd) = &mut scene.report("micro05").lxd {
        lxd.certificate_fingerprint = "theirs".into();
        lxd.member_name = "micro05".into();
        lxd.cluster_address = "10.9.9.9:8443".into();
    }
    let plans = ["micro02", "micro03", "micro04", "micro05"]
        .map(|name| scene.plan(&format!("Member/{name}")));
    golden("joiners_are_refused_with_the_reason", &plans);
}

#[test]
fn what_cannot_be_read_is_unknown_and_never_absent() {
    let mut scene = Scene::formed(&["micro01"], &[POOL, PROFILE, NETWORK]);
    scene.remembers("Profile/gone", Ownership::Created, &[]);
    let lost = || "no quorum".to_owned();
    scene.world.lxd.pools = Seen::Unknown { reason: lost() };
    scene.world.lxd.profiles = Seen::Unknown { reason: lost() };
    scene.world.lxd.networks = Seen::Unknown { reason: lost() };
    let plans = [
        "StoragePool/local",
        "Network/lan",
        "Profile/web",
        "Profile/gone",
    ]
    .map(|o| scene.plan(o));
    golden("what_cannot_be_read_is_unknown_and_never_absent", &plans);
}

#[test]
fn types_and_drivers_are_never_changed_by_delete_and_create() {
    let mut scene = Scene::formed(&["micro01"], &[POOL, NETWORK]);
    scene.has_pool(Pool {
        driver: "dir".into(),
        ..pool("Created", &["micro01"])
    });
    scene.has_network(Network {
        name: "lan".into(),
        network_type: "ovn".into(),
        managed: true,
        status: "Created".into(),
        config: strings(&[("ipv4.nat", "true")]),
        ..Network::default()
    });
    let plans = ["StoragePool/local", "Network/lan"].map(|o| scene.plan(o));
    golden(
        "types_and_drivers_are_never_changed_by_delete_and_create",
        &plans,
    );
}
