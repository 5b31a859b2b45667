//! `microcloud init` of the whole cloud — LXD, OVN and Ceph — that is aborted at every question, and at
//! random moments of forming: run again, it goes on or starts over, and ends with the same cloud. Takes
//! half an hour; `make prove` runs it and keeps the table in `docs/proof/init.md`.

mod common;

use common::proof::{Page, versions};
use common::random::Random;
use common::real::{Cloud, FIRST, Outcome, text};
use common::terminal::{self, answer, ends_well, shown, terminal};
use common::whole::{self, HOSTS};
use rexpect::session::PtySession;
use serde_json::Value;
use std::io::Write;
use std::process::{Child, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How often it is aborted.
const RUNS: u32 = 20;

/// The moments lie within the time that forming takes when nothing happens, and this much of it.
const SPAN: f64 = 1.05;

/// How often it is aborted while the machines meet, and how long that takes.
const MEETINGS: u32 = 8;
const MEETING: Duration = Duration::from_millis(2500);

const LIMIT: Duration = Duration::from_secs(300);

/// How long a joiner may take to learn that its session is over.
const LEARNS: Duration = Duration::from_secs(90);

const PASSPHRASE: &str = "copper lantern orbit meadow";

/// How `init` is aborted.
#[derive(Clone, Copy)]
enum Abort {
    /// By Ctrl-C.
    Interrupt,
    /// It is killed, as when the connection to the machine is lost.
    Kill,
    /// It is killed, and with it the agent of its machine, which begins anew.
    KillAgent,
}

impl Abort {
    const ALL: [Abort; 3] = [Abort::Interrupt, Abort::Kill, Abort::KillAgent];

    fn words(self) -> &'static str {
        match self {
            Abort::Interrupt => "interrupted",
            Abort::Kill => "killed",
            Abort::KillAgent => "killed, and the agent",
        }
    }

    fn script(self) -> &'static str {
        match self {
            Abort::Interrupt => "pkill -INT -f '^microcloud init '",
            Abort::Kill => "pkill -KILL -f '^microcloud init '",
            Abort::KillAgent => {
                "pkill -KILL -f '^microcloud init '; \
                 systemctl kill --signal=KILL microcloud; sleep 1; systemctl start microcloud"
            }
        }
    }
}

/// A command that reads the passphrase and goes on by itself.
fn begin(cloud: &Cloud, host: &str, words: &[String]) -> Outcome<Child> {
    let mut child = cloud
        .command(host, words)?
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(PASSPHRASE.as_bytes())?;
    }
    Ok(child)
}

/// `init` with flags alone, for the cloud of `examples/three-node`.
fn init(cloud: &Cloud) -> Outcome<Child> {
    let view = cloud.view()?;
    let outside = |end: &str| view.uplink.replace(".0/24", end);
    let mut words: Vec<String> = [
        "microcloud",
        "init",
        "--yes",
        "--members=micro02,micro03",
        "--passphrase-file=-",
        "--local-driver=btrfs",
        "--uplink=up0",
        "--timeout=240s",
    ]
    .map(str::to_owned)
    .into();
    for host in HOSTS {
        for (flag, disk) in [("local", 1), ("ceph", 2)] {
            words.push(format!(
                "--{flag}-disk={host}=/dev/disk/by-id/sandbox-{host}-disk{disk}"
            ));
        }
    }
    words.extend([
        format!("--address={}", cloud.address(FIRST)?),
        format!("--ipv4-gateway={}", outside(".1/24")),
        format!("--ipv4-range={}-{}", outside(".100"), outside(".200")),
        format!("--underlay={}", view.underlay),
    ]);
    begin(cloud, FIRST, &words)
}

fn join(cloud: &Cloud, host: &str) -> Outcome<Child> {
    let words = [
        "microcloud".to_owned(),
        "join".to_owned(),
        "--yes".to_owned(),
        "--passphrase-file=-".to_owned(),
        "--timeout=240s".to_owned(),
        format!("--address={}", cloud.address(host)?),
        format!("--initiator-address={}", cloud.address(FIRST)?),
    ];
    begin(cloud, host, &words)
}

fn said(out: &Output) -> String {
    let all = text(&out.stdout) + &text(&out.stderr);
    let last = all.lines().rev().find(|l| !l.trim().is_empty());
    last.unwrap_or_default().trim().to_owned()
}

