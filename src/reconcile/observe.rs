//! Reading the services into the world: everything once, then single objects.
//!
//! Reading never fails as a whole: a part that cannot be read is unknown, with the reason.

use super::clock::Clock;
use super::desired::Desired;
use super::memory::{DiskChoice, Entry};
use super::plan::{had_server_keys, leaves, reads_parts, reads_server_keys};
use super::world::{LxdWorld, Seen, ServerView, Spread, World};
use crate::resources::{Kind, ObjectRef, Resource};
use crate::services::host::HostReport;
use crate::services::lxd::types::{Network, Pool, Server, Versioned};
use crate::services::lxd::{Lxd, LxdError, decode_name};
use futures_util::stream::{self, StreamExt};
use std::collections::{BTreeMap, BTreeSet};

/// How many single reads are under way at once: enough to hide latency, few enough not to crowd
/// out what else LXD does.
const TOGETHER: usize = 8;

/// What single reads a full look needs besides the lists.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Needs {
    /// Members whose own server keys are managed.
    pub member_config: BTreeSet<String>,
    /// Members that are to leave: what lies on them is looked for.
    pub leaving: BTreeSet<String>,
    /// Pools whose members' parts are managed.
    pub pools: BTreeSet<String>,
    /// Networks whose members' parts are managed, by project and name.
    pub networks: BTreeSet<(String, String)>,
    /// All networks that resources name, by project and name.
    pub named_networks: BTreeSet<(String, String)>,
}

impl Needs {
    /// What the desired resources need, and what is remembered of the time before them.
    pub fn of(desired: &Desired, inventory: &BTreeMap<ObjectRef, Entry>) -> Needs {
        let mut needs = Needs::default();
        // Keys of theirs that nothing names any more are still to be unset.
        let before = inventory.iter().filter(|(_, e)| had_server_keys(e));
        let before = before.filter(|(object, _)| object.kind == Kind::Member);
        needs
            .member_config
            .extend(before.map(|(object, _)| object.name.clone()));
        for (reference, resource) in &desired.resources {
            if matches!(reference.kind, Kind::Network | Kind::Uplink) {
                let key = (reference.project.clone(), reference.name.clone());
                needs.named_networks.insert(key);
            }
            if !reads_parts(resource, desired) {
                continue;
            }
            match reference.kind {
                Kind::Member => {
                    if leaves(resource) {
                        needs.leaving.insert(reference.name.clone());
                    }
                    if reads_server_keys(resource, desired) {
                        needs.member_config.insert(reference.name.clone());
                    }
                }
                Kind::StoragePool => {
                    needs.pools.insert(reference.name.clone());
                }
                Kind::Network | Kind::Uplink => {
                    needs
                        .networks
                        .insert((reference.project.clone(), reference.name.clone()));
                }
                Kind::Cluster | Kind::Disk | Kind::Project | Kind::Profile => {}
            }
        }
        needs
    }
}

/// Everything that is there, with what is known of it: what an export is made of.
#[derive(Debug, Clone, Default)]
pub struct Everything {
    /// LXD, with the members' own parts of everything.
    pub lxd: LxdWorld,
    /// The machines that were asked, by name.
    pub hosts: BTreeMap<String, HostReport>,
    /// The accepted resources.
    pub resources: Vec<Resource>,
    /// The disks that were chosen, by `Disk` and member.
    pub disks: BTreeMap<ObjectRef, BTreeMap<String, DiskChoice>>,
}

/// Reads LXD.
#[derive(Debug, Clone)]
pub struct Observer {
    lxd: Lxd,
    clock: Clock,
}

impl Observer {
    /// An observer of this LXD.
    pub fn new(lxd: Lxd, clock: Clock) -> Observer {
        Observer { lxd, clock }
    }

