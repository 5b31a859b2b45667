//! Throwaway hosts on one machine that run the real services.
//!
//! A *sandbox* is a set of hosts, each a `systemd-nspawn` machine over an overlay of one Debian
//! base, with its own network namespace holding the bridges that join them. Everything a sandbox
//! owns can be found again without its state file: its directory, the marker in the environment
//! of its processes, the name of its network namespace, the files behind its loop
//! devices. That is why [`Sandbox::down`] also cleans up after a run that was killed.
//!
//! What is where, below the state directory (`/var/lib/microcloud-sandbox`):
//!
//! | path | what it is |
//! |---|---|
//! | `base/HASH/root` | the Debian base, shared by all sandboxes, never written once made |
//! | `sandboxes/NAME/state.json` | subnets, hosts, disks of one sandbox |
//! | `sandboxes/NAME/hosts/HOST/` | the overlay, the console's log and the services' data |
//! | `sandboxes/NAME/disks/` | the files behind the loop disks |
//!
//! Overlays are mounted in a mount namespace that belongs to the host's own processes, so the
//! machine's mount table never shows them and they end with the host.
//!
//! ```no_run
//! # fn main() -> Result<(), microcloud::sandbox::Error> {
//! use microcloud::sandbox::{Options, Sandbox, StateDir};
//! let sandbox = Sandbox::open(StateDir::from_env(), "example")?;
//! sandbox.up(&Options { hosts: vec!["micro01".into()], ..Options::default() }, &|line| println!("{line}"))?;
//! let seen = sandbox.exec("micro01", ["lxc", "cluster", "list"])?;
//! assert!(seen.status.success());
//! sandbox.down(&|_| ())?;
//! # Ok(()) }
//! ```

mod base;
mod cgroups;
mod command;
mod contents;
mod disk;
mod down;
mod error;
mod files;
mod host;
mod layout;
mod lock;
mod loops;
mod network;
mod process;
mod ready;
mod requirements;
mod sources;
mod start;
mod state;
mod subnets;
mod up;
mod view;

pub use disk::{DiskSize, ParseSizeError};
pub use error::Error;
pub use process::Started;
pub use state::{Disk, Host, Networks, StateDir, Stored};
pub use up::Options;
pub use view::{DiskView, HostState, HostView, SandboxView};

use lock::Lock;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::process::{Command, Output};

/// Where progress is told, one plain line at a time.
pub type Report<'a> = &'a (dyn Fn(&str) + Sync);

/// One sandbox, whether it runs or not.
#[derive(Debug, Clone)]
pub struct Sandbox {
    layout: layout::Layout,
}

impl Sandbox {
    /// The sandbox `name` below `dir`; nothing is read or made yet.
    ///
    /// # Errors
    /// [`Error::Name`] when `name` is not lower-case letters, digits and `-` (at most 20).
    pub fn open(dir: StateDir, name: &str) -> Result<Sandbox, Error> {
        Ok(Sandbox {
            layout: layout::Layout::new(dir, name)?,
        })
    }

    /// The names of the sandboxes that have left anything below `dir`.
    ///
    /// # Errors
    /// [`Error::Io`] when the directory is there and cannot be read.
    pub fn names(dir: &StateDir) -> Result<Vec<String>, Error> {
        state::names(dir)
    }

