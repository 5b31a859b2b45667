//! How much was asked of the cloud.

use crate::services::lxd::Method;
use std::collections::{BTreeMap, VecDeque};
use tokio::time::Instant;

/// What a request was about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PathClass {
    /// `/1.0` and `/internal/ready`.
    Server,
    /// `/1.0/cluster` itself.
    Cluster,
    /// `/1.0/cluster/members…`.
    Members,
    /// `/1.0/cluster/groups…`.
    Groups,
    /// `/1.0/storage-pools…`.
    Pools,
    /// `/1.0/networks…`.
    Networks,
    /// `/1.0/projects…`.
    Projects,
    /// `/1.0/profiles…`.
    Profiles,
    /// `/1.0/operations…`.
    Operations,
    /// The opening of an event stream.
    Events,
    /// Everything else of LXD.
    Other,
    /// A call to an agent.
    Agent,
    /// A command of Ceph.
    Ceph,
}

impl PathClass {
    /// The class of a path of LXD's API.
    pub fn of(path: &str) -> PathClass {
        let mut parts = path.trim_start_matches('/').split('/').skip(1);
        match (parts.next(), parts.next()) {
            (None | Some("" | "ready"), _) => PathClass::Server,
            (Some("cluster"), Some("members")) => PathClass::Members,
            (Some("cluster"), Some("groups")) => PathClass::Groups,
            (Some("cluster"), _) => PathClass::Cluster,
            (Some("storage-pools"), _) => PathClass::Pools,
            (Some("networks"), _) => PathClass::Networks,
            (Some("projects"), _) => PathClass::Projects,
            (Some("profiles"), _) => PathClass::Profiles,
            (Some("operations"), _) => PathClass::Operations,
            (Some("events"), _) => PathClass::Events,
            _ => PathClass::Other,
        }
    }
}

/// Requests and the writes among them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// All requests.
    pub requests: u64,
    /// Those that may change something: every method but GET; of an agent everything but looking.
    pub writes: u64,
}

/// What was asked since the cloud was made or the counts were last reset.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// By machine and class.
    pub by: BTreeMap<(String, PathClass), Count>,
}

impl Counts {
    /// All together.
    pub fn total(&self) -> Count {
        self.sum(|_, _| true)
    }

    /// Of one machine.
    pub fn of_member(&self, member: &str) -> Count {
        self.sum(|name, _| name == member)
    }

    /// Of one class.
    pub fn of_class(&self, class: PathClass) -> Count {
        self.sum(|_, c| c == class)
    }

    fn sum(&self, wanted: impl Fn(&str, PathClass) -> bool) -> Count {
        self.by
            .iter()
            .filter(|((name, class), _)| wanted(name, *class))
            .fold(Count::default(), |sum, (_, count)| Count {
                requests: sum.requests + count.requests,
                writes: sum.writes + count.writes,
            })
    }
}

/// One write, for a test's message or a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// When.
    pub at: Instant,
    /// Through which machine.
    pub member: String,
    /// The method and path with its query, or the agent's call.
    pub what: String,
}

/// Counts and the last writes.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    counts: BTreeMap<(usize, PathClass), Count>,
    writes: VecDeque<(Instant, usize, String)>,
}

/// How many writes are remembered with their paths.
const REMEMBERED: usize = 4096;

impl Ledger {
    /// Counts a request to LXD.
    pub fn request(
        &mut self,
        machine: usize,
        method: Method,
        path: &str,
        shown: impl FnOnce() -> String,
    ) {
        self.count(machine, PathClass::of(path), method.writes(), shown);
    }

    /// Counts anything.
    pub fn count(
        &mut self,
        machine: usize,
        class: PathClass,
        writes: bool,
        shown: impl FnOnce() -> String,
    ) {
        let count = self.counts.entry((machine, class)).or_default();
        count.requests += 1;
        if writes {
            count.writes += 1;
            if self.writes.len() == REMEMBERED {
                self.writes.pop_front();
            }
            self.writes.push_back((Instant::now(), machine, shown()));
        }
    }

    /// Counts by names of machines.
    pub fn counts(&self, name: impl Fn(usize) -> String) -> Counts {
        Counts {
            by: self
                .counts
                .iter()
                .map(|((machine, class), count)| ((name(*machine), *class), *count))
                .collect(),
        }
    }

    /// The last writes, oldest first.
    pub fn writes(&self, name: impl Fn(usize) -> String) -> Vec<Write> {
        self.writes
            .iter()
            .map(|(at, machine, what)| Write {
                at: *at,
                member: name(*machine),
                what: what.clone(),
            })
            .collect()
    }

    /// Begins anew.
    pub fn reset(&mut self) {
        *self = Ledger::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_have_classes() {
        for (path, class) in [
            ("/1.0", PathClass::Server),
            ("/internal/ready", PathClass::Server),
            ("/1.0/cluster", PathClass::Cluster),
            ("/1.0/cluster/members/a/state", PathClass::Members),
            ("/1.0/profiles/web", PathClass::Profiles),
            ("/1.0/images", PathClass::Other),
        ] {
            assert_eq!(PathClass::of(path), class, "{path}");
        }
    }

    #[test]
    fn reads_are_not_writes() {
        let mut ledger = Ledger::default();
        ledger.request(0, Method::Get, "/1.0/profiles", String::new);
        ledger.request(0, Method::Put, "/1.0/profiles/web", || "PUT web".into());
        let counts = ledger.counts(|_| "a".into());
        assert_eq!(
            counts.total(),
            Count {
                requests: 2,
                writes: 1
            }
        );
        assert_eq!(counts.of_class(PathClass::Pools), Count::default());
        assert_eq!(ledger.writes(|_| "a".into())[0].what, "PUT web");
    }
}
