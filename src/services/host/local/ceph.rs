//! Ceph on this machine: what is set up here, and what the controller asks for.
//!
//! # Guarantees
//! - Done already is done: every request can be made again after it was cut in two.
//! - What is there of another cluster is never touched.
//! - Keys are written to files that only root, or only Ceph's own user, can read, and passed in
//!   pipes; they are never arguments and never in errors.

use super::ceph_conf;
use super::ceph_label;
use super::ceph_osd_begun::Begun;
use super::ceph_osd_dirs::{DEVICE, line, sealed};
use super::{Roots, ceph_daemons, ceph_form, ceph_osd};
use crate::services::ceph::{Bridge, Ceph, CephError};
use crate::services::host::types::{DiskReport, HostError};
use crate::services::host::{
    CephAnswer, CephDaemon, CephDaemonKind, CephOsd, CephReport, CephRequest,
};
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use tokio::process::Command;

/// Programs that are needed, and the package each is in.
const PROGRAMS: [(&str, &str); 5] = [
    ("ceph-mon", "ceph-mon"),
    ("ceph-mgr", "ceph-mgr"),
    ("ceph-mds", "ceph-mds"),
    ("ceph-osd", "ceph-osd"),
    ("ceph-volume", "ceph-volume"),
];

/// How long systemd may take to answer a question.
const ASKING: Duration = Duration::from_secs(5);

/// The state of a unit that runs.
pub(super) const ACTIVE: &str = "active";

/// How long a daemon must run until its start counts: one that cannot do its work ends sooner.
const STEADY: Duration = Duration::from_secs(3);

/// How often it is looked at meanwhile.
const AGAIN: Duration = Duration::from_millis(250);

/// How many of the last things a daemon said are repeated.
const LAST: usize = 3;

/// The most of what a daemon said that is repeated, letters.
const SAID: usize = 300;

/// How long a unit may take to start.
pub(super) const STARTING: Duration = Duration::from_secs(40);

/// Where Ceph keeps its files.
#[derive(Debug, Clone)]
pub(super) struct CephHost {
    /// `/etc/ceph`.
    pub etc: PathBuf,
    /// `/var/lib/ceph`.
    pub lib: PathBuf,
    /// `/usr/bin` and `/usr/sbin`.
    pub(super) bin: [PathBuf; 2],
    /// The connection to the cluster.
    pub ceph: Ceph,
    pub(super) roots: Roots,
}

impl CephHost {
    pub(super) fn new(bridge: Arc<Bridge>, roots: Roots) -> CephHost {
        CephHost {
            etc: "/etc/ceph".into(),
            lib: "/var/lib/ceph".into(),
            bin: ["/usr/bin".into(), "/usr/sbin".into()],
            ceph: Ceph::new(bridge),
            roots,
        }
    }

    pub(super) fn conf(&self) -> PathBuf {
        self.etc.join("ceph.conf")
    }

    pub(super) fn admin_keyring(&self) -> PathBuf {
        self.etc.join("ceph.client.admin.keyring")
    }

    /// The directory of a daemon.
    pub(super) fn dir(&self, kind: CephDaemonKind, name: &str) -> PathBuf {
        self.lib.join(kind.word()).join(format!("ceph-{name}"))
    }

    /// The directory of an OSD.
    pub(super) fn osd_dir(&self, id: i64) -> PathBuf {
        self.lib.join("osd").join(format!("ceph-{id}"))
    }

    /// What `ceph.conf` holds; empty when there is none.
    pub(super) fn conf_text(&self) -> Result<String, HostError> {
        match fs::read_to_string(self.conf()) {
            Ok(text) => Ok(text),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(String::new()),
            Err(e) => Err(failed(format!(
                "cannot read {}: {e}",
                self.conf().display()
            ))),
        }
    }

    /// The cluster's id this machine is set up for; empty when it is for none.
    pub(super) fn fsid(&self) -> Result<String, HostError> {
        Ok(ceph_conf::get(&self.conf_text()?, "fsid").unwrap_or_default())
    }

    /// Refuses when this machine is set up for another cluster.
    pub(super) fn is_of(&self, fsid: &str) -> Result<(), HostError> {
        let ours = self.fsid()?;
        if ours == fsid {
            return Ok(());
        }
        Err(guard(if ours.is_empty() {
            "this machine is not set up for Ceph".to_owned()
        } else {
            format!("this machine is set up for the Ceph cluster {ours}, not {fsid}")
        }))
    }

