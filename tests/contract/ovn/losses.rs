//! Hosts that lose their power: what the others see, and what becomes of who comes back.

use super::{Assertion, CENTRALS, OvnCloud, SOON, assertions, both, guarded, has_servers, told_by};
use crate::check::{Failure, Outcome, eventually, is, same};
use microcloud::services::host::{CentralReport, OvnDatabase, OvnRequest, RaftMember, Rafts};

pub fn assertions() -> Vec<Assertion> {
    assertions![
        a_lost_server_stays_in_the_rafts_and_two_of_three_go_on,
        a_lost_server_is_struck_by_its_number,
        who_was_struck_keeps_its_files_until_it_is_told_so,
        without_a_majority_nobody_is_connected_and_nobody_joins,
    ]
}

async fn a_lost_server_stays_in_the_rafts_and_two_of_three_go_on(cloud: &dyn OvnCloud) -> Outcome {
    cloud.kill(&cloud.name(2)).await;
    for number in [0, 1] {
        let goes_on = |c: &CentralReport| has_servers(c, 3) && c.serves();
        cloud.central_is(number, "two of three", goes_on).await?;
    }
    Ok(())
}

/// A server of a host in a raft, as the first host's database has it.
async fn server_of(
    cloud: &dyn OvnCloud,
    number: usize,
    which: OvnDatabase,
) -> Result<RaftMember, Failure> {
    let central = cloud.central(0).await?;
    let servers = central.database(which).map(|d| d.servers.clone());
    let mut servers = servers.unwrap_or_default().into_iter();
    let found = servers.find(|s| s.address == cloud.at(number));
    found.ok_or_else(|| Failure::new(format!("there is none in {central:?}")))
}

async fn a_lost_server_is_struck_by_its_number(cloud: &dyn OvnCloud) -> Outcome {
    let mut lost = Vec::new();
    for database in OvnDatabase::BOTH {
        lost.push((database, server_of(cloud, 2, database).await?));
    }
    for (database, server) in lost {
        cloud.done(0, OvnRequest::Kick { database, server }).await?;
    }
    for number in [0, 1] {
        let two = |c: &CentralReport| has_servers(c, 2) && c.serves();
        cloud.central_is(number, "it has two", two).await?;
    }
    Ok(())
}

async fn who_was_struck_keeps_its_files_until_it_is_told_so(cloud: &dyn OvnCloud) -> Outcome {
    cloud.power(&cloud.name(2)).await;
    let struck = cloud
        .central_is(2, "it is out of the rafts", |c| c.is_ours() && !c.serves())
        .await?;
    is(struck.files, "its files are gone")?;
    for which in OvnDatabase::BOTH {
        let told = told_by(&cloud.central(0).await?);
        let (cid, sid) = struck
            .server(which)
            .ok_or_else(|| Failure::new(format!("which server is it: {struck:?}")))?;
        is(
            told.of(which).is_some_and(|raft| raft.is_without(cid, sid)),
            format!("{told:?} still has {sid} of {cid}"),
        )?;
    }
    guarded(
        cloud
            .ask(2, OvnRequest::LeaveCentral(Rafts::default()))
            .await,
    )?;
    is(cloud.central(2).await?.files, "its files went")?;
    let told = told_by(&cloud.central(0).await?);
    cloud.done(2, OvnRequest::LeaveCentral(told)).await?;
    is(!cloud.central(2).await?.files, "its files stayed")?;
    cloud.done(2, OvnRequest::Central(cloud.config(2))).await?;
    let all = |c: &CentralReport| has_servers(c, 3) && c.serves();
    cloud.central_is(2, "it is back", all).await.map(|_| ())
}

async fn without_a_majority_nobody_is_connected_and_nobody_joins(cloud: &dyn OvnCloud) -> Outcome {
    for number in [1, 2] {
        cloud.kill(&cloud.name(number)).await;
    }
    let alone = cloud
        .central_is(0, "it has no majority", |c| {
            both(c).is_ok_and(|both| both.into_iter().all(|d| !d.connected))
        })
        .await?;
    is(!alone.serves(), format!("{alone:?}"))?;
    for database in both(&alone)? {
        same(database.servers.len(), 3)?;
    }
    let joined = cloud.ask(3, OvnRequest::Central(cloud.config(3))).await;
    is(joined.is_err(), format!("it joined: {joined:?}"))?;
    for number in [1, 2] {
        cloud.power(&cloud.name(number)).await;
    }
    // The real one goes on trying to join, and is part of the rafts soon after: it is given up.
    eventually(SOON, async || {
        let told = told_by(&cloud.central(0).await?);
        cloud.done(3, OvnRequest::LeaveCentral(told)).await
    })
    .await?;
    for number in CENTRALS {
        let all = |c: &CentralReport| has_servers(c, 3) && c.serves();
        cloud.central_is(number, "all are back", all).await?;
    }
    Ok(())
}
