//! The wires: a network namespace with three bridges, and a port on each for every host.
//!
//! | bridge | in the host | addresses |
//! |---|---|---|
//! | `int` | `host0` | internal subnet; the bridge has the first address |
//! | `under` | `under0` | underlay subnet; the bridge has the first address |
//! | `uplink` | `up0` | none in the host; the bridge has the uplink's gateway |
//!
//! The ports are made by `systemd-nspawn` and end with the host.
//!
//! Where the kernel does not forward for Open vSwitch, a process does, and tunnels that it makes
//! end only at an interface of its own: then `under0` is a port of Open vSwitch's bridge
//! `br-under`, which has the underlay address instead.

use super::command::{SHORT, helper, run};
use super::layout::Layout;
use super::state::{self, Host, Networks};
use super::{Error, host};
use ipnet::Ipv4Net;
use serde::Deserialize;
use std::net::Ipv4Addr;

/// A bridge, and what the host's end of a wire to it is called.
pub(super) struct Bridge {
    pub(super) name: &'static str,
    pub(super) in_host: &'static str,
    /// Whether a cut host loses it.
    inside: bool,
}

/// The three bridges.
pub(super) const BRIDGES: [Bridge; 3] = [
    Bridge {
        name: "int",
        in_host: "host0",
        inside: true,
    },
    Bridge {
        name: "under",
        in_host: "under0",
        inside: true,
    },
    Bridge {
        name: "uplink",
        in_host: "up0",
        inside: false,
    },
];

/// The name of a host's port on a bridge.
pub(super) fn port(bridge: &Bridge, host: &Host) -> String {
    format!("{}-{}", bridge.name, host.number)
}

/// The sandbox's own address in a subnet: the first one.
pub(super) fn gateway(subnet: Ipv4Net) -> Ipv4Addr {
    subnet.hosts().next().unwrap_or(subnet.network())
}

fn subnet(bridge: &Bridge, networks: &Networks) -> Ipv4Net {
    match bridge.name {
        "int" => networks.internal,
        "under" => networks.underlay,
        _ => networks.uplink,
    }
}

/// Makes what is missing of the namespace and its bridges.
pub(super) fn ensure(layout: &Layout, networks: &Networks) -> Result<(), Error> {
    let name = layout.unique();
    // A file of that name that is no namespace was left by a command that was killed half way.
    if layout.netns().exists() && links(layout).is_err() {
        remove(layout)?;
    }
    if !layout.netns().exists() {
        run(
            helper(layout, "ip").args(["netns", "add", &name]),
            None,
            SHORT,
        )?;
    }
    let there = links(layout)?;
    let mut batch = String::from("link set dev lo up\n");
    for bridge in &BRIDGES {
        if !there.iter().any(|l| l == bridge.name) {
            batch.push_str(&format!(
                "link add name {} type bridge mcast_snooping 0\n",
                bridge.name
            ));
        }
        let subnet = subnet(bridge, networks);
        batch.push_str(&format!(
            "addr replace {}/{} dev {name}\nlink set dev {name} up\n",
            gateway(subnet),
            subnet.prefix_len(),
            name = bridge.name
        ));
    }
    ip_batch(layout, &batch)
}

/// Plugs the ports of a running host into their bridges, or leaves them out when it is cut off.
pub(super) fn plug(layout: &Layout, host: &Host) -> Result<(), Error> {
    let batch: String = BRIDGES
        .iter()
        .map(|bridge| {
            let port = port(bridge, host);
            // Without a bridge nothing is forwarded, yet the host's end keeps its carrier.
            let to = if host.cut && bridge.inside {
                "nomaster".to_owned()
            } else {
                format!("master {}", bridge.name)
            };
            format!("link set dev {port} {to}\nlink set dev {port} up\n")
        })
        .collect();
    ip_batch(layout, &batch)
}

/// Removes the ports a host left when its supervisor was killed.
pub(super) fn unplug(layout: &Layout, host: &Host) -> Result<(), Error> {
    if !layout.netns().exists() {
        return Ok(());
    }
    let there = links(layout)?;
    for port in BRIDGES
        .iter()
        .map(|b| port(b, host))
        .filter(|p| there.contains(p))
    {
        let gone = run(
            helper(layout, "ip").args(["-n", &layout.unique(), "link", "del", &port]),
            None,
            SHORT,
        );
        // The kernel may have removed it between the look and the call.
        if gone.is_err() && links(layout)?.contains(&port) {
            gone?;
        }
    }
    Ok(())
}

/// Cuts a host off from the others, or joins it again.
pub(super) fn set_cut(layout: &Layout, name: &str, cut: bool) -> Result<(), Error> {
    let (mut stored, mut host) = state::require_host(layout, name)?;
    host.cut = cut;
    stored.hosts.insert(name.to_owned(), host.clone());
    state::write(layout, &stored)?;
    if host::init(&host).is_some() {
        plug(layout, &host)
    } else {
        Ok(())
    }
}

