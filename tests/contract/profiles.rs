//! Profiles.

use super::check::{Failure, Outcome, fails, is, map, same};
use super::cloud::Cloud;
use super::networks::{bridge, define as define_network};
use super::pools;
use super::{Assertion, assertions};
use microcloud::services::lxd::types::Profile;
use microcloud::services::lxd::{Lxd, Method, ProfilePut, ProjectCreate};
use serde_json::json;
use std::collections::BTreeMap;

pub fn assertions() -> Vec<Assertion> {
    assertions![Cluster:
        a_profile_is_seen_by_all_members_at_once,
        profile_put_replaces_everything,
        profile_patch_merges,
        profiles_of_one_name_conflict,
        a_profile_that_is_not_there_is_not_found,
        the_default_profile_cannot_be_deleted,
        a_stale_profile_etag_is_refused,
        the_same_content_has_the_same_etag_on_all_members,
        wrong_profile_keys_are_refused,
        devices_of_a_profile_are_validated,
        a_pool_that_is_not_there_is_not_noticed_in_a_profile,
        a_network_that_is_not_created_is_refused_in_a_profile,
        a_profile_uses_its_network_and_pool,
        a_project_with_profiles_has_its_own,
        a_project_without_profiles_uses_those_of_default,
    ]
}

fn device(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    map(pairs)
}

fn profile(name: &str, device: Option<(&str, BTreeMap<String, String>)>) -> Profile {
    Profile {
        name: name.to_owned(),
        description: "a profile".to_owned(),
        config: map(&[("user.a", "1")]),
        devices: device
            .into_iter()
            .map(|(name, device)| (name.to_owned(), device))
            .collect(),
        used_by: Vec::new(),
    }
}

fn put(profile: &Profile) -> ProfilePut {
    ProfilePut {
        description: profile.description.clone(),
        config: profile.config.clone(),
        devices: profile.devices.clone(),
    }
}

async fn read(lxd: &Lxd, name: &str) -> Result<Profile, Failure> {
    Ok(lxd.profile("default", name).await?.value)
}

async fn a_profile_is_seen_by_all_members_at_once(cloud: &dyn Cloud) -> Outcome {
    let wanted = profile("ct web", Some(("eth0", device(&[("type", "none")]))));
    cloud.lxd(1).create_profile("default", &wanted).await?;
    for index in 0..3 {
        same(&read(&cloud.lxd(index), "ct web").await?, &wanted)?;
    }
    cloud.lxd(2).delete_profile("default", "ct web").await?;
    let gone = cloud.lxd(0).profile("default", "ct web").await;
    fails(gone, "NotFound", "Profile not found")
}

/// An empty value is no value.
async fn profile_put_replaces_everything(cloud: &dyn Cloud) -> Outcome {
    let lxd = cloud.lxd(0);
    let first = profile("ct-web", Some(("eth0", device(&[("type", "none")]))));
    lxd.create_profile("default", &first).await?;
    let next = ProfilePut {
        config: map(&[("user.b", "2"), ("user.c", "")]),
        ..ProfilePut::default()
    };
    lxd.put_profile("default", "ct-web", &next, None).await?;
    let now = read(&lxd, "ct-web").await?;
    same(now.description.as_str(), "")?;
    same(&now.config, &map(&[("user.b", "2")]))?;
    is(now.devices.is_empty(), format!("{:?}", now.devices))
}

/// `PATCH` merges configuration and devices, keeps a description that is not given, and takes an
/// empty value as a removal.
async fn profile_patch_merges(cloud: &dyn Cloud) -> Outcome {
    let lxd = cloud.lxd(0);
    let first = profile("ct-web", Some(("eth0", device(&[("type", "none")]))));
    lxd.create_profile("default", &first).await?;
    let patch =
        json!({"config": {"user.a": "", "user.b": "2"}, "devices": {"x": {"type": "none"}}});
    let answer = cloud
        .raw(0, Method::Patch, "/1.0/profiles/ct-web", patch)
        .await?;
    same(answer.status, 200)?;
    let now = read(&lxd, "ct-web").await?;
    same(now.description.as_str(), "a profile")?;
    same(&now.config, &map(&[("user.b", "2")]))?;
    same(
        now.devices.keys().map(String::as_str).collect::<Vec<_>>(),
        ["eth0", "x"],
    )
}

/// With the status 500.
async fn profiles_of_one_name_conflict(cloud: &dyn Cloud) -> Outcome {
    let lxd = cloud.lxd(0);
    lxd.create_profile("default", &profile("ct-web", None))
        .await?;
    fails(
        lxd.create_profile("default", &profile("ct-web", None))
            .await,
        "Conflict",
        "The profile already exists",
    )
}

async fn a_profile_that_is_not_there_is_not_found(cloud: &dyn Cloud) -> Outcome {
    let lxd = cloud.lxd(0);
    let text = "Profile not found";
    fails(lxd.profile("default", "ct-no").await, "NotFound", text)?;
    let put = ProfilePut::default();
    fails(
        lxd.put_profile("default", "ct-no", &put, None).await,
        "NotFound",
        text,
    )?;
    fails(
        lxd.delete_profile("default", "ct-no").await,
        "NotFound",
        text,
    )?;
    fails(lxd.profiles("ct-no").await, "NotFound", "Project not found")
}

