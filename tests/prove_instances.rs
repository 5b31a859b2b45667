//! Two containers on a network of OVN, on two machines: they have addresses, reach each other and
//! the outside, and go on doing so through what somebody changes and through the loss of the
//! machine that holds the way out.
//!
//! Run with `make prove`; the table goes to `docs/proof/instances.md`.

mod common;

use common::ovn::{self, SOON, gateway_host, prints, resources};
use common::proof::{Page, versions};
use common::real::{Cloud, FIRST, Outcome, text, wait, with};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

/// What the containers send every so often.
const EVERY: f64 = 0.2;

/// Makes an image of about a megabyte in a host: busybox, which asks for an address at its start.
const IMAGE: &str = r#"
set -e
d=$(mktemp -d) && cd $d && mkdir -p rootfs/bin rootfs/sbin rootfs/etc rootfs/proc rootfs/sys \
    rootfs/dev rootfs/tmp rootfs/run rootfs/root
cp /usr/bin/busybox rootfs/bin/busybox
for a in sh ip ping udhcpc cat tail sleep; do ln -s busybox rootfs/bin/$a; done
ln -s ../bin/busybox rootfs/sbin/init
cat > rootfs/etc/inittab <<'END'
::sysinit:/bin/ip link set lo up
::sysinit:/bin/ip link set eth0 up
::respawn:/bin/udhcpc -f -i eth0 -s /etc/udhcpc -t 3 -T 1 -A 1
END
cat > rootfs/etc/udhcpc <<'END'
#!/bin/sh
case $1 in bound|renew)
    ip addr replace $ip/$mask dev $interface
    ip route replace default via $router
esac
END
chmod 755 rootfs/etc/udhcpc
printf 'architecture: %s\ncreation_date: 1\nproperties: {description: tiny}\n' $(uname -m) > metadata.yaml
tar czf tiny.tar.gz metadata.yaml rootfs
lxc image import $d/tiny.tar.gz --alias tiny
"#;

/// A container, and where it runs.
struct Container {
    name: &'static str,
    host: String,
}

impl Container {
    fn run(&self, cloud: &Cloud, script: &str) -> Outcome<String> {
        cloud.lxc(&self.host, &["exec", self.name, "--", "sh", "-c", script])
    }

    /// The address it was given.
    fn address(&self, cloud: &Cloud) -> Outcome<Ipv4Addr> {
        wait("an address from OVN", SOON, || {
            let shown = self.run(cloud, "ip -4 addr show dev eth0")?;
            let inet = shown.split_whitespace().skip_while(|w| *w != "inet").nth(1);
            let address = inet.and_then(|a| a.split('/').next()?.parse().ok());
            Ok(address.ok_or(shown))
        })
    }

    /// Begins to send to an address, and to keep what comes back.
    fn sends(&self, cloud: &Cloud, to: Ipv4Addr, log: &str) -> Outcome {
        let script =
            format!("ping -i {EVERY} -W 1 {to} >/tmp/{log} 2>&1 & sleep 1; cat /tmp/{log}");
        let said = self.run(cloud, &script)?;
        if !said.contains("seq=") {
            return Err(format!("{} does not reach {to}: {said}", self.name).into());
        }
        Ok(())
    }

    /// The numbers of the packets that came back.
    fn came_back(&self, cloud: &Cloud, log: &str) -> Outcome<Vec<u64>> {
        let said = self.run(cloud, &format!("cat /tmp/{log}"))?;
        let numbers = said.lines().filter_map(|line| {
            let (_, rest) = line.split_once("seq=")?;
            rest.split(' ').next()?.parse().ok()
        });
        Ok(numbers.collect())
    }
}

/// How long nothing came back at most, after packet `since`, in seconds; and the last packet.
fn outage(numbers: &[u64], since: u64) -> (f64, u64) {
    let mut longest = 0;
    let mut before = since;
    for number in numbers.iter().copied().filter(|n| *n > since) {
        longest = longest.max(number - before - 1);
        before = before.max(number);
    }
    #[allow(clippy::cast_precision_loss)] // A handful of packets.
    let seconds = longest as f64 * EVERY;
    (seconds, before)
}

