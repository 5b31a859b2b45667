//! From three servers to a cluster of three. These build on one another.

use super::check::{Failure, Outcome, eventually, fails, is, map, same, sorted, value_of};
use super::cloud::Cloud;
use super::sweep::{STORE, sweep};
use super::{Assertion, assertions};
use microcloud::services::lxd::types::MemberConfigKey;
use microcloud::services::lxd::{JoinRequest, PoolCreate, ProjectCreate};
use std::time::Duration;

pub fn assertions() -> Vec<Assertion> {
    assertions![Forming:
        bootstrap_keeps_what_was_there,
        the_first_member_leads,
        a_join_without_a_good_token_fails,
        a_join_that_cannot_work_fails_and_leaves_the_joiner_alone,
        a_token_lets_one_machine_join,
        a_token_is_good_at_any_member_and_once,
        a_newer_token_ends_an_older_one_and_revoking_ends_both,
        three_members_vote,
    ]
}

/// What a machine needs to join the first host's cluster, with a fresh token.
pub async fn join_request(
    cloud: &dyn Cloud,
    joiner: usize,
    member_config: Vec<MemberConfigKey>,
) -> Result<JoinRequest, Failure> {
    let first = cloud.lxd(0);
    let joiner = cloud.host(joiner);
    Ok(JoinRequest {
        token: first.join_token(&joiner.name).await?.encode(),
        name: joiner.name,
        server_address: joiner.address,
        cluster_address: cloud.host(0).address,
        cluster_certificate: first.server().await?.value.environment.certificate,
        member_config,
    })
}

/// Projects, pools and profiles made before stay; the member's own keys are hidden from then on;
/// the certificate is the cluster's, a new one.
async fn bootstrap_keeps_what_was_there(cloud: &dyn Cloud) -> Outcome {
    let (lxd, host) = (cloud.lxd(0), cloud.host(0));
    eventually(Duration::from_secs(60), async || Ok(lxd.ready().await?)).await?;
    let store = ProjectCreate {
        name: STORE.to_owned(),
        description: "the store".to_owned(),
        config: map(&[
            ("features.images", "false"),
            ("features.profiles", "false"),
            ("user.microcloud.a", "1"),
        ]),
    };
    lxd.create_project(&store).await?;
    let pool = PoolCreate {
        name: "ct-keep".to_owned(),
        driver: "dir".to_owned(),
        ..PoolCreate::default()
    };
    lxd.create_pool(&pool, None).await?;
    let before = lxd.server().await?.value;
    let addresses = map(&[
        ("core.https_address", "[::]:8443"),
        ("cluster.https_address", &host.address),
    ]);
    lxd.patch_server(&addresses, None).await?;
    lxd.bootstrap(&host.name).await?;
    let after = lxd.server().await?.value;
    is(after.environment.server_clustered, "it is not in a cluster")?;
    same(&after.environment.server_name, &host.name)?;
    same(&after.config_text(), &addresses)?;
    is(
        before.environment.certificate_fingerprint != after.environment.certificate_fingerprint,
        "the certificate is still the server's own",
    )?;
    let cluster = lxd.cluster().await?;
    is(cluster.enabled, "no cluster is enabled")?;
    same(&cluster.server_name, &host.name)?;
    // What a joiner must supply.
    let keys: Vec<_> = cluster
        .member_config
        .unwrap_or_default()
        .into_iter()
        .map(|k| (k.entity, k.name, k.key, k.value))
        .collect();
    let text = |s: &str| s.to_owned();
    same(
        keys,
        [(
            text("storage-pool"),
            text("ct-keep"),
            text("source"),
            text(""),
        )],
    )?;
    same(
        value_of(&lxd.project(STORE).await?.value.config, "user.microcloud.a")?,
        "1",
    )?;
    let pool = lxd.pool("ct-keep", None).await?.value;
    is(pool.config.is_empty(), format!("{:?}", pool.config))?;
    same(&pool.locations, std::slice::from_ref(&host.name))?;
    let pool = lxd.pool("ct-keep", Some(&host.name)).await?.value;
    is(
        pool.config.contains_key("source"),
        format!("{:?}", pool.config),
    )?;
    sweep(cloud).await
}

