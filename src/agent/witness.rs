//! What this agent hears of the other members with its own ears, while the one that controls says
//! nothing: who is lost is told from this, and from what the controller told last, long before
//! another one controls.
//!
//! While the controller answers nothing is asked here: `lead` asks it, and that is enough.

use super::office::{Duty, Office};
use crate::services::host::{Beat, HostTarget};
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How often each member is asked for its heartbeat while the controller is silent.
const ASK: Duration = Duration::from_secs(2);

/// How many are asked in one round besides the controller. Everybody asks everybody: in a large
/// cluster it takes some rounds until all were.
const TOGETHER: usize = 50;

/// How long a heartbeat may take.
pub const HEARTBEAT: Duration = Duration::from_secs(2);

/// The longest a single heartbeat that did not come says something about: the time between two, and
/// for how long it was waited for. A pause in which nobody asked says nothing.
const EACH: Duration = Duration::from_secs(4);

/// A member that does not answer.
#[derive(Debug, Clone)]
pub struct Silent {
    /// Since when.
    pub since: Timestamp,
    /// For how long, as far as it was asked, until the last heartbeat that did not come.
    lasted: Duration,
    last: Instant,
    /// Why the last one did not.
    pub error: String,
}

impl Silent {
    fn begin(heard: Option<Instant>, error: String) -> Silent {
        let lasted = heard.map_or(Duration::ZERO, |at| at.elapsed().min(EACH));
        let now = Timestamp::now();
        let since = SignedDuration::try_from(lasted).ok();
        Silent {
            since: since
                .and_then(|before| now.checked_sub(before).ok())
                .unwrap_or(now),
            lasted,
            last: Instant::now(),
            error,
        }
    }

    fn again(&mut self, error: String) {
        self.lasted = self.lasts();
        self.last = Instant::now();
        self.error = error;
    }

    /// For how long it has been silent, as far as it was asked.
    pub fn lasts(&self) -> Duration {
        self.lasted + self.last.elapsed().min(EACH)
    }
}

/// What was heard of one member.
#[derive(Debug, Clone, Default)]
struct Ear {
    heard: Option<Instant>,
    silent: Option<Silent>,
}

#[derive(Debug, Default)]
struct Heard {
    /// Who controlled, and does not say so any more.
    leader: Option<String>,
    /// When the controller said last that it controls.
    told: Option<Timestamp>,
    members: BTreeMap<String, Ear>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Witness {
    state: Mutex<Heard>,
    /// Wakes [`run`].
    wake: Notify,
}

impl Witness {
    fn state(&self) -> MutexGuard<'_, Heard> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The controller said that it controls.
    pub fn heard_leader(&self, name: &str) {
        let mut state = self.state();
        state.leader = None;
        state.told = Some(Timestamp::now());
        // What the others say is the controller's to know again.
        state.members.retain(|member, _| member == name);
        let ear = state.members.entry(name.to_owned()).or_default();
        ear.heard = Some(Instant::now());
        ear.silent = None;
    }

    /// Whoever controls by the lease does not say so, for this reason.
    pub fn missed_leader(&self, name: &str, error: &str) {
        let mut state = self.state();
        let known = state.leader.as_deref() == Some(name);
        state.leader = Some(name.to_owned());
        let ear = state.members.entry(name.to_owned()).or_default();
        if ear.silent.is_none() {
            ear.silent = Some(Silent::begin(ear.heard, error.to_owned()));
        }
        drop(state);
        if !known {
            self.wake.notify_one();
        }
    }

    /// There is nobody whose silence matters: this agent controls.
    pub fn forget(&self) {
        *self.state() = Heard::default();
    }

    /// Who controlled and is silent, if anybody is.
    pub fn silent_leader(&self) -> Option<(String, Silent)> {
        let state = self.state();
        let name = state.leader.clone()?;
        let silent = state.members.get(&name)?.silent.clone()?;
        Some((name, silent))
    }

    /// For how long this member has not said that it controls; zero when it is not known to be
    /// silent.
    pub fn silence_of(&self, name: &str) -> Duration {
        match self.silent_leader() {
            Some((leader, silent)) if leader == name => silent.lasts(),
            _ => Duration::ZERO,
        }
    }

    /// As [`Witness::silence_of`], but zero unless it was asked just now.
    pub fn silence_now(&self, name: &str) -> Duration {
        match self.silent_leader() {
            Some((leader, silent)) if leader == name && silent.last.elapsed() <= EACH => {
                silent.lasts()
            }
            _ => Duration::ZERO,
        }
    }

    /// When the controller said last that it controls.
    pub fn told(&self) -> Option<Timestamp> {
        self.state().told
    }

    /// Who does not answer, and who does, of those that were asked.
    pub fn members(&self) -> BTreeMap<String, Option<Silent>> {
        let state = self.state();
        let asked = state.members.iter();
        asked.map(|(n, e)| (n.clone(), e.silent.clone())).collect()
    }

