//! The queue of objects to reconcile, with kube-runtime's guarantees.
//!
//! # Guarantees
//! - One object never runs twice at once: a request that comes while it runs is kept and handed
//!   out when it is done.
//! - A second request for an object only moves its deadline earlier.
//! - The reason of a request is not kept: what runs sees the object and nothing else.
//! - A failing object does not hold others up.

use super::clock::after;
use crate::resources::ObjectRef;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::time::{DelayQueue, delay_queue::Key};

/// What a reconcile says about when to look again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Action {
    requeue_after: Option<Duration>,
}

impl Action {
    /// Look again after this time, even when nothing happens.
    pub fn requeue(duration: Duration) -> Action {
        Action {
            requeue_after: Some(duration),
        }
    }

    /// Look again when something happens.
    pub fn await_change() -> Action {
        Action {
            requeue_after: None,
        }
    }

    /// After which time to look again.
    pub fn requeue_after(self) -> Option<Duration> {
        self.requeue_after
    }
}

#[derive(Debug)]
struct Waiting {
    key: Key,
    at: Instant,
}

/// Objects with the time at which each is due.
#[derive(Debug, Default)]
pub struct Queue {
    delays: DelayQueue<ObjectRef>,
    waiting: BTreeMap<ObjectRef, Waiting>,
    running: BTreeSet<ObjectRef>,
    /// Requests for objects that run now: handed out when they are done.
    pending: BTreeMap<ObjectRef, Instant>,
    ready: BTreeSet<ObjectRef>,
}

impl Queue {
    /// An empty queue.
    pub fn new() -> Queue {
        Queue::default()
    }

    /// Asks for an object to run after `delay`; an earlier request stays.
    pub fn request(&mut self, object: &ObjectRef, delay: Duration) {
        let at = Instant::now() + delay;
        if self.running.contains(object) {
            let earliest = self.pending.entry(object.clone()).or_insert(at);
            *earliest = (*earliest).min(at);
            return;
        }
        if self.ready.contains(object) {
            return;
        }
        match self.waiting.get_mut(object) {
            Some(waiting) if waiting.at <= at => {}
            Some(waiting) => {
                self.delays.reset_at(&waiting.key, at);
                waiting.at = at;
            }
            None => {
                let key = self.delays.insert_at(object.clone(), at);
                self.waiting.insert(object.clone(), Waiting { key, at });
            }
        }
    }

    /// The next object that is due; it counts as running until [`Queue::done`]. Pends while
    /// nothing is due.
    ///
    /// Cancel safe: an object is only taken out when the future is ready.
    pub fn poll_next(&mut self, cx: &mut std::task::Context<'_>) -> std::task::Poll<ObjectRef> {
        use std::task::Poll;
        // Everything that is due is taken first, so that what is handed out does not depend on
        // the order in which timers fire.
        while let Poll::Ready(Some(expired)) = self.delays.poll_expired(cx) {
            let object = expired.into_inner();
            self.waiting.remove(&object);
            self.ready.insert(object);
        }
        match self.ready.pop_first() {
            Some(object) => {
                self.running.insert(object.clone());
                Poll::Ready(object)
            }
            None => Poll::Pending,
        }
    }

    /// An object has run; a request that came meanwhile is queued now.
    pub fn done(&mut self, object: &ObjectRef) {
        self.running.remove(object);
        if let Some(at) = self.pending.remove(object) {
            self.request(object, at.saturating_duration_since(Instant::now()));
        }
    }

    /// How many objects wait or run.
    pub fn len(&self) -> usize {
        self.waiting.len() + self.running.len() + self.ready.len()
    }

    /// Whether nothing waits or runs.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many objects run.
    pub fn running(&self) -> usize {
        self.running.len()
    }
}

/// The delay before an object that failed is tried again: exponential with jitter and a cap,
/// reset by a success or a new version of the resource.
#[derive(Debug, Default)]
pub struct BackOffs {
    delays: BTreeMap<ObjectRef, backoff::ExponentialBackoff>,
}

/// The first delay after a failure.
const FIRST: Duration = Duration::from_millis(250);
/// The longest delay: what a person who mends something waits for at most.
const LONGEST: Duration = Duration::from_secs(30);

impl BackOffs {
    /// The delay after one more failure.
    pub fn failed(&mut self, object: &ObjectRef) -> Duration {
        use backoff::BackoffBuilder;
        self.delays
            .entry(object.clone())
            .or_insert_with(|| {
                backoff::ExponentialBuilder::default()
                    .with_min_delay(FIRST)
                    .with_max_delay(LONGEST)
                    .with_jitter()
                    .without_max_times()
                    .build()
            })
            .next()
            .unwrap_or(LONGEST)
            .min(LONGEST * 2)
    }

    /// The object did not fail, or its resource is new.
    pub fn reset(&mut self, object: &ObjectRef) {
        self.delays.remove(object);
    }
}

/// The time `delay` from `now`, for showing.
pub fn due(now: jiff::Timestamp, delay: Duration) -> jiff::Timestamp {
    after(now, delay)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::Kind;
    use std::future::poll_fn;
    use std::task::Poll;

    fn object(name: &str) -> ObjectRef {
        ObjectRef::new(Kind::Profile, name)
    }

    async fn next(queue: &mut Queue) -> ObjectRef {
        poll_fn(|cx| queue.poll_next(cx)).await
    }

    async fn nothing_due(queue: &mut Queue) -> bool {
        poll_fn(|cx| Poll::Ready(queue.poll_next(cx).is_pending())).await
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_request_only_moves_the_deadline_earlier() {
        let mut queue = Queue::new();
        let start = Instant::now();
        queue.request(&object("a"), Duration::from_secs(10));
        queue.request(&object("a"), Duration::from_secs(2));
        queue.request(&object("a"), Duration::from_secs(30));
        assert_eq!(queue.len(), 1);
        assert_eq!(next(&mut queue).await, object("a"));
        let waited = start.elapsed();
        assert!(
            waited >= Duration::from_secs(2) && waited < Duration::from_secs(3),
            "{waited:?}"
        );
        queue.done(&object("a"));
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!(
            nothing_due(&mut queue).await,
            "the later requests were the same one"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn one_object_never_runs_twice_at_once() {
        let mut queue = Queue::new();
        queue.request(&object("a"), Duration::ZERO);
        assert_eq!(next(&mut queue).await, object("a"));
        queue.request(&object("a"), Duration::ZERO);
        queue.request(&object("b"), Duration::ZERO);
        assert_eq!(next(&mut queue).await, object("b"), "others go on");
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(nothing_due(&mut queue).await, "it runs still");
        queue.done(&object("a"));
        assert_eq!(
            next(&mut queue).await,
            object("a"),
            "what came meanwhile is not lost"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn back_off_grows_to_a_cap_and_is_reset() {
        let mut backs = BackOffs::default();
        let first = backs.failed(&object("a"));
        assert!(first >= FIRST && first <= FIRST * 2, "{first:?}");
        let mut last = first;
        for _ in 0..20 {
            last = backs.failed(&object("a"));
        }
        assert!(last >= LONGEST && last <= LONGEST * 2, "{last:?}");
        backs.reset(&object("a"));
        assert!(backs.failed(&object("a")) <= FIRST * 2);
    }
}
