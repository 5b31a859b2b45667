//! OVN from the distribution's packages: who holds the databases, who carries traffic, and with
//! which certificates.
//!
//! The databases belong to the `Cluster`, a machine's certificate and its part in carrying traffic
//! to its `Member`. The machines that hold the databases are chosen once: one that holds them
//! keeps them while it answers, so that nothing moves because a name was added.

use super::cluster::target;
use super::member::{is_coming, silence};
use super::step::{Action, Claim, ClaimOn, OvnAction, Step};
use super::{Change, Plan, Topic, Verb, View, reasons};
use crate::reconcile::clock::{after, age};
use crate::resources::kinds::{
    ClusterSpec, MemberSpec, MemberState, OvnProvider, OvnSpec, OvnTransport,
};
use crate::resources::value::{Config, ConfigValue};
use crate::resources::{Kind, ObjectRef, Spec};
use crate::services::host::{
    CentralConfig, ChassisConfig, DatabaseReport, HostReport, HostTarget, OvnDatabase, OvnReport,
    OvnRequest, connection,
};
use crate::services::ovn::{NORTHBOUND_PORT, SOUTHBOUND_PORT};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

/// LXD's key for the northbound database.
const NORTHBOUND_KEY: &str = "network.ovn.northbound_connection";

/// How many machines hold the databases: an even number is lost as soon as the one below it.
const CENTRALS: usize = 3;

/// A certificate with less than this left is renewed, days.
const RENEW_DAYS: i64 = 90;

/// How long ovn-controller may take to make its row before it is told to begin anew.
const REGISTERS: Duration = Duration::from_secs(5);

/// How long a lost machine keeps its place among those with the databases, unless the `Cluster`
/// says otherwise.
const GRACE: Duration = Duration::from_secs(300);

/// A machine as far as OVN is concerned.
#[derive(Debug, Clone, Copy)]
struct Machine<'a> {
    spec: &'a MemberSpec,
    /// What was last seen, also of a machine that is silent now.
    report: Option<&'a HostReport>,
    /// Whether it answers.
    answers: bool,
    /// Whether it is in the cluster.
    joined: bool,
    /// Whether it is or will be.
    coming: bool,
    /// When its place is given away, if it goes on being silent.
    lost_at: Option<Timestamp>,
    /// Whether it has been silent for so long that its place is given away.
    lost: bool,
}

impl<'a> Machine<'a> {
    /// What it last said of OVN.
    fn ovn(&self) -> Option<&'a OvnReport> {
        self.report.map(|r| &r.ovn)
    }

    /// What it says of OVN now.
    fn ovn_now(&self) -> Option<&'a OvnReport> {
        self.ovn().filter(|_| self.answers)
    }

    /// Whether it holds the databases in a raft with a majority, as far as is known.
    fn serves(&self) -> bool {
        self.ovn_now().is_some_and(|o| o.central.serves())
    }
}

/// OVN as all machines tell of it.
struct Picture<'a> {
    tls: bool,
    spec: &'a OvnSpec,
    machines: BTreeMap<&'a str, Machine<'a>>,
    /// Who is to hold the databases, by name.
    centrals: Vec<&'a str>,
}

