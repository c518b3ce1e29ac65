//! Removes a directory tree of any depth: by handles, so that no symbolic link is followed, and never into another file
//! system. A subdirectory that is not empty is moved to the top first, so that depth costs no memory. A removal that was
//! cut off continues when it is started again; what somebody else removes meanwhile is no error.

use crate::client::{CONNECTIONS_MAX, ClientError, Fault, Handle, Listed, Name};
use crate::problem::{At, Problem};
use crate::session::Export;
use dvs_domain::failure::{Failure, FailureCode};
use futures::{StreamExt, TryStreamExt};
use uuid::Uuid;

/// How many directories are cleared in parallel.
const DIRECTORIES_AT_ONCE: usize = 4;

/// Removes the small tree `name` in `parent` within the deadline of `export`.
pub(crate) async fn remove_tree(
    export: &Export,
    parent: &Handle,
    name: &Name,
    step: &'static str,
) -> Result<(), Problem> {
    Removal { export, takes_long: false, step }.run(parent, name, None).await
}

/// Removes the tree `name` in `parent` within the limit of long operations, and the file `last` at its top after
/// everything else.
pub(crate) async fn remove_large_tree(
    export: &Export,
    parent: &Handle,
    name: &Name,
    last: Option<&Name>,
    step: &'static str,
) -> Result<(), Problem> {
    let removal = Removal { export, takes_long: true, step };
    let limit = export.session.long_limit();
    tokio::time::timeout(limit, removal.run(parent, name, last)).await.unwrap_or_else(|_| {
        let (store, seconds) = (&export.session.name, limit.as_secs());
        let detail =
            format!("store `{store}`: removing takes longer than {seconds} s; the rest is removed later");
        Err(Failure::new(FailureCode::Timeout, detail).at_step(step).into())
    })
}

struct Removal<'a> {
    export: &'a Export,
    takes_long: bool,
    step: &'static str,
}

/// The top directory of the tree.
struct Top {
    directory: Handle,
    /// No other file system is entered.
    file_system: u64,
}

impl Removal<'_> {
    async fn run(&self, parent: &Handle, name: &Name, last: Option<&Name>) -> Result<(), Problem> {
        let Some(found) = self.export().look_up(parent, name).await.at(self.step)? else { return Ok(()) };
        if !found.attributes.is_directory {
            return self.export().remove_file(parent, name).await.at(self.step).map(drop);
        }
        let top = &Top { directory: found.handle, file_system: found.attributes.file_system };
        loop {
            let (entries, is_end) = self.entries(&top.directory, last).await?;
            futures::stream::iter(entries)
                .map(Ok)
                .try_for_each_concurrent(DIRECTORIES_AT_ONCE, |entry| self.remove_from_top(top, entry))
                .await?;
            if is_end {
                if let Some(last) = last {
                    self.export().remove_file(&top.directory, last).await.at(self.step)?;
                }
                if self.is_removed(parent, name).await? {
                    return Ok(());
                }
            }
        }
    }

    /// Removes an entry of the top directory; what its subdirectories contain is moved to the top.
    async fn remove_from_top(&self, top: &Top, entry: Listed) -> Result<(), Problem> {
        let Some((name, directory)) = self.remove_unless_directory(top, &top.directory, entry).await? else {
            return Ok(());
        };
        loop {
            let (entries, is_end) = self.entries(&directory, None).await?;
            futures::stream::iter(entries)
                .map(Ok)
                .try_for_each_concurrent(CONNECTIONS_MAX, |entry| self.remove_or_move(top, &directory, entry))
                .await?;
            if is_end && self.is_removed(&top.directory, &name).await? {
                return Ok(());
            }
        }
    }

    async fn remove_or_move(&self, top: &Top, directory: &Handle, entry: Listed) -> Result<(), Problem> {
        let Some((name, _)) = self.remove_unless_directory(top, directory, entry).await? else {
            return Ok(());
        };
        if self.is_removed(directory, &name).await? {
            return Ok(());
        }
        let new_name = Name::valid(Uuid::new_v4().simple().to_string());
        match self.export().rename((directory, &name), (&top.directory, &new_name)).await {
            Err(ClientError { fault: Fault::NotFound, .. }) => Ok(()), // Somebody else removed it.
            moved => moved.at(self.step),
        }
    }

    /// Removes an empty directory; false if it has entries.
    async fn is_removed(&self, parent: &Handle, name: &Name) -> Result<bool, Problem> {
        match self.export().remove_directory(parent, name).await {
            Err(ClientError { fault: Fault::NotEmpty, .. }) => Ok(false),
            removed => removed.at(self.step).map(|_| true),
        }
    }

    /// Some entries of a directory but `kept`, and whether these are all. From the start each time, because a cursor may
    /// be invalid after entries were removed.
    async fn entries(&self, directory: &Handle, kept: Option<&Name>) -> Result<(Vec<Listed>, bool), Problem> {
        let mut from = None;
        loop {
            let page = self.export().list(directory, from).await.at(self.step)?;
            let others = |entry: &Listed| kept.is_none_or(|kept| entry.name != kept.as_bytes());
            let entries: Vec<Listed> = page.entries.into_iter().filter(others).collect();
            match page.next {
                Some(next) if entries.is_empty() => from = Some(next),
                next => return Ok((entries, next.is_none())),
            }
        }
    }

    /// Removes a file; returns a directory.
    async fn remove_unless_directory(
        &self,
        top: &Top,
        parent: &Handle,
        entry: Listed,
    ) -> Result<Option<(Name, Handle)>, Problem> {
        let name = Name::new(entry.name).at(self.step)?;
        let is_file = entry.attributes.is_some_and(|attributes| !attributes.is_directory);
        if is_file {
            match self.export().remove_file(parent, &name).await {
                // The name belongs to a directory by now.
                Err(ClientError { fault: Fault::IsDirectory, .. }) => {}
                removed => return removed.at(self.step).map(|_| None),
            }
        }
        let (handle, attributes) = match (entry.handle, entry.attributes) {
            (Some(handle), Some(attributes)) if !is_file => (handle, attributes),
            _ => match self.export().look_up(parent, &name).await.at(self.step)? {
                Some(found) => (found.handle, found.attributes),
                None => return Ok(None),
            },
        };
        if !attributes.is_directory {
            return self.export().remove_file(parent, &name).await.at(self.step).map(|_| None);
        }
        if attributes.file_system != top.file_system {
            let detail =
                format!("another file system is mounted on the server at {name:?} inside the volume");
            return Err(Failure::new(FailureCode::InUse, detail)
                .at_step(self.step)
                .with_hint("unmount it on the server first")
                .into());
        }
        Ok(Some((name, handle)))
    }

    /// For one call.
    fn export(&self) -> Export {
        if self.takes_long { self.export.renewed() } else { self.export.clone() }
    }
}
