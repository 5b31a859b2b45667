//! `Member`: joining, and what is held of a member afterwards.

use super::cluster::target;
use super::diff::{Diff, Ignore, Verb};
use super::step::{Action, Claim, ClaimOn, Guard, Step};
use super::{Plan, Topic, View, Waiting, cluster_stands, ovn, pool, reasons, removal, volumes};
use crate::catalog::{self, Owner, Scope};
use crate::reconcile::clock::age;
use crate::reconcile::memory::{Entry, Ownership};
use crate::reconcile::world::HostView;
use crate::resources::kinds::{MemberSpec, MemberState};
use crate::resources::object::DEFAULT_PROJECT;
use crate::resources::value::{Config, Mode};
use crate::resources::{Kind, ObjectRef, Spec};
use crate::services::host::{HostError, HostReport, LxdReport, LxdState};
use crate::services::lxd::types::{Member, MemberConfigKey, Versioned};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How long an agent may be silent before its member counts as lost.
const SILENCE: Duration = Duration::from_secs(5);

/// The path by which the inventory remembers that this program evacuated a member.
const EVACUATED_BY_US: &str = "state.Evacuated";

pub(super) fn plan(
    object: &ObjectRef,
    spec: &MemberSpec,
    ignore: &Ignore,
    view: &View<'_>,
) -> Plan {
    let mut plan = Plan::nothing(object);
    let name = &object.name;
    let row = match view.world.lxd.members.get() {
        Ok(members) => members.get(name),
        Err(why) => {
            if view.world.lxd.clustered() == Some(true) {
                plan.unknown("the list of members", why);
                return plan;
            }
            None
        }
    };
    if spec.state == MemberState::Absent {
        removal::plan(object, spec, row.map(|r| &r.value), view, &mut plan);
        return plan;
    }
    let Some(row) = row else {
        show_as_new(spec, ignore, view, object, &mut plan);
        if cluster_stands(&mut plan, view) {
            join(object, spec, view, &mut plan);
        }
        return plan;
    };
    if let Some(state) = standalone(name, view) {
        half_joined(object, spec, state, view, &mut plan);
        return plan;
    }
    update(object, spec, row, ignore, view, &mut plan);
    super::paths::show(name, view, &mut plan);
    ovn::member(object, view, &mut plan);
    super::ceph::member::extend(object, spec, view, &mut plan);
    plan
}

/// While members are not in the cluster yet and on their way in, pools and networks that are still
/// to be made wait for them, so that they are made once and everywhere. They wait for all of them
/// at once and not for one after another: what it costs must not grow with members times objects.
pub(super) fn joiners(view: &View<'_>) -> Option<Waiting> {
    let members = view.desired.of_kind(Kind::Member);
    let mut names = members.map(|(reference, _)| reference);
    names.find(|reference| is_coming(reference, view))?;
    Some(Waiting {
        message:
            "the members that are on their way join first, so that this is made everywhere at \
                  once"
                .to_owned(),
        on: Topic::Joiners,
        reason: reasons::DEPENDENCY.to_owned(),
    })
}

/// Whether a member is not in the cluster yet, and on its way in.
pub(crate) fn is_coming(object: &ObjectRef, view: &View<'_>) -> bool {
    let members = view.world.lxd.members.known();
    if members.is_some_and(|m| m.contains_key(&object.name)) {
        return false;
    }
    let Some(resource) = view.desired.resources.get(object) else {
        return false;
    };
    let Spec::Member(spec) = &resource.spec else {
        return false;
    };
    let held = view.desired.mode(resource) != Mode::Enforce
        || view.memory.suspension(object, view.now).is_some();
    if held || spec.state == MemberState::Absent {
        return false;
    }
    let mut plan = Plan::nothing(object);
    join(object, spec, view, &mut plan);
    plan.steps
        .iter()
        .any(|s| matches!(s.action, Action::Join { .. } | Action::UndoJoin { .. }))
        || plan
            .waiting_on
            .iter()
            .any(|w| w.reason == reasons::PROGRESSING)
}

