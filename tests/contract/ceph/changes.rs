//! What Ceph is told, and what it refuses.

use super::{Assertion, CephCloud, assertions, number, refused};
use crate::check::{Failure, Outcome, is, same};
use microcloud::services::ceph::{Command, Look};
use serde_json::Value;

pub fn assertions() -> Vec<Assertion> {
    assertions![
        an_unknown_option_and_a_value_that_is_no_number_are_not_valid,
        the_configuration_has_no_epoch_of_its_own,
        a_rule_is_made_once_and_moves_the_epoch,
        a_rule_needs_a_root_and_a_type_that_there_are,
        a_pool_is_made_once_with_the_copies_that_are_usual,
        a_pool_needs_a_rule_that_there_is,
        the_least_number_of_copies_follows_the_number_of_copies,
        copies_are_between_one_and_ten_and_one_must_be_allowed,
        what_is_set_needs_a_pool_and_a_rule_that_there_are,
        a_pool_has_one_application_unless_it_is_meant,
        what_a_pool_is_for_is_taken_back_when_that_is_meant,
        a_pool_goes_only_when_that_is_allowed_and_meant,
        a_file_system_needs_its_pools_and_keeps_them,
        a_key_stays_the_same_and_its_capabilities_too,
        taking_away_a_monitor_that_is_not_there_is_no_error,
        hosts_move_into_racks_and_back,
        an_osd_that_is_set_out_stays_up,
        an_osd_that_works_is_not_purged,
        what_would_lose_data_is_not_safe,
    ]
}

fn set_config(name: &str, value: &str) -> Command {
    Command::new("config set")
        .with("who", "global")
        .with("name", name)
        .with("value", value)
}

fn set_pool(pool: &str, key: &str, value: &str) -> Command {
    Command::new("osd pool set")
        .with("pool", pool)
        .with("var", key)
        .with("val", value)
}

/// A small pool; the rule stands where the command line has it.
fn make_pool(pool: &str, rule: &str) -> Command {
    Command::new("osd pool create")
        .with("pool", pool)
        .with("pg_num", 1)
        .with("pool_type", "replicated")
        .with("erasure_code_profile", rule)
}

fn delete(pool: &str) -> Command {
    Command::new("osd pool delete")
        .with("pool", pool)
        .with("pool2", pool)
        .with("yes_i_really_really_mean_it", true)
}

/// Deletes a pool, though that is not allowed.
async fn drop_pool(cloud: &dyn CephCloud, pool: &str) -> Outcome {
    cloud
        .run(set_config("mon_allow_pool_delete", "true"))
        .await?;
    let deleted = cloud.run(delete(pool)).await;
    let key = Command::new("config rm")
        .with("who", "global")
        .with("name", "mon_allow_pool_delete");
    cloud.run(key).await?;
    deleted
}

async fn pool(cloud: &dyn CephCloud, name: &str) -> Result<Value, Failure> {
    let dump = cloud.ask("osd dump").await?;
    let pools = dump["pools"].as_array().cloned().unwrap_or_default();
    let found = pools.into_iter().find(|p| p["pool_name"] == name);
    found.ok_or_else(|| Failure::new(format!("there is no pool {name}")))
}

async fn an_unknown_option_and_a_value_that_is_no_number_are_not_valid(
    cloud: &dyn CephCloud,
) -> Outcome {
    let ceph = cloud.first();
    let unknown = ceph.run(&set_config("contract_none", "1")).await;
    refused(unknown, 22, "unrecognized config option 'contract_none'")?;
    let word = ceph.run(&set_config("osd_pool_default_size", "many")).await;
    refused(word, 22, "error parsing value")?;
    // What is not set can be removed.
    let none = Command::new("config rm")
        .with("who", "global")
        .with("name", "osd_pool_default_min_size");
    cloud.run(none).await
}

async fn the_configuration_has_no_epoch_of_its_own(cloud: &dyn CephCloud) -> Outcome {
    let before = cloud.ask("status").await?;
    cloud
        .run(set_config("osd_pool_default_pg_num", "16"))
        .await?;
    let after = cloud.ask("status").await?;
    let rm = Command::new("config rm")
        .with("who", "global")
        .with("name", "osd_pool_default_pg_num");
    cloud.run(rm).await?;
    for pointer in ["/monmap/epoch", "/election_epoch", "/fsmap/epoch"] {
        same(number(&after, pointer)?, number(&before, pointer)?)?;
    }
    Ok(())
}

