//! OVN on real hosts: the resources, and how it is seen to work.

// Each test program uses a part of this.
#![allow(dead_code)]

use super::real::{Cloud, FIRST, Outcome, text, wait};
use std::net::Ipv4Addr;
use std::process::Command;
use std::time::Duration;

/// How soon a difference must be repaired.
pub const SOON: Duration = Duration::from_secs(20);

/// The cluster with OVN, an uplink and a network.
pub fn resources(cloud: &Cloud) -> Outcome<String> {
    let view = cloud.view()?;
    let gateway = view.uplink_gateway;
    let at = |last: u8| {
        let [a, b, c, _] = gateway.octets();
        Ipv4Addr::new(a, b, c, last)
    };
    let mut text = format!(
        "\
apiVersion: microcloud.dev/v1
kind: Cluster
metadata: {{name: demo}}
spec:
  initiator: micro01
  ovn: {{provider: packaged, underlaySubnet: {underlay}}}
---
apiVersion: microcloud.dev/v1
kind: Uplink
metadata: {{name: UPLINK}}
spec:
  interface: up0
  ipv4: {{gateway: {gateway}/24, ranges: [{}-{}]}}
  dns: [{gateway}]
---
apiVersion: microcloud.dev/v1
kind: Network
metadata: {{name: default}}
spec:
  type: ovn
  uplink: UPLINK
  config: {{ipv4.address: 10.48.0.1/24, ipv4.nat: true, ipv6.address: none}}
",
        at(100),
        at(200),
        underlay = view.underlay,
    );
    for host in cloud.hosts() {
        text += &format!(
            "---
apiVersion: microcloud.dev/v1
kind: Member
metadata: {{name: {host}}}
spec: {{address: {}, fingerprint: {}}}
",
            cloud.address(&host)?,
            cloud.fingerprint(&host)?
        );
    }
    Ok(text)
}

/// Whether the router of the network answers from the uplink's side.
pub fn ping(cloud: &Cloud) -> Outcome<Result<(), String>> {
    let network = cloud.query(FIRST, "/1.0/networks/default")?;
    let Some(router) = network["config"]["volatile.network.ipv4.address"].as_str() else {
        return Ok(Err("the router has no address outside".into()));
    };
    let ping = Command::new("ip")
        .args(["netns", "exec", &cloud.view()?.netns, "chroot"])
        .arg(cloud.root(FIRST)?)
        .args(["ping", "-c", "2", "-i", "0.3", "-W", "1", router])
        .output()?;
    let said = text(&ping.stdout) + &text(&ping.stderr);
    Ok(if said.contains(" 0% packet loss") {
        Ok(())
    } else {
        Err(said)
    })
}

/// The machine that holds the network's way out.
pub fn gateway_host(cloud: &Cloud, host: &str) -> Outcome<String> {
    let script = "s='ovn-sbctl --no-leader-only --bare'; \
                  c=$($s --columns=chassis find port_binding type=chassisredirect); \
                  $s --columns=name list chassis $c";
    wait("somebody holds the way out", SOON, || {
        let out = cloud.run(host, &["sh", "-c", script], "")?;
        let name = text(&out.stdout).trim().to_owned();
        Ok(if cloud.hosts().contains(&name) {
            Ok(name)
        } else {
            Err(name + &text(&out.stderr))
        })
    })
}

/// Waits until a command in a host prints this.
pub fn prints(cloud: &Cloud, host: &str, words: &[&str], wanted: &str) -> Outcome {
    wait(&format!("{words:?} on {host}"), SOON, || {
        let out = cloud.run(host, words, "")?;
        let said = text(&out.stdout).trim().trim_matches('"').to_owned();
        Ok(if said == wanted {
            Ok(())
        } else {
            Err(format!("{said:?}, wanted {wanted:?}"))
        })
    })
}

/// What somebody changes by hand: each waits until it is as it was.
pub mod by_hand {
    use super::{Cloud, FIRST, Outcome, prints};

    /// Deletes a machine's row in the southbound database.
    pub fn chassis_deleted(cloud: &Cloud, host: &str) -> Outcome {
        let find =
            format!("ovn-sbctl --no-leader-only --bare --columns=name find chassis name={host}");
        let delete = ["ovn-sbctl", "--no-leader-only", "chassis-del", host];
        cloud.must(FIRST, &delete)?;
        prints(cloud, FIRST, &["sh", "-c", &find], host)
    }

    /// Stops a machine's `ovn-controller`.
    pub fn controller_stopped(cloud: &Cloud, host: &str) -> Outcome {
        cloud.must(host, &["systemctl", "stop", "ovn-controller"])?;
        let active = ["systemctl", "is-active", "ovn-controller"];
        prints(cloud, host, &active, "active")
    }

    /// Takes from LXD where the northbound database is.
    pub fn northbound_cleared(cloud: &Cloud) -> Outcome {
        let key = "network.ovn.northbound_connection";
        let before = cloud.lxc(FIRST, &["config", "get", key])?.trim().to_owned();
        cloud.lxc(FIRST, &["config", "unset", key])?;
        prints(cloud, FIRST, &["lxc", "config", "get", key], &before)
    }

    /// Halves the uplink's range in LXD.
    pub fn range_halved(cloud: &Cloud) -> Outcome {
        let get = ["network", "get", "UPLINK", "ipv4.ovn.ranges"];
        let before = cloud.lxc(FIRST, &get)?.trim().to_owned();
        let half = before.replace(".200", ".150");
        let set = ["network", "set", "UPLINK", "ipv4.ovn.ranges", &half];
        cloud.lxc(FIRST, &set)?;
        prints(
            cloud,
            FIRST,
            &["lxc", "network", "get", "UPLINK", "ipv4.ovn.ranges"],
            &before,
        )
    }
}
