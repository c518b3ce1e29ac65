//! Each check finds a fault that is planted for it: a broken port in the place of a sound one, never a flag in the
//! product. A check that finds nothing proves nothing.

mod broken_journal;
mod broken_mounter;
mod broken_store;
mod broken_ways;

use broken_journal as journal;
use broken_mounter as mounter;
use broken_store as store;
use broken_ways as ways;
use dvs_core::CoreParts;
use dvs_sim::{Promise, Wiring, run_with};
use std::collections::BTreeSet;

/// A fault, and the promise that it breaks.
struct Planted {
    what: &'static str,
    breaks: Promise,
    /// Within how many seeds it is found.
    seeds: u64,
    wiring: Wiring,
}

fn planted(what: &'static str, breaks: Promise, seeds: u64, wiring: Wiring) -> Planted {
    Planted { what, breaks, seeds, wiring }
}

/// Broken parts.
fn parts(what: &'static str, breaks: Promise, seeds: u64, parts: fn(CoreParts) -> CoreParts) -> Planted {
    planted(what, breaks, seeds, Wiring { parts, ..Wiring::default() })
}

fn all() -> Vec<Planted> {
    let mut all = of_answers();
    all.extend(of_work());
    all.extend(of_limits());
    all
}

/// Faults of what is told to senders.
fn of_answers() -> Vec<Planted> {
    vec![
        planted(
            "a door acknowledges what it has only begun to hand in",
            Promise::AcknowledgedAfterRecord,
            100,
            Wiring { intake: ways::hasty, ..Wiring::default() },
        ),
        parts("a journal forgets accepted jobs", Promise::NoAnswerBeforeRecord, 100, |parts| {
            journal::broken(parts, journal::forgets_accepted)
        }),
        planted(
            "an answer is sent again after the one that follows it",
            Promise::AnsweredOnceInOrder,
            100,
            Wiring { answers: ways::sends_pending_again, ..Wiring::default() },
        ),
        planted(
            "failures go to the topic of `DONE`",
            Promise::OnlyPendingAndDoneOnJobs,
            100,
            Wiring { encode: ways::failures_among_answers, ..Wiring::default() },
        ),
        planted(
            "a broker drops final answers",
            Promise::AllAcknowledgedJobsAnswered,
            100,
            Wiring { answers: ways::drops_final, ..Wiring::default() },
        ),
        parts("a journal drops unanswered jobs", Promise::AllAcknowledgedJobsAnswered, 100, |parts| {
            journal::broken(parts, journal::drops_ended)
        }),
        parts("a clock stands still", Promise::AnsweredInTime, 500, |parts| CoreParts {
            clock: ways::stopped_clock(),
            ..parts
        }),
        parts("durations are measured by the wall clock", Promise::RememberedLongEnough, 500, |parts| {
            CoreParts { clock: ways::settable_clock(parts.clock), ..parts }
        }),
        parts("a journal loses what jobs have changed", Promise::ARepeatIsTrue, 500, journal::lost_changes),
    ]
}

