//! A server that stands alone.

use super::check::{Outcome, eventually, fails, is, map, same, value_of};
use super::cloud::Cloud;
use super::{Assertion, assertions};
use microcloud::services::lxd::{Method, NetworkCreate, ObjectPut, PoolCreate};
use std::time::Duration;

pub fn assertions() -> Vec<Assertion> {
    assertions![Alone:
        a_fresh_server_stands_alone_and_is_empty,
        a_pool_alone_is_created_in_one_step,
        a_pool_alone_that_fails_leaves_nothing,
        a_put_of_a_pool_alone_repeats_its_source,
        a_bridge_alone_gets_its_addresses,
        a_put_of_a_network_resets_what_it_leaves_out,
        without_an_address_there_is_no_cluster,
        a_server_put_that_is_refused_changes_nothing,
        a_server_patch_that_is_refused_erases_the_servers_addresses,
    ]
}

fn dir(name: &str, config: &[(&str, &str)]) -> PoolCreate {
    PoolCreate {
        name: name.to_owned(),
        driver: "dir".to_owned(),
        description: String::new(),
        config: map(config),
    }
}

fn bridge(name: &str, config: &[(&str, &str)]) -> NetworkCreate {
    NetworkCreate {
        name: name.to_owned(),
        network_type: "bridge".to_owned(),
        description: "a bridge".to_owned(),
        config: map(config),
    }
}

/// `/internal/ready` says 503 "LXD daemon not ready yet" for a second; `/1.0` answers before.
/// Without a cluster the members are a 500 and the groups a 400.
async fn a_fresh_server_stands_alone_and_is_empty(cloud: &dyn Cloud) -> Outcome {
    for index in 0..4 {
        let lxd = cloud.lxd(index);
        eventually(Duration::from_secs(60), async || Ok(lxd.ready().await?)).await?;
        let server = lxd.server().await?.value;
        same(server.environment.server.as_str(), "lxd")?;
        same(&server.environment.server_name, &cloud.host(index).name)?;
        is(!server.environment.server_clustered, "it is in a cluster")?;
        same(server.auth.as_str(), "trusted")?;
        is(server.config.is_empty(), format!("{:?}", server.config))?;
        is(server.has("clustering"), "no extension clustering")?;
        is(
            server.environment.certificate.starts_with("-----BEGIN"),
            "no certificate",
        )?;
        same(server.environment.certificate_fingerprint.len(), 64)?;
        let drivers = &server.environment.storage_supported_drivers;
        is(drivers.iter().any(|d| d.name == "dir"), "no driver dir")?;
        is(!lxd.cluster().await?.enabled, "a cluster is enabled")?;
    }
    let lxd = cloud.lxd(0);
    is(lxd.pools().await?.is_empty(), "there are pools")?;
    let profiles = lxd.profiles("default").await?;
    same(profiles.len(), 1)?;
    same(profiles[0].description.as_str(), "Default LXD profile")?;
    let projects = lxd.projects().await?;
    same(projects.len(), 1)?;
    same(
        &projects[0].config,
        &map(&[
            ("features.images", "true"),
            ("features.networks", "true"),
            ("features.profiles", "true"),
            ("features.storage.volumes", "true"),
        ]),
    )?;
    let networks = lxd.networks("default").await?;
    is(
        networks.iter().any(|n| n.name == "lo") && networks.iter().all(|n| !n.managed),
        "the machine's interfaces are listed, unmanaged",
    )?;
    fails(lxd.members().await, "Refused", "Server is not clustered")?;
    fails(
        lxd.groups().await,
        "Refused",
        "This server is not clustered",
    )
}

