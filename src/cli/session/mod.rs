//! What `init`, `add` and `join` share: the session of trust on this machine's agent, and questions.

pub mod ask;
pub mod machines;
pub mod services;

use super::client::{Client, ClientError};
use super::error::CommandError;
use super::output::{Paint, print, tell};
use crate::agent::session::words::{
    ChooseJoiners, EndSession, JoinStatus, JoinerPhase, JoinerStatus, SessionOpened, SessionStatus,
};
use crate::services::host::HostReport;
use crate::services::peer::session::Passphrase;
use ask::Asker;
use futures_util::future::select_all;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::future::Future;
use std::io::Read;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::Instant;
use zeroize::Zeroizing;

/// How long one question about a session waits for a change.
const ROUND: Duration = Duration::from_secs(10);

/// How long chosen machines may take to tell their disks and interfaces.
const REPORTS: Duration = Duration::from_secs(30);

/// How many digits of a fingerprint are shown to be compared: 48 bits.
const SHOWN: usize = 12;

/// Flags of every command that takes part in a session.
#[derive(Debug, clap::Args)]
pub struct SessionArgs {
    /// How long the session may last, such as 10m; one hour at most
    #[arg(long, value_parser = humantime::parse_duration, default_value = "1h", value_name = "D")]
    pub session_timeout: Duration,

    /// How long to look for the initiator, or to wait for the machines named by --members
    #[arg(long, value_parser = humantime::parse_duration, default_value = "1m", value_name = "D")]
    pub lookup_timeout: Duration,

    /// Read the passphrase from a file; `-` is the standard input
    #[arg(long, value_name = "FILE")]
    pub passphrase_file: Option<PathBuf>,

    /// The address of this machine that the others reach it by
    #[arg(long, value_name = "IP")]
    pub address: Option<IpAddr>,

    /// Ask nothing: what no flag says has its default
    #[arg(long, short = 'y')]
    pub yes: bool,

    /// How long to wait until all is ready, such as 30m
    #[arg(long, value_parser = humantime::parse_duration, default_value = "30m", value_name = "D")]
    pub timeout: Duration,
}

impl SessionArgs {
    /// How a session is opened with these flags.
    ///
    /// # Errors
    /// The passphrase's file cannot be read.
    pub fn opening(&self, address: IpAddr) -> Result<Opening, CommandError> {
        Ok(Opening {
            passphrase: self
                .passphrase_file
                .as_deref()
                .map(passphrase)
                .transpose()?,
            lasts: self.session_timeout,
            address,
            elsewhere: "microcloud join",
        })
    }
}

/// How a session is opened.
#[derive(Debug)]
pub struct Opening {
    /// What joiners must know; made by the agent when none is given.
    pub passphrase: Option<Passphrase>,
    /// How long it may last.
    pub lasts: Duration,
    /// The address of this machine that the others reach it by.
    pub address: IpAddr,
    /// The command on the machines that shall join.
    pub elsewhere: &'static str,
}

/// A length of time as sessions take it: 1 s to one hour.
pub fn whole_seconds(given: Duration) -> u64 {
    given.as_secs().clamp(1, crate::agent::session::LONGEST)
}

/// The passphrase of a file.
///
/// # Errors
/// It cannot be read, or is empty.
pub fn passphrase(path: &Path) -> Result<Passphrase, CommandError> {
    let mut text = Zeroizing::new(String::new());
    let read = if path == Path::new("-") {
        std::io::stdin().lock().take(4096).read_to_string(&mut text)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(4096).read_to_string(&mut text))
    };
    let failed =
        |e: String| CommandError::Usage(format!("the passphrase: {}: {e}", path.display()));
    read.map_err(|e| failed(e.to_string()))?;
    let passphrase = Passphrase::parse(&text).map_err(|e| failed(e.to_string()))?;
    tell_if_weak(&passphrase);
    Ok(passphrase)
}

/// Warns of a passphrase that might be guessed.
pub fn tell_if_weak(passphrase: &Passphrase) {
    if passphrase.is_weak() {
        tell("warning: a passphrase as short as this can be guessed; four words are better\n");
    }
}

/// The part of a fingerprint that people compare.
pub fn short(fingerprint: &str) -> &str {
    fingerprint.get(..SHOWN).unwrap_or(fingerprint)
}

impl Client {
    /// What this machine is: its disks, interfaces and services.
    ///
    /// # Errors
    /// No answer came.
    pub async fn report(&self) -> Result<HostReport, ClientError> {
        self.look("/v1/agent/report", None).await
    }

    async fn session(&self, after: u64) -> Result<SessionStatus, ClientError> {
        self.look("/v1/agent/session", Some((after, ROUND))).await
    }

    async fn end_session(&self, aborted: Option<String>) -> Result<bool, ClientError> {
        self.work("/v1/agent/session/end", &EndSession { aborted })
            .await
    }

