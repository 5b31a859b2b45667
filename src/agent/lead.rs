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
//! - How long a holder has been silent is counted by the heartbeats that did not come, which go on
//!   while LXD does not answer: with the holder's machine LXD loses a member too, and its database
//!   stands still until the others have elected a leader.
//! - A holder whose LXD is gone for ten seconds, or that hears of a higher epoch, stops leading.

use super::api::AgentStatus;
use super::office::{Duty, Office};
use super::witness::HEARTBEAT;
use crate::reconcile::clock::Clock;
use crate::reconcile::controller::{CONCURRENCY, Config, Controller};
use crate::reconcile::memory::Lease;
use crate::reconcile::store::{Read, Store};
use crate::resources::Spec;
use crate::resources::kinds::MemberState;
use crate::services::host::local::find_lxd_socket;
use crate::services::host::{Beat, HostTarget, LxdReport};
use crate::services::lxd::Lxd;
use crate::services::lxd::types::Member;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
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

/// A heartbeat that takes longer than this is late: LXD is asked something then. It notices that the
/// machine of its database's leader is lost only when what it sent there was not acknowledged for
/// 15 s, and while nobody asks, it sends nothing.
const LATE: Duration = Duration::from_millis(700);

/// How long LXD may take to answer before it is asked another time, and how often.
const AGAIN: Duration = Duration::from_secs(1);
const AGAIN_MOST: u32 = 9;

/// How long the controller's report may take.
const REPORT: Duration = Duration::from_secs(5);

