//! Projects, and the one that is the controller's store.

use super::check::{Outcome, fails, is, map, same};
use super::cloud::Cloud;
use super::sweep::STORE;
use super::{Assertion, assertions};
use microcloud::services::lxd::types::Profile;
use microcloud::services::lxd::{Method, ObjectPut, ProjectCreate};
use serde_json::json;

pub fn assertions() -> Vec<Assertion> {
    assertions![Cluster:
        a_project_gets_the_features_it_does_not_name,
        projects_of_one_name_conflict,
        wrong_project_keys_are_refused,
        a_project_put_without_features_switches_them_off,
        a_project_put_of_what_was_read_changes_only_what_it_changes,
        a_project_patch_takes_features_out_of_its_body_alone,
        the_stores_project_must_name_its_features_on_every_put,
        the_store_is_written_whole_with_an_etag,
        only_an_empty_project_can_be_deleted,
    ]
}

fn project(config: &[(&str, &str)]) -> ProjectCreate {
    ProjectCreate {
        name: "ct-p".to_owned(),
        description: "a project".to_owned(),
        config: map(config),
    }
}

fn put(config: &[(&str, &str)]) -> ObjectPut {
    ObjectPut {
        description: String::new(),
        config: map(config),
    }
}

/// Networks are not among them: a project has its own only when it says so.
async fn a_project_gets_the_features_it_does_not_name(cloud: &dyn Cloud) -> Outcome {
    let lxd = cloud.lxd(0);
    lxd.create_project(&project(&[("features.images", "false"), ("user.a", "1")]))
        .await?;
    let created = cloud.lxd(1).project("ct-p").await?.value;
    same(created.description.as_str(), "a project")?;
    same(
        &created.config,
        &map(&[
            ("features.images", "false"),
            ("features.profiles", "true"),
            ("features.storage.volumes", "true"),
            ("user.a", "1"),
        ]),
    )?;
    same(&created.used_by, &["/1.0/profiles/default?project=ct-p"])
}

async fn projects_of_one_name_conflict(cloud: &dyn Cloud) -> Outcome {
    let lxd = cloud.lxd(0);
    lxd.create_project(&project(&[])).await?;
    fails(
        lxd.create_project(&project(&[])).await,
        "Conflict",
        "already exists",
    )
}

async fn wrong_project_keys_are_refused(cloud: &dyn Cloud) -> Outcome {
    let lxd = cloud.lxd(0);
    let text = "Invalid project configuration key \"bad\"";
    fails(
        lxd.create_project(&project(&[("bad", "1")])).await,
        "Refused",
        text,
    )?;
    lxd.create_project(&project(&[])).await?;
    fails(
        lxd.put_project("ct-p", &put(&[("bad", "1")]), None).await,
        "Refused",
        text,
    )?;
    for (name, text) in [
        ("a/b", "Project names may not contain slashes"),
        ("a b", "Project names may not contain spaces"),
        ("*", "Reserved project name"),
    ] {
        let wrong = ProjectCreate {
            name: name.to_owned(),
            ..ProjectCreate::default()
        };
        fails(lxd.create_project(&wrong).await, "Refused", text)?;
    }
    fails(lxd.project("ct-no").await, "NotFound", "Project not found")?;
    let missing = lxd.put_project("ct-no", &put(&[]), None).await;
    fails(missing, "NotFound", "Project not found")
}

/// Its own `default` profile is deleted with them, and the project shows those of `default`.
async fn a_project_put_without_features_switches_them_off(cloud: &dyn Cloud) -> Outcome {
    let lxd = cloud.lxd(0);
    lxd.create_project(&project(&[])).await?;
    lxd.put_project("ct-p", &put(&[("user.a", "1")]), None)
        .await?;
    let now = lxd.project("ct-p").await?.value;
    same(&now.config, &map(&[("user.a", "1")]))?;
    same(now.description.as_str(), "")?;
    is(now.used_by.is_empty(), format!("{:?}", now.used_by))
}

