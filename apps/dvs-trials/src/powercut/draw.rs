//! Where the power fails.

use super::recorder::LogEntry;
use crate::random::Random;

/// Draws how many entries of `log` are made before the power fails. Every other time by the number of writes that are not
/// flushed there, since most places have none to lose; else behind a moment of `told`, before the next flush.
pub(super) fn position(random: &mut Random, log: &[LogEntry], told: &[u64]) -> usize {
    if !told.is_empty() && random.once_in(2) {
        let moment = told[below(random, told.len())];
        let first = log.partition_point(|entry| entry.at <= moment);
        let writes = log[first..].iter().take_while(|entry| !entry.is_flush).count();
        return first + below(random, writes + 1);
    }
    let windows: Vec<u64> = windows(log).collect();
    let mut left = random.below(windows.iter().sum::<u64>().max(1));
    for (position, window) in windows.into_iter().enumerate() {
        if left < window {
            return position;
        }
        left -= window;
    }
    log.len()
}

/// How many writes are not flushed after the first 0, 1, … entries.
fn windows(log: &[LogEntry]) -> impl Iterator<Item = u64> {
    let after = log.iter().scan(0, |unflushed, entry| {
        *unflushed = if entry.is_flush { 0 } else { *unflushed + 1 };
        Some(*unflushed)
    });
    std::iter::once(0).chain(after)
}

fn below(random: &mut Random, end: usize) -> usize {
    usize::try_from(random.below(end as u64)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(entries: &str) -> Vec<LogEntry> {
        let entry = |(at, letter)| LogEntry { at: at as u64 * 10, is_flush: letter == 'F' };
        entries.chars().enumerate().map(entry).collect()
    }

    #[test]
    fn places_with_much_to_lose_are_drawn_more_often_and_those_with_nothing_never() {
        let log = log("WFWWWF");
        assert_eq!(windows(&log).collect::<Vec<_>>(), [0, 1, 0, 1, 2, 3, 0]);
        let mut random = Random::new(1);
        let mut drawn = [0; 7];
        for _ in 0..700 {
            drawn[position(&mut random, &log, &[])] += 1;
        }
        assert_eq!([drawn[0], drawn[2], drawn[6]], [0, 0, 0]);
        assert!(2 * drawn[1] < drawn[5] && drawn[3] < drawn[4], "{drawn:?}");
    }

    #[test]
    fn moments_are_met_before_the_next_flush() {
        let log = log("WFWWWF");
        let mut random = Random::new(1);
        let drawn: Vec<usize> = (0..300).map(|_| position(&mut random, &log, &[25])).collect();
        // The third entry was made before, and the flush is the sixth.
        assert!([3, 4, 5].iter().all(|place| drawn.contains(place)), "{drawn:?}");
        assert!(!drawn.contains(&2) && !drawn.contains(&6), "{drawn:?}");
    }
}