async fn the_default_profile_cannot_be_deleted(cloud: &dyn Cloud) -> Outcome {
    fails(
        cloud.lxd(0).delete_profile("default", "default").await,
        "Refused",
        "The \"default\" profile cannot be deleted",
    )
}

async fn a_stale_profile_etag_is_refused(cloud: &dyn Cloud) -> Outcome {
    let (lxd, other) = (cloud.lxd(0), cloud.lxd(1));
    lxd.create_profile("default", &profile("ct-web", None))
        .await?;
    let seen = lxd.profile("default", "ct-web").await?;
    let mut change = put(&seen.value);
    change.config = map(&[("user.a", "2")]);
    other
        .put_profile("default", "ct-web", &change, seen.etag.as_deref())
        .await?;
    change.config = map(&[("user.a", "3")]);
    let stale = lxd
        .put_profile("default", "ct-web", &change, seen.etag.as_deref())
        .await;
    fails(stale, "Changed", "ETag doesn't match")?;
    same(
        &read(&lxd, "ct-web").await?.config,
        &map(&[("user.a", "2")]),
    )
}

/// The ETag is of the content: what was changed back has it again, and who uses the object does
/// not matter.
async fn the_same_content_has_the_same_etag_on_all_members(cloud: &dyn Cloud) -> Outcome {
    let lxd = cloud.lxd(0);
    lxd.create_profile("default", &profile("ct-web", None))
        .await?;
    let seen = lxd.profile("default", "ct-web").await?;
    is(seen.etag.is_some(), "there is no ETag")?;
    for index in 1..3 {
        same(
            cloud.lxd(index).profile("default", "ct-web").await?.etag,
            seen.etag.clone(),
        )?;
    }
    let mut change = put(&seen.value);
    change.description = "another".to_owned();
    lxd.put_profile("default", "ct-web", &change, None).await?;
    is(
        lxd.profile("default", "ct-web").await?.etag != seen.etag,
        "the ETag did not change",
    )?;
    lxd.put_profile("default", "ct-web", &put(&seen.value), None)
        .await?;
    same(lxd.profile("default", "ct-web").await?.etag, seen.etag)
}

async fn wrong_profile_keys_are_refused(cloud: &dyn Cloud) -> Outcome {
    let lxd = cloud.lxd(0);
    lxd.create_profile("default", &profile("ct-web", None))
        .await?;
    for (key, value, text) in [
        ("bad.key", "1", "Unknown configuration key: bad.key"),
        ("limits.cpu", "x", "Invalid CPU limit syntax"),
    ] {
        let wrong = ProfilePut {
            config: map(&[(key, value)]),
            ..ProfilePut::default()
        };
        fails(
            lxd.put_profile("default", "ct-web", &wrong, None).await,
            "Refused",
            text,
        )?;
        let mut wrong = profile("ct-bad", None);
        wrong.config = map(&[(key, value)]);
        fails(lxd.create_profile("default", &wrong).await, "Refused", text)?;
    }
    for (name, text) in [
        ("", "No name provided"),
        ("a/b", "Profile names may not contain slashes"),
        ("..", "Invalid profile name \"..\""),
    ] {
        let wrong = profile(name, None);
        fails(lxd.create_profile("default", &wrong).await, "Refused", text)?;
    }
    same(read(&lxd, "ct-web").await?, profile("ct-web", None))
}

/// On `PUT` a missing network is a 404, on `POST` a 400; neither speaks of the profile.
async fn devices_of_a_profile_are_validated(cloud: &dyn Cloud) -> Outcome {
    let lxd = cloud.lxd(0);
    lxd.create_profile("default", &profile("ct-web", None))
        .await?;
    let wrong: [(&[(&str, &str)], &str); 3] = [
        (
            &[("type", "nic"), ("network", "ctnone")],
            "Device validation failed for \"dev\": Failed loading device \"dev\": \
             Failed to load network \"ctnone\" for project \"default\": Network not found",
        ),
        (
            &[("type", "wat")],
            "Device validation failed for \"dev\": Failed loading device \"dev\": \
             Unsupported device type",
        ),
        (&[], "Missing device type in config"),
    ];
    for (pairs, text) in wrong {
        let with = profile("ct-bad", Some(("dev", device(pairs))));
        fails(lxd.create_profile("default", &with).await, "Refused", text)?;
        let changed = lxd
            .put_profile("default", "ct-web", &put(&with), None)
            .await;
        fails(changed, "Refused", text)?;
    }
    let root = device(&[("type", "disk"), ("path", "/"), ("pool", "ctnone")]);
    let mut two = profile("ct-bad", Some(("root", root.clone())));
    two.devices.insert("root2".to_owned(), root);
    fails(
        lxd.create_profile("default", &two).await,
        "Refused",
        "More than one disk device uses the same path \"/\"",
    )?;
    same(read(&lxd, "ct-web").await?, profile("ct-web", None))
}

