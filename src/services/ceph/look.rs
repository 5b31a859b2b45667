//! Looking at a cluster again and again: the epochs first, the maps only when they moved.

use super::client::Ceph;
use super::command::Command;
use super::error::CephError;
use super::types::answers::{
    ConfigEntry, FsDump, Health, MgrDump, MonDump, OsdDump, Rule, Status, Tree,
};
use super::types::{
    CephCluster, CephPool, CrushRule, FileSystem, Fullness, HealthCheck, Managers, Monitor, Osd,
    TOLERATED,
};
use std::collections::{BTreeMap, BTreeSet};

/// How many looks go by until the maps are read although nothing moved: the cluster's
/// configuration has no epoch.
const LOOKS: u32 = 20;

/// How many looks in a row may find the monitors choosing a leader until that is told.
const ELECTIONS: u32 = 10;

/// Parts of a placement group's state that are as they should be.
const FINE: [&str; 6] = ["active", "clean", "scrubbing", "deep", "repair", "snaptrim"];

/// What a look remembers of the one before.
#[derive(Debug, Default)]
pub struct Look {
    moved: Option<Moved>,
    cluster: CephCluster,
    looks: u32,
    elections: u32,
}

/// What tells that the maps must be read.
#[derive(Debug, Clone, PartialEq)]
struct Moved {
    monmap: u64,
    election: u64,
    osdmap: u64,
    fsmap: u64,
    mgr: (bool, u64),
    checks: BTreeSet<String>,
}

impl Look {
    /// Has the next look read everything, because something was just changed.
    pub fn forget(&mut self) {
        self.moved = None;
    }

    /// Looks. Costs one short answer while nothing moved.
    ///
    /// # Errors
    /// The cluster cannot be asked; the next look reads everything.
    pub async fn look(&mut self, ceph: &Ceph) -> Result<CephCluster, CephError> {
        match self.look_now(ceph).await {
            Ok(()) => Ok(self.cluster.clone()),
            Err(e) => {
                self.moved = None;
                Err(e)
            }
        }
    }

    async fn look_now(&mut self, ceph: &Ceph) -> Result<(), CephError> {
        let status: Status = ceph.ask("status").await?;
        let moved = Moved {
            monmap: status.monmap.epoch,
            election: status.election_epoch,
            osdmap: status.osdmap.epoch,
            fsmap: status.fsmap.epoch,
            mgr: (status.mgrmap.available, status.mgrmap.num_standbys),
            checks: status.health.checks.keys().cloned().collect(),
        };
        if status.quorum_names.is_empty() {
            // The monitors are choosing a leader, which takes moments; what is known still holds.
            self.elections += 1;
            self.moved = None;
            if self.elections < ELECTIONS && !self.cluster.fsid.is_empty() {
                return Ok(());
            }
            return Err(CephError::Unreachable {
                reason: "they are choosing a leader".to_owned(),
            });
        }
        self.elections = 0;
        self.looks += 1;
        if self.looks >= LOOKS || self.moved.as_ref() != Some(&moved) {
            self.looks = 0;
            self.cluster = maps(ceph, &status).await?;
        }
        self.moved = Some(moved);
        absorb(&mut self.cluster, status);
        Ok(())
    }
}

/// What every short answer tells.
fn absorb(cluster: &mut CephCluster, status: Status) {
    cluster.fsid = status.fsid;
    for (name, monitor) in &mut cluster.monitors {
        monitor.in_quorum = status.quorum_names.contains(name);
    }
    cluster.managers.available = status.mgrmap.available;
    cluster.health = status
        .health
        .checks
        .into_iter()
        .filter(|(code, check)| !check.muted && !TOLERATED.contains(&code.as_str()))
        .map(|(code, check)| {
            let check = HealthCheck {
                severity: check.severity,
                message: check.summary.message,
            };
            (code, check)
        })
        .collect();
    cluster.unclean = status
        .pgmap
        .pgs_by_state
        .iter()
        .flat_map(|s| s.state_name.split('+'))
        .filter(|part| !FINE.contains(part) && !part.starts_with("snaptrim"))
        .map(str::to_owned)
        .collect();
}

