//! The kernel's events about loop devices, `NETLINK_KOBJECT_UEVENT` of netlink(7). One is queued before the system call
//! returns that binds a device, and whenever a device is released.

use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::netlink::{KOBJECT_UEVENT, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recv, socket_with};
use std::collections::BTreeSet;

/// The multicast group in which the kernel itself sends.
const KERNEL_GROUP: u32 = 1;
/// Only the first words of an event are read; a longer one is cut off.
const EVENT_BYTES: usize = 512;

#[derive(Debug)]
pub(crate) struct DeviceEvents {
    socket: OwnedFd,
}

impl DeviceEvents {
    /// From now on events are queued.
    pub(crate) fn subscribe() -> rustix::io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, Some(KOBJECT_UEVENT))?;
        bind(&socket, &SocketAddrNetlink::new(0, KERNEL_GROUP))?;
        Ok(Self { socket })
    }

    /// The numbers of the loop devices that were bound or released since the last call.
    ///
    /// # Errors
    /// `NOBUFS` when more events came than the kernel queues: some are lost.
    pub(crate) fn changed(&self) -> rustix::io::Result<BTreeSet<u32>> {
        let mut changed = BTreeSet::new();
        let mut event = [0; EVENT_BYTES];
        loop {
            match recv(&self.socket, &mut event[..], RecvFlags::empty()) {
                Ok((length, _)) => changed.extend(loop_number(&event[..length])),
                Err(Errno::AGAIN) => return Ok(changed),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
    }
}

/// The device that an event is about, which begins like `change@/devices/virtual/block/loop7`, ended by a zero byte.
/// Anybody who may send in the kernel's group can only have a device read again.
fn loop_number(event: &[u8]) -> Option<u32> {
    let head = event.split(|byte| *byte == 0).next()?;
    let (_, name) = std::str::from_utf8(head).ok()?.rsplit_once("/block/loop")?;
    name.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_of_loop_devices_are_told_from_others() {
        for (event, number) in [
            (&b"change@/devices/virtual/block/loop7\0ACTION=change\0DEVNAME=loop7\0"[..], Some(7)),
            (b"add@/devices/virtual/block/loop12345\0", Some(12345)),
            (b"add@/devices/virtual/block/loop7/loop7p1\0", None),
            (b"add@/fs/ext4/loop7\0", None),
            (b"change@/devices/pci0000:00/block/vda\0", None),
            (b"change@/devices/virtual/block/loop\0", None),
            (b"libudev\0\xfe\xed\xca\xfe", None),
            (b"", None),
        ] {
            assert_eq!(loop_number(event), number, "{}", String::from_utf8_lossy(event));
        }
    }
}