    /// Reads everything.
    pub async fn everything(&self, needs: &Needs) -> LxdWorld {
        let server = self.server().await;
        let Some(view) = server.known() else {
            let reason = match &server {
                Seen::Unknown { reason } => reason.clone(),
                Seen::Known { .. } => String::new(),
            };
            return LxdWorld {
                members: Seen::Unknown {
                    reason: reason.clone(),
                },
                groups: Seen::Unknown {
                    reason: reason.clone(),
                },
                pools: Seen::Unknown {
                    reason: reason.clone(),
                },
                networks: Seen::Unknown {
                    reason: reason.clone(),
                },
                projects: Seen::Unknown {
                    reason: reason.clone(),
                },
                profiles: Seen::Unknown { reason },
                server,
                member_config: BTreeMap::new(),
                leaving: BTreeMap::new(),
            };
        };
        let clustered = view.clustered;
        let projects = self.projects().await;
        let (members, groups, pools, networks, profiles) = tokio::join!(
            self.members(clustered),
            self.groups(clustered),
            self.pools(),
            self.networks(&projects, needs),
            self.profiles(),
        );
        let mut world = LxdWorld {
            server,
            members,
            groups,
            pools,
            networks,
            projects,
            profiles,
            member_config: BTreeMap::new(),
            leaving: BTreeMap::new(),
        };
        if clustered {
            self.parts(needs, &mut world).await;
        }
        world
    }

    /// Reads everything, and what every member has of its own of everything: also of what no
    /// resource names.
    pub async fn all(&self) -> LxdWorld {
        let mut world = self.everything(&Needs::default()).await;
        if world.clustered() != Some(true) {
            return world;
        }
        let names = |names: Option<Vec<String>>| names.unwrap_or_default().into_iter().collect();
        let members = world.members.known().map(|m| m.keys().cloned().collect());
        let pools = world.pools.known().map(|p| p.keys().cloned().collect());
        let networks = world.networks.known().map(|n| n.keys().cloned().collect());
        let needs = Needs {
            member_config: names(members),
            leaving: BTreeSet::new(),
            pools: names(pools),
            networks: networks.unwrap_or_default(),
            named_networks: BTreeSet::new(),
        };
        self.parts(&needs, &mut world).await;
        world
    }

    /// The server.
    pub async fn server(&self) -> Seen<ServerView> {
        let at = self.clock.now();
        Seen::from_result(self.lxd.server().await.map(|s| view(s.value)), at)
    }

    async fn members(
        &self,
        clustered: bool,
    ) -> Seen<BTreeMap<String, Versioned<crate::services::lxd::types::Member>>> {
        let at = self.clock.now();
        if !clustered {
            return Seen::Known {
                value: BTreeMap::new(),
                at,
            };
        }
        let list = self.lxd.members().await.map(|members| {
            members
                .into_iter()
                .map(|m| {
                    (
                        m.server_name.clone(),
                        Versioned {
                            value: m,
                            etag: None,
                        },
                    )
                })
                .collect()
        });
        Seen::from_result(list, at)
    }

    async fn groups(
        &self,
        clustered: bool,
    ) -> Seen<BTreeMap<String, crate::services::lxd::types::Group>> {
        let at = self.clock.now();
        if !clustered {
            return Seen::Known {
                value: BTreeMap::new(),
                at,
            };
        }
        let list = self.lxd.groups().await;
        Seen::from_result(
            list.map(|g| g.into_iter().map(|g| (g.name.clone(), g)).collect()),
            at,
        )
    }

    /// Reads who is in the cluster, and the groups.
    pub async fn membership(
        &self,
    ) -> (
        Seen<BTreeMap<String, Versioned<crate::services::lxd::types::Member>>>,
        Seen<BTreeMap<String, crate::services::lxd::types::Group>>,
    ) {
        tokio::join!(self.members(true), self.groups(true))
    }

    async fn pools(&self) -> Seen<BTreeMap<String, Spread<Pool>>> {
        let at = self.clock.now();
        let list = self.lxd.pools().await;
        Seen::from_result(
            list.map(|pools| {
                pools
                    .into_iter()
                    .map(|p| (p.name.clone(), alone(p)))
                    .collect()
            }),
            at,
        )
    }

    async fn projects(
        &self,
    ) -> Seen<BTreeMap<String, Versioned<crate::services::lxd::types::Project>>> {
        let at = self.clock.now();
        let list = self.lxd.projects().await.map(|projects| {
            projects
                .into_iter()
                .map(|p| {
                    (
                        p.name.clone(),
                        Versioned {
                            value: p,
                            etag: None,
                        },
                    )
                })
                .collect()
        });
        Seen::from_result(list, at)
    }

