//! What is said of OVN between the controller and the agent of a machine.

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

/// What a machine has of OVN.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OvnReport {
    /// Whether the packages of Open vSwitch, of OVN's databases and of its controller are there.
    pub installed: bool,
    /// Whether the kernel forwards for Open vSwitch; otherwise a process does.
    pub kernel_datapath: bool,
    /// Open vSwitch's version.
    pub ovs_version: String,
    /// Why Open vSwitch could not be asked, if it could not.
    pub problem: Option<String>,
    /// The authority, when this machine holds its key.
    pub authority: Option<AuthorityReport>,
    /// The certificate OVN's programs and the instance service use here.
    pub certificate: Option<CertificateReport>,
    /// What it has of the databases.
    pub central: CentralReport,
    /// What it has as a machine that carries traffic.
    pub chassis: ChassisReport,
}

/// The authority that signs certificates for OVN.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AuthorityReport {
    /// SHA-256 of its certificate, hex.
    pub fingerprint: String,
    /// When it ends, seconds since 1970.
    pub not_after: i64,
}

/// A machine's certificate for OVN.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CertificateReport {
    /// SHA-256 of the certificate of the authority that is trusted here, hex.
    pub authority: String,
    /// When the machine's certificate ends, seconds since 1970.
    pub not_after: i64,
    /// The addresses it is for.
    pub addresses: Vec<IpAddr>,
    /// What is wrong with it, if anything: not signed by the authority, not of the key beside it.
    pub wrong: Option<String>,
}

/// What a machine has of the databases.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CentralReport {
    /// Whether this program made it one that holds them: what it wrote for them says so, in
    /// whatever version, and whatever became of it since.
    pub ours: bool,
    /// What this program has written for them, if that is what it would write now.
    pub config: Option<CentralConfig>,
    /// Whether there are database files, whoever made them.
    pub files: bool,
    /// The northbound database, if it answers.
    pub northbound: Option<DatabaseReport>,
    /// The southbound database, if it answers.
    pub southbound: Option<DatabaseReport>,
    /// What the files here say of databases that do not answer.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub down: Vec<DatabaseFile>,
    /// Whether northd runs.
    pub northd: bool,
    /// The addresses of all routers, as this machine's northbound database has them.
    pub routers: Option<BTreeSet<IpAddr>>,
    /// Which machines networks go out by, by the address of their router outside.
    pub gateways: BTreeMap<IpAddr, Gateway>,
    /// The chassis, as this machine's southbound database has them.
    pub chassis: Vec<ChassisRow>,
}

impl CentralReport {
    /// Whether this program made this machine one that holds the databases.
    pub fn is_ours(&self) -> bool {
        self.ours || self.config.is_some()
    }

    /// One of the two databases, if it answers.
    pub fn database(&self, which: OvnDatabase) -> Option<&DatabaseReport> {
        match which {
            OvnDatabase::Northbound => self.northbound.as_ref(),
            OvnDatabase::Southbound => self.southbound.as_ref(),
        }
    }

    /// The raft and the server that a database here is, whether it answers or not.
    pub fn server(&self, which: OvnDatabase) -> Option<(&str, &str)> {
        match self.database(which) {
            Some(d) => Some((&d.cid, &d.sid)),
            None => {
                let file = self.down.iter().find(|file| file.which == which)?;
                Some((&file.cid, &file.sid))
            }
        }
    }

    /// Whether both databases are part of a raft with a majority, and northd runs.
    pub fn serves(&self) -> bool {
        let connected = |d: &Option<DatabaseReport>| d.as_ref().is_some_and(|d| d.connected);
        self.northd && connected(&self.northbound) && connected(&self.southbound)
    }
}

/// One database of a machine, as a server of a raft.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DatabaseReport {
    /// Whether it is a raft's at all.
    pub clustered: bool,
    /// Whether it is part of a raft that has a majority.
    pub connected: bool,
    /// Whether it leads.
    pub leader: bool,
    /// The raft.
    pub cid: String,
    /// This machine's own server in it, short form of its id; empty when that is not known.
    pub sid: String,
    /// The servers of the raft: short id and address without scheme and port.
    pub servers: Vec<RaftMember>,
    /// Where it listens for clients, besides its command line.
    pub listens: Vec<String>,
}

/// A database whose server does not answer, as its file says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DatabaseFile {
    /// Which of the two.
    pub which: OvnDatabase,
    /// The raft.
    pub cid: String,
    /// The server in it, short form of its id.
    pub sid: String,
}

/// A server of a raft.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RaftMember {
    /// Short form of its id.
    pub id: String,
    /// Its address.
    pub address: IpAddr,
}

/// A raft as a server that is part of it says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Raft {
    /// Its id.
    pub cid: String,
    /// Its servers.
    pub servers: Vec<RaftMember>,
}

impl From<&DatabaseReport> for Raft {
    fn from(database: &DatabaseReport) -> Raft {
        Raft {
            cid: database.cid.clone(),
            servers: database.servers.clone(),
        }
    }
}

