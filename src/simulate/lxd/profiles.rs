//! `/1.0/profiles`.

use super::keys;
use super::reply::{Answer, Refusal, Reply};
use super::updates::{described, updated};
use super::{Call, encode};
use crate::services::lxd::Method;
use crate::simulate::contents::{Used, with_project};
use crate::simulate::database::{Map, ProfileRow, State};
use serde::{Deserialize, Serialize};
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
                let row = self
                    .profile_row(&project, name)
                    .map_err(|e| e.during("Fetch profile"))?;
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
        // Here every invalid content is a 400, in a PUT it is not.
        self.check_profile(project, &row)
            .map_err(|e| Refusal::bad(e.message))?;
        self.set_profile(project, &name, Some(row));
        self.tell_profile("profile-created", project, &name);
        Ok(Reply::created())
    }

    fn write_profile(&mut self, project: &str, name: &str, merge: bool) -> Answer {
        let old = self
            .profile_row(project, name)
            .map_err(|e| e.during(&format!("Failed to retrieve profile {name:?}")))?
            .clone();
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
        self.keeps_roots(project, name, &old, &row)?;
        self.set_profile(project, name, Some(row));
        self.tell_profile("profile-updated", project, name);
        Ok(Reply::empty())
    }

    fn rename_profile(&mut self, project: &str, name: &str) -> Answer {
        if name == "default" {
            return Err(Refusal::forbidden(
                "The \"default\" profile cannot be renamed",
            ));
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
            return Err(Refusal::forbidden(
                "The \"default\" profile cannot be deleted",
            ));
        }
        self.profile_row(project, name)?;
        let used = Used::Profile(project.to_owned(), name.to_owned());
        if self.db().contents.in_use(&used) {
            return Err(Refusal::failed("Profile is currently in use"));
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

    /// Instances must keep a root disk.
    fn keeps_roots(
        &self,
        project: &str,
        name: &str,
        old: &ProfileRow,
        new: &ProfileRow,
    ) -> Result<(), Refusal> {
        let used = Used::Profile(project.to_owned(), name.to_owned());
        if has_root(old) && !has_root(new) && self.db().contents.in_use(&used) {
            return Err(Refusal::failed(
                "At least one instance relies on this profile's root disk device",
            ));
        }
        Ok(())
    }

    /// Checks what LXD checks of a profile: keys, device types, options, and that networks exist.
    /// Pools and the parents of nics are not looked for.
    fn check_profile(&self, project: &str, row: &ProfileRow) -> Result<(), Refusal> {
        for (key, value) in &row.config {
            if let Some(error) = keys::instance_key_error(key, value) {
                return Err(Refusal::failed(error));
            }
        }
        let mut roots = row
            .devices
            .iter()
            .filter(|(_, device)| is_root(device))
            .map(|(name, _)| name);
        for (name, device) in &row.devices {
            self.check_device(project, name, device)
                .map_err(|e| e.during(&format!("Device validation failed for {name:?}")))?;
        }
        if let (Some(_), Some(second)) = (roots.next(), roots.next()) {
            return Err(Refusal::failed(format!(
                "Device validation failed for {second:?}: More than one disk device uses the same \
                 path \"/\""
            )));
        }
        Ok(())
    }

    fn check_device(&self, project: &str, name: &str, device: &Map) -> Result<(), Refusal> {
        let loading = format!("Failed loading device {name:?}");
        let Some(kind) = device.get("type") else {
            return Err(Refusal::failed("Missing device type in config"));
        };
        let Some(options) = keys::device_options(kind) else {
            return Err(Refusal::failed("Unsupported device type").during(&loading));
        };
        if let (true, Some(network)) = (kind == "nic", device.get("network")) {
            let db = self.db();
            let project_of = db.project_of(project, "features.networks");
            match db.network(project_of, network) {
                None => {
                    return Err(Refusal::not_found("Network not found")
                        .during(&format!(
                            "Failed to load network {network:?} for project {project_of:?}"
                        ))
                        .during(&loading));
                }
                Some(row) if row.state != State::Created => {
                    return Err(Refusal::failed("Specified network is not fully created"));
                }
                Some(_) => {}
            }
        } else if kind == "nic" && !device.contains_key("nictype") {
            let missing = "Missing required \"nictype\" or \"network\" property";
            return Err(Refusal::failed(missing).during(&loading));
        }
        let known = |key: &&String| {
            *key == "type" || key.starts_with("user.") || options.contains(&key.as_str())
        };
        match device.keys().find(|key| !options.is_empty() && !known(key)) {
            Some(option) => Err(Refusal::failed(format!("Invalid device option {option:?}"))),
            None => Ok(()),
        }
    }

    fn tell_profile(&mut self, action: &str, project: &str, name: &str) {
        self.tell(action, profile_url(project, name), project);
    }
}

fn is_root(device: &Map) -> bool {
    device.get("type").is_some_and(|t| t == "disk") && device.get("path").is_some_and(|p| p == "/")
}

fn has_root(row: &ProfileRow) -> bool {
    row.devices.values().any(is_root)
}

fn profile_url(project: &str, name: &str) -> String {
    with_project(&format!("/1.0/profiles/{}", encode(name)), project)
}

fn writable(row: &ProfileRow) -> impl Serialize {
    (&row.config, &row.description, &row.devices)
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