    /// Begins to join; the body is that of `POST /v1/agent/join`.
    ///
    /// # Errors
    /// No answer came, or this machine cannot join.
    pub async fn join(&self, body: &Value) -> Result<(), ClientError> {
        self.tell("/v1/agent/join", body).await
    }

    /// How joining stands; waits a while for a version above `after`.
    ///
    /// # Errors
    /// No answer came.
    pub async fn join_status(&self, after: u64) -> Result<JoinStatus, ClientError> {
        self.look("/v1/agent/join", Some((after, ROUND))).await
    }

    /// Gives joining up.
    ///
    /// # Errors
    /// No answer came.
    pub async fn end_join(&self) -> Result<bool, ClientError> {
        self.work("/v1/agent/join/end", &EndSession::default())
            .await
    }
}

/// Runs `work`, and ends it when the person at the terminal wants out, or the terminal is gone: the
/// other side is to hear of that at once.
pub async fn until_interrupted<T>(
    work: impl Future<Output = Result<T, CommandError>>,
) -> Result<T, CommandError> {
    let interrupted = [
        SignalKind::interrupt(),
        SignalKind::terminate(),
        SignalKind::hangup(),
    ]
    .map(|kind| {
        Box::pin(async move {
            match signal(kind) {
                Ok(mut signals) => signals.recv().await,
                Err(_) => std::future::pending().await, // it ends the program as ever
            }
        })
    });
    tokio::select! {
        done = work => done,
        _ = select_all(interrupted) => Err(CommandError::NotDone("aborted".to_owned())),
    }
}

/// A session that this command has opened. The agent ends one that its command does not ask about
/// any more, so one task asks all the time.
#[derive(Debug)]
pub struct Session {
    client: Client,
    status: watch::Receiver<SessionStatus>,
    asking: tokio::task::JoinHandle<()>,
    /// What the agent said when it was opened.
    pub opened: SessionOpened,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.asking.abort();
    }
}

impl Session {
    /// Opens a session and says what to do on the other machines.
    ///
    /// # Errors
    /// No answer came, or one is open.
    pub async fn open(client: &Client, opening: &Opening) -> Result<Session, CommandError> {
        let address = opening.address;
        let body = json!({
            "address": address,
            "passphrase": opening.passphrase.as_ref().map(Passphrase::expose),
            "seconds": whole_seconds(opening.lasts),
        });
        let opened: SessionOpened = client.work("/v1/agent/session", &body).await?;
        let (sender, status) = watch::channel(SessionStatus::default());
        let asker = client.clone();
        let asking = tokio::spawn(async move {
            loop {
                let after = sender.borrow().version;
                match asker.session(after).await {
                    Ok(status) => {
                        sender.send_replace(status);
                    }
                    Err(_) => tokio::time::sleep(Duration::from_millis(500)).await,
                }
            }
        });
        let paint = Paint::of_stdout();
        print(&format!(
            "On each machine that shall join: {}\n",
            paint.bold(opening.elsewhere)
        ));
        if let Some(passphrase) = &opened.passphrase {
            print(&format!("  passphrase:  {}\n", paint.bold(passphrase)));
        }
        print(&format!(
            "  fingerprint: {} (of {}, to be compared there)\n  address:     {address} (for \
             --initiator-address, where mDNS does not get through)\n",
            paint.bold(short(&opened.fingerprint)),
            opened.name,
        ));
        Ok(Session {
            client: client.clone(),
            status,
            asking,
            opened,
        })
    }

    /// Waits until the machines are there that shall join, has them chosen, and returns them with
    /// their disks and interfaces. With `expected` exactly those are taken; without, a person
    /// decides.
    ///
    /// # Errors
    /// They do not come, or the session ended.
    pub async fn gather(
        &mut self,
        ask: &mut Asker,
        expected: Option<&BTreeSet<String>>,
        lookup: Duration,
    ) -> Result<Vec<JoinerStatus>, CommandError> {
        let chosen = match expected {
            Some(expected) => self.await_expected(expected, lookup).await?,
            None => self.let_choose(ask).await?,
        };
        let fingerprints: Vec<String> = chosen.iter().map(|j| j.fingerprint.clone()).collect();
        let body = ChooseJoiners {
            fingerprints: fingerprints.clone(),
        };
        self.client.tell("/v1/agent/session/choose", &body).await?;
        let until = Instant::now() + REPORTS;
        loop {
            let status = self.now()?;
            let mut told: Vec<JoinerStatus> = status.joiners;
            told.retain(|j| fingerprints.contains(&j.fingerprint) && j.report.is_some());
            if told.len() == fingerprints.len() {
                return Ok(told);
            }
            if tokio::time::timeout_at(until, self.status.changed())
                .await
                .is_err()
            {
                let missing: Vec<&str> = chosen
                    .iter()
                    .filter(|j| told.iter().all(|t| t.fingerprint != j.fingerprint))
                    .map(|j| j.name.as_str())
                    .collect();
                let message = format!("{} told nothing of its disks", missing.join(", "));
                return Err(CommandError::NotDone(message));
            }
        }
    }

