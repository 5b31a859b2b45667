//! Networks of a cluster: two phases, their states, what each write replaces.

use super::alone::computed;
use super::check::{Failure, Outcome, fails, is, map, same, sorted};
use super::cloud::Cloud;
use super::{Assertion, assertions};
use microcloud::services::lxd::{NetworkCreate, ObjectPut};

pub fn assertions() -> Vec<Assertion> {
    assertions![Cluster:
        a_network_starts_on_a_member,
        a_network_phase_on_a_member_takes_its_own_keys_only,
        a_network_is_pending_until_all_members_define_it,
        the_last_phase_of_a_network_takes_global_keys_only,
        a_created_bridge_has_computed_addresses_and_no_description,
        a_created_network_cannot_be_defined_again,
        a_pending_network_can_be_deleted,
        a_network_with_a_wrong_key_is_errored_and_can_be_mended,
        an_errored_network_can_be_deleted,
        a_network_put_replaces_the_global_keys,
        a_network_put_with_a_target_erases_global_keys_it_leaves_out,
        a_stale_network_etag_is_refused,
        a_network_that_is_not_there_is_not_found,
        an_ovn_network_has_no_phase_on_a_member,
    ]
}

/// Without addresses, so that no service has to start.
const NONE: [(&str, &str); 2] = [("ipv4.address", "none"), ("ipv6.address", "none")];

pub fn bridge(name: &str, config: &[(&str, &str)]) -> NetworkCreate {
    NetworkCreate {
        name: name.to_owned(),
        network_type: "bridge".to_owned(),
        description: String::new(),
        config: map(config),
    }
}

/// The first phase on all three members.
pub async fn define(cloud: &dyn Cloud, name: &str) -> Outcome {
    let lxd = cloud.lxd(0);
    for member in cloud.members() {
        lxd.create_network("default", &bridge(name, &[]), Some(&member))
            .await?;
    }
    Ok(())
}

async fn create(cloud: &dyn Cloud, config: &[(&str, &str)]) -> Outcome {
    define(cloud, "ctbr0").await?;
    cloud
        .lxd(0)
        .create_network("default", &bridge("ctbr0", config), None)
        .await?;
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
    let network = cloud
        .lxd(0)
        .network("default", "ctbr0", target.as_deref())
        .await?;
    Ok(network.value.status)
}

async fn a_network_starts_on_a_member(cloud: &dyn Cloud) -> Outcome {
    let lxd = cloud.lxd(0);
    fails(
        lxd.create_network("default", &bridge("ctbr0", &[]), None)
            .await,
        "Refused",
        "Network not pending on any node (use --target <node> first)",
    )?;
    fails(
        lxd.create_network("default", &bridge("ctbr0", &[]), Some("nobody"))
            .await,
        "NotFound",
        "Cluster member not found",
    )?;
    fails(
        lxd.create_network("default", &bridge("averyveryverylongname", &[]), None)
            .await,
        "Refused",
        "Network interface is too long (maximum 15 characters)",
    )
}

async fn a_network_phase_on_a_member_takes_its_own_keys_only(cloud: &dyn Cloud) -> Outcome {
    let (lxd, host) = (cloud.lxd(0), cloud.host(0).name);
    for key in ["ipv4.address", "user.a"] {
        fails(
            lxd.create_network("default", &bridge("ctbr0", &[(key, "1")]), Some(&host))
                .await,
            "Refused",
            &format!("Config key \"{key}\" may not be used as member-specific key"),
        )?;
    }
    let found = lxd.network("default", "ctbr0", None).await;
    fails(found, "NotFound", "Network not found")
}

async fn a_network_is_pending_until_all_members_define_it(cloud: &dyn Cloud) -> Outcome {
    let lxd = cloud.lxd(0);
    let members = cloud.members();
    let first = bridge("ctbr0", &[]);
    cloud
        .lxd(1)
        .create_network("default", &first, Some(&members[0]))
        .await?;
    let network = lxd.network("default", "ctbr0", None).await?.value;
    same(network.status.as_str(), "Pending")?;
    is(network.managed, "it is not managed")?;
    same(&network.locations, &members[..1])?;
    is(network.config.is_empty(), format!("{:?}", network.config))?;
    same(status(cloud, Some(0)).await?.as_str(), "Pending")?;
    same(status(cloud, Some(1)).await?.as_str(), "Unknown")?;
    fails(
        lxd.create_network("default", &first, Some(&members[0]))
            .await,
        "Conflict",
        &format!(
            "The network is already defined on member \"{}\"",
            members[0]
        ),
    )?;
    let mut other = bridge("ctbr0", &[]);
    other.network_type = "physical".to_owned();
    fails(
        lxd.create_network("default", &other, Some(&members[1]))
            .await,
        "Refused",
        "Requested network type doesn't match type in existing database record",
    )?;
    let result = lxd.create_network("default", &first, None).await;
    let text = result
        .as_ref()
        .err()
        .map(ToString::to_string)
        .unwrap_or_default();
    fails(result, "Refused", "Network not defined on nodes: ")?;
    is(
        text.contains(&members[1]) && text.contains(&members[2]),
        text,
    )?;
    fails(
        lxd.put_network("default", "ctbr0", &put(&NONE), None, None)
            .await,
        "Refused",
        "Cannot update network global config when not in created state",
    )?;
    same(status(cloud, None).await?.as_str(), "Pending")
}

