//! Storage pools of a cluster: two phases, their states, what each write replaces.

use super::check::{Failure, Outcome, fails, is, map, same, sorted, value_of};
use super::cloud::Cloud;
use super::{Assertion, assertions};
use microcloud::services::lxd::{ObjectPut, PoolCreate};

pub fn assertions() -> Vec<Assertion> {
    assertions![Cluster:
        a_pool_starts_on_a_member,
        a_pool_phase_on_a_member_takes_its_own_keys_only,
        a_pool_is_pending_until_all_members_define_it,
        the_last_phase_of_a_pool_takes_global_keys_only,
        a_created_pool_shows_own_keys_with_a_target,
        a_created_pool_cannot_be_defined_again,
        a_pending_pool_can_be_deleted,
        a_pending_members_own_keys_can_be_changed,
        a_pool_that_fails_on_a_member_is_errored_and_can_be_mended,
        an_errored_pool_can_be_deleted,
        a_pool_put_replaces_the_global_keys,
        a_pool_put_with_a_target_erases_global_keys_it_leaves_out,
        a_stale_pool_etag_is_refused,
        a_pool_that_is_not_there_is_not_found,
        a_volume_is_of_one_member_and_stays_while_a_key_names_it,
    ]
}

pub fn dir(name: &str, config: &[(&str, &str)]) -> PoolCreate {
    PoolCreate {
        name: name.to_owned(),
        driver: "dir".to_owned(),
        description: String::new(),
        config: map(config),
    }
}

/// The first phase on all three members.
pub async fn define(cloud: &dyn Cloud, name: &str) -> Outcome {
    for member in cloud.members() {
        cloud
            .lxd(0)
            .create_pool(&dir(name, &[]), Some(&member))
            .await?;
    }
    Ok(())
}

/// Both phases.
pub async fn create(cloud: &dyn Cloud, name: &str, config: &[(&str, &str)]) -> Outcome {
    define(cloud, name).await?;
    cloud.lxd(0).create_pool(&dir(name, config), None).await?;
    Ok(())
}

fn put(config: &[(&str, &str)]) -> ObjectPut {
    ObjectPut {
        description: String::new(),
        config: map(config),
    }
}

async fn status(cloud: &dyn Cloud, target: Option<usize>) -> Result<String, Failure> {
    let target = target.map(|index| cloud.host(index).name);
    Ok(cloud
        .lxd(0)
        .pool("ct-pool", target.as_deref())
        .await?
        .value
        .status)
}

async fn a_pool_starts_on_a_member(cloud: &dyn Cloud) -> Outcome {
    let lxd = cloud.lxd(0);
    fails(
        lxd.create_pool(&dir("ct-pool", &[]), None).await,
        "Refused",
        "Pool not pending on any node (use --target <node> first)",
    )?;
    fails(
        lxd.create_pool(&dir("ct-pool", &[]), Some("nobody")).await,
        "NotFound",
        "Cluster member not found",
    )
}

/// Even `user.*` keys are global.
async fn a_pool_phase_on_a_member_takes_its_own_keys_only(cloud: &dyn Cloud) -> Outcome {
    let (lxd, host) = (cloud.lxd(0), cloud.host(0));
    for key in ["user.x", "rsync.bwlimit"] {
        fails(
            lxd.create_pool(&dir("ct-pool", &[(key, "1")]), Some(&host.name))
                .await,
            "Refused",
            &format!("Config key \"{key}\" may not be used as member-specific key"),
        )?;
    }
    fails(
        lxd.pool("ct-pool", None).await,
        "NotFound",
        "Storage pool not found",
    )
}

/// A pending pool has the members that defined it as locations; seen from another member its
/// status is `Unknown`. The phase can be sent to any member, once, with one driver. A description
/// given in it is lost.
async fn a_pool_is_pending_until_all_members_define_it(cloud: &dyn Cloud) -> Outcome {
    let lxd = cloud.lxd(0);
    let members = cloud.members();
    let mut first = dir("ct-pool", &[("source", "/var/tmp")]);
    first.description = "lost".to_owned();
    cloud.lxd(1).create_pool(&first, Some(&members[0])).await?;
    let pool = lxd.pool("ct-pool", None).await?.value;
    same(pool.status.as_str(), "Pending")?;
    same(pool.description.as_str(), "")?;
    same(&pool.locations, &members[..1])?;
    is(pool.config.is_empty(), format!("{:?}", pool.config))?;
    let pool = lxd.pool("ct-pool", Some(&members[0])).await?.value;
    same(&pool.config, &map(&[("source", "/var/tmp")]))?;
    same(status(cloud, Some(0)).await?.as_str(), "Pending")?;
    same(status(cloud, Some(1)).await?.as_str(), "Unknown")?;
    fails(
        lxd.create_pool(&dir("ct-pool", &[]), Some(&members[0]))
            .await,
        "Conflict",
        &format!(
            "The storage pool already defined on member \"{}\"",
            members[0]
        ),
    )?;
    let mut other = dir("ct-pool", &[]);
    other.driver = "btrfs".to_owned();
    fails(
        lxd.create_pool(&other, Some(&members[1])).await,
        "Conflict",
        "Storage pool already exists with a different driver",
    )?;
    // The names come in any order.
    let result = lxd.create_pool(&dir("ct-pool", &[]), None).await;
    let text = result
        .as_ref()
        .err()
        .map(ToString::to_string)
        .unwrap_or_default();
    fails(result, "Refused", "Pool not defined on nodes: ")?;
    is(
        text.contains(&members[1]) && text.contains(&members[2]),
        text,
    )?;
    fails(
        lxd.put_pool("ct-pool", &put(&[("user.a", "1")]), None, None)
            .await,
        "Refused",
        "Cannot update storage pool global config when not in created state",
    )?;
    same(status(cloud, None).await?.as_str(), "Pending")
}

