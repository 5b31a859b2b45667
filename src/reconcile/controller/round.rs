//! One attempt at one object: look, plan, admit, apply, look again.

use super::Inner;
use crate::reconcile::admit::{Admitted, admit};
use crate::reconcile::apply::ApplyError;
use crate::reconcile::desired::Wanted;
use crate::reconcile::history::Severity;
use crate::reconcile::memory::{Entry, Memory, Ownership};
use crate::reconcile::observe::absorb;
use crate::reconcile::plan::{
    self, Action as StepAction, Plan, Step, Topic, Verb, Waiting, reasons,
};
use crate::reconcile::queue::Action;
use crate::reconcile::status::{self, Inputs};
use crate::resources::kinds::MemberState;
use crate::resources::value::Mode;
use crate::resources::{Kind, ObjectRef, Spec};
use crate::services::host::TrustedMember;
use futures_util::future::join_all;
use jiff::Timestamp;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// How an attempt ended.
#[derive(Debug)]
pub(super) enum Outcome {
    /// As planned; look again as this says.
    Done(Action),
    /// Something failed, or the world moved on: try again after a pause that grows.
    Failed,
}

/// How often in a row the world may move on under an object's steps before that is told: once is
/// nothing to worry about, and what goes on and on is something that planning again does not help.
const OUTRUN: u32 = 3;

/// How often in a row the same may be done for an object: what has no effect although nobody says
/// so must not be done without a pause for ever.
const IN_VAIN: u32 = 4;

/// How long until an object that is in use is looked at again: what uses it says nothing when it
/// goes.
const IN_USE_AGAIN: Duration = Duration::from_secs(5);

/// How long until a machine that was busy with something else is asked again.
const BUSY_AGAIN: Duration = Duration::from_secs(1);

/// Works on one object once.
pub(super) async fn reconcile(object: &ObjectRef, inner: &Arc<Inner>) -> Outcome {
    let span = tracing::debug_span!("reconcile", %object);
    let _ = &span;
    let dirty = inner.state().world.dirty.contains(object);
    if dirty && let Err(reason) = inner.look_at(object).await {
        let now = inner.clock.now();
        let mut state = inner.state();
        let mut plan = Plan::nothing(object);
        plan.unknown(&object.to_string(), &reason);
        record(
            object,
            &plan,
            &Admitted::default(),
            None,
            inner,
            &mut state,
            now,
        );
        return Outcome::Failed;
    }
    let (plan, admitted) = match decide(object, inner) {
        Decision::Settled(action) => return Outcome::Done(action),
        Decision::Work(work) => *work,
    };
    let result = work(&plan, &admitted.run, inner).await;
    finish(object, &plan, &admitted, result, inner).await
}

enum Decision {
    Settled(Action),
    Work(Box<(Plan, Admitted)>),
}

/// Plans, admits and records, all at one moment.
fn decide(object: &ObjectRef, inner: &Arc<Inner>) -> Decision {
    let now = inner.clock.now();
    let mut guard = inner.state();
    let state = &mut *guard;
    state.counters.plans += 1;
    let mut plan = plan::plan(object, &state.view(now));
    drifted(&mut plan, state, now);
    let admitted = admit(&plan, &state.in_flight);
    let mut topics: BTreeSet<Topic> = plan.waiting_on.iter().map(|w| w.on.clone()).collect();
    if !plan.refused.is_empty() {
        topics.insert(Topic::Operator);
    }
    state.wait_on(object, topics);
    record(object, &plan, &admitted, None, inner, state, now);
    if object.kind == Kind::Member {
        coming(object, inner, state, now);
        admit_for_good(object, inner, state);
    }
    let idle = admitted.run.is_empty();
    state.in_flight.take(&admitted.run);
    let held = plan
        .steps
        .first()
        .filter(|_| idle && admitted.held.is_some());
    if state
        .turns
        .planned(object, held.map(|step| step.claims.clone()))
    {
        inner.call(state);
    }
    if idle {
        settle(object, &plan, inner, state);
        let mut again = plan.recheck_at.map(|at| inner.clock.until(at));
        if plan.waiting_on.iter().any(|w| w.reason == reasons::IN_USE) {
            state.world.dirty.insert(object.clone());
            again = Some(again.unwrap_or(IN_USE_AGAIN).min(IN_USE_AGAIN));
        }
        return Decision::Settled(again.map_or(Action::await_change(), Action::requeue));
    }
    Decision::Work(Box::new((plan, admitted)))
}

