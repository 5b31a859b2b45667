//! The rafts: lost servers struck, and what is wrong and not mended by a step.

use super::picture::Picture;
use super::{ask, list};
use crate::reconcile::plan::member::silence;
use crate::reconcile::plan::{Plan, Topic, View, reasons};
use crate::resources::ObjectRef;
use crate::services::host::{DatabaseReport, OvnDatabase, OvnReport, OvnRequest};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// Strikes from the rafts what has no place there: lost machines that gave it to another, and
/// machines that are no members any more. Only while a majority answers without them.
pub(super) fn strike_lost(object: &ObjectRef, picture: &Picture<'_>, plan: &mut Plan) {
    let Some((by, ovn)) = picture.serving() else {
        return;
    };
    let Some(target) = picture.target(by) else {
        return;
    };
    let answering = |address: IpAddr| {
        picture
            .machines
            .values()
            .any(|m| m.spec.address == address && m.serves())
    };
    let kept = picture.addresses();
    for (which, word, database) in [
        (
            OvnDatabase::Northbound,
            "northbound",
            &ovn.central.northbound,
        ),
        (
            OvnDatabase::Southbound,
            "southbound",
            &ovn.central.southbound,
        ),
    ] {
        let Some(database) = database else { continue };
        let alive = database
            .servers
            .iter()
            .filter(|s| answering(s.address))
            .count();
        let gone = database
            .servers
            .iter()
            .find(|s| !kept.contains(&s.address) && !answering(s.address));
        let Some(server) = gone else { continue };
        if alive * 2 <= database.servers.len() {
            plan.refuse(
                reasons::OVN,
                format!(
                    "{} has no place in OVN's {word} database any more, but only {alive} of its {} \
                     servers answer: striking it waits until more do",
                    server.address,
                    database.servers.len()
                ),
            );
            continue;
        }
        let request = OvnRequest::Kick {
            database: which,
            server: server.clone(),
        };
        let sentence = format!("strike {} from OVN's {word} database", server.address);
        // Before anything joins in its place.
        plan.steps
            .insert(0, ask(object, target.clone(), request, sentence));
    }
}

/// What is wrong with the rafts and is not mended by a step.
pub(super) fn health(picture: &Picture<'_>, view: &View<'_>, plan: &mut Plan) {
    if !plan.steps.is_empty() || picture.centrals.is_empty() {
        return;
    }
    for (word, of) in [
        (
            "northbound",
            northbound as fn(&OvnReport) -> Option<&DatabaseReport>,
        ),
        ("southbound", southbound),
    ] {
        let reports: Vec<&DatabaseReport> = picture
            .centrals
            .iter()
            .filter_map(|c| picture.machines[c].ovn_now())
            .filter_map(of)
            .collect();
        // It may lead on a member that nobody asks any more, as no resource names it.
        let elsewhere = |d: &DatabaseReport| d.connected && picture.held_by_orphans().count() > 0;
        let rafts: BTreeSet<&str> = reports.iter().map(|d| d.cid.as_str()).collect();
        if rafts.len() > 1 {
            plan.refuse(
                reasons::OVN,
                format!(
                    "OVN's {word} database is {} different ones ({}): find out which one is in \
                     use, and set the others aside on their machines (/var/lib/ovn)",
                    rafts.len(),
                    list(rafts)
                ),
            );
        } else if !reports.is_empty() && !reports.iter().any(|d| d.leader || elsewhere(d)) {
            let silent: Vec<String> = picture
                .centrals
                .iter()
                .filter(|c| !picture.machines[*c].answers)
                .map(|c| silence(c, view))
                .collect();
            let why = if silent.is_empty() {
                String::new()
            } else {
                format!(": {}", silent.join("; "))
            };
            plan.wait(
                Topic::Ovn,
                reasons::OVN,
                format!("OVN's {word} database has no leader, so networks cannot change{why}"),
            );
        }
    }
}

fn northbound(ovn: &OvnReport) -> Option<&DatabaseReport> {
    ovn.central.northbound.as_ref()
}

fn southbound(ovn: &OvnReport) -> Option<&DatabaseReport> {
    ovn.central.southbound.as_ref()
}
