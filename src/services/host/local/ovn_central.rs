//! The databases on this machine: made as the first of a raft, joined to one, left.

use super::ovn::{OvnPaths, active, chassis_rows, failed, systemctl};
use super::ovn_leave::file_of;
use super::ovn_routers;
use crate::services::host::ovn_types::{
    CentralConfig, CentralReport, DatabaseReport, OvnDatabase, RaftMember, connection,
};
use crate::services::host::types::HostError;
use crate::services::ovn::rows::{Connection, NbGlobal, SbGlobal};
use crate::services::ovn::{
    Client, Endpoint, NORTHBOUND, NORTHBOUND_PORT, Operation, OvsdbError, SOUTHBOUND,
    SOUTHBOUND_PORT, control,
};
use crate::services::peer::state_file;
use serde_json::json;
use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::Instant;

/// How long both databases may take until they are part of a raft that has a majority.
const FORM: Duration = Duration::from_secs(40);

/// How long a raft may take to strike a server.
const KICK: Duration = Duration::from_secs(10);

/// How long a raft waits for its leader before it chooses another, milliseconds. OVN's own 1000
/// makes it change leaders whenever a machine is busy for a moment.
const ELECTION: &str = "4000";

/// The first line of a file that this program wrote: the same in every version, for it tells whose
/// the databases are.
const OURS: &str = "# Written by microcloud, which writes it again when it differs.";

/// The units that make a machine one that holds the databases.
pub(super) const UNITS: [&str; 4] = [
    "ovn-ovsdb-server-nb",
    "ovn-ovsdb-server-sb",
    "ovn-northd",
    "ovn-central",
];

/// What names a database here.
pub(super) struct Names {
    pub database: &'static str,
    global: &'static str,
    unit: &'static str,
    port: u16,
    /// Its file below OVN's data.
    pub file: &'static str,
}

pub(super) fn names(database: OvnDatabase) -> Names {
    match database {
        OvnDatabase::Northbound => Names {
            database: NORTHBOUND,
            global: "NB_Global",
            unit: "ovn-ovsdb-server-nb",
            port: NORTHBOUND_PORT,
            file: "ovnnb_db.db",
        },
        OvnDatabase::Southbound => Names {
            database: SOUTHBOUND,
            global: "SB_Global",
            unit: "ovn-ovsdb-server-sb",
            port: SOUTHBOUND_PORT,
            file: "ovnsb_db.db",
        },
    }
}

fn endpoint(paths: &OvnPaths, database: OvnDatabase) -> Endpoint {
    match database {
        OvnDatabase::Northbound => paths.northbound(),
        OvnDatabase::Southbound => paths.southbound(),
    }
}

pub(super) fn control_socket(paths: &OvnPaths, database: OvnDatabase) -> PathBuf {
    match database {
        OvnDatabase::Northbound => paths.run.join("ovnnb_db.ctl"),
        OvnDatabase::Southbound => paths.run.join("ovnsb_db.ctl"),
    }
}

pub(super) fn options_file(paths: &OvnPaths) -> PathBuf {
    paths.defaults.join("ovn-central")
}

/// Where `ovn-ctl` looks for northd's databases. Without it, it takes the databases of a machine
/// down whenever northd is stopped there.
pub(super) fn northd_file(paths: &OvnPaths) -> PathBuf {
    paths.etc.join("ovn-northd-db-params.conf")
}

/// What that file holds.
fn northd_databases(config: &CentralConfig) -> String {
    format!(
        "--ovnnb-db={} --ovnsb-db={}\n",
        connection(&config.centrals, config.tls, NORTHBOUND_PORT),
        connection(&config.centrals, config.tls, SOUTHBOUND_PORT),
    )
}

/// An address as `ovn-ctl` puts it before a port.
fn bracketed(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}

