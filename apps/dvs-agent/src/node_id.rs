//! The id of this node: chosen once, kept in the state folder. Stores that several nodes share tell them apart by it,
//! also after one is called otherwise.

use dvs_domain::failure::{Failure, FailureCode};
use dvs_domain::names::NodeId;
use dvs_volume_record::id_file;
use std::path::Path;

const FILE: &str = "node-id";

/// The id that is kept in `state`; a new one, if there is none yet, which is kept from then on if it `may_write`.
///
/// # Errors
/// `damaged` when what is there is no id; `internal` when it cannot be read or written.
pub(crate) fn of(state: &Path, may_write: bool) -> Result<NodeId, Failure> {
    let path = state.join(FILE);
    let failed = |what: &str, error| Failure::internal(format!("cannot {what} `{}`", path.display()), error);
    let no_id = |wrong| {
        Failure::new(FailureCode::Damaged, format!("`{}` holds no id of a node", path.display()))
            .caused_by(wrong)
            .with_hint("put the id back: shared stores know by it what this node has attached")
    };
    if let Some(kept) = id_file::read(&path).map_err(|error| failed("read", error))? {
        return NodeId::new(kept).map_err(no_id);
    }
    let drawn = id_file::random();
    if may_write {
        id_file::write(&path, &drawn).map_err(|error| failed("write", error))?;
    }
    NodeId::new(drawn).map_err(no_id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn an_id_is_chosen_once() {
        let folder = tempfile::Builder::new().prefix("dvs-test-").tempdir().unwrap();
        let other = tempfile::Builder::new().prefix("dvs-test-").tempdir().unwrap();
        let unkept = of(folder.path(), false).unwrap();
        let id = of(folder.path(), true).unwrap();
        assert_ne!(unkept, id);
        assert_eq!(of(folder.path(), true).unwrap(), id);
        assert_ne!(of(other.path(), true).unwrap(), id);
        fs::write(folder.path().join(FILE), "x").unwrap();
        assert_eq!(of(folder.path(), true).unwrap_err().code(), FailureCode::Damaged);
    }
}
