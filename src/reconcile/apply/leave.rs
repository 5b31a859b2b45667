//! What must still hold just before a member goes.

use super::{Applier, Stop};
use crate::services::host::{HostTarget, LxdReport};

impl Applier {
    /// The member is evacuated, nothing lies on it, and all others are online.
    pub(super) async fn leaves(&self, name: &str) -> Result<(), Stop> {
        for member in self.lxd.members().await? {
            let (other, status) = (&member.server_name, member.status.as_str());
            let good = match other == name {
                true => status == "Evacuated",
                false => matches!(status, "Online" | "Evacuated"),
            };
            if !good {
                return Err(Stop::Stale(format!("{other} is {status}")));
            }
        }
        match self.lxd.held_by(name).await?.first() {
            None => Ok(()),
            Some(held) => Err(Stop::Stale(format!("{name} holds {held}"))),
        }
    }

    /// LXD takes the member for offline, and no LXD of this cluster answers on its machine.
    pub(super) async fn lost(&self, target: &HostTarget, address: &str) -> Result<(), Stop> {
        let name = &target.name;
        let row = self.lxd.member(name).await?.value;
        if row.status != "Offline" || row.url != address {
            return Err(Stop::Stale(format!(
                "{name} is {} at {}",
                row.status, row.url
            )));
        }
        match self.hosts.host(target).report().await {
            Ok(report) => match report.lxd {
                LxdReport::Running(lxd) if lxd.clustered || lxd.joining => {
                    Err(Stop::Stale(format!("{name} answers again")))
                }
                _ => Ok(()),
            },
            Err(_) => Ok(()),
        }
    }
}
