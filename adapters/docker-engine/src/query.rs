//! What is asked of every engine, and what follows from its answer.

use crate::container::{Container, ContainerMount, NamedVolume};
use crate::container_mounts;
use crate::engine::Engine;
use crate::links::Links;
use crate::path::{Relation, Spellings};
use crate::session::{EngineState, LocalVolume, Session};
use dvs_domain::failure::Failure;
use dvs_domain::mount_point::MountPoint;
use dvs_domain::user::User;
use dvs_domain::volume::VolumeId;
use dvs_mountinfo::{MountTable, Mounts};
use futures::stream::{self, StreamExt, TryStreamExt};
use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;

/// How many containers are inspected at once.
const INSPECTED_AT_ONCE: usize = 8;
const FOLLOW_LINKS: &str = "follow links";
const READ_MOUNTS: &str = "read a container's mounts";
/// The pause before a process whose mounts could not be read is tried again.
const SECOND_TRY: Duration = Duration::from_millis(100);

/// A question about containers.
#[derive(Clone, Debug)]
pub(crate) enum Query {
    /// Which containers refer to a volume.
    UsersOf {
        /// The volume's driver for engines.
        driver: String,
        /// The volume's names for engines.
        names: [String; 2],
        /// Where it is attached, if it is.
        mount_point: Option<String>,
    },
    /// Which running containers have exactly that path bound, and would not see what is mounted there from now on.
    BoundAt(String),
}

impl Query {
    pub(crate) fn users_of(driver: &str, volume: &VolumeId, mount_point: Option<&MountPoint>) -> Self {
        Self::UsersOf {
            driver: driver.to_owned(),
            names: [volume.name.to_string(), volume.to_string()],
            mount_point: mount_point.map(|mount_point| mount_point.as_str().to_owned()),
        }
    }

    pub(crate) fn bound_at(mount_point: &MountPoint) -> Self {
        Self::BoundAt(mount_point.as_str().to_owned())
    }

    /// The matching containers of `engine`. Only `with_volumes` it is asked about its own volumes too.
    pub(crate) async fn ask(
        &self,
        engine: &Engine,
        state: &EngineState,
        limit: Duration,
        with_volumes: bool,
        mounts: &Arc<Mounts>,
    ) -> Result<Vec<User>, Failure> {
        let mut session = Session::begin(engine, state, limit).await?;
        let mut containers = session.containers().await?;
        if matches!(self, Self::BoundAt(_)) {
            containers.retain(|container| container.running);
        }
        // A container that names the volume needs no further inspection.
        let (mut found, mut containers): (Vec<_>, Vec<_>) =
            containers.into_iter().partition(|container| self.is_named_by(container));
        // Without a container to inspect, nothing of this host has to be looked up.
        if let Some(mount_point) = self.mount_point().filter(|_| !containers.is_empty()) {
            complete(&session, &mut containers, with_volumes).await?;
            let relations =
                Relations::of(&session, &containers, mount_point.to_owned(), Arc::clone(mounts)).await?;
            let mut unclear = Vec::new();
            for container in containers {
                match self.matches(&container, &relations) {
                    Match::Yes => found.push(container),
                    Match::IfItHolds(copies) => unclear.push((container, copies)),
                    Match::No => {}
                }
            }
            let holding = stream::iter(unclear)
                .map(async |(container, copies)| {
                    Ok(holds(&session, &container, &copies).await?.then_some(container))
                })
                .buffer_unordered(INSPECTED_AT_ONCE);
            found.extend(
                holding.try_filter_map(async |container| Ok(container)).try_collect::<Vec<_>>().await?,
            );
        }
        let users = stream::iter(found)
            .map(async |container| {
                let process = self.first_process(&session, &container).await;
                container.into_user(process)
            })
            .buffer_unordered(INSPECTED_AT_ONCE);
        Ok(users.collect().await)
    }

    /// The first process of a container, for messages. It decides nothing: an error of the engine is no failure here.
    async fn first_process(&self, session: &Session<'_>, container: &Container) -> Option<u32> {
        if !container.running || matches!(self, Self::BoundAt(_)) {
            return None;
        }
        let inspected = session.inspect(&container.id).await.ok()??;
        u32::try_from(inspected.process?).ok()
    }

    fn mount_point(&self) -> Option<&str> {
        match self {
            Self::UsersOf { mount_point, .. } => mount_point.as_deref(),
            Self::BoundAt(mount_point) => Some(mount_point),
        }
    }

    fn is_named_by(&self, container: &Container) -> bool {
        let Self::UsersOf { driver, names, .. } = self else { return false };
        container.mounts.iter().filter_map(|mount| mount.volume.as_ref()).any(|volume| {
            // A managed plugin has a version behind its name.
            let plugin = volume.driver.split_once(':').map_or(volume.driver.as_str(), |(plugin, _)| plugin);
            plugin == driver && names.contains(&volume.name)
        })
    }