/// Waits for a command, but not for ever; one that goes on is ended.
fn ended(mut child: Child, limit: Duration) -> Outcome<Option<Output>> {
    let begun = Instant::now();
    while child.try_wait()?.is_none() {
        if begun.elapsed() >= limit {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(Duration::from_millis(100));
    }
    Ok(Some(child.wait_with_output()?))
}

fn is_good(out: &Output) -> bool {
    out.status.code() == Some(0)
}

/// One more `init`, with those joiners that are not in yet.
fn again(cloud: &Cloud, joiners: &[&str]) -> Outcome {
    let first = init(cloud)?;
    let others: Vec<(&str, Child)> = joiners
        .iter()
        .map(|host| Ok((*host, join(cloud, host)?)))
        .collect::<Outcome<_>>()?;
    let out = ended(first, LIMIT)?.ok_or("`init` did not end")?;
    let mut told = Vec::new();
    if !is_good(&out) {
        told.push(format!("init: {}", said(&out)));
    }
    for (host, child) in others {
        match ended(child, LEARNS)? {
            Some(out) if is_good(&out) => {}
            Some(out) => told.push(format!("join on {host}: {}", said(&out))),
            None => told.push(format!("join on {host} goes on")),
        }
    }
    match told.is_empty() {
        true => Ok(()),
        false => Err(told.join("; ").into()),
    }
}

struct Run {
    /// What the first `init` had come to, by what its joiners ended with.
    reached: String,
    took: Duration,
}

/// Aborts `init` and runs it again.
fn run(how: Option<(Abort, Duration)>, expected: &mut Option<Value>) -> Outcome<Run> {
    let mut done = Run {
        reached: String::new(),
        took: Duration::ZERO,
    };
    whole::fresh("t-init", |cloud| {
        cloud.start_agents(&HOSTS)?;
        let begun = Instant::now();
        match how {
            None => again(cloud, &HOSTS[1..])?,
            Some((abort, moment)) => {
                let first = init(cloud)?;
                let joiners = [join(cloud, HOSTS[1])?, join(cloud, HOSTS[2])?];
                thread::sleep(moment.saturating_sub(begun.elapsed()));
                // It may have ended just now.
                cloud.run(FIRST, &["sh", "-c", abort.script()], "")?;
                ended(first, LEARNS)?;
                let mut out = Vec::new();
                for (host, child) in HOSTS[1..].iter().zip(joiners) {
                    match ended(child, LEARNS)? {
                        Some(ended) if is_good(&ended) => {}
                        Some(ended) => {
                            eprintln!("join on {host} ended: {}", said(&ended));
                            out.push(*host);
                        }
                        None => return Err(format!("join on {host} waits for ever").into()),
                    }
                }
                done.reached = match out.len() {
                    0 => "went on by itself".to_owned(),
                    n => format!("{n} of 2 joined anew"),
                };
                again(cloud, &out)?;
            }
        }
        done.took = begun.elapsed();
        whole::settled(cloud, LIMIT)?;
        cloud.wait_formed(&HOSTS, LIMIT)?;
        let mut now = whole::portrait(cloud)?;
        // A subnet is chosen anew for each cloud.
        let config = &mut now["lxd"]["networks/default"]["config"];
        for key in ["ipv4.address", "ipv6.address"] {
            config
                .as_object_mut()
                .ok_or("no configuration")?
                .remove(key);
        }
        match expected {
            None => *expected = Some(now),
            Some(expected) if *expected == now => {}
            Some(expected) => {
                return Err(format!("another cloud: {now:#}, not {expected:#}").into());
            }
        }
        cloud.must(FIRST, &["microcloud", "diff"]).map(drop)
    })?;
    Ok(done)
}

#[test]
#[ignore = "takes half an hour: make prove"]
fn prove_init_that_is_aborted_can_be_run_again() -> Outcome {
    let mut random = Random::of_now()?;
    let mut page = Page::new(
        "init.md",
        "Init that is aborted",
        "Three hosts that know nothing of each other become the cloud of `examples/three-node` by \
         `microcloud init` with\nflags on one and `microcloud join` on two. At a random moment \
         `init` is interrupted or killed, every third time\nwith the agent of its machine. Run \
         again, with `join` where that had ended without success, each ends with all\nresources \
         ready and the same cloud as the run in which nothing happened. Seconds from the first \
         `init`.",
        "scripts/prove prove_init",
    );
    whole::fresh("t-init", |cloud| {
        page.line(&versions(cloud)?);
        Ok(())
    })?;
    page.line(&format!("Seed {}.\n", random.seed()));
    page.line("| run | `init` was | at | what it had begun | all ready after |");
    page.line("|---|---|---|---|---|");
    let mut expected = None;
    let whole = run(None, &mut expected)?.took;
    let seconds = |time: Duration| format!("{:.1}", time.as_secs_f64());
    page.line(&format!("| 0 | left alone | – | – | {} |", seconds(whole)));
    // `PROVE_FROM=N` begins with the Nth, to look into it; the page is only written of all.
    let from = std::env::var("PROVE_FROM").ok();
    let from: u32 = from.and_then(|n| n.parse().ok()).unwrap_or(0);
    let mut failed = Vec::new();
    for number in 1..=RUNS {
        let part = (f64::from(number - 1) + random.next()) / f64::from(RUNS);
        if number < from {
            continue;
        }
        let moment = whole.mul_f64(SPAN * part);
        let abort = Abort::ALL[usize::try_from(number)? % Abort::ALL.len()];
        let (reached, took) = match run(Some((abort, moment)), &mut expected) {
            Ok(done) => (done.reached, seconds(done.took)),
            Err(why) => {
                eprintln!("{why}");
                let why = why.to_string();
                let why = why.lines().next().unwrap_or_default();
                (format!("FAILED: {why}"), "–".to_owned())
            }
        };
        let (how, at) = (abort.words(), seconds(moment));
        let row = format!("| {number} | {how} | {at} | {reached} | {took} |");
        eprintln!("{row}");
        page.line(&row);
        if reached.starts_with("FAILED") {
            failed.push(row);
        }
    }
    if from == 0 {
        page.keep()?;
    }
    match failed.is_empty() {
        true => Ok(()),
        false => Err(failed.join("\n").into()),
    }
}

#[test]
#[ignore = "takes ten minutes: make prove"]
fn prove_init_that_is_aborted_while_machines_meet_can_be_run_again() -> Outcome {
    let mut random = Random::of_now()?;
    let mut expected = None;
    for number in 0..MEETINGS {
        let part = (f64::from(number) + random.next()) / f64::from(MEETINGS);
        let moment = MEETING.mul_f64(part);
        let abort = Abort::ALL[usize::try_from(number)? % Abort::ALL.len()];
        let done = run(Some((abort, moment)), &mut expected)
            .map_err(|why| format!("{} after {moment:?}: {why}", abort.words()))?;
        eprintln!(
            "{} after {moment:.1?}: {}, all ready after {:.1?}",
            abort.words(),
            done.reached,
            done.took
        );
    }
    Ok(())
}

/// The questions after a joiner has come, in their order, with what is answered.
fn questions(cloud: &Cloud) -> Outcome<Vec<(&'static str, String)>> {
    let view = cloud.view()?;
    let outside = |end: &str| view.uplink.replace(".0/24", end);
    let range = format!("{}-{}", outside(".100"), outside(".200"));
    let given = [
        ("Which?", "all"),
        ("Local storage", "yes"),
        // One small disk of each: they are listed machine by machine, the small one first.
        ("Which?", "1,3"),
        ("Its driver", "btrfs"),
        ("Ceph?", "yes"),
        ("Which?", "all"),
        ("(CephFS)", "no"),
        ("clients and monitors", ""),
        ("replication", ""),
        ("OVN?", "yes"),
        ("leads outside", "up0"),
        ("leads outside", "up0"),
        ("IPv4 gateway", &outside(".1/24")),
        ("may be taken", &range),
        ("IPv6 gateway", ""),
        ("Name servers", ""),
        ("tunnels", &view.underlay),
        ("Form this cloud?", "yes"),
    ];
    let owned = given.map(|(question, answer)| (question, answer.to_owned()));
    Ok(owned.into())
}

/// `init` up to where a joiner has come, and that joiner.
fn with_a_joiner(cloud: &Cloud) -> Outcome<(PtySession, PtySession)> {
    let first = cloud.address(FIRST)?.to_string();
    let words = ["microcloud", "init", "--address", &first, "--timeout=240s"];
    let mut init = terminal(cloud, FIRST, &words)?;
    answer(&mut init, "more than this machine?", "")?;
    let passphrase = shown(&mut init, "passphrase:  ")?;
    let fingerprint = shown(&mut init, "fingerprint: ")?;
    let joiner = terminal::join(cloud, HOSTS[1], &passphrase, Some(&first), &fingerprint)?;
    init.exp_string(&format!("{}  ", HOSTS[1]))?;
    init.send_line("")?;
    Ok((init, joiner))
}

#[test]
#[ignore = "takes three minutes: make prove"]
fn prove_init_that_is_aborted_at_any_question_leaves_nothing() -> Outcome {
    whole::fresh("t-init", |cloud| {
        cloud.start_agents(&HOSTS)?;
        let questions = questions(cloud)?;
        for (number, (question, _)) in questions.iter().enumerate() {
            let (mut init, mut joiner) = with_a_joiner(cloud)?;
            for (question, given) in &questions[..number] {
                answer(&mut init, question, given)?;
            }
            init.exp_string(question)?;
            init.send_control('c')?;
            init.exp_eof()?;
            joiner.exp_string("given up on micro01: aborted")?;
            joiner.exp_eof()?;
            let left = cloud.must(FIRST, &["microcloud", "get", "-o", "name"])?;
            assert_eq!(left.trim(), "", "aborted at {question:?} ({number})");
            for host in &HOSTS[..2] {
                let state = cloud.must(host, &["ls", "/var/lib/microcloud"])?;
                let trusts = state.contains("trust.json");
                assert!(
                    !trusts,
                    "aborted at {question:?} ({number}): {host}: {state}"
                );
            }
            eprintln!("aborted at {question:?}: nothing is left");
        }
        let (mut init, joiner) = with_a_joiner(cloud)?;
        for (question, given) in &questions {
            answer(&mut init, question, given)?;
        }
        ends_well(init, "init")?;
        ends_well(joiner, "join")?;
        cloud.wait_formed(&HOSTS[..2], LIMIT)
    })
}
