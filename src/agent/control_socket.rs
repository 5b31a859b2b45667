//! The unix socket by which commands on this machine reach the agent.

use super::serve::serve_connection;
use axum::Router;
use axum::body::Body;
use axum::extract::DefaultBodyLimit;
use axum::http::{Request, StatusCode};
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The group whose members may use the socket.
pub const GROUP: &str = "microcloud";

/// The most a request may hold, bytes: a folder of resources.
const MOST: usize = 64 << 20;

/// The socket cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Another agent answers on it.
    #[error("another agent is running already: it answers on {0}")]
    InUse(PathBuf),
    /// Something else is at that place.
    #[error("{0} is not a socket: remove it or name another place with `socket` in agent.yaml")]
    NotASocket(PathBuf),
    /// The system refused.
    #[error("cannot listen on {path}")]
    Io {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Which process uses the socket, by the kernel's word; among the extensions of each request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocalCaller {
    /// The user id.
    pub uid: u32,
    /// The group id.
    pub gid: u32,
    /// The process id, when the kernel says.
    pub pid: Option<i32>,
}

/// The listening socket; its file goes with it.
#[derive(Debug)]
pub struct ControlSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path); // the next agent removes what stays behind
    }
}

impl ControlSocket {
    /// Listens on `path`: mode 0660 and of the group `microcloud` if there is one, else 0600.
    /// A socket that an agent left behind is replaced; one that answers never is.
    ///
    /// # Errors
    /// Another agent answers there, something else is there, or the system refuses.
    pub async fn bind(path: &Path) -> Result<ControlSocket, SocketError> {
        let failed = |source| SocketError::Io {
            path: path.to_owned(),
            source,
        };
        let dir = path.parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(dir).map_err(failed)?;
        remove_stale(path).await?;
        // Made in a directory of its own first: nobody connects before the mode is set.
        let hidden = tempfile::Builder::new()
            .prefix(".new-")
            .tempdir_in(dir)
            .map_err(failed)?;
        let made = hidden.path().join("s");
        let listener = UnixListener::bind(&made).map_err(failed)?;
        fs::set_permissions(&made, Permissions::from_mode(0o600)).map_err(failed)?;
        if let Some(group) = group_id(GROUP) {
            let chosen = std::os::unix::fs::chown(&made, None, Some(group))
                .and_then(|()| fs::set_permissions(&made, Permissions::from_mode(0o660)));
            if let Err(error) = chosen {
                tracing::warn!(%error, "the control socket stays for its owner alone");
            }
        }
        fs::rename(&made, path).map_err(failed)?;
        let socket = ControlSocket {
            listener,
            path: path.to_owned(),
        };
        Ok(socket)
    }

    /// Serves until `stop`; running requests are tasks of `tasks`.
    pub async fn serve(self, router: Router, stop: CancellationToken, tasks: TaskTracker) {
        let router = router
            .layer(DefaultBodyLimit::max(MOST))
            .fallback(|| async { StatusCode::NOT_FOUND });
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = stop.cancelled() => return,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection on the control socket");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let caller = match stream.peer_cred() {
                Ok(cred) => LocalCaller {
                    uid: cred.uid(),
                    gid: cred.gid(),
                    pid: cred.pid(),
                },
                Err(_) => continue, // gone already
            };
            let prepare = move |request: &mut Request<Body>| {
                request.extensions_mut().insert(caller);
                Ok(())
            };
            tasks.spawn(serve_connection(
                stream,
                router.clone(),
                prepare,
                stop.clone(),
            ));
        }
    }
}

/// Removes a socket nobody answers on.
async fn remove_stale(path: &Path) -> Result<(), SocketError> {
    let failed = |source| SocketError::Io {
        path: path.to_owned(),
        source,
    };
    let kind = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata.file_type(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(failed(e)),
    };
    if !kind.is_socket() {
        return Err(SocketError::NotASocket(path.to_owned()));
    }
    match UnixStream::connect(path).await {
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(failed)
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Ok(_) => Err(SocketError::InUse(path.to_owned())),
        Err(e) => Err(failed(e)),
    }
}

/// The number of a group, from `/etc/group`.
fn group_id(name: &str) -> Option<u32> {
    let groups = fs::read_to_string("/etc/group").ok()?;
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next()? == name).then(|| fields.nth(1)?.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sub/control.socket");
        let live = ControlSocket::bind(&path).await.unwrap();
        assert!(matches!(
            ControlSocket::bind(&path).await,
            Err(SocketError::InUse(_))
        ));
        let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert!(mode == 0o600 || mode == 0o660, "{mode:o}");
        drop(live);
        assert!(!path.exists());

        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "left behind");
        ControlSocket::bind(&path).await.unwrap();

        fs::write(&path, "text").unwrap();
        assert!(matches!(
            ControlSocket::bind(&path).await,
            Err(SocketError::NotASocket(_))
        ));
    }
}
