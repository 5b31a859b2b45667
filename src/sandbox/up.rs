//! Bringing a sandbox up, from any state it may be in.

use super::files::write_below;
use super::layout::{Layout, check_name};
use super::lock::Lock;
use super::state::{self, Host, Stored};
use super::{
    Error, Report, base, contents, disk, down, host, network, ready, requirements, start, subnets,
};
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::thread;

/// The unit that is installed beside the program.
const UNIT: &str = include_str!("../../manifests/microcloud.service");

/// What `up` should bring up.
#[derive(Debug, Clone)]
pub struct Options {
    /// The hosts that must be there; others of the same sandbox are left as they are.
    pub hosts: Vec<String>,
    /// How many disks each of them has at least.
    pub disks: usize,
    /// The size in bytes of a disk that is added.
    pub disk_bytes: u64,
    /// The program that is copied in as `/usr/bin/microcloud`, with its unit.
    pub binary: Option<PathBuf>,
    /// Whether LXD starts with the hosts and is waited for.
    pub lxd: bool,
    /// Whether the agent's unit is enabled and started.
    pub agent: bool,
    /// A Debian mirror, instead of the machine's own.
    pub mirror: Option<String>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            hosts: numbered(3),
            disks: 0,
            disk_bytes: 2 << 30,
            binary: None,
            lxd: true,
            agent: false,
            mirror: None,
        }
    }
}

/// `micro01` to `microNN`.
fn numbered(hosts: u16) -> Vec<String> {
    (1..=hosts).map(|n| format!("micro{n:02}")).collect()
}

impl Options {
    /// The usual names of so many hosts, beside the defaults.
    #[must_use]
    pub fn with_hosts(hosts: u16) -> Options {
        Options {
            hosts: numbered(hosts),
            ..Options::default()
        }
    }
}

/// What the hosts share while they are brought up in parallel.
struct Work<'a> {
    layout: &'a Layout,
    stored: Mutex<Stored>,
    report: Report<'a>,
}

impl Work<'_> {
    fn snapshot(&self) -> Stored {
        self.stored
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Changes one host and stores it.
    fn update(&self, name: &str, change: impl FnOnce(&mut Host)) -> Result<(), Error> {
        let mut stored = self.stored.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(host) = stored.hosts.get_mut(name) {
            change(host);
        }
        state::write(self.layout, &stored)
    }
}

/// Brings a sandbox up.
pub(super) fn up(layout: &Layout, options: &Options, report: Report<'_>) -> Result<(), Error> {
    requirements::root()?;
    options
        .hosts
        .iter()
        .try_for_each(|name| check_name("host", name))?;
    requirements::tools(false)?;
    let dir = layout.dir();
    fs::create_dir_all(dir.path()).map_err(|e| Error::io("make", dir.path(), e))?;
    let _lock = Lock::sandbox(layout)?;
    let mut stored = open(layout, options, report)?;
    for name in &options.hosts {
        stored.add_host(name, options.lxd)?;
        if let Some(host) = stored.hosts.get_mut(name) {
            host.lxd |= options.lxd;
        }
    }
    state::write(layout, &stored)?;
    if let Some(line) = requirements::watches(state::hosts(dir)?) {
        report(&line);
    }
    network::ensure(layout, &stored.networks)?;
    for name in &options.hosts {
        while stored
            .hosts
            .get(name)
            .is_some_and(|h| h.disks.len() < options.disks)
        {
            disk::add_to(layout, &mut stored, name, options.disk_bytes)?;
        }
    }
    bring_up(layout, stored, &options.hosts, options, report)
}

/// Brings one host back as it was.
pub(super) fn start_again(layout: &Layout, name: &str) -> Result<(), Error> {
    requirements::root()?;
    requirements::tools(false)?;
    let _lock = Lock::sandbox(layout)?;
    let (stored, host) = state::require_host(layout, name)?;
    network::ensure(layout, &stored.networks)?;
    let options = Options {
        hosts: vec![name.to_owned()],
        lxd: host.lxd,
        ..Options::default()
    };
    bring_up(layout, stored, &options.hosts, &options, &|_| ())
}

/// The stored sandbox, or a new one on the base this program wants.
fn open(layout: &Layout, options: &Options, report: Report<'_>) -> Result<Stored, Error> {
    let dir = layout.dir();
    if let Some(stored) = state::read(layout)? {
        requirements::space(
            dir,
            false,
            options.hosts.len().saturating_sub(stored.hosts.len()),
        )?;
        if stored.base != contents::id() {
            report(
                "this sandbox stays on the base it was made with: `down`, then `up` takes the new one",
            );
        }
        return Ok(stored);
    }
    // Held until the state names the base, so that nobody takes an unused base away meanwhile.
    let _base = match Lock::base_now(dir)? {
        Some(lock) => lock,
        None => {
            report("waiting for another command that makes or removes a base");
            Lock::base(dir)?
        }
    };
    let fresh = !base::exists(dir, &contents::id());
    requirements::tools(fresh)?;
    requirements::space(dir, fresh, options.hosts.len())?;
    let base = base::ensure(dir, options.mirror.as_deref(), report)?;
    if let Some(line) = requirements::left_out() {
        report(&line);
    }
    let _subnets = Lock::subnets(dir)?;
    let mut used = subnets::used_by_machine()?;
    for name in state::names(dir)? {
        // A state that cannot be read names no subnets; its namespace is apart from ours anyway.
        if let Ok(Some(other)) = state::read(&Layout::new(dir.clone(), &name)?) {
            used.extend([
                other.networks.internal,
                other.networks.underlay,
                other.networks.uplink,
            ]);
        }
    }
    let networks = subnets::choose(layout.name(), &used)?;
    let stored = Stored {
        base,
        networks,
        hosts: BTreeMap::new(),
    };
    state::write(layout, &stored)?;
    Ok(stored)
}

