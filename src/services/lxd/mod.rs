//! LXD, and Incus as the same client with other capabilities.
//!
//! Everything goes through one seam, [`Transport`]: a unix socket, TLS ([`HttpTransport`]), or a
//! simulated LXD called in process. [`Lxd`] is the client on top of it.

mod client;
mod cluster;
mod counters;
pub mod deadlines;
mod envelope;
pub mod error;
mod events;
mod http;
mod leftovers;
mod network;
mod operation;
mod path;
mod profile;
mod project;
pub mod requests;
mod server;
mod storage;
mod tls;
pub mod transport;
pub mod types;
mod websocket;

#[cfg(test)]
mod tests;

pub use client::Lxd;
pub use counters::Counters;
pub use error::LxdError;
pub use events::Event;
pub use http::HttpTransport;
pub use path::decode_name;
pub use requests::{
    JoinRequest, JoinToken, NetworkCreate, ObjectPut, PoolCreate, ProfilePut, ProjectCreate,
};
pub use tls::ClientIdentity;
pub use transport::{EventStream, Method, Request, Response, Transport, TransportError};
