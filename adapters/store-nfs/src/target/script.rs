//! When and how calls to a folder that stands for an export fail: at a moment of a test's choice.

use super::Fault;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What is lost when a call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// The call: nothing was done.
    Call,
    /// The answer: it was done.
    Answer,
}

/// Why a call is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The server has no room left.
    NoRoom,
    /// Nothing may be changed.
    ReadOnly,
    /// Nobody may do it.
    Denied,
    /// The handle leads nowhere any more.
    Stale,
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NoRoom => Self::NoSpace,
            Refusal::ReadOnly => Self::ReadOnly,
            Refusal::Denied => Self::Refused,
            Refusal::Stale => Self::Stale,
        }
    }
}

/// When calls fail.
#[derive(Debug, Default)]
pub struct Script {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    calls: u64,
    is_away: bool,
    dies_at: Option<(u64, Lost)>,
    refuses_at: Option<u64>,
    refuses_renames: Option<Refusal>,
    refuses_below: Option<(PathBuf, Refusal)>,
    refused_below: u64,
    holds_lists: bool,
    held: u64,
}

/// What becomes of a call.
pub(super) enum Way {
    Done,
    Lost(Lost),
    Refused,
}

impl Script {
    /// After so many more calls the next one is lost, and every one after it fails, until [`Script::revive`].
    pub fn die_after(&self, calls: u64, lost: Lost) {
        let mut state = self.state();
        state.dies_at = Some((state.calls + calls, lost));
    }

    /// After so many more calls the next one, and only that one, is refused by the server for lack of room.
    pub fn refuse_after(&self, calls: u64) {
        let mut state = self.state();
        state.refuses_at = Some(state.calls + calls);
    }

    /// Every rename is refused from now on.
    pub fn refuse_renames(&self, refusal: Refusal) {
        self.state().refuses_renames = Some(refusal);
    }

    /// Every call about `path`, and what is below, is refused from now on.
    pub fn refuse_below(&self, path: &Path, refusal: Refusal) {
        self.state().refuses_below = Some((path.to_owned(), refusal));
    }

    /// Every call that lists waits from now on, and is lost in the end.
    pub fn hold_lists(&self) {
        self.state().holds_lists = true;
    }

    /// How many calls wait.
    pub fn held(&self) -> u64 {
        self.state().held
    }

    /// Calls fail as if no server were there.
    pub fn go_away(&self) {
        self.state().is_away = true;
    }

    /// Calls are done again.
    pub fn revive(&self) {
        let mut state = self.state();
        state.is_away = false;
        state.dies_at = None;
        state.refuses_at = None;
        state.refuses_renames = None;
        state.refuses_below = None;
        state.holds_lists = false;
    }

    /// How many calls there were.
    pub fn calls(&self) -> u64 {
        self.state().calls
    }

    /// How many calls were refused because of what they were about.
    pub fn refused_below(&self) -> u64 {
        self.state().refused_below
    }

    /// Whether a call that lists had to wait.
    pub(super) async fn wait_if_held(&self) -> bool {
        let mut is_held = false;
        while self.state().holds_lists {
            if !is_held {
                is_held = true;
                self.state().held += 1;
            }
            tokio::task::yield_now().await;
        }
        is_held
    }

    pub(super) fn next(&self) -> Way {
        let mut state = self.state();
        let call = state.calls;
        state.calls += 1;
        if state.is_away {
            return Way::Lost(Lost::Call);
        }
        if state.refuses_at == Some(call) {
            return Way::Refused;
        }
        match state.dies_at {
            Some((at, lost)) if at <= call => {
                state.is_away = true;
                Way::Lost(lost)
            }
            _ => Way::Done,
        }
    }

    pub(super) fn admit(&self, path: PathBuf) -> Result<PathBuf, Fault> {
        let mut state = self.state();
        match &state.refuses_below {
            Some((refused, refusal)) if path.starts_with(refused) => {
                let fault = (*refusal).into();
                state.refused_below += 1;
                Err(fault)
            }
            _ => Ok(path),
        }
    }

    pub(super) fn admit_rename(&self) -> Result<(), Fault> {
        self.state().refuses_renames.map_or(Ok(()), |refusal| Err(refusal.into()))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
