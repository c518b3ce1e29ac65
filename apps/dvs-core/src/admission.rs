//! What can be said about a job before it is taken: whether its store exists, and whether DVS may mount
//! there.

use super::{AttachmentRegistry, StoreRegistry};
use dvs_domain::failure::{Failure, FailureCode};
use dvs_domain::job::{Job, JobKind};
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
    Ok(())
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
