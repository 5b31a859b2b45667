//! Storage pools on Ceph: what must be there before LXD makes one, and how Ceph's own pools below
//! it are held.

use super::copies::{Domain, copies, domain};
use super::health;
use super::{mark, packaged, report};
use crate::reconcile::plan::step::{Action, CephChange, Claim, ClaimOn, Step};
use crate::reconcile::plan::{Change, Plan, Topic, View, Waiting, reasons};
use crate::resources::kinds::StoragePoolSpec;
use crate::resources::value::ConfigValue;
use crate::resources::{Kind, ObjectRef};
use crate::services::ceph::{CephCluster, CephPool};
use crate::services::lxd::types::Pool;

/// The API extension from which on LXD makes the file system itself.
const MAKES_FILESYSTEM: &str = "storage_cephfs_create_missing";

/// The API extension from which on no member names a source.
const NO_SOURCE: &str = "storage_remote_drop_source";

/// Keys of a `cephfs` pool that only a server with [`MAKES_FILESYSTEM`] takes.
const FILESYSTEM_KEYS: [&str; 4] = [
    "cephfs.create_missing",
    "cephfs.data_pool",
    "cephfs.meta_pool",
    "cephfs.osd_pg_num",
];

/// Placement groups of the pools of a file system.
const PG_NUM: u32 = 32;

/// Whether a pool is on the Ceph that this program runs.
fn ours(driver: &str, view: &View<'_>) -> bool {
    matches!(driver, "ceph" | "cephfs") && packaged(view.desired).is_some()
}

fn plain(spec: &StoragePoolSpec, key: &str) -> Option<String> {
    match spec.config.get(key) {
        Some(ConfigValue::Plain(value)) if !value.is_empty() => Some(value.clone()),
        _ => None,
    }
}

/// The file system and the folder in it.
fn filesystem(name: &str, spec: &StoragePoolSpec) -> String {
    let path = plain(spec, "cephfs.path").unwrap_or_else(|| name.to_owned());
    path.trim_matches('/')
        .split('/')
        .next()
        .unwrap_or(name)
        .to_owned()
}

fn osd_pool(name: &str, spec: &StoragePoolSpec) -> String {
    plain(spec, "ceph.osd.pool_name").unwrap_or_else(|| name.to_owned())
}

/// The resource as this server takes it: older ones know fewer keys.
pub(in crate::reconcile::plan) fn effective(
    spec: &StoragePoolSpec,
    view: &View<'_>,
) -> StoragePoolSpec {
    let mut spec = spec.clone();
    if spec.driver == "cephfs" && ours(&spec.driver, view) && !view.world.lxd.has(MAKES_FILESYSTEM)
    {
        spec.config
            .retain(|key, _| !FILESYSTEM_KEYS.contains(&key.as_str()));
    }
    spec
}

/// What a member names as the source on a server that wants one.
pub(in crate::reconcile::plan) fn source(
    name: &str,
    spec: &StoragePoolSpec,
    view: &View<'_>,
) -> Option<String> {
    if view.world.lxd.has(NO_SOURCE) {
        return None;
    }
    match spec.driver.as_str() {
        "ceph" => Some(osd_pool(name, spec)),
        "cephfs" => Some(plain(spec, "cephfs.path").unwrap_or_else(|| name.to_owned())),
        _ => None,
    }
}

