//! The delete lock: which node is destroying a volume. It excludes destroys and attaches of other nodes, and decides
//! nothing by itself. A destroy that fails before its decision removes its lock, at once or when the server answers again.

use crate::claims;
use crate::client::{ClientError, Fault, Handle};
use crate::layout::{self, DELETING};
use crate::problem::{At, Problem};
use crate::session::Export;
use crate::volume_state::{DirectoryState, Sound, locked_by};
use dvs_domain::failure::{Failure, FailureCode};
use dvs_domain::names::VolumeName;
use dvs_domain::user::{User, in_use};

const LOCK: &str = "lock for deletion";
const UNLOCK: &str = "remove the delete lock";
/// How often the lock is tried while other nodes make and remove theirs.
const TRIES_MAX: usize = 3;

/// Locks the volume, unless another node destroys it or has it attached. Fails without leaving a lock.
pub(crate) async fn lock(export: &Export, sound: &Sound) -> Result<(), Problem> {
    let locked = lock_and_check(export, sound.name(), &sound.metadata).await;
    let Err(problem) = locked else { return Ok(()) };
    Err(unlock_after(export, sound, problem).await)
}

async fn lock_and_check(export: &Export, name: &VolumeName, metadata: &Handle) -> Result<(), Problem> {
    make(export, name, metadata).await?;
    let users: Vec<User> = claims::attached_in(export, metadata, LOCK)
        .await?
        .into_iter()
        // This node's agent detached the volume before it called.
        .filter(|claim| claim.node != export.session.node.id)
        .map(|claim| User::Node { id: claim.node.to_string(), name: claim.node_name })
        .collect();
    if users.is_empty() {
        return Ok(());
    }
    let refused = in_use(&users)
        .with_hint("detach it there first; if that node is dead, `dvs release` removes what it left");
    Err(refused.into())
}

async fn make(export: &Export, name: &VolumeName, metadata: &Handle) -> Result<(), Problem> {
    let deleting = layout::fixed(DELETING);
    let session = &export.session;
    let own = session.node.id.as_str();
    for _ in 0..TRIES_MAX {
        match export.make_link(metadata, &deleting, own).await {
            Err(ClientError { fault: Fault::Exists, .. }) => {}
            made => return made.at(LOCK),
        }
        match locked_by(export, metadata, LOCK).await? {
            // An earlier attempt of this node was cut off, or a reply was lost.
            Some(node) if node == own => return Ok(()),
            Some(node) => return Err(session.being_destroyed(name, &node).at_step(LOCK).into()),
            None => {} // It has just been removed.
        }
    }
    let detail = format!("other nodes start and abandon destroying volume `{}`", session.id(name));
    Err(Failure::new(FailureCode::Busy, detail).at_step(LOCK).into())
}

/// Removes this node's lock after a destroy failed with `problem` before its decision. If the server is away, the janitor
/// does it later. A destroy that an earlier attempt decided stays locked.
pub(crate) async fn unlock_after(export: &Export, sound: &Sound, problem: Problem) -> Problem {
    if sound.directory == DirectoryState::TakenOut {
        return problem.after_decision();
    }
    let session = &export.session;
    if problem.is_away() || problem.is_stale() {
        session.note_delete_lock(sound.name());
        return problem;
    }
    let Err(undo) = remove_own(&export.undoing(), &sound.metadata).await else { return problem };
    session.note_delete_lock(sound.name());
    let is_decided = problem.is_decided();
    let failure = session.failure(problem).undo_failed(session.failure(undo));
    let problem = Problem::from(failure);
    if is_decided { problem.after_decision() } else { problem }
}

/// Removes the lock in a metadata folder if it is this node's.
pub(crate) async fn remove_own(export: &Export, metadata: &Handle) -> Result<(), Problem> {
    let own = export.session.node.id.as_str();
    if locked_by(export, metadata, UNLOCK).await?.is_none_or(|node| node != own) {
        return Ok(());
    }
    let deleting = layout::fixed(DELETING);
    export.remove_file(metadata, &deleting).await.at(UNLOCK).map(drop)
}
