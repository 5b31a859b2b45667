//! Forming while agents, hosts and LXD are killed at random moments: it always ends with the same
//! cluster. Takes a quarter of an hour; `make prove` runs it and keeps the table in
//! `docs/proof/forming.md`.

mod common;

use common::proof::{Page, versions};
use common::random::Random;
use common::real::{self, Cloud, FIRST, Outcome};
use serde_json::{Value, json};
use std::thread;
use std::time::{Duration, Instant};

/// The moments lie within the time that forming takes when nothing happens, and this much of it.
const SPAN: f64 = 1.1;

/// How long it may take from the agents' start until all is ready.
const LIMIT: Duration = Duration::from_secs(300);

const HOSTS: [&str; 3] = [FIRST, "micro02", "micro03"];

/// What is done to the cluster while it forms.
#[derive(Debug, Clone, Copy)]
enum Blow {
    /// `kill -9` of the leading agent; systemd starts it again.
    Agent,
    /// Power loss of a host, which is started again.
    Host(&'static str),
    /// LXD is restarted on a host.
    Lxd(&'static str),
}

/// When it is done.
#[derive(Debug, Clone, Copy)]
enum When {
    /// So long after the agents' start.
    After(Duration),
    /// So long after an agent has logged these words.
    Logged(&'static str, &'static str, Duration),
}

impl When {
    fn wait(self, cloud: &Cloud, begun: Instant) -> Outcome {
        match self {
            When::After(moment) => thread::sleep(moment.saturating_sub(begun.elapsed())),
            When::Logged(host, words, later) => {
                let grep = format!(
                    "until journalctl -u microcloud -o cat --no-pager | grep -q '{words}'; do \
                     sleep 0.02; done"
                );
                cloud.must(host, &["timeout", "60", "sh", "-c", &grep])?;
                thread::sleep(later);
            }
        }
        Ok(())
    }

    fn name(self) -> &'static str {
        match self {
            When::After(_) => "",
            When::Logged(_, "joining the cluster", _) => ", while micro03 joins",
            When::Logged(..) => ", while the pool is made",
        }
    }
}

impl Blow {
    fn name(self) -> String {
        match self {
            Blow::Agent => "`kill -9` of the leading agent".to_owned(),
            Blow::Host(host) => format!("power loss of {host}"),
            Blow::Lxd(host) => format!("`systemctl restart lxd` on {host}"),
        }
    }

