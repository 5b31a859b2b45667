//! Watching OVN: heartbeats tell within seconds that something changed on a machine; the southbound
//! database is asked to tell at once.

use super::{Inner, State};
use crate::reconcile::history::Severity;
use crate::reconcile::plan::{Topic, target};
use crate::resources::{Kind, ObjectRef};
use crate::services::host::{HostReport, HostTarget, OvnAnswer, OvnRequest};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// How long until it is tried again where there is no southbound database, or it did not answer.
const AGAIN: Duration = Duration::from_secs(2);

/// How long until a machine is asked again that has just told of a change: several come at once.
const PAUSE: Duration = Duration::from_millis(200);

/// Watches as long as the controller works.
pub(super) async fn watch(inner: Arc<Inner>) {
    let mut synced = inner.synced.subscribe();
    tokio::select! {
        () = inner.cancel.cancelled() => return,
        ready = synced.wait_for(|ready| *ready) => if ready.is_err() { return },
    }
    loop {
        let pause = tokio::select! {
            () = inner.cancel.cancelled() => return,
            pause = inner.await_ovn() => pause,
        };
        tokio::select! {
            () = inner.cancel.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

fn serves(report: &HostReport) -> bool {
    report.ovn.central.serves()
}

/// Which members have a row, as a machine's southbound database says; `None` when that is not known.
fn rows(report: Option<&HostReport>) -> Option<BTreeSet<&str>> {
    let report = report.filter(|r| serves(r))?;
    let rows = &report.ovn.central.chassis;
    Some(rows.iter().map(|row| row.name.as_str()).collect())
}

impl Inner {
    /// The machine whose southbound database tells of changes, with the number it told last: the
    /// one that leads, for it has them first.
    fn southbound(&self) -> Option<(HostTarget, u64)> {
        let state = self.state();
        let serving = state.desired.members().filter_map(|(name, member)| {
            let view = state.world.hosts.get(name)?;
            let report = view.report.known().filter(|r| serves(r))?;
            let database = report.ovn.central.southbound.as_ref()?;
            let number = view.beat.known()?.ovn;
            let answers = view.error.is_none();
            answers.then(|| (database.leader, target(name, member), number))
        });
        serving
            .max_by_key(|(leads, ..)| *leads)
            .map(|(_, target, number)| (target, number))
    }

    /// Waits until the southbound database tells of a change, and looks; how long to pause then.
    async fn await_ovn(&self) -> Duration {
        let Some((target, known)) = self.southbound() else {
            return AGAIN;
        };
        let request = OvnRequest::AwaitChange { known };
        match self.hosts.host(&target).ovn(request).await {
            Ok(OvnAnswer::Changes(number)) if number != known => {
                // The heartbeat needs not look for it once more.
                if let Some(view) = self.state().world.hosts.get_mut(&target.name)
                    && let Some(beat) = view.beat.known_mut()
                {
                    beat.ovn = number;
                }
                self.look_at_machine(&target).await;
                PAUSE
            }
            Ok(OvnAnswer::Changes(_)) => Duration::ZERO,
            _ => AGAIN,
        }
    }

    /// Tells whose row in the southbound database went or came back, after a look at a machine that
    /// has it.
    pub(super) fn tell_chassis(
        &self,
        state: &mut State,
        machine: &str,
        before: Option<&HostReport>,
    ) {
        let view = state.world.hosts.get(machine);
        let Some(after) = rows(view.and_then(|v| v.report.known())) else {
            return;
        };
        let gone = rows(before).into_iter().flatten();
        let gone: Vec<String> = gone
            .filter(|name| !after.contains(name) && state.desired.member(name).is_some())
            .filter(|name| !state.chassis_gone.contains(*name))
            .map(str::to_owned)
            .collect();
        let back = state.chassis_gone.iter();
        let back: Vec<String> = back
            .filter(|name| after.contains(name.as_str()))
            .cloned()
            .collect();
        let now = self.clock.now();
        for name in gone {
            state.tell(
                now,
                Some(&ObjectRef::new(Kind::Member, name.clone())),
                Severity::Warning,
                "ChassisGone",
                format!("OVN has no chassis {name} any more, so no network reaches that machine"),
            );
            state.chassis_gone.insert(name);
        }
        for name in back {
            state.tell(
                now,
                Some(&ObjectRef::new(Kind::Member, name.clone())),
                Severity::Normal,
                "ChassisBack",
                format!("OVN has the chassis {name} again"),
            );
            state.chassis_gone.remove(&name);
        }
    }

    /// What one machine's databases say, or that it went silent, is about all of them.
    pub(super) fn wake_ovn(&self, state: &State) {
        let uses_ovn = state
            .desired
            .cluster()
            .is_some_and(|(_, c)| c.ovn.is_some());
        if !uses_ovn {
            return;
        }
        self.wake_waiting(state, &Topic::Ovn);
        for object in state.desired.resources.keys() {
            if matches!(object.kind, Kind::Cluster | Kind::Member | Kind::Network) {
                self.wake(object, Duration::ZERO);
            }
        }
    }
}
