//! The machines of the cluster: this one directly, the others through their agents.

use super::client::{Answer, PeerClient};
use crate::services::ceph::Ceph;
use crate::services::host::{
    Beat, BootstrapLxd, CephAnswer, CephRequest, ClearHalfMade, Host, HostError, HostReport,
    HostTarget, Hosts, JoinLxd, OvnAnswer, OvnRequest, PathsReport, PathsRequest, TrustStore,
    UndoJoin, WipeDisk,
};
use async_trait::async_trait;
use bytes::Bytes;
use reqwest::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::sync::Arc;
use std::time::Duration;

/// How long the cheap look may take.
pub const BEAT_DEADLINE: Duration = Duration::from_secs(2);
/// How long a report may take: it reads every disk.
pub const REPORT_DEADLINE: Duration = Duration::from_secs(10);
/// How long bootstrap and join may take.
pub const FORM_DEADLINE: Duration = Duration::from_secs(150);
/// How long destroying a disk's signatures may take.
pub const WIPE_DEADLINE: Duration = Duration::from_secs(60);
/// How long what is asked for of Ceph may take: an OSD is made within it.
pub const CEPH_DEADLINE: Duration = Duration::from_secs(240);
/// How long a change of OVN may take: a raft forms, a service stops.
pub const OVN_DEADLINE: Duration = Duration::from_secs(150);
/// For trying ways to other machines.
pub const PATHS_DEADLINE: Duration = Duration::from_secs(15);
/// How long storing the trust store may take.
pub const TRUST_DEADLINE: Duration = Duration::from_secs(10);

/// Finds the machine of a member: the own one is called directly, others through their agents.
#[derive(Debug, Clone)]
pub struct PeerHosts {
    client: PeerClient,
    own: Arc<dyn Host>,
    ceph: Ceph,
}

impl PeerHosts {
    /// `own` is the machine this agent runs on.
    pub fn new(client: PeerClient, own: Arc<dyn Host>) -> PeerHosts {
        PeerHosts {
            client,
            own,
            ceph: Ceph::nowhere(),
        }
    }

    /// Reaches Ceph this way.
    #[must_use]
    pub fn with_ceph(self, ceph: Ceph) -> PeerHosts {
        PeerHosts { ceph, ..self }
    }
}

impl Hosts for PeerHosts {
    fn ceph(&self) -> Ceph {
        self.ceph.clone()
    }

    fn host(&self, target: &HostTarget) -> Arc<dyn Host> {
        if target.name == self.client.own_name() {
            return Arc::clone(&self.own);
        }
        Arc::new(PeerHost {
            client: self.client.clone(),
            target: target.clone(),
        })
    }
}

/// The machine of another member, through its agent.
#[derive(Debug, Clone)]
pub struct PeerHost {
    client: PeerClient,
    target: HostTarget,
}

impl PeerHost {
    /// The machine `target` names.
    pub fn new(client: PeerClient, target: HostTarget) -> PeerHost {
        PeerHost { client, target }
    }

    async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        deadline: Duration,
    ) -> Result<T, HostError> {
        self.call(Method::GET, path, Bytes::new(), deadline).await
    }

    async fn post(
        &self,
        path: &str,
        body: &impl Serialize,
        deadline: Duration,
    ) -> Result<(), HostError> {
        let _done: serde_json::Value = self.ask(path, body, deadline).await?;
        Ok(())
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
        deadline: Duration,
    ) -> Result<T, HostError> {
        let body = serde_json::to_vec(body).map_err(|e| HostError::Failed {
            reason: format!("cannot write the request {path}: {e}"),
        })?;
        self.call(Method::POST, path, body.into(), deadline).await
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        deadline: Duration,
    ) -> Result<T, HostError> {
        let Answer { status, body } = self
            .client
            .forward(&self.target, method, path, body, deadline)
            .await?;
        let odd = |reason: String| HostError::Failed {
            reason: format!("{} answered {path} with {reason}", self.target.name),
        };
        if (200..300).contains(&status) {
            // Only the place: what is repeated of an answer may be a key.
            return serde_json::from_slice(&body).map_err(|e| {
                let (line, column) = (e.line(), e.column());
                odd(format!(
                    "something unexpected at line {line}, column {column}: do both agents have the \
                     same version?"
                ))
            });
        }
        Err(serde_json::from_slice(&body).unwrap_or_else(|_| odd(format!("HTTP status {status}"))))
    }
}

#[async_trait]
impl Host for PeerHost {
    async fn report(&self) -> Result<HostReport, HostError> {
        self.get("/v1/host/report", REPORT_DEADLINE).await
    }

    async fn beat(&self) -> Result<Beat, HostError> {
        self.get("/v1/host/beat", BEAT_DEADLINE).await
    }

    async fn bootstrap_lxd(&self, request: BootstrapLxd) -> Result<(), HostError> {
        self.post("/v1/host/bootstrap-lxd", &request, FORM_DEADLINE)
            .await
    }

    async fn join_lxd(&self, request: JoinLxd) -> Result<(), HostError> {
        self.post("/v1/host/join-lxd", &request, FORM_DEADLINE)
            .await
    }

    async fn undo_join(&self, request: UndoJoin) -> Result<(), HostError> {
        self.post("/v1/host/undo-join", &request, FORM_DEADLINE)
            .await
    }

    async fn clear_half_made(&self, request: ClearHalfMade) -> Result<(), HostError> {
        self.post("/v1/host/clear-half-made", &request, WIPE_DEADLINE)
            .await
    }

    async fn wipe_disk(&self, request: WipeDisk) -> Result<(), HostError> {
        self.post("/v1/host/wipe-disk", &request, WIPE_DEADLINE)
            .await
    }

    async fn ceph(&self, request: CephRequest) -> Result<CephAnswer, HostError> {
        self.ask("/v1/host/ceph", &request, CEPH_DEADLINE).await
    }

    async fn ovn(&self, request: OvnRequest) -> Result<OvnAnswer, HostError> {
        self.ask("/v1/host/ovn", &request, OVN_DEADLINE).await
    }

    async fn paths(&self, request: PathsRequest) -> Result<PathsReport, HostError> {
        self.ask("/v1/host/paths", &request, PATHS_DEADLINE).await
    }

    async fn set_trust(&self, trust: TrustStore) -> Result<(), HostError> {
        self.post("/v1/host/trust", &trust, TRUST_DEADLINE).await
    }
}
