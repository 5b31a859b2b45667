//! How Ceph behaves, as assertions that the real one and the simulated one both pass: as much of
//! it as the controller relies on.
//!
//! They run in order, on three hosts on which the controller has formed Ceph and then stopped: a
//! monitor, a manager, a metadata server and an OSD on each, and copies on three hosts. Each
//! leaves everything as it was; what they make is named `contract…`.

mod answers;
mod changes;
mod failures;

use super::check::{Failure, Outcome, eventually, is};
use super::report::{Report, Tried};
use async_trait::async_trait;
use futures_util::future::LocalBoxFuture;
use microcloud::services::ceph::{Ceph, CephError, Command};
use serde_json::Value;
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// A daemon on a host.
#[derive(Debug, Clone, Copy)]
pub enum Daemon {
    /// Its monitor.
    Mon,
    /// Its manager.
    Mgr,
    /// Its metadata server.
    Mds,
    /// The OSD of this number.
    Osd(i64),
}

/// Three hosts with Ceph.
#[async_trait]
pub trait CephCloud: Send + Sync {
    /// Their names, in order.
    fn hosts(&self) -> Vec<String>;

    /// Ceph as the admin on a host asks it.
    fn ceph(&self, host: &str) -> Ceph;

    /// Stops a daemon.
    async fn stop(&self, host: &str, daemon: Daemon);

    /// Starts a daemon.
    async fn start(&self, host: &str, daemon: Daemon);

    /// Power loss.
    async fn kill(&self, host: &str);

    /// Power is back; the daemons start with the host.
    async fn power(&self, host: &str);
}

impl dyn CephCloud + '_ {
    /// Ceph on the first host.
    fn first(&self) -> Ceph {
        self.ceph(&self.hosts()[0])
    }

    /// A JSON answer on the first host.
    async fn ask(&self, prefix: &str) -> Result<Value, Failure> {
        Ok(self.first().read(&Command::new(prefix)).await?)
    }

    /// Does a command on the first host.
    async fn run(&self, command: Command) -> Outcome {
        self.first().run(&command).await?;
        Ok(())
    }

    /// The epoch of the OSDs' map.
    async fn epoch(&self) -> Result<u64, Failure> {
        number(&self.ask("osd dump").await?, "/epoch")
    }

    /// The numbers of the OSDs, with the host each is below.
    async fn osds(&self) -> Result<Vec<(i64, String)>, Failure> {
        let tree = self.ask("osd tree").await?;
        let nodes = tree["nodes"].as_array().cloned().unwrap_or_default();
        let mut osds = Vec::new();
        for node in nodes.iter().filter(|n| n["type"] == "host") {
            let children = node["children"].as_array().into_iter().flatten();
            for id in children.filter_map(Value::as_i64) {
                osds.push((id, node["name"].as_str().unwrap_or_default().to_owned()));
            }
        }
        osds.sort_unstable();
        Ok(osds)
    }

    /// Waits until nothing is wrong any more and all placement groups are clean.
    async fn calm(&self) -> Outcome {
        eventually(Duration::from_secs(120), async || {
            let status = self.ask("status").await?;
            let quorum = status["quorum_names"].as_array().map_or(0, Vec::len);
            let up = number(&status, "/osdmap/num_up_osds")?;
            let in_ = number(&status, "/osdmap/num_in_osds")?;
            let states = status["pgmap"]["pgs_by_state"].as_array();
            let mut states = states.into_iter().flatten();
            let clean = states.all(|s| s["state_name"] == "active+clean");
            let calm = quorum == 3 && up == 3 && in_ == 3 && clean;
            is(
                calm && status["mgrmap"]["available"] == true,
                format!("it is not calm: {status}"),
            )
        })
        .await
    }
}

/// A number in an answer.
#[track_caller]
fn number(answer: &Value, pointer: &str) -> Result<u64, Failure> {
    let found = answer.pointer(pointer).and_then(Value::as_u64);
    found.ok_or_else(|| Failure::new(format!("no number at {pointer} in {answer}")))
}

/// A command that must be refused with this number of errno, in words that contain `text`.
#[track_caller]
fn refused(answer: Result<String, CephError>, errno: i32, text: &str) -> Outcome {
    match &answer {
        Err(CephError::Refused { code, reason, .. }) if *code == errno => is(
            reason.contains(text),
            format!("wanted {text:?}, found {reason:?}"),
        ),
        other => Err(Failure::new(format!(
            "wanted error {errno} with {text:?}, found {other:?}"
        ))),
    }
}

impl From<CephError> for Failure {
    #[track_caller]
    fn from(error: CephError) -> Self {
        Failure::new(error.to_string())
    }
}

/// One sentence about Ceph.
pub struct Assertion {
    /// The sentence, with underscores.
    pub name: &'static str,
    run: for<'a> fn(&'a dyn CephCloud) -> LocalBoxFuture<'a, Outcome>,
}

/// Makes a list of assertions of functions.
macro_rules! assertions {
    ($($function:ident),* $(,)?) => {
        vec![$($crate::ceph::Assertion {
            name: stringify!($function),
            run: |cloud| Box::pin($function(cloud)),
        }),*]
    };
}
pub(crate) use assertions;

/// Longer than the slowest assertion, which waits for a killed host's OSD to be called down.
const PATIENCE: Duration = Duration::from_secs(240);

/// Tries the assertions whose name contains `only` (all when it is empty); `told` hears of each as
/// it ends.
pub async fn run(cloud: &dyn CephCloud, only: &str, told: impl Fn(&Tried)) -> Report {
    let mut all = answers::assertions();
    all.extend(changes::assertions());
    all.extend(failures::assertions());
    let mut all_tried = Vec::new();
    for assertion in all.into_iter().filter(|a| a.name.contains(only)) {
        let start = Instant::now();
        let outcome = match timeout(PATIENCE, (assertion.run)(cloud)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Failure::new(format!("still not done after {PATIENCE:?}"))),
        };
        let outcome = outcome.and(cloud.calm().await);
        let tried = Tried {
            name: assertion.name,
            took: start.elapsed(),
            failure: outcome.err(),
        };
        told(&tried);
        all_tried.push(tried);
    }
    Report(all_tried)
}
