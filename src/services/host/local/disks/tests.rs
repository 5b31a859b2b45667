use super::super::loop_fixture::{LoopDisk, root_or_skip, with_links};
use super::*;
use std::os::unix::fs::symlink;

/// A `/sys/block` of files.
struct Sys(tempfile::TempDir);

impl Sys {
    fn new() -> Sys {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("block")).unwrap();
        Sys(dir)
    }

    /// A device below `parent`, with files.
    fn device(&self, parent: &str, name: &str, number: &str, files: &[(&str, &str)]) {
        let dir = self.0.path().join("devices").join(parent).join(name);
        for (file, text) in [("dev", number), ("size", "2048")].iter().chain(files) {
            let path = dir.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        symlink(&dir, self.0.path().join("block").join(name)).unwrap();
    }

    fn scan(&self) -> Vec<DiskReport> {
        let roots = Roots {
            sys: self.0.path().to_owned(),
            udev: self.0.path().join("udev"),
            links: self.0.path().join("links"),
            ..Roots::default()
        };
        let mut found: Vec<DiskReport> = scan(&roots)
            .unwrap()
            .into_iter()
            .map(|f| f.report)
            .collect();
        found.sort_by(|a, b| a.name.cmp(&b.name));
        found
    }
}

#[test]
fn disks_are_known_by_their_hardware() {
    let sys = Sys::new();
    let device = ("device/uevent", "");
    sys.device(
        "pci0000:00/0000:00:1d.0/0000:02:00.0/nvme/nvme0",
        "nvme0n1",
        "259:0",
        &[
            ("device/serial", "S5GX  \n"),
            ("device/model", "Samsung SSD 980\n"),
            ("wwid", "eui.002538"),
            ("queue/logical_block_size", "4096\n"),
        ],
    );
    sys.device(
        "pci0/ata3/host2/target2",
        "sda",
        "8:0",
        &[
            ("device/vpd_pg80", "\0\x7f\0\x08  WD-123 "),
            ("device/model", "WDC WD40"),
            ("queue/rotational", "1\n"),
            ("size", "7814037168\n"),
        ],
    );
    sys.device(
        "pci0/usb2/2-1/host7",
        "sdb",
        "8:16",
        &[device, ("removable", "1\n"), ("ro", "1")],
    );
    sys.device(
        "pci0/virtio2",
        "vda",
        "254:0",
        &[device, ("serial", "root-disk")],
    );
    fs::create_dir_all(sys.0.path().join("udev")).unwrap();
    fs::write(
        sys.0.path().join("udev/b8:16"),
        "S:disk/by-id/x\nE:ID_SERIAL=Stick_99-0:0\nE:ID_SERIAL_SHORT=99\nE:ID_MODEL=Stick\nE:ID_BUS=usb\n",
    )
    .unwrap();
    let disks = sys.scan();
    let short: Vec<_> = disks
        .iter()
        .map(|d| {
            let kind = d.disk_type.as_str();
            (d.name.as_str(), kind, d.serial.as_str(), d.model.as_str())
        })
        .collect();
    assert_eq!(
        short,
        [
            ("nvme0n1", "nvme", "S5GX", "Samsung SSD 980"),
            ("sda", "sata", "WD-123", "WDC WD40"),
            ("sdb", "usb", "99", "Stick"),
            ("vda", "virtio", "root-disk", ""),
        ]
    );
    assert_eq!(disks[0].wwn, "eui.002538");
    assert_eq!(disks[0].pci_address, "0000:02:00.0");
    assert_eq!(disks[0].block_size, 4096);
    assert_eq!(disks[2].pci_address, "");
    assert!(disks[1].rotational && !disks[0].rotational);
    assert_eq!(disks[1].size, 7_814_037_168 * 512);
    assert!(disks[2].removable && disks[2].read_only);
    assert_eq!(disks[3].path, "/dev/vda", "no links: the node itself");
}

#[test]
fn what_is_no_disk_is_left_out() {
    let sys = Sys::new();
    let device = ("device/uevent", "");
    sys.device("virtual", "dm-0", "253:0", &[]);
    sys.device("virtual", "zram0", "252:0", &[]);
    sys.device("virtual", "md0", "9:0", &[]);
    sys.device("virtual", "loop0", "7:0", &[("loop/backing_file", "/x")]);
    sys.device("virtual", "nbd0", "43:0", &[device]);
    sys.device("rbd", "rbd0", "251:0", &[device]);
    sys.device("pci0", "fd0", "2:0", &[device]);
    sys.device("mmc", "mmcblk0boot0", "179:8", &[device]);
    sys.device(
        "pci0/nvme",
        "nvme0c0n1",
        "259:1",
        &[device, ("hidden", "1")],
    );
    sys.device("pci0", "sr0", "11:0", &[device, ("size", "0")]);
    sys.device("mmc", "mmcblk0", "179:0", &[device]);
    let names: Vec<_> = sys.scan().into_iter().map(|d| d.name).collect();
    assert_eq!(names, ["mmcblk0"]);
}