async fn a_rule_is_made_once_and_moves_the_epoch(cloud: &dyn CephCloud) -> Outcome {
    let before = cloud.epoch().await?;
    let ceph = cloud.first();
    ceph.create_rule("contract", "osd").await?;
    let made = cloud.epoch().await?;
    is(made > before, "the epoch stayed")?;
    ceph.create_rule("contract", "host").await?;
    let seen = Look::default().look(&ceph).await?;
    let kind = seen.rules.get("contract").map(|r| r.failure_domain.clone());
    cloud
        .run(Command::new("osd crush rule rm").with("name", "contract"))
        .await?;
    same(kind.as_deref(), Some("osd"))
}

async fn a_rule_needs_a_root_and_a_type_that_there_are(cloud: &dyn CephCloud) -> Outcome {
    let rule = |root: &str, kind: &str| {
        Command::new("osd crush rule create-replicated")
            .with("name", "contract")
            .with("root", root)
            .with("type", kind)
    };
    let ceph = cloud.first();
    refused(ceph.run(&rule("nowhere", "host")).await, 2, "nowhere")?;
    refused(ceph.run(&rule("default", "planet")).await, 22, "planet")
}

async fn a_pool_is_made_once_with_the_copies_that_are_usual(cloud: &dyn CephCloud) -> Outcome {
    let before = cloud.epoch().await?;
    cloud.run(make_pool("contract", "replicated_rule")).await?;
    cloud.run(make_pool("contract", "replicated_rule")).await?;
    let made = pool(cloud, "contract").await;
    let after = cloud.epoch().await?;
    drop_pool(cloud, "contract").await?;
    let made = made?;
    is(after > before, "the epoch stayed")?;
    same((&made["size"], &made["min_size"]), (&3.into(), &2.into()))?;
    same(number(&made, "/pg_num")?, 1)?;
    same(number(&made, "/crush_rule")?, 0)
}

async fn a_pool_needs_a_rule_that_there_is(cloud: &dyn CephCloud) -> Outcome {
    let answer = cloud.first().run(&make_pool("contract", "no-such")).await;
    refused(answer, 2, "specified rule no-such doesn't exist")
}

async fn the_least_number_of_copies_follows_the_number_of_copies(cloud: &dyn CephCloud) -> Outcome {
    cloud.run(make_pool("contract", "replicated_rule")).await?;
    let mut seen = Vec::new();
    for size in ["2", "3"] {
        cloud.run(set_pool("contract", "size", size)).await?;
        let pool = pool(cloud, "contract").await?;
        seen.push((number(&pool, "/size")?, number(&pool, "/min_size")?));
    }
    drop_pool(cloud, "contract").await?;
    same(seen, [(2, 1), (3, 2)])
}

async fn copies_are_between_one_and_ten_and_one_must_be_allowed(cloud: &dyn CephCloud) -> Outcome {
    cloud.run(make_pool("contract", "replicated_rule")).await?;
    let ceph = cloud.first();
    let eleven = ceph.run(&set_pool("contract", "size", "11")).await;
    let one = ceph.run(&set_pool("contract", "size", "1")).await;
    drop_pool(cloud, "contract").await?;
    refused(eleven, 22, "pool size must be between 1 and 10")?;
    refused(one, 1, "configuring pool size as 1 is disabled by default")
}

async fn what_is_set_needs_a_pool_and_a_rule_that_there_are(cloud: &dyn CephCloud) -> Outcome {
    let ceph = cloud.first();
    let none = ceph.run(&set_pool("contract-none", "size", "2")).await;
    refused(none, 2, "unrecognized pool 'contract-none'")?;
    cloud.run(make_pool("contract", "replicated_rule")).await?;
    let rule = ceph
        .run(&set_pool("contract", "crush_rule", "no-such"))
        .await;
    drop_pool(cloud, "contract").await?;
    refused(rule, 2, "crush rule no-such does not exist")
}

