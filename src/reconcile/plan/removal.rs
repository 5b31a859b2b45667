//! `Member` with `state: Absent`: a member leaves the cluster, one thing after the other.
//!
//! # Guarantees
//! - Nothing begins without an approval that names the member. It is used up by the first step,
//!   which the inventory remembers; taking `state: Absent` back forgets it.
//! - A member that answers leaves in order: it hands over the control, its instances move away,
//!   what it holds for all is moved, and only when nothing lies on it LXD lets it go; then its
//!   services, and at last its key.
//! - One that is lost goes only by an approval of its own (`remove-lost`), while LXD takes it for
//!   offline and its agent is silent, both read again just before. What is lost with it is said.
//! - One member at a time, never the last one, and never while another one is away.

use super::cluster::target;
use super::diff::Verb;
use super::disk::is_choice;
use super::lost;
use super::member::{is_lost, silence};
use super::step::{Action, Claim, ClaimOn, Guard, Step};
use super::{Change, Plan, Topic, View, ceph, cluster_stands, ovn, reasons, volumes};
use crate::reconcile::safety;
use crate::resources::kinds::{DiskUse, MemberSpec, MemberState};
use crate::resources::{Kind, ObjectRef, Spec};
use crate::services::host::{HostReport, LxdReport, POOL_MARKS, WipeDisk};
use crate::services::lxd::types::Member;

/// The path by which the inventory remembers that a removal was approved and begun.
const BEGUN: &str = "removal.begun";

/// The same of a removal of a member that was lost.
const BEGUN_LOST: &str = "removal.lost";

/// How it stands with the machine of a member that is to leave.
enum Machine {
    /// Its agent answers, and its LXD is in the cluster.
    Answers,
    /// It does not answer, for how long or why is in the sentence; that may pass.
    Silent(String),
    /// It is lost, or was installed anew: what the cluster knows of it is all that is left.
    Lost(String),
}

pub(super) fn plan(
    object: &ObjectRef,
    spec: &MemberSpec,
    row: Option<&Member>,
    view: &View<'_>,
    plan: &mut Plan,
) {
    match row {
        Some(row) => leave(object, spec, row, view, plan),
        None => forget(object, spec, view, plan),
    }
}

/// Whether a member is wanted absent and has begun to leave: until then it keeps its places.
pub(in crate::reconcile::plan) fn is_under_way(name: &str, view: &View<'_>) -> bool {
    let object = ObjectRef::new(Kind::Member, name);
    let absent = view
        .desired
        .member(name)
        .is_some_and(|m| m.state == MemberState::Absent);
    absent && (begun(&object, BEGUN, view) || begun(&object, BEGUN_LOST, view))
}

/// Whether a removal was approved and begun.
fn begun(object: &ObjectRef, marker: &str, view: &View<'_>) -> bool {
    view.entry(object)
        .is_some_and(|entry| entry.applied.contains(marker))
}

fn claims(name: &str) -> Vec<Claim> {
    vec![
        Claim::exclusive(ClaimOn::Membership),
        Claim::exclusive(ClaimOn::Member(name.to_owned())),
    ]
}

/// It is in the cluster still.
fn leave(object: &ObjectRef, spec: &MemberSpec, row: &Member, view: &View<'_>, plan: &mut Plan) {
    let name = &object.name;
    plan.verb = Verb::Delete;
    plan.changes.push(Change::new(
        "state",
        Some(row.status.as_str()),
        Some("Absent"),
    ));
    if !cluster_stands(plan, view) || !may_leave(object, view, plan) {
        return;
    }
    match machine(name, row, view) {
        Machine::Answers => in_order(object, spec, row, view, plan),
        Machine::Silent(why) => {
            plan.wait(Topic::Host(name.clone()), reasons::UNREACHABLE, why);
            plan.wait(
                Topic::Members,
                reasons::MEMBER_DOWN,
                format!("{name} is {} in LXD", row.status),
            );
        }
        Machine::Lost(why) => by_force(object, spec, row, &why, view, plan),
    }
}

fn machine(name: &str, row: &Member, view: &View<'_>) -> Machine {
    let host = view.world.hosts.get(name);
    let answers = host
        .filter(|h| h.error.is_none())
        .and_then(|h| h.report.known());
    let offline = row.status == "Offline";
    match answers {
        Some(report) => match &report.lxd {
            LxdReport::Running(lxd) if lxd.clustered => Machine::Answers,
            LxdReport::Running(lxd) if !lxd.joining && offline => Machine::Lost(format!(
                "LXD on {name} is in no cluster (was it reinstalled?)"
            )),
            _ => Machine::Silent(format!("LXD on {name} does not answer")),
        },
        None if offline && host.is_some_and(|h| is_lost(h, view.now)) => {
            Machine::Lost(silence(name, view))
        }
        None => Machine::Silent(silence(name, view)),
    }
}

