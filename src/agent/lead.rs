//! Who controls: one agent at a time, by a lease with an epoch in LXD's database.
//!
//! # Guarantees
//! - Before there is a cluster, only the member that `Cluster.spec.initiator` names leads, and not
//!   if it ever was in a cluster that may still be there.
//! - In a cluster, a lease that nobody holds goes to the agent beside LXD's database leader. A
//!   holder keeps it while its agent answers that it leads. After ten seconds of silence another
//!   voter's agent takes over.
//! - Taking over writes `epoch + 1` and the holder with `If-Match`, and reads it back. Agents
//!   refuse calls with a lower epoch from then on.
//! - A holder whose LXD is gone for ten seconds, or that hears of a higher epoch, stops leading.

use super::office::{Duty, Office};
use crate::reconcile::clock::Clock;
use crate::reconcile::controller::{CONCURRENCY, Config, Controller};
use crate::reconcile::memory::Lease;
use crate::reconcile::store::{Read, Store};
use crate::services::host::local::find_lxd_socket;
use crate::services::host::{Beat, HostTarget, LxdReport};
use crate::services::lxd::Lxd;
use crate::services::lxd::types::Member;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How long a holder may be silent, or its LXD gone, before another one takes over.
const SILENCE: Duration = Duration::from_secs(10);

/// How often one that does not lead looks after the holder.
const LOOK: Duration = Duration::from_secs(2);

/// How often one whose LXD joins a cluster looks whether that is over; nothing is asked for it.
const JOINING: Duration = Duration::from_millis(100);

/// How much later the next voter tries, so that two rarely try at once; the ETag decides if they
/// do.
const TURN: Duration = Duration::from_millis(1500);

/// How long a holder's heartbeat may take.
const HEARTBEAT: Duration = Duration::from_secs(2);

/// What to do next.
enum Next {
    Lead(Lxd, Option<Box<Read>>, u64),
    Follow(HostTarget),
    Wait(String),
    /// As [`Next::Wait`], and to look again after this time.
    WaitFor(String, Duration),
}

/// Leads when it is this agent's turn, until `stop`.
pub async fn run(office: Arc<Office>, stop: CancellationToken) {
    let mut silence = Silence::default();
    while !stop.is_cancelled() {
        let mut look = LOOK;
        let next = tokio::select! {
            () = stop.cancelled() => return,
            next = decide(&office, &mut silence) => next,
        };
        match next {
            Next::Lead(lxd, memory, epoch) => {
                silence = Silence::default();
                lead(&office, lxd, memory.map(|read| *read), epoch, &stop).await;
            }
            Next::Follow(target) => office.set_duty(Duty::Following(target)),
            Next::Wait(reason) => office.set_duty(Duty::Waiting(reason)),
            Next::WaitFor(reason, pause) => {
                look = pause.min(LOOK);
                office.set_duty(Duty::Waiting(reason));
            }
        }
        // Cancel safe: nothing is lost when one of these is dropped.
        tokio::select! {
            () = stop.cancelled() => return,
            () = office.consider.notified() => {}
            () = tokio::time::sleep(look) => {}
        }
    }
}

/// Since when the holder of the lease does not say that it leads.
#[derive(Debug, Default)]
struct Silence {
    of: Option<(Lease, Instant)>,
    /// When the holder was heard last.
    heard: Option<Instant>,
    /// The version of the controller's memory that was copied last.
    memory_version: Option<u64>,
}

impl Silence {
    fn heard(&mut self) {
        self.of = None;
        self.heard = Some(Instant::now());
    }

    fn of(&mut self, lease: &Lease) -> Duration {
        match &self.of {
            Some((silent, since)) if silent == lease => since.elapsed(),
            _ => {
                // Silent since it was heard last, but never for longer than between two looks: a
                // pause in which nobody asked says nothing about the holder.
                let most = LOOK + HEARTBEAT;
                let before = self
                    .heard
                    .map_or(Duration::ZERO, |at| at.elapsed().min(most));
                let now = Instant::now();
                let since = now.checked_sub(before).unwrap_or(now);
                self.of = Some((lease.clone(), since));
                before
            }
        }
    }
}

