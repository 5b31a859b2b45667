//! What is remembered of a sandbox between commands.

use super::files::replace;
use super::layout::Layout;
use super::process::Started;
use super::{Error, Sandbox};
use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

/// The state directory that is used unless another is named.
const DEFAULT_DIR: &str = "/var/lib/microcloud-sandbox";

/// The last part of a host's addresses is this plus its number.
const FIRST_ADDRESS: u16 = 10;

/// How many hosts one sandbox may have.
pub(super) const MAX_HOSTS: u16 = 240;

/// The directory that holds the bases and all sandboxes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateDir(PathBuf);

impl StateDir {
    /// A directory of the caller's choice; made when it is needed. A relative path counts from
    /// the working directory.
    pub fn new(path: impl AsRef<Path>) -> StateDir {
        let path = path.as_ref();
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        // Names derive from the path, so one directory must have one path: symbolic links are
        // followed as far as the path exists.
        let known = path.ancestors().find_map(|above| {
            let real = fs::canonicalize(above).ok()?;
            Some(real.join(path.strip_prefix(above).ok()?))
        });
        StateDir(known.unwrap_or(path))
    }

    /// `MICROCLOUD_SANDBOX_DIR`, or `/var/lib/microcloud-sandbox`.
    #[must_use]
    pub fn from_env() -> StateDir {
        match std::env::var_os("MICROCLOUD_SANDBOX_DIR") {
            Some(dir) if !dir.is_empty() => StateDir::new(PathBuf::from(dir)),
            _ => StateDir(DEFAULT_DIR.into()),
        }
    }

    /// The directory itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    pub(super) fn is_default(&self) -> bool {
        self.0 == Path::new(DEFAULT_DIR)
    }

    pub(super) fn bases(&self) -> PathBuf {
        self.0.join("base")
    }

    pub(super) fn sandboxes(&self) -> PathBuf {
        self.0.join("sandboxes")
    }

    pub(super) fn locks(&self) -> PathBuf {
        self.0.join("locks")
    }
}

/// The subnets of a sandbox. They exist only inside its network namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Networks {
    /// Where LXD and the agents talk (`host0` of every host).
    pub internal: Ipv4Net,
    /// Where OVN's tunnels go (`under0`).
    pub underlay: Ipv4Net,
    /// The outside (`up0`, without an address); its first address is the gateway.
    pub uplink: Ipv4Net,
}

/// One loop disk of a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// The stable name: `sandbox-HOST-diskN`, also the name below `/dev/disk/by-id` in the host.
    pub name: String,
    /// The size in bytes.
    pub bytes: u64,
    /// The loop device it is attached to, the same in the host; `None` when it is attached to
    /// none, as after a restart of the machine.
    pub device: Option<PathBuf>,
}

impl Disk {
    /// The stable path of the disk inside its host.
    #[must_use]
    pub fn link(&self) -> PathBuf {
        Path::new("/dev/disk/by-id").join(&self.name)
    }
}

/// One host of a sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// Its number from 1; addresses and interface names follow from it.
    pub number: u16,
    /// Whether LXD starts with the host.
    pub lxd: bool,
    /// Whether it is cut off from the others.
    pub cut: bool,
    /// The `systemd-nspawn` that holds it, when it was last started.
    pub supervisor: Option<Started>,
    /// Its disks, in the order they were added.
    pub disks: Vec<Disk>,
}

impl Host {
    /// The host's address in one of the sandbox's subnets.
    #[must_use]
    pub fn address(&self, subnet: Ipv4Net) -> Ipv4Addr {
        let offset = u32::from(FIRST_ADDRESS + self.number);
        Ipv4Addr::from(u32::from(subnet.network()).wrapping_add(offset))
    }
}

/// What is stored of one sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// The base its hosts stand on: a directory below `base/`.
    pub base: String,
    /// Its subnets.
    pub networks: Networks,
    /// Its hosts by name.
    pub hosts: BTreeMap<String, Host>,
}

impl Stored {
    /// Adds a host unless it is there. `microNN` gets the number NN if that is free.
    pub(super) fn add_host(&mut self, name: &str, lxd: bool) -> Result<(), Error> {
        if self.hosts.contains_key(name) {
            return Ok(());
        }
        let used: Vec<u16> = self.hosts.values().map(|h| h.number).collect();
        let free = |n: &u16| (1..=MAX_HOSTS).contains(n) && !used.contains(n);
        let number = name
            .strip_prefix("micro")
            .and_then(|digits| digits.parse::<u16>().ok())
            .filter(free)
            .or_else(|| (1..=MAX_HOSTS).find(free))
            .ok_or(Error::TooManyHosts(MAX_HOSTS))?;
        let host = Host {
            number,
            lxd,
            cut: false,
            supervisor: None,
            disks: Vec::new(),
        };
        self.hosts.insert(name.to_owned(), host);
        Ok(())
    }
}

/// Reads what is stored; `None` when there is no such sandbox.
pub(super) fn read(layout: &Layout) -> Result<Option<Stored>, Error> {
    let path = layout.state_file();
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::io("read", path, e)),
    };
    serde_json::from_slice(&text)
        .map(Some)
        .map_err(|source| Error::State { path, source })
}

