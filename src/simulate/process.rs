//! A program on a machine: how its requests reach the simulated LXD, and how it dies.

use super::counters::PathClass;
use super::events::Delivery;
use super::faults::FaultAction;
use super::lxd::{self, Outcome};
use super::world::{Shared, World};
use crate::services::lxd::{EventStream, Request, Response, Transport, TransportError};
use async_trait::async_trait;
use futures_util::StreamExt;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// A program that runs on a machine, such as one controller. It dies with the machine, when a
/// crash that was asked for comes, or by [`SimProcess::kill`]; a dead program never sees another
/// answer: all its calls wait for ever, so drop what runs in its name.
#[derive(Debug, Clone)]
pub struct SimProcess {
    shared: Arc<Shared>,
    machine: usize,
    life: Arc<Life>,
}

/// Whether a program lives, and when it shall crash.
#[derive(Debug)]
pub(super) struct Life {
    dead: watch::Sender<bool>,
    crash: Mutex<Option<(u64, CrashKind)>>,
}

impl Life {
    /// Ends the program.
    pub fn end(&self) {
        self.dead.send_replace(true);
    }
}

/// On which side of its k-th write a program crashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CrashKind {
    /// The write is not made.
    BeforeWrite,
    /// The write is made, its answer is never seen.
    AfterWrite,
}

/// Tells when a program has died.
#[derive(Debug, Clone)]
pub struct CrashSignal(watch::Receiver<bool>);

impl CrashSignal {
    /// Waits until the program has died.
    pub async fn died(&mut self) {
        // The sender lives as long as any handle of the program; without one it is dead too.
        let _ = self.0.wait_for(|dead| *dead).await;
    }

    /// Whether it has died.
    pub fn is_dead(&self) -> bool {
        *self.0.borrow()
    }
}

/// What comes before a write of a program.
enum Fate {
    Goes,
    DiesBefore,
    DiesAfter,
}

impl SimProcess {
    /// A program on a machine, which dies with it.
    pub(super) fn new(shared: &Arc<Shared>, machine: usize) -> SimProcess {
        let process = SimProcess::undying(shared, machine);
        let mut world = shared.lock();
        world.programs.retain(|(_, life)| life.strong_count() > 0);
        world
            .programs
            .push((machine, Arc::downgrade(&process.life)));
        drop(world);
        process
    }

    /// A program that does not die with its machine.
    pub(super) fn undying(shared: &Arc<Shared>, machine: usize) -> SimProcess {
        SimProcess {
            shared: shared.clone(),
            machine,
            life: Arc::new(Life {
                dead: watch::channel(false).0,
                crash: Mutex::new(None),
            }),
        }
    }

    /// The transport to the LXD of its machine.
    pub fn transport(&self) -> Arc<dyn Transport> {
        Arc::new(SimTransport {
            shared: self.shared.clone(),
            machine: self.machine,
            origin: Origin::Process(self.clone()),
        })
    }

    /// Has it crash at its k-th write from now, counted from 1: requests to LXD that are not GET
    /// and calls to agents that change something.
    pub fn crash_at(&self, k: u64, kind: CrashKind) -> CrashSignal {
        *self
            .life
            .crash
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some((k.max(1), kind));
        self.signal()
    }

    /// Ends it now.
    pub fn kill(&self) {
        self.life.end();
    }

    /// Tells when it has died.
    pub fn signal(&self) -> CrashSignal {
        CrashSignal(self.life.dead.subscribe())
    }

    /// The cloud it belongs to.
    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// The machine it runs on.
    pub(super) fn machine(&self) -> usize {
        self.machine
    }

