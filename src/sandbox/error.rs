//! What can go wrong with a sandbox, and what to do about it.

use std::path::{Path, PathBuf};
use std::time::Duration;

/// Why a sandbox could not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The program does not run as root.
    #[error("the sandbox needs root: run it with sudo")]
    NotRoot,
    /// Programs the sandbox stands on are not installed.
    #[error("not installed: {}; on Debian: apt-get install {packages}", tools.join(", "))]
    Missing {
        /// The programs that were looked for.
        tools: Vec<String>,
        /// The Debian packages that have them, separated by spaces.
        packages: String,
    },
    /// The file system of the state directory is too full.
    #[error(
        "{path}: {free_mib} MiB free, {needed_mib} MiB needed: make room or choose another --state-dir"
    )]
    Space {
        /// The state directory.
        path: PathBuf,
        /// What an unprivileged user would have left.
        free_mib: u64,
        /// What the hosts asked for may take.
        needed_mib: u64,
    },
    /// A name that cannot be used for a sandbox or a host.
    #[error("{name:?} is not a name for a {what}: {rule}")]
    Name {
        /// "sandbox" or "host".
        what: &'static str,
        /// What was given.
        name: String,
        /// What a name looks like.
        rule: &'static str,
    },
    /// No sandbox of this name exists.
    #[error("there is no sandbox {0:?}: make one with `microcloud sandbox up --name {0}`")]
    NoSandbox(String),
    /// The sandbox has no such host.
    #[error("sandbox {sandbox:?} has no host {host:?}: see `microcloud sandbox list`")]
    NoHost {
        /// The host asked for.
        host: String,
        /// The sandbox.
        sandbox: String,
    },
    /// The host is there and does not run.
    #[error("{host} does not run: `microcloud sandbox start {host}` brings it back")]
    NotRunning {
        /// The host.
        host: String,
    },
    /// No more hosts fit.
    #[error("a sandbox has room for {0} hosts")]
    TooManyHosts(u16),
    /// The machine's package sources name no Debian mirror.
    #[error("no Debian mirror in this machine's apt sources: name one with --mirror URL")]
    NoMirror,
    /// Every candidate subnet is in use on this machine.
    #[error("no free subnet for the {0} network: every candidate is in use on this machine")]
    NoSubnet(&'static str),
    /// Another command works on the same sandbox.
    #[error("another command holds {path} since {waited:?}: wait for it to end, then try again")]
    Busy {
        /// The lock.
        path: PathBuf,
        /// How long it was waited for.
        waited: Duration,
    },
    /// The state file cannot be understood.
    #[error("{path} cannot be read as a sandbox's state: `microcloud sandbox down` removes it")]
    State {
        /// The file.
        path: PathBuf,
        /// What the decoder said.
        source: serde_json::Error,
    },
    /// A program that was called failed.
    #[error("{program} failed ({status}): {said}")]
    Command {
        /// The program with its arguments.
        program: String,
        /// How it ended.
        status: String,
        /// The last lines of its error output.
        said: String,
    },
    /// Something took longer than it may.
    #[error("{what} took longer than {deadline:?}: {hint}")]
    Timeout {
        /// What was waited for.
        what: String,
        /// How long.
        deadline: Duration,
        /// Where to look.
        hint: String,
    },
    /// A host ended while it was started.
    #[error("{host} ended while it was started: {said}")]
    Ended {
        /// The host.
        host: String,
        /// The end of its console.
        said: String,
    },
    /// A file or a device could not be worked with.
    #[error("cannot {doing} {path}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// Something of the sandbox could not be removed.
    #[error("left over: {0}: run `microcloud sandbox down` again")]
    LeftOver(String),
    /// Several hosts failed.
    #[error("{}", .0.iter().map(|(h, e)| format!("{h}: {}", chain(e))).collect::<Vec<_>>().join("; "))]
    Hosts(Vec<(String, Error)>),
}

impl Error {
    /// An [`Error::Io`].
    pub(super) fn io(
        doing: &'static str,
        path: impl AsRef<Path>,
        source: impl Into<std::io::Error>,
    ) -> Error {
        Error::Io {
            doing,
            path: path.as_ref().to_owned(),
            source: source.into(),
        }
    }

    /// Whether the caller asked for what cannot be (and not that something broke).
    #[must_use]
    pub fn is_usage(&self) -> bool {
        matches!(
            self,
            Error::NotRoot
                | Error::Missing { .. }
                | Error::Space { .. }
                | Error::Name { .. }
                | Error::NoSandbox(_)
                | Error::NoHost { .. }
                | Error::TooManyHosts(_)
                | Error::NoMirror
        )
    }

    /// Whether something did not answer.
    #[must_use]
    pub fn is_unreachable(&self) -> bool {
        match self {
            Error::NotRunning { .. } | Error::Timeout { .. } | Error::Ended { .. } => true,
            Error::Hosts(failed) => failed.iter().all(|(_, e)| e.is_unreachable()),
            _ => false,
        }
    }
}

/// An error and its causes on one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        line.push_str(": ");
        line.push_str(&cause.to_string());
        next = cause.source();
    }
    line
}
