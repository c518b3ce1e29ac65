//! Users on other nodes. A node that attaches writes a file of its own, then looks for the mark of a destroy; a
//! destroy makes the mark, then looks for files: who sees the other withdraws, so that never both succeed.

use crate::entry::{self, Sound, State};
use crate::layout::{self, DELETING};
use crate::mark;
use crate::problem::{At, Problem};
use crate::shared::Work;
use crate::sweep;
use crate::target::{Fault, Handle, Name, TargetError};
use dvs_domain::failure::{Failure, FailureCode};
use dvs_domain::names::{NodeId, VolumeName};
use dvs_domain::ports::{Claim, ClaimKind};

/// The longest name of a node that is read, in bytes.
const NODE_NAME_BYTES_MAX: u32 = 255;

/// Says that this node has `name` attached, or is about to.
pub(crate) async fn enter(work: &Work, name: &VolumeName) -> Result<(), Problem> {
    let step = "say that it is attached";
    work.shared.refuse_read_only()?;
    let sound = entry::attachable(work, name).await?;
    let own = &work.shared.node;
    let claim = layout::claim(&own.id).at(step)?;
    // What was said before stands, whatever becomes of this: it may be attached all the while.
    let is_said = work.look_up(&sound.metadata, &claim).await.at(step)?.is_some();
    let refused = said(work, name, &sound.metadata, (&claim, own.name.as_bytes()), step).await?;
    let Some(refused) = refused else { return Ok(()) };
    if !is_said {
        work.remove_file(&sound.metadata, &claim).await.at("withdraw")?;
    }
    Err(refused.into())
}

/// Says of a volume of another node that somebody is told here that it is there: the create that has made it may fail
/// after all, and must not be undone then.
pub(crate) async fn see(work: &Work, name: &VolumeName, sound: &Sound) -> Result<(), Problem> {
    let step = "say that it was seen";
    let own = &work.shared.node.id;
    if sound.made_as.as_ref().is_none_or(|made_as| made_as.node == *own) {
        return Ok(());
    }
    let seen = layout::seen(own).at(step)?;
    if work.look_up(&sound.metadata, &seen).await.at(step)?.is_some() {
        return Ok(());
    }
    let Some(refused) = said(work, name, &sound.metadata, (&seen, b""), step).await? else { return Ok(()) };
    work.remove_file(&sound.metadata, &seen).await.at("withdraw")?;
    Err(refused.into())
}

/// Whether another node has told somebody of the volume in the folder `metadata`.
pub(crate) async fn is_seen(work: &Work, metadata: &Handle, step: &'static str) -> Result<bool, Problem> {
    let mut from = None;
    loop {
        let page = work.list(metadata, from).await.at(step)?;
        let mut seers =
            page.entries.into_iter().filter_map(|entry| layout::seer(&Name::new(entry.name).ok()?));
        if seers.any(|node| node != work.shared.node.id) {
            return Ok(true);
        }
        from = page.next;
        if from.is_none() {
            return Ok(false);
        }
    }
}

/// Writes a file of this node's into the folder `metadata` of `name`, then looks for the mark of a destroy. Gives why
/// that is in vain.
async fn said(
    work: &Work,
    name: &VolumeName,
    metadata: &Handle,
    (file, content): (&Name, &[u8]),
    step: &'static str,
) -> Result<Option<Failure>, Problem> {
    let destroyed = || {
        let detail = format!("volume `{}` has just been destroyed", work.shared.id(name));
        Failure::new(FailureCode::Busy, detail).at_step(step)
    };
    match work.write_file(metadata, file, content).await {
        Err(TargetError { fault: Fault::NotThere, .. }) => return Err(destroyed().into()),
        written => written.at(step)?,
    }
    let deleting = layout::name(DELETING).at(step)?;
    Ok(match work.read_mark(metadata, &deleting).await.at(step)? {
        // This node destroys nothing now, or this would wait: an earlier attempt was cut off before its decision.
        Some(node) if node == work.shared.node.id.as_str() => {
            work.remove_file(metadata, &deleting).await.at(step)?;
            None
        }
        Some(node) => Some(mark::destroyed_by(work, name, &node).at_step(step)),
        // A destroy removes its mark last, when the name is somebody else's already.
        None if is_still(work, name, metadata).await? => None,
        None => Some(destroyed()),
    })
}

/// Whether `name` still leads to the folder `metadata`.
async fn is_still(work: &Work, name: &VolumeName, metadata: &Handle) -> Result<bool, Problem> {
    Ok(match entry::find(work, name).await? {
        State::Sound(sound) => sound.metadata == *metadata,
        State::Absent | State::Damaged(_) => false,
    })
}

