//! Preseeds of MicroCloud, LXD and Incus to resources.
//!
//! Unlike the programs they are for, which skip what they do not know, a key that is not known is
//! an error with its place. What resources cannot say is an error or a warning, never dropped in
//! silence; secrets are never carried over. What is made is decoded and validated as every
//! resource is, and what is wrong with it is shown at the place in the imported file it came from.

pub mod meeting;
mod microcloud;
mod microcloud_file;
mod microcloud_rules;
mod reader;
mod server;
mod server_file;
mod sketch;

use super::written::Document;
use crate::resources::check::{listed, nearest};
use crate::resources::decode::Located;
use crate::resources::text::Text;
use crate::resources::value::Mode;
use crate::resources::yaml::{Content, Node};
use crate::resources::{Diagnostic, Resource, validate};
use ipnet::IpNet;
use reader::{Reader, Tree};
use sketch::Sketch;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

/// The name of the `Cluster` that is written.
const CLOUD: &str = "cloud";

/// Whose preseed a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// `microcloud preseed` of MicroCloud
    Microcloud,
    /// `lxd init --preseed`
    Lxd,
    /// `incus admin init --preseed`
    Incus,
}

/// What the file does not say.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Whose preseed it is; seen from its keys unless given.
    pub format: Option<Format>,
    /// Addresses of machines by their names.
    pub addresses: BTreeMap<String, IpAddr>,
    /// The mode of the `Cluster`; `Report` unless given, for files of LXD and Incus only.
    pub mode: Option<Mode>,
    /// What a MicroCloud preseed leaves to the machines, when they were looked at: then its session
    /// was held, and its counts of disks were checked.
    pub seen: Option<Seen>,
}

/// What machines tell that a MicroCloud preseed leaves open.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The interface that leads outside, of machines the file names none for.
    pub interfaces: BTreeMap<String, String>,
    /// The driver of local storage, which MicroCloud's file cannot say.
    pub local_driver: String,
    /// The subnet of the machines' addresses, where the file does not say it.
    pub internal: Option<IpNet>,
}

/// What became of the files.
#[derive(Debug, Clone)]
pub struct Imported {
    /// Whose preseeds they were.
    pub format: Format,
    /// Whether the format was given or is certain from the keys.
    pub certain: bool,
    /// The resources.
    pub documents: Vec<Document>,
    /// What was left out or will be otherwise, with its place.
    pub warnings: Vec<Diagnostic>,
}

/// What one file became, before it is decoded.
struct Sketched {
    sketches: Vec<Sketch>,
    /// Resources that are there already where the file only adds to a cluster.
    beside: Vec<serde_json::Value>,
    reader: Reader,
}

/// Turns preseeds into resources. Several files are those of the servers of one LXD or Incus
/// cluster: the one that forms it, and those that join.
///
/// # Errors
/// Everything that is wrong with the files, each with its place.
pub fn import(files: &[(&str, &[u8])], options: &Options) -> Result<Imported, Vec<Diagnostic>> {
    let mut trees = Vec::new();
    let mut wrong = Vec::new();
    for (name, bytes) in files {
        match reader::tree(name, bytes) {
            Ok(tree) => trees.push(tree),
            Err(found) => wrong.extend(found),
        }
    }
    if !wrong.is_empty() {
        return Err(wrong);
    }
    let (format, certain) = match options.format {
        Some(format) => (format, true),
        None => format_of(&trees)?,
    };
    let sketched = match format {
        Format::Microcloud => {
            let mut trees = trees.into_iter();
            let sketched = match trees.next() {
                Some(tree) => vec![microcloud::import(tree, options)?],
                None => Vec::new(),
            };
            if let Some(second) = trees.next() {
                let message = "a MicroCloud preseed is for all machines: give one file";
                return Err(vec![second.text.diagnostic(
                    second.root.span,
                    message,
                    None,
                )]);
            }
            sketched
        }
        Format::Lxd | Format::Incus => server::import(trees, format, options)?,
    };
    let (documents, warnings) = decode(sketched)?;
    Ok(Imported {
        format,
        certain,
        documents,
        warnings,
    })
}

/// Keys only a MicroCloud preseed has.
const OF_MICROCLOUD: [&str; 10] = [
    "systems",
    "initiator",
    "initiator_address",
    "lookup_subnet",
    "lookup_timeout",
    "session_passphrase",
    "session_timeout",
    "ovn",
    "ceph",
    "storage",
];