impl<'a> Picture<'a> {
    /// `None` when OVN is not run from packages, or who is in the cluster is not known.
    fn of(view: &View<'a>) -> Option<Picture<'a>> {
        let (_, cluster) = view.desired.cluster()?;
        let spec = packaged(cluster)?;
        let rows = view.world.lxd.members.known()?;
        if view.world.lxd.clustered() != Some(true) {
            return None;
        }
        let grace = cluster.grace_period.map_or(GRACE, |span| span.0);
        let machines: BTreeMap<&str, Machine<'a>> = view
            .desired
            .members()
            .filter(|(_, spec)| spec.state != MemberState::Absent)
            .map(|(name, spec)| {
                let host = view.world.hosts.get(name);
                let joined = rows.contains_key(name);
                let silent = host.and_then(|h| h.silent_since);
                let lost_at = silent.map(|since| after(since, grace));
                let machine = Machine {
                    spec,
                    report: host.and_then(|h| h.report.known()),
                    answers: host.is_some_and(|h| h.error.is_none() && h.report.known().is_some()),
                    joined,
                    coming: joined || is_coming(&ObjectRef::new(Kind::Member, name), view),
                    lost_at,
                    lost: lost_at.is_some_and(|at| at <= view.now),
                };
                (name, machine)
            })
            .collect();
        let centrals = choose(&machines);
        Some(Picture {
            tls: spec.transport != OvnTransport::Tcp,
            spec,
            machines,
            centrals,
        })
    }

    fn address(&self, name: &str) -> Option<IpAddr> {
        self.machines.get(name).map(|m| m.spec.address)
    }

    fn addresses(&self) -> Vec<IpAddr> {
        self.centrals
            .iter()
            .filter_map(|c| self.address(c))
            .collect()
    }

    fn target(&self, name: &str) -> Option<HostTarget> {
        self.machines.get(name).map(|m| target(name, m.spec))
    }

    /// A machine whose databases are part of their rafts: what it says of them counts.
    fn serving(&self) -> Option<(&'a str, &'a OvnReport)> {
        let leads = |o: &&OvnReport| o.central.southbound.as_ref().is_some_and(|d| d.leader);
        let mut serving = self
            .machines
            .iter()
            .filter(|(_, m)| m.serves())
            .filter_map(|(name, m)| Some((*name, m.ovn_now()?)));
        let all: Vec<_> = serving.by_ref().collect();
        all.iter()
            .find(|(_, o)| leads(o))
            .or_else(|| all.first())
            .copied()
    }

    /// The address tunnels end at on a machine, or why it is not known.
    fn encap_ip(&self, name: &str, machine: &Machine<'a>) -> Result<IpAddr, String> {
        if let Some(address) = machine.spec.underlay_address {
            return Ok(address);
        }
        let Some(subnet) = self.spec.underlay_subnet else {
            return Ok(machine.spec.address);
        };
        let report = machine
            .report
            .ok_or_else(|| format!("{name} was not looked at yet"))?;
        let inside = report
            .interfaces
            .iter()
            .flat_map(|i| &i.addresses)
            .map(ipnet::IpNet::addr)
            .find(|a| subnet.contains(a));
        inside.ok_or_else(|| format!("no interface of {name} has an address in {subnet}"))
    }

    fn chassis_config(
        &self,
        name: &str,
        machine: &Machine<'a>,
        view: &View<'_>,
    ) -> Result<ChassisConfig, String> {
        Ok(ChassisConfig {
            name: name.to_owned(),
            encap_ip: self.encap_ip(name, machine)?,
            centrals: self.addresses(),
            tls: self.tls,
            userspace: machine.ovn().is_some_and(|o| !o.kernel_datapath),
            mappings: mappings(name, machine, view),
        })
    }
}

/// Which bridge leads to which uplink on a machine, as far as the ports of its bridges tell: LXD
/// makes the bridge, plugs the uplink's interface in and writes the mapping once.
fn mappings(name: &str, machine: &Machine<'_>, view: &View<'_>) -> BTreeMap<String, String> {
    let Some(ovn) = machine.ovn() else {
        return BTreeMap::new();
    };
    let uplinks = view.desired.of_kind(Kind::Uplink);
    uplinks
        .filter_map(|(reference, resource)| {
            let Spec::Uplink(spec) = &resource.spec else {
                return None;
            };
            let interface = spec.interfaces.get(name).or(spec.interface.as_ref())?;
            let bridge = ovn.chassis.ports.get(interface)?;
            Some((reference.name.clone(), bridge.clone()))
        })
        .collect()
}

/// The `ovn` of a cluster whose agents run the distribution's packages.
fn packaged(cluster: &ClusterSpec) -> Option<&OvnSpec> {
    cluster
        .ovn
        .as_ref()
        .filter(|ovn| ovn.provider == OvnProvider::Packaged)
}

/// Who is to hold the databases: those that do, then the first by name that answer. Three when
/// there are three members, otherwise one.
fn choose<'a>(machines: &BTreeMap<&'a str, Machine<'a>>) -> Vec<&'a str> {
    let candidates = machines.values().filter(|m| m.coming).count();
    let size = if candidates >= CENTRALS { CENTRALS } else { 1 };
    // Addresses in the rafts tell of machines that were never seen by this controller.
    let in_rafts: BTreeSet<IpAddr> = machines
        .values()
        .filter(|m| m.serves())
        .filter_map(Machine::ovn_now)
        .flat_map(|o| [&o.central.northbound, &o.central.southbound])
        .flatten()
        .flat_map(|d| d.servers.iter().map(|s| s.address))
        .collect();
    let holds = |m: &Machine<'_>| {
        m.ovn().is_some_and(|o| o.central.is_ours()) || in_rafts.contains(&m.spec.address)
    };
    let free = || {
        machines
            .iter()
            .filter(|(_, m)| m.coming && m.answers && !holds(m))
            .map(|(name, _)| *name)
    };
    // Without a majority nothing can take another one's place.
    let holders = machines.values().filter(|m| holds(m));
    let alive = holders.clone().filter(|m| m.answers).count();
    let mut spare = if alive * 2 > holders.count() {
        free().count()
    } else {
        0
    };
    let mut chosen: Vec<&str> = Vec::new();
    for (name, machine) in machines.iter().filter(|(_, m)| m.coming && holds(m)) {
        // A lost one gives way only to one that can take its place.
        if machine.lost && spare > 0 {
            spare -= 1;
            continue;
        }
        chosen.push(name);
    }
    // Those that answer stay first.
    chosen.sort_by_key(|name| (!machines[name].answers, *name));
    chosen.truncate(size);
    let missing = size.saturating_sub(chosen.len());
    chosen.extend(free().take(missing));
    chosen.sort_unstable();
    chosen
}

