//! What can be said about a job before it is taken: whether its store exists, and whether DVS may mount there.

use super::{Node, Stores};
use dvs_domain::failure::Failure;
use dvs_domain::job::{Job, JobKind};
use dvs_domain::mount_point::AllowedRoots;

/// Refuses what can never become true here, so that it is neither remembered nor answered with `PENDING`.
pub(super) fn admit(job: &Job, roots: &AllowedRoots, stores: &Stores, node: &Node) -> Result<(), Failure> {
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
    }
    Ok(())
}