/// What is watched: one container sends to the other and to the uplink's gateway.
struct Traffic {
    from: Container,
    logs: [(&'static str, u64); 2],
}

impl Traffic {
    /// Waits until both have come back for three seconds, and tells how long each stayed away since
    /// the last time, in seconds.
    fn gaps(&mut self, cloud: &Cloud, limit: Duration) -> Outcome<[f64; 2]> {
        let mut gaps = [0.0; 2];
        for (n, (log, since)) in self.logs.iter_mut().enumerate() {
            let steady = |numbers: &[u64]| {
                numbers
                    .windows(15)
                    .last()
                    .is_some_and(|w| w[14] - w[0] == 14)
            };
            let from = &self.from;
            let begun = Instant::now();
            // Longer than it takes to notice that packets do not come back any more.
            let numbers = wait(&format!("{log} comes back"), limit, || {
                let before = from.came_back(cloud, log)?;
                std::thread::sleep(Duration::from_secs(3));
                let numbers = from.came_back(cloud, log)?;
                let more = numbers.last().copied().unwrap_or(0)
                    >= before.last().copied().unwrap_or(0) + 10;
                Ok(if more && steady(&numbers) {
                    Ok(numbers)
                } else {
                    Err(format!(
                        "{} packets after {:.0?}",
                        numbers.len(),
                        begun.elapsed()
                    ))
                })
            })?;
            (gaps[n], *since) = outage(&numbers, *since);
        }
        Ok(gaps)
    }
}

fn launch(cloud: &Cloud, name: &'static str, host: &str) -> Outcome<Container> {
    let target = [
        "--target",
        host,
        "--network",
        "default",
        "--storage",
        "local",
    ];
    let words: Vec<&str> = ["launch", "tiny", name].into_iter().chain(target).collect();
    cloud.lxc(FIRST, &words)?;
    Ok(Container {
        name,
        host: host.to_owned(),
    })
}

/// The resources with a disk of each member in pool `local`.
fn all(cloud: &Cloud) -> Outcome<String> {
    let mut text = resources(cloud)?;
    text += "---\napiVersion: microcloud.dev/v1\nkind: StoragePool\nmetadata: {name: local}\nspec: \
             {driver: btrfs}\n";
    for host in cloud.hosts() {
        text += &format!(
            "---\napiVersion: microcloud.dev/v1\nkind: Disk\nmetadata: {{name: local-{host}}}\nspec: \
             {{member: {host}, match: size >= 1GiB, limit: 1, use: {{pool: local}}}}\n"
        );
    }
    Ok(text)
}

#[test]
#[ignore = "takes some minutes; `make prove` runs it"]
fn instances_reach_each_other_and_the_outside_through_repairs_and_losses() -> Outcome {
    with("t-instances", 3, |cloud| {
        cloud.write("all.yaml", &all(cloud)?)?;
        let hosts = cloud.hosts();
        let names: Vec<&str> = hosts.iter().map(String::as_str).collect();
        cloud.start_agents(&names)?;
        cloud.wait_ready(FIRST, Duration::from_secs(90))?;
        let mut page = Page::new(
            "instances.md",
            "Instances on OVN",
            "Two containers on two machines, on the network `default` (OVN, NAT through `UPLINK`) \
             and the pool `local`. One sends a packet to the other, and one to the uplink's \
             gateway through NAT, five times a second. The columns say for how long nothing came \
             back at most, in seconds, while something was changed by hand and repaired, and when \
             the machine was lost that holds the way out.",
            "make prove",
        );
        page.line(&versions(cloud)?);
        let holder = gateway_host(cloud, FIRST)?;
        cloud.must_with(FIRST, &["sh", "-s"], IMAGE)?;
        let others: Vec<&str> = names.iter().copied().filter(|h| *h != holder).collect();
        let begun = Instant::now();
        let sender = launch(cloud, "c1", others[0])?;
        let receiver = launch(cloud, "c2", others[1])?;
        let (own, other) = (sender.address(cloud)?, receiver.address(cloud)?);
        page.line(&format!(
            "c1 on {} has {own} and c2 on {} has {other}, {:.1} s after the first launch; the way \
             out is on {holder}.\n",
            others[0],
            others[1],
            begun.elapsed().as_secs_f64()
        ));
        sender.sends(cloud, other, "c2")?;
        sender.sends(cloud, cloud.view()?.uplink_gateway, "gateway")?;
        let mut traffic = Traffic {
            from: sender,
            logs: [("c2", 0), ("gateway", 0)],
        };
        page.line("| what | repaired after | c1 to c2, s | c1 to the gateway, s |");
        page.line("|---|---|---|---|");
        let gaps = traffic.gaps(cloud, SOON)?;
        page.line(&format!("| nothing | | {:.1} | {:.1} |", gaps[0], gaps[1]));
        for (what, drift) in DRIFTS {
            let begun = Instant::now();
            drift(cloud, others[0], &holder)?;
            let repaired = begun.elapsed().as_secs_f64();
            let gaps = traffic.gaps(cloud, Duration::from_secs(60))?;
            page.line(&format!(
                "| {what} | {repaired:.1} s | {:.1} | {:.1} |",
                gaps[0], gaps[1]
            ));
        }
        cloud.wait_ready(FIRST, SOON)?;
        lost(cloud, &mut traffic, &holder, &mut page)?;
        page.keep()
    })
}

type Drift = fn(&Cloud, &str, &str) -> Outcome;

/// What is changed, given the machine of the container that sends and the one that holds the way
/// out; each returns when it is repaired.
const DRIFTS: [(&str, Drift); 9] = [
    ("encapsulation address of c1's machine", |cloud, host, _| {
        open_vswitch(cloud, host, "ovn-encap-ip", "192.0.2.77")
    }),
    ("`ovn-remote` of c1's machine", |cloud, host, _| {
        open_vswitch(cloud, host, "ovn-remote", "tcp:192.0.2.77:6642")
    }),
    ("bridge mapping where the way out is", |cloud, _, holder| {
        open_vswitch(cloud, holder, "ovn-bridge-mappings", "UPLINK:br-none")
    }),
    ("chassis row of c1's machine deleted", |cloud, host, _| {
        ovn::by_hand::chassis_deleted(cloud, host)
    }),
    (
        "ovn-controller stopped where the way out is",
        |cloud, _, holder| ovn::by_hand::controller_stopped(cloud, holder),
    ),
    ("northbound connection cleared", |cloud, _, _| {
        ovn::by_hand::northbound_cleared(cloud)
    }),
    ("uplink's range halved in LXD", |cloud, _, _| {
        ovn::by_hand::range_halved(cloud)
    }),
    (
        "a route added to the logical router (stays)",
        |cloud, _, _| {
            let gateway = cloud.view()?.uplink_gateway;
            let script = format!(
                "n='ovn-nbctl --no-leader-only'; r=$($n --bare --columns=name list logical_router); $n \
             lr-route-add $r 203.0.113.0/24 {gateway}"
            );
            cloud.must(FIRST, &["sh", "-c", &script])?;
            cloud.wait_ready(FIRST, SOON).map(|_| ())
        },
    ),
    (
        "network `default` deleted (LXD refuses: in use)",
        |cloud, _, _| {
            let out = cloud.run(FIRST, &["lxc", "network", "delete", "default"], "")?;
            let said = text(&out.stderr);
            if out.status.success() || !said.contains("in use") {
                return Err(format!("LXD deleted a network in use: {said}").into());
            }
            Ok(())
        },
    ),
];

fn open_vswitch(cloud: &Cloud, host: &str, key: &str, wrong: &str) -> Outcome {
    let key = format!("external-ids:{key}");
    let get = ["ovs-vsctl", "get", "open", ".", &key];
    let before = cloud.must(host, &get)?.trim().trim_matches('"').to_owned();
    cloud.must(
        host,
        &["ovs-vsctl", "set", "open", ".", &format!("{key}={wrong}")],
    )?;
    prints(cloud, host, &get, &before)
}

/// The machine that holds the way out loses its power, and comes back.
fn lost(cloud: &Cloud, traffic: &mut Traffic, holder: &str, page: &mut Page) -> Outcome {
    let here = traffic.from.host.clone();
    cloud.kill(holder)?;
    let gaps = traffic.gaps(cloud, Duration::from_secs(90))?;
    let now = gateway_host(cloud, &here)?;
    page.line(&format!(
        "| {holder} lost, which held the way out; now {now} does | | {:.1} | {:.1} |",
        gaps[0], gaps[1]
    ));
    let begun = Instant::now();
    cloud.start(holder)?;
    cloud.wait_ready(&here, Duration::from_secs(120))?;
    let ready = begun.elapsed().as_secs_f64();
    let gaps = traffic.gaps(cloud, Duration::from_secs(60))?;
    let back = gateway_host(cloud, &here)?;
    page.line(&format!(
        "| {holder} is back, all ready; {back} holds the way out | {ready:.1} s | {:.1} | {:.1} |",
        gaps[0], gaps[1]
    ));
    Ok(())
}

#[test]
fn an_outage_is_the_longest_row_of_packets_that_did_not_come_back() {
    let (seconds, last) = outage(&[1, 2, 3, 9, 10, 12], 2);
    assert!((seconds - 1.0).abs() < 1e-9, "{seconds}");
    assert_eq!(last, 12);
}
