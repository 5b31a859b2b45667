//! The rafts: lost servers struck, and what is wrong and not mended by a step.

use super::picture::Picture;
use super::{ask, list};
use crate::reconcile::plan::member::silence;
use crate::reconcile::plan::{Plan, Topic, View, reasons};
use crate::resources::ObjectRef;
use crate::services::host::{DatabaseReport, OvnDatabase, OvnRequest, RaftMember};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// Strikes from the rafts what has no place there: lost machines that gave it to another, machines
/// that are no members any more, and servers that a machine had before it was installed anew. Only
/// while a majority answers without them.
pub(super) fn strike_lost(object: &ObjectRef, picture: &Picture<'_>, plan: &mut Plan) {
    let Some((by, _)) = picture.serving() else {
        return;
    };
    let Some(target) = picture.target(by) else {
        return;
    };
    let kept = picture.addresses();
    for which in OvnDatabase::BOTH {
        let Some(raft) = picture.raft(which, None) else {
            continue;
        };
        // Where there are two it is for a person to say which one is in use.
        let mut serving = picture.machines.values().filter(|m| m.serves());
        let same = |of: &DatabaseReport| of.cid == raft.cid;
        if !serving.all(|m| {
            m.ovn_now()
                .and_then(|o| o.central.database(which))
                .is_some_and(same)
        }) {
            continue;
        }
        let answering = |server: &RaftMember| {
            let own = own_server(server.address, which, picture);
            own.is_some_and(|own| own.sid.is_empty() || own.sid == server.id)
        };
        // Where a machine serves with a server of this raft, any other one at its address is gone.
        let replaced = |server: &RaftMember| {
            let own = own_server(server.address, which, picture);
            own.is_some_and(|own| {
                own.cid == raft.cid
                    && own.sid != server.id
                    && raft.servers.iter().any(|s| s.id == own.sid)
            })
        };
        let alive = raft.servers.iter().filter(|s| answering(s)).count();
        let gone = raft
            .servers
            .iter()
            .find(|s| replaced(s) || (!kept.contains(&s.address) && !answering(s)));
        let Some(server) = gone else { continue };
        let what = match replaced(server) {
            true => format!("the server {} that {} was", server.id, server.address),
            false => server.address.to_string(),
        };
        if alive * 2 <= raft.servers.len() {
            plan.refuse(
                reasons::OVN,
                format!(
                    "{what} has no place in OVN's {which} database any more, but only {alive} of \
                     its {} servers answer: striking it waits until more do",
                    raft.servers.len()
                ),
            );
            continue;
        }
        let request = OvnRequest::Kick {
            database: which,
            server: server.clone(),
        };
        let sentence = match replaced(server) {
            true => format!(
                "strike the server {} from OVN's {which} database, which {} was before it was \
                 installed anew",
                server.id, server.address
            ),
            false => format!("strike {what} from OVN's {which} database"),
        };
        // Before anything joins in its place.
        plan.steps
            .insert(0, ask(object, target.clone(), request, sentence));
    }
}

/// What the machine at an address says of its own server, when it serves.
fn own_server<'a>(
    address: IpAddr,
    which: OvnDatabase,
    picture: &Picture<'a>,
) -> Option<&'a DatabaseReport> {
    let mut machines = picture.machines.values();
    machines
        .find(|m| m.spec.address == address && m.serves())?
        .ovn_now()?
        .central
        .database(which)
}

/// What is wrong with the rafts and is not mended by a step.
pub(super) fn health(picture: &Picture<'_>, view: &View<'_>, plan: &mut Plan) {
    if !plan.steps.is_empty() || picture.centrals.is_empty() {
        return;
    }
    for which in OvnDatabase::BOTH {
        let reports: Vec<&DatabaseReport> = picture
            .centrals
            .iter()
            .filter_map(|c| picture.machines[c].ovn_now())
            .filter_map(|ovn| ovn.central.database(which))
            .collect();
        // It may lead on a member that nobody asks any more, as no resource names it.
        let elsewhere = |d: &DatabaseReport| d.connected && picture.held_by_orphans().count() > 0;
        let rafts: BTreeSet<&str> = reports.iter().map(|d| d.cid.as_str()).collect();
        if rafts.len() > 1 {
            plan.refuse(
                reasons::OVN,
                format!(
                    "OVN's {which} database is {} different ones ({}): find out which one is in \
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
                format!("OVN's {which} database has no leader, so networks cannot change{why}"),
            );
        }
    }
}
