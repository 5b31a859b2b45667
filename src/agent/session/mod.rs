//! Sessions of trust on this machine: as initiator ([`Door`]) and as joiner ([`Joining`]), with the
//! routes by which commands drive both. The protocol itself is in
//! [`crate::services::peer::session`].

mod door;
mod join;
mod routes;
mod wire;
pub mod words;

pub use door::{Door, DoorError, Entry, LONGEST};
pub use join::{JoinError, Joining};
pub use routes::{Sessions, routes};
