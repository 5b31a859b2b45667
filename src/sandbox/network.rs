//! The wires: a network namespace with three bridges, and a port on each for every host.
//!
//! | bridge | in the host | addresses |
//! |---|---|---|
//! | `int` | `host0` | internal subnet; the bridge has the first address |
//! | `under` | `under0` | underlay subnet; the bridge has the first address |
//! | `uplink` | `up0` | none in the host; the bridge has the uplink's gateway |
//!
//! The ports are made by `systemd-nspawn` and end with the host.

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

/// The `systemd-networkd` files of a host.
pub(super) fn files(host: &Host, networks: &Networks) -> Vec<(String, String)> {
    BRIDGES
        .iter()
        .map(|bridge| {
            let subnet = subnet(bridge, networks);
            let addresses = if bridge.inside {
                format!("Address={}/{}\n", host.address(subnet), subnet.prefix_len())
            } else {
                // LXD refuses an uplink's parent that has an address.
                "LinkLocalAddressing=no\n".to_owned()
            };
            (
                format!("etc/systemd/network/10-{}.network", bridge.in_host),
                format!(
                    "[Match]\nName={}\n\n[Network]\n{addresses}DHCP=no\nIPv6AcceptRA=no\n\
                     ConfigureWithoutCarrier=yes\nIgnoreCarrierLoss=yes\n",
                    bridge.in_host
                ),
            )
        })
        .collect()
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
        let files = files(&host, &networks);
        assert!(files[0].1.contains("Name=host0") && files[0].1.contains("Address=10.77.0.250/24"));
        assert!(
            files[1].1.contains("Name=under0") && files[1].1.contains("Address=10.78.0.250/24")
        );
        assert!(files[2].1.contains("Name=up0") && !files[2].1.contains("Address="));
        assert_eq!(gateway(networks.uplink), Ipv4Addr::new(198, 51, 100, 1));
        // The kernel takes no longer names than 15 bytes.
        assert!(BRIDGES.iter().all(|b| port(b, &host).len() <= 15));
        Ok(())
    }
}
