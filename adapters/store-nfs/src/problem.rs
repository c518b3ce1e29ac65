//! How operations fail, and the failure that callers get: with the store, the server and the step.

use crate::client::{ClientError, Fault};
use crate::settings::Settings;
use dvs_domain::failure::{Failure, FailureCode};
use dvs_domain::names::StoreName;

/// Why an operation failed.
#[derive(Debug)]
pub(crate) struct Problem {
    cause: Cause,
    /// The end of a volume was decided, or may have been: nobody may take it for undamaged.
    is_decided: bool,
}

#[derive(Debug)]
enum Cause {
    Failure(Failure),
    /// A call failed in this step.
    Call(&'static str, ClientError),
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        Self { cause: Cause::Failure(failure), is_decided: false }
    }
}

impl Problem {
    /// Whether the handles in use are not valid any more.
    pub(crate) fn is_stale(&self) -> bool {
        matches!(self.fault(), Some(Fault::Stale))
    }

    /// Whether the server does not answer: more calls would only wait.
    pub(crate) fn is_away(&self) -> bool {
        matches!(self.fault(), Some(Fault::Unreachable(_) | Fault::Timeout | Fault::Protocol(_)))
    }

    /// The fault of the call that failed, if it was a call.
    pub(crate) fn fault(&self) -> Option<&Fault> {
        match &self.cause {
            Cause::Failure(_) => None,
            Cause::Call(_, error) => Some(&error.fault),
        }
    }

    pub(crate) fn after_decision(self) -> Self {
        Self { is_decided: true, ..self }
    }

    pub(crate) fn is_decided(&self) -> bool {
        self.is_decided
    }

    pub(crate) fn into_failure(self, store: &StoreName, settings: &Settings) -> Failure {
        let (step, error) = match self.cause {
            Cause::Failure(failure) => return failure,
            Cause::Call(step, error) => (step, error),
        };
        let what = match &error.fault {
            Fault::Timeout => {
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

/// Names the step in which a call fails.
pub(crate) trait At<T> {
    fn at(self, step: &'static str) -> Result<T, Problem>;
}

impl<T> At<T> for Result<T, ClientError> {
    fn at(self, step: &'static str) -> Result<T, Problem> {
        self.map_err(|error| Problem { cause: Cause::Call(step, error), is_decided: false })
    }
}

fn code(fault: &Fault) -> FailureCode {
    match fault {
        Fault::BadName(_) => FailureCode::BadRequest,
        Fault::ReadOnly => FailureCode::Unsupported,
        Fault::NoSpace => FailureCode::NoSpace,
        Fault::NotFound | Fault::Exists | Fault::NotEmpty | Fault::IsDirectory | Fault::NotDirectory => {
            FailureCode::Internal
        }
        Fault::AccessDenied
        | Fault::Stale
        | Fault::BadCookie
        | Fault::Unsupported
        | Fault::Unreachable(_)
        | Fault::Timeout
        | Fault::Protocol(_)
        | Fault::Other(_) => FailureCode::StoreUnavailable,
    }
}

fn hint(fault: &Fault) -> Option<&'static str> {
    match fault {
        Fault::AccessDenied => Some(
            "export it writable for this node and for the `uid` and `gid` of the store's URL, and with \
             `no_root_squash` where containers make files of other owners",
        ),
        Fault::ReadOnly => Some(READ_ONLY_HINT),
        Fault::Protocol(_) => Some("check that an NFSv3 server over TCP is at that address and port"),
        _ => None,
    }
}

pub(crate) const READ_ONLY_HINT: &str = "use another store; existing volumes of this one can be used";
