//! Numbers that nobody chose.

// Each test program uses a part of this.
#![allow(dead_code)]

use super::real::Outcome;
use std::time::{SystemTime, UNIX_EPOCH};

/// From the seed on: a linear congruence is random enough for moments.
pub struct Random {
    seed: u64,
    state: u64,
}

impl Random {
    /// With the time as its seed, or with `PROVE_SEED`.
    pub fn of_now() -> Outcome<Random> {
        let seed = match std::env::var("PROVE_SEED") {
            Ok(seed) => seed.parse()?,
            Err(_) => SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs(),
        };
        Ok(Random { seed, state: seed })
    }

    /// What it began with.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Below one.
    pub fn next(&mut self) -> f64 {
        self.state = self
            .state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        f64::from(u32::try_from(self.state >> 33).unwrap_or_default()) / f64::from(1u32 << 31)
    }
}
