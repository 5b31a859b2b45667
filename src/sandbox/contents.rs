//! What a base holds: packages, how they are settled, files of our own. Every change here makes
//! another base.

use super::Error;
use super::files::write_below;
use super::layout::hex;
use sha2::{Digest, Sha256};
use std::path::Path;

/// The Debian release of the hosts.
pub(super) const SUITE: &str = "trixie";

/// What the hosts have installed.
pub(super) const PACKAGES: &str = "systemd systemd-sysv dbus udev iproute2 iputils-ping procps \
    openvswitch-switch ovn-central ovn-host lxd lxd-client incus ceph-mon ceph-mgr ceph-osd ceph-mds \
    ceph-common ceph-volume btrfs-progs dnsmasq-base nftables lvm2 thin-provisioning-tools \
    busybox-static ca-certificates jq curl socat";

/// Run in the new root by mmdebstrap; `$1` is the root. The packages enable services that would
/// start databases of their own, and the rest costs time at every boot or reaches out of the host.
pub(super) const SETTLE: &str = r#"chroot "$1" sh -ec '
systemctl mask nvmf-autoconnect.service ceph-mon.service ceph-crash.service \
  systemd-networkd-wait-online.service rbdmap.service e2scrub_reap.service \
  dev-hugepages.mount sys-kernel-debug.mount sys-kernel-tracing.mount sys-kernel-config.mount \
  modprobe@.service systemd-pstore.service lvm2-monitor.service blk-availability.service \
  console-getty.service getty@tty1.service systemd-logind.service apt-daily.timer \
  apt-daily-upgrade.timer fstrim.timer e2scrub_all.timer dpkg-db-backup.timer
systemctl disable ovn-central ovn-ovsdb-server-nb ovn-ovsdb-server-sb ovn-northd ovn-host \
  lxd.socket lxd.service lxd-containers.service incus.socket incus.service incus-startup.service \
  incus-user.socket
systemctl enable systemd-networkd.service
groupadd --system microcloud
rm -f /etc/machine-id /var/lib/dbus/machine-id /etc/hostname /etc/resolv.conf
mkdir -p /etc/microcloud/resources /var/log/journal
'"#;

/// Files written into the new root: path, mode, content.
const FILES: [(&str, u32, &str); 7] = [
    ("etc/sysctl.d/sandbox.conf", 0o644, ARP),
    ("etc/ceph/ceph.conf", 0o644, CEPH),
    ("etc/lvm/lvmlocal.conf", 0o644, LVM),
    (
        "etc/systemd/journald.conf.d/sandbox.conf",
        0o644,
        "[Journal]\nSystemMaxUse=48M\nSyncIntervalSec=1s\n",
    ),
    (
        "etc/systemd/system/sandbox-disk@.path",
        0o644,
        "[Unit]\nDescription=Writes to /dev/%i\n\n[Path]\nPathChanged=/dev/%i\n\n\
         [Install]\nWantedBy=multi-user.target\n",
    ),
    (
        "etc/systemd/system/sandbox-disk@.service",
        0o644,
        "[Unit]\nDescription=Links by UUID to /dev/%i, as udev makes them\nStartLimitIntervalSec=0\n\n\
         [Service]\nType=oneshot\nExecStart=/usr/lib/sandbox/disk-links %i\n",
    ),
    ("usr/lib/sandbox/disk-links", 0o755, DISK_LINKS),
];

/// LVM opens every block device it finds. The kernel makes a loop device when its node is opened,
/// so that would make hundreds on this machine, and show this host the disks of the others.
const LVM: &str = "devices {\n\tscan = [ \"/dev/disk/by-id\", \"/dev/mapper\" ]\n}\n";

/// An interface whose address moved to the bridge it is a port of would go on answering for it, and
/// tunnels of the userspace datapath would go to the wrong hardware address.
const ARP: &str = "net.ipv4.conf.all.arp_ignore = 1\n";

/// Monitors warn of, and stop over, a file system that is nearly full. That of a host is this
/// machine's, whose fullness says nothing about the cluster.
const CEPH: &str = "[mon]\nmon_data_avail_warn = 0\nmon_data_avail_crit = 0\n";

/// What udev does on a real machine when a file system appears: LXD waits for these links.
const DISK_LINKS: &str = r#"#!/bin/sh
# Usage: disk-links loopN
uuid=$(blkid -p -s UUID -o value "/dev/$1")
mkdir -p /dev/disk/by-uuid
for link in /dev/disk/by-uuid/*; do
    if [ "$(readlink "$link")" = "../../$1" ] && [ "${link##*/}" != "$uuid" ]; then
        rm -f "$link"
    fi
done
if [ -n "$uuid" ]; then
    ln -sfn "../../$1" "/dev/disk/by-uuid/$uuid"
fi
"#;

/// How many loop device nodes a host has from its first moment.
const LOOP_NODES: u32 = 256;

/// The name of the base this program wants: it changes with everything that goes into a base.
pub(super) fn id() -> String {
    let mut digest = Sha256::new();
    digest.update(SUITE);
    for package in PACKAGES.split(' ') {
        digest.update(package);
        digest.update([0]);
    }
    digest.update(SETTLE);
    for (path, mode, content) in FILES {
        digest.update(path);
        digest.update(mode.to_le_bytes());
        digest.update(content);
    }
    digest.update(LOOP_NODES.to_le_bytes());
    hex(&digest.finalize()[..6])
}

/// What is written into a new root beside the packages.
pub(super) fn finish(root: &Path) -> Result<(), Error> {
    for (path, mode, content) in FILES {
        write_below(root, path, content.as_bytes(), mode)?;
    }
    let nodes: String = (0..LOOP_NODES)
        .map(|n| format!("b /dev/loop{n} 0660 root disk - 7:{n}\n"))
        .collect();
    write_below(
        root,
        "etc/tmpfiles.d/sandbox-loops.conf",
        nodes.as_bytes(),
        0o644,
    )?;
    // Tells systemd that caches are newer than /usr, so that no boot makes them again.
    for path in ["etc/.updated", "var/.updated"] {
        write_below(root, path, b"", 0o644)?;
    }
    Ok(())
}
