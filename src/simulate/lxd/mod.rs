//! The simulated LXD: a router from a request to what is done and answered, over the typed state
//! of the [`World`]. It neither waits nor does I/O; what takes time is said in the [`Outcome`].

mod cluster;
mod content;
mod groups;
pub(super) mod join;
pub(super) mod keys;
mod members;
mod network_create;
mod network_local;
mod networks;
pub(super) mod operations;
mod pool_ceph;
mod pool_create;
mod pool_local;
mod pools;
mod profiles;
mod projects;
mod reply;
pub(super) mod server;
mod updates;

use super::database::{Db, MemberRow};
use super::events::Lifecycle;
use super::faults::FaultAction;
use super::world::World;
use crate::services::lxd::{Method, Request, Response};
use reply::{Answer, Refusal, Reply, answer, refusal};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// What comes of a request.
#[derive(Debug)]
pub(super) enum Outcome {
    /// This answer, after a while.
    Answer(Response, Duration),
    /// Nothing, or this answer after a long while.
    Hang(Option<(Duration, Response)>),
    /// The state of this operation when it has ended, or after a time.
    Wait {
        /// The operation.
        operation: String,
        /// Becomes true when it has ended.
        done: watch::Receiver<bool>,
        /// How long to wait at most.
        timeout: Option<Duration>,
    },
    /// It is done, but the connection breaks without an answer.
    Broken,
}

/// A request on its way through the router.
pub(super) struct Call<'a> {
    /// Everything.
    pub world: &'a mut World,
    /// The machine whose LXD was asked.
    pub at: usize,
    /// The request.
    pub request: &'a Request,
    /// What shall go wrong with the operation that it starts.
    pub fault: Option<FaultAction>,
    /// How long the answer takes.
    pub delay: Duration,
}

/// Does what a request to the LXD of a machine asks for.
pub(super) fn handle(
    world: &mut World,
    at: usize,
    request: &Request,
    fault: Option<FaultAction>,
) -> Outcome {
    let segments: Vec<String> = request
        .path
        .split('?')
        .next()
        .unwrap_or_default()
        .split('/')
        .filter(|s| !s.is_empty())
        .map(decode)
        .collect();
    let path: Vec<&str> = segments.iter().map(String::as_str).collect();
    if world.machines[at].lxd.hung {
        return Outcome::Hang(None);
    }
    if needs_database(request.method, &path) && !world.has_quorum(at) {
        let after = world.timings.no_quorum_hang;
        let refused = Refusal::new(503, "database is not available: no quorum");
        return Outcome::Hang(Some((after, refusal(&refused))));
    }
    if let Some(FaultAction::FailOperation(message)) = &fault
        && !starts_operation(request.method, &path)
    {
        let refused = Refusal::new(500, message.clone());
        return Outcome::Answer(refusal(&refused), Duration::ZERO);
    }
    let mut call = Call {
        world,
        at,
        request,
        fault,
        delay: Duration::ZERO,
    };
    match call.route(&path) {
        Ok(Reply::Wait {
            operation,
            done,
            timeout,
        }) => Outcome::Wait {
            operation,
            done,
            timeout,
        },
        Ok(Reply::Broken) => Outcome::Broken,
        Ok(reply) => Outcome::Answer(answer(call.world, reply), call.delay),
        Err(refused) => Outcome::Answer(refusal(&refused), call.delay),
    }
}

/// The answer to a wait whose operation has ended (`early`: before the wait began), or was
/// forgotten, or whose time has passed; none when the API of the LXD that it ran on hangs.
pub(super) fn waited(world: &World, operation: &str, early: bool) -> Option<Response> {
    let row = world.operations.get(operation);
    if row.is_some_and(|row| world.machines[row.machine].lxd.hung) {
        return None;
    }
    Some(match operations::wait_result(world, operation, early) {
        Ok(reply) => answer(world, reply),
        Err(refused) => refusal(&refused),
    })
}

/// An answer that refuses with a status of one's choice.
pub(super) fn refused(status: u16, message: &str) -> Response {
    refusal(&Refusal::new(status, message))
}

/// Whether a request cannot be answered without quorum.
fn needs_database(method: Method, path: &[&str]) -> bool {
    match path {
        ["internal", "ready"] => false,
        ["1.0"] => method.writes(),
        ["1.0", "operations", _, "wait"] => false,
        _ => true,
    }
}

