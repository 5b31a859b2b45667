//! Whether a value that is wanted is the value that is there.

use super::row::Form;
use super::{Owner, find};
use ipnet::IpNet;
use std::net::IpAddr;

/// Whether `observed` (nothing when the key is unset) is what `wanted` asks for.
///
/// - Empty text means unset, and unset means the default where that is fixed: a service may leave
///   out a key that has its default.
/// - `auto` of a key the service fills in is any value it may have filled in; `none` is literal.
/// - Truth values, sizes, addresses and lists are compared by what they mean.
pub fn equal(owner: Owner<'_>, key: &str, wanted: &str, observed: Option<&str>) -> bool {
    let row = find(owner, key);
    let default = row.and_then(|row| row.facts.default).unwrap_or_default();
    let form = row.map_or(Form::Text, |row| row.form);
    let observed = observed.filter(|value| !value.is_empty());
    let wanted = Some(wanted).filter(|value| !value.is_empty());
    if row.is_some_and(|row| row.facts.computed)
        && wanted == Some("auto")
        && observed.is_some_and(|value| value != "none")
    {
        return true;
    }
    match (wanted, observed) {
        (Some(wanted), Some(observed)) => same(form, wanted, observed),
        (None, None) => true,
        // A default of nothing known must not make unset equal to anything.
        (Some(value), None) => !default.is_empty() && same(form, value, default),
        (None, Some(_)) => false,
    }
}

fn same(form: Form, a: &str, b: &str) -> bool {
    if a == b {
        return true;
    }
    match form {
        Form::Text => false,
        Form::Bool => truth(a).is_some() && truth(a) == truth(b),
        Form::Size => bytes(a).is_some() && bytes(a) == bytes(b),
        Form::List => items(a).eq(items(b)),
        Form::Address => address(a).is_some() && address(a) == address(b),
    }
}

/// What a value must be, when it is not.
pub(super) fn expects(form: Form, value: &str) -> Option<&'static str> {
    match form {
        Form::Bool if !value.is_empty() && truth(value).is_none() => Some("true or false"),
        Form::Size if !value.is_empty() && bytes(value).is_none() && !share(value) => {
            Some("a size such as 10GiB")
        }
        _ => None,
    }
}

/// A share of what there is, such as `50%`.
fn share(text: &str) -> bool {
    text.strip_suffix('%')
        .is_some_and(|number| number.parse::<u32>().is_ok())
}

/// The spellings LXD and Incus take for truth values.
fn truth(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Some(true),
        "false" | "0" | "no" | "off" => Some(false),
        _ => None,
    }
}

/// A size in bytes, with the suffixes LXD and Incus take.
pub(super) fn bytes(text: &str) -> Option<u128> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let number: u128 = text[..digits].parse().ok()?;
    let power = |base: u128, exponent| base.checked_pow(exponent);
    let factor = match text[digits..].trim() {
        "" | "B" | "bytes" => Some(1),
        "kB" => power(1000, 1),
        "MB" => power(1000, 2),
        "GB" => power(1000, 3),
        "TB" => power(1000, 4),
        "PB" => power(1000, 5),
        "EB" => power(1000, 6),
        "KiB" => power(1024, 1),
        "MiB" => power(1024, 2),
        "GiB" => power(1024, 3),
        "TiB" => power(1024, 4),
        "PiB" => power(1024, 5),
        "EiB" => power(1024, 6),
        _ => None,
    }?;
    number.checked_mul(factor)
}

fn items(text: &str) -> impl Iterator<Item = &str> {
    text.split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
}

fn address(text: &str) -> Option<(IpAddr, Option<u8>)> {
    match text.parse::<IpNet>() {
        Ok(net) => Some((net.addr(), Some(net.prefix_len()))),
        Err(_) => Some((text.parse().ok()?, None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BRIDGE: Owner<'static> = Owner::Network("bridge");

    #[test]
    fn auto_is_any_value_the_service_filled_in() {
        assert!(equal(BRIDGE, "ipv4.address", "auto", Some("10.1.2.1/24")));
        assert!(equal(BRIDGE, "ipv4.address", "auto", Some("auto")));
        assert!(!equal(BRIDGE, "ipv4.address", "auto", Some("none")));
        assert!(!equal(BRIDGE, "ipv4.address", "auto", None));
        assert!(!equal(BRIDGE, "ipv4.address", "none", Some("10.1.2.1/24")));
        assert!(equal(BRIDGE, "ipv4.address", "none", Some("none")));
        assert!(
            !equal(BRIDGE, "dns.domain", "auto", Some("lxd")),
            "not a computed key"
        );
    }

    #[test]
    fn truth_values_are_equal_in_any_spelling() {
        for (a, b) in [("true", "1"), ("yes", "on"), ("False", "no"), ("0", "off")] {
            assert!(equal(BRIDGE, "ipv4.dhcp", a, Some(b)), "{a} {b}");
        }
        assert!(!equal(BRIDGE, "ipv4.dhcp", "true", Some("no")));
        assert!(
            !equal(Owner::Profile, "user.on", "yes", Some("true")),
            "free text"
        );
    }

    #[test]
    fn unset_is_the_default_and_nothing_else() {
        assert!(equal(Owner::Server, "cluster.max_voters", "3", None));
        assert!(!equal(Owner::Server, "cluster.max_voters", "5", None));
        assert!(equal(Owner::Server, "core.proxy_http", "", None));
        assert!(equal(Owner::Server, "core.proxy_http", "", Some("")));
        assert!(!equal(
            Owner::Server,
            "core.proxy_http",
            "",
            Some("http://p")
        ));
        assert!(!equal(Owner::Server, "core.proxy_http", "http://p", None));
    }

    #[test]
    fn sizes_lists_and_addresses_are_compared_by_meaning() {
        assert!(equal(Owner::Pool("zfs"), "size", "1GiB", Some("1024MiB")));
        assert!(equal(Owner::Pool("zfs"), "size", "1kB", Some("1000")));
        assert!(!equal(Owner::Pool("zfs"), "size", "1GiB", Some("1GB")));
        assert!(!equal(
            Owner::Pool("zfs"),
            "size",
            "99999999999999999999EiB",
            Some("1GB")
        ));
        let physical = Owner::Network("physical");
        assert!(equal(
            physical,
            "dns.nameservers",
            "1.1.1.1, 8.8.8.8",
            Some("1.1.1.1,8.8.8.8")
        ));
        assert!(!equal(
            physical,
            "dns.nameservers",
            "8.8.8.8,1.1.1.1",
            Some("1.1.1.1,8.8.8.8")
        ));
        assert!(equal(
            physical,
            "ipv6.gateway",
            "FD00::1/64",
            Some("fd00:0::1/64")
        ));
        assert!(!equal(
            physical,
            "ipv6.gateway",
            "fd00::1/64",
            Some("fd00::1/65")
        ));
    }
}
