//! Export, import and adoption on the simulated cloud: what is exported changes nothing where it
//! comes from, forms an equal cluster elsewhere, and takes over what nobody managed without a write.

#[path = "common/sim.rs"]
mod sim;

use microcloud::convert::export::{Exported, export};
use microcloud::convert::import::{Options, import};
use microcloud::convert::written;
use microcloud::reconcile::clock::Clock;
use microcloud::reconcile::controller::Controller;
use microcloud::reconcile::observe::{Everything, Observer};
use microcloud::resources::Resource;
use microcloud::resources::draft::Draft;
use microcloud::resources::value::Mode;
use microcloud::resources::{Reading, SourceName};
use microcloud::services::lxd::requests::ProfilePut;
use microcloud::services::lxd::types::Profile;
use microcloud::simulate::{SimCloud, SimConfig};
use proptest::prelude::*;
use sim::{controller, files, portrait, settled, shown, story, usual};
use std::time::Duration;

/// The text of an export, which must be valid.
fn text(exported: &Exported) -> String {
    let text = written::text(&exported.documents).expect("YAML");
    let reading = reading(&text);
    assert_eq!(reading.broken, [], "{text}");
    text
}

fn reading(text: &str) -> Reading {
    Draft::of_files(SourceName::Applied, [("export", text.as_bytes())]).check(&[])
}

fn resources(text: &str) -> Vec<Resource> {
    let reading = reading(text);
    assert_eq!(reading.broken, [], "{text}");
    reading.resources
}

/// Writes to LXD outside the controller's own project, and calls that change a machine. That agents
/// are told whom they trust is this program's own.
fn writes_outside(cloud: &SimCloud) -> Vec<String> {
    let own = |what: &str| {
        what.contains("/1.0/projects/microcloud")
            || what == "POST /1.0/projects"
            || what == "agent trust"
    };
    let all = cloud.writes().into_iter().map(|write| write.what);
    all.filter(|what| !own(what)).collect()
}

/// A cluster that is formed and that nobody remembers to have formed.
async fn by_hand(members: usize) -> SimCloud {
    let cloud = SimCloud::new(SimConfig::of(members));
    {
        let controller = controller(&cloud, "micro01").await;
        controller
            .submit(&files(&[("all.yaml", usual(members))]))
            .await
            .expect("kept");
        settled(&controller).await;
    }
    let hand = cloud.hand("micro01");
    hand.delete_project("microcloud").await.expect("forgotten");
    let profile = Profile {
        name: "byhand".to_owned(),
        description: "Made by hand".to_owned(),
        config: [
            ("limits.memory".to_owned(), "1GiB".to_owned()),
            ("user.note".to_owned(), "mine".to_owned()),
        ]
        .into(),
        ..Profile::default()
    };
    hand.create_profile("default", &profile)
        .await
        .expect("by hand");
    cloud
}

/// Everything about the cluster but the controller's own project.
async fn looks(cloud: &SimCloud) -> String {
    let all = portrait(cloud).await;
    let own = |line: &&str| !line.starts_with("project microcloud ");
    all.lines().filter(own).collect::<Vec<_>>().join("\n")
}

/// What an agent exports that has no resources and that nobody controls.
async fn export_unmanaged(cloud: &SimCloud) -> Exported {
    let found = Everything {
        lxd: Observer::new(cloud.hand("micro01"), Clock::system())
            .all()
            .await,
        hosts: [("micro01".to_owned(), cloud.report("micro01"))].into(),
        ..Everything::default()
    };
    export(&found, Some(Mode::Report)).expect("all of it can be read")
}

async fn export_of(controller: &Controller) -> Exported {
    export(&controller.everything().await, None).expect("all of it can be read")
}

/// Waits until nothing is written any more.
async fn quiet(controller: &Controller) {
    for _ in 0..60 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let doing = controller.status().objects.iter().any(|o| {
            let reason = o.conditions.first().map(|c| c.reason.clone());
            reason.as_deref() == Some("Progressing")
        });
        if !doing {
            break;
        }
    }
    tokio::time::sleep(Duration::from_secs(30)).await;
}

