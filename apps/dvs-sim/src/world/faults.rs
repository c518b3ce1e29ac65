//! Injected faults: armed faults wait for a call, others last for a time.

use super::World;
use dvs_domain::failure::{Failure, FailureCode};

/// A port method, as a place for faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Call {
    Load,
    Commit,
    Publish,
    Create,
    Destroy,
    LookUp,
    List,
    Source,
    Survey,
    Attach,
    Detach,
    RemoveDirectories,
    Guard,
    Unguard,
    HoldersOf,
    UsersOf,
    BoundAt,
    /// A door is about to acknowledge a message.
    Acknowledge,
}

impl Call {
    pub(crate) const ALL: [Self; 18] = [
        Self::Load,
        Self::Commit,
        Self::Publish,
        Self::Create,
        Self::Destroy,
        Self::LookUp,
        Self::List,
        Self::Source,
        Self::Survey,
        Self::Attach,
        Self::Detach,
        Self::RemoveDirectories,
        Self::Guard,
        Self::Unguard,
        Self::HoldersOf,
        Self::UsersOf,
        Self::BoundAt,
        Self::Acknowledge,
    ];

    /// The calls that change something: faults are most interesting there.
    pub(crate) const CHANGING: [Self; 7] = [
        Self::Commit,
        Self::Create,
        Self::Destroy,
        Self::Source,
        Self::Attach,
        Self::Detach,
        Self::RemoveDirectories,
    ];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Load => "load",
            Self::Commit => "commit",
            Self::Publish => "publish",
            Self::Create => "create",
            Self::Destroy => "destroy",
            Self::LookUp => "look up",
            Self::List => "list",
            Self::Source => "source",
            Self::Survey => "survey",
            Self::Attach => "attach",
            Self::Detach => "detach",
            Self::RemoveDirectories => "remove directories",
            Self::Guard => "guard",
            Self::Unguard => "unguard",
            Self::HoldersOf => "holders of",
            Self::UsersOf => "users of",
            Self::BoundAt => "bound at",
            Self::Acknowledge => "acknowledge",
        }
    }
}

/// A fault that strikes at a later point.
#[derive(Clone, Debug)]
pub(crate) struct Armed {
    pub(crate) fault: Fault,
    /// The call at which it strikes; `None`: any.
    pub(crate) on: Option<Call>,
    /// How many such points are passed before.
    pub(crate) countdown: u64,
}

#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// The process is killed, or with `power` the host.
    Crash { power: bool, down_milliseconds: u64 },
    /// The call fails.
    Fail(FailureCode),
    /// The work of a job panics.
    Panic,
    /// The call takes this much longer.
    Hang { milliseconds: u64 },
}

#[derive(Debug, Default)]
pub(crate) struct Faults {
    armed: Vec<Armed>,
    engine_silent_until: u64,
    store_away_until: [u64; 2],
    store_full_until: [u64; 2],
    journal_full_until: u64,
    journal_broken_until: u64,
    /// When the journal last failed or hung.
    pub(crate) journal_trouble_at: Option<u64>,
}

impl Faults {
    pub(crate) fn arm(&mut self, armed: Armed) {
        self.armed.push(armed);
    }

    pub(crate) fn heal(&mut self) {
        *self = Self { journal_trouble_at: self.journal_trouble_at, ..Self::default() };
    }

    fn due<T>(&mut self, call: Call, which: impl Fn(&Fault) -> Option<T>) -> Option<T> {
        let mut due = None;
        for (index, armed) in self.armed.iter_mut().enumerate() {
            let Some(found) = which(&armed.fault) else { continue };
            if armed.on.is_some_and(|on| on != call) {
                continue;
            }
            if armed.countdown == 0 && due.is_none() {
                due = Some((index, found));
            }
            armed.countdown = armed.countdown.saturating_sub(1);
        }
        let (index, found) = due?;
        self.armed.remove(index);
        Some(found)
    }
}

impl World {
    /// Whether the agent is killed at this point: whether by power loss, and the downtime.
    pub(crate) fn crash_is_due(&mut self, call: Call) -> Option<(bool, u64)> {
        if self.happens(self.scenario.rates.crashes) {
            return Some((self.random.chance(20), self.random.between(10, 2_000)));
        }
        self.faults.due(call, |fault| match fault {
            Fault::Crash { power, down_milliseconds } => Some((*power, *down_milliseconds)),
            _ => None,
        })
    }

