//! Delete locks that a failed destroy could not remove.

use super::STEP;
use crate::delete_lock;
use crate::layout;
use crate::problem::{At, Problem};
use crate::session::Export;
use crate::volume_state::{self, DirectoryState, VolumeState};
use dvs_domain::names::VolumeName;

/// Removes this node's delete lock on `name`, unless the destroy was decided.
pub(super) async fn recover(export: &Export, name: &VolumeName) -> Result<(), Problem> {
    let file = layout::volume(name);
    let found = export.look_up(&export.metadata, &file).await.at(STEP)?;
    if let Some(found) = found.filter(|found| found.attributes.is_directory) {
        let is_undecided = match volume_state::state_of(export, name).await? {
            VolumeState::Sound(sound) => sound.directory != DirectoryState::TakenOut,
            VolumeState::Damaged(_) => export.look_up(&export.volumes, &file).await.at(STEP)?.is_some(),
            VolumeState::Absent => false,
        };
        if is_undecided {
            delete_lock::remove_own(export, &found.handle).await?;
        }
    }
    export.session.leftovers().delete_locks.remove(name);
    Ok(())
}
