//! The simulated cloud as tests see it.

use super::config::{MachineConfig, SimConfig};
use super::contents::{SimInstance, Volume, project_or_default};
use super::counters::{Counts, Write};
use super::faults::{Fault, FaultId};
use super::hosts::{SimHosts, report};
use super::lxd::join;
use super::process::{Origin, SimProcess, SimTransport};
use super::world::{Shared, World};
use crate::services::host::{DiskReport, HostReport, Hosts, TrustStore};
use crate::services::lxd::Transport;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// A simulated cloud. Clones are the same cloud. Methods that name a machine panic when there is
/// no such machine: that is a mistake of the test.
#[derive(Debug, Clone)]
pub struct SimCloud {
    shared: Arc<Shared>,
}

impl SimCloud {
    /// Makes a cloud: every machine runs, its LXD standalone and fresh. Things that happen by
    /// themselves (operations ending, machines booting) need a tokio runtime.
    pub fn new(config: SimConfig) -> SimCloud {
        SimCloud {
            shared: World::create(config),
        }
    }

    /// A client of the LXD of a machine, counted and disturbed by injected faults. It does not die
    /// with the machine: it is refused while the machine is off.
    pub fn transport(&self, member: &str) -> Arc<dyn Transport> {
        Arc::new(self.sim_transport(member, Origin::Client))
    }

    /// The transport of [`SimCloud::hand`].
    pub fn hand_transport(&self, member: &str) -> Arc<dyn Transport> {
        Arc::new(self.sim_transport(member, Origin::Hand))
    }

    /// A program on a machine, such as a controller that shall be killed.
    pub fn process(&self, member: &str) -> SimProcess {
        let machine = find(&self.shared.lock(), member);
        SimProcess::new(&self.shared, machine)
    }

    /// The agents, as `from` reaches them; `epoch` is what its calls carry, 0 when it does not lead:
    /// then it may only look. Like
    /// [`SimCloud::transport`] it does not die with the machine.
    pub fn hosts(&self, from: &str, epoch: Arc<AtomicU64>) -> Arc<dyn Hosts> {
        let machine = find(&self.shared.lock(), from);
        SimProcess::undying(&self.shared, machine).hosts(epoch)
    }

    /// The names of all machines, in the order they were given.
    pub fn machines(&self) -> Vec<String> {
        let world = self.shared.lock();
        world
            .machines
            .iter()
            .map(|m| m.config.name.clone())
            .collect()
    }

    /// Adds a running machine with a fresh LXD.
    pub fn add_machine(&self, config: MachineConfig) {
        self.shared.lock().add_machine(config);
    }

    /// What the agent of a machine would report, without asking it.
    pub fn report(&self, member: &str) -> HostReport {
        let world = self.shared.lock();
        report(&world, find(&world, member))
    }

    /// The machines that hold OVN's databases.
    pub fn ovn_centrals(&self) -> Vec<String> {
        self.shared.lock().ovn_centrals()
    }

    /// Takes from a machine all it has of OVN, as when it is installed anew.
    pub fn lose_ovn(&self, member: &str) {
        self.on(member, |world, machine| world.lose_ovn(machine));
    }

    /// Somebody changes what ovn-controller of a machine is told.
    pub fn tell_ovn_controller(&self, member: &str, key: &str, value: &str) {
        self.on(member, |world, machine| {
            world.tell_ovn_controller(machine, key, value);
        });
    }

    /// Somebody deletes a row of OVN's southbound database.
    pub fn delete_chassis(&self, member: &str) {
        self.shared.lock().delete_chassis(member);
    }

    /// Gives a machine another disk.
    pub fn add_disk(&self, member: &str, disk: DiskReport) {
        self.on(member, |world, machine| {
            world.machines[machine].disks.push(disk)
        });
    }

    /// Takes the disk with this path from a machine.
    pub fn remove_disk(&self, member: &str, path: &str) {
        self.on(member, |world, machine| {
            world.machines[machine]
                .disks
                .retain(|d| d.path != path && !d.links.iter().any(|l| l == path));
            world.machines[machine].ceph.lose_disk(path);
            world.ceph_refresh();
        });
    }

    /// Takes the power from a machine: LXD, agent and the programs on it are gone at once.
    pub fn kill_host(&self, member: &str) {
        self.on(member, World::power_off);
    }

    /// Gives a machine power again; what was on its disks is there. Agent and LXD answer after
    /// [`Timings::host_boot`](super::Timings::host_boot).
    pub fn start_host(&self, member: &str) {
        self.on(member, World::power_on);
    }