/// Whether the cluster can do without it now; says why not, with the numbers.
fn may_leave(object: &ObjectRef, view: &View<'_>, plan: &mut Plan) -> bool {
    let name = &object.name;
    let Some(rows) = view.world.lxd.members.known() else {
        return false;
    };
    let leaves = |other: &str| {
        let spec = view.desired.member(other);
        spec.is_some_and(|m| m.state == MemberState::Absent)
    };
    let stay = rows.keys().filter(|other| !leaves(other)).count();
    if stay == 0 {
        plan.refuse(
            reasons::REMOVAL,
            format!(
                "all {} members of the cluster are wanted absent, and {name} cannot leave nobody \
                 behind: one member must stay",
                rows.len()
            ),
        );
        return false;
    }
    let away: Vec<&str> = view.world.members_down();
    let away: Vec<&str> = away.into_iter().filter(|other| !leaves(other)).collect();
    if !away.is_empty() {
        plan.wait(
            Topic::Down,
            reasons::MEMBER_DOWN,
            format!(
                "{} not online: {name} is only removed while all {stay} members that stay are",
                match away.as_slice() {
                    [one] => format!("{one} is"),
                    many => format!("{} are", many.join(", ")),
                }
            ),
        );
        return false;
    }
    let ahead = rows.keys().find(|other| {
        let reference = ObjectRef::new(Kind::Member, other.as_str());
        let begun = |object: &ObjectRef| begun(object, BEGUN, view);
        *other != name
            && leaves(other)
            && begun(&reference)
            && (!begun(object) || other.as_str() < name.as_str())
    });
    if let Some(other) = ahead {
        let reference = ObjectRef::new(Kind::Member, other.as_str());
        plan.wait(
            Topic::Object(reference),
            reasons::CLAIMED,
            format!("{other} leaves first: one member at a time"),
        );
        return false;
    }
    true
}

/// It answers: what it carries goes elsewhere before it goes.
fn in_order(object: &ObjectRef, spec: &MemberSpec, row: &Member, view: &View<'_>, plan: &mut Plan) {
    let name = &object.name;
    if !ceph::leave::may_leave(name, view, plan) {
        return;
    }
    let approval = format!("{object}/remove@{name}");
    let approved = view.memory.approved(&approval, view.now);
    if !(begun(object, BEGUN, view) || begun(object, BEGUN_LOST, view) || approved) {
        plan.needs_approval(
            approval,
            format!(
                "removing {name} moves its instances and what it carries for all to the others{}",
                lost::carries(name, view)
            ),
        );
        return;
    }
    let mut push = |mut step: Step, plan: &mut Plan| {
        if approved {
            step.approval = Some(approval.clone());
        }
        step.remembers = Some(BEGUN.to_owned());
        plan.steps.push(step);
    };
    if view.memory.lease.holder == *name {
        let step = Step::new(
            object,
            Action::HandOver,
            claims(name),
            format!("have another member control, as {name} leaves"),
        );
        push(step, plan);
        return;
    }
    match row.status.as_str() {
        "Online" => {
            let step = Step::new(
                object,
                Action::Evacuate { name: name.clone() },
                claims(name),
                format!("evacuate {name}"),
            );
            push(step, plan);
            return;
        }
        "Evacuated" => {}
        other => {
            plan.wait(
                Topic::Members,
                reasons::MEMBER_DOWN,
                format!("{name} is {other} in LXD: {}", row.message),
            );
            return;
        }
    }
    match view.world.lxd.leaving.get(name).map(|held| held.get()) {
        Some(Ok(held)) if volumes::others_held(held, view).is_empty() => {}
        Some(Ok(held)) => {
            let held = volumes::others_held(held, view);
            plan.wait(
                Topic::Object(object.clone()),
                reasons::IN_USE,
                format!(
                    "{name} still holds what evacuating does not move: {}; move or delete it (lxc \
                     move NAME --target MEMBER)",
                    safety::used_by(&held)
                ),
            );
            return;
        }
        Some(Err(why)) => return plan.unknown(&format!("what lies on {name}"), why),
        None => return plan.unknown(&format!("what lies on {name}"), "it was not read yet"),
    }
    // Both at once: they have nothing to do with each other.
    let stored = ceph::leave::member(object, spec, false, view, plan, &mut push);
    let connected = ovn::has_left(name, view, plan);
    if !(stored && connected) {
        return;
    }
    match volumes::leave(object, view) {
        Ok(steps) if steps.is_empty() => {}
        Ok(steps) => return steps.into_iter().for_each(|step| push(step, plan)),
        Err(why) => return plan.unknown(&format!("the server keys of {name}"), &why),
    }
    let step = Step::new(
        object,
        Action::RemoveMember { name: name.clone() },
        claims(name),
        format!("take {name} out of LXD's cluster"),
    )
    .guarded(Guard::Leaves { name: name.clone() });
    push(step, plan);
}

