//! What the assertions need of a cloud, real or simulated.

use async_trait::async_trait;
use microcloud::services::lxd::{Lxd, Method, Request, Response, Transport, TransportError};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

/// A machine with a fresh LXD.
#[derive(Debug, Clone)]
pub struct Host {
    /// Its host name, which is the name it joins under.
    pub name: String,
    /// Its address and LXD's port, such as `10.77.0.1:8443`.
    pub address: String,
}

/// Four machines, each with a fresh LXD that listens on its own socket only.
///
/// What a `dir` pool may have as a source: `/nonexistent` is not there on any machine.
#[async_trait]
pub trait Cloud: Send + Sync {
    /// The four machines. The first three form the cluster; the fourth joins and leaves.
    fn hosts(&self) -> Vec<Host>;

    /// LXD on the machine's own socket. May be asked while the machine is off; a transport made
    /// before stays good after [`Cloud::start`].
    fn transport(&self, host: &str) -> Arc<dyn Transport>;

    /// Whether machines can be killed and started; the last stage is left out otherwise.
    fn can_kill(&self) -> bool {
        true
    }

    /// Power loss.
    async fn kill(&self, host: &str);

    /// Power is back: the machine and LXD start with the data they had.
    async fn start(&self, host: &str);
}

impl dyn Cloud + '_ {
    /// The machine at this place in the list.
    pub fn host(&self, index: usize) -> Host {
        self.hosts().swap_remove(index)
    }

    /// LXD on the machine at this place in the list.
    pub fn lxd(&self, index: usize) -> Lxd {
        Lxd::new(self.transport(&self.host(index).name))
    }

    /// A request that the client has no method for; `target` is a path and a query.
    pub async fn raw(
        &self,
        index: usize,
        method: Method,
        target: &str,
        body: Value,
    ) -> Result<Response, TransportError> {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let query = query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .map(|(key, value)| {
                let key = match key {
                    "target" => "target",
                    "project" => "project",
                    other => panic!("no assertion uses the query {other}"),
                };
                (key, value.to_owned())
            })
            .collect();
        let request = Request {
            method,
            path: path.to_owned(),
            query,
            body: (!body.is_null()).then_some(body),
            if_match: None,
            deadline: Duration::from_secs(30),
        };
        self.transport(&self.host(index).name).send(request).await
    }

    /// The names of the three hosts of the cluster.
    pub fn members(&self) -> Vec<String> {
        self.hosts().into_iter().take(3).map(|h| h.name).collect()
    }
}