async fn a_project_put_of_what_was_read_changes_only_what_it_changes(cloud: &dyn Cloud) -> Outcome {
    let lxd = cloud.lxd(0);
    lxd.create_project(&project(&[("user.a", "1"), ("user.b", "1")]))
        .await?;
    let read = lxd.project("ct-p").await?;
    let mut change = ObjectPut {
        description: read.value.description.clone(),
        config: read.value.config.clone(),
    };
    change.config.insert("user.a".to_owned(), "2".to_owned());
    change.config.remove("user.b");
    lxd.put_project("ct-p", &change, read.etag.as_deref())
        .await?;
    let now = lxd.project("ct-p").await?.value;
    same(&now.config, &change.config)?;
    same(&now.used_by, &read.value.used_by)?;
    let stale = lxd.put_project("ct-p", &change, read.etag.as_deref()).await;
    fails(stale, "Changed", "ETag doesn't match")
}

/// So `PATCH` is not a way to change one key of a project: it switches features off as `PUT` does,
/// keeps nothing, and fails where there is no `default` profile to delete.
async fn a_project_patch_takes_features_out_of_its_body_alone(cloud: &dyn Cloud) -> Outcome {
    let lxd = cloud.lxd(0);
    lxd.create_project(&project(&[("user.a", "1")])).await?;
    let patch = json!({"config": {"user.b": "2"}});
    let path = "/1.0/projects/ct-p";
    same(
        cloud
            .raw(0, Method::Patch, path, patch.clone())
            .await?
            .status,
        200,
    )?;
    let now = lxd.project("ct-p").await?.value;
    is(
        !now.config.contains_key("features.profiles"),
        format!("{:?}", now.config),
    )?;
    same(now.config.get("user.b").map(String::as_str), Some("2"))?;
    let answer = cloud
        .raw(0, Method::Patch, &format!("/1.0/projects/{STORE}"), patch)
        .await?;
    same(answer.status, 404)?;
    let text = answer.body["error"].as_str().unwrap_or_default();
    same(text, "Delete project default profile: Profile not found")
}

/// A `PUT` without `features.profiles` would switch it off a second time, which fails with a 404
/// that does not speak of the project.
async fn the_stores_project_must_name_its_features_on_every_put(cloud: &dyn Cloud) -> Outcome {
    let lxd = cloud.lxd(0);
    let before = lxd.project(STORE).await?.value;
    same(
        before.config.get("features.profiles").map(String::as_str),
        Some("false"),
    )?;
    fails(
        lxd.put_project(STORE, &put(&[("user.microcloud.a", "2")]), None)
            .await,
        "Refused",
        "Delete project default profile: Profile not found",
    )?;
    same(lxd.project(STORE).await?.value, before)
}

/// 200 keys of 1 kB in one `PUT`, read back on another member; a stale ETag changes nothing.
async fn the_store_is_written_whole_with_an_etag(cloud: &dyn Cloud) -> Outcome {
    let (lxd, other) = (cloud.lxd(0), cloud.lxd(1));
    let read = lxd.project(STORE).await?;
    let before = ObjectPut {
        description: read.value.description,
        config: read.value.config,
    };
    let mut change = before.clone();
    for i in 0..200 {
        change
            .config
            .insert(format!("user.microcloud.k{i}"), "x".repeat(1000));
    }
    lxd.put_project(STORE, &change, read.etag.as_deref())
        .await?;
    let now = other.project(STORE).await?;
    same(now.value.config == change.config, true)?;
    let stale = other
        .put_project(STORE, &before, read.etag.as_deref())
        .await;
    fails(stale, "Changed", "ETag doesn't match")?;
    other
        .put_project(STORE, &before, now.etag.as_deref())
        .await?;
    let now = lxd.project(STORE).await?;
    same(&now.value.config, &before.config)?;
    // The ETag is of the content.
    same(now.etag, read.etag)
}

/// Its own `default` profile does not count.
async fn only_an_empty_project_can_be_deleted(cloud: &dyn Cloud) -> Outcome {
    let lxd = cloud.lxd(0);
    lxd.create_project(&project(&[])).await?;
    let web = Profile {
        name: "ct-web".to_owned(),
        ..Profile::default()
    };
    lxd.create_profile("ct-p", &web).await?;
    let deleted = lxd.delete_project("ct-p").await;
    fails(deleted, "Refused", "Only empty projects can be removed")?;
    lxd.delete_profile("ct-p", "ct-web").await?;
    lxd.delete_project("ct-p").await?;
    fails(
        lxd.delete_project("ct-p").await,
        "NotFound",
        "Project not found",
    )?;
    fails(
        lxd.delete_project("default").await,
        "Refused",
        "The 'default' project cannot be deleted",
    )
}
