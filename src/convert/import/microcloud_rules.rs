//! What must hold in a MicroCloud preseed, besides the types of its keys.

use super::microcloud_file::{DiskFilter, Preseed, System, SystemDisk};
use super::reader::Reader;
use crate::resources::disk_filter::Filter;
use crate::resources::positions::{Step, at};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// The longest session the initiator grants, in seconds.
const LONGEST_SESSION: u64 = 3600;

/// Checks everything and reports all that is wrong. What the machines tell need not be written
/// when they are `seen`.
pub fn check(preseed: &Preseed, seen: bool, reader: &mut Reader) {
    meeting(preseed, reader);
    systems(preseed, reader);
    disks(preseed, reader);
    ceph(preseed, reader);
    ovn(preseed, seen, reader);
}

/// Whether the file forms a cluster: then the initiator is one of its systems. Otherwise it adds
/// systems to a cluster that is there.
pub fn forms(preseed: &Preseed) -> bool {
    initiator(preseed).is_some()
}

/// The system that is the initiator, if it is one of those listed.
pub fn initiator(preseed: &Preseed) -> Option<&System> {
    preseed.systems.iter().find(|system| {
        preseed.initiator.as_ref() == Some(&system.name)
            || (preseed.initiator_address.is_some() && system.address == preseed.initiator_address)
    })
}

/// Whether the file asks for Ceph.
pub fn wants_ceph(preseed: &Preseed) -> bool {
    filters(preseed, |s| &s.ceph).next().is_some()
        || preseed.systems.iter().any(|s| !ceph_disks(s).is_empty())
}

/// Whether the file asks for OVN.
pub fn wants_ovn(preseed: &Preseed) -> bool {
    let gateway = preseed
        .ovn
        .as_ref()
        .is_some_and(|ovn| ovn.ipv4_gateway.is_some() || ovn.ipv6_gateway.is_some());
    gateway || with(preseed, |s| s.ovn_uplink_interface.is_some()) > 0
}

/// Whether the file asks for local storage.
pub fn wants_local(preseed: &Preseed) -> bool {
    filters(preseed, |s| &s.local).next().is_some() || with(preseed, |s| local(s).is_some()) > 0
}

/// The local disk a system names.
pub fn local(system: &System) -> Option<&SystemDisk> {
    system.storage.as_ref()?.local.as_ref()
}

/// The disks a system names for Ceph.
pub fn ceph_disks(system: &System) -> &[SystemDisk] {
    system.storage.as_ref().map_or(&[], |s| s.ceph.as_slice())
}

/// The filters of one use.
pub fn filters<'a>(
    preseed: &'a Preseed,
    of: impl Fn(&'a super::microcloud_file::Storage) -> &'a Vec<DiskFilter>,
) -> impl Iterator<Item = &'a DiskFilter> {
    preseed.storage.iter().flat_map(of)
}

fn with(preseed: &Preseed, has: impl Fn(&System) -> bool) -> usize {
    preseed.systems.iter().filter(|s| has(s)).count()
}

/// How the machines find and trust each other.
fn meeting(preseed: &Preseed, reader: &mut Reader) {
    match (&preseed.initiator, preseed.initiator_address) {
        (None, None) => reader.wrong_key(
            at![],
            "`initiator` or `initiator_address` is missing",
            "name the host that forms the cluster, or give its address",
        ),
        (Some(_), Some(_)) => reader.wrong_key(
            at!["initiator_address"],
            "`initiator` and `initiator_address` exclude each other",
            "remove one of them",
        ),
        (Some(_), None) if preseed.lookup_subnet.is_none() => reader.wrong_key(
            at!["initiator"],
            "`initiator` needs `lookup_subnet`",
            "write the subnet in which the hosts find each other, or use `initiator_address`",
        ),
        (None, Some(_)) if preseed.lookup_subnet.is_some() => reader.wrong_key(
            at!["lookup_subnet"],
            "`lookup_subnet` has no meaning with `initiator_address`",
            "remove one of them",
        ),
        _ => {}
    }
    if preseed.systems.len() > 1
        && preseed
            .session_passphrase
            .as_deref()
            .is_none_or(str::is_empty)
    {
        reader.wrong_key(
            at!["session_passphrase"],
            "`session_passphrase` is missing, and there is more than one system",
            "write one, as MicroCloud wants it; it is not carried over",
        );
    }
    if let Some(seconds) = preseed.session_timeout
        && !(1..=LONGEST_SESSION).contains(&seconds)
    {
        reader.wrong(
            at!["session_timeout"],
            format!("`session_timeout` must be between 1 and {LONGEST_SESSION}, not {seconds}"),
            "it is in seconds",
        );
    }
    if preseed.lookup_timeout == Some(0) {
        reader.wrong(
            at!["lookup_timeout"],
            "`lookup_timeout` must not be 0",
            "it is in seconds",
        );
    }
}

