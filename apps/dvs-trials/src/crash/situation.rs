//! The situations in which the agent is killed: what was there before, what it is asked, what it may answer.

use crate::ground::Ground;
use crate::sender::{End, Wish};

/// What is asked for, relative to a node's folders.
#[derive(Clone, Copy, Debug)]
pub(super) enum Deed {
    Create { at: &'static str, name: &'static str, size: u64, more: &'static [(&'static str, &'static str)] },
    Delete { at: &'static str, name: &'static str },
}

/// What happens between what was before and the agent that is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meanwhile {
    Nothing,
    /// The agent has never run here.
    Pristine,
    /// Everything is unmounted while no agent runs, as a reboot would.
    Reboot,
    /// The same, but the one volume that is there was not unmounted in order.
    PowerLoss,
    /// Everything is unmounted, and the image at this mount point is damaged.
    Damaged(&'static str),
    /// The same, and it was mended after an agent had guarded its mount point.
    Mended(&'static str),
    /// A process has a file of this volume open.
    OpenFile(&'static str),
    /// A process has a mount namespace of its own, and keeps every mount in it. Nothing else may run meanwhile.
    OtherNamespace,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Situation {
    pub(super) name: &'static str,
    /// What is done before, each answered `DONE`.
    pub(super) before: &'static [Deed],
    /// Where an agent was killed already, at the last of these.
    pub(super) cut_off_at: Option<&'static str>,
    pub(super) meanwhile: Meanwhile,
    /// Failpoints that make a step fail, so that the undoing is cut off.
    pub(super) failing: &'static str,
    /// What the agent that is killed is asked.
    pub(super) asked: &'static [Deed],
    /// What that may come to: `DONE` or a failure's code.
    pub(super) ends: &'static [&'static str],
}

const DONE: &[&str] = &["DONE"];
const NESTED: &str = "there/new/deep";
/// A directory that is there before anything is asked.
pub(super) const THERE: &str = "there";

const fn create(at: &'static str) -> Deed {
    Deed::Create { at, name: "", size: 16, more: &[] }
}

const fn delete(at: &'static str) -> Deed {
    Deed::Delete { at, name: "" }
}

const PLAIN: Situation = Situation {
    name: "",
    before: &[],
    cut_off_at: None,
    meanwhile: Meanwhile::Nothing,
    failing: "",
    asked: &[],
    ends: DONE,
};

/// All of them.
pub(super) const SITUATIONS: &[Situation] = &[
    Situation { name: "create in new directories", asked: &[create(NESTED)], ..PLAIN },
    Situation { name: "create in a directory that is there", asked: &[create(THERE)], ..PLAIN },
    Situation {
        name: "create, thick, with an owner and a mode",
        asked: &[Deed::Create {
            at: NESTED,
            name: "",
            size: 20,
            more: &[("provision", "thick"), ("mode", "0700"), ("uid", "1000")],
        }],
        ..PLAIN
    },
    Situation {
        name: "create by name, attached nowhere",
        asked: &[Deed::Create { at: "", name: "named", size: 16, more: &[] }],
        ..PLAIN
    },
    Situation {
        name: "create with a name and a mount point",
        asked: &[Deed::Create { at: NESTED, name: "named", size: 16, more: &[] }],
        ..PLAIN
    },
    Situation { name: "create again", before: &[create(NESTED)], asked: &[create(NESTED)], ..PLAIN },
    Situation {
        name: "create of another size, refused",
        before: &[create(NESTED)],
        asked: &[Deed::Create { at: NESTED, name: "", size: 24, more: &[] }],
        ends: &["conflict"],
        ..PLAIN
    },
    Situation {
        name: "create that fails when it is recorded, undone",
        failing: "loop.record-sync=1*return(internal)",
        asked: &[create(NESTED)],
        ends: &["DONE", "internal"],
        ..PLAIN
    },
    Situation {
        name: "create that fails when it is shown, undone",
        failing: "mount.move=1*return(internal)",
        asked: &[create(NESTED)],
        ends: &["DONE", "internal"],
        ..PLAIN
    },
    Situation {
        name: "create that is no job, refused",
        asked: &[Deed::Create { at: "/etc/volume", name: "", size: 16, more: &[] }],
        ends: &["forbidden-path"],
        ..PLAIN
    },
    Situation { name: "delete", before: &[create(NESTED)], asked: &[delete(NESTED)], ..PLAIN },
    Situation {
        name: "delete beside another volume",
        before: &[create("new/a"), create("new/b")],
        asked: &[delete("new/a")],
        ..PLAIN
    },
    Situation {
        name: "delete by name",
        before: &[Deed::Create { at: NESTED, name: "named", size: 16, more: &[] }],
        asked: &[Deed::Delete { at: "", name: "named" }],
        ..PLAIN
    },
    Situation {
        name: "delete by name, attached nowhere",
        before: &[Deed::Create { at: "", name: "named", size: 16, more: &[] }],
        asked: &[Deed::Delete { at: "", name: "named" }],
        ..PLAIN
    },
    Situation { name: "delete of nothing", asked: &[delete(NESTED)], ..PLAIN },
    Situation {
        name: "delete while a file is open, refused",
        before: &[create(NESTED)],
        meanwhile: Meanwhile::OpenFile(NESTED),
        asked: &[delete(NESTED)],
        ends: &["in-use"],
        ..PLAIN
    },
    Situation {
        name: "delete while another namespace has it, refused",
        before: &[create(NESTED)],
        meanwhile: Meanwhile::OtherNamespace,
        asked: &[delete(NESTED)],
        ends: &["in-use"],
        ..PLAIN
    },
    Situation { name: "the first start", meanwhile: Meanwhile::Pristine, asked: &[create(NESTED)], ..PLAIN },
    Situation {
        name: "start after a reboot",
        before: &[create(NESTED), create("new/b")],
        meanwhile: Meanwhile::Reboot,
        ..PLAIN
    },
    Situation {
        name: "start after a loss of power",
        before: &[create(NESTED)],
        meanwhile: Meanwhile::PowerLoss,
        ..PLAIN
    },
    Situation {
        name: "start with a damaged volume",
        before: &[create(NESTED)],
        meanwhile: Meanwhile::Damaged(NESTED),
        ..PLAIN
    },
    Situation {
        name: "delete of a volume that was guarded",
        before: &[create(NESTED)],
        meanwhile: Meanwhile::Mended(NESTED),
        asked: &[delete(NESTED)],
        ..PLAIN
    },
    Situation {
        name: "start after a create that was cut off before it was decided",
        before: &[create(NESTED)],
        cut_off_at: Some("loop.publish"),
        ..PLAIN
    },
    Situation {
        name: "start after a create that was cut off when it was decided",
        before: &[create(NESTED)],
        cut_off_at: Some("loop.published"),
        ..PLAIN
    },
    Situation {
        name: "start after a delete that was cut off before it was decided",
        before: &[create(NESTED), delete(NESTED)],
        cut_off_at: Some("loop.decide"),
        ..PLAIN
    },
    Situation {
        name: "start after a delete that was cut off when it was decided",
        before: &[create(NESTED), delete(NESTED)],
        cut_off_at: Some("loop.decided"),
        ..PLAIN
    },
];

impl Situation {
    /// Whether nothing else may run meanwhile.
    pub(super) fn is_alone(&self) -> bool {
        self.meanwhile == Meanwhile::OtherNamespace
    }

    /// Whether the situation has its own use for this failpoint.
    pub(super) fn fails_at(&self, point: &str) -> bool {
        self.failing.split_once('=').is_some_and(|(name, _)| name == point)
    }

    /// Whether what it is asked may come to this.
    pub(super) fn allows(&self, end: &End) -> bool {
        match end {
            End::Done => self.ends.contains(&"DONE"),
            End::Failed(code) => self.ends.contains(&code.as_str()),
        }
    }
}

impl Deed {
    /// What a sender of this node asks for.
    pub(super) fn wish(self, ground: &Ground) -> Wish {
        let place = |at: &str| (!at.is_empty()).then(|| ground.at(at));
        let named = |name: &str| (!name.is_empty()).then(|| name.to_owned());
        match self {
            Self::Create { at, name, size, more } => {
                Wish::Create { at: place(at), name: named(name), size, more }
            }
            Self::Delete { at, name } => Wish::Delete { at: place(at), name: named(name) },
        }
    }
}
