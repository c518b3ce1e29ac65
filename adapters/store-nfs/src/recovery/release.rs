//! Release: an operator removes what a dead node left of one volume.

use super::{leftovers_of, recover};
use crate::claims::{claims_in, metadata_of};
use crate::layout::{self, DELETING};
use crate::problem::{At, Problem};
use crate::session::Export;
use crate::volume_state::locked_by;
use dvs_domain::failure::{Failure, FailureCode};
use dvs_domain::names::{NodeId, VolumeName};
use dvs_domain::ports::{Claim, ClaimKind};

const STEP: &str = "release";

/// Removes the claim of `node` on `name`, brings its unfinished operations on it to an end, then removes its delete
/// lock. Gives what was removed.
pub(crate) async fn release(
    export: &Export,
    name: &VolumeName,
    node: &NodeId,
) -> Result<Vec<Claim>, Problem> {
    let session = &export.session;
    let mut released = Vec::new();
    if let Some(metadata) = metadata_of(export, name, STEP).await? {
        released = claims_in(export, &metadata, STEP).await?;
        released.retain(|claim| claim.node == *node);
        if released.iter().any(|claim| claim.kind == ClaimKind::Attached) {
            if *node == session.node.id {
                let id = session.id(name);
                let detail = format!("this node itself claims to have volume `{id}` attached");
                return Err(Failure::new(FailureCode::InUse, detail)
                    .at_step(STEP)
                    .with_hint("detach it here: that withdraws the claim")
                    .into());
            }
            export.remove_file(&metadata, &layout::claim(node)).await.at(STEP)?;
        }
    }
    for temporary in leftovers_of(export, node).await? {
        if temporary.volume == *name {
            recover(export, &temporary).await?;
        }
    }
    // After the recovery: the destroy may have been decided.
    if released.iter().any(|claim| claim.kind == ClaimKind::Deleting)
        && let Some(metadata) = metadata_of(export, name, STEP).await?
        && locked_by(export, &metadata, STEP).await?.as_deref() == Some(node.as_str())
    {
        export.remove_file(&metadata, &layout::fixed(DELETING)).await.at(STEP)?;
    }
    Ok(released)
}
