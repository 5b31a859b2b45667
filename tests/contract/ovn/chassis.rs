//! What carries traffic: what `ovn-controller` is told, and its host's row.

use super::{Assertion, OvnCloud, SOON, assertions};
use crate::check::{Failure, Outcome, eventually, is, same};
use microcloud::services::host::{ChassisRow, OvnAnswer, OvnRequest};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::sleep;

pub fn assertions() -> Vec<Assertion> {
    assertions![
        who_is_told_where_the_databases_are_makes_its_row,
        what_somebody_tells_a_controller_is_seen_and_can_be_told_again,
        a_row_that_was_deleted_is_made_again_by_its_controller,
        the_row_of_a_lost_host_stays_until_it_is_deleted,
        who_waits_for_a_change_is_answered_when_there_is_one,
    ]
}

/// The rows as the first host's database has them.
async fn rows(cloud: &dyn OvnCloud) -> Result<Vec<ChassisRow>, Failure> {
    Ok(cloud.central(0).await?.chassis)
}

/// Waits until exactly these hosts have rows.
async fn has_rows(cloud: &dyn OvnCloud, wanted: &[usize]) -> Outcome {
    let wanted: BTreeSet<String> = wanted.iter().map(|n| cloud.name(*n)).collect();
    eventually(SOON, async || {
        let rows = rows(cloud).await?;
        let names: BTreeSet<String> = rows.iter().map(|r| r.name.clone()).collect();
        same(&names, &wanted)
    })
    .await
}

async fn carry(cloud: &dyn OvnCloud, number: usize) -> Outcome {
    let userspace = !cloud.report(number).await?.kernel_datapath;
    let config = cloud.carries(number, userspace);
    cloud.done(number, OvnRequest::Chassis(config)).await
}

async fn who_is_told_where_the_databases_are_makes_its_row(cloud: &dyn OvnCloud) -> Outcome {
    for number in 0..4 {
        carry(cloud, number).await?;
    }
    has_rows(cloud, &[0, 1, 2, 3]).await?;
    for row in rows(cloud).await? {
        let host = cloud.hosts().iter().position(|h| *h == row.hostname);
        let host = host.ok_or_else(|| Failure::new(format!("whose is {row:?}")))?;
        same(&row.name, &row.hostname)?;
        same(&row.encaps, &vec![format!("geneve {}", cloud.at(host))])?;
    }
    for number in 0..4 {
        eventually(SOON, async || {
            let chassis = cloud.report(number).await?.chassis;
            is(
                chassis.controller && chassis.connected == Some(true) && chassis.tls,
                format!("{chassis:?}"),
            )
        })
        .await?;
        let report = cloud.report(number).await?;
        let wanted = cloud.carries(number, !report.kernel_datapath);
        let seen = &report.chassis.external_ids;
        for (key, value) in wanted.external_ids(seen) {
            same(seen.get(&key), Some(&value))?;
        }
        same(&report.chassis.system_id_at_start, &cloud.name(number))?;
    }
    Ok(())
}

async fn what_somebody_tells_a_controller_is_seen_and_can_be_told_again(
    cloud: &dyn OvnCloud,
) -> Outcome {
    let told = |value: &'static str| {
        eventually(SOON, async move || {
            let chassis = cloud.report(3).await?.chassis;
            let end = chassis.external_ids.get("ovn-encap-ip").cloned();
            same(end.as_deref(), Some(value))?;
            let rows = rows(cloud).await?;
            let row = rows.iter().find(|r| r.name == cloud.name(3));
            let ends = row.map(|r| r.encaps.clone());
            same(ends, Some(vec![format!("geneve {value}")]))
        })
    };
    let host = cloud.name(3);
    cloud
        .tell_controller(&host, "ovn-encap-ip", "192.0.2.77")
        .await;
    told("192.0.2.77").await?;
    carry(cloud, 3).await?;
    let own: &'static str = cloud.at(3).to_string().leak();
    told(own).await
}

async fn a_row_that_was_deleted_is_made_again_by_its_controller(cloud: &dyn OvnCloud) -> Outcome {
    cloud.delete_chassis(&cloud.name(3)).await;
    has_rows(cloud, &[0, 1, 2, 3]).await?;
    // What it is asked for in any case, should it not do so by itself, takes nothing away.
    cloud.done(3, OvnRequest::RestartController).await?;
    has_rows(cloud, &[0, 1, 2, 3]).await
}

async fn the_row_of_a_lost_host_stays_until_it_is_deleted(cloud: &dyn OvnCloud) -> Outcome {
    let name = cloud.name(3);
    cloud.kill(&name).await;
    sleep(Duration::from_secs(2)).await;
    has_rows(cloud, &[0, 1, 2, 3]).await?;
    let row = OvnRequest::DeleteChassis { name: name.clone() };
    cloud.done(0, row.clone()).await?;
    // Deleted already is deleted.
    cloud.done(0, row).await?;
    sleep(Duration::from_secs(2)).await;
    has_rows(cloud, &[0, 1, 2]).await?;
    cloud.power(&name).await;
    has_rows(cloud, &[0, 1, 2, 3]).await
}

async fn changes(cloud: &dyn OvnCloud, known: u64) -> Result<u64, Failure> {
    match cloud.ask(3, OvnRequest::AwaitChange { known }).await? {
        OvnAnswer::Changes(number) => Ok(number),
        other => Err(Failure::new(format!("no number: {other:?}"))),
    }
}

async fn who_waits_for_a_change_is_answered_when_there_is_one(cloud: &dyn OvnCloud) -> Outcome {
    let before = changes(cloud, 0).await?;
    cloud
        .tell_controller(&cloud.name(3), "ovn-encap-ip", "192.0.2.78")
        .await;
    eventually(SOON, async || {
        let now = changes(cloud, before).await?;
        is(now != before, "it tells the same number")
    })
    .await?;
    carry(cloud, 3).await
}