/// Alone a pool takes all keys at once, shows its computed `source` and has the location `none`.
/// A second one of the name is a 409.
async fn a_pool_alone_is_created_in_one_step(cloud: &dyn Cloud) -> Outcome {
    let lxd = cloud.lxd(0);
    lxd.create_pool(&dir("ct-pool", &[("user.a", "1")]), None)
        .await?;
    let pool = lxd.pool("ct-pool", None).await?.value;
    same(pool.status.as_str(), "Created")?;
    same(pool.locations, ["none"])?;
    let source = pool.config.get("source").cloned().unwrap_or_default();
    is(
        source.ends_with("/storage-pools/ct-pool"),
        format!("source is {source:?}"),
    )?;
    let again = lxd.create_pool(&dir("ct-pool", &[]), None).await;
    fails(again, "Conflict", "already exists")
}

/// Alone a failed create is undone.
async fn a_pool_alone_that_fails_leaves_nothing(cloud: &dyn Cloud) -> Outcome {
    let lxd = cloud.lxd(0);
    let missing = dir("ct-bad", &[("source", "/nonexistent")]);
    let created = lxd.create_pool(&missing, None).await;
    fails(
        created,
        "Refused",
        "Source path '/nonexistent' doesn't exist",
    )?;
    fails(
        lxd.pool("ct-bad", None).await,
        "NotFound",
        "Storage pool not found",
    )?;
    let unknown = lxd
        .create_pool(&dir("ct-bad", &[("nope", "1")]), None)
        .await;
    fails(unknown, "Refused", "Invalid option \"nope\"")?;
    let mut driver = dir("ct-bad", &[]);
    driver.driver = "wat".to_owned();
    fails(
        lxd.create_pool(&driver, None).await,
        "Refused",
        "Unknown driver",
    )
}

/// Alone the member's own keys belong to the whole that `PUT` replaces.
async fn a_put_of_a_pool_alone_repeats_its_source(cloud: &dyn Cloud) -> Outcome {
    let lxd = cloud.lxd(0);
    lxd.create_pool(&dir("ct-pool", &[("user.a", "1")]), None)
        .await?;
    let read = lxd.pool("ct-pool", None).await?;
    let mut put = ObjectPut {
        description: "new".to_owned(),
        config: map(&[("user.b", "2")]),
    };
    let result = lxd.put_pool("ct-pool", &put, None, None).await;
    fails(result, "Refused", "Pool source cannot be changed")?;
    let source = value_of(&read.value.config, "source")?;
    put.config.insert("source".to_owned(), source.clone());
    lxd.put_pool("ct-pool", &put, read.etag.as_deref(), None)
        .await?;
    let pool = lxd.pool("ct-pool", None).await?.value;
    same(pool.description.as_str(), "new")?;
    same(
        &pool.config,
        &map(&[("source", source.as_str()), ("user.b", "2")]),
    )
}

/// A bridge that is created without addresses gets random ones of both families, and NAT; with
/// `none` it gets nothing. A second one of the name is a 400, not a 409.
async fn a_bridge_alone_gets_its_addresses(cloud: &dyn Cloud) -> Outcome {
    let lxd = cloud.lxd(0);
    lxd.create_network("default", &bridge("ctbr0", &[]), None)
        .await?;
    let network = lxd.network("default", "ctbr0", None).await?.value;
    same(network.status.as_str(), "Created")?;
    same(network.locations, ["none"])?;
    same(network.description.as_str(), "a bridge")?;
    computed(&network.config)?;
    let again = lxd
        .create_network("default", &bridge("ctbr0", &[]), None)
        .await;
    fails(again, "Conflict", "The network already exists")?;
    let none = [("ipv4.address", "none"), ("ipv6.address", "none")];
    lxd.create_network("default", &bridge("ctbr1", &none), None)
        .await?;
    let network = lxd.network("default", "ctbr1", None).await?.value;
    same(&network.config, &map(&none))?;
    let bad = lxd
        .create_network("default", &bridge("ctbr2", &[("nope", "1")]), None)
        .await;
    fails(
        bad,
        "Refused",
        "Invalid option for network \"ctbr2\" option \"nope\"",
    )?;
    fails(
        lxd.network("default", "ctbr2", None).await,
        "NotFound",
        "Network not found",
    )
}

