//! What the agent of a simulated machine does for Ceph, as the real one does it: done already is
//! done, and what is of another cluster is never touched.

use super::super::world::{Shared, World};
use super::cluster::{Cluster, Monitor, Osd};
use super::machine::{Conf, OsdDisk, Unit};
use crate::services::ceph::{CephError, Command};
use crate::services::host::{
    CephAccess, CephAnswer, CephDaemonKind, CephRequest, HostError, WipeDisk,
};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How long a new monitor may take until it is in the quorum.
const JOINING: Duration = Duration::from_secs(40);

/// What a disk that was given to an OSD shows.
const MARK: &str = "bluestore";

fn guard<T>(reason: impl Into<String>) -> Result<T, HostError> {
    Err(HostError::GuardFailed {
        reason: reason.into(),
    })
}

fn failed(reason: impl Into<String>) -> HostError {
    HostError::Failed {
        reason: reason.into(),
    }
}

fn refused(error: CephError) -> HostError {
    failed(error.to_string())
}

/// Where a monitor listens, as `ceph.conf` has it.
fn addresses(monitor: &Monitor) -> String {
    let all = monitor.addresses();
    let all: Vec<String> = all
        .iter()
        .map(|(kind, at)| format!("{kind}:{at}"))
        .collect();
    format!("[{}]", all.join(","))
}

/// Does what is asked of a machine; goes on although nobody waits for it any more.
pub(in crate::simulate) async fn ask(
    shared: Arc<Shared>,
    machine: usize,
    request: CephRequest,
) -> Result<CephAnswer, HostError> {
    let boots = shared.lock().machines[machine].boots;
    let takes = {
        let mut world = shared.lock();
        world.ceph_begin(machine, &request)?
    };
    if !takes.is_zero() {
        tokio::time::sleep(takes).await;
    }
    let joins = {
        let mut world = shared.lock();
        let m = &world.machines[machine];
        if !m.powered || m.boots != boots {
            return Err(HostError::Unreachable {
                name: m.config.name.clone(),
                address: m.config.address.to_string(),
                reason: "the connection was reset".to_owned(),
                silent: false,
            });
        }
        let answer = world.ceph_finish(machine, &request)?;
        match request {
            CephRequest::AddDaemon {
                kind: CephDaemonKind::Mon,
                name,
                ..
            } => name,
            _ => return Ok(answer),
        }
    };
    let begun = Instant::now();
    loop {
        let joined = shared.lock().ceph_monitor_joined(machine, &joins);
        match joined {
            Ok(true) => return Ok(CephAnswer::Done),
            Ok(false) if begun.elapsed() >= JOINING => {
                return Err(failed(format!(
                    "the monitor {joins} runs, but is not in the quorum after {} s: do the \
                     machines reach each other on port 3300?",
                    JOINING.as_secs()
                )));
            }
            Err(error) if begun.elapsed() >= JOINING => return Err(refused(error)),
            _ => tokio::time::sleep(Duration::from_millis(200)).await,
        }
    }
}

impl World {
    /// Looks whether it may be done, and what is there before it is; how long it takes.
    fn ceph_begin(&mut self, machine: usize, request: &CephRequest) -> Result<Duration, HostError> {
        let known = self.known_fsid(machine);
        match request {
            CephRequest::Form { fsid, name, .. } => {
                if !known.is_empty() && known != *fsid {
                    return guard(format!(
                        "this machine is set up for the Ceph cluster {known} already"
                    ));
                }
                let monitor = (CephDaemonKind::Mon, name.clone());
                let there = self.machines[machine].ceph.daemons.contains_key(&monitor);
                if known.is_empty() && there {
                    return guard(format!(
                        "/var/lib/ceph/mon/ceph-{name} holds a monitor that no ceph.conf speaks \
                         of: move it away if it is not needed"
                    ));
                }
                Ok(self.timings.ceph_form)
            }
            CephRequest::AddDaemon { .. } => {
                if known.is_empty() {
                    return guard("this machine is not set up for Ceph");
                }
                Ok(self.timings.ceph_daemon)
            }
            CephRequest::CreateOsd { fsid, disk, .. } => {
                if known != *fsid {
                    return guard(if known.is_empty() {
                        "this machine is not set up for Ceph".to_owned()
                    } else {
                        format!("this machine is set up for the Ceph cluster {known}, not {fsid}")
                    });
                }
                self.begin_osd(machine, fsid, disk)?;
                Ok(self.timings.ceph_osd)
            }
            _ => Ok(Duration::ZERO),
        }
    }

