//! The server's configuration in a cluster.

use super::check::{Outcome, fails, is, map, same};
use super::cloud::Cloud;
use super::{Assertion, assertions};
use microcloud::services::lxd::Lxd;
use std::collections::BTreeMap;

pub fn assertions() -> Vec<Assertion> {
    assertions![Cluster:
        server_patch_merges_and_an_empty_value_removes,
        server_put_resets_what_it_leaves_out_but_user_keys,
        server_put_needs_the_members_cluster_address,
        global_keys_are_everyones_and_own_keys_one_members,
        a_target_that_is_no_member_is_not_found,
        wrong_server_keys_are_refused,
        a_stale_server_etag_is_refused,
        a_secret_server_key_reads_back_as_true,
    ]
}

async fn config(lxd: &Lxd) -> Result<BTreeMap<String, String>, super::Failure> {
    Ok(lxd.server().await?.value.config_text())
}

async fn server_patch_merges_and_an_empty_value_removes(cloud: &dyn Cloud) -> Outcome {
    let lxd = cloud.lxd(0);
    let before = config(&lxd).await?;
    lxd.patch_server(
        &map(&[("user.a", "1"), ("cluster.offline_threshold", "30")]),
        None,
    )
    .await?;
    lxd.patch_server(&map(&[("user.b", "2")]), None).await?;
    let now = config(&lxd).await?;
    same(now.get("user.a").map(String::as_str), Some("1"))?;
    same(now.get("user.b").map(String::as_str), Some("2"))?;
    same(
        now.get("cluster.offline_threshold").map(String::as_str),
        Some("30"),
    )?;
    let remove = [
        ("user.a", ""),
        ("user.b", ""),
        ("cluster.offline_threshold", ""),
    ];
    lxd.patch_server(&map(&remove), None).await?;
    same(config(&lxd).await?, before)
}

/// `PUT` is a replacement for all keys but `user.*`: those stay.
async fn server_put_resets_what_it_leaves_out_but_user_keys(cloud: &dyn Cloud) -> Outcome {
    let lxd = cloud.lxd(0);
    let own = config(&lxd).await?;
    lxd.patch_server(
        &map(&[("user.a", "1"), ("cluster.offline_threshold", "30")]),
        None,
    )
    .await?;
    let read = lxd.server().await?;
    let mut put = own.clone();
    put.insert("user.b".to_owned(), "2".to_owned());
    lxd.put_server(&put, read.etag.as_deref(), None).await?;
    let mut wanted = put;
    wanted.insert("user.a".to_owned(), "1".to_owned());
    same(config(&lxd).await?, wanted)
}

async fn server_put_needs_the_members_cluster_address(cloud: &dyn Cloud) -> Outcome {
    let text = "Changing cluster.https_address is currently not supported";
    let lxd = cloud.lxd(0);
    let before = config(&lxd).await?;
    fails(
        lxd.put_server(&map(&[("user.a", "1")]), None, None).await,
        "Refused",
        text,
    )?;
    let other = cloud.host(1).name;
    let empty = BTreeMap::new();
    fails(
        lxd.put_server(&empty, None, Some(&other)).await,
        "Refused",
        text,
    )?;
    let move_it = map(&[("cluster.https_address", &cloud.host(3).address)]);
    fails(lxd.patch_server(&move_it, None).await, "Refused", text)?;
    same(config(&lxd).await?, before)
}

/// A target is a member, whose own keys are read and written; a global key written through it
/// is everyone's all the same. A member's own keys enter the ETag.
async fn global_keys_are_everyones_and_own_keys_one_members(cloud: &dyn Cloud) -> Outcome {
    let (lxd, host) = (cloud.lxd(0), cloud.host(1));
    let key = "core.https_address";
    let of = |server: &microcloud::services::lxd::types::Server| {
        server.config_text().get(key).cloned().unwrap_or_default()
    };
    let first = lxd.server().await?;
    let second = lxd.server_of(&host.name).await?;
    same(&second.value.environment.server_name, &host.name)?;
    same(&of(&second.value), &host.address)?;
    is(
        first.etag != second.etag,
        "the ETag is the same on both members",
    )?;

    lxd.patch_server(
        &map(&[(key, "[::]:8443"), ("user.a", "1")]),
        Some(&host.name),
    )
    .await?;
    let after = lxd.server().await?.value;
    same(of(&after), of(&first.value))?;
    same(
        after.config_text().get("user.a").map(String::as_str),
        Some("1"),
    )?;
    same(of(&cloud.lxd(1).server().await?.value), "[::]:8443")?;

    let read = lxd.server_of(&host.name).await?;
    let mut put = read.value.config_text();
    put.insert(key.to_owned(), host.address.clone());
    lxd.put_server(&put, read.etag.as_deref(), Some(&host.name))
        .await?;
    same(&of(&lxd.server_of(&host.name).await?.value), &host.address)
}

async fn a_target_that_is_no_member_is_not_found(cloud: &dyn Cloud) -> Outcome {
    let lxd = cloud.lxd(0);
    let text = "Cluster member not found";
    fails(lxd.server_of("nobody").await, "NotFound", text)?;
    let patched = lxd
        .patch_server(&map(&[("user.a", "1")]), Some("nobody"))
        .await;
    fails(patched, "NotFound", text)
}

async fn wrong_server_keys_are_refused(cloud: &dyn Cloud) -> Outcome {
    let lxd = cloud.lxd(0);
    let before = config(&lxd).await?;
    fails(
        lxd.patch_server(&map(&[("nonsense.key", "x"), ("user.a", "1")]), None)
            .await,
        "Refused",
        "cannot set 'nonsense.key' to 'x': unknown key",
    )?;
    fails(
        lxd.patch_server(&map(&[("cluster.offline_threshold", "2")]), None)
            .await,
        "Refused",
        "cannot set 'cluster.offline_threshold' to '2': Value must be greater than '10'",
    )?;
    same(config(&lxd).await?, before)
}

async fn a_stale_server_etag_is_refused(cloud: &dyn Cloud) -> Outcome {
    let lxd = cloud.lxd(0);
    let read = lxd.server().await?;
    lxd.patch_server(&map(&[("user.a", "1")]), None).await?;
    let put = lxd
        .put_server(&read.value.config_text(), read.etag.as_deref(), None)
        .await;
    fails(put, "Changed", "ETag doesn't match")
}

async fn a_secret_server_key_reads_back_as_true(cloud: &dyn Cloud) -> Outcome {
    let lxd = cloud.lxd(0);
    lxd.patch_server(&map(&[("core.trust_password", "hush")]), None)
        .await?;
    let server = lxd.server().await?.value;
    same(
        &server.config["core.trust_password"],
        &serde_json::Value::Bool(true),
    )
}
