//! What machines have to offer: addresses, disks, ways out.

use super::ask::Asker;
use crate::cli::error::CommandError;
use crate::resources::setup::SetupDisk;
use crate::services::host::{DiskReport, HostReport, InterfaceReport};
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// The addresses of a machine that others can reach it by, with their subnets.
pub fn addresses(report: &HostReport) -> Vec<(String, IpNet)> {
    let global = |net: &IpNet| match net.addr() {
        IpAddr::V4(v4) => !v4.is_loopback() && !v4.is_link_local(),
        IpAddr::V6(v6) => !v6.is_loopback() && !v6.is_unicast_link_local(),
    };
    let mut all = Vec::new();
    for interface in &report.interfaces {
        let of = interface.addresses.iter().filter(|net| global(net));
        all.extend(of.map(|net| (interface.name.clone(), *net)));
    }
    all
}

/// The address this machine is to be reached by, with its subnet: what a flag says, the only one,
/// or what a person chooses. `near` prefers one of the same subnet as another machine.
///
/// # Errors
/// There is none, or nobody was asked.
pub async fn own_address(
    report: &HostReport,
    flag: Option<IpAddr>,
    near: Option<IpAddr>,
    ask: &mut Asker,
) -> Result<IpNet, CommandError> {
    let all = addresses(report);
    if let Some(wanted) = flag {
        // Also one that would not be offered; all of 127.0.0.0/8 is the machine's own.
        let has =
            |net: &&IpNet| net.addr() == wanted || (wanted.is_loopback() && net.contains(&wanted));
        let found = report
            .interfaces
            .iter()
            .flat_map(|i| &i.addresses)
            .find(has);
        let net = found.and_then(|net| IpNet::new(wanted, net.prefix_len()).ok());
        return net.ok_or_else(|| {
            CommandError::Usage(format!("{} has no address {wanted}", report.name))
        });
    }
    let close: Vec<&(String, IpNet)> = all
        .iter()
        .filter(|(_, net)| near.is_some_and(|near| net.contains(&near)))
        .collect();
    match (close.as_slice(), all.as_slice()) {
        ([(_, net)], _) | ([], [(_, net)]) => return Ok(*net),
        (_, []) => {
            let message = format!("{} has no address others could reach it by", report.name);
            return Err(CommandError::Usage(message));
        }
        _ => {}
    }
    if ask.silent() {
        let message = format!(
            "{} has several addresses: give one with --address",
            report.name
        );
        return Err(CommandError::Usage(message));
    }
    let rows: Vec<Vec<String>> = all
        .iter()
        .map(|(name, net)| vec![net.to_string(), name.clone()])
        .collect();
    let one = |chosen: &BTreeSet<usize>| match chosen.len() {
        1 => Ok(()),
        _ => Err("choose one".to_owned()),
    };
    let question = "The address the other machines reach this one by:";
    let first = BTreeSet::from([0]);
    let chosen = ask
        .select(question, &["ADDRESS", "INTERFACE"], &rows, &first, one)
        .await?;
    let place = chosen.first().copied().unwrap_or(0);
    Ok(all[place].1)
}

/// The disks of machines that could be given away.
fn candidates(reports: &[&HostReport], taken: &[SetupDisk]) -> Vec<(String, DiskReport)> {
    let mut all = Vec::new();
    for report in reports {
        let fit = |disk: &&DiskReport| {
            !disk.root
                && !disk.read_only
                && disk.disk_type != "cdrom"
                && !disk.signatures.iter().any(|s| s.starts_with("mounted"))
                && taken
                    .iter()
                    .all(|t| t.member != report.name || t.path != disk.path)
        };
        let fit = report.disks.iter().filter(fit);
        all.extend(fit.map(|disk| (report.name.clone(), disk.clone())));
    }
    all
}

/// How many disks each machine must give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// Exactly one.
    One,
    /// Any number, and at least one in all.
    Some,
}

