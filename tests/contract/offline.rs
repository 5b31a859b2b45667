//! A member that is down. These build on one another.

use super::check::{Outcome, eventually, fails, is, map, same, sorted};
use super::cloud::Cloud;
use super::networks::{bridge, define};
use super::pools;
use super::sweep::sweep;
use super::{Assertion, assertions};
use microcloud::services::lxd::types::{MemberPut, Profile};
use microcloud::services::lxd::{ObjectPut, ProfilePut, ProjectCreate};
use std::time::Duration;

pub fn assertions() -> Vec<Assertion> {
    assertions![Offline:
        a_killed_member_is_called_online_at_first,
        before_it_is_called_offline_writes_fail_when_they_reach_it,
        after_20_s_without_a_heartbeat_it_is_offline,
        what_every_member_must_do_is_refused_while_one_is_offline,
        what_one_member_can_do_works_while_another_is_offline,
        a_target_that_is_offline_is_unavailable_after_10_s,
        an_offline_member_is_left_out_of_tokens,
        a_pool_can_be_defined_on_an_offline_member_and_fails_in_the_last_phase,
        a_member_that_comes_back_is_online_and_knows_what_changed,
        a_pool_that_failed_meanwhile_is_created_by_repeating,
    ]
}

fn user(value: &str) -> ObjectPut {
    ObjectPut {
        description: String::new(),
        config: map(&[("user.a", value)]),
    }
}

fn profile(name: &str) -> Profile {
    Profile {
        name: name.to_owned(),
        ..Profile::default()
    }
}

/// Nothing is told about it; the heartbeats of the leader are every 10 s.
async fn a_killed_member_is_called_online_at_first(cloud: &dyn Cloud) -> Outcome {
    let (lxd, name) = (cloud.lxd(0), cloud.host(2).name);
    pools::create(cloud, "ct-pool", &[("user.a", "0")]).await?;
    define(cloud, "ctbr0").await?;
    let none = [("ipv4.address", "none"), ("ipv6.address", "none")];
    lxd.create_network("default", &bridge("ctbr0", &none), None)
        .await?;
    cloud.kill(&name).await;
    eventually(Duration::from_secs(15), async || {
        same(lxd.member(&name).await?.value.status.as_str(), "Online")
    })
    .await
}

/// Nothing is changed in the database then.
async fn before_it_is_called_offline_writes_fail_when_they_reach_it(cloud: &dyn Cloud) -> Outcome {
    let lxd = cloud.lxd(0);
    let before = lxd.pool("ct-pool", None).await?.value.config;
    let put = lxd.put_pool("ct-pool", &user("1"), None, None).await;
    // "failed to notify peer …: Unable to connect to: …", or already "peer node … is down".
    fails(put, "Unavailable", &cloud.host(2).address)?;
    same(lxd.pool("ct-pool", None).await?.value.config, before)
}

async fn after_20_s_without_a_heartbeat_it_is_offline(cloud: &dyn Cloud) -> Outcome {
    let (lxd, name) = (cloud.lxd(0), cloud.host(2).name);
    eventually(Duration::from_secs(90), async || {
        let member = lxd.member(&name).await?.value;
        same(member.status.as_str(), "Offline")?;
        is(
            member.message.starts_with("No heartbeat for "),
            member.message,
        )
    })
    .await?;
    // The others go on; one of them leads.
    eventually(Duration::from_secs(30), async || {
        let members = lxd.members().await?;
        let leads = |m: &&microcloud::services::lxd::types::Member| {
            m.server_name != name && m.roles.iter().any(|r| r == "database-leader")
        };
        same(members.iter().filter(leads).count(), 1)
    })
    .await
}

async fn what_every_member_must_do_is_refused_while_one_is_offline(cloud: &dyn Cloud) -> Outcome {
    let lxd = cloud.lxd(0);
    let down = format!("peer node {} is down", cloud.host(2).address);
    let before = (
        lxd.pool("ct-pool", None).await?.value.config,
        lxd.network("default", "ctbr0", None).await?.value.config,
    );
    let put = lxd.put_pool("ct-pool", &user("1"), None, None).await;
    fails(put, "Unavailable", &down)?;
    let put = lxd
        .put_network("default", "ctbr0", &user("1"), None, None)
        .await;
    fails(put, "Unavailable", &down)?;
    fails(lxd.delete_pool("ct-pool").await, "Unavailable", &down)?;
    fails(
        lxd.delete_network("default", "ctbr0").await,
        "Unavailable",
        &down,
    )?;
    let after = (
        lxd.pool("ct-pool", None).await?.value.config,
        lxd.network("default", "ctbr0", None).await?.value.config,
    );
    same(after, before)
}