async fn decide(office: &Office, silence: &mut Silence) -> Next {
    // A leader that answers is followed without asking LXD anything.
    if let Duty::Following(target) = office.duty()
        && let Some(beat) = leads(office, &target).await
    {
        silence.heard();
        if silence.memory_version != Some(beat.memory_version) && keep_copy(office).await {
            silence.memory_version = Some(beat.memory_version);
        }
        return Next::Follow(target);
    }
    let Some(_leave) = office.machine.local.may_ask_lxd() else {
        return Next::WaitFor(
            "LXD on this machine is joining a cluster".to_owned(),
            JOINING,
        );
    };
    let Some(socket) = find_lxd_socket(office.lxd_socket.as_deref()) else {
        return Next::Wait("LXD is not installed on this machine, or does not run".to_owned());
    };
    let lxd = match Lxd::unix(socket) {
        Ok(lxd) => lxd,
        Err(e) => return Next::Wait(e.to_string()),
    };
    let server = match lxd.server().await {
        Ok(server) => server.value.environment,
        Err(e) => return Next::Wait(format!("LXD does not answer: {e}")),
    };
    let stored = match Store::new(lxd.clone()).read().await {
        Ok(stored) => stored,
        Err(e) => return Next::Wait(e.to_string()),
    };
    if server.server_clustered {
        in_a_cluster(office, lxd, stored, silence).await
    } else {
        alone(office, lxd, stored).await
    }
}

/// The heartbeat of the agent of a machine, if it says that it controls.
async fn leads(office: &Office, target: &HostTarget) -> Option<Beat> {
    let host = office.hosts.host(target);
    let beat = tokio::time::timeout(HEARTBEAT, host.beat())
        .await
        .ok()?
        .ok()?;
    let current = beat.epoch >= office.machine.epochs.highest().number;
    (beat.leading && current).then_some(beat)
}

/// Keeps a copy of the controller's memory, which has changed; whether that worked.
async fn keep_copy(office: &Office) -> bool {
    let Some(_leave) = office.machine.local.may_ask_lxd() else {
        return false;
    };
    let Some(socket) = find_lxd_socket(office.lxd_socket.as_deref()) else {
        return false;
    };
    let Ok(lxd) = Lxd::unix(socket) else {
        return false;
    };
    let Ok(Some(read)) = Store::new(lxd).read().await else {
        return false;
    };
    match office.keep(read.memory, office.kept().report) {
        Ok(()) => true,
        Err(error) => {
            tracing::warn!(%error, "the accepted state was not kept");
            false
        }
    }
}

/// LXD is in no cluster: only the initiator has something to do.
async fn alone(office: &Office, lxd: Lxd, stored: Option<Read>) -> Next {
    let name = office.name();
    let read = office.reading().map(|r| r.resources).unwrap_or_default();
    let founding = office.founding().unwrap_or_default();
    let own = stored
        .as_ref()
        .is_some_and(|read| read.memory.lease.holder == name);
    let founds = stored.is_none() && (office.founds(&read) || office.founds(&founding));
    if (own || founds)
        && let Some(reason) = lost_its_cluster(office).await
    {
        return Next::Wait(reason);
    }
    match stored {
        Some(read) if read.memory.lease.holder == name => take(office, lxd, read).await,
        Some(read) => Next::Wait(format!(
            "LXD on this machine holds the memory of a controller on {}, which is another machine; \
             delete the project microcloud in LXD if that one is gone",
            read.memory.lease.holder
        )),
        None if founds => {
            let epoch = office.machine.epochs.highest().number + 1;
            Next::Lead(lxd, None, epoch)
        }
        None => Next::Wait(
            "LXD on this machine is in no cluster: the member that is named as initiator forms it, \
             and its controller takes this machine in"
                .to_owned(),
        ),
    }
}

