//! Which devices an image is bound to. The loop driver can only be asked device by device, and at a start each of a
//! thousand volumes must know: who comes while the devices are asked waits, and shares the next asking with all who
//! wait. So everybody's answer is as new as if nobody else had asked.

use crate::device::{self, BackingFile, LoopDevice};
use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// From so many bound files on, asking takes longer than to wait for others who want to know as well.
const MANY_FILES: usize = 100;
/// How long these are waited for.
const OTHERS_MILLISECONDS: u64 = 2;

/// Asks the loop driver, for all who want to know.
#[derive(Debug, Default)]
pub(crate) struct Bindings {
    asking: Mutex<Asking>,
    ended: Condvar,
}

#[derive(Debug, Default)]
struct Asking {
    /// How often it was begun to ask.
    begun: u64,
    is_running: bool,
    last: Option<(u64, Arc<Seen>)>,
}

/// The numbers of the devices that a file is bound to.
type Seen = HashMap<BackingFile, Vec<u32>>;

impl Bindings {
    /// The devices that `file` is bound to, in order of their numbers: one at most, unless somebody else bound it
    /// again.
    pub(crate) fn of(&self, file: BackingFile) -> rustix::io::Result<Vec<LoopDevice>> {
        let seen = self.seen_from_now_on()?;
        let mut found = Vec::new();
        for number in seen.get(&file).into_iter().flatten() {
            found.extend(device::open_if_bound_to(*number, file)?);
        }
        found.sort_by_key(LoopDevice::number);
        Ok(found)
    }

    /// What was seen of all devices by asking that began after this call.
    fn seen_from_now_on(&self) -> rustix::io::Result<Arc<Seen>> {
        let mut asking = self.lock();
        let wanted = asking.begun + 1;
        loop {
            if let Some((_, seen)) = asking.last.as_ref().filter(|(number, _)| wanted <= *number) {
                return Ok(Arc::clone(seen));
            }
            if asking.is_running {
                asking = self.ended.wait(asking).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            asking.is_running = true;
            if asking.last.as_ref().is_some_and(|(_, seen)| MANY_FILES < seen.len()) {
                drop(asking);
                thread::sleep(Duration::from_millis(OTHERS_MILLISECONDS));
                asking = self.lock();
            }
            asking.begun += 1;
            let number = asking.begun;
            drop(asking);
            let seen = ask();
            asking = self.lock();
            asking.is_running = false;
            self.ended.notify_all();
            asking.last = Some((number, Arc::new(seen?)));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Asking> {
        self.asking.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn ask() -> rustix::io::Result<Seen> {
    let mut seen = Seen::new();
    for (number, file) in device::all()? {
        seen.entry(file).or_default().push(number);
    }
    Ok(seen)
}
