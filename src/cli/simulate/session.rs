//! One controller after another on one simulated cloud: started as an agent does when it takes
//! the lead, waited for, and ended like a process that is killed.

use crate::reconcile::Controller;
use crate::reconcile::clock::Clock;
use crate::reconcile::controller::{CONCURRENCY, Config, Counters, StatusReport};
use crate::reconcile::history::Event;
use crate::reconcile::memory::Lease;
use crate::reconcile::store::Store;
use crate::resources::Resource;
use crate::services::lxd::Lxd;
use crate::simulate::{SimCloud, SimProcess};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long a take-over waits before it is tried again.
const AGAIN: Duration = Duration::from_millis(500);

/// How long a full look may be away: more than the interval that is usual.
const LOOK: Duration = Duration::from_secs(310);

/// Nothing changing for so long means that nothing will.
const STUCK: Duration = Duration::from_secs(900);

/// A controller at work on a simulated cloud.
pub struct Session {
    /// The cloud.
    pub cloud: SimCloud,
    member: String,
    clock: Clock,
    process: SimProcess,
    controller: Controller,
    /// What earlier controllers counted.
    before: Counters,
    seen: u64,
    tell: Box<dyn Fn(&Event)>,
}

/// How waiting ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waited {
    /// Everything is as wanted.
    Converged,
    /// The time is over.
    TimedOut,
    /// Nothing moves any more.
    Stuck,
}

impl Session {
    /// Starts a controller on a machine; `tell` is told of its events.
    pub async fn start(
        cloud: SimCloud,
        member: &str,
        clock: Clock,
        tell: Box<dyn Fn(&Event)>,
    ) -> Session {
        let (process, controller) = lead(&cloud, member, clock).await;
        Session {
            cloud,
            member: member.to_owned(),
            clock,
            process,
            controller,
            before: Counters::default(),
            seen: 0,
            tell,
        }
    }

    /// Gives the controller resources; again, until it could store them.
    pub async fn apply(&self, resources: &[Resource]) -> Result<(), String> {
        let mut last = String::new();
        for _ in 0..60 {
            match self.controller.apply(resources.to_vec()).await {
                Ok(_) => return Ok(()),
                Err(error) => last = error.to_string(),
            }
            sleep(AGAIN).await;
        }
        Err(last)
    }

    /// Waits until everything is as wanted.
    pub async fn settle(&mut self, deadline: Instant) -> Waited {
        let pause = self.pause();
        let mut changes = self.controller.changes();
        let mut moved = Instant::now();
        loop {
            self.told();
            if self.controller.all_ready() {
                return Waited::Converged;
            }
            let now = Instant::now();
            if changes.has_changed().unwrap_or(false) {
                changes.mark_unchanged();
                moved = now;
            }
            if now >= deadline {
                return Waited::TimedOut;
            }
            if now.duration_since(moved) >= STUCK {
                return Waited::Stuck;
            }
            sleep(pause).await;
        }
    }

    /// Kills the controller at whatever it is doing and starts another one.
    pub async fn crash(&mut self) {
        self.told();
        self.before = self.counters();
        self.process.kill();
        let (process, controller) = lead(&self.cloud, &self.member, self.clock).await;
        self.process = process;
        // Dropping the old one ends its tasks.
        self.controller = controller;
        self.seen = 0;
    }

    /// Waits until the full look is over that is due after the interval: what is measured then has
    /// none in it.
    pub async fn looked(&self) {
        let looks = self.controller.counters().looks;
        let end = Instant::now() + LOOK;
        while self.controller.counters().looks == looks && Instant::now() < end {
            sleep(Duration::from_secs(1)).await;
        }
        sleep(Duration::from_secs(5)).await;
    }

    /// Tells what happened since the last time.
    pub fn told(&mut self) {
        for event in self.controller.events(self.seen) {
            self.seen = self.seen.max(event.number);
            (self.tell)(&event);
        }
    }

    /// What is shown of everything.
    pub fn status(&self) -> StatusReport {
        self.controller.status()
    }

    /// What this controller and those before it counted.
    pub fn counters(&self) -> Counters {
        let now = self.controller.counters();
        Counters {
            plans: self.before.plans + now.plans,
            steps: self.before.steps + now.steps,
            failures: self.before.failures + now.failures,
            repairs: self.before.repairs + now.repairs,
            looks: self.before.looks + now.looks,
            memory_writes: self.before.memory_writes + now.memory_writes,
        }
    }

    /// The machine the controller runs on.
    pub fn member(&self) -> &str {
        &self.member
    }

    /// How often it is looked whether all is done: looking costs something for many objects.
    fn pause(&self) -> Duration {
        let objects = self.controller.resources().len() as u64;
        Duration::from_millis((objects / 10).clamp(50, 2000))
    }
}

/// Takes the lead with the next epoch, as soon as the store can be read and written.
async fn lead(cloud: &SimCloud, member: &str, clock: Clock) -> (SimProcess, Controller) {
    loop {
        let process = cloud.process(member);
        let lxd = Lxd::new(process.transport());
        let store = Store::new(lxd.clone());
        let taken = match store.read().await {
            Ok(None) => Some((None, 1)),
            Ok(Some(read)) => {
                let mut memory = read.memory.clone();
                let epoch = memory.lease.epoch + 1;
                memory.lease = Lease {
                    epoch,
                    holder: member.to_owned(),
                };
                let written = store.write(&read, &memory).await;
                written.ok().map(|read| (Some(read), epoch))
            }
            Err(_) => None,
        };
        if let Some((memory, epoch)) = taken {
            let controller = Controller::start(Config {
                member: member.to_owned(),
                epoch,
                lxd,
                hosts: process.hosts(Arc::new(AtomicU64::new(epoch))),
                clock,
                memory,
                concurrency: CONCURRENCY,
            });
            return (process, controller);
        }
        sleep(AGAIN).await;
    }
}
