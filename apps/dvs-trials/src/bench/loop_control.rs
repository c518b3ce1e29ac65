//! Loop devices that are bound to nothing, as a host has that once bound many: the kernel keeps them.
//!
//! With `unsafe`, because the loop driver is controlled by `ioctl`.
#![allow(unsafe_code, reason = "the loop driver is only reachable by ioctl, see SAFETY")]

use anyhow::{Context, Result};
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::ioctl::{IntegerSetter, Opcode, ioctl};
use std::collections::BTreeSet;
use std::fs;
use std::ops::Range;
use std::thread;

/// `LOOP_CTL_ADD` and `LOOP_CTL_REMOVE` of `linux/loop.h`.
const ADD: Opcode = 0x4c80;
const REMOVE: Opcode = 0x4c81;
/// Removing one waits for the kernel: many wait side by side.
const REMOVING_AT_ONCE: usize = 32;

/// Adds an unbound device for each of these numbers.
pub(super) fn add(numbers: Range<u32>) -> Result<()> {
    let control = control()?;
    for number in numbers {
        match call::<ADD>(&control, number) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno).with_context(|| format!("cannot add loop device {number}")),
        }
    }
    Ok(())
}

/// The loop devices that the host has at one moment. Those that are added later are removed when this is dropped.
pub(super) struct DevicesBefore(BTreeSet<u32>);

impl DevicesBefore {
    pub(super) fn now() -> Result<Self> {
        numbers().map(Self)
    }

    /// Removes the devices that were added since, unless they are in use.
    pub(super) fn remove_added(&self) -> Result<()> {
        let control = control()?;
        let added: Vec<u32> = numbers()?.difference(&self.0).copied().collect();
        let remove = |some: &[u32]| {
            for number in some {
                let _in_use = call::<REMOVE>(&control, *number);
            }
        };
        thread::scope(|scope| {
            for some in added.chunks(added.len().div_ceil(REMOVING_AT_ONCE).max(1)) {
                scope.spawn(|| remove(some));
            }
        });
        Ok(())
    }
}

impl Drop for DevicesBefore {
    fn drop(&mut self) {
        let _reported_where_it_matters = self.remove_added();
    }
}

fn numbers() -> Result<BTreeSet<u32>> {
    let mut numbers = BTreeSet::new();
    for device in fs::read_dir("/sys/block").context("cannot list /sys/block")? {
        let name = device.context("cannot list /sys/block")?.file_name();
        numbers.extend(name.to_str().and_then(|name| name.strip_prefix("loop")?.parse::<u32>().ok()));
    }
    Ok(numbers)
}

fn control() -> Result<OwnedFd> {
    open("/dev/loop-control", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .context("cannot open /dev/loop-control")
}

fn call<const OPCODE: Opcode>(control: &OwnedFd, number: u32) -> rustix::io::Result<()> {
    // SAFETY: both calls take a device's number by value, and no memory.
    unsafe { ioctl(control, IntegerSetter::<OPCODE>::new_usize(number as usize)) }
}
