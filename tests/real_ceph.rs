//! Ceph formed from packages on three real hosts, and held: needs root, `systemd-nspawn` and, for
//! the first run, the machine's Debian mirror.

mod common;

use common::real::{Cloud, FIRST, Failure, Outcome, sentence, wait, with};
use std::time::{Duration, Instant};

/// Forming three monitors, managers, metadata servers and OSDs.
const FORMING: Duration = Duration::from_secs(100);

/// Repairing one drift.
const SOON: Duration = Duration::from_secs(30);

const CLUSTER: &str = "\
apiVersion: microcloud.dev/v1
kind: Cluster
metadata: {name: demo}
spec: {initiator: micro01, ceph: {provider: packaged, publicNetwork: PUBLIC}}
---
apiVersion: microcloud.dev/v1
kind: StoragePool
metadata: {name: remote}
spec:
  driver: ceph
  description: Distributed storage on Ceph
  config: {ceph.osd.pool_name: lxd_remote, ceph.rbd.du: false}
";

const FILESYSTEM: &str = "\
apiVersion: microcloud.dev/v1
kind: StoragePool
metadata: {name: remote-fs}
spec:
  driver: cephfs
  description: Distributed file-system storage using CephFS
  config:
    cephfs.create_missing: true
    cephfs.meta_pool: lxd_cephfs_meta
    cephfs.data_pool: lxd_cephfs_data
    cephfs.path: lxd_cephfs
";

fn ceph(cloud: &Cloud, words: &[&str]) -> Outcome<String> {
    let words: Vec<&str> = ["timeout", "20", "ceph"]
        .iter()
        .chain(words)
        .copied()
        .collect();
    cloud.must(FIRST, &words)
}

fn ceph_json(cloud: &Cloud, words: &[&str]) -> Outcome<serde_json::Value> {
    let words: Vec<&str> = words.iter().chain(&["-f", "json"]).copied().collect();
    Ok(serde_json::from_str(&ceph(cloud, &words)?)?)
}

/// Writes the resources: three members with a disk each for Ceph, and the pool `remote`.
fn write(cloud: &Cloud) -> Outcome {
    let mut public = String::new();
    for host in cloud.hosts() {
        let address = cloud.address(&host)?.to_string();
        let network = address
            .rsplit_once('.')
            .map(|(net, _)| format!("{net}.0/24"));
        public = network.ok_or("the address has another shape")?;
        cloud.write(&format!("{host}.yaml"), &cloud.member_with_osd(&host)?)?;
    }
    cloud.write("cluster.yaml", &CLUSTER.replace("PUBLIC", &public))
}

/// Does something by hand and waits until it is as it was.
fn comes_back(
    cloud: &Cloud,
    what: &str,
    (host, script): (&str, &str),
    good: impl Fn() -> Outcome<Result<(), String>>,
) -> Outcome {
    let begun = Instant::now();
    cloud.must(host, &["sh", "-ec", script])?;
    wait(what, SOON, good)?;
    cloud.wait_ready(FIRST, SOON)?;
    eprintln!("{what}: repaired after {:.1?}", begun.elapsed());
    Ok(())
}

fn same<T: PartialEq + std::fmt::Debug>(seen: &T, wanted: &T) -> Result<(), String> {
    if seen == wanted {
        Ok(())
    } else {
        Err(format!("{seen:?}, wanted {wanted:?}"))
    }
}

#[test]
fn ceph_is_formed_from_packages_and_held() -> Outcome {
    with("real-ceph", 3, |cloud| {
        write(cloud)?;
        let hosts = cloud.hosts();
        let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
        let begun = Instant::now();
        cloud.start_agents(&hosts)?;
        cloud.wait_formed(&hosts, FORMING)?;
        eprintln!("formed after {:.1?}", begun.elapsed());
        formed(cloud)?;
        keys_are_private(cloud, &hosts)?;
        drifts(cloud)?;
        lost_monitors(cloud)?;
        purged_osd(cloud, "micro02")?;
        out_stays_out(cloud)?;
        filesystem(cloud)?;
        deleted_pool(cloud)
    })
}

