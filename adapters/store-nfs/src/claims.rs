//! Claims: which nodes have a volume attached. A node that attaches writes its claim, then looks for a delete lock; a
//! destroy makes the delete lock, then looks for claims. Whoever sees the other withdraws, so that never both succeed.

use crate::client::{ClientError, Fault, Handle, Name};
use crate::layout::{self, DELETING};
use crate::problem::{At, Problem};
use crate::session::Export;
use crate::volume_state::{self, VolumeState, locked_by};
use dvs_domain::failure::{Failure, FailureCode};
use dvs_domain::names::VolumeName;
use dvs_domain::ports::{Claim, ClaimKind};

/// A longer name of a node is cut off.
const NODE_NAME_BYTES_MAX: u32 = 255;

/// Claims `name` for this node, which is about to attach it.
pub(crate) async fn enter(export: &Export, name: &VolumeName) -> Result<(), Problem> {
    let step = "claim";
    let sound = volume_state::attachable(export, name).await?;
    let own = &export.session.node;
    let claim = layout::claim(&own.id);
    // An earlier claim stays, whatever happens now: the volume may be attached.
    let is_claimed = export.look_up(&sound.metadata, &claim).await.at(step)?.is_some();
    let destroyed = || {
        let detail = format!("volume `{}` has just been destroyed", export.session.id(name));
        Failure::new(FailureCode::Busy, detail).at_step(step)
    };
    match export.write_file(&sound.metadata, &claim, own.name.as_bytes()).await {
        Err(ClientError { fault: Fault::NotFound, .. }) => return Err(destroyed().into()),
        written => written.at(step)?,
    }
    let is_found_again =
        |state| matches!(state, VolumeState::Sound(again) if again.metadata == sound.metadata);
    let refused = match locked_by(export, &sound.metadata, step).await? {
        // This node is not destroying the volume, which would occupy its lane: an earlier attempt was cut off.
        Some(node) if node == own.id.as_str() => {
            let deleting = layout::fixed(DELETING);
            export.remove_file(&sound.metadata, &deleting).await.at(step)?;
            return Ok(());
        }
        Some(node) => export.session.being_destroyed(name, &node).at_step(step),
        // A destroy removes its lock last, when the name leads elsewhere already.
        None if is_found_again(volume_state::find(export, name).await?) => return Ok(()),
        None => destroyed(),
    };
    if !is_claimed {
        export.remove_file(&sound.metadata, &claim).await.at("withdraw the claim")?;
    }
    Err(refused.into())
}

/// Withdraws this node's claim on `name`, which it has detached.
pub(crate) async fn leave(export: &Export, name: &VolumeName) -> Result<(), Problem> {
    let step = "withdraw the claim";
    let Some(metadata) = metadata_of(export, name, step).await? else { return Ok(()) };
    let claim = layout::claim(&export.session.node.id);
    export.remove_file(&metadata, &claim).await.at(step).map(drop)
}

/// Every claim and delete lock on `name`.
pub(crate) async fn claims(export: &Export, name: &VolumeName) -> Result<Vec<Claim>, Problem> {
    let step = "read the claims";
    match metadata_of(export, name, step).await? {
        Some(metadata) => claims_in(export, &metadata, step).await,
        None => Ok(Vec::new()),
    }
}

/// Every claim and delete lock in a metadata folder.
pub(crate) async fn claims_in(
    export: &Export,
    metadata: &Handle,
    step: &'static str,
) -> Result<Vec<Claim>, Problem> {
    let mut claims = attached_in(export, metadata, step).await?;
    if let Some(node) = locked_by(export, metadata, step).await?
        && let Ok(node) = dvs_domain::names::NodeId::new(node)
    {
        claims.push(Claim { node, node_name: None, kind: ClaimKind::Deleting });
    }
    claims.sort();
    Ok(claims)
}

/// Every claim in a metadata folder.
pub(crate) async fn attached_in(
    export: &Export,
    metadata: &Handle,
    step: &'static str,
) -> Result<Vec<Claim>, Problem> {
    let mut claims = Vec::new();
    let mut from = None;
    loop {
        let page = export.list(metadata, from).await.at(step)?;
        for entry in page.entries {
            let Ok(file) = Name::new(entry.name) else { continue };
            if let Some(node) = layout::claimant(&file) {
                let content = export.read_file(metadata, &file, NODE_NAME_BYTES_MAX).await.at(step)?;
                let node_name = content.and_then(|content| node_name(&content));
                claims.push(Claim { node, node_name, kind: ClaimKind::Attached });
            }
        }
        from = page.next;
        if from.is_none() {
            return Ok(claims);
        }
    }
}

/// The name of a node as its claim states it, harmless to show.
fn node_name(content: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(content).trim().escape_debug().to_string();
    (!text.is_empty()).then_some(text)
}

/// The metadata folder of `name`, whether or not the volume is damaged.
pub(crate) async fn metadata_of(
    export: &Export,
    name: &VolumeName,
    step: &'static str,
) -> Result<Option<Handle>, Problem> {
    let file = layout::volume(name);
    let found = export.look_up(&export.metadata, &file).await.at(step)?;
    Ok(found.filter(|found| found.attributes.is_directory).map(|found| found.handle))
}
