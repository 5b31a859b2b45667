//! What a person answers when a cloud is set up, and the resources that are made of it.

use ipnet::IpNet;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// The name of the pool on one disk of every member.
pub const LOCAL: &str = "local";
/// The name of the pool on Ceph.
pub const REMOTE: &str = "remote";

/// The server key by which instances move while they run; left out where LXD does not know it.
pub const STATEFUL_MIGRATION: &str = "instances.migration.stateful";

/// A machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetupMember {
    /// Its name.
    pub name: String,
    /// Its address.
    pub address: IpAddr,
    /// The fingerprint of its agent's key.
    pub fingerprint: String,
    /// Its address for tunnels, when that is another one.
    pub underlay: Option<IpAddr>,
}

/// A disk of a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetupDisk {
    /// The machine.
    pub member: String,
    /// The disk, by a path that stays.
    pub path: String,
    /// Whether what is on it may be destroyed.
    pub wipe: bool,
}

/// Storage on the machines' own disks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalStorage {
    /// The driver of the pool, such as `zfs`.
    pub driver: String,
    /// One disk of every machine.
    pub disks: Vec<SetupDisk>,
}

/// Distributed storage on Ceph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DistributedStorage {
    /// The disks.
    pub disks: Vec<SetupDisk>,
    /// Whether there is a pool on CephFS as well.
    pub cephfs: bool,
    /// The subnet of clients and monitors, when it is not the internal one.
    pub public_network: Option<IpNet>,
    /// The subnet of replication, when it is another one.
    pub cluster_network: Option<IpNet>,
}

/// Distributed networking with OVN.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DistributedNetwork {
    /// The interface of every machine that leads outside.
    pub interfaces: BTreeMap<String, String>,
    /// The gateway with the prefix length, and the range routers take addresses from.
    pub ipv4: Option<(IpNet, String)>,
    /// The gateway with the prefix length.
    pub ipv6: Option<IpNet>,
    /// Name servers.
    pub dns: Vec<IpAddr>,
    /// The subnet of tunnels, when it is not the internal one.
    pub underlay: Option<IpNet>,
}

/// All of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setup {
    /// The machine that forms the cluster.
    pub initiator: String,
    /// The subnet of the machines' addresses.
    pub internal: Option<IpNet>,
    /// The machines.
    pub members: Vec<SetupMember>,
    /// Storage on the machines' own disks.
    pub local: Option<LocalStorage>,
    /// Distributed storage.
    pub ceph: Option<DistributedStorage>,
    /// Distributed networking.
    pub ovn: Option<DistributedNetwork>,
}

impl Setup {
    /// The resources, as one YAML file with a document for each.
    pub fn documents(&self) -> String {
        let mut all = vec![self.cluster()];
        all.extend(self.members.iter().map(member));
        if let Some(local) = &self.local {
            all.extend(disks(&local.disks, &json!({ "pool": LOCAL }), LOCAL));
            all.push(document(
                "StoragePool",
                LOCAL,
                json!({
                    "driver": local.driver,
                    "description": "Local storage on one disk of every member",
                    "volumes": ["images", "backups"],
                }),
            ));
        }
        all.extend(self.ceph.iter().flat_map(on_ceph));
        all.extend(self.ovn.iter().flat_map(on_ovn));
        all.extend(self.profile());
        yaml(&all)
    }

    fn cluster(&self) -> Value {
        let mut spec = json!({
            "initiator": self.initiator,
            "config": { STATEFUL_MIGRATION: true },
        });
        if let Some(internal) = &self.internal {
            spec["internalSubnet"] = json!(internal.trunc());
        }
        if let Some(ovn) = &self.ovn {
            spec["ovn"] = of_ovn(ovn);
        }
        if let Some(ceph) = &self.ceph {
            spec["ceph"] = of_ceph(ceph, self.internal);
        }
        document("Cluster", "microcloud", spec)
    }

