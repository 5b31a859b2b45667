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
        return match write(folder) {
            Ok(()) => Exit::Done,
            Err(error) => {
                eprintln!("error: cannot write into {}: {error}", folder.display());
                Exit::Invalid
            }
        };
    }
    let schema = args.kind.map_or_else(schema::of_all, schema::of_kind);
    super::print(&format!("{schema:#}\n"));
    Exit::Done
}

fn write(folder: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    for (name, content) in schema::files() {
        std::fs::write(folder.join(name), content)?;
    }
    Ok(())
}
