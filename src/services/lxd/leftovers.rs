//! What a machine holds that would be lost: enough to say what there is, not to manage it.

use super::client::Lxd;
use super::deadlines;
use super::error::LxdError;
use super::path::{in_project, path};
use super::profile::has_own;

impl Lxd {
    /// The URLs of all instances of all projects.
    ///
    /// # Errors
    /// The list could not be read.
    pub async fn instances_summary(&self) -> Result<Vec<String>, LxdError> {
        let query = vec![("all-projects", "true".to_owned())];
        self.urls(path(&["instances"]), query).await
    }

    /// The URLs of all images of all projects.
    ///
    /// # Errors
    /// The projects or a list could not be read.
    pub async fn images(&self) -> Result<Vec<String>, LxdError> {
        let mut all = Vec::new();
        for project in self.projects().await? {
            if has_own(&project, "features.images") {
                let query = in_project(&project.name);
                all.extend(self.urls(path(&["images"]), query).await?);
            }
        }
        Ok(all)
    }

    /// The URLs of all custom volumes of all projects in a pool.
    ///
    /// # Errors
    /// The list could not be read.
    pub async fn custom_volumes(&self, pool: &str) -> Result<Vec<String>, LxdError> {
        let path = path(&["storage-pools", pool, "volumes", "custom"]);
        if self
            .server()
            .await?
            .value
            .has("storage_volumes_all_projects")
        {
            let query = vec![("all-projects", "true".to_owned())];
            return self.urls(path, query).await;
        }
        let mut all = Vec::new();
        for project in self.projects().await? {
            if has_own(&project, "features.storage.volumes") {
                let query = in_project(&project.name);
                all.extend(self.urls(path.clone(), query).await?);
            }
        }
        Ok(all)
    }

    async fn urls(
        &self,
        path: String,
        query: Vec<(&'static str, String)>,
    ) -> Result<Vec<String>, LxdError> {
        let list = self
            .get::<Option<Vec<String>>>(path, query, deadlines::LIST)
            .await?;
        Ok(list.value.unwrap_or_default())
    }
}