    async fn profiles(
        &self,
    ) -> Seen<BTreeMap<(String, String), Versioned<crate::services::lxd::types::Profile>>> {
        let at = self.clock.now();
        let list = self.lxd.all_profiles().await.map(|profiles| {
            profiles
                .into_iter()
                .map(|(project, p)| {
                    (
                        (project, p.name.clone()),
                        Versioned {
                            value: p,
                            etag: None,
                        },
                    )
                })
                .collect()
        });
        Seen::from_result(list, at)
    }

    /// The networks that LXD manages, and those that resources name. LXD's own list has every
    /// interface of the machine as well and looks for each through all profiles: with a few hundred
    /// of them it takes seconds (5.0.2). What a project uses names the managed ones.
    async fn networks(
        &self,
        projects: &Seen<BTreeMap<String, Versioned<crate::services::lxd::types::Project>>>,
        needs: &Needs,
    ) -> Seen<BTreeMap<(String, String), Spread<Network>>> {
        let at = self.clock.now();
        let projects = match projects.get() {
            Ok(projects) => projects,
            Err(why) => {
                return Seen::Unknown {
                    reason: why.to_owned(),
                };
            }
        };
        let mut keys: BTreeSet<(String, String)> = BTreeSet::new();
        for (name, project) in projects {
            // LXD's answer for `default`, which has its own whatever its configuration says.
            let own = name == crate::resources::object::DEFAULT_PROJECT
                || project
                    .value
                    .config
                    .get("features.networks")
                    .is_some_and(|v| v == "true");
            if !own {
                continue;
            }
            let used = project.value.used_by.iter();
            let managed = used.filter_map(|path| network_of(path));
            keys.extend(managed.map(|network| (name.clone(), network)));
            let named = needs.named_networks.iter().filter(|(p, _)| p == name);
            keys.extend(named.cloned());
        }
        let reads = keys.into_iter().map(|(project, name)| async move {
            let read = missing_is_none(self.lxd.network(&project, &name, None).await);
            ((project, name), read)
        });
        let mut all = BTreeMap::new();
        for (key, read) in together(reads.collect()).await {
            match read {
                Ok(Some(whole)) => {
                    let members = BTreeMap::new();
                    all.insert(key, Spread { whole, members });
                }
                Ok(None) => {}
                Err(e) => {
                    return Seen::Unknown {
                        reason: e.to_string(),
                    };
                }
            }
        }
        Seen::Known { value: all, at }
    }

    /// Reads the members' own parts of what is managed by member.
    async fn parts(&self, needs: &Needs, world: &mut LxdWorld) {
        let names: Vec<String> = world
            .members
            .known()
            .map(|members| {
                members
                    .values()
                    .filter(|m| m.value.status != "Offline")
                    .map(|m| m.value.server_name.clone())
                    .collect()
            })
            .unwrap_or_default();
        let own = needs
            .member_config
            .iter()
            .filter(|member| names.contains(*member));
        let reads = own.map(|member| async move {
            let seen = self.member_config(member).await;
            (member.clone(), seen)
        });
        world.member_config = together(reads.collect()).await;
        let there = world.members.known();
        let leaving: Vec<&String> = needs
            .leaving
            .iter()
            .filter(|member| there.is_some_and(|m| m.contains_key(*member)))
            .collect();
        let reads = leaving
            .into_iter()
            .map(|member| async move { (member.clone(), self.held_by(member).await) });
        world.leaving = together(reads.collect()).await;
        if let Some(pools) = world.pools.known_mut() {
            for (name, pool) in pools.iter_mut() {
                if needs.pools.contains(name) && pool.whole.value.status == "Created" {
                    pool.members = self.pool_parts(name, &names).await;
                }
            }
        }
        if let Some(networks) = world.networks.known_mut() {
            for (key, network) in networks.iter_mut() {
                if needs.networks.contains(key) && network.whole.value.status == "Created" {
                    network.members = self.network_parts(&key.0, &key.1, &names).await;
                }
            }
        }
    }