    /// Does a call in its name: dies before or after it when that was asked for, and never gives
    /// an answer when dead.
    pub(super) async fn live<T>(&self, writes: bool, call: impl Future<Output = T>) -> T {
        let fate = if writes { self.fate() } else { Fate::Goes };
        if matches!(fate, Fate::DiesBefore) {
            self.kill();
        }
        let mut dead = self.life.dead.subscribe();
        let answer = tokio::select! {
            biased;
            _ = dead.wait_for(|dead| *dead) => None,
            answer = call => Some(answer),
        };
        match (fate, answer) {
            (Fate::Goes, Some(answer)) => answer,
            (fate, _) => {
                if matches!(fate, Fate::DiesAfter) {
                    self.kill();
                }
                std::future::pending().await
            }
        }
    }

    fn fate(&self) -> Fate {
        let mut crash = self
            .life
            .crash
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        match crash.as_mut() {
            Some((1, kind)) => {
                let kind = *kind;
                *crash = None;
                match kind {
                    CrashKind::BeforeWrite => Fate::DiesBefore,
                    CrashKind::AfterWrite => Fate::DiesAfter,
                }
            }
            Some((k, _)) => {
                *k -= 1;
                Fate::Goes
            }
            None => Fate::Goes,
        }
    }
}

/// Who asks.
#[derive(Debug, Clone)]
pub(super) enum Origin {
    /// A program that can die.
    Process(SimProcess),
    /// Something that is counted and disturbed, but does not die: a client of a test, an agent.
    Client,
    /// An administrator: neither counted nor disturbed.
    Hand,
}

/// The transport to the LXD of one simulated machine, as if through its unix socket.
#[derive(Clone)]
pub(super) struct SimTransport {
    /// The cloud.
    pub shared: Arc<Shared>,
    /// The machine.
    pub machine: usize,
    /// Who asks.
    pub origin: Origin,
}

impl fmt::Debug for SimTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimTransport")
            .field("machine", &self.machine)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Transport for SimTransport {
    async fn send(&self, request: Request) -> Result<Response, TransportError> {
        let writes = request.method.writes();
        match &self.origin {
            Origin::Process(process) => process.live(writes, self.send_now(request)).await,
            _ => self.send_now(request).await,
        }
    }

    async fn events(&self, types: &[&str]) -> Result<EventStream, TransportError> {
        let types: Vec<String> = types.iter().map(|t| (*t).to_owned()).collect();
        let opening = async { self.open_events(types) };
        match &self.origin {
            Origin::Process(process) => {
                let stream = process.live(false, opening).await?;
                let mut dead = process.signal();
                // The events of a dead program end without a word.
                Ok(stream.take_until(async move { dead.died().await }).boxed())
            }
            _ => opening.await,
        }
    }
}

impl SimTransport {
    async fn send_now(&self, request: Request) -> Result<Response, TransportError> {
        let deadline = request.deadline;
        match tokio::time::timeout(deadline, self.exchange(request)).await {
            Ok(result) => result,
            Err(_) => Err(TransportError::Timeout {
                endpoint: self.endpoint(),
                seconds: deadline.as_secs(),
            }),
        }
    }

    async fn exchange(&self, request: Request) -> Result<Response, TransportError> {
        // Lets other tasks run, as every real request does.
        tokio::task::yield_now().await;
        let latency = self.shared.lock().timings.latency;
        if !latency.is_zero() {
            tokio::time::sleep(latency).await;
        }
        let mut fault = {
            let mut world = self.shared.lock();
            let fault = self.noted(&mut world, &request);
            self.must_answer(&world)?;
            fault
        };
        match fault {
            Some(FaultAction::Delay(delay)) => {
                tokio::time::sleep(delay).await;
                fault = None;
            }
            Some(FaultAction::Hang) => return self.until_lxd_ends(std::future::pending()).await,
            Some(FaultAction::DropRequest) => return Err(self.broken()),
            Some(FaultAction::Refuse { status, message }) => {
                return Ok(lxd::refused(status, &message));
            }
            _ => {}
        }
        let lose = matches!(fault, Some(FaultAction::LoseAnswer));
        let (outcome, ended) = {
            let mut world = self.shared.lock();
            self.must_answer(&world)?;
            let ended = world.machines[self.machine].lxd.ended.clone();
            (
                lxd::handle(&mut world, self.machine, &request, fault),
                ended,
            )
        };
        let finished = self.finish(outcome);
        let answer = tokio::select! {
            biased;
            () = ended.cancelled() => return Err(self.broken()),
            answer = finished => answer,
        };
        answer.filter(|_| !lose).ok_or_else(|| self.broken())
    }

