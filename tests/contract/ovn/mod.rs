//! How OVN behaves as the agents show and change it, as assertions that the real one and the
//! simulated one both pass: as much of it as the controller relies on.
//!
//! They run in order, on four hosts that have nothing of OVN yet, and build on one another: an
//! authority and certificates, databases on three hosts, chassis on all, and then what is changed
//! by hand and what is lost.

mod certificates;
mod chassis;
mod databases;
mod losses;

use super::check::{Failure, Outcome, eventually, is};
use super::report::{Report, Tried};
use async_trait::async_trait;
use futures_util::future::LocalBoxFuture;
use microcloud::services::host::{
    CentralConfig, CentralReport, ChassisConfig, DatabaseReport, Host, HostError, OvnAnswer,
    OvnReport, OvnRequest, Raft, Rafts,
};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// How long what a program of OVN does by itself may take.
const SOON: Duration = Duration::from_secs(30);

/// The hosts that hold the databases, by number; the fourth only carries traffic.
const CENTRALS: [usize; 3] = [0, 1, 2];

/// Four hosts with the packages of OVN.
#[async_trait]
pub trait OvnCloud: Send + Sync {
    /// Their names, in order.
    fn hosts(&self) -> Vec<String>;

    /// The address of a host.
    fn address(&self, host: &str) -> IpAddr;

    /// A host, as the agent that controls reaches it.
    fn host(&self, host: &str) -> Arc<dyn Host>;

    /// Somebody changes what the controller of a host is told.
    async fn tell_controller(&self, host: &str, key: &str, value: &str);

    /// Somebody deletes the row of a host.
    async fn delete_chassis(&self, host: &str);

    /// Power loss.
    async fn kill(&self, host: &str);

    /// Power is back, and the agent answers.
    async fn power(&self, host: &str);
}

impl dyn OvnCloud + '_ {
    fn name(&self, number: usize) -> String {
        self.hosts()[number].clone()
    }

    fn at(&self, number: usize) -> IpAddr {
        self.address(&self.name(number))
    }

    /// What is asked of a host.
    async fn ask(&self, number: usize, request: OvnRequest) -> Result<OvnAnswer, HostError> {
        self.host(&self.name(number)).ovn(request).await
    }

    /// Has a host do something.
    async fn done(&self, number: usize, request: OvnRequest) -> Outcome {
        match self.ask(number, request).await? {
            OvnAnswer::Done => Ok(()),
            other => Err(Failure::new(format!("wanted it done, found {other:?}"))),
        }
    }

    /// What a host has of OVN.
    async fn report(&self, number: usize) -> Result<OvnReport, Failure> {
        Ok(self.host(&self.name(number)).report().await?.ovn)
    }

    /// What it has of the databases.
    async fn central(&self, number: usize) -> Result<CentralReport, Failure> {
        Ok(self.report(number).await?.central)
    }

    /// Waits until what a host has of the databases is so.
    async fn central_is(
        &self,
        number: usize,
        what: &str,
        holds: impl Fn(&CentralReport) -> bool,
    ) -> Result<CentralReport, Failure> {
        eventually(SOON, async || {
            let central = self.central(number).await?;
            is(holds(&central), format!("{what}: {central:?}"))?;
            Ok(central)
        })
        .await
    }

    /// How a host is to hold the databases; the first makes them.
    fn config(&self, number: usize) -> CentralConfig {
        CentralConfig {
            address: self.at(number),
            join: (number != CENTRALS[0]).then(|| self.at(CENTRALS[0])),
            centrals: CENTRALS.map(|n| self.at(n)).to_vec(),
            tls: true,
        }
    }

    /// How a host is to carry traffic.
    fn carries(&self, number: usize, userspace: bool) -> ChassisConfig {
        ChassisConfig {
            name: self.name(number),
            encap_ip: self.at(number),
            centrals: CENTRALS.map(|n| self.at(n)).to_vec(),
            tls: true,
            userspace,
            mappings: [("UPLINK".to_owned(), "br-uplink".to_owned())].into(),
        }
    }
}

/// Both databases of a host, which must answer.
#[track_caller]
fn both(central: &CentralReport) -> Result<[&DatabaseReport; 2], Failure> {
    match (&central.northbound, &central.southbound) {
        (Some(north), Some(south)) => Ok([north, south]),
        _ => Err(Failure::new(format!("one does not answer: {central:?}"))),
    }
}

/// The rafts as a host tells of them.
fn told_by(central: &CentralReport) -> Rafts {
    Rafts {
        northbound: central.northbound.as_ref().map(Raft::from),
        southbound: central.southbound.as_ref().map(Raft::from),
    }
}

/// Whether a host's databases have so many servers and a majority.
fn has_servers(central: &CentralReport, servers: usize) -> bool {
    let full = |d: &DatabaseReport| d.connected && d.servers.len() == servers;
    both(central).is_ok_and(|both| both.into_iter().all(full))
}

/// A request that must be refused because what it needs is not so.
#[track_caller]
fn guarded(answer: Result<OvnAnswer, HostError>) -> Outcome {
    match answer {
        Err(HostError::GuardFailed { .. }) => Ok(()),
        other => Err(Failure::new(format!("wanted a guard, found {other:?}"))),
    }
}

impl From<HostError> for Failure {
    #[track_caller]
    fn from(error: HostError) -> Self {
        Failure::new(error.to_string())
    }
}

/// One sentence about OVN.
pub struct Assertion {
    /// The sentence, with underscores.
    pub name: &'static str,
    run: for<'a> fn(&'a dyn OvnCloud) -> LocalBoxFuture<'a, Outcome>,
}

/// Makes a list of assertions of functions.
macro_rules! assertions {
    ($($function:ident),* $(,)?) => {
        vec![$($crate::ovn::Assertion {
            name: stringify!($function),
            run: |cloud| Box::pin($function(cloud)),
        }),*]
    };
}
pub(crate) use assertions;

/// Longer than the slowest assertion, in which two hosts lose their power.
const PATIENCE: Duration = Duration::from_secs(180);

/// Tries the assertions, until one does not hold: those after it build on it. `told` hears of each
/// as it ends.
pub async fn run(cloud: &dyn OvnCloud, told: impl Fn(&Tried)) -> Report {
    let mut all = certificates::assertions();
    all.extend(databases::assertions());
    all.extend(chassis::assertions());
    all.extend(losses::assertions());
    let mut all_tried = Vec::new();
    for assertion in all {
        let start = Instant::now();
        let outcome = match timeout(PATIENCE, (assertion.run)(cloud)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Failure::new(format!("still not done after {PATIENCE:?}"))),
        };
        let tried = Tried {
            name: assertion.name,
            took: start.elapsed(),
            failure: outcome.err(),
        };
        told(&tried);
        let stop = tried.failure.is_some();
        all_tried.push(tried);
        if stop {
            break;
        }
    }
    Report(all_tried)
}
