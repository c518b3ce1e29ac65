//! Removing a folder with everything below, of any depth: by handles, so that no link is followed, and never into
//! another file system. Started again it goes on; what somebody else removes meanwhile is no error. What is remembered
//! on the way down is bounded, whatever the server says is there.

use crate::connection::CONNECTIONS_MAX;
use crate::layout;
use crate::problem::{At, Problem};
use crate::shared::Work;
use crate::target::{Fault, Handle, Listed, Name, TargetError};
use dvs_domain::failure::{Failure, FailureCode};
use futures::{StreamExt, TryStreamExt};
use uuid::Uuid;

/// So many folders of one are removed side by side.
const FOLDERS_AT_ONCE: usize = 4;
/// So many folders of one are remembered: the others are found again.
const FOLDERS_NOTED_MAX: usize = 64;
/// So deep it goes. What is deeper is moved up first.
const LEVELS_MAX: usize = 128;

/// Removes the tree `name` in `parent` within the time that `work` has: for what is small.
pub(crate) async fn remove_tree(
    work: &Work,
    parent: &Handle,
    name: &Name,
    step: &'static str,
) -> Result<(), Problem> {
    Removal { work, takes_long: false, last: None, step, file_system: 0 }.run(parent, name).await
}

/// Removes the tree `name` in `parent`, however long that takes within a limit of its own, and what is called `last`
/// at its top after everything else.
pub(crate) async fn remove_large_tree(
    work: &Work,
    parent: &Handle,
    name: &Name,
    last: Option<&Name>,
    step: &'static str,
) -> Result<(), Problem> {
    let removal = Removal { work, takes_long: true, last, step, file_system: 0 };
    match tokio::time::timeout(work.shared.long(), removal.run(parent, name)).await {
        Ok(removed) => removed,
        Err(_) => {
            let detail = format!(
                "store `{}`: there is more to remove than can be removed within {} s; the rest goes later",
                work.shared.name,
                work.shared.long().as_secs(),
            );
            Err(Failure::new(FailureCode::Timeout, detail).at_step(step).into())
        }
    }
}

struct Removal<'a> {
    work: &'a Work,
    takes_long: bool,
    last: Option<&'a Name>,
    step: &'static str,
    /// The one that is not left.
    file_system: u64,
}

/// What clearing a folder has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cleared {
    /// Nothing is in it any more, as far as was seen.
    All,
    /// There is, or may be, more in it.
    Some,
}

/// A folder on the way down.
struct Level {
    parent: Handle,
    name: Name,
    folder: Handle,
    /// Folders in it that were seen and are not removed yet.
    below: Vec<(Name, Handle)>,
}

