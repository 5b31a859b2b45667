//! `StoragePool`: the two-phase creation on all members, and what is held afterwards.

use super::ceph::pool as ceph_pool;
use super::diff::{Diff, Ignore, Verb};
use super::half_made;
use super::member::joiners;
use super::step::{Action, Claim, ClaimOn, Step, Values};
use super::{Change, Plan, Topic, View, Waiting, cluster_stands, reasons, volumes};
use crate::catalog::Owner;
use crate::reconcile::desired::Desired;
use crate::reconcile::safety;
use crate::reconcile::world::Spread;
use crate::resources::kinds::{DiskSpec, DiskUse, StoragePoolSpec};
use crate::resources::value::{Config, ConfigValue, Presence};
use crate::resources::{Kind, ObjectRef, Spec};
use crate::services::host::{HalfMade, HostReport, LxdReport, WipeDisk};
use crate::services::lxd::types::{MemberConfigKey, Pool};
use std::collections::BTreeMap;

pub(super) fn plan(
    object: &ObjectRef,
    spec: &StoragePoolSpec,
    ignore: &Ignore,
    view: &View<'_>,
) -> Plan {
    let mut plan = Plan::nothing(object);
    let pools = match view.world.lxd.pools.get() {
        Ok(pools) => pools,
        Err(why) => {
            plan.unknown("the list of storage pools", why);
            return plan;
        }
    };
    let seen = pools.get(&object.name);
    let whole = spec;
    let spec = &ceph_pool::effective(whole, view);
    if spec.state == Presence::Absent {
        if let Some(seen) = seen {
            remove(object, spec, &seen.whole.value, view, &mut plan);
        }
        return plan;
    }
    match seen {
        Some(seen) if seen.whole.value.status == "Created" => {
            update(object, spec, seen, ignore, view, &mut plan);
            ceph_pool::hold(object, whole, &seen.whole.value, view, &mut plan);
            volumes::make(object, spec, &seen.whole.value, view, &mut plan);
        }
        other => {
            create(object, spec, other, ignore, view, &mut plan);
            before_create(object, whole, view, &mut plan);
        }
    }
    plan
}

/// What Ceph must have before LXD makes a pool on it.
fn before_create(object: &ObjectRef, spec: &StoragePoolSpec, view: &View<'_>, plan: &mut Plan) {
    if plan.steps.is_empty() {
        return;
    }
    let steps = std::mem::take(&mut plan.steps);
    ceph_pool::before(object, spec, view, plan);
    if plan.waiting_on.is_empty() && plan.refused.is_empty() {
        plan.steps.extend(steps);
    } else {
        plan.steps.clear();
    }
}

/// The step whose approval allows a pool to be deleted.
pub(super) fn deletion(object: &ObjectRef) -> String {
    format!("{object}/delete@{}", object.name)
}

fn remove(
    object: &ObjectRef,
    spec: &StoragePoolSpec,
    seen: &Pool,
    view: &View<'_>,
    plan: &mut Plan,
) {
    plan.verb = Verb::Delete;
    let used_by = volumes::other_users(spec, seen);
    if !used_by.is_empty() {
        plan.wait(
            Topic::Object(object.clone()),
            reasons::IN_USE,
            format!(
                "{} is still used by {}",
                object.name,
                safety::used_by(&used_by)
            ),
        );
        return;
    }
    if let Some(waiting) = safety::all_members_online(view) {
        plan.waiting_on.push(waiting);
        return;
    }
    let approval = deletion(object);
    if !view.memory.approved(&approval, view.now) {
        plan.needs_approval(
            approval,
            format!(
                "deleting {} destroys what it holds on every member",
                object.name
            ),
        );
        return;
    }
    if !seen.used_by.is_empty() {
        return volumes::with_pool(object, spec, seen, view, plan);
    }
    let mut step = Step::new(
        object,
        Action::DeletePool {
            name: object.name.clone(),
        },
        vec![
            Claim::exclusive(ClaimOn::Object(object.clone())),
            Claim::shared(ClaimOn::Membership),
        ],
        format!("delete pool {}", object.name),
    );
    step.approval = Some(approval);
    plan.steps.push(step);
}

