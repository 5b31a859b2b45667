//! Doing one step. Everything it needs is in the step: no choices are made here.
//!
//! # Guarantees
//! - One attempt: the next round is the retry.
//! - An object is written only if it still is as it was when the step was planned: its ETag goes
//!   along, and where there is none it is read and compared first.
//! - Guards are read again just before; one that does not hold stops the step and changes nothing.
//! - Secrets are read here and go nowhere but into the request.

mod ceph;
mod leave;

use super::plan::reasons;
use super::plan::step::{Action, Guard, OvnAction, Step, Values};
use crate::resources::value::ConfigValue;
use crate::services::ceph::{Ceph, CephError};
use crate::services::host::{
    BootstrapLxd, CephAnswer, CephRequest, HostError, HostTarget, Hosts, JoinLxd, Leftovers,
    LxdReport, OvnAnswer, OvnRequest, UndoJoin,
};
use crate::services::lxd::requests::{
    NetworkCreate, ObjectPut, PoolCreate, ProfilePut, ProjectCreate,
};
use crate::services::lxd::types::{Group, MemberPut, Profile};
use crate::services::lxd::{Lxd, LxdError};
use futures_util::future::join_all;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

/// The port of LXD and Incus.
const LXD_PORT: u16 = 8443;

/// Why a step was not done, or not to its end.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ApplyError {
    /// The service failed or refused.
    #[error("could not {sentence}: {cause}")]
    Lxd {
        /// The step.
        sentence: String,
        /// Why.
        cause: LxdError,
    },
    /// The machine failed or refused.
    #[error("could not {sentence}: {cause}")]
    Host {
        /// The step.
        sentence: String,
        /// Why.
        cause: HostError,
    },
    /// Ceph failed or refused.
    #[error("could not {sentence}: {cause}")]
    Ceph {
        /// The step.
        sentence: String,
        /// Why.
        cause: CephError,
    },
    /// What the step was planned on does not hold any more: plan again.
    #[error("did not {sentence}: {reason}")]
    Stale {
        /// The step.
        sentence: String,
        /// What changed.
        reason: String,
    },
    /// A secret could not be read.
    #[error("could not {sentence}: the secret of {key} cannot be read: {reason}")]
    Secret {
        /// The step.
        sentence: String,
        /// The key.
        key: String,
        /// Why.
        reason: String,
    },
}

impl ApplyError {
    /// A stable word for status, events and metrics.
    pub fn category(&self) -> &'static str {
        match self {
            ApplyError::Lxd { cause, .. } => cause.category(),
            ApplyError::Host {
                cause: HostError::Unreachable { .. },
                ..
            } => "Unreachable",
            ApplyError::Host {
                cause: HostError::NotTrusted { .. },
                ..
            } => "NotTrusted",
            ApplyError::Host {
                cause: HostError::StaleEpoch { .. },
                ..
            } => "StaleEpoch",
            ApplyError::Host {
                cause: HostError::GuardFailed { .. },
                ..
            } => "GuardFailed",
            ApplyError::Host {
                cause: HostError::Busy { .. },
                ..
            } => reasons::PROGRESSING,
            ApplyError::Host {
                cause: HostError::Failed { .. },
                ..
            } => "HostFailed",
            ApplyError::Ceph { .. } => "CephFailed",
            ApplyError::Stale { .. } => "Stale",
            ApplyError::Secret { .. } => "SecretUnreadable",
        }
    }

    /// The machine that is busy with something else, when that is all: to try again soon helps.
    pub fn busy(&self) -> Option<&str> {
        match self {
            ApplyError::Host {
                cause: HostError::Busy { reason },
                ..
            } => Some(reason),
            _ => None,
        }
    }

    /// Whether nothing went wrong: the world moved on, and planning again is all that is needed.
    pub fn is_stale(&self) -> bool {
        match self {
            ApplyError::Stale { .. } => true,
            ApplyError::Lxd { cause, .. } => {
                matches!(cause, LxdError::Changed { .. } | LxdError::Conflict { .. })
            }
            ApplyError::Host { cause, .. } => matches!(cause, HostError::GuardFailed { .. }),
            ApplyError::Ceph { .. } | ApplyError::Secret { .. } => false,
        }
    }
}

