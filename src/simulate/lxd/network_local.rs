//! What creating a network does on one machine, and the keys LXD fills in by itself.

use crate::simulate::database::Map;
use crate::simulate::world::World;
use std::net::IpAddr;

/// Creates a machine's part of a network.
pub(super) fn create(
    world: &mut World,
    machine: usize,
    name: &str,
    network_type: &str,
    config: &Map,
) -> Result<(), String> {
    if let Some(error) = world
        .faults
        .create_error(machine, &format!("/1.0/networks/{name}"))
    {
        return Err(error);
    }
    let interfaces = &world.machines[machine].config.interfaces;
    if network_type == "bridge" && interfaces.iter().any(|i| i.name == name) {
        return Err(format!("Network interface {name:?} already exists"));
    }
    if let Some(parent) = config.get("parent")
        && matches!(network_type, "physical" | "macvlan" | "sriov")
    {
        let Some(interface) = interfaces.iter().find(|i| &i.name == parent) else {
            return Err(format!("Parent interface {parent:?} not found"));
        };
        if network_type == "physical" && !interface.addresses.is_empty() {
            return Err(format!(
                "Cannot start network as interface {parent:?} has one or more IP addresses configured on it"
            ));
        }
    }
    Ok(())
}

/// What LXD adds to the configuration of a new network.
pub(super) fn fill(network_type: &str, config: &mut Map) {
    let auto_with_nat: &[&str] = match network_type {
        "bridge" if config.get("bridge.mode").map(String::as_str) == Some("fan") => {
            config
                .entry("fan.underlay_subnet".into())
                .or_insert_with(|| "auto".into());
            return;
        }
        "bridge" | "ovn" => &["ipv4", "ipv6"],
        _ => return,
    };
    for family in auto_with_nat {
        let address = config
            .entry(format!("{family}.address"))
            .or_insert_with(|| "auto".into());
        if address == "auto" {
            config
                .entry(format!("{family}.nat"))
                .or_insert_with(|| "true".into());
        }
    }
}

/// Replaces every `auto` by a generated value.
pub(super) fn resolve_auto(world: &mut World, machine: usize, config: &mut Map) {
    let is_auto = |config: &Map, key: &str| config.get(key).is_some_and(|v| v == "auto");
    if is_auto(config, "ipv4.address") {
        let digits = world.draw();
        let (a, b) = (byte(&digits, 0), byte(&digits, 1));
        config.insert("ipv4.address".into(), format!("10.{a}.{b}.1/24"));
    }
    if is_auto(config, "ipv6.address") {
        let d = world.draw();
        let address = format!("fd42:{}:{}:{}::1/64", &d[0..4], &d[4..8], &d[8..12]);
        // Written as LXD writes it: without leading zeros.
        let address = address
            .parse::<ipnet::Ipv6Net>()
            .map_or(address, |net| format!("{}/64", net.addr()));
        config.insert("ipv6.address".into(), address);
    }
    if is_auto(config, "fan.underlay_subnet") {
        let subnet = world.machines[machine]
            .config
            .interfaces
            .iter()
            .flat_map(|i| &i.addresses)
            .find(|net| matches!(net.addr(), IpAddr::V4(_)))
            .map(|net| net.trunc().to_string());
        if let Some(subnet) = subnet {
            config.insert("fan.underlay_subnet".into(), subnet);
        }
    }
}

fn byte(hex: &str, index: usize) -> u8 {
    hex.get(index * 2..index * 2 + 2)
        .and_then(|pair| u8::from_str_radix(pair, 16).ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::SimConfig;

    #[test]
    fn nat_comes_only_with_a_generated_address() {
        let mut given = Map::from([("ipv4.address".into(), "10.1.0.1/24".into())]);
        fill("bridge", &mut given);
        assert_eq!(given.get("ipv4.nat"), None);
        assert_eq!(given["ipv6.nat"], "true");
    }

    #[test]
    fn auto_becomes_an_address() {
        let shared = World::create(SimConfig::of(1));
        let mut config = Map::new();
        fill("bridge", &mut config);
        resolve_auto(&mut shared.lock(), 0, &mut config);
        assert!(
            config["ipv4.address"].parse::<ipnet::Ipv4Net>().is_ok(),
            "{config:?}"
        );
        assert!(
            config["ipv6.address"].parse::<ipnet::Ipv6Net>().is_ok(),
            "{config:?}"
        );
    }

    #[test]
    fn a_fan_lies_on_the_machines_own_subnet() {
        let shared = World::create(SimConfig::of(1));
        let mut config = Map::from([("bridge.mode".into(), "fan".into())]);
        fill("bridge", &mut config);
        resolve_auto(&mut shared.lock(), 0, &mut config);
        assert_eq!(config["fan.underlay_subnet"], "10.77.0.0/16");
    }
}
