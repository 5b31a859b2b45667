//! What a simulation came to, for people and for programs.

use super::drift::{Repair, distribution};
use super::session::Waited;
use crate::reconcile::history::Event;
use crate::reconcile::status::{ConditionType, ObjectStatus};
use crate::services::host::CephReport;
use comfy_table::{Table, presets};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::fmt::Write;
use std::time::Duration;

/// What was spent on something.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cost {
    /// Simulated time.
    pub took: Duration,
    /// Requests to LXD.
    pub requests: u64,
    /// Writes among them.
    pub writes: u64,
    /// Calls to agents.
    pub agent_calls: u64,
    /// Commands of Ceph.
    pub ceph_commands: u64,
    /// Those among them that may change something.
    pub ceph_writes: u64,
    /// Plans that were made.
    pub plans: u64,
    /// Steps that were done.
    pub steps: u64,
}

impl Cost {
    /// What was spent after `before`; the time is kept.
    pub fn since(self, before: Cost) -> Cost {
        Cost {
            took: self.took,
            requests: self.requests - before.requests,
            writes: self.writes - before.writes,
            agent_calls: self.agent_calls - before.agent_calls,
            ceph_commands: self.ceph_commands - before.ceph_commands,
            ceph_writes: self.ceph_writes - before.ceph_writes,
            plans: self.plans - before.plans,
            steps: self.steps - before.steps,
        }
    }

    fn json(self) -> Value {
        json!({
            "simulatedSeconds": self.took.as_secs_f64(),
            "requests": self.requests,
            "writes": self.writes,
            "agentCalls": self.agent_calls,
            "cephCommands": self.ceph_commands,
            "cephWrites": self.ceph_writes,
            "plans": self.plans,
            "steps": self.steps,
        })
    }
}

/// What a simulation came to.
#[derive(Debug)]
pub struct Report {
    /// How it ended.
    pub waited: Waited,
    /// How many resources there were.
    pub objects: usize,
    /// How many machines.
    pub machines: usize,
    /// What it took until all was as written.
    pub forming: Cost,
    /// What a minute costs in which nothing differs.
    pub idle: Cost,
    /// What one changed profile cost.
    pub change: Option<Cost>,
    /// What was changed by hand.
    pub repairs: Vec<Repair>,
    /// What went wrong.
    pub disturbances: Vec<String>,
    /// What could not be simulated.
    pub notes: Vec<String>,
    /// How long reading the files took.
    pub reading: Duration,
    /// How long everything took.
    pub wall: Duration,
    /// How much time passed in the simulation.
    pub simulated: Duration,
    /// How every object ended.
    pub status: Vec<ObjectStatus>,
    /// What the machines have of Ceph, where they have any.
    pub ceph: Vec<(String, CephReport)>,
}

impl Default for Report {
    fn default() -> Report {
        Report {
            waited: Waited::TimedOut,
            objects: 0,
            machines: 0,
            forming: Cost::default(),
            idle: Cost::default(),
            change: None,
            repairs: Vec::new(),
            disturbances: Vec::new(),
            notes: Vec::new(),
            reading: Duration::ZERO,
            wall: Duration::ZERO,
            simulated: Duration::ZERO,
            status: Vec::new(),
            ceph: Vec::new(),
        }
    }
}

/// Above this many objects only those that are not ready are listed.
const LISTED: usize = 100;

impl Report {
    /// Whether everything came to be as written and stayed so.
    pub fn as_wanted(&self) -> bool {
        self.waited == Waited::Converged && super::not_repaired(&self.repairs) == 0
    }

    /// One JSON document; the names are kept stable.
    pub fn json(&self) -> String {
        let repairs: Vec<Value> = self
            .repairs
            .iter()
            .map(|r| json!({"what": r.what, "seconds": r.took.map(|t| t.as_secs_f64())}))
            .collect();
        let ceph: Vec<Value> = self
            .ceph
            .iter()
            .map(
                |(member, has)| json!({"member": member, "daemons": has.daemons, "osds": has.osds}),
            )
            .collect();
        let document = json!({
            "converged": self.waited == Waited::Converged,
            "machines": self.machines,
            "resources": self.objects,
            "readSeconds": self.reading.as_secs_f64(),
            "wallSeconds": self.wall.as_secs_f64(),
            "simulatedSeconds": self.simulated.as_secs_f64(),
            "peakMemoryBytes": peak_memory(),
            "forming": self.forming.json(),
            "idleMinute": self.idle.json(),
            "oneChange": self.change.map(Cost::json),
            "drift": repairs,
            "faults": self.disturbances,
            "notes": self.notes,
            "objects": self.status,
            "ceph": ceph,
        });
        format!("{document:#}\n")
    }

    /// Tables and sentences.
    pub fn text(&self) -> String {
        let mut out = String::new();
        // Writing to a String cannot fail.
        let _ = self.write_text(&mut out);
        out
    }