/// The words given to `ovn-ctl`.
fn options(paths: &OvnPaths, config: &CentralConfig) -> Vec<String> {
    let own = bracketed(config.address);
    let mut words = Vec::new();
    let mut set = |key: &str, value: &str| words.push(format!("--{key}={value}"));
    for db in ["nb", "sb"] {
        set(&format!("db-{db}-addr"), &own);
        set(
            &format!("db-{db}-create-insecure-remote"),
            if config.tls { "no" } else { "yes" },
        );
        set(&format!("db-{db}-cluster-local-addr"), &own);
        set(
            &format!("db-{db}-cluster-local-proto"),
            if config.tls { "ssl" } else { "tcp" },
        );
        if let Some(join) = config.join {
            set(&format!("db-{db}-cluster-remote-addr"), &bracketed(join));
            set(
                &format!("db-{db}-cluster-remote-proto"),
                if config.tls { "ssl" } else { "tcp" },
            );
        }
        set(&format!("db-{db}-election-timer"), ELECTION);
        if config.tls {
            tls(paths, &format!("ovn-{db}-db-ssl"), &mut set);
        }
    }
    set(
        "ovn-northd-nb-db",
        &connection(&config.centrals, config.tls, NORTHBOUND_PORT),
    );
    set(
        "ovn-northd-sb-db",
        &connection(&config.centrals, config.tls, SOUTHBOUND_PORT),
    );
    if config.tls {
        tls(paths, "ovn-northd-ssl", &mut set);
    }
    words
}

/// The three words by which a program finds its certificate.
pub(super) fn tls(paths: &OvnPaths, prefix: &str, set: &mut impl FnMut(&str, &str)) {
    for (word, path) in [
        ("key", paths.key()),
        ("cert", paths.certificate()),
        ("ca-cert", paths.authority()),
    ] {
        set(&format!("{prefix}-{word}"), &path.display().to_string());
    }
}

/// A file of `/etc/default` that gives these words to `ovn-ctl`.
pub(super) fn render(words: &[String]) -> String {
    format!("{OURS}\nOVN_CTL_OPTS=\"{}\"\n", words.join(" "))
}

/// The words of a file that this program wrote.
pub(super) fn parse(text: &str) -> Option<BTreeMap<&str, &str>> {
    let rest = text.strip_prefix(OURS)?.trim();
    let words = rest.strip_prefix("OVN_CTL_OPTS=\"")?.strip_suffix('"')?;
    words
        .split(' ')
        .filter(|w| !w.is_empty())
        .map(|w| w.strip_prefix("--")?.split_once('='))
        .collect()
}

/// What the file says, in this or another version's words; `None` when this program did not write
/// it, or it does not say all.
fn says(paths: &OvnPaths) -> Option<CentralConfig> {
    let text = fs::read_to_string(options_file(paths)).ok()?;
    let words = parse(&text)?;
    let address = |key: &str| {
        let text = words.get(key)?;
        text.trim_matches(['[', ']']).parse::<IpAddr>().ok()
    };
    let centrals = words.get("ovn-northd-nb-db")?.split(',');
    Some(CentralConfig {
        address: address("db-nb-cluster-local-addr")?,
        join: address("db-nb-cluster-remote-addr"),
        centrals: centrals
            .map(|c| {
                let (_, address) = c.split_once(':')?;
                Some(address.parse::<SocketAddr>().ok()?.ip())
            })
            .collect::<Option<_>>()?,
        tls: *words.get("db-nb-cluster-local-proto")? == "ssl",
    })
}

/// What the files say, if they are as this version of this program would write them.
fn read_config(paths: &OvnPaths) -> Option<CentralConfig> {
    let config = says(paths)?;
    let as_written = fs::read_to_string(options_file(paths)).ok()?
        == render(&options(paths, &config))
        && fs::read_to_string(northd_file(paths)).ok()? == northd_databases(&config);
    as_written.then_some(config)
}

/// Whether this program wrote the file, in whatever version, and whatever became of it since.
pub(super) fn was_ours(paths: &OvnPaths) -> bool {
    fs::read_to_string(options_file(paths)).is_ok_and(|text| text.starts_with(OURS))
}

pub(super) fn has_files(paths: &OvnPaths) -> bool {
    let there = |which| paths.data.join(names(which).file).exists();
    OvnDatabase::BOTH.into_iter().any(there)
}

/// Looks at the databases here.
pub(super) async fn report(paths: &OvnPaths) -> CentralReport {
    let config = read_config(paths);
    let (ours, files) = (was_ours(paths), has_files(paths));
    if !ours && !files {
        return CentralReport::default();
    }
    let (northbound, southbound, northd) = tokio::join!(
        database(paths, OvnDatabase::Northbound),
        database(paths, OvnDatabase::Southbound),
        active("ovn-northd"),
    );
    let mut chassis = Vec::new();
    if southbound.as_ref().is_some_and(|d| d.connected)
        && let Ok(client) = Client::connect(&paths.southbound(), None).await
    {
        chassis = chassis_rows(&client).await.unwrap_or_default();
    }
    let (mut routers, mut gateways) = (None, BTreeMap::new());
    if northbound.as_ref().is_some_and(|d| d.connected)
        && let Ok(client) = Client::connect(&paths.northbound(), None).await
    {
        routers = ovn_routers::addresses(&client).await.ok();
        gateways = ovn_routers::gateways(&client, &paths.southbound())
            .await
            .unwrap_or_default();
    }
    let answers = |which| match which {
        OvnDatabase::Northbound => northbound.is_some(),
        OvnDatabase::Southbound => southbound.is_some(),
    };
    let down = OvnDatabase::BOTH
        .into_iter()
        .filter(|which| !answers(*which))
        .filter_map(|which| file_of(paths, which))
        .collect();
    CentralReport {
        ours,
        config,
        files,
        down,
        routers,
        gateways,
        northbound,
        southbound,
        northd,
        chassis,
    }
}