/// Keeps who is on the way into the cluster, and wakes what waits until nobody is.
fn coming(object: &ObjectRef, inner: &Inner, state: &mut super::State, now: Timestamp) {
    if plan::is_coming(object, &state.view(now)) {
        state.coming.insert(object.clone());
        return;
    }
    state.coming.remove(object);
    if !state.coming.is_empty() {
        return;
    }
    inner.wake_waiting(state, &Topic::Joiners);
    for object in std::mem::take(&mut state.parts) {
        inner.wake(&object, Duration::ZERO);
    }
    if std::mem::take(&mut state.moved) {
        inner.look_twice();
    }
}

/// A difference on an object that was as wanted and whose resource did not change is drift: it is
/// told, counted, and slowed down when it is a fight.
fn drifted(plan: &mut Plan, state: &mut super::State, now: Timestamp) {
    let object = plan.object.clone();
    let Some(resource) = state.desired.resources.get(&object).cloned() else {
        return;
    };
    // The inventory remembers it over a restart of the controller.
    let was_settled = state.settled.get(&object) == Some(&resource.digest)
        || state.memory.inventory.get(&object).is_some_and(|entry| {
            entry.digest == resource.digest && entry.ownership != Ownership::Intended
        });
    if !was_settled {
        state.breaker.reset(&object);
        return;
    }
    // What waits for others is told when it is done.
    if admit(plan, &state.in_flight).run.is_empty() {
        return;
    }
    let paths = plan.changes.iter().map(|c| c.path.clone());
    let paths: Vec<String> = paths.filter(|path| !plan.grown.contains(path)).collect();
    if paths.is_empty() {
        return;
    }
    if let Some((fought, at)) = state.breaker.held(&object, &paths, now) {
        plan.steps.clear();
        plan.recheck_at = Some(at);
        plan.note(
            reasons::FLAPPING,
            format!(
                "{} is changed back again and again by somebody else: it is only reverted once a \
                 minute until an hour was quiet",
                fought.join(", ")
            ),
        );
        return;
    }
    let who = state
        .foreign
        .remove(&object)
        .map_or_else(String::new, |event| {
            let by = event
                .requestor
                .map_or_else(String::new, |who| format!(" by {who}"));
            let on = if event.location.is_empty() || event.location == "none" {
                String::new()
            } else {
                format!(" on {}", event.location)
            };
            format!(" ({}{by}{on})", event.action)
        });
    let message = format!("{}{who}", describe(plan));
    state.tell(now, Some(&object), Severity::Warning, "Drifted", message);
    state.settled.remove(&object);
    state.counters.repairs += 1;
    if state.breaker.reverted(&object, &paths, now) {
        let message = format!(
            "{} was reverted more than 10 times in 10 minutes",
            paths.join(", ")
        );
        state.tell(
            now,
            Some(&object),
            Severity::Warning,
            reasons::FLAPPING,
            message,
        );
    }
}

/// What differs, in words.
fn describe(plan: &Plan) -> String {
    if plan.verb == Verb::Create {
        return "it was deleted".to_owned();
    }
    let shown: Vec<String> = plan
        .changes
        .iter()
        .map(|c| match (&c.from, &c.to) {
            (Some(from), Some(to)) => format!("{} was {from}, wanted {to}", c.path),
            (None, Some(to)) => format!("{} was gone, wanted {to}", c.path),
            (Some(from), None) => format!("{} was {from}, wanted none", c.path),
            (None, None) => c.path.clone(),
        })
        .collect();
    shown.join("; ")
}

