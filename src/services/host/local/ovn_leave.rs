//! A machine gives OVN's databases up. Its files hold all that networks are made of, so they are
//! set aside only when the rafts go on without them: its server has left, or was struck.

use super::ovn::{OvnPaths, failed, systemctl};
use super::ovn_central::{
    UNITS, control_socket, database, has_files, names, northd_file, options_file, short, was_ours,
};
use crate::services::host::ovn_types::{DatabaseFile, OvnDatabase, Raft, Rafts};
use crate::services::host::types::HostError;
use crate::services::ovn::{OvsdbError, control};
use serde::Deserialize;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::time::Duration;
use tokio::time::Instant;

/// How long leaving a raft may take.
const LEAVE: Duration = Duration::from_secs(20);

/// The most the head of a database's file may hold, bytes; it has some hundred, and the addresses
/// of all servers after a compaction.
const HEAD: u64 = 1 << 20;

/// What a database's server here is to its raft.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Standing {
    /// The raft.
    cid: String,
    /// The server, short form of its id.
    sid: String,
    /// What it says of itself, such as `cluster member`; `None` when it does not answer.
    status: Option<String>,
    /// Whether it is part of the raft, which has a majority.
    connected: bool,
    /// How many servers the raft has, as it knows.
    servers: usize,
}

/// What is to be done before a database's file may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Nothing.
    Aside,
    /// The raft must be told, and agree.
    Leave,
}

/// Leaves both rafts, stops the units and keeps the files aside. Nothing is changed unless both
/// databases may go.
pub(super) async fn leave(paths: &OvnPaths, told: &Rafts) -> Result<(), HostError> {
    if !was_ours(paths) {
        if has_files(paths) {
            return Err(HostError::GuardFailed {
                reason: "there are OVN databases here that this program did not make".to_owned(),
            });
        }
        return Ok(());
    }
    let mut leaving = Vec::new();
    for which in OvnDatabase::BOTH {
        let Some(standing) = standing(paths, which).await? else {
            continue;
        };
        if way(which, &standing, told.of(which))? == Way::Leave {
            leaving.push((which, standing));
        }
    }
    for (which, standing) in leaving {
        tell_raft(paths, which, &standing).await?;
    }
    systemctl(&["disable", "--quiet", "ovn-central"]).await?;
    let mut stop = vec!["stop"];
    stop.extend(UNITS);
    systemctl(&stop).await?;
    set_aside(paths)
}

/// What a database is to its raft, as its server or, when that is down, its file says; `None` when
/// there is neither.
async fn standing(paths: &OvnPaths, which: OvnDatabase) -> Result<Option<Standing>, HostError> {
    let (name, socket) = (names(which).database, control_socket(paths, which));
    if let Some(seen) = database(paths, which).await
        && let Ok(status) = control::raft_status(&socket, name).await
    {
        return Ok(Some(Standing {
            cid: seen.cid,
            sid: short(&status.own),
            status: Some(status.status),
            connected: seen.connected,
            servers: status.servers.len(),
        }));
    }
    let file = paths.data.join(names(which).file);
    if !file.exists() {
        return Ok(None);
    }
    let head = read_head(&file).map_err(|e| HostError::GuardFailed {
        reason: format!(
            "OVN's {which} database here does not answer, and {} does not tell which server of \
             which raft it is ({e}): start ovn-ovsdb-server-nb and -sb, or set the file aside by \
             hand when you are sure that the others have all",
            file.display()
        ),
    })?;
    Ok(Some(Standing {
        cid: head.cluster_id,
        sid: short(&head.server_id),
        ..Standing::default()
    }))
}

/// What a database's file says, if it can be read.
pub(super) fn file_of(paths: &OvnPaths, which: OvnDatabase) -> Option<DatabaseFile> {
    let head = read_head(&paths.data.join(names(which).file)).ok()?;
    Some(DatabaseFile {
        which,
        cid: head.cluster_id,
        sid: short(&head.server_id),
    })
}

/// How a clustered database's file begins.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
struct Head {
    server_id: String,
    /// Not there as long as a server joins.
    #[serde(default)]
    cluster_id: String,
}

/// Reads a database's file: a line `OVSDB CLUSTER LENGTH HASH`, and so many bytes of JSON.
fn read_head(file: &Path) -> io::Result<Head> {
    let wrong = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let mut reader = BufReader::new(File::open(file)?.take(HEAD));
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let length = line
        .strip_prefix("OVSDB CLUSTER ")
        .and_then(|rest| rest.split(' ').next()?.parse::<u64>().ok())
        .ok_or_else(|| wrong("it is no clustered database"))?;
    let mut json = Vec::new();
    reader.take(length).read_to_end(&mut json)?;
    serde_json::from_slice(&json).map_err(|_| wrong("its head is damaged"))
}