/// The keys LXD computes for a bridge that has none.
pub fn computed(config: &std::collections::BTreeMap<String, String>) -> Outcome {
    let of = |key: &str| config.get(key).map(String::as_str).unwrap_or_default();
    is(
        of("ipv4.address").ends_with(".1/24") && of("ipv6.address").ends_with("::1/64"),
        format!("no computed addresses: {config:?}"),
    )?;
    same((of("ipv4.nat"), of("ipv6.nat")), ("true", "true"))
}

/// Nothing is computed on `PUT` except what is asked for with `auto`: then the address, not NAT.
async fn a_put_of_a_network_resets_what_it_leaves_out(cloud: &dyn Cloud) -> Outcome {
    let lxd = cloud.lxd(0);
    lxd.create_network("default", &bridge("ctbr0", &[]), None)
        .await?;
    let auto = ObjectPut {
        description: String::new(),
        config: map(&[("ipv4.address", "auto"), ("user.x", "1")]),
    };
    lxd.put_network("default", "ctbr0", &auto, None, None)
        .await?;
    let config = lxd.network("default", "ctbr0", None).await?.value.config;
    let keys: Vec<&str> = config.keys().map(String::as_str).collect();
    same(keys, ["ipv4.address", "user.x"])?;
    is(
        value_of(&config, "ipv4.address")?.ends_with(".1/24"),
        format!("{config:?}"),
    )?;
    let empty = ObjectPut::default();
    lxd.put_network("default", "ctbr0", &empty, None, None)
        .await?;
    let config = lxd.network("default", "ctbr0", None).await?.value.config;
    is(config.is_empty(), format!("{config:?}"))
}

/// Bootstrap takes an address from `cluster.https_address`, or from a concrete
/// `core.https_address`.
async fn without_an_address_there_is_no_cluster(cloud: &dyn Cloud) -> Outcome {
    let lxd = cloud.lxd(0);
    fails(
        lxd.bootstrap("a").await,
        "Refused",
        "Cannot use wildcard core.https_address",
    )?;
    fails(
        lxd.patch_server(&map(&[("cluster.https_address", "[::]:8443")]), None)
            .await,
        "Refused",
        "Wildcard addresses aren't allowed",
    )?;
    fails(
        lxd.bootstrap("").await,
        "Refused",
        "ServerName is required when enabling clustering",
    )
}

async fn a_server_put_that_is_refused_changes_nothing(cloud: &dyn Cloud) -> Outcome {
    let lxd = cloud.lxd(0);
    let before = map(&[("core.https_address", "[::]:8443"), ("user.a", "1")]);
    lxd.put_server(&before, None, None).await?;
    let mut wrong = before.clone();
    wrong.insert("nonsense.key".to_owned(), "x".to_owned());
    let put = lxd.put_server(&wrong, None, None).await;
    fails(
        put,
        "Refused",
        "cannot set 'nonsense.key' to 'x': unknown key",
    )?;
    same(lxd.server().await?.value.config_text(), before)?;
    lxd.put_server(&map(&[("user.a", "")]), None, None).await?;
    Ok(())
}

/// Whether the key or the value is not known; from the disk too. In a cluster they cannot be set
/// again, all members are called offline and LXD does not start any more, so this is tried alone.
/// The client therefore never sends this `PATCH`, and keys should be known before they are sent.
async fn a_server_patch_that_is_refused_erases_the_servers_addresses(cloud: &dyn Cloud) -> Outcome {
    let lxd = cloud.lxd(0);
    let before = map(&[("core.https_address", "[::]:8443"), ("user.a", "1")]);
    lxd.put_server(&before, None, None).await?;
    let patch = serde_json::json!({"config": {"nonsense.key": "x"}});
    let answer = cloud.raw(0, Method::Patch, "/1.0", patch).await?;
    same(answer.status, 400)?;
    same(
        lxd.server().await?.value.config_text(),
        map(&[("user.a", "1")]),
    )
}
