//! Attachments and their holders.

use super::{KeyRow, VERSION, VolumeRow};
use dvs_domain::attachment::{Attachment, Holder};
use dvs_domain::failure::{BoxError, Failure};
use dvs_domain::mount_point::MountPoint;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AttachmentRow {
    v: u32,
    volume: VolumeRow,
    mount_point: String,
    made_directories: Vec<String>,
    holders: Vec<HolderRow>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum HolderRow {
    Job(KeyRow),
    Docker(String),
}

impl From<&Attachment> for AttachmentRow {
    fn from(attachment: &Attachment) -> Self {
        Self {
            v: VERSION,
            volume: (&attachment.volume).into(),
            mount_point: attachment.mount_point.to_string(),
            made_directories: attachment.made_directories.iter().map(ToString::to_string).collect(),
            holders: attachment.holders.iter().map(HolderRow::from).collect(),
        }
    }
}

impl TryFrom<AttachmentRow> for Attachment {
    type Error = BoxError;

    fn try_from(row: AttachmentRow) -> Result<Self, BoxError> {
        Ok(Self {
            volume: row.volume.try_into()?,
            mount_point: MountPoint::new(row.mount_point)?,
            made_directories: row
                .made_directories
                .into_iter()
                .map(MountPoint::new)
                .collect::<Result<_, Failure>>()?,
            holders: row.holders.into_iter().map(Holder::try_from).collect::<Result<_, Failure>>()?,
        })
    }
}

impl From<&Holder> for HolderRow {
    fn from(holder: &Holder) -> Self {
        match holder {
            Holder::Job(key) => Self::Job(key.into()),
            Holder::Docker(id) => Self::Docker(id.clone()),
        }
    }
}

impl TryFrom<HolderRow> for Holder {
    type Error = Failure;

    fn try_from(row: HolderRow) -> Result<Self, Failure> {
        Ok(match row {
            HolderRow::Job(key) => Self::Job(key.try_into()?),
            HolderRow::Docker(id) => Self::Docker(id),
        })
    }
}
