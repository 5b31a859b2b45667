//! The Debian base all hosts stand on: made once, never written afterwards.

use super::command::{SHORT, run, tail};
use super::contents::{PACKAGES, SETTLE, SUITE, finish, id};
use super::files::remove_tree;
use super::layout::Layout;
use super::lock::Lock;
use super::sources::{self, Mirror};
use super::state;
use super::{Error, Report, StateDir};
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, SystemTime};

/// How long a base that nobody stands on stays after it was last taken, because another build of
/// this program may want it.
const KEPT: Duration = Duration::from_secs(24 * 3600);

/// How long mmdebstrap may say nothing.
const SILENCE: Duration = Duration::from_secs(300);

/// The root of a base.
pub(super) fn root(dir: &StateDir, id: &str) -> PathBuf {
    dir.bases().join(id).join("root")
}

/// Whether a base is there. It appears by a rename, so it is there whole or not at all.
pub(super) fn exists(dir: &StateDir, id: &str) -> bool {
    root(dir, id).is_dir()
}

/// Makes the base unless it is there. The caller holds the bases' lock.
pub(super) fn ensure(
    dir: &StateDir,
    mirror: Option<&str>,
    report: Report<'_>,
) -> Result<String, Error> {
    let id = id();
    if exists(dir, &id) {
        touch(&dir.bases().join(&id))?;
        return Ok(id);
    }
    let mirror = match mirror {
        Some(uri) => Mirror {
            uri: uri.trim_end_matches('/').to_owned(),
            signed_by: None,
        },
        None => sources::mirror(Path::new("/etc/apt"))?,
    };
    remove_unfinished(dir)?;
    let unfinished = dir.bases().join(format!(".new-{id}"));
    fs::create_dir_all(&unfinished).map_err(|e| Error::io("make", &unfinished, e))?;
    report(&format!(
        "making the base {id} (Debian {SUITE}, {} packages and what they need)",
        PACKAGES.split(' ').count()
    ));
    debootstrap(&unfinished.join("root"), &mirror, report)?;
    finish(&unfinished.join("root"))?;
    let whole = dir.bases().join(&id);
    fs::rename(&unfinished, &whole).map_err(|e| Error::io("rename to", &whole, e))?;
    remove_unused_locked(dir, |age| age > KEPT, &|_| ())?;
    Ok(id)
}

/// Runs mmdebstrap, which ends with this program however that ends: all its processes are in a pid
/// namespace whose first process is killed with us, and what it mounts (among it this machine's
/// `/sys` and `/dev/shm`, below the new root) is in a mount namespace that ends with them.
fn debootstrap(root: &Path, mirror: &Mirror, report: Report<'_>) -> Result<(), Error> {
    let mut command = Command::new("setpriv");
    command
        .args([
            "--pdeathsig",
            "KILL",
            "unshare",
            "--mount",
            "--propagation=private",
            "--pid",
            "--fork",
            "--kill-child",
            "mmdebstrap",
        ])
        .args(["--mode=root", "--variant=minbase", "--skip=output/dev"])
        .arg(format!("--include={}", PACKAGES))
        .args(
            ["doc", "man", "locale", "info"]
                .map(|d| format!("--dpkgopt=path-exclude=/usr/share/{d}/*")),
        )
        .args([
            "--aptopt=Acquire::Languages \"none\"",
            "--aptopt=Acquire::Retries \"3\"",
        ])
        .args(apt_options()?.iter().map(|o| format!("--aptopt={o}")))
        .arg(format!("--customize-hook={SETTLE}"))
        .arg(SUITE)
        .arg(root)
        .arg(mirror.line(SUITE))
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let failed = |status: String, said: &str| Error::Command {
        program: "mmdebstrap".into(),
        status,
        said: tail(said),
    };
    let mut child = command
        .spawn()
        .map_err(|e| failed("not started".into(), &e.to_string()))?;
    let (send, lines) = mpsc::channel();
    if let Some(stderr) = child.stderr.take() {
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    break;
                }
            }
        });
    }
    let mut said = String::new();
    loop {
        match lines.recv_timeout(SILENCE) {
            Ok(line) => {
                if let Some(step) = line.strip_prefix("I: ") {
                    report(&format!("base: {step}"));
                }
                said.push_str(&line);
                said.push('\n');
            }
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                let killed = child.kill().and_then(|()| child.wait());
                return Err(match killed {
                    Ok(_) => Error::Timeout {
                        what: "mmdebstrap".into(),
                        deadline: SILENCE,
                        hint: tail(&said),
                    },
                    Err(e) => failed("cannot be ended".into(), &e.to_string()),
                });
            }
        }
    }
    match child.wait() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(failed(status.to_string(), &said)),
        Err(e) => Err(failed("cannot be waited for".into(), &e.to_string())),
    }
}

/// The machine's own ways to its mirror: proxies, certificates, clock checks.
fn apt_options() -> Result<Vec<String>, Error> {
    Ok(reaching(&run(
        Command::new("apt-config").arg("dump"),
        None,
        SHORT,
    )?))
}

fn reaching(dump: &str) -> Vec<String> {
    const WANTED: [&str; 4] = [
        "Acquire::http::",
        "Acquire::https::",
        "Acquire::Check-Valid-Until ",
        "Acquire::Check-Date ",
    ];
    dump.lines()
        .filter(|line| WANTED.iter().any(|w| line.starts_with(w)) && !line.ends_with(" \"\";"))
        .map(|line| line.trim_end_matches(';').to_owned())
        .collect()
}

