//! Members and groups.

use super::check::{Failure, Outcome, fails, is, map, same, sorted};
use super::cloud::Cloud;
use super::{Assertion, assertions};
use microcloud::services::lxd::Method;
use microcloud::services::lxd::types::{Group, Member, MemberPut};
use serde_json::json;

pub fn assertions() -> Vec<Assertion> {
    assertions![Cluster:
        member_put_replaces_what_is_written_of_it,
        a_role_can_be_given_and_taken,
        an_automatic_role_cannot_be_dropped,
        wrong_values_of_a_member_are_refused,
        a_member_patch_drops_the_roles_it_leaves_out,
        a_stale_member_etag_is_refused,
        groups_are_created_once_and_empty_ones_deleted,
        a_member_is_evacuated_and_restored_once,
    ]
}

fn put(member: &Member) -> MemberPut {
    MemberPut {
        roles: member.roles.clone(),
        failure_domain: member.failure_domain.clone(),
        description: member.description.clone(),
        config: member.config.clone(),
        groups: member.groups.clone(),
    }
}

/// The second host, which does not lead (its roles change when the leader does).
async fn second(cloud: &dyn Cloud) -> Result<(String, MemberPut), Failure> {
    let name = cloud.host(1).name;
    let member = cloud.lxd(0).member(&name).await?.value;
    Ok((name, put(&member)))
}

async fn member_put_replaces_what_is_written_of_it(cloud: &dyn Cloud) -> Outcome {
    let lxd = cloud.lxd(0);
    let (name, before) = second(cloud).await?;
    let change = MemberPut {
        failure_domain: "rack1".to_owned(),
        description: "in the corner".to_owned(),
        config: map(&[("user.a", "1"), ("scheduler.instance", "manual")]),
        ..before.clone()
    };
    lxd.put_member(&name, &change, None).await?;
    same(put(&cloud.lxd(2).member(&name).await?.value), change)?;
    lxd.put_member(&name, &before, None).await?;
    same(put(&lxd.member(&name).await?.value), before)
}

/// Roles come back in another order than they were written: what was given first, then the
/// automatic ones.
async fn a_role_can_be_given_and_taken(cloud: &dyn Cloud) -> Outcome {
    let lxd = cloud.lxd(0);
    let (name, before) = second(cloud).await?;
    let mut change = before.clone();
    change.roles.push("ovn-chassis".to_owned());
    lxd.put_member(&name, &change, None).await?;
    let roles = lxd.member(&name).await?.value.roles;
    same(sorted(&roles), sorted(&change.roles))?;
    lxd.put_member(&name, &before, None).await?;
    same(lxd.member(&name).await?.value.roles, before.roles)
}

/// One the member does not have is ignored.
async fn an_automatic_role_cannot_be_dropped(cloud: &dyn Cloud) -> Outcome {
    let lxd = cloud.lxd(0);
    let (name, before) = second(cloud).await?;
    let none = MemberPut {
        roles: Vec::new(),
        ..before.clone()
    };
    let text = "role cannot be dropped at this time";
    fails(lxd.put_member(&name, &none, None).await, "Refused", text)?;
    if !before.roles.iter().any(|role| role == "database-leader") {
        let mut leader = before.clone();
        leader.roles.push("database-leader".to_owned());
        lxd.put_member(&name, &leader, None).await?;
    }
    same(put(&lxd.member(&name).await?.value), before)
}

/// Each of them changes nothing. The unknown group is a 404, which does not speak of the member.
async fn wrong_values_of_a_member_are_refused(cloud: &dyn Cloud) -> Outcome {
    let lxd = cloud.lxd(0);
    let (name, before) = second(cloud).await?;
    let mut role = before.clone();
    role.roles.push("wat".to_owned());
    let wrong = [
        (role, "Invalid cluster role \"wat\""),
        (
            MemberPut {
                groups: Vec::new(),
                ..before.clone()
            },
            "Cluster members need to belong to at least one group",
        ),
        (
            MemberPut {
                groups: vec!["nope".to_owned()],
                ..before.clone()
            },
            "Cluster group not found",
        ),
        (
            MemberPut {
                config: map(&[("bad", "1")]),
                ..before.clone()
            },
            "Invalid cluster configuration key \"bad\"",
        ),
        (
            MemberPut {
                failure_domain: String::new(),
                ..before.clone()
            },
            "Failure domain name can't be empty",
        ),
    ];
    for (change, text) in wrong {
        fails(lxd.put_member(&name, &change, None).await, "Refused", text)?;
        same(put(&lxd.member(&name).await?.value), before.clone())?;
    }
    let missing = lxd.put_member("nobody", &before, None).await;
    fails(missing, "NotFound", "Cluster member not found")?;
    fails(
        lxd.member("nobody").await,
        "NotFound",
        "Cluster member not found",
    )
}

