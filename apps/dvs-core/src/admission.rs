//! What can be said about a job before it is taken: whether its store exists, and whether DVS may mount
//! there.

use super::{AttachmentRegistry, StoreRegistry};
use dvs_domain::attachment::{Attachment, AttachmentTable};
use dvs_domain::failure::{Failure, FailureCode};
use dvs_domain::job::{Job, JobKind, Target};
use dvs_domain::mount_point::{AllowedRoots, MountPoint};

/// Refuses what can never become true here, so that it is neither remembered nor answered with `PENDING`.
pub(super) fn admit(
    job: &Job,
    roots: &AllowedRoots,
    reserved: &[(MountPoint, String)],
    stores: &StoreRegistry,
    node: &AttachmentRegistry,
) -> Result<(), Failure> {
    let target = job.request.target();
    let subject = || format!("cannot {} {target}", job.request.kind());
    if let Some(store) = &target.store {
        stores.get(store).map_err(|failure| failure.while_doing(subject()))?;
    }
    if let Some(mount_point) = target.mount_point() {
        // What is attached stays deletable, also when its root is not allowed any more.
        let ours = node.book(|book| book.at(mount_point).is_some());
        if !(ours && job.request.kind() == JobKind::Delete) {
            roots.check(mount_point).map_err(|failure| failure.while_doing(subject()))?;
        }
        if job.request.kind() == JobKind::Create {
            refuse_reserved(mount_point, reserved).map_err(|failure| failure.while_doing(subject()))?;
        }
    }
    if job.request.kind() == JobKind::Delete {
        let refused =
            node.book(|book| meant_by(target, book).try_for_each(|there| refuse_holding(there, reserved)));
        refused.map_err(|failure| failure.while_doing(subject()))?;
    }
    Ok(())
}

/// What is attached where the target says; or all that are called so, where it says no place.
fn meant_by<'a>(target: &Target, book: &'a AttachmentTable) -> impl Iterator<Item = &'a Attachment> {
    let named = target.given_name().filter(|_| target.mount_point().is_none());
    let at = target.mount_point().and_then(|mount_point| book.at(mount_point));
    let is_in_store =
        |there: &&Attachment| target.store.as_ref().is_none_or(|store| *store == there.volume.store);
    at.into_iter().chain(named.into_iter().flat_map(|name| book.named(name)).filter(is_in_store))
}

/// A volume in which the node has a store: whatever is in the store would be destroyed with it.
fn refuse_holding(there: &Attachment, reserved: &[(MountPoint, String)]) -> Result<(), Failure> {
    let Attachment { volume, mount_point, .. } = there;
    let held = reserved.iter().find(|(place, _)| place == mount_point || place.is_below(mount_point));
    let Some((place, what)) = held else { return Ok(()) };
    Err(Failure::new(FailureCode::InUse, format!("volume `{volume}` holds {what}"))
        .with_hint(format!("move what is at `{place}`, and restart the agent without it")))
}

/// A volume over a store's folder would hide the images of all volumes, its own among them.
fn refuse_reserved(mount_point: &MountPoint, reserved: &[(MountPoint, String)]) -> Result<(), Failure> {
    let Some((place, what)) = reserved.iter().find(|(place, _)| place.overlaps(mount_point)) else {
        return Ok(());
    };
    let how = if mount_point.is_below(place) { "lies in" } else { "holds" };
    Err(Failure::new(FailureCode::ForbiddenPath, format!("mount point `{mount_point}` {how} {what}"))
        .with_hint(format!("choose a path beside `{place}`")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use dvs_domain::names::{StoreName, VolumeName};
    use dvs_domain::volume::VolumeId;

    #[test]
    fn a_volume_that_holds_a_store_of_the_node_is_in_use() {
        let at = |path: &str| MountPoint::new(path).unwrap();
        let (store, name) = (StoreName::new("loop").unwrap(), VolumeName::new("v").unwrap());
        let there = |path: &str| Attachment {
            volume: VolumeId { store: store.clone(), name: name.clone() },
            mount_point: at(path),
            made_directories: Vec::new(),
            holders: Vec::new(),
        };
        let reserved = [(at("/srv/big/images"), "the store `two`".to_owned())];
        let book = AttachmentTable::from_iter([there("/srv/big")]);
        for (asked_store, asked_name, path, is_meant) in [
            (None, None, Some("/srv/big"), true),
            (None, Some("v"), None, true),
            (Some("loop"), Some("v"), None, true),
            (Some("two"), Some("v"), None, false),
            (None, Some("w"), None, false),
            (None, None, Some("/srv/other"), false),
        ] {
            let target = Target::new(
                asked_store.map(|text| StoreName::new(text).unwrap()),
                asked_name.map(|text| VolumeName::new(text).unwrap()),
                path.map(at),
            );
            let refused =
                meant_by(&target.unwrap(), &book).find_map(|found| refuse_holding(found, &reserved).err());
            assert_eq!(refused.is_some(), is_meant, "{asked_store:?} {asked_name:?} {path:?}");
            if let Some(refused) = refused {
                assert_eq!(refused.code(), FailureCode::InUse);
                assert_eq!(refused.to_string(), "volume `loop/v` holds the store `two`");
            }
        }
        assert!(refuse_holding(&there("/srv/bigger"), &reserved).is_ok());
    }

    #[test]
    fn a_mount_point_is_beside_what_dvs_itself_needs() {
        let at = |path: &str| MountPoint::new(path).unwrap();
        let reserved = [
            (at("/srv/images"), "the store `x`".to_owned()),
            (at("/srv/dvs/state"), "the agent's state".to_owned()),
        ];
        for (path, refusal) in [
            ("/srv/images", Some("mount point `/srv/images` holds the store `x`")),
            ("/srv/images/a", Some("mount point `/srv/images/a` lies in the store `x`")),
            ("/srv", Some("mount point `/srv` holds the store `x`")),
            ("/srv/dvs", Some("mount point `/srv/dvs` holds the agent's state")),
            ("/srv/images2", None),
            ("/mnt", None),
        ] {
            let refused = refuse_reserved(&at(path), &reserved).err();
            assert_eq!(refused.as_ref().map(Failure::chain).as_deref(), refusal, "{path}");
            assert!(refused.is_none_or(|failure| failure.code() == FailureCode::ForbiddenPath), "{path}");
        }
    }
}