    /// The injected delay at this point, in milliseconds.
    pub(crate) fn hang_is_due(&mut self, call: Call) -> Option<u64> {
        let hang = if self.happens(self.scenario.rates.hangs) {
            self.random.pick(&[1_500, 6_000, 24_000])
        } else {
            self.faults.due(call, |fault| match fault {
                Fault::Hang { milliseconds } => Some(*milliseconds),
                _ => None,
            })?
        };
        self.counts.failures += 1;
        if matches!(call, Call::Commit | Call::Load) {
            self.note_journal_trouble(self.now() + hang);
        }
        Some(hang)
    }

    /// The injected failure at this point.
    pub(crate) fn failure_is_due(&mut self, call: Call) -> Option<Failure> {
        let code = if self.happens(self.scenario.rates.failures) {
            FailureCode::Internal
        } else {
            self.faults.due(call, |fault| match fault {
                Fault::Fail(code) => Some(*code),
                _ => None,
            })?
        };
        self.counts.failures += 1;
        if code == FailureCode::StoreUnavailable {
            self.history.unavailable_until = self.history.unavailable_until.max(self.now());
        }
        Some(Failure::new(code, "failed on demand").at_step(call.as_str()))
    }

    /// Whether the call panics. Only the work of jobs has to survive that.
    pub(crate) fn panic_is_due(&mut self, call: Call) -> bool {
        let is_work = self.life.working_since.is_some() && !matches!(call, Call::Load | Call::Commit);
        let is_due =
            is_work && self.faults.due(call, |fault| matches!(fault, Fault::Panic).then_some(())).is_some();
        self.counts.failures += u64::from(is_due);
        is_due
    }

    pub(crate) fn engine_silent_for(&mut self, milliseconds: u64) {
        let until = self.now() + milliseconds;
        self.faults.engine_silent_until = until;
        self.history.unavailable_until = self.history.unavailable_until.max(until);
    }

    pub(crate) fn store_away_for(&mut self, store: usize, milliseconds: u64) {
        let until = self.now() + milliseconds;
        self.faults.store_away_until[store] = until;
        self.history.away_until[store] = self.history.away_until[store].max(until);
    }

    pub(crate) fn store_full_for(&mut self, store: usize, milliseconds: u64) {
        self.faults.store_full_until[store] = self.now() + milliseconds;
    }

    pub(crate) fn journal_full_for(&mut self, milliseconds: u64) {
        self.faults.journal_full_until = self.now() + milliseconds;
    }

    pub(crate) fn journal_broken_for(&mut self, milliseconds: u64) {
        self.faults.journal_broken_until = self.now() + milliseconds;
    }

    pub(crate) fn engine_is_silent(&mut self) -> bool {
        self.is_within(self.faults.engine_silent_until)
    }

    pub(crate) fn store_is_away(&mut self, store: usize) -> bool {
        self.is_within(self.faults.store_away_until[store])
    }

    pub(crate) fn store_is_full(&mut self, store: usize) -> bool {
        self.is_within(self.faults.store_full_until[store])
    }

    /// The failure of a commit. A full journal still takes what finishes or forgets.
    pub(crate) fn journal_failure(&mut self, accepts_something: bool) -> Option<Failure> {
        let failure = if self.is_within(self.faults.journal_broken_until) {
            Failure::new(FailureCode::Internal, "the journal cannot be written")
        } else if accepts_something && self.is_within(self.faults.journal_full_until) {
            Failure::new(FailureCode::NoSpace, "the journal is full")
        } else {
            self.failure_is_due(Call::Commit)?
        };
        self.note_journal_trouble(self.now());
        Some(failure)
    }

    fn note_journal_trouble(&mut self, at: u64) {
        self.faults.journal_trouble_at = self.faults.journal_trouble_at.max(Some(at));
    }

    fn happens(&mut self, per_10_000: u64) -> bool {
        !self.healed && 0 < per_10_000 && self.random.between(0, 9_999) < per_10_000
    }

    fn is_within(&mut self, until: u64) -> bool {
        let within = self.now() < until;
        self.counts.failures += u64::from(within);
        within
    }
}
