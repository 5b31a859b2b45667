//! A MicroCloud preseed to resources.

use super::microcloud_file::{DiskFilter, Preseed, System};
use super::microcloud_rules::{
    ceph_disks, check, filters, forms, initiator, local, wants_ceph, wants_local, wants_ovn,
};
use super::reader::{Reader, Tree};
use super::sketch::{Sketch, list};
use super::{CLOUD, Options, Seen, Sketched};
use crate::resources::kinds::ServerVolume;
use crate::resources::positions::at;
use crate::resources::setup::{LOCAL, STATEFUL_MIGRATION};
use crate::resources::text::Span;
use crate::resources::{Diagnostic, Kind};
use std::net::IpAddr;

/// The sentence about what is not carried over of a disk that may be wiped.
const WIPE: &str = "`wipe` allows it in general; each disk that holds something is wiped only after \
                    `microcloud approve`, which `microcloud status` prints.";

/// Reads a MicroCloud preseed.
///
/// # Errors
/// Everything that is wrong with it.
pub fn import(tree: Tree, options: &Options) -> Result<Sketched, Vec<Diagnostic>> {
    let (preseed, mut reader) = Reader::decode::<Preseed>(tree, "the preseed")?;
    check(&preseed, options.seen.is_some(), &mut reader);
    let addresses = addresses(&preseed, options, &mut reader);
    if !reader.wrong.is_empty() {
        return Err(reader.wrong);
    }
    let mut made = Maker {
        preseed: &preseed,
        seen: options.seen.as_ref(),
        reader: &mut reader,
        sketches: Vec::new(),
    };
    if forms(&preseed) {
        made.cluster();
        made.networks();
        made.pools();
        made.profile();
    } else {
        made.what_a_cluster_has_already();
    }
    made.members(&addresses);
    made.disks();
    let sketches = made.sketches;
    let beside = (!forms(&preseed)).then(|| beside(&preseed));
    Ok(Sketched {
        sketches,
        beside: beside.unwrap_or_default(),
        reader,
    })
}

/// The address of each system, in their order.
fn addresses(preseed: &Preseed, options: &Options, reader: &mut Reader) -> Vec<Option<IpAddr>> {
    let mut found = Vec::with_capacity(preseed.systems.len());
    for (place, system) in preseed.systems.iter().enumerate() {
        let address = system
            .address
            .or_else(|| options.addresses.get(&system.name).copied());
        if address.is_none() && preseed.initiator_address.is_none() && !system.name.is_empty() {
            reader.wrong(
                at!["systems", place, "name"],
                format!("the address of `{}` is not in the file", system.name),
                &format!(
                    "MicroCloud's hosts find each other by multicast, resources name addresses: \
                     run again with --address {}=ADDRESS",
                    system.name
                ),
            );
        }
        found.push(address);
    }
    found
}

/// What there is already where systems are added: resources that those of the file stand beside.
fn beside(preseed: &Preseed) -> Vec<serde_json::Value> {
    let name = preseed.initiator.clone();
    let initiator = name.unwrap_or_else(|| "initiator".to_owned());
    let document = |kind: &str, name: &str, spec: serde_json::Value| {
        serde_json::json!({
            "apiVersion": crate::resources::object::API_VERSION,
            "kind": kind, "metadata": { "name": name }, "spec": spec,
            "origin": { "source": "applied", "file": "the cluster", "line": 1 },
        })
    };
    let cluster = serde_json::json!({
        "initiator": initiator,
        "ceph": { "provider": "packaged" },
        "ovn": { "provider": "packaged" },
    });
    vec![
        document("Cluster", CLOUD, cluster),
        document(
            "StoragePool",
            "local",
            serde_json::json!({ "driver": "zfs" }),
        ),
    ]
}

struct Maker<'a> {
    preseed: &'a Preseed,
    seen: Option<&'a Seen>,
    reader: &'a mut Reader,
    sketches: Vec<Sketch>,
}

