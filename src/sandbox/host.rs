//! One host: its files, starting it, entering it, what it is now.

use super::base::{self, make_dirs, write_below};
use super::command::{helper, run, tail};
use super::layout::{DATA, Layout, MARKER};
use super::network::{self, BRIDGES};
use super::process::{self, Started};
use super::state::{self, Host, Stored};
use super::{Error, cgroups, disk};
use serde::Serialize;
use std::ffi::OsString;
use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
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

/// Whether a host runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum HostState {
    /// Its `systemd` runs.
    Running,
    /// It does not run.
    Stopped,
}

/// What a host is now.
#[derive(Debug, Clone, Serialize)]
pub struct HostView {
    /// Its name, also its host name.
    pub name: String,
    /// Whether it runs.
    pub state: HostState,
    /// Whether it is cut off from the others.
    pub cut: bool,
    /// Its `systemd` on this machine, when it runs.
    pub pid: Option<u32>,
    /// Its address on `host0`.
    pub address: Ipv4Addr,
    /// Its address on `under0`.
    pub underlay_address: Ipv4Addr,
    /// The interface without an address, for uplinks.
    pub uplink_interface: &'static str,
    /// LXD's socket, on this machine.
    pub lxd_socket: PathBuf,
    /// Its disks.
    pub disks: Vec<DiskView>,
}

/// A disk of a host.
#[derive(Debug, Clone, Serialize)]
pub struct DiskView {
    /// The stable path in the host.
    pub path: PathBuf,
    /// The loop device, when attached.
    pub device: Option<PathBuf>,
    /// The size in bytes.
    pub bytes: u64,
}

/// What a sandbox is now.
#[derive(Debug, Clone, Serialize)]
pub struct SandboxView {
    /// Its name.
    pub name: String,
    /// The base its hosts stand on.
    pub base: String,
    /// Its network namespace on this machine, for `ip netns exec`.
    pub netns: String,
    /// The subnet of `host0`.
    pub internal: String,
    /// The subnet of `under0`.
    pub underlay: String,
    /// The subnet behind `up0`.
    pub uplink: String,
    /// The router of the uplink subnet.
    pub uplink_gateway: Ipv4Addr,
    /// Its hosts, by name.
    pub hosts: Vec<HostView>,
}

/// Reads what is stored and looks at what runs.
pub(super) fn view(layout: &Layout) -> Result<SandboxView, Error> {
    let Stored {
        base,
        networks,
        hosts,
    } = state::require(layout)?;
    let hosts = hosts
        .into_iter()
        .map(|(name, host)| {
            let init = init(&host);
            HostView {
                state: if init.is_some() {
                    HostState::Running
                } else {
                    HostState::Stopped
                },
                cut: host.cut,
                pid: init.map(|i| i.pid),
                address: host.address(networks.internal),
                underlay_address: host.address(networks.underlay),
                uplink_interface: "up0",
                lxd_socket: layout.data(&name, "lxd").join("unix.socket"),
                disks: host
                    .disks
                    .iter()
                    .map(|d| DiskView {
                        path: d.link(),
                        device: d.device.clone(),
                        bytes: d.bytes,
                    })
                    .collect(),
                name,
            }
        })
        .collect();
    Ok(SandboxView {
        name: layout.name().to_owned(),
        base,
        netns: layout.unique(),
        internal: networks.internal.to_string(),
        underlay: networks.underlay.to_string(),
        uplink: networks.uplink.to_string(),
        uplink_gateway: network::gateway(networks.uplink),
        hosts,
    })
}

/// The `systemd` of a host, if it runs.
pub(super) fn init(host: &Host) -> Option<Started> {
    process::init_of(host.supervisor?)
}

/// As [`init`], by name, and an error when it does not run.
pub(super) fn running_init(layout: &Layout, name: &str) -> Result<Started, Error> {
    let (_, host) = state::require_host(layout, name)?;
    init(&host).ok_or_else(|| Error::NotRunning {
        host: name.to_owned(),
    })
}

/// The root of a running host as seen from this machine.
pub(super) fn root_of(init: Started) -> PathBuf {
    PathBuf::from(format!("/proc/{}/root", init.pid))
}

/// The command that runs `words` in a host, as its root user and with no environment but its own.
pub(super) fn enter(layout: &Layout, name: &str, words: &[OsString]) -> Result<Command, Error> {
    let init = running_init(layout, name)?;
    let mut command = Command::new("nsenter");
    command
        .args([
            "--target",
            &init.pid.to_string(),
            "--all",
            "--root",
            "--wd",
            "--",
        ])
        .args(words)
        .env_clear()
        .envs(std::env::vars_os().filter(|(k, _)| k == "TERM" || k == "NO_COLOR"))
        .env(
            "PATH",
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        )
        .env("HOME", "/root")
        .env("USER", "root")
        .env("LANG", "C.UTF-8");
    Ok(command)
}

/// Runs a short command in a host and returns what it wrote; a failure is an error.
pub(super) fn call(layout: &Layout, name: &str, words: &[&str]) -> Result<String, Error> {
    let words: Vec<OsString> = words.iter().map(OsString::from).collect();
    run(
        &mut enter(layout, name, &words)?,
        None,
        Duration::from_secs(60),
    )
}

