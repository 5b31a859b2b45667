//! What is written on a device, by the marks that file systems, volume managers and the like
//! leave at known places.
//!
//! These marks are read here, without any other program, so that no machine lacks the check.
//! They cover what is found on servers; the long tail is `wipefs`' (see `wipefs.rs`). A mark that
//! is seen where there is only old data costs a question to a person; a mark that is missed costs
//! the data: so the checks are short and do not ask whether the rest is sound.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// How much is read at the start and at the end.
const EDGE: u64 = 512 * KIB;

/// Copies of marks that are neither near the start nor near the end: btrfs' mirrors (64 MiB,
/// 256 GiB), BlueStore's labels (1, 10, 100, 1000 GiB), VMFS (1 MiB), LUKS2's second header.
pub(super) const FAR: [u64; 11] = [
    512 * KIB,
    MIB,
    2 * MIB,
    4 * MIB,
    64 * MIB,
    GIB,
    10 * GIB,
    100 * GIB,
    256 * GIB,
    1000 * GIB,
    1024 * GIB,
];

/// How much is read at each of [`FAR`].
const FAR_LENGTH: u64 = 4 * KIB + 128;

/// Marks at fixed places from the start: name, offset, bytes.
const AT_START: &[(&str, u64, &[u8])] = &[
    ("xfs filesystem", 0, b"XFSB"),
    ("btrfs filesystem", 64 * KIB + 0x40, b"_BHRfS_M"),
    (
        "bcache or bcachefs",
        4 * KIB + 24,
        &[0xc6, 0x85, 0x73, 0xf6],
    ),
    ("f2fs filesystem", KIB, &[0x10, 0x20, 0xf5, 0xf2]),
    ("reiserfs filesystem", 64 * KIB + 0x34, b"ReIsEr"),
    ("reiserfs filesystem", 8 * KIB + 0x34, b"ReIsEr"),
    ("reiser4 filesystem", 64 * KIB, b"ReIsEr4"),
    ("jfs filesystem", 32 * KIB, b"JFS1"),
    ("nilfs2 filesystem", KIB + 6, &[0x34, 0x34]),
    ("ntfs filesystem", 3, b"NTFS    "),
    ("exfat filesystem", 3, b"EXFAT   "),
    ("vfat filesystem", 0x36, b"FAT12   "),
    ("vfat filesystem", 0x36, b"FAT16   "),
    ("vfat filesystem", 0x52, b"FAT32   "),
    ("BitLocker volume", 3, b"-FVE-FS-"),
    ("apfs volume", 32, b"NXSB"),
    ("hfs filesystem", KIB, b"BD"),
    ("hfsplus filesystem", KIB, b"H+"),
    ("hfsplus filesystem", KIB, b"HX"),
    ("gfs2 filesystem", 64 * KIB, &[0x01, 0x16, 0x19, 0x70]),
    ("ocfs2 filesystem", KIB, b"OCFSV2"),
    ("ocfs2 filesystem", 2 * KIB, b"OCFSV2"),
    ("ocfs2 filesystem", 4 * KIB, b"OCFSV2"),
    ("squashfs filesystem", 0, b"hsqs"),
    ("erofs filesystem", KIB, &[0xe2, 0xe1, 0xf5, 0xe0]),
    ("iso9660 filesystem", 32 * KIB + 1, b"CD001"),
    ("udf filesystem", 32 * KIB + 1, b"BEA01"),
    ("swap space", 4 * KIB - 10, b"SWAPSPACE2"),
    ("swap space", 4 * KIB - 10, b"SWAP-SPACE"),
    ("swap space", 8 * KIB - 10, b"SWAPSPACE2"),
    ("swap space", 16 * KIB - 10, b"SWAPSPACE2"),
    ("swap space", 64 * KIB - 10, b"SWAPSPACE2"),
    ("suspended system", 4 * KIB - 10, b"S1SUSPEND"),
    ("luks volume", 0, b"LUKS\xba\xbe"),
    ("luks volume", 0x4000, b"SKUL\xba\xbe"),
    ("luks volume", 0x8000, b"SKUL\xba\xbe"),
    ("luks volume", 0x1_0000, b"SKUL\xba\xbe"),
    ("luks volume", 0x2_0000, b"SKUL\xba\xbe"),
    ("luks volume", 0x4_0000, b"SKUL\xba\xbe"),
    ("lvm member", 0, b"LABELONE"),
    ("lvm member", 512, b"LABELONE"),
    ("lvm member", 1024, b"LABELONE"),
    ("lvm member", 1536, b"LABELONE"),
    ("md raid member", 0, &[0xfc, 0x4e, 0x2b, 0xa9]),
    ("md raid member", 4 * KIB, &[0xfc, 0x4e, 0x2b, 0xa9]),
    ("bluestore", 0, b"bluestore block device"),
    ("stratis member", 512 + 4, b"!Stra0tis"),
    ("vdo volume", 0, b"dmvdo001"),
    ("partition table gpt", 512, b"EFI PART"),
    ("partition table gpt", 4 * KIB, b"EFI PART"),
    ("partition table mac", 512, b"PM\0\0"),
    ("partition table sgi", 0, &[0x0b, 0xe5, 0xa9, 0x41]),
    ("partition table bsd", 512, &[0x57, 0x45, 0x56, 0x82]),
];

