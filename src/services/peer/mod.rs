//! Other members' agents: who they are and how they are called.
//!
//! Every agent has one key. Peers know each other by the SHA-256 of the public key, never by a
//! certificate authority: the certificate only carries the member's name, and can be renewed.
//! Connections are TLS 1.3 with both sides' keys proven in the handshake.

pub mod client;
pub mod discovery;
pub mod hosts;
pub mod identity;
pub mod pins;
pub mod session;
pub mod state_file;
pub mod tls;

pub use client::{Claim, NoClaim, PeerClient};
pub use hosts::{PeerHost, PeerHosts};
pub use identity::{Identity, IdentityError};
pub use pins::{Fingerprint, Pins, Refusal};
pub use state_file::StateFileError;

/// The TCP port agents listen on.
pub const PORT: u16 = 9445;

/// Names the caller's member; must be the one whose key was proven.
pub const MEMBER_HEADER: &str = "x-microcloud-member";

/// The epoch the caller leads with; absent when it does not lead.
pub const EPOCH_HEADER: &str = "x-microcloud-epoch";

/// The version of the sender, in requests and answers.
pub const VERSION_HEADER: &str = "x-microcloud-version";

/// The version of this program.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
