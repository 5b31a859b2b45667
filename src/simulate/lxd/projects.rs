//! `/1.0/projects`.

use super::keys;
use super::reply::{Answer, Refusal, Reply};
use super::updates::{ConfigBody, described, updated};
use super::{Call, encode};
use crate::services::lxd::Method;
use crate::simulate::contents::{Used, with_project};
use crate::simulate::database::{Map, ProfileRow, ProjectRow};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ProjectPost {
    name: String,
    description: String,
    config: Option<Map>,
}

/// Features that a new project has unless it is told otherwise.
const FEATURES: [&str; 3] = [
    "features.images",
    "features.profiles",
    "features.storage.volumes",
];

impl Call<'_> {
    /// `/1.0/projects…`.
    pub(super) fn projects(&mut self, method: Method, rest: &[&str]) -> Answer {
        match (method, rest) {
            (Method::Get, []) => {
                let rows = &self.db().projects;
                Ok(Reply::value(if self.recursion() {
                    rows.iter()
                        .map(|(name, row)| self.project_object(name, row))
                        .collect()
                } else {
                    rows.keys()
                        .map(|name| Value::from(project_url(name)))
                        .collect()
                }))
            }
            (Method::Post, []) => self.create_project(),
            (Method::Get, [name]) => {
                let row = self.project_row(name)?;
                Ok(Reply::object(
                    self.project_object(name, row),
                    &writable(row),
                ))
            }
            (Method::Put, [name]) => self.write_project(name, false),
            (Method::Patch, [name]) => self.write_project(name, true),
            (Method::Delete, [name]) => self.delete_project(name),
            _ => Err(Refusal::not_implemented()),
        }
    }

    fn project_row(&self, name: &str) -> Result<&ProjectRow, Refusal> {
        self.db()
            .projects
            .get(name)
            .ok_or_else(|| Refusal::not_found(format!("Fetch project {name:?}: Project not found")))
    }

    fn project_object(&self, name: &str, row: &ProjectRow) -> Value {
        json!({
            "name": name,
            "description": row.description,
            "config": row.config,
            "used_by": self.db().contents.used_by(&Used::Project(name.to_owned())),
        })
    }

    fn create_project(&mut self) -> Answer {
        let body: ProjectPost = self.body()?;
        let name = body.name;
        check_name(&name)?;
        let mut config = updated(&Map::new(), body.config, false);
        for feature in FEATURES {
            config
                .entry(feature.to_owned())
                .or_insert_with(|| "true".into());
        }
        check_config(&config)?;
        if self.db().projects.contains_key(&name) {
            return Err(Refusal::conflict(format!(
                "Failed creating project {name:?}: Failed adding database record: This \
                 \"projects\" entry already exists"
            )));
        }
        let own_profiles = keys::is_true(&config["features.profiles"]);
        self.db_mut().projects.insert(
            name.clone(),
            ProjectRow {
                description: body.description,
                config,
            },
        );
        if own_profiles {
            self.add_default_profile(&name);
        }
        self.tell_project("project-created", &name);
        Ok(Reply::created())
    }

    fn write_project(&mut self, name: &str, merge: bool) -> Answer {
        let row = self.project_row(name)?.clone();
        self.check_etag(&writable(&row))?;
        let body: ConfigBody = self.body()?;
        // A fault of LXD 5.0: a PATCH keeps no more of the configuration than a PUT.
        let config = updated(&Map::new(), body.config, false);
        check_config(&config)?;
        let changed = |key: &str| config.get(key) != row.config.get(key);
        let features = || {
            let all = config.keys().chain(row.config.keys());
            all.filter(|key| key.starts_with("features."))
        };
        if features().any(|key| changed(key)) {
            if name == "default" {
                return Err(Refusal::bad(
                    "You can't change the features of the default project",
                ));
            }
            if !self.is_empty_project(name) {
                return Err(Refusal::bad(
                    "Features can only be changed on empty projects",
                ));
            }
        }
        if changed("features.profiles") {
            if config
                .get("features.profiles")
                .is_some_and(|v| keys::is_true(v))
            {
                self.add_default_profile(name);
            } else if !self.drop_default_profile(name) {
                return Err(Refusal::not_found(
                    "Delete project default profile: Profile not found",
                ));
            }
        }
        let description = described(&row.description, body.description, merge);
        self.db_mut().projects.insert(
            name.to_owned(),
            ProjectRow {
                description,
                config,
            },
        );
        self.tell_project("project-updated", name);
        Ok(Reply::empty())
    }

    fn delete_project(&mut self, name: &str) -> Answer {
        self.project_row(name)?;
        if name == "default" {
            return Err(Refusal::forbidden(
                "The 'default' project cannot be deleted",
            ));
        }
        if !self.is_empty_project(name) {
            return Err(Refusal::failed("Only empty projects can be removed"));
        }
        self.drop_default_profile(name);
        let db = self.db_mut();
        db.projects.remove(name);
        db.profiles.remove(name);
        db.networks.remove(name);
        self.tell_project("project-deleted", name);
        Ok(Reply::empty())
    }

    /// Whether nothing but its own default profile is in a project.
    fn is_empty_project(&self, name: &str) -> bool {
        let default_profile = with_project("/1.0/profiles/default", name);
        self.db()
            .contents
            .used_by(&Used::Project(name.to_owned()))
            .iter()
            .all(|url| *url == default_profile)
    }

    fn add_default_profile(&mut self, project: &str) {
        let row = ProfileRow {
            description: format!("Default LXD profile for project {project}"),
            ..ProfileRow::default()
        };
        let db = self.db_mut();
        let network_project = db.project_of(project, "features.networks").to_owned();
        db.contents
            .index_profile(project, &network_project, "default", &row, true);
        db.profiles
            .entry(project.to_owned())
            .or_default()
            .insert("default".into(), row);
    }

    /// Whether there was one.
    fn drop_default_profile(&mut self, project: &str) -> bool {
        let db = self.db_mut();
        let network_project = db.project_of(project, "features.networks").to_owned();
        let row = db
            .profiles
            .get_mut(project)
            .and_then(|p| p.remove("default"));
        let Some(row) = row else {
            return false;
        };
        db.contents
            .index_profile(project, &network_project, "default", &row, false);
        true
    }

    fn tell_project(&mut self, action: &str, name: &str) {
        self.tell(action, project_url(name), name);
    }
}

