//! Hints that the watched directory may have changed.

use super::snapshot;
use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};
use tokio::sync::mpsc as channel;

/// How long nothing must happen before a hint is given: editors and sync tools write in bursts.
const QUIET: Duration = Duration::from_millis(100);

/// How long a hint is held back at most while changes go on.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// How often metadata are compared, for what the kernel does not tell: files behind symlinks that
/// lead elsewhere, network file systems, paths whose ancestors were swapped.
const POLL: Duration = Duration::from_secs(30);

/// The same while the kernel cannot watch, which it refuses when too many others watch something.
const POLL_ALONE: Duration = Duration::from_secs(2);

/// Hints that a directory may have changed. Ends when it is dropped.
#[derive(Debug)]
pub struct Watch {
    hints: channel::Receiver<()>,
    stop: mpsc::Sender<Signal>,
}

impl Watch {
    /// Waits for the next hint. Hints that nobody waited for are one. There is none at the start:
    /// read the directory once after [`watch`] returned.
    ///
    /// Cancel safe. Returns false when the watching thread is gone, which it never is by itself.
    pub async fn hint(&mut self) -> bool {
        self.hints.recv().await.is_some()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // A thread that is gone needs no telling.
        let _ = self.stop.send(Signal::Stop);
    }
}

#[derive(Debug)]
enum Signal {
    Changed,
    Stop,
}

/// Watches a directory, whether or not it is there: it may vanish and come back, and be swapped as
/// a symlink, like any folder above it.
///
/// Costs one thread that sleeps until something happens, and one look at the metadata of all files
/// every 30 seconds; every 2 seconds while the kernel refuses to watch, until it does.
///
/// # Errors
/// The thread cannot be started.
pub fn watch(path: &Path) -> std::io::Result<Watch> {
    watch_every(path, POLL)
}

fn watch_every(path: &Path, poll: Duration) -> std::io::Result<Watch> {
    let path = std::path::absolute(path)?;
    let (hint, hints) = channel::channel(1);
    let (stop, signals) = mpsc::channel();
    let mut watcher = Watching::new(path, stop.clone());
    watcher.look();
    thread::Builder::new()
        .name("watch".to_owned())
        .spawn(move || {
            let mut last_poll = Instant::now();
            loop {
                let poll = if watcher.watcher.is_some() {
                    poll
                } else {
                    poll.min(POLL_ALONE)
                };
                let until_poll = poll.saturating_sub(last_poll.elapsed());
                let changed = match signals.recv_timeout(until_poll) {
                    Ok(Signal::Changed) => match settle(&signals) {
                        true => true,
                        false => return,
                    },
                    Ok(Signal::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                    Err(RecvTimeoutError::Timeout) => false,
                };
                last_poll = Instant::now();
                // A change that left no trace (a file written with what it held) is no hint.
                if watcher.look() || changed {
                    // When one hint waits already, it stands for this one too.
                    let _ = hint.try_send(());
                }
            }
        })?;
    Ok(Watch { hints, stop })
}

/// Waits until nothing happened for [`QUIET`], at most [`LONGEST_WAIT`]. False when told to stop.
fn settle(signals: &mpsc::Receiver<Signal>) -> bool {
    let since = Instant::now();
    loop {
        let wait = QUIET.min(LONGEST_WAIT.saturating_sub(since.elapsed()));
        match signals.recv_timeout(wait) {
            Ok(Signal::Changed) if since.elapsed() < LONGEST_WAIT => {}
            Ok(Signal::Changed) | Err(RecvTimeoutError::Timeout) => return true,
            Ok(Signal::Stop) | Err(RecvTimeoutError::Disconnected) => return false,
        }
    }
}

struct Watching {
    path: PathBuf,
    signals: mpsc::Sender<Signal>,
    /// The kernel's watches, and what they were set on.
    watcher: Option<(RecommendedWatcher, Target)>,
    stamps: Option<Result<Vec<snapshot::Stamp>, String>>,
    /// Whether it was said that the kernel cannot watch.
    told: bool,
}

/// What the kernel's watches are set on: they stay on the folder that a swapped link led to.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Target {
    /// The directory itself, if it is there.
    root: Option<PathBuf>,
    /// The nearest folder above it that is there.
    above: Option<PathBuf>,
}

