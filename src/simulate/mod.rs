//! A simulated cloud for the same controller: N machines, each with an agent and an LXD, in one
//! process, without sockets, threads or root.
//!
//! A [`SimCloud`] hands out the two seams that the controller works through: a
//! [`Transport`](crate::services::lxd::Transport) to the LXD of a machine and
//! [`Hosts`](crate::services::host::Hosts) to the agents of all of them. Time is tokio's, so a
//! test under `#[tokio::test(start_paused = true)]` lives through minutes in milliseconds.
//!
//! ```
//! use microcloud::services::lxd::{Method, Request};
//! use microcloud::simulate::{SimCloud, SimConfig};
//! use std::time::Duration;
//!
//! # let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
//! # runtime.block_on(async {
//! let cloud = SimCloud::new(SimConfig::of(3));
//! cloud.form("micro01", &["micro02", "micro03"]).await.unwrap();
//! let lxd = cloud.transport("micro02");
//! let answer = lxd
//!     .send(Request {
//!         method: Method::Get,
//!         path: "/1.0/cluster/members".into(),
//!         query: Vec::new(),
//!         body: None,
//!         if_match: None,
//!         deadline: Duration::from_secs(5),
//!     })
//!     .await
//!     .unwrap();
//! assert_eq!(answer.body["metadata"].as_array().unwrap().len(), 3);
//! # });
//! ```
//!
//! What a test can do to it:
//! - [`SimCloud::process`]: a program on a machine (a controller): its transport, its hosts, and
//!   crashes at the k-th write, before or after it had its effect;
//! - [`SimCloud::hand`]: an administrator's `lxc`, never counted and never disturbed by injected
//!   faults, to make things drift;
//! - [`SimCloud::kill_host`], [`SimCloud::cut`], [`SimCloud::restart_lxd`] and their like;
//! - [`SimCloud::inject`]: fail, lose, delay or hang chosen requests;
//! - [`SimCloud::counts`]: how many requests and writes there were, by member and kind of path.
//!
//! It equals the real LXD as far as the contract suite in `tests/contract` says.

mod ceph;
mod cloud;
mod config;
mod contents;
mod counters;
mod database;
mod events;
mod faults;
mod form;
mod hosts;
mod lxd;
mod machine;
mod ovn;
mod process;
mod serve;
mod topology;
mod world;

pub use cloud::SimCloud;
pub use config::{MachineConfig, SimConfig, Timings, TrustMode, blank_disk, root_disk, used_disk};
pub use contents::SimInstance;
pub use counters::{Count, Counts, PathClass, Write};
pub use faults::{Fault, FaultAction, FaultId};
pub use process::{CrashKind, CrashSignal, SimProcess};
pub use serve::SimServer;
