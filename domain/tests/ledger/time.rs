//! Durations: deadlines, retries and forgetting follow the uptime, and across a reboot wall time.

use super::support::*;
use dvs_domain::ledger::{AnswerId, Attempt, Effect, Event, Limits};
use dvs_domain::time::{BootId, Moment, Timestamp, Uptime};

const LIMITS: Limits = Limits {
    workers: 8,
    queue: 8,
    job_milliseconds: 1000,
    undo_milliseconds: 100,
    remembered_min: 0,
    remembered_max: 100,
    remembered_milliseconds: 10_000,
    refusals: 8,
    stuck: 8,
};

fn at_wall(wall: u64, boot: u128, uptime: u64) -> Moment {
    Moment { wall: Timestamp(wall), boot: Some(BootId(boot)), uptime: Uptime(uptime) }
}

#[test]
fn a_stepped_wall_clock_moves_no_deadline_no_retry_and_no_forgetting() {
    let year = 365 * 24 * 60 * 60 * 1000;
    for wall in [0, year, 100 * year] {
        let mut ledger = ledger(LIMITS);
        let job = create("1", "/mnt/a");
        ledger.on_moment(Event::Requested(job.clone()), at_wall(year, 1, 0));
        ledger.on_moment(Event::Acknowledged(AnswerId::Pending(job.key())), at_wall(year, 1, 1));
        assert_eq!(ledger.on_moment(Event::Tick, at_wall(wall, 1, 999)), [], "{wall}");
        let late = ledger.on_moment(Event::Tick, at_wall(wall, 1, 1000));
        assert_eq!(late, [Effect::Abandon(job.key())], "{wall}");
        ledger.on_moment(Event::Abandoned(job.key()), at_wall(wall, 1, 1000));
        let not_undone = Event::Released { key: job.key(), released: None, undone: false };
        ledger.on_moment(not_undone, at_wall(wall, 1, 1000));
        assert_eq!(ledger.on_moment(Event::Tick, at_wall(year, 1, 1099)), [], "{wall}");
        let retried = ledger.on_moment(Event::Tick, at_wall(year, 1, 1100));
        assert_eq!(started(&retried), ["1"], "{wall}");
        ledger.on_moment(failed(&job), at_wall(year, 1, 1101));
        ledger.on_moment(Event::Acknowledged(AnswerId::Final(job.key())), at_wall(year, 1, 1101));
        assert_eq!(ledger.on_moment(Event::Tick, at_wall(wall, 1, 11_000)), [], "{wall}");
        assert_eq!(recorded(&ledger.on_moment(Event::Tick, at_wall(wall, 1, 11_001))).len(), 1, "{wall}");
    }
}

/// What a restart at `now` does with a job that was accepted at the wall time 50,000, 700 ms after the first boot.
fn restarted(now: Moment) -> Vec<Attempt> {
    let mut before = ledger(LIMITS);
    let accepted = before.on_moment(Event::Requested(create("1", "/mnt/a")), at_wall(50_000, 1, 700));
    let (_, first) = TestLedger::restore_at(LIMITS, store(), remembered(&accepted), now);
    works(&first).into_iter().map(|(_, attempt)| attempt).collect()
}

#[test]
fn the_time_while_the_agent_was_down_counts() {
    let is_undone = |now| matches!(restarted(now).as_slice(), [Attempt::Undo]);
    // In the same boot, whatever the wall clock shows.
    for wall in [0, 50_000, u64::MAX] {
        assert!(!is_undone(at_wall(wall, 1, 1699)), "{wall}");
        assert!(is_undone(at_wall(wall, 1, 1700)), "{wall}");
    }
    // After a reboot by the wall clock, and at least by the time since the boot.
    assert!(!is_undone(at_wall(50_999, 2, 10)));
    assert!(is_undone(at_wall(51_000, 2, 10)));
    assert!(!is_undone(at_wall(10, 2, 999)), "the wall clock was set back");
    assert!(is_undone(at_wall(10, 2, 1000)), "the host is up for longer than the job may take");
}