/// Marks at the places of [`FAR`]: name, place, bytes, distance from the place.
const AT_FAR: &[(&str, u64, &[u8], u64)] = &[
    ("luks volume", 512 * KIB, b"SKUL\xba\xbe", 0),
    ("luks volume", MIB, b"SKUL\xba\xbe", 0),
    ("luks volume", 2 * MIB, b"SKUL\xba\xbe", 0),
    ("luks volume", 4 * MIB, b"SKUL\xba\xbe", 0),
    ("vmfs volume", MIB, &[0x0d, 0xd0, 0x01, 0xc0], 0),
    ("vmfs volume", 2 * MIB, &[0x0d, 0xd0, 0x01, 0xc0], 0),
    ("btrfs filesystem", 64 * MIB, b"_BHRfS_M", 0x40),
    ("btrfs filesystem", 256 * GIB, b"_BHRfS_M", 0x40),
    ("bluestore", GIB, b"bluestore block device", 0),
    ("bluestore", 10 * GIB, b"bluestore block device", 0),
    ("bluestore", 100 * GIB, b"bluestore block device", 0),
    ("bluestore", 1000 * GIB, b"bluestore block device", 0),
];

/// A piece of a device.
struct Piece {
    offset: u64,
    bytes: Vec<u8>,
}

impl Piece {
    fn read(device: &File, offset: u64, length: u64, size: u64) -> io::Result<Piece> {
        let length = length.min(size.saturating_sub(offset));
        // At most EDGE: fits any usize.
        let mut bytes = vec![0; length as usize];
        device.read_exact_at(&mut bytes, offset)?;
        Ok(Piece { offset, bytes })
    }

    /// The bytes at an offset of the device, if this piece has all of them.
    fn at(&self, offset: u64, length: usize) -> Option<&[u8]> {
        let from = usize::try_from(offset.checked_sub(self.offset)?).ok()?;
        self.bytes.get(from..from.checked_add(length)?)
    }

    fn has(&self, offset: u64, mark: &[u8]) -> bool {
        self.at(offset, mark.len()) == Some(mark)
    }
}

/// The marks on a device of `size` bytes, each once, in the order of their names.
///
/// # Errors
/// The device cannot be read: what is on it is not known.
pub(super) fn read(device: &File, size: u64) -> io::Result<Vec<String>> {
    let start = Piece::read(device, 0, EDGE, size)?;
    let end = Piece::read(device, size.saturating_sub(EDGE), EDGE, size)?;
    let mut found: Vec<&str> = Vec::new();
    let marks = AT_START.iter().filter(|(_, at, mark)| start.has(*at, mark));
    found.extend(marks.map(|(name, _, _)| *name));
    found.extend(ext(&start));
    found.extend(dos(&start));
    found.extend(at_end(&end, size));
    if zfs(&start, &end, size) {
        found.push("zfs member");
    }
    for place in FAR.into_iter().filter(|place| *place < size) {
        let marks: Vec<_> = AT_FAR.iter().filter(|(_, at, _, _)| *at == place).collect();
        if marks.is_empty() {
            continue;
        }
        let piece = Piece::read(device, place, FAR_LENGTH, size)?;
        let seen = marks
            .iter()
            .filter(|(_, at, mark, by)| piece.has(at + by, mark));
        found.extend(seen.map(|(name, _, _, _)| *name));
    }
    found.sort_unstable();
    found.dedup();
    Ok(found.into_iter().map(str::to_owned).collect())
}

