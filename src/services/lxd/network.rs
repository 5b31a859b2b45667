//! Networks.

use super::client::{Lxd, Write};
use super::deadlines;
use super::error::LxdError;
use super::path::{in_project, on_target, path, read_within};
use super::requests::{NetworkCreate, ObjectPut};
use super::transport::Method;
use super::types::{Network, Versioned};

impl Lxd {
    /// All networks of a project, without the members' own keys. The machine's own interfaces are
    /// among them, with `managed` false.
    ///
    /// # Errors
    /// The list could not be read.
    pub async fn networks(&self, project: &str) -> Result<Vec<Network>, LxdError> {
        self.list(path(&["networks"]), in_project(project)).await
    }

    /// One network; with a target as that member sees it, its own keys and status included.
    ///
    /// # Errors
    /// It could not be read.
    pub async fn network(
        &self,
        project: &str,
        name: &str,
        target: Option<&str>,
    ) -> Result<Versioned<Network>, LxdError> {
        let query = on_target(in_project(project), target);
        self.get(path(&["networks", name]), query, read_within(target))
            .await
    }

    /// Creates a network: on a server that stands alone with all keys; in a cluster first once
    /// per member (`target`) with that member's keys, then once without a target with the others.
    /// `ovn` networks have no phase per member. In a cluster LXD 5.0 ignores the description:
    /// write it afterwards ([`Lxd::put_network`]).
    ///
    /// # Errors
    /// [`LxdError::Conflict`] when it is there already, or on that member; or it was refused.
    pub async fn create_network(
        &self,
        project: &str,
        network: &NetworkCreate,
        target: Option<&str>,
    ) -> Result<(), LxdError> {
        self.write(
            Write::new(Method::Post, path(&["networks"]))
                .query(on_target(in_project(project), target))
                .body(network)
                .deadline(deadlines::BUILD),
        )
        .await
    }

    /// Replaces description and configuration as a whole. In a cluster without a target: all
    /// global keys. With a target: that member's own keys *and* all global keys as they are, or
    /// these are erased for all members. On a server that stands alone: all keys.
    ///
    /// Before the network is `Created` only the call with a target is allowed, for a member where
    /// it is still `Pending`: this is how a wrong key is mended.
    ///
    /// # Errors
    /// [`LxdError::Changed`] when the ETag no longer holds; or it was refused.
    pub async fn put_network(
        &self,
        project: &str,
        name: &str,
        put: &ObjectPut,
        etag: Option<&str>,
        target: Option<&str>,
    ) -> Result<(), LxdError> {
        self.write(
            Write::new(Method::Put, path(&["networks", name]))
                .query(on_target(in_project(project), target))
                .body(put)
                .if_match(etag)
                .deadline(deadlines::BUILD),
        )
        .await
    }

    /// Deletes a network.
    ///
    /// # Errors
    /// It is in use, or a member is offline.
    pub async fn delete_network(&self, project: &str, name: &str) -> Result<(), LxdError> {
        self.write(
            Write::new(Method::Delete, path(&["networks", name]))
                .query(in_project(project))
                .deadline(deadlines::BUILD),
        )
        .await
    }
}
