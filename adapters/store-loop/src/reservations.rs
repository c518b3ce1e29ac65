//! What is reserved for the store's volumes, so that it admits no more than its over-commit. The sum is kept in memory,
//! and counted anew from the folders before anything is refused by it.

use crate::folders::Folders;
use crate::step;
use dvs_domain::failure::Failure;
use dvs_domain::names::VolumeName;
use dvs_domain::overcommit::{Capacity, OvercommitRatio};
use dvs_domain::size::VolumeSize;
use dvs_domain::volume::Provision;
use rustix::fs::fstatvfs;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub(crate) struct Reservations {
    overcommit: OvercommitRatio,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    made: HashMap<VolumeName, u64>,
    in_flight: HashMap<VolumeName, u64>,
}

/// Space for a volume that is being made. Dropped, it is given back.
pub(crate) struct Reservation {
    reservations: Arc<Reservations>,
    name: VolumeName,
}

impl Reservations {
    pub(crate) fn new(overcommit: OvercommitRatio, folders: &Folders) -> Result<Self, Failure> {
        let state = State { made: sizes_of(&folders.images()?), in_flight: HashMap::new() };
        Ok(Self { overcommit, state: Mutex::new(state) })
    }

    /// Reserves space for `name`.
    pub(crate) fn reserve(
        self: &Arc<Self>,
        folders: &Folders,
        name: &VolumeName,
        size: VolumeSize,
        provision: Provision,
    ) -> Result<Reservation, Failure> {
        let mut state = self.state();
        let below = fstatvfs(&folders.volumes)
            .map_err(|errno| step::failed("reserve", "cannot tell what is free", errno))?;
        let free_bytes = below.f_bavail.saturating_mul(below.f_frsize);
        let admit = |allocated_bytes, promised_bytes| {
            Capacity { free_bytes, allocated_bytes, promised_bytes }.admit(size, provision, self.overcommit)
        };
        // What is allocated only makes the capacity larger, so it need not be counted when the volume fits without it.
        if admit(0, state.promised_bytes()).is_err() {
            let images = folders.images()?;
            let allocated_bytes = images.iter().map(|image| image.allocated_bytes).sum();
            state.made = sizes_of(&images);
            admit(allocated_bytes, state.promised_bytes()).map_err(|refused| refused.at_step("reserve"))?;
        }
        state.in_flight.insert(name.clone(), size.bytes());
        Ok(Reservation { reservations: Arc::clone(self), name: name.clone() })
    }

    /// Gives back the space of a volume that is no more.
    pub(crate) fn release(&self, name: &VolumeName) {
        self.state().made.remove(name);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn promised_bytes(&self) -> u64 {
        let being_made = self.in_flight.iter().filter(|(name, _)| !self.made.contains_key(*name));
        self.made.values().chain(being_made.map(|(_, bytes)| bytes)).sum()
    }
}

impl Reservation {
    /// The volume is there: its space is taken for good.
    pub(crate) fn keep(self) {
        let mut state = self.reservations.state();
        if let Some(bytes) = state.in_flight.remove(&self.name) {
            state.made.insert(self.name.clone(), bytes);
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.reservations.state().in_flight.remove(&self.name);
    }
}

fn sizes_of(images: &[crate::folders::Image]) -> HashMap<VolumeName, u64> {
    images.iter().map(|image| (image.name.clone(), image.size_bytes)).collect()
}
