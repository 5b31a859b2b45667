//! What a cluster is asked and told.

use super::command::{Command, Transport};
use super::error::CephError;
use async_trait::async_trait;
use serde::de::DeserializeOwned;
use std::fmt;
use std::sync::Arc;

/// A Ceph cluster. Cheap to clone.
#[derive(Clone)]
pub struct Ceph {
    transport: Arc<dyn Transport>,
}

/// Where there is no cluster.
#[derive(Debug)]
struct Nowhere;

#[async_trait]
impl Transport for Nowhere {
    async fn send(&self, _: &Command) -> Result<String, CephError> {
        Err(CephError::NotSetUp {
            missing: "a way to Ceph".to_owned(),
        })
    }
}

impl fmt::Debug for Ceph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Ceph").field(&self.transport).finish()
    }
}

impl Ceph {
    /// The cluster at the end of a transport.
    pub fn new(transport: Arc<dyn Transport>) -> Ceph {
        Ceph { transport }
    }

    /// No cluster at all.
    pub fn nowhere() -> Ceph {
        Ceph::new(Arc::new(Nowhere))
    }

    /// Runs a command.
    ///
    /// # Errors
    /// See [`CephError`].
    pub async fn run(&self, command: &Command) -> Result<String, CephError> {
        self.transport.send(command).await
    }

    /// Runs a command and reads its answer.
    ///
    /// # Errors
    /// See [`CephError`].
    pub async fn read<T: DeserializeOwned>(&self, command: &Command) -> Result<T, CephError> {
        let text = self.run(command).await?;
        serde_json::from_str(&text).map_err(|e| CephError::Answer {
            command: command.prefix().to_owned(),
            // Only the place: the answer may hold keys.
            reason: format!("line {}, column {}", e.line(), e.column()),
        })
    }

    /// Runs a command that needs nothing but its words.
    pub(super) async fn ask<T: DeserializeOwned>(&self, words: &str) -> Result<T, CephError> {
        self.read(&Command::new(words)).await
    }

    /// Sets a key of the cluster's own configuration.
    ///
    /// # Errors
    /// See [`CephError`].
    pub async fn set_config(
        &self,
        section: &str,
        name: &str,
        value: &str,
    ) -> Result<(), CephError> {
        let command = Command::new("config set")
            .with("who", section)
            .with("name", name)
            .with("value", value);
        self.run(&command).await.map(drop)
    }

    /// Removes a key of the cluster's own configuration.
    ///
    /// # Errors
    /// See [`CephError`].
    pub async fn remove_config(&self, section: &str, name: &str) -> Result<(), CephError> {
        let command = Command::new("config rm")
            .with("who", section)
            .with("name", name);
        self.run(&command).await.map(drop)
    }

    /// Makes a CRUSH rule for copies that never share a `failure_domain`. One of that name that is
    /// there already stays as it is.
    ///
    /// # Errors
    /// See [`CephError`].
    pub async fn create_rule(&self, name: &str, failure_domain: &str) -> Result<(), CephError> {
        let command = Command::new("osd crush rule create-replicated")
            .with("name", name)
            .with("root", "default")
            .with("type", failure_domain);
        self.run(&command).await.map(drop)
    }

    /// Puts a host of the CRUSH map into a rack, which is made unless it is there.
    ///
    /// # Errors
    /// See [`CephError`].
    pub async fn move_host(&self, host: &str, rack: &str) -> Result<(), CephError> {
        // What is missing of the place is made on the way: one change of the map, not three.
        let place = vec!["root=default".to_owned(), format!("rack={rack}")];
        let command = Command::new("osd crush move")
            .with("name", host)
            .with("args", place);
        self.run(&command).await.map(drop)
    }

    /// Strikes an OSD off the map that never ran; one that did is refused.
    ///
    /// # Errors
    /// See [`CephError`].
    pub async fn purge_new(&self, id: i64) -> Result<(), CephError> {
        let command = Command::new("osd purge-new")
            .with("id", id)
            .with("yes_i_really_mean_it", true);
        self.run(&command).await.map(drop)
    }

    /// Sets an OSD out: its data moves to others.
    ///
    /// # Errors
    /// See [`CephError`].
    pub async fn set_out(&self, id: i64) -> Result<(), CephError> {
        let command = Command::new("osd out").with("ids", vec![id.to_string()]);
        self.run(&command).await.map(drop)
    }