#[test]
fn the_best_link_is_the_path() {
    let dir = Path::new("/dev/disk");
    let node = PathBuf::from("/dev/sda");
    let device = DeviceNumber { major: 8, minor: 0 };
    let choose = |names: &[&str]| {
        let links = Links {
            by_device: [(device, names.iter().map(|n| dir.join(n)).collect())].into(),
            by_id: dir.join("by-id"),
            by_path: dir.join("by-path"),
        };
        let (path, others) = links.choose(device, &node);
        assert_eq!(others.len(), names.len());
        path.strip_prefix("/dev").unwrap().display().to_string()
    };
    assert_eq!(
        choose(&[
            "by-id/lvm-pv-uuid-x",
            "by-id/scsi-SATA_WD",
            "by-id/wwn-0x5",
            "by-path/pci-0",
            "by-uuid/1234"
        ]),
        "disk/by-id/scsi-SATA_WD"
    );
    assert_eq!(
        choose(&["by-id/wwn-0x5", "by-path/pci-0"]),
        "disk/by-id/wwn-0x5"
    );
    assert_eq!(
        choose(&["by-path/pci-0", "by-uuid/1"]),
        "disk/by-path/pci-0"
    );
    assert_eq!(choose(&["by-uuid/1", "by-id/lvm-pv-uuid-x"]), "sda");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loop_device_is_a_disk_only_by_its_link() {
    if !root_or_skip() {
        return;
    }
    let disk = LoopDisk::new(64);
    let (_dir, roots) = with_links(&[]);
    let probing = Arc::default();
    let seen = |reports: Vec<DiskReport>| {
        let name = disk
            .node()
            .file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned();
        reports.into_iter().find(|d| d.name == name)
    };
    assert_eq!(seen(report(&roots, &probing).await.unwrap()), None);
    let (dir, roots) = with_links(&[("sandbox-a-disk1", &disk)]);
    let found = seen(report(&roots, &probing).await.unwrap()).unwrap();
    assert_eq!(found.disk_type, "loop");
    assert_eq!(found.size, 64 << 20);
    let link = dir.path().join("by-id/sandbox-a-disk1");
    assert_eq!(Path::new(&found.path), link);
    assert_eq!(found.serial, "sandbox-a-disk1");
    assert_eq!(found.links, [disk.node().display().to_string()]);
    assert_eq!(found.signatures, Vec::<String>::new());
    assert!(!found.root);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_on_a_disk_is_told() {
    if !root_or_skip() {
        return;
    }
    let cases: [(&[&str], &str); 2] = [
        (&["mkfs.ext4", "-qF"], "ext4 filesystem"),
        (&["mkswap", "-q"], "swap space"),
    ];
    for (command, expected) in cases {
        let disk = LoopDisk::new(64);
        disk.run(command);
        let (_dir, roots) = with_links(&[("d", &disk)]);
        assert_eq!(disk.report(&roots).await.signatures, [expected]);
    }
    // A mark that only wipefs knows: minix.
    let disk = LoopDisk::new(64);
    disk.run(&["mkfs.minix"]);
    let (_dir, roots) = with_links(&[("d", &disk)]);
    assert_eq!(disk.report(&roots).await.signatures, ["minix filesystem"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mounted_disk_says_where() {
    if !root_or_skip() {
        return;
    }
    let disk = LoopDisk::new(64);
    disk.run(&["mkfs.ext4", "-qF"]);
    let (_dir, roots) = with_links(&[("d", &disk)]);
    let mounted = disk.mount();
    let signatures = disk.report(&roots).await.signatures;
    let expected = format!("mounted at {}", mounted.point().display());
    assert_eq!(signatures, [expected.as_str(), "ext4 filesystem"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_root_disk_of_this_machine_is_marked_if_it_is_seen() {
    let disks = report(&Roots::default(), &Arc::default()).await.unwrap();
    let mountinfo = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let root = mountinfo
        .lines()
        .find(|l| l.split(' ').nth(4) == Some("/"))
        .and_then(|l| DeviceNumber::parse(l.split(' ').nth(2)?))
        .filter(|n| n.major != 0);
    if let Some(root) = root {
        let dir = fs::canonicalize(format!("/sys/dev/block/{root}")).unwrap();
        let whole = if dir.join("partition").exists() {
            dir.parent().unwrap().to_owned()
        } else {
            dir
        };
        let name = whole.file_name().unwrap().to_string_lossy().into_owned();
        if let Some(disk) = disks.iter().find(|d| d.name == name) {
            assert!(disk.root, "{disk:?}");
            assert!(!disk.signatures.is_empty(), "a root disk is never blank");
        }
    }
}
