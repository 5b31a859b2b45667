//! `/1.0`: what the server is, and its configuration.

use super::Call;
use super::content::VOLUME_KEYS;
use super::keys;
use super::reply::{Answer, Refusal, Reply};
use crate::services::lxd::Method;
use crate::simulate::contents::Volume;
use crate::simulate::database::Map;
use crate::simulate::events::Lifecycle;
use crate::simulate::machine::Machine;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use tokio::time::Instant;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ServerPut {
    config: Option<BTreeMap<String, Value>>,
}

impl Call<'_> {
    /// `/1.0`.
    pub(super) fn server(&mut self, method: Method) -> Answer {
        match method {
            Method::Get => self.get_server(),
            Method::Put => self.write_server(false),
            Method::Patch => self.write_server(true),
            _ => Err(Refusal::not_implemented()),
        }
    }

    /// `/internal/ready`: `/1.0` answers before it.
    pub(super) fn ready(&self) -> Answer {
        if Instant::now() < self.world.machines[self.at].lxd.ready_at {
            return Err(Refusal::new(503, "LXD daemon not ready yet"));
        }
        Ok(Reply::empty())
    }

    fn get_server(&mut self) -> Answer {
        let at = match self.query("target") {
            Some(_) => self
                .reached_target()?
                .map_or(self.at, |(_, machine)| machine),
            None => self.at,
        };
        let config = shown_config(&self.server_config(at));
        let machine = &self.world.machines[at];
        let db = self.world.db(at);
        let listens: Vec<String> = config["core.https_address"]
            .as_str()
            .map(|_| format!("{}:8443", machine.config.address))
            .into_iter()
            .collect();
        let extensions: Vec<&str> = keys::EXTENSIONS
            .iter()
            .copied()
            .chain(machine.config.extra_extensions.iter().map(String::as_str))
            .collect();
        let drivers: Vec<Value> = machine
            .config
            .storage_drivers
            .iter()
            .map(|name| json!({"Name": name, "Version": "1", "Remote": name.starts_with("ceph")}))
            .collect();
        let metadata = json!({
            "config": config,
            "api_extensions": extensions,
            "api_status": "stable",
            "api_version": "1.0",
            "auth": "trusted",
            "auth_methods": ["tls"],
            "public": false,
            "environment": {
                "addresses": listens,
                "architectures": ["x86_64", "i686"],
                "certificate": db.certificate.pem,
                "certificate_fingerprint": db.certificate.fingerprint,
                "driver": "lxc",
                "driver_version": "5.0.2",
                "firewall": "nftables",
                "kernel": "Linux",
                "kernel_architecture": "x86_64",
                "kernel_version": "6.1.0",
                "os_name": "Debian GNU/Linux",
                "os_version": "12",
                "project": "default",
                "server": "lxd",
                "server_clustered": machine.lxd.clustered(),
                "server_event_mode": "full-mesh",
                "server_name": server_name(machine),
                "server_pid": server_pid(at, machine.lxd.starts),
                "server_version": machine.config.lxd_version,
                "storage": "",
                "storage_version": "",
                "storage_supported_drivers": drivers,
            },
        });
        Ok(Reply::object(metadata, &config))
    }

    /// Global keys and those of one server.
    fn server_config(&self, at: usize) -> Map {
        let mut config = self.world.db(at).config.clone();
        config.extend(self.world.machines[at].lxd.config.clone());
        config
    }

    fn write_server(&mut self, merge: bool) -> Answer {
        let at = self
            .reached_target()?
            .map_or(self.at, |(_, machine)| machine);
        let old = self.server_config(at);
        self.check_etag(&shown_config(&old))?;
        let body: ServerPut = self.body()?;
        // A PUT resets what it leaves out, but for the keys of users.
        let mut new: Map = old
            .iter()
            .filter(|(key, _)| merge || key.starts_with("user."))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        for (key, value) in body.config.unwrap_or_default() {
            // What is shown instead of a secret says that it shall stay.
            if key == SECRET && value == Value::Bool(true) {
                new.extend(old.get(&key).map(|secret| (key, secret.clone())));
                continue;
            }
            let value = match value {
                Value::String(text) => text,
                Value::Null => String::new(),
                other => other.to_string(),
            };
            if let Some(error) = keys::server_key_error(&key, &value) {
                // A fault of LXD 5.0: a PATCH that is refused for a global key loses the server's
                // own keys, its addresses among them.
                if merge && !keys::SERVER_MEMBER.contains(&key.as_str()) {
                    self.world.machines[at].lxd.config.clear();
                    self.world.refresh_all();
                }
                return Err(Refusal::bad(error));
            }
            if VOLUME_KEYS.contains(&key.as_str()) && old.get(&key) != Some(&value) {
                self.check_volume(&key, &value, at)?;
            }
            new.insert(key, value);
        }
        new.retain(|_, value| !value.is_empty());
        let clustered = self.world.machines[at].lxd.clustered();
        let differs = |key: &str| new.get(key) != old.get(key);
        if clustered && differs("cluster.https_address") {
            return Err(Refusal::failed(
                "Changing cluster.https_address is currently not supported",
            ));
        }
        // A fault of LXD 5.0: a standalone server stores this one and drops the connection.
        let breaks = !clustered && differs("cluster.offline_threshold");
        let (own, global): (Map, Map) = new
            .into_iter()
            .partition(|(key, _)| keys::SERVER_MEMBER.contains(&key.as_str()));
        self.world.db_mut(at).config = global;
        self.world.machines[at].lxd.config = own;
        if breaks {
            return Ok(Reply::Broken);
        }
        self.world.emit(
            at,
            Lifecycle {
                action: "config-updated",
                source: "/1.0".into(),
                ..Lifecycle::default()
            },
        );
        Ok(Reply::empty())
    }
}

