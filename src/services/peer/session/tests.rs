//! The two ends against each other, and against somebody who alters, replays or swaps.

use super::message::{self, FromInitiator, FromJoiner};
use super::*;
use crate::services::host::TrustStore;
use crate::services::peer::Fingerprint;
use std::net::IpAddr;

fn end(name: &str) -> End {
    End {
        name: name.to_owned(),
        fingerprint: Fingerprint::of_public_key(name.as_bytes()),
    }
}

fn ends(connection: u8) -> Ends {
    Ends {
        joiner: end("micro02"),
        initiator: end("micro01"),
        exporter: [connection; 32],
    }
}

fn phrase(text: &str) -> Passphrase {
    Passphrase::parse(text).unwrap()
}

fn address() -> IpAddr {
    "192.0.2.1".parse().unwrap()
}

fn intent() -> Intent {
    Intent {
        name: "micro02".to_owned(),
        address: "192.0.2.2".parse().unwrap(),
        agent_version: "1".to_owned(),
        service: "lxd 5.0.2".to_owned(),
        api_extensions: 300,
    }
}

fn gate(ends: Ends, session: &str) -> Gate {
    Gate::new(phrase("a b c d"), ends, session, address())
}

/// Lets both exchange the first three messages; the joiner's proof, taken or not.
fn prove(joiner: &mut Joiner, hello: &[u8], gate: &mut Gate) -> Result<GateHeard, SessionError> {
    let GateHeard::Hello { reply } = gate.receive(hello)? else {
        panic!("no challenge");
    };
    let JoinerHeard::Challenged { reply, .. } = joiner.receive(&reply)? else {
        panic!("no proof");
    };
    gate.receive(&reply)
}

fn peers(initiator: &End) -> PeerList {
    PeerList {
        members: vec![Peer {
            name: initiator.name.clone(),
            fingerprint: initiator.fingerprint.to_string(),
            address: address(),
        }],
        controller: initiator.name.clone(),
    }
}

#[test]
fn two_that_know_the_passphrase_come_to_the_end() {
    let (mut joiner, hello) = Joiner::begin(&phrase(" a b  c d "), ends(1), intent());
    let mut gate = gate(ends(1), "s1");
    let heard = prove(&mut joiner, &hello, &mut gate).unwrap();
    assert_eq!(heard, GateHeard::Proven(intent()));
    assert!(!joiner.proven(), "the initiator has proven nothing yet");
    let proven = gate.proven().unwrap();
    assert_eq!(joiner.receive(&proven).unwrap(), JoinerHeard::Proven);
    assert!(joiner.proven());
    assert_eq!(joiner.receive(&Gate::alive()).unwrap(), JoinerHeard::Alive);
    assert_eq!(gate.receive(&Joiner::alive()).unwrap(), GateHeard::Alive);
    let peers = peers(&end("micro01"));
    assert!(gate.commit(&peers).is_none(), "only who was chosen");
    let chosen = gate.choose().unwrap();
    assert_eq!(joiner.receive(&chosen).unwrap(), JoinerHeard::Chosen);
    let commit = gate.commit(&peers).unwrap();
    let heard = joiner.receive(&commit).unwrap();
    assert_eq!(heard, JoinerHeard::Committed(peers));
    assert_eq!(gate.receive(&Joiner::pinned()).unwrap(), GateHeard::Pinned);
    let over = joiner.receive(&Gate::over(None)).unwrap();
    assert_eq!(over, JoinerHeard::Over { aborted: None });
}

#[test]
fn a_wrong_passphrase_proves_nothing_and_learns_nothing() {
    let (mut joiner, hello) = Joiner::begin(&phrase("a b c e"), ends(1), intent());
    let mut gate = gate(ends(1), "s1");
    let refused = prove(&mut joiner, &hello, &mut gate).unwrap_err();
    assert_eq!(refused, SessionError::NotProven);
    assert!(gate.proven().is_none(), "no proof for one who has none");
}