/// Brings the named hosts up in parallel.
fn bring_up(
    layout: &Layout,
    stored: Stored,
    hosts: &[String],
    options: &Options,
    report: Report<'_>,
) -> Result<(), Error> {
    // Every host knows every other by name, also those that were there before.
    for (name, host) in &stored.hosts {
        host::write_hosts(layout, &stored, name, host)?;
    }
    let work = Work {
        layout,
        stored: Mutex::new(stored),
        report,
    };
    let failed: Vec<(String, Error)> = thread::scope(|scope| {
        let running: Vec<_> = hosts
            .iter()
            .map(|name| (name, scope.spawn(|| one(&work, name, options))))
            .collect();
        running
            .into_iter()
            .filter_map(|(name, thread)| match thread.join() {
                Ok(Ok(())) => None,
                Ok(Err(e)) => Some((name.clone(), e)),
                Err(panic) => std::panic::resume_unwind(panic),
            })
            .collect()
    });
    if failed.is_empty() {
        Ok(())
    } else {
        Err(Error::Hosts(failed))
    }
}

/// Brings one host up.
fn one(work: &Work<'_>, name: &str, options: &Options) -> Result<(), Error> {
    let layout = work.layout;
    let no_host = || Error::NoHost {
        host: name.to_owned(),
        sandbox: layout.name().to_owned(),
    };
    let mut host = work.snapshot().hosts.remove(name).ok_or_else(no_host)?;
    disk::attach(layout, &mut host)?;
    work.update(name, |h| h.disks.clone_from(&host.disks))?;

    let running = host::init(&host);
    let init = match running {
        Some(init) => {
            refresh(layout, name, &host, options)?;
            init
        }
        None => {
            host = fresh(work, name, host, options)?;
            host::init(&host).ok_or_else(|| Error::NotRunning {
                host: name.to_owned(),
            })?
        }
    };
    network::plug(layout, &host)?;
    if host.lxd {
        if running.is_some() {
            host::enable(&host::root_of(init), "multi-user.target", "lxd.service")?;
            host::enable(&host::root_of(init), "sockets.target", "lxd.socket")?;
            host::call(
                layout,
                name,
                &["systemctl", "start", "lxd.socket", "lxd.service"],
            )?;
        }
        ready::lxd(name, init)?;
    }
    ready::booted(layout, name)?;
    disk::show(layout, name, &host)?;
    let networks = work.snapshot().networks;
    let addresses = [networks.internal, networks.underlay].map(|n| host.address(n));
    ready::addressed(name, init, &addresses)?;
    if options.agent {
        host::call(
            layout,
            name,
            &["systemctl", "enable", "--now", "microcloud.service"],
        )?;
    }
    (work.report)(&format!("{name} is up at {}", addresses[0]));
    Ok(())
}

/// Starts a host that does not run.
fn fresh(work: &Work<'_>, name: &str, mut host: Host, options: &Options) -> Result<Host, Error> {
    let layout = work.layout;
    // What a killed command or a lost supervisor left of an earlier life.
    down::end_host(layout, name, &host)?;
    let stored = work.snapshot();
    host::prepare(layout, &stored, name, &host)?;
    host::write_hosts(layout, &stored, name, &host)?;
    if let Some(binary) = &options.binary {
        host::install_binary(&layout.upper(name), binary)?;
        write_unit(&layout.upper(name))?;
    }
    let supervisor = start::spawn(layout, &stored, name, &host)?;
    host.supervisor = Some(supervisor);
    work.update(name, |h| h.supervisor = Some(supervisor))?;
    start::await_init(layout, name, supervisor)?;
    Ok(host)
}

/// Renews the program of a host that runs, and restarts the agent if it runs an older one.
fn refresh(layout: &Layout, name: &str, host: &Host, options: &Options) -> Result<(), Error> {
    let (Some(binary), Some(init)) = (&options.binary, host::init(host)) else {
        return Ok(());
    };
    let root = host::root_of(init);
    let renewed = host::install_binary(&root, binary)?;
    if write_unit(&root)? {
        host::call(layout, name, &["systemctl", "daemon-reload"])?;
    }
    if renewed {
        host::call(
            layout,
            name,
            &["systemctl", "try-restart", "microcloud.service"],
        )?;
    }
    Ok(())
}

/// Writes the agent's unit; returns whether it was another before.
fn write_unit(root: &std::path::Path) -> Result<bool, Error> {
    let path = "usr/lib/systemd/system/microcloud.service";
    if fs::read(root.join(path)).is_ok_and(|there| there == UNIT.as_bytes()) {
        return Ok(false);
    }
    write_below(root, path, UNIT.as_bytes(), 0o644)?;
    Ok(true)
}
