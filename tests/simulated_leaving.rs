//! Members and disks that leave a cloud with OVN and Ceph, on the simulated cloud.

#[path = "common/sim.rs"]
mod sim;

use microcloud::reconcile::controller::Controller;
use microcloud::resources::Reading;
use microcloud::services::ceph::{CephCluster, Look};
use microcloud::simulate::{CrashKind, SimCloud};
use sim::{controller, files, machines, mortal, says, settled, shown, story, upstream};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::sleep;

/// How long it may take until something is said.
const LIMIT: Duration = Duration::from_secs(300);

/// The upstream default of so many members, of which some are to leave.
fn cloud_of(members: usize, replicas: Option<u32>, absent: &[usize]) -> Reading {
    let ceph = match replicas {
        Some(replicas) => format!("{{provider: packaged, replicas: {replicas}}}"),
        None => "{provider: packaged}".to_owned(),
    };
    let mut text = upstream(members, &ceph);
    for n in absent {
        let before = format!("{{address: 10.77.0.{n}}}");
        let after = format!("{{address: 10.77.0.{n}, state: Absent}}");
        assert!(text.contains(&before));
        text = text.replace(&before, &after);
    }
    files(&[("all.yaml", text)])
}

async fn formed(members: usize, replicas: Option<u32>) -> (SimCloud, Controller) {
    let cloud = SimCloud::new(machines(members));
    let controller = controller(&cloud, "micro01").await;
    submit(&controller, cloud_of(members, replicas, &[])).await;
    settled(&controller).await;
    (cloud, controller)
}

async fn submit(controller: &Controller, reading: Reading) {
    controller.submit(&reading).await.expect("kept");
}

async fn approve(controller: &Controller, object: &str, step: &str) {
    says(controller, object, step, LIMIT).await;
    controller.approve(step).await.expect("it is asked for");
}

async fn look(cloud: &SimCloud, member: &str) -> CephCluster {
    let seen = Look::default().look(&cloud.ceph(member)).await;
    seen.expect("Ceph answers")
}

/// Who holds what, when a cloud is at rest.
async fn holders(cloud: &SimCloud, by: &str) -> String {
    let ceph = look(cloud, by).await;
    let members = cloud.hand(by).members().await.expect("members");
    let members: Vec<String> = members.into_iter().map(|m| m.server_name).collect();
    let osds: BTreeSet<&str> = ceph.osds.values().map(|o| o.host.as_str()).collect();
    let monitors: Vec<&String> = ceph.monitors.keys().collect();
    let hosts: Vec<&String> = ceph.hosts.keys().collect();
    let mut centrals = cloud.ovn_centrals();
    centrals.sort();
    let rows = cloud.report(by).ovn.central.chassis;
    let chassis: Vec<&str> = rows.iter().map(|row| row.name.as_str()).collect();
    let sizes: BTreeSet<u32> = ceph.pools.values().map(|p| p.size).collect();
    assert!(ceph.unclean.is_empty(), "{ceph:?}");
    format!(
        "members {members:?} osds {osds:?} hosts {hosts:?} monitors {monitors:?} centrals \
         {centrals:?} chassis {chassis:?} copies {sizes:?}"
    )
}

/// The first, third and fourth member hold everything.
async fn without_the_second(cloud: &SimCloud, controller: &Controller) {
    let left = "[\"micro01\", \"micro03\", \"micro04\"]";
    let set = "{\"micro01\", \"micro03\", \"micro04\"}";
    assert_eq!(
        holders(cloud, "micro01").await,
        format!(
            "members {left} osds {set} hosts {left} monitors {left} centrals {left} chassis {left} \
             copies {{3}}"
        ),
        "{}",
        story(controller)
    );
}

#[tokio::test(start_paused = true)]
async fn a_monitor_and_the_databases_move_to_the_fourth_member() {
    let (cloud, controller) = formed(4, None).await;
    submit(&controller, cloud_of(4, None, &[2])).await;
    approve(
        &controller,
        "Member/micro02",
        "Member/micro02/remove@micro02",
    )
    .await;
    settled(&controller).await;
    without_the_second(&cloud, &controller).await;
    // Nothing of the cluster is on the machine, and its disks are blank.
    let gone = cloud.report("micro02");
    assert!(
        !gone.ceph.admin && gone.ceph.osds.is_empty(),
        "{:?}",
        gone.ceph
    );
    assert!(gone.ceph.daemons.is_empty() && gone.ovn.authority.is_none());
    let ceph_disk = gone
        .disks
        .iter()
        .find(|d| d.size > 20 << 30)
        .expect("it has one");
    assert!(ceph_disk.signatures.is_empty(), "{ceph_disk:?}");
    sleep(Duration::from_secs(400)).await;
    let writes = cloud.counts().total().writes;
    sleep(Duration::from_secs(900)).await;
    assert_eq!(
        cloud.counts().total().writes,
        writes,
        "{:?}",
        cloud.writes().last()
    );
}