#[test]
fn whoever_stands_between_with_a_key_of_its_own_is_found_out() {
    // The joiner sees the relay's certificate, the initiator too.
    for (seen_by_joiner, seen_by_initiator) in [
        (("micro02", "relay"), ("micro02", "micro01")),
        (("micro02", "micro01"), ("relay", "micro01")),
    ] {
        let view = |names: (&str, &str), name: (&str, &str)| Ends {
            joiner: End {
                name: name.0.to_owned(),
                ..end(names.0)
            },
            initiator: End {
                name: name.1.to_owned(),
                ..end(names.1)
            },
            exporter: [1; 32],
        };
        let names = ("micro02", "micro01");
        let (mut joiner, hello) =
            Joiner::begin(&phrase("a b c d"), view(seen_by_joiner, names), intent());
        let mut gate = gate(view(seen_by_initiator, names), "s1");
        let refused = prove(&mut joiner, &hello, &mut gate).unwrap_err();
        assert_eq!(refused, SessionError::NotProven);
    }
    // The same keys, but not the same connection.
    let (mut joiner, hello) = Joiner::begin(&phrase("a b c d"), ends(1), intent());
    let refused = prove(&mut joiner, &hello, &mut gate(ends(2), "s1")).unwrap_err();
    assert_eq!(refused, SessionError::NotProven);
}

#[test]
fn what_was_recorded_is_of_no_use_again() {
    let (mut joiner, hello) = Joiner::begin(&phrase("a b c d"), ends(1), intent());
    let mut first = gate(ends(1), "s1");
    let GateHeard::Hello { reply } = first.receive(&hello).unwrap() else {
        panic!()
    };
    let JoinerHeard::Challenged { reply: proof, .. } = joiner.receive(&reply).unwrap() else {
        panic!()
    };
    assert!(matches!(
        first.receive(&proof).unwrap(),
        GateHeard::Proven(_)
    ));
    // In the same session and in another one, even were the connection the same.
    for session in ["s1", "s2"] {
        let mut again = gate(ends(1), session);
        again.receive(&hello).unwrap();
        assert_eq!(again.receive(&proof).unwrap_err(), SessionError::NotProven);
    }
}

#[test]
fn an_altered_message_is_found_out() {
    let alter = |frame: &[u8], from: &str, to: &str| {
        let text = std::str::from_utf8(frame).unwrap();
        assert!(text.contains(from), "{text}");
        text.replacen(from, to, 1).into_bytes()
    };
    // The joiner's intent.
    for (from, to) in [
        ("192.0.2.2", "192.0.2.3"),
        ("lxd 5.0.2", "lxd 5.0.3"),
        ("300", "301"),
    ] {
        let (mut joiner, hello) = Joiner::begin(&phrase("a b c d"), ends(1), intent());
        let hello = alter(&hello, from, to);
        let refused = prove(&mut joiner, &hello, &mut gate(ends(1), "s1")).unwrap_err();
        assert_eq!(refused, SessionError::NotProven);
    }
    // The initiator's session and address, as the joiner sees them.
    for (from, to) in [("s1", "s2"), ("192.0.2.1", "192.0.2.9")] {
        let (mut joiner, hello) = Joiner::begin(&phrase("a b c d"), ends(1), intent());
        let mut gate = gate(ends(1), "s1");
        let GateHeard::Hello { reply } = gate.receive(&hello).unwrap() else {
            panic!()
        };
        let reply = alter(&reply, from, to);
        let JoinerHeard::Challenged { reply, .. } = joiner.receive(&reply).unwrap() else {
            panic!()
        };
        assert_eq!(gate.receive(&reply).unwrap_err(), SessionError::NotProven);
    }
}

#[test]
fn a_confirmation_nobody_gave_is_refused_at_every_point() {
    let mac = "00".repeat(32);
    let forged = [
        message::encode(&FromInitiator::Proven { mac: mac.clone() }),
        message::encode(&FromInitiator::Chosen { mac: mac.clone() }),
        message::encode(&FromInitiator::Commit {
            peers: peers(&end("micro01")),
            mac,
        }),
    ];
    for steps in 0..3 {
        for frame in &forged {
            let (mut joiner, hello) = Joiner::begin(&phrase("a b c d"), ends(1), intent());
            let mut gate = gate(ends(1), "s1");
            if steps > 0 {
                prove(&mut joiner, &hello, &mut gate).unwrap();
            }
            if steps > 1 {
                joiner.receive(&gate.proven().unwrap()).unwrap();
            }
            let refused = joiner.receive(frame).unwrap_err();
            assert!(
                matches!(
                    refused,
                    SessionError::Forged | SessionError::NotProven | SessionError::Unexpected(_)
                ),
                "{refused:?}"
            );
            assert!(!joiner.proven(), "nothing is taken after that");
        }
    }
}

