//! What a lost machine carried of OVN.

use super::picture::Picture;
use crate::reconcile::plan::View;
use crate::services::host::{Gateway, OvnDatabase, Raft};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// How many networks are told by name.
const BY_NAME: usize = 3;

/// What members carry of OVN: made once, and asked for each of them.
pub(in crate::reconcile::plan) struct Burdens<'a>(Option<Picture<'a>>);

impl<'a> Burdens<'a> {
    pub(in crate::reconcile::plan) fn of(view: &View<'a>) -> Burdens<'a> {
        Burdens(Picture::of(view))
    }

    /// What a member carries of OVN for all, as far as it was seen last: `databases of OVN`.
    pub(in crate::reconcile::plan) fn carried(&self, name: &str, view: &View<'_>) -> Vec<String> {
        let Some(picture) = &self.0 else {
            return Vec::new();
        };
        let own = picture.machines.get(name).and_then(|machine| machine.ovn());
        let mut parts = Vec::new();
        if own.is_some_and(|ovn| ovn.central.serves()) {
            parts.push("databases of OVN".to_owned());
        }
        let mut ways = ways_out(name, picture, view);
        if ways.len() > BY_NAME {
            parts.push(format!("the way out of {} networks of OVN", ways.len()));
        } else {
            parts.append(&mut ways);
        }
        if parts.is_empty() && own.is_some_and(|ovn| ovn.chassis.controller) {
            parts.push("a chassis of OVN".to_owned());
        }
        parts
    }

    /// Whether losing one more machine while a member is lost, or were it, takes the majority from
    /// a raft.
    pub(in crate::reconcile::plan) fn no_more(&self, name: &str) -> bool {
        let Some(picture) = &self.0 else {
            return false;
        };
        let Some(machine) = picture.machines.get(name) else {
            return false;
        };
        let address = machine.spec.address;
        let told = picture.rafts_without(name);
        OvnDatabase::BOTH.into_iter().any(|which| {
            // Where nobody is left who is part of it, what was seen last counts.
            let last = || machine.ovn()?.central.database(which).map(Raft::from);
            let Some(raft) = told.of(which).cloned().or_else(last) else {
                return false;
            };
            let serves = |at: IpAddr| {
                let mut machines = picture.machines.values();
                machines.any(|m| m.spec.address == at && at != address && m.serves())
            };
            let left = raft.servers.iter().filter(|s| serves(s.address)).count();
            let its = raft.servers.iter().any(|s| s.address == address);
            its && left.saturating_sub(1) < raft.servers.len() / 2 + 1
        })
    }
}

/// The networks that go out by a member while it is heard, and by which one they do without it.
fn ways_out(name: &str, picture: &Picture<'_>, view: &View<'_>) -> Vec<String> {
    let serving = picture.serving();
    let (Some((_, ovn)), Some(networks)) = (serving, view.world.lxd.networks.known()) else {
        return Vec::new();
    };
    let gateway = |config: &BTreeMap<String, String>| -> Option<&Gateway> {
        ["ipv4", "ipv6"].into_iter().find_map(|family| {
            let address = config.get(&format!("volatile.network.{family}.address"))?;
            let address: IpAddr = address.parse().ok()?;
            ovn.central.gateways.get(&address)
        })
    };
    networks
        .iter()
        .filter_map(|((_, network), seen)| {
            let gateway = gateway(&seen.whole.value.config)?;
            let by = gateway.now.as_deref();
            if gateway.preferred != name && by != Some(name) {
                return None;
            }
            let now = match by {
                Some(by) if by != name => format!(" (by {by} now)"),
                Some(_) => String::new(),
                None => " (by none now)".to_owned(),
            };
            Some(format!("the way out of network {network}{now}"))
        })
        .collect()
}