/// Writes the files of a host that does not run yet; safe to repeat.
pub(super) fn prepare(
    layout: &Layout,
    stored: &Stored,
    name: &str,
    host: &Host,
) -> Result<(), Error> {
    let upper = layout.upper(name);
    for dir in [
        upper.clone(),
        layout.host(name).join("work"),
        layout.host(name).join("root"),
    ] {
        make_dirs(&dir)?;
    }
    let base = base::root(layout.dir(), &stored.base);
    for service in DATA {
        data_directory(
            layout,
            &base.join("var/lib").join(service),
            &layout.data(name, service),
        )?;
    }
    write_below(
        &upper,
        "etc/hostname",
        format!("{name}\n").as_bytes(),
        0o644,
    )?;
    if !upper.join("etc/machine-id").exists() {
        write_below(
            &upper,
            "etc/machine-id",
            format!("{}\n", machine_id()?).as_bytes(),
            0o444,
        )?;
    }
    for (path, content) in network::files(host, &stored.networks) {
        write_below(&upper, &path, content.as_bytes(), 0o644)?;
    }
    if host.lxd {
        enable(&upper, "multi-user.target", "lxd.service")?;
        enable(&upper, "sockets.target", "lxd.socket")?;
    }
    disk::prepare(&upper, host)
}

/// Makes the directory behind `/var/lib/SERVICE` with the owner and mode the package gave it, and
/// with what the package put there.
fn data_directory(layout: &Layout, packaged: &Path, data: &Path) -> Result<(), Error> {
    if data.exists() {
        return Ok(());
    }
    make_dirs(data.parent().unwrap_or(data))?;
    // Copied beside and renamed, so that it is there whole or not at all.
    let unfinished = data.with_extension("new");
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished).map_err(|e| Error::io("remove", &unfinished, e))?;
    }
    run(
        helper(layout, "cp")
            .args(["--archive", "--no-target-directory"])
            .arg(packaged)
            .arg(&unfinished),
        None,
        super::command::SHORT,
    )?;
    fs::rename(&unfinished, data).map_err(|e| Error::io("make", data, e))
}

fn machine_id() -> Result<String, Error> {
    let uuid = fs::read_to_string("/proc/sys/kernel/random/uuid")
        .map_err(|e| Error::io("read", "/proc/sys/kernel/random/uuid", e))?;
    let digits: String = uuid.chars().filter(char::is_ascii_hexdigit).collect();
    Ok(digits)
}

/// Enables a packaged unit in a root nothing runs in.
pub(super) fn enable(root: &Path, target: &str, unit: &str) -> Result<(), Error> {
    let wants = root.join(format!("etc/systemd/system/{target}.wants"));
    make_dirs(&wants)?;
    let link = wants.join(unit);
    match symlink(Path::new("/usr/lib/systemd/system").join(unit), &link) {
        Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => Err(Error::io("link", link, e)),
        _ => Ok(()),
    }
}

/// Writes `/etc/hosts` of one host: all hosts of the sandbox by name.
pub(super) fn write_hosts(
    layout: &Layout,
    stored: &Stored,
    name: &str,
    host: &Host,
) -> Result<(), Error> {
    let mut text = String::from("127.0.0.1 localhost\n::1 localhost\n");
    for (other, at) in &stored.hosts {
        text.push_str(&format!(
            "{} {other}\n",
            at.address(stored.networks.internal)
        ));
    }
    let root = init(host).map_or_else(|| layout.upper(name), root_of);
    write_below(&root, "etc/hosts", text.as_bytes(), 0o644)
}

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

/// Copies the program into a host; returns whether it was not there yet.
pub(super) fn install_binary(root: &Path, binary: &Path) -> Result<bool, Error> {
    let place = root.join("usr/bin/microcloud");
    let from = fs::metadata(binary).map_err(|e| Error::io("look at", binary, e))?;
    let modified = from
        .modified()
        .map_err(|e| Error::io("look at", binary, e))?;
    // The copy bears the time of what it was copied from.
    let same = fs::metadata(&place).is_ok_and(|there| {
        there.size() == from.size() && there.modified().is_ok_and(|m| m == modified)
    });
    if same {
        return Ok(false);
    }
    let dir = root.join("usr/bin");
    make_dirs(&dir)?;
    let unfinished = dir.join(".microcloud.new");
    fs::copy(binary, &unfinished).map_err(|e| Error::io("copy to", &unfinished, e))?;
    let file = File::options()
        .write(true)
        .open(&unfinished)
        .map_err(|e| Error::io("open", &unfinished, e))?;
    use std::os::unix::fs::PermissionsExt;
    file.set_permissions(fs::Permissions::from_mode(0o755))
        .and_then(|()| file.set_modified(modified))
        .map_err(|e| Error::io("finish", &unfinished, e))?;
    fs::rename(&unfinished, &place).map_err(|e| Error::io("rename to", &place, e))?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_copied_once_and_again_when_it_changed()
    -> Result<(), Box<dyn std::error::Error>> {
        let root = tempfile::tempdir()?;
        let binary = tempfile::NamedTempFile::new()?;
        fs::write(binary.path(), "one")?;
        assert!(install_binary(root.path(), binary.path())?);
        assert!(!install_binary(root.path(), binary.path())?);
        fs::write(binary.path(), "longer")?;
        assert!(install_binary(root.path(), binary.path())?);
        let there = root.path().join("usr/bin/microcloud");
        assert_eq!(fs::read_to_string(&there)?, "longer");
        assert_eq!(fs::metadata(there)?.mode() & 0o777, 0o755);
        Ok(())
    }

    #[test]
    fn machine_ids_are_32_digits_and_differ() -> Result<(), Error> {
        let (a, b) = (machine_id()?, machine_id()?);
        assert!(a.len() == 32 && a != b);
        Ok(())
    }
}
