//! Attaching: directories, a mount that nobody sees, the same without `lost+found`, the mount shown, on top of a
//! guard if there is one. After an error nothing of it is left.

use crate::directories::Made;
use crate::mount_table::MountTable;
use crate::new_mount::NewMount;
use crate::path::Location;
use crate::place::Top;
use crate::show::{Judge, Verdict, show};
use crate::source::OpenSource;
use dvs_domain::failure::{Failure, FailureCode};
use dvs_domain::mount_point::MountPoint;
use dvs_domain::ports::SourceKind;

/// Makes what `kind` names visible at `location`, after making those directories that `missing` lists.
pub(crate) fn attach(
    location: &Location<'_>,
    kind: &SourceKind,
    missing: &[MountPoint],
) -> Result<(), Failure> {
    let source = OpenSource::open(kind)?;
    let mut made = Made::default();
    let attached =
        made.make(location, missing).and_then(|place| match source.judge_found(&place, place.look()?)? {
            Verdict::Already => Ok(()),
            Verdict::Over => mount(location, &source),
        });
    attached.map_err(|failure| made.undo(failure))
}

/// Makes `source` visible at `location`, where a directory is.
pub(crate) fn mount(location: &Location<'_>, source: &OpenSource) -> Result<(), Failure> {
    let mount = NewMount::of(source)?;
    mount.empty(source)?;
    show(location, source, mount)
}

impl Judge for OpenSource {
    fn judge(&self, path: &MountPoint, top: Top, table: &MountTable) -> Result<Verdict, Failure> {
        if table.is_guard(top.mount) {
            return Ok(Verdict::Over);
        }
        if self.is_shown_by(top, table) {
            return Ok(Verdict::Already);
        }
        Err(foreign(path, &table.describe(top.mount)))
    }
}

/// Something that is not ours is mounted at `path`.
pub(crate) fn foreign(path: &MountPoint, what: &str) -> Failure {
    Failure::new(FailureCode::Conflict, format!("{what} is mounted at `{path}`, and is not this volume"))
        .with_hint("unmount it, or choose another path")
}
