//! The breaker against fights: a field that is changed back too often is changed back rarely.

use super::clock::{after, age};
use crate::resources::ObjectRef;
use jiff::Timestamp;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// How many reverts within [`WINDOW`] are still taken for a person at work.
const REVERTS: usize = 10;
const WINDOW: Duration = Duration::from_secs(600);
/// How often a field is reverted once the breaker has tripped.
const SLOWLY: Duration = Duration::from_secs(60);
/// How long nobody may touch the field before the breaker is closed again.
const QUIET: Duration = Duration::from_secs(3600);

#[derive(Debug, Default)]
struct Field {
    reverts: VecDeque<Timestamp>,
    tripped: bool,
}

/// Counts reverts by object and field.
#[derive(Debug, Default)]
pub struct Breaker {
    fields: BTreeMap<(ObjectRef, String), Field>,
}

impl Breaker {
    /// When these fields may be reverted: at once (`None`), or the fields that are fought over
    /// and the time of the next attempt.
    pub fn held(
        &mut self,
        object: &ObjectRef,
        paths: &[String],
        now: Timestamp,
    ) -> Option<(Vec<String>, Timestamp)> {
        let mut fought = Vec::new();
        let mut next = None;
        for path in paths {
            let Some(field) = self.fields.get_mut(&(object.clone(), path.clone())) else {
                continue;
            };
            let Some(last) = field.reverts.back().copied() else {
                continue;
            };
            if field.tripped && age(now, last) >= QUIET {
                *field = Field::default();
                continue;
            }
            if field.tripped && age(now, last) < SLOWLY {
                fought.push(path.clone());
                next = next.max(Some(after(last, SLOWLY)));
            }
        }
        next.map(|at| (fought, at))
    }

    /// These fields were reverted; says whether one of them tripped the breaker now.
    pub fn reverted(&mut self, object: &ObjectRef, paths: &[String], now: Timestamp) -> bool {
        let mut tripped = false;
        for path in paths {
            let field = self
                .fields
                .entry((object.clone(), path.clone()))
                .or_default();
            field.reverts.push_back(now);
            while field
                .reverts
                .front()
                .is_some_and(|at| age(now, *at) > WINDOW)
            {
                field.reverts.pop_front();
            }
            if field.reverts.len() > REVERTS && !field.tripped {
                field.tripped = true;
                tripped = true;
            }
        }
        tripped
    }

    /// A new version of the resource starts anew.
    pub fn reset(&mut self, object: &ObjectRef) {
        self.fields.retain(|(o, _), _| o != object);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::Kind;

    #[test]
    fn a_fight_trips_it_and_an_hour_of_quiet_closes_it() {
        let object = ObjectRef::new(Kind::Profile, "web");
        let path = vec!["config.limits.cpu".to_owned()];
        let mut breaker = Breaker::default();
        let mut now = Timestamp::UNIX_EPOCH;
        for n in 0..11 {
            assert_eq!(
                breaker.held(&object, &path, now),
                None,
                "revert {n} goes at once"
            );
            assert_eq!(breaker.reverted(&object, &path, now), n == 10);
            now = after(now, Duration::from_secs(5));
        }
        let (fields, at) = breaker.held(&object, &path, now).expect("it is held now");
        assert_eq!(fields, path);
        assert_eq!(at, after(now, Duration::from_secs(55)));
        assert_eq!(
            breaker.held(&object, &path, at),
            None,
            "once a minute it is reverted"
        );
        breaker.reverted(&object, &path, at);
        let quiet = after(at, QUIET);
        assert_eq!(breaker.held(&object, &path, quiet), None);
        assert!(
            !breaker.reverted(&object, &path, quiet),
            "it counts from nothing again"
        );
    }
}
