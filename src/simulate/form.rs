//! Forming a cluster by hand, for tests that need one to begin with.

use super::SimCloud;
use super::hosts::address_of;
use crate::services::lxd::requests::JoinRequest;
use crate::services::lxd::types::MemberConfigKey;
use crate::services::lxd::{Lxd, LxdError, Method, Request};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;

impl SimCloud {
    /// An administrator's client of the LXD of a machine: neither counted nor disturbed by
    /// injected faults. Only a machine or LXD that does not run stops it.
    pub fn hand(&self, member: &str) -> Lxd {
        Lxd::new(self.hand_transport(member))
    }

    /// Forms a cluster by hand: `first` founds it, the others join with nothing to supply.
    /// Members are named as their machines.
    ///
    /// # Errors
    /// What LXD refused.
    pub async fn form(&self, first: &str, others: &[&str]) -> Result<(), LxdError> {
        self.bootstrap_by_hand(first).await?;
        for joiner in others {
            self.join_by_hand(first, joiner, Vec::new()).await?;
        }
        Ok(())
    }

    /// Founds a cluster by hand.
    ///
    /// # Errors
    /// What LXD refused.
    pub async fn bootstrap_by_hand(&self, first: &str) -> Result<(), LxdError> {
        found(&self.hand(first), first, &self.lxd_address(first)).await
    }

    /// Has a machine join the cluster of another by hand.
    ///
    /// # Errors
    /// What LXD refused.
    pub async fn join_by_hand(
        &self,
        member: &str,
        joiner: &str,
        member_config: Vec<MemberConfigKey>,
    ) -> Result<(), LxdError> {
        let cluster = self.hand(member);
        let token = cluster.join_token(joiner).await?;
        let server = cluster.server().await?.value;
        self.hand(joiner)
            .join(&JoinRequest {
                name: joiner.into(),
                server_address: self.lxd_address(joiner),
                cluster_address: self.lxd_address(member),
                cluster_certificate: server.environment.certificate,
                token: token.encode(),
                member_config,
            })
            .await
    }

    /// Asks the LXD of a machine anything by hand: `path` may have a query. Gives the answer's
    /// metadata; when an operation was started, the ended operation.
    ///
    /// # Errors
    /// What LXD refused, or the operation that failed.
    pub async fn by_hand(
        &self,
        member: &str,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<Value, LxdError> {
        let (path, query) = split_query(path);
        let request = Request {
            method,
            path,
            query,
            body,
            if_match: None,
            deadline: Duration::from_secs(60),
        };
        let mut answer = self.hand_transport(member).send(request).await?;
        if answer.body["type"] == "error" {
            let message = answer.body["error"].as_str().unwrap_or_default().to_owned();
            return Err(LxdError::reported(answer.status, message));
        }
        match answer.body["metadata"]["id"].as_str() {
            Some(id)
                if answer.body["type"] == "async" && answer.body["metadata"]["class"] == "task" =>
            {
                let ended = self.hand(member).wait(id, Duration::from_secs(600)).await?;
                Ok(serde_json::to_value(ended).unwrap_or_default())
            }
            _ => Ok(answer.body["metadata"].take()),
        }
    }

    /// The address and port that the LXD of a machine has in a cluster, such as `10.77.0.1:8443`;
    /// empty when there is no such machine.
    pub fn lxd_address(&self, member: &str) -> String {
        let world = self.shared().lock();
        world
            .find(member)
            .map(|machine| address_of(world.machines[machine].config.address))
            .unwrap_or_default()
    }
}

/// Founds a cluster through an LXD: what an agent does, and a hand.
pub(super) async fn found(lxd: &Lxd, name: &str, address: &str) -> Result<(), LxdError> {
    let config = ["core.https_address", "cluster.https_address"]
        .map(|key| (key.to_owned(), address.to_owned()));
    lxd.patch_server(&BTreeMap::from(config), None).await?;
    lxd.bootstrap(name).await
}

/// The query of a path that a person wrote.
fn split_query(path: &str) -> (String, Vec<(&'static str, String)>) {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    (path.to_owned(), super::lxd::parse_query(query))
}
