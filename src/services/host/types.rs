//! What is said between the controller and the agent of a machine.

use super::ceph_types::CephReport;
use crate::services::lxd::types::MemberConfigKey;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

/// Which machine is meant.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct HostTarget {
    /// The member's name.
    pub name: String,
    /// Its address.
    pub address: IpAddr,
    /// The pin of its agent's key when `Member.spec.fingerprint` gives one and the cluster's trust
    /// store does not know the member yet.
    pub fingerprint: Option<String>,
}

/// Everything seen on one machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HostReport {
    /// The host name.
    pub name: String,
    /// The agent's version.
    pub agent_version: String,
    /// The fingerprint of the agent's key.
    pub fingerprint: String,
    /// `/etc/machine-id`.
    pub machine_id: String,
    /// Changes with every boot.
    pub boot_id: String,
    /// The instance service.
    pub lxd: LxdReport,
    /// OVN and Open vSwitch.
    #[serde(default)]
    pub ovn: super::OvnReport,
    /// Whole disks, in by-id order.
    pub disks: Vec<DiskReport>,
    /// Network interfaces, in name order.
    pub interfaces: Vec<InterfaceReport>,
    /// Ceph.
    #[serde(default)]
    pub ceph: CephReport,
}

/// The instance service of one machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "camelCase")]
#[expect(
    clippy::large_enum_variant,
    reason = "there is one per machine, and nearly all are running"
)]
pub enum LxdReport {
    /// No socket, no unit.
    NotInstalled,
    /// Installed, but does not answer.
    NotRunning {
        /// Why.
        reason: String,
    },
    /// A join was begun that does not end by itself: the service has the cluster's database and is
    /// no member. To undo it helps.
    JoinCut,
    /// It answers.
    Running(LxdState),
}

/// An instance service that answers.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LxdState {
    /// `lxd` or `incus`.
    pub server: String,
    /// The version.
    pub version: String,
    /// How many API extensions it has; a joiner must have as many as the cluster.
    pub api_extensions: usize,
    /// Whether it is in a cluster.
    pub clustered: bool,
    /// Its member name, when clustered.
    pub member_name: String,
    /// SHA-256 of the certificate it presents (the cluster's, when clustered), hex.
    pub certificate_fingerprint: String,
    /// Whether it is joining a cluster now: looking must not be mistaken for the outcome.
    pub joining: bool,
    /// `cluster.https_address`.
    pub cluster_address: String,
    /// `core.https_address`.
    pub https_address: String,
    /// Changes whenever the service starts.
    pub started: String,
    /// What a standalone service holds that joining would destroy.
    pub leftovers: Leftovers,
    /// Pools that have a directory on the machine, made or half made.
    pub pool_directories: Vec<String>,
}

/// What a standalone service holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Leftovers {
    /// Storage pools.
    pub pools: Vec<String>,
    /// Managed networks.
    pub networks: Vec<String>,
    /// Instances, as `PROJECT/NAME`.
    pub instances: Vec<String>,
    /// Custom volumes, as `POOL/NAME`.
    pub volumes: Vec<String>,
    /// Fingerprints of images.
    pub images: Vec<String>,
    /// Projects besides `default` and this program's own.
    pub projects: Vec<String>,
}

impl Leftovers {
    /// Whether joining destroys nothing.
    pub fn is_empty(&self) -> bool {
        *self == Leftovers::default()
    }
}

impl fmt::Display for Leftovers {
    /// `pools local; instances default/web`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<String> = [
            ("pools", &self.pools),
            ("networks", &self.networks),
            ("instances", &self.instances),
            ("volumes", &self.volumes),
            ("images", &self.images),
            ("projects", &self.projects),
        ]
        .into_iter()
        .filter(|(_, names)| !names.is_empty())
        .map(|(word, names)| format!("{word} {}", names.join(", ")))
        .collect();
        f.write_str(&parts.join("; "))
    }
}

/// What LXD leaves on a disk that became a pool of its own, as [`DiskReport::signatures`] has it.
pub const POOL_MARKS: [&str; 3] = ["btrfs filesystem", "zfs member", "lvm member"];

/// A whole disk of a machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DiskReport {
    /// The kernel's name now, such as `sdb`; may change with every boot.
    pub name: String,
    /// The stable path: `/dev/disk/by-id/…` where there is one, else by-path, else `/dev/NAME`.
    pub path: String,
    /// All other paths that lead to it.
    pub links: Vec<String>,
    /// The serial number or another id of the device itself.
    pub serial: String,
    /// The world-wide name; empty where it has none.
    pub wwn: String,
    /// The address of what it is plugged into, such as `0000:00:1f.2`; empty where that is no PCI
    /// device.
    pub pci_address: String,
    /// Bytes of a logical block; 0 when the kernel does not say.
    pub block_size: u64,
    /// Turns per minute; 0 when it does not spin or does not say.
    pub rpm: u64,
    /// The model.
    pub model: String,
    /// `nvme`, `scsi`, `virtio`, `loop`, `cdrom`…
    pub disk_type: String,
    /// Bytes.
    pub size: u64,
    /// Whether it spins.
    pub rotational: bool,
    /// Whether it cannot be written.
    pub read_only: bool,
    /// Whether it can be taken out.
    pub removable: bool,
    /// Whether the root file system is on it.
    pub root: bool,
    /// Why it is not empty: `partition table gpt`, `ext4 filesystem`, `mounted at /srv`,
    /// `lvm member`, `held by dm-0`, …; empty for a blank disk.
    pub signatures: Vec<String>,
}

