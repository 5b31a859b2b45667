//! What LXD gave itself: keys and values that are not carried over, because LXD makes them anew.

use crate::catalog::{self, Owner};

/// Whether a key is the service's own memory.
pub fn is_memory(key: &str) -> bool {
    key.starts_with("volatile.")
}

/// Whether a member's value of a pool's key is what LXD chooses itself: the file or folder it made
/// below its own directory, or a name that follows from the pool's.
pub fn chosen_by_lxd(driver: &str, pool: &str, key: &str, value: &str) -> bool {
    if is_memory(key) || value.is_empty() {
        return true;
    }
    match key {
        "source" if matches!(driver, "ceph" | "cephfs" | "cephobject") => true,
        "source" => {
            let own_file = value.ends_with(&format!("/disks/{pool}.img"));
            let own_folder = value.ends_with(&format!("/storage-pools/{pool}"));
            own_file || own_folder || value == pool
        }
        "zfs.pool_name" | "lvm.vg_name" => value == pool,
        "lvm.thinpool_name" => value == "LXDThinPool" || value == "IncusThinPool",
        _ => false,
    }
}

/// Whether a value of a key is what the key has when it is left out.
pub fn is_default(owner: Owner<'_>, key: &str, value: &str) -> bool {
    catalog::facts(owner, key)
        .default
        .is_some_and(|default| catalog::equal(owner, key, default, Some(value)))
}