    fn profile(&self) -> Option<Value> {
        let mut devices = serde_json::Map::new();
        let pool = match (&self.ceph, &self.local) {
            (Some(_), _) => Some(REMOTE),
            (None, Some(_)) => Some(LOCAL),
            (None, None) => None,
        };
        if let Some(pool) = pool {
            devices.insert("root".to_owned(), root_on(pool));
        }
        if self.ovn.is_some() {
            devices.insert("eth0".to_owned(), nic());
        }
        if devices.is_empty() {
            return None;
        }
        Some(document(
            "Profile",
            "default",
            json!({ "devices": devices }),
        ))
    }
}

/// What a `Cluster` says of OVN.
fn of_ovn(ovn: &DistributedNetwork) -> Value {
    let mut spec = json!({ "provider": "packaged" });
    if let Some(underlay) = &ovn.underlay {
        spec["underlaySubnet"] = json!(underlay.trunc());
    }
    spec
}

/// What a `Cluster` says of Ceph.
fn of_ceph(ceph: &DistributedStorage, internal: Option<IpNet>) -> Value {
    let mut spec = json!({ "provider": "packaged" });
    if let Some(public) = ceph.public_network.or(internal) {
        spec["publicNetwork"] = json!(public.trunc());
    }
    if let Some(cluster) = &ceph.cluster_network {
        spec["clusterNetwork"] = json!(cluster.trunc());
    }
    spec
}

/// The disks of Ceph and the pools on it.
fn on_ceph(ceph: &DistributedStorage) -> Vec<Value> {
    let mut all = disks(&ceph.disks, &json!("ceph"), "ceph");
    all.push(document(
        "StoragePool",
        REMOTE,
        json!({
            "driver": "ceph",
            "description": "Distributed storage on Ceph",
            "config": { "ceph.osd.pool_name": "lxd_remote" },
        }),
    ));
    if ceph.cephfs {
        all.push(document(
            "StoragePool",
            "remote-fs",
            json!({
                "driver": "cephfs",
                "description": "Distributed file-system storage using CephFS",
                "config": {
                    "cephfs.create_missing": true,
                    "cephfs.meta_pool": "lxd_cephfs_meta",
                    "cephfs.data_pool": "lxd_cephfs_data",
                    "cephfs.path": "lxd_cephfs",
                },
            }),
        ));
    }
    all
}

/// The way out and the network behind it.
fn on_ovn(ovn: &DistributedNetwork) -> Vec<Value> {
    let spec = json!({ "type": "ovn", "uplink": "UPLINK" });
    vec![
        document("Uplink", "UPLINK", uplink(ovn)),
        document("Network", "default", spec),
    ]
}

/// What Ceph and OVN add to a cloud that there is, as one YAML file: the `Cluster` and the members
/// as they are then, what lies on both, and with `profile` what new instances have of it.
pub fn added_services(
    cluster: Value,
    members: Vec<Value>,
    ceph: Option<&DistributedStorage>,
    ovn: Option<&DistributedNetwork>,
    profile: Option<Value>,
) -> String {
    let mut cluster = cluster;
    let internal = cluster["spec"]["internalSubnet"].as_str();
    let internal = internal.and_then(|net| net.parse().ok());
    // What it said before, such as `provider: none`, stays beside what is new.
    let mut add = |field: &str, new: Value| match cluster["spec"][field].as_object_mut() {
        Some(old) => old.extend(new.as_object().cloned().unwrap_or_default()),
        None => cluster["spec"][field] = new,
    };
    if let Some(ovn) = ovn {
        add("ovn", of_ovn(ovn));
    }
    if let Some(ceph) = ceph {
        add("ceph", of_ceph(ceph, internal));
    }
    let mut all = vec![cluster];
    all.extend(members);
    all.extend(ceph.into_iter().flat_map(on_ceph));
    all.extend(ovn.into_iter().flat_map(on_ovn));
    all.extend(profile.map(|profile| with_devices(profile, ceph.is_some(), ovn.is_some())));
    yaml(&all)
}

/// A profile whose instances lie on Ceph and are in OVN's network.
fn with_devices(mut profile: Value, ceph: bool, ovn: bool) -> Value {
    if ceph {
        profile["spec"]["devices"]["root"] = root_on(REMOTE);
    }
    if ovn {
        profile["spec"]["devices"]["eth0"] = nic();
    }
    profile
}

