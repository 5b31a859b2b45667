//! `Disk`: one disk or a selection of disks, and what they are used for.

use crate::resources::value::{Deletion, Mode, Presence};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The `spec` of a `Disk`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DiskSpec {
    /// The member that has it; exactly one of `member` and `members`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member: Option<String>,
    /// The members that have such a disk; the path or the match is resolved on each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub members: Option<Vec<String>>,
    /// The device, best by `/dev/disk/by-id`; exactly one of `path` and `match`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// A filter over the machine's disks, such as `size >= 100GiB && type == nvme`: clauses
    /// `FIELD OP VALUE` with blanks between the words, joined by `&&` and `||`, which are read from
    /// left to right without precedence or brackets; `!` and a blank before a clause turn it round.
    /// OP is `==`, `!=`, `<`, `>`, `<=` or `>=`. Text fields are `id` (the kernel's name), `device_id`
    /// and `device_path` (the names in `/dev/disk/by-id` and `by-path`), `model`, `type` (`nvme`,
    /// `scsi`, `virtio`), `serial`, `wwn` and `pci_address`; they are compared by `==` and `!=` with a
    /// regular expression that covers the whole value unless it holds `^` or `$`, small and capital
    /// letters alike; one with blanks stands in quotes. `size` is compared with sizes such as `500GB`
    /// or `2TiB`, `block_size` (bytes) and `rpm` with numbers; `rotational`, `read_only`, `removable`
    /// and `mounted` with `true` or `false`. The root disk, disks that cannot be written and CD drives
    /// are never taken.
    #[serde(default, rename = "match", skip_serializing_if = "Option::is_none")]
    pub matching: Option<String>,
    /// How many matching disks are taken on each member (all unless given).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// What the disk is used for: `ceph`, or `pool: NAME`.
    #[serde(rename = "use")]
    pub usage: DiskUse,
    /// Whether what is on the disk may be destroyed; needs an approval as well.
    #[serde(default)]
    pub wipe: bool,
    /// Whether the disk is encrypted (Ceph only).
    #[serde(default)]
    pub encrypt: bool,
    /// A device for the write-ahead log (Ceph only).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wal: Option<String>,
    /// A device for the database (Ceph only).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub db: Option<String>,
    /// Whether it is to be in use.
    #[serde(default)]
    pub state: Presence,
    /// What happens to the real object when this resource goes away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion: Option<Deletion>,
    /// How far the controller goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// Field paths that are neither compared nor written.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ignore: Vec<String>,
}

/// What a disk is used for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DiskUse {
    /// An OSD of Ceph.
    Ceph,
    /// The source of this storage pool on its member.
    Pool(String),
}
