//! What people and other agents ask a controller for.

use super::round::generation;
use super::{Controller, Counters, Inner, State};
use crate::reconcile::clock::after;
use crate::reconcile::desired::Desired;
use crate::reconcile::history::{Event, Severity};
use crate::reconcile::memory::{Approval, Lease, Memory, Suspension};
use crate::reconcile::observe::Everything;
use crate::reconcile::observe::Needs;
use crate::reconcile::placement::{self, Placed};
use crate::reconcile::plan::{self, Change, Note, Plan, Refused, Topic, Verb, Waiting};
use crate::reconcile::status::ObjectStatus;
use crate::resources::accepted::{ABSENCE_COUNTS_AFTER, Accepted, Conflict, Refused as NotApplied};
use crate::resources::kinds::MemberState;
use crate::resources::{Broken, Kind, ObjectRef, Origin, Reading, Resource, SourceName};
use crate::services::host::{HostReport, LxdReport};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// How long an approval holds unless it is used.
const APPROVAL: Duration = Duration::from_secs(30 * 60);

/// Why a request was not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(tag = "error", rename_all = "camelCase")]
pub enum RequestError {
    /// The watched directory owns what was to be changed.
    #[error("{}", .reasons.join("; "))]
    NotApplied {
        /// Each with its file and line.
        reasons: Vec<String>,
    },
    /// There is no such thing.
    #[error("{message}")]
    NotFound {
        /// What is not there.
        message: String,
    },
    /// The memory could not be written: nothing was changed.
    #[error("it could not be kept: {message}")]
    NotKept {
        /// Why.
        message: String,
    },
}

/// What became of one resource that was applied or deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Applied {
    /// The resource.
    pub object: ObjectRef,
    /// `created`, `configured`, `unchanged`, `deleted`.
    pub result: String,
}

/// A plan as it is shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlanReport {
    /// The object.
    pub object: ObjectRef,
    /// Where its resource is written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
    /// What happens to it as a whole.
    pub verb: Verb,
    /// The whole difference.
    pub changes: Vec<Change>,
    /// What can be done now, in words.
    pub steps: Vec<String>,
    /// What it waits for.
    pub waiting_on: Vec<Waiting>,
    /// What is refused.
    pub refused: Vec<Refused>,
    /// What is shown and left alone.
    pub notes: Vec<Note>,
}

impl PlanReport {
    fn of(plan: Plan, origin: Option<Origin>) -> PlanReport {
        PlanReport {
            object: plan.object,
            origin,
            verb: plan.verb,
            changes: plan.changes,
            steps: plan.steps.into_iter().map(|s| s.sentence).collect(),
            waiting_on: plan.waiting_on,
            refused: plan.refused,
            notes: plan.notes,
        }
    }

    /// Whether anything differs.
    pub fn differs(&self) -> bool {
        self.verb != Verb::Unchanged || !self.changes.is_empty()
    }
}

/// What is known of one source.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SourceReport {
    /// The accepted revision.
    pub revision: String,
    /// How many resources are in force.
    pub resources: usize,
    /// What is broken.
    pub broken: Vec<Broken>,
    /// Why the last reading failed as a whole.
    pub unreadable: Option<String>,
    /// Resources that are missing and will count as absent.
    pub absent: Vec<ObjectRef>,
}

/// Everything at once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StatusReport {
    /// Rises with every change of what is shown.
    pub version: u64,
    /// When it was made.
    pub at: Timestamp,
    /// Who controls.
    pub lease: Lease,
    /// Whether the first full look was made.
    pub synced: bool,
    /// The sources.
    pub sources: BTreeMap<SourceName, SourceReport>,
    /// Resources that both sources name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conflicts: Vec<Conflict>,
    /// The objects.
    pub objects: Vec<ObjectStatus>,
    /// Suspensions from the command line.
    pub suspensions: Vec<Suspension>,
    /// Approvals that were given and not used.
    pub approvals: BTreeMap<String, Approval>,
    /// What the controller counted of its own work.
    pub counters: Counters,
    /// Requests and writes sent to LXD.
    pub lxd_requests: (u64, u64),
}