/// Which disks are given: those of flags (`MEMBER=PATH`), or what a person chooses. Disks that are
/// not empty are asked about once more, unless `wipe` says already that they may be destroyed.
///
/// # Errors
/// A flag names what there is not, or nobody was asked.
pub async fn disks(
    question: &str,
    flags: &[String],
    share: Share,
    wipe: bool,
    reports: &[&HostReport],
    taken: &[SetupDisk],
    ask: &mut Asker,
) -> Result<Vec<SetupDisk>, CommandError> {
    let all = candidates(reports, taken);
    let enough = |chosen: &BTreeSet<usize>| {
        let mut counts: BTreeMap<&str, usize> =
            reports.iter().map(|r| (r.name.as_str(), 0)).collect();
        for place in chosen {
            *counts.entry(all[*place].0.as_str()).or_default() += 1;
        }
        match share {
            Share::One => match counts.iter().find(|(_, count)| **count != 1) {
                Some((name, count)) => Err(format!("{name} gives {count} disks, and must give 1")),
                None => Ok(()),
            },
            Share::Some if chosen.is_empty() => Err("choose at least one".to_owned()),
            Share::Some => Ok(()),
        }
    };
    let chosen = if flags.is_empty() {
        let rows: Vec<Vec<String>> = all.iter().map(|(name, disk)| row(name, disk)).collect();
        let header = ["MEMBER", "DISK", "SIZE", "TYPE", "MODEL", "CONTENTS"];
        ask.select(question, &header, &rows, &BTreeSet::new(), enough)
            .await?
    } else {
        let mut chosen = BTreeSet::new();
        for flag in flags {
            let (member, path) = pair(flag)?;
            let named = |(_, (name, disk)): &(usize, &(String, DiskReport))| {
                name == member && (disk.path == path || disk.links.iter().any(|l| l == path))
            };
            let found = all.iter().enumerate().find(named);
            let missing =
                || CommandError::Usage(format!("{member} has no disk {path} that could be given"));
            chosen.insert(found.ok_or_else(missing)?.0);
        }
        enough(&chosen).map_err(CommandError::Usage)?;
        chosen
    };
    let full: BTreeSet<usize> = chosen
        .iter()
        .copied()
        .filter(|place| !all[*place].1.signatures.is_empty())
        .collect();
    let mut wiped = BTreeSet::new();
    if !full.is_empty() {
        if wipe {
            wiped = full;
        } else {
            let places: Vec<usize> = full.into_iter().collect();
            let rows: Vec<Vec<String>> = places
                .iter()
                .map(|place| row(&all[*place].0, &all[*place].1))
                .collect();
            let header = ["MEMBER", "DISK", "SIZE", "TYPE", "MODEL", "CONTENTS"];
            let question = "These are not empty. Which of them may be DESTROYED?";
            let picked = ask
                .select(question, &header, &rows, &BTreeSet::new(), |_| Ok(()))
                .await?;
            wiped = picked.into_iter().map(|at| places[at]).collect();
        }
    }
    let given = chosen.into_iter().map(|place| SetupDisk {
        member: all[place].0.clone(),
        path: all[place].1.path.clone(),
        wipe: wiped.contains(&place),
    });
    Ok(given.collect())
}

fn row(member: &str, disk: &DiskReport) -> Vec<String> {
    vec![
        member.to_owned(),
        disk.path.clone(),
        size(disk.size),
        disk.disk_type.clone(),
        disk.model.clone(),
        disk.signatures.join(", "),
    ]
}

/// Bytes as people say them.
fn size(bytes: u64) -> String {
    let units = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
    for (shift, unit) in units {
        if bytes >> shift > 0 {
            let tenths = (bytes >> (shift - 10)) * 10 / 1024;
            return format!("{}.{}{unit}", tenths / 10, tenths % 10);
        }
    }
    format!("{bytes}B")
}

/// `MEMBER=WHAT`.
///
/// # Errors
/// It is not.
pub fn pair(flag: &str) -> Result<(&str, &str), CommandError> {
    flag.split_once('=')
        .filter(|(member, what)| !member.is_empty() && !what.is_empty())
        .ok_or_else(|| CommandError::Usage(format!("`{flag}` is not MEMBER=WHAT")))
}