impl Raft {
    /// Whether it is this raft, and it has no such server, or no longer.
    pub fn is_without(&self, cid: &str, sid: &str) -> bool {
        let named = !cid.is_empty() && !sid.is_empty() && !self.servers.is_empty();
        named && self.cid == cid && self.servers.iter().all(|server| server.id != sid)
    }
}

/// The rafts of both databases, as far as others tell of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Rafts {
    /// The northbound database's.
    pub northbound: Option<Raft>,
    /// The southbound database's.
    pub southbound: Option<Raft>,
}

impl Rafts {
    /// The raft of one database.
    pub fn of(&self, which: OvnDatabase) -> Option<&Raft> {
        match which {
            OvnDatabase::Northbound => self.northbound.as_ref(),
            OvnDatabase::Southbound => self.southbound.as_ref(),
        }
    }
}

/// How a machine holds the databases.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CentralConfig {
    /// The machine's own address.
    pub address: IpAddr,
    /// The server whose raft it is in; `None` for the first, which makes it.
    pub join: Option<IpAddr>,
    /// All machines that hold the databases, in order.
    pub centrals: Vec<IpAddr>,
    /// Whether all connections are over TLS.
    pub tls: bool,
}

impl CentralConfig {
    /// Where a database must be told to listen for clients; `None` when its command line says it.
    pub fn listener(&self, port: u16) -> Option<String> {
        if !self.tls {
            return None;
        }
        let any_v6 = self.centrals.iter().any(IpAddr::is_ipv6);
        Some(if any_v6 {
            format!("pssl:{port}:[::]")
        } else {
            format!("pssl:{port}")
        })
    }
}

/// What a machine has as one that carries traffic.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ChassisReport {
    /// Whether ovn-controller runs.
    pub controller: bool,
    /// Whether ovn-controller is connected to the southbound database; `None` when it does not
    /// answer.
    pub connected: Option<bool>,
    /// The tunnels to other machines, by the address of their other end.
    pub tunnels: BTreeMap<IpAddr, TunnelReport>,
    /// Whether ovn-controller is told to use the certificate.
    pub tls: bool,
    /// The name Open vSwitch takes as its system-id when it starts.
    pub system_id_at_start: String,
    /// What ovn-controller is told: `system-id` and all `ovn-…`; and this program's own mark.
    pub external_ids: BTreeMap<String, String>,
    /// The datapath of the integration bridge and of those that lead outside, by name.
    pub bridges: BTreeMap<String, String>,
    /// The bridges, other than the integration bridge, that hold each port, by port.
    pub ports: BTreeMap<String, String>,
}

/// A tunnel as Open vSwitch has it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TunnelReport {
    /// Whether the other end is heard (BFD); `None` when nobody listens for it, which OVN only
    /// does where a gateway may be at the other end.
    pub up: Option<bool>,
    /// What Open vSwitch says of it.
    pub diagnostic: String,
}

/// A chassis as the southbound database has it.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ChassisRow {
    /// The system-id.
    pub name: String,
    /// The machine's host name.
    pub hostname: String,
    /// Its tunnel ends, as `TYPE ADDRESS`.
    pub encaps: Vec<String>,
}

/// By which machine a network goes out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Gateway {
    /// The chassis it goes out by while that is heard.
    pub preferred: String,
    /// The chassis it goes out by now, if any does.
    pub now: Option<String>,
}

/// How a machine carries traffic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChassisConfig {
    /// The system-id: the member's name.
    pub name: String,
    /// Where its tunnels end.
    pub encap_ip: IpAddr,
    /// The machines that hold the databases.
    pub centrals: Vec<IpAddr>,
    /// Whether the connection to them is over TLS.
    pub tls: bool,
    /// Whether a process forwards because the kernel does not.
    pub userspace: bool,
    /// The bridges that lead to networks outside, by the network's name; others stay as they are.
    #[serde(default)]
    pub mappings: BTreeMap<String, String>,
}

impl ChassisConfig {
    /// What Open vSwitch's `external_ids` must hold, which hold `seen` now.
    pub fn external_ids(&self, seen: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        let mut ids: BTreeMap<String, String> = [
            ("system-id", self.name.clone()),
            ("ovn-encap-type", "geneve".to_owned()),
            ("ovn-encap-ip", self.encap_ip.to_string()),
            (
                "ovn-remote",
                connection(
                    &self.centrals,
                    self.tls,
                    crate::services::ovn::SOUTHBOUND_PORT,
                ),
            ),
        ]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect();
        if self.userspace {
            ids.insert(DATAPATH.to_owned(), USERSPACE.to_owned());
            ids.insert(DATAPATH_MARK.to_owned(), USERSPACE.to_owned());
        }
        if !self.mappings.is_empty() {
            let seen = seen.get(MAPPINGS).map_or("", String::as_str);
            ids.insert(MAPPINGS.to_owned(), self.merged(seen));
        }
        ids
    }

    /// The mappings with those of this machine in their places; the same text when none is missing.
    fn merged(&self, seen: &str) -> String {
        let mut pairs: BTreeMap<&str, &str> = seen
            .split(',')
            .filter_map(|pair| pair.split_once(':'))
            .collect();
        let before = pairs.clone();
        pairs.extend(self.mappings.iter().map(|(n, b)| (n.as_str(), b.as_str())));
        if pairs == before {
            return seen.to_owned();
        }
        let all: Vec<String> = pairs.iter().map(|(n, b)| format!("{n}:{b}")).collect();
        all.join(",")
    }
}

