//! `/1.0/cluster/members`: who is in the cluster, tokens for those to come, leaving, evacuating.

use super::operations::{self, Start};
use super::reply::{Answer, Refusal, Reply};
use super::{Call, encode, join, keys};
use crate::services::lxd::Method;
use crate::simulate::database::{Map, MemberRow, Raft, Token};
use crate::simulate::world::World;
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::Instant;

/// Roles that LXD gives by itself.
const AUTOMATIC: [&str; 3] = ["database", "database-leader", "database-standby"];

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct MemberBody {
    roles: Vec<String>,
    failure_domain: String,
    description: String,
    config: Option<Map>,
    groups: Option<Vec<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct NameBody {
    server_name: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct StateBody {
    action: String,
}

impl Call<'_> {
    /// `/1.0/cluster/members…`.
    pub(super) fn members(&mut self, method: Method, rest: &[&str]) -> Answer {
        if !self.db().clustered {
            return Err(Refusal::failed("Server is not clustered"));
        }
        match (method, rest) {
            (Method::Get, []) => Ok(self.list_members()),
            (Method::Post, []) => self.give_token(),
            (Method::Get, [name]) => {
                let object = self.member_object(name, self.member_row(name)?);
                let writable = writable(&object);
                Ok(Reply::object(object, &writable))
            }
            (Method::Put, [name]) => self.write_member(name, false),
            (Method::Patch, [name]) => self.write_member(name, true),
            (Method::Delete, [name]) => self.remove_member(name),
            (Method::Post, [name, "state"]) => self.change_state(name),
            _ => Err(Refusal::not_implemented()),
        }
    }

    fn member_row(&self, name: &str) -> Result<&MemberRow, Refusal> {
        self.db()
            .members
            .get(name)
            .ok_or_else(|| Refusal::not_found("Cluster member not found"))
    }

    fn list_members(&self) -> Reply {
        let rows = &self.db().members;
        Reply::value(if self.recursion() {
            rows.iter()
                .map(|(name, row)| self.member_object(name, row))
                .collect()
        } else {
            rows.keys()
                .map(|name| Value::from(member_url(name)))
                .collect()
        })
    }

    fn member_object(&self, name: &str, row: &MemberRow) -> Value {
        let db = self.db();
        let threshold = self
            .world
            .offline_threshold(self.world.machines[self.at].lxd.db);
        let now = Instant::now();
        let silent = row
            .lost_since
            .map(|since| now.duration_since(since))
            .filter(|silent| *silent > threshold);
        let (status, message) = match silent {
            Some(silent) => (
                "Offline",
                format!(
                    "No heartbeat for {}s ({})",
                    silent.as_secs_f64(),
                    self.world.timestamp(now - silent)
                ),
            ),
            None if row.evacuated => ("Evacuated", "Unavailable due to maintenance".into()),
            None => ("Online", "Fully operational".into()),
        };
        json!({
            "server_name": name,
            "url": format!("https://{}", row.address),
            "database": row.raft == Raft::Voter,
            "status": status,
            "message": message,
            "architecture": "x86_64",
            "roles": roles(row, db.leader.as_deref() == Some(name)),
            "failure_domain": row.failure_domain,
            "description": row.description,
            "config": row.config,
            "groups": row.groups,
        })
    }

    fn give_token(&mut self) -> Answer {
        let body: NameBody = self.body()?;
        let name = body.server_name;
        // Names are not checked here, only when somebody joins with one.
        let db = self.db();
        let addresses: Vec<String> = db
            .members
            .values()
            .filter(|m| !self.is_offline(m))
            .map(|m| m.address.clone())
            .collect();
        let fingerprint = db.certificate.fingerprint.clone();
        let lives = expiry(
            db.config
                .get("cluster.join_token_expiry")
                .map(String::as_str),
        );
        let earlier = db.tokens.get(&name).map(|t| t.operation.clone());
        if let Some(earlier) = earlier {
            operations::cancel(self.world, &earlier);
        }
        let secret = self.world.draw();
        let expires = Instant::now() + lives;
        let shown = self.world.timestamp(expires);
        let metadata = join::token_metadata(&name, &secret, &fingerprint, &addresses, &shown);
        let (at, resources) = (self.at, json!({"cluster": null}));
        let operation = self.begin(at, "token", "Executing operation", resources, metadata);
        let token = Token {
            operation: operation.clone(),
            secret,
            expires,
        };
        self.db_mut().tokens.insert(name, token);
        self.tell("cluster-token-created", "/1.0/cluster/members".into(), "");
        Ok(Reply::Operation(operation))
    }

    fn write_member(&mut self, name: &str, merge: bool) -> Answer {
        let db = self.db();
        let row = self.member_row(name)?;
        let object = self.member_object(name, row);
        self.check_etag(&writable(&object))?;
        let body: MemberBody = self.body()?;
        // Who leads is not looked at: that role may be left out, and named where it is not.
        let raft_role = match row.raft {
            Raft::Voter => Some("database"),
            Raft::StandBy => Some("database-standby"),
            Raft::Spare => None,
        };
        if let Some(role) = raft_role.filter(|role| !body.roles.iter().any(|r| r == role)) {
            return Err(Refusal::bad(format!(
                "The {role:?} role cannot be dropped at this time"
            )));
        }
        let settable = |role: &&String| !AUTOMATIC.contains(&role.as_str());
        if let Some(role) = body
            .roles
            .iter()
            .filter(settable)
            .find(|r| !["event-hub", "ovn-chassis"].contains(&r.as_str()))
        {
            return Err(Refusal::failed(format!(
                "Update roles: Invalid cluster role {role:?}"
            )));
        }
        let mut groups = body.groups.unwrap_or_default();
        groups.sort();
        groups.dedup();
        if groups.is_empty() {
            return Err(Refusal::bad(
                "Cluster members need to belong to at least one group",
            ));
        }
        if groups.iter().any(|g| !db.groups.contains_key(g)) {
            return Err(Refusal::not_found(
                "Update cluster groups: Failed to add member to cluster group: Failed to get \
                 cluster group ID: Cluster group not found",
            ));
        }
        let config = super::updates::updated(&row.config, body.config, merge);
        if let Some(error) = config
            .iter()
            .find_map(|(k, v)| keys::member_key_error(k, v))
        {
            return Err(Refusal::failed(error));
        }
        if body.failure_domain.is_empty() {
            return Err(Refusal::failed(
                "Update failure domain: Failure domain name can't be empty",
            ));
        }
        if let Some(row) = self.db_mut().members.get_mut(name) {
            row.roles = body
                .roles
                .into_iter()
                .filter(|r| !AUTOMATIC.contains(&r.as_str()))
                .collect();
            row.failure_domain = body.failure_domain;
            row.description = body.description;
            row.config = config;
            row.groups = groups;
        }
        self.tell_member("cluster-member-updated", name);
        Ok(Reply::empty())
    }

    fn remove_member(&mut self, name: &str) -> Answer {
        let force = self.query("force").is_some_and(|f| f == "1" || f == "true");
        let machine = self.member_row(name)?.machine;
        if self.db().members.len() == 1 {
            return Err(Refusal::bad("Cannot remove the last member of a cluster"));
        }
        if !force {
            if let Some(held) = self.db().contents.held_by(name) {
                return Err(Refusal::bad(format!(
                    "Cluster member still has the following {held}"
                )));
            }
            if !self.world.lxd_reaches(self.at, machine) {
                let address = self.member_row(name)?.address.clone();
                return Err(Refusal::failed(format!(
                    "Delete \"https://{address}/internal/cluster\": Unable to connect to: {address}"
                )));
            }
        }
        let through = if machine == self.at {
            self.db()
                .members
                .values()
                .map(|m| m.machine)
                .find(|m| *m != machine)
                .unwrap_or(machine)
        } else {
            self.at
        };
        // While it still is a member: its streams and everybody else's hear of it.
        self.tell_member("cluster-member-removed", name);
        join::drop_member(self.world, through, name);
        if force {
            join::strand(self.world, machine);
        } else {
            let ran = self.world.machines[machine].lxd.running;
            self.world.stop_lxd(machine);
            join::reset(self.world, machine);
            if ran {
                self.world.start_lxd(machine);
            }
        }
        Ok(Reply::empty())
    }

    fn change_state(&mut self, name: &str) -> Answer {
        let body: StateBody = self.body()?;
        let row = self.member_row(name)?;
        let evacuate = match body.action.as_str() {
            "evacuate" => true,
            "restore" => false,
            other => return Err(Refusal::bad(format!("Unknown action {other:?}"))),
        };
        let (machine, evacuated) = (row.machine, row.evacuated);
        if !self.world.lxd_reaches(self.at, machine) {
            self.delay = super::TARGET_PATIENCE;
            return Err(Refusal::failed(
                "Missing event connection with target cluster member",
            ));
        }
        let (name, at, takes) = (name.to_owned(), self.at, self.world.timings.evacuate);
        self.start(
            Start {
                description: if evacuate {
                    "Evacuating cluster member"
                } else {
                    "Restoring cluster member"
                },
                resources: Value::Null,
                takes,
                on: machine,
            },
            move |world: &mut World| {
                if evacuated == evacuate {
                    let is = if evacuate { "evacuated" } else { "restored" };
                    return Err(Refusal::failed(format!("Cluster member is already {is}")));
                }
                // No event tells of it.
                match world.db_mut(at).members.get_mut(&name) {
                    Some(row) => row.evacuated = evacuate,
                    None => return Err(Refusal::not_found("Cluster member not found")),
                }
                Ok(())
            },
        )
    }

    fn tell_member(&mut self, action: &str, name: &str) {
        self.tell(action, member_url(name), "");
    }
}

fn member_url(name: &str) -> String {
    format!("/1.0/cluster/members/{}", encode(name))
}

/// Roles that a person gave first, then the automatic ones.
fn roles(row: &MemberRow, leads: bool) -> Vec<String> {
    let mut roles = row.roles.clone();
    if leads {
        roles.push("database-leader".into());
    }
    match row.raft {
        Raft::Voter => roles.push("database".into()),
        Raft::StandBy => roles.push("database-standby".into()),
        Raft::Spare => {}
    }
    roles
}

/// What enters the ETag of a member.
fn writable(object: &Value) -> Value {
    json!([
        object["roles"],
        object["failure_domain"],
        object["description"],
        object["config"],
        object["groups"]
    ])
}

/// How long a token counts: such as `3H`, `30M`, `1d`; LXD's units are minutes `M`, hours `H`,
/// days `d`.
fn expiry(text: Option<&str>) -> Duration {
    let text = text.unwrap_or("3H");
    let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
    let unit = match text.chars().nth(digits.len()) {
        Some('S') => 1,
        Some('M') => 60,
        Some('d') => 86_400,
        _ => 3600,
    };
    Duration::from_secs(digits.parse::<u64>().unwrap_or(3).saturating_mul(unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_expire_as_configured() {
        assert_eq!(expiry(None), Duration::from_secs(3 * 3600));
        assert_eq!(expiry(Some("30M")), Duration::from_secs(1800));
        assert_eq!(expiry(Some("1d")), Duration::from_secs(86_400));
    }
}