    fn ceph_finish(
        &mut self,
        machine: usize,
        request: &CephRequest,
    ) -> Result<CephAnswer, HostError> {
        match request {
            CephRequest::Form { .. } => self.form_ceph(machine, request)?,
            CephRequest::Access => return self.ceph_access(machine),
            CephRequest::Configure { access } => self.configure_ceph(machine, access)?,
            CephRequest::AddDaemon {
                kind,
                name,
                address,
            } => self.add_daemon(machine, *kind, name, *address)?,
            CephRequest::RemoveDaemon { kind, name } => self.remove_daemon(machine, *kind, name)?,
            CephRequest::StartDaemon { kind, name } => {
                let daemons = &mut self.machines[machine].ceph.daemons;
                match daemons.get_mut(&(*kind, name.clone())) {
                    Some(unit) => *unit = Unit::started(),
                    None => return guard(format!("there is no {kind} {name} here")),
                }
            }
            CephRequest::CreateOsd { disk, .. } => {
                let osds = &mut self.machines[machine].ceph.osds;
                if let Some(osd) = osds.iter_mut().find(|o| o.path == disk.path) {
                    osd.ready = true;
                    osd.unit = Unit::started();
                }
            }
            CephRequest::StartOsd { id, uuid } => self.osd_unit(machine, *id, uuid)?.start(),
            CephRequest::StopOsd { id, uuid } => self.osd_unit(machine, *id, uuid)?.stop(),
            CephRequest::ZapOsd { fsid, uuid, disk } => self.zap_osd(machine, fsid, uuid, disk)?,
            CephRequest::Forget { fsid } => {
                let own = &mut self.machines[machine].ceph;
                if own.conf.as_ref().is_some_and(|conf| conf.fsid == *fsid) {
                    own.daemons.clear();
                    (own.conf, own.keyring) = (None, None);
                }
            }
        }
        self.ceph_refresh();
        Ok(CephAnswer::Done)
    }

    fn known_fsid(&self, machine: usize) -> String {
        let conf = self.machines[machine].ceph.conf.as_ref();
        conf.map(|c| c.fsid.clone()).unwrap_or_default()
    }

    fn form_ceph(&mut self, machine: usize, request: &CephRequest) -> Result<(), HostError> {
        let CephRequest::Form {
            fsid,
            name,
            address,
            public_network,
            cluster_network,
        } = request
        else {
            return Ok(());
        };
        let monitor = Monitor {
            name: name.clone(),
            machine,
            address: *address,
            in_quorum: false,
        };
        let conf = Conf {
            fsid: fsid.clone(),
            mon_host: addresses(&monitor),
            public_network: *public_network,
            cluster_network: *cluster_network,
        };
        let key = (CephDaemonKind::Mon, name.clone());
        let peering = self.timings.ceph_peering;
        let own = &mut self.machines[machine].ceph;
        own.conf = Some(conf);
        if !own.daemons.contains_key(&key) {
            // A new store: what another one of this id held is not in it.
            let cluster = Cluster::new(fsid, monitor, peering);
            own.keyring = cluster.keyring("client.admin", true);
            self.ceph.insert(fsid.clone(), cluster);
        }
        let own = &mut self.machines[machine].ceph;
        own.daemons.insert(key, Unit::started());
        self.ceph_refresh();
        let command = Command::new("config set")
            .with("who", "mon")
            .with("name", "auth_allow_insecure_global_id_reclaim")
            .with("value", "false");
        self.ceph_command(machine, &command).map_err(refused)?;
        Ok(())
    }

    fn ceph_access(&self, machine: usize) -> Result<CephAnswer, HostError> {
        let own = &self.machines[machine].ceph;
        let keyring = own.keyring.clone().ok_or_else(|| {
            failed("the admin's keyring cannot be read: No such file or directory (os error 2)")
        })?;
        let Some(conf) = own.conf.clone() else {
            return guard("this machine is not set up for Ceph");
        };
        Ok(CephAnswer::Access(CephAccess {
            fsid: conf.fsid,
            mon_host: conf.mon_host,
            public_network: conf.public_network,
            cluster_network: conf.cluster_network,
            keyring,
        }))
    }

