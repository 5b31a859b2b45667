//! `microcloud explain`: what the fields of the kinds mean.

use super::Exit;
use crate::resources::{Kind, explain, manual};
use std::path::PathBuf;

/// Arguments of `microcloud explain`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A kind or a field of it, such as `Disk` or `Uplink.ipv4.ranges`; lists the kinds unless
    /// given
    #[arg(value_name = "KIND[.FIELD]")]
    path: Option<String>,

    /// Write a page for each kind into this folder
    #[arg(long, hide = true, value_name = "DIR", conflicts_with = "path")]
    write: Option<PathBuf>,
}

/// Runs the command.
pub fn run(args: Args) -> Exit {
    if let Some(folder) = &args.write {
        return super::schema::write_files(folder, manual::files());
    }
    let Some(path) = args.path else {
        for kind in Kind::ALL {
            super::print(&format!("{:<12} {}\n", kind.as_str(), kind.summary()));
        }
        return Exit::Done;
    };
    match explain::explain(&path) {
        Ok(text) => {
            super::print(&text);
            Exit::Done
        }
        Err(error) => {
            eprintln!("error: {error}");
            Exit::Invalid
        }
    }
}
