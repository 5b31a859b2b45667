//! The label that BlueStore writes at the start of a disk: which OSD of which cluster it is.
//!
//! A first line and the OSD's id as text, then Ceph's own encoding: version, length, id, size,
//! time, a description, and a map of texts. The map also holds the OSD's key, which is not read
//! out of here.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// The first line.
const MAGIC: &[u8] = b"bluestore block device\n";

/// How much holds the label.
const LENGTH: usize = 4096;

/// Which OSD a disk is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Label {
    /// The OSD's own id.
    pub uuid: String,
    /// What the device is to it: `main`, `bluefs db`, `bluefs wal`.
    pub description: String,
    /// The cluster's id.
    pub fsid: String,
    /// Its number.
    pub id: Option<i64>,
    /// Whether it was made to its end.
    pub ready: bool,
}

/// The label of a device, if it has one.
///
/// # Errors
/// It cannot be read.
pub(super) fn read(device: &Path) -> io::Result<Option<Label>> {
    let mut bytes = Vec::with_capacity(LENGTH);
    File::open(device)?
        .take(LENGTH as u64)
        .read_to_end(&mut bytes)?;
    Ok(parse(&bytes))
}

fn parse(bytes: &[u8]) -> Option<Label> {
    let rest = bytes.strip_prefix(MAGIC)?;
    let uuid = std::str::from_utf8(rest.get(..36)?).ok()?.to_owned();
    let mut label = Label {
        uuid,
        ..Label::default()
    };
    // What follows may be of a version that is not known: the id alone tells that it is taken.
    let _ = details(rest.get(37..)?, &mut label);
    Some(label)
}

fn details(mut at: &[u8], label: &mut Label) -> Option<()> {
    // version, compatible version, length; id; size; seconds and nanoseconds
    take(&mut at, 1 + 1 + 4)?;
    take(&mut at, 16 + 8 + 8)?;
    label.description = text(&mut at)?;
    for _ in 0..number(&mut at)? {
        let (key, value) = (text(&mut at)?, text(&mut at)?);
        match key.as_str() {
            "ceph_fsid" => label.fsid = value,
            "whoami" => label.id = value.parse().ok(),
            "ready" => label.ready = value == "ready",
            _ => {}
        }
    }
    Some(())
}

fn take<'a>(at: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, rest) = at.split_at_checked(length)?;
    *at = rest;
    Some(taken)
}

fn number(at: &mut &[u8]) -> Option<u32> {
    Some(u32::from_le_bytes(take(at, 4)?.try_into().ok()?))
}

fn text(at: &mut &[u8]) -> Option<String> {
    let length = usize::try_from(number(at)?).ok()?;
    String::from_utf8(take(at, length)?.to_vec()).ok()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    fn label(map: &[(&str, &str)]) -> Vec<u8> {
        label_of("7d108b06-01c8-423b-9b60-9b0af27761f3", "main", map)
    }

    /// What BlueStore writes for an OSD of this id on a device that is this to it.
    pub(in super::super) fn label_of(uuid: &str, what: &str, map: &[(&str, &str)]) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(format!("{uuid}\n").as_bytes());
        bytes.extend([2, 1, 0, 0, 0, 0]);
        bytes.extend([0; 32]);
        let mut text = |s: &str| {
            bytes.extend(u32::try_from(s.len()).unwrap().to_le_bytes());
            bytes.extend(s.as_bytes());
        };
        text(what);
        let mut rest = Vec::new();
        rest.extend(u32::try_from(map.len()).unwrap().to_le_bytes());
        for s in map.iter().flat_map(|(k, v)| [k, v]) {
            rest.extend(u32::try_from(s.len()).unwrap().to_le_bytes());
            rest.extend(s.as_bytes());
        }
        bytes.extend(rest);
        bytes
    }

    #[test]
    fn a_label_tells_the_osd_and_its_cluster_but_not_its_key() {
        let bytes = label(&[
            ("ceph_fsid", "5d65"),
            ("osd_key", "AQsecret"),
            ("ready", "ready"),
            ("whoami", "3"),
        ]);
        let label = parse(&bytes).unwrap();
        assert_eq!(label.uuid, "7d108b06-01c8-423b-9b60-9b0af27761f3");
        assert_eq!((label.fsid.as_str(), label.id), ("5d65", Some(3)));
        assert!(label.ready && label.description == "main");
        assert!(!format!("{label:?}").contains("AQsecret"));
    }

    #[test]
    fn a_label_cut_short_still_tells_that_the_disk_is_taken() {
        let bytes = label(&[("ceph_fsid", "5d65"), ("whoami", "3")]);
        for end in 0..bytes.len() {
            let parsed = parse(&bytes[..end]);
            assert_eq!(parsed.is_some(), end >= MAGIC.len() + 37, "{end}");
            assert!(parsed.is_none_or(|l| !l.ready));
        }
        assert_eq!(parse(&[0; 4096]), None);
    }
}
