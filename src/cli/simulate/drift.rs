//! What people change by hand, and how long it takes until it is as written again.

use super::disturb::Dice;
use super::session::Session;
use crate::catalog::{Owner, facts};
use crate::resources::value::ConfigValue;
use crate::resources::{Resource, Spec};
use crate::services::lxd::{LxdError, Method};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// One change by hand.
#[derive(Debug, Clone)]
struct Drift {
    /// What it is, for a person.
    what: String,
    /// The object's path with its query.
    path: String,
    /// What is changed.
    change: Change,
}

#[derive(Debug, Clone)]
enum Change {
    /// A configuration key gets another value.
    Key(String),
    /// A device is removed.
    Device(String),
    /// A field gets another value.
    Field(&'static str),
    /// The object is deleted.
    Delete,
}

/// One change and its repair.
#[derive(Debug, Clone)]
pub struct Repair {
    /// What was changed.
    pub what: String,
    /// How long it took until it was as before; none when it did not come back.
    pub took: Option<Duration>,
}

/// How long a repair may take: longer than the breaker's pause.
const PATIENCE: Duration = Duration::from_secs(300);

/// How often it is looked.
const LOOK: Duration = Duration::from_millis(10);

/// Between two changes: a field that is changed more often is taken for a fight.
const REST: Duration = Duration::from_secs(61);

/// Changes things by hand, one after another, and waits for each to come back.
pub async fn drift(
    session: &mut Session,
    resources: &[Resource],
    count: usize,
    dice: &mut Dice,
) -> Vec<Repair> {
    let possible: Vec<Drift> = resources.iter().flat_map(drifts).collect();
    let members = session.cloud.machines();
    let mut repairs = Vec::new();
    while repairs.len() < count {
        let (Some(drift), Some(member)) = (dice.pick(&possible), dice.pick(&members)) else {
            return repairs;
        };
        // An object that is in use is not deleted; then another one is tried.
        if let Ok(repair) = one(session, member, drift).await {
            repairs.push(repair);
        } else if possible.iter().all(|d| matches!(d.change, Change::Delete)) {
            return repairs;
        }
        session.told();
        sleep(REST).await;
    }
    repairs
}

async fn one(session: &Session, member: &str, drift: &Drift) -> Result<Repair, LxdError> {
    let cloud = &session.cloud;
    let before = object(session, &drift.path).await?;
    change(session, member, drift).await?;
    let began = Instant::now();
    let what = format!("{} on {member}", drift.what);
    while began.elapsed() < PATIENCE {
        sleep(LOOK).await;
        if object(session, &drift.path).await.ok().as_ref() == Some(&before) {
            return Ok(Repair {
                what,
                took: Some(began.elapsed()),
            });
        }
    }
    // Leaves it as it was, so that what comes after can be told apart.
    let _ = cloud
        .by_hand(member, Method::Put, &drift.path, Some(before))
        .await;
    Ok(Repair { what, took: None })
}

/// An object without what only shows its use.
async fn object(session: &Session, path: &str) -> Result<Value, LxdError> {
    let mut object = session
        .cloud
        .by_hand(session.member(), Method::Get, path, None)
        .await?;
    if let Some(fields) = object.as_object_mut() {
        for shown in ["used_by", "locations", "environment", "message", "roles"] {
            fields.remove(shown);
        }
    }
    Ok(object)
}

async fn change(session: &Session, member: &str, drift: &Drift) -> Result<(), LxdError> {
    let cloud = &session.cloud;
    if matches!(drift.change, Change::Delete) {
        cloud
            .by_hand(member, Method::Delete, &drift.path, None)
            .await?;
        return Ok(());
    }
    let mut object = cloud
        .by_hand(member, Method::Get, &drift.path, None)
        .await?;
    match &drift.change {
        Change::Key(key) => {
            let other = other(object["config"][key].as_str().unwrap_or_default());
            object["config"][key] = Value::from(other);
        }
        Change::Device(name) => {
            if let Some(devices) = object["devices"].as_object_mut() {
                devices.remove(name);
            }
        }
        Change::Field(field) => object[*field] = json!("changed-by-hand"),
        Change::Delete => {}
    }
    cloud
        .by_hand(member, Method::Put, &drift.path, Some(object))
        .await?;
    Ok(())
}

/// Another value of the same kind.
fn other(value: &str) -> String {
    match value {
        "true" => "false".into(),
        "false" => "true".into(),
        "none" => "auto".into(),
        number => match number.parse::<u64>() {
            Ok(number) => (number + 1).to_string(),
            Err(_) => match value.split_once('/') {
                Some((_, prefix)) if value.starts_with(|c: char| c.is_ascii_digit()) => {
                    format!("10.254.253.1/{prefix}")
                }
                _ => format!("{value}x"),
            },
        },
    }
}

/// What can be changed of a resource.
fn drifts(resource: &Resource) -> Vec<Drift> {
    let name = &resource.metadata.name;
    let project = resource.metadata.project.as_deref().unwrap_or("default");
    let reference = resource.reference().to_string();
    let drift = |what: &str, path: &str, change| Drift {
        what: format!("{reference}: {what}"),
        path: path.to_owned(),
        change,
    };
    let keys = |config: &std::collections::BTreeMap<String, ConfigValue>, path: &str| {
        config
            .iter()
            .filter(|(_, value)| matches!(value, ConfigValue::Plain(_)))
            // Of these another value would not be valid.
            .filter(|(key, _)| !key.starts_with("features.") && !key.starts_with("fan."))
            .filter(|(key, _)| *key != "bridge.mode" && *key != "ipv6.address")
            .map(|(key, _)| drift(&format!("{key} is changed"), path, Change::Key(key.clone())))
            .collect::<Vec<_>>()
    };
    match &resource.spec {
        Spec::Profile(profile) => {
            let path = format!("/1.0/profiles/{name}?project={project}");
            let mut all = keys(&profile.config, &path);
            all.extend(profile.devices.keys().map(|device| {
                let what = format!("device {device} is removed");
                drift(&what, &path, Change::Device(device.clone()))
            }));
            if name != "default" {
                all.push(drift("it is deleted", &path, Change::Delete));
            }
            all
        }
        Spec::Network(network) => {
            let path = format!("/1.0/networks/{name}?project={project}");
            let mut all = keys(&network.config, &path);
            all.push(drift("it is deleted", &path, Change::Delete));
            all
        }
        Spec::StoragePool(pool) => {
            let path = format!("/1.0/storage-pools/{name}");
            // LXD refuses to change what is fixed when a pool is made.
            let owner = Owner::Pool(&pool.driver);
            let free = pool
                .config
                .iter()
                .filter(|(key, _)| !facts(owner, key).immutable);
            let free = free
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect();
            let mut all = keys(&free, &path);
            if pool.description.is_some() {
                all.push(drift(
                    "its description is changed",
                    &path,
                    Change::Field("description"),
                ));
            }
            all
        }
        Spec::Cluster(cluster) => keys(&cluster.config, "/1.0"),
        Spec::Member(member) if member.failure_domain.is_some() => {
            let path = format!("/1.0/cluster/members/{name}");
            vec![drift(
                "its failure domain is changed",
                &path,
                Change::Field("failure_domain"),
            )]
        }
        _ => Vec::new(),
    }
}

/// The shortest, the middle and the longest of the repairs, and how many there were.
pub fn distribution(repairs: &[Repair]) -> Option<(Duration, Duration, Duration)> {
    let mut times: Vec<Duration> = repairs.iter().filter_map(|r| r.took).collect();
    times.sort_unstable();
    let middle = times.get(times.len() / 2)?;
    Some((*times.first()?, *middle, *times.last()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_value_is_of_the_same_kind() {
        for (value, expected) in [
            ("true", "false"),
            ("2", "3"),
            ("10.1.0.1/24", "10.254.253.1/24"),
            ("text", "textx"),
        ] {
            assert_eq!(other(value), expected);
        }
    }

    #[test]
    fn the_middle_is_told() {
        let repair = |ms: Option<u64>| Repair {
            what: String::new(),
            took: ms.map(Duration::from_millis),
        };
        let repairs = [30, 10, 20].map(|ms| repair(Some(ms)));
        let ms = Duration::from_millis;
        assert_eq!(distribution(&repairs), Some((ms(10), ms(20), ms(30))));
        assert_eq!(distribution(&[repair(None)]), None);
    }
}