/// Records the status, and wakes what waits on the object when it changed.
fn record(
    object: &ObjectRef,
    plan: &Plan,
    admitted: &Admitted,
    error: Option<&ApplyError>,
    inner: &Inner,
    state: &mut super::State,
    now: Timestamp,
) {
    let resource = state.desired.resources.get(object).cloned();
    let absent = resource.is_none() && !state.memory.inventory.contains_key(object);
    if absent && plan.settled() {
        if state.statuses.remove(object).is_some() {
            inner.show();
        }
        return;
    }
    let mode = match &resource {
        Some(_) if state.memory.suspension(object, now).is_some() => Mode::Suspended,
        Some(resource) => state.desired.mode(resource),
        None => state.desired.mode_of_absent(),
    };
    let message = error.map(ToString::to_string);
    let broken = state
        .desired
        .stale
        .get(object)
        .and_then(|d| d.first())
        .map(ToString::to_string);
    let inputs = Inputs {
        plan,
        held: admitted.held.as_ref(),
        error: error.map(ApplyError::category).zip(message.as_deref()),
        retry_at: None,
        origin: resource.as_ref().map(|r| &r.origin),
        mode,
        broken,
        generation: generation(state.memory.inventory.get(object), resource.as_deref()),
        now,
    };
    let before = state.statuses.get(object);
    let status = status::make(&inputs, before);
    if before == Some(&status) {
        return;
    }
    let turned = before.is_none_or(|b| b.ready() != status.ready());
    if turned && status.ready() {
        state.tell(
            now,
            Some(object),
            Severity::Normal,
            reasons::READY,
            "it is as written".into(),
        );
    } else if let Some(reason) = status.conditions.first().filter(|c| !c.status) {
        let told = before.and_then(|b| b.conditions.first());
        let working = reason.reason == reasons::PROGRESSING || reason.reason == reasons::CLAIMED;
        if !working && told.is_none_or(|t| t.message != reason.message) {
            let (reason, message) = (reason.reason.clone(), reason.message.clone());
            // What somebody asked for is no trouble.
            let severity = match reason.as_str() {
                reasons::SUSPENDED => Severity::Normal,
                _ => Severity::Warning,
            };
            state.tell(now, Some(object), severity, &reason, message);
        }
    }
    state.statuses.insert(object.clone(), status);
    if turned {
        inner.wake_waiting(state, &Topic::Object(object.clone()));
    }
    inner.show();
}

pub(super) fn generation(entry: Option<&Entry>, resource: Option<&Wanted>) -> u64 {
    match (entry, resource) {
        (Some(entry), Some(resource)) if entry.digest == resource.digest => entry.generation,
        (Some(entry), Some(_)) => entry.generation + 1,
        (Some(entry), None) => entry.generation,
        (None, _) => 1,
    }
}

/// An object that needs no step: the inventory is brought up to date, which is no write at all
/// when nothing changed.
fn settle(object: &ObjectRef, plan: &Plan, inner: &Inner, state: &mut super::State) {
    let Some(resource) = state.desired.resources.get(object).cloned() else {
        return;
    };
    if plan.settled() {
        state
            .settled
            .insert(object.clone(), resource.digest.clone());
        state.drifting.remove(object);
        state.repeated.remove(object);
        // What was heard of it until now is what is settled.
        state.foreign.remove(object);
    }
    let Some(found) = plan.record.as_ref().filter(|r| r.exists) else {
        return;
    };
    if !plan.settled() {
        return;
    }
    let before = state.memory.inventory.get(object);
    let entry = Entry {
        ownership: match before.map(|e| e.ownership) {
            None | Some(Ownership::Adopted) => Ownership::Adopted,
            Some(Ownership::Intended | Ownership::Created) => Ownership::Created,
        },
        generation: generation(before, Some(&resource)),
        digest: resource.digest.clone(),
        applied: found.applied.clone(),
        secrets: found.secrets.clone(),
        deletion: resource.deletion(),
    };
    state.intended.remove(object);
    let before = state.memory.inventory.get(object);
    if before != Some(&entry) {
        let object = object.clone();
        state.remember(|memory| {
            memory.inventory.insert(object, entry);
        });
        inner.flushes.notify_one();
    }
}

/// A member that has joined belongs to the cluster: from now on the trust store says which key is
/// its agent's, and no resource does. With the first of them goes the member that leads: who has a
/// trust store lets in nobody else.
fn admit_for_good(object: &ObjectRef, inner: &Inner, state: &mut super::State) {
    let own = ObjectRef::new(Kind::Member, inner.member.clone());
    let new: Vec<(String, TrustedMember)> = [&own, object]
        .into_iter()
        .filter(|member| !state.memory.trust.members.contains_key(&member.name))
        .filter_map(|member| Some((member.name.clone(), joined(member, state)?)))
        .collect();
    // Without the leader's own key nobody would be reached any more.
    let leads = |(name, _): &(String, TrustedMember)| *name == inner.member;
    if new.is_empty()
        || !(state.memory.trust.members.contains_key(&inner.member) || new.iter().any(leads))
    {
        return;
    }
    state.remember(|memory| {
        memory.trust.version += 1;
        memory.trust.members.extend(new);
    });
    inner.flushes.notify_one();
}

