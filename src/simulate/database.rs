//! What one LXD, or the LXDs of one cluster together, keep.

use super::config::hex_digest;
use super::contents::Contents;
use base64::Engine;
use std::collections::{BTreeMap, BTreeSet};
use tokio::time::Instant;

/// Configuration as LXD keeps it: empty values are not kept.
pub(super) type Map = BTreeMap<String, String>;

/// Where a standalone server's own part of an object is kept.
pub(super) const ALONE: &str = "none";

/// Which database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct DbId(pub u64);

/// The database of a standalone server or of a cluster.
#[derive(Debug)]
pub(super) struct Db {
    /// Whether it is a cluster's.
    pub clustered: bool,
    /// The certificate its servers present.
    pub certificate: Certificate,
    /// Global server configuration.
    pub config: Map,
    /// Members by name; empty on a standalone server.
    pub members: BTreeMap<String, MemberRow>,
    /// The next member's id.
    pub next_member: u64,
    /// The member that leads the database.
    pub leader: Option<String>,
    /// Descriptions of the cluster groups; who is in one is kept with the members.
    pub groups: BTreeMap<String, String>,
    /// Projects.
    pub projects: BTreeMap<String, ProjectRow>,
    /// Profiles by project and name.
    pub profiles: BTreeMap<String, BTreeMap<String, ProfileRow>>,
    /// Storage pools.
    pub pools: BTreeMap<String, PoolRow>,
    /// Networks by project and name.
    pub networks: BTreeMap<String, BTreeMap<String, NetworkRow>>,
    /// Instances, images and volumes, and who uses what.
    pub contents: Contents,
    /// Certificates of servers that were let in, by fingerprint, with the names they came under.
    pub trusted_servers: BTreeMap<String, String>,
    /// Addresses of joiners that are left in the database's raft, though they are no members.
    pub raft_orphans: BTreeSet<String>,
    /// Join tokens that were not used yet: their operations by member name.
    pub tokens: BTreeMap<String, Token>,
}

impl Db {
    /// The database of a fresh standalone server.
    pub fn standalone(certificate: Certificate) -> Db {
        let mut db = Db {
            clustered: false,
            certificate,
            config: Map::new(),
            members: BTreeMap::new(),
            next_member: 1,
            leader: None,
            groups: BTreeMap::from([("default".into(), "Default cluster group".into())]),
            projects: BTreeMap::new(),
            profiles: BTreeMap::new(),
            pools: BTreeMap::new(),
            networks: BTreeMap::new(),
            contents: Contents::default(),
            trusted_servers: BTreeMap::new(),
            raft_orphans: BTreeSet::new(),
            tokens: BTreeMap::new(),
        };
        let config = [
            "features.images",
            "features.networks",
            "features.profiles",
            "features.storage.volumes",
        ]
        .map(|key| (key.to_owned(), "true".to_owned()));
        db.projects.insert(
            "default".into(),
            ProjectRow {
                description: "Default LXD project".into(),
                config: config.into(),
            },
        );
        let profile = ProfileRow {
            description: "Default LXD profile".into(),
            ..ProfileRow::default()
        };
        db.contents
            .index_profile("default", "default", "default", &profile, true);
        db.profiles.insert(
            "default".into(),
            BTreeMap::from([("default".into(), profile)]),
        );
        db
    }

    /// Whether a project keeps its own objects of a feature, such as `features.profiles`.
    pub fn has_feature(&self, project: &str, feature: &str) -> bool {
        self.projects
            .get(project)
            .is_some_and(|p| p.config.get(feature).is_some_and(|v| v == "true"))
    }

    /// The project whose objects a request to `project` means.
    pub fn project_of<'a>(&self, project: &'a str, feature: &str) -> &'a str {
        if self.has_feature(project, feature) {
            project
        } else {
            "default"
        }
    }

    /// A profile.
    pub fn profile(&self, project: &str, name: &str) -> Option<&ProfileRow> {
        self.profiles.get(project)?.get(name)
    }

    /// A network.
    pub fn network(&self, project: &str, name: &str) -> Option<&NetworkRow> {
        self.networks.get(project)?.get(name)
    }

    /// A network, to change it.
    pub fn network_mut(&mut self, project: &str, name: &str) -> Option<&mut NetworkRow> {
        self.networks.get_mut(project)?.get_mut(name)
    }
}

