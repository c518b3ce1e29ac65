//! Who holds the file system of a volume, as far as this can be seen: to name them in a refusal. Nothing here
//! decides; that is done by a plain unmount and by opening the device exclusively.
//!
//! - Mounts inside the mount point, and mounts of the same file system elsewhere: `/proc/self/mountinfo`.
//! - Processes whose working directory, root, program, open files or mapped files are on it: recognised by the
//!   device of the file, where no other file system has it, also after a lazy unmount; else by the number of the
//!   mount that the file is on, in whichever namespace that is.
//! - Other mount namespaces with a mount of it, each by one process and not by all of them. While the volume is
//!   mounted here, copies that follow this namespace are left out: they hold nothing. Once it is not, every copy
//!   that is still listed holds it.
//!
//! Not seen: processes outside this process's PID namespace, a namespace without a process, a bound Unix socket,
//! a swap file, a loop device on an image in the volume, a device opened without a mount; a btrfs that was taken
//! away lazily (its files have a device number that no table tells); files on a file system of a server, for the
//! look at them could hang.

mod namespace;
mod process;
mod trace;

use crate::holders::namespace::{Followers, Namespace};
use crate::holders::process::Wanted;
use crate::holders::trace::Trace;
use crate::mount_table::{MountEntry, MountTable};
use crate::place::{Found, Top};
use crate::roots::Roots;
use crate::source::OpenSource;
use dvs_domain::mount_point::MountPoint;
use dvs_domain::ports::SourceKind;
use dvs_domain::user::User;
use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long is searched: a refusal waits for it.
const HOLDERS_SECONDS_MAX: u64 = 2;
/// How many are told. A refusal names fewer.
const HOLDERS_MAX: usize = 64;

/// What was found so far; shared with the thread that searches.
#[derive(Debug)]
pub(crate) struct Search {
    until: Instant,
    found: Mutex<Vec<User>>,
}

impl Search {
    /// A search that ends by itself.
    pub(crate) fn begin() -> Self {
        Self { until: Instant::now() + Duration::from_secs(HOLDERS_SECONDS_MAX), found: Mutex::default() }
    }

    /// When it ends.
    pub(crate) fn until(&self) -> Instant {
        self.until
    }

    /// What was found until now.
    pub(crate) fn found(&self) -> Vec<User> {
        self.users().clone()
    }

    fn add(&self, user: User) {
        let mut users = self.users();
        if users.len() < HOLDERS_MAX {
            users.push(user);
        }
    }

    fn is_over(&self) -> bool {
        self.until <= Instant::now() || HOLDERS_MAX <= self.users().len()
    }

    fn users(&self) -> MutexGuard<'_, Vec<User>> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Searches for whoever holds the file system of what `kind` names, which is or was shown at `mount_point`.
pub(crate) fn find(roots: &Roots, kind: &SourceKind, mount_point: &MountPoint, search: &Search) {
    let Ok(table) = MountTable::read() else { return };
    let Some((trace, top)) = recognise(roots, kind, mount_point, &table) else { return };
    mounts(&table, &trace, top, search);
    let namespaces = Namespace::all(search);
    let keeping = keeping(&table, &namespaces, &trace, top);
    for namespace in &keeping {
        if let Some((id, name)) = namespace.members.iter().find_map(|id| Some((*id, process::name_of(*id)?)))
        {
            search.add(User::Namespace { id, name });
        }
    }
    let others =
        namespaces.iter().filter(|namespace| !keeping.iter().any(|kept| std::ptr::eq(*kept, *namespace)));
    processes(others, &wanted(&table, &namespaces, &trace, top), search);
}

/// How mounts of the source are recognised, and the one at `mount_point`, if it is there. The source is open no
/// longer than this: a search that hangs must not hold the device.
fn recognise(
    roots: &Roots,
    kind: &SourceKind,
    mount_point: &MountPoint,
    table: &MountTable,
) -> Option<(Trace, Option<Top>)> {
    let source = OpenSource::open(kind).ok()?;
    let trace = Trace::of(&source, table)?;
    let place = roots.locate(mount_point).ok().and_then(|location| location.place().ok());
    let top = place.and_then(|place| match place.look() {
        Ok(Found::Mount(top)) if source.is_shown_by(top, table) => Some(top),
        _ => None,
    });
    Some((trace, top))
}

/// Tells the mounts of this namespace that lie inside the volume, and those that show it elsewhere.
fn mounts(table: &MountTable, trace: &Trace, top: Option<Top>, search: &Search) {
    let own = top.map(|top| top.mount);
    let inside = own.map(|mount| table.below(mount)).unwrap_or_default();
    let mut told: BTreeSet<u64> = own.into_iter().collect();
    for entry in inside.into_iter().chain(table.entries().iter().filter(|entry| trace.fits(entry))) {
        if told.insert(entry.id) {
            search.add(User::MountInside(entry.mount_point.display().to_string()));
        }
    }
}

/// What a file is on that holds the file system, or the guard that lies below it and is taken away with it.
fn wanted<'a>(
    table: &MountTable,
    namespaces: &[Namespace],
    trace: &'a Trace,
    top: Option<Top>,
) -> Wanted<'a> {
    let mut wanted = Wanted { trace, mounts: BTreeSet::new(), device: trace.device_of_files(top) };
    for table in namespaces.iter().map(|namespace| &namespace.table) {
        wanted.mounts.extend(table.entries().iter().filter(|entry| trace.fits(entry)).map(|entry| entry.id));
    }
    let below = top.and_then(|top| table.entry(top.mount)).map(|mount| mount.parent);
    wanted.mounts.extend(below.filter(|parent| table.is_guard(*parent)));
    wanted
}

/// Tells the processes in `namespaces` that have something on it.
fn processes<'a>(namespaces: impl Iterator<Item = &'a Namespace>, wanted: &Wanted<'_>, search: &Search) {
    let own = std::process::id();
    let members = namespaces.flat_map(|namespace| namespace.members.iter().map(move |id| (*id, namespace)));
    for (id, namespace) in members.filter(|(id, _)| *id != own) {
        if search.is_over() {
            return;
        }
        if process::is_on(id, wanted, namespace, search)
            && let Some(name) = process::name_of(id)
        {
            search.add(User::Process { id, name });
        }
    }
}

/// The other namespaces that keep the file system, whatever becomes of the mount here.
fn keeping<'a>(
    table: &MountTable,
    namespaces: &'a [Namespace],
    trace: &Trace,
    top: Option<Top>,
) -> Vec<&'a Namespace> {
    let followers = match top.map(|top| table.entry(top.mount)) {
        None => None,
        Some(Some(mount)) => Some(Followers::of(mount, table, namespaces)),
        // It has just gone: who follows it cannot be told.
        Some(None) => return Vec::new(),
    };
    let follows = |entry: &MountEntry, theirs: &MountTable| {
        followers.as_ref().is_some_and(|followers| followers.include(entry, theirs))
    };
    let keeps = |theirs: &MountTable| {
        theirs.entries().iter().any(|entry| trace.fits(entry) && !follows(entry, theirs))
    };
    namespaces.iter().filter(|namespace| !namespace.is_ours && keeps(&namespace.table)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_ends_with_its_time_and_with_its_number() {
        let search = Search::begin();
        for id in 0..100 {
            assert_eq!(search.is_over(), HOLDERS_MAX <= search.found().len());
            search.add(User::Process { id, name: String::new() });
        }
        assert_eq!(search.found().len(), HOLDERS_MAX);
        let ended = Search { until: Instant::now(), found: Mutex::default() };
        assert!(ended.is_over() && !Search::begin().is_over());
    }
}
