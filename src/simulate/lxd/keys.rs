//! Which configuration keys the simulated LXD knows. Kept apart from the controller's own catalog
//! on purpose: one must not be right only because the other is wrong in the same way.

/// API extensions of the simulated LXD 5.0 that this program or its tests could branch on. The
/// real one has more; only their number and these names matter.
pub(in crate::simulate) const EXTENSIONS: &[&str] = &[
    "storage_zfs_remove_snapshots",
    "etag",
    "patch",
    "network",
    "profile_usedby",
    "container_push",
    "storage",
    "event_lifecycle",
    "clustering",
    "projects",
    "clustering_roles",
    "clustering_edit_roles",
    "clustering_failure_domains",
    "clustering_join_token",
    "clustering_description",
    "clustering_evacuation",
    "clustering_groups",
    "clustering_config",
    "custom_block_volumes",
    "network_type_macvlan",
    "network_type_sriov",
    "network_type_ovn",
    "network_type_physical",
    "network_physical_ovn_ingress_mode",
    "projects_networks",
    "event_location",
    "event_hub",
    "event_lifecycle_requestor_address",
    "event_lifecycle_name_and_project",
    "resources_gpu",
    "token_expiry",
    "cluster_join_token_expiry",
    "storage_buckets",
    "migration_vm_live",
    "ovn_nic_nesting",
    "oidc",
];

/// Server keys kept per member.
pub(super) const SERVER_MEMBER: &[&str] = &[
    "cluster.https_address",
    "core.bgp_address",
    "core.bgp_routerid",
    "core.debug_address",
    "core.dns_address",
    "core.https_address",
    "core.metrics_address",
    "core.storage_buckets_address",
    "maas.machine",
    "storage.backups_volume",
    "storage.images_volume",
];

/// Server keys of the whole cluster.
const SERVER_GLOBAL: &[&str] = &[
    "backups.compression_algorithm",
    "candid.api.key",
    "candid.api.url",
    "candid.domains",
    "candid.expiry",
    "cluster.images_minimal_replica",
    "cluster.join_token_expiry",
    "cluster.max_standby",
    "cluster.max_voters",
    "cluster.offline_threshold",
    "core.bgp_asn",
    "core.https_allowed_credentials",
    "core.https_allowed_headers",
    "core.https_allowed_methods",
    "core.https_allowed_origin",
    "core.https_trusted_proxy",
    "core.metrics_authentication",
    "core.proxy_http",
    "core.proxy_https",
    "core.proxy_ignore_hosts",
    "core.remote_token_expiry",
    "core.shutdown_timeout",
    "core.trust_ca_certificates",
    "core.trust_password",
    "images.auto_update_cached",
    "images.auto_update_interval",
    "images.compression_algorithm",
    "images.default_architecture",
    "images.remote_cache_expiry",
    "instances.nic.host_name",
    "loki.api.ca_cert",
    "loki.api.url",
    "loki.auth.password",
    "loki.auth.username",
    "loki.labels",
    "loki.loglevel",
    "loki.types",
    "maas.api.key",
    "maas.api.url",
    "network.ovn.integration_bridge",
    "network.ovn.northbound_connection",
    "rbac.agent.private_key",
    "rbac.agent.public_key",
    "rbac.agent.url",
    "rbac.agent.username",
    "rbac.api.expiry",
    "rbac.api.key",
    "rbac.api.url",
    "rbac.expiry",
];