/// The key that says which datapath ovn-controller gives the integration bridge.
pub const DATAPATH: &str = "ovn-bridge-datapath-type";

/// The key by which it is known later that this program chose the datapath, and no person did.
pub const DATAPATH_MARK: &str = "microcloud-datapath";

/// The datapath in which a process forwards.
pub const USERSPACE: &str = "netdev";

/// The key that says which bridge leads to which network outside.
const MAPPINGS: &str = "ovn-bridge-mappings";

/// The connection string to these machines, such as `ssl:192.0.2.1:6641,ssl:192.0.2.2:6641`.
pub fn connection(centrals: &[IpAddr], tls: bool, port: u16) -> String {
    let scheme = if tls { "ssl" } else { "tcp" };
    let all: Vec<String> = centrals
        .iter()
        .map(|address| format!("{scheme}:{}", std::net::SocketAddr::new(*address, port)))
        .collect();
    all.join(",")
}

/// One of OVN's two databases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OvnDatabase {
    /// What networks there should be.
    Northbound,
    /// What the chassis are told.
    Southbound,
}

impl OvnDatabase {
    /// Both of them.
    pub const BOTH: [OvnDatabase; 2] = [OvnDatabase::Northbound, OvnDatabase::Southbound];
}

impl fmt::Display for OvnDatabase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            OvnDatabase::Northbound => "northbound",
            OvnDatabase::Southbound => "southbound",
        })
    }
}

/// What a machine is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum OvnRequest {
    /// Answer when what a heartbeat tells of OVN is not this number any more, or after some
    /// seconds. Changes nothing.
    AwaitChange {
        /// The number that is known.
        known: u64,
    },
    /// Make the authority, unless it holds one.
    MakeAuthority,
    /// Give the authority's certificate and key.
    ShareAuthority,
    /// Keep a copy of the authority.
    TakeAuthority(AuthorityMaterial),
    /// Make a key, unless there is one, and a request for a certificate of it.
    RequestCertificate {
        /// The member's name.
        name: String,
        /// The addresses it is for.
        addresses: Vec<IpAddr>,
    },
    /// Sign a certificate with the authority held here.
    Sign {
        /// The request, PEM.
        request: String,
        /// The member's name.
        name: String,
        /// The addresses it is for.
        addresses: Vec<IpAddr>,
    },
    /// Use this certificate.
    TakeCertificate {
        /// The machine's certificate, PEM.
        certificate: String,
        /// The authority's, PEM.
        authority: String,
    },
    /// Hold the databases like this.
    Central(CentralConfig),
    /// Have the databases, as this machine has them, listen for clients.
    Listen(CentralConfig),
    /// Hold them no longer: leave both rafts and keep the files aside. A server that cannot tell
    /// its raft keeps its files unless the raft, which is told here as others see it, has struck it.
    LeaveCentral(Rafts),
    /// Strike a lost server from a raft.
    Kick {
        /// Which raft.
        database: OvnDatabase,
        /// The server, which must have this id and address in it.
        server: RaftMember,
    },
    /// Carry traffic like this.
    Chassis(ChassisConfig),
    /// Have ovn-controller begin anew: it makes its chassis row again.
    RestartController,
    /// Carry no traffic any more: ovn-controller ends, which takes its chassis row with it, and the
    /// machine's certificate and its copy of the authority go.
    Forget,
    /// Delete a chassis row that belongs to no machine any more.
    DeleteChassis {
        /// Its system-id.
        name: String,
    },
}

/// The authority with its key: a secret.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuthorityMaterial {
    /// Its certificate, PEM.
    pub certificate: String,
    /// Its key, PEM.
    pub key: String,
}

impl fmt::Debug for AuthorityMaterial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AuthorityMaterial(secret)")
    }
}

/// What a machine answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum OvnAnswer {
    /// The number a heartbeat would tell.
    Changes(u64),
    /// It is done.
    Done,
    /// The authority.
    Authority(AuthorityMaterial),
    /// A request for a certificate, PEM.
    SigningRequest(String),
    /// A certificate.
    Certificate {
        /// The machine's, PEM.
        certificate: String,
        /// The authority's, PEM.
        authority: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mappings_of_others_stay() {
        let config = ChassisConfig {
            name: "micro01".into(),
            encap_ip: "10.0.0.1".parse().unwrap(),
            centrals: Vec::new(),
            tls: true,
            userspace: false,
            mappings: [("UPLINK".to_owned(), "lxdovn1".to_owned())].into(),
        };
        assert_eq!(config.merged(""), "UPLINK:lxdovn1");
        assert_eq!(
            config.merged("UPLINK:wrong,b:br-b"),
            "UPLINK:lxdovn1,b:br-b"
        );
        let as_it_is = "b:br-b,UPLINK:lxdovn1";
        assert_eq!(config.merged(as_it_is), as_it_is);
    }
}
