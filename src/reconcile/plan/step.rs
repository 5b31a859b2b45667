//! Steps: what can be done now, with what each touches and what must still hold.

use crate::reconcile::memory::DiskChoice;
use crate::resources::ObjectRef;
use crate::resources::value::ConfigValue;
use crate::services::host::{
    CephRequest, ClearHalfMade, HostTarget, Leftovers, OvnRequest, TrustStore, WipeDisk,
};
use crate::services::lxd::types::{Member, MemberConfigKey, Network, Pool, Profile, Project};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Configuration whose secrets are still references: `apply` reads them.
pub type Values = BTreeMap<String, ConfigValue>;

/// One thing to do.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// What it is done for.
    pub object: ObjectRef,
    /// What is done.
    pub action: Action,
    /// What it touches.
    pub claims: Vec<Claim>,
    /// What is checked again just before.
    pub guards: Vec<Guard>,
    /// The approval it uses up.
    pub approval: Option<String>,
    /// What the inventory is to say of the object before this is done.
    pub remembers: Option<String>,
    /// Whether it may run beside the steps before it, where no claims stand against it.
    pub beside: bool,
    /// What is done, in words, such as `join micro02`.
    pub sentence: String,
}

impl Step {
    /// A step without guards.
    pub fn new(
        object: &ObjectRef,
        action: Action,
        claims: Vec<Claim>,
        sentence: impl Into<String>,
    ) -> Step {
        Step {
            object: object.clone(),
            action,
            claims,
            guards: Vec::new(),
            approval: None,
            remembers: None,
            beside: false,
            sentence: sentence.into(),
        }
    }

    /// Adds what must still hold just before.
    pub fn guarded(mut self, guard: Guard) -> Step {
        self.guards.push(guard);
        self
    }

    /// It need not wait for the steps before it.
    pub fn beside(mut self) -> Step {
        self.beside = true;
        self
    }

    /// Whether it destroys something, and so needs a fresh look and the lease read again. To undo a
    /// join is not among them: until that is done, the database that keeps the lease may be without
    /// a majority, and the machine's agent refuses a lower epoch anyway.
    pub fn destructive(&self) -> bool {
        matches!(
            self.action,
            Action::DeletePool { .. }
                | Action::DeleteVolume { .. }
                | Action::DeleteNetwork { .. }
                | Action::DeleteProject { .. }
                | Action::DeleteProfile { .. }
                | Action::WipeDisk { .. }
                | Action::DropHalfJoined { .. }
                | Action::RemoveMember { .. }
                | Action::StrikeMember { .. }
                | Action::ForgetMember { .. }
                | Action::DropErroredNetwork { .. }
                | Action::ClearHalfMade { .. }
                | Action::Ceph {
                    change: CephChange::RemoveMonitor { .. }
                        | CephChange::StrikeUnborn { .. }
                        | CephChange::Purge { .. },
                }
                | Action::CephHost {
                    request: CephRequest::RemoveDaemon { .. }
                        | CephRequest::StopOsd { .. }
                        | CephRequest::ZapOsd { .. },
                    ..
                }
        ) || matches!(&self.action, Action::Ovn(action) if action.destructive())
    }

    /// Whether it deletes a real object, which counts against the deletion limit.
    pub fn deletes(&self) -> bool {
        matches!(
            self.action,
            Action::DeletePool { .. }
                | Action::DeleteNetwork { .. }
                | Action::DeleteProject { .. }
                | Action::DeleteProfile { .. }
        )
    }

    /// Whether it brings a new real object into being, so that the inventory must know first.
    pub fn creates(&self) -> bool {
        matches!(
            self.action,
            Action::CreatePool { .. }
                | Action::DefinePool { .. }
                | Action::CreateNetwork { .. }
                | Action::DefineNetwork { .. }
                | Action::CreateProject { .. }
                | Action::CreateProfile { .. }
                | Action::Join { .. }
                | Action::UndoJoin { .. }
        )
    }

    /// Whether it only changes what is remembered.
    pub fn remembers_only(&self) -> bool {
        matches!(
            self.action,
            Action::ChooseDisk { .. }
                | Action::ForgetDisk { .. }
                | Action::Release
                | Action::HandOver
        )
    }
}

/// What a step touches. Two steps whose claims conflict never run together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// What.
    pub on: ClaimOn,
    /// Whether nobody else may touch it meanwhile; otherwise others may share it.
    pub exclusive: bool,
}

impl Claim {
    /// A claim nobody else may share.
    pub fn exclusive(on: ClaimOn) -> Claim {
        Claim {
            on,
            exclusive: true,
        }
    }

    /// A claim others may share.
    pub fn shared(on: ClaimOn) -> Claim {
        Claim {
            on,
            exclusive: false,
        }
    }

