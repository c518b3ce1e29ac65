//! A list for tests, and for what changes its bytes.

use super::encoding;
use super::known::Edition;
use dvs_domain::names::{StoreName, VolumeName};
use dvs_domain::size::VolumeSize;
use dvs_domain::time::Timestamp;
use dvs_domain::volume::{Mode, Volume, VolumeId, VolumeSpec};

/// So many volumes.
pub(super) fn volumes(count: u32) -> Vec<(Edition, Volume)> {
    (0..count).filter_map(|number| Some((edition(number), volume(number)?))).collect()
}

fn edition(number: u32) -> Edition {
    Edition { file: u64::from(number), changed: (number, 1) }
}

fn volume(number: u32) -> Option<Volume> {
    let (store, name) = (StoreName::new("shared").ok()?, VolumeName::new(format!("v{number}")).ok()?);
    let spec = VolumeSpec {
        id: VolumeId { store, name },
        size: VolumeSize::from_mebibytes(8).ok()?,
        file_system: None,
        uid: 1000,
        gid: 1000,
        mode: Mode::DEFAULT,
        provision: None,
    };
    Some(Volume { spec, made_by: None, made_at: Timestamp(7) })
}

/// What is posted of so many volumes.
pub(crate) fn list(count: u32) -> Vec<u8> {
    encoding::encode(&volumes(count)).map(|(bytes, _)| bytes).unwrap_or_default()
}

/// How many of so many volumes a node takes from `bytes`; `None` where it takes nothing at all. Its checksum is made
/// anew if `is_summed`.
pub(crate) fn taken(mut bytes: Vec<u8>, count: u32, is_summed: bool) -> Option<usize> {
    if is_summed {
        bytes.extend(encoding::checksum(&bytes));
    }
    let wanted = volumes(count).into_iter().map(|(edition, volume)| (volume.spec.id.name, edition)).collect();
    let taken = encoding::decode(&bytes, &StoreName::new("shared").ok()?, &wanted).ok()?;
    Some(taken.len())
}
