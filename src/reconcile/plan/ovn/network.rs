//! What LXD is told of OVN, and what its networks wait for.

use super::NORTHBOUND_KEY;
use super::picture::{Picture, packaged};
use crate::reconcile::clock::{after, age};
use crate::reconcile::plan::{Plan, Topic, View, reasons};
use crate::resources::kinds::{ClusterSpec, OvnProvider};
use crate::resources::value::{Config, ConfigValue};
use crate::resources::{Kind, ObjectRef};
use crate::services::host::{OvnReport, connection};
use crate::services::ovn::NORTHBOUND_PORT;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

/// The server keys that follow from `spec.ovn`, added to those the resource holds.
pub(in crate::reconcile::plan) fn server_keys(
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

/// What a network of OVN waits for before it is made or changed.
pub(in crate::reconcile::plan) fn network_waits(view: &View<'_>, plan: &mut Plan) {
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

/// How long a router may be on its way between LXD and OVN's databases.
const ARRIVES: Duration = Duration::from_secs(3);

/// Whether a network that LXD has made is in OVN as well. What LXD makes of a network there is left
/// to LXD; that its router is gone is told.
pub(in crate::reconcile::plan) fn network_health(
    object: &ObjectRef,
    view: &View<'_>,
    plan: &mut Plan,
) {
    let key = (object.project.clone(), object.name.clone());
    let (Some(networks), Some(picture)) = (view.world.lxd.networks.known(), Picture::of(view))
    else {
        return;
    };
    let Some((by, ovn)) = picture.serving() else {
        return;
    };
    let (Some(network), Some(routers)) = (networks.get(&key), &ovn.central.routers) else {
        return;
    };
    let outside = ["ipv4", "ipv6"]
        .into_iter()
        .filter_map(|family| {
            let key = format!("volatile.network.{family}.address");
            network.whole.value.config.get(&key)?.parse::<IpAddr>().ok()
        })
        .find(|address| !routers.contains(address));
    let Some(address) = outside else {
        return;
    };
    let seen_at = view.world.hosts.get(by).and_then(|h| h.report.at());
    let latest = seen_at.max(view.world.lxd.networks.at());
    if let Some(latest) = latest.filter(|at| age(view.now, *at) < ARRIVES) {
        plan.recheck_at = Some(after(latest, ARRIVES));
        return;
    }
    plan.note(
        reasons::OVN,
        format!(
            "OVN has no router at {address}, by which {} goes out: somebody has changed what LXD \
             made there. To have LXD make it again, change a key of the network and change it \
             back (lxc network set {} dns.domain …)",
            object.name, object.name
        ),
    );
}
