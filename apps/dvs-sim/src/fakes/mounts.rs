//! The mounter, over the world's kernel and directories.

use super::CallGuard;
use super::store::{DEVICE, FOLDER};
use crate::world::disk::Inode;
use crate::world::faults::Call;
use crate::world::kernel::Mount;
use crate::world::{Sim, World};
use async_trait::async_trait;
use dvs_domain::failure::{Failure, FailureCode};
use dvs_domain::mount_point::MountPoint;
use dvs_domain::ports::{Detached, Mounted, Mounter, Source, SourceKind, Survey};
use dvs_domain::user::{User, in_use};

/// The allowed roots, which always exist.
const ROOTS: [&str; 3] = ["/mnt", "/srv", "/media"];

pub(crate) struct FakeMounts(pub(crate) Sim);

impl FakeMounts {
    /// A point at which the call may fail.
    async fn step(&self, call: Call, there: &MountPoint) -> Result<(), Failure> {
        self.0.moment(call).await;
        let failure = self.0.effect(|world| {
            let failure = world.failure_is_due(call);
            if let Some(failure) = &failure {
                world.log(format_args!("{} at {there} fails: {failure}", call.as_str()));
                if matches!(call, Call::Survey | Call::Guard) {
                    world.life.unguarded.insert(there.clone());
                }
            }
            failure
        });
        failure.await.map_or(Ok(()), Err)
    }

    /// Makes the missing directories of the path, as far as `missing` allows it.
    async fn make_directories(
        &self,
        call: Call,
        there: &MountPoint,
        missing: &[MountPoint],
        made: &mut Vec<MountPoint>,
    ) -> Result<(), Failure> {
        for directory in components_below_root(there) {
            if self.0.effect(|world| world.disk.directories.contains(&directory)).await {
                continue;
            }
            if !missing.contains(&directory) {
                return Err(Failure::new(
                    FailureCode::Conflict,
                    format!("directory `{directory}` is not there"),
                ));
            }
            self.step(call, there).await?;
            self.0
                .effect(|world| {
                    world.check_directory(&directory, there);
                    world.log(format_args!("directory {directory} is made"));
                    world.disk.directories.insert(directory.clone());
                })
                .await;
            made.push(directory);
        }
        Ok(())
    }

    async fn undo_directories(&self, made: Vec<MountPoint>) {
        for directory in made.into_iter().rev() {
            self.0.effect(|world| remove_directory(world, &directory)).await;
        }
    }

    async fn attach_at(
        &self,
        source: &Source,
        there: &MountPoint,
        missing: &[MountPoint],
        made: &mut Vec<MountPoint>,
    ) -> Result<(), Failure> {
        self.make_directories(Call::Attach, there, missing, made).await?;
        self.step(Call::Attach, there).await?;
        let mounted = self.0.effect(|world| mount_source(world, source, there)).await?;
        if let Some(inode) = mounted
            && let Err(failure) = self.step(Call::Attach, there).await
        {
            self.0
                .effect(|world| {
                    world.log(format_args!("image {inode} is taken away from {there} again"));
                    world.kernel.unmount(there, Mount::Volume(inode));
                })
                .await;
            return Err(failure);
        }
        Ok(())
    }
}

#[async_trait]
impl Mounter for FakeMounts {
    async fn survey(&self, there: &MountPoint) -> Result<Survey, Failure> {
        let _call = CallGuard::begin(&self.0, Call::Survey, None, Some(there)).await;
        self.step(Call::Survey, there).await?;
        let survey = self.0.effect(|world| {
            let is_missing = |path: &MountPoint| !world.disk.directories.contains(path);
            let mounted = world.kernel.top(there).map(|mount| match mount {
                Mount::Guard => Mounted::Guard,
                Mount::Volume(inode) => Mounted::Something(format!("image {inode} (ext4)")),
                Mount::Foreign => Mounted::Something("tmpfs (tmpfs)".to_owned()),
            });
            Survey {
                missing: components_below_root(there).filter(is_missing).collect(),
                mounted,
                hides_files: false,
            }
        });
        Ok(survey.await)
    }

    async fn attach(
        &self,
        source: &Source,
        there: &MountPoint,
        missing: &[MountPoint],
    ) -> Result<(), Failure> {
        let _call = CallGuard::begin(&self.0, Call::Attach, None, Some(there)).await;
        self.step(Call::Attach, there).await?;
        let mut made = Vec::new();
        let attached = self.attach_at(source, there, missing, &mut made).await;
        if attached.is_err() {
            self.undo_directories(made).await;
        }
        self.0.moment(Call::Attach).await;
        attached
    }

    async fn detach(&self, source: &Source, there: &MountPoint) -> Result<Detached, Failure> {
        let _call = CallGuard::begin(&self.0, Call::Detach, None, Some(there)).await;
        self.step(Call::Detach, there).await?;
        let detached = self.0.effect(|world| unmount_source(world, source, there)).await;
        self.0.moment(Call::Detach).await;
        detached
    }

    async fn remove_directories(&self, directories: &[MountPoint]) -> Result<(), Failure> {
        let there = directories.last().cloned();
        let _call = CallGuard::begin(&self.0, Call::RemoveDirectories, None, there.as_ref()).await;
        for directory in directories.iter().rev() {
            self.step(Call::RemoveDirectories, directory).await?;
            if !self.0.effect(|world| remove_directory(world, directory)).await {
                return Ok(());
            }
        }
        Ok(())
    }