async fn a_member_patch_drops_the_roles_it_leaves_out(cloud: &dyn Cloud) -> Outcome {
    let (name, _) = second(cloud).await?;
    let path = format!("/1.0/cluster/members/{name}");
    let patch = json!({"failure_domain": "rack2"});
    let answer = cloud.raw(0, Method::Patch, &path, patch).await?;
    same(answer.status, 400)?;
    let text = answer.body["error"].as_str().unwrap_or_default();
    is(text.contains("role cannot be dropped"), text)
}

async fn a_stale_member_etag_is_refused(cloud: &dyn Cloud) -> Outcome {
    let lxd = cloud.lxd(0);
    let name = cloud.host(1).name;
    let seen = lxd.member(&name).await?;
    let mut change = put(&seen.value);
    change.description = "changed".to_owned();
    lxd.put_member(&name, &change, seen.etag.as_deref()).await?;
    let stale = lxd.put_member(&name, &change, seen.etag.as_deref()).await;
    fails(stale, "Changed", "ETag doesn't match")
}

async fn groups_are_created_once_and_empty_ones_deleted(cloud: &dyn Cloud) -> Outcome {
    let lxd = cloud.lxd(0);
    let (name, before) = second(cloud).await?;
    let group = |name: &str, members: &[&str]| Group {
        name: name.to_owned(),
        description: "a group".to_owned(),
        members: members.iter().map(|m| (*m).to_owned()).collect(),
    };
    lxd.create_group(&group("ct-g1", &[])).await?;
    let again = lxd.create_group(&group("ct-g1", &[])).await;
    fails(again, "Conflict", "This cluster group already exists")?;
    lxd.create_group(&group("ct-g2", &[&name])).await?;
    same(
        sorted(&lxd.member(&name).await?.value.groups),
        ["ct-g2", "default"],
    )?;
    let mut change = before;
    change.groups = vec!["default".to_owned(), "ct-g1".to_owned()];
    lxd.put_member(&name, &change, None).await?;
    let groups = cloud.lxd(2).groups().await?;
    let of = |group: &str| {
        let found = groups.iter().find(|g| g.name == group);
        found.map(|g| g.members.clone()).unwrap_or_default()
    };
    same(of("ct-g1"), std::slice::from_ref(&name))?;
    is(of("ct-g2").is_empty(), "it is still in the other group")?;
    for (group, status, text) in [
        ("ct-g1", 500, "Only empty cluster groups can be removed"),
        (
            "default",
            403,
            "The 'default' cluster group cannot be deleted",
        ),
    ] {
        let path = format!("/1.0/cluster/groups/{group}");
        let answer = cloud
            .raw(0, Method::Delete, &path, serde_json::Value::Null)
            .await?;
        same(answer.status, status)?;
        same(answer.body["error"].as_str().unwrap_or_default(), text)?;
    }
    Ok(())
}

/// The second time the operation fails. There is no event for either.
async fn a_member_is_evacuated_and_restored_once(cloud: &dyn Cloud) -> Outcome {
    let lxd = cloud.lxd(0);
    let name = cloud.host(2).name;
    lxd.evacuate(&name).await?;
    let member = lxd.member(&name).await?.value;
    same(member.status.as_str(), "Evacuated")?;
    same(member.message.as_str(), "Unavailable due to maintenance")?;
    let again = lxd.evacuate(&name).await;
    fails(
        again,
        "OperationFailed",
        "Cluster member is already evacuated",
    )?;
    lxd.restore(&name).await?;
    same(lxd.member(&name).await?.value.status.as_str(), "Online")?;
    let again = lxd.restore(&name).await;
    fails(
        again,
        "OperationFailed",
        "Cluster member is already restored",
    )
}
