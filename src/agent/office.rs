//! What an agent does for the cluster as a whole, shared by leadership, the watched directory and
//! the control routes: its role, its readings, and the last accepted state on disk.

use super::api::{DirectoryStatus, MachineStatus, Role};
use super::machine::Machine;
use super::session::Joining;
use super::witness::Witness;
use crate::reconcile::Controller;
use crate::reconcile::controller::StatusReport;
use crate::reconcile::memory::Memory;
use crate::resources::{Kind, Reading, Resource, Spec};
use crate::services::host::{HostTarget, Hosts, TrustStore};
use crate::services::peer::{Fingerprint, PeerClient, StateFileError, state_file};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use tokio::sync::{Notify, watch};

/// What this agent does now.
#[derive(Debug, Clone)]
pub enum Duty {
    /// It controls.
    Leading(Arc<Controller>),
    /// Another member controls.
    Following(HostTarget),
    /// Nobody controls that it knows of.
    Waiting(String),
}

impl Duty {
    /// The role as it is shown.
    pub fn role(&self) -> Role {
        match self {
            Duty::Leading(_) => Role::Leading,
            Duty::Following(_) => Role::Following,
            Duty::Waiting(_) => Role::Waiting,
        }
    }
}

/// The last accepted state: kept on every agent's disk, so that `status` works without quorum.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Kept {
    /// The controller's memory.
    pub memory: Option<Memory>,
    /// Its last report.
    pub report: Option<StatusReport>,
    /// The machines, as it saw them last.
    pub machines: BTreeMap<String, MachineStatus>,
}

/// What this agent remembers of its own directory.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Published {
    revision: Option<String>,
}

/// See the module.
#[derive(Debug)]
pub struct Office {
    /// This machine.
    pub machine: Arc<Machine>,
    /// Calls other agents.
    pub client: PeerClient,
    /// All machines.
    pub hosts: Arc<dyn Hosts>,
    /// The socket of LXD, when it is not at a known place.
    pub lxd_socket: Option<PathBuf>,
    /// The watched directory.
    pub directory: Option<PathBuf>,
    /// What this agent does now.
    pub duty: watch::Sender<Duty>,
    /// Wakes the one who decides about leading.
    pub consider: Notify,
    /// Who of the others is heard while the controller is silent.
    pub witness: Witness,
    reading: watch::Sender<Option<Reading>>,
    directory_status: Mutex<DirectoryStatus>,
    kept: Mutex<Kept>,
    published: Mutex<Published>,
    /// Resources somebody wants to apply where no cluster is yet.
    founding: Mutex<Option<Vec<Resource>>>,
    /// What this machine does to join a cluster; set once.
    joining: OnceLock<Arc<Joining>>,
    state_dir: PathBuf,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Office {
    /// Opens what is on disk.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn open(
        machine: Arc<Machine>,
        client: PeerClient,
        hosts: Arc<dyn Hosts>,
        config: &super::Config,
    ) -> Result<Office, StateFileError> {
        let state_dir = config.state_dir.clone();
        let read = |name: &str| state_file::read(&state_dir.join(name));
        // Both are caches: what does not decode any more is as good as not there.
        let kept = read("accepted.json")?
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default();
        let published = read("published.json")?
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default();
        let status = DirectoryStatus {
            path: config.directory.as_ref().map(|p| p.display().to_string()),
            ..DirectoryStatus::default()
        };
        let office = Office {
            machine,
            client,
            hosts,
            lxd_socket: config.lxd_socket.clone(),
            directory: config.directory.clone(),
            duty: watch::Sender::new(Duty::Waiting("the agent has just started".to_owned())),
            consider: Notify::new(),
            witness: Witness::default(),
            reading: watch::Sender::new(None),
            directory_status: Mutex::new(status),
            kept: Mutex::new(kept),
            published: Mutex::new(published),
            founding: Mutex::new(None),
            joining: OnceLock::new(),
            state_dir,
        };
        office.declare_pins();
        Ok(office)
    }

    /// This member's name.
    pub fn name(&self) -> &str {
        self.machine.local.name()
    }

    /// What this agent does now.
    pub fn duty(&self) -> Duty {
        self.duty.borrow().clone()
    }