async fn the_last_phase_of_a_pool_takes_global_keys_only(cloud: &dyn Cloud) -> Outcome {
    let lxd = cloud.lxd(0);
    define(cloud, "ct-pool").await?;
    fails(
        lxd.create_pool(&dir("ct-pool", &[("source", "/var/tmp")]), None)
            .await,
        "Refused",
        "Config key \"source\" is cluster member specific",
    )?;
    let mut other = dir("ct-pool", &[]);
    other.driver = "btrfs".to_owned();
    fails(
        lxd.create_pool(&other, None).await,
        "Refused",
        "Requested storage pool driver \"btrfs\" doesn't match driver in existing database record \
         \"dir\"",
    )?;
    same(status(cloud, None).await?.as_str(), "Pending")
}

async fn a_created_pool_shows_own_keys_with_a_target(cloud: &dyn Cloud) -> Outcome {
    define(cloud, "ct-pool").await?;
    let mut last = dir("ct-pool", &[("rsync.bwlimit", "10"), ("user.a", "1")]);
    last.description = "the pool".to_owned();
    cloud.lxd(1).create_pool(&last, None).await?;
    for index in 0..3 {
        let pool = cloud.lxd(index).pool("ct-pool", None).await?.value;
        same(pool.status.as_str(), "Created")?;
        same(pool.driver.as_str(), "dir")?;
        same(pool.description.as_str(), "the pool")?;
        same(&pool.config, &last.config)?;
        // In any order, another one each time.
        same(sorted(&pool.locations), sorted(&cloud.members()))?;
        let name = cloud.host(index).name;
        let pool = cloud.lxd(0).pool("ct-pool", Some(&name)).await?.value;
        same(pool.status.as_str(), "Created")?;
        same(pool.config.get("user.a").map(String::as_str), Some("1"))?;
        let source = pool.config.get("source").cloned().unwrap_or_default();
        is(
            source.ends_with("/storage-pools/ct-pool"),
            format!("source is {source:?}"),
        )?;
    }
    let listed = cloud.lxd(2).pools().await?;
    same(listed.len(), 1)?;
    same(&listed[0].config, &last.config)
}

async fn a_created_pool_cannot_be_defined_again(cloud: &dyn Cloud) -> Outcome {
    let (lxd, host) = (cloud.lxd(0), cloud.host(0));
    create(cloud, "ct-pool", &[]).await?;
    fails(
        lxd.create_pool(&dir("ct-pool", &[]), None).await,
        "Conflict",
        "The storage pool is already created",
    )?;
    fails(
        lxd.create_pool(&dir("ct-pool", &[]), Some(&host.name))
            .await,
        "Conflict",
        "Storage pool is not in pending state",
    )
}

async fn a_pending_pool_can_be_deleted(cloud: &dyn Cloud) -> Outcome {
    let (lxd, host) = (cloud.lxd(0), cloud.host(1));
    lxd.create_pool(&dir("ct-pool", &[]), Some(&host.name))
        .await?;
    lxd.delete_pool("ct-pool").await?;
    fails(
        lxd.pool("ct-pool", None).await,
        "NotFound",
        "Storage pool not found",
    )
}

async fn a_pending_members_own_keys_can_be_changed(cloud: &dyn Cloud) -> Outcome {
    let (lxd, host) = (cloud.lxd(0), cloud.host(1));
    lxd.create_pool(
        &dir("ct-pool", &[("source", "/nonexistent")]),
        Some(&host.name),
    )
    .await?;
    lxd.put_pool("ct-pool", &put(&[]), None, Some(&host.name))
        .await?;
    let pool = lxd.pool("ct-pool", Some(&host.name)).await?.value;
    is(pool.config.is_empty(), format!("{:?}", pool.config))?;
    same(pool.status.as_str(), "Pending")
}

