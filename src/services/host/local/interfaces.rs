//! The network interfaces of this machine: sysfs for what they are, the kernel's netlink (through
//! `getifaddrs`) for their addresses.

use super::Roots;
use super::disks::line;
use super::root_disk::list;
use crate::services::host::types::{HostError, InterfaceReport};
use ipnet::IpNet;
use nix::sys::socket::SockaddrStorage;
use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

/// Looks at all interfaces, in name order.
pub(super) async fn report(roots: &Roots) -> Result<Vec<InterfaceReport>, HostError> {
    let roots = roots.clone();
    tokio::task::spawn_blocking(move || look(&roots))
        .await
        .map_err(|e| e.to_string())
        .and_then(|looked| looked)
        .map_err(|reason| HostError::Failed {
            reason: format!("cannot look at the network interfaces: {reason}"),
        })
}

fn look(roots: &Roots) -> Result<Vec<InterfaceReport>, String> {
    let class = roots.sys.join("class/net");
    fs::read_dir(&class).map_err(|e| format!("{}: {e}", class.display()))?;
    let mut addresses = addresses()?;
    Ok(list(&class)
        .into_iter()
        .filter(|dir| dir.is_dir()) // `bonding_masters` is a file
        .filter_map(|dir| {
            let name = dir.file_name()?.to_str()?.to_owned();
            Some(interface(&dir, name, &mut addresses))
        })
        .collect())
}

fn interface(
    dir: &Path,
    name: String,
    addresses: &mut BTreeMap<String, Vec<IpNet>>,
) -> InterfaceReport {
    let flags = line(dir, "flags");
    let flags = u32::from_str_radix(flags.trim_start_matches("0x"), 16).unwrap_or(0);
    let mut own = addresses.remove(&name).unwrap_or_default();
    own.sort();
    own.dedup();
    InterfaceReport {
        kind: kind(dir).to_owned(),
        up: flags & 1 != 0, // IFF_UP
        mtu: line(dir, "mtu").parse().unwrap_or(0),
        mac: line(dir, "address"),
        addresses: own,
        name,
    }
}

fn kind(dir: &Path) -> &'static str {
    const LOOPBACK: &str = "772"; // ARPHRD_LOOPBACK
    let uevent = line(dir, "uevent");
    let devtype = uevent.lines().find_map(|l| l.strip_prefix("DEVTYPE="));
    if line(dir, "type") == LOOPBACK {
        "loopback"
    } else if dir.join("bridge").is_dir() || devtype == Some("bridge") {
        "bridge"
    } else if dir.join("bonding").is_dir() || devtype == Some("bond") {
        "bond"
    } else if devtype == Some("vlan") {
        "vlan"
    } else if dir.join("device").exists() {
        "physical"
    } else {
        "other"
    }
}

/// The addresses by interface. An address with a label (`eth0:1`) belongs to what is before the
/// colon.
fn addresses() -> Result<BTreeMap<String, Vec<IpNet>>, String> {
    let all = nix::ifaddrs::getifaddrs().map_err(|e| e.to_string())?;
    let mut by_name: BTreeMap<String, Vec<IpNet>> = BTreeMap::new();
    for entry in all {
        let ip = entry.address.as_ref().and_then(ip);
        let mask = entry.netmask.as_ref().and_then(ip_mask);
        if let (Some(ip), Some(prefix)) = (ip, mask)
            && let Ok(net) = IpNet::new(ip, prefix)
        {
            let name = entry.interface_name.split(':').next().unwrap_or_default();
            by_name.entry(name.to_owned()).or_default().push(net);
        }
    }
    Ok(by_name)
}

fn ip(address: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|a| IpAddr::V4(a.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|a| IpAddr::V6(a.ip())))
}

/// The length of a prefix from its mask.
fn ip_mask(mask: &SockaddrStorage) -> Option<u8> {
    let ones = match ip(mask)? {
        IpAddr::V4(mask) => Ipv4Addr::to_bits(mask).leading_ones(),
        IpAddr::V6(mask) => Ipv6Addr::to_bits(mask).leading_ones(),
    };
    u8::try_from(ones).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_loopback_of_this_machine_is_seen() {
        let all = report(&Roots::default()).await.unwrap();
        let lo = all.iter().find(|i| i.name == "lo").unwrap();
        assert_eq!(lo.kind, "loopback");
        assert!(lo.up);
        assert!(
            lo.addresses.contains(&"127.0.0.1/8".parse().unwrap()),
            "{lo:?}"
        );
        assert!(lo.mtu > 0);
        assert!(all.windows(2).all(|w| w[0].name < w[1].name));
    }

    #[test]
    fn kinds_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let make = |name: &str, files: &[(&str, &str)]| {
            let base = dir.path().join(name);
            fs::create_dir(&base).unwrap();
            for (file, text) in files {
                let path = base.join(file);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
            kind(&base)
        };
        assert_eq!(make("lo", &[("type", "772\n")]), "loopback");
        assert_eq!(make("br0", &[("bridge/x", "")]), "bridge");
        assert_eq!(
            make("bond0", &[("bonding/x", ""), ("device/x", "")]),
            "bond"
        );
        assert_eq!(
            make("eth0.7", &[("uevent", "DEVTYPE=vlan\nINTERFACE=eth0.7\n")]),
            "vlan"
        );
        assert_eq!(make("eth0", &[("device/x", ""), ("type", "1")]), "physical");
        assert_eq!(make("veth", &[("type", "1")]), "other");
    }
}
