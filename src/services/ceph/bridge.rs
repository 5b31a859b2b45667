//! The process that carries commands to Ceph: one Python process with one connection, fed with
//! lines of JSON.

use super::command::{Command, Transport};
use super::error::CephError;
use async_trait::async_trait;
use serde::Deserialize;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, SystemTime};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::sync::Mutex;

/// How long Ceph itself tries to answer; a little less than we wait.
const OWN_DEADLINE: Duration = Duration::from_secs(8);

/// How long we wait for an answer.
const DEADLINE: Duration = Duration::from_secs(10);

/// The most of a message that is repeated in an error.
const SAID: usize = 500;

/// The program that runs in the process.
const PROGRAM: &str = include_str!("bridge.py");

/// The connection to the Ceph cluster that this machine's `ceph.conf` names. A process is started
/// when there is something to ask, and again when it died, hangs, or the files changed.
#[derive(Debug)]
pub struct Bridge {
    dir: PathBuf,
    running: Mutex<Option<Running>>,
}

impl Default for Bridge {
    fn default() -> Bridge {
        Bridge::new("/etc/ceph")
    }
}

#[derive(Debug)]
struct Running {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    last: u64,
    of: Files,
}

/// When the files were written that a connection is made from.
type Files = [Option<SystemTime>; 2];

#[derive(Debug, Deserialize)]
struct Line {
    id: u64,
    code: i32,
    out: String,
    said: String,
}

impl Bridge {
    /// A bridge that reads `ceph.conf` and the admin's key from `dir`; nothing is started yet.
    pub fn new(dir: impl Into<PathBuf>) -> Bridge {
        Bridge {
            dir: dir.into(),
            running: Mutex::default(),
        }
    }

    /// Ends the process; the next command starts another one.
    pub async fn rest(&self) {
        if let Some(mut running) = self.running.lock().await.take() {
            // It is killed on drop anyway; waiting leaves no zombie.
            let _ = running.child.kill().await;
        }
    }

    fn files(&self) -> Result<Files, CephError> {
        let mut times = [None; 2];
        for (time, name) in times.iter_mut().zip(["ceph.conf", KEYRING]) {
            let path = self.dir.join(name);
            let found = std::fs::metadata(&path).map_err(|_| CephError::NotSetUp {
                missing: path.display().to_string(),
            })?;
            *time = found.modified().ok();
        }
        Ok(times)
    }

    async fn start(dir: &Path, of: Files) -> Result<Running, CephError> {
        let broken = |reason: String| CephError::Bridge { reason };
        let mut child = tokio::process::Command::new("python3")
            .args(["-u", "-c", PROGRAM])
            .arg(dir.join("ceph.conf"))
            .arg(OWN_DEADLINE.as_secs().to_string())
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("CEPH_KEYRING", dir.join(KEYRING))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(|e| broken(format!("python3 cannot be started: {e}")))?;
        let input = child.stdin.take();
        let output = child.stdout.take();
        let (Some(input), Some(output)) = (input, output) else {
            return Err(broken("the process has no pipes".to_owned()));
        };
        let mut running = Running {
            child,
            input,
            output: BufReader::new(output).lines(),
            last: 0,
            of,
        };
        let hello = running.line().await?;
        if hello.code != 0 {
            return Err(CephError::Unreachable {
                reason: shorten(&hello.said),
            });
        }
        Ok(running)
    }
}

/// The file with the admin's key.
const KEYRING: &str = "ceph.client.admin.keyring";

impl Running {
    async fn line(&mut self) -> Result<Line, CephError> {
        let ended = |reason: String| CephError::Bridge { reason };
        let line = self
            .output
            .next_line()
            .await
            .map_err(|e| ended(format!("its process cannot be read: {e}")))?
            .ok_or_else(|| {
                ended("its process ended; is python3-rados (of ceph-common) installed?".to_owned())
            })?;
        serde_json::from_str(&line).map_err(|e| ended(format!("its process is confused: {e}")))
    }

    async fn ask(&mut self, command: &Command) -> Result<Line, CephError> {
        self.last += 1;
        let mut line = json!({
            "id": self.last,
            "target": command.target,
            "command": command.json(),
            "input": command.input(),
        })
        .to_string();
        line.push('\n');
        let sent = async {
            self.input.write_all(line.as_bytes()).await?;
            self.input.flush().await
        };
        sent.await.map_err(|e| CephError::Bridge {
            reason: format!("its process ended: {e}"),
        })?;
        loop {
            let answer = self.line().await?;
            if answer.id == self.last {
                return Ok(answer);
            }
        }
    }
}

#[async_trait]
impl Transport for Bridge {
    async fn send(&self, command: &Command) -> Result<String, CephError> {
        let late = || CephError::Timeout {
            command: command.prefix().to_owned(),
            deadline: DEADLINE,
        };
        let mut slot = self.running.lock().await;
        let files = self.files()?;
        // Taken out while it is used: a caller that stops waiting, a deadline or an error leaves
        // no half-read answer behind, and the process ends with the value.
        let kept = slot
            .take()
            .filter(|r| r.of == files)
            .and_then(|mut r| r.child.try_wait().ok()?.is_none().then_some(r));
        let work = async {
            let mut running = match kept {
                Some(running) => running,
                None => Bridge::start(&self.dir, files).await?,
            };
            let answer = running.ask(command).await?;
            Ok((running, answer))
        };
        let (running, answer) = tokio::time::timeout(DEADLINE, work)
            .await
            .map_err(|_| late())??;
        *slot = Some(running);
        drop(slot);
        match -answer.code {
            code if code <= 0 => Ok(answer.out),
            // ETIMEDOUT
            110 => Err(CephError::Unreachable {
                reason: format!("no answer within {} s", OWN_DEADLINE.as_secs()),
            }),
            code => Err(CephError::Refused {
                command: command.prefix().to_owned(),
                code,
                reason: shorten(&answer.said),
            }),
        }
    }
}

fn shorten(text: &str) -> String {
    text.trim().chars().take(SAID).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn without_files_nothing_is_started_and_the_missing_one_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let bridge = Bridge::new(dir.path());
        let asked = bridge.send(&Command::new("status")).await;
        let Err(CephError::NotSetUp { missing }) = asked else {
            panic!("{asked:?}");
        };
        assert!(missing.ends_with("ceph.conf"), "{missing}");
        std::fs::write(dir.path().join("ceph.conf"), "").unwrap();
        let asked = bridge.send(&Command::new("status")).await;
        assert!(
            matches!(&asked, Err(CephError::NotSetUp { missing }) if missing.ends_with(KEYRING)),
            "{asked:?}"
        );
    }
}