    /// Whether two claims exclude each other.
    pub fn conflicts(&self, other: &Claim) -> bool {
        self.on == other.on && (self.exclusive || other.exclusive)
    }
}

/// What can be claimed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum ClaimOn {
    /// Who is in the cluster.
    Membership,
    /// One member.
    Member(String),
    /// A device of a member.
    Device(String, String),
    /// The server's configuration.
    ServerConfig,
    /// OVN on one member's machine.
    Ovn(String),
    /// Who is a monitor of Ceph.
    Monitors,
    /// The OSDs of one member.
    Osds(String),
    /// Ceph's own configuration, rules and pools.
    Ceph,
    /// One object.
    Object(ObjectRef),
}

/// What must still hold just before a step; otherwise the object is planned again.
#[derive(Debug, Clone, PartialEq)]
pub enum Guard {
    /// No machine that answers is in a cluster, and at least `majority` of `targets` answer.
    NoClusterAnywhere {
        /// All listed members.
        targets: Vec<HostTarget>,
        /// How many must answer.
        majority: usize,
    },
    /// No machine that answers has a Ceph cluster but perhaps the beginnings of this one, and at
    /// least `majority` of `targets` answer.
    NoCephAnywhere {
        /// Where it is formed; what this one has of it is gone on with.
        first: String,
        /// All listed members.
        targets: Vec<HostTarget>,
        /// How many must answer.
        majority: usize,
        /// The cluster that is being formed.
        fsid: String,
    },
    /// The OSD is the one that was seen, and still never ran.
    OsdUnborn {
        /// Its number.
        id: i64,
        /// Its own id.
        uuid: String,
    },
    /// The OSD is the one that was seen and is out; unless it is lost, Ceph says that it is safe to
    /// destroy. One that is lost is down.
    OsdGoes {
        /// Its number.
        id: i64,
        /// Its own id.
        uuid: String,
        /// Whether it is lost.
        lost: bool,
    },
    /// All monitors are in the quorum, and this is not the only one.
    MonitorLeaves {
        /// The monitor.
        name: String,
    },
    /// The monitor is out of the quorum and all others are in it.
    MonitorSpare {
        /// The monitor.
        name: String,
    },
    /// The member is evacuated and nothing lies on it, and all others are online.
    Leaves {
        /// The member.
        name: String,
    },
    /// LXD takes the member for offline, and no LXD of this cluster answers on its machine.
    Lost {
        /// The machine.
        target: HostTarget,
        /// Its address, as LXD has it.
        address: String,
    },
    /// The machine's service is standalone and holds nothing more than this.
    Standalone {
        /// The machine.
        target: HostTarget,
        /// What it may hold.
        leftovers: Leftovers,
    },
    /// The cluster has no other pools and networks than these, for which the joiner brings its
    /// keys, and none of them is `Errored`: whoever joins then is left half joined.
    JoinsInto {
        /// The pools.
        pools: BTreeSet<String>,
        /// The managed networks, by project and name, of each project with networks of its own.
        networks: BTreeMap<String, BTreeSet<String>>,
    },
}

