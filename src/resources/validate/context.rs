//! All resources that are compared with one another.

use crate::resources::check::{listed, nearest};
use crate::resources::decode::Located;
use crate::resources::kinds::{
    ClusterSpec, DiskUse, InstanceService, ServerVolume, StoragePoolSpec,
};
use crate::resources::object::{Kind, ObjectRef, Origin};
use crate::resources::resource::{Resource, Spec};
use crate::resources::source::Broken;
use crate::resources::value::Presence;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// How many names a message lists at most.
const MOST_NAMES: usize = 8;

/// All resources, found by what they are compared by.
pub struct Context<'a> {
    /// Every place a resource is written at; documents that do not decode have none.
    places: BTreeMap<ObjectRef, Vec<&'a Origin>>,
    pools: BTreeMap<&'a str, &'a StoragePoolSpec>,
    /// Every cluster, in the order in which they were given.
    clusters: Vec<(&'a str, &'a ClusterSpec, &'a Origin)>,
    /// Members by address.
    addresses: BTreeMap<IpAddr, Vec<(&'a str, &'a Origin)>>,
    /// Who gives a pool its source on a member.
    sources: BTreeMap<(&'a str, &'a str), Vec<&'a Origin>>,
    /// Who claims a device of a member.
    devices: BTreeMap<(&'a str, &'a str), Vec<&'a Origin>>,
    /// The pools LXD keeps things of its own in.
    volumes: BTreeMap<ServerVolume, Vec<(&'a str, &'a Origin)>>,
    first_member: Option<&'a Origin>,
    /// Documents that cannot even be told what they are.
    unknown: usize,
}

