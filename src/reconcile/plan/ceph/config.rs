//! What is held of the cluster's own configuration, its rules and its racks.

use super::copies::{Domain, copies, domain, rack, racks_to_be};
use super::{MGR_POOL, mark, pool};
use crate::reconcile::plan::diff::Verb;
use crate::reconcile::plan::step::{Action, CephChange, Claim, ClaimOn, Step};
use crate::reconcile::plan::{Change, Plan, View};
use crate::resources::ObjectRef;
use crate::resources::kinds::CephSpec;
use crate::services::ceph::CephCluster;
use std::collections::BTreeMap;

/// Holds the cluster's own configuration, rules and racks.
pub(super) fn hold(
    object: &ObjectRef,
    spec: &CephSpec,
    cluster: &CephCluster,
    view: &View<'_>,
    plan: &mut Plan,
) {
    let mut wanted: BTreeMap<(&str, &str), String> = BTreeMap::new();
    wanted.insert(
        ("mon", "auth_allow_insecure_global_id_reclaim"),
        "false".to_owned(),
    );
    for (key, network) in [
        ("public_network", spec.public_network),
        ("cluster_network", spec.cluster_network),
    ] {
        if let Some(network) = network {
            wanted.insert(("global", key), network.trunc().to_string());
        }
    }
    let mut steps = Vec::new();
    let change = |path: String, from: Option<&str>, to: &str, what: CephChange, plan: &mut Plan| {
        plan.changes.push(Change::new(path.clone(), from, Some(to)));
        Step::new(
            object,
            Action::Ceph { change: what },
            vec![Claim::exclusive(ClaimOn::Ceph)],
            format!("set {path} to {to}"),
        )
    };
    let copies = copies(cluster, view);
    let racks = match copies {
        Some(copies) => domain(cluster, copies, view) == Domain::Rack,
        // While the first OSDs are made, hosts go to their racks as they come: nothing moves yet.
        None => racks_to_be(view),
    };
    for host in cluster.osd_hosts().into_iter().filter(|_| racks) {
        let now = cluster.hosts.get(host).and_then(Option::as_deref);
        if let Some(rack) = rack(host, view)
            && now != Some(rack)
        {
            let what = CephChange::MoveHost {
                host: host.to_owned(),
                rack: rack.to_owned(),
            };
            plan.grown.insert(format!("ceph.rack.{host}"));
            steps.push(change(format!("ceph.rack.{host}"), now, rack, what, plan));
        }
    }
    if let Some(copies) = copies {
        wanted.insert(("global", "osd_pool_default_size"), copies.to_string());
        if copies == 1 {
            wanted.insert(("global", "mon_allow_pool_size_one"), "true".to_owned());
        }
        let domain = domain(cluster, copies, view);
        match cluster.rules.get(domain.rule()) {
            None => {
                let what = CephChange::CreateRule {
                    name: domain.rule().to_owned(),
                    failure_domain: domain.to_string(),
                };
                let path = format!("ceph.rule.{}", domain.rule());
                mark(&path, domain.rule(), false, view, plan);
                steps.push(change(path, None, &domain.to_string(), what, plan));
            }
            Some(rule) => {
                let path = format!("ceph.rule.{}", domain.rule());
                mark(&path, domain.rule(), true, view, plan);
                let key = ("global", "osd_pool_default_crush_rule");
                wanted.insert(key, rule.id.to_string());
                let managers = cluster.pools.get(MGR_POOL);
                steps.extend(
                    managers
                        .and_then(|p| pool::held(object, MGR_POOL, p, copies, cluster, view, plan))
                        .into_iter()
                        .flatten(),
                );
            }
        }
    }
    // The permission for single copies comes before what needs it: by key order it does.
    for ((section, name), value) in wanted {
        let now = cluster.config(section, name);
        let path = format!("ceph.config.{name}");
        mark(&path, &value, now == Some(&value), view, plan);
        if now != Some(&value) {
            let what = CephChange::SetConfig {
                section: section.to_owned(),
                name: name.to_owned(),
                value: value.clone(),
            };
            steps.insert(0, change(path, now, &value, what, plan));
        }
    }
    if !steps.is_empty() {
        if plan.verb == Verb::Unchanged {
            plan.verb = Verb::Update;
        }
        plan.steps.extend(steps);
    }
}
