//! What runs where: the roles each member has in LXD, OVN and Ceph, as they were seen last.

use super::world::{HostView, World};
use crate::resources::kinds::MemberSpec;
use crate::services::host::{HostReport, LxdReport};
use serde::{Deserialize, Serialize};

/// What is shown of a service that is well.
const ONLINE: &str = "Online";

/// What is shown of everything on a member that is lost.
pub const UNREACHABLE: &str = "Unreachable";

/// A service on a member.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Placed {
    /// Which one.
    pub service: ServiceName,
    /// Where it is reached there.
    pub address: String,
    /// What the member is in it: `database-leader`, `central`, `mon`, `osd.3`, …
    pub roles: Vec<String>,
    /// `Online`, or in short what is wrong.
    pub status: String,
}

/// A service.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ServiceName {
    /// LXD, or Incus where that runs the instances.
    #[default]
    #[serde(rename = "LXD")]
    Lxd,
    /// OVN.
    #[serde(rename = "OVN")]
    Ovn,
    /// Ceph.
    Ceph,
}

/// What a member runs. `lost` when its machine does not answer: what it ran is shown then.
pub fn of_member(name: &str, member: &MemberSpec, lost: bool, world: &World) -> Vec<Placed> {
    let host = world.hosts.get(name);
    let report = host.and_then(|h: &HostView| h.report.known());
    let mut all: Vec<Placed> = lxd(name, member, report, world).into_iter().collect();
    if let Some(report) = report {
        all.extend(ovn(member, report));
        all.extend(ceph(member, report));
    }
    if lost {
        for placed in &mut all {
            placed.status = UNREACHABLE.to_owned();
        }
    }
    all
}

fn lxd(
    name: &str,
    member: &MemberSpec,
    report: Option<&HostReport>,
    world: &World,
) -> Option<Placed> {
    let row = world.lxd.members.known().and_then(|rows| rows.get(name));
    if let Some(row) = row {
        return Some(Placed {
            service: ServiceName::Lxd,
            address: row.value.url.trim_start_matches("https://").to_owned(),
            roles: row.value.roles.clone(),
            status: row.value.status.clone(),
        });
    }
    let status = match &report?.lxd {
        LxdReport::Running(lxd) if lxd.clustered => "Unknown",
        LxdReport::Running(_) => "Not a member yet",
        LxdReport::NotRunning { .. } => "Not running",
        LxdReport::JoinCut => "Join cut in two",
        LxdReport::NotInstalled => return None,
    };
    Some(Placed {
        service: ServiceName::Lxd,
        address: member.address.to_string(),
        roles: Vec::new(),
        status: status.to_owned(),
    })
}

fn ovn(member: &MemberSpec, report: &HostReport) -> Option<Placed> {
    let ovn = &report.ovn;
    let ids = &ovn.chassis.external_ids;
    let central = ovn.central.is_ours();
    let chassis = ids.contains_key("ovn-remote");
    if !(central || chassis) {
        return None;
    }
    let mut roles = Vec::new();
    if central {
        roles.push("central".to_owned());
    }
    if chassis {
        roles.push("chassis".to_owned());
    }
    let status = if central && !ovn.central.serves() {
        "Databases without a majority"
    } else if chassis && !ovn.chassis.controller {
        "ovn-controller does not run"
    } else if chassis && ovn.chassis.connected == Some(false) {
        "Not connected"
    } else {
        ONLINE
    };
    let address = ids.get("ovn-encap-ip").cloned();
    Some(Placed {
        service: ServiceName::Ovn,
        address: address.unwrap_or_else(|| member.address.to_string()),
        roles,
        status: status.to_owned(),
    })
}