async fn maps(ceph: &Ceph, status: &Status) -> Result<CephCluster, CephError> {
    let mons: MonDump = ceph.ask("mon dump").await?;
    let mgrs: MgrDump = ceph.ask("mgr dump").await?;
    let fs: FsDump = ceph.ask("fs dump").await?;
    let osds: OsdDump = ceph.ask("osd dump").await?;
    let tree: Tree = ceph.ask("osd tree").await?;
    let rules: Vec<Rule> = ceph.ask("osd crush rule dump").await?;
    let config: Vec<ConfigEntry> = ceph.ask("config dump").await?;
    let versions: BTreeMap<String, BTreeMap<String, u64>> = ceph.ask("versions").await?;

    let raised = |code: &String| !TOLERATED.contains(&code.as_str());
    let details: Health = if status.health.checks.keys().any(raised) {
        let command = Command::new("health").with("detail", "detail");
        ceph.read(&command).await?
    } else {
        Health::default()
    };

    let nodes: BTreeMap<i64, &_> = tree.nodes.iter().map(|n| (n.id, n)).collect();
    let parent = |id: i64, kind: &str| {
        nodes
            .values()
            .find(|n| n.kind == kind && n.children.contains(&id))
            .map(|n| n.name.clone())
    };
    let mut mds: BTreeMap<String, String> = BTreeMap::new();
    for server in fs
        .filesystems
        .iter()
        .flat_map(|f| f.mdsmap.info.values())
        .chain(&fs.standbys)
    {
        let state = server.state.strip_prefix("up:").unwrap_or(&server.state);
        mds.insert(server.name.clone(), state.to_owned());
    }
    Ok(CephCluster {
        monitors: mons
            .mons
            .into_iter()
            .map(|m| {
                let addresses = m.public_addrs.addrvec.into_iter();
                let monitor = Monitor {
                    addresses: addresses
                        .map(|a| format!("{}:{}", a.kind, a.addr))
                        .collect(),
                    in_quorum: false,
                };
                (m.name, monitor)
            })
            .collect(),
        managers: Managers {
            active: mgrs.active_name,
            available: mgrs.available,
            standbys: mgrs.standbys.into_iter().map(|s| s.name).collect(),
        },
        mds,
        filesystems: fs
            .filesystems
            .into_iter()
            .map(|f| FileSystem {
                name: f.mdsmap.fs_name,
                metadata_pool: f.mdsmap.metadata_pool,
                data_pools: f.mdsmap.data_pools,
            })
            .collect(),
        osds: osds
            .osds
            .into_iter()
            // An OSD that was made known and has no disk yet is `new` and no OSD for anybody.
            .filter(|o| o.state.iter().any(|s| s == "exists"))
            .map(|o| {
                let osd = Osd {
                    uuid: o.uuid,
                    up: o.up == 1,
                    in_: o.in_ == 1,
                    host: parent(o.osd, "host").unwrap_or_default(),
                    new: o.state.iter().any(|s| s == "new"),
                    full: Fullness::of(o.state.iter().map(String::as_str)),
                };
                (o.osd, osd)
            })
            .collect(),
        hosts: nodes
            .values()
            .filter(|n| n.kind == "host")
            .map(|n| (n.name.clone(), parent(n.id, "rack")))
            .collect(),
        pools: osds
            .pools
            .into_iter()
            .map(|p| {
                let pool = CephPool {
                    id: p.pool,
                    size: p.size,
                    min_size: p.min_size,
                    rule: p.crush_rule,
                    replicated: p.kind == 1,
                    full: Fullness::of(p.flags_names.split(',')),
                    applications: p.application_metadata.into_keys().collect(),
                };
                (p.pool_name, pool)
            })
            .collect(),
        rules: rules
            .into_iter()
            .map(|r| {
                let choose = r.steps.iter().rfind(|s| s.op.starts_with("choose"));
                let rule = CrushRule {
                    id: r.rule_id,
                    failure_domain: choose.map(|s| s.kind.clone()).unwrap_or_default(),
                };
                (r.rule_name, rule)
            })
            .collect(),
        config: config
            .into_iter()
            .filter(|c| c.mask.is_empty())
            .map(|c| ((c.section, c.name), c.value))
            .collect(),
        unclean_pools: details.said_by("PG_").filter_map(pool_of).collect(),
        skewed: details
            .said_by("MON_CLOCK_SKEW")
            .filter_map(|said| {
                let name = said.split_whitespace().next()?.strip_prefix("mon.")?;
                Some(name.to_owned())
            })
            .collect(),
        flags: osds
            .flags_set
            .into_iter()
            .filter(|f| {
                f.starts_with("no") || ["full", "nearfull", "pauserd", "pausewr"].contains(&&**f)
            })
            .collect(),
        versions: versions
            .get("overall")
            .into_iter()
            .flat_map(BTreeMap::keys)
            .filter_map(|text| text.split_whitespace().nth(2).map(str::to_owned))
            .collect(),
        ..CephCluster::default()
    })
}

