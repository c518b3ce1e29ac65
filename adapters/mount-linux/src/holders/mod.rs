//! Who holds the file system of a volume, as far as this can be seen: to name them in a refusal. Nothing here
//! decides; that is done by a plain unmount and by opening the device exclusively.
//!
//! - Mounts inside the mount point, and mounts of the same file system elsewhere: `/proc/self/mountinfo`.
//! - Processes whose working directory, root, program, open files or mapped files are on it: recognised by the
//!   device of the file, where no other file system has it, also after a lazy unmount; else by the id of the
//!   mount that the file is on, in whichever namespace that is.
//! - Other mount namespaces with a mount of it, each represented by one process. While the volume is mounted in this
//!   namespace, mounts that are unmounted together with it by propagation are left out: they hold nothing. Once it is
//!   not, every remaining mount holds it.
//!
//! Not found: processes outside this process's PID namespace, a namespace without a process, a bound Unix socket,
//! a swap file, a loop device on an image in the volume, a device opened without a mount; a btrfs that was
//! unmounted lazily (its files have a device number that is in no table); files on a file system where inspecting them
//! may block.

mod namespace;
mod pattern;
mod proc_fs;
mod process;
mod search;

use crate::dir_entry::{DirEntryRef, EntryState, MountRoot};
use crate::holders::namespace::{Namespace, Propagated};
use crate::holders::pattern::MountPattern;
use crate::holders::process::Target;
use crate::new_mount::is_guard;
use crate::roots::Roots;
use crate::source::OpenSource;
use dvs_domain::mount_point::MountPoint;
use dvs_domain::ports::SourceKind;
use dvs_domain::user::User;
use dvs_mountinfo::{Mount, MountTable};
use std::collections::BTreeSet;

pub(crate) use crate::holders::search::Search;

/// Searches for holders of the file system of what `kind` names, which is or was mounted at `mount_point`.
pub(crate) fn find(roots: &Roots, kind: &SourceKind, mount_point: &MountPoint, search: &Search) {
    let Ok(table) = MountTable::read() else { return };
    let Some((pattern, root)) = recognise(roots, kind, mount_point, &table) else { return };
    add_mounts(&table, &pattern, root, search);
    let namespaces = Namespace::all(search);
    let holding = holding(&table, &namespaces, &pattern, root);
    for namespace in &holding {
        if let Some((id, name)) = namespace.members.iter().find_map(|id| Some((*id, proc_fs::name_of(*id)?)))
        {
            search.add(User::Namespace { id, name });
        }
    }
    let others =
        namespaces.iter().filter(|namespace| !holding.iter().any(|held| std::ptr::eq(*held, *namespace)));
    add_processes(others, &target(&table, &namespaces, &pattern, root), search);
}

/// How mounts of the source are recognised, and the one at `mount_point`, if it is there. The source is open no
/// longer than this: a search that hangs must not hold the device.
fn recognise(
    roots: &Roots,
    kind: &SourceKind,
    mount_point: &MountPoint,
    table: &MountTable,
) -> Option<(MountPattern, Option<MountRoot>)> {
    let source = OpenSource::open(kind).ok()?;
    let pattern = MountPattern::of(&source, table)?;
    let entry = roots.locate(mount_point).ok().and_then(|location| DirEntryRef::resolve(&location).ok());
    let root = entry.and_then(|entry| match entry.state() {
        Ok(EntryState::MountRoot(root)) if source.is_mounted_as(root, table.get(root.mount)) => Some(root),
        _ => None,
    });
    Some((pattern, root))
}

/// Adds the mounts of this namespace that lie inside the volume, and those of the same file system elsewhere.
fn add_mounts(table: &MountTable, pattern: &MountPattern, root: Option<MountRoot>, search: &Search) {
    let own = root.map(|root| root.mount);
    let inside = own.map(|mount| table.descendants(mount)).unwrap_or_default();
    let mut added: BTreeSet<u64> = own.into_iter().collect();
    for mount in inside.into_iter().chain(table.mounts().iter().filter(|mount| pattern.matches(mount))) {
        if added.insert(mount.id) {
            search.add(User::MountInside(mount.mount_point.display().to_string()));
        }
    }
}

/// A file of which the process holds the file system, or the guard below it, which is unmounted with it.
fn target<'a>(
    table: &MountTable,
    namespaces: &[Namespace],
    pattern: &'a MountPattern,
    root: Option<MountRoot>,
) -> Target<'a> {
    let mut target = Target { pattern, mounts: BTreeSet::new(), device: pattern.device_of_files(root) };
    for table in namespaces.iter().map(|namespace| &namespace.table) {
        let matching = table.mounts().iter().filter(|mount| pattern.matches(mount));
        target.mounts.extend(matching.map(|mount| mount.id));
    }
    let below = root.and_then(|root| table.get(root.mount)).and_then(|mount| table.get(mount.parent));
    target.mounts.extend(below.filter(|below| is_guard(below)).map(|guard| guard.id));
    target
}

fn add_processes<'a>(namespaces: impl Iterator<Item = &'a Namespace>, target: &Target<'_>, search: &Search) {
    let own = std::process::id();
    let members = namespaces.flat_map(|namespace| namespace.members.iter().map(move |id| (*id, namespace)));
    for (id, namespace) in members.filter(|(id, _)| *id != own) {
        if search.is_over() {
            return;
        }
        if process::holds(id, target, namespace, search)
            && let Some(name) = proc_fs::name_of(id)
        {
            search.add(User::Process { id, name });
        }
    }
}

/// The other namespaces that hold the file system even after it is unmounted in this one.
fn holding<'a>(
    table: &MountTable,
    namespaces: &'a [Namespace],
    pattern: &MountPattern,
    root: Option<MountRoot>,
) -> Vec<&'a Namespace> {
    let propagated = match root.map(|root| table.get(root.mount)) {
        None => None,
        Some(Some(mount)) => Some(Propagated::of(mount, table, namespaces)),
        // It has just been unmounted: what goes with it cannot be determined any more.
        Some(None) => return Vec::new(),
    };
    let goes_with_it = |mount: &Mount, theirs: &MountTable| {
        propagated.as_ref().is_some_and(|propagated| propagated.includes(mount, theirs))
    };
    let holds = |theirs: &MountTable| {
        theirs.mounts().iter().any(|mount| pattern.matches(mount) && !goes_with_it(mount, theirs))
    };
    namespaces.iter().filter(|namespace| !namespace.is_ours && holds(&namespace.table)).collect()
}
