//! The superblock of ext2, ext3 and ext4, as far as a copy of a file system needs a name of its own. Offsets, magic
//! number and features: the kernel's `Documentation/filesystems/ext4/super.rst`.

use crc::{CRC_32_ISCSI, Crc};

/// How long a superblock is, and where the first one lies.
pub(crate) const SUPERBLOCK_BYTES: usize = 1024;
const FIRST_AT: u64 = 1024;

const MAGIC: u16 = 0xEF53;
const METADATA_CSUM: u32 = 0x400;
const CSUM_SEED: u32 = 0x2000;
const BITS_64: u32 = 0x80;

/// The features of which it is known that nothing but the superblock depends on the UUID: what `mke2fs` gives to
/// the three file systems. With checksums that needs [`CSUM_SEED`], too.
const COMPATIBLE_KNOWN: u32 = 0x4 | 0x8 | 0x10 | 0x20; // has_journal, ext_attr, resize_inode, dir_index
const INCOMPATIBLE_KNOWN: u32 = 0x2 | 0x40 | BITS_64 | 0x200 | CSUM_SEED; // filetype, extent, 64bit, flex_bg
const READ_ONLY_KNOWN: u32 = 0x1 | 0x2 | 0x8 | 0x20 | 0x40 | METADATA_CSUM; // sparse_super … extra_isize

/// `s_checksum`, by its place.
const CHECKSUM: usize = 0x3FC;
const UUID: usize = 0x68;

/// What tells one file system from all others.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Identity {
    pub(crate) uuid: [u8; 16],
    /// What the hashes of names in large folders begin with.
    pub(crate) hash_seed: [u8; 16],
    /// When it was made, in seconds since 1970.
    pub(crate) made_at: u64,
}

/// One copy of a superblock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Superblock {
    bytes: [u8; SUPERBLOCK_BYTES],
}

impl Superblock {
    /// Whose identity alone tells its file system from another: nothing else on the disk depends on it.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let superblock = Self { bytes: bytes.try_into().ok()? };
        let checksums = superblock.u32(0x64) & METADATA_CSUM != 0;
        let only_known = superblock.u32(0x5C) & !COMPATIBLE_KNOWN == 0
            && superblock.u32(0x60) & !INCOMPATIBLE_KNOWN == 0
            && superblock.u32(0x64) & !READ_ONLY_KNOWN == 0;
        let independent = !checksums
            || (superblock.u32(0x60) & CSUM_SEED != 0 && superblock.u32(CHECKSUM) == superblock.checksum());
        (superblock.u16(0x38) == MAGIC && only_known && independent).then_some(superblock)
    }

    /// Where the first one and its copies in later groups can lie, in bytes from the start.
    pub(crate) fn places(&self) -> impl Iterator<Item = u64> {
        let block_bytes = 1024_u64.checked_shl(self.u32(0x18)).unwrap_or(0);
        let (first_block, group_blocks) = (u64::from(self.u32(0x14)), u64::from(self.u32(0x20)));
        let high = if self.u32(0x60) & BITS_64 != 0 { self.u32(0x150) } else { 0 };
        let blocks = u64::from(high) << 32 | u64::from(self.u32(0x4));
        let groups = blocks.checked_div(group_blocks).unwrap_or(0);
        let later = (1..=groups).map(move |group| {
            (group.saturating_mul(group_blocks).saturating_add(first_block)).saturating_mul(block_bytes)
        });
        std::iter::once(FIRST_AT).chain(later)
    }

    /// Whether `self` is a copy of `first`, in whichever group.
    pub(crate) fn is_copy_of(&self, first: &Self) -> bool {
        self.bytes[UUID..UUID + 16] == first.bytes[UUID..UUID + 16]
    }

    /// The same for the file system `identity`.
    pub(crate) fn of(&self, identity: &Identity) -> [u8; SUPERBLOCK_BYTES] {
        let mut changed = self.clone();
        changed.bytes[UUID..UUID + 16].copy_from_slice(&identity.uuid);
        changed.bytes[0xEC..0xFC].copy_from_slice(&identity.hash_seed);
        let [a, b, c, d, high, ..] = identity.made_at.to_le_bytes();
        // `s_wtime`, `s_lastcheck` and `s_mkfs_time`, and their higher bytes.
        for (low_at, high_at) in [(0x30, 0x274), (0x40, 0x277), (0x108, 0x276)] {
            changed.bytes[low_at..low_at + 4].copy_from_slice(&[a, b, c, d]);
            changed.bytes[high_at] = high;
        }
        if changed.u32(0x64) & METADATA_CSUM != 0 {
            let checksum = changed.checksum();
            changed.bytes[CHECKSUM..].copy_from_slice(&checksum.to_le_bytes());
        }
        changed.bytes
    }

    /// CRC-32C without its final inversion.
    fn checksum(&self) -> u32 {
        const CRC32C: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);
        !CRC32C.checksum(&self.bytes[..CHECKSUM])
    }

    fn u16(&self, at: usize) -> u16 {
        u16::from_le_bytes([self.bytes[at], self.bytes[at + 1]])
    }

    fn u32(&self, at: usize) -> u32 {
        u32::from_le_bytes([self.bytes[at], self.bytes[at + 1], self.bytes[at + 2], self.bytes[at + 3]])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain() -> [u8; SUPERBLOCK_BYTES] {
        let mut bytes = [0; SUPERBLOCK_BYTES];
        bytes[0x38..0x3A].copy_from_slice(&MAGIC.to_le_bytes());
        bytes
    }

    #[test]
    fn a_file_system_that_depends_on_its_uuid_elsewhere_is_no_template() {
        assert!(Superblock::parse(&plain()).is_some());
        assert!(Superblock::parse(&[0; SUPERBLOCK_BYTES]).is_none(), "no magic number");
        assert!(Superblock::parse(&plain()[1..]).is_none(), "too short");
        // Group checksums (gdt_csum), checksums without a seed, encryption's salt, a feature of a later day.
        for (at, feature) in [(0x64, 0x10), (0x64, METADATA_CSUM), (0x60, 0x10000), (0x5C, 0x8000_0000)] {
            let mut bytes = plain();
            bytes[at..at + 4].copy_from_slice(&u32::to_le_bytes(feature));
            assert!(Superblock::parse(&bytes).is_none(), "{at:#x}: {feature:#x}");
        }
    }

    #[test]
    fn absurd_geometry_ends() {
        let mut bytes = plain();
        bytes[0x18..0x1C].fill(0xFF);
        bytes[0x20] = 1;
        bytes[0x4] = 9;
        assert_eq!(Superblock::parse(&bytes).unwrap().places().count(), 10);
        bytes[0x20] = 0;
        assert_eq!(Superblock::parse(&bytes).unwrap().places().collect::<Vec<_>>(), [FIRST_AT]);
    }
}