/// The server keys that follow from `spec.ovn`, added to those the resource holds.
pub(super) fn server_keys(
    spec: &ClusterSpec,
    seen: &BTreeMap<String, String>,
    view: &View<'_>,
) -> Config {
    let mut config = spec.config.clone();
    let Some(ovn) = &spec.ovn else {
        return config;
    };
    let value = match ovn.provider {
        OvnProvider::External => Some(ovn.northbound.join(",")),
        OvnProvider::Packaged => match Picture::of(view) {
            Some(picture) if !picture.centrals.is_empty() => Some(connection(
                &picture.addresses(),
                picture.tls,
                NORTHBOUND_PORT,
            )),
            // While it is not known what it should be, it stays what it is.
            _ => seen.get(NORTHBOUND_KEY).cloned(),
        },
        OvnProvider::Microovn | OvnProvider::None => None,
    };
    if let Some(value) = value {
        config.insert(NORTHBOUND_KEY.to_owned(), ConfigValue::Plain(value));
    }
    config
}

/// Plans the authority and the databases.
pub(super) fn cluster(object: &ObjectRef, view: &View<'_>, plan: &mut Plan) {
    let Some(picture) = Picture::of(view) else {
        return;
    };
    if picture.tls && !authority(object, &picture, view, plan) {
        return;
    }
    centrals(object, &picture, view, plan);
    plan.recheck_at = picture
        .centrals
        .iter()
        .filter_map(|c| picture.machines[c].lost_at)
        .filter(|at| *at > view.now)
        .min();
    differs(plan);
}

/// What was added to the differences makes the whole one.
fn differs(plan: &mut Plan) {
    if plan.verb == Verb::Unchanged && !plan.changes.is_empty() {
        plan.verb = Verb::Update;
    }
}

fn ask(object: &ObjectRef, target: HostTarget, request: OvnRequest, sentence: String) -> Step {
    let claims = vec![Claim::exclusive(ClaimOn::Ovn(target.name.clone()))];
    let action = Action::Ovn(Box::new(OvnAction::Ask { target, request }));
    Step::new(object, action, claims, sentence)
}

/// Plans the authority and its copies; says whether there is one.
fn authority(object: &ObjectRef, picture: &Picture<'_>, view: &View<'_>, plan: &mut Plan) -> bool {
    let holders: BTreeMap<&str, &str> = picture
        .machines
        .iter()
        .filter_map(|(name, m)| {
            Some((*name, m.ovn_now()?.authority.as_ref()?.fingerprint.as_str()))
        })
        .collect();
    let different: BTreeSet<&str> = holders.values().copied().collect();
    if different.len() > 1 {
        plan.refuse(
            reasons::OVN,
            format!(
                "{} keep different authorities for OVN: keep the one whose certificates are in \
                 use and remove /var/lib/microcloud/ovn-authority.* on the others",
                list(holders.keys().copied())
            ),
        );
        return false;
    }
    let Some(holder) = keeper(picture, view) else {
        // Not knowing is no reason to make a second one.
        for (name, machine) in &picture.machines {
            if machine.joined && !machine.answers {
                plan.wait(
                    Topic::Host((*name).to_owned()),
                    reasons::UNREACHABLE,
                    format!(
                        "{name} may keep the authority for OVN, and {}",
                        silence(name, view)
                    ),
                );
                return false;
            }
        }
        if picture
            .machines
            .values()
            .filter_map(Machine::ovn_now)
            .any(|o| o.certificate.is_some() && o.central.is_ours())
        {
            plan.refuse(
                reasons::OVN,
                "no member keeps the authority that signed OVN's certificates: restore \
                 /var/lib/microcloud/ovn-authority.crt and .key on a member, or remove \
                 /etc/ovn/cert_host on all of them to begin with a new one",
            );
            return false;
        }
        let first = leader(picture, view).or_else(|| {
            picture
                .machines
                .iter()
                .find(|(_, m)| m.joined)
                .map(|(n, _)| *n)
        });
        if let Some(target) = first.and_then(|name| picture.target(name)) {
            let sentence = format!(
                "make the authority for OVN's certificates on {}",
                target.name
            );
            plan.steps
                .push(ask(object, target, OvnRequest::MakeAuthority, sentence));
        }
        return false;
    };
    for (name, machine) in &picture.machines {
        let lacks = machine.ovn_now().is_some_and(|o| o.authority.is_none());
        if !(lacks && votes(name, view)) {
            continue;
        }
        let (Some(from), Some(to)) = (picture.target(holder), picture.target(name)) else {
            continue;
        };
        plan.steps.push(Step::new(
            object,
            Action::Ovn(Box::new(OvnAction::ShareAuthority { from, to })),
            vec![Claim::exclusive(ClaimOn::Ovn((*name).to_owned()))],
            format!("keep a copy of OVN's authority on {name}"),
        ));
    }
    true
}

