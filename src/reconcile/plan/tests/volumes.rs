//! What LXD keeps of its own in a pool.

use super::*;

const KEPT: &str = "{kind: StoragePool, metadata: {name: local}, spec: {driver: btrfs, volumes: \
                    [images, backups], config: {rsync.bwlimit: 1MB}}}";
const GOES: &str = "{kind: StoragePool, metadata: {name: local}, spec: {driver: btrfs, volumes: \
                    [images, backups], state: Absent}}";
const MEMBERS: [&str; 2] = ["micro01", "micro02"];

/// The URL of a volume.
fn url(name: &str, member: &str) -> String {
    format!("/1.0/storage-pools/local/volumes/custom/{name}?target={member}")
}

/// A cluster with the pool, with these volumes in it, and with what members keep in it.
fn scene(document: &str, volumes: &[(&str, &str)], kept: &[(&str, &str)]) -> Scene {
    let mut scene = Scene::formed(&MEMBERS, &[document]);
    let mut pool = pool("Created", &MEMBERS);
    pool.used_by = volumes.iter().map(|(name, on)| url(name, on)).collect();
    scene.has_pool(pool);
    for member in MEMBERS {
        let own = kept.iter().filter(|(_, on)| *on == member);
        let own = own.map(|(name, _)| (format!("storage.{name}_volume"), format!("local/{name}")));
        let config = &mut scene.world.lxd.member_config;
        config.insert(member.to_owned(), known(own.collect()));
    }
    scene
}

const ALL: [(&str, &str); 4] = [
    ("images", "micro01"),
    ("images", "micro02"),
    ("backups", "micro01"),
    ("backups", "micro02"),
];

fn all(scene: &Scene) -> [Plan; 3] {
    ["StoragePool/local", "Member/micro01", "Member/micro02"].map(|object| scene.plan(object))
}

#[test]
fn a_volume_is_made_on_each_member_before_its_key() {
    let nothing = all(&scene(KEPT, &[], &[]));
    let some = all(&scene(KEPT, &ALL[..3], &ALL[..1]));
    let every = all(&scene(KEPT, &ALL, &ALL));
    assert!(every.iter().all(Plan::settled), "{every:?}");
    let [pool, first, second] = some;
    let mut plans: Vec<Plan> = nothing.into();
    plans.extend([pool, first, second]);
    golden("a_volume_is_made_on_each_member_before_its_key", &plans);
}

#[test]
fn a_member_that_says_where_it_keeps_them_is_left_to_it() {
    let member = "{kind: StoragePool, metadata: {name: other}, spec: {driver: dir}}";
    let mut scene = Scene::formed(&MEMBERS, &[KEPT, member]);
    let mut pool = pool("Created", &MEMBERS);
    pool.used_by = ALL.map(|(name, on)| url(name, on)).into();
    scene.has_pool(pool);
    let reference: ObjectRef = "Member/micro01".parse().expect("a reference");
    let mut resource = (**scene.desired.resources[&reference]).clone();
    if let crate::resources::Spec::Member(spec) = &mut resource.spec {
        let key = "storage.images_volume".to_owned();
        spec.config.insert(key, "other/big".into());
    }
    let mut accepted = (*scene.memory.accepted).clone();
    accepted.directory.resources.insert(reference, resource);
    scene.desired = Desired::of(&accepted, &scene.memory.trust, &Desired::default());
    let own = strings(&[
        ("storage.images_volume", "other/big"),
        ("storage.backups_volume", "local/backups"),
    ]);
    let config = &mut scene.world.lxd.member_config;
    config.insert("micro01".to_owned(), known(own));
    assert!(scene.plan("Member/micro01").settled());
}

