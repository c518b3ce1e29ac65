//! What is asked of every engine, and how its answer is judged.

use crate::container::{Bound, Container, NamedVolume};
use crate::container_mounts;
use crate::conversation::{Acquaintance, Conversation, LocalVolume};
use crate::engine::Engine;
use crate::links::Links;
use crate::path::{Lies, Place};
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
/// The step in which this host's own links are followed.
const FOLLOW_LINKS: &str = "follow links";
/// The step in which the mount tables of containers are read.
const READ_MOUNTS: &str = "read a container's mounts";
/// After what time a process is looked at again.
const SECOND_LOOK: Duration = Duration::from_millis(100);

/// What is asked.
#[derive(Clone, Debug)]
pub(crate) enum Enquiry {
    /// Who refers to a volume.
    UsersOf {
        /// The driver that it has for engines.
        driver: String,
        /// The names that it has for engines.
        names: [String; 2],
        /// Where it is, if it is anywhere.
        mount_point: Option<String>,
    },
    /// Which running container has exactly that place bound, and would not see what is mounted there from now on.
    BoundAt(String),
}

impl Enquiry {
    /// Who refers to `volume`, which engines know by `driver`, or to anything in `mount_point`.
    pub(crate) fn users_of(driver: &str, volume: &VolumeId, mount_point: Option<&MountPoint>) -> Self {
        Self::UsersOf {
            driver: driver.to_owned(),
            names: [volume.name.to_string(), volume.to_string()],
            mount_point: mount_point.map(|mount_point| mount_point.as_str().to_owned()),
        }
    }

    /// Which running container has `mount_point` bound, and would not see a mount there.
    pub(crate) fn bound_at(mount_point: &MountPoint) -> Self {
        Self::BoundAt(mount_point.as_str().to_owned())
    }

    /// The containers of `engine` that are the answer. `with_volumes` says whether the engine may be asked about
    /// its own volumes too.
    pub(crate) async fn ask(
        &self,
        engine: &Engine,
        known: &Acquaintance,
        limit: Duration,
        with_volumes: bool,
        mounts: &Arc<Mounts>,
    ) -> Result<Vec<User>, Failure> {
        let mut conversation = Conversation::begin(engine, known, limit).await?;
        let mut containers = conversation.containers().await?;
        if matches!(self, Self::BoundAt(_)) {
            containers.retain(|container| container.running);
        }
        // Who is known by a volume's name needs no further look.
        let (mut found, mut containers): (Vec<_>, Vec<_>) =
            containers.into_iter().partition(|container| self.is_named_by(container));
        // Without a container to look at, nothing of this host has to be looked up.
        if let Some(mount_point) = self.mount_point().filter(|_| !containers.is_empty()) {
            complete(&conversation, &mut containers, with_volumes).await?;
            let places =
                Places::of(&conversation, &containers, mount_point.to_owned(), Arc::clone(mounts)).await?;
            let mut doubtful = Vec::new();
            for container in containers {
                match self.verdict(&container, &places) {
                    Verdict::Yes => found.push(container),
                    Verdict::IfItHolds(copies) => doubtful.push((container, copies)),
                    Verdict::No => {}
                }
            }
            let holding = stream::iter(doubtful)
                .map(async |(container, copies)| {
                    Ok(holds(&conversation, &container, &copies).await?.then_some(container))
                })
                .buffer_unordered(INSPECTED_AT_ONCE);
            found.extend(
                holding.try_filter_map(async |container| Ok(container)).try_collect::<Vec<_>>().await?,
            );
        }
        let users = stream::iter(found)
            .map(async |container| {
                let process = self.first_process(&conversation, &container).await;
                container.into_user(process)
            })
            .buffer_unordered(INSPECTED_AT_ONCE);
        Ok(users.collect().await)
    }

    /// The first process of a container that is named, where that serves: it decides nothing, so that an engine which
    /// does not tell it fails nothing.
    async fn first_process(&self, conversation: &Conversation<'_>, container: &Container) -> Option<u32> {
        if !container.running || matches!(self, Self::BoundAt(_)) {
            return None;
        }
        let inspected = conversation.inspect(&container.id).await.ok()??;
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
        container.bound.iter().filter_map(|bound| bound.volume.as_ref()).any(|volume| {
            // A managed plugin has a version behind its name.
            let plugin = volume.driver.split_once(':').map_or(volume.driver.as_str(), |(plugin, _)| plugin);
            plugin == driver && names.contains(&volume.name)
        })
    }

    /// Whether what `container` has bound makes it an answer.
    fn verdict(&self, container: &Container, places: &Places) -> Verdict {
        let mut copies = Vec::new();
        for bound in &container.bound {
            for lies in bound.paths().filter_map(|path| places.lies.get(path)) {
                match (self, lies) {
                    (Self::UsersOf { .. }, Lies::At | Lies::Below) => return Verdict::Yes,
                    (Self::BoundAt(_), Lies::At) if !bound.follows => return Verdict::Yes,
                    // What watches a host binds `/`: no volume could ever be made beside it.
                    (Self::BoundAt(_), _) => {}
                    // A copy that follows the host holds nothing, and a stopped container's is yet to be made.
                    (Self::UsersOf { .. }, Lies::Above(rest)) if container.running && !bound.follows => {
                        copies.push(Copy { destination: bound.destination.clone(), rest: rest.clone() });
                    }
                    (Self::UsersOf { .. }, Lies::Above(_)) => {}
                }
            }
        }
        if copies.is_empty() { Verdict::No } else { Verdict::IfItHolds(copies) }
    }
}

