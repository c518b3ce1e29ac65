//! `cargo xtask sim` runs this: many seeds, or one with its log.
#![expect(clippy::print_stderr, reason = "its output is for the person who typed the command")]

use clap::Parser;
use dvs_sim::{Counts, Report, run, shortest};
use std::fmt::Arguments;
use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

/// Threads that run seeds; each run has its own runtime.
const THREADS: usize = 2;

/// Prints a line.
macro_rules! say {
    ($($part:tt)*) => { print_line(format_args!($($part)*)) };
}

/// Simulates the agent with injected faults and checks what it promises
#[derive(Parser)]
#[command(name = "cargo xtask sim", bin_name = "cargo xtask sim")]
struct Options {
    /// Replays this seed and prints its log
    #[arg(long, value_name = "N", conflicts_with = "seeds")]
    seed: Option<u64>,
    /// How many seeds to run
    #[arg(long, value_name = "COUNT", default_value_t = 2000)]
    seeds: u64,
}

fn main() -> ExitCode {
    let options = Options::parse();
    match options.seed {
        Some(seed) => replay(seed),
        None => run_all(options.seeds),
    }
}

fn replay(seed: u64) -> ExitCode {
    let report = run(seed, true);
    report.log.iter().for_each(|line| say!("{line}"));
    match &report.violation {
        None => {
            say!("seed {seed} keeps every promise");
            ExitCode::SUCCESS
        }
        Some(_) => tell(&report),
    }
}

fn run_all(seeds: u64) -> ExitCode {
    let start = Instant::now();
    let next = AtomicU64::new(0);
    let stopped = AtomicBool::new(false);
    let sum = Mutex::new((0_u32, Counts::default(), None::<Report>));
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seeds <= seed || stopped.load(Ordering::Relaxed) {
                        return;
                    }
                    let report = run(seed, false);
                    let mut sum = sum.lock().unwrap_or_else(PoisonError::into_inner);
                    sum.0 += 1;
                    sum.1 += report.counts;
                    // The lowest failing seed is reported, whichever thread was faster.
                    if report.violation.is_some() {
                        stopped.store(true, Ordering::Relaxed);
                        if sum.2.as_ref().is_none_or(|other| seed < other.seed) {
                            sum.2 = Some(report);
                        }
                    }
                }
            });
        }
    });
    let (ran, counts, failed) = sum.into_inner().unwrap_or_else(PoisonError::into_inner);
    let seconds = start.elapsed().as_secs_f64();
    say!("sim: {ran} seeds in {seconds:.1} s, {:.0} seeds/s", f64::from(ran) / seconds);
    for (what, count) in counts.each() {
        say!("{count:>9} {what}");
    }
    match failed {
        Some(report) => tell(&report),
        None => judge(&counts),
    }
}

/// Fails if something never happened: nothing is proved about it.
fn judge(counts: &Counts) -> ExitCode {
    let never: Vec<_> =
        counts.each().into_iter().filter(|(_, count)| *count == 0).map(|(what, _)| what).collect();
    if never.is_empty() {
        say!("every promise was kept");
        return ExitCode::SUCCESS;
    }
    say!("this proves nothing: there were no {}", never.join(", no "));
    ExitCode::FAILURE
}

fn tell(report: &Report) -> ExitCode {
    let Some(violation) = &report.violation else { return ExitCode::SUCCESS };
    say!("\nthe shortest way there:");
    shortest(report.seed, violation.promise).log.iter().for_each(|line| say!("{line}"));
    say!("\nseed {} violated: {violation}", report.seed);
    say!("repeat it with `cargo xtask sim --seed {}`", report.seed);
    ExitCode::FAILURE
}

/// The reader of a closed pipe has read enough. How it went also shows in the exit code.
fn print_line(line: Arguments<'_>) {
    if let Err(error) = writeln!(io::stdout().lock(), "{line}")
        && error.kind() != ErrorKind::BrokenPipe
    {
        eprintln!("cannot write to standard output: {error}");
    }
}
