//! The server itself: whether it is ready, what it can do, its configuration.

use super::client::{Lxd, Write};
use super::deadlines;
use super::error::LxdError;
use super::path::{on_target, path};
use super::transport::Method;
use super::types::{Server, Versioned};
use serde_json::{Value, json};
use std::collections::BTreeMap;

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
    /// keeps `user.*` keys ([`Lxd::patch_server`] with an empty value removes those). The
    /// answering member's own keys belong to it too: without `cluster.https_address` a member of
    /// a cluster refuses. With a target, the same as that member would do it.
    ///
    /// # Errors
    /// [`LxdError::Changed`] when the ETag no longer holds; or it was refused.
    pub async fn put_server(
        &self,
        config: &BTreeMap<String, String>,
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

    /// Merges keys into the server configuration; an empty value resets a key. With a target,
    /// that member's own keys.
    ///
    /// # Errors
    /// It was refused.
    pub async fn patch_server(
        &self,
        config: &BTreeMap<String, String>,
        target: Option<&str>,
    ) -> Result<(), LxdError> {
        self.write(
            Write::new(Method::Patch, path(&[]))
                .query(on_target(Vec::new(), target))
                .body(&json!({ "config": config })),
        )
        .await
    }
}