/// How one database stands; `None` when it does not answer.
pub(super) async fn database(paths: &OvnPaths, which: OvnDatabase) -> Option<DatabaseReport> {
    let client = Client::connect(&endpoint(paths, which), None).await.ok()?;
    let databases = client.databases().await.ok()?;
    let names = names(which);
    let row = databases.into_iter().find(|d| d.name == names.database)?;
    let mut report = DatabaseReport {
        clustered: row.model == "clustered",
        connected: row.connected,
        leader: row.leader,
        cid: row.cid.one().map(ToString::to_string).unwrap_or_default(),
        sid: row.sid.one().map(|id| short(&id.0)).unwrap_or_default(),
        ..DatabaseReport::default()
    };
    if report.clustered {
        let status = control::raft_status(&control_socket(paths, which), names.database).await;
        report.servers = status.map(|s| members(&s.servers)).unwrap_or_default();
    }
    if report.connected {
        report.listens = listens(&client, which).await.unwrap_or_default();
    }
    Some(report)
}

/// The short form of a server's id: the one by which a raft lists its servers.
pub(super) fn short(id: &str) -> String {
    id.chars().take(4).collect()
}

/// The servers of the rafts here as these have them now; nothing of one that does not answer.
pub(super) async fn in_rafts(paths: &OvnPaths) -> [Vec<RaftMember>; 2] {
    let of = async |which: OvnDatabase| {
        let socket = control_socket(paths, which);
        if !socket.exists() {
            return Vec::new();
        }
        let status = control::raft_status(&socket, names(which).database).await;
        status.map(|s| members(&s.servers)).unwrap_or_default()
    };
    let [north, south] = OvnDatabase::BOTH;
    [of(north).await, of(south).await]
}

fn members(servers: &[control::RaftServer]) -> Vec<RaftMember> {
    let mut members: Vec<RaftMember> = servers
        .iter()
        .filter_map(|server| {
            let (_, address) = server.address.split_once(':')?;
            Some(RaftMember {
                id: server.id.clone(),
                address: address.parse::<SocketAddr>().ok()?.ip(),
            })
        })
        .collect();
    members.sort();
    members
}

/// Where a database listens, as its global row says.
async fn listens(client: &Client, which: OvnDatabase) -> Result<Vec<String>, OvsdbError> {
    let connections = match which {
        OvnDatabase::Northbound => client
            .rows::<NbGlobal>(NORTHBOUND)
            .await?
            .pop()
            .map(|g| g.connections),
        OvnDatabase::Southbound => client
            .rows::<SbGlobal>(SOUTHBOUND)
            .await?
            .pop()
            .map(|g| g.connections),
    };
    let named = connections.unwrap_or_default().0;
    let rows: Vec<Connection> = client.rows(names(which).database).await?;
    let mut targets: Vec<String> = rows
        .into_iter()
        .filter(|c| named.contains(&c.id))
        .map(|c| c.target)
        .collect();
    targets.sort();
    Ok(targets)
}

