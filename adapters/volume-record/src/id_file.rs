//! Ids that are chosen once and kept in a file: 128 random bits in hexadecimal.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::path::Path;
use uuid::Uuid;

/// So much of a file is read, in bytes: more than an id has.
const FILE_BYTES_MAX: u64 = 256;

/// A random id.
#[must_use]
pub fn random() -> String {
    Uuid::new_v4().simple().to_string()
}

/// The content of `path`, if there is such a file.
///
/// # Errors
/// Those of reading it.
pub fn read(path: &Path) -> io::Result<Option<String>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut text = String::new();
    file.take(FILE_BYTES_MAX).read_to_string(&mut text)?;
    Ok(Some(text.trim().to_owned()))
}

/// Writes `id` to `path`, whole and durable, or not at all.
///
/// # Errors
/// Those of writing it.
pub fn write(path: &Path, id: &str) -> io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let new = path.with_file_name(format!(".{name}.new")); // No store has such a name.
    let mut file = File::create(&new)?;
    writeln!(file, "{id}")?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}
