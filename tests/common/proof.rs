//! The pages in `docs/proof/`: what the long tests and the benchmarks found, and with what.

// Each program uses a part of this.
#![allow(dead_code)]

use super::real::{Cloud, FIRST, Outcome};
use std::path::{Path, PathBuf};
use std::{fs, thread};

/// A page that is printed while it is made, and kept once it is whole.
pub struct Page {
    path: PathBuf,
    text: String,
}

impl Page {
    /// A page with a title and what it is about; `command` makes it anew.
    pub fn new(file: &str, title: &str, about: &str, command: &str) -> Page {
        Page {
            path: Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("docs/proof")
                .join(file),
            text: format!("# {title}\n\n{about}\n\nMade by `{command}`.\n\n"),
        }
    }

    /// Adds a line.
    pub fn line(&mut self, line: &str) {
        println!("{line}");
        self.text += line;
        self.text.push('\n');
    }

    /// Keeps the page.
    pub fn keep(&self) -> Outcome {
        if let Some(folder) = self.path.parent() {
            fs::create_dir_all(folder)?;
        }
        Ok(fs::write(&self.path, &self.text)?)
    }
}

/// What a table was made with.
pub fn versions(cloud: &Cloud) -> Outcome<String> {
    let environment = cloud.query(FIRST, "/1.0")?["environment"].clone();
    let word = |key: &str| environment[key].as_str().unwrap_or_default().to_owned();
    let release = cloud.must(FIRST, &["sh", "-c", ". /etc/os-release; echo $PRETTY_NAME"])?;
    let systemd = cloud.must(FIRST, &["systemctl", "--version"])?;
    Ok(format!(
        "microcloud {}, LXD {}, {}, {}, kernel {}, {} processors\n",
        env!("CARGO_PKG_VERSION"),
        word("server_version"),
        release.trim(),
        systemd.lines().next().unwrap_or_default(),
        word("kernel_version").split('-').next().unwrap_or_default(),
        thread::available_parallelism().map_or(0, usize::from),
    ))
}
