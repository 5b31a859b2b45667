//! The joiner's end of a connection.

use super::message::{self, FromInitiator, FromJoiner, Intent, PeerList, Refused};
use super::proof::{self, About, Begun, Ends, Proof, Side};
use super::{PROTOCOL, Passphrase, SessionError};
use crate::services::host::HostReport;
use std::net::IpAddr;

/// The joiner's end: every message of the initiator goes through [`Joiner::receive`].
pub struct Joiner {
    ends: Ends,
    state: State,
}

enum State {
    /// Its half of the exchange is sent.
    Challenge { begun: Begun, hello: Vec<u8> },
    /// It has proven itself and waits for the initiator to do the same.
    Proven(Proof),
    /// Both know that the other one knows.
    Waiting(Proof),
    /// The operator chose it.
    Chosen(Proof),
    /// It was taken in.
    Committed,
    /// Nothing more is to come.
    Ended,
}

/// What a message of the initiator means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JoinerHeard {
    /// It wants the passphrase proven: send this.
    Challenged {
        /// The message to send.
        reply: Vec<u8>,
        /// The session.
        session: String,
        /// The initiator's address for members.
        address: IpAddr,
    },
    /// It knows the passphrase; the operator decides now.
    Proven,
    /// It is there.
    Alive,
    /// The operator chose this machine: send the report.
    Chosen,
    /// This machine is taken in; trust these.
    Committed(PeerList),
    /// It ends the connection before this machine was taken in.
    Refused(Refused),
    /// The session is over.
    Over {
        /// Why it was given up; none when all went well.
        aborted: Option<String>,
    },
}

impl Joiner {
    /// Begins; the second value is the first message.
    pub fn begin(passphrase: &Passphrase, ends: Ends, intent: Intent) -> (Joiner, Vec<u8>) {
        let (begun, pake) = proof::begin(Side::Joiner, passphrase, &ends);
        let hello = message::encode(&FromJoiner::Hello {
            protocol: PROTOCOL,
            intent,
            pake,
        });
        let state = State::Challenge {
            begun,
            hello: hello.clone(),
        };
        (Joiner { ends, state }, hello)
    }

    /// Whether the initiator has proven that it knows the passphrase.
    pub fn proven(&self) -> bool {
        matches!(
            self.state,
            State::Waiting(_) | State::Chosen(_) | State::Committed
        )
    }

    /// Takes a message of the initiator. After an error nothing more is to be taken.
    ///
    /// # Errors
    /// It is none, has no place here, or does not prove what it must.
    pub fn receive(&mut self, frame: &[u8]) -> Result<JoinerHeard, SessionError> {
        let proven = self.proven();
        let heard: FromInitiator = message::decode(frame, proven)?;
        let state = std::mem::replace(&mut self.state, State::Ended);
        let (state, heard) = match (state, heard) {
            (
                State::Challenge { begun, hello },
                FromInitiator::Challenge {
                    session,
                    name,
                    address,
                    pake,
                },
            ) => {
                if name != self.ends.initiator.name {
                    return Err(SessionError::OtherName {
                        said: name,
                        certified: self.ends.initiator.name.clone(),
                    });
                }
                let proof = begun.finish(&pake, &self.ends, &hello, frame)?;
                let reply = message::encode(&FromJoiner::Proof {
                    mac: proof.prove(About::JoinerKnows, b""),
                });
                let heard = JoinerHeard::Challenged {
                    reply,
                    session,
                    address,
                };
                (State::Proven(proof), heard)
            }
            (State::Proven(proof), FromInitiator::Proven { mac }) => {
                if !proof.holds(About::InitiatorKnows, b"", &mac) {
                    return Err(SessionError::NotProven);
                }
                (State::Waiting(proof), JoinerHeard::Proven)
            }
            (State::Waiting(proof), FromInitiator::Chosen { mac }) => {
                if !proof.holds(About::Chosen, b"", &mac) {
                    return Err(SessionError::Forged);
                }
                (State::Chosen(proof), JoinerHeard::Chosen)
            }
            (State::Chosen(proof), FromInitiator::Commit { peers, mac }) => {
                if !proof.holds(About::Commit, &message::encode(&peers), &mac) {
                    return Err(SessionError::Forged);
                }
                let initiator = &self.ends.initiator;
                let named = peers.members.iter().any(|peer| {
                    peer.name == initiator.name
                        && peer.fingerprint == initiator.fingerprint.as_str()
                });
                if !named {
                    return Err(SessionError::Forged);
                }
                (State::Committed, JoinerHeard::Committed(peers))
            }
            (_, FromInitiator::Refused(refused)) => (State::Ended, JoinerHeard::Refused(refused)),
            (State::Ended, _) => return Err(unexpected("a message after the end")),
            (_, FromInitiator::Over { aborted }) => (State::Ended, JoinerHeard::Over { aborted }),
            (state, FromInitiator::Alive) if proven => (state, JoinerHeard::Alive),
            (_, FromInitiator::Chosen { .. } | FromInitiator::Commit { .. }) => {
                return Err(SessionError::Forged);
            }
            (_, _) => return Err(unexpected("a message of the initiator came out of turn")),
        };
        self.state = state;
        Ok(heard)
    }

    /// The message that says that this machine is there.
    pub fn alive() -> Vec<u8> {
        message::encode(&FromJoiner::Alive)
    }

    /// The message with this machine's disks and interfaces.
    pub fn report(report: HostReport) -> Vec<u8> {
        message::encode(&FromJoiner::Report {
            report: Box::new(report),
        })
    }

    /// The message that says that the members are trusted.
    pub fn pinned() -> Vec<u8> {
        message::encode(&FromJoiner::Pinned)
    }

    /// The message that says that this machine goes.
    pub fn leave(reason: &str) -> Vec<u8> {
        message::encode(&FromJoiner::Leave {
            reason: reason.chars().take(500).collect(),
        })
    }
}

fn unexpected(what: &str) -> SessionError {
    SessionError::Unexpected(what.to_owned())
}
