//! Lifecycle events.

use super::check::{Failure, Outcome, is, map, same};
use super::cloud::Cloud;
use super::networks::{bridge, define};
use super::pools;
use super::{Assertion, assertions};
use futures_util::StreamExt;
use microcloud::services::lxd::types::{Group, Lifecycle, MemberPut, Profile};
use microcloud::services::lxd::{Event, ObjectPut, ProfilePut, ProjectCreate};
use std::time::Duration;
use tokio::time::timeout;

pub fn assertions() -> Vec<Assertion> {
    assertions![Cluster:
        every_write_is_told_on_every_member,
        a_write_that_changes_nothing_is_told_too,
    ]
}

/// Does something and returns what a member tells of it, up to the deletion of a profile that is
/// made and deleted on the same member afterwards.
async fn told(
    cloud: &dyn Cloud,
    listener: usize,
    writer: usize,
    act: impl AsyncFnOnce() -> Outcome,
) -> Result<Vec<Lifecycle>, Failure> {
    let mut events = Box::pin(cloud.lxd(listener).events());
    let mut heard = Vec::new();
    match timeout(Duration::from_secs(10), events.next()).await {
        Ok(Some(Event::Connected)) => {}
        other => return Err(Failure::new(format!("no connection: {other:?}"))),
    }
    act().await?;
    let lxd = cloud.lxd(writer);
    let last = Profile {
        name: "ct-last".to_owned(),
        ..Profile::default()
    };
    lxd.create_profile("default", &last).await?;
    lxd.delete_profile("default", "ct-last").await?;
    loop {
        match timeout(Duration::from_secs(10), events.next()).await {
            Ok(Some(Event::Lifecycle(event))) => {
                if event.source == "/1.0/profiles/ct-last" {
                    if event.action == "profile-deleted" {
                        return Ok(heard);
                    }
                } else {
                    heard.push(event);
                }
            }
            other => {
                return Err(Failure::new(format!("{other:?} after {heard:?}")));
            }
        }
    }
}

fn line(event: &Lifecycle) -> String {
    let source = match event.source.strip_prefix("/1.0/operations/") {
        Some(_) => "/1.0/operations/ID",
        None => &event.source,
    };
    format!(
        "{} {source} in {} on {} by {}",
        event.action,
        event.project,
        event.location,
        event.requestor.as_deref().unwrap_or("nobody")
    )
}

/// Each exactly once (the client drops the copies), in order, with the member it was done on, on
/// the streams of that member and of another one. A network or a pool that is changed is told by
/// the other members as well, without a requestor, before the one that was asked.
///
/// Two silences: a member's phase of a pool or network, and the last phase of a network (of a pool
/// it is told).
async fn every_write_is_told_on_every_member(cloud: &dyn Cloud) -> Outcome {
    for listener in [0, 1] {
        let heard = told(cloud, listener, 1, async || writes(cloud).await).await?;
        super::sweep::sweep(cloud).await?;
        let writer = cloud.host(1).name;
        let asked: Vec<String> = heard
            .iter()
            .filter(|event| event.requestor.is_some() && event.location == writer)
            .map(line)
            .collect();
        let wanted: Vec<String> = WRITES
            .iter()
            .map(|(what, project)| format!("{what} in {project} on {writer} by root"))
            .map(|line| line.replace("MEMBER", &writer))
            .collect();
        same(asked, wanted)?;
        let others: Vec<String> = heard
            .iter()
            .filter(|event| event.requestor.is_none())
            .map(|event| format!("{} {}", event.action, event.source))
            .collect();
        for update in [
            "network-updated /1.0/networks/ctbr0",
            "storage-pool-updated /1.0/storage-pools/ct-pool",
        ] {
            same(others.iter().filter(|line| *line == update).count(), 2)?;
        }
    }
    Ok(())
}

