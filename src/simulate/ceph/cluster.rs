//! What the monitors of a cluster hold together.

use super::super::config::hex_digest;
use crate::services::ceph::Command;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;
use tokio::time::Instant;

/// An error of a command.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// As in errno.
    pub code: i32,
    /// What Ceph says.
    pub said: String,
}

pub(super) type Answer = Result<String, Refusal>;

/// A monitor of the map; its place is its rank.
#[derive(Debug, Clone)]
pub(super) struct Monitor {
    pub name: String,
    pub machine: usize,
    pub address: IpAddr,
    pub in_quorum: bool,
}

impl Monitor {
    fn port(&self, port: u16) -> String {
        std::net::SocketAddr::new(self.address, port).to_string()
    }

    /// Where it listens, as `ceph.conf` says it.
    pub fn v2(&self) -> String {
        format!("v2:{}", self.port(3300))
    }

    /// Its two addresses by kind.
    pub fn addresses(&self) -> [(&'static str, String); 2] {
        [("v2", self.port(3300)), ("v1", self.port(6789))]
    }
}

/// An OSD of the map.
#[derive(Debug, Clone)]
pub(super) struct Osd {
    pub uuid: String,
    pub machine: usize,
    /// Whether it was ever started; before that it is only known.
    pub born: bool,
    pub up: bool,
    pub in_: bool,
    /// Whether the monitors set it out themselves.
    pub auto_out: bool,
    /// The CRUSH host it is below.
    pub host: String,
    /// The ratio it has passed, as its state names it.
    pub full: Option<&'static str>,
}

/// A pool.
#[derive(Debug, Clone)]
pub(super) struct Pool {
    pub id: i64,
    pub size: u32,
    pub min_size: u32,
    pub pg_num: u32,
    pub rule: i64,
    pub objects: u64,
    pub applications: BTreeSet<String>,
    /// Until then its placement groups are being made.
    pub made: Instant,
}

/// A CRUSH rule.
#[derive(Debug, Clone)]
pub(super) struct Rule {
    pub id: i64,
    pub kind: String,
}

/// A host or a rack of the CRUSH map.
#[derive(Debug, Clone)]
pub(super) struct Bucket {
    pub id: i64,
    pub kind: &'static str,
    /// The bucket it is below; the root when it is in none that is named.
    pub parent: Option<String>,
}

/// A file system.
#[derive(Debug, Clone)]
pub(super) struct FileSystem {
    pub name: String,
    pub metadata: i64,
    pub data: i64,
    pub active: Option<String>,
}

/// An entity that may ask.
#[derive(Debug, Clone)]
pub(super) struct Entity {
    pub key: String,
    pub caps: Vec<(String, String)>,
}

/// One cluster.
#[derive(Debug)]
pub(in crate::simulate) struct Cluster {
    pub(super) fsid: String,
    pub(super) entities: BTreeMap<String, Entity>,
    pub(super) monmap: u64,
    pub(super) elections: u64,
    pub(super) monitors: Vec<Monitor>,
    pub(super) mgrmap: u64,
    pub(super) active_mgr: Option<String>,
    pub(super) mgrs: BTreeSet<String>,
    pub(super) fsmap: u64,
    pub(super) mds: BTreeSet<String>,
    pub(super) filesystems: Vec<FileSystem>,
    pub(super) osdmap: u64,
    pub(super) osds: BTreeMap<i64, Osd>,
    pub(super) pools: BTreeMap<String, Pool>,
    pub(super) next_pool: i64,
    pub(super) rules: BTreeMap<String, Rule>,
    pub(super) buckets: BTreeMap<String, Bucket>,
    pub(super) config: BTreeMap<(String, String), String>,
    pub(super) keys: BTreeMap<String, String>,
    pub(super) flags: BTreeSet<String>,
    /// Monitors whose clock differs.
    pub(super) skewed: BTreeSet<String>,
    /// What LXD keeps in pools and file systems, by their names.
    pub(in crate::simulate) images: BTreeSet<(String, String)>,
    /// How long placement groups need to agree again.
    pub(super) peering: Duration,
    /// Until then they do.
    pub(super) settled: Instant,
    /// Since when placement groups lack copies.
    pub(super) undersized: Option<Instant>,
    /// Since when daemons are silent.
    pub(super) silent: BTreeMap<(&'static str, String), Instant>,
}

impl Cluster {
    /// A new one, with the monitor of one machine.
    pub(super) fn new(fsid: &str, monitor: Monitor, peering: Duration) -> Cluster {
        let all = |of: &[&str]| -> Vec<(String, String)> {
            of.iter()
                .map(|of| ((*of).to_owned(), "allow *".to_owned()))
                .collect()
        };
        let mut cluster = Cluster {
            fsid: fsid.to_owned(),
            entities: BTreeMap::new(),
            monmap: 1,
            elections: 1,
            monitors: vec![monitor],
            mgrmap: 1,
            active_mgr: None,
            mgrs: BTreeSet::new(),
            fsmap: 1,
            mds: BTreeSet::new(),
            filesystems: Vec::new(),
            osdmap: 1,
            osds: BTreeMap::new(),
            pools: BTreeMap::new(),
            next_pool: 1,
            rules: BTreeMap::from([(
                "replicated_rule".to_owned(),
                Rule {
                    id: 0,
                    kind: "host".to_owned(),
                },
            )]),
            buckets: BTreeMap::new(),
            config: BTreeMap::new(),
            keys: BTreeMap::new(),
            flags: [
                "pglog_hardlimit",
                "purged_snapdirs",
                "recovery_deletes",
                "sortbitwise",
            ]
            .map(str::to_owned)
            .into(),
            skewed: BTreeSet::new(),
            images: BTreeSet::new(),
            peering,
            settled: Instant::now(),
            undersized: None,
            silent: BTreeMap::new(),
        };
        cluster.add_entity("mon.", all(&["mon"]));
        cluster.add_entity("client.admin", all(&["mds", "mgr", "mon", "osd"]));
        let bootstrap = [("mgr", "allow r"), ("mon", "profile bootstrap-osd")];
        let bootstrap = bootstrap.map(|(of, cap)| (of.to_owned(), cap.to_owned()));
        cluster.add_entity("client.bootstrap-osd", bootstrap.to_vec());
        cluster
    }