/// A report is asked for again not before this many times what asking for it took.
const REPORT_SHARE: u32 = 20;

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
    let mut copies = Copies::default();
    let mut since = Due::default();
    while !stop.is_cancelled() {
        let mut look = LOOK;
        let next = tokio::select! {
            () = stop.cancelled() => return,
            next = decide(&office, &mut copies, &mut since) => next,
        };
        match next {
            Next::Lead(lxd, memory, epoch) => {
                copies = Copies::default();
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

/// Since when this agent sees that a holder is to be followed by another one. All see it at the same
/// moment, when LXD's database answers again: their turns begin then.
#[derive(Debug, Default)]
struct Due(Option<(Lease, Instant)>);

impl Due {
    /// For how long that has been so with this lease.
    fn of(&mut self, lease: &Lease) -> Duration {
        match &self.0 {
            Some((due, since)) if due == lease => since.elapsed(),
            _ => {
                self.0 = Some((lease.clone(), Instant::now()));
                Duration::ZERO
            }
        }
    }
}

/// What was copied of the controller that is followed.
#[derive(Debug, Default)]
struct Copies {
    /// The version of its memory.
    memory: Option<u64>,
    /// The epoch and version of what it shows.
    shown: Option<(u64, u64)>,
    /// When it may be asked for that again: a large one is not asked for at every change.
    next: Option<Instant>,
}

impl Copies {
    /// Copies what changed, as a heartbeat says.
    async fn follow(&mut self, office: &Office, leader: &HostTarget, beat: &Beat) {
        if self.memory != Some(beat.memory_version) && keep_copy(office).await {
            self.memory = Some(beat.memory_version);
        }
        let shown = (beat.epoch, beat.shown);
        let due = self.next.is_none_or(|at| Instant::now() >= at);
        if self.shown != Some(shown) && due {
            let begun = Instant::now();
            if keep_report(office, leader).await {
                self.shown = Some(shown);
            }
            self.next = Some(begun + begun.elapsed() * REPORT_SHARE);
        }
    }
}

async fn decide(office: &Arc<Office>, copies: &mut Copies, since: &mut Due) -> Next {
    // A leader that answers is followed without asking LXD anything.
    if let Duty::Following(target) = office.duty() {
        let mut answer = {
            let mut answer = pin!(leads(office, &target));
            match tokio::time::timeout(LATE, &mut answer).await {
                Ok(answer) => answer,
                Err(_) => {
                    wake_lxd(office);
                    answer.await
                }
            }
        };
        if let Err(error) = &answer {
            office.witness.missed_leader(&target.name, error);
            // One alone may come late where there is much to do.
            answer = leads(office, &target).await;
        }
        match answer {
            Ok(beat) => {
                office.witness.heard_leader(&target.name);
                copies.follow(office, &target, &beat).await;
                return Next::Follow(target);
            }
            // Told at once: LXD may take long to answer now.
            Err(_) => office.set_duty(Duty::Waiting(format!("{} does not answer", target.name))),
        }
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
    let store = Store::new(lxd.clone());
    let asked = Instant::now();
    let (server, stored) = tokio::join!(lxd.server(), again(|| store.read()));
    tracing::debug!(took = ?asked.elapsed(), server = server.is_ok(), stored = stored.is_ok(), "asked LXD");
    let server = match server {
        Ok(server) => server.value.environment,
        Err(e) => return Next::Wait(format!("LXD does not answer: {e}")),
    };
    let stored = match stored {
        Ok(stored) => stored,
        Err(e) => return Next::Wait(e.to_string()),
    };
    if server.server_clustered {
        in_a_cluster(office, lxd, stored, since).await
    } else {
        alone(office, lxd, stored).await
    }
}

/// Asks LXD something, for it to notice that its database's leader is lost if it is.
fn wake_lxd(office: &Arc<Office>) {
    let office = Arc::clone(office);
    tokio::spawn(async move {
        let Some(_leave) = office.machine.local.may_ask_lxd() else {
            return;
        };
        let lxd = find_lxd_socket(office.lxd_socket.as_deref()).map(Lxd::unix);
        if let Some(Ok(lxd)) = lxd {
            // What it answers is asked again by whoever needs it.
            let _ = Store::new(lxd).lease().await;
        }
    });
}

/// Asks until one of the questions is answered. LXD that has lost its database's leader lets a
/// question hang on the lost machine, and answers one that comes later.
async fn again<T, E, F: Future<Output = Result<T, E>>>(ask: impl Fn() -> F) -> Result<T, E> {
    let mut asked = FuturesUnordered::new();
    asked.push(ask());
    let mut left = AGAIN_MOST;
    loop {
        // Cancel safe: a question that is dropped is one that reads.
        tokio::select! {
            Some(answer) = asked.next() => match answer {
                Ok(answer) => return Ok(answer),
                Err(error) if asked.is_empty() => return Err(error),
                Err(_) => {}
            },
            () = tokio::time::sleep(AGAIN), if left > 0 => {
                left -= 1;
                asked.push(ask());
            }
        }
    }
}

/// The heartbeat of the agent of a machine, if it says that it controls; why not otherwise.
async fn leads(office: &Office, target: &HostTarget) -> Result<Beat, String> {
    let host = office.hosts.host(target);
    let beat = match tokio::time::timeout(HEARTBEAT, host.beat()).await {
        Ok(answer) => answer.map_err(|error| error.to_string())?,
        Err(_) => return Err(format!("no answer within {} s", HEARTBEAT.as_secs())),
    };
    let current = beat.epoch >= office.machine.epochs.highest().number;
    if beat.leading && current {
        Ok(beat)
    } else {
        Err(format!(
            "the agent of {} answers and does not control",
            target.name
        ))
    }
}

/// Keeps a copy of what the controller shows, which has changed: should it be lost, this agent
/// tells what it carried. Whether that worked.
async fn keep_report(office: &Office, leader: &HostTarget) -> bool {
    let asked = office.client.forward(
        leader,
        axum::http::Method::GET,
        "/v1/control/status",
        Default::default(),
        REPORT,
    );
    let Ok(answer) = asked.await else {
        return false;
    };
    let Ok(told) = serde_json::from_slice::<AgentStatus>(&answer.body) else {
        return false;
    };
    // One that has just taken over knows less than what is kept here.
    let Some(report) = told.report.filter(|report| report.synced && !told.cached) else {
        return false;
    };
    let kept = office.keep(|kept| {
        kept.report = Some(report);
        kept.machines = told.machines;
    });
    kept.inspect_err(|error| tracing::warn!(%error, "what the controller told was not kept"))
        .is_ok()
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
    match office.keep(|kept| kept.memory = Some(read.memory)) {
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

async fn in_a_cluster(office: &Office, lxd: Lxd, stored: Option<Read>, since: &mut Due) -> Next {
    let name = office.name().to_owned();
    let lease = stored
        .as_ref()
        .map(|r| r.memory.lease.clone())
        .unwrap_or_default();
    if let Some(read) = &stored {
        let memory = read.memory.clone();
        if let Err(error) = office.keep(|kept| kept.memory = Some(memory)) {
            tracing::warn!(%error, "the accepted state was not kept");
        }
        if lease.holder == name {
            let leaving = leaving(stored.as_ref());
            if leaving.contains(&name) && somebody_stays(&lxd, &leaving).await {
                return Next::Wait(
                    "this member leaves the cluster, and another one is to control".to_owned(),
                );
            }
            return match stored {
                Some(read) => take(office, lxd, read).await,
                None => Next::Wait(String::new()),
            };
        }
    }
    // Both at once: with a member of LXD lost, either may take its time.
    let (heard, members) = tokio::join!(
        async {
            if lease.holder.is_empty() {
                return Ok(None);
            }
            let Some(target) = office.target(&lease.holder) else {
                return Err(format!(
                    "{} controls, and nothing says where it is",
                    lease.holder
                ));
            };
            // Who is asked all the time and says nothing need not be waited for once more.
            if office.witness.silence_now(&lease.holder) >= SILENCE {
                return Ok(None);
            }
            match leads(office, &target).await {
                Ok(_) => Ok(Some(target)),
                Err(error) => {
                    office.witness.missed_leader(&lease.holder, &error);
                    Ok(None)
                }
            }
        },
        lxd.members()
    );
    match heard {
        Ok(Some(target)) => {
            office.witness.heard_leader(&target.name);
            return Next::Follow(target);
        }
        Ok(None) => {}
        Err(reason) => return Next::Wait(reason),
    }
    let members = match members {
        Ok(members) => members,
        Err(e) => return Next::Wait(format!("the members of the cluster cannot be read: {e}")),
    };
    let Some(turn) = turn(&members, &name, &lease.holder, &leaving(stored.as_ref())) else {
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
            let silent = office.witness.silence_of(&lease.holder);
            let patience = if lease.holder.is_empty() {
                Duration::ZERO
            } else {
                SILENCE
            };
            if silent < patience {
                let reason = format!("{} has not said for long that it controls", lease.holder);
                return Next::WaitFor(reason, patience.saturating_sub(silent));
            }
            let (due, waited) = (TURN * turn, since.of(&lease));
            if waited >= due {
                take(office, lxd, read).await
            } else {
                let reason = format!("{} does not control; others come first", lease.holder);
                Next::WaitFor(reason, due.saturating_sub(waited))
            }
        }
    }
}

/// Members that are to leave, as the accepted resources say.
fn leaving(stored: Option<&Read>) -> BTreeSet<String> {
    let desired = stored.map(|read| read.memory.accepted.desired());
    let resources = desired.into_iter().flatten();
    let leaving = resources.filter(|(_, resource)| {
        matches!(&resource.spec, Spec::Member(spec) if spec.state == MemberState::Absent)
    });
    leaving.map(|(object, _)| object.name).collect()
}

/// Whether the cluster has a member that stays and works, so that one that leaves need not control.
async fn somebody_stays(lxd: &Lxd, leaving: &BTreeSet<String>) -> bool {
    let members = lxd.members().await.unwrap_or_default();
    let stays = |m: &Member| !leaving.contains(&m.server_name) && m.status == "Online";
    members.iter().any(stays)
}

/// Which turn a member has to take over: the database leader first, then the other voters by
/// name; none for a member without the database, or that leaves. Where only those have it that
/// leave, all others have a turn.
fn turn(members: &[Member], name: &str, holder: &str, leaving: &BTreeSet<String>) -> Option<u32> {
    let is = |member: &Member, role: &str| member.roles.iter().any(|r| r == role);
    let votes =
        |m: &&Member| is(m, "database") || is(m, "database-voter") || is(m, "database-leader");
    let stay = || {
        let stay = members.iter().filter(|m| !leaving.contains(&m.server_name));
        stay.filter(|m| m.server_name != holder)
    };
    let mut voters: Vec<&Member> = stay().filter(votes).collect();
    if voters.is_empty()
        && members
            .iter()
            .filter(votes)
            .all(|m| leaving.contains(&m.server_name))
    {
        voters = stay().collect();
    }
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
    office.witness.forget();
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
    keep_own(office, &controller);
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
        let machine = &office.machine;
        machine.memory_version.store(now.0, Ordering::Relaxed);
        machine.shown.store(now.1, Ordering::Relaxed);
        keep_own(office, controller);
    }
}

/// Keeps what the controller here knows. While it has not looked at everything, what was known
/// before says more than its report.
fn keep_own(office: &Office, controller: &Controller) {
    let report = controller.status();
    let kept = office.keep(|kept| {
        kept.memory = Some(controller.memory());
        if report.synced {
            kept.report = Some(report);
            kept.machines = super::last_known::machines_of(controller);
        }
    });
    if let Err(error) = kept {
        tracing::warn!(%error, "the accepted state was not kept");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[tokio::test(start_paused = true)]
    async fn a_question_that_hangs_is_asked_again_beside_it() {
        let asked = Cell::new(0);
        let begun = Instant::now();
        let answer: Result<u32, ()> = again(|| {
            asked.set(asked.get() + 1);
            let number = asked.get();
            async move {
                if number < 3 {
                    std::future::pending::<()>().await;
                }
                Ok(number)
            }
        })
        .await;
        assert_eq!(answer, Ok(3));
        assert_eq!(begun.elapsed(), AGAIN * 2);
    }

    #[test]
    fn who_leaves_does_not_take_over_while_another_one_can() {
        let member = |name: &str, role: &str| Member {
            server_name: name.to_owned(),
            roles: vec![role.to_owned()],
            ..Member::default()
        };
        let nobody = BTreeSet::new();
        let first = BTreeSet::from(["a".to_owned()]);
        let three = [
            member("a", "database"),
            member("b", "database-leader"),
            member("c", "database-standby"),
        ];
        assert_eq!(turn(&three, "a", "b", &nobody), Some(0));
        assert_eq!(turn(&three, "a", "c", &first), None, "it leaves");
        assert_eq!(turn(&three, "b", "a", &first), Some(0));
        assert_eq!(turn(&three, "c", "a", &first), None, "it has no database");
        let two = [
            member("a", "database-leader"),
            member("b", "database-standby"),
        ];
        assert_eq!(turn(&two, "b", "a", &first), Some(0), "who else");
        assert_eq!(turn(&two, "b", "a", &nobody), None);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_is_answered_is_asked_once_and_a_failure_is_told_at_once() {
        let asked = Cell::new(0);
        let ask = |answer: Result<u32, u32>| {
            asked.set(asked.get() + 1);
            async move { answer }
        };
        assert_eq!(again(|| ask(Ok(1))).await, Ok(1));
        assert_eq!(again(|| ask(Err(2))).await, Err(2));
        assert_eq!(asked.get(), 2);
    }
}