    fn write_text(&self, out: &mut String) -> std::fmt::Result {
        for note in &self.notes {
            writeln!(out, "note: {note}")?;
        }
        writeln!(out, "\n{}", self.status_table())?;
        if !self.ceph.is_empty() && self.ceph.len() <= LISTED {
            writeln!(out, "{}\n", self.ceph_table())?;
        }
        let end = match self.waited {
            Waited::Converged => "everything is as written",
            Waited::TimedOut => "the time is over and not everything is as written",
            Waited::Stuck => "nothing moves any more and not everything is as written",
        };
        writeln!(
            out,
            "{end}: {} on {}",
            count(self.objects, "resource"),
            count(self.machines, "machine")
        )?;
        writeln!(out, "{}", self.cost_table())?;
        if !self.disturbances.is_empty() {
            writeln!(out, "disturbed {} times", self.disturbances.len())?;
        }
        if !self.repairs.is_empty() {
            writeln!(
                out,
                "changed by hand: {}, not repaired: {}",
                self.repairs.len(),
                super::not_repaired(&self.repairs)
            )?;
            if let Some((least, middle, most)) = distribution(&self.repairs) {
                writeln!(
                    out,
                    "repaired after: {} at least, {} in the middle, {} at most",
                    seconds(least),
                    seconds(middle),
                    seconds(most)
                )?;
            }
            for repair in self.repairs.iter().filter(|r| r.took.is_none()) {
                writeln!(out, "not repaired: {}", repair.what)?;
            }
        }
        let memory = peak_memory().map_or_else(|| "unknown".to_owned(), mebibytes);
        writeln!(
            out,
            "read the files in {}, all in {} of real and {} of simulated time, {memory} of memory at \
             most",
            seconds(self.reading),
            seconds(self.wall),
            seconds(self.simulated)
        )
    }

    fn status_table(&self) -> String {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_header(["OBJECT", "STATUS", "REASON", "MESSAGE"]);
        let all = self.status.len() <= LISTED;
        let mut left_out = 0;
        for status in &self.status {
            if !all && status.ready() {
                left_out += 1;
                continue;
            }
            let ready = status.condition(ConditionType::Ready);
            table.add_row([
                status.object.to_string(),
                status.word().to_owned(),
                ready.map(|c| c.reason.clone()).unwrap_or_default(),
                ready.map(|c| c.message.clone()).unwrap_or_default(),
            ]);
        }
        let mut text = if left_out < self.status.len() {
            table.trim_fmt() + "\n"
        } else {
            String::new()
        };
        if left_out > 0 {
            let _ = writeln!(text, "and {} ready", count(left_out, "object"));
        }
        text
    }

    /// Daemons and OSDs by machine; what does not run is named with how it stands.
    fn ceph_table(&self) -> String {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_header(["MACHINE", "CEPH", "OSDS"]);
        let standing = |what: String, unit: &str| match unit {
            "active" => what,
            unit => format!("{what} ({unit})"),
        };
        for (member, has) in &self.ceph {
            let daemons = has.daemons.iter();
            let daemons: Vec<String> = daemons
                .map(|d| standing(d.kind.word().to_owned(), &d.unit))
                .collect();
            let osds: Vec<String> = has
                .osds
                .iter()
                .map(|osd| {
                    let id = osd.id.map_or_else(|| "?".to_owned(), |id| id.to_string());
                    standing(format!("osd.{id} on {}", osd.path), &osd.unit)
                })
                .collect();
            table.add_row([member.clone(), daemons.join(", "), osds.join(", ")]);
        }
        table.trim_fmt()
    }

    fn cost_table(&self) -> String {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_header([
            "",
            "TIME",
            "REQUESTS",
            "WRITES",
            "AGENT CALLS",
            "CEPH COMMANDS",
            "PLANS",
            "STEPS",
        ]);
        let mut row = |what: &str, cost: Cost| {
            table.add_row([
                what.to_owned(),
                seconds(cost.took),
                cost.requests.to_string(),
                cost.writes.to_string(),
                cost.agent_calls.to_string(),
                cost.ceph_commands.to_string(),
                cost.plans.to_string(),
                cost.steps.to_string(),
            ]);
        };
        row("all of it", self.forming);
        if self.waited == Waited::Converged {
            row("a minute of rest", self.idle);
        }
        if let Some(change) = self.change {
            row("one changed profile", change);
        }
        table.trim_fmt()
    }
}

/// An event as one line: when, on the cloud's clock, of what, and what.
pub fn event_line(started: Timestamp, event: &Event) -> String {
    let at = event.at.duration_since(started).as_secs_f64().max(0.0);
    let object = event
        .object
        .as_ref()
        .map(ToString::to_string)
        .unwrap_or_default();
    format!("{at:8.2}s  {object}  {}  {}\n", event.reason, event.message)
}

/// The most memory this process had, bytes; `None` where the kernel does not say.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kibibytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kibibytes * 1024)
}

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes / (1 << 20))
}

fn seconds(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    match seconds {
        0.0..10.0 => format!("{seconds:.2} s"),
        10.0..600.0 => format!("{seconds:.1} s"),
        _ => format!("{:.0} min", seconds / 60.0),
    }
}

fn count(number: usize, what: &str) -> String {
    match number {
        1 => format!("1 {what}"),
        _ => format!("{number} {what}s"),
    }
}
