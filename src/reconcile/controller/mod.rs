//! The controller: it holds what is wanted, observed and remembered, and keeps making them equal.
//!
//! # Guarantees
//! - Nothing is planned before the first full look at the services and the memory is loaded.
//! - One object is never worked on twice at once, and a failing one does not hold others up (see
//!   [`super::queue`]).
//! - Level-triggered: events say where to look, never what to do. What is missed is found by the
//!   full look that follows every reconnect, every restart of a member's service, and the
//!   interval.
//! - When nothing differs, nothing is written.
//!
//! The room's files: `keeper` writes the memory, `watching` reads the world, `runner` works off
//! the queue, `round` is one attempt at one object, `requests` is what people ask for.

mod ceph;
mod keeper;
mod ovn;
mod paths;
mod requests;
mod round;
mod runner;
mod watching;

pub use requests::{
    Applied, Filter, MachineReport, PlanReport, RequestError, SourceReport, StatusReport,
};

use super::admit::{InFlight, Turns};
use super::apply::Applier;
use super::breaker::Breaker;
use super::clock::Clock;
use super::desired::Desired;
use super::history::{History, Severity};
use super::memory::Memory;
use super::observe::{Needs, Observer};
use super::plan::{Topic, View};
use super::status::ObjectStatus;
use super::store::{Read, Store};
use super::world::World;
use crate::resources::ObjectRef;
use crate::services::ceph::{Ceph, Look};
use crate::services::host::Hosts;
use crate::services::lxd::Lxd;
use crate::services::lxd::types::Lifecycle;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// What a controller needs.
#[derive(Debug, Clone)]
pub struct Config {
    /// The member it runs on.
    pub member: String,
    /// The epoch it holds; 0 before there is a store.
    pub epoch: u64,
    /// The LXD beside it.
    pub lxd: Lxd,
    /// All machines.
    pub hosts: Arc<dyn Hosts>,
    /// The time.
    pub clock: Clock,
    /// The memory, when there is a store already; the lease in it is this controller's.
    pub memory: Option<Read>,
    /// How many objects are worked on at once.
    pub concurrency: usize,
}

/// How many objects are worked on at once unless said otherwise: LXD handles writes one after
/// another, a few at once hide the latency.
pub const CONCURRENCY: usize = 8;

/// A controller at work; it stops when this is dropped.
#[derive(Debug)]
pub struct Controller {
    inner: Arc<Inner>,
    tasks: tokio::sync::Mutex<JoinSet<()>>,
}

/// How a controller's work ended by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// Another member controls with a higher epoch.
    Superseded(String),
    /// The member it runs on leaves the cluster: another one is to control.
    HandedOver,
}

#[derive(Debug)]
struct Inner {
    member: String,
    clock: Clock,
    lxd: Lxd,
    hosts: Arc<dyn Hosts>,
    ceph: Ceph,
    ceph_look: tokio::sync::Mutex<Look>,
    store: Store,
    observer: Observer,
    applier: Applier,
    concurrency: usize,
    state: Mutex<State>,
    /// Held while the accepted resources are changed: each change builds on the one before.
    accepting: tokio::sync::Mutex<()>,
    wakes: mpsc::UnboundedSender<(ObjectRef, Duration)>,
    looks: mpsc::UnboundedSender<Duration>,
    /// The memory has changed, and it may be gathered what else changes.
    flushes: tokio::sync::Notify,
    /// Somebody waits for the memory to be written.
    urgent: tokio::sync::Notify,
    /// Asks for the machines' heartbeat at once.
    beats: tokio::sync::Notify,
    flushed: watch::Sender<keeper::Flushed>,
    changed: watch::Sender<u64>,
    synced: watch::Sender<bool>,
    ended: watch::Sender<Option<Ended>>,
    cancel: CancellationToken,
}

