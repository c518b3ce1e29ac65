//! What a running container has mounted, as far as it can hold a volume.

use crate::path::normal;
use dvs_mountinfo::{Mount, MountTable};
use std::path::Path;

/// Whether the container with this table holds what was mounted at `rest` inside the folder that it has bound at
/// `destination`: by a mount that stays when the host unmounts its own. `None` where that cannot be seen.
pub(crate) fn holds(table: &MountTable, destination: &str, rest: &str) -> Option<bool> {
    let destination = normal(destination)?;
    let is_at = |mount: &&Mount, path: &str| mount.mount_point == Path::new(path);
    table.mounts().iter().find(|mount| is_at(mount, &destination))?;
    let inside = normal(&format!("{destination}/{rest}"))?;
    Some(
        table.mounts().iter().filter(|mount| is_at(mount, &inside)).any(|mount| !is_propagated(table, mount)),
    )
}

/// Whether `mount` is unmounted when the host unmounts its own: it is when its parent receives that from the host.
fn is_propagated(table: &MountTable, mount: &Mount) -> bool {
    table.get(mount.parent).is_some_and(|parent| parent.master.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As a container has it that has `/up` bound following the host, `/eq` a volume, and `/pr` by itself.
    const CONTAINER: &[u8] = b"\
116 100 0:50 / / rw - overlay overlay rw
133 116 0:51 / /up rw,relatime master:3 - tmpfs none rw
134 133 0:62 / /up/v rw,relatime master:5 - tmpfs none rw
135 116 0:62 / /eq rw,relatime master:5 - tmpfs none rw
137 116 0:51 / /pr rw,relatime - tmpfs none rw
138 137 0:62 / /pr/v\\040w rw,relatime - tmpfs none rw
";

    #[test]
    fn a_copy_holds_a_volume_unless_it_follows_the_host() {
        let table = MountTable::parse(CONTAINER);
        assert_eq!(holds(&table, "/up", "v"), Some(false), "it goes with the host's");
        assert_eq!(holds(&table, "/pr", "v w"), Some(true), "it stays");
        assert_eq!(holds(&table, "/pr/", "v"), Some(false), "it was not mounted when the container started");
        assert_eq!(holds(&table, "/elsewhere", "v"), None, "the destination is a link in the container");
        assert_eq!(holds(&table, "/", "eq"), Some(true));
    }
}