/// Whether, and how, a database may go.
fn way(which: OvnDatabase, here: &Standing, told: Option<&Raft>) -> Result<Way, HostError> {
    if here.status.as_deref() == Some("left cluster") {
        return Ok(Way::Aside);
    }
    if here.connected && here.servers > 1 {
        return Ok(Way::Leave);
    }
    // One that does not know its raft has never been let into it, and holds nothing.
    let own = |raft: &Raft| match here.cid.is_empty() {
        true => raft.cid.clone(),
        false => here.cid.clone(),
    };
    if told.is_some_and(|raft| raft.is_without(&own(raft), &here.sid)) {
        return Ok(Way::Aside);
    }
    let why = match told {
        Some(raft) if here.connected && raft.cid != here.cid => format!(
            "it is a raft of its own ({}) and not the one the other members are in ({}): find out \
             which one is in use, and set this one's files aside by hand (/var/lib/ovn)",
            here.cid, raft.cid
        ),
        Some(raft) if !here.cid.is_empty() && raft.cid != here.cid => format!(
            "it is of another raft ({}) than the one the other members are in ({}): find out which \
             one is in use, and set this one's files aside by hand (/var/lib/ovn)",
            here.cid, raft.cid
        ),
        Some(_) => format!(
            "its server {} has no connection to its raft, which still has it: it leaves when it is \
             connected again (journalctl -u ovn-ovsdb-server-nb -u ovn-ovsdb-server-sb tells why \
             it is not); when it never will be, strike it on another machine with the databases \
             (ovn-appctl -t {} cluster/kick {} {})",
            here.sid,
            control_path(which),
            names(which).database,
            here.sid
        ),
        None => "no other machine that is part of its raft answers, so nobody knows whether the \
                 others have all that is in it: bring them back first"
            .to_owned(),
    };
    Err(HostError::GuardFailed {
        reason: format!("OVN's {which} database stays here: {why}"),
    })
}

fn control_path(which: OvnDatabase) -> &'static str {
    match which {
        OvnDatabase::Northbound => "/run/ovn/ovnnb_db.ctl",
        OvnDatabase::Southbound => "/run/ovn/ovnsb_db.ctl",
    }
}

/// Has a server leave its raft, and waits until the raft has let it go.
async fn tell_raft(
    paths: &OvnPaths,
    which: OvnDatabase,
    standing: &Standing,
) -> Result<(), HostError> {
    let (name, socket) = (names(which).database, control_socket(paths, which));
    if standing.status.as_deref() == Some("cluster member") {
        control::leave(&socket, name).await?;
    }
    let until = Instant::now() + LEAVE;
    loop {
        match control::raft_status(&socket, name).await {
            Ok(now) if now.status == "left cluster" => return Ok(()),
            // It drops a database that it has left.
            Err(OvsdbError::Refused { error, .. }) if error.contains("unknown cluster") => {
                return Ok(());
            }
            _ if Instant::now() >= until => {
                return Err(failed(format!("{name} has not left its raft")));
            }
            _ => tokio::time::sleep(Duration::from_millis(200)).await,
        }
    }
}

