//! The agents of the simulated machines.

use super::ceph::{SimCeph, ceph_ask};
use super::config::TrustMode;
use super::counters::PathClass;
use super::database::Db;
use super::form::found;
use super::lxd::join::{JOINING, reset};
use super::lxd::keys::EXTENSIONS;
use super::lxd::server::server_pid;
use super::process::{CONNECT_TIMEOUT, Origin, SimProcess, SimTransport};
use super::world::{Shared, World};
use crate::services::ceph::Ceph;
use crate::services::host::{
    Beat, BootstrapLxd, CephAnswer, CephRequest, ClearHalfMade, DiskReport, HalfMade, Host,
    HostError, HostReport, HostTarget, Hosts, JoinLxd, Leftovers, LxdReport, LxdState, OvnAnswer,
    OvnRequest, PathsReport, PathsRequest, Reach, TrustStore, UndoJoin, WipeDisk,
};
use crate::services::lxd::requests::JoinRequest;
use crate::services::lxd::{Lxd, LxdError};
use async_trait::async_trait;
use base64::Engine;
use serde_json::Value;
use std::collections::hash_map::DefaultHasher;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// How often a simulated machine that is asked to tell of changes looks for them.
const LOOK: Duration = Duration::from_millis(500);

/// How long it looks at most.
const AWAITED: Duration = Duration::from_secs(30);

/// The MTU of all simulated interfaces.
const MTU: u32 = 1500;

/// The agents as one of them reaches the others.
#[derive(Debug)]
pub(super) struct SimHosts {
    /// The program that asks.
    pub process: SimProcess,
    /// The epoch its calls carry.
    pub epoch: Arc<AtomicU64>,
}

impl Hosts for SimHosts {
    fn host(&self, target: &HostTarget) -> Arc<dyn Host> {
        Arc::new(SimHost {
            process: self.process.clone(),
            epoch: self.epoch.clone(),
            target: target.clone(),
        })
    }

    fn ceph(&self) -> Ceph {
        Ceph::new(Arc::new(SimCeph::of(&self.process)))
    }
}

/// One machine, as another one's agent sees it.
struct SimHost {
    process: SimProcess,
    epoch: Arc<AtomicU64>,
    target: HostTarget,
}

impl fmt::Debug for SimHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimHost")
            .field("target", &self.target.name)
            .finish_non_exhaustive()
    }
}