impl Watching {
    fn new(path: PathBuf, signals: mpsc::Sender<Signal>) -> Watching {
        Watching {
            path,
            signals,
            watcher: None,
            stamps: None,
            told: false,
        }
    }

    /// Sets the watches where they belong now and compares the metadata with the last look.
    fn look(&mut self) -> bool {
        let target = Target::of(&self.path);
        if self
            .watcher
            .as_ref()
            .is_none_or(|(_, current)| *current != target)
        {
            // The old watches go first: a recursive watch of the same folder is one watch.
            self.watcher = None;
            match self.set(&target) {
                Ok(watcher) => {
                    self.watcher = Some((watcher, target));
                    self.told = false;
                }
                Err(error) if !self.told => {
                    tracing::warn!(path = %self.path.display(), %error,
                        "the kernel cannot watch the directory (see fs.inotify.max_user_instances \
                         and max_user_watches); it is looked at every 2 s");
                    self.told = true;
                }
                Err(_) => {}
            }
        }
        // After the watches are set, so that nothing is missed between.
        let stamps = snapshot::stamps(&self.path);
        let changed = self.stamps.as_ref().is_some_and(|last| *last != stamps);
        self.stamps = Some(stamps);
        changed
    }

    fn set(&self, target: &Target) -> notify::Result<RecommendedWatcher> {
        let signals = self.signals.clone();
        let (path, above) = (self.path.clone(), target.above.clone());
        let mut watcher =
            notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
                if matters(&event, &path, above.as_deref()) {
                    // A thread that is gone needs no telling.
                    let _ = signals.send(Signal::Changed);
                }
            })?;
        if let Some(above) = &target.above {
            watcher.watch(above, RecursiveMode::NonRecursive)?;
        }
        if target.root.is_some() {
            watcher.watch(&self.path, RecursiveMode::Recursive)?;
        }
        Ok(watcher)
    }
}

impl Target {
    fn of(path: &Path) -> Target {
        let root = std::fs::canonicalize(path)
            .ok()
            .filter(|real| real.is_dir());
        let above = path
            .ancestors()
            .skip(1)
            .find(|folder| folder.is_dir())
            .map(Path::to_owned);
        Target { root, above }
    }
}

