//! What is valid and will not do what its writer expects: what this version cannot do, and names of
//! things that no resource makes.
//!
//! A warning never breaks a document. What it warns of is told again as the condition of the
//! resource, once it is applied.

use super::Check;
use crate::resources::check::{listed, nearest};
use crate::resources::kinds::{
    CephProvider, ClusterSpec, DiskSpec, DiskUse, InstanceService, MemberSpec, OvnProvider,
    ProfileSpec,
};
use crate::resources::object::{DEFAULT_PROJECT, Kind, ObjectRef};
use crate::resources::positions::{Step, at};
use crate::resources::resource::Spec;
use crate::resources::value::{ConfigValue, Presence};

/// The pools and networks of a profile's devices, by the device's type and key.
const NAMED: [(&str, &str); 2] = [("disk", "pool"), ("nic", "network")];

impl<'a> Check<'a> {
    pub(super) fn warnings(&mut self) {
        match &self.located.resource.spec {
            Spec::Cluster(spec) => self.warn_of_cluster(spec),
            Spec::Member(spec) => self.warn_of_member(spec),
            Spec::Disk(spec) => self.warn_of_disk(spec),
            Spec::Profile(spec) => self.warn_of_profile(spec),
            Spec::Uplink(_) | Spec::StoragePool(_) | Spec::Project(_) | Spec::Network(_) => {}
        }
        self.warn_of_project();
    }

    fn warn_of_cluster(&mut self, spec: &'a ClusterSpec) {
        if spec.instances == InstanceService::Incus {
            self.wrong(
                at!["spec", "instances"],
                "this version does not run Incus: the LXD of the machines is used, if there is one",
            )
            .help = Some("write `lxd`, or leave the field out".to_owned());
        }
        let path = at!["spec", "ovn", "provider"];
        match spec.ovn.as_ref().map(|ovn| ovn.provider) {
            Some(OvnProvider::Microovn) => {
                self.wrong(
                    path,
                    "this version does not run MicroOVN: nothing is done about OVN",
                )
                .help = Some("write `packaged`, or `none`".to_owned());
            }
            Some(OvnProvider::External) => {
                self.wrong(
                    path,
                    "of an external OVN this version only tells LXD the northbound connection",
                )
                .help = Some(
                    "Open vSwitch, ovn-controller and LXD's certificate on the members are yours \
                     to set up; or write `packaged` to have one formed"
                        .to_owned(),
                );
            }
            Some(OvnProvider::Packaged | OvnProvider::None) | None => {}
        }
        let path = at!["spec", "ceph", "provider"];
        match spec.ceph.as_ref().map(|ceph| ceph.provider) {
            Some(CephProvider::Microceph) => {
                self.wrong(
                    path,
                    "this version does not run MicroCeph: nothing is done about Ceph",
                )
                .help = Some("write `packaged`, or `none`".to_owned());
            }
            Some(CephProvider::External) => {
                self.wrong(
                    path,
                    "of an external Ceph this version only holds LXD's pools, and nothing below them",
                )
                .help = Some(
                    "ceph.conf and a keyring on the members are yours to set up; or write \
                     `packaged` to have one formed"
                        .to_owned(),
                );
            }
            Some(CephProvider::Packaged | CephProvider::None) | None => {}
        }
    }

    fn warn_of_member(&mut self, spec: &'a MemberSpec) {
        for (place, role) in spec.roles.iter().flatten().enumerate() {
            if !super::member::ROLES.contains(&role.as_str()) {
                self.wrong(
                    at!["spec", "roles", place],
                    format!("`{role}` is none of LXD's roles: LXD may refuse it"),
                )
                .help = Some(format!("it has {}", listed(super::member::ROLES)));
            }
        }
    }

    fn warn_of_disk(&mut self, spec: &'a DiskSpec) {
        if spec.state == Presence::Absent && matches!(spec.usage, DiskUse::Pool(_)) {
            self.wrong(
                at!["spec", "state"],
                "a disk is not taken out of a pool: it is refused",
            )
            .help = Some("delete the pool first: `state: Absent` at the StoragePool".to_owned());
        }
    }

    /// What a profile names may be there without a resource: then nothing here holds it.
    fn warn_of_profile(&mut self, spec: &'a ProfileSpec) {
        let own = &self.located.resource.metadata.project;
        let project = own.as_deref().unwrap_or(DEFAULT_PROJECT);
        for (name, device) in &spec.devices {
            for (kind, key) in NAMED {
                let is = |key: &str| match device.get(key) {
                    Some(ConfigValue::Plain(text)) => text.as_str(),
                    _ => "",
                };
                let named = is(key);
                if is("type") != kind || named.is_empty() {
                    continue;
                }
                let kinds: &[Kind] = match key {
                    "pool" => &[Kind::StoragePool],
                    _ => &[Kind::Network, Kind::Uplink],
                };
                let exists = kinds.iter().any(|kind| {
                    let of_default = ObjectRef::new(*kind, named);
                    let of_own = ObjectRef::in_project(*kind, project, named);
                    self.context.exists(&of_default) || self.context.exists(&of_own)
                });
                if !exists {
                    self.not_here(at!["spec", "devices", name, key], kinds[0], named);
                }
            }
        }
    }

    fn warn_of_project(&mut self) {
        let resource = &self.located.resource;
        let Some(project) = resource.metadata.project.as_deref() else {
            return;
        };
        let exists = self.context.exists(&ObjectRef::new(Kind::Project, project));
        if resource.kind().in_project() && project != DEFAULT_PROJECT && !exists {
            self.not_here(at!["metadata", "project"], Kind::Project, project);
        }
    }

    fn not_here(&mut self, path: &[Step<'_>], kind: Kind, name: &str) {
        // A few documents alone are not all there is: only who knows the Cluster can tell.
        if !self.context.is_whole() {
            return;
        }
        let names = self.context.names(kind);
        let help = match nearest(name, &names) {
            Some(near) => format!("did you mean `{near}`?"),
            None => {
                format!("write a {kind}, or make it by hand: it is waited for until it is there")
            }
        };
        self.wrong(path, format!("no resource is the {kind} `{name}`"))
            .help = Some(help);
    }
}
