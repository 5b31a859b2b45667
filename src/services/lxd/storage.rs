//! Storage pools.

use super::client::{Lxd, Write};
use super::deadlines;
use super::error::LxdError;
use super::path::{on_target, path, read_within};
use super::requests::{ObjectPut, PoolCreate};
use super::transport::Method;
use super::types::{Pool, Versioned};
use serde::Serialize;

impl Lxd {
    /// All pools, without the members' own keys.
    ///
    /// # Errors
    /// The list could not be read.
    pub async fn pools(&self) -> Result<Vec<Pool>, LxdError> {
        self.list(path(&["storage-pools"]), Vec::new()).await
    }

    /// One pool; with a target as that member sees it, its own keys and status included.
    ///
    /// # Errors
    /// It could not be read.
    pub async fn pool(
        &self,
        name: &str,
        target: Option<&str>,
    ) -> Result<Versioned<Pool>, LxdError> {
        let query = on_target(Vec::new(), target);
        self.get(path(&["storage-pools", name]), query, read_within(target))
            .await
    }

    /// Creates a pool: on a server that stands alone with all keys; in a cluster first once per
    /// member (`target`) with that member's keys, then once without a target with the others.
    ///
    /// # Errors
    /// [`LxdError::Conflict`] when it is there already, or on that member; or it was refused.
    pub async fn create_pool(
        &self,
        pool: &PoolCreate,
        target: Option<&str>,
    ) -> Result<(), LxdError> {
        self.write(
            Write::new(Method::Post, path(&["storage-pools"]))
                .query(on_target(Vec::new(), target))
                .body(pool)
                .deadline(deadlines::BUILD),
        )
        .await
    }

    /// Replaces description and configuration as a whole. In a cluster without a target: all
    /// global keys. With a target: that member's own keys *and* all global keys as they are, or
    /// these are erased for all members. On a server that stands alone: all keys.
    ///
    /// Before the pool is `Created` only the call with a target is allowed, for a member where it
    /// is still `Pending`: this is how a wrong `source` is mended.
    ///
    /// # Errors
    /// [`LxdError::Changed`] when the ETag no longer holds; or it was refused.
    pub async fn put_pool(
        &self,
        name: &str,
        put: &ObjectPut,
        etag: Option<&str>,
        target: Option<&str>,
    ) -> Result<(), LxdError> {
        self.write(
            Write::new(Method::Put, path(&["storage-pools", name]))
                .query(on_target(Vec::new(), target))
                .body(put)
                .if_match(etag)
                .deadline(deadlines::BUILD),
        )
        .await
    }

    /// Deletes a pool and all it stores.
    ///
    /// # Errors
    /// It is in use, or a member is offline.
    pub async fn delete_pool(&self, name: &str) -> Result<(), LxdError> {
        self.write(
            Write::new(Method::Delete, path(&["storage-pools", name])).deadline(deadlines::BUILD),
        )
        .await
    }

    /// Makes an empty custom volume of a pool on a member, in the project `default`.
    ///
    /// # Errors
    /// [`LxdError::Conflict`] when it is there already; or it was refused.
    pub async fn create_volume(
        &self,
        pool: &str,
        name: &str,
        member: &str,
    ) -> Result<(), LxdError> {
        let path = path(&["storage-pools", pool, "volumes", "custom"]);
        self.write(
            Write::new(Method::Post, path)
                .query(on_target(Vec::new(), Some(member)))
                .body(&VolumeCreate { name })
                .deadline(deadlines::BUILD),
        )
        .await
    }

    /// Deletes a custom volume of a pool on a member, in the project `default`, with what it holds.
    ///
    /// # Errors
    /// It is in use, or the member does not answer.
    pub async fn delete_volume(
        &self,
        pool: &str,
        name: &str,
        member: &str,
    ) -> Result<(), LxdError> {
        let path = path(&["storage-pools", pool, "volumes", "custom", name]);
        self.write(
            Write::new(Method::Delete, path)
                .query(on_target(Vec::new(), Some(member)))
                .deadline(deadlines::BUILD),
        )
        .await
    }
}

/// A custom volume to create.
#[derive(Serialize)]
struct VolumeCreate<'a> {
    name: &'a str,
}