    fn strike(self, cloud: &Cloud) -> Outcome {
        match self {
            Blow::Agent => {
                let kill = "systemctl kill --signal=KILL microcloud.service";
                cloud.must(FIRST, &["sh", "-c", kill])?;
            }
            Blow::Host(host) => {
                cloud.kill(host)?;
                cloud.start(host)?;
            }
            Blow::Lxd(host) => {
                cloud.must(host, &["systemctl", "restart", "lxd.service"])?;
            }
        }
        Ok(())
    }
}

/// What must be the same whatever happened on the way.
fn portrait(cloud: &Cloud) -> Outcome<Value> {
    let mut pool = cloud.query(FIRST, "/1.0/storage-pools/local")?;
    let mut network = cloud.query(FIRST, "/1.0/networks/lan")?;
    for object in [&mut pool, &mut network] {
        if let Some(config) = object["config"].as_object_mut() {
            config.retain(|key, _| !key.starts_with("volatile."));
        }
        if let Some(on) = object["locations"].as_array_mut() {
            on.sort_by_key(Value::to_string);
        }
    }
    let profile = cloud.query(FIRST, "/1.0/profiles/web")?;
    Ok(json!({
        "members": cloud.members(FIRST)?,
        "pool": pool,
        "network": network,
        "profile": profile,
        "pools": cloud.query(FIRST, "/1.0/storage-pools")?,
        "projects": cloud.query(FIRST, "/1.0/projects")?,
    }))
}

struct Run {
    blow: Option<(Blow, When)>,
    moment: Duration,
    formed: Option<Duration>,
    epoch: u64,
    result: String,
}

/// Forms a cluster on new hosts, strikes once, and waits until it stands.
fn run(blow: Option<(Blow, When)>, expected: &mut Option<Value>) -> Run {
    let mut told = Run {
        blow,
        moment: Duration::ZERO,
        formed: None,
        epoch: 0,
        result: String::new(),
    };
    let outcome = real::with("t-prove", 3, |cloud| {
        cloud.write_all(&HOSTS)?;
        let begun = Instant::now();
        cloud.start_agents(&HOSTS)?;
        if let Some((blow, when)) = blow {
            when.wait(cloud, begun)?;
            told.moment = begun.elapsed();
            blow.strike(cloud)?;
        }
        cloud.wait_formed(&HOSTS, LIMIT)?;
        told.formed = Some(begun.elapsed());
        told.epoch = cloud
            .status(FIRST)?
            .report
            .map(|r| r.lease.epoch)
            .unwrap_or_default();
        let now = portrait(cloud)?;
        match expected {
            None => *expected = Some(now),
            Some(expected) if *expected == now => {}
            Some(expected) => {
                return Err(format!("another cluster: {now:#}, not {expected:#}").into());
            }
        }
        Ok(())
    });
    told.result = match outcome {
        Ok(()) => "the same cluster".to_owned(),
        Err(why) => {
            eprintln!("{why}");
            let why = why.to_string();
            let first = why.lines().next().unwrap_or_default();
            format!("FAILED: {first}")
        }
    };
    told
}

fn row(number: usize, run: &Run) -> String {
    let formed = run
        .formed
        .map_or("–".to_owned(), |t| format!("{:.1}", t.as_secs_f64()));
    let (what, moment) = match run.blow {
        None => ("nothing".to_owned(), "–".to_owned()),
        Some((blow, when)) => (
            blow.name() + when.name(),
            format!("{:.2}", run.moment.as_secs_f64()),
        ),
    };
    format!(
        "| {number} | {what} | {moment} | {formed} | {} | {} |",
        run.epoch, run.result
    )
}

#[test]
#[ignore = "takes a quarter of an hour: make prove"]
fn prove_forming_survives_what_happens_on_the_way() -> Outcome {
    let mut random = Random::of_now()?;
    let seed = random.seed();
    let mut blows: Vec<(Blow, f64)> = Vec::new();
    // Spread over the whole time, each somewhere in its part of it.
    for part in 0..20 {
        blows.push((Blow::Agent, (f64::from(part) + random.next()) / 20.0));
    }
    for host in HOSTS {
        for part in 0..3 {
            blows.push((Blow::Host(host), (f64::from(part) + random.next()) / 3.0));
        }
        for part in 0..2 {
            blows.push((Blow::Lxd(host), (f64::from(part) + random.next()) / 2.0));
        }
    }
    let mut page = Page::new(
        "forming.md",
        "Forming, with something going wrong on the way",
        "Three new hosts form a cluster from a directory: a `btrfs` pool on one disk of each, a \
         bridge, a profile.\nWhile they do, one thing goes wrong at a random moment. Each run must \
         end with all resources ready and with\nthe same members, pool, network, profile and \
         projects as the run in which nothing went wrong. Moments and\ntimes count from the start \
         of the agents, in seconds; the epoch rises with every take-over.",
        "scripts/prove prove_form",
    );
    real::with("t-prove", 1, |cloud| {
        page.line(&versions(cloud)?);
        Ok(())
    })?;
    page.line(&format!("Seed {seed}.\n"));
    page.line("| run | what went wrong | at | formed after | epoch | ended with |");
    page.line("|---|---|---|---|---|---|");
    let mut expected = None;
    let mut runs = vec![run(None, &mut expected)];
    page.line(&row(0, &runs[0]));
    let undisturbed = runs[0].formed.ok_or("it did not form undisturbed")?;
    let mut blows: Vec<(Blow, When)> = blows
        .into_iter()
        .map(|(blow, part)| (blow, When::After(undisturbed.mul_f64(SPAN * part))))
        .collect();
    // The moments that hurt most are short: they are aimed at.
    for _ in 0..3 {
        let mut soon = || Duration::from_secs_f64(random.next() * 0.6);
        let joins = |later| When::Logged("micro03", "joining the cluster", later);
        let makes = |later| When::Logged(FIRST, "define pool local on micro03", later);
        blows.push((Blow::Lxd(FIRST), joins(soon())));
        blows.push((Blow::Host(FIRST), joins(soon())));
        blows.push((Blow::Host("micro03"), joins(soon())));
        blows.push((Blow::Host("micro03"), makes(soon())));
    }
    // `PROVE_FROM=N` begins with the Nth, to look into it; the page is only written of all.
    let from = std::env::var("PROVE_FROM")
        .ok()
        .and_then(|n| n.parse().ok());
    let from: usize = from.unwrap_or(0);
    for blow in blows.into_iter().skip(from) {
        let done = run(Some(blow), &mut expected);
        page.line(&row(runs.len(), &done));
        runs.push(done);
    }
    let failed: Vec<String> = runs
        .iter()
        .enumerate()
        .filter(|(_, run)| run.result.starts_with("FAILED"))
        .map(|(number, run)| row(number, run))
        .collect();
    if from > 0 {
        return match failed.is_empty() {
            true => Ok(()),
            false => Err(failed.join("\n").into()),
        };
    }
    page.keep()?;
    if failed.is_empty() {
        Ok(())
    } else {
        Err(failed.join("\n").into())
    }
}
