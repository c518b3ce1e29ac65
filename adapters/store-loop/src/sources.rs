//! The devices that were issued as sources. All sources of one volume are one device, which is remembered while it is
//! mounted.

use crate::device::{self, BackingFile, ExclusiveError, LoopDevice};
use crate::entry::KnownVolume;
use dvs_domain::names::VolumeName;
use dvs_domain::ports::{Source, SourceKind};
use dvs_domain::volume::FileSystem;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// The sources that were given out.
#[derive(Default)]
pub(crate) struct Sources {
    by_name: Mutex<HashMap<VolumeName, LastIssued>>,
}

/// The last source of a volume.
struct LastIssued {
    /// The number of its device.
    number: u32,
    /// The device, while a source of it is still there.
    retained: Weak<Retained>,
}

/// What all sources of a volume keep: its device, open until the volume is destroyed, and what was read of it.
pub(crate) struct Retained {
    device: Mutex<Option<LoopDevice>>,
    known: KnownVolume,
}

/// What a source is made of.
pub(crate) struct Issued {
    path: PathBuf,
    retained: Arc<Retained>,
}

impl Issued {
    pub(crate) fn source(self, file_system: FileSystem) -> Source {
        Source::kept_by(SourceKind::Device { path: self.path, file_system }, self.retained)
    }
}

impl Sources {
    /// Whether a source of `name` is still there.
    pub(crate) fn is_kept(&self, name: &VolumeName) -> bool {
        self.by_name().get(name).is_some_and(|given| given.retained.strong_count() > 0)
    }

    pub(crate) fn reused(&self, name: &VolumeName, file: BackingFile) -> Option<Issued> {
        let retained = self.by_name().get(name)?.retained.upgrade()?;
        let path = retained.device().as_ref().filter(|device| device.is_bound_to(file)).map(LoopDevice::path);
        path.map(|path| Issued { path, retained })
    }

    /// The device of the last source of `name`, if it is still that of its image and mounted: it is unknown whether one
    /// that is not mounted is the only one.
    pub(crate) fn remembered(&self, name: &VolumeName, file: BackingFile) -> Option<LoopDevice> {
        let number = self.by_name().get(name)?.number;
        let device = device::open_if_bound_to(number, file).ok()?.filter(is_as_bound_here)?;
        matches!(device.open_exclusively(), Err(ExclusiveError::Busy)).then_some(device)
    }

    pub(crate) fn issue(&self, name: &VolumeName, device: LoopDevice, known: KnownVolume) -> Issued {
        let (path, number) = (device.path(), device.number());
        let retained = Arc::new(Retained { device: Mutex::new(Some(device)), known });
        self.by_name().insert(name.clone(), LastIssued { number, retained: Arc::downgrade(&retained) });
        Issued { path, retained }
    }

    /// Closes the device of a volume that is no more, in all sources that are still around.
    pub(crate) fn close(&self, name: &VolumeName) {
        if let Some(retained) = self.by_name().remove(name).and_then(|given| given.retained.upgrade()) {
            retained.device().take();
        }
    }

    fn by_name(&self) -> MutexGuard<'_, HashMap<VolumeName, LastIssued>> {
        self.by_name.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Retained {
    /// What was read of the volume, while its device is bound: until then nothing else can have its image's inode.
    pub(crate) fn known(&self) -> Option<&KnownVolume> {
        let is_bound = self.device().as_ref().is_some_and(|device| device.is_bound_to(self.known.image));
        is_bound.then_some(&self.known)
    }

    fn device(&self) -> MutexGuard<'_, Option<LoopDevice>> {
        self.device.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the device is bound as DVS binds one.
pub(crate) fn is_as_bound_here(device: &LoopDevice) -> bool {
    device.is_whole() && !device.is_read_only()
}
