//! What unfinished operations of this node leave on the export, until the janitor brings it to an end.

use crate::layout::Temporary;
use dvs_domain::names::VolumeName;
use std::collections::BTreeSet;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Leftover {
    /// A volume that was being made or removed.
    Temporary(Temporary),
    /// The delete lock on a volume whose destroy was not decided.
    DeleteLock(VolumeName),
}

impl Leftover {
    pub(crate) fn volume(&self) -> &VolumeName {
        match self {
            Self::Temporary(temporary) => &temporary.volume,
            Self::DeleteLock(name) => name,
        }
    }
}

/// What is known of this node's leftovers.
#[derive(Debug)]
pub(crate) struct Leftovers {
    /// Temporary names may be on the export: only a listing tells.
    pub(crate) may_exist: bool,
    pub(crate) delete_locks: BTreeSet<VolumeName>,
    /// The janitor is at work.
    pub(crate) is_recovering: bool,
}

impl Default for Leftovers {
    /// An earlier process of this node may have left something.
    fn default() -> Self {
        Self { may_exist: true, delete_locks: BTreeSet::new(), is_recovering: false }
    }
}

impl Leftovers {
    pub(crate) fn is_any(&self) -> bool {
        self.may_exist || !self.delete_locks.is_empty()
    }
}
