//! Ceph: what a cluster is asked and told, and a look at it that is cheap enough to repeat twice
//! a second.
//!
//! Everything goes through [`Transport`]: [`Bridge`] for the real cluster, a function call for a
//! simulated one. The bridge is one long-lived Python process with one connection of librados
//! (`python3-rados`, which the `ceph` command needs as well); commands and answers are lines of
//! JSON, so that each answer has its error number, and keys travel in pipes, never in arguments.
//!
//! # What looking costs
//! Measured against Ceph 18.2.7 with one monitor and one OSD, on one machine:
//!
//! | way | time | processor time of the asker |
//! |---|---|---|
//! | `ceph -s -f json`, a process per look | 165 to 190 ms | 120 to 140 ms |
//! | `ceph -f json`, interactive, fed over stdin | start 160 ms; errors come unframed on stderr | as the bridge |
//! | the bridge, `status` | 0.4 ms | 0.2 ms |
//! | the bridge, `osd dump`, `osd tree`, `mgr dump` | 0.35 to 0.65 ms | 0.2 ms |
//! | the bridge, idle | – | 0.015 % of a core, 35 MB |
//!
//! The daemons' admin sockets are as cheap, but know their own daemon only: no map of OSDs, pools
//! or health. `ceph -w` is one more process, and its lines are prose. So [`Look`] asks for
//! `status` (about 1.2 kB, with the epochs of all maps), and for the maps only when an epoch, the
//! quorum or the health moved.

mod bridge;
mod client;
mod command;
mod error;
mod look;
mod types;

pub use bridge::Bridge;
pub use client::Ceph;
pub use command::{Command, Target, Transport};
pub use error::CephError;
pub use look::Look;
pub use types::*;