async fn the_last_phase_of_a_network_takes_global_keys_only(cloud: &dyn Cloud) -> Outcome {
    let lxd = cloud.lxd(0);
    define(cloud, "ctbr0").await?;
    let own = bridge("ctbr0", &[("bridge.external_interfaces", "x0")]);
    fails(
        lxd.create_network("default", &own, None).await,
        "Refused",
        "Config key \"bridge.external_interfaces\" is cluster member specific",
    )?;
    let mut other = bridge("ctbr0", &[]);
    other.network_type = "physical".to_owned();
    fails(
        lxd.create_network("default", &other, None).await,
        "Refused",
        "Requested network type \"physical\" doesn't match type in existing database record \
         \"bridge\"",
    )?;
    same(status(cloud, None).await?.as_str(), "Pending")
}

/// The description of the last phase is lost, other than for a pool.
async fn a_created_bridge_has_computed_addresses_and_no_description(cloud: &dyn Cloud) -> Outcome {
    define(cloud, "ctbr0").await?;
    let mut last = bridge("ctbr0", &[("user.a", "1")]);
    last.description = "lost".to_owned();
    cloud.lxd(1).create_network("default", &last, None).await?;
    let first = cloud.lxd(0).network("default", "ctbr0", None).await?.value;
    computed(&first.config)?;
    same(first.config.get("user.a").map(String::as_str), Some("1"))?;
    same(first.config.len(), 5)?;
    for index in 0..3 {
        let network = cloud
            .lxd(index)
            .network("default", "ctbr0", None)
            .await?
            .value;
        same(network.status.as_str(), "Created")?;
        same(network.description.as_str(), "")?;
        same(&network.config, &first.config)?;
        same(sorted(&network.locations), sorted(&cloud.members()))?;
        same(status(cloud, Some(index)).await?.as_str(), "Created")?;
    }
    Ok(())
}

async fn a_created_network_cannot_be_defined_again(cloud: &dyn Cloud) -> Outcome {
    let (lxd, host) = (cloud.lxd(0), cloud.host(0).name);
    create(cloud, &NONE).await?;
    fails(
        lxd.create_network("default", &bridge("ctbr0", &[]), None)
            .await,
        "Conflict",
        "The network is already created",
    )?;
    fails(
        lxd.create_network("default", &bridge("ctbr0", &[]), Some(&host))
            .await,
        "Conflict",
        "Network is not in pending state",
    )
}

async fn a_pending_network_can_be_deleted(cloud: &dyn Cloud) -> Outcome {
    let (lxd, host) = (cloud.lxd(0), cloud.host(1).name);
    lxd.create_network("default", &bridge("ctbr0", &[]), Some(&host))
        .await?;
    lxd.delete_network("default", "ctbr0").await?;
    let found = lxd.network("default", "ctbr0", None).await;
    fails(found, "NotFound", "Network not found")
}

/// A key that does not exist is noticed after it was stored: the network is `Errored` and shows
/// it, and every repetition fails on it. A `PUT` with a target, where it is still `Pending`,
/// replaces the global keys too, for once usefully.
async fn a_network_with_a_wrong_key_is_errored_and_can_be_mended(cloud: &dyn Cloud) -> Outcome {
    let (lxd, host) = (cloud.lxd(0), cloud.host(1).name);
    define(cloud, "ctbr0").await?;
    let text = "Invalid option for network \"ctbr0\" option \"nope\"";
    let wrong = bridge("ctbr0", &[("nope", "1")]);
    fails(
        lxd.create_network("default", &wrong, None).await,
        "Refused",
        text,
    )?;
    let network = lxd.network("default", "ctbr0", None).await?.value;
    same(network.status.as_str(), "Errored")?;
    same(network.config.get("nope").map(String::as_str), Some("1"))?;
    same(status(cloud, Some(1)).await?.as_str(), "Pending")?;
    fails(
        lxd.create_network("default", &bridge("ctbr0", &NONE), None)
            .await,
        "Refused",
        "Network already partially created. Please do not specify any global config when \
         re-running create",
    )?;
    let empty = bridge("ctbr0", &[]);
    fails(
        lxd.create_network("default", &empty, None).await,
        "Refused",
        text,
    )?;
    fails(
        lxd.put_network("default", "ctbr0", &put(&NONE), None, None)
            .await,
        "Refused",
        "Cannot update network global config when not in created state",
    )?;
    lxd.put_network("default", "ctbr0", &put(&[]), None, Some(&host))
        .await?;
    let network = lxd.network("default", "ctbr0", None).await?.value;
    is(network.config.is_empty(), format!("{:?}", network.config))?;
    lxd.create_network("default", &empty, None).await?;
    same(status(cloud, None).await?.as_str(), "Created")
}

