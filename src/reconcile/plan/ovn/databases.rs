//! Who holds the databases: made, joined, listening, given up.

use super::authority::certificate_lacks;
use super::chassis::strangers;
use super::picture::{Machine, Picture};
use super::raft::{health, strike_lost};
use super::{ask, list};
use crate::reconcile::plan::member::silence;
use crate::reconcile::plan::{Change, Plan, Topic, View, reasons};
use crate::resources::{Kind, ObjectRef};
use crate::services::host::{CentralConfig, OvnReport, OvnRequest};
use crate::services::ovn::{NORTHBOUND_PORT, SOUTHBOUND_PORT};

/// What each machine with the databases is to be told.
fn central_config(picture: &Picture<'_>, name: &str, first: bool) -> Option<CentralConfig> {
    let machine = picture.machines.get(name)?;
    let before = machine.ovn().and_then(|o| o.central.config.as_ref());
    let others = || picture.centrals.iter().copied().filter(|c| *c != name);
    let in_raft = |c: &str| {
        picture
            .machines
            .get(c)
            .and_then(Machine::ovn)
            .is_some_and(|o| o.central.is_ours() && o.central.files)
    };
    // One that made its raft is told of another as soon as there is one: were its files lost, it
    // would otherwise make a second raft when it starts again.
    let join = match before.and_then(|b| b.join) {
        Some(join) if others().any(|c| picture.address(c) == Some(join)) => Some(join),
        _ if first => None,
        _ => others()
            .find(|c| in_raft(c) && picture.machines[c].serves())
            .or_else(|| others().find(|c| in_raft(c)))
            .and_then(|c| picture.address(c)),
    };
    Some(CentralConfig {
        address: machine.spec.address,
        join,
        centrals: picture.addresses(),
        tls: picture.tls,
    })
}

pub(super) fn centrals(
    object: &ObjectRef,
    picture: &Picture<'_>,
    view: &View<'_>,
    plan: &mut Plan,
) {
    let anybody = picture
        .machines
        .values()
        .filter_map(Machine::ovn)
        .any(|o| o.central.is_ours() && o.central.files);
    let serving = picture.serving();
    let first = if anybody {
        None
    } else {
        picture
            .centrals
            .iter()
            .copied()
            .find(|c| picture.machines[c].joined)
    };
    if !anybody {
        // A machine that does not answer may hold them.
        let mut members = picture.machines.iter();
        if let Some((name, _)) = members.find(|(_, m)| m.joined && !m.answers) {
            plan.wait(
                Topic::Host((*name).to_owned()),
                reasons::UNREACHABLE,
                format!(
                    "{name} may hold OVN's databases, and {}",
                    silence(name, view)
                ),
            );
            return;
        }
    }
    for name in &picture.centrals {
        let machine = &picture.machines[name];
        if !machine.joined {
            continue;
        }
        let Some(ovn) = usable(object, name, machine, picture, view, plan) else {
            continue;
        };
        if picture.was_struck(name, machine)
            && let Some(target) = picture.target(name)
        {
            let sentence = format!("take from {name} the databases that others hold without it");
            let request = OvnRequest::LeaveCentral(picture.rafts_without(name));
            plan.steps.push(ask(object, target, request, sentence));
            continue;
        }
        let is_first = first == Some(*name);
        let Some(wanted) = central_config(picture, name, is_first) else {
            continue;
        };
        if is_first || ovn.central.config.as_ref() != Some(&wanted) || !ovn.central.serves() {
            let in_raft = ovn.central.is_ours() && ovn.central.files;
            if !is_first && !in_raft && serving.is_none() {
                plan.wait(
                    Topic::Ovn,
                    reasons::OVN,
                    format!("{name} joins OVN's databases when one of them has a leader"),
                );
                continue;
            }
            let sentence = if is_first {
                format!("make OVN's databases on {name}")
            } else if in_raft {
                central_changes(name, ovn, &wanted, plan);
                format!("set up OVN's databases on {name} anew")
            } else {
                format!("join {name} to OVN's databases")
            };
            if let Some(target) = picture.target(name) {
                let request = OvnRequest::Central(wanted);
                plan.steps.push(ask(object, target, request, sentence));
            }
        } else if let Some(change) = missing_listener(name, ovn, &wanted)
            && let Some(target) = picture.target(name)
        {
            plan.changes.push(change);
            let request = OvnRequest::Listen(wanted);
            let sentence = format!("have OVN's databases listen again, by {name}");
            plan.steps.push(ask(object, target, request, sentence));
        }
    }
    strike_lost(object, picture, plan);
    let all_serve = picture
        .centrals
        .iter()
        .all(|c| picture.machines[c].serves());
    if all_serve {
        give_up(object, picture, plan);
        strangers(object, picture, view, plan);
    }
    health(picture, view, plan);
}