async fn the_first_member_leads(cloud: &dyn Cloud) -> Outcome {
    let (lxd, host) = (cloud.lxd(0), cloud.host(0));
    let members = lxd.members().await?;
    same(members.len(), 1)?;
    let member = &members[0];
    same(&member.server_name, &host.name)?;
    same(&member.url, &format!("https://{}", host.address))?;
    same(member.status.as_str(), "Online")?;
    same(member.message.as_str(), "Fully operational")?;
    same(sorted(&member.roles), ["database", "database-leader"])?;
    same(member.failure_domain.as_str(), "default")?;
    same(&member.groups, &["default"])?;
    is(member.database, "it does not hold the database")?;
    let groups = lxd.groups().await?;
    same(groups.len(), 1)?;
    same(groups[0].name.as_str(), "default")?;
    same(&groups[0].members, &[host.name])
}

/// A text that is no token is tried as a password ("not authorized"); a token nobody gave out has
/// no operation. Both fail the operation, not the request.
async fn a_join_without_a_good_token_fails(cloud: &dyn Cloud) -> Outcome {
    let lxd = cloud.lxd(1);
    eventually(Duration::from_secs(60), async || Ok(lxd.ready().await?)).await?;
    let mut join = join_request(cloud, 1, Vec::new()).await?;
    let mut token = cloud.lxd(0).join_token(&join.name).await?;
    join.token = "nonsense".to_owned();
    fails(
        lxd.join(&join).await,
        "OperationFailed",
        "Failed to setup cluster trust: Failed to add server cert to cluster: not authorized",
    )?;
    token.secret = "00".to_owned();
    join.token = token.encode();
    fails(
        lxd.join(&join).await,
        "OperationFailed",
        "No matching cluster join operation found",
    )?;
    is(!lxd.cluster().await?.enabled, "it joined")
}

/// A member that is not there fails the operation, an address that is another machine's the
/// request, after a second. The joiner stays alone; it keeps an address that it could use.
async fn a_join_that_cannot_work_fails_and_leaves_the_joiner_alone(cloud: &dyn Cloud) -> Outcome {
    let lxd = cloud.lxd(1);
    let mut join = join_request(cloud, 1, Vec::new()).await?;
    // Nothing listens there: that host has no address set.
    join.cluster_address = cloud.host(3).address;
    fails(
        lxd.join(&join).await,
        "OperationFailed",
        "Failed to setup cluster trust: Failed to connect to target cluster node",
    )?;
    let mut join = join_request(cloud, 1, Vec::new()).await?;
    join.server_address = cloud.host(3).address;
    fails(
        lxd.join(&join).await,
        "Refused",
        "Cannot listen on cluster HTTPS socket",
    )?;
    let server = lxd.server().await?.value;
    is(!server.environment.server_clustered, "it is in a cluster")?;
    is(!lxd.cluster().await?.enabled, "a cluster is enabled")?;
    same(cloud.lxd(0).members().await?.len(), 1)
}

/// The joiner takes everything over from the cluster and loses what it had. Both its addresses
/// are the one it joined with.
async fn a_token_lets_one_machine_join(cloud: &dyn Cloud) -> Outcome {
    let (first, lxd, host) = (cloud.lxd(0), cloud.lxd(1), cloud.host(1));
    for (name, value) in [(STORE, "other"), ("ct-own", "own")] {
        let own = ProjectCreate {
            name: name.to_owned(),
            config: map(&[("user.microcloud.a", value)]),
            ..ProjectCreate::default()
        };
        lxd.create_project(&own).await?;
    }
    let token = first.join_token(&host.name).await?;
    same(&token.name, &host.name)?;
    same(&token.addresses, &[cloud.host(0).address])?;
    let server = first.server().await?.value.environment;
    same(&token.fingerprint, &server.certificate_fingerprint)?;
    is(!token.secret.is_empty(), "no secret")?;
    is(
        token.expires_at.ends_with('Z'),
        format!("expires {}", token.expires_at),
    )?;

    lxd.join(&join_request(cloud, 1, Vec::new()).await?).await?;
    let joined = lxd.server().await?.value;
    is(
        joined.environment.server_clustered,
        "it is not in a cluster",
    )?;
    same(&joined.environment.server_name, &host.name)?;
    same(
        &joined.environment.certificate_fingerprint,
        &server.certificate_fingerprint,
    )?;
    same(
        &joined.config_text(),
        &map(&[
            ("cluster.https_address", &host.address),
            ("core.https_address", &host.address),
        ]),
    )?;
    same(
        value_of(&lxd.project(STORE).await?.value.config, "user.microcloud.a")?,
        "1",
    )?;
    fails(lxd.project("ct-own").await, "NotFound", "Project not found")?;
    let member = first.member(&host.name).await?.value;
    same(member.status.as_str(), "Online")?;
    same(&member.url, &format!("https://{}", host.address))?;
    let again = lxd.join(&join_request(cloud, 1, Vec::new()).await?).await;
    fails(again, "Refused", "This server is already clustered")
}

