//! `StoragePool` of a running cluster.

use super::config::{Keys, json, notes_of};
use super::{ExportError, Writer, known, put};
use crate::catalog::{self, Owner, Scope};
use crate::convert::own;
use crate::resources::kinds::{DiskUse, ServerVolume, StoragePoolSpec};
use crate::resources::{Kind, ObjectRef, Spec};
use crate::services::lxd::types::Pool;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

impl Writer<'_> {
    pub(super) fn pools(&mut self) -> Result<(), ExportError> {
        let pools = known(&self.found.lxd.pools, "the list of storage pools")?;
        let server = known(&self.found.lxd.server, "LXD")?;
        for (name, spread) in pools {
            let pool = &spread.whole.value;
            if pool.status != "Created" && server.clustered {
                self.left_out.push(format!(
                    "the storage pool {name} is left out: it is {}",
                    pool.status
                ));
                continue;
            }
            let object = ObjectRef::new(Kind::StoragePool, name.clone());
            let before = match self.accepted(&object) {
                Some(Spec::StoragePool(spec)) => Some(spec),
                _ => None,
            };
            let mut spec = Map::new();
            put(&mut spec, "driver", pool.driver.clone());
            put(&mut spec, "description", pool.description.clone());
            let mut config = pool.config.clone();
            // Computed, and yet the cluster would be another one without it.
            let named = ["ceph.osd.pool_name", "cephfs.path"];
            let named: Vec<(String, String)> = named
                .iter()
                .filter_map(|key| Some(((*key).to_owned(), config.remove(*key)?)))
                .filter(|(_, value)| value != name)
                .collect();
            let keys = Keys {
                owner: Owner::Pool(&pool.driver),
                scope: Scope::Global,
                accepted: before.map(|p| &p.config),
                computed: false,
            };
            let (mut written, secrets) = keys.of(&config);
            for (key, value) in named {
                let accepted = before.and_then(|p| p.config.get(&key));
                let value = accepted.map_or(Value::String(value), json);
                written.insert(key, value);
            }
            put(&mut spec, "config", written);
            let parts: BTreeMap<String, &Pool> = match server.clustered {
                true => {
                    let mut parts = BTreeMap::new();
                    for (member, seen) in &spread.members {
                        parts.insert(member.clone(), known(seen, "a member's part of a pool")?);
                    }
                    parts
                }
                false => [(server.name.clone(), pool)].into(),
            };
            let mut members = Map::new();
            for (member, part) in parts {
                let own = self.part(name, part, &member, before);
                put(&mut members, &member, own);
            }
            put(&mut spec, "members", members);
            let volumes: Vec<&str> = self.kept_in(name).map(ServerVolume::name).collect();
            put(&mut spec, "volumes", volumes);
            self.add(&object, spec, notes_of(secrets))?;
        }
        Ok(())
    }

    /// What every member's LXD keeps in a pool, each in the volume of that name.
    pub(super) fn kept_in(&self, pool: &str) -> impl Iterator<Item = ServerVolume> {
        let lxd = &self.found.lxd;
        let alone = lxd.server.known().filter(|server| !server.clustered);
        let members: Vec<_> = match alone {
            Some(server) => vec![Some(&server.config)],
            None => {
                let names = lxd.members.known().into_iter().flat_map(|m| m.keys());
                names
                    .map(|name| lxd.member_config.get(name).and_then(|own| own.known()))
                    .collect()
            }
        };
        ServerVolume::ALL.into_iter().filter(move |volume| {
            let value = volume.within(pool);
            let keeps = |own: &Option<&BTreeMap<String, String>>| {
                own.is_some_and(|own| own.get(volume.key()) == Some(&value))
            };
            !members.is_empty() && members.iter().all(keeps)
        })
    }

    /// What one member gives to a pool.
    fn part(
        &self,
        pool: &str,
        part: &Pool,
        member: &str,
        before: Option<&StoragePoolSpec>,
    ) -> Map<String, Value> {
        let accepted = before.and_then(|p| p.members.get(member));
        let owner = Owner::Pool(&part.driver);
        let mut written = Map::new();
        let mut config = Map::new();
        // What LXD was given first: it rewrites `source` when it has made the pool.
        let first = part.config.get("volatile.initial_source");
        let source = first.or(part.config.get("source"));
        if let Some(source) = accepted.and_then(|p| p.source.clone()) {
            put(&mut written, "source", source);
        } else if !self.has_disk(pool, member)
            && let Some(source) =
                source.filter(|s| !own::chosen_by_lxd(&part.driver, pool, "source", s))
        {
            put(&mut written, "source", self.stable(member, source));
        }
        for (key, value) in &part.config {
            let named = accepted.and_then(|p| p.config.get(key));
            let member_key = catalog::facts(owner, key).scope == Scope::Member;
            match key.as_str() {
                "source" | "source.wipe" | "source.recover" => {}
                "size" => {
                    let kept = accepted.and_then(|p| p.size.clone());
                    let same = kept
                        .filter(|size| catalog::equal(owner, "size", size, Some(value.as_str())));
                    put(&mut written, "size", same.unwrap_or(value.clone()));
                }
                key if !member_key || own::is_memory(key) => {}
                key if named.is_none() && own::chosen_by_lxd(&part.driver, pool, key, value) => {}
                key => put(&mut config, key, value.clone()),
            }
        }
        put(&mut written, "config", config);
        written
    }

    /// Whether a `Disk` gives a pool its source on a member.
    fn has_disk(&self, pool: &str, member: &str) -> bool {
        self.accepted.values().any(|resource| match &resource.spec {
            Spec::Disk(disk) => {
                let on_member = disk.member.as_deref() == Some(member)
                    || disk.members.iter().flatten().any(|m| m == member);
                on_member && disk.usage == DiskUse::Pool(pool.to_owned())
            }
            _ => false,
        })
    }

    /// The stable path of a device, where its machine was asked.
    fn stable(&self, member: &str, path: &str) -> String {
        let host = self.found.hosts.get(member);
        let disk = host.into_iter().flat_map(|h| &h.disks).find(|disk| {
            disk.links.iter().any(|link| link == path)
                || path.strip_prefix("/dev/") == Some(disk.name.as_str())
        });
        disk.map_or_else(|| path.to_owned(), |disk| disk.path.clone())
    }
}