    fn note(&self, name: &str, answer: Result<Beat, String>) {
        let mut state = self.state();
        let leads = state.leader.as_deref() == Some(name);
        let ear = state.members.entry(name.to_owned()).or_default();
        let error = match answer {
            // One that answers and does not control is as silent as one that does not, where the
            // controller is waited for; it has restarted.
            Ok(beat) if leads && !beat.leading => {
                format!("the agent of {name} answers and does not control")
            }
            Ok(_) => {
                ear.heard = Some(Instant::now());
                ear.silent = None;
                return;
            }
            Err(error) => error,
        };
        match &mut ear.silent {
            Some(silent) => silent.again(error),
            None => ear.silent = Some(Silent::begin(ear.heard, error)),
        }
    }
}

/// Asks all members while the controller is silent, until `stop`.
pub async fn run(office: Arc<Office>, stop: CancellationToken) {
    let witness = &office.witness;
    let mut round = 0;
    loop {
        let Some((leader, _)) = witness.silent_leader() else {
            tokio::select! {
                () = stop.cancelled() => return,
                () = witness.wake.notified() => {}
            }
            continue;
        };
        let asked = Instant::now();
        let members = to_ask(&office, &leader, round);
        round += 1;
        let asks = members.iter().map(|target| ask(&office, target));
        // Cancel safe: what was heard is written down at once.
        tokio::select! {
            () = stop.cancelled() => return,
            _ = futures_util::future::join_all(asks) => {}
        }
        if witness.silent_leader().is_none() && !matches!(office.duty(), Duty::Leading(_)) {
            // It is back: whoever decides need not wait for its next look.
            office.consider.notify_one();
            continue;
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep_until(asked + ASK) => {}
        }
    }
}

/// Who is asked in a round: the silent controller, and some of the members the trust store names.
fn to_ask(office: &Office, leader: &str, round: usize) -> Vec<HostTarget> {
    let store = office.machine.trust.store();
    let others = store.members.keys().map(String::as_str);
    let others: Vec<&str> = others
        .filter(|name| *name != office.name() && *name != leader)
        .collect();
    let slices: Vec<&[&str]> = others.chunks(TOGETHER).collect();
    let slice = match slices.len() {
        0 => &[],
        number => slices[round % number],
    };
    let names = std::iter::once(leader).chain(slice.iter().copied());
    names.filter_map(|name| office.target(name)).collect()
}

async fn ask(office: &Office, target: &HostTarget) {
    let host = office.hosts.host(target);
    let answer = match tokio::time::timeout(HEARTBEAT, host.beat()).await {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no answer within {} s", HEARTBEAT.as_secs())),
    };
    office.witness.note(&target.name, answer);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beat(leading: bool) -> Result<Beat, String> {
        Ok(Beat {
            leading,
            ..Beat::default()
        })
    }

    fn silence() -> Result<Beat, String> {
        Err("the connection timed out".to_owned())
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_counted_from_when_a_member_was_heard_and_only_while_it_is_asked() {
        let witness = Witness::default();
        witness.heard_leader("micro01");
        assert!(witness.silent_leader().is_none());
        tokio::time::advance(Duration::from_secs(3)).await;
        witness.missed_leader("micro01", "the connection timed out");
        assert_eq!(witness.silence_of("micro01"), Duration::from_secs(3));
        assert_eq!(witness.silence_of("micro02"), Duration::ZERO);
        // The machine slept: nobody asked for an hour.
        tokio::time::advance(Duration::from_secs(3600)).await;
        let slept = Duration::from_secs(3) + EACH;
        assert_eq!(witness.silence_now("micro01"), Duration::ZERO);
        assert_eq!(witness.silence_of("micro01"), slept);
        for _ in 0..2 {
            witness.note("micro01", silence());
            tokio::time::advance(Duration::from_secs(2)).await;
        }
        let silent = slept + Duration::from_secs(4);
        assert_eq!(witness.silence_of("micro01"), silent);
        assert_eq!(witness.silence_now("micro01"), silent);
    }

    #[tokio::test(start_paused = true)]
    async fn the_others_are_told_apart_and_a_controller_that_is_back_ends_it() {
        let witness = Witness::default();
        witness.missed_leader("micro01", "refused");
        witness.note("micro02", beat(false));
        witness.note("micro03", silence());
        let members = witness.members();
        assert!(members["micro01"].is_some() && members["micro03"].is_some());
        assert!(members["micro02"].is_none());
        // Its agent started again and has not taken the lease yet.
        witness.note("micro01", beat(false));
        let (leader, silent) = witness.silent_leader().expect("it does not control");
        assert_eq!(leader, "micro01");
        assert!(
            silent.error.contains("does not control"),
            "{}",
            silent.error
        );
        witness.note("micro01", beat(true));
        assert!(witness.silent_leader().is_none());
    }
}