/// A member of a cluster.
#[derive(Debug, Clone)]
pub(super) struct MemberRow {
    /// Which machine it is.
    pub machine: usize,
    /// In the order of joining.
    pub id: u64,
    /// `ADDRESS:PORT`.
    pub address: String,
    /// Its part in the database's raft.
    pub raft: Raft,
    /// Roles that a person gave it.
    pub roles: Vec<String>,
    /// Its failure domain.
    pub failure_domain: String,
    /// What it is for.
    pub description: String,
    /// Its configuration.
    pub config: Map,
    /// Its groups, in name order.
    pub groups: Vec<String>,
    /// Whether it was evacuated.
    pub evacuated: bool,
    /// Since when the leader does not reach it.
    pub lost_since: Option<Instant>,
}

/// A member's part in the database's raft.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Raft {
    /// Votes.
    Voter,
    /// Follows and can become a voter.
    StandBy,
    /// Only asks.
    Spare,
}

/// A project.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct ProjectRow {
    /// What it is for.
    pub description: String,
    /// Configuration.
    pub config: Map,
}

/// A profile.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct ProfileRow {
    /// What it is for.
    pub description: String,
    /// Configuration.
    pub config: Map,
    /// Devices.
    pub devices: BTreeMap<String, Map>,
}

/// How far an object of the two-phase create is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum State {
    /// Defined on members only.
    #[default]
    Pending,
    /// Creating it failed somewhere.
    Errored,
    /// There.
    Created,
}

impl State {
    /// LXD's word.
    pub fn word(self) -> &'static str {
        match self {
            State::Pending => "Pending",
            State::Errored => "Errored",
            State::Created => "Created",
        }
    }
}

/// One member's part of a pool or network.
#[derive(Debug, Clone, Default)]
pub(super) struct Part {
    /// How far it is there.
    pub state: State,
    /// The member's own keys.
    pub config: Map,
}

/// A storage pool.
#[derive(Debug, Clone)]
pub(super) struct PoolRow {
    /// The driver.
    pub driver: String,
    /// What it is for.
    pub description: String,
    /// The keys of the whole cluster.
    pub config: Map,
    /// How far it is.
    pub state: State,
    /// The members' parts by member name ([`ALONE`] on a standalone server).
    pub parts: BTreeMap<String, Part>,
}

/// A network.
#[derive(Debug, Clone)]
pub(super) struct NetworkRow {
    /// `bridge`, `physical`, `ovn` and others.
    pub network_type: String,
    /// What it is for.
    pub description: String,
    /// The keys of the whole cluster.
    pub config: Map,
    /// How far it is.
    pub state: State,
    /// The members' parts by member name ([`ALONE`] on a standalone server).
    pub parts: BTreeMap<String, Part>,
}

/// A join token that was given out.
#[derive(Debug, Clone)]
pub(super) struct Token {
    /// Its operation.
    pub operation: String,
    /// What the joiner must show.
    pub secret: String,
    /// When it ends to count.
    pub expires: Instant,
}

/// A server certificate: not a real one, only bytes with the right fingerprint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Certificate {
    /// PEM.
    pub pem: String,
    /// SHA-256 of the DER, hex.
    pub fingerprint: String,
}

impl Certificate {
    /// The certificate whose DER is this text.
    pub fn of(text: &str) -> Certificate {
        let encoded = base64::engine::general_purpose::STANDARD.encode(text);
        Certificate {
            pem: format!("-----BEGIN CERTIFICATE-----\n{encoded}\n-----END CERTIFICATE-----\n"),
            fingerprint: hex_digest(text),
        }
    }

    /// The fingerprint of a PEM, if it is one.
    pub fn fingerprint_of(pem: &str) -> Option<String> {
        let body: String = pem
            .lines()
            .map(str::trim)
            .filter(|line| !line.starts_with("-----") && !line.is_empty())
            .collect();
        let der = base64::engine::general_purpose::STANDARD
            .decode(body)
            .ok()?;
        String::from_utf8(der).ok().map(|text| hex_digest(&text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_known_by_its_fingerprint() {
        let certificate = Certificate::of("server certificate of micro01");
        assert_eq!(
            Certificate::fingerprint_of(&certificate.pem).as_deref(),
            Some(certificate.fingerprint.as_str())
        );
        assert_eq!(Certificate::fingerprint_of("nonsense!"), None);
    }

    #[test]
    fn a_project_without_profiles_uses_those_of_default() {
        let mut db = Db::standalone(Certificate::of("x"));
        db.projects.insert("shared".into(), ProjectRow::default());
        assert_eq!(db.project_of("shared", "features.profiles"), "default");
        db.projects.insert(
            "own".into(),
            ProjectRow {
                config: Map::from([("features.profiles".into(), "true".into())]),
                ..ProjectRow::default()
            },
        );
        assert_eq!(db.project_of("own", "features.profiles"), "own");
    }
}