/// It does not answer and never will: it is struck.
fn by_force(
    object: &ObjectRef,
    spec: &MemberSpec,
    row: &Member,
    why: &str,
    view: &View<'_>,
    plan: &mut Plan,
) {
    let name = &object.name;
    let held = match view.world.lxd.leaving.get(name).and_then(|h| h.known()) {
        Some(held) if volumes::others_held(held, view).is_empty() => {
            "nothing of LXD's lies on it".to_owned()
        }
        Some(held) => {
            let held = volumes::others_held(held, view);
            format!("lost with it: {}", safety::used_by(&held))
        }
        None => "what lies on it is not known".to_owned(),
    };
    let approval = format!("{object}/remove-lost@{name}");
    let approved = view.memory.approved(&approval, view.now);
    if !begun(object, BEGUN_LOST, view) && !approved {
        plan.needs_approval(
            approval,
            format!(
                "{name} does not answer ({why}), so nothing can be moved away from it; bring it \
                 back, or give it up: {held}{}",
                lost::carries(name, view)
            ),
        );
        return;
    }
    let mut step = Step::new(
        object,
        Action::StrikeMember { name: name.clone() },
        claims(name),
        format!("strike the lost member {name} from LXD's cluster; {held}"),
    )
    .guarded(Guard::Lost {
        target: target(name, spec),
        address: row.url.clone(),
    });
    if approved {
        step.approval = Some(approval);
    }
    step.remembers = Some(BEGUN_LOST.to_owned());
    plan.steps.push(step);
}

/// It is in the cluster no more: what is left of it goes, its key last.
fn forget(object: &ObjectRef, spec: &MemberSpec, view: &View<'_>, plan: &mut Plan) {
    let name = &object.name;
    let trusted = view.memory.trust.members.contains_key(name);
    if view.entry(object).is_none() && !trusted {
        return;
    }
    if view.world.lxd.clustered() != Some(true) || view.world.lxd.members.known().is_none() {
        return;
    }
    plan.verb = Verb::Delete;
    plan.changes
        .push(Change::new("state", Some("Leaving"), Some("Absent")));
    let lost = begun(object, BEGUN_LOST, view);
    let mut push = |step: Step, plan: &mut Plan| plan.steps.push(step);
    let stored = ceph::leave::member(object, spec, lost, view, plan, &mut push);
    let connected = ovn::has_left(name, view, plan);
    if !(stored && connected) {
        return;
    }
    let answers = view
        .world
        .hosts
        .get(name)
        .filter(|h| h.error.is_none())
        .and_then(|h| h.report.known());
    let starts_anew = |report: &HostReport| match &report.lxd {
        LxdReport::Running(lxd) => lxd.clustered,
        LxdReport::NotRunning { .. } => true,
        LxdReport::NotInstalled | LxdReport::JoinCut => false,
    };
    if !lost && answers.is_some_and(starts_anew) {
        plan.wait(
            Topic::Host(name.clone()),
            reasons::PROGRESSING,
            format!("LXD on {name} starts anew"),
        );
        return;
    }
    let mut left = view.memory.trust.clone();
    left.members.remove(name);
    left.version += 1;
    let told = view
        .world
        .hosts
        .get(name)
        .is_some_and(|h| h.error.is_none());
    plan.steps.push(Step::new(
        object,
        Action::ForgetMember {
            name: name.clone(),
            ceph: ceph::leave::fsid(view),
            ovn: ovn::is_run(view),
            disks: answers.map_or_else(Vec::new, |report| emptied(name, report, view)),
            target: told.then(|| target(name, spec)),
            left,
        },
        claims(name),
        format!("trust the key of {name} no more, and forget what was its own"),
    ));
}

/// The disks of a machine that were given to pools of LXD's, which has deleted them when it let the
/// machine go: nothing is on them but the mark of a pool.
fn emptied(name: &str, report: &HostReport, view: &View<'_>) -> Vec<WipeDisk> {
    let alone = matches!(&report.lxd, LxdReport::Running(lxd)
        if !lxd.clustered && lxd.leftovers.is_empty());
    let of_pools = view
        .desired
        .of_kind(Kind::Disk)
        .filter(|(_, resource)| match &resource.spec {
            Spec::Disk(disk) => alone && disk.usage != DiskUse::Ceph,
            _ => false,
        });
    let choices = of_pools.flat_map(|(object, _)| ceph::disk::choices(object, name, view));
    let disks = choices.filter(|(_, choice)| choice.handed_over);
    disks
        .filter_map(|(_, choice)| report.disks.iter().find(|d| is_choice(d, choice)))
        .filter(|disk| !disk.root && !disk.signatures.is_empty())
        .filter(|disk| {
            disk.signatures
                .iter()
                .all(|s| POOL_MARKS.contains(&s.as_str()))
        })
        .map(|disk| WipeDisk {
            path: disk.path.clone(),
            serial: disk.serial.clone(),
            size: disk.size,
        })
        .collect()
}
