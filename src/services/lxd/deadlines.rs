//! How long each kind of call may take. A deadline that passes is an error like any other; it is
//! never a reason to wait without end.

use std::time::Duration;

/// Opening a connection: a unix socket or a machine on the same network answers at once, and a
/// machine that is off should be noticed before anything else times out.
pub const CONNECT: Duration = Duration::from_secs(5);

/// Reading one object. LXD without quorum hangs on its database, so this bounds how long a round
/// is held up by it.
pub const READ: Duration = Duration::from_secs(10);

/// Reading an object as another member sees it: a member that is down is reported as such after
/// exactly 10 s, and that answer is worth more than a deadline that passed.
pub const READ_TARGET: Duration = Duration::from_secs(15);

/// Reading a list: 1,000 profiles take about 4 s, and some lists ask every member.
pub const LIST: Duration = Duration::from_secs(30);

/// Writing one object. LXD tells all other members before it answers and waits for each.
pub const WRITE: Duration = Duration::from_secs(30);

/// Creating or deleting a storage pool or a network: it formats disks and starts services on
/// every member (a pool on Ceph takes 5 s when all is well).
pub const BUILD: Duration = Duration::from_secs(120);

/// Bootstrapping, joining, removing a member: the daemon replaces its database and starts its
/// networks and pools anew. A second when all is well; one that hangs is to be noticed.
pub const MEMBERSHIP: Duration = Duration::from_secs(60);

/// How long a daemon that is about to restart itself may look as if it did not: it answers first,
/// and replaces itself within a second.
pub const RESTART_NOTICE: Duration = Duration::from_secs(5);

/// How often a restarting daemon is asked whether it is back.
pub const RESTART_POLL: Duration = Duration::from_millis(100);

/// Evacuating and restoring a member: its instances are stopped or moved one by one.
pub const EVACUATE: Duration = Duration::from_secs(600);

/// One question for the end of an operation. Short slices notice a restarted daemon, which has
/// forgotten its operations, long before the operation's own deadline.
pub const WAIT_SLICE: Duration = Duration::from_secs(10);

/// What the answer to a wait may take beyond the slice it asked for.
pub const WAIT_GRACE: Duration = Duration::from_secs(5);

/// How long to pause before asking for an operation again after the connection broke.
pub const WAIT_PAUSE: Duration = Duration::from_millis(200);

/// How often an open stream of events is pinged.
pub const EVENT_PING: Duration = Duration::from_secs(10);

/// How long a stream of events may be without any sign of life. Three pings: one lost answer is
/// no reason to read everything again.
pub const EVENT_SILENCE: Duration = Duration::from_secs(30);

/// The first and the longest pause between attempts to open the stream of events.
pub const EVENT_RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