#[tokio::test(start_paused = true)]
async fn three_become_two_and_one_and_three_again() {
    let (cloud, controller) = formed(3, None).await;
    submit(&controller, cloud_of(3, None, &[3])).await;
    says(&controller, "Member/micro03", "write replicas: 2", LIMIT).await;
    let (_, _, why) = shown(&controller, "Member/micro03");
    assert!(why.contains("keep 3 copies"), "{why}");
    assert!(
        why.contains("2 hosts with OSDs are left (on micro01, micro02)"),
        "{why}"
    );
    submit(&controller, cloud_of(3, Some(2), &[3])).await;
    approve(
        &controller,
        "Member/micro03",
        "Member/micro03/remove@micro03",
    )
    .await;
    settled(&controller).await;
    let two = "members [\"micro01\", \"micro02\"] osds {\"micro01\", \"micro02\"} hosts \
               [\"micro01\", \"micro02\"] monitors [\"micro01\"] centrals [\"micro01\"] chassis \
               [\"micro01\", \"micro02\"] copies {2}";
    assert_eq!(
        holders(&cloud, "micro01").await,
        two,
        "{}",
        story(&controller)
    );
    submit(&controller, cloud_of(3, Some(1), &[2, 3])).await;
    approve(
        &controller,
        "Member/micro02",
        "Member/micro02/remove@micro02",
    )
    .await;
    settled(&controller).await;
    let one = "members [\"micro01\"] osds {\"micro01\"} hosts [\"micro01\"] monitors \
               [\"micro01\"] centrals [\"micro01\"] chassis [\"micro01\"] copies {1}";
    assert_eq!(
        holders(&cloud, "micro01").await,
        one,
        "{}",
        story(&controller)
    );
    submit(&controller, cloud_of(3, Some(3), &[])).await;
    settled(&controller).await;
    let all = "[\"micro01\", \"micro02\", \"micro03\"]";
    let set = "{\"micro01\", \"micro02\", \"micro03\"}";
    assert_eq!(
        holders(&cloud, "micro01").await,
        format!(
            "members {all} osds {set} hosts {all} monitors {all} centrals {all} chassis {all} \
             copies {{3}}"
        ),
        "{}",
        story(&controller)
    );
}

#[tokio::test(start_paused = true)]
async fn a_lost_member_is_struck_from_everything() {
    let (cloud, controller) = formed(4, None).await;
    cloud.kill_host("micro02");
    submit(&controller, cloud_of(4, None, &[2])).await;
    approve(
        &controller,
        "Member/micro02",
        "Member/micro02/remove-lost@micro02",
    )
    .await;
    settled(&controller).await;
    without_the_second(&cloud, &controller).await;
}

#[tokio::test(start_paused = true)]
async fn a_crash_before_any_write_of_leaving_ends_the_same() {
    crashed(CrashKind::BeforeWrite).await;
}

#[tokio::test(start_paused = true)]
async fn a_crash_after_any_write_of_leaving_ends_the_same() {
    crashed(CrashKind::AfterWrite).await;
}

/// Has the controller crash at each write in turn while a member leaves.
async fn crashed(kind: CrashKind) {
    let reading = || cloud_of(4, None, &[2]);
    let step = "Member/micro02/remove@micro02";
    let undisturbed = {
        let (cloud, controller) = formed(4, None).await;
        submit(&controller, reading()).await;
        approve(&controller, "Member/micro02", step).await;
        settled(&controller).await;
        holders(&cloud, "micro01").await
    };
    let go_on = async |controller: &Controller| {
        for _ in 0..600 {
            if controller.approve(step).await.is_ok() || controller.all_ready() {
                break;
            }
            sleep(Duration::from_millis(100)).await;
        }
        settled(controller).await;
    };
    let mut crashes = 0;
    for k in 1.. {
        let (cloud, before) = formed(4, None).await;
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
                if first.submit(&reading()).await.is_err() {
                    std::future::pending::<()>().await;
                }
                go_on(&first).await;
            } => true,
        };
        if whole {
            break;
        }
        crashes += 1;
        let second = controller(&cloud, "micro01").await;
        submit(&second, reading()).await;
        go_on(&second).await;
        let after = holders(&cloud, "micro01").await;
        assert_eq!(after, undisturbed, "crash {kind:?} {k}\n{}", story(&second));
    }
    assert!(crashes > 15, "only {crashes} crashes were tried");
}
