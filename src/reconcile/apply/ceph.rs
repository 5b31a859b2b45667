//! What is done to Ceph, and what must still hold just before.

use super::{Applier, Stop};
use crate::reconcile::plan::step::CephChange;
use crate::services::ceph::{CephError, Look};
use crate::services::host::{CephDaemonKind, HostTarget};
use futures_util::future::join_all;

impl Applier {
    pub(super) async fn no_ceph(
        &self,
        first: &str,
        targets: &[HostTarget],
        majority: usize,
        fsid: &str,
    ) -> Result<(), Stop> {
        let looks = targets.iter().map(|t| {
            let host = self.hosts.host(t);
            async move { (t, host.report().await) }
        });
        let mut answered = 0;
        for (target, report) in join_all(looks).await {
            let Ok(report) = report else { continue };
            answered += 1;
            let ceph = &report.ceph;
            let foreign = !ceph.fsid.is_empty() && ceph.fsid != fsid;
            let stands = ceph.admin || ceph.daemon(CephDaemonKind::Mon).is_some();
            if foreign || (stands && target.name != first) {
                let reason = format!("{} belongs to a Ceph cluster", target.name);
                return Err(Stop::Stale(reason));
            }
        }
        if answered < majority {
            let reason = format!("only {answered} of {} listed members answer", targets.len());
            return Err(Stop::Stale(reason));
        }
        Ok(())
    }

    pub(super) async fn change_ceph(&self, change: &CephChange) -> Result<(), CephError> {
        let ceph = &self.ceph;
        match change {
            CephChange::SetConfig {
                section,
                name,
                value,
            } => ceph.set_config(section, name, value).await,
            CephChange::RemoveMonitor { name } => ceph.remove_monitor(name).await,
            CephChange::SetOut { id } => ceph.set_out(*id).await,
            CephChange::Purge { id, lost } => ceph.purge(*id, *lost).await,
            CephChange::StrikeUnborn { id } => ceph.purge_new(*id).await,
            CephChange::CreateRule {
                name,
                failure_domain,
            } => ceph.create_rule(name, failure_domain).await,
            CephChange::MoveHost { host, rack } => ceph.move_host(host, rack).await,
            CephChange::SetPool { pool, name, value } => ceph.set_pool(pool, name, value).await,
            CephChange::EnableApplication { pool, application } => {
                ceph.enable_application(pool, application).await
            }
            CephChange::CreatePool {
                pool,
                pg_num,
                rule,
                application,
            } => ceph.create_pool(pool, *pg_num, rule, application).await,
            CephChange::CreateFilesystem {
                name,
                metadata,
                data,
            } => ceph.create_filesystem(name, metadata, data).await,
        }
    }

    /// An OSD is struck off only while it is the one that was seen and still never ran.
    pub(super) async fn osd_unborn(&self, id: i64, uuid: &str) -> Result<(), Stop> {
        let seen = Look::default().look(&self.ceph).await?;
        match seen.osds.get(&id) {
            Some(osd) if osd.uuid == uuid && osd.new && !osd.up => Ok(()),
            Some(_) => Err(Stop::Stale(format!("osd.{id} runs, or is another one now"))),
            None => Err(Stop::Stale(format!("osd.{id} is gone"))),
        }
    }

    /// An OSD goes only while it is the one that was seen, is out and holds nothing that would be
    /// missing.
    pub(super) async fn osd_goes(&self, id: i64, uuid: &str, lost: bool) -> Result<(), Stop> {
        let seen = Look::default().look(&self.ceph).await?;
        let stale = |reason: String| Err(Stop::Stale(reason));
        match seen.osds.get(&id) {
            Some(osd) if osd.uuid == uuid && !osd.in_ && !(lost && osd.up) => {}
            Some(_) => return stale(format!("osd.{id} is in or up, or is another one now")),
            None => return stale(format!("osd.{id} is gone")),
        }
        if lost || self.ceph.safe_to_destroy(id).await? {
            return Ok(());
        }
        stale(format!(
            "Ceph says that osd.{id} still holds data others need"
        ))
    }

    /// A monitor that works may go only while all are in the quorum.
    pub(super) async fn monitor_leaves(&self, name: &str) -> Result<(), Stop> {
        let seen = Look::default().look(&self.ceph).await?;
        let stale = |reason: String| Err(Stop::Stale(reason));
        if !seen.monitors.contains_key(name) || seen.monitors.len() < 2 {
            return stale(format!("{name} has no monitor any more, or the only one"));
        }
        match seen.monitors.iter().find(|(_, monitor)| !monitor.in_quorum) {
            Some((other, _)) => stale(format!("the monitor of {other} is out of the quorum")),
            None => Ok(()),
        }
    }

    /// A monitor may go only while it is out of the quorum and all others are in it.
    pub(super) async fn monitor_spare(&self, name: &str) -> Result<(), Stop> {
        let seen = Look::default().look(&self.ceph).await?;
        let stale = |reason: String| Err(Stop::Stale(reason));
        match seen.monitors.get(name) {
            None => return stale(format!("{name} has no monitor any more")),
            Some(monitor) if monitor.in_quorum => {
                return stale(format!("the monitor of {name} is back in the quorum"));
            }
            Some(_) => {}
        }
        let out = seen
            .monitors
            .iter()
            .find(|(other, monitor)| *other != name && !monitor.in_quorum);
        match out {
            Some((other, _)) => stale(format!("the monitor of {other} is out of the quorum")),
            None => Ok(()),
        }
    }
}
