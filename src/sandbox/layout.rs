//! Names and places: everything a sandbox owns, derived from its name and the state directory.

use super::{Error, StateDir};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};

/// The directories of services that get a real directory each, not an overlay: databases and
/// sockets behave there as on a machine's own disk, and can be reached from outside.
pub(super) const DATA: [&str; 5] = ["lxd", "incus", "ceph", "openvswitch", "ovn"];

/// The variable that marks every process of a sandbox; its value is the host's directory.
pub(super) const MARKER: &str = "MICROCLOUD_SANDBOX_HOST";

/// Where one sandbox keeps what.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    dir: StateDir,
    name: String,
}

impl Layout {
    pub(super) fn new(dir: StateDir, name: &str) -> Result<Layout, Error> {
        check_name("sandbox", name)?;
        Ok(Layout {
            dir,
            name: name.to_owned(),
        })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn dir(&self) -> &StateDir {
        &self.dir
    }

    /// The directory of this sandbox.
    pub(super) fn home(&self) -> PathBuf {
        self.dir.sandboxes().join(&self.name)
    }

    pub(super) fn state_file(&self) -> PathBuf {
        self.home().join("state.json")
    }

    pub(super) fn host(&self, host: &str) -> PathBuf {
        self.home().join("hosts").join(host)
    }

    pub(super) fn upper(&self, host: &str) -> PathBuf {
        self.host(host).join("upper")
    }

    pub(super) fn console(&self, host: &str) -> PathBuf {
        self.host(host).join("console.log")
    }

    /// The real directory behind `/var/lib/SERVICE` of a host.
    pub(super) fn data(&self, host: &str, service: &str) -> PathBuf {
        self.host(host).join("var").join(service)
    }

    pub(super) fn disks(&self) -> PathBuf {
        self.home().join("disks")
    }

    /// The name of the network namespace, and the prefix of the machines' names: unique on this
    /// machine, also among state directories.
    pub(super) fn unique(&self) -> String {
        if self.dir.is_default() {
            return format!("microcloud-{}", self.name);
        }
        let digest = Sha256::digest(self.dir.path().as_os_str().as_encoded_bytes());
        format!("microcloud-{}-{}", self.name, hex(&digest[..3]))
    }

    pub(super) fn machine(&self, host: &str) -> String {
        format!("{}-{host}", self.unique())
    }

    /// The network namespace as a path.
    pub(super) fn netns(&self) -> PathBuf {
        Path::new("/run/netns").join(self.unique())
    }
}

/// Lower-case hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

/// Refuses names that do not fit in host names, file names and the names of interfaces.
pub(super) fn check_name(what: &'static str, name: &str) -> Result<(), Error> {
    let fits = (1..=20).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && !name.ends_with('-')
        && name
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    if fits {
        return Ok(());
    }
    Err(Error::Name {
        what,
        name: name.to_owned(),
        rule: "1 to 20 of a-z, 0-9 and -, beginning with a letter and not ending with -",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_would_leave_the_directory_are_refused() {
        for bad in [
            "",
            "..",
            "a/b",
            "A",
            "1a",
            "a-",
            "a b",
            "abcdefghijklmnopqrstu",
            "é",
        ] {
            assert!(check_name("host", bad).is_err(), "{bad:?}");
        }
        for good in ["a", "micro01", "t-sandbox", "abcdefghijklmnopqrst"] {
            assert!(check_name("host", good).is_ok(), "{good:?}");
        }
    }

    #[test]
    fn another_state_directory_gives_other_names() {
        let names: Vec<String> = ["/var/lib/microcloud-sandbox", "/srv/a", "/srv/b"]
            .iter()
            .filter_map(|p| Layout::new(StateDir::new(p), "x").ok())
            .map(|l| l.unique())
            .collect();
        assert_eq!(names[0], "microcloud-x");
        assert_eq!(names.len(), 3);
        assert!(names[1] != names[2] && names[1].starts_with("microcloud-x-"));
    }
}