/// What cannot go on inside a step; becomes an [`ApplyError`] with the step's sentence.
enum Stop {
    Lxd(LxdError),
    Host(HostError),
    Ceph(CephError),
    Stale(String),
    Secret(String, String),
}

impl From<LxdError> for Stop {
    fn from(e: LxdError) -> Stop {
        Stop::Lxd(e)
    }
}

impl From<CephError> for Stop {
    fn from(e: CephError) -> Stop {
        Stop::Ceph(e)
    }
}

impl From<HostError> for Stop {
    fn from(e: HostError) -> Stop {
        Stop::Host(e)
    }
}

/// Does steps.
#[derive(Debug, Clone)]
pub struct Applier {
    lxd: Lxd,
    hosts: Arc<dyn Hosts>,
    ceph: Ceph,
}

impl Applier {
    /// An applier that writes to this LXD, these machines and this Ceph.
    pub fn new(lxd: Lxd, hosts: Arc<dyn Hosts>, ceph: Ceph) -> Applier {
        Applier { lxd, hosts, ceph }
    }

    /// Does one step, once.
    ///
    /// # Errors
    /// See [`ApplyError`]. Whether a step that failed had an effect is seen by looking again.
    pub async fn apply(&self, step: &Step) -> Result<(), ApplyError> {
        let done = async {
            for guard in &step.guards {
                self.check(guard).await?;
            }
            self.act(&step.action).await
        };
        let sentence = || step.sentence.clone();
        done.await.map_err(|stop| match stop {
            Stop::Lxd(cause) => ApplyError::Lxd {
                sentence: sentence(),
                cause,
            },
            Stop::Host(cause) => ApplyError::Host {
                sentence: sentence(),
                cause,
            },
            Stop::Ceph(cause) => ApplyError::Ceph {
                sentence: sentence(),
                cause,
            },
            Stop::Stale(reason) => ApplyError::Stale {
                sentence: sentence(),
                reason,
            },
            Stop::Secret(key, reason) => ApplyError::Secret {
                sentence: sentence(),
                key,
                reason,
            },
        })
    }

    async fn check(&self, guard: &Guard) -> Result<(), Stop> {
        match guard {
            Guard::NoClusterAnywhere { targets, majority } => {
                let looks = targets.iter().map(|t| {
                    let host = self.hosts.host(t);
                    async move { (t, host.report().await) }
                });
                let mut answered = 0;
                for (target, report) in join_all(looks).await {
                    let Ok(report) = report else { continue };
                    answered += 1;
                    if matches!(&report.lxd, LxdReport::Running(lxd) if lxd.clustered) {
                        return Err(Stop::Stale(format!("{} is in a cluster", target.name)));
                    }
                }
                if answered < *majority {
                    return Err(Stop::Stale(format!(
                        "only {answered} of {} listed members answer",
                        targets.len()
                    )));
                }
                Ok(())
            }
            Guard::NoCephAnywhere {
                first,
                targets,
                majority,
                fsid,
            } => self.no_ceph(first, targets, *majority, fsid).await,
            Guard::MonitorSpare { name } => self.monitor_spare(name).await,
            Guard::MonitorLeaves { name } => self.monitor_leaves(name).await,
            Guard::OsdGoes { id, uuid, lost } => self.osd_goes(*id, uuid, *lost).await,
            Guard::OsdUnborn { id, uuid } => self.osd_unborn(*id, uuid).await,
            Guard::Leaves { name } => self.leaves(name).await,
            Guard::Lost { target, address } => self.lost(target, address).await,
            Guard::Standalone { target, leftovers } => self.standalone(target, leftovers).await,
            Guard::JoinsInto { pools, networks } => self.joins_into(pools, networks).await,
        }
    }