/// What is done. Everything `apply` needs is in here: it makes no choices.
#[derive(Debug, Clone, PartialEq)]
#[expect(
    clippy::large_enum_variant,
    reason = "there are a few at a time, and each is looked at once"
)]
pub enum Action {
    /// Form the cluster on its first member.
    Bootstrap {
        /// The machine.
        target: HostTarget,
    },
    /// Get a token and let a machine join.
    Join {
        /// The machine.
        target: HostTarget,
        /// What it gives to pools and networks.
        member_config: Vec<MemberConfigKey>,
        /// What its service may hold.
        leftovers: Leftovers,
        /// Whether an earlier join was begun: what it left in the cluster goes first.
        again: bool,
    },
    /// Clear away what is left on a machine that stopped while LXD made something there.
    ClearHalfMade {
        /// The machine.
        target: HostTarget,
        /// What is cleared.
        request: ClearHalfMade,
    },
    /// Undo a join that was cut in two, on the machine. The cluster is not asked for anything: its
    /// leader may be waiting for that machine.
    UndoJoin {
        /// The machine.
        target: HostTarget,
    },
    /// Delete a network that was never made to its end and that nothing uses, to make it anew.
    DropErroredNetwork {
        /// Its project.
        project: String,
        /// The network.
        name: String,
    },
    /// Look after OVN on machines.
    Ovn(Box<OvnAction>),
    /// Drop the row of a member that never finished joining.
    DropHalfJoined {
        /// The member.
        name: String,
    },
    /// Set (or with an empty value unset) server keys.
    PatchServer {
        /// The member, for its own keys.
        target: Option<String>,
        /// The keys.
        config: Values,
    },
    /// Make a cluster group.
    CreateGroup {
        /// The group.
        name: String,
    },
    /// Write a member's roles, failure domain, groups and configuration.
    PutMember {
        /// The member as it was seen.
        seen: Member,
        /// Its ETag then.
        etag: Option<String>,
        /// As it is to be, but for its configuration.
        wanted: Member,
        /// The keys as they are to be.
        config: Values,
    },
    /// End this controller, so that another member takes over.
    HandOver,
    /// Take a member out of LXD's cluster on which nothing lies any more; its LXD starts anew.
    RemoveMember {
        /// The member.
        name: String,
    },
    /// Strike a member from LXD's cluster that does not answer any more.
    StrikeMember {
        /// The member.
        name: String,
    },
    /// Trust the key of a member no more that is in the cluster no more, and forget its disks and
    /// what else is its own.
    ForgetMember {
        /// The member.
        name: String,
        /// Its machine, if it answers: it is told, and forgets the cluster's keys.
        target: Option<HostTarget>,
        /// The Ceph cluster that forgets it.
        ceph: Option<String>,
        /// Whether it carried OVN's traffic.
        ovn: bool,
        /// Its disks that pools of LXD's were made of, and nothing is on any more: they are given
        /// back blank.
        disks: Vec<WipeDisk>,
        /// Who is trusted from now on.
        left: TrustStore,
    },
    /// Move a member's instances away.
    Evacuate {
        /// The member.
        name: String,
    },
    /// Let a member work again.
    Restore {
        /// The member.
        name: String,
    },
    /// Define a pool on one member (first phase).
    DefinePool {
        /// The pool.
        name: String,
        /// Its driver.
        driver: String,
        /// The member.
        member: String,
        /// The member's keys.
        config: Values,
    },
    /// Make a pool (second phase).
    CreatePool {
        /// The pool.
        name: String,
        /// Its driver.
        driver: String,
        /// What it is for.
        description: String,
        /// Its keys.
        config: Values,
    },
    /// Write a pool.
    PutPool {
        /// The pool as it was seen.
        seen: Pool,
        /// Its ETag then.
        etag: Option<String>,
        /// The member, for its own keys.
        target: Option<String>,
        /// The description as it is to be.
        description: String,
        /// The keys as they are to be.
        config: Values,
    },
    /// Delete a pool.
    DeletePool {
        /// The pool.
        name: String,
    },
    /// Make a volume of a pool on one member.
    CreateVolume {
        /// The pool.
        pool: String,
        /// The volume.
        name: String,
        /// The member.
        member: String,
    },
    /// Delete a volume of a pool on one member.
    DeleteVolume {
        /// The pool.
        pool: String,
        /// The volume.
        name: String,
        /// The member.
        member: String,
    },
    /// Define a network on one member (first phase).
    DefineNetwork {
        /// The project.
        project: String,
        /// The network.
        name: String,
        /// Its type.
        network_type: String,
        /// The member.
        member: String,
        /// The member's keys.
        config: Values,
    },
    /// Make a network (second phase, or the only one).
    CreateNetwork {
        /// The project.
        project: String,
        /// The network.
        name: String,
        /// Its type.
        network_type: String,
        /// What it is for.
        description: String,
        /// Its keys.
        config: Values,
    },
    /// Write a network.
    PutNetwork {
        /// The project.
        project: String,
        /// The network as it was seen.
        seen: Network,
        /// Its ETag then.
        etag: Option<String>,
        /// The member, for its own keys.
        target: Option<String>,
        /// The description as it is to be.
        description: String,
        /// The keys as they are to be.
        config: Values,
    },
    /// Delete a network.
    DeleteNetwork {
        /// The project.
        project: String,
        /// The network.
        name: String,
    },
    /// Make a project.
    CreateProject {
        /// The project.
        name: String,
        /// What it is for.
        description: String,
        /// Its keys.
        config: Values,
    },
    /// Write a project.
    PutProject {
        /// The project as it was seen.
        seen: Project,
        /// Its ETag then.
        etag: Option<String>,
        /// The description as it is to be.
        description: String,
        /// The keys as they are to be.
        config: Values,
    },
    /// Delete a project.
    DeleteProject {
        /// The project.
        name: String,
    },
    /// Make a profile.
    CreateProfile {
        /// The project.
        project: String,
        /// The profile.
        name: String,
        /// What it is for.
        description: String,
        /// Its keys.
        config: Values,
        /// Its devices.
        devices: BTreeMap<String, Values>,
    },
    /// Write a profile.
    PutProfile {
        /// The project.
        project: String,
        /// The profile as it was seen.
        seen: Profile,
        /// Its ETag then.
        etag: Option<String>,
        /// The description as it is to be.
        description: String,
        /// The keys as they are to be.
        config: Values,
        /// The devices as they are to be.
        devices: BTreeMap<String, Values>,
    },
    /// Delete a profile.
    DeleteProfile {
        /// The project.
        project: String,
        /// The profile.
        name: String,
    },
    /// Choose a disk, in the memory.
    ChooseDisk {
        /// The member; with the disk's path (`MEMBER:PATH`) where it gives more than one.
        member: String,
        /// The disk.
        choice: DiskChoice,
    },
    /// Forget which disk was chosen, in the memory.
    ForgetDisk {
        /// As [`Action::ChooseDisk`] has it.
        key: String,
    },
    /// Destroy the signatures on a disk that was chosen.
    WipeDisk {
        /// The machine.
        target: HostTarget,
        /// The disk.
        disk: WipeDisk,
    },
    /// Ask a machine for something of Ceph.
    CephHost {
        /// The machine.
        target: HostTarget,
        /// What.
        request: CephRequest,
    },
    /// Give a machine what it needs to reach Ceph.
    CephAccess {
        /// The machine that has it.
        from: HostTarget,
        /// The machine that gets it.
        target: HostTarget,
    },
    /// Change something in the Ceph cluster.
    Ceph {
        /// What.
        change: CephChange,
    },
    /// Forget an object: drop its entry from the inventory and leave the object.
    Release,
}

