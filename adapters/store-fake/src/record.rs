//! A volume's record on disk: one line of JSON, one line with its SHA-256. Two copies of it lie in the
//! volume's directory, so that one broken block does not make a volume of unknown size.

use crate::step::AtStep;
use data_encoding::HEXLOWER;
use dvs_domain::failure::{Failure, FailureCode};
use dvs_domain::job::{JobKey, JobKind, Maker};
use dvs_domain::names::{AttemptId, JobId, SenderId, StoreName, VolumeName};
use dvs_domain::size::VolumeSize;
use dvs_domain::time::Timestamp;
use dvs_domain::volume::{FileSystem, Mode, Provision, Volume, VolumeId, VolumeSpec};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// The names of the two copies.
const COPIES: [&str; 2] = ["record", "record.copy"];
/// The version of what is written.
const VERSION: u32 = 1;
/// How large a record may be: what is read of a file that says it is one.
const RECORD_BYTES_MAX: u64 = 64 * 1024;

/// The JSON. Without the store's name: a store may be called otherwise after a restart.
#[derive(Serialize, Deserialize)]
struct RecordJson {
    v: u32,
    name: String,
    mebibytes: u64,
    fs: Option<String>,
    uid: u32,
    gid: u32,
    mode: String,
    provision: Option<String>,
    made_by: Option<MadeByJson>,
    made_at_ms: u64,
}

#[derive(Serialize, Deserialize)]
struct MadeByJson {
    sender: String,
    kind: String,
    id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    attempt: Option<String>,
}

/// Writes both copies of the record of `volume` into `folder`, and makes them durable.
pub(crate) fn write(folder: &Path, volume: &Volume) -> Result<(), Failure> {
    let text = to_text(volume);
    for copy in COPIES {
        let path = folder.join(copy);
        let written =
            File::options().write(true).create_new(true).mode(0o600).open(&path).and_then(|mut file| {
                file.write_all(text.as_bytes())?;
                file.sync_all()
            });
        written.at("write the record", &path)?;
    }
    Ok(())
}

/// Reads the record of `name` in `folder` by the first copy that is sound; what is wrong with both, if none is.
pub(crate) fn read(folder: &Path, store: &StoreName, name: &VolumeName) -> Result<Volume, String> {
    let mut problems = Vec::new();
    for copy in COPIES {
        match read_text(&folder.join(copy)).and_then(|text| from_text(&text, store, name)) {
            Ok(volume) => return Ok(volume),
            Err(problem) => problems.push(format!("`{copy}` {problem}")),
        }
    }
    Err(problems.join(", "))
}

fn to_text(volume: &Volume) -> String {
    let spec = &volume.spec;
    let record = RecordJson {
        v: VERSION,
        name: spec.id.name.to_string(),
        mebibytes: spec.size.mebibytes(),
        fs: spec.file_system.map(|fs| fs.as_str().to_owned()),
        uid: spec.uid,
        gid: spec.gid,
        mode: spec.mode.to_string(),
        provision: spec.provision.map(|provision| provision.as_str().to_owned()),
        made_by: volume.made_by.as_ref().map(|Maker { job: key, attempt }| MadeByJson {
            sender: key.sender.to_string(),
            kind: key.kind.to_string(),
            id: key.id.to_string(),
            attempt: attempt.as_ref().map(ToString::to_string),
        }),
        made_at_ms: volume.made_at.0,
    };
    let json = serde_json::to_string(&record).expect("a record of strings and numbers has a JSON form");
    let checksum = checksum(&json);
    format!("{json}\nsha256 {checksum}\n")
}

fn checksum(json: &str) -> String {
    HEXLOWER.encode(&Sha256::digest(json.as_bytes()))
}

fn read_text(path: &Path) -> Result<String, String> {
    let size = match fs::symlink_metadata(path) {
        Ok(found) if found.is_file() => found.len(),
        Ok(_) => return Err("is no file".to_owned()),
        Err(error) if error.kind() == ErrorKind::NotFound => return Err("is missing".to_owned()),
        Err(error) => return Err(format!("cannot be read: {error}")),
    };
    if size > RECORD_BYTES_MAX {
        return Err(format!("is larger than {RECORD_BYTES_MAX} bytes"));
    }
    fs::read_to_string(path).map_err(|error| format!("cannot be read: {error}"))
}