fn show_as_new(
    spec: &MemberSpec,
    ignore: &Ignore,
    view: &View<'_>,
    object: &ObjectRef,
    plan: &mut Plan,
) {
    let mut diff = Diff::new(ignore, view.entry(object), &view.world.secrets, false);
    diff.field("address", Some(&spec.address.to_string()), "");
    diff.field("failureDomain", spec.failure_domain.as_deref(), "");
    let none = BTreeSet::new();
    diff.words("groups", words(&spec.groups).as_ref(), &none);
    diff.words("roles", words(&spec.roles).as_ref(), &none);
    diff.config(Owner::Member, "config", &spec.config, &Default::default());
    diff.finish(plan);
    plan.record = None;
}

/// A sentence that says why nothing is known of a machine.
pub(super) fn silence(name: &str, view: &View<'_>) -> String {
    match view.world.hosts.get(name).and_then(|h| h.error.as_ref()) {
        Some(error) => error.to_string(),
        None => format!("{name} was not looked at yet"),
    }
}

/// The report of a machine that answers; adds what the plan waits for otherwise.
fn report<'a>(name: &str, view: &View<'a>, plan: &mut Plan) -> Option<&'a HostReport> {
    let host = view.world.hosts.get(name);
    if let Some(error) = host.and_then(|h| h.error.as_ref()) {
        let reason = match error {
            HostError::NotTrusted { .. } => reasons::NOT_TRUSTED,
            _ => reasons::UNREACHABLE,
        };
        plan.wait(Topic::Host(name.to_owned()), reason, error.to_string());
        return None;
    }
    let report = host.and_then(|h| h.report.known());
    if report.is_none() {
        plan.wait(
            Topic::Host(name.to_owned()),
            reasons::UNREACHABLE,
            silence(name, view),
        );
    }
    report
}

/// The service of a machine if it runs and is in no cluster.
fn standalone<'a>(name: &str, view: &View<'a>) -> Option<&'a LxdState> {
    let host = view.world.hosts.get(name).filter(|h| h.error.is_none())?;
    match &host.report.known()?.lxd {
        LxdReport::Running(state) if !state.clustered => Some(state),
        _ => None,
    }
}

fn join(object: &ObjectRef, spec: &MemberSpec, view: &View<'_>, plan: &mut Plan) {
    let name = &object.name;
    let here = Topic::Host(name.clone());
    let Some(report) = report(name, view, plan) else {
        return;
    };
    if report.name != *name {
        plan.refuse(
            reasons::NAME,
            format!(
                "the machine at {} is called {}, not {name}: a member's name is its host name",
                spec.address, report.name
            ),
        );
        return;
    }
    let state = match &report.lxd {
        LxdReport::Running(state) => state,
        LxdReport::JoinCut => {
            undo_join(object, spec, plan);
            return;
        }
        LxdReport::NotInstalled => {
            plan.wait(
                here,
                reasons::SERVICE,
                format!("LXD is not installed on {name}"),
            );
            return;
        }
        LxdReport::NotRunning { reason } => {
            plan.wait(
                here,
                reasons::SERVICE,
                format!("LXD does not answer on {name}: {reason}"),
            );
            return;
        }
    };
    if state.joining {
        plan.wait(here, reasons::PROGRESSING, format!("{name} is joining"));
        return;
    }
    let ours = view
        .world
        .lxd
        .server
        .known()
        .map(|s| s.certificate_fingerprint.as_str());
    let same = ours == Some(state.certificate_fingerprint.as_str());
    if state.clustered && same && state.member_name.is_empty() {
        undo_join(object, spec, plan);
        return;
    }
    if state.clustered && same {
        plan.wait(
            Topic::Members,
            reasons::PROGRESSING,
            format!("{name} has joined, and the list of members does not show it yet"),
        );
        return;
    }
    if state.clustered {
        plan.refuse(
            reasons::OTHER_CLUSTER,
            format!(
                "LXD on {name} is in another cluster (as {} at {}): take it out of that one first",
                if state.member_name.is_empty() {
                    "a member without a name"
                } else {
                    state.member_name.as_str()
                },
                state.cluster_address
            ),
        );
        return;
    }
    let before = plan.waiting_on.len();
    super::paths::wait(name, view, plan);
    if plan.waiting_on.len() > before {
        return;
    }
    let Ok(server) = view.world.lxd.server.get() else {
        return;
    };
    if state.version != server.version || state.api_extensions != server.extensions.len() {
        plan.refuse(
            reasons::VERSION,
            format!(
                "{name} runs {} {} with {} API extensions and the cluster {} {} with {}: a member \
                 must run the same build",
                state.server,
                state.version,
                state.api_extensions,
                server.server,
                server.version,
                server.extensions.len()
            ),
        );
        return;
    }
    let mut approval = None;
    if !state.leftovers.is_empty() {
        let step = format!("{object}/join@{}", short(&report.machine_id));
        if !view.memory.approved(&step, view.now) {
            plan.needs_approval(
                step,
                format!(
                    "LXD on {name} holds things that joining destroys: {}",
                    state.leftovers
                ),
            );
            return;
        }
        approval = Some(step);
    }
    let Some(member_config) = gives(name, view, plan) else {
        return;
    };
    if !super::ceph::member::before_joining(object, spec, view, plan) {
        return;
    }
    let machine = target(name, spec);
    let mut step = Step::new(
        object,
        Action::Join {
            target: machine.clone(),
            member_config,
            leftovers: state.leftovers.clone(),
            again: intended(object, view),
        },
        vec![
            Claim::exclusive(ClaimOn::Membership),
            Claim::exclusive(ClaimOn::Member(name.clone())),
        ],
        format!("join {name} at {}", spec.address),
    )
    .guarded(Guard::Standalone {
        target: machine,
        leftovers: state.leftovers.clone(),
    })
    .guarded(joins_into(view));
    step.approval = approval;
    plan.steps.push(step);
}