    async fn joins_into(
        &self,
        pools: &BTreeSet<String>,
        networks: &BTreeMap<String, BTreeSet<String>>,
    ) -> Result<(), Stop> {
        let check = |what: &str, name: &str, status: &str, known: bool| {
            let why = if status == "Errored" {
                "is only half made (Errored)"
            } else if !known {
                "appeared meanwhile"
            } else {
                return Ok(());
            };
            Err(Stop::Stale(format!("the {what} {name} {why}")))
        };
        for pool in self.lxd.pools().await? {
            let known = pools.contains(&pool.name);
            check("storage pool", &pool.name, &pool.status, known)?;
        }
        for (project, known) in networks {
            let list = match self.lxd.networks(project).await {
                Ok(list) => list,
                Err(LxdError::NotFound { .. }) => continue,
                Err(e) => return Err(e.into()),
            };
            for network in list.iter().filter(|n| n.managed) {
                let known = known.contains(&network.name);
                check("network", &network.name, &network.status, known)?;
            }
        }
        Ok(())
    }

    async fn standalone(&self, target: &HostTarget, leftovers: &Leftovers) -> Result<(), Stop> {
        let report = self.hosts.host(target).report().await?;
        match report.lxd {
            LxdReport::Running(lxd) if lxd.joining => {
                Err(Stop::Stale(format!("{} is joining", target.name)))
            }
            LxdReport::Running(lxd) if lxd.clustered => {
                Err(Stop::Stale(format!("{} is in a cluster", target.name)))
            }
            LxdReport::Running(lxd) if lxd.leftovers != *leftovers => Err(Stop::Stale(format!(
                "what LXD on {} holds has changed: {}",
                target.name, lxd.leftovers
            ))),
            LxdReport::Running(_) => Ok(()),
            LxdReport::NotInstalled | LxdReport::NotRunning { .. } | LxdReport::JoinCut => Err(
                Stop::Stale(format!("LXD does not answer on {}", target.name)),
            ),
        }
    }

    async fn ovn(&self, action: &OvnAction) -> Result<(), Stop> {
        let ask = async |target: &HostTarget, request: OvnRequest| {
            self.hosts.host(target).ovn(request).await
        };
        let odd = |target: &HostTarget| HostError::Failed {
            reason: format!("{} answered something else than it was asked", target.name),
        };
        match action {
            OvnAction::Ask { target, request } => {
                ask(target, request.clone()).await?;
            }
            OvnAction::ShareAuthority { from, to } => {
                let OvnAnswer::Authority(material) = ask(from, OvnRequest::ShareAuthority).await?
                else {
                    return Err(odd(from).into());
                };
                ask(to, OvnRequest::TakeAuthority(material)).await?;
            }
            OvnAction::Certify {
                target,
                authority,
                addresses,
            } => {
                let (name, addresses) = (target.name.clone(), addresses.clone());
                let request = OvnRequest::RequestCertificate {
                    name: name.clone(),
                    addresses: addresses.clone(),
                };
                let OvnAnswer::SigningRequest(request) = ask(target, request).await? else {
                    return Err(odd(target).into());
                };
                let request = OvnRequest::Sign {
                    request,
                    name,
                    addresses,
                };
                let OvnAnswer::Certificate {
                    certificate,
                    authority: root,
                } = ask(authority, request).await?
                else {
                    return Err(odd(authority).into());
                };
                let taken = OvnRequest::TakeCertificate {
                    certificate,
                    authority: root,
                };
                ask(target, taken).await?;
            }
        }
        Ok(())
    }

