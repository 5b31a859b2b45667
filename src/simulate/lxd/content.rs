//! `/1.0/instances`, `/1.0/images` and volumes: only looked at.

use super::reply::{Answer, Refusal, Reply};
use super::{Call, encode};
use crate::services::lxd::Method;
use crate::simulate::contents::with_project;
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
        read_only(method)?;
        if !self.db().pools.contains_key(pool) {
            return Err(Refusal::not_found("Storage pool not found"));
        }
        if !matches!(rest, [] | ["custom"]) {
            return Err(Refusal::not_found("Storage volume not found"));
        }
        let project = self.project()?;
        let all = self.all_projects();
        let list = self
            .db()
            .contents
            .volumes
            .iter()
            .filter(|((p, in_pool, _), _)| in_pool == pool && (all || *p == project))
            .map(|((p, _, name), location)| {
                if self.recursion() {
                    json!({
                        "name": name, "type": "custom", "project": p, "location": location,
                        "config": {}, "used_by": [], "content_type": "filesystem",
                    })
                } else {
                    let url = format!(
                        "/1.0/storage-pools/{}/volumes/custom/{}",
                        encode(pool),
                        encode(name)
                    );
                    Value::from(with_project(&url, p))
                }
            })
            .collect();
        Ok(Reply::value(list))
    }
}

fn read_only(method: Method) -> Result<(), Refusal> {
    if method == Method::Get {
        Ok(())
    } else {
        Err(Refusal::not_implemented())
    }
}
