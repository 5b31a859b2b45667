//! The first monitor of a cluster that is not there yet.

use super::placement::placement;
use super::{BEGUN, FORMED, not_installed, report};
use crate::reconcile::plan::cluster::target;
use crate::reconcile::plan::diff::Verb;
use crate::reconcile::plan::member::silence;
use crate::reconcile::plan::step::{Action, Claim, ClaimOn, Guard, Step};
use crate::reconcile::plan::{Change, Plan, Topic, View, reasons};
use crate::resources::ObjectRef;
use crate::resources::kinds::CephSpec;
use crate::services::host::{CephRequest, HostTarget};
use sha2::{Digest, Sha256};

pub(super) fn form(object: &ObjectRef, ceph: &CephSpec, view: &View<'_>, plan: &mut Plan) {
    let formed = view
        .entry(object)
        .into_iter()
        .flat_map(|e| &e.applied)
        .find_map(|path| path.strip_prefix(FORMED));
    if let Some(fsid) = formed {
        plan.refuse(
            reasons::CEPH_GONE,
            format!(
                "the Ceph cluster {fsid} was formed here and no machine that answers has it any \
                 more: bring back a machine with a monitor of it; a second one is not formed"
            ),
        );
        return;
    }
    let Some(first) = first(object, view) else {
        return;
    };
    let targets: Vec<HostTarget> = view
        .desired
        .staying()
        .map(|(name, member)| target(name, member))
        .collect();
    let silent: Vec<&HostTarget> = targets
        .iter()
        .filter(|t| report(&t.name, view).is_none())
        .collect();
    let majority = targets.len() / 2 + 1;
    if targets.len() - silent.len() < majority {
        for machine in silent {
            plan.wait(
                Topic::Host(machine.name.clone()),
                reasons::NO_MAJORITY,
                format!(
                    "a majority of the machines must answer before Ceph is formed; {}",
                    silence(&machine.name, view)
                ),
            );
        }
        return;
    }
    let Some(machine) = targets.iter().find(|t| t.name == first) else {
        plan.refuse(
            reasons::CEPH_GONE,
            format!(
                "Ceph was begun on {first}, which is no member any more: write its Member again; a \
                 second one is not begun"
            ),
        );
        return;
    };
    let Some(has) = report(first, view) else {
        plan.wait(
            Topic::Host(first.to_owned()),
            reasons::UNREACHABLE,
            silence(first, view),
        );
        return;
    };
    if !has.missing.is_empty() {
        plan.wait(
            Topic::Host(first.to_owned()),
            reasons::SERVICE,
            not_installed(first, &has.missing),
        );
        return;
    }
    let Some(fsid) = own_fsid(view) else {
        return;
    };
    plan.verb = Verb::Update;
    plan.changes
        .push(Change::new("ceph.fsid", None, Some(&fsid)));
    let mut step = Step::new(
        object,
        Action::CephHost {
            target: machine.clone(),
            request: CephRequest::Form {
                fsid: fsid.clone(),
                name: first.to_owned(),
                address: ceph_address(machine, ceph, view),
                public_network: ceph.public_network,
                cluster_network: ceph.cluster_network,
            },
        },
        vec![
            Claim::exclusive(ClaimOn::Monitors),
            Claim::exclusive(ClaimOn::Member(first.to_owned())),
        ],
        format!("form Ceph with the monitor of {first}"),
    )
    .guarded(Guard::NoCephAnywhere {
        first: first.to_owned(),
        targets,
        majority,
        fsid,
    });
    step.remembers = Some(format!("{BEGUN}{first}"));
    plan.steps.push(step);
}

/// The machine a cluster is begun on: where it was begun already, or the best place.
pub(super) fn first<'a>(object: &ObjectRef, view: &View<'a>) -> Option<&'a str> {
    let begun = view
        .entry(object)
        .into_iter()
        .flat_map(|e| &e.applied)
        .find_map(|path| path.strip_prefix(BEGUN));
    begun.or_else(|| placement(view).0.first().copied())
}

/// Where a machine's monitor listens: its address in the public network, if one is given.
pub(super) fn ceph_address(
    machine: &HostTarget,
    ceph: &CephSpec,
    view: &View<'_>,
) -> std::net::IpAddr {
    let Some(network) = ceph.public_network else {
        return machine.address;
    };
    if network.contains(&machine.address) {
        return machine.address;
    }
    view.world
        .hosts
        .get(&machine.name)
        .and_then(|h| h.report.known())
        .into_iter()
        .flat_map(|r| &r.interfaces)
        .flat_map(|i| &i.addresses)
        .map(ipnet::IpNet::addr)
        .find(|a| network.contains(a))
        .unwrap_or(machine.address)
}

/// The id of the cluster that is formed for this one.
pub(super) fn own_fsid(view: &View<'_>) -> Option<String> {
    let (object, spec) = view.desired.cluster()?;
    let server = view.world.lxd.server.known()?;
    Some(fsid_of(&format!(
        "{} {} {}",
        object.name, spec.initiator, server.certificate_fingerprint
    )))
}

/// An id that is the same whenever the same cluster is planned: one that was cut in two while
/// it was formed goes on under the id it began with.
fn fsid_of(text: &str) -> String {
    let digest = Sha256::digest(format!("ceph of {text}"));
    let mut hex: String = digest[..16].iter().map(|b| format!("{b:02x}")).collect();
    // The bits that say that it is a random one.
    hex.replace_range(12..13, "4");
    hex.replace_range(16..17, "8");
    format!(
        "{}-{}-{}-{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..]
    )
}
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_of_one_cluster_is_always_the_same_and_looks_like_one() {
        let id = fsid_of("a b c");
        assert_eq!(id, fsid_of("a b c"));
        assert_ne!(id, fsid_of("a b d"));
        let lengths: Vec<usize> = id.split('-').map(str::len).collect();
        assert_eq!(lengths, [8, 4, 4, 4, 12]);
    }
}