const WRITES: [(&str, &str); 16] = [
    ("config-updated /1.0", "default"),
    ("project-created /1.0/projects/ct-p", "ct-p"),
    ("project-updated /1.0/projects/ct-p", "ct-p"),
    ("profile-created /1.0/profiles/ct-web", "ct-p"),
    ("profile-updated /1.0/profiles/ct-web", "ct-p"),
    ("profile-deleted /1.0/profiles/ct-web", "ct-p"),
    ("project-deleted /1.0/projects/ct-p", "ct-p"),
    ("storage-pool-created /1.0/storage-pools/ct-pool", "default"),
    ("storage-pool-updated /1.0/storage-pools/ct-pool", "default"),
    ("storage-pool-deleted /1.0/storage-pools/ct-pool", "default"),
    ("network-updated /1.0/networks/ctbr0", "default"),
    ("network-deleted /1.0/networks/ctbr0", "default"),
    ("cluster-group-created /1.0/cluster/groups/ct-g", "default"),
    (
        "cluster-member-updated /1.0/cluster/members/MEMBER",
        "default",
    ),
    ("cluster-token-created /1.0/cluster/members", "default"),
    ("operation-cancelled /1.0/operations/ID", "default"),
];

async fn writes(cloud: &dyn Cloud) -> Outcome {
    let lxd = cloud.lxd(1);
    lxd.patch_server(&map(&[("user.a", "1")]), None).await?;
    let project = ProjectCreate {
        name: "ct-p".to_owned(),
        ..ProjectCreate::default()
    };
    lxd.create_project(&project).await?;
    let read = lxd.project("ct-p").await?.value;
    let put = ObjectPut {
        description: "changed".to_owned(),
        config: read.config,
    };
    lxd.put_project("ct-p", &put, None).await?;
    let profile = Profile {
        name: "ct-web".to_owned(),
        ..Profile::default()
    };
    lxd.create_profile("ct-p", &profile).await?;
    lxd.put_profile("ct-p", "ct-web", &ProfilePut::default(), None)
        .await?;
    lxd.delete_profile("ct-p", "ct-web").await?;
    lxd.delete_project("ct-p").await?;

    for member in cloud.members() {
        lxd.create_pool(&pools::dir("ct-pool", &[]), Some(&member))
            .await?;
    }
    lxd.create_pool(&pools::dir("ct-pool", &[]), None).await?;
    let user = ObjectPut {
        description: String::new(),
        config: map(&[("user.a", "1")]),
    };
    lxd.put_pool("ct-pool", &user, None, None).await?;
    lxd.delete_pool("ct-pool").await?;

    define(cloud, "ctbr0").await?;
    let none = [("ipv4.address", "none"), ("ipv6.address", "none")];
    lxd.create_network("default", &bridge("ctbr0", &none), None)
        .await?;
    let mut changed = none.to_vec();
    changed.push(("user.a", "1"));
    let user = ObjectPut {
        description: String::new(),
        config: map(&changed),
    };
    lxd.put_network("default", "ctbr0", &user, None, None)
        .await?;
    lxd.delete_network("default", "ctbr0").await?;

    let group = Group {
        name: "ct-g".to_owned(),
        ..Group::default()
    };
    lxd.create_group(&group).await?;
    let name = cloud.host(1).name;
    let member = lxd.member(&name).await?.value;
    let put = MemberPut {
        roles: member.roles,
        failure_domain: "rack1".to_owned(),
        description: member.description,
        config: member.config,
        groups: member.groups,
    };
    lxd.put_member(&name, &put, None).await?;
    lxd.join_token("ct-joiner").await?;
    lxd.revoke_tokens("ct-joiner").await?;
    Ok(())
}

/// So a controller that writes what is there already wakes everyone, itself included.
async fn a_write_that_changes_nothing_is_told_too(cloud: &dyn Cloud) -> Outcome {
    let lxd = cloud.lxd(0);
    let profile = Profile {
        name: "ct-web".to_owned(),
        ..Profile::default()
    };
    lxd.create_profile("default", &profile).await?;
    let heard = told(cloud, 1, 0, async || {
        lxd.put_profile("default", "ct-web", &ProfilePut::default(), None)
            .await?;
        Ok(())
    })
    .await?;
    same(heard.len(), 1)?;
    is(
        heard[0].action == "profile-updated" && heard[0].source == "/1.0/profiles/ct-web",
        line(&heard[0]),
    )
}
