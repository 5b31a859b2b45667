//! The keys of the preseeds of `lxd init` and `incus admin init`. A key that is not here is an
//! error.

use crate::resources::value::Config;
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeMap;

/// A preseed of one server.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Preseed {
    /// Keys of the server.
    pub config: Config,
    /// Networks.
    pub networks: Vec<Network>,
    /// Storage pools.
    pub storage_pools: Vec<Pool>,
    /// Volumes.
    pub storage_volumes: Vec<Volume>,
    /// Profiles.
    pub profiles: Vec<Profile>,
    /// Projects.
    pub projects: Vec<Project>,
    /// Certificates of clients (Incus).
    pub certificates: Vec<Certificate>,
    /// The cluster that is formed or joined.
    pub cluster: Option<Cluster>,
}

/// A network.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// The name.
    pub name: String,
    /// The type; a bridge unless given.
    #[serde(default, rename = "type")]
    pub network_type: Option<String>,
    /// The project.
    #[serde(default)]
    pub project: Option<String>,
    /// What it is for.
    #[serde(default)]
    pub description: Option<String>,
    /// Its keys.
    #[serde(default)]
    pub config: Config,
}

/// A storage pool.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pool {
    /// The name.
    pub name: String,
    /// The driver.
    pub driver: String,
    /// What it is for.
    #[serde(default)]
    pub description: Option<String>,
    /// Its keys.
    #[serde(default)]
    pub config: Config,
}

/// A volume.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Volume {
    /// The name.
    pub name: String,
    /// The type.
    #[serde(default, rename = "type")]
    #[allow(
        dead_code,
        reason = "volumes are left out; the key is known all the same"
    )]
    pub volume_type: Option<String>,
    /// What it holds.
    #[serde(default)]
    #[allow(dead_code, reason = "as above")]
    pub content_type: Option<String>,
    /// The pool.
    #[serde(default)]
    #[allow(dead_code, reason = "as above")]
    pub pool: Option<String>,
    /// The project.
    #[serde(default)]
    #[allow(dead_code, reason = "as above")]
    pub project: Option<String>,
    /// What it is for.
    #[serde(default)]
    #[allow(dead_code, reason = "as above")]
    pub description: Option<String>,
    /// Its keys.
    #[serde(default)]
    #[allow(dead_code, reason = "as above")]
    pub config: Config,
}

/// A profile.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// The name.
    pub name: String,
    /// The project.
    #[serde(default)]
    pub project: Option<String>,
    /// What it is for.
    #[serde(default)]
    pub description: Option<String>,
    /// Its keys.
    #[serde(default)]
    pub config: Config,
    /// Its devices.
    #[serde(default)]
    pub devices: BTreeMap<String, Config>,
}

/// A project.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Project {
    /// The name.
    pub name: String,
    /// What it is for.
    #[serde(default)]
    pub description: Option<String>,
    /// Its keys.
    #[serde(default)]
    pub config: Config,
}

/// A certificate of a client.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    /// The name.
    #[serde(default)]
    pub name: Option<String>,
    /// The type.
    #[serde(default, rename = "type")]
    #[allow(
        dead_code,
        reason = "certificates are left out; the key is known all the same"
    )]
    pub certificate_type: Option<String>,
    /// What it is for.
    #[serde(default)]
    #[allow(dead_code, reason = "as above")]
    pub description: Option<String>,
    /// The certificate itself.
    #[serde(default)]
    #[allow(dead_code, reason = "as above")]
    pub certificate: Option<String>,
    /// Whether it may use some projects only.
    #[serde(default)]
    #[allow(dead_code, reason = "as above")]
    pub restricted: Option<bool>,
    /// The projects it may use.
    #[serde(default)]
    #[allow(dead_code, reason = "as above")]
    pub projects: Vec<String>,
}

/// The cluster that is formed or joined.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Cluster {
    /// The name of this server in the cluster.
    pub server_name: Option<String>,
    /// Whether it is in a cluster.
    pub enabled: bool,
    /// The address of this server.
    pub server_address: Option<String>,
    /// The address of a member of the cluster.
    pub cluster_address: Option<String>,
    /// The certificate of the cluster.
    pub cluster_certificate: Option<String>,
    /// A file with the certificate of the cluster.
    pub cluster_certificate_path: Option<String>,
    /// The trust password of the cluster.
    pub cluster_password: Option<String>,
    /// The right to join, once.
    pub cluster_token: Option<String>,
    /// What this server gives to pools and networks.
    pub member_config: Vec<MemberKey>,
}

/// One key of a pool or network on this server.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MemberKey {
    /// `storage-pool` or `network`.
    pub entity: String,
    /// The name of the pool or network.
    pub name: String,
    /// The key.
    pub key: String,
    /// The value.
    #[serde(default)]
    pub value: Option<crate::resources::value::ConfigValue>,
    /// What LXD says of the key.
    #[serde(default)]
    #[allow(dead_code, reason = "words of the interactive questions")]
    pub description: Option<String>,
}