/// Makes this machine one that holds the databases as `config` says.
pub(super) async fn hold(paths: &OvnPaths, config: &CentralConfig) -> Result<(), HostError> {
    let guard = |reason: &str| {
        Err(HostError::GuardFailed {
            reason: reason.to_owned(),
        })
    };
    if has_files(paths) && !was_ours(paths) {
        return guard("there are OVN databases here that this program did not make");
    }
    if config.tls && !paths.certificate().exists() {
        return guard("there is no certificate for OVN here yet");
    }
    if has_files(paths) && says(paths).is_some_and(|before| before.tls != config.tls) {
        return guard("the databases here were made with the other transport");
    }
    let differs = read_config(paths).as_ref() != Some(config);
    if differs {
        fs::create_dir_all(&paths.etc)
            .map_err(|e| failed(format!("cannot make {}: {e}", paths.etc.display())))?;
        write(&northd_file(paths), &northd_databases(config))?;
        write(&options_file(paths), &render(&options(paths, config)))?;
    }
    systemctl(&["enable", "--quiet", "ovn-central"]).await?;
    if differs && active("ovn-northd").await {
        // The databases keep what they were made with; only northd is told where they are.
        systemctl(&["restart", "ovn-northd"]).await?;
    }
    let mut start = vec!["start"];
    start.extend(UNITS);
    systemctl(&start).await?;
    connected(paths).await?;
    if config.join.is_none() {
        listen_all(paths, config).await?;
    }
    Ok(())
}