    fn configure_ceph(&mut self, machine: usize, access: &CephAccess) -> Result<(), HostError> {
        let known = self.known_fsid(machine);
        if !known.is_empty() && known != access.fsid {
            return guard(format!(
                "this machine is set up for the Ceph cluster {known} already"
            ));
        }
        let own = &mut self.machines[machine].ceph;
        own.conf = Some(Conf {
            fsid: access.fsid.clone(),
            mon_host: access.mon_host.clone(),
            public_network: access.public_network,
            cluster_network: access.cluster_network,
        });
        if !access.keyring.is_empty() {
            own.keyring = Some(access.keyring.clone());
        }
        Ok(())
    }

    fn add_daemon(
        &mut self,
        machine: usize,
        kind: CephDaemonKind,
        name: &str,
        address: std::net::IpAddr,
    ) -> Result<(), HostError> {
        let key = (kind, name.to_owned());
        if kind == CephDaemonKind::Mon {
            self.make_room_for_monitor(machine, name)?;
        }
        if !self.machines[machine].ceph.daemons.contains_key(&key) {
            // Its key comes from the cluster.
            let entity = match kind {
                CephDaemonKind::Mon => "mon.".to_owned(),
                _ => format!("{}.{name}", kind.word()),
            };
            let command = match kind {
                CephDaemonKind::Mon => Command::new("auth get").with("entity", entity),
                _ => Command::new("auth get-or-create").with("entity", entity),
            };
            self.ceph_command(machine, &command).map_err(refused)?;
            let fsid = self.known_fsid(machine);
            if kind == CephDaemonKind::Mon
                && let Some(cluster) = self.ceph.get_mut(&fsid)
                && !cluster.monitors.iter().any(|m| m.name == name)
            {
                cluster.monitors.push(Monitor {
                    name: name.to_owned(),
                    machine,
                    address,
                    in_quorum: false,
                });
                cluster.monmap += 1;
            }
        }
        let daemons = &mut self.machines[machine].ceph.daemons;
        daemons.insert(key, Unit::started());
        Ok(())
    }

    /// A store that was struck from the map is set aside, and one that was lost goes out of it first.
    fn make_room_for_monitor(&mut self, machine: usize, name: &str) -> Result<(), HostError> {
        let key = (CephDaemonKind::Mon, name.to_owned());
        let unit = self.machines[machine].ceph.daemons.get(&key).copied();
        self.ceph_command(machine, &Command::new("mon dump"))
            .map_err(refused)?;
        let fsid = self.known_fsid(machine);
        let monitors = self.ceph.get(&fsid).map(|c| c.monitors.as_slice());
        let monitors = monitors.unwrap_or_default();
        let mapped = monitors.iter().any(|m| m.name == name);
        if unit.is_some_and(|u| !u.running) && !mapped {
            self.machines[machine].ceph.daemons.remove(&key);
        }
        if unit.is_none() && mapped {
            if let Some(other) = monitors.iter().find(|m| m.name != name && !m.in_quorum) {
                return guard(format!(
                    "the store of the monitor of {name} is lost, and it is made anew only while \
                     all others are in the quorum: that of {} is not",
                    other.name
                ));
            }
            let command = Command::new("mon remove").with("name", name);
            self.ceph_command(machine, &command).map_err(refused)?;
        }
        Ok(())
    }

    fn ceph_monitor_joined(&mut self, machine: usize, name: &str) -> Result<bool, CephError> {
        self.ceph_command(machine, &Command::new("status"))?;
        let fsid = self.known_fsid(machine);
        let cluster = self.ceph.get(&fsid);
        let mut monitors = cluster.into_iter().flat_map(|c| &c.monitors);
        Ok(monitors.any(|m| m.name == name && m.in_quorum))
    }

    fn remove_daemon(
        &mut self,
        machine: usize,
        kind: CephDaemonKind,
        name: &str,
    ) -> Result<(), HostError> {
        if kind == CephDaemonKind::Mon {
            self.ceph_command(machine, &Command::new("mon dump"))
                .map_err(refused)?;
            let fsid = self.known_fsid(machine);
            let monitors = self.ceph.get(&fsid).map(|c| c.monitors.as_slice());
            if monitors.unwrap_or_default().iter().any(|m| m.name == name) {
                return guard(format!(
                    "the monitor of {name} is in the map of the monitors again"
                ));
            }
        }
        let daemons = &mut self.machines[machine].ceph.daemons;
        daemons.remove(&(kind, name.to_owned()));
        Ok(())
    }

