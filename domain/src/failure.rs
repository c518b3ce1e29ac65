//! Why something did not work: a code that callers act on, and the thing, the step, the cause and the
//! hint for whoever reads it. Codes are a promise (contract.md section 2): never renamed.

use std::error::Error;
use std::fmt;

/// What an underlying library or system call said.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// What kind of failure, for the caller to act on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FailureCode {
    /// A payload, name, option or value is not well formed, or something required is missing.
    BadRequest,
    /// The topic names no known kind of job, or the message was an old one that the broker kept.
    UnknownTopic,
    /// The same job id was used for other content, or for a volume that has changed since.
    JobIdReused,
    /// DVS may not mount there.
    ForbiddenPath,
    /// The sender may not do this.
    NotAllowed,
    /// No store of that name is configured.
    NoSuchStore,
    /// The volume asked for does not exist.
    NotFound,
    /// What is asked contradicts what is there.
    Conflict,
    /// Something still uses the volume or the mount point.
    InUse,
    /// There is no room for what is asked.
    NoSpace,
    /// The store or this host cannot do this at all.
    Unsupported,
    /// The volume is there, but its data or its record is damaged.
    Damaged,
    /// The store cannot be reached or read.
    StoreUnavailable,
    /// It took longer than the limit.
    Timeout,
    /// Too much is going on, or an earlier operation on the same volume still hangs.
    Busy,
    /// A step failed for a reason that no other code names, or a defect of DVS.
    Internal,
}

impl FailureCode {
    /// Every code, in the order of contract.md.
    pub const ALL: [Self; 16] = [
        Self::BadRequest,
        Self::UnknownTopic,
        Self::JobIdReused,
        Self::ForbiddenPath,
        Self::NotAllowed,
        Self::NoSuchStore,
        Self::NotFound,
        Self::Conflict,
        Self::InUse,
        Self::NoSpace,
        Self::Unsupported,
        Self::Damaged,
        Self::StoreUnavailable,
        Self::Timeout,
        Self::Busy,
        Self::Internal,
    ];

    /// The word that goes over the wire and into the journal.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BadRequest => "bad-request",
            Self::UnknownTopic => "unknown-topic",
            Self::JobIdReused => "job-id-reused",
            Self::ForbiddenPath => "forbidden-path",
            Self::NotAllowed => "not-allowed",
            Self::NoSuchStore => "no-such-store",
            Self::NotFound => "not-found",
            Self::Conflict => "conflict",
            Self::InUse => "in-use",
            Self::NoSpace => "no-space",
            Self::Unsupported => "unsupported",
            Self::Damaged => "damaged",
            Self::StoreUnavailable => "store-unavailable",
            Self::Timeout => "timeout",
            Self::Busy => "busy",
            Self::Internal => "internal",
        }
    }

    /// The code that `word` spells, if any.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.as_str() == word)
    }

    /// The exit code of the command line for a job that failed so (contract.md section 9; the numbers
    /// above 63 are those of sysexits.h).
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::BadRequest => 64,
            Self::StoreUnavailable => 69,
            Self::Internal => 70,
            _ => 1,
        }
    }

    /// The status where HTTP is spoken (RFC 9110; 507 is RFC 4918).
    #[must_use]
    pub const fn http_status(self) -> u16 {
        match self {
            Self::BadRequest | Self::UnknownTopic => 400,
            Self::ForbiddenPath | Self::NotAllowed => 403,
            Self::NoSuchStore | Self::NotFound => 404,
            Self::JobIdReused | Self::Conflict | Self::InUse => 409,
            Self::NoSpace => 507,
            Self::Unsupported => 501,
            Self::StoreUnavailable | Self::Busy => 503,
            Self::Timeout => 504,
            Self::Damaged | Self::Internal => 500,
        }
    }

    /// What an operator can do about it, where that does not depend on the case.
    #[must_use]
    pub const fn hint(self) -> Option<&'static str> {
        match self {
            Self::BadRequest => Some("mend the request and send it again"),
            Self::UnknownTopic => Some("publish to `…/volumes/create` or `…/volumes/delete`, not retained"),
            Self::JobIdReused => Some("send the job again with a new id"),
            Self::ForbiddenPath => {
                Some("choose a path below an allowed root, or allow its root with `--mount-root`")
            }
            Self::NotAllowed => None,
            Self::NoSuchStore => Some("`dvs check` lists the stores; `--store NAME=URL` adds one"),
            Self::NotFound => Some("`dvs ls` lists the volumes of this node"),
            Self::Conflict => Some("delete what is there first, or ask for the same"),
            Self::InUse => Some("end what uses it first; a container must be removed, running or stopped"),
            Self::NoSpace => Some("free space below the store, or ask for less"),
            Self::Unsupported => None,
            Self::Damaged => Some("look at it with `dvs inspect`; DVS repairs nothing by force"),
            Self::StoreUnavailable => Some("make the store reachable, then send the job again with a new id"),
            Self::Timeout | Self::Busy => Some("send the job again later with a new id"),
            Self::Internal => None,
        }
    }
}