#[test]
fn a_line_that_goes_unsets_the_keys_and_leaves_the_volumes() {
    let mut scene = scene(POOL, &ALL, &ALL);
    let key = "config.storage.images_volume";
    scene.remembers("Member/micro01", Ownership::Created, &[key]);
    assert!(scene.plan("StoragePool/local").settled());
    let plan = scene.plan("Member/micro01");
    assert_eq!(sentences(&plan), ["write the server keys of micro01"]);
    assert_eq!(plan.changes.len(), 1, "{plan:?}");
    assert!(scene.plan("Member/micro02").settled(), "it was never ours");
}

#[test]
fn a_pool_that_goes_takes_its_volumes_with_it_once_that_is_approved() {
    let keys = [
        "config.storage.images_volume",
        "config.storage.backups_volume",
    ];
    let remembered = |mut scene: Scene| {
        scene.remembers("Member/micro01", Ownership::Created, &keys);
        scene.remembers("Member/micro02", Ownership::Created, &keys);
        scene
    };
    let approved = |mut scene: Scene| {
        let approval = crate::reconcile::memory::Approval {
            given: NOW,
            expires: Timestamp::from_second(1800).expect("a time"),
        };
        let step = "StoragePool/local/delete@local".to_owned();
        scene.memory.approvals.insert(step, approval);
        scene
    };
    let asks = all(&remembered(scene(GOES, &ALL, &ALL)));
    let kept = all(&approved(remembered(scene(GOES, &ALL, &ALL))));
    let free = approved(scene(GOES, &ALL, &[])).plan("StoragePool/local");
    let empty = approved(scene(GOES, &[], &[])).plan("StoragePool/local");
    let used = {
        let mut scene = scene(GOES, &ALL, &[]);
        let pools = scene.world.lxd.pools.known_mut().expect("they are known");
        let pool = pools.get_mut("local").expect("it is there");
        pool.whole.value.used_by.push(url("data", "micro01"));
        scene.plan("StoragePool/local")
    };
    let mut plans: Vec<Plan> = asks.into();
    plans.extend(kept);
    plans.extend([free, empty, used]);
    golden(
        "a_pool_that_goes_takes_its_volumes_with_it_once_that_is_approved",
        &plans,
    );
}

#[test]
fn a_member_that_leaves_keeps_nothing_in_pools() {
    let member = "Member/micro02";
    let leaving = |kept: &[(&str, &str)], volumes: &[(&str, &str)]| {
        let mut scene = scene(KEPT, volumes, kept);
        let reference: ObjectRef = member.parse().expect("a reference");
        let mut resource = (**scene.desired.resources[&reference]).clone();
        if let crate::resources::Spec::Member(spec) = &mut resource.spec {
            spec.state = crate::resources::kinds::MemberState::Absent;
        }
        let mut accepted = (*scene.memory.accepted).clone();
        accepted.directory.resources.insert(reference, resource);
        scene.desired = Desired::of(&accepted, &scene.memory.trust, &Desired::default());
        scene.remembers(member, Ownership::Created, &["removal.begun"]);
        scene.row("micro02").status = "Evacuated".into();
        let held = volumes.iter().filter(|(_, on)| *on == "micro02");
        let held = held.map(|(name, _)| format!("volume {name} of pool local"));
        let held = known(held.collect());
        scene.world.lxd.leaving.insert("micro02".into(), held);
        scene.plan(member)
    };
    assert_eq!(
        sentences(&leaving(&ALL, &ALL)),
        ["have micro02 keep nothing of its own in pools"]
    );
    assert_eq!(
        sentences(&leaving(&ALL[..1], &ALL)),
        [
            "delete volume local/images of micro02",
            "delete volume local/backups of micro02"
        ]
    );
    assert_eq!(
        sentences(&leaving(&[], &ALL[..1])),
        ["take micro02 out of LXD's cluster"]
    );
    let mut other = ALL.to_vec();
    other.push(("data", "micro02"));
    let held = leaving(&[], &other);
    assert!(held.steps.is_empty(), "{held:?}");
    let says = "micro02 still holds what evacuating does not move: volume data of pool local;";
    assert!(held.waiting_on[0].message.starts_with(says), "{held:?}");
}
