//! Instances, images and volumes: never managed, but they keep what they use in use.

use super::database::ProfileRow;
use super::lxd::encode;
use std::collections::{BTreeMap, BTreeSet};

/// An instance that a test puts into the cloud.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SimInstance {
    /// Its project; `default` when empty.
    pub project: String,
    /// Its name.
    pub name: String,
    /// The profiles it has.
    pub profiles: Vec<String>,
    /// The pool its root disk is on, unless a profile says so.
    pub pool: Option<String>,
    /// The network it has a nic on, unless a profile says so.
    pub network: Option<String>,
}

/// A custom volume.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Volume {
    /// Its project.
    pub project: String,
    /// Its pool.
    pub pool: String,
    /// Its name.
    pub name: String,
    /// The member it is on; empty on a server that stands alone.
    pub location: String,
}

impl Volume {
    /// As LXD names it.
    pub fn url(&self) -> String {
        let path = format!(
            "/1.0/storage-pools/{}/volumes/custom/{}",
            encode(&self.pool),
            encode(&self.name)
        );
        let url = with_project(&path, &self.project);
        match self.location.as_str() {
            "" => url,
            member if url.contains('?') => format!("{url}&target={member}"),
            member => format!("{url}?target={member}"),
        }
    }
}

/// What can be used.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Used {
    /// A storage pool.
    Pool(String),
    /// A network of a project.
    Network(String, String),
    /// A profile of a project.
    Profile(String, String),
    /// A project.
    Project(String),
}

/// Instances, images, volumes, and an index of who uses what, so that reading one object costs
/// nothing for the thousands that do not use it.
#[derive(Debug, Default)]
pub(super) struct Contents {
    /// Instances by project and name, with the member name they are on.
    pub instances: BTreeMap<(String, String), (SimInstance, String)>,
    /// Image fingerprints by project.
    pub images: BTreeMap<String, BTreeSet<String>>,
    /// Custom volumes; of one name there may be one on each member.
    pub volumes: BTreeSet<Volume>,
    users: BTreeMap<Used, BTreeSet<String>>,
}

impl Contents {
    /// URLs of what uses it, in order.
    pub fn used_by(&self, what: &Used) -> Vec<String> {
        self.users
            .get(what)
            .map(|urls| urls.iter().cloned().collect())
            .unwrap_or_default()
    }

    /// Whether anything uses it.
    pub fn in_use(&self, what: &Used) -> bool {
        self.users.get(what).is_some_and(|urls| !urls.is_empty())
    }

    /// Notes that `url` uses it.
    pub fn add_user(&mut self, what: Used, url: &str) {
        self.users.entry(what).or_default().insert(url.to_owned());
    }

    /// Forgets that `url` uses it.
    pub fn drop_user(&mut self, what: &Used, url: &str) {
        if let Some(urls) = self.users.get_mut(what) {
            urls.remove(url);
            if urls.is_empty() {
                self.users.remove(what);
            }
        }
    }

    /// Puts an instance on a member.
    pub fn add_instance(&mut self, instance: SimInstance, location: &str, projects: (&str, &str)) {
        let (profile_project, network_project) = projects;
        let project = project_or_default(&instance.project);
        let url = with_project(&format!("/1.0/instances/{}", instance.name), &project);
        for profile in &instance.profiles {
            self.add_user(
                Used::Profile(profile_project.to_owned(), profile.clone()),
                &url,
            );
        }
        if let Some(pool) = &instance.pool {
            self.add_user(Used::Pool(pool.clone()), &url);
        }
        if let Some(network) = &instance.network {
            self.add_user(
                Used::Network(network_project.to_owned(), network.clone()),
                &url,
            );
        }
        self.add_user(Used::Project(project.clone()), &url);
        self.instances.insert(
            (project, instance.name.clone()),
            (instance, location.to_owned()),
        );
    }

    /// Takes an instance away.
    pub fn remove_instance(&mut self, project: &str, name: &str) {
        let key = (project_or_default(project), name.to_owned());
        if self.instances.remove(&key).is_some() {
            let url = with_project(&format!("/1.0/instances/{name}"), &key.0);
            self.drop_url(&url);
        }
    }

    /// Puts an image there.
    pub fn add_image(&mut self, project: &str, fingerprint: &str) {
        let project = project_or_default(project);
        let url = with_project(&format!("/1.0/images/{fingerprint}"), &project);
        self.add_user(Used::Project(project.clone()), &url);
        self.images
            .entry(project)
            .or_default()
            .insert(fingerprint.to_owned());
    }

