//! What LXD left on machines that stopped while it made something there.
//!
//! LXD makes pools and networks on every member and refuses to begin again where the directory or
//! the interface is. Where it was made after all, the machine leaves it alone: only the machine's
//! own LXD can say that.

use super::View;
use super::cluster::target;
use super::step::{Action, Claim, ClaimOn, Step};
use crate::reconcile::memory::Ownership;
use crate::resources::ObjectRef;
use crate::services::host::{ClearHalfMade, HalfMade, HostReport};

/// The steps that clear it away on every machine where something of the object is `left`; none
/// unless this controller began to make it.
pub(super) fn clearing(
    object: &ObjectRef,
    left: impl Fn(&HostReport) -> bool,
    what: impl Fn(&str) -> HalfMade,
    view: &View<'_>,
) -> Vec<Step> {
    let ours = view
        .entry(object)
        .is_some_and(|e| e.ownership == Ownership::Intended);
    let members = view.desired.members().filter(|(name, _)| {
        let report = view.world.hosts.get(*name).and_then(|h| h.report.known());
        ours && report.is_some_and(&left)
    });
    let step = |(name, member)| {
        Step::new(
            object,
            Action::ClearHalfMade {
                target: target(name, member),
                request: ClearHalfMade {
                    name: name.to_owned(),
                    what: what(name),
                },
            },
            vec![
                Claim::exclusive(ClaimOn::Object(object.clone())),
                Claim::shared(ClaimOn::Membership),
            ],
            format!("clear away what is left of {object} on {name}"),
        )
    };
    members.map(step).collect()
}
