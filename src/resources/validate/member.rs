//! Rules of `Member`.

use super::Check;
use super::names;
use crate::catalog::{self, Owner, Scope};
use crate::resources::check::nearest;
use crate::resources::kinds::MemberSpec;
use crate::resources::positions::{Step, at};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// Roles that are given by hand.
pub(super) const ROLES: &[&str] = &["control-plane", "event-hub", "ovn-chassis"];

impl<'a> Check<'a> {
    pub(super) fn member(&mut self, spec: &'a MemberSpec) {
        let origin = &self.located.resource.origin;
        if self.context.lacks_cluster(origin) {
            self.wrong(at!["kind"], "there are members but no Cluster")
                .help = Some("write a document of `kind: Cluster`".to_owned());
        }
        self.address(spec);
        if let Some(fingerprint) = &spec.fingerprint {
            self.fingerprint(fingerprint);
        }
        self.roles(spec.roles.as_deref().unwrap_or_default());
        if let Some(groups) = &spec.groups {
            self.groups(groups);
        }
        if spec
            .failure_domain
            .as_deref()
            .is_some_and(|d| d.trim().is_empty())
        {
            self.wrong(
                at!["spec", "failureDomain"],
                "a failure domain must have a name",
            )
            .help = Some("remove the field for the service's own".to_owned());
        }
        self.member_config(spec);
    }

    fn address(&mut self, spec: &'a MemberSpec) {
        let path = at!["spec", "address"];
        let address = spec.address;
        if unusable(address) {
            self.wrong(path, format!("no other member reaches `{address}`"))
                .help = Some("write the address of an interface of this machine".to_owned());
        } else if let Some((cluster, origin)) = self.context.cluster()
            && let Some(subnet) = &cluster.internal_subnet
        {
            if !subnet.contains(&address) {
                self.wrong(
                    path,
                    format!("`{address}` is outside the internal subnet {subnet}"),
                )
                .help = Some(format!("the subnet is given at {origin}"));
            } else if is_edge(subnet, address) {
                self.wrong(
                    path,
                    format!("`{address}` is not the address of a machine in {subnet}"),
                );
            }
        }
        if let Some((other, origin)) = self.context.same_address(&address, self.name()) {
            self.wrong(
                path,
                format!("`{address}` is the address of `{other}` as well"),
            )
            .help = Some(format!("`{other}` is at {origin}"));
        }
        let Some(underlay) = spec.underlay_address else {
            return;
        };
        let path = at!["spec", "underlayAddress"];
        if unusable(underlay) {
            self.wrong(path, format!("no other member reaches `{underlay}`"))
                .help = Some("write the address of an interface of this machine".to_owned());
        } else if let Some((cluster, origin)) = self.context.cluster()
            && let Some(subnet) = cluster
                .ovn
                .as_ref()
                .and_then(|ovn| ovn.underlay_subnet.as_ref())
            && !subnet.contains(&underlay)
        {
            self.wrong(
                path,
                format!("`{underlay}` is outside the underlay subnet {subnet}"),
            )
            .help = Some(format!("the subnet is given at {origin}"));
        }
    }

    fn fingerprint(&mut self, fingerprint: &str) {
        let path = at!["spec", "fingerprint"];
        let help = "`microcloud agent fingerprint` on that machine prints it";
        if let Some(c) = fingerprint.chars().find(|c| !c.is_ascii_hexdigit()) {
            let message = format!("a fingerprint has hexadecimal digits only, not `{c}`");
            self.wrong(path, message).help = Some(help.to_owned());
        } else if fingerprint.len() != 64 {
            let message = format!(
                "a fingerprint has 64 digits, this one {}",
                fingerprint.len()
            );
            self.wrong(path, message).help = Some(help.to_owned());
        }
    }

    fn roles(&mut self, roles: &[String]) {
        let mut seen = BTreeSet::new();
        for (place, role) in roles.iter().enumerate() {
            let path = at!["spec", "roles", place];
            if role == "database" || role.starts_with("database-") {
                self.wrong(
                    path,
                    format!("the role `{role}` is given by the service itself"),
                )
                .help = Some("remove it".to_owned());
            } else if !ROLES.contains(&role.as_str())
                && let Some(near) = nearest(role, ROLES)
            {
                self.wrong(path, format!("no role `{role}`")).help =
                    Some(format!("did you mean `{near}`?"));
            } else if role.trim().is_empty() {
                self.wrong(path, "a role must have a name");
            } else if !seen.insert(role) {
                self.wrong(path, format!("`{role}` is given twice"));
            }
        }
    }

    fn groups(&mut self, groups: &[String]) {
        if groups.is_empty() {
            self.wrong(at!["spec", "groups"], "a member is in at least one group")
                .help = Some("remove the field, or write [default]".to_owned());
        }
        let mut seen = BTreeSet::new();
        for (place, group) in groups.iter().enumerate() {
            let path = at!["spec", "groups", place];
            if let Err(problem) = names::check(crate::resources::Kind::Profile, group) {
                self.wrong(path, problem.message).help = problem.help;
            } else if !seen.insert(group) {
                self.wrong(path, format!("`{group}` is given twice"));
            }
        }
    }

    /// Keys of members, and keys of the server that differ by member.
    fn member_config(&mut self, spec: &'a MemberSpec) {
        let path = at!["spec", "config"];
        self.https_address(path, spec.config.contains_key("cluster.https_address"));
        for (key, value) in &spec.config {
            let at: &[Step<'_>] = &[path, at![key]].concat();
            let of_server = catalog::is_known(Owner::Server, key) && !key.starts_with("user.");
            if of_server && catalog::facts(Owner::Server, key).scope == Scope::Global {
                self.wrong_key(at, format!("`{key}` is one for the whole cluster"))
                    .help = Some(format!("write it at the Cluster: `spec.config.{key}`"));
                continue;
            }
            let owner = if of_server {
                Owner::Server
            } else {
                Owner::Member
            };
            self.one_key(path, key, value, owner);
        }
    }
}

fn unusable(address: IpAddr) -> bool {
    let link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    address.is_unspecified() || address.is_loopback() || address.is_multicast() || link_local
}

/// The network's own address and the broadcast address are no machine's.
pub(super) fn is_edge(subnet: &ipnet::IpNet, address: IpAddr) -> bool {
    match subnet {
        ipnet::IpNet::V4(v4) => {
            v4.prefix_len() < 31
                && (address == IpAddr::V4(v4.network()) || address == IpAddr::V4(v4.broadcast()))
        }
        ipnet::IpNet::V6(v6) => v6.prefix_len() < 127 && address == IpAddr::V6(v6.network()),
    }
}
