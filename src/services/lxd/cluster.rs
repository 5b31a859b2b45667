//! The cluster: forming it, its members, its groups.

use super::client::{Lxd, Write};
use super::deadlines;
use super::envelope::{self, Answer};
use super::error::LxdError;
use super::path::{internal, path};
use super::requests::{JoinRequest, JoinToken, LiveToken};
use super::transport::{Method, TransportError};
use super::types::{Cluster, Group, Member, MemberPut, Server, Versioned};
use serde_json::{Value, json};

impl Lxd {
    /// Whether the server is in a cluster, and what a joiner must supply.
    ///
    /// # Errors
    /// It could not be read.
    pub async fn cluster(&self) -> Result<Cluster, LxdError> {
        Ok(self
            .get(path(&["cluster"]), Vec::new(), deadlines::READ)
            .await?
            .value)
    }

    /// Makes this server the first member of a new cluster. `cluster.https_address`, or a
    /// `core.https_address` without a wildcard, must be set before.
    ///
    /// Never ask a server that is in a cluster: LXD 5.0 fails after 3 s and has renamed the
    /// server in memory by then.
    ///
    /// # Errors
    /// The server is in a cluster already, or has no address.
    pub async fn bootstrap(&self, name: &str) -> Result<(), LxdError> {
        self.write(
            Write::new(Method::Put, path(&["cluster"]))
                .body(&json!({ "server_name": name, "enabled": true }))
                .deadline(deadlines::MEMBERSHIP),
        )
        .await
    }

    /// Lets this server join a cluster. What it holds is discarded.
    ///
    /// The daemon replaces its database while it works, so the connection may break: an outcome
    /// that is not known means looking at `environment.server_clustered`.
    ///
    /// # Errors
    /// The join failed ([`LxdError::Operation`]), was refused, or its outcome is not known.
    pub async fn join(&self, join: &JoinRequest) -> Result<(), LxdError> {
        let token_field = token_field(&self.server().await?.value);
        let mut body = json!({
            "server_name": join.name,
            "enabled": true,
            "server_address": join.server_address,
            "cluster_address": join.cluster_address,
            "cluster_certificate": join.cluster_certificate,
            "member_config": join.member_config,
        });
        body[token_field] = Value::String(join.token.clone());
        self.write(
            Write::new(Method::Put, path(&["cluster"]))
                .body(&body)
                .deadline(deadlines::MEMBERSHIP),
        )
        .await
    }

    /// Makes this server stand alone again, with its own name and certificate, and waits until its
    /// daemon has restarted. What it held of the cluster is gone from its database.
    ///
    /// This is also the way out of a join that failed half way: then `environment.server_clustered`
    /// is true and [`Lxd::cluster`] says `enabled: false`, and every join is refused. Before the
    /// next join a member must [`Lxd::forget_raft_node`].
    ///
    /// # Errors
    /// There are other members, the request was refused, or the daemon did not come back.
    pub async fn leave_cluster(&self) -> Result<(), LxdError> {
        let left = self
            .write(
                Write::new(Method::Put, path(&["cluster"]))
                    .body(&json!({ "server_name": "", "enabled": false }))
                    .deadline(deadlines::MEMBERSHIP),
            )
            .await;
        match left {
            // It may replace itself before its answer is complete.
            Ok(()) | Err(LxdError::Transport(TransportError::Broken { .. })) => {
                self.restarted().await
            }
            Err(error) => Err(error),
        }
    }

    /// Strikes the database node at `address` (`host:port`) that belongs to no member; asked on a
    /// member's unix socket. Nothing there is fine too.
    ///
    /// A join that fails half way leaves such a node behind. As long as it is there, the next join
    /// from that address does not end, and the joiner answers nothing any more.
    ///
    /// # Errors
    /// The request was refused.
    pub async fn forget_raft_node(&self, address: &str) -> Result<(), LxdError> {
        let path = internal(&["cluster", "raft-node", address]);
        match self.write(Write::new(Method::Delete, path)).await {
            Err(LxdError::Refused { message, .. }) if message.contains("No raft node") => Ok(()),
            other => other,
        }
    }

    /// Makes a token with which one machine can join under this name. An older token for the
    /// name ends.
    ///
    /// # Errors
    /// There is a member of that name, or the request was refused.
    pub async fn join_token(&self, name: &str) -> Result<JoinToken, LxdError> {
        let request = Write::new(Method::Post, path(&["cluster", "members"]))
            .body(&json!({ "server_name": name }))
            .request()?;
        match self.ask(request.clone()).await? {
            // The operation stands for the token and lives until it is used: no waiting here.
            Answer::Async { operation } => envelope::decode(&request, operation.metadata),
            Answer::Sync { metadata, .. } => envelope::decode(&request, metadata),
        }
    }