impl Call<'_> {
    /// What a server keeps of its own must lie in a volume that is there.
    fn check_volume(&self, key: &str, value: &str, at: usize) -> Result<(), Refusal> {
        let location = match self.db().clustered {
            true => self.world.machines[at].lxd.member.clone(),
            false => String::new(),
        };
        let Some((pool, name)) = value.split_once('/') else {
            return match value {
                "" => Ok(()),
                _ => Err(Refusal::bad(format!(
                    "Failed validation of {key:?}: Invalid syntax for volume, must be <pool>/<volume>"
                ))),
            };
        };
        let volume = Volume {
            project: "default".to_owned(),
            pool: pool.to_owned(),
            name: name.to_owned(),
            location,
        };
        match self.db().contents.volumes.contains(&volume) {
            true => Ok(()),
            false => Err(Refusal::bad(format!(
                "Failed validation of {key:?}: Failed loading storage volume {value:?} in \"default\" \
                 project: Storage volume not found"
            ))),
        }
    }
}

/// The key that is shown as `true`, whatever its value.
const SECRET: &str = "core.trust_password";

/// What a server says its name is.
fn server_name(machine: &Machine) -> &str {
    let lxd = &machine.lxd;
    match &lxd.shown_name {
        Some(name) => name,
        None if lxd.clustered() => &lxd.member,
        None => &machine.config.name,
    }
}

/// The configuration as it is shown: secrets are not.
fn shown_config(config: &Map) -> Value {
    let shown: BTreeMap<&String, Value> = config
        .iter()
        .map(|(key, value)| {
            let value = if key == SECRET {
                Value::Bool(true)
            } else {
                Value::from(value.as_str())
            };
            (key, value)
        })
        .collect();
    json!(shown)
}

/// A process id that changes with every start.
pub(in crate::simulate) fn server_pid(machine: usize, starts: u64) -> u64 {
    1000 + (machine as u64 % 1000) + starts * 1000
}
