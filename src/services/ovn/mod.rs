//! OVN and Open vSwitch, through their own protocol: OVSDB (RFC 7047), over a unix socket, TCP or
//! TLS.
//!
//! - [`Client`] speaks the protocol: `list_dbs`, `get_schema`, `transact`, `monitor_cond`. It
//!   answers the server's `echo`, and every call has a deadline.
//! - [`rows`] holds the rows that are looked at, typed; [`value`] the protocol's sets, maps and
//!   references.
//! - [`control`] asks a daemon's control socket for the little that no table holds: which servers
//!   a raft has.
//!
//! Monitors are hints: what changed is read again, as everywhere in this program.

mod client;
pub mod control;
mod endpoint;
mod error;
mod framing;
pub mod operation;
pub mod rows;
#[cfg(test)]
mod tests;
pub mod value;

pub use client::{Change, Client, Monitor, MonitorTable, RowChange};
pub use endpoint::{Credentials, Endpoint};
pub use error::OvsdbError;
pub use operation::{Operation, Outcome};

/// The northbound database: what networks there should be.
pub const NORTHBOUND: &str = "OVN_Northbound";

/// The southbound database: what the chassis are told, and which there are.
pub const SOUTHBOUND: &str = "OVN_Southbound";

/// The database of Open vSwitch on one machine.
pub const LOCAL: &str = "Open_vSwitch";

/// The database in which every server tells about the others it serves.
pub const SERVER: &str = "_Server";

/// The TCP port of the northbound database.
pub const NORTHBOUND_PORT: u16 = 6641;

/// The TCP port of the southbound database.
pub const SOUTHBOUND_PORT: u16 = 6642;

/// The TCP port by which northbound servers speak to each other.
pub const NORTHBOUND_RAFT_PORT: u16 = 6643;

/// The TCP port by which southbound servers speak to each other.
pub const SOUTHBOUND_RAFT_PORT: u16 = 6644;