/// The member this controller runs on.
fn leader<'a>(picture: &Picture<'a>, view: &View<'_>) -> Option<&'a str> {
    let holder = view.memory.lease.holder.as_str();
    picture
        .machines
        .iter()
        .find(|(name, m)| **name == holder && m.answers)
        .map(|(name, _)| *name)
}

/// Who signs: the member this controller runs on if it keeps the authority, else the first that
/// does.
fn keeper<'a>(picture: &Picture<'a>, view: &View<'_>) -> Option<&'a str> {
    let keeps = |name: &str| {
        let machine = picture.machines.get(name);
        machine
            .and_then(Machine::ovn_now)
            .is_some_and(|o| o.authority.is_some())
    };
    leader(picture, view)
        .filter(|name| keeps(name))
        .or_else(|| picture.machines.keys().copied().find(|name| keeps(name)))
}

/// Whether a member has LXD's database, so that it may come to control.
fn votes(name: &str, view: &View<'_>) -> bool {
    let rows = view.world.lxd.members.known();
    rows.and_then(|rows| rows.get(name)).is_some_and(|row| {
        let roles = &row.value.roles;
        roles
            .iter()
            .any(|r| r == "database" || r == "database-leader")
    })
}

/// What each machine with the databases is to be told.
fn central_config(picture: &Picture<'_>, name: &str, first: bool) -> Option<CentralConfig> {
    let machine = picture.machines.get(name)?;
    let before = machine.ovn().and_then(|o| o.central.config.as_ref());
    let others = || picture.centrals.iter().copied().filter(|c| *c != name);
    let in_raft = |c: &str| {
        picture
            .machines
            .get(c)
            .and_then(Machine::ovn)
            .is_some_and(|o| o.central.is_ours() && o.central.files)
    };
    // One that made its raft is told of another as soon as there is one: were its files lost, it
    // would otherwise make a second raft when it starts again.
    let join = match before.and_then(|b| b.join) {
        Some(join) if others().any(|c| picture.address(c) == Some(join)) => Some(join),
        _ if first => None,
        _ => others()
            .find(|c| in_raft(c) && picture.machines[c].serves())
            .or_else(|| others().find(|c| in_raft(c)))
            .and_then(|c| picture.address(c)),
    };
    Some(CentralConfig {
        address: machine.spec.address,
        join,
        centrals: picture.addresses(),
        tls: picture.tls,
    })
}

fn centrals(object: &ObjectRef, picture: &Picture<'_>, view: &View<'_>, plan: &mut Plan) {
    let anybody = picture
        .machines
        .values()
        .filter_map(Machine::ovn)
        .any(|o| o.central.is_ours() && o.central.files);
    let serving = picture.serving();
    let first = if anybody {
        None
    } else {
        picture
            .centrals
            .iter()
            .copied()
            .find(|c| picture.machines[c].joined)
    };
    if !anybody {
        // A machine that does not answer may hold them.
        let mut members = picture.machines.iter();
        if let Some((name, _)) = members.find(|(_, m)| m.joined && !m.answers) {
            plan.wait(
                Topic::Host((*name).to_owned()),
                reasons::UNREACHABLE,
                format!(
                    "{name} may hold OVN's databases, and {}",
                    silence(name, view)
                ),
            );
            return;
        }
    }
    for name in &picture.centrals {
        let machine = &picture.machines[name];
        if !machine.joined {
            continue;
        }
        let Some(ovn) = usable(object, name, machine, picture, view, plan) else {
            continue;
        };
        let is_first = first == Some(*name);
        let Some(wanted) = central_config(picture, name, is_first) else {
            continue;
        };
        if is_first || ovn.central.config.as_ref() != Some(&wanted) || !ovn.central.serves() {
            let in_raft = ovn.central.is_ours() && ovn.central.files;
            if !is_first && !in_raft && serving.is_none() {
                plan.wait(
                    Topic::Ovn,
                    reasons::OVN,
                    format!("{name} joins OVN's databases when one of them has a leader"),
                );
                continue;
            }
            let sentence = if is_first {
                format!("make OVN's databases on {name}")
            } else if in_raft {
                plan.changes.extend(central_changes(name, ovn, &wanted));
                format!("set up OVN's databases on {name} anew")
            } else {
                format!("join {name} to OVN's databases")
            };
            if let Some(target) = picture.target(name) {
                let request = OvnRequest::Central(wanted);
                plan.steps.push(ask(object, target, request, sentence));
            }
        } else if let Some(change) = missing_listener(name, ovn, &wanted)
            && let Some(target) = picture.target(name)
        {
            plan.changes.push(change);
            let request = OvnRequest::Listen(wanted);
            let sentence = format!("have OVN's databases listen again, by {name}");
            plan.steps.push(ask(object, target, request, sentence));
        }
    }
    strike_lost(object, picture, plan);
    let all_serve = picture
        .centrals
        .iter()
        .all(|c| picture.machines[c].serves());
    if all_serve {
        give_up(object, picture, plan);
        strangers(object, picture, plan);
    }
    health(picture, view, plan);
}