/// Keeps the files aside, and forgets that this machine held databases.
fn set_aside(paths: &OvnPaths) -> Result<(), HostError> {
    let aside = paths
        .data
        .join(format!("left-{}", jiff::Timestamp::now().as_second()));
    let io = |e: io::Error| failed(format!("cannot keep the databases' files aside: {e}"));
    let files = OvnDatabase::BOTH.map(|which| names(which).file);
    for file in files.iter().filter(|f| paths.data.join(f).exists()) {
        fs::create_dir_all(&aside).map_err(io)?;
        fs::rename(paths.data.join(file), aside.join(file)).map_err(io)?;
    }
    let _ = fs::remove_file(northd_file(paths));
    fs::remove_file(options_file(paths)).map_err(io)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::services::host::ovn_types::RaftMember;

    fn raft(cid: &str, ids: &[&str]) -> Raft {
        let server = |id: &&str| RaftMember {
            id: (*id).to_owned(),
            address: "10.0.0.1".parse().unwrap(),
        };
        Raft {
            cid: cid.to_owned(),
            servers: ids.iter().map(server).collect(),
        }
    }

    fn member(connected: bool, servers: usize) -> Standing {
        Standing {
            cid: "c".into(),
            sid: "1a2b".into(),
            status: Some("cluster member".into()),
            connected,
            servers,
        }
    }

    fn decided(here: &Standing, told: Option<&Raft>) -> Result<Way, String> {
        way(OvnDatabase::Southbound, here, told).map_err(|e| match e {
            HostError::GuardFailed { reason } => reason,
            other => panic!("{other}"),
        })
    }

    #[test]
    fn a_server_goes_when_its_raft_is_told_or_has_struck_it() {
        let (with, without) = (raft("c", &["1a2b", "3c4d"]), raft("c", &["3c4d", "5e6f"]));
        assert_eq!(decided(&member(true, 3), Some(&with)), Ok(Way::Leave));
        assert_eq!(decided(&member(true, 3), None), Ok(Way::Leave));
        assert_eq!(decided(&member(false, 3), Some(&without)), Ok(Way::Aside));
        let left = Standing {
            status: Some("left cluster".into()),
            ..member(false, 2)
        };
        assert_eq!(decided(&left, None), Ok(Way::Aside));
        let down = Standing {
            status: None,
            ..member(false, 0)
        };
        assert_eq!(decided(&down, Some(&without)), Ok(Way::Aside));
        assert!(decided(&down, Some(&with)).is_err());
    }

    #[test]
    fn a_server_that_is_away_for_a_moment_keeps_its_files() {
        let with = raft("c", &["1a2b", "3c4d", "5e6f"]);
        let refused = decided(&member(false, 3), Some(&with)).unwrap_err();
        assert!(refused.contains("still has it"), "{refused}");
        assert!(
            refused.contains("ovnsb_db.ctl cluster/kick OVN_Southbound 1a2b"),
            "{refused}"
        );
        let alone = decided(&member(false, 3), None).unwrap_err();
        assert!(alone.contains("bring them back"), "{alone}");
        let joining = Standing {
            cid: String::new(),
            status: Some("joining cluster".into()),
            ..member(false, 0)
        };
        assert!(decided(&joining, Some(&with)).is_err());
        let others = raft("c", &["3c4d"]);
        assert_eq!(decided(&joining, Some(&others)), Ok(Way::Aside));
        let empty = decided(&member(false, 3), Some(&raft("c", &[])));
        assert!(empty.is_err(), "who lists nobody has struck nobody");
    }

    #[test]
    fn the_only_server_of_another_raft_keeps_its_files() {
        let other = raft("d", &["3c4d", "5e6f"]);
        for here in [member(true, 1), member(false, 1)] {
            let refused = decided(&here, Some(&other)).unwrap_err();
            assert!(refused.contains("which one is in use"), "{refused}");
        }
        assert!(decided(&member(true, 1), None).is_err());
    }

    fn head_of(json: &str) -> String {
        format!("OVSDB CLUSTER {} 0123abcd\n{json}\nOVSDB …", json.len())
    }

    #[test]
    fn a_file_tells_its_server_and_raft() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("db");
        let json =
            r#"{"cluster_id":"c-1","local_address":"ssl:10.0.0.1:6643","server_id":"1a2b-3"}"#;
        fs::write(&file, head_of(json)).unwrap();
        let head = read_head(&file).unwrap();
        assert_eq!((&*head.cluster_id, &*head.server_id), ("c-1", "1a2b-3"));
        fs::write(&file, head_of(r#"{"server_id":"1a2b-3"}"#)).unwrap();
        assert_eq!(read_head(&file).unwrap().cluster_id, "");
        for wrong in ["", "OVSDB JSON 2 ab\n{}\n", "OVSDB CLUSTER 999 ab\n{\"se"] {
            fs::write(&file, wrong).unwrap();
            assert!(read_head(&file).is_err(), "{wrong:?}");
        }
    }

    #[tokio::test]
    async fn files_of_a_server_that_is_down_stay_where_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let paths = OvnPaths::below(dir.path());
        for path in [&paths.defaults, &paths.data] {
            fs::create_dir_all(path).unwrap();
        }
        let north = paths.data.join("ovnnb_db.db");
        fs::write(&north, "").unwrap();
        let refused = leave(&paths, &Rafts::default()).await;
        assert!(
            matches!(&refused, Err(HostError::GuardFailed { reason }) if reason.contains("did not make")),
            "{refused:?}"
        );
        let ours = super::super::ovn_central::render(&[]);
        fs::write(options_file(&paths), ours).unwrap();
        let json = r#"{"cluster_id":"c","server_id":"1a2b-3"}"#;
        for (content, why) in [
            (String::new(), "does not tell"),
            (head_of(json), "still has it"),
        ] {
            fs::write(&north, content).unwrap();
            let told = Rafts {
                northbound: Some(raft("c", &["1a2b", "3c4d"])),
                southbound: Some(raft("c", &["3c4d"])),
            };
            let refused = leave(&paths, &told).await;
            assert!(
                matches!(&refused, Err(HostError::GuardFailed { reason }) if reason.contains(why)),
                "{refused:?}"
            );
            assert!(north.exists() && options_file(&paths).exists());
        }
        fs::remove_file(&north).unwrap();
        fs::remove_file(options_file(&paths)).unwrap();
        assert_eq!(leave(&paths, &Rafts::default()).await, Ok(()));
    }
}
