//! What Ceph tells.

use super::{Assertion, CephCloud, assertions, number, refused};
use crate::check::{Failure, Outcome, is, same};
use microcloud::services::ceph::{Command, Look};
use serde_json::Value;

pub fn assertions() -> Vec<Assertion> {
    assertions![
        a_look_sees_three_of_everything,
        status_has_the_epochs_of_all_maps,
        monitors_have_an_address_for_each_protocol,
        one_manager_is_active_and_two_stand_by,
        osds_exist_are_up_and_have_the_ids_of_their_disks,
        hosts_are_below_the_root_and_have_the_names_of_the_machines,
        rules_choose_leaves_below_hosts_and_osds_themselves,
        the_configuration_is_told_with_its_sections,
        health_tells_more_when_asked_for_detail,
        what_is_not_there_is_missing,
        a_command_that_does_not_exist_is_not_valid,
    ]
}

async fn a_look_sees_three_of_everything(cloud: &dyn CephCloud) -> Outcome {
    let seen = Look::default().look(&cloud.first()).await?;
    let names: Vec<String> = seen.monitors.keys().cloned().collect();
    same(names, cloud.hosts())?;
    is(
        seen.monitors.values().all(|m| m.in_quorum),
        "not all are in the quorum",
    )?;
    is(
        cloud.hosts().iter().all(|h| seen.managers.has(h)),
        "a manager is missing",
    )?;
    same(seen.mds.len(), 3)?;
    same(seen.osd_hosts_up().len(), 3)?;
    same(seen.versions.len(), 1)?;
    is(
        seen.pools.values().all(|p| p.replicated),
        "a pool is not replicated",
    )?;
    same(seen.flags.len(), 0)
}

async fn status_has_the_epochs_of_all_maps(cloud: &dyn CephCloud) -> Outcome {
    let status = cloud.ask("status").await?;
    for pointer in [
        "/election_epoch",
        "/monmap/epoch",
        "/osdmap/epoch",
        "/fsmap/epoch",
        "/pgmap/num_pgs",
    ] {
        is(number(&status, pointer)? > 0, format!("{pointer} is 0"))?;
    }
    same(number(&status, "/osdmap/num_osds")?, 3)?;
    same(number(&status, "/mgrmap/num_standbys")?, 2)?;
    is(
        status["health"]["checks"].is_object(),
        "no checks in the health",
    )?;
    // The same epochs as the maps themselves.
    same(number(&status, "/osdmap/epoch")?, cloud.epoch().await?)?;
    let monitors = cloud.ask("mon dump").await?;
    same(
        number(&status, "/monmap/epoch")?,
        number(&monitors, "/epoch")?,
    )
}

async fn monitors_have_an_address_for_each_protocol(cloud: &dyn CephCloud) -> Outcome {
    let dump = cloud.ask("mon dump").await?;
    for monitor in dump["mons"].as_array().into_iter().flatten() {
        let addresses = monitor["public_addrs"]["addrvec"].as_array();
        let addresses: Vec<String> = addresses
            .into_iter()
            .flatten()
            .map(|a| {
                let port = a["addr"].as_str().and_then(|a| a.rsplit(':').next());
                format!(
                    "{}:{}",
                    a["type"].as_str().unwrap_or_default(),
                    port.unwrap_or_default()
                )
            })
            .collect();
        same(addresses, ["v2:3300", "v1:6789"])?;
    }
    Ok(())
}

async fn one_manager_is_active_and_two_stand_by(cloud: &dyn CephCloud) -> Outcome {
    let dump = cloud.ask("mgr dump").await?;
    same(&dump["available"], true)?;
    let standbys = dump["standbys"].as_array().map_or(0, Vec::len);
    same(standbys, 2)?;
    let active = dump["active_name"].as_str().unwrap_or_default();
    is(
        cloud.hosts().iter().any(|h| h == active),
        format!("{active} is active"),
    )
}

