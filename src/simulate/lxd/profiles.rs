//! `/1.0/profiles`.

use super::keys;
use super::reply::{Answer, Refusal, Reply};
use super::updates::{described, updated};
use super::{Call, encode};
use crate::services::lxd::Method;
use crate::simulate::contents::{Used, with_project};
use crate::simulate::database::{Map, ProfileRow};
use crate::simulate::events::Lifecycle;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ProfileBody {
    name: String,
    description: Option<String>,
    config: Option<Map>,
    devices: Option<BTreeMap<String, Map>>,
}

impl Call<'_> {
    /// `/1.0/profiles…`.
    pub(super) fn profiles(&mut self, method: Method, rest: &[&str]) -> Answer {
        let asked = self.project()?;
        let project = self.db().project_of(&asked, "features.profiles").to_owned();
        match (method, rest) {
            (Method::Get, []) => Ok(self.list_profiles(&project)),
            (Method::Post, []) => self.create_profile(&project),
            (Method::Get, [name]) => {
                let row = self.profile_row(&project, name)?;
                Ok(Reply::object(
                    self.profile_object(&project, name, row),
                    &writable(row),
                ))
            }
            (Method::Put, [name]) => self.write_profile(&project, name, false),
            (Method::Patch, [name]) => self.write_profile(&project, name, true),
            (Method::Post, [name]) => self.rename_profile(&project, name),
            (Method::Delete, [name]) => self.delete_profile(&project, name),
            _ => Err(Refusal::not_implemented()),
        }
    }

    fn profile_row(&self, project: &str, name: &str) -> Result<&ProfileRow, Refusal> {
        self.db()
            .profile(project, name)
            .ok_or_else(|| Refusal::not_found("Profile not found"))
    }

    fn list_profiles(&self, project: &str) -> Reply {
        let rows = self.db().profiles.get(project);
        let rows = rows.into_iter().flatten();
        Reply::value(if self.recursion() {
            rows.map(|(name, row)| self.profile_object(project, name, row))
                .collect()
        } else {
            rows.map(|(name, _)| Value::from(profile_url(project, name)))
                .collect()
        })
    }

    fn profile_object(&self, project: &str, name: &str, row: &ProfileRow) -> Value {
        let used = Used::Profile(project.to_owned(), name.to_owned());
        json!({
            "name": name,
            "description": row.description,
            "config": row.config,
            "devices": row.devices,
            "used_by": self.db().contents.used_by(&used),
        })
    }

    fn create_profile(&mut self, project: &str) -> Answer {
        let body: ProfileBody = self.body()?;
        let name = body.name;
        check_name(&name)?;
        if self.db().profile(project, &name).is_some() {
            return Err(Refusal::failed(format!(
                "Error inserting \"{name}\" into database: The profile already exists"
            )));
        }
        let row = ProfileRow {
            description: body.description.unwrap_or_default(),
            config: updated(&Map::new(), body.config, false),
            devices: trimmed(body.devices.unwrap_or_default()),
        };
        self.check_profile(project, &row)?;
        self.set_profile(project, &name, Some(row));
        self.tell_profile("profile-created", project, &name);
        Ok(Reply::created())
    }

    fn write_profile(&mut self, project: &str, name: &str, merge: bool) -> Answer {
        let old = self.profile_row(project, name)?.clone();
        self.check_etag(&writable(&old))?;
        let body: ProfileBody = self.body()?;
        let mut devices = if merge {
            old.devices.clone()
        } else {
            BTreeMap::new()
        };
        devices.extend(body.devices.unwrap_or_default());
        let row = ProfileRow {
            description: described(&old.description, body.description, merge),
            config: updated(&old.config, body.config, merge),
            devices: trimmed(devices),
        };
        self.check_profile(project, &row)?;
        self.set_profile(project, name, Some(row));
        self.tell_profile("profile-updated", project, name);
        Ok(Reply::empty())
    }

    fn rename_profile(&mut self, project: &str, name: &str) -> Answer {
        if name == "default" {
            return Err(Refusal::new(403, "The 'default' profile cannot be renamed"));
        }
        let row = self.profile_row(project, name)?.clone();
        let body: ProfileBody = self.body()?;
        check_name(&body.name)?;
        if self.db().profile(project, &body.name).is_some() {
            return Err(Refusal::conflict(format!(
                "Name {:?} already in use",
                body.name
            )));
        }
        self.set_profile(project, name, None);
        self.set_profile(project, &body.name, Some(row));
        self.tell_profile("profile-renamed", project, &body.name);
        Ok(Reply::created())
    }

    fn delete_profile(&mut self, project: &str, name: &str) -> Answer {
        if name == "default" {
            return Err(Refusal::new(403, "The 'default' profile cannot be deleted"));
        }
        self.profile_row(project, name)?;
        let used = Used::Profile(project.to_owned(), name.to_owned());
        if self.db().contents.in_use(&used) {
            return Err(Refusal::bad("Profile is currently in use"));
        }
        self.set_profile(project, name, None);
        self.tell_profile("profile-deleted", project, name);
        Ok(Reply::empty())
    }

    /// Keeps a profile, or forgets it, and what it uses with it.
    fn set_profile(&mut self, project: &str, name: &str, row: Option<ProfileRow>) {
        let db = self.db_mut();
        let networks = db.project_of(project, "features.networks").to_owned();
        let rows = db.profiles.entry(project.to_owned()).or_default();
        let url_name = encode(name);
        if let Some(old) = rows.remove(name) {
            db.contents
                .index_profile(project, &networks, &url_name, &old, false);
        }
        if let Some(row) = row {
            db.contents
                .index_profile(project, &networks, &url_name, &row, true);
            rows.insert(name.to_owned(), row);
        }
    }

    /// Checks what LXD checks of a profile: keys, device types, and that pools and networks exist.
    fn check_profile(&self, project: &str, row: &ProfileRow) -> Result<(), Refusal> {
        for (key, value) in &row.config {
            if let Some(error) = keys::instance_key_error(key, value) {
                return Err(Refusal::bad(error));
            }
        }
        let db = self.db();
        let networks = db.project_of(project, "features.networks");
        for (name, device) in &row.devices {
            let invalid = |why: &str| {
                Err(Refusal::failed(format!(
                    "Device validation failed for {name:?}: {why}"
                )))
            };
            match device.get("type").map(String::as_str) {
                None => return invalid("Missing device type in config"),
                Some("nic") => match device.get("network") {
                    Some(network) if db.network(networks, network).is_none() => {
                        return invalid(&format!(
                            "Error loading network config for {network:?}: Network not found"
                        ));
                    }
                    None if !device.contains_key("nictype") => {
                        return invalid("Missing required \"nictype\" or \"network\" property");
                    }
                    _ => {}
                },
                Some("disk") => match device.get("pool") {
                    Some(pool) if !db.pools.contains_key(pool) => {
                        return invalid(&format!(
                            "Failed to get storage pool {pool:?}: Storage pool not found"
                        ));
                    }
                    None if device.get("path").map(String::as_str) == Some("/")
                        && !device.contains_key("source") =>
                    {
                        return invalid("Root disk entry must have a \"pool\" property set");
                    }
                    _ => {}
                },
                Some(
                    "none" | "unix-char" | "unix-block" | "unix-hotplug" | "usb" | "gpu"
                    | "infiniband" | "proxy" | "tpm" | "pci",
                ) => {}
                Some(other) => return invalid(&format!("Unsupported device type {other:?}")),
            }
        }
        Ok(())
    }

    fn tell_profile(&mut self, action: &str, project: &str, name: &str) {
        let at = self.at;
        self.world.emit(
            at,
            Lifecycle {
                action,
                source: profile_url(project, name),
                project,
                ..Lifecycle::default()
            },
        );
    }
}

fn profile_url(project: &str, name: &str) -> String {
    with_project(&format!("/1.0/profiles/{}", encode(name)), project)
}

fn writable(row: &ProfileRow) -> Value {
    json!([row.config, row.description, row.devices])
}

/// Devices without empty values.
fn trimmed(mut devices: BTreeMap<String, Map>) -> BTreeMap<String, Map> {
    for device in devices.values_mut() {
        device.retain(|_, value| !value.is_empty());
    }
    devices
}

fn check_name(name: &str) -> Result<(), Refusal> {
    if name.is_empty() {
        return Err(Refusal::bad("No name provided"));
    }
    if name.contains('/') {
        return Err(Refusal::bad("Profile names may not contain slashes"));
    }
    if [".", ".."].contains(&name) {
        return Err(Refusal::bad(format!("Invalid profile name {name:?}")));
    }
    Ok(())
}