/// The agent of a member, if that is wanted and has joined.
fn joined(member: &ObjectRef, state: &super::State) -> Option<TrustedMember> {
    let resource = state.desired.resources.get(member)?;
    let Spec::Member(spec) = &resource.spec else {
        return None;
    };
    let members = state.world.lxd.members.known()?;
    let report = state.world.hosts.get(&member.name)?.report.known()?;
    let stays = spec.state != MemberState::Absent
        && state.world.lxd.clustered() == Some(true)
        && members.contains_key(&member.name);
    stays.then(|| TrustedMember {
        fingerprint: report.fingerprint.clone(),
        address: spec.address,
    })
}

/// Does the admitted steps in their order, beside each other where they say so, and stops where
/// one fails; what runs beside it comes to its end.
async fn work(plan: &Plan, steps: &[Step], inner: &Arc<Inner>) -> Result<(), ApplyError> {
    if let Some(first) = steps.first() {
        intend(plan, steps, inner)
            .await
            .map_err(|e| refuse(first, e))?;
    }
    let mut rest = steps;
    while !rest.is_empty() {
        let (now, later) = rest.split_at(together(rest));
        let results = join_all(now.iter().map(|step| one(step, inner))).await;
        results.into_iter().collect::<Result<(), ApplyError>>()?;
        rest = later;
    }
    Ok(())
}

/// How many of the first steps run beside each other.
fn together(steps: &[Step]) -> usize {
    let claimed = |n: usize| steps[..n].iter().flat_map(|s| &s.claims);
    let beside = |n: &usize| {
        let step = &steps[*n];
        step.beside && !claimed(*n).any(|c| step.claims.iter().any(|own| own.conflicts(c)))
    };
    1 + (1..steps.len()).take_while(beside).count()
}

fn refuse(step: &Step, reason: String) -> ApplyError {
    ApplyError::Stale {
        sentence: step.sentence.clone(),
        reason,
    }
}

async fn one(step: &Step, inner: &Arc<Inner>) -> Result<(), ApplyError> {
    if !step.remembers_only() {
        inner
            .confirm_lease(step.destructive())
            .await
            .map_err(|e| refuse(step, e))?;
    }
    inner.applier.apply(step).await?;
    tracing::info!(object = %step.object, "{}", step.sentence);
    after_step(step, inner).await.map_err(|e| refuse(step, e))
}

/// How many objects that are created next are written down in one go.
const INTENDED_TOGETHER: usize = 256;

/// What must be in the memory before anything happens: that we are about to create, so that a
/// crash in between does not turn our own object into somebody else's; and that approvals are
/// used up. Those that will be created right after this one are written down with it.
async fn intend(plan: &Plan, steps: &[Step], inner: &Arc<Inner>) -> Result<(), String> {
    let object = &plan.object;
    let (new, approvals) = {
        let now = inner.clock.now();
        let mut state = inner.state();
        let resource = state.desired.resources.get(object).cloned();
        let new = resource
            .filter(|_| steps.iter().any(Step::creates))
            .filter(|_| !state.memory.inventory.contains_key(object));
        let new: Vec<(ObjectRef, Entry)> = match new {
            Some(resource) => {
                let others = created_next(object, &mut state, now);
                [(object.clone(), resource)]
                    .into_iter()
                    .chain(others)
                    .map(|(object, resource)| (object, about_to_be(&resource)))
                    .collect()
            }
            None => Vec::new(),
        };
        let approvals: Vec<String> = steps
            .iter()
            .filter_map(|s| s.approval.clone())
            .filter(|a| state.memory.approvals.contains_key(a))
            .collect();
        (new, approvals)
    };
    let remembered: BTreeSet<String> = {
        let state = inner.state();
        let before = state.memory.inventory.get(object).map(|e| &e.applied);
        let steps = steps.iter().filter_map(|s| s.remembers.clone());
        steps
            .filter(|path| before.is_none_or(|applied| !applied.contains(path)))
            .collect()
    };
    let version = {
        let mut state = inner.state();
        if new.is_empty() && approvals.is_empty() && remembered.is_empty() {
            // It may be in the memory already, and not be written yet.
            state.intended.get(object).copied()
        } else {
            let objects: Vec<ObjectRef> = new.iter().map(|(object, _)| object.clone()).collect();
            let resource = state.desired.resources.get(object).cloned();
            let version = state.remember(|memory| {
                memory.inventory.extend(new);
                if let Some(resource) = resource.filter(|_| !remembered.is_empty()) {
                    let entry = memory.inventory.entry(object.clone());
                    let entry = entry.or_insert_with(|| Entry {
                        ownership: Ownership::Adopted,
                        ..about_to_be(&resource)
                    });
                    entry.applied.extend(remembered);
                }
                for approval in &approvals {
                    memory.approvals.remove(approval);
                }
            });
            state
                .intended
                .extend(objects.into_iter().map(|object| (object, version)));
            Some(version)
        }
    };
    if let Some(version) = version {
        inner.safe(version).await?;
        inner.state().intended.remove(object);
    }
    Ok(())
}

