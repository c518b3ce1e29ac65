//! Two stores: one with images on loop devices, and one with directories behind a network, whose calls time out while it is
//! away. A volume is made under a staging name, and appears and disappears atomically.

use super::CallGuard;
use crate::scenario::{STORES, store_name};
use crate::world::disk::{Image, Inode};
use crate::world::faults::Call;
use crate::world::kernel::OpenDevice;
use crate::world::{Sim, World};
use async_trait::async_trait;
use dvs_domain::failure::{Failure, FailureCode};
use dvs_domain::names::{NodeId, VolumeName};
use dvs_domain::ports::{
    Claim, Created, DestroyError, Destroyed, Probe, SharedStore, Source, SourceKind, Space, VolumeStore,
};
use dvs_domain::volume::{Entry, FileSystem, Mode, Provision, StoreDescription, Usage, Volume, VolumeId};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Path of a loop device without its number.
pub(super) const DEVICE: &str = "/dev/loop";
/// Folder of the second store's directories, which are named by inode.
pub(super) const FOLDER: &str = "/volumes/";
/// Timeout of the second store, in milliseconds.
const LIMIT_MILLISECONDS: u64 = 3_000;

pub(crate) struct FakeStore {
    pub(crate) sim: Sim,
    /// Index in [`STORES`].
    pub(crate) index: usize,
}

impl FakeStore {
    fn gives_devices(&self) -> bool {
        self.index == 0
    }

    fn id(&self, name: &VolumeName) -> VolumeId {
        VolumeId { store: store_name(STORES[self.index]), name: name.clone() }
    }

    /// A point at which the call may fail, or the store be away.
    async fn step(&self, call: Call, name: Option<&VolumeName>) -> Result<(), Failure> {
        self.sim.moment(call).await;
        let (is_away, failure) = self
            .sim
            .effect(|world| {
                let is_away = world.store_is_away(self.index);
                let failure = if is_away {
                    Some(Failure::new(FailureCode::StoreUnavailable, "the store is away"))
                } else {
                    world.failure_is_due(call)
                };
                if let Some(failure) = &failure {
                    let store = STORES[self.index];
                    world.log(format_args!("store {store}: {} of {name:?} fails: {failure}", call.as_str()));
                }
                (is_away, failure)
            })
            .await;
        if is_away && !self.gives_devices() {
            tokio::time::sleep(Duration::from_millis(LIMIT_MILLISECONDS)).await;
            self.sim.effect(|_| ()).await;
        }
        failure.map_or(Ok(()), Err)
    }

    fn image<'w>(&self, world: &'w World, name: &VolumeName) -> Option<&'w Image> {
        world.disk.stores[self.index].volumes.get(name)
    }

    fn sound<'w>(&self, world: &'w World, name: &VolumeName) -> Result<Option<&'w Image>, Failure> {
        match self.image(world, name) {
            Some(image) if image.damaged => Err(damaged(name)),
            image => Ok(image),
        }
    }

    /// Makes the volume under a staging name.
    fn stage(&self, world: &mut World, volume: &Volume) -> Inode {
        let inode = world.disk.new_inode();
        world.disk.stores[self.index].staging.insert(inode, volume.spec.id.name.clone());
        world.note_formatted(inode, volume);
        world.log(format_args!("store: {} is staged as image {inode}", volume.spec.id));
        inode
    }

    /// Makes a staged volume appear under its name.
    fn publish(&self, world: &mut World, volume: &Volume, inode: Inode) {
        let folder = &mut world.disk.stores[self.index];
        folder.staging.remove(&inode);
        let image = Image { volume: volume.clone(), inode, damaged: false };
        folder.volumes.insert(volume.spec.id.name.clone(), image);
        world.log(format_args!("store: {} exists", volume.spec.id));
    }

    /// Makes a volume disappear, unless it is in use: the decision of a destroy.
    fn decide(&self, world: &mut World, name: &VolumeName) -> Result<Option<Inode>, Failure> {
        let id = self.id(name);
        let Some(inode) = self.sound(world, name)?.map(|image| image.inode) else { return Ok(None) };
        if world.kernel.is_mounted(inode) || 0 < world.kernel.namespaces_with(inode) {
            world.log(format_args!("store: {id} is held, and stays"));
            return Err(Failure::new(FailureCode::InUse, "something still has it mounted").at_step("hold"));
        }
        world.check_decided(&id, inode);
        let folder = &mut world.disk.stores[self.index];
        folder.volumes.remove(name);
        folder.staging.insert(inode, name.clone());
        world.log(format_args!("store: the end of {id} is decided"));
        Ok(Some(inode))
    }

    fn remove(&self, world: &mut World, inode: Inode) {
        world.disk.stores[self.index].staging.remove(&inode);
        world.kernel.unbind(inode);
        world.log(format_args!("store: image {inode} is removed"));
    }
}

