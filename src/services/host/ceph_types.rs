//! What is said of Ceph between the controller and the agent of a machine.

use super::types::WipeDisk;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::IpAddr;

/// Ceph on one machine.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CephReport {
    /// Programs of Ceph that are not installed.
    pub missing: Vec<String>,
    /// The `fsid` of `/etc/ceph/ceph.conf`; empty when there is none.
    pub fsid: String,
    /// The `mon_host` of it.
    pub mon_host: String,
    /// Whether the admin's key is there.
    pub admin: bool,
    /// The daemons that were set up here, but OSDs.
    pub daemons: Vec<CephDaemon>,
    /// OSDs whose disks are here.
    pub osds: Vec<CephOsd>,
}

impl CephReport {
    /// A daemon of this machine.
    pub fn daemon(&self, kind: CephDaemonKind) -> Option<&CephDaemon> {
        self.daemons.iter().find(|d| d.kind == kind)
    }
}

/// A kind of daemon of which a machine has one at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CephDaemonKind {
    /// A monitor.
    Mon,
    /// A manager.
    Mgr,
    /// A metadata server.
    Mds,
}

impl CephDaemonKind {
    /// The word of its unit and its directory.
    pub fn word(self) -> &'static str {
        match self {
            CephDaemonKind::Mon => "mon",
            CephDaemonKind::Mgr => "mgr",
            CephDaemonKind::Mds => "mds",
        }
    }
}

impl fmt::Display for CephDaemonKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            CephDaemonKind::Mon => "monitor",
            CephDaemonKind::Mgr => "manager",
            CephDaemonKind::Mds => "metadata server",
        })
    }
}

/// A daemon that was set up on a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CephDaemon {
    /// Its kind.
    pub kind: CephDaemonKind,
    /// Its name.
    pub name: String,
    /// The state of its unit: `active`, `inactive`, `failed`, `activating`…
    pub unit: String,
}

/// An OSD whose disk is on a machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CephOsd {
    /// Its number; `None` when its making was cut in two.
    pub id: Option<i64>,
    /// Its own id.
    pub uuid: String,
    /// The cluster it belongs to.
    pub fsid: String,
    /// The stable path of its disk.
    pub path: String,
    /// Whether its making came to its end.
    pub ready: bool,
    /// The state of its unit.
    pub unit: String,
}

/// What a machine is asked for.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum CephRequest {
    /// Form a cluster with this machine's monitor as its first. Done already is done.
    Form {
        /// The cluster's id.
        fsid: String,
        /// The name of the monitor: the machine's.
        name: String,
        /// Where the monitor listens.
        address: IpAddr,
        /// The subnet of clients and monitors.
        public_network: Option<IpNet>,
        /// The subnet of replication.
        cluster_network: Option<IpNet>,
    },
    /// Tell what another machine needs to reach the cluster; the answer is a secret.
    Access,
    /// Take what is needed to reach the cluster.
    Configure {
        /// What [`CephRequest::Access`] gave, with the monitors as they are now.
        access: CephAccess,
    },
    /// Add a daemon of this machine to the cluster. Done already is done.
    AddDaemon {
        /// Its kind.
        kind: CephDaemonKind,
        /// Its name: the machine's.
        name: String,
        /// Where it listens.
        address: IpAddr,
    },
    /// Take a daemon of this machine out of the cluster.
    RemoveDaemon {
        /// Its kind.
        kind: CephDaemonKind,
        /// Its name.
        name: String,
    },
    /// Start a daemon that does not run.
    StartDaemon {
        /// Its kind.
        kind: CephDaemonKind,
        /// Its name.
        name: String,
    },
    /// Make an OSD of a blank disk.
    CreateOsd {
        /// The cluster it must be for.
        fsid: String,
        /// The disk, as it must still be.
        disk: WipeDisk,
        /// Whether what it holds is encrypted.
        encrypt: bool,
        /// A device for the write-ahead log.
        wal: Option<String>,
        /// A device for the database.
        db: Option<String>,
    },
    /// Start an OSD that does not run.
    StartOsd {
        /// Its number.
        id: i64,
        /// Its own id.
        uuid: String,
    },
    /// Clear a disk whose OSD the cluster does not know any more.
    ZapOsd {
        /// The cluster it was of.
        fsid: String,
        /// Its own id.
        uuid: String,
        /// The disk, as it must still be.
        disk: WipeDisk,
    },
    /// Forget the cluster: this machine has no daemon of it any more. Its keys go.
    Forget {
        /// The cluster.
        fsid: String,
    },
    /// Stop an OSD.
    StopOsd {
        /// Its number.
        id: i64,
        /// Its own id.
        uuid: String,
    },
}

impl fmt::Debug for CephRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            CephRequest::Form { .. } => "Form",
            CephRequest::Access => "Access",
            CephRequest::Configure { .. } => "Configure",
            CephRequest::AddDaemon { .. } => "AddDaemon",
            CephRequest::RemoveDaemon { .. } => "RemoveDaemon",
            CephRequest::StartDaemon { .. } => "StartDaemon",
            CephRequest::CreateOsd { .. } => "CreateOsd",
            CephRequest::StartOsd { .. } => "StartOsd",
            CephRequest::StopOsd { .. } => "StopOsd",
            CephRequest::ZapOsd { .. } => "ZapOsd",
            CephRequest::Forget { .. } => "Forget",
        })
    }
}

/// What a machine needs to reach a cluster.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CephAccess {
    /// The cluster's id.
    pub fsid: String,
    /// Its monitors, as `ceph.conf` has them.
    pub mon_host: String,
    /// The subnet of clients and monitors.
    pub public_network: Option<IpNet>,
    /// The subnet of replication.
    pub cluster_network: Option<IpNet>,
    /// The admin's keyring, a secret; empty when the machine has it already.
    pub keyring: String,
}

impl fmt::Debug for CephAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CephAccess")
            .field("fsid", &self.fsid)
            .field("mon_host", &self.mon_host)
            .finish_non_exhaustive()
    }
}

/// What a machine answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", content = "value", rename_all = "camelCase")]
pub enum CephAnswer {
    /// It is done.
    Done,
    /// What another machine needs; a secret.
    Access(CephAccess),
}