impl Removal<'_> {
    async fn run(mut self, parent: &Handle, name: &Name) -> Result<(), Problem> {
        let Some(top) = self.work().look_up(parent, name).await.at(self.step)? else { return Ok(()) };
        if !top.attributes.is_folder {
            return self.work().remove_file(parent, name).await.at(self.step).map(drop);
        }
        self.file_system = top.attributes.file_system;
        let mut level =
            Level { parent: parent.clone(), name: name.clone(), folder: top.handle, below: Vec::new() };
        loop {
            while self.clear(&mut level, self.last).await? == Cleared::Some {
                let below = std::mem::take(&mut level.below);
                let parent = &level.folder;
                futures::stream::iter(below)
                    .map(|(name, folder)| self.remove_below(parent.clone(), name, folder))
                    .buffer_unordered(FOLDERS_AT_ONCE)
                    .try_collect::<()>()
                    .await?;
            }
            if let Some(last) = self.last {
                self.work().remove_file(&level.folder, last).await.at(self.step)?;
            }
            if self.is_removed(&level).await? {
                return Ok(());
            }
        }
    }

    /// Removes a folder inside. On the heap: a tree may be deeper than a stack.
    async fn remove_below(&self, parent: Handle, name: Name, folder: Handle) -> Result<(), Problem> {
        let top = parent.clone();
        let mut levels = vec![Level { parent, name, folder, below: Vec::new() }];
        while let Some(level) = levels.last_mut() {
            if let Some((name, folder)) = level.below.pop() {
                let parent = level.folder.clone();
                if LEVELS_MAX <= levels.len() {
                    self.move_up(&parent, &name, &top).await?;
                    continue;
                }
                levels.push(Level { parent, name, folder, below: Vec::new() });
            } else if self.clear(level, None).await? == Cleared::All && self.is_removed(level).await? {
                levels.pop();
            }
        }
        Ok(())
    }

    /// Gives a folder that is too deep a place in `top`, where it is found again.
    async fn move_up(&self, parent: &Handle, name: &Name, top: &Handle) -> Result<(), Problem> {
        let there = layout::name(&Uuid::new_v4().simple().to_string()).at(self.step)?;
        match self.work().rename((parent, name), (top, &there)).await {
            Err(TargetError { fault: Fault::NotThere, .. }) => Ok(()), // Somebody else has removed it.
            moved => moved.at(self.step),
        }
    }

    /// Removes a folder that was cleared; says no if somebody has put something in meanwhile.
    async fn is_removed(&self, level: &Level) -> Result<bool, Problem> {
        match self.work().remove_folder(&level.parent, &level.name).await {
            Err(TargetError { fault: Fault::NotEmpty, .. }) => Ok(false),
            removed => removed.at(self.step).map(|_| true),
        }
    }

    /// Removes some files of a folder, and notes some folders in it.
    async fn clear(&self, level: &mut Level, kept: Option<&Name>) -> Result<Cleared, Problem> {
        let mut from = None;
        let (entries, is_end) = loop {
            // From the start each time: a bookmark may not outlive what was removed.
            let page = self.work().list(&level.folder, from).await.at(self.step)?;
            let others = |entry: &Listed| kept.is_none_or(|kept| entry.name != kept.as_bytes());
            let entries: Vec<Listed> = page.entries.into_iter().filter(others).collect();
            match page.next {
                Some(next) if entries.is_empty() => from = Some(next),
                next => break (entries, next.is_none()),
            }
        };
        let folder = &level.folder;
        let below: Vec<Option<(Name, Handle)>> = futures::stream::iter(entries)
            .map(|entry| self.remove_or_note(folder, entry))
            .buffer_unordered(CONNECTIONS_MAX)
            .try_collect()
            .await?;
        level.below.extend(below.into_iter().flatten().take(FOLDERS_NOTED_MAX));
        Ok(if is_end && level.below.is_empty() { Cleared::All } else { Cleared::Some })
    }

    /// Removes a file; gives a folder back.
    async fn remove_or_note(
        &self,
        folder: &Handle,
        entry: Listed,
    ) -> Result<Option<(Name, Handle)>, Problem> {
        let name = Name::new(entry.name).at(self.step)?;
        let is_file = entry.attributes.is_some_and(|attributes| !attributes.is_folder);
        if is_file {
            match self.work().remove_file(folder, &name).await {
                // Another thing has the name by now.
                Err(TargetError { fault: Fault::IsFolder, .. }) => {}
                removed => return removed.at(self.step).map(|_| None),
            }
        }
        let (handle, attributes) = match (entry.handle, entry.attributes) {
            (Some(handle), Some(attributes)) if !is_file => (handle, attributes),
            _ => match self.work().look_up(folder, &name).await.at(self.step)? {
                Some(found) => (found.handle, found.attributes),
                None => return Ok(None),
            },
        };
        if !attributes.is_folder {
            return self.work().remove_file(folder, &name).await.at(self.step).map(|_| None);
        }
        if attributes.file_system != self.file_system {
            let detail =
                format!("another file system is mounted on the server at {name:?} inside the volume");
            return Err(Failure::new(FailureCode::InUse, detail)
                .at_step(self.step)
                .with_hint("unmount it on the server first")
                .into());
        }
        Ok(Some((name, handle)))
    }

    fn work(&self) -> Work {
        if self.takes_long { self.work.anew() } else { self.work.clone() }
    }
}
