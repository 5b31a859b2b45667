//! Everything the simulated cloud is, behind one lock, and what happens in it by itself later.

use super::ceph::Cluster;
use super::config::{SimConfig, Timings, TrustMode, hex_digest};
use super::counters::Ledger;
use super::database::{Certificate, Db, DbId};
use super::events::Hub;
use super::faults::Faults;
use super::lxd::operations::OperationRow;
use super::machine::Machine;
use super::ovn::Databases;
use super::process::Life;
use std::cell::Cell;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::time::Instant;

/// The world and its lock. Never held over an await.
#[derive(Debug)]
pub(super) struct Shared {
    world: Mutex<World>,
}

impl Shared {
    /// Locks the world, after what was due until now has happened.
    pub fn lock(&self) -> MutexGuard<'_, World> {
        // A panic elsewhere is that test's failure; the state itself is always whole.
        let mut world = self.world.lock().unwrap_or_else(PoisonError::into_inner);
        world.advance();
        world
    }
}

/// Everything there is.
#[derive(Debug)]
pub(super) struct World {
    me: Weak<Shared>,
    /// How long things take.
    pub timings: Timings,
    /// Whom agents let in.
    pub trust: TrustMode,
    /// When the cloud was made.
    pub started: Instant,
    /// The machines.
    pub machines: Vec<Machine>,
    by_name: HashMap<String, usize>,
    by_address: HashMap<IpAddr, usize>,
    /// Databases of standalone servers and clusters.
    pub dbs: BTreeMap<DbId, Db>,
    next_db: u64,
    /// Operations that are not forgotten.
    pub operations: BTreeMap<String, OperationRow>,
    /// Open event streams.
    pub hub: Hub,
    /// Faults that tests asked for.
    pub faults: Faults,
    /// What was asked.
    pub ledger: Ledger,
    /// OVN's databases.
    pub ovn: Databases,
    /// Ceph's clusters, by their ids.
    pub ceph: BTreeMap<String, Cluster>,
    /// Programs that die with their machines.
    pub programs: Vec<(usize, Weak<Life>)>,
    /// Pairs of machines that do not reach each other.
    pub cuts: BTreeSet<(usize, usize)>,
    seed: u64,
    draws: u64,
    turns: Cell<usize>,
    last_event: i128,
    agenda: BinaryHeap<Due>,
    next_due: u64,
}

/// Something that happens by itself at a time.
struct Due {
    at: Instant,
    order: u64,
    what: Box<dyn FnOnce(&mut World) + Send>,
}

impl std::fmt::Debug for Due {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Due")
            .field("at", &self.at)
            .finish_non_exhaustive()
    }
}

impl PartialEq for Due {
    fn eq(&self, other: &Due) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}
impl Eq for Due {}
impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Due) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Due {
    /// The earliest is the greatest, as `BinaryHeap` gives the greatest first.
    fn cmp(&self, other: &Due) -> Ordering {
        (other.at, other.order).cmp(&(self.at, self.order))
    }
}

impl World {
    /// Makes the world.
    pub fn create(config: SimConfig) -> Arc<Shared> {
        Arc::new_cyclic(|me| {
            let mut world = World {
                me: me.clone(),
                timings: config.timings,
                trust: config.trust,
                started: Instant::now(),
                machines: Vec::with_capacity(config.machines.len()),
                by_name: HashMap::new(),
                by_address: HashMap::new(),
                dbs: BTreeMap::new(),
                next_db: 1,
                operations: BTreeMap::new(),
                hub: Hub::default(),
                faults: Faults::default(),
                ledger: Ledger::default(),
                ovn: Databases::default(),
                ceph: BTreeMap::new(),
                programs: Vec::new(),
                cuts: BTreeSet::new(),
                seed: config.seed,
                draws: 0,
                turns: Cell::new(0),
                last_event: -1,
                agenda: BinaryHeap::new(),
                next_due: 0,
            };
            for machine in config.machines {
                world.add_machine(machine);
            }
            Shared {
                world: Mutex::new(world),
            }
        })
    }

    /// Adds a running machine with a fresh standalone LXD; gives its index.
    pub fn add_machine(&mut self, config: super::MachineConfig) -> usize {
        let index = self.machines.len();
        self.by_name.insert(config.name.clone(), index);
        self.by_address.insert(config.address, index);
        let certificate = self.new_certificate(&config.name);
        let db = self.fresh_db(certificate.clone());
        self.machines.push(Machine::new(config, certificate, db));
        index
    }

    /// The certificate that a newly installed LXD makes for itself.
    pub fn new_certificate(&mut self, name: &str) -> Certificate {
        let draw = self.draw();
        Certificate::of(&format!("server certificate of {name}: {draw}"))
    }

