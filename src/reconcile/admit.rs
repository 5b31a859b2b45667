//! Which of the planned steps may run together. Pure.
//!
//! # Guarantees
//! Two steps whose claims conflict never run at once. What is held back says what it waits for,
//! and is planned again when its turn comes: of a thousand that wait for one claim, one is.

use super::plan::step::ClaimOn;
use super::plan::{Claim, Plan, Step, Topic, Waiting, reasons};
use crate::resources::ObjectRef;
use std::collections::BTreeMap;

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

    fn conflict(&self, step: &Step) -> Option<(&Claim, &str)> {
        self.held.iter().find_map(|(holder, held, sentence)| {
            let clash = *holder != step.object && step.claims.iter().any(|c| c.conflicts(held));
            clash.then_some((held, sentence.as_str()))
        })
    }
}

/// The objects whose next step waits for claims of others. They are called in turn, as many as
/// may run together.
#[derive(Debug, Clone, Default)]
pub struct Turns {
    /// What the step claims that each waits with.
    waiting: BTreeMap<ObjectRef, Vec<Claim>>,
    /// Those that were called and were not planned since.
    called: BTreeMap<ObjectRef, Vec<Claim>>,
}

impl Turns {
    /// An object was planned: it waits with these claims, or for none. Says whether it had been
    /// called, so that others may have to be called in its place.
    pub fn planned(&mut self, object: &ObjectRef, held: Option<Vec<Claim>>) -> bool {
        match held {
            Some(claims) => self.waiting.insert(object.clone(), claims),
            None => self.waiting.remove(object),
        };
        self.called.remove(object).is_some()
    }

    /// Calls those whose claims are free. Who waits longer in the order of names is not overtaken
    /// by one that wants the same.
    pub fn call(&mut self, in_flight: &InFlight) -> Vec<ObjectRef> {
        let mut taken: BTreeMap<ClaimOn, bool> = BTreeMap::new();
        let mut take = |claims: &[Claim]| {
            let free = claims.iter().all(|claim| {
                let held = taken.get(&claim.on);
                held.is_none_or(|exclusive| !exclusive && !claim.exclusive)
            });
            for claim in claims {
                *taken.entry(claim.on.clone()).or_default() |= claim.exclusive;
            }
            free
        };
        for (_, claim, _) in &in_flight.held {
            take(std::slice::from_ref(claim));
        }
        for claims in self.called.values() {
            take(claims);
        }
        let mut called = Vec::new();
        self.waiting.retain(|object, claims| {
            let free = take(claims);
            if free {
                called.push((object.clone(), std::mem::take(claims)));
            }
            !free
        });
        let objects = called.iter().map(|(object, _)| object.clone()).collect();
        self.called.extend(called);
        objects
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
        if let Some((claim, other)) = in_flight.conflict(step) {
            let why = match claim.on {
                // Many may wait for a long time, each behind the others.
                ClaimOn::Membership => {
                    "for its turn, as one step at a time changes who is in the cluster".to_owned()
                }
                _ => format!("until this is done: {other}"),
            };
            admitted.held = Some(Waiting {
                on: Topic::Claims,
                reason: reasons::CLAIMED.to_owned(),
                message: format!("to {}, it waits {why}", step.sentence),
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
    fn who_waits_is_called_in_turn() {
        let object = |name: &str| ObjectRef::new(Kind::Profile, name);
        let alone = || vec![Claim::exclusive(ClaimOn::Membership)];
        let shared = || vec![Claim::shared(ClaimOn::Membership)];
        let running = step("x", alone());
        let mut in_flight = InFlight::default();
        in_flight.take(std::slice::from_ref(&running));
        let mut turns = Turns::default();
        for (name, claims) in [
            ("a", alone()),
            ("b", alone()),
            ("c", shared()),
            ("d", shared()),
        ] {
            assert!(!turns.planned(&object(name), Some(claims)));
        }
        turns.planned(
            &object("e"),
            Some(vec![Claim::exclusive(ClaimOn::ServerConfig)]),
        );
        assert_eq!(turns.call(&in_flight), [object("e")], "its claim is free");
        in_flight.give_back(&running.object);
        assert_eq!(turns.call(&in_flight), [object("a")]);
        assert!(turns.call(&in_flight).is_empty(), "one is called once");
        assert!(
            turns.planned(&object("a"), None),
            "it did not want it after all"
        );
        assert_eq!(turns.call(&in_flight), [object("b")]);
        assert!(turns.planned(&object("b"), None));
        assert_eq!(
            turns.call(&in_flight),
            [object("c"), object("d")],
            "they share"
        );
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
