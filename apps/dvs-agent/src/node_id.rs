//! The id of this node: drawn once, kept in the state folder. Stores that several nodes share tell them apart by it,
//! also after one is called otherwise.

use crate::random_id;
use dvs_domain::failure::{Failure, FailureCode};
use dvs_domain::names::NodeId;
use std::path::Path;

const FILE: &str = "node-id";

/// The id that is kept in `state`; a new one, if there is none yet.
///
/// # Errors
/// `damaged` when what is there is no id; `internal` when it cannot be read or written.
pub(crate) fn of(state: &Path) -> Result<NodeId, Failure> {
    let path = state.join(FILE);
    let failed = |what: &str, error| Failure::internal(format!("cannot {what} `{}`", path.display()), error);
    let no_id = |wrong| {
        Failure::new(FailureCode::Damaged, format!("`{}` holds no id of a node", path.display()))
            .caused_by(wrong)
            .with_hint("put the id back: shared stores know by it what this node has attached")
    };
    if let Some(kept) = random_id::read(&path).map_err(|error| failed("read", error))? {
        return NodeId::new(kept).map_err(no_id);
    }
    let drawn = random_id::draw().map_err(|error| failed("draw an id for", error))?;
    random_id::write(&path, &drawn).map_err(|error| failed("write", error))?;
    NodeId::new(drawn).map_err(no_id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn an_id_is_drawn_once() {
        let folder = tempfile::Builder::new().prefix("dvs-test-").tempdir().unwrap();
        let other = tempfile::Builder::new().prefix("dvs-test-").tempdir().unwrap();
        let id = of(folder.path()).unwrap();
        assert_eq!(of(folder.path()).unwrap(), id);
        assert_ne!(of(other.path()).unwrap(), id);
        fs::write(folder.path().join(FILE), "x").unwrap();
        assert_eq!(of(folder.path()).unwrap_err().code(), FailureCode::Damaged);
    }
}