async fn change_profile(cloud: &SimCloud, name: &str, key: &str, value: &str) {
    let hand = cloud.hand("micro01");
    let seen = hand.profile("default", name).await.expect("there").value;
    let mut config = seen.config;
    config.insert(key.to_owned(), value.to_owned());
    let put = ProfilePut {
        config,
        devices: seen.devices,
        description: seen.description,
    };
    hand.put_profile("default", name, &put, None)
        .await
        .expect("by hand");
}

async fn profile_key(cloud: &SimCloud, name: &str, key: &str) -> Option<String> {
    let hand = cloud.hand("micro01");
    let seen = hand.profile("default", name).await.expect("there").value;
    seen.config.get(key).cloned()
}

#[tokio::test(start_paused = true)]
async fn a_cluster_nobody_manages_is_taken_over_without_a_write_and_then_held() {
    let cloud = by_hand(3).await;
    let before = looks(&cloud).await;
    let report = text(&export_unmanaged(&cloud).await);
    assert!(report.contains("mode: Report"), "{report}");
    assert!(report.contains("name: byhand"), "{report}");
    assert!(!report.contains("volatile."), "{report}");
    cloud.reset_counts();
    let controller = controller(&cloud, "micro01").await;
    controller.apply(resources(&report)).await.expect("kept");
    settled(&controller).await;
    assert_eq!(writes_outside(&cloud), Vec::<String>::new());
    assert_eq!(looks(&cloud).await, before);

    // Drift is shown and left, and what no resource names any more is not deleted.
    change_profile(&cloud, "byhand", "limits.memory", "2GiB").await;
    cloud.reset_counts();
    quiet(&controller).await;
    assert_eq!(writes_outside(&cloud), Vec::<String>::new());
    let (ready, reason, message) = shown(&controller, "Profile/byhand");
    assert_eq!(
        (ready, reason.as_str()),
        (false, "DiffersReportOnly"),
        "{message}"
    );
    let memory = profile_key(&cloud, "byhand", "limits.memory").await;
    assert_eq!(memory.as_deref(), Some("2GiB"));

    let enforce = report.replace("  mode: Report\n", "");
    controller.apply(resources(&enforce)).await.expect("kept");
    settled(&controller).await;
    let memory = profile_key(&cloud, "byhand", "limits.memory").await;
    assert_eq!(memory.as_deref(), Some("1GiB"), "{}", story(&controller));
    change_profile(&cloud, "web", "limits.cpu", "9").await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    settled(&controller).await;
    let cpu = profile_key(&cloud, "web", "limits.cpu").await;
    assert_eq!(cpu.as_deref(), Some("2"), "{}", story(&controller));
    assert_eq!(looks(&cloud).await, before);
}

