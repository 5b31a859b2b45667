//! Whether members reach each other, on every network they need, with packets as large as their
//! interfaces send: tried before anything is changed, and shown afterwards.

use super::{Plan, Topic, View, reasons};
use crate::reconcile::desired::Desired;
use crate::resources::kinds::MemberState;
use crate::services::host::{HostReport, Reach};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

/// How many others each member tries its way to: with the others' tries it is enough to find a
/// machine that is wired wrongly, and few enough for a thousand of them.
const NEIGHBOURS: usize = 8;

/// The first of all addresses.
const ANY: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// A network between members, with each one's address on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::reconcile) struct Between<'a> {
    /// What it is called.
    pub network: &'static str,
    /// The addresses, by member.
    pub addresses: BTreeMap<&'a str, IpAddr>,
}

impl<'a> Between<'a> {
    /// Whom a member tries its way to.
    pub fn others(&self, name: &str) -> Vec<(String, IpAddr)> {
        let after = self.addresses.iter().filter(|(n, _)| **n > name);
        let before = self.addresses.iter().filter(|(n, _)| **n < name);
        let others = after.chain(before).take(NEIGHBOURS);
        others
            .map(|(name, address)| ((*name).to_owned(), *address))
            .collect()
    }
}

/// The networks between members, as far as the machines that `report` gives tell their addresses.
pub(in crate::reconcile) fn networks<'a>(
    desired: &'a Desired,
    report: impl Fn(&str) -> Option<&'a HostReport>,
) -> Vec<Between<'a>> {
    let known: Vec<_> = desired
        .members()
        .filter(|(_, spec)| spec.state != MemberState::Absent)
        .filter_map(|(name, spec)| Some((name, spec, report(name)?)))
        .collect();
    let mut networks = vec![Between {
        network: "internal network",
        addresses: known.iter().map(|(n, s, _)| (*n, s.address)).collect(),
    }];
    let Some((_, cluster)) = desired.cluster() else {
        return networks;
    };
    let ovn = cluster.ovn.as_ref();
    let ceph = cluster.ceph.as_ref();
    for (network, subnet) in [
        ("underlay", ovn.and_then(|o| o.underlay_subnet)),
        (
            "public network of Ceph",
            ceph.and_then(|c| c.public_network),
        ),
        (
            "cluster network of Ceph",
            ceph.and_then(|c| c.cluster_network),
        ),
    ] {
        let addresses: BTreeMap<&str, IpAddr> = known
            .iter()
            .filter_map(|(name, spec, report)| {
                let own = spec.underlay_address.filter(|_| network == "underlay");
                let inside = || {
                    let all = report.interfaces.iter().flat_map(|i| &i.addresses);
                    let mut all = all.map(ipnet::IpNet::addr);
                    all.find(|a| subnet.is_some_and(|s| s.contains(a)))
                };
                let address = own.or_else(inside)?;
                (address != spec.address).then_some((*name, address))
            })
            .collect();
        let twice = networks.iter().any(|n| n.addresses == addresses);
        if !addresses.is_empty() && !twice {
            networks.push(Between { network, addresses });
        }
    }
    networks
}

/// What is wrong with the ways from a member to those others that answer: the other, and the
/// sentence. Where only the agents' connections get through, a firewall lets no UDP pass to their
/// port; that is nobody's need.
fn found(name: &str, view: &View<'_>) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let answers = |name: &str| {
        let host = view.world.hosts.get(name);
        host.is_some_and(|h| h.error.is_none() && h.report.known().is_some())
    };
    let of_member = view.world.paths.range((name.to_owned(), ANY)..);
    for ((_, from), path) in of_member.take_while(|((n, _), _)| n == name) {
        let Some(report) = path.seen.known().filter(|_| answers(name)) else {
            continue;
        };
        for (other, to) in path.others.iter().filter(|(other, _)| answers(other)) {
            let network = &path.network;
            let way = format!("from {name} ({from}) to {other} ({to}) on the {network}");
            let sentence = match report.paths.get(to) {
                Some(Reach::Nothing) => format!(
                    "nothing gets {way}: look at cables, VLANs and firewalls between the two"
                ),
                Some(Reach::Packets(size)) if *size < report.mtu => format!(
                    "packets of more than {size} bytes do not get {way}, though the interface \
                     sends {}: raise the MTU of what is between the two, or lower that of the \
                     interfaces",
                    report.mtu
                ),
                _ => continue,
            };
            found.push((other.clone(), sentence));
        }
    }
    found
}

/// Has a plan wait for what is wrong with a member's ways to others.
pub(super) fn wait(name: &str, view: &View<'_>, plan: &mut Plan) {
    for (other, sentence) in found(name, view) {
        plan.wait(Topic::Host(other), reasons::NETWORK, sentence);
    }
}

/// Shows what is wrong with a member's ways to others.
pub(super) fn show(name: &str, view: &View<'_>, plan: &mut Plan) {
    for (_, sentence) in found(name, view) {
        plan.note(reasons::NETWORK, sentence);
    }
}
