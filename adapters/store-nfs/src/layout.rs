//! The names on an export: `volumes/<name>` and `volumes_metadata/<name>/`. What is being made or removed has a name
//! beside them that no volume can have, with the node that does it.

use crate::client::Name;
use dvs_domain::names::{NodeId, VolumeName};
use std::fmt;
use uuid::Uuid;

pub(crate) const VOLUMES: &str = "volumes";
pub(crate) const METADATA: &str = "volumes_metadata";
/// The record of a volume, in its folder in `volumes_metadata`.
pub(crate) const RECORD: &str = "record";
/// The record that vSphere Integrated Containers wrote, whose volumes this store can use.
pub(crate) const LEGACY_RECORD: &str = "DockerMetaData";
/// The delete lock in a volume's metadata folder: a symbolic link with the id of the node that destroys the volume.
pub(crate) const DELETING: &str = "deleting";
/// Prefix of a node's claim.
const ATTACHED: &str = "attached.";

/// One of the names above.
pub(crate) fn fixed(name: &'static str) -> Name {
    Name::valid(name)
}

/// The directory of a volume, and its metadata folder.
pub(crate) fn volume(name: &VolumeName) -> Name {
    Name::valid(name.as_str())
}

/// The file in a volume's metadata folder that states that `node` has the volume attached.
pub(crate) fn claim(node: &NodeId) -> Name {
    Name::valid(format!("{ATTACHED}{node}"))
}

/// The node whose claim `file` is, if it is one.
pub(crate) fn claimant(file: &Name) -> Option<NodeId> {
    NodeId::new(file.as_str()?.strip_prefix(ATTACHED)?).ok()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Purpose {
    Create,
    Destroy,
}

/// The name, in both folders, of something that is being made or removed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Temporary {
    pub(crate) purpose: Purpose,
    pub(crate) node: NodeId,
    /// Random, drawn when the volume was made: tells volumes apart that had one name after the other.
    token: String,
    pub(crate) volume: VolumeName,
}

impl Temporary {
    /// A new name that nobody else has.
    pub(crate) fn new(purpose: Purpose, node: &NodeId, volume: &VolumeName) -> Self {
        let token = Uuid::new_v4().simple().to_string();
        Self { purpose, node: node.clone(), token, volume: volume.clone() }
    }

    /// The name under which `node` removes what was made under this one: the same for every attempt.
    pub(crate) fn destroyed_by(&self, node: &NodeId) -> Self {
        Self { purpose: Purpose::Destroy, node: node.clone(), ..self.clone() }
    }

    /// Whether both names belong to the same volume, not to two that had one name after the other.
    pub(crate) fn is_of_same(&self, other: &Self) -> bool {
        self.token == other.token && self.volume == other.volume
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (purpose, rest) = match text.strip_prefix(".new-") {
            Some(rest) => (Purpose::Create, rest),
            None => (Purpose::Destroy, text.strip_prefix(".gone-")?),
        };
        let (node, rest) = rest.split_once('-')?;
        let (token, volume) = rest.split_once('-')?;
        let is_token = token.len() == 32 && token.bytes().all(|byte| byte.is_ascii_hexdigit());
        let (node, volume) = (NodeId::new(node).ok()?, VolumeName::new(volume).ok()?);
        is_token.then(|| Self { purpose, node, token: token.to_owned(), volume })
    }

    pub(crate) fn name(&self) -> Name {
        Name::valid(self.to_string())
    }
}

impl fmt::Display for Temporary {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let purpose = match self.purpose {
            Purpose::Create => ".new",
            Purpose::Destroy => ".gone",
        };
        write!(formatter, "{purpose}-{}-{}-{}", self.node, self.token, self.volume)
    }
}
