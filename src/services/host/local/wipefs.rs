//! The marks that `wipefs` of util-linux knows, where it is installed: a few hundred kinds, with
//! partition tables and RAID of hardware long gone. Asked only about disks that look blank, so
//! that a report of disks in use starts no process.

use serde::Deserialize;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;

/// How long one disk may take.
const DEADLINE: Duration = Duration::from_secs(5);

#[derive(Debug, Deserialize)]
struct Listing {
    #[serde(default)]
    signatures: Vec<Mark>,
}

#[derive(Debug, Deserialize)]
struct Mark {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    usage: Option<String>,
}

/// The marks on a device. Nothing when `wipefs` is not installed.
///
/// # Errors
/// It is, but could not tell: what is on the device is not known.
pub(super) async fn read(device: &Path) -> Result<Vec<String>, String> {
    let running = Command::new("wipefs")
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("LC_ALL", "C")
        .args(["--json", "--output", "TYPE,USAGE"])
        .arg(device)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = match tokio::time::timeout(DEADLINE, running).await {
        Err(_) => return Err(format!("wipefs took longer than {} s", DEADLINE.as_secs())),
        Ok(Err(e)) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Ok(Err(e)) => return Err(format!("cannot run wipefs: {e}")),
        Ok(Ok(output)) => output,
    };
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("wipefs: {}", said.trim()));
    }
    understand(&output.stdout)
}

fn understand(json: &[u8]) -> Result<Vec<String>, String> {
    // Older versions print nothing at all for a blank device.
    if json.iter().all(u8::is_ascii_whitespace) {
        return Ok(Vec::new());
    }
    let listing: Listing =
        serde_json::from_slice(json).map_err(|e| format!("wipefs said something odd: {e}"))?;
    let mut marks: Vec<String> = listing.signatures.into_iter().map(name).collect();
    marks.sort_unstable();
    marks.dedup();
    Ok(marks)
}

/// The words `signatures.rs` uses.
fn name(mark: Mark) -> String {
    match mark.usage.as_deref() {
        Some("partition-table") => format!("partition table {}", mark.kind),
        Some("filesystem") => format!("{} filesystem", mark.kind),
        _ => match mark.kind.as_str() {
            "LVM2_member" => "lvm member".to_owned(),
            "linux_raid_member" => "md raid member".to_owned(),
            "zfs_member" => "zfs member".to_owned(),
            "crypto_LUKS" => "luks volume".to_owned(),
            "ceph_bluestore" => "bluestore".to_owned(),
            "swap" => "swap space".to_owned(),
            other => other.to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_words_become_ours() {
        let json = br#"{"signatures": [
            {"type":"gpt","usage":"partition-table"}, {"type":"PMBR","usage":"partition-table"},
            {"type":"gpt","usage":"partition-table"}, {"type":"minix","usage":"filesystem"},
            {"type":"LVM2_member","usage":"raid"}, {"type":"adaptec_raid_member","usage":"raid"}]}"#;
        assert_eq!(
            understand(json).unwrap(),
            [
                "adaptec_raid_member",
                "lvm member",
                "minix filesystem",
                "partition table PMBR",
                "partition table gpt"
            ]
        );
        assert_eq!(understand(b"\n").unwrap(), Vec::<String>::new());
        assert!(understand(b"no json").is_err());
    }
}
