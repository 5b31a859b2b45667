//! `agent.yaml`: what one machine's agent is told.

use crate::services::peer;
use serde::Deserialize;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::path::{Path, PathBuf};

/// Where the configuration is looked for.
pub const CONFIG: &str = "/etc/microcloud/agent.yaml";
/// The watched directory unless `agent.yaml` names another; only if it exists at start.
pub const DIRECTORY: &str = "/etc/microcloud/resources";
/// The state directory.
pub const STATE: &str = "/var/lib/microcloud";
/// The socket for commands.
pub const SOCKET: &str = "/run/microcloud/control.socket";

/// Everything an agent is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The member's name.
    pub name: String,
    /// The watched directory, if there is one.
    pub directory: Option<PathBuf>,
    /// The address other members' agents reach this one at; `::` is every address.
    pub listen: IpAddr,
    /// The TCP port for that.
    pub port: u16,
    /// The socket of LXD or Incus, when it is not at one of the known places.
    pub lxd_socket: Option<PathBuf>,
    /// Key, trust, last accepted state, highest epoch.
    pub state_dir: PathBuf,
    /// The socket for commands.
    pub socket: PathBuf,
}

/// What the command line says over the file.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Overrides {
    /// The configuration file
    #[arg(long, value_name = "FILE", env = "MICROCLOUD_CONFIG", global = true)]
    pub config: Option<PathBuf>,
    /// Where the agent keeps its key and state
    #[arg(long, value_name = "DIR", env = "MICROCLOUD_STATE_DIR", global = true)]
    pub state_dir: Option<PathBuf>,
    /// The agent's socket for commands
    #[arg(long, value_name = "PATH", env = "MICROCLOUD_SOCKET", global = true)]
    pub socket: Option<PathBuf>,
}

/// `agent.yaml` as written.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    name: Option<String>,
    directory: Option<PathBuf>,
    listen: Option<IpAddr>,
    port: Option<u16>,
    lxd_socket: Option<PathBuf>,
    state_dir: Option<PathBuf>,
    socket: Option<PathBuf>,
}

/// The fields of `agent.yaml`, for "did you mean".
const FIELDS: [&str; 7] = [
    "name",
    "directory",
    "listen",
    "port",
    "lxdSocket",
    "stateDir",
    "socket",
];

/// The configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file does not say what it may.
    #[error("{path}: {reason}")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Which field, where, and what it should be.
        reason: String,
    },
    /// The machine has no usable name.
    #[error(
        "the host name is `{0}`, which cannot be a member's name: set the host name, or `name` \
         in agent.yaml"
    )]
    HostName(String),
}

impl Config {
    /// Reads the file the overrides name, or [`CONFIG`] if it exists, and applies the overrides.
    ///
    /// # Errors
    /// A file that was named does not exist, or a file does not decode.
    pub fn load(overrides: &Overrides) -> Result<Config, ConfigError> {
        let file = match &overrides.config {
            Some(path) => read(path, true)?,
            None => read(Path::new(CONFIG), false)?,
        };
        let name = match file.name {
            Some(name) => name,
            None => host_name()?,
        };
        let directory = file.directory.or_else(|| {
            let known = PathBuf::from(DIRECTORY);
            known.exists().then_some(known)
        });
        let or = |over: &Option<PathBuf>, file: Option<PathBuf>, default: &str| {
            over.clone()
                .or(file)
                .unwrap_or_else(|| PathBuf::from(default))
        };
        Ok(Config {
            name,
            directory,
            listen: file.listen.unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED)),
            port: file.port.unwrap_or(peer::PORT),
            lxd_socket: file.lxd_socket,
            state_dir: or(&overrides.state_dir, file.state_dir, STATE),
            socket: or(&overrides.socket, file.socket, SOCKET),
        })
    }
}