/// A network interface of a machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct InterfaceReport {
    /// The name.
    pub name: String,
    /// `physical`, `bridge`, `bond`, `vlan`, `loopback`, `other`.
    pub kind: String,
    /// Whether it is up.
    pub up: bool,
    /// The MTU in bytes.
    pub mtu: u32,
    /// The hardware address.
    pub mac: String,
    /// Addresses with their prefix lengths.
    pub addresses: Vec<ipnet::IpNet>,
}

/// The cheap look at an agent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Beat {
    /// The member's name.
    pub name: String,
    /// The agent's version.
    pub version: String,
    /// The highest epoch it knows.
    pub epoch: u64,
    /// Who holds that epoch.
    pub holder: String,
    /// The version of the trust store it has.
    pub trust_version: u64,
    /// The newest version of the controller's memory it has seen, when it leads.
    pub memory_version: u64,
    /// Whether this agent is controlling now.
    pub leading: bool,
    /// Changes with what the controller shows, while this agent controls.
    pub shown: u64,
    /// Changes whenever the LXD beside it started or its connection to it broke.
    pub lxd_started: String,
    /// The boot.
    pub boot_id: String,
    /// Changes whenever something of OVN or Open vSwitch changed on the machine.
    pub ovn: u64,
    /// The units of Ceph's daemons that run, in order.
    pub ceph: Vec<String>,
    /// Changes when a disk comes or goes.
    pub disks: u64,
}

/// Makes a standalone LXD the first member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BootstrapLxd {
    /// The member's name.
    pub name: String,
    /// Its address.
    pub address: IpAddr,
}

/// Makes a standalone LXD join.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JoinLxd {
    /// The member's name.
    pub name: String,
    /// Its address.
    pub address: IpAddr,
    /// The join token, base64; a secret.
    pub token: String,
    /// The cluster's certificate, PEM.
    pub cluster_certificate: String,
    /// What the member gives to pools and networks.
    pub member_config: Vec<MemberConfigKey>,
    /// What the standalone service was seen to hold when this was decided; anything more stops
    /// the join.
    pub expected_leftovers: Leftovers,
}

/// Undo a join that was cut in two. Who asks has seen that the machine is no member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UndoJoin {
    /// The member's name.
    pub name: String,
}

impl fmt::Debug for JoinLxd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinLxd")
            .field("name", &self.name)
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

/// Clear away what is left on a machine that stopped while the service made something there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClearHalfMade {
    /// The member's name.
    pub name: String,
    /// What was not made to its end.
    pub what: HalfMade,
}

/// Something that the service began to make on a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub enum HalfMade {
    /// A storage pool: its directory and its file system.
    Pool {
        /// The pool.
        pool: String,
        /// Its driver: a disk with anything but its file system is left alone.
        driver: String,
        /// The disk that was blank when it was given to the pool.
        disk: Option<WipeDisk>,
    },
    /// A bridge.
    Bridge {
        /// The project of the network.
        project: String,
        /// The network, and the interface.
        network: String,
    },
}

/// Destroys the signatures on a disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WipeDisk {
    /// The stable path.
    pub path: String,
    /// The serial it must have.
    pub serial: String,
    /// The size it must have, bytes.
    pub size: u64,
}

/// Who belongs to the cluster: what agents cache and decide by.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TrustStore {
    /// Rises with every change.
    pub version: u64,
    /// By member name.
    pub members: BTreeMap<String, TrustedMember>,
}

/// A member as the trust store has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TrustedMember {
    /// SHA-256 of the agent's public key, hex.
    pub fingerprint: String,
    /// Where its agent listens.
    pub address: IpAddr,
}

/// Why a machine could not be looked at or changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(tag = "error", rename_all = "camelCase")]
pub enum HostError {
    /// No answer: nothing listens, the deadline passed, the connection broke.
    #[error("cannot reach {name} at {address}: {reason}")]
    Unreachable {
        /// The member.
        name: String,
        /// Where.
        address: String,
        /// Why.
        reason: String,
        /// Nothing came back at all: the machine may be off or cut off. When something did, as a
        /// refused connection, the machine runs and its agent does not.
        silent: bool,
    },
    /// The machine's key is not the pinned one, or it does not trust ours.
    #[error("{name} is not trusted: {reason}")]
    NotTrusted {
        /// The member.
        name: String,
        /// Why, and what to do.
        reason: String,
    },
    /// The agent follows a higher epoch: this controller is no longer the one.
    #[error("{name} follows epoch {known}, this controller has {ours}")]
    StaleEpoch {
        /// The member.
        name: String,
        /// The agent's epoch.
        known: u64,
        /// The caller's epoch.
        ours: u64,
    },
    /// What was expected does not hold any more; nothing was done.
    #[error("not done: {reason}")]
    GuardFailed {
        /// What changed.
        reason: String,
    },
    /// The machine is busy with another change that must end first; nothing was done.
    #[error("waits: {reason}")]
    Busy {
        /// With what.
        reason: String,
    },
    /// It was tried and failed.
    #[error("{reason}")]
    Failed {
        /// Why.
        reason: String,
    },
}

impl HostError {
    /// Whether nothing came back from the machine at all.
    pub fn is_silence(&self) -> bool {
        matches!(self, HostError::Unreachable { silent: true, .. })
    }
}
