//! What is wanted: the accepted resources of all sources as one set.

use crate::resources::accepted::Accepted;
use crate::resources::kinds::{ClusterSpec, MemberSpec, MemberState};
use crate::resources::value::Mode;
use crate::resources::{Diagnostic, Kind, ObjectRef, Resource, Spec};
use crate::services::host::TrustStore;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

/// A resource with its digest, which is made once.
#[derive(Debug, PartialEq)]
pub struct Wanted {
    resource: Resource,
    /// The digest of what it says.
    pub digest: String,
}

impl Deref for Wanted {
    type Target = Resource;

    fn deref(&self) -> &Resource {
        &self.resource
    }
}

/// The set of accepted resources.
#[derive(Debug, Clone, Default)]
pub struct Desired {
    /// By identity; the source that named an object first has it.
    pub resources: BTreeMap<ObjectRef, Arc<Wanted>>,
    /// Resources whose newest version is broken: the last good one is in force.
    pub stale: BTreeMap<ObjectRef, Vec<Diagnostic>>,
}

/// A member that is written with another address than it has: as it is, and what is wrong.
fn readdressed(resource: &Resource, trust: &TrustStore) -> Option<(Resource, Diagnostic)> {
    let Spec::Member(spec) = &resource.spec else {
        return None;
    };
    let has = trust.members.get(&resource.metadata.name)?.address;
    if has == spec.address {
        return None;
    }
    let wrong = Diagnostic {
        file: resource.origin.file.clone(),
        line: resource.origin.line,
        column: 1,
        length: 1,
        excerpt: String::new(),
        message: format!(
            "the address of a member cannot change from {has} to {}: LXD refuses that",
            spec.address
        ),
        help: Some("remove the member, and have it join again with its new address".to_owned()),
    };
    let mut kept = resource.clone();
    kept.spec = Spec::Member(MemberSpec {
        address: has,
        ..spec.clone()
    });
    Some((kept, wrong))
}

impl Desired {
    /// The accepted resources of all sources; what did not change is taken over from `before`.
    ///
    /// Who is a member keeps the address it has joined with, whatever is written later: neither LXD
    /// nor the databases and monitors that run there follow it, and the member would only seem lost.
    pub fn of(accepted: &Accepted, trust: &TrustStore, before: &Desired) -> Desired {
        let mut stale = accepted.applied.stale.clone();
        stale.extend(accepted.directory.stale.clone());
        let mut resources = BTreeMap::new();
        for (reference, resource) in accepted.desired() {
            let mut resource = Cow::Borrowed(resource);
            if let Some((kept, wrong)) = readdressed(&resource, trust) {
                resource = Cow::Owned(kept);
                stale.entry(reference.clone()).or_default().push(wrong);
            }
            let same = before
                .resources
                .get(&reference)
                .filter(|b| b.resource == *resource);
            let wanted = same.cloned().unwrap_or_else(|| {
                Arc::new(Wanted {
                    digest: resource.digest(),
                    resource: resource.into_owned(),
                })
            });
            resources.insert(reference, wanted);
        }
        Desired { resources, stale }
    }

    /// The `Cluster`.
    pub fn cluster(&self) -> Option<(&ObjectRef, &ClusterSpec)> {
        self.of_kind(Kind::Cluster)
            .find_map(|(reference, resource)| match &resource.spec {
                Spec::Cluster(spec) => Some((reference, spec)),
                _ => None,
            })
    }

    /// The members by name.
    pub fn members(&self) -> impl Iterator<Item = (&str, &MemberSpec)> {
        self.of_kind(Kind::Member)
            .filter_map(|(reference, resource)| match &resource.spec {
                Spec::Member(spec) => Some((reference.name.as_str(), spec)),
                _ => None,
            })
    }

    /// The members that are not to leave, by name.
    pub fn staying(&self) -> impl Iterator<Item = (&str, &MemberSpec)> {
        self.members()
            .filter(|(_, spec)| spec.state != MemberState::Absent)
    }

    /// One member.
    pub fn member(&self, name: &str) -> Option<&MemberSpec> {
        match &self
            .resources
            .get(&ObjectRef::new(Kind::Member, name))?
            .spec
        {
            Spec::Member(spec) => Some(spec),
            _ => None,
        }
    }

    /// The resources of one kind, in the order of their names.
    pub fn of_kind(&self, kind: Kind) -> impl Iterator<Item = (&ObjectRef, &Arc<Wanted>)> {
        let first = ObjectRef {
            kind,
            project: String::new(),
            name: String::new(),
        };
        self.resources
            .range(first..)
            .take_while(move |(r, _)| r.kind == kind)
    }

    /// How far the controller goes with what no resource names any more: as the cluster says.
    pub fn mode_of_absent(&self) -> Mode {
        let cluster = self.cluster().and_then(|(_, c)| c.mode);
        cluster.unwrap_or(Mode::Enforce)
    }

    /// How far the controller goes with an object.
    pub fn mode(&self, resource: &Resource) -> Mode {
        let cluster = self.cluster().and_then(|(_, c)| c.mode);
        match (resource.mode(), cluster) {
            // The cluster's suspension covers everything; otherwise the nearer word counts.
            (_, Some(Mode::Suspended)) => Mode::Suspended,
            (Some(own), _) => own,
            (None, Some(all)) => all,
            (None, None) => Mode::Enforce,
        }
    }

    /// The time between two full looks when nothing happens.
    pub fn interval(&self) -> Duration {
        const DEFAULT: Duration = Duration::from_secs(300);
        self.cluster()
            .and_then(|(_, c)| c.interval)
            .map_or(DEFAULT, |span| span.0)
    }

    /// How many deletions an hour may see.
    pub fn deletion_limit(&self) -> usize {
        const DEFAULT: u32 = 3;
        self.cluster()
            .and_then(|(_, c)| c.deletion_limit)
            .unwrap_or(DEFAULT) as usize
    }
}
