//! Removes what an assertion left, so that the next one starts from the same.

use super::check::{Failure, Outcome, map};
use super::cloud::Cloud;
use microcloud::services::lxd::types::MemberPut;
use microcloud::services::lxd::{LxdError, ProfilePut};

/// The project that stands for the controller's store; it stays.
pub const STORE: &str = "microcloud";

/// Removes all profiles, projects, networks, pools, groups and `user.*` keys that are not there by
/// default.
pub async fn sweep(cloud: &dyn Cloud) -> Outcome {
    let lxd = cloud.lxd(0);
    let empty = ProfilePut {
        description: "Default LXD profile".to_owned(),
        ..ProfilePut::default()
    };
    lxd.put_profile("default", "default", &empty, None).await?;
    for (project, profile) in lxd.all_profiles().await? {
        if profile.name != "default" {
            gone(lxd.delete_profile(&project, &profile.name).await)?;
        }
    }
    for project in lxd.projects().await? {
        if project.name != "default" && project.name != STORE {
            gone(lxd.delete_project(&project.name).await)?;
        }
    }
    for network in lxd.networks("default").await? {
        if network.managed {
            gone(lxd.delete_network("default", &network.name).await)?;
        }
    }
    for pool in lxd.pools().await? {
        gone(lxd.delete_pool(&pool.name).await)?;
    }
    let server = lxd.server().await?.value;
    let keys: Vec<(&str, &str)> = server
        .config
        .keys()
        .filter(|key| !key.ends_with("https_address"))
        .map(|key| (key.as_str(), ""))
        .collect();
    if !keys.is_empty() {
        lxd.patch_server(&map(&keys), None).await?;
    }
    if server.environment.server_clustered {
        members(cloud).await?;
    }
    Ok(())
}

async fn members(cloud: &dyn Cloud) -> Outcome {
    let lxd = cloud.lxd(0);
    for member in lxd.members().await? {
        if member.status == "Evacuated" {
            lxd.restore(&member.server_name).await?;
        }
        let automatic = |role: &&String| role.starts_with("database");
        let plain = MemberPut {
            roles: member.roles.iter().filter(automatic).cloned().collect(),
            failure_domain: "default".to_owned(),
            groups: vec!["default".to_owned()],
            ..MemberPut::default()
        };
        let now = MemberPut {
            roles: member.roles.clone(),
            failure_domain: member.failure_domain,
            description: member.description,
            config: member.config,
            groups: member.groups,
        };
        if now != plain {
            lxd.put_member(&member.server_name, &plain, None).await?;
        }
    }
    for group in lxd.groups().await? {
        if group.name != "default" {
            let path = format!("/1.0/cluster/groups/{}", group.name);
            let method = microcloud::services::lxd::Method::Delete;
            let response = cloud.raw(0, method, &path, serde_json::Value::Null).await?;
            if response.status >= 400 {
                return Err(Failure::new(response.body.to_string()));
            }
        }
    }
    Ok(())
}

fn gone(result: Result<(), LxdError>) -> Outcome {
    match result {
        Ok(()) | Err(LxdError::NotFound { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
