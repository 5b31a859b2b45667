//! Simulated machines that fit a directory: every member a machine at its address, with disks,
//! interfaces and folders so that what the resources ask for is there.

use crate::reconcile::plan::disk_field;
use crate::resources::disk_filter::{self, Filter};
use crate::resources::kinds::{DiskSpec, NetworkSpec, StoragePoolSpec, UplinkSpec};
use crate::resources::value::ConfigValue;
use crate::resources::{Resource, Spec};
use crate::services::host::{DiskReport, InterfaceReport};
use crate::simulate::{MachineConfig, blank_disk};
use std::collections::BTreeMap;

/// Makes the machines; tells what it could not make, one sentence each.
pub fn fitting(resources: &[Resource]) -> (Vec<MachineConfig>, Vec<String>) {
    let mut machines = BTreeMap::new();
    let mut notes = Vec::new();
    for resource in resources {
        if let Spec::Member(member) = &resource.spec {
            let name = resource.metadata.name.clone();
            let mut machine = MachineConfig::new(&name, member.address);
            machine.disks.retain(|d| d.root);
            if let Some(fingerprint) = &member.fingerprint {
                machine.fingerprint.clone_from(fingerprint);
            }
            machines.insert(name, machine);
        }
    }
    for resource in resources {
        let name = &resource.metadata.name;
        match &resource.spec {
            Spec::Disk(disk) => notes.extend(add_disks(&mut machines, name, disk)),
            Spec::StoragePool(pool) => add_sources(&mut machines, pool),
            Spec::Network(network) => add_interfaces(&mut machines, network),
            Spec::Uplink(uplink) => add_uplink(&mut machines, uplink),
            _ => {}
        }
    }
    (machines.into_values().collect(), notes)
}

/// Disks for one `Disk` resource; a sentence when its filter fits none that can be thought of.
fn add_disks(
    machines: &mut BTreeMap<String, MachineConfig>,
    name: &str,
    spec: &DiskSpec,
) -> Option<String> {
    let wanted = spec.members.iter().flatten().chain(&spec.member);
    let limit = spec.limit.unwrap_or(1).max(1);
    let mut missing = None;
    for member in wanted {
        let Some(machine) = machines.get_mut(member) else {
            continue;
        };
        for beside in spec.wal.iter().chain(&spec.db) {
            add_path(machine, beside);
        }
        if let Some(path) = &spec.path {
            add_path(machine, path);
            continue;
        }
        for n in 1..=limit {
            let serial = format!("{member}-{name}-{n}");
            let text = spec.matching.as_deref().unwrap_or("size >= 1GiB");
            match matching(text, &serial) {
                Some(disk) => machine.disks.push(disk),
                None => {
                    missing = Some(format!(
                        "Disk/{name}: no simulated disk fits `{text}`, so it finds none"
                    ));
                }
            }
        }
    }
    missing
}

fn add_path(machine: &mut MachineConfig, path: &str) {
    if !machine.disks.iter().any(|d| d.path == path) {
        let serial = path.rsplit('/').next().unwrap_or(path);
        machine.disks.push(DiskReport {
            path: path.to_owned(),
            ..blank_disk(serial, 100 << 30)
        });
    }
}

/// A disk that a filter fits, if one of those that are usual, or that the filter names, does.
fn matching(text: &str, serial: &str) -> Option<DiskReport> {
    let filter = Filter::parse(text).ok()?;
    let words = words(text);
    let named = |field: &str| {
        words
            .windows(3)
            .find(|w| w[0] == field && w[1] == "==")
            .map(|w| w[2].to_owned())
    };
    let mut sizes = vec![100 << 30, 1 << 30, 10 << 30, 1 << 40, 10 << 40];
    for size in words.iter().filter_map(|word| disk_filter::size(word)) {
        sizes.extend([size, size + 1, size.saturating_sub(1)]);
    }
    let types = [
        named("type"),
        Some("nvme".into()),
        Some("virtio".into()),
        Some("scsi".into()),
    ];
    for size in sizes.into_iter().filter(|size| *size > 0) {
        for disk_type in types.iter().flatten() {
            for flags in 0..4 {
                let mut disk = DiskReport {
                    disk_type: disk_type.clone(),
                    rotational: flags & 1 != 0,
                    removable: flags & 2 != 0,
                    ..blank_disk(serial, size)
                };
                if let Some(serial) = named("serial") {
                    disk.serial = serial;
                }
                if let Some(model) = named("model") {
                    disk.model = model;
                }
                if let Some(id) = named("device_id") {
                    disk.path = format!("/dev/disk/by-id/{id}");
                }
                if filter.matches(&|field| disk_field(&disk, field)) {
                    return Some(disk);
                }
            }
        }
    }
    None
}

