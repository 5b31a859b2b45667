//! `/1.0/instances` and `/1.0/images`, which are only looked at, and volumes.

use super::reply::{Answer, Refusal, Reply};
use super::{Call, encode};
use crate::services::lxd::Method;
use crate::simulate::contents::{Volume, with_project};
use crate::simulate::events::Lifecycle;
use serde::Deserialize;
use serde_json::{Value, json};

impl Call<'_> {
    /// Whether a list shall be of all projects.
    fn all_projects(&self) -> bool {
        self.query("all-projects")
            .is_some_and(|v| v == "true" || v == "1")
    }

    /// `/1.0/instances`.
    pub(super) fn instances(&mut self, method: Method) -> Answer {
        read_only(method)?;
        let project = self.project()?;
        let all = self.all_projects();
        let list = self
            .db()
            .contents
            .instances
            .iter()
            .filter(|((p, _), _)| all || *p == project)
            .map(|((p, name), (instance, location))| {
                if self.recursion() {
                    json!({
                        "name": name, "project": p, "location": location, "type": "container",
                        "status": "Running", "status_code": 103, "profiles": instance.profiles,
                        "config": {}, "devices": {},
                    })
                } else {
                    Value::from(with_project(&format!("/1.0/instances/{}", encode(name)), p))
                }
            })
            .collect();
        Ok(Reply::value(list))
    }

    /// `/1.0/images`.
    pub(super) fn images(&mut self, method: Method) -> Answer {
        read_only(method)?;
        let asked = self.project()?;
        let project = self.db().project_of(&asked, "features.images");
        let all = self.all_projects();
        let list = self
            .db()
            .contents
            .images
            .iter()
            .filter(|(p, _)| all || *p == project)
            .flat_map(|(p, prints)| prints.iter().map(move |print| (p, print)))
            .map(|(p, print)| {
                if self.recursion() {
                    json!({"fingerprint": print, "project": p})
                } else {
                    Value::from(with_project(&format!("/1.0/images/{print}"), p))
                }
            })
            .collect();
        Ok(Reply::value(list))
    }

    /// `/1.0/storage-pools/POOL/volumes…`.
    pub(super) fn volumes(&mut self, method: Method, pool: &str, rest: &[&str]) -> Answer {
        if !self.db().pools.contains_key(pool) {
            return Err(Refusal::not_found("Storage pool not found"));
        }
        match (method, rest) {
            (Method::Get, [] | ["custom"]) => self.list_volumes(pool),
            (Method::Post, ["custom"]) => {
                let body: VolumeBody = self.body()?;
                let (volume, at) = self.volume(pool, &body.name)?;
                if self.db().contents.volumes.contains(&volume) {
                    let message = "Volume by that name already exists";
                    return Err(Refusal::new(409, message));
                }
                self.db_mut().contents.add_volume(volume);
                self.tell_of_volume("storage-volume-created", pool, &body.name, at);
                Ok(Reply::empty())
            }
            (Method::Delete, ["custom", name]) => {
                let (volume, at) = self.volume(pool, name)?;
                let named = format!("{pool}/{name}");
                let own = &self.world.machines[at].lxd.config;
                let used = volume.project == "default"
                    && VOLUME_KEYS.iter().any(|key| own.get(*key) == Some(&named));
                if used {
                    return Err(Refusal::bad("The storage volume is still in use"));
                }
                if !self.db_mut().contents.remove_volume(&volume) {
                    return Err(Refusal::not_found("Storage volume not found"));
                }
                self.tell_of_volume("storage-volume-deleted", pool, name, at);
                Ok(Reply::empty())
            }
            (Method::Get, _) => Err(Refusal::not_found("Storage volume not found")),
            _ => Err(Refusal::not_implemented()),
        }
    }

    /// A volume on the member that is asked, and its machine.
    fn volume(&mut self, pool: &str, name: &str) -> Result<(Volume, usize), Refusal> {
        let target = self.reached_target()?;
        let (location, at) = target.unwrap_or_else(|| (self.member().to_owned(), self.at));
        let clustered = self.db().clustered;
        let volume = Volume {
            project: self.project()?,
            pool: pool.to_owned(),
            name: name.to_owned(),
            location: if clustered { location } else { String::new() },
        };
        Ok((volume, at))
    }

    /// LXD puts the project in front of the name (5.0.2).
    fn tell_of_volume(&mut self, action: &str, pool: &str, name: &str, at: usize) {
        let project = self.project().unwrap_or_default();
        let stored = format!("{project}_{name}");
        let event = Lifecycle {
            action,
            source: format!(
                "/1.0/storage-pools/{}/volumes/custom/{}",
                encode(pool),
                encode(&stored)
            ),
            project: &project,
            nobody: false,
        };
        self.world.emit(at, event);
    }

    fn list_volumes(&mut self, pool: &str) -> Answer {
        let project = self.project()?;
        let all = self.all_projects();
        let list = self
            .db()
            .contents
            .volumes
            .iter()
            .filter(|volume| volume.pool == pool && (all || volume.project == project))
            .map(|volume| {
                if self.recursion() {
                    json!({
                        "name": volume.name, "type": "custom", "project": volume.project,
                        "location": volume.location, "config": {}, "used_by": [],
                        "content_type": "filesystem",
                    })
                } else {
                    Value::from(volume.url())
                }
            })
            .collect();
        Ok(Reply::value(list))
    }
}

/// A volume to make.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct VolumeBody {
    name: String,
}

/// The keys of a server that name volumes of its own.
pub(super) const VOLUME_KEYS: [&str; 2] = ["storage.backups_volume", "storage.images_volume"];

fn read_only(method: Method) -> Result<(), Refusal> {
    if method == Method::Get {
        Ok(())
    } else {
        Err(Refusal::not_implemented())
    }
}
