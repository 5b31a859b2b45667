//! What is mounted, by `/proc/self/mountinfo`.

use super::DeviceNumber;
use std::path::{Path, PathBuf};

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mount {
    /// The device; an invented one (major 0) for btrfs, overlay and the like.
    pub device: Option<DeviceNumber>,
    /// Where.
    pub point: PathBuf,
    /// `ext4`, `btrfs`, `overlay`, …
    pub kind: String,
    /// The source as it was given, often a device node.
    pub source: PathBuf,
    /// The options of the file system.
    pub options: Vec<String>,
}

/// Reads the text of `mountinfo`; lines that do not fit are left out.
pub(super) fn parse(text: &str) -> Vec<Mount> {
    text.lines().filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<Mount> {
    let (place, system) = line.split_once(" - ")?;
    let mut place = place.split(' ');
    let device = DeviceNumber::parse(place.nth(2)?);
    let point = unescape(place.nth(1)?);
    let mut system = system.split(' ');
    Some(Mount {
        device,
        point: PathBuf::from(point),
        kind: system.next()?.to_owned(),
        source: PathBuf::from(unescape(system.next()?)),
        options: system
            .next()
            .unwrap_or("")
            .split(',')
            .map(unescape)
            .collect(),
    })
}

/// Undoes the kernel's `\040`.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let octal = (*first == b'\\')
            .then(|| after.get(..3))
            .flatten()
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match octal {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[3..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The mount that holds a path; of two at one place the later one hides the earlier.
pub(super) fn holding<'a>(mounts: &'a [Mount], path: &Path) -> Option<&'a Mount> {
    mounts
        .iter()
        .enumerate()
        .filter(|(_, m)| path.starts_with(&m.point))
        .max_by_key(|(order, m)| (m.point.components().count(), *order))
        .map(|(_, m)| m)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_with_their_odd_characters() {
        let text = "36 35 98:0 /mnt1 /mnt/with\\040space rw,noatime shared:1 - ext3 /dev/root rw,errors=continue\n\
                    22 27 0:21 / /proc rw - proc proc rw\nnonsense\n\
                    30 1 0:30 / / rw - overlay overlay rw,lowerdir=/l,upperdir=/up\\054x\n";
        let mounts = parse(text);
        assert_eq!(mounts.len(), 3);
        assert_eq!(mounts[0].point, Path::new("/mnt/with space"));
        assert_eq!(
            mounts[0].device,
            Some(DeviceNumber {
                major: 98,
                minor: 0
            })
        );
        assert_eq!(mounts[0].kind, "ext3");
        assert_eq!(mounts[2].options, ["rw", "lowerdir=/l", "upperdir=/up,x"]);
        assert_eq!(holding(&mounts, Path::new("/proc/x")), Some(&mounts[1]));
        assert_eq!(holding(&mounts, Path::new("/procx")), Some(&mounts[2]));
    }
}
