//! OVN on real hosts: from empty machines to a network whose router answers from outside, over TLS,
//! and held against what is changed by hand.

mod common;

use common::ovn::{self, SOON, gateway_host, ping, prints, resources};
use common::real::{Cloud, FIRST, Outcome, text, wait, with};
use std::time::{Duration, Instant};

#[test]
fn a_network_of_ovn_is_formed_answers_from_outside_and_is_held() -> Outcome {
    with("t-ovn", 3, |cloud| {
        cloud.write("all.yaml", &resources(cloud)?)?;
        let begun = Instant::now();
        cloud.start_agents(&["micro01", "micro02", "micro03"])?;
        cloud.wait_ready(FIRST, Duration::from_secs(60))?;
        eprintln!("t-ovn: all ready after {:.1?}", begun.elapsed());
        wait(
            "the router answers from outside",
            Duration::from_secs(30),
            || ping(cloud),
        )?;
        eprintln!("t-ovn: the router answers after {:.1?}", begun.elapsed());
        over_tls(cloud)?;
        drifts(cloud)?;
        a_router_is_left_to_lxd(cloud)?;
        wait(
            "the router answers from outside",
            Duration::from_secs(30),
            || ping(cloud),
        )?;
        cloud.wait_ready(FIRST, SOON)?;
        nothing_is_written(cloud)?;
        installed_anew(cloud)?;
        away_for_a_moment(cloud)?;
        what_is_lost_is_told(cloud)
    })
}

/// The servers of a database's raft as a host has them: id and address.
fn servers(cloud: &Cloud, host: &str, control: &str, database: &str) -> Outcome<Vec<String>> {
    let words = ["ovn-appctl", "-t", control, "cluster/status", database];
    let out = cloud.run(host, &words, "")?;
    let said = text(&out.stdout);
    let servers = said.lines().filter_map(|line| {
        let (id, rest) = line.strip_prefix("    ")?.split_once(" (")?;
        let (_, address) = rest.split_once(" at ssl:")?;
        Some(format!("{id} {}", address.split(':').next()?))
    });
    let mut servers: Vec<String> = servers.collect();
    servers.sort();
    Ok(servers)
}

const DATABASES: [(&str, &str); 2] = [
    ("/run/ovn/ovnnb_db.ctl", "OVN_Northbound"),
    ("/run/ovn/ovnsb_db.ctl", "OVN_Southbound"),
];

/// A machine loses all it has of the databases, as when it is installed anew: it joins again, and
/// the server it was is struck, for it would count for the majority for ever.
fn installed_anew(cloud: &Cloud) -> Outcome {
    let all = |cloud: &Cloud| -> Outcome<Vec<Vec<String>>> {
        let of = |(control, database): (&str, &str)| servers(cloud, FIRST, control, database);
        DATABASES.into_iter().map(of).collect()
    };
    let before = all(cloud)?;
    let gone = "systemctl stop ovn-central ovn-northd ovn-ovsdb-server-nb ovn-ovsdb-server-sb; \
                rm -f /var/lib/ovn/*.db /etc/default/ovn-central /etc/ovn/ovn-northd-db-params.conf";
    let begun = Instant::now();
    cloud.must("micro02", &["systemctl", "stop", "microcloud.service"])?;
    cloud.must("micro02", &["sh", "-c", gone])?;
    cloud.must("micro02", &["systemctl", "start", "microcloud.service"])?;
    let address = cloud.address("micro02")?.to_string();
    wait(
        "micro02 is another server of the same rafts",
        2 * SOON,
        || {
            let now = all(cloud)?;
            let new = now.iter().zip(&before).all(|(now, before)| {
                let own = |servers: &[String]| -> Vec<String> {
                    let own = servers
                        .iter()
                        .filter(|s| s.ends_with(&format!(" {address}")));
                    own.cloned().collect()
                };
                now.len() == 3 && own(now).len() == 1 && own(now) != own(before)
            });
            Ok(if new {
                Ok(())
            } else {
                Err(format!("{now:?}, before {before:?}"))
            })
        },
    )?;
    cloud.wait_ready(FIRST, SOON)?;
    eprintln!(
        "t-ovn: a machine without its databases has them again after {:.1?}",
        begun.elapsed()
    );
    wait("the router answers", SOON, || ping(cloud))
}

