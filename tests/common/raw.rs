//! The whole of `examples/three-node` by the services' own commands, as a script would give them:
//! what forming is measured against. Three chains run beside each other and wait for each other
//! only where one needs what another made.

// Each test program uses a part of this.
#![allow(dead_code)]

use super::real::{Cloud, FIRST, Outcome, wait};
use super::whole::{HOSTS, ceph};
use std::fmt::Write as _;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(120);
const ETC_OVN: &str = "/etc/ovn";

/// What took how long, and when it was done, from the script's start.
pub type Phase = (&'static str, &'static str, Duration, Duration);

struct Script<'a> {
    cloud: &'a Cloud,
    chain: &'static str,
    begun: Instant,
    phases: Vec<Phase>,
}

impl Script<'_> {
    fn sh(&self, host: &str, script: &str) -> Outcome<String> {
        self.cloud.must(host, &["bash", "-euc", script])
    }

    /// The same on all hosts at once, as a script would with `&` and `wait`.
    fn everywhere(&self, script: impl Fn(&str) -> Outcome<String> + Sync) -> Outcome {
        thread::scope(|scope| {
            let script = &script;
            let all = HOSTS.map(|host| {
                scope.spawn(move || -> Result<(), String> {
                    let script = script(host).map_err(|e| e.to_string())?;
                    self.sh(host, &script).map(drop).map_err(|e| e.to_string())
                })
            });
            for one in all {
                one.join().map_err(|_| "a thread panicked")??;
            }
            Ok(())
        })
    }

    fn phase(&mut self, name: &'static str, work: impl FnOnce(&Self) -> Outcome) -> Outcome {
        let before = self.begun.elapsed();
        work(self).map_err(|e| format!("{} {name}: {e}", self.chain))?;
        let now = self.begun.elapsed();
        self.phases.push((self.chain, name, now - before, now));
        Ok(())
    }
}

/// Forms it all, and tells how long each phase took.
pub fn form(cloud: &Cloud) -> Outcome<Vec<Phase>> {
    let begun = Instant::now();
    let (ovn_done, ovn_is_done) = channel();
    let (ceph_done, ceph_is_done) = channel();
    let script = |chain| Script {
        cloud,
        chain,
        begun,
        phases: Vec::new(),
    };
    thread::scope(|scope| {
        let text = |e: Box<dyn std::error::Error>| e.to_string();
        let lxd =
            scope.spawn(move || lxd(script("LXD"), &ovn_is_done, &ceph_is_done).map_err(text));
        let ovn = scope.spawn(move || ovn(script("OVN"), &ovn_done).map_err(text));
        let ceph = scope.spawn(move || ceph_chain(script("Ceph"), &ceph_done).map_err(text));
        let mut phases = Vec::new();
        for chain in [ovn, ceph, lxd] {
            phases.extend(chain.join().map_err(|_| "a thread panicked")??);
        }
        Ok(phases)
    })
}

