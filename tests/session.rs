//! Sessions of trust over real TLS on loopback: an honest joiner is let in while each attack goes
//! on, and no attack has any effect.

mod common;

use common::session::{ALIVE, Node, PASS, fresh_address, initiator, raw, stranger, until};
use microcloud::agent::session::words::{JoinPhase, JoinerPhase};
use microcloud::services::peer::session::{
    ALPN, EXPORTER, End, Ends, Gate, Intent, JoinerHeard, Passphrase,
};
use microcloud::services::peer::tls::{self, Presented};
use microcloud::services::peer::{Identity, Pins, VERSION};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

type Test = Result<(), Box<dyn std::error::Error>>;

/// Lets an honest machine join while `attack` goes on, which ends by itself, and looks that the
/// session knows that one machine and nobody else.
async fn beside<F: Future<Output = ()> + Send + 'static>(
    attack: impl FnOnce(Arc<Node>) -> F,
) -> Test {
    let one = Arc::new(initiator(PASS, 60).await?);
    let attack = tokio::spawn(attack(Arc::clone(&one)));
    let honest = Node::new("honest", one.port);
    honest.joins(&one, PASS).await?;
    one.waits_for(&["honest"]).await?;
    attack.await?;
    one.waits_for(&["honest"]).await?;
    one.takes_in(&honest).await?;
    assert_eq!(honest.machine.trust.key_of("one"), Some(one.key()));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_honest_machine_is_taken_in_and_several_sessions_may_follow() -> Test {
    let one = initiator(PASS, 60).await?;
    let first = Node::new("first", one.port);
    first.joins(&one, " correct  horse battery staple ").await?;
    let status = one.waits_for(&["first"]).await?;
    let joiner = &status.joiners[0];
    assert_eq!(joiner.fingerprint, first.key().as_str());
    assert_eq!(joiner.address, first.address);
    assert!(
        joiner.report.is_none(),
        "nothing is told before it is chosen"
    );
    let waiting = first.phase(JoinPhase::Waiting).await?;
    let shown = waiting.initiator.ok_or("no initiator")?;
    assert_eq!(shown.fingerprint, one.key().as_str());
    assert!(first.machine.trust.key_of("one").is_none(), "not yet");
    one.takes_in(&first).await?;
    let second = Node::new("second", one.port);
    one.opens(PASS, 60).await?;
    second.joins(&one, PASS).await?;
    one.waits_for(&["second"]).await?;
    one.takes_in(&second).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_given_up_leaves_nothing_and_says_why() -> Test {
    let one = initiator(PASS, 60).await?;
    let joiner = Node::new("joiner", one.port);
    joiner.joins(&one, PASS).await?;
    one.waits_for(&["joiner"]).await?;
    one.chooses(&joiner).await?;
    one.door.commit("one").await?;
    assert!(joiner.machine.trust.key_of("one").is_some());
    assert!(one.door.end(Some("the disks do not fit".to_owned())));
    let failed = joiner.phase(JoinPhase::Failed).await?;
    assert_eq!(failed.message, "the disks do not fit");
    assert!(joiner.machine.trust.key_of("one").is_none());
    // The joiner gives up.
    one.opens(PASS, 60).await?;
    joiner.joins(&one, PASS).await?;
    one.waits_for(&["joiner"]).await?;
    assert!(joiner.joining.end());
    one.waits_for(&[]).await?;
    joiner.phase(JoinPhase::Failed).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_1_a_wrong_passphrase() -> Test {
    beside(|one| async move {
        let wrong = Node::new("wrong", one.port);
        wrong
            .joins(&one, "correct horse battery stable")
            .await
            .unwrap();
        let failed = wrong.phase(JoinPhase::Failed).await.unwrap();
        assert!(failed.message.contains("passphrase"), "{}", failed.message);
        assert!(failed.initiator.is_none());
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_2_ten_thousand_wrong_guesses_from_one_source() -> Test {
    static TRIED: AtomicUsize = AtomicUsize::new(0);
    let begun = Instant::now();
    beside(|one| async move {
        let guesser = Arc::new(Node::new("guesser", one.port));
        let workers = (0..16).map(|_| {
            let (one, guesser) = (Arc::clone(&one), Arc::clone(&guesser));
            tokio::spawn(async move {
                while TRIED.fetch_add(1, Ordering::Relaxed) < 10_000 {
                    let number = TRIED.load(Ordering::Relaxed);
                    let guess = Passphrase::parse(&format!("guess {number}")).unwrap();
                    guesser.guesses(&one, &guess).await;
                }
            })
        });
        for worker in workers.collect::<Vec<_>>() {
            worker.await.unwrap();
        }
        let status = one.door.status(0, Duration::ZERO).await.unwrap();
        println!(
            "10,000 guesses in {:?}, {} looked at",
            begun.elapsed(),
            status.wrong
        );
        assert!((5..=12).contains(&status.wrong), "{}", status.wrong);
    })
    .await?;
    assert!(TRIED.load(Ordering::Relaxed) >= 10_000);
    Ok(())
}

/// An honest exchange with what went over the wire, for one who would say it again.
async fn recorded(one: &Node, as_whom: &Node) -> (Vec<u8>, Vec<u8>) {
    let mut stream = raw(one, as_whom).await.unwrap();
    let (mut joiner, hello) = as_whom.begin(&stream, PASS);
    stream.say(&hello).await;
    let heard = joiner.receive(&stream.hear().await.unwrap()).unwrap();
    let JoinerHeard::Challenged { reply, .. } = heard else {
        panic!("{heard:?}")
    };
    stream.say(&reply).await;
    let heard = joiner.receive(&stream.hear().await.unwrap()).unwrap();
    assert_eq!(heard, JoinerHeard::Proven);
    (hello, reply)
}

/// Says recorded messages again; what the last answer is.
async fn replayed(one: &Node, as_whom: &Node, said: &(Vec<u8>, Vec<u8>)) -> String {
    let mut stream = raw(one, as_whom).await.unwrap();
    stream.say(&said.0).await;
    assert!(stream.hear().await.is_some(), "a challenge");
    stream.say(&said.1).await;
    String::from_utf8(stream.hear().await.unwrap_or_default()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_3_a_replay() -> Test {
    beside(|one| async move {
        let victim = Node::new("victim", one.port);
        let said = recorded(&one, &victim).await;
        // With the victim's own key, which an attacker does not even have.
        let answer = replayed(&one, &victim, &said).await;
        assert!(answer.contains("notProven"), "{answer}");
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_4_a_replay_in_another_session() -> Test {
    let earlier = initiator(PASS, 60).await?;
    let victim = Node::new("victim", earlier.port);
    let said = recorded(&earlier, &victim).await;
    earlier.door.end(None);
    // The same initiator with the same passphrase, later.
    earlier.opens(PASS, 60).await?;
    let answer = replayed(&earlier, &victim, &said).await;
    assert!(answer.contains("notProven"), "{answer}");
    let honest = Node::new("honest", earlier.port);
    honest.joins(&earlier, PASS).await?;
    earlier.waits_for(&["honest"]).await?;
    earlier.takes_in(&honest).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_5_an_altered_intent() -> Test {
    beside(|one| async move {
        let victim = Node::new("victim", one.port);
        let mut stream = raw(&one, &victim).await.unwrap();
        let (mut joiner, hello) = victim.begin(&stream, PASS);
        let text = String::from_utf8(hello).unwrap();
        let altered = text.replace("\"apiExtensions\":0", "\"apiExtensions\":1");
        assert_ne!(text, altered);
        stream.say(altered.as_bytes()).await;
        let heard = joiner.receive(&stream.hear().await.unwrap()).unwrap();
        let JoinerHeard::Challenged { reply, .. } = heard else {
            panic!("{heard:?}")
        };
        stream.say(&reply).await;
        let answer = String::from_utf8(stream.hear().await.unwrap()).unwrap();
        assert!(answer.contains("notProven"), "{answer}");
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_6_a_relay_in_the_middle_with_its_own_certificate() -> Test {
    beside(|one| async move {
        // The relay calls itself as the initiator does, has a key of its own, and passes on
        // everything both say.
        let dir = tempfile::tempdir().unwrap();
        let relay = Arc::new(Identity::open(dir.path(), "one").unwrap());
        let at = fresh_address();
        let listener = TcpListener::bind((at, one.port)).await.unwrap();
        let server = tls::stranger_server_config(Arc::clone(&relay), ALPN).unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(server));
        let outer = Node::new("victim", one.port);
        let towards = Arc::clone(&one);
        let relaying = tokio::spawn(async move {
            let (tcp, _) = listener.accept().await.unwrap();
            let mut inner = acceptor.accept(tcp).await.unwrap();
            let as_victim = tempfile::tempdir().unwrap();
            let other = Arc::new(Identity::open(as_victim.path(), "victim").unwrap());
            let mut outer = stranger(&towards, other, at).await.unwrap();
            let _ = tokio::io::copy_bidirectional(&mut inner, &mut outer).await;
        });
        outer.joins_at(at, PASS).await.unwrap();
        let failed = outer.phase(JoinPhase::Failed).await.unwrap();
        assert!(
            failed.message.contains("stands between"),
            "{}",
            failed.message
        );
        relaying.abort();
        assert!(outer.machine.trust.key_of("one").is_none());
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_7_an_expired_session() -> Test {
    let one = initiator(PASS, 1).await?;
    let early = Node::new("early", one.port);
    early.joins(&one, PASS).await?;
    let told = early.phase(JoinPhase::Failed).await?;
    assert_eq!(told.message, "the time of the session is over");
    let status = one.door.status(0, Duration::ZERO).await?;
    assert!(status.ended.is_some());
    assert!(
        one.chooses(&early).await.is_err(),
        "nobody is chosen any more"
    );
    let late = Node::new("late", one.port);
    late.joins(&one, PASS).await?;
    let told = late.phase(JoinPhase::Failed).await?;
    assert!(
        told.message.contains("no session is open"),
        "{}",
        told.message
    );
    one.opens(PASS, 60).await?;
    late.joins(&one, PASS).await?;
    one.waits_for(&["late"]).await?;
    one.takes_in(&late).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_8_a_second_joiner_under_one_name() -> Test {
    let one = initiator(PASS, 60).await?;
    let honest = Node::new("honest", one.port);
    honest.joins(&one, PASS).await?;
    one.waits_for(&["honest"]).await?;
    let imposter = Node::new("honest", one.port);
    imposter.joins(&one, PASS).await?;
    let failed = imposter.phase(JoinPhase::Failed).await?;
    assert!(
        failed.message.contains("waits already"),
        "{}",
        failed.message
    );
    let status = one.waits_for(&["honest"]).await?;
    assert_eq!(status.joiners[0].fingerprint, honest.key().as_str());
    one.takes_in(&honest).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_9_a_joiner_that_claims_the_address_of_another() -> Test {
    beside(|one| async move {
        let liar = Node::new("liar", one.port);
        for claimed in [fresh_address(), one.address] {
            let mut stream = raw(&one, &liar).await.unwrap();
            let intent = Intent {
                address: claimed,
                ..liar.intent()
            };
            let (mut joiner, hello) = liar.begin_as(&stream, PASS, intent);
            stream.say(&hello).await;
            let heard = joiner.receive(&stream.hear().await.unwrap()).unwrap();
            let JoinerHeard::Challenged { reply, .. } = heard else {
                panic!("{heard:?}")
            };
            stream.say(&reply).await;
            let heard = joiner.receive(&stream.hear().await.unwrap()).unwrap();
            assert_eq!(heard, JoinerHeard::Proven);
            let answer = String::from_utf8(stream.hear().await.unwrap()).unwrap();
            assert!(answer.contains("and calls from"), "{answer}");
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_10_a_confirmation_nobody_asked_for() -> Test {
    beside(|one| async move {
        // A machine that answers like an initiator and takes everybody in at once, without the
        // passphrase.
        let dir = tempfile::tempdir().unwrap();
        let fake = Arc::new(Identity::open(dir.path(), "one").unwrap());
        let at = fresh_address();
        let listener = TcpListener::bind((at, one.port)).await.unwrap();
        let server = tls::stranger_server_config(Arc::clone(&fake), ALPN).unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(server));
        let key = fake.fingerprint().to_string();
        let faking = tokio::spawn(async move {
            let (tcp, _) = listener.accept().await.unwrap();
            let stream = acceptor.accept(tcp).await.unwrap();
            let mut exporter = [0u8; 32];
            let session = &stream.get_ref().1;
            session
                .export_keying_material(&mut exporter[..], EXPORTER, None)
                .unwrap();
            let presented =
                Presented::read(session.peer_certificates().unwrap().first().unwrap()).unwrap();
            let ends = Ends {
                joiner: End {
                    name: presented.name,
                    fingerprint: presented.fingerprint,
                },
                initiator: End {
                    name: "one".to_owned(),
                    fingerprint: fake.fingerprint().clone(),
                },
                exporter,
            };
            let mut stream = common::session::Raw(stream);
            let guess = Passphrase::parse("some other words here").unwrap();
            let mut gate = Gate::new(guess, ends, "fake", at);
            let hello = stream.hear().await.unwrap();
            let microcloud::services::peer::session::GateHeard::Hello { reply } =
                gate.receive(&hello).unwrap()
            else {
                panic!()
            };
            stream.say(&reply).await;
            let mac = "00".repeat(32);
            let peers = format!(
                r#"{{"members":[{{"name":"one","fingerprint":"{key}","address":"{at}"}}],"controller":"one"}}"#
            );
            for message in [
                format!(r#"{{"say":"chosen","mac":"{mac}"}}"#),
                format!(r#"{{"say":"commit","mac":"{mac}","peers":{peers}}}"#),
            ] {
                stream.say(message.as_bytes()).await;
            }
            let _ = stream.hear().await;
        });
        let victim = Node::new("victim", one.port);
        victim.joins_at(at, PASS).await.unwrap();
        let failed = victim.phase(JoinPhase::Failed).await.unwrap();
        assert!(failed.message.contains("confirmation"), "{}", failed.message);
        assert!(victim.machine.trust.key_of("one").is_none());
        faking.abort();
        // And on its own port nobody can confirm anything: no session is open there.
        victim.serve().await;
        let error = stranger(&victim, Arc::clone(&one.identity), one.address)
            .await
            .unwrap_err();
        assert!(error.contains("NoApplicationProtocol"), "{error}");
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_11_oversized_and_slow_messages() -> Test {
    beside(|one| async move {
        let large = Node::new("large", one.port);
        let mut stream = raw(&one, &large).await.unwrap();
        stream.0.write_all(&u32::MAX.to_be_bytes()).await.unwrap();
        stream.0.write_all(&[b'x'; 4096]).await.ok();
        assert!(stream.hear().await.is_none(), "closed at once");
        // As many slow ones as one address may have: their places are theirs alone.
        let slow = Node::new("slow", one.port);
        let mut streams = Vec::new();
        for _ in 0..4 {
            let mut stream = raw(&one, &slow).await.unwrap();
            stream.0.write_all(&100u32.to_be_bytes()).await.unwrap();
            streams.push(stream);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
        let mut refused = raw(&one, &slow).await.unwrap();
        let answer = String::from_utf8(refused.hear().await.unwrap()).unwrap();
        assert!(answer.contains("busy"), "{answer}");
        let begun = Instant::now();
        for mut stream in streams {
            while stream.0.write_all(b"x").await.is_ok() && begun.elapsed() < ALIVE * 4 {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(14), "cut off after {took:?}");
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attack_12_plain_http() -> Test {
    beside(|one| async move {
        let at = SocketAddr::new(one.address, one.port);
        // On the port without TLS.
        let mut tcp = TcpStream::connect(at).await.unwrap();
        let post = b"POST /v1/session/join HTTP/1.1\r\nhost: one\r\ncontent-length: 2\r\n\r\n{}";
        tcp.write_all(post).await.unwrap();
        let mut answer = Vec::new();
        let _ = tcp.read_to_end(&mut answer).await;
        assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
        // Inside of TLS, to where joiners come and to where members do.
        let plain = Node::new("plain", one.port);
        let mut stream = raw(&one, &plain).await.unwrap();
        stream.0.write_all(post).await.unwrap();
        assert!(stream.hear().await.is_none());
        let mut config =
            tls::stranger_client_config(Arc::clone(&plain.identity), b"http/1.1").unwrap();
        config.alpn_protocols.clear();
        let name = rustls::pki_types::ServerName::IpAddress(one.address.into());
        let tcp = TcpStream::connect(at).await.unwrap();
        let connected = TlsConnector::from(Arc::new(config))
            .connect(name, tcp)
            .await;
        let refused = match connected {
            Ok(mut stream) => {
                let _ = stream
                    .write_all(b"GET /v1/host/report HTTP/1.1\r\n\r\n")
                    .await;
                stream.read_u8().await.is_err()
            }
            Err(_) => true,
        };
        assert!(refused, "a stranger reaches no route of members");
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_joiner_that_is_let_in_reaches_the_session_and_no_route_of_members() -> Test {
    let one = initiator(PASS, 60).await?;
    let joiner = Node::new("joiner", one.port);
    joiner.joins(&one, PASS).await?;
    one.waits_for(&["joiner"]).await?;
    let status = one.chooses(&joiner).await?;
    assert_eq!(status.joiners[0].phase, JoinerPhase::Reported);
    let report = status.joiners[0].report.as_ref().ok_or("no report")?;
    assert_eq!(report.name, "joiner");
    assert_eq!(report.agent_version, VERSION);
    until("it is not trusted", || {
        one.machine.trust.admit("joiner", &joiner.key()).is_err()
    })
    .await
}
