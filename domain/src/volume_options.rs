//! What a volume can be made of: file system, provision, mode.

use crate::failure::{Failure, FailureCode};
use crate::names::shown;
use std::fmt;

/// The file system inside an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FileSystem {
    /// ext2: no journal.
    Ext2,
    /// ext3.
    Ext3,
    /// ext4, the default.
    Ext4,
    /// xfs.
    Xfs,
    /// btrfs.
    Btrfs,
}

impl FileSystem {
    /// Every file system that a volume can have.
    pub const ALL: [Self; 5] = [Self::Ext2, Self::Ext3, Self::Ext4, Self::Xfs, Self::Btrfs];

    /// Its name, as `mount -t` and `mkfs.<name>` take it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ext2 => "ext2",
            Self::Ext3 => "ext3",
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
        }
    }

    /// Reads a name.
    ///
    /// # Errors
    /// [`FailureCode::BadRequest`], naming the known ones.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        Self::ALL.into_iter().find(|known| known.as_str() == text).ok_or_else(|| {
            Failure::new(
                FailureCode::BadRequest,
                format!("`{}` is no file system that volumes can have", shown(text)),
            )
            .with_hint("choose ext4, ext3, ext2, xfs or btrfs")
        })
    }

    /// The least size in mebibytes: what `mkfs` accepts (xfsprogs refuses below 300 MB since 5.19,
    /// btrfs-progs below 109 MiB).
    #[must_use]
    pub const fn mebibytes_min(self) -> u64 {
        match self {
            Self::Ext2 | Self::Ext3 | Self::Ext4 => 1,
            Self::Btrfs => 109,
            Self::Xfs => 300,
        }
    }
}

impl fmt::Display for FileSystem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// Whether the room is taken when the volume is made, or when it is written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Provision {
    /// A sparse image: room is taken when it is written to.
    Thin,
    /// An allocated image, and still allocated after formatting.
    Thick,
}

impl Provision {
    /// The word in payloads, URLs and records.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Thin => "thin",
            Self::Thick => "thick",
        }
    }

    /// Reads the word.
    ///
    /// # Errors
    /// [`FailureCode::BadRequest`] for any other word.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        match text {
            "thin" => Ok(Self::Thin),
            "thick" => Ok(Self::Thick),
            _ => Err(Failure::new(
                FailureCode::BadRequest,
                format!("provision `{}` is neither `thin` nor `thick`", shown(text)),
            )),
        }
    }
}

/// The permission bits of a volume's top directory: 1 to 0o7777.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Mode(u32);

impl Mode {
    /// 0755, what `mkfs` gives.
    pub const DEFAULT: Self = Self(0o755);

    /// Reads octal digits, such as `0750`.
    ///
    /// # Errors
    /// [`FailureCode::BadRequest`] for anything but octal digits from 1 to 7777.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        let digits =
            !text.is_empty() && text.len() <= 5 && text.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
        match u32::from_str_radix(text, 8) {
            Ok(bits @ 1..=0o7777) if digits => Ok(Self(bits)),
            _ => Err(Failure::new(
                FailureCode::BadRequest,
                format!("mode `{}` is not octal, 1 to 7777", shown(text)),
            )
            .with_hint("write it as text, such as \"0750\"")),
        }
    }

    /// The bits.
    #[must_use]
    pub fn bits(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:04o}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_octal_text() {
        assert_eq!(Mode::parse("0750").unwrap().bits(), 0o750);
        for bad in ["", "0", "8", "10000", "0x1ff", "+755", "rwx"] {
            assert!(Mode::parse(bad).is_err(), "{bad}");
        }
    }
}
