//! When and how calls to the server of the tests fail: at a call of the test's choice.

use nfs3_client::nfs3_types::nfs3::nfsstat3;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What is lost when a call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lost {
    /// The call: it is not executed.
    Call,
    /// The reply: the call is executed.
    Reply,
}

#[derive(Debug, Default)]
pub(crate) struct Script {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    calls: u64,
    is_away: bool,
    dies_at: Option<(u64, Lost)>,
    refuses_at: Option<u64>,
    refuses_renames: Option<nfsstat3>,
    refuses_below: Option<(PathBuf, nfsstat3)>,
    mounted: Option<&'static str>,
}

pub(super) enum Treatment {
    Execute,
    Lose(Lost),
    Refuse,
}

impl Script {
    /// After so many more calls the next one is lost, and every later one fails, until [`Script::revive`].
    pub(crate) fn die_after(&self, calls: u64, lost: Lost) {
        let mut state = self.state();
        state.dies_at = Some((state.calls + calls, lost));
    }

    /// After so many more calls the next one, and only that one, is answered with `NFS3ERR_NOSPC`.
    pub(crate) fn refuse_after(&self, calls: u64) {
        let mut state = self.state();
        state.refuses_at = Some(state.calls + calls);
    }

    pub(crate) fn refuse_renames(&self, status: nfsstat3) {
        self.state().refuses_renames = Some(status);
    }

    /// Refuses every call about `path` and what is below.
    pub(crate) fn refuse_below(&self, path: &Path, status: nfsstat3) {
        self.state().refuses_below = Some((path.to_owned(), status));
    }

    /// Shows a directory of this name, wherever it is, as another file system that is mounted on the server.
    pub(crate) fn mount(&self, name: &'static str) {
        self.state().mounted = Some(name);
    }

    /// Lets calls fail as if no server were there.
    pub(crate) fn go_away(&self) {
        self.state().is_away = true;
    }

    /// Lets calls succeed again.
    pub(crate) fn revive(&self) {
        let mut state = self.state();
        *state = State { calls: state.calls, mounted: state.mounted, ..State::default() };
    }

    pub(crate) fn calls(&self) -> u64 {
        self.state().calls
    }

    pub(super) fn is_away(&self) -> bool {
        self.state().is_away
    }

    pub(super) fn next(&self) -> Treatment {
        let mut state = self.state();
        let call = state.calls;
        state.calls += 1;
        if state.is_away {
            return Treatment::Lose(Lost::Call);
        }
        if state.refuses_at == Some(call) {
            return Treatment::Refuse;
        }
        match state.dies_at {
            Some((at, lost)) if at <= call => {
                state.is_away = true;
                Treatment::Lose(lost)
            }
            _ => Treatment::Execute,
        }
    }

    pub(super) fn admit(&self, path: PathBuf) -> Result<PathBuf, nfsstat3> {
        match &self.state().refuses_below {
            Some((refused, status)) if path.starts_with(refused) => Err(*status),
            _ => Ok(path),
        }
    }

    pub(super) fn admit_rename(&self) -> Result<(), nfsstat3> {
        self.state().refuses_renames.map_or(Ok(()), Err)
    }

    pub(super) fn is_mounted(&self, path: &Path) -> bool {
        self.state().mounted.is_some_and(|mounted| path.iter().any(|part| part == mounted))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
