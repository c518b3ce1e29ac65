//! Containers, and what they refer to.

use super::World;
use super::kernel::Mount;
use dvs_domain::mount_point::MountPoint;
use dvs_domain::names::VolumeName;
use dvs_domain::user::User;
use dvs_domain::volume::VolumeId;
use std::collections::BTreeMap;

#[derive(Debug, Default)]
pub(crate) struct Docker {
    containers: BTreeMap<usize, Container>,
}

#[derive(Debug)]
struct Container {
    path: MountPoint,
    volume: Option<VolumeName>,
    running: bool,
    /// Sequence number of its creation.
    since: u64,
}

impl Container {
    fn refers_to(&self, id: &VolumeId, mount_point: Option<&MountPoint>) -> bool {
        self.volume.as_ref() == Some(&id.name)
            || mount_point.is_some_and(|there| self.path == *there || self.path.is_below(there))
    }

    fn as_user(&self, name: usize) -> User {
        User::Container { name: format!("c{name}"), running: self.running, process: None }
    }
}

impl Docker {
    pub(crate) fn users_of(&self, id: &VolumeId, mount_point: Option<&MountPoint>) -> Vec<User> {
        let referring = self.containers.iter().filter(|(_, container)| container.refers_to(id, mount_point));
        referring.map(|(name, container)| container.as_user(*name)).collect()
    }

    pub(crate) fn bound_at(&self, mount_point: &MountPoint) -> Vec<User> {
        let bound = |container: &Container| container.running && container.path == *mount_point;
        let bound = self.containers.iter().filter(|(_, container)| bound(container));
        bound.map(|(name, container)| container.as_user(*name)).collect()
    }

    /// A container that refers to the volume and was created before sequence number `moment`.
    pub(crate) fn user_since_before(
        &self,
        id: &VolumeId,
        mount_point: Option<&MountPoint>,
        moment: u64,
    ) -> Option<usize> {
        let referring =
            |container: &Container| container.since < moment && container.refers_to(id, mount_point);
        self.containers.iter().find(|(_, container)| referring(container)).map(|(name, _)| *name)
    }

    pub(crate) fn stop_all(&mut self) {
        for container in self.containers.values_mut() {
            container.running = false;
        }
    }
}

impl World {
    pub(crate) fn make_container(
        &mut self,
        name: usize,
        path: &MountPoint,
        volume: Option<VolumeName>,
        running: bool,
    ) {
        self.end_container(name);
        // It cannot start on a guard.
        let running = running && self.kernel.top(path) != Some(Mount::Guard);
        let sent = if running { "runs" } else { "is stopped" };
        self.log(format_args!("container c{name} on {path} {sent}"));
        if running {
            self.kernel.pin_in_namespace(owner(name), path);
        }
        let since = self.next_in_sequence();
        self.docker.containers.insert(name, Container { path: path.clone(), volume, running, since });
    }

    pub(crate) fn end_container(&mut self, name: usize) {
        if self.docker.containers.remove(&name).is_some() {
            self.log(format_args!("container c{name} is removed"));
            self.kernel.end_namespace(&owner(name));
        }
    }

    pub(crate) fn end_all_containers(&mut self) {
        let names: Vec<usize> = self.docker.containers.keys().copied().collect();
        names.into_iter().for_each(|name| self.end_container(name));
    }
}

fn owner(name: usize) -> String {
    format!("c{name}")
}