    /// Ends the LXD of a machine and starts it again after
    /// [`Timings::lxd_restart`](super::Timings::lxd_restart).
    pub fn restart_lxd(&self, member: &str) {
        self.on(member, |world, machine| {
            world.stop_lxd(machine);
            let after = world.timings.lxd_restart;
            world.schedule(after, move |world| world.start_lxd(machine));
        });
    }

    /// Ends the LXD of a machine.
    pub fn stop_lxd(&self, member: &str) {
        self.on(member, World::stop_lxd);
    }

    /// Starts the LXD of a machine.
    pub fn start_lxd(&self, member: &str) {
        self.on(member, World::start_lxd);
    }

    /// Installs LXD on a machine anew: standalone and empty, while its old cluster, if any, still
    /// lists it.
    pub fn reinstall_lxd(&self, member: &str) {
        self.on(member, |world, machine| {
            world.stop_lxd(machine);
            let old = world.machines[machine].lxd.db;
            let name = world.machines[machine].config.name.clone();
            world.machines[machine].certificate = world.new_certificate(&name);
            world.machines[machine].pool_dirs.clear();
            join::reset(world, machine);
            world.machines[machine].config.lxd_installed = true;
            world.start_lxd(machine);
            world.refresh(old);
        });
    }

    /// Ends the agent of a machine: calls to it are refused. Programs of
    /// [`SimCloud::process`] are ended by their own handles.
    pub fn kill_agent(&self, member: &str) {
        self.on(member, |world, machine| {
            world.machines[machine].agent.running = false;
            world.machines[machine].agent.leading = false;
        });
    }

    /// Starts the agent of a machine, if the machine runs.
    pub fn start_agent(&self, member: &str) {
        self.on(member, |world, machine| {
            let m = &mut world.machines[machine];
            m.agent.running = m.powered;
        });
    }

    /// Says whether the agent of a machine is the one that controls, as its beats tell.
    pub fn set_leading(&self, member: &str, leading: bool) {
        self.on(member, |world, machine| {
            world.machines[machine].agent.leading = leading
        });
    }

    /// Says which version of the controller's memory the agent of a machine has seen, as its beats
    /// tell.
    pub fn set_memory_version(&self, member: &str, version: u64) {
        self.on(member, |world, machine| {
            world.machines[machine].agent.memory_version = version
        });
    }

    /// The highest epoch that the agent of a machine knows, and who holds it.
    pub fn agent_epoch(&self, member: &str) -> (u64, String) {
        self.on(member, |world, machine| {
            let agent = &world.machines[machine].agent;
            (agent.epoch, agent.holder.clone())
        })
    }

    /// The trust store that the agent of a machine has.
    pub fn agent_trust(&self, member: &str) -> TrustStore {
        self.on(member, |world, machine| {
            world.machines[machine].agent.trust.clone()
        })
    }

    /// Cuts the network between two machines.
    pub fn cut(&self, a: &str, b: &str) {
        self.links(a, b, |world, pair| {
            world.cuts.insert(pair);
        });
    }

    /// Mends the network between two machines.
    pub fn heal(&self, a: &str, b: &str) {
        self.links(a, b, |world, pair| {
            world.cuts.remove(&pair);
        });
    }

    /// Cuts a machine off from all others.
    pub fn isolate(&self, member: &str) {
        self.on(member, |world, machine| {
            world.machines[machine].isolated = true;
            world.refresh_all();
        });
    }

    /// Takes back [`SimCloud::isolate`].
    pub fn rejoin(&self, member: &str) {
        self.on(member, |world, machine| {
            world.machines[machine].isolated = false;
            world.refresh_all();
        });
    }

    /// Has chosen requests go wrong.
    pub fn inject(&self, fault: Fault) -> FaultId {
        self.shared.lock().faults.add(fault)
    }

    /// Takes a fault back.
    pub fn withdraw(&self, fault: FaultId) {
        self.shared.lock().faults.remove(fault);
    }

    /// Takes all faults back, those of [`SimCloud::break_create`] too.
    pub fn clear_faults(&self) {
        self.shared.lock().faults.clear();
    }

    /// Has the making of an object on a machine fail with a message, or work again: for the URL of
    /// a pool or network, such as `/1.0/storage-pools/local`. The object ends `Errored`.
    pub fn break_create(&self, member: &str, url: &str, message: Option<&str>) {
        self.on(member, |world, machine| {
            world.faults.break_create(machine, url, message)
        });
    }