fn read(path: &Path, required: bool) -> Result<File, ConfigError> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound && !required => return Ok(File::default()),
        Err(source) => {
            return Err(ConfigError::Read {
                path: path.to_owned(),
                source,
            });
        }
    };
    let invalid = |reason: String| ConfigError::Invalid {
        path: path.to_owned(),
        reason,
    };
    // A file of comments alone is null.
    let file = serde_yaml::from_str::<Option<File>>(&text)
        .map_err(|e| invalid(explain(&e.to_string())))?
        .unwrap_or_default();
    if let Some(name) = &file.name
        && !peer::identity::valid_name(name)
    {
        return Err(invalid(format!(
            "name: `{name}` cannot be a member's name: 1 to 63 letters, digits, `-` and `.`"
        )));
    }
    if file.port == Some(0) {
        return Err(invalid("port: must be 1 to 65535".to_owned()));
    }
    let paths = [
        ("directory", &file.directory),
        ("lxdSocket", &file.lxd_socket),
        ("stateDir", &file.state_dir),
        ("socket", &file.socket),
    ];
    for (field, given) in paths {
        if given.as_ref().is_some_and(|p| !p.is_absolute()) {
            return Err(invalid(format!("{field}: must be an absolute path")));
        }
    }
    Ok(file)
}

/// Adds "did you mean" to a message about an unknown field.
fn explain(message: &str) -> String {
    let unknown = message
        .split_once("unknown field `")
        .and_then(|(_, rest)| rest.split_once('`'))
        .map(|(word, _)| word);
    let near = unknown.and_then(|word| {
        FIELDS
            .into_iter()
            .map(|field| (strsim::damerau_levenshtein(word, field), field))
            .filter(|(distance, _)| *distance <= 3)
            .min()
    });
    match near {
        Some((_, field)) => format!("{message} (did you mean `{field}`?)"),
        None => message.to_owned(),
    }
}

/// The machine's host name.
fn host_name() -> Result<String, ConfigError> {
    let name = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    if peer::identity::valid_name(&name) && name != "localhost" {
        Ok(name)
    } else {
        Err(ConfigError::HostName(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Config, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.yaml");
        fs::write(&path, text).unwrap();
        let overrides = Overrides {
            config: Some(path),
            state_dir: Some("/over".into()),
            socket: None,
        };
        Config::load(&overrides).map_err(|e| e.to_string())
    }

    #[test]
    fn every_field_is_read_and_the_command_line_wins() {
        let config = load(
            "name: micro01\ndirectory: /srv/cloud\nlisten: 10.0.0.1\nport: 1234\n\
             lxdSocket: /run/lxd\nstateDir: /file\nsocket: /run/c\n",
        )
        .unwrap();
        let expected = Config {
            name: "micro01".to_owned(),
            directory: Some("/srv/cloud".into()),
            listen: "10.0.0.1".parse().unwrap(),
            port: 1234,
            lxd_socket: Some("/run/lxd".into()),
            state_dir: "/over".into(),
            socket: "/run/c".into(),
        };
        assert_eq!(config, expected);
        let config = load("# nothing\nname: a").unwrap();
        assert_eq!(config.port, 9445);
        assert_eq!(config.listen.to_string(), "::");
    }

    #[test]
    fn mistakes_are_explained() {
        for (text, expected) in [
            ("name: a\ndirektory: /srv", "did you mean `directory`"),
            ("name: a\nport: 70000", "line 2"),
            ("name: a\nlisten: everywhere", "listen"),
            ("name: a b", "cannot be a member's name"),
            ("name: a\nport: 0", "1 to 65535"),
            ("name: a\nsocket: here", "socket: must be an absolute path"),
            ("name: [", "agent.yaml"),
        ] {
            let error = load(text).unwrap_err();
            assert!(error.contains(expected), "{text:?}: {error}");
        }
        let missing = Overrides {
            config: Some("/nowhere/agent.yaml".into()),
            ..Overrides::default()
        };
        assert!(Config::load(&missing).is_err());
    }
}