#[test]
fn a_list_of_members_that_was_altered_or_lacks_the_initiator_is_refused() {
    let chosen = || {
        let (mut joiner, hello) = Joiner::begin(&phrase("a b c d"), ends(1), intent());
        let mut gate = gate(ends(1), "s1");
        prove(&mut joiner, &hello, &mut gate).unwrap();
        joiner.receive(&gate.proven().unwrap()).unwrap();
        joiner.receive(&gate.choose().unwrap()).unwrap();
        (joiner, gate)
    };
    let (mut joiner, mut gate) = chosen();
    let commit = gate.commit(&peers(&end("micro01"))).unwrap();
    let text = String::from_utf8(commit).unwrap();
    let altered = text.replace(
        end("micro01").fingerprint.as_str(),
        end("evil").fingerprint.as_str(),
    );
    let refused = joiner.receive(altered.as_bytes()).unwrap_err();
    assert_eq!(refused, SessionError::Forged);
    let (mut joiner, mut gate) = chosen();
    let commit = gate.commit(&peers(&end("other"))).unwrap();
    assert_eq!(joiner.receive(&commit).unwrap_err(), SessionError::Forged);
}

#[test]
fn messages_are_bounded_and_come_in_order() {
    let mut gate = gate(ends(1), "s1");
    let large = vec![b' '; MOST_UNPROVEN + 1];
    assert!(matches!(
        gate.receive(&large).unwrap_err(),
        SessionError::Message(MessageError::TooLarge { .. })
    ));
    for frame in [&b"GET / HTTP/1.1"[..], b"{}", b"\xff"] {
        let mut gate = self::gate(ends(1), "s1");
        assert!(matches!(
            gate.receive(frame).unwrap_err(),
            SessionError::Message(MessageError::Malformed(_))
        ));
    }
    for frame in [Joiner::alive(), Joiner::pinned()] {
        let mut gate = self::gate(ends(1), "s1");
        assert!(matches!(
            gate.receive(&frame).unwrap_err(),
            SessionError::Unexpected(_)
        ));
    }
    let mut gate = self::gate(ends(1), "s1");
    let hello = message::encode(&FromJoiner::Hello {
        protocol: PROTOCOL,
        intent: intent(),
        pake: "not base64".to_owned(),
    });
    assert_eq!(gate.receive(&hello).unwrap_err(), SessionError::NotProven);
    assert!(gate.receive(&hello).is_err(), "nothing after an error");
}

fn roster() -> Roster {
    let own = Intent {
        name: "micro01".to_owned(),
        address: address(),
        ..intent()
    };
    Roster::new(own, end("micro01").fingerprint, TrustStore::default())
}

fn applicant(name: &str, key: &str, at: &str) -> Applicant {
    Applicant {
        intent: Intent {
            name: name.to_owned(),
            address: at.parse().unwrap(),
            ..intent()
        },
        fingerprint: end(key).fingerprint,
        from: at.parse().unwrap(),
    }
}

#[test]
fn nobody_takes_the_place_of_another() {
    let mut roster = roster();
    let first = applicant("micro02", "two", "192.0.2.2");
    roster.admit(first.clone()).unwrap();
    roster.admit(first).unwrap();
    let mut liar = applicant("micro03", "three", "192.0.2.3");
    liar.intent.address = "192.0.2.2".parse().unwrap();
    for (applicant, said) in [
        (
            applicant("micro02", "evil", "192.0.2.66"),
            "waits already, with the key",
        ),
        (
            applicant("micro03", "evil", "192.0.2.2"),
            "is the address of micro02",
        ),
        (
            applicant("micro03", "two", "192.0.2.3"),
            "its key is that of micro02",
        ),
        (
            applicant("micro01", "evil", "192.0.2.66"),
            "is the initiator itself",
        ),
        (
            applicant("micro03", "three", "192.0.2.1"),
            "is the address of micro01",
        ),
        (
            liar,
            "says that its address is 192.0.2.2, and calls from 192.0.2.3",
        ),
    ] {
        let refused = roster.admit(applicant).unwrap_err();
        assert!(refused.contains(said), "{refused}");
    }
    roster
        .admit(applicant("micro03", "three", "192.0.2.3"))
        .unwrap();
}

#[test]
fn machines_that_would_not_fit_are_refused_with_both_versions() {
    let mut other = applicant("micro02", "two", "192.0.2.2");
    other.intent.agent_version = "2".to_owned();
    let refused = roster().admit(other).unwrap_err();
    assert!(
        refused.contains("version 2, and the initiator's 1"),
        "{refused}"
    );
    let mut other = applicant("micro02", "two", "192.0.2.2");
    other.intent.service = String::new();
    let refused = roster().admit(other).unwrap_err();
    assert!(
        refused.contains("it runs no LXD with 300 API extensions, and the initiator lxd 5.0.2"),
        "{refused}"
    );
}