    /// What there is of Ceph on this machine.
    pub(super) async fn report(&self, disks: &[DiskReport]) -> CephReport {
        let conf = self.conf_text().unwrap_or_default();
        let mut report = CephReport {
            missing: PROGRAMS
                .iter()
                .filter(|(program, _)| !self.bin.iter().any(|dir| dir.join(program).exists()))
                .map(|(_, package)| (*package).to_owned())
                .collect(),
            fsid: ceph_conf::get(&conf, "fsid").unwrap_or_default(),
            mon_host: ceph_conf::get(&conf, "mon_host").unwrap_or_default(),
            admin: self.admin_keyring().exists(),
            daemons: Vec::new(),
            osds: Vec::new(),
        };
        for kind in [
            CephDaemonKind::Mon,
            CephDaemonKind::Mgr,
            CephDaemonKind::Mds,
        ] {
            for name in names(&self.lib.join(kind.word())) {
                report.daemons.push(CephDaemon {
                    kind,
                    name,
                    unit: String::new(),
                });
            }
        }
        report.osds = self.osds(disks).await;
        let mut units: Vec<String> = report
            .daemons
            .iter()
            .map(|d| unit(d.kind, &d.name))
            .collect();
        units.extend(report.osds.iter().filter_map(|o| o.id).map(osd_unit));
        let states = states(&units).await;
        let state = |unit: String| {
            let at = units.iter().position(|u| *u == unit)?;
            states.get(at).cloned()
        };
        for daemon in &mut report.daemons {
            daemon.unit = state(unit(daemon.kind, &daemon.name)).unwrap_or_default();
        }
        for osd in &mut report.osds {
            osd.unit = osd
                .id
                .and_then(|id| state(osd_unit(id)))
                .unwrap_or_default();
        }
        report
    }

    /// OSDs by the labels of the disks, and encrypted ones by their directories.
    async fn osds(&self, disks: &[DiskReport]) -> Vec<CephOsd> {
        let mut osds = Vec::new();
        for disk in disks {
            // A blank disk has none, and a process that hangs on a broken disk was met already.
            let odd = |s: &String| s.starts_with("could not be examined");
            if disk.signatures.is_empty() || disk.signatures.iter().any(odd) {
                continue;
            }
            let path = PathBuf::from(&disk.path);
            let label = tokio::task::spawn_blocking(move || ceph_label::read(&path)).await;
            let Ok(Ok(Some(label))) = label else { continue };
            if label.description != "main" && !label.description.is_empty() {
                continue; // the log or the database of another one
            }
            osds.push(CephOsd {
                id: label.id,
                uuid: label.uuid,
                fsid: label.fsid,
                path: disk.path.clone(),
                ready: label.ready,
                unit: String::new(),
            });
        }
        let holds = |path: &str| {
            disks.iter().any(|d| {
                (d.path == path || d.links.iter().any(|l| l == path)) && !d.signatures.is_empty()
            })
        };
        for name in names(&self.lib.join("osd")) {
            let Ok(id) = name.parse::<i64>() else {
                continue;
            };
            let dir = self.osd_dir(id);
            let device = line(&dir, DEVICE);
            // A directory outlives what was on the disk.
            if sealed(&dir).is_none()
                || !holds(&device)
                || osds.iter().any(|o| o.id == Some(id) || o.path == device)
            {
                continue;
            }
            osds.push(CephOsd {
                id: Some(id),
                uuid: line(&dir, "fsid"),
                fsid: line(&dir, "ceph_fsid"),
                path: device,
                ready: line(&dir, "ready") == "ready",
                unit: String::new(),
            });
        }
        for begun in Begun::all(self) {
            let path = begun.disk.path;
            if begun.secret.is_some() && holds(&path) && !osds.iter().any(|o| o.path == path) {
                osds.push(CephOsd {
                    fsid: begun.fsid,
                    path,
                    ..CephOsd::default()
                });
            }
        }
        osds
    }