#[async_trait]
impl VolumeStore for FakeStore {
    fn describe(&self) -> StoreDescription {
        StoreDescription {
            name: store_name(STORES[self.index]),
            kind: "fake",
            file_system: self.gives_devices().then_some(FileSystem::Ext4),
            provision: self.gives_devices().then_some(Provision::Thin),
            uid: 0,
            gid: 0,
            mode: Mode::DEFAULT,
            attachable: true,
            is_shared: !self.gives_devices(),
        }
    }

    async fn create(&self, volume: &Volume) -> Result<Created, Failure> {
        let name = &volume.spec.id.name;
        let _call = CallGuard::begin(&self.sim, Call::Create, Some(&volume.spec.id), None).await;
        self.sim.effect(|world| world.check_create(volume)).await;
        self.step(Call::Create, Some(name)).await?;
        let there = self
            .sim
            .effect(|world| self.sound(world, name).map(|image| image.map(|image| image.volume.clone())));
        if let Some(there) = there.await? {
            return Ok(Created::AlreadyThere(Box::new(there)));
        }
        if self.sim.effect(|world| world.store_is_full(self.index)).await {
            return Err(Failure::new(FailureCode::NoSpace, "the store has no room").at_step("reserve"));
        }
        let inode = self.sim.effect(|world| self.stage(world, volume)).await;
        if let Err(failure) = self.step(Call::Create, Some(name)).await {
            self.sim.effect(|world| self.remove(world, inode)).await;
            return Err(failure);
        }
        self.sim.effect(|world| self.publish(world, volume, inode)).await;
        self.sim.moment(Call::Create).await;
        Ok(Created::New(None))
    }

    async fn destroy(&self, name: &VolumeName, _: Option<&Source>) -> Result<Destroyed, DestroyError> {
        let id = self.id(name);
        let _call = CallGuard::begin(&self.sim, Call::Destroy, Some(&id), None).await;
        if self.sim.effect(|world| self.image(world, name).is_some()).await {
            self.sim.effect(|world| world.check_destroy(&id)).await;
        }
        self.step(Call::Destroy, Some(name)).await?;
        let decided = self.sim.effect(|world| self.decide(world, name)).await?;
        let Some(inode) = decided else { return Ok(Destroyed::NothingThere) };
        if let Err(failure) = self.step(Call::Destroy, Some(name)).await {
            // It is decided: opening the store again removes the rest.
            self.sim.effect(|world| world.kernel.unbind(inode)).await;
            return Err(DestroyError::Decided(failure));
        }
        self.sim.effect(|world| self.remove(world, inode)).await;
        self.sim.moment(Call::Destroy).await;
        Ok(Destroyed::Gone)
    }

    async fn look_up(&self, name: &VolumeName) -> Result<Option<Entry>, Failure> {
        let _call = CallGuard::begin(&self.sim, Call::LookUp, Some(&self.id(name)), None).await;
        self.step(Call::LookUp, Some(name)).await?;
        Ok(self.sim.effect(|world| self.image(world, name).map(entry)).await)
    }

