//! Rules of `Uplink`.

use super::member::is_edge;
use super::{Check, names};
use crate::catalog::Owner;
use crate::resources::kinds::{UplinkFamily, UplinkSpec};
use crate::resources::object::Kind;
use crate::resources::positions::at;
use std::net::IpAddr;

/// Keys of the real network that have a field here.
const FIELDS: &[(&str, &str)] = &[
    ("parent", "interface` or `interfaces"),
    ("ipv4.gateway", "ipv4.gateway` below `ipv4:"),
    ("ipv4.ovn.ranges", "ipv4.ranges` below `ipv4:"),
    ("ipv6.gateway", "ipv6.gateway` below `ipv6:"),
    ("ipv6.ovn.ranges", "ipv6.ranges` below `ipv6:"),
    ("dns.nameservers", "dns"),
    ("vlan", "vlan"),
    ("mtu", "mtu"),
];

impl<'a> Check<'a> {
    pub(super) fn uplink(&mut self, spec: &'a UplinkSpec) {
        if let Err(problem) = names::interface(self.name()) {
            self.wrong(at!["metadata", "name"], problem.message).help = problem.help;
        }
        if spec.interface.is_none() && spec.interfaces.is_empty() {
            self.wrong_key(at!["spec"], "`interface` or `interfaces` is missing")
                .help = Some("name the network card that leads outside".to_owned());
        }
        if let Some(interface) = &spec.interface
            && let Err(problem) = names::interface(interface)
        {
            self.wrong(at!["spec", "interface"], problem.message).help = problem.help;
        }
        for (member, interface) in &spec.interfaces {
            let path = at!["spec", "interfaces", member];
            self.dangling_key(path, Kind::Member, member);
            if let Err(problem) = names::interface(interface) {
                self.wrong(path, problem.message).help = problem.help;
            }
        }
        if let Some(family) = &spec.ipv4 {
            self.family("ipv4", family);
        }
        if let Some(family) = &spec.ipv6 {
            self.family("ipv6", family);
        }
        for (place, server) in spec.dns.iter().enumerate() {
            if spec.dns[..place].contains(server) {
                self.wrong(
                    at!["spec", "dns", place],
                    format!("`{server}` is given twice"),
                );
            } else if server.is_unspecified() || server.is_multicast() {
                self.wrong(
                    at!["spec", "dns", place],
                    format!("`{server}` is no name server"),
                );
            }
        }
        if let Some(vlan) = spec.vlan
            && !(1..=4094).contains(&vlan)
        {
            self.wrong(
                at!["spec", "vlan"],
                format!("`vlan` must be between 1 and 4094, not {vlan}"),
            );
        }
        if let Some(mtu) = spec.mtu {
            let least = if spec.ipv6.is_some() { 1280 } else { 576 };
            if !(least..=65535).contains(&mtu) {
                let message = format!("`mtu` must be between {least} and 65535, not {mtu}");
                self.wrong(at!["spec", "mtu"], message);
            }
        }
        let path = at!["spec", "config"];
        self.config(path, &spec.config, Owner::Network("physical"));
        self.fields_instead(path, &spec.config, FIELDS);
    }

    fn family(&mut self, name: &str, family: &'a UplinkFamily) {
        let gateway = family.gateway;
        let path = at!["spec", name, "gateway"];
        let expected = name == "ipv4";
        if gateway.addr().is_ipv4() != expected {
            let other = if expected { "ipv6" } else { "ipv4" };
            self.wrong(
                path,
                format!("`{gateway}` is not an address of {}", title(name)),
            )
            .help = Some(format!("write it below `{other}`"));
            return;
        }
        if is_edge(&gateway, gateway.addr()) {
            self.wrong(
                path,
                format!("`{}` is not the address of a gateway", gateway.addr()),
            )
            .help = Some(format!(
                "write the gateway's own address in {}",
                gateway.trunc()
            ));
        }
        if expected && family.ranges.is_empty() {
            self.wrong(
                path,
                "an IPv4 gateway needs `ranges` that OVN may take addresses from",
            )
            .help = Some("write them like 192.0.2.100-192.0.2.200".to_owned());
        }
        let mut ranges: Vec<(usize, IpAddr, IpAddr)> = Vec::new();
        for (place, text) in family.ranges.iter().enumerate() {
            if let Some((first, last)) = self.range(name, place, text, family)
                && !self.overlaps(name, place, (first, last), &ranges, family)
            {
                ranges.push((place, first, last));
            }
        }
    }

    /// Reads a range and checks it by itself.
    fn range(
        &mut self,
        name: &str,
        place: usize,
        text: &str,
        family: &'a UplinkFamily,
    ) -> Option<(IpAddr, IpAddr)> {
        let path = at!["spec", name, "ranges", place];
        let ends = text
            .split_once('-')
            .map(|(first, last)| (first.trim().parse(), last.trim().parse()));
        let Some((Ok(first), Ok(last))) = ends else {
            self.wrong(path, format!("`{text}` is not a range of addresses"))
                .help = Some(match name {
                "ipv4" => "write it like 192.0.2.100-192.0.2.200".to_owned(),
                _ => "write it like 2001:db8::100-2001:db8::1ff".to_owned(),
            });
            return None;
        };
        let (first, last): (IpAddr, IpAddr) = (first, last);
        for end in [first, last] {
            if !family.gateway.contains(&end) {
                let subnet = family.gateway.trunc();
                self.wrong(
                    path,
                    format!("`{end}` is outside the gateway's subnet {subnet}"),
                );
                return None;
            }
        }
        if first > last {
            self.wrong(path, format!("`{text}` ends before it begins"))
                .help = Some(format!("write {last}-{first}"));
            return None;
        }
        Some((first, last))
    }

    /// Checks what a range must leave out. True when it overlaps an earlier range.
    fn overlaps(
        &mut self,
        name: &str,
        place: usize,
        (first, last): (IpAddr, IpAddr),
        earlier: &[(usize, IpAddr, IpAddr)],
        family: &'a UplinkFamily,
    ) -> bool {
        let path = at!["spec", name, "ranges", place];
        let gateway = family.gateway.addr();
        if (first..=last).contains(&gateway) {
            self.wrong(path, format!("the range holds the gateway {gateway}"))
                .help = Some("OVN takes addresses of ranges for itself: leave it out".to_owned());
        }
        let subnet = family.gateway.trunc();
        if let Some(edge) = [first, last].into_iter().find(|end| is_edge(&subnet, *end)) {
            self.wrong(
                path,
                format!("`{edge}` is not the address of a machine in {subnet}"),
            );
        }
        if let Some((member, address)) = self.context.members_between(first, last).next() {
            self.wrong(
                path,
                format!("the range holds {address}, the address of `{member}`"),
            )
            .help = Some("OVN takes addresses of ranges for itself: leave it out".to_owned());
        }
        let Some((other, ..)) = earlier.iter().find(|(_, f, l)| first <= *l && *f <= last) else {
            return false;
        };
        let text = &family.ranges[*other];
        self.wrong(path, format!("the range overlaps {text}"));
        true
    }
}

fn title(family: &str) -> &'static str {
    if family == "ipv4" { "IPv4" } else { "IPv6" }
}
