//! What is wrong with OVN on a running cloud and is not mended by a step.

use super::picture::{Machine, Picture};
use crate::reconcile::plan::{Plan, View, reasons};
use crate::services::host::OvnReport;
use std::net::IpAddr;

/// An authority with less than this left is told of, days: every certificate must be made anew.
const AUTHORITY_DAYS: i64 = 365;

/// How a member carries traffic: whether it hears of changes, and its tunnels.
pub(super) fn member(name: &str, ovn: &OvnReport, picture: &Picture<'_>, plan: &mut Plan) {
    // Without databases there is nothing to be connected to, which the cluster says.
    if picture.serving().is_some() && ovn.chassis.controller {
        match ovn.chassis.connected {
            Some(true) => {}
            Some(false) => plan.note(
                reasons::OVN,
                format!(
                    "ovn-controller on {name} has no connection to OVN's southbound database, so \
                     changes of networks do not reach {name}: see journalctl -u ovn-controller \
                     there"
                ),
            ),
            None => plan.note(
                reasons::OVN,
                format!(
                    "ovn-controller on {name} does not answer, so changes of networks may not \
                     reach {name}: if it stays so, systemctl restart ovn-controller there"
                ),
            ),
        }
    }
    for (end, tunnel) in &ovn.chassis.tunnels {
        let Some(other) = at(*end, picture) else {
            continue;
        };
        // A machine that is silent says so itself, and one without a chassis too.
        let (other, machine) = other;
        let carries = machine.ovn_now().is_some_and(|o| o.chassis.controller);
        if tunnel.up == Some(false) && carries {
            let said = match tunnel.diagnostic.as_str() {
                "" | "No Diagnostic" => String::new(),
                said => format!(" ({said})"),
            };
            plan.note(
                reasons::OVN,
                format!(
                    "the tunnel from {name} to {other} at {end} is down{said}: look at the network \
                     between the two, and at what stops UDP port 6081 there"
                ),
            );
        }
    }
}

/// The member whose tunnels end at an address.
fn at<'a, 'b>(end: IpAddr, picture: &'b Picture<'a>) -> Option<(&'a str, &'b Machine<'a>)> {
    let mut machines = picture.machines.iter();
    machines
        .find(|(name, machine)| picture.encap_ip(name, machine).ok() == Some(end))
        .map(|(name, machine)| (*name, machine))
}

/// The authority's end.
pub(super) fn authority(picture: &Picture<'_>, view: &View<'_>, plan: &mut Plan) {
    let ends = picture
        .machines
        .values()
        .filter_map(|m| Some(m.ovn_now()?.authority.as_ref()?.not_after))
        .min();
    let Some(left) = ends.map(|at| (at - view.now.as_second()) / 86_400) else {
        return;
    };
    if left < AUTHORITY_DAYS {
        plan.note(
            reasons::OVN,
            format!(
                "the authority of OVN's certificates ends in {left} days: in a time when networks \
                 may stand still, remove /var/lib/microcloud/ovn-authority.* and \
                 /etc/ovn/cert_host on all members, and a new one is made"
            ),
        );
    }
}
