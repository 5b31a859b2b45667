//! What LXD is told of OVN, and what its networks wait for.

use super::NORTHBOUND_KEY;
use super::picture::{Picture, packaged};
use crate::reconcile::plan::{Plan, Topic, View, reasons};
use crate::resources::kinds::{ClusterSpec, OvnProvider};
use crate::resources::value::{Config, ConfigValue};
use crate::resources::{Kind, ObjectRef};
use crate::services::host::{OvnReport, connection};
use crate::services::ovn::NORTHBOUND_PORT;
use std::collections::BTreeMap;

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
