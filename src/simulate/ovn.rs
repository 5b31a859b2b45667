//! OVN of the simulated machines: as much as the controller sees of it.
//!
//! One raft serves both databases; it has a majority while most of its servers are on and linked.
//! Certificates are words that say who signed them.

use super::world::World;
use crate::services::host::{
    AuthorityMaterial, AuthorityReport, CentralConfig, CentralReport, CertificateReport,
    ChassisConfig, ChassisReport, ChassisRow, DatabaseReport, HostError, OvnAnswer, OvnDatabase,
    OvnReport, OvnRequest, RaftMember, Rafts,
};
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;

/// When simulated certificates end: far away.
const NOT_AFTER: i64 = 1 << 40;

/// OVN of one machine.
#[derive(Debug, Default)]
pub(super) struct MachineOvn {
    authority: Option<String>,
    certificate: Option<CertificateReport>,
    config: Option<CentralConfig>,
    /// The server its files are, while it has them.
    sid: Option<String>,
    /// What ovn-controller is told, when it was set up.
    chassis: Option<ChassisConfig>,
    external_ids: BTreeMap<String, String>,
    /// Whether ovn-controller has still to make its row, or to write it anew.
    row_due: bool,
}

/// What the databases hold.
#[derive(Debug, Default)]
pub(super) struct Databases {
    servers: BTreeSet<RaftMember>,
    listens: bool,
    chassis: BTreeMap<String, ChassisRow>,
    made: u64,
    /// How many servers there ever were.
    counted: usize,
}

fn guard(reason: &str) -> HostError {
    HostError::GuardFailed {
        reason: reason.to_owned(),
    }
}

impl World {
    /// The machines of the raft that are on and reach a majority from `machine`.
    fn raft_seen_from(&self, machine: usize) -> Vec<usize> {
        self.ovn
            .servers
            .iter()
            .filter_map(|s| Some((s, self.at_address(s.address)?)))
            .filter(|(s, m)| self.machines[*m].ovn.sid.as_ref() == Some(&s.id))
            .map(|(_, m)| m)
            .filter(|m| self.machines[*m].powered && (*m == machine || self.linked(machine, *m)))
            .collect()
    }

    fn has_majority(&self, machine: usize) -> bool {
        self.raft_seen_from(machine).len() * 2 > self.ovn.servers.len()
    }

    /// Whether the raft has the server whose files a machine has.
    fn in_raft(&self, machine: usize) -> bool {
        let sid = self.machines[machine].ovn.sid.as_ref();
        self.ovn.servers.iter().any(|s| Some(&s.id) == sid)
    }

    /// What a machine's OVN would be seen to be.
    pub(super) fn ovn_report(&self, machine: usize) -> OvnReport {
        let m = &self.machines[machine];
        OvnReport {
            installed: true,
            kernel_datapath: true,
            ovs_version: "3.5.0".to_owned(),
            problem: None,
            authority: m.ovn.authority.as_ref().map(|fingerprint| AuthorityReport {
                fingerprint: fingerprint.clone(),
                not_after: NOT_AFTER,
            }),
            certificate: m.ovn.certificate.clone(),
            central: self.central_report(machine),
            chassis: ChassisReport {
                controller: m.ovn.chassis.is_some(),
                connected: Some(true),
                tunnels: BTreeMap::new(),
                tls: m.ovn.chassis.as_ref().is_some_and(|c| c.tls),
                system_id_at_start: m
                    .ovn
                    .chassis
                    .as_ref()
                    .map_or_else(|| format!("{}-random", m.config.name), |c| c.name.clone()),
                external_ids: m.ovn.external_ids.clone(),
                bridges: BTreeMap::new(),
                ports: BTreeMap::new(),
            },
        }
    }

    fn central_report(&self, machine: usize) -> CentralReport {
        let Some(config) = &self.machines[machine].ovn.config else {
            return CentralReport::default();
        };
        let own = &self.machines[machine].ovn;
        let seen = self.raft_seen_from(machine);
        let connected = self.in_raft(machine) && self.has_majority(machine);
        let database = DatabaseReport {
            clustered: true,
            connected,
            leader: connected && seen.iter().min() == Some(&machine),
            cid: format!("raft {}", self.ovn.made),
            sid: own.sid.clone().unwrap_or_default(),
            servers: self.ovn.servers.iter().cloned().collect(),
            listens: Vec::new(),
        };
        let listening = |port: u16| DatabaseReport {
            listens: config
                .listener(port)
                .filter(|_| self.ovn.listens)
                .into_iter()
                .collect(),
            ..database.clone()
        };
        CentralReport {
            ours: true,
            config: Some(config.clone()),
            files: own.sid.is_some(),
            down: Vec::new(),
            northbound: Some(listening(crate::services::ovn::NORTHBOUND_PORT)),
            southbound: Some(listening(crate::services::ovn::SOUTHBOUND_PORT)),
            northd: true,
            routers: None,
            gateways: BTreeMap::new(),
            chassis: if connected {
                self.ovn.chassis.values().cloned().collect()
            } else {
                Vec::new()
            },
        }
    }

