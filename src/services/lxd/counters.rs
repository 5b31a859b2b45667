//! Counting requests, so that "a round without a difference writes nothing" can be measured.

use super::transport::Method;
use std::sync::atomic::{AtomicU64, Ordering};

/// How many requests went out, and how many of them were writes.
#[derive(Debug, Default)]
pub struct Counters {
    requests: AtomicU64,
    writes: AtomicU64,
}

impl Counters {
    /// Counts one request of this method.
    pub fn count(&self, method: Method) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        if method.writes() {
            self.writes.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// All requests and the writes among them, since the start.
    pub fn read(&self) -> (u64, u64) {
        (
            self.requests.load(Ordering::Relaxed),
            self.writes.load(Ordering::Relaxed),
        )
    }
}