fn central_changes(name: &str, ovn: &OvnReport, wanted: &CentralConfig) -> Vec<Change> {
    let mut changes = Vec::new();
    let told = ovn.central.config.as_ref();
    if told != Some(wanted) {
        let words = |c: &CentralConfig| list(c.centrals.iter().map(ToString::to_string));
        let from = told.map_or_else(|| "changed by hand".to_owned(), words);
        let path = format!("ovn.{name}.centrals");
        changes.push(Change::new(path, Some(&from), Some(&words(wanted))));
    }
    if !ovn.central.northd {
        let path = format!("ovn.{name}.northd");
        changes.push(Change::new(path, Some("stopped"), Some("running")));
    }
    for (word, database) in [
        ("northbound", &ovn.central.northbound),
        ("southbound", &ovn.central.southbound),
    ] {
        if database.is_none() {
            let path = format!("ovn.{name}.{word}");
            changes.push(Change::new(path, Some("stopped"), Some("running")));
        }
    }
    changes
}

fn missing_listener(name: &str, ovn: &OvnReport, wanted: &CentralConfig) -> Option<Change> {
    for (database, port) in [
        (&ovn.central.northbound, NORTHBOUND_PORT),
        (&ovn.central.southbound, SOUTHBOUND_PORT),
    ] {
        let (Some(database), Some(listener)) = (database, wanted.listener(port)) else {
            continue;
        };
        if database.connected && !database.listens.contains(&listener) {
            let path = format!("ovn.{name}.connections.{port}");
            let from = (!database.listens.is_empty()).then(|| database.listens.join(","));
            return Some(Change::new(path, from.as_deref(), Some(&listener)));
        }
    }
    None
}

/// What a machine says of OVN, if it can be told anything now; otherwise the plan waits.
fn usable<'a>(
    object: &ObjectRef,
    name: &str,
    machine: &Machine<'a>,
    picture: &Picture<'a>,
    view: &View<'_>,
    plan: &mut Plan,
) -> Option<&'a OvnReport> {
    let here = || Topic::Host(name.to_owned());
    let Some(ovn) = machine.ovn_now() else {
        // The member says so itself.
        if object.kind == Kind::Cluster {
            let silent = silence(name, view);
            plan.wait(here(), reasons::UNREACHABLE, format!("OVN: {silent}"));
        }
        return None;
    };
    if !ovn.installed {
        plan.wait(
            here(),
            reasons::SERVICE,
            format!(
                "OVN is not installed on {name}: install openvswitch-switch, ovn-central and \
                 ovn-host"
            ),
        );
        return None;
    }
    if let Some(problem) = &ovn.problem {
        plan.wait(
            here(),
            reasons::SERVICE,
            format!("Open vSwitch on {name} cannot be asked: {problem}"),
        );
        return None;
    }
    if picture.tls
        && let Some(why) = certificate_lacks(picture, machine, view)
        && object.kind == Kind::Cluster
        && !why.renewal
    {
        plan.wait(
            Topic::Object(ObjectRef::new(Kind::Member, name)),
            reasons::DEPENDENCY,
            format!("{name} has no certificate for OVN yet"),
        );
        return None;
    }
    Some(ovn)
}

