//! Choosing subnets that nothing on this machine uses.

use super::command::{SHORT, run};
use super::{Error, Networks};
use ipnet::Ipv4Net;
use serde::Deserialize;
use std::net::Ipv4Addr;
use std::process::Command;

/// The subnets this machine has addresses in or routes to.
pub(super) fn used_by_machine() -> Result<Vec<Ipv4Net>, Error> {
    let routes = run(
        Command::new("ip").args(["-j", "-4", "route", "show", "table", "all"]),
        None,
        SHORT,
    )?;
    let addresses = run(
        Command::new("ip").args(["-j", "-4", "addr", "show"]),
        None,
        SHORT,
    )?;
    Ok(in_routes(&routes)
        .into_iter()
        .chain(in_addresses(&addresses))
        .collect())
}

/// The destinations in the output of `ip -j route`, the default route apart.
fn in_routes(json: &str) -> Vec<Ipv4Net> {
    #[derive(Deserialize)]
    struct Route {
        dst: String,
    }
    // `ip` prints nothing at all when there is nothing to print.
    let routes: Vec<Route> = serde_json::from_str(json).unwrap_or_default();
    routes
        .iter()
        .filter_map(|r| {
            r.dst
                .parse::<Ipv4Net>()
                .ok()
                .or_else(|| Some(r.dst.parse::<Ipv4Addr>().ok()?.into()))
        })
        .filter(|net| net.prefix_len() > 0)
        .collect()
}

/// The subnets in the output of `ip -j addr`.
fn in_addresses(json: &str) -> Vec<Ipv4Net> {
    #[derive(Deserialize)]
    struct Link {
        #[serde(default)]
        addr_info: Vec<Address>,
    }
    #[derive(Deserialize)]
    struct Address {
        local: Option<Ipv4Addr>,
        prefixlen: u8,
    }
    let links: Vec<Link> = serde_json::from_str(json).unwrap_or_default();
    links
        .iter()
        .flat_map(|l| &l.addr_info)
        .filter_map(|a| Ipv4Net::new(a.local?, a.prefixlen).ok())
        .map(|net| net.trunc())
        .collect()
}

/// Chooses three subnets that overlap nothing in `used`. The sandbox `default` is offered the
/// first candidates, others begin behind them, so that its addresses do not depend on which
/// sandbox was made first.
pub(super) fn choose(name: &str, used: &[Ipv4Net]) -> Result<Networks, Error> {
    let from = usize::from(name != "default");
    let free = |net: &Ipv4Net| !used.iter().any(|u| u.contains(net) || net.contains(u));
    let net = |a, b, c| Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, 0), 24);
    // 10.77.0.0/24 with 10.78.0.0/24, then 10.79 with 10.80, and so on.
    let (internal, underlay) = (77..=251)
        .step_by(2)
        .map(|second: u8| (net(10, second, 0), net(10, second + 1, 0)))
        .skip(from)
        .find(|(internal, underlay)| free(internal) && free(underlay))
        .ok_or(Error::NoSubnet("internal"))?;
    // Documentation and benchmarking networks: nobody routes them.
    let uplink = [net(198, 51, 100), net(203, 0, 113)]
        .into_iter()
        .chain((0..=255).flat_map(|third| [net(198, 18, third), net(198, 19, third)]))
        .skip(from)
        .find(free)
        .ok_or(Error::NoSubnet("uplink"))?;
    Ok(Networks {
        internal,
        underlay,
        uplink,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nets(list: &[&str]) -> Vec<Ipv4Net> {
        list.iter().filter_map(|n| n.parse().ok()).collect()
    }

    fn chosen(name: &str, used: &[&str]) -> Option<[String; 3]> {
        let n = choose(name, &nets(used)).ok()?;
        Some([
            n.internal.to_string(),
            n.underlay.to_string(),
            n.uplink.to_string(),
        ])
    }

    #[test]
    fn the_default_sandbox_has_known_addresses() {
        let expected = ["10.77.0.0/24", "10.78.0.0/24", "198.51.100.0/24"].map(str::to_owned);
        assert_eq!(
            chosen("default", &["192.0.2.0/24", "127.0.0.0/8"]),
            Some(expected)
        );
        let expected = ["10.79.0.0/24", "10.80.0.0/24", "203.0.113.0/24"].map(str::to_owned);
        assert_eq!(chosen("other", &[]), Some(expected));
    }

    #[test]
    fn overlaps_of_any_size_are_avoided() {
        // A single address, a wider network, and only the second of a pair.
        let expected = ["10.83.0.0/24", "10.84.0.0/24", "203.0.113.0/24"].map(str::to_owned);
        let used = [
            "10.77.0.9/32",
            "10.80.0.0/16",
            "10.82.0.128/25",
            "198.51.0.0/16",
        ];
        assert_eq!(chosen("default", &used), Some(expected));
    }

    #[test]
    fn a_machine_that_uses_all_of_ten_is_told() {
        let said = choose("default", &nets(&["10.0.0.0/8"]))
            .err()
            .map(|e| e.to_string());
        assert!(said.is_some_and(|s| s.contains("internal")));
        let used = ["198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24"];
        assert!(matches!(
            choose("default", &nets(&used)),
            Err(Error::NoSubnet("uplink"))
        ));
    }

    #[test]
    fn routes_and_addresses_of_the_machine() {
        let routes = r#"[{"dst":"default","gateway":"192.0.2.1"},{"dst":"10.9.0.0/16"},{"dst":"10.1.2.3"},
            {"type":"local","dst":"127.0.0.0/8"}]"#;
        assert_eq!(
            in_routes(routes),
            nets(&["10.9.0.0/16", "10.1.2.3/32", "127.0.0.0/8"])
        );
        let addresses = r#"[{"ifname":"lo","addr_info":[{"family":"inet","local":"127.0.0.1","prefixlen":8}]},
            {"ifname":"x"},{"addr_info":[{"family":"inet6","prefixlen":64}]}]"#;
        assert_eq!(in_addresses(addresses), nets(&["127.0.0.0/8"]));
        assert!(in_routes("").is_empty() && in_addresses("").is_empty());
    }
}