    /// Whether nothing would be missing if an OSD were destroyed.
    ///
    /// # Errors
    /// See [`CephError`].
    pub async fn safe_to_destroy(&self, id: i64) -> Result<bool, CephError> {
        let command = Command::to_mgr("osd safe-to-destroy").with("ids", vec![id.to_string()]);
        match self.read::<serde_json::Value>(&command).await {
            Ok(told) => {
                let safe = told["safe_to_destroy"].as_array().into_iter().flatten();
                Ok(safe.into_iter().any(|one| one.as_i64() == Some(id)))
            }
            // It is not known yet, or not safe.
            Err(CephError::Refused { code: 11 | 16, .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Strikes an OSD that is down off the map, with its key and its place. Ceph's managers look
    /// whether that is safe, but for one that is lost, of which nothing is waited for any more.
    ///
    /// # Errors
    /// See [`CephError`].
    pub async fn purge(&self, id: i64, lost: bool) -> Result<(), CephError> {
        if lost {
            let command = Command::new("osd lost")
                .with("id", id)
                .with("yes_i_really_mean_it", true);
            self.run(&command).await?;
        }
        let mut command = Command::to_mgr("osd purge").with("id", id);
        if lost {
            command = command
                .with("force", true)
                .with("yes_i_really_mean_it", true);
        }
        self.run(&command).await.map(drop)
    }

    /// Forgets what a host had that leaves: the keys of its daemons and its empty place.
    ///
    /// # Errors
    /// See [`CephError`].
    pub async fn forget_host(&self, host: &str) -> Result<(), CephError> {
        for kind in ["mgr", "mds"] {
            let command = Command::new("auth rm").with("entity", format!("{kind}.{host}"));
            self.run(&command).await?;
        }
        let command = Command::new("osd crush rm").with("name", host);
        match self.run(&command).await {
            Err(error) if !error.is_missing() => Err(error),
            _ => Ok(()),
        }
    }

    /// Sets one of a pool's settings.
    ///
    /// # Errors
    /// See [`CephError`].
    pub async fn set_pool(&self, pool: &str, name: &str, value: &str) -> Result<(), CephError> {
        let mut command = Command::new("osd pool set")
            .with("pool", pool)
            .with("var", name)
            .with("val", value);
        if name == "size" && value == "1" {
            command = command.with("yes_i_really_mean_it", true);
        }
        self.run(&command).await.map(drop)
    }

    /// Makes a pool with its rule and application; one that is there already stays as it is.
    ///
    /// # Errors
    /// See [`CephError`].
    pub async fn create_pool(
        &self,
        pool: &str,
        pg_num: u32,
        rule: &str,
        application: &str,
    ) -> Result<(), CephError> {
        let create = Command::new("osd pool create")
            .with("pool", pool)
            .with("pg_num", pg_num)
            .with("pool_type", "replicated")
            .with("erasure_code_profile", rule);
        self.run(&create).await?;
        self.enable_application(pool, application).await
    }

    /// Says what a pool is for.
    ///
    /// # Errors
    /// See [`CephError`]; refused when it is for something else already.
    pub async fn enable_application(&self, pool: &str, application: &str) -> Result<(), CephError> {
        let enable = Command::new("osd pool application enable")
            .with("pool", pool)
            .with("app", application);
        self.run(&enable).await.map(drop)
    }

    /// Makes a file system of two pools.
    ///
    /// # Errors
    /// See [`CephError`].
    pub async fn create_filesystem(
        &self,
        name: &str,
        metadata: &str,
        data: &str,
    ) -> Result<(), CephError> {
        let command = Command::new("fs new")
            .with("fs_name", name)
            .with("metadata", metadata)
            .with("data", data);
        self.run(&command).await.map(drop)
    }

    /// Takes a monitor out of the map.
    ///
    /// # Errors
    /// See [`CephError`].
    pub async fn remove_monitor(&self, name: &str) -> Result<(), CephError> {
        let command = Command::new("mon remove").with("name", name);
        self.run(&command).await.map(drop)
    }

    /// The keyring of an entity, which is made with these capabilities unless it is there. A
    /// secret.
    ///
    /// # Errors
    /// See [`CephError`].
    pub async fn keyring(&self, entity: &str, caps: &[(&str, &str)]) -> Result<String, CephError> {
        let words: Vec<&str> = caps.iter().flat_map(|(of, cap)| [*of, *cap]).collect();
        let mut command = Command::new("auth get-or-create")
            .with("entity", entity)
            .with("caps", words);
        command = command.with("format", "plain");
        self.run(&command).await
    }

    /// The keyring of an entity that is there. A secret.
    ///
    /// # Errors
    /// See [`CephError`].
    pub async fn existing_keyring(&self, entity: &str) -> Result<String, CephError> {
        let command = Command::new("auth get")
            .with("entity", entity)
            .with("format", "plain");
        self.run(&command).await
    }

    /// A value the cluster keeps for programs, such as the key of an encrypted disk. A secret.
    ///
    /// # Errors
    /// See [`CephError`].
    pub async fn config_key(&self, key: &str) -> Result<String, CephError> {
        let command = Command::new("config-key get")
            .with("key", key)
            .with("format", "plain");
        self.run(&command).await
    }
}