impl StatusReport {
    /// Whether everything is as wanted and nothing is broken. What nothing wants any more and
    /// stays because it may hold data is shown, and is not something to wait for.
    pub fn all_ready(&self) -> bool {
        self.synced
            && !self.objects.is_empty()
            && self.objects.iter().all(|o| o.ready() || o.orphaned())
            && self
                .sources
                .values()
                .all(|s| s.broken.is_empty() && s.unreadable.is_none())
    }
}

/// A machine as it was last seen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MachineReport {
    /// Its address.
    pub address: String,
    /// Whether it was ever looked at.
    pub seen: bool,
    /// Why the last look failed.
    pub error: Option<String>,
    /// Whether it has been silent for so long that it counts as lost; its `Member` says so too.
    pub lost: bool,
    /// Since when it does not answer.
    pub silent_since: Option<Timestamp>,
    /// What would be said of it, were it lost.
    pub burden: String,
    /// Its agent's version.
    pub agent_version: String,
    /// Its instance service.
    pub service: String,
    /// What it runs, as it was seen last.
    pub services: Vec<Placed>,
}

/// Which objects are meant; all when there are none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Filter {
    /// The objects.
    pub objects: Vec<ObjectRef>,
}

impl Controller {
    /// The version of what is shown, to wait for its changes.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.inner.changed.subscribe()
    }

    /// What is shown of everything.
    pub fn status(&self) -> StatusReport {
        let inner = &self.inner;
        let state = inner.state();
        let accepted = &state.memory.accepted;
        let source = |s: &crate::resources::accepted::SourceState| SourceReport {
            revision: s.revision.clone(),
            resources: s.resources.len(),
            broken: s.broken.clone(),
            unreadable: s.unreadable.clone(),
            absent: s.absent_since.keys().cloned().collect(),
        };
        StatusReport {
            version: *inner.changed.borrow(),
            at: inner.clock.now(),
            lease: state.memory.lease.clone(),
            synced: *inner.synced.borrow(),
            sources: [
                (SourceName::Directory, source(&accepted.directory)),
                (SourceName::Applied, source(&accepted.applied)),
            ]
            .into(),
            conflicts: accepted.conflicts(),
            objects: objects(&state, inner.clock.now()),
            suspensions: state.memory.suspensions.clone(),
            approvals: state.memory.approvals.clone(),
            counters: state.counters,
            lxd_requests: inner.lxd.counters(),
        }
    }

    /// The time, as this controller tells it.
    pub fn now(&self) -> Timestamp {
        self.inner.clock.now()
    }

    /// What this controller counted of its own work.
    pub fn counters(&self) -> Counters {
        self.inner.state().counters
    }

    /// Whether everything is as wanted, the queue included.
    pub fn all_ready(&self) -> bool {
        let state = self.inner.state();
        *self.inner.synced.borrow()
            && state.in_flight.is_empty()
            && state.desired.resources.keys().all(|o| {
                state
                    .statuses
                    .get(o)
                    .is_some_and(|s| s.ready() && state.settled.contains_key(o))
            })
    }

    /// The accepted resources.
    pub fn resources(&self) -> Vec<Resource> {
        self.inner
            .state()
            .desired
            .resources
            .values()
            .map(|r| (***r).clone())
            .collect()
    }

    /// The memory, as it is to be written next.
    pub fn memory(&self) -> Memory {
        self.inner.state().memory.clone()
    }

    /// The accepted resources of each source.
    pub fn accepted(&self) -> Arc<Accepted> {
        self.inner.state().memory.accepted.clone()
    }

    /// The version of the memory, as it is to be written next.
    pub fn memory_version(&self) -> u64 {
        self.inner.state().memory_version
    }

    /// The machines of the members, as far as they were looked at.
    pub fn machines(&self) -> BTreeMap<String, MachineReport> {
        let state = self.inner.state();
        let now = self.inner.clock.now();
        let view = state.view(now);
        let burdens = plan::Burdens::of(&view);
        state
            .desired
            .members()
            .filter(|(name, member)| {
                // One that has left is no machine of the cloud any more.
                let rows = state.world.lxd.members.known();
                member.state != MemberState::Absent || rows.is_some_and(|r| r.contains_key(*name))
            })
            .map(|(name, member)| {
                let host = state.world.hosts.get(name);
                let report = host.and_then(|h| h.report.known());
                let service = match report.map(|r| &r.lxd) {
                    Some(LxdReport::Running(lxd)) => format!("{} {}", lxd.server, lxd.version),
                    Some(LxdReport::NotRunning { .. }) => "not running".to_owned(),
                    Some(LxdReport::JoinCut) => "join cut in two".to_owned(),
                    Some(LxdReport::NotInstalled) => "not installed".to_owned(),
                    None => String::new(),
                };
                let lost = host.is_some_and(|h| plan::is_lost(h, now));
                let shown = MachineReport {
                    address: member.address.to_string(),
                    seen: report.is_some(),
                    error: host.and_then(|h| h.error.as_ref()).map(ToString::to_string),
                    lost,
                    silent_since: host.and_then(|h| h.silent_since),
                    burden: burdens.of_member(name),
                    agent_version: report.map(|r| r.agent_version.clone()).unwrap_or_default(),
                    service,
                    services: placement::of_member(name, member, lost, &state.world),
                };
                (name.to_owned(), shown)
            })
            .collect()
    }

    /// The machines that answered when they were looked at last.
    pub fn reports(&self) -> Vec<HostReport> {
        let state = self.inner.state();
        let answered = state.world.hosts.values().filter(|h| h.error.is_none());
        answered
            .filter_map(|host| host.report.known().cloned())
            .collect()
    }

    /// Looks at everything there is, with what is known of it.
    pub async fn everything(&self) -> Everything {
        let lxd = self.inner.observer.all().await;
        let state = self.inner.state();
        let hosts = state.world.hosts.iter();
        Everything {
            lxd,
            hosts: hosts
                .filter_map(|(name, host)| Some((name.clone(), host.report.known()?.clone())))
                .collect(),
            resources: state
                .memory
                .accepted
                .desired()
                .into_values()
                .cloned()
                .collect(),
            disks: state.memory.disks.clone(),
        }
    }

    /// Events after a number.
    pub fn events(&self, after: u64) -> Vec<Event> {
        self.inner.state().history.after(after)
    }

    /// Takes a reading of a source in. What is broken keeps its last good version.
    ///
    /// # Errors
    /// The memory could not be written; the reading is to be given again.
    pub async fn submit(&self, reading: &Reading) -> Result<(), RequestError> {
        let inner = &self.inner;
        let _turn = inner.accepting.lock().await;
        let (next, before) = {
            let state = inner.state();
            let now = inner.clock.now();
            let (next, _) = state.memory.accepted.accept(reading, now);
            (next, state.memory.accepted.clone())
        };
        if next == *before {
            return Ok(());
        }
        inner.accept(next).await
    }

    /// How long until the directory must be read again although nothing changed, because what is
    /// missing counts as absent then.
    pub fn recheck_in(&self) -> Option<Duration> {
        let at = self.inner.state().memory.accepted.recheck_at()?;
        Some(self.inner.clock.until(at))
    }

    /// Applies resources to the source `applied`.
    ///
    /// # Errors
    /// The directory owns one of them, or the memory could not be written: nothing is applied.
    pub async fn apply(&self, resources: Vec<Resource>) -> Result<Vec<Applied>, RequestError> {
        let inner = &self.inner;
        let _turn = inner.accepting.lock().await;
        let (next, results) = {
            let state = inner.state();
            let accepted = &state.memory.accepted;
            let results = resources
                .iter()
                .map(|r| {
                    let object = r.reference();
                    let result = match accepted.get(&object) {
                        None => "created",
                        Some(before) if before.digest() == r.digest() => "unchanged",
                        Some(_) => "configured",
                    };
                    Applied {
                        object,
                        result: result.to_owned(),
                    }
                })
                .collect();
            (accepted.apply(resources).map_err(not_applied)?, results)
        };
        inner.accept(next).await?;
        Ok(results)
    }

    /// Takes resources out of the source `applied`.
    ///
    /// # Errors
    /// The directory owns one of them, nobody applied it, or the memory could not be written.
    pub async fn delete(&self, objects: &[ObjectRef]) -> Result<Vec<Applied>, RequestError> {
        let inner = &self.inner;
        let _turn = inner.accepting.lock().await;
        let next = {
            let state = inner.state();
            let (next, _) = state.memory.accepted.delete(objects).map_err(not_applied)?;
            next
        };
        inner.accept(next).await?;
        Ok(objects
            .iter()
            .map(|object| Applied {
                object: object.clone(),
                result: "deleted".to_owned(),
            })
            .collect())
    }

    /// What would be done: for the accepted resources, or with these applied on top.
    ///
    /// # Errors
    /// The directory owns one of them.
    pub fn diff(&self, with: Option<Vec<Resource>>) -> Result<Vec<PlanReport>, RequestError> {
        let inner = &self.inner;
        let state = inner.state();
        let desired = match with {
            None => state.desired.clone(),
            Some(resources) => {
                let accepted = &state.memory.accepted;
                let accepted = accepted.apply(resources).map_err(not_applied)?;
                Arc::new(Desired::of(&accepted, &state.memory.trust, &state.desired))
            }
        };
        let view = plan::View {
            now: inner.clock.now(),
            desired: &desired,
            world: &state.world,
            memory: &state.memory,
        };
        let objects: BTreeSet<&ObjectRef> = desired
            .resources
            .keys()
            .chain(state.memory.inventory.keys())
            .collect();
        Ok(objects
            .into_iter()
            .map(|object| {
                let origin = desired.resources.get(object).map(|r| r.origin.clone());
                PlanReport::of(plan::plan(object, &view), origin)
            })
            .collect())
    }

    /// Looks at everything again now, and works on what was asked for. What was recorded before is
    /// written when this returns.
    ///
    /// # Errors
    /// One of the objects is not there.
    pub async fn reconcile(&self, filter: &Filter) -> Result<(), RequestError> {
        let inner = &self.inner;
        {
            let state = inner.state();
            for object in &filter.objects {
                if !state.desired.resources.contains_key(object)
                    && !state.memory.inventory.contains_key(object)
                {
                    let message = format!("there is no {object}");
                    return Err(RequestError::NotFound { message });
                }
            }
        }
        inner.look_at_everything().await;
        inner.look_at_machines().await;
        // What was recorded until now is written before this is answered: a failed write is told by
        // an event and tried again.
        let version = inner.state().memory_version;
        let _ = inner.safe(version).await;
        let state = inner.state();
        if filter.objects.is_empty() {
            inner.wake_all(&state);
        }
        for object in &filter.objects {
            inner.wake(object, Duration::ZERO);
        }
        Ok(())
    }

    /// Approves a step that a plan asks for, once.
    ///
    /// # Errors
    /// No plan asks for it, or it could not be kept.
    pub async fn approve(&self, step: &str) -> Result<(), RequestError> {
        let inner = &self.inner;
        let asked = inner
            .state()
            .statuses
            .values()
            .any(|s| s.refused.iter().any(|r| r.approve.as_deref() == Some(step)));
        if !asked {
            let message = format!(
                "no plan waits for the approval of `{step}`: microcloud status shows those that do"
            );
            return Err(RequestError::NotFound { message });
        }
        let now = inner.clock.now();
        let approval = Approval {
            given: now,
            expires: after(now, APPROVAL),
        };
        inner
            .commit(|memory| {
                memory.approvals.retain(|_, a| a.expires > now);
                memory.approvals.insert(step.to_owned(), approval);
            })
            .await
            .map_err(|message| RequestError::NotKept { message })?;
        let mut state = inner.state();
        state.tell(
            now,
            None,
            Severity::Normal,
            "Approved",
            format!("{step} was approved"),
        );
        // What is approved of one object may be what another one was kept for.
        inner.wake_all(&state);
        Ok(())
    }

    /// Suspends an object, or all of them, for a time.
    ///
    /// # Errors
    /// It could not be kept.
    pub async fn suspend(
        &self,
        object: Option<ObjectRef>,
        duration: Duration,
        reason: Option<String>,
    ) -> Result<(), RequestError> {
        let now = self.inner.clock.now();
        let suspension = Suspension {
            object,
            until: after(now, duration),
            reason,
        };
        self.change_suspensions(|suspensions| {
            suspensions.retain(|s| s.until > now && s.object != suspension.object);
            suspensions.push(suspension);
        })
        .await?;
        // It ends by itself.
        let inner = &self.inner;
        let state = inner.state();
        let absent = state.memory.inventory.keys();
        for object in state.desired.resources.keys().chain(absent) {
            inner.wake(object, Duration::ZERO);
        }
        Ok(())
    }

    /// Ends the suspension of an object, or the one of all, and looks at it anew: who resumes and
    /// waits is not told that it is ready because of how it was.
    ///
    /// # Errors
    /// It could not be kept.
    pub async fn resume(&self, object: Option<ObjectRef>) -> Result<(), RequestError> {
        let inner = &self.inner;
        match &object {
            Some(object) => {
                inner.state().world.dirty.insert(object.clone());
            }
            None => inner.look_at_everything().await,
        }
        self.change_suspensions(|suspensions| suspensions.retain(|s| s.object != object))
            .await?;
        inner.wake_all(&inner.state());
        Ok(())
    }

    async fn change_suspensions(
        &self,
        change: impl FnOnce(&mut Vec<Suspension>),
    ) -> Result<(), RequestError> {
        self.inner
            .commit(|memory| change(&mut memory.suspensions))
            .await
            .map_err(|message| RequestError::NotKept { message })
    }

    /// Changes who is trusted.
    ///
    /// # Errors
    /// It could not be kept.
    pub async fn remember(&self, change: impl FnOnce(&mut Memory)) -> Result<(), RequestError> {
        self.inner
            .commit(change)
            .await
            .map_err(|message| RequestError::NotKept { message })
    }
}

