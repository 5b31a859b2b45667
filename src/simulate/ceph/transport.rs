//! How the commands of a program on a machine reach the simulated cluster.

use super::super::counters::PathClass;
use super::super::faults::FaultAction;
use super::super::process::{Origin, SimProcess};
use super::super::world::Shared;
use super::{SILENCE, changes};
use crate::services::ceph::{CephError, Command, Transport};
use crate::services::lxd::Method;
use async_trait::async_trait;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// How long the real bridge waits for an answer.
const DEADLINE: Duration = Duration::from_secs(10);

/// The number of EINVAL.
const INVALID: i32 = 22;

/// The way to Ceph from one machine.
#[derive(Clone)]
pub(in crate::simulate) struct SimCeph {
    /// The cloud.
    pub shared: Arc<Shared>,
    /// The machine.
    pub machine: usize,
    /// Who asks.
    pub origin: Origin,
}

impl fmt::Debug for SimCeph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimCeph")
            .field("machine", &self.machine)
            .finish_non_exhaustive()
    }
}

impl SimCeph {
    /// The way of a program that can die.
    pub fn of(process: &SimProcess) -> SimCeph {
        SimCeph {
            shared: process.shared().clone(),
            machine: process.machine(),
            origin: Origin::Process(process.clone()),
        }
    }

    async fn exchange(&self, command: &Command, writes: bool) -> Result<String, CephError> {
        // Lets other tasks run, as every real command does.
        tokio::task::yield_now().await;
        let latency = self.shared.lock().timings.latency;
        if !latency.is_zero() {
            tokio::time::sleep(latency).await;
        }
        let broken = || CephError::Bridge {
            reason: "its process ended".to_owned(),
        };
        let refused = |code: i32, reason: String| CephError::Refused {
            command: command.prefix().to_owned(),
            code,
            reason,
        };
        let fault = self.noted(command, writes);
        match &fault {
            Some(FaultAction::DropRequest) => return Err(broken()),
            Some(FaultAction::Hang) => std::future::pending().await,
            Some(FaultAction::Delay(delay)) => tokio::time::sleep(*delay).await,
            Some(FaultAction::Refuse { status, message }) => {
                return Err(refused(i32::from(*status), message.clone()));
            }
            Some(FaultAction::FailOperation(message)) => {
                return Err(refused(INVALID, message.clone()));
            }
            _ => {}
        }
        let answer = self.shared.lock().ceph_command(self.machine, command);
        match fault {
            Some(FaultAction::LoseAnswer) => return Err(broken()),
            Some(FaultAction::SlowOperation(delay)) => tokio::time::sleep(delay).await,
            _ => {}
        }
        if matches!(answer, Err(CephError::Unreachable { .. })) {
            tokio::time::sleep(Duration::from_secs(SILENCE)).await;
        }
        answer
    }

    /// Counts a command, and says what goes wrong with it.
    fn noted(&self, command: &Command, writes: bool) -> Option<FaultAction> {
        if matches!(self.origin, Origin::Hand) {
            return None;
        }
        let mut guard = self.shared.lock();
        let world = &mut *guard;
        let shown = || format!("ceph {}", command.prefix());
        world
            .ledger
            .count(self.machine, PathClass::Ceph, writes, shown);
        let method = if writes { Method::Post } else { Method::Get };
        let name = &world.machines[self.machine].config.name;
        let path = format!("/ceph/{}", command.prefix());
        world.faults.on_request(name, method, &path)
    }

    async fn timed(&self, command: &Command, writes: bool) -> Result<String, CephError> {
        let work = self.exchange(command, writes);
        let answer = tokio::time::timeout(DEADLINE, work).await;
        answer.unwrap_or_else(|_| {
            Err(CephError::Timeout {
                command: command.prefix().to_owned(),
                deadline: DEADLINE,
            })
        })
    }
}

#[async_trait]
impl Transport for SimCeph {
    async fn send(&self, command: &Command) -> Result<String, CephError> {
        let writes = changes::changes(command.prefix());
        match &self.origin {
            Origin::Process(process) => process.live(writes, self.timed(command, writes)).await,
            _ => self.timed(command, writes).await,
        }
    }
}