    async fn member_config(&self, member: &str) -> Seen<BTreeMap<String, String>> {
        let at = self.clock.now();
        Seen::from_result(
            self.lxd
                .server_of(member)
                .await
                .map(|s| s.value.config_text()),
            at,
        )
    }

    async fn held_by(&self, member: &str) -> Seen<Vec<String>> {
        let at = self.clock.now();
        Seen::from_result(self.lxd.held_by(member).await, at)
    }

    async fn pool_parts(&self, name: &str, members: &[String]) -> BTreeMap<String, Seen<Pool>> {
        let reads = members.iter().map(|member| async move {
            let at = self.clock.now();
            let part = self.lxd.pool(name, Some(member)).await.map(|p| p.value);
            (member.clone(), Seen::from_result(part, at))
        });
        together(reads.collect()).await
    }

    async fn network_parts(
        &self,
        project: &str,
        name: &str,
        members: &[String],
    ) -> BTreeMap<String, Seen<Network>> {
        let reads = members.iter().map(|member| async move {
            let at = self.clock.now();
            let part = self
                .lxd
                .network(project, name, Some(member))
                .await
                .map(|n| n.value);
            (member.clone(), Seen::from_result(part, at))
        });
        together(reads.collect()).await
    }

    /// Reads one object again.
    pub async fn object(&self, object: &ObjectRef, needs: &Needs, members: &[String]) -> Look {
        let (project, name) = (&object.project, &object.name);
        match object.kind {
            Kind::Cluster => Look::Server(self.server().await),
            Kind::Member => {
                let at = self.clock.now();
                let member = missing_is_none(self.lxd.member(name).await);
                let own = match needs.member_config.contains(name) {
                    true if matches!(&member, Ok(Some(m)) if m.value.status != "Offline") => {
                        Some(self.member_config(name).await)
                    }
                    _ => None,
                };
                let held = match needs.leaving.contains(name) {
                    true if matches!(&member, Ok(Some(_))) => Some(self.held_by(name).await),
                    _ => None,
                };
                let groups = self.groups(true).await;
                Look::Member {
                    name: name.clone(),
                    member: Seen::from_result(member, at),
                    own,
                    held,
                    groups,
                }
            }
            Kind::Disk => Look::Nothing,
            Kind::StoragePool => {
                let at = self.clock.now();
                let pool = missing_is_none(self.lxd.pool(name, None).await);
                let parts = match &pool {
                    Ok(Some(p)) if needs.pools.contains(name) && p.value.status == "Created" => {
                        self.pool_parts(name, members).await
                    }
                    _ => BTreeMap::new(),
                };
                let pool = pool.map(|p| {
                    p.map(|whole| Spread {
                        whole,
                        members: parts,
                    })
                });
                Look::Pool(name.clone(), Seen::from_result(pool, at))
            }
            Kind::Network | Kind::Uplink => {
                let at = self.clock.now();
                let key = (project.clone(), name.clone());
                let network = missing_is_none(self.lxd.network(project, name, None).await);
                let parts = match &network {
                    Ok(Some(n)) if needs.networks.contains(&key) && n.value.status == "Created" => {
                        self.network_parts(project, name, members).await
                    }
                    _ => BTreeMap::new(),
                };
                let network = network.map(|n| {
                    n.map(|whole| Spread {
                        whole,
                        members: parts,
                    })
                });
                Look::Network(key, Seen::from_result(network, at))
            }
            Kind::Project => {
                let at = self.clock.now();
                let project = missing_is_none(self.lxd.project(name).await);
                Look::Project(name.clone(), Seen::from_result(project, at))
            }
            Kind::Profile => {
                let at = self.clock.now();
                let profile = missing_is_none(self.lxd.profile(project, name).await);
                Look::Profile(
                    (project.clone(), name.clone()),
                    Seen::from_result(profile, at),
                )
            }
        }
    }
}