/// Why a server key cannot have a value, if so.
pub(super) fn server_key_error(key: &str, value: &str) -> Option<String> {
    let cannot = |why: &str| Some(format!("cannot set '{key}' to '{value}': {why}"));
    if !key.starts_with("user.") && !SERVER_MEMBER.contains(&key) && !SERVER_GLOBAL.contains(&key) {
        return cannot("unknown key");
    }
    if value.is_empty() {
        return None;
    }
    let number = value.parse::<i64>();
    match key {
        "cluster.offline_threshold" => match number {
            Ok(n) if n >= 10 => None,
            Ok(_) => cannot("Value must be greater than '10'"),
            Err(_) => cannot("Offline threshold is not a number"),
        },
        "cluster.https_address" if super::cluster::is_wildcard(value) => {
            cannot("Wildcard addresses aren't allowed")
        }
        "cluster.max_voters" => match number {
            Ok(n) if n >= 3 && n % 2 == 1 => None,
            _ => cannot("Value must be an odd number equal to or higher than 3"),
        },
        "cluster.max_standby" => match number {
            Ok(n) if (0..=5).contains(&n) => None,
            _ => cannot("Value must be between 0 and 5"),
        },
        "cluster.images_minimal_replica"
        | "core.bgp_asn"
        | "core.shutdown_timeout"
        | "images.auto_update_interval"
        | "images.remote_cache_expiry" => match number {
            Ok(_) => None,
            Err(_) => cannot("invalid integer"),
        },
        "core.https_allowed_credentials"
        | "core.metrics_authentication"
        | "core.trust_ca_certificates"
        | "images.auto_update_cached" => {
            if is_bool(value) {
                None
            } else {
                cannot("invalid boolean")
            }
        }
        _ => None,
    }
}

/// Pool keys kept per member.
pub(super) const POOL_MEMBER: &[&str] = &[
    "size",
    "source",
    "volatile.initial_source",
    "zfs.pool_name",
    "lvm.thinpool_name",
    "lvm.vg_name",
];

/// Network keys kept per member.
pub(super) const NETWORK_MEMBER: &[&str] = &[
    "bgp.ipv4.nexthop",
    "bgp.ipv6.nexthop",
    "bridge.external_interfaces",
    "parent",
];

/// Whether a pool of this driver can have a key.
pub(super) fn pool_key_known(driver: &str, key: &str) -> bool {
    let common = [
        "source",
        "source.wipe",
        "size",
        "volatile.initial_source",
        "rsync.bwlimit",
        "rsync.compression",
    ];
    let own: &[&str] = match driver {
        "btrfs" => &["btrfs.mount_options"],
        "zfs" => &["zfs.pool_name", "zfs.clone_copy", "zfs.export"],
        "lvm" => &[
            "lvm.thinpool_name",
            "lvm.thinpool_metadata_size",
            "lvm.use_thinpool",
            "lvm.vg_name",
            "lvm.vg.force_reuse",
        ],
        "ceph" => &[
            "ceph.cluster_name",
            "ceph.osd.data_pool_name",
            "ceph.osd.force_reuse",
            "ceph.osd.pg_num",
            "ceph.osd.pool_name",
            "ceph.rbd.clone_copy",
            "ceph.rbd.du",
            "ceph.rbd.features",
            "ceph.user.name",
            "volatile.pool.pristine",
        ],
        "cephfs" => &[
            "cephfs.cluster_name",
            "cephfs.fscache",
            "cephfs.path",
            "cephfs.user.name",
            "volatile.pool.pristine",
        ],
        _ => &[],
    };
    common.contains(&key)
        || own.contains(&key)
        || key.starts_with("user.")
        || key.starts_with("volume.")
}