    fn matches(&self, container: &Container, relations: &Relations) -> Match {
        let mut copies = Vec::new();
        for mount in &container.mounts {
            for relation in mount.paths().filter_map(|path| relations.0.get(path)) {
                match (self, relation) {
                    (Self::UsersOf { .. }, Relation::Same | Relation::Below) => return Match::Yes,
                    (Self::BoundAt(_), Relation::Same) if !mount.propagated => return Match::Yes,
                    // Containers that monitor a host bind `/`: no volume could ever be made beside one.
                    (Self::BoundAt(_), _) => {}
                    // A copy that receives the host's unmounts holds nothing, and a stopped container has none yet.
                    (Self::UsersOf { .. }, Relation::Above(rest))
                        if container.running && !mount.propagated =>
                    {
                        copies.push(Copy { destination: mount.destination.clone(), rest: rest.clone() });
                    }
                    (Self::UsersOf { .. }, Relation::Above(_)) => {}
                }
            }
        }
        if copies.is_empty() { Match::No } else { Match::IfItHolds(copies) }
    }
}

/// Whether a container matches a query.
enum Match {
    Yes,
    No,
    /// It does if one of these holds the volume.
    IfItHolds(Vec<Copy>),
}

/// A container's copy of a folder above the mount point.
struct Copy {
    /// The folder's path in the container.
    destination: String,
    /// The mount point, relative to the folder.
    rest: String,
}

/// Finds out the paths of volumes that are missing in the list.
async fn complete(
    session: &Session<'_>,
    containers: &mut Vec<Container>,
    with_volumes: bool,
) -> Result<(), Failure> {
    let volumes =
        containers.iter().flat_map(|container| &container.mounts).filter_map(|mount| mount.volume.as_ref());
    if with_volumes && volumes.into_iter().any(NamedVolume::is_local) {
        let volumes = session.local_volumes().await?;
        for mount in containers.iter_mut().flat_map(|container| &mut container.mounts) {
            add_paths(mount, &volumes);
        }
    }
    let (unknown, known): (Vec<_>, Vec<_>) = std::mem::take(containers)
        .into_iter()
        .partition(|container| container.mounts.iter().any(ContainerMount::is_path_unknown));
    let inspected = stream::iter(unknown)
        .map(async |mut container: Container| {
            let Some(inspected) = session.inspect(&container.id).await? else { return Ok(None) };
            container.mounts.extend(inspected.mounts);
            Ok(Some(container))
        })
        .buffer_unordered(INSPECTED_AT_ONCE);
    *containers = known;
    containers
        .extend(inspected.try_filter_map(async |container| Ok(container)).try_collect::<Vec<_>>().await?);
    Ok(())
}

fn add_paths(mount: &mut ContainerMount, volumes: &HashMap<String, LocalVolume>) {
    let Some(volume) = mount.volume.as_ref().filter(|volume| volume.is_local()) else { return };
    if let Some(local) = volumes.get(&volume.name) {
        mount.source = mount.source.take().or_else(|| local.source.clone());
        mount.device.clone_from(&local.device);
    }
}

/// Whether `container` runs and holds what is mounted in one of the folders that it has a copy of. If the mounts of its
/// process cannot be read twice, that counts as held.
async fn holds(session: &Session<'_>, container: &Container, copies: &[Copy]) -> Result<bool, Failure> {
    let mut unreadable = None;
    loop {
        let Some(inspected) = session.inspect(&container.id).await? else { return Ok(false) };
        let Some(process) = inspected.process else { return Ok(false) };
        if let Some(table) = mounts_of(session, process).await? {
            let held: Option<Vec<bool>> = copies
                .iter()
                .map(|copy| container_mounts::holds(&table, &copy.destination, &copy.rest))
                .collect();
            if let Some(held) = held {
                return Ok(held.contains(&true));
            }
        }
        // A process that is starting or ending looks like this too.
        if unreadable.replace(process) == Some(process) {
            return Ok(true);
        }
        session.wait(READ_MOUNTS, sleep(SECOND_TRY)).await?;
    }
}

/// The mounts of `process`, if they can be read.
async fn mounts_of(session: &Session<'_>, process: i64) -> Result<Option<MountTable>, Failure> {
    let reading = tokio::fs::read(format!("/proc/{process}/mountinfo"));
    let text = session.wait(READ_MOUNTS, reading).await?;
    Ok(text.ok().map(|text| MountTable::parse(&text)))
}

/// How the paths that containers have mounted relate to the mount point.
struct Relations(HashMap<String, Relation>);

impl Relations {
    async fn of(
        session: &Session<'_>,
        containers: &[Container],
        mount_point: String,
        mounts: Arc<Mounts>,
    ) -> Result<Self, Failure> {
        let bound = containers.iter().flat_map(|container| &container.mounts);
        let paths: HashSet<String> = bound.flat_map(ContainerMount::paths).map(str::to_owned).collect();
        let following = tokio::task::spawn_blocking(move || Self::follow(paths, mount_point, &mounts));
        let followed = session.wait(FOLLOW_LINKS, following).await?;
        let followed = followed.map_err(io::Error::from).flatten();
        followed.map_err(|error| session.unfinished(FOLLOW_LINKS, error))
    }

    fn follow(paths: HashSet<String>, mount_point: String, mounts: &Mounts) -> io::Result<Self> {
        let links = Links::of(mounts)?;
        let spellings = |path: String| {
            let resolved = links.resolved(&path).filter(|resolved| *resolved != path);
            Spellings::new([path].into_iter().chain(resolved))
        };
        let mount_point = spellings(mount_point);
        let relation = |path: String| Some((path.clone(), spellings(path).relation_to(&mount_point)?));
        Ok(Self(paths.into_iter().filter_map(relation).collect()))
    }
}
