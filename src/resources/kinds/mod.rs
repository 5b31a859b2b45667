//! The kinds: one file each with its `spec`.

mod cluster;
mod disk;
mod member;
mod network;
mod profile;
mod project;
mod storage_pool;
mod uplink;

pub use cluster::{
    CephProvider, CephSpec, ClusterSpec, InstanceService, OvnProvider, OvnSpec, OvnTransport,
};
pub use disk::{DiskSpec, DiskUse};
pub use member::{MemberSpec, MemberState};
pub use network::{NetworkSpec, NetworkType};
pub use profile::ProfileSpec;
pub use project::ProjectSpec;
pub use storage_pool::{PoolMember, ServerVolume, StoragePoolSpec};
pub use uplink::{UplinkFamily, UplinkSpec};