fn create(
    object: &ObjectRef,
    spec: &StoragePoolSpec,
    seen: Option<&Spread<Pool>>,
    ignore: &Ignore,
    view: &View<'_>,
    plan: &mut Plan,
) {
    let mut diff = Diff::new(ignore, view.entry(object), &view.world.secrets, false);
    diff.changes
        .push(Change::new("driver", None, Some(&spec.driver)));
    let merged = diff.config(
        Owner::Pool(&spec.driver),
        "config",
        &spec.config,
        &BTreeMap::new(),
    );
    let description = diff.field("description", spec.description.as_deref(), "");
    for (member, wanted) in &spec.members {
        let source = wanted.source.as_deref();
        if let Some(source) = source {
            diff.changes.push(Change::new(
                format!("members.{member}.source"),
                None,
                Some(source),
            ));
        }
        if let Some(size) = wanted.size.as_deref() {
            diff.changes.push(Change::new(
                format!("members.{member}.size"),
                None,
                Some(size),
            ));
        }
    }
    let readable = diff.writable();
    diff.finish(plan);
    if let Some(record) = &mut plan.record {
        record.exists = seen.is_some();
    }
    if !cluster_stands(plan, view) {
        return;
    }
    let Ok(server) = view.world.lxd.server.get() else {
        return;
    };
    if !server.drivers.is_empty() && !server.drivers.contains(&spec.driver) {
        plan.refuse(
            reasons::UNSUPPORTED,
            format!(
                "{} has no storage driver {}: its drivers are {}",
                server.name,
                spec.driver,
                server
                    .drivers
                    .iter()
                    .map(String::as_str)
                    .collect::<Vec<_>>()
                    .join(", ")
            ),
        );
        return;
    }
    let status = seen.map_or("", |p| p.whole.value.status.as_str());
    if status.is_empty() {
        plan.waiting_on.extend(joiners(view));
    }
    if let Some(waiting) = safety::all_members_online(view) {
        plan.waiting_on.push(waiting);
    }
    if !plan.waiting_on.is_empty() || !readable {
        return;
    }
    phases(object, spec, seen, description, merged.whole, view, plan);
}

fn phases(
    object: &ObjectRef,
    spec: &StoragePoolSpec,
    seen: Option<&Spread<Pool>>,
    description: String,
    config: Values,
    view: &View<'_>,
    plan: &mut Plan,
) {
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
    let defined: &[String] = seen.map_or(&[], |p| &p.whole.value.locations);
    let errored = seen.is_some_and(|p| p.whole.value.status == "Errored");
    if errored && let Some(member) = members.keys().find(|m| !defined.contains(m)) {
        return plan.refuse(
            reasons::ERRORED,
            format!(
                "{object} is only half made and has no part on {member}, and LXD gives it none any \
                 more: delete it (lxc storage delete {}) and it is made anew",
                object.name
            ),
        );
    }
    let mut steps = Vec::new();
    for member in members.keys().filter(|m| !defined.contains(m)) {
        match member_keys(object, spec, member, view) {
            Ok(config) => steps.push(Step::new(
                object,
                Action::DefinePool {
                    name: object.name.clone(),
                    driver: spec.driver.clone(),
                    member: member.clone(),
                    config,
                },
                claims(),
                format!("define pool {} on {member}", object.name),
            )),
            Err(waiting) => plan.waiting_on.push(waiting),
        }
    }
    if !plan.waiting_on.is_empty() {
        return;
    }
    if seen.is_some() {
        steps.extend(clear_what_is_left(object, spec, view));
    }
    // LXD has the configuration of the first attempt and refuses another one.
    let (description, config) = if errored {
        (String::new(), Values::new())
    } else {
        (description, config)
    };
    steps.push(Step::new(
        object,
        Action::CreatePool {
            name: object.name.clone(),
            driver: spec.driver.clone(),
            description,
            config,
        },
        claims(),
        format!("make pool {}", object.name),
    ));
    plan.steps = steps;
}