/// Faults of what is done for jobs.
fn of_work() -> Vec<Planted> {
    vec![
        planted(
            "a journal forgets accepted jobs whose senders are told nothing",
            Promise::RecordBeforeWork,
            100,
            Wiring {
                parts: |parts| journal::broken(parts, journal::forgets_accepted),
                answers: ways::swallows_pending,
                ..Wiring::default()
            },
        ),
        planted(
            "an answer is taken for acknowledged that was never sent",
            Promise::PendingBeforeWork,
            100,
            Wiring { answers: ways::swallows_pending, ..Wiring::default() },
        ),
        parts("a store creates what it has created before", Promise::NoWorkForARepeat, 100, |parts| {
            store::broken(parts, store::Fault::CreatesAgain)
        }),
        parts("a store is asked twice at once", Promise::InOrderPerLane, 100, |parts| {
            store::broken(parts, store::Fault::AskedTwice)
        }),
        parts("a store asks for many volumes at once", Promise::BoundedWorkers, 100, |parts| {
            store::broken(parts, store::Fault::AsksForMany)
        }),
        parts("a mounter does not mount", Promise::DoneIsTrue, 100, |parts| {
            mounter::broken(parts, mounter::Fault::DoesNotMount)
        }),
        parts("a store destroys nothing and says so", Promise::GoneIsGone, 100, |parts| {
            store::broken(parts, store::Fault::DestroysNothing)
        }),
        parts("a failed create stays where it is", Promise::FailedChangesNothing, 100, |parts| {
            store::broken(mounter::broken(parts, mounter::Fault::OftenFails), store::Fault::DestroysNothing)
        }),
        parts("nobody is asked for containers", Promise::NeverDestroyedWhileUsed, 100, |parts| CoreParts {
            references: ways::unasked_engine(),
            ..parts
        }),
        parts("a journal forgets attachments", Promise::RememberedBeforeMade, 100, |parts| {
            journal::broken(parts, journal::forgets_attachments)
        }),
        parts("all directories are taken for missing", Promise::OnlyItsOwnIsRemoved, 100, |parts| {
            mounter::broken(parts, mounter::Fault::TakesAllForMissing)
        }),
        parts("a store gives another volume's device", Promise::OwnVolumeOnly, 100, |parts| {
            store::broken(parts, store::Fault::GivesAnother)
        }),
        planted(
            "a store binds a device for each source",
            Promise::OneDevicePerImage,
            100,
            Wiring { binds_each_time: true, ..Wiring::default() },
        ),
        parts("a mounter lays no guard", Promise::AttachedOrGuarded, 500, |parts| {
            mounter::broken(parts, mounter::Fault::LaysNoGuard)
        }),
        parts("a mounter leaves directories", Promise::NothingHalfMade, 100, |parts| {
            mounter::broken(parts, mounter::Fault::LeavesDirectories)
        }),
        parts("a store answers only while another does", Promise::OtherStoresWork, 500, |parts| {
            store::broken(parts, store::Fault::NeedsTheLast)
        }),
        parts("a mounter never unmounts", Promise::WorksAfterwards, 100, |parts| {
            mounter::broken(parts, mounter::Fault::NeverUnmounts)
        }),
        parts("a mounter panics", Promise::NoDefect, 100, |parts| {
            mounter::broken(parts, mounter::Fault::Panics)
        }),
    ]
}

/// Limits that are not those of this world.
fn of_limits() -> Vec<Planted> {
    vec![
        parts("a queue without end", Promise::BoundedQueue, 500, |mut parts| {
            parts.limits.queue = 1_000;
            parts
        }),
        parts("no job is ever forgotten", Promise::BoundedMemory, 100, |mut parts| {
            parts.limits.remembered_min = 1_000;
            parts
        }),
        parts("jobs are forgotten at once", Promise::RememberedLongEnough, 100, |mut parts| {
            parts.limits.remembered_milliseconds = 1_000;
            parts
        }),
        parts("a deadline that is far too late", Promise::AnsweredInTime, 500, |mut parts| {
            parts.limits.job_milliseconds *= 10;
            parts
        }),
    ]
}

/// The first seed that finds it, or what was found in its place.
fn first_seed(planted: &Planted) -> Result<u64, BTreeSet<Promise>> {
    let mut others = BTreeSet::new();
    for seed in 0..planted.seeds {
        match run_with(seed, false, planted.wiring).violation {
            Some(violation) if violation.promise == planted.breaks => return Ok(seed),
            Some(violation) => _ = others.insert(violation.promise),
            None => {}
        }
    }
    Err(others)
}

#[test]
fn each_planted_fault_is_found() {
    let mut missed = Vec::new();
    for planted in all() {
        let Planted { what, breaks, seeds, .. } = planted;
        match first_seed(&planted) {
            Ok(seed) => println!("{what}: {breaks} by seed {seed}"),
            Err(others) => missed.push(format!("{what}: not {breaks} in {seeds} seeds, but {others:?}")),
        }
    }
    assert!(missed.is_empty(), "{missed:#?}");
}

#[test]
fn every_check_has_a_planted_fault() {
    let found: BTreeSet<Promise> = all().iter().map(|planted| planted.breaks).collect();
    let without: Vec<_> = Promise::ALL.iter().filter(|promise| !found.contains(promise)).collect();
    assert!(without.is_empty(), "nothing shows that these are checked: {without:?}");
}
