//! What a simulated cloud is made of.

use crate::services::host::{DiskReport, InterfaceReport};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

/// A simulated cloud to be made.
#[derive(Debug, Clone)]
pub struct SimConfig {
    /// The machines.
    pub machines: Vec<MachineConfig>,
    /// How long things take.
    pub timings: Timings,
    /// Where generated identities and addresses come from: the same seed gives the same ones.
    pub seed: u64,
    /// Whom agents let in.
    pub trust: TrustMode,
}

impl SimConfig {
    /// `count` machines `micro01`, `micro02`, … at 10.77.0.1, 10.77.0.2, …, each with a root disk
    /// and one blank disk of 10 GiB (serial `NAME-disk1`).
    pub fn of(count: usize) -> SimConfig {
        let width = count.to_string().len().max(2);
        let machines = (0..count)
            .map(|i| {
                let (high, low) = (i / 250, i % 250 + 1);
                let address = Ipv4Addr::new(
                    10,
                    77u8.saturating_add(u8::try_from(high / 256).unwrap_or(u8::MAX)),
                    u8::try_from(high % 256).unwrap_or(u8::MAX),
                    u8::try_from(low).unwrap_or(u8::MAX),
                );
                MachineConfig::new(format!("micro{:0width$}", i + 1), address.into())
            })
            .collect();
        SimConfig::with(machines)
    }

    /// These machines.
    pub fn with(machines: Vec<MachineConfig>) -> SimConfig {
        SimConfig {
            machines,
            timings: Timings::default(),
            seed: 1,
            trust: TrustMode::Open,
        }
    }
}

/// Whom the simulated agents let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TrustMode {
    /// Anybody, until an agent was given a trust store: then only its members. A target that pins
    /// a fingerprint must have it.
    #[default]
    Open,
    /// As real agents: the caller needs a pin of the target (its trust store or the target's own),
    /// and the target must know the caller (its trust store or [`MachineConfig::trusts`]).
    Strict,
}

/// One machine.
#[derive(Debug, Clone)]
pub struct MachineConfig {
    /// The host name.
    pub name: String,
    /// Where its agent and its LXD listen.
    pub address: IpAddr,
    /// Whole disks.
    pub disks: Vec<DiskReport>,
    /// Network interfaces.
    pub interfaces: Vec<InterfaceReport>,
    /// Directories that a `dir` pool can have as its source, besides those that LXD makes.
    pub directories: Vec<String>,
    /// Storage drivers that work on the machine.
    pub storage_drivers: Vec<String>,
    /// The version of its LXD.
    pub lxd_version: String,
    /// API extensions it has besides those of LXD 5.0: a joiner needs as many as the cluster.
    pub extra_extensions: Vec<String>,
    /// Whether LXD is installed.
    pub lxd_installed: bool,
    /// Whether Ceph is installed.
    pub ceph_installed: bool,
    /// The fingerprint of its agent's key, hex.
    pub fingerprint: String,
    /// Fingerprints of agents it lets in before it has a trust store ([`TrustMode::Strict`]).
    pub trusts: Vec<String>,
}

impl MachineConfig {
    /// A machine with a root disk, one blank disk of 10 GiB, and the interfaces `eth0` (with its
    /// address) and `up0` (without).
    pub fn new(name: impl Into<String>, address: IpAddr) -> MachineConfig {
        let name = name.into();
        let prefix = if address.is_ipv4() { 16 } else { 64 };
        let interface = |nic: &str, addresses: Vec<ipnet::IpNet>| InterfaceReport {
            name: nic.into(),
            kind: "physical".into(),
            up: true,
            mtu: 1500,
            mac: mac_of(&name, nic),
            addresses,
        };
        let own = ipnet::IpNet::new(address, prefix).ok();
        MachineConfig {
            disks: vec![
                root_disk(&name),
                blank_disk(&format!("{name}-disk1"), 10 << 30),
            ],
            interfaces: vec![
                interface("eth0", own.into_iter().collect()),
                interface("up0", Vec::new()),
            ],
            directories: ["/mnt", "/opt", "/srv", "/tmp", "/var/lib", "/var/tmp"]
                .map(String::from)
                .to_vec(),
            storage_drivers: ["btrfs", "ceph", "cephfs", "dir", "lvm", "zfs"]
                .map(String::from)
                .to_vec(),
            lxd_version: "5.0.2".into(),
            extra_extensions: Vec::new(),
            lxd_installed: true,
            ceph_installed: true,
            fingerprint: hex_digest(&format!("agent key of {name}")),
            trusts: Vec::new(),
            address,
            name,
        }
    }

    /// The same machine with these disks besides its root disk.
    pub fn disks(mut self, disks: Vec<DiskReport>) -> MachineConfig {
        self.disks.retain(|d| d.root);
        self.disks.extend(disks);
        self
    }
}

/// A blank disk of this serial and size in bytes, at `/dev/disk/by-id/virtio-SERIAL`.
pub fn blank_disk(serial: &str, size: u64) -> DiskReport {
    DiskReport {
        // The kernel's name is set when the machine is made: it depends on the other disks.
        name: String::new(),
        path: format!("/dev/disk/by-id/virtio-{serial}"),
        links: vec![format!("/dev/disk/by-path/pci-{serial}")],
        serial: serial.into(),
        model: "Simulated disk".into(),
        disk_type: "virtio".into(),
        size,
        ..DiskReport::default()
    }
}

