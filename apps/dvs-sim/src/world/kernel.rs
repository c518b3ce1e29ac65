//! State of the kernel: loop devices, mounts, and their users. It survives the agent's process, and no reboot.

use super::World;
use super::disk::Inode;
use dvs_domain::mount_point::MountPoint;
use dvs_domain::user::User;
use std::collections::BTreeMap;

#[derive(Debug, Default)]
pub(crate) struct Kernel {
    devices: BTreeMap<u32, Device>,
    /// Mounts by mount point, the topmost last.
    mounts: BTreeMap<MountPoint, Vec<Mount>>,
    /// Open files, by mount point.
    open_files: Vec<(MountPoint, Inode)>,
    /// Other mount namespaces that contain a mount.
    namespaces: Vec<(String, Inode)>,
    next_instance: u64,
}

#[derive(Clone, Debug)]
struct Device {
    /// Device numbers are reused, instances are not.
    instance: u64,
    inode: Inode,
    opens: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mount {
    Guard,
    Volume(Inode),
    Foreign,
}

/// An open loop device.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OpenDevice {
    pub(crate) number: u32,
    instance: u64,
}

impl Kernel {
    pub(crate) fn top(&self, there: &MountPoint) -> Option<Mount> {
        self.mounts.get(there).and_then(|stack| stack.last()).copied()
    }

    pub(crate) fn mounts(&self) -> impl Iterator<Item = (&MountPoint, &[Mount])> {
        self.mounts.iter().map(|(there, stack)| (there, stack.as_slice()))
    }

    pub(crate) fn mount(&mut self, there: &MountPoint, mount: Mount) {
        self.mounts.entry(there.clone()).or_default().push(mount);
    }

    /// Removes the topmost `mount`, if there is one.
    pub(crate) fn unmount(&mut self, there: &MountPoint, mount: Mount) {
        if let Some(stack) = self.mounts.get_mut(there) {
            if let Some(index) = stack.iter().rposition(|found| *found == mount) {
                stack.remove(index);
            }
            if stack.is_empty() {
                self.mounts.remove(there);
            }
        }
        self.settle();
    }

    pub(crate) fn is_mounted(&self, inode: Inode) -> bool {
        self.mounts.values().flatten().any(|mount| *mount == Mount::Volume(inode))
    }

    /// Number of open files that keep `inode` from being unmounted at `there`.
    pub(crate) fn files_open_at(&self, there: &MountPoint, inode: Inode) -> usize {
        self.open_files.iter().filter(|open| open.0 == *there && open.1 == inode).count()
    }

    pub(crate) fn namespaces_with(&self, inode: Inode) -> usize {
        self.namespaces.iter().filter(|(_, held)| *held == inode).count()
    }

    pub(crate) fn users(&self, there: &MountPoint, inode: Inode) -> Vec<User> {
        let process = User::Process { id: 7, name: "cat".to_owned() };
        let mut users = vec![process; self.files_open_at(there, inode)];
        users.extend(vec![User::Unknown; self.namespaces_with(inode)]);
        users
    }

    pub(crate) fn open_file(&mut self, there: &MountPoint) -> bool {
        let Some(Mount::Volume(inode)) = self.top(there) else { return false };
        self.open_files.push((there.clone(), inode));
        true
    }

    pub(crate) fn close_file(&mut self, there: &MountPoint) {
        self.open_files.retain(|open| open.0 != *there);
    }

    /// Copies what is mounted at `there`, or above, into a mount namespace of `owner`.
    pub(crate) fn pin_in_namespace(&mut self, owner: String, there: &MountPoint) -> bool {
        let covering = self.mounts.keys().filter(|path| *path == there || there.is_below(path));
        let nearest = covering.max_by_key(|path| path.as_str().len());
        let Some(Mount::Volume(inode)) = nearest.and_then(|path| self.top(path)) else { return false };
        self.namespaces.push((owner, inode));
        true
    }

    pub(crate) fn end_namespace(&mut self, owner: &str) {
        self.namespaces.retain(|(name, _)| name != owner);
        self.settle();
    }

    pub(crate) fn device_of(&self, inode: Inode) -> Option<u32> {
        self.devices.iter().find(|(_, device)| device.inode == inode).map(|(number, _)| *number)
    }

    pub(crate) fn bound_to(&self, number: u32) -> Option<Inode> {
        self.devices.get(&number).map(|device| device.inode)
    }

    pub(crate) fn devices(&self) -> impl Iterator<Item = (u32, Inode)> {
        self.devices.iter().map(|(number, device)| (*number, device.inode))
    }

    /// Binds the lowest free device.
    pub(crate) fn bind(&mut self, inode: Inode) -> u32 {
        let number = (0..).find(|number| !self.devices.contains_key(number)).unwrap_or(0);
        let instance = self.next_instance;
        self.next_instance += 1;
        self.devices.insert(number, Device { instance, inode, opens: 0 });
        number
    }

    pub(crate) fn open(&mut self, number: u32) -> Option<OpenDevice> {
        let device = self.devices.get_mut(&number)?;
        device.opens += 1;
        Some(OpenDevice { number, instance: device.instance })
    }

    /// Closes a device, and frees it when it is not open and not mounted any more.
    pub(crate) fn close(&mut self, open: OpenDevice) {
        if let Some(device) = self.devices.get_mut(&open.number)
            && device.instance == open.instance
        {
            device.opens = device.opens.saturating_sub(1);
        }
        self.settle();
    }

    /// Detaches the device of `inode`, even while it is open.
    pub(crate) fn unbind(&mut self, inode: Inode) {
        self.devices.retain(|_, device| device.inode != inode);
    }

    /// Ends all users, and unmounts what is not the agent's.
    pub(crate) fn end_users(&mut self) {
        self.open_files.clear();
        self.namespaces.clear();
        for stack in self.mounts.values_mut() {
            stack.retain(|mount| *mount != Mount::Foreign);
        }
        self.mounts.retain(|_, stack| !stack.is_empty());
        self.settle();
    }

    fn settle(&mut self) {
        let mounts = &self.mounts;
        let mounted = |inode| mounts.values().flatten().any(|mount| *mount == Mount::Volume(inode));
        let namespaces = &self.namespaces;
        self.devices.retain(|_, device| {
            0 < device.opens
                || mounted(device.inode)
                || namespaces.iter().any(|(_, inode)| *inode == device.inode)
        });
    }
}

impl World {
    /// Drops all state of the kernel, and stops all containers.
    pub(crate) fn lose_kernel(&mut self) {
        let next_instance = self.kernel.next_instance;
        self.kernel = Kernel { next_instance, ..Kernel::default() };
        self.docker.stop_all();
        self.boot();
    }
}
