//! Monitors, managers and metadata servers of this machine.

use super::ceph::{
    ACTIVE, CephHost, Readable, STARTING, alive, ceph_failed, failed, guard, launch_unit,
    move_aside, own, run, start_unit, state_of, stays, unit, write,
};
use super::ceph_form::{Told, addresses, make_monitor};
use crate::services::ceph::{CephError, Command};
use crate::services::host::CephDaemonKind;
use crate::services::host::types::HostError;
use serde_json::Value;
use std::fs;
use std::net::IpAddr;
use std::path::Path;
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
    if kind == CephDaemonKind::Mon {
        return add_monitor(host, &fsid, name, address).await;
    }
    keep_key(host, kind, name).await?;
    let unit = unit(kind, name);
    launch_unit(&unit).await?;
    let known = || is_known(host.clone(), kind, name.to_owned());
    stays(&unit, known).await?;
    Ok(None)
}

/// Starts a daemon that was set up here.
pub(super) async fn start(host: &CephHost, kind: CephDaemonKind, name: &str) -> Told {
    if !host.dir(kind, name).exists() {
        return Err(guard(format!("there is no {kind} {name} here")));
    }
    if kind != CephDaemonKind::Mon {
        keep_key(host, kind, name).await?;
    }
    start_unit(&unit(kind, name)).await?;
    Ok(None)
}

/// Has a manager or a metadata server have its key.
async fn keep_key(host: &CephHost, kind: CephDaemonKind, name: &str) -> Result<(), HostError> {
    let dir = host.dir(kind, name);
    if dir.join("keyring").exists() {
        return Ok(());
    }
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
    write(&dir.join("keyring"), &keyring, Readable::Ceph)
}

/// Whether the cluster knows a manager or a metadata server that was just started.
async fn is_known(host: CephHost, kind: CephDaemonKind, name: String) -> bool {
    let words = match kind {
        CephDaemonKind::Mgr => "mgr dump",
        CephDaemonKind::Mds => "fs dump",
        CephDaemonKind::Mon => return false,
    };
    let Ok(dump) = host.ceph.read::<Value>(&Command::new(words)).await else {
        return false;
    };
    let standbys = dump["standbys"].as_array();
    let mut standbys = standbys.into_iter().flatten();
    dump["active_name"] == *name || standbys.any(|daemon| daemon["name"] == *name)
}

/// What is to be done for a monitor, by what is there of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Store {
    /// It is started, and has its place in the map already or gets it.
    Start,
    /// Its store is good for nothing: it is set aside, and a new one made.
    Anew,
    /// There is none, and the map still speaks of the one that was lost: that goes out first.
    Lost,
    /// There is none yet.
    Make,
}

impl Store {
    /// By whether there is a store, whether the map has the monitor, and whether it runs.
    ///
    /// Who was struck from the map ends by itself as soon as it hears of that and never gets in
    /// again with the store it has. One that runs may just be fetching what it lacks, which takes
    /// its time.
    fn of(stored: bool, mapped: bool, runs: bool) -> Store {
        match (stored, mapped) {
            (true, false) if !runs => Store::Anew,
            (true, _) => Store::Start,
            (false, true) => Store::Lost,
            (false, false) => Store::Make,
        }
    }
}

/// Adds the monitor of this machine, or has the one it had come back.
async fn add_monitor(host: &CephHost, fsid: &str, name: &str, address: IpAddr) -> Told {
    let dir = host.dir(CephDaemonKind::Mon, name);
    let unit = unit(CephDaemonKind::Mon, name);
    let mut known = monitors(host).await?;
    let mapped = known.iter().any(|(n, _)| n == name);
    let runs = state_of(&unit).await == ACTIVE;
    match Store::of(dir.exists(), mapped, runs) {
        Store::Start => {
            launch_unit(&unit).await?;
            in_quorum(host, name, &unit).await?;
            return Ok(None);
        }
        Store::Anew => set_aside(&dir, &unit).await?,
        Store::Lost => {
            // One that comes back empty under its old place would be counted for what it once
            // agreed to and has forgotten.
            spare(host, name).await?;
            run("systemctl", &["stop", &unit], None, STARTING).await?;
            host.ceph.remove_monitor(name).await.map_err(ceph_failed)?;
            known.retain(|(n, _)| n != name);
        }
        Store::Make => {}
    }
    let keyring = host
        .ceph
        .existing_keyring("mon.")
        .await
        .map_err(ceph_failed)?;
    // It is not told to the others first: with one monitor, a second one that is in the map before
    // it runs would take the majority away.
    known.push((name.to_owned(), addresses(address)));
    make_monitor(host, fsid, name, &keyring, &known).await?;
    launch_unit(&unit).await?;
    in_quorum(host, name, &unit).await?;
    Ok(None)
}

