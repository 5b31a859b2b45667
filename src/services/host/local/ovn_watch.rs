//! Notices when something of OVN changes on this machine: what is followed is only a hint to look
//! again.

use super::ovn::OvnPaths;
use super::ovn_central;
use super::ovn_chassis::{self, TUNNEL};
use crate::services::ovn::rows::{
    Bridge, Chassis, Connection, Database, Encap, GATEWAY_TYPE, Interface, LogicalRouterPort,
    OpenVSwitch, PortBinding, Row,
};
use crate::services::ovn::{
    Client, Endpoint, LOCAL, MonitorTable, NORTHBOUND, OvsdbError, SERVER, SOUTHBOUND,
};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How often a database that is not there is looked for.
const ABSENT: Duration = Duration::from_secs(1);

/// How often it is asked for what no database tells.
const UNTOLD: Duration = Duration::from_secs(5);

/// A number that changes whenever something of OVN did. Cheap to clone.
#[derive(Debug, Clone)]
pub struct OvnChanges(Arc<watch::Sender<u64>>);

impl Default for OvnChanges {
    fn default() -> OvnChanges {
        OvnChanges(Arc::new(watch::Sender::new(0)))
    }
}

impl OvnChanges {
    /// The number now.
    pub fn get(&self) -> u64 {
        *self.0.borrow()
    }

    fn changed(&self) {
        self.0
            .send_modify(|number| *number = number.wrapping_add(1));
    }

    /// The number when it is not `known` any more, or after `limit`.
    pub async fn after(&self, known: u64, limit: Duration) -> u64 {
        let mut numbers = self.0.subscribe();
        // The sender is held here, so it does not end.
        let _ = tokio::time::timeout(limit, numbers.wait_for(|number| *number != known)).await;
        self.get()
    }
}

/// Follows Open vSwitch's database, and OVN's two when they are on this machine, until it is told
/// to stop. While nothing happens this costs nothing but a look for databases that are not there.
pub async fn follow_ovn(state: &Path, changes: OvnChanges, stop: CancellationToken) {
    let paths = OvnPaths::real(state);
    let local = follow(
        paths.ovs(),
        &changes,
        vec![(
            LOCAL,
            vec![table::<OpenVSwitch>(), table::<Bridge>(), tunnels()],
        )],
    );
    let north = follow(
        paths.northbound(),
        &changes,
        vec![
            (
                NORTHBOUND,
                vec![table::<Connection>(), table::<LogicalRouterPort>()],
            ),
            (SERVER, vec![table::<Database>()]),
        ],
    );
    let south = follow(
        paths.southbound(),
        &changes,
        vec![
            (
                SOUTHBOUND,
                vec![
                    table::<Chassis>(),
                    table::<Encap>(),
                    table::<Connection>(),
                    ways_out(),
                ],
            ),
            (SERVER, vec![table::<Database>()]),
        ],
    );
    let untold = follow_untold(&paths, &changes);
    tokio::select! {
        () = stop.cancelled() => {}
        () = untold => {}
        () = local => {}
        () = north => {}
        () = south => {}
    }
}

fn table<R: Row>() -> MonitorTable<'static> {
    // The row's own id never changes and cannot be followed; the raft's progress is of no interest.
    MonitorTable {
        table: R::TABLE,
        columns: match R::COLUMNS {
            ["_uuid", columns @ ..] => columns,
            columns => columns,
        },
        only: None,
    }
}

/// Whether the other end of each tunnel is heard; what else is plugged in comes and goes with the
/// instances.
fn tunnels() -> MonitorTable<'static> {
    MonitorTable {
        table: Interface::TABLE,
        columns: &["bfd_status"],
        only: Some(("type", TUNNEL)),
    }
}

/// Where the ways out of networks are; where their other ports are is of no interest.
fn ways_out() -> MonitorTable<'static> {
    MonitorTable {
        table: PortBinding::TABLE,
        columns: &["chassis"],
        only: Some(("type", GATEWAY_TYPE)),
    }
}

/// Asks now and then for what no database tells: whether ovn-controller is connected, and which
/// servers the rafts have. Never ends.
async fn follow_untold(paths: &OvnPaths, changes: &OvnChanges) {
    let mut before = None;
    loop {
        let now = (
            ovn_chassis::controller_connected(paths).await,
            ovn_central::in_rafts(paths).await,
        );
        if before.as_ref().is_some_and(|before| *before != now) {
            changes.changed();
        }
        before = Some(now);
        tokio::time::sleep(UNTOLD).await;
    }
}

type Tables = Vec<(&'static str, Vec<MonitorTable<'static>>)>;

/// Never ends.
async fn follow(endpoint: Endpoint, changes: &OvnChanges, tables: Tables) {
    let mut was_there = false;
    loop {
        let there = match &endpoint {
            Endpoint::Unix(path) => path.exists(),
            _ => true,
        };
        if there {
            let ended = follow_once(&endpoint, changes, &tables, &mut was_there).await;
            if let Err(error) = ended {
                tracing::debug!(%endpoint, %error, "not followed");
            }
        }
        if was_there {
            was_there = false;
            changes.changed();
        }
        tokio::time::sleep(ABSENT).await;
    }
}

async fn follow_once(
    endpoint: &Endpoint,
    changes: &OvnChanges,
    tables: &Tables,
    was_there: &mut bool,
) -> Result<(), OvsdbError> {
    let client = Client::connect(endpoint, None).await?;
    let mut monitors = Vec::new();
    for (database, tables) in tables {
        monitors.push(client.monitor(database, tables).await?);
    }
    *was_there = true;
    loop {
        let nexts = monitors.iter_mut().map(|m| Box::pin(m.next()));
        let (change, _, _) = futures_util::future::select_all(nexts).await;
        change?;
        changes.changed();
    }
}