impl Health {
    /// What the checks whose codes begin so say of single things.
    fn said_by<'a>(&'a self, code: &'a str) -> impl Iterator<Item = &'a str> {
        let checks = self.checks.iter().filter(move |(c, _)| c.starts_with(code));
        checks.flat_map(|(_, check)| check.detail.iter().map(|d| d.message.as_str()))
    }
}

/// The pool of `pg 2.1f is active+undersized+degraded, …`.
fn pool_of(said: &str) -> Option<i64> {
    let (pool, _) = said.strip_prefix("pg ")?.split_once('.')?;
    pool.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::services::ceph::{Command, Transport};
    use async_trait::async_trait;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Arc, Mutex};

    /// Answers as a cluster of one monitor and one OSD gave them.
    #[derive(Debug, Default)]
    struct Recorded {
        asked: AtomicUsize,
        status: Mutex<Option<String>>,
    }

    const STATUS: &str = r#"{"fsid":"f","health":{"status":"HEALTH_WARN","checks":{
        "MGR_MODULE_DEPENDENCY":{"severity":"HEALTH_WARN","summary":{"message":"13 mgr modules have failed dependencies","count":13},"muted":false},
        "OSD_DOWN":{"severity":"HEALTH_WARN","summary":{"message":"1 osds down","count":1},"muted":false}},"mutes":[]},
        "election_epoch":3,"quorum":[0],"quorum_names":["micro01"],"monmap":{"epoch":1,"num_mons":1},
        "osdmap":{"epoch":7,"num_osds":1,"num_up_osds":1,"num_in_osds":1},
        "pgmap":{"pgs_by_state":[{"state_name":"active+undersized+degraded","count":3},{"state_name":"active+clean+scrubbing+deep","count":1}],"num_pgs":4},
        "fsmap":{"epoch":1,"by_rank":[],"up:standby":0},"mgrmap":{"available":true,"num_standbys":0}}"#;

    #[async_trait]
    impl Transport for Recorded {
        async fn send(&self, command: &Command) -> Result<String, CephError> {
            self.asked.fetch_add(1, Ordering::SeqCst);
            Ok(match command.prefix() {
                "status" => self.status.lock().unwrap().clone().unwrap_or(STATUS.into()),
                "mon dump" => r#"{"epoch":1,"mons":[{"rank":0,"name":"micro01","public_addrs":{"addrvec":[{"type":"v2","addr":"10.0.0.1:3300","nonce":0},{"type":"v1","addr":"10.0.0.1:6789","nonce":0}]}}]}"#.into(),
                "mgr dump" => r#"{"active_name":"micro01","available":true,"standbys":[{"name":"micro02"}]}"#.into(),
                "fs dump" => r#"{"standbys":[{"name":"micro02","state":"up:standby"}],"filesystems":[{"mdsmap":{"fs_name":"lxd_cephfs","metadata_pool":2,"data_pools":[3],"info":{"gid_1":{"name":"micro01","state":"up:active"}}}}]}"#.into(),
                "osd dump" => r#"{"flags_set":["sortbitwise","noout"],"pools":[{"pool":1,"pool_name":"x","type":1,"size":3,"min_size":2,"crush_rule":0,"flags_names":"hashpspool,nearfull"}],"osds":[{"osd":0,"uuid":"u","up":1,"in":1,"state":["exists","up","nearfull","backfillfull"]},{"osd":1,"uuid":"v","up":0,"in":0,"state":["autoout","new"]}]}"#.into(),
                "osd tree" => r#"{"nodes":[{"id":-1,"name":"default","type":"root","children":[-5]},{"id":-5,"name":"a","type":"rack","children":[-3]},{"id":-3,"name":"micro01","type":"host","children":[0]},{"id":0,"name":"osd.0","type":"osd"}],"stray":[]}"#.into(),
                "osd crush rule dump" => r#"[{"rule_id":0,"rule_name":"replicated_rule","steps":[{"op":"take","item":-1},{"op":"chooseleaf_firstn","num":0,"type":"host"},{"op":"emit"}]}]"#.into(),
                "config dump" => r#"[{"section":"mon","name":"k","value":"false","mask":""},{"section":"osd","name":"k","value":"1","mask":"host:a"}]"#.into(),
                "health" => r#"{"checks":{"PG_DEGRADED":{"detail":[{"message":"pg 2.1f is active+undersized+degraded, acting [0]"},{"message":"pg 2.3 is stuck undersized for 2m"}]},"MON_CLOCK_SKEW":{"detail":[{"message":"mon.micro02 clock skew 0.6s > max 0.05s (latency 0.001s)"}]}}}"#.into(),
                "versions" => r#"{"overall":{"ceph version 18.2.7 (6b0) reef (stable)":3}}"#.into(),
                other => panic!("{other} was asked"),
            })
        }
    }

    #[tokio::test]
    async fn the_maps_are_read_once_and_again_only_when_an_epoch_moved() {
        let recorded = Arc::new(Recorded::default());
        let ceph = Ceph::new(recorded.clone());
        let mut look = Look::default();
        let first = look.look(&ceph).await.unwrap();
        assert_eq!(recorded.asked.load(Ordering::SeqCst), 10);
        assert_eq!(look.look(&ceph).await.unwrap(), first);
        assert_eq!(
            recorded.asked.load(Ordering::SeqCst),
            11,
            "one short answer"
        );
        let moved = STATUS.replace("\"epoch\":7", "\"epoch\":8");
        *recorded.status.lock().unwrap() = Some(moved);
        look.look(&ceph).await.unwrap();
        assert_eq!(recorded.asked.load(Ordering::SeqCst), 21);
    }

    #[tokio::test]
    async fn answers_become_one_view() {
        let ceph = Ceph::new(Arc::new(Recorded::default()));
        let seen = Look::default().look(&ceph).await.unwrap();
        assert_eq!(seen.health.keys().collect::<Vec<_>>(), ["OSD_DOWN"]);
        assert!(seen.monitors["micro01"].in_quorum);
        assert_eq!(seen.mon_host(), "[v2:10.0.0.1:3300,v1:10.0.0.1:6789]");
        assert!(seen.managers.has("micro02") && seen.managers.has("micro01"));
        assert_eq!(seen.mds["micro01"], "active");
        assert_eq!(seen.mds["micro02"], "standby");
        assert_eq!(seen.osds.len(), 1, "one without a disk is none");
        assert_eq!(seen.osds[&0].host, "micro01");
        assert_eq!(seen.osds[&0].full, Some(Fullness::Backfill));
        assert_eq!(seen.pools["x"].full, Some(Fullness::Near));
        assert_eq!(seen.unclean_pools.iter().collect::<Vec<_>>(), [&2]);
        assert_eq!(seen.skewed.iter().collect::<Vec<_>>(), ["micro02"]);
        assert_eq!(seen.hosts["micro01"].as_deref(), Some("a"));
        assert_eq!(seen.rules["replicated_rule"].failure_domain, "host");
        assert_eq!(seen.config("mon", "k"), Some("false"));
        assert_eq!(seen.config("osd", "k"), None, "it is for one host only");
        assert_eq!(
            seen.unclean.iter().collect::<Vec<_>>(),
            ["degraded", "undersized"]
        );
        assert_eq!(seen.flags.iter().collect::<Vec<_>>(), ["noout"]);
        assert_eq!(seen.versions.iter().collect::<Vec<_>>(), ["18.2.7"]);
    }
}