fn systems(preseed: &Preseed, reader: &mut Reader) {
    if preseed.systems.is_empty() {
        reader.wrong_key(
            at!["systems"],
            "there are no `systems`",
            "list the hosts, each with its `name`",
        );
    }
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    let mut addresses: BTreeMap<IpAddr, usize> = BTreeMap::new();
    for (place, system) in preseed.systems.iter().enumerate() {
        let path: &[Step<'_>] = at!["systems", place, "name"];
        if system.name.is_empty() {
            reader.wrong(path, "a system needs a name", "write its host name");
        } else if let Some(first) = seen.insert(&system.name, place) {
            let line = reader.at(at!["systems", first, "name"]).line;
            reader.wrong(
                path,
                format!("`{}` is listed twice", system.name),
                &format!("the first one is on line {line}; remove one of them"),
            );
        }
        match (system.address, preseed.initiator_address) {
            (Some(_), None) => reader.wrong_key(
                at!["systems", place, "address"],
                "`address` is for `initiator_address` only",
                "with `initiator` the hosts find each other by multicast: remove it",
            ),
            (None, Some(_)) => reader.wrong_key(
                at!["systems", place],
                format!("`{}` has no `address`", system.name),
                "with `initiator_address` every system needs one",
            ),
            (Some(address), Some(_)) => {
                if let Some(first) = addresses.insert(address, place) {
                    let other = &preseed.systems[first].name;
                    reader.wrong(
                        at!["systems", place, "address"],
                        format!("`{address}` is the address of `{other}` as well"),
                        "",
                    );
                }
            }
            (None, None) => {}
        }
    }
    all_or_none(preseed, reader, "ovn_uplink_interface", |s| {
        s.ovn_uplink_interface.is_some()
    });
    all_or_none(preseed, reader, "ovn_underlay_ip", |s| {
        s.ovn_underlay_ip.is_some()
    });
}

fn all_or_none(
    preseed: &Preseed,
    reader: &mut Reader,
    key: &'static str,
    has: impl Fn(&System) -> bool,
) {
    if with(preseed, &has) == 0 {
        return;
    }
    for (place, system) in preseed.systems.iter().enumerate() {
        if !has(system) {
            reader.wrong_key(
                at!["systems", place],
                format!(
                    "`{}` has no `{key}`, and other systems have one",
                    system.name
                ),
                "give one to all systems or to none",
            );
        }
    }
}

fn disks(preseed: &Preseed, reader: &mut Reader) {
    let count = preseed.systems.len();
    let locals = with(preseed, |s| local(s).is_some());
    let by_filter = filters(preseed, |s| &s.local).count();
    if locals > 0 && locals < count && by_filter == 0 {
        for (place, system) in preseed.systems.iter().enumerate() {
            if local(system).is_none() {
                reader.wrong_key(
                    at!["systems", place],
                    format!(
                        "`{}` has no local disk, and other systems have one",
                        system.name
                    ),
                    "give it `storage.local`, or write a filter at the top's `storage.local`",
                );
            }
        }
    }
    for (use_, named, message) in [
        ("local", locals, "every system names its local disk"),
        (
            "ceph",
            with(preseed, |s| !ceph_disks(s).is_empty()),
            "every system names its disks for Ceph",
        ),
    ] {
        let given = match use_ {
            "local" => by_filter,
            _ => filters(preseed, |s| &s.ceph).count(),
        };
        if count > 0 && named == count && given > 0 {
            reader.wrong_key(
                at!["storage", use_],
                format!("{message}: there is nothing left for a filter"),
                "remove the filter, or the disks of the systems that it is for",
            );
        }
    }
    for use_ in ["local", "ceph"] {
        let found: Vec<&DiskFilter> = match use_ {
            "local" => filters(preseed, |s| &s.local).collect(),
            _ => filters(preseed, |s| &s.ceph).collect(),
        };
        for (place, filter) in found.into_iter().enumerate() {
            one_filter(filter, at!["storage", use_, place], reader);
        }
    }
}

fn one_filter(filter: &DiskFilter, path: &[Step<'_>], reader: &mut Reader) {
    let find = [path, at!["find"]].concat();
    if filter.find.trim().is_empty() {
        reader.wrong(
            &find,
            "`find` must not be empty",
            "write a filter such as size > 10GiB",
        );
    } else if let Err(problem) = Filter::parse(&filter.find) {
        let diagnostic = reader
            .positions
            .part(&find, &filter.find, problem.at, problem.message);
        reader.wrong.push(diagnostic);
    }
    if filter.find_min == Some(0) {
        let path = [path, at!["find_min"]].concat();
        reader.wrong(&path, "`find_min` must be at least 1", "");
    }
    if let Some(most) = filter.find_max
        && most < filter.find_min.unwrap_or(1)
    {
        let path = [path, at!["find_max"]].concat();
        let least = filter.find_min.unwrap_or(1);
        reader.wrong(
            &path,
            format!("`find_max` must be at least `find_min`, which is {least}"),
            "",
        );
    }
}

fn ceph(preseed: &Preseed, reader: &mut Reader) {
    let Some(ceph) = &preseed.ceph else { return };
    if wants_ceph(preseed) {
        return;
    }
    for (key, given) in [
        ("public_network", ceph.public_network.is_some()),
        ("internal_network", ceph.internal_network.is_some()),
        ("cephfs", ceph.cephfs),
    ] {
        // A file that adds systems may say so of a Ceph that is there.
        if given && (key != "cephfs" || forms(preseed)) {
            reader.wrong_key(
                at!["ceph", key],
                format!("`{key}` needs Ceph, and no system gives it a disk"),
                "give disks by `systems[].storage.ceph` or `storage.ceph`, or remove it",
            );
        }
    }
}

fn ovn(preseed: &Preseed, seen: bool, reader: &mut Reader) {
    let interfaces = with(preseed, |s| s.ovn_uplink_interface.is_some());
    let ovn = preseed.ovn.as_ref();
    let gateways = [
        ("ipv4_gateway", ovn.and_then(|o| o.ipv4_gateway), true),
        ("ipv6_gateway", ovn.and_then(|o| o.ipv6_gateway), false),
    ];
    for (key, gateway, v4) in gateways {
        if let Some(gateway) = gateway
            && gateway.addr().is_ipv4() != v4
        {
            let family = if v4 { "IPv4" } else { "IPv6" };
            reader.wrong(
                at!["ovn", key],
                format!("`{gateway}` is not an address of {family}"),
                "",
            );
        }
    }
    match (
        ovn.and_then(|o| o.ipv4_gateway),
        ovn.and_then(|o| o.ipv4_range.as_ref()),
    ) {
        (Some(_), None) => reader.wrong_key(
            at!["ovn", "ipv4_gateway"],
            "`ipv4_gateway` needs `ipv4_range`",
            "write the addresses OVN may take, as FIRST-LAST",
        ),
        (None, Some(_)) => reader.wrong_key(
            at!["ovn", "ipv4_range"],
            "`ipv4_range` needs `ipv4_gateway`",
            "write the gateway's address with its prefix length",
        ),
        _ => {}
    }
    let servers = ovn.and_then(|o| o.dns_servers.as_deref()).unwrap_or("");
    let mut from = 0;
    for server in servers.split_inclusive(',') {
        let word = server.trim_end_matches(',');
        let bare = word.trim();
        if bare.parse::<IpAddr>().is_err() && !servers.is_empty() {
            let start = from + (word.len() - word.trim_start().len());
            let message = format!("`{bare}` is not an address");
            let diagnostic =
                reader
                    .positions
                    .part(at!["ovn", "dns_servers"], servers, start, message);
            reader.wrong.push(diagnostic);
        }
        from += server.len();
    }
    if !forms(preseed) {
        return;
    }
    let has_gateway = gateways.iter().any(|(_, gateway, _)| gateway.is_some());
    if interfaces > 0 && !has_gateway {
        let place = preseed
            .systems
            .iter()
            .position(|s| s.ovn_uplink_interface.is_some())
            .unwrap_or_default();
        reader.wrong_key(
            at!["systems", place, "ovn_uplink_interface"],
            "`ovn_uplink_interface` needs `ovn.ipv4_gateway` or `ovn.ipv6_gateway`",
            "write at least one of them",
        );
    }
    if has_gateway && interfaces == 0 && !seen {
        let key = match gateways[0].1 {
            Some(_) => "ipv4_gateway",
            None => "ipv6_gateway",
        };
        reader.wrong_key(
            at!["ovn", key],
            "which interfaces lead outside is not said",
            "MicroCloud takes the first one that is free on each host; resources name it: write \
             `ovn_uplink_interface` at every system",
        );
    }
}