/// Removes the namespace with all its bridges.
pub(super) fn remove(layout: &Layout) -> Result<(), Error> {
    if !layout.netns().exists() {
        return Ok(());
    }
    run(
        helper(layout, "ip").args(["netns", "del", &layout.unique()]),
        None,
        SHORT,
    )
    .map(drop)
}

/// The names of the links in the namespace.
fn links(layout: &Layout) -> Result<Vec<String>, Error> {
    #[derive(Deserialize)]
    struct Link {
        ifname: String,
    }
    let json = run(
        helper(layout, "ip").args(["-n", &layout.unique(), "-j", "link", "show"]),
        None,
        SHORT,
    )?;
    let links: Vec<Link> = serde_json::from_str(&json).unwrap_or_default();
    Ok(links.into_iter().map(|l| l.ifname).collect())
}

fn ip_batch(layout: &Layout, batch: &str) -> Result<(), Error> {
    run(
        helper(layout, "ip").args(["-n", &layout.unique(), "-batch", "-"]),
        Some(batch),
        SHORT,
    )
    .map(drop)
}

/// Makes the bridge that holds `under0` where a process forwards.
pub(super) const UNDERLAY_UNIT: &str = "sandbox-underlay.service";

/// That bridge.
const UNDERLAY_BRIDGE: &str = "br-under";

/// The files of a host that give it its network, for `systemd-networkd` and Open vSwitch;
/// `userspace` says that a process forwards for Open vSwitch, not the kernel.
pub(super) fn files(host: &Host, networks: &Networks, userspace: bool) -> Vec<(String, String)> {
    let network = |interface: &str, addresses: &str| {
        (
            format!("etc/systemd/network/10-{interface}.network"),
            format!(
                "[Match]\nName={interface}\n\n[Network]\n{addresses}DHCP=no\nIPv6AcceptRA=no\n\
                 ConfigureWithoutCarrier=yes\nIgnoreCarrierLoss=yes\n"
            ),
        )
    };
    // LXD refuses an uplink's parent that has an address.
    const BARE: &str = "LinkLocalAddressing=no\n";
    let mut files = Vec::new();
    for bridge in &BRIDGES {
        let subnet = subnet(bridge, networks);
        let addresses = format!("Address={}/{}\n", host.address(subnet), subnet.prefix_len());
        if bridge.name == "under" && userspace {
            files.push(network(bridge.in_host, BARE));
            files.push(network(UNDERLAY_BRIDGE, &addresses));
            files.push((
                format!("etc/systemd/system/{UNDERLAY_UNIT}"),
                format!(
                    "[Unit]\nDescription=Tunnels of Open vSwitch end at {UNDERLAY_BRIDGE}\n\
                     Requires=openvswitch-switch.service\nAfter=openvswitch-switch.service\n\n\
                     [Service]\nType=oneshot\nRemainAfterExit=yes\n\
                     ExecStart=ovs-vsctl --may-exist add-br {UNDERLAY_BRIDGE} -- \
                     set Bridge {UNDERLAY_BRIDGE} datapath_type=netdev -- \
                     --may-exist add-port {UNDERLAY_BRIDGE} {}\n",
                    bridge.in_host
                ),
            ));
        } else {
            let addresses = if bridge.inside { &addresses } else { BARE };
            files.push(network(bridge.in_host, addresses));
        }
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_two_addresses_and_a_bare_uplink() -> Result<(), Box<dyn std::error::Error>> {
        let networks = Networks {
            internal: "10.77.0.0/24".parse()?,
            underlay: "10.78.0.0/24".parse()?,
            uplink: "198.51.100.0/24".parse()?,
        };
        let host = Host {
            number: 240,
            lxd: true,
            cut: false,
            supervisor: None,
            disks: Vec::new(),
        };
        let files = files(&host, &networks, false);
        assert!(files[0].1.contains("Name=host0") && files[0].1.contains("Address=10.77.0.250/24"));
        assert!(
            files[1].1.contains("Name=under0") && files[1].1.contains("Address=10.78.0.250/24")
        );
        assert!(files[2].1.contains("Name=up0") && !files[2].1.contains("Address="));
        let files = super::files(&host, &networks, true);
        let of = |path: &str| {
            files
                .iter()
                .find(|(p, _)| p.ends_with(path))
                .map(|(_, c)| c)
        };
        assert!(of("10-under0.network").is_some_and(|c| !c.contains("Address=")));
        assert!(of("10-br-under.network").is_some_and(|c| c.contains("Address=10.78.0.250/24")));
        assert!(of(UNDERLAY_UNIT).is_some_and(|c| c.contains("add-port br-under under0")));
        assert_eq!(gateway(networks.uplink), Ipv4Addr::new(198, 51, 100, 1));
        // The kernel takes no longer names than 15 bytes.
        assert!(BRIDGES.iter().all(|b| port(b, &host).len() <= 15));
        Ok(())
    }
}