async fn an_errored_network_can_be_deleted(cloud: &dyn Cloud) -> Outcome {
    let lxd = cloud.lxd(0);
    define(cloud, "ctbr0").await?;
    let wrong = bridge("ctbr0", &[("nope", "1")]);
    let created = lxd.create_network("default", &wrong, None).await;
    fails(created, "Refused", "Invalid option")?;
    lxd.delete_network("default", "ctbr0").await?;
    create(cloud, &NONE).await
}

async fn a_network_put_replaces_the_global_keys(cloud: &dyn Cloud) -> Outcome {
    let lxd = cloud.lxd(0);
    create(
        cloud,
        &[
            ("ipv4.address", "none"),
            ("ipv6.address", "none"),
            ("user.a", "1"),
        ],
    )
    .await?;
    let mut change = put(&[("ipv6.address", "none"), ("user.b", "2"), ("user.c", "")]);
    change.description = "changed".to_owned();
    cloud
        .lxd(2)
        .put_network("default", "ctbr0", &change, None, None)
        .await?;
    let network = lxd.network("default", "ctbr0", None).await?.value;
    same(
        &network.config,
        &map(&[("ipv6.address", "none"), ("user.b", "2")]),
    )?;
    same(network.description.as_str(), "changed")?;
    for (config, text) in [
        (
            ("bad", "1"),
            "Invalid option for network \"ctbr0\" option \"bad\"",
        ),
        (
            ("ipv4.address", "1234"),
            "Invalid value for network \"ctbr0\" option \"ipv4.address\"",
        ),
        (
            ("bridge.external_interfaces", "x0"),
            "Config key \"bridge.external_interfaces\" is cluster member specific",
        ),
    ] {
        let wrong = lxd
            .put_network("default", "ctbr0", &put(&[config]), None, None)
            .await;
        fails(wrong, "Refused", text)?;
    }
    same(
        lxd.network("default", "ctbr0", None).await?.value.config,
        network.config,
    )
}

async fn a_network_put_with_a_target_erases_global_keys_it_leaves_out(
    cloud: &dyn Cloud,
) -> Outcome {
    let (lxd, host) = (cloud.lxd(0), cloud.host(1).name);
    create(
        cloud,
        &[
            ("ipv4.address", "none"),
            ("ipv6.address", "none"),
            ("user.a", "1"),
        ],
    )
    .await?;
    let changed = put(&[("ipv4.address", "none"), ("user.a", "2")]);
    fails(
        lxd.put_network("default", "ctbr0", &changed, None, Some(&host))
            .await,
        "Refused",
        "Config key \"user.a\" may not be used as member-specific key",
    )?;
    let fewer = put(&NONE);
    lxd.put_network("default", "ctbr0", &fewer, None, Some(&host))
        .await?;
    let network = lxd.network("default", "ctbr0", None).await?.value;
    same(&network.config, &map(&NONE))
}

async fn a_stale_network_etag_is_refused(cloud: &dyn Cloud) -> Outcome {
    let lxd = cloud.lxd(0);
    create(cloud, &NONE).await?;
    let seen = lxd.network("default", "ctbr0", None).await?.etag;
    same(
        cloud.lxd(1).network("default", "ctbr0", None).await?.etag,
        seen.clone(),
    )?;
    let mut config = NONE.to_vec();
    config.push(("user.a", "1"));
    let change = put(&config);
    let other = cloud.lxd(1);
    other
        .put_network("default", "ctbr0", &change, seen.as_deref(), None)
        .await?;
    let stale = lxd
        .put_network("default", "ctbr0", &change, seen.as_deref(), None)
        .await;
    fails(stale, "Changed", "ETag doesn't match")
}

/// The machine's own interfaces can be read, and not written.
async fn a_network_that_is_not_there_is_not_found(cloud: &dyn Cloud) -> Outcome {
    let lxd = cloud.lxd(0);
    let text = "Network not found";
    fails(
        lxd.network("default", "ctno0", None).await,
        "NotFound",
        text,
    )?;
    for name in ["ctno0", "lo"] {
        let put = lxd
            .put_network("default", name, &put(&[]), None, None)
            .await;
        fails(put, "NotFound", text)?;
        fails(lxd.delete_network("default", name).await, "NotFound", text)?;
    }
    let lo = lxd.network("default", "lo", None).await?.value;
    is(
        !lo.managed && lo.network_type == "loopback",
        format!("{lo:?}"),
    )
}

async fn an_ovn_network_has_no_phase_on_a_member(cloud: &dyn Cloud) -> Outcome {
    let (lxd, host) = (cloud.lxd(0), cloud.host(0).name);
    let mut ovn = bridge("ctovn", &[]);
    ovn.network_type = "ovn".to_owned();
    fails(
        lxd.create_network("default", &ovn, Some(&host)).await,
        "Refused",
        "Network type \"ovn\" does not support member specific config",
    )
}
