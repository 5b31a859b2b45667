//! The controller as a whole on the simulated cloud.

#[path = "common/sim.rs"]
mod sim;

use microcloud::reconcile::memory::Ownership;
use microcloud::resources::draft::Draft;
use microcloud::resources::{Kind, ObjectRef, SourceName};
use microcloud::services::lxd::JoinRequest;
use microcloud::services::lxd::requests::{NetworkCreate, ProfilePut};
use microcloud::simulate::{CrashKind, PathClass, SimCloud, SimConfig};
use sim::{any_files, controller, doc, files, mortal, portrait, settled, shown, story, usual};
use std::time::Duration;

#[tokio::test(start_paused = true)]
async fn three_empty_machines_become_a_cluster() {
    let cloud = SimCloud::new(SimConfig::of(3));
    let controller = controller(&cloud, "micro01").await;
    controller
        .submit(&files(&[("all.yaml", usual(3))]))
        .await
        .expect("kept");
    settled(&controller).await;
    let portrait = portrait(&cloud).await;
    assert!(
        portrait.contains("member micro03 Online rack3"),
        "{portrait}"
    );
    assert!(portrait.contains("pool local btrfs Created"), "{portrait}");
    assert!(portrait.contains("interval Some(\"12\")"), "{portrait}");
    let inventory = controller.memory().inventory;
    for object in [
        "StoragePool/local",
        "Network/lan",
        "Profile/web",
        "Project/team",
    ] {
        let object: ObjectRef = object.parse().expect("a reference");
        assert_eq!(inventory[&object].ownership, Ownership::Created, "{object}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_converged_cluster_sees_no_write() {
    let cloud = SimCloud::new(SimConfig::of(3));
    let controller = controller(&cloud, "micro01").await;
    controller
        .submit(&files(&[("all.yaml", usual(3))]))
        .await
        .expect("kept");
    settled(&controller).await;
    let before = cloud.counts();
    tokio::time::sleep(Duration::from_secs(1200)).await;
    controller
        .reconcile(&Default::default())
        .await
        .expect("a forced round");
    tokio::time::sleep(Duration::from_secs(60)).await;
    let after = cloud.counts();
    assert_eq!(
        before.total().writes,
        after.total().writes,
        "a converged cluster is only read"
    );
    assert!(
        after.total().requests > before.total().requests,
        "it was looked at"
    );
}

/// Requests, writes and plans for one changed profile beside so many others.
async fn one_change_beside(members: usize, others: usize) -> [u64; 3] {
    let config = SimConfig::of(members);
    let first = config.machines[0].name.clone();
    let mut text = doc("Cluster", "demo", &format!("{{initiator: {first}}}"));
    text += &doc("StoragePool", "local", "{driver: dir}");
    for machine in &config.machines {
        let spec = format!("{{address: {}}}", machine.address);
        text += &doc("Member", &machine.name, &spec);
    }
    let profile = |name: &str, cpu: usize| {
        let root = "{root: {type: disk, path: /, pool: local}}";
        let spec = format!("{{config: {{limits.cpu: {cpu}}}, devices: {root}}}");
        doc("Profile", name, &spec)
    };
    for n in 0..others {
        text += &profile(&format!("p{n:04}"), 1);
    }
    let with = |cpu| {
        files(&[
            ("all.yaml", text.clone()),
            ("one.yaml", profile("one", cpu)),
        ])
    };
    let cloud = SimCloud::new(config);
    let controller = controller(&cloud, &first).await;
    controller.submit(&with(1)).await.expect("kept");
    settled(&controller).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let spent = || {
        let (counts, plans) = (cloud.counts(), controller.counters().plans);
        let (all, agents) = (counts.total(), counts.of_class(PathClass::Agent));
        [
            all.requests - agents.requests,
            all.writes - agents.writes,
            plans,
        ]
    };
    let before = spent();
    controller.submit(&with(2)).await.expect("kept");
    settled(&controller).await;
    let after = spent();
    [0, 1, 2].map(|n| after[n] - before[n])
}

#[tokio::test(start_paused = true)]
async fn one_change_costs_the_same_beside_few_and_beside_many() {
    let few = one_change_beside(3, 5).await;
    let many = one_change_beside(30, 400).await;
    assert_eq!(few, many, "requests, writes and plans");
    assert!(
        few[1] <= 3,
        "the resource, the profile, the record: {few:?}"
    );
}

/// What is planned while so many machines form a cluster with ten profiles and a network for each
/// and a pool.
async fn plans_of_forming(members: usize) -> u64 {
    let config = SimConfig::of(members);
    let mut text = doc("Cluster", "demo", "{initiator: micro01}");
    text += &doc("StoragePool", "local", "{driver: dir}");
    for machine in &config.machines {
        let name = &machine.name;
        text += &doc("Member", name, &format!("{{address: {}}}", machine.address));
        text += &doc(
            "Network",
            &format!("n-{name}"),
            "{type: bridge, config: {ipv4.address: none, ipv6.address: none}}",
        );
        for n in 0..10 {
            let device = "{devices: {root: {type: disk, path: /, pool: local}}}";
            text += &doc("Profile", &format!("p{n}-{name}"), device);
        }
    }
    let cloud = SimCloud::new(config);
    let controller = controller(&cloud, "micro01").await;
    controller
        .submit(&files(&[("all.yaml", text)]))
        .await
        .expect("kept");
    settled(&controller).await;
    controller.status().counters.plans
}

#[tokio::test(start_paused = true)]
async fn what_forming_costs_grows_with_members_and_objects_and_not_with_their_product() {
    let (small, large) = (plans_of_forming(8).await, plans_of_forming(32).await);
    assert!(
        large < small * 5,
        "{small} plans for 8 machines and {large} for 32"
    );
}

/// Lets a machine join by hand while a network is half made, which leaves it in the cluster under
/// no name and in its database's raft.
async fn half_join(cloud: &SimCloud, address: &str, member: &str) {
    let (first, lxd) = (cloud.hand("micro01"), cloud.hand(member));
    let mut network = NetworkCreate {
        name: "bad".into(),
        network_type: "bridge".into(),
        ..NetworkCreate::default()
    };
    for member in first.members().await.expect("members") {
        first
            .create_network("default", &network, Some(&member.server_name))
            .await
            .expect("it is defined");
    }
    network.config.insert("nope".into(), "1".into());
    let made = first.create_network("default", &network, None).await;
    assert!(made.is_err(), "the network is half made");
    let token = first.join_token(member).await.expect("a token");
    let request = JoinRequest {
        name: member.into(),
        server_address: format!("{address}:8443"),
        cluster_address: token.addresses[0].clone(),
        cluster_certificate: first
            .server()
            .await
            .expect("it answers")
            .value
            .environment
            .certificate,
        token: token.encode(),
        member_config: Vec::new(),
    };
    assert!(lxd.join(&request).await.is_err(), "it half joins");
    let server = lxd.server().await.expect("it answers").value;
    assert!(server.environment.server_clustered);
    assert_eq!(server.environment.server_name, "");
}

#[tokio::test(start_paused = true)]
async fn a_half_joined_machine_is_mended_once_nothing_is_half_made() {
    let cloud = SimCloud::new(SimConfig::of(3));
    let controller = controller(&cloud, "micro01").await;
    controller
        .submit(&files(&[("all.yaml", usual(2))]))
        .await
        .expect("kept");
    settled(&controller).await;
    half_join(&cloud, "10.77.0.3", "micro03").await;
    controller
        .submit(&files(&[("all.yaml", usual(3))]))
        .await
        .expect("kept");
    tokio::time::sleep(Duration::from_secs(60)).await;
    let (ready, _, sentence) = shown(&controller, "Member/micro03");
    assert!(!ready);
    assert!(
        sentence.contains("Network/bad is only half made"),
        "{sentence}"
    );
    cloud
        .hand("micro01")
        .delete_network("default", "bad")
        .await
        .expect("it goes");
    settled(&controller).await;
    let portrait = portrait(&cloud).await;
    assert!(portrait.contains("member micro03 Online"), "{portrait}");
}

#[tokio::test(start_paused = true)]
async fn a_crash_around_any_write_of_forming_ends_in_the_same_cluster() {
    let reading = files(&[("all.yaml", usual(3))]);
    let undisturbed = {
        let cloud = SimCloud::new(SimConfig::of(3));
        let controller = controller(&cloud, "micro01").await;
        controller.submit(&reading).await.expect("kept");
        settled(&controller).await;
        portrait(&cloud).await
    };
    let mut crashes = 0;
    for kind in [CrashKind::BeforeWrite, CrashKind::AfterWrite] {
        for k in 1.. {
            let cloud = SimCloud::new(SimConfig::of(3));
            let process = cloud.process("micro01");
            let mut crash = process.crash_at(k, kind);
            println!("crash {kind:?} {k}");
            let first = mortal(&process, "micro01")
                .await
                .expect("there is no store to write yet");
            // The crash may come while the reading is taken in.
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
                break;
            }
            crashes += 1;
            let second = controller(&cloud, "micro01").await;
            second.submit(&reading).await.expect("kept");
            settled(&second).await;
            let after = portrait(&cloud).await;
            assert_eq!(after, undisturbed, "crash {kind:?} {k}\n{}", story(&second));
            for (object, entry) in second.memory().inventory {
                let made = matches!(
                    object.kind,
                    Kind::StoragePool | Kind::Network | Kind::Profile | Kind::Project
                );
                assert!(
                    !made || entry.ownership == Ownership::Created,
                    "{object} is {:?} after a crash {kind:?} {k}",
                    entry.ownership
                );
            }
        }
    }
    assert!(crashes > 20, "only {crashes} crashes were tried");
}

#[tokio::test(start_paused = true)]
async fn what_is_changed_by_hand_comes_back_and_strays_stay() {
    let cloud = SimCloud::new(SimConfig::of(3));
    let controller = controller(&cloud, "micro01").await;
    controller
        .submit(&files(&[("all.yaml", usual(3))]))
        .await
        .expect("kept");
    settled(&controller).await;
    let before = portrait(&cloud).await;
    let hand = cloud.hand("micro02");
    let profile = hand
        .profile("default", "web")
        .await
        .expect("it is there")
        .value;
    let put = ProfilePut {
        config: [
            ("limits.cpu".into(), "9".into()),
            ("user.stray".into(), "x".into()),
        ]
        .into(),
        devices: Default::default(),
        description: profile.description,
    };
    hand.put_profile("default", "web", &put, None)
        .await
        .expect("by hand");
    tokio::time::sleep(Duration::from_secs(5)).await;
    let mended = hand
        .profile("default", "web")
        .await
        .expect("it is there")
        .value;
    assert_eq!(mended.config["limits.cpu"], "2");
    assert_eq!(
        mended.config["user.stray"], "x",
        "a key that nobody manages is left alone"
    );
    assert_eq!(mended.devices.len(), 2);
    let told = story(&controller);
    assert!(told.contains("config.limits.cpu was 9, wanted 2"), "{told}");
    hand.delete_profile("default", "web")
        .await
        .expect("by hand");
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(portrait(&cloud).await, before);
    assert!(
        story(&controller).contains("it was deleted"),
        "{}",
        story(&controller)
    );
}

#[tokio::test(start_paused = true)]
async fn a_fight_over_a_field_is_slowed_down() {
    let cloud = SimCloud::new(SimConfig::of(1));
    let controller = controller(&cloud, "micro01").await;
    let text = usual(1);
    controller
        .submit(&files(&[("all.yaml", text)]))
        .await
        .expect("kept");
    settled(&controller).await;
    let hand = cloud.hand("micro01");
    let mut reverted = 0;
    for _ in 0..100 {
        let profile = hand
            .profile("default", "web")
            .await
            .expect("it is there")
            .value;
        if profile.config["limits.cpu"] == "2" {
            reverted += 1;
        }
        let mut config = profile.config.clone();
        config.insert("limits.cpu".into(), "9".into());
        let put = ProfilePut {
            config,
            devices: profile.devices,
            description: profile.description,
        };
        hand.put_profile("default", "web", &put, None)
            .await
            .expect("by hand");
        tokio::time::sleep(Duration::from_secs(3)).await;
    }
    assert!(
        (10..=20).contains(&reverted),
        "it was reverted {reverted} times in 5 minutes"
    );
    let (_, reason, message) = shown(&controller, "Profile/web");
    assert_eq!(reason, "FieldFlapping", "{message}");
}

#[tokio::test(start_paused = true)]
async fn pruning_follows_the_inventory_and_never_what_holds_data() {
    let cloud = SimCloud::new(SimConfig::of(2));
    let hand = cloud.hand("micro01");
    let controller = controller(&cloud, "micro01").await;
    let base = usual(2);
    let extra = doc("Profile", "gone", "{config: {limits.cpu: 1}}")
        + &doc("Profile", "kept", "{deletion: Retain}")
        + &doc("Profile", "default", "{config: {user.mine: 1}}");
    let reading = files(&[("all.yaml", base.clone()), ("extra.yaml", extra)]);
    controller.submit(&reading).await.expect("kept");
    settled(&controller).await;

    // One broken document: nothing of the source counts as absent.
    let broken = any_files(&[
        ("all.yaml", base.clone()),
        ("x.yaml", "kind: Profile\nspec: [".into()),
    ]);
    for _ in 0..5 {
        controller.submit(&broken).await.expect("kept");
        tokio::time::sleep(Duration::from_secs(11)).await;
    }
    assert!(
        hand.profile("default", "gone").await.is_ok(),
        "nothing is pruned while one is broken"
    );

    // An empty directory changes nothing.
    for _ in 0..3 {
        controller.submit(&any_files(&[])).await.expect("kept");
        tokio::time::sleep(Duration::from_secs(11)).await;
    }
    assert!(
        hand.profile("default", "gone").await.is_ok(),
        "nothing is pruned by emptiness"
    );

    let without = files(&[("all.yaml", base.clone())]);
    controller.submit(&without).await.expect("kept");
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(
        hand.profile("default", "gone").await.is_ok(),
        "one reading is not enough"
    );
    tokio::time::sleep(Duration::from_secs(6)).await;
    controller.submit(&without).await.expect("kept");
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(
        hand.profile("default", "gone").await.is_err(),
        "{}",
        story(&controller)
    );
    assert!(
        hand.profile("default", "kept").await.is_ok(),
        "deletion: Retain"
    );
    assert!(
        hand.profile("default", "default").await.is_ok(),
        "it was there before"
    );

    // The pool and a member go from the YAML: shown, and nothing else.
    let text = doc(
        "Cluster",
        "demo",
        "{initiator: micro01, config: {images.auto_update_interval: 12}}",
    ) + &doc(
        "Member",
        "micro01",
        "{address: 10.77.0.1, failureDomain: rack1}",
    );
    let poor = files(&[("all.yaml", text)]);
    for _ in 0..3 {
        controller.submit(&poor).await.expect("kept");
        tokio::time::sleep(Duration::from_secs(11)).await;
    }
    assert_eq!(shown(&controller, "StoragePool/local").1, "Orphaned");
    assert_eq!(shown(&controller, "Member/micro02").1, "Orphaned");
    assert_eq!(
        hand.pool("local", None).await.expect("pool").value.status,
        "Created"
    );
    assert_eq!(hand.members().await.expect("members").len(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_is_left_over_is_nothing_to_wait_for() {
    let cloud = SimCloud::new(SimConfig::of(2));
    let controller = controller(&cloud, "micro01").await;
    controller
        .submit(&files(&[("all.yaml", usual(2))]))
        .await
        .expect("kept");
    settled(&controller).await;
    // The same without micro02.
    let disk = "members: [micro01, micro02]";
    let poor = usual(2).replace(disk, "members: [micro01]");
    let begin = poor.find("apiVersion: microcloud.dev/v1\nkind: Member\nmetadata: {name: micro02}");
    let begin = begin.expect("it is there");
    let end = begin + poor[begin..].find("---\n").expect("its end") + 4;
    let poor = files(&[("all.yaml", format!("{}{}", &poor[..begin], &poor[end..]))]);
    for _ in 0..3 {
        controller.submit(&poor).await.expect("kept");
        tokio::time::sleep(Duration::from_secs(11)).await;
    }
    assert_eq!(shown(&controller, "Member/micro02").1, "Orphaned");
    assert!(controller.status().all_ready(), "{}", story(&controller));
}

#[tokio::test(start_paused = true)]
async fn what_both_sources_name_is_told() {
    let cloud = SimCloud::new(SimConfig::of(1));
    let controller = controller(&cloud, "micro01").await;
    controller
        .submit(&files(&[("all.yaml", usual(1))]))
        .await
        .expect("kept");
    settled(&controller).await;
    let web = |cpu| {
        doc(
            "Profile",
            "mine",
            &format!("{{config: {{limits.cpu: {cpu}}}}}"),
        )
    };
    let applied = Draft::of_files(SourceName::Applied, [("-", web(2).as_bytes())]);
    let applied = applied.check(&controller.resources()).resources;
    controller.apply(applied).await.expect("applied");
    settled(&controller).await;
    assert_eq!(controller.status().conflicts, []);
    controller
        .submit(&files(&[("all.yaml", usual(1)), ("mine.yaml", web(3))]))
        .await
        .expect("kept");
    settled(&controller).await;
    let conflicts = controller.status().conflicts;
    assert_eq!(conflicts.len(), 1, "{conflicts:?}");
    assert_eq!(
        conflicts[0].reference,
        ObjectRef::new(Kind::Profile, "mine")
    );
    assert_eq!(conflicts[0].in_force.file, "-", "who named it first has it");
    assert_eq!(conflicts[0].ignored.to_string(), "mine.yaml:1");
    let held = cloud.hand("micro01").profile("default", "mine").await;
    assert_eq!(held.expect("there").value.config["limits.cpu"], "2");
}

#[tokio::test(start_paused = true)]
async fn many_deletions_are_held_until_they_are_approved() {
    let cloud = SimCloud::new(SimConfig::of(1));
    let hand = cloud.hand("micro01");
    let controller = controller(&cloud, "micro01").await;
    let base = usual(1);
    let profiles: String = (0..5)
        .map(|n| doc("Profile", &format!("p{n}"), "{}"))
        .collect();
    controller
        .submit(&files(&[("all.yaml", base.clone()), ("p.yaml", profiles)]))
        .await
        .expect("kept");
    settled(&controller).await;
    let without = files(&[("all.yaml", base)]);
    for _ in 0..3 {
        controller.submit(&without).await.expect("kept");
        tokio::time::sleep(Duration::from_secs(11)).await;
    }
    let (_, reason, message) = shown(&controller, "Profile/p0");
    assert_eq!(reason, "DeletionLimit", "{message}");
    assert!(
        message.contains("microcloud approve Cluster/demo/delete@5"),
        "{message}"
    );
    assert_eq!(hand.profiles("default").await.expect("profiles").len(), 7);
    controller
        .approve("Cluster/demo/delete@5")
        .await
        .expect("it was asked for");
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(
        hand.profiles("default").await.expect("profiles").len(),
        2,
        "{}",
        story(&controller)
    );
    assert!(
        controller.approve("Cluster/demo/delete@9").await.is_err(),
        "nobody asks for that"
    );
}

#[tokio::test(start_paused = true)]
async fn an_unreachable_machine_and_leftovers_hold_nothing_else_up() {
    let cloud = SimCloud::new(SimConfig::of(4));
    cloud.kill_host("micro03");
    let hand = cloud.hand("micro04");
    let pool = microcloud::services::lxd::requests::PoolCreate {
        name: "old".into(),
        driver: "dir".into(),
        ..Default::default()
    };
    hand.create_pool(&pool, None).await.expect("a leftover");
    let controller = controller(&cloud, "micro01").await;
    controller
        .submit(&files(&[("all.yaml", usual(4))]))
        .await
        .expect("kept");
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(
        shown(&controller, "Member/micro02").0,
        "{}",
        story(&controller)
    );
    assert!(
        shown(&controller, "Profile/web").0,
        "{}",
        story(&controller)
    );
    let (ready, reason, message) = shown(&controller, "Member/micro03");
    assert!(
        !ready && reason == "Unreachable" && message.contains("micro03"),
        "{reason} {message}"
    );
    let (ready, reason, message) = shown(&controller, "Member/micro04");
    assert!(
        !ready && reason == "ApprovalNeeded" && message.contains("pools old"),
        "{reason} {message}"
    );
    assert!(hand.pool("old", None).await.is_ok(), "it was not touched");

    cloud.start_host("micro03");
    let at = message
        .find("microcloud approve ")
        .expect("it says what to type");
    let step = message[at..]
        .trim_start_matches("microcloud approve ")
        .to_owned();
    controller.approve(&step).await.expect("it was asked for");
    settled(&controller).await;
    assert_eq!(
        cloud
            .hand("micro01")
            .members()
            .await
            .expect("members")
            .len(),
        4
    );
}

#[tokio::test(start_paused = true)]
async fn a_reinstalled_initiator_forms_no_second_cluster() {
    let cloud = SimCloud::new(SimConfig::of(3));
    let reading = files(&[("all.yaml", usual(3))]);
    let first = controller(&cloud, "micro01").await;
    first.submit(&reading).await.expect("kept");
    settled(&first).await;
    first.stop().await;
    cloud.reinstall_lxd("micro01");
    tokio::time::sleep(Duration::from_secs(30)).await;
    let again = controller(&cloud, "micro01").await;
    again.submit(&reading).await.expect("kept");
    tokio::time::sleep(Duration::from_secs(120)).await;
    let server = cloud.hand("micro01").server().await.expect("it runs").value;
    assert!(!server.environment.server_clustered, "{}", story(&again));
    let (ready, _, message) = shown(&again, "Cluster/demo");
    assert!(!ready && !message.is_empty(), "{}", story(&again));
}

#[tokio::test(start_paused = true)]
async fn a_change_in_the_seconds_after_a_restart_is_repaired_all_the_same() {
    let cloud = SimCloud::new(SimConfig::of(3));
    let controller = controller(&cloud, "micro01").await;
    controller
        .submit(&files(&[("all.yaml", usual(3))]))
        .await
        .expect("kept");
    settled(&controller).await;
    cloud.restart_lxd("micro02");
    let hand = cloud.hand("micro02");
    // As soon as it answers again.
    let mut profile = None;
    for _ in 0..200 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        if let Ok(found) = hand.profile("default", "web").await {
            profile = Some(found.value);
            break;
        }
    }
    let mut profile = profile.expect("LXD came back");
    profile.config.insert("limits.cpu".into(), "9".into());
    let put = ProfilePut {
        config: profile.config,
        devices: profile.devices,
        description: profile.description,
    };
    hand.put_profile("default", "web", &put, None)
        .await
        .expect("by hand");
    tokio::time::sleep(Duration::from_secs(30)).await;
    let now = hand
        .profile("default", "web")
        .await
        .expect("it is there")
        .value;
    assert_eq!(now.config["limits.cpu"], "2", "{}", story(&controller));
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_is_plugged_in_is_noticed_within_seconds() {
    let mut config = SimConfig::of(1);
    config.machines[0].disks.retain(|d| d.root);
    let cloud = SimCloud::new(config);
    let controller = controller(&cloud, "micro01").await;
    controller
        .submit(&files(&[("all.yaml", usual(1))]))
        .await
        .expect("kept");
    tokio::time::sleep(Duration::from_secs(60)).await;
    let (ready, _, message) = shown(&controller, "Disk/local");
    assert!(!ready, "{message}");
    cloud.add_disk(
        "micro01",
        microcloud::simulate::blank_disk("late", 10 << 30),
    );
    let plugged = tokio::time::Instant::now();
    settled(&controller).await;
    let took = plugged.elapsed();
    assert!(took < Duration::from_secs(15), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn what_is_said_of_a_silent_machine_and_of_its_member_agree() {
    let cloud = SimCloud::new(SimConfig::of(3));
    let controller = controller(&cloud, "micro01").await;
    controller
        .submit(&files(&[("all.yaml", usual(3))]))
        .await
        .expect("kept");
    settled(&controller).await;
    let burden = controller.machines()["micro03"].burden.clone();
    assert!(
        burden.contains("it carries a part of LXD's database")
            && burden.contains("nothing more may be taken from LXD's database"),
        "{burden}"
    );
    cloud.kill_host("micro03");
    let (mut silent, mut lost) = (false, false);
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let machine = controller.machines()["micro03"].clone();
        silent |= machine.silent_since.is_some() && !machine.lost;
        lost |= machine.lost;
        // The plan follows within a moment.
        let (ready, _, message) = shown(&controller, "Member/micro03");
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(
            ready != machine.lost || shown(&controller, "Member/micro03").0 != machine.lost,
            "{message}"
        );
    }
    assert!(silent && lost, "silent {silent}, lost {lost}");
    let (_, _, message) = shown(&controller, "Member/micro03");
    assert!(message.contains(&burden), "{message}");
    let stamp = message.split(" since ").nth(1).expect("since when");
    let stamp = stamp.split(": ").next().expect("a time");
    assert!(!stamp.contains('.') && stamp.ends_with('Z'), "{stamp}");
}

#[tokio::test(start_paused = true)]
async fn what_a_person_suspends_is_no_warning_and_what_goes_says_when() {
    let cloud = SimCloud::new(SimConfig::of(1));
    let controller = controller(&cloud, "micro01").await;
    controller
        .submit(&files(&[("all.yaml", usual(1))]))
        .await
        .expect("kept");
    settled(&controller).await;
    let web: microcloud::resources::ObjectRef = "Profile/web".parse().expect("an object");
    controller
        .suspend(Some(web.clone()), Duration::from_secs(60), None)
        .await
        .expect("kept");
    tokio::time::sleep(Duration::from_secs(2)).await;
    let events = controller.events(0);
    let told = events.iter().find(|e| e.reason == "Suspended");
    assert_eq!(
        told.map(|e| e.severity),
        Some(microcloud::reconcile::history::Severity::Normal)
    );
    controller.resume(Some(web.clone())).await.expect("kept");
    settled(&controller).await;

    let text = usual(1);
    let without = text.split("---\n").filter(|d| !d.contains("kind: Profile"));
    let without = without.collect::<Vec<_>>().join("---\n");
    controller
        .submit(&files(&[("all.yaml", without)]))
        .await
        .expect("kept");
    let report = controller.status();
    let status = report.objects.iter().find(|o| o.object == web);
    let gone_at = status
        .and_then(|s| s.gone_at)
        .expect("it says when it goes");
    let left = gone_at.duration_since(report.at).as_secs();
    assert!((8..=10).contains(&left), "{left}");
}