fn about_to_be(resource: &Wanted) -> Entry {
    Entry {
        ownership: Ownership::Intended,
        generation: 1,
        digest: resource.digest.clone(),
        applied: BTreeSet::new(),
        secrets: Default::default(),
        deletion: resource.deletion(),
    }
}

/// The objects of the same kind that come after this one and would be created now. Nothing is said
/// ahead of time of what is never pruned, such as that a member is about to join.
fn created_next(
    object: &ObjectRef,
    state: &mut super::State,
    now: Timestamp,
) -> Vec<(ObjectRef, Arc<Wanted>)> {
    if object.kind.never_pruned() {
        return Vec::new();
    }
    let view = state.view(now);
    let mut made = 0;
    let next: Vec<(ObjectRef, Arc<Wanted>)> = state
        .desired
        .resources
        .range(object..)
        .take_while(|(next, _)| next.kind == object.kind)
        .filter(|(next, _)| {
            *next != object
                && !state.memory.inventory.contains_key(*next)
                && !state.world.dirty.contains(*next)
        })
        .take(INTENDED_TOGETHER)
        .filter(|(next, _)| {
            made += 1;
            let plan = plan::plan(next, &view);
            let run = admit(&plan, &state.in_flight).run;
            run.iter().any(Step::creates)
        })
        .map(|(next, resource)| (next.clone(), resource.clone()))
        .collect();
    state.counters.plans += made;
    next
}

/// What a step that was done means for the memory.
async fn after_step(step: &Step, inner: &Arc<Inner>) -> Result<(), String> {
    let object = step.object.clone();
    let now = inner.clock.now();
    inner.state().counters.steps += 1;
    match &step.action {
        StepAction::ChooseDisk { member, choice } => {
            let (member, choice) = (member.clone(), choice.clone());
            inner
                .commit(|memory: &mut Memory| {
                    memory
                        .disks
                        .entry(object)
                        .or_default()
                        .insert(member, choice);
                })
                .await
        }
        StepAction::ForgetDisk { key } => {
            let key = key.clone();
            inner
                .commit(|memory: &mut Memory| {
                    if let Some(choices) = memory.disks.get_mut(&object) {
                        choices.remove(&key);
                        if choices.is_empty() {
                            memory.disks.remove(&object);
                        }
                    }
                })
                .await
        }
        StepAction::Release => {
            inner.remember(|memory| {
                memory.inventory.remove(&object);
            });
            Ok(())
        }
        _ if step.deletes() => {
            inner.remember(|memory| {
                memory.inventory.remove(&object);
                memory.deletions.retain(|at| {
                    crate::reconcile::clock::age(now, *at) < Duration::from_secs(3600)
                });
                memory.deletions.push(now);
            });
            Ok(())
        }
        StepAction::HandOver => {
            // What was begun is remembered before it ends; its successor goes on from there.
            inner.end(super::Ended::HandedOver);
            Ok(())
        }
        StepAction::ForgetMember { .. } => {
            let prefix = format!("{}:", object.name);
            let kept = inner
                .commit(|memory| {
                    if memory.trust.members.remove(&object.name).is_some() {
                        memory.trust.version += 1;
                    }
                    memory.inventory.remove(&object);
                    for choices in memory.disks.values_mut() {
                        choices.retain(|key, _| *key != object.name && !key.starts_with(&prefix));
                    }
                    memory.disks.retain(|_, choices| !choices.is_empty());
                })
                .await;
            let name = &step.object.name;
            let mut state = inner.state();
            state.world.forget_member(name);
            // What has parts on members has one less, and remembers so now.
            inner.wake_all(&state);
            kept
        }
        // What the inventory says of evacuation decides whether a later difference is ours.
        StepAction::Evacuate { .. } | StepAction::Restore { .. } => {
            let evacuated = matches!(step.action, StepAction::Evacuate { .. });
            inner
                .commit(|memory| {
                    if let Some(entry) = memory.inventory.get_mut(&object) {
                        let marker = "state.Evacuated".to_owned();
                        if evacuated {
                            entry.applied.insert(marker);
                        } else {
                            entry.applied.remove(&marker);
                        }
                    }
                })
                .await
        }
        _ => Ok(()),
    }
}