fn formed(cloud: &Cloud) -> Outcome {
    let status = ceph_json(cloud, &["status"])?;
    let number = |pointer: &str| status.pointer(pointer).and_then(serde_json::Value::as_u64);
    let seen = [
        number("/osdmap/num_osds"),
        number("/osdmap/num_up_osds"),
        number("/osdmap/num_in_osds"),
        number("/monmap/num_mons"),
        number("/fsmap/up:standby"),
    ];
    same(&seen, &[Some(3); 5])?;
    let quorum = status["quorum"].as_array().map(Vec::len);
    same(&quorum, &Some(3))?;
    let tolerated = ["MGR_MODULE_DEPENDENCY", "MON_DISK_LOW"];
    let checks = status["health"]["checks"].as_object();
    for code in checks.into_iter().flat_map(|c| c.keys()) {
        if !tolerated.contains(&code.as_str()) {
            return Err(format!("Ceph tells of {code}: {status:#}").into());
        }
    }
    let pool = cloud.query("micro02", "/1.0/storage-pools/remote")?;
    same(&pool["status"], &"Created".into())?;
    same(&pool["config"]["ceph.osd.pool_name"], &"lxd_remote".into())?;
    Ok(size(cloud)?.and_then(|()| rule(cloud).unwrap_or_else(|e| Err(e.to_string())))?)
}

fn pool_value(cloud: &Cloud, key: &str) -> Outcome<serde_json::Value> {
    let got = ceph_json(cloud, &["osd", "pool", "get", "lxd_remote", key])?;
    Ok(got[key].clone())
}

fn size(cloud: &Cloud) -> Outcome<Result<(), String>> {
    Ok(same(&pool_value(cloud, "size")?, &3.into()))
}

fn rule(cloud: &Cloud) -> Outcome<Result<(), String>> {
    Ok(same(
        &pool_value(cloud, "crush_rule")?,
        &"microcloud_host".into(),
    ))
}

fn keys_are_private(cloud: &Cloud, hosts: &[&str]) -> Outcome {
    for host in hosts {
        let script = "find /etc/ceph /var/lib/ceph -name '*keyring*' -perm /077; \
                      journalctl -u microcloud | grep -c 'AQ[A-Za-z0-9+/]\\{36\\}==' || true";
        let found = cloud.must(host, &["sh", "-c", script])?;
        same(&found.trim(), &"0").map_err(|e| format!("{host}: {e}"))?;
    }
    Ok(())
}

/// What a person changes in Ceph is as written again; all of it at once.
fn drifts(cloud: &Cloud) -> Outcome {
    let by_hand = "ceph osd pool set lxd_remote size 2; \
                   ceph osd pool set lxd_remote crush_rule replicated_rule; \
                   ceph osd pool application disable lxd_remote rbd --yes-i-really-mean-it; \
                   ceph config set global public_network 192.0.2.0/24";
    comes_back(
        cloud,
        "size, rule, application and public network",
        (FIRST, by_hand),
        || {
            let config = ceph_json(cloud, &["config", "dump"])?;
            let networks = config.as_array().into_iter().flatten();
            let wrong = |o: &serde_json::Value| o["value"] == "192.0.2.0/24";
            if networks.into_iter().any(wrong) {
                return Ok(Err("public_network is still changed".to_owned()));
            }
            let pools = ceph_json(cloud, &["osd", "pool", "ls", "detail"])?;
            let mut pools = pools.as_array().into_iter().flatten();
            let pool = pools.find(|pool| pool["pool_name"] == "lxd_remote");
            if pool.is_none_or(|pool| pool["application_metadata"]["rbd"].is_null()) {
                return Ok(Err("the pool is still for nothing".to_owned()));
            }
            Ok(size(cloud)?.and_then(|()| rule(cloud).unwrap_or_else(|e| Err(e.to_string()))))
        },
    )?;
    down_is_told(cloud, "micro02")?;
    let stop = "systemctl stop ceph-mon@micro03";
    comes_back(cloud, "a monitor", ("micro03", stop), || {
        let unit = "ceph-mon@micro03";
        let active = cloud.run("micro03", &["systemctl", "is-active", unit], "")?;
        if !active.status.success() {
            return Ok(Err("it does not run".to_owned()));
        }
        let status = ceph_json(cloud, &["status"])?;
        Ok(same(&status["quorum"].as_array().map(Vec::len), &Some(3)))
    })
}