    /// Does what the controller asks for.
    pub(super) async fn ask(&self, request: CephRequest) -> Result<CephAnswer, HostError> {
        let told = match request {
            CephRequest::Form {
                fsid,
                name,
                address,
                public_network,
                cluster_network,
            } => {
                let networks = (public_network, cluster_network);
                ceph_form::form(self, &fsid, &name, address, networks).await
            }
            CephRequest::Access => ceph_form::access(self),
            CephRequest::Configure { access } => ceph_form::configure(self, &access),
            CephRequest::AddDaemon {
                kind,
                name,
                address,
            } => ceph_daemons::add(self, kind, &name, address).await,
            CephRequest::RemoveDaemon { kind, name } => {
                ceph_daemons::remove(self, kind, &name).await
            }
            CephRequest::StartDaemon { kind, name } => ceph_daemons::start(self, kind, &name).await,
            CephRequest::CreateOsd {
                fsid,
                disk,
                encrypt,
                wal,
                db,
            } => {
                let beside = ceph_osd::Beside { wal, db };
                ceph_osd::create(self, &fsid, &disk, encrypt, &beside).await
            }
            CephRequest::StartOsd { id, uuid } => ceph_osd::start(self, id, &uuid).await,
            CephRequest::StopOsd { id, uuid } => ceph_osd::stop(self, id, &uuid).await,
            CephRequest::ZapOsd { fsid, uuid, disk } => {
                ceph_osd::zap(self, &fsid, &uuid, disk).await
            }
            CephRequest::Forget { fsid } => ceph_daemons::forget(self, &fsid).await,
        };
        told.map(|answer| answer.unwrap_or(CephAnswer::Done))
    }
}

/// The unit of a daemon.
pub(super) fn unit(kind: CephDaemonKind, name: &str) -> String {
    format!("ceph-{}@{name}.service", kind.word())
}

/// The unit of an OSD.
pub(super) fn osd_unit(id: i64) -> String {
    format!("ceph-osd@{id}.service")
}

pub(super) fn failed(reason: impl Into<String>) -> HostError {
    HostError::Failed {
        reason: reason.into(),
    }
}

pub(super) fn guard(reason: impl Into<String>) -> HostError {
    HostError::GuardFailed {
        reason: reason.into(),
    }
}

pub(super) fn ceph_failed(error: CephError) -> HostError {
    failed(error.to_string())
}

/// The names of `ceph-NAME` in a directory, in order.
pub(super) fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            name.strip_prefix("ceph-").map(str::to_owned)
        })
        .collect();
    names.sort_unstable();
    names
}

/// The units of Ceph's daemons that have a control group, in order.
pub(super) fn running(roots: &Roots) -> Vec<String> {
    let mut units = Vec::new();
    // Of systemd alone where the first version of control groups is in use.
    for root in ["fs/cgroup", "fs/cgroup/systemd"] {
        for kind in ["mon", "mgr", "mds", "osd"] {
            let slice = format!("{root}/system.slice/system-ceph\\x2d{kind}.slice");
            let entries = fs::read_dir(roots.sys.join(slice)).into_iter().flatten();
            let names = entries.flatten().map(|e| e.file_name());
            units.extend(
                names
                    .filter_map(|name| name.into_string().ok())
                    .filter(|name| name.ends_with(".service")),
            );
        }
    }
    units.sort_unstable();
    units.dedup();
    units
}

/// The states of units, in their order; empty when systemd does not tell.
async fn states(units: &[String]) -> Vec<String> {
    if units.is_empty() {
        return Vec::new();
    }
    let mut words = vec!["show", "--property=ActiveState", "--value"];
    words.extend(units.iter().map(String::as_str));
    let said = run("systemctl", &words, None, ASKING).await;
    said.map(|text| {
        text.lines()
            .filter(|line| !line.is_empty())
            .map(str::to_owned)
            .collect()
    })
    .unwrap_or_default()
}

/// Starts a unit, now and at every boot, whatever happened to it before, and sees that it stays.
///
/// # Errors
/// It cannot be started, or ends again at once; with the last thing it said.
pub(super) async fn start_unit(unit: &str) -> Result<(), HostError> {
    let runs = state_of(unit).await == ACTIVE;
    launch_unit(unit).await?;
    if runs {
        return Ok(());
    }
    stays(unit, || std::future::ready(false)).await
}