/// Whether a network of this type can have a key.
pub(super) fn network_key_known(network_type: &str, key: &str) -> bool {
    const BRIDGE: &[&str] = &[
        "bgp.ipv4.nexthop",
        "bgp.ipv6.nexthop",
        "bridge.driver",
        "bridge.external_interfaces",
        "bridge.hwaddr",
        "bridge.mode",
        "bridge.mtu",
        "dns.domain",
        "dns.mode",
        "dns.search",
        "dns.zone.forward",
        "dns.zone.reverse.ipv4",
        "dns.zone.reverse.ipv6",
        "fan.overlay_subnet",
        "fan.type",
        "fan.underlay_subnet",
        "ipv4.address",
        "ipv4.dhcp",
        "ipv4.dhcp.expiry",
        "ipv4.dhcp.gateway",
        "ipv4.dhcp.ranges",
        "ipv4.firewall",
        "ipv4.nat",
        "ipv4.nat.address",
        "ipv4.nat.order",
        "ipv4.ovn.ranges",
        "ipv4.routes",
        "ipv4.routing",
        "ipv6.address",
        "ipv6.dhcp",
        "ipv6.dhcp.expiry",
        "ipv6.dhcp.ranges",
        "ipv6.dhcp.stateful",
        "ipv6.firewall",
        "ipv6.nat",
        "ipv6.nat.address",
        "ipv6.nat.order",
        "ipv6.ovn.ranges",
        "ipv6.routes",
        "ipv6.routing",
        "maas.subnet.ipv4",
        "maas.subnet.ipv6",
        "raw.dnsmasq",
        "security.acls",
        "security.acls.default.egress.action",
        "security.acls.default.egress.logged",
        "security.acls.default.ingress.action",
        "security.acls.default.ingress.logged",
    ];
    const PHYSICAL: &[&str] = &[
        "dns.nameservers",
        "gvrp",
        "ipv4.gateway",
        "ipv4.ovn.ranges",
        "ipv4.routes",
        "ipv4.routes.anycast",
        "ipv6.gateway",
        "ipv6.ovn.ranges",
        "ipv6.routes",
        "ipv6.routes.anycast",
        "maas.subnet.ipv4",
        "maas.subnet.ipv6",
        "mtu",
        "ovn.ingress_mode",
        "parent",
        "vlan",
    ];
    const OVN: &[&str] = &[
        "bridge.hwaddr",
        "bridge.mtu",
        "dns.domain",
        "dns.search",
        "dns.zone.forward",
        "dns.zone.reverse.ipv4",
        "dns.zone.reverse.ipv6",
        "ipv4.address",
        "ipv4.dhcp",
        "ipv4.l3only",
        "ipv4.nat",
        "ipv4.nat.address",
        "ipv6.address",
        "ipv6.dhcp",
        "ipv6.dhcp.stateful",
        "ipv6.l3only",
        "ipv6.nat",
        "ipv6.nat.address",
        "network",
        "security.acls",
        "security.acls.default.egress.action",
        "security.acls.default.egress.logged",
        "security.acls.default.ingress.action",
        "security.acls.default.ingress.logged",
    ];
    let own = match network_type {
        "bridge" => BRIDGE,
        "ovn" => OVN,
        _ => PHYSICAL,
    };
    let prefixes: &[&str] = match network_type {
        "bridge" => &["tunnel.", "bgp.peers."],
        "physical" => &["bgp.peers."],
        _ => &[],
    };
    own.contains(&key)
        || key.starts_with("user.")
        || key.starts_with("volatile.")
        || prefixes.iter().any(|p| key.starts_with(p))
}

/// Whether a project can have a key.
pub(super) fn project_key_known(key: &str) -> bool {
    const KEYS: &[&str] = &[
        "backups.compression_algorithm",
        "features.images",
        "features.networks",
        "features.networks.zones",
        "features.profiles",
        "features.storage.buckets",
        "features.storage.volumes",
        "images.auto_update_cached",
        "images.auto_update_interval",
        "images.compression_algorithm",
        "images.default_architecture",
        "images.remote_cache_expiry",
        "limits.containers",
        "limits.cpu",
        "limits.disk",
        "limits.instances",
        "limits.memory",
        "limits.networks",
        "limits.processes",
        "limits.virtual-machines",
        "restricted",
    ];
    KEYS.contains(&key) || key.starts_with("user.") || key.starts_with("restricted.")
}

/// Why an instance or profile key cannot have a value, if so.
pub(super) fn instance_key_error(key: &str, value: &str) -> Option<String> {
    const KEYS: &[&str] = &[
        "agent.nic_config",
        "cluster.evacuate",
        "cloud-init.network-config",
        "cloud-init.user-data",
        "cloud-init.vendor-data",
        "linux.kernel_modules",
        "migration.incremental.memory",
        "migration.incremental.memory.goal",
        "migration.incremental.memory.iterations",
        "migration.stateful",
    ];
    const BOOLS: &[&str] = &[
        "agent.nic_config",
        "boot.autostart",
        "limits.memory.swap",
        "migration.incremental.memory",
        "migration.stateful",
        "nvidia.runtime",
        "security.devlxd",
        "security.devlxd.images",
        "security.idmap.isolated",
        "security.nesting",
        "security.privileged",
        "security.protection.delete",
        "security.protection.shift",
        "security.secureboot",
    ];
    const PREFIXES: &[&str] = &[
        "boot.",
        "environment.",
        "limits.",
        "linux.sysctl.",
        "nvidia.",
        "raw.",
        "security.",
        "snapshots.",
        "user.",
    ];
    if !KEYS.contains(&key) && !PREFIXES.iter().any(|p| key.starts_with(p)) {
        return Some(format!("Unknown configuration key: {key}"));
    }
    if BOOLS.contains(&key) && !value.is_empty() && !is_bool(value) {
        return Some(format!("Invalid value for a boolean {value:?}"));
    }
    let cpus = |text: &str| {
        text.split(',')
            .flat_map(|range| range.split('-'))
            .all(|n| n.parse::<u32>().is_ok())
    };
    if key == "limits.cpu" && !value.is_empty() && !cpus(value) {
        return Some("Invalid CPU limit syntax".into());
    }
    None
}

