//! The authority, its copies, and the machines' certificates.

use super::picture::{Machine, Picture};
use super::{ask, list};
use crate::reconcile::plan::cluster::target;
use crate::reconcile::plan::member::silence;
use crate::reconcile::plan::step::{Action, Claim, ClaimOn, OvnAction, Step};
use crate::reconcile::plan::{Change, Plan, Topic, View, reasons};
use crate::resources::ObjectRef;
use crate::services::host::OvnRequest;
use std::collections::{BTreeMap, BTreeSet};

/// A certificate with less than this left is renewed, days.
const RENEW_DAYS: i64 = 90;

/// Plans the authority and its copies; says whether there is one.
pub(super) fn authority(
    object: &ObjectRef,
    picture: &Picture<'_>,
    view: &View<'_>,
    plan: &mut Plan,
) -> bool {
    let holders: BTreeMap<&str, &str> = picture
        .machines
        .iter()
        .filter_map(|(name, m)| {
            Some((*name, m.ovn_now()?.authority.as_ref()?.fingerprint.as_str()))
        })
        .collect();
    let different: BTreeSet<&str> = holders.values().copied().collect();
    if different.len() > 1 {
        plan.refuse(
            reasons::OVN,
            format!(
                "{} keep different authorities for OVN: keep the one whose certificates are in \
                 use and remove /var/lib/microcloud/ovn-authority.* on the others",
                list(holders.keys().copied())
            ),
        );
        return false;
    }
    let Some(holder) = keeper(picture, view) else {
        // Not knowing is no reason to make a second one.
        for (name, machine) in &picture.machines {
            if machine.joined && !machine.answers {
                plan.wait(
                    Topic::Host((*name).to_owned()),
                    reasons::UNREACHABLE,
                    format!(
                        "{name} may keep the authority for OVN, and {}",
                        silence(name, view)
                    ),
                );
                return false;
            }
        }
        if picture
            .machines
            .values()
            .filter_map(Machine::ovn_now)
            .any(|o| o.certificate.is_some() && o.central.is_ours())
        {
            plan.refuse(
                reasons::OVN,
                "no member keeps the authority that signed OVN's certificates: restore \
                 /var/lib/microcloud/ovn-authority.crt and .key on a member, or remove \
                 /etc/ovn/cert_host on all of them to begin with a new one",
            );
            return false;
        }
        let first = leader(picture, view).or_else(|| {
            picture
                .machines
                .iter()
                .find(|(_, m)| m.joined)
                .map(|(n, _)| *n)
        });
        if let Some(target) = first.and_then(|name| picture.target(name)) {
            let sentence = format!(
                "make the authority for OVN's certificates on {}",
                target.name
            );
            plan.steps
                .push(ask(object, target, OvnRequest::MakeAuthority, sentence));
        }
        return false;
    };
    for (name, machine) in &picture.machines {
        let lacks = machine.ovn_now().is_some_and(|o| o.authority.is_none());
        if !(lacks && votes(name, view)) {
            continue;
        }
        let (Some(from), Some(to)) = (picture.target(holder), picture.target(name)) else {
            continue;
        };
        plan.steps.push(Step::new(
            object,
            Action::Ovn(Box::new(OvnAction::ShareAuthority { from, to })),
            vec![Claim::exclusive(ClaimOn::Ovn((*name).to_owned()))],
            format!("keep a copy of OVN's authority on {name}"),
        ));
    }
    true
}

/// The member this controller runs on.
fn leader<'a>(picture: &Picture<'a>, view: &View<'_>) -> Option<&'a str> {
    let holder = view.memory.lease.holder.as_str();
    picture
        .machines
        .iter()
        .find(|(name, m)| **name == holder && m.answers)
        .map(|(name, _)| *name)
}

/// Who signs: the member this controller runs on if it keeps the authority, else the first that
/// does.
pub(super) fn keeper<'a>(picture: &Picture<'a>, view: &View<'_>) -> Option<&'a str> {
    let keeps = |name: &str| {
        let machine = picture.machines.get(name);
        machine
            .and_then(Machine::ovn_now)
            .is_some_and(|o| o.authority.is_some())
    };
    leader(picture, view)
        .filter(|name| keeps(name))
        .or_else(|| picture.machines.keys().copied().find(|name| keeps(name)))
}

/// Whether a member has LXD's database, so that it may come to control.
fn votes(name: &str, view: &View<'_>) -> bool {
    let rows = view.world.lxd.members.known();
    rows.and_then(|rows| rows.get(name)).is_some_and(|row| {
        let roles = &row.value.roles;
        roles
            .iter()
            .any(|r| r == "database" || r == "database-leader")
    })
}

/// Why a machine's certificate must be made.
pub(super) struct Lacks {
    pub(super) why: String,
    /// Whether the one it has still works.
    pub(super) renewal: bool,
}

pub(super) fn certificate_lacks(
    picture: &Picture<'_>,
    machine: &Machine<'_>,
    view: &View<'_>,
) -> Option<Lacks> {
    let lacks = |why: &str, renewal: bool| {
        Some(Lacks {
            why: why.to_owned(),
            renewal,
        })
    };
    let ovn = machine.ovn_now()?;
    let Some(certificate) = &ovn.certificate else {
        return lacks("there is none", false);
    };
    if let Some(wrong) = &certificate.wrong {
        return lacks(wrong, false);
    }
    let authority = keeper(picture, view)
        .and_then(|k| picture.machines.get(k))
        .and_then(Machine::ovn_now)
        .and_then(|o| o.authority.as_ref());
    if authority.is_some_and(|a| a.fingerprint != certificate.authority) {
        return lacks("it is signed by another authority", false);
    }
    if !certificate.addresses.contains(&machine.spec.address) {
        return lacks("it is for another address", true);
    }
    let left = certificate.not_after - view.now.as_second();
    if left <= 0 {
        return lacks("it has ended", false);
    }
    if left < RENEW_DAYS * 86_400 {
        return lacks(&format!("it ends in {} days", left / 86_400), true);
    }
    None
}

/// Plans a member's certificate; says whether there is one, or will be.
pub(super) fn certificate(
    object: &ObjectRef,
    name: &str,
    machine: &Machine<'_>,
    picture: &Picture<'_>,
    view: &View<'_>,
    plan: &mut Plan,
) -> bool {
    let Some(lacks) = certificate_lacks(picture, machine, view) else {
        return true;
    };
    let Some(authority) = keeper(picture, view).and_then(|k| picture.target(k)) else {
        if lacks.renewal {
            plan.note(
                reasons::OVN,
                format!(
                    "the certificate of {name} for OVN must be made anew ({}), and no member that \
                     answers keeps the authority that does: bring one back that has LXD's database",
                    lacks.why
                ),
            );
            return true;
        }
        if let Some((cluster, _)) = view.desired.cluster() {
            plan.wait(
                Topic::Object(cluster.clone()),
                reasons::DEPENDENCY,
                format!("{cluster} makes the authority for OVN's certificates first"),
            );
        }
        return false;
    };
    let path = "ovn.certificate";
    plan.changes.push(Change::new(
        path,
        Some(&lacks.why),
        Some("signed by the cluster's authority"),
    ));
    plan.steps.push(Step::new(
        object,
        Action::Ovn(Box::new(OvnAction::Certify {
            target: target(name, machine.spec),
            authority,
            addresses: vec![machine.spec.address],
        })),
        vec![Claim::exclusive(ClaimOn::Ovn(name.to_owned()))],
        format!("make the certificate of {name} for OVN: {}", lacks.why),
    ));
    true
}