    /// How it stands.
    fn now(&self) -> Result<SessionStatus, CommandError> {
        let status = self.status.borrow().clone();
        match status.ended {
            Some(reason) => Err(CommandError::NotDone(format!(
                "the session ended: {reason}"
            ))),
            None => Ok(status),
        }
    }

    async fn await_expected(
        &mut self,
        expected: &BTreeSet<String>,
        lookup: Duration,
    ) -> Result<Vec<JoinerStatus>, CommandError> {
        let until = Instant::now() + lookup;
        let mut news = News::default();
        loop {
            let status = self.now()?;
            news.tell(&status);
            let here: Vec<JoinerStatus> = status
                .joiners
                .into_iter()
                .filter(|j| expected.contains(&j.name))
                .collect();
            if here.len() == expected.len() {
                return Ok(here);
            }
            if tokio::time::timeout_at(until, self.status.changed())
                .await
                .is_err()
            {
                let missing: Vec<&str> = expected
                    .iter()
                    .filter(|name| here.iter().all(|j| j.name != **name))
                    .map(String::as_str)
                    .collect();
                let message = format!("{} did not come", missing.join(", "));
                return Err(CommandError::NotDone(message));
            }
        }
    }

    async fn let_choose(&mut self, ask: &mut Asker) -> Result<Vec<JoinerStatus>, CommandError> {
        print("Machines that know the passphrase appear here. Press Enter when all are there.\n");
        let mut news = News::default();
        loop {
            let status = self.now()?;
            news.tell(&status);
            // Cancel safe, both of them.
            tokio::select! {
                changed = self.status.changed() => {
                    if changed.is_err() {
                        return Err(CommandError::NotDone("the session ended".to_owned()));
                    }
                }
                line = ask.read() => {
                    line?;
                    let status = self.now()?;
                    if status.joiners.is_empty() {
                        print("No machine has come yet.\n");
                        continue;
                    }
                    let rows: Vec<Vec<String>> = status.joiners.iter().map(row).collect();
                    let all = (0..rows.len()).collect();
                    let header = ["NAME", "ADDRESS", "FINGERPRINT", "SERVICE"];
                    let some = |chosen: &BTreeSet<usize>| match chosen.is_empty() {
                        true => Err("choose at least one, or abort with Ctrl-C".to_owned()),
                        false => Ok(()),
                    };
                    let question = "Machines that join (compare the fingerprints):";
                    let chosen = ask.select(question, &header, &rows, &all, some).await?;
                    let mut joiners = status.joiners;
                    let mut place = 0;
                    joiners.retain(|_| {
                        place += 1;
                        chosen.contains(&(place - 1))
                    });
                    return Ok(joiners);
                }
            }
        }
    }

    /// Has the chosen machines trust the members.
    ///
    /// # Errors
    /// One of them does not.
    pub async fn commit(&self, count: usize) -> Result<(), CommandError> {
        let status: SessionStatus = self
            .client
            .work("/v1/agent/session/commit", &json!({}))
            .await?;
        let pinned = status
            .joiners
            .iter()
            .filter(|j| j.phase == JoinerPhase::Pinned)
            .count();
        if pinned == count {
            return Ok(());
        }
        let said = status.refused.last().cloned().unwrap_or_default();
        let message = format!(
            "{} of {count} machines did not confirm: {said}",
            count - pinned
        );
        Err(CommandError::NotDone(message))
    }

    /// Ends the session; the joiners are told why when it is given up.
    pub async fn end(&self, failed: Option<&CommandError>) {
        let aborted = failed.map(|error| {
            let name = &self.opened.name;
            format!("given up on {name}: {}", crate::agent::with_causes(error))
        });
        // The agent ends a session nobody asks about.
        let _ = self.client.end_session(aborted).await;
    }
}

fn row(joiner: &JoinerStatus) -> Vec<String> {
    vec![
        joiner.name.clone(),
        joiner.address.to_string(),
        short(&joiner.fingerprint).to_owned(),
        joiner.service.clone(),
    ]
}

/// Tells of each machine once, and of each that was refused.
#[derive(Debug, Default)]
struct News {
    told: BTreeSet<String>,
    refused: BTreeSet<String>,
}

impl News {
    fn tell(&mut self, status: &SessionStatus) {
        for joiner in &status.joiners {
            if self.told.insert(joiner.fingerprint.clone()) {
                print(&format!("  {}\n", row(joiner).join("  ")));
            }
        }
        for line in &status.refused {
            if self.refused.insert(line.clone()) {
                tell(&format!("  {line}\n"));
            }
        }
    }
}