/// The interfaces of a machine that OVN may go out by: they are up, have no address and are in no
/// bridge of Open vSwitch.
fn ways_out(report: &HostReport) -> Vec<&InterfaceReport> {
    let kinds = ["loopback"];
    let ours = [
        "lxd", "br-int", "ovs-", "genev", "lxdbr", "tap", "veth", "docker",
    ];
    let fit = |i: &&InterfaceReport| {
        i.up && i.addresses.is_empty()
            && !report.ovn.chassis.ports.contains_key(&i.name)
            && !kinds.contains(&i.kind.as_str())
            && !ours.iter().any(|prefix| i.name.starts_with(prefix))
    };
    report.interfaces.iter().filter(fit).collect()
}

/// The interface of each machine that OVN goes out by: those of flags (`NAME` for all, or
/// `MEMBER=NAME`), or what a person chooses.
///
/// # Errors
/// A machine has none, or nobody was asked.
pub async fn uplinks(
    flags: &[String],
    reports: &[&HostReport],
    ask: &mut Asker,
) -> Result<BTreeMap<String, String>, CommandError> {
    let mut chosen = BTreeMap::new();
    for report in reports {
        let mut given = None;
        for flag in flags {
            match flag.split_once('=') {
                Some((member, name)) if member == report.name => given = Some(name.to_owned()),
                Some(_) => {}
                None => given = given.or(Some(flag.clone())),
            }
        }
        let ways = ways_out(report);
        let names: Vec<String> = ways.iter().map(|i| i.name.clone()).collect();
        let name = match (given, names.as_slice()) {
            (Some(name), _) => name,
            (None, []) => {
                let message = format!(
                    "{} has no interface without an address that OVN could go out by",
                    report.name
                );
                return Err(CommandError::Usage(message));
            }
            (None, [only]) if ask.silent() => only.clone(),
            (None, names) => {
                let default = if flags.is_empty() {
                    names.first()
                } else {
                    None
                };
                let question = format!(
                    "The interface of {} that leads outside, one of {}",
                    report.name,
                    names.join(", ")
                );
                let known = |answer: &str| match names.iter().any(|n| n == answer) {
                    true => Ok(answer.to_owned()),
                    false => Err(format!("{} has no such interface", report.name)),
                };
                let default = default.map(String::as_str);
                ask.text(&question, default, known).await?
            }
        };
        chosen.insert(report.name.clone(), name);
    }
    Ok(chosen)
}

/// The address of a machine in a subnet.
pub fn address_in(report: &HostReport, subnet: &IpNet) -> Option<IpAddr> {
    let all = addresses(report);
    let found = all.iter().find(|(_, net)| subnet.contains(&net.addr()));
    found.map(|(_, net)| net.addr())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short() {
        for (bytes, text) in [
            (512, "512B"),
            (3 << 30, "3.0GiB"),
            ((1 << 40) + (1 << 39), "1.5TiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }

    #[tokio::test]
    async fn the_way_out_is_the_first_interface_that_is_up_and_free() {
        let mut report = HostReport {
            name: "micro01".to_owned(),
            agent_version: String::new(),
            fingerprint: String::new(),
            machine_id: String::new(),
            boot_id: String::new(),
            lxd: crate::services::host::LxdReport::NotInstalled,
            ovn: Default::default(),
            disks: Vec::new(),
            interfaces: Vec::new(),
            ceph: Default::default(),
        };
        for (name, up) in [
            ("eno1", false),
            ("under0", true),
            ("up0", true),
            ("up1", true),
        ] {
            report.interfaces.push(InterfaceReport {
                name: name.to_owned(),
                kind: "physical".to_owned(),
                up,
                ..InterfaceReport::default()
            });
        }
        let ports = &mut report.ovn.chassis.ports;
        ports.insert("under0".to_owned(), "br-under".to_owned());
        let chosen = uplinks(&[], &[&report], &mut Asker::new(true)).await;
        assert_eq!(chosen.unwrap()["micro01"], "up0");
    }

    #[test]
    fn pairs_are_read() {
        assert_eq!(pair("a=/dev/b").unwrap(), ("a", "/dev/b"));
        for wrong in ["a", "=b", "a="] {
            assert!(pair(wrong).is_err(), "{wrong}");
        }
    }
}
