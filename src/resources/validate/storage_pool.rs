//! Rules of `StoragePool`.

use super::Check;
use crate::catalog::{self, Owner};
use crate::resources::check::{listed, nearest};
use crate::resources::kinds::{CephProvider, InstanceService, StoragePoolSpec};
use crate::resources::object::Kind;
use crate::resources::positions::at;

/// Drivers only one of the services has.
const INCUS_ONLY: &[&str] = &["linstor", "lvmcluster", "truenas"];
const LXD_ONLY: &[&str] = &["alletra", "powerflex", "powerstore", "pure"];

/// Drivers whose pools have a part of their own on every member.
const OF_EACH_MEMBER: &[&str] = &["btrfs", "dir", "lvm", "zfs"];

impl<'a> Check<'a> {
    pub(super) fn storage_pool(&mut self, spec: &'a StoragePoolSpec) {
        self.driver(&spec.driver);
        self.volumes(spec);
        let owner = Owner::Pool(&spec.driver);
        let path = at!["spec", "config"];
        self.config(path, &spec.config, owner);
        self.global_only(
            path,
            &spec.config,
            owner,
            "write it at each member: `spec.members.NAME.KEY`, or below `config` there",
        );
        for (member, given) in &spec.members {
            let path = at!["spec", "members", member];
            self.dangling_key(path, Kind::Member, member);
            let config = at!["spec", "members", member, "config"];
            self.config(config, &given.config, owner);
            self.member_only(config, &given.config, owner);
            self.fields_instead(
                config,
                &given.config,
                &[("source", "source"), ("size", "size")],
            );
            if given.source.as_deref().is_some_and(|s| s.trim().is_empty()) {
                self.wrong(
                    at!["spec", "members", member, "source"],
                    "a source must be named",
                )
                .help = Some("remove the field for a file of the pool's own".to_owned());
            }
            if let Some(size) = &given.size
                && catalog::parse_size(size).is_none_or(|bytes| bytes == 0)
            {
                let message = format!("`{size}` is not a size");
                self.wrong(at!["spec", "members", member, "size"], message)
                    .help = Some("write it like 20GiB".to_owned());
            }
        }
    }

    /// What LXD keeps of its own lies in one pool, of which every member has a part of its own.
    fn volumes(&mut self, spec: &'a StoragePoolSpec) {
        if spec.volumes.is_empty() {
            return;
        }
        let path = at!["spec", "volumes"];
        if !OF_EACH_MEMBER.contains(&spec.driver.as_str()) {
            self.wrong(
                path,
                format!(
                    "a `{}` pool is the same for all members, and each must have these of its own",
                    spec.driver
                ),
            )
            .help = Some(format!(
                "pools that have a part on each member are {}",
                listed(OF_EACH_MEMBER)
            ));
        }
        let own = self.located.resource.metadata.name.as_str();
        for volume in &spec.volumes {
            if let Some((pool, origin)) = self.context.other_volumes(*volume, own) {
                self.wrong(
                    path,
                    format!(
                        "`{}` lie in the StoragePool `{pool}` already",
                        volume.name()
                    ),
                )
                .help = Some(format!(
                    "it says so at {origin}: take it out of one of them"
                ));
            }
        }
    }

    fn driver(&mut self, driver: &str) {
        let path = at!["spec", "driver"];
        let drivers = catalog::pool_drivers();
        if !drivers.contains(&driver) {
            self.wrong(path, format!("no driver `{driver}`")).help =
                Some(match nearest(driver, drivers) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("drivers are {}", listed(drivers)),
                });
            return;
        }
        let missing = match self.context.instances() {
            Some(InstanceService::Lxd) if INCUS_ONLY.contains(&driver) => "LXD",
            Some(InstanceService::Incus) if LXD_ONLY.contains(&driver) => "Incus",
            _ => {
                if matches!(driver, "ceph" | "cephfs" | "cephobject")
                    && let Some((cluster, origin)) = self.context.cluster()
                    && let Some(ceph) = &cluster.ceph
                    && ceph.provider == CephProvider::None
                {
                    self.wrong(
                        path,
                        format!("the Cluster has no Ceph for a `{driver}` pool"),
                    )
                    .help = Some(format!("see `ceph` of the Cluster at {origin}"));
                }
                return;
            }
        };
        self.wrong(path, format!("{missing} has no driver `{driver}`"))
            .help = Some("the Cluster's `instances` says which service runs instances".to_owned());
    }
}
