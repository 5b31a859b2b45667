//! Rules of `Disk`.

use super::Check;
use crate::resources::disk_filter::Filter;
use crate::resources::kinds::{CephProvider, DiskSpec, DiskUse};
use crate::resources::object::Kind;
use crate::resources::positions::at;
use std::collections::BTreeSet;

impl<'a> Check<'a> {
    pub(super) fn disk(&mut self, spec: &'a DiskSpec) {
        self.disk_members(spec);
        match (&spec.path, &spec.matching) {
            (None, None) => {
                self.wrong_key(
                    at!["spec"],
                    "which disk is not said: `path` or `match` is missing",
                );
            }
            (Some(_), Some(_)) => {
                self.wrong_key(
                    at!["spec", "match"],
                    "`path` and `match` exclude each other",
                )
                .help = Some("remove one of them".to_owned());
            }
            _ => {}
        }
        for (field, path) in [("path", &spec.path), ("wal", &spec.wal), ("db", &spec.db)] {
            if let Some(path) = path {
                self.device(field, path);
            }
        }
        if let Some(filter) = &spec.matching
            && let Err(problem) = Filter::parse(filter)
        {
            let path = at!["spec", "match"];
            let diagnostic = self
                .located
                .positions
                .part(path, filter, problem.at, problem.message);
            self.push(diagnostic);
        }
        self.limit(spec);
        match &spec.usage {
            DiskUse::Ceph => {
                self.for_ceph();
                self.beside(spec);
            }
            DiskUse::Pool(pool) => self.for_pool(spec, pool),
        }
        for (field, path) in [("path", &spec.path), ("wal", &spec.wal), ("db", &spec.db)] {
            if let Some(path) = path {
                self.claimed(spec, field, path);
            }
        }
    }

    /// A device is given away once.
    fn claimed(&mut self, spec: &'a DiskSpec, field: &'static str, path: &'a str) {
        let members = spec.member.iter().chain(spec.members.iter().flatten());
        let origin = &self.located.resource.origin;
        for member in members {
            if let Some(other) = self.context.other_claim(member, path, origin) {
                let message = format!("`{path}` of `{member}` is used by another Disk");
                self.wrong(at!["spec", field], message).help =
                    Some(format!("the other one is at {other}"));
                break;
            }
        }
    }

    /// The devices of the log and the database belong to one disk.
    fn beside(&mut self, spec: &'a DiskSpec) {
        for (field, device) in [("wal", &spec.wal), ("db", &spec.db)] {
            let Some(device) = device else { continue };
            let path = at!["spec", field];
            if spec.path.as_ref() == Some(device) {
                self.wrong(path, format!("`{device}` is the disk itself"))
                    .help = Some(format!("remove `{field}`: it is on the disk then"));
            } else if field == "db" && spec.wal.as_ref() == Some(device) {
                self.wrong(path, format!("`{device}` is the device of `wal` already"))
                    .help = Some("remove `wal`: the log is beside the database then".to_owned());
            }
            if spec.path.is_none() && spec.limit != Some(1) {
                self.wrong_key(
                    path,
                    format!("`{field}` is for one disk, and `match` may take more"),
                )
                .help = Some("write `limit: 1`, and a Disk for each device".to_owned());
            }
        }
    }

    fn disk_members(&mut self, spec: &'a DiskSpec) {
        match (&spec.member, &spec.members) {
            (None, None) => {
                self.wrong_key(
                    at!["spec"],
                    "whose disk is not said: `member` or `members` is missing",
                );
            }
            (Some(_), Some(_)) => {
                self.wrong_key(
                    at!["spec", "members"],
                    "`member` and `members` exclude each other",
                )
                .help = Some("remove one of them".to_owned());
            }
            (None, Some(members)) if members.is_empty() => {
                self.wrong(at!["spec", "members"], "`members` names nobody")
                    .help = Some("name the members that have such a disk".to_owned());
            }
            _ => {}
        }
        if let Some(member) = &spec.member {
            self.dangling(at!["spec", "member"], Kind::Member, member);
        }
        let mut seen = BTreeSet::new();
        for (place, member) in spec.members.iter().flatten().enumerate() {
            let path = at!["spec", "members", place];
            if seen.insert(member) {
                self.dangling(path, Kind::Member, member);
            } else {
                self.wrong(path, format!("`{member}` is given twice"));
            }
        }
    }

    fn device(&mut self, field: &str, path: &str) {
        let below = path.strip_prefix("/dev/").filter(|rest| !rest.is_empty());
        if below.is_none() || path.split('/').any(|part| matches!(part, "." | "..")) {
            self.wrong(at!["spec", field], format!("`{path}` is not a device"))
                .help = Some("write it like /dev/disk/by-id/NAME".to_owned());
        }
    }

    fn limit(&mut self, spec: &'a DiskSpec) {
        let Some(limit) = spec.limit else { return };
        let path = at!["spec", "limit"];
        if spec.path.is_some() {
            self.wrong_key(path, "`limit` is for `match`: a path is one disk")
                .help = Some("remove it".to_owned());
        } else if limit == 0 {
            self.wrong(path, "`limit: 0` takes no disk").help =
                Some("write `state: Absent` to take disks out of use".to_owned());
        } else if limit > 1 && matches!(spec.usage, DiskUse::Pool(_)) {
            self.wrong(path, "a pool takes one disk on each member")
                .help = Some("write `limit: 1`".to_owned());
        }
    }

    fn for_ceph(&mut self) {
        if let Some((cluster, origin)) = self.context.cluster() {
            let provider = cluster.ceph.as_ref().map(|ceph| ceph.provider);
            let why = match provider {
                None | Some(CephProvider::None) => "the Cluster has no Ceph",
                Some(CephProvider::External) => "the Cluster's Ceph is run by somebody else",
                Some(_) => return,
            };
            self.wrong(
                at!["spec", "use"],
                format!("no disk can be given to Ceph: {why}"),
            )
            .help = Some(format!("see `ceph` of the Cluster at {origin}"));
        }
    }

    fn for_pool(&mut self, spec: &'a DiskSpec, pool: &'a str) {
        for (field, given) in [
            ("encrypt", spec.encrypt),
            ("wal", spec.wal.is_some()),
            ("db", spec.db.is_some()),
        ] {
            if given {
                self.wrong_key(
                    at!["spec", field],
                    format!("`{field}` is for `use: ceph` only"),
                )
                .help = Some("remove it".to_owned());
            }
        }
        let path = at!["spec", "use", "pool"];
        self.dangling(path, Kind::StoragePool, pool);
        match self.context.pool(pool).map(|p| p.driver.as_str()) {
            Some("dir") => {
                self.wrong(
                    path,
                    format!("the pool `{pool}` takes a folder, not a disk"),
                )
                .help = Some("its driver is `dir`; btrfs, zfs and lvm take disks".to_owned());
            }
            Some("ceph" | "cephfs" | "cephobject") => {
                self.wrong(path, format!("the pool `{pool}` has no disks of its own"))
                    .help = Some("give the disk to Ceph: `use: ceph`".to_owned());
            }
            _ => {}
        }
        let origin = &self.located.resource.origin;
        for member in spec.member.iter().chain(spec.members.iter().flatten()) {
            if let Some(other) = self.context.other_source(pool, member, origin) {
                let message = format!("the pool `{pool}` has a source on `{member}` already");
                self.wrong(path, message).help = Some(format!("it is given at {other}"));
                break;
            }
        }
    }
}