/// What a joiner gives to what the cluster has; adds what it waits for when it cannot join now.
///
/// Nobody may join while a pool or a network is `Errored` (it was defined on every member, and
/// making it failed on one): LXD 5.0 notices half way that the joiner cannot have a part of it and
/// leaves the joiner as one that is in the cluster and is no member.
fn gives(name: &str, view: &View<'_>, plan: &mut Plan) -> Option<Vec<MemberConfigKey>> {
    plan.waiting_on.extend(first_errored(view));
    match pool::keys_of_joiner(name, view) {
        Ok(keys) if plan.waiting_on.is_empty() => return Some(keys),
        Ok(_) => {}
        Err(waiting) => plan.waiting_on.push(waiting),
    }
    None
}

/// The first pool or network that is `Errored`, whoever made it.
fn first_errored(view: &View<'_>) -> Option<Waiting> {
    let lxd = &view.world.lxd;
    let pool = lxd.pools.known().and_then(|pools| {
        pools
            .iter()
            .find(|(_, pool)| pool.whole.value.status == "Errored")
            .map(|(name, _)| ObjectRef::new(Kind::StoragePool, name.clone()))
    });
    let network = || {
        lxd.networks.known().and_then(|networks| {
            networks
                .iter()
                .find(|(_, network)| network.whole.value.status == "Errored")
                .map(|((project, name), _)| network_ref(project, name, view))
        })
    };
    let object = pool.or_else(network)?;
    let hand = if view.desired.resources.contains_key(&object) {
        ""
    } else {
        "; no resource asks for it: finish or delete it by hand"
    };
    Some(Waiting {
        message: format!(
            "{object} is only half made (Errored), and nobody can join until it is whole{hand}"
        ),
        on: Topic::Object(object),
        reason: reasons::DEPENDENCY.to_owned(),
    })
}

/// The resource a network of LXD's belongs to: an uplink is a network to it.
fn network_ref(project: &str, name: &str, view: &View<'_>) -> ObjectRef {
    let uplink = ObjectRef::new(Kind::Uplink, name);
    if project == DEFAULT_PROJECT && view.desired.resources.contains_key(&uplink) {
        return uplink;
    }
    ObjectRef::in_project(Kind::Network, project, name)
}

/// What the plan of a join knows of the cluster's pools and networks must still be all of it.
fn joins_into(view: &View<'_>) -> Guard {
    let lxd = &view.world.lxd;
    let mut networks: BTreeMap<String, BTreeSet<String>> =
        [(DEFAULT_PROJECT.to_owned(), BTreeSet::new())].into();
    for ((project, name), network) in lxd.networks.known().into_iter().flatten() {
        let names = networks.entry(project.clone()).or_default();
        if network.whole.value.managed {
            names.insert(name.clone());
        }
    }
    Guard::JoinsInto {
        pools: lxd
            .pools
            .known()
            .into_iter()
            .flatten()
            .map(|(name, _)| name.clone())
            .collect(),
        networks,
    }
}