    async fn act(&self, action: &Action) -> Result<(), Stop> {
        match action {
            Action::Bootstrap { target } => {
                let request = BootstrapLxd {
                    name: target.name.clone(),
                    address: target.address,
                };
                Ok(self.hosts.host(target).bootstrap_lxd(request).await?)
            }
            Action::Join {
                target,
                member_config,
                leftovers,
                again,
            } => {
                if *again {
                    match self.lxd.member(&target.name).await {
                        Err(LxdError::NotFound { .. }) => {}
                        Ok(_) => {
                            return Err(Stop::Stale(format!("{} is a member", target.name)));
                        }
                        Err(e) => return Err(e.into()),
                    }
                    // A join that failed half way leaves it, and the next one would not end.
                    let address = SocketAddr::new(target.address, LXD_PORT).to_string();
                    self.lxd.forget_raft_node(&address).await?;
                }
                let certificate = self.lxd.server().await?.value.environment.certificate;
                let token = self.lxd.join_token(&target.name).await?;
                let request = JoinLxd {
                    name: target.name.clone(),
                    address: target.address,
                    token: token.encode(),
                    cluster_certificate: certificate,
                    member_config: member_config.clone(),
                    expected_leftovers: leftovers.clone(),
                };
                let joined = self.hosts.host(target).join_lxd(request).await;
                if joined.is_err() {
                    // A token that was not used is a way in: it goes, whatever became of the join.
                    let _ = self.lxd.revoke_tokens(&target.name).await;
                }
                Ok(joined?)
            }
            Action::ClearHalfMade { target, request } => Ok(self
                .hosts
                .host(target)
                .clear_half_made(request.clone())
                .await?),
            Action::UndoJoin { target } => {
                let name = target.name.clone();
                Ok(self.hosts.host(target).undo_join(UndoJoin { name }).await?)
            }
            Action::Ovn(action) => self.ovn(action).await,
            Action::CephHost { target, request } => {
                let answer = self.hosts.host(target).ceph(request.clone()).await?;
                drop(answer);
                Ok(())
            }
            Action::CephAccess { from, target } => {
                let answer = self.hosts.host(from).ceph(CephRequest::Access).await?;
                let CephAnswer::Access(access) = answer else {
                    return Err(Stop::Stale(format!("{} has no access to Ceph", from.name)));
                };
                let request = CephRequest::Configure { access };
                self.hosts.host(target).ceph(request).await?;
                Ok(())
            }
            Action::Ceph { change } => Ok(self.change_ceph(change).await?),
            Action::DropHalfJoined { name } => Ok(self.lxd.delete_member(name, true).await?),
            Action::PatchServer { target, config } => {
                let config = resolve(config).await?;
                Ok(self.lxd.patch_server(&config, target.as_deref()).await?)
            }
            Action::CreateGroup { name } => {
                let group = Group {
                    name: name.clone(),
                    ..Group::default()
                };
                match self.lxd.create_group(&group).await {
                    Ok(()) | Err(LxdError::Conflict { .. }) => Ok(()),
                    Err(e) => Err(e.into()),
                }
            }
            Action::PutMember {
                seen,
                etag,
                wanted,
                config,
            } => {
                let now = self.lxd.member(&seen.server_name).await?;
                let mut before = now.value;
                // What the service itself moves is no reason to plan again.
                before.status.clone_from(&seen.status);
                before.message.clone_from(&seen.message);
                before.database = seen.database;
                let etag = fresh(etag, now.etag, before == *seen)?;
                let put = MemberPut {
                    roles: wanted.roles.clone(),
                    failure_domain: wanted.failure_domain.clone(),
                    description: wanted.description.clone(),
                    config: resolve(config).await?,
                    groups: wanted.groups.clone(),
                };
                Ok(self
                    .lxd
                    .put_member(&seen.server_name, &put, etag.as_deref())
                    .await?)
            }
            Action::RemoveMember { name } => Ok(self.lxd.delete_member(name, false).await?),
            Action::StrikeMember { name } => Ok(self.lxd.delete_member(name, true).await?),
            Action::ForgetMember {
                name,
                target,
                ceph,
                ovn,
                disks,
                left,
            } => {
                if let Some(fsid) = ceph {
                    self.ceph.forget_host(name).await?;
                    if let Some(target) = target {
                        let fsid = fsid.clone();
                        let request = CephRequest::Forget { fsid };
                        self.hosts.host(target).ceph(request).await?;
                    }
                }
                if let Some(target) = target.as_ref().filter(|_| *ovn) {
                    self.hosts.host(target).ovn(OvnRequest::Forget).await?;
                }
                for disk in disks {
                    if let Some(target) = target {
                        self.hosts.host(target).wipe_disk(disk.clone()).await?;
                    }
                }
                if let Some(target) = target {
                    // It is told as far as it listens; the others shut it out whatever it does.
                    let told = self.hosts.host(target).set_trust(left.clone()).await;
                    if let Err(error) = told {
                        tracing::debug!(member = %target.name, %error, "it was not told that it left");
                    }
                }
                Ok(())
            }
            Action::Evacuate { name } => Ok(self.lxd.evacuate(name).await?),
            Action::Restore { name } => Ok(self.lxd.restore(name).await?),
            Action::DefinePool {
                name,
                driver,
                member,
                config,
            } => {
                let pool = PoolCreate {
                    name: name.clone(),
                    driver: driver.clone(),
                    description: String::new(),
                    config: resolve(config).await?,
                };
                Ok(self.lxd.create_pool(&pool, Some(member)).await?)
            }
            Action::CreatePool {
                name,
                driver,
                description,
                config,
            } => {
                let pool = PoolCreate {
                    name: name.clone(),
                    driver: driver.clone(),
                    description: description.clone(),
                    config: resolve(config).await?,
                };
                Ok(self.lxd.create_pool(&pool, None).await?)
            }
            Action::PutPool {
                seen,
                etag,
                target,
                description,
                config,
            } => {
                let target = target.as_deref();
                let etag = match etag {
                    Some(etag) => Some(etag.clone()),
                    None => {
                        let now = self.lxd.pool(&seen.name, target).await?;
                        let same = now.value.config == seen.config
                            && now.value.description == seen.description;
                        fresh(&None, now.etag, same)?
                    }
                };
                let put = object(description, config).await?;
                Ok(self
                    .lxd
                    .put_pool(&seen.name, &put, etag.as_deref(), target)
                    .await?)
            }
            Action::DeletePool { name } => {
                let now = self.lxd.pool(name, None).await?;
                unused(&now.value.used_by)?;
                Ok(self.lxd.delete_pool(name).await?)
            }
            Action::CreateVolume { pool, name, member } => {
                match self.lxd.create_volume(pool, name, member).await {
                    Ok(()) | Err(LxdError::Conflict { .. }) => Ok(()),
                    Err(e) => Err(e.into()),
                }
            }
            Action::DeleteVolume { pool, name, member } => {
                match self.lxd.delete_volume(pool, name, member).await {
                    Ok(()) | Err(LxdError::NotFound { .. }) => Ok(()),
                    Err(e) => Err(e.into()),
                }
            }
            Action::DefineNetwork {
                project,
                name,
                network_type,
                member,
                config,
            } => {
                let network = NetworkCreate {
                    name: name.clone(),
                    network_type: network_type.clone(),
                    description: String::new(),
                    config: resolve(config).await?,
                };
                Ok(self
                    .lxd
                    .create_network(project, &network, Some(member))
                    .await?)
            }
            Action::CreateNetwork {
                project,
                name,
                network_type,
                description,
                config,
            } => {
                let network = NetworkCreate {
                    name: name.clone(),
                    network_type: network_type.clone(),
                    description: description.clone(),
                    config: resolve(config).await?,
                };
                Ok(self.lxd.create_network(project, &network, None).await?)
            }
            Action::PutNetwork {
                project,
                seen,
                etag,
                target,
                description,
                config,
            } => {
                let target = target.as_deref();
                let etag = match etag {
                    Some(etag) => Some(etag.clone()),
                    None => {
                        let now = self.lxd.network(project, &seen.name, target).await?;
                        let same = now.value.config == seen.config
                            && now.value.description == seen.description;
                        fresh(&None, now.etag, same)?
                    }
                };
                let put = object(description, config).await?;
                let name = &seen.name;
                Ok(self
                    .lxd
                    .put_network(project, name, &put, etag.as_deref(), target)
                    .await?)
            }
            Action::DeleteNetwork { project, name } => {
                let now = self.lxd.network(project, name, None).await?;
                unused(&now.value.used_by)?;
                Ok(self.lxd.delete_network(project, name).await?)
            }
            Action::DropErroredNetwork { project, name } => {
                let now = self.lxd.network(project, name, None).await?;
                if now.value.status != "Errored" {
                    return Err(Stop::Stale(format!("it is {} now", now.value.status)));
                }
                unused(&now.value.used_by)?;
                Ok(self.lxd.delete_network(project, name).await?)
            }
            Action::CreateProject {
                name,
                description,
                config,
            } => {
                let project = ProjectCreate {
                    name: name.clone(),
                    description: description.clone(),
                    config: resolve(config).await?,
                };
                Ok(self.lxd.create_project(&project).await?)
            }
            Action::PutProject {
                seen,
                etag,
                description,
                config,
            } => {
                let etag = match etag {
                    Some(etag) => Some(etag.clone()),
                    None => {
                        let now = self.lxd.project(&seen.name).await?;
                        let same = now.value.config == seen.config
                            && now.value.description == seen.description;
                        fresh(&None, now.etag, same)?
                    }
                };
                let put = object(description, config).await?;
                Ok(self
                    .lxd
                    .put_project(&seen.name, &put, etag.as_deref())
                    .await?)
            }
            Action::DeleteProject { name } => Ok(self.lxd.delete_project(name).await?),
            Action::CreateProfile {
                project,
                name,
                description,
                config,
                devices,
            } => {
                let profile = Profile {
                    name: name.clone(),
                    description: description.clone(),
                    config: resolve(config).await?,
                    devices: resolve_devices(devices).await?,
                    used_by: Vec::new(),
                };
                Ok(self.lxd.create_profile(project, &profile).await?)
            }
            Action::PutProfile {
                project,
                seen,
                etag,
                description,
                config,
                devices,
            } => {
                let etag = match etag {
                    Some(etag) => Some(etag.clone()),
                    None => {
                        let now = self.lxd.profile(project, &seen.name).await?;
                        let same = now.value.config == seen.config
                            && now.value.devices == seen.devices
                            && now.value.description == seen.description;
                        fresh(&None, now.etag, same)?
                    }
                };
                let put = ProfilePut {
                    description: description.clone(),
                    config: resolve(config).await?,
                    devices: resolve_devices(devices).await?,
                };
                Ok(self
                    .lxd
                    .put_profile(project, &seen.name, &put, etag.as_deref())
                    .await?)
            }
            Action::DeleteProfile { project, name } => {
                let now = self.lxd.profile(project, name).await?;
                unused(&now.value.used_by)?;
                Ok(self.lxd.delete_profile(project, name).await?)
            }
            Action::WipeDisk { target, disk } => {
                Ok(self.hosts.host(target).wipe_disk(disk.clone()).await?)
            }
            // Only the memory changes, or who controls; the controller does that.
            Action::ChooseDisk { .. }
            | Action::ForgetDisk { .. }
            | Action::Release
            | Action::HandOver => Ok(()),
        }
    }
}