/// Removes what an interrupted making left. The caller holds the bases' lock.
fn remove_unfinished(dir: &StateDir) -> Result<(), Error> {
    for name in entries(dir)?.iter().filter(|n| n.starts_with(".new-")) {
        let path = dir.bases().join(name);
        remove_tree(&path)?;
    }
    Ok(())
}

/// As [`remove_unfinished`], unless somebody makes a base right now.
pub(super) fn remove_unfinished_if_idle(dir: &StateDir) -> Result<(), Error> {
    match Lock::base_now(dir)? {
        Some(_lock) => remove_unfinished(dir),
        None => Ok(()),
    }
}

/// Removes the bases that no sandbox stands on.
pub(super) fn remove_unused(dir: &StateDir, report: Report<'_>) -> Result<(), Error> {
    let lock = Lock::base(dir)?;
    remove_unfinished(dir)?;
    remove_unused_locked(dir, |_| true, report)?;
    drop(lock);
    // Each goes when nothing is in it any more.
    for empty in [
        dir.bases(),
        dir.sandboxes(),
        dir.locks(),
        dir.path().to_owned(),
    ] {
        let _ = fs::remove_dir(empty);
    }
    Ok(())
}

/// Removes the bases no sandbox stands on whose age (since they were last taken for a new sandbox)
/// `goes`. The caller holds the bases' lock.
fn remove_unused_locked(
    dir: &StateDir,
    goes: impl Fn(Duration) -> bool,
    report: Report<'_>,
) -> Result<(), Error> {
    let mut used = Vec::new();
    for name in state::names(dir)? {
        // A sandbox whose state cannot be read may stand on any base.
        match state::read(&Layout::new(dir.clone(), &name)?) {
            Ok(Some(stored)) => used.push(stored.base),
            Ok(None) => {}
            Err(_) => return Ok(()),
        }
    }
    for id in entries(dir)?.iter().filter(|n| !n.starts_with('.')) {
        if used.contains(id) {
            report(&format!("base {id} stays: a sandbox stands on it"));
            continue;
        }
        let path = dir.bases().join(id);
        // A clock that was set back makes a base new, not old.
        let age = fs::metadata(&path)
            .and_then(|m| m.modified())
            .map_err(|e| Error::io("look at", &path, e))?
            .elapsed()
            .unwrap_or_default();
        if !goes(age) {
            continue;
        }
        // By a rename first: a base is there whole or not at all, also when this is interrupted.
        let going = dir.bases().join(format!(".new-{id}"));
        fs::rename(&path, &going).map_err(|e| Error::io("remove", path, e))?;
        remove_tree(&going)?;
        report(&format!("base {id} removed"));
    }
    Ok(())
}

/// Notes that a base was taken now.
fn touch(base: &Path) -> Result<(), Error> {
    File::open(base)
        .and_then(|dir| dir.set_modified(SystemTime::now()))
        .map_err(|e| Error::io("touch", base, e))
}

fn entries(dir: &StateDir) -> Result<Vec<String>, Error> {
    match fs::read_dir(dir.bases()) {
        Ok(read) => Ok(read
            .filter_map(|e| e.ok()?.file_name().into_string().ok())
            .collect()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(Error::io("read", dir.bases(), e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::{Networks, Stored};

    #[test]
    fn only_ways_to_the_mirror_are_taken_from_apt() {
        let dump = "APT \"\";\nAcquire::http::Proxy \"http://p.example:3128\";\nAcquire::https::CAInfo \"\";\n\
                    Acquire::Check-Date \"false\";\nAcquire::IndexTargets::deb \"\";\nDPkg::Post-Invoke:: \"x\";\n";
        assert_eq!(
            reaching(dump),
            [
                "Acquire::http::Proxy \"http://p.example:3128\"",
                "Acquire::Check-Date \"false\""
            ]
        );
    }

    #[test]
    fn bases_in_use_stay_and_unfinished_ones_go() -> Result<(), Box<dyn std::error::Error>> {
        let temp = tempfile::tempdir()?;
        let dir = StateDir::new(temp.path());
        for name in ["used", "old", ".new-abc"] {
            fs::create_dir_all(dir.bases().join(name).join("root"))?;
        }
        let networks = Networks {
            internal: "10.0.0.0/24".parse()?,
            underlay: "10.0.1.0/24".parse()?,
            uplink: "10.0.2.0/24".parse()?,
        };
        let stored = Stored {
            base: "used".into(),
            networks,
            hosts: Default::default(),
        };
        let layout = Layout::new(dir.clone(), "x")?;
        state::write(&layout, &stored)?;
        let held = Lock::base(&dir)?;
        remove_unfinished_if_idle(&dir)?;
        assert_eq!(entries(&dir)?.len(), 3);
        drop(held);
        File::open(dir.bases().join("old"))?.set_modified(SystemTime::now() - KEPT * 2)?;
        fs::create_dir_all(dir.bases().join("recent/root"))?;
        remove_unused_locked(&dir, |age| age > KEPT, &|_| ())?;
        assert!(exists(&dir, "used") && exists(&dir, "recent") && !exists(&dir, "old"));
        remove_unused(&dir, &|_| ())?;
        assert_eq!(entries(&dir)?, ["used"]);
        assert!(exists(&dir, "used") && !exists(&dir, "old"));
        // With a state that cannot be read nothing is taken away.
        fs::write(layout.state_file(), "?")?;
        remove_unused(&dir, &|_| ())?;
        assert!(exists(&dir, "used"));
        Ok(())
    }
}
