//! Rules of `Cluster`.

use super::Check;
use crate::catalog::Owner;
use crate::resources::kinds::{CephProvider, CephSpec, ClusterSpec, OvnProvider, OvnSpec};
use crate::resources::object::Kind;
use crate::resources::positions::{Step, at};
use ipnet::IpNet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// The shortest and the longest `interval`.
const INTERVAL: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(24 * 3600);

/// The server key that follows from `spec.ovn`.
const NORTHBOUND: &str = "network.ovn.northbound_connection";

/// The most copies of an object Ceph is asked for.
const MOST_REPLICAS: u32 = 10;

impl<'a> Check<'a> {
    pub(super) fn cluster(&mut self, spec: &'a ClusterSpec) {
        if let Some((name, origin)) = self.context.other_cluster(self.name()) {
            self.wrong(at!["metadata", "name"], "there must be exactly one Cluster")
                .help = Some(format!("`{name}` is at {origin}; remove one of them"));
        }
        self.dangling(at!["spec", "initiator"], Kind::Member, &spec.initiator);
        if let Some(subnet) = &spec.internal_subnet {
            self.subnet(at!["spec", "internalSubnet"], subnet);
        }
        if let Some(interval) = spec.interval
            && !INTERVAL.contains(&interval.0)
        {
            self.wrong(
                at!["spec", "interval"],
                "`interval` must be between 1s and 24h",
            );
        }
        if let Some(ovn) = &spec.ovn {
            self.ovn(ovn);
        }
        if let Some(ceph) = &spec.ceph {
            self.ceph(ceph);
        }
        let config = at!["spec", "config"];
        self.config(config, &spec.config, Owner::Server);
        self.https_address(config, spec.config.contains_key("cluster.https_address"));
        if let Some(ovn) = &spec.ovn
            && matches!(ovn.provider, OvnProvider::Packaged | OvnProvider::External)
            && spec.config.contains_key(NORTHBOUND)
        {
            let path = [config, at![NORTHBOUND]].concat();
            self.wrong_key(&path, format!("`{NORTHBOUND}` is set by this program"))
                .help = Some("remove it: it follows from `spec.ovn`".to_owned());
        }
        let others = spec.config.keys().filter(|k| *k != "cluster.https_address");
        for key in others {
            if crate::catalog::facts(Owner::Server, key).scope == crate::catalog::Scope::Member {
                let path = [config, at![key]].concat();
                self.wrong_key(&path, format!("`{key}` differs by member"))
                    .help = Some(format!("write it at each Member: `spec.config.{key}`"));
            }
        }
    }

