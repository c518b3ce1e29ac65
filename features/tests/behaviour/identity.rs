//! What makes a volume the same volume.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;

/// The image and the UUID of the file system in it, or the folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    file: (u64, u64),
    file_system: Vec<u8>,
}

impl Identity {
    pub(crate) fn of(file: &Metadata, file_system: Vec<u8>) -> Self {
        Self { file: (file.dev(), file.ino()), file_system }
    }
}
