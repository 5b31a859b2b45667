//! Which of the planned steps may run together. Pure.
//!
//! # Guarantees
//! Two steps whose claims conflict never run at once. What is held back says what it waits for,
//! and is planned again when the claim is free.

use super::plan::step::ClaimOn;
use super::plan::{Claim, Plan, Step, Topic, Waiting, reasons};
use crate::resources::ObjectRef;

/// Claims that are held now, by whom and for what.
#[derive(Debug, Clone, Default)]
pub struct InFlight {
    held: Vec<(ObjectRef, Claim, String)>,
}

impl InFlight {
    /// Takes the claims of steps that were admitted.
    pub fn take(&mut self, steps: &[Step]) {
        for step in steps {
            for claim in &step.claims {
                self.held
                    .push((step.object.clone(), claim.clone(), step.sentence.clone()));
            }
        }
    }

    /// Gives back everything an object holds.
    pub fn give_back(&mut self, object: &ObjectRef) {
        self.held.retain(|(holder, _, _)| holder != object);
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Whether a step changes who is in the cluster now: it looks afterwards, whatever is heard of
    /// it meanwhile.
    pub fn changes_membership(&self) -> bool {
        let alone = |claim: &Claim| claim.exclusive && claim.on == ClaimOn::Membership;
        self.held.iter().any(|(_, claim, _)| alone(claim))
    }

    fn conflict(&self, step: &Step) -> Option<&str> {
        self.held.iter().find_map(|(holder, held, sentence)| {
            let clash = *holder != step.object && step.claims.iter().any(|c| c.conflicts(held));
            clash.then_some(sentence.as_str())
        })
    }
}

/// What was decided about one plan's steps.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Admitted {
    /// The steps to run now, in this order, stopping at the first that fails.
    pub run: Vec<Step>,
    /// Why the rest is held.
    pub held: Option<Waiting>,
}

/// Chooses the steps of a plan that may run beside what is in flight. A plan's steps build on one
/// another, so the first that is held holds the rest.
pub fn admit(plan: &Plan, in_flight: &InFlight) -> Admitted {
    let mut admitted = Admitted::default();
    for step in &plan.steps {
        if let Some(other) = in_flight.conflict(step) {
            admitted.held = Some(Waiting {
                on: Topic::Claims,
                reason: reasons::CLAIMED.to_owned(),
                message: format!("to {}, it waits until this is done: {other}", step.sentence),
            });
            break;
        }
        admitted.run.push(step.clone());
    }
    admitted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reconcile::plan::Action;
    use crate::resources::Kind;

    fn step(name: &str, claims: Vec<Claim>) -> Step {
        let object = ObjectRef::new(Kind::Profile, name);
        Step::new(&object, Action::Release, claims, format!("touch {name}"))
    }

    fn plan(steps: Vec<Step>) -> Plan {
        let mut plan = Plan::nothing(&steps[0].object.clone());
        plan.steps = steps;
        plan
    }

    #[test]
    fn shared_claims_run_together_and_exclusive_ones_wait() {
        let shared = step("a", vec![Claim::shared(ClaimOn::Membership)]);
        let also = step("b", vec![Claim::shared(ClaimOn::Membership)]);
        let alone = step("c", vec![Claim::exclusive(ClaimOn::Membership)]);
        let mut in_flight = InFlight::default();
        in_flight.take(std::slice::from_ref(&shared));
        assert_eq!(admit(&plan(vec![also.clone()]), &in_flight).run.len(), 1);
        let held = admit(&plan(vec![alone.clone()]), &in_flight);
        assert!(held.run.is_empty());
        assert_eq!(held.held.expect("it is held").on, Topic::Claims);
        in_flight.give_back(&shared.object);
        assert_eq!(admit(&plan(vec![alone]), &in_flight).run.len(), 1);
    }

    #[test]
    fn the_first_held_step_holds_the_rest() {
        let mut in_flight = InFlight::default();
        in_flight.take(&[step("x", vec![Claim::exclusive(ClaimOn::ServerConfig)])]);
        let free = step("a", vec![]);
        let held = step("a", vec![Claim::exclusive(ClaimOn::ServerConfig)]);
        let admitted = admit(&plan(vec![free.clone(), held, free.clone()]), &in_flight);
        assert_eq!(admitted.run, vec![free]);
    }
}
