//! One machine: its disks and interfaces, and what can only be done on it. One trait, for this
//! machine or, through a peer's agent, for another one.

mod ceph_types;
pub mod local;
mod ovn_types;
mod paths;
mod types;

pub use ceph_types::*;
pub use ovn_types::*;
pub use paths::*;
pub use types::*;

use crate::services::ceph::Ceph;
use async_trait::async_trait;
use std::fmt;
use std::sync::Arc;

/// What can only be seen or done on one machine.
///
/// Every call has a deadline; a call to another machine carries the caller's epoch and is refused
/// by an agent that knows a higher one.
#[async_trait]
pub trait Host: Send + Sync + fmt::Debug {
    /// Looks at the machine.
    async fn report(&self) -> Result<HostReport, HostError>;

    /// The cheap look: is the agent there, has its LXD restarted, whom does it follow.
    async fn beat(&self) -> Result<Beat, HostError>;

    /// Makes the standalone LXD of this machine the first member of a cluster.
    async fn bootstrap_lxd(&self, request: BootstrapLxd) -> Result<(), HostError>;

    /// Makes the standalone LXD of this machine join a cluster. The operation outlives a caller
    /// that stops waiting: look before doing it again.
    async fn join_lxd(&self, request: JoinLxd) -> Result<(), HostError>;

    /// Undoes a join that was cut in two, if that is what the LXD of this machine is in: it starts
    /// anew, in no cluster.
    async fn undo_join(&self, request: UndoJoin) -> Result<(), HostError>;

    /// Clears away what is left of something that the LXD of this machine began to make and did
    /// not.
    async fn clear_half_made(&self, request: ClearHalfMade) -> Result<(), HostError>;

    /// Destroys the signatures on a disk, after checking that it still is the one that was meant.
    async fn wipe_disk(&self, request: WipeDisk) -> Result<(), HostError>;

    /// Looks after Ceph on this machine.
    async fn ceph(&self, request: CephRequest) -> Result<CephAnswer, HostError>;

    /// Looks after OVN on the machine: its certificates, its databases, its part in carrying
    /// traffic.
    async fn ovn(&self, request: OvnRequest) -> Result<OvnAnswer, HostError>;

    /// Tries which packets get from the machine to others.
    async fn paths(&self, request: PathsRequest) -> Result<PathsReport, HostError>;

    /// Gives the agent the trust store of the cluster.
    async fn set_trust(&self, trust: TrustStore) -> Result<(), HostError>;
}

/// Finds the machine of a member.
pub trait Hosts: Send + Sync + fmt::Debug {
    /// The machine `target` names; whether it can be reached shows when it is asked.
    fn host(&self, target: &HostTarget) -> Arc<dyn Host>;

    /// The Ceph cluster as it is reached from this machine; nowhere unless said otherwise.
    fn ceph(&self) -> Ceph {
        Ceph::nowhere()
    }
}
