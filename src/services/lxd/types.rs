//! The objects of the API, with only the fields this program uses. Unknown fields are ignored,
//! missing ones get their defaults: servers of many versions answer.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// LXD writes `null` for an empty list or map.
fn nullable<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// An object with the ETag it had when it was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Versioned<T> {
    /// The object.
    pub value: T,
    /// Its ETag, for `If-Match`.
    pub etag: Option<String>,
}

/// `GET /1.0`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Server {
    /// Capabilities; branch on these, never on a version.
    #[serde(deserialize_with = "nullable")]
    pub api_extensions: Vec<String>,
    /// `trusted` or `untrusted`.
    pub auth: String,
    /// Server configuration: global keys and the answering member's own.
    #[serde(deserialize_with = "nullable")]
    pub config: BTreeMap<String, Value>,
    /// What the server is.
    pub environment: Environment,
}

impl Server {
    /// Whether the server has an API extension.
    pub fn has(&self, extension: &str) -> bool {
        self.api_extensions.iter().any(|e| e == extension)
    }

    /// The configuration as text; the API gives booleans and numbers for some keys.
    pub fn config_text(&self) -> BTreeMap<String, String> {
        self.config
            .iter()
            .map(|(k, v)| {
                (
                    k.clone(),
                    v.as_str().map_or_else(|| v.to_string(), str::to_owned),
                )
            })
            .collect()
    }
}

/// The `environment` of [`Server`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Environment {
    /// `lxd` or `incus`.
    pub server: String,
    /// The version.
    pub server_version: String,
    /// Whether it is in a cluster.
    pub server_clustered: bool,
    /// Its member name.
    pub server_name: String,
    /// The certificate it presents, PEM.
    pub certificate: String,
    /// SHA-256 of the certificate's DER, hex.
    pub certificate_fingerprint: String,
    /// Its process.
    pub server_pid: i64,
    /// Storage drivers that work on the machine.
    #[serde(deserialize_with = "nullable")]
    pub storage_supported_drivers: Vec<StorageDriver>,
}

/// A storage driver that works on the machine.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StorageDriver {
    /// The driver's name.
    #[serde(alias = "Name")]
    pub name: String,
    /// Whether every member sees the same storage.
    #[serde(alias = "Remote")]
    pub remote: bool,
}

/// A member of the cluster.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Member {
    /// The name.
    pub server_name: String,
    /// `https://address:port`.
    pub url: String,
    /// Whether it holds the database.
    pub database: bool,
    /// `Online`, `Offline`, `Evacuated`, `Blocked`.
    pub status: String,
    /// Explains the status.
    pub message: String,
    /// The architecture.
    pub architecture: String,
    /// Roles, automatic ones (`database…`) and others.
    #[serde(deserialize_with = "nullable")]
    pub roles: Vec<String>,
    /// The failure domain.
    pub failure_domain: String,
    /// What it is for.
    pub description: String,
    /// Member configuration.
    #[serde(deserialize_with = "nullable")]
    pub config: BTreeMap<String, String>,
    /// Groups.
    #[serde(deserialize_with = "nullable")]
    pub groups: Vec<String>,
}

/// The writable part of [`Member`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MemberPut {
    /// Roles; the automatic ones must be as they were read.
    #[serde(deserialize_with = "nullable")]
    pub roles: Vec<String>,
    /// The failure domain.
    pub failure_domain: String,
    /// What it is for.
    pub description: String,
    /// Member configuration.
    #[serde(deserialize_with = "nullable")]
    pub config: BTreeMap<String, String>,
    /// Groups; at least one.
    #[serde(deserialize_with = "nullable")]
    pub groups: Vec<String>,
}

/// A cluster group.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Group {
    /// The name.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// Its members.
    #[serde(deserialize_with = "nullable")]
    pub members: Vec<String>,
}

/// A storage pool.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Pool {
    /// The name.
    pub name: String,
    /// The driver.
    pub driver: String,
    /// What it is for.
    pub description: String,
    /// `Pending`, `Created`, `Errored`, `Unknown`, `Unavailable`.
    pub status: String,
    /// Configuration; in a cluster without the members' own keys unless read with a target.
    #[serde(deserialize_with = "nullable")]
    pub config: BTreeMap<String, String>,
    /// Members it is defined on.
    #[serde(deserialize_with = "nullable")]
    pub locations: Vec<String>,
    /// URLs of what uses it.
    #[serde(deserialize_with = "nullable")]
    pub used_by: Vec<String>,
}

/// A network.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Network {
    /// The name.
    pub name: String,
    /// `bridge`, `physical`, `ovn` and others.
    #[serde(rename = "type")]
    pub network_type: String,
    /// What it is for.
    pub description: String,
    /// Whether LXD manages it.
    pub managed: bool,
    /// `Pending`, `Created`, `Errored`, `Unknown`, `Unavailable`.
    pub status: String,
    /// Configuration; in a cluster without the members' own keys unless read with a target.
    #[serde(deserialize_with = "nullable")]
    pub config: BTreeMap<String, String>,
    /// Members it is defined on.
    #[serde(deserialize_with = "nullable")]
    pub locations: Vec<String>,
    /// URLs of what uses it.
    #[serde(deserialize_with = "nullable")]
    pub used_by: Vec<String>,
}

/// A project.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Project {
    /// The name.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// Configuration.
    #[serde(deserialize_with = "nullable")]
    pub config: BTreeMap<String, String>,
    /// URLs of what uses it.
    #[serde(deserialize_with = "nullable")]
    pub used_by: Vec<String>,
}

/// A profile.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Profile {
    /// The name.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// Configuration.
    #[serde(deserialize_with = "nullable")]
    pub config: BTreeMap<String, String>,
    /// Devices.
    #[serde(deserialize_with = "nullable")]
    pub devices: BTreeMap<String, BTreeMap<String, String>>,
    /// URLs of what uses it.
    #[serde(deserialize_with = "nullable")]
    pub used_by: Vec<String>,
}

/// An operation.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Operation {
    /// The id.
    pub id: String,
    /// `task`, `websocket` or `token`.
    pub class: String,
    /// What it does.
    pub description: String,
    /// The status word.
    pub status: String,
    /// 100 to 113 while it lives, 200 success, 400 failure, 401 cancelled.
    pub status_code: i64,
    /// What it works on.
    pub resources: Value,
    /// What it has to say; for a token its secret.
    pub metadata: Value,
    /// Why it failed.
    pub err: String,
    /// The status that `err` would have had as an answer; 0 where the server does not say.
    pub err_code: u16,
    /// The member it runs on.
    pub location: String,
}

/// `GET /1.0/cluster`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cluster {
    /// The answering member's name.
    pub server_name: String,
    /// Whether it is in a cluster.
    pub enabled: bool,
    /// What a joiner must supply.
    pub member_config: Option<Vec<MemberConfigKey>>,
}

/// One key a joiner supplies.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MemberConfigKey {
    /// `storage-pool` or `network`.
    pub entity: String,
    /// The pool's or network's name.
    pub name: String,
    /// The key.
    pub key: String,
    /// The joiner's value.
    pub value: String,
    /// What it is.
    pub description: String,
}

/// A lifecycle event: something was done to an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lifecycle {
    /// Such as `profile-updated`, `cluster-member-added`.
    pub action: String,
    /// The object's URL path, such as `/1.0/profiles/web`.
    pub source: String,
    /// The project of the event; `default` unless given.
    pub project: String,
    /// The member it happened on.
    pub location: String,
    /// Who asked for it (`unix` user or certificate), when the service says.
    pub requestor: Option<String>,
}