/// Databases that are stopped for a moment come back with their files where they are.
fn away_for_a_moment(cloud: &Cloud) -> Outcome {
    let units = ["ovn-northd", "ovn-ovsdb-server-nb", "ovn-ovsdb-server-sb"];
    let mut words = vec!["systemctl", "stop"];
    words.extend(units);
    let all = || servers(cloud, FIRST, DATABASES[0].0, DATABASES[0].1);
    let before = all()?;
    cloud.must("micro02", &words)?;
    prints(
        cloud,
        "micro02",
        &["systemctl", "is-active", units[1]],
        "active",
    )?;
    cloud.wait_ready(FIRST, SOON)?;
    let aside = cloud.must(
        "micro02",
        &["sh", "-c", "ls -d /var/lib/ovn/left-* 2>&1 || true"],
    )?;
    if before != all()? || !aside.contains("No such file") {
        return Err(format!("micro02 has set its files aside: {aside}").into());
    }
    Ok(())
}

/// The machine that holds a network's way out is lost: what it carried is told within ten seconds,
/// and that nothing more may be taken away.
fn what_is_lost_is_told(cloud: &Cloud) -> Outcome {
    let lost = gateway_host(cloud, FIRST)?;
    let ask = if lost == FIRST { "micro02" } else { FIRST };
    let begun = Instant::now();
    cloud.kill(&lost)?;
    let words = [
        "it carries databases of OVN, the way out of network default",
        "a part of LXD's database",
        "nothing more may be taken from LXD's database and OVN's databases",
    ];
    let member = format!("Member/{lost}");
    cloud.wait_says(ask, &member, &words, Duration::from_secs(10))?;
    eprintln!(
        "t-ovn: what {lost} carried is told {:.1?} after its loss",
        begun.elapsed()
    );
    Ok(())
}

/// Three servers in each raft, all connections over TLS, keys for root alone.
fn over_tls(cloud: &Cloud) -> Outcome {
    for (control, database) in DATABASES {
        let words = ["ovn-appctl", "-t", control, "cluster/status", database];
        let status = cloud.must(FIRST, &words)?;
        let servers = status.matches(" at ssl:").count();
        if servers != 3 || status.contains(" at tcp:") {
            return Err(format!("{database} has not three servers over TLS: {status}").into());
        }
    }
    let open = ["sh", "-c", "ss -Hltn | grep -c -E ':664[1-4] '"];
    prints(cloud, FIRST, &open, "4")?;
    for (path, mode) in [
        ("/etc/ovn/key_host", "600"),
        ("/var/lib/microcloud/ovn-authority.key", "600"),
    ] {
        prints(cloud, FIRST, &["stat", "-c", "%a", path], mode)?;
    }
    // Whoever has no certificate is not let in.
    let address = cloud.address(FIRST)?;
    let url = format!("ssl:{address}:6641");
    let words = [
        "ovn-nbctl",
        "--db",
        &url,
        "-t",
        "3",
        "--no-leader-only",
        "show",
    ];
    if cloud.run("micro02", &words, "")?.status.success() {
        return Err("the northbound database answers without a certificate".into());
    }
    Ok(())
}