/// The options that a device of a type can have; none for a type that is not there. An empty list
/// stands for options that are not looked at.
pub(super) fn device_options(kind: &str) -> Option<&'static [&'static str]> {
    const NIC: &[&str] = &[
        "acceleration",
        "boot.priority",
        "gvrp",
        "host_name",
        "hwaddr",
        "ipv4.address",
        "ipv4.gateway",
        "ipv4.host_address",
        "ipv4.host_table",
        "ipv4.neighbor_probe",
        "ipv4.routes",
        "ipv4.routes.external",
        "ipv6.address",
        "ipv6.gateway",
        "ipv6.host_address",
        "ipv6.host_table",
        "ipv6.neighbor_probe",
        "ipv6.routes",
        "ipv6.routes.external",
        "limits.egress",
        "limits.ingress",
        "limits.max",
        "limits.priority",
        "maas.subnet.ipv4",
        "maas.subnet.ipv6",
        "mode",
        "mtu",
        "name",
        "nested",
        "network",
        "nictype",
        "parent",
        "queue.tx.length",
        "security.acls",
        "security.acls.default.egress.action",
        "security.acls.default.egress.logged",
        "security.acls.default.ingress.action",
        "security.acls.default.ingress.logged",
        "security.ipv4_filtering",
        "security.ipv6_filtering",
        "security.mac_filtering",
        "security.port_isolation",
        "vlan",
        "vlan.tagged",
    ];
    const DISK: &[&str] = &[
        "boot.priority",
        "ceph.cluster_name",
        "ceph.user_name",
        "io.cache",
        "limits.max",
        "limits.read",
        "limits.write",
        "path",
        "pool",
        "propagation",
        "raw.mount.options",
        "readonly",
        "recursive",
        "required",
        "shift",
        "size",
        "size.state",
        "source",
    ];
    match kind {
        "nic" => Some(NIC),
        "disk" => Some(DISK),
        "gpu" | "infiniband" | "none" | "pci" | "proxy" | "tpm" | "unix-block" | "unix-char"
        | "unix-hotplug" | "usb" => Some(&[]),
        _ => None,
    }
}

/// Why a member of a cluster cannot have a key with a value, if so.
pub(super) fn member_key_error(key: &str, value: &str) -> Option<String> {
    match key {
        "scheduler.instance" if ["", "all", "group", "manual"].contains(&value) => None,
        "scheduler.instance" => Some(format!(
            "Invalid value for config key {key:?}: Invalid value {value:?} (not one of [all group manual])"
        )),
        _ if key.starts_with("user.") => None,
        _ => Some(format!("Invalid cluster configuration key {key:?}")),
    }
}

/// Whether LXD reads a value as true or false.
pub(super) fn is_bool(value: &str) -> bool {
    ["true", "false", "1", "0", "yes", "no", "on", "off"]
        .contains(&value.to_ascii_lowercase().as_str())
}

/// Whether LXD reads a value as true.
pub(super) fn is_true(value: &str) -> bool {
    ["true", "1", "yes", "on"].contains(&value.to_ascii_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_server_keys_are_refused_and_user_keys_are_not() {
        assert!(server_key_error("core.nonsense", "1").is_some());
        assert!(server_key_error("user.anything", "1").is_none());
        assert!(server_key_error("cluster.offline_threshold", "5").is_some());
        assert!(server_key_error("cluster.max_voters", "4").is_some());
    }

    #[test]
    fn keys_belong_to_drivers_and_types() {
        assert!(pool_key_known("zfs", "zfs.clone_copy"));
        assert!(!pool_key_known("btrfs", "zfs.clone_copy"));
        assert!(network_key_known("bridge", "ipv4.nat"));
        assert!(!network_key_known("physical", "ipv4.nat"));
    }
}
