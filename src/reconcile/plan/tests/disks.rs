//! Which disks are taken, and which never.

use super::*;
use crate::reconcile::memory::Approval;
use crate::reconcile::plan::step::Action;

const POOLED: &str = "{kind: StoragePool, metadata: {name: local}, spec: {driver: btrfs}}";

fn disk(spec: &str) -> String {
    format!(
        "{{kind: Disk, metadata: {{name: d}}, spec: {{member: micro01, use: {{pool: local}}, {spec}}}}}"
    )
}

/// What a plan chooses, and what it says when it does not.
fn outcome(plan: &Plan) -> (Vec<String>, String) {
    let chosen = plan.steps.iter().filter_map(|s| match &s.action {
        Action::ChooseDisk { choice, .. } => Some(choice.path.clone()),
        Action::WipeDisk { disk, .. } => Some(format!("wipe {}", disk.path)),
        _ => None,
    });
    let refused = plan.refused.iter().map(|r| r.message.as_str());
    let waits = plan.waiting_on.iter().map(|w| w.message.as_str());
    (chosen.collect(), refused.chain(waits).collect())
}

/// A disk of which nothing is known but what the kernel calls it now.
fn nameless(path: &str) -> DiskReport {
    DiskReport {
        name: "vdb".into(),
        path: path.into(),
        size: 10 << 30,
        ..DiskReport::default()
    }
}

#[test]
fn a_disk_that_could_be_another_one_after_a_boot_is_neither_taken_nor_wiped() {
    let wiped = disk("path: /dev/vdb, wipe: true");
    for spec in [disk("path: /dev/vdb"), disk("match: size >= 1GiB"), wiped] {
        let mut scene = Scene::formed(&["micro01"], &[POOLED, &spec]);
        let slot = nameless("/dev/disk/by-path/pci-0000:00:05.0");
        for mut report in [nameless("/dev/vdb"), slot] {
            for signatures in [vec![], vec!["ext4 filesystem".to_owned()]] {
                report.signatures = signatures;
                scene.report("micro01").disks = vec![report.clone()];
                let approval = Approval {
                    given: NOW,
                    expires: Timestamp::MAX,
                };
                let step = format!("Disk/d/wipe@micro01:{}", report.path);
                scene.memory.approvals.insert(step, approval);
                let (chosen, said) = outcome(&scene.plan("Disk/d"));
                assert!(chosen.is_empty(), "{chosen:?} of {report:?}");
                assert!(said.contains("neither a serial number nor"), "{said}");
            }
        }
        let named = DiskReport {
            serial: "s".into(),
            ..nameless("/dev/vdb")
        };
        let linked = DiskReport {
            links: vec!["/dev/vdb".into()],
            ..nameless("/dev/disk/by-id/virtio-s")
        };
        for report in [named, linked] {
            scene.report("micro01").disks = vec![report.clone()];
            let (chosen, said) = outcome(&scene.plan("Disk/d"));
            assert_eq!(chosen, [report.path], "{said}");
        }
    }
}

#[test]
fn what_is_given_for_a_log_or_a_database_is_no_disk_to_choose() {
    let ceph = "{kind: Cluster, metadata: {name: demo}, spec: {initiator: micro01, ceph: \
                {provider: packaged}}}";
    let osd = "{kind: Disk, metadata: {name: osd}, spec: {member: micro01, use: ceph, path: \
               /dev/disk/by-id/a, db: /dev/disk/by-id/b, wal: /dev/disk/by-id/c}}";
    let report = |name: &str| DiskReport {
        name: format!("sd{name}"),
        path: format!("/dev/disk/by-id/{name}"),
        links: vec![
            format!("/dev/disk/by-id/wwn-{name}"),
            format!("/dev/sd{name}"),
        ],
        serial: name.to_owned(),
        size: 10 << 30,
        ..DiskReport::default()
    };
    let disks: Vec<DiskReport> = ["b", "c", "d"].map(report).into();
    for (spec, expected) in [
        ("match: size >= 1GiB", Ok("/dev/disk/by-id/d")),
        ("path: /dev/disk/by-id/wwn-c", Err("given by Disk/osd")),
        ("path: /dev/disk/by-id/d", Ok("/dev/disk/by-id/d")),
    ] {
        let mut scene = Scene::formed(&["micro01"], &[ceph, POOLED, osd, &disk(spec)]);
        scene.report("micro01").disks = disks.clone();
        let (chosen, said) = outcome(&scene.plan("Disk/d"));
        match expected {
            Ok(path) => assert_eq!(chosen, [path], "{spec}: {said}"),
            Err(why) => assert!(chosen.is_empty() && said.contains(why), "{spec}: {said}"),
        }
    }
}
