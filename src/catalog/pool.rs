//! Configuration of storage pools, by driver.

use super::row::{Row, bool, size, text};

/// The drivers of LXD and Incus.
pub const DRIVERS: &[&str] = &[
    "alletra",
    "btrfs",
    "ceph",
    "cephfs",
    "cephobject",
    "dir",
    "linstor",
    "lvm",
    "lvmcluster",
    "powerflex",
    "powerstore",
    "pure",
    "truenas",
    "zfs",
];

/// Keys of every driver, also of drivers that are not known. The services keep the first ones per
/// member whatever the driver.
pub const COMMON: &[Row] = &[
    text("source").member().computed().immutable(),
    bool("source.wipe").member().immutable(),
    bool("source.recover").member().immutable(),
    size("size").member().computed(),
    text("zfs.pool_name").member().computed().immutable(),
    text("lvm.vg_name").member().computed().immutable(),
    text("lvm.thinpool_name").member().computed().immutable(),
    text("volatile.initial_source").member().computed(),
    text("rsync.bwlimit").default("0"),
    bool("rsync.compression").default("true"),
    text("volume.*"),
    text("user.*"),
    text("volatile.*").computed(),
];

/// Keys of one driver, besides [`COMMON`].
pub fn keys(driver: &str) -> &'static [Row] {
    match driver {
        "btrfs" => BTRFS,
        "zfs" => ZFS,
        "lvm" | "lvmcluster" => LVM,
        "ceph" => CEPH,
        "cephfs" => CEPHFS,
        "cephobject" => CEPHOBJECT,
        "linstor" => LINSTOR,
        "truenas" => TRUENAS,
        "powerflex" | "pure" | "alletra" | "powerstore" => APPLIANCE,
        _ => &[],
    }
}

const BTRFS: &[Row] = &[text("btrfs.mount_options")];

const ZFS: &[Row] = &[bool("zfs.clone_copy"), bool("zfs.export").default("true")];

const LVM: &[Row] = &[
    size("lvm.metadata_size").immutable(),
    size("lvm.thinpool_metadata_size").immutable(),
    bool("lvm.use_thinpool").default("true").immutable(),
    bool("lvm.vg.force_reuse").default("false"),
];

const CEPH: &[Row] = &[
    text("ceph.cluster_name").default("ceph").immutable(),
    text("ceph.osd.data_pool_name").immutable(),
    bool("ceph.osd.force_reuse"),
    text("ceph.osd.pg_num").computed().immutable(),
    text("ceph.osd.pool_name").computed().immutable(),
    text("ceph.osd.pool_size").computed(),
    bool("ceph.rbd.clone_copy").default("true"),
    bool("ceph.rbd.du").default("true"),
    text("ceph.rbd.features").computed(),
    text("ceph.user.name").default("admin"),
];

const CEPHFS: &[Row] = &[
    text("cephfs.cluster_name").default("ceph").immutable(),
    bool("cephfs.create_missing").default("false").immutable(),
    text("cephfs.data_pool").immutable(),
    bool("cephfs.fscache").default("false"),
    text("cephfs.meta_pool").immutable(),
    text("cephfs.osd_pg_num").immutable(),
    text("cephfs.osd_pool_size").computed(),
    text("cephfs.path").computed().immutable(),
    text("cephfs.user.name").default("admin"),
];

const CEPHOBJECT: &[Row] = &[
    text("cephobject.bucket.name_prefix"),
    text("cephobject.cluster_name").default("ceph").immutable(),
    text("cephobject.radosgw.endpoint"),
    text("cephobject.radosgw.endpoint_cert_file"),
    text("cephobject.user.name").default("admin"),
];

const LINSTOR: &[Row] = &[
    bool("drbd.auto_add_quorum_tiebreaker").default("true"),
    text("drbd.auto_diskful"),
    text("drbd.on_no_quorum"),
    bool("linstor.remove_snapshots"),
    text("linstor.raw.*"),
    text("linstor.resource_group.name").computed(),
    text("linstor.resource_group.place_count").default("2"),
    text("linstor.resource_group.storage_pool"),
    text("linstor.volume.prefix").immutable(),
];

const TRUENAS: &[Row] = &[
    text("truenas.api_key").secret(),
    bool("truenas.allow_insecure").default("false"),
    bool("truenas.clone_copy").default("true"),
    text("truenas.config"),
    text("truenas.dataset").immutable(),
    bool("truenas.force_reuse").default("false"),
    text("truenas.host"),
    text("truenas.initiator"),
    text("truenas.portal"),
];

/// Storage appliances: only what must not be seen is known.
const APPLIANCE: &[Row] = &[
    text("alletra.user.password").secret(),
    text("powerflex.user.password").secret(),
    text("powerstore.user.password").secret(),
    text("pure.api.token").secret(),
    text("alletra.*"),
    text("powerflex.*"),
    text("powerstore.*"),
    text("pure.*"),
];
