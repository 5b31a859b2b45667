//! `Network`: bridges, fans and OVN networks, and the creation both networks and uplinks share.

use super::diff::{Diff, Ignore};
use super::half_made;
use super::member::joiners;
use super::step::{Action, Claim, ClaimOn, Step, Values};
use super::{Change, Plan, Topic, View, cluster_stands, ovn, reasons, uplink};
use crate::catalog::Owner;
use crate::reconcile::safety;
use crate::reconcile::world::Spread;
use crate::resources::kinds::{NetworkSpec, NetworkType};
use crate::resources::object::DEFAULT_PROJECT;
use crate::resources::value::{Config, ConfigValue};
use crate::resources::{Kind, ObjectRef, Spec};
use crate::services::host::{HalfMade, HostReport};
use crate::services::lxd::types::Network;
use std::collections::BTreeMap;

/// A network as LXD is to have it.
pub(super) struct Wanted {
    /// LXD's type.
    pub network_type: &'static str,
    /// What it is for, when it is held.
    pub description: Option<String>,
    /// Keys of the whole network.
    pub config: Config,
    /// Keys by member.
    pub members: BTreeMap<String, Config>,
    /// Whether each member is defined before the network is made.
    pub two_phases: bool,
}

pub(super) fn plan(
    object: &ObjectRef,
    spec: &NetworkSpec,
    ignore: &Ignore,
    view: &View<'_>,
) -> Plan {
    let mut plan = plan_wanted(object, &wanted(spec), ignore, view);
    if spec.network_type == NetworkType::Ovn {
        if plan.settled() {
            ovn::network_health(object, view, &mut plan);
        } else if !plan.steps.is_empty() {
            ovn::network_waits(view, &mut plan);
            if !plan.waiting_on.is_empty() {
                plan.steps.clear();
            }
        }
    }
    if let Some(name) = &spec.uplink {
        let key = (DEFAULT_PROJECT.to_owned(), name.clone());
        let there = view.world.lxd.networks.known().is_some_and(|n| {
            n.get(&key)
                .is_some_and(|n| n.whole.value.status == "Created")
        });
        if !there && !plan.steps.is_empty() {
            plan.steps.clear();
            plan.wait(
                Topic::Object(ObjectRef::new(Kind::Uplink, name.clone())),
                reasons::DEPENDENCY,
                format!("Uplink/{name} is not there yet"),
            );
        }
    }
    plan
}

fn wanted(spec: &NetworkSpec) -> Wanted {
    let mut config = spec.config.clone();
    let network_type = match spec.network_type {
        NetworkType::Bridge => "bridge",
        NetworkType::Fan => {
            config
                .entry("bridge.mode".to_owned())
                .or_insert_with(|| "fan".into());
            "bridge"
        }
        NetworkType::Ovn => {
            if let Some(uplink) = &spec.uplink {
                config.insert("network".to_owned(), ConfigValue::Plain(uplink.clone()));
            }
            "ovn"
        }
    };
    Wanted {
        network_type,
        description: spec.description.clone(),
        config,
        members: spec.members.clone(),
        two_phases: spec.network_type != NetworkType::Ovn,
    }
}

/// What a joiner gives to a network the cluster has, if a resource says so.
pub(super) fn keys_of_member(
    project: &str,
    name: &str,
    member: &str,
    view: &View<'_>,
) -> Option<Values> {
    let network = ObjectRef::in_project(Kind::Network, project, name);
    if let Some(resource) = view.desired.resources.get(&network)
        && let Spec::Network(spec) = &resource.spec
    {
        return spec.members.get(member).cloned();
    }
    let reference = ObjectRef::new(Kind::Uplink, name);
    match &view.desired.resources.get(&reference)?.spec {
        Spec::Uplink(spec) => uplink::keys_of(spec, member),
        _ => None,
    }
}

/// Plans a network of any type.
pub(super) fn plan_wanted(
    object: &ObjectRef,
    wanted: &Wanted,
    ignore: &Ignore,
    view: &View<'_>,
) -> Plan {
    let mut plan = Plan::nothing(object);
    let networks = match view.world.lxd.networks.get() {
        Ok(networks) => networks,
        Err(why) => {
            plan.unknown("the list of networks", why);
            return plan;
        }
    };
    match networks.get(&(object.project.clone(), object.name.clone())) {
        Some(seen) if !seen.whole.value.managed => plan.refuse(
            reasons::TYPE,
            format!(
                "{} is an interface of a machine that LXD does not manage: give the network \
                 another name",
                object.name
            ),
        ),
        Some(seen) if seen.whole.value.status == "Created" => {
            update(object, wanted, seen, ignore, view, &mut plan);
        }
        other => create(object, wanted, other, ignore, view, &mut plan),
    }
    plan
}