impl<'a> Context<'a> {
    pub fn new(
        resources: &'a [Located],
        others: &'a [Resource],
        broken: &'a [Broken],
    ) -> Context<'a> {
        let mut context = Context {
            places: BTreeMap::new(),
            pools: BTreeMap::new(),
            clusters: Vec::new(),
            addresses: BTreeMap::new(),
            sources: BTreeMap::new(),
            devices: BTreeMap::new(),
            volumes: BTreeMap::new(),
            first_member: None,
            unknown: broken.iter().filter(|b| b.reference.is_none()).count(),
        };
        for located in resources {
            context.add(&located.resource);
        }
        // What is written again here replaces what another source has.
        let own: Vec<ObjectRef> = context.places.keys().cloned().collect();
        for resource in others {
            if own.binary_search(&resource.reference()).is_err() {
                context.add(resource);
            }
        }
        // A reference to something that only does not decode is no second error.
        for reference in broken.iter().filter_map(|b| b.reference.clone()) {
            context.places.entry(reference).or_default();
        }
        context
    }

    fn add(&mut self, resource: &'a Resource) {
        let origin = &resource.origin;
        let name = resource.metadata.name.as_str();
        self.places
            .entry(resource.reference())
            .or_default()
            .push(origin);
        match &resource.spec {
            Spec::Cluster(spec) => self.clusters.push((name, spec, origin)),
            Spec::Member(spec) => {
                self.addresses
                    .entry(spec.address)
                    .or_default()
                    .push((name, origin));
                self.first_member = self.first_member.or(Some(origin));
            }
            Spec::Disk(spec) => {
                let members = spec.member.iter().chain(spec.members.iter().flatten());
                for member in members.map(String::as_str) {
                    if let DiskUse::Pool(pool) = &spec.usage {
                        self.sources.entry((pool, member)).or_default().push(origin);
                    }
                    for path in spec.path.iter().chain(&spec.wal).chain(&spec.db) {
                        self.devices.entry((member, path)).or_default().push(origin);
                    }
                }
            }
            Spec::StoragePool(spec) => {
                self.pools.insert(name, spec);
                // One that goes has nothing any more that another could not have.
                let kept = spec
                    .volumes
                    .iter()
                    .filter(|_| spec.state == Presence::Present);
                for volume in kept {
                    self.volumes
                        .entry(*volume)
                        .or_default()
                        .push((name, origin));
                }
                for (member, given) in &spec.members {
                    if given.source.is_some() {
                        self.sources.entry((name, member)).or_default().push(origin);
                    }
                }
            }
            _ => {}
        }
    }

    /// Whether a resource is written anywhere, be it in a document that does not decode.
    pub fn exists(&self, reference: &ObjectRef) -> bool {
        self.places.contains_key(reference)
    }

    /// Where a resource is written.
    pub fn origin(&self, reference: &ObjectRef) -> Option<&'a Origin> {
        self.places.get(reference)?.first().copied()
    }

    /// Another place that a resource is written at.
    pub fn twin(&self, reference: &ObjectRef, own: &Origin) -> Option<&'a Origin> {
        self.places
            .get(reference)?
            .iter()
            .find(|place| **place != own)
            .copied()
    }

    /// The cluster, when there is exactly one.
    pub fn cluster(&self) -> Option<(&'a ClusterSpec, &'a Origin)> {
        match self.clusters.as_slice() {
            [(_, spec, origin)] => Some((spec, origin)),
            _ => None,
        }
    }

    /// A cluster of another name.
    pub fn other_cluster(&self, name: &str) -> Option<(&'a str, &'a Origin)> {
        self.clusters
            .iter()
            .find(|(n, ..)| *n != name)
            .map(|(n, _, origin)| (*n, *origin))
    }

    /// Whether nothing says what the cluster is, and this is the member to say so at.
    pub fn lacks_cluster(&self, member: &Origin) -> bool {
        self.unknown == 0
            && self.first_member == Some(member)
            && !self.places.keys().any(|r| r.kind == Kind::Cluster)
    }

    /// The service that runs instances, as far as it is known.
    pub fn instances(&self) -> Option<InstanceService> {
        Some(self.cluster()?.0.instances)
    }

    /// A pool.
    pub fn pool(&self, name: &str) -> Option<&'a StoragePoolSpec> {
        self.pools.get(name).copied()
    }

    /// Members other than `name` that have this address.
    pub fn same_address(&self, address: &IpAddr, name: &str) -> Option<(&'a str, &'a Origin)> {
        self.addresses
            .get(address)?
            .iter()
            .find(|(n, _)| *n != name)
            .copied()
    }

    /// The members whose addresses lie between two addresses, both included.
    pub fn members_between(
        &self,
        first: IpAddr,
        last: IpAddr,
    ) -> impl Iterator<Item = (&'a str, IpAddr)> {
        self.addresses
            .range(first..=last)
            .flat_map(|(address, members)| members.iter().map(|(name, _)| (*name, *address)))
    }

    /// Another place that gives a pool its source on a member.
    pub fn other_source(&self, pool: &str, member: &str, own: &Origin) -> Option<&'a Origin> {
        self.sources
            .get(&(pool, member))?
            .iter()
            .find(|place| **place != own)
            .copied()
    }

    /// Another place that claims a device of a member.
    pub fn other_claim(&self, member: &str, path: &str, own: &Origin) -> Option<&'a Origin> {
        self.devices
            .get(&(member, path))?
            .iter()
            .find(|place| **place != own)
            .copied()
    }

    /// Another pool that LXD keeps this in.
    pub fn other_volumes(&self, volume: ServerVolume, pool: &str) -> Option<(&'a str, &'a Origin)> {
        let pools = self.volumes.get(&volume)?;
        pools.iter().find(|(name, _)| *name != pool).copied()
    }

    /// Whether these are all resources of a cloud, as far as it can be told.
    pub fn is_whole(&self) -> bool {
        self.unknown == 0 && self.places.keys().any(|r| r.kind == Kind::Cluster)
    }

    /// The names of all resources of a kind.
    pub fn names(&self, kind: Kind) -> Vec<&str> {
        let of_kind = self.places.keys().filter(|r| r.kind == kind);
        of_kind.map(|r| r.name.as_str()).collect()
    }

    /// What to do about a name that is not there.
    pub fn help_for_missing(&self, kind: Kind, name: &str) -> String {
        let names = self.names(kind);
        if let Some(near) = nearest(name, &names) {
            return format!("did you mean `{near}`?");
        }
        if self.unknown > 0 {
            return "some documents could not be read: it may be in one of them".to_owned();
        }
        match names.len() {
            0 => format!("write one: there is no {kind} at all"),
            1..=MOST_NAMES => format!("there is {}", listed(&names)),
            _ => format!("there is {} and others", listed(&names[..MOST_NAMES])),
        }
    }
}
