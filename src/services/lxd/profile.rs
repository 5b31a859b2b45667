//! Profiles.

use super::client::{Lxd, Write};
use super::deadlines;
use super::error::LxdError;
use super::path::{in_project, path};
use super::requests::ProfilePut;
use super::transport::Method;
use super::types::{Profile, Project, Versioned};
use serde::Deserialize;
use serde_json::json;

/// A profile of a list over all projects, which says whose it is.
#[derive(Deserialize)]
struct InProject {
    #[serde(default)]
    project: String,
    #[serde(flatten)]
    profile: Profile,
}

impl Lxd {
    /// All profiles of a project. A project without profiles of its own shows those of
    /// `default`.
    ///
    /// # Errors
    /// The list could not be read.
    pub async fn profiles(&self, project: &str) -> Result<Vec<Profile>, LxdError> {
        self.list(path(&["profiles"]), in_project(project)).await
    }

    /// All profiles of all projects that have their own, with the project's name.
    ///
    /// # Errors
    /// The projects or a list could not be read.
    pub async fn all_profiles(&self) -> Result<Vec<(String, Profile)>, LxdError> {
        if self.server().await?.value.has("profiles_all_projects") {
            let query = vec![("all-projects", "true".to_owned())];
            let list: Vec<InProject> = self.list(path(&["profiles"]), query).await?;
            return Ok(list.into_iter().map(|p| (p.project, p.profile)).collect());
        }
        let mut all = Vec::new();
        for project in self.projects().await? {
            if !has_own(&project, "features.profiles") {
                continue;
            }
            match self.profiles(&project.name).await {
                Ok(profiles) => {
                    all.extend(profiles.into_iter().map(|p| (project.name.clone(), p)));
                }
                // Deleted since the projects were listed.
                Err(LxdError::NotFound { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(all)
    }

    /// One profile.
    ///
    /// # Errors
    /// It could not be read.
    pub async fn profile(&self, project: &str, name: &str) -> Result<Versioned<Profile>, LxdError> {
        let query = in_project(project);
        self.get(path(&["profiles", name]), query, deadlines::READ)
            .await
    }

    /// Creates a profile.
    ///
    /// # Errors
    /// [`LxdError::Conflict`] when there is one of that name; or it was refused, for instance
    /// because a device names a pool or network that is not there.
    pub async fn create_profile(&self, project: &str, profile: &Profile) -> Result<(), LxdError> {
        let body = json!({
            "name": profile.name,
            "description": profile.description,
            "config": profile.config,
            "devices": profile.devices,
        });
        self.write(
            Write::new(Method::Post, path(&["profiles"]))
                .query(in_project(project))
                .body(&body),
        )
        .await
    }

    /// Replaces description, configuration and devices as a whole.
    ///
    /// # Errors
    /// [`LxdError::Changed`] when the ETag no longer holds; or it was refused.
    pub async fn put_profile(
        &self,
        project: &str,
        name: &str,
        put: &ProfilePut,
        etag: Option<&str>,
    ) -> Result<(), LxdError> {
        self.write(
            Write::new(Method::Put, path(&["profiles", name]))
                .query(in_project(project))
                .body(put)
                .if_match(etag),
        )
        .await
    }

    /// Deletes a profile.
    ///
    /// # Errors
    /// It is in use, or it is `default`.
    pub async fn delete_profile(&self, project: &str, name: &str) -> Result<(), LxdError> {
        self.write(Write::new(Method::Delete, path(&["profiles", name])).query(in_project(project)))
            .await
    }
}

/// Whether a project keeps objects of a kind for itself instead of showing those of `default`.
pub(super) fn has_own(project: &Project, feature: &str) -> bool {
    project.name == "default"
        || matches!(
            project.config.get(feature).map(String::as_str),
            Some("true" | "1" | "yes" | "on")
        )
}
