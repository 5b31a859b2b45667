//! This machine as one that carries traffic: what Open vSwitch is told, and ovn-controller.

use super::ovn::{OvnPaths, active, failed, systemctl};
use super::ovn_central::{parse, render, tls, was_ours};
use super::ovn_tls;
use crate::services::host::ovn_types::{
    ChassisConfig, ChassisReport, DATAPATH_MARK, TunnelReport, USERSPACE,
};
use crate::services::host::types::HostError;
use crate::services::ovn::rows::{Bridge, Interface, OpenVSwitch, Port};
use crate::services::ovn::{Client, LOCAL, Operation, OvsdbError, control, value};
use crate::services::peer::state_file;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// The bridge ovn-controller works on unless it is told another.
const INTEGRATION: &str = "br-int";

/// The type of a tunnel's interface.
pub(super) const TUNNEL: &str = "geneve";

fn options_file(paths: &OvnPaths) -> PathBuf {
    paths.defaults.join("ovn-host")
}

fn system_id_file(paths: &OvnPaths) -> PathBuf {
    paths.ovs_etc.join("system-id.conf")
}

/// Looks at Open vSwitch: its version, and what it has for OVN.
pub(super) async fn report(paths: &OvnPaths) -> Result<(String, ChassisReport), OvsdbError> {
    let (controller, connected) =
        tokio::join!(active("ovn-controller"), controller_connected(paths));
    let client = Client::connect(&paths.ovs(), None).await?;
    let (version, external_ids) = own_row(&client).await?;
    let all: Vec<Bridge> = client.rows(LOCAL).await?;
    let ports = ports(&client, &all, &external_ids).await?;
    let bridges = ours(all, &external_ids);
    let options = fs::read_to_string(options_file(paths)).unwrap_or_default();
    let chassis = ChassisReport {
        controller,
        connected,
        tunnels: tunnels(&client).await?,
        tls: parse(&options).is_some_and(|w| w.contains_key("ovn-controller-ssl-key")),
        system_id_at_start: fs::read_to_string(system_id_file(paths))
            .map(|t| t.trim().to_owned())
            .unwrap_or_default(),
        external_ids,
        ports,
        bridges: bridges
            .into_iter()
            .map(|b| (b.name, b.datapath_type))
            .collect(),
    };
    Ok((version, chassis))
}

/// Open vSwitch's version and what is OVN's of its `external_ids`.
async fn own_row(client: &Client) -> Result<(String, BTreeMap<String, String>), OvsdbError> {
    let Some(row) = client.rows::<OpenVSwitch>(LOCAL).await?.pop() else {
        return Ok((String::new(), BTreeMap::new()));
    };
    let version = row.ovs_version.one().cloned().unwrap_or_default();
    let of_ovn = |key: &str| key == "system-id" || key == DATAPATH_MARK || key.starts_with("ovn-");
    let ids = row.external_ids.0.into_iter().filter(|(k, _)| of_ovn(k));
    Ok((version, ids.collect()))
}

/// Whether ovn-controller is connected to the southbound database; `None` when it does not answer.
pub(super) async fn controller_connected(paths: &OvnPaths) -> Option<bool> {
    let pid = fs::read_to_string(paths.run.join("ovn-controller.pid")).ok()?;
    let socket = paths.run.join(format!("ovn-controller.{}.ctl", pid.trim()));
    control::connected(&socket).await.ok()
}

/// The tunnels, by the address of their other end.
async fn tunnels(client: &Client) -> Result<BTreeMap<IpAddr, TunnelReport>, OvsdbError> {
    let interfaces: Vec<Interface> = client.rows(LOCAL).await?;
    let tunnels = interfaces.into_iter().filter(|i| i.kind == TUNNEL);
    Ok(tunnels
        .filter_map(|interface| {
            let end = interface.options.0.get("remote_ip")?.parse().ok()?;
            let status = &interface.bfd_status.0;
            let report = TunnelReport {
                up: status.get("state").map(|state| state == "up"),
                diagnostic: status.get("diagnostic").cloned().unwrap_or_default(),
            };
            Some((end, report))
        })
        .collect())
}

