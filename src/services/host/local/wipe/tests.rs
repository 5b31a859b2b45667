use super::super::loop_fixture::{LoopDisk, root_or_skip, with_links};
use super::*;
use crate::services::host::types::DiskReport;

fn request(report: &DiskReport) -> WipeDisk {
    WipeDisk {
        path: report.path.clone(),
        serial: report.serial.clone(),
        size: report.size,
    }
}

#[track_caller]
fn assert_guarded(result: Result<(), HostError>, expected: &str) {
    match result {
        Err(HostError::GuardFailed { reason }) => assert!(reason.contains(expected), "{reason}"),
        other => panic!("not guarded: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wiped_disk_is_blank() {
    if !root_or_skip() {
        return;
    }
    for command in [
        &["mkfs.ext4", "-qF"][..],
        &["mkswap", "-q"][..],
        &["mkfs.minix"][..],
    ] {
        let disk = LoopDisk::new(64);
        disk.run(command);
        let (_dir, roots) = with_links(&[("d", &disk)]);
        let before = disk.report(&roots).await;
        assert!(!before.signatures.is_empty(), "{command:?}");
        wipe(&roots, request(&before)).await.unwrap();
        assert_eq!(disk.report(&roots).await.signatures, Vec::<String>::new());
        wipe(&roots, request(&before)).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_of_marks_far_from_the_edges_go_too() {
    if !root_or_skip() {
        return;
    }
    let disk = LoopDisk::new(200);
    // The second superblock of btrfs, and GPT's backup header.
    disk.file()
        .write_all_at(b"_BHRfS_M", (64 << 20) + 0x40)
        .unwrap();
    disk.file()
        .write_all_at(b"EFI PART", (200 << 20) - 512)
        .unwrap();
    disk.run(&["blockdev", "--flushbufs"]);
    let (_dir, roots) = with_links(&[("d", &disk)]);
    let before = disk.report(&roots).await;
    assert_eq!(
        before.signatures,
        ["btrfs filesystem", "partition table gpt"]
    );
    wipe(&roots, request(&before)).await.unwrap();
    assert_eq!(disk.report(&roots).await.signatures, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_in_use_is_left_alone() {
    if !root_or_skip() {
        return;
    }
    let disk = LoopDisk::new(64);
    disk.run(&["mkfs.ext4", "-qF"]);
    let (_dir, roots) = with_links(&[("d", &disk)]);
    let report = disk.report(&roots).await;
    let mounted = disk.mount();
    assert_guarded(wipe(&roots, request(&report)).await, "is in use");
    drop(mounted);
    let held = File::from(
        rustix::fs::open(disk.node(), OFlags::RDONLY | OFlags::EXCL, Mode::empty()).unwrap(),
    );
    assert_guarded(wipe(&roots, request(&report)).await, "is in use");
    drop(held);
    assert_eq!(disk.report(&roots).await.signatures, ["ext4 filesystem"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_disk_than_was_meant_is_left_alone() {
    if !root_or_skip() {
        return;
    }
    let disk = LoopDisk::new(64);
    disk.run(&["mkfs.ext4", "-qF"]);
    let (dir, roots) = with_links(&[("d", &disk)]);
    let report = disk.report(&roots).await;
    let good = request(&report);

    let mut wrong = good.clone();
    wrong.serial = "other".to_owned();
    assert_guarded(wipe(&roots, wrong).await, "serial number `d`, not `other`");
    let mut wrong = good.clone();
    wrong.size -= 512;
    assert_guarded(wipe(&roots, wrong).await, "bytes, not");
    let mut wrong = good.clone();
    wrong.path = dir.path().join("by-id/none").display().to_string();
    assert_guarded(wipe(&roots, wrong).await, "is not there");
    let file = dir.path().join("by-id/file");
    std::fs::write(&file, "precious").unwrap();
    let mut wrong = good.clone();
    wrong.path = file.display().to_string();
    assert_guarded(wipe(&roots, wrong).await, "not a whole disk");
    assert_eq!(std::fs::read(&file).unwrap(), b"precious");

    // The link leads to another disk by now.
    let other = LoopDisk::new(64);
    other.run(&["mkswap", "-q"]);
    let link = dir.path().join("by-id/d");
    std::fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink(other.node(), &link).unwrap();
    let second = dir.path().join("by-id/e");
    std::os::unix::fs::symlink(disk.node(), &second).unwrap();
    let mut moved = good.clone();
    moved.serial = "e".to_owned();
    assert_guarded(wipe(&roots, moved).await, "serial number `d`, not `e`");
    assert_eq!(other.report(&roots).await.signatures, ["swap space"]);
    assert_eq!(disk.report(&roots).await.signatures, ["ext4 filesystem"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_cannot_be_written_is_left_alone() {
    if !root_or_skip() {
        return;
    }
    let disk = LoopDisk::new(64);
    disk.run(&["mkfs.ext4", "-qF"]);
    let disk = disk.read_only_copy();
    let (_dir, roots) = with_links(&[("d", &disk)]);
    let report = disk.report(&roots).await;
    assert!(report.read_only);
    let result = wipe(&roots, request(&report)).await;
    assert!(result.is_err(), "{result:?}");
    assert_eq!(disk.report(&roots).await.signatures, ["ext4 filesystem"]);
}
