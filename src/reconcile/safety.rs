//! "May this be touched now?": one place that every disruptive step asks. Pure.

use super::clock::age;
use super::memory::Ownership;
use super::plan::{Topic, View, Waiting, reasons};
use crate::resources::value::Deletion;
use std::time::Duration;

/// The window deletions are counted over.
const WINDOW: Duration = Duration::from_secs(3600);

/// How many users of an object a sentence names.
const NAMED: usize = 5;

/// Pool and network writes wait while a member is offline: LXD refuses them anyway, and half of
/// them would be done.
pub fn all_members_online(view: &View<'_>) -> Option<Waiting> {
    let down = view.world.members_down();
    if down.is_empty() {
        return None;
    }
    Some(Waiting {
        on: Topic::Down,
        reason: reasons::MEMBER_DOWN.to_owned(),
        message: format!(
            "{} {} not online, and pools and networks are only written when every member is",
            down.join(", "),
            if down.len() == 1 { "is" } else { "are" }
        ),
    })
}

/// Whether deletions may go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deletions {
    /// They are within the limit.
    Allowed,
    /// They are beyond it, and somebody approved them.
    Approved(String),
    /// They are beyond it and are held as a whole.
    Held {
        /// The step to approve.
        approve: String,
        /// Why they are held.
        message: String,
    },
}

/// Counts the deletions of the last hour and those that are due against the limit.
pub fn deletions(view: &View<'_>) -> Deletions {
    let limit = view.desired.deletion_limit();
    let recent = view
        .memory
        .deletions
        .iter()
        .filter(|at| age(view.now, **at) < WINDOW)
        .count();
    let due = view
        .memory
        .inventory
        .iter()
        .filter(|(object, entry)| {
            !object.kind.never_pruned()
                && entry.ownership != Ownership::Adopted
                && entry.deletion == Deletion::Delete
                && !view.desired.resources.contains_key(object)
        })
        .count();
    if due + recent <= limit {
        return Deletions::Allowed;
    }
    let cluster = view
        .desired
        .cluster()
        .map_or("cluster", |(r, _)| r.name.as_str());
    let prefix = format!("Cluster/{cluster}/delete@");
    // An approval names how many deletions the operator saw, and covers the rest of those as
    // they are done, never more.
    let given = view.memory.approvals.iter().find(|(step, approval)| {
        approval.expires > view.now
            && step
                .strip_prefix(&prefix)
                .and_then(|n| n.parse::<usize>().ok())
                .is_some_and(|n| due <= n)
    });
    match given {
        Some((step, _)) => Deletions::Approved(step.clone()),
        None => Deletions::Held {
            approve: format!("{prefix}{due}"),
            message: format!(
                "{due} deletions are due and {recent} were done in the last hour, which is beyond \
                 deletionLimit {limit}: all of them are held"
            ),
        },
    }
}

/// Names what uses an object, the first few of them.
pub fn used_by(urls: &[String]) -> String {
    let named: Vec<&str> = urls
        .iter()
        .take(NAMED)
        .map(|u| u.strip_prefix("/1.0/").unwrap_or(u))
        .collect();
    match urls.len().saturating_sub(NAMED) {
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}
