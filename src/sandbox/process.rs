//! Finding and ending the sandbox's own processes, and no others.
//!
//! A pid alone proves nothing: it may have been given to another process. What is ours is known
//! by the marker in its environment ([`super::layout::MARKER`]), which only the commands that
//! start hosts set, and is signalled through a pid file descriptor taken before the marker was
//! read, so that it cannot become another process in between.

use super::Error;
use super::layout::MARKER;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};
use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// A process and the moment it was started: together they name one process for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// The process id on this machine.
    pub pid: u32,
    /// Clock ticks after boot, field 22 of `/proc/PID/stat`.
    pub at: u64,
}

impl Started {
    /// The process that has this id now.
    pub(super) fn now(pid: u32) -> Option<Started> {
        let stat = Stat::read(pid)?;
        Some(Started {
            pid,
            at: stat.started,
        })
    }

    /// Whether that very process still runs (a zombie does not).
    pub(super) fn alive(self) -> bool {
        Stat::read(self.pid)
            .is_some_and(|s| s.started == self.at && s.state != 'Z' && s.state != 'X')
    }
}

/// What is needed of `/proc/PID/stat`.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    name: String,
    state: char,
    parent: u32,
    started: u64,
}

impl Stat {
    fn read(pid: u32) -> Option<Stat> {
        Stat::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    fn parse(text: &str) -> Option<Stat> {
        // The name is in parentheses and may itself hold parentheses and spaces.
        let (before, after) = text.rsplit_once(')')?;
        let (_, name) = before.split_once('(')?;
        let fields: Vec<&str> = after.split_ascii_whitespace().collect();
        Some(Stat {
            name: name.to_owned(),
            state: fields.first()?.chars().next()?,
            parent: fields.get(1)?.parse().ok()?,
            started: fields.get(19)?.parse().ok()?,
        })
    }
}

/// The `systemd` a supervisor holds: its child that is process 1 of its own namespace.
pub(super) fn init_of(supervisor: Started) -> Option<Started> {
    if !supervisor.alive() {
        return None;
    }
    children(supervisor.pid).into_iter().find_map(|pid| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let first_in_namespace = status
            .lines()
            .find_map(|l| l.strip_prefix("NSpid:"))
            .is_some_and(|ids| ids.split_ascii_whitespace().last() == Some("1"));
        // Before it executes systemd the child still bears the supervisor's name and mounts.
        let stat = Stat::read(pid)?;
        (first_in_namespace && stat.name == "systemd")
            .then(|| Started::now(pid))
            .flatten()
    })
}

/// The children of a process.
fn children(pid: u32) -> Vec<u32> {
    if let Ok(list) = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")) {
        return list
            .split_ascii_whitespace()
            .filter_map(|p| p.parse().ok())
            .collect();
    }
    // A kernel without that file: look at everybody's parent.
    all()
        .into_iter()
        .filter(|p| Stat::read(*p).is_some_and(|s| s.parent == pid))
        .collect()
}

/// Every process id on this machine.
fn all() -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok())
        .collect()
}

/// The host's directory a process belongs to, if it is one of ours.
fn marker(pid: u32) -> Option<PathBuf> {
    let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
    marker_in(&environment)
}

fn marker_in(environment: &[u8]) -> Option<PathBuf> {
    use std::os::unix::ffi::OsStrExt;
    environment.split(|b| *b == 0).find_map(|entry| {
        let value = entry.strip_prefix(MARKER.as_bytes())?.strip_prefix(b"=")?;
        Some(PathBuf::from(std::ffi::OsStr::from_bytes(value)))
    })
}

/// The marked processes whose host's directory is `dir` or below it.
pub(super) fn marked(dir: &Path) -> Vec<u32> {
    all()
        .into_iter()
        .filter(|pid| marker(*pid).is_some_and(|m| m.starts_with(dir)))
        .collect()
}

/// A marked process, held so that a signal reaches it and nobody else.
fn hold(pid: u32, dir: &Path) -> Option<OwnedFd> {
    let fd = pidfd_open(
        Pid::from_raw(i32::try_from(pid).ok()?)?,
        PidfdFlags::empty(),
    )
    .ok()?;
    marker(pid)
        .is_some_and(|m| m.starts_with(dir))
        .then_some(fd)
}

/// Ends every process marked with `dir` or a directory below it, at once.
///
/// The first process of a namespace takes all of its namespace with it; `systemd-nspawn` then
/// ends by itself, removing what it made on the machine, and is killed only if it does not.
///
/// # Errors
/// [`Error::LeftOver`] when something still runs after 20 s.
pub(super) fn kill_marked(dir: &Path) -> Result<(), Error> {
    let begun = Instant::now();
    let grace = Duration::from_secs(2);
    loop {
        let found = marked(dir);
        if found.is_empty() {
            return Ok(());
        }
        if begun.elapsed() > Duration::from_secs(20) {
            let pids: Vec<String> = found.iter().map(u32::to_string).collect();
            return Err(Error::LeftOver(format!("processes {}", pids.join(", "))));
        }
        for pid in found {
            let supervisor = Stat::read(pid).is_some_and(|s| s.name == "systemd-nspawn");
            // A supervisor without a child is not yet or no longer holding anything.
            if supervisor && begun.elapsed() < grace && !children(pid).is_empty() {
                continue;
            }
            if let Some(fd) = hold(pid, dir) {
                // It may have ended by itself since: then there is nothing to signal.
                let _ = pidfd_send_signal(fd, Signal::KILL);
            }
        }
        thread::sleep(Duration::from_millis(10));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn stat_with_a_nasty_name() {
        let line = "42 (a) b (c) R 7 1 1 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 123456 1 1 1";
        let stat = Stat::parse(line);
        assert_eq!(
            stat,
            Some(Stat {
                name: "a) b (c".into(),
                state: 'R',
                parent: 7,
                started: 123_456
            })
        );
        assert_eq!(Stat::parse("42 (x"), None);
        assert_eq!(Stat::parse(""), None);
    }

    #[test]
    fn the_marker_is_a_whole_variable() {
        assert_eq!(
            marker_in(b"A=1\0MICROCLOUD_SANDBOX_HOST=/x/y\0B=2"),
            Some("/x/y".into())
        );
        assert_eq!(marker_in(b"NOT_MICROCLOUD_SANDBOX_HOST=/x\0"), None);
        assert_eq!(marker_in(b"MICROCLOUD_SANDBOX_HOSTS=/x\0"), None);
    }

    #[test]
    fn only_marked_processes_end() -> Result<(), Box<dyn std::error::Error>> {
        let dir = tempfile::tempdir()?;
        let other = tempfile::tempdir()?;
        let sleep = |at: &Path| {
            Command::new("sleep")
                .arg("60")
                .env(MARKER, at)
                .stdin(Stdio::null())
                .spawn()
        };
        let mut ours = sleep(&dir.path().join("micro01"))?;
        let mut theirs = sleep(other.path())?;
        let running = Started::now(theirs.id());
        let mut seen = Vec::new();
        // The child has its environment only once it has executed.
        for _ in 0..200 {
            seen = marked(dir.path());
            if !seen.is_empty() {
                break;
            }
            thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(seen, [ours.id()]);
        let waiter = thread::spawn(move || ours.wait());
        kill_marked(dir.path())?;
        let status = waiter.join().map_err(|_| "the waiting thread failed")??;
        assert!(!status.success());
        assert!(running.is_some_and(Started::alive));
        theirs.kill()?;
        theirs.wait()?;
        assert!(!running.is_some_and(Started::alive));
        Ok(())
    }
}
