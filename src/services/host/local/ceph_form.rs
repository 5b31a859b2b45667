//! The first monitor of a cluster, and what other machines need to reach it.

use super::ceph::{
    CephHost, Readable, STARTING, alive, ceph_failed, failed, guard, launch_unit, own, run, unit,
    write,
};
use super::ceph_conf;
use crate::services::ceph::{CephError, Command};
use crate::services::host::types::HostError;
use crate::services::host::{CephAccess, CephAnswer, CephDaemonKind};
use base64::Engine;
use ipnet::IpNet;
use std::fs;
use std::io::Read;
use std::net::IpAddr;
use std::time::Duration;

/// How long the first monitor may take until it answers.
const ANSWERING: Duration = Duration::from_secs(30);

/// The admin's keyring of a cluster whose first monitor does not run yet.
const PENDING: &str = ".ceph.client.admin.keyring.pending";

/// What a step of this machine answers; `None` when there is nothing to tell.
pub(super) type Told = Result<Option<CephAnswer>, HostError>;

/// Forms a cluster with this machine's monitor.
pub(super) async fn form(
    host: &CephHost,
    fsid: &str,
    name: &str,
    address: IpAddr,
    (public_network, cluster_network): (Option<IpNet>, Option<IpNet>),
) -> Told {
    let known = host.fsid()?;
    if !known.is_empty() && known != fsid {
        return Err(guard(format!(
            "this machine is set up for the Ceph cluster {known} already"
        )));
    }
    let dir = host.dir(CephDaemonKind::Mon, name);
    if known.is_empty() && dir.exists() {
        return Err(guard(format!(
            "{} holds a monitor that no ceph.conf speaks of: move it away if it is not needed",
            dir.display()
        )));
    }
    let access = CephAccess {
        fsid: fsid.to_owned(),
        mon_host: addresses(address),
        public_network,
        cluster_network,
        keyring: String::new(),
    };
    if known.is_empty() {
        no_foreign_key(host)?;
    }
    // The key is kept before the monitor learns it: cut in two here, the same one is used. It
    // gets its name when there is somebody to ask with it.
    let pending = host.etc.join(PENDING);
    let kept = |path: &std::path::Path| fs::read_to_string(path).ok();
    let key = match kept(&host.admin_keyring()).filter(|_| !known.is_empty()) {
        Some(key) => key,
        None => {
            let key = match kept(&pending) {
                Some(key) => key,
                None => admin_keyring(&secret()?),
            };
            write(&pending, &key, Readable::Root)?;
            key
        }
    };
    configure(host, &access)?;
    if !dir.exists() {
        let mut keyring = format!("[mon.]\n\tkey = {}\n\tcaps mon = \"allow *\"\n", secret()?);
        keyring.push_str(&key);
        keyring.push_str(&format!(
            "[client.bootstrap-osd]\n\tkey = {}\n\tcaps mon = \"profile bootstrap-osd\"\n\tcaps mgr = \"allow r\"\n",
            secret()?
        ));
        let monitors = [(name.to_owned(), addresses(address))];
        make_monitor(host, fsid, name, &keyring, &monitors).await?;
    }
    let unit = unit(CephDaemonKind::Mon, name);
    launch_unit(&unit).await?;
    if pending.exists() {
        fs::rename(&pending, host.admin_keyring())
            .map_err(|e| failed(format!("cannot keep the admin's key: {e}")))?;
    }
    answers(host, &unit).await?;
    host.ceph
        .set_config("mon", "auth_allow_insecure_global_id_reclaim", "false")
        .await
        .map_err(ceph_failed)?;
    Ok(None)
}

/// Refuses when there is an admin's key though no `ceph.conf` says of which cluster: it may be the
/// only one of somebody else's.
fn no_foreign_key(host: &CephHost) -> Result<(), HostError> {
    let path = host.admin_keyring();
    if !path.exists() {
        return Ok(());
    }
    Err(guard(format!(
        "{} is there, and no ceph.conf says of which cluster it is: move it away if it is not \
         needed",
        path.display()
    )))
}