impl fmt::Display for FailureCode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// A failure on its way to whoever acts on it or reads it. Its `Display` does not print the source:
/// [`Failure::chain`] prints everything, once, where the failure is handled.
#[derive(Debug)]
pub struct Failure {
    parts: Box<Parts>, // Boxed: the error path must not make every result large.
}

#[derive(Debug)]
struct Parts {
    code: FailureCode,
    subject: Option<String>,
    step: Option<&'static str>,
    detail: String,
    hint: Option<String>,
    source: Option<BoxError>,
    undo: Vec<Failure>,
}

impl Failure {
    /// A failure of kind `code`; `detail` is a lower-case fragment that names the thing.
    pub fn new(code: FailureCode, detail: impl Into<String>) -> Self {
        let parts = Parts {
            code,
            subject: None,
            step: None,
            detail: detail.into(),
            hint: None,
            source: None,
            undo: Vec::new(),
        };
        Self { parts: Box::new(parts) }
    }

    /// A failure of kind [`FailureCode::Internal`] with what a library or system call said.
    pub fn internal(detail: impl Into<String>, source: impl Into<BoxError>) -> Self {
        Self::new(FailureCode::Internal, detail).caused_by(source)
    }

    /// Names the step of the work that failed. The innermost step stays.
    #[must_use]
    pub fn at_step(mut self, step: &'static str) -> Self {
        self.parts.step.get_or_insert(step);
        self
    }

    /// Names what was being done, such as "cannot create volume `loop/a` at `/mnt/a`".
    #[must_use]
    pub fn while_doing(mut self, subject: impl Into<String>) -> Self {
        self.parts.subject = Some(subject.into());
        self
    }

    /// Keeps what a library or system call said.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<BoxError>) -> Self {
        self.parts.source = Some(source.into());
        self
    }

    /// Replaces the code's general hint by one for this case.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.parts.hint = Some(hint.into());
        self
    }

    /// Keeps a failure to undo beside the failure that made the undoing necessary.
    #[must_use]
    pub fn undo_failed(mut self, undo: Failure) -> Self {
        self.parts.undo.push(undo);
        self
    }

    /// Whether nothing is left of what failed, as far as is known.
    #[must_use]
    pub fn is_undone(&self) -> bool {
        self.parts.undo.is_empty()
    }

    /// The kind, to act on.
    #[must_use]
    pub fn code(&self) -> FailureCode {
        self.parts.code
    }

    /// What can be done about it.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        self.parts.hint.as_deref().or(self.parts.code.hint())
    }

    /// Everything: the thing, the step, the causes, and what could not be undone.
    #[must_use]
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut source = self.source();
        while let Some(cause) = source {
            let cause_text = cause.to_string();
            if !text.ends_with(&cause_text) {
                text.push_str(": ");
                text.push_str(&cause_text);
            }
            source = cause.source();
        }
        for undo in &self.parts.undo {
            text.push_str("; undoing failed too: ");
            text.push_str(&undo.chain());
        }
        text
    }

    /// The part that is stored and sent.
    #[must_use]
    pub fn report(&self) -> FailureReport {
        FailureReport { code: self.parts.code, error: self.chain(), hint: self.hint().map(str::to_owned) }
    }
}

impl AsRef<Self> for Failure {
    fn as_ref(&self) -> &Self {
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(subject) = &self.parts.subject {
            write!(formatter, "{subject}: ")?;
        }
        if let Some(step) = self.parts.step {
            write!(formatter, "step `{step}`: ")?;
        }
        formatter.write_str(&self.parts.detail)
    }
}

impl Error for Failure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.parts.source.as_deref().map(|source| source as &(dyn Error + 'static))
    }
}

/// A failure as it is remembered and sent: `…/jobs/failed`, the journal, the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailureReport {
    /// The kind.
    pub code: FailureCode,
    /// The thing, the step and the cause.
    pub error: String,
    /// What can be done about it.
    pub hint: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_spelt_in_one_way_and_read_back() {
        for code in FailureCode::ALL {
            assert_eq!(FailureCode::from_word(code.as_str()), Some(code));
            assert_ne!(code.exit_code(), 0, "{code}: a failed job never ends with success");
            assert!((400..600).contains(&code.http_status()), "{code}");
        }
        assert_eq!(FailureCode::from_word("DONE"), None);
    }

    #[test]
    fn the_chain_names_thing_step_cause_and_what_could_not_be_undone() {
        let failure = Failure::internal("`mkfs.ext4` ended with 1", std::io::Error::other("disk on fire"))
            .at_step("format the image")
            .at_step("create")
            .while_doing("cannot create volume `loop/a`")
            .undo_failed(Failure::new(FailureCode::Internal, "cannot remove `a.img`"));
        assert_eq!(
            failure.chain(),
            "cannot create volume `loop/a`: step `format the image`: `mkfs.ext4` ended with 1: disk on fire; \
             undoing failed too: cannot remove `a.img`"
        );
        assert!(!failure.to_string().contains("disk on fire"), "Display never prints its source");
    }
}