    /// A number that changes with what a machine's OVN is seen to be.
    pub(super) fn ovn_changes(&self, machine: usize) -> u64 {
        let m = &self.machines[machine];
        if m.ovn.chassis.is_none() && m.ovn.config.is_none() && m.ovn.certificate.is_none() {
            return 0;
        }
        let mut hasher = DefaultHasher::new();
        format!("{:?}", self.ovn_report(machine)).hash(&mut hasher);
        hasher.finish()
    }

    /// Does what is asked of a machine's OVN.
    pub(super) fn ovn_request(
        &mut self,
        machine: usize,
        request: OvnRequest,
    ) -> Result<OvnAnswer, HostError> {
        let name = self.machines[machine].config.name.clone();
        let own = &mut self.machines[machine].ovn;
        match request {
            OvnRequest::AwaitChange { .. } => {
                return Ok(OvnAnswer::Changes(self.ovn_changes(machine)));
            }
            OvnRequest::MakeAuthority => {
                own.authority.get_or_insert(format!("authority of {name}"));
            }
            OvnRequest::ShareAuthority => {
                let kept = own.authority.clone();
                let certificate = kept.ok_or_else(|| guard("the authority is not kept here"))?;
                return Ok(OvnAnswer::Authority(AuthorityMaterial {
                    certificate,
                    key: String::new(),
                }));
            }
            OvnRequest::TakeAuthority(material) => {
                own.authority.get_or_insert(material.certificate);
            }
            OvnRequest::RequestCertificate { addresses, .. } => {
                let asked = addresses.iter().map(ToString::to_string);
                return Ok(OvnAnswer::SigningRequest(
                    asked.collect::<Vec<_>>().join(" "),
                ));
            }
            OvnRequest::Sign { request, .. } => {
                let kept = own.authority.clone();
                return Ok(OvnAnswer::Certificate {
                    certificate: request,
                    authority: kept.ok_or_else(|| guard("the authority is not kept here"))?,
                });
            }
            OvnRequest::TakeCertificate {
                certificate,
                authority,
            } => {
                own.certificate = Some(CertificateReport {
                    authority,
                    not_after: NOT_AFTER,
                    addresses: certificate
                        .split(' ')
                        .filter_map(|a| a.parse().ok())
                        .collect(),
                    wrong: None,
                });
            }
            OvnRequest::Central(config) => self.hold(machine, config)?,
            OvnRequest::Listen(_) => self.ovn.listens = true,
            OvnRequest::LeaveCentral(told) => self.leave_raft(machine, &told)?,
            OvnRequest::Kick { server, .. } => self.strike(machine, &server)?,
            OvnRequest::Chassis(config) => {
                let ids = config.external_ids(&own.external_ids);
                own.external_ids.extend(ids);
                own.chassis = Some(config);
                self.register(machine);
            }
            OvnRequest::Forget => {
                if own.sid.is_some() {
                    return Err(guard("OVN's databases are held here still"));
                }
                *own = MachineOvn::default();
                self.ovn.chassis.remove(&name);
            }
            OvnRequest::RestartController => self.register(machine),
            OvnRequest::DeleteChassis { name } => self.delete_chassis(&name),
        }
        self.register_all();
        Ok(OvnAnswer::Done)
    }