/// As [`read`], but a sandbox that is not there is an error.
pub(super) fn require(layout: &Layout) -> Result<Stored, Error> {
    read(layout)?.ok_or_else(|| Error::NoSandbox(layout.name().to_owned()))
}

/// One host of a sandbox that must be there.
pub(super) fn require_host(layout: &Layout, host: &str) -> Result<(Stored, Host), Error> {
    let stored = require(layout)?;
    match stored.hosts.get(host).cloned() {
        Some(found) => Ok((stored, found)),
        None => Err(Error::NoHost {
            host: host.to_owned(),
            sandbox: layout.name().to_owned(),
        }),
    }
}

/// Replaces what is stored, in one step: a killed command leaves the old or the new state.
pub(super) fn write(layout: &Layout, stored: &Stored) -> Result<(), Error> {
    let path = layout.state_file();
    let text = serde_json::to_vec_pretty(stored).map_err(|source| Error::State {
        path: path.clone(),
        source,
    })?;
    replace(&path, &text, 0o644)
}

/// The names of the sandboxes below a state directory.
pub(super) fn names(dir: &StateDir) -> Result<Vec<String>, Error> {
    let path = dir.sandboxes();
    let entries = match fs::read_dir(&path) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(Error::io("read", path, e)),
    };
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| Sandbox::open(dir.clone(), name).is_ok())
        .collect();
    names.sort();
    Ok(names)
}

/// How many hosts the sandboxes below a state directory have together, as far as can be read.
pub(super) fn hosts(dir: &StateDir) -> Result<usize, Error> {
    let mut hosts = 0;
    for name in names(dir)? {
        if let Ok(Some(stored)) = read(&Layout::new(dir.clone(), &name)?) {
            hosts += stored.hosts.len();
        }
    }
    Ok(hosts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored() -> Stored {
        let net = |s: &str| s.parse().unwrap_or_default();
        Stored {
            base: "abc".into(),
            networks: Networks {
                internal: net("10.77.0.0/24"),
                underlay: net("10.78.0.0/24"),
                uplink: net("198.51.100.0/24"),
            },
            hosts: BTreeMap::new(),
        }
    }

    #[test]
    fn numbers_follow_names_where_they_can() -> Result<(), Error> {
        let mut s = stored();
        for name in ["micro03", "alpha", "micro01", "beta", "micro999", "micro03"] {
            s.add_host(name, true)?;
        }
        let numbers: Vec<(&str, u16)> = s
            .hosts
            .iter()
            .map(|(n, h)| (n.as_str(), h.number))
            .collect();
        assert_eq!(
            numbers,
            [
                ("alpha", 1),
                ("beta", 4),
                ("micro01", 2),
                ("micro03", 3),
                ("micro999", 5)
            ]
        );
        assert_eq!(
            s.hosts["micro03"].address(s.networks.underlay),
            Ipv4Addr::new(10, 78, 0, 13)
        );
        Ok(())
    }

    #[test]
    fn a_full_sandbox_says_so() -> Result<(), Error> {
        let mut s = stored();
        for n in 1..=MAX_HOSTS {
            s.add_host(&format!("h{n}"), true)?;
        }
        assert!(matches!(
            s.add_host("more", true),
            Err(Error::TooManyHosts(MAX_HOSTS))
        ));
        Ok(())
    }

    #[test]
    fn state_survives_a_round_trip_and_broken_state_is_named()
    -> Result<(), Box<dyn std::error::Error>> {
        let dir = tempfile::tempdir()?;
        let layout = Layout::new(StateDir::new(dir.path()), "x")?;
        assert!(read(&layout)?.is_none());
        assert!(matches!(require(&layout), Err(Error::NoSandbox(_))));
        let mut s = stored();
        s.add_host("micro01", false)?;
        write(&layout, &s)?;
        assert_eq!(read(&layout)?, Some(s));
        assert_eq!(names(layout.dir())?, ["x"]);
        assert!(matches!(
            require_host(&layout, "micro02"),
            Err(Error::NoHost { .. })
        ));
        fs::write(layout.state_file(), "{")?;
        let said = read(&layout)
            .err()
            .map(|e| e.to_string())
            .unwrap_or_default();
        assert!(
            said.contains("state.json") && said.contains("sandbox down"),
            "{said}"
        );
        Ok(())
    }

    #[test]
    fn one_directory_has_one_path() -> Result<(), Box<dyn std::error::Error>> {
        let dir = tempfile::tempdir()?;
        fs::create_dir(dir.path().join("real"))?;
        std::os::unix::fs::symlink(dir.path().join("real"), dir.path().join("link"))?;
        let before = StateDir::new(dir.path().join("link/state"));
        fs::create_dir(dir.path().join("real/state"))?;
        assert_eq!(before, StateDir::new(dir.path().join("link/state")));
        assert_eq!(before, StateDir::new(dir.path().join("real/state")));
        Ok(())
    }
}