    /// Puts an instance into the LXD (or cluster) of a machine.
    pub fn add_instance(&self, member: &str, instance: SimInstance) {
        self.on(member, |world, machine| {
            let location = world.machines[machine].lxd.member.clone();
            let db = world.db_mut(machine);
            let project = if instance.project.is_empty() {
                "default".to_owned()
            } else {
                instance.project.clone()
            };
            let profiles = db.project_of(&project, "features.profiles").to_owned();
            let networks = db.project_of(&project, "features.networks").to_owned();
            db.contents
                .add_instance(instance, &location, (&profiles, &networks));
        });
    }

    /// Takes an instance out of the LXD (or cluster) of a machine.
    pub fn remove_instance(&self, member: &str, project: &str, name: &str) {
        self.on(member, |world, machine| {
            world
                .db_mut(machine)
                .contents
                .remove_instance(project, name);
        });
    }

    /// Puts an image into the LXD (or cluster) of a machine.
    pub fn add_image(&self, member: &str, project: &str, fingerprint: &str) {
        self.on(member, |world, machine| {
            world
                .db_mut(machine)
                .contents
                .add_image(project, fingerprint);
        });
    }

    /// Puts a custom volume into the LXD (or cluster) of a machine.
    pub fn add_volume(&self, member: &str, project: &str, pool: &str, name: &str) {
        self.on(member, |world, machine| {
            let volume = volume(world, machine, project, pool, name);
            world.db_mut(machine).contents.add_volume(volume);
        });
    }

    /// Takes a custom volume out of the LXD (or cluster) of a machine.
    pub fn remove_volume(&self, member: &str, project: &str, pool: &str, name: &str) {
        self.on(member, |world, machine| {
            let volume = volume(world, machine, project, pool, name);
            world.db_mut(machine).contents.remove_volume(&volume);
        });
    }

    /// How much was asked since the cloud was made or [`SimCloud::reset_counts`].
    pub fn counts(&self) -> Counts {
        let world = self.shared.lock();
        world
            .ledger
            .counts(|machine| world.machines[machine].config.name.clone())
    }

    /// The last writes, oldest first, at most 4096.
    pub fn writes(&self) -> Vec<Write> {
        let world = self.shared.lock();
        world
            .ledger
            .writes(|machine| world.machines[machine].config.name.clone())
    }

    /// Counts from zero again.
    pub fn reset_counts(&self) {
        self.shared.lock().ledger.reset();
    }

    /// The member that leads the database of the cluster a machine is in.
    pub fn database_leader(&self, member: &str) -> Option<String> {
        self.on(member, |world, machine| world.db(machine).leader.clone())
    }

    /// How many event streams are open on a machine.
    pub fn open_streams(&self, member: &str) -> usize {
        self.on(member, |world, machine| world.hub.open_on(machine))
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(super) fn sim_transport(&self, member: &str, origin: Origin) -> SimTransport {
        SimTransport {
            shared: self.shared.clone(),
            machine: find(&self.shared.lock(), member),
            origin,
        }
    }

    pub(super) fn on<T>(&self, member: &str, act: impl FnOnce(&mut World, usize) -> T) -> T {
        let mut world = self.shared.lock();
        let machine = find(&world, member);
        act(&mut world, machine)
    }

    fn links(&self, a: &str, b: &str, act: impl FnOnce(&mut World, (usize, usize))) {
        let mut world = self.shared.lock();
        let (a, b) = (find(&world, a), find(&world, b));
        act(&mut world, (a.min(b), a.max(b)));
        world.refresh_all();
    }
}

/// The machine of a name that a test gave.
fn find(world: &World, member: &str) -> usize {
    match world.find(member) {
        Some(machine) => machine,
        None => panic!("the simulated cloud has no machine {member}"),
    }
}

impl SimProcess {
    /// The agents, as this program reaches them; `epoch` is what its calls carry, 0 when it does
    /// not lead: then it may only look.
    pub fn hosts(&self, epoch: Arc<AtomicU64>) -> Arc<dyn Hosts> {
        Arc::new(SimHosts {
            process: self.clone(),
            epoch,
        })
    }
}

/// A custom volume of the LXD of a machine.
fn volume(world: &World, machine: usize, project: &str, pool: &str, name: &str) -> Volume {
    Volume {
        project: project_or_default(project),
        pool: pool.to_owned(),
        name: name.to_owned(),
        location: match world.db(machine).clustered {
            true => world.machines[machine].lxd.member.clone(),
            false => String::new(),
        },
    }
}