/// What must be there before LXD makes a pool; adds what is waited for, or the steps that come
/// first.
pub(in crate::reconcile::plan) fn before(
    object: &ObjectRef,
    spec: &StoragePoolSpec,
    view: &View<'_>,
    plan: &mut Plan,
) {
    if !ours(&spec.driver, view) {
        return;
    }
    let Some((cluster_ref, _)) = view.desired.cluster() else {
        return;
    };
    let wait = |plan: &mut Plan, on: Topic, message: String| {
        plan.waiting_on.push(Waiting {
            on,
            reason: reasons::DEPENDENCY.to_owned(),
            message,
        });
    };
    let on_cluster = || Topic::Object(cluster_ref.clone());
    let cluster = match super::cluster(view) {
        Ok(cluster) => cluster,
        Err(why) => {
            let message = format!("Ceph is not there yet, or cannot be read: {why}");
            return wait(plan, on_cluster(), message);
        }
    };
    let members = view.world.lxd.members.known();
    for name in members.into_iter().flat_map(|m| m.keys()) {
        if report(name, view).is_none_or(|r| !r.admin || r.fsid != cluster.fsid) {
            let member = ObjectRef::new(Kind::Member, name.clone());
            let message = format!("{member} has no access to Ceph yet");
            wait(plan, Topic::Object(member), message);
        }
    }
    let Some(copies) = copies(cluster, view) else {
        return wait(
            plan,
            Topic::World,
            "Ceph has not enough OSDs on different members yet".to_owned(),
        );
    };
    let up = cluster.osds.values().filter(|o| o.up && o.in_).count();
    if up < usize::try_from(copies).unwrap_or(1) {
        let message = format!("{up} OSDs are up and {copies} copies are to be kept");
        return wait(plan, Topic::World, message);
    }
    let domain = domain(cluster, copies, view);
    let rule = cluster.rules.get(domain.rule()).map(|r| r.id.to_string());
    let said = |key: &str| cluster.config("global", key);
    if said("osd_pool_default_size") != Some(&copies.to_string())
        || rule.is_none()
        || said("osd_pool_default_crush_rule") != rule.as_deref()
    {
        let message = format!("{cluster_ref} says first how Ceph keeps copies");
        return wait(plan, on_cluster(), message);
    }
    if let Some(why) = health::holds_up(cluster) {
        return wait(plan, Topic::World, why);
    }
    if spec.driver == "cephfs" {
        if !cluster
            .mds
            .values()
            .any(|state| state == "standby" || state == "active")
        {
            let message = "no metadata server of Ceph runs yet".to_owned();
            return wait(plan, Topic::World, message);
        }
        if plan.waiting_on.is_empty() && !view.world.lxd.has(MAKES_FILESYSTEM) {
            make_filesystem(object, spec, domain, cluster, plan);
        }
    }
}

/// What an older server does not do itself, when it is asked to.
fn make_filesystem(
    object: &ObjectRef,
    spec: &StoragePoolSpec,
    domain: Domain,
    cluster: &CephCluster,
    plan: &mut Plan,
) {
    let name = filesystem(&object.name, spec);
    if cluster.filesystems.iter().any(|f| f.name == name) {
        return;
    }
    if plain(spec, "cephfs.create_missing").as_deref() != Some("true") {
        plan.refuse(
            reasons::DEPENDENCY,
            format!(
                "Ceph has no file system {name}: make it, or write cephfs.create_missing: true \
                 with cephfs.meta_pool and cephfs.data_pool"
            ),
        );
        return;
    }
    let meta = plain(spec, "cephfs.meta_pool").unwrap_or_else(|| format!("{name}_meta"));
    let data = plain(spec, "cephfs.data_pool").unwrap_or_else(|| format!("{name}_data"));
    let pg_num = plain(spec, "cephfs.osd_pg_num")
        .and_then(|n| n.parse().ok())
        .unwrap_or(PG_NUM);
    let claims = || {
        vec![
            Claim::exclusive(ClaimOn::Object(object.clone())),
            Claim::exclusive(ClaimOn::Ceph),
        ]
    };
    for pool in [&meta, &data] {
        if !cluster.pools.contains_key(pool) {
            let change = CephChange::CreatePool {
                pool: pool.clone(),
                pg_num,
                rule: domain.rule().to_owned(),
                application: "cephfs".to_owned(),
            };
            plan.steps.push(Step::new(
                object,
                Action::Ceph { change },
                claims(),
                format!("make Ceph's pool {pool}"),
            ));
        }
    }
    plan.steps.push(Step::new(
        object,
        Action::Ceph {
            change: CephChange::CreateFilesystem {
                name: name.clone(),
                metadata: meta,
                data,
            },
        },
        claims(),
        format!("make Ceph's file system {name}"),
    ));
}