/// LXD refuses to begin again where the pool's directory is.
fn clear_what_is_left(object: &ObjectRef, spec: &StoragePoolSpec, view: &View<'_>) -> Vec<Step> {
    let left = |report: &HostReport| match &report.lxd {
        LxdReport::Running(lxd) => lxd.pool_directories.contains(&object.name),
        _ => false,
    };
    let what = |member: &str| HalfMade::Pool {
        pool: object.name.clone(),
        driver: spec.driver.clone(),
        disk: disk_for(&object.name, member, view)
            .and_then(|(reference, _)| view.memory.disks.get(reference)?.get(member))
            .filter(|choice| choice.handed_over)
            .map(|choice| WipeDisk {
                path: choice.path.clone(),
                serial: choice.serial.clone(),
                size: choice.size,
            }),
    };
    half_made::clearing(object, left, what, view)
}

fn update(
    object: &ObjectRef,
    spec: &StoragePoolSpec,
    seen: &Spread<Pool>,
    ignore: &Ignore,
    view: &View<'_>,
    plan: &mut Plan,
) {
    let pool = &seen.whole.value;
    let owner = Owner::Pool(&spec.driver);
    let mut diff = Diff::new(ignore, view.entry(object), &view.world.secrets, true);
    if pool.driver != spec.driver {
        diff.cannot_change("driver", &pool.driver, &spec.driver);
    }
    let merged = diff.config(owner, "config", &spec.config, &pool.config);
    let description = diff.field(
        "description",
        spec.description.as_deref(),
        &pool.description,
    );
    let whole_differs = diff.writable();
    let claims = || {
        vec![
            Claim::exclusive(ClaimOn::Object(object.clone())),
            Claim::shared(ClaimOn::Membership),
        ]
    };
    let mut steps = Vec::new();
    if whole_differs {
        steps.push(Step::new(
            object,
            Action::PutPool {
                seen: pool.clone(),
                etag: seen.whole.etag.clone(),
                target: None,
                description,
                config: merged.whole,
            },
            claims(),
            format!("write pool {}", object.name),
        ));
    }
    for (member, part) in &seen.members {
        let Some(part) = part.known() else { continue };
        let Ok(mut wanted) = member_keys(object, spec, member, view) else {
            continue;
        };
        let prefix = format!("members.{member}");
        if let Some(ConfigValue::Plain(source)) = wanted.remove("source") {
            compare_source(&mut diff, &prefix, &source, part, member, view);
        }
        let before = diff.changes.len();
        let wanted: Config = wanted;
        let merged = diff.config(owner, &prefix, &wanted, &part.config);
        if diff.changes.len() > before {
            steps.push(Step::new(
                object,
                Action::PutPool {
                    seen: part.clone(),
                    etag: None,
                    target: Some(member.clone()),
                    description: part.description.clone(),
                    config: merged.whole,
                },
                claims(),
                format!("write pool {} on {member}", object.name),
            ));
        }
    }
    diff.finish(plan);
    // Another kind of thing under the name is not written to.
    if pool.driver != spec.driver {
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

/// The source a pool was made from cannot change; LXD rewrites the key and keeps the first value.
fn compare_source(
    diff: &mut Diff<'_>,
    prefix: &str,
    wanted: &str,
    part: &Pool,
    member: &str,
    view: &View<'_>,
) {
    let path = format!("{prefix}.source");
    if diff.ignores(&path) {
        return;
    }
    diff.manage(path.clone());
    let first = part
        .config
        .get("volatile.initial_source")
        .or(part.config.get("source"));
    let Some(first) = first else { return };
    if !same_device(wanted, first, member, view)
        && part
            .config
            .get("source")
            .is_none_or(|now| !same_device(wanted, now, member, view))
    {
        diff.cannot_change(&path, first, wanted);
    }
}

/// Whether two paths lead to one device of a member.
pub(super) fn same_device(a: &str, b: &str, member: &str, view: &View<'_>) -> bool {
    if a == b {
        return true;
    }
    let report = view.world.hosts.get(member).and_then(|h| h.report.known());
    report.is_some_and(|report| {
        report.disks.iter().any(|disk| {
            let leads = |path: &str| {
                disk.path == path
                    || disk.links.iter().any(|l| l == path)
                    || path.strip_prefix("/dev/") == Some(&disk.name)
            };
            leads(a) && leads(b)
        })
    })
}

/// The `Disk` resource that supplies a pool's source on a member.
fn disk_for<'a>(
    pool: &str,
    member: &str,
    view: &View<'a>,
) -> Option<(&'a ObjectRef, &'a DiskSpec)> {
    view.desired
        .of_kind(Kind::Disk)
        .find_map(|(reference, resource)| match &resource.spec {
            Spec::Disk(disk)
                if disk.usage == DiskUse::Pool(pool.to_owned())
                    && disk.state == Presence::Present
                    && on_member(disk, member) =>
            {
                Some((reference, disk))
            }
            _ => None,
        })
}

/// Whether any `Disk` supplies a pool.
pub(super) fn has_disks(pool: &str, desired: &Desired) -> bool {
    desired.of_kind(Kind::Disk).any(|(_, resource)| {
        matches!(&resource.spec, Spec::Disk(d) if d.usage == DiskUse::Pool(pool.to_owned()))
    })
}

/// Whether a `Disk` speaks of a member.
pub(super) fn on_member(disk: &DiskSpec, member: &str) -> bool {
    disk.member.as_deref() == Some(member)
        || disk
            .members
            .as_ref()
            .is_some_and(|names| names.iter().any(|n| n == member))
}

/// What a member gives to a pool, or what must happen before that is known.
pub(super) fn member_keys(
    pool: &ObjectRef,
    spec: &StoragePoolSpec,
    member: &str,
    view: &View<'_>,
) -> Result<Values, Waiting> {
    let mut keys = Values::new();
    if let Some(source) = ceph_pool::source(&pool.name, spec, view) {
        keys.insert("source".to_owned(), ConfigValue::Plain(source));
    }
    if let Some(own) = spec.members.get(member) {
        keys.extend(own.config.clone());
        if let Some(source) = &own.source {
            keys.insert("source".to_owned(), ConfigValue::Plain(source.clone()));
        }
        if let Some(size) = &own.size {
            keys.insert("size".to_owned(), ConfigValue::Plain(size.clone()));
        }
    }
    if let Some((reference, _)) = disk_for(&pool.name, member, view) {
        let choice = view
            .memory
            .disks
            .get(reference)
            .and_then(|choices| choices.get(member))
            .filter(|choice| choice.handed_over);
        match choice {
            Some(choice) => {
                keys.insert("source".to_owned(), ConfigValue::Plain(choice.path.clone()));
            }
            None => {
                return Err(Waiting {
                    on: Topic::Object(reference.clone()),
                    reason: reasons::DEPENDENCY.to_owned(),
                    message: format!("{reference} has no disk for {pool} on {member} yet"),
                });
            }
        }
    }
    Ok(keys)
}

/// What a joiner gives to the pools and networks the cluster has.
pub(super) fn keys_of_joiner(
    member: &str,
    view: &View<'_>,
) -> Result<Vec<MemberConfigKey>, Waiting> {
    let mut keys = Vec::new();
    let mut add = |entity: &str, name: &str, values: &Values| {
        for (key, value) in values {
            if let ConfigValue::Plain(value) = value {
                keys.push(MemberConfigKey {
                    entity: entity.to_owned(),
                    name: name.to_owned(),
                    key: key.clone(),
                    value: value.clone(),
                    description: String::new(),
                });
            }
        }
    };
    for name in view
        .world
        .lxd
        .pools
        .known()
        .into_iter()
        .flat_map(BTreeMap::keys)
    {
        let reference = ObjectRef::new(Kind::StoragePool, name.clone());
        let Some(resource) = view.desired.resources.get(&reference) else {
            continue;
        };
        if let Spec::StoragePool(spec) = &resource.spec {
            add(
                "storage-pool",
                name,
                &member_keys(&reference, spec, member, view)?,
            );
        }
    }
    for (project, name) in view
        .world
        .lxd
        .networks
        .known()
        .into_iter()
        .flat_map(BTreeMap::keys)
    {
        if let Some(values) = super::network::keys_of_member(project, name, member, view) {
            add("network", name, &values);
        }
    }
    Ok(keys)
}