fn not_applied(refused: Vec<NotApplied>) -> RequestError {
    RequestError::NotApplied {
        reasons: refused.iter().map(ToString::to_string).collect(),
    }
}

impl Inner {
    /// Makes a new set of resources the wanted one: it is kept first, then worked on.
    async fn accept(&self, next: Accepted) -> Result<(), RequestError> {
        let (before, desired) = {
            let state = self.state();
            let before = state.desired.clone();
            let desired = Desired::of(&next, &state.memory.trust, &before);
            (before, Arc::new(desired))
        };
        let mut changed: BTreeSet<ObjectRef> = BTreeSet::new();
        for (object, resource) in &desired.resources {
            let was = before.resources.get(object);
            if was.is_none_or(|r| r.digest != resource.digest)
                || before.stale.get(object) != desired.stale.get(object)
            {
                changed.insert(object.clone());
            }
        }
        let gone = before
            .resources
            .keys()
            .filter(|o| !desired.resources.contains_key(*o));
        changed.extend(gone.cloned());
        if plan::moves_server_volumes(&before, &desired) {
            let members = desired.of_kind(Kind::Member);
            changed.extend(members.map(|(object, _)| object.clone()));
        }
        let kept = self
            .commit(|memory| {
                if memory.hash_key.is_empty() {
                    memory.hash_key = random_key();
                }
                memory.accepted = Arc::new(next);
            })
            .await;
        {
            let mut state = self.state();
            state.needs = Needs::of(&desired, &state.memory.inventory);
            state.desired = desired;
            not_looked_at(&mut state, &changed, self.clock.now());
        }
        self.look_at_secrets().await;
        self.look_at_parts(&changed);
        self.worked_on(&changed);
        kept.map_err(|message| RequestError::NotKept { message })
    }