/// Whether a request is answered with an operation.
fn starts_operation(method: Method, path: &[&str]) -> bool {
    matches!(
        (method, path),
        (Method::Put, ["1.0", "cluster"])
            | (Method::Post, ["1.0", "cluster", "members"])
            | (Method::Post, ["1.0", "cluster", "members", _, "state"])
    )
}

impl Call<'_> {
    fn route(&mut self, path: &[&str]) -> Answer {
        let method = self.request.method;
        match path {
            ["internal", "ready"] => self.ready(),
            [] => Ok(Reply::value(serde_json::json!(["/1.0"]))),
            ["1.0"] => self.server(method),
            ["internal", "cluster", "raft-node", address] => self.raft_node(method, address),
            ["1.0", "certificates", rest @ ..] => self.certificates(method, rest),
            ["1.0", "cluster"] => self.cluster(method),
            ["1.0", "cluster", "members", rest @ ..] => self.members(method, rest),
            ["1.0", "cluster", "groups", rest @ ..] => self.groups(method, rest),
            ["1.0", "operations", rest @ ..] => self.operations(method, rest),
            ["1.0", "projects", rest @ ..] => self.projects(method, rest),
            ["1.0", "profiles", rest @ ..] => self.profiles(method, rest),
            ["1.0", "storage-pools", name, "volumes", rest @ ..] => {
                self.volumes(method, name, rest)
            }
            ["1.0", "storage-pools", rest @ ..] => self.pools(method, rest),
            ["1.0", "networks", rest @ ..] => self.networks(method, rest),
            ["1.0", "instances", ..] => self.instances(method),
            ["1.0", "images", ..] => self.images(method),
            _ => Err(Refusal::not_found("not found")),
        }
    }

    /// A parameter of the query; empty ones do not count.
    pub fn query(&self, key: &str) -> Option<&str> {
        self.request
            .query
            .iter()
            .find(|(k, v)| *k == key && !v.is_empty())
            .map(|(_, v)| v.as_str())
    }

    /// Whether objects are wanted rather than URLs.
    pub fn recursion(&self) -> bool {
        self.query("recursion").is_some_and(|r| r != "0")
    }

    /// The project that was named.
    pub fn project(&self) -> Result<String, Refusal> {
        let name = self.query("project").unwrap_or("default").to_owned();
        if self.db().projects.contains_key(&name) {
            Ok(name)
        } else {
            Err(Refusal::not_found(format!(
                "Failed loading project \"{name}\": Project not found"
            )))
        }
    }

    /// The database of the LXD that was asked.
    pub fn db(&self) -> &Db {
        self.world.db(self.at)
    }

    /// The database of the LXD that was asked, to change it.
    pub fn db_mut(&mut self) -> &mut Db {
        self.world.db_mut(self.at)
    }

    /// The member name of the LXD that was asked.
    pub fn member(&self) -> &str {
        &self.world.machines[self.at].lxd.member
    }

    /// The body.
    pub fn body<T: DeserializeOwned>(&self) -> Result<T, Refusal> {
        let body = self
            .request
            .body
            .as_ref()
            .ok_or_else(|| Refusal::bad("EOF"))?;
        T::deserialize(body).map_err(|e| Refusal::bad(format!("json: {e}")))
    }

    /// Checks `If-Match` against the object as it is.
    pub fn check_etag(&self, object: &impl Serialize) -> Result<(), Refusal> {
        let Some(wanted) = &self.request.if_match else {
            return Ok(());
        };
        let wanted = wanted.trim_matches('"');
        let has = reply::etag(object);
        if wanted == has || wanted.is_empty() {
            Ok(())
        } else {
            Err(Refusal::new(
                412,
                format!("ETag doesn't match: {has} vs {wanted}"),
            ))
        }
    }

    /// The member that `?target=` names and its machine; `None` when none is named or the server
    /// is in no cluster.
    pub fn target(&self) -> Result<Option<(String, usize)>, Refusal> {
        let Some(name) = self.query("target") else {
            return Ok(None);
        };
        if !self.db().clustered {
            return Ok(None);
        }
        let machine = self
            .world
            .machine_of(self.at, name)
            .ok_or_else(|| Refusal::not_found("Cluster member not found"))?;
        Ok(Some((name.to_owned(), machine)))
    }

    /// Like [`Call::target`], and the member must answer: the request is passed on to it.
    pub fn reached_target(&mut self) -> Result<Option<(String, usize)>, Refusal> {
        let target = self.target()?;
        if let Some((_, machine)) = &target
            && !self.world.lxd_reaches(self.at, *machine)
        {
            self.delay = TARGET_PATIENCE;
            return Err(Refusal::failed(
                "Missing event connection with target cluster member",
            ));
        }
        Ok(target)
    }

    /// Refuses when a member does not answer: some writes are made on all members at once.
    pub fn all_members_up(&self) -> Result<(), Refusal> {
        let db = self.db();
        if !db.clustered {
            return Ok(());
        }
        if let Some(down) = db.members.values().find(|m| self.is_offline(m)) {
            let message = format!("peer node {} is down", down.address);
            return Err(Refusal::failed(message));
        }
        let unheard = |m: &&MemberRow| !self.world.lxd_reaches(self.at, m.machine);
        match db.members.values().find(unheard) {
            Some(peer) => Err(Refusal::failed(format!(
                "failed to notify peer {address}: {method} \"https://{address}{path}\": \
                 Unable to connect to: {address} ([dial tcp {address}: connect: connection refused])",
                address = peer.address,
                method = self.go_method(),
                path = self.request.path,
            ))),
            None => Ok(()),
        }
    }

    /// Whether a member counts as offline.
    pub fn is_offline(&self, member: &MemberRow) -> bool {
        let threshold = self
            .world
            .offline_threshold(self.world.machines[self.at].lxd.db);
        member
            .lost_since
            .is_some_and(|since| Instant::now().duration_since(since) > threshold)
    }

    /// The method as Go's client writes it in errors.
    fn go_method(&self) -> &'static str {
        match self.request.method {
            Method::Get => "Get",
            Method::Post => "Post",
            Method::Put => "Put",
            Method::Patch => "Patch",
            Method::Delete => "Delete",
        }
    }

    /// What LXD does when a network or pool was changed: every other member tells of it too,
    /// without saying who asked, before the asked one does.
    pub fn tell_all(&mut self, action: &str, source: &str, project: &str) {
        let others: Vec<usize> = self
            .db()
            .members
            .values()
            .map(|m| m.machine)
            .filter(|m| *m != self.at)
            .collect();
        for machine in others {
            let event = Lifecycle {
                action,
                source: source.to_owned(),
                project,
                nobody: true,
            };
            self.world.emit(machine, event);
        }
        self.tell(action, source.to_owned(), project);
    }

    /// Tells that something was done through the asked LXD.
    pub fn tell(&mut self, action: &str, source: String, project: &str) {
        let event = Lifecycle {
            action,
            source,
            project,
            nobody: false,
        };
        self.world.emit(self.at, event);
    }

    /// Names in another order with every call: LXD's lists of members have none.
    pub fn shuffled<'a>(&self, names: impl Iterator<Item = &'a String>) -> Vec<&'a String> {
        let mut names: Vec<&String> = names.collect();
        if !names.is_empty() {
            let turn = self.world.next_turn() % names.len();
            names.rotate_left(turn);
        }
        names
    }
}