fn lxd(mut script: Script<'_>, ovn: &Receiver<()>, ceph: &Receiver<()>) -> Outcome<Vec<Phase>> {
    let cloud = script.cloud;
    let address = |host: &str| -> Outcome<String> { Ok(cloud.address(host)?.to_string()) };
    script.phase("bootstrap", |s| {
        let preseed = format!(
            "lxd init --preseed <<'END'\nconfig: {{core.https_address: '{}:8443'}}\n\
             cluster: {{server_name: {FIRST}, enabled: true}}\nEND",
            address(FIRST)?
        );
        s.sh(FIRST, &preseed).map(drop)
    })?;
    script.phase("join two", |s| {
        for host in &HOSTS[1..] {
            let said = s.sh(FIRST, &format!("lxc cluster add {host}"))?;
            let token = said.lines().last().unwrap_or_default().trim().to_owned();
            let preseed = format!(
                "lxd init --preseed <<'END'\ncluster: {{enabled: true, server_address: '{}:8443', \
                 cluster_token: {token}}}\nEND",
                address(host)?
            );
            s.sh(host, &preseed)?;
        }
        Ok(())
    })?;
    script.phase("configuration", |s| {
        let mut all =
            "lxc config set cluster.offline_threshold=20 images.auto_update_interval=12\n"
                .to_owned();
        for (host, rack) in HOSTS.iter().zip(["rack-a", "rack-b", "rack-c"]) {
            writeln!(
                all,
                "lxc cluster show {host} | sed 's/^failure_domain: .*/failure_domain: {rack}/' | \
                 lxc cluster edit {host}"
            )?;
        }
        s.sh(FIRST, &all).map(drop)
    })?;
    script.phase("pool local", |s| {
        let mut all = String::new();
        for host in HOSTS {
            let disk = format!("/dev/disk/by-id/sandbox-{host}-disk1");
            writeln!(
                all,
                "lxc storage create local btrfs source={disk} --target {host}"
            )?;
        }
        all += "lxc storage create local btrfs\n";
        for host in HOSTS {
            for what in ["images", "backups"] {
                writeln!(
                    all,
                    "lxc storage volume create local {what} --target {host} >/dev/null\n\
                     lxc config set storage.{what}_volume=local/{what} --target {host}"
                )?;
            }
        }
        s.sh(FIRST, &all).map(drop)
    })?;
    ovn.recv()?;
    script.phase("networks", |s| {
        let view = cloud.view()?;
        let gateway = view.uplink_gateway;
        let [a, b, c, _] = gateway.octets();
        let centrals = HOSTS
            .iter()
            .map(|h| Ok(format!("ssl:{}:6641", address(h)?)))
            .collect::<Outcome<Vec<String>>>()?
            .join(",");
        let mut all = format!("lxc config set network.ovn.northbound_connection={centrals}\n");
        for host in HOSTS {
            writeln!(
                all,
                "lxc network create UPLINK --type=physical parent=up0 --target {host}"
            )?;
        }
        writeln!(
            all,
            "lxc network create UPLINK --type=physical ipv4.gateway={gateway}/24 \
             ipv4.ovn.ranges={a}.{b}.{c}.100-{a}.{b}.{c}.200 dns.nameservers={gateway}\n\
             lxc network create default --type=ovn network=UPLINK ipv4.address=10.48.0.1/24 \
             ipv4.nat=true ipv6.address=fd42:48:48:48::1/64 ipv6.nat=true"
        )?;
        s.sh(FIRST, &all)?;
        // As long as the kernel does not forward, LXD's bridge must be told so.
        s.everywhere(|_| {
            Ok("for b in $(ovs-vsctl list-br | grep ^lxdovn); do \
                ovs-vsctl set bridge $b datapath_type=netdev; done"
                .to_owned())
        })
    })?;
    ceph.recv()?;
    script.phase("pool remote, profiles", |s| {
        let mut all = String::new();
        for host in HOSTS {
            writeln!(
                all,
                "lxc storage create remote ceph source=lxd_remote --target {host}"
            )?;
        }
        all += "lxc storage create remote ceph ceph.osd.pool_name=lxd_remote\n\
                lxc profile device add default root disk path=/ pool=remote\n\
                lxc profile device add default eth0 nic network=default\n\
                lxc profile create web\n\
                lxc profile set web limits.cpu=2 limits.memory=1GiB\n\
                lxc profile device add web root disk path=/ pool=local size=4GiB\n\
                lxc profile device add web eth0 nic network=default";
        s.sh(FIRST, &all).map(drop)
    })?;
    Ok(script.phases)
}