    /// The database of a fresh standalone LXD.
    pub fn fresh_db(&mut self, certificate: Certificate) -> DbId {
        let id = DbId(self.next_db);
        self.next_db += 1;
        self.dbs.insert(id, Db::standalone(certificate));
        id
    }

    /// The machine of this host name.
    pub fn find(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    /// The machine at this address.
    pub fn at_address(&self, address: IpAddr) -> Option<usize> {
        self.by_address.get(&address).copied()
    }

    /// The database of a machine's LXD.
    pub fn db(&self, machine: usize) -> &Db {
        self.dbs
            .get(&self.machines[machine].lxd.db)
            .expect("a database is dropped only after the last machine left it")
    }

    /// The database of a machine's LXD, to change it.
    pub fn db_mut(&mut self, machine: usize) -> &mut Db {
        self.dbs
            .get_mut(&self.machines[machine].lxd.db)
            .expect("a database is dropped only after the last machine left it")
    }

    /// The machine of a member of the cluster that `at` is in.
    pub fn machine_of(&self, at: usize, member: &str) -> Option<usize> {
        self.db(at).members.get(member).map(|row| row.machine)
    }

    /// A number that nobody guesses but the seed gives again.
    pub fn draw(&mut self) -> String {
        self.draws += 1;
        hex_digest(&format!("draw {} of seed {}", self.draws, self.seed))
    }

    /// Another number with every call.
    pub fn next_turn(&self) -> usize {
        self.turns.set(self.turns.get().wrapping_add(1));
        self.turns.get()
    }

    /// A UUID.
    pub fn uuid(&mut self) -> String {
        let d = self.draw();
        format!(
            "{}-{}-4{}-8{}-{}",
            &d[0..8],
            &d[8..12],
            &d[13..16],
            &d[17..20],
            &d[20..32]
        )
    }

    /// A time as the API writes it. The cloud was made on 1 January 2025 at midnight.
    pub fn timestamp(&self, at: Instant) -> String {
        written(self.nanoseconds(at))
    }

    /// The time of an event: no two have the same, though paused time may stand still.
    pub fn event_timestamp(&mut self) -> String {
        self.last_event = self
            .nanoseconds(Instant::now())
            .max(self.last_event.saturating_add(1));
        written(self.last_event)
    }

    fn nanoseconds(&self, at: Instant) -> i128 {
        let since = at.saturating_duration_since(self.started);
        i128::try_from(since.as_nanos()).unwrap_or(i128::MAX / 4)
    }

    /// Has something happen after a while, whether or not anybody asks for anything then.
    pub fn schedule(&mut self, after: Duration, what: impl FnOnce(&mut World) + Send + 'static) {
        let at = Instant::now() + after;
        let order = self.next_due;
        self.next_due += 1;
        self.agenda.push(Due {
            at,
            order,
            what: Box::new(what),
        });
        // Without a runtime it happens when the world is looked at next.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let me = self.me.clone();
            runtime.spawn(async move {
                tokio::time::sleep_until(at).await;
                if let Some(shared) = me.upgrade() {
                    drop(shared.lock());
                }
            });
        }
    }

    /// Does what was due until now, in order.
    fn advance(&mut self) {
        let now = Instant::now();
        while self.agenda.peek().is_some_and(|due| due.at <= now) {
            if let Some(due) = self.agenda.pop() {
                (due.what)(self);
            }
        }
    }
}

/// Nanoseconds after the cloud was made, as the API writes times.
fn written(nanoseconds: i128) -> String {
    const MADE: i128 = 1_735_689_600_000_000_000;
    jiff::Timestamp::from_nanosecond(MADE + nanoseconds)
        .map(|t| t.to_string())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_due_happens_in_order_and_without_being_asked() {
        let shared = World::create(SimConfig::of(1));
        let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
        let late = sender.clone();
        {
            let mut world = shared.lock();
            world.schedule(Duration::from_secs(2), move |_| {
                let _ = late.send("second");
            });
            world.schedule(Duration::from_secs(1), move |_| {
                let _ = sender.send("first");
            });
        }
        assert_eq!(receiver.recv().await, Some("first"));
        assert_eq!(receiver.recv().await, Some("second"));
    }

    #[tokio::test(start_paused = true)]
    async fn the_same_seed_draws_the_same() {
        let draws = |seed| {
            let shared = World::create(SimConfig {
                seed,
                ..SimConfig::of(1)
            });
            let mut world = shared.lock();
            (world.uuid(), world.db(0).certificate.fingerprint.clone())
        };
        assert_eq!(draws(1), draws(1));
        assert_ne!(draws(1), draws(2));
    }
}
