//! What lies where on an export: `volumes/<name>` and `volumes_metadata/<name>/`, and beside them, under names that
//! no volume can have, what is being made or removed, each with the node that does it.

use crate::target::{Name, TargetError};
use data_encoding::HEXLOWER;
use dvs_domain::names::{NodeId, VolumeName};
use std::fmt;
use uuid::Uuid;

/// The folder of the volumes.
pub(crate) const VOLUMES: &str = "volumes";
/// The folder of what is known of them.
pub(crate) const METADATA: &str = "volumes_metadata";
/// The record of a volume, in its folder there.
pub(crate) const RECORD: &str = "record";
/// What the implementation before this one wrote instead.
pub(crate) const LEGACY_RECORD: &str = "DockerMetaData";
/// The mark of who is destroying a volume.
pub(crate) const DELETING: &str = "deleting";
/// What a node has found when it listed, beside the folders of the volumes: for others, who need not read all that.
pub(crate) const LIST: &str = ".list";
/// What the name of a node's claim begins with.
const ATTACHED: &str = "attached.";
/// What the name of the word begins with by which a node says that it has told somebody of a volume.
const SEEN: &str = "seen.";

/// The name of something that the store itself puts on the export, such as one of the words above or a volume's. It is
/// stricter than what a tree of users may hold, and does not rest on the domain's own check of names.
pub(crate) fn name(text: &str) -> Result<Name, TargetError> {
    let first = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'.');
    let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'));
    if first && plain { Name::new(text.as_bytes()) } else { Err(Name::refused(text.as_bytes())) }
}

/// The file by which `node` says that it has a volume attached.
pub(crate) fn claim(node: &NodeId) -> Result<Name, TargetError> {
    name(&format!("{ATTACHED}{node}"))
}

/// The node whose claim a file is.
pub(crate) fn claimant(file: &Name) -> Option<NodeId> {
    NodeId::new(file.as_str()?.strip_prefix(ATTACHED)?).ok()
}

/// The file by which `node` says that it has told somebody of a volume.
pub(crate) fn seen(node: &NodeId) -> Result<Name, TargetError> {
    name(&format!("{SEEN}{node}"))
}

/// The node that says so by a file.
pub(crate) fn seer(file: &Name) -> Option<NodeId> {
    NodeId::new(file.as_str()?.strip_prefix(SEEN)?).ok()
}

/// The file in which `node` writes what is then put in the place of the list.
pub(crate) fn staged_list(node: &NodeId) -> Result<Name, TargetError> {
    name(&format!("{LIST}-{node}"))
}

/// What becomes of something that has no volume's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fate {
    /// It is being made.
    New,
    /// It is being removed.
    Gone,
}

/// A name for something that is being made or removed: the same in both folders.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Temporary {
    pub(crate) fate: Fate,
    pub(crate) node: NodeId,
    token: String,
    pub(crate) volume: VolumeName,
}

impl Temporary {
    /// One that nobody has.
    pub(crate) fn new(fate: Fate, node: &NodeId, volume: &VolumeName) -> Self {
        let token = HEXLOWER.encode(Uuid::new_v4().as_bytes());
        Self { fate, node: node.clone(), token, volume: volume.clone() }
    }

    /// The one under which `node` removes what was made as this: however often it begins, and for no other volume.
    pub(crate) fn gone_by(&self, node: &NodeId) -> Self {
        Self { fate: Fate::Gone, node: node.clone(), ..self.clone() }
    }

    /// Whether both are about one volume, and not about two that have had one name after the other.
    pub(crate) fn is_of_same(&self, other: &Self) -> bool {
        self.token == other.token && self.volume == other.volume
    }

    /// What `text` names, if it names something that is being made or removed.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (fate, rest) = match text.strip_prefix(".new-") {
            Some(rest) => (Fate::New, rest),
            None => (Fate::Gone, text.strip_prefix(".gone-")?),
        };
        let (node, rest) = rest.split_once('-')?;
        let (token, volume) = rest.split_once('-')?;
        let is_token = token.len() == 32 && token.bytes().all(|byte| byte.is_ascii_hexdigit());
        let (node, volume) = (NodeId::new(node).ok()?, VolumeName::new(volume).ok()?);
        is_token.then(|| Self { fate, node, token: token.to_owned(), volume })
    }

    pub(crate) fn name(&self) -> Result<Name, TargetError> {
        name(&self.to_string())
    }
}

impl fmt::Display for Temporary {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fate = match self.fate {
            Fate::New => ".new",
            Fate::Gone => ".gone",
        };
        write!(formatter, "{fate}-{}-{}-{}", self.node, self.token, self.volume)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_being_made_or_removed_is_known_by_its_name_and_is_no_volume() {
        let node = NodeId::new("0123456789abcdef0123456789abcdef").unwrap();
        for volume in ["a".to_owned(), "a-b.c".to_owned(), "v".repeat(128)] {
            for fate in [Fate::New, Fate::Gone] {
                let volume = VolumeName::new(volume.clone()).unwrap();
                let temporary = Temporary::new(fate, &node, &volume);
                assert_eq!(Temporary::parse(&temporary.to_string()), Some(temporary.clone()));
                assert!(temporary.name().is_ok());
                assert!(VolumeName::new(temporary.to_string()).is_err());
            }
        }
        for other in ["", "a", ".new-", ".new-a-b-c", ".snapshot", "lost+found"] {
            assert_eq!(Temporary::parse(other), None, "{other}");
        }
    }

    #[test]
    fn no_name_of_the_stores_own_leads_elsewhere_or_is_taken_for_an_option() {
        for bad in ["..", "../x", "a/b", "", &"n".repeat(300), "a\0b", "a\nb", ".", "-rf", "a b", "\u{e9}"] {
            assert!(name(bad).is_err(), "{bad:?}");
        }
        for good in [VOLUMES, METADATA, RECORD, LEGACY_RECORD, DELETING, LIST, "a.b-c_d", ".new-a"] {
            assert!(name(good).is_ok(), "{good}");
        }
    }

    #[test]
    fn no_volume_and_nothing_that_is_made_or_removed_is_called_as_the_list_is() {
        let node = NodeId::new("0123456789abcdef0123456789abcdef").unwrap();
        for name in [name(LIST).unwrap(), staged_list(&node).unwrap()] {
            let text = name.as_str().unwrap();
            assert!(VolumeName::new(text).is_err(), "{text}");
            assert_eq!(Temporary::parse(text), None, "{text}");
            assert_eq!((claimant(&name), seer(&name)), (None, None), "{text}");
        }
    }

    #[test]
    fn a_claim_tells_its_node() {
        let node = NodeId::new("0123456789abcdef0123456789abcdef").unwrap();
        assert_eq!(claimant(&claim(&node).unwrap()), Some(node.clone()));
        assert_eq!(claimant(&name("attached.me").unwrap()), None);
        assert_eq!(seer(&seen(&node).unwrap()), Some(node.clone()));
        assert_eq!(claimant(&seen(&node).unwrap()), None);
    }
}