/// Whether joining was begun, as far as the controller remembers.
fn intended(object: &ObjectRef, view: &View<'_>) -> bool {
    view.entry(object)
        .is_some_and(|e| e.ownership == Ownership::Intended)
}

/// A join was cut in two: the machine's service has the cluster's database and is no member. It
/// held nothing when the join began, or what was approved, so it is set back; then it joins again.
fn undo_join(object: &ObjectRef, spec: &MemberSpec, plan: &mut Plan) {
    let name = &object.name;
    plan.steps.push(Step::new(
        object,
        Action::UndoJoin {
            target: target(name, spec),
        },
        vec![
            Claim::exclusive(ClaimOn::Membership),
            Claim::exclusive(ClaimOn::Member(name.clone())),
        ],
        format!("undo the join of {name} that was cut in two"),
    ));
}

/// A row is there, but the machine's service is in no cluster: a join that never ended, or a
/// machine that was reinstalled.
fn half_joined(
    object: &ObjectRef,
    spec: &MemberSpec,
    state: &LxdState,
    view: &View<'_>,
    plan: &mut Plan,
) {
    let name = &object.name;
    plan.verb = Verb::Update;
    if state.joining {
        plan.wait(
            Topic::Host(name.clone()),
            reasons::PROGRESSING,
            format!("{name} is joining"),
        );
        return;
    }
    if !intended(object, view) {
        plan.refuse(
            reasons::OTHER_CLUSTER,
            format!(
                "{name} is a member, but LXD on it is in no cluster (was it reinstalled?): remove \
                 the old member (microcloud remove {name} --force, or state: Absent), and write it \
                 anew: then it joins again"
            ),
        );
        return;
    }
    let machine = target(name, spec);
    plan.steps.push(
        Step::new(
            object,
            Action::DropHalfJoined { name: name.clone() },
            vec![
                Claim::exclusive(ClaimOn::Membership),
                Claim::exclusive(ClaimOn::Member(name.clone())),
            ],
            format!("drop the row of {name}, which never finished joining"),
        )
        .guarded(Guard::Standalone {
            target: machine,
            leftovers: state.leftovers.clone(),
        }),
    );
}