/// What somebody changes comes back.
fn drifts(cloud: &Cloud) -> Outcome {
    let timed = |what: &str, begun: Instant| {
        eprintln!("t-ovn: {what} is back after {:.1?}", begun.elapsed())
    };
    let get = |key: &'static str| ["ovs-vsctl", "get", "open", ".", key];

    for (key, wrong) in [
        (
            "external-ids:ovn-encap-ip",
            "external-ids:ovn-encap-ip=192.0.2.77",
        ),
        (
            "external-ids:ovn-remote",
            "external-ids:ovn-remote=tcp:192.0.2.77:6642",
        ),
        (
            "external-ids:ovn-bridge-mappings",
            "external-ids:ovn-bridge-mappings=UPLINK:br-none",
        ),
    ] {
        let before = cloud
            .must("micro02", &get(key))?
            .trim()
            .trim_matches('"')
            .to_owned();
        let begun = Instant::now();
        cloud.must("micro02", &["ovs-vsctl", "set", "open", ".", wrong])?;
        prints(cloud, "micro02", &get(key), &before)?;
        timed(key, begun);
    }

    let begun = Instant::now();
    ovn::by_hand::chassis_deleted(cloud, "micro03")?;
    timed("the chassis", begun);

    let begun = Instant::now();
    ovn::by_hand::northbound_cleared(cloud)?;
    timed("the northbound connection", begun);

    let begun = Instant::now();
    ovn::by_hand::range_halved(cloud)?;
    timed("the uplink's range", begun);

    let (begun, stopped) = (Instant::now(), jiff::Timestamp::now());
    ovn::by_hand::controller_stopped(cloud, "micro02")?;
    timed("ovn-controller", begun);
    // One that stops takes its row with it: that is told within a second.
    let told = cloud
        .events(FIRST)?
        .into_iter()
        .find(|e| e.reason == "ChassisGone" && e.message.contains("micro02"))
        .ok_or("nobody told that the chassis went")?;
    let after = told.at.duration_since(stopped).as_secs_f64();
    eprintln!("t-ovn: that a chassis went is told after {after:.2} s");
    if after > 1.0 {
        return Err(format!("that a chassis went was told after {after:.2} s").into());
    }

    let begun = Instant::now();
    cloud.lxc(FIRST, &["network", "delete", "default"])?;
    wait("network default is made again", SOON, || {
        let out = cloud.run(FIRST, &["lxc", "query", "/1.0/networks/default"], "")?;
        let said = text(&out.stdout);
        Ok(if said.contains("\"status\": \"Created\"") {
            Ok(())
        } else {
            Err(said)
        })
    })?;
    timed("the network", begun);
    Ok(())
}

/// What somebody adds to what LXD made in OVN stays; when it breaks a network, that is told.
fn a_router_is_left_to_lxd(cloud: &Cloud) -> Outcome {
    let nb = |script: &str| {
        let script = format!("n='ovn-nbctl --no-leader-only'; {script}");
        cloud.must(FIRST, &["sh", "-c", &script])
    };
    let router = nb("$n --bare --columns=name list logical_router")?;
    let router = router.trim().to_owned();
    let gateway = cloud.view()?.uplink_gateway;
    let route = "203.0.113.0/24";
    nb(&format!("$n lr-route-add {router} {route} {gateway}"))?;
    cloud.wait_ready(FIRST, SOON)?;
    let begun = Instant::now();
    nb(&format!("$n lrp-del {router}-lrp-ext"))?;
    let words = ["OVN has no router at"];
    cloud.wait_says(FIRST, "Network/default", &words, SOON)?;
    eprintln!(
        "t-ovn: that a router is broken is told after {:.1?}",
        begun.elapsed()
    );
    // As the sentence says.
    for domain in ["lxd.test", ""] {
        let pair = format!("dns.domain={domain}");
        cloud.lxc(FIRST, &["network", "set", "default", &pair])?;
    }
    cloud.wait_ready(FIRST, SOON)?;
    wait("the router answers again", SOON, || ping(cloud))?;
    if !nb(&format!("$n lr-route-list {router}"))?.contains(route) {
        return Err("a route that somebody made is gone".into());
    }
    Ok(())
}

/// When nothing differs, nothing is written.
fn nothing_is_written(cloud: &Cloud) -> Outcome {
    std::thread::sleep(Duration::from_secs(3));
    let (_, before) = cloud.lxd_requests(FIRST)?;
    let steps = |cloud: &Cloud| -> Outcome<usize> { Ok(cloud.events(FIRST)?.len()) };
    let told = steps(cloud)?;
    std::thread::sleep(Duration::from_secs(5));
    let (_, after) = cloud.lxd_requests(FIRST)?;
    if after != before || steps(cloud)? != told {
        return Err(format!("{} writes while nothing differed", after - before).into());
    }
    Ok(())
}
