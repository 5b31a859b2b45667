//! What remains of an object that has no resource any more.

use super::diff::Verb;
use super::step::{Action, Claim, ClaimOn, Step};
use super::{Plan, Topic, View, reasons};
use crate::reconcile::memory::Ownership;
use crate::reconcile::safety;
use crate::resources::value::Deletion;
use crate::resources::{Kind, ObjectRef};

pub(super) fn plan(object: &ObjectRef, view: &View<'_>) -> Plan {
    let mut plan = Plan::nothing(object);
    let Some(entry) = view.entry(object) else {
        return plan;
    };
    if object.kind.never_pruned() {
        plan.note(
            reasons::ORPHANED,
            format!(
                "no resource names {object} any more: it is left exactly as it is; write it again, \
                 or say state: Absent to remove it"
            ),
        );
        return plan;
    }
    let ours = entry.ownership != Ownership::Adopted;
    let keep = !ours || entry.deletion == Deletion::Retain || object.name == "default";
    let used_by = match used_by(object, view) {
        Ok(found) => found,
        Err(why) => {
            plan.unknown(&object.to_string(), why);
            return plan;
        }
    };
    let Some(used_by) = used_by.filter(|_| !keep) else {
        plan.verb = Verb::Release;
        plan.steps.push(Step::new(
            object,
            Action::Release,
            vec![Claim::exclusive(ClaimOn::Object(object.clone()))],
            format!("release {object}"),
        ));
        return plan;
    };
    plan.verb = Verb::Delete;
    if !used_by.is_empty() {
        plan.wait(
            Topic::Object(object.clone()),
            reasons::IN_USE,
            format!(
                "{object} is to be deleted and is still used by {}",
                safety::used_by(&used_by)
            ),
        );
        return plan;
    }
    if matches!(object.kind, Kind::Network | Kind::Uplink)
        && let Some(waiting) = safety::all_members_online(view)
    {
        plan.waiting_on.push(waiting);
        return plan;
    }
    // An approval of many deletions is not used up by one of them: it names their number and
    // expires.
    if let safety::Deletions::Held { approve, message } = safety::deletions(view) {
        plan.needs_approval(approve, message);
        plan.refused
            .iter_mut()
            .for_each(|r| r.reason = reasons::DELETION_LIMIT.to_owned());
        return plan;
    }
    let (project, name) = (object.project.clone(), object.name.clone());
    let action = match object.kind {
        Kind::Profile => Action::DeleteProfile { project, name },
        Kind::Project => Action::DeleteProject { name },
        Kind::Network | Kind::Uplink => Action::DeleteNetwork { project, name },
        Kind::Cluster | Kind::Member | Kind::Disk | Kind::StoragePool => return plan,
    };
    plan.steps.push(Step::new(
        object,
        action,
        vec![
            Claim::exclusive(ClaimOn::Object(object.clone())),
            Claim::shared(ClaimOn::Membership),
        ],
        format!("delete {object}"),
    ));
    plan
}

/// What uses the real object; `None` when it is not there.
fn used_by<'a>(object: &ObjectRef, view: &View<'a>) -> Result<Option<Vec<String>>, &'a str> {
    let lxd = &view.world.lxd;
    let key = (object.project.clone(), object.name.clone());
    Ok(match object.kind {
        Kind::Profile => lxd
            .profiles
            .get()?
            .get(&key)
            .map(|p| p.value.used_by.clone()),
        Kind::Network | Kind::Uplink => lxd
            .networks
            .get()?
            .get(&key)
            .map(|n| n.whole.value.used_by.clone()),
        // A project always lists its own default profile.
        Kind::Project => lxd.projects.get()?.get(&object.name).map(|p| {
            let own = format!("/1.0/profiles/default?project={}", object.name);
            p.value
                .used_by
                .iter()
                .filter(|url| **url != own)
                .cloned()
                .collect()
        }),
        Kind::Cluster | Kind::Member | Kind::Disk | Kind::StoragePool => None,
    })
}