/// Waits until the cluster answers, as long as its monitor runs.
async fn answers(host: &CephHost, unit: &str) -> Result<(), HostError> {
    let begun = tokio::time::Instant::now();
    loop {
        match host.ceph.run(&Command::new("status")).await {
            Ok(_) => return Ok(()),
            Err(CephError::Refused { reason, .. }) => return Err(failed(reason)),
            Err(e) if begun.elapsed() >= ANSWERING => return Err(ceph_failed(e)),
            Err(_) => {}
        }
        alive(unit).await?;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Makes the store of a monitor. It appears whole or not at all.
pub(super) async fn make_monitor(
    host: &CephHost,
    fsid: &str,
    name: &str,
    keyring: &str,
    monitors: &[(String, String)],
) -> Result<(), HostError> {
    let dir = host.dir(CephDaemonKind::Mon, name);
    let base = dir.parent().unwrap_or(&host.lib);
    let making = base.join(format!(".making-{name}"));
    let result = async {
        let _ = fs::remove_dir_all(&making);
        let cannot = |e| failed(format!("cannot make {}: {e}", making.display()));
        fs::create_dir_all(making.join("store")).map_err(cannot)?;
        for path in [&making, &making.join("store")] {
            own(path).map_err(cannot)?;
        }
        let (map, keys) = (making.join("monmap"), making.join("keyring"));
        let (map, keys, store) = (
            map.display().to_string(),
            keys.display().to_string(),
            making.join("store").display().to_string(),
        );
        write(keys.as_ref(), keyring, Readable::Ceph)?;
        let mut words = vec!["--create", "--clobber", "--fsid", fsid];
        for (name, addresses) in monitors {
            words.extend(["--addv", name, addresses]);
        }
        words.push(&map);
        run("monmaptool", &words, None, STARTING).await?;
        own(map.as_ref()).map_err(cannot)?;
        let words = [
            "--mkfs",
            "--id",
            name,
            "--setuser",
            "ceph",
            "--setgroup",
            "ceph",
            "--monmap",
            &map,
            "--keyring",
            &keys,
            "--mon-data",
            &store,
        ];
        run("ceph-mon", &words, None, STARTING).await?;
        fs::rename(making.join("store"), &dir).map_err(cannot)
    }
    .await;
    let _ = fs::remove_dir_all(&making);
    result
}

/// What another machine needs.
pub(super) fn access(host: &CephHost) -> Told {
    let text = host.conf_text()?;
    let key = |name: &str| ceph_conf::get(&text, name);
    let keyring = fs::read_to_string(host.admin_keyring())
        .map_err(|e| failed(format!("the admin's keyring cannot be read: {e}")))?;
    let Some(fsid) = key("fsid") else {
        return Err(guard("this machine is not set up for Ceph"));
    };
    Ok(Some(CephAnswer::Access(CephAccess {
        fsid,
        mon_host: key("mon_host").unwrap_or_default(),
        public_network: key("public_network").and_then(|n| n.parse().ok()),
        cluster_network: key("cluster_network").and_then(|n| n.parse().ok()),
        keyring,
    })))
}

/// Takes what is needed to reach the cluster; the key last, because with it the rest is used.
pub(super) fn configure(host: &CephHost, access: &CephAccess) -> Told {
    let before = host.conf_text()?;
    let known = ceph_conf::get(&before, "fsid").unwrap_or_default();
    if !known.is_empty() && known != access.fsid {
        return Err(guard(format!(
            "this machine is set up for the Ceph cluster {known} already"
        )));
    }
    // Before ceph.conf says that it is ours.
    let key = fs::read_to_string(host.admin_keyring()).unwrap_or_default();
    if known.is_empty() && !access.keyring.is_empty() && key != access.keyring {
        no_foreign_key(host)?;
    }
    let network = |net: &Option<IpNet>| net.map(|n| n.trunc().to_string());
    let text = ceph_conf::set(
        &before,
        &[
            ("fsid", Some(access.fsid.clone())),
            ("mon_host", Some(access.mon_host.clone())),
            ("public_network", network(&access.public_network)),
            ("cluster_network", network(&access.cluster_network)),
        ],
    );
    if text != before {
        write(&host.conf(), &text, Readable::All)?;
    }
    if !access.keyring.is_empty() {
        let path = host.admin_keyring();
        if fs::read_to_string(&path).ok().as_deref() != Some(&access.keyring) {
            write(&path, &access.keyring, Readable::Root)?;
        }
    }
    Ok(None)
}

/// The addresses of a monitor, as monitor maps and `ceph.conf` write them.
pub(super) fn addresses(address: IpAddr) -> String {
    let host = match address {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => format!("[{v6}]"),
    };
    format!("[v2:{host}:3300,v1:{host}:6789]")
}

fn admin_keyring(secret: &str) -> String {
    format!(
        "[client.admin]\n\tkey = {secret}\n\tcaps mds = \"allow *\"\n\tcaps mgr = \"allow *\"\n\
         \tcaps mon = \"allow *\"\n\tcaps osd = \"allow *\"\n"
    )
}

/// A new key: kind, time and length as Ceph has them, then 16 random bytes.
fn secret() -> Result<String, HostError> {
    let mut random = [0; 16];
    fs::File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut random))
        .map_err(|e| failed(format!("no random numbers: {e}")))?;
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    let seconds = u32::try_from(now.as_secs()).unwrap_or(u32::MAX);
    let mut bytes = 1u16.to_le_bytes().to_vec();
    bytes.extend(seconds.to_le_bytes());
    bytes.extend(now.subsec_nanos().to_le_bytes());
    bytes.extend(16u16.to_le_bytes());
    bytes.extend(random);
    Ok(base64::engine::general_purpose::STANDARD.encode(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_as_ceph_writes_them_and_never_the_same() {
        let (one, two) = (secret().unwrap(), secret().unwrap());
        assert!(one.starts_with("AQ") && one.len() == 40, "{one}");
        assert_ne!(one, two);
    }

    #[test]
    fn an_address_of_the_sixth_version_is_in_brackets() {
        assert_eq!(
            addresses("2001:db8::1".parse().unwrap()),
            "[v2:[2001:db8::1]:3300,v1:[2001:db8::1]:6789]"
        );
    }

    /// A machine with nothing on it but what is below a directory.
    fn machine(dir: &std::path::Path) -> CephHost {
        CephHost {
            etc: dir.join("etc"),
            lib: dir.join("lib"),
            ..CephHost::new(std::sync::Arc::default(), super::super::Roots::default())
        }
    }

    #[tokio::test]
    async fn an_admins_key_that_no_conf_speaks_of_is_never_written_over() {
        let dir = tempfile::tempdir().unwrap();
        let host = machine(dir.path());
        fs::create_dir_all(&host.etc).unwrap();
        fs::write(host.admin_keyring(), "[client.admin]\nkey = theirs\n").unwrap();
        let networks = (None, None);
        let formed = form(&host, "f", "m", "10.0.0.1".parse().unwrap(), networks).await;
        let access = CephAccess {
            fsid: "f".into(),
            keyring: "[client.admin]\nkey = ours\n".into(),
            ..CephAccess::default()
        };
        for told in [formed, configure(&host, &access), configure(&host, &access)] {
            let error = told.expect_err("it is somebody's").to_string();
            assert!(error.contains("move it away"), "{error}");
            assert!(!error.contains("theirs"), "{error}");
        }
        let kept = fs::read_to_string(host.admin_keyring()).unwrap();
        assert!(kept.contains("theirs"));
        // One that is taken again is the same.
        fs::write(host.admin_keyring(), &access.keyring).unwrap();
        configure(&host, &access).expect("it is its own");
    }
}
