//! Members that are evacuated, restored, removed and lost, on the simulated cloud.

#[path = "common/sim.rs"]
mod sim;

use microcloud::reconcile::controller::Controller;
use microcloud::resources::Reading;
use microcloud::simulate::{CrashKind, Fault, FaultAction, SimCloud, SimConfig, SimInstance};
use sim::{controller, files, mortal, portrait, says, settled, shown, story, usual};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long it may take until something is said.
const LIMIT: Duration = Duration::from_secs(120);

/// The usual cluster of three with the third member in this state.
fn third(state: &str) -> Reading {
    let text = usual(3).replace(
        "failureDomain: rack3}",
        &format!("failureDomain: rack3, state: {state}}}"),
    );
    files(&[("all.yaml", text)])
}

async fn formed(cloud: &SimCloud) -> Controller {
    let controller = controller(cloud, "micro01").await;
    controller
        .submit(&files(&[("all.yaml", usual(3))]))
        .await
        .expect("kept");
    settled(&controller).await;
    controller
}

async fn status_of(cloud: &SimCloud, name: &str) -> String {
    let member = cloud.hand("micro01").member(name).await;
    member.map_or_else(|_| "none".to_owned(), |m| m.value.status)
}

/// Approves what a member's plan asks for.
async fn approved(controller: &Controller, action: &str) {
    says(controller, "Member/micro03", &format!("{action}@"), LIMIT).await;
    let step = format!("Member/micro03/{action}@micro03");
    controller.approve(&step).await.expect("it is asked for");
}

#[tokio::test(start_paused = true)]
async fn a_member_is_evacuated_and_restored_while_the_others_stay_ready() {
    let cloud = SimCloud::new(SimConfig::of(3));
    let controller = formed(&cloud).await;
    for (state, status) in [("Evacuated", "Evacuated"), ("Active", "Online")] {
        controller.submit(&third(state)).await.expect("kept");
        let deadline = Instant::now() + Duration::from_secs(300);
        while status_of(&cloud, "micro03").await != status || !controller.all_ready() {
            for object in controller.status().objects {
                let own = object.object.name == "micro03";
                assert!(own || object.ready(), "{}", story(&controller));
            }
            assert!(Instant::now() < deadline, "{}", story(&controller));
            sleep(Duration::from_millis(50)).await;
        }
    }
    // What a person does stays.
    let hand = cloud.hand("micro01");
    hand.evacuate("micro02").await.expect("by hand");
    sleep(Duration::from_secs(700)).await;
    assert_eq!(status_of(&cloud, "micro02").await, "Evacuated");
}

#[tokio::test(start_paused = true)]
async fn a_member_leaves_when_nothing_lies_on_it_and_its_key_is_shut_out() {
    let cloud = SimCloud::new(SimConfig::of(3));
    let controller = formed(&cloud).await;
    cloud.add_instance(
        "micro03",
        SimInstance {
            name: "web".into(),
            pool: Some("local".into()),
            ..SimInstance::default()
        },
    );
    cloud.add_volume("micro03", "team", "local", "data");
    controller.submit(&third("Absent")).await.expect("kept");
    sleep(Duration::from_secs(60)).await;
    assert_eq!(status_of(&cloud, "micro03").await, "Online", "unasked");
    approved(&controller, "remove").await;
    says(
        &controller,
        "Member/micro03",
        "instance web, volume data of pool local of project team",
        LIMIT,
    )
    .await;
    assert_eq!(status_of(&cloud, "micro03").await, "Evacuated");
    cloud.remove_instance("micro03", "", "web");
    cloud.remove_volume("micro03", "team", "local", "data");
    settled(&controller).await;
    let portrait = portrait(&cloud).await;
    assert!(!portrait.contains("micro03"), "{portrait}");
    let memory = controller.memory();
    assert!(!memory.trust.members.contains_key("micro03"));
    assert!(!format!("{:?}", memory.disks).contains("micro03"));
    sleep(Duration::from_secs(10)).await;
    for other in ["micro01", "micro02", "micro03"] {
        let trust = cloud.agent_trust(other);
        assert!(!trust.members.contains_key("micro03"), "{other} knows");
        assert_eq!(trust.members.len(), 2, "{other}");
    }
    // What was seen of it is gone with the next full look at the latest.
    sleep(Duration::from_secs(400)).await;
    let counts = cloud.counts().total().writes;
    sleep(Duration::from_secs(900)).await;
    let last = cloud.writes();
    let after = cloud.counts().total().writes;
    assert_eq!(after, counts, "it came to rest: {:?}", last.last());
    // It may come again, under its name, with what it is.
    controller.submit(&third("Active")).await.expect("kept");
    settled(&controller).await;
    assert_eq!(status_of(&cloud, "micro03").await, "Online");
    assert!(controller.memory().trust.members.contains_key("micro03"));
}

