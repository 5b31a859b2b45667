//! Reading what `{file:}` and `{credential:}` refer to. Only a keyed hash ever leaves this room,
//! except into the one request that needs the value.

use super::world::{Secrets, Seen};
use crate::resources::Spec;
use crate::resources::resource::hex;
use crate::resources::value::{Config, ConfigValue};
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use sha2::Sha256;
use std::collections::BTreeSet;
use std::path::PathBuf;

/// The largest secret that is read: a certificate chain fits, a mistaken path to a disk does not.
const LARGEST: u64 = 1024 * 1024;

/// Reads a secret without its final line break.
///
/// # Errors
/// A sentence that says why, without the value.
pub async fn read(reference: &ConfigValue) -> Result<String, String> {
    let path = match reference {
        ConfigValue::Plain(text) => return Ok(text.clone()),
        ConfigValue::File(path) => path.clone(),
        ConfigValue::Credential(name) => {
            let directory = std::env::var_os("CREDENTIALS_DIRECTORY").ok_or_else(|| {
                format!(
                    "the agent was given no credentials: add LoadCredential={name}:PATH to its unit"
                )
            })?;
            if name.contains('/') {
                return Err(format!("`{name}` is not the name of a credential"));
            }
            PathBuf::from(directory).join(name)
        }
    };
    let told = |e: std::io::Error| format!("{}: {e}", path.display());
    let size = tokio::fs::metadata(&path).await.map_err(told)?.len();
    if size > LARGEST {
        return Err(format!("{} is larger than 1 MiB", path.display()));
    }
    let mut text = tokio::fs::read_to_string(&path).await.map_err(told)?;
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    Ok(text)
}

/// Reads all secrets that these specs refer to, as keyed hashes.
pub async fn look(specs: impl IntoIterator<Item = &Spec>, key: &[u8], at: Timestamp) -> Secrets {
    let mut references = BTreeSet::new();
    for spec in specs {
        for config in configs(spec) {
            references.extend(
                config
                    .values()
                    .filter(|v| !matches!(v, ConfigValue::Plain(_)))
                    .cloned(),
            );
        }
    }
    let mut secrets = Secrets::default();
    for reference in references {
        let hash = read(&reference).await.map(|text| keyed_hash(key, &text));
        secrets
            .hashes
            .insert(reference, Seen::from_result(hash, at));
    }
    secrets
}

fn keyed_hash(key: &[u8], text: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(text.as_bytes());
    hex(&mac.finalize().into_bytes())
}

fn configs(spec: &Spec) -> Vec<&Config> {
    match spec {
        Spec::Cluster(s) => vec![&s.config],
        Spec::Member(s) => vec![&s.config],
        Spec::Disk(_) => Vec::new(),
        Spec::Uplink(s) => vec![&s.config],
        Spec::StoragePool(s) => std::iter::once(&s.config)
            .chain(s.members.values().map(|m| &m.config))
            .collect(),
        Spec::Project(s) => vec![&s.config],
        Spec::Network(s) => std::iter::once(&s.config)
            .chain(s.members.values())
            .collect(),
        Spec::Profile(s) => std::iter::once(&s.config)
            .chain(s.devices.values())
            .collect(),
    }
}