fn project_url(name: &str) -> String {
    format!("/1.0/projects/{}", encode(name))
}

fn writable(row: &ProjectRow) -> impl Serialize {
    (&row.description, &row.config)
}

fn check_name(name: &str) -> Result<(), Refusal> {
    if name.is_empty() {
        return Err(Refusal::bad("No name provided"));
    }
    let holds = [
        ("/", "slashes"),
        (" ", "spaces"),
        ("_", "underscores"),
        ("'", "quotes"),
        ("\"", "quotes"),
    ];
    if let Some((_, what)) = holds.into_iter().find(|(c, _)| name.contains(c)) {
        return Err(Refusal::bad(format!(
            "Project names may not contain {what}"
        )));
    }
    if name == "*" {
        return Err(Refusal::bad("Reserved project name"));
    }
    if [".", ".."].contains(&name) {
        return Err(Refusal::bad(format!("Invalid project name {name:?}")));
    }
    Ok(())
}

fn check_config(config: &Map) -> Result<(), Refusal> {
    for (key, value) in config {
        if !keys::project_key_known(key) {
            return Err(Refusal::bad(format!(
                "Invalid project configuration key {key:?}"
            )));
        }
        if (key.starts_with("features.") || key == "restricted") && !keys::is_bool(value) {
            return Err(Refusal::bad(format!(
                "Invalid project configuration key {key:?} value: Invalid value for a boolean {value:?}"
            )));
        }
    }
    Ok(())
}