/// Strikes from the rafts what has no place there: lost machines that gave it to another, and
/// machines that are no members any more. Only while a majority answers without them.
fn strike_lost(object: &ObjectRef, picture: &Picture<'_>, plan: &mut Plan) {
    let Some((by, ovn)) = picture.serving() else {
        return;
    };
    let Some(target) = picture.target(by) else {
        return;
    };
    let answering = |address: IpAddr| {
        picture
            .machines
            .values()
            .any(|m| m.spec.address == address && m.serves())
    };
    let kept = picture.addresses();
    for (which, word, database) in [
        (
            OvnDatabase::Northbound,
            "northbound",
            &ovn.central.northbound,
        ),
        (
            OvnDatabase::Southbound,
            "southbound",
            &ovn.central.southbound,
        ),
    ] {
        let Some(database) = database else { continue };
        let alive = database
            .servers
            .iter()
            .filter(|s| answering(s.address))
            .count();
        let gone = database
            .servers
            .iter()
            .find(|s| !kept.contains(&s.address) && !answering(s.address));
        let Some(server) = gone else { continue };
        if alive * 2 <= database.servers.len() {
            plan.refuse(
                reasons::OVN,
                format!(
                    "{} has no place in OVN's {word} database any more, but only {alive} of its {} \
                     servers answer: striking it waits until more do",
                    server.address,
                    database.servers.len()
                ),
            );
            continue;
        }
        let request = OvnRequest::Kick {
            database: which,
            server: server.clone(),
        };
        let sentence = format!("strike {} from OVN's {word} database", server.address);
        // Before anything joins in its place.
        plan.steps
            .insert(0, ask(object, target.clone(), request, sentence));
    }
}

/// Machines that hold the databases and need not: one at a time, when all others serve.
fn give_up(object: &ObjectRef, picture: &Picture<'_>, plan: &mut Plan) {
    if !plan.steps.is_empty() {
        return;
    }
    let extra = picture.machines.iter().find(|(name, m)| {
        !picture.centrals.contains(name) && m.ovn_now().is_some_and(|o| o.central.is_ours())
    });
    if let Some((name, _)) = extra
        && let Some(target) = picture.target(name)
    {
        let sentence = format!("take OVN's databases from {name}");
        plan.steps
            .push(ask(object, target, OvnRequest::LeaveCentral, sentence));
    }
}

/// Chassis rows of no machine that take a member's tunnel end or name, which keeps the member's
/// own row from being made.
fn strangers(object: &ObjectRef, picture: &Picture<'_>, plan: &mut Plan) {
    let Some((by, ovn)) = picture.serving() else {
        return;
    };
    let ends: BTreeSet<String> = picture
        .machines
        .iter()
        .filter_map(|(name, m)| picture.encap_ip(name, m).ok())
        .map(|ip| format!("geneve {ip}"))
        .collect();
    for row in &ovn.central.chassis {
        if picture.machines.contains_key(row.name.as_str()) {
            continue;
        }
        let takes = row.encaps.iter().any(|e| ends.contains(e))
            || picture.machines.contains_key(row.hostname.as_str());
        if !takes {
            plan.note(
                reasons::OVN,
                format!(
                    "OVN has a chassis {} ({}) that is no member",
                    row.name, row.hostname
                ),
            );
            continue;
        }
        if let Some(target) = picture.target(by) {
            let request = OvnRequest::DeleteChassis {
                name: row.name.clone(),
            };
            let sentence = format!("delete the old chassis {} of {}", row.name, row.hostname);
            plan.steps.push(ask(object, target, request, sentence));
        }
    }
}

/// What is wrong with the rafts and is not mended by a step.
fn health(picture: &Picture<'_>, view: &View<'_>, plan: &mut Plan) {
    if !plan.steps.is_empty() || picture.centrals.is_empty() {
        return;
    }
    for (word, of) in [
        (
            "northbound",
            northbound as fn(&OvnReport) -> Option<&DatabaseReport>,
        ),
        ("southbound", southbound),
    ] {
        let reports: Vec<&DatabaseReport> = picture
            .centrals
            .iter()
            .filter_map(|c| picture.machines[c].ovn_now())
            .filter_map(of)
            .collect();
        let rafts: BTreeSet<&str> = reports.iter().map(|d| d.cid.as_str()).collect();
        if rafts.len() > 1 {
            plan.refuse(
                reasons::OVN,
                format!(
                    "OVN's {word} database is {} different ones ({}): find out which one is in \
                     use, and set the others aside on their machines (/var/lib/ovn)",
                    rafts.len(),
                    list(rafts)
                ),
            );
        } else if !reports.is_empty() && !reports.iter().any(|d| d.leader) {
            let silent: Vec<String> = picture
                .centrals
                .iter()
                .filter(|c| !picture.machines[*c].answers)
                .map(|c| silence(c, view))
                .collect();
            let why = if silent.is_empty() {
                String::new()
            } else {
                format!(": {}", silent.join("; "))
            };
            plan.wait(
                Topic::Ovn,
                reasons::OVN,
                format!("OVN's {word} database has no leader, so networks cannot change{why}"),
            );
        }
    }
}