impl Maker<'_> {
    fn cluster(&mut self) {
        let preseed = self.preseed;
        let at = self.reader.at(at![]);
        let mut cluster = Sketch::new(Kind::Cluster, CLOUD, at);
        if let Some(first) = initiator(preseed) {
            let place = match preseed.initiator {
                Some(_) => self.reader.at(at!["initiator"]),
                None => self.reader.at(at!["initiator_address"]),
            };
            cluster.text(&["initiator"], &first.name, place);
        }
        let internal = preseed.lookup_subnet.or(self.seen.and_then(|s| s.internal));
        if let Some(subnet) = internal {
            let at = self.reader.at(at!["lookup_subnet"]);
            cluster.text(&["internalSubnet"], subnet.trunc().to_string(), at);
        }
        cluster.text(&["config", STATEFUL_MIGRATION], "true", at);
        if wants_ovn(preseed) {
            cluster.text(&["ovn", "provider"], "packaged", self.reader.at(at!["ovn"]));
            cluster.note(
                "OVN is run from the distribution's packages, where MicroCloud runs MicroOVN.",
            );
        }
        if wants_ceph(preseed) {
            let at = self.reader.at(at!["storage"]);
            cluster.text(&["ceph", "provider"], "packaged", at);
            cluster.note(
                "Ceph is run from the distribution's packages, where MicroCloud runs MicroCeph.",
            );
            for (key, field, subnet) in [
                (
                    "public_network",
                    "publicNetwork",
                    public_network(preseed, self.seen),
                ),
                (
                    "internal_network",
                    "clusterNetwork",
                    preseed.ceph.as_ref().and_then(|c| c.internal_network),
                ),
            ] {
                if let Some(subnet) = subnet {
                    let at = self.reader.at(at!["ceph", key]);
                    cluster.text(&["ceph", field], subnet.to_string(), at);
                }
            }
        }
        self.session(&mut cluster);
        self.sketches.push(cluster);
    }

    /// What is for MicroCloud's own session and has no place in resources.
    fn session(&mut self, cluster: &mut Sketch) {
        if self.seen.is_some() {
            return; // it was used for that session
        }
        if self.preseed.session_passphrase.is_some() {
            let message =
                "`session_passphrase` is left out: a secret is never written to resources";
            let help = "machines are admitted by `fingerprint` of each Member, by `microcloud \
                        agent trust` or by a session of `microcloud init` and `join`";
            self.reader.warn(at!["session_passphrase"], message, help);
            cluster.note(
                "`session_passphrase` was left out: it is a secret. Machines are admitted by \
                 `fingerprint` of each Member (`microcloud agent fingerprint` prints it), by \
                 `microcloud agent trust`, or by a session of `microcloud init` and `join`.",
            );
        }
        for (key, given) in [
            ("lookup_timeout", self.preseed.lookup_timeout.is_some()),
            ("session_timeout", self.preseed.session_timeout.is_some()),
        ] {
            if given {
                self.reader.warn(
                    at![key],
                    format!("`{key}` is left out: it is about MicroCloud's session only"),
                    "",
                );
            }
        }
    }

    fn members(&mut self, addresses: &[Option<IpAddr>]) {
        for (place, system) in self.preseed.systems.iter().enumerate() {
            let at = self.reader.at(at!["systems", place, "name"]);
            let mut member = Sketch::new(Kind::Member, &system.name, at);
            if let Some(Some(address)) = addresses.get(place) {
                let at = self.reader.at(at!["systems", place, "address"]);
                member.text(&["address"], address.to_string(), at);
            }
            if let Some(underlay) = system.ovn_underlay_ip {
                let at = self.reader.at(at!["systems", place, "ovn_underlay_ip"]);
                member.text(&["underlayAddress"], underlay.to_string(), at);
            }
            if !forms(self.preseed) && place == 0 {
                member.note(
                    "To be applied beside the resources of the cluster that is there: this file \
                     adds members to it.",
                );
            }
            self.sketches.push(member);
        }
    }

    fn disks(&mut self) {
        for (place, system) in self.preseed.systems.iter().enumerate() {
            if let Some(disk) = local(system) {
                let path = at!["systems", place, "storage", "local"];
                let at = self.reader.at(&[path, at!["path"]].concat());
                let mut sketch = Sketch::new(Kind::Disk, format!("local-{}", system.name), at);
                sketch.text(&["member"], &system.name, at);
                sketch.text(&["path"], &disk.path, at);
                sketch.text(&["use", "pool"], "local", at);
                wipe(&mut sketch, disk.wipe, at);
                if disk.encrypt {
                    self.no_local_encryption(&[path, at!["encrypt"]].concat());
                }
                self.sketches.push(sketch);
            }
            let disks = ceph_disks(system);
            for (number, disk) in disks.iter().enumerate() {
                let path = at!["systems", place, "storage", "ceph", number, "path"];
                let at = self.reader.at(path);
                let name = match disks.len() {
                    1 => format!("ceph-{}", system.name),
                    _ => format!("ceph-{}-{}", system.name, number + 1),
                };
                let mut sketch = Sketch::new(Kind::Disk, name, at);
                sketch.text(&["member"], &system.name, at);
                sketch.text(&["path"], &disk.path, at);
                sketch.text(&["use"], "ceph", at);
                wipe(&mut sketch, disk.wipe, at);
                if disk.encrypt {
                    sketch.word(&["encrypt"], true, at);
                }
                self.sketches.push(sketch);
            }
        }
        self.filters("local");
        self.filters("ceph");
    }

    /// Filters are for the systems that name no disk of that use.
    fn filters(&mut self, usage: &'static str) {
        let (found, names): (Vec<&DiskFilter>, fn(&System) -> bool) = match usage {
            "local" => (filters(self.preseed, |s| &s.local).collect(), |s| {
                local(s).is_some()
            }),
            _ => (filters(self.preseed, |s| &s.ceph).collect(), |s| {
                !ceph_disks(s).is_empty()
            }),
        };
        let members: Vec<String> = self
            .preseed
            .systems
            .iter()
            .filter(|s| !names(s))
            .map(|s| s.name.clone())
            .collect();
        let several = found.len() > 1;
        for (place, filter) in found.into_iter().enumerate() {
            let path = at!["storage", usage, place];
            let at = self.reader.at(&[path, at!["find"]].concat());
            let name = match several {
                true => format!("{usage}-{}", place + 1),
                false => usage.to_owned(),
            };
            let mut sketch = Sketch::new(Kind::Disk, name, at);
            sketch.set(&["members"], list(members.clone(), at));
            sketch.text(&["match"], filter.find.trim(), at);
            if usage == "local" {
                if place > 0 {
                    self.reader.wrong(
                        &[path, at!["find"]].concat(),
                        "a second filter for the local disk cannot be written as a resource",
                        "the pool takes one disk of each system: join the filters by ||, or name \
                         the disks at the systems",
                    );
                }
                sketch.text(&["use", "pool"], "local", at);
                sketch.word(&["limit"], 1, at);
                if filter.encrypt {
                    self.no_local_encryption(&[path, at!["encrypt"]].concat());
                }
            } else {
                sketch.text(&["use"], "ceph", at);
                if filter.encrypt {
                    sketch.word(&["encrypt"], true, at);
                }
            }
            wipe(&mut sketch, filter.wipe, at);
            for (key, word, count) in [
                ("find_min", "at least", filter.find_min),
                ("find_max", "at most", filter.find_max),
            ] {
                let Some(count) = count.filter(|_| self.seen.is_none()) else {
                    continue;
                };
                let path = [path, at![key]].concat();
                self.reader.warn(
                    &path,
                    format!("`{key}` is left out: how many disks match is not checked"),
                    "see with `microcloud diff` which disks would be taken before you apply it",
                );
                sketch.note(format!(
                    "MicroCloud demanded {word} {count} over all systems (`{key}`), which is not \
                     checked here: `microcloud diff` shows which disks are taken."
                ));
            }
            self.sketches.push(sketch);
        }
    }

    fn no_local_encryption(&mut self, path: &[crate::resources::positions::Step<'_>]) {
        let message = "`encrypt` is left out: a local disk is not encrypted, by MicroCloud neither";
        self.reader.warn(path, message, "");
    }

    fn networks(&mut self) {
        let preseed = self.preseed;
        if !wants_ovn(preseed) {
            let at = self.reader.at(at!["systems"]);
            let mut fan = Sketch::new(Kind::Network, "lxdfan0", at);
            fan.text(&["type"], "fan", at);
            fan.text(&["description"], "Default Ubuntu fan powered bridge", at);
            fan.note(
                "MicroCloud makes a fan bridge where there is no OVN. It needs the kernel of \
                 Ubuntu; elsewhere write `type: bridge`.",
            );
            self.sketches.push(fan);
            return;
        }
        let at = self.reader.at(at!["ovn"]);
        let mut uplink = Sketch::new(Kind::Uplink, "UPLINK", at);
        uplink.text(&["description"], "Uplink for OVN networks", at);
        for (place, system) in preseed.systems.iter().enumerate() {
            let found = self.seen.and_then(|s| s.interfaces.get(&system.name));
            if let Some(interface) = system.ovn_uplink_interface.as_ref().or(found) {
                let at = self
                    .reader
                    .at(at!["systems", place, "ovn_uplink_interface"]);
                uplink.text(&["interfaces", &system.name], interface, at);
            }
        }
        if let Some(ovn) = &preseed.ovn {
            if let Some(gateway) = ovn.ipv4_gateway {
                let at = self.reader.at(at!["ovn", "ipv4_gateway"]);
                uplink.text(&["ipv4", "gateway"], gateway.to_string(), at);
            }
            if let Some(range) = &ovn.ipv4_range {
                let at = self.reader.at(at!["ovn", "ipv4_range"]);
                uplink.set(&["ipv4", "ranges"], list([range.clone()], at));
            }
            if let Some(gateway) = ovn.ipv6_gateway {
                let at = self.reader.at(at!["ovn", "ipv6_gateway"]);
                uplink.text(&["ipv6", "gateway"], gateway.to_string(), at);
            }
            if let Some(servers) = ovn.dns_servers.as_deref().filter(|s| !s.is_empty()) {
                let at = self.reader.at(at!["ovn", "dns_servers"]);
                let servers = servers.split(',').map(|s| s.trim().to_owned());
                uplink.set(&["dns"], list(servers, at));
            }
        }
        let mut network = Sketch::new(Kind::Network, "default", at);
        network.text(&["type"], "ovn", at);
        network.text(&["uplink"], "UPLINK", at);
        network.text(&["description"], "Default OVN network", at);
        self.sketches.push(uplink);
        self.sketches.push(network);
    }

    fn pools(&mut self) {
        let at = self.reader.at(at!["storage"]);
        let mut add = |name: &str, driver: &str, description: &str, config: &[(&str, &str)]| {
            let mut pool = Sketch::new(Kind::StoragePool, name, at);
            pool.text(&["driver"], driver, at);
            pool.text(&["description"], description, at);
            for (key, value) in config {
                pool.text(&["config", key], *value, at);
            }
            if name == LOCAL {
                let volumes = ServerVolume::ALL.map(|volume| volume.name().to_owned());
                pool.set(&["volumes"], list(volumes, at));
            }
            self.sketches.push(pool);
        };
        if wants_local(self.preseed) {
            let driver = self.seen.map_or("zfs", |s| s.local_driver.as_str());
            let description = match driver {
                "zfs" => "Local storage on ZFS".to_owned(),
                other => format!("Local storage on {other}"),
            };
            add(LOCAL, driver, &description, &[]);
        }
        if wants_ceph(self.preseed) {
            add(
                "remote",
                "ceph",
                "Distributed storage on Ceph",
                &[
                    ("ceph.osd.pool_name", "lxd_remote"),
                    ("ceph.rbd.du", "false"),
                ],
            );
            if self.preseed.ceph.as_ref().is_some_and(|ceph| ceph.cephfs) {
                add(
                    "remote-fs",
                    "cephfs",
                    "Distributed file-system storage using CephFS",
                    &[
                        ("cephfs.create_missing", "true"),
                        ("cephfs.meta_pool", "lxd_cephfs_meta"),
                        ("cephfs.data_pool", "lxd_cephfs_data"),
                        ("cephfs.path", "lxd_cephfs"),
                    ],
                );
            }
        }
    }

    fn profile(&mut self) {
        let at = self.reader.at(at!["systems"]);
        let mut profile = Sketch::new(Kind::Profile, "default", at);
        let network = match wants_ovn(self.preseed) {
            true => "default",
            false => "lxdfan0",
        };
        for (key, value) in [("type", "nic"), ("name", "eth0"), ("network", network)] {
            profile.text(&["devices", "eth0", key], value, at);
        }
        let pool = match (wants_ceph(self.preseed), wants_local(self.preseed)) {
            (true, _) => Some("remote"),
            (false, true) => Some("local"),
            (false, false) => None,
        };
        if let Some(pool) = pool {
            for (key, value) in [("type", "disk"), ("path", "/"), ("pool", pool)] {
                profile.text(&["devices", "root", key], value, at);
            }
        }
        self.sketches.push(profile);
    }

    /// A file that adds systems says nothing new of the cluster; where it does, it is told.
    fn what_a_cluster_has_already(&mut self) {
        let preseed = self.preseed;
        for (place, system) in preseed.systems.iter().enumerate() {
            if let Some(interface) = &system.ovn_uplink_interface
                && self.seen.is_none()
            {
                self.reader.warn(
                    at!["systems", place, "ovn_uplink_interface"],
                    format!("`{interface}` of `{}` is not written", system.name),
                    &format!(
                        "the Uplink is a resource of the cluster that is there: add \
                         `interfaces: {{{}: {interface}}}` to it",
                        system.name
                    ),
                );
            }
        }
        for (section, keys) in [
            (
                "ovn",
                &["ipv4_gateway", "ipv4_range", "ipv6_gateway", "dns_servers"][..],
            ),
            (
                "ceph",
                &["cephfs", "public_network", "internal_network"][..],
            ),
        ] {
            for key in keys {
                if self.written(section, key) {
                    self.reader.warn(
                        at![section, *key],
                        format!("`{key}` is left out: this file adds systems to a cluster"),
                        "what the cluster is stands in the resources it has",
                    );
                }
            }
        }
        let mut unsaid = Sketch::new(Kind::Cluster, CLOUD, Span::default());
        self.session(&mut unsaid);
    }

    fn written(&self, section: &str, key: &str) -> bool {
        let (ovn, ceph) = (self.preseed.ovn.as_ref(), self.preseed.ceph.as_ref());
        match (section, key) {
            ("ovn", "ipv4_gateway") => ovn.is_some_and(|o| o.ipv4_gateway.is_some()),
            ("ovn", "ipv4_range") => ovn.is_some_and(|o| o.ipv4_range.is_some()),
            ("ovn", "ipv6_gateway") => ovn.is_some_and(|o| o.ipv6_gateway.is_some()),
            ("ovn", _) => ovn.is_some_and(|o| o.dns_servers.is_some()),
            (_, "cephfs") => ceph.is_some_and(|c| c.cephfs),
            (_, "public_network") => ceph.is_some_and(|c| c.public_network.is_some()),
            (_, _) => ceph.is_some_and(|c| c.internal_network.is_some()),
        }
    }
}

/// The subnet of Ceph's clients and monitors: that of the machines' addresses unless given, once
/// that is known.
fn public_network(preseed: &Preseed, seen: Option<&Seen>) -> Option<ipnet::IpNet> {
    let given = preseed.ceph.as_ref().and_then(|c| c.public_network);
    let internal = |seen: &Seen| preseed.lookup_subnet.or(seen.internal).map(|n| n.trunc());
    given.or_else(|| seen.and_then(internal))
}

fn wipe(sketch: &mut Sketch, wipe: bool, at: Span) {
    if wipe {
        sketch.word(&["wipe"], true, at);
        sketch.note(WIPE);
    }
}