/// A disk of 10 GiB that is not empty, such as `used_disk("s1", "ext4 filesystem")`.
pub fn used_disk(serial: &str, signature: &str) -> DiskReport {
    DiskReport {
        signatures: vec![signature.into()],
        ..blank_disk(serial, 10 << 30)
    }
}

/// The disk that a machine's root file system is on.
pub fn root_disk(machine: &str) -> DiskReport {
    DiskReport {
        root: true,
        signatures: vec!["partition table gpt".into(), "mounted at /".into()],
        ..blank_disk(&format!("{machine}-root"), 20 << 30)
    }
}

/// How long things take in a simulated cloud. Under paused time waiting costs nothing, so the
/// defaults are what was measured with the real services.
#[derive(Debug, Clone)]
pub struct Timings {
    /// Every request.
    pub latency: Duration,
    /// Making a standalone LXD the first member.
    pub bootstrap: Duration,
    /// Joining.
    pub join: Duration,
    /// Creating a pool.
    pub pool_create: Duration,
    /// Creating a network.
    pub network_create: Duration,
    /// Evacuating or restoring a member.
    pub evacuate: Duration,
    /// An event's way to a client.
    pub event_delay: Duration,
    /// From the end of LXD to its answering again, when it restarts.
    pub lxd_restart: Duration,
    /// From LXD's first answer to its saying that it is ready.
    pub lxd_ready: Duration,
    /// From power-on to agent and LXD answering.
    pub host_boot: Duration,
    /// How long after LXD started on a member other members' event streams miss what is done
    /// through it.
    pub event_gap: Duration,
    /// How long a finished operation is remembered.
    pub operation_kept: Duration,
    /// Making the first monitor of a Ceph cluster.
    pub ceph_form: Duration,
    /// Adding another daemon to it.
    pub ceph_daemon: Duration,
    /// Making an OSD of a disk.
    pub ceph_osd: Duration,
    /// How long placement groups need to agree after a change.
    pub ceph_peering: Duration,
    /// How long requests hang without quorum before they answer 503.
    pub no_quorum_hang: Duration,
}

impl Default for Timings {
    fn default() -> Timings {
        let ms = Duration::from_millis;
        Timings {
            latency: Duration::ZERO,
            bootstrap: ms(200),
            join: ms(500),
            pool_create: ms(100),
            network_create: ms(50),
            evacuate: ms(300),
            event_delay: ms(30),
            lxd_restart: ms(1500),
            lxd_ready: ms(1000),
            host_boot: ms(4000),
            event_gap: ms(5000),
            operation_kept: ms(5000),
            ceph_form: ms(2500),
            ceph_daemon: ms(700),
            ceph_osd: ms(3000),
            ceph_peering: ms(1500),
            no_quorum_hang: ms(10_000),
        }
    }
}

impl Timings {
    /// Everything that is work takes no time; what the service waits for by design (the event gap,
    /// keeping operations, hanging without quorum) stays.
    pub fn instant() -> Timings {
        Timings {
            bootstrap: Duration::ZERO,
            join: Duration::ZERO,
            pool_create: Duration::ZERO,
            network_create: Duration::ZERO,
            evacuate: Duration::ZERO,
            event_delay: Duration::ZERO,
            lxd_restart: Duration::ZERO,
            lxd_ready: Duration::ZERO,
            host_boot: Duration::ZERO,
            ceph_form: Duration::ZERO,
            ceph_daemon: Duration::ZERO,
            ceph_osd: Duration::ZERO,
            ceph_peering: Duration::ZERO,
            ..Timings::default()
        }
    }
}

/// SHA-256 of a text, hex.
pub(super) fn hex_digest(text: &str) -> String {
    use sha2::{Digest, Sha256};
    use std::fmt::Write;
    Sha256::digest(text.as_bytes())
        .iter()
        .fold(String::with_capacity(64), |mut out, byte| {
            // Writing to a String cannot fail.
            let _ = write!(out, "{byte:02x}");
            out
        })
}

/// A hardware address made from names.
pub(super) fn mac_of(machine: &str, nic: &str) -> String {
    let digest = hex_digest(&format!("mac {machine} {nic}"));
    format!(
        "00:16:3e:{}:{}:{}",
        &digest[0..2],
        &digest[2..4],
        &digest[4..6]
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_thousand_machines_have_distinct_names_and_addresses() {
        let config = SimConfig::of(1000);
        let names: BTreeSet<_> = config.machines.iter().map(|m| m.name.clone()).collect();
        let addresses: BTreeSet<_> = config.machines.iter().map(|m| m.address).collect();
        assert_eq!((names.len(), addresses.len()), (1000, 1000));
        assert_eq!(config.machines[0].name, "micro0001");
        assert_eq!(SimConfig::of(3).machines[2].name, "micro03");
    }

    #[test]
    fn the_root_disk_stays_when_disks_are_given() {
        let machine = SimConfig::of(1)
            .machines
            .remove(0)
            .disks(vec![used_disk("s", "ext4 filesystem")]);
        assert!(machine.disks[0].root);
        assert_eq!(machine.disks.len(), 2);
        assert_eq!(machine.disks[1].signatures, ["ext4 filesystem"]);
    }
}