/// Refuses unless a monitor is out of the quorum and all others are in it: taken out of the map
/// then, it takes nothing from the majority.
async fn spare(host: &CephHost, name: &str) -> Result<(), HostError> {
    let status: Value = host
        .ceph
        .read(&Command::new("status"))
        .await
        .map_err(ceph_failed)?;
    let quorum: Vec<&str> = status["quorum_names"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let names: Vec<String> = monitors(host).await?.into_iter().map(|(n, _)| n).collect();
    is_spare(name, &names, &quorum).map_err(guard)
}

fn is_spare(name: &str, map: &[String], quorum: &[&str]) -> Result<(), String> {
    if quorum.is_empty() {
        return Err("the monitors are choosing a leader".to_owned());
    }
    if quorum.contains(&name) {
        return Err(format!("the monitor of {name} is in the quorum"));
    }
    let out = |other: &&String| **other != name && !quorum.contains(&other.as_str());
    match map.iter().find(out) {
        Some(other) => Err(format!(
            "the store of the monitor of {name} is lost, and it is made anew only while all others \
             are in the quorum: that of {other} is not"
        )),
        None => Ok(()),
    }
}

/// Stops a monitor and moves its store away, where it stays until somebody deletes it.
async fn set_aside(dir: &Path, unit: &str) -> Result<(), HostError> {
    let words = ["disable", "--now", unit];
    run("systemctl", &words, None, STARTING).await?;
    move_aside(dir)
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
async fn in_quorum(host: &CephHost, name: &str, unit: &str) -> Result<(), HostError> {
    let begun = tokio::time::Instant::now();
    loop {
        let status: Result<Value, CephError> = host.ceph.read(&Command::new("status")).await;
        if let Ok(status) = &status {
            let names = status["quorum_names"].as_array();
            if names.into_iter().flatten().any(|n| n == name) {
                return Ok(());
            }
        }
        alive(unit).await?;
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

/// Takes a daemon that has no place any more off this machine. A monitor's store is kept aside.
pub(super) async fn remove(host: &CephHost, kind: CephDaemonKind, name: &str) -> Told {
    if kind == CephDaemonKind::Mon && monitors(host).await?.iter().any(|(n, _)| n == name) {
        return Err(guard(format!(
            "the monitor of {name} is in the map of the monitors again"
        )));
    }
    let dir = host.dir(kind, name);
    if dir.exists() {
        set_aside(&dir, &unit(kind, name)).await?;
    }
    Ok(None)
}

/// Forgets the cluster: no daemon of it is set up here any more, and no disk holds an OSD of it
/// that runs. The keys go, and what `ceph.conf` says of it.
pub(super) async fn forget(host: &CephHost, fsid: &str) -> Told {
    let known = host.fsid()?;
    if known.is_empty() || known != fsid {
        return Ok(None);
    }
    for kind in [
        CephDaemonKind::Mon,
        CephDaemonKind::Mgr,
        CephDaemonKind::Mds,
    ] {
        for name in super::ceph::names(&host.lib.join(kind.word())) {
            set_aside(&host.dir(kind, &name), &unit(kind, &name)).await?;
        }
    }
    if let Some(runs) = super::ceph::running(&host.roots).first() {
        return Err(guard(format!("{runs} runs here still")));
    }
    let bootstrap = host.lib.join("bootstrap-osd/ceph.keyring");
    // What says that it is ours goes last.
    for path in [host.admin_keyring(), bootstrap, host.conf()] {
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(failed(format!("cannot remove {}: {e}", path.display())));
            }
            _ => {}
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_that_was_struck_or_lost_is_made_anew_and_one_that_joins_is_left_alone() {
        assert_eq!(Store::of(true, true, false), Store::Start, "it stopped");
        assert_eq!(Store::of(true, false, true), Store::Start, "it is joining");
        assert_eq!(Store::of(true, false, false), Store::Anew, "it was struck");
        assert_eq!(Store::of(false, true, false), Store::Lost);
        // Its files were deleted under it: what it does not write any more is lost.
        assert_eq!(Store::of(false, true, true), Store::Lost);
        assert_eq!(Store::of(false, false, false), Store::Make);
    }

    #[test]
    fn the_last_majority_is_never_taken_away() {
        let map = ["a", "b", "c"].map(str::to_owned);
        assert_eq!(is_spare("c", &map, &["a", "b"]), Ok(()));
        for (quorum, why) in [
            (&["a"][..], "that of b is not"),
            (&["a", "b", "c"][..], "is in the quorum"),
            (&[][..], "choosing"),
        ] {
            let told = is_spare("c", &map, quorum).expect_err(why);
            assert!(told.contains(why), "{told}");
        }
    }
}
