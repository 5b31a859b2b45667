//! OVN as all machines tell of it, and who is to hold the databases.

use super::chassis::mappings;
use crate::reconcile::clock::after;
use crate::reconcile::plan::cluster::target;
use crate::reconcile::plan::member::is_coming;
use crate::reconcile::plan::{View, removal};
use crate::resources::kinds::{
    ClusterSpec, MemberSpec, MemberState, OvnProvider, OvnSpec, OvnTransport,
};
use crate::resources::{Kind, ObjectRef};
use crate::services::host::{
    ChassisConfig, HostReport, HostTarget, OvnDatabase, OvnReport, Raft, Rafts,
};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// How many machines hold the databases: an even number is lost as soon as the one below it.
const CENTRALS: usize = 3;

/// How long a lost machine keeps its place among those with the databases, unless the `Cluster`
/// says otherwise.
const GRACE: Duration = Duration::from_secs(300);

/// A machine as far as OVN is concerned.
#[derive(Debug, Clone, Copy)]
pub(super) struct Machine<'a> {
    pub(super) spec: &'a MemberSpec,
    /// What was last seen, also of a machine that is silent now.
    pub(super) report: Option<&'a HostReport>,
    /// When that was.
    pub(super) seen_at: Option<Timestamp>,
    /// Whether it answers.
    pub(super) answers: bool,
    /// Whether it is in the cluster.
    pub(super) joined: bool,
    /// Whether it has begun to leave.
    pub(super) leaves: bool,
    /// Whether it is or will be.
    pub(super) coming: bool,
    /// When its place is given away, if it goes on being silent.
    pub(super) lost_at: Option<Timestamp>,
    /// Whether it has been silent for so long that its place is given away.
    pub(super) lost: bool,
}

impl<'a> Machine<'a> {
    /// What it last said of OVN.
    pub(super) fn ovn(&self) -> Option<&'a OvnReport> {
        self.report.map(|r| &r.ovn)
    }

    /// What it says of OVN now.
    pub(super) fn ovn_now(&self) -> Option<&'a OvnReport> {
        self.ovn().filter(|_| self.answers)
    }

    /// Whether it holds the databases in a raft with a majority, as far as is known.
    pub(super) fn serves(&self) -> bool {
        self.ovn_now().is_some_and(|o| o.central.serves())
    }
}

/// OVN as all machines tell of it.
pub(super) struct Picture<'a> {
    pub(super) tls: bool,
    pub(super) spec: &'a OvnSpec,
    pub(super) machines: BTreeMap<&'a str, Machine<'a>>,
    /// Who is to hold the databases, by name.
    pub(super) centrals: Vec<&'a str>,
    /// Members that no resource names any more, and where they are: they keep what they hold.
    pub(super) orphaned: BTreeMap<&'a str, IpAddr>,
}