    /// Looks at the disk once more, and begins an OSD on it unless one is there.
    fn begin_osd(&mut self, machine: usize, fsid: &str, disk: &WipeDisk) -> Result<(), HostError> {
        let uuid = self.uuid();
        let m = &mut self.machines[machine];
        let Some(found) = m.disk_mut(&disk.path) else {
            return guard(format!("{} is not there", disk.path));
        };
        if found.serial != disk.serial || found.size != disk.size {
            return guard(format!(
                "{} has the serial number `{}` and {} bytes, not `{}` and {}",
                disk.path, found.serial, found.size, disk.serial, disk.size
            ));
        }
        if found.root {
            return guard(format!("{} is the root disk", disk.path));
        }
        let marks = found.signatures.clone();
        let here = m.ceph.osds.iter().find(|o| o.path == disk.path).cloned();
        match here {
            Some(osd) if osd.fsid == fsid && osd.ready => return Ok(()),
            Some(osd) if osd.fsid == fsid => {
                // Only one that never ran is struck off this way.
                let purge = Command::new("osd purge-new")
                    .with("id", osd.id)
                    .with("yes_i_really_mean_it", true);
                self.ceph_command(machine, &purge).map_err(refused)?;
                self.machines[machine]
                    .ceph
                    .osds
                    .retain(|o| o.path != disk.path);
            }
            _ if !marks.is_empty() => {
                return guard(format!("{} has: {}", disk.path, marks.join(", ")));
            }
            _ => {}
        }
        let bootstrap = Command::new("auth get").with("entity", "client.bootstrap-osd");
        self.ceph_command(machine, &bootstrap).map_err(refused)?;
        let Some(cluster) = self.ceph.get_mut(fsid) else {
            return Err(failed("there is no such cluster"));
        };
        let id = (0..).find(|id| !cluster.osds.contains_key(id)).unwrap_or(0);
        let osd = Osd {
            uuid: uuid.clone(),
            machine,
            born: false,
            up: false,
            in_: false,
            auto_out: false,
            host: String::new(),
            full: None,
        };
        cluster.osds.insert(id, osd);
        cluster.osdmap += 1;
        cluster.add_entity(&format!("osd.{id}"), Vec::new());
        let m = &mut self.machines[machine];
        if let Some(found) = m.disk_mut(&disk.path) {
            found.signatures = vec![MARK.to_owned()];
        }
        m.ceph.osds.push(OsdDisk {
            id,
            uuid,
            fsid: fsid.to_owned(),
            path: disk.path.clone(),
            ready: false,
            unit: Unit::default(),
        });
        Ok(())
    }

    fn zap_osd(
        &mut self,
        machine: usize,
        fsid: &str,
        uuid: &str,
        disk: &WipeDisk,
    ) -> Result<(), HostError> {
        let cluster = self.ceph.get(fsid);
        if cluster.is_some_and(|c| c.osds.values().any(|o| o.uuid == uuid)) {
            return guard("the cluster knows it still");
        }
        let m = &mut self.machines[machine];
        let before = m.ceph.osds.len();
        m.ceph
            .osds
            .retain(|o| !(o.path == disk.path && o.uuid == uuid && o.fsid == fsid));
        if m.ceph.osds.len() == before {
            return guard(format!("{} holds something else now", disk.path));
        }
        if let Some(found) = m.disk_mut(&disk.path) {
            found.signatures.clear();
        }
        Ok(())
    }

    fn osd_unit(&mut self, machine: usize, id: i64, uuid: &str) -> Result<&mut Unit, HostError> {
        let osds = &mut self.machines[machine].ceph.osds;
        match osds.iter_mut().find(|o| o.id == id) {
            None => guard(format!("no disk of this machine holds osd.{id}")),
            Some(osd) if osd.uuid != uuid => {
                guard(format!("osd.{id} of this machine is another one"))
            }
            Some(osd) => Ok(&mut osd.unit),
        }
    }
}

impl Unit {
    fn start(&mut self) {
        *self = Unit::started();
    }

    fn stop(&mut self) {
        *self = Unit::default();
    }
}