    /// The controller, when it runs here.
    pub fn controller(&self) -> Option<Arc<Controller>> {
        match &*self.duty.borrow() {
            Duty::Leading(controller) => Some(controller.clone()),
            Duty::Following(_) | Duty::Waiting(_) => None,
        }
    }

    /// Says what this agent does from now on.
    pub fn set_duty(&self, duty: Duty) {
        self.duty.send_if_modified(|now| {
            let same = match (&*now, &duty) {
                (Duty::Following(a), Duty::Following(b)) => a == b,
                (Duty::Waiting(a), Duty::Waiting(b)) => a == b,
                _ => false,
            };
            if !same {
                match &duty {
                    Duty::Leading(_) => tracing::info!("this member controls now"),
                    Duty::Following(t) => tracing::info!(leader = %t.name, "following"),
                    Duty::Waiting(reason) => tracing::info!(%reason, "nobody controls"),
                }
                *now = duty;
            }
            !same
        });
    }

    /// The member that controls, as far as this agent knows.
    pub fn leader(&self) -> Option<String> {
        match &*self.duty.borrow() {
            Duty::Leading(_) => Some(self.name().to_owned()),
            Duty::Following(target) => Some(target.name.clone()),
            Duty::Waiting(_) => self.sponsor().map(|target| target.name),
        }
    }

    /// Says where it shows what this machine does to join a cluster.
    pub fn set_joining(&self, joining: Arc<Joining>) {
        let _ = self.joining.set(joining); // there is one per agent
    }

    /// Who is asked while nobody controls here: the controller of the cluster that has taken this
    /// machine in and that its LXD is about to join.
    pub fn sponsor(&self) -> Option<HostTarget> {
        self.joining.get()?.sponsor()
    }

    /// The last reading of the directory.
    pub fn reading(&self) -> Option<Reading> {
        self.reading.borrow().clone()
    }

    /// Sets the last reading of the directory.
    pub fn set_reading(&self, reading: Reading) {
        self.reading.send_replace(Some(reading));
        self.declare_pins();
        self.consider.notify_one();
    }

    /// The directory as it is shown.
    pub fn directory_status(&self) -> DirectoryStatus {
        lock(&self.directory_status).clone()
    }

    /// Changes what is shown of the directory.
    pub fn show_directory(&self, change: impl FnOnce(&mut DirectoryStatus)) {
        change(&mut lock(&self.directory_status));
    }

    /// The revision of this agent's previous reading that was the accepted one.
    pub fn published(&self) -> Option<String> {
        lock(&self.published).revision.clone()
    }

    /// Remembers that a revision of this agent's directory is the accepted one.
    ///
    /// # Errors
    /// It cannot be stored.
    pub fn set_published(&self, revision: &str) -> Result<(), StateFileError> {
        let mut published = lock(&self.published);
        if published.revision.as_deref() == Some(revision) {
            return Ok(());
        }
        published.revision = Some(revision.to_owned());
        let bytes = serde_json::to_vec(&*published).unwrap_or_default();
        state_file::write(&self.state_dir.join("published.json"), &bytes)
    }

    /// The last accepted state.
    pub fn kept(&self) -> Kept {
        lock(&self.kept).clone()
    }

    /// Changes the accepted state that is kept, on disk too. Who is trusted follows what the
    /// controller has written of it: one that took over before it gave everybody the trust store
    /// would else be refused for ever by those that lack its own key.
    ///
    /// # Errors
    /// It cannot be stored.
    pub fn keep(&self, change: impl FnOnce(&mut Kept)) -> Result<(), StateFileError> {
        let mut kept = self.kept();
        change(&mut kept);
        if let Some(memory) = &kept.memory {
            self.follow_trust(&memory.trust);
        }
        if kept == *lock(&self.kept) {
            return Ok(());
        }
        let bytes = serde_json::to_vec(&kept).unwrap_or_default();
        *lock(&self.kept) = kept;
        self.declare_pins();
        state_file::write(&self.state_dir.join("accepted.json"), &bytes)
    }

    fn follow_trust(&self, store: &TrustStore) {
        let trust = &self.machine.trust;
        if store.version <= trust.version() {
            return;
        }
        if let Err(error) = trust.set_store(store.clone()) {
            tracing::warn!(error = %crate::agent::with_causes(&error), "the trust store was not taken over");
        }
    }

