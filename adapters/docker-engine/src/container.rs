//! Containers as far as they matter here: name, whether it runs, what it has mounted.

use crate::path;
use bollard::models::{ContainerInspectResponse, ContainerSummary, ContainerSummaryStateEnum, MountPoint};
use dvs_domain::user::User;

/// How much of a container's id is shown where it has no name.
const ID_CHARACTERS: usize = 12;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Container {
    pub(crate) id: String,
    pub(crate) name: String,
    /// Whether it has processes: also when they are paused, or about to be started again.
    pub(crate) running: bool,
    pub(crate) mounts: Vec<ContainerMount>,
}

/// Something of the host that a container has mounted, or will have when it is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ContainerMount {
    /// `None` for a bind.
    pub(crate) volume: Option<NamedVolume>,
    /// The path on the host. Engines leave it out of lists for volumes without a name of their own.
    pub(crate) source: Option<String>,
    /// What the engine mounts at the source before it binds that.
    pub(crate) device: Option<String>,
    /// The path in the container.
    pub(crate) destination: String,
    /// Whether what the host mounts and unmounts in it propagates to the container.
    pub(crate) propagated: bool,
}

/// A volume as an engine knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NamedVolume {
    pub(crate) name: String,
    pub(crate) driver: String,
}

impl NamedVolume {
    /// The driver of the volumes that an engine keeps itself.
    pub(crate) const LOCAL: &str = "local";

    /// Whether the engine keeps it itself.
    pub(crate) fn is_local(&self) -> bool {
        self.driver == Self::LOCAL
    }
}

impl Container {
    /// An entry of a list. One without a state is taken for running: that refuses more.
    pub(crate) fn listed(summary: ContainerSummary) -> Self {
        use ContainerSummaryStateEnum::{CREATED, DEAD, EXITED, REMOVING};
        let id = summary.id.unwrap_or_default();
        let name = name(&summary.names.unwrap_or_default(), &id);
        let running = !matches!(summary.state, Some(CREATED | EXITED | REMOVING | DEAD));
        Self { id, name, running, mounts: container_mounts(summary.mounts) }
    }

    pub(crate) fn into_user(self, process: Option<u32>) -> User {
        User::Container { name: self.name, running: self.running, process }
    }
}

pub(crate) fn inspected(response: ContainerInspectResponse) -> Vec<ContainerMount> {
    container_mounts(response.mounts)
}

impl ContainerMount {
    /// Whether it is a volume that the engine keeps itself at a path that is not known yet. A plugin's volume without a
    /// path is not mounted yet, and asking for it would make the engine ask its plugin: possibly this agent.
    pub(crate) fn is_path_unknown(&self) -> bool {
        self.volume.as_ref().is_some_and(NamedVolume::is_local) && self.source.is_none()
    }

    /// The paths of the host that are mounted.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &str> {
        [&self.source, &self.device].into_iter().filter_map(Option::as_deref)
    }
}

/// A container's names include, for old links between containers, those that others have for it.
fn name(names: &[String], id: &str) -> String {
    let mut bare = names.iter().map(|name| name.strip_prefix('/').unwrap_or(name));
    match bare.find(|name| !name.is_empty() && !name.contains('/')) {
        Some(name) => name.chars().flat_map(shown).collect(),
        None => id.chars().take(ID_CHARACTERS).flat_map(shown).collect(),
    }
}

/// `character` as it may stand in a message.
pub(crate) fn shown(character: char) -> impl Iterator<Item = char> {
    let escaped = character.is_control().then(|| character.escape_default());
    let plain = escaped.is_none().then_some(character);
    escaped.into_iter().flatten().chain(plain)
}

fn container_mounts(mounts: Option<Vec<MountPoint>>) -> Vec<ContainerMount> {
    mounts.unwrap_or_default().into_iter().filter_map(container_mount).collect()
}

fn container_mount(mount: MountPoint) -> Option<ContainerMount> {
    let kind = mount.typ.unwrap_or_default();
    if kind == "tmpfs" {
        return None;
    }
    let volume = (kind == "volume").then(|| NamedVolume {
        name: mount.name.unwrap_or_default(),
        driver: mount.driver.unwrap_or_default(),
    });
    Some(ContainerMount {
        volume,
        source: mount.source.as_deref().and_then(path::normal),
        device: None,
        destination: mount.destination.unwrap_or_default(),
        propagated: matches!(mount.propagation.as_deref(), Some("rshared" | "rslave")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(json: serde_json::Value) -> Container {
        Container::listed(serde_json::from_value(json).unwrap())
    }

    #[test]
    fn a_container_is_named_by_its_own_name() {
        for (names, expected) in [
            (vec!["/db"], "db"),
            (vec!["/web/db-alias", "/db"], "db"),
            (vec!["db"], "db"),
            (vec![], "0123456789ab"),
            (vec!["/"], "0123456789ab"),
            (vec!["/a\u{1b}[1mü"], "a\\u{1b}[1mü"),
        ] {
            let container = listed(serde_json::json!({"Id": "0123456789abcdef", "Names": names}));
            assert_eq!(container.name, expected);
        }
    }

    #[test]
    fn a_container_runs_unless_it_is_known_not_to() {
        for (state, running) in [
            ("running", true),
            ("paused", true),
            ("restarting", true),
            ("stopping", true),
            ("", true),
            ("created", false),
            ("exited", false),
            ("removing", false),
            ("dead", false),
        ] {
            assert_eq!(listed(serde_json::json!({"State": state})).running, running, "{state}");
        }
        assert!(listed(serde_json::json!({})).running);
    }

    #[test]
    fn mounts_are_taken_as_the_engine_lists_them() {
        let container = listed(serde_json::json!({"Mounts": [
            {"Type": "bind", "Source": "/mnt//a/", "Destination": "/x", "Propagation": "rslave"},
            {"Type": "volume", "Name": "v", "Driver": "local", "Source": "", "Destination": "/y"},
            {"Type": "tmpfs", "Destination": "/t"},
        ]}));
        let [bind, volume] = container.mounts.as_slice() else { panic!("{:?}", container.mounts) };
        assert!(bind.propagated && !bind.is_path_unknown() && bind.volume.is_none());
        assert_eq!(bind.paths().collect::<Vec<_>>(), ["/mnt/a"]);
        assert!(!volume.propagated && volume.is_path_unknown());
        assert_eq!(volume.paths().count(), 0);
    }
}
