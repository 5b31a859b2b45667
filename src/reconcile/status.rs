//! What is shown of each object: conditions after kstatus, the difference, and the sentences.

use super::plan::{Change, Note, Plan, Refused, Verb, Waiting, reasons};
use crate::resources::value::Mode;
use crate::resources::{ObjectRef, Origin};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The type of a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ConditionType {
    /// It is as wanted. Always there.
    Ready,
    /// Work goes on, or is waited for. There only when true.
    Reconciling,
    /// It cannot heal by trying again: somebody must change something. There only when true.
    Stalled,
    /// It is not looked at. There only when true.
    Suspended,
    /// Its resource is gone and it is left as it is. There only when true.
    Orphaned,
}

/// One condition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// The type.
    #[serde(rename = "type")]
    pub kind: ConditionType,
    /// Whether it holds.
    pub status: bool,
    /// A stable word.
    pub reason: String,
    /// A sentence.
    pub message: String,
    /// Since when the status is what it is.
    pub last_transition_time: Timestamp,
    /// The generation it was found on.
    pub observed_generation: u64,
}

/// Everything that is shown of one object.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectStatus {
    /// The object.
    pub object: ObjectRef,
    /// Where its resource is written, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
    /// The count of content changes of its resource.
    pub generation: u64,
    /// The conditions.
    pub conditions: Vec<Condition>,
    /// What happens to it as a whole.
    pub verb: Verb,
    /// The difference.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<Change>,
    /// What it waits for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waiting_on: Vec<Waiting>,
    /// What is refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<Refused>,
    /// What is shown and left alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<Note>,
    /// When it is tried again after a failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_at: Option<Timestamp>,
    /// When it counts that its resource is not there any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gone_at: Option<Timestamp>,
}

impl ObjectStatus {
    /// The condition of a type, if it is there.
    pub fn condition(&self, kind: ConditionType) -> Option<&Condition> {
        self.conditions.iter().find(|c| c.kind == kind)
    }

    /// Whether it is as wanted.
    pub fn ready(&self) -> bool {
        self.condition(ConditionType::Ready)
            .is_some_and(|c| c.status)
    }

    /// Whether its resource is gone and it stays, because it may hold data.
    pub fn orphaned(&self) -> bool {
        self.condition(ConditionType::Orphaned).is_some()
    }

    /// The status of an object whose resource is new or changed, until it is planned: it is not
    /// ready, and its conditions are about the generation before.
    pub fn not_looked_at(
        object: &ObjectRef,
        origin: Option<&Origin>,
        generation: u64,
        before: Option<&ObjectStatus>,
        now: Timestamp,
    ) -> ObjectStatus {
        let condition = |kind: ConditionType, status: bool| {
            let known = before.and_then(|b| b.condition(kind));
            Condition {
                kind,
                status,
                reason: reasons::PROGRESSING.to_owned(),
                message: "its resource is new or changed and was not looked at yet".to_owned(),
                last_transition_time: known
                    .filter(|c| c.status == status)
                    .map_or(now, |c| c.last_transition_time),
                observed_generation: known.map_or(0, |c| c.observed_generation),
            }
        };
        ObjectStatus {
            object: object.clone(),
            origin: origin.cloned(),
            generation,
            conditions: vec![
                condition(ConditionType::Ready, false),
                condition(ConditionType::Reconciling, true),
            ],
            verb: Verb::Unchanged,
            changes: Vec::new(),
            waiting_on: Vec::new(),
            refused: Vec::new(),
            notes: Vec::new(),
            retry_at: None,
            gone_at: None,
        }
    }

    /// Says of an object that somebody else reported on that it is not ready since `at`.
    pub fn not_ready(&mut self, reason: &str, message: &str, at: Timestamp) {
        let condition = |kind: ConditionType, status: bool, observed_generation: u64| Condition {
            kind,
            status,
            reason: reason.to_owned(),
            message: message.to_owned(),
            last_transition_time: at,
            observed_generation,
        };
        let ready = self.condition(ConditionType::Ready);
        if ready.is_some_and(|c| !c.status) {
            // It was not ready for another reason, which it goes on saying.
            return;
        }
        let observed = ready.map_or(0, |c| c.observed_generation);
        self.conditions.retain(|c| c.kind != ConditionType::Ready);
        self.conditions
            .insert(0, condition(ConditionType::Ready, false, observed));
        self.conditions
            .push(condition(ConditionType::Reconciling, true, observed));
    }