    fn hold(&mut self, machine: usize, config: CentralConfig) -> Result<(), HostError> {
        let own = &self.machines[machine].ovn;
        if config.tls && own.certificate.is_none() {
            return Err(guard("there is no certificate for OVN here yet"));
        }
        let address: IpAddr = self.machines[machine].config.address;
        if own.sid.is_some() && !self.in_raft(machine) {
            return Err(HostError::Failed {
                reason: "it has not become part of its raft".to_owned(),
            });
        }
        if own.sid.is_none() {
            match config.join {
                Some(_) if !self.has_majority(machine) => {
                    return Err(HostError::Failed {
                        reason: "the raft has no leader to join".to_owned(),
                    });
                }
                Some(_) => {}
                None => {
                    self.ovn.servers.clear();
                    self.ovn.chassis.clear();
                    self.ovn.made += 1;
                    for machine in &mut self.machines {
                        machine.ovn.row_due = true;
                    }
                }
            }
            self.ovn.counted += 1;
            let id = format!("{:04x}", 0x1000 + self.ovn.counted);
            self.machines[machine].ovn.sid = Some(id.clone());
            self.ovn.servers.insert(RaftMember { id, address });
            self.ovn.listens = true;
        }
        self.machines[machine].ovn.config = Some(config);
        Ok(())
    }

    fn strike(&mut self, machine: usize, server: &RaftMember) -> Result<(), HostError> {
        let mut servers = self.ovn.servers.iter();
        if !servers.any(|s| s.address == server.address) {
            return Ok(());
        }
        if !self.ovn.servers.contains(server) {
            return Err(guard("the server there is another one now"));
        }
        if self.machines[machine].ovn.sid.as_ref() == Some(&server.id) {
            return Err(guard("it is this machine's own server"));
        }
        if !self.in_raft(machine) || !self.has_majority(machine) {
            return Err(HostError::Failed {
                reason: "the raft has no leader that lets it go".to_owned(),
            });
        }
        self.ovn.servers.remove(server);
        Ok(())
    }

    fn leave_raft(&mut self, machine: usize, told: &Rafts) -> Result<(), HostError> {
        let cid = format!("raft {}", self.ovn.made);
        let own = &self.machines[machine].ovn;
        let Some(sid) = own.sid.clone() else {
            return Ok(());
        };
        if self.in_raft(machine) && self.has_majority(machine) {
            self.ovn.servers.retain(|s| s.id != sid);
        } else if !OvnDatabase::BOTH
            .into_iter()
            .all(|which| told.of(which).is_some_and(|r| r.is_without(&cid, &sid)))
        {
            return Err(guard("the raft still has this server"));
        }
        let own = &mut self.machines[machine].ovn;
        (own.config, own.sid) = (None, None);
        Ok(())
    }

    /// A machine is installed anew: what it had of OVN is gone.
    pub(super) fn lose_ovn(&mut self, machine: usize) {
        self.machines[machine].ovn = MachineOvn::default();
    }

    /// ovn-controller makes its machine's row, as soon as it can.
    pub(super) fn register(&mut self, machine: usize) {
        self.machines[machine].ovn.row_due = true;
        self.register_if_due(machine);
    }

    fn register_if_due(&mut self, machine: usize) {
        let m = &self.machines[machine];
        let Some(name) = m.ovn.external_ids.get("system-id").cloned() else {
            return;
        };
        let reaches = self
            .raft_seen_from(machine)
            .iter()
            .any(|central| self.has_majority(*central));
        if !m.ovn.row_due || m.ovn.chassis.is_none() || !m.booted || !reaches {
            return;
        }
        let end = m.ovn.external_ids.get("ovn-encap-ip");
        let row = ChassisRow {
            name: name.clone(),
            hostname: m.config.name.clone(),
            encaps: end.map(|ip| format!("geneve {ip}")).into_iter().collect(),
        };
        self.ovn.chassis.insert(name, row);
        self.machines[machine].ovn.row_due = false;
    }

    fn register_all(&mut self) {
        for machine in 0..self.machines.len() {
            self.register_if_due(machine);
        }
    }

    /// Somebody changes what ovn-controller of a machine is told.
    pub(super) fn tell_ovn_controller(&mut self, machine: usize, key: &str, value: &str) {
        let ids = &mut self.machines[machine].ovn.external_ids;
        ids.insert(key.to_owned(), value.to_owned());
        self.register(machine);
    }

    /// A row is deleted; an ovn-controller that runs makes its own again at once.
    pub(super) fn delete_chassis(&mut self, name: &str) {
        self.ovn.chassis.remove(name);
        for machine in 0..self.machines.len() {
            let own = &self.machines[machine].ovn.external_ids;
            if own.get("system-id").is_some_and(|own| own == name) {
                self.register(machine);
            }
        }
    }

    /// The machines that hold the databases, by name; one that the raft lists twice is here twice.
    pub(super) fn ovn_centrals(&self) -> Vec<String> {
        self.ovn
            .servers
            .iter()
            .filter_map(|s| self.at_address(s.address))
            .map(|m| self.machines[m].config.name.clone())
            .collect()
    }
}
