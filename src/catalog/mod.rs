//! What is known of the services' configuration keys: plan and diff both read this one table.
//!
//! The tables are not complete, and services of other versions have other keys: a key that is not
//! in a table is a global key of which nothing is known.

mod device;
mod equal;
mod member;
mod network;
mod pool;
mod profile;
mod project;
mod row;
mod server;

pub use equal::equal;

use row::Row;
use std::sync::LazyLock;

/// Where a key is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// One value for the whole cluster.
    Global,
    /// One value per member.
    Member,
}

/// What is known of one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyFacts {
    /// Where it is kept.
    pub scope: Scope,
    /// The value the service uses when the key is unset, if it is fixed.
    pub default: Option<&'static str>,
    /// Whether the service fills it in when it is left out or `auto` (generated addresses).
    pub computed: bool,
    /// Whether it cannot change after creation.
    pub immutable: bool,
    /// Whether its value must not be seen.
    pub secret: bool,
}

impl KeyFacts {
    /// What holds for a key of which nothing is known.
    pub const UNKNOWN: KeyFacts = KeyFacts {
        scope: Scope::Global,
        default: None,
        computed: false,
        immutable: false,
        secret: false,
    };
}

/// Whose key it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner<'a> {
    /// The server (`/1.0`).
    Server,
    /// A cluster member.
    Member,
    /// A storage pool of this driver.
    Pool(&'a str),
    /// A network of this type (`fan` is a bridge).
    Network(&'a str),
    /// A project.
    Project,
    /// A profile.
    Profile,
    /// A device of a profile, of this type.
    Device(&'a str),
}

/// What is known of a key; [`KeyFacts::UNKNOWN`] when it is in no table.
pub fn facts(owner: Owner<'_>, key: &str) -> KeyFacts {
    find(owner, key).map_or(KeyFacts::UNKNOWN, |row| row.facts)
}

/// Whether a key is in a table of its owner, by itself or by a pattern such as `user.*`.
pub fn is_known(owner: Owner<'_>, key: &str) -> bool {
    find(owner, key).is_some()
}

/// The keys of an owner that are known by name, without patterns.
pub fn known_keys(owner: Owner<'_>) -> impl Iterator<Item = &'static str> {
    tables(owner)
        .into_iter()
        .flatten()
        .map(|row| row.key)
        .filter(|key| !key.contains('*'))
}

/// The drivers of storage pools that are known.
pub fn pool_drivers() -> &'static [&'static str] {
    pool::DRIVERS
}

/// The types of devices that are known.
pub fn device_types() -> &'static [&'static str] {
    device::TYPES
}

/// What a value of a key must be, when this one is not: `true or false`, `a size such as 10GiB`.
/// Values of keys of which nothing is known are never wrong.
pub fn expects(owner: Owner<'_>, key: &str, value: &str) -> Option<&'static str> {
    let form = find(owner, key)?.form;
    equal::expects(form, value)
}

/// A size in bytes, with the suffixes LXD and Incus take: `10GiB`, `500MB`, `1024`.
pub fn parse_size(text: &str) -> Option<u128> {
    equal::bytes(text)
}

/// Whether a key is one whose value must not be seen, whoever its owner is: for messages about
/// documents that are not understood yet.
pub fn is_secret_anywhere(key: &str) -> bool {
    static SECRETS: LazyLock<Vec<&'static Row>> = LazyLock::new(|| {
        let pools = pool_drivers().iter().map(|driver| Owner::Pool(driver));
        let networks = ["bridge", "ovn", "physical"].map(Owner::Network);
        pools
            .chain(networks)
            .chain([Owner::Server, Owner::Member, Owner::Project])
            .flat_map(|owner| tables(owner).into_iter().flatten())
            .filter(|row| row.facts.secret)
            .collect()
    });
    SECRETS.iter().any(|row| row.matches(key))
}