    /// `cluster.https_address` follows from `Member.spec.address`.
    pub(super) fn https_address(&mut self, config: &[Step<'_>], given: bool) {
        if given {
            let path = [config, at!["cluster.https_address"]].concat();
            self.wrong_key(&path, "`cluster.https_address` is set by this program")
                .help = Some("remove it: it follows from `address` of the Member".to_owned());
        }
    }

    fn ovn(&mut self, ovn: &'a OvnSpec) {
        if let Some(subnet) = &ovn.underlay_subnet {
            self.subnet(at!["spec", "ovn", "underlaySubnet"], subnet);
            if ovn.provider == OvnProvider::None {
                self.wrong_key(
                    at!["spec", "ovn", "underlaySubnet"],
                    "`underlaySubnet` says nothing when `provider` is `none`",
                );
            }
        }
        if !ovn.transport.is_tls() && ovn.provider != OvnProvider::Packaged {
            self.wrong_key(
                at!["spec", "ovn", "transport"],
                "`transport` is for an OVN that is formed here",
            )
            .help = Some("remove it, or write `provider: packaged`".to_owned());
        }
        let northbound = at!["spec", "ovn", "northbound"];
        match (ovn.provider, ovn.northbound.is_empty()) {
            (OvnProvider::External, true) => {
                self.wrong(
                    at!["spec", "ovn", "provider"],
                    "an external OVN needs `northbound`",
                )
                .help = Some("write its addresses, such as [ssl:192.0.2.1:6641]".to_owned());
            }
            (OvnProvider::Packaged | OvnProvider::Microovn | OvnProvider::None, false) => {
                self.wrong_key(northbound, "`northbound` is for an external OVN")
                    .help = Some("remove it, or write `provider: external`".to_owned());
            }
            _ => {}
        }
        for (place, connection) in ovn.northbound.iter().enumerate() {
            if !is_connection(connection) {
                let path = at!["spec", "ovn", "northbound", place];
                self.wrong(path, format!("`{connection}` is not an OVN connection"))
                    .help = Some(
                    "write it like ssl:192.0.2.1:6641, tcp:[2001:db8::1]:6641 or unix:/PATH"
                        .to_owned(),
                );
            }
        }
    }

    fn ceph(&mut self, ceph: &'a CephSpec) {
        for (field, subnet) in [
            ("publicNetwork", &ceph.public_network),
            ("clusterNetwork", &ceph.cluster_network),
        ] {
            let Some(subnet) = subnet else { continue };
            let path = at!["spec", "ceph", field];
            self.subnet(path, subnet);
            self.formed_here(ceph, field);
        }
        if let (Some(public), Some(cluster)) = (&ceph.public_network, &ceph.cluster_network)
            && public.addr().is_ipv4() != cluster.addr().is_ipv4()
        {
            self.wrong(
                at!["spec", "ceph", "clusterNetwork"],
                format!("`{cluster}` is of another family than `publicNetwork`"),
            )
            .help = Some("Ceph's daemons speak either IPv4 or IPv6".to_owned());
        }
        if ceph.replicas.is_some() {
            self.formed_here(ceph, "replicas");
        }
        if let Some(replicas) = ceph.replicas
            && !(1..=MOST_REPLICAS).contains(&replicas)
        {
            let message =
                format!("`replicas` must be between 1 and {MOST_REPLICAS}, not {replicas}");
            self.wrong(at!["spec", "ceph", "replicas"], message);
        }
    }

    /// What only a Ceph has that is formed here.
    fn formed_here(&mut self, ceph: &CephSpec, field: &'static str) {
        if matches!(ceph.provider, CephProvider::None | CephProvider::External) {
            self.wrong_key(
                at!["spec", "ceph", field],
                format!("`{field}` is for a Ceph that is formed here"),
            )
            .help = Some("remove it".to_owned());
        }
    }

    /// A subnet is written with its network address, so that a typing slip shows.
    fn subnet(&mut self, path: &[Step<'_>], subnet: &IpNet) {
        if subnet.addr() != subnet.network() {
            self.wrong(
                path,
                format!("`{subnet}` is an address in a subnet, not a subnet"),
            )
            .help = Some(format!("did you mean `{}`?", subnet.trunc()));
        } else if subnet.prefix_len() == 0 {
            self.wrong(path, format!("`{subnet}` is every address there is"))
                .help = Some("write the subnet of the members".to_owned());
        }
    }
}

/// `ssl:ADDRESS:PORT`, `tcp:ADDRESS:PORT` (IPv6 in brackets) or `unix:PATH`.
fn is_connection(text: &str) -> bool {
    match text.split_once(':') {
        Some(("unix", path)) => path.starts_with('/'),
        Some(("ssl" | "tcp", address)) => {
            address.parse::<SocketAddr>().is_ok()
                || address.rsplit_once(':').is_some_and(|(host, port)| {
                    let named = host.parse::<IpAddr>().is_err()
                        && !host.is_empty()
                        && host
                            .chars()
                            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.'));
                    named && port.parse::<u16>().is_ok_and(|port| port != 0)
                })
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_have_a_scheme_an_address_and_a_port() {
        for good in [
            "ssl:192.0.2.1:6641",
            "tcp:[2001:db8::1]:6641",
            "unix:/run/ovn/nb.sock",
            "ssl:ovn.example.com:6641",
        ] {
            assert!(is_connection(good), "{good}");
        }
        for wrong in [
            "192.0.2.1:6641",
            "ssl:192.0.2.1",
            "ssl:2001:db8::1:6641",
            "unix:run",
            "http:a:1",
            "ssl::6641",
        ] {
            assert!(!is_connection(wrong), "{wrong}");
        }
    }
}