/// How long a request waits for a member that it shall be passed on to.
const TARGET_PATIENCE: Duration = Duration::from_secs(10);

/// Takes the percent-encoding from a segment of a path.
fn decode(segment: &str) -> String {
    let bytes = segment.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        let byte = bytes
            .get(i + 1..i + 3)
            .filter(|_| bytes[i] == b'%')
            .and_then(|hex| std::str::from_utf8(hex).ok())
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match byte {
            Some(byte) => {
                out.push(byte);
                i += 3;
            }
            None => {
                out.push(bytes[i]);
                i += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Query parameters that LXD knows; others are dropped, as it ignores them.
const QUERY: [&str; 8] = [
    "all-projects",
    "filter",
    "force",
    "project",
    "recursion",
    "target",
    "timeout",
    "type",
];

/// The parameters of a query as it stands in a URL.
pub(super) fn parse_query(query: &str) -> Vec<(&'static str, String)> {
    query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .filter_map(|(key, value)| {
            let key = QUERY.into_iter().find(|k| *k == key)?;
            Some((key, decode(&value.replace('+', " "))))
        })
        .collect()
}

/// A segment of a URL as LXD writes it.
pub(super) fn encode(segment: &str) -> String {
    use std::fmt::Write;
    segment.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-_.~$&+:=@".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_decoded_and_encoded() {
        assert_eq!(decode("a%2Fb%20c"), "a/b c");
        assert_eq!(decode("100%"), "100%");
        assert_eq!(encode("a/b c"), "a%2Fb%20c");
        assert_eq!(decode(&encode("größe")), "größe");
    }
}
