//! Ending hosts and sandboxes: by what can be seen of them, not by what was written down.

use super::files::remove_tree;
use super::layout::Layout;
use super::lock::Lock;
use super::state::{self, Host};
use super::{Error, Report, base, cgroups, loops, network, process, requirements};
use std::fs;

/// Ends a sandbox and removes all it owns.
pub(super) fn down(layout: &Layout, report: Report<'_>) -> Result<(), Error> {
    requirements::root()?;
    let home = layout.home();
    let lock = Lock::sandbox(layout)?;
    if home.exists() || layout.netns().exists() {
        report(&format!("ending sandbox {:?}", layout.name()));
    }
    process::kill_marked(&home)?;
    network::remove(layout)?;
    loops::detach_below(layout, &home)?;
    cgroups::remove(layout)?;
    // A command that was killed between making a process and executing it: too early to be seen
    // by the first look.
    process::kill_marked(&home)?;
    remove_tree(&home)?;
    drop(lock);
    base::remove_unfinished_if_idle(layout.dir())?;
    // These go with the last sandbox; the bases stay.
    for empty in [layout.dir().sandboxes(), layout.dir().locks()] {
        let _ = fs::remove_dir(empty);
    }
    Ok(())
}

/// Power loss of one host, by name.
pub(super) fn kill_host(layout: &Layout, name: &str) -> Result<(), Error> {
    requirements::root()?;
    let (mut stored, host) = state::require_host(layout, name)?;
    end_host(layout, name, &host)?;
    if let Some(host) = stored.hosts.get_mut(name) {
        host.supervisor = None;
    }
    state::write(layout, &stored)
}

/// Ends all that runs of a host and removes what it held on this machine, its data apart.
pub(super) fn end_host(layout: &Layout, name: &str, host: &Host) -> Result<(), Error> {
    process::kill_marked(&layout.host(name))?;
    network::unplug(layout, host)?;
    // Loop devices that services in the host made of files of their own, as LXD does for pools.
    loops::detach_below(layout, &layout.host(name))?;
    cgroups::remove_host(layout, name)
}