/// The ETag to write with: the one the plan had, or the one just read if nothing changed since.
fn fresh(
    planned: &Option<String>,
    now: Option<String>,
    same: bool,
) -> Result<Option<String>, Stop> {
    match planned {
        Some(etag) => Ok(Some(etag.clone())),
        None if same => Ok(now),
        None => Err(Stop::Stale("it changed since it was read".to_owned())),
    }
}

fn unused(used_by: &[String]) -> Result<(), Stop> {
    match used_by.first() {
        None => Ok(()),
        Some(first) => Err(Stop::Stale(format!("it is used by {first}"))),
    }
}

async fn object(description: &str, config: &Values) -> Result<ObjectPut, Stop> {
    Ok(ObjectPut {
        description: description.to_owned(),
        config: resolve(config).await?,
    })
}

async fn resolve_devices(
    devices: &BTreeMap<String, Values>,
) -> Result<BTreeMap<String, BTreeMap<String, String>>, Stop> {
    let mut resolved = BTreeMap::new();
    for (name, keys) in devices {
        resolved.insert(name.clone(), resolve(keys).await?);
    }
    Ok(resolved)
}

async fn resolve(values: &Values) -> Result<BTreeMap<String, String>, Stop> {
    let mut resolved = BTreeMap::new();
    for (key, value) in values {
        let text = match value {
            ConfigValue::Plain(text) => text.clone(),
            reference => super::secrets::read(reference)
                .await
                .map_err(|reason| Stop::Secret(key.clone(), reason))?,
        };
        resolved.insert(key.clone(), text);
    }
    Ok(resolved)
}
