//! Operations. A token's operation lives as long as the token, which makes it a good example.

use super::check::{Failure, Outcome, fails, is, same};
use super::cloud::Cloud;
use super::{Assertion, assertions};
use microcloud::services::lxd::types::Operation;
use std::time::Duration;

pub fn assertions() -> Vec<Assertion> {
    assertions![Cluster:
        a_tokens_operation_runs_and_is_seen_by_all_members,
        waiting_for_what_does_not_end_ends,
        an_operation_nobody_knows_has_an_unknown_outcome,
        an_operation_is_cancelled_once,
    ]
}

const NAME: &str = "ct-joiner";

async fn tokens(cloud: &dyn Cloud, index: usize) -> Result<Vec<Operation>, Failure> {
    let all = cloud.lxd(index).operations().await?;
    let mine = |o: &Operation| {
        o.class == "token" && o.status == "Running" && o.metadata["serverName"] == NAME
    };
    Ok(all.into_iter().filter(mine).collect())
}

async fn a_tokens_operation_runs_and_is_seen_by_all_members(cloud: &dyn Cloud) -> Outcome {
    let lxd = cloud.lxd(0);
    let token = lxd.join_token(NAME).await?;
    let mut addresses = token.addresses.clone();
    addresses.sort();
    let mut wanted: Vec<String> = cloud
        .hosts()
        .into_iter()
        .take(3)
        .map(|h| h.address)
        .collect();
    wanted.sort();
    same(addresses, wanted)?;
    for index in 0..3 {
        let found = tokens(cloud, index).await?;
        same(found.len(), 1)?;
        same(found[0].status_code, 103)?;
        same(&found[0].location, &cloud.host(0).name)?;
        same(
            found[0].metadata["secret"].as_str(),
            Some(token.secret.as_str()),
        )?;
    }
    // From another member than the one that made it.
    cloud.lxd(1).revoke_tokens(NAME).await?;
    is(
        tokens(cloud, 0).await?.is_empty(),
        "the token is still there",
    )
}

async fn waiting_for_what_does_not_end_ends(cloud: &dyn Cloud) -> Outcome {
    let lxd = cloud.lxd(0);
    lxd.join_token(NAME).await?;
    let operation = tokens(cloud, 0).await?.swap_remove(0);
    let waited = lxd.wait(&operation.id, Duration::from_secs(2)).await;
    fails(waited, "OutcomeUnknown", &operation.id)?;
    lxd.revoke_tokens(NAME).await?;
    let waited = lxd.wait(&operation.id, Duration::from_secs(2)).await;
    fails(waited, "OperationFailed", "Cancelled")
}

async fn an_operation_nobody_knows_has_an_unknown_outcome(cloud: &dyn Cloud) -> Outcome {
    let id = "00000000-0000-0000-0000-000000000000";
    let lxd = cloud.lxd(0);
    let waited = lxd.wait(id, Duration::from_secs(20)).await;
    fails(waited, "OutcomeUnknown", id)?;
    fails(lxd.operation(id).await, "NotFound", "Operation not found")
}

async fn an_operation_is_cancelled_once(cloud: &dyn Cloud) -> Outcome {
    let lxd = cloud.lxd(0);
    lxd.join_token(NAME).await?;
    let operation = tokens(cloud, 0).await?.swap_remove(0);
    lxd.cancel(&operation.id).await?;
    fails(
        lxd.cancel(&operation.id).await,
        "Refused",
        "Only running operations can be cancelled",
    )?;
    let ended = lxd.operation(&operation.id).await?;
    same(
        (ended.status.as_str(), ended.status_code),
        ("Cancelled", 401),
    )
}