fn create(
    object: &ObjectRef,
    wanted: &Wanted,
    seen: Option<&Spread<Network>>,
    ignore: &Ignore,
    view: &View<'_>,
    plan: &mut Plan,
) {
    let mut diff = Diff::new(ignore, view.entry(object), &view.world.secrets, false);
    diff.changes
        .push(Change::new("type", None, Some(wanted.network_type)));
    let owner = Owner::Network(wanted.network_type);
    let merged = diff.config(owner, "config", &wanted.config, &BTreeMap::new());
    let description = diff.field("description", wanted.description.as_deref(), "");
    let readable = diff.writable();
    diff.finish(plan);
    if let Some(record) = &mut plan.record {
        record.exists = seen.is_some();
    }
    if !cluster_stands(plan, view) {
        return;
    }
    if seen.is_none() {
        plan.waiting_on.extend(joiners(view));
        project_of(object, view, plan);
    }
    if let Some(waiting) = safety::all_members_online(view) {
        plan.waiting_on.push(waiting);
    }
    if !plan.waiting_on.is_empty() || !readable {
        return;
    }
    let members = match view.world.lxd.members.get() {
        Ok(members) => members,
        Err(why) => return plan.unknown("the list of members", why),
    };
    let claims = || {
        vec![
            Claim::exclusive(ClaimOn::Object(object.clone())),
            Claim::shared(ClaimOn::Membership),
        ]
    };
    let errored = seen.is_some_and(|n| n.whole.value.status == "Errored");
    if wanted.two_phases {
        let defined: &[String] = seen.map_or(&[], |n| &n.whole.value.locations);
        if errored && let Some(member) = members.keys().find(|m| !defined.contains(m)) {
            return plan.refuse(
                reasons::ERRORED,
                format!(
                    "{object} is only half made and has no part on {member}, and LXD gives it none \
                     any more: delete it (lxc network delete {}) and it is made anew",
                    object.name
                ),
            );
        }
        for member in members.keys().filter(|m| !defined.contains(m)) {
            plan.steps.push(Step::new(
                object,
                Action::DefineNetwork {
                    project: object.project.clone(),
                    name: object.name.clone(),
                    network_type: wanted.network_type.to_owned(),
                    member: member.clone(),
                    config: wanted.members.get(member).cloned().unwrap_or_default(),
                },
                claims(),
                format!("define network {} on {member}", object.name),
            ));
        }
    }
    if wanted.two_phases && seen.is_some() {
        let left = |report: &HostReport| {
            let mut interfaces = report.interfaces.iter();
            interfaces.any(|i| i.name == object.name && i.kind == "bridge")
        };
        let what = |_: &str| HalfMade::Bridge {
            project: object.project.clone(),
            network: object.name.clone(),
        };
        plan.steps
            .extend(half_made::clearing(object, left, what, view));
    }
    // A type without a first phase cannot be made a second time.
    let anew = errored && !wanted.two_phases;
    if anew {
        plan.steps.push(Step::new(
            object,
            Action::DropErroredNetwork {
                project: object.project.clone(),
                name: object.name.clone(),
            },
            claims(),
            format!(
                "drop network {}, which was never made to its end",
                object.name
            ),
        ));
    }
    let (description, config) = if errored && !anew {
        (String::new(), Values::new())
    } else {
        (description, merged.whole)
    };
    plan.steps.push(Step::new(
        object,
        Action::CreateNetwork {
            project: object.project.clone(),
            name: object.name.clone(),
            network_type: wanted.network_type.to_owned(),
            description,
            config,
        },
        claims(),
        format!("make network {}", object.name),
    ));
}

/// The project an object lives in must be there first.
fn project_of(object: &ObjectRef, view: &View<'_>, plan: &mut Plan) {
    if object.project == DEFAULT_PROJECT {
        return;
    }
    let Some(projects) = view.world.lxd.projects.known() else {
        return;
    };
    if !projects.contains_key(&object.project) {
        let project = ObjectRef::new(Kind::Project, object.project.clone());
        plan.wait(
            Topic::Object(project.clone()),
            reasons::DEPENDENCY,
            format!("{project} is not there yet"),
        );
    }
}

fn update(
    object: &ObjectRef,
    wanted: &Wanted,
    seen: &Spread<Network>,
    ignore: &Ignore,
    view: &View<'_>,
    plan: &mut Plan,
) {
    let network = &seen.whole.value;
    let owner = Owner::Network(wanted.network_type);
    let mut diff = Diff::new(ignore, view.entry(object), &view.world.secrets, true);
    if network.network_type != wanted.network_type {
        diff.cannot_change("type", &network.network_type, wanted.network_type);
    }
    let merged = diff.config(owner, "config", &wanted.config, &network.config);
    let description = diff.field(
        "description",
        wanted.description.as_deref(),
        &network.description,
    );
    let claims = || {
        vec![
            Claim::exclusive(ClaimOn::Object(object.clone())),
            Claim::shared(ClaimOn::Membership),
        ]
    };
    let mut steps = Vec::new();
    if diff.writable() {
        steps.push(Step::new(
            object,
            Action::PutNetwork {
                project: object.project.clone(),
                seen: network.clone(),
                etag: seen.whole.etag.clone(),
                target: None,
                description,
                config: merged.whole,
            },
            claims(),
            format!("write network {}", object.name),
        ));
    }
    for (member, part) in &seen.members {
        let (Some(part), Some(keys)) = (part.known(), wanted.members.get(member)) else {
            continue;
        };
        let before = diff.changes.len();
        let prefix = format!("members.{member}");
        let merged = diff.config(owner, &prefix, keys, &part.config);
        if diff.changes.len() > before {
            steps.push(Step::new(
                object,
                Action::PutNetwork {
                    project: object.project.clone(),
                    seen: part.clone(),
                    etag: None,
                    target: Some(member.clone()),
                    description: part.description.clone(),
                    config: merged.whole,
                },
                claims(),
                format!("write network {} on {member}", object.name),
            ));
        }
    }
    diff.finish(plan);
    // Another kind of thing under the name is not written to.
    if network.network_type != wanted.network_type {
        steps.clear();
    }
    if !cluster_stands(plan, view) || steps.is_empty() {
        return;
    }
    if let Some(waiting) = safety::all_members_online(view) {
        plan.waiting_on.push(waiting);
        return;
    }
    plan.steps = steps;
}
