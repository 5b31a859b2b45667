//! A fourth machine joins and leaves.

use super::check::{Outcome, eventually, fails, is, same, sorted};
use super::cloud::Cloud;
use super::forming::join_request;
use super::networks::{bridge, define};
use super::pools;
use super::{Assertion, assertions};
use microcloud::services::lxd::Method;
use microcloud::services::lxd::types::MemberConfigKey;
use serde_json::Value;
use std::time::Duration;

pub fn assertions() -> Vec<Assertion> {
    assertions![Joining:
        a_joiner_gets_the_pools_with_its_own_keys_and_loses_them_when_it_leaves,
        an_errored_network_leaves_a_joiner_half_joined,
        a_name_that_is_taken_is_refused,
    ]
}

fn source(pool: &str, value: &str) -> Vec<MemberConfigKey> {
    vec![MemberConfigKey {
        entity: "storage-pool".to_owned(),
        name: pool.to_owned(),
        key: "source".to_owned(),
        value: value.to_owned(),
        ..MemberConfigKey::default()
    }]
}

/// A machine that was removed restarts its LXD on its own, a moment after the cluster is done.
async fn removed(cloud: &dyn Cloud) -> Outcome {
    cloud.lxd(3).restarted().await?;
    stands_alone(cloud).await
}

/// The fourth host's LXD answers and stands alone, without pools.
async fn stands_alone(cloud: &dyn Cloud) -> Outcome {
    let lxd = cloud.lxd(3);
    eventually(Duration::from_secs(60), async || {
        lxd.ready().await?;
        let server = lxd.server().await?.value.environment;
        is(!server.server_clustered, "it is in a cluster")?;
        is(!lxd.cluster().await?.enabled, "a cluster is enabled")?;
        is(lxd.pools().await?.is_empty(), "it has pools")
    })
    .await
}

/// A wrong `source` fails the join and leaves the joiner alone; it can try again. A member that is
/// removed restarts its LXD, alone and empty.
async fn a_joiner_gets_the_pools_with_its_own_keys_and_loses_them_when_it_leaves(
    cloud: &dyn Cloud,
) -> Outcome {
    let (first, lxd, name) = (cloud.lxd(0), cloud.lxd(3), cloud.host(3).name);
    pools::create(cloud, "ct-pool", &[("user.a", "1")]).await?;
    let keys = first.cluster().await?.member_config.unwrap_or_default();
    let keys: Vec<_> = keys
        .iter()
        .map(|k| (k.entity.as_str(), k.name.as_str(), k.key.as_str()))
        .collect();
    same(keys, [("storage-pool", "ct-pool", "source")])?;

    let wrong = join_request(cloud, 3, source("ct-pool", "/nonexistent")).await?;
    fails(
        lxd.join(&wrong).await,
        "OperationFailed",
        "Failed to create storage pool \"ct-pool\": Source path '/nonexistent' doesn't exist",
    )?;
    stands_alone(cloud).await?;
    same(first.members().await?.len(), 3)?;

    lxd.join(&join_request(cloud, 3, source("ct-pool", "")).await?)
        .await?;
    eventually(Duration::from_secs(30), async || {
        let member = first.member(&name).await?.value;
        same(member.status.as_str(), "Online")
    })
    .await?;
    let pool = first.pool("ct-pool", None).await?.value;
    same(pool.status.as_str(), "Created")?;
    let mut members = cloud.members();
    members.push(name.clone());
    same(sorted(&pool.locations), sorted(&members))?;
    let pool = first.pool("ct-pool", Some(&name)).await?.value;
    same(pool.status.as_str(), "Created")?;
    same(pool.config.get("user.a").map(String::as_str), Some("1"))?;
    is(
        pool.config.contains_key("source"),
        format!("{:?}", pool.config),
    )?;

    first.delete_member(&name, false).await?;
    fails(
        first.member(&name).await,
        "NotFound",
        "Cluster member not found",
    )?;
    removed(cloud).await?;
    let pool = first.pool("ct-pool", None).await?.value;
    same(sorted(&pool.locations), sorted(&cloud.members()))
}

/// LXD 5.0 notices too late that it has nothing to say about the network. The joiner says that it
/// is in a cluster and has no name there; the cluster does not know it. Leaving mends it: the
/// daemon restarts alone, with its own name and certificate. A database node without a member is
/// left in the cluster; until it is struck, another join from the same address never ends.
async fn an_errored_network_leaves_a_joiner_half_joined(cloud: &dyn Cloud) -> Outcome {
    let (first, lxd) = (cloud.lxd(0), cloud.lxd(3));
    define(cloud, "ctbr0").await?;
    let wrong = bridge("ctbr0", &[("nope", "1")]);
    let created = first.create_network("default", &wrong, None).await;
    fails(created, "Refused", "Invalid option")?;

    let before = lxd.server().await?.value.environment;
    fails(
        lxd.join(&join_request(cloud, 3, Vec::new()).await?).await,
        "OperationFailed",
        "Joining member has no config for network ctbr0",
    )?;
    let half = lxd.server().await?.value.environment;
    is(
        half.server_clustered,
        "it does not say that it is in a cluster",
    )?;
    same(half.server_name.as_str(), "")?;
    is(!lxd.cluster().await?.enabled, "the cluster is enabled")?;
    same(first.members().await?.len(), 3)?;
    let again = lxd.join(&join_request(cloud, 3, Vec::new()).await?).await;
    fails(again, "Refused", "This server is already clustered")?;

    lxd.leave_cluster().await?;
    stands_alone(cloud).await?;
    let after = lxd.server().await?.value.environment;
    same(
        &after.certificate_fingerprint,
        &before.certificate_fingerprint,
    )?;
    same(after.server_name, before.server_name)?;

    first.delete_network("default", "ctbr0").await?;
    first.forget_raft_node(&cloud.host(3).address).await?;
    first.forget_raft_node(&cloud.host(3).address).await?;
    lxd.join(&join_request(cloud, 3, Vec::new()).await?).await?;
    same(first.members().await?.len(), 4)?;
    first.delete_member(&cloud.host(3).name, false).await?;
    removed(cloud).await
}

/// The certificate of the refused joiner stays in the cluster's trust store under that name, and
/// is in the way when it joins under its own. Removing it there helps.
async fn a_name_that_is_taken_is_refused(cloud: &dyn Cloud) -> Outcome {
    let (first, lxd, taken) = (cloud.lxd(0), cloud.lxd(3), cloud.host(1).name);
    let own = lxd
        .server()
        .await?
        .value
        .environment
        .certificate_fingerprint;
    let trusted = format!("/1.0/certificates/{own}");
    // It may be there under its own name from a join that failed.
    cloud.raw(0, Method::Delete, &trusted, Value::Null).await?;
    let mut join = join_request(cloud, 3, Vec::new()).await?;
    join.token = first.join_token(&taken).await?.encode();
    join.name = taken.clone();
    fails(
        lxd.join(&join).await,
        "OperationFailed",
        &format!("The cluster already has a member with name: {taken}"),
    )?;
    is(!lxd.cluster().await?.enabled, "it joined")?;
    let text = format!("Existing server certificate with different name \"{taken}\"");
    let join = join_request(cloud, 3, Vec::new()).await?;
    fails(lxd.join(&join).await, "OperationFailed", &text)?;
    let struck = cloud.raw(0, Method::Delete, &trusted, Value::Null).await?;
    same(struck.status, 200)?;
    lxd.join(&join_request(cloud, 3, Vec::new()).await?).await?;
    same(first.members().await?.len(), 4)?;
    first.delete_member(&cloud.host(3).name, false).await?;
    removed(cloud).await
}
