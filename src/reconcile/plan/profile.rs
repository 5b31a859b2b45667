//! `Profile`: defaults of instances.

use super::diff::{Change, Diff, Ignore};
use super::step::{Action, Claim, ClaimOn, Step, Values};
use super::{Plan, Topic, View, cluster_stands, reasons};
use crate::catalog::Owner;
use crate::resources::kinds::ProfileSpec;
use crate::resources::object::DEFAULT_PROJECT;
use crate::resources::value::{Config, ConfigValue};
use crate::resources::{Kind, ObjectRef};
use std::collections::BTreeMap;

type Devices = BTreeMap<String, BTreeMap<String, String>>;

pub(super) fn plan(
    object: &ObjectRef,
    spec: &ProfileSpec,
    ignore: &Ignore,
    view: &View<'_>,
) -> Plan {
    let mut plan = Plan::nothing(object);
    let profiles = match view.world.lxd.profiles.get() {
        Ok(profiles) => profiles,
        Err(why) => {
            plan.unknown("the list of profiles", why);
            return plan;
        }
    };
    let seen = profiles.get(&(object.project.clone(), object.name.clone()));
    let mut diff = Diff::new(
        ignore,
        view.entry(object),
        &view.world.secrets,
        seen.is_some(),
    );
    let (no_config, no_devices) = (BTreeMap::new(), Devices::new());
    let config = seen.map_or(&no_config, |p| &p.value.config);
    let merged = diff.config(Owner::Profile, "config", &spec.config, config);
    let description = diff.field(
        "description",
        spec.description.as_deref(),
        seen.map_or("", |p| &p.value.description),
    );
    let devices = devices(
        &mut diff,
        &spec.devices,
        seen.map_or(&no_devices, |p| &p.value.devices),
        || {
            view.entry(object)
                .map(|e| {
                    e.applied
                        .iter()
                        .filter_map(|p| p.strip_prefix("devices.")?.strip_suffix(".type"))
                        .map(str::to_owned)
                        .collect()
                })
                .unwrap_or_default()
        },
    );
    let writable = diff.writable() || seen.is_none();
    diff.finish(&mut plan);
    if !cluster_stands(&mut plan, view) || !writable {
        return plan;
    }
    references(object, &spec.devices, view, &mut plan);
    if !plan.waiting_on.is_empty() {
        return plan;
    }
    let claims = vec![Claim::exclusive(ClaimOn::Object(object.clone()))];
    plan.steps.push(match seen {
        None => Step::new(
            object,
            Action::CreateProfile {
                project: object.project.clone(),
                name: object.name.clone(),
                description,
                config: merged.whole,
                devices,
            },
            claims,
            format!("make profile {}", object.name),
        ),
        Some(seen) => Step::new(
            object,
            Action::PutProfile {
                project: object.project.clone(),
                seen: seen.value.clone(),
                etag: seen.etag.clone(),
                description,
                config: merged.whole,
                devices,
            },
            claims,
            format!("write profile {}", object.name),
        ),
    });
    plan
}

/// Compares devices. A device that was ours and is gone from the YAML goes as a whole; one that
/// somebody else added stays.
fn devices(
    diff: &mut Diff<'_>,
    wanted: &BTreeMap<String, Config>,
    observed: &Devices,
    ours: impl Fn() -> Vec<String>,
) -> BTreeMap<String, Values> {
    let mut result: BTreeMap<String, Values> = observed
        .iter()
        .map(|(name, keys)| {
            let keys = keys
                .iter()
                .map(|(k, v)| (k.clone(), ConfigValue::Plain(v.clone())))
                .collect();
            (name.clone(), keys)
        })
        .collect();
    for (name, keys) in wanted {
        let prefix = format!("devices.{name}");
        if diff.ignores(&prefix) {
            continue;
        }
        let device_type = match keys.get("type") {
            Some(ConfigValue::Plain(text)) => text.as_str(),
            _ => "",
        };
        // A device of another type under the name is replaced as a whole.
        let seen = observed
            .get(name)
            .filter(|now| now.get("type").map(String::as_str) == Some(device_type));
        let merged = diff.part(Owner::Device(device_type), &prefix, keys, seen);
        result.insert(name.clone(), merged.whole);
    }
    for name in ours() {
        let path = format!("devices.{name}");
        if wanted.contains_key(&name) || diff.ignores(&path) {
            continue;
        }
        if let Some(keys) = observed.get(&name) {
            let shown = keys.get("type").map_or("device", String::as_str);
            diff.changes.push(Change::new(path, Some(shown), None));
            result.remove(&name);
        }
    }
    result
}

/// What the devices and the profile itself refer to must be there first: LXD refuses otherwise.
fn references(
    object: &ObjectRef,
    devices: &BTreeMap<String, Config>,
    view: &View<'_>,
    plan: &mut Plan,
) {
    let world = &view.world.lxd;
    if object.project != DEFAULT_PROJECT
        && let Ok(projects) = world.projects.get()
        && !projects.contains_key(&object.project)
    {
        missing(
            ObjectRef::new(Kind::Project, object.project.clone()),
            view,
            plan,
        );
    }
    for keys in devices.values() {
        let text = |key: &str| match keys.get(key) {
            Some(ConfigValue::Plain(text)) => Some(text.clone()),
            _ => None,
        };
        match text("type").as_deref() {
            Some("disk") => {
                let Some(pool) = text("pool") else { continue };
                let found = world.pools.known().map(|pools| {
                    pools
                        .get(&pool)
                        .is_some_and(|p| p.whole.value.status == "Created")
                });
                if found == Some(false) {
                    missing(ObjectRef::new(Kind::StoragePool, pool), view, plan);
                }
            }
            Some("nic") => {
                let Some(network) = text("network") else {
                    continue;
                };
                let found = world.networks.known().map(|networks| {
                    let in_project = |project: &str| {
                        networks
                            .get(&(project.to_owned(), network.clone()))
                            .is_some_and(|n| n.whole.value.status == "Created")
                    };
                    in_project(&object.project) || in_project(DEFAULT_PROJECT)
                });
                if found == Some(false) {
                    let own =
                        ObjectRef::in_project(Kind::Network, &*object.project, network.clone());
                    let reference = if view.desired.resources.contains_key(&own) {
                        own
                    } else {
                        ObjectRef::new(Kind::Network, network)
                    };
                    missing(reference, view, plan);
                }
            }
            _ => {}
        }
    }
}

fn missing(reference: ObjectRef, view: &View<'_>, plan: &mut Plan) {
    let message = if view.desired.resources.contains_key(&reference) {
        format!("{reference} is not there yet")
    } else {
        format!("{reference} is not there and no resource makes it")
    };
    plan.wait(Topic::Object(reference), reasons::DEPENDENCY, message);
}