/// LXD 5.0 looks for the pool when an instance uses the profile, not before. The same for the
/// parent of a bridged nic.
async fn a_pool_that_is_not_there_is_not_noticed_in_a_profile(cloud: &dyn Cloud) -> Outcome {
    let lxd = cloud.lxd(0);
    let root = device(&[("type", "disk"), ("path", "/"), ("pool", "ctnone")]);
    lxd.create_profile("default", &profile("ct-web", Some(("root", root))))
        .await?;
    let nic = device(&[
        ("type", "nic"),
        ("nictype", "bridged"),
        ("parent", "ctnone"),
    ]);
    let changed = put(&profile("ct-web", Some(("eth0", nic))));
    lxd.put_profile("default", "ct-web", &changed, None).await?;
    Ok(())
}

async fn a_network_that_is_not_created_is_refused_in_a_profile(cloud: &dyn Cloud) -> Outcome {
    let lxd = cloud.lxd(0);
    lxd.create_network("default", &bridge("ctbr0", &[]), Some(&cloud.host(0).name))
        .await?;
    let nic = device(&[("type", "nic"), ("network", "ctbr0")]);
    fails(
        lxd.create_profile("default", &profile("ct-web", Some(("eth0", nic))))
            .await,
        "Refused",
        "Specified network is not fully created",
    )
}

/// What a profile names in its devices is in use, and is not deleted.
async fn a_profile_uses_its_network_and_pool(cloud: &dyn Cloud) -> Outcome {
    let lxd = cloud.lxd(0);
    let none = [("ipv4.address", "none"), ("ipv6.address", "none")];
    define_network(cloud, "ctbr0").await?;
    lxd.create_network("default", &bridge("ctbr0", &none), None)
        .await?;
    pools::create(cloud, "ct-pool", &[]).await?;
    let mut both = profile(
        "ct-web",
        Some(("eth0", device(&[("type", "nic"), ("network", "ctbr0")]))),
    );
    both.devices.insert(
        "root".to_owned(),
        device(&[("type", "disk"), ("path", "/"), ("pool", "ct-pool")]),
    );
    let before = (
        lxd.network("default", "ctbr0", None).await?.etag,
        lxd.pool("ct-pool", None).await?.etag,
    );
    lxd.create_profile("default", &both).await?;
    let network = lxd.network("default", "ctbr0", None).await?;
    let pool = lxd.pool("ct-pool", None).await?;
    same(&network.value.used_by, &["/1.0/profiles/ct-web"])?;
    same(&pool.value.used_by, &["/1.0/profiles/ct-web"])?;
    same((network.etag, pool.etag), before)?;
    let deleted = lxd.delete_network("default", "ctbr0").await;
    fails(deleted, "Refused", "The network is currently in use")?;
    let deleted = lxd.delete_pool("ct-pool").await;
    fails(deleted, "Refused", "The storage pool is currently in use")?;
    lxd.delete_profile("default", "ct-web").await?;
    lxd.delete_network("default", "ctbr0").await?;
    lxd.delete_pool("ct-pool").await?;
    Ok(())
}

async fn a_project_with_profiles_has_its_own(cloud: &dyn Cloud) -> Outcome {
    let lxd = cloud.lxd(0);
    let project = ProjectCreate {
        name: "ct-p".to_owned(),
        ..ProjectCreate::default()
    };
    lxd.create_project(&project).await?;
    lxd.create_profile("ct-p", &profile("ct-web", None)).await?;
    let names = |all: Vec<Profile>| {
        let mut names: Vec<String> = all.into_iter().map(|p| p.name).collect();
        names.sort();
        names
    };
    same(names(lxd.profiles("ct-p").await?), ["ct-web", "default"])?;
    same(names(lxd.profiles("default").await?), ["default"])?;
    let used_by = lxd.project("ct-p").await?.value.used_by;
    same(
        super::check::sorted(&used_by),
        [
            "/1.0/profiles/ct-web?project=ct-p",
            "/1.0/profiles/default?project=ct-p",
        ],
    )?;
    let all = lxd.all_profiles().await?;
    let mut all: Vec<String> = all
        .into_iter()
        .map(|(p, f)| format!("{p}/{}", f.name))
        .collect();
    all.sort();
    same(all, ["ct-p/ct-web", "ct-p/default", "default/default"])
}

/// Reads and writes reach the profiles of the project `default`.
async fn a_project_without_profiles_uses_those_of_default(cloud: &dyn Cloud) -> Outcome {
    let lxd = cloud.lxd(0);
    let project = ProjectCreate {
        name: "ct-p".to_owned(),
        config: map(&[("features.profiles", "false")]),
        ..ProjectCreate::default()
    };
    lxd.create_project(&project).await?;
    lxd.create_profile("ct-p", &profile("ct-web", None)).await?;
    read(&lxd, "ct-web").await?;
    is(
        lxd.project("ct-p").await?.value.used_by.is_empty(),
        "it uses something",
    )
}
