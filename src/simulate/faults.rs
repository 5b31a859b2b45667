//! What goes wrong because a test asked for it.

use crate::services::lxd::Method;
use std::time::Duration;

/// Requests that shall go wrong, and how. Requests of a [`hand`](super::SimCloud::hand) never do.
#[derive(Debug, Clone)]
pub struct Fault {
    member: Option<String>,
    method: Option<Method>,
    writes: bool,
    path: String,
    skip: u64,
    times: Option<u64>,
    action: FaultAction,
}

impl Fault {
    /// Every request goes wrong like this, until narrowed by the methods below.
    pub fn new(action: FaultAction) -> Fault {
        Fault {
            member: None,
            method: None,
            writes: false,
            path: String::new(),
            skip: 0,
            times: None,
            action,
        }
    }

    /// Only requests to the LXD of this machine.
    pub fn on(mut self, member: &str) -> Fault {
        self.member = Some(member.into());
        self
    }

    /// Only requests of this method.
    pub fn method(mut self, method: Method) -> Fault {
        self.method = Some(method);
        self
    }

    /// Only writes.
    pub fn writes(mut self) -> Fault {
        self.writes = true;
        self
    }

    /// Only paths that begin so, such as `/1.0/profiles`.
    pub fn path(mut self, prefix: &str) -> Fault {
        self.path = prefix.into();
        self
    }

    /// Only the k-th matching request, counted from 1.
    pub fn nth(mut self, k: u64) -> Fault {
        self.skip = k.saturating_sub(1);
        self.times = Some(1);
        self
    }

    /// At most so many requests.
    pub fn times(mut self, times: u64) -> Fault {
        self.times = Some(times);
        self
    }

    fn matches(&self, member: &str, method: Method, path: &str) -> bool {
        self.member.as_deref().is_none_or(|m| m == member)
            && self.method.is_none_or(|m| m == method)
            && (!self.writes || method.writes())
            && path.starts_with(&self.path)
    }
}

/// How a request goes wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FaultAction {
    /// It is answered with this error and has no effect.
    Refuse {
        /// The status.
        status: u16,
        /// The message.
        message: String,
    },
    /// The connection breaks before it has an effect.
    DropRequest,
    /// It has its effect, but the connection breaks before the answer.
    LoseAnswer,
    /// It has no effect and is not answered before its deadline.
    Hang,
    /// It is answered later.
    Delay(Duration),
    /// The operation that it starts fails with this message and has no effect; a request that
    /// starts none is refused with it (500).
    FailOperation(String),
    /// The operation that it starts takes longer.
    SlowOperation(Duration),
}

/// Which fault, to take it back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FaultId(u64);

/// The faults that were asked for.
#[derive(Debug, Default)]
pub(super) struct Faults {
    next: u64,
    rules: Vec<(FaultId, Fault)>,
    /// Creating an object on a machine fails with a message: by machine and URL.
    broken: std::collections::BTreeMap<(usize, String), String>,
}

impl Faults {
    /// Adds one.
    pub fn add(&mut self, fault: Fault) -> FaultId {
        self.next += 1;
        let id = FaultId(self.next);
        self.rules.push((id, fault));
        id
    }

    /// Takes one back.
    pub fn remove(&mut self, id: FaultId) {
        self.rules.retain(|(other, _)| *other != id);
    }

    /// Takes all back.
    pub fn clear(&mut self) {
        self.rules.clear();
        self.broken.clear();
    }

    /// What goes wrong with this request: the first matching rule that is due. Every matching
    /// rule counts the request.
    pub fn on_request(&mut self, member: &str, method: Method, path: &str) -> Option<FaultAction> {
        let mut action = None;
        for (_, fault) in &mut self.rules {
            if !fault.matches(member, method, path) {
                continue;
            }
            if fault.skip > 0 {
                fault.skip -= 1;
            } else if action.is_none() && fault.times != Some(0) {
                fault.times = fault.times.map(|t| t - 1);
                action = Some(fault.action.clone());
            }
        }
        self.rules.retain(|(_, fault)| fault.times != Some(0));
        action
    }

    /// Creating the object of this URL on this machine fails, or does again.
    pub fn break_create(&mut self, machine: usize, url: &str, message: Option<&str>) {
        let key = (machine, url.to_owned());
        match message {
            Some(message) => self.broken.insert(key, message.to_owned()),
            None => self.broken.remove(&key),
        };
    }

    /// Why creating the object of this URL on this machine fails.
    pub fn create_error(&self, machine: usize, url: &str) -> Option<String> {
        self.broken.get(&(machine, url.to_owned())).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_kth_request_goes_wrong() {
        let mut faults = Faults::default();
        faults.add(
            Fault::new(FaultAction::Hang)
                .writes()
                .path("/1.0/profiles")
                .nth(2),
        );
        let mut ask = |method, path: &str| faults.on_request("a", method, path);
        assert_eq!(ask(Method::Get, "/1.0/profiles/x"), None);
        assert_eq!(ask(Method::Put, "/1.0/profiles/x"), None);
        assert_eq!(ask(Method::Put, "/1.0/networks/x"), None);
        assert_eq!(ask(Method::Put, "/1.0/profiles/y"), Some(FaultAction::Hang));
        assert_eq!(ask(Method::Put, "/1.0/profiles/y"), None);
    }

    #[test]
    fn a_fault_can_be_taken_back() {
        let mut faults = Faults::default();
        let id = faults.add(Fault::new(FaultAction::DropRequest).on("a"));
        assert_eq!(faults.on_request("b", Method::Get, "/1.0"), None);
        assert!(faults.on_request("a", Method::Get, "/1.0").is_some());
        faults.remove(id);
        assert_eq!(faults.on_request("a", Method::Get, "/1.0"), None);
    }
}