/// Looks at what the steps touched, gives the claims back and tells.
async fn finish(
    object: &ObjectRef,
    plan: &Plan,
    admitted: &Admitted,
    result: Result<(), ApplyError>,
    inner: &Arc<Inner>,
) -> Outcome {
    let membership = admitted.run.iter().any(|s| {
        matches!(
            s.action,
            StepAction::Bootstrap { .. }
                | StepAction::Join { .. }
                | StepAction::UndoJoin { .. }
                | StepAction::DropHalfJoined { .. }
                | StepAction::RemoveMember { .. }
                | StepAction::StrikeMember { .. }
                | StepAction::Evacuate { .. }
                | StepAction::Restore { .. }
        )
    });
    for step in &admitted.run {
        if let StepAction::Bootstrap { target }
        | StepAction::Join { target, .. }
        | StepAction::UndoJoin { target }
        | StepAction::WipeDisk { target, .. }
        | StepAction::CephHost { target, .. }
        | StepAction::CephAccess { target, .. } = &step.action
        {
            inner.look_at_machine(target).await;
        }
        if let StepAction::Ovn(action) = &step.action {
            inner.look_at_machine(action.target()).await;
        }
    }
    let of_ceph = admitted.run.iter().any(|s| {
        matches!(
            s.action,
            StepAction::CephHost { .. } | StepAction::CephAccess { .. } | StepAction::Ceph { .. }
        ) || matches!(
            // It made or deleted a pool there: what was seen before speaks of another moment.
            &s.action,
            StepAction::CreatePool { driver, .. } if driver.starts_with("ceph")
        ) || matches!(&s.action, StepAction::DeletePool { .. })
    });
    if of_ceph {
        inner.look_at_ceph(true).await;
    }
    // What stopped it from being made may be on any machine.
    let making = |s: &Step| {
        matches!(
            s.action,
            StepAction::CreatePool { .. } | StepAction::CreateNetwork { .. }
        )
    };
    if result.is_err() && admitted.run.iter().any(making) {
        inner.look_at_machines().await;
    }
    let formed = admitted
        .run
        .iter()
        .any(|s| matches!(s.action, StepAction::Bootstrap { .. }));
    if formed {
        inner.look_at_everything().await;
    } else {
        // First: who has come or gone is seen by who was there before, and this object may be it.
        if membership {
            inner.look_at_members().await;
        }
        // What could not be read stays marked, and the next round begins with reading it.
        let _ = inner.look_at(object).await;
    }
    if membership && !formed {
        // What stopped it is not the object itself and was not seen yet.
        if result.as_ref().is_err_and(ApplyError::is_stale) {
            inner.look_at_everything().await;
        }
    }
    let now = inner.clock.now();
    let mut guard = inner.state();
    let state = &mut *guard;
    inner.give_back(state, object);
    inner.wake_waiting(state, &Topic::Object(object.clone()));
    if membership {
        inner.wake_waiting(state, &Topic::Members);
        inner.wake_waiting(state, &Topic::World);
        for step in &admitted.run {
            if let StepAction::Join { target, .. } | StepAction::Bootstrap { target } = &step.action
            {
                inner.wake_waiting(state, &Topic::Host(target.name.clone()));
            }
        }
    }
    match result {
        Ok(()) => {
            state.outrun.remove(object);
            let sentences: Vec<&str> = admitted.run.iter().map(|s| s.sentence.as_str()).collect();
            let (reason, severity) = match plan.verb {
                Verb::Create => ("Created", Severity::Normal),
                Verb::Delete => ("Deleted", Severity::Normal),
                Verb::Release => ("Released", Severity::Normal),
                Verb::Update | Verb::Unchanged => ("Configured", Severity::Normal),
            };
            state.tell(now, Some(object), severity, reason, sentences.join("; "));
            if object.kind != Kind::Cluster && !state.desired.resources.contains_key(object) {
                // The rest of what is due for deletion is counted anew.
                inner.wake_waiting(state, &Topic::Operator);
            }
            match repeated(object, sentences.join("; "), state) {
                times if times < IN_VAIN => Outcome::Done(Action::requeue(Duration::ZERO)),
                times => {
                    if times == IN_VAIN {
                        let message = format!(
                            "done {times} times in a row without effect, and tried less often from \
                             now on: {}",
                            sentences.join("; ")
                        );
                        state.tell(now, Some(object), Severity::Warning, "NoEffect", message);
                    }
                    Outcome::Failed
                }
            }
        }
        Err(error) if error.busy().is_some() => {
            let message = error.busy().unwrap_or_default().to_owned();
            let waits = Admitted {
                run: Vec::new(),
                held: Some(Waiting {
                    on: Topic::Claims,
                    reason: reasons::PROGRESSING.to_owned(),
                    message,
                }),
            };
            record(object, plan, &waits, None, inner, state, now);
            Outcome::Done(Action::requeue(BUSY_AGAIN))
        }
        Err(error) if error.is_stale() && outrun(object, state) < OUTRUN => {
            tracing::debug!(%object, %error, "planned on something that changed");
            Outcome::Failed
        }
        Err(error) => {
            state.counters.failures += 1;
            let quiet = Admitted {
                run: admitted.run.clone(),
                held: None,
            };
            record(object, plan, &quiet, Some(&error), inner, state, now);
            Outcome::Failed
        }
    }
}