    /// Reads again what a changed resource needs to be known in more detail than before.
    fn look_at_parts(&self, changed: &BTreeSet<ObjectRef>) {
        if !*self.synced.borrow() {
            return;
        }
        let detailed: Vec<ObjectRef> = {
            let state = self.state();
            changed
                .iter()
                .filter(|o| {
                    state
                        .desired
                        .resources
                        .get(*o)
                        .is_some_and(|resource| plan::reads_parts(resource, &state.desired))
                })
                .cloned()
                .collect()
        };
        let mut state = self.state();
        state.world.dirty.extend(detailed);
    }

    /// Wakes what a change of resources may mean something for.
    fn worked_on(&self, changed: &BTreeSet<ObjectRef>) {
        let state = self.state();
        let wide = changed
            .iter()
            .any(|o| matches!(o.kind, Kind::Cluster | Kind::Disk));
        if wide {
            self.wake_all(&state);
        }
        for object in changed {
            self.wake(object, Duration::ZERO);
            self.wake_waiting(&state, &Topic::Object(object.clone()));
        }
        if changed.iter().any(|o| o.kind == Kind::Member) {
            self.beats.notify_one();
            // Who is listed decides whether and how the cluster forms, and who gives what to
            // pools and uplinks.
            for object in state.desired.resources.keys() {
                if !matches!(object.kind, Kind::Profile | Kind::Project | Kind::Member) {
                    self.wake(object, Duration::ZERO);
                }
            }
        }
        self.wake_waiting(&state, &Topic::Operator);
        drop(state);
        self.show();
    }
}

