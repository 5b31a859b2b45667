//! Writing and removing files: whole or not at all, and never through a mount.

use super::Error;
use super::command::{SHORT, run};
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;

/// Writes a file by renaming a finished one over it.
pub(super) fn replace(path: &Path, content: &[u8], mode: u32) -> Result<(), Error> {
    use std::os::unix::fs::PermissionsExt;
    let dir = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(dir).map_err(|e| Error::io("make", dir, e))?;
    let mut file = tempfile::Builder::new()
        .prefix(".new-")
        .permissions(fs::Permissions::from_mode(mode))
        .tempfile_in(dir)
        .map_err(|e| Error::io("write in", dir, e))?;
    file.write_all(content)
        .map_err(|e| Error::io("write", path, e))?;
    // The temporary file was made under the umask; what is copied into a host must not be.
    file.as_file()
        .set_permissions(fs::Permissions::from_mode(mode))
        .and_then(|()| file.persist(path).map_err(|e| e.error))
        .map_err(|e| Error::io("write", path, e))?;
    Ok(())
}

/// Writes a file below a root; directories made on the way are readable by everyone.
pub(super) fn write_below(root: &Path, path: &str, content: &[u8], mode: u32) -> Result<(), Error> {
    let path = root.join(path);
    make_dirs(path.parent().unwrap_or(root))?;
    replace(&path, content, mode)
}

/// Makes a directory and what is above it, each 0755 whatever the umask.
pub(super) fn make_dirs(dir: &Path) -> Result<(), Error> {
    use std::os::unix::fs::PermissionsExt;
    if dir.is_dir() {
        return Ok(());
    }
    if let Some(above) = dir.parent() {
        make_dirs(above)?;
    }
    match fs::create_dir(dir) {
        Ok(()) => fs::set_permissions(dir, fs::Permissions::from_mode(0o755))
            .map_err(|e| Error::io("set the mode of", dir, e)),
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(e) => Err(Error::io("make", dir, e)),
    }
}

/// Unmounts what is mounted below a directory, then removes the directory if it is there.
///
/// Everything of the sandbox is mounted in mount namespaces of its own, so there is nothing to
/// unmount unless somebody else mounted it. Removing through a mount would destroy what is not
/// ours, so a mount that stays is an error.
pub(super) fn remove_tree(dir: &Path) -> Result<(), Error> {
    // Later mounts lie on earlier ones.
    for mount in mounts_below(&mountinfo()?, dir).iter().rev() {
        run(
            Command::new("umount").arg("--no-canonicalize").arg(mount),
            None,
            SHORT,
        )?;
    }
    if let Some(mount) = mounts_below(&mountinfo()?, dir).first() {
        return Err(Error::LeftOver(format!("the mount {mount}")));
    }
    match fs::remove_dir_all(dir) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(Error::io("remove", dir, e)),
    }
}

fn mountinfo() -> Result<String, Error> {
    fs::read_to_string("/proc/self/mountinfo")
        .map_err(|e| Error::io("read", "/proc/self/mountinfo", e))
}

/// The places below `dir` where something is mounted, in the order it was.
fn mounts_below(mountinfo: &str, dir: &Path) -> Vec<String> {
    mountinfo
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(unescape)
        .filter(|mount| Path::new(mount).starts_with(dir))
        .collect()
}

/// Undoes the kernel's `\\040` for a space and the like.
fn unescape(field: &str) -> String {
    let mut out = String::new();
    let mut rest = field;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let code = rest
            .get(at + 1..at + 4)
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(code) => {
                out.push(char::from(code));
                rest = &rest[at + 4..];
            }
            None => {
                out.push('\\');
                rest = &rest[at + 1..];
            }
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_mounts_below_the_directory() {
        let mountinfo = "1 0 0:1 / / rw - ext4 a rw\n2 1 0:2 / /a/b rw - tmpfs t rw\n\
                         3 2 0:3 / /a/b/c\\040d rw - tmpfs t rw\n4 1 0:4 / /a/bc rw - tmpfs t rw\n";
        assert_eq!(
            mounts_below(mountinfo, Path::new("/a/b")),
            ["/a/b", "/a/b/c d"]
        );
        assert_eq!(unescape("a\\b\\9"), "a\\b\\9");
    }
}
