//! OVN from the distribution's packages: who holds the databases, who carries traffic, and with
//! which certificates.
//!
//! The databases belong to the `Cluster`, a machine's certificate and its part in carrying traffic
//! to its `Member`. The machines that hold the databases are chosen once: one that holds them
//! keeps them while it answers, so that nothing moves because a name was added.

mod authority;
mod chassis;
mod databases;
mod health;
mod lost;
mod network;
mod picture;
mod raft;

pub(super) use lost::Burdens;
pub(super) use network::{network_health, network_waits, server_keys};

use super::step::{Action, Claim, ClaimOn, OvnAction, Step};
use super::{Plan, Topic, Verb, View, reasons};
use crate::resources::ObjectRef;
use crate::services::host::{HostTarget, OvnDatabase, OvnRequest};
use authority::{authority, certificate};
use chassis::chassis;
use databases::{centrals, usable};
use picture::Picture;

/// LXD's key for the northbound database.
const NORTHBOUND_KEY: &str = "network.ovn.northbound_connection";

/// Plans the authority and the databases.
pub(in crate::reconcile::plan) fn cluster(object: &ObjectRef, view: &View<'_>, plan: &mut Plan) {
    let Some(picture) = Picture::of(view) else {
        return;
    };
    if picture.tls && !authority(object, &picture, view, plan) {
        return;
    }
    centrals(object, &picture, view, plan);
    if picture.tls {
        health::authority(&picture, view, plan);
    }
    plan.recheck_at = picture
        .centrals
        .iter()
        .filter_map(|c| picture.machines[c].lost_at)
        .filter(|at| *at > view.now)
        .min();
    differs(plan);
}

/// What was added to the differences makes the whole one.
pub(super) fn differs(plan: &mut Plan) {
    if plan.verb == Verb::Unchanged && !plan.changes.is_empty() {
        plan.verb = Verb::Update;
    }
}

pub(super) fn ask(
    object: &ObjectRef,
    target: HostTarget,
    request: OvnRequest,
    sentence: String,
) -> Step {
    let claims = vec![Claim::exclusive(ClaimOn::Ovn(target.name.clone()))];
    let action = Action::Ovn(Box::new(OvnAction::Ask { target, request }));
    Step::new(object, action, claims, sentence)
}

/// Plans a member's certificate, and its part in carrying traffic.
pub(in crate::reconcile::plan) fn member(object: &ObjectRef, view: &View<'_>, plan: &mut Plan) {
    let Some(picture) = Picture::of(view) else {
        return;
    };
    let name = object.name.as_str();
    let Some(machine) = picture.machines.get(name).filter(|m| m.joined) else {
        return;
    };
    let Some(ovn) = usable(object, name, machine, &picture, view, plan) else {
        return;
    };
    if picture.tls && !certificate(object, name, machine, &picture, view, plan) {
        return;
    }
    chassis(object, name, machine, ovn, &picture, view, plan);
    if plan.steps.is_empty() && plan.waiting_on.is_empty() {
        health::member(name, ovn, &picture, plan);
    }
    differs(plan);
}

/// Whether a member that leaves holds nothing of OVN any more that others need; says what it waits
/// for otherwise. The `Cluster` has the databases moved.
pub(in crate::reconcile::plan) fn has_left(name: &str, view: &View<'_>, plan: &mut Plan) -> bool {
    let Some(picture) = Picture::of(view) else {
        return true;
    };
    let address = view.desired.member(name).map(|m| m.address);
    let in_raft = OvnDatabase::BOTH.into_iter().any(|which| {
        let raft = picture.raft(which, Some(name));
        raft.is_some_and(|r| r.servers.iter().any(|s| Some(s.address) == address))
    });
    let machine = picture.machines.get(name);
    let holds = machine.is_some_and(|m| m.ovn_now().is_some_and(|o| o.central.is_ours()));
    if !(in_raft || holds) {
        return true;
    }
    let cluster = view
        .desired
        .cluster()
        .map(|(reference, _)| reference.clone());
    plan.wait(
        cluster.map_or(Topic::Ovn, Topic::Object),
        reasons::DEPENDENCY,
        format!("the others take OVN's databases over from {name} first"),
    );
    false
}

/// Whether OVN is run here.
pub(in crate::reconcile::plan) fn is_run(view: &View<'_>) -> bool {
    let cluster = view.desired.cluster();
    cluster.is_some_and(|(_, cluster)| picture::packaged(cluster).is_some())
}

pub(super) fn list<T: AsRef<str>>(words: impl IntoIterator<Item = T>) -> String {
    let words: Vec<T> = words.into_iter().collect();
    let words: Vec<&str> = words.iter().map(AsRef::as_ref).collect();
    words.join(", ")
}