    /// The sandbox's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.layout.name()
    }

    /// Makes the base if needed and brings the hosts up; safe to run again.
    ///
    /// # Errors
    /// What is missing on the machine, or what the services said; the sandbox is left as it is,
    /// to be looked at, continued or taken down.
    pub fn up(&self, options: &Options, report: Report<'_>) -> Result<(), Error> {
        up::up(&self.layout, options, report)
    }

    /// Ends the sandbox and removes all it owns, also after a run that was killed.
    ///
    /// # Errors
    /// [`Error::LeftOver`] naming what could not be removed.
    pub fn down(&self, report: Report<'_>) -> Result<(), Error> {
        down::down(&self.layout, report)
    }

    /// Removes the bases no sandbox uses; tells which were kept.
    ///
    /// # Errors
    /// [`Error::Io`] when a base cannot be removed.
    pub fn remove_bases(dir: &StateDir, report: Report<'_>) -> Result<(), Error> {
        requirements::root()?;
        base::remove_unused(dir, report)
    }

    /// What the sandbox is now.
    ///
    /// # Errors
    /// [`Error::NoSandbox`] when there is none of this name.
    pub fn view(&self) -> Result<SandboxView, Error> {
        view::view(&self.layout)
    }

    /// The command that runs `command` in `host`: standard streams and exit code pass through.
    ///
    /// # Errors
    /// [`Error::NoHost`] and [`Error::NotRunning`].
    pub fn command<I, S>(&self, host: &str, command: I) -> Result<Command, Error>
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        requirements::root()?;
        let words: Vec<OsString> = command.into_iter().map(|w| w.as_ref().to_owned()).collect();
        host::enter(&self.layout, host, &words)
    }

    /// Runs a command in `host`, waits for it and returns what it wrote.
    ///
    /// # Errors
    /// As [`Sandbox::command`]; a command that fails is not an error.
    pub fn exec<I, S>(&self, host: &str, command: I) -> Result<Output, Error>
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        self.command(host, command)?
            .stdin(std::process::Stdio::null())
            .output()
            .map_err(|source| Error::io("run nsenter for", host, source))
    }

    /// Attaches a new, empty disk of `bytes` to `host` and returns it.
    ///
    /// # Errors
    /// [`Error::NoHost`], or what `losetup` said.
    pub fn disk_add(&self, host: &str, bytes: u64) -> Result<Disk, Error> {
        let _lock = self.lock()?;
        disk::add(&self.layout, host, bytes)
    }

    /// Separates `host` from the others on the internal and the underlay network, as if its
    /// switch ports had stopped forwarding: links stay up. It stays so over `kill` and `start`.
    ///
    /// # Errors
    /// [`Error::NoHost`], or what `ip` said.
    pub fn cut(&self, host: &str) -> Result<(), Error> {
        let _lock = self.lock()?;
        network::set_cut(&self.layout, host, true)
    }

    /// Undoes [`Sandbox::cut`].
    ///
    /// # Errors
    /// As [`Sandbox::cut`].
    pub fn heal(&self, host: &str) -> Result<(), Error> {
        let _lock = self.lock()?;
        network::set_cut(&self.layout, host, false)
    }

    /// Power loss: every process of `host` ends at once, its data and disks stay.
    ///
    /// # Errors
    /// [`Error::NoHost`]; [`Error::LeftOver`] when a process would not end.
    pub fn kill(&self, host: &str) -> Result<(), Error> {
        let _lock = self.lock()?;
        down::kill_host(&self.layout, host)
    }

    /// Brings `host` back with its data after [`Sandbox::kill`], or after it shut itself down or
    /// rebooted: a host that reboots by itself is off, or on without its wires, until then.
    ///
    /// # Errors
    /// As [`Sandbox::up`].
    pub fn start(&self, host: &str) -> Result<(), Error> {
        up::start_again(&self.layout, host)
    }

    /// The path, on this machine, of the LXD socket of `host`: connect to it to talk to the real
    /// LXD from outside. It stays the same over [`Sandbox::kill`] and [`Sandbox::start`].
    #[must_use]
    pub fn lxd_socket(&self, host: &str) -> PathBuf {
        self.layout.data(host, "lxd").join("unix.socket")
    }

    /// The path, on this machine, of the Incus socket of `host`.
    #[must_use]
    pub fn incus_socket(&self, host: &str) -> PathBuf {
        self.layout.data(host, "incus").join("unix.socket")
    }

    /// The root of a running host's file system, as seen from this machine.
    ///
    /// # Errors
    /// [`Error::NoHost`] and [`Error::NotRunning`].
    pub fn root(&self, host: &str) -> Result<PathBuf, Error> {
        Ok(PathBuf::from(format!(
            "/proc/{}/root",
            host::running_init(&self.layout, host)?.pid
        )))
    }

    /// What is stored about `host`.
    ///
    /// # Errors
    /// [`Error::NoSandbox`], [`Error::NoHost`].
    pub fn host(&self, host: &str) -> Result<HostView, Error> {
        let view = self.view()?;
        view.hosts
            .into_iter()
            .find(|h| h.name == host)
            .ok_or_else(|| Error::NoHost {
                host: host.to_owned(),
                sandbox: self.name().to_owned(),
            })
    }

    /// The address of `host` on `host0`.
    ///
    /// # Errors
    /// [`Error::NoSandbox`], [`Error::NoHost`].
    pub fn address(&self, host: &str) -> Result<std::net::Ipv4Addr, Error> {
        Ok(self.host(host)?.address)
    }

    fn lock(&self) -> Result<Lock, Error> {
        requirements::root()?;
        // A lock would make the directory of a sandbox that is not there.
        state::require(&self.layout)?;
        Lock::sandbox(&self.layout)
    }
}

/// A sandbox that is taken down when this value goes: for tests and benchmarks.
#[derive(Debug)]
pub struct Throwaway(Sandbox);

impl Throwaway {
    /// Takes down what an earlier run of this name left, then brings the sandbox up.
    ///
    /// # Errors
    /// As [`Sandbox::up`]; nothing is left running then.
    pub fn up(name: &str, options: &Options) -> Result<Throwaway, Error> {
        let throwaway = Throwaway(Sandbox::open(StateDir::from_env(), name)?);
        throwaway.down(&|_| ())?;
        throwaway.0.up(options, &|line| eprintln!("{line}"))?;
        Ok(throwaway)
    }
}

impl std::ops::Deref for Throwaway {
    type Target = Sandbox;

    fn deref(&self) -> &Sandbox {
        &self.0
    }
}

impl Drop for Throwaway {
    fn drop(&mut self) {
        if let Err(e) = self.0.down(&|_| ()) {
            eprintln!("sandbox {:?}: {}", self.0.name(), error::chain(&e));
        }
    }
}
