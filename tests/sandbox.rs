//! The sandbox with real hosts: needs root, `systemd-nspawn` and, for the first run, the machine's
//! Debian mirror. The tests run one after another, each in a sandbox of its own name.

use microcloud::sandbox::{Error, HostState, Options, Sandbox, StateDir, Throwaway};
use std::collections::BTreeSet;
use std::error::Error as StdError;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

type Outcome = Result<(), Box<dyn StdError>>;

const PROGRAM: &str = env!("CARGO_BIN_EXE_microcloud");

/// One test at a time: they look at what the whole machine has.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `microcloud sandbox --name NAME …`
fn microcloud(name: &str, words: &[&str]) -> std::io::Result<Output> {
    Command::new(PROGRAM)
        .args(["sandbox", "--name", name])
        .args(words)
        .stdin(Stdio::null())
        .output()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs it, and fails the test with what it said when it fails.
fn must(name: &str, words: &[&str]) -> Result<String, Box<dyn StdError>> {
    let out = microcloud(name, words)?;
    if !out.status.success() {
        return Err(format!("{words:?} ended with {}: {}", out.status, text(&out.stderr)).into());
    }
    Ok(text(&out.stdout))
}

fn pings(sandbox: &Sandbox, from: &str, to: &str) -> Result<bool, Error> {
    Ok(sandbox
        .exec(from, ["ping", "-c", "1", "-W", "1", to])?
        .status
        .success())
}

/// Whether a host is reached within 10 s: a neighbour that did not answer before is asked again
/// only after a while.
fn reaches(sandbox: &Sandbox, from: &str, to: &str) -> Result<bool, Error> {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(10) {
        if pings(sandbox, from, to)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Asks the real LXD of a host something, through its socket on this machine.
fn lxd(socket: &Path, path: &str) -> std::io::Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: lxd\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// What a sandbox of this name has on this machine, wherever it may be seen.
fn traces(name: &str) -> BTreeSet<String> {
    let unique = format!("microcloud-{name}");
    let home = format!("/var/lib/microcloud-sandbox/sandboxes/{name}");
    let ours = |text: &str| text.contains(&unique) || text.contains(&home);
    let mut found = BTreeSet::new();
    for line in fs::read_to_string("/proc/self/mountinfo")
        .unwrap_or_default()
        .lines()
        .filter(|l| ours(l))
    {
        found.insert(format!("mount {line}"));
    }
    for place in [
        "/run/netns",
        "/run/systemd/nspawn/propagate",
        "/run/systemd/nspawn/unix-export",
        "/sys/fs/cgroup/unified/microcloud-sandbox",
        "/sys/fs/cgroup/microcloud-sandbox",
        "/sys/fs/cgroup/systemd/microcloud-sandbox",
    ] {
        for entry in fs::read_dir(place).into_iter().flatten().flatten() {
            let path = entry.path().display().to_string();
            if ours(&path) {
                found.insert(format!("file {path}"));
            }
        }
    }
    if Path::new(&home).exists() {
        found.insert(format!("directory {home}"));
    }
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let read = |what: &str| {
            fs::read(entry.path().join(what))
                .map(|b| text(&b))
                .unwrap_or_default()
        };
        let command = read("cmdline");
        // This test names the sandbox as well, and so may the one who looks at it.
        if (command.contains("systemd-nspawn") && ours(&command)) || ours(&read("environ")) {
            found.insert(format!(
                "process {} {}",
                entry.path().display(),
                command.replace('\0', " ")
            ));
        }
    }
    // A loop device whose file was removed shows the path it had.
    for device in fs::read_dir("/sys/block").into_iter().flatten().flatten() {
        let file = fs::read_to_string(device.path().join("loop/backing_file")).unwrap_or_default();
        if ours(&file) || file.contains("t-sandbox-pool") {
            found.insert(format!("loop {} {file}", device.path().display()));
        }
    }
    for link in fs::read_dir("/sys/class/net")
        .into_iter()
        .flatten()
        .flatten()
    {
        let link = link.file_name().to_string_lossy().into_owned();
        if ["int", "under", "uplink"]
            .iter()
            .any(|b| link == *b || link.starts_with(&format!("{b}-")))
        {
            found.insert(format!("link {link}"));
        }
    }
    found
}

/// Every file and directory of the state directory that is not part of a base.
fn state_files() -> BTreeSet<PathBuf> {
    let root = Path::new("/var/lib/microcloud-sandbox");
    let mut found = BTreeSet::new();
    for below in ["sandboxes", "locks", "base"] {
        for entry in fs::read_dir(root.join(below))
            .into_iter()
            .flatten()
            .flatten()
        {
            found.insert(entry.path());
        }
    }
    found
}

#[test]
fn the_life_of_a_sandbox() -> Outcome {
    let _alone = alone();
    let name = "t-sandbox";
    must(name, &["down"])?;
    assert_eq!(traces(name), BTreeSet::new());

    let options = Options {
        binary: Some(PROGRAM.into()),
        disks: 1,
        disk_bytes: 512 << 20,
        ..Options::with_hosts(2)
    };
    let sandbox = Throwaway::up(name, &options)?;
    let files_with_sandbox = state_files();
    assert!(
        files_with_sandbox
            .iter()
            .any(|f| f.ends_with("sandboxes/t-sandbox"))
    );

    // Hosts: named, addressed, apart from the machine, with the program and a bare uplink.
    let view = sandbox.view()?;
    assert_eq!(
        view.hosts
            .iter()
            .map(|h| h.name.as_str())
            .collect::<Vec<_>>(),
        ["micro01", "micro02"]
    );
    assert!(
        view.hosts
            .iter()
            .all(|h| h.state == HostState::Running && h.pid.is_some())
    );
    let first = &view.hosts[0];
    let seen = text(&sandbox.exec("micro01", ["ip", "-br", "-4", "addr"])?.stdout);
    let words: Vec<&str> = seen.split_ascii_whitespace().collect();
    assert!(
        words.contains(&format!("{}/24", first.address).as_str()),
        "{seen}"
    );
    assert!(
        words.contains(&format!("{}/24", first.underlay_address).as_str()),
        "{seen}"
    );
    let uplink = text(
        &sandbox
            .exec("micro01", ["ip", "-br", "addr", "show", "dev", "up0"])?
            .stdout,
    );
    assert_eq!(
        uplink.split_ascii_whitespace().count(),
        2,
        "an uplink has no address: {uplink}"
    );
    let version = text(&sandbox.exec("micro02", ["microcloud", "--version"])?.stdout);
    assert_eq!(
        version.trim(),
        concat!("microcloud ", env!("CARGO_PKG_VERSION"))
    );
    assert!(
        sandbox
            .root("micro01")?
            .join("usr/lib/systemd/system/microcloud.service")
            .exists()
    );
    let idle = sandbox.exec("micro01", ["systemctl", "is-enabled", "microcloud.service"])?;
    assert_eq!(text(&idle.stdout).trim(), "disabled");
    assert!(reaches(&sandbox, "micro01", "micro02")?);
    let machine_netns = fs::read_link("/proc/self/ns/net")?;
    let theirs = fs::read_link(format!("/proc/{}/ns/net", first.pid.unwrap_or(1)))?;
    assert_ne!(machine_netns, theirs);

    // LXD answers on this machine's path of its socket.
    let answer = lxd(&sandbox.lxd_socket("micro01"), "/1.0")?;
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.contains("\"api_extensions\""),
        "{answer:.200}"
    );

    // Up again: the same processes, nothing restarted.
    let again = Instant::now();
    must(name, &["up", "2"])?;
    assert!(again.elapsed() < Duration::from_secs(20));
    let pids = |s: &Sandbox| -> Result<Vec<Option<u32>>, Error> {
        Ok(s.view()?.hosts.iter().map(|h| h.pid).collect())
    };
    assert_eq!(
        pids(&sandbox)?,
        view.hosts.iter().map(|h| h.pid).collect::<Vec<_>>()
    );

    // The command line: exit codes, streams, json.
    assert_eq!(
        microcloud(name, &["exec", "micro01", "--", "sh", "-c", "exit 7"])?
            .status
            .code(),
        Some(7)
    );
    let mut cat = Command::new(PROGRAM)
        .args(["sandbox", "--name", name, "exec", "micro02", "--", "cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    cat.stdin
        .take()
        .ok_or("no standard input")?
        .write_all(b"through")?;
    assert_eq!(text(&cat.wait_with_output()?.stdout), "through");
    let json: serde_json::Value = serde_json::from_str(&must(name, &["list", "-o", "json"])?)?;
    let host = &json["sandboxes"][0]["hosts"][0];
    assert_eq!(host["address"], first.address.to_string());
    assert_eq!(host["state"], "running");
    assert_eq!(
        host["disks"][0]["path"],
        "/dev/disk/by-id/sandbox-micro01-disk1"
    );

    disks(&sandbox)?;
    cut_and_heal(&sandbox)?;
    kill_and_start(&sandbox)?;

    // A third host later knows the others and is known.
    must(name, &["up", "alpha", "--no-binary"])?;
    assert!(reaches(&sandbox, "micro01", "alpha")? && reaches(&sandbox, "alpha", "micro02")?);
    assert!(
        !sandbox
            .exec("alpha", ["test", "-e", "/usr/bin/microcloud"])?
            .status
            .success()
    );

    // Nothing is left, of loop devices that LXD made for itself neither.
    assert!(!traces(name).is_empty());
    let begun = Instant::now();
    sandbox.down(&|_| ())?;
    assert!(
        begun.elapsed() < Duration::from_secs(20),
        "down took {:?}",
        begun.elapsed()
    );
    assert_eq!(traces(name), BTreeSet::new());
    let left: Vec<_> = state_files()
        .difference(&files_with_sandbox)
        .cloned()
        .collect();
    assert_eq!(left, Vec::<PathBuf>::new());
    assert!(
        !state_files()
            .iter()
            .any(|f| f.to_string_lossy().contains(name))
    );
    // Down of nothing is no error.
    must(name, &["down"])?;
    Ok(())
}

fn disks(sandbox: &Sandbox) -> Outcome {
    let link = must(sandbox.name(), &["disk", "add", "micro01", "300M"])?;
    assert_eq!(link.trim(), "/dev/disk/by-id/sandbox-micro01-disk2");
    let size = sandbox.exec("micro01", ["blockdev", "--getsize64", link.trim()])?;
    assert_eq!(text(&size.stdout).trim(), (300_u64 << 20).to_string());
    let listed = must(sandbox.name(), &["disk", "list"])?;
    assert!(
        listed.contains("sandbox-micro01-disk2") && listed.contains("300 MiB"),
        "{listed}"
    );

    // LXD makes pools: on a disk, found again by UUID, and on a loop device of its own.
    let source = "source=/dev/disk/by-id/sandbox-micro01-disk1";
    let begun = Instant::now();
    let made = sandbox.exec(
        "micro01",
        ["lxc", "storage", "create", "local", "btrfs", source],
    )?;
    assert!(made.status.success(), "{}", text(&made.stderr));
    assert!(
        begun.elapsed() < Duration::from_secs(8),
        "LXD waited for a link by UUID: {:?}",
        begun.elapsed()
    );
    let made = sandbox.exec(
        "micro01",
        [
            "lxc",
            "storage",
            "create",
            "t-sandbox-pool",
            "btrfs",
            "size=300MiB",
        ],
    )?;
    assert!(made.status.success(), "{}", text(&made.stderr));
    // A scan of all disks opens this host's own only: the kernel makes a loop device when one that
    // is not there is opened.
    let loops = || {
        fs::read_dir("/sys/block").map(|d| {
            d.flatten()
                .filter(|e| e.file_name().to_string_lossy().starts_with("loop"))
                .count()
        })
    };
    let before = loops()?;
    sandbox.exec("micro01", ["sh", "-c", "pvs; lvs"])?;
    assert!(
        loops()? < before + 16,
        "a scan made loop devices: {before}, then {}",
        loops()?
    );
    // And networks.
    let made = sandbox.exec(
        "micro01",
        [
            "lxc",
            "network",
            "create",
            "br0",
            "ipv4.address=10.199.0.1/24",
            "ipv6.address=none",
        ],
    )?;
    assert!(made.status.success(), "{}", text(&made.stderr));
    Ok(())
}

fn cut_and_heal(sandbox: &Sandbox) -> Outcome {
    let under = sandbox.host("micro01")?.underlay_address.to_string();
    sandbox.cut("micro01")?;
    assert!(!pings(sandbox, "micro02", "micro01")?);
    assert!(!pings(sandbox, "micro02", &under)?);
    assert!(!pings(sandbox, "micro01", "micro02")?);
    // The links keep their carrier, as behind a switch that lost its own uplink.
    let state = text(
        &sandbox
            .exec("micro01", ["ip", "-br", "link", "show", "dev", "host0"])?
            .stdout,
    );
    assert!(state.contains("LOWER_UP"), "{state}");
    assert!(must(sandbox.name(), &["list"])?.contains("running, cut"));
    sandbox.heal("micro01")?;
    assert!(reaches(sandbox, "micro02", "micro01")? && reaches(sandbox, "micro02", &under)?);
    Ok(())
}

fn kill_and_start(sandbox: &Sandbox) -> Outcome {
    sandbox.exec(
        "micro01",
        [
            "sh",
            "-c",
            "echo kept > /root/file; lxc profile create kept",
        ],
    )?;
    let before = sandbox.host("micro01")?;
    let others = sandbox.host("micro02")?.pid;
    must(sandbox.name(), &["kill", "micro01"])?;
    let killed = sandbox.host("micro01")?;
    assert_eq!((killed.state, killed.pid), (HostState::Stopped, None));
    assert_eq!(killed.disks[1].device, before.disks[1].device);
    let refused = microcloud(sandbox.name(), &["exec", "micro01", "--", "true"])?;
    assert_eq!(refused.status.code(), Some(3));
    assert!(
        text(&refused.stderr).contains("does not run"),
        "{}",
        text(&refused.stderr)
    );
    assert!(!pings(sandbox, "micro02", "micro01")?);

    must(sandbox.name(), &["start", "micro01"])?;
    let after = sandbox.host("micro01")?;
    assert_eq!(after.address, before.address);
    assert_ne!(after.pid, before.pid);
    assert_eq!(sandbox.host("micro02")?.pid, others);
    assert_eq!(
        text(&sandbox.exec("micro01", ["cat", "/root/file"])?.stdout),
        "kept\n"
    );
    let answer = lxd(&sandbox.lxd_socket("micro01"), "/1.0/profiles/kept")?;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer:.300}");
    let pool = sandbox.exec("micro01", ["lxc", "storage", "info", "local"])?;
    assert!(
        pool.status.success() && text(&pool.stdout).contains("total space"),
        "{}",
        text(&pool.stderr)
    );
    assert!(reaches(sandbox, "micro02", "micro01")?);
    Ok(())
}

#[test]
fn an_up_that_was_killed_is_cleaned_up() -> Outcome {
    let _alone = alone();
    let name = "t-killed";
    // The base must be there, or all the kills would hit its making.
    drop(Throwaway::up(
        name,
        &Options {
            lxd: false,
            ..Options::with_hosts(1)
        },
    )?);
    assert_eq!(traces(name), BTreeSet::new());
    for after in [5_u64, 30, 60, 90, 120, 160, 200, 300, 500, 900] {
        let mut up = Command::new(PROGRAM)
            .args([
                "sandbox",
                "--name",
                name,
                "up",
                "2",
                "--disks",
                "1",
                "--disk-size",
                "64M",
            ])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        thread::sleep(Duration::from_millis(after));
        up.kill()?;
        up.wait()?;
        must(name, &["down"])?;
        assert_eq!(traces(name), BTreeSet::new(), "killed after {after} ms");
    }
    Ok(())
}

#[test]
fn an_up_that_was_killed_can_be_continued() -> Outcome {
    let _alone = alone();
    let name = "t-again";
    must(name, &["down"])?;
    let sandbox = Sandbox::open(StateDir::from_env(), name)?;
    let mut up = Command::new(PROGRAM)
        .args(["sandbox", "--name", name, "up", "2", "--no-lxd"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    thread::sleep(Duration::from_millis(150));
    up.kill()?;
    up.wait()?;
    let continued = must(name, &["up", "2", "--no-lxd"])
        .and_then(|_| Ok(reaches(&sandbox, "micro01", "micro02")?));
    must(name, &["down"])?;
    assert!(continued?);
    assert_eq!(traces(name), BTreeSet::new());
    Ok(())
}

#[test]
fn a_killed_supervisor_and_a_reboot_are_survived() -> Outcome {
    let _alone = alone();
    let sandbox = Throwaway::up(
        "t-reboot",
        &Options {
            lxd: false,
            ..Options::with_hosts(2)
        },
    )?;
    let supervisor = |pid: u32| -> Result<u32, Box<dyn StdError>> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let (_, fields) = stat.rsplit_once(')').ok_or("no name")?;
        Ok(fields
            .split_ascii_whitespace()
            .nth(1)
            .ok_or("no parent")?
            .parse()?)
    };
    // The supervisor alone is lost: its host is cleaned away and started anew.
    let init = sandbox.host("micro01")?.pid.ok_or("not running")?;
    Command::new("kill")
        .args(["-KILL", &supervisor(init)?.to_string()])
        .status()?;
    sandbox.start("micro01")?;
    assert_ne!(sandbox.host("micro01")?.pid, Some(init));
    assert!(reaches(&sandbox, "micro01", "micro02")?);
    // A host that reboots itself is off, or on without its wires, until `start`.
    let init = sandbox.host("micro02")?.pid;
    sandbox.exec("micro02", ["systemctl", "reboot"])?;
    let begun = Instant::now();
    while sandbox.host("micro02")?.pid == init {
        assert!(
            begun.elapsed() < Duration::from_secs(30),
            "micro02 did not go down"
        );
        thread::sleep(Duration::from_millis(20));
    }
    sandbox.start("micro02")?;
    assert!(reaches(&sandbox, "micro01", "micro02")?);
    sandbox.down(&|_| ())?;
    assert_eq!(traces("t-reboot"), BTreeSet::new());
    Ok(())
}

#[test]
fn refusals_are_one_clear_line() -> Outcome {
    let _alone = alone();
    let line = |out: &Output| {
        let said = text(&out.stderr);
        assert_eq!(said.lines().count(), 1, "{said}");
        said
    };
    let out = microcloud("t-none", &["exec", "micro01", "--", "true"])?;
    assert_eq!(out.status.code(), Some(2));
    assert!(line(&out).contains("there is no sandbox \"t-none\""));
    for words in [["cut", "x"], ["heal", "x"], ["kill", "x"], ["start", "x"]] {
        assert_eq!(
            microcloud("t-none", &words)?.status.code(),
            Some(2),
            "{words:?}"
        );
    }
    assert_eq!(microcloud("../x", &["up"])?.status.code(), Some(2));
    assert_eq!(microcloud("t-none", &["up", "a/b"])?.status.code(), Some(2));
    assert_eq!(
        microcloud("t-none", &["disk", "add", "x", "9Q"])?
            .status
            .code(),
        Some(2)
    );

    // Programs that are missing, with their packages: a PATH that has none of ours is not enough,
    // as /usr/sbin is looked at as well.
    let out = Command::new(PROGRAM)
        .args(["sandbox", "--name", "t-none", "up"])
        .env("PATH", "/nowhere")
        .output()?;
    assert_eq!(out.status.code(), Some(2));
    let said = line(&out);
    assert!(
        said.contains("systemd-nspawn") && said.contains("systemd-container"),
        "{said}"
    );

    // Too little room.
    let out = microcloud("t-none", &["up", "100000"])?;
    assert_eq!(out.status.code(), Some(2), "{}", text(&out.stderr));

    // Not root: a copy, because the build directory may be closed to others.
    let dir = tempfile::tempdir()?;
    let copy = dir.path().join("microcloud");
    fs::copy(PROGRAM, &copy)?;
    Command::new("chmod")
        .arg("0755")
        .args([dir.path(), &copy])
        .status()?;
    let out = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(&copy)
        .args(["sandbox", "--name", "t-none", "up"])
        .output()?;
    assert_eq!(out.status.code(), Some(2));
    assert!(line(&out).contains("needs root"));
    assert_eq!(traces("t-none"), BTreeSet::new());
    Ok(())
}

#[test]
fn what_somebody_mounted_inside_survives() -> Outcome {
    let _alone = alone();
    let precious = tempfile::tempdir()?;
    fs::write(precious.path().join("file"), "kept")?;
    let dir = tempfile::tempdir()?;
    let inner = dir.path().join("sandboxes/t-mount/hosts/in ner");
    fs::create_dir_all(&inner)?;
    let mounted = Command::new("mount")
        .arg("--bind")
        .arg(precious.path())
        .arg(&inner)
        .status()?;
    assert!(mounted.success());
    Sandbox::open(StateDir::new(dir.path()), "t-mount")?.down(&|_| ())?;
    assert!(!dir.path().join("sandboxes").exists());
    assert_eq!(fs::read_to_string(precious.path().join("file"))?, "kept");
    Ok(())
}
