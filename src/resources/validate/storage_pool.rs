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

impl<'a> Check<'a> {
    pub(super) fn storage_pool(&mut self, spec: &'a StoragePoolSpec) {
        self.driver(&spec.driver);
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
