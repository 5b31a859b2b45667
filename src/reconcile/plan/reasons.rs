//! The stable words of conditions and events, in one place.

/// A part of the world could not be read.
pub const UNKNOWN: &str = "Unknown";
/// Another object must be ready first.
pub const DEPENDENCY: &str = "DependencyNotReady";
/// A machine does not answer.
pub const UNREACHABLE: &str = "Unreachable";
/// A machine is not trusted, or does not trust this one.
pub const NOT_TRUSTED: &str = "NotTrusted";
/// An approval is needed.
pub const APPROVAL_NEEDED: &str = "ApprovalNeeded";
/// A field cannot change after creation.
pub const IMMUTABLE: &str = "ImmutableField";
/// Versions differ.
pub const VERSION: &str = "VersionMismatch";
/// A name is not the machine's.
pub const NAME: &str = "NameMismatch";
/// The machine is in another cluster.
pub const OTHER_CLUSTER: &str = "OtherCluster";
/// The instance service is missing on a machine or does not run.
pub const SERVICE: &str = "ServiceNotRunning";
/// A member is offline.
pub const MEMBER_DOWN: &str = "MemberDown";
/// A member is evacuated though the YAML does not say so.
pub const EVACUATED: &str = "Evacuated";
/// A second cluster would be formed.
pub const CLUSTER_EXISTS: &str = "ClusterExists";
/// Too few members answered.
pub const NO_MAJORITY: &str = "NoMajority";
/// The object is still used.
pub const IN_USE: &str = "InUse";
/// Too many deletions.
pub const DELETION_LIMIT: &str = "DeletionLimit";
/// A real object has no resource any more.
pub const ORPHANED: &str = "Orphaned";
/// Another step runs that must not overlap.
pub const CLAIMED: &str = "OtherStepRuns";
/// A real object is of another kind than the resource says.
pub const TYPE: &str = "TypeMismatch";
/// What the resource asks for cannot be had.
pub const UNSUPPORTED: &str = "Unsupported";
/// The disk cannot be found.
pub const NO_DISK: &str = "DiskNotFound";
/// The disk is not empty.
pub const DISK_NOT_EMPTY: &str = "DiskNotEmpty";
/// The disk could not be told from another one after a boot.
pub const DISK_NAMELESS: &str = "DiskNotIdentifiable";
/// Members do not reach each other as they must.
pub const NETWORK: &str = "NetworkUnfit";
/// OVN's databases or a machine's part in them are not as they should be.
pub const OVN: &str = "OvnNotReady";
/// A secret could not be read.
pub const SECRET: &str = "SecretUnreadable";
/// A member or an OSD is wanted absent, and the rest could not do without it.
pub const REMOVAL: &str = "RemovalRefused";
/// A creation failed on a member.
pub const ERRORED: &str = "Errored";
/// Everything is as wanted.
pub const READY: &str = "Reconciled";
/// Work is going on.
pub const PROGRESSING: &str = "Progressing";
/// The last attempt failed and is tried again.
pub const FAILED: &str = "ReconciliationFailed";
/// It differs, and the mode says to report only.
pub const REPORT_ONLY: &str = "DiffersReportOnly";
/// It is suspended.
pub const SUSPENDED: &str = "Suspended";
/// Its newest version is broken; the last good one is in force.
pub const BROKEN: &str = "BrokenDocument";
/// The Ceph cluster that was formed is nowhere to be found.
pub const CEPH_GONE: &str = "CephGone";
/// A pool of Ceph below a storage pool is gone.
pub const CEPH_POOL_GONE: &str = "CephPoolGone";
/// A monitor is out of the quorum.
pub const MONITOR_DOWN: &str = "MonitorDown";
/// Placement groups are not clean.
pub const PGS_NOT_CLEAN: &str = "PlacementGroupsNotClean";
/// Ceph is full, or nearly.
pub const CEPH_FULL: &str = "CephFull";
/// The machines' clocks differ.
pub const CLOCK_SKEW: &str = "ClockSkew";
/// Ceph tells of something else.
pub const CEPH_HEALTH: &str = "CephHealth";
/// An OSD is down.
pub const OSD_DOWN: &str = "OsdDown";
/// An OSD was set out.
pub const OSD_OUT: &str = "OsdOut";
/// A disk holds an OSD that the cluster does not know.
pub const OSD_UNKNOWN: &str = "OsdUnknown";
/// A field is changed back too often.
pub const FLAPPING: &str = "FieldFlapping";