/// Has both databases listen for clients.
pub(super) async fn listen_all(paths: &OvnPaths, config: &CentralConfig) -> Result<(), HostError> {
    for which in OvnDatabase::BOTH {
        if let Some(target) = config.listener(names(which).port) {
            listen(paths, which, &target).await?;
        }
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<(), HostError> {
    state_file::write(path, text.as_bytes()).map_err(|e| failed(super::causes(&e)))
}

/// Waits until both databases are part of a raft that has a majority.
async fn connected(paths: &OvnPaths) -> Result<(), HostError> {
    let until = Instant::now() + FORM;
    for which in OvnDatabase::BOTH {
        loop {
            let seen = database(paths, which).await;
            if seen.as_ref().is_some_and(|d| d.connected) {
                break;
            }
            // A unit that has ended will not answer however long one waits.
            let ended = seen.is_none() && !active(names(which).unit).await;
            if Instant::now() >= until || ended {
                let name = names(which).database;
                return Err(failed(match seen {
                    None => format!(
                        "{name} does not answer: see `journalctl -u ovn-ovsdb-server-nb -u \
                         ovn-ovsdb-server-sb` on this machine"
                    ),
                    Some(_) => format!("{name} has not become part of its raft"),
                }));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    Ok(())
}

/// Has a database listen there, unless it does.
async fn listen(paths: &OvnPaths, which: OvnDatabase, target: &str) -> Result<(), HostError> {
    let client = Client::connect(&endpoint(paths, which), None).await?;
    if listens(&client, which).await?.iter().any(|t| t == target) {
        return Ok(());
    }
    let names = names(which);
    let row = json!({"target": target});
    // A row of that target that nothing names is swept away by the server.
    let insert = Operation::insert("Connection", "listener", row);
    let listener = json!(["set", [["named-uuid", "listener"]]]);
    let change = [("connections", "insert", listener.clone())];
    let operations = [
        insert.clone(),
        Operation::mutate(names.global, &[], &change),
    ];
    let met = client.transact(names.database, &operations).await?;
    if met.last().is_some_and(|mutated| mutated.count > 0) {
        return Ok(());
    }
    // A new database has no global row until some program of OVN makes it.
    let operations = [
        insert,
        Operation::insert(names.global, "whole", json!({"connections": listener})),
    ];
    client.transact(names.database, &operations).await?;
    Ok(())
}

/// Strikes a lost server from a raft.
pub(super) async fn kick(
    paths: &OvnPaths,
    which: OvnDatabase,
    server: &RaftMember,
) -> Result<(), HostError> {
    let socket = control_socket(paths, which);
    let name = names(which).database;
    let status = control::raft_status(&socket, name).await?;
    let there = members(&status.servers);
    if !there.iter().any(|m| m.address == server.address) {
        return Ok(());
    }
    let guard = |reason: String| Err(HostError::GuardFailed { reason });
    if !there.contains(server) {
        return guard(format!(
            "the server at {} is another one now",
            server.address
        ));
    }
    if server.id == status.own {
        return guard(format!("{} is this machine's own server", server.id));
    }
    control::kick(&socket, name, &server.id).await?;
    // A follower passes it on: what is looked at next must not show it any more.
    let until = Instant::now() + KICK;
    while members(&control::raft_status(&socket, name).await?.servers).contains(server) {
        if Instant::now() >= until {
            return Err(failed(format!("{name} has not let {} go", server.address)));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

/// Deletes a chassis row and what is said of it.
pub(super) async fn delete_chassis(paths: &OvnPaths, name: &str) -> Result<(), HostError> {
    let client = Client::connect(&paths.southbound(), None).await?;
    let of = [("name", "==", json!(name))];
    let operations = [
        Operation::delete("Chassis_Private", &of),
        Operation::delete("Chassis", &of),
    ];
    client.transact(SOUTHBOUND, &operations).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> CentralConfig {
        CentralConfig {
            address: "10.0.0.2".parse().unwrap(),
            join: Some("10.0.0.1".parse().unwrap()),
            centrals: vec!["10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap()],
            tls: true,
        }
    }

    fn own_v6() -> IpAddr {
        "2001:db8::2".parse().unwrap()
    }

    #[test]
    fn what_is_written_is_read_back_and_a_change_shows() {
        let dir = tempfile::tempdir().unwrap();
        let paths = OvnPaths::below(dir.path());
        for path in [&paths.defaults, &paths.etc] {
            fs::create_dir_all(path).unwrap();
        }
        assert_eq!(read_config(&paths), None);
        let first = CentralConfig {
            join: None,
            tls: false,
            ..config()
        };
        let v6 = CentralConfig {
            address: own_v6(),
            join: Some("2001:db8::1".parse().unwrap()),
            centrals: vec!["2001:db8::1".parse().unwrap()],
            tls: true,
        };
        for config in [config(), first, v6] {
            write(&options_file(&paths), &render(&options(&paths, &config))).unwrap();
            write(&northd_file(&paths), &northd_databases(&config)).unwrap();
            assert_eq!(read_config(&paths), Some(config));
        }
        let text = fs::read_to_string(options_file(&paths)).unwrap();
        assert!(
            text.contains("--db-nb-cluster-local-addr=[2001:db8::2] "),
            "{text}"
        );
        // By hand, or by a version that writes one word more: it stays ours.
        let more = text.replace("=4000", "=4000 --db-nb-new-word=1");
        for written in [text.replace("=4000", "=1000"), more] {
            fs::write(options_file(&paths), written).unwrap();
            assert_eq!(read_config(&paths), None);
            assert_eq!(says(&paths).unwrap().address, own_v6());
            assert!(was_ours(&paths));
        }
        fs::write(options_file(&paths), "# OVN_CTL_OPTS=\n").unwrap();
        assert!(!was_ours(&paths));
    }

    #[tokio::test]
    async fn whose_the_databases_are_is_told_apart_from_what_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let paths = OvnPaths::below(dir.path());
        fs::create_dir_all(&paths.defaults).unwrap();
        fs::write(
            options_file(&paths),
            format!("{OURS}\nOVN_CTL_OPTS=\"--of-another-version=1\"\n"),
        )
        .unwrap();
        let seen = report(&paths).await;
        assert!(seen.ours && seen.is_ours(), "{seen:?}");
        assert_eq!(seen.config, None);
        fs::write(options_file(&paths), "OVN_CTL_OPTS=\"\"\n").unwrap();
        assert!(!report(&paths).await.is_ours());
    }

    #[tokio::test]
    async fn the_transport_of_databases_stays_also_when_another_version_wrote_it() {
        let dir = tempfile::tempdir().unwrap();
        let paths = OvnPaths::below(dir.path());
        for path in [&paths.defaults, &paths.etc, &paths.data] {
            fs::create_dir_all(path).unwrap();
        }
        let plain = CentralConfig {
            tls: false,
            ..config()
        };
        let text = render(&options(&paths, &plain)).replace("=4000", "=4000 --new-word=1");
        fs::write(options_file(&paths), text).unwrap();
        fs::write(paths.data.join("ovnnb_db.db"), "").unwrap();
        fs::write(paths.certificate(), "").unwrap();
        let refused = hold(&paths, &config()).await;
        assert!(
            matches!(&refused, Err(HostError::GuardFailed { reason }) if reason.contains("other transport")),
            "{refused:?}"
        );
    }

    #[tokio::test]
    async fn databases_of_others_are_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let paths = OvnPaths::below(dir.path());
        for path in [&paths.defaults, &paths.data] {
            fs::create_dir_all(path).unwrap();
        }
        fs::write(paths.data.join("ovnnb_db.db"), "").unwrap();
        let refused = hold(&paths, &config()).await;
        assert!(
            matches!(&refused, Err(HostError::GuardFailed { reason }) if reason.contains("did not make")),
            "{refused:?}"
        );
        fs::remove_file(paths.data.join("ovnnb_db.db")).unwrap();
        let refused = hold(&paths, &config()).await;
        assert!(
            matches!(&refused, Err(HostError::GuardFailed { reason }) if reason.contains("no certificate")),
            "{refused:?}"
        );
    }
}
