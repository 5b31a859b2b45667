//! Monitors, managers and metadata servers of this machine.

use super::ceph::{
    CephHost, Readable, STARTING, ceph_failed, failed, guard, own, run, start_unit, unit, write,
};
use super::ceph_form::{Told, addresses, make_monitor};
use crate::services::ceph::{CephError, Command};
use crate::services::host::CephDaemonKind;
use crate::services::host::types::HostError;
use serde_json::Value;
use std::fs;
use std::net::IpAddr;
use std::time::Duration;

/// How long a new monitor may take until it is in the quorum.
const JOINING: Duration = Duration::from_secs(40);

/// Adds a daemon to the cluster.
pub(super) async fn add(
    host: &CephHost,
    kind: CephDaemonKind,
    name: &str,
    address: IpAddr,
) -> Told {
    let fsid = host.fsid()?;
    if fsid.is_empty() {
        return Err(guard("this machine is not set up for Ceph"));
    }
    let dir = host.dir(kind, name);
    if kind == CephDaemonKind::Mon {
        if !dir.exists() {
            let keyring = host
                .ceph
                .existing_keyring("mon.")
                .await
                .map_err(ceph_failed)?;
            // It is not told to the others first: with one monitor, a second one that is in the
            // map before it runs would take the majority away.
            let mut monitors = monitors(host).await?;
            if !monitors.iter().any(|(n, _)| n == name) {
                monitors.push((name.to_owned(), addresses(address)));
            }
            make_monitor(host, &fsid, name, &keyring, &monitors).await?;
        }
        start_unit(&unit(kind, name)).await?;
        in_quorum(host, name).await?;
        return Ok(None);
    }
    if !dir.join("keyring").exists() {
        let (entity, caps): (String, &[(&str, &str)]) = match kind {
            CephDaemonKind::Mds => (
                format!("mds.{name}"),
                &[
                    ("mon", "allow profile mds"),
                    ("mgr", "allow profile mds"),
                    ("mds", "allow *"),
                    ("osd", "allow *"),
                ],
            ),
            CephDaemonKind::Mgr | CephDaemonKind::Mon => (
                format!("mgr.{name}"),
                &[
                    ("mon", "allow profile mgr"),
                    ("osd", "allow *"),
                    ("mds", "allow *"),
                ],
            ),
        };
        let keyring = host
            .ceph
            .keyring(&entity, caps)
            .await
            .map_err(ceph_failed)?;
        fs::create_dir_all(&dir)
            .and_then(|()| own(&dir))
            .map_err(|e| failed(format!("cannot make {}: {e}", dir.display())))?;
        write(&dir.join("keyring"), &keyring, Readable::Ceph)?;
    }
    start_unit(&unit(kind, name)).await?;
    Ok(None)
}

/// The monitors of the map, with their addresses.
async fn monitors(host: &CephHost) -> Result<Vec<(String, String)>, HostError> {
    let dump: Value = host
        .ceph
        .read(&Command::new("mon dump"))
        .await
        .map_err(ceph_failed)?;
    let word = |value: &Value, key: &str| value[key].as_str().unwrap_or_default().to_owned();
    let monitors = dump["mons"].as_array().into_iter().flatten().map(|mon| {
        let addresses = mon["public_addrs"]["addrvec"].as_array();
        let addresses: Vec<String> = addresses
            .into_iter()
            .flatten()
            .map(|a| format!("{}:{}", word(a, "type"), word(a, "addr")))
            .collect();
        (word(mon, "name"), format!("[{}]", addresses.join(",")))
    });
    Ok(monitors.collect())
}

/// Waits until a monitor is in the quorum.
async fn in_quorum(host: &CephHost, name: &str) -> Result<(), HostError> {
    let begun = tokio::time::Instant::now();
    loop {
        let status: Result<Value, CephError> = host.ceph.read(&Command::new("status")).await;
        if let Ok(status) = &status {
            let names = status["quorum_names"].as_array();
            if names.into_iter().flatten().any(|n| n == name) {
                return Ok(());
            }
        }
        if begun.elapsed() >= JOINING {
            return Err(failed(match status {
                Ok(_) => format!(
                    "the monitor {name} runs, but is not in the quorum after {} s: do the \
                     machines reach each other on port 3300?",
                    JOINING.as_secs()
                ),
                Err(e) => e.to_string(),
            }));
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Takes a daemon out of the cluster. A monitor's store is kept aside until the next one goes.
pub(super) async fn remove(host: &CephHost, kind: CephDaemonKind, name: &str) -> Told {
    if kind == CephDaemonKind::Mon {
        let monitors = monitors(host).await?;
        if monitors.iter().any(|(n, _)| n == name) {
            if monitors.len() == 1 {
                return Err(guard(format!("{name} is the last monitor")));
            }
            host.ceph.remove_monitor(name).await.map_err(ceph_failed)?;
        }
    }
    let dir = host.dir(kind, name);
    if !dir.exists() {
        return Ok(None);
    }
    let words = ["disable", "--now", &unit(kind, name)];
    run("systemctl", &words, None, STARTING).await?;
    let aside = dir.with_file_name(format!(".removed-{name}"));
    let moved = fs::remove_dir_all(&aside)
        .or_else(|e| {
            let gone = e.kind() == std::io::ErrorKind::NotFound;
            if gone { Ok(()) } else { Err(e) }
        })
        .and_then(|()| fs::rename(&dir, &aside));
    moved.map_err(|e| failed(format!("cannot move {} aside: {e}", dir.display())))?;
    Ok(None)
}