fn ovn(mut script: Script<'_>, done: &Sender<()>) -> Outcome<Vec<Phase>> {
    let cloud = script.cloud;
    let addresses = HOSTS
        .iter()
        .map(|h| Ok(cloud.address(h)?.to_string()))
        .collect::<Outcome<Vec<String>>>()?;
    let list = |port: u16| {
        let all: Vec<String> = addresses
            .iter()
            .map(|a| format!("ssl:{a}:{port}"))
            .collect();
        all.join(",")
    };
    script.phase("certificates", |s| {
        let mut make = "d=$(mktemp -d) && cd $d\n\
             k='openssl ecparam -name prime256v1 -genkey -noout'\n\
             $k -out ca.key; openssl req -x509 -new -key ca.key -subj /CN=ca -days 3650 -out ca.crt\n"
            .to_owned();
        for (host, address) in HOSTS.iter().zip(&addresses) {
            writeln!(
                make,
                "mkdir {host}; $k -out {host}/key_host; cp ca.crt {host}/ovn-central.crt\n\
                 openssl req -new -key {host}/key_host -subj /CN={host} -out csr\n\
                 openssl x509 -req -in csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 365 \
                 -extfile <(echo subjectAltName=DNS:{host},IP:{address}) -out {host}/cert_host \
                 2>/dev/null"
            )?;
        }
        make += "tar c . | base64 -w0";
        let made = s.sh(FIRST, &make)?;
        for host in HOSTS {
            let take = format!(
                "mkdir -p {ETC_OVN}; base64 -d | tar x -C {ETC_OVN} --strip-components=2 ./{host}"
            );
            cloud.must_with(host, &["bash", "-euc", &take], &made)?;
        }
        Ok(())
    })?;
    let tls = |prefix: &str| {
        format!(
            " --{prefix}-key={ETC_OVN}/key_host --{prefix}-cert={ETC_OVN}/cert_host \
             --{prefix}-ca-cert={ETC_OVN}/ovn-central.crt"
        )
    };
    let central = |host: &str| -> Outcome<String> {
        let own = cloud.address(host)?;
        let mut words = format!(
            "--ovn-northd-nb-db={} --ovn-northd-sb-db={}{}",
            list(6641),
            list(6642),
            tls("ovn-northd-ssl")
        );
        for db in ["nb", "sb"] {
            write!(
                words,
                " --db-{db}-addr={own} --db-{db}-create-insecure-remote=no \
                 --db-{db}-cluster-local-addr={own} --db-{db}-cluster-local-proto=ssl{}",
                tls(&format!("ovn-{db}-db-ssl"))
            )?;
            if host != FIRST {
                write!(
                    words,
                    " --db-{db}-cluster-remote-addr={} --db-{db}-cluster-remote-proto=ssl",
                    addresses[0]
                )?;
            }
        }
        Ok(format!(
            "echo 'OVN_CTL_OPTS=\"{words}\"' > /etc/default/ovn-central\n\
             systemctl enable --quiet ovn-central\n\
             systemctl start ovn-ovsdb-server-nb ovn-ovsdb-server-sb ovn-northd ovn-central"
        ))
    };
    script.phase("first databases", |s| {
        s.sh(FIRST, &central(FIRST)?)?;
        s.sh(
            FIRST,
            "until ovn-nbctl set-connection pssl:6641 2>/dev/null; do sleep 0.2; done\n\
             until ovn-sbctl set-connection pssl:6642 2>/dev/null; do sleep 0.2; done",
        )
        .map(drop)
    })?;
    script.phase("join two", |s| {
        for host in &HOSTS[1..] {
            s.sh(host, &central(host)?)?;
        }
        Ok(())
    })?;
    script.phase("chassis", |s| {
        let view = cloud.view()?;
        s.everywhere(|host| {
            let seen = view
                .hosts
                .iter()
                .find(|h| h.name == host)
                .ok_or("no host")?;
            Ok(format!(
                "echo 'OVN_CTL_OPTS=\"{}\"' > /etc/default/ovn-host\n\
                 ovs-vsctl set open . external-ids:system-id={host} \
                 external-ids:ovn-remote={} external-ids:ovn-encap-type=geneve \
                 external-ids:ovn-encap-ip={} external-ids:ovn-bridge-datapath-type=netdev\n\
                 systemctl enable --quiet ovn-host; systemctl start ovn-controller ovn-host",
                tls("ovn-controller-ssl").trim(),
                list(6642),
                seen.underlay_address
            ))
        })?;
        wait("three chassis", LIMIT, || {
            let words = "ovn-sbctl --no-leader-only --bare --columns=name list chassis | grep -c .";
            let said = cloud.run(FIRST, &["sh", "-c", words], "")?;
            let said = String::from_utf8_lossy(&said.stdout).trim().to_owned();
            Ok(if said == "3" { Ok(()) } else { Err(said) })
        })
    })?;
    let _ = done.send(());
    Ok(script.phases)
}