/// What is done about OVN.
#[derive(Debug, Clone, PartialEq)]
pub enum OvnAction {
    /// Ask one machine for something.
    Ask {
        /// The machine.
        target: HostTarget,
        /// What it is asked for.
        request: OvnRequest,
    },
    /// Give a copy of the authority to another machine.
    ShareAuthority {
        /// Who keeps it.
        from: HostTarget,
        /// Who is to keep it too.
        to: HostTarget,
    },
    /// Have a machine's certificate signed.
    Certify {
        /// The machine.
        target: HostTarget,
        /// Who keeps the authority.
        authority: HostTarget,
        /// The addresses it is for.
        addresses: Vec<IpAddr>,
    },
}

impl OvnAction {
    /// The machine that is changed.
    pub fn target(&self) -> &HostTarget {
        match self {
            OvnAction::Ask { target, .. }
            | OvnAction::ShareAuthority { to: target, .. }
            | OvnAction::Certify { target, .. } => target,
        }
    }

    /// Whether it takes something away that is not easily made again.
    pub fn destructive(&self) -> bool {
        matches!(
            self,
            OvnAction::Ask {
                request: OvnRequest::Kick { .. }
                    | OvnRequest::LeaveCentral(_)
                    | OvnRequest::DeleteChassis { .. },
                ..
            }
        )
    }
}

/// A change in a Ceph cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CephChange {
    /// Set a key of its configuration.
    SetConfig {
        /// Whom it is for: `global`, `mon`…
        section: String,
        /// The key.
        name: String,
        /// The value.
        value: String,
    },
    /// Take a monitor out of the map.
    RemoveMonitor {
        /// The monitor.
        name: String,
    },
    /// Have an OSD's data move to others.
    SetOut {
        /// Its number.
        id: i64,
    },
    /// Strike an OSD off the map, with its key and its place.
    Purge {
        /// Its number.
        id: i64,
        /// Whether it is lost, and what only it held with it.
        lost: bool,
    },
    /// Strike an OSD off the map that was never started.
    StrikeUnborn {
        /// Its number.
        id: i64,
    },
    /// Make a CRUSH rule.
    CreateRule {
        /// Its name.
        name: String,
        /// What two copies never share.
        failure_domain: String,
    },
    /// Put a host of the CRUSH map into a rack.
    MoveHost {
        /// The host.
        host: String,
        /// The rack.
        rack: String,
    },
    /// Set something of a pool.
    SetPool {
        /// The pool.
        pool: String,
        /// What.
        name: String,
        /// The value.
        value: String,
    },
    /// Say what a pool is for.
    EnableApplication {
        /// The pool.
        pool: String,
        /// What: `cephfs`, `rbd`.
        application: String,
    },
    /// Make a pool.
    CreatePool {
        /// The pool.
        pool: String,
        /// Its placement groups.
        pg_num: u32,
        /// Its CRUSH rule.
        rule: String,
        /// What it is for: `cephfs`, `rbd`.
        application: String,
    },
    /// Make a file system.
    CreateFilesystem {
        /// Its name.
        name: String,
        /// The pool of its metadata.
        metadata: String,
        /// The pool of its data.
        data: String,
    },
}