fn update(
    object: &ObjectRef,
    spec: &MemberSpec,
    row: &Versioned<Member>,
    ignore: &Ignore,
    view: &View<'_>,
    plan: &mut Plan,
) {
    let name = &object.name;
    let seen = &row.value;
    let mut diff = Diff::new(ignore, view.entry(object), &view.world.secrets, true);
    if let Some(address) = host_of(&seen.url)
        && address != spec.address.to_string()
    {
        diff.cannot_change("address", &address, &spec.address.to_string());
    }
    let (mut server_keys, member_keys) = split(&spec.config);
    let own = view
        .world
        .lxd
        .member_config
        .get(name)
        .map(|seen| seen.get());
    let known = own.and_then(Result::ok);
    let waits = volumes::server_keys(name, &mut server_keys, known, view);
    let mut wanted = seen.clone();
    wanted.failure_domain = diff.field(
        "failureDomain",
        spec.failure_domain.as_deref(),
        &seen.failure_domain,
    );
    let groups: BTreeSet<String> = seen.groups.iter().cloned().collect();
    wanted.groups = diff
        .words("groups", words(&spec.groups).as_ref(), &groups)
        .into_iter()
        .collect();
    let (automatic, others): (BTreeSet<String>, BTreeSet<String>) = seen
        .roles
        .iter()
        .cloned()
        .partition(|role| role.starts_with("database"));
    let roles = diff.words("roles", words(&spec.roles).as_ref(), &others);
    wanted.roles = automatic.into_iter().chain(roles).collect();
    let merged = diff.config(Owner::Member, "config", &member_keys, &seen.config);
    let row_differs = !diff.changes.is_empty();
    let before = diff.changes.len();
    let mut patch = Default::default();
    let mut own_unknown = None;
    if !server_keys.is_empty() || view.entry(object).is_some_and(had_server_keys) {
        match own {
            Some(Ok(own)) => {
                patch = diff
                    .config(Owner::Server, "config", &server_keys, own)
                    .patch;
            }
            Some(Err(why)) => own_unknown = Some(why.to_owned()),
            None => own_unknown = Some("it was not read yet".to_owned()),
        }
    }
    let own_differs = diff.changes.len() > before;
    let evacuated_by_us = diff.was_applied(EVACUATED_BY_US);
    if spec.state == MemberState::Evacuated && (seen.status == "Evacuated" || evacuated_by_us)
        || spec.state == MemberState::Active && evacuated_by_us && seen.status == "Evacuated"
    {
        diff.manage(EVACUATED_BY_US);
    }
    let writable = diff.writable();
    diff.finish(plan);

    plan.waiting_on.extend(waits);
    if let Some(why) = own_unknown {
        plan.unknown(&format!("the server keys of {name}"), &why);
    }
    let silent = silent_agent(name, view, plan);
    match seen.status.as_str() {
        // Its database has just elected another leader, say, who has heard from nobody yet.
        "Offline" if view.world.has_lxd(name) => plan.wait(
            Topic::Members,
            reasons::MEMBER_DOWN,
            format!(
                "LXD takes {name} for offline, though its agent answers and LXD runs there: {}",
                whole_seconds(&seen.message)
            ),
        ),
        "Offline" => plan.wait(
            Topic::Members,
            reasons::MEMBER_DOWN,
            format!(
                "{name} is offline: {}{}",
                whole_seconds(&seen.message),
                if silent {
                    String::new()
                } else {
                    super::lost::burden(name, view)
                }
            ),
        ),
        "Blocked" => plan.wait(
            Topic::Members,
            reasons::VERSION,
            format!(
                "{name} is blocked until all members run the same version: {}",
                whole_seconds(&seen.message)
            ),
        ),
        _ => {}
    }
    evacuation(object, spec, seen, evacuated_by_us, plan);

    let unreachable = matches!(seen.status.as_str(), "Offline" | "Blocked");
    if unreachable || !writable {
        return;
    }
    let member_claims = || {
        vec![
            Claim::exclusive(ClaimOn::Member(name.clone())),
            Claim::shared(ClaimOn::Membership),
        ]
    };
    if row_differs {
        for group in &wanted.groups {
            let known = view.world.lxd.groups.known();
            if known.is_some_and(|groups| !groups.contains_key(group)) {
                plan.steps.push(Step::new(
                    object,
                    Action::CreateGroup {
                        name: group.clone(),
                    },
                    member_claims(),
                    format!("make the cluster group {group}"),
                ));
            }
        }
        plan.steps.push(Step::new(
            object,
            Action::PutMember {
                seen: seen.clone(),
                etag: row.etag.clone(),
                wanted,
                config: merged.whole,
            },
            member_claims(),
            format!("write the member {name}"),
        ));
    }
    if own_differs {
        plan.steps.push(Step::new(
            object,
            Action::PatchServer {
                target: Some(name.clone()),
                config: patch,
            },
            member_claims(),
            format!("write the server keys of {name}"),
        ));
    }
}

/// Whether the inventory says of a member that own server keys of it are managed.
pub(in crate::reconcile) fn had_server_keys(entry: &Entry) -> bool {
    let keys = entry.applied.iter();
    keys.filter_map(|p| p.strip_prefix("config."))
        .any(is_server_key)
}

/// Whether an agent has been silent for so long that its member counts as lost.
pub(crate) fn is_lost(host: &HostView, now: Timestamp) -> bool {
    host.silent_since
        .is_some_and(|since| age(now, since) >= SILENCE)
}

/// Tells of an agent that has been silent for long; says whether it has.
fn silent_agent(name: &str, view: &View<'_>, plan: &mut Plan) -> bool {
    let host = view.world.hosts.get(name);
    let Some((host, since)) = host.and_then(|h| Some((h, h.silent_since?))) else {
        return false;
    };
    if is_lost(host, view.now) {
        plan.wait(
            Topic::Host(name.to_owned()),
            reasons::UNREACHABLE,
            format!(
                "the agent of {name} has been silent since {since:.0}: {}{}",
                silence(name, view),
                super::lost::burden(name, view)
            ),
        );
        true
    } else {
        plan.recheck_at = Some(crate::reconcile::clock::after(since, SILENCE));
        false
    }
}