/// Profiles, projects, the server's global keys, the description of any member.
async fn what_one_member_can_do_works_while_another_is_offline(cloud: &dyn Cloud) -> Outcome {
    let (lxd, name) = (cloud.lxd(1), cloud.host(2).name);
    lxd.create_profile("default", &profile("ct-web")).await?;
    let put = ProfilePut {
        config: map(&[("user.a", "1")]),
        ..ProfilePut::default()
    };
    lxd.put_profile("default", "ct-web", &put, None).await?;
    lxd.create_profile("default", &profile("ct-gone")).await?;
    lxd.delete_profile("default", "ct-gone").await?;
    let project = ProjectCreate {
        name: "ct-p".to_owned(),
        ..ProjectCreate::default()
    };
    lxd.create_project(&project).await?;
    lxd.patch_server(&map(&[("user.a", "1")]), None).await?;
    let member = lxd.member(&name).await?.value;
    let put = MemberPut {
        roles: member.roles,
        failure_domain: "rack1".to_owned(),
        description: member.description,
        config: member.config,
        groups: member.groups,
    };
    lxd.put_member(&name, &put, None).await?;
    same(
        lxd.member(&name).await?.value.failure_domain.as_str(),
        "rack1",
    )
}

async fn a_target_that_is_offline_is_unavailable_after_10_s(cloud: &dyn Cloud) -> Outcome {
    let (lxd, name) = (cloud.lxd(0), cloud.host(2).name);
    let text = "Missing event connection with target cluster member";
    fails(lxd.server_of(&name).await, "Unavailable", text)?;
    fails(lxd.pool("ct-pool", Some(&name)).await, "Unavailable", text)?;
    let patched = lxd
        .patch_server(&map(&[("user.b", "1")]), Some(&name))
        .await;
    fails(patched, "Unavailable", text)
}

async fn an_offline_member_is_left_out_of_tokens(cloud: &dyn Cloud) -> Outcome {
    let lxd = cloud.lxd(0);
    let token = lxd.join_token("ct-joiner").await?;
    lxd.revoke_tokens("ct-joiner").await?;
    let wanted = [cloud.host(0).address, cloud.host(1).address];
    same(sorted(&token.addresses), sorted(&wanted))
}

/// The first phase only writes the database. The last one leaves the pool `Errored`, and such a
/// pool cannot be deleted before the member is back.
async fn a_pool_can_be_defined_on_an_offline_member_and_fails_in_the_last_phase(
    cloud: &dyn Cloud,
) -> Outcome {
    let lxd = cloud.lxd(0);
    let down = format!("peer node {} is down", cloud.host(2).address);
    pools::define(cloud, "ct-later").await?;
    let created = lxd
        .create_pool(&pools::dir("ct-later", &[("user.a", "1")]), None)
        .await;
    fails(created, "Unavailable", &down)?;
    let pool = lxd.pool("ct-later", None).await?.value;
    same(pool.status.as_str(), "Errored")?;
    fails(lxd.delete_pool("ct-later").await, "Unavailable", &down)
}

async fn a_member_that_comes_back_is_online_and_knows_what_changed(cloud: &dyn Cloud) -> Outcome {
    let (lxd, back, name) = (cloud.lxd(0), cloud.lxd(2), cloud.host(2).name);
    cloud.start(&name).await;
    eventually(Duration::from_secs(60), async || {
        back.ready().await?;
        for index in 0..3 {
            for member in cloud.lxd(index).members().await? {
                same(member.status.as_str(), "Online")?;
            }
        }
        Ok(())
    })
    .await?;
    let profile = back.profile("default", "ct-web").await?.value;
    same(&profile.config, &map(&[("user.a", "1")]))?;
    // Roles are handed out again after a while, not always to the same members.
    eventually(Duration::from_secs(60), async || {
        let members = lxd.members().await?;
        let votes =
            |m: &&microcloud::services::lxd::types::Member| m.roles.iter().any(|r| r == "database");
        same(members.iter().filter(votes).count(), 3)
    })
    .await
}

/// With no global keys; those of the first attempt are kept, even though it got nowhere.
async fn a_pool_that_failed_meanwhile_is_created_by_repeating(cloud: &dyn Cloud) -> Outcome {
    let lxd = cloud.lxd(0);
    eventually(Duration::from_secs(30), async || {
        Ok(lxd.create_pool(&pools::dir("ct-later", &[]), None).await?)
    })
    .await?;
    let pool = lxd.pool("ct-later", None).await?.value;
    same(pool.status.as_str(), "Created")?;
    same(&pool.config, &map(&[("user.a", "1")]))?;
    sweep(cloud).await
}
