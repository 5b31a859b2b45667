//! What an agent tells while no controller does: what the last one told, how old that is, and who
//! of the members is lost, with what each carried.

use super::api::{AgentStatus, MachineStatus};
use super::office::{Duty, Office};
use super::witness::Silent;
use crate::reconcile::Controller;
use crate::reconcile::clock::age;
use crate::reconcile::controller::StatusReport;
use crate::reconcile::placement::UNREACHABLE;
use crate::reconcile::plan::reasons;
use crate::resources::{Kind, ObjectRef};
use crate::services::peer::VERSION;
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::time::Duration;

/// The machines as the controller sees them.
pub(super) fn machines_of(controller: &Controller) -> BTreeMap<String, MachineStatus> {
    controller
        .machines()
        .into_iter()
        .map(|(name, machine)| {
            let error = machine.error;
            let message = match machine.silent_since {
                // What its `Member` will say when it counts as lost.
                Some(since) if machine.seen && !machine.lost => Some(format!(
                    "no answer for {} s",
                    age(controller.now(), since).as_secs().max(1)
                )),
                _ => error.clone(),
            };
            let shown = MachineStatus {
                address: machine.address,
                answers: machine.seen && (error.is_none() || !machine.lost),
                message,
                agent_version: machine.agent_version,
                service: machine.service,
                burden: machine.burden,
                services: machine.services,
            };
            (name, shown)
        })
        .collect()
}

/// Why nobody controls, as this agent knows it.
pub(super) fn reason(office: &Office, waiting: &str) -> String {
    let Some((leader, silent)) = office.witness.silent_leader() else {
        return waiting.to_owned();
    };
    let members = office.witness.members();
    let mut text = format!(
        "{leader}, which controlled, has not answered for {} s",
        seconds(silent.lasts())
    );
    if members.len() > 1 && members.values().all(Option::is_some) {
        text.push_str(", and neither does any other member: is this machine cut off?");
    } else if !waiting.starts_with(&leader) {
        text.push_str(&format!("; {waiting}"));
    }
    text
}

/// What is known without a controller.
pub(super) fn cached(office: &Office) -> AgentStatus {
    let duty = office.duty();
    let (leader, waiting) = match &duty {
        Duty::Waiting(waiting) => (None, waiting.clone()),
        Duty::Following(leader) => (
            Some(leader.name.clone()),
            format!("{} controls and does not answer", leader.name),
        ),
        Duty::Leading(_) => (Some(office.name().to_owned()), String::new()),
    };
    let told = office.witness.told();
    let mut status = as_told(office, told);
    status.role = duty.role();
    status.leader = leader;
    status.reason = Some(reason(office, &waiting));
    for (name, silent) in office.witness.members() {
        if let Some(silent) = silent {
            lost(&mut status, &name, &silent);
        }
    }
    status
}

/// What was known before this agent took over, until it has looked at everything itself.
pub(super) fn taken_over(office: &Office, report: &StatusReport) -> Option<AgentStatus> {
    if report.synced {
        return None;
    }
    let mut status = as_told(office, None);
    // Its own last report is of before it was started again.
    let before = status.report.as_ref()?;
    if before.lease.epoch >= report.lease.epoch || before.lease.holder == office.name() {
        return None;
    }
    status.role = super::api::Role::Leading;
    status.leader = Some(office.name().to_owned());
    status.reason = Some("it has just taken over and looks at everything first".to_owned());
    Some(status)
}

/// The last report, as it was told.
fn as_told(office: &Office, told: Option<Timestamp>) -> AgentStatus {
    let kept = office.kept();
    let told_at = kept
        .report
        .as_ref()
        .map(|r| told.map_or(r.at, |at| at.max(r.at)));
    AgentStatus {
        member: office.name().to_owned(),
        version: VERSION.to_owned(),
        role: super::api::Role::Waiting,
        leader: None,
        reason: None,
        directory: office.directory_status(),
        told_by: kept.report.as_ref().map(|r| r.lease.holder.clone()),
        told_at,
        report: kept.report,
        cached: true,
        machines: kept.machines,
    }
}

/// Shows a member as lost, its machine and its resource alike.
fn lost(status: &mut AgentStatus, name: &str, silent: &Silent) {
    let machine = status.machines.entry(name.to_owned()).or_default();
    let message = format!(
        "{name} has not answered for {} s: {}{}",
        seconds(silent.lasts()),
        silent.error,
        machine.burden
    );
    machine.answers = false;
    for placed in &mut machine.services {
        placed.status = UNREACHABLE.to_owned();
    }
    machine.message = Some(message.clone());
    let object = ObjectRef::new(Kind::Member, name);
    let objects = status.report.iter_mut().flat_map(|r| &mut r.objects);
    if let Some(member) = objects.into_iter().find(|o| o.object == object) {
        member.not_ready(reasons::UNREACHABLE, &message, silent.since);
    }
}

fn seconds(duration: Duration) -> u64 {
    duration.as_secs().max(1)
}