    /// The join tokens that were not used yet, without their secrets.
    ///
    /// # Errors
    /// The operations could not be read.
    pub async fn live_tokens(&self) -> Result<Vec<LiveToken>, LxdError> {
        let all = self.operations().await?.into_iter();
        Ok(all.filter_map(LiveToken::of).collect())
    }

    /// Ends all tokens for this name.
    ///
    /// # Errors
    /// The operations could not be read or a token could not be ended.
    pub async fn revoke_tokens(&self, name: &str) -> Result<(), LxdError> {
        for operation in self.operations().await? {
            let id = operation.id.clone();
            if LiveToken::of(operation).is_some_and(|token| token.name == name) {
                match self.cancel(&id).await {
                    Ok(()) | Err(LxdError::NotFound { .. }) => {}
                    // Used or ended since it was listed.
                    Err(LxdError::Refused { message, .. })
                        if message.contains("Only running operations") => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    /// The members.
    ///
    /// # Errors
    /// The list could not be read; the server is not in a cluster.
    pub async fn members(&self) -> Result<Vec<Member>, LxdError> {
        self.list(path(&["cluster", "members"]), Vec::new()).await
    }

    /// One member.
    ///
    /// # Errors
    /// It could not be read.
    pub async fn member(&self, name: &str) -> Result<Versioned<Member>, LxdError> {
        let path = path(&["cluster", "members", name]);
        self.get(path, Vec::new(), deadlines::READ).await
    }

    /// Replaces the writable part of a member as a whole.
    ///
    /// # Errors
    /// [`LxdError::Changed`] when the ETag no longer holds; or it was refused.
    pub async fn put_member(
        &self,
        name: &str,
        member: &MemberPut,
        etag: Option<&str>,
    ) -> Result<(), LxdError> {
        self.write(
            Write::new(Method::Put, path(&["cluster", "members", name]))
                .body(member)
                .if_match(etag),
        )
        .await
    }

    /// Removes a member. With `force` it is only struck from the database, and that machine needs
    /// a new LXD.
    ///
    /// # Errors
    /// It holds something, is the last one, or cannot be reached.
    pub async fn delete_member(&self, name: &str, force: bool) -> Result<(), LxdError> {
        let query = if force {
            vec![("force", "1".to_owned())]
        } else {
            Vec::new()
        };
        self.write(
            Write::new(Method::Delete, path(&["cluster", "members", name]))
                .query(query)
                .deadline(deadlines::MEMBERSHIP),
        )
        .await
    }

    /// Moves or stops the member's instances and keeps new ones away.
    ///
    /// # Errors
    /// It is evacuated already, or an instance could not be moved.
    pub async fn evacuate(&self, name: &str) -> Result<(), LxdError> {
        self.member_state(name, "evacuate").await
    }

    /// Brings an evacuated member and its instances back.
    ///
    /// # Errors
    /// It is not evacuated, or an instance could not be brought back.
    pub async fn restore(&self, name: &str) -> Result<(), LxdError> {
        self.member_state(name, "restore").await
    }

    async fn member_state(&self, name: &str, action: &str) -> Result<(), LxdError> {
        self.write(
            Write::new(Method::Post, path(&["cluster", "members", name, "state"]))
                .body(&json!({ "action": action }))
                .deadline(deadlines::EVACUATE),
        )
        .await
    }

    /// The groups of members.
    ///
    /// # Errors
    /// The list could not be read; the server is not in a cluster.
    pub async fn groups(&self) -> Result<Vec<Group>, LxdError> {
        self.list(path(&["cluster", "groups"]), Vec::new()).await
    }

    /// Creates a group.
    ///
    /// # Errors
    /// [`LxdError::Conflict`] when there is one of that name; or it was refused.
    pub async fn create_group(&self, group: &Group) -> Result<(), LxdError> {
        self.write(Write::new(Method::Post, path(&["cluster", "groups"])).body(group))
            .await
    }
}

/// The field a joiner takes its token in: a capability, never a version, tells.
fn token_field(server: &Server) -> &'static str {
    if server.environment.server == "incus" || server.has("explicit_trust_token") {
        "cluster_token"
    } else {
        "cluster_password"
    }
}