    /// Puts a custom volume there.
    pub fn add_volume(&mut self, volume: Volume) {
        let url = volume.url();
        self.add_user(Used::Project(volume.project.clone()), &url);
        self.add_user(Used::Pool(volume.pool.clone()), &url);
        self.volumes.insert(volume);
    }

    /// Takes a custom volume away; says whether it was there.
    pub fn remove_volume(&mut self, volume: &Volume) -> bool {
        let there = self.volumes.remove(volume);
        if there {
            self.drop_url(&volume.url());
        }
        there
    }

    /// A member went, and the volumes on it with it.
    pub fn lost(&mut self, member: &str) {
        let gone = |volume: &&Volume| volume.location == member;
        for volume in self.volumes.clone().iter().filter(gone) {
            self.remove_volume(volume);
        }
    }

    /// What of a member's keeps it from being removed, such as `instances: web`.
    pub fn held_by(&self, member: &str) -> Option<String> {
        let names = |list: Vec<&String>| -> String {
            let list: Vec<&str> = list.into_iter().map(String::as_str).collect();
            list.join(", ")
        };
        let instances: Vec<&String> = self
            .instances
            .iter()
            .filter(|(_, (_, on))| on == member)
            .map(|((_, name), _)| name)
            .collect();
        let volumes: Vec<&String> = self
            .volumes
            .iter()
            .filter(|volume| volume.location == member)
            .map(|volume| &volume.name)
            .collect();
        match (instances.is_empty(), volumes.is_empty()) {
            (false, _) => Some(format!("instances: {}", names(instances))),
            (true, false) => Some(format!("custom volumes: {}", names(volumes))),
            (true, true) => None,
        }
    }

    /// All is on this member from now on: the server founded a cluster.
    pub fn moved_to(&mut self, member: &str) {
        for (_, location) in self.instances.values_mut() {
            member.clone_into(location);
        }
        for mut volume in std::mem::take(&mut self.volumes) {
            self.drop_url(&volume.url());
            member.clone_into(&mut volume.location);
            self.add_volume(volume);
        }
    }

    fn drop_url(&mut self, url: &str) {
        for urls in self.users.values_mut() {
            urls.remove(url);
        }
        self.users.retain(|_, urls| !urls.is_empty());
    }

    /// Notes or forgets what the devices of a profile use.
    pub fn index_profile(
        &mut self,
        project: &str,
        network_project: &str,
        name: &str,
        row: &ProfileRow,
        add: bool,
    ) {
        let url = with_project(&format!("/1.0/profiles/{name}"), project);
        let mut uses: Vec<Used> = row
            .devices
            .values()
            .filter_map(|device| uses_of_device(device, network_project))
            .collect();
        uses.push(Used::Project(project.to_owned()));
        for what in uses {
            if add {
                self.add_user(what, &url);
            } else {
                self.drop_user(&what, &url);
            }
        }
    }
}

/// What a device refers to.
fn uses_of_device(device: &BTreeMap<String, String>, network_project: &str) -> Option<Used> {
    match device.get("type").map(String::as_str) {
        Some("disk") => device.get("pool").map(|pool| Used::Pool(pool.clone())),
        Some("nic") => device
            .get("network")
            .map(|n| Used::Network(network_project.to_owned(), n.clone())),
        _ => None,
    }
}

pub(super) fn project_or_default(project: &str) -> String {
    if project.is_empty() {
        "default"
    } else {
        project
    }
    .to_owned()
}

/// A URL in its project: the project is only named when it is not `default`.
pub(super) fn with_project(path: &str, project: &str) -> String {
    if project == "default" || project.is_empty() {
        path.to_owned()
    } else {
        format!("{path}?project={project}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_keeps_its_pool_in_use_until_it_goes() {
        let mut contents = Contents::default();
        let row = ProfileRow {
            devices: BTreeMap::from([(
                "root".to_owned(),
                BTreeMap::from([
                    ("type".to_owned(), "disk".to_owned()),
                    ("pool".to_owned(), "local".to_owned()),
                ]),
            )]),
            ..ProfileRow::default()
        };
        let pool = Used::Pool("local".into());
        contents.index_profile("web", "default", "small", &row, true);
        assert_eq!(contents.used_by(&pool), ["/1.0/profiles/small?project=web"]);
        contents.index_profile("web", "default", "small", &row, false);
        assert!(!contents.in_use(&pool));
    }
}
