//! The whole of `examples/three-node` on real hosts: LXD, OVN and Ceph.

// Each test program uses a part of this.
#![allow(dead_code)]

use super::real::{self, Cloud, FIRST, Outcome, PROGRAM, wait};
use microcloud::sandbox::Options;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::time::Duration;

/// The hosts of the example.
pub const HOSTS: [&str; 3] = [FIRST, "micro02", "micro03"];

/// What a kernel without its `ceph` cannot mount.
const LEFT_OUT: &str = "filesystem.yaml";

/// Three empty hosts with a small disk and a larger one each, as the example wants them.
pub fn with(name: &str, test: impl FnOnce(&mut Cloud) -> Outcome) -> Outcome {
    fresh(name, |cloud| {
        cloud.provision_all()?;
        test(cloud)
    })
}

/// As [`with`], with hosts that know nothing of each other.
pub fn fresh(name: &str, test: impl FnOnce(&mut Cloud) -> Outcome) -> Outcome {
    real::fresh(name, 3, |cloud| {
        let larger = Options {
            disks: 2,
            disk_bytes: 4 << 30,
            binary: Some(PROGRAM.into()),
            ..Options::with_hosts(3)
        };
        cloud.shared().up(&larger, &|_| ())?;
        test(cloud)
    })
}

/// Writes the example's files, with the subnets of these hosts and their agents' keys.
pub fn write(cloud: &Cloud) -> Outcome {
    let view = cloud.view()?;
    let prefix = |subnet: &str| -> Outcome<String> {
        let address = subnet.split('/').next().unwrap_or_default();
        let (prefix, _) = address.rsplit_once('.').ok_or("no subnet")?;
        Ok(format!("{prefix}."))
    };
    let given = [
        ("10.77.0.", prefix(&view.internal)?),
        ("10.78.0.", prefix(&view.underlay)?),
        ("198.51.100.", prefix(&view.uplink)?),
    ];
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/three-node");
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name == LEFT_OUT || !name.ends_with(".yaml") {
            continue;
        }
        let mut text = fs::read_to_string(entry.path())?;
        for (written, here) in &given {
            text = text.replace(written, here);
        }
        for host in HOSTS {
            let line = format!("  name: {host}\nspec:\n");
            let pinned = format!("{line}  fingerprint: {}\n", cloud.fingerprint(host)?);
            text = text.replace(&line, &pinned);
        }
        cloud.write(&name, &text)?;
    }
    Ok(())
}

/// What Ceph answers to a command.
pub fn ceph(cloud: &Cloud, words: &[&str]) -> Outcome<Value> {
    let all = [&["timeout", "20", "ceph"], words, &["-f", "json"]].concat();
    Ok(serde_json::from_str(&cloud.must(FIRST, &all)?)?)
}

/// Waits until all daemons are there again: those of a host that was off come after the resources.
pub fn settled(cloud: &Cloud, limit: Duration) -> Outcome {
    wait("Ceph has all its daemons", limit, || {
        let status = ceph(cloud, &["status"])?;
        let monitors = status["quorum_names"].as_array().map_or(0, Vec::len);
        let map = &status["osdmap"];
        let standbys = status["mgrmap"]["num_standbys"].as_u64();
        let whole = monitors == 3
            && map["num_up_osds"] == 3
            && map["num_in_osds"] == 3
            && standbys == Some(2)
            && status["pgmap"]["pgs_by_state"][0]["state_name"] == "active+clean";
        Ok(if whole {
            Ok(())
        } else {
            Err(status.to_string())
        })
    })
}

/// What must be the same whatever happened while it was formed.
pub fn portrait(cloud: &Cloud) -> Outcome<Value> {
    let mut objects = serde_json::Map::new();
    for path in [
        "storage-pools/local",
        "storage-pools/remote",
        "networks/UPLINK",
        "networks/default",
        "profiles/default",
    ] {
        let mut object = cloud.query(FIRST, &format!("/1.0/{path}"))?;
        if let Some(config) = object["config"].as_object_mut() {
            config.retain(|key, _| !key.starts_with("volatile."));
        }
        if let Some(on) = object["locations"].as_array_mut() {
            on.sort_by_key(Value::to_string);
        }
        if let Some(object) = object.as_object_mut() {
            object.remove("used_by");
        }
        objects.insert(path.to_owned(), object);
    }
    for path in ["storage-pools", "networks", "projects", "cluster/members"] {
        let mut all = cloud.query(FIRST, &format!("/1.0/{path}"))?;
        if let Some(all) = all.as_array_mut() {
            all.sort_by_key(Value::to_string);
        }
        objects.insert(path.to_owned(), all);
    }

    let mut rafts = Vec::new();
    for (socket, database) in [("ovnnb", "OVN_Northbound"), ("ovnsb", "OVN_Southbound")] {
        let file = format!("/var/run/ovn/{socket}_db.ctl");
        let said = cloud.must(
            FIRST,
            &["ovn-appctl", "-t", &file, "cluster/status", database],
        )?;
        // A server is a line such as `    1d1c (1d1c at ssl:10.0.0.1:6643) (self)`.
        let mut servers: Vec<&str> = said
            .lines()
            .skip_while(|l| !l.starts_with("Servers:"))
            .filter_map(|l| l.split(" at ").nth(1)?.split(')').next())
            .collect();
        servers.sort_unstable();
        rafts.push(json!(servers));
    }
    let words = "ovn-sbctl --no-leader-only --bare --columns=name list chassis | sort";
    let chassis = cloud.must(FIRST, &["sh", "-c", words])?;
    let chassis: Vec<&str> = chassis.split_whitespace().collect();

    let pools = ceph(cloud, &["osd", "pool", "ls", "detail"])?;
    let pools: Vec<Value> = pools
        .as_array()
        .into_iter()
        .flatten()
        .map(|p| {
            json!([
                p["pool_name"],
                p["size"],
                p["min_size"],
                p["application_metadata"]
            ])
        })
        .collect();
    let tree = ceph(cloud, &["osd", "tree"])?;
    let mut nodes: Vec<String> = tree["nodes"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|n| n["type"] != "osd")
        .map(|n| format!("{} {}", n["type"], n["name"]))
        .collect();
    nodes.sort();
    let rules = ceph(cloud, &["osd", "crush", "rule", "ls"])?;
    Ok(json!({
        "lxd": objects,
        "rafts": rafts,
        "chassis": chassis,
        "pools": pools,
        "crush": nodes,
        "rules": rules,
        "strays": tree["stray"],
    }))
}