async fn a_pool_has_one_application_unless_it_is_meant(cloud: &dyn CephCloud) -> Outcome {
    let enable = |app: &str| {
        Command::new("osd pool application enable")
            .with("pool", "contract")
            .with("app", app)
    };
    cloud.run(make_pool("contract", "replicated_rule")).await?;
    let ceph = cloud.first();
    let first = ceph.run(&enable("rbd")).await;
    let again = ceph.run(&enable("rbd")).await;
    let second = ceph.run(&enable("cephfs")).await;
    drop_pool(cloud, "contract").await?;
    first?;
    again?;
    refused(second, 1, "already has an enabled application")
}

async fn what_a_pool_is_for_is_taken_back_when_that_is_meant(cloud: &dyn CephCloud) -> Outcome {
    let of = |prefix: &str| {
        Command::new(prefix)
            .with("pool", "contract")
            .with("app", "rbd")
    };
    cloud.run(make_pool("contract", "replicated_rule")).await?;
    let ceph = cloud.first();
    let enabled = ceph.run(&of("osd pool application enable")).await;
    let disable = of("osd pool application disable");
    let not_meant = ceph.run(&disable).await;
    let meant = disable.clone().with("yes_i_really_mean_it", true);
    let disabled = ceph.run(&meant).await;
    let seen = cloud.ask("osd dump").await;
    drop_pool(cloud, "contract").await?;
    enabled?;
    refused(not_meant, 1, "Are you SURE?")?;
    disabled?;
    let seen = seen?;
    let mut pools = seen["pools"].as_array().into_iter().flatten();
    let pool = pools.find(|pool| pool["pool_name"] == "contract");
    same(
        pool.map(|pool| pool["application_metadata"].clone()),
        Some(serde_json::json!({})),
    )
}

async fn a_pool_goes_only_when_that_is_allowed_and_meant(cloud: &dyn CephCloud) -> Outcome {
    cloud.run(make_pool("contract", "replicated_rule")).await?;
    let ceph = cloud.first();
    let forbidden = ceph.run(&delete("contract")).await;
    let once = Command::new("osd pool delete").with("pool", "contract");
    let not_meant = ceph.run(&once).await;
    drop_pool(cloud, "contract").await?;
    refused(forbidden, 1, "pool deletion is disabled")?;
    refused(not_meant, 1, "PERMANENTLY DESTROY")?;
    // One that is not there is gone already.
    cloud.run(delete("contract")).await
}

async fn a_file_system_needs_its_pools_and_keeps_them(cloud: &dyn CephCloud) -> Outcome {
    let make = |name: &str, data: &str| {
        Command::new("fs new")
            .with("fs_name", name)
            .with("metadata", "contract-meta")
            .with("data", data)
    };
    let ceph = cloud.first();
    let without = ceph.run(&make("contract", "contract-data")).await;
    refused(without, 2, "does not exist")?;
    let seen = Look::default().look(&ceph).await?;
    let Some(fs) = seen.filesystems.first() else {
        return Err(Failure::new("there is no file system"));
    };
    let name = |id: i64| {
        let found = seen.pools.iter().find(|(_, p)| p.id == id);
        found.map(|(name, _)| name.clone()).unwrap_or_default()
    };
    let (metadata, data) = (name(fs.metadata_pool), name(fs.data_pools[0]));
    // The same once more is done already.
    ceph.create_filesystem(&fs.name, &metadata, &data).await?;
    cloud
        .run(set_config("mon_allow_pool_delete", "true"))
        .await?;
    let deleted = ceph.run(&delete(&data)).await;
    let rm = Command::new("config rm")
        .with("who", "global")
        .with("name", "mon_allow_pool_delete");
    cloud.run(rm).await?;
    refused(deleted, 16, "in use by CephFS")
}

async fn a_key_stays_the_same_and_its_capabilities_too(cloud: &dyn CephCloud) -> Outcome {
    let ceph = cloud.first();
    let caps = [("mon", "allow r")];
    let first = ceph.keyring("client.contract", &caps).await?;
    let again = ceph.keyring("client.contract", &caps).await?;
    let other = ceph.keyring("client.contract", &[("mon", "allow *")]).await;
    let existing = ceph.existing_keyring("client.contract").await;
    cloud
        .run(Command::new("auth rm").with("entity", "client.contract"))
        .await?;
    is(first == again, "the key changed")?;
    is(
        first.starts_with("[client.contract]\n\tkey = AQ"),
        "it has another form",
    )?;
    is(
        existing?.contains("caps mon = \"allow r\""),
        "the capabilities are not told",
    )?;
    refused(other, 22, "exists but cap mon does not match")
}