#[tokio::test(start_paused = true)]
async fn what_is_applied_while_everything_is_looked_at_is_known_in_full() {
    for delay in [0, 1, 2, 3, 5, 8, 13, 21, 34, 55] {
        let cloud = by_hand(2).await;
        let report = text(&export_unmanaged(&cloud).await);
        let controller = controller(&cloud, "micro01").await;
        tokio::time::sleep(Duration::from_millis(delay)).await;
        controller.apply(resources(&report)).await.expect("kept");
        settled(&controller).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_left_out_of_a_report_is_never_deleted() {
    let cloud = SimCloud::new(SimConfig::of(2));
    let controller = controller(&cloud, "micro01").await;
    let all = usual(2);
    controller.apply(resources(&all)).await.expect("kept");
    settled(&controller).await;
    let report = all.replace("{initiator: micro01,", "{initiator: micro01, mode: Report,");
    controller.apply(resources(&report)).await.expect("kept");
    settled(&controller).await;
    cloud.reset_counts();
    let gone = ["Profile/web", "Project/team"].map(|o| o.parse().expect("a reference"));
    controller.delete(&gone).await.expect("kept");
    quiet(&controller).await;
    assert_eq!(writes_outside(&cloud), Vec::<String>::new());
    assert!(portrait(&cloud).await.contains("profile default/web"));
}

#[tokio::test(start_paused = true)]
async fn what_a_managed_cluster_exports_changes_nothing_there_and_forms_an_equal_one() {
    fixed_point(&usual(3), 3).await;
}

/// Applies resources, exports, applies the export where it comes from (nothing is written) and on
/// empty machines (an equal cluster), whose export is the same.
async fn fixed_point(first: &str, members: usize) {
    let cloud = SimCloud::new(SimConfig::of(members));
    let here = controller(&cloud, "micro01").await;
    here.apply(resources(first)).await.expect("kept");
    settled(&here).await;
    let there = export_of(&here).await;
    let exported = text(&there);
    cloud.reset_counts();
    here.apply(resources(&exported)).await.expect("kept");
    settled(&here).await;
    assert_eq!(writes_outside(&cloud), Vec::<String>::new(), "{exported}");
    let again = text(&export_of(&here).await);
    assert_eq!(again, exported, "an export that was applied");

    let empty = SimCloud::new(SimConfig::of(members));
    let other = controller(&empty, "micro01").await;
    other.apply(resources(&exported)).await.expect("kept");
    settled(&other).await;
    assert_eq!(portrait(&empty).await, portrait(&cloud).await, "{exported}");
    let other = text(&export_of(&other).await);
    assert_eq!(other, exported, "the export of a cluster formed from one");
}

/// A preseed of LXD for the first of `members`, with some of everything.
fn preseed() -> impl Strategy<Value = String> {
    let key = prop_oneof![
        Just(("images.auto_update_interval", "12")),
        Just(("cluster.offline_threshold", "20")),
        Just(("user.note", "x")),
    ];
    let pool = prop_oneof![
        Just("dir".to_owned()),
        Just("btrfs".to_owned()),
        Just("btrfs\n  config: {size: 5GiB, btrfs.mount_options: noatime}".to_owned()),
    ];
    let network = prop_oneof![
        Just("{ipv4.address: 10.9.0.1/24, ipv6.address: none}"),
        Just("{ipv4.address: auto, ipv4.nat: 'true', ipv6.address: none, dns.mode: managed}"),
        Just("{ipv4.address: none, ipv6.address: none, ipv4.dhcp: 'true'}"),
    ];
    let limit = prop_oneof![Just("1GiB"), Just("1024MiB")];
    let parts = (
        proptest::sample::subsequence(vec![0, 1, 2], 0..=3),
        proptest::collection::vec(key, 0..3),
        pool,
        network,
        limit,
        any::<bool>(),
    );
    parts.prop_map(|(sections, keys, pool, network, limit, features)| {
        let mut text = "config:\n  core.https_address: 10.77.0.1:8443\n".to_owned();
        let mut seen = Vec::new();
        for (key, value) in keys {
            if !seen.contains(&key) {
                seen.push(key);
                text += &format!("  {key}: {value}\n");
            }
        }
        text += "cluster: {server_name: micro01, enabled: true}\n";
        text += &format!("storage_pools:\n- name: data\n  driver: {pool}\n");
        if sections.contains(&0) {
            text += &format!("networks:\n- name: lan\n  config: {network}\n");
        }
        if sections.contains(&1) {
            text +=
                &format!("projects:\n- name: team\n  config: {{features.images: {features}}}\n");
        }
        if sections.contains(&2) {
            text += &format!(
                "profiles:\n- name: small\n  description: Little\n  config: {{limits.memory: \
                 {limit}}}\n  devices: {{root: {{type: disk, path: /, pool: data}}}}\n"
            );
        }
        text
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn import_apply_export_is_a_fixed_point(preseed in preseed()) {
        let options = Options { mode: Some(Mode::Enforce), ..Options::default() };
        let imported = import(&[("preseed.yaml", preseed.as_bytes())], &options)
            .unwrap_or_else(|wrong| panic!("{wrong:?}\n{preseed}"));
        let first = written::text(&imported.documents).expect("YAML");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .expect("a runtime");
        runtime.block_on(fixed_point(&first, 1));
    }
}
