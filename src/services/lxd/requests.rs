//! What is sent to create and change objects.

use super::types::{MemberConfigKey, Operation};
use base64::Engine as _;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// The writable part of a pool, a network or a project: what `PUT` replaces as a whole.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ObjectPut {
    /// What it is for.
    pub description: String,
    /// All of the configuration; a key that is not here is reset.
    pub config: BTreeMap<String, String>,
}

/// A storage pool to create.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PoolCreate {
    /// The name.
    pub name: String,
    /// The driver.
    pub driver: String,
    /// What it is for. Incus refuses one in the phase that names a member.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Configuration: with a target the member's own keys only, without one the global keys only.
    pub config: BTreeMap<String, String>,
}

/// A network to create.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NetworkCreate {
    /// The name.
    pub name: String,
    /// `bridge`, `physical`, `ovn` and others.
    #[serde(rename = "type")]
    pub network_type: String,
    /// What it is for. Incus refuses one in the phase that names a member.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Configuration: with a target the member's own keys only, without one the global keys only.
    pub config: BTreeMap<String, String>,
}

/// A project to create.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProjectCreate {
    /// The name.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// Configuration.
    pub config: BTreeMap<String, String>,
}

/// The writable part of a profile: what `PUT` replaces as a whole.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProfilePut {
    /// What it is for.
    pub description: String,
    /// All of the configuration.
    pub config: BTreeMap<String, String>,
    /// All of the devices.
    pub devices: BTreeMap<String, BTreeMap<String, String>>,
}

/// What a machine needs to join a cluster; sent to that machine's own LXD.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct JoinRequest {
    /// The name it joins under; the one the token was made for.
    pub name: String,
    /// The joiner's own `address:port`.
    pub server_address: String,
    /// A member's `address:port`.
    pub cluster_address: String,
    /// The certificate that member presents, PEM.
    pub cluster_certificate: String,
    /// The encoded token ([`JoinToken::encode`]): a secret.
    pub token: String,
    /// The joiner's own keys of the pools and networks there are.
    pub member_config: Vec<MemberConfigKey>,
}

impl fmt::Debug for JoinRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinRequest")
            .field("name", &self.name)
            .field("server_address", &self.server_address)
            .field("cluster_address", &self.cluster_address)
            .field("token", &"(secret)")
            .finish_non_exhaustive()
    }
}

/// The right to join, once, under one name.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct JoinToken {
    /// The name to join under.
    #[serde(rename = "serverName")]
    pub name: String,
    /// `address:port` of the members that are online.
    pub addresses: Vec<String>,
    /// SHA-256 of the cluster's certificate (DER), hex.
    pub fingerprint: String,
    /// The secret.
    pub secret: String,
    /// When it ends, RFC 3339.
    #[serde(rename = "expiresAt")]
    pub expires_at: String,
}

/// A join token that was not used yet, without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveToken {
    /// The name to join under.
    pub name: String,
    /// The member it was made on.
    pub member: String,
    /// When it ends, RFC 3339; empty where the server does not say.
    pub expires_at: String,
}

impl LiveToken {
    /// The token that an operation stands for, if it stands for one that can still be used.
    pub fn of(operation: Operation) -> Option<LiveToken> {
        let word = |key: &str| operation.metadata.get(key)?.as_str().map(str::to_owned);
        let lives = operation.class == "token" && operation.status_code < 200;
        let name = word("serverName").filter(|_| lives)?;
        Some(LiveToken {
            name,
            expires_at: word("expiresAt").unwrap_or_default(),
            member: operation.location,
        })
    }
}

impl JoinToken {
    /// The token as a joiner takes it: base64 of its JSON. Whoever holds it can join.
    pub fn encode(&self) -> String {
        let json = serde_json::json!({
            "server_name": self.name,
            "fingerprint": self.fingerprint,
            "addresses": self.addresses,
            "secret": self.secret,
            "expires_at": self.expires_at,
        });
        base64::engine::general_purpose::STANDARD.encode(json.to_string())
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinToken")
            .field("name", &self.name)
            .field("addresses", &self.addresses)
            .field("fingerprint", &self.fingerprint)
            .field("secret", &"(secret)")
            .field("expires_at", &self.expires_at)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> JoinToken {
        serde_json::from_value(serde_json::json!({
            "serverName": "micro02", "fingerprint": "ab", "addresses": ["10.77.0.1:8443"],
            "secret": "hush", "expiresAt": "2026-11-21T11:00:00Z", "request": {},
        }))
        .expect("the shape of the API")
    }

    #[test]
    fn a_token_is_encoded_with_snake_case_names() {
        let encoded = token().encode();
        let json = base64::engine::general_purpose::STANDARD
            .decode(encoded)
            .expect("base64");
        let json: serde_json::Value = serde_json::from_slice(&json).expect("JSON");
        assert_eq!(
            json,
            serde_json::json!({
                "server_name": "micro02", "fingerprint": "ab", "addresses": ["10.77.0.1:8443"],
                "secret": "hush", "expires_at": "2026-11-21T11:00:00Z",
            })
        );
    }

    #[test]
    fn the_secret_is_not_printed() {
        let request = JoinRequest {
            name: "micro02".into(),
            token: "hush".into(),
            ..JoinRequest::default()
        };
        let printed = format!("{:?} {request:?}", token());
        assert!(!printed.contains("hush"), "{printed}");
        assert!(printed.contains("micro02"));
    }
}