/// Everything that changes, behind one lock that is never held while something is waited for.
#[derive(Debug, Default)]
struct State {
    desired: Arc<Desired>,
    needs: Needs,
    world: World,
    memory: Memory,
    memory_version: u64,
    stored: Option<Arc<Read>>,
    /// Objects that are about to be created, with the version of the memory that says so.
    intended: BTreeMap<ObjectRef, u64>,
    in_flight: InFlight,
    /// Who waits for what is in flight.
    turns: Turns,
    /// Members on their way into the cluster, as they were planned last.
    coming: BTreeSet<ObjectRef>,
    /// Whether members came or went since members were last on their way.
    moved: bool,
    /// What has parts on members that came or went, until it is read again.
    parts: BTreeSet<ObjectRef>,
    statuses: BTreeMap<ObjectRef, ObjectStatus>,
    waiting: BTreeMap<Topic, BTreeSet<ObjectRef>>,
    topics: BTreeMap<ObjectRef, BTreeSet<Topic>>,
    history: History,
    breaker: Breaker,
    /// Members whose row in OVN's southbound database went, as was told.
    chassis_gone: BTreeSet<String>,
    /// What other people or programs did last to an object.
    foreign: BTreeMap<ObjectRef, Lifecycle>,
    /// Objects read alone while a full look is under way: the look may have older news of them.
    fresher: Option<BTreeSet<ObjectRef>>,
    /// When the lease was last read and found ours.
    lease_confirmed: Option<jiff::Timestamp>,
    /// The digests of resources whose objects were found as wanted.
    settled: BTreeMap<ObjectRef, String>,
    /// Objects whose difference was told already and is not repaired yet.
    drifting: BTreeSet<ObjectRef>,
    /// How often in a row the steps of an object were planned on something that had changed.
    outrun: BTreeMap<ObjectRef, u32>,
    /// What was done last for an object that has not come to rest since, and how often in a row.
    repeated: BTreeMap<ObjectRef, (String, u32)>,
    /// Whether a member's machine has just begun to be silent.
    silent: bool,
    /// Whether a full look was asked for because a part could not be read.
    look_again: bool,
    counters: Counters,
}

/// What the controller counts of its own work.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Counters {
    /// Plans made.
    pub plans: u64,
    /// Steps done.
    pub steps: u64,
    /// Steps that failed.
    pub failures: u64,
    /// Differences that somebody else made and this controller repaired.
    pub repairs: u64,
    /// Full looks.
    pub looks: u64,
    /// Writes of the memory.
    pub memory_writes: u64,
}