/// ext2, ext3, ext4: one mark, told apart by features.
fn ext(start: &Piece) -> Option<&'static str> {
    if !start.has(0x438, &[0x53, 0xef]) {
        return None;
    }
    let journal = start.at(0x45c, 1)?[0] & 0x04 != 0;
    // Extents, 64 bit, flexible groups: ext4's own.
    let modern = u16::from_le_bytes(start.at(0x460, 2)?.try_into().ok()?) & 0x02c0 != 0;
    Some(match (modern, journal) {
        (true, _) => "ext4 filesystem",
        (false, true) => "ext3 filesystem",
        (false, false) => "ext2 filesystem",
    })
}

/// The boot sector's mark, unless it is a file system's boot sector.
fn dos(start: &Piece) -> Option<&'static str> {
    let boot_sector = start.has(510, &[0x55, 0xaa]);
    let filesystem = [
        (0x36, b"FAT12   "),
        (0x36, b"FAT16   "),
        (0x52, b"FAT32   "),
        (3, b"NTFS    "),
        (3, b"EXFAT   "),
        (3, b"-FVE-FS-"),
    ]
    .iter()
    .any(|(at, mark)| start.has(*at, *mark));
    (boot_sector && !filesystem).then_some("partition table dos")
}

/// Marks that are counted from the end.
fn at_end(end: &Piece, size: u64) -> Vec<&'static str> {
    let mut found = Vec::new();
    let mut look = |name, at: Option<u64>, mark: &[u8]| {
        if at.is_some_and(|at| end.has(at, mark)) {
            found.push(name);
        }
    };
    let before = |distance: u64| size.checked_sub(distance);
    look("partition table gpt", before(512), b"EFI PART");
    look("partition table gpt", before(4 * KIB), b"EFI PART");
    look("isw raid member", before(1024), b"Intel Raid ISM Cfg Sig. ");
    look("ddf raid member", before(512), &[0xde, 0x11, 0xde, 0x11]);
    let md = [0xfc, 0x4e, 0x2b, 0xa9];
    // Version 1.0: 8 KiB before the end, rounded down to 4 KiB.
    let v10 = before(8 * KIB).map(|at| at & !(4 * KIB - 1));
    look("md raid member", v10, &md);
    // Version 0.90: 64 KiB before the end, rounded down to 64 KiB, in either byte order.
    let v090 = (size & !(64 * KIB - 1)).checked_sub(64 * KIB);
    look("md raid member", v090, &md);
    look("md raid member", v090, &[0xa9, 0x2b, 0x4e, 0xfc]);
    // DRBD: the superblock in the last 4 KiB (internal metadata, version 8.4 and 9).
    let drbd = (size & !(4 * KIB - 1)).checked_sub(4 * KIB);
    for mark in [0x8374_026bu32, 0x8374_026c, 0x8374_026d] {
        look("drbd device", drbd.map(|at| at + 60), &mark.to_be_bytes());
    }
    // The second superblock of nilfs2.
    let nilfs = (size >> 12).checked_sub(1).map(|block| (block << 12) + 6);
    look("nilfs2 filesystem", nilfs, &[0x34, 0x34]);
    found
}

