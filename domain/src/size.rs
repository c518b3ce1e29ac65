//! How large a volume is.

use crate::failure::{Failure, FailureCode};
use crate::names::shown;
use std::fmt;

/// How large a volume is: whole mebibytes, never zero, never above [`VolumeSize::MEBIBYTES_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VolumeSize {
    mebibytes: u64, // Private: the bounds are kept in one place.
}

impl VolumeSize {
    /// 16 TiB, what ext4 with 4 KiB blocks can hold without the `64bit` feature.
    pub const MEBIBYTES_MAX: u64 = 16 * 1024 * 1024;
    /// Bytes in a mebibyte, the unit of `truncate -s <n>M`.
    pub const BYTES_PER_MEBIBYTE: u64 = 1 << 20;

    /// A size of `mebibytes`.
    ///
    /// # Errors
    /// [`FailureCode::BadRequest`] for zero and for more than [`VolumeSize::MEBIBYTES_MAX`].
    pub fn from_mebibytes(mebibytes: u64) -> Result<Self, Failure> {
        match mebibytes {
            0 => Err(Failure::new(FailureCode::BadRequest, "a volume of 0 bytes cannot be made")
                .with_hint("the least size is 1 MiB for ext, 109 MiB for btrfs, 300 MiB for xfs")),
            1..=Self::MEBIBYTES_MAX => Ok(Self { mebibytes }),
            _ => Err(Failure::new(
                FailureCode::BadRequest,
                format!("a size of {mebibytes} MiB is above the most, 16 TiB ({} MiB)", Self::MEBIBYTES_MAX),
            )),
        }
    }

    /// Reads what a person types: `5000M`, `5GiB`, `10MB`, or a bare number of mebibytes. `M`, `Mi`, `MiB`
    /// and a bare number count in 2^20 bytes, `MB` in 10^6, likewise K, G, T; rounded up to a mebibyte.
    ///
    /// # Errors
    /// [`FailureCode::BadRequest`] for what is no whole number with such a unit, and for sizes out of range.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        let refuse = || {
            Failure::new(FailureCode::BadRequest, format!("`{}` is no size", shown(text)))
                .with_hint("write a whole number with a unit, such as 5000M, 5GiB or 10GB")
        };
        let unit_at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let number: u64 = text[..unit_at].parse().map_err(|_| refuse())?;
        let unit = text[unit_at..].trim_start().to_ascii_lowercase();
        let (power, decimal) = match unit.as_str() {
            "" => (2, false),
            "b" => (0, false),
            _ => {
                let power = match unit.as_bytes()[0] {
                    b'k' => 1,
                    b'm' => 2,
                    b'g' => 3,
                    b't' => 4,
                    _ => return Err(refuse()),
                };
                match &unit[1..] {
                    "" | "i" | "ib" => (power, false),
                    "b" => (power, true),
                    _ => return Err(refuse()),
                }
            }
        };
        let base: u64 = if decimal { 1000 } else { 1024 };
        let bytes = base.pow(power).checked_mul(number).ok_or_else(refuse)?;
        Self::from_mebibytes(bytes.div_ceil(Self::BYTES_PER_MEBIBYTE))
    }

    /// Whole mebibytes, 1 to [`VolumeSize::MEBIBYTES_MAX`].
    #[must_use]
    pub fn mebibytes(self) -> u64 {
        self.mebibytes
    }

    /// Bytes.
    #[must_use]
    pub fn bytes(self) -> u64 {
        self.mebibytes * Self::BYTES_PER_MEBIBYTE
    }
}

impl fmt::Display for VolumeSize {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} MiB", self.mebibytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, mebibytes) in [
            ("5000", 5000),
            ("5000M", 5000),
            ("1MiB", 1),
            ("1Mi", 1),
            ("1m", 1),
            ("5GiB", 5120),
            ("5 GiB", 5120),
            ("1GB", 954),
            ("10MB", 10),
            ("1K", 1),
            ("1b", 1),
            ("16T", VolumeSize::MEBIBYTES_MAX),
        ] {
            assert_eq!(VolumeSize::parse(text).unwrap().mebibytes(), mebibytes, "{text}");
        }
    }

    #[test]
    fn nonsense_and_sizes_out_of_range_are_refused() {
        for text in [
            "",
            "0",
            "-1",
            "1.5G",
            "G",
            "5X",
            "5Mx",
            "5GiBB",
            "17T",
            "16777217",
            "99999999999999999999",
            "1e3",
            "٣",
        ] {
            assert_eq!(VolumeSize::parse(text).unwrap_err().code(), FailureCode::BadRequest, "{text}");
        }
    }
}