async fn osds_exist_are_up_and_have_the_ids_of_their_disks(cloud: &dyn CephCloud) -> Outcome {
    let dump = cloud.ask("osd dump").await?;
    let osds = dump["osds"].as_array().cloned().unwrap_or_default();
    same(osds.len(), 3)?;
    for osd in &osds {
        same((&osd["up"], &osd["in"]), (&Value::from(1), &Value::from(1)))?;
        let state = osd["state"].as_array().cloned().unwrap_or_default();
        for word in ["exists", "up"] {
            is(
                state.contains(&Value::from(word)),
                format!("no {word} in {state:?}"),
            )?;
        }
        same(osd["uuid"].as_str().map(str::len), Some(36))?;
    }
    for pool in dump["pools"].as_array().into_iter().flatten() {
        same(&pool["type"], 1)?;
        let flags = pool["flags_names"].as_str().unwrap_or_default();
        is(flags.contains("hashpspool"), format!("flags are {flags:?}"))?;
    }
    let flags = dump["flags_set"].as_array().cloned().unwrap_or_default();
    is(
        flags.contains(&"sortbitwise".into()),
        format!("flags are {flags:?}"),
    )
}

async fn hosts_are_below_the_root_and_have_the_names_of_the_machines(
    cloud: &dyn CephCloud,
) -> Outcome {
    let mut hosts: Vec<String> = cloud.osds().await?.into_iter().map(|(_, h)| h).collect();
    hosts.sort_unstable();
    same(hosts, cloud.hosts())?;
    let tree = cloud.ask("osd tree").await?;
    let root = &tree["nodes"][0];
    same(
        (&root["name"], &root["id"]),
        (&"default".into(), &Value::from(-1)),
    )?;
    same(root["type"].as_str(), Some("root"))
}

async fn rules_choose_leaves_below_hosts_and_osds_themselves(cloud: &dyn CephCloud) -> Outcome {
    let dump = cloud.ask("osd crush rule dump").await?;
    let rules = dump.as_array().cloned().unwrap_or_default();
    let steps = |name: &str| -> Result<Value, Failure> {
        let found = rules.iter().find(|r| r["rule_name"] == name);
        found
            .map(|r| r["steps"][1].clone())
            .ok_or_else(|| Failure::new(format!("there is no rule {name}")))
    };
    let host = steps("replicated_rule")?;
    same(
        (host["op"].as_str(), host["type"].as_str()),
        (Some("chooseleaf_firstn"), Some("host")),
    )
}

async fn the_configuration_is_told_with_its_sections(cloud: &dyn CephCloud) -> Outcome {
    let dump = cloud.ask("config dump").await?;
    let entries = dump.as_array().cloned().unwrap_or_default();
    let has = |section: &str, name: &str, value: &str| {
        let found = |e: &&Value| e["section"] == section && e["name"] == name;
        let entry = entries.iter().find(found);
        is(
            entry.is_some_and(|e| e["value"] == value && e["mask"] == ""),
            format!("{section}/{name} is {entry:?}"),
        )
    };
    has("mon", "auth_allow_insecure_global_id_reclaim", "false")?;
    has("global", "osd_pool_default_size", "3")
}

async fn health_tells_more_when_asked_for_detail(cloud: &dyn CephCloud) -> Outcome {
    cloud
        .run(Command::new("osd set").with("key", "noout"))
        .await?;
    let short: Value = cloud.first().read(&Command::new("health")).await?;
    let long = Command::new("health").with("detail", "detail");
    let long: Value = cloud.first().read(&long).await?;
    let status = cloud.ask("status").await?;
    cloud
        .run(Command::new("osd unset").with("key", "noout"))
        .await?;
    let message = |health: &Value| {
        let text = health["checks"]["OSDMAP_FLAGS"]["summary"]["message"].as_str();
        text.unwrap_or_default().to_owned()
    };
    same(message(&short), "noout flag(s) set")?;
    same(message(&status["health"]), "noout flag(s) set")?;
    same(short["checks"]["OSDMAP_FLAGS"]["detail"].is_array(), false)?;
    same(long["checks"]["OSDMAP_FLAGS"]["detail"].is_array(), true)
}

async fn what_is_not_there_is_missing(cloud: &dyn CephCloud) -> Outcome {
    let ceph = cloud.first();
    let get = Command::new("auth get").with("entity", "client.contract-none");
    refused(
        ceph.run(&get).await,
        2,
        "failed to find client.contract-none in keyring",
    )?;
    let get = Command::new("config-key get").with("key", "contract/none");
    refused(ceph.run(&get).await, 2, "")
}

async fn a_command_that_does_not_exist_is_not_valid(cloud: &dyn CephCloud) -> Outcome {
    let answer = cloud.first().run(&Command::new("contract none")).await;
    refused(answer, 22, "command not known")
}
