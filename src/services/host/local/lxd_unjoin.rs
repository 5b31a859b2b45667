//! Undoing a join that was cut in two.
//!
//! When the database leader of the cluster restarts in the midst of a join, or the joining machine
//! loses power, LXD 5.0 may be left with the cluster's database, in which it is no member: it
//! answers nothing any more or does not start, and nothing in its API helps. A machine that was
//! joining held nothing (or what was approved), so its database is put aside and the service
//! starts as a new one.
//!
//! # Guarantees
//! - That a join was begun is on disk before it begins, and gone once it has ended either way.
//!   Without that mark nothing is undone but what the service itself says is no member: it is in a
//!   cluster, under no name, and is not forming or joining one.
//! - Nothing is undone on this machine's own decision: who asks has seen that it is no member.
//! - The database is put aside as `database.unjoined`, not destroyed.

use super::join_remains::Begun;
use super::lxd_form::forming;
use crate::services::host::types::HostError;
use crate::services::lxd::Lxd;
use crate::services::peer::state_file;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use tokio::process::Command;
use tokio::time::timeout;

/// How old the mark must be: a service that starts, or is in the midst of a join, is silent too.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long the service may take for one answer.
const ANSWER: Duration = Duration::from_secs(3);

/// How long one command of `systemctl` may take.
const UNITS: Duration = Duration::from_secs(60);

/// What of the service's directory says that it is in a cluster.
const CLUSTERED: [&str; 3] = ["database", "cluster.crt", "cluster.key"];

/// Where a service is and which units start it.
pub(super) struct Service {
    /// Where it keeps its state.
    pub directory: &'static str,
    /// The unit of its socket.
    pub socket: &'static str,
    /// The unit of its daemon.
    pub daemon: &'static str,
    /// The program, for what is done while the daemon does not run.
    pub program: &'static str,
}

/// Where services may be.
pub(super) const SERVICES: [Service; 3] = [
    Service {
        directory: "/var/snap/lxd/common/lxd",
        socket: "snap.lxd.daemon.unix.socket",
        daemon: "snap.lxd.daemon.service",
        program: "/snap/bin/lxd",
    },
    Service {
        directory: "/var/lib/lxd",
        socket: "lxd.socket",
        daemon: "lxd.service",
        program: "lxd",
    },
    Service {
        directory: "/var/lib/incus",
        socket: "incus.socket",
        daemon: "incus.service",
        program: "incusd",
    },
];

/// The mark that a join was begun; without a state directory there is none.
#[derive(Debug, Clone, Default)]
pub(super) struct JoinMark(Option<PathBuf>);

impl JoinMark {
    /// The mark in `state_dir`.
    pub(super) fn in_dir(state_dir: &Path) -> JoinMark {
        JoinMark(Some(state_dir.join("joining")))
    }

    /// Sets it: a join begins, with these disks and pools.
    pub(super) fn set(&self, begun: &Begun) -> Result<(), HostError> {
        let Some(path) = &self.0 else { return Ok(()) };
        let failed = |reason: String| HostError::Failed { reason };
        let text = serde_json::to_vec(begun).map_err(|e| failed(e.to_string()))?;
        state_file::write(path, &text).map_err(|e| failed(e.to_string()))
    }

    /// What the join began with, as far as that is known.
    pub(super) fn begun(&self) -> Begun {
        let read = self.0.as_ref().and_then(|path| fs::read(path).ok());
        read.and_then(|text| serde_json::from_slice(&text).ok())
            .unwrap_or_default()
    }

    /// Clears it: the join has ended.
    pub(super) fn clear(&self) {
        let Some(path) = &self.0 else { return };
        match fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                tracing::warn!(%error, path = %path.display(), "the mark of a join stays");
            }
            _ => {}
        }
    }

    /// How long ago it was set, if it is.
    pub(super) fn age(&self) -> Option<Duration> {
        let modified = fs::metadata(self.0.as_ref()?).ok()?.modified().ok()?;
        Some(
            SystemTime::now()
                .duration_since(modified)
                .unwrap_or_default(),
        )
    }
}

/// What became of a join.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Became {
    /// It has ended: the service is a member, or alone again.
    Ended,
    /// It may still end.
    Runs,
    /// It does not end by itself.
    Cut,
}

/// Looks at the service for what became of a join that was begun `age` ago and that nobody here
/// waits for.
pub(super) async fn became(lxd: &Lxd, age: Duration) -> Became {
    let server = match timeout(ANSWER, lxd.server()).await {
        Ok(Ok(server)) => server.value,
        _ => return silent(age),
    };
    let clustered = server.environment.server_clustered;
    let (cluster, forming) = tokio::join!(
        timeout(ANSWER, lxd.cluster()),
        timeout(ANSWER, forming(lxd))
    );
    match (cluster, forming) {
        (_, Ok(Ok(Some(_)))) => Became::Runs,
        (Ok(Ok(cluster)), Ok(Ok(None))) if cluster.enabled == clustered => Became::Ended,
        _ if half_joined(lxd).await => Became::Cut,
        _ => silent(age),
    }
}

/// Whether the service answers and says that it is in a cluster in which it is no member, without
/// being about to become one. It goes on saying so for ever.
pub(super) async fn half_joined(lxd: &Lxd) -> bool {
    // The operation first: once it has ended, what is read after it is what came of it.
    if !matches!(timeout(ANSWER, forming(lxd)).await, Ok(Ok(None))) {
        return false;
    }
    let server = timeout(ANSWER, lxd.server()).await;
    let nameless = matches!(server, Ok(Ok(server)) if {
        let environment = &server.value.environment;
        environment.server_clustered && environment.server_name.is_empty()
    });
    nameless && matches!(timeout(ANSWER, lxd.cluster()).await, Ok(Ok(c)) if !c.enabled)
}

