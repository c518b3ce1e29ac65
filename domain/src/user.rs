//! Users: what still needs a volume. A delete is refused while there is one, and names each.

use crate::failure::{Failure, FailureCode};
use std::fmt;

/// Something that still needs a volume.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum User {
    /// A container that refers to it, running or stopped.
    Container {
        /// The container's name.
        name: String,
        /// Whether it runs, or is paused or restarting.
        running: bool,
        /// Its first process, where that is known: its mount namespace is no further user.
        process: Option<u32>,
    },
    /// A process with an open file, a working directory or a mapped file on it.
    Process {
        /// The process id.
        id: u32,
        /// What it is called.
        name: String,
    },
    /// A mount namespace that holds it, named by a process in it.
    Namespace {
        /// The process id.
        id: u32,
        /// What it is called.
        name: String,
    },
    /// Something is mounted inside it.
    MountInside(
        /// Where.
        String,
    ),
    /// Another node that has it attached, or had when it died.
    Node {
        /// The node's id in the store.
        id: String,
        /// What it is called, if it has said that.
        name: Option<String>,
    },
    /// The kernel says that somebody holds it; who, cannot be seen from here.
    Unknown,
}

impl fmt::Display for User {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Container { name, running, .. } => {
                write!(formatter, "container `{name}` ({})", if *running { "running" } else { "stopped" })
            }
            Self::Process { id, name } => write!(formatter, "process {id} (`{name}`)"),
            Self::Namespace { id, name } => {
                write!(formatter, "the mount namespace of process {id} (`{name}`)")
            }
            Self::MountInside(path) => write!(formatter, "a mount at `{path}`"),
            Self::Node { id, name: Some(name) } => write!(formatter, "node `{name}` ({id})"),
            Self::Node { id, name: None } => write!(formatter, "node {id}"),
            Self::Unknown => {
                formatter.write_str("a mount namespace or process that cannot be seen from here")
            }
        }
    }
}

/// Everybody who uses a volume: the `containers` that refer to it, and who holds it in the kernel, each once.
#[must_use]
pub fn together(containers: Vec<User>, holders: Vec<User>) -> Vec<User> {
    let first_processes: Vec<u32> = containers
        .iter()
        .filter_map(|user| if let User::Container { process, .. } = user { *process } else { None })
        .collect();
    let is_of_container =
        |user: &User| matches!(user, User::Namespace { id, .. } if first_processes.contains(id));
    let others = holders.into_iter().filter(|user| !is_of_container(user));
    containers.into_iter().chain(others).collect()
}

/// The most users that a message names: more help nobody.
const NAMED_MAX: usize = 20;

/// The refusal of what must not be done while there are `users`.
#[must_use]
pub fn in_use(users: &[User]) -> Failure {
    let mut named: Vec<String> = users.iter().take(NAMED_MAX).map(ToString::to_string).collect();
    if users.len() > NAMED_MAX {
        named.push(format!("{} more", users.len() - NAMED_MAX));
    }
    let verb = if users.len() == 1 { "uses" } else { "use" };
    let failure = Failure::new(FailureCode::InUse, format!("{} still {verb} it", named.join(", ")));
    if users.iter().all(|user| matches!(user, User::Container { .. })) {
        return failure.with_hint(if users.len() == 1 {
            "remove the container first"
        } else {
            "remove the containers first"
        });
    }
    failure
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mount_namespace_of_a_container_is_the_container() {
        let db = User::Container { name: "db".to_owned(), running: true, process: Some(7) };
        let namespace = |id| User::Namespace { id, name: "sh".to_owned() };
        let inside = User::MountInside("/mnt/a/b".to_owned());
        let all = together(vec![db.clone()], vec![inside.clone(), namespace(7), namespace(8)]);
        assert_eq!(all, [db, inside, namespace(8)]);
    }

    #[test]
    fn a_refusal_names_each_user() {
        let stopped = User::Container { name: "db".to_owned(), running: false, process: None };
        let failure = in_use(std::slice::from_ref(&stopped));
        assert_eq!(failure.to_string(), "container `db` (stopped) still uses it");
        assert_eq!(failure.hint(), Some("remove the container first"));
        let both = in_use(&[stopped, User::Process { id: 7, name: "sh".to_owned() }]);
        assert_eq!(both.to_string(), "container `db` (stopped), process 7 (`sh`) still use it");
        assert_eq!(in_use(&vec![User::Unknown; 25]).to_string().matches(", ").count(), 20);
    }
}