/// One object as it was just read.
#[derive(Debug, Clone, PartialEq)]
pub enum Look {
    /// The server.
    Server(Seen<ServerView>),
    /// A member, its own server keys if they are managed, and the groups.
    Member {
        /// The name.
        name: String,
        /// The member, if it is there.
        member: Seen<Option<Versioned<crate::services::lxd::types::Member>>>,
        /// Its own server keys.
        own: Option<Seen<BTreeMap<String, String>>>,
        /// What lies on it, if it is to leave.
        held: Option<Seen<Vec<String>>>,
        /// The cluster groups.
        groups: Seen<BTreeMap<String, crate::services::lxd::types::Group>>,
    },
    /// A pool, if it is there.
    Pool(String, Seen<Option<Spread<Pool>>>),
    /// A network, if it is there.
    Network((String, String), Seen<Option<Spread<Network>>>),
    /// A project, if it is there.
    Project(
        String,
        Seen<Option<Versioned<crate::services::lxd::types::Project>>>,
    ),
    /// A profile, if it is there.
    Profile(
        (String, String),
        Seen<Option<Versioned<crate::services::lxd::types::Profile>>>,
    ),
    /// There is nothing to read for this kind.
    Nothing,
}

/// Puts what was read into the world.
///
/// # Errors
/// The object could not be read: the world keeps what it had of it, which may be wrong now.
pub fn absorb(world: &mut World, look: Look) -> Result<(), String> {
    let lxd = &mut world.lxd;
    match look {
        Look::Server(Seen::Unknown { reason }) => Err(reason),
        Look::Server(server) => {
            lxd.server = server;
            Ok(())
        }
        Look::Member {
            name,
            member,
            own,
            held,
            groups,
        } => {
            if let Some(own) = own {
                lxd.member_config.insert(name.clone(), own);
            }
            match held {
                Some(held) => lxd.leaving.insert(name.clone(), held),
                None => lxd.leaving.remove(&name),
            };
            if groups.known().is_some() {
                lxd.groups = groups;
            }
            one(&mut lxd.members, name, member)
        }
        Look::Pool(name, pool) => one(&mut lxd.pools, name, pool),
        Look::Network(key, network) => one(&mut lxd.networks, key, network),
        Look::Project(name, project) => one(&mut lxd.projects, name, project),
        Look::Profile(key, profile) => one(&mut lxd.profiles, key, profile),
        Look::Nothing => Ok(()),
    }
}

fn one<K: Ord, V>(
    list: &mut Seen<BTreeMap<K, V>>,
    key: K,
    value: Seen<Option<V>>,
) -> Result<(), String> {
    match value {
        Seen::Unknown { reason } => Err(reason),
        Seen::Known { value, .. } => {
            // A list that was never read stays unknown: one object is not all of it.
            let Some(list) = list.known_mut() else {
                return Ok(());
            };
            match value {
                Some(value) => list.insert(key, value),
                None => list.remove(&key),
            };
            Ok(())
        }
    }
}

/// Runs reads side by side, a few at once.
async fn together<K: Ord, T>(reads: Vec<impl Future<Output = (K, T)>>) -> BTreeMap<K, T> {
    stream::iter(reads)
        .buffer_unordered(TOGETHER)
        .collect()
        .await
}

/// The network that a path among what a project uses names, as in
/// `/1.0/networks/lan?project=team`.
fn network_of(path: &str) -> Option<String> {
    let name = path.strip_prefix("/1.0/networks/")?;
    let name = name.split('?').next()?;
    Some(decode_name(name))
}

fn alone<T>(value: T) -> Spread<T> {
    Spread {
        whole: Versioned { value, etag: None },
        members: BTreeMap::new(),
    }
}

fn missing_is_none<T>(result: Result<T, LxdError>) -> Result<Option<T>, LxdError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(LxdError::NotFound { .. }) => Ok(None),
        Err(e) => Err(e),
    }
}

fn view(server: Server) -> ServerView {
    let config = server.config_text();
    ServerView {
        server: server.environment.server,
        version: server.environment.server_version,
        extensions: server.api_extensions.into_iter().collect(),
        clustered: server.environment.server_clustered,
        name: server.environment.server_name,
        certificate_fingerprint: server.environment.certificate_fingerprint,
        config,
        drivers: server
            .environment
            .storage_supported_drivers
            .into_iter()
            .map(|d| d.name)
            .collect(),
    }
}