/// What was found of an object before its resource changed says nothing about the new one.
fn not_looked_at(state: &mut State, changed: &BTreeSet<ObjectRef>, now: Timestamp) {
    for object in changed {
        let resource = state.desired.resources.get(object).cloned();
        let entry = state.memory.inventory.get(object);
        if let Some(status) = state.statuses.get_mut(object) {
            let origin = resource.as_ref().map(|r| &r.origin);
            let generation = generation(entry, resource.as_deref());
            *status = ObjectStatus::not_looked_at(object, origin, generation, Some(status), now);
        }
    }
}

/// How it stands with every object, those included that were not planned yet.
fn objects(state: &State, now: Timestamp) -> Vec<ObjectStatus> {
    let mut objects = state.statuses.clone();
    for (object, resource) in &state.desired.resources {
        objects.entry(object.clone()).or_insert_with(|| {
            let generation = generation(state.memory.inventory.get(object), Some(resource));
            ObjectStatus::not_looked_at(object, Some(&resource.origin), generation, None, now)
        });
    }
    let accepted = &state.memory.accepted;
    for source in [&accepted.directory, &accepted.applied] {
        for (object, since) in &source.absent_since {
            if let Some(status) = objects.get_mut(object) {
                status.gone_at = since.checked_add(ABSENCE_COUNTS_AFTER).ok();
            }
        }
    }
    objects.into_values().collect()
}

/// A key nobody can guess, hex.
fn random_key() -> String {
    let mut bytes = [0_u8; 32];
    // The ring provider reads the kernel's generator; it fails only where there is none.
    match rustls::crypto::ring::default_provider()
        .secure_random
        .fill(&mut bytes)
    {
        Ok(()) => crate::resources::resource::hex(&bytes),
        Err(_) => String::new(),
    }
}
