//! A daemon's control socket: JSON-RPC whose answers are text for people. Only what no table
//! holds is asked here: which servers a raft has, and to change that.

use super::client::Client;
use super::endpoint::Endpoint;
use super::error::OvsdbError;
use serde_json::json;
use std::path::Path;
use std::time::Duration;

/// How long a daemon may take to answer on its control socket.
const ANSWER: Duration = Duration::from_secs(3);

/// A raft as one of its servers sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RaftStatus {
    /// The server asked, short form of its id.
    pub own: String,
    /// `cluster member`, `joining cluster`, `left cluster`, …
    pub status: String,
    /// `leader`, `follower`, `candidate`.
    pub role: String,
    /// All servers.
    pub servers: Vec<RaftServer>,
}

/// A server of a raft.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RaftServer {
    /// Short form of its id.
    pub id: String,
    /// Where the others reach it, such as `ssl:192.0.2.1:6643`.
    pub address: String,
}

/// Asks a server how its raft of `database` stands.
///
/// # Errors
/// It does not answer, or the database is in no raft.
pub async fn raft_status(socket: &Path, database: &str) -> Result<RaftStatus, OvsdbError> {
    let text = ask(socket, "cluster/status", &[database]).await?;
    parse(&text).ok_or_else(|| OvsdbError::Unexpected {
        endpoint: socket.display().to_string(),
        method: "cluster/status".to_owned(),
        reason: "no server id in it".to_owned(),
    })
}

/// Asks a server to leave its raft.
///
/// # Errors
/// It does not answer or refuses.
pub async fn leave(socket: &Path, database: &str) -> Result<(), OvsdbError> {
    ask(socket, "cluster/leave", &[database]).await.map(|_| ())
}

/// Asks a server to have another one, which is lost, struck from the raft.
///
/// # Errors
/// It does not answer or refuses.
pub async fn kick(socket: &Path, database: &str, id: &str) -> Result<(), OvsdbError> {
    ask(socket, "cluster/kick", &[database, id])
        .await
        .map(|_| ())
}

/// Asks ovn-controller whether it is connected to the southbound database.
///
/// # Errors
/// It does not answer.
pub async fn connected(socket: &Path) -> Result<bool, OvsdbError> {
    let text = ask(socket, "connection-status", &[]).await?;
    Ok(text.trim() == "connected")
}

async fn ask(socket: &Path, method: &str, params: &[&str]) -> Result<String, OvsdbError> {
    let endpoint = Endpoint::Unix(socket.to_owned());
    let client = Client::connect(&endpoint, None).await?;
    let answer = client.call(method, json!(params), ANSWER).await?;
    match answer.as_str() {
        Some(text) => Ok(text.to_owned()),
        None => Err(OvsdbError::Unexpected {
            endpoint: endpoint.to_string(),
            method: method.to_owned(),
            reason: "not a text".to_owned(),
        }),
    }
}

fn parse(text: &str) -> Option<RaftStatus> {
    let mut status = RaftStatus::default();
    let mut in_servers = false;
    for line in text.lines() {
        if in_servers {
            // `    1a2b (1a2b at ssl:192.0.2.1:6643) (self) …`
            let Some((id, rest)) = line.trim().split_once(" (") else {
                continue;
            };
            let Some((_, address)) = rest.split_once(" at ") else {
                continue;
            };
            let Some((address, _)) = address.split_once(')') else {
                continue;
            };
            status.servers.push(RaftServer {
                id: id.to_owned(),
                address: address.to_owned(),
            });
            continue;
        }
        let Some((key, value)) = line.split_once(':') else {
            continue;
        };
        let value = value.trim();
        match key {
            "Server ID" => status.own = value.split(' ').next()?.to_owned(),
            "Status" => status.status = value.to_owned(),
            "Role" => status.role = value.to_owned(),
            "Servers" => in_servers = true,
            _ => {}
        }
    }
    (!status.own.is_empty()).then_some(status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_servers_of_a_raft_are_read() {
        let text = "f3a1\nName: OVN_Northbound\nCluster ID: 1ef1 (1ef1c9a1-0000)\n\
                    Server ID: f3a1 (f3a1c9a1-0000)\nAddress: ssl:10.0.0.1:6643\n\
                    Status: cluster member\nRole: leader\nTerm: 1\nLeader: self\nVote: self\n\n\
                    Election timer: 1000\nLog: [2, 7]\nConnections: ->0000 <-b2c3\n\
                    Disconnections: 0\nServers:\n    b2c3 (b2c3 at ssl:[2001:db8::2]:6643) \
                    next_index=7 match_index=6 last msg 20 ms ago\n    f3a1 (f3a1 at \
                    ssl:10.0.0.1:6643) (self) next_index=5 match_index=6\n";
        let status = parse(text).unwrap();
        assert_eq!(status.own, "f3a1");
        assert_eq!(status.role, "leader");
        assert_eq!(status.status, "cluster member");
        let servers: Vec<(&str, &str)> = status
            .servers
            .iter()
            .map(|s| (s.id.as_str(), s.address.as_str()))
            .collect();
        assert_eq!(
            servers,
            [
                ("b2c3", "ssl:[2001:db8::2]:6643"),
                ("f3a1", "ssl:10.0.0.1:6643")
            ]
        );
        assert_eq!(parse("unknown database\n"), None);
    }
}