impl Controller {
    /// Starts a controller.
    pub fn start(config: Config) -> Controller {
        let (wakes, wake_requests) = mpsc::unbounded_channel();
        let (looks, look_requests) = mpsc::unbounded_channel();
        let memory = config
            .memory
            .as_ref()
            .map(|r| r.memory.clone())
            .unwrap_or_else(|| Memory {
                lease: super::memory::Lease {
                    epoch: config.epoch,
                    holder: config.member.clone(),
                },
                ..Memory::default()
            });
        let desired = Arc::new(Desired::of(
            &memory.accepted,
            &memory.trust,
            &Desired::default(),
        ));
        let state = State {
            needs: Needs::of(&desired, &memory.inventory),
            desired,
            memory,
            stored: config.memory.map(Arc::new),
            ..State::default()
        };
        let ceph = config.hosts.ceph();
        let inner = Arc::new(Inner {
            store: Store::new(config.lxd.clone()),
            observer: Observer::new(config.lxd.clone(), config.clock),
            applier: Applier::new(config.lxd.clone(), config.hosts.clone(), ceph.clone()),
            ceph,
            ceph_look: tokio::sync::Mutex::default(),
            member: config.member,
            clock: config.clock,
            lxd: config.lxd,
            hosts: config.hosts,
            concurrency: config.concurrency.max(1),
            state: Mutex::new(state),
            accepting: tokio::sync::Mutex::default(),
            wakes,
            looks,
            flushes: tokio::sync::Notify::new(),
            urgent: tokio::sync::Notify::new(),
            beats: tokio::sync::Notify::new(),
            flushed: watch::Sender::default(),
            changed: watch::Sender::new(0),
            synced: watch::Sender::new(false),
            ended: watch::Sender::new(None),
            cancel: CancellationToken::new(),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(runner::run(inner.clone(), wake_requests));
        tasks.spawn(keeper::run(inner.clone()));
        tasks.spawn(watching::services(inner.clone(), look_requests));
        tasks.spawn(watching::events(inner.clone()));
        tasks.spawn(watching::machines(inner.clone()));
        tasks.spawn(ceph::watch(inner.clone()));
        tasks.spawn(ovn::watch(inner.clone()));
        tasks.spawn(paths::watch(inner.clone()));
        Controller {
            inner,
            tasks: tokio::sync::Mutex::new(tasks),
        }
    }

    /// Waits until the controller ends by itself.
    pub async fn ended(&self) -> Ended {
        let mut ended = self.inner.ended.subscribe();
        match ended.wait_for(Option::is_some).await.map(|e| e.clone()) {
            Ok(Some(ended)) => ended,
            // The sender lives as long as this controller.
            Ok(None) | Err(_) => std::future::pending().await,
        }
    }

    /// Stops it, letting steps that are under way come to their end and what they recorded be
    /// written.
    pub async fn stop(&self) {
        self.inner.cancel.cancel();
        let mut tasks = self.tasks.lock().await;
        while tasks.join_next().await.is_some() {}
        keeper::finish(&self.inner).await;
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        self.inner.cancel.cancel();
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        // A panic while the lock was held is a defect; going on with what is there is safe,
        // because every plan is made anew from what is observed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for an object to be worked on.
    fn wake(&self, object: &ObjectRef, delay: Duration) {
        // The receiver is gone only when the controller stops.
        let _ = self.wakes.send((object.clone(), delay));
    }

    /// Wakes everything that waits on a topic.
    fn wake_waiting(&self, state: &State, topic: &Topic) {
        for object in state.waiting.get(topic).into_iter().flatten() {
            self.wake(object, Duration::ZERO);
        }
    }

    /// Wakes every object there is.
    fn wake_all(&self, state: &State) {
        let absent = state.memory.inventory.keys();
        for object in state.desired.resources.keys().chain(absent) {
            self.wake(object, Duration::ZERO);
        }
    }

    /// Gives back what an object claimed and calls those whose turn it is.
    fn give_back(&self, state: &mut State, object: &ObjectRef) {
        state.in_flight.give_back(object);
        self.call(state);
    }

    /// Wakes those whose turn it is.
    fn call(&self, state: &mut State) {
        for object in state.turns.call(&state.in_flight) {
            self.wake(&object, Duration::ZERO);
        }
    }

    /// Asks for a full look after a delay.
    fn look(&self, delay: Duration) {
        let _ = self.looks.send(delay);
    }

    /// Says that what is shown has changed.
    fn show(&self) {
        self.changed.send_modify(|n| *n += 1);
    }

    fn end(&self, ended: Ended) {
        tracing::warn!(?ended, "this controller ends");
        self.ended.send_if_modified(|e| {
            let first = e.is_none();
            if first {
                *e = Some(ended);
            }
            first
        });
        self.cancel.cancel();
    }
}

impl State {
    fn view(&self, now: jiff::Timestamp) -> View<'_> {
        View {
            now,
            desired: &self.desired,
            world: &self.world,
            memory: &self.memory,
        }
    }

    /// Remembers what an object waits for, in place of what it waited for before.
    fn wait_on(&mut self, object: &ObjectRef, topics: BTreeSet<Topic>) {
        if let Some(before) = self.topics.remove(object) {
            for topic in before.difference(&topics) {
                if let Some(waiting) = self.waiting.get_mut(topic) {
                    waiting.remove(object);
                    if waiting.is_empty() {
                        self.waiting.remove(topic);
                    }
                }
            }
        }
        for topic in &topics {
            self.waiting
                .entry(topic.clone())
                .or_default()
                .insert(object.clone());
        }
        if !topics.is_empty() {
            self.topics.insert(object.clone(), topics);
        }
    }

    /// Changes the memory; it is written at the next flush.
    fn remember(&mut self, change: impl FnOnce(&mut Memory)) -> u64 {
        change(&mut self.memory);
        self.memory_version += 1;
        self.memory_version
    }

    fn tell(
        &mut self,
        at: jiff::Timestamp,
        object: Option<&ObjectRef>,
        severity: Severity,
        reason: &str,
        message: String,
    ) {
        match severity {
            Severity::Normal => tracing::info!(
                object = object.map(tracing::field::display),
                reason,
                "{message}"
            ),
            Severity::Warning => tracing::warn!(
                object = object.map(tracing::field::display),
                reason,
                "{message}"
            ),
        }
        self.history.add(at, object, severity, reason, message);
    }
}
