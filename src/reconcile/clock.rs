//! The time, as wall clock that follows tokio's: a test that pauses tokio pauses this too.

use jiff::{SignedDuration, Timestamp};
use std::time::Duration;
use tokio::time::Instant;

/// A wall clock that advances with [`tokio::time`].
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    started: Timestamp,
    instant: Instant,
}

impl Clock {
    /// A clock that shows the machine's time now.
    pub fn system() -> Clock {
        Clock::starting_at(Timestamp::now())
    }

    /// A clock that shows `started` now.
    pub fn starting_at(started: Timestamp) -> Clock {
        Clock {
            started,
            instant: Instant::now(),
        }
    }

    /// The time now.
    pub fn now(&self) -> Timestamp {
        after(self.started, self.instant.elapsed())
    }

    /// How long it is until `at`; zero when that is past.
    pub fn until(&self, at: Timestamp) -> Duration {
        Duration::try_from(at.duration_since(self.now())).unwrap_or(Duration::ZERO)
    }
}

/// `at` plus `duration`; the end of time when that is beyond it.
pub fn after(at: Timestamp, duration: Duration) -> Timestamp {
    SignedDuration::try_from(duration)
        .ok()
        .and_then(|d| at.checked_add(d).ok())
        .unwrap_or(Timestamp::MAX)
}

/// How long `at` was before `now`; zero when it is later.
pub fn age(now: Timestamp, at: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(at)).unwrap_or(Duration::ZERO)
}