fn integration_bridge(external_ids: &BTreeMap<String, String>) -> &str {
    let named = external_ids.get("ovn-bridge");
    named.map_or(INTEGRATION, String::as_str)
}

/// Which bridge holds a port, for all ports but those of the integration bridge and each bridge's
/// own.
async fn ports(
    client: &Client,
    bridges: &[Bridge],
    external_ids: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, OvsdbError> {
    let integration = integration_bridge(external_ids);
    let rows: Vec<Port> = client.rows(LOCAL).await?;
    let mut ports = BTreeMap::new();
    for bridge in bridges.iter().filter(|b| b.name != integration) {
        for port in rows.iter().filter(|p| bridge.ports.0.contains(&p.id)) {
            // Patches to the integration bridge come and go with every network.
            if port.name != bridge.name && !port.name.starts_with("patch-") {
                ports.insert(port.name.clone(), bridge.name.clone());
            }
        }
    }
    Ok(ports)
}

/// Of these bridges those OVN's traffic goes over.
fn ours(mut bridges: Vec<Bridge>, external_ids: &BTreeMap<String, String>) -> Vec<Bridge> {
    let integration = integration_bridge(external_ids);
    let mappings = external_ids.get("ovn-bridge-mappings");
    let ours: BTreeSet<&str> = mappings
        .iter()
        .flat_map(|m| m.split(','))
        .filter_map(|pair| pair.split_once(':').map(|(_, bridge)| bridge))
        .chain([integration])
        .collect();
    bridges.retain(|b| ours.contains(b.name.as_str()));
    bridges
}

fn options(paths: &OvnPaths, config: &ChassisConfig) -> Vec<String> {
    let mut words = Vec::new();
    if config.tls {
        let mut set = |key: &str, value: &str| words.push(format!("--{key}={value}"));
        tls(paths, "ovn-controller-ssl", &mut set);
    }
    words
}

fn write_if_differs(path: &Path, text: &str) -> Result<bool, HostError> {
    if fs::read_to_string(path).ok().as_deref() == Some(text) {
        return Ok(false);
    }
    state_file::write(path, text.as_bytes())
        .map(|()| true)
        .map_err(|e| failed(super::causes(&e)))
}

/// Open vSwitch loads the kernel's module when it starts: what was decided before holds no more.
/// A datapath of its own process would stay for good.
fn forwards_as_meant(paths: &OvnPaths, config: &ChassisConfig) -> Result<(), HostError> {
    if config.userspace && paths.kernel_datapath() {
        return Err(HostError::GuardFailed {
            reason: "the kernel forwards for Open vSwitch now, which it did not before".to_owned(),
        });
    }
    Ok(())
}

/// Makes this machine carry traffic as `config` says.
pub(super) async fn carry(paths: &OvnPaths, config: &ChassisConfig) -> Result<(), HostError> {
    if config.tls && !paths.certificate().exists() {
        return Err(HostError::GuardFailed {
            reason: "there is no certificate for OVN here yet".to_owned(),
        });
    }
    if !active("openvswitch-switch").await {
        systemctl(&["enable", "--now", "--quiet", "openvswitch-switch"]).await?;
    }
    forwards_as_meant(paths, config)?;
    // Open vSwitch takes its system-id from there whenever it starts.
    write_if_differs(&system_id_file(paths), &format!("{}\n", config.name))?;
    let told_anew = write_if_differs(&options_file(paths), &render(&options(paths, config)))?;
    let client = Client::connect(&paths.ovs(), None).await?;
    let (_, before) = own_row(&client).await?;
    let renamed = before.get("system-id") != Some(&config.name);
    let running = active("ovn-controller").await;
    if renamed && running {
        // One that stops takes its chassis row with it; under another name it would stay.
        systemctl(&["stop", "ovn-controller"]).await?;
    }
    tell(&client, config, &before).await?;
    systemctl(&["enable", "--quiet", "ovn-host"]).await?;
    if told_anew && running && !renamed {
        systemctl(&["restart", "ovn-controller"]).await?;
    }
    systemctl(&["start", "ovn-controller", "ovn-host"]).await?;
    if config.userspace {
        let (_, ids) = own_row(&client).await?;
        forward_in_userspace(&client, &ids).await?;
    }
    Ok(())
}

/// Writes what differs of `external_ids`, in one transaction.
async fn tell(
    client: &Client,
    config: &ChassisConfig,
    before: &BTreeMap<String, String>,
) -> Result<(), HostError> {
    let wanted = config.external_ids(before);
    let differs: BTreeMap<&String, &String> = wanted
        .iter()
        .filter(|(key, value)| before.get(*key) != Some(*value))
        .collect();
    if differs.is_empty() {
        return Ok(());
    }
    let gone = value::keys(differs.keys().map(|k| k.as_str()));
    let pairs: Vec<(&String, &String)> = differs.into_iter().collect();
    let mutate = Operation::mutate(
        "Open_vSwitch",
        &[],
        &[
            ("external_ids", "delete", gone),
            ("external_ids", "insert", json!(["map", pairs])),
        ],
    );
    client.transact(LOCAL, &[mutate]).await?;
    Ok(())
}

/// Carries no traffic any more. Done already is done.
pub(super) async fn forget(paths: &OvnPaths) -> Result<(), HostError> {
    if was_ours(paths) {
        return Err(HostError::GuardFailed {
            reason: "OVN's databases are held here still".to_owned(),
        });
    }
    if !active("openvswitch-switch").await {
        return ovn_tls::forget(paths);
    }
    let client = Client::connect(&paths.ovs(), None).await?;
    let (_, before) = own_row(&client).await?;
    if before.contains_key("ovn-remote") {
        systemctl(&["disable", "--quiet", "ovn-host"]).await?;
        // While it still knows where the databases are: it deletes its row there.
        systemctl(&["stop", "ovn-host", "ovn-controller"]).await?;
        let keys = before.keys().filter(|key| *key != "system-id");
        let gone = value::keys(keys.map(String::as_str));
        let mutate = Operation::mutate("Open_vSwitch", &[], &[("external_ids", "delete", gone)]);
        client.transact(LOCAL, &[mutate]).await?;
    }
    ovn_tls::forget(paths)
}

/// Bridges that others make say nothing of a datapath, and then want the kernel's.
async fn forward_in_userspace(
    client: &Client,
    external_ids: &BTreeMap<String, String>,
) -> Result<(), HostError> {
    let all: Vec<Bridge> = client.rows(LOCAL).await?;
    let operations: Vec<Operation> = ours(all, external_ids)
        .into_iter()
        .filter(|b| b.datapath_type != USERSPACE)
        .map(|b| {
            Operation::update(
                "Bridge",
                &[("name", "==", json!(b.name))],
                json!({"datapath_type": USERSPACE}),
            )
        })
        .collect();
    if !operations.is_empty() {
        client.transact(LOCAL, &operations).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_that_forwards_since_open_vswitch_started_is_asked_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let paths = OvnPaths::below(dir.path());
        let config = |userspace| ChassisConfig {
            name: "micro01".into(),
            encap_ip: "10.0.0.1".parse().unwrap(),
            centrals: Vec::new(),
            tls: false,
            userspace,
            mappings: BTreeMap::new(),
        };
        assert_eq!(forwards_as_meant(&paths, &config(true)), Ok(()));
        fs::create_dir_all(paths.sys.join("module/openvswitch")).unwrap();
        let refused = forwards_as_meant(&paths, &config(true));
        assert!(
            matches!(refused, Err(HostError::GuardFailed { .. })),
            "{refused:?}"
        );
        assert_eq!(forwards_as_meant(&paths, &config(false)), Ok(()));
    }
}