/// Keys of both LXD's and Incus's preseeds.
const OF_SERVERS: [&str; 7] = [
    "config",
    "networks",
    "storage_pools",
    "storage_volumes",
    "profiles",
    "projects",
    "cluster",
];

/// Whose preseeds the files are, from their keys, and whether that is certain: most of LXD's and
/// Incus's are the same.
fn format_of(trees: &[Tree]) -> Result<(Format, bool), Vec<Diagnostic>> {
    let mut incus = false;
    let mut lxd = false;
    for tree in trees {
        let Content::Mapping(entries) = &tree.root.content else {
            continue;
        };
        let mut known = false;
        for entry in entries {
            match entry.key.as_str() {
                key if OF_MICROCLOUD.contains(&key) => return Ok((Format::Microcloud, true)),
                "certificates" => incus = true,
                key if OF_SERVERS.contains(&key) => known = true,
                _ => {}
            }
        }
        lxd |= has(&tree.root, &["cluster", "cluster_password"])
            || has(&tree.root, &["config", "core.trust_password"]);
        if !(known || incus) {
            return Err(vec![unknown(tree)]);
        }
    }
    Ok(match incus {
        true => (Format::Incus, true),
        false => (Format::Lxd, lxd),
    })
}

/// A file none of whose keys is known.
fn unknown(tree: &Tree) -> Diagnostic {
    let first = match &tree.root.content {
        Content::Mapping(entries) => entries.first(),
        _ => None,
    };
    let Some(first) = first else {
        return tree
            .text
            .diagnostic(tree.root.span, "the file holds no keys", None);
    };
    if matches!(first.key.as_str(), "apiVersion" | "kind") {
        let help = "apply it with `microcloud apply -f`".to_owned();
        let message = "this is a resource already";
        return tree.text.diagnostic(first.key_span, message, Some(help));
    }
    let all: Vec<&str> = OF_MICROCLOUD.into_iter().chain(OF_SERVERS).collect();
    let help = match nearest(&first.key, &all) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("its keys are some of {}", listed(&all)),
    };
    let message = format!(
        "`{}` is no key of a preseed of MicroCloud, LXD or Incus",
        first.key
    );
    tree.text.diagnostic(first.key_span, message, Some(help))
}

fn has(root: &Node, path: &[&str]) -> bool {
    path.iter()
        .try_fold(root, |node, key| node.get(key).map(|e| &e.value))
        .is_some()
}

/// Decodes and validates what was made, as every resource is.
fn decode(sketched: Vec<Sketched>) -> Result<(Vec<Document>, Vec<Diagnostic>), Vec<Diagnostic>> {
    let mut wrong = Vec::new();
    let mut warnings = Vec::new();
    let mut located: Vec<Located> = Vec::new();
    let mut notes = Vec::new();
    let mut beside = Vec::new();
    for part in sketched {
        wrong.extend(part.reader.wrong);
        warnings.extend(part.reader.warnings);
        let text: &Arc<Text> = part.reader.positions.text();
        for sketch in part.sketches {
            match sketch.decode(text) {
                Ok((resource, note)) => {
                    located.push(resource);
                    notes.push(note);
                }
                Err(broken) => wrong.extend(broken.diagnostics),
            }
        }
        for document in part.beside {
            let resource: Resource =
                serde_json::from_value(document).expect("it is written here, and valid");
            if !beside
                .iter()
                .any(|b: &Resource| b.reference() == resource.reference())
            {
                beside.push(resource);
            }
        }
    }
    for found in validate::findings(&located, &beside, &[]) {
        wrong.extend(found);
    }
    if !wrong.is_empty() {
        wrong.sort_by(|a, b| (&a.file, a.line, a.column).cmp(&(&b.file, b.line, b.column)));
        wrong.dedup();
        return Err(wrong);
    }
    warnings.sort_by(|a, b| (&a.file, a.line, a.column).cmp(&(&b.file, b.line, b.column)));
    let documents = located
        .into_iter()
        .zip(notes)
        .map(|(located, notes)| Document {
            resource: located.resource,
            notes,
        })
        .collect();
    Ok((documents, warnings))
}
