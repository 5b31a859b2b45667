//! Making the instance service of this machine a member: the first one, or one more.
//!
//! Both can be asked again: what is done already is left alone. A join outlives its caller and
//! may outlive the connection to the service, so after every failure the service is asked what it
//! is now; only that decides.

use super::join_remains::Begun;
use super::lxd::{find_lxd_socket, leftovers};
use super::lxd_unjoin::{Became, JoinMark, became};
use crate::services::host::types::{BootstrapLxd, HostError, JoinLxd, Leftovers};
use crate::services::lxd::types::Server;
use crate::services::lxd::{JoinRequest, Lxd, LxdError};
use crate::services::peer::pins::hex;
use base64::Engine;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

/// The port of LXD and Incus.
const PORT: u16 = 8443;
/// How long the service may take to be ready before and after.
const READY: Duration = Duration::from_secs(30);
/// How long the outcome of a broken join is waited for.
const OUTCOME: Duration = Duration::from_secs(30);
/// How long to pause between two looks at a service that may be joining.
const LOOK: Duration = Duration::from_secs(2);
/// How long to pause between two looks at a service that starts.
const PAUSE: Duration = Duration::from_millis(200);

/// The parts of a join token that are checked here.
#[derive(Deserialize)]
struct Token {
    #[serde(alias = "serverName")]
    server_name: String,
    fingerprint: String,
    addresses: Vec<String>,
}

/// Makes the service at the socket the first member of a cluster.
pub(super) async fn bootstrap(
    socket: Option<&Path>,
    request: BootstrapLxd,
) -> Result<(), HostError> {
    bootstrap_at(&connect(socket)?, &request).await
}

/// Makes the service at the socket join a cluster; whether it is known how that ended comes with
/// what came of it.
pub(super) async fn join(
    socket: Option<&Path>,
    request: JoinLxd,
    mark: &JoinMark,
    begun: &Begun,
) -> (Result<(), HostError>, bool) {
    let lxd = match connect(socket) {
        Ok(lxd) => lxd,
        Err(error) => return (Err(error), false),
    };
    let joined = join_at(&lxd, &request, mark, begun).await;
    let ended = joined.is_ok() || became(&lxd, Duration::ZERO).await == Became::Ended;
    (joined, ended)
}

fn connect(socket: Option<&Path>) -> Result<Lxd, HostError> {
    let path = find_lxd_socket(socket)
        .ok_or_else(|| failed("neither LXD nor Incus is installed, or its socket is gone"))?;
    Lxd::unix(path).map_err(|e| failed(e.to_string()))
}

fn failed(reason: impl Into<String>) -> HostError {
    HostError::Failed {
        reason: reason.into(),
    }
}

fn guard(reason: impl Into<String>) -> HostError {
    HostError::GuardFailed {
        reason: reason.into(),
    }
}

async fn bootstrap_at(lxd: &Lxd, request: &BootstrapLxd) -> Result<(), HostError> {
    settled(lxd).await?;
    let server = ready(lxd, READY).await?;
    let address = SocketAddr::new(request.address, PORT).to_string();
    if server.environment.server_clustered {
        return is_first(&server, request, &address);
    }
    let wanted = [
        ("core.https_address", everywhere()),
        ("cluster.https_address", address.clone()),
    ];
    hold(lxd, &server, &wanted)
        .await
        .map_err(|e| failed(format!("cannot set the addresses: {e}")))?;
    tracing::info!(name = request.name, address, "forming the cluster");
    let Err(error) = lxd.bootstrap(&request.name).await else {
        ready(lxd, READY).await?;
        return Ok(());
    };
    let now = ready(lxd, READY).await?;
    if now.environment.server_clustered {
        is_first(&now, request, &address)
    } else {
        Err(failed(format!("cannot form the cluster: {error}")))
    }
}

/// Whether a clustered service already is what was asked for.
fn is_first(server: &Server, request: &BootstrapLxd, address: &str) -> Result<(), HostError> {
    let name = &server.environment.server_name;
    let config = server.config_text();
    let has = config.get("cluster.https_address").map(String::as_str);
    if *name == request.name && has == Some(address) {
        Ok(())
    } else {
        Err(guard(format!(
            "this machine is in a cluster already, as `{name}` at {}",
            has.unwrap_or("no address")
        )))
    }
}

