//! What a sandbox and its hosts are now, for those who look at them.

use super::layout::Layout;
use super::state::{self, Stored};
use super::{Error, host, network};
use serde::Serialize;
use std::net::Ipv4Addr;
use std::path::PathBuf;

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
            let init = host::init(&host);
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
