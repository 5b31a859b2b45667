//! `microcloud import`: preseeds of MicroCloud, LXD and Incus as resources.

use super::Exit;
use super::output::{Paint, tell};
use crate::convert::import::{Format, Imported, Options, import};
use crate::convert::written;
use crate::resources::render;
use crate::resources::value::Mode;
use std::io::Read;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// Arguments of `microcloud import`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The preseed; `-` is the standard input. Of an LXD or Incus cluster: the files of all its
    /// servers
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,

    /// A folder for the resources, one file for each kind; `-` is the standard output
    #[arg(short, long, value_name = "DIR", default_value = "-")]
    output: PathBuf,

    /// Whose preseed it is; seen from its keys unless given
    #[arg(long, value_enum)]
    format: Option<Format>,

    /// The address of a machine that the file does not tell
    #[arg(long, value_name = "NAME=ADDRESS", value_parser = address)]
    address: Vec<(String, IpAddr)>,

    /// Leave `mode: Report` out: what differs is repaired as soon as the resources are applied
    #[arg(long)]
    enforce: bool,

    /// Replace files that are there
    #[arg(long)]
    force: bool,
}

fn address(text: &str) -> Result<(String, IpAddr), String> {
    let (name, address) = text
        .split_once('=')
        .ok_or("write NAME=ADDRESS, such as micro01=192.0.2.11")?;
    let address = address
        .parse()
        .map_err(|_| format!("`{address}` is not an address"))?;
    Ok((name.to_owned(), address))
}

/// Runs the command: 0 when the resources were written, 2 when the files are not valid or the
/// resources could not be written.
pub fn run(args: Args) -> Exit {
    let mut files = Vec::new();
    for path in &args.files {
        match read(path) {
            Ok(bytes) => files.push((path.display().to_string(), bytes)),
            Err(error) => return refuse(&format!("{} cannot be read: {error}", path.display())),
        }
    }
    let files: Vec<(&str, &[u8])> = files
        .iter()
        .map(|(name, bytes)| (name.as_str(), bytes.as_slice()))
        .collect();
    let options = Options {
        format: args.format,
        addresses: args.address.into_iter().collect(),
        mode: args.enforce.then_some(Mode::Enforce),
        seen: None,
    };
    let imported = match import(&files, &options) {
        Ok(imported) => imported,
        Err(wrong) => {
            let shown = render::render(&wrong, Paint::of_stderr().on());
            tell(&format!("{shown}\n{}\n", render::summary(&wrong)));
            return Exit::Invalid;
        }
    };
    warn(&imported);
    save(&imported.documents, &args.output, args.force)
}

/// A file, or the standard input for `-`.
pub(super) fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    if path != Path::new("-") {
        return std::fs::read(path);
    }
    let mut bytes = Vec::new();
    std::io::stdin().lock().read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Shows what is left out or will be otherwise.
pub(super) fn warn(imported: &Imported) {
    let shown = render::warnings(&imported.warnings, Paint::of_stderr().on());
    if !shown.is_empty() {
        tell(&format!("{shown}\n"));
    }
    if !imported.certain {
        tell(
            "note: read as a preseed of LXD; those of Incus look the same: --format incus if it \
             is one\n",
        );
    }
}

/// Writes documents to a folder, or to the standard output.
pub fn save(documents: &[written::Document], output: &Path, force: bool) -> Exit {
    let unwritable = |error: serde_yaml::Error| refuse(&format!("cannot be written: {error}"));
    if output == Path::new("-") {
        return match written::text(documents) {
            Ok(text) => {
                super::print(&text);
                Exit::Done
            }
            Err(error) => unwritable(error),
        };
    }
    let files = match written::files(documents) {
        Ok(files) => files,
        Err(error) => return unwritable(error),
    };
    if let Some((name, _)) = files
        .iter()
        .find(|(name, _)| !force && output.join(name).exists())
    {
        return refuse(&format!(
            "{} is there already: choose another folder, or replace it with --force",
            output.join(name).display()
        ));
    }
    if let Err(error) = std::fs::create_dir_all(output) {
        return refuse(&format!("{} cannot be made: {error}", output.display()));
    }
    for (name, text) in &files {
        let path = output.join(name);
        if let Err(error) = std::fs::write(&path, text) {
            return refuse(&format!("{} cannot be written: {error}", path.display()));
        }
    }
    let resources = super::output::count(documents.len(), "resource");
    let count = super::output::count(files.len(), "file");
    super::print(&format!("{resources} in {count} of {}\n", output.display()));
    Exit::Done
}

fn refuse(message: &str) -> Exit {
    let label = Paint::of_stderr().red("error:");
    tell(&format!("{label} {message}\n"));
    Exit::Invalid
}
