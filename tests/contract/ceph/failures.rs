//! What Ceph does when its daemons and hosts go.

use super::{Assertion, CephCloud, Daemon, assertions, number};
use crate::check::{Failure, Outcome, eventually, is, same};
use microcloud::services::ceph::{CephError, Command, Look};
use serde_json::Value;
use std::time::Duration;
use tokio::time::Instant;

/// What is found out when a daemon says that it goes, or its connection is refused.
const AT_ONCE: Duration = Duration::from_secs(30);

pub fn assertions() -> Vec<Assertion> {
    assertions![
        an_osd_that_stops_is_down_at_once_and_comes_back,
        a_monitor_that_stops_is_out_of_the_quorum_and_comes_back,
        without_a_majority_there_is_no_answer,
        another_manager_takes_over,
        another_metadata_server_takes_over,
        the_osd_of_a_lost_host_is_down_only_after_a_while,
    ]
}

fn check(status: &Value, code: &str) -> String {
    let message = status["health"]["checks"][code]["summary"]["message"].as_str();
    message.unwrap_or_default().to_owned()
}

async fn an_osd_that_stops_is_down_at_once_and_comes_back(cloud: &dyn CephCloud) -> Outcome {
    let (id, host) = cloud.osds().await?.swap_remove(2);
    let before = cloud.epoch().await?;
    cloud.stop(&host, Daemon::Osd(id)).await;
    let told = eventually(AT_ONCE, async || {
        let status = cloud.ask("status").await?;
        same(check(&status, "OSD_DOWN"), "1 osds down")?;
        same(check(&status, "OSD_HOST_DOWN"), "1 host (1 osds) down")?;
        same(number(&status, "/osdmap/num_in_osds")?, 3)?;
        let states = status["pgmap"]["pgs_by_state"].to_string();
        is(states.contains("active+undersized"), states)
    })
    .await;
    let moved = cloud.epoch().await? > before;
    cloud.start(&host, Daemon::Osd(id)).await;
    told?;
    is(moved, "the epoch stayed")
}

async fn a_monitor_that_stops_is_out_of_the_quorum_and_comes_back(
    cloud: &dyn CephCloud,
) -> Outcome {
    let hosts = cloud.hosts();
    let before = cloud.ask("status").await?;
    cloud.stop(&hosts[2], Daemon::Mon).await;
    let told = eventually(AT_ONCE, async || {
        let status = cloud.ask("status").await?;
        let expected = format!("1/3 mons down, quorum {},{}", hosts[0], hosts[1]);
        same(check(&status, "MON_DOWN"), expected)?;
        let names: Vec<Value> = status["quorum_names"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        same(names.len(), 2)?;
        let (now, then) = (
            number(&status, "/election_epoch")?,
            number(&before, "/election_epoch")?,
        );
        is(now > then, "nobody was elected")?;
        same(
            number(&status, "/monmap/epoch")?,
            number(&before, "/monmap/epoch")?,
        )
    })
    .await;
    cloud.start(&hosts[2], Daemon::Mon).await;
    told
}

async fn without_a_majority_there_is_no_answer(cloud: &dyn CephCloud) -> Outcome {
    let hosts = cloud.hosts();
    cloud.stop(&hosts[1], Daemon::Mon).await;
    cloud.stop(&hosts[2], Daemon::Mon).await;
    // The one that is left answers until it misses the others.
    let told = eventually(AT_ONCE, async || {
        match cloud.first().run(&Command::new("status")).await {
            Err(CephError::Unreachable { .. } | CephError::Timeout { .. }) => Ok(()),
            other => Err(Failure::new(format!("one of three answered: {other:?}"))),
        }
    })
    .await;
    cloud.start(&hosts[1], Daemon::Mon).await;
    cloud.start(&hosts[2], Daemon::Mon).await;
    told
}

async fn another_manager_takes_over(cloud: &dyn CephCloud) -> Outcome {
    let dump = cloud.ask("mgr dump").await?;
    let active = dump["active_name"].as_str().unwrap_or_default().to_owned();
    cloud.stop(&active, Daemon::Mgr).await;
    let next = eventually(Duration::from_secs(60), async || {
        let dump = cloud.ask("mgr dump").await?;
        let next = dump["active_name"].as_str().unwrap_or_default();
        is(
            dump["available"] == true && next != active,
            format!("{next} is active"),
        )?;
        same(dump["standbys"].as_array().map_or(0, Vec::len), 1)
    })
    .await;
    cloud.start(&active, Daemon::Mgr).await;
    next?;
    eventually(AT_ONCE, async || {
        let dump = cloud.ask("mgr dump").await?;
        same(dump["standbys"].as_array().map_or(0, Vec::len), 2)
    })
    .await
}

async fn another_metadata_server_takes_over(cloud: &dyn CephCloud) -> Outcome {
    let seen = Look::default().look(&cloud.first()).await?;
    let active = seen.mds.iter().find(|(_, state)| *state == "active");
    let Some((active, _)) = active else {
        return Err(Failure::new(format!(
            "no metadata server is active: {:?}",
            seen.mds
        )));
    };
    cloud.stop(active, Daemon::Mds).await;
    let next = eventually(Duration::from_secs(60), async || {
        let seen = Look::default().look(&cloud.first()).await?;
        let other = seen
            .mds
            .iter()
            .any(|(name, state)| name != active && state == "active");
        is(other && seen.mds.len() == 2, format!("{:?}", seen.mds))
    })
    .await;
    cloud.start(active, Daemon::Mds).await;
    next?;
    eventually(AT_ONCE, async || {
        let seen = Look::default().look(&cloud.first()).await?;
        same(seen.mds.len(), 3)
    })
    .await
}

async fn the_osd_of_a_lost_host_is_down_only_after_a_while(cloud: &dyn CephCloud) -> Outcome {
    let host = cloud.hosts()[2].clone();
    cloud.kill(&host).await;
    let begun = Instant::now();
    let down = eventually(Duration::from_secs(90), async || {
        let status = cloud.ask("status").await?;
        same(number(&status, "/osdmap/num_up_osds")?, 2)
    })
    .await;
    let took = begun.elapsed();
    let told = cloud.ask("status").await;
    cloud.power(&host).await;
    down?;
    is(
        took > Duration::from_secs(10),
        format!("it was down after {took:?}"),
    )?;
    same(number(&told?, "/osdmap/num_in_osds")?, 3)
}