#[tokio::test(start_paused = true)]
async fn a_member_that_is_written_with_another_address_keeps_the_one_it_has() {
    let cloud = SimCloud::new(SimConfig::of(3));
    let controller = formed(&cloud).await;
    let before = portrait(&cloud).await;
    let writes = cloud.counts().total().writes;
    let written = usual(3);
    let moved = written.replace("10.77.0.3,", "10.77.0.33,");
    assert_ne!(moved, written);
    let reading = files(&[("all.yaml", moved)]);
    controller.submit(&reading).await.expect("kept");
    let words = "cannot change from 10.77.0.3 to 10.77.0.33";
    says(&controller, "Member/micro03", words, LIMIT).await;
    let (ready, _, message) = shown(&controller, "Member/micro03");
    assert!(
        !ready && message.contains("have it join again"),
        "{message}"
    );
    // It is reached as before, and nobody takes anything from it.
    sleep(Duration::from_secs(900)).await;
    let told = story(&controller);
    assert!(!told.contains("silent"), "{told}");
    assert_eq!(portrait(&cloud).await, before);
    let after = cloud.counts().total().writes;
    assert!(
        after - writes < 5,
        "only what is accepted was kept: {}",
        after - writes
    );
    let reading = files(&[("all.yaml", written)]);
    controller.submit(&reading).await.expect("kept");
    settled(&controller).await;
}

#[tokio::test(start_paused = true)]
async fn the_member_that_controls_leaves_when_another_one_has_taken_over() {
    let cloud = SimCloud::new(SimConfig::of(3));
    let first = formed(&cloud).await;
    let text = usual(3).replace(
        "failureDomain: rack1}",
        "failureDomain: rack1, state: Absent}",
    );
    let reading = files(&[("all.yaml", text)]);
    first.submit(&reading).await.expect("kept");
    says(&first, "Member/micro01", "remove@micro01", LIMIT).await;
    let step = "Member/micro01/remove@micro01";
    first.approve(step).await.expect("it is asked for");
    let ended = tokio::time::timeout(Duration::from_secs(60), first.ended()).await;
    assert_eq!(format!("{:?}", ended.expect("it hands over")), "HandedOver");
    first.stop().await;
    drop(first);
    let second = controller(&cloud, "micro02").await;
    settled(&second).await;
    let members = cloud.hand("micro02").members().await.expect("members");
    let names: Vec<&str> = members.iter().map(|m| m.server_name.as_str()).collect();
    assert_eq!(names, ["micro02", "micro03"]);
}

