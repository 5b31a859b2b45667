//! What happened: the last events, repeated ones counted instead of listed again.

use crate::resources::ObjectRef;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// How many events are kept.
const KEPT: usize = 1000;

/// How important an event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Severity {
    /// As it should be.
    Normal,
    /// Somebody should look.
    Warning,
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Rises with every event; the position to go on from.
    pub number: u64,
    /// When, the last time if it happened more than once.
    pub at: Timestamp,
    /// To which object; none for the controller itself.
    pub object: Option<ObjectRef>,
    /// How important it is.
    pub severity: Severity,
    /// A stable word.
    pub reason: String,
    /// A sentence.
    pub message: String,
    /// How many times it happened in a row.
    pub count: u64,
}

/// The last events.
#[derive(Debug, Default)]
pub struct History {
    events: VecDeque<Event>,
    next: u64,
}

impl History {
    /// Adds an event; one that is the same as the object's last one only raises its count.
    pub fn add(
        &mut self,
        at: Timestamp,
        object: Option<&ObjectRef>,
        severity: Severity,
        reason: &str,
        message: String,
    ) {
        self.next += 1;
        let last = self
            .events
            .iter()
            .rposition(|e| e.object.as_ref() == object);
        if let Some(position) = last {
            let same = &self.events[position];
            if same.reason == reason && same.message == message {
                if let Some(mut event) = self.events.remove(position) {
                    event.count += 1;
                    event.at = at;
                    event.number = self.next;
                    self.events.push_back(event);
                }
                return;
            }
        }
        if self.events.len() == KEPT {
            self.events.pop_front();
        }
        self.events.push_back(Event {
            number: self.next,
            at,
            object: object.cloned(),
            severity,
            reason: reason.to_owned(),
            message,
            count: 1,
        });
    }

    /// The events after a number, oldest first.
    pub fn after(&self, number: u64) -> Vec<Event> {
        self.events
            .iter()
            .filter(|e| e.number > number)
            .cloned()
            .collect()
    }
}