/// Whether an event can mean a change of the directory. Reading it makes events too: they must not
/// lead to the next reading.
fn matters(event: &notify::Result<notify::Event>, path: &Path, above: Option<&Path>) -> bool {
    let Ok(event) = event else {
        // Lost events: anything may have happened.
        return true;
    };
    match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => {}
        EventKind::Access(_) => return false,
        _ => {}
    }
    if event.need_rescan() || event.paths.is_empty() {
        return true;
    }
    event.paths.iter().any(|changed| {
        let inside = changed.starts_with(path);
        let on_the_way = path.starts_with(changed);
        // Beside the directory: only what leads to it matters.
        if !inside && !on_the_way {
            // Events below a watched symlink come with the link's own path, so this is a
            // neighbour in the folder above.
            return above.is_none_or(|above| !changed.starts_with(above));
        }
        let name = changed
            .file_name()
            .map(|n| n.to_string_lossy())
            .unwrap_or_default();
        !snapshot::temporary(&name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    const SOON: Duration = Duration::from_secs(5);
    /// Far beyond every test, so that only the kernel's events can give the hint.
    const NEVER: Duration = Duration::from_secs(3600);

    async fn hinted(watch: &mut Watch) -> bool {
        tokio::time::timeout(SOON, watch.hint()).await.is_ok()
    }

    async fn quiet(watch: &mut Watch) -> bool {
        tokio::time::timeout(Duration::from_millis(400), watch.hint())
            .await
            .is_err()
    }

    fn directory() -> tempfile::TempDir {
        tempfile::tempdir().expect("a temporary directory can be made")
    }

    #[tokio::test]
    async fn writing_removing_and_new_folders_give_hints_and_reading_none() {
        let root = directory();
        let mut watch = watch_every(root.path(), NEVER).expect("watched");
        fs::write(root.path().join("a.yaml"), "one").expect("written");
        assert!(hinted(&mut watch).await);
        crate::resources::directory::read(root.path());
        assert!(quiet(&mut watch).await, "reading must not give a hint");
        fs::create_dir_all(root.path().join("deep/er")).expect("made");
        assert!(hinted(&mut watch).await);
        fs::write(root.path().join("deep/er/b.yaml"), "two").expect("written");
        assert!(hinted(&mut watch).await);
        fs::remove_file(root.path().join("a.yaml")).expect("there");
        assert!(hinted(&mut watch).await);
        fs::write(root.path().join(".a.yaml.swp"), "").expect("written");
        fs::write(root.path().join("a.yaml~"), "").expect("written");
        assert!(
            quiet(&mut watch).await,
            "an editor's files must not give a hint"
        );
    }

    #[tokio::test]
    async fn a_swapped_symlink_gives_a_hint_and_is_followed() {
        let root = directory();
        for version in ["v1", "v2"] {
            fs::create_dir(root.path().join(version)).expect("made");
            fs::write(root.path().join(version).join("a.yaml"), version).expect("written");
        }
        let link = root.path().join("current");
        symlink("v1", &link).expect("link");
        let mut watch = watch_every(&link, NEVER).expect("watched");
        symlink("v2", root.path().join("next")).expect("link");
        fs::rename(root.path().join("next"), &link).expect("swapped");
        assert!(hinted(&mut watch).await);
        fs::write(root.path().join("v2/a.yaml"), "new").expect("written");
        assert!(hinted(&mut watch).await, "the new target must be watched");
    }

    #[tokio::test]
    async fn a_config_map_update_gives_a_hint() {
        let root = directory();
        for version in ["..1", "..2"] {
            fs::create_dir(root.path().join(version)).expect("made");
            fs::write(root.path().join(version).join("a.yaml"), version).expect("written");
        }
        symlink("..1", root.path().join("..data")).expect("link");
        symlink("..data/a.yaml", root.path().join("a.yaml")).expect("link");
        let mut watch = watch_every(root.path(), NEVER).expect("watched");
        symlink("..2", root.path().join("..data_tmp")).expect("link");
        fs::rename(root.path().join("..data_tmp"), root.path().join("..data")).expect("swapped");
        assert!(hinted(&mut watch).await);
    }

    #[tokio::test]
    async fn a_path_that_vanishes_and_comes_back_is_watched_again() {
        let root = directory();
        let path = root.path().join("etc/resources");
        let mut watch = watch_every(&path, NEVER).expect("watched");
        fs::create_dir(root.path().join("etc")).expect("made");
        assert!(hinted(&mut watch).await);
        fs::create_dir(&path).expect("made");
        assert!(hinted(&mut watch).await);
        fs::write(path.join("a.yaml"), "one").expect("written");
        assert!(hinted(&mut watch).await);
        fs::remove_dir_all(root.path().join("etc")).expect("there");
        assert!(hinted(&mut watch).await);
        fs::create_dir_all(&path).expect("made");
        assert!(hinted(&mut watch).await);
        // The watches may still be on their way to the new folder.
        tokio::time::sleep(QUIET * 3).await;
        while !quiet(&mut watch).await {}
        fs::write(path.join("a.yaml"), "two").expect("written");
        assert!(hinted(&mut watch).await);
    }

    #[tokio::test]
    async fn the_poll_finds_what_the_kernel_does_not_tell() {
        let (root, elsewhere) = (directory(), directory());
        let target = elsewhere.path().join("a.yaml");
        fs::write(&target, "one").expect("written");
        symlink(&target, root.path().join("a.yaml")).expect("link");
        let mut watch = watch_every(root.path(), Duration::from_millis(200)).expect("watched");
        assert!(quiet(&mut watch).await, "nothing changed");
        fs::write(&target, "two, longer").expect("written");
        assert!(hinted(&mut watch).await);
    }
}