async fn taking_away_a_monitor_that_is_not_there_is_no_error(cloud: &dyn CephCloud) -> Outcome {
    let before = cloud.ask("mon dump").await?;
    cloud.first().remove_monitor("contract-none").await?;
    let after = cloud.ask("mon dump").await?;
    same(number(&after, "/epoch")?, number(&before, "/epoch")?)
}

async fn hosts_move_into_racks_and_back(cloud: &dyn CephCloud) -> Outcome {
    let ceph = cloud.first();
    let host = cloud.hosts()[0].clone();
    let before = Look::default().look(&ceph).await?;
    let home = before.hosts.get(&host).cloned().flatten();
    let epoch = cloud.epoch().await?;
    ceph.move_host(&host, "contract").await?;
    ceph.move_host(&host, "contract").await?;
    let seen = Look::default().look(&ceph).await?;
    is(cloud.epoch().await? > epoch, "the epoch stayed")?;
    let moved = seen.hosts.get(&host).cloned().flatten();
    let to = |name: &str, place: String| {
        Command::new("osd crush move")
            .with("name", name)
            .with("args", vec![place])
    };
    let back = match &home {
        Some(rack) => format!("rack={rack}"),
        None => "root=default".to_owned(),
    };
    cloud.run(to(&host, back)).await?;
    cloud
        .run(Command::new("osd crush rm").with("name", "contract"))
        .await?;
    same(moved.as_deref(), Some("contract"))?;
    let none = ceph.run(&to("contract-none", "root=default".into())).await;
    refused(none, 2, "contract-none")
}

async fn an_osd_that_is_set_out_stays_up(cloud: &dyn CephCloud) -> Outcome {
    let (id, _) = cloud.osds().await?.swap_remove(0);
    let mark = |prefix: &str| Command::new(prefix).with("ids", vec![id.to_string()]);
    let before = cloud.epoch().await?;
    cloud.run(mark("osd out")).await?;
    let seen = Look::default().look(&cloud.first()).await;
    let after = cloud.epoch().await?;
    cloud.run(mark("osd in")).await?;
    let seen = seen?;
    same((seen.osds[&id].up, seen.osds[&id].in_), (true, false))?;
    is(after > before, "the epoch stayed")
}

async fn an_osd_that_works_is_not_purged(cloud: &dyn CephCloud) -> Outcome {
    let (id, _) = cloud.osds().await?.swap_remove(0);
    let ceph = cloud.first();
    // Only the manager takes it.
    let asked = Command::new("osd purge").with("id", id);
    refused(ceph.run(&asked).await, 22, "")?;
    let purge = Command::to_mgr("osd purge").with("id", id);
    refused(ceph.run(&purge).await, 16, "pgs currently mapped")?;
    // Who means it is not asked whether it is safe: only that it is down is looked at.
    let purge = purge.with("yes_i_really_mean_it", true);
    refused(ceph.run(&purge).await, 16, "is not `down`")
}

async fn what_would_lose_data_is_not_safe(cloud: &dyn CephCloud) -> Outcome {
    let ids: Vec<String> = cloud
        .osds()
        .await?
        .iter()
        .map(|(id, _)| id.to_string())
        .collect();
    let ask = |prefix: &str, ids: &[String]| Command::to_mgr(prefix).with("ids", ids.to_vec());
    let ceph = cloud.first();
    ceph.run(&ask("osd ok-to-stop", &ids[..1])).await?;
    refused(ceph.run(&ask("osd ok-to-stop", &ids[..2])).await, 16, "")?;
    // In JSON this is no refusal: the answer says of each OSD how it is.
    let told: Value = ceph.read(&ask("osd safe-to-destroy", &ids[..1])).await?;
    same(told["safe_to_destroy"].as_array().map(Vec::len), Some(0))?;
    same(told["active"].as_array().map(Vec::len), Some(1))
}