/// Why this machine must not form a cluster although its LXD is in none: the cluster's trust store
/// on its disk says that it belongs to one. Its LXD was reinstalled or thrown out. Leading here
/// would take the epoch from the one who controls that cluster.
async fn lost_its_cluster(office: &Office) -> Option<String> {
    let name = office.name();
    let others = office.machine.trust.store().members;
    let mut silent = None;
    for (other, member) in others.iter().filter(|(other, _)| *other != name) {
        let target = HostTarget {
            name: other.clone(),
            address: member.address,
            fingerprint: Some(member.fingerprint.clone()),
        };
        let host = office.hosts.host(&target);
        let report = tokio::time::timeout(HEARTBEAT, host.report()).await;
        match report.map(|answer| answer.map(|report| report.lxd)) {
            Ok(Ok(LxdReport::Running(lxd))) if lxd.clustered => {
                return Some(format!(
                    "{name} belongs to the cluster of {other}, but LXD on it is in no cluster (was \
                     it reinstalled?): it forms no second one; remove its old row there (lxc \
                     cluster remove --force {name}) and it joins again"
                ));
            }
            Ok(Ok(_)) => {}
            Ok(Err(error)) => silent = Some(error.to_string()),
            Err(_) => silent = Some(format!("{other} did not answer in time")),
        }
    }
    // As long as one is silent there may be a cluster.
    silent.map(|why| {
        format!(
            "{name} belongs to a cluster, but LXD on it is in none, and it forms no second one \
             while it does not know about the first: {why}"
        )
    })
}

async fn in_a_cluster(
    office: &Office,
    lxd: Lxd,
    stored: Option<Read>,
    silence: &mut Silence,
) -> Next {
    let name = office.name().to_owned();
    let lease = stored
        .as_ref()
        .map(|r| r.memory.lease.clone())
        .unwrap_or_default();
    if let Some(read) = &stored {
        if let Err(error) = office.keep(read.memory.clone(), office.kept().report) {
            tracing::warn!(%error, "the accepted state was not kept");
        }
        if lease.holder == name {
            return match stored {
                Some(read) => take(office, lxd, read).await,
                None => Next::Wait(String::new()),
            };
        }
    }
    if !lease.holder.is_empty() {
        let Some(target) = office.target(&lease.holder) else {
            return Next::Wait(format!(
                "{} controls, and nothing says where it is",
                lease.holder
            ));
        };
        if leads(office, &target).await.is_some() {
            silence.heard();
            return Next::Follow(target);
        }
    }
    let members = match lxd.members().await {
        Ok(members) => members,
        Err(e) => return Next::Wait(format!("the members of the cluster cannot be read: {e}")),
    };
    let Some(turn) = turn(&members, &name, &lease.holder) else {
        return Next::Wait(match lease.holder.as_str() {
            "" => "nobody controls yet; the agent beside LXD's database leader will".to_owned(),
            holder => format!("{holder} does not control, and this member holds no database"),
        });
    };
    match stored {
        None => {
            let read = office.reading().map(|r| r.resources).unwrap_or_default();
            let wanted = office.founding().is_some()
                || read
                    .iter()
                    .any(|r| r.kind() == crate::resources::Kind::Cluster);
            if turn == 0 && wanted {
                let epoch = office.machine.epochs.highest().number + 1;
                return Next::Lead(lxd, None, epoch);
            }
            Next::Wait(
                "nobody controls this cluster, and no resources were given for it".to_owned(),
            )
        }
        Some(read) => {
            let silent = silence.of(&lease);
            let patience = if lease.holder.is_empty() {
                Duration::ZERO
            } else {
                SILENCE
            };
            let due = patience + TURN * turn;
            if silent >= due {
                take(office, lxd, read).await
            } else {
                let reason = format!(
                    "{} has not said for {} s that it controls",
                    lease.holder,
                    silent.as_secs()
                );
                Next::WaitFor(reason, due.saturating_sub(silent))
            }
        }
    }
}

