//! How LXD behaves, as assertions that the real one and the simulated one both pass.
//!
//! A simulation is worth what this list says. Each assertion is a sentence about LXD 5.0.2 that
//! was seen on the real one first; where its text or status surprises, the comment says so. An
//! assertion that fails against the real LXD is wrong; one that fails against the simulation
//! shows where that one lies.
//!
//! Assertions run in stages, in this order: a server that stands alone, forming a cluster of the
//! first three hosts, that cluster, a fourth host that joins and leaves, a member that is down.
//! Each leaves nothing behind ([`sweep`] makes sure of it), so that one that fails does not make
//! the next one fail.

mod alone;
mod check;
mod cloud;
mod events;
mod forming;
mod joining;
mod members;
mod networks;
mod offline;
mod operations;
mod pools;
mod profiles;
mod projects;
mod report;
mod server;
mod sweep;

pub use check::{Failure, Outcome};
pub use cloud::{Cloud, Host};
pub use report::{Report, Tried};

use futures_util::future::LocalBoxFuture;
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// When an assertion can be tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// On the first host, which is not in a cluster yet.
    Alone,
    /// In this order, from three servers to a cluster of three.
    Forming,
    /// On the cluster of three.
    Cluster,
    /// With the fourth host, which stands alone before and after.
    Joining,
    /// In this order, with the third host killed by the first of them and back after the last.
    Offline,
}

/// One sentence about LXD.
pub struct Assertion {
    /// The sentence, with underscores.
    pub name: &'static str,
    /// When it can be tried.
    pub stage: Stage,
    run: for<'a> fn(&'a dyn Cloud) -> LocalBoxFuture<'a, Outcome>,
}

/// Makes a list of assertions of functions.
macro_rules! assertions {
    ($stage:ident: $($function:ident),* $(,)?) => {
        vec![$($crate::contract::Assertion {
            name: stringify!($function),
            stage: $crate::contract::Stage::$stage,
            run: |cloud| Box::pin($function(cloud)),
        }),*]
    };
}
pub(crate) use assertions;

/// All assertions, in the order in which they run.
pub fn all() -> Vec<Assertion> {
    let mut all = Vec::new();
    all.extend(alone::assertions());
    all.extend(forming::assertions());
    all.extend(server::assertions());
    all.extend(profiles::assertions());
    all.extend(projects::assertions());
    all.extend(pools::assertions());
    all.extend(networks::assertions());
    all.extend(members::assertions());
    all.extend(operations::assertions());
    all.extend(events::assertions());
    all.extend(joining::assertions());
    all.extend(offline::assertions());
    all
}

/// Longer than the slowest assertion, which waits for a killed member to be called offline.
const PATIENCE: Duration = Duration::from_secs(180);

/// Tries the assertions whose name contains `only` (all when it is empty). Those that form the
/// cluster, and kill and start a member, are tried in any case when a later one needs them.
///
/// Stops when forming fails: nothing after it can be tried then. `told` hears of each as it ends.
pub async fn run(cloud: &dyn Cloud, only: &str, told: impl Fn(&Tried)) -> Report {
    let mut all = all();
    all.retain(|assertion| assertion.stage != Stage::Offline || cloud.can_kill());
    let last_stage = all
        .iter()
        .filter(|assertion| assertion.name.contains(only))
        .map(|assertion| assertion.stage)
        .max();
    let mut all_tried = Vec::new();
    for assertion in all {
        let chosen = assertion.name.contains(only);
        let needed = match assertion.stage {
            Stage::Forming => last_stage >= Some(Stage::Forming),
            Stage::Offline => last_stage >= Some(Stage::Offline),
            _ => false,
        };
        if !chosen && !needed {
            continue;
        }
        let start = Instant::now();
        let mut outcome = match timeout(PATIENCE, (assertion.run)(cloud)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Failure::new(format!("still not done after {PATIENCE:?}"))),
        };
        let took = start.elapsed();
        // A stage whose assertions build on one another sweeps by itself.
        if !matches!(assertion.stage, Stage::Forming | Stage::Offline) {
            let swept = sweep::sweep(cloud).await;
            outcome = outcome.and(swept);
        }
        let stop = outcome.is_err() && assertion.stage == Stage::Forming;
        let tried = Tried {
            name: assertion.name,
            took,
            failure: outcome.err(),
        };
        told(&tried);
        all_tried.push(tried);
        if stop {
            break;
        }
    }
    Report(all_tried)
}