/// Counts one more time in a row that the world had moved on; gives the number.
fn outrun(object: &ObjectRef, state: &mut super::State) -> u32 {
    let times = state.outrun.entry(object.clone()).or_default();
    *times = times.saturating_add(1);
    *times
}

/// Counts how often in a row the same was done for an object that did not come to rest in between.
fn repeated(object: &ObjectRef, done: String, state: &mut super::State) -> u32 {
    let last = state.repeated.entry(object.clone()).or_default();
    if last.0 != done {
        *last = (done, 0);
    }
    last.1 = last.1.saturating_add(1);
    last.1
}

impl Inner {
    /// Reads one object again; what could not be read stays as it was and is marked.
    pub(super) async fn look_at(&self, object: &ObjectRef) -> Result<(), String> {
        let (needs, members) = {
            let mut state = self.state();
            state.world.dirty.remove(object);
            let members = state.world.lxd.members.known().map_or_else(Vec::new, |m| {
                m.values()
                    .filter(|m| m.value.status != "Offline")
                    .map(|m| m.value.server_name.clone())
                    .collect()
            });
            (state.needs.clone(), members)
        };
        let look = self.observer.object(object, &needs, &members).await;
        let mut state = self.state();
        if let Some(fresher) = &mut state.fresher {
            fresher.insert(object.clone());
        }
        let absorbed = if object.kind == Kind::Member {
            self.with_members(&mut state, |state| absorb(&mut state.world, look))
        } else {
            absorb(&mut state.world, look)
        };
        if absorbed.is_err() {
            state.world.dirty.insert(object.clone());
        }
        absorbed
    }

    /// Shows when an object is tried again.
    pub(super) fn retry(&self, object: &ObjectRef, delay: Duration) {
        let at = crate::reconcile::clock::after(self.clock.now(), delay);
        if let Some(status) = self.state().statuses.get_mut(object) {
            status.retry_at = Some(at);
        }
    }
}