    /// Makes an entity known under a new key.
    pub(super) fn add_entity(&mut self, name: &str, caps: Vec<(String, String)>) {
        let key = hex_digest(&format!("key of {name} in {}", self.fsid));
        let entity = Entity {
            key: format!("AQ{}==", &key[..36]),
            caps,
        };
        self.entities.insert(name.to_owned(), entity);
    }

    /// A keyring file of an entity.
    pub(super) fn keyring(&self, name: &str, with_caps: bool) -> Option<String> {
        let entity = self.entities.get(name)?;
        let mut text = format!("[{name}]\n\tkey = {}\n", entity.key);
        for (of, cap) in entity.caps.iter().filter(|_| with_caps) {
            text.push_str(&format!("\tcaps {of} = \"{cap}\"\n"));
        }
        Some(text)
    }

    /// Whether this is the admin's keyring.
    pub(super) fn admits(&self, keyring: &str) -> bool {
        let admin = self.entities.get("client.admin");
        admin.is_some_and(|admin| keyring.contains(&admin.key))
    }

    /// Runs a command.
    pub(super) fn run(&mut self, command: &Command, now: Instant) -> Answer {
        match self.look_up(command, now) {
            Some(answer) => answer,
            None => self.change(command, now),
        }
    }

    /// A value of the configuration that is for all.
    pub(super) fn setting(&self, name: &str) -> Option<&str> {
        let key = ("global".to_owned(), name.to_owned());
        self.config.get(&key).map(String::as_str)
    }

    /// How many copies a new pool has.
    pub(super) fn default_size(&self) -> u32 {
        let said = self.setting("osd_pool_default_size");
        said.and_then(|v| v.parse().ok()).unwrap_or(3)
    }

    /// The map of the OSDs has changed, and data may have to move.
    pub(super) fn moved(&mut self, now: Instant) {
        self.osdmap += 1;
        self.settled = now + self.peering;
    }

    /// Adds a pool; the defaults say what is not given.
    pub(super) fn add_pool(&mut self, name: &str, pg_num: u32, rule: Option<i64>, now: Instant) {
        let size = self.default_size();
        let default = self.setting("osd_pool_default_crush_rule");
        let rule = rule
            .or_else(|| default?.parse().ok().filter(|id| *id >= 0))
            .unwrap_or(0);
        let pool = Pool {
            id: self.next_pool,
            size,
            min_size: size - size / 2,
            pg_num,
            rule,
            objects: 0,
            applications: BTreeSet::new(),
            made: now + self.peering,
        };
        self.next_pool += 1;
        self.pools.insert(name.to_owned(), pool);
        self.osdmap += 1;
    }

    /// The rack a CRUSH host is in.
    pub(super) fn rack_of(&self, host: &str) -> Option<&str> {
        let rack = self.buckets.get(host)?.parent.as_deref()?;
        self.buckets
            .get(rack)
            .filter(|b| b.kind == "rack")
            .map(|_| rack)
    }

    /// A free number for a bucket.
    pub(super) fn next_bucket(&self) -> i64 {
        let least = self.buckets.values().map(|b| b.id).min();
        // The root and its shadow have -1 and -2; every bucket has a shadow.
        least.unwrap_or(-1) - 2
    }

    /// An OSD has started: it is in the map, and below its machine's host.
    pub(super) fn boot(&mut self, id: i64, hostname: &str, now: Instant) {
        let place = self.next_bucket();
        self.buckets.entry(hostname.to_owned()).or_insert(Bucket {
            id: place,
            kind: "host",
            parent: None,
        });
        if let Some(osd) = self.osds.get_mut(&id) {
            if !osd.born || osd.auto_out {
                osd.in_ = true;
            }
            osd.born = true;
            osd.up = true;
            osd.auto_out = false;
            hostname.clone_into(&mut osd.host);
        }
        self.moved(now);
    }

    /// Sets an OSD out that has been down for too long.
    pub(super) fn out(&mut self, id: i64, now: Instant) {
        let all = self.osds.values().filter(|o| o.born).count();
        let in_ = self.osds.values().filter(|o| o.born && o.in_).count();
        // `mon_osd_min_in_ratio`: three quarters are kept in.
        if self.flags.contains("noout") || in_ * 4 < all * 3 {
            return;
        }
        if let Some(osd) = self.osds.get_mut(&id)
            && !osd.up
            && osd.in_
        {
            osd.in_ = false;
            osd.auto_out = true;
            self.moved(now);
        }
    }

    /// Whether a daemon counts as there: it is, or has been silent for less than `grace`. Gives the
    /// time after which to look again.
    pub(super) fn there(
        &mut self,
        kind: &'static str,
        name: &str,
        ok: bool,
        grace: Duration,
    ) -> (bool, bool) {
        let key = (kind, name.to_owned());
        if ok {
            self.silent.remove(&key);
            return (true, false);
        }
        let new = !self.silent.contains_key(&key);
        let since = *self.silent.entry(key).or_insert_with(Instant::now);
        (since.elapsed() < grace, new && !grace.is_zero())
    }
}
