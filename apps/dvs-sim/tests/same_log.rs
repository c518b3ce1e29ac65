//! One seed gives one run: whoever is told a failing seed sees the same run again.

use dvs_sim::run;

#[test]
fn the_same_seed_gives_the_same_log_twice_byte_for_byte() {
    let mut lines = 0;
    for seed in 0..24 {
        let (once, again) = (run(seed, true), run(seed, true));
        assert_eq!(once.log, again.log, "seed {seed}");
        assert_eq!(once, again, "seed {seed}");
        assert_eq!(
            run(seed, false).counts,
            once.counts,
            "seed {seed}: whether a log is kept changes nothing"
        );
        lines += once.log.len();
    }
    assert!(5_000 < lines, "only {lines} lines: too little happened to prove anything");
}

#[test]
fn different_seeds_give_different_logs() {
    assert_ne!(run(1, true).log, run(2, true).log);
}