fn central_changes(name: &str, ovn: &OvnReport, wanted: &CentralConfig, plan: &mut Plan) {
    let told = ovn.central.config.as_ref();
    let mut changes = Vec::new();
    let centrals = |c: &CentralConfig| list(c.centrals.iter().map(ToString::to_string));
    let by = |c: &CentralConfig| c.join.map(|join| join.to_string());
    if told.is_none_or(|c| c.centrals != wanted.centrals || c.tls != wanted.tls) {
        let from = told.map_or_else(|| "written otherwise".to_owned(), centrals);
        let path = format!("ovn.{name}.centrals");
        changes.push(Change::new(path, Some(&from), Some(&centrals(wanted))));
    } else if let Some(told) = told
        && told != wanted
    {
        let path = format!("ovn.{name}.join");
        // The first one learns of another when there is one.
        if told.join.is_none() {
            plan.grown.insert(path.clone());
        }
        let (from, to) = (by(told), by(wanted));
        changes.push(Change::new(path, from.as_deref(), to.as_deref()));
    }
    if !ovn.central.northd {
        let path = format!("ovn.{name}.northd");
        changes.push(Change::new(path, Some("stopped"), Some("running")));
    }
    for (word, database) in [
        ("northbound", &ovn.central.northbound),
        ("southbound", &ovn.central.southbound),
    ] {
        if database.is_none() {
            let path = format!("ovn.{name}.{word}");
            changes.push(Change::new(path, Some("stopped"), Some("running")));
        }
    }
    plan.changes.extend(changes);
}

fn missing_listener(name: &str, ovn: &OvnReport, wanted: &CentralConfig) -> Option<Change> {
    for (database, port) in [
        (&ovn.central.northbound, NORTHBOUND_PORT),
        (&ovn.central.southbound, SOUTHBOUND_PORT),
    ] {
        let (Some(database), Some(listener)) = (database, wanted.listener(port)) else {
            continue;
        };
        if database.connected && !database.listens.contains(&listener) {
            let path = format!("ovn.{name}.connections.{port}");
            let from = (!database.listens.is_empty()).then(|| database.listens.join(","));
            return Some(Change::new(path, from.as_deref(), Some(&listener)));
        }
    }
    None
}

/// What a machine says of OVN, if it can be told anything now; otherwise the plan waits.
pub(super) fn usable<'a>(
    object: &ObjectRef,
    name: &str,
    machine: &Machine<'a>,
    picture: &Picture<'a>,
    view: &View<'_>,
    plan: &mut Plan,
) -> Option<&'a OvnReport> {
    let here = || Topic::Host(name.to_owned());
    let Some(ovn) = machine.ovn_now() else {
        // The member says so itself.
        if object.kind == Kind::Cluster {
            let silent = silence(name, view);
            plan.wait(here(), reasons::UNREACHABLE, format!("OVN: {silent}"));
        }
        return None;
    };
    if !ovn.installed {
        plan.wait(
            here(),
            reasons::SERVICE,
            format!(
                "OVN is not installed on {name}: install openvswitch-switch, ovn-central and \
                 ovn-host"
            ),
        );
        return None;
    }
    if let Some(problem) = &ovn.problem {
        plan.wait(
            here(),
            reasons::SERVICE,
            format!("Open vSwitch on {name} cannot be asked: {problem}"),
        );
        return None;
    }
    if picture.tls
        && let Some(why) = certificate_lacks(picture, machine, view)
        && object.kind == Kind::Cluster
        && !why.renewal
    {
        plan.wait(
            Topic::Object(ObjectRef::new(Kind::Member, name)),
            reasons::DEPENDENCY,
            format!("{name} has no certificate for OVN yet"),
        );
        return None;
    }
    Some(ovn)
}

/// Machines that hold the databases and need not: one at a time, when all others serve.
pub(super) fn give_up(object: &ObjectRef, picture: &Picture<'_>, plan: &mut Plan) {
    if !plan.steps.is_empty() {
        return;
    }
    let extra = picture.machines.iter().find(|(name, m)| {
        !picture.centrals.contains(name) && m.ovn_now().is_some_and(|o| o.central.is_ours())
    });
    if let Some((name, _)) = extra
        && let Some(target) = picture.target(name)
    {
        let sentence = format!("take OVN's databases from {name}");
        let request = OvnRequest::LeaveCentral(picture.rafts_without(name));
        plan.steps.push(ask(object, target, request, sentence));
    }
}
