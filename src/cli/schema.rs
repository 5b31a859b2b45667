//! `microcloud schema`: the JSON Schemas of the kinds, for editors and other programs.

use super::Exit;
use crate::resources::{Kind, schema};
use std::path::{Path, PathBuf};

/// Arguments of `microcloud schema`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The kind; all kinds in one schema unless given
    #[arg(value_name = "KIND")]
    kind: Option<Kind>,

    /// Write one file per kind, and one for all, into this folder
    #[arg(long, hide = true, value_name = "DIR", conflicts_with = "kind")]
    write: Option<PathBuf>,
}

/// Runs the command.
pub fn run(args: Args) -> Exit {
    if let Some(folder) = &args.write {
        return write_files(folder, schema::files());
    }
    let schema = args.kind.map_or_else(schema::of_all, schema::of_kind);
    super::print(&format!("{schema:#}\n"));
    Exit::Done
}

/// Writes generated files into a folder, which is made.
pub(super) fn write_files(folder: &Path, files: Vec<(String, String)>) -> Exit {
    let write = || -> std::io::Result<()> {
        std::fs::create_dir_all(folder)?;
        for (name, content) in files {
            std::fs::write(folder.join(name), content)?;
        }
        Ok(())
    };
    match write() {
        Ok(()) => Exit::Done,
        Err(error) => {
            eprintln!("error: cannot write into {}: {error}", folder.display());
            Exit::Invalid
        }
    }
}
