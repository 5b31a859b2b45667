//! Loop devices: which are ours, attaching and detaching them.

use super::Error;
use super::command::{SHORT, helper, run};
use super::layout::Layout;
use serde::Deserialize;
use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// A file by its device and inode: what a loop device holds has no path once its mount
/// namespace is gone.
type FileId = (u64, u64);

/// An attached loop device.
#[derive(Debug, PartialEq, Eq)]
struct Attached {
    device: PathBuf,
    file: Option<FileId>,
    /// The path of the file as the kernel knows it.
    path: String,
}

/// Attaches `file` to a free loop device, or returns the one it is attached to already.
pub(super) fn attach(layout: &Layout, file: &Path) -> Result<PathBuf, Error> {
    let meta = fs::metadata(file).map_err(|e| Error::io("look at", file, e))?;
    let id = Some((meta.dev(), meta.ino()));
    if let Some(found) = attached(layout)?.into_iter().find(|a| a.file == id) {
        return Ok(found.device);
    }
    let said = run(
        helper(layout, "losetup")
            .args(["--find", "--show"])
            .arg(file),
        None,
        SHORT,
    )?;
    Ok(PathBuf::from(said.trim()))
}

/// Detaches every loop device whose file is below `dir` and waits until it is free.
///
/// # Errors
/// [`Error::LeftOver`] naming the devices that something still uses after 10 s.
pub(super) fn detach_below(layout: &Layout, dir: &Path) -> Result<(), Error> {
    let mut files: Option<HashSet<FileId>> = None;
    let mut ours = Vec::new();
    for loop_device in attached(layout)? {
        let by_path = Path::new(&loop_device.path).starts_with(dir);
        // Walking the directory is only worth it when there is a device to ask about.
        let by_file = |files: &mut Option<HashSet<FileId>>| {
            let files = files.get_or_insert_with(|| files_below(dir).into_iter().collect());
            loop_device.file.is_some_and(|f| files.contains(&f))
        };
        if by_path || by_file(&mut files) {
            ours.push(loop_device);
        }
    }
    for loop_device in &ours {
        // It may have been cleared by itself since; whether it is free is what counts.
        let _ = run(
            helper(layout, "losetup")
                .arg("--detach")
                .arg(&loop_device.device),
            None,
            SHORT,
        );
    }
    let begun = Instant::now();
    loop {
        let still: Vec<Attached> = attached(layout)?
            .into_iter()
            .filter(|a| ours.contains(a))
            .collect();
        if still.is_empty() {
            return Ok(());
        }
        if begun.elapsed() > Duration::from_secs(10) {
            let names: Vec<String> = still
                .iter()
                .map(|a| a.device.display().to_string())
                .collect();
            return Err(Error::LeftOver(names.join(", ")));
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// The regular files below a directory; what cannot be read is passed over.
fn files_below(dir: &Path) -> Vec<FileId> {
    let mut found = Vec::new();
    let mut rest = vec![dir.to_owned()];
    while let Some(dir) = rest.pop() {
        let Ok(entries) = fs::read_dir(&dir) else {
            continue;
        };
        for entry in entries.flatten() {
            // Does not follow symbolic links.
            let Ok(meta) = entry.metadata() else { continue };
            if meta.is_dir() {
                rest.push(entry.path());
            } else if meta.is_file() {
                found.push((meta.dev(), meta.ino()));
            }
        }
    }
    found
}

fn attached(layout: &Layout) -> Result<Vec<Attached>, Error> {
    let json = run(
        helper(layout, "losetup").args([
            "--list",
            "--json",
            "--output",
            "NAME,BACK-INO,BACK-MAJ:MIN,BACK-FILE",
        ]),
        None,
        SHORT,
    )?;
    Ok(parse(&json))
}

fn parse(json: &str) -> Vec<Attached> {
    #[derive(Deserialize)]
    struct List {
        loopdevices: Vec<serde_json::Value>,
    }
    // `losetup` prints nothing when there is no loop device.
    let Ok(list) = serde_json::from_str::<List>(json) else {
        return Vec::new();
    };
    // Numbers are strings in some versions.
    let text = |v: &serde_json::Value, key: &str| match v.get(key) {
        Some(serde_json::Value::String(s)) => s.trim().to_owned(),
        Some(other) if !other.is_null() => other.to_string(),
        _ => String::new(),
    };
    list.loopdevices
        .iter()
        .map(|v| {
            let device = text(v, "back-maj:min");
            let device = device.split_once(':').and_then(|(major, minor)| {
                Some(rustix::fs::makedev(
                    major.trim().parse().ok()?,
                    minor.trim().parse().ok()?,
                ))
            });
            let inode = text(v, "back-ino").parse().ok();
            Attached {
                device: text(v, "name").into(),
                file: device.zip(inode),
                path: text(v, "back-file"),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_losetup_prints() {
        let json = r#"{"loopdevices": [
            {"name":"/dev/loop0", "back-ino":1234, "back-maj:min":"254:0", "back-file":"/a/b (deleted)"},
            {"name":"/dev/loop1", "back-ino":"7", "back-maj:min":"  8:1  ", "back-file":"/c"},
            {"name":"/dev/loop2", "back-ino":null, "back-maj:min":null, "back-file":null}]}"#;
        let found = parse(json);
        assert_eq!(found.len(), 3);
        assert_eq!(found[0].file, Some((rustix::fs::makedev(254, 0), 1234)));
        assert_eq!(found[1].file, Some((rustix::fs::makedev(8, 1), 7)));
        assert_eq!(found[2].file, None);
        assert!(parse("").is_empty() && parse("{\"loopdevices\": [\n\n   ]\n}").is_empty());
    }

    #[test]
    fn files_are_found_by_inode_and_links_not_followed() -> Result<(), Box<dyn std::error::Error>> {
        let dir = tempfile::tempdir()?;
        let outside = tempfile::tempdir()?;
        fs::create_dir(dir.path().join("deep"))?;
        fs::write(dir.path().join("deep/file"), "x")?;
        fs::write(outside.path().join("other"), "x")?;
        std::os::unix::fs::symlink(outside.path(), dir.path().join("link"))?;
        let meta = fs::metadata(dir.path().join("deep/file"))?;
        assert_eq!(files_below(dir.path()), [(meta.dev(), meta.ino())]);
        Ok(())
    }
}
