//! Event streams: what is done on one member is told to the streams of all.

use super::world::World;
use crate::services::lxd::TransportError;
use serde_json::{Value, json};
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::Instant;

/// An event on its way, or the end of the stream.
pub(super) type Delivery = Result<(Instant, Value), TransportError>;

/// Open event streams.
#[derive(Debug, Default)]
pub(super) struct Hub {
    streams: Vec<Stream>,
}

#[derive(Debug)]
struct Stream {
    machine: usize,
    types: Vec<String>,
    sender: UnboundedSender<Delivery>,
}

impl Hub {
    /// Opens a stream on a machine.
    pub fn open(&mut self, machine: usize, types: Vec<String>, sender: UnboundedSender<Delivery>) {
        self.streams.retain(|s| !s.sender.is_closed());
        self.streams.push(Stream {
            machine,
            types,
            sender,
        });
    }

    /// Breaks all streams of a machine.
    pub fn break_streams(&mut self, machine: usize) {
        self.streams.retain(|stream| {
            if stream.machine == machine {
                let _ = stream.sender.send(Err(TransportError::Broken {
                    endpoint: "the event stream".into(),
                    reason: "connection reset by peer".into(),
                }));
            }
            stream.machine != machine
        });
    }

    /// How many streams are open on a machine.
    pub fn open_on(&self, machine: usize) -> usize {
        self.streams
            .iter()
            .filter(|s| s.machine == machine && !s.sender.is_closed())
            .count()
    }
}

/// What happened to which object.
#[derive(Debug, Clone, Default)]
pub(super) struct Lifecycle<'a> {
    /// Such as `profile-updated`.
    pub action: &'a str,
    /// The object's URL.
    pub source: String,
    /// Its project; `default` when empty.
    pub project: &'a str,
    /// Whether it is not told who asked for it.
    pub nobody: bool,
}

impl World {
    /// Tells the streams that something was done through the LXD of `machine`.
    pub fn emit(&mut self, machine: usize, event: Lifecycle<'_>) {
        if self.hub.streams.is_empty() {
            return;
        }
        let requestor = if event.nobody {
            json!({"username": "", "protocol": "", "address": ""})
        } else {
            json!({"username": "root", "protocol": "unix", "address": "@"})
        };
        let metadata = json!({
            "action": event.action,
            "source": event.source,
            "requestor": requestor,
        });
        self.send_event(machine, "lifecycle", event.project, metadata);
    }

    /// Tells the streams of an operation's new state.
    pub fn emit_operation(&mut self, machine: usize, project: &str, operation: Value) {
        if !self.hub.streams.is_empty() {
            self.send_event(machine, "operation", project, operation);
        }
    }

    fn send_event(&mut self, machine: usize, kind: &str, project: &str, metadata: Value) {
        let now = Instant::now();
        let timestamp = self.event_timestamp();
        let lxd = &self.machines[machine].lxd;
        let (db, quiet) = (lxd.db, lxd.quiet_until.is_some_and(|until| now < until));
        // In a cluster a member's own events arrive twice at those who listen to it.
        let copies = if lxd.clustered() { 2 } else { 1 };
        let frame = json!({
            "type": kind,
            "timestamp": timestamp,
            "location": lxd.member,
            "project": if project.is_empty() { "default" } else { project },
            "metadata": metadata,
        });
        let at = now + self.timings.event_delay;
        for stream in &self.hub.streams {
            let here = stream.machine == machine;
            let told = here
                || (!quiet
                    && self.machines[stream.machine].lxd.db == db
                    && self.lxd_reaches(machine, stream.machine));
            if told && stream.types.iter().any(|t| t == kind) {
                for _ in 0..if here { copies } else { 1 } {
                    // A closed stream is forgotten when the next one opens.
                    let _ = stream.sender.send(Ok((at, frame.clone())));
                }
            }
        }
    }
}