fn northbound(ovn: &OvnReport) -> Option<&DatabaseReport> {
    ovn.central.northbound.as_ref()
}

fn southbound(ovn: &OvnReport) -> Option<&DatabaseReport> {
    ovn.central.southbound.as_ref()
}

/// Why a machine's certificate must be made.
struct Lacks {
    why: String,
    /// Whether the one it has still works.
    renewal: bool,
}

fn certificate_lacks(
    picture: &Picture<'_>,
    machine: &Machine<'_>,
    view: &View<'_>,
) -> Option<Lacks> {
    let lacks = |why: &str, renewal: bool| {
        Some(Lacks {
            why: why.to_owned(),
            renewal,
        })
    };
    let ovn = machine.ovn_now()?;
    let Some(certificate) = &ovn.certificate else {
        return lacks("there is none", false);
    };
    if let Some(wrong) = &certificate.wrong {
        return lacks(wrong, false);
    }
    let authority = keeper(picture, view)
        .and_then(|k| picture.machines.get(k))
        .and_then(Machine::ovn_now)
        .and_then(|o| o.authority.as_ref());
    if authority.is_some_and(|a| a.fingerprint != certificate.authority) {
        return lacks("it is signed by another authority", false);
    }
    if !certificate.addresses.contains(&machine.spec.address) {
        return lacks("it is for another address", true);
    }
    if certificate.not_after - view.now.as_second() < RENEW_DAYS * 86_400 {
        return lacks("it ends soon", true);
    }
    None
}

/// Plans a member's certificate, and its part in carrying traffic.
pub(super) fn member(object: &ObjectRef, view: &View<'_>, plan: &mut Plan) {
    let Some(picture) = Picture::of(view) else {
        return;
    };
    let name = object.name.as_str();
    let Some(machine) = picture.machines.get(name).filter(|m| m.joined) else {
        return;
    };
    let Some(ovn) = usable(object, name, machine, &picture, view, plan) else {
        return;
    };
    if picture.tls
        && let Some(lacks) = certificate_lacks(&picture, machine, view)
    {
        let Some(authority) = keeper(&picture, view).and_then(|k| picture.target(k)) else {
            if !lacks.renewal
                && let Some((cluster, _)) = view.desired.cluster()
            {
                plan.wait(
                    Topic::Object(cluster.clone()),
                    reasons::DEPENDENCY,
                    format!("{cluster} makes the authority for OVN's certificates first"),
                );
            }
            return;
        };
        let path = "ovn.certificate";
        plan.changes.push(Change::new(
            path,
            Some(&lacks.why),
            Some("signed by the cluster's authority"),
        ));
        plan.steps.push(Step::new(
            object,
            Action::Ovn(Box::new(OvnAction::Certify {
                target: target(name, machine.spec),
                authority,
                addresses: vec![machine.spec.address],
            })),
            vec![Claim::exclusive(ClaimOn::Ovn(name.to_owned()))],
            format!("make the certificate of {name} for OVN: {}", lacks.why),
        ));
    }
    chassis(object, name, machine, ovn, &picture, view, plan);
    differs(plan);
}

fn chassis(
    object: &ObjectRef,
    name: &str,
    machine: &Machine<'_>,
    ovn: &OvnReport,
    picture: &Picture<'_>,
    view: &View<'_>,
    plan: &mut Plan,
) {
    let wanted = match picture.chassis_config(name, machine, view) {
        Ok(wanted) => wanted,
        Err(why) => {
            plan.wait(
                Topic::Host(name.to_owned()),
                reasons::OVN,
                format!("where the tunnels of {name} end is not known: {why}"),
            );
            return;
        }
    };
    if wanted.centrals.is_empty() {
        return;
    }
    let differs = chassis_changes(ovn, &wanted);
    if !differs.is_empty() || bridge_stands_still(ovn, &wanted) {
        plan.changes.extend(differs);
        let request = OvnRequest::Chassis(wanted);
        let sentence = format!("have {name} carry OVN's traffic");
        plan.steps
            .push(ask(object, target(name, machine.spec), request, sentence));
        return;
    }
    if !plan.steps.is_empty() {
        return;
    }
    registered(object, name, machine, &wanted, picture, view, plan);
}