/// Whether a container is an answer.
enum Verdict {
    Yes,
    No,
    /// It is if one of these holds the volume.
    IfItHolds(Vec<Copy>),
}

/// A container's copy of a folder above the mount point.
struct Copy {
    /// Where it is in the container.
    destination: String,
    /// Where the mount point is in it.
    rest: String,
}

/// Finds out where the volumes are of which the list did not say it.
async fn complete(
    conversation: &Conversation<'_>,
    containers: &mut Vec<Container>,
    with_volumes: bool,
) -> Result<(), Failure> {
    let volumes =
        containers.iter().flat_map(|container| &container.bound).filter_map(|bound| bound.volume.as_ref());
    if with_volumes && volumes.into_iter().any(NamedVolume::is_local) {
        let volumes = conversation.local_volumes().await?;
        for bound in containers.iter_mut().flat_map(|container| &mut container.bound) {
            tell(bound, &volumes);
        }
    }
    let (untold, told): (Vec<_>, Vec<_>) = std::mem::take(containers)
        .into_iter()
        .partition(|container| container.bound.iter().any(Bound::is_untold));
    let inspected = stream::iter(untold)
        .map(async |mut container: Container| {
            let Some(inspected) = conversation.inspect(&container.id).await? else { return Ok(None) };
            container.bound.extend(inspected.bound);
            Ok(Some(container))
        })
        .buffer_unordered(INSPECTED_AT_ONCE);
    *containers = told;
    containers.extend(inspected.try_filter_map(async |told| Ok(told)).try_collect::<Vec<_>>().await?);
    Ok(())
}

fn tell(bound: &mut Bound, volumes: &HashMap<String, LocalVolume>) {
    let Some(volume) = bound.volume.as_ref().filter(|volume| volume.is_local()) else { return };
    if let Some(place) = volumes.get(&volume.name) {
        bound.source = bound.source.take().or_else(|| place.source.clone());
        bound.device.clone_from(&place.device);
    }
}

/// Whether `container` runs and holds what is mounted in one of the folders that it has a copy of. What cannot be
/// seen of a process that is still there at a second look counts as held.
async fn holds(
    conversation: &Conversation<'_>,
    container: &Container,
    copies: &[Copy],
) -> Result<bool, Failure> {
    let mut unseen = None;
    loop {
        let Some(inspected) = conversation.inspect(&container.id).await? else { return Ok(false) };
        let Some(process) = inspected.process else { return Ok(false) };
        if let Some(table) = mounts_of(conversation, process).await? {
            let held: Option<Vec<bool>> = copies
                .iter()
                .map(|copy| container_mounts::holds(&table, &copy.destination, &copy.rest))
                .collect();
            if let Some(held) = held {
                return Ok(held.contains(&true));
            }
        }
        // A process that is starting or ending looks like this too.
        if unseen.replace(process) == Some(process) {
            return Ok(true);
        }
        conversation.wait(READ_MOUNTS, sleep(SECOND_LOOK)).await?;
    }
}

/// The mounts that `process` sees, if that can be seen.
async fn mounts_of(conversation: &Conversation<'_>, process: i64) -> Result<Option<MountTable>, Failure> {
    let reading = tokio::fs::read(format!("/proc/{process}/mountinfo"));
    let text = conversation.wait(READ_MOUNTS, reading).await?;
    Ok(text.ok().map(|text| MountTable::parse(&text)))
}

/// How the paths that containers have bound lie to the mount point.
struct Places {
    lies: HashMap<String, Lies>,
}

impl Places {
    async fn of(
        conversation: &Conversation<'_>,
        containers: &[Container],
        mount_point: String,
        mounts: Arc<Mounts>,
    ) -> Result<Self, Failure> {
        let bound = containers.iter().flat_map(|container| &container.bound);
        let paths: HashSet<String> = bound.flat_map(Bound::paths).map(str::to_owned).collect();
        let following = tokio::task::spawn_blocking(move || Self::follow(paths, mount_point, &mounts));
        let followed = conversation.wait(FOLLOW_LINKS, following).await?;
        let followed = followed.map_err(io::Error::from).flatten();
        followed.map_err(|error| conversation.broken(FOLLOW_LINKS, error))
    }

    fn follow(paths: HashSet<String>, mount_point: String, mounts: &Mounts) -> io::Result<Self> {
        let links = Links::of(mounts)?;
        let place = |path: String| {
            let resolved = links.resolved(&path).filter(|resolved| *resolved != path);
            Place::new([path].into_iter().chain(resolved))
        };
        let mount_point = place(mount_point);
        let lies = |path: String| Some((path.clone(), place(path).lies_to(&mount_point)?));
        Ok(Self { lies: paths.into_iter().filter_map(lies).collect() })
    }
}