    /// Resources that found a cluster here, if somebody asked for that.
    pub fn founding(&self) -> Option<Vec<Resource>> {
        lock(&self.founding).clone()
    }

    /// Asks to found a cluster here with these resources.
    pub fn found(&self, resources: Option<Vec<Resource>>) {
        *lock(&self.founding) = resources;
        self.consider.notify_one();
    }

    /// Everything this agent knows of what is wanted: what is accepted, and what its own
    /// directory says where nothing is accepted yet.
    pub fn known_resources(&self) -> Vec<Resource> {
        if let Some(controller) = self.controller() {
            return controller.resources();
        }
        if let Some(memory) = self.kept().memory {
            return memory.accepted.desired().into_values().cloned().collect();
        }
        let read = self.reading().map(|r| r.resources).unwrap_or_default();
        read.into_iter()
            .chain(self.founding().unwrap_or_default())
            .collect()
    }

    /// What the members' `fingerprint` says admits machines that the cluster does not know yet.
    pub fn declare_pins(&self) {
        let resources = self.known_resources();
        let own = self.reading().map(|r| r.resources).unwrap_or_default();
        let pins: BTreeMap<String, Fingerprint> = own
            .iter()
            .chain(&resources)
            .filter_map(|resource| match &resource.spec {
                Spec::Member(spec) => {
                    let pin = spec.fingerprint.as_deref()?.parse().ok()?;
                    Some((resource.metadata.name.clone(), pin))
                }
                _ => None,
            })
            .collect();
        self.machine.trust.set_declared(pins);
    }

    /// Where a member's agent is: as the trust store says, else as the resources do.
    pub fn target(&self, member: &str) -> Option<HostTarget> {
        self.client.target(member).or_else(|| {
            self.known_resources()
                .iter()
                .find_map(|resource| match &resource.spec {
                    Spec::Member(spec) if resource.metadata.name == member => Some(HostTarget {
                        name: member.to_owned(),
                        address: spec.address,
                        fingerprint: spec.fingerprint.clone(),
                    }),
                    _ => None,
                })
        })
    }

    /// Whether these resources name this member as the one that forms the cluster.
    pub fn founds(&self, resources: &[Resource]) -> bool {
        resources.iter().any(|resource| {
            resource.kind() == Kind::Cluster
                && matches!(&resource.spec, Spec::Cluster(c) if c.initiator == self.name())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::services::host::TrustedMember;

    fn store(version: u64, names: &[&str]) -> TrustStore {
        let member = |name: &&str| TrustedMember {
            fingerprint: Fingerprint::of_public_key(name.as_bytes()).into(),
            address: "127.0.0.1".parse().unwrap(),
        };
        TrustStore {
            version,
            members: names.iter().map(|n| ((*n).to_owned(), member(n))).collect(),
        }
    }

    #[tokio::test]
    async fn who_is_trusted_follows_what_the_controller_has_written() {
        let dir = tempfile::tempdir().unwrap();
        let config = crate::agent::Config {
            name: "m1".to_owned(),
            directory: None,
            listen: "127.0.0.1".parse().unwrap(),
            port: 1,
            lxd_socket: None,
            state_dir: dir.path().to_owned(),
            socket: dir.path().join("socket"),
        };
        let agent = crate::agent::start(config.clone()).await.unwrap();
        let office = Office::open(
            Arc::clone(&agent.machine),
            agent.client.clone(),
            Arc::new(agent.hosts.clone()),
            &config,
        )
        .unwrap();
        let keep = |trust: TrustStore| {
            let memory = Memory {
                trust,
                ..Memory::default()
            };
            office.keep(|kept| kept.memory = Some(memory)).unwrap();
        };
        keep(store(1, &["m1", "m2", "m3"]));
        keep(store(2, &["m1", "m2"]));
        let m3 = Fingerprint::of_public_key(b"m3");
        let admitted = || {
            use crate::services::peer::Pins as _;
            office.machine.trust.admit("m3", &m3)
        };
        assert!(admitted().is_err(), "it was removed");
        // An old copy changes nothing.
        keep(store(1, &["m1", "m2", "m3"]));
        assert!(admitted().is_err(), "it was removed");
        keep(store(3, &["m1", "m2", "m3"]));
        assert_eq!(admitted(), Ok(()), "it came again");
    }
}
