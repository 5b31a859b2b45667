//! Taking over a cluster that was formed by hand: its export, and what LXD tells of changes.

// Each test program uses a part of this.
#![allow(dead_code)]

use super::real::{Cloud, FIRST, Outcome, text, wait};
use serde_json::Value;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);

/// Where the first host has what was exported.
pub const FOLDER: &str = "/root/cloud";

/// Applies the export and waits for it.
pub const APPLY: [&str; 7] = [
    "microcloud",
    "apply",
    "-f",
    FOLDER,
    "--wait",
    "--timeout",
    "60s",
];

/// Writes the cluster as resources, adds what only a person knows, the other agents' fingerprints,
/// and returns all of it.
pub fn export(cloud: &Cloud) -> Outcome<String> {
    let words = ["microcloud", "export", "-o", FOLDER];
    wait("an export without any resources", LIMIT, || {
        let out = cloud.run(FIRST, &words, "")?;
        Ok(match out.status.success() {
            true => Ok(()),
            false => Err(text(&out.stderr)),
        })
    })?;
    let file = format!("{FOLDER}/members.yaml");
    let mut members = cloud.must(FIRST, &["cat", &file])?;
    for host in cloud.hosts().iter().filter(|host| *host != FIRST) {
        let address = format!("address: {}\n", cloud.address(host)?);
        let pinned = format!("{address}  fingerprint: {}\n", cloud.fingerprint(host)?);
        assert_eq!(members.matches(&address).count(), 1, "{members}");
        members = members.replace(&address, &pinned);
    }
    cloud.must_with(FIRST, &["sh", "-c", &format!("cat > {file}")], &members)?;
    cloud.must(FIRST, &["sh", "-c", &format!("cat {FOLDER}/*.yaml")])
}

/// Has the export enforced when it is applied next.
pub fn enforce(cloud: &Cloud) -> Outcome {
    let file = format!("{FOLDER}/cluster.yaml");
    let words = ["sed", "-i", "/mode: Report$/d", &file];
    cloud.must(FIRST, &words).map(drop)
}

/// Exports what is managed by now, and applies that: nothing differs.
pub fn export_again(cloud: &Cloud) -> Outcome<String> {
    let again = "microcloud export --enforce -o /root/again
        microcloud diff -f /root/again
        microcloud apply -f /root/again --wait --timeout 60s";
    cloud.must(FIRST, &["bash", "-euc", again])
}

/// Changes that LXD told of outside the project `microcloud`, since [`follow`] began.
pub fn changes(cloud: &Cloud) -> Outcome<Vec<String>> {
    let told = cloud.must(FIRST, &["cat", "/root/changes"])?;
    let own = |line: &&str| !line.contains("projects/microcloud");
    let lines = told.lines().filter(|l| !l.trim().is_empty()).filter(own);
    Ok(lines.map(str::to_owned).collect())
}

/// Writes what LXD tells of changes to a file.
pub fn follow(cloud: &Cloud) -> Outcome {
    let words = "systemctl stop follow 2>/dev/null || true; rm -f /root/changes
        systemd-run -q --unit follow --collect -E HOME=/root bash -c \
        'exec lxc monitor --all-projects --type lifecycle --format json > /root/changes 2>&1'
        sleep 1; systemctl is-active -q follow";
    cloud.must(FIRST, &["bash", "-c", words]).map(drop)
}

/// These objects and the server's keys, as LXD shows them.
pub fn portrait(cloud: &Cloud, paths: &[String]) -> Outcome<String> {
    let mut all = String::new();
    for path in paths {
        let mut object = cloud.query(FIRST, path)?;
        // LXD lists them in any order.
        for list in ["locations", "used_by", "roles", "groups"] {
            if let Some(list) = object.get_mut(list).and_then(Value::as_array_mut) {
                list.sort_by_key(ToString::to_string);
            }
        }
        all += &format!("{path} {object}\n");
    }
    let config = cloud.query(FIRST, "/1.0")?["config"].to_string();
    Ok(all + &config)
}
