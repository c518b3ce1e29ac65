//! The record of a volume: JSON with a version and a checksum. Stores keep two copies; one is enough to know the volume.

use data_encoding::HEXLOWER;
use dvs_domain::failure::{Failure, FailureCode};
use dvs_domain::job::{JobKey, JobKind, Maker};
use dvs_domain::names::{AttemptId, JobId, SenderId, VolumeName};
use dvs_domain::size::VolumeSize;
use dvs_domain::time::Timestamp;
use dvs_domain::volume::{FileSystem, Mode, Provision, Volume, VolumeId, VolumeSpec};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The version that is written, and the only one that is read.
const VERSION: u32 = 1;

/// The largest record that is read. One that is written has less than 1 KiB.
pub const RECORD_BYTES_MAX: usize = 16 * 1024;

/// What is read first: a later version may say everything else otherwise.
#[derive(Deserialize)]
struct VersionJson {
    version: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RecordJson {
    version: u32,
    volume: VolumeJson,
    sha256: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct VolumeJson {
    store: String,
    name: String,
    mebibytes: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    file_system: Option<String>,
    uid: u32,
    gid: u32,
    mode: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    provision: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    made_as: Option<String>,
    made_by: Option<JobJson>,
    made_at_milliseconds: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct JobJson {
    sender: String,
    kind: String,
    id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    attempt: Option<String>,
}

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The volume.
    pub volume: Volume,
    /// What a store calls it besides, such as the name under which its directory was made.
    pub made_as: Option<String>,
}

/// The bytes of the record of `volume`, which the store may call something else besides.
///
/// # Errors
/// `internal`, never in practice: strings and numbers have a JSON form.
pub fn encode(volume: &Volume, made_as: Option<String>) -> Result<Vec<u8>, Failure> {
    let spec = &volume.spec;
    let made_by = volume.made_by.as_ref().map(|Maker { job, attempt }| JobJson {
        sender: job.sender.as_str().to_owned(),
        kind: job.kind.as_str().to_owned(),
        id: job.id.as_str().to_owned(),
        attempt: attempt.as_ref().map(|id| id.as_str().to_owned()),
    });
    let volume = VolumeJson {
        store: spec.id.store.as_str().to_owned(),
        name: spec.id.name.as_str().to_owned(),
        mebibytes: spec.size.mebibytes(),
        file_system: spec.file_system.map(|fs| fs.as_str().to_owned()),
        uid: spec.uid,
        gid: spec.gid,
        mode: spec.mode.to_string(),
        provision: spec.provision.map(|provision| provision.as_str().to_owned()),
        made_as,
        made_by,
        made_at_milliseconds: volume.made_at.0,
    };
    let sha256 = checksum(&volume).map_err(cannot_encode)?;
    let record = RecordJson { version: VERSION, volume, sha256 };
    let mut bytes = serde_json::to_vec_pretty(&record).map_err(cannot_encode)?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// Whether a later version has written `bytes`: then they are not broken, and not to be mended.
#[must_use]
pub fn is_of_later_version(bytes: &[u8]) -> bool {
    serde_json::from_slice(bytes).is_ok_and(|VersionJson { version }| version > VERSION)
}

/// What `bytes` record, if they are whole and about `id`. The store's name is the one that it is configured under now.
///
/// # Errors
/// What is wrong with them, such as "is too large": the caller names the file.
pub fn decode(bytes: &[u8], id: &VolumeId) -> Result<Record, String> {
    if bytes.len() > RECORD_BYTES_MAX {
        return Err("is too large".to_owned());
    }
    let no_record = |error| format!("is no record: {error}");
    let VersionJson { version } = serde_json::from_slice(bytes).map_err(no_record)?;
    if version != VERSION {
        return Err(format!("has version {version}, and this program reads {VERSION}"));
    }
    let record: RecordJson = serde_json::from_slice(bytes).map_err(no_record)?;
    if checksum(&record.volume).ok().as_deref() != Some(record.sha256.as_str()) {
        return Err("does not agree with its checksum".to_owned());
    }
    if record.volume.name != id.name.as_str() {
        return Err(format!("is of volume `{}`", record.volume.name));
    }
    typed(record.volume, id).map_err(|failure| format!("has a value that cannot be: {failure}"))
}

fn typed(json: VolumeJson, id: &VolumeId) -> Result<Record, Failure> {
    let volume = Volume {
        spec: VolumeSpec {
            id: VolumeId { store: id.store.clone(), name: VolumeName::new(json.name)? },
            size: VolumeSize::from_mebibytes(json.mebibytes)?,
            file_system: json.file_system.as_deref().map(FileSystem::parse).transpose()?,
            uid: json.uid,
            gid: json.gid,
            mode: Mode::parse(&json.mode)?,
            provision: json.provision.as_deref().map(Provision::parse).transpose()?,
        },
        made_by: json.made_by.map(typed_job).transpose()?,
        made_at: Timestamp(json.made_at_milliseconds),
    };
    Ok(Record { volume, made_as: json.made_as })
}

fn typed_job(job: JobJson) -> Result<Maker, Failure> {
    let kind = [JobKind::Create, JobKind::Delete].into_iter().find(|kind| kind.as_str() == job.kind);
    let kind = kind.ok_or_else(|| Failure::new(FailureCode::BadRequest, "its job is of no known kind"))?;
    let attempt = job.attempt.map(AttemptId::new).transpose()?;
    Ok(Maker { job: JobKey { sender: SenderId::new(job.sender)?, kind, id: JobId::new(job.id)? }, attempt })
}

/// Over the compact text in the order of the fields, so that it does not depend on how the record is laid out.
fn checksum(volume: &VolumeJson) -> serde_json::Result<String> {
    Ok(HEXLOWER.encode(&Sha256::digest(serde_json::to_vec(volume)?)))
}

fn cannot_encode(error: serde_json::Error) -> Failure {
    Failure::internal("cannot write the record as JSON", error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use dvs_domain::names::StoreName;

    fn id(name: &str) -> VolumeId {
        VolumeId { store: StoreName::new("loop").unwrap(), name: VolumeName::new(name).unwrap() }
    }

    fn volume() -> Volume {
        Volume {
            spec: VolumeSpec {
                id: id("a"),
                size: VolumeSize::from_mebibytes(5000).unwrap(),
                file_system: Some(FileSystem::Ext4),
                uid: 1000,
                gid: 100,
                mode: Mode::parse("2750").unwrap(),
                provision: Some(Provision::Thick),
            },
            made_by: Some(Maker {
                job: JobKey {
                    sender: SenderId::new("host ü \"quoted\"").unwrap(),
                    kind: JobKind::Create,
                    id: JobId::new("1").unwrap(),
                },
                attempt: Some(AttemptId::new("f".repeat(80)).unwrap()),
            }),
            made_at: Timestamp(u64::MAX),
        }
    }

    fn recorded(volume: Volume) -> Record {
        Record { volume, made_as: None }
    }

    #[test]
    fn every_field_comes_back() {
        let bytes = encode(&volume(), None).unwrap();
        assert!(bytes.len() < 1024, "{} bytes", bytes.len());
        assert_eq!(decode(&bytes, &id("a")).unwrap(), recorded(volume()));
        let bare = Volume { made_by: None, ..volume() };
        assert_eq!(decode(&encode(&bare, None).unwrap(), &id("a")).unwrap(), recorded(bare));
        let plain = VolumeSpec { file_system: None, provision: None, ..volume().spec };
        let named = Volume { spec: plain, ..volume() };
        let bytes = encode(&named, Some(".new-1".to_owned())).unwrap();
        let expected = Record { volume: named, made_as: Some(".new-1".to_owned()) };
        assert_eq!(decode(&bytes, &id("a")).unwrap(), expected);
    }

    #[test]
    fn a_store_may_be_called_otherwise_later() {
        let renamed = VolumeId { store: StoreName::new("fast").unwrap(), name: id("a").name };
        assert_eq!(decode(&encode(&volume(), None).unwrap(), &renamed).unwrap().volume.spec.id, renamed);
    }

    #[test]
    fn no_changed_byte_goes_unnoticed() {
        let bytes = encode(&volume(), None).unwrap();
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut changed = bytes.clone();
                changed[at] ^= 1 << bit;
                if let Ok(read) = decode(&changed, &id("a")) {
                    assert_eq!(
                        read,
                        recorded(volume()),
                        "byte {at}, bit {bit}: only a change of layout may be read"
                    );
                }
            }
        }
        for length in 0..bytes.len() - 1 {
            assert!(decode(&bytes[..length], &id("a")).is_err(), "cut off at {length}");
        }
    }

    #[test]
    fn a_record_of_another_volume_is_no_record() {
        assert!(decode(&encode(&volume(), None).unwrap(), &id("b")).unwrap_err().contains("`a`"));
    }

    #[test]
    fn what_a_later_version_wrote_is_not_guessed_at() {
        let text = String::from_utf8(encode(&volume(), None).unwrap()).unwrap();
        let later = text.replace("\"version\": 1", "\"version\": 2");
        assert!(decode(later.as_bytes(), &id("a")).unwrap_err().contains("version 2"));
        assert!(decode(&vec![b' '; RECORD_BYTES_MAX + 1], &id("a")).is_err());
    }
}