fn find(owner: Owner<'_>, key: &str) -> Option<&'static Row> {
    tables(owner)
        .into_iter()
        .flatten()
        .find(|row| row.matches(key))
}

/// The tables of an owner; the first row that fits wins.
fn tables(owner: Owner<'_>) -> [&'static [Row]; 2] {
    match owner {
        Owner::Server => [server::KEYS, row::ANY],
        Owner::Member => [member::KEYS, row::ANY],
        Owner::Pool(driver) => [pool::keys(driver), pool::COMMON],
        Owner::Network(kind) => [network::keys(kind), row::ANY],
        Owner::Project => [project::KEYS, row::ANY],
        Owner::Profile => [profile::KEYS, row::ANY],
        Owner::Device(kind) => [device::keys(kind), device::COMMON],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWNERS: [Owner<'static>; 12] = [
        Owner::Server,
        Owner::Member,
        Owner::Pool("zfs"),
        Owner::Pool("lvm"),
        Owner::Pool("ceph"),
        Owner::Network("bridge"),
        Owner::Network("ovn"),
        Owner::Network("physical"),
        Owner::Project,
        Owner::Profile,
        Owner::Device("nic"),
        Owner::Device("disk"),
    ];

    #[test]
    fn no_key_is_listed_twice_or_hidden_by_a_pattern() {
        for owner in OWNERS {
            let keys: Vec<&str> = known_keys(owner).collect();
            for key in &keys {
                assert_eq!(
                    keys.iter().filter(|k| *k == key).count(),
                    1,
                    "{owner:?} {key}"
                );
                assert_eq!(
                    find(owner, key).map(|row| row.key),
                    Some(*key),
                    "{owner:?} {key}"
                );
            }
        }
    }

    #[test]
    fn scopes_are_those_of_the_service() {
        for (owner, key, scope) in [
            (Owner::Server, "core.https_address", Scope::Member),
            (Owner::Server, "core.bgp_address", Scope::Member),
            (Owner::Server, "core.bgp_asn", Scope::Global),
            (Owner::Server, "storage.images_volume", Scope::Member),
            (Owner::Server, "images.auto_update_interval", Scope::Global),
            (Owner::Pool("btrfs"), "source", Scope::Member),
            (Owner::Pool("btrfs"), "size", Scope::Member),
            (Owner::Pool("zfs"), "zfs.pool_name", Scope::Member),
            (Owner::Pool("zfs"), "zfs.export", Scope::Global),
            (Owner::Network("physical"), "parent", Scope::Member),
            (
                Owner::Network("bridge"),
                "bridge.external_interfaces",
                Scope::Member,
            ),
            (
                Owner::Network("fan"),
                "bridge.external_interfaces",
                Scope::Member,
            ),
            (Owner::Network("bridge"), "bgp.ipv4.nexthop", Scope::Member),
            (Owner::Network("bridge"), "ipv4.address", Scope::Global),
            (Owner::Pool("of the future"), "source", Scope::Member),
        ] {
            assert_eq!(facts(owner, key).scope, scope, "{owner:?} {key}");
        }
    }

    #[test]
    fn secrets_are_marked_by_patterns_too() {
        for (owner, key) in [
            (Owner::Server, "core.trust_password"),
            (Owner::Server, "network.ovn.client_key"),
            (Owner::Server, "loki.auth.password"),
            (Owner::Server, "logging.mine.target.password"),
            (Owner::Server, "storage.linstor.client_key"),
            (Owner::Network("physical"), "bgp.peers.tor.password"),
            (Owner::Pool("pure"), "pure.api.token"),
        ] {
            assert!(facts(owner, key).secret, "{owner:?} {key}");
        }
        assert!(!facts(Owner::Network("physical"), "bgp.peers.tor.address").secret);
        assert!(!facts(Owner::Profile, "user.password").secret);
    }

    #[test]
    fn keys_nobody_knows_are_global_and_plain() {
        assert_eq!(facts(Owner::Server, "made.up"), KeyFacts::UNKNOWN);
        assert!(!is_known(Owner::Server, "made.up"));
        assert!(is_known(Owner::Server, "user.anything"));
    }
}