fn three_in_quorum(cloud: &Cloud) -> Outcome<Result<(), String>> {
    let status = ceph_json(cloud, &["status"])?;
    let names = status["quorum_names"].as_array().map(Vec::len);
    Ok(same(&names, &Some(3)))
}

/// A monitor whose store is broken says why it does not run; one whose store is gone, and one that
/// was struck from the map, are made anew.
fn lost_monitors(cloud: &Cloud) -> Outcome {
    let breaks =
        "systemctl stop ceph-mon@micro03; rm /var/lib/ceph/mon/ceph-micro03/store.db/CURRENT";
    cloud.must("micro03", &["sh", "-ec", breaks])?;
    let words = ["ceph-mon@micro03.service was started and ended at once"];
    let said = cloud.wait_says(FIRST, "Member/micro03", &words, SOON)?;
    eprintln!("a broken store: {}", sentence(&said));
    let lose = "systemctl stop ceph-mon@micro03; rm -rf /var/lib/ceph/mon/ceph-micro03";
    // That a monitor is gone is not seen in the quorum at once.
    let stored = |host: &str| -> Outcome<Result<(), String>> {
        let script =
            format!("test -d /var/lib/ceph/mon/ceph-{host} && systemctl is-active ceph-mon@{host}");
        let there = cloud.run(host, &["sh", "-c", &script], "")?;
        if there.status.success() {
            return three_in_quorum(cloud);
        }
        Ok(Err(format!("{host} has no monitor that runs")))
    };
    comes_back(cloud, "a monitor's store", ("micro03", lose), || {
        stored("micro03")
    })?;
    let strike = "timeout 20 ceph mon remove micro02; sleep 2";
    comes_back(cloud, "a monitor's place", (FIRST, strike), || {
        stored("micro02")
    })?;
    let aside = "ls -d /var/lib/ceph/mon/.removed-ceph-micro02-*";
    cloud.must("micro02", &["sh", "-ec", aside])?;
    Ok(())
}

/// An OSD that somebody purged, and whose disk was made blank, is made anew under the same number,
/// though the directory of the old one is still there.
fn purged_osd(cloud: &Cloud, host: &str) -> Outcome {
    let find = "cd /var/lib/ceph/osd; ls -d ceph-* | cut -d- -f2";
    let id = cloud.must(host, &["sh", "-ec", find])?;
    let id = id.trim();
    let purge = format!(
        "systemctl disable --now ceph-osd@{id}; \
         timeout 20 ceph osd purge {id} --yes-i-really-mean-it; \
         disk=$(readlink -f /var/lib/ceph/osd/ceph-{id}/block); \
         dd if=/dev/zero of=$disk bs=1M count=20 conv=fsync 2>/dev/null; test -d \
         /var/lib/ceph/osd/ceph-{id}"
    );
    comes_back(cloud, "a purged OSD", (host, &purge), || {
        let stat = ceph_json(cloud, &["osd", "stat"])?;
        Ok(same(&stat["num_up_osds"], &3.into()))
    })?;
    let aside = format!("ls -d /var/lib/ceph/osd/.removed-ceph-{id}-*");
    cloud.must(host, &["sh", "-ec", &aside])?;
    Ok(())
}

