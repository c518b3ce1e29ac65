//! What goes wrong below the store, and how it is told: with the store, the server and the step.

use crate::settings::Settings;
use crate::target::{Fault, TargetError};
use dvs_domain::failure::{Failure, FailureCode};
use dvs_domain::names::StoreName;

/// Why an operation did not do what it should.
#[derive(Debug)]
pub(crate) enum Problem {
    /// Told already.
    Told(Failure),
    /// A call in this step.
    Call(&'static str, TargetError),
    /// Likewise, when a volume's end was decided already, or may have been.
    Decided(&'static str, TargetError),
}

/// What is said of a volume whose end was decided already, or may have been.
const DECIDED: &str = "the volume may be destroyed all the same: what is left of it goes later";

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        Self::Told(failure)
    }
}

impl Problem {
    /// Whether the handles that were used lead nowhere any more.
    pub(crate) fn is_stale(&self) -> bool {
        matches!(self.fault(), Some(Fault::Stale))
    }

    /// Whether more calls now would only wait for a server that does not answer.
    pub(crate) fn is_away(&self) -> bool {
        matches!(self.fault(), Some(Fault::Unreachable(_) | Fault::Late | Fault::Nonsense(_)))
    }

    fn fault(&self) -> Option<&Fault> {
        match self {
            Self::Told(_) => None,
            Self::Call(_, error) | Self::Decided(_, error) => Some(&error.fault),
        }
    }

    /// The same, when a volume's end was decided already, or may have been: nobody may take it for what it was.
    pub(crate) fn after_decision(self) -> Self {
        match self {
            Self::Told(failure) if failure.is_undone() => Self::Told(decided(failure)),
            Self::Call(step, error) => Self::Decided(step, error),
            told => told,
        }
    }

    pub(crate) fn is_decided(&self) -> bool {
        matches!(self, Self::Decided(..))
    }

    /// The failure that callers get.
    pub(crate) fn told(self, store: &StoreName, settings: &Settings) -> Failure {
        let (step, error) = match self {
            Self::Told(failure) => return failure,
            Self::Call(step, error) => (step, error),
            Self::Decided(step, error) => return decided(Self::Call(step, error).told(store, settings)),
        };
        let what = match &error.fault {
            Fault::Late => {
                let limit = settings.timeout.as_secs();
                format!("{}: no answer within {limit} s, all round trips together", error.call)
            }
            _ => error.to_string(),
        };
        let detail = format!("store `{store}` on server `{}`: {what}", settings.host);
        let failure = Failure::new(code(&error.fault), detail).at_step(step);
        match hint(&error.fault) {
            Some(hint) => failure.with_hint(hint),
            None => failure,
        }
    }
}

fn decided(failure: Failure) -> Failure {
    failure.undo_failed(Failure::new(FailureCode::StoreUnavailable, DECIDED))
}

/// Names the step in which a call fails.
pub(crate) trait At<T> {
    fn at(self, step: &'static str) -> Result<T, Problem>;
}

impl<T> At<T> for Result<T, TargetError> {
    fn at(self, step: &'static str) -> Result<T, Problem> {
        self.map_err(|error| Problem::Call(step, error))
    }
}

fn code(fault: &Fault) -> FailureCode {
    match fault {
        Fault::BadName(_) => FailureCode::BadRequest,
        Fault::ReadOnly => FailureCode::Unsupported,
        Fault::NoSpace => FailureCode::NoSpace,
        Fault::NotThere | Fault::Exists | Fault::NotEmpty | Fault::IsFolder | Fault::NotAFolder => {
            FailureCode::Internal
        }
        Fault::Refused
        | Fault::Stale
        | Fault::LostPlace
        | Fault::Unsupported
        | Fault::Unreachable(_)
        | Fault::Late
        | Fault::Nonsense(_)
        | Fault::Other(_) => FailureCode::StoreUnavailable,
    }
}

fn hint(fault: &Fault) -> Option<&'static str> {
    match fault {
        Fault::Refused => Some(
            "export it writable for this node and for the `uid` and `gid` of the store's URL, and with \
             `no_root_squash` where containers make files of other owners",
        ),
        Fault::ReadOnly => Some(READ_ONLY_HINT),
        Fault::Nonsense(_) => Some("look whether an NFSv3 server over TCP is at that address and port"),
        _ => None,
    }
}

/// What to do where a store only gives.
pub(crate) const READ_ONLY_HINT: &str = "name another store; of this one existing volumes can be used";