/// The words of a filter, without quotes.
fn words(text: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let end = match rest.strip_prefix('"') {
            Some(quoted) => {
                let end = quoted.find('"').unwrap_or(quoted.len());
                words.push(&quoted[..end]);
                (end + 2).min(rest.len())
            }
            None => {
                let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
                words.push(&rest[..end]);
                end
            }
        };
        rest = rest[end..].trim_start();
    }
    words
}

/// What the members' own parts of a pool name.
fn add_sources(machines: &mut BTreeMap<String, MachineConfig>, pool: &StoragePoolSpec) {
    for (member, part) in &pool.members {
        let Some(machine) = machines.get_mut(member) else {
            continue;
        };
        match part.source.as_deref() {
            Some(path) if path.starts_with("/dev/") => add_path(machine, path),
            Some(path) if path.starts_with('/') => machine.directories.push(path.to_owned()),
            _ => {}
        }
    }
}

/// Interfaces that networks are bound to.
fn add_interfaces(machines: &mut BTreeMap<String, MachineConfig>, network: &NetworkSpec) {
    for (member, config) in &network.members {
        let Some(machine) = machines.get_mut(member) else {
            continue;
        };
        for key in ["parent", "bridge.external_interfaces"] {
            let Some(ConfigValue::Plain(names)) = config.get(key) else {
                continue;
            };
            for name in names.split(',').map(str::trim) {
                add_interface(machine, name);
            }
        }
    }
}

/// The interfaces an uplink goes out by: a member's own, or the one of all.
fn add_uplink(machines: &mut BTreeMap<String, MachineConfig>, uplink: &UplinkSpec) {
    for (member, machine) in machines {
        let name = uplink.interfaces.get(member).or(uplink.interface.as_ref());
        if let Some(name) = name {
            add_interface(machine, name);
        }
    }
}

fn add_interface(machine: &mut MachineConfig, name: &str) {
    if !machine.interfaces.iter().any(|i| i.name == name) {
        machine.interfaces.push(InterfaceReport {
            name: name.to_owned(),
            kind: "physical".into(),
            up: true,
            mtu: 1500,
            ..InterfaceReport::default()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_made_for_what_a_filter_asks() {
        for filter in [
            "size >= 1GiB",
            "size == 3TiB && type == nvme",
            "rotational == true && size < 200GiB",
            "model == \"Samsung 990\" || serial == abc",
            "! removable == true",
        ] {
            let disk = matching(filter, "s1").expect(filter);
            let parsed = Filter::parse(filter).expect("it parses");
            assert!(
                parsed.matches(&|field| disk_field(&disk, field)),
                "{filter}"
            );
            assert!(disk.signatures.is_empty());
        }
        assert!(matching("size > 1TiB && size < 1GiB", "s1").is_none());
    }

    #[test]
    fn an_uplink_finds_its_interface_on_every_machine() {
        let mut machines = BTreeMap::new();
        for name in ["a", "b"] {
            let address = "10.0.0.1".parse().expect("an address");
            machines.insert(name.to_owned(), MachineConfig::new(name, address));
        }
        let uplink = UplinkSpec {
            interface: Some("lan0".into()),
            interfaces: [("b".to_owned(), "wan7".to_owned())].into(),
            ..UplinkSpec::default()
        };
        add_uplink(&mut machines, &uplink);
        let has =
            |member: &str, name: &str| machines[member].interfaces.iter().any(|i| i.name == name);
        assert!(has("a", "lan0") && !has("a", "wan7"));
        assert!(has("b", "wan7") && !has("b", "lan0"));
    }

    #[test]
    fn quotes_hold_words_together() {
        assert_eq!(words("a == \"b c\" && d"), ["a", "==", "b c", "&&", "d"]);
    }
}