/// An OSD that stops is told of within a second of the monitors' map that shows it, and started.
fn down_is_told(cloud: &Cloud, host: &str) -> Outcome {
    let disk = format!("Disk/osd-{host}");
    // It cannot be started until that was seen.
    let stop = "unit=$(systemctl list-units --plain --no-legend 'ceph-osd@*' | cut -d' ' -f1); \
                systemctl mask --runtime \"$unit\" 2>&1; systemctl kill --signal=TERM \"$unit\"";
    cloud.must(host, &["sh", "-ec", stop])?;
    let said = cloud.wait_says(FIRST, &disk, &["osd."], SOON)?;
    let told = said.conditions.iter().find(|c| !c.status);
    let told = told.ok_or("no condition says so")?.last_transition_time;
    let dump = ceph_json(cloud, &["osd", "dump"])?;
    let osds = dump["osds"].as_array().ok_or("no OSDs")?;
    let down = osds.iter().find(|o| o["up"] == 0).ok_or("none is down")?;
    let epoch = down["down_at"].to_string();
    let map = ceph_json(cloud, &["osd", "dump", &epoch])?;
    let shown = map["modified"].as_str().ok_or("the map has no time")?;
    let shown: jiff::Timestamp = shown.parse()?;
    let took = Duration::try_from(told.duration_since(shown)).unwrap_or_default();
    eprintln!(
        "an OSD is down: told {took:.2?} after the map: {}",
        sentence(&said)
    );
    if took > Duration::from_secs(1) {
        return Err("that is more than a second".into());
    }
    let start = "systemctl list-unit-files --plain --no-legend 'ceph-osd@[0-9]*' | cut -d' ' -f1 \
                 | xargs systemctl unmask --runtime";
    comes_back(cloud, "an OSD", (host, start), || {
        let stat = ceph_json(cloud, &["osd", "stat"])?;
        Ok(same(&stat["num_up_osds"], &3.into()))
    })
}

/// A pool that somebody deletes is told of and never made again: what was in it may be restored.
fn deleted_pool(cloud: &Cloud) -> Outcome {
    let delete = "ceph config set mon mon_allow_pool_delete true; \
                  ceph osd pool rm lxd_remote lxd_remote --yes-i-really-really-mean-it";
    cloud.must(FIRST, &["sh", "-ec", delete])?;
    let words = ["lxd_remote is gone from Ceph", "not made again"];
    let said = cloud.wait_says(FIRST, "StoragePool/remote", &words, SOON)?;
    eprintln!("a deleted pool: {}", sentence(&said));
    std::thread::sleep(Duration::from_secs(3));
    let pools = ceph_json(cloud, &["osd", "pool", "ls"])?;
    let again = pools
        .as_array()
        .is_some_and(|p| p.iter().any(|n| n == "lxd_remote"));
    if again {
        return Err("it was made again".into());
    }
    Ok(())
}

/// An OSD that a person set out is shown, and left out.
fn out_stays_out(cloud: &Cloud) -> Outcome {
    let tree = ceph_json(cloud, &["osd", "find", "0"])?;
    let host = tree["crush_location"]["host"].as_str().ok_or("no host")?;
    let disk = format!("Disk/osd-{host}");
    ceph(cloud, &["osd", "out", "0"])?;
    cloud.wait_says(FIRST, &disk, &["was set out", "ceph osd in 0"], SOON)?;
    std::thread::sleep(Duration::from_secs(3));
    let stat = ceph_json(cloud, &["osd", "stat"])?;
    same(&stat["num_in_osds"], &2.into())?;
    ceph(cloud, &["osd", "in", "0"])?;
    cloud.wait_objects(FIRST, &[&disk], SOON)
}

/// The file system and its pools are made; where the kernel cannot mount it, the pool says so.
fn filesystem(cloud: &Cloud) -> Outcome {
    cloud.write("filesystem.yaml", FILESYSTEM)?;
    let name = "StoragePool/remote-fs";
    let mountable = cloud.must(
        FIRST,
        &["sh", "-c", "grep -cw ceph /proc/filesystems || true"],
    )?;
    if mountable.trim() == "0" {
        let words = ["Failed to mount", "no such device"];
        let said = cloud.wait_says(FIRST, name, &words, SOON)?;
        eprintln!("remote-fs: {}", sentence(&said));
    } else {
        cloud.wait_objects(FIRST, &[name], SOON)?;
    }
    let found = ceph_json(cloud, &["fs", "ls"])?;
    same(&found[0]["name"], &"lxd_cephfs".into()).map_err(Failure::from)?;
    same(&found[0]["metadata_pool"], &"lxd_cephfs_meta".into())?;
    Ok(same(&found[0]["data_pools"][0], &"lxd_cephfs_data".into())?)
}