fn ceph(member: &MemberSpec, report: &HostReport) -> Option<Placed> {
    let ceph = &report.ceph;
    let daemons = ceph
        .daemons
        .iter()
        .map(|d| (d.kind.word().to_owned(), d.unit.as_str()));
    let osds = ceph.osds.iter().filter_map(|osd| {
        let id = osd.id?;
        Some((format!("osd.{id}"), osd.unit.as_str()))
    });
    let all: Vec<(String, &str)> = daemons.chain(osds).collect();
    if all.is_empty() {
        return None;
    }
    let down: Vec<String> = all
        .iter()
        .filter(|(_, unit)| *unit != "active")
        .map(|(role, unit)| format!("{role} {unit}"))
        .collect();
    Some(Placed {
        service: ServiceName::Ceph,
        address: member.address.to_string(),
        roles: all.into_iter().map(|(role, _)| role).collect(),
        status: match down.is_empty() {
            true => ONLINE.to_owned(),
            false => down.join(", "),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reconcile::world::Seen;
    use crate::services::host::{CephDaemon, CephDaemonKind, CephOsd};
    use crate::services::lxd::types::{Member, Versioned};
    use jiff::Timestamp;

    fn world() -> (MemberSpec, World) {
        let spec = serde_json::from_value(serde_json::json!({ "address": "10.77.0.1" })).unwrap();
        let mut report = HostReport {
            name: "micro01".to_owned(),
            agent_version: String::new(),
            fingerprint: String::new(),
            machine_id: String::new(),
            boot_id: String::new(),
            lxd: LxdReport::NotInstalled,
            ovn: Default::default(),
            disks: Vec::new(),
            interfaces: Vec::new(),
            ceph: Default::default(),
        };
        let ids = &mut report.ovn.chassis.external_ids;
        ids.insert("ovn-remote".to_owned(), "ssl:10.77.0.1:6642".to_owned());
        ids.insert("ovn-encap-ip".to_owned(), "10.78.0.1".to_owned());
        report.ovn.chassis.controller = true;
        report.ceph.daemons.push(CephDaemon {
            kind: CephDaemonKind::Mon,
            name: "micro01".to_owned(),
            unit: "active".to_owned(),
        });
        report.ceph.osds.push(CephOsd {
            id: Some(3),
            unit: "failed".to_owned(),
            ..CephOsd::default()
        });
        let mut world = World::default();
        let row = Member {
            server_name: "micro01".to_owned(),
            url: "https://10.77.0.1:8443".to_owned(),
            status: "Online".to_owned(),
            roles: vec!["database".to_owned()],
            ..Member::default()
        };
        let row = Versioned {
            value: row,
            etag: None,
        };
        world.lxd.members = Seen::Known {
            value: [("micro01".to_owned(), row)].into(),
            at: Timestamp::UNIX_EPOCH,
        };
        let host = world.hosts.entry("micro01".to_owned()).or_default();
        host.report = Seen::Known {
            value: report,
            at: Timestamp::UNIX_EPOCH,
        };
        (spec, world)
    }

    fn shown(lost: bool) -> Vec<String> {
        let (spec, world) = world();
        let all = of_member("micro01", &spec, lost, &world);
        all.iter()
            .map(|p| {
                let roles = p.roles.join(" ");
                format!("{:?} {} [{roles}] {}", p.service, p.address, p.status)
            })
            .collect()
    }

    #[test]
    fn a_member_has_its_roles_in_every_service() {
        assert_eq!(
            shown(false),
            [
                "Lxd 10.77.0.1:8443 [database] Online",
                "Ovn 10.78.0.1 [chassis] Online",
                "Ceph 10.77.0.1 [mon osd.3] osd.3 failed",
            ]
        );
    }

    #[test]
    fn of_a_lost_member_is_shown_what_it_ran() {
        assert_eq!(
            shown(true),
            [
                "Lxd 10.77.0.1:8443 [database] Unreachable",
                "Ovn 10.78.0.1 [chassis] Unreachable",
                "Ceph 10.77.0.1 [mon osd.3] Unreachable",
            ]
        );
    }
}