/// A member that did not make the token accepts it as well. It is good for one join.
async fn a_token_is_good_at_any_member_and_once(cloud: &dyn Cloud) -> Outcome {
    let lxd = cloud.lxd(2);
    eventually(Duration::from_secs(60), async || Ok(lxd.ready().await?)).await?;
    let mut join = join_request(cloud, 2, Vec::new()).await?;
    join.cluster_address = cloud.host(1).address;
    lxd.join(&join).await?;
    let operations = cloud.lxd(0).operations().await?;
    is(
        !operations.iter().any(|o| {
            o.class == "token" && o.status == "Running" && o.metadata["serverName"] == *join.name
        }),
        "the token's operation still runs",
    )?;
    let other = cloud.lxd(3);
    eventually(Duration::from_secs(60), async || Ok(other.ready().await?)).await?;
    let again = JoinRequest {
        token: join.token,
        ..join_request(cloud, 3, Vec::new()).await?
    };
    let text = "No matching cluster join operation found";
    fails(other.join(&again).await, "OperationFailed", text)
}

/// Tokens that nobody can use any more fail a join with the text of tokens that never were.
async fn a_newer_token_ends_an_older_one_and_revoking_ends_both(cloud: &dyn Cloud) -> Outcome {
    let (first, lxd) = (cloud.lxd(0), cloud.lxd(3));
    eventually(Duration::from_secs(60), async || Ok(lxd.ready().await?)).await?;
    let name = cloud.host(3).name;
    let old = join_request(cloud, 3, Vec::new()).await?;
    let new = join_request(cloud, 3, Vec::new()).await?;
    let mine = async || -> Result<Vec<String>, Failure> {
        let operations = first.operations().await?;
        let of_name = |o: &&microcloud::services::lxd::types::Operation| {
            o.class == "token" && o.metadata["serverName"] == *name
        };
        Ok(sorted(
            &operations
                .iter()
                .filter(of_name)
                .map(|o| o.status.clone())
                .collect::<Vec<_>>(),
        ))
    };
    let running = mine().await?.iter().filter(|s| *s == "Running").count();
    same(running, 1)?;
    let text = "No matching cluster join operation found";
    fails(lxd.join(&old).await, "OperationFailed", text)?;
    first.revoke_tokens(&name).await?;
    let running = mine().await?.iter().filter(|s| *s == "Running").count();
    same(running, 0)?;
    fails(lxd.join(&new).await, "OperationFailed", text)?;
    first.revoke_tokens(&name).await?;
    same(first.members().await?.len(), 3)
}

/// The second member only stands by; with the third all three hold the database.
async fn three_members_vote(cloud: &dyn Cloud) -> Outcome {
    for index in 0..3 {
        let lxd = cloud.lxd(index);
        eventually(Duration::from_secs(30), async || {
            let members = lxd.members().await?;
            same(members.len(), 3)?;
            for member in &members {
                same(member.status.as_str(), "Online")?;
                is(
                    member.roles.iter().any(|r| r == "database"),
                    format!("{} has {:?}", member.server_name, member.roles),
                )?;
            }
            let leaders = members
                .iter()
                .filter(|m| m.roles.iter().any(|r| r == "database-leader"));
            same(leaders.count(), 1)
        })
        .await?;
    }
    let groups = cloud.lxd(2).groups().await?;
    same(sorted(&groups[0].members), sorted(&cloud.members()))
}
