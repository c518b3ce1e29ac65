//! The record of a volume: JSON with a version and a checksum, twice in one file, in blocks of their own. One copy is
//! enough to know the volume. And the record of vSphere Integrated Containers, as far as it tells what a volume is.

use crate::layout::{Purpose, Temporary};
use data_encoding::HEXLOWER;
use dvs_domain::failure::{Failure, FailureCode};
use dvs_domain::job::{JobKey, JobKind, Maker};
use dvs_domain::names::{AttemptId, JobId, SenderId, VolumeName};
use dvs_domain::size::VolumeSize;
use dvs_domain::time::Timestamp;
use dvs_domain::volume::{Mode, Volume, VolumeId, VolumeSpec};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::HashMap;

/// The version that is written, and the only one that is read.
const VERSION: u32 = 1;
/// Where the second copy begins. A copy is padded with line feeds up to there.
const COPY_BYTES: usize = 4096;
/// The largest record that is read.
pub(crate) const RECORD_BYTES_MAX: u32 = 16 * 1024;
/// What the earlier implementation makes where nothing is asked, in mebibytes.
const LEGACY_MEBIBYTES_DEFAULT: u64 = 1024;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) volume: Volume,
    /// The name under which its directory was made.
    pub(crate) made_as: Temporary,
}

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
    uid: u32,
    gid: u32,
    mode: String,
    made_as: String,
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

/// What is written for `volume`, whose directory is made as `made_as`.
pub(crate) fn encode(volume: &Volume, made_as: &Temporary) -> Result<Vec<u8>, Failure> {
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
        uid: spec.uid,
        gid: spec.gid,
        mode: spec.mode.to_string(),
        made_as: made_as.to_string(),
        made_by,
        made_at_milliseconds: volume.made_at.0,
    };
    let sha256 = checksum(&volume).map_err(cannot_encode)?;
    let copy = serde_json::to_vec_pretty(&RecordJson { version: VERSION, volume, sha256 });
    let mut copy = copy.map_err(cannot_encode)?;
    copy.push(b'\n');
    let mut bytes = copy.clone();
    bytes.resize(COPY_BYTES.max(copy.len()), b'\n');
    bytes.extend(copy);
    Ok(bytes)
}

/// The volume that `bytes` record, if one of the copies is whole and about `id`; else what is wrong. The store's name
/// is the one that it is configured under now.
pub(crate) fn decode(bytes: &[u8], id: &VolumeId) -> Result<Record, String> {
    let first = &bytes[..bytes.len().min(COPY_BYTES)];
    decode_copy(first, id).or_else(|wrong| match bytes.get(COPY_BYTES..) {
        Some(second) if !second.is_empty() => decode_copy(second, id).map_err(|_| wrong),
        _ => Err(wrong),
    })
}

fn decode_copy(bytes: &[u8], id: &VolumeId) -> Result<Record, String> {
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
    // Somebody else's directory must not get the name of this volume.
    let made_as = Temporary::parse(&record.volume.made_as)
        .filter(|made_as| made_as.purpose == Purpose::Create && made_as.volume == id.name)
        .ok_or_else(|| format!("names the directory `{}`", record.volume.made_as.escape_debug()))?;
    let volume = typed(record.volume, id);
    let volume = volume.map_err(|failure| format!("has an invalid value: {failure}"))?;
    Ok(Record { volume, made_as })
}

fn typed(json: VolumeJson, id: &VolumeId) -> Result<Volume, Failure> {
    let spec = VolumeSpec {
        id: id.clone(),
        size: VolumeSize::from_mebibytes(json.mebibytes)?,
        file_system: None,
        uid: json.uid,
        gid: json.gid,
        mode: Mode::parse(&json.mode)?,
        provision: None,
    };
    let made_by = json.made_by.map(typed_job).transpose()?;
    Ok(Volume { spec, made_by, made_at: Timestamp(json.made_at_milliseconds) })
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

/// What the earlier implementation wrote for a volume, as far as it matters here.
#[derive(Deserialize)]
struct LegacyJson {
    #[serde(rename = "Name")]
    name: Option<String>,
    #[serde(rename = "DriverOpts", default)]
    options: Option<HashMap<String, String>>,
}

/// How large a volume of the earlier implementation was asked to be, if `bytes` are what it wrote for `name`.
pub(crate) fn decode_legacy(bytes: &[u8], name: &VolumeName) -> Result<VolumeSize, String> {
    let legacy: LegacyJson =
        serde_json::from_slice(bytes).map_err(|error| format!("is no record: {error}"))?;
    if legacy.name.as_deref().is_some_and(|there| there != name.as_str()) {
        return Err(format!("is of volume `{}`", legacy.name.unwrap_or_default().escape_debug()));
    }
    let options = legacy.options.unwrap_or_default();
    let capacity = options.iter().find(|(key, _)| key.eq_ignore_ascii_case("capacity"));
    let size = match capacity {
        Some((_, capacity)) => VolumeSize::parse(capacity),
        None => VolumeSize::from_mebibytes(LEGACY_MEBIBYTES_DEFAULT),
    };
    size.map_err(|failure| format!("has a value that cannot be: {failure}"))
}