fn root_on(pool: &str) -> Value {
    json!({ "type": "disk", "path": "/", "pool": pool })
}

fn nic() -> Value {
    json!({ "type": "nic", "network": "default" })
}

/// A profile `default` that says nothing yet.
pub fn empty_profile() -> Value {
    document("Profile", "default", json!({ "devices": {} }))
}

/// What a machine and its disks add to a cloud that there is, as one YAML file.
pub fn additions(members: &[SetupMember], local: &[SetupDisk], ceph: &[SetupDisk]) -> String {
    let mut all: Vec<Value> = members.iter().map(member).collect();
    all.extend(disks(local, &json!({ "pool": LOCAL }), LOCAL));
    all.extend(disks(ceph, &json!("ceph"), "ceph"));
    yaml(&all)
}

fn document(kind: &str, name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": "microcloud.dev/v1",
        "kind": kind,
        "metadata": { "name": name },
        "spec": spec,
    })
}

fn member(member: &SetupMember) -> Value {
    let mut spec = json!({ "address": member.address, "fingerprint": member.fingerprint });
    if let Some(underlay) = member.underlay {
        spec["underlayAddress"] = json!(underlay);
    }
    document("Member", &member.name, spec)
}

/// A document for every disk: `WORD-MEMBER`, and a number where a machine gives several.
fn disks(disks: &[SetupDisk], usage: &Value, word: &str) -> Vec<Value> {
    let mut numbers: BTreeMap<&str, usize> = BTreeMap::new();
    let made = disks.iter().map(|disk| {
        let number = numbers.entry(&disk.member).or_default();
        *number += 1;
        let name = match *number {
            1 => format!("{word}-{}", disk.member),
            number => format!("{word}-{}-{number}", disk.member),
        };
        let mut spec = json!({ "member": disk.member, "path": disk.path, "use": usage });
        if disk.wipe {
            spec["wipe"] = json!(true);
        }
        document("Disk", &name, spec)
    });
    made.collect()
}

fn uplink(ovn: &DistributedNetwork) -> Value {
    let mut spec = json!({});
    let mut names = ovn.interfaces.values();
    match names.next() {
        Some(first) if names.all(|name| name == first) => spec["interface"] = json!(first),
        _ => spec["interfaces"] = json!(ovn.interfaces),
    }
    if let Some((gateway, range)) = &ovn.ipv4 {
        spec["ipv4"] = json!({ "gateway": gateway, "ranges": [range] });
    }
    if let Some(gateway) = &ovn.ipv6 {
        spec["ipv6"] = json!({ "gateway": gateway });
    }
    if !ovn.dns.is_empty() {
        spec["dns"] = json!(ovn.dns);
    }
    spec
}

