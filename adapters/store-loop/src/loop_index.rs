//! Which loop devices each file is bound to. The driver can only be asked device by device, so all are read once; from
//! then on the kernel's events name the devices to read again. Where such events do not arrive, as in a user namespace,
//! each look-up reads all devices.

use crate::device::{self, BackingFile, LoopDevice};
use crate::device_events::DeviceEvents;
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// As much as a loop device needs to be bound.
const PROBE_BYTES: u64 = 1 << 20;

/// The loop devices of this host, by the file that they are bound to.
#[derive(Debug, Default)]
pub(crate) struct LoopIndex {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Unread,
    /// No events arrive: nothing is kept.
    WithoutEvents,
    Current(Bindings),
}

/// What all devices are bound to, as of the last event that was read.
#[derive(Debug)]
struct Bindings {
    events: DeviceEvents,
    files: HashMap<u32, BackingFile>,
    numbers: HashMap<BackingFile, Vec<u32>>,
}

impl LoopIndex {
    /// The devices that `file` is bound to at the time of this call, in order of their numbers: at most one, unless
    /// another program bound it too.
    ///
    /// # Errors
    /// When a bound device cannot be read: then nothing is certain.
    pub(crate) fn find(&self, file: BackingFile) -> rustix::io::Result<Vec<LoopDevice>> {
        let numbers = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            match state.refreshed()? {
                State::Current(bindings) => bindings.numbers.get(&file).cloned().unwrap_or_default(),
                State::Unread | State::WithoutEvents => return device::find(file),
            }
        };
        let mut found = Vec::new();
        for number in numbers {
            found.extend(device::open_if_bound_to(number, file)?);
        }
        found.sort_by_key(LoopDevice::number);
        Ok(found)
    }

    /// Reads the events that have arrived, before there are more than the kernel keeps.
    pub(crate) fn refresh(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let State::Current(_) = *state {
            let _found_out_by_the_next_look_up = state.refreshed();
        }
    }
}

impl State {
    /// Brings the index up to date. After an error it is read anew by the next call.
    fn refreshed(&mut self) -> rustix::io::Result<&Self> {
        *self = match std::mem::take(self) {
            Self::WithoutEvents => Self::WithoutEvents,
            Self::Current(mut bindings) => {
                bindings.refresh()?;
                Self::Current(bindings)
            }
            Self::Unread => match subscribe() {
                Some(events) => Self::Current(Bindings::read(events)?),
                None => Self::WithoutEvents,
            },
        };
        Ok(self)
    }
}

/// The kernel's events, if they arrive here: a device that is bound for this purpose must cause one.
fn subscribe() -> Option<DeviceEvents> {
    let events = DeviceEvents::subscribe().ok()?;
    let probe = memfd_create("dvs-probe", MemfdFlags::CLOEXEC).ok()?;
    ftruncate(&probe, PROBE_BYTES).ok()?;
    let device = device::attach(&probe).ok()?;
    events.changed().ok()?.contains(&device.number()).then_some(events)
}

impl Bindings {
    fn read(events: DeviceEvents) -> rustix::io::Result<Self> {
        let mut bindings = Self { events, files: HashMap::new(), numbers: HashMap::new() };
        bindings.read_all()?;
        Ok(bindings)
    }

    fn read_all(&mut self) -> rustix::io::Result<()> {
        self.files.clear();
        self.numbers.clear();
        for (number, file) in device::all()? {
            self.set(number, Some(file));
        }
        Ok(())
    }

    fn refresh(&mut self) -> rustix::io::Result<()> {
        let Ok(changed) = self.events.changed() else {
            // The kernel has dropped some, and tells that once.
            let _read_again_by_the_next_refresh = self.events.changed();
            return self.read_all();
        };
        for number in changed {
            self.set(number, device::backing_file(number)?);
        }
        Ok(())
    }

    fn set(&mut self, number: u32, file: Option<BackingFile>) {
        let before = match file {
            Some(file) => self.files.insert(number, file),
            None => self.files.remove(&number),
        };
        if before == file {
            return;
        }
        if let Some(before) = before
            && let Some(numbers) = self.numbers.get_mut(&before)
        {
            numbers.retain(|other| *other != number);
            if numbers.is_empty() {
                self.numbers.remove(&before);
            }
        }
        if let Some(file) = file {
            self.numbers.entry(file).or_default().push(number);
        }
    }
}
