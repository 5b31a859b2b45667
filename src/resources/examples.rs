//! One example of every kind: shown in the documentation, decoded and validated by a test. Together
//! they are one valid cloud.

use super::object::Kind;

/// An example of a kind, as YAML.
pub fn of_kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Cluster => CLUSTER,
        Kind::Member => MEMBER,
        Kind::Disk => DISK,
        Kind::Uplink => UPLINK,
        Kind::StoragePool => STORAGE_POOL,
        Kind::Project => PROJECT,
        Kind::Network => NETWORK,
        Kind::Profile => PROFILE,
    }
}

const CLUSTER: &str = "\
apiVersion: microcloud.dev/v1
kind: Cluster
metadata:
  name: demo
spec:
  # Forms the cluster; ignored once it exists.
  initiator: micro01
  internalSubnet: 10.77.0.0/24
  ovn:
    provider: packaged
    underlaySubnet: 10.78.0.0/24
  ceph:
    provider: packaged
    publicNetwork: 10.77.0.0/24
  config:
    images.auto_update_interval: 12
    # A secret is never in YAML.
    loki.auth.password: {credential: loki}
  interval: 5m
";

const MEMBER: &str = "\
apiVersion: microcloud.dev/v1
kind: Member
metadata:
  # The host name of the machine.
  name: micro01
spec:
  address: 10.77.0.1
  underlayAddress: 10.78.0.1
  # Printed by `microcloud agent fingerprint` on that machine.
  fingerprint: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
  roles: [ovn-chassis]
  failureDomain: rack1
  config:
    core.https_address: '[::]:8443'
";

const DISK: &str = "\
apiVersion: microcloud.dev/v1
kind: Disk
metadata:
  name: local
spec:
  members: [micro01]
  # One disk of each of these members becomes the source of the pool `local`.
  match: size >= 100GiB && type == nvme
  limit: 1
  use:
    pool: local
";

const UPLINK: &str = "\
apiVersion: microcloud.dev/v1
kind: Uplink
metadata:
  name: UPLINK
spec:
  interface: enp6s0
  ipv4:
    gateway: 198.51.100.1/24
    ranges:
      - 198.51.100.100-198.51.100.200
  ipv6:
    gateway: 2001:db8::1/64
  dns: [198.51.100.1]
";

const STORAGE_POOL: &str = "\
apiVersion: microcloud.dev/v1
kind: StoragePool
metadata:
  name: local
spec:
  driver: btrfs
  description: Storage on a disk of each member
  # LXD keeps these here and not on the system disk.
  volumes: [images, backups]
  config:
    btrfs.mount_options: user_subvol_rm_allowed,compress=zstd
";

const PROJECT: &str = "\
apiVersion: microcloud.dev/v1
kind: Project
metadata:
  name: web
spec:
  description: What the web team runs
  config:
    features.networks: true
    limits.memory: 64GiB
    restricted: true
";

const NETWORK: &str = "\
apiVersion: microcloud.dev/v1
kind: Network
metadata:
  name: default
spec:
  type: ovn
  uplink: UPLINK
  config:
    ipv4.address: auto
    ipv6.address: none
";

const PROFILE: &str = "\
apiVersion: microcloud.dev/v1
kind: Profile
metadata:
  name: default
spec:
  config:
    limits.cpu: 2
    limits.memory: 4GiB
  devices:
    root: {type: disk, path: /, pool: local}
    eth0: {type: nic, name: eth0, network: default}
  # Somebody else may change it by hand.
  ignore: [config.limits.memory]
";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::SourceName;
    use crate::resources::draft::Draft;

    #[test]
    fn the_examples_are_one_valid_cloud() {
        let files: Vec<(&str, &[u8])> = Kind::ALL
            .into_iter()
            .map(|k| (k.as_str(), of_kind(k).as_bytes()))
            .collect();
        let reading = Draft::of_files(SourceName::Directory, files).check(&[]);
        assert_eq!(reading.broken, []);
        let kinds: Vec<Kind> = reading.resources.iter().map(|r| r.kind()).collect();
        assert_eq!(kinds, Kind::ALL);
    }
}