fn silent(age: Duration) -> Became {
    if age >= PATIENCE {
        Became::Cut
    } else {
        Became::Runs
    }
}

/// Stops the service at a socket, puts its database aside and starts it as one that is in no
/// cluster.
///
/// # Errors
/// It is at no known place, or a command failed; the sentence says what to do by hand.
pub(super) async fn undo(socket: &Path) -> Result<(), HostError> {
    let failed = |reason: String| HostError::Failed { reason };
    let directory = socket.parent().unwrap_or(socket);
    let service = SERVICES
        .iter()
        .find(|s| Path::new(s.directory) == directory)
        .ok_or_else(|| {
            failed(format!(
                "the join was cut in two and {} is at no known place: stop the service, move its \
                 database away and start it",
                directory.display()
            ))
        })?;
    tracing::warn!(
        directory = service.directory,
        "undoing a join that was cut in two: the service starts with a new database"
    );
    // It does not stop by itself: it waits for the database.
    let _ = systemctl(&["stop", "--no-block", service.socket, service.daemon]).await;
    let _ = systemctl(&["kill", "--signal=KILL", service.daemon]).await;
    systemctl(&["stop", service.socket, service.daemon])
        .await
        .map_err(failed)?;
    // Pools that the join mounted already would keep their disks busy.
    for mount in mounts_below(&Path::new(service.directory).join("storage-pools")) {
        let _ = systemctl(&["stop", &mount]).await;
    }
    put_aside(directory).map_err(|e| {
        failed(format!(
            "cannot move the database in {} away: {e}",
            directory.display()
        ))
    })?;
    systemctl(&["start", service.socket, service.daemon])
        .await
        .map_err(failed)
}

/// Renames what says that the service is in a cluster; an older copy goes.
fn put_aside(directory: &Path) -> std::io::Result<()> {
    for name in CLUSTERED {
        let from = directory.join(name);
        let to = directory.join(format!("{name}.unjoined"));
        if !from.exists() {
            continue;
        }
        if to.is_dir() {
            fs::remove_dir_all(&to)?;
        }
        fs::rename(from, to)?;
    }
    Ok(())
}

/// The mount points below a directory, as systemd knows them.
pub(super) fn mounts_below(directory: &Path) -> Vec<String> {
    let mounts = fs::read_to_string("/proc/1/mountinfo").unwrap_or_default();
    mounts
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .filter(|place| Path::new(place).starts_with(directory))
        .map(str::to_owned)
        .collect()
}

pub(super) async fn systemctl(words: &[&str]) -> Result<(), String> {
    run("systemctl", words).await
}

/// Runs a command to its end; the error is what it said.
pub(super) async fn run(program: &str, words: &[&str]) -> Result<(), String> {
    let what = format!("{program} {}", words.join(" "));
    let mut command = Command::new(program);
    command
        .args(words)
        .stdin(std::process::Stdio::null())
        .kill_on_drop(true);
    match timeout(UNITS, command.output()).await {
        Ok(Ok(out)) if out.status.success() => Ok(()),
        Ok(Ok(out)) => {
            let said = String::from_utf8_lossy(&out.stderr);
            Err(format!("{what} failed: {}", said.trim()))
        }
        Ok(Err(error)) => Err(format!("{what} cannot be run: {error}")),
        Err(_) => Err(format!("{what} did not end within {} s", UNITS.as_secs())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_is_on_disk_until_it_is_cleared() {
        let dir = tempfile::tempdir().expect("a directory");
        let mark = JoinMark::in_dir(dir.path());
        assert_eq!(mark.age(), None);
        let begun = Begun {
            pools: vec!["local".to_owned()],
            ..Begun::default()
        };
        mark.set(&begun).expect("set");
        let again = JoinMark::in_dir(dir.path());
        assert!(again.age().is_some_and(|age| age < PATIENCE));
        assert_eq!(again.begun(), begun);
        mark.clear();
        assert_eq!(again.age(), None);
        assert_eq!(again.begun(), Begun::default());
        mark.clear();
    }

    #[test]
    fn the_database_is_put_aside_and_an_older_copy_goes() {
        let dir = tempfile::tempdir().expect("a directory");
        for round in ["one", "two"] {
            fs::create_dir(dir.path().join("database")).expect("made");
            fs::write(dir.path().join("database/local.db"), round).expect("written");
            fs::write(dir.path().join("cluster.crt"), round).expect("written");
            fs::write(dir.path().join("server.crt"), "kept").expect("written");
            put_aside(dir.path()).expect("put aside");
            let kept = fs::read_to_string(dir.path().join("database.unjoined/local.db"));
            assert_eq!(kept.expect("there"), round);
            assert!(!dir.path().join("database").exists());
            assert!(!dir.path().join("cluster.crt").exists());
            assert!(dir.path().join("server.crt").exists());
        }
        put_aside(dir.path()).expect("nothing to do");
    }

    #[tokio::test]
    async fn a_service_that_is_silent_is_given_time() {
        let lxd = Lxd::unix("/nowhere/unix.socket").expect("a client");
        assert_eq!(became(&lxd, Duration::from_secs(5)).await, Became::Runs);
        assert_eq!(became(&lxd, PATIENCE).await, Became::Cut);
    }

    #[tokio::test]
    async fn a_service_at_another_place_is_left_alone() {
        let refused = undo(Path::new("/nowhere/unix.socket")).await;
        assert!(matches!(refused, Err(HostError::Failed { .. })));
    }
}
