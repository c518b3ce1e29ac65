//! A volume's record on disk. Two copies of it lie in the volume's directory, so that one broken block does not make a
//! volume of unknown size.

use crate::step::AtStep;
use dvs_domain::failure::Failure;
use dvs_domain::volume::{Volume, VolumeId};
use dvs_volume_record::record::{self, RECORD_BYTES_MAX};
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// The names of the two copies.
const COPIES: [&str; 2] = ["record", "record.copy"];

/// Writes both copies of the record of `volume` into `folder`, and makes them durable.
pub(crate) fn write(folder: &Path, volume: &Volume) -> Result<(), Failure> {
    let bytes = record::encode(volume, None)?;
    for copy in COPIES {
        let path = folder.join(copy);
        let written =
            File::options().write(true).create_new(true).mode(0o600).open(&path).and_then(|mut file| {
                file.write_all(&bytes)?;
                file.sync_all()
            });
        written.at("write the record", &path)?;
    }
    Ok(())
}

/// Reads the record of `id` in `folder` by the first copy that is sound; what is wrong with both, if none is.
pub(crate) fn read(folder: &Path, id: &VolumeId) -> Result<Volume, String> {
    let mut problems = Vec::new();
    for copy in COPIES {
        match read_bytes(&folder.join(copy)).and_then(|bytes| record::decode(&bytes, id)) {
            Ok(record) => return Ok(record.volume),
            Err(problem) => problems.push(format!("`{copy}` {problem}")),
        }
    }
    Err(problems.join(", "))
}

fn read_bytes(path: &Path) -> Result<Vec<u8>, String> {
    let size = match fs::symlink_metadata(path) {
        Ok(found) if found.is_file() => found.len(),
        Ok(_) => return Err("is no file".to_owned()),
        Err(error) if error.kind() == ErrorKind::NotFound => return Err("is missing".to_owned()),
        Err(error) => return Err(format!("cannot be read: {error}")),
    };
    if size > RECORD_BYTES_MAX as u64 {
        return Err("is too large".to_owned());
    }
    fs::read(path).map_err(|error| format!("cannot be read: {error}"))
}
