//! A session of trust: how a machine that nobody knows is let in by a passphrase.
//!
//! One member opens a session (the *initiator*) and machines come to it (*joiners*). Both prove to
//! each other, in one connection, that they know the session's passphrase, without telling it:
//! with SPAKE2, whoever listens, stands in between or only guesses learns from one attempt nothing
//! but whether one guess was right. What is proven covers both keys, both names, both addresses,
//! what the joiner says of itself, the session and the TLS connection itself, so that nothing of
//! it is of use anywhere else. The protocol and what it withstands is told in `docs/trust.md`.
//!
//! Everything here is pure: no socket, no clock, no task. [`Joiner`] and [`Gate`] are the two ends
//! of one connection, [`Roster`] the joiners of a session, [`Guesses`] who guessed too often.

mod guesses;
mod initiator;
mod joiner;
mod message;
mod passphrase;
mod proof;
mod roster;

pub use guesses::{Guesses, Source};
pub use initiator::{Gate, GateHeard};
pub use joiner::{Joiner, JoinerHeard};
pub use message::{Intent, MessageError, Peer, PeerList, Refused, RefusedCode};
pub use passphrase::{BadPassphrase, Passphrase, WORDS};
pub use proof::{End, Ends};
pub use roster::{Applicant, MOST_JOINERS, Roster};

/// What a joiner's TLS handshake asks for (ALPN), and no member's does.
pub const ALPN: &[u8] = b"microcloud-join/1";

/// The label of the keying material that both take out of their TLS connection (RFC 9266's way).
pub const EXPORTER: &[u8] = b"EXPORTER-microcloud-join-1";

/// The version of the protocol; both sides must speak the same.
pub const PROTOCOL: u16 = 1;

/// The most a message may hold before the passphrase is proven, bytes.
pub const MOST_UNPROVEN: usize = 4 << 10;

/// The most a message may hold afterwards, bytes: the report of a machine with hundreds of disks.
pub const MOST_PROVEN: usize = 1 << 20;

/// Why an end of a session's connection gives up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// A message is none.
    #[error(transparent)]
    Message(#[from] MessageError),
    /// A message came that has no place here.
    #[error("{0}")]
    Unexpected(String),
    /// The other side does not know the passphrase, or does not see the connection as this one.
    #[error(
        "the passphrase is not the one of the session, or something stands between the two \
         machines: compare the fingerprints and type the passphrase again"
    )]
    NotProven,
    /// A confirmation does not come from the one who knows the passphrase.
    #[error("a confirmation came that the initiator of the session did not make")]
    Forged,
    /// The other side speaks another protocol.
    #[error("the other side speaks version {theirs} of the protocol and this one {PROTOCOL}")]
    Protocol {
        /// Its version.
        theirs: u16,
    },
    /// The joiner calls itself otherwise than its certificate.
    #[error("it calls itself `{said}`, and its certificate says `{certified}`")]
    OtherName {
        /// The name in the message.
        said: String,
        /// The name in the certificate.
        certified: String,
    },
    /// The system has no random numbers, or a key could not be made.
    #[error("{0}")]
    System(String),
}

#[cfg(test)]
mod tests;