/// `Errored` keeps the global keys of the first attempt; members that did their part are
/// `Created`, the others `Pending`. Repeating takes no global keys, and its description replaces
/// the pool's. A wrong key of a member is changed with a target, repeating the global keys.
async fn a_pool_that_fails_on_a_member_is_errored_and_can_be_mended(cloud: &dyn Cloud) -> Outcome {
    let lxd = cloud.lxd(0);
    let members = cloud.members();
    for (member, source) in members.iter().zip(["", "", "/nonexistent"]) {
        lxd.create_pool(&dir("ct-pool", &[("source", source)]), Some(member))
            .await?;
    }
    let mut last = dir("ct-pool", &[("user.a", "1")]);
    last.description = "the pool".to_owned();
    fails(
        lxd.create_pool(&last, None).await,
        "Refused",
        &format!(
            "failed to notify peer {}: Source path '/nonexistent' doesn't exist",
            cloud.host(2).address
        ),
    )?;
    let pool = lxd.pool("ct-pool", None).await?.value;
    same(pool.status.as_str(), "Errored")?;
    same(pool.description.as_str(), "the pool")?;
    same(&pool.config, &last.config)?;
    same(status(cloud, Some(0)).await?.as_str(), "Created")?;
    same(status(cloud, Some(2)).await?.as_str(), "Pending")?;
    fails(
        lxd.create_pool(&last, None).await,
        "Refused",
        "Storage pool already partially created. Please do not specify any global config when \
         re-running create",
    )?;
    fails(
        lxd.create_pool(&dir("ct-pool", &[]), Some(&members[2]))
            .await,
        "Conflict",
        "Storage pool is not in pending state",
    )?;
    fails(
        lxd.put_pool("ct-pool", &put(&[("user.a", "2")]), None, None)
            .await,
        "Refused",
        "Cannot update storage pool global config when not in created state",
    )?;
    fails(
        lxd.create_pool(&dir("ct-pool", &[]), None).await,
        "Refused",
        "Source path '/nonexistent' doesn't exist",
    )?;
    same(status(cloud, None).await?.as_str(), "Errored")?;
    lxd.put_pool("ct-pool", &put(&[("user.a", "1")]), None, Some(&members[2]))
        .await?;
    let mut again = dir("ct-pool", &[]);
    again.description = "again".to_owned();
    lxd.create_pool(&again, None).await?;
    let pool = lxd.pool("ct-pool", None).await?.value;
    same(pool.status.as_str(), "Created")?;
    same(pool.description.as_str(), "again")?;
    same(&pool.config, &map(&[("user.a", "1")]))?;
    same(status(cloud, Some(2)).await?.as_str(), "Created")
}

async fn an_errored_pool_can_be_deleted(cloud: &dyn Cloud) -> Outcome {
    let lxd = cloud.lxd(0);
    for (member, source) in cloud.members().iter().zip(["", "", "/nonexistent"]) {
        lxd.create_pool(&dir("ct-pool", &[("source", source)]), Some(member))
            .await?;
    }
    fails(
        lxd.create_pool(&dir("ct-pool", &[]), None).await,
        "Refused",
        "doesn't exist",
    )?;
    lxd.delete_pool("ct-pool").await?;
    fails(
        lxd.pool("ct-pool", None).await,
        "NotFound",
        "Storage pool not found",
    )?;
    // Nothing is left in the way.
    create(cloud, "ct-pool", &[]).await
}

async fn a_pool_put_replaces_the_global_keys(cloud: &dyn Cloud) -> Outcome {
    let lxd = cloud.lxd(0);
    create(
        cloud,
        "ct-pool",
        &[("rsync.bwlimit", "10"), ("user.a", "1")],
    )
    .await?;
    let host = cloud.host(1).name;
    let own = value_of(
        &lxd.pool("ct-pool", Some(&host)).await?.value.config,
        "source",
    )?;
    let mut change = put(&[("user.a", "2"), ("user.b", "")]);
    change.description = "changed".to_owned();
    cloud
        .lxd(2)
        .put_pool("ct-pool", &change, None, None)
        .await?;
    let pool = lxd.pool("ct-pool", None).await?.value;
    same(&pool.config, &map(&[("user.a", "2")]))?;
    same(pool.description.as_str(), "changed")?;
    let pool = lxd.pool("ct-pool", Some(&host)).await?.value;
    same(
        &pool.config,
        &map(&[("source", own.as_str()), ("user.a", "2")]),
    )?;
    for (key, text) in [
        ("source", "Config key \"source\" is cluster member specific"),
        ("bad", "Invalid option \"bad\""),
    ] {
        let wrong = lxd
            .put_pool("ct-pool", &put(&[(key, "/x")]), None, None)
            .await;
        fails(wrong, "Refused", text)?;
    }
    Ok(())
}

