//! What is wrong with OVN on a running cloud and is not mended by a step.

use super::picture::{Machine, Picture};
use crate::reconcile::plan::{Plan, View, reasons};
use crate::services::host::{DATAPATH, DATAPATH_MARK, OvnReport, USERSPACE};
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
    if let Some(how) = forwards_in_vain(ovn) {
        plan.note(
            reasons::OVN,
            format!(
                "a process forwards OVN's traffic on {name}, from a time when the kernel could not, \
                 and now it can, which is faster; changing that cuts the traffic of {name} for \
                 some seconds, so it is left to you: {how}"
            ),
        );
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

/// How to have the kernel forward where this program once chose a process because the kernel did
/// not. A person's own choice has no such mark and is left alone.
fn forwards_in_vain(ovn: &OvnReport) -> Option<String> {
    let ids = &ovn.chassis.external_ids;
    let chosen = ids.get(DATAPATH_MARK).is_some_and(|how| how == USERSPACE);
    if !ovn.kernel_datapath || !chosen {
        return None;
    }
    let bridges = ovn.chassis.bridges.iter();
    let back: Vec<String> = bridges
        .filter(|(_, datapath)| *datapath == USERSPACE)
        .map(|(bridge, _)| format!(" -- set bridge {bridge} datapath_type=system"))
        .collect();
    Some(format!(
        "ovs-vsctl remove open . external-ids {DATAPATH} {USERSPACE} -- remove open . external-ids \
         {DATAPATH_MARK} {USERSPACE}{}",
        back.join("")
    ))
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
