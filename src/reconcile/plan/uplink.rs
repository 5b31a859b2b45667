//! `Uplink`: the physical network OVN goes out by, as LXD's network of type `physical`.

use super::diff::Ignore;
use super::network::{Wanted, plan_wanted};
use super::step::Values;
use super::{Plan, View};
use crate::resources::ObjectRef;
use crate::resources::kinds::UplinkSpec;
use crate::resources::value::{Config, ConfigValue};
use std::collections::BTreeMap;

pub(super) fn plan(
    object: &ObjectRef,
    spec: &UplinkSpec,
    ignore: &Ignore,
    view: &View<'_>,
) -> Plan {
    let mut config = spec.config.clone();
    let mut set = |key: &str, value: String| {
        config.insert(key.to_owned(), ConfigValue::Plain(value));
    };
    for (word, family) in [("ipv4", &spec.ipv4), ("ipv6", &spec.ipv6)] {
        let Some(family) = family else { continue };
        set(&format!("{word}.gateway"), family.gateway.to_string());
        if !family.ranges.is_empty() {
            set(&format!("{word}.ovn.ranges"), family.ranges.join(","));
        }
    }
    if !spec.dns.is_empty() {
        let servers: Vec<String> = spec.dns.iter().map(ToString::to_string).collect();
        set("dns.nameservers", servers.join(","));
    }
    if let Some(vlan) = spec.vlan {
        set("vlan", vlan.to_string());
    }
    if let Some(mtu) = spec.mtu {
        set("mtu", mtu.to_string());
    }
    let members: BTreeMap<String, Config> = view
        .desired
        .members()
        .filter_map(|(name, _)| Some((name.to_owned(), keys_of(spec, name)?)))
        .collect();
    let wanted = Wanted {
        network_type: "physical",
        description: spec.description.clone(),
        config,
        members,
        two_phases: true,
    };
    plan_wanted(object, &wanted, ignore, view)
}

/// What one member gives to the uplink.
pub(super) fn keys_of(spec: &UplinkSpec, member: &str) -> Option<Values> {
    let interface = spec.interfaces.get(member).or(spec.interface.as_ref())?;
    Some([("parent".to_owned(), ConfigValue::Plain(interface.clone()))].into())
}