    async fn guard(&self, there: &MountPoint, missing: &[MountPoint]) -> Result<(), Failure> {
        let _call = CallGuard::begin(&self.0, Call::Guard, None, Some(there)).await;
        let mut made = Vec::new();
        let guarded = match self.make_directories(Call::Guard, there, missing, &mut made).await {
            Ok(()) => self.step(Call::Guard, there).await,
            Err(failure) => Err(failure),
        };
        let guarded = match guarded {
            Ok(()) => self.0.effect(|world| mount_guard(world, there)).await,
            Err(failure) => Err(failure),
        };
        if guarded.is_err() {
            self.undo_directories(made).await;
        }
        self.0.moment(Call::Guard).await;
        guarded
    }

    async fn unguard(&self, there: &MountPoint) -> Result<(), Failure> {
        let _call = CallGuard::begin(&self.0, Call::Unguard, None, Some(there)).await;
        self.step(Call::Unguard, there).await?;
        self.0.effect(|world| world.kernel.unmount(there, Mount::Guard)).await;
        self.0.moment(Call::Unguard).await;
        Ok(())
    }

    async fn holders_of(&self, source: &Source, there: &MountPoint) -> Vec<User> {
        let _call = CallGuard::begin(&self.0, Call::HoldersOf, None, Some(there)).await;
        self.0.moment(Call::HoldersOf).await;
        self.0
            .effect(|world| {
                let inode = resolve(world, source);
                inode.map_or_else(Vec::new, |inode| world.kernel.users(there, inode))
            })
            .await
    }
}

/// Every directory from below the root to the mount point, outermost first.
fn components_below_root(there: &MountPoint) -> impl Iterator<Item = MountPoint> {
    let text = there.as_str().to_owned();
    let ends: Vec<usize> = text.match_indices('/').map(|(at, _)| at).skip(1).chain([text.len()]).collect();
    ends.into_iter()
        .map(move |end| text[..end].to_owned())
        .filter(|path| !ROOTS.contains(&path.as_str()))
        .map(|path| MountPoint::new(path).expect("a part of a normal path is one"))
}

/// The image that a source leads to now: a device number may have been reused.
fn resolve(world: &World, source: &Source) -> Option<Inode> {
    match &source.kind {
        SourceKind::Device { path, .. } => {
            let number = path.to_str()?.strip_prefix(DEVICE)?.parse().ok()?;
            world.kernel.bound_to(number)
        }
        SourceKind::Directory(path) => {
            let inode = path.to_str()?.strip_prefix(FOLDER)?.parse().ok()?;
            world.disk.owner_of(inode).map(|_| inode)
        }
        SourceKind::NfsExport { .. } => None, // No fake store gives one.
    }
}

/// Mounts what `source` leads to; `None` when it was there already.
fn mount_source(world: &mut World, source: &Source, there: &MountPoint) -> Result<Option<Inode>, Failure> {
    let Some(inode) = resolve(world, source) else {
        return Err(Failure::new(FailureCode::Internal, "the source leads to nothing").at_step("open"));
    };
    match world.kernel.top(there) {
        Some(Mount::Volume(other)) if other == inode => return Ok(None),
        Some(Mount::Volume(_) | Mount::Foreign) => return Err(foreign(there)),
        Some(Mount::Guard) | None => {}
    }
    world.check_mount(inode, there);
    world.kernel.mount(there, Mount::Volume(inode));
    world.log(format_args!("kernel: image {inode} is mounted at {there}"));
    Ok(Some(inode))
}

/// Unmounts what `source` leads to, and the guard below.
fn unmount_source(world: &mut World, source: &Source, there: &MountPoint) -> Result<Detached, Failure> {
    match world.kernel.top(there) {
        None => Ok(Detached::NothingThere),
        Some(Mount::Guard) => {
            world.kernel.unmount(there, Mount::Guard);
            Ok(Detached::NothingThere)
        }
        Some(Mount::Volume(inode)) if resolve(world, source) == Some(inode) => {
            let files = world.kernel.files_open_at(there, inode);
            if 0 < files {
                world.log(format_args!("kernel: {there} is busy"));
                return Err(in_use(&vec![User::Unknown; files]).at_step("unmount"));
            }
            world.kernel.unmount(there, Mount::Volume(inode));
            world.kernel.unmount(there, Mount::Guard);
            world.log(format_args!("kernel: {there} is unmounted"));
            Ok(Detached::Gone)
        }
        Some(Mount::Volume(_) | Mount::Foreign) => Err(foreign(there)),
    }
}

fn mount_guard(world: &mut World, there: &MountPoint) -> Result<(), Failure> {
    match world.kernel.top(there) {
        Some(Mount::Guard) => Ok(()),
        Some(Mount::Volume(_) | Mount::Foreign) => {
            world.life.unguarded.insert(there.clone());
            Err(foreign(there))
        }
        None => {
            world.log(format_args!("kernel: a guard lies over {there}"));
            world.kernel.mount(there, Mount::Guard);
            Ok(())
        }
    }
}

/// Removes an empty directory that is no mount point; false when it stays.
fn remove_directory(world: &mut World, directory: &MountPoint) -> bool {
    if world.kernel.top(directory) == Some(Mount::Foreign) {
        world.history.kept_directories.extend(components_below_root(directory));
    }
    let stays = world.kernel.top(directory).is_some() || !world.disk.is_empty_directory(directory);
    if !stays && world.disk.directories.remove(directory) {
        world.check_removed(directory);
        world.log(format_args!("directory {directory} is removed"));
    }
    !stays
}

fn foreign(there: &MountPoint) -> Failure {
    Failure::new(FailureCode::Conflict, format!("something else is mounted at `{there}`"))
}