/// Adds what is held of Ceph's own pools below a storage pool that is there.
pub(in crate::reconcile::plan) fn hold(
    object: &ObjectRef,
    spec: &StoragePoolSpec,
    seen: &Pool,
    view: &View<'_>,
    plan: &mut Plan,
) {
    if !ours(&spec.driver, view) || seen.driver != spec.driver {
        return;
    }
    let cluster = match super::cluster(view) {
        Ok(cluster) => cluster,
        Err(why) => return plan.unknown("Ceph", &why),
    };
    let gone = |what: String, plan: &mut Plan| {
        plan.refuse(
            reasons::CEPH_POOL_GONE,
            format!(
                "{what} is gone from Ceph, and with it all that {} held: it is not made again \
                 over what may be restored; restore it, or delete the storage pool",
                object.name
            ),
        );
    };
    let mut pools: Vec<&String> = Vec::new();
    if spec.driver == "ceph" {
        let wanted = seen
            .config
            .get("ceph.osd.pool_name")
            .cloned()
            .unwrap_or_else(|| osd_pool(&object.name, spec));
        match cluster.pools.get_key_value(&wanted) {
            Some((name, _)) => pools.push(name),
            None => return gone(format!("the pool {wanted}"), plan),
        }
    } else {
        let wanted = filesystem(&object.name, spec);
        let Some(fs) = cluster.filesystems.iter().find(|f| f.name == wanted) else {
            return gone(format!("the file system {wanted}"), plan);
        };
        pools.extend(
            cluster
                .pools
                .iter()
                .filter(|(_, p)| p.id == fs.metadata_pool || fs.data_pools.contains(&p.id))
                .map(|(name, _)| name),
        );
    }
    let own = ["ceph.osd.pool_size", "cephfs.osd_pool_size"]
        .into_iter()
        .find_map(|key| plain(spec, key)?.parse().ok());
    let Some(copies) = own.or(copies(cluster, view)) else {
        return;
    };
    health::of_pools(&pools, cluster, plan);
    for name in pools {
        if let Some(pool) = cluster.pools.get(name)
            && let Some(steps) = held(object, name, pool, copies, cluster, view, plan)
        {
            plan.steps.extend(steps);
        }
        if spec.driver == "ceph" {
            finish(object, name, cluster, plan);
        }
    }
}

/// LXD makes a pool and then says what it is for. When power goes in between, the pool is there
/// when it is asked to make it again, and it says so no more.
fn finish(object: &ObjectRef, name: &str, cluster: &CephCluster, plan: &mut Plan) {
    let pool = cluster.pools.get(name);
    if pool.is_none_or(|pool| !pool.applications.is_empty()) {
        return;
    }
    let path = format!("ceph.pool.{name}.application");
    plan.changed(Change::new(path, None, Some("rbd")));
    let change = CephChange::EnableApplication {
        pool: name.to_owned(),
        application: "rbd".to_owned(),
    };
    plan.steps.push(Step::new(
        object,
        Action::Ceph { change },
        vec![Claim::exclusive(ClaimOn::Ceph)],
        format!("say that Ceph's pool {name} is for rbd"),
    ));
}

/// The steps that bring one of Ceph's pools to its number of copies and its rule.
pub(in crate::reconcile::plan) fn held(
    object: &ObjectRef,
    name: &str,
    pool: &CephPool,
    copies: u32,
    cluster: &CephCluster,
    view: &View<'_>,
    plan: &mut Plan,
) -> Option<Vec<Step>> {
    if !pool.replicated {
        return None;
    }
    let lowers = packaged(view.desired).is_some_and(|s| s.replicas.is_some());
    let mut steps = Vec::new();
    let mut set = |key: &str, from: String, to: String, value: String, plan: &mut Plan| {
        let path = format!("ceph.pool.{name}.{key}");
        plan.changed(Change::new(path.clone(), Some(&from), Some(&to)));
        let change = CephChange::SetPool {
            pool: name.to_owned(),
            name: key.to_owned(),
            value,
        };
        steps.push(Step::new(
            object,
            Action::Ceph { change },
            vec![Claim::exclusive(ClaimOn::Ceph)],
            format!("set {path} from {from} to {to}"),
        ));
    };
    let differs = pool.size < copies || (lowers && pool.size != copies);
    let path = |key: &str| format!("ceph.pool.{name}.{key}");
    mark(&path("size"), &copies.to_string(), !differs, view, plan);
    if differs {
        let (from, to) = (pool.size.to_string(), copies.to_string());
        set("size", from, to.clone(), to, plan);
    }
    let domain = domain(cluster, copies, view);
    if let Some(rule) = cluster.rules.get(domain.rule()) {
        let holds = rule.id == pool.rule;
        mark(&path("crush_rule"), domain.rule(), holds, view, plan);
        if holds {
            return Some(steps);
        }
        let from = cluster
            .rule(pool.rule)
            .map_or_else(|| pool.rule.to_string(), |(name, _)| name.to_owned());
        let to = domain.rule().to_owned();
        set("crush_rule", from, to.clone(), to, plan);
    }
    Some(steps)
}