/// Evacuating and restoring follow the YAML's changes, never a person's or the service's.
fn evacuation(object: &ObjectRef, spec: &MemberSpec, seen: &Member, by_us: bool, plan: &mut Plan) {
    let name = &object.name;
    let claims = || {
        vec![
            Claim::exclusive(ClaimOn::Member(name.clone())),
            Claim::exclusive(ClaimOn::Membership),
        ]
    };
    match (spec.state, seen.status.as_str(), by_us) {
        (MemberState::Evacuated, "Online", false) => {
            plan.verb = Verb::Update;
            plan.changes.push(super::Change::new(
                "state",
                Some("Active"),
                Some("Evacuated"),
            ));
            plan.steps.push(Step::new(
                object,
                Action::Evacuate { name: name.clone() },
                claims(),
                format!("evacuate {name}"),
            ));
        }
        (MemberState::Evacuated, "Online", true) => plan.note(
            reasons::EVACUATED,
            format!(
                "{name} is to be evacuated and was restored by hand; to evacuate it again: lxc \
                 cluster evacuate {name}"
            ),
        ),
        (MemberState::Active, "Evacuated", true) => {
            plan.verb = Verb::Update;
            plan.changes.push(super::Change::new(
                "state",
                Some("Evacuated"),
                Some("Active"),
            ));
            plan.steps.push(Step::new(
                object,
                Action::Restore { name: name.clone() },
                claims(),
                format!("restore {name}"),
            ));
        }
        (MemberState::Active, "Evacuated", false) => plan.note(
            reasons::EVACUATED,
            format!(
                "{name} was evacuated by hand and stays so; to let it work again: lxc cluster \
                 restore {name}"
            ),
        ),
        _ => {}
    }
}

/// Whether a key of `Member.config` is one of the server's per-member keys rather than one of the
/// cluster member.
pub(crate) fn is_server_key(key: &str) -> bool {
    !key.starts_with("user.")
        && !key.starts_with("scheduler.")
        && catalog::facts(Owner::Server, key).scope == Scope::Member
}

fn split(config: &Config) -> (Config, Config) {
    config
        .clone()
        .into_iter()
        .partition(|(key, _)| is_server_key(key))
}

fn words(list: &Option<Vec<String>>) -> Option<BTreeSet<String>> {
    list.as_ref().map(|words| words.iter().cloned().collect())
}

/// The host of a member's `https://host:port`, without an IPv6 address's brackets.
fn host_of(url: &str) -> Option<String> {
    let rest = url.strip_prefix("https://")?;
    let host = match rest.strip_prefix('[') {
        Some(v6) => v6.split(']').next()?,
        None => rest.rsplit_once(':').map_or(rest, |(host, _)| host),
    };
    let address: std::net::IpAddr = host.parse().ok()?;
    Some(address.to_string())
}

/// A sentence of LXD's without the fractions of its times: they are different every time it is
/// asked, and nobody reads nine digits of them. Parts of addresses have three at most.
fn whole_seconds(text: &str) -> String {
    let mut short = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(dot) = rest.find('.') {
        let (before, after) = rest.split_at(dot);
        short.push_str(before);
        let digits = after[1..].bytes().take_while(u8::is_ascii_digit).count();
        let number = before.ends_with(|c: char| c.is_ascii_digit());
        if !number || digits < 4 {
            short.push('.');
            rest = &after[1..];
        } else {
            rest = &after[1 + digits..];
        }
    }
    short.push_str(rest);
    short
}

/// The first characters of an id: enough to tell machines apart when people compare.
pub(super) fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

#[cfg(test)]
mod tests {
    use super::whole_seconds;

    #[test]
    fn times_of_lxd_are_shown_in_seconds_and_addresses_as_they_are() {
        assert_eq!(
            whole_seconds(
                "No heartbeat for 30.163902903s (2026-11-21 18:08:34.723810232 +0000 UTC)"
            ),
            "No heartbeat for 30s (2026-11-21 18:08:34 +0000 UTC)"
        );
        for same in [
            "",
            "no. 5",
            "at 192.168.100.12:8443.",
            "lxd 5.0.2",
            "1.5s",
            "….",
        ] {
            assert_eq!(whole_seconds(same), same);
        }
    }
}
