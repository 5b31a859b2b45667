//! What a machine holds that would be lost: enough to say what there is, not to manage it.

use super::client::Lxd;
use super::deadlines;
use super::error::LxdError;
use super::path::{in_project, path};
use super::profile::has_own;
use serde::Deserialize;

/// Something that is somewhere.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Thing {
    name: String,
    project: String,
    /// The member; empty or `none` for what all members see.
    location: String,
}

/// The project of something, in words; nothing for `default`.
fn of_project(project: &str) -> String {
    match project {
        "" | "default" => String::new(),
        other => format!(" of project {other}"),
    }
}

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

    /// What lies on one member and would keep it from leaving: its instances, and its volumes of
    /// pools that each member has a part of. In words, such as `instance web` and
    /// `volume data of pool local`, in order.
    ///
    /// # Errors
    /// A list could not be read.
    pub async fn held_by(&self, member: &str) -> Result<Vec<String>, LxdError> {
        let mut held: Vec<String> = Vec::new();
        let all = || vec![("all-projects", "true".to_owned())];
        let instances = self.things(path(&["instances"]), all()).await?;
        let here = |thing: &&Thing| thing.location == member;
        held.extend(instances.iter().filter(here).map(|thing| {
            let name = &thing.name;
            format!("instance {name}{}", of_project(&thing.project))
        }));
        let everywhere = self
            .server()
            .await?
            .value
            .has("storage_volumes_all_projects");
        let projects: Vec<String> = if everywhere {
            Vec::new()
        } else {
            let projects = self.projects().await?.into_iter();
            let own = projects.filter(|p| has_own(p, "features.storage.volumes"));
            own.map(|project| project.name).collect()
        };
        for pool in self.pools().await? {
            let path = path(&["storage-pools", &pool.name, "volumes", "custom"]);
            let mut volumes = Vec::new();
            if everywhere {
                volumes = self.things(path, all()).await?;
            } else {
                for project in &projects {
                    let found = self.things(path.clone(), in_project(project)).await?;
                    volumes.extend(found.into_iter().map(|volume| Thing {
                        project: project.clone(),
                        ..volume
                    }));
                }
            }
            held.extend(volumes.iter().filter(here).map(|volume| {
                let (name, project) = (&volume.name, of_project(&volume.project));
                format!("volume {name} of pool {}{project}", pool.name)
            }));
        }
        held.sort();
        held.dedup();
        Ok(held)
    }

    async fn things(
        &self,
        path: String,
        mut query: Vec<(&'static str, String)>,
    ) -> Result<Vec<Thing>, LxdError> {
        query.push(("recursion", "1".to_owned()));
        let list = self
            .get::<Option<Vec<Thing>>>(path, query, deadlines::LIST)
            .await?;
        Ok(list.value.unwrap_or_default())
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