    /// The word a table shows.
    pub fn word(&self) -> &'static str {
        let has = |kind| self.condition(kind).is_some();
        match () {
            () if has(ConditionType::Suspended) => "Suspended",
            () if has(ConditionType::Orphaned) => "Orphaned",
            () if self.ready() => "Ready",
            () if has(ConditionType::Stalled) => "Stalled",
            () => "Reconciling",
        }
    }
}

/// What a status is made from.
#[derive(Debug)]
pub struct Inputs<'a> {
    /// The plan.
    pub plan: &'a Plan,
    /// What admission holds back.
    pub held: Option<&'a Waiting>,
    /// The last failure: its category and message.
    pub error: Option<(&'a str, &'a str)>,
    /// When it is tried again.
    pub retry_at: Option<Timestamp>,
    /// Where the resource is written.
    pub origin: Option<&'a Origin>,
    /// How far the controller goes.
    pub mode: Mode,
    /// Whether the newest version of the resource is broken, with its first error.
    pub broken: Option<String>,
    /// The generation.
    pub generation: u64,
    /// The time.
    pub now: Timestamp,
}

/// Makes the status of an object; conditions whose status did not change keep their time.
pub fn make(inputs: &Inputs<'_>, before: Option<&ObjectStatus>) -> ObjectStatus {
    let plan = inputs.plan;
    let mut waiting_on = plan.waiting_on.clone();
    waiting_on.extend(inputs.held.cloned());
    let mut conditions = Vec::new();
    let mut add = |kind: ConditionType, status: bool, reason: &str, message: String| {
        let since = before
            .and_then(|b| b.condition(kind))
            .filter(|c| c.status == status)
            .map_or(inputs.now, |c| c.last_transition_time);
        conditions.push(Condition {
            kind,
            status,
            reason: reason.to_owned(),
            message,
            last_transition_time: since,
            observed_generation: inputs.generation,
        });
    };
    let (ready, reason, message) = summary(inputs, &waiting_on);
    add(ConditionType::Ready, ready, &reason, message.clone());
    if inputs.mode == Mode::Suspended {
        add(ConditionType::Suspended, true, reasons::SUSPENDED, message);
    } else if inputs.origin.is_none() && reason == reasons::ORPHANED {
        add(ConditionType::Orphaned, true, reasons::ORPHANED, message);
    } else if !ready {
        let stalled = !plan.refused.is_empty();
        let kind = if stalled {
            ConditionType::Stalled
        } else {
            ConditionType::Reconciling
        };
        add(kind, true, &reason, message);
    }
    ObjectStatus {
        object: plan.object.clone(),
        origin: inputs.origin.cloned(),
        generation: inputs.generation,
        conditions,
        verb: plan.verb,
        changes: plan.changes.clone(),
        waiting_on,
        refused: plan.refused.clone(),
        notes: plan.notes.clone(),
        retry_at: inputs.retry_at,
        gone_at: None,
    }
}

/// The one sentence: whether it is ready, and if not, why.
fn summary(inputs: &Inputs<'_>, waiting_on: &[Waiting]) -> (bool, String, String) {
    let plan = inputs.plan;
    let not = |reason: &str, message: String| (false, reason.to_owned(), message);
    if inputs.mode == Mode::Suspended {
        return not(
            reasons::SUSPENDED,
            "it is suspended: nothing is looked at or written".into(),
        );
    }
    if let Some(refused) = plan.refused.first() {
        return not(&refused.reason, refused.message.clone());
    }
    if let Some((category, message)) = inputs.error {
        return not(category, message.to_owned());
    }
    if let Some(waiting) = waiting_on.first() {
        return not(&waiting.reason, waiting.message.clone());
    }
    if let Some(message) = &inputs.broken {
        return not(
            reasons::BROKEN,
            format!("its newest version is broken and the last good one is in force: {message}"),
        );
    }
    if let Some(note) = plan.notes.first() {
        return not(&note.reason, note.message.clone());
    }
    if !plan.settled() {
        if inputs.mode == Mode::Report && plan.steps.is_empty() {
            let message = format!(
                "{} fields differ; mode Report writes nothing",
                plan.changes.len()
            );
            return not(reasons::REPORT_ONLY, message);
        }
        let doing = plan
            .steps
            .first()
            .map_or("work goes on", |s| s.sentence.as_str());
        return not(reasons::PROGRESSING, doing.to_owned());
    }
    (
        true,
        reasons::READY.to_owned(),
        "it is as written".to_owned(),
    )
}
