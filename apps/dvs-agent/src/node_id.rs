//! The id of this node: drawn once, kept in the state folder. Stores that several nodes share tell them apart by it,
//! also after one is called otherwise.

use dvs_domain::failure::{Failure, FailureCode};
use dvs_domain::names::NodeId;
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::path::Path;

const FILE: &str = "node-id";

/// The id that is kept in `state`; a new one, if there is none yet.
///
/// # Errors
/// `damaged` when what is there is no id; `internal` when it cannot be read or written.
pub(crate) fn of(state: &Path) -> Result<NodeId, Failure> {
    let path = state.join(FILE);
    let failed = |what: &str, error| Failure::internal(format!("cannot {what} `{}`", path.display()), error);
    match fs::read_to_string(&path) {
        Ok(text) => NodeId::new(text.trim()).map_err(|wrong| {
            Failure::new(FailureCode::Damaged, format!("`{}` holds no id of a node", path.display()))
                .caused_by(wrong)
                .with_hint("put the id back: shared stores know by it what this node has attached")
        }),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let id = draw().map_err(|error| failed("draw an id for", error))?;
            write(&path, &id).map_err(|error| failed("write", error))?;
            Ok(id)
        }
        Err(error) => Err(failed("read", error)),
    }
}

fn draw() -> std::io::Result<NodeId> {
    let mut random = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut random)?;
    let digits: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    NodeId::new(digits).map_err(|failure| std::io::Error::other(failure.chain()))
}

/// Whole and durable, or not at all.
fn write(path: &Path, id: &NodeId) -> std::io::Result<()> {
    let new = path.with_extension("new");
    let mut file = File::create(&new)?;
    writeln!(file, "{id}")?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

#[cfg(test)]
mod tests {
    use super::*;

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
