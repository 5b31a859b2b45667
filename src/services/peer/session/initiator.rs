//! The initiator's end of one joiner's connection.

use super::message::{self, FromInitiator, FromJoiner, Intent, PeerList, Refused, RefusedCode};
use super::proof::{self, About, Ends, Proof, Side};
use super::{PROTOCOL, Passphrase, SessionError};
use crate::services::host::HostReport;
use std::net::IpAddr;

/// The initiator's end: every message of the joiner goes through [`Gate::receive`].
pub struct Gate {
    ends: Ends,
    passphrase: Passphrase,
    session: String,
    address: IpAddr,
    state: State,
}

enum State {
    Hello,
    Proof { proof: Proof, intent: Intent },
    Waiting(Proof),
    Chosen(Proof),
    Committed,
    Ended,
}

/// What a message of the joiner means.
#[derive(Debug, Clone, PartialEq)]
pub enum GateHeard {
    /// It is there: send this.
    Hello {
        /// The message to send.
        reply: Vec<u8>,
    },
    /// It knows the passphrase. Send [`Gate::proven`] if it is fit, else [`Gate::refuse`].
    Proven(Intent),
    /// It is there still.
    Alive,
    /// Its disks and interfaces.
    Report(Box<HostReport>),
    /// It trusts the members.
    Pinned,
    /// It goes.
    Left(String),
}

impl Gate {
    /// The initiator's end for the session `session`, whose initiator has `address`.
    pub fn new(passphrase: Passphrase, ends: Ends, session: &str, address: IpAddr) -> Gate {
        Gate {
            ends,
            passphrase,
            session: session.to_owned(),
            address,
            state: State::Hello,
        }
    }

    /// Whether the joiner has proven that it knows the passphrase.
    pub fn is_proven(&self) -> bool {
        matches!(
            self.state,
            State::Waiting(_) | State::Chosen(_) | State::Committed
        )
    }

    /// Takes a message of the joiner. After an error nothing more is to be taken.
    ///
    /// # Errors
    /// It is none, has no place here, or does not prove what it must.
    pub fn receive(&mut self, frame: &[u8]) -> Result<GateHeard, SessionError> {
        let heard: FromJoiner = message::decode(frame, self.is_proven())?;
        let state = std::mem::replace(&mut self.state, State::Ended);
        let (state, heard) = match (state, heard) {
            (
                State::Hello,
                FromJoiner::Hello {
                    protocol,
                    intent,
                    pake,
                },
            ) => self.challenge(protocol, intent, &pake, frame)?,
            (State::Proof { proof, intent }, FromJoiner::Proof { mac }) => {
                if !proof.holds(About::JoinerKnows, b"", &mac) {
                    return Err(SessionError::NotProven);
                }
                (State::Waiting(proof), GateHeard::Proven(intent))
            }
            (State::Chosen(proof), FromJoiner::Report { report }) => {
                if report.name != self.ends.joiner.name
                    || report.fingerprint != self.ends.joiner.fingerprint.as_str()
                {
                    return Err(unexpected("the report of another machine came"));
                }
                (State::Chosen(proof), GateHeard::Report(report))
            }
            (State::Committed, FromJoiner::Pinned) => (State::Committed, GateHeard::Pinned),
            (State::Ended, _) => return Err(unexpected("a message after the end")),
            (_, FromJoiner::Leave { reason }) => {
                let reason = reason.chars().take(500).collect();
                (State::Ended, GateHeard::Left(reason))
            }
            (
                state @ (State::Waiting(_) | State::Chosen(_) | State::Committed),
                FromJoiner::Alive,
            ) => (state, GateHeard::Alive),
            (_, _) => return Err(unexpected("a message of the joiner came out of turn")),
        };
        self.state = state;
        Ok(heard)
    }

    fn challenge(
        &self,
        protocol: u16,
        intent: Intent,
        pake: &str,
        hello: &[u8],
    ) -> Result<(State, GateHeard), SessionError> {
        if protocol != PROTOCOL {
            return Err(SessionError::Protocol { theirs: protocol });
        }
        if intent.name != self.ends.joiner.name {
            return Err(SessionError::OtherName {
                said: intent.name.chars().take(100).collect(),
                certified: self.ends.joiner.name.clone(),
            });
        }
        let (begun, own) = proof::begin(Side::Initiator, &self.passphrase, &self.ends);
        let reply = message::encode(&FromInitiator::Challenge {
            session: self.session.clone(),
            name: self.ends.initiator.name.clone(),
            address: self.address,
            pake: own,
        });
        let proof = begun.finish(pake, &self.ends, hello, &reply)?;
        Ok((State::Proof { proof, intent }, GateHeard::Hello { reply }))
    }

    /// The message that proves that this end knows the passphrase; none before the joiner did.
    pub fn proven(&self) -> Option<Vec<u8>> {
        let State::Waiting(proof) = &self.state else {
            return None;
        };
        let mac = proof.prove(About::InitiatorKnows, b"");
        Some(message::encode(&FromInitiator::Proven { mac }))
    }

    /// The message that the operator has chosen this joiner; none unless it waits for that.
    pub fn choose(&mut self) -> Option<Vec<u8>> {
        match std::mem::replace(&mut self.state, State::Ended) {
            State::Waiting(proof) => {
                let mac = proof.prove(About::Chosen, b"");
                self.state = State::Chosen(proof);
                Some(message::encode(&FromInitiator::Chosen { mac }))
            }
            other => {
                self.state = other;
                None
            }
        }
    }

    /// The message that takes the joiner in; none unless it was chosen.
    pub fn commit(&mut self, peers: &PeerList) -> Option<Vec<u8>> {
        match std::mem::replace(&mut self.state, State::Ended) {
            State::Chosen(proof) => {
                let mac = proof.prove(About::Commit, &message::encode(peers));
                self.state = State::Committed;
                let peers = peers.clone();
                Some(message::encode(&FromInitiator::Commit { peers, mac }))
            }
            other => {
                self.state = other;
                None
            }
        }
    }

    /// The message that says that this end is there.
    pub fn alive() -> Vec<u8> {
        message::encode(&FromInitiator::Alive)
    }

    /// The message that ends the connection.
    pub fn refuse(code: RefusedCode, reason: impl Into<String>) -> Vec<u8> {
        let reason = reason.into().chars().take(1000).collect();
        message::encode(&FromInitiator::Refused(Refused { code, reason }))
    }

    /// The message that the session is over.
    pub fn over(aborted: Option<&str>) -> Vec<u8> {
        message::encode(&FromInitiator::Over {
            aborted: aborted.map(|reason| reason.chars().take(1000).collect()),
        })
    }
}

fn unexpected(what: &str) -> SessionError {
    SessionError::Unexpected(what.to_owned())
}