fn ceph_chain(mut script: Script<'_>, done: &Sender<()>) -> Outcome<Vec<Phase>> {
    let cloud = script.cloud;
    let mut monitors = String::new();
    for host in HOSTS {
        let a = cloud.address(host)?;
        write!(monitors, "[v2:{a}:3300,v1:{a}:6789],")?;
    }
    let monitors = monitors.trim_end_matches(',');
    let network = cloud.view()?.internal;
    let start = "systemctl enable --quiet --now";
    script.phase("first monitor", |s| {
        let a = cloud.address(FIRST)?;
        let form = format!(
            "fsid=$(cat /proc/sys/kernel/random/uuid)\n\
             old=$(cat /etc/ceph/ceph.conf 2>/dev/null || true)\n\
             printf '[global]\\nfsid = %s\\nmon_host = {monitors}\\npublic_network = {network}\\n%s\\n' \
             $fsid \"$old\" > /etc/ceph/ceph.conf\n\
             cd $(mktemp -d); chmod 755 .\n\
             ceph-authtool -C k --gen-key -n mon. --cap mon 'allow *' >/dev/null\n\
             ceph-authtool -C /etc/ceph/ceph.client.admin.keyring --gen-key -n client.admin \
             --cap mon 'allow *' --cap osd 'allow *' --cap mds 'allow *' --cap mgr 'allow *' >/dev/null\n\
             ceph-authtool k --gen-key -n client.bootstrap-osd --cap mon 'profile bootstrap-osd' \
             --cap mgr 'allow r'\n\
             ceph-authtool k --import-keyring /etc/ceph/ceph.client.admin.keyring >/dev/null\n\
             monmaptool --create --fsid $fsid --addv {FIRST} [v2:{a}:3300,v1:{a}:6789] map >/dev/null\n\
             chown -R ceph:ceph .; mkdir -p /var/lib/ceph/mon/ceph-{FIRST}\n\
             chown ceph:ceph /var/lib/ceph/mon/ceph-{FIRST}\n\
             ceph-mon --mkfs --id {FIRST} --setuser ceph --setgroup ceph --monmap map --keyring k\n\
             {start} ceph-mon@{FIRST}\n\
             ceph config set mon auth_allow_insecure_global_id_reclaim false\n\
             ceph config set global public_network {network}"
        );
        s.sh(FIRST, &form).map(drop)
    })?;
    let daemon = |kind: &str, caps: &str, host: &str| {
        format!(
            "mkdir -p /var/lib/ceph/{kind}/ceph-{host}\n\
             ceph auth get-or-create {kind}.{host} {caps} > /var/lib/ceph/{kind}/ceph-{host}/keyring\n\
             chown -R ceph:ceph /var/lib/ceph/{kind}/ceph-{host}\n\
             {start} ceph-{kind}@{host}"
        )
    };
    let mgr = "mon 'allow profile mgr' osd 'allow *' mds 'allow *'";
    let mds = "mon 'allow profile mds' mgr 'allow profile mds' mds 'allow *' osd 'allow rwx'";
    script.phase("access, first manager", |s| {
        let given = s.sh(
            FIRST,
            "mkdir -p /var/lib/ceph/bootstrap-osd\n\
             ceph auth get client.bootstrap-osd > /var/lib/ceph/bootstrap-osd/ceph.keyring \
             2>/dev/null\n\
             tar c -C / etc/ceph var/lib/ceph/bootstrap-osd/ceph.keyring | base64 -w0",
        )?;
        for host in &HOSTS[1..] {
            let take = "base64 -d | tar x -C /";
            cloud.must_with(host, &["bash", "-euc", take], &given)?;
        }
        s.sh(FIRST, &daemon("mgr", mgr, FIRST)).map(drop)
    })?;
    script.phase("two monitors", |s| {
        for host in &HOSTS[1..] {
            let add = format!(
                "cd $(mktemp -d); chmod 755 .\n\
                 ceph auth get mon. > k 2>/dev/null; ceph mon getmap > map 2>/dev/null\n\
                 mkdir -p /var/lib/ceph/mon/ceph-{host}\n\
                 chown -R ceph:ceph . /var/lib/ceph/mon/ceph-{host}\n\
                 ceph-mon --mkfs --id {host} --setuser ceph --setgroup ceph --monmap map --keyring k\n\
                 {start} ceph-mon@{host}"
            );
            s.sh(host, &add)?;
        }
        Ok(())
    })?;
    script.phase("managers, metadata servers", |s| {
        for host in HOSTS {
            if host != FIRST {
                s.sh(host, &daemon("mgr", mgr, host))?;
            }
            s.sh(host, &daemon("mds", mds, host))?;
        }
        Ok(())
    })?;
    script.phase("three OSDs", |s| {
        s.everywhere(|host| {
            let disk = format!("/dev/disk/by-id/sandbox-{host}-disk2");
            Ok(format!(
                "ceph-volume raw prepare --bluestore --data {disk} >/dev/null 2>&1\n\
                 ceph-volume raw activate --device {disk} --no-systemd --no-tmpfs >/dev/null 2>&1\n\
                 for d in /var/lib/ceph/osd/ceph-*; do {start} ceph-osd@${{d##*-}}; done"
            ))
        })?;
        wait("three OSDs are up", LIMIT, || {
            let map = ceph(cloud, &["osd", "stat"])?;
            Ok(if map["num_up_osds"] == 3 {
                Ok(())
            } else {
                Err(map.to_string())
            })
        })
    })?;
    script.phase("racks, rule, copies", |s| {
        let mut all = "ceph config set global osd_pool_default_size 3\n".to_owned();
        for (host, rack) in HOSTS.iter().zip(["rack-a", "rack-b", "rack-c"]) {
            writeln!(all, "ceph osd crush move {host} root=default rack={rack}")?;
        }
        all += "ceph osd crush rule create-replicated microcloud_rack default rack\n\
                id=$(ceph osd crush rule dump microcloud_rack | jq .rule_id)\n\
                ceph config set global osd_pool_default_crush_rule $id";
        s.sh(FIRST, &all).map(drop)
    })?;
    let _ = done.send(());
    Ok(script.phases)
}
