//! Who guessed passphrases, and may not for a while.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

/// Wrong guesses that cost nothing yet: people mistype.
const FREE: u32 = 5;
/// The first pause; it doubles with every further wrong guess.
const PAUSE: Duration = Duration::from_secs(10);
/// The longest.
const LONGEST: Duration = Duration::from_secs(300);
/// What was guessed longer ago than this is forgotten.
const MEMORY: Duration = Duration::from_secs(3600);
/// The most addresses that are remembered.
const MOST: usize = 4096;

/// The network that connections are counted by, so that one machine with a whole IPv6 network to
/// call from is one: the address itself, or its /64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Source(IpAddr);

impl Source {
    /// The source of an address.
    pub fn of(address: IpAddr) -> Source {
        match address.to_canonical() {
            IpAddr::V4(v4) => Source(v4.into()),
            IpAddr::V6(v6) => {
                let network = u128::from(v6) >> 64 << 64;
                Source(Ipv6Addr::from(network).into())
            }
        }
    }
}

/// The wrong guesses of the last hour, by the exact address: a guesser never costs its neighbours
/// anything. Guessing from many addresses is bounded by what one session lasts and how many
/// connections of one [`Source`] are served at once.
#[derive(Debug, Clone, Default)]
pub struct Guesses {
    wrong: HashMap<IpAddr, Wrong>,
}

#[derive(Debug, Clone, Copy)]
struct Wrong {
    count: u32,
    last: Instant,
}

impl Wrong {
    fn until(self) -> Option<Instant> {
        let over = self.count.checked_sub(FREE)?;
        let pause = PAUSE.saturating_mul(1 << over.min(10)).min(LONGEST);
        Some(self.last + pause)
    }
}

impl Guesses {
    /// How long this address may not try; zero when it may.
    pub fn pause(&self, from: IpAddr, now: Instant) -> Duration {
        let wrong = self.wrong.get(&from.to_canonical());
        wrong
            .filter(|wrong| now.saturating_duration_since(wrong.last) < MEMORY)
            .and_then(|wrong| wrong.until())
            .map_or(Duration::ZERO, |until| until.saturating_duration_since(now))
    }

    /// Notes a wrong guess.
    pub fn wrong(&mut self, from: IpAddr, now: Instant) {
        let from = from.to_canonical();
        if self.wrong.len() >= MOST && !self.wrong.contains_key(&from) {
            self.forget(now);
        }
        let wrong = self.wrong.entry(from).or_insert(Wrong {
            count: 0,
            last: now,
        });
        if now.saturating_duration_since(wrong.last) >= MEMORY {
            wrong.count = 0;
        }
        wrong.count = wrong.count.saturating_add(1);
        wrong.last = now;
    }

    /// Notes that this address knew the passphrase.
    pub fn right(&mut self, from: IpAddr) {
        self.wrong.remove(&from.to_canonical());
    }

    /// Makes room: what is an hour old, else the one that guessed least.
    fn forget(&mut self, now: Instant) {
        self.wrong
            .retain(|_, wrong| now.saturating_duration_since(wrong.last) < MEMORY);
        if self.wrong.len() >= MOST {
            let least = self.wrong.iter().min_by_key(|(_, w)| (w.count, w.last));
            if let Some(address) = least.map(|(address, _)| *address) {
                self.wrong.remove(&address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_guesser_waits_longer_and_longer_and_nobody_else_does() {
        let (mut guesses, start) = (Guesses::default(), Instant::now());
        let (bad, good) = (ip("192.0.2.1"), ip("192.0.2.2"));
        for _ in 0..4 {
            guesses.wrong(bad, start);
        }
        assert_eq!(guesses.pause(bad, start), Duration::ZERO, "people mistype");
        let mut pauses = Vec::new();
        for _ in 0..7 {
            guesses.wrong(bad, start);
            pauses.push(guesses.pause(bad, start).as_secs());
        }
        assert_eq!(pauses, [10, 20, 40, 80, 160, 300, 300]);
        assert_eq!(guesses.pause(good, start), Duration::ZERO);
        assert_eq!(guesses.pause(ip("::ffff:192.0.2.1"), start).as_secs(), 300);
        let later = start + Duration::from_secs(301);
        assert_eq!(guesses.pause(bad, later), Duration::ZERO);
        guesses.right(bad);
        assert_eq!(guesses.pause(bad, start), Duration::ZERO);
    }

    #[test]
    fn what_is_remembered_is_bounded_and_the_worst_stays() {
        let (mut guesses, start) = (Guesses::default(), Instant::now());
        let worst = ip("192.0.2.1");
        for _ in 0..20 {
            guesses.wrong(worst, start);
        }
        for number in 0..4_200u32 {
            guesses.wrong(IpAddr::V4((0x0a00_0000 + number).into()), start);
        }
        assert!(guesses.wrong.len() <= MOST);
        assert!(guesses.pause(worst, start) > Duration::ZERO);
    }

    #[test]
    fn a_whole_ipv6_network_is_one_source() {
        let of = |text: &str| Source::of(ip(text));
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
        assert_eq!(of("192.0.2.1"), of("::ffff:192.0.2.1"));
    }
}