impl SimHost {
    /// Answers when a machine's OVN is not what it was, or after some seconds.
    async fn ovn_change(&self, known: u64) -> Result<OvnAnswer, HostError> {
        let begun = Instant::now();
        loop {
            let machine = self.reach("ovn", false).await?;
            let number = self.shared().lock().ovn_changes(machine);
            if number != known || begun.elapsed() >= AWAITED {
                return Ok(OvnAnswer::Changes(number));
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

#[async_trait]
impl Host for SimHost {
    async fn report(&self) -> Result<HostReport, HostError> {
        self.process
            .live(false, async {
                let machine = self.reach("report", false).await?;
                Ok(report(&self.shared().lock(), machine))
            })
            .await
    }

    async fn beat(&self) -> Result<Beat, HostError> {
        self.process
            .live(false, async {
                let machine = self.reach("beat", false).await?;
                let world = self.shared().lock();
                let m = &world.machines[machine];
                Ok(Beat {
                    name: m.config.name.clone(),
                    version: env!("CARGO_PKG_VERSION").into(),
                    epoch: m.agent.epoch,
                    holder: m.agent.holder.clone(),
                    trust_version: m.agent.trust.version,
                    memory_version: m.agent.memory_version,
                    leading: m.agent.leading,
                    lxd_started: lxd_started(&world, machine),
                    boot_id: boot_id(&world, machine),
                    ovn: world.ovn_changes(machine),
                    ceph: Vec::new(),
                    disks: disks_now(&m.disks),
                    ..Beat::default()
                })
            })
            .await
    }

    async fn bootstrap_lxd(&self, request: BootstrapLxd) -> Result<(), HostError> {
        self.process
            .live(true, async {
                let machine = self.reach("bootstrap", true).await?;
                let lxd = self.local(machine);
                let address = address_of(request.address);
                self.detached(
                    async move { found(&lxd, &request.name, &address).await.map_err(failed) },
                )
                .await
            })
            .await
    }

    async fn join_lxd(&self, request: JoinLxd) -> Result<(), HostError> {
        self.process
            .live(true, async {
                let machine = self.reach("join", true).await?;
                let lxd = self.local(machine);
                {
                    let mut world = self.shared().lock();
                    let held =
                        leftovers(world.db(machine), world.machines[machine].lxd.clustered());
                    more_than_expected(&held, &request.expected_leftovers)?;
                    world.machines[machine].agent.joining = Some(Instant::now());
                }
                let shared = self.shared().clone();
                self.detached(async move {
                    let joined = join(lxd, request).await;
                    if joined.is_ok() {
                        shared.lock().machines[machine].agent.joining = None;
                    }
                    joined
                })
                .await
            })
            .await
    }

    async fn undo_join(&self, _: UndoJoin) -> Result<(), HostError> {
        self.process
            .live(true, async {
                let machine = self.reach("undo the join", true).await?;
                let lxd = self.local(machine);
                undo(&mut self.shared().lock(), machine)?;
                ready(&lxd).await
            })
            .await
    }

    async fn clear_half_made(&self, request: ClearHalfMade) -> Result<(), HostError> {
        self.process
            .live(true, async {
                let machine = self.reach("clear away a pool", true).await?;
                let HalfMade::Pool {
                    pool,
                    disk: Some(disk),
                    ..
                } = request.what
                else {
                    return Ok(());
                };
                match self.local(machine).pool(&pool, None).await {
                    Ok(pool) if pool.value.status == "Created" => Ok(()),
                    _ => wipe(&mut self.shared().lock(), machine, &disk),
                }
            })
            .await
    }

    async fn wipe_disk(&self, request: WipeDisk) -> Result<(), HostError> {
        self.process
            .live(true, async {
                let machine = self.reach("wipe", true).await?;
                wipe(&mut self.shared().lock(), machine, &request)
            })
            .await
    }

    async fn ceph(&self, request: CephRequest) -> Result<CephAnswer, HostError> {
        let writes = request != CephRequest::Access;
        self.process
            .live(writes, async {
                let machine = self.reach(&format!("ceph {request:?}"), writes).await?;
                let work = ceph_ask(self.shared().clone(), machine, request);
                self.detached(work).await
            })
            .await
    }

    async fn ovn(&self, request: OvnRequest) -> Result<OvnAnswer, HostError> {
        if let OvnRequest::AwaitChange { known } = request {
            return self.process.live(false, self.ovn_change(known)).await;
        }
        self.process
            .live(true, async {
                let machine = self.reach("ovn", true).await?;
                self.shared().lock().ovn_request(machine, request)
            })
            .await
    }

    async fn paths(&self, request: PathsRequest) -> Result<PathsReport, HostError> {
        self.process
            .live(false, async {
                let machine = self.reach("paths", false).await?;
                let world = self.shared().lock();
                let reach = |to: &IpAddr| {
                    let linked = world.at_address(*to).is_none_or(|other| {
                        world.machines[other].powered && world.linked(machine, other)
                    });
                    let reach = match linked {
                        true => Reach::Packets(MTU),
                        false => Reach::Nothing,
                    };
                    (*to, reach)
                };
                let paths = request.to.iter().map(reach).collect();
                Ok(PathsReport { mtu: MTU, paths })
            })
            .await
    }

    async fn set_trust(&self, trust: TrustStore) -> Result<(), HostError> {
        self.process
            .live(true, async {
                let machine = self.reach("trust", true).await?;
                let mut world = self.shared().lock();
                let agent = &mut world.machines[machine].agent;
                if trust.version < agent.trust.version {
                    return Err(HostError::GuardFailed {
                        reason: format!(
                            "the agent has version {} of the trust store, this one is {}",
                            agent.trust.version, trust.version
                        ),
                    });
                }
                agent.trust = trust;
                Ok(())
            })
            .await
    }
}

impl SimHost {
    fn shared(&self) -> &Arc<Shared> {
        self.process.shared()
    }

    /// The LXD beside the target's agent, as the agent asks it.
    fn local(&self, machine: usize) -> Lxd {
        Lxd::new(Arc::new(SimTransport {
            shared: self.shared().clone(),
            machine,
            origin: Origin::Client,
        }))
    }

    /// Does work that goes on when nobody waits for it any more.
    async fn detached<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, HostError>> + Send + 'static,
    ) -> Result<T, HostError> {
        tokio::spawn(work).await.unwrap_or_else(|e| {
            Err(HostError::Failed {
                reason: format!("the agent's work ended: {e}"),
            })
        })
    }

    /// Reaches the agent with the caller's epoch, which it then follows. An epoch of 0 is that of
    /// a caller that does not lead: it may only look.
    async fn reach(&self, call: &str, writes: bool) -> Result<usize, HostError> {
        let machine = self.connect(call, writes).await?;
        let ours = self.epoch.load(Ordering::SeqCst);
        let mut world = self.shared().lock();
        let caller = world.machines[self.process.machine()].config.name.clone();
        if ours == 0 {
            return if writes {
                Err(HostError::GuardFailed {
                    reason: format!(
                        "`{caller}` does not lead: only the leading agent changes a machine"
                    ),
                })
            } else {
                Ok(machine)
            };
        }
        let agent = &mut world.machines[machine].agent;
        let same_holder = agent.holder.is_empty() || agent.holder == caller;
        if ours < agent.epoch || (ours == agent.epoch && !same_holder) {
            return Err(HostError::StaleEpoch {
                name: self.target.name.clone(),
                known: agent.epoch,
                ours,
            });
        }
        agent.epoch = ours;
        agent.holder = caller;
        Ok(machine)
    }

    /// Reaches the agent at the target's address, if it is there and both sides trust each other.
    async fn connect(&self, call: &str, writes: bool) -> Result<usize, HostError> {
        tokio::task::yield_now().await;
        let found = {
            let mut world = self.shared().lock();
            let found = self.answering(&world);
            if let Ok(machine) = &found {
                let shown = || format!("agent {call}");
                world
                    .ledger
                    .count(*machine, PathClass::Agent, writes, shown);
            }
            found.and_then(|machine| self.trusted(&world, machine).map(|()| machine))
        };
        if matches!(&found, Err(e) if e.is_silence()) {
            tokio::time::sleep(CONNECT_TIMEOUT).await;
        }
        found
    }

    fn answering(&self, world: &World) -> Result<usize, HostError> {
        let unreachable = |reason: &str| HostError::Unreachable {
            name: self.target.name.clone(),
            address: self.target.address.to_string(),
            reason: reason.to_owned(),
            silent: reason != REFUSED,
        };
        let machine = world
            .at_address(self.target.address)
            .filter(|m| world.machines[*m].powered)
            .ok_or_else(|| unreachable("no route to host"))?;
        let from = self.process.machine();
        if !world.machines[from].powered {
            return Err(unreachable("this machine is off"));
        }
        if !world.linked(from, machine) {
            return Err(unreachable("the connection timed out"));
        }
        if !world.machines[machine].agent_up() {
            return Err(unreachable(REFUSED));
        }
        Ok(machine)
    }

    fn trusted(&self, world: &World, machine: usize) -> Result<(), HostError> {
        let from = &world.machines[self.process.machine()];
        let to = &world.machines[machine];
        let not = |reason: String| {
            Err(HostError::NotTrusted {
                name: self.target.name.clone(),
                reason,
            })
        };
        if self.process.machine() == machine {
            return Ok(());
        }
        let stored = from
            .agent
            .trust
            .members
            .get(&self.target.name)
            .map(|m| &m.fingerprint);
        match stored.or(self.target.fingerprint.as_ref()) {
            Some(pin) if *pin != to.config.fingerprint => {
                return not(format!(
                    "its key is {}, the pin is {pin}",
                    to.config.fingerprint
                ));
            }
            None if world.trust == TrustMode::Strict => {
                return not("no fingerprint of it is known".into());
            }
            _ => {}
        }
        let ours = &from.config.fingerprint;
        let known = to
            .agent
            .trust
            .members
            .values()
            .any(|m| m.fingerprint == *ours);
        let listed = to.config.trusts.contains(ours);
        let open = world.trust == TrustMode::Open && to.agent.trust.version == 0;
        if known || listed || open {
            Ok(())
        } else {
            not("it does not trust this agent's key".into())
        }
    }
}

/// How long an LXD that was to join may say nothing before its join counts as cut in two.
const JOIN_PATIENCE: Duration = Duration::from_secs(60);

/// How long an LXD may take to start.
const READY: Duration = Duration::from_secs(30);

/// A machine without an agent answers at once.
const REFUSED: &str = "connection refused";

/// Changes when a disk comes or goes.
fn disks_now(disks: &[DiskReport]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for disk in disks {
        disk.path.hash(&mut hasher);
    }
    hasher.finish()
}

/// Everything seen on one machine.
pub(super) fn report(world: &World, machine: usize) -> HostReport {
    let m = &world.machines[machine];
    let mut disks = m.disks.clone();
    disks.sort_by(|a, b| a.path.cmp(&b.path));
    let mut interfaces = m.config.interfaces.clone();
    interfaces.sort_by(|a, b| a.name.cmp(&b.name));
    HostReport {
        name: m.config.name.clone(),
        agent_version: env!("CARGO_PKG_VERSION").into(),
        fingerprint: m.config.fingerprint.clone(),
        machine_id: super::config::hex_digest(&format!("machine id of {}", m.config.name))[..32]
            .to_owned(),
        boot_id: boot_id(world, machine),
        lxd: lxd_report(world, machine),
        ovn: world.ovn_report(machine),
        disks,
        interfaces,
        ceph: world.ceph_report(machine),
    }
}

fn lxd_report(world: &World, machine: usize) -> LxdReport {
    let m = &world.machines[machine];
    if !m.config.lxd_installed {
        return LxdReport::NotInstalled;
    }
    if !m.lxd.running {
        return LxdReport::NotRunning {
            reason: "connection refused".into(),
        };
    }
    let joining = world
        .operations
        .values()
        .any(|op| op.machine == machine && op.code < 200 && op.description == JOINING);
    if !joining && join_cut(world, machine) && m.agent.joining.is_some() {
        return LxdReport::JoinCut;
    }
    if m.lxd.hung {
        return LxdReport::NotRunning {
            reason: "it did not answer within 5 s".into(),
        };
    }
    let db = world.db(machine);
    let key = |name: &str| m.lxd.config.get(name).cloned().unwrap_or_default();
    LxdReport::Running(LxdState {
        server: "lxd".into(),
        version: m.config.lxd_version.clone(),
        api_extensions: EXTENSIONS.len() + m.config.extra_extensions.len(),
        clustered: m.lxd.clustered(),
        member_name: if m.lxd.clustered() {
            m.lxd.member.clone()
        } else {
            String::new()
        },
        certificate_fingerprint: db.certificate.fingerprint.clone(),
        joining,
        cluster_address: key("cluster.https_address"),
        https_address: key("core.https_address"),
        started: lxd_started(world, machine),
        leftovers: leftovers(db, m.lxd.clustered()),
        // Half made pools leave nothing here.
        pool_directories: Vec::new(),
    })
}

/// Whether the LXD of a machine is in a join that does not end by itself: it says that it is in a
/// cluster, under no name, or it has said nothing for a minute since the join began.
fn join_cut(world: &World, machine: usize) -> bool {
    let m = &world.machines[machine];
    let half = m.lxd.clustered() && m.lxd.member.is_empty();
    let silent = m.lxd.hung
        && m.agent
            .joining
            .is_some_and(|began| began.elapsed() >= JOIN_PATIENCE);
    half || silent
}

/// Puts the database of an LXD aside whose join was cut in two, and starts it anew.
fn undo(world: &mut World, machine: usize) -> Result<(), HostError> {
    if !join_cut(world, machine) {
        return Err(HostError::GuardFailed {
            reason: "there is no join here to be undone: it has ended, or still may".into(),
        });
    }
    world.stop_lxd(machine);
    reset(world, machine);
    world.machines[machine].agent.joining = None;
    let after = world.timings.lxd_restart;
    world.schedule(after, move |world| world.start_lxd(machine));
    Ok(())
}

/// Waits until an LXD has started.
async fn ready(lxd: &Lxd) -> Result<(), HostError> {
    let end = Instant::now() + READY;
    loop {
        match lxd.ready().await {
            Ok(_) => return Ok(()),
            Err(error) if Instant::now() >= end => return Err(failed(error)),
            Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
        }
    }
}

fn boot_id(world: &World, machine: usize) -> String {
    let m = &world.machines[machine];
    format!("{}-boot-{}", m.config.name, m.boots)
}

fn lxd_started(world: &World, machine: usize) -> String {
    let m = &world.machines[machine];
    if m.lxd_up() {
        format!(
            "{}-{}",
            boot_id(world, machine),
            server_pid(machine, m.lxd.starts)
        )
    } else {
        String::new()
    }
}

/// What joining would destroy; nothing of a member's.
fn leftovers(db: &Db, clustered: bool) -> Leftovers {
    if clustered {
        return Leftovers::default();
    }
    let contents = &db.contents;
    Leftovers {
        pools: db.pools.keys().cloned().collect(),
        networks: db
            .networks
            .values()
            .flat_map(|n| n.keys().cloned())
            .collect(),
        instances: contents
            .instances
            .keys()
            .map(|(project, name)| format!("{project}/{name}"))
            .collect(),
        volumes: contents
            .volumes
            .iter()
            .map(|volume| format!("{}/{}", volume.pool, volume.name))
            .collect(),
        images: contents.images.values().flatten().cloned().collect(),
        projects: db
            .projects
            .keys()
            .filter(|p| !["default", "microcloud"].contains(&p.as_str()))
            .cloned()
            .collect(),
    }
}

fn more_than_expected(held: &Leftovers, expected: &Leftovers) -> Result<(), HostError> {
    let more = |held: &[String], expected: &[String]| held.iter().any(|h| !expected.contains(h));
    if more(&held.pools, &expected.pools)
        || more(&held.networks, &expected.networks)
        || more(&held.instances, &expected.instances)
        || more(&held.volumes, &expected.volumes)
        || more(&held.images, &expected.images)
        || more(&held.projects, &expected.projects)
    {
        return Err(HostError::GuardFailed {
            reason: format!("its LXD holds more than was seen before: {held}"),
        });
    }
    Ok(())
}

fn wipe(world: &mut World, machine: usize, request: &WipeDisk) -> Result<(), HostError> {
    let guard = |reason: String| Err(HostError::GuardFailed { reason });
    if world.machines[machine].ceph.runs_from(&request.path) {
        return guard(format!("{} is used by an OSD that runs", request.path));
    }
    let Some(disk) = world.machines[machine].disk_mut(&request.path) else {
        return guard(format!("there is no disk {}", request.path));
    };
    if disk.root {
        return guard(format!("{} holds the root file system", request.path));
    }
    if disk.serial != request.serial || disk.size != request.size {
        return guard(format!(
            "{} has serial {} and {} bytes, expected were {} and {}",
            request.path, disk.serial, disk.size, request.serial, request.size
        ));
    }
    if let Some(mount) = disk.signatures.iter().find(|s| s.starts_with("mounted")) {
        return guard(format!("{} is {mount}", request.path));
    }
    disk.signatures.clear();
    let path = disk.path.clone();
    world.machines[machine].ceph.osds.retain(|o| o.path != path);
    Ok(())
}

/// What the agent does to join a cluster.
async fn join(lxd: Lxd, request: JoinLxd) -> Result<(), HostError> {
    let mut last = Err(HostError::Failed {
        reason: "the token names no address of the cluster".into(),
    });
    for cluster_address in token_addresses(&request.token) {
        last = lxd
            .join(&JoinRequest {
                name: request.name.clone(),
                server_address: address_of(request.address),
                cluster_address,
                cluster_certificate: request.cluster_certificate.clone(),
                token: request.token.clone(),
                member_config: request.member_config.clone(),
            })
            .await
            .map_err(failed);
        // Another member may be there when this one is not.
        if !matches!(&last, Err(HostError::Failed { reason }) if reason.contains("Unable to connect"))
        {
            break;
        }
    }
    last
}

fn failed(error: LxdError) -> HostError {
    HostError::Failed {
        reason: error.to_string(),
    }
}

fn token_addresses(token: &str) -> Vec<String> {
    base64::engine::general_purpose::STANDARD
        .decode(token)
        .ok()
        .and_then(|json| serde_json::from_slice::<Value>(&json).ok())
        .and_then(|token| serde_json::from_value(token["addresses"].clone()).ok())
        .unwrap_or_default()
}

/// `ADDRESS:8443`.
pub(super) fn address_of(address: std::net::IpAddr) -> String {
    std::net::SocketAddr::new(address, 8443).to_string()
}