/// Starts a unit without waiting whether it stays: who calls sees by other means that it works.
pub(super) async fn launch_unit(unit: &str) -> Result<(), HostError> {
    run("systemctl", &["enable", unit], None, STARTING).await?;
    // It may have failed too often to be started again.
    let _ = run("systemctl", &["reset-failed", unit], None, ASKING).await;
    run("systemctl", &["start", unit], None, STARTING).await?;
    Ok(())
}

/// Waits until a unit that was just started has run for a while, or works before.
///
/// # Errors
/// It ended meanwhile; with the last thing it said.
pub(super) async fn stays<W: Future<Output = bool> + Send>(
    unit: &str,
    works: impl Fn() -> W + Send,
) -> Result<(), HostError> {
    let begun = tokio::time::Instant::now();
    loop {
        alive(unit).await?;
        if begun.elapsed() >= STEADY || works().await {
            return Ok(());
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Whether a unit that was started still runs; systemd that does not answer is no reason to say no.
///
/// # Errors
/// It ended; with the last thing it said.
pub(super) async fn alive(unit: &str) -> Result<(), HostError> {
    let state = state_of(unit).await;
    if state.is_empty() || state == ACTIVE {
        return Ok(());
    }
    let id = ["show", "--property=InvocationID", "--value", unit];
    let id = run("systemctl", &id, None, ASKING)
        .await
        .unwrap_or_default();
    // Of its last run only, and nothing that systemd says of it.
    let matched = match id.trim() {
        "" => format!("_SYSTEMD_UNIT={unit}"),
        id => format!("_SYSTEMD_INVOCATION_ID={id}"),
    };
    let words = [
        "--no-pager",
        "--output=cat",
        "--lines=500",
        matched.as_str(),
    ];
    let said = run("journalctl", &words, None, ASKING)
        .await
        .unwrap_or_default();
    Err(failed(format!(
        "{unit} was started and ended at once (it is {state} now){}",
        telling(&said).map_or_else(
            || format!(": journalctl -u {unit} may tell more"),
            |line| format!(": {line}")
        )
    )))
}

/// The last things a daemon said before it ended, without the time: what is told again and again
/// must stay the same. Stacks and the log that Ceph prints after them tell nothing.
fn telling(said: &str) -> Option<String> {
    let stack = |line: &&str| line.starts_with("NOTE:") || line.starts_with("--- begin dump");
    let mut lines: Vec<&str> = said
        .lines()
        .map(|line| untimed(line.trim()))
        .take_while(|line| !stack(line))
        .filter(|line| !line.is_empty())
        .collect();
    lines.dedup();
    let last = &lines[lines.len().saturating_sub(LAST)..];
    let told = last.join("; ");
    (!told.is_empty()).then(|| told.chars().take(SAID).collect())
}

/// A line of Ceph's log without time, thread and level: `2026-01-01T10:00:00.123+0000 7f8a7b -1 `.
fn untimed(line: &str) -> &str {
    let mut words = line.splitn(4, ' ');
    let time = words.next().unwrap_or_default();
    let timed = time.len() > 20 && time.as_bytes().get(10) == Some(&b'T');
    match (timed, words.nth(2)) {
        (true, Some(rest)) => rest.trim(),
        _ => line,
    }
}

/// The state of a unit; empty when systemd does not tell.
pub(super) async fn state_of(unit: &str) -> String {
    let states = states(&[unit.to_owned()]).await;
    states.into_iter().next().unwrap_or_default()
}

/// Runs a program to its end, with something to read; gives back what it printed.
///
/// # Errors
/// It cannot be started, takes too long, or fails; with the end of what it said.
pub(super) async fn run(
    program: &str,
    words: &[&str],
    input: Option<&str>,
    deadline: Duration,
) -> Result<String, HostError> {
    run_with(program, words, &[], input, deadline).await
}

/// As [`run`], with more in the environment.
pub(super) async fn run_with(
    program: &str,
    words: &[&str],
    environment: &[(&str, &str)],
    input: Option<&str>,
    deadline: Duration,
) -> Result<String, HostError> {
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("LC_ALL", "C.UTF-8")
        .envs(environment.iter().copied())
        .args(words)
        .stdin(if input.is_some() {
            Stdio::piped()
        } else {
            Stdio::null()
        })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let mut child = command
        .spawn()
        .map_err(|e| failed(format!("cannot run {program}: {e}")))?;
    let stdin = child.stdin.take();
    let work = async {
        if let (Some(mut stdin), Some(input)) = (stdin, input) {
            use tokio::io::AsyncWriteExt;
            // A program that reads nothing closes it.
            let _ = stdin.write_all(input.as_bytes()).await;
        }
        child.wait_with_output().await
    };
    let output = tokio::time::timeout(deadline, work)
        .await
        .map_err(|_| {
            failed(format!(
                "{program} took longer than {} s",
                deadline.as_secs()
            ))
        })?
        .map_err(|e| failed(format!("cannot run {program}: {e}")))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let last: Vec<&str> = said.lines().filter(|l| !l.trim().is_empty()).collect();
    let last = last[last.len().saturating_sub(3)..].join("; ");
    Err(failed(format!(
        "{program} {} ended with {}: {last}",
        words.first().unwrap_or(&""),
        output.status
    )))
}

/// Who may read a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Readable {
    /// Everybody.
    All,
    /// Only root.
    Root,
    /// Only Ceph's own user.
    Ceph,
}

/// Writes a file so that it is there whole or not at all.
pub(super) fn write(path: &Path, content: &str, readable: Readable) -> Result<(), HostError> {
    let work = || -> io::Result<()> {
        let dir = path.parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(dir)?;
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".new");
        let new = dir.join(name);
        let _ = fs::remove_file(&new);
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(if readable == Readable::All {
                0o644
            } else {
                0o600
            })
            .open(&new)?;
        file.write_all(content.as_bytes())?;
        if readable == Readable::Ceph {
            own(&new)?;
        }
        file.sync_all()?;
        fs::rename(&new, path)
    };
    work().map_err(|e| failed(format!("cannot write {}: {e}", path.display())))
}

/// Moves a directory away under a name that nothing reads. It stays there until somebody deletes
/// it: what it holds may be the last of something.
pub(super) fn move_aside(dir: &Path) -> Result<(), HostError> {
    let name = dir.file_name().unwrap_or_default().to_string_lossy();
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    let aside = dir.with_file_name(format!(".removed-{name}-{}", now.as_secs()));
    fs::rename(dir, &aside)
        .map_err(|e| failed(format!("cannot move {} aside: {e}", dir.display())))?;
    tracing::warn!(
        "moved {} aside: {} may be deleted if nothing of it is needed",
        dir.display(),
        aside.display()
    );
    Ok(())
}

/// Gives a file or directory to Ceph's own user, who owns `/var/lib/ceph`.
pub(super) fn own(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::MetadataExt;
    let owner = fs::metadata("/var/lib/ceph")?;
    chown(path, Some(owner.uid()), Some(owner.gid()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn daemons_that_run_are_seen_without_a_process() {
        let dir = tempfile::tempdir().unwrap();
        let roots = Roots {
            sys: dir.path().to_owned(),
            ..Roots::default()
        };
        assert!(running(&roots).is_empty());
        for (kind, unit) in [("osd", "ceph-osd@1.service"), ("mon", "ceph-mon@a.service")] {
            let slice = format!("fs/cgroup/system.slice/system-ceph\\x2d{kind}.slice");
            fs::create_dir_all(dir.path().join(slice).join(unit)).unwrap();
        }
        assert_eq!(
            running(&roots),
            ["ceph-mon@a.service", "ceph-osd@1.service"]
        );
    }

    #[test]
    fn the_last_things_a_daemon_said_are_repeated_in_words_that_stay_the_same() {
        let at = |time: &str, text: &str| {
            format!("2026-01-01T10:00:{time}+0000 7f8a7b99a6c0 -1 {text}\n")
        };
        let said = |time: &str| {
            let mut text = at(time, "starting") + &at(time, "must have been removed");
            text += &at(time, " ** ERROR: osd init failed: (5) Input/output error");
            text + "failed to initialize\nNOTE: a copy of the executable\n#1 frame\n"
        };
        let told = telling(&said("00.123")).expect("a line");
        assert_eq!(
            told,
            "must have been removed; ** ERROR: osd init failed: (5) Input/output error; failed to \
             initialize"
        );
        assert_eq!(telling(&said("59.999")), Some(told));
        assert_eq!(telling(" \n"), None);
    }
}