async fn join_at(
    lxd: &Lxd,
    request: &JoinLxd,
    mark: &JoinMark,
    begun: &Begun,
) -> Result<(), HostError> {
    let token = read_token(&request.token)?;
    let certificate = CertificateDer::from_pem_slice(request.cluster_certificate.as_bytes())
        .map_err(|e| guard(format!("the cluster's certificate is not PEM: {e}")))?;
    let fingerprint = hex(&Sha256::digest(&certificate));
    if !token.fingerprint.eq_ignore_ascii_case(&fingerprint) {
        return Err(guard(
            "the cluster's certificate is not the one the join token names",
        ));
    }
    if token.server_name != request.name {
        return Err(guard(format!(
            "the join token was made for `{}`, not `{}`",
            token.server_name, request.name
        )));
    }
    // An earlier call's join may still be running: this agent may have been restarted meanwhile.
    settled(lxd).await?;
    let server = ready(lxd, READY).await?;
    if server.environment.server_clustered {
        return finish(lxd, &server, &request.name, &fingerprint).await;
    }
    let found = leftovers(lxd)
        .await
        .map_err(|e| failed(format!("cannot see what this machine holds: {e}")))?;
    let more = beyond(&found, &request.expected_leftovers);
    if !more.is_empty() {
        return Err(guard(format!(
            "this machine holds more than was seen before, which joining would destroy: {more}"
        )));
    }
    let join = JoinRequest {
        name: request.name.clone(),
        server_address: SocketAddr::new(request.address, PORT).to_string(),
        cluster_address: reachable(&token.addresses).await?,
        cluster_certificate: request.cluster_certificate.clone(),
        token: request.token.clone(),
        member_config: request.member_config.clone(),
    };
    tracing::info!(
        name = join.name,
        through = join.cluster_address,
        "joining the cluster"
    );
    if server.config_text().contains_key("core.https_address") {
        // One that was a member before listens everywhere, and LXD 5.0 would take that for the
        // address it has in the cluster. It is set again when it has joined.
        hold(lxd, &server, &[("core.https_address", String::new())])
            .await
            .map_err(|e| failed(format!("cannot unset core.https_address: {e}")))?;
    }
    mark.set(begun)?;
    let began = Instant::now();
    let outcome = lxd.join(&join).await;
    let took = began.elapsed().as_secs_f32();
    match &outcome {
        Ok(()) => tracing::info!(took, "the service says it joined"),
        Err(error) => tracing::warn!(took, %error, "the service did not say that it joined"),
    }
    let end = Instant::now() + if unknown(&outcome) { OUTCOME } else { READY };
    loop {
        settled(lxd).await?;
        let now = ready(lxd, end.saturating_duration_since(Instant::now())).await;
        match (&outcome, now) {
            (_, Ok(now)) if now.environment.server_clustered => {
                return finish(lxd, &now, &request.name, &fingerprint).await;
            }
            (Err(error), Ok(_)) if !unknown(&outcome) => {
                return Err(failed(format!("the join failed: {error}")));
            }
            (Err(error), _) if Instant::now() >= end => {
                return Err(failed(format!(
                    "the join's outcome is not known ({error}), and {} s later the service is \
                     in no cluster",
                    OUTCOME.as_secs()
                )));
            }
            (Ok(()), Err(error)) => return Err(error),
            (Ok(()), Ok(_)) if Instant::now() >= end => {
                return Err(failed("the service says it joined, but is in no cluster"));
            }
            _ => sleep(LOOK).await,
        }
    }
}

/// Whether the service has not said how the join ended.
fn unknown(outcome: &Result<(), LxdError>) -> bool {
    matches!(
        outcome,
        Err(LxdError::Transport(_) | LxdError::OutcomeUnknown { .. } | LxdError::Unexpected { .. })
    )
}

/// What remains once the service is in a cluster: to make sure that it is the right one, and
/// that clients reach it.
async fn finish(
    lxd: &Lxd,
    server: &Server,
    name: &str,
    fingerprint: &str,
) -> Result<(), HostError> {
    let environment = &server.environment;
    let same = environment
        .certificate_fingerprint
        .eq_ignore_ascii_case(fingerprint);
    if same && environment.server_name.is_empty() {
        return Err(failed(
            "the join ended half way: the service is in the cluster and is no member of it",
        ));
    }
    if !same || environment.server_name != name {
        return Err(guard(format!(
            "this machine is in {} already, as `{}`",
            if same {
                "this cluster"
            } else {
                "another cluster"
            },
            environment.server_name
        )));
    }
    settled(lxd).await?;
    hold(lxd, server, &[("core.https_address", everywhere())])
        .await
        .map_err(|e| failed(format!("joined, but cannot set core.https_address: {e}")))
}

