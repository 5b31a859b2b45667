//! The databases: made by the first, joined by others, given up, struck.

use super::{Assertion, CENTRALS, OvnCloud, assertions, both, guarded, has_servers, told_by};
use crate::check::{Failure, Outcome, is, same};
use microcloud::services::host::{CentralReport, OvnDatabase, OvnRequest, RaftMember, Rafts};

pub fn assertions() -> Vec<Assertion> {
    assertions![
        the_first_makes_a_raft_of_itself,
        what_holds_already_is_not_made_again,
        others_become_part_of_the_same_rafts,
        exactly_one_leads,
        a_server_is_not_struck_under_another_number,
        who_leaves_has_no_files_and_the_others_go_on,
        who_comes_again_is_another_server_of_the_same_rafts,
    ]
}

async fn the_first_makes_a_raft_of_itself(cloud: &dyn OvnCloud) -> Outcome {
    cloud.done(0, OvnRequest::Central(cloud.config(0))).await?;
    let central = cloud
        .central_is(0, "it serves", CentralReport::serves)
        .await?;
    is(central.is_ours() && central.files, format!("{central:?}"))?;
    same(central.config.as_ref(), Some(&cloud.config(0)))?;
    for (database, port) in both(&central)?.into_iter().zip([6641, 6642]) {
        is(
            database.clustered && database.leader && !database.cid.is_empty(),
            format!("{database:?}"),
        )?;
        let own = RaftMember {
            id: database.sid.clone(),
            address: cloud.at(0),
        };
        same(&database.servers, &vec![own])?;
        let listener = cloud.config(0).listener(port);
        let listener = listener.ok_or_else(|| Failure::new("none is wanted"))?;
        same(&database.listens, &vec![listener])?;
    }
    Ok(())
}

/// The raft and the server each database of a host is.
async fn servers(cloud: &dyn OvnCloud, number: usize) -> Result<Vec<(String, String)>, Failure> {
    let central = cloud.central(number).await?;
    let both = both(&central)?.map(|d| (d.cid.clone(), d.sid.clone()));
    Ok(both.to_vec())
}

async fn what_holds_already_is_not_made_again(cloud: &dyn OvnCloud) -> Outcome {
    let before = servers(cloud, 0).await?;
    cloud.done(0, OvnRequest::Central(cloud.config(0))).await?;
    cloud.done(0, OvnRequest::Listen(cloud.config(0))).await?;
    same(servers(cloud, 0).await?, before)
}

async fn others_become_part_of_the_same_rafts(cloud: &dyn OvnCloud) -> Outcome {
    for number in &CENTRALS[1..] {
        let hold = OvnRequest::Central(cloud.config(*number));
        cloud.done(*number, hold).await?;
    }
    let all = |central: &CentralReport| has_servers(central, 3) && central.serves();
    let first = cloud.central_is(0, "it has three", all).await?;
    for number in CENTRALS {
        let central = cloud.central_is(number, "it has three", all).await?;
        for (own, of_first) in both(&central)?.into_iter().zip(both(&first)?) {
            same(&own.cid, &of_first.cid)?;
            let own = RaftMember {
                id: own.sid.clone(),
                address: cloud.at(number),
            };
            is(
                of_first.servers.contains(&own),
                format!("{own:?} is not in {:?}", of_first.servers),
            )?;
        }
    }
    Ok(())
}

async fn exactly_one_leads(cloud: &dyn OvnCloud) -> Outcome {
    let mut leaders = [0, 0];
    for number in CENTRALS {
        let central = cloud.central(number).await?;
        for (count, database) in leaders.iter_mut().zip(both(&central)?) {
            *count += usize::from(database.leader);
        }
    }
    same(leaders, [1, 1])
}

async fn a_server_is_not_struck_under_another_number(cloud: &dyn OvnCloud) -> Outcome {
    let wrong = OvnRequest::Kick {
        database: OvnDatabase::Northbound,
        server: RaftMember {
            id: "abcd".to_owned(),
            address: cloud.at(2),
        },
    };
    guarded(cloud.ask(0, wrong).await)?;
    let nobody = OvnRequest::Kick {
        database: OvnDatabase::Northbound,
        server: RaftMember {
            id: "abcd".to_owned(),
            address: "192.0.2.99".parse().expect("an address"),
        },
    };
    // Struck already is struck.
    cloud.done(0, nobody).await?;
    let central = cloud.central(0).await?;
    is(has_servers(&central, 3), format!("{central:?}"))
}

async fn who_leaves_has_no_files_and_the_others_go_on(cloud: &dyn OvnCloud) -> Outcome {
    let told = told_by(&cloud.central(0).await?);
    cloud.done(2, OvnRequest::LeaveCentral(told)).await?;
    let left = cloud.central(2).await?;
    is(!left.is_ours() && !left.files, format!("{left:?}"))?;
    for number in [0, 1] {
        let goes_on = |c: &CentralReport| has_servers(c, 2) && c.serves();
        cloud.central_is(number, "it has two", goes_on).await?;
    }
    // Who has none gives none up.
    cloud
        .done(2, OvnRequest::LeaveCentral(Rafts::default()))
        .await
}

async fn who_comes_again_is_another_server_of_the_same_rafts(cloud: &dyn OvnCloud) -> Outcome {
    let first = servers(cloud, 0).await?;
    cloud.done(2, OvnRequest::Central(cloud.config(2))).await?;
    let all = |c: &CentralReport| has_servers(c, 3) && c.serves();
    cloud.central_is(2, "it has three", all).await?;
    cloud.central_is(0, "it has three", all).await?;
    for (own, of_first) in servers(cloud, 2).await?.into_iter().zip(first) {
        same(&own.0, &of_first.0)?;
        is(own.1 != of_first.1, "it is the first one's server")?;
    }
    Ok(())
}
