//! Rules of `Network`.

use super::{Check, names};
use crate::catalog::{self, Owner, Scope};
use crate::resources::kinds::{InstanceService, NetworkSpec, NetworkType, OvnProvider};
use crate::resources::object::{DEFAULT_PROJECT, Kind};
use crate::resources::positions::at;
use crate::resources::value::ConfigValue;
use ipnet::IpNet;

impl<'a> Check<'a> {
    pub(super) fn network(&mut self, spec: &'a NetworkSpec) {
        self.network_name(spec);
        self.network_uplink(spec);
        let owner = match spec.network_type {
            NetworkType::Bridge => Owner::Network("bridge"),
            NetworkType::Fan => Owner::Network("fan"),
            NetworkType::Ovn => Owner::Network("ovn"),
        };
        let path = at!["spec", "config"];
        match spec.network_type {
            NetworkType::Ovn => {
                self.fields_instead(path, &spec.config, &[("network", "uplink")]);
                if spec.config.contains_key("parent") {
                    self.wrong_key(
                        at!["spec", "config", "parent"],
                        "an `ovn` network has no parent",
                    )
                    .help = Some("the interface is the Uplink's: write it there".to_owned());
                }
            }
            NetworkType::Bridge | NetworkType::Fan => {
                self.fields_instead(
                    path,
                    &spec.config,
                    &[("bridge.mode", "type: fan` or `type: bridge")],
                );
            }
        }
        self.config(path, &spec.config, owner);
        let parent = |key: &str| spec.network_type == NetworkType::Ovn && key == "parent";
        for key in spec.config.keys().filter(|k| !parent(k)) {
            if catalog::facts(owner, key).scope == Scope::Member {
                self.wrong_key(
                    at!["spec", "config", key],
                    format!("`{key}` differs by member"),
                )
                .help = Some(format!(
                    "write it at each member: `spec.members.NAME.{key}`"
                ));
            }
        }
        self.addresses(spec);
        for (member, config) in &spec.members {
            let path = at!["spec", "members", member];
            self.dangling_key(path, Kind::Member, member);
            self.config(path, config, owner);
            self.member_only(path, config, owner);
        }
    }

    fn network_name(&mut self, spec: &'a NetworkSpec) {
        let resource = &self.located.resource;
        if spec.network_type == NetworkType::Ovn {
            return;
        }
        let name = &resource.metadata.name;
        if let Err(problem) = names::interface(name) {
            self.wrong(at!["metadata", "name"], problem.message).help =
                Some("a bridge is an interface of this name on every member".to_owned());
        } else if name.len() < 2 {
            self.wrong(
                at!["metadata", "name"],
                "a bridge has at least two characters",
            );
        }
        if resource.reference().project != DEFAULT_PROJECT {
            self.wrong(
                at!["metadata", "project"],
                "only `ovn` networks can be in a project",
            )
            .help = Some("remove `project`".to_owned());
        }
    }

    fn network_uplink(&mut self, spec: &'a NetworkSpec) {
        let path = at!["spec", "uplink"];
        match (spec.network_type, &spec.uplink) {
            (NetworkType::Ovn, None) => {
                self.wrong(at!["spec", "type"], "an `ovn` network needs an `uplink`")
                    .help = Some("name the Uplink it goes out by".to_owned());
            }
            (NetworkType::Ovn, Some(uplink)) => self.dangling(path, Kind::Uplink, uplink),
            (_, Some(_)) => {
                self.wrong_key(path, "only `ovn` networks have an uplink")
                    .help = Some("remove it, or write `type: ovn`".to_owned());
            }
            (_, None) => {}
        }
        let Some((cluster, origin)) = self.context.cluster() else {
            return;
        };
        let path = at!["spec", "type"];
        match spec.network_type {
            NetworkType::Ovn
                if cluster
                    .ovn
                    .as_ref()
                    .is_none_or(|ovn| ovn.provider == OvnProvider::None) =>
            {
                self.wrong(path, "the Cluster has no OVN").help =
                    Some(format!("see `ovn` of the Cluster at {origin}"));
            }
            NetworkType::Fan if cluster.instances == InstanceService::Incus => {
                self.wrong(path, "Incus has no fan networks").help =
                    Some("use `bridge` or `ovn`".to_owned());
            }
            _ => {}
        }
    }

    /// `ipv4.address` and `ipv6.address`: `auto`, `none` or an address with its prefix length.
    fn addresses(&mut self, spec: &'a NetworkSpec) {
        for (key, v4) in [("ipv4.address", true), ("ipv6.address", false)] {
            let Some(ConfigValue::Plain(text)) = spec.config.get(key) else {
                continue;
            };
            if matches!(text.as_str(), "" | "auto" | "none") {
                continue;
            }
            let path = at!["spec", "config", key];
            let example = if v4 {
                "10.1.2.1/24"
            } else {
                "fd42:1:2:3::1/64"
            };
            match text.parse::<IpNet>() {
                Ok(net) if net.addr().is_ipv4() == v4 => {
                    if super::member::is_edge(&net, net.addr()) {
                        self.wrong(
                            path,
                            format!("`{}` is the subnet's own address", net.addr()),
                        )
                        .help = Some(format!(
                            "write the address of the network's gateway, such as {example}"
                        ));
                    }
                }
                _ => {
                    let family = if v4 { "IPv4" } else { "IPv6" };
                    let message =
                        format!("`{text}` is not an {family} address with a prefix length");
                    self.wrong(path, message).help = Some(format!("write auto, none or {example}"));
                }
            }
        }
    }
}