/// Waits until the service is not forming or joining a cluster. It calls itself clustered while
/// it is still at it, and what is asked of its database in the midst of that hangs, and can hold
/// the join up, for most of a minute; only the operation itself may be asked for.
async fn settled(lxd: &Lxd) -> Result<(), HostError> {
    let end = Instant::now() + OUTCOME;
    loop {
        match forming(lxd).await {
            Ok(None) => return Ok(()),
            _ if Instant::now() >= end => {
                return Err(failed(format!(
                    "the service has been forming or joining a cluster for {} s",
                    OUTCOME.as_secs()
                )));
            }
            Ok(Some(operation)) => {
                // How it ended shows in what the service is then.
                let _ = lxd.wait(&operation, end - Instant::now()).await;
            }
            Err(_) => sleep(LOOK).await,
        }
    }
}

/// The operation that forms or joins a cluster now, if there is one.
pub(super) async fn forming(lxd: &Lxd) -> Result<Option<String>, LxdError> {
    let operations = lxd.operations().await?;
    let running = operations.into_iter().find(|operation| {
        let lives = operation.class == "task" && operation.status_code < 200;
        lives && operation.resources.get("cluster").is_some()
    });
    Ok(running.map(|operation| operation.id))
}

/// Writes the keys that differ.
async fn hold(lxd: &Lxd, server: &Server, wanted: &[(&str, String)]) -> Result<(), LxdError> {
    let config = server.config_text();
    let differs: BTreeMap<String, String> = wanted
        .iter()
        .filter(|(key, value)| config.get(*key) != Some(value))
        .map(|(key, value)| ((*key).to_owned(), value.clone()))
        .collect();
    if differs.is_empty() {
        return Ok(());
    }
    lxd.patch_server(&differs, None).await
}

/// Every address of the machine.
fn everywhere() -> String {
    let ipv6 = Path::new("/proc/net/if_inet6").exists();
    format!("{}:{PORT}", if ipv6 { "[::]" } else { "0.0.0.0" })
}

/// Waits until the service has started and tells what it is.
async fn ready(lxd: &Lxd, patience: Duration) -> Result<Server, HostError> {
    let end = Instant::now() + patience;
    loop {
        let asked = async {
            lxd.ready().await?;
            lxd.server().await
        };
        match asked.await {
            Ok(server) => return Ok(server.value),
            Err(error) if Instant::now() + PAUSE >= end => {
                return Err(failed(format!("the service is not ready: {error}")));
            }
            Err(_) => sleep(PAUSE).await,
        }
    }
}

/// Reads a token. Errors do not repeat it: it is a secret.
fn read_token(token: &str) -> Result<Token, HostError> {
    let json = base64::engine::general_purpose::STANDARD
        .decode(token.trim())
        .map_err(|_| guard("the join token is not base64"))?;
    serde_json::from_slice(&json).map_err(|_| guard("the join token does not decode"))
}

/// The first of the members' addresses that answers.
async fn reachable(addresses: &[String]) -> Result<String, HostError> {
    for address in addresses {
        let connecting = TcpStream::connect(address.as_str());
        if let Ok(Ok(_)) = timeout(Duration::from_secs(3), connecting).await {
            return Ok(address.clone());
        }
    }
    Err(failed(format!(
        "none of the cluster's members can be reached from here: {}",
        addresses.join(", ")
    )))
}

/// What is there and was not expected.
fn beyond(found: &Leftovers, expected: &Leftovers) -> Leftovers {
    let more = |found: &[String], expected: &[String]| {
        let new = found.iter().filter(|name| !expected.contains(name));
        new.cloned().collect()
    };
    Leftovers {
        pools: more(&found.pools, &expected.pools),
        networks: more(&found.networks, &expected.networks),
        instances: more(&found.instances, &expected.instances),
        volumes: more(&found.volumes, &expected.volumes),
        images: more(&found.images, &expected.images),
        projects: more(&found.projects, &expected.projects),
    }
}

#[cfg(test)]
mod tests;