/// ZFS keeps four labels of 256 KiB, two at each end; the second half of each is a ring of
/// uberblocks.
fn zfs(start: &Piece, end: &Piece, size: u64) -> bool {
    let label = 256 * KIB;
    let whole = size & !(label - 1);
    let labels = [
        (start, Some(0)),
        (start, Some(label)),
        (end, whole.checked_sub(2 * label)),
        (end, whole.checked_sub(label)),
    ];
    let mark: u64 = 0x00ba_b10c;
    labels.into_iter().any(|(piece, at)| {
        at.is_some_and(|at| {
            (0..128).any(|n| {
                let place = at + label / 2 + n * KIB;
                piece.has(place, &mark.to_le_bytes()) || piece.has(place, &mark.to_be_bytes())
            })
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file of 64 MiB and a bit with bytes at places; sizes that are no round number, as real
    /// disks have.
    fn device(marks: &[(u64, &[u8])]) -> (File, u64) {
        let size = 65 * MIB + 512;
        let file = tempfile::tempfile().unwrap();
        file.set_len(size).unwrap();
        for (at, bytes) in marks {
            file.write_all_at(bytes, *at).unwrap();
        }
        (file, size)
    }

    fn found(marks: &[(u64, &[u8])]) -> Vec<String> {
        let (file, size) = device(marks);
        read(&file, size).unwrap()
    }

    #[test]
    fn a_blank_device_has_no_marks() {
        assert_eq!(found(&[]), Vec::<String>::new());
        for size in [0, 1, 511, 512, 4096, 70_000] {
            let file = tempfile::tempfile().unwrap();
            file.set_len(size).unwrap();
            assert_eq!(read(&file, size).unwrap(), Vec::<String>::new(), "{size}");
        }
    }

    #[test]
    fn each_mark_is_found_where_it_is_written() {
        for (name, at, mark) in AT_START {
            let found = found(&[(*at, mark)]);
            assert_eq!(found, [*name], "at {at}");
        }
        for (name, at, mark, by) in AT_FAR {
            if at + by + 100 > 65 * MIB {
                continue; // too far for a test's file; same code
            }
            assert_eq!(found(&[(at + by, mark)]), [*name], "at {at}");
        }
    }

    #[test]
    fn far_places_are_those_that_are_read() {
        for (name, at, mark, by) in AT_FAR {
            assert!(FAR.contains(at), "{name}");
            assert!(by + mark.len() as u64 <= FAR_LENGTH, "{name}");
        }
        for (name, at, mark) in AT_START {
            assert!(at + mark.len() as u64 <= EDGE, "{name}");
        }
    }

    #[test]
    fn marks_at_the_end_are_found() {
        let size = 65 * MIB + 512;
        let md: &[u8] = &[0xfc, 0x4e, 0x2b, 0xa9];
        let cases: [(&str, u64, &[u8]); 7] = [
            ("partition table gpt", size - 512, b"EFI PART"),
            ("isw raid member", size - 1024, b"Intel Raid ISM Cfg Sig. "),
            ("ddf raid member", size - 512, &[0xde, 0x11, 0xde, 0x11]),
            ("md raid member", (size - 8 * KIB) & !0xfff, md),
            ("md raid member", 65 * MIB - 64 * KIB, md),
            (
                "drbd device",
                65 * MIB - 4 * KIB + 60,
                &[0x83, 0x74, 0x02, 0x6d],
            ),
            (
                "zfs member",
                65 * MIB - 256 * KIB + 128 * KIB + 3 * KIB,
                &0x00ba_b10cu64.to_le_bytes(),
            ),
        ];
        for (name, at, mark) in cases {
            assert_eq!(found(&[(at, mark)]), [name], "at {at}");
        }
    }

    #[test]
    fn file_systems_that_share_a_mark_are_told_apart() {
        let ext: (u64, &[u8]) = (0x438, &[0x53, 0xef]);
        assert_eq!(found(&[ext]), ["ext2 filesystem"]);
        assert_eq!(found(&[ext, (0x45c, &[4])]), ["ext3 filesystem"]);
        assert_eq!(found(&[ext, (0x460, &[0x40])]), ["ext4 filesystem"]);
        let boot: (u64, &[u8]) = (510, &[0x55, 0xaa]);
        assert_eq!(found(&[boot]), ["partition table dos"]);
        assert_eq!(found(&[boot, (0x52, b"FAT32   ")]), ["vfat filesystem"]);
        assert_eq!(
            found(&[boot, (512, b"EFI PART")]),
            ["partition table dos", "partition table gpt"]
        );
    }

    #[test]
    fn a_device_that_cannot_be_read_is_an_error() {
        let (file, size) = device(&[]);
        assert!(read(&file, size + MIB).is_err());
    }
}