    /// The answer; none when the connection breaks instead.
    async fn finish(&self, outcome: Outcome) -> Option<Response> {
        Some(match outcome {
            Outcome::Broken => return None,
            Outcome::Answer(response, after) => {
                if !after.is_zero() {
                    tokio::time::sleep(after).await;
                }
                response
            }
            Outcome::Hang(None) => std::future::pending().await,
            Outcome::Hang(Some((after, response))) => {
                tokio::time::sleep(after).await;
                response
            }
            Outcome::Wait {
                operation,
                mut done,
                timeout,
            } => {
                let early = *done.borrow();
                let wait = done.wait_for(|done| *done);
                match timeout {
                    // When the time has passed, that is an error: see `waited`.
                    Some(timeout) => drop(tokio::time::timeout(timeout, wait).await),
                    None => drop(wait.await),
                }
                let waited = lxd::waited(&self.shared.lock(), &operation, early);
                match waited {
                    Some(response) => response,
                    // What ended with the API hanging is never answered.
                    None => std::future::pending().await,
                }
            }
        })
    }

    /// Counts a request, and says what goes wrong with it.
    fn noted(&self, world: &mut World, request: &Request) -> Option<FaultAction> {
        if matches!(self.origin, Origin::Hand) {
            return None;
        }
        world
            .ledger
            .request(self.machine, request.method, &request.path, || {
                format!("{request:?}")
            });
        let World {
            faults, machines, ..
        } = world;
        let name = &machines[self.machine].config.name;
        faults.on_request(name, request.method, &request.path)
    }

    fn must_answer(&self, world: &World) -> Result<(), TransportError> {
        let machine = &world.machines[self.machine];
        if machine.lxd_up() {
            return Ok(());
        }
        Err(TransportError::Connect {
            endpoint: endpoint_of(world, self.machine),
            reason: if machine.powered {
                "connection refused".into()
            } else {
                "the machine is off".into()
            },
        })
    }

    async fn until_lxd_ends<T>(&self, work: impl Future<Output = T>) -> Result<T, TransportError> {
        let ended = self.shared.lock().machines[self.machine].lxd.ended.clone();
        tokio::select! {
            () = ended.cancelled() => Err(self.broken()),
            done = work => Ok(done),
        }
    }

    fn open_events(&self, types: Vec<String>) -> Result<EventStream, TransportError> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let mut world = self.shared.lock();
        if !matches!(self.origin, Origin::Hand) {
            world
                .ledger
                .count(self.machine, PathClass::Events, false, String::new);
        }
        self.must_answer(&world)?;
        world.hub.open(self.machine, types, sender);
        Ok(deliver(receiver))
    }

    fn endpoint(&self) -> String {
        endpoint_of(&self.shared.lock(), self.machine)
    }

    fn broken(&self) -> TransportError {
        TransportError::Broken {
            endpoint: self.endpoint(),
            reason: "connection reset by peer".into(),
        }
    }
}

/// How errors name the LXD of a machine.
fn endpoint_of(world: &World, machine: usize) -> String {
    format!("the LXD of {}", world.machines[machine].config.name)
}

/// Events at the time they arrive; the end of a broken stream after its error.
fn deliver(receiver: mpsc::UnboundedReceiver<Delivery>) -> EventStream {
    futures_util::stream::unfold(receiver, |mut receiver| async move {
        match receiver.recv().await? {
            Ok((at, event)) => {
                tokio::time::sleep_until(at).await;
                Some((Ok(event), receiver))
            }
            Err(error) => Some((Err(error), receiver)),
        }
    })
    .boxed()
}

/// How long a call to a machine that is not there takes to fail.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
