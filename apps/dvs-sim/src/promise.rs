//! The promises that are checked, each with its name.

use std::fmt;

macro_rules! promises {
    ($($promise:ident $name:literal $meaning:literal)*) => {
        /// A promise of contract.md, sections 2 to 5.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Promise {
            $(#[doc = $meaning] $promise,)*
        }

        impl Promise {
            /// Every promise.
            pub const ALL: &[Self] = &[$(Self::$promise,)*];

            /// The name that a report shows.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$promise => $name,)*
                }
            }
        }
    };
}

promises! {
    AcknowledgedAfterRecord "acknowledged-after-record" "A message is acknowledged once its job or refusal is on disk."
    NoAnswerBeforeRecord "no-answer-before-record" "An answer is sent once the journal has what it says."
    AnsweredOnceInOrder "answered-once-in-order" "`PENDING`, then one final answer, never back."
    OnlyPendingAndDoneOnJobs "only-pending-and-done-on-jobs" "Failures go to a topic of their own."
    AllAcknowledgedJobsAnswered "all-acknowledged-jobs-answered" "No job is forgotten before its sender has an answer."
    AnsweredInTime "answered-in-time" "A job has its answer by its deadline."
    RememberedLongEnough "remembered-long-enough" "A job is not forgotten before its time."
    ARepeatIsTrue "a-repeat-is-true" "A repeated `DONE` is still true."
    RecordBeforeWork "record-before-work" "Work starts once the job is on disk."
    PendingBeforeWork "pending-before-work" "Work starts after `PENDING` was sent."
    NoWorkForARepeat "no-work-for-a-repeat" "A job that has ended is not worked on again."
    InOrderPerLane "in-order-per-lane" "Jobs about one volume or path run one at a time, in order."
    DoneIsTrue "done-is-true" "After the `DONE` of a create its volume is there and mounted."
    GoneIsGone "gone-is-gone" "After the `DONE` of a delete nothing is left."
    FailedChangesNothing "failed-changes-nothing" "A failed job leaves everything as it was."
    NeverDestroyedWhileUsed "never-destroyed-while-used" "A volume in use is not destroyed."
    RememberedBeforeMade "remembered-before-made" "A directory or mount is on disk in the journal before it is made."
    OnlyItsOwnIsRemoved "only-its-own-is-removed" "A directory that was there before is not removed."
    OwnVolumeOnly "own-volume-only" "At a mount point appears the volume that the journal names."
    OneDevicePerImage "one-device-per-image" "No image has two loop devices."
    AttachedOrGuarded "attached-or-guarded" "After a start each volume is attached, or its mount point guarded and reported."
    NothingHalfMade "nothing-half-made" "No mount, device, directory or staging name without an owner."
    OtherStoresWork "other-stores-work" "A store that is away fails no job about another one."
    WorksAfterwards "works-afterwards" "Once nothing fails any more, jobs are done."
    BoundedQueue "bounded-queue" "Jobs that wait are bounded."
    BoundedWorkers "bounded-workers" "Operations under way are bounded."
    BoundedMemory "bounded-memory" "Old jobs are forgotten."
    NoDefect "no-defect" "The agent does not panic."
}

impl fmt::Display for Promise {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}