/// With a target, `PUT` takes the member's own keys, all of them, and the global keys unchanged:
/// a changed one is refused, one that is left out is erased for all members.
async fn a_pool_put_with_a_target_erases_global_keys_it_leaves_out(cloud: &dyn Cloud) -> Outcome {
    let (lxd, host) = (cloud.lxd(0), cloud.host(1).name);
    create(cloud, "ct-pool", &[("user.a", "1"), ("user.b", "1")]).await?;
    let own = value_of(
        &lxd.pool("ct-pool", Some(&host)).await?.value.config,
        "source",
    )?;
    fails(
        lxd.put_pool(
            "ct-pool",
            &put(&[("user.a", "2"), ("source", &own)]),
            None,
            Some(&host),
        )
        .await,
        "Refused",
        "Config key \"user.a\" may not be used as cluster member specific key",
    )?;
    fails(
        lxd.put_pool("ct-pool", &put(&[("source", "/x")]), None, Some(&host))
            .await,
        "Refused",
        "Pool source cannot be changed when not in pending state",
    )?;
    lxd.put_pool(
        "ct-pool",
        &put(&[("user.a", "1"), ("source", &own)]),
        None,
        Some(&host),
    )
    .await?;
    let pool = lxd.pool("ct-pool", None).await?.value;
    same(&pool.config, &map(&[("user.a", "1")]))
}

/// Without a target the ETag is the same on all members; with one it is another one.
async fn a_stale_pool_etag_is_refused(cloud: &dyn Cloud) -> Outcome {
    let lxd = cloud.lxd(0);
    create(cloud, "ct-pool", &[]).await?;
    let seen = lxd.pool("ct-pool", None).await?.etag;
    same(cloud.lxd(1).pool("ct-pool", None).await?.etag, seen.clone())?;
    let host = cloud.host(1).name;
    let own = lxd.pool("ct-pool", Some(&host)).await?.etag;
    is(own != seen, "a target does not change the ETag")?;
    let change = put(&[("user.a", "1")]);
    cloud
        .lxd(1)
        .put_pool("ct-pool", &change, seen.as_deref(), None)
        .await?;
    let stale = lxd
        .put_pool("ct-pool", &change, seen.as_deref(), None)
        .await;
    fails(stale, "Changed", "ETag doesn't match")
}

async fn a_pool_that_is_not_there_is_not_found(cloud: &dyn Cloud) -> Outcome {
    let lxd = cloud.lxd(0);
    let text = "Storage pool not found";
    fails(lxd.pool("ct-no", None).await, "NotFound", text)?;
    fails(
        lxd.put_pool("ct-no", &put(&[]), None, None).await,
        "NotFound",
        text,
    )?;
    fails(lxd.delete_pool("ct-no").await, "NotFound", text)
}

/// On each member there may be one of the same name; what uses the pool tells them apart. A member's
/// key names only one that is there, and only a member's own is looked for.
async fn a_volume_is_of_one_member_and_stays_while_a_key_names_it(cloud: &dyn Cloud) -> Outcome {
    let lxd = cloud.lxd(0);
    create(cloud, "ct-pool", &[]).await?;
    let (first, second) = (cloud.host(0).name, cloud.host(1).name);
    let key = "storage.images_volume";
    let name = async |value: &str| {
        let keys = map(&[(key, value)]);
        lxd.patch_server(&keys, Some(&second)).await
    };
    lxd.create_volume("ct-pool", "images", &first).await?;
    let missing = name("ct-pool/images").await;
    is(
        missing.is_err_and(|e| e.to_string().contains("Storage volume not found")),
        "a volume of another member was taken",
    )?;
    lxd.create_volume("ct-pool", "images", &second).await?;
    fails(
        lxd.create_volume("ct-pool", "images", &second).await,
        "Conflict",
        "already exists",
    )?;
    let url =
        |member: &str| format!("/1.0/storage-pools/ct-pool/volumes/custom/images?target={member}");
    let users = lxd.pool("ct-pool", None).await?.value.used_by;
    same(sorted(&users), sorted(&[url(&first), url(&second)]))?;
    name("ct-pool/images").await?;
    let own = lxd.server_of(&second).await?.value.config_text();
    same(value_of(&own, key)?, "ct-pool/images")?;
    fails(
        lxd.delete_volume("ct-pool", "images", &second).await,
        "Refused",
        "still in use",
    )?;
    name("").await?;
    for member in [&second, &first] {
        lxd.delete_volume("ct-pool", "images", member).await?;
    }
    fails(
        lxd.delete_volume("ct-pool", "images", &first).await,
        "NotFound",
        "not found",
    )
}
