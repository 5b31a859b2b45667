//! The server itself: whether it is ready, what it can do, its configuration.

use super::client::{Lxd, Write};
use super::deadlines;
use super::error::LxdError;
use super::path::{on_target, path};
use super::transport::Method;
use super::types::{Server, Versioned};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use tokio::time::{Instant, sleep};

impl Lxd {
    /// Whether the daemon has started; only over its unix socket.
    ///
    /// It does not speak of the cluster: without quorum it still answers.
    ///
    /// # Errors
    /// [`LxdError::Unavailable`] while it starts.
    pub async fn ready(&self) -> Result<(), LxdError> {
        self.get::<Value>("/internal/ready".to_owned(), Vec::new(), deadlines::READ)
            .await
            .map(|_| ())
    }

    /// Waits until a daemon that restarts itself has done so and is ready again; only over its
    /// unix socket. It does after [`Lxd::leave_cluster`], and when another member removed it
    /// ([`Lxd::delete_member`]).
    ///
    /// It answers a moment longer before it goes, so one good answer says nothing: it is back when
    /// it was not ready in between, or has been ready all the time for
    /// [`deadlines::RESTART_NOTICE`].
    ///
    /// # Errors
    /// [`LxdError::Unavailable`] when it does not come back within [`deadlines::MEMBERSHIP`].
    pub async fn restarted(&self) -> Result<(), LxdError> {
        let start = Instant::now();
        let mut away = false;
        loop {
            let ready = self.ready().await;
            let elapsed = start.elapsed();
            match ready {
                Ok(()) if away || elapsed >= deadlines::RESTART_NOTICE => return Ok(()),
                Ok(()) => {}
                Err(_) => away = true,
            }
            if elapsed >= deadlines::MEMBERSHIP {
                return Err(LxdError::Unavailable {
                    message: "the daemon restarted and has not come back".to_owned(),
                });
            }
            sleep(deadlines::RESTART_POLL).await;
        }
    }

    /// The server that answers: capabilities, environment, the cluster's and its own
    /// configuration.
    ///
    /// # Errors
    /// It could not be read.
    pub async fn server(&self) -> Result<Versioned<Server>, LxdError> {
        self.get(path(&[]), Vec::new(), deadlines::READ).await
    }

    /// The same of another member. Fails while that member is offline.
    ///
    /// # Errors
    /// It could not be read.
    pub async fn server_of(&self, target: &str) -> Result<Versioned<Server>, LxdError> {
        let query = on_target(Vec::new(), Some(target));
        self.get(path(&[]), query, deadlines::READ_TARGET).await
    }

    /// Replaces the server configuration: a key that is not in it is reset, except that LXD 5.0
    /// keeps `user.*` keys that are left out (an empty value removes those as well). The
    /// answering member's own keys belong to it too: without `cluster.https_address` a member of
    /// a cluster refuses. With a target, the same as that member would do it. A password that
    /// reads as `true` stays as it is when `true` is written.
    ///
    /// # Errors
    /// [`LxdError::Changed`] when the ETag no longer holds; or it was refused.
    pub async fn put_server(
        &self,
        config: &BTreeMap<String, String>,
        etag: Option<&str>,
        target: Option<&str>,
    ) -> Result<(), LxdError> {
        let config = config
            .iter()
            .map(|(key, value)| (key.clone(), sent(key, value)))
            .collect();
        self.write_server(&config, etag, target).await
    }

    /// Merges keys into the server configuration; an empty value removes a key. With a target,
    /// that member's own keys.
    ///
    /// This reads and writes the whole ([`Lxd::put_server`] with the ETag), because LXD's own
    /// `PATCH` is dangerous: when it is refused for a key or value that LXD does not know, LXD 5.0
    /// erases the member's own keys, its addresses among them, from memory and from its disk. A
    /// member of a cluster cannot be given them back then, and does not start again.
    ///
    /// # Errors
    /// It was refused; [`LxdError::Changed`] when others kept writing at the same time.
    pub async fn patch_server(
        &self,
        config: &BTreeMap<String, String>,
        target: Option<&str>,
    ) -> Result<(), LxdError> {
        let mut attempts = 0;
        loop {
            attempts += 1;
            let read = match target {
                Some(target) => self.server_of(target).await?,
                None => self.server().await?,
            };
            // As it was read: a secret reads as `true`, which means "as it is" when written.
            let mut whole = read.value.config;
            for (key, value) in config {
                whole.insert(key.clone(), Value::String(value.clone()));
            }
            match self
                .write_server(&whole, read.etag.as_deref(), target)
                .await
            {
                Err(LxdError::Changed { .. }) if attempts < PATCH_ATTEMPTS => {}
                other => return other,
            }
        }
    }

    async fn write_server(
        &self,
        config: &BTreeMap<String, Value>,
        etag: Option<&str>,
        target: Option<&str>,
    ) -> Result<(), LxdError> {
        self.write(
            Write::new(Method::Put, path(&[]))
                .query(on_target(Vec::new(), target))
                .body(&json!({ "config": config }))
                .if_match(etag),
        )
        .await
    }
}

/// How often a merge is tried anew because another one wrote in between.
const PATCH_ATTEMPTS: u32 = 3;

/// A secret reads as JSON's `true`, and the text "true" would become the new secret.
fn sent(key: &str, value: &str) -> Value {
    if key.ends_with("password") && value == "true" {
        Value::Bool(true)
    } else {
        Value::String(value.to_owned())
    }
}
