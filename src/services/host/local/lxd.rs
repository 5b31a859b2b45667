//! The instance service of this machine: whether it answers, and what it holds.

use super::{half_made, lxd_form};
use crate::services::host::types::{Leftovers, LxdReport, LxdState};
use crate::services::lxd::types::Server;
use crate::services::lxd::{Lxd, LxdError};
use std::fs;
use std::path::{Path, PathBuf};

/// Where the socket of LXD or Incus may be.
const SOCKETS: [&str; 3] = [
    "/var/snap/lxd/common/lxd/unix.socket",
    "/var/lib/lxd/unix.socket",
    "/var/lib/incus/unix.socket",
];

/// Units that start the service; one of them means that it is installed.
const UNITS: [&str; 5] = [
    "/etc/systemd/system/snap.lxd.daemon.service",
    "/usr/lib/systemd/system/lxd.service",
    "/lib/systemd/system/lxd.service",
    "/usr/lib/systemd/system/incus.service",
    "/lib/systemd/system/incus.service",
];

/// Projects that every standalone service has, or that this program made.
const OWN_PROJECTS: [&str; 2] = ["default", "microcloud"];

/// The socket of the instance service: the given one, else the first of the known places that
/// exists. `None` when there is none.
pub fn find_lxd_socket(given: Option<&Path>) -> Option<PathBuf> {
    match given {
        Some(path) => path.exists().then(|| path.to_owned()),
        None => SOCKETS.iter().map(PathBuf::from).find(|p| p.exists()),
    }
}

/// Looks at the service.
pub(super) async fn report(given: Option<&Path>) -> LxdReport {
    let Some(socket) = find_lxd_socket(given) else {
        let installed = given.is_some() || UNITS.iter().any(|unit| Path::new(unit).exists());
        return if installed {
            let place = given.map_or("its known places".into(), |p| p.display().to_string());
            LxdReport::NotRunning {
                reason: format!("no socket at {place}: start the service"),
            }
        } else {
            LxdReport::NotInstalled
        };
    };
    let looked = async { state(&Lxd::unix(&socket)?).await };
    match looked.await {
        Ok(mut state) => {
            state.pool_directories = half_made::directories(&socket);
            LxdReport::Running(state)
        }
        Err(error) => LxdReport::NotRunning {
            reason: error.to_string(),
        },
    }
}

/// What the service says of itself.
pub(super) async fn state(lxd: &Lxd) -> Result<LxdState, LxdError> {
    let server = lxd.server().await?.value;
    let leftovers = if server.environment.server_clustered {
        Leftovers::default()
    } else {
        leftovers(lxd).await?
    };
    // Of a join that an earlier run of this agent began; while it runs, the caller knows by itself.
    let joining = !server.environment.server_clustered && lxd_form::forming(lxd).await?.is_some();
    let config = server.config_text();
    let key = |name: &str| config.get(name).cloned().unwrap_or_default();
    let environment = &server.environment;
    Ok(LxdState {
        server: environment.server.clone(),
        version: environment.server_version.clone(),
        api_extensions: server.api_extensions.len(),
        clustered: environment.server_clustered,
        member_name: if environment.server_clustered {
            environment.server_name.clone()
        } else {
            String::new()
        },
        certificate_fingerprint: environment.certificate_fingerprint.clone(),
        joining,
        cluster_address: key("cluster.https_address"),
        https_address: key("core.https_address"),
        started: started(&server),
        leftovers,
        pool_directories: Vec::new(),
    })
}

/// What a standalone service holds that joining would destroy.
pub(super) async fn leftovers(lxd: &Lxd) -> Result<Leftovers, LxdError> {
    let mut found = Leftovers::default();
    for pool in lxd.pools().await? {
        for url in lxd.custom_volumes(&pool.name).await? {
            let (_, volume) = project_and_name(&url);
            found.volumes.push(format!("{}/{volume}", pool.name));
        }
        found.pools.push(pool.name);
    }
    for project in lxd.projects().await? {
        let own_networks = project.config.get("features.networks");
        if project.name == "default" || own_networks.is_some_and(|v| v == "true") {
            let networks = lxd.networks(&project.name).await?;
            let managed = networks.into_iter().filter(|n| n.managed);
            found.networks.extend(managed.map(|n| n.name));
        }
        if !OWN_PROJECTS.contains(&project.name.as_str()) {
            found.projects.push(project.name);
        }
    }
    for url in lxd.instances_summary().await? {
        let (project, name) = project_and_name(&url);
        found.instances.push(format!("{project}/{name}"));
    }
    for url in lxd.images().await? {
        found.images.push(project_and_name(&url).1);
    }
    for list in [
        &mut found.pools,
        &mut found.networks,
        &mut found.instances,
        &mut found.volumes,
        &mut found.images,
        &mut found.projects,
    ] {
        list.sort();
        list.dedup();
    }
    Ok(found)
}

/// The project and the last segment of `/1.0/instances/web?project=shop`.
fn project_and_name(url: &str) -> (String, String) {
    let (path, query) = url.split_once('?').unwrap_or((url, ""));
    let project = query
        .split('&')
        .find_map(|pair| pair.strip_prefix("project="))
        .unwrap_or("default");
    let name = path.rsplit('/').next().unwrap_or_default();
    (project.to_owned(), name.to_owned())
}

/// A word that changes whenever the service starts: its process and when that began.
fn started(server: &Server) -> String {
    let pid = server.environment.server_pid;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name, in parentheses, may hold anything; the start is the 20th field after it.
    let began = stat
        .rsplit_once(") ")
        .and_then(|(_, rest)| rest.split(' ').nth(19))
        .unwrap_or("0");
    format!("{pid}.{began}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        for (url, project, name) in [
            ("/1.0/instances/web", "default", "web"),
            ("/1.0/instances/web?project=shop", "shop", "web"),
            (
                "/1.0/storage-pools/local/volumes/custom/v1?a=b&project=p&target=m",
                "p",
                "v1",
            ),
        ] {
            let expected = (project.to_owned(), name.to_owned());
            assert_eq!(project_and_name(url), expected);
        }
    }

    #[test]
    fn a_process_start_is_read() {
        let mut server = Server::default();
        server.environment.server_pid = i64::from(std::process::id());
        let word = started(&server);
        assert!(!word.ends_with(".0"), "{word}");
        assert_eq!(word, started(&server));
    }

    #[tokio::test]
    async fn a_socket_that_is_not_there_is_not_running() {
        let missing = Path::new("/nowhere/unix.socket");
        assert!(matches!(
            report(Some(missing)).await,
            LxdReport::NotRunning { .. }
        ));
    }
}