/// Says that this node has `name` attached no more.
pub(crate) async fn leave(work: &Work, name: &VolumeName) -> Result<(), Problem> {
    let step = "say that it is detached";
    work.shared.refuse_read_only()?;
    let Some(metadata) = metadata(work, name, step).await? else { return Ok(()) };
    let claim = layout::claim(&work.shared.node.id).at(step)?;
    work.remove_file(&metadata, &claim).await.at(step).map(drop)
}

/// What nodes have said about `name`.
pub(crate) async fn claims(work: &Work, name: &VolumeName) -> Result<Vec<Claim>, Problem> {
    let step = "look who uses it";
    match metadata(work, name, step).await? {
        Some(metadata) => claims_in(work, &metadata, step).await,
        None => Ok(Vec::new()),
    }
}

/// Takes away what `node` has said about `name`, and brings what it has left half-done to an end.
pub(crate) async fn release(work: &Work, name: &VolumeName, node: &NodeId) -> Result<Vec<Claim>, Problem> {
    let step = "release";
    work.shared.refuse_read_only()?;
    let mut released = Vec::new();
    if let Some(metadata) = metadata(work, name, step).await? {
        released = claims_in(work, &metadata, step).await?;
        released.retain(|claim| claim.node == *node);
        let is_attached = released.iter().any(|claim| claim.kind == ClaimKind::Attached);
        if is_attached && *node == work.shared.node.id {
            let detail = format!(
                "this node, which lives, says that it has volume `{}` attached",
                work.shared.id(name)
            );
            return Err(Failure::new(FailureCode::InUse, detail)
                .at_step(step)
                .with_hint("detach it here: what this node said goes with that")
                .into());
        }
        for claim in &released {
            let file = match claim.kind {
                ClaimKind::Attached => layout::claim(node).at(step)?,
                ClaimKind::Deleting => continue, // Below: it may have been decided.
            };
            work.remove_file(&metadata, &file).await.at(step)?;
        }
    }
    let folders = work.folders().await?;
    // Nobody needs it, and it is in nobody's way.
    let _left = work.remove_file(&folders.metadata, &layout::staged_list(node).at(step)?).await;
    for temporary in sweep::left_by(work, &folders, node).await? {
        if temporary.volume == *name {
            sweep::settle_temporary(work, &folders, &temporary).await?;
        }
    }
    if released.iter().any(|claim| claim.kind == ClaimKind::Deleting)
        && let Some(metadata) = metadata(work, name, step).await?
    {
        let deleting = layout::name(DELETING).at(step)?;
        if work.read_mark(&metadata, &deleting).await.at(step)?.as_deref() == Some(node.as_str()) {
            work.remove_file(&metadata, &deleting).await.at(step)?;
        }
    }
    Ok(released)
}

/// Every claim in the folder `metadata`.
async fn claims_in(work: &Work, metadata: &Handle, step: &'static str) -> Result<Vec<Claim>, Problem> {
    let mut claims = attached_in(work, metadata, step).await?;
    let deleting = layout::name(DELETING).at(step)?;
    let marked = work.read_mark(metadata, &deleting).await.at(step)?;
    if let Some(node) = marked.and_then(|node| NodeId::new(node).ok()) {
        claims.push(Claim { node, node_name: None, kind: ClaimKind::Deleting });
    }
    claims.sort();
    Ok(claims)
}

/// What nodes say in the folder `metadata` that they have attached.
pub(crate) async fn attached_in(
    work: &Work,
    metadata: &Handle,
    step: &'static str,
) -> Result<Vec<Claim>, Problem> {
    let mut claims = Vec::new();
    let mut from = None;
    loop {
        let page = work.list(metadata, from).await.at(step)?;
        for entry in page.entries {
            let Ok(file) = Name::new(entry.name) else { continue };
            if let Some(node) = layout::claimant(&file) {
                let said = work.read_file(metadata, &file, NODE_NAME_BYTES_MAX).await.at(step)?;
                let node_name = said.and_then(|said| node_name(&said));
                claims.push(Claim { node, node_name, kind: ClaimKind::Attached });
            }
        }
        from = page.next;
        if from.is_none() {
            return Ok(claims);
        }
    }
}

/// A file may say anything; what is shown of it is harmless.
fn node_name(said: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(said).trim().escape_debug().to_string();
    (!text.is_empty()).then_some(text)
}

/// The folder of `name` in `volumes_metadata`, whether or not what is in it is in order.
async fn metadata(work: &Work, name: &VolumeName, step: &'static str) -> Result<Option<Handle>, Problem> {
    let Some(folders) = work.folders_if_there().await? else { return Ok(None) };
    let file = layout::name(name.as_str()).at(step)?;
    let found = work.look_up(&folders.metadata, &file).await.at(step)?;
    Ok(found.filter(|found| found.attributes.is_folder).map(|found| found.handle))
}
