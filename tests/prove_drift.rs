//! How long a change by hand lasts on a running cluster: fifty of them, on real hosts.
//!
//! Run with `make prove`; the table goes to `docs/proof/drift.md`.

mod common;

use common::proof::{Page, versions};
use common::real::{Cloud, FIRST, Outcome, formed, wait};
use microcloud::services::lxd::requests::{ObjectPut, ProfilePut};
use microcloud::services::lxd::types::Versioned;
use microcloud::services::lxd::{Lxd, LxdError};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(30);

/// How many profiles the directory has; half of them lose something each.
const PROFILES: usize = 40;

/// How often LXD is asked whether the change is still there.
const ASK: Duration = Duration::from_millis(5);

fn things() -> String {
    let mut text = String::from(
        "\
apiVersion: microcloud.dev/v1
kind: StoragePool
metadata: {name: local}
spec: {driver: btrfs, config: {rsync.bwlimit: 8MiB}}
---
apiVersion: microcloud.dev/v1
kind: Network
metadata: {name: lan}
spec: {type: bridge, config: {ipv4.address: 10.99.0.1/24, ipv4.nat: true, ipv6.address: none}}
",
    );
    for n in 0..PROFILES {
        text += &format!(
            "---\napiVersion: microcloud.dev/v1\nkind: Profile\nmetadata: {{name: p{n:02}}}\nspec:\n  \
             config: {{limits.cpu: 2}}\n  devices:\n    root: {{type: disk, path: /, pool: local}}\n    \
             eth0: {{type: nic, network: lan}}\n"
        );
    }
    text
}

/// What is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Change {
    ProfileKey,
    ProfileDevice,
    ProfileDeleted,
    NetworkKey,
    PoolKey,
    ServerKey,
}

impl Change {
    fn name(self) -> &'static str {
        match self {
            Change::ProfileKey => "a profile's key",
            Change::ProfileDevice => "a profile's device removed",
            Change::ProfileDeleted => "a profile deleted",
            Change::NetworkKey => "a network's key",
            Change::PoolKey => "a pool's key",
            Change::ServerKey => "a server key",
        }
    }
}

/// Fifty changes, mixed. No field is changed so often that it is taken for a fight.
fn changes() -> Vec<(Change, String)> {
    let mut all = Vec::new();
    for n in 0..10 {
        all.push((Change::ProfileKey, format!("p{n:02}")));
        all.push((Change::ProfileDevice, format!("p{:02}", n + 10)));
        all.push((Change::ProfileDeleted, format!("p{:02}", n + 20)));
        if n % 2 == 0 {
            all.push((Change::ProfileKey, format!("p{:02}", n + 30)));
            all.push((Change::NetworkKey, "lan".into()));
            all.push((Change::PoolKey, "local".into()));
            all.push((Change::ServerKey, "cluster".into()));
        }
    }
    all
}

/// Changes something; gives the moment at which LXD had done it.
async fn change(lxd: &Lxd, what: Change, name: &str) -> Result<Instant, LxdError> {
    match what {
        Change::ProfileKey | Change::ProfileDevice => {
            let Versioned { value, .. } = lxd.profile("default", name).await?;
            let mut put = ProfilePut {
                description: value.description,
                config: value.config,
                devices: value.devices,
            };
            if what == Change::ProfileKey {
                put.config.insert("limits.cpu".into(), "7".into());
            } else {
                put.devices.remove("eth0");
            }
            lxd.put_profile("default", name, &put, None).await?;
        }
        Change::ProfileDeleted => lxd.delete_profile("default", name).await?,
        Change::NetworkKey => {
            let network = lxd.network("default", name, None).await?.value;
            let mut put = ObjectPut {
                description: network.description,
                config: network.config,
            };
            put.config.insert("ipv4.nat".into(), "false".into());
            lxd.put_network("default", name, &put, None, None).await?;
        }
        Change::PoolKey => {
            let pool = lxd.pool(name, None).await?.value;
            let mut put = ObjectPut {
                description: pool.description,
                config: pool.config,
            };
            put.config.insert("rsync.bwlimit".into(), "1MiB".into());
            lxd.put_pool(name, &put, None, None).await?;
        }
        Change::ServerKey => {
            let key = BTreeMap::from([("images.auto_update_interval".into(), "3".into())]);
            lxd.patch_server(&key, None).await?;
        }
    }
    Ok(Instant::now())
}

