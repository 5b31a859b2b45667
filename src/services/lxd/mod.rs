//! LXD, and Incus as the same client with other capabilities.
//!
//! Everything goes through one seam, [`Transport`]: a unix socket, TLS, or a simulated LXD
//! called in process.

pub mod error;
pub mod transport;
pub mod types;

pub use error::LxdError;
pub use transport::{EventStream, Method, Request, Response, Transport, TransportError};