fn from_text(text: &str, store: &StoreName, name: &VolumeName) -> Result<Volume, String> {
    let (json, rest) = text.split_once('\n').ok_or("is cut off")?;
    if rest != format!("sha256 {}\n", checksum(json)) {
        return Err("has a wrong checksum".to_owned());
    }
    let record: RecordJson = serde_json::from_str(json).map_err(|error| format!("is no record: {error}"))?;
    if record.v != VERSION {
        return Err(format!("has version {}, this program knows {VERSION}", record.v));
    }
    if record.name != name.as_str() {
        return Err(format!("is that of volume `{}`", record.name.escape_debug()));
    }
    to_volume(record, store, name).map_err(|failure| format!("is no record: {failure}"))
}

fn to_volume(record: RecordJson, store: &StoreName, name: &VolumeName) -> Result<Volume, Failure> {
    let made_by = match record.made_by {
        Some(made_by) => {
            let kind =
                [JobKind::Create, JobKind::Delete].into_iter().find(|kind| kind.as_str() == made_by.kind);
            let kind = kind.ok_or_else(|| {
                Failure::new(FailureCode::Damaged, "the job that made it has no known kind")
            })?;
            let job = JobKey { sender: SenderId::new(made_by.sender)?, kind, id: JobId::new(made_by.id)? };
            Some(Maker { job, attempt: made_by.attempt.map(AttemptId::new).transpose()? })
        }
        None => None,
    };
    let spec = VolumeSpec {
        id: VolumeId { store: store.clone(), name: name.clone() },
        size: VolumeSize::from_mebibytes(record.mebibytes)?,
        file_system: record.fs.as_deref().map(FileSystem::parse).transpose()?,
        uid: record.uid,
        gid: record.gid,
        mode: Mode::parse(&record.mode)?,
        provision: record.provision.as_deref().map(Provision::parse).transpose()?,
    };
    Ok(Volume { spec, made_by, made_at: Timestamp(record.made_at_ms) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume() -> Volume {
        let spec = VolumeSpec {
            id: VolumeId { store: StoreName::new("s").unwrap(), name: VolumeName::new("v").unwrap() },
            size: VolumeSize::from_mebibytes(5).unwrap(),
            file_system: None,
            uid: 1,
            gid: 2,
            mode: Mode::parse("7777").unwrap(),
            provision: Some(Provision::Thick),
        };
        Volume { spec, made_by: None, made_at: Timestamp(7) }
    }

    fn read(text: &str) -> Result<Volume, String> {
        from_text(text, &volume().spec.id.store, &volume().spec.id.name)
    }

    #[test]
    fn what_was_written_is_read_and_any_changed_byte_is_noticed() {
        let text = to_text(&volume());
        assert_eq!(read(&text).unwrap(), volume());
        for at in 0..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[at] ^= 1;
            if let Ok(changed) = String::from_utf8(changed) {
                assert!(read(&changed).is_err(), "byte {at}: {changed}");
            }
            assert!(read(&text[..at]).is_err(), "cut off at {at}");
        }
    }

    #[test]
    fn a_record_of_another_version_or_volume_is_refused_with_its_reason() {
        let json = to_text(&volume()).lines().next().unwrap().to_owned();
        for (from, to, reason) in [
            ("\"v\":1", "\"v\":2", "version 2"),
            ("\"name\":\"v\"", "\"name\":\"w\"", "volume `w`"),
            ("\"mebibytes\":5", "\"mebibytes\":0", "0 bytes"),
            ("\"gid\":2,", "", "gid"),
        ] {
            let changed = json.replace(from, to);
            assert_ne!(changed, json);
            let text = format!("{changed}\nsha256 {}\n", checksum(&changed));
            let refused = read(&text).unwrap_err();
            assert!(refused.contains(reason), "{refused}");
        }
    }
}
