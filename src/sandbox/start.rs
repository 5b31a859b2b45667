//! Starting a host: its supervisor, its control group, its mounts.

use super::command::tail;
use super::layout::{DATA, Layout, MARKER};
use super::network::{self, BRIDGES};
use super::process::{self, Started};
use super::state::{Host, Stored};
use super::{Error, base, cgroups};
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How long a host may take until its `systemd` runs.
const START_DEADLINE: Duration = Duration::from_secs(60);

/// Devices a host gets when this machine has them.
const DEVICES: [&str; 8] = [
    "/dev/loop-control",
    "/dev/fuse",
    "/dev/kvm",
    "/dev/net/tun",
    "/dev/mapper/control",
    "/dev/zfs",
    "/dev/vhost-net",
    "/dev/vhost-vsock",
];

/// Mounts the overlay in a mount namespace that ends with the host, joins the host's control
/// group and becomes `systemd-nspawn`. That keeps files of its own in `/run/systemd/nspawn`: on a
/// tmpfs that ends with it too, nothing of them stays. Arguments: lower, upper, work, root, group, the rest.
const STARTER: &str = r#"set -e
if [ -n "$5" ]; then echo $$ > "$5/cgroup.procs"; fi
mkdir -p /run/systemd/nspawn
mount -t tmpfs -o mode=0755 tmpfs /run/systemd/nspawn
mount -t overlay overlay -o "lowerdir=$1,upperdir=$2,workdir=$3" "$4"
shift 5
exec "$@""#;

/// Starts the supervisor of a host and returns it at once.
pub(super) fn spawn(
    layout: &Layout,
    stored: &Stored,
    name: &str,
    host: &Host,
) -> Result<Started, Error> {
    let home = layout.host(name);
    let root = home.join("root");
    let console = layout.console(name);
    let log = File::create(&console).map_err(|e| Error::io("make", &console, e))?;
    let log_too = log
        .try_clone()
        .map_err(|e| Error::io("share", &console, e))?;
    let group = cgroups::make(layout, name)?;
    // A session of its own, in the sandbox's network, with mounts of its own.
    let mut command = Command::new("setsid");
    command
        .arg("nsenter")
        .arg(format!("--net={}", layout.netns().display()))
        .args([
            "unshare",
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-c",
            STARTER,
            "starter",
        ])
        .args([
            &base::root(layout.dir(), &stored.base),
            &layout.upper(name),
            &home.join("work"),
            &root,
        ])
        .arg(group.as_deref().unwrap_or(Path::new("")))
        .args([
            "systemd-nspawn",
            "--boot",
            "--quiet",
            "--register=no",
            "--console=read-only",
        ])
        .args([
            "--capability=all",
            "--resolv-conf=off",
            "--timezone=off",
            "--link-journal=no",
        ])
        .arg(format!("--directory={}", root.display()))
        .arg(format!("--machine={}", layout.machine(name)))
        .arg(format!("--hostname={name}"))
        .arg(format!("--setenv={MARKER}={}", home.display()))
        .args(BRIDGES.iter().map(|b| {
            format!(
                "--network-veth-extra={}:{}",
                network::port(b, host),
                b.in_host
            )
        }))
        .args(
            DATA.iter()
                .map(|s| format!("--bind={}:/var/lib/{s}", layout.data(name, s).display())),
        )
        .args(
            DEVICES
                .iter()
                .filter(|d| Path::new(d).exists())
                .map(|d| format!("--bind={d}")),
        );
    if cgroups::systemd_runs() {
        command.arg("--property=DeviceAllow=block-loop rwm");
        command.args(
            DEVICES
                .iter()
                .map(|d| format!("--property=DeviceAllow={d} rwm")),
        );
    } else {
        command.arg("--keep-unit");
    }
    let child = command
        .env_clear()
        .env(
            "PATH",
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        )
        .env("SYSTEMD_NSPAWN_UNIFIED_HIERARCHY", "1")
        .env(MARKER, &home)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(log_too)
        .spawn()
        .map_err(|e| Error::io("run setsid for", &home, e))?;
    let pid = child.id();
    // Nobody else waits for it: without this it would stay a zombie while this program runs.
    thread::spawn(move || {
        let mut child = child;
        drop(child.wait());
    });
    Started::now(pid).ok_or_else(|| Error::Ended {
        host: name.to_owned(),
        said: console_tail(layout, name),
    })
}

/// Waits until a supervisor's `systemd` runs.
pub(super) fn await_init(
    layout: &Layout,
    name: &str,
    supervisor: Started,
) -> Result<Started, Error> {
    let begun = Instant::now();
    loop {
        if let Some(init) = process::init_of(supervisor) {
            return Ok(init);
        }
        if !supervisor.alive() {
            return Err(Error::Ended {
                host: name.to_owned(),
                said: console_tail(layout, name),
            });
        }
        if begun.elapsed() > START_DEADLINE {
            return Err(Error::Timeout {
                what: format!("starting {name}"),
                deadline: START_DEADLINE,
                hint: console_tail(layout, name),
            });
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// The end of a host's console.
fn console_tail(layout: &Layout, name: &str) -> String {
    let text = fs::read(layout.console(name)).unwrap_or_default();
    tail(&String::from_utf8_lossy(&text))
}