#[tokio::test(start_paused = true)]
async fn a_lost_member_is_given_up_only_on_a_word_of_its_own() {
    let cloud = SimCloud::new(SimConfig::of(3));
    let controller = formed(&cloud).await;
    cloud.add_volume("micro03", "team", "local", "data");
    cloud.kill_host("micro03");
    controller.submit(&third("Absent")).await.expect("kept");
    says(&controller, "Member/micro03", "remove-lost@micro03", LIMIT).await;
    says(
        &controller,
        "Member/micro03",
        "volume data of pool local",
        LIMIT,
    )
    .await;
    sleep(Duration::from_secs(120)).await;
    assert_eq!(status_of(&cloud, "micro03").await, "Offline", "unasked");
    approved(&controller, "remove-lost").await;
    settled(&controller).await;
    assert_eq!(status_of(&cloud, "micro03").await, "none");
    let story = story(&controller);
    assert!(story.contains("lost with it: volume data"), "{story}");
    assert!(!controller.memory().trust.members.contains_key("micro03"));
}

#[tokio::test(start_paused = true)]
async fn a_lost_member_that_comes_back_in_time_leaves_in_order() {
    let cloud = SimCloud::new(SimConfig::of(3));
    let controller = formed(&cloud).await;
    cloud.kill_host("micro03");
    controller.submit(&third("Absent")).await.expect("kept");
    says(&controller, "Member/micro03", "remove-lost@micro03", LIMIT).await;
    cloud.start_host("micro03");
    approved(&controller, "remove").await;
    settled(&controller).await;
    assert_eq!(status_of(&cloud, "micro03").await, "none");
}

/// Has the third member removed while the answer to one write gets lost.
async fn removed_without_an_answer(path: &str, n: u64) -> String {
    let cloud = SimCloud::new(SimConfig::of(3));
    let controller = formed(&cloud).await;
    let lost = Fault::new(FaultAction::LoseAnswer).writes().path(path);
    cloud.inject(lost.nth(n));
    while controller.submit(&third("Absent")).await.is_err() {
        sleep(Duration::from_secs(1)).await;
    }
    approve_again(&controller).await;
    settled(&controller).await;
    portrait(&cloud).await
}

/// Approves the removal unless it was, or is done.
async fn approve_again(controller: &Controller) {
    for _ in 0..300 {
        if controller
            .approve("Member/micro03/remove@micro03")
            .await
            .is_ok()
            || controller.all_ready()
        {
            return;
        }
        sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_crash_around_any_write_of_a_removal_ends_in_the_same_cluster() {
    let undisturbed = {
        let cloud = SimCloud::new(SimConfig::of(3));
        let controller = formed(&cloud).await;
        controller.submit(&third("Absent")).await.expect("kept");
        approved(&controller, "remove").await;
        settled(&controller).await;
        portrait(&cloud).await
    };
    let mut crashes = 0;
    for kind in [CrashKind::BeforeWrite, CrashKind::AfterWrite] {
        for k in 1.. {
            let cloud = SimCloud::new(SimConfig::of(3));
            let before = formed(&cloud).await;
            before.stop().await;
            drop(before);
            let process = cloud.process("micro01");
            let mut crash = process.crash_at(k, kind);
            let whole = tokio::select! {
                () = crash.died() => false,
                () = async {
                    let Some(first) = mortal(&process, "micro01").await else {
                        return std::future::pending::<()>().await;
                    };
                    if first.submit(&third("Absent")).await.is_err() {
                        std::future::pending::<()>().await;
                    }
                    approve_again(&first).await;
                    settled(&first).await;
                } => true,
            };
            if whole {
                break;
            }
            crashes += 1;
            let second = controller(&cloud, "micro01").await;
            second.submit(&third("Absent")).await.expect("kept");
            approve_again(&second).await;
            settled(&second).await;
            let after = portrait(&cloud).await;
            assert_eq!(after, undisturbed, "crash {kind:?} {k}\n{}", story(&second));
            assert!(!second.memory().trust.members.contains_key("micro03"));
        }
    }
    assert!(crashes > 6, "only {crashes} crashes were tried");
    for (path, writes) in [("/1.0/cluster", 3), ("/1.0/projects/microcloud", 5)] {
        for n in 1..=writes {
            let after = removed_without_an_answer(path, n).await;
            assert_eq!(
                after, undisturbed,
                "the answer to write {n} of {path} got lost"
            );
        }
    }
}
