//! What a posted list says: a version, one line of JSON for each volume, and a checksum over all that. Whoever reads it
//! takes nothing from one that is not as it was written.

use super::known::Edition;
use crate::record::{RECORD_BYTES_MAX, VolumeJson};
use data_encoding::HEXLOWER;
use dvs_domain::names::{StoreName, VolumeName};
use dvs_domain::volume::Volume;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::HashMap;

/// The version that is written, and the only one that is read.
const VERSION: u32 = 1;
/// The longest list that is written or read, in bytes: some sixty thousand volumes. Others are read by their records.
pub(super) const LIST_BYTES_MAX: usize = 16 << 20;
/// The checksum in its line.
const CHECKSUM_BYTES: usize = 65;

#[derive(Serialize, Deserialize)]
struct HeadJson {
    version: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EntryJson {
    /// Of the volume's folder in `volumes_metadata`.
    file: u64,
    changed: (u32, u32),
    volume: VolumeJson,
}

/// As much of `volumes` as a list may hold, and how many those are.
pub(super) fn encode(volumes: &[(Edition, Volume)]) -> serde_json::Result<(Vec<u8>, usize)> {
    let (mut bytes, mut count) = (line(&HeadJson { version: VERSION })?, 0);
    for (edition, volume) in volumes {
        let (Edition { file, changed }, volume) = (*edition, VolumeJson::of(volume));
        let entry = line(&EntryJson { file, changed, volume })?;
        if bytes.len() + entry.len() <= LIST_BYTES_MAX - CHECKSUM_BYTES {
            bytes.extend(entry);
            count += 1;
        }
    }
    bytes.extend(checksum(&bytes));
    Ok((bytes, count))
}

/// What the list `bytes` says of the volumes `wanted` whose folders are still what they were when it was written; or
/// what is wrong with it. A single entry that makes no sense is passed over.
pub(super) fn decode(
    bytes: &[u8],
    store: &StoreName,
    wanted: &HashMap<VolumeName, Edition>,
) -> Result<HashMap<VolumeName, (Edition, Volume)>, String> {
    let length = bytes.len().checked_sub(CHECKSUM_BYTES).ok_or("is cut off")?;
    let (said, sum) = bytes.split_at(length);
    if checksum(said) != sum {
        return Err("does not agree with its checksum".to_owned());
    }
    let mut lines = said.split(|byte| *byte == b'\n');
    let head = serde_json::from_slice(lines.next().unwrap_or_default());
    let HeadJson { version } = head.map_err(|error| format!("is no list: {error}"))?;
    if version != VERSION {
        return Err(format!("has version {version}, and this program reads {VERSION}"));
    }
    let small = lines.filter(|line| line.len() <= RECORD_BYTES_MAX as usize);
    Ok(small.filter_map(|line| decode_entry(line, store, wanted)).collect())
}

fn decode_entry(
    line: &[u8],
    store: &StoreName,
    wanted: &HashMap<VolumeName, Edition>,
) -> Option<(VolumeName, (Edition, Volume))> {
    let EntryJson { file, changed, volume } = serde_json::from_slice(line).ok()?;
    let (name, edition) = (VolumeName::new(volume.name.clone()).ok()?, Edition { file, changed });
    if wanted.get(&name) != Some(&edition) {
        return None;
    }
    Some((name, (edition, volume.typed(store).ok()?)))
}

fn line(json: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(json)?;
    line.push(b'\n');
    Ok(line)
}

/// The last line of a list that says this.
pub(super) fn checksum(said: &[u8]) -> Vec<u8> {
    let mut line = HEXLOWER.encode(&Sha256::digest(said)).into_bytes();
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::list::sample;

    fn taken(bytes: &[u8], volumes: &[(Edition, Volume)]) -> Result<usize, String> {
        let name = |volume: &Volume| volume.spec.id.name.clone();
        let wanted = volumes.iter().map(|(edition, volume)| (name(volume), *edition)).collect();
        let taken = decode(bytes, &StoreName::new("shared").unwrap(), &wanted)?;
        for (edition, volume) in volumes {
            assert!(taken.get(&name(volume)).is_none_or(|taken| *taken == (*edition, volume.clone())));
        }
        Ok(taken.len())
    }

    fn summed(said: &str) -> Vec<u8> {
        [said.as_bytes().to_vec(), checksum(said.as_bytes())].concat()
    }

    #[test]
    fn everything_comes_back_whose_folder_is_still_the_same() {
        let mut volumes = sample::volumes(100);
        let (bytes, count) = encode(&volumes).unwrap();
        assert_eq!(count, 100);
        assert_eq!(taken(&bytes, &volumes), Ok(100));
        volumes[3].0.changed.1 += 1;
        volumes[4].0.file += 1;
        assert_eq!(taken(&bytes, &volumes), Ok(98));
        assert_eq!(taken(&bytes, &volumes[..7]), Ok(5), "only what is asked for");
    }

    #[test]
    fn no_changed_byte_goes_unnoticed() {
        let volumes = sample::volumes(3);
        let (bytes, _) = encode(&volumes).unwrap();
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 0x11;
            assert!(taken(&changed, &volumes).is_err(), "byte {at}");
            assert!(taken(&bytes[..at], &volumes).is_err(), "cut off at {at}");
        }
    }

    #[test]
    fn what_makes_no_sense_hides_nothing_else() {
        let volumes = sample::volumes(3);
        let (bytes, _) = encode(&volumes).unwrap();
        let whole = String::from_utf8(bytes[..bytes.len() - CHECKSUM_BYTES].to_vec()).unwrap();
        assert_eq!(taken(&summed(&whole), &volumes), Ok(3));
        let long = format!("\"store\":\"{}", "s".repeat(RECORD_BYTES_MAX as usize));
        for (from, to) in [
            ("\"v1\"", "\"../v1\""),
            ("\"mebibytes\":8,\"uid\":1", "\"mebibytes\":0,\"uid\":1"),
            ("{\"file\":1,", "[{\"file\":1,"),
            ("{\"file\":1,", "{\"more\":1,\"file\":1,"),
            ("\"store\":\"", &long),
        ] {
            let (before, after) = whole.split_once("{\"file\":1,").unwrap();
            let changed = format!("{{\"file\":1,{after}").replacen(from, to, 1);
            assert_eq!(taken(&summed(&format!("{before}{changed}")), &volumes), Ok(2), "{to:.40}");
        }
        let later = whole.replacen("\"version\":1", "\"version\":2", 1);
        assert!(taken(&summed(&later), &volumes).unwrap_err().contains("version 2"));
        for none in ["", "\n", "{}", "[]\n", "\u{0}"] {
            assert!(taken(&summed(none), &volumes).is_err(), "{none:?}");
        }
    }

    #[test]
    fn a_list_holds_no_more_than_it_may() {
        let mut volumes = sample::volumes(1);
        let entry = encode(&volumes).unwrap().0.len();
        let many = LIST_BYTES_MAX / entry * 2;
        volumes.resize(many, volumes[0].clone());
        let (bytes, count) = encode(&volumes).unwrap();
        assert!(bytes.len() <= LIST_BYTES_MAX && LIST_BYTES_MAX - 2 * entry < bytes.len());
        assert!(count < many && many / 3 < count, "{count}");
    }
}
