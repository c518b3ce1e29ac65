//! How much a store may admit: thin volumes against its over-commit, thick ones against what is free.

use crate::failure::{Failure, FailureCode};
use crate::size::VolumeSize;
use crate::volume::Provision;

/// The space of a store, and what its volumes were promised of it, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Free in the file system below, for the store to use.
    pub free_bytes: u64,
    /// Taken by the store's volumes so far: what `du` shows.
    pub allocated_bytes: u64,
    /// The sizes of all its volumes, and of those just being made.
    pub promised_bytes: u64,
}

/// How many bytes may be promised for each byte that the store has: 1 or more, in hundredths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OvercommitRatio {
    hundredths: u64,
}

impl OvercommitRatio {
    /// Twice what is there.
    pub const DEFAULT: Self = Self { hundredths: 200 };
    /// A thousand times what is there.
    pub const MAX: u64 = 1000;

    /// Reads `1`, `2` or `1.5`: at least 1, at most [`OvercommitRatio::MAX`].
    ///
    /// # Errors
    /// [`FailureCode::BadRequest`] for anything else.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        let refuse = || {
            Failure::new(
                FailureCode::BadRequest,
                format!("over-commit `{text}` is no number from 1 to {}", Self::MAX),
            )
        };
        let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
        let digits =
            |part: &str| !part.is_empty() && part.len() <= 4 && part.bytes().all(|b| b.is_ascii_digit());
        if !digits(whole) || !digits(fraction) || fraction.len() > 2 {
            return Err(refuse());
        }
        let number = |part: &str| part.parse::<u64>().map_err(|_| refuse());
        let hundredths = number(whole)? * 100 + number(&format!("{fraction:0<2}"))?;
        if (100..=Self::MAX * 100).contains(&hundredths) { Ok(Self { hundredths }) } else { Err(refuse()) }
    }
}

impl Capacity {
    /// Whether a volume of `size` fits.
    ///
    /// # Errors
    /// [`FailureCode::NoSpace`]: thick beyond what is free, thin beyond the over-commit, with the figures.
    pub fn admit(
        &self,
        size: VolumeSize,
        provision: Provision,
        overcommit: OvercommitRatio,
    ) -> Result<(), Failure> {
        let asked = size.bytes();
        let no_space = |detail| Err(Failure::new(FailureCode::NoSpace, detail));
        let in_mebibytes = |bytes: u64| bytes / VolumeSize::BYTES_PER_MEBIBYTE;
        if provision == Provision::Thick && asked > self.free_bytes {
            return no_space(format!(
                "thick volume of {size}, and {} MiB are free",
                in_mebibytes(self.free_bytes)
            ));
        }
        let has = self.free_bytes.saturating_add(self.allocated_bytes);
        let may_promise = u128::from(has) * u128::from(overcommit.hundredths) / 100;
        if u128::from(self.promised_bytes) + u128::from(asked) > may_promise {
            return no_space(format!(
                "volume of {size} is beyond the over-commit: {} of {} MiB are promised",
                in_mebibytes(self.promised_bytes),
                may_promise / u128::from(VolumeSize::BYTES_PER_MEBIBYTE),
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = VolumeSize::BYTES_PER_MEBIBYTE;

    #[test]
    fn thin_is_held_against_the_over_commit_and_thick_against_what_is_free() {
        let capacity =
            Capacity { free_bytes: 100 * MIB, allocated_bytes: 20 * MIB, promised_bytes: 140 * MIB };
        let admits = |mebibytes, provision, ratio: &str| {
            let size = VolumeSize::from_mebibytes(mebibytes).unwrap();
            match capacity.admit(size, provision, OvercommitRatio::parse(ratio).unwrap()) {
                Ok(()) => true,
                Err(refused) => {
                    assert_eq!(refused.code(), FailureCode::NoSpace);
                    false
                }
            }
        };
        assert!(admits(100, Provision::Thin, "2") && !admits(101, Provision::Thin, "2"));
        assert!(admits(40, Provision::Thin, "1.5") && !admits(41, Provision::Thin, "1.5"));
        assert!(admits(100, Provision::Thick, "10") && !admits(101, Provision::Thick, "10"));
    }

    #[test]
    fn ratios_are_at_least_one() {
        for bad in ["", "0", "0.99", "-1", "1001", "1.234", "x", "1.", ".5", "1e3"] {
            assert!(OvercommitRatio::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(OvercommitRatio::parse("2").unwrap(), OvercommitRatio::DEFAULT);
    }
}