/// What differs between a machine and what it is to be told.
fn chassis_changes(ovn: &OvnReport, wanted: &ChassisConfig) -> Vec<Change> {
    let seen = &ovn.chassis;
    let mut changes = Vec::new();
    let mut differ = |path: String, from: Option<&str>, to: &str| {
        if from != Some(to) {
            changes.push(Change::new(path, from, Some(to)));
        }
    };
    for (key, value) in wanted.external_ids(&seen.external_ids) {
        let from = seen.external_ids.get(&key).map(String::as_str);
        differ(format!("ovn.{key}"), from, &value);
    }
    differ(
        "ovn.system-id at start".to_owned(),
        Some(seen.system_id_at_start.as_str()),
        &wanted.name,
    );
    if wanted.tls != seen.tls {
        let word = |tls| if tls { "TLS" } else { "plain" };
        differ(
            "ovn.controller".to_owned(),
            Some(word(seen.tls)),
            word(wanted.tls),
        );
    }
    if !seen.controller {
        differ("ovn.controller".to_owned(), Some("stopped"), "running");
    }
    changes
}

/// Whether a bridge waits for the kernel to forward, which it does not: LXD makes its bridges so.
fn bridge_stands_still(ovn: &OvnReport, wanted: &ChassisConfig) -> bool {
    wanted.userspace && ovn.chassis.bridges.values().any(|d| d != "netdev")
}

/// Whether the member's row is in the southbound database; ovn-controller makes it.
fn registered(
    object: &ObjectRef,
    name: &str,
    machine: &Machine<'_>,
    wanted: &ChassisConfig,
    picture: &Picture<'_>,
    view: &View<'_>,
    plan: &mut Plan,
) {
    let Some((by, ovn)) = picture.serving() else {
        if let Some((cluster, _)) = view.desired.cluster() {
            plan.wait(
                Topic::Object(cluster.clone()),
                reasons::DEPENDENCY,
                format!("OVN's databases do not serve yet, so {name} carries no traffic of OVN"),
            );
        }
        return;
    };
    let end = format!("geneve {}", wanted.encap_ip);
    let row = ovn.central.chassis.iter().find(|c| c.name == name);
    let missing = match row {
        Some(row) if row.encaps.contains(&end) => return,
        Some(_) => format!(
            "OVN does not show yet that tunnels to {name} end at {}",
            wanted.encap_ip
        ),
        None => format!("OVN has no chassis {name}"),
    };
    let seen_at = [name, by]
        .iter()
        .filter_map(|n| view.world.hosts.get(*n)?.report.at())
        .max()
        .unwrap_or(view.now);
    if age(view.now, seen_at) < REGISTERS {
        plan.wait(Topic::Host(name.to_owned()), reasons::PROGRESSING, missing);
        plan.recheck_at = Some(after(seen_at, REGISTERS));
        return;
    }
    plan.changes.push(Change::new(
        "ovn.chassis",
        Some(missing.as_str()),
        Some("registered"),
    ));
    let sentence = format!("have ovn-controller on {name} begin anew: {missing}");
    let request = OvnRequest::RestartController;
    plan.steps
        .push(ask(object, target(name, machine.spec), request, sentence));
}

/// What a network of OVN waits for before it is made or changed.
pub(super) fn network_waits(view: &View<'_>, plan: &mut Plan) {
    let Some((reference, cluster)) = view.desired.cluster() else {
        return;
    };
    if packaged(cluster).is_none() {
        return;
    }
    let wait = |plan: &mut Plan, on: ObjectRef, message: String| {
        plan.wait(Topic::Object(on), reasons::DEPENDENCY, message);
    };
    let Some(picture) = Picture::of(view) else {
        return;
    };
    let key = view
        .world
        .lxd
        .server
        .known()
        .and_then(|s| s.config.get(NORTHBOUND_KEY));
    let listens = |ovn: &OvnReport| {
        let told = ovn
            .central
            .config
            .as_ref()
            .and_then(|c| c.listener(NORTHBOUND_PORT));
        let north = ovn.central.northbound.as_ref();
        told.is_none_or(|t| north.is_some_and(|n| n.listens.contains(&t)))
    };
    let ready = picture
        .serving()
        .filter(|(_, ovn)| key.is_some() && listens(ovn));
    let Some((_, ovn)) = ready else {
        let message = "OVN's databases do not serve yet".to_owned();
        return wait(plan, reference.clone(), message);
    };
    for (name, machine) in picture.machines.iter().filter(|(_, m)| m.joined) {
        let certified = !picture.tls || machine.ovn().is_some_and(|o| o.certificate.is_some());
        if !certified || !ovn.central.chassis.iter().any(|c| c.name == **name) {
            let member = ObjectRef::new(Kind::Member, *name);
            return wait(
                plan,
                member,
                format!("{name} does not carry OVN's traffic yet"),
            );
        }
    }
}

fn list<T: AsRef<str>>(words: impl IntoIterator<Item = T>) -> String {
    let words: Vec<T> = words.into_iter().collect();
    let words: Vec<&str> = words.iter().map(AsRef::as_ref).collect();
    words.join(", ")
}
