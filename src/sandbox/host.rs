//! One host: its files, finding it, entering it.

use super::command::{helper, run};
use super::files::{make_dirs, write_below};
use super::layout::{DATA, Layout};
use super::network;
use super::process::{self, Started};
use super::state::{self, Host, Stored};
use super::{Error, base, disk, requirements};
use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

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
    let userspace = !requirements::kernel_forwards();
    for (path, content) in network::files(host, &stored.networks, userspace) {
        write_below(&upper, &path, content.as_bytes(), 0o644)?;
    }
    if userspace {
        wanted_by(
            &upper,
            "multi-user.target",
            network::UNDERLAY_UNIT,
            Path::new("/etc/systemd/system"),
        )?;
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
    wanted_by(root, target, unit, Path::new("/usr/lib/systemd/system"))
}

/// Has a target want a unit whose file is in `place`.
fn wanted_by(root: &Path, target: &str, unit: &str, place: &Path) -> Result<(), Error> {
    let wants = root.join(format!("etc/systemd/system/{target}.wants"));
    make_dirs(&wants)?;
    let link = wants.join(unit);
    match symlink(place.join(unit), &link) {
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
