//! The routers of networks, as the databases on this machine have them, and which machines they
//! lead outside by.

use crate::services::host::ovn_types::Gateway;
use crate::services::ovn::rows::{
    Chassis, ChassisGroup, GATEWAY_TYPE, GroupChassis, LogicalRouterPort, PortBinding, Row,
};
use crate::services::ovn::{Client, Endpoint, NORTHBOUND, Operation, OvsdbError, SOUTHBOUND};
use ipnet::IpNet;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// What the southbound database puts before the name of a router's port for its way out.
const WAY_OUT: &str = "cr-";

fn addresses_of(port: &LogicalRouterPort) -> impl Iterator<Item = IpAddr> {
    let networks = port.networks.0.iter();
    networks.filter_map(|network| Some(network.parse::<IpNet>().ok()?.addr()))
}

/// The addresses of all routers.
pub(super) async fn addresses(north: &Client) -> Result<BTreeSet<IpAddr>, OvsdbError> {
    let ports: Vec<LogicalRouterPort> = north.rows(NORTHBOUND).await?;
    Ok(ports.iter().flat_map(addresses_of).collect())
}

/// Which machines networks go out by, by the address of their router outside.
pub(super) async fn gateways(
    north: &Client,
    south: &Endpoint,
) -> Result<BTreeMap<IpAddr, Gateway>, OvsdbError> {
    let ports: Vec<LogicalRouterPort> = north.rows(NORTHBOUND).await?;
    if ports.iter().all(|port| port.group.0.is_empty()) {
        return Ok(BTreeMap::new());
    }
    let groups: Vec<ChassisGroup> = north.rows(NORTHBOUND).await?;
    let machines: Vec<GroupChassis> = north.rows(NORTHBOUND).await?;
    // Without the southbound database it is not known where they are now.
    let now = match Client::connect(south, None).await {
        Ok(south) => bound(&south).await.unwrap_or_default(),
        Err(_) => BTreeMap::new(),
    };
    let mut gateways = BTreeMap::new();
    for port in &ports {
        let Some(group) = groups.iter().find(|g| port.group.0.contains(&g.id)) else {
            continue;
        };
        let preferred = machines
            .iter()
            .filter(|m| group.chassis.0.contains(&m.id))
            .max_by_key(|m| m.priority);
        let Some(preferred) = preferred else { continue };
        let gateway = Gateway {
            preferred: preferred.chassis_name.clone(),
            now: now.get(&port.name).cloned(),
        };
        gateways.extend(addresses_of(port).map(|address| (address, gateway.clone())));
    }
    Ok(gateways)
}

/// The machines that ways out are on now, by the router's port.
async fn bound(south: &Client) -> Result<BTreeMap<String, String>, OvsdbError> {
    let of = [("type", "==", json!(GATEWAY_TYPE))];
    let select = Operation::select(PortBinding::TABLE, &of, PortBinding::COLUMNS);
    let rows = south.transact(SOUTHBOUND, &[select]).await?;
    let chassis: Vec<Chassis> = south.rows(SOUTHBOUND).await?;
    let rows = rows.into_iter().flat_map(|answer| answer.rows);
    Ok(rows
        .filter_map(|row| serde_json::from_value::<PortBinding>(row).ok())
        .filter_map(|port| {
            let on = chassis.iter().find(|c| port.chassis.0.contains(&c.id))?;
            let name = port.logical_port.strip_prefix(WAY_OUT)?;
            Some((name.to_owned(), on.name.clone()))
        })
        .collect())
}
