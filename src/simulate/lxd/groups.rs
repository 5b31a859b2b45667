//! `/1.0/cluster/groups`.

use super::reply::{Answer, Refusal, Reply};
use super::{Call, encode};
use crate::services::lxd::Method;
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct GroupBody {
    name: String,
    description: Option<String>,
    members: Option<Vec<String>>,
}

impl Call<'_> {
    /// `/1.0/cluster/groups…`.
    pub(super) fn groups(&mut self, method: Method, rest: &[&str]) -> Answer {
        if !self.db().clustered {
            return Err(Refusal::bad("This server is not clustered"));
        }
        match (method, rest) {
            (Method::Get, []) => {
                let names: Vec<&String> = self.db().groups.keys().collect();
                Ok(Reply::value(if self.recursion() {
                    names
                        .into_iter()
                        .map(|name| self.group_object(name))
                        .collect()
                } else {
                    names
                        .into_iter()
                        .map(|name| Value::from(group_url(name)))
                        .collect()
                }))
            }
            (Method::Post, []) => self.create_group(),
            (Method::Get, [name]) => {
                self.group_exists(name)?;
                let object = self.group_object(name);
                let writable = writable(&object);
                Ok(Reply::object(object, &writable))
            }
            (Method::Put, [name]) => self.write_group(name, false),
            (Method::Patch, [name]) => self.write_group(name, true),
            (Method::Post, [name]) => self.rename_group(name),
            (Method::Delete, [name]) => self.delete_group(name),
            _ => Err(Refusal::not_implemented()),
        }
    }

    fn group_exists(&self, name: &str) -> Result<(), Refusal> {
        if self.db().groups.contains_key(name) {
            Ok(())
        } else {
            Err(Refusal::not_found("Cluster group not found"))
        }
    }

    fn group_members(&self, name: &str) -> Vec<&String> {
        self.db()
            .members
            .iter()
            .filter(|(_, row)| row.groups.iter().any(|g| g == name))
            .map(|(member, _)| member)
            .collect()
    }

    fn group_object(&self, name: &str) -> Value {
        json!({
            "name": name,
            "description": self.db().groups.get(name),
            "members": self.group_members(name),
        })
    }

    fn create_group(&mut self) -> Answer {
        let body: GroupBody = self.body()?;
        check_name(&body.name)?;
        if self.db().groups.contains_key(&body.name) {
            return Err(Refusal::failed("This cluster group already exists"));
        }
        let members = body.members.unwrap_or_default();
        self.members_exist(&members)?;
        self.db_mut()
            .groups
            .insert(body.name.clone(), body.description.unwrap_or_default());
        self.set_members(&body.name, &members);
        self.tell_group("cluster-group-created", &body.name);
        Ok(Reply::created())
    }

    fn write_group(&mut self, name: &str, merge: bool) -> Answer {
        self.group_exists(name)?;
        self.check_etag(&writable(&self.group_object(name)))?;
        let body: GroupBody = self.body()?;
        if let Some(members) = body.members.or((!merge).then(Vec::new)) {
            self.members_exist(&members)?;
            // A member must stay in some group.
            for member in self.group_members(name) {
                let alone = self
                    .db()
                    .members
                    .get(member)
                    .is_some_and(|m| m.groups.len() == 1);
                if alone && !members.contains(member) {
                    return Err(Refusal::bad(format!(
                        "Cannot remove {member} from group as member needs to belong to at least one group"
                    )));
                }
            }
            self.set_members(name, &members);
        }
        if let Some(description) = body.description.or((!merge).then(String::new)) {
            self.db_mut().groups.insert(name.to_owned(), description);
        }
        self.tell_group("cluster-group-updated", name);
        Ok(Reply::empty())
    }

    fn rename_group(&mut self, name: &str) -> Answer {
        self.group_exists(name)?;
        let body: GroupBody = self.body()?;
        check_name(&body.name)?;
        if name == "default" {
            return Err(Refusal::new(
                403,
                "Forbidden: Cannot rename default cluster group",
            ));
        }
        if self.db().groups.contains_key(&body.name) {
            return Err(Refusal::conflict(format!(
                "Name \"{}\" already in use",
                body.name
            )));
        }
        let db = self.db_mut();
        let description = db.groups.remove(name).unwrap_or_default();
        db.groups.insert(body.name.clone(), description);
        for group in db.members.values_mut().flat_map(|m| m.groups.iter_mut()) {
            if group == name {
                group.clone_from(&body.name);
            }
        }
        self.tell_group("cluster-group-renamed", &body.name);
        Ok(Reply::created())
    }

    fn delete_group(&mut self, name: &str) -> Answer {
        if name == "default" {
            return Err(Refusal::forbidden(
                "The 'default' cluster group cannot be deleted",
            ));
        }
        self.group_exists(name)?;
        if !self.group_members(name).is_empty() {
            return Err(Refusal::failed("Only empty cluster groups can be removed"));
        }
        self.db_mut().groups.remove(name);
        // A slip of LXD: the event's project is the group's name.
        self.tell("cluster-group-deleted", group_url(name), name);
        Ok(Reply::empty())
    }

    fn members_exist(&self, members: &[String]) -> Result<(), Refusal> {
        match members.iter().find(|m| !self.db().members.contains_key(*m)) {
            Some(_) => Err(Refusal::failed(
                "Insert nodes for cluster group: NOT NULL constraint failed: \
                 nodes_cluster_groups.node_id",
            )),
            None => Ok(()),
        }
    }

    fn set_members(&mut self, group: &str, members: &[String]) {
        for (name, row) in &mut self.db_mut().members {
            let wanted = members.contains(name);
            let is = row.groups.iter().any(|g| g == group);
            if wanted && !is {
                row.groups.push(group.to_owned());
                row.groups.sort();
            } else if is && !wanted {
                row.groups.retain(|g| g != group);
            }
        }
    }

    fn tell_group(&mut self, action: &str, name: &str) {
        self.tell(action, group_url(name), "");
    }
}

fn group_url(name: &str) -> String {
    format!("/1.0/cluster/groups/{}", encode(name))
}

fn writable(object: &Value) -> Value {
    json!([object["description"], object["members"]])
}

fn check_name(name: &str) -> Result<(), Refusal> {
    if name.is_empty() {
        return Err(Refusal::bad("No name provided"));
    }
    if name.contains('/') {
        return Err(Refusal::bad("Cluster group names may not contain slashes"));
    }
    Ok(())
}