impl<'a> Picture<'a> {
    /// `None` when OVN is not run from packages, or who is in the cluster is not known.
    pub(super) fn of(view: &View<'a>) -> Option<Picture<'a>> {
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
            .filter(|(name, spec)| spec.state != MemberState::Absent || rows.contains_key(*name))
            .map(|(name, spec)| {
                let host = view.world.hosts.get(name);
                let joined = rows.contains_key(name);
                let silent = host.and_then(|h| h.silent_since);
                let lost_at = silent.map(|since| after(since, grace));
                let leaves = removal::is_under_way(name, view);
                let machine = Machine {
                    spec,
                    report: host.and_then(|h| h.report.known()),
                    seen_at: host.and_then(|h| h.report.at()),
                    answers: host.is_some_and(|h| h.error.is_none() && h.report.known().is_some()),
                    joined,
                    leaves,
                    coming: !leaves
                        && (joined || is_coming(&ObjectRef::new(Kind::Member, name), view)),
                    lost_at,
                    lost: lost_at.is_some_and(|at| at <= view.now),
                };
                (name, machine)
            })
            .collect();
        let orphaned = rows
            .iter()
            .filter(|(name, _)| view.desired.member(name).is_none())
            .filter_map(|(name, row)| Some((name.as_str(), address_of(&row.value.url)?)))
            .collect();
        let centrals = choose(&machines, &orphaned);
        Some(Picture {
            orphaned,
            tls: spec.transport != OvnTransport::Tcp,
            spec,
            machines,
            centrals,
        })
    }

    pub(super) fn address(&self, name: &str) -> Option<IpAddr> {
        self.machines.get(name).map(|m| m.spec.address)
    }

    /// Where the databases are, in one order whoever holds them.
    pub(super) fn addresses(&self) -> Vec<IpAddr> {
        let chosen = self.centrals.iter().filter_map(|c| self.address(c));
        let all: BTreeSet<IpAddr> = chosen.chain(self.held_by_orphans()).collect();
        all.into_iter().collect()
    }

    /// Where databases are held by members that no resource names.
    pub(super) fn held_by_orphans(&self) -> impl Iterator<Item = IpAddr> + use<> {
        held_by(&self.orphaned, &in_rafts(&self.machines)).into_iter()
    }

    pub(super) fn target(&self, name: &str) -> Option<HostTarget> {
        self.machines.get(name).map(|m| target(name, m.spec))
    }

    /// A machine whose databases are part of their rafts: what it says of them counts.
    pub(super) fn serving(&self) -> Option<(&'a str, &'a OvnReport)> {
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

    /// A database's raft, as the machine that was looked at last of those that are part of it says:
    /// who is in it changes without anybody being told.
    pub(super) fn raft(&self, which: OvnDatabase, but: Option<&str>) -> Option<Raft> {
        let others = self.machines.iter().filter(|(name, _)| but != Some(**name));
        others
            .filter_map(|(_, m)| Some((m.seen_at, m.ovn_now()?.central.database(which)?)))
            .filter(|(_, database)| database.connected && !database.servers.is_empty())
            .max_by_key(|(at, database)| (*at, database.leader))
            .map(|(_, database)| Raft::from(database))
    }

    /// The rafts as the other machines tell of them.
    pub(super) fn rafts_without(&self, name: &str) -> Rafts {
        Rafts {
            northbound: self.raft(OvnDatabase::Northbound, Some(name)),
            southbound: self.raft(OvnDatabase::Southbound, Some(name)),
        }
    }

    /// Whether a machine has the files of rafts one of which has struck it: it must leave them
    /// before it can join anew.
    pub(super) fn was_struck(&self, name: &str, machine: &Machine<'_>) -> bool {
        let in_rafts = in_rafts(&self.machines);
        let Some(own) = machine.ovn_now().map(|o| &o.central) else {
            return false;
        };
        if !own.is_ours() || !own.files || own.serves() || in_rafts.is_empty() {
            return false;
        }
        let told = self.rafts_without(name);
        let struck = |which: OvnDatabase| {
            let (Some((cid, sid)), Some(raft)) = (own.server(which), told.of(which)) else {
                return false;
            };
            let connected = own.database(which).is_some_and(|d| d.connected);
            !connected && raft.is_without(cid, sid)
        };
        !in_rafts.contains(&machine.spec.address) || OvnDatabase::BOTH.into_iter().any(struck)
    }

    /// The address tunnels end at on a machine, or why it is not known.
    pub(super) fn encap_ip(&self, name: &str, machine: &Machine<'a>) -> Result<IpAddr, String> {
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

    pub(super) fn chassis_config(
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

/// The `ovn` of a cluster whose agents run the distribution's packages.
pub(super) fn packaged(cluster: &ClusterSpec) -> Option<&OvnSpec> {
    cluster
        .ovn
        .as_ref()
        .filter(|ovn| ovn.provider == OvnProvider::Packaged)
}

/// The addresses of all servers of the rafts, as those say that have a majority. They tell of
/// machines too that were never seen by this controller.
fn in_rafts(machines: &BTreeMap<&str, Machine<'_>>) -> BTreeSet<IpAddr> {
    machines
        .values()
        .filter(|m| m.serves())
        .filter_map(Machine::ovn_now)
        .flat_map(|o| [&o.central.northbound, &o.central.southbound])
        .flatten()
        .flat_map(|d| d.servers.iter().map(|s| s.address))
        .collect()
}

/// The address in a member's URL.
fn address_of(url: &str) -> Option<IpAddr> {
    let socket: SocketAddr = url.strip_prefix("https://")?.parse().ok()?;
    Some(socket.ip())
}

/// Of members without a resource, those in the rafts.
fn held_by(orphaned: &BTreeMap<&str, IpAddr>, in_rafts: &BTreeSet<IpAddr>) -> Vec<IpAddr> {
    let addresses = orphaned.values().copied();
    addresses.filter(|a| in_rafts.contains(a)).collect()
}

/// Who is to hold the databases: those that do, then the first by name that answer. Three when
/// there are three members, otherwise one; members without a resource count, and keep their places.
/// That a member has not joined yet, or is away, takes nothing from those that hold them.
fn choose<'a>(
    machines: &BTreeMap<&'a str, Machine<'a>>,
    orphaned: &BTreeMap<&str, IpAddr>,
) -> Vec<&'a str> {
    let in_rafts = in_rafts(machines);
    let held = held_by(orphaned, &in_rafts).len();
    let for_members = |count: usize| {
        let size = if count >= CENTRALS { CENTRALS } else { 1 };
        size.saturating_sub(held)
    };
    let stay = machines.values().filter(|m| !m.leaves).count();
    let kept = for_members(stay + orphaned.len());
    let coming = machines.values().filter(|m| m.coming).count();
    let filled = for_members(coming + orphaned.len());
    // One that was struck while it was lost still believes that it holds them when it comes back;
    // it is believed only when nobody knows better.
    let holds = |m: &Machine<'_>| match in_rafts.is_empty() {
        true => m.ovn().is_some_and(|o| o.central.is_ours()),
        false => in_rafts.contains(&m.spec.address),
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
    chosen.truncate(kept);
    let missing = filled.saturating_sub(chosen.len());
    chosen.extend(free().take(missing));
    chosen.sort_unstable();
    chosen
}
