//! Projects.

use super::client::{Lxd, Write};
use super::deadlines;
use super::error::LxdError;
use super::path::path;
use super::requests::{ObjectPut, ProjectCreate};
use super::transport::Method;
use super::types::{Project, Versioned};

impl Lxd {
    /// All projects.
    ///
    /// # Errors
    /// The list could not be read.
    pub async fn projects(&self) -> Result<Vec<Project>, LxdError> {
        self.list(path(&["projects"]), Vec::new()).await
    }

    /// One project.
    ///
    /// # Errors
    /// It could not be read.
    pub async fn project(&self, name: &str) -> Result<Versioned<Project>, LxdError> {
        self.get(path(&["projects", name]), Vec::new(), deadlines::READ)
            .await
    }

    /// Creates a project.
    ///
    /// # Errors
    /// [`LxdError::Conflict`] when there is one of that name; or it was refused.
    pub async fn create_project(&self, project: &ProjectCreate) -> Result<(), LxdError> {
        self.write(Write::new(Method::Post, path(&["projects"])).body(project))
            .await
    }

    /// Replaces description and configuration as a whole, the `features.*` keys too: a feature
    /// that is not in it is switched off, and with `features.profiles` the project's `default`
    /// profile is deleted. Always send what was read, changed.
    ///
    /// There is no merging counterpart here: LXD 5.0 reads the features out of a `PATCH` alone,
    /// so it would switch them off as well.
    ///
    /// # Errors
    /// [`LxdError::Changed`] when the ETag no longer holds; or it was refused.
    pub async fn put_project(
        &self,
        name: &str,
        put: &ObjectPut,
        etag: Option<&str>,
    ) -> Result<(), LxdError> {
        self.write(
            Write::new(Method::Put, path(&["projects", name]))
                .body(put)
                .if_match(etag),
        )
        .await
    }

    /// Deletes a project.
    ///
    /// # Errors
    /// Something is in it.
    pub async fn delete_project(&self, name: &str) -> Result<(), LxdError> {
        self.write(Write::new(Method::Delete, path(&["projects", name])))
            .await
    }
}