fn yaml(documents: &[Value]) -> String {
    let texts: Vec<String> = documents
        .iter()
        // Plain data with text keys always encodes.
        .map(|document| serde_yaml::to_string(document).unwrap_or_default())
        .collect();
    texts.join("---\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::SourceName;
    use crate::resources::draft::Draft;

    fn disk(member: &str, path: &str) -> SetupDisk {
        SetupDisk {
            member: member.to_owned(),
            path: path.to_owned(),
            wipe: false,
        }
    }

    fn everything() -> Setup {
        let names = ["micro01", "micro02", "micro03"];
        Setup {
            initiator: "micro01".to_owned(),
            internal: Some("10.77.0.11/24".parse().unwrap()),
            members: (11u8..)
                .zip(names)
                .map(|(number, name)| SetupMember {
                    name: name.to_owned(),
                    address: IpAddr::from([10, 77, 0, number]),
                    fingerprint: "ab".repeat(32),
                    underlay: Some(IpAddr::from([10, 78, 0, number])),
                })
                .collect(),
            local: Some(LocalStorage {
                driver: "btrfs".to_owned(),
                disks: names.map(|name| disk(name, "/dev/disk/by-id/small")).into(),
            }),
            ceph: Some(DistributedStorage {
                disks: names
                    .iter()
                    .flat_map(|n| [disk(n, "/dev/disk/by-id/a"), disk(n, "/dev/disk/by-id/b")])
                    .collect(),
                cephfs: true,
                public_network: None,
                cluster_network: Some("10.78.0.0/24".parse().unwrap()),
            }),
            ovn: Some(DistributedNetwork {
                interfaces: names
                    .iter()
                    .map(|n| ((*n).to_owned(), "up0".to_owned()))
                    .collect(),
                ipv4: Some((
                    "198.51.100.1/24".parse().unwrap(),
                    "198.51.100.100-198.51.100.200".to_owned(),
                )),
                ipv6: None,
                dns: vec!["198.51.100.1".parse().unwrap()],
                underlay: Some("10.78.0.0/24".parse().unwrap()),
            }),
        }
    }

    #[track_caller]
    fn valid(text: &str, others: &[crate::resources::Resource]) -> Vec<crate::resources::Resource> {
        let files = [("init.yaml", text.as_bytes())];
        let reading = Draft::of_files(SourceName::Applied, files).check(others);
        let wrong: Vec<String> = reading
            .broken
            .iter()
            .flat_map(|b| b.diagnostics.iter().map(ToString::to_string))
            .collect();
        assert!(wrong.is_empty(), "{text}\n{}", wrong.join("\n"));
        reading.resources
    }

    #[test]
    fn all_that_can_be_answered_gives_valid_resources() {
        let all = valid(&everything().documents(), &[]);
        let names: Vec<String> = all.iter().map(|r| r.reference().to_string()).collect();
        for name in [
            "Cluster/microcloud",
            "Member/micro03",
            "Disk/ceph-micro02-2",
            "Disk/local-micro01",
            "StoragePool/remote-fs",
            "Uplink/UPLINK",
            "Network/default",
            "Profile/default",
        ] {
            assert!(
                names.iter().any(|n| n == name),
                "{name} is not in {names:?}"
            );
        }
        assert_eq!(all.len(), 1 + 3 + 9 + 3 + 2 + 1);
    }

    #[test]
    fn the_least_that_can_be_answered_is_valid_too() {
        let mut least = everything();
        least.members.truncate(1);
        least.members[0].underlay = None;
        (least.local, least.ceph, least.ovn) = (None, None, None);
        assert_eq!(valid(&least.documents(), &[]).len(), 2);
    }

    #[test]
    fn services_are_added_to_what_there_is() {
        let mut before = everything();
        let (ceph, ovn) = (before.ceph.take(), before.ovn.take());
        let there = valid(&before.documents(), &[]);
        let cluster = there[0].document();
        assert_eq!(cluster["kind"], "Cluster");
        let text = added_services(
            cluster,
            Vec::new(),
            ceph.as_ref(),
            ovn.as_ref(),
            Some(empty_profile()),
        );
        let replaced = ["Cluster/microcloud", "Profile/default"];
        let others: Vec<_> = there
            .into_iter()
            .filter(|r| !replaced.contains(&r.reference().to_string().as_str()))
            .collect();
        let names: Vec<String> = valid(&text, &others)
            .iter()
            .map(|r| r.reference().to_string())
            .collect();
        for name in [
            "Cluster/microcloud",
            "StoragePool/remote-fs",
            "Uplink/UPLINK",
        ] {
            assert!(
                names.iter().any(|n| n == name),
                "{name} is not in {names:?}"
            );
        }
        assert!(text.contains("publicNetwork: 10.77.0.0/24"), "{text}");
        assert!(text.contains("pool: remote"), "{text}");
    }

    #[test]
    fn a_machine_is_added_to_what_there_is() {
        let before = valid(&everything().documents(), &[]);
        let added = additions(
            &[SetupMember {
                name: "micro04".to_owned(),
                address: "10.77.0.14".parse().unwrap(),
                fingerprint: "cd".repeat(32),
                underlay: Some("10.78.0.14".parse().unwrap()),
            }],
            &[disk("micro04", "/dev/disk/by-id/small")],
            &[disk("micro04", "/dev/disk/by-id/a")],
        );
        assert_eq!(valid(&added, &before).len(), 3);
    }
}