/// Whether it is as written again.
async fn repaired(lxd: &Lxd, what: Change, name: &str) -> Result<bool, LxdError> {
    Ok(match what {
        Change::ProfileKey | Change::ProfileDevice | Change::ProfileDeleted => {
            match lxd.profile("default", name).await {
                Ok(p) => {
                    let cpu = p.value.config.get("limits.cpu").map(String::as_str);
                    cpu == Some("2") && p.value.devices.contains_key("eth0")
                }
                Err(LxdError::NotFound { .. }) => false,
                Err(e) => return Err(e),
            }
        }
        Change::NetworkKey => {
            let network = lxd.network("default", name, None).await?.value;
            network.config.get("ipv4.nat").map(String::as_str) == Some("true")
        }
        Change::PoolKey => {
            let pool = lxd.pool(name, None).await?.value;
            pool.config.get("rsync.bwlimit").map(String::as_str) == Some("8MiB")
        }
        Change::ServerKey => {
            let config = lxd.server().await?.value.config_text();
            let key = config.get("images.auto_update_interval");
            key.map(String::as_str) == Some("12")
        }
    })
}

async fn measure(cloud: &Cloud) -> Outcome<Vec<(Change, Duration)>> {
    let hosts = cloud.hosts();
    let clients: Vec<Lxd> = hosts
        .iter()
        .map(|h| Lxd::unix(cloud.lxd_socket(h)))
        .collect::<Result<_, _>>()?;
    let mut took = Vec::new();
    for (n, (what, name)) in changes().into_iter().enumerate() {
        // On one member after another; looked at where it was done.
        let lxd = &clients[n % clients.len()];
        let begun = change(lxd, what, &name).await?;
        while !repaired(lxd, what, &name).await? {
            if begun.elapsed() > LIMIT {
                return Err(format!("{what:?} of {name} was not repaired in {LIMIT:?}").into());
            }
            tokio::time::sleep(ASK).await;
        }
        took.push((what, begun.elapsed()));
        // People do not change things back to back; the record of this one is written meanwhile.
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    Ok(took)
}

fn quantile(sorted: &[Duration], part: f64) -> Duration {
    let last = sorted.len().saturating_sub(1);
    let at = (part * last as f64).round() as usize;
    sorted.get(at).copied().unwrap_or_default()
}

fn row(page: &mut Page, name: &str, mut took: Vec<Duration>) {
    took.sort();
    let ms = |part| format!("{:.0} ms", quantile(&took, part).as_secs_f64() * 1000.0);
    page.line(&format!(
        "| {name} | {} | {} | {} | {} | {} |",
        took.len(),
        ms(0.0),
        ms(0.5),
        ms(0.9),
        ms(1.0)
    ));
}

#[test]
#[ignore = "minutes, on real hosts: make prove"]
fn prove_repairs_take_less_than_half_a_second() -> Outcome {
    formed("t-drift-prove", 3, |cloud| {
        cloud.write("things.yaml", &things())?;
        let cluster = common::real::CLUSTER.replace(
            "{initiator: micro01}",
            "{initiator: micro01, config: {images.auto_update_interval: 12}}",
        );
        cloud.write("cluster.yaml", &cluster)?;
        let last = format!("/1.0/profiles/p{:02}", PROFILES - 1);
        wait("all profiles", LIMIT, || {
            let out = cloud.run(FIRST, &["lxc", "query", &last], "")?;
            Ok(if out.status.success() {
                Ok(())
            } else {
                Err("not yet".into())
            })
        })?;
        cloud.wait_ready(FIRST, LIMIT)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let took = runtime.block_on(measure(cloud))?;
        let mut page = Page::new(
            "drift.md",
            "How long a change by hand lasts",
            "Fifty changes by hand on a converged cluster of three, on one member after another: \
             from the moment LXD had\ndone the change until LXD showed what is written again.",
            "scripts/prove prove_drift",
        );
        page.line(&versions(cloud)?);
        page.line("| changed by hand | times | fastest | median | 90 % | slowest |");
        page.line("|---|---|---|---|---|---|");
        let mut kinds: BTreeMap<Change, Vec<Duration>> = BTreeMap::new();
        for (what, time) in &took {
            kinds.entry(*what).or_default().push(*time);
        }
        for (what, times) in kinds {
            row(&mut page, what.name(), times);
        }
        let mut all: Vec<Duration> = took.iter().map(|(_, t)| *t).collect();
        row(&mut page, "all", all.clone());
        all.sort();
        let median = quantile(&all, 0.5);
        page.line(&format!(
            "\nAll of them, in ms: {:?}",
            all.iter().map(Duration::as_millis).collect::<Vec<_>>()
        ));
        page.keep()?;
        if all.len() < 50 || median >= Duration::from_millis(500) {
            return Err(format!("the median of {} repairs is {median:?}", all.len()).into());
        }
        Ok(())
    })
}