    async fn list(&self) -> Result<Vec<Entry>, Failure> {
        let _call = CallGuard::begin(&self.sim, Call::List, None, None).await;
        self.step(Call::List, None).await?;
        Ok(self.sim.effect(|world| world.disk.stores[self.index].volumes.values().map(entry).collect()).await)
    }

    async fn usage(&self, name: &VolumeName) -> Result<Usage, Failure> {
        let there = self.sim.effect(|world| self.image(world, name).is_some()).await;
        if there { Ok(Usage { allocated_bytes: 0 }) } else { Err(not_found(name)) }
    }

    async fn source(&self, name: &VolumeName) -> Result<Source, Failure> {
        let _call = CallGuard::begin(&self.sim, Call::Source, Some(&self.id(name)), None).await;
        self.step(Call::Source, Some(name)).await?;
        let inode = self
            .sim
            .effect(|world| self.sound(world, name).map(|image| image.map(|image| image.inode)))
            .await?;
        let inode = inode.ok_or_else(|| not_found(name))?;
        if !self.gives_devices() {
            return Ok(Source::new(SourceKind::Directory(PathBuf::from(format!("{FOLDER}{inode}")))));
        }
        let bound =
            self.sim.effect(|world| world.kernel.device_of(inode).filter(|_| !world.wiring.binds_each_time));
        let number = match bound.await {
            Some(number) => number,
            None => {
                // A second caller here would bind a second device.
                self.sim.moment(Call::Source).await;
                self.sim.effect(|world| bind(world, inode)).await
            }
        };
        let open = self.sim.effect(|world| world.kernel.open(number)).await.ok_or_else(|| not_found(name))?;
        let keep = Keep { sim: self.sim.clone(), open };
        self.sim.moment(Call::Source).await;
        let path = PathBuf::from(format!("{DEVICE}{}", keep.open.number));
        Ok(Source::kept_by(SourceKind::Device { path, file_system: FileSystem::Ext4 }, Arc::new(keep)))
    }

    async fn probe(&self) -> Probe {
        Probe { needs: Vec::new(), space: Ok(Space { free_bytes: 1 << 40, total_bytes: 1 << 40 }) }
    }

    fn shared(&self) -> Option<&dyn SharedStore> {
        (!self.gives_devices()).then_some(self)
    }
}

/// No other node uses the store.
#[async_trait]
impl SharedStore for FakeStore {
    async fn enter(&self, _: &VolumeName) -> Result<(), Failure> {
        Ok(())
    }

    async fn leave(&self, _: &VolumeName) -> Result<(), Failure> {
        Ok(())
    }

    async fn claims(&self, _: &VolumeName) -> Result<Vec<Claim>, Failure> {
        Ok(Vec::new())
    }

    async fn release(&self, _: &VolumeName, _: &NodeId) -> Result<Vec<Claim>, Failure> {
        Ok(Vec::new())
    }
}

struct Keep {
    sim: Sim,
    open: OpenDevice,
}

impl Drop for Keep {
    fn drop(&mut self) {
        self.sim.with(|world| world.kernel.close(self.open));
    }
}

fn bind(world: &mut World, inode: Inode) -> u32 {
    let number = world.kernel.bind(inode);
    world.log(format_args!("kernel: loop{number} is bound to image {inode}"));
    world.check_devices();
    number
}

fn entry(image: &Image) -> Entry {
    if image.damaged {
        return Entry::Damaged {
            name: image.volume.spec.id.name.clone(),
            reason: "damaged on demand".to_owned(),
        };
    }
    Entry::Sound(Box::new(image.volume.clone()))
}

fn damaged(name: &VolumeName) -> Failure {
    Failure::new(FailureCode::Damaged, format!("volume `{name}` is damaged"))
}

fn not_found(name: &VolumeName) -> Failure {
    Failure::new(FailureCode::NotFound, format!("volume `{name}` is not there"))
}