/// Which turn a member has to take over: the database leader first, then the other voters by
/// name; none for a member without the database.
fn turn(members: &[Member], name: &str, holder: &str) -> Option<u32> {
    let is = |member: &Member, role: &str| member.roles.iter().any(|r| r == role);
    let mut voters: Vec<&Member> = members
        .iter()
        .filter(|m| m.server_name != holder)
        .filter(|m| is(m, "database") || is(m, "database-voter") || is(m, "database-leader"))
        .collect();
    voters.sort_by_key(|m| (!is(m, "database-leader"), m.server_name.clone()));
    let position = voters.iter().position(|m| m.server_name == name)?;
    u32::try_from(position).ok()
}

/// Writes the lease with the next epoch.
async fn take(office: &Office, lxd: Lxd, read: Read) -> Next {
    let epoch = read
        .memory
        .lease
        .epoch
        .max(office.machine.epochs.highest().number)
        + 1;
    let mut memory = read.memory.clone();
    memory.lease = Lease {
        epoch,
        holder: office.name().to_owned(),
    };
    match Store::new(lxd.clone()).write(&read, &memory).await {
        Ok(read) => Next::Lead(lxd, Some(Box::new(read)), epoch),
        Err(e) => Next::Wait(format!("this member could not take over: {e}")),
    }
}

/// Controls until something ends it.
async fn lead(
    office: &Arc<Office>,
    lxd: Lxd,
    memory: Option<Read>,
    epoch: u64,
    stop: &CancellationToken,
) {
    let epochs = &office.machine.epochs;
    if let Err(error) = epochs.admit(epoch, office.name()) {
        office.set_duty(Duty::Waiting(super::with_causes(&error)));
        return;
    }
    epochs.set_claim(Some(epoch));
    tracing::info!(epoch, "taking control");
    let controller = Arc::new(Controller::start(Config {
        member: office.name().to_owned(),
        epoch,
        lxd,
        hosts: office.hosts.clone(),
        clock: Clock::system(),
        memory,
        concurrency: CONCURRENCY,
    }));
    office.set_duty(Duty::Leading(controller.clone()));
    // Cancel safe: the controller is stopped below, whatever ended it.
    tokio::select! {
        () = stop.cancelled() => {}
        ended = controller.ended() => tracing::warn!(?ended, "control ended"),
        () = superseded(office, epoch) => {
            tracing::warn!("another member controls with a higher epoch");
        }
        () = lxd_gone(office) => tracing::warn!("LXD is gone from this machine: control ends"),
        () = keep(office, &controller) => {}
    }
    // What is shown from now on is the end of it, not what was written a second ago.
    let last = office.keep(controller.memory(), Some(controller.status()));
    if let Err(error) = last {
        tracing::warn!(%error, "the accepted state was not kept");
    }
    epochs.set_claim(None);
    office.set_duty(Duty::Waiting(
        "this member has just stopped controlling".to_owned(),
    ));
    controller.stop().await;
}

async fn superseded(office: &Office, epoch: u64) {
    while office.machine.epochs.highest().number <= epoch {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

async fn lxd_gone(office: &Office) {
    let mut since = None;
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        if office.machine.lxd_started.get().is_empty() {
            let since = since.get_or_insert_with(Instant::now);
            if since.elapsed() >= SILENCE {
                return;
            }
        } else {
            since = None;
        }
    }
}

/// Keeps the accepted state and the report on disk; never ends.
async fn keep(office: &Office, controller: &Controller) {
    let mut version = None;
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let now = (controller.memory_version(), *controller.changes().borrow());
        if version == Some(now) {
            continue;
        }
        version = Some(now);
        office
            .machine
            .memory_version
            .store(now.0, std::sync::atomic::Ordering::Relaxed);
        if let Err(error) = office.keep(controller.memory(), Some(controller.status())) {
            tracing::warn!(%error, "the accepted state was not kept");
        }
    }
}
