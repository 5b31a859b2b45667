//! A member's part in carrying traffic, and the rows of chassis.

use super::ask;
use super::picture::{Machine, Picture};
use crate::reconcile::clock::{after, age};
use crate::reconcile::plan::cluster::target;
use crate::reconcile::plan::{Change, Plan, Topic, View, reasons};
use crate::resources::kinds::MemberState;
use crate::resources::{Kind, ObjectRef, Spec};
use crate::services::host::{ChassisConfig, OvnReport, OvnRequest};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How long ovn-controller may take to make its row before it is told to begin anew.
const REGISTERS: Duration = Duration::from_secs(5);

/// Which bridge leads to which uplink on a machine, as far as the ports of its bridges tell: LXD
/// makes the bridge, plugs the uplink's interface in and writes the mapping once.
pub(super) fn mappings(
    name: &str,
    machine: &Machine<'_>,
    view: &View<'_>,
) -> BTreeMap<String, String> {
    let Some(ovn) = machine.ovn() else {
        return BTreeMap::new();
    };
    let uplinks = view.desired.of_kind(Kind::Uplink);
    uplinks
        .filter_map(|(reference, resource)| {
            let Spec::Uplink(spec) = &resource.spec else {
                return None;
            };
            let interface = spec.interfaces.get(name).or(spec.interface.as_ref())?;
            let bridge = ovn.chassis.ports.get(interface)?;
            Some((reference.name.clone(), bridge.clone()))
        })
        .collect()
}

pub(super) fn chassis(
    object: &ObjectRef,
    name: &str,
    machine: &Machine<'_>,
    ovn: &OvnReport,
    picture: &Picture<'_>,
    view: &View<'_>,
    plan: &mut Plan,
) {
    let wanted = match picture.chassis_config(name, machine, view) {
        Ok(wanted) => wanted,
        Err(why) => {
            plan.wait(
                Topic::Host(name.to_owned()),
                reasons::OVN,
                format!("where the tunnels of {name} end is not known: {why}"),
            );
            return;
        }
    };
    if wanted.centrals.is_empty() {
        return;
    }
    let differs = chassis_changes(ovn, &wanted);
    if !differs.is_empty() || bridge_stands_still(ovn, &wanted) {
        plan.changes.extend(differs);
        let request = OvnRequest::Chassis(wanted);
        let sentence = format!("have {name} carry OVN's traffic");
        plan.steps
            .push(ask(object, target(name, machine.spec), request, sentence));
        return;
    }
    if !plan.steps.is_empty() {
        return;
    }
    registered(object, name, machine, &wanted, picture, view, plan);
}

/// What differs between a machine and what it is to be told.
fn chassis_changes(ovn: &OvnReport, wanted: &ChassisConfig) -> Vec<Change> {
    let seen = &ovn.chassis;
    let mut changes = Vec::new();
    let mut differ = |path: String, from: Option<&str>, to: &str| {
        if from != Some(to) {
            changes.push(Change::new(path, from, Some(to)));
        }
    };
    for (key, value) in wanted.external_ids(&seen.external_ids) {
        let from = seen.external_ids.get(&key).map(String::as_str);
        differ(format!("ovn.{key}"), from, &value);
    }
    differ(
        "ovn.system-id at start".to_owned(),
        Some(seen.system_id_at_start.as_str()),
        &wanted.name,
    );
    if wanted.tls != seen.tls {
        let word = |tls| if tls { "TLS" } else { "plain" };
        differ(
            "ovn.controller".to_owned(),
            Some(word(seen.tls)),
            word(wanted.tls),
        );
    }
    if !seen.controller {
        differ("ovn.controller".to_owned(), Some("stopped"), "running");
    }
    changes
}

/// Whether a bridge waits for the kernel to forward, which it does not: LXD makes its bridges so.
fn bridge_stands_still(ovn: &OvnReport, wanted: &ChassisConfig) -> bool {
    wanted.userspace && ovn.chassis.bridges.values().any(|d| d != "netdev")
}

/// Whether the member's row is in the southbound database; ovn-controller makes it.
fn registered(
    object: &ObjectRef,
    name: &str,
    machine: &Machine<'_>,
    wanted: &ChassisConfig,
    picture: &Picture<'_>,
    view: &View<'_>,
    plan: &mut Plan,
) {
    let Some((by, ovn)) = picture.serving() else {
        if let Some((cluster, _)) = view.desired.cluster() {
            plan.wait(
                Topic::Object(cluster.clone()),
                reasons::DEPENDENCY,
                format!("OVN's databases do not serve yet, so {name} carries no traffic of OVN"),
            );
        }
        return;
    };
    let end = format!("geneve {}", wanted.encap_ip);
    let row = ovn.central.chassis.iter().find(|c| c.name == name);
    let missing = match row {
        Some(row) if row.encaps.contains(&end) => return,
        Some(_) => format!(
            "OVN does not show yet that tunnels to {name} end at {}",
            wanted.encap_ip
        ),
        None => format!("OVN has no chassis {name}"),
    };
    let seen_at = [name, by]
        .iter()
        .filter_map(|n| view.world.hosts.get(*n)?.report.at())
        .max()
        .unwrap_or(view.now);
    if age(view.now, seen_at) < REGISTERS {
        plan.wait(Topic::Host(name.to_owned()), reasons::PROGRESSING, missing);
        plan.recheck_at = Some(after(seen_at, REGISTERS));
        return;
    }
    plan.changes.push(Change::new(
        "ovn.chassis",
        Some(missing.as_str()),
        Some("registered"),
    ));
    let sentence = format!("have ovn-controller on {name} begin anew: {missing}");
    let request = OvnRequest::RestartController;
    plan.steps
        .push(ask(object, target(name, machine.spec), request, sentence));
}

/// Chassis rows of no machine that take a member's tunnel end or name, which keeps the member's
/// own row from being made.
pub(super) fn strangers(
    object: &ObjectRef,
    picture: &Picture<'_>,
    view: &View<'_>,
    plan: &mut Plan,
) {
    let leaving: Vec<&str> = view
        .desired
        .members()
        .filter(|(_, spec)| spec.state == MemberState::Absent)
        .map(|(name, _)| name)
        .collect();
    let Some((by, ovn)) = picture.serving() else {
        return;
    };
    let ends: BTreeSet<String> = picture
        .machines
        .iter()
        .filter_map(|(name, m)| picture.encap_ip(name, m).ok())
        .map(|ip| format!("geneve {ip}"))
        .collect();
    for row in &ovn.central.chassis {
        let name = row.name.as_str();
        if picture.machines.contains_key(name) || picture.orphaned.contains_key(name) {
            continue;
        }
        let gone = leaving.contains(&name);
        let takes = gone
            || row.encaps.iter().any(|e| ends.contains(e))
            || picture.machines.contains_key(row.hostname.as_str());
        if !takes {
            plan.note(
                reasons::OVN,
                format!(
                    "OVN has a chassis {} ({}) that is no member",
                    row.name, row.hostname
                ),
            );
            continue;
        }
        if let Some(target) = picture.target(by) {
            let request = OvnRequest::DeleteChassis {
                name: row.name.clone(),
            };
            let sentence = format!("delete the old chassis {} of {}", row.name, row.hostname);
            plan.steps.push(ask(object, target, request, sentence));
        }
    }
}
