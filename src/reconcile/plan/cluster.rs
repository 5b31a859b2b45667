//! `Cluster`: forming it, and the server keys of the whole cluster.

use super::diff::{Diff, Ignore};
use super::step::{Action, Claim, ClaimOn, Guard, Step};
use super::{Plan, Topic, View, ovn, reasons};
use crate::catalog::Owner;
use crate::reconcile::world::ServerView;
use crate::resources::kinds::ClusterSpec;
use crate::resources::{Kind, ObjectRef};
use crate::services::host::{HostTarget, LxdReport};

/// Keys of the default cloud that older servers do not know, each with the API extension from which
/// on they do.
const SINCE: [(&str, &str); 1] = [(
    "instances.migration.stateful",
    "instances_migration_stateful",
)];

/// Whether a server may be given a key: LXD 5.0 loses a server's own keys over one it does not know.
fn takes(server: &ServerView, key: &str) -> bool {
    let since = SINCE.iter().find(|(k, _)| *k == key);
    since.is_none_or(|(_, extension)| server.extensions.contains(*extension))
}

pub(super) fn plan(
    object: &ObjectRef,
    spec: &ClusterSpec,
    ignore: &Ignore,
    view: &View<'_>,
) -> Plan {
    let mut plan = Plan::nothing(object);
    let secrets = &view.world.secrets;
    match view.world.lxd.server.get() {
        Err(why) => plan.unknown("LXD", why),
        Ok(server) if !server.clustered => {
            let mut diff = Diff::new(ignore, view.entry(object), secrets, false);
            let mut keys = spec.config.clone();
            keys.retain(|key, _| takes(server, key));
            diff.config(Owner::Server, "config", &keys, &server.config);
            diff.finish(&mut plan);
            plan.record = None;
            form(object, spec, server, view, &mut plan);
        }
        Ok(server) => {
            let mut diff = Diff::new(ignore, view.entry(object), secrets, true);
            let mut keys = ovn::server_keys(spec, &server.config, view);
            keys.retain(|key, _| takes(server, key));
            let merged = diff.config(Owner::Server, "config", &keys, &server.config);
            let write = diff.writable();
            diff.finish(&mut plan);
            if write {
                plan.steps.push(Step::new(
                    object,
                    Action::PatchServer {
                        target: None,
                        config: merged.patch,
                    },
                    vec![
                        Claim::exclusive(ClaimOn::ServerConfig),
                        Claim::shared(ClaimOn::Membership),
                    ],
                    "write the server's configuration",
                ));
            }
            ovn::cluster(object, view, &mut plan);
            super::ceph::plan(object, view, &mut plan);
        }
    }
    plan
}

/// Plans the first member's bootstrap: only if no machine that answers is in a cluster and a
/// majority of the listed members answered, so that a reinstalled initiator or one that is cut
/// off never forms a second cluster.
fn form(
    object: &ObjectRef,
    spec: &ClusterSpec,
    server: &ServerView,
    view: &View<'_>,
    plan: &mut Plan,
) {
    let Some(initiator) = view.desired.member(&spec.initiator) else {
        plan.wait(
            Topic::Object(ObjectRef::new(Kind::Member, spec.initiator.clone())),
            reasons::DEPENDENCY,
            format!("no Member {} says where the initiator is", spec.initiator),
        );
        return;
    };
    let targets: Vec<HostTarget> = view
        .desired
        .staying()
        .map(|(name, member)| target(name, member))
        .collect();

    let mut answered = 0;
    let mut silent = Vec::new();
    for machine in &targets {
        let host = view.world.hosts.get(&machine.name);
        let report = host
            .filter(|h| h.error.is_none())
            .and_then(|h| h.report.known());
        match report {
            Some(report) => {
                answered += 1;
                let clustered = match &report.lxd {
                    LxdReport::Running(lxd) => lxd.clustered,
                    // It has the database of a cluster that it did not get into.
                    LxdReport::JoinCut => true,
                    LxdReport::NotInstalled | LxdReport::NotRunning { .. } => false,
                };
                if clustered {
                    plan.refuse(
                            reasons::CLUSTER_EXISTS,
                            format!(
                                "{} is a member of a cluster already, so {} must join that one and \
                                 not form a second: if it was reinstalled, remove its old row there \
                                 (lxc cluster remove --force {}) and let it join",
                                machine.name, spec.initiator, spec.initiator
                            ),
                        );
                }
            }
            None => silent.push(machine.name.clone()),
        }
    }
    for machine in &targets {
        super::paths::wait(&machine.name, view, plan);
    }
    let majority = targets.len() / 2 + 1;
    if answered < majority {
        for name in &silent {
            plan.wait(
                Topic::Host(name.clone()),
                reasons::NO_MAJORITY,
                format!(
                    "{answered} of {} listed members answer and {majority} must before a cluster \
                     is formed; {}",
                    targets.len(),
                    super::member::silence(name, view)
                ),
            );
        }
        return;
    }
    let Some(first) = targets.iter().find(|t| t.name == spec.initiator) else {
        return;
    };
    let local = view
        .world
        .hosts
        .get(&first.name)
        .and_then(|h| h.report.known());
    match local.map(|r| &r.lxd) {
        // Refused above when it has to do with another cluster.
        Some(LxdReport::Running(_) | LxdReport::JoinCut) => {}
        Some(LxdReport::NotInstalled) => plan.wait(
            Topic::Host(first.name.clone()),
            reasons::SERVICE,
            format!("LXD is not installed on {}", first.name),
        ),
        Some(LxdReport::NotRunning { reason }) => plan.wait(
            Topic::Host(first.name.clone()),
            reasons::SERVICE,
            format!("LXD does not answer on {}: {reason}", first.name),
        ),
        None => plan.wait(
            Topic::Host(first.name.clone()),
            reasons::UNREACHABLE,
            super::member::silence(&first.name, view),
        ),
    }
    let _ = server;
    if !plan.refused.is_empty() || !plan.waiting_on.is_empty() {
        return;
    }
    plan.steps.push(
        Step::new(
            object,
            Action::Bootstrap {
                target: first.clone(),
            },
            vec![
                Claim::exclusive(ClaimOn::Membership),
                Claim::exclusive(ClaimOn::Member(first.name.clone())),
                Claim::exclusive(ClaimOn::ServerConfig),
            ],
            format!(
                "form the cluster on {} at {}",
                first.name, initiator.address
            ),
        )
        .guarded(Guard::NoClusterAnywhere { targets, majority }),
    );
}

/// The machine of a member.
pub(crate) fn target(name: &str, member: &crate::resources::kinds::MemberSpec) -> HostTarget {
    HostTarget {
        name: name.to_owned(),
        address: member.address,
        fingerprint: member.fingerprint.clone(),
    }
}
